"""The pose network: shapes, the shared trunk, sizes."""

from __future__ import annotations

import pytest
import torch

from posecli.models.fpn import PoseFPN, Trunk

SMALL = {"widths": (16, 16, 16, 16), "blocks": (1, 1, 1, 1), "stem_channels": 8, "channels": 16}


def test_maps_are_a_quarter_of_the_input() -> None:
    network = PoseFPN(5, **SMALL).eval()
    assert network(torch.zeros(2, 3, 64, 96)).heatmap.shape == (2, 5, 16, 24)
    assert network(torch.zeros(1, 3, 32, 32)).heatmap.shape == (1, 5, 8, 8)


def test_default_size() -> None:
    parameters = sum(p.numel() for p in PoseFPN(19).parameters())
    assert 2.2e6 < parameters < 2.5e6


def test_coarse_trunk_takes_the_weights_of_the_fine_one_by_name() -> None:
    fine, coarse = Trunk(**SMALL), Trunk(**SMALL, stride=8)
    names = set(coarse.state_dict())
    assert names < set(fine.state_dict())
    coarse.load_state_dict({n: t for n, t in fine.state_dict().items() if n in names})
    assert coarse.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 16, 8, 8)


def test_batch_of_one_equals_one_of_a_batch() -> None:
    network = PoseFPN(3, **SMALL).eval()
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(network(images).heatmap[1:2], network(images[1:2]).heatmap, atol=1e-5, rtol=1e-4)


def test_blocks_start_as_the_identity() -> None:
    """With all residual branches silent the first stage passes its (non-negative) input on."""
    stage = PoseFPN(3, **SMALL).eval().trunk.backbone.stages[0]
    x = torch.rand(1, 16, 8, 8)
    torch.testing.assert_close(stage(x), x)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="stride 4 or 8"):
        Trunk(stride=16)
    with pytest.raises(ValueError, match="four widths"):
        PoseFPN(3, widths=(16, 16))
