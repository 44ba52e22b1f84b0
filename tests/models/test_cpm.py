"""Convolutional pose machine against mmpose's outputs, its growing receptive field, the background, and learning."""

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from reference import load_case, tensors
from torch import nn

from posecli.models import MODELS
from posecli.models.fuse import fold_norms
from posecli.official import load_official
from posecli.official.cpm import FAMILIES


@pytest.fixture(scope="module")
def case(shared):
    return load_case(shared, "cpm6_mmpose")


def test_official_output(case, tmp_path):
    state = {f"backbone.{k}": v for k, v in tensors(case["params"]).items() if not k.endswith("num_batches_tracked")}
    state["data_preprocessor.mean"] = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    torch.save({"meta": {"epoch": 1}, "state_dict": state}, tmp_path / "cpm.pth")
    warnings = []
    network, meta = load_official(tmp_path / "cpm.pth", warn=warnings.append)
    assert (meta.architecture, meta.arguments["stages"], meta.arguments["background"]) == ("cpm", 6, None)
    assert (meta.skeleton.name, meta.input_size, meta.codec) == ("coco17", (192, 256), "mmpose")
    assert "384x288" in warnings[0]
    with torch.no_grad():
        output = network(torch.from_numpy(case["input"]))
    assert output._fields == tuple(case["golden"])
    for name, golden in case["golden"].items():
        limit = 1e-5 * case["case"]["outputs"][name]["absmax"]
        assert np.abs(getattr(output, name).numpy() - golden).max() < limit
    assert torch.equal(output.heatmap, output.stage5) and len(output.stages) == 6


def test_files_are_recognised_by_name_and_shape(tmp_path):
    arguments = {"keypoints": 15, "stages": 3, "background": None, "channels": 8, "wide": 12, "middle": 4}
    arguments["features"] = 6
    network = MODELS["cpm"](**arguments)
    own = network.state_dict()
    for family in FAMILIES:
        state = {theirs: own[ours] for ours, (theirs,) in family.sources(network).items()}
        assert family.describe(state) == ("cpm", arguments)
        torch.save(state, tmp_path / "cpm_jhmdb_sub2_368x368-fc742f1f_20201122.pth")
        loaded, meta = load_official(tmp_path / "cpm_jhmdb_sub2_368x368-fc742f1f_20201122.pth")
        assert meta.extra["release"] == "cpm_jhmdb_sub2_368x368" and meta.skeleton.name == "jhmdb15"
        assert all(torch.equal(tensor, own[name]) for name, tensor in loaded.state_dict().items())


def test_receptive_field_grows_with_the_stages():
    """The paper's Fig. 2: 160 input pixels at stage 1 (167 with pools of 3x3), 240 more with each stage."""
    network = MODELS["cpm"](keypoints=1, stages=2, background=None, channels=1, wide=1, middle=1, features=1).eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.fill_(1 / module.weight[0].numel())
    # Noise decides which pixel a pool passes on.
    image = 1 + torch.rand((1, 3, 64, 432), generator=torch.Generator().manual_seed(0)).double() * 1e-3
    image.requires_grad_()
    for stage, field in zip(network.double()(image).stages, (167, 407), strict=True):
        (gradient,) = torch.autograd.grad(stage[0, 0, 4, 27], image, retain_graph=True)
        reached = gradient[0].sum(0).sum(0).nonzero().flatten()
        # Pools pass on one of nine pixels each: the border of the field may be missed by a few of them.
        width = int(reached[-1] - reached[0]) + 1
        assert field - 20 <= width <= field


def test_background_is_one_map_more():
    for place, maps in ((None, 4), ("last", 5), ("first", 5)):
        network = MODELS["cpm-tiny"](keypoints=4, background=place).eval()
        with torch.no_grad():
            output = network(torch.randn(1, 3, 40, 48))
        assert network.background == place and output.heatmap.shape == (1, maps, 5, 6)
    with pytest.raises(ValueError, match="first, last or None"):
        MODELS["cpm"](keypoints=4, background="middle")
    with pytest.raises(ValueError, match="multiples of 8"):
        MODELS["cpm-tiny"](keypoints=4)(torch.zeros(1, 3, 36, 40))


def test_folding_leaves_no_norm():
    torch.manual_seed(0)
    network = MODELS["cpm-tiny"](keypoints=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network.eval().double()
    folded = fold_norms(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    image = torch.randn(2, 3, 64, 48).double()
    with torch.no_grad():
        for a, b in zip(folded(image), network(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("place", ["last", "first", None])
def test_a_step_lowers_the_loss(tmp_path, place):
    text = f'{{"background": {"null" if place is None else chr(34) + place + chr(34)}}}'
    pupil = Pupil(make_people(tmp_path / "data", 2), "cpm-tiny", model_arguments=text, input_size=[96, 96])
    assert pupil.meta.extra.get("background") == place
    target = pupil.batch["target"]
    assert target.shape == (2, 5 + (place is not None), 12, 12)
    if place:
        background, joints = (target[:, 0], target[:, 1:]) if place == "first" else (target[:, -1], target[:, :-1])
        assert background.min() == 0
        torch.testing.assert_close(background, 1 - joints.amax(1))
    losses = [pupil.step(1e-3) for _ in range(3)]
    assert losses[-1] < losses[0]
