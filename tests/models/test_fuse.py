"""Folding norms into convolutions changes nothing but the rounding."""

import copy

import pytest
import torch
from torch import nn

from posecli.models import MODELS
from posecli.models.fuse import _copied, fold_norms


@pytest.mark.parametrize("name", ["hrnet-tiny", "dekr-tiny", "pose-fpn", "dekr-finder"])
def test_same_maps(name):
    torch.manual_seed(0)
    network = MODELS[name](keypoints=3)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    network.eval().double()
    folded = fold_norms(network)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())
    image = torch.randn(2, 3, 64, 96).double()
    with torch.no_grad():
        for a, b in zip(folded(image), network(image), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


class Tied(nn.Module):
    """What a copy could get wrong: members and values under two names, lists, members that know their owner."""

    def __init__(self):
        super().__init__()
        self.conv1, self.other = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.again = self.conv1
        self.other.weight = self.conv1.weight
        self.every = [self.conv1, self.other]
        self.table = {"a": [1], "conv": self.conv1}
        self.same_table = self.table
        self.call = self.other.forward
        self.kept = torch.zeros(2)


def test_the_copy_is_one_whole():
    network = Tied().eval()
    folded = fold_norms(network)
    assert folded.again is folded.conv1 is folded.every[0] is folded.table["conv"]
    assert folded.other.weight is folded.conv1.weight and folded.other is folded.every[1]
    assert folded.table is folded.same_table and folded.call.__self__ is folded.other
    mine = {id(v) for m in network.modules() for v in [m, *m.parameters(), *vars(m).values()] if _can_change(v)}
    theirs = {id(v) for m in folded.modules() for v in [m, *m.parameters(), *vars(m).values()] if _can_change(v)}
    assert not mine & theirs
    folded.kept += 1
    folded.table["a"].append(2)
    folded.conv1.weight.data.zero_()
    folded.conv1.register_forward_hook(lambda *given: None)
    assert not network.kept.any() and network.table["a"] == [1] and network.other.weight.any()
    assert not network.conv1._forward_hooks and all(p.requires_grad for p in network.parameters())


def _can_change(value):
    return isinstance(value, nn.Module | torch.Tensor | dict | list)


@pytest.mark.parametrize("name", ["hrnet-tiny", "dekr-gru-tiny", "hourglass-tiny", "deeppose-tiny", "tompson-tiny"])
def test_the_copy_is_that_of_the_library(name):
    network = MODELS[name](keypoints=3).eval()
    one, other = _copied(network, {}), copy.deepcopy(network)
    assert [n for n, _ in one.named_modules()] == [n for n, _ in other.named_modules()]
    for mine, theirs in zip(one.modules(), other.modules(), strict=True):
        assert type(mine) is type(theirs) and list(vars(mine)) == list(vars(theirs))
        assert mine.extra_repr() == theirs.extra_repr() and mine.training == theirs.training
    ours, theirs = one.state_dict(), other.state_dict()
    assert list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert not {v.data_ptr() for v in ours.values() if v.numel()} & {v.data_ptr() for v in network.parameters()}


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_norms(MODELS["hrnet-tiny"](keypoints=3))
