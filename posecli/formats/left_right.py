"""Whether the names left and right agree with the pictures, told from geometry alone.

A person who faces the camera has the left shoulder on the picture's right, and with it the left hip, knee, ankle,
elbow, eye and ear; from behind all of them lie the other way. Two things can therefore be seen without the pictures:

- *The whole set*: most photographs show people from the front. Where both eyes (or ears and nose) are labelled visible,
  the person surely does. If among upright people whose shoulders are clearly apart most have the left one on the
  picture's left, left and right look exchanged throughout.
- *One pair*: a pair of joints (hips, say) that lies the other way round than the shoulders in most people looks
  exchanged by itself: two names swapped in a list of joints.

Single people prove nothing (turned torsos, crossed legs, slips of the labellers: some 9 % of LSPET), so only shares
over many people are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.formats.joint_mapping import points_of
from posecli.types import Dataset

# Fewer people than this, or a smaller share, say nothing.
FEWEST = 20
SHARE = 0.7
# Horizontal distance of a pair that counts as clearly apart, in lengths of the trunk.
_APART = 0.2


@dataclass(frozen=True)
class Sides:
    """How many people speak for and against the names.

    Attributes:
        people: upright people whose shoulders are clearly apart.
        facing: of them, those known to face the camera by their visible face; ``facing_reversed`` of these have the
            left shoulder on the picture's left.
        reversed: of ``people``, those with the left shoulder on the picture's left.
        pairs: pair of names to (people in whom the pair is clearly apart, those of them in whom it lies the other way
            round than the shoulders).
    """

    people: int
    facing: int
    facing_reversed: int
    reversed: int
    pairs: dict[tuple[str, str], tuple[int, int]]

    @property
    def whole_set_suspect(self) -> tuple[int, int] | None:
        """(against the names, all) where that looks like an exchange throughout, else None. Those who surely face the
        camera decide where there are enough of them."""
        if self.facing >= FEWEST:
            against, total = self.facing_reversed, self.facing
        else:
            against, total = self.reversed, self.people
        return (against, total) if total >= FEWEST and against > SHARE * total else None

    @property
    def suspect_pairs(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Pairs that look exchanged by themselves: name pair to (against, all)."""
        return {
            pair: (against, total)
            for pair, (total, against) in self.pairs.items()
            if total >= FEWEST and against > SHARE * total
        }


def look_at_sides(dataset: Dataset) -> Sides:
    """Counts over all labelled people; zeros where the set has no shoulders or no hips."""
    points = {point: i for i, point in enumerate(points_of(dataset.skeleton))}
    trunk = [points.get(p, -1) for p in ("left_shoulder", "right_shoulder", "left_hip", "right_hip")]
    people = [p for r in dataset.records for p in r.instances if not p.ignore]
    if min(trunk) < 0 or not people:
        return Sides(0, 0, 0, 0, {})
    there = np.array([p.visibility for p in people])
    xy = np.where(there[..., None] > 0, np.array([p.xy for p in people], dtype=np.float64), np.nan)
    shoulders, hips = xy[:, trunk[:2]].mean(axis=1), xy[:, trunk[2:]].mean(axis=1)
    with np.errstate(invalid="ignore"):
        down = hips[:, 1] - shoulders[:, 1]
        length = np.hypot(*(hips - shoulders).T)
        width = xy[:, trunk[0], 0] - xy[:, trunk[1], 0]
        usable = (down > 0.8 * length) & (np.abs(width) > _APART * length)
    xy, there, length, sign = xy[usable], there[usable], length[usable], np.sign(width[usable])
    facing = _facing(there, points)
    pairs = {}
    for left, right in dataset.skeleton.flip_pairs:
        if left == trunk[0] or left == trunk[1]:
            continue
        with np.errstate(invalid="ignore"):
            apart = xy[:, left, 0] - xy[:, right, 0]
            clear = np.abs(apart) > _APART * length * (0.25 if _of_the_face(dataset.skeleton.keypoints[left]) else 1)
        pair = (dataset.skeleton.keypoints[left], dataset.skeleton.keypoints[right])
        pairs[pair] = (int(clear.sum()), int((np.sign(apart[clear]) != sign[clear]).sum()))
    return Sides(len(sign), int(facing.sum()), int((sign[facing] < 0).sum()), int((sign < 0).sum()), pairs)


def _facing(there: np.ndarray, points: dict[str, int]) -> np.ndarray:
    """(N,) bool: nose and both eyes are labelled visible."""
    face = [points[p] for p in ("nose", "left_eye", "right_eye") if p in points]
    if len(face) < 3:
        return np.zeros(len(there), bool)
    return np.asarray((there[:, face] == 2).all(axis=1))


def _of_the_face(name: str) -> bool:
    return any(part in name for part in ("eye", "ear", "mouth"))


def describe_sides(sides: Sides) -> list[str]:
    """A sentence for each thing that looks exchanged; nothing for a set that looks right."""
    said = []
    if sides.whole_set_suspect is not None:
        against, total = sides.whole_set_suspect
        sure = sides.facing >= FEWEST
        who = "people who face the camera" if sure else "upright people"
        what = f"{against} of {total} {who} have the left shoulder on the picture's left"
        doubt = "" if sure else ", unless most are seen from behind"
        said.append(f"left and right look exchanged{doubt}: {what}")
    for (left, right), (against, total) in sides.suspect_pairs.items():
        said.append(f"{left} and {right} look exchanged: in {against} of {total} people they lie against the shoulders")
    return said
