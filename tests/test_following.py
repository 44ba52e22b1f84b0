"""People followed between runs of the finder: nobody lost, nobody twice, still pictures still; what is remembered comes
from the written lines. A made-up world stands in for the networks: people are where we put them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from posecli.following import Follower, thumbnail
from posecli.geometry import box_iou
from posecli.pipeline import as_written
from posecli.skeletons import BODY19
from posecli.types import Instance

COUNT = BODY19.num_keypoints
SIZE = (400, 300)
# A pose in units of its box: fixed, spread over it.
SHAPE = np.random.default_rng(3).uniform(0.1, 0.9, (COUNT, 2))
SHAPE[:4] = [[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]]


def person(box: Sequence[float], score: float = 0.6, joints: float = 0.0) -> Instance:
    corners = np.asarray(box, dtype=np.float64)
    xy = corners[:2] + SHAPE * (corners[2:] - corners[:2])
    return Instance(
        xy.astype(np.float32), np.full(COUNT, 2), np.full(COUNT, joints, np.float32), score, corners, heat=0.5
    )


class World:
    """Stands for `PoseModel`: ``there`` are the true boxes, ``seen`` those that the finder finds, with certainties."""

    skeleton = BODY19
    threshold = 0.3

    def __init__(self) -> None:
        self.there: list[Sequence[float]] = []
        self.seen: list[tuple[Sequence[float], float]] = []
        self.finds = 0
        self.crops = 0

    def find(self) -> list[Instance]:
        self.finds += 1
        return [person(box, score) for box, score in self.seen]

    def look(self, images: Sequence[np.ndarray], people: Sequence[Sequence[Instance]]) -> list[list[Instance]]:
        return [[self._pose(p) for p in persons] for persons in people]

    def _pose(self, who: Instance) -> Instance:
        self.crops += 1
        overlap = box_iou(np.asarray(who.box_xyxy)[None], np.array(self.there).reshape(-1, 4))[0]
        if not len(overlap) or overlap.max() < 0.2:
            return replace(who, score=np.full(COUNT, 0.05, np.float32), person_score=who.person_score * 0.05)
        found = person(self.there[int(overlap.argmax())], joints=0.8)
        return replace(who, xy=found.xy, score=found.score, person_score=who.person_score * 0.8)

    def joints_score(self, scores: np.ndarray) -> float:
        return float(scores.mean())

    def joints_score(self, scores: np.ndarray) -> float:
        return float(scores.mean())

    def kept(self, people: Sequence[Instance]) -> list[Instance]:
        return sorted(people, key=lambda p: -p.person_score)


class Film:
    """Frames of a world at 25 a second, each with a picture of its own."""

    def __init__(self, world: World, period: int = 6) -> None:
        self.world = world
        self.follower = Follower(world, period / 25, SIZE)  # type: ignore[arg-type]
        self.number = -1
        self.scene = 0
        self.lines: list[tuple[list[Instance], bool]] = []

    def picture(self, number: int) -> np.ndarray:
        return np.random.default_rng(self.scene).integers(0, 120, (300, 400, 3), dtype=np.uint8) + np.uint8(
            3 * abs(number % 20 - 10)
        )

    def step(self, still: bool = False) -> list[Instance]:
        """The shown people of the next frame."""
        self.number += 1
        image = self.picture(0 if still else self.number)
        people, same = self.follower.people(image, self.number / 25, self.world.find)
        written = [as_written(p) for p in people]
        self.follower.see(written, self.number / 25)
        self.lines.append((written, same))
        return [p for p in written if p.person_score >= self.world.threshold]


def moved(box: Sequence[float], x: float) -> list[float]:
    return [box[0] + x, box[1], box[2] + x, box[3]]


A, B = (20.0, 50.0, 80.0, 200.0), (300.0, 50.0, 360.0, 200.0)


def test_walkers_are_followed_with_few_runs_of_the_finder() -> None:
    world = World()
    film = Film(world)
    for n in range(30):
        world.there = [moved(A, 4 * n), moved(B, -4 * n if n < 20 else -80)]
        world.seen = [(box, 0.9) for box in world.there]
        shown = film.step()
        assert len(shown) == 2
        overlap = box_iou(np.stack([np.asarray(p.box_xyxy) for p in shown]), np.array(world.there))
        assert overlap.max(0).min() > 0.5
    assert world.finds == 5


def test_somebody_new_is_there_at_the_next_scheduled_run() -> None:
    world = World()
    film = Film(world)
    world.there, world.seen = [A], [(A, 0.9)]
    assert [len(film.step()) for _ in range(2)] == [1, 1]
    world.there, world.seen = [A, B], [(A, 0.9), (B, 0.9)]
    assert [len(film.step()) for _ in range(6)] == [1, 1, 1, 1, 2, 2]


def test_somebody_lost_is_found_within_three_frames() -> None:
    world = World()
    film = Film(world, period=1000)
    world.there, world.seen = [A], [(A, 0.9)]
    for _ in range(5):
        film.step()
    # Gone from one frame to the next, and seen again elsewhere two frames later.
    world.there, world.seen = [B], []
    assert [len(film.step()) for _ in range(2)] == [0, 0]
    world.seen = [(B, 0.9)]
    assert len(film.step()) == 1
    assert world.finds == 4


def test_a_jump_is_noticed_in_the_same_frame() -> None:
    world = World()
    film = Film(world, period=1000)
    world.there, world.seen = [A], [(A, 0.9)]
    for _ in range(5):
        film.step()
    world.there, world.seen = [B], [(B, 0.9)]
    assert len(film.step()) == 1 and world.finds == 2


def test_a_finder_that_blinks_loses_nobody_and_one_that_is_gone_is_given_up() -> None:
    world = World()
    film = Film(world, period=3)
    world.there, world.seen = [A], [(A, 0.9)]
    film.step()
    world.seen = []
    assert [len(film.step()) for _ in range(5)] == [1] * 5
    # Joints are still seen, perhaps on a coat stand: without the finder's word that ends.
    assert sum(len(film.step()) for _ in range(20)) < 10
    assert film.step() == []


def test_a_cut_starts_anew() -> None:
    world = World()
    film = Film(world, period=1000)
    world.there, world.seen = [A], [(A, 0.9)]
    film.step()
    film.step()
    assert world.finds == 1
    film.scene, world.there, world.seen = 1, [A], [(B, 0.9)]
    dark = film.picture
    film.picture = lambda number: 255 - dark(number)  # type: ignore[method-assign]
    film.step()
    assert world.finds == 2
    assert not [p for p, _ in film.lines[-1:] if p and np.allclose(p[0].box_xyxy, A)]


def test_two_tracks_on_one_person_become_one() -> None:
    world = World()
    film = Film(world)
    world.there = [A]
    world.seen = [(A, 0.9), (moved(A, 20), 0.8)]
    assert len(film.step()) == 1


def test_whoever_leaves_the_picture_ends_without_a_search() -> None:
    world = World()
    film = Film(world, period=1000)
    for n in range(40):
        box = moved(B, 4 * n)
        world.there = [box] if box[0] < 400 else []
        world.seen = [(box, 0.9)] if box[0] < 380 else []
        film.step()
    assert film.lines[-1][0] == [] and world.finds <= 2


def test_a_still_picture_gives_the_same_poses_in_every_frame() -> None:
    world = World()
    film = Film(world)
    world.there, world.seen = [A, B], [(A, 0.9), (B, 0.5)]
    for _ in range(20):
        film.step(still=True)
    first = film.lines[0][0]
    assert [same for _, same in film.lines] == [False] + [True] * 19
    for people, _ in film.lines:
        assert all(
            np.array_equal(p.xy, q.xy) and p.person_score == q.person_score for p, q in zip(people, first, strict=True)
        )
    assert world.finds == 1


def test_a_box_stays_where_the_pose_hardly_moves() -> None:
    world = World()
    film = Film(world)
    world.there, world.seen = [A], [(A, 0.9)]
    for _ in range(12):
        film.step()
    boxes = [np.asarray(people[0].box_xyxy) for people, _ in film.lines]
    assert all(np.array_equal(box, boxes[5]) for box in boxes[5:])
    assert np.abs(np.asarray(boxes[5]) - A).max() < 0.15 * 150


def test_people_below_the_threshold_are_not_looked_at() -> None:
    world = World()
    film = Film(world)
    world.there, world.seen = [A, B], [(A, 0.29), (B, 0.31)]
    film.step()
    assert world.crops == 1


@pytest.mark.parametrize("cut", [1, 4, 7, 11])
def test_state_comes_from_the_lines(cut: int) -> None:
    """A follower that saw the lines only goes on as the first one did."""

    def frame(film: Film, n: int) -> list[Instance]:
        world = film.world
        world.there = [moved(A, 3 * n), moved(B, -2 * n)]
        world.seen = [(box, 0.9 - 0.02 * n) for box in world.there[: 1 + n % 2]]
        return film.step(still=n in (6, 7))

    whole = Film(World())
    for n in range(20):
        frame(whole, n)
    again = Film(World())
    for n, (people, _) in enumerate(whole.lines[:cut]):
        again.follower.see(people, n / 25)
    last = max(n for n in range(cut) if not whole.lines[n][1])
    again.follower.start(again.picture(0 if last in (6, 7) else last))
    again.number = cut - 1
    for n in range(cut, 20):
        frame(again, n)
    for (a, same), (b, too) in zip(whole.lines[cut:], again.lines, strict=True):
        assert same == too and len(a) == len(b)
        assert all(
            np.array_equal(p.xy, q.xy) and np.array_equal(p.box_xyxy, q.box_xyxy) for p, q in zip(a, b, strict=True)
        )


def test_thumbnail_of_any_picture() -> None:
    assert thumbnail(np.zeros((720, 1280, 3), np.uint8)).shape == (90, 160, 3)
    assert thumbnail(np.zeros((321, 641, 3), np.uint8)).shape == (80, 160, 3)
    assert thumbnail(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
    assert thumbnail(np.full((1920, 1, 3), 7, np.uint8)).shape == (240, 1, 3)
