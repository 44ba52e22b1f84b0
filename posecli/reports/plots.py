"""Curves and bars as inline SVG, drawn by matplotlib, coloured by the page.

The page's style sheet decides the colours (light, dark, print): matplotlib draws with placeholder colours, which become
CSS variables in the SVG. Text stays text, in the page's font; nothing in the SVG refers outside itself.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from posecli.errors import MissingExtra
from posecli.reports.page import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SERIES = 8
# Placeholders no drawing uses otherwise, and the variable each becomes.
_INK, _MUTED, _GRID = "#0a0b01", "#0a0b02", "#0a0b03"
_COLOURS = {_INK: "var(--ink)", _MUTED: "var(--muted)", _GRID: "var(--line)"}
_COLOURS |= {f"#0a0b{n + 16:02x}": f"var(--s{n + 1})" for n in range(SERIES)}
_STYLES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_LONGEST = 1500  # points a curve is drawn with at most: more cannot be told apart on a page


def series_colour(number: int) -> str:
    """Placeholder of the page's n-th series colour."""
    return f"#0a0b{number % SERIES + 16:02x}"


@dataclass(frozen=True)
class Line:
    """A curve: ``y`` in [0, 1] (None: a gap), shown x 100; ``colour`` and ``style`` are numbers of a series."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0
    style: int = 0


def require_matplotlib() -> None:
    """MissingExtra, with the one-line remedy, where matplotlib is not installed."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise MissingExtra("matplotlib", "plots", "the report's plots") from None


def line_plot(
    lines: Sequence[Line],
    *,
    title: str,
    xlabel: str,
    ylabel: str,
    marks: Sequence[float] = (),
    wide: bool = False,
    dots: bool = False,
) -> Markup:
    """Curves over a common axis.

    Args:
        marks: places on the x axis worth a dashed line (reported thresholds).
        wide: a figure as wide as the page.
        dots: points without a line between them (pictures have no order).
    """
    with _look(title):
        figure, axes = _figure((12.6, 3.0) if wide else (4.5, 3.1))
        for mark in marks:
            axes.axvline(mark, color=_MUTED, linewidth=0.8, dashes=(3, 3))
        for line in lines:
            x, y = _thinned(line.x, [float("nan") if v is None else 100 * v for v in line.y])
            how: dict[str, Any] = {"linestyle": _STYLES[line.style % len(_STYLES)], "linewidth": 1.6}
            if dots:
                how = {"linestyle": "none", "marker": "o", "markersize": 3, "markeredgewidth": 0}
            elif len(x) == 1:
                how |= {"marker": "o", "markersize": 3}
            axes.plot(x, y, color=series_colour(line.colour), label=visible(line.label) or None, **how)
        axes.set(xlabel=xlabel, ylabel=f"{ylabel} (x 100)", ylim=(0, 101))
        low, high = min(min(line.x) for line in lines), max(max(line.x) for line in lines)
        room = 0.01 * (high - low) or 0.5
        axes.set_xlim(low - room, high + room)
        if any(line.label for line in lines) and len(lines) > 1:
            if len(lines) > 3 and not wide:  # too many to find a free place among the curves
                figure.set_figheight(3.1 + 0.17 * len(lines))
                figure.legend(loc="outside lower left")
            else:
                axes.legend(loc="best", ncols=2 if wide and len(lines) > 3 else 1)
        return _svg(figure, title)


@dataclass(frozen=True)
class Bars:
    """A series of bars: values in [0, 1] (None: no bar), and where known the interval about each."""

    label: str
    values: Sequence[float | None]
    ranges: Sequence[Sequence[float | None] | None] = ()


def bar_plot(names: Sequence[str], series: Sequence[Bars], *, title: str, xlabel: str) -> Markup:
    """Horizontal bars shown x 100, one group a name, with intervals as thin lines and the value behind."""
    with _look(title):
        count = max(len(series), 1)
        figure, axes = _figure((4.5, 0.75 + len(names) * (0.2 if count == 1 else 0.15 * count + 0.08)))
        height = 0.72 / count
        for number, bars in enumerate(series):
            where = [i - 0.36 + (number + 0.5) * height for i in range(len(names))]
            lengths = [0.0 if v is None else 100 * v for v in bars.values]
            colour, label = series_colour(number), visible(bars.label) or None
            axes.barh(where, lengths, height=0.92 * height, color=colour, label=label)
            ranges = bars.ranges or [None] * len(names)
            for at, length, value, ends in zip(where, lengths, bars.values, ranges, strict=True):
                low, high = ends or (None, None)
                end = length
                if low is not None and high is not None:
                    axes.plot([100 * low, 100 * high], [at, at], color=_INK, linewidth=0.9, alpha=0.65)
                    end = max(length, 100 * high)
                if value is not None:
                    axes.text(end + 1.2, at, f"{length:.0f}", va="center", fontsize=7.5, color=_MUTED)
        _names_beside(axes, names)
        axes.set(xlabel=f"{xlabel} (x 100)", xlim=(0, 109))
        axes.set_xticks(range(0, 101, 20))
        if len(series) > 1:
            figure.legend(loc="outside upper right", ncols=2)
        return _svg(figure, title)


