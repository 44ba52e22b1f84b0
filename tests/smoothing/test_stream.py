"""Streams made steady: in blocks as at once, people by id, cuts, gaps, what is kept."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from posecli.cli.app import app
from posecli.errors import PoseError, UsageError
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, header_to_json, read_stream
from posecli.smoothing import stream
from posecli.smoothing.filters import kalman
from posecli.smoothing.gaps import fill_gaps, size_of
from posecli.smoothing.stream import Smoothing, smooth_file, smooth_lines
from posecli.types import Instance, Skeleton

BONES = Skeleton("bones", ("a", "b", "c"), sigmas=(0.1, 0.1, 0.1))
HEADER = StreamHeader("clip.mp4", BONES, 640, 480, 30.0, threshold=0.3)


def person(number: int | None, xy: np.ndarray, missing: tuple[int, ...] = (), **others: object) -> Instance:
    joints = np.array(xy, np.float32).reshape(3, 2)
    there = ~np.isin(np.arange(3), missing)
    joints[~there] = np.nan
    return Instance(
        joints, np.where(there, 2, 0), np.where(there, 0.8, 0).astype(np.float32), 0.9,
        np.array([0.0, 0, 50, 200]), track_id=number, **others,
    )  # fmt: skip


def line(frame: int, *people: Instance, **extra: object) -> FramePoses:
    return FramePoses(frame, people, frame / 30, extra=extra)


def walk(rng: np.random.Generator, count: int, speed: float = 4.0) -> np.ndarray:
    """(T, 3, 2) joints that move along, shaking."""
    return 100 + speed * np.arange(count)[:, None, None] + rng.normal(0, 3, (count, 3, 2))


def joints_of(lines: list[FramePoses], number: int) -> np.ndarray:
    return np.stack([p.xy for each in lines for p in each.instances if p.track_id == number])


@pytest.mark.parametrize("strength", [1.0, 4.0])
@pytest.mark.parametrize("name", ["savgol", "kalman"])
def test_blocks_give_what_the_whole_track_gives(name: str, strength: float, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = walk(np.random.default_rng(0), 900)
    lines = [line(n, person(1, xy)) for n, xy in enumerate(walked)]
    blocks = list(smooth_lines(HEADER, lines, Smoothing(name, strength=strength)))
    monkeypatch.setattr(stream, "_BLOCK", 1e9)
    whole = list(smooth_lines(HEADER, lines, Smoothing(name, strength=strength)))
    assert [b.frame for b in blocks] == list(range(900))
    assert np.abs(joints_of(blocks, 1) - joints_of(whole, 1)).max() < 0.005  # a stream has two decimals


def test_the_kalman_filter_is_the_one_of_the_arrays() -> None:
    walked = walk(np.random.default_rng(1), 60)
    lines = [line(n, person(1, xy)) for n, xy in enumerate(walked)]
    expected = kalman(
        np.arange(60) / 30, walked.astype(np.float32).astype(float), np.full((60, 3), 0.8), np.full(60, 200.0),
        np.ones((60, 3), bool),
    )  # fmt: skip
    got = joints_of(list(smooth_lines(HEADER, lines, Smoothing("kalman"))), 1)
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("name", ["oneeuro", "savgol", "kalman"])
def test_frames_without_picture_and_time_are_no_step_back(name: str) -> None:
    """The nominal rate says nothing of when they were, among frames that have stamps of their own."""
    walked = walk(np.random.default_rng(1), 60)
    lines = [replace(line(n, person(1, xy)), time=n / 10) for n, xy in enumerate(walked)]
    lost = [replace(each, instances=(), time=None, extra={"broken": True}) for each in lines]
    lines = [lost[n] if n in (0, 20, 21, 59) else each for n, each in enumerate(lines)]
    got = list(smooth_lines(HEADER, lines, Smoothing(name, fill=3)))
    assert [each.frame for each in got] == list(range(60)) and all(each.instances for each in got[1:59])
    slow = [replace(each, frame=each.frame + 1000) for each in lines]  # the first, at 33 s, before one at 0.1 s
    assert len(list(smooth_lines(HEADER, slow, Smoothing(name)))) == 60
    with pytest.raises(PoseError, match="backwards at frame 4"):
        list(smooth_lines(HEADER, [*lines[:6], lines[4]], Smoothing(name)))


@pytest.mark.parametrize("name", ["oneeuro", "savgol", "kalman"])
def test_look_ahead_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are given out long before the stream ends, One Euro's at once."""
    taken = 0

    def lines() -> Iterator[FramePoses]:
        nonlocal taken
        for n, xy in enumerate(walk(np.random.default_rng(2), 700)):
            taken += 1
            yield line(n, person(1, xy))

    ahead = [taken - each.frame - 1 for each in smooth_lines(HEADER, lines(), Smoothing(name))]
    assert max(ahead) <= (0 if name == "oneeuro" else 9 * 30 + 1)
    # Times that stand still must not fill the memory either.
    monkeypatch.setattr(stream, "_MOST", 50)
    taken = 0

    def still() -> Iterator[FramePoses]:
        nonlocal taken
        for n in range(400):
            taken += 1
            yield replace(line(n, person(1, np.zeros(6))), time=1.0)

    ahead = [taken - each.frame - 1 for each in smooth_lines(HEADER, still(), Smoothing(name))]
    assert len(ahead) == 400 and max(ahead) <= 100


