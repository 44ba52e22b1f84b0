"""Colours of clothes: read off the picture where somebody is, not what covers him; what a tracker makes of them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.skeletons import BODY19, COCO17
from posecli.tracking import ColouredTracker, OksTracker
from posecli.tracking.colours import KEY, described, read, unlike
from posecli.types import Instance, Skeleton

RED, BLUE, GREEN, YELLOW = (200, 30, 40), (30, 60, 190), (40, 160, 60), (210, 200, 40)
JOINTS = {  # somebody 100 pixels tall, seen from the front, in pixels from the middle of the hips
    "left_shoulder": (9, -30), "right_shoulder": (-9, -30), "left_hip": (6, 0), "right_hip": (-6, 0),
    "left_knee": (7, 24), "right_knee": (-7, 24), "left_ankle": (7, 46), "right_ankle": (-7, 46),
}  # fmt: skip


def person(x: float, y: float, size: float = 1.0, score: float = 0.9, colours: object = None) -> Instance:
    xy = np.full((17, 2), np.nan, np.float32)
    for name, place in JOINTS.items():
        xy[COCO17.index(name)] = np.array(place) * size + (x, y)
    there = ~np.isnan(xy[:, 0])
    box = np.concatenate([np.nanmin(xy, 0), np.nanmax(xy, 0)]).astype(float)
    extra = {} if colours is None else {KEY: colours}
    return Instance(xy, np.where(there, 2, 0), there.astype(np.float32), score, box, extra=extra)


def dressed(image: np.ndarray, x: int, y: int, shirt: tuple[int, ...], trousers: tuple[int, ...]) -> None:
    cv2.rectangle(image, (x - 14, y - 36), (x + 14, y + 2), shirt, -1)
    cv2.rectangle(image, (x - 14, y + 3), (x + 14, y + 50), trousers, -1)


def lab(colour: tuple[int, ...]) -> list[int]:
    return cv2.cvtColor(np.uint8([[colour]]), cv2.COLOR_RGB2LAB)[0, 0].tolist() * 3


def numbers(shirt: tuple[int, ...], trousers: tuple[int, ...]) -> list[list[int]]:
    return [lab(shirt), lab(trousers)]


def test_colours_are_those_at_the_place() -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    dressed(image, 60, 100, RED, BLUE)
    dressed(image, 200, 110, GREEN, YELLOW)
    first, second = described([person(60, 100), person(200, 110)], image, COCO17)
    assert first.extra[KEY] == numbers(RED, BLUE)
    assert second.extra[KEY] == numbers(GREEN, YELLOW)


def test_whoever_stands_in_front_is_not_taken_for_the_one_behind() -> None:
    """Half of the one behind is covered: what is said of him is his own; when all of him is, nothing is."""
    image = np.full((240, 320, 3), 128, np.uint8)
    dressed(image, 100, 100, RED, BLUE)
    dressed(image, 117, 102, GREEN, YELLOW)
    behind = described([person(100, 100), person(117, 102)], image, COCO17)[0]
    for part, own in zip(behind.extra[KEY], numbers(RED, BLUE), strict=True):
        assert part is None or part[3:6] == own[3:6]  # the median
    assert behind.extra[KEY][1] is not None
    assert KEY not in described([person(100, 100), person(100, 100)], image, COCO17)[0].extra


def test_what_is_outside_or_missing_is_null() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    low = described([person(60, 236)], image, COCO17)[0]
    assert low.extra[KEY] == [[0, 128, 128] * 3, None]
    assert KEY not in described([person(-60, 100)], image, COCO17)[0].extra
    nobody = Instance(np.full((17, 2), np.nan, np.float32), np.zeros(17, int), np.zeros(17, np.float32), 0.9)
    assert KEY not in described([nobody], image, COCO17)[0].extra
    assert described([], image, COCO17) == ()


def test_weak_people_and_other_skeletons_have_none() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    weak, sure = described([person(60, 100, score=0.2), person(61, 100)], image, COCO17, 0.3)
    assert KEY not in weak.extra and sure.extra[KEY][0] is not None  # the weak one hides nobody
    dots = Skeleton("dots", tuple(f"d{i}" for i in range(17)))
    assert described([person(60, 100)], image, dots)[0].extra == {}


def test_colours_that_stood_there_before_go() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    assert KEY not in described([person(-60, 100, colours=numbers(RED, RED))], image, COCO17)[0].extra


@pytest.mark.parametrize(
    "value", [[], [None], [[1] * 9], [[1] * 8, None], [[256] * 9, None], [[-1] * 9, None], [[0.5] * 9, None], "red", 3]
)
def test_anything_else_under_the_key_is_an_error(value: object) -> None:
    with pytest.raises(PoseError, match="colours"):
        read(value)


def test_distance_by_hand() -> None:
    a, b = read([[100, 128, 128] * 3, None])[None], read([[100, 138, 121] * 3, [0] * 9])[None]
    assert unlike(a, b)[0] == pytest.approx(17)  # 10 + 7 in the one part known of both
    darker = read([[151, 128, 128] * 3, None])[None]
    assert unlike(a, darker)[0] == pytest.approx(10)  # 20 steps of L*, halved
    assert np.isnan(unlike(a, read([None, [0] * 9])[None])[0])


def walk(tracker: OksTracker, coloured: bool = True) -> list[list[int | None]]:
    """Two people meet behind a wall, are hidden for a second, turn round there and come out where they went in."""
    ids = []
    rng = np.random.default_rng(0)
    for n in range(75):
        at = 3.0 * n if n < 37 else 3.0 * (74 - n)
        looks = [numbers(RED, BLUE), numbers(GREEN, YELLOW)] if coloured else [None, None]
        people = [person(at, 100, colours=looks[0]), person(222 - at, 102, colours=looks[1])]
        order = rng.permutation(2)
        people = [] if 25 <= n < 50 else [people[i] for i in order]
        found = tracker.link(people, n / 25)
        ids.append([found[list(order).index(i)] for i in range(2)] if people else [])
    return ids


def test_who_turns_round_while_hidden_for_a_second_is_told_by_the_clothes() -> None:
    assert all(pair in ([], [1, 2]) or pair == [2, 1] for pair in walk(ColouredTracker(COCO17)))
    ids = [pair for pair in walk(ColouredTracker(COCO17)) if pair]
    assert all(pair == ids[0] for pair in ids)
    blind = [pair for pair in walk(ColouredTracker(COCO17), coloured=False) if pair]
    assert blind[-1] != blind[0]  # motion alone takes each for the other


def test_a_change_of_colours_alone_does_not_end_an_identity() -> None:
    tracker = ColouredTracker(COCO17)
    for n in range(20):
        assert tracker.link([person(100 + n, 100, colours=numbers(RED, BLUE))], n / 25) == [1]
    for n in range(20, 40):
        assert tracker.link([person(100 + n, 100, colours=numbers(GREEN, YELLOW))], n / 25) == [1]
    for n in range(40, 60):  # and half the size at once
        assert tracker.link([person(100 + n, 100, 0.6, colours=numbers(RED, BLUE))], n / 25) == [1]


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_a_second_skeleton_over_somebody_does_not_take_the_identity_along(frames: int) -> None:
    tracker = ColouredTracker(COCO17)
    looks = numbers(RED, BLUE)
    for n in range(50):
        assert tracker.link([person(100, 100, colours=looks)], n / 25) == [1]
    for n in range(50, 50 + frames):  # two poses of the one, a few pixels apart
        assert tracker.link([person(100, 100, colours=looks), person(108, 100, colours=looks)], n / 25) == [1, 2]
    # One is left, and it is more like the second's.
    for n in range(50 + frames, 80):
        assert tracker.link([person(106, 100, colours=looks)], n / 25) == [1]


def test_whoever_stays_when_another_goes_keeps_the_number() -> None:
    """Somebody new and somebody long known part: the new one keeps the new number though the old one has gone."""
    tracker = ColouredTracker(COCO17)
    for n in range(50):
        tracker.link([person(100, 100, colours=numbers(RED, BLUE))], n / 25)
    for n in range(50, 60):
        new = person(160 + 4 * (n - 50), 100, colours=numbers(GREEN, YELLOW))
        assert tracker.link([person(100, 100, colours=numbers(RED, BLUE)), new], n / 25) == [1, 2]
    assert tracker.link([person(200, 100, colours=numbers(GREEN, YELLOW))], 60 / 25) == [2]


def test_what_was_wrong_at_first_sight_is_learnt_anew() -> None:
    """Read off a wall when first seen; afterwards alone and plainly visible."""
    tracker = ColouredTracker(COCO17)
    for n in range(30):
        looks = numbers(YELLOW, YELLOW) if n < 4 else numbers(RED, BLUE)
        assert tracker.link([person(100 + n, 100, colours=looks)], n / 25) == [1]
    assert unlike(tracker.tracks[0].colours, read(numbers(RED, BLUE))) < 1
    for n in range(30, 33):  # a few strange looks change nothing
        tracker.link([person(100 + n, 100, colours=numbers(GREEN, YELLOW))], n / 25)
    assert unlike(tracker.tracks[0].colours, read(numbers(RED, BLUE))) < 1


def test_without_colours_identities_come_from_poses() -> None:
    tracker = ColouredTracker(COCO17)
    for n in range(26):
        assert tracker.link([person(6.0 * n, 100), person(150 - 6.0 * n, 100)], n / 25) == [1, 2]


def test_replay_remembers_colours() -> None:
    rng = np.random.default_rng(3)
    frames = []
    for t in range(60):
        looks = [[rng.integers(0, 255, 9).tolist() if rng.random() < 0.3 else p for p in numbers(*c)]
                 for c in ((RED, BLUE), (GREEN, YELLOW), (RED, YELLOW))]  # fmt: skip
        looks[0][int(rng.integers(2))] = None
        people = [person(4.0 * t + rng.normal(), 100, 1 + t / 200, colours=looks[0]),
                  person(240 - 4.0 * t, 104, colours=looks[1]),
                  person(120 + 30 * np.sin(t / 6), 90, colours=looks[2])]  # fmt: skip
        frames.append([people[i] for i in rng.permutation(3) if rng.random() > 0.2])
    whole, first, second = ColouredTracker(COCO17), ColouredTracker(COCO17), ColouredTracker(COCO17)
    expected = [whole.link(people, t / 25) for t, people in enumerate(frames)]
    for t, people in enumerate(frames[:30]):
        second.replay(first.update(people, t / 25), t / 25)
    assert [second.link(people, (30 + t) / 25) for t, people in enumerate(frames[30:])] == expected[30:]
    for a, b in zip(whole.tracks, second.tracks, strict=True):
        np.testing.assert_array_equal(a.colours, b.colours)
        np.testing.assert_array_equal(a.velocity, b.velocity)
        assert a.spread == b.spread


def test_nineteen_joints_do_as_well() -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    dressed(image, 60, 100, RED, BLUE)
    xy = np.full((19, 2), np.nan, np.float32)
    for name, place in JOINTS.items():
        xy[BODY19.index(name)] = np.array(place) + (60, 100)
    there = ~np.isnan(xy[:, 0])
    one = Instance(xy, np.where(there, 2, 0), there.astype(np.float32), 0.9)
    assert described([one], image, BODY19)[0].extra[KEY] == numbers(RED, BLUE)
