"""A result of `evaluate` as one HTML page that needs nothing else.

Everything on it comes from the result (tables, curves) and, where they are handed over, from the people behind it
(examples drawn on their pictures). It holds no script; pictures are embedded, so their number is limited.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from markupsafe import Markup

from posecli.files import image_root_of, replace_when_done
from posecli.metrics.measures import Side
from posecli.metrics.people import Labels
from posecli.metrics.summary import details, diagnosis_tables, main_columns, main_rows, part_table, shown
from posecli.reports import plots
from posecli.reports.examples import ExampleGroup, find_examples, person_values
from posecli.reports.page import render_page, visible
from posecli.reports.pictures import Pictures

EXAMPLES = 8
_OF_TRACKS = ("MOT", "ID", "HOTA", "Det", "Ass", "Loc", "PoseTrack")
_NOT_METRICS = ("frames", "people", "intervals")
ERRORS = {
    "score": "scores",
    "background_false_positives": "background",
    "false_negatives": "people not found",
}
_ABOUT = (
    ("AP", "average precision over OKS 0.50 to 0.95, as COCO counts it"),
    ("mean_OKS", "likeness to the labels, over all labelled people"),
    ("PCKh@", "joints within that share of the head size"),
    ("PCK@", "joints within that share of the reference length"),
    ("PDJ_AUC", "area under the curve of detected joints"),
    ("PCP@", "limbs with both ends in place"),
    ("CrowdPose_AP", "average precision as CrowdPose counts it"),
    ("EPE", "distance of found joints to their labels"),
    ("NME", "the same as a share of the reference length"),
    ("MOTA", "people found and kept under one id"),
    ("IDF1", "frames in which people bear their own id"),
    ("HOTA", "detection and association in equal parts"),
    ("PoseTrack_MOTA", "joints found and kept under one id"),
    ("heat", "local NMS score: needs no labels"),
)


@dataclass(frozen=True)
class Cell:
    """A figure and its interval, as text; ``direction`` is up or down where a difference is beyond chance."""

    value: str
    range: str = ""
    direction: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure of the page."""

    title: str
    svg: Markup
    wide: bool = False
    about: str = ""


def write_report(
    result: dict[str, Any],
    path: str | Path,
    *,
    labels: Labels | None = None,
    sides: Sequence[Side] = (),
    image_root: str | Path | None = None,
    examples: int = EXAMPLES,
    overwrite: bool = True,
) -> None:
    """Writes the page.

    Args:
        result: what `posecli.metrics.evaluate` returned; with ``by`` joint it has bars for the joints.
        path: the HTML file.
        labels, sides: what `evaluate` handed to ``on_sides``; without them the page has no examples and says so.
        image_root: folder of the pictures; None: where the labels lie, or the usual places beside them.
        examples: people of each kind that are drawn, 0 for none.

    Raises:
        MissingExtra: matplotlib, which draws the curves, is not installed.
        PoseError: the file exists and ``overwrite`` is false.
    """
    page = report_page(result, labels, sides, image_root, examples)
    with replace_when_done(path, overwrite=overwrite) as part:
        part.write_text(page, encoding="utf-8")


