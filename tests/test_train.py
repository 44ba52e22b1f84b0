"""`posecli train` on a toy data set: settings, order of samples, exact resume, many processes, broken numbers."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from made_clips import make_clip
from safetensors.torch import load_file

from posecli.checkpoint import ModelMeta, load_checkpoint, save_model
from posecli.data import LYING, SQUARE, UPRIGHT, Loader, Mixture, _video, in_steps, make_source, read_image, shape_of
from posecli.distributed import Processes
from posecli.errors import PoseError, UsageError
from posecli.formats import coco, read_coco_style
from posecli.inference import PoseModel, load_model
from posecli.learner import draws_of, learning_rate
from posecli.readout import BOTTOM_UP, size_for
from posecli.settings import (
    TrainSettings,
    check_meaning,
    family,
    gentle,
    parse_assignments,
    read_toml,
    resolve,
    to_toml,
)
from posecli.skeletons import get_skeleton
from posecli.tasks import make_task
from posecli.training import random_states, set_random_states, train
from posecli.training_data import mirror_trouble
from posecli.types import Dataset, Instance, Record, Skeleton
from posecli.validation import Validation

NAMES = ["nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
SHAPE = np.array([[0, -20], [10, -10], [-10, -10], [8, 12], [-8, 12]])


def make_toy(folder: Path, count: int = 6, unlabelled: bool = False) -> Path:
    """Pictures of five coloured dots in the places of joints; returns the COCO file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        picture = rng.integers(0, 60, (96, 96, 3)).astype(np.uint8)
        middle = rng.uniform(30, 60, 2)
        xy = middle + SHAPE
        for point, colour in zip(xy, COLOURS, strict=True):
            cv2.circle(picture, tuple(int(v) for v in point), 4, colour, -1)
        cv2.imwrite(str(folder / f"images/{i}.png"), picture[..., ::-1])
        images.append({"id": i + 1, "file_name": f"images/{i}.png", "width": 96, "height": 96})
        person = {"image_id": i + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 5, "area": 1120.0}
        person["keypoints"] = np.column_stack([xy, np.full(5, 2)]).ravel().tolist()
        person["bbox"] = [*(middle - [14, 24]), 28.0, 40.0]
        annotations.append({"id": len(annotations) + 1, **person})
        if unlabelled:
            nobody = {"keypoints": [0] * 15, "num_keypoints": 0, "bbox": [0.0, 0.0, 16.0, 16.0]}
            annotations.append({"id": len(annotations) + 1, **person, **nobody})
    skeleton = {"name": "toy5", "sigmas": [0.026, 0.079, 0.079, 0.107, 0.107], "flip_pairs": [[1, 2], [3, 4]]}
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]], "posecli": skeleton}
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy") / "data")


SMALL = {
    "input_size": [64, 64], "batch": 2, "epochs": 4, "workers": 0, "threads": 1, "min_side": 1.0,
    "model_arguments": '{"widths": [16, 16, 16, 16], "blocks": [1, 1, 1, 1], "stem_channels": 8, "channels": 16}',
}  # fmt: skip


def small(toy: Path, **changes: object) -> TrainSettings:
    return resolve({"model": "pose-fpn", "data": [str(toy)]}, SMALL, changes)


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}.safetensors")


def assert_same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], tolerance: float = 0.0) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


# --- settings ------------------------------------------------------------------------------------------------------


def test_settings_layers_and_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('model = "dekr-tiny"\ndata = ["coco.json"]\nlr = 0.01\nbatch = 3\n')
    settings = resolve(read_toml(file), {"batch": 4}, parse_assignments(["sigma=1", "scale=[0.5, 2]", "metric=pck"]))
    assert (settings.lr, settings.batch, settings.sigma, settings.scale) == (0.01, 4, 1.0, (0.5, 2.0))
    assert settings.rotation == 30.0  # DEKR's default
    assert settings.shift == 40.0
    assert settings.data == (str(tmp_path / "coco.json"),)  # beside the file
    file.write_text(to_toml(settings))
    assert resolve(read_toml(file)) == settings


def test_settings_keep_names_of_all_alphabets(tmp_path: Path) -> None:
    """TOML has no escapes in pairs, which JSON writes of characters beyond 16 bits: such a run could not be resumed."""
    names = ["/data/läufer.json", "/data/🏃.json", '/data/a "b" \\ \t.json']
    settings = resolve({"model": "dekr-tiny", "data": names, "val": "/data/𝔛.json"})
    (tmp_path / "config.toml").write_text(to_toml(settings), encoding="utf-8")
    assert resolve(read_toml(tmp_path / "config.toml")) == settings


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "dekr-tiny", "lrr": 1}, "did you mean 'lr'"),
        ({"model": "dekr-tiny", "batch": 1.5}, "a whole number wanted"),
        ({"model": "dekr-tiny", "batch": True}, "a whole number wanted"),
        ({"model": "dekr-tiny", "scale": [1.0]}, "a list of 2 wanted"),
        ({"model": "dekr-tiny", "schedule": "linear"}, "one of cosine"),
        ({"model": "dekr-tiny", "flip": 2}, "between 0 and 1"),
        ({"model": "dekr-tiny", "glare": -0.1}, "between 0 and 1"),
        ({"model": "pose-fpn", "noise_most": 0.5}, "at least 1"),
        ({"model": "pose-fpn", "weight_decay": float("nan")}, "a finite number"),
        ({"model": "dekr-tiny", "scale": [0.5, float("inf")]}, "a finite number"),
        ({"model": "pose-fpn", "val_every": 0.5}, "whole epochs"),
        ({"model": "pose-fpn", "blur_most": 0.0}, "at least 0.3"),
        ({"model": "dekr-tiny", "input_size": [100, 100]}, "multiples of 32"),
        ({"model": "dekr-tiny", "data": ["a"], "data_weights": [1.0, 2.0]}, "one for each"),
        ({}, "no model"),
    ],
)
def test_settings_errors(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolve(values)


#: A cascade's coarse network without the fine one.
ALONE = {"model": "tompson", "model_arguments": '{"cascade": false}'}


@pytest.mark.parametrize(
    ("model", "setting"),
    [
        ("dekr-tiny", "half_body=0.3"), ("dekr-gru-tiny", "box_scale=[1.0, 2.0]"), ("pose-fpn", "scale=[0.5, 2.0]"),
        ("hrnet-tiny", "unlabelled=background"), ("hrnet-tiny", "phases=[0.2, 0.4]"),
        ("dekr-gru-tiny", "noise_most=25.0"), ("unipose-lstm-tiny", "consistency=0.5"),
        ("hrnet-tiny", "clip_steps=[2]"), ("deeppose-tiny", "sigma=3.0"),
    ],
)  # fmt: skip
def test_a_setting_that_would_change_nothing_is_refused(cli, tmp_path: Path, model: str, setting: str) -> None:
    """It was taken without a word, and the samples were as ever."""
    done = cli("train", "--data", tmp_path / "none.json", "--model", model, "--set", setting, "--out", tmp_path / "run")
    assert done.code == 2 and f"{setting.split('=')[0]} means nothing for {model}" in done.err


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model": "pose-fpn", "lr_steps": [0.5]}, "lr_steps means nothing with schedule = 'cosine'"),
        ({"model": "hrnet-tiny", "schedule": "constant", "lr_factor": 0.5}, "lr_factor means nothing with schedule"),
        ({"model": "integral-tiny", "integral_weight": 2.0}, "integral_weight means nothing with integral_heat"),
        ({"model": "integral-tiny", "sigma": 3.0}, "sigma means nothing with integral_heat"),
        ({"model": "hrnet-tiny", "codec": "integral", "sigma": 3.0}, "sigma means nothing with integral_heat"),
        ({"model": "dekr-tiny", "clip_frames": 4, "truncate": 2}, "truncate means nothing for dekr-tiny"),
        ({"model": "dekr-tiny", "clip_steps": [1, 2]}, "clip_steps means nothing with clip_frames = 1"),
        ({**ALONE, "phases": [0.1, 0.2]}, "phases means nothing for tompson"),
        ({**ALONE, "fine_sigma": 3.0}, "fine_sigma means nothing for tompson"),
    ],
)
def test_a_setting_of_a_way_that_is_not_gone_is_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_meaning(resolve(values))


