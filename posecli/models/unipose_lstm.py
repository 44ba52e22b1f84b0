"""UniPose-LSTM: UniPose's maps of each frame, refined by a convolutional LSTM that remembers the frames before.

Artacho, Savakis, "UniPose: Unified Human Pose Estimation in Single Images and Videos", CVPR 2020,
https://arxiv.org/abs/2001.08095 (Sec. 3.3, Fig. 5). Parameter names and details are those of bmartacho/UniPose@bf53632
(`model/uniposeLSTM.py`, `model/modules/waspVideo.py`).

    frame -> UniPose -> maps (K + 1), with the pooled centre map (1) -> LSTM -> five convolutions -> heat maps (K + 1)

Details of the official code: the first frame of a clip passes an LSTM of its own, without a forget gate and with
``cell = tanh(g i)``, ``hide = o cell`` (later ones ``hide = o tanh(cell)``); WASP's mean of the picture has no norm; a
ReLU follows the last convolution; the map of the frame before is not used. The centre map, a Gaussian of 21 input
pixels, stands where the person does: here in the crop's middle.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import HeatmapOutput, initialise
from posecli.models.unipose import UniPose

_CENTRE_SIGMA = 21.0


class LstmState(NamedTuple):
    """What is carried on: ``age`` (B,), frames seen so far, and ``hide`` and ``cell`` (B, K + 2, h, w)."""

    age: Tensor
    hide: Tensor
    cell: Tensor


@cache
def clip_output(frames: int) -> Any:
    """A named tuple type for a clip: ``heatmap0, cell0, hide0, heatmap1, ...``, each (B, channels, h, w).

    Its ``heatmap`` is that of the last frame, its ``heatmaps`` (B, T, K + 1, h, w) those of all.
    """
    names = [f"{kind}{t}" for t in range(frames) for kind in ("heatmap", "cell", "hide")]
    base = namedtuple("ClipOutput", names)  # type: ignore[misc]
    properties = {
        "heatmap": property(lambda self: self[-3]),
        "heatmaps": property(lambda self: torch.stack(self[::3], 1)),
        "__slots__": (),
    }
    return type("ClipOutput", (base,), properties)


class FirstLSTM(nn.Module):
    """The unit of a clip's first frame: (B, C, h, w) to (cell, hide)."""

    def __init__(self, channels: int):
        super().__init__()
        for gate in "gio":
            self.add_module(f"conv_{gate}_lstm", nn.Conv2d(channels, channels, 3, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        g, i, o = (self.get_submodule(f"conv_{gate}_lstm")(x) for gate in "gio")
        cell = torch.tanh(torch.tanh(g) * torch.sigmoid(i))
        return cell, torch.sigmoid(o) * cell


class LSTM(nn.Module):
    """The unit of all later frames (Fig. 5): (B, C, h, w) with the state before to (cell, hide)."""

    def __init__(self, channels: int):
        super().__init__()
        for source in "xh":
            for gate in "giof":
                self.add_module(f"conv_{gate}{source}_lstm", nn.Conv2d(channels, channels, 3, 1, 1))

    def forward(self, x: Tensor, hide: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        def gate(name: str) -> Tensor:
            of_input, of_state = (self.get_submodule(f"conv_{name}{source}_lstm") for source in "xh")
            return of_input(x) + of_state(hide)

        cell = torch.sigmoid(gate("f")) * cell + torch.sigmoid(gate("i")) * torch.tanh(gate("g"))
        return cell, torch.sigmoid(gate("o")) * torch.tanh(cell)


class UniPoseLSTM(UniPose):
    """The crops of one person in the frames of a clip to heat maps of the background and of each keypoint.

    Args:
        keypoints, blocks, width, channels, reduced, dropout: see `UniPose`.
        refine: channels of the convolutions after the LSTM (128). kernel: of the first three (11).
    """

    recurrent = True

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
        channels: int = 256,
        reduced: int = 48,
        dropout: bool = True,
        refine: int = 128,
        kernel: int = 11,
    ):
        super().__init__(keypoints, blocks, width, channels, reduced, dropout, pool_norm=False)
        remembered = keypoints + 2
        self.lstm_0 = FirstLSTM(remembered)
        self.lstm = LSTM(remembered)
        widths = (remembered, refine, refine, refine, refine, keypoints + 1)
        kernels = (kernel, kernel, kernel, 1, 1)
        convolutions = [
            nn.Conv2d(before, after, size, 1, size // 2)
            for before, after, size in zip(widths, widths[1:], kernels, strict=False)
        ]
        self.conv1, self.conv2, self.conv3, self.conv4, self.conv5 = convolutions
        for part in (self.lstm_0, self.lstm, *convolutions):
            initialise(part)
        # What is carried starts where it is neither forgotten nor saturated; the last ReLU lets everything through.
        nn.init.ones_(cast(nn.Conv2d, self.lstm.get_submodule("conv_fx_lstm")).bias)  # type: ignore[arg-type]
        nn.init.normal_(self.conv5.weight, std=0.001)
        nn.init.constant_(cast(Tensor, self.conv5.bias), 0.02)
        # The maps within are no targets here: they must not start empty.
        nn.init.normal_(cast(nn.Conv2d, self.decoder.last_conv[-1]).weight, std=0.05)

    def forward(self, clip: Tensor, gap: Tensor | None = None, truncate: int = 0) -> Any:
        """(B, T, 3, H, W), or (B, 3, H, W) for clips of one frame; H and W multiples of 16.

        Args:
            clip: frames in their order. gap: taken for the sake of other recurrent networks; the LSTM has no clock.
            truncate: gradients flow back over this many frames; 0: over all.

        Returns:
            `clip_output` of T frames, maps at an eighth of the size.
        """
        if clip.ndim == 4:
            clip = clip[:, None]
        batch, frames = clip.shape[:2]
        maps = self.seen(clip.flatten(0, 1)).unflatten(0, (batch, frames))
        state: LstmState | None = None
        values: list[Tensor] = []
        for t in range(frames):
            if state is not None and truncate and t % truncate == 0:
                state = LstmState(*(part.detach() for part in state))
            heatmap, state = self._refined(maps[:, t], state)
            values += [heatmap, state.cell, state.hide]
        return clip_output(frames)(*values)

    def seen(self, image: Tensor) -> Tensor:
        """Maps (B, K + 1, h, w) of (B, 3, H, W) by themselves; can run as one graph (`models.fast`)."""
        return UniPose.forward(self, image).heatmap

    def step(
        self, image: Tensor, state: LstmState | None = None, gap: Tensor | None = None
    ) -> tuple[HeatmapOutput, LstmState]:
        """The next frame (B, 3, H, W) of B clips; rows whose ``state.age`` is 0, and all without a state, are first
        frames. Returns heatmap (B, K + 1, h, w) and the state after the frame."""
        heatmap, state = self._refined(self.seen(image), state)
        return HeatmapOutput(heatmap), state

    def _refined(self, maps: Tensor, state: LstmState | None) -> tuple[Tensor, LstmState]:
        x = torch.cat([maps, _pooled_centre(maps, self.stride)], 1)
        if state is None or not bool((state.age > 0).all()):
            cell, hide = self.lstm_0(x)
            age = torch.zeros(x.shape[0], device=x.device)
            if state is not None and bool((state.age > 0).any()):
                known = (state.age > 0)[:, None, None, None]
                later = self.lstm(x, state.hide, state.cell)
                cell, hide = torch.where(known, later[0], cell), torch.where(known, later[1], hide)
                age = state.age
        else:
            cell, hide = self.lstm(x, state.hide, state.cell)
            age = state.age
        x = hide
        for convolution in (self.conv1, self.conv2, self.conv3, self.conv4, self.conv5):
            x = functional.relu(convolution(x))
        return x, LstmState(age + 1, hide, cell)


def _pooled_centre(maps: Tensor, stride: int) -> Tensor:
    """(B, 1, h, w): the Gaussian in the middle of the input that maps (B, C, h, w) belong to, averaged over 9 x 9."""
    height, width = maps.shape[-2] * stride, maps.shape[-1] * stride
    rows, columns = (
        torch.arange(size, device=maps.device, dtype=torch.float64) - size // 2 for size in (height, width)
    )
    across, down = (torch.exp(-(place**2) / (2 * _CENTRE_SIGMA**2)) for place in (columns, rows))
    centre = (down[:, None] * across)[None, None].to(maps.dtype)
    return functional.avg_pool2d(centre, 9, stride, 1).expand(maps.shape[0], -1, -1, -1)
