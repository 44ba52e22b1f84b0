"""What each tracker looks at: motion over an occlusion, boxes, the picture's own movement; cuts; unsure people."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posecli.skeletons import BODY19, COCO17
from posecli.tracking import TRACKERS, ColouredTracker, FlowTracker, IouTracker, OksTracker, make
from posecli.tracking.colours import KEY
from posecli.types import Instance, Skeleton

POSE = np.random.default_rng(1).uniform([0, 0], [40, 100], (17, 2))


def person(x: float, y: float = 0.0, score: float = 0.9) -> Instance:
    xy = (POSE + [x, y]).astype(np.float32)
    return Instance(xy, np.full(17, 2), np.ones(17, np.float32), score, np.concatenate([xy.min(0), xy.max(0)]))


@pytest.mark.parametrize("kind", [OksTracker, ColouredTracker])
def test_identities_survive_a_second_behind_something(kind: type[OksTracker]) -> None:
    """Two people walk past one another and are hidden for a second just then; noise of 2 pixels in each joint."""
    rng = np.random.default_rng(0)
    tracker = kind(COCO17)
    for n in range(75):
        if 25 <= n < 50:
            people = []
        else:
            people = [person(3.0 * n + rng.normal(0, 1)), person(222 - 3.0 * n + rng.normal(0, 1), 6)]
        numbers = tracker.link(people, n / 25)
        assert numbers == ([1, 2] if people else [])


@pytest.mark.parametrize("kind", [OksTracker, ColouredTracker])
def test_whoever_stays_in_sight_is_not_taken_for_somebody_hidden(kind: type[OksTracker]) -> None:
    tracker = kind(COCO17)
    for n in range(20):
        tracker.link([person(4.0 * n), person(152 - 4.0 * n)], n / 25)
    # They meet; from now on only the first is seen.
    for n in range(20, 30):
        assert tracker.link([person(4.0 * n)], n / 25) == [1]


def test_pairs_are_the_best_together_not_one_by_one() -> None:
    """Greedily the second person would take the first's track, being a little nearer to it than the first is."""
    tracker = OksTracker(COCO17)
    tracker.link([person(0), person(30)], 0.0)
    assert tracker.link([person(-12), person(10)], 0.04) == [1, 2]


def test_overlap_of_boxes_needs_no_sigmas() -> None:
    tracker = IouTracker(Skeleton("dots", tuple(f"d{i}" for i in range(17))))
    assert tracker.link([person(0), person(100)], 0.0) == [1, 2]
    assert tracker.link([person(105), person(4)], 0.04) == [2, 1]
    assert tracker.link([person(300)], 0.08) == [3]