@pytest.mark.parametrize("name", ["oneeuro", "savgol", "kalman"])
def test_a_cut_starts_anew(name: str) -> None:
    rng = np.random.default_rng(3)
    first, second = walk(rng, 40), walk(rng, 40) + 300
    both = [line(n, person(1, xy)) for n, xy in enumerate(np.concatenate([first, second]))]
    both[40] = replace(both[40], extra={"cut": True})
    got = joints_of(list(smooth_lines(HEADER, both, Smoothing(name))), 1)
    for part, start in ((first, 0), (second, 40)):
        alone = [line(start + n, person(1, xy)) for n, xy in enumerate(part)]
        expected = joints_of(list(smooth_lines(HEADER, alone, Smoothing(name))), 1)
        np.testing.assert_allclose(got[start : start + 40], expected, atol=1e-4)


def test_people_are_told_apart_and_those_without_id_left_alone() -> None:
    rng = np.random.default_rng(4)
    a, b, nobody = walk(rng, 30), walk(rng, 30, -4.0), walk(rng, 30)
    lines = []
    for n in range(30):
        people = [person(1, a[n]), person(2, b[n]), person(None, nobody[n], extra={"mood": "odd"})]
        lines.append(line(n, *(people if n % 2 else people[::-1]), light="dim"))
    got = list(smooth_lines(HEADER, lines, Smoothing("kalman")))
    for number, track in ((1, a), (2, b)):
        alone = [line(n, person(number, xy)) for n, xy in enumerate(track)]
        expected = joints_of(list(smooth_lines(HEADER, alone, Smoothing("kalman"))), number)
        np.testing.assert_array_equal(joints_of(got, number), expected)
    for n, each in enumerate(got):
        (stranger,) = [p for p in each.instances if p.track_id is None]
        np.testing.assert_array_equal(stranger.xy, nobody[n].astype(np.float32))
        assert stranger.extra == {"mood": "odd"} and each.extra == {"light": "dim"}
        assert [p.track_id for p in each.instances] == [p.track_id for p in lines[n].instances]


def test_gaps_are_filled_evenly_in_time_and_marked() -> None:
    start, end = np.zeros(6), np.arange(6) * 12.0
    lines = [
        line(0, person(1, start)),
        line(1),
        line(2, person(1, start + 2, missing=(1,), extra={"filled": ["c"]})),
        line(4, person(1, end)),
        line(5),
        line(6),
        line(7),
        line(8, person(1, end)),
    ]
    filled = list(fill_gaps(HEADER, lines, 2))
    assert [len(each.instances) for each in filled] == [1, 1, 1, 1, 0, 0, 0, 1]
    (whole,) = filled[1].instances
    # From frame 0 to 2 for the joints that frame 2 has, from frame 0 to 4 for the one it lacks.
    np.testing.assert_allclose(whole.xy[[0, 2]], np.ones((2, 2)), atol=1e-5)
    np.testing.assert_allclose(whole.xy[1], end[2:4] / 4, atol=1e-5)
    assert whole.extra["filled"] == ["a", "b", "c"] and whole.track_id == 1
    assert whole.box_xyxy is not None and (whole.visibility == 2).all()
    (part,) = filled[2].instances
    np.testing.assert_allclose(part.xy[1], end[2:4] / 2, atol=1e-5)
    assert part.extra["filled"] == ["b", "c"]
    np.testing.assert_allclose(part.xy[0], [2, 2])


