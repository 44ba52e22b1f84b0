"""Short gaps in the tracks of a pose stream, filled by straight lines and marked as filled.

A joint that is missing for a few frames, or a whole person, is put where it must have been if it moved evenly in time
from where it was seen last to where it is seen next. What was filled stands in the person's ``filled`` list of joint
names; its scores are the lower ones of both ends. Nothing is filled across a cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from posecli.predictions import FramePoses, StreamHeader
from posecli.smoothing.filters import reachable
from posecli.types import Instance

__all__ = ["fill_gaps", "line_time", "people_of", "size_of"]


def line_time(header: StreamHeader, line: FramePoses) -> float:
    """Seconds of a line; by the nominal rate where it carries no time (25 a second where there is none either)."""
    return line.time if line.time is not None else line.frame / (header.fps or 25.0)


@dataclass
class _Waiting:
    """A line that may still be filled: ``people`` by id, in a way that can be changed."""

    line: FramePoses
    time: float
    people: dict[int, Instance]


def fill_gaps(header: StreamHeader, lines: Iterable[FramePoses], longest: int) -> Iterator[FramePoses]:
    """The lines of one source with gaps of at most ``longest`` lines filled; each is given out so many lines later."""
    held: deque[_Waiting] = deque()
    for line in lines:
        if line.extra.get("cut"):
            while held:
                yield _finished(held.popleft())
        now = _Waiting(line, line_time(header, line), people_of(line))
        for number, person in now.people.items():
            _fill(held, number, person, now.time, header.skeleton.keypoints)
        held.append(now)
        if len(held) > longest + 1:  # a gap and the line before it
            yield _finished(held.popleft())
    while held:
        yield _finished(held.popleft())


def people_of(line: FramePoses) -> dict[int, Instance]:
    """The people of a line by id; of an id that stands there twice the first."""
    people: dict[int, Instance] = {}
    for person in line.instances:
        if person.track_id is not None:
            people.setdefault(person.track_id, person)
    return people


def size_of(person: Instance) -> float:
    """Longer side in pixels of the person's box, or where it has no extent of the one around the joints; at least 1."""
    if person.box_xyxy is not None:
        box = np.asarray(person.box_xyxy, np.float64)
        longer = float((box[2:] - box[:2]).max())
        if longer > 0:
            return max(1.0, longer)
    found = person.xy[_found(person)]
    return max(1.0, float(np.ptp(found, axis=0).max())) if len(found) else 1.0


def _finished(waiting: _Waiting) -> FramePoses:
    people = dict(waiting.people)
    shown = [p if p.track_id is None else people.pop(p.track_id, p) for p in waiting.line.instances]
    return replace(waiting.line, instances=(*shown, *people.values()))


def _fill(held: deque[_Waiting], number: int, person: Instance, time: float, names: Sequence[str]) -> None:
    """Puts into the lines held what somebody missed there who is seen now."""
    if not held:
        return
    here = _found(person)
    last = np.full(len(here), -1)  # the line in which each joint was seen last
    for at in range(len(held) - 1, -1, -1):
        other = held[at].people.get(number)
        if other is not None:
            last[(last < 0) & _found(other)] = at
    size = size_of(person)
    for k in np.flatnonzero(here & (last >= 0) & (last < len(held) - 1)).tolist():
        before = held[last[k]]
        moved = float(np.linalg.norm(person.xy[k] - before.people[number].xy[k]))
        here[k] = moved <= reachable(time - before.time) * max(size, size_of(before.people[number]))
    for at in range(last[last >= 0].min(initial=len(held)) + 1, len(held)):
        mine = here & (last >= 0) & (last < at)
        there = held[at].people.get(number)
        if there is not None:
            mine &= ~_found(there)
        if mine.any():
            ends = [(held[i], held[i].people[number]) for i in last[mine].tolist()]
            held[at].people[number] = _between(held[at].time, there, mine, ends, person, time, names)


def _found(person: Instance) -> np.ndarray:
    return (person.visibility > 0) & np.isfinite(person.xy).all(axis=1)


def _between(
    now: float,
    there: Instance | None,
    joints: np.ndarray,
    before: list[tuple[_Waiting, Instance]],
    after: Instance,
    time: float,
    names: Sequence[str],
) -> Instance:
    """Somebody with the joints (K,) bool filled in, each between its own two ends."""
    rows = np.flatnonzero(joints)
    begin = np.array([w.time for w, _ in before])
    share = np.clip((now - begin) / np.maximum(time - begin, 1e-9), 0, 1)
    if there is None:
        first = before[int(begin.argmax())][1]  # the whole person was seen last
        part = float(share.min())
        box = None
        if first.box_xyxy is not None and after.box_xyxy is not None:
            box = (1 - part) * np.asarray(first.box_xyxy) + part * np.asarray(after.box_xyxy)
        there = Instance(
            np.full(after.xy.shape, np.nan, np.float32),
            np.zeros(len(joints), after.visibility.dtype),
            np.zeros(len(joints), np.float32),
            person_score=min(first.person_score, after.person_score),
            box_xyxy=box,
            track_id=after.track_id,
        )
    xy, visibility, score = there.xy.copy(), there.visibility.copy(), there.score.copy()
    ends = [other for _, other in before]
    old = np.array([p.xy[k] for p, k in zip(ends, rows, strict=True)], np.float64)
    xy[rows] = old + share[:, None] * (after.xy[rows].astype(np.float64) - old)
    visibility[rows] = 2
    score[rows] = np.minimum([p.score[k] for p, k in zip(ends, rows, strict=True)], after.score[rows])
    marked = set(there.extra.get("filled") or ()) | {names[k] for k in rows.tolist()}
    extra = {**there.extra, "filled": [n for n in names if n in marked]}
    return replace(there, xy=xy, visibility=visibility, score=score, extra=extra)
