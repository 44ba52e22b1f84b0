"""Where people's hands, feet and heads were a moment ago: lines behind them that fade away."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence

import cv2
import numpy as np

from posecli.drawing import Style, identity_colour
from posecli.types import Instance, Skeleton

_WORDS = ("wrist", "ankle", "nose")
_LEAP = 0.5  # of the person's size: a longer step is no movement but another place
_SHIFT = 4  # OpenCV draws on a grid of 1/16 pixel
_LIMIT = 20_000.0
_WIDEST = 14.0  # pixels, as limbs are drawn at most


def trail_joints(skeleton: Skeleton) -> list[int]:
    """Joints whose way is drawn: wrists, ankles and nose, by their names; of a skeleton that has none of these the ends
    of its limbs, and of one without limbs all."""
    named = [k for k, name in enumerate(skeleton.keypoints) if any(word in name.lower() for word in _WORDS)]
    if named:
        return named
    degree = np.bincount(np.array(skeleton.edges, int).ravel(), minlength=skeleton.num_keypoints)
    return np.flatnonzero(degree == 1).tolist() or list(range(skeleton.num_keypoints))


class Trails:
    """The ways of the last frames; call `draw` once for each frame, in order.

    Args:
        frames: length of the trails.
    """

    def __init__(self, frames: int) -> None:
        self._frames: deque[dict[int, tuple[np.ndarray, float]]] = deque(maxlen=frames + 1)

    def clear(self) -> None:
        """What comes next has no past (a cut)."""
        self._frames.clear()

    def draw(
        self, image: np.ndarray, people: Sequence[Instance], skeleton: Skeleton, style: Style | None = None
    ) -> np.ndarray:
        """The image (H, W, 3) uint8 with the trails of people who have an id; drawn before the people themselves.

        Joints that ``style`` does not draw leave a gap. Colours are those of identities.
        """
        least = (style or Style()).least_joint
        joints = trail_joints(skeleton)
        now = {}
        for person in people:
            if person.track_id is not None:
                found = (person.visibility > 0) & (person.score >= least)
                xy = np.where(found[:, None], person.xy, np.nan)[joints].astype(np.float64)
                now[person.track_id] = np.clip(xy, -_LIMIT, _LIMIT), person_size(person)
        self._frames.append(now)
        canvas = np.ascontiguousarray(image).copy()
        # From the oldest to the newest, so that what is fresh lies on top.
        steps = list(self._frames)
        for age, (before, after) in enumerate(itertools.pairwise(steps), 1):
            weight = age / max(len(steps) - 1, 1)
            lines: dict[int, list[np.ndarray]] = {}
            for number in now.keys() & before.keys() & after.keys():
                (a, size), (b, _) = before[number], after[number]
                with np.errstate(invalid="ignore"):
                    real = np.linalg.norm(b - a, axis=1) < _LEAP * size
                lines.setdefault(number, []).extend(np.stack([a[real], b[real]], axis=1))
            _blend(canvas, lines, weight, max((s for _, s in now.values()), default=100.0))
        return canvas


def person_size(person: Instance) -> float:
    """Longer side in pixels of the person's box, without one of the box around the joints; 0 without either."""
    if person.box_xyxy is not None:
        return float((np.asarray(person.box_xyxy)[2:] - np.asarray(person.box_xyxy)[:2]).max())
    found = person.xy[person.visibility > 0]
    return float(np.ptp(found, axis=0).max()) if len(found) else 0.0


def _blend(canvas: np.ndarray, lines: dict[int, list[np.ndarray]], weight: float, size: float) -> None:
    """Lines in the colours of their identities, as strong as ``weight`` in (0, 1], over the canvas."""
    if not any(lines.values()):
        return
    points = np.concatenate([np.concatenate(ends) for ends in lines.values() if ends])
    thickness = max(1, round(min(size / 110, _WIDEST)))  # boxes of streams may have any size
    height, width = canvas.shape[:2]
    x0, y0 = np.clip(np.floor(points.min(0)) - thickness - 2, 0, [width, height]).astype(int)
    x1, y1 = np.clip(np.ceil(points.max(0)) + thickness + 3, 0, [width, height]).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    part = canvas[y0:y1, x0:x1]
    drawn = part.copy()
    for number, ends in lines.items():
        for line in ends:
            a, b = np.round((line - (x0, y0)) * (1 << _SHIFT)).astype(int).tolist()
            cv2.line(drawn, a, b, identity_colour(number), thickness, cv2.LINE_AA, _SHIFT)
    cv2.addWeighted(drawn, weight, part, 1 - weight, 0, dst=part)
