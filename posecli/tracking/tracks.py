"""What all trackers share: tracks that are expected somewhere, people who are paired with them, identities.

In each frame pairs are chosen so that the summed similarity is greatest (Hungarian algorithm); pairs below a least
similarity don't count. The longer a track was not seen the less it counts: where people cross, whoever stays in sight
must not be taken for somebody hidden behind. A track that finds nobody waits for ``max_age`` seconds before its
identity is given up, and moves on meanwhile. Numbers are never used twice. The state follows from the people as written
with their ids (`Tracker.replay`), so that a run can be resumed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from posecli.assignment import assign
from posecli.geometry import box_iou, keypoint_box
from posecli.tracking import colours
from posecli.types import Instance, Skeleton

DOUBT = 4.0  # seconds over which the likeness to somebody lost falls to 1 / e
LEAST_SCORE = 0.03  # what joints count at least: some files know no scores
_STEADY = 1.0  # seconds over which velocities and spreads are averaged


@dataclass
class Track:
    """Somebody who was seen, as seen last.

    Attributes:
        id: the identity.
        xy: (K, 2) joints, NaN where not found.
        score: (K,) of the joints.
        box: (4,) corners.
        area: pixels^2, as OKS takes it.
        spread: pixels, running mean (`spread_of`).
        velocity: (2,) pixels a second.
        time: seconds.
        since: seconds, when it was first seen. over: IoU of its box then with the nearest other person's.
        frames: in which it was seen.
        colours: (2, 9) what was seen of clothes so far (`colours.read`), NaN for parts that were not.
        looks: (2,) sightings that stands for, none of which counts more than a thirtieth of a second does.
        doubts: sightings on end that were far from it, counted likewise.
        gap: seconds between the last two sightings.
    """

    id: int
    xy: np.ndarray
    score: np.ndarray
    box: np.ndarray
    area: float
    spread: float
    velocity: np.ndarray
    time: float
    since: float
    over: float = 0.0
    frames: int = 0
    colours: np.ndarray = field(default_factory=lambda: colours.read(None))
    looks: np.ndarray = field(default_factory=lambda: np.zeros(len(colours.PARTS)))
    doubts: float = 0.0
    gap: float = 0.0


@dataclass(frozen=True)
class Seen:
    """A person of this frame: joints (K, 2), NaN where not found, their scores (K,), box (4,), OKS area, spread
    (`spread_of`), colours (2, 9)."""

    xy: np.ndarray
    score: np.ndarray
    box: np.ndarray
    area: float
    spread: float
    colours: np.ndarray


def seen(instance: Instance) -> Seen:
    """What of a person tracking looks at; the area is 0.53 of the box (COCO's usual share), at least one pixel. A box
    without extent says nothing: the one around the joints is taken."""
    box = instance.box_xyxy
    if box is None or not (box[2:] > box[:2]).all():
        box = keypoint_box(instance.xy, instance.visibility)
    corners = np.zeros(4) if box is None else np.asarray(box, np.float64)
    area = max(1.0, 0.53 * float((corners[2] - corners[0]) * (corners[3] - corners[1])))
    xy = np.where(instance.visibility[:, None] > 0, instance.xy, np.nan)
    score = np.maximum(instance.score, LEAST_SCORE)
    return Seen(xy, score, corners, area, spread_of(xy, score), colours.read(instance.extra.get(colours.KEY)))


def spread_of(xy: np.ndarray, score: np.ndarray) -> float:
    """How large somebody is in the picture: root mean square distance of joints (K, 2) from their middle, in pixels,
    each counted by its score (K,); NaN where fewer than two were found. Raised arms change it less than the box."""
    there = ~np.isnan(xy[:, 0])
    if there.sum() < 2:
        return float("nan")
    xy, weight = xy[there].astype(np.float64), score[there] / score[there].sum()
    return float(np.sqrt(weight @ ((xy - weight @ xy) ** 2).sum(1)))


class Tracker(ABC):
    """Gives every person of every frame a ``track_id``; call `update` once a frame, in order.

    Args:
        skeleton: of the people.
        least: similarity below which nobody is taken for somebody, in [0, 1].
        max_age: seconds that a lost person keeps its identity.
        min_score: people below it are left without an identity (they may be noise) and don't start a track.
    """

    needs_pictures = False
    needs_colours = False  # whether people are wanted with their colours (`colours.described`)

    def __init__(self, skeleton: Skeleton, *, least: float, max_age: float, min_score: float) -> None:
        self.skeleton = skeleton
        self.least = least
        self.max_age = max_age
        self.min_score = min_score
        self.tracks: list[Track] = []
        self._next = 1

    @abstractmethod
    def similarity(self, people: Sequence[Seen], tracks: Sequence[Track], time: float) -> np.ndarray:
        """(N, T) in [0, 1]: how well people of this frame fit the tracks."""

    def worth(self, people: Sequence[Seen], tracks: Sequence[Track], time: float) -> np.ndarray:
        """(N, T), 0 or more: what it is worth to take somebody for a track; the sum over all pairs is made greatest."""
        alike = self.similarity(people, tracks, time) * np.exp([(t.time - time) / DOUBT for t in tracks])
        return np.where(alike >= self.least, alike, 0.0)

    def learn(self, pairs: Sequence[tuple[Track, Seen]]) -> None:  # noqa: B027  (most remember places only)
        """Takes what else is to be remembered of the people of a frame, who are all paired now."""

    def look(self, image: np.ndarray | None, time: float) -> None:  # noqa: B027  (most do without)
        """Takes the picture (H, W, 3) of the next frame, before `similarity` is asked; for trackers that need it."""

    def update(
        self, instances: Sequence[Instance], time: float, image: np.ndarray | None = None
    ) -> tuple[Instance, ...]:
        """The same people in the same order with their ``track_id``.

        Args:
            instances: the people of one frame.
            time: seconds; must not run backwards.
            image: (H, W, 3) uint8, where ``needs_pictures``.
        """
        return tuple(
            person if number is None else person.changed(track_id=number)
            for person, number in zip(instances, self.link(instances, time, image), strict=True)
        )

    def link(self, instances: Sequence[Instance], time: float, image: np.ndarray | None = None) -> list[int | None]:
        """What `update` does, as the numbers only: for each person its ``track_id``, None below ``min_score``."""
        self._forget(time)
        self.look(image, time)
        people = {i: seen(p) for i, p in enumerate(instances) if p.person_score >= self.min_score}
        taken: dict[int, Track] = {}
        if people and self.tracks:
            worth = self.worth(list(people.values()), self.tracks, time)
            rows = list(people)
            for row, column in zip(*assign(-worth), strict=True):
                if worth[row, column] > 0:
                    taken[rows[row]] = self.tracks[column]
        numbers: list[int | None] = [None] * len(instances)
        pairs = []
        for i, person in people.items():
            track = taken.get(i)
            if track is None:
                track = self._start(self._next, person, time)
            pairs.append((track, person))
            numbers[i] = track.id
        self._follow(pairs, time)
        self.learn(pairs)
        return numbers

    def cut(self) -> None:
        """Another scene begins: nobody of it was seen before."""
        self.tracks = []

    def replay(self, instances: Sequence[Instance], time: float) -> None:
        """Brings the tracker to the state it had after writing this frame; ids are taken from the people themselves."""
        self._forget(time)
        pairs = []
        for person in instances:
            if person.track_id is None:
                continue
            now = seen(person)
            track = next((t for t in self.tracks if t.id == person.track_id), None)
            track = track or self._start(person.track_id, now, time)
            pairs.append((track, now))
        self._follow(pairs, time)
        self.learn(pairs)

    def _forget(self, time: float) -> None:
        self.tracks = [t for t in self.tracks if time - t.time <= self.max_age]

    def _start(self, number: int, person: Seen, time: float) -> Track:
        track = Track(number, person.xy, person.score, person.box, person.area, person.spread, np.zeros(2), time, time)
        self._next = max(self._next, number + 1)
        self.tracks.append(track)
        return track

    def _follow(self, pairs: Sequence[tuple[Track, Seen]], time: float) -> None:
        """Tracks go on with those who were taken for them."""
        if not pairs:
            return
        if any(track.frames == 0 for track, _ in pairs):
            boxes = np.stack([person.box for _, person in pairs])
            overlap = box_iou(boxes, boxes)
            np.fill_diagonal(overlap, 0.0)
            for (track, _), most in zip(pairs, overlap.max(1).tolist(), strict=True):
                if track.frames == 0:
                    track.over = most
        moved = np.stack([person.xy for _, person in pairs]) - np.stack([track.xy for track, _ in pairs])
        both = ~np.isnan(moved[..., 0])
        count = both.sum(1)
        mean = np.where(both[..., None], moved, 0).sum(1) / np.maximum(count, 1).astype(moved.dtype)[:, None]
        recent: dict[float, float] = {}
        for (track, person), joints, by in zip(pairs, count.tolist(), mean, strict=True):
            step = time - track.time
            if step not in recent:
                recent[step] = 1 - float(np.exp(-step / _STEADY))
            # Means over all frames so far, then over the last ones: noise must not throw the prediction away.
            if step > 0 and joints:
                share = max(1 / track.frames, recent[step])
                track.velocity = track.velocity + share * (by / step - track.velocity)
            if np.isnan(track.spread):
                track.spread = person.spread
            elif not np.isnan(person.spread):
                track.spread += max(1 / (track.frames + 1), recent[step]) * (person.spread - track.spread)
            track.xy, track.score, track.box, track.area = person.xy, person.score, person.box, person.area
            track.time, track.gap = time, step
            track.frames += 1
