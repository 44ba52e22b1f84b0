"""Plots over the frames of a video, as inline SVG in the page's colours (see `posecli.reports.plots`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from posecli.reports.page import visible
from posecli.reports.plots import _INK, _MUTED, _figure, _look, _names_beside, _svg, _thinned, series_colour


def curves(
    lines: Sequence[tuple[str, Sequence[int], Sequence[float]]],
    *,
    title: str,
    ylabel: str,
    spans: Sequence[tuple[int, int]] = (),
    level: float | None = None,
    down: bool = False,
    zero: bool = False,
) -> Markup:
    """Curves over frames, as wide as the page.

    Args:
        lines: ``(label, frames, values)``; NaN and frames that are left out are gaps.
        spans: first and last frames of stretches to be marked.
        level: a height worth a dashed line.
        down: the axis points down, as pictures' rows do; zero: it begins at 0.
    """
    with _look(title):
        figure, axes = _figure((12.6, 2.7))
        for first, last in spans:
            axes.axvspan(first - 0.5, last + 0.5, color=series_colour(2), alpha=0.22, linewidth=0)
        if level is not None:
            axes.axhline(level, color=_MUTED, linewidth=0.8, dashes=(3, 3))
        for number, (label, frames, values) in enumerate(lines):
            x, y = _with_gaps(frames, values)
            x, y = _thinned(x, y)
            axes.plot(x, y, color=series_colour(number), linewidth=1.4, label=visible(label) or None)
        axes.set(xlabel="frame", ylabel=ylabel)
        axes.margins(x=0.01)
        if zero or level is not None:
            axes.set_ylim(bottom=0)
        if down:
            axes.invert_yaxis()
        if len(lines) > 1:
            figure.legend(loc="outside right upper")
        return _svg(figure, title)


def _with_gaps(frames: Sequence[int], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Points with a NaN wherever more than the usual step of frames lies between two."""
    step = np.diff(frames)
    wide = np.flatnonzero(step > max(1.0, 1.5 * float(np.median(step)))) + 1 if len(step) else np.zeros(0, int)
    return np.insert(np.array(frames, float), wide, np.nan).tolist(), np.insert(
        np.array(values, float), wide, np.nan
    ).tolist()


def timeline(rows: Sequence[tuple[str, Sequence[int]]], *, title: str, cuts: Sequence[int] = ()) -> Markup:
    """When each of several people was there: a bar for each unbroken stretch of frames, a dashed line for each cut."""
    with _look(title):
        figure, axes = _figure((12.6, 0.8 + 0.2 * len(rows)))
        for cut in cuts:
            axes.axvline(cut - 0.5, color=_INK, linewidth=0.9, dashes=(4, 3))
        for row, (_, frames) in enumerate(rows):
            steps = np.diff(frames)
            usual = float(np.median(steps)) if len(steps) else 1.0
            parts = np.split(np.asarray(frames), np.flatnonzero(steps > 1.5 * usual) + 1)
            bars = [(float(p[0]) - 0.5, float(p[-1] - p[0]) + usual) for p in parts]
            axes.broken_barh(bars, (row - 0.36, 0.72), color=series_colour(row), linewidth=0)
        _names_beside(axes, [name for name, _ in rows])
        axes.set_xlabel("frame")
        axes.margins(x=0.01)
        return _svg(figure, title)


def bars(rows: Sequence[tuple[str, float]], *, title: str, xlabel: str) -> Markup:
    """A bar for each name, with its value behind."""
    with _look(title):
        figure, axes = _figure((4.5, 0.75 + 0.2 * len(rows)))
        longest = max(value for _, value in rows) or 1.0
        axes.barh(range(len(rows)), [value for _, value in rows], height=0.7, color=series_colour(0))
        for row, (_, value) in enumerate(rows):
            axes.text(value + 0.01 * longest, row, f"{value:.1f}", va="center", fontsize=7.5, color=_MUTED)
        _names_beside(axes, [name for name, _ in rows])
        axes.set(xlabel=xlabel, xlim=(0, 1.12 * longest))
        return _svg(figure, title)