def test_the_later_word_on_the_length_of_a_run_holds(toy: Path, tmp_path: Path) -> None:
    """Minutes of a configuration silently beat --epochs."""
    assert resolve({"model": "pose-fpn", "max_minutes": 5.0}, {"epochs": 2}).max_minutes == 0
    assert resolve({"model": "pose-fpn", "max_minutes": 5.0}, {"lr": 0.1}).max_minutes == 5
    both = resolve({"model": "pose-fpn", "epochs": 3}, {"epochs": 2, "max_minutes": 5.0})
    assert (both.epochs, both.max_minutes) == (2, 5)
    train(small(toy, max_minutes=0.005), tmp_path / "run")
    with pytest.raises(PoseError, match="epochs would change nothing"):
        train(None, tmp_path / "run", resume=True, changes={"epochs": 9})


@pytest.mark.parametrize(
    "values",
    [
        {"model": "tompson", "phases": [0.2, 0.4]}, {"model": "hg-tiny", "half_body": 0.3}, {**ALONE, "sigma": 3.0},
        {"model": "integral-tiny", "integral_heat": "softmax", "sigma": 3.0}, {"model": "hrnet-tiny", "sigma": 3.0},
        {"model": "integral-tiny", "codec": "gaussian", "sigma": 3.0},
        {"model": "dekr-tiny", "clip_frames": 4, "clip_steps": [1, 2], "consistency": 0.1},
        {"model": "unipose-lstm-tiny", "truncate": 2, "clip_steps": [2]}, {"model": "dekr-gru-tiny", "truncate": 2},
    ],
)  # fmt: skip
def test_a_setting_that_means_something_is_taken(values: dict[str, object]) -> None:
    settings = resolve(values)
    check_meaning(settings)
    check_meaning(resolve({"model": "dekr-tiny", "scale": [0.5, 2.0], "half_body": 0.0}))


def test_settings_refuse_tables(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[optimizer]\nlr = 1\n")
    with pytest.raises(PoseError, match="flat"):
        read_toml(file)


def test_sizes_of_a_family_have_their_own_defaults() -> None:
    """DEKR's wider network learns from 640 x 640 pixels, five pictures a device; all else is the family's."""
    wide, narrow = resolve({"model": "dekr-w48"}), resolve({"model": "dekr-w32"})
    assert (wide.input_size, wide.batch, narrow.input_size, narrow.batch) == ((640, 640), 5, (512, 512), 10)
    assert replace(wide, model="dekr-w32", input_size=(512, 512), batch=10) == narrow
    assert family("dekr-w48") == "dekr" and resolve({"model": "dekr-w48"}, {"batch": 3}).batch == 3
    check_meaning(resolve({"model": "dekr-w48", "scale": [0.5, 2.0]}))


def test_learning_rates() -> None:
    """DEKR's steps at 90 and 120 of 140 epochs; cosine to a thousandth after the warm-up."""
    dekr = resolve({"model": "dekr-tiny"})
    at = [learning_rate(dekr, 5, epoch / 140) for epoch in (0, 89.9, 90.1, 119.9, 120.1)]
    assert at == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4, 1e-5])
    fpn = resolve({"model": "pose-fpn", "warmup": 100})
    assert learning_rate(fpn, 49, 0.0) == pytest.approx(1e-3)
    assert learning_rate(fpn, 1000, 0.5) == pytest.approx(1e-3)
    assert learning_rate(fpn, 1000, 1.0) == pytest.approx(2e-6)


def test_the_finder_is_not_trained_here(toy: Path) -> None:
    dataset = coco.read(toy)
    source = make_source(dataset, dataset.skeleton, "toy")
    with pytest.raises(PoseError, match=r"train_finder\.py"):
        make_task(resolve({"model": "dekr-finder", "data": [str(toy)]}), [source], dataset.skeleton)


# --- order and samples ---------------------------------------------------------------------------------------------


def test_mixture_uses_all_samples_equally_and_keeps_shares() -> None:
    mixture = Mixture([10, 4], [3.0, 1.0], 16, seed=5)
    seen = np.concatenate([mixture.epoch(e) for e in range(5)])
    assert all((np.bincount(mixture.epoch(e)[:, 0]) == [12, 4]).all() for e in range(5))
    for source, count in ((0, 10), (1, 4)):
        times = np.bincount(seen[seen[:, 0] == source, 1], minlength=count)
        assert times.max() - times.min() <= 1
    assert (Mixture([3, 2], (), 0, seed=5).epoch(0)[:, 0] == 0).sum() == 3  # everything once
    assert (mixture.epoch(3) == Mixture([10, 4], [3.0, 1.0], 16, seed=5).epoch(3)).all()
    assert (mixture.epoch(3) != mixture.epoch(4)).any()


@pytest.mark.parametrize(
    ("counts", "weights", "length"),
    [
        ([5000, 40], [1000.0, 1.0], 400),  # 0.4 of a sample an epoch
        ([5000, 40], [], 50),  # by their counts, 0.4 too
        ([30, 20, 10], [0.1, 0.1, 0.1], 10),  # thirds
        ([9, 9, 9, 9], [0.1, 0.2, 0.3, 0.4], 3),
        ([7, 7], [1e-9, 1.0], 4),
    ],
)
def test_shares_of_less_than_a_sample_hold_over_epochs(counts: list[int], weights: list[float], length: int) -> None:
    """Every data set has come as often as its share says, to one sample, after any epoch; whoever goes on with a later
    epoch gets the same one."""
    mixture = Mixture(counts, weights, length, seed=5)
    epochs = [mixture.epoch(e) for e in range(300)]
    came = np.cumsum([np.bincount(epoch[:, 0], minlength=len(counts)) for epoch in epochs], axis=0)
    share = np.array(weights or counts) / sum(weights or counts) * length
    assert (abs(came - np.arange(1, 301)[:, None] * share) < 1).all()
    assert all(len(epoch) == length for epoch in epochs)
    seen = np.concatenate(epochs)
    for source, count in enumerate(counts):
        times = np.bincount(seen[seen[:, 0] == source, 1], minlength=count)
        assert times.max() - times.min() <= 1
    for e in (177, 3, 299):
        assert (Mixture(counts, weights, length, seed=5).epoch(e) == epochs[e]).all()
        assert (mixture.epoch(e) == epochs[e]).all()


def test_processes_share_a_step_and_workers_change_nothing(toy: Path) -> None:
    dataset = coco.read(toy)
    settings = small(toy)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    mixture = Mixture(task.counts, (), 0, 1)

    def batches(**split: int) -> list[torch.Tensor]:
        loader = Loader(task, mixture, batch=1, plan=lambda step, shape: ((64, 64), False), **split)
        stream = loader.from_step(1)
        return [b["image"] for b in next(stream)]

    cv2.GaussianBlur(np.zeros((999, 999, 3), np.uint8), (0, 0), 5)  # starts OpenCV's threads, which no worker may need
    alone = batches(accumulate=2, workers=0)
    assert all((a == b).all() for a, b in zip(alone, batches(accumulate=2, workers=1), strict=True))
    for rank in range(2):
        (mine,) = batches(rank=rank, world=2, workers=0)
        assert (mine == alone[rank]).all()


