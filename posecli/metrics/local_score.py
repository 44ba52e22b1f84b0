"""The local NMS score: mean heat at a person's regressed keypoints, a measure that needs no labels.

Source: Geng et al., Bottom-Up Human Pose Estimation Via Disentangled Keypoint Regression, CVPR 2021, Sec. 3.3 (the
score before non-maximum suppression); its use over the frames of a video follows the course report the project starts
from. Stored in [0, 1], printed x 100. Models without a keypoint heat map have none.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import MissingExtra, PoseError
from posecli.files import replace_when_done
from posecli.metrics.people import Predictions

COLUMNS = ("source", "file", "frame", "people", "heat")


def counted_people(predictions: Predictions) -> np.ndarray:
    """(N,) bool: people that have a heat and reach the display threshold of their stream's header."""
    people = predictions.people
    return ~np.isnan(people.heat) & (people.score >= predictions.frames.threshold[people.frame])


def heat_curve(predictions: Predictions) -> list[dict[str, Any]]:
    """One row per predicted frame: ``source``, ``file``, ``frame``, ``people`` counted, their mean ``heat`` (None
    without people). Empty when no person has a heat."""
    counted = counted_people(predictions)
    if not counted.any():
        return []
    frames, people = predictions.frames, predictions.people
    number = np.bincount(people.frame[counted], minlength=len(frames))
    total = np.bincount(people.frame[counted], weights=people.heat[counted], minlength=len(frames))
    return [
        {
            "source": frames.source[i],
            "file": frames.file[i],
            "frame": frames.index[i],
            "people": int(number[i]),
            "heat": float(total[i] / number[i]) if number[i] else None,
        }
        for i in range(len(frames))
    ]


def write_heat_csv(rows: Sequence[dict[str, Any]], path: str | Path, *, overwrite: bool = True) -> None:
    """Writes the rows of `heat_curve` with a header line; heat in [0, 1] with 4 decimals, empty without people.

    Raises:
        PoseError: no rows, or the file exists and ``overwrite`` is false.
    """
    _require_rows(rows)
    with (
        replace_when_done(path, overwrite=overwrite) as part,
        open(part, "w", newline="", encoding="utf-8") as handle,
    ):
        writer = csv.writer(handle)
        writer.writerow(COLUMNS)
        for row in rows:
            heat = "" if row["heat"] is None else f"{row['heat']:.4f}"
            writer.writerow([row["source"], row["file"] or "", row["frame"], row["people"], heat])


def plot_heat(rows: Sequence[dict[str, Any]], path: str | Path, *, overwrite: bool = True) -> None:
    """Draws heat x 100 over the frames, one line per source, into a picture (PNG, SVG, PDF by the name).

    Raises:
        MissingExtra: matplotlib is not installed.
        PoseError: no rows, an unknown kind of picture, or the file exists and ``overwrite`` is false.
    """
    _require_rows(rows)
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plots", "a plot") from None

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    sources = list(dict.fromkeys(row["source"] for row in rows))
    pictures = all(row["file"] for row in rows)
    for source in sources:
        mine = [row for row in rows if row["source"] == source]
        x = range(len(mine)) if pictures else [row["frame"] for row in mine]
        y = [float("nan") if row["heat"] is None else 100 * row["heat"] for row in mine]
        axes.plot(x, y, linewidth=1.2, label=Path(source).name or "predictions")
    axes.set(xlabel="picture" if pictures else "frame", ylabel="local NMS score x 100", ylim=(0, 100))
    axes.grid(alpha=0.3)
    if 1 < len(sources) <= 12:
        axes.legend(frameon=False)
    with replace_when_done(path, overwrite=overwrite) as part:
        try:
            figure.savefig(part, dpi=120)
        except ValueError as error:
            raise PoseError(f"cannot draw the plot: {error}", str(path), "name it .png, .svg or .pdf") from None


def _require_rows(rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        raise PoseError(
            "these predictions carry no local NMS score",
            hint="only models with a keypoint heat map (DEKR) write one, and results lists do not carry it",
        )
