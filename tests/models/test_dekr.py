"""DEKR against the official network's outputs; backbones, the box head, and one of a batch."""

import numpy as np
import pytest
import torch
from reference import load_case, tensors
from torch import nn

from posecli.models import DEKR, MODELS, DekrBoxOutput, DekrOutput
from posecli.official import FAMILIES, convert


def test_official_output(shared):
    case = load_case(shared, "dekr_w32_coco")
    network = MODELS["dekr-w32"](keypoints=17)
    network.load_state_dict(convert(FAMILIES[0], network, tensors(case["params"])))
    network.eval()
    image = torch.from_numpy(case["input"])
    with torch.no_grad():
        output = network(image)
        exact = network.double()(image.double())
    assert isinstance(output, DekrOutput)
    for name in output._fields:
        golden, limits = case["golden"][name], case["case"]["outputs"][name]
        assert np.abs(getattr(output, name).numpy() - golden).max() < 1e-5 * limits["absmax"]
        assert np.abs(getattr(exact, name).numpy() - golden).max() < 2 * limits["float32_error"]


@pytest.mark.parametrize("keypoints", [14, 17])
def test_shapes_and_batches(keypoints):
    torch.manual_seed(0)
    network = MODELS["dekr-tiny"](keypoints=keypoints).eval().double()
    nn.init.normal_(network.offset_blocks[0].geometry_conv.weight, std=0.1)
    images = torch.randn(3, 3, 64, 96).double()
    with torch.no_grad():
        together, alone = network(images), network(images[2:])
    assert together.heatmap.shape == (3, keypoints + 1, 16, 24)
    assert together.offset.shape == (3, 2 * keypoints, 16, 24)
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a[2:], b, rtol=1e-9, atol=1e-12)


def test_any_backbone_with_a_box_head():
    class Pool(nn.Module):
        out_channels, stride = 3, 8

        def forward(self, image):
            return nn.functional.avg_pool2d(image, 8)

    network = DEKR(Pool(), keypoints=4, heatmap_channels=16, joint_channels=5, offset_blocks=1, box=True).eval()
    output = network(torch.randn(2, 3, 80, 56) * 100)
    assert network.stride == 8
    assert isinstance(output, DekrBoxOutput)
    assert output.box.shape == (2, 4, 10, 7)
    assert (output.box > 0).all() and output.box.isfinite().all()


def test_joints_do_not_see_each_other():
    """Disentangled: the offsets of one joint depend on its own branch only."""
    torch.manual_seed(0)
    network = MODELS["dekr-tiny"](keypoints=3).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = network(image).offset
        network.offset_blocks[0].adapt_conv.weight[15:30] *= 2
        after = network(image).offset
    changed = (before != after).flatten(2).any(-1)[0]
    assert changed.tolist() == [False, False, True, True, False, False]


def test_trains_from_scratch():
    torch.manual_seed(0)
    network = MODELS["dekr-tiny"](keypoints=2, box=True)
    output = network(torch.randn(2, 3, 64, 64))
    sum(map_.square().mean() for map_ in output).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
