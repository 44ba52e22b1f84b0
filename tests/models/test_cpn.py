"""Cascaded pyramid network against the official outputs, its loss on the hardest joints, and learning."""

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from reference import load_case, tensors
from torch import nn

from posecli.errors import UsageError
from posecli.losses import hard_keypoint_mse, joint_mse
from posecli.models import MODELS
from posecli.models.cpn import OUTPUTS
from posecli.models.fuse import fold_norms
from posecli.official import load_official
from posecli.settings import resolve


def test_official_output(shared, tmp_path):
    case = load_case(shared, "cpn50")
    state = {f"module.{k}": v for k, v in tensors(case["params"]).items() if not k.endswith("num_batches_tracked")}
    torch.save({"epoch": 32, "state_dict": state}, tmp_path / "epoch32checkpoint.pth.tar")
    warnings = []
    network, meta = load_official(tmp_path / "epoch32checkpoint.pth.tar", warn=warnings.append)
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == ("cpn-50", "coco17", (192, 256))
    assert (meta.codec, meta.extra["peak"], meta.std) == ("cpn", 255, (1, 1, 1)) and "384x288" in warnings[0]
    with torch.no_grad():
        output = network(torch.from_numpy(case["input"]))
    assert output._fields == OUTPUTS and torch.equal(output.heatmap, output.refine)
    for name, golden in case["golden"].items():
        limit = 1e-5 * case["case"]["outputs"][name]["absmax"]
        assert np.abs(getattr(output, name).numpy() - golden).max() < limit


def test_resnet_101_is_recognised(tmp_path):
    with torch.device("meta"):
        network = MODELS["cpn-101"](keypoints=17)
    # One number seen from everywhere: a file of the right names and shapes that takes no space.
    state = {name: torch.zeros(()).expand(tensor.shape) for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "cpn.pth")
    loaded, meta = load_official(tmp_path / "cpn.pth", input_size=(288, 384))
    assert meta.architecture == "cpn-101" and meta.extra["release"] == "cpn_101_384x288"
    assert len(loaded.resnet.layer3) == 23


@pytest.mark.parametrize(
    ("file", "release"), [("CPN50_384x288.pth.tar", "cpn_50_384x288"), ("CPN256x192.pth.tar", "cpn_50_256x192")]
)
def test_a_file_says_its_size_in_its_name(tmp_path, file, release):
    """Whatever stood in the name, a file was taken for the smaller input, with a warning."""
    with torch.device("meta"):
        network = MODELS["cpn-50"](keypoints=17)
    torch.save({n: torch.zeros(()).expand(t.shape) for n, t in network.state_dict().items()}, tmp_path / file)
    warnings = []
    _, meta = load_official(tmp_path / file, warn=warnings.append)
    assert meta.extra["release"] == release and not warnings


def test_the_official_schedule():
    """Each of its 32 epochs shows everybody four times, and its regions end where the cut-out picture does."""
    found = resolve({"model": "cpn-50"})
    assert found.epochs == 128 and [round(share * 128) for share in found.lr_steps] == [24, 48, 72, 96, 120]
    assert found.box_scale == pytest.approx((1.3 * 0.7, 1.3 * min(1.35, 1.25))) and found.flip == 0.25


def test_one_of_a_batch_and_folding():
    torch.manual_seed(0)
    network = MODELS["cpn-tiny"](keypoints=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    network.eval().double()
    folded = fold_norms(network)
    # Left are the norms behind an enlarging (four of GlobalNet's predictions).
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == 4
    images = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        output = network(images)
        for a, b, alone in zip(folded(images), output, network(images[:1]), strict=True):
            assert b.shape == (2, 3, 16, 24)
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(alone, b[:1], rtol=1e-9, atol=1e-12)


def test_hard_keypoints_are_the_worst_of_each_person():
    # Errors of one pixel in a map of 4: joints 1, 4, 0 (unlabelled, error 9) and 16 give 0.25, 1, 0 and 4.
    heatmap = torch.zeros(2, 4, 2, 2)
    heatmap[0, :, 0, 0] = torch.tensor([1.0, 2.0, 6.0, 4.0])
    weight = torch.tensor([[1.0, 1.0, 0.0, 1.0]] * 2)
    loss = hard_keypoint_mse(heatmap, torch.zeros_like(heatmap), weight, hardest=2)
    torch.testing.assert_close(loss.total, torch.tensor((4 + 1) / 2))
    torch.testing.assert_close(loss.mean, torch.tensor(1.25))  # over two people
    everything = hard_keypoint_mse(heatmap, torch.zeros_like(heatmap), weight, hardest=8)
    torch.testing.assert_close(everything.mean, 2 * joint_mse(heatmap, torch.zeros_like(heatmap), weight).mean)


def test_a_step_lowers_the_loss(tmp_path):
    pupil = Pupil(make_people(tmp_path / "data", 4), "cpn-tiny")
    assert list(pupil.task.terms) == ["global", "refine"]
    target, levels = pupil.batch["target"], pupil.batch["global"]
    assert levels.shape == (4, 4, *target.shape[1:])
    # The coarser the level the wider its Gaussian; the finest has RefineNet's.
    assert levels[:, 0].sum() > levels[:, 1].sum() > levels[:, 2].sum() > levels[:, 3].sum()
    assert torch.equal(levels[:, 3], target)
    losses = [pupil.step(1e-3) for _ in range(4)]
    assert losses[-1] < losses[0]


def test_distributions_are_not_for_it(tmp_path):
    with pytest.raises(UsageError, match="learns maps"):
        Pupil(make_people(tmp_path / "data", 1), "cpn-tiny", codec="softmax")
