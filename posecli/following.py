"""People of a video followed from frame to frame: looked for around their last pose, not found anew each time.

A finder in every frame costs most of the time, and what it says of neighbouring frames hardly differs. Between its runs
each person is looked for in the box around the last pose, moved on by its velocity; that is also the better box, since
finders cut raised arms (`looks.moved_box`). The finder runs

- once in every ``period`` seconds, and where frames are too far apart for anybody to be followed,
- when much of the picture changes at once, as at a cut; at a large change nobody is followed any further,
- when the joint scores of a person clearly shown fall, and in the three frames after one was lost.

What it finds is paired with the people followed. Who is not seen loses certainty and is given up soon. Scores of
followed people are running means, so that nobody near the display threshold blinks. Somebody of some size who was shown
is held at the threshold while the finder is sure that somebody is there: a pose that is hard to read for a while, in
blur or half hidden, is no sign that the person is gone.

The state after a frame follows from the written lines alone (and from the picture last looked at), so that a run that
was interrupted goes on as if nothing had happened: `Follower.see` every line, then `Follower.start`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from posecli import looks
from posecli.codecs.last_pose import is_trunk
from posecli.geometry import box_iou
from posecli.grouping.pose_nms import unlike
from posecli.inference import PoseModel
from posecli.profiling import stage
from posecli.sampling import sharing, thumbnail
from posecli.tracking.oks import OksTracker
from posecli.types import Instance

__all__ = ["Follower", "Glance", "thumbnail"]

_SAME = 2.0  # grey levels by which no block may differ between pictures that count as the same
_JUMP = 15.0  # mean difference of blocks from which on the finder is asked at once
_CUT = 30.0  # and from which on another scene is supposed
_STEADY = 0.08  # of the box's longer side: smaller changes leave the box where it is
_SAME_PERSON = 0.3  # IoU of a box found and one followed
_TRUSTED = 0.45  # from this IoU on the followed box is kept, below the finder's is taken
_UNSEEN = 0.7  # certainty left to a person after each scheduled run of the finder that did not see it
_FALLEN = 0.6  # of the usual mean joint score: below it the person may have been lost
_DUPLICATE = 0.75  # likeness of two poses that are one person's (`looks.likeness`)
_INSIDE = 0.3  # share of the box that must lie in the picture
_STAYS = 0.6  # with a larger share in the picture nobody is about to leave it
_GAP = 0.5  # seconds over which nobody is followed
_SURE_JOINT = 0.15  # joints below this score say nothing of motion
_LOST_FRAMES = 3
_CALM = 0.2  # seconds over which the score of somebody followed is averaged
_HELD = 0.4  # of the display threshold: down to it somebody large who was shown stays shown
_HELD_CERTAINTY = 0.75  # of the finder that this takes
_HELD_SIDE = 0.15  # of the picture's longer side, that the person's box must have: others are many, and each takes time
_WORTH = 0.85  # of the display threshold: people below it are only looked at when the finder runs
_CLEAR = 1.3  # times the display threshold: losing somebody below it is no surprise
_MOVES = 0.05  # of the box's longer side: joints that moved so far since they were steady are shown where they are
_STEADIED = 0.1  # share of what they move by that is shown of joints that hardly move
_FASTEST = 0.5  # of the box's longer side: the furthest that velocity may move a box


@dataclass
class _Followed:
    person: Instance  # as written last
    certainty: float  # the finder's, as far as it still holds
    velocity: np.ndarray  # (2,) pixels a second
    time: float
    calm: float  # its score by itself, which is written as the threshold while it is held
    usual: float  # running mean of the mean joint score
    frames: int  # in which it was seen
    steady: np.ndarray  # (K, 2) its joints, which follow slowly where they hardly move
    lively: float  # `_lively`: how much they do


@dataclass(frozen=True)
class Glance:
    """What a frame says before anybody knows its people.

    Attributes:
        looked: (h, w, 3) `thumbnail` of the picture that is looked at: this one, or where it shows the same the last.
        same: it shows what the last picture that was looked at showed.
        change: mean grey levels of difference to it; inf where there is none.
        turn: the finder's turn has come.
    """

    looked: np.ndarray
    same: bool
    change: float
    turn: bool

    @property
    def asks(self) -> bool:
        """Whether the finder is to look, whoever is followed."""
        return not self.same and (self.turn or self.change > _JUMP)


class Follower:
    """Gives the people of a video's frames; call `people`, then `see`, once a frame and in order.

    `glance` needs nothing of the people and may run ahead, in another thread; then `people` is given what it said.

    Args:
        model: top-down, with a finder; its skeleton has sigmas.
        period: seconds; the finder runs in the first frame of each such stretch of time, counted from 0, and after a
            step of more than half a second.
        size_wh: of the pictures.
        carry: joints (K, 2) and the time they were seen to where they are now, or None where that can't be said; by
            default people move on at their velocity.
    """

    def __init__(
        self,
        model: PoseModel,
        period: float,
        size_wh: tuple[int, int],
        carry: Callable[[np.ndarray, float], np.ndarray | None] | None = None,
    ) -> None:
        self._model = model
        self._period = period
        self._size = (float(size_wh[0]), float(size_wh[1]))
        self._links = OksTracker(model.skeleton, max_age=_GAP)
        self._carry = carry
        self._trunk = np.array([is_trunk(name) for name in model.skeleton.keypoints])
        self._known: dict[int, _Followed] = {}
        self._current: list[int] = []
        self._lost: dict[int, int] = {}
        self._looked: np.ndarray | None = None
        self._glanced: float | None = None  # time of the last frame of `glance`
        self._time: float | None = None  # and of `see`

    def scheduled(self, time: float, last: float | None = None) -> bool:
        """Whether the finder's turn has come in the frame at this time: it always has where nobody can be followed.

        Args:
            time: seconds.
            last: of the frame before it; by default the one that was seen last.
        """
        last = self._time if last is None else last
        return last is None or time - last > _GAP or self._stretch(time) != self._stretch(last)

    def _stretch(self, time: float) -> int:
        # Time stamps are rounded to a microsecond; one that is meant to be a border must not fall before it.
        return math.floor(time / self._period + 1e-4)

    @property
    def looked(self) -> np.ndarray | None:
        """(h, w, 3) `thumbnail` of the picture that was looked at last."""
        return self._looked

    def start(self, looked: np.ndarray) -> None:
        """Takes the picture (H, W, 3) that was looked at last, to go on with the next."""
        self._looked = thumbnail(looked)

    def glance(self, image: np.ndarray, time: float) -> Glance:
        """What the next frame's picture (H, W, 3) uint8 alone says; once a frame and in order."""
        with stage("compare with last frame"), sharing([image]):
            small = thumbnail(image)
            change = None
            if self._looked is not None and self._looked.shape == small.shape:
                change = cv2.absdiff(small, self._looked)
        turn = self.scheduled(time, self._time if self._glanced is None else self._glanced)
        self._glanced = time
        if change is not None and change.max() <= _SAME:
            assert self._looked is not None
            return Glance(self._looked, True, 0.0, turn)
        self._looked = small
        return Glance(small, False, float("inf") if change is None else float(change.mean()), turn)

    def people(
        self, image: np.ndarray, time: float, find: Callable[[], list[Instance]], glance: Glance | None = None
    ) -> tuple[list[Instance], bool]:
        """The people of the next frame, and whether they are those of the frame before, unchanged.

        Args:
            image: (H, W, 3) uint8.
            time: seconds.
            find: runs the finder on this picture (`PoseModel.find`); called only where needed.
            glance: of this frame, where `glance` was called; else it is now.
        """
        with sharing([image]):
            return self._people(image, time, find, glance or self.glance(image, time))

    def _people(
        self, image: np.ndarray, time: float, find: Callable[[], list[Instance]], glance: Glance
    ) -> tuple[list[Instance], bool]:
        if glance.same:
            return [self._known[i].person.changed(track_id=None) for i in self._current], True
        with stage("follow"):
            carried = {} if glance.change > _CUT else self._carried(time)
        if glance.asks or self._lost:
            return self._look(image, time, carried, find(), glance.turn), False
        posed = self._seen_now(image, list(carried.values()), time)
        fallen = {i for i, pose in zip(carried, posed, strict=True) if self._has_fallen(i, pose)}
        if fallen:
            return self._look(image, time, carried, find(), False, fallen), False
        with stage("follow"):
            return self._single(posed, time), False

    def see(self, people: Sequence[Instance], time: float) -> None:
        """Takes the people of a frame as they were written; all that is remembered comes from here."""
        self._time = time
        before = self._current
        # The least score of `_links` is 0, so everybody has a number.
        self._current = [number for number in self._links.link(people, time) if number is not None]
        last = [self._known.get(number) for number in self._current]
        self._known.update(zip(self._current, self._seen(last, people, time), strict=True))
        self._lost = {i: left - 1 for i, left in self._lost.items() if left > 1 and i not in self._current}
        for i in set(before) - set(self._current):
            known = self._known[i]
            if known.frames >= _LOST_FRAMES and self._clear(known) and self._inside(_moved(known, time)) >= _STAYS:
                self._lost[i] = _LOST_FRAMES
        self._known = {i: k for i, k in self._known.items() if time - k.time <= _GAP or i in self._current}

    def _seen(self, last: Sequence[_Followed | None], people: Sequence[Instance], time: float) -> list[_Followed]:
        """What is known of people now, each of whom was known before or not."""
        if not people:
            return []
        scores = np.stack([person.score for person in people])
        earlier = [person if known is None else known.person for known, person in zip(last, people, strict=True)]
        both = (scores >= _SURE_JOINT) & (np.stack([person.score for person in earlier]) >= _SURE_JOINT)
        xy = np.stack([person.xy for person in people])
        moved = xy - np.stack([person.xy for person in earlier])
        steps = np.where(both[..., None], moved, 0).sum(1, dtype=np.float64) / np.maximum(both.sum(1), 1)[:, None]
        before = np.stack([p.xy if known is None else known.steady for known, p in zip(last, people, strict=True)])
        lively = self._lively(xy - before, both & self._trunk, _boxes(people))
        steady = np.where(both[..., None], before + lively[:, None, None] * (xy - before), xy)
        found = []
        for n, (known, person, mean) in enumerate(zip(last, people, scores.mean(1).tolist(), strict=True)):
            # Lines written without following have the score only, which is never above the certainty.
            certainty = float(person.extra.get("certainty", person.person_score))
            calm = float(person.extra.get("calm", person.person_score))
            if known is None:
                found.append(_Followed(person, certainty, np.zeros(2), time, calm, mean, 1, person.xy, 1.0))
                continue
            velocity = known.velocity
            if time > known.time:
                # Half of the new velocity: noise of the joints must not throw the box away.
                velocity = 0.5 * velocity + 0.5 * steps[n] / (time - known.time)
            usual, frames = 0.8 * known.usual + 0.2 * mean, known.frames + 1
            found.append(_Followed(person, certainty, velocity, time, calm, usual, frames, steady[n], float(lively[n])))
        return found

    @staticmethod
    def _lively(moved: np.ndarray, shown: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """How much of what their joints moved by (P, K, 2) is shown of people (P,), by the joints that are (P, K): all
        of it of those who move, little of those who hardly do, where it is noise and the echo of noise."""
        by = np.abs(moved).max(2)
        sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1), 1.0)
        return np.clip(by.max(1, where=shown, initial=0) / (_MOVES * sides), _STEADIED, 1.0).astype(np.float32)

    def _clear(self, known: _Followed) -> bool:
        return known.person.person_score >= _CLEAR * self._model.threshold

    def _has_fallen(self, number: int, pose: Instance) -> bool:
        known = self._known[number]
        return self._clear(known) and float(pose.score.mean()) < _FALLEN * known.usual

    def _inside(self, box: np.ndarray) -> float:
        """Share of a box that lies in the picture."""
        # A handful of numbers: numpy takes ten times as long over them as Python.
        x0, y0, x1, y1 = box.tolist()
        width, height = min(x1, self._size[0]) - max(x0, 0.0), min(y1, self._size[1]) - max(y0, 0.0)
        return max(width, 0.0) * max(height, 0.0) / max((x1 - x0) * (y1 - y0), 1e-9)

    def _carried(self, time: float) -> dict[int, Instance]:
        """The people of the last frame where they should be now, by number."""
        carried = {}
        for i in self._current:
            known = self._known[i]
            person = known.person
            sure = known.certainty >= self._model.threshold and person.person_score >= _WORTH * self._model.threshold
            if not sure or time - known.time > _GAP or person.box_xyxy is None:
                continue
            step = self._step(known)
            box = _moved(known, time, step)
            if self._inside(box) >= _INSIDE:
                # The number stays until the score is calmed.
                xy = _moved_joints(known, time, step)
                carried[i] = _certain(person, known.certainty, box_xyxy=box, xy=xy, track_id=i)
        return carried

    def _step(self, known: _Followed) -> np.ndarray | None:
        """(2,) pixels by which the picture moved where somebody was; None where people move on at their velocity."""
        sure = known.person.score >= _SURE_JOINT
        if self._carry is None or not sure.any():
            return None
        moved = self._carry(known.person.xy[sure].astype(np.float64), known.time)
        return None if moved is None else np.median(moved - known.person.xy[sure], axis=0)

    def _joined(
        self,
        carried: dict[int, Instance],
        found: Sequence[Instance],
        scheduled: bool,
        fallen: Collection[int],
    ) -> list[Instance]:
        """People followed and people found, each once; those that the finder no longer believes in are left out."""
        people = list(carried.values())
        overlap = box_iou(_boxes(people), _boxes(found))
        partner: dict[int, int] = {}
        for cell in np.argsort(-overlap, axis=None, kind="stable").tolist():
            i, j = divmod(cell, len(found))
            if overlap[i, j] < _SAME_PERSON:
                break
            if i not in partner and j not in partner.values():
                partner[i] = j
        joined = []
        for i, (number, person) in enumerate(carried.items()):
            if i in partner:
                other = found[partner[i]]
                keep = overlap[i, partner[i]] >= _TRUSTED and number not in fallen
                certainty = (person.person_score + other.person_score) / 2
                joined.append(
                    _certain(
                        person.changed(box_xyxy=person.box_xyxy if keep else other.box_xyxy, heat=other.heat),
                        certainty,
                    )
                )
            elif number not in fallen:
                joined.append(_certain(person, person.person_score * (_UNSEEN if scheduled else 1.0)))
        joined += [_certain(p, p.person_score) for j, p in enumerate(found) if j not in partner.values()]
        return [p for p in joined if p.person_score >= self._model.threshold]

    def _look(
        self,
        image: np.ndarray,
        time: float,
        carried: dict[int, Instance],
        found: Sequence[Instance],
        scheduled: bool,
        fallen: Collection[int] = frozenset(),
    ) -> list[Instance]:
        with stage("follow"):
            people = self._joined(carried, found, scheduled, fallen)
        posed = self._seen_now(image, people, time)
        with stage("follow"):
            return self._single(posed, time)

    def _seen_now(self, image: np.ndarray, people: Sequence[Instance], time: float) -> list[Instance]:
        """Joints of people in their boxes; those followed were seen in the frame before."""
        return self._model.look([image], [people], None if self._time is None else time - self._time)[0]

    def _single(self, people: Sequence[Instance], time: float) -> list[Instance]:
        """Each person once with a calm score, and only those who are to be given out, best first."""
        people = [self._calmed(p, time) for p in people]
        if len(people) > 1:
            alike = looks.likeness(people, self._model.skeleton.sigmas)
            kept = unlike(alike, np.array([p.person_score for p in people]), _DUPLICATE)
            people = [people[i] for i in sorted(kept)]
        return self._model.kept(people)

    def _calmed(self, person: Instance, time: float) -> Instance:
        if person.track_id is None:
            return person
        last = self._known[person.track_id]
        share = 1 - math.exp(-(time - last.time) / _CALM)
        score = last.calm + share * (person.person_score - last.calm)
        if not self._is_held(person, last, score):
            return person.changed(person_score=score, track_id=None)
        # Rounded up: what is written has four digits.
        least = math.ceil(self._model.threshold * 1e4) / 1e4
        extra = {**person.extra, "calm": round(score, 4)}
        return person.changed(person_score=least, track_id=None, extra=extra)

    def _is_held(self, person: Instance, last: _Followed, score: float) -> bool:
        """Whether somebody whose score by itself is below the threshold stays shown."""
        threshold = self._model.threshold
        x0, y0, x1, y1 = np.asarray(person.box_xyxy).tolist()
        return (
            _HELD * threshold <= score < threshold <= last.person.person_score
            and last.frames >= _LOST_FRAMES
            and float(person.extra.get("certainty", 0.0)) >= _HELD_CERTAINTY
            and max(x1 - x0, y1 - y0) >= _HELD_SIDE * max(self._size)
        )


