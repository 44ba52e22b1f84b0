"""`posecli train`: labelled pictures in, a run folder with weights out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    DebugOption,
    DeviceOption,
    ExitCode,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    fetched,
    print_json,
    progress,
    refuse_without,
    report_error,
    warn,
)

if TYPE_CHECKING:
    from rich.console import Console

_DATA = "Data"
_RUN = "Run"
_LEARNING = "Learning"


@contextmanager
def _warnings_told() -> Iterator[None]:
    """What posecli warns of is told in the words of every verb; warnings of others as Python shows them."""
    package = Path(__file__).resolve().parents[1]
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], filename: str, *more: Any, **options: Any) -> None:
            if package in Path(filename).parents:
                warn(str(message))
            else:
                others(message, category, filename, *more, **options)

        warnings.showwarning = show  # type: ignore[assignment]
        yield


def train(
    context: typer.Context,
    out: Annotated[str, typer.Option("--out", "-o", help="The run folder.", show_default=False)],
    data: Annotated[
        list[str] | None,
        typer.Option("--data", "-d", help="COCO keypoint JSON; may be given several times.", rich_help_panel=_DATA),
    ] = None,
    val: Annotated[str | None, typer.Option(help="COCO keypoint JSON to validate on.", rich_help_panel=_DATA)] = None,
    image_root: Annotated[
        list[str] | None,
        typer.Option(help="Folder of the pictures, one for each --data. (default: the JSON's)", rich_help_panel=_DATA),
    ] = None,
    val_image_root: Annotated[
        str | None, typer.Option(help="Folder of the validation pictures.", rich_help_panel=_DATA)
    ] = None,
    data_weights: Annotated[
        str | None,
        typer.Option(
            help="Share of each --data in the samples, e.g. 4,1. (default: by size)",
            rich_help_panel=_DATA,
        ),
    ] = None,
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="Joints to learn: a name or a skeleton.toml. (default: the first data's)", rich_help_panel=_DATA
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes that prepare samples.", min=0, rich_help_panel=_DATA)
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Architecture, e.g. dekr-w32, or dekr-rescore.", rich_help_panel=_RUN),
    ] = None,
    config: Annotated[
        str | None, typer.Option("--config", "-c", help="TOML file of settings.", rich_help_panel=_RUN)
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value for any setting; may be given several times.", rich_help_panel=_RUN),
    ] = None,
    init: Annotated[
        str | None, typer.Option(help="Weights to start from: a name, .safetensors or .pth.", rich_help_panel=_RUN)
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out.", rich_help_panel=_RUN)
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Of everything random.", rich_help_panel=_RUN)] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of the run.", min=1, rich_help_panel=_LEARNING)] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(help="Wall-clock budget instead of epochs; drives the schedule.", rich_help_panel=_LEARNING),
    ] = None,
    batch: Annotated[int | None, typer.Option(help="Samples a pass.", min=1, rich_help_panel=_LEARNING)] = None,
    accumulate: Annotated[int | None, typer.Option(help="Passes a step.", min=1, rich_help_panel=_LEARNING)] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.", rich_help_panel=_LEARNING)] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, bfloat16 or float16.", rich_help_panel=_LEARNING)
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: how heat maps are taught: gaussian, dark, udp, softmax, integral. "
            "(default: the model's)",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Best weights by: mean-oks or pck.", rich_help_panel=_LEARNING)
    ] = None,
    tensorboard: Annotated[
        bool | None,
        typer.Option(
            "--tensorboard/--no-tensorboard",
            help="Also write TensorBoard events.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    device: DeviceOption = "auto",
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Learn from labelled pictures or videos.

    Example: posecli train --data coco.json --val val.json --model dekr-w32 --out runs/first

    Settings come from the model's defaults, then --config, then the command line; --set reaches all of them. The run
    folder gets best.safetensors and last.safetensors for posecli infer --weights. Several GPUs or machines: torchrun
    with the same options (torchrun --nproc-per-node 4 -m posecli train ...).

    --model dekr-rescore --init DEKR.safetensors learns to judge the poses that a trained DEKR finds; posecli infer
    --rescore takes the result.
    """
    from posecli.errors import UsageError
    from posecli.models.rescore import RESCORE_MODEL
    from posecli.rescoring import train_rescoring
    from posecli.settings import RESUMABLE, check_meaning, parse_assignments, read_toml, resolve
    from posecli.training import train as run_training
    from posecli.zoo import find_entry

    options: dict[str, Any] = {
        "data": data, "val": val, "image_root": image_root, "val_image_root": val_image_root,
        "data_weights": _numbers(data_weights), "skeleton": skeleton, "workers": workers, "model": model,
        "init": init, "seed": seed, "epochs": epochs, "max_minutes": max_minutes, "batch": batch,
        "accumulate": accumulate, "lr": lr, "precision": precision, "codec": codec, "metric": metric,
        "tensorboard": tensorboard,
    }  # fmt: skip
    if init and find_entry(init):
        options["init"] = fetched(init, quiet)
    given = {key: value for key, value in options.items() if value not in (None, [])}
    given |= parse_assignments(assignments or [])
    if resume and (config or overwrite):
        raise UsageError(
            "--resume takes its settings from the run folder",
            hint=f"without --config and --overwrite; these may change: {', '.join(sorted(RESUMABLE))}",
        )
    settings = None if resume else resolve(read_toml(config) if config else {}, given)

    rescoring = settings is not None and settings.model == RESCORE_MODEL
    if settings is not None and not rescoring:  # which has fewer, and says so itself
        check_meaning(settings)
    if settings is not None and not settings.val:
        refuse_without("--val", context, "val_image_root", "metric")
    talk = console(quiet)
    with progress(quiet) as bar, _warnings_told():
        task = bar.add_task("training", total=1000)

        def report(record: dict[str, Any]) -> None:
            if record["event"] == "step":
                bar.update(task, completed=int(1000 * record["progress"]))
            else:
                _tell(talk, record)

        try:
            if settings is not None and rescoring:
                result = train_rescoring(settings, out, overwrite=overwrite, device=device, report=report)
            else:
                result = run_training(
                    settings, out, resume=resume, changes=given, overwrite=overwrite, device=device, report=report
                )
        except KeyboardInterrupt:
            if rescoring:  # minutes; nothing of it is kept
                raise
            saved = (Path(out) / "state.pt").is_file()
            then = f"go on with: posecli train --resume --out {out}" if saved else "nothing was saved yet"
            report_error(f"interrupted; {then}")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if not result.first:
        return
    weights = result.out / ("best.safetensors" if result.best else "last.safetensors")
    if json_:
        print_json(
            {
                "out": str(result.out), "weights": str(weights), "steps": result.steps, "samples": result.samples,
                "validation": result.validation, "best": result.best,
            }
        )  # fmt: skip
    else:
        typer.echo(weights)


