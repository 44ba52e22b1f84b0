"""Figures of a result as plots of the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from posecli.metrics.comparison import few_units
from posecli.metrics.measures import Side
from posecli.metrics.summary import diagnosis_tables, main_columns
from posecli.reports import plots
from posecli.reports.examples import person_values
from posecli.reports.tables import main_part_keys, metric_name, part_name, sides_of

ERRORS = {
    "score": "scores",
    "background_false_positives": "background",
    "false_negatives": "people not found",
}


@dataclass(frozen=True)
class Plot:
    """A figure of the page."""

    title: str
    svg: Markup
    wide: bool = False
    about: str = ""


def curve_plots(result: dict[str, Any], names: Sequence[str], sides: Sequence[Side]) -> list[Plot]:
    made = []
    several = "second" in result
    both = list(zip(names, sides_of(result), strict=True))
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
        plots.Line(f"{label}, {key}" if several else key, curve["thresholds"], curve[key],
                   number if several else row, row if several else 0)
        for number, (label, side) in enumerate(both)
        for curve in [side.get("hota_curve")]
        if curve
        for row, key in enumerate(("HOTA", "DetA", "AssA"))
    ]  # fmt: skip
    if lines:
        plot = plots.line_plot(lines, title="HOTA", xlabel="OKS threshold", ylabel="share")
        made.append(
            Plot("HOTA", plot, about="tracking of people: detection, association, and the root of their product")
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
            (metric_name(key), e["value"], *(e.get("interval") or (None, None)), bool(e.get("holds")))
            for key, _ in main_columns(result)
            for e in [result["difference"]["all"].get(key)]
            if e and result["units"].get(key, "share") != "px"
        ]
        if rows:
            plot = plots.forest_plot(rows, title="differences", xlabel="second − first (x 100)")
            about = "with 95 % intervals; coloured where the difference holds: 0 lies outside and p is at most 0.05"
            few = few_units(result["settings"])
            about += f"; {few}" if few else ""
            made.append(Plot("Differences", plot, about=about))
    return made


def joint_plots(result: dict[str, Any], names: Sequence[str]) -> list[Plot]:
    """A plot of bars for the first threshold of each metric that has parts."""
    made = []
    several = "second" in result
    for kind in ("joint", "limb"):
        parts = result["groups"].get(kind) or {}
        for key in main_part_keys(parts):
            rows = [
                name for name in parts if any(s["groups"][kind][name].get(key) is not None for s in sides_of(result))
            ]
            if not rows:
                continue
            series = [
                plots.Bars(
                    label if several else "",
                    [side["groups"][kind][row].get(key) for row in rows],
                    [(side["groups"][kind][row].get("intervals") or {}).get(key) for row in rows],
                )
                for label, side in zip(names, sides_of(result), strict=True)
            ]
            title = part_name(key)
            about = "mean likeness" if key == "mean_OKS" else "share in place"
            plot = plots.bar_plot(rows, series, title=f"{title} by {kind}", xlabel=about)
            made.append(Plot(f"{title} by {kind}", plot))
    return made


def diagnosis(result: dict[str, Any], names: Sequence[str]) -> dict[str, Any] | None:
    """Kinds of error: what repairing each would bring, and where on the body they are."""
    several = "second" in result
    made = []
    for part in result.get("diagnosis", {}):
        sides = [side["diagnosis"][part] for side in sides_of(result) if part in side["diagnosis"]]
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


def heat_plots(result: dict[str, Any], names: Sequence[str]) -> list[Plot]:
    """The local NMS score over the frames of each video (at most `SERIES` lines), or over the pictures."""
    lines: list[plots.Line] = []
    left_out = 0
    pictures = False
    for number, (label, side) in enumerate(zip(names, sides_of(result), strict=True)):
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