def test_nothing_is_filled_between_places_too_far_apart() -> None:
    """Six frames at five sizes a second, and the boxes are 200 pixels long: 0.12 + 1 of them."""
    here = walk(np.random.default_rng(3), 1)[0]
    for moved, lines in ((220, 7), (240, 2)):
        filled = list(
            fill_gaps(
                HEADER, [line(0, person(1, here)), *map(line, range(1, 6)), line(6, person(1, here + [moved, 0]))], 9
            )
        )
        assert sum(len(each.instances) for each in filled) == lines


def test_of_a_box_without_extent_the_joints_say_the_size() -> None:
    """Sizes of a pixel made every movement a leap."""
    here = np.array([[0, 0], [30, 10], [20, 120]])
    nothing = replace(person(1, here), box_xyxy=np.array([5.0, 5, 5, 5]))
    assert size_of(nothing) == 120 and size_of(person(1, here)) == 200
    assert size_of(replace(nothing, visibility=np.zeros(3, int))) == 1


def test_nothing_is_filled_across_a_cut() -> None:
    lines = [line(0, person(1, np.zeros(6))), line(1), line(2, person(1, np.ones(6)), cut=True)]
    assert [len(each.instances) for each in fill_gaps(HEADER, lines, 5)] == [1, 0, 1]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=2, max_size=2), min_size=1, max_size=30), st.integers(0, 4))
def test_filling_adds_and_never_changes(there: list[list[bool]], longest: int) -> None:
    """On random presence of two people: gaps up to the length are filled between two sightings, nothing else is."""
    rng = np.random.default_rng(5)
    lines = [line(n, *(person(i + 1, rng.normal(0, 9, 6)) for i in range(2) if row[i])) for n, row in enumerate(there)]
    filled = list(fill_gaps(HEADER, lines, longest))
    assert [f.frame for f in filled] == [each.frame for each in lines]
    for i in range(2):
        seen = [n for n, row in enumerate(there) if row[i]]
        wanted = set(seen)
        for a, b in itertools.pairwise(seen):
            if b - a - 1 <= longest:
                wanted |= set(range(a, b))
        assert wanted == {n for n, f in enumerate(filled) if any(p.track_id == i + 1 for p in f.instances)}
    for before, after in zip(lines, filled, strict=True):
        assert after.instances[: len(before.instances)] == before.instances


def _write(path: Path, lines: list[FramePoses]) -> None:
    with StreamWriter(path) as writer:
        writer.header(replace(HEADER, source="empty.mp4"))
        writer.header(replace(HEADER, extra={"boxes": {"from": "found"}}))
        for each in lines:
            writer.frame(each)


def test_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    walked = walk(rng, 50)
    source, target = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    _write(source, [line(n, person(1, xy, missing=(1,) if n == 20 else ())) for n, xy in enumerate(walked)])
    report = smooth_file(source, target, Smoothing("kalman", fill=2, keep_raw=True))
    assert (report.frames, report.people, report.filled_joints) == (50, 50, 1)
    assert sum('"kind": "header"' in text for text in target.read_text().splitlines()) == 2
    for n, (header, each) in enumerate(read_stream(target)):
        assert header.extra["smoothing"] == {"filter": "kalman", "fill": 2} and "boxes" in header.extra
        raw = each.instances[0].extra["raw"]
        assert (raw[1] is None) == (n == 20)
        np.testing.assert_allclose(raw[0], [*np.round(walked[n, 0], 2), 0.8], atol=0.006)
    with pytest.raises(PoseError, match="exists already"):
        smooth_file(source, target, Smoothing())
    text = target.read_bytes()
    smooth_file(target, target, Smoothing("savgol"), overwrite=True, again=False)
    assert target.read_bytes() == text


def test_time_must_not_run_backwards() -> None:
    lines = [line(3, person(1, np.zeros(6))), line(2, person(1, np.zeros(6)))]
    with pytest.raises(PoseError, match="backwards at frame 2"):
        list(smooth_lines(HEADER, lines, Smoothing("kalman")))
    with pytest.raises(UsageError, match="unknown filter"):
        Smoothing("median")


def test_the_verb_works_in_a_pipe() -> None:
    lines = [header_to_json(HEADER), {"frame": 0, "persons": []}]
    text = "".join(json.dumps(value) + "\n" for value in lines)
    done = CliRunner().invoke(app, ["smooth", "-", "--out", "-", "--filter", "oneeuro"], input=text)
    assert done.exit_code == 0, done.output
    head, frame = (json.loads(row) for row in done.stdout.splitlines())
    assert head["smoothing"] == {"filter": "oneeuro", "fill": 0} and frame == lines[1]


