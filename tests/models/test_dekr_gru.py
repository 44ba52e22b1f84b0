"""DEKR with a memory: equal to DEKR while its gate is closed, the same frame by frame as over a clip, cheap."""

import pytest
import torch
from torch import nn

from posecli.models import MODELS
from posecli.models.dekr_gru import USUAL_GAP, clock
from posecli.models.fuse import fold_norms


def filled(name, **arguments):
    """A network of random weights everywhere, gates included, in float64."""
    torch.manual_seed(1)
    network = MODELS[name](keypoints=3, **arguments).double().eval()
    for key, parameter in network.named_parameters():
        if "gate" in key or "elapsed" in key or "final" in key or key.startswith("head_heatmap.1"):
            nn.init.normal_(parameter, std=0.5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return network


def close(network):
    for key, parameter in network.named_parameters():
        if key in ("memory_heat.gate", "memory_offset.gate", "memory_gate"):
            nn.init.zeros_(parameter)


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize("name", ["dekr-gru-tiny", "dekr-gru-seed-tiny"])
def test_with_its_gate_closed_it_is_dekr_exactly(name, box):
    network = filled(name, box=box)
    still = MODELS["dekr-tiny"](keypoints=3, box=box).double().eval()
    still.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("memory")})
    clip = torch.randn(1, 2, 3, 32, 64).double()
    with torch.no_grad():
        wanted = still(clip.flatten(0, 1))
        assert (network(clip).offset.flatten(0, 1) - wanted.offset).abs().max() > 1e-3
        close(network)
        found = network(clip)
    assert found._fields == wanted._fields
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one.flatten(0, 1), other)


@pytest.mark.parametrize("name", ["dekr-gru-tiny", "dekr-gru-seed-tiny"])
def test_a_fresh_network_is_as_good_as_the_one_it_starts_from(name):
    network = MODELS[name](keypoints=3)
    gates = [p for key, p in network.named_parameters() if key.endswith(("_heat.gate", "_offset.gate", "memory_gate"))]
    assert gates and not any(p.any() for p in gates)


@pytest.mark.parametrize("name", ["dekr-gru-tiny", "dekr-gru-seed-tiny"])
def test_frame_by_frame_equals_the_clip_at_any_size_and_gap(name):
    network = filled(name)
    clip = torch.randn(2, 4, 3, 32, 64).double()
    gap = torch.tensor([[0.0, 0.04, 0.1, 0.02], [0.0, 0.5, 0.04, 0.04]])
    with torch.no_grad():
        whole = network(clip, gap)
        state, maps = None, []
        for t in range(4):
            found, state = network.step(clip[:, t], state, gap[:, t])
            maps.append(found)
        for field in whole._fields:
            together = torch.stack([getattr(m, field) for m in maps], 1)
            torch.testing.assert_close(together, getattr(whole, field), rtol=1e-9, atol=1e-10)
        assert state.age.tolist() == [4, 4]
        # A single frame has no past; one row of two begins anew.
        torch.testing.assert_close(network(clip[:, 2]).offset, network.step(clip[:, 2])[0].offset)
        _, state = network.step(clip[:, 0])
        state = type(state)(torch.tensor([1.0, 0.0]), *state[1:])
        found, _ = network.step(clip[:, 1], state, gap[:, 1])
        torch.testing.assert_close(found.offset[0], whole.offset[0, 1], rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(found.offset[1], network(clip[1:, 1]).offset[0], rtol=1e-9, atol=1e-10)
        if name == "dekr-gru-tiny":
            slower = network(clip, gap * 4)
            assert (slower.offset[:, 1:] - whole.offset[:, 1:]).abs().max() > 1e-4


def test_the_offsets_memory_may_see_what_heat_maps_are_read_from():
    """Changed features of the heat maps alone change the offsets, through the memory, and only with the option."""
    for sees in (False, True):
        network = filled("dekr-gru-tiny", offset_sees_heat=sees)
        image = torch.randn(1, 3, 32, 64).double()
        with torch.no_grad():
            before = network.step(image)[0].offset
            network.transition_heatmap[0].weight.mul_(-1)
            assert torch.equal(network.step(image)[0].offset, before) is not sees


def test_gradients_stop_where_they_are_told_to():
    network = filled("dekr-gru-tiny").train()
    clip = torch.randn(1, 4, 3, 32, 32).double()
    images = clip.clone().requires_grad_()
    network.eval()  # norms must not mix frames
    network(images, truncate=2).offset[:, -1].sum().backward()
    assert images.grad[0, 3].any() and images.grad[0, 2].any() and not images.grad[0, :2].any()


def test_the_clock_counts_doublings():
    gaps = torch.tensor([0.0, USUAL_GAP, 2 * USUAL_GAP, USUAL_GAP / 4, 1e9])
    assert clock(gaps, gaps)[:4].tolist() == pytest.approx([0, 0, 1, -2], abs=1e-5)
    assert torch.isfinite(clock(gaps, gaps)).all()


def test_the_small_one_is_small_and_folds():
    small = MODELS["dekr-gru-small"](keypoints=17)
    plain = MODELS["dekr-small"](keypoints=17)
    assert sum(p.numel() for p in small.parameters()) < 3e6
    assert sum(p.numel() for p in small.parameters()) < 1.05 * sum(p.numel() for p in plain.parameters())
    network = filled("dekr-gru-tiny")
    clip = torch.randn(1, 2, 3, 32, 32).double()
    with torch.no_grad():
        torch.testing.assert_close(fold_norms(network)(clip).offset, network(clip).offset, rtol=1e-8, atol=1e-8)
