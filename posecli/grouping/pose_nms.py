"""Which of several poses of one person to keep: DEKR's rule, and hard and soft suppression by OKS.

DEKR: Geng et al., CVPR 2021, https://arxiv.org/abs/2104.02300, Sec. 3.4; HRNet/DEKR@7a30313 (`lib/core/nms.py`).
OKS: Papandreou et al., "Towards Accurate Multi-person Pose Estimation in the Wild", CVPR 2017 (Sec. 3.3);
leoxiaobin/deep-high-resolution-net.pytorch@6f69e46 (`lib/nms/nms.py`). Soft: Bodla et al., "Soft-NMS", ICCV 2017,
Eq. 3, with the overlap taken from OKS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def pose_extent(xy: Tensor) -> Tensor:
    """(..., K, 2) to (...): W^2 + H^2 of each pose."""
    return (xy.amax(-2) - xy.amin(-2)).square().sum(-1)


def related_poses(xy: Tensor, distance: float = 0.05, joints: int = 8) -> Tensor:
    """Which poses DEKR takes for the same person.

    Row i, column j: more than ``joints`` joints of pose j lie nearer to those of pose i than ``distance`` times the
    size of pose i, sqrt(W^2 + H^2). Not symmetric, because the size is that of the row's pose. A pose of a skeleton of
    one joint has no size: it is related to itself alone.

    Args:
        xy: (..., N, K, 2).

    Returns:
        (..., N, N) bool.
    """
    gaps = (xy.unsqueeze(-3) - xy.unsqueeze(-4)).square().sum(-1).sqrt()
    if xy.shape[-2] == 1:
        return torch.eye(xy.shape[-3], dtype=torch.bool, device=xy.device).expand(gaps.shape[:-1])
    limit = distance * pose_extent(xy).sqrt()
    return (gaps < limit[..., :, None, None]).sum(-1) > joints


def keep_best_related(related: np.ndarray, quality: np.ndarray) -> list[int]:
    """DEKR's suppression given the relation.

    In the order of rows: a row that was ignored is passed over; of its related poses the one of best quality is kept,
    unless it was ignored already; all related ones are then ignored.

    Args:
        related: (N, N) bool from `related_poses`.
        quality: (N,) mean heat of each pose.

    Returns:
        Indices kept, in the order found. (A pose so small that it is not related to itself is not kept either.)
    """
    ignored = np.zeros(len(quality), dtype=bool)
    kept = []
    for i in range(len(quality)):
        if ignored[i]:
            continue
        group = np.flatnonzero(related[i])
        if not len(group):
            continue
        best = int(group[np.argmax(quality[group])])
        if ignored[best]:
            continue
        kept.append(best)
        ignored[group] = True
    return kept


def dekr_nms(xy: Tensor, quality: Tensor, distance: float = 0.05, joints: int = 8) -> list[int]:
    """Indices of the poses (N, K, 2) that DEKR keeps, by quality (N,): mean heat at the regressed keypoints."""
    return keep_best_related(related_poses(xy, distance, joints).cpu().numpy(), quality.cpu().numpy())


def oks_matrix(
    keypoints: np.ndarray, areas: np.ndarray, sigmas: Sequence[float] | np.ndarray, min_score: float | None = None
) -> np.ndarray:
    """Similarity of poses to each other: mean over joints of exp(-d^2 / (2 (2 sigma)^2 (area_i + area_j) / 2)).

    Args:
        keypoints: (N, K, 3) x, y, score.
        areas: (N,) square pixels.
        sigmas: (K,) of the skeleton.
        min_score: take only joints whose score in the second pose j is above it (0 where there is none). The official
            code means to ask both poses; what it does, ``a and b`` of two lists, asks the second only.

    Returns:
        (N, N) float64; 1 on the diagonal (unless ``min_score`` leaves a pose without joints).
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    areas = np.asarray(areas, dtype=np.float64)
    variances = (2 * np.asarray(sigmas, dtype=np.float64)) ** 2
    squared = ((keypoints[:, None, :, :2] - keypoints[None, :, :, :2]) ** 2).sum(-1)
    mean_area = (areas[:, None] + areas[None]) / 2 + np.spacing(1)
    similarity = np.exp(-squared / variances / mean_area[..., None] / 2)
    if min_score is None:
        return similarity.mean(-1)
    counted = (keypoints[..., 2] > min_score)[None]
    count = counted.sum(-1)
    return np.where(count > 0, (similarity * counted).sum(-1) / np.maximum(count, 1), 0.0)


def hrnet_pose_score(box_score: float, joint_scores: np.ndarray, min_score: float = 0.2) -> float:
    """HRNet's score of a person: the box's times the mean of the joint scores above ``min_score`` (0 without any).

    leoxiaobin/deep-high-resolution-net.pytorch@6f69e46 (`lib/dataset/coco.py`, before the suppression by OKS).
    """
    counted = np.asarray(joint_scores)[np.asarray(joint_scores) > min_score]
    return float(box_score * counted.mean()) if len(counted) else 0.0


def oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
    min_score: float | None = None,
) -> list[int]:
    """Drops poses more similar than ``threshold`` to a better one; indices kept, best score first.

    Arguments as in `oks_matrix`, ``scores`` (N,) of the poses.
    """
    return unlike(oks_matrix(keypoints, areas, sigmas, min_score), scores, threshold)


def unlike(similarity: np.ndarray, scores: np.ndarray, threshold: float) -> list[int]:
    """Indices, best score (N,) first, without those more similar (N, N) than ``threshold`` to a better one."""
    order = np.argsort(scores)[::-1]
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[similarity[best, order] <= threshold]
    return kept


def soft_oks_nms(
    keypoints: np.ndarray,
    scores: np.ndarray,
    areas: np.ndarray,
    sigmas: Sequence[float] | np.ndarray,
    threshold: float = 0.9,
    min_score: float | None = None,
    max_poses: int = 20,
) -> tuple[list[int], np.ndarray]:
    """Lowers the scores of poses similar to a better one instead of dropping them.

    After each pick the remaining scores are multiplied by exp(-OKS^2 / ``threshold``) and sorted again.

    Returns:
        At most ``max_poses`` indices, best first, and their scores at the time they were picked.
    """
    similarity = oks_matrix(keypoints, areas, sigmas, min_score)
    order = np.argsort(scores)[::-1]
    remaining = np.asarray(scores, dtype=np.float64)[order]
    kept: list[int] = []
    picked: list[float] = []
    while len(order) and len(kept) < max_poses:
        best = order[0]
        kept.append(int(best))
        picked.append(float(remaining[0]))
        order, remaining = order[1:], remaining[1:] * np.exp(-(similarity[best, order[1:]] ** 2) / threshold)
        again = np.argsort(remaining)[::-1]
        order, remaining = order[again], remaining[again]
    return kept, np.array(picked)
