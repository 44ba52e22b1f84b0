"""What all verbs share: options, the console on stderr, exit codes, the wording of errors.

Results go to stdout, talk and progress to stderr. The same option has the same name and help in every verb.
"""

from __future__ import annotations

import enum
import json
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


#: Suffixes that say another form than a stream's: taken for a slip where a stream, or a folder of them, is written.
OTHER_FORMS = {
    ".json", ".csv", ".txt", ".gz", ".zip", ".xml", ".yaml", ".html", ".npy", ".npz", ".h5", ".mat", ".parquet", ".pkl",
    ".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".jpg", ".jpeg", ".png",
}  # fmt: skip


class ExitCode(enum.IntEnum):
    """Exit codes of every verb."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class Device(enum.StrEnum):
    """Kinds of device; a CUDA index is given as ``cuda:1``."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    MPS = "mps"


def _check_device(value: str) -> str:
    kind, _, index = value.partition(":")
    if kind not in set(Device) or (index and (kind != "cuda" or not index.isdecimal())):
        raise typer.BadParameter(f"{value!r} is not auto, cpu, cuda, cuda:N or mps")
    return value


def check_stream_name(out: str | None) -> None:
    """UsageError when ``--out`` of a verb that writes a stream says another form by its suffix."""
    from posecli.errors import UsageError

    suffix = "." + (out or "").rsplit(".", 1)[-1].lower()
    if suffix in OTHER_FORMS:
        raise UsageError(
            f"--out {out}: what is written is a stream", hint="NAME.jsonl; posecli convert goes on from it"
        )


def given(context: typer.Context, parameter: str) -> bool:
    """Whether an option stands on the command line, be it with the value it would have anyway."""
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


def refuse_without(partner: str, context: typer.Context, *parameters: str) -> None:
    """UsageError where one of a verb's options is given that means nothing without ``partner``, which is not there."""
    from posecli.errors import UsageError

    for option in context.command.params:
        if option.name in parameters and given(context, option.name):
            raise UsageError(f"{option.opts[0]} is for {partner}", hint=f"give {partner}, or leave it out")


def refuse_dash(**outputs: object) -> None:
    """UsageError where an option (``heat_csv`` is ``--heat-csv``) names standard output for what goes to files only: a
    file or folder would be called ``-``."""
    from posecli.errors import UsageError

    for name, place in outputs.items():
        if place is not None and str(place) in ("-", "-/"):
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} - is not possible: it is written to a file", hint="give a name, ./- if need be")


def refuse_inputs(outputs: Iterable[object], inputs: Iterable[object]) -> None:
    """UsageError where a file to be written is one that is read, which ``--overwrite`` would replace with something
    else. Both are paths; None and words that are no file are passed over."""
    from posecli.errors import UsageError

    read = [str(word) for word in inputs if word is not None and os.path.isfile(str(word))]
    for place in (str(word) for word in outputs if word is not None and os.path.isfile(str(word))):
        if any(os.path.samefile(place, other) for other in read):
            raise UsageError("the output is an input", place, "choose another name")


DeviceOption = Annotated[
    str,
    typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", callback=_check_device, rich_help_panel="Common"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No talk, no progress.", rich_help_panel="Common")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show tracebacks.", rich_help_panel="Common")]
JsonOption = Annotated[bool, typer.Option("--json", help="The result as JSON on stdout.", rich_help_panel="Common")]
SpeedOption = Annotated[
    str,
    typer.Option(
        "--speed",
        help="How networks run: plain, fused, compiled (on a CPU with a C++ compiler, on CUDA with Triton), or auto, "
        "the quickest here.",
        rich_help_panel="Model",
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Share the work on a Ray cluster; auto: on this machine's, started if there is none.",
        rich_help_panel="Many processes",
    ),
]
RayWorkersOption = Annotated[
    int | None,
    typer.Option(
        "--ray-workers", min=1, help="--ray: processes at a time (else what fits).", rich_help_panel="Many processes"
    ),
]
RayCpusOption = Annotated[
    float, typer.Option("--ray-cpus", min=0, help="--ray: CPUs of each process.", rich_help_panel="Many processes")
]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace outputs that exist.", rich_help_panel="Common")
]


#: How consoles show text: as it is. Names of files, joints and tags may hold ``[red]`` and ``:dog:``.
PLAIN: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False}


def console(quiet: bool = False) -> Console:
    """The rich console for talk and tables on stderr; silent with ``quiet``."""
    from rich.console import Console

    return Console(stderr=True, quiet=quiet, **PLAIN, soft_wrap=True)


def progress(quiet: bool = False) -> Progress:
    """A progress display on stderr with rate and time left; invisible when stderr is no terminal or with ``quiet``."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    shown = sys.stderr.isatty() and not quiet
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console(), disable=not shown, transient=True)


# An error quotes names and values from files, which may be of any length.
_LONGEST_ERROR = 3000


def fetched(weights: str, quiet: bool = False) -> str:
    """The file of a weights path or name; public weights come into the cache, with a display of how far they are."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from posecli.inference import find_weights

    shown = sys.stderr.isatty() and not quiet
    columns = (
        TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console(), disable=not shown, transient=True) as bar:
        task = bar.add_task(f"fetching {weights}", total=None, visible=False)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return str(find_weights(weights, advance))


def report_error(error: object) -> None:
    """One clear error on stderr; never hidden by ``--quiet``. Of one beyond all measure the middle is left out."""
    text = str(error)
    if len(text) > _LONGEST_ERROR:
        text = f"{text[: _LONGEST_ERROR // 2]} [...] {text[-_LONGEST_ERROR // 2 :]}"
    print(f"posecli: {text}", file=sys.stderr)


def warn(message: str) -> None:
    """A warning on stderr; never hidden by ``--quiet``, since it tells of something that was not as asked."""
    print(f"posecli: warning: {message}", file=sys.stderr)


def print_json(value: Any) -> None:
    """A machine-readable result on stdout; NaN becomes null."""

    def clean(item: Any) -> Any:
        if isinstance(item, float) and item != item:
            return None
        if isinstance(item, dict):
            return {str(k): clean(v) for k, v in item.items()}
        if isinstance(item, (list, tuple)):
            return [clean(v) for v in item]
        return item

    # dumps is several times faster than dump.
    sys.stdout.write(json.dumps(clean(value), indent=2) + "\n")