def _numbers(text: str | None) -> list[float] | None:
    from posecli.errors import UsageError

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--data-weights {text}", hint="numbers with commas between") from None


def _tell(talk: Console, record: dict[str, Any]) -> None:
    """One line for each log record."""
    kind = record["event"]
    if kind in ("start", "resume"):
        counts = ", ".join(f"{name} {count}" for name, count in record["samples"].items())
        talk.print(f"{record['parameters'] / 1e6:.2f} M parameters; samples: {counts}")
        for reason, count in record["left_out"].items():
            talk.print(f"  {count} {reason}")
        if record["init"]:
            talk.print(f"started from {record['init']}")
        if kind == "resume":
            talk.print(f"going on after step {record['step']}")
    elif kind == "train":
        talk.print(
            f"{record['progress']:6.1%} step {record['step']} epoch {record['epoch']:.2f} loss {record['loss']:.5g} "
            f"lr {record['lr']:.2g} {record['samples_per_second']:.1f} samples/s, {record['waiting']:.1%} waiting, "
            f"{record['minutes_left']:.0f} min left"
        )
    elif kind == "survey":
        talk.print(f"       the next stage learns from the errors of those before it on {record['samples']} samples")
    elif kind == "rescore-data":
        talk.print(f"{record['poses']} poses found, mean OKS {record['mean_oks']:.4f}")
    elif kind == "rescore-epoch":
        talk.print(f"epoch {record['step']} loss {record['loss']:.5g}")
    elif kind == "rescore-validation":
        before, after = record["rank_before"], record["rank_after"]
        talk.print(f"validation: loss {record['loss']:.5g}, rank correlation with OKS {before:.3f} -> {after:.3f}")
    elif kind == "validation":
        values = ", ".join(f"{key} {record[key]:.4f}" for key in ("mean-oks", "pck") if key in record)
        talk.print(f"       validation: {values}")