def test_each_step_shows_one_shape_and_each_sample_comes_as_often() -> None:
    rng = np.random.default_rng(1)
    order = np.stack([rng.integers(0, 3, 203), np.arange(203)], axis=1)
    shapes = rng.choice([SQUARE, UPRIGHT, LYING], 203, p=[0.5, 0.4, 0.1])
    places, of_steps = in_steps(order, shapes, 8, (1, 2))
    assert sorted(places.tolist()) == sorted(order.tolist())
    assert len(of_steps) == -(-203 // 8)
    seen = shapes[places[:, 1]]
    for step, shape in enumerate(of_steps.tolist()):
        assert shape == SQUARE or (seen[step * 8 : step * 8 + 8] == shape).all()
    # Of each shape less than a step is shown in squares for want of others, and steps of all shapes are mixed.
    for shape in (UPRIGHT, LYING):
        assert (of_steps == shape).sum() == (shapes == shape).sum() // 8
    assert (of_steps[:12] == UPRIGHT).any()
    assert (of_steps[:12] == SQUARE).any()


def test_long_and_narrow_people_are_seen_in_inputs_of_their_shape(toy: Path) -> None:
    dataset = coco.read(toy)
    settings = small(toy, narrow_sizes=[32, 96, 64, 96], narrow_ratio=0.75)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    (shapes,) = task.shapes()
    assert shapes.tolist() == [UPRIGHT] * 6  # 28 x 40 pixels
    assert shape_of(np.array([0.0, 0.0, 40.0, 28.0]), 0.75) == LYING
    assert shape_of(np.array([0.0, 0.0, 40.0, 28.0]), 0.65) == SQUARE
    shapes = np.arange(6) % 3
    sizes = {SQUARE: (64, 64), UPRIGHT: (32, 96), LYING: (96, 32)}
    kept = {"batch": 2, "workers": 0, "shapes": [shapes]}
    loader = Loader(task, Mixture(task.counts, (), 40, 1), plan=lambda s, shape: (sizes[shape], False), **kept)
    stream = loader.from_step(0)
    shown = [tuple(next(stream)[0]["image"].shape[1:3]) for _ in range(20)]
    assert {(96, 32), (32, 96)} <= set(shown)
    # Gone on with, the same.
    again = loader.from_step(7)
    assert [tuple(next(again)[0]["image"].shape[1:3]) for _ in range(13)] == shown[7:]


def test_learning_from_narrow_inputs(toy: Path, tmp_path: Path) -> None:
    settings = small(toy, narrow_sizes=[32, 96, 64, 96], narrow_ratio=0.75, epochs=2)
    train(settings, tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert math.isfinite(next(line["loss"] for line in log if line["event"] == "train"))
    sizes = [{"size": [32, 96], "ratio": 0.75, "side": 0.0}, {"size": [64, 96], "ratio": 0.75, "side": 80.0}]
    model = load_model(tmp_path / "run/last.safetensors", "cpu")
    assert model.meta.extra["narrow"] == sizes  # 96 pixels over the val_box_scale of 1.2
    assert size_for(np.array([0.0, 0, 28, 40]), model.meta) == (32, 96)
    for wrong in ([32], [96, 32], [30, 96]):
        with pytest.raises(UsageError, match="narrow_sizes"):
            small(toy, narrow_sizes=wrong)
    with pytest.raises(UsageError, match="narrow_sizes"):
        resolve({"model": "dekr-tiny", "data": [str(toy)], "narrow_sizes": [32, 64], "clip_frames": 3})


def test_workers_open_videos_of_their_own(tmp_path: Path) -> None:
    """A file that was open before the fork has one place for all processes: readers of it wait for ever."""
    clip = make_clip(tmp_path / "clip.mp4", 3, size=(64, 48))
    record = Record(1, clip.name, 64, 48, (), video_id=1, frame_id=1)
    here = read_image(tmp_path, record)

    class Frames:
        def sample(self, *asked: object) -> dict[str, np.ndarray]:
            held = np.array(_video.cache_info().currsize)
            return {"held": held, "image": read_image(tmp_path, record) if not held else here[::-1]}

    loader = Loader(Frames(), Mixture((1,), (), 0, 1), batch=1, workers=1, plan=lambda step, shape: ((64, 48), False))
    (batch,) = next(loader.from_step(0))
    assert int(batch["held"]) == 0 and (batch["image"][0].numpy() == here).all()


@pytest.mark.parametrize("model", ["pose-fpn", "dekr-tiny"])
def test_single_pictures_are_spoilt_as_asked(toy: Path, model: str) -> None:
    """Each setting changes the pixels, in its own way, and nothing else; at its usual value it draws nothing."""
    dataset = coco.read(toy)
    still = {
        "colour": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0, "occlude": 0.0, "half_body": 0.0, "min_side": 1.0,
    }  # fmt: skip

    def sample(**changes: float) -> dict[str, np.ndarray]:
        settings = resolve({"model": model, "data": [str(toy)], "input_size": [64, 64], **still, **changes})
        task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
        return task.sample(0, 0, np.random.default_rng(4), (64, 64))

    before = sample()
    spoilt = {
        name: sample(**changes)
        for name, changes in {
            "dim": {"dim": 1.0}, "glare": {"glare": 1.0}, "compress": {"compress": 1.0}, "grain": {"noise": 1.0},
            "more grain": {"noise": 1.0, "noise_most": 60.0}, "blur": {"blur": 1.0},
            "more blur": {"blur": 1.0, "blur_most": 6.0},
        }.items()
    }  # fmt: skip
    light = {name: after["image"].astype(float).mean() / before["image"].mean() for name, after in spoilt.items()}
    assert light["dim"] < 0.6 and light["glare"] > 1.1

    def change(name: str) -> float:
        return float(np.abs(spoilt[name]["image"].astype(float) - before["image"]).mean())

    assert 0 < change("grain") < change("more grain") and 0 < change("blur") < change("more blur")
    assert change("compress") > 0
    for name, after in spoilt.items():
        for key in before.keys() - {"image"}:
            np.testing.assert_array_equal(after[key], before[key], err_msg=f"{name}: {key}")


@pytest.mark.parametrize("flip", [0.0, 1.0])
@pytest.mark.parametrize("model", ["pose-fpn", "hrnet-tiny", "dekr-tiny"])
def test_targets_follow_the_picture(toy: Path, model: str, flip: float) -> None:
    """Each joint's colour is found where its target says, however the sample was turned and moved; in a mirrored
    picture left and right have changed their names, so the colour is the partner's."""
    dataset = coco.read(toy)
    plain = dict.fromkeys(("colour", "grey", "blur", "noise", "occlude", "half_body", "fill"), 0.0)
    values = {"model": model, "data": [str(toy)], "min_side": 1.0, "input_size": [64, 64], "flip": flip, **plain}
    if model == "dekr-tiny":
        values["shift"] = 4.0
    settings = resolve(values)
    colours = [COLOURS[i] for i in (dataset.skeleton.flip_index if flip else range(5))]
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    checked = 0
    for seed in range(12):
        sample = task.sample(0, seed % 6, np.random.default_rng(seed), (64, 64))
        maps = sample.get("target", sample.get("heatmap"))
        for joint, colour in enumerate(colours):
            if model == "pose-fpn":
                if not sample["weight"][joint]:
                    continue
                x, y = sample["xy"][joint]
            else:
                if maps[joint].max() < 0.9:
                    continue
                y, x = 4.0 * np.array(np.unravel_index(maps[joint].argmax(), maps[joint].shape))
            reach = 3  # the map's pixels are 4 input pixels wide
            part = sample["image"][
                max(0, int(y) - reach) : int(y) + reach + 1, max(0, int(x) - reach) : int(x) + reach + 1
            ]
            distance = np.abs(part.astype(int) - colour).sum(-1).min()
            assert distance < 150, (model, seed, joint)
            checked += 1
    assert checked > 30


def test_joints_of_other_skeletons_are_masked(toy: Path) -> None:
    """COCO-17 learnt from five joints: the twelve others have no weight anywhere."""
    dataset, skeleton = coco.read(toy), get_skeleton("coco17")
    source = make_source(dataset, skeleton, "toy")
    for model in ("pose-fpn", "dekr-tiny"):
        settings = resolve({"model": model, "data": [str(toy)], "min_side": 1.0, "input_size": [64, 64]})
        weight = make_task(settings, [source], skeleton).sample(0, 0, np.random.default_rng(1), (64, 64))["weight"]
        known = [skeleton.index(name) for name in NAMES]
        others = [k for k in range(17) if k not in known]
        assert not weight[others].any()
        assert weight[known].any()
    with pytest.raises(PoseError, match="shares no joint"):
        make_source(dataset, get_skeleton("coco17"), "toy") and make_source(
            dataset, type(skeleton)("feet", ("left_toe", "right_toe")), "toy"
        )


def test_the_side_that_is_not_labelled_changes_in_a_mirrored_picture(toy: Path) -> None:
    """Of people labelled on their left only, the mirrored picture shows the right side's labels and no left ones."""
    text = json.loads(toy.read_text())
    left = [n for n, name in enumerate(NAMES) if not name.startswith("right")]
    for person in text["annotations"]:
        person["keypoints"] = np.reshape(person["keypoints"], (5, 3))[left].ravel().tolist()
        person["num_keypoints"] = 3
    own = {"name": "left3", "sigmas": [0.026, 0.079, 0.107]}
    text["categories"][0] |= {"keypoints": [NAMES[n] for n in left], "skeleton": [], "posecli": own}
    file = toy.parent / "left.json"
    file.write_text(json.dumps(text))
    skeleton = coco.read(toy).skeleton
    still = {"rotation": 0.0, "shift": 0.0, "scale": [1.0, 1.0], "input_size": [96, 96]}
    for flip, known in ((0.0, left), (1.0, [int(skeleton.flip_index[n]) for n in left])):
        settings = resolve({"model": "dekr-tiny", "data": [str(file)], "flip": flip}, still)
        task = make_task(settings, [make_source(coco.read(file), skeleton, "toy")], skeleton)
        sample = task.sample(0, 0, np.random.default_rng(0), (96, 96))
        assert [n for n in range(5) if sample["weight"][n].any()] == sorted(known)
        assert (sample["heatmap"][known].max((1, 2)) > 0.8).all()


def test_people_without_joints_are_masked_or_background(tmp_path: Path) -> None:
    file = make_toy(tmp_path / "data", 2, unlabelled=True)
    dataset = coco.read(file)
    source = make_source(dataset, dataset.skeleton, "toy")
    zeros = {}
    for fate in ("mask", "background"):
        still = {"rotation": 0.0, "shift": 0.0, "scale": [1.0, 1.0], "flip": 0.0}
        settings = resolve(
            {"model": "dekr-tiny", "data": [str(file)], "input_size": [96, 96], "unlabelled": fate}, still
        )
        task = make_task(settings, [source], dataset.skeleton)
        zeros[fate] = task.sample(0, 0, np.random.default_rng(0), (96, 96))["weight"] == 0
        assert sum(task.left_out.values()) == 2
    assert zeros["mask"][:, :4, :4].all()  # the box of 16 pixels at stride 4
    assert not zeros["mask"][:, 6:, 6:].any()
    assert not zeros["background"].any()
    top_down = make_task(small(file), [source], dataset.skeleton)
    assert top_down.left_out == {"people without labelled joints": 2}


def test_pictures_that_nobody_labelled_are_left_out(toy: Path) -> None:
    """Frames between labelled ones say nothing, not even that nobody is there; pictures labelled as empty do."""
    text = json.loads(toy.read_text())
    for number, marks in ((7, {"is_labeled": False}), (8, {"is_labeled": True}), (9, {})):
        text["images"].append({**text["images"][0], "id": number, **marks})
    file = toy.parent / "sparse.json"
    file.write_text(json.dumps(text))
    dataset = coco.read(file)
    source = make_source(dataset, dataset.skeleton, "toy")
    dekr = make_task(resolve({"model": "dekr-tiny", "data": [str(file)]}), [source], dataset.skeleton)
    assert (dekr.counts, dekr.left_out) == ([8], {"pictures that nobody labelled, left out": 1})
    empty = dekr.sample(0, 7, np.random.default_rng(0), (64, 64))
    assert not empty["heatmap"].any() and empty["weight"].any()  # the ninth picture: background
    top_down = make_task(small(file), [source], dataset.skeleton)
    assert (top_down.counts, top_down.left_out) == ([6], {"pictures that nobody labelled, left out": 1})
    for image in text["images"]:
        image["is_labeled"] = False
    file.write_text(json.dumps(text))
    dataset = coco.read(file)
    with pytest.raises(PoseError, match="nothing to learn from"):
        make_task(
            resolve({"model": "dekr-tiny", "data": [str(file)]}), [make_source(dataset, dataset.skeleton, "t")],
            dataset.skeleton,
        )  # fmt: skip


def test_dekr_measures_people_in_the_upright_picture(toy: Path) -> None:
    """However a sample is turned, moved and mirrored, its offsets weigh 1/sqrt(W^2 + H^2) of the label, times zoom."""
    dataset = coco.read(toy)
    settings = resolve(
        {"model": "dekr-tiny", "data": [str(toy)], "input_size": [128, 128], "shift": 4.0, "scale": [0.75, 0.75]}
    )
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    zoom = 128 / (96 * 0.75)
    size = np.hypot(*np.ptp(SHAPE, axis=0)) * zoom
    for seed in range(6):
        weight = task.sample(0, seed, np.random.default_rng(seed), (128, 128))["offset_weight"]
        np.testing.assert_allclose(weight[weight > 0], 1 / size, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (160, 64)])
def test_dekr_shifts_by_input_pixels_whatever_the_shape(toy: Path, size: tuple[int, int]) -> None:
    dataset = coco.read(toy)
    still = {"rotation": 0.0, "scale": [1.0, 1.0], "flip": 0.0, "shift": 20.0, "input_size": size}
    settings = resolve({"model": "dekr-tiny", "data": [str(toy)]}, still)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    moves = []
    for seed in range(40):
        crop = task._crop(dataset.records[0], np.random.default_rng(seed), size)  # type: ignore[attr-defined]
        moves.append(crop.matrix @ [47.5, 47.5, 1] - (np.array(size) - 1) / 2)
    assert 18 < np.abs(moves).max() <= 20


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (160, 64)])
def test_dekr_is_used_on_people_as_large_as_it_learnt(toy: Path, size: tuple[int, int]) -> None:
    dataset = coco.read(toy)
    still = {"rotation": 0.0, "scale": [1.0, 1.0], "flip": 0.0, "shift": 0.0, "input_size": size}
    settings = resolve({"model": "dekr-tiny", "data": [str(toy)]}, still)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    learnt = task._crop(dataset.records[0], np.random.default_rng(0), size)  # type: ignore[attr-defined]
    used = BOTTOM_UP["dekr"].crop(96, 96, 1.0, (1.0,), task.meta("dekr-tiny", {"keypoints": 5}))
    np.testing.assert_allclose(np.diag(used.matrix[:, :2]), np.diag(learnt.matrix[:, :2]), rtol=1e-3)


