"""`posecli merge`: pose streams of parts in, one checked stream out."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    check_stream_name,
    console,
    print_json,
    progress,
    warn,
)
from posecli.cli.stored import through_storage


@through_storage(reads=["streams"], writes=["out"])
def merge(
    streams: Annotated[list[str], typer.Argument(metavar="STREAMS", help="Pose streams (.jsonl) or folders of them.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", help="The stream to write; '-' for standard output. Without it, streams are only checked."
        ),
    ] = None,
    track: Annotated[
        str,
        typer.Option(
            help="Identities over the joined frames: oks, iou, none (takes them away), or auto (as the run asked that "
            "made the parts)."
        ),
    ] = "auto",
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Join and check pose streams: segments of a video, shards of a folder, inputs that were run apart.

    Example: posecli merge clip.poses.jsonl.parts --out clip.poses.jsonl

    Frames that are missing or there twice, other weights and other skeletons are errors.
    """
    from posecli import merging
    from posecli.errors import UsageError

    if json_ and out == "-":
        raise UsageError("--json and --out - both want standard output", hint="give --out a file")
    check_stream_name(out)
    with progress(quiet) as bar:
        task = bar.add_task("merge", total=None)
        report = merging.merge(streams, out, track=track, overwrite=overwrite, on_frame=lambda: bar.advance(task))
    if report.broken:
        warn(f"{report.broken} of {report.frames} frames could not be decoded")
    if json_:
        print_json(vars(report))
        return
    sources = len(report.sources)
    console(quiet).print(
        f"{report.parts} part{'s' * (report.parts != 1)} of {sources} source{'s' * (sources != 1)}: "
        f"{report.frames} frames, "
        f"{report.people / max(report.frames, 1):.2f} people a frame, {report.identities} identities"
    )
    if out not in (None, "-"):
        typer.echo(out)
