"""Identities by pose similarity: each person takes the track whose last pose it resembles most (OKS, greedy).

The similarity is COCO's OKS between the last pose of a track and a pose of this frame (Xiao et al., "Simple baselines
for human pose estimation and tracking", ECCV 2018, Sec. 3.3, without its optical flow). A track that finds no
partner waits for ``max_age`` seconds before its identity is given up. Numbers are never used twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from posecli.errors import PoseError
from posecli.geometry import keypoint_box
from posecli.types import Instance, Skeleton


@dataclass
class _Track:
    id: int
    xy: np.ndarray  # (K, 2) last seen, NaN where not found
    area: float
    velocity: np.ndarray  # (2,) pixels a second, of the person's centre
    time: float


def _area(instance: Instance) -> float:
    """OKS area of a prediction: 0.53 of its box (COCO's usual share of a person in the box), never below one pixel."""
    box = instance.box_xyxy if instance.box_xyxy is not None else keypoint_box(instance.xy, instance.visibility)
    if box is None:
        return 1.0
    return max(1.0, 0.53 * float(box[2] - box[0]) * float(box[3] - box[1]))


def _pose(instance: Instance) -> np.ndarray:
    """(K, 2) joints, NaN where not found."""
    return np.where(instance.visibility[:, None] > 0, instance.xy, np.nan)


class OksTracker:
    """Gives every person of every frame a ``track_id``; call `update` once a frame, in order.

    Args:
        skeleton: with sigmas.
        min_oks: least similarity that carries an identity on, in [0, 1].
        max_age: seconds that a lost person keeps its identity.
        min_score: people below it are left without an identity (they may be noise) and don't start a track.
    """

    def __init__(
        self, skeleton: Skeleton, *, min_oks: float = 0.2, max_age: float = 1.0, min_score: float = 0.0
    ) -> None:
        if not skeleton.sigmas:
            raise PoseError("tracking by OKS needs sigmas", f"skeleton {skeleton.name!r}", "use --track none")
        # Motion from frame to frame is far larger than labelling noise, so the tolerance is twice that of the metric.
        self._variance = (2 * np.asarray(skeleton.sigmas) * 2) ** 2
        self.min_oks = min_oks
        self.max_age = max_age
        self.min_score = min_score
        self._tracks: list[_Track] = []
        self._next = 1

    def update(self, instances: Sequence[Instance], time: float) -> tuple[Instance, ...]:
        """The same people in the same order with their ``track_id``.

        Args:
            instances: the people of one frame.
            time: seconds; must not run backwards.
        """
        return tuple(
            person if number is None else replace(person, track_id=number)
            for person, number in zip(instances, self.link(instances, time), strict=True)
        )

    def link(self, instances: Sequence[Instance], time: float) -> list[int | None]:
        """What `update` does, as the numbers only: for each person its ``track_id``, None below ``min_score``."""
        self._tracks = [t for t in self._tracks if time - t.time <= self.max_age]
        candidates = [i for i, p in enumerate(instances) if p.person_score >= self.min_score]
        poses = {i: _pose(instances[i]) for i in candidates}
        areas = {i: _area(instances[i]) for i in candidates}
        oks = self._similarity([poses[i] for i in candidates], [areas[i] for i in candidates], time)
        taken: dict[int, int] = {}
        used: set[int] = set()
        for cell in np.argsort(-oks, axis=None, kind="stable").tolist():
            row, t = divmod(cell, len(self._tracks))
            if oks[row, t] < self.min_oks:
                break
            if candidates[row] not in taken and t not in used:
                taken[candidates[row]] = t
                used.add(t)
        numbers: list[int | None] = [None] * len(instances)
        for i in candidates:
            if i in taken:
                track = self._tracks[taken[i]]
            else:
                track = _Track(self._next, poses[i], 1.0, np.zeros(2), time)
                self._next += 1
                self._tracks.append(track)
            self._follow(track, poses[i], areas[i], time)
            numbers[i] = track.id
        return numbers

    def replay(self, instances: Sequence[Instance], time: float) -> None:
        """Brings the tracker to the state it had after writing this frame; ids are taken from the people themselves."""
        self._tracks = [t for t in self._tracks if time - t.time <= self.max_age]
        for person in instances:
            if person.track_id is None:
                continue
            pose = _pose(person)
            track = next((t for t in self._tracks if t.id == person.track_id), None)
            if track is None:
                track = _Track(person.track_id, pose, 1.0, np.zeros(2), time)
                self._tracks.append(track)
            self._follow(track, pose, _area(person), time)
            self._next = max(self._next, person.track_id + 1)

    def _similarity(self, poses: Sequence[np.ndarray], areas: Sequence[float], time: float) -> np.ndarray:
        """(N, T) OKS of this frame's poses and where the tracks should be now; 0 where no joint is in both."""
        if not poses or not self._tracks:
            return np.zeros((len(poses), len(self._tracks)))
        moved = np.stack([t.xy + t.velocity * (time - t.time) for t in self._tracks])
        squared = ((moved[None] - np.stack(poses)[:, None]) ** 2).sum(-1)
        # The mean of both areas, as in the official OKS NMS; a person whose size jumps is not the same person.
        both_areas = np.array(areas)[:, None] + np.array([t.area for t in self._tracks])[None]
        alike = np.exp(-squared / both_areas[..., None] / self._variance)
        there = ~np.isnan(alike)
        return np.where(there, alike, 0).sum(-1) / np.maximum(there.sum(-1), 1)

    def _follow(self, track: _Track, xy: np.ndarray, area: float, time: float) -> None:
        moved = xy - track.xy
        both = ~np.isnan(moved[:, 0])
        if time > track.time and both.any():
            step = moved[both].mean(0) / (time - track.time)
            # Half of the new velocity: detection noise must not throw the prediction away.
            track.velocity = 0.5 * track.velocity + 0.5 * step
        track.xy, track.area, track.time = xy, area, time
