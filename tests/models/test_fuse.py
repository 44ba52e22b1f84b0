"""Folding norms into convolutions changes nothing but the rounding."""

import pytest
import torch
from torch import nn

from posecli.models import MODELS
from posecli.models.fuse import fold_norms


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


def test_a_network_in_training_is_refused():
    with pytest.raises(ValueError, match="evaluation mode"):
        fold_norms(MODELS["hrnet-tiny"](keypoints=3))
