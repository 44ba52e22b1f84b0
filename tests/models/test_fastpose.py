"""FastPose against the official network's outputs; its variants are recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference import load_case, tensors

from posecli.inference import load_model
from posecli.models import MODELS
from posecli.models.fastpose import SEBottleneck
from posecli.models.fuse import fold_norms
from posecli.official import load_official


@pytest.mark.parametrize(("case_name", "architecture"), [("", "fastpose-50"), ("_dcn", "fastpose-50-dcn")])
def test_official_output(shared: Path, tmp_path: Path, case_name: str, architecture: str) -> None:
    case = load_case(shared, f"fastpose50{case_name}_coco")
    golden, limits = case["golden"]["heatmap"], case["case"]["outputs"]["heatmap"]
    state = {n: t for n, t in tensors(case["params"]).items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "release.pth")
    warnings: list[str] = []
    model = load_model(tmp_path / "release.pth", device="cpu", warn=warnings.append)
    assert model.meta.architecture == architecture and not warnings
    assert model.meta.mean == (0.406, 0.457, 0.480) and model.meta.std == (1, 1, 1)
    image = torch.from_numpy(case["input"])
    with torch.no_grad():
        output = model.network.eval()(image).heatmap
        exact = model.network.double()(image.double()).heatmap
    assert np.abs(output.numpy() - golden).max() < 1e-5 * limits["absmax"]
    assert np.abs(exact.numpy() - golden).max() < 3 * limits["float32_error"]


@pytest.mark.parametrize(
    ("architecture", "arguments", "release"),
    [
        ("fastpose-152-duc", {}, "fast_421_res152_256x192"),
        ("fastpose-101-duc", {"duc": [2, 1, 1]}, "fast_421_res101_256x192"),
        ("fastpose-101", {}, "fast_res101_256x192"),
        ("fastpose-152-dcn", {}, "fast_dcn_res152_256x192"),
        ("fastpose-50-duc", {"unshuffle": True}, "fast_421_res50-shuffle_256x192"),
    ],
)
def test_other_variants(tmp_path: Path, architecture: str, arguments: dict[str, object], release: str) -> None:
    with torch.device("meta"):
        network = MODELS[architecture](keypoints=17, **arguments)
    state = {n: torch.zeros(t.shape, dtype=t.dtype) for n, t in network.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    loaded, meta = load_official(tmp_path / "a.pth")
    assert (meta.architecture, meta.extra["release"]) == (architecture, release)
    assert {k: v for k, v in meta.arguments.items() if k != "keypoints"} == arguments
    assert loaded.state_dict().keys() == state.keys()


def test_the_duc_variant_shuffles_before_it_convolves() -> None:
    """Shapes of the official FastPose_DUC at stage counts 4, 2, 1 (ResNet-152, 17 joints)."""
    with torch.device("meta"):
        shapes = {n: tuple(t.shape) for n, t in MODELS["fastpose-152-duc"](keypoints=17).state_dict().items()}
    assert shapes["duc1.1.weight"] == (512, 512, 3, 3) and shapes["duc1.10.weight"] == (1024, 512, 3, 3)
    assert shapes["duc2.1.weight"] == (256, 256, 3, 3) and shapes["duc2.4.weight"] == (512, 256, 3, 3)
    assert shapes["duc3.1.weight"] == (256, 128, 3, 3) and shapes["conv_out.weight"] == (17, 256, 3, 3)


def test_a_stage_that_unshuffles_passes_no_pixel_over() -> None:
    """Shapes of the official ShuffleResnet, whose 3x3 sees four times the channels; and the order of its channels:
    4 c + 2 y + x of the pixel (x, y) of each 2x2."""
    block = SEBottleneck(8, 2, stride=2, unshuffle=True)
    names = {n: tuple(t.shape) for n, t in block.state_dict().items()}
    assert names["conv2.1.weight"] == (2, 8, 3, 3) and "conv2.weight" not in names
    torch.nn.init.zeros_(block.conv2[1].weight)
    with torch.no_grad():
        block.conv2[1].weight[0, 4 * 1 + 2 * 1 + 0, 1, 1] = 1
        image = torch.arange(2 * 4 * 6.0).reshape(1, 2, 4, 6)
        assert torch.equal(block.conv2(image)[0, 0], image[0, 1, 1::2, 0::2])
    assert "conv2.weight" in SEBottleneck(8, 2, unshuffle=True).state_dict()
    with pytest.raises(ValueError, match="dcn or unshuffle"):
        MODELS["fastpose-tiny"](keypoints=5, dcn=True, unshuffle=True)


@pytest.mark.parametrize("arguments", [{}, {"dcn": True}, {"duc": (2, 1, 1)}, {"duc": (2, 1, 1), "unshuffle": True}])
def test_tiny(arguments: dict[str, object]) -> None:
    """Shapes, one of a batch, and the folded copy that inference runs."""
    torch.manual_seed(0)
    network = MODELS["fastpose-tiny"](keypoints=5, **arguments)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if hasattr(module, "conv2_offset"):
            torch.nn.init.normal_(module.conv2_offset.weight, std=0.05)
    network = network.eval().double()
    images = torch.randn(3, 3, 64, 96).double()
    with torch.no_grad():
        together, alone, folded = network(images).heatmap, network(images[1:2]).heatmap, fold_norms(network)(images)
    assert together.shape == (3, 5, 16, 24)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(folded.heatmap, together, rtol=1e-9, atol=1e-9)
    assert together.abs().max() > 1e-4
