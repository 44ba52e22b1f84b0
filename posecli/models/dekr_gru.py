"""DEKR with a memory: convolutional gated recurrent units in its head carry what earlier frames showed.

The idea is that of the course project "Video Human Pose Estimation based on DEKR" (Bi, Yang, Wu, Li, ShanghaiTech):
DEKR (Geng et al., CVPR 2021, see `models.dekr`) with a GRU (Cho et al., EMNLP 2014, https://arxiv.org/abs/1406.1078)
behind it. There one GRU of 140 million weights ran over each joint's flattened 2 x 128 x 128 offset map. Two networks:

`DekrGru` is ours, a memory that can only add what the past changes. Two kinds of it:

1. A `MemoryUnit` before the last layer of each head, on the features that heat maps and offsets are read from:

       features x -> halved, 1x1, ReLU -> ConvGRU (Ballas et al., ICLR 2016, https://arxiv.org/abs/1511.06432) with
       depthwise-separable gates -> state h_t; alone_t: what its memory would be if this frame were the first
       x + gate * 1x1 (h_t - alone_t), enlarged

   The unit's gates and candidate see the memory as its difference from ``alone_t``, so this difference is exactly 0 in
   the first frame and as long as nothing changes, at any weights: what the network makes of a single frame can't be
   learnt over, and isn't. ``alone_t`` costs a tanh: the convolutions over the frame are those of the candidate.

   The last layers are 1x1 convolutions, which may as well come before the enlargement: what has changed is read by
   them at half the size and added to the maps, the same sum in less time.

2. A `PoseMemory` (``carry``) on the maps themselves: a gated unit whose candidate is what the frame shows. Of each
   person the centre stays where it was, the pose moves on as it moved, and the frame corrects both by a share. It is
   carried on the map, from the pixels around, so no person has to be told from another; who is a person's centre is
   known from before, so what these pixels show now is averaged, too. Its shares are settings.

All is convolution, so pictures may have any size and clips any length. With all gates at zero it gives the per-frame
network's maps exactly. ``gate`` of the units starts at zero (Bachlechner et al., "ReZero", 2020,
https://arxiv.org/abs/2003.04887). An optimizer such as Adam moves each number by about the learning rate a step, so a
gate that is to get to 1 would be all but closed for hundreds of steps, and what stands behind a closed gate learns
nothing: the memory is multiplied by `_OPENING` times the gate. The update gate knows how much time has passed since
the frame before; it starts below one half, so that what was seen three frames ago is still there.

`DekrSeedGru` is the reports' unit as far as it can be had at any size: one GRU shared by all joints, applied at each
pixel to the two offsets of each joint. Departures from the reports: the weights are shared over pixels and joints (36
instead of 140 million, so that they are not tied to one size); offsets are given in units of 16 map pixels; and the
state is added to the offsets by a gate that starts at zero, where the reports put it in their place - a state lies
within -1 and 1, offsets do not.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.dekr import DEKR, DekrBoxOutput, DekrOutput
from posecli.models.layers import initialise

#: Seconds between frames that the update gate takes for usual; it sees doublings of it.
USUAL_GAP = 1 / 30
#: Gaps are told apart within these limits (seconds).
_GAPS = (1 / 240, 2.0)
#: What a gate of 1 lets through. Learning with Adam where things go that vanish, a unit alone was wrong by 1.6 cells
#: after 100 steps with 1 (and gates that begin at one half), by 1.0 with 20 (and `_KEEPING`); without a memory by 9.8.
_OPENING = 20.0
#: Of the update gate at the start: sigmoid(-1) = 0.27 of the memory is renewed in a frame.
_KEEPING = -1.0
#: What `PoseMemory` keeps over a usual gap: of the map of centres, of the poses and of their speed. Over 1/15 s these
#: are 0.7, 0.4 and 0.9, chosen on validation clips. A tenth of what a frame shows beyond what was expected is speed.
_CENTRE_STAYS, _POSE_STAYS, _SPEED_STAYS, _SPEED_NEWS = 0.7**0.5, 0.4**0.5, 0.9**0.5, 0.1
#: Of what a frame shows, the share that is what the pixels around it agree on; chosen likewise.
_AGREED = 0.8
#: Centres count within these limits where neighbours are weighed: exp() of it.
_SURE = 15.0
#: Map pixels that an offset of 1 stands for inside `DekrSeedGru`.
_SEED_UNIT = 16.0


class MemoryState(NamedTuple):
    """What is carried on; what a network does not have has no channels.

    Attributes:
        age: (B,) frames seen so far.
        heat, offset: (B, channels, h', w'), what the units hold.
        centre: (B, 1, h, w) and pose: (B, 2 K, h, w), the maps as they were read last.
        speed: (B, 2 K, h, w) map pixels that a joint moves in a usual gap.
    """

    age: Tensor
    heat: Tensor
    offset: Tensor
    centre: Tensor
    pose: Tensor
    speed: Tensor


class Seen(NamedTuple):
    """What a network makes of frames by themselves, before any memory.

    Attributes:
        heat, offset: (B, channels, h, w), what the last layers of the two heads read.
        box: (B, 4, h, w) as in `DekrBoxOutput`, or None without a box head.
    """

    heat: Tensor
    offset: Tensor
    box: Tensor | None = None


class SeedState(NamedTuple):
    """What `DekrSeedGru` carries on: ``age`` (B,), frames seen so far, and ``offset`` (B, 2 K, h, w)."""

    age: Tensor
    offset: Tensor


def clock(gap: Tensor | None, like: Tensor) -> Tensor:
    """(B,) doublings of the usual time between frames; 0 for gaps of 0 or None."""
    if gap is None:
        return like.new_zeros(like.shape[0])
    gap = gap.to(like)
    return torch.where(gap > 0, torch.log2(gap.clamp(*_GAPS) / USUAL_GAP), torch.zeros_like(gap))


class Separable(nn.Sequential):
    """A depthwise convolution and a 1x1: (B, C, h, w) to (B, channels_out, h, w)."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, bias: bool = True):
        super().__init__(
            nn.Conv2d(channels_in, channels_in, kernel, 1, kernel // 2, groups=channels_in, bias=False),
            nn.Conv2d(channels_in, channels_out, 1, bias=bias),
        )


class MemoryUnit(nn.Module):
    """What the past changes: features (B, C, h, w) and a state at half the size to the next state, and how far that is
    from the one that this frame by itself would leave; see the module.

    Args:
        channels: C. hidden: channels of the state, at half the size of the features.
        kernel: of the gates, state pixels: how far what is remembered can move from one frame to the next.
        stride: of the state, pixels of the features: 2 is half the size, as said here everywhere; 1 the same size.
        more: channels of other features that it sees besides, after the C.
    """

    def __init__(self, channels: int, hidden: int, kernel: int = 5, stride: int = 2, more: int = 0):
        super().__init__()
        self.stride = stride
        self.squeeze = nn.Conv2d(channels + more, hidden, 1)
        self.gates = Separable(2 * hidden, 2 * hidden, kernel)
        self.candidate = Separable(hidden, hidden, kernel)
        self.recall = Separable(hidden, hidden, kernel, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)
        self.elapsed = nn.Parameter(torch.zeros(hidden))
        self.gate = nn.Parameter(torch.zeros(channels))
        initialise(self)
        for unit in (self.gates, self.candidate, self.recall):
            for part in unit:
                nn.init.kaiming_uniform_(cast(nn.Conv2d, part).weight, a=math.sqrt(3))  # of unit gain: no ReLU follows
        nn.init.constant_(cast(Tensor, cast(nn.Conv2d, self.gates[1]).bias)[:hidden], _KEEPING)

    def forward(
        self, x: tuple[Tensor, ...], state: Tensor | None, known: Tensor | None, ticks: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """
        Args:
            x: (B, C, h, w), and (B, more, h, w) where there are more.
            state: (B, hidden, h / 2, w / 2) after the frame before, None at the start.
            known: (B,) bool: rows that have a frame before; None: all.
            ticks: (B,) `clock` of the time since then.

        Returns:
            the new state (B, hidden, h / 2, w / 2), and what of it the past has changed, of the same shape, 0 in rows
            that begin; None where all begin. `added` makes of it what is added to maps.
        """
        if self.stride != 1:
            x = tuple(functional.avg_pool2d(part, self.stride, ceil_mode=True) for part in x)
        here = functional.relu(self.squeeze(torch.cat(x, 1) if len(x) > 1 else x[0]))
        seen = self.candidate(here)
        alone = torch.tanh(seen)
        if state is None:
            return alone, None
        news = state - alone
        if known is not None:
            news = news * known[:, None, None, None]
        update, reset = self.gates(torch.cat([here, news], 1)).chunk(2, 1)
        update = torch.sigmoid(update + (ticks[:, None] * self.elapsed)[..., None, None])
        new = torch.tanh(seen + self.recall(torch.sigmoid(reset) * news)) - alone
        changed = news + update * (new - news)
        return alone + changed, changed

    def added(self, final: nn.Conv2d, changed: Tensor) -> Tensor:
        """What a last layer (1x1) makes of the features gate * 1x1 of what has changed: (B, maps, h / 2, w / 2). The
        layers are multiplied first, which is one small convolution instead of two, one of them in groups."""
        groups, hidden = final.groups, self.expand.weight.shape[1]
        features = _OPENING * self.gate[:, None] * self.expand.weight[:, :, 0, 0]
        weight = final.weight[:, :, 0, 0].unflatten(0, (groups, -1)) @ features.unflatten(0, (groups, -1))
        return functional.conv2d(changed, weight.reshape(-1, hidden, 1, 1))


class PoseMemory(nn.Module):
    """Poses that go on: where each person's joints are taken to be, and how fast they move, carried from frame to frame
    on the map; see the module. Nothing of it is learnt.

    Attributes:
        gate: () 1: open, 0: closed, maps stay as they are.
    """

    gate: Tensor
    _around: Tensor
    _taps: Tensor

    def __init__(self, keypoints: int):
        super().__init__()
        self.register_buffer("gate", torch.ones(()))
        # With values also where the network is an outline: putting together what has none takes PyTorch a second to
        # prepare.
        cpu = torch.device("cpu")
        self.register_buffer("_around", torch.ones(6 * keypoints, 1, 3, 3, device=cpu), persistent=False)
        step = torch.tensor([-1.0, 0.0, 1.0], device=cpu).expand(3, 3)
        taps = torch.stack([torch.ones(3, 3, device=cpu), step, step.T])[:, None]
        self.register_buffer("_taps", taps, persistent=False)

    def forward(
        self, centre: Tensor, offset: Tensor, state: tuple[Tensor, Tensor, Tensor] | None, known: Tensor | None,
        ticks: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """
        Args:
            centre: (B, 1, h, w) and offset: (B, 2 K, h, w), of this frame.
            state: both maps as they were read in the frame before, and the speed; None at the start.
            known, ticks: see `MemoryUnit`.

        Returns:
            both maps as they are to be read, and the speed (B, 2 K, h, w), map pixels in a usual gap.
        """
        if torch.is_autocast_enabled(centre.device.type):
            # Weights go up to e^15, of which float16 knows nothing, and offsets are sums of many small changes.
            with torch.autocast(centre.device.type, enabled=False):
                return self.forward(centre.float(), offset.float(), state, known, ticks.float())
        if state is None:
            return centre, offset, torch.zeros_like(offset)
        centre_before, offset_before, speed = state
        time = torch.exp2(ticks)[:, None, None, None]  # in usual gaps
        # What the pixels around, each as far as it was a person's centre, say of the joints: where these would be seen
        # from here. Offsets are pixel less joint: those of a pixel one further to the right are larger by one.
        weight = torch.exp(centre_before.clamp(-_SURE, _SURE))
        total, shift = functional.conv2d(weight, self._taps, padding=1).split([1, 2], 1)
        around = torch.cat([offset_before, speed, offset], 1) * weight
        around = functional.conv2d(around, self._around, padding=1, groups=len(self._around))
        place, speed, agreed = (around / total).chunk(3, 1)
        shift = (shift / total).repeat(1, offset.shape[1] // 2, 1, 1)
        news = place - shift - speed * time - offset  # a joint that moves on has a smaller offset
        agreed = agreed - shift - offset
        centre_stays, pose_stays = (self.gate * share**time for share in (_CENTRE_STAYS, _POSE_STAYS))
        if known is not None:
            rows = known[:, None, None, None]
            news, speed, agreed = news * rows, speed * rows, agreed * rows
            centre_stays = centre_stays * rows
        centre = centre + centre_stays * (centre_before - centre)
        seen = _AGREED * self.gate * agreed
        pose = offset + seen + pose_stays * (news - seen)
        return centre, pose, _SPEED_STAYS**time * speed + _SPEED_NEWS / time * news


def _plus(maps: Tensor, added: Tensor) -> Tensor:
    """Maps plus what may have half their size, then enlarged bilinearly."""
    if added.shape == maps.shape:
        return maps + added
    return maps + functional.interpolate(added, size=maps.shape[-2:], mode="bilinear", align_corners=False)


class DekrGru(DEKR):
    """DEKR whose two heads remember; see the module.

    Args:
        backbone, keypoints, heatmap_channels, heatmap_blocks, joint_channels, offset_blocks, box: see `DEKR`.
        memory: channels of the state behind the heat maps; the one behind the offsets has twice as many.
        heat_unit: whether there is a unit behind the heat maps.
        memory_kernel, memory_stride: see `MemoryUnit`.
        offset_sees_heat: the unit behind the offsets also sees the features of the heat maps, which tell whether there
            is anything to be seen of a joint at all; offsets do not.
        carry: whether there is a `PoseMemory`. Its settings are for maps whose centres are logits (codec ``people``).
    """

    recurrent = True

    def __init__(
        self,
        backbone: nn.Module,
        keypoints: int,
        heatmap_channels: int = 32,
        heatmap_blocks: int = 1,
        joint_channels: int = 15,
        offset_blocks: int = 2,
        box: bool = False,
        memory: int = 32,
        memory_kernel: int = 5,
        memory_stride: int = 2,
        offset_sees_heat: bool = False,
        heat_unit: bool = True,
        carry: bool = False,
    ):
        super().__init__(backbone, keypoints, heatmap_channels, heatmap_blocks, joint_channels, offset_blocks, box)
        self.offset_sees_heat = offset_sees_heat
        more = heatmap_channels if offset_sees_heat else 0
        self.memory_heat: MemoryUnit | None = None
        if heat_unit:
            self.memory_heat = MemoryUnit(heatmap_channels, memory, memory_kernel, memory_stride)
        self.memory_offset = MemoryUnit(keypoints * joint_channels, 2 * memory, memory_kernel, memory_stride, more)
        self.memory_pose = PoseMemory(keypoints) if carry else None

    def _remembered(
        self, heat: Tensor, offset: Tensor, state: MemoryState | None, ticks: Tensor
    ) -> tuple[Tensor, Tensor, MemoryState]:
        """Maps of one frame from the features (B, C, h, w) of both heads."""
        known = _known(state)
        age = torch.ones(heat.shape[0], device=heat.device) if state is None else state.age + 1
        none = age.new_zeros(age.shape[0], 0)  # `len` would fix the batch of an exported network
        kept = MemoryState(age, none, none, none, none, none)
        final = cast(nn.Conv2d, self.head_heatmap[1])
        heatmap, found = final(heat), self.offset_final(offset)
        if self.memory_heat is not None:
            after, change = self.memory_heat((heat,), None if state is None else state.heat, known, ticks)
            kept = kept._replace(heat=after)
            if change is not None:
                heatmap = _plus(heatmap, self.memory_heat.added(final, change))
        seen = (offset, heat) if self.offset_sees_heat else (offset,)
        after, change = self.memory_offset(seen, None if state is None else state.offset, known, ticks)
        kept = kept._replace(offset=after)
        if change is not None:
            found = _plus(found, self.memory_offset.added(self.offset_final, change))
        if self.memory_pose is not None:
            before = None if state is None else (state.centre, state.pose, state.speed)
            centre, found, speed = self.memory_pose(heatmap[:, -1:], found, before, known, ticks)
            heatmap = torch.cat([heatmap[:, :-1], centre], 1)
            kept = kept._replace(centre=centre, pose=found, speed=speed)
        return heatmap, found, kept

    def forward(  # type: ignore[override]
        self, clip: Tensor, gap: Tensor | None = None, truncate: int = 0
    ) -> DekrOutput | DekrBoxOutput:
        """Clips (B, T, 3, H, W) to maps (B, T, channels, h, w); single frames (B, 3, H, W), each without a past, to
        (B, channels, h, w), as `DEKR` gives them.

        Args:
            clip: see above; frames in their order.
            gap: (B, T) seconds since the frame before; None: the usual. The first of a row means nothing.
            truncate: gradients flow back over this many frames; 0: over all.
        """
        if clip.ndim == 4:
            return self.step(clip)[0]
        batch, frames = clip.shape[:2]
        seen = self.seen(clip.flatten(0, 1))
        heat, offset = (part.unflatten(0, (batch, frames)) for part in (seen.heat, seen.offset))
        state: MemoryState | None = None
        maps = []
        for t in range(frames):
            if state is not None and truncate and t % truncate == 0:
                state = MemoryState(*(part.detach() for part in state))
            ticks = clock(None if gap is None else gap[:, t], heat)
            *found, state = self._remembered(heat[:, t], offset[:, t], state, ticks)
            maps.append(found)
        heatmaps, offsets = (torch.stack([found[n] for found in maps], 1) for n in (0, 1))
        return _output(heatmaps, offsets, seen.box, (batch, frames))

    def seen(self, image: Tensor) -> Seen:
        """What (B, 3, H, W) show by themselves; it decides nothing, so it can run as one graph (`models.fast`)."""
        features = self.backbone(image)
        heat = self.head_heatmap[0](self.transition_heatmap(features))
        return Seen(heat, self.offset_blocks(self.transition_offset(features)), self.box(features))

    def step(
        self, image: Tensor, state: MemoryState | None = None, gap: Tensor | None = None
    ) -> tuple[DekrOutput | DekrBoxOutput, MemoryState]:
        """The next frame (B, 3, H, W) of B clips, ``gap`` (B,) seconds after the one before; rows whose ``state.age``
        is 0, and all without a state, begin. Returns the maps as `DEKR` does, and the state after the frame."""
        heat, offset, box = self.seen(image)
        heatmap, offset, state = self._remembered(heat, offset, state, clock(gap, heat))
        return _output(heatmap, offset, box), state


class SeedUnit(nn.Module):
    """A GRU (Cho et al. 2014, Eq. 5 to 8) over the last axis of two: (N, 2) and its state (N, 2) to the new state."""

    def __init__(self) -> None:
        super().__init__()
        self.of_input, self.of_state = nn.Linear(2, 6), nn.Linear(2, 6)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        reset_x, update_x, new_x = self.of_input(x).chunk(3, -1)
        reset_h, update_h, new_h = self.of_state(state).chunk(3, -1)
        new = torch.tanh(new_x + torch.sigmoid(reset_x + reset_h) * new_h)
        return state + torch.sigmoid(update_x + update_h) * (new - state)


class DekrSeedGru(DEKR):
    """DEKR with the reports' GRU behind its offsets; see the module. Arguments: see `DEKR`."""

    recurrent = True

    def __init__(self, backbone: nn.Module, keypoints: int, **arguments: Any):
        super().__init__(backbone, keypoints, **arguments)
        self.memory = SeedUnit()
        self.memory_gate = nn.Parameter(torch.zeros(2))

    def _remembered(self, offset: Tensor, state: SeedState | None) -> tuple[Tensor, SeedState]:
        known = _known(state)
        before = torch.zeros_like(offset) if state is None else state.offset
        if known is not None:
            before = before * known[:, None, None, None]
        after = _by_joint(self.memory(_pairs(offset) / _SEED_UNIT, _pairs(before)))
        age = torch.ones(offset.shape[0], device=offset.device) if state is None else state.age + 1
        return offset + _SEED_UNIT * _by_joint(self.memory_gate * _pairs(after)), SeedState(age, after)

    def forward(  # type: ignore[override]
        self, clip: Tensor, gap: Tensor | None = None, truncate: int = 0
    ) -> DekrOutput | DekrBoxOutput:
        """As `DekrGru.forward`; ``gap`` is not looked at, as in the reports."""
        if clip.ndim == 4:
            return self.step(clip)[0]
        batch, frames = clip.shape[:2]
        seen = self.seen(clip.flatten(0, 1))
        heatmaps, offset = (part.unflatten(0, (batch, frames)) for part in (seen.heat, seen.offset))
        state: SeedState | None = None
        offsets = []
        for t in range(frames):
            if state is not None and truncate and t % truncate == 0:
                state = SeedState(*(part.detach() for part in state))
            found, state = self._remembered(offset[:, t], state)
            offsets.append(found)
        return _output(heatmaps, torch.stack(offsets, 1), seen.box, (batch, frames))

    def seen(self, image: Tensor) -> Seen:
        """As `DekrGru.seen`, of the maps themselves."""
        return Seen(*DEKR.forward(self, image))

    def step(
        self, image: Tensor, state: SeedState | None = None, gap: Tensor | None = None
    ) -> tuple[DekrOutput | DekrBoxOutput, SeedState]:
        """As `DekrGru.step`."""
        heatmap, offset, box = self.seen(image)
        offset, state = self._remembered(offset, state)
        return _output(heatmap, offset, box), state


def _known(state: MemoryState | SeedState | None) -> Tensor | None:
    """Rows that have a past; None where all have (or none can)."""
    if state is None:
        return None
    known = state.age > 0
    return None if bool(known.all()) else known


def _pairs(maps: Tensor) -> Tensor:
    """(B, 2 K, h, w), x and y in turn, to (B, K, h, w, 2)."""
    return maps.unflatten(1, (-1, 2)).movedim(2, -1)


def _by_joint(pairs: Tensor) -> Tensor:
    """`_pairs` undone."""
    return pairs.movedim(-1, 2).flatten(1, 2)


def _output(
    heatmap: Tensor, offset: Tensor, box: Tensor | None, clip: tuple[int, int] | None = None
) -> DekrOutput | DekrBoxOutput:
    if box is None:
        return DekrOutput(heatmap, offset)
    return DekrBoxOutput(heatmap, offset, box if clip is None else box.unflatten(0, clip))
