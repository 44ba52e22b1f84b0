"""Stacked hourglass against the official networks' outputs, under both sets of official names, and learning."""

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from reference import load_case, tensors
from torch import nn

from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.fuse import fold_norms
from posecli.models.hourglass import Hourglass
from posecli.official import load_official
from posecli.official.family import convert
from posecli.official.hourglass import FAMILIES, PRINCETON, PYTORCH_POSE


def official_state(family, network):
    """The network's tensors under official names, with the tensors that the official code does not use."""
    own = network.state_dict()
    state = {theirs: own[ours] for ours, (theirs,) in family.sources(network).items()}
    if family is PRINCETON:
        state["hgs.0.0.up1.skip_layer.conv.weight"] = torch.zeros(1)
    return state


@pytest.mark.parametrize(
    ("case", "prefix", "architecture"),
    [("hourglass2_pu", "model.module.", "hourglass"), ("hourglass2_pytorchpose", "module.", "hg")],
)
def test_official_output(shared, tmp_path, case, prefix, architecture):
    loaded = load_case(shared, case)
    state = {prefix + k: v for k, v in tensors(loaded["params"]).items() if not k.endswith("num_batches_tracked")}
    torch.save({"epoch": 1, "state_dict": state}, tmp_path / "checkpoint.pth.tar")
    network, meta = load_official(tmp_path / "checkpoint.pth.tar")
    assert (meta.architecture, meta.arguments["stacks"], meta.arguments["depth"]) == (architecture, 2, 4)
    assert (meta.skeleton.name, meta.input_size, meta.std) == ("mpii16", (256, 256), (1, 1, 1))
    with torch.no_grad():
        output = network(torch.from_numpy(loaded["input"]))
    assert output._fields == tuple(loaded["golden"])
    for name, golden in loaded["golden"].items():
        limit = 1e-5 * loaded["case"]["outputs"][name]["absmax"]
        assert np.abs(getattr(output, name).numpy() - golden).max() < limit
    assert len(output.stages) == 2 and torch.equal(output.heatmap, output.stages[-1])
    last = output.heatmaps[:, -1] if architecture == "hourglass" else output.stage1
    assert torch.equal(output.heatmap, last)


@pytest.mark.parametrize(
    ("family", "architecture", "arguments"),
    [
        (PRINCETON, "hourglass", {"stacks": 3, "depth": 2, "channels": 16, "increase": 8, "stem": [4, 8, 8]}),
        (PRINCETON, "hourglass", {"stacks": 1, "depth": 4, "channels": 8, "increase": 0, "stem": [4, 8, 8]}),
        (PYTORCH_POSE, "hg", {"stacks": 3, "depth": 3, "channels": 16, "blocks": 2, "stem": [4, 8, 16]}),
        (PYTORCH_POSE, "hg", {"stacks": 1, "depth": 4, "channels": 8, "blocks": 1, "stem": [4, 8, 8]}),
    ],
)
def test_other_sizes_are_recognised(family, architecture, arguments):
    arguments = {"keypoints": 14, **arguments}
    network = MODELS[architecture](**arguments)
    state = official_state(family, network)
    assert [f for f in FAMILIES if all(m in state for m in f.markers)] == [family]
    assert family.describe(state) == (architecture, arguments)
    own = network.state_dict()
    for name, tensor in convert(family, network, state).items():
        assert torch.equal(tensor, own[name]), name


def test_names_of_eight_stacks(shared):
    """Princeton's names beyond the two stacks of the case are the same names with other numbers."""
    two = load_case(shared, "hourglass2_pu")["manifest"]
    with torch.device("meta"):
        names = {n for (n,) in PRINCETON.sources(MODELS["hourglass"](keypoints=16, stacks=8)).values()}
    assert {n for n in names if n.startswith("hgs.1.")} <= set(two)
    # Of the last of two stacks there is no merging; of the first there is.
    first = {n for n in two if n.startswith(("hgs.0.", "features.0.", "outs.0.", "merge_features.0.", "merge_preds.0"))}
    used = {n for n in first if "skip_layer" not in n}
    for stack in range(7):
        assert {n.replace(".0.", f".{stack}.", 1) for n in used} <= names


def test_a_missing_tensor_is_named(tmp_path):
    state = official_state(PYTORCH_POSE, MODELS["hg-tiny"](keypoints=16))
    del state["hg.1.hg.0.3.0.conv2.weight"]
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(PoseError, match=r"missing: hg\.1\.hg\.0\.3\.0\.conv2\.weight"):
        load_official(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["hourglass-tiny", "hg-tiny"])
def test_folding_and_batches(name):
    torch.manual_seed(0)
    network = MODELS[name](keypoints=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    network.eval().double()
    folded = fold_norms(network)
    # Of each residual unit only the first norm, which no convolution precedes, is left.
    left = sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert left == sum(n.endswith(".bn1.weight") for n in network.state_dict())
    images = torch.randn(2, 3, 96, 64).double()
    with torch.no_grad():
        output, alone = network(images).heatmap, network(images[1:]).heatmap
        torch.testing.assert_close(folded(images).heatmap, output, rtol=1e-9, atol=1e-9)
    assert output.shape == (2, 3, 24, 16)
    torch.testing.assert_close(output[1:], alone, rtol=1e-9, atol=1e-12)


def test_separable_convolutions():
    arguments = {"keypoints": 3, "stacks": 1, "depth": 2, "channels": 32, "stem": [8, 16, 16]}
    plain, split = MODELS["hourglass"](**arguments), MODELS["hourglass"](**arguments, separable=True)
    # The 3x3 convolution of a unit of 32 channels works on 16: 9 x 16 x 16 weights become 9 x 16 + 16 x 16.
    assert split.state_dict()["hourglasses.0.up1.0.conv2.0.weight"].shape == (16, 1, 3, 3)
    assert split.state_dict()["hourglasses.0.up1.0.conv2.1.weight"].shape == (16, 16, 1, 1)
    assert plain.state_dict()["hourglasses.0.up1.0.conv2.weight"].shape == (16, 16, 3, 3)
    with torch.no_grad():
        assert split.eval()(torch.randn(1, 3, 64, 64)).heatmaps.shape == (1, 1, 3, 16, 16)


def test_an_hourglass_of_depth_one_written_out():
    torch.manual_seed(0)
    hourglass = Hourglass(1, 4).eval()
    x = torch.randn(1, 4, 4, 6)
    with torch.no_grad():
        low = torch.stack([x[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]).amax(0)
        low = hourglass.low3(hourglass.low2(hourglass.low1(low)))
        low = low.repeat_interleave(2, -1).repeat_interleave(2, -2)
        torch.testing.assert_close(hourglass(x), hourglass.up1(x) + low)


def test_wrong_sizes_and_arguments():
    with pytest.raises(ValueError, match="multiples of 32"):
        MODELS["hourglass-tiny"](keypoints=3)(torch.zeros(1, 3, 48, 64))
    with pytest.raises(ValueError, match="at least one stack"):
        MODELS["hourglass"](keypoints=3, stacks=0)


@pytest.mark.parametrize("arguments", ["{}", '{"separable": true}'])
def test_a_step_lowers_the_loss(tmp_path, arguments):
    pupil = Pupil(make_people(tmp_path / "data", 4), "hourglass-tiny", model_arguments=arguments)
    losses = [pupil.step(1e-3) for _ in range(4)]
    assert losses[-1] < losses[0]
