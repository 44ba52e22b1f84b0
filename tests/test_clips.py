"""Clips: their frames, one change for all of them, losses, resuming, and what a memory can learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from made_dots import make_clips

from posecli.checkpoint import build, load_checkpoint
from posecli.data import collate, make_source
from posecli.distributed import Processes
from posecli.errors import PoseError, UsageError
from posecli.formats import coco
from posecli.learner import Learner
from posecli.losses import steadiness_loss
from posecli.settings import resolve
from posecli.tasks import make_task
from posecli.tasks.clips import Timeline, moments, shaken, timelines, windows
from posecli.training import train
from posecli.types import Crop

QUIET = {"workers": 0, "ema": 0.0, "input_size": [64, 64], "tensorboard": False, "min_area": 0.0}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), count=2, frames=8)


def task_of(path, model="dekr-gru-tiny", **changes):
    settings = resolve({"model": model, "data": [str(path)], **QUIET}, changes)
    dataset = coco.read(path)
    return make_task(settings, [make_source(dataset, dataset.skeleton, "clips")], dataset.skeleton), settings


def test_frames_come_in_order_with_their_gaps():
    settings = resolve({"model": "dekr-gru-tiny", "clip_frames": 4, "clip_steps": [1, 3]})
    line = Timeline(tuple((n, -1) for n in range(12)), tuple(n / 20 for n in range(12)))
    steps = set()
    for seed in range(20):
        clip = moments(line, 2, settings, np.random.default_rng(seed))
        frames = [r for r, _ in clip.items]
        step = frames[1] - frames[0]
        steps.add(step)
        assert frames == [frames[0] + step * n for n in range(4)] and frames[-1] <= 11
        assert clip.gap.tolist() == pytest.approx([0, *[step / 20] * 3]) and clip.counts.all()
    assert steps == {1, 3}
    short = moments(Timeline(line.items[:3], line.seconds[:3]), 0, settings, np.random.default_rng(0))
    assert [r for r, _ in short.items] == [0, 1, 2, 2] and short.counts.tolist() == [True, True, True, False]
    still = moments(Timeline(((7, -1),), (0.0,)), 0, settings, np.random.default_rng(0))
    assert [r for r, _ in still.items] == [7] * 4 and still.gap[0] == 0 and (still.gap[1:] > 0).all()


def test_timelines_follow_videos_and_people(clips):
    dataset = coco.read(clips)
    source = make_source(dataset, dataset.skeleton, "clips")
    lines = timelines(source, [(r, 0) for r in reversed(range(len(dataset.records)))], by_track=True)
    assert len(lines) == 2 and all(len(line.items) == 8 for line in lines)
    for line in lines:
        frames = [dataset.records[r].frame_id for r, _ in line.items]
        assert frames == sorted(frames) and np.allclose(np.diff(line.seconds), 1 / 25)
    assert windows(lines, 4) == [(0, 0), (0, 2), (0, 4), (1, 0), (1, 2), (1, 4)]


def without_tracks(clips, people=1):
    """The same clips without identities, with that many people in each frame."""
    content = json.loads(clips.read_text())
    known = content["annotations"]
    for person in known:
        del person["track_id"]
    content["annotations"] = [{**person, "id": person["id"] + 1000 * n} for n in range(people) for person in known]
    path = clips.with_name(f"untracked{people}.json")
    path.write_text(json.dumps(content))
    return path


def test_somebody_who_is_always_alone_needs_no_identity(clips):
    """Each frame stood alone, and its clips were copies of one still picture."""
    task, _ = task_of(without_tracks(clips), "unipose-lstm-tiny")
    known, _ = task_of(clips, "unipose-lstm-tiny")
    assert task.counts == known.counts and task._lines == known._lines and not task.left_out
    frames = task.sample(0, 0, np.random.default_rng(0), (64, 64))["image"]
    assert (np.diff(frames.astype(int), axis=0) != 0).any((1, 2, 3)).all()


def test_of_several_people_without_identities_nobody_can_be_followed(clips):
    """Nothing was said, and they were learnt as people who don't move."""
    with pytest.raises(PoseError, match=r"nothing to learn from.*32 people without an identity \(track_id\)"):
        task_of(without_tracks(clips, 2), "unipose-lstm-tiny")


