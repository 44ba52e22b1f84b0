"""How varied poses are, which way up people are and from where they are seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from posecli.checks.left_right import HIPS, SHOULDERS, roles_of, signed_widths
from posecli.checks.subject import Subject

SAME_POSE = 0.35  # root mean square distance of common joints, in units of a pose's own spread
MOST_POSES = 3000  # compared with one another; a seeded sample of more
_SECTORS = ("upright", "leaning right", "lying, head right", "head down right", "head down", "head down left",
            "lying, head left", "leaning left")  # fmt: skip


def normalised(subject: Subject) -> np.ndarray:
    """(M, K, 2) float64 poses of the people with at least half of their joints (and four), moved to the middle of their
    joints and scaled to a root mean square distance of 1 from it; missing joints NaN."""
    enough = (subject.visibility > 0).sum(axis=1) >= max(4, subject.skeleton.num_keypoints / 2)
    xy = subject.xy[enough & subject.shown]
    if not len(xy):
        return xy
    xy = xy - np.nanmean(xy, axis=1, keepdims=True)
    spread = np.sqrt(np.nanmean((xy**2).sum(axis=2), axis=1))
    return xy[spread > 0] / spread[spread > 0][:, None, None]


def variety(subject: Subject, seed: int = 0) -> dict[str, Any] | None:
    """How many different poses there are, in three ways; None with fewer than two whole people.

    ``clusters``: groups left when poses closer than `SAME_POSE` to a group's first member join it, in random order.
    ``effective``: exp of the entropy of the groups' sizes: the number of equally frequent poses that would be as
    varied. ``spread``: root mean square distance from the mean pose. ``dimensions``: (sum of the variances)^2 over the
    sum of their squares, along the principal axes (the participation ratio); ``dimensions_90``: axes that hold 90 % of
    the variance.
    """
    poses = normalised(subject)
    if len(poses) < 2:
        return None
    people = len(poses)
    poses = poses[np.random.default_rng(seed).permutation(people)[:MOST_POSES]]
    sizes = cluster_sizes(poses)
    shares = sizes / sizes.sum()
    there = np.isfinite(poses)
    mean = np.where(there, poses, 0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)  # of a joint nobody has: 0
    flat = np.where(there, poses, mean).reshape(len(poses), -1)
    variances = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    total = variances.sum()
    return {
        "people": people,
        "compared": len(poses),
        "clusters": len(sizes),
        "effective": float(np.exp(-(shares * np.log(shares)).sum())),
        "largest_share": float(shares.max()),
        "spread": float(np.sqrt(total / len(poses) / poses.shape[1])),
        "dimensions": float(total**2 / (variances**2).sum()) if total > 0 else 0.0,
        "dimensions_90": int(np.searchsorted(np.cumsum(variances), 0.9 * total) + 1) if total > 0 else 0,
    }


def cluster_sizes(poses: np.ndarray, radius: float = SAME_POSE) -> np.ndarray:
    """Sizes of the groups in which each pose joins the nearest first member within ``radius``, or starts a group."""
    leaders = np.empty_like(poses)
    sizes = np.zeros(len(poses), np.int64)
    count = 0
    for pose in poses:
        squares = ((leaders[:count] - pose) ** 2).sum(axis=2)
        common = np.isfinite(squares)
        number = common.sum(axis=1)
        apart = np.sqrt(np.where(common, squares, 0).sum(axis=1) / np.maximum(number, 1))
        apart[number < pose.shape[0] / 3] = np.inf
        nearest = int(apart.argmin()) if count else -1
        if count and apart[nearest] < radius:
            sizes[nearest] += 1
        else:
            leaders[count], sizes[count] = pose, 1
            count += 1
    return sizes[:count]


def orientation(subject: Subject) -> dict[str, Any] | None:
    """How many people are which way up (sectors of 45 degrees of the line from hips to shoulders) and seen from where;
    None for skeletons without shoulders and hips, or when nobody has them labelled."""
    roles = roles_of(subject.skeleton)
    if roles.shoulders is None or roles.hips is None:
        return None
    up = subject.xy[:, roles.shoulders].mean(axis=1) - subject.xy[:, roles.hips].mean(axis=1)
    known = np.isfinite(up).all(axis=1) & (np.abs(up).sum(axis=1) > 0) & subject.shown
    if not known.any():
        return None
    angle = np.degrees(np.arctan2(up[known, 0], -up[known, 1]))  # 0 upright, 90 head to the image's right
    sector = np.round(angle / 45).astype(int) % 8
    shoulders, hips = (v[known] for v in signed_widths(subject))
    wide = np.minimum(np.abs(shoulders) / SHOULDERS, np.abs(hips) / HIPS)
    with np.errstate(invalid="ignore"):
        front = (shoulders > 0) & (hips > 0) & (wide >= 0.4)
        back = (shoulders < 0) & (hips < 0) & (wide >= 0.4)
        side = (np.abs(shoulders) < 0.4 * SHOULDERS) & (np.abs(hips) < 0.4 * HIPS)
    views = {"front": int(front.sum()), "back": int(back.sum()), "side": int(side.sum())}
    return {
        "people": int(known.sum()),
        "trunk": {name: int((sector == n).sum()) for n, name in enumerate(_SECTORS)},
        "seen_from": {**views, "unclear": int(known.sum()) - sum(views.values())},
    }
