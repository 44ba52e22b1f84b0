"""HRNet against the official network's outputs, and what its inputs must be."""

import numpy as np
import pytest
import torch
from reference import load_case, tensors

from posecli.codecs.udp import encode_udp
from posecli.models import MODELS, HeatmapOutput
from posecli.models.hrnet import HRNetConcat
from posecli.models.layers import staged_output
from posecli.official import load_official
from posecli.readout import TOP_DOWN


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


def published(path, rename=str):
    """A file of the right names and shapes that takes no space; `rename` makes the publisher's names of ours."""
    with torch.device("meta"):
        network = MODELS["hrnet-w32"](keypoints=17)
    torch.save({rename(n): torch.zeros(()).expand(t.shape) for n, t in network.state_dict().items()}, path)
    return path


@pytest.mark.parametrize(
    ("file", "head", "size"),
    [
        ("td-hm_hrnet-w32_udp-8xb64-210e_coco-256x192-73ede547_20220914.pth", "head.", (192, 256)),
        ("td-hm_hrnet-w32_udp-8xb64-210e_coco-384x288-9a3f7c85_20220914.pth", "head.", (288, 384)),
        ("hrnet_w32_coco_384x288_udp-0f89c63e_20210223.pth", "keypoint_head.", (288, 384)),
        ("my_udp_network.pth", "head.", (192, 256)),
    ],
)
def test_maps_of_mmposes_udp_files_reach_from_the_first_pixel_to_the_last(tmp_path, file, head, size):
    """They were read as plain ones, which puts joints up to three pixels off; the tensors are called alike."""
    path = published(tmp_path / file, lambda n: (head if n.startswith("final_layer.") else "backbone.") + n)
    warnings = []
    _, meta = load_official(path, warn=warnings.append)
    assert (meta.codec, meta.input_size, meta.skeleton.name) == ("udp", size, "coco17") and not warnings
    width, height = size[0] // 4, size[1] // 4
    places = np.random.default_rng(0).uniform(0.1, 0.9, (17, 2)) * (np.array(size) - 1)
    on_map = places * np.array([width - 1, height - 1]) / (np.array(size) - 1)
    maps, _ = encode_udp(on_map, np.ones(17), (width, height), meta.extra["sigma"])
    xy, _ = TOP_DOWN[meta.codec].decode(HeatmapOutput(torch.from_numpy(maps)[None]), None, meta)
    assert np.abs(xy[0].numpy() - places).max() < 0.05


def test_alphaposes_file_has_its_own_normalisation(tmp_path):
    """Its names are the official ones; it was given pictures normalised by ImageNet's mean and deviation."""
    _, meta = load_official(published(tmp_path / "hrnet_w32_256x192.pth"))
    assert meta.mean == (0.406, 0.457, 0.480) and meta.std == (1, 1, 1) and meta.input_size == (192, 256)
    _, meta = load_official(published(tmp_path / "pose_hrnet_w32_256x192.pth"))
    assert meta.mean == (0.485, 0.456, 0.406)


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