def test_one_change_holds_for_all_frames_and_labels_move_with_the_dots(clips):
    """Every labelled joint lies on its dot in every frame, turned, shaken and mirrored as it is."""
    task, _ = task_of(
        clips, clip_frames=6, clip_steps=[1], rotation=25.0, scale=[0.9, 1.1], shift=4.0, shake=10.0, occlude=0.0,
        blur=0.0, dim=0.0, compress=0.0, noise=0.0, colour=0.0, grey=0.0, input_size=[128, 128],
    )  # fmt: skip
    moved = []
    for seed in range(4):
        sample = task.sample(0, 0, np.random.default_rng(seed), (128, 128))
        assert sample["image"].shape == (6, 128, 128, 3) and sample["heatmap"].shape == (6, 6, 32, 32)
        for image, pose, seen in zip(sample["image"], sample["pose"][:, 0], sample["seen"][:, 0], strict=True):
            assert (seen > 0).sum() >= 4
            for joint in np.flatnonzero(seen > 0):
                x, y = np.round(pose[joint] * 4).astype(int)
                x, y = np.clip((x, y), 0, 127)
                # As `learning.COLOURS`: the dot's colour, mirrored or not.
                assert image[y, x].max() > 120, (seed, joint)
        moved.append(np.diff(sample["pose"][:, 0].mean(1), axis=0))
    assert max(np.abs(step - step[0]).max() for step in moved) > 0.05  # the camera is not still
    again = task.sample(0, 0, np.random.default_rng(3), (128, 128))
    assert all(np.array_equal(again[key], sample[key]) for key in sample)


def test_shaking_is_smooth_and_bounded():
    crop = Crop(np.array([[1.0, 0, 0], [0, 1, 0]]), (128, 128))
    seconds = np.arange(30) / 30
    for seed in range(10):
        path = np.array(
            [c.matrix @ (64, 64, 1) for c in shaken([crop] * 30, seconds, 8.0, np.random.default_rng(seed))]
        )
        assert np.abs(path - 63.5).max() < 20 and np.linalg.norm(np.diff(path, axis=0), axis=1).max() < 6


def test_steadiness_asks_for_equal_errors_only():
    truth = torch.randn(1, 5, 2, 3, 2) * 10
    weight = torch.full((1, 5, 2, 3), 0.5)
    constant = torch.randn(1, 1, 2, 3, 2).expand(1, 5, 2, 3, 2)
    assert steadiness_loss(truth + constant - truth, weight).total == pytest.approx(0, abs=1e-4)
    frozen = truth[:, :1].expand_as(truth)
    assert steadiness_loss(frozen - truth, weight).mean > 1
    # By hand: errors of 0 and 1 pixel, beta 1/9: (1 - 1/18) / 2 for each of two values; the joint unseen once is out.
    error = torch.zeros(1, 2, 1, 2, 2)
    error[0, 1] = 1
    weight = torch.tensor([[[[0.5, 0.5]], [[0.5, 0.0]]]])
    found = steadiness_loss(error, weight)
    assert found.total == pytest.approx(2 * (1 - 1 / 18) * 0.5) and found.divisor == 2


@pytest.mark.parametrize("model", ["dekr-gru-tiny", "dekr-gru-seed-tiny", "dekr-tiny", "unipose-lstm-tiny"])
def test_a_step_lowers_the_loss(clips, model):
    changes = {"clip_frames": 3, "clip_steps": [1], "min_area": 0.0, "input_size": [64, 64]}
    if model.startswith("dekr"):
        changes |= {"consistency": 0.03, "truncate": 2}
    pupil = Pupil(clips, model, **changes)
    pupil.batch = {key: value[:2] for key, value in pupil.batch.items()}
    losses = [pupil.step(1e-3) for _ in range(3)]
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
    assert ("consistency" in pupil.task.terms) == model.startswith("dekr")


@pytest.mark.parametrize("model", ["dekr-gru-tiny", "unipose-lstm-tiny"])
def test_single_frames_are_learnt_beside_other_processes(clips, tmp_path, model):
    """What remembers has no gradient then; processes that wait for one would stop at the second step."""
    changes = {"clip_frames": 1, "truncate": 0, "consistency": 0.0, "shake": 0.0, "input_size": [64, 64]}
    task, settings = task_of(clips, model, **changes)
    meta = task.meta(model, {"keypoints": task.skeleton.num_keypoints})
    batch = collate([task.sample(0, n, np.random.default_rng(n), (64, 64)) for n in range(2)])
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        learner = Learner(build(meta), task, meta, settings, Processes(0, 2), torch.device("cpu"))
        for _ in range(2):
            learner.learn([batch], 1e-3)
    finally:
        torch.distributed.destroy_process_group()


