"""Stacked hourglass: down to a few pixels and back up again, several times over, with a guess after each time.

Newell, Yang, Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016, https://arxiv.org/abs/1603.06937.
Official code: princeton-vl/pytorch_stacked_hourglass@ceedc14 (the authors' second release) and the widely used
bearpaw/pytorch-pose@edc7aec (`pose/models/hourglass.py`). Both are this network; they differ in the channels of the
second residual unit of the stem and in the names of their parameters (`posecli.official.hourglass`).

Convolutions have biases, residual units are pre-activated (He et al., "Identity Mappings in Deep Residual Networks",
ECCV 2016), enlarging repeats pixels. With ``separable`` every 3x3 convolution of a unit is split into one within each
channel and a 1x1 across them (Chollet, "Xception", CVPR 2017), for slow machines.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import initialise, multiple_of, staged_output

torch.fx.wrap("multiple_of")


class HourglassOutput(NamedTuple):
    """`heatmaps` (B, S, K, h, w): the guess of each of S stacks; ``heatmap`` the last, ``stages`` all of them."""

    heatmaps: Tensor

    @property
    def heatmap(self) -> Tensor:
        """(B, K, h, w), what is decoded."""
        return self.heatmaps[:, -1]

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """The maps that are compared with targets."""
        return self.heatmaps.unbind(1)


class Residual(nn.Module):
    """Pre-activated bottleneck (Fig. 4, left): norm, ReLU, convolution, three times, added to the input.

    (B, ``channels_in``, h, w) to (B, ``channels_out``, h, w); the 3x3 convolution works on half the channels. Where
    the channels change the input is projected by a 1x1 convolution (``skip``).
    """

    def __init__(self, channels_in: int, channels_out: int, separable: bool = False):
        super().__init__()
        middle = channels_out // 2
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, middle, 1)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv2 = _separable(middle) if separable else nn.Conv2d(middle, middle, 3, padding=1)
        self.bn3 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, channels_out, 1)
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(functional.relu(self.bn1(x)))
        out = self.conv2(functional.relu(self.bn2(out)))
        out = self.conv3(functional.relu(self.bn3(out)))
        return out + self.skip(x)


def _separable(channels: int) -> nn.Sequential:
    within = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
    return nn.Sequential(within, nn.Conv2d(channels, channels, 1))


def _residuals(channels_in: int, channels_out: int, blocks: int, separable: bool) -> nn.Sequential:
    """Residual units in a row; the first changes the channels."""
    widths = [channels_in] + [channels_out] * blocks
    return nn.Sequential(*(Residual(a, b, separable) for a, b in pairwise(widths)))


class Hourglass(nn.Module):
    """One hourglass (Fig. 3), (B, C, h, w) to the same; h and w are multiples of 2 to the power of ``depth``.

    Args:
        depth: how often the size is halved.
        channels: C, at every size.
        blocks: residual units where the figure has a box.
        increase: channels more below the first halving.
        separable: see the module.
    """

    def __init__(self, depth: int, channels: int, blocks: int = 1, increase: int = 0, separable: bool = False):
        super().__init__()
        below = channels + increase
        self.up1 = _residuals(channels, channels, blocks, separable)
        self.low1 = _residuals(channels, below, blocks, separable)
        if depth > 1:
            self.low2: nn.Module = Hourglass(depth - 1, below, blocks, separable=separable)
        else:
            self.low2 = _residuals(below, below, blocks, separable)
        self.low3 = _residuals(below, channels, blocks, separable)

    def forward(self, x: Tensor) -> Tensor:
        low = self.low3(self.low2(self.low1(functional.max_pool2d(x, 2))))
        return self.up1(x) + functional.interpolate(low, scale_factor=2, mode="nearest")


class StackedHourglass(nn.Module):
    """Stem to a quarter of the size, then S hourglasses, each with a guess that the next one starts from (Fig. 2, 4).

    Args:
        keypoints: K.
        stacks: S (8 in the paper, Sec. 3.1).
        depth: halvings in each hourglass (4: down to 4x4 for an input of 256x256).
        channels: C of the hourglasses (256).
        blocks: residual units in each box of Fig. 3 (1).
        increase: more channels below the first halving.
        stem: channels of the 7x7 convolution and of the stem's first two residual units; the third gives C.
        separable: split the 3x3 convolutions of the residual units.
    """

    stride = 4

    def __init__(
        self,
        keypoints: int,
        stacks: int = 8,
        depth: int = 4,
        channels: int = 256,
        blocks: int = 1,
        increase: int = 0,
        stem: Sequence[int] = (64, 128, 128),
        separable: bool = False,
    ):
        super().__init__()
        if min(keypoints, stacks, depth, blocks) < 1 or len(stem) != 3 or min(channels, *stem) < 2:
            raise ValueError(
                "at least one stack, halving and block, two channels and three stem widths wanted, got "
                f"stacks {stacks}, depth {depth}, blocks {blocks}, channels {channels}, stem {list(stem)}"
            )
        self.depth = depth
        self.size_step = 4 * 2**depth
        self.conv1 = nn.Conv2d(3, stem[0], 7, 2, 3)
        self.bn1 = nn.BatchNorm2d(stem[0])
        self.layer1 = Residual(stem[0], stem[1], separable)
        self.layer2 = Residual(stem[1], stem[2], separable)
        self.layer3 = Residual(stem[2], channels, separable)
        self.hourglasses = nn.ModuleList(Hourglass(depth, channels, blocks, increase, separable) for _ in range(stacks))
        self.residuals = nn.ModuleList(_residuals(channels, channels, blocks, separable) for _ in range(stacks))
        self.features = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels), nn.ReLU(inplace=True))
            for _ in range(stacks)
        )
        self.score = nn.ModuleList(nn.Conv2d(channels, keypoints, 1) for _ in range(stacks))
        # Back from the guess and from what it was read from into the features (Fig. 4, right).
        self.merge_features = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(stacks - 1))
        self.merge_scores = nn.ModuleList(nn.Conv2d(keypoints, channels, 1) for _ in range(stacks - 1))
        initialise(self)
        for final in self.score:
            nn.init.normal_(cast(nn.Conv2d, final).weight, std=0.001)

    def guesses(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 4 x 2^depth, to the S guesses (B, K, H / 4, W / 4)."""
        x = functional.relu(self.bn1(self.conv1(multiple_of(image, self.size_step, "this hourglass"))))
        x = functional.max_pool2d(self.layer1(x), 2)
        x = self.layer3(self.layer2(x))
        guesses = []
        for stack, hourglass in enumerate(self.hourglasses):
            feature = self.features[stack](self.residuals[stack](hourglass(x)))
            guesses.append(self.score[stack](feature))
            if stack < len(self.merge_scores):
                x = x + self.merge_scores[stack](guesses[-1]) + self.merge_features[stack](feature)
        return guesses

    def forward(self, image: Tensor) -> HourglassOutput:
        """(B, 3, H, W), H and W multiples of 4 x 2^depth, to heatmaps (B, S, K, H / 4, W / 4)."""
        return HourglassOutput(torch.stack(self.guesses(image), 1))


class PytorchPoseHourglass(StackedHourglass):
    """The network of bearpaw/pytorch-pose: a stem that widens earlier, and one output for each stack.

    Gives ``stage0``, ``stage1``, ... (B, K, H / 4, W / 4). Arguments: see `StackedHourglass`.
    """

    def __init__(self, keypoints: int, stacks: int = 2, stem: Sequence[int] = (64, 128, 256), **arguments: Any):
        super().__init__(keypoints, stacks, stem=stem, **arguments)

    def forward(self, image: Tensor) -> Any:
        """(B, 3, H, W), H and W multiples of 4 x 2^depth, to S maps (B, K, H / 4, W / 4)."""
        guesses = self.guesses(image)
        return staged_output(*(f"stage{n}" for n in range(len(guesses))))(*guesses)
