"""HRNet against the official network's outputs, and what its inputs must be."""

import numpy as np
import pytest
import torch
from reference import load_case, tensors

from posecli.models import MODELS, HeatmapOutput
from posecli.models.hrnet import HRNetConcat
from posecli.models.layers import staged_output


def test_official_output(shared):
    case = load_case(shared, "hrnet_w32_coco")
    network = MODELS["hrnet-w32"](keypoints=17)
    network.load_state_dict(tensors(case["params"]))  # official names, unchanged
    network.eval()
    golden, limits = case["golden"]["heatmap"], case["case"]["outputs"]["heatmap"]
    with torch.no_grad():
        output = network(torch.from_numpy(case["input"]))
        exact = network.double()(torch.from_numpy(case["input"]).double())
    assert isinstance(output, HeatmapOutput)
    assert np.abs(output.heatmap.numpy() - golden).max() < 1e-5 * limits["absmax"]
    assert np.abs(exact.heatmap.numpy() - golden).max() < 2 * limits["float32_error"]


def test_only_the_row_that_is_used_exists():
    names = MODELS["hrnet-w32"](keypoints=17).state_dict()
    assert not any(name.startswith(("stage4.2.fuse_layers.1", "stage4.2.fuse_layers.2")) for name in names)
    assert any(name.startswith("stage4.1.fuse_layers.3") for name in names)


@pytest.mark.parametrize("name", ["hrnet-tiny", "hrnet-small"])
def test_one_of_a_batch_is_a_batch_of_one(name):
    torch.manual_seed(0)
    network = MODELS[name](keypoints=5).eval().double()
    images = torch.randn(3, 3, 64, 96).double()
    with torch.no_grad():
        together = network(images).heatmap
        alone = network(images[1:2]).heatmap
    assert together.shape == (3, 5, 16, 24)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="multiples of 32"):
        MODELS["hrnet-tiny"](keypoints=5)(torch.zeros(1, 3, 48, 64))


def test_backbone_tells_its_channels():
    backbone = HRNetConcat(width=8, modules=(1, 1, 1), blocks=1, stem=16, bottlenecks=1).eval()
    assert backbone.out_channels == 8 * 15 and backbone.stride == 4
    assert backbone(torch.zeros(1, 3, 64, 64)).shape == (1, 120, 16, 16)


def test_map_pixel_u_lies_on_input_pixel_4u():
    """With kernels that copy their middle pixel the stem picks every fourth pixel: no half-pixel shift."""
    network = MODELS["hrnet-tiny"](keypoints=1).eval()
    with torch.no_grad():
        for conv in (network.conv1, network.conv2):
            conv.weight.zero_()
            conv.weight[0, 0, 1, 1] = 1
        image = torch.zeros(1, 3, 64, 96)
        image[0, 0, 4 * 5, 4 * 7] = 1
        picked = network.conv2(network.conv1(image))[0, 0]
    assert picked.nonzero().tolist() == [[5, 7]]


def test_staged_output_decodes_the_last_stage() -> None:
    kind = staged_output("first", "last")
    maps = torch.zeros(1, 2, 3, 3), torch.ones(1, 2, 3, 3)
    output = kind(*maps)
    assert output.heatmap is maps[1] and output.stages == maps and output._fields == ("first", "last")
    assert staged_output("first", "last") is kind
