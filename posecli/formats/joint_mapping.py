"""From one joint set to another through the points that the names mean.

Three steps, in this order, for each joint of the target:

1. *Kept*: the source has the same point. Names are compared without differences of spelling (``RHip``, ``hip_right``,
   ``right-hip``), and a few points have two names (`posecli.skeletons.ALIASES`: MPII's ``upper_neck`` is PoseTrack's
   ``head_bottom``, CrowdPose's ``top_head`` is ``head_top``).
2. *Derived*: the source lacks it, and it is stated to be a midpoint (`MIDPOINTS`): pelvis, hip, mid hip and root of the
   two hips; neck and thorax of the two shoulders; spine of hips and shoulders. Its visibility and score are the lowest
   of its parents', and it is missing where one of them is. The joints derived for a person stand in
   ``Instance.extra["derived"]``.
3. *Absent*: neither; missing in everybody.

What is not equated. One name may say different points in different sets, and points that lie close are not the same:

- ``head`` is the top of the head in Halpe (and in CrowdPose as published), the face in JHMDB, some point of the head in
  Penn Action, Human3.6M and the MARS lab. Only the first is ``head_top``; the others meet nobody else's ``head``.
- ``neck`` of OpenPose is by its definition the midpoint of the shoulders; LSP, CrowdPose, AI Challenger, Halpe and
  JHMDB have a labelled one. Between the two kinds the neck is derived from the shoulders, and marked so.
- ``upper_neck`` / ``head_bottom`` (where neck and head meet), ``neck`` (its base) and ``neck_base`` (Human3.6M) are
  three points. Likewise ``pelvis`` (MPII, labelled), ``mid_hip`` (OpenPose, a midpoint), ``hip`` (Halpe) and ``root``
  (Human3.6M): each can be derived from the hips, none is taken for another.
- ``left_foot`` and ``right_foot`` of Human3.6M are its ankle joints, and meet ankles.
- Toes (``left_big_toe``, ``left_foot_index``) and hands (``left_hand``, ``left_wrist``) stay apart.

A set that is not one of `SKELETONS` says nothing of its points but their names: there, names decide.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.skeletons import ALIASES, SKELETONS
from posecli.types import Instance, Skeleton

_SHOULDERS = ("left_shoulder", "right_shoulder")
_HIPS = ("left_hip", "right_hip")
# The point that a joint is the middle of, when a set lacks it.
MIDPOINTS: dict[str, tuple[str, ...]] = {
    "pelvis": _HIPS,
    "hip": _HIPS,
    "hips": _HIPS,
    "mid_hip": _HIPS,
    "root": _HIPS,
    "neck": _SHOULDERS,
    "thorax": _SHOULDERS,
    "mid_shoulder": _SHOULDERS,
    "spine": _HIPS + _SHOULDERS,
}
# Joints whose name says another point than the same name elsewhere: (set, joint) to a name of the point.
_MEANING = {
    ("halpe26", "head"): "head_top",
    ("jhmdb15", "head"): "head_of_jhmdb",
    ("pennaction13", "head"): "head_of_pennaction",
    ("h36m17", "head"): "head_of_h36m",
    ("mars22", "head"): "head_of_mars",
    ("openpose_body25", "neck"): "mid_shoulder",
    ("openpose_coco18", "neck"): "mid_shoulder",
    ("h36m17", "left_foot"): "left_ankle",
    ("h36m17", "right_foot"): "right_ankle",
}
_SIDES = {"l": "left", "r": "right", "left": "left", "right": "right"}


def point_name(name: str) -> str:
    """A joint's name without differences that mean nothing: ``RHip``, ``rightHip``, ``hip_r`` and ``Right hip`` are
    ``right_hip``; aliases are one name."""
    text = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", str(name).strip())
    words = [w for w in re.split(r"[\s_\-.]+", text.lower()) if w]
    if len(words) > 1:
        if words[0] in _SIDES:
            words[0] = _SIDES[words[0]]
        elif words[-1] in _SIDES:
            words = [_SIDES[words[-1]], *words[:-1]]
    plain = "_".join(words)
    return ALIASES.get(plain, plain)


def points_of(skeleton: Skeleton) -> list[str]:
    """The point that each joint of the set means; no two are the same."""
    base = skeleton.name.removesuffix("_reordered")
    points: list[str] = []
    for name in skeleton.keypoints:
        point = _MEANING.get((base, name)) or point_name(name)
        points.append(point if point not in points else name)
    return points


@dataclass(frozen=True)
class SkeletonChange:
    """What a change of joint set does.

    Attributes:
        source, target: names of the sets.
        lost: the source's joints that the target has no place for (their part in a derived joint apart).
        absent: the target's joints that stay missing in everybody.
        kept: the target's joints that are the source's.
        derived: the target's joints that are midpoints, each with the source's joints it lies between.
    """

    source: str
    target: str
    lost: tuple[str, ...]
    absent: tuple[str, ...]
    kept: tuple[str, ...] = ()
    derived: Mapping[str, tuple[str, ...]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values for ``--json``."""
        return {
            "source": self.source, "target": self.target, "kept": list(self.kept),
            "derived": {k: list(v) for k, v in (self.derived or {}).items()},
            "lost": list(self.lost), "absent": list(self.absent),
        }  # fmt: skip


def describe_change(change: SkeletonChange) -> str:
    """One sentence: how many joints are kept, which are derived, lost, and missing from then on."""
    parts = [f"{change.source} to {change.target}"]
    if change.kept:
        parts.append(f"kept {len(change.kept)}")
    if change.derived:
        rules = [f"{joint} (midpoint of {', '.join(parents)})" for joint, parents in change.derived.items()]
        parts.append(f"derived {', '.join(rules)}")
    if change.lost:
        parts.append(f"lost {', '.join(change.lost)}")
    if change.absent:
        parts.append(f"not labelled: {', '.join(change.absent)}")
    return "; ".join(parts)


