"""People followed between runs of the finder: nobody lost, nobody twice, still pictures still; what is remembered comes
from the written lines. A made-up world stands in for the networks: people are where we put them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.as_written import as_written
from posecli.following import Follower, thumbnail
from posecli.geometry import box_iou
from posecli.inference import load_model
from posecli.pipeline import infer
from posecli.predictions import person_from_json, person_to_json, read_stream
from posecli.skeletons import BODY19
from posecli.types import Instance
from posecli.video import VideoWriter, open_source

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
    last_pose = False

    def __init__(self) -> None:
        self.there: list[Sequence[float]] = []
        self.seen: list[tuple[Sequence[float], float]] = []
        self.finds = 0
        self.crops = 0
        self.joints = 0.8
        self.ages: list[float | None] = []

    def find(self) -> list[Instance]:
        self.finds += 1
        return [person(box, score) for box, score in self.seen]

    def look(
        self, images: Sequence[np.ndarray], people: Sequence[Sequence[Instance]], age: float | None = None
    ) -> list[list[Instance]]:
        self.ages.append(age)
        return [[self._pose(p) for p in persons] for persons in people]

    def _pose(self, who: Instance) -> Instance:
        self.crops += 1
        overlap = box_iou(np.asarray(who.box_xyxy)[None], np.array(self.there).reshape(-1, 4))[0]
        if not len(overlap) or overlap.max() < 0.2:
            return replace(who, score=np.full(COUNT, 0.05, np.float32), person_score=who.person_score * 0.05)
        found = person(self.there[int(overlap.argmax())], joints=self.joints)
        return replace(who, xy=found.xy, score=found.score, person_score=who.person_score * self.joints)

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


def test_the_model_is_told_how_long_ago_people_were_seen() -> None:
    world = World()
    world.there, world.seen = [A], [(A, 0.9)]
    film = Film(world)
    for _ in range(3):
        film.step()
    assert world.ages[0] is None
    assert world.ages[1:] == pytest.approx([1 / 25, 1 / 25])


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


def test_a_second_box_around_the_upper_half_is_the_same_person() -> None:
    class Halves(World):
        """Of a box that ends at the hips the lower joints are guessed, below it."""

        def _pose(self, who: Instance) -> Instance:
            pose = super()._pose(who)
            low = SHAPE[:, 1] > 0.5
            if float(np.asarray(who.box_xyxy)[3]) > 150:
                return pose
            xy, score = pose.xy.copy(), pose.score.copy()
            xy[low], score[low] = xy[low] - (40, 60), 0.2
            return replace(pose, xy=xy, score=score)

    world = Halves()
    film = Film(world)
    upper = (A[0], A[1], A[2], 130.0)
    world.there, world.seen = [A], [(A, 0.9), (upper, 0.8)]
    assert [len(film.step()) for _ in range(8)] == [1] * 8
    # Two people whose upper halves are apart are two.
    world.there, world.seen = [A, moved(A, 45)], [(A, 0.9), (moved(A, 45), 0.8)]
    film = Film(world)
    assert len(film.step()) == 2


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


@pytest.mark.parametrize("cut", [1, 4, 7, 11, 14])
def test_state_comes_from_the_lines(cut: int) -> None:
    """A follower that saw the lines only goes on as the first one did."""

    def frame(film: Film, n: int) -> list[Instance]:
        world = film.world
        world.there = [moved(A, 3 * n), moved(B, -2 * n)]
        world.seen = [(box, 0.95 - 0.01 * n) for box in world.there[: 1 + n % 2]]
        world.joints = 0.1 if 3 <= n < 16 else 0.8  # somebody is held
        return film.step(still=n in (6, 7))

    whole = Film(World())
    for n in range(20):
        frame(whole, n)
    assert any("calm" in p.extra for people, _ in whole.lines for p in people)
    again = Film(World())
    for n, (people, _) in enumerate(whole.lines[:cut]):
        read = [person_from_json(json.loads(json.dumps(person_to_json(p))), BODY19) for p in people]
        again.follower.see(read, n / 25)
    last = max(n for n in range(cut) if not whole.lines[n][1])
    again.follower.start(again.picture(0 if last in (6, 7) else last))
    again.number = cut - 1
    for n in range(cut, 20):
        frame(again, n)
    for (a, same), (b, too) in zip(whole.lines[cut:], again.lines, strict=True):
        assert same == too and len(a) == len(b)
        assert all(
            np.array_equal(p.xy, q.xy) and np.array_equal(p.box_xyxy, q.box_xyxy) and p.person_score == q.person_score
            for p, q in zip(a, b, strict=True)
        )


def test_thumbnail_of_any_picture() -> None:
    assert thumbnail(np.zeros((720, 1280, 3), np.uint8)).shape == (90, 160, 3)
    assert thumbnail(np.zeros((321, 641, 3), np.uint8)).shape == (80, 160, 3)
    assert thumbnail(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
    assert thumbnail(np.full((1920, 1, 3), 7, np.uint8)).shape == (240, 1, 3)


def test_the_turns_of_the_finder_go_by_time() -> None:
    """Frames far apart and close together, as phones write them: one run in each 0.2 seconds."""
    world = World()
    follower = Follower(world, 0.2, SIZE)  # type: ignore[arg-type]
    world.there, world.seen = [A], [(A, 0.9)]
    times = [0.0, 0.01, 0.02, 0.19, 0.2, 0.21, 0.5, 0.59, 0.6, 0.99, 1.0]
    found = []
    for n, time in enumerate(times):
        before = world.finds
        people, _ = follower.people(Film(world).picture(n), time, world.find)
        follower.see([as_written(p) for p in people], time)
        found.append(world.finds > before)
    assert [t for t, f in zip(times, found, strict=True) if f] == [0.0, 0.2, 0.5, 0.6, 0.99, 1.0]


def test_every_frame_is_a_turn_when_frames_are_rare() -> None:
    follower = Follower(World(), 0.2, SIZE)  # type: ignore[arg-type]
    assert all(follower.scheduled(n / 3, (n - 1) / 3) for n in range(1, 30))


def test_frames_too_far_apart_to_follow_anybody_are_all_looked_at_by_the_finder() -> None:
    """One frame a second and a run of the finder in three: in two frames of three nobody was there."""
    world = World()
    follower = Follower(world, 3.0, SIZE)  # type: ignore[arg-type]
    world.there, world.seen = [A], [(A, 0.9)]
    shown = []
    for n in range(7):
        people, _ = follower.people(Film(world).picture(n), float(n), world.find)
        follower.see([as_written(p) for p in people], float(n))
        shown.append(len(people))
    assert shown == [1] * 7 and world.finds == 7
    assert [follower.scheduled(6 + step) for step in (0.04, 0.5, 0.51)] == [False, False, True]


def test_a_score_around_the_threshold_does_not_blink() -> None:
    world = World()
    film = Film(world, period=1000)
    world.there, world.seen = [A], [(A, 0.52)]
    shown = []
    for n in range(30):
        world.joints = 0.7 if n % 3 else 0.5  # the product goes from 0.26 to 0.36 and back; 0.3 is the threshold
        shown.append(len(film.step()))
    assert shown[10:] == [1] * 20
    scores = [people[0].person_score for people, _ in film.lines[10:]]
    assert max(scores) - min(scores) < 0.03


def test_somebody_large_whose_pose_is_hard_to_read_stays_shown() -> None:
    """The score by itself falls to 0.6 of the threshold: shown at the threshold, then, if large and certain enough."""

    def shown(box: Sequence[float], certainty: float, joints: float) -> list[list[Instance]]:
        world = World()
        world.there, world.seen = [box], [(box, certainty)]
        film = Film(world)
        for _ in range(8):
            assert len(film.step()) == 1
        world.joints = joints
        return [film.step() for _ in range(40)]

    held = shown(A, 0.9, 0.2)
    assert all(len(people) == 1 for people in held)
    (last,) = held[-1]
    assert last.person_score == pytest.approx(0.3) and last.extra["calm"] == pytest.approx(0.18, abs=1e-3)
    assert "calm" not in held[0][0].extra
    assert not shown(A, 0.9, 0.1)[-1]  # too poor: 0.3 of the threshold
    assert not shown(A, 0.7, 0.25)[-1]  # the finder isn't sure
    assert not shown((20.0, 50.0, 60.0, 100.0), 0.9, 0.2)[-1]  # an eighth of the picture's longer side


def test_nobody_is_held_who_was_not_shown() -> None:
    world = World()
    world.there, world.seen, world.joints = [A], [(A, 0.9)], 0.3
    film = Film(world)
    assert not any(film.step() for _ in range(20))


def test_a_large_change_of_the_picture_asks_the_finder_and_keeps_the_people() -> None:
    world = World()
    film = Film(world, period=1000)
    world.there, world.seen = [A], [(A, 0.9)]
    film.step()
    film.step()
    still = film.picture
    film.picture = lambda number: still(number) + np.uint8(20)  # type: ignore[method-assign]
    world.there, world.seen = [A, B], [(B, 0.9)]
    assert len(film.step()) == 2 and world.finds == 2


def test_every_frame_by_itself_without_following(
    tmp_path: Path, cli: Callable, clip: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--find-every 0`` is `PoseModel.predict` of each frame."""
    monkeypatch.chdir(tmp_path)
    assert cli("infer", clip, "-w", tiny_model, "-o", "a.jsonl", "--find-every", 0, "--end", 6).code == 0
    model = load_model(tiny_model, "cpu")
    frames = [frame.image for frame in open_source(clip).frames(0, 6)]
    lines = [line for _, line in read_stream(tmp_path / "a.jsonl")]
    for line, people in zip(lines, model.predict(frames, still=False), strict=True):
        assert "same" not in line.extra and len(line.instances) == len(people)
        for a, b in zip(line.instances, people, strict=True):
            b = as_written(b)
            assert np.array_equal(a.xy, b.xy) and a.person_score == b.person_score and set(a.extra) <= {"colours"}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every"), [("street_crowd.avi", 1), ("two_people_hug.mp4", 2)])
