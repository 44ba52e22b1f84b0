"""Shares of correct keypoints: PCK, PCKh, PDJ and their curves.

One rule for all: a labelled joint counts as correct when its distance to the prediction is **at most** (``<=``) a
threshold times the person's reference length. They differ in the reference only:

- PCK (Yang & Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, 2013): the torso as the skeleton
  names it, or the longer side of the person box.
- PCKh (Andriluka et al., 2D Human Pose Estimation: New Benchmark, CVPR 2014): 0.6 of the head box' diagonal; where a
  person has no head box, the head segment the skeleton names.
- PDJ (Sapp & Taylor, MODEC, CVPR 2013; Toshev & Szegedy, DeepPose, CVPR 2014): the torso, as a curve over 0 to 0.5.

People whose reference is missing or zero are left out and counted. Published code compares with ``<`` in places
(mmpose's PCK, deeppose_tf's PDJ); the difference shows only at exact equality.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.errors import PoseError
from posecli.metrics.people import joint_boxes_xywh
from posecli.types import Skeleton

HEAD_BOX_SHARE = 0.6
PDJ_CURVE = np.linspace(0.0, 0.5, 51)


@dataclass(frozen=True)
class Reference:
    """Reference lengths of N people and how they came about.

    Attributes:
        length: (N,) float64 pixels, NaN where missing or zero.
        rule: in words, e.g. ``"torso: left_shoulder to right_hip"``.
        counts: people by rule, where several are in use.
    """

    length: np.ndarray
    rule: str
    counts: dict[str, int]


def segment_length(xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton, joints: tuple[str, ...]) -> np.ndarray:
    """(N,) distance of two named joints; NaN where one is not labelled or the distance is zero."""
    a, b = (skeleton.index(name) for name in joints)
    length = np.hypot(*(xy[:, a] - xy[:, b]).T)
    return np.where((visibility[:, a] > 0) & (visibility[:, b] > 0) & (length > 0), length, np.nan)


def torso_reference(xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton) -> Reference | None:
    """Distance of the two joints that the skeleton names as its torso; None when it names none."""
    if not skeleton.torso:
        return None
    rule = f"torso: {skeleton.torso[0]} to {skeleton.torso[1]}"
    return Reference(segment_length(xy, visibility, skeleton, skeleton.torso), rule, {})


def box_reference(xy: np.ndarray, visibility: np.ndarray, box_xywh: np.ndarray) -> Reference:
    """Longer side of the given person box, else of the box around the labelled joints."""
    given = np.nanmax(np.where(np.isnan(box_xywh[:, 2:]), -1.0, box_xywh[:, 2:]), axis=1, initial=-1.0)
    own = np.nan_to_num(joint_boxes_xywh(xy, visibility)[:, 2:], nan=-1.0).max(axis=1, initial=-1.0)
    length = np.where(given > 0, given, own)
    counts = {"given box": int((given > 0).sum()), "joint box": int(((given <= 0) & (own > 0)).sum())}
    return Reference(np.where(length > 0, length, np.nan), "longer side of the person box", counts)


def pck_reference(
    kind: str, xy: np.ndarray, visibility: np.ndarray, box_xywh: np.ndarray, skeleton: Skeleton
) -> Reference:
    """PCK's reference: ``torso``, ``box``, or ``auto`` (the torso if the skeleton names one, else the box)."""
    if kind not in ("auto", "torso", "box"):
        raise PoseError(f"unknown PCK reference {kind!r}", hint="auto, torso or box")
    torso = torso_reference(xy, visibility, skeleton)
    if kind == "torso" and torso is None:
        raise PoseError("this skeleton names no torso joints", f"skeleton {skeleton.name!r}", "--pck-reference box")
    return box_reference(xy, visibility, box_xywh) if kind == "box" or torso is None else torso


def head_reference(
    xy: np.ndarray, visibility: np.ndarray, head_box_xyxy: np.ndarray, skeleton: Skeleton
) -> Reference | None:
    """PCKh's reference: 0.6 of the head box' diagonal, else the head segment; None when nobody can have either."""
    boxes = HEAD_BOX_SHARE * np.hypot(*(head_box_xyxy[:, 2:] - head_box_xyxy[:, :2]).T)
    boxed = boxes > 0
    if not skeleton.head and not boxed.any():
        return None
    segment = np.full(len(xy), np.nan)
    names = []
    if boxed.any():
        names.append("0.6 of the head box' diagonal")
    if skeleton.head and not boxed.all():
        segment = segment_length(xy, visibility, skeleton, skeleton.head)
        names.append(f"head segment: {skeleton.head[0]} to {skeleton.head[1]}")
    counts = {"head box": int(boxed.sum()), "head segment": int((~boxed & (segment > 0)).sum())}
    return Reference(np.where(boxed, boxes, segment), " or ".join(names), counts)


def distances(gt_xy: np.ndarray, pred_xy: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(N, K) pixels between label and prediction; infinite where the joint was not found.

    Args:
        gt_xy, pred_xy: (N, K, 2); found: (N, K) bool.
    """
    with np.errstate(invalid="ignore"):
        return np.where(found, np.hypot(*np.moveaxis(pred_xy - gt_xy, -1, 0)), np.inf)


def correct(distance: np.ndarray, length: np.ndarray, threshold: float) -> np.ndarray:
    """(N, K) bool: ``distance <= threshold * length``; False where the length is NaN.

    Args:
        distance: (N, K) pixels; length: (N,) pixels.
    """
    return distance <= (threshold * length)[:, None]


def area_under_curve(distance: np.ndarray, length: np.ndarray, grid: np.ndarray = PDJ_CURVE) -> np.ndarray:
    """(N, K) each joint's share in the area under its curve of `correct` over ``grid``, by trapezoids, in [0, 1]."""
    step = np.diff(grid)
    weights = (np.append(step, 0.0) + np.append(0.0, step)) / 2 / (grid[-1] - grid[0])
    total = np.zeros(distance.shape)
    for weight, threshold in zip(weights, grid, strict=True):
        total += weight * correct(distance, length, float(threshold))
    return total


def curve(distance: np.ndarray, length: np.ndarray, counted: np.ndarray, grid: np.ndarray) -> list[float]:
    """Share of the ``counted`` (N, K) joints that are correct at each threshold of ``grid``; NaN without any."""
    total = int(counted.sum())
    return [
        float((correct(distance, length, float(t)) & counted).sum() / total) if total else float("nan") for t in grid
    ]