def test_dekr_gives_small_people_no_centre(toy: Path) -> None:
    text = json.loads(toy.read_text())
    areas = [1000.0, 1100.0, 0.0, None, 1120.0, 1120.0]
    for person, area in zip(text["annotations"], areas, strict=True):
        person["area"] = area
        if area is None:
            del person["area"]
    file = toy.parent / "small.json"
    file.write_text(json.dumps(text))
    dataset = coco.read(file)
    still = {"rotation": 0.0, "shift": 0.0, "scale": [1.0, 1.0], "flip": 0.0, "input_size": [96, 96]}
    for least, centres in ((None, [False, True, True, True]), (0.0, [True] * 4), (1101.0, [False, False, True, True])):
        changes = {} if least is None else {"min_area": least}
        settings = resolve({"model": "dekr-tiny", "data": [str(file)]}, still, changes)
        task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
        for index, centre in enumerate(centres):
            sample = task.sample(0, index, np.random.default_rng(0), (96, 96))
            assert (sample["heatmap"][:5].max(axis=(1, 2)) > 0.8).all()  # the joints are learnt either way
            assert (sample["heatmap"][5].max() > 0.8) == centre
            assert sample["offset_weight"].any() == centre
        assert task.left_out.get("people too small for a centre", 0) == centres.count(False)


