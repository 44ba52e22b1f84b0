"""ONNX files: their maps are ours for any batch, their metadata suffices to use them without posecli."""

from __future__ import annotations

import builtins
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from posecli.checkpoint import ModelMeta, save_model
from posecli.errors import MissingExtra, PoseError
from posecli.models import DEKR, MODELS
from posecli.onnx_export import export_onnx
from posecli.settings import family
from posecli.skeletons import get_skeleton

COCO = get_skeleton("coco17")
#: Each family by its smallest member.
SMALL = [name for name in MODELS if name.endswith("-tiny") or name in ("pose-fpn", "dekr-finder")]


#: What other members of a family are made of.
VARIANTS = {
    "fastpose-tiny": ({"dcn": True}, {"duc": (4, 2, 1)}, {"unshuffle": True}),
    "hourglass-tiny": ({"separable": True},),
    "simple-baseline-tiny": ({"style": "caffe"}, {"deconv": 2, "kernel": 3}),
    "cpm-tiny": ({"background": None},),
}


def made(name: str, seed: int = 0, **arguments: object) -> tuple[nn.Module, ModelMeta]:
    """A small network whose every parameter says something (offsets of adaptive convolutions start at zero)."""
    torch.manual_seed(seed)
    network = MODELS[name](keypoints=17, **arguments)
    # Sub-images of white noise multiply the rounding of where they lie, all the more the farther stages move joints.
    size = 0.003 if name.startswith("deeppose") else 0.02
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) * size)
    return network.eval(), ModelMeta(name, {"keypoints": 17}, COCO, (64, 96), extra={"channels": "bgr"})


class _Backbone(nn.Sequential):
    """The least that DEKR's heads can stand on: writing a large network as a graph takes long."""

    out_channels, stride = 8, 4


