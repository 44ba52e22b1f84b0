"""A memory in a video: carried, forgotten at cuts and gaps, brought back on resume, each person's own."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from posecli.checkpoint import ModelMeta, build, save_model
from posecli.inference import PoseModel, PredictOptions
from posecli.pipeline import InferOptions, infer
from posecli.recurrence import LONGEST_GAP, Memory, is_cut
from posecli.skeletons import LSP14
from posecli.video import VideoWriter


def opened(network: nn.Module) -> nn.Module:
    """Random weights with open gates, and norms that let things through."""
    for name, parameter in network.named_parameters():
        if "gate" in name or "final" in name or name.startswith("head_heatmap.1"):
            nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.fixture(scope="module")
def meta() -> ModelMeta:
    extra = {"convention": "dekr", "threshold": 0.0}
    return ModelMeta("dekr-gru-tiny", {"keypoints": 14}, LSP14, (64, 64), codec="dekr", extra=extra)


@pytest.fixture(scope="module")
def model(meta: ModelMeta) -> PoseModel:
    torch.manual_seed(0)
    return PoseModel(opened(build(meta)), meta, device="cpu", options=PredictOptions(max_persons=2))


@pytest.fixture(scope="module")
def scenes() -> list[np.ndarray]:
    """Eight frames of one place with something that moves, and four of another."""
    rng = np.random.default_rng(3)
    place, other = (
        cv2.resize(rng.integers(low, high, (6, 8, 3)).astype(np.uint8), (96, 72), interpolation=cv2.INTER_CUBIC)
        for low, high in ((0, 120), (130, 255))
    )
    frames = []
    for t in range(8):
        frame = place.copy()
        cv2.circle(frame, (20 + 6 * t, 40), 9, (250, 220, 40), -1)
        frames.append(frame)
    return frames + [np.roll(other, t, 1) for t in range(4)]


def places(people: list) -> np.ndarray:
    return np.concatenate([p.xy.ravel() for p in people])


def run(model: PoseModel, frames: list[np.ndarray], times: list[float] | None = None) -> tuple[list, list[bool]]:
    memory = Memory(model)
    found = [memory.people(f, t) for f, t in zip(frames, times or [n / 25 for n in range(len(frames))], strict=True)]
    return [people for people, _ in found], [new for _, new in found]


def test_the_past_counts_until_a_cut(model, scenes):
    people, new = run(model, scenes)
    assert new == [n in (0, 8) for n in range(12)]
    alone = model.predict([scenes[5]], still=False)[0]
    assert np.abs(places(people[5]) - places(alone)).max() > 1e-3
    # What follows a cut is what it would be in a video of its own.
    after, _ = run(model, scenes[8:])
    for one, other in zip(people[8:], after, strict=True):
        np.testing.assert_array_equal(places(one), places(other))


@pytest.mark.parametrize("jump", [LONGEST_GAP + 0.1, -0.5, 0.0])
def test_the_past_ends_at_gaps_and_steps_back(model, scenes, jump):
    times = [0.0, 0.04, 0.04 + jump, 0.08 + jump]
    people, new = run(model, scenes[:4], times)
    assert new == [True, False, True, False]
    fresh, _ = run(model, scenes[2:4])
    np.testing.assert_array_equal(places(people[3]), places(fresh[1]))


def test_flip_test_and_scales_have_memories_of_their_own(meta, model, scenes):
    careful = PoseModel(model.network, meta, device="cpu", options=PredictOptions(flip_test=True, scales=(1.0, 0.5)))
    memory = Memory(careful)
    for t in range(3):
        memory.people(scenes[t], t / 25)
    assert sorted(memory._before) == [(False, 0), (False, 1), (True, 0), (True, 1)]
    assert all(state.age.tolist() == [3.0] for state in memory._before.values())


def test_cuts_are_told_from_movement():
    rng = np.random.default_rng(0)
    rough = rng.integers(40, 200, (6, 12, 3)).astype(np.uint8)
    wide = cv2.resize(rough, (480, 240), interpolation=cv2.INTER_CUBIC)
    here = wide[:, :320]
    assert not is_cut(here, wide[:, 10:330])
    assert not is_cut(here, here + np.uint8(16))
    other = cv2.resize(rng.integers(0, 90, (12, 16, 3)).astype(np.uint8), (320, 240))
    assert is_cut(here, other) and is_cut(here, here[:200])


@pytest.fixture(scope="module")
def clip(tmp_path_factory, scenes) -> Path:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with VideoWriter(path, 96, 72, Fraction(25)) as film:
        for frame in scenes:
            film.write(frame)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory, meta, model) -> Path:
    path = tmp_path_factory.mktemp("weights") / "memory.safetensors"
    save_model(path, model.network, meta)
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


def test_infer_marks_where_it_begins_anew_and_resumes_exactly(clip, weights, tmp_path, cli):
    """Cut off after any line, before and after the cut, `--resume` ends with the same stream."""
    usual = [clip, "--weights", weights, "--quiet", "--batch", 5, "--max-persons", 2]
    assert cli("infer", *usual, "--out", tmp_path / "whole.jsonl").code == 0
    whole = (tmp_path / "whole.jsonl").read_text()
    assert [n for n, line in enumerate(lines(tmp_path / "whole.jsonl")) if line.get("reset")] == [0, 8]
    rows = whole.splitlines(keepends=True)
    for kept in (1, 4, 10):
        part = tmp_path / f"part{kept}.jsonl"
        part.write_text("".join(rows[:kept]) + rows[kept][:9])
        done = cli("infer", *usual, "--out", part, "--resume")
        assert done.code == 0 and part.read_text() == whole, kept
    # From a later frame on, and at another step, there is another past.
    assert cli("infer", *usual, "--out", tmp_path / "late.jsonl", "--start", 3, "--every", 2).code == 0
    late = lines(tmp_path / "late.jsonl")
    assert [line["frame"] for line in late] == [3, 5, 7, 9, 11] and late[0]["reset"] and late[3]["reset"]


def test_the_python_door_and_pictures(clip, weights, model, scenes):
    found = [people for _, people in infer(clip, model=model, track="none", end=4)]
    assert len(found) == 4
    again = [people for _, people in infer(clip, model=model, track="none", end=4)]  # nothing is left of the first
    np.testing.assert_array_equal(places(list(found[3])), places(list(again[3])))
    one, two = model.predict([scenes[0], scenes[1]])
    np.testing.assert_allclose(places(two), places(model.predict([scenes[1]])[0]), atol=1e-3)
    assert InferOptions().batch > 1 and one


def test_each_person_keeps_their_own_memory():
    """UniPose-LSTM: people who change places in the list, come and go."""
    extra = {"convention": "hrnet", "background": "first", "box_scale": 1.0}
    meta = ModelMeta("unipose-lstm-tiny", {"keypoints": 14}, LSP14, (48, 48), codec="gaussian", extra=extra)
    torch.manual_seed(1)
    network = build(meta).eval()
    for name, parameter in network.named_parameters():
        if name.startswith(("conv", "decoder.last_conv.8")):
            nn.init.normal_(parameter, std=0.02 if parameter.ndim > 1 and parameter.shape[-1] == 5 else 0.1)
    model = PoseModel(network, meta, device="cpu", options=PredictOptions(pose_nms=1.0))
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 90, (60, 120, 3)).astype(np.uint8) for _ in range(3)]
    left, right = np.array([4.0, 4, 50, 52]), np.array([64.0, 6, 112, 54])

    def scores(boxes: list[list[np.ndarray]], who: np.ndarray) -> np.ndarray:
        memory = Memory(model)
        for t, (frame, given) in enumerate(zip(frames, boxes, strict=True)):
            people, _ = memory.people(frame, t / 25, np.array(given))
        return next(p.score for p in people if np.allclose(p.box_xyxy, who))

    alone = scores([[left], [left], [left]], left)
    np.testing.assert_allclose(scores([[right, left], [left, right], [right, left]], left), alone, atol=1e-5)
    came_late = scores([[right], [right, left], [left]], left)
    assert np.abs(came_late - alone).max() > 1e-6
    fresh = Memory(model)
    for t in (1, 2):
        people, _ = fresh.people(frames[t], t / 25, left[None])
    np.testing.assert_allclose(people[0].score, came_late, atol=1e-5)