@pytest.mark.parametrize("names", [NAMES, ["Nose", "LShoulder", "RShoulder", "LHip", "RHip"]])
def test_pasted_people_are_learnt_bottom_up(toy: Path, names: list[str]) -> None:
    text = json.loads(toy.read_text())
    text["categories"][0]["keypoints"] = names
    for person in text["annotations"]:  # a mask, so that people can be cut out
        x, y, w, h = person["bbox"]
        person["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    file = toy.parent / "masks.json"
    file.write_text(json.dumps(text))
    dataset, skeleton = coco.read(file), coco.read(toy).skeleton
    people = {0.0: 0, 1.0: 0}
    for paste in people:
        settings = resolve({"model": "dekr-tiny", "data": [str(file)], "input_size": [96, 96], "paste": paste})
        task = make_task(settings, [make_source(dataset, skeleton, "toy")], skeleton)
        for seed in range(6):
            sample = task.sample(0, 0, np.random.default_rng(seed), (96, 96))
            people[paste] += int((sample["offset_weight"] > 0).sum())
    assert people[1.0] > 1.3 * people[0.0]
    settings = resolve({"model": "pose-fpn", "data": [str(file)], "min_side": 1.0, "paste": 1.0})
    task = make_task(settings, [make_source(dataset, skeleton, "toy")], skeleton)
    assert task.sample(0, 0, np.random.default_rng(0), (64, 64))["xy"].shape == (5, 2)


def test_nobody_is_pasted_whose_joints_have_no_labels(tmp_path: Path) -> None:
    """He would be learnt as background."""
    file = make_toy(tmp_path / "data", 2, unlabelled=True)
    text = json.loads(file.read_text())
    for person in text["annotations"]:
        if not person["num_keypoints"]:
            person["segmentation"] = [[0, 0, 16, 0, 16, 16, 0, 16]]
    file.write_text(json.dumps(text))
    dataset = coco.read(file)
    still = {"rotation": 0.0, "shift": 0.0, "scale": [1.0, 1.0], "flip": 0.0, "input_size": [96, 96]}
    images = []
    for paste in (0.0, 1.0):
        settings = resolve({"model": "dekr-tiny", "data": [str(file)], "paste": paste}, still)
        task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
        images.append([task.sample(0, 0, np.random.default_rng(seed), (96, 96))["image"] for seed in range(6)])
    np.testing.assert_array_equal(*images)


def test_gentle_samples_are_changed_less(toy: Path) -> None:
    dataset = coco.read(toy)
    settings = small(toy, box_scale=[1.0, 4.0], colour=0.4, flip=0.5)
    assert gentle(settings).box_scale == pytest.approx((2**0.5, 8**0.5))
    assert (gentle(settings).colour, gentle(settings).flip) == (0.2, 0.5)
    task = make_task(settings, [make_source(dataset, dataset.skeleton, "toy")], dataset.skeleton)
    spread = []
    for samples in (task, task.gentle()):
        drawn = [samples.sample(0, 0, np.random.default_rng(seed), (64, 64)) for seed in range(40)]
        lengths = [np.linalg.norm(s["xy"][1] - s["xy"][2]) for s in drawn if s["weight"][[1, 2]].all()]
        spread.append(np.std(np.log(lengths)))
    assert spread[1] < 0.75 * spread[0]


# --- runs ----------------------------------------------------------------------------------------------------------


def test_it_learns_and_the_weights_load(toy: Path, tmp_path: Path) -> None:
    result = train(small(toy, epochs=40, val=str(toy), val_every=20.0, warmup=5, batch=6, lr=1e-2), tmp_path / "run")
    assert result.best is not None
    assert result.best["mean-oks"] > 0.3
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["event"] == "train"]
    assert losses[-1] < losses[0] - 0.5
    network, meta = load_checkpoint(tmp_path / "run/best.safetensors")
    assert meta.skeleton.keypoints == tuple(NAMES)
    assert meta.extra["scores"]["mean-oks"] == result.best["mean-oks"]
    assert network(torch.zeros(1, 3, 64, 64)).heatmap.shape == (1, 5, 16, 16)
    assert resolve(read_toml(tmp_path / "run/config.toml")).epochs == 40
    assert json.loads((tmp_path / "run/environment.json").read_text())["torch"] == torch.__version__
    with pytest.raises(PoseError, match="holds a run already"):
        train(small(toy), tmp_path / "run")


