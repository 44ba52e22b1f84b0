"""Cascaded pyramid network: a pyramid finds the easy joints, its levels brought together find the hard ones.

Chen, Wang, Peng, Zhang, Yu, Sun, "Cascaded Pyramid Network for Multi-Person Pose Estimation", CVPR 2018,
https://arxiv.org/abs/1711.07319 (Fig. 1 and 2). Parameter names and details are those of
GengDavid/pytorch-cpn@48696a9 (`networks/`).

    image -> ResNet C2..C5 -> GlobalNet: coarsest level first, each lateral (1x1) + the coarser level enlarged;
                              every level gives heat maps (Sec. 3.2.1)
                           -> RefineNet: levels through 3, 2, 1, 0 bottlenecks, enlarged, concatenated; one more
                              bottleneck gives the final heat maps (Sec. 3.2.2)

GlobalNet learns all joints, RefineNet the hardest ones of each person (`posecli.losses.hard_keypoint_mse`). All
enlarging is bilinear and maps corners onto corners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import conv_norm, initialise, staged_output
from posecli.models.resnet import PaperResNet

#: GlobalNet's four levels, the coarsest first, and RefineNet.
OUTPUTS = ("global0", "global1", "global2", "global3", "refine")


class Enlarge(nn.Module):
    """Bilinear, corner pixels onto corner pixels; to a size, or (without) to twice the size."""

    def forward(self, x: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        size = size or (2 * x.shape[-2], 2 * x.shape[-1])
        return functional.interpolate(x, size=size, mode="bilinear", align_corners=True)


class RefineBottleneck(nn.Module):
    """Bottleneck whose shortcut is always a projection and that doubles the channels within."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(2 * channels)
        self.downsample = conv_norm(channels_in, 2 * channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = functional.relu(self.bn2(self.conv2(out)))
        return functional.relu(self.bn3(self.conv3(out)) + self.downsample(x))


class GlobalNet(nn.Module):
    """The pyramid (Fig. 1, left). ``widths`` are the channels of the trunk's maps, the coarsest first."""

    def __init__(self, widths: Sequence[int], channels: int, keypoints: int):
        super().__init__()
        self.laterals = nn.ModuleList(conv_norm(width, channels, 1) for width in widths)
        self.upsamples = nn.ModuleList(
            nn.Sequential(Enlarge(), *conv_norm(channels, channels, 1, relu=False)) for _ in widths[1:]
        )
        self.predict = nn.ModuleList(
            nn.Sequential(
                *conv_norm(channels, channels, 1),
                nn.Conv2d(channels, keypoints, 3, padding=1, bias=False),
                Enlarge(),
                nn.BatchNorm2d(keypoints),
            )
            for _ in widths
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """The trunk's maps, the coarsest first, to the pyramid's levels and their heat maps, all of the finest size."""
        size = (maps[-1].shape[-2], maps[-1].shape[-1])
        levels: list[Tensor] = []
        heatmaps = []
        for number, x in enumerate(maps):
            level = self.laterals[number](x)
            if levels:
                level = level + self.upsamples[number - 1](levels[-1])
            levels.append(level)
            for layer in self.predict[number].children():
                level = layer(level, size) if isinstance(layer, Enlarge) else layer(level)
            heatmaps.append(level)
        return levels, heatmaps


class RefineNet(nn.Module):
    """All levels of the pyramid, the coarser the more processed, together (Fig. 1, right)."""

    def __init__(self, channels: int, keypoints: int, levels: int = 4):
        super().__init__()
        self.cascade = nn.ModuleList(
            nn.Sequential(*(RefineBottleneck(channels, channels // 2) for _ in range(levels - 1 - level)))
            for level in range(levels)
        )
        self.enlarge = Enlarge()
        self.final_predict = nn.Sequential(
            RefineBottleneck(levels * channels, channels // 2),
            nn.Conv2d(channels, keypoints, 3, padding=1, bias=False),
            nn.BatchNorm2d(keypoints),
        )

    def forward(self, levels: Sequence[Tensor]) -> Tensor:
        size = (levels[-1].shape[-2], levels[-1].shape[-1])
        parts = [self.enlarge(path(x), size) for path, x in zip(self.cascade, levels, strict=True)]
        return self.final_predict(torch.cat(parts, 1))


class CPN(nn.Module):
    """The crop of one person to the heat maps of GlobalNet's levels and of RefineNet, at a quarter of its size.

    Args:
        keypoints: K.
        blocks: of the trunk's four stages (ResNet-50: 3, 4, 6, 3).
        width: of the trunk's first stage (64 in the paper).
        channels: of the pyramid (256 in the paper); even.
    """

    stride = 4
    size_step = 32

    def __init__(self, keypoints: int, blocks: Sequence[int] = (3, 4, 6, 3), width: int = 64, channels: int = 256):
        super().__init__()
        if channels < 2 or channels % 2:
            raise ValueError(f"an even number of channels wanted, got {channels}")
        self.resnet = PaperResNet(blocks, width)
        widths = [4 * width * 2**stage for stage in (3, 2, 1, 0)]
        self.global_net = GlobalNet(widths, channels, keypoints)
        self.refine_net = RefineNet(channels, keypoints)
        initialise(self)
        # Maps are nearly empty at first, as their targets are: otherwise the first epochs go into unlearning noise.
        for layers in (*self.global_net.predict, self.refine_net.final_predict):
            nn.init.constant_(cast(nn.BatchNorm2d, cast(nn.Sequential, layers)[-1]).weight, 0.05)

    def forward(self, image: Tensor) -> Any:
        """(B, 3, H, W), multiples of 32, to ``global0``..``global3`` and ``refine``, each (B, K, H / 4, W / 4)."""
        levels, heatmaps = self.global_net(self.resnet.maps(image)[::-1])
        return staged_output(*OUTPUTS)(*heatmaps, self.refine_net(levels))
