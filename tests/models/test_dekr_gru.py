"""DEKR with a memory: equal to DEKR while its gate is closed, the same frame by frame as over a clip, cheap."""

import pytest
import torch
from torch import nn

from posecli.models import MODELS
from posecli.models.dekr_gru import USUAL_GAP, PoseMemory, clock
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
    for key, value in network.state_dict().items():
        if key in ("memory_heat.gate", "memory_offset.gate", "memory_pose.gate", "memory_gate"):
            value.zero_()


#: All of a memory, the carried poses alone among it, and what the finder has.
KINDS = [
    ("dekr-gru-tiny", {}),
    ("dekr-gru-tiny", {"carry": True}),
    ("dekr-gru-tiny", {"carry": True, "heat_unit": False, "offset_sees_heat": True}),
    ("dekr-gru-seed-tiny", {}),
]


@pytest.mark.parametrize("box", [False, True])
@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_with_its_gate_closed_it_is_dekr_exactly(name, arguments, box):
    network = filled(name, box=box, **arguments)
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


@pytest.mark.parametrize(("name", "arguments"), KINDS)
def test_frame_by_frame_equals_the_clip_at_any_size_and_gap(name, arguments):
    network = filled(name, **arguments)
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
    """Changed features of the heat maps alone change the second frame's offsets, through the memory, and only with the
    option."""
    for sees in (False, True):
        network = filled("dekr-gru-tiny", offset_sees_heat=sees)
        clip = torch.randn(1, 2, 3, 32, 64).double()
        with torch.no_grad():
            before = network(clip).offset
            network.transition_heatmap[0].weight.mul_(-1)
            after = network(clip).offset
        assert torch.equal(after[:, 0], before[:, 0]) and torch.equal(after, before) is not sees


@pytest.mark.parametrize("stride", [1, 2])
def test_units_without_a_past_and_while_nothing_changes_it_is_dekr_at_any_weights(stride):
    """A memory that can only add what the past changes: the first frame of each row, and every frame of a still clip,
    has the per-frame network's maps, whatever has been learnt; another frame has others."""
    network = filled("dekr-gru-tiny", memory_stride=stride)
    still = MODELS["dekr-tiny"](keypoints=3).double().eval()
    still.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("memory")})
    clip = torch.randn(2, 3, 3, 32, 64).double()
    clip[0] = clip[0, :1]
    with torch.no_grad():
        found, wanted = network(clip), still(clip.flatten(0, 1))
        _, state = network.step(clip[:, 0])
        begun, _ = network.step(clip[:, 1], type(state)(torch.tensor([1.0, 0.0]), *state[1:]))
    for name in wanted._fields:
        ours, per_frame = getattr(found, name), getattr(wanted, name).unflatten(0, (2, 3))
        torch.testing.assert_close(ours[0], per_frame[0], rtol=1e-12, atol=1e-12)
        assert torch.equal(ours[1, 0], per_frame[1, 0])
        assert (ours[1, 1:] - per_frame[1, 1:]).abs().amax((1, 2, 3)).min() > 1e-3
        torch.testing.assert_close(getattr(begun, name)[1], per_frame[1, 1], rtol=1e-12, atol=1e-12)


def test_carried_poses_without_a_past_are_the_frame_s_own():
    """The first frame of each row has the per-frame network's maps, whatever has been learnt; another has others."""
    network = filled("dekr-gru-tiny", carry=True)
    still = MODELS["dekr-tiny"](keypoints=3).double().eval()
    still.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("memory")})
    clip = torch.randn(2, 2, 3, 32, 64).double()
    with torch.no_grad():
        found, wanted = network(clip), still(clip.flatten(0, 1))
        _, state = network.step(clip[:, 0])
        begun, _ = network.step(clip[:, 1], type(state)(torch.tensor([1.0, 0.0]), *state[1:]))
    for name in wanted._fields:
        ours, per_frame = getattr(found, name), getattr(wanted, name).unflatten(0, (2, 2))
        assert torch.equal(ours[:, 0], per_frame[:, 0])
        assert (ours[:, 1] - per_frame[:, 1]).abs().amax((1, 2, 3)).min() > 1e-3
        torch.testing.assert_close(getattr(begun, name)[1], per_frame[1, 1], rtol=1e-12, atol=1e-12)


def person_at(place, joints, size=(12, 16)):
    """Maps of one person, centre at ``place`` (x, y): logits that fall off around it, and exact offsets everywhere."""
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    pixel = torch.stack([x, y])
    centre = 3 - (pixel - torch.tensor(place).view(2, 1, 1)).square().sum(0)
    offset = (pixel[None] - joints[..., None, None]).flatten(0, 1)
    return centre[None, None].double(), offset[None].double()


def test_a_pose_that_moves_on_evenly_is_followed_and_trembling_is_less():
    """Joints that walk 0.033 pixels a frame, their centre from pixel to pixel: carried poses lag by less than half a
    frame (without a speed it would be one, and two and a half), at two frame rates. Joints that lie aside for one
    frame are moved 0.6 of it, and those that lie aside as one pixel alone sees them, hardly."""
    memory = PoseMemory(2).double()
    joints, speed = torch.tensor([[3.0, 2], [5, 8]]), torch.tensor([0.33, 0.1])
    for ticks in (0.0, 1.0):
        state, tick = None, torch.tensor([ticks]).double()
        for t in range(80):
            now = joints + speed * t * 0.1
            place = [4.0 + round(0.033 * t), 5.0]
            centre, offset = person_at(place, now)
            found = memory(centre, offset, state, None, tick)
            state = found
        x, y = int(place[0]), int(place[1])
        read = torch.tensor([x, y]) - found[1][0, :, y, x].view(2, 2)
        torch.testing.assert_close(read, now.double(), rtol=0, atol=0.015)
        assert found[0].argmax() == centre.argmax()
    _, aside = person_at(place, now + torch.tensor([2.0, 0]))
    centre, _ = person_at(place, now)
    _, offset, _ = memory(centre, aside, state, None, torch.tensor([1.0]).double())
    read = torch.tensor([x, y]) - offset[0, :, y, x].view(2, 2)
    torch.testing.assert_close(read - now, torch.tensor([[1.2, 0], [1.2, 0]]).double(), rtol=0, atol=0.03)
    _, alone = person_at(place, now)
    alone[0, ::2, y, x] -= 2.0
    _, offset, _ = memory(centre, alone, state, None, torch.tensor([1.0]).double())
    read = torch.tensor([x, y]) - offset[0, :, y, x].view(2, 2)
    assert (read - now)[:, 0].abs().max() < 0.8 and torch.allclose(read[:, 1], now[:, 1].double(), atol=0.03)
    first = memory(centre, alone, None, None, torch.tensor([1.0]).double())[1]
    assert torch.equal(first, alone)  # nobody's centre is known yet


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_carried_poses_are_float32_under_half_precision(dtype):
    """Sure centres far from where joints lie: their weights and offsets multiplied are beyond what float16 holds."""
    memory = PoseMemory(2)
    centre, offset = (v.float() for v in person_at([8.0, 6.0], torch.tensor([[3.0, 2], [5, 8]]), (96, 96)))
    tick = torch.tensor([1.0])
    maps = [(centre + 12, offset + 0.1 * t) for t in range(3)]
    found = []
    for half in (False, True):
        state = None
        with torch.autocast("cpu", dtype, enabled=half):
            for now in maps:
                state = memory(*now, state, None, tick)
        found.append(state)
    for plain, own in zip(*found, strict=True):
        assert own.dtype == torch.float32 and torch.equal(plain, own)


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
