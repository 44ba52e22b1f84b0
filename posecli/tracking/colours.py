"""What people wear, in eighteen small numbers each: the colours of torso and thighs, as they stand in the stream.

Points are taken at fixed places between shoulders and hips and along both thighs; those outside the picture or on
somebody else's body (a stroke as thick as a trunk, four as thick as legs) are left out. Of what remains each part keeps
the lower fifth, the median and the upper fifth of each channel of CIE L*a*b* (as OpenCV has it, 0 to 255): enough for
stripes, and a third of the points may be wrong. Lightness counts a fifth of what the colours proper do when people are
compared, since light and shade change it most.

Written as ``"colours": [[L, a, b, L, a, b, L, a, b], null]``: torso, thighs; null where most of a part is not seen. So
identities can be told wherever a stream is read: in `infer`, when a run is resumed, when segments are joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import cv2
import numpy as np

from posecli.errors import PoseError
from posecli.types import Instance, Skeleton

KEY = "colours"
PARTS = ("torso", "thighs")

_JOINTS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee")
_ANKLES = ("left_ankle", "right_ankle")
_DOWN = np.linspace(0.1, 0.9, 7)  # of the torso's length
_ACROSS = np.linspace(-1, 1, 5)
_ALONG = np.linspace(0.25, 0.95, 8)  # of a thigh's length
_ASIDE = np.array([-0.05, 0.0, 0.05])  # of the torso's length
_WIDE = 0.7  # of the half width between shoulders or hips
_NARROW = 0.1  # of the torso's length: half width of a torso seen from the side
_TRUNK = 0.28  # of the torso's length: half width of somebody in front
_LEG = 0.13
_LEAST = 0.4  # share of a part's points that must be free
_FIFTHS = (0.2, 0.5, 0.8)
_WEIGHTS = np.tile([0.5 * 100 / 255, 1.0, 1.0], 3) / 3  # L*, a*, b* of the three quantiles; L* in its own unit, halved


@lru_cache(maxsize=8)
def _places(names: tuple[str, ...]) -> tuple[list[int], list[int]] | None:
    """Columns of the joints between which is looked, and of the ankles if there; None where the skeleton lacks them."""
    if not set(_JOINTS) <= set(names):
        return None
    return [names.index(n) for n in _JOINTS], [names.index(n) for n in _ANKLES if n in names]


def described(
    people: Sequence[Instance], image: np.ndarray, skeleton: Skeleton, min_score: float = 0.0
) -> tuple[Instance, ...]:
    """The same people with ``colours`` among their further keys, where enough of them is seen.

    Args:
        people: of one frame, in pixels of ``image``.
        image: (H, W, 3) uint8 RGB.
        skeleton: with shoulders, hips and knees; people of others stay as they are.
        min_score: people below it get none, and hide nobody.
    """
    places = _places(skeleton.keypoints)
    rows = [i for i, p in enumerate(people) if p.person_score >= min_score]
    if places is None or not rows:
        return tuple(people)
    xy = np.stack([np.where(people[i].visibility[:, None] > 0, people[i].xy, np.nan) for i in rows]).astype(np.float32)
    found = _colours(xy, image, *places)
    result = list(people)
    for i, parts in zip(rows, found, strict=True):
        extra = {k: v for k, v in people[i].extra.items() if k != KEY}
        if any(p is not None for p in parts):
            extra[KEY] = parts
        result[i] = people[i].changed(extra=extra)
    return tuple(result)


def make_ready() -> None:
    """Lets OpenCV make its table of colours now, which takes it 0.1 s, not at the first look."""
    cv2.cvtColor(np.zeros((1, 1, 3), np.uint8), cv2.COLOR_RGB2LAB)


def read(value: Any) -> np.ndarray:
    """(2, 9) float: what stands under ``colours``; NaN in parts that were not seen. PoseError on anything else."""
    result = np.full((len(PARTS), 9), np.nan)
    if value is None:
        return result
    good = isinstance(value, list) and len(value) == len(PARTS)
    for row, part in enumerate(value if good else ()):
        if part is None:
            continue
        good &= isinstance(part, list) and len(part) == 9
        good = good and set(map(type, part)) == {int} and min(part) >= 0 and max(part) <= 255
        if not good:
            break
        result[row] = part
    if not good:
        raise PoseError(f"{KEY} must be two parts, each null or nine numbers from 0 to 255", str(value)[:80])
    return result


def unlike(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How far colours (..., 2, 9) are from others, of any shape that fits: (...), about 7 for two looks at one person
    and 27 for two people dressed at random; NaN where no part is known of both."""
    apart = np.einsum("...pc,c->...p", np.abs(some - others), _WEIGHTS)
    known = ~np.isnan(apart)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, apart, 0).sum(-1), np.nan) / np.maximum(count, 1)