def test_a_followed_clip_resumed_anywhere_is_the_same(
    tmp_path: Path, cli: Callable, shared: Path, name: str, every: int
) -> None:
    arguments = ["infer", shared / "data/clips" / name, "--every", every, "--end", 24 * every]
    assert cli(*arguments, "-o", tmp_path / "whole.jsonl").code == 0
    whole = (tmp_path / "whole.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (2, 5, 11, 17, 23):
        (tmp_path / "part.jsonl").write_bytes(b"".join(lines[:cut]) + lines[cut][:50])
        assert cli(*arguments, "-o", tmp_path / "part.jsonl", "--resume").code == 0
        assert (tmp_path / "part.jsonl").read_bytes() == whole, cut


@pytest.mark.slow
def test_a_cut_between_clips_is_noticed_in_its_first_frame(tmp_path: Path, shared: Path) -> None:
    """The people after a cut are those that the finder sees there, and none of the scene before."""
    model = load_model(device="cpu")
    film, cuts = tmp_path / "film.mp4", []
    with VideoWriter(film, 320, 240, 25) as writer:
        written = 0
        for name in ("street_crowd.avi", "clean_and_jerk.mp4", "athlete_portrait.mp4", "basketball_two_children.mp4"):
            cuts.append(written)
            for frame in open_source(shared / "data/clips" / name).frames(40, 47):
                writer.write(cv2.resize(frame.image, (320, 240), interpolation=cv2.INTER_AREA), written / 25)
                written += 1
    followed = [people for _, people in infer(film, model=model, find_every=10.0)]
    plain = [people for _, people in infer(film, model=model, find_every=0)]
    for cut in cuts:
        kept = [p for p in plain[cut] if p.person_score >= model.threshold]
        there = [p for p in followed[cut] if p.person_score >= model.threshold]
        assert len(kept) == len(there)
        assert all(np.allclose(a.xy, b.xy, atol=0.02) for a, b in zip(kept, there, strict=True))


def test_a_thumbnail_is_never_the_picture_itself() -> None:
    """Whoever painted over a small frame that `infer` had given out made the next one a cut."""
    image = np.zeros((90, 160, 3), np.uint8)
    assert not np.shares_memory(thumbnail(image), image)
