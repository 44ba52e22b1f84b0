"""Percentage of correct parts (PCP), strict and relaxed.

Source: Ferrari, Marin-Jimenez & Zisserman, Progressive Search Space Reduction for Human Pose Estimation, CVPR 2008; the
strict reading (both ends, not their mean) is that of Pishchulin et al., Articulated people detection and pose
estimation: reshaping the future, CVPR 2012; relaxed: the mean of the two ends' distances is compared, as the code of
Eichner et al. (2D Articulated Human Pose Estimation and Retrieval, IJCV 2012) does.
Agrees with asanakoy/deeppose_tf@ed11cc6.
"""

from __future__ import annotations

import numpy as np

from posecli.types import Skeleton

_LIMB_JOINTS = {
    frozenset(pair) for pair in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"))
}


def limbs_of(skeleton: Skeleton) -> tuple[tuple[tuple[int, int], ...], str]:
    """The limbs that PCP counts and where they come from.

    The skeleton's own limbs; where it states none, its edges between shoulder, elbow and wrist or hip, knee and ankle
    of one side. Both may be empty.
    """
    if skeleton.limbs:
        return skeleton.limbs, "limbs of the skeleton"
    chosen = []
    for a, b in skeleton.edges:
        (side_a, _, joint_a), (side_b, _, joint_b) = (skeleton.keypoints[i].partition("_") for i in (a, b))
        if side_a == side_b and side_a in ("left", "right") and frozenset((joint_a, joint_b)) in _LIMB_JOINTS:
            chosen.append((a, b))
    return tuple(chosen), "arm and leg edges of the skeleton"


def limb_names(skeleton: Skeleton, limbs: tuple[tuple[int, int], ...]) -> list[str]:
    """One name per limb, e.g. ``left_hip-left_knee``."""
    return [f"{skeleton.keypoints[a]}-{skeleton.keypoints[b]}" for a, b in limbs]


def pcp_strict(
    gt_xy: np.ndarray,
    visibility: np.ndarray,
    distance: np.ndarray,
    limbs: tuple[tuple[int, int], ...],
    threshold: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Which limbs are correct: **both** ends within ``threshold`` times the labelled limb's length (``<=``).

    Args:
        gt_xy: (N, K, 2) labelled joints, pixels; visibility: (N, K).
        distance: (N, K) pixels between label and prediction, infinite where nothing was found.
        limbs: L index pairs.

    Returns:
        (N, L) bool correct; (N, L) bool counted: both ends labelled and not at the same place.
    """
    a, b, limit, counted = _limits(gt_xy, visibility, limbs, threshold)
    return (distance[:, a] <= limit) & (distance[:, b] <= limit) & counted, counted


def pcp_relaxed(
    gt_xy: np.ndarray,
    visibility: np.ndarray,
    distance: np.ndarray,
    limbs: tuple[tuple[int, int], ...],
    threshold: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """As `pcp_strict`, but the **mean** of the two ends' distances is compared; an end not found is infinitely far."""
    a, b, limit, counted = _limits(gt_xy, visibility, limbs, threshold)
    return ((distance[:, a] + distance[:, b]) / 2 <= limit) & counted, counted


def _limits(
    gt_xy: np.ndarray, visibility: np.ndarray, limbs: tuple[tuple[int, int], ...], threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The two ends of each limb, (N, L) pixels allowed, (N, L) bool limbs that count."""
    a, b = np.array(limbs, np.int64).reshape(-1, 2).T
    length = np.hypot(*np.moveaxis(gt_xy[:, a] - gt_xy[:, b], -1, 0))
    counted = (visibility[:, a] > 0) & (visibility[:, b] > 0) & (length > 0)
    return a, b, threshold * np.where(counted, length, 0.0), counted