def report_page(
    result: dict[str, Any],
    labels: Labels | None = None,
    sides: Sequence[Side] = (),
    image_root: str | Path | None = None,
    examples: int = EXAMPLES,
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
    main_headings, main_blocks = _main_table(result)
    values: dict[str, Any] = {
        "title": f"posecli: {visible(PurePath(result['predictions']).name)}",
        "labels": result["labels"],
        "predictions": result["predictions"],
        "second": second["predictions"] if second else "",
        "compared": _compared(result),
        "words": result.get("verdicts", []),
        "cards": _cards(result),
        "interval_words": _interval_words(result),
        "main_headings": main_headings,
        "main_blocks": main_blocks,
        "metric_tables": _metric_tables(result),
        "curves": _curves(result, names, sides),
        "joint_plots": _joint_plots(result, names),
        "part_tables": _part_tables(result),
        "diagnosis": _diagnosis(result, names),
        "heat": _heat(result, names),
        "example_groups": groups,
        "pictures_note": pictures_note,
        "no_examples": ""
        if groups
        else "Nobody to draw: no labelled person was compared by OKS, PCK or PDJ."
        if sides
        else "",
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
        ("examples", "Examples", groups or values["no_examples"]),
        ("method", "How it was measured", True),
    )
    values["contents"] = [(key, name) for key, name, there in sections if there]
    return render_page("report.html", styles=("base.css", "report.css"), **values)


def _details(result: dict[str, Any]) -> list[str]:
    """What the terminal prints below its table, without the figures and sentences that the page has elsewhere."""
    figures = ("OKS: ", "mean over joints: ", "over all joints: ")
    said = set(result.get("verdicts", ()))
    return [line for line in details(result) if not line.startswith(figures) and line not in said]


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


def _sides(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [result, result["second"]] if "second" in result else [result]


def _number(key: str, value: float | None, unit: str, sign: str = "") -> str:
    """A figure as text: shares and ratios x 100, pixels and counts as they are."""
    if value is None or (value == -1 and key.startswith(("AP", "AR", "CrowdPose"))):
        return "–"
    if unit == "count":
        return f"{value:{sign},.0f}"
    return f"{value if unit == 'px' else 100 * value:{sign}.1f}"


def _range(key: str, ends: Sequence[float | None] | None, unit: str, sign: str = "") -> str:
    low, high = ends or (None, None)
    if low is None or high is None:
        return ""
    return f"{_number(key, low, unit, sign)} to {_number(key, high, unit, sign)}"


def _cell(result: dict[str, Any], row: dict[str, Any], key: str) -> Cell:
    unit = result["units"].get(key, "share")
    return Cell(_number(key, row.get(key), unit), _range(key, (row.get("intervals") or {}).get(key), unit))


def _difference(result: dict[str, Any], row: dict[str, Any], key: str) -> Cell:
    """Second minus first; coloured where it holds: up for better, whichever way that is."""
    entry = row.get(key)
    if entry is None:
        return Cell("–")
    unit = result["units"].get(key, "share")
    direction = ""
    if entry.get("holds"):
        direction = "up" if (entry["value"] > 0) == (unit == "share") else "down"
    # Signs tell that it is a difference; the pair of minus and number is not broken over lines.
    return Cell(_number("", entry["value"], unit, "+"), _range("", entry.get("interval"), unit, "+"), direction)


def _cards(result: dict[str, Any]) -> list[dict[str, Any]]:
    cards = []
    for key, heading in main_columns(result):
        about = next(
            (text for start, text in _ABOUT if key == start or (start[-1] == "@" and key.startswith(start))), ""
        )
        both = "second" in result and key in result["difference"]["all"]
        cards.append(
            {
                "title": heading,
                "cells": [_cell(result, side["all"], key) for side in _sides(result)],
                "about": about,
                "difference": _difference(result, result["difference"]["all"], key) if both else None,
            }
        )
    return cards


def _interval_words(result: dict[str, Any]) -> str:
    settings = result["settings"]
    if not settings["bootstrap"]:
        return "Shares are x 100. No intervals were asked for (--bootstrap)."
    if "intervals" not in result["all"]:
        return "Shares are x 100. No intervals: there is only one independent unit to draw from."
    return (
        f"Shares are x 100. Ranges are 95 % intervals, by drawing {settings['units']:,} {settings['unit']} "
        f"{settings['bootstrap']:,} times (percentile bootstrap, seed {settings['seed']})."
    )


def _main_table(result: dict[str, Any]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    """The total and each group; with two predictions three rows for each."""
    columns = main_columns(result)
    headings = ["", "frames", "people", *(heading for _, heading in columns)]

    def row(name: str, values: dict[str, Any], kind: str = "") -> dict[str, Any]:
        cells = [
            Cell(f"{values['frames']:,}"),
            Cell(f"{values['people']:,}"),
            *(_cell(result, values, k) for k, _ in columns),
        ]
        return {"name": name, "kind": kind, "cells": cells}

    if "second" not in result:
        rows = main_rows(result)
        return headings, [[row(name, values, "total" if name == "all" else "")] for name, values in rows]
    blocks = []
    triples = zip(main_rows(result), main_rows(result["second"]), main_rows(result["difference"]), strict=True)
    for (name, first), (_, other), (_, difference) in triples:
        cells = [Cell(""), Cell(""), *(_difference(result, difference, key) for key, _ in columns)]
        blocks.append(
            [row(f"{name}: first", first), row("second", other)]
            + [{"name": "second − first", "kind": "difference", "cells": cells}]
        )
    return headings, blocks


def _metric_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of every metric of the total: of whole people, of identities over time, of joints and limbs (these with
    their mean over joints)."""
    keys = [k for k in result["all"] if k not in _NOT_METRICS and not k.endswith("_joint_mean")]
    kinds: dict[str, list[str]] = {"People": [], "Identities": [], "Joints and limbs": []}
    for key in keys:
        if f"{key}_joint_mean" in result["all"]:
            kinds["Joints and limbs"].append(key)
        else:
            kinds["Identities" if key.startswith(_OF_TRACKS) else "People"].append(key)
    tables = []
    for title, chosen in kinds.items():
        headings, rows = ["", "total"], []
        for key in chosen:
            cells = [_cell(result, side["all"], key) for side in _sides(result)]
            if "second" in result:
                cells.append(_difference(result, result["difference"]["all"], key))
                headings = ["", "first", "second", "second − first"]
            elif title == "Joints and limbs":
                cells.append(_cell(result, result["all"], f"{key}_joint_mean"))
                headings = ["", "total", "mean over joints"]
            rows.append({"name": metric_name(key, result["units"].get(key, "share")), "cells": cells})
        if rows:
            tables.append({"title": title, "headings": headings, "rows": rows})
    return tables


def metric_name(key: str, unit: str = "share") -> str:
    """``AP_medium`` as people write it: ``OKS-AP medium``; pixels are named."""
    name = key.replace("_", " ") + (", px" if unit == "px" else "")
    return f"OKS-{name}" if key.startswith(("AP", "AR")) else {"heat": "local NMS score"}.get(key, name)


def _curves(result: dict[str, Any], names: Sequence[str], sides: Sequence[Side]) -> list[Plot]:
    made = []
    several = "second" in result
    both = list(zip(names, _sides(result), strict=True))
    for name in dict.fromkeys(n for _, side in both for n in side["curves"]):
        lines = [
            plots.Line(label if several else "", curve["thresholds"], curve["values"], number)
            for number, (label, side) in enumerate(both)
            for curve in [side["curves"].get(name)]
            if curve is not None
        ]
        marks = result["settings"]["thresholds"].get(name.lower(), ())
        reference = result["references"].get(name, {}).get("rule", "")
        made.append(
            Plot(
                name,
                plots.line_plot(lines, title=name, xlabel="threshold / reference length", ylabel="joints", marks=marks),
                about=f"reference: {reference}" if reference else "",
            )
        )
    lines = [
        plots.Line(
            f"{label}, {key}" if several else key, side["precision_recall"]["recall"], values,
            number if several else row, row if several else 0,
        )
        for number, (label, side) in enumerate(both)
        for row, (key, values) in enumerate(kv for kv in side["precision_recall"].items() if kv[0] != "recall")
    ]  # fmt: skip
    if lines:
        plot = plots.line_plot(lines, title="precision and recall", xlabel="recall", ylabel="precision")
        made.append(
            Plot("Precision and recall", plot, about="people found, by falling score; interpolated as COCO does")
        )
    values = [(name, what, [v for v in value.tolist() if v == v]) for name, s in zip(names, sides, strict=False)
              for what, value in [person_values(s)]]  # fmt: skip
    if values and any(v for *_, v in values):
        what = values[0][1]
        series = [(name if several else "", v) for name, _, v in values]
        plot = plots.histogram(series, title=f"people by {what}", xlabel=what, ylabel="labelled people")
        made.append(Plot(f"People by {what}", plot, about="missed people stand at 0"))
    if several:
        rows = [
            (metric_name(key), e["value"], *(e.get("interval") or (None, None)))
            for key, _ in main_columns(result)
            for e in [result["difference"]["all"].get(key)]
            if e and result["units"].get(key, "share") != "px"
        ]
        if rows:
            plot = plots.forest_plot(rows, title="differences", xlabel="second − first (x 100)")
            about = "with 95 % intervals; coloured where the interval leaves out 0"
            made.append(Plot("Differences", plot, about=about))
    return made


def _joint_plots(result: dict[str, Any], names: Sequence[str]) -> list[Plot]:
    """A plot of bars for the first threshold of each metric that has parts."""
    made = []
    several = "second" in result
    for kind in ("joint", "limb"):
        parts = result["groups"].get(kind) or {}
        for key in _main_keys(parts):
            rows = [name for name in parts if any(s["groups"][kind][name].get(key) is not None for s in _sides(result))]
            if not rows:
                continue
            series = [
                plots.Bars(
                    label if several else "",
                    [side["groups"][kind][row].get(key) for row in rows],
                    [(side["groups"][kind][row].get("intervals") or {}).get(key) for row in rows],
                )
                for label, side in zip(names, _sides(result), strict=True)
            ]
            title = _part_name(key)
            about = "mean likeness" if key == "mean_OKS" else "share in place"
            plot = plots.bar_plot(rows, series, title=f"{title} by {kind}", xlabel=about)
            made.append(Plot(f"{title} by {kind}", plot))
    return made


def _part_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every figure of the joints and limbs; for two predictions first, second and their difference of the main ones."""
    tables = []
    for kind, title in (("joint", "Joints"), ("limb", "Limbs")):
        parts = result["groups"].get(kind)
        if not parts:
            continue
        if "second" not in result:
            headings, rows = part_table(parts)
            tables.append({"title": title, "headings": headings, "rows": rows})
            continue
        keys = _main_keys(parts)
        headings = ["", "counted", *(f"{_part_name(k)} {w}" for k in keys for w in ("first", "second", "2nd − 1st"))]
        rows = []
        for name, row in parts.items():
            cells = [name, f"{row.get('counted', 0):,}"]
            for key in keys:
                one, two = row.get(key), result["second"]["groups"][kind].get(name, {}).get(key)
                cells += [shown(one), shown(two)]
                cells.append("–" if one is None or two is None else f"{100 * (two - one):+.1f}")
            rows.append(cells)
        tables.append({"title": title, "headings": headings, "rows": rows})
    return tables


def _main_keys(parts: dict[str, dict[str, Any]]) -> list[str]:
    """The first threshold of each metric that joints or limbs have, without the PDJ, which has a curve."""
    chosen: dict[str, str] = {}
    for key in dict.fromkeys(k for row in parts.values() for k in row if k != "counted"):
        chosen.setdefault(key.partition("@")[0], key)
    return [k for k in chosen.values() if k == "mean_OKS" or (k.startswith(("PCK", "PCP")) and "@" in k)]


def _part_name(key: str) -> str:
    return "OKS" if key == "mean_OKS" else key


def _diagnosis(result: dict[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """Kinds of error: what repairing each would bring, and where on the body they are."""
    several = "second" in result
    made = []
    for part in result.get("diagnosis", {}):
        sides = [side["diagnosis"][part] for side in _sides(result) if part in side["diagnosis"]]
        metric = "OKS-AP" if sides[0]["metric"] == "AP" else sides[0]["metric"]
        steps = ["as measured", *(f"+ {ERRORS.get(kind, kind)}" for kind in sides[0]["in_order"])]
        bars = [
            plots.Bars(name if several else "", [side["value"], *side["in_order"].values()])
            for name, side in zip(names, sides, strict=False)
        ]
        title = f"{metric}, repaired step by step"
        made.append(
            Plot(title, plots.bar_plot(steps, bars, title=title, xlabel=metric), about="each kind on top of the last")
        )
        for name, side in zip(names, sides, strict=False):
            joints = [joint for joint, counts in side["by_joint"].items() if sum(counts.values())]
            if not joints:
                continue
            kinds = [kind for kind in ("good", "jitter", "inversion", "swap", "miss") if kind in side["joints"]]
            shares = [[side["by_joint"][j][k] / sum(side["by_joint"][j].values()) for j in joints] for k in kinds]
            title = f"Joints by kind of error ({part}{f', {name}' if several else ''})"
            plot = plots.stacked_plot(
                joints, list(zip(kinds, shares, strict=True)), title=title, xlabel="labelled joints"
            )
            made.append(Plot(title, plot))
    if not made:
        return None
    tables = [{"title": title, "headings": heads, "rows": rows} for title, heads, rows in diagnosis_tables(result)]
    words = (
        "Jitter: close, but not close enough. Inversion: on the mirrored joint (left for right). Swap: on another "
        "person. Miss: nowhere near. After Ronchi & Perona, ICCV 2017."
    )
    return {"words": [words], "plots": made, "tables": tables}


def _heat(result: dict[str, Any], names: Sequence[str]) -> list[Plot]:
    """The local NMS score over the frames of each video (at most `SERIES` lines), or over the pictures."""
    lines: list[plots.Line] = []
    left_out = 0
    pictures = False
    for number, (label, side) in enumerate(zip(names, _sides(result), strict=True)):
        rows = side["heat_curve"]
        sources = list(dict.fromkeys(row["source"] for row in rows))
        left_out += max(0, len(sources) - plots.SERIES)
        names_taken = Counter(PurePath(source).name or "predictions" for source in sources)
        for n, source in enumerate(sources[: plots.SERIES]):
            mine = [row for row in rows if row["source"] == source]
            pictures = all(row["file"] for row in mine)
            x = list(range(len(mine))) if pictures else [row["frame"] for row in mine]
            name = PurePath(source).name or "predictions"
            name = source if names_taken[name] > 1 else name
            several = "second" in result
            colour, style = (number, n) if several else (n, 0)
            full = f"{label}: {name}" if several else name
            lines.append(plots.Line(full, x, [row["heat"] for row in mine], colour, style))
    if not lines:
        return []
    about = f"{left_out} further sources are not drawn" if left_out else ""
    plot = plots.line_plot(
        lines, title="local NMS score", xlabel="picture" if pictures else "frame", ylabel="local NMS score", wide=True,
        dots=pictures,
    )  # fmt: skip
    return [Plot("Over the pictures" if pictures else "Over the frames", plot, True, about)]
