"""Accuracy of predicted heat maps against target heat maps, as training scripts print it.

Both sides are read by their greatest value; what is compared is the place on the map, so no crop or box is involved.
Two published rules, which differ in reference, threshold and in what counts as labelled:

- ``hrnet``: leoxiaobin/deep-high-resolution-net.pytorch@6f69e46 (`core/evaluate.py`).
- ``mmpose``: open-mmlab/mmpose@759b39c (`evaluation/functional`, `pose_pck_accuracy`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.errors import PoseError


@dataclass(frozen=True)
class HeatmapAccuracy:
    """Shares of correct joints; ``joints`` (K,) is NaN for joints without a valid target, ``mean`` is over the others
    (``counted`` of them, 0 when there is none)."""

    joints: np.ndarray
    mean: float
    counted: int


def heatmap_accuracy(
    predicted: np.ndarray, target: np.ndarray, rule: str = "hrnet", labelled: np.ndarray | None = None,
    threshold: float | None = None,
) -> HeatmapAccuracy:  # fmt: skip
    """The share of samples per joint whose greatest values lie closer (``<``) than the threshold.

    ``hrnet``: distances over (h / 10, w / 10) for (x, y), in that order as the code has it, below 0.5; targets at
    x <= 1 or y <= 1 do not count. ``mmpose``: distances over (w, h), below 0.05; all ``labelled`` targets count.

    Args:
        predicted, target: (B, K, h, w).
        labelled: (B, K) bool, ``mmpose`` only (None: all).
        threshold: replaces the rule's own.

    Raises:
        PoseError: unknown rule, shapes that differ, ``labelled`` given to ``hrnet``.
    """
    if predicted.shape != target.shape or predicted.ndim != 4:
        raise PoseError(f"heat maps of shapes {predicted.shape} and {target.shape} cannot be compared")
    (found, positive), (true, true_positive) = _peaks(predicted), _peaks(target)
    height, width = predicted.shape[2:]
    if rule == "hrnet":
        if labelled is not None:
            raise PoseError("the rule 'hrnet' takes what is labelled from the target maps")
        # Maps without a positive value are read as (0, 0).
        found, true = found * positive[..., None], true * true_positive[..., None]
        valid = (true > 1).all(axis=-1)
        scale, limit = np.array([height / 10, width / 10]), 0.5
    elif rule == "mmpose":
        found = np.where(positive[..., None], found, -1.0)
        true = np.where(true_positive[..., None], true, -1.0)
        valid = np.ones(true.shape[:2], bool) if labelled is None else np.asarray(labelled, bool)
        scale, limit = np.array([width, height]), 0.05
    else:
        raise PoseError(f"unknown rule {rule!r}", hint="hrnet or mmpose")
    distance = np.hypot(*np.moveaxis((found - true) / scale, -1, 0))
    hit = (distance < (limit if threshold is None else threshold)) & valid
    count = valid.sum(axis=0)
    with np.errstate(invalid="ignore"):
        shares = hit.sum(axis=0) / count
    there = count > 0
    return HeatmapAccuracy(shares, float(shares[there].mean()) if there.any() else 0.0, int(there.sum()))


def _peaks(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, K, 2) place (x, y) of the first greatest value, and (B, K) whether it is positive."""
    flat = maps.reshape(*maps.shape[:2], -1)
    index = flat.argmax(axis=-1)
    positive = np.take_along_axis(flat, index[..., None], axis=-1)[..., 0] > 0
    return np.stack([index % maps.shape[3], index // maps.shape[3]], axis=-1).astype(np.float64), positive
