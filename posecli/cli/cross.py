"""`posecli cross`: every run on every data set."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    PLAIN,
    DebugOption,
    DeviceOption,
    ExitCode,
    JsonOption,
    QuietOption,
    print_json,
    progress,
    report_error,
    warn,
)

if TYPE_CHECKING:
    from rich.progress import TaskID


def cross(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Run folders (their best weights), weights files, or shipped names.",
            show_default=False,
        ),
    ],
    on: Annotated[
        list[str],
        typer.Option("--on", metavar="SET", help="A labelled data set, anything convert reads; may be repeated."),
    ],
    out: Annotated[str, typer.Option("--out", "-o", help="Folder where the predictions are kept.")] = "cross",
    metrics: Annotated[str, typer.Option(help="As in evaluate.")] = "oks,pck",
    boxes: Annotated[
        str, typer.Option(help="Top-down models: people are found, or their boxes taken from the labels, or full.")
    ] = "found",
    own_joints: Annotated[
        bool, typer.Option("--own-joints", help="Each cell on all joints of its run and set, not on those all share.")
    ] = False,
    match: Annotated[str, typer.Option(help="How people pair up: oks, iou, top-score.")] = "oks",
    min_joints: Annotated[int, typer.Option(help="Ignore people with fewer labelled joints.", min=1)] = 1,
    pck_reference: Annotated[str, typer.Option(help="PCK's reference length, as in evaluate.")] = "auto",
    bootstrap: Annotated[int, typer.Option(help="Draws for 95 % intervals, over videos or pictures.", min=0)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", min=0)] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Frames that go through the model together.")] = 8,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Train here, test there: a table of runs against data sets, with intervals.

    Example: posecli cross runs/coco runs/mars --on coco_val.json --on mars_val.json

    Predictions are kept in --out and not made again; an interrupted call goes on where it stopped. The figures are over
    the joints that all runs and sets share.
    """
    from posecli.cross import Run, TestSet, cross_evaluate, find_runs, read_sets
    from posecli.metrics.options import refuse_unused

    refuse_unused([m.strip() for m in metrics.split(",")], pck_reference, "auto", {})
    rows, sets = find_runs(runs), read_sets(on, warn)
    with progress(quiet) as bar:
        tasks: dict[tuple[str, str], TaskID] = {}

        def on_frame(run: Run, test: TestSet) -> None:
            key = (run.name, test.name)
            if key not in tasks:
                tasks[key] = bar.add_task(f"{run.name} on {test.name}", total=len(test.dataset.records))
            bar.advance(tasks[key])

        try:
            result = cross_evaluate(
                rows,
                sets,
                out,
                device=device,
                batch=batch,
                boxes=boxes,
                metrics=[m.strip() for m in metrics.split(",") if m.strip()],
                own_joints=own_joints,
                match=match,
                min_joints=min_joints,
                pck_reference=pck_reference,
                bootstrap=bootstrap,
                seed=seed,
                warn=warn,
                on_frame=on_frame,
            )
        except KeyboardInterrupt:
            report_error("interrupted; the same command goes on where it stopped")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if json_:
        print_json(result)
    else:
        _print_tables(result)


def _print_tables(result: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from posecli.cross import cross_tables

    out = Console(**PLAIN, width=None if sys.stdout.isatty() else 160)
    tables, lines = cross_tables(result)
    for title, headings, rows in tables:
        table = Table()
        out.print(title, markup=False, soft_wrap=True)
        for heading in headings:
            table.add_column(heading, justify="right" if heading else "left")
        for row in rows:
            table.add_row(*row)
        out.print(table)
    for line in lines:
        out.print(line, markup=False, soft_wrap=True)
