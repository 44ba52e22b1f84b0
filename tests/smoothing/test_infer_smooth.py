"""`infer --smooth` and `--track flow`: the same as in two steps, resumable, cuts noted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_clips import damaged, make_clip

from posecli.inference import load_model
from posecli.pipeline import InferOptions, poses_of
from posecli.predictions import frame_from_json, frame_to_json
from posecli.video import VideoWriter, open_source


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_smoothing_while_inferring_is_smoothing_afterwards(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    common = ("infer", clip, "-w", tiny_model)
    assert cli(*common, "--out", "raw.jsonl").code == 0
    options = ("--smooth", "kalman", "--fill", "3", "--keep-raw")
    result = cli(*common, "--out", "steady.jsonl", "--render", *options)
    assert result.code == 0, result.err
    afterwards = ("--filter", "kalman", "--fill", "3", "--keep-raw")
    assert cli("smooth", "raw.jsonl", "--out", "later.jsonl", *afterwards).code == 0
    assert (here / "steady.jsonl").read_bytes() == (here / "later.jsonl").read_bytes()
    assert open_source(here / "clip.overlay.mp4").num_frames == 30
    piped = cli(*common, "--out", "-", *options)
    assert piped.out == (here / "later.jsonl").read_text()
    # Interrupted before it was smoothed, it goes on; once smoothed there is nothing left to do.
    text = (here / "raw.jsonl").read_bytes()
    (here / "part.jsonl").write_bytes(text[: len(text) // 2])
    for _ in range(2):
        assert cli(*common, "--out", "part.jsonl", "--resume", *options).code == 0
        assert (here / "part.jsonl").read_bytes() == (here / "later.jsonl").read_bytes()
    # In another way it is not made steady: it was left as it is, in silence.
    other = cli(*common, "--out", "part.jsonl", "--resume", "--smooth", "savgol")
    assert other.code == 1 and "smoothed with filter kalman, fill 3, not with filter savgol, fill 0" in other.err
    assert cli(*common, "--out", "part.jsonl", "--resume").code == 0


def test_a_damaged_clip_of_varying_rate_is_made_steady(here: Path, cli: Callable, tiny_model) -> None:
    """The lines of its lost frames had no time, and by the nominal rate time ran backwards there."""
    ticks = [80 * i if i < 30 else 2400 + 20 * (i - 30) for i in range(60)]
    clip = damaged(make_clip(here / "v.mp4", 60, ticks=ticks, container={"movflags": "+faststart"}), 0.5)
    result = cli("infer", clip, "-w", tiny_model, "--out", "a.jsonl", "--smooth", "kalman")
    assert result.code == 0, result.err
    frames = [json.loads(line) for line in (here / "a.jsonl").read_text().splitlines()[1:]]
    assert sum(f.get("broken", False) for f in frames) > 3
    assert [f["time"] for f in frames] == [tick / 1000 for tick in ticks]


def test_what_cannot_be_done_is_said(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    common = ("infer", clip, "-w", tiny_model)
    for wrong, words in (
        (("--smooth", "kalman", "--track", "none"), "need identities"),
        (("--smooth", "median"), "unknown filter"),
        (("--keep-raw",), "--keep-raw is for"),
        (("--track", "best"), "unknown tracker"),
        (("--smooth", "kalman", "--out", "-", "--render"), "can't be read again"),
    ):
        result = cli(*common, *wrong)
        assert result.code == 2 and words in result.err, (wrong, result.err)
    assert cli(*common, "--out", "a.jsonl", "--end", "10", "--smooth", "oneeuro").code == 0
    result = cli(*common, "--out", "a.jsonl", "--resume", "--smooth", "oneeuro")
    assert result.code == 1 and "smoothed" in result.err


@pytest.mark.parametrize("track", ["flow", "iou"])
def test_other_trackers_resume_to_the_same_bytes(here: Path, cli: Callable, clip: Path, tiny_model, track: str) -> None:
    common = ("infer", clip, "-w", tiny_model, "--track", track)
    assert cli(*common, "--out", "whole.jsonl").code == 0
    whole = (here / "whole.jsonl").read_bytes()
    assert b'"id"' in whole
    (here / "part.jsonl").write_bytes(whole[: len(whole) // 2])
    assert cli(*common, "--out", "part.jsonl", "--resume").code == 0
    assert (here / "part.jsonl").read_bytes() == whole


def test_cuts_are_noted_and_end_identities(here: Path, cli: Callable, tiny_model) -> None:
    rng = np.random.default_rng(0)
    scenes = [rng.integers(0, 120, (64, 96, 3), dtype=np.uint8), rng.integers(130, 255, (64, 96, 3), dtype=np.uint8)]
    with VideoWriter(here / "two.mp4", 96, 64, 25.0, crf=10) as writer:
        for n in range(20):
            writer.write(scenes[n // 10])
    assert cli("infer", "two.mp4", "-w", tiny_model, "--out", "a.jsonl").code == 0
    _, *frames = (json.loads(line) for line in (here / "a.jsonl").read_text().splitlines())
    assert [f["frame"] for f in frames if f.get("cut")] == [10]
    before, after = ({p.get("id") for f in part for p in f["persons"]} - {None} for part in (frames[:10], frames[10:]))
    assert not before & after


def test_lines_as_they_come_are_those_that_a_reader_gets(clip: Path, tiny_model) -> None:
    """To the last bit: what filters look at as it comes must not differ from what they would read."""
    model = load_model(tiny_model, "cpu")
    with open_source(clip) as source:
        given = [line for _, line in poses_of(source, model, InferOptions())]
    assert len(given) == 30 and any(line.instances for line in given)
    for line in given:
        read = frame_from_json(json.loads(json.dumps(frame_to_json(line))), model.skeleton)
        assert (read.frame, read.time, read.extra) == (line.frame, line.time, line.extra)
        for ours, theirs in zip(line.instances, read.instances, strict=True):
            assert ours.track_id == theirs.track_id and ours.person_score == theirs.person_score
            for name in ("xy", "score", "box_xyxy"):
                assert np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True), name