def test_everybody_who_is_labelled_is_validated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People whose box is given are not dropped for being many, as those that somebody has to find are."""
    file = make_toy(tmp_path / "data", 1)
    value = json.loads(file.read_text())
    value["annotations"] = [{**value["annotations"][0], "id": n + 1} for n in range(33)]
    file.write_text(json.dumps(value))
    seen, run = [], Validation.run

    def counted(self: Validation, model: PoseModel, processes: Processes) -> dict[str, float]:
        (record,) = self.records
        seen.append(len(model.predict([read_image(file.parent, record)], [self._boxes(record)])[0]))
        return run(self, model, processes)

    monkeypatch.setattr(Validation, "run", counted)
    train(small(file, epochs=1, batch=33, val=str(file)), tmp_path / "run", device="cpu")
    assert seen == [33]


def test_weights_carry_no_scores_of_others(toy: Path, tmp_path: Path) -> None:
    """Between two validations the last weights are not those that were measured."""
    found = {}

    def look(record: dict[str, object]) -> None:
        if record["event"] == "step" and record["step"] in (7, 10):  # 3 an epoch: the first after the second, third
            found[record["step"]] = load_checkpoint(tmp_path / "run/last.safetensors")[1].extra

    result = train(small(toy, val=str(toy), val_every=2), tmp_path / "run", device="cpu", report=look)
    assert found[7]["steps"] == 6 and found[7]["scores"]["pck"] >= 0
    assert found[10]["steps"] == 9 and "scores" not in found[10]
    last = load_checkpoint(tmp_path / "run/last.safetensors")[1].extra
    assert result.validation and last["scores"]["pck"] == result.validation["pck"]


def test_files_of_the_same_names_are_not_replaced_unasked(toy: Path, tmp_path: Path) -> None:
    """A configuration kept in the folder that a run is to be written to."""
    config = tmp_path / "config.toml"
    config.write_text("lr = 0.5\n")
    with pytest.raises(PoseError, match=r"holds config\.toml, which a run would replace"):
        train(small(toy, epochs=1), tmp_path)
    assert config.read_text() == "lr = 0.5\n"
    assert train(small(toy, epochs=1), tmp_path, overwrite=True).steps > 0
    assert read_toml(config)["epochs"] == 1


def test_a_run_that_was_killed_before_it_saved_is_begun_anew(toy: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    steps = train(small(toy, epochs=1), run).steps
    for name in ("state.pt", "last.safetensors", "best.safetensors"):
        (run / name).unlink(missing_ok=True)
    with pytest.raises(PoseError, match=r"holds config\.toml and environment\.json and log\.jsonl"):
        train(small(toy, epochs=2), run)
    assert train(small(toy, epochs=1), run).steps == steps
    starts = [line for line in (run / "log.jsonl").read_text().splitlines() if '"start"' in line]
    assert len(starts) == 1


@pytest.mark.parametrize("model", ["hrnet-tiny", "dekr-tiny"])
def test_other_models_train(toy: Path, tmp_path: Path, model: str) -> None:
    values = {"model": model, "data": [str(toy)], "input_size": [64, 64], "batch": 3, "epochs": 1, "workers": 0}
    result = train(resolve(values, {"val": str(toy), "val_limit": 2}), tmp_path / "run")
    assert result.steps == 2
    assert result.validation is not None
    assert 0 <= result.validation["mean-oks"] <= 1


def test_killed_and_resumed_equals_uninterrupted(toy: Path, tmp_path: Path) -> None:
    """SIGKILL at an arbitrary moment, SIGINT, then SIGTERM to workers too, as service managers send it; every tensor
    and the log's losses agree bit for bit."""
    settings = small(toy, epochs=12, accumulate=2, val=str(toy), val_every=3.0)
    train(settings, tmp_path / "whole")
    config = tmp_path / "run.toml"
    config.write_text(to_toml(settings))
    start = [sys.executable, "-m", "posecli", "train", "--quiet", "--workers", "1", "--out", str(tmp_path / "cut")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = ["--config", str(config)]
    for attempt in range(3):
        # Background jobs of a shell ignore Ctrl-C, and their children inherit that: not this one.
        heeding = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen([*start, *arguments], env=environment, preexec_fn=heeding, start_new_session=True)
        state = tmp_path / "cut/state.pt"
        before = state.stat().st_mtime_ns if state.exists() else 0
        while process.poll() is None and (not state.exists() or state.stat().st_mtime_ns == before):
            time.sleep(0.01)
        time.sleep(0.05 * attempt)
        if attempt < 2:
            process.send_signal((signal.SIGKILL, signal.SIGINT)[attempt])
        elif process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        assert process.wait() in (-signal.SIGKILL, 130, 143, 0)  # 0: it was done already
        arguments = ["--resume"]
    assert state.exists()
    done = torch.load(state, weights_only=True)["step"]
    assert done > 0
    subprocess.run([*start, "--resume"], env=environment, check=True)
    for name in ("last", "best"):
        assert_same(weights(tmp_path / "whole", name), weights(tmp_path / "cut", name))
    logs = []
    for folder in ("whole", "cut"):
        lines = [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        logs.append(
            [
                (x["event"], x["step"], x.get("loss"), x.get("mean-oks"))
                for x in lines
                if x["event"] in ("train", "validation")
            ]
        )
    assert logs[0] == logs[1]


def test_resume_refuses_another_run(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PoseError, match="no saved state"):
        train(None, tmp_path / "nothing", resume=True)
    train(small(toy, epochs=1), tmp_path / "run")
    with pytest.raises(PoseError, match="lr cannot change"):
        train(None, tmp_path / "run", resume=True, changes={"lr": 0.5})
    result = train(None, tmp_path / "run", resume=True, changes={"epochs": 2})
    assert result.steps == 6
    # The same command once more: its files are named from where it is given.
    monkeypatch.chdir(toy.parent)
    again = {"epochs": 3, "data": [toy.name], "seed": 1}
    assert train(None, tmp_path / "run", resume=True, changes=again).steps == 9
    (tmp_path / "link.json").symlink_to(toy)
    (tmp_path / "images").symlink_to(toy.parent / "images")
    for name in (f"../{toy.parent.name}/{toy.name}", str(tmp_path / "link.json")):
        assert train(None, tmp_path / "run", resume=True, changes={"data": [name]}).steps == 9
    (tmp_path / "run/state.pt").write_bytes(b"not a state")
    with pytest.raises(PoseError, match="cannot be used"):
        train(None, tmp_path / "run", resume=True)


@pytest.mark.parametrize("kind", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
def test_the_random_numbers_of_a_device_go_on(kind: str) -> None:
    device = torch.device(kind)
    states = random_states(device)
    drawn = torch.rand(3, device=device), torch.rand(3)
    set_random_states(states, device)
    again = torch.rand(3, device=device), torch.rand(3)
    assert all(torch.equal(a, b) for a, b in zip(drawn, again, strict=True))
    set_random_states(states["cpu"], device)  # as they were saved before


def test_the_random_numbers_of_a_gpu_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout on a GPU draws from the GPU's generator."""
    held = {torch.device("cuda", 1): torch.arange(16, dtype=torch.uint8)}
    monkeypatch.setattr(torch.cuda, "get_rng_state", held.__getitem__)
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: held.__setitem__(device, state))
    torch.save(random_states(torch.device("cuda", 1)), tmp_path / "state.pt")
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    set_random_states(states, torch.device("cuda", 0))
    assert held[torch.device("cuda", 0)].tolist() == list(range(16))
    set_random_states(states, torch.device("cpu"))
    states.pop("cuda")
    set_random_states(states, torch.device("cuda", 2))  # begun on a CPU
    assert torch.device("cuda", 2) not in held


def test_a_new_run_leaves_nothing_of_the_one_before(toy: Path, tmp_path: Path) -> None:
    for name in ("nonfinite.pt", "nonfinite.3.pt", "state.pt"):
        (tmp_path / name).write_text("of an earlier run")
    (tmp_path / "nonfinite.notes.pt").write_text("somebody's")
    train(small(toy, epochs=1), tmp_path, overwrite=True)
    assert sorted(p.name for p in tmp_path.glob("nonfinite*")) == ["nonfinite.notes.pt"]


def test_accumulating_equals_one_large_batch(toy: Path, tmp_path: Path) -> None:
    """With normalisation frozen by tiny learning rates nothing but the split differs; gradients agree in the norm."""
    norms = []
    for name, split in (("one", {"batch": 6}), ("three", {"batch": 2, "accumulate": 3})):
        settings = resolve(
            {"model": "dekr-tiny", "data": [str(toy)], "input_size": [64, 64], "workers": 0, "epochs": 1}, split
        )
        lines: list[dict[str, float]] = []
        train(settings, tmp_path / name, report=lambda r, seen=lines: seen.append(r))
        norms.append(next(r for r in lines if r["event"] == "train")["loss_offset"])
    assert norms[0] == pytest.approx(norms[1], rel=0.15)  # batch normalisation sees other micro-batches


def test_dropout_draws_the_same_however_a_step_is_shared() -> None:
    """Each process drew what the others did."""
    alone = draws_of(1, 7, 4, 0, 1)
    assert len(set(alone)) == 4 and alone != draws_of(1, 8, 4, 0, 1)
    shared = [draws_of(1, 7, 2, rank, 2) for rank in (0, 1)]
    assert [shared[n % 2][n // 2] for n in range(4)] == alone


WITH_THREADS_TOLD = """
import atexit, os, runpy
from pathlib import Path

tasks = Path("/proc/self/task")  # Linux tells the names
atexit.register(lambda: print("threads:", *(p.read_text().strip() for p in tasks.glob("*/comm")), flush=True))
runpy.run_module("posecli", run_name="__main__")
"""


def test_two_processes_equal_one_that_accumulates(toy: Path, tmp_path: Path) -> None:
    # Warm at once: with a rate near nothing whatever they learn would be the same.
    settings = small(toy, epochs=3, batch=2, accumulate=2, warmup=1, val=str(toy))
    train(settings, tmp_path / "one")
    config = tmp_path / "run.toml"
    config.write_text(to_toml(replace(settings, accumulate=1)))
    program = tmp_path / "program.py"
    program.write_text(WITH_THREADS_TOLD)
    # Standalone: on a port that is free. A fixed one may be another run's of this test.
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", "2", str(program), "train", "--quiet", "--config", str(config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run([*command, "--out", str(tmp_path / "two")], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    # One that still ran when Python ended aborted its process, now and then.
    assert run.stdout.count("threads:") == 2
    assert "gloo" not in run.stdout
    # Another order of sums: 4e-7 where it was measured, the same in every run, however busy the machine.
    assert_same(weights(tmp_path / "one"), weights(tmp_path / "two"), 2e-5)
    losses = []
    for folder in ("one", "two"):
        lines = [json.loads(line) for line in (tmp_path / folder / "log.jsonl").read_text().splitlines()]
        losses.append([line["loss"] for line in lines if line["event"] == "train"])
        losses[-1] += [line["mean-oks"] for line in lines if line["event"] == "validation"]
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)


def test_nonfinite_loss_stops_with_evidence(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="not finite at step") as caught:
        train(small(toy, lr=1e30, warmup=0, clip=0.0, ema=0.0), tmp_path / "run")
    assert "nonfinite.pt" in str(caught.value)
    evidence = torch.load(tmp_path / "run/nonfinite.pt", weights_only=True)
    assert evidence["batches"][0]["image"].shape == (2, 64, 64, 3)
    assert evidence["learning_rate"] > 1e29
    assert set(evidence["terms"]) == {"heatmap"}


def test_a_pass_of_one_sample_is_refused_where_norms_need_more(toy: Path, tmp_path: Path) -> None:
    """UniPose's norm of the picture's mean sees one value of each channel and sample."""
    settings = resolve({"model": "unipose-tiny", "data": [str(toy)], "input_size": [64, 64], "workers": 0, "batch": 1})
    with pytest.raises(PoseError, match="batch = 2 or more"):
        train(settings, tmp_path / "run")


def test_a_metric_that_the_joints_do_not_have_is_refused_at_once(toy: Path, tmp_path: Path) -> None:
    value = json.loads(toy.read_text())
    value["categories"][0]["posecli"].pop("sigmas")
    plain = toy.with_name("plain.json")
    plain.write_text(json.dumps(value))
    with pytest.raises(PoseError, match="no mean OKS") as caught:
        train(small(plain, val=str(plain)), tmp_path / "run")
    assert "--metric pck" in caught.value.hint
    assert not (tmp_path / "run" / "log.jsonl").exists()
    train(small(plain, val=str(plain), epochs=1, metric="pck"), tmp_path / "other")


def test_start_from_weights_of_other_joints(toy: Path, tmp_path: Path) -> None:
    train(small(toy, epochs=1), tmp_path / "first")
    lines: list[dict[str, object]] = []
    settings = small(toy, epochs=1, skeleton="coco17", init=str(tmp_path / "first/last.safetensors"))
    train(settings, tmp_path / "second", report=lines.append)
    # The heads of joints both have by name go on, the others start afresh.
    assert "2 joint by joint: 5 joints carried over, new left_eye" in str(lines[0]["init"])


def test_tensorboard_events(toy: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    train(small(toy, epochs=1, tensorboard=True), tmp_path / "run")
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


@pytest.mark.parametrize("older", [True, False])
def test_weights_that_were_not_saved_with_the_state_are_saved_on_resuming(
    toy: Path, tmp_path: Path, older: bool
) -> None:
    """A run that is killed between the two files of a saving holds no weights, or those of the saving before."""
    train(small(toy, epochs=2), tmp_path / "run")
    whole, last = weights(tmp_path / "run"), tmp_path / "run/last.safetensors"
    last.unlink()  # its pages may be those of the tensors
    if older:
        last.write_bytes(b"those of the saving before")
        os.utime(last, (1, 1))
    train(None, tmp_path / "run", resume=True)
    assert all(torch.equal(value, whole[name]) for name, value in weights(tmp_path / "run").items())


def test_a_resumed_run_keeps_its_tensorboard_events(toy: Path, tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    train(small(toy, epochs=2, tensorboard=True), tmp_path / "run")
    train(None, tmp_path / "run", resume=True, changes={"epochs": 3})
    events = reading.EventAccumulator(str(tmp_path / "run")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [3, 6, 9]


def test_wall_clock_budget_and_small_start(toy: Path, tmp_path: Path) -> None:
    settings = small(toy, max_minutes=0.03, small_size=[32, 32], small_until=0.5, save_every=0.01)
    lines: list[dict[str, float]] = []
    before = time.monotonic()
    result = train(settings, tmp_path / "run", report=lines.append)
    assert time.monotonic() - before < 15
    assert result.steps > 3
    rates = [line["lr"] for line in lines if line["event"] == "train"]
    assert rates[-1] < max(rates)


def test_processor_clock_stands_still_while_others_work(toy: Path, tmp_path: Path) -> None:
    def rest(record: dict[str, object]) -> None:
        if record["event"] == "step" and record["step"] in (1, 2):
            time.sleep(0.5)

    settings = small(toy, max_minutes=0.01, clock="processor", epoch_samples=1000)
    used, before = time.process_time(), time.monotonic()
    result = train(settings, tmp_path / "run", report=rest)
    assert time.monotonic() - before > 1  # longer than the budget of 0.6 seconds
    assert time.process_time() - used >= 0.6
    assert result.steps > 3


def test_hourglass_of_another_depth_takes_other_sizes() -> None:
    arguments = '{"stacks": 1, "depth": 2}'
    assert resolve({"model": "hourglass", "model_arguments": arguments, "input_size": [48, 64]}).input_size == (48, 64)
    with pytest.raises(UsageError, match="multiples of 64"):
        resolve({"model": "hourglass", "input_size": [48, 64]})


def test_command_line(toy: Path, tmp_path: Path, cli) -> None:
    arguments = ["--data", toy, "--model", "pose-fpn", "--out", tmp_path / "run", "--epochs", 1, "--workers", 0]
    arguments += [
        "--set",
        "input_size=[32, 32]",
        "--set",
        "min_side=1",
        "--set",
        f"model_arguments={SMALL['model_arguments']!r}",
    ]
    done = cli("train", *arguments, "--val", toy, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["steps"] == 1
    assert "validation: mean-oks" in done.err
    again = cli("train", *arguments)
    assert again.code == 1
    (toy.parent / "images/3.png").rename(toy.parent / "images/away.png")
    for workers in (0, 1):
        broken = cli("train", *arguments, "--overwrite", "--quiet", "--workers", workers)
        assert broken.code == 1
        assert "3.png" in broken.err
        assert len(broken.err.splitlines()) <= 2
    (toy.parent / "images/away.png").rename(toy.parent / "images/3.png")
    assert "--resume" in again.err
    assert cli("train", "--out", tmp_path / "x", "--data", toy).code == 2
    assert cli("train", "--out", tmp_path / "x", "--data", toy, "--model", "dekr-tiny", "--set", "nonsense=1").code == 2


def test_interrupted_before_anything_was_saved(toy: Path, tmp_path: Path, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing then that --resume could go on with."""

    def stopped(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("posecli.training.read_data", stopped)
    done = cli("train", "--data", toy, "--model", "pose-fpn", "--out", tmp_path / "run")
    assert done.code == 130
    assert "--resume" not in done.err and "nothing was saved" in done.err


def test_resuming_needs_no_weights_that_the_run_started_from(toy: Path, tmp_path: Path) -> None:
    train(small(toy, epochs=1), tmp_path / "first", device="cpu")
    start = tmp_path / "first/last.safetensors"
    for name in ("there", "gone"):
        train(small(toy, epochs=1, seed=2, init=str(start)), tmp_path / name, device="cpu")
    train(None, tmp_path / "there", resume=True, changes={"epochs": 2}, device="cpu")
    start.unlink()
    train(None, tmp_path / "gone", resume=True, changes={"epochs": 2}, device="cpu")
    assert_same(weights(tmp_path / "there"), weights(tmp_path / "gone"))


def test_validation_measures_people_by_their_boxes() -> None:
    """One labelled joint has no extent: without an area or a torso the given box is all there is, as in evaluate."""
    skeleton = Skeleton("head1", ("head",), edges=(), sigmas=(0.1,))
    person = Instance(np.array([[50.0, 50.0]]), np.array([2]), np.ones(1), box_xyxy=np.array([30.0, 30.0, 70.0, 70.0]))
    record = Record(1, "a.png", 100, 100, (person,))
    validation = Validation(make_source(Dataset(skeleton, (record,)), skeleton, "heads"), skeleton)

    class Near:
        recurrent, top_down = False, False

        def predict(self, images: object, boxes: object) -> list[list[Instance]]:
            return [[replace(person, xy=np.array([[54.0, 50.0]]))]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posecli.validation.read_image", lambda root, record: np.zeros((100, 100, 3), np.uint8))
        found = validation.run(Near(), Processes())  # type: ignore[arg-type]
    assert found == {"pck": 1.0, "mean-oks": pytest.approx(np.exp(-(4**2) / (2 * 0.53 * 40 * 40 * 0.2**2)))}


def test_a_network_is_as_deep_as_the_weights_it_starts_from(toy: Path, tmp_path: Path) -> None:
    train(small(toy, epochs=1), tmp_path / "first", device="cpu")
    like = small(toy, epochs=1, init=str(tmp_path / "first/last.safetensors"), model_arguments="{}")
    train(like, tmp_path / "second", device="cpu")
    first, second = weights(tmp_path / "first"), weights(tmp_path / "second")
    assert {n: t.shape for n, t in first.items()} == {n: t.shape for n, t in second.items()}
    stored = resolve(read_toml(tmp_path / "second/config.toml"))
    assert stored.builder_arguments() == small(toy).builder_arguments()
    # What is asked for holds: one block more.
    asked = json.loads(SMALL["model_arguments"]) | {"blocks": [2, 1, 1, 1]}
    train(replace(like, model_arguments=json.dumps(asked)), tmp_path / "third", device="cpu")
    assert len(weights(tmp_path / "third")) > len(first)


def test_joints_that_mirrored_pictures_teach_wrongly_are_told(toy: Path, tmp_path: Path) -> None:
    sided = ("left_hip", "right_hip", "nose")
    assert mirror_trouble(Skeleton("s", sided), 0.5) == mirror_trouble(Skeleton("s", ("a", "b")), 0.0) == ""
    assert mirror_trouble(Skeleton("s", ("tail",)), 0.5) == ""
    assert "no pairs of left and right joints" in mirror_trouble(Skeleton("s", ("Schulter li", "Schulter re")), 0.5)
    assert mirror_trouble(Skeleton("s", (*sided, "right_hand")), 0.5).startswith("right_hand: without a partner")
    value = json.loads(toy.read_text())
    value["categories"][0] |= {"keypoints": list("abcde"), "posecli": {"name": "toy5"}}
    (toy.with_name("nosides.json")).write_text(json.dumps(value))
    with pytest.warns(UserWarning, match="no pairs of left and right joints"):
        train(small(toy.with_name("nosides.json"), epochs=1), tmp_path / "run")


def test_a_validation_without_the_length_that_pck_wants_is_refused(toy: Path, tmp_path: Path) -> None:
    """It gave NaN, than which no later validation is better: best.safetensors stayed the first one's."""
    value = json.loads(toy.read_text())
    value["categories"][0]["posecli"]["torso"] = ["left_shoulder", "right_hip"]
    for annotation in value["annotations"]:
        annotation["keypoints"][5] = 0  # left_shoulder
    path = toy.with_name("no_torso.json")
    path.write_text(json.dumps(value))
    with pytest.raises(PoseError, match="nobody in it has left_shoulder and right_hip"):
        train(small(path, val=str(path), metric="pck", min_joints=4), tmp_path / "run")
    with pytest.raises(PoseError, match="nothing to learn from") as caught:
        train(small(path), tmp_path / "run")
    assert "6 people with fewer than 5 labelled joints (min_joints); --set min_joints=1" in caught.value.hint
    result = train(small(path, val=str(path), epochs=1, min_joints=4), tmp_path / "run")
    assert result.validation is not None and set(result.validation) == {"mean-oks"}


def test_resume_refuses_other_joints(toy: Path, tmp_path: Path) -> None:
    """As many joints in another order fit the network, whose heads know them by their places."""
    data = tmp_path / "data"
    make_toy(data)
    train(small(data / "coco.json", epochs=1), tmp_path / "run")
    value = json.loads((data / "coco.json").read_text())
    value["categories"][0]["keypoints"] = [NAMES[k] for k in (0, 2, 1, 4, 3)]
    (data / "coco.json").write_text(json.dumps(value))
    with pytest.raises(PoseError, match="the run learnt nose, left_shoulder"):
        train(None, tmp_path / "run", resume=True, changes={"epochs": 2})


def test_people_whose_box_is_somewhere_else_are_counted(toy: Path, tmp_path: Path) -> None:
    """Crops around such boxes show nothing of them; the loss was 0, and nothing was learnt."""
    value = json.loads(toy.read_text())
    for annotation in value["annotations"]:
        annotation["bbox"][0] += 500
    path = toy.with_name("elsewhere.json")
    path.write_text(json.dumps(value))
    with pytest.raises(PoseError, match="nothing to learn from") as caught:
        train(small(path), tmp_path / "run")
    assert "6 people whose joints lie elsewhere than their box" in caught.value.hint


@pytest.mark.parametrize("length", [{"epochs": 4}, {"max_minutes": 0.01}])
def test_runs_that_end_before_they_are_warm_are_told(toy: Path, tmp_path: Path, length: dict[str, float]) -> None:
    """Six pictures are three steps an epoch; the usual warm-up is 300 steps, and the rate was a hundredth of lr."""
    with pytest.warns(UserWarning, match=r"steps long and the learning rate rises over warmup = 300"):
        train(small(toy, **length), tmp_path / "slow")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(small(toy, **length, warmup=1), tmp_path / "quick")


def test_joints_that_nobody_is_labelled_with_are_told(toy: Path, tmp_path: Path) -> None:
    """A labelling tool's skeleton has joints that nobody set; the network's maps of them stay random."""
    with pytest.warns(UserWarning, match="nobody is labelled with left_eye, right_eye, left_ear"):
        train(small(toy, skeleton="coco17", epochs=1, warmup=0), tmp_path / "run")


def test_pictures_that_are_not_there_are_told_before_the_first_step(toy: Path, tmp_path: Path) -> None:
    value = json.loads(toy.read_text())
    value["images"][3]["file_name"] = "images/nowhere.png"
    path = toy.with_name("missing.json")
    path.write_text(json.dumps(value))
    with pytest.raises(PoseError, match="1 of 6 pictures with labelled people are not there") as caught:
        train(small(toy, val=str(path)), tmp_path / "run")
    assert "nowhere.png" in caught.value.hint and not (tmp_path / "run/state.pt").exists()
    with pytest.raises(PoseError, match="are not there"):
        train(small(path), tmp_path / "run")
    value["annotations"] = [a for a in value["annotations"] if a["image_id"] != 4]  # nobody looks at it
    path.write_text(json.dumps(value))
    assert train(small(path, epochs=1), tmp_path / "run").steps == 3


def test_a_skeleton_of_few_joints_is_learnt_unasked(tmp_path: Path) -> None:
    """Five labelled joints, the usual least of some models, nobody has there."""
    path = make_toy(tmp_path / "data")
    value = json.loads(path.read_text())
    for annotation in value["annotations"]:
        annotation["keypoints"] = annotation["keypoints"][:9]
    value["categories"][0]["keypoints"] = NAMES[:3]
    value["categories"][0]["skeleton"] = []
    value["categories"][0]["posecli"] = {"name": "toy3", "sigmas": [0.03, 0.08, 0.08], "flip_pairs": [[1, 2]]}
    path.write_text(json.dumps(value))
    assert train(small(path, epochs=1), tmp_path / "run").steps == 3


def test_of_videos_those_with_labelled_people_are_looked_at(toy: Path) -> None:
    """One of two videos has nobody: few pictures wanted, it alone was seen, and people were divided by."""
    value = json.loads(toy.read_text())
    value["videos"] = [{"id": n, "file_name": f"v{n}", "fps": 25.0} for n in (1, 2)]
    for n, image in enumerate(value["images"]):
        image.update(video_id=1 + n // 3, frame_id=n % 3)
    value["annotations"] = value["annotations"][3:]
    path = toy.with_name("videos.json")
    path.write_text(json.dumps(value))
    dataset = read_coco_style(path)
    validation = Validation(make_source(dataset, dataset.skeleton, "videos"), dataset.skeleton, limit=3)
    assert [[r.video_id for r, _ in clip] for clip in validation._clips] == [[2, 2, 2]]


def test_a_disk_that_is_full_is_told(toy: Path, tmp_path: Path) -> None:
    """What torch says of it looked like a bug of ours."""
    meta = ModelMeta("pose-fpn", {}, get_skeleton("coco17"), (64, 64))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, hard))
    try:
        with pytest.raises(PoseError, match="the run's state cannot be written") as caught:
            train(small(toy, epochs=1), tmp_path / "run")
        assert "room on the disk" in caught.value.hint and not list(tmp_path.glob("run/.*"))
        with pytest.raises(OSError, match=r"too large|No space"):
            save_model(tmp_path / "a.safetensors", {"a": torch.zeros(30_000)}, meta)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