def test_settings_of_clips_are_refused_where_they_mean_nothing(clips):
    with pytest.raises(UsageError, match="single pictures"):
        task_of(clips, "unipose-tiny", clip_frames=4)
    with pytest.raises(UsageError, match="clips"):
        resolve({"model": "dekr-tiny", "shake": 3.0})
    with pytest.raises(UsageError, match="not for clips"):
        resolve({"model": "dekr-gru-tiny", "paste": 0.5})
    alone = {"clip_frames": 1, "truncate": 0, "consistency": 0.0, "shake": 0.0}
    for key in ("paste", "half_body", "rotation_any"):  # single frames were left as they are without a word
        for model in ("dekr-gru-tiny", "unipose-lstm-tiny"):
            with pytest.raises(UsageError, match=f"{key} = 0.5.*nor for networks that learn from them"):
                resolve({"model": model, **alone, key: 0.5})
        assert getattr(resolve({"model": "unipose-tiny", key: 0.5}), key) == 0.5


def test_a_run_on_videos_resumes_exactly_and_starts_from_a_frame_model(clips, tmp_path):
    """Training on clips from a per-frame checkpoint; stopped and resumed it ends with the same weights."""
    changes = {"batch": 2, "clip_frames": 3, "epochs": 2, "clip_steps": [1, 2], "threads": 1, "epoch_samples": 4}
    first = {"model": "dekr-tiny", "data": [str(clips)], **QUIET, "epochs": 1, "batch": 4, "epoch_samples": 4}
    train(resolve(first), tmp_path / "still", device="cpu")
    settings = {
        "model": "dekr-gru-tiny", "data": [str(clips)], "val": str(clips), "val_limit": 8, "metric": "pck", **QUIET,
        **changes,
        "init": str(tmp_path / "still" / "last.safetensors"),
    }  # fmt: skip
    records = []
    whole = train(resolve(settings), tmp_path / "whole", device="cpu", report=records.append)
    start = next(r for r in records if r["event"] == "start")
    assert "start afresh (memory_" in start["init"] and whole.validation is not None

    def stop_after_three(record):
        if record["event"] == "step" and record["step"] == 3:
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        train(resolve(settings), tmp_path / "part", device="cpu", report=stop_after_three)
    train(None, tmp_path / "part", resume=True, device="cpu")
    one, other = (load_checkpoint(tmp_path / run / "last.safetensors")[0].state_dict() for run in ("whole", "part"))
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_eight_pictures_by_heart(tmp_path):
    path = make_people(tmp_path / "data")
    changes = {"clip_frames": 2, "shake": 0.0, "dim": 0.0, "compress": 0.0, "scale": [1.0, 1.0], "min_area": 0.0}
    pupil = Pupil(path, "dekr-gru-tiny", **changes, metric="pck")
    assert pupil.learn_by_heart(2e-3, 300) == 1.0


@pytest.mark.slow
def test_a_memory_learns_what_one_frame_cannot_show(tmp_path):
    """The dots vanish after some frames, and all grounds are one. Only who remembers can tell where they go."""
    path = make_clips(tmp_path, count=4, frames=6, hidden_from=3, speed=3.0)
    errors = {}
    for model in ("dekr-tiny", "dekr-gru-tiny"):
        changes = {
            "clip_frames": 6, "clip_steps": [1], "input_size": [64, 64], "scale": [1.0, 1.0], "shake": 0.0,
            "occlude": 0.0, "blur": 0.0, "dim": 0.0, "compress": 0.0, "truncate": 0, "min_area": 0.0,
        }  # fmt: skip
        pupil = Pupil(path, model, **changes)
        for step in range(150):
            pupil.step(2e-3 if step < 110 else 4e-4)
        network = pupil.learner.network.eval()
        image = pupil.task.arranged(network, pupil.learner._normalised(pupil.batch["image"]))
        with torch.no_grad():
            output = network(image, *pupil.task.inputs(network, image, pupil.batch))
        heat = output.heatmap.reshape(4, 6, -1, *output.heatmap.shape[-2:])[:, 3:, :-1].flatten(3)
        target = pupil.batch["heatmap"][:, 3:, :-1].flatten(3)
        width = output.heatmap.shape[-1]
        places = [torch.stack([m.argmax(-1) % width, m.argmax(-1) // width], -1).float() for m in (heat, target)]
        errors[model] = float((places[0] - places[1]).norm(dim=-1).mean())
    assert errors["dekr-gru-tiny"] < 0.6 * errors["dekr-tiny"], errors