def _certain(person: Instance, certainty: float, **others: Any) -> Instance:
    """The person as it goes to the second stage: its certainty is its score, and stays with it in the stream; with
    other values of ``others``."""
    certainty = round(certainty, 4)
    return person.changed(person_score=certainty, extra={"certainty": certainty}, **others)


def _boxes(people: Sequence[Instance]) -> np.ndarray:
    return np.array([np.asarray(p.box_xyxy) for p in people], dtype=np.float64).reshape(-1, 4)


def _steps(known: _Followed, time: float, step: np.ndarray | None) -> list[float]:
    """By how many pixels (x, y) a person has moved on: ``step`` (2,), else by its velocity; within what people do."""
    x0, y0, x1, y1 = np.asarray(known.person.box_xyxy, dtype=np.float64).tolist()
    most = _FASTEST * max(x1 - x0, y1 - y0)
    steps = (known.velocity * (time - known.time) if step is None else step).tolist()
    return [min(max(by, -most), most) for by in steps]


def _moved(known: _Followed, time: float, step: np.ndarray | None = None) -> np.ndarray:
    """(4,) where to look for a person: around the last pose, moved on (`_steps`); its last box where that is nearly the
    same."""
    box = np.asarray(known.person.box_xyxy, dtype=np.float64)
    x0, y0, x1, y1 = box.tolist()
    wanted = np.array(looks.moved_box(known.person, known.person).box_xyxy, np.float64)
    wanted += _steps(known, time, step) * 2
    moved = max(abs(a - b) for a, b in zip(wanted.tolist(), (x0, y0, x1, y1), strict=True))
    return box if moved <= _STEADY * max(x1 - x0, y1 - y0) else wanted


def _moved_joints(known: _Followed, time: float, step: np.ndarray | None) -> np.ndarray:
    """(K, 2) where a person's joints should be now. Noise is kept from them: the network that is shown them would give
    it back."""
    return known.steady + np.float32(known.lively) * np.asarray(_steps(known, time, step), np.float32)