def stacked_plot(
    names: Sequence[str], parts: Sequence[tuple[str, Sequence[float]]], *, title: str, xlabel: str
) -> Markup:
    """Horizontal bars in pieces, shown x 100.

    Args:
        parts: ``(label, share of each name)`` of the pieces from left to right; five at most have their own colour.
    """
    with _look(title):
        figure, axes = _figure((4.5, 1.0 + 0.2 * len(names)))
        start = [0.0] * len(names)
        for (label, shares), colour in zip(parts, (2, 4, 3, 1, 5), strict=False):
            lengths = [100 * s for s in shares]
            axes.barh(range(len(names)), lengths, left=start, height=0.72, color=series_colour(colour), label=label)
            start = [a + b for a, b in zip(start, lengths, strict=True)]
        _names_beside(axes, names)
        axes.set(xlabel=f"{xlabel} (x 100)", xlim=(0, 100))
        axes.grid(visible=False)
        figure.legend(loc="outside upper center", ncols=len(parts), handlelength=1, columnspacing=1)
        return _svg(figure, title)


def _names_beside(axes: Axes, names: Sequence[str]) -> None:
    """Names of the rows on the left, the first on top."""
    axes.set_yticks(range(len(names)), [visible(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def forest_plot(
    rows: Sequence[tuple[str, float, float | None, float | None, bool]], *, title: str, xlabel: str, unit: float = 100
) -> Markup:
    """Differences with their intervals, one a line, about a line at 0.

    Args:
        rows: ``(name, value, low, high, holds)``, shown x ``unit``; low and high None without an interval; coloured
            is what holds (`posecli.metrics.comparison.difference_entry`): an interval beside 0 alone is not enough.
    """
    with _look(title):
        figure, axes = _figure((4.5, 0.8 + 0.26 * len(rows)))
        axes.axvline(0, color=_INK, linewidth=0.9)
        for i, (_, value, low, high, holds) in enumerate(rows):
            colour = series_colour(1) if holds else _MUTED
            if low is not None and high is not None:
                axes.plot([unit * low, unit * high], [i, i], color=colour, linewidth=2.2, solid_capstyle="round")
            axes.plot([unit * value], [i], "o", color=colour, markersize=5)
        _names_beside(axes, [name for name, *_ in rows])
        axes.set_xlabel(xlabel)
        return _svg(figure, title)


def histogram(
    series: Sequence[tuple[str, Sequence[float]]], *, title: str, xlabel: str, ylabel: str, bins: int = 20
) -> Markup:
    """How often values in [0, 1] occur, as steps, one a series."""
    with _look(title):
        from matplotlib.ticker import MaxNLocator

        figure, axes = _figure((4.5, 3.1))
        edges = [i / bins for i in range(bins + 1)]
        for number, (label, values) in enumerate(series):
            filled = len(series) == 1
            axes.hist(
                values, bins=edges, histtype="stepfilled" if filled else "step", color=series_colour(number),
                linewidth=1.6, label=visible(label) or None, alpha=0.85 if filled else 1,
            )  # fmt: skip
        axes.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        if len(series) > 1:
            axes.legend(loc="best")
        return _svg(figure, title)


def _thinned(x: Sequence[float], y: Sequence[float]) -> tuple[list[float], list[float]]:
    """Means of neighbours, so that no more than `_LONGEST` points are left; gaps stay gaps."""
    step = -(-len(x) // _LONGEST)
    if step <= 1:
        return list(x), list(y)
    xs, ys = [], []
    for start in range(0, len(x), step):
        there = [v for v in y[start : start + step] if v == v]
        xs.append(float(x[start]))
        ys.append(sum(there) / len(there) if there else float("nan"))
    return xs, ys


def _look(title: str) -> AbstractContextManager[None]:
    require_matplotlib()
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": title,  # the same figure has the same bytes
            "font.size": 9,
            "text.color": _INK,
            "text.parse_math": False,  # a "$" in a file name is a "$"
            "axes.edgecolor": _MUTED,
            "axes.labelcolor": _INK,
            "axes.linewidth": 0.7,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": _GRID,
            "grid.linewidth": 0.7,
            "xtick.color": _MUTED,
            "ytick.color": _MUTED,
            "xtick.labelcolor": _INK,
            "ytick.labelcolor": _INK,
            "legend.frameon": False,
            "legend.fontsize": 8,
            "legend.labelcolor": _INK,
        }
    )


def _figure(size: tuple[float, float]) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def _svg(figure: Figure, title: str) -> Markup:
    """The figure as SVG for the middle of a page: own ids, colours and font of the page, a name for screen readers."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows SVG without them
    svg = svg.replace("xlink:href=", "href=")
    prefix = "p" + hashlib.sha256(title.encode("utf-8", "surrogatepass")).hexdigest()[:8] + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace('href="#', f'href="#{prefix}').replace("url(#", f"url(#{prefix}")
    svg = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>\s*", "", svg, flags=re.DOTALL)  # would hold for the whole page
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", svg)
    svg = re.sub("|".join(_COLOURS), lambda match: _COLOURS[match[0]], svg)
    opening, _, rest = svg.partition(">")
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    return Markup(f'<svg {box[0]} role="img" aria-label="{Markup.escape(visible(title))}">{rest}')
