"""Identities: kept while people move, cross and vanish for a moment; the same after a restart."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.skeletons import COCO17
from posecli.tracking.oks import OksTracker
from posecli.types import Instance, Skeleton

POSE = np.random.default_rng(1).uniform([0, 0], [40, 100], (17, 2))


def person(x: float, y: float = 0.0, score: float = 0.9) -> Instance:
    xy = (POSE + [x, y]).astype(np.float32)
    box = np.concatenate([xy.min(0), xy.max(0)])
    return Instance(xy, np.full(17, 2), np.ones(17, np.float32), score, box)


def ids(people: tuple[Instance, ...]) -> list[int | None]:
    return [p.track_id for p in people]


def test_identity_follows_the_person_not_the_order() -> None:
    tracker = OksTracker(COCO17)
    assert ids(tracker.update([person(0), person(200)], 0.0)) == [1, 2]
    assert ids(tracker.update([person(203), person(4)], 0.04)) == [2, 1]


def test_people_who_cross_keep_their_identity_by_their_motion() -> None:
    tracker = OksTracker(COCO17)
    seen = [ids(tracker.update([person(6.0 * t), person(150 - 6.0 * t)], t / 25)) for t in range(26)]
    assert all(pair == [1, 2] for pair in seen)


def test_identity_survives_a_short_gap_and_ends_after_a_long_one() -> None:
    tracker = OksTracker(COCO17, max_age=1.0)
    tracker.update([person(0)], 0.0)
    tracker.update([], 0.5)
    assert ids(tracker.update([person(2)], 0.9)) == [1]
    assert ids(tracker.update([person(2)], 2.5)) == [2]


def test_weak_people_get_no_identity() -> None:
    tracker = OksTracker(COCO17, min_score=0.3)
    assert ids(tracker.update([person(0, score=0.1), person(100)], 0.0)) == [None, 1]


def test_nobody_is_a_valid_frame() -> None:
    assert OksTracker(COCO17).update([], 0.0) == ()


def test_replay_continues_as_if_never_stopped() -> None:
    rng = np.random.default_rng(3)
    frames = []
    for t in range(40):
        people = [person(4.0 * t + rng.normal(), rng.normal()), person(160 - 4.0 * t, 5), person(60, 200)]
        frames.append([people[i] for i in rng.permutation(3) if rng.random() > 0.2])
    whole, first, second = OksTracker(COCO17), OksTracker(COCO17), OksTracker(COCO17)
    expected = [whole.update(people, t / 25) for t, people in enumerate(frames)]
    written = [first.update(people, t / 25) for t, people in enumerate(frames[:20])]
    for t, people in enumerate(written):
        second.replay(people, t / 25)
    continued = [second.update(people, (20 + t) / 25) for t, people in enumerate(frames[20:])]
    assert [ids(p) for p in continued] == [ids(p) for p in expected[20:]]


def test_skeleton_without_sigmas_is_refused() -> None:
    with pytest.raises(PoseError, match="sigmas"):
        OksTracker(Skeleton("two", ("a", "b")))