def textured(shift: float) -> np.ndarray:
    """(240, 320, 3) a random pattern moved to the right."""
    noise = cv2.GaussianBlur(np.random.default_rng(2).normal(128, 400, (240, 420)), (0, 0), 3)
    matrix = np.array([[1, 0, shift], [0, 1, 0]], float)
    moved = cv2.warpAffine(noise, matrix, (420, 240), borderMode=cv2.BORDER_REFLECT)[:, :320]
    return np.repeat(np.clip(moved, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


@pytest.mark.parametrize("scale", [1, 4])
def test_flow_carries_joints_with_the_picture(scale: int) -> None:
    tracker = FlowTracker(COCO17)
    for n in range(3):
        tracker.look(cv2.resize(textured(3.0 * n), None, fx=scale, fy=scale), n / 25)
    points = np.array([[100.0, 80], [200, 150], [150, 60]]) * scale
    moved = tracker.moved(points, 1 / 25)
    assert moved is not None
    np.testing.assert_allclose(moved - points, np.tile([3.0 * scale, 0], (3, 1)), atol=0.6 * scale)
    assert tracker.moved(points, 0.0) is None  # flow tells of the last frame only


def test_flow_follows_what_leaps_with_its_picture() -> None:
    """People at rest who are shifted with the whole picture by most of their distance: velocity says one thing, the
    picture another."""
    flow = FlowTracker(COCO17)
    people = [person(40, 60), person(70, 60)]
    for n in range(5):
        flow.link(people, n / 25, textured(0))
    moved = [person(58, 60), person(88, 60)]
    assert flow.link(moved, 5 / 25, textured(18)) == [1, 2]


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_by_its_name(name: str) -> None:
    tracker = make(name, BODY19, 0.3)
    assert tracker.min_score == 0.3
    image = textured(0)
    there = [person(0), person(100, score=0.1)]
    there = [
        Instance(np.vstack([p.xy, p.xy[:2]]), np.full(19, 2), np.ones(19), p.person_score, p.box_xyxy) for p in there
    ]
    assert tracker.link(there, 0.0, image) == [1, None]
    assert tracker.link(there, 0.04, image) == [1, None]
    tracker.cut()
    assert tracker.link(there, 0.08, image) == [2, None]
    assert tracker.link([], 0.12, image) == []


@pytest.mark.parametrize("size", [(2, 2), (11, 11), (8, 6000), (500, 1)])
def test_pictures_of_a_few_pixels_have_no_flow(size: tuple[int, int]) -> None:
    tracker = FlowTracker(COCO17)
    for time in (0.0, 0.04):
        assert tracker.link([person(0)], time, np.zeros((*size, 3), np.uint8)) == [1]
    assert tracker.moved(person(0).xy, 0.0) is None


def test_nobody_shares_an_identity_and_the_order_of_people_does_not_matter() -> None:
    """A crowd that walks, overlaps and is missed now and then, given once in one order and once in others."""
    rng = np.random.default_rng(5)
    at, speed = rng.uniform(0, [300, 40], (8, 2)), rng.normal(0, [60, 5], (8, 2))
    one, other = ColouredTracker(COCO17), ColouredTracker(COCO17)
    same: dict[int | None, int | None] = {}
    for n in range(60):
        crowd = [person(*(a + n / 25 * s + rng.normal(0, 2, 2))) for a, s in zip(at, speed, strict=True)]
        crowd = [p for p in crowd if rng.random() > 0.15]
        order = rng.permutation(len(crowd)).tolist()
        numbers = one.link(crowd, n / 25)
        assert len(set(numbers)) == len(crowd)
        shuffled = other.link([crowd[i] for i in order], n / 25)
        for i, number in zip(order, shuffled, strict=True):
            # New people are numbered in the order given, so the numbers may differ; who has them may not.
            assert same.setdefault(numbers[i], number) == number
    assert len(set(same.values())) == len(same) >= 8


def test_joints_that_are_guessed_say_little() -> None:
    """Somebody half hidden whose legs and hips are seen, with low scores, on whoever stands in front."""
    one, other = person(0), person(60)
    half = one.xy.copy()
    score = np.ones(17, np.float32)
    half[7:] = other.xy[7:] + 2
    score[7:] = 0.3
    guessed = one.changed(xy=half, score=score)
    for kind, expected in ((OksTracker, [2]), (ColouredTracker, [1])):
        tracker = kind(COCO17)
        tracker.link([one, other], 0.0)
        assert tracker.link([guessed], 0.04) == expected
    unknown = [p.changed(score=np.zeros(17, np.float32)) for p in (one, other)]
    tracker = ColouredTracker(COCO17)
    assert tracker.link(unknown, 0.0) == tracker.link(unknown, 0.04) == [1, 2]


def sized(x: float, size: float) -> Instance:
    """Somebody whose middle is at (x, 50)."""
    xy = ((POSE - POSE.mean(0)) * size + [x, 50]).astype(np.float32)
    return Instance(xy, np.full(17, 2), np.ones(17, np.float32), 0.9, np.concatenate([xy.min(0), xy.max(0)]))


def test_who_was_hidden_is_known_by_the_size() -> None:
    """Two people at different distances go behind a wall, and each comes out on the other's side."""
    for kind, expected in ((OksTracker, [1, 2]), (ColouredTracker, [2, 1])):
        tracker = kind(COCO17)
        for n in range(25):
            assert tracker.link([sized(100, 1.0), sized(112, 0.65)], n / 25) == [1, 2]
        assert tracker.link([sized(100, 0.65), sized(112, 1.0)], 1.7) == expected


def test_a_change_of_size_alone_does_not_end_an_identity() -> None:
    """Somebody sits down at once."""
    tracker = ColouredTracker(COCO17)
    for n in range(50):
        assert tracker.link([sized(100, 1.0 if n < 25 else 0.6)], n / 25) == [1]


def test_a_box_without_extent_says_nothing_of_where_somebody_is() -> None:
    """Its area made every likeness 0, so each frame had new identities."""
    tracker = OksTracker(COCO17)
    nowhere = np.array([5.0, 5, 5, 5])
    for n in range(5):
        assert tracker.link([person(2.0 * n).changed(box_xyxy=nowhere)], n / 25) == [1]


@pytest.mark.parametrize("rate", [30, 120])
def test_what_is_known_of_colours_is_learnt_anew_after_a_time_not_after_frames(rate: int) -> None:
    """Somebody in plain sight looks otherwise from now on: believed after 8 thirtieths of a second at any rate."""
    tracker = ColouredTracker(COCO17)
    for n in range(rate):
        tracker.link([person(0).changed(extra={KEY: [[40] * 9, [60] * 9]})], n / rate)
    (track,) = tracker.tracks
    assert track.looks.max() == pytest.approx(30, abs=1.1)
    after = 0
    while track.colours[0, 0] < 200:
        tracker.link([person(0).changed(extra={KEY: [[220] * 9, [240] * 9]})], 1 + after / rate)
        after += 1
    assert after == pytest.approx(8 * rate / 30, abs=1.1)
