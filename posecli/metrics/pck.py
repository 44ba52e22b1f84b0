"""Shares of correct keypoints: PCK, PCKh, PDJ and their curves.

One rule for all: a labelled joint counts as correct when its distance to the prediction is **at most** (``<=``) a
threshold times the person's reference length. They differ in the reference only:

- PCK (Yang & Ramanan, Articulated Human Detection with Flexible Mixtures of Parts, 2013): the torso as the skeleton
  names it, the longer side of the person box, the head, or plain pixels.
- PCKh (Andriluka et al., 2D Human Pose Estimation: New Benchmark, CVPR 2014): 0.6 of the head box' diagonal; where a
  person has no head box, the head segment the skeleton names.
- PDJ (Sapp & Taylor, MODEC, CVPR 2013; Toshev & Szegedy, DeepPose, CVPR 2014): the torso, as a curve over 0 to 0.5.

People whose reference is missing or zero are left out and counted. Published code compares with ``<`` in places
(mmpose's PCK, deeppose_tf's PDJ); the difference shows only at exact equality, and ``strict`` reproduces it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.errors import PoseError
from posecli.metrics.people import joint_boxes_xywh
from posecli.types import Skeleton

HEAD_BOX_SHARE = 0.6
PCK_REFERENCES = ("auto", "torso", "box", "head-segment", "head-box", "pixels")
PCKH_REFERENCES = ("auto", "head-box", "head-segment")
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
    """Longer side of the given person box (none where that is zero), else of the box around the labelled joints."""
    boxed = np.isfinite(box_xywh).all(axis=1)
    own = np.nan_to_num(joint_boxes_xywh(xy, visibility)[:, 2:], nan=-1.0).max(axis=1, initial=-1.0)
    length = np.where(boxed, np.nan_to_num(box_xywh[:, 2:]).max(axis=1, initial=-1.0), own)
    counts = {"given box": int((boxed & (length > 0)).sum()), "joint box": int((~boxed & (own > 0)).sum())}
    return Reference(np.where(length > 0, length, np.nan), "longer side of the person box", counts)


def pck_reference(
    kind: str,
    xy: np.ndarray,
    visibility: np.ndarray,
    box_xywh: np.ndarray,
    skeleton: Skeleton,
    head_box_xyxy: np.ndarray | None = None,
) -> Reference:
    """PCK's reference, of `PCK_REFERENCES`; ``auto`` is the torso if the skeleton names one, else the box.

    Raises:
        PoseError: an unknown reference, or one that neither skeleton nor labels have.
    """
    if kind not in PCK_REFERENCES:
        raise PoseError(f"unknown PCK reference {kind!r}", hint=", ".join(PCK_REFERENCES))
    if kind == "pixels":
        return Reference(np.ones(len(xy)), "pixels", {})
    if kind in ("head-box", "head-segment"):
        boxes = np.full((len(xy), 4), np.nan) if head_box_xyxy is None else head_box_xyxy
        head = head_reference(xy, visibility, boxes, skeleton, kind)
        if head is None:
            what = "no head segment" if kind == "head-segment" else "no head boxes"
            raise PoseError(f"these labels have {what}", f"skeleton {skeleton.name!r}", "--pck-reference box")
        return head
    torso = torso_reference(xy, visibility, skeleton)
    if kind == "torso" and torso is None:
        raise PoseError("this skeleton names no torso joints", f"skeleton {skeleton.name!r}", "--pck-reference box")
    return box_reference(xy, visibility, box_xywh) if kind == "box" or torso is None else torso


def head_reference(
    xy: np.ndarray, visibility: np.ndarray, head_box_xyxy: np.ndarray, skeleton: Skeleton, kind: str = "auto"
) -> Reference | None:
    """PCKh's reference: 0.6 of the head box' diagonal, else the head segment; None when nobody can have either.

    Args:
        kind: of `PCKH_REFERENCES`; ``head-box`` and ``head-segment`` take one of the two only.
    """
    boxes = HEAD_BOX_SHARE * np.hypot(*(head_box_xyxy[:, 2:] - head_box_xyxy[:, :2]).T)
    if kind == "head-segment":
        boxes = np.full(len(xy), np.nan)
    boxed = boxes > 0
    segments = bool(skeleton.head) and kind != "head-box"
    if not segments and not boxed.any():
        return None
    segment = np.full(len(xy), np.nan)
    names = []
    if boxed.any():
        names.append("0.6 of the head box' diagonal")
    if segments and not boxed.all():
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


def correct(distance: np.ndarray, length: np.ndarray, threshold: float, strict: bool = False) -> np.ndarray:
    """(N, K) bool: ``distance <= threshold * length`` (``<`` if strict); False where the length is NaN.

    Args:
        distance: (N, K) pixels; length: (N,) pixels.
    """
    limit = (threshold * length)[:, None]
    return distance < limit if strict else distance <= limit


def area_under_curve(
    distance: np.ndarray, length: np.ndarray, grid: np.ndarray = PDJ_CURVE, strict: bool = False
) -> np.ndarray:
    """(N, K) each joint's share in the area under its curve of `correct` over ``grid``, by trapezoids, in [0, 1]."""
    step = np.diff(grid)
    weights = (np.append(step, 0.0) + np.append(0.0, step)) / 2 / (grid[-1] - grid[0])
    total = np.zeros(distance.shape)
    for weight, threshold in zip(weights, grid, strict=True):
        total += weight * correct(distance, length, float(threshold), strict)
    return total


def mean_over_grid(distance: np.ndarray, length: np.ndarray, grid: np.ndarray, strict: bool = False) -> np.ndarray:
    """(N, K) the share of the thresholds of ``grid`` at which each joint is correct: mmpose's AUC."""
    return np.mean([correct(distance, length, float(t), strict) for t in grid], axis=0)


def curve(
    distance: np.ndarray, length: np.ndarray, counted: np.ndarray, grid: np.ndarray, strict: bool = False
) -> list[float]:
    """Share of the ``counted`` (N, K) joints that are correct at each threshold of ``grid``; NaN without any."""
    total = int(counted.sum())
    if not total:
        return [float("nan")] * len(grid)
    return [float((correct(distance, length, float(t), strict) & counted).sum() / total) for t in grid]