def _colours(xy: np.ndarray, image: np.ndarray, joints: list[int], ankles: list[int]) -> list[list[list[int] | None]]:
    """Of people (N, K, 2), NaN where a joint is missing: the numbers of each part, or None."""
    torso, thighs, length = _points(xy[:, joints])
    points = np.concatenate([torso, thighs], axis=1)
    height, width = image.shape[:2]
    inside = (points > -0.5) & (points < (width - 0.5, height - 0.5))  # comparisons with NaN are False
    free = np.asarray(inside.all(axis=-1))
    _uncover(free, points, xy, length, joints, ankles)
    at = np.rint(np.where(free[..., None], points, 0)).astype(np.int64)
    lab = cv2.cvtColor(image[at[..., 1], at[..., 0]], cv2.COLOR_RGB2LAB)
    # What is not free is put last, above every value.
    lab = np.where(free[..., None], lab.astype(np.int16), 999)
    result: list[list[list[int] | None]] = [[] for _ in xy]
    for part in (slice(0, torso.shape[1]), slice(torso.shape[1], None)):
        ordered = np.sort(lab[:, part], axis=1)
        count = free[:, part].sum(1)
        places = np.rint(np.asarray(_FIFTHS) * (count[:, None] - 1)).astype(np.int64)
        values = np.take_along_axis(ordered, np.maximum(places, 0)[:, :, None], axis=1).reshape(len(xy), -1)
        enough = count >= _LEAST * ordered.shape[1]
        rows = cast("list[list[int]]", values.tolist())
        for parts, there, numbers in zip(result, enough, rows, strict=True):
            parts.append(numbers if there else None)
    return result


def _points(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where is looked, of joints (N, 6, 2): (N, P, 2) on the torso, (N, Q, 2) on the thighs; (N,) torso lengths."""
    left_shoulder, right_shoulder, left_hip, right_hip, left_knee, right_knee = xy.transpose(1, 0, 2)
    top, bottom = (left_shoulder + right_shoulder) / 2, (left_hip + right_hip) / 2
    length = np.linalg.norm(bottom - top, axis=-1)
    down = _DOWN.astype(np.float32)[:, None]
    middle = top[:, None] + (bottom - top)[:, None] * down
    half = ((right_shoulder - left_shoulder)[:, None] * (1 - down) + (right_hip - left_hip)[:, None] * down) / 2
    size = np.linalg.norm(half, axis=-1, keepdims=True)
    across = np.where(size > 1e-6, half / np.maximum(size, 1e-6), np.array([1, 0], np.float32))
    across = across * np.maximum(_WIDE * size, _NARROW * length[:, None, None])
    torso = middle[:, :, None] + across[:, :, None] * _ACROSS.astype(np.float32)[:, None]
    hips, knees = np.stack([left_hip, right_hip], 1), np.stack([left_knee, right_knee], 1)
    way = knees - hips
    aside = np.stack([-way[..., 1], way[..., 0]], -1) / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)
    aside = aside * length[:, None, None]
    centre = hips[:, :, None] + way[:, :, None] * _ALONG.astype(np.float32)[:, None]
    thighs = centre[:, :, :, None] + aside[:, :, None, None] * _ASIDE.astype(np.float32)[:, None]
    return torso.reshape(len(xy), -1, 2), thighs.reshape(len(xy), -1, 2), length


def _uncover(
    free: np.ndarray, points: np.ndarray, xy: np.ndarray, length: np.ndarray, joints: list[int], ankles: list[int]
) -> None:
    """Takes from ``free`` (N, P) the points that lie on somebody else's body."""
    body = xy[:, joints + ankles]
    known = ~np.isnan(body)
    low = np.where(known, body, np.inf).min(1) - _TRUNK * length[:, None]
    high = np.where(known, body, -np.inf).max(1) + _TRUNK * length[:, None]
    meet = (low[:, None] < high[None]).all(-1) & (low[None] < high[:, None]).all(-1)
    np.fill_diagonal(meet, False)
    one, other = np.nonzero(meet)
    if not len(one):
        return
    shoulders, hips, knees = body[:, :2], body[:, 2:4], body[:, 4:6]
    starts = [shoulders.mean(1), *hips.transpose(1, 0, 2)]
    ends = [hips.mean(1), *knees.transpose(1, 0, 2)]
    if len(ankles) == 2:
        starts += [*knees.transpose(1, 0, 2)]
        ends += [*body[:, 6:8].transpose(1, 0, 2)]
    thick = np.stack([_LEG * length] * len(starts), 1)
    thick[:, 0] = np.maximum(_TRUNK * length, 0.55 * np.linalg.norm(shoulders[:, 0] - shoulders[:, 1], axis=-1))
    start, along = np.stack(starts, 1), np.stack(ends, 1) - np.stack(starts, 1)
    # (pairs, P, strokes, 2): from the point of a stroke that is nearest.
    offset = points[one][:, :, None] - start[other][:, None]
    along = along[other][:, None]
    share = (offset * along).sum(-1) / np.maximum((along * along).sum(-1), 1e-6)
    offset = offset - np.clip(share, 0, 1)[..., None] * along
    hidden = ((offset * offset).sum(-1) < (thick[other] ** 2)[:, None]).any(-1)
    first = np.flatnonzero(np.diff(one, prepend=-1))  # pairs come in the order of `one`
    free[one[first]] &= ~np.logical_or.reduceat(hidden, first, axis=0)
