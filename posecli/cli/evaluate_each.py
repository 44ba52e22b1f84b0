"""`posecli evaluate --each`: folders of labels and poses, measured pair by pair."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from posecli.cli.common import PLAIN, ExitCode, print_json, progress, report_error, warn
from posecli.cli.stored import hand_over_file

if TYPE_CHECKING:
    from posecli.on_ray import Cluster


def evaluate_each(
    labels: Path,
    poses: Path,
    results: Path,
    options: Mapping[str, Any],
    *,
    cluster: Cluster | None,
    resume: bool,
    overwrite: bool,
    json: bool,
    quiet: bool,
) -> None:
    """Measures all pairs and prints a row for each. Ends with exit code 1 where some failed; the others are done."""
    from posecli.errors import PoseError
    from posecli.metrics.many import find_pairs, mean_row, measure_pairs
    from posecli.on_ray import Failure

    pairs, alone = find_pairs(labels, poses, results, options)
    if alone:
        warn(f"{len(alone)} labels have no poses: {', '.join(alone[:5])}{', ...' if len(alone) > 5 else ''}")
    there = [pair.result for pair in pairs if Path(pair.result).exists()]
    if there and not resume and not overwrite:
        raise PoseError("the output exists already", there[0], "--resume, --overwrite or another folder")
    rows: dict[str, dict[str, Any]] = {}
    failures = []
    with progress(quiet) as bar:
        task = bar.add_task("pairs", total=len(pairs))
        try:
            for pair, row in measure_pairs(pairs, resume=resume, cluster=cluster):
                bar.advance(task)
                if isinstance(row, Failure):
                    failures.append(row)
                else:
                    rows[pair.name] = row
                    if pair.result not in there:
                        hand_over_file(pair.result)
        except KeyboardInterrupt:
            report_error("interrupted; go on with --resume")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    rows = {pair.name: rows[pair.name] for pair in pairs if pair.name in rows}
    if json:
        print_json({"pairs": rows, "mean": mean_row(list(rows.values())), "without_poses": alone})
    elif rows:
        _print_table(rows, mean_row(list(rows.values())))
    for failure in failures:
        report_error(f"{failure.name}: {failure.reason}")
    if failures:
        what = f"{len(failures)} of {len(pairs)} pairs failed; the results of the others are in {results}"
        raise PoseError(what, hint="--resume goes on")


def _print_table(rows: dict[str, dict[str, Any]], mean: dict[str, float | None]) -> None:
    from rich.console import Console
    from rich.table import Table

    from posecli.metrics.summary import main_columns, shown

    columns: dict[str, str] = {}
    for row in rows.values():
        columns |= dict(main_columns({"all": row, "groups": {}}))
    table = Table(title=f"{len(rows)} pairs (x 100)", title_justify="left")
    for number, heading in enumerate(["", "frames", "people", *columns.values()]):
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for name, row in rows.items():
        counts = (str(row["frames"]), str(row["people"]))
        table.add_row(name, *counts, *(shown(row.get(key), key) for key in columns))
    table.add_section()
    table.add_row("mean of the files", "", "", *(shown(mean.get(key), key) for key in columns))
    Console(**PLAIN, width=160).print(table)
