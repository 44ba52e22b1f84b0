"""What one prediction file gave against the labels: sums and counts per person, matches, sums per video.

Most metrics are means: each labelled joint, limb or person (or each predicted person, for the local NMS score) adds a
number to a sum and 1 to a count. A `Measure` holds these per person, so that totals, means over joints, groups and
bootstrap draws are all sums over the same arrays. AP keeps its matches (`oks.Matches`); tracking metrics keep sums per
video (`SequenceSums`), which add up over videos before the figure is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posecli.metrics import oks
from posecli.metrics.pairing import CommonJoints, FramePartners
from posecli.metrics.people import People, Predictions
from posecli.types import Skeleton


@dataclass(frozen=True)
class Measure:
    """A mean: sum of ``hit`` over count of ``valid``.

    Attributes:
        key: name in results.
        hit: (N, C) float64, in [0, 1] where ``unit`` is ``share``; columns are joints, limbs or one.
        valid: (N, C) bool.
        frame: (N,) labelled frame of each row.
        columns: C names, empty for one column.
        of_labels: rows are the evaluated labelled people (else predicted people).
        per_column: another measure to use for the columns, where the total is not their sum (mean OKS).
        unit: ``share`` (printed x 100), ``px``, or ``ratio`` (of a reference length; printed x 100).
        higher_is_better: False for errors.
    """

    key: str
    hit: np.ndarray
    valid: np.ndarray
    frame: np.ndarray
    columns: tuple[str, ...] = ()
    of_labels: bool = True
    per_column: Measure | None = None
    unit: str = "share"
    higher_is_better: bool = True

    def column_shares(self, rows: np.ndarray) -> np.ndarray:
        """(C,) share of each column over the chosen rows; NaN without any."""
        valid = self.valid & rows[:, None]
        with np.errstate(invalid="ignore"):
            return np.where(valid, self.hit, 0.0).sum(axis=0) / valid.sum(axis=0)

    def total(self, rows: np.ndarray) -> float:
        """Share over everything in the chosen rows; NaN without any."""
        valid = self.valid & rows[:, None]
        count = int(valid.sum())
        return float(self.hit[valid].sum() / count) if count else float("nan")


@dataclass(frozen=True)
class SequenceSums:
    """What a tracking metric counts, one row per video; the figures come from the sum of the chosen rows.

    Attributes:
        video: (V,) int64 rows of the labels' videos.
        sums: (V, C) float64.
        score: takes (..., C) sums, gives the figures by key, each (...); NaN where there is nothing to measure.
        columns: names of parts (joints) that have figures of their own, by ``score_columns``: each (..., parts).
    """

    video: np.ndarray
    sums: np.ndarray
    score: Callable[[np.ndarray], dict[str, np.ndarray]]
    columns: tuple[str, ...] = ()
    score_columns: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None


@dataclass(frozen=True)
class Paired:
    """The R evaluated people beside the predicted ones they were paired with, on the J joints compared.

    Attributes:
        frame: (R,) labelled frame.
        gt_xy, pred_xy: (R, J, 2) pixels, 0 where not labelled, not found.
        visible, found: (R, J) bool labelled; predicted by the partner.
        judged: (R, J) bool labelled joints that count (with ``--misses skip`` only those of paired people).
        distance: (R, J) pixels, infinite where not found.
        people: the labels of these people with all their joints; skeleton: of these.
        compared: skeleton of the J joints; label_index: their places in ``skeleton``.
    """

    frame: np.ndarray
    gt_xy: np.ndarray
    pred_xy: np.ndarray
    visible: np.ndarray
    found: np.ndarray
    judged: np.ndarray
    distance: np.ndarray
    people: People
    skeleton: Skeleton
    compared: Skeleton
    label_index: np.ndarray


@dataclass
class Side:
    """One prediction file against the labels: measures, AP matches, and what had to be said.

    ``rows`` are the evaluated people among the labels', ``partner`` the predicted person each was paired with (-1 for
    nobody), ``common`` the joints compared; ``track`` and ``frame`` are those of ``rows``; ``video`` is (F,) the video
    of each labelled frame. ``crowdpose`` are the matches of CrowdPose's AP, ``sequences`` the tracking metrics
    asked for, ``tracking`` what they left out and why, ``hota_curve`` HOTA and its parts by threshold.
    """

    predictions: Predictions
    partners: FramePartners
    measures: dict[str, Measure]
    matches: oks.Matches | None
    track: np.ndarray
    frame: np.ndarray
    rows: np.ndarray
    partner: np.ndarray
    common: CommonJoints
    video: np.ndarray
    paired: Paired
    crowdpose: oks.Matches | None = None
    crowd_index: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sequences: dict[str, SequenceSums] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    areas: dict[str, int] = field(default_factory=dict)
    tracking: dict[str, int] = field(default_factory=dict)
    hota_curve: dict[str, list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