def small_dekr() -> DEKR:
    torch.manual_seed(1)
    network = DEKR(_Backbone(nn.Conv2d(3, 8, 3, 4, 1)), 17, heatmap_channels=8, joint_channels=2).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def run(path: Path, images: np.ndarray) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {"image": images})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DEKR, the network with the adaptive convolution."""
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("onnx") / "dekr.onnx"
    result = export_onnx(small_dekr(), made("dekr-tiny")[1], path)
    assert result.difference < 1e-4
    assert result.outputs == {"heatmap": (None, 18, 24, 16), "offset": (None, 34, 24, 16)}
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
def test_adaptive_convolution_with_any_batch(exported: Path, count: int) -> None:
    network = small_dekr()
    images = torch.randn(count, 3, 96, 64)
    with torch.no_grad():
        ours = network(images)
    theirs = run(exported, images.numpy())
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine.numpy() - other).max() < 1e-4 * mine.abs().max()
    # The branches do look aside: with all taps on the pixel itself the offsets would be others.
    with torch.no_grad():
        for block in network.offset_blocks:
            block.geometry_conv.weight.zero_()
            block.geometry_conv.bias.zero_()
        still = network(images).offset
    assert (still - ours.offset).abs().max() > 1e-2 * ours.offset.abs().max()


def test_metadata(exported: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(str(exported))
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert found["skeleton"] == "coco17" and json.loads(found["keypoints"]) == list(COCO.keypoints)
    assert json.loads(found["input_size"]) == [64, 96] and found["channels"] == "bgr"
    assert json.loads(found["mean"]) == [0.485, 0.456, 0.406] and found["codec"] == "gaussian"
    meta = ModelMeta.from_json(json.loads(found["posecli"]))
    assert meta.architecture == "dekr-tiny" and meta.skeleton == COCO
    dimension = model.graph.input[0].type.tensor_type.shape.dim
    assert dimension[0].dim_param and [d.dim_value for d in dimension][1:] == [3, 96, 64]
    assert [o.name for o in model.graph.output] == ["heatmap", "offset"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        # One of them always: several outputs, any batch.
        pytest.param(name, arguments, marks=() if name == "cpm-tiny" and not arguments else pytest.mark.slow)
        for name in SMALL
        for arguments in ({}, *VARIANTS.get(name, ()))
    ],
)
def test_every_family(tmp_path: Path, name: str, arguments: dict[str, object]) -> None:
    pytest.importorskip("onnxscript")
    network, meta = made(name, **arguments)
    result = export_onnx(network, meta, tmp_path / "a.onnx")
    assert result.difference < 1e-4
    images = torch.randn(3, 3, 96, 64)
    with torch.no_grad():
        ours = network(images)
    assert list(result.outputs) == list(ours._fields)
    for mine, other in zip(ours, run(tmp_path / "a.onnx", images.numpy()), strict=True):
        assert np.abs(mine.numpy() - other).max() < 1e-4 * mine.abs().max()


def test_every_family_has_a_small_member() -> None:
    assert {family(name) for name in MODELS} <= {family(name) for name in SMALL}


def test_verb(cli, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    arguments = {"keypoints": 17, "widths": (8, 8, 8, 8), "blocks": (1, 1, 1, 1), "stem_channels": 8, "channels": 8}
    network = MODELS["pose-fpn"](**arguments)
    meta = ModelMeta("pose-fpn", arguments, COCO, (64, 96), codec="softmax")
    save_model(tmp_path / "a.safetensors", network, meta)
    command = ("export", "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "a.onnx")
    outcome = cli(*command, "--input-size", "32x64", "--json")
    assert outcome.code == 0, outcome.err
    result = json.loads(outcome.out)
    assert result["input"] == [None, 3, 64, 32] and result["outputs"] == {"heatmap": [None, 17, 16, 8]}
    assert run(tmp_path / "a.onnx", np.zeros((1, 3, 64, 32), np.float32))[0].shape == (1, 17, 16, 8)
    outcome = cli(*command)
    assert outcome.code == 1 and "exists already" in outcome.err
    for more, message in (
        (("--format", "tflite"), "unknown format"),
        (("--input-size", "32"), "width x height"),
        (("--input-size", "40x64"), "multiples of"),
    ):
        outcome = cli(*command, "--overwrite", *more)
        assert outcome.code == 2 and message in outcome.err
    outcome = cli(*command, "--overwrite", "--finder")
    assert outcome.code == 1 and "bring no network that finds people" in outcome.err
    outcome = cli("export", "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "a.bin")
    assert outcome.code == 2 and "end it in .onnx" in outcome.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.safetensors"]


def test_sizes_that_a_bottom_up_network_does_not_take_are_named(cli, tmp_path: Path) -> None:
    """Its pictures are padded elsewhere; here the size itself is given."""
    meta = ModelMeta("dekr-tiny", {"keypoints": 17}, COCO, (64, 64), codec="dekr")
    save_model(tmp_path / "a.safetensors", MODELS["dekr-tiny"](keypoints=17), meta)
    outcome = cli(
        "export", "--weights", tmp_path / "a.safetensors", "--out", tmp_path / "a.onnx", "--input-size", "40x64"
    )
    assert outcome.code == 2 and "multiples of 32" in outcome.err


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posecli.onnx_export.find_spec", lambda name: None if name == "onnxruntime" else builtins)
    with pytest.raises(MissingExtra, match=r"onnxruntime.*pip install 'posecli\[export\]'"):
        export_onnx(*made("hrnet-tiny"), tmp_path / "a.onnx")


def test_failures_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    network, meta = made("hrnet-tiny")

    def refuse(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator\nand a long story")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(PoseError, match=r"hrnet-tiny cannot be written as ONNX: no such operator$"):
        export_onnx(network, meta, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_maps_that_differ_are_refused(tmp_path: Path, exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is of the file: one of another network does not pass for this one."""
    monkeypatch.setattr(torch.onnx, "export", lambda *arguments, **options: shutil.copy(exported, arguments[2]))
    other = small_dekr()
    meta = made("dekr-tiny")[1]
    assert export_onnx(other, meta, tmp_path / "same.onnx").difference < 1e-4
    with torch.no_grad():
        other.offset_final.weight[0] += 0.01
    with pytest.raises(PoseError, match="ONNX Runtime's maps differ from ours by"):
        export_onnx(other, meta, tmp_path / "a.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["same.onnx"]
