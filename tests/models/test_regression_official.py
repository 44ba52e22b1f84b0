"""Files of regression networks of mmpose: recognised by names and shapes, read in their own coordinates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from posecli.checkpoint import ModelMeta
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.deeppose import DeepPoseOutput
from posecli.models.layers import HeatmapOutput
from posecli.official import load_official
from posecli.readout import TOP_DOWN


def published(depth: int, keypoints: int, head: str) -> tuple[torch.nn.Module, dict[str, Tensor]]:
    """A network of ours with some weights, and these under the published names."""
    torch.manual_seed(0)
    network = MODELS[f"deeppose-resnet-{depth}"](keypoints=keypoints, stages=1, zoom=1).eval()
    names = {
        n: ("backbone." + n[15:]) if n.startswith("stages.0.trunk.") else head + n[9:] for n in network.state_dict()
    }
    return network, {names[n]: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("file", "depth", "keypoints", "head", "skeleton", "size"),
    [
        ("td-reg_res50_8xb64-210e_coco-256x192-72ef04f3_20220913.pth", 50, 17, "head.", "coco17", (192, 256)),
        ("deeppose_res50_mpii_256x256-c63cd0b6_20210203.pth", 50, 16, "keypoint_head.", "mpii16", (256, 256)),
    ],
)
def test_files_of_mmpose(
    tmp_path: Path, file: str, depth: int, keypoints: int, head: str, skeleton: str, size: tuple[int, int]
) -> None:
    network, state = published(depth, keypoints, head)
    torch.save({"meta": {}, "state_dict": state}, tmp_path / file)
    warnings: list[str] = []
    found, meta = load_official(tmp_path / file, warn=warnings.append)
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == (f"deeppose-resnet-{depth}", skeleton, size)
    assert meta.codec == "coordinates" and not warnings
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(found(image).places, network(image).places)
    # The backbone's last maps, their mean over all places, the linear layer: mmpose's network written out.
    with torch.no_grad():
        features = network.stages[0].trunk.maps(image)[-1].mean((2, 3))
        plain = features @ state[head + "fc.weight"].T + state[head + "fc.bias"]
    torch.testing.assert_close(found(image).places[0, 0].detach(), plain.view(keypoints, 2), atol=1e-5, rtol=1e-4)


def test_places_count_from_the_first_pixel() -> None:
    """`RegressionLabel.decode`: the share times the width and height; flipped, x becomes width - 1 - x."""
    from posecli.skeletons import get_skeleton

    skeleton = get_skeleton("coco17")
    meta = ModelMeta("deeppose-resnet-50", {}, skeleton, (192, 256), codec="coordinates", extra={"places": "corner"})
    shares = torch.rand(1, 1, 17, 2)
    xy, _ = TOP_DOWN["coordinates"].decode(DeepPoseOutput(shares), None, meta)
    torch.testing.assert_close(xy, shares[:, 0] * torch.tensor([192.0, 256.0]))
    turned = torch.stack([1 - shares[..., 0] - 1 / 192, shares[..., 1]], -1)[:, :, list(skeleton.flip_index)]
    both, _ = TOP_DOWN["coordinates"].decode(DeepPoseOutput(shares), DeepPoseOutput(turned), meta)
    torch.testing.assert_close(both, xy, atol=1e-4, rtol=0)


def test_likelihood_files_are_refused(tmp_path: Path) -> None:
    _, state = published(50, 17, "head.")
    weight, bias = state["head.fc.weight"], state["head.fc.bias"]
    state |= {"head.fc.weight": torch.cat([weight, weight]), "head.fc.bias": torch.cat([bias, bias])}
    state["head.loss_module.flow_model.mask"] = torch.zeros(6, 2)
    torch.save({"state_dict": state}, tmp_path / "td-reg_res50_rle.pth")
    with pytest.raises(PoseError, match="unknown kind"):
        load_official(tmp_path / "td-reg_res50_rle.pth")


def test_integral_files_of_mmpose(tmp_path: Path) -> None:
    """`IntegralRegressionHead`: the softmax's mean of arange(64) / 64, times the input's 256 pixels."""
    torch.manual_seed(0)
    network = MODELS["integral-resnet-50"](keypoints=17).eval()
    after = ("deconv_layers.", "final_layer.")
    bare = {n: n.removeprefix("network.") for n in network.state_dict()}
    state = {
        ("head.simplebaseline_head." if bare[n].startswith(after) else "backbone.") + bare[n]: t
        for n, t in network.state_dict().items()
    }
    state["head.linspace_x"] = (torch.arange(64.0) / 64).view(1, 1, 1, 64)
    state["head.linspace_y"] = (torch.arange(64.0) / 64).view(1, 1, 64, 1)
    warnings: list[str] = []
    for file in ("ipr_res50_8xb64-210e_coco-256x256-a3898a33_20220913.pth",
                 "ipr_res50_dsnt-8xb64-210e_coco-256x256-441eedc0_20220913.pth"):  # fmt: skip
        torch.save({"meta": {}, "state_dict": state}, tmp_path / file)
        found, meta = load_official(tmp_path / file, warn=warnings.append)
        assert (meta.architecture, meta.skeleton.name, meta.input_size) == ("integral-resnet-50", "coco17", (256, 256))
    assert meta.codec == "integral" and not warnings
    maps = 3 * torch.randn(2, 17, 64, 64)
    share = maps.flatten(2).softmax(2).view_as(maps)
    x = (share * state["head.linspace_x"]).sum((2, 3)) * 256
    y = (share * state["head.linspace_y"]).sum((2, 3)) * 256
    xy, _ = TOP_DOWN["integral"].decode(HeatmapOutput(maps), None, meta)
    torch.testing.assert_close(xy, torch.stack([x, y], -1), atol=1e-2, rtol=0)
    assert all(
        torch.equal(a, b) for a, b in zip(found.state_dict().values(), network.state_dict().values(), strict=True)
    )