@dataclass(frozen=True)
class JointMapping:
    """How people of one joint set become people of another.

    Attributes:
        source, target: the sets, S and K joints.
        columns: (K,) int64: the source's joint at each place of the target, -1 for none.
        parents: for each place of the target the source's joints whose midpoint it is, or nothing.
    """

    source: Skeleton
    target: Skeleton
    columns: np.ndarray
    parents: tuple[tuple[int, ...], ...]

    @property
    def change(self) -> SkeletonChange:
        """The report of it."""
        names, used = self.source.keypoints, set(self.columns.tolist())
        return SkeletonChange(
            self.source.name,
            self.target.name,
            lost=tuple(n for i, n in enumerate(names) if i not in used),
            absent=tuple(
                n for n, c, p in zip(self.target.keypoints, self.columns, self.parents, strict=True) if c < 0 and not p
            ),
            kept=tuple(n for n, c in zip(self.target.keypoints, self.columns, strict=True) if c >= 0),
            derived={
                n: tuple(names[i] for i in p) for n, p in zip(self.target.keypoints, self.parents, strict=True) if p
            },
        )

    def apply(self, person: Instance, *, missing_score: float = 0.0) -> Instance:
        """The person with the target's joints.

        Marks that name joints (``derived``, ``filled``) and ``raw`` (keypoints before smoothing, as the stream has
        them) follow; box, area and all else stay.

        Args:
            person: with the source's joints.
            missing_score: score of joints that are missing (1 in labels, 0 in poses).
        """
        there = self.columns >= 0
        place = np.where(there, self.columns, 0)
        xy = np.where(there[:, None], person.xy[place], np.nan).astype(person.xy.dtype)
        visibility = np.where(there, person.visibility[place], 0)
        score = np.where(there, person.score[place], missing_score).astype(person.score.dtype)
        derived = []
        for joint, parents in enumerate(self.parents):
            rows = list(parents)
            if not rows or not (person.visibility[rows] > 0).all():
                continue
            xy[joint] = person.xy[rows].mean(axis=0)
            visibility[joint] = person.visibility[rows].min()
            score[joint] = person.score[rows].min()
            derived.append(self.target.keypoints[joint])
        return replace(person, xy=xy, visibility=visibility, score=score, extra=self._extra(person.extra, derived))

    def _extra(self, extra: Mapping[str, Any], derived: Sequence[str]) -> dict[str, Any]:
        value = dict(extra)
        for key in ("filled", "derived"):
            if isinstance(value.get(key), list):
                value[key] = [
                    name
                    for name, c in zip(self.target.keypoints, self.columns.tolist(), strict=True)
                    if c >= 0 and self.source.keypoints[c] in value[key]
                ]
        if derived:
            value["derived"] = [*value.get("derived", ()), *derived]
        raw = value.get("raw")
        if isinstance(raw, list) and len(raw) == len(self.source.keypoints):
            value["raw"] = [raw[c] if c >= 0 else None for c in self.columns.tolist()]
        return value


def match_points(source: Skeleton, target: Skeleton) -> np.ndarray:
    """(K,) int64: for each joint of ``target`` the joint of ``source`` that is the same point, -1 where it has none."""
    place = {point: i for i, point in enumerate(points_of(source))}
    columns = [place.get(point, -1) for point in points_of(target)]
    if not (_is_known(source) and _is_known(target)):
        # Nothing but names is known of one of them.
        plain = {point_name(n): i for i, n in enumerate(source.keypoints)}
        used = set(columns)
        for joint, name in enumerate(target.keypoints):
            other = plain.get(point_name(name), -1)
            if columns[joint] < 0 and other >= 0 and other not in used:
                columns[joint] = other
    return np.array(columns, dtype=np.int64)


def other_points(source: Skeleton, target: Skeleton) -> tuple[str, ...]:
    """Names that both sets have for different points (``head`` of Penn Action and of JHMDB); those do not meet."""
    columns = match_points(source, target)
    lost = set(range(source.num_keypoints)) - set(columns.tolist())
    names = {point_name(source.keypoints[i]) for i in lost}
    return tuple(n for n, c in zip(target.keypoints, columns, strict=True) if c < 0 and point_name(n) in names)


def joint_mapping(source: Skeleton, target: Skeleton, *, derive: bool = True, where: str = "") -> JointMapping:
    """How people of ``source`` become people of ``target``, by the rules told in this module.

    Args:
        source, target: joint sets.
        derive: whether midpoints stand in for joints the source lacks.
        where: file for the message.

    Raises:
        PoseError: the sets share no joint.
    """
    have, want = points_of(source), points_of(target)
    place = {point: i for i, point in enumerate(have)}
    columns = match_points(source, target).tolist()
    parents = []
    for column, point in zip(columns, want, strict=True):
        rows = [place.get(p, -1) for p in MIDPOINTS.get(point, ())] if derive and column < 0 else []
        parents.append(tuple(rows) if rows and min(rows) >= 0 else ())
    if max(columns) < 0 and not any(parents):
        raise PoseError(f"skeletons {source.name} and {target.name} share no joint", where)
    return JointMapping(source, target, np.array(columns, dtype=np.int64), tuple(parents))


def _is_known(skeleton: Skeleton) -> bool:
    known = SKELETONS.get(skeleton.name.removesuffix("_reordered"))
    return known is not None and set(known.keypoints) == set(skeleton.keypoints)
