"""A result of `evaluate` as one HTML page that needs nothing else.

Everything on it comes from the result (tables, curves) and, where they are handed over, from the people behind it
(examples drawn on their pictures). It holds no script; pictures are embedded, so their number is limited.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from posecli.files import image_root_of, replace_when_done
from posecli.formats import pose_stream
from posecli.metrics.measures import Side
from posecli.metrics.people import Labels
from posecli.metrics.summary import details
from posecli.reports import figures, plots, tables
from posecli.reports.examples import ExampleGroup, find_examples
from posecli.reports.over_time import sources_of
from posecli.reports.page import render_page, visible
from posecli.reports.pictures import Pictures
from posecli.video import VIDEO_SUFFIXES

EXAMPLES = 8
_SOURCES = 4  # of a stream that are drawn over time
_TIME = "Predictions with identities, in order: who was there when, and those seen longest one by one."
_NOBODY = "Nobody to draw: no labelled person was compared by OKS, PCK or PDJ."


def write_report(
    result: dict[str, Any],
    path: str | Path,
    *,
    labels: Labels | None = None,
    sides: Sequence[Side] = (),
    image_root: str | Path | None = None,
    examples: int = EXAMPLES,
    streams: Sequence[str | Path] = (),
    overwrite: bool = True,
) -> None:
    """Writes the page.

    Args:
        result: what `posecli.metrics.evaluate` returned; with ``by`` joint it has bars for the joints.
        path: the HTML file.
        labels, sides: what `evaluate` handed to ``on_sides``; without them the page has no examples.
        image_root: folder of the pictures; None: where the labels lie, or the usual places beside them.
        examples: people of each kind that are drawn, 0 for none.
        streams: the files of predictions that were compared; those that are pose streams with ids are also drawn over
            time (`posecli.reports.over_time`), with pictures of videos that lie where the labels' pictures do.

    Raises:
        MissingExtra: matplotlib, which draws the curves, is not installed.
        PoseError: the file exists and ``overwrite`` is false.
    """
    page = report_page(result, labels, sides, image_root, examples, streams)
    with replace_when_done(path, overwrite=overwrite) as part:
        part.write_text(page, encoding="utf-8")


def report_page(
    result: dict[str, Any],
    labels: Labels | None = None,
    sides: Sequence[Side] = (),
    image_root: str | Path | None = None,
    examples: int = EXAMPLES,
    streams: Sequence[str | Path] = (),
) -> str:
    """The page's text; see `write_report`."""
    plots.require_matplotlib()
    second = result.get("second")
    names = short_names([result["predictions"], *([second["predictions"]] if second else [])])
    groups: list[ExampleGroup] = []
    pictures_note = ""
    if labels is not None and sides and examples:
        with Pictures(_roots(labels, image_root)) as pictures:
            groups = find_examples(labels, sides, names, pictures, examples)
            if pictures.missing:
                pictures_note = (
                    f"{pictures.missing} of {pictures.asked} pictures could not be read and are drawn blank "
                    f"({pictures.problems[0]}). Give their folder with --image-root."
                )
    roots = _roots(labels, image_root) if labels is not None else []
    over_time, more = _over_time(streams, names, roots)
    main_headings, main_blocks = tables.main_table(result)
    values: dict[str, Any] = {
        "title": f"posecli: {visible(PurePath(result['predictions']).name)}",
        "labels": result["labels"],
        "predictions": result["predictions"],
        "second": second["predictions"] if second else "",
        "compared": _compared(result),
        "words": result.get("verdicts", []),
        "cards": tables.cards(result),
        "interval_words": _interval_words(result),
        "main_headings": main_headings,
        "main_blocks": main_blocks,
        "metric_tables": tables.metric_tables(result),
        "curves": figures.curve_plots(result, names, sides),
        "joint_plots": figures.joint_plots(result, names),
        "part_tables": tables.part_tables(result),
        "diagnosis": figures.diagnosis(result, names),
        "heat": figures.heat_plots(result, names),
        "sources": over_time,
        "time_words": _TIME + (f" {more} more are not drawn: infer --plots does." if more else ""),
        "example_groups": groups,
        "pictures_note": pictures_note,
        "no_examples": "" if groups or not (sides and examples) else _NOBODY,
        "details": _details(result),
    }
    sections = (
        ("summary", "Summary", True),
        ("groups", "In groups", len(main_blocks) > 1),
        ("metrics", "All metrics", True),
        ("curves", "Curves", values["curves"]),
        ("joints", "Joint by joint", values["joint_plots"] or values["part_tables"]),
        ("errors", "Kinds of error", values["diagnosis"]),
        ("heat", "Local NMS score", values["heat"]),
        ("time", "Over time", over_time),
        ("examples", "Examples", groups or values["no_examples"]),
        ("method", "How it was measured", True),
    )
    values["contents"] = [(key, name) for key, name, there in sections if there]
    return render_page("report.html", styles=("base.css", "report.css"), **values)


