"""`export --format int8`: weights that run in whole numbers where the processor can, as before where it can't."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from posecli.calibration import calibrate, write_calibrated
from posecli.checkpoint import read_parts
from posecli.errors import PoseError
from posecli.inference import DEFAULT_MODEL, load_model
from posecli.models.int8 import can_quantise
from posecli.readout import PredictOptions

vnni = pytest.mark.skipif(not can_quantise(), reason="this processor has no products of 8 bits (VNNI)")


def test_weights_get_ranges_and_stay_as_they_are(tmp_path: Path, cli: Callable, clip: Path, tiny_model: Path) -> None:
    out = tmp_path / "quick.safetensors"
    command = ("export", "-w", tiny_model, "--format", "int8", "--samples", clip, "--out", out)
    result = cli(*command, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == {"out": str(out), "pictures": 30}
    before, after = read_parts(tiny_model), read_parts(out)
    for part in ("main", "finder"):
        assert all(torch.equal(before[part][0][name], value) for name, value in after[part][0].items())
        ranges = after[part][1].extra["ranges"]
        assert len(ranges) > 10 and all(low <= high for low, high in ranges.values())
        assert after[part][1].with_extra(ranges=None) == before[part][1].with_extra(ranges=None)
    assert cli(*command).code == 1  # it is there


@vnni
def test_infer_takes_them(tmp_path: Path, cli: Callable, clip: Path, tiny_model: Path) -> None:
    out = tmp_path / "quick.safetensors"
    assert cli("export", "-w", tiny_model, "--format", "int8", "--samples", clip, "--out", out).code == 0
    streams = {}
    for precision in ("auto", "int8", "float32"):
        stream = tmp_path / f"{precision}.jsonl"
        options = ("--precision", precision, "--find-every", "0", "--out", stream)
        assert cli("infer", clip, "-w", out, *options).code == 0
        streams[precision] = stream.read_text()
    assert streams["auto"] == streams["int8"] != streams["float32"]
    result = cli("infer", clip, "-w", tiny_model, "--precision", "int8", "--out", tmp_path / "none.jsonl")
    assert result.code == 1 and "no ranges" in result.err and "export --format int8" in result.err


@vnni
@pytest.mark.parametrize("ranges", [3, {"input": [1]}, {"input": [0, float("inf")]}, {"input": ["a", "b"]}])
def test_ranges_that_lie_are_refused(tmp_path: Path, tiny_model: Path, ranges: object) -> None:
    model = load_model(tiny_model, "cpu")
    model.meta = model.meta.with_extra(ranges=ranges)
    with pytest.raises(PoseError, match="pairs of finite numbers"):
        model.predict([np.zeros((64, 64, 3), np.uint8)], [np.array([[0, 0, 60, 60]])])


def test_wrong_uses_are_said(tmp_path: Path, cli: Callable, clip: Path, tiny_model: Path) -> None:
    base = ("export", "-w", tiny_model, "--out", tmp_path / "a.safetensors")
    for options, words in (
        (("--format", "int8"), "go together"),
        (("--samples", clip), "go together"),
        (("--format", "int8", "--samples", clip, "--finder"), "ONNX"),
        (("--format", "int4"), "unknown format"),
    ):
        result = cli(*base, *options)
        assert result.code == 2 and words in result.err, (options, result.err)
    result = cli("export", "-w", tiny_model, "--out", tmp_path / "a.onnx", "--format", "int8", "--samples", clip)
    assert result.code == 2 and ".safetensors" in result.err
    with pytest.raises(PoseError, match="no sample pictures"):
        calibrate(load_model(tiny_model, "cpu"), [])


def test_a_network_that_decides_by_what_it_sees(tmp_path: Path) -> None:
    from posecli.bench import network_of

    model = network_of("deeppose-tiny")
    with pytest.raises(PoseError, match="can't compute in int8"):
        calibrate(model, [np.zeros((64, 64, 3), np.uint8)])
    write_calibrated(model, tmp_path / "plain.safetensors")
    assert load_model(tmp_path / "plain.safetensors", "cpu").in_whole_numbers is False


@vnni
def test_the_shipped_model_finds_the_same_joints(shared: Path) -> None:
    """In whole numbers nearly all joints move by less than a pixel of the crop; a few change their mind."""
    import cv2

    files = sorted((shared / "data" / "lspet" / "images").glob("*.jpg"))[:24]
    moved = []
    models = [load_model(DEFAULT_MODEL, "cpu", options=PredictOptions(precision=p)) for p in ("int8", "float32")]
    for file in files:
        image = np.ascontiguousarray(cv2.imread(str(file))[..., ::-1])
        box = np.array([[0.0, 0, image.shape[1], image.shape[0]]])
        quick, exact = (model.predict([image], [box])[0][0] for model in models)
        sure = exact.score > 0.5
        moved.append(np.hypot(*(quick.xy - exact.xy)[sure].T) * 128 / max(image.shape[:2]))
    moved = np.concatenate(moved)
    assert len(moved) > 100 and np.median(moved) < 0.3 and np.quantile(moved, 0.9) < 1.5
