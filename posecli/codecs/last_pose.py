"""Somebody's last pose as a further channel of the crop: which of the people in it is meant.

Where people overlap a crop shows several, and a network that sees nothing else takes the one in front. The pose of the
frame before, drawn into the crop, tells it whom it followed. Only the trunk is drawn, up to the head and down to the
hips: a network that is shown the limbs copies them, and in a frame or two they are elsewhere. Left and right are drawn
in different greys, so it knows which way the person faced.

The idea that a network sees the pose so far is that of iterative error feedback (Carreira et al., "Human Pose
Estimation with Iterative Error Feedback", CVPR 2016, https://arxiv.org/abs/1507.06550, Sec. 2), here over time.
`posecli.augment.remembered` makes last poses for learning.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

from posecli.types import Skeleton

__all__ = ["LEAST_SCORE", "drawn", "is_trunk"]

LEAST_SCORE = 0.15  # from which on a joint of a last pose is shown

_LIMBS = ("elbow", "wrist", "hand", "knee", "ankle", "foot", "toe", "heel")
_LEFT, _RIGHT, _MIDDLE = 255, 110, 180
_SHIFT = 3  # bits of a pixel's fraction that OpenCV draws by


def is_trunk(name: str) -> bool:
    """Whether a joint of this name is drawn."""
    return not any(part in name for part in _LIMBS)


def drawn(xy: np.ndarray, there: np.ndarray, size_wh: tuple[int, int], skeleton: Skeleton) -> np.ndarray:
    """The trunk of a pose as a picture.

    Args:
        xy: (K, 2) joints in the crop's pixels; those that are not there may be NaN.
        there: (K,) bool, which are known.
        size_wh: of the crop, both even.
        skeleton: of the joints.

    Returns:
        (h, w) uint8, 0 where nothing is; all 0 if no joint of the trunk is there.
    """
    width, height = size_wh
    trunk, lines, discs = _parts(skeleton)
    there = np.asarray(there, bool) & trunk
    if not there.any():
        return np.zeros((height, width), np.uint8)
    # At half the size, which the network reduces it to at once; OpenCV wants places that are not too far outside.
    small = np.zeros((height // 2, width // 2), np.uint8)
    far = 4 * max(size_wh)
    places = np.round(np.clip(np.where(there[:, None], xy, 0), -far, far) / 2 * (1 << _SHIFT)).astype(int).tolist()
    known = there.tolist()
    for a, b, grey in lines:
        if known[a] and known[b]:
            cv2.line(small, places[a], places[b], grey, 2, cv2.LINE_8, _SHIFT)
    for k, grey in discs:
        if known[k]:
            cv2.circle(small, places[k], 2 << _SHIFT, grey, -1, cv2.LINE_8, _SHIFT)
    return cv2.resize(small, size_wh, interpolation=cv2.INTER_LINEAR)


@cache
def _parts(skeleton: Skeleton) -> tuple[np.ndarray, list[tuple[int, int, int]], list[tuple[int, int]]]:
    """What is drawn of a skeleton: (K,) bool, its joints; its edges and its joints, each with a grey."""
    trunk = np.array([is_trunk(name) for name in skeleton.keypoints])
    lines = [(a, b, _grey(skeleton, a, b)) for a, b in skeleton.edges if trunk[a] and trunk[b]]
    return trunk, lines, [(k, _grey(skeleton, k)) for k in np.flatnonzero(trunk).tolist()]


def _grey(skeleton: Skeleton, *joints: int) -> int:
    names = [skeleton.keypoints[k] for k in joints]
    if any("left" in name for name in names):
        return _LEFT
    return _RIGHT if any("right" in name for name in names) else _MIDDLE