def _over_time(
    streams: Sequence[str | Path], names: Sequence[str], roots: Sequence[Path]
) -> tuple[list[dict[str, Any]], int]:
    """The sources of those predictions that are pose streams with ids, and how many more there are."""
    shown: list[dict[str, Any]] = []
    more = 0
    for stream, name in zip(streams, names, strict=False):
        if not Path(stream).is_file() or pose_stream.recognise(Path(stream)) is None:
            continue
        with Pictures([*roots, Path(stream).parent]) as files:
            sources, left = sources_of(stream, partial(_video, files), _SOURCES)
        for source in sources:
            source["name"] = f"{name}: {source['name']}" if len(streams) > 1 else source["name"]
        shown, more = shown + sources, more + left
    return shown, more


def _video(files: Pictures, name: str) -> str | None:
    """The video of a source's name, where there is one."""
    path = files.find(name)
    return str(path) if path is not None and path.suffix.lower() in VIDEO_SUFFIXES else None


def _details(result: dict[str, Any]) -> list[str]:
    """What the terminal prints below its table, without the figures and sentences that the page has elsewhere."""
    repeated = ("OKS: ", "mean over joints: ", "over all joints: ")
    said = set(result.get("verdicts", ()))
    return [line for line in details(result) if not line.startswith(repeated) and line not in said]


def short_names(paths: Sequence[str]) -> list[str]:
    """File names without folders, cut in the middle where long; "first" and "second" where they would be the same."""
    names = [visible(PurePath(path).name or path) for path in paths]
    names = [n if len(n) <= 32 else f"{n[:18]}…{n[-13:]}" for n in names]
    return names if len(set(names)) == len(names) else ["first", "second"][: len(names)]


def _roots(labels: Labels, image_root: str | Path | None) -> list[Path]:
    if image_root is not None:
        return [Path(image_root)]
    if labels.root:
        return [Path(labels.root)]
    first = labels.frames.file_name[0]
    return [image_root_of(labels.source, first)]


def _compared(result: dict[str, Any]) -> str:
    frames, counts = result["frames"], result["counts"]
    joints = result["joints"]["compared"]
    return (
        f"{frames['evaluated']:,} labelled frames, {counts['people_evaluated']:,} people, "
        f"{len(joints)} joints of skeleton {result['skeleton']}"
    )


def _interval_words(result: dict[str, Any]) -> str:
    settings = result["settings"]
    if not settings["bootstrap"]:
        return "Shares are x 100. No intervals were asked for (--bootstrap)."
    if "intervals" not in result["all"]:
        return "Shares are x 100. No intervals: there is only one independent unit to draw from."
    return (
        f"Shares are x 100. Ranges are 95 % intervals, by drawing {settings['units']:,} {settings['unit']} "
        f"{settings['bootstrap']:,} times (percentile bootstrap, seed {settings['seed']})."
        + "".join(f" Note: {note}." for note in result["notes"] if note.startswith("the intervals of"))
    )
