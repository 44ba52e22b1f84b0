"""SimpleBaseline against the official network's outputs, in both stride styles; its files are recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference import load_case, tensors

from posecli.errors import PoseError
from posecli.inference import load_model
from posecli.models import MODELS
from posecli.official import load_official


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
def test_official_output(shared: Path, tmp_path: Path, style: str) -> None:
    case = load_case(shared, "pose_resnet50_coco" if style == "pytorch" else "pose_resnet50_caffe_coco")
    golden, limits = case["golden"]["heatmap"], case["case"]["outputs"]["heatmap"]
    state = {n: t for n, t in tensors(case["params"]).items() if not n.endswith("num_batches_tracked")}
    path = tmp_path / f"pose_resnet_50_{'caffe_' if style == 'caffe' else ''}256x192.pth.tar"
    torch.save(state, path)
    warnings: list[str] = []
    model = load_model(path, device="cpu", warn=warnings.append)
    assert model.meta.arguments["style"] == style and not warnings
    assert model.meta.input_size == (192, 256) and model.skeleton.name == "coco17"
    image = torch.from_numpy(case["input"])
    with torch.no_grad():
        output = model.network.eval()(image).heatmap
        exact = model.network.double()(image.double()).heatmap
    assert np.abs(output.numpy() - golden).max() < 1e-5 * limits["absmax"]
    assert np.abs(exact.numpy() - golden).max() < 3 * limits["float32_error"]


def state_of(architecture: str, keypoints: int, **arguments: object) -> dict[str, torch.Tensor]:
    # The shapes are what counts: no random numbers, so that deep networks are quick.
    with torch.device("meta"):
        network = MODELS[architecture](keypoints=keypoints, **arguments)
    return {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in network.state_dict().items()}


def saved(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def state_50() -> dict[str, torch.Tensor]:
    return state_of("simple-baseline-50", 17)


def test_style_cannot_be_told_from_names(tmp_path: Path, state_50: dict[str, torch.Tensor]) -> None:
    path = saved(tmp_path / "weights.pth", state_50)
    warnings: list[str] = []
    _, meta = load_official(path, warn=warnings.append)
    assert meta.arguments["style"] == "pytorch" and "pose_resnet_50_caffe_256x192" in warnings[0]
    # Size and skeleton given, the style is still open.
    load_official(path, skeleton="coco17", input_size=(192, 256), warn=warnings.append)
    assert "caffe" in warnings[1]
    _, meta = load_official(path, release="pose_resnet_50_caffe_256x192", warn=warnings.append)
    assert meta.arguments["style"] == "caffe" and len(warnings) == 2
    _, meta = load_official(saved(tmp_path / "my_caffe_net.pth", state_50), warn=warnings.append)
    assert meta.arguments["style"] == "caffe" and len(warnings) == 2
    with pytest.raises(PoseError, match=r"cannot be the release 'pose_resnet_101_256x192'.*pose_resnet_50_256x192"):
        load_official(path, release="pose_resnet_101_256x192")


@pytest.mark.parametrize(
    ("depth", "keypoints", "file", "skeleton", "size"),
    [
        (101, 17, "pose_resnet_101_384x288.pth.tar", "coco17", (288, 384)),
        (152, 16, "pose_resnet_152_256x256.pth.tar", "mpii16", (256, 256)),
        (152, 17, "release.pth", "coco17", (192, 256)),
    ],
)
def test_other_releases(
    tmp_path: Path, depth: int, keypoints: int, file: str, skeleton: str, size: tuple[int, int]
) -> None:
    state = {f"module.{n}": t for n, t in state_of(f"simple-baseline-{depth}", keypoints).items()}
    torch.save({"state_dict": state}, tmp_path / file)
    warnings: list[str] = []
    _, meta = load_official(tmp_path / file, warn=warnings.append)
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == (f"simple-baseline-{depth}", skeleton, size)
    assert bool(warnings) == (file == "release.pth")


@pytest.mark.parametrize(
    ("file", "keypoints", "head", "skeleton", "size", "codec"),
    [
        ("td-hm_res50_8xb64-210e_coco-384x288-7b8db90e_20220923.pth", 17, "head.", "coco17", (288, 384), "gaussian"),
        ("td-hm_res50_dark-8xb64-210e_coco-256x192-c129dcb6.pth", 17, "head.", "coco17", (192, 256), "dark"),
        ("res50_posetrack18_256x192-a62807c7.pth", 17, "keypoint_head.", "posetrack18", (192, 256), "gaussian"),
        ("res50_2deconv_jhmdb_sub1_256x256-f0574a52.pth", 15, "keypoint_head.", "jhmdb15", (256, 256), "gaussian"),
        ("res50_crowdpose_256x192-c6a526b6.pth", 14, "keypoint_head.", "crowdpose14", (192, 256), "gaussian"),
    ],
)
def test_files_of_mmpose(
    tmp_path: Path, file: str, keypoints: int, head: str, skeleton: str, size: tuple[int, int], codec: str
) -> None:
    deconv = 2 if "2deconv" in file else 3
    state = state_of("simple-baseline-50", keypoints, deconv=deconv)
    renamed = {(head if n.startswith(("deconv_", "final_")) else "backbone.") + n: t for n, t in state.items()}
    torch.save({"meta": {}, "state_dict": renamed}, tmp_path / file)
    warnings: list[str] = []
    network, meta = load_official(tmp_path / file, warn=warnings.append)
    assert (meta.skeleton.name, meta.input_size, meta.codec) == (skeleton, size, codec)
    assert "channels" not in meta.extra and not warnings
    assert network.stride == 32 // 2**deconv


def test_a_file_of_mmpose_may_have_its_normalisation_on_board(
    tmp_path: Path, state_50: dict[str, torch.Tensor]
) -> None:
    """Such a file was refused: two names were left over."""
    renamed = {("head." if n.startswith(("deconv_", "final_")) else "backbone.") + n: t for n, t in state_50.items()}
    renamed["data_preprocessor.mean"] = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    renamed["data_preprocessor.std"] = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    path = saved(tmp_path / "td-hm_res50_8xb64-210e_coco-256x192-04af38ce.pth", renamed)
    _, meta = load_official(path)
    assert meta.mean == (0.485, 0.456, 0.406)
    renamed["data_preprocessor.mean"] = torch.zeros(3, 1, 1)
    with pytest.raises(PoseError, match=r"data_preprocessor\.mean \(not the constant"):
        load_official(saved(tmp_path / "other.pth", renamed), warn=lambda text: None)


def test_blue_comes_first(tmp_path: Path, state_50: dict[str, torch.Tensor]) -> None:
    """A blue picture lights the network's first channel, normalised by the mean that ImageNet has for red."""
    model = load_model(saved(tmp_path / "pose_resnet_50_256x192.pth", state_50), "cpu", warn=lambda text: None)
    seen = []
    model.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.speed = "plain"
    blue = np.zeros((1, 256, 192, 3), np.uint8)
    blue[..., 2] = 255
    model.maps(blue)
    found = seen[0][0, :, 0, 0].tolist()
    assert found == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rel=1e-4)


def test_alphapose_file(tmp_path: Path, state_50: dict[str, torch.Tensor]) -> None:
    renamed = {n if n.startswith(("deconv_", "final_")) else f"preact.{n}": t for n, t in state_50.items()}
    _, meta = load_official(saved(tmp_path / "simple_res50_256x192.pth", renamed))
    assert meta.mean == (0.406, 0.457, 0.480) and meta.std == (1, 1, 1)


def test_wrong_sizes_and_styles_are_named() -> None:
    with pytest.raises(ValueError, match="multiples of 32"):
        MODELS["simple-baseline-tiny"](keypoints=5)(torch.zeros(1, 3, 48, 64))
    with pytest.raises(ValueError, match="pytorch or caffe"):
        MODELS["simple-baseline-tiny"](keypoints=5, style="tensorflow")


def test_one_of_a_batch_is_a_batch_of_one() -> None:
    torch.manual_seed(0)
    network = MODELS["simple-baseline-tiny"](keypoints=5).eval().double()
    images = torch.randn(3, 3, 64, 96).double()
    with torch.no_grad():
        together, alone = network(images).heatmap, network(images[1:2]).heatmap
    assert together.shape == (3, 5, 16, 24)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)
