"""The people of a frame as its line will say them: in pixels of the whole picture, rounded, so that what goes on from
lines as they come sees what a reader of the file sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from posecli.following import Follower
from posecli.infer_options import InferOptions, origin_of
from posecli.profiling import stage
from posecli.types import Frame, Instance
from posecli.video import FrameSource


class Found(NamedTuple):
    """A frame with its people as they will be written, and what else its line says: ``same``, it shows what the one
    before showed; ``reset``, nothing before it was remembered. ``looked``: what a follower looked at last."""

    frame: Frame
    people: tuple[Instance, ...]
    notes: dict[str, Any]
    looked: np.ndarray | None = None


def seen_in(
    frame: Frame,
    people: Sequence[Instance],
    same: bool,
    looked: np.ndarray | None,
    follower: Follower,
    options: InferOptions,
    time: float,
) -> Found:
    """The people of a frame as they will be written, which the follower goes on from."""
    shift = origin_of(options)
    with stage("follow"):
        written = all_as_written([shifted(p, shift) for p in people])
        follower.see(in_region(written, options), time)
    return Found(frame, written, {"same": True} if same else {}, looked)


def written_of(people: Sequence[Instance], shift: np.ndarray) -> tuple[Instance, ...]:
    """People of a region whose first pixel is ``shift`` (2,) as they will be written."""
    with stage("follow"):
        return all_as_written([shifted(p, shift) for p in people])


def shifted(person: Instance, shift: np.ndarray) -> Instance:
    """A person moved by ``shift`` (2,) pixels."""
    if not shift.any():
        return person
    box = None if person.box_xyxy is None else person.box_xyxy + np.tile(shift, 2)
    return replace(person, xy=(person.xy + shift).astype(np.float32), box_xyxy=box)


def in_region(people: Sequence[Instance], options: InferOptions) -> list[Instance]:
    """Written people in pixels of the region."""
    shift = origin_of(options)
    return [shifted(p, -shift) for p in people]


def as_written(person: Instance) -> Instance:
    """A person with the precision of the stream (2 decimals, scores 4), so that what follows can be replayed."""
    box = None
    if person.box_xyxy is not None:
        # The stream has corner and size; their sum is what a reader gets.
        corners = np.round(np.asarray(person.box_xyxy, dtype=np.float64), 2)
        box = np.concatenate([corners[:2], corners[:2] + np.round(corners[2:] - corners[:2], 2)])
    return person.changed(
        xy=np.round(person.xy.astype(np.float64), 2).astype(np.float32),
        score=np.round(person.score.astype(np.float64), 4).astype(np.float32),
        person_score=round(float(person.person_score), 4),
        box_xyxy=box,
        heat=None if person.heat is None else round(float(person.heat), 4),
    )


def all_as_written(people: Sequence[Instance]) -> tuple[Instance, ...]:
    """`as_written` of a frame's people, who have the same joints."""
    if len(people) < 2 or any(p.box_xyxy is None for p in people):
        return tuple(as_written(p) for p in people)
    xy = np.round(np.stack([p.xy for p in people]).astype(np.float64), 2).astype(np.float32)
    score = np.round(np.stack([p.score for p in people]).astype(np.float64), 4).astype(np.float32)
    boxes = np.round(np.array([p.box_xyxy for p in people], np.float64), 2)
    boxes[:, 2:] = boxes[:, :2] + np.round(boxes[:, 2:] - boxes[:, :2], 2)
    return tuple(
        p.changed(
            xy=joints,
            score=scores,
            person_score=round(float(p.person_score), 4),
            box_xyxy=box,
            heat=None if p.heat is None else round(float(p.heat), 4),
        )
        for p, joints, scores, box in zip(people, xy, score, boxes, strict=True)
    )


def time_of(frame: Frame, source: FrameSource) -> float:
    """`line_time` of a frame of a source."""
    return line_time(frame.time, frame.index, source.fps)


def line_time(time: float | None, index: int, fps: float | None) -> float:
    """Seconds of a frame for tracking, with the precision of the stream."""
    return round(time if time is not None else index / (fps or 25.0), 6)
