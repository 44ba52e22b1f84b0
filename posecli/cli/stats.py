"""`posecli stats`: what a data set or a stream holds, and which frames deserve labels."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    PLAIN,
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    print_json,
    refuse_dash,
    refuse_inputs,
    refuse_without,
    warn,
)

if TYPE_CHECKING:
    from rich.console import Console

    from posecli.checks.subject import Subject


def stats(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="COCO JSON, any data set convert reads, pose streams (.jsonl; - for standard input).",
            show_default=False,
        ),
    ],
    html: Annotated[str | None, typer.Option(help="Also write a self-contained page.")] = None,
    worth_labelling: Annotated[
        bool,
        typer.Option(
            "--worth-labelling",
            help="List the frames of a stream most worth a human's time; two streams: also by where they disagree.",
        ),
    ] = False,
    count: Annotated[int, typer.Option(help="--worth-labelling: how many frames.", min=1)] = 50,
    gap: Annotated[
        float, typer.Option(help="--worth-labelling: seconds within which frames stand for one another.", min=0)
    ] = 1.0,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="--worth-labelling: write the list; .json is a COCO data set of these frames with the "
            "poses to correct, .csv a table.",
        ),
    ] = None,
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
    """Describe a data set or a stream: people, joints, sizes, poses, motion.

    Example: posecli stats coco.json --html stats.html

    With --worth-labelling: the frames where the model is unsure, unsteady, or contradicted by a second one, spread
    over the video; --out todo.json for convert --frames and for labelling tools.
    """
    from posecli.checks.reading import is_stream, load
    from posecli.errors import PoseError, UsageError

    if worth_labelling and html is not None:
        raise UsageError("--html is for the numbers, not for --worth-labelling", hint="posecli browse shows frames")
    if out is not None and not worth_labelling:
        raise UsageError("--out is for --worth-labelling", hint="the numbers go to stdout; a page to --html")
    if not worth_labelling:
        refuse_without("--worth-labelling", context, "count", "gap")
    if worth_labelling and not all(map(is_stream, files)):
        raise UsageError("--worth-labelling wants pose streams (.jsonl)", hint="posecli infer writes them")
    refuse_dash(html=html)
    refuse_inputs([html, out], files)
    if html is not None:
        from pathlib import Path

        from posecli.reports.plots import require_matplotlib

        require_matplotlib()
        if Path(html).exists() and not overwrite:
            raise PoseError("the output exists already", html, "choose another name or give --overwrite")
    talk = console(quiet)
    subjects = []
    for file in files:
        subject, broken = load(file, format=format_, skeleton=skeleton, image_root=image_root, warn=warn)
        if broken:
            what = "1 entry is" if len(broken) == 1 else f"{len(broken)} entries are"
            warn(f"{file}: {what} damaged, and not or not wholly counted; posecli check lists what is wrong")
        subjects.append(subject)
    if worth_labelling:
        _worth(subjects, count, gap, out, overwrite, json_, talk)
        return
    from posecli.stats.describe import describe

    results = [describe(subject) for subject in subjects]
    if html is not None:
        from posecli.stats.page import write_page

        write_page(results, html, overwrite=overwrite)
        talk.print(html, markup=False)
    if json_:
        print_json({"files": results})
    else:
        for result in results:
            _print(result)


def _worth(
    subjects: list[Subject], count: int, gap: float, out: str | None, overwrite: bool, json_: bool, talk: Console
) -> None:
    from posecli.stats import worth

    chosen = worth.rank(subjects, count, gap)
    listed = worth.to_json(subjects[0], chosen)
    if out is not None:
        worth.write(subjects[0], chosen, out, overwrite=overwrite)
        talk.print(f"{len(listed)} frames written to {out}", markup=False)
    if json_:
        print_json({"frames": listed})
        return
    from rich.table import Table
    from rich.text import Text

    from posecli.checks.values import printable

    table = Table(show_edge=False, pad_edge=False)
    for heading in ("rank", "worth", "frame", "file"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    table.add_column("reasons", overflow="fold")
    for entry in listed:
        frame = str(entry["frame"]) if entry["time"] is None else f"{entry['frame']} ({entry['time']:.2f} s)"
        cells = (str(entry["rank"]), f"{entry['worth']:.2f}", frame, entry["file"], "; ".join(entry["reasons"]))
        table.add_row(*(Text(printable(cell)) for cell in cells))
    _stdout().print(table)


def _stdout() -> Console:
    from rich.console import Console

    return Console(**PLAIN, width=None if sys.stdout.isatty() else 160)


def _print(result: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from posecli.checks.values import printable

    table = Table(
        title=Text(printable(result["file"])), title_justify="left", show_header=False, box=None, pad_edge=False
    )
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    out = _stdout()
    block = "#" if out.options.ascii_only else "█"

    def bars(heading: str, unit: str, counts: dict[Any, int], indent: str = "  ") -> None:
        table.add_row(heading, unit)
        total = sum(counts.values()) or 1
        for name, number in counts.items():
            bar = block * round(30 * number / total)
            table.add_row(Text(printable(f"{indent}{name}")), str(number), f"{100 * number / total:5.1f} % {bar}")

    people = result["people"]
    table.add_row("images", str(result["images"]), f"{result['images_without_people']} without people")
    if result["videos"]:
        table.add_row("videos", str(result["videos"]), f"{result['tracks']} tracks")
    left_out = f"; {result['below_threshold']} below the display threshold" if result["below_threshold"] else ""
    table.add_row("people", str(people), f"{result['crowds']} crowds beside{left_out}")
    without, share = result["people_without_joints"], result["share_without_joints"]
    table.add_row("  without joints", str(without), "" if share is None else f"{100 * share:5.1f} %")
    bars("joints labelled", "people", result["people_by_labelled_joints"])
    bars("people in an image", "images", result["images_by_people"])
    table.add_row("joint", "labelled", "of the people: visible + hidden")
    for name, joint in result["joints"].items():
        shares = [100 * joint[k] / people if people else 0 for k in ("visible", "hidden")]
        score = f", mean score {joint['score']:.2f}" if "score" in joint else ""
        table.add_row(Text(printable(f"  {name}")), str(joint["visible"] + joint["hidden"]),
                      f"{shares[0]:5.1f} % + {shares[1]:.1f} %{score}")  # fmt: skip
    if boxes := result["boxes"]:
        for key, heading in (("width", "box width"), ("height", "box height")):
            q = boxes[key]
            spread = f"px; 5 % {q['5 %']:.0f}, 25 % {q['25 %']:.0f}, 75 % {q['75 %']:.0f}, 95 % {q['95 %']:.0f}"
            table.add_row(heading, f"{q['median']:.0f}", spread)
        bars("size", "people", boxes["by_area"])
        table.add_row("at the image's edge", str(boxes["at_the_edge"]))
    if pose := result["variety"]:
        table.add_row("poses", f"{pose['effective']:.1f}", f"effectively different, of {pose['people']} people")
        table.add_row("  groups", str(pose["clusters"]), f"the largest holds {100 * pose['largest_share']:.1f} %")
        dimensions = f"{pose['dimensions_90']} axes hold 90 % of the variance"
        table.add_row("  dimensions", f"{pose['dimensions']:.1f}", dimensions)
    if direction := result["orientation"]:
        bars("trunk", "people", direction["trunk"])
        bars("seen from", "people", direction["seen_from"])
    if moves := result["motion"]:
        table.add_row("motion", "median", f"{moves['unit']}; 95 %; jitter (thousandths of a person size)")
        for name, joint in moves["joints"].items():
            jitter = "-" if joint["jitter"] is None else f"{joint['jitter']:.1f}"
            table.add_row(Text(printable(f"  {name}")), f"{joint['speed']:.3f}", f"{joint['speed_95']:.3f}; {jitter}")
    for key in ("scores", "heat"):
        if q := result.get(key):
            table.add_row(key, f"{q['median']:.2f}", f"5 % {q['5 %']:.2f}, 95 % {q['95 %']:.2f}")
    if result["tags"]:
        bars("tag", "images", result["tags"])
    out.print(table)
