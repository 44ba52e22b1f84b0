"""`posecli check`: what is broken or looks wrong in labels, poses and their pictures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    PLAIN,
    DebugOption,
    ExitCode,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    print_json,
    progress,
    warn,
)

if TYPE_CHECKING:
    from posecli.checks import Outcome


def _kinds(text: str) -> tuple[str, ...]:
    return tuple(k.strip() for k in text.split(",") if k.strip())


def check(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="COCO JSON, any data set convert reads, pose streams (.jsonl; - for standard input); several are the "
            "splits of one set.",
            show_default=False,
        ),
    ],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if there are errors or warnings.")] = False,
    fix: Annotated[
        str | None, typer.Option(help="Write a copy with all safe repairs (.json; .jsonl of a stream).")
    ] = None,
    only: Annotated[str, typer.Option(help="Look for these kinds only (names, commas between).")] = "",
    skip: Annotated[str, typer.Option(help="Leave these kinds out.")] = "",
    min_confidence: Annotated[
        float, typer.Option(help="Least confidence of a left-right suspicion.", min=0, max=1)
    ] = 0.5,
    no_pictures: Annotated[
        bool, typer.Option("--no-pictures", help="Don't decode pictures: no sizes, damage, look-alikes.")
    ] = False,
    examples: Annotated[int, typer.Option(help="Cases shown of each kind; 0: all.", min=0)] = 3,
    image_root: Annotated[str | None, typer.Option(help="Folder of the pictures or videos.")] = None,
    format_: Annotated[str, typer.Option("--format", help="Form of the data set; auto finds out.")] = "auto",
    skeleton: Annotated[
        str | None, typer.Option(help="Joints of labels that do not name them: a known name or a skeleton.toml.")
    ] = None,
    json_: JsonOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find what is broken or looks wrong in labels or poses.

    Example: posecli check train.json val.json --strict

    Joints and boxes that do not fit, repeated people and ids, left and right exchanged, tracks that jump, pictures that
    are missing, damaged, of another size, or in both of two splits. --fix writes a copy with the repairs that are safe.
    """
    from pathlib import Path

    from posecli.checks import Options, repaired, write
    from posecli.checks import check as look
    from posecli.errors import PoseError, UsageError

    if fix is not None:
        if len(files) > 1:
            raise UsageError("--fix takes one file at a time")
        if Path(fix).exists() and not overwrite:
            raise PoseError("the output exists already", fix, "choose another name or give --overwrite")
    options = Options(format_, skeleton, image_root, not no_pictures, min_confidence, _kinds(only), _kinds(skip))
    with progress(quiet) as bar:
        task = bar.add_task("pictures", total=None)
        outcome = look(
            files, options, progress=lambda done, total: bar.update(task, completed=done, total=total), warn=warn
        )
    fixed: dict[str, int] = {}
    if fix is not None:
        value, fixed = repaired(outcome.subjects[0], outcome.findings)
        write(outcome.subjects[0], value, fix, overwrite=overwrite)
    talk = console(quiet)
    for note in outcome.notes:
        talk.print(note, markup=False)
    if json_:
        result: dict[str, Any] = outcome.to_json()
        if fix is not None:
            result |= {"fixed": fixed, "out": fix}
        print_json(result)
    else:
        _print_table(outcome, examples or None, fixed if fix is not None else None)
        if fix is not None:
            count = sum(fixed.values())
            talk.print(f"{count} repair{'' if count == 1 else 's'} written to {fix}", markup=False)
    if unread := fixed.get("malformed", 0) + fixed.get("cut-off", 0):
        lines = "1 line is no JSON and is" if unread == 1 else f"{unread} lines are no JSON and are"
        warn(f"{files[0]}: {lines} left out of {fix}")
    if strict and not outcome.clean:
        raise typer.Exit(ExitCode.FAILED)


def _print_table(outcome: Outcome, examples: int | None, fixed: dict[str, int] | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from posecli.checks import KINDS, by_kind, gravities
    from posecli.checks.values import printable

    out = Console(**PLAIN, width=None if sys.stdout.isatty() else 160)
    table = Table(show_edge=False, pad_edge=False)
    for heading in ("finding", "severity", "count"):
        table.add_column(heading, justify="right" if heading == "count" else "left", no_wrap=True)
    if fixed is not None:
        table.add_column("repaired", justify="right", no_wrap=True)
    table.add_column("cases", overflow="fold")
    colours = {"error": "red", "warning": "yellow", "note": ""}
    several = len(outcome.subjects) > 1
    for kind, group in by_kind(outcome.findings).items():
        lines = [Text(KINDS[kind].about, style="bold")]
        for case in group[:examples]:
            sure = "" if case.confidence is None else f" [{case.confidence:.2f}]"
            where = ": ".join(p for p in ((_name(case.file) if several else ""), case.record) if p)
            lines.append(Text(printable(f"{where}: {case.what}{sure}" if where else f"{case.what}{sure}")))
        if examples is not None and len(group) > examples:
            lines.append(Text(f"... and {len(group) - examples} more", style="dim"))
        gravity = group[0].gravity
        cells = [Text(kind), Text(gravity, style=colours[gravity]), Text(str(len(group)))]
        if fixed is not None:
            cells.append(Text(str(fixed.get(kind, 0)) if KINDS[kind].repaired else "-"))
        table.add_row(*cells, Text("\n").join(lines))
    if outcome.findings:
        out.print(table)
    images, people = sum(len(s.pictures) for s in outcome.subjects), sum(len(s) for s in outcome.subjects)
    counts = ", ".join(f"{n} {s}{'' if n == 1 else 's'}" for s, n in gravities(outcome.findings).items())
    out.print(f"{images} images, {people} people: {counts}", markup=False)


def _name(file: str) -> str:
    from pathlib import Path

    return Path(file).name