@pytest.mark.parametrize("name", ["oneeuro", "savgol", "kalman"])
def test_a_stronger_filter_is_calmer_and_follows_less(name: str) -> None:
    """Of somebody at rest less of the shaking is left, of a sudden turn less is followed; one is the usual."""
    rng = np.random.default_rng(4)
    still, turn = rng.normal(200, 3, (120, 3, 2)), np.full((120, 3, 2), 200.0)
    turn[60:] += 4.0 * np.arange(60)[:, None, None]

    def smoothed(walked: np.ndarray, strength: float) -> np.ndarray:
        lines = [line(n, person(1, xy)) for n, xy in enumerate(walked)]
        return joints_of(list(smooth_lines(HEADER, lines, Smoothing(name, strength=strength))), 1)

    strengths = (0.1, 0.5, 1.0, 2.0, 4.0)
    shaking = [np.abs(np.diff(smoothed(still, s)[20:], 2, axis=0)).mean() for s in strengths]
    missed = [np.abs(smoothed(turn, s) - turn)[55:80].max() for s in strengths]
    # A Savitzky-Golay window has five frames at least.
    assert all(a > b for a, b in itertools.pairwise(shaking[1:])) and shaking[0] >= shaking[1]
    assert all(a < b for a, b in itertools.pairwise(missed[1:])) and missed[0] <= missed[1]
    usual = [line(n, person(1, xy)) for n, xy in enumerate(still)]
    assert np.array_equal(smoothed(still, 1.0), joints_of(list(smooth_lines(HEADER, usual, Smoothing(name))), 1))


def test_frames_of_one_moment_are_told_and_only_what_is_filled_now_is_counted(tmp_path: Path) -> None:
    plain, once, twice = (tmp_path / f"{name}.jsonl" for name in ("plain", "once", "twice"))
    with StreamWriter(plain) as writer:
        writer.header(HEADER)
        for n, xy in enumerate(walk(np.random.default_rng(0), 12)):
            writer.frame(replace(line(n, person(1, xy, (1,) if n == 5 else ())), time=(n // 2) / 15))
    done = CliRunner().invoke(app, ["smooth", str(plain), "--out", str(once), "--fill", "3"])
    assert done.exit_code == 0 and "1 joint filled in" in done.output
    assert "6 frames have the time of the frame before" in " ".join(done.stderr.split())
    done = CliRunner().invoke(app, ["smooth", str(once), "--out", str(twice), "--fill", "3", "--json"])
    assert json.loads(done.stdout)["filled_joints"] == 0 and json.loads(done.stdout)["same_time"] == 6


def test_the_strength_is_checked_and_told(tmp_path: Path) -> None:
    from posecli.cli import smooth as verb

    assert (verb.LEAST_STRENGTH, verb.MOST_STRENGTH) == (stream.LEAST_STRENGTH, stream.MOST_STRENGTH)
    for wrong in (0.0, 4.5, float("nan")):
        with pytest.raises(UsageError, match="strength"):
            Smoothing("kalman", strength=wrong)
    with pytest.raises(UsageError, match="for a filter"):
        Smoothing("none", fill=3, strength=2.0)
    plain, once, twice = (tmp_path / f"{name}.jsonl" for name in ("plain", "once", "twice"))
    with StreamWriter(plain) as writer:
        writer.header(HEADER)
        for n, xy in enumerate(walk(np.random.default_rng(0), 20)):
            writer.frame(line(n, person(1, xy)))
    done = CliRunner().invoke(app, ["smooth", str(plain), "--out", str(once), "--strength", "2"])
    assert done.exit_code == 0 and "before" not in done.stderr
    assert next(iter(read_stream(once)))[0].extra["smoothing"] == {"filter": "kalman", "fill": 0, "strength": 2.0}
    done = CliRunner().invoke(app, ["smooth", str(once), "--out", str(twice)])
    assert done.exit_code == 0 and "it had been smoothed before, and was again" in done.stderr
    filled = CliRunner().invoke(
        app, ["smooth", str(once), "--out", str(twice), "--filter", "none", "--fill", "2", "--overwrite"]
    )
    assert filled.exit_code == 0 and "before" not in filled.stderr
