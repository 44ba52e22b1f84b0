"""DEKR: bottom-up poses regressed from person centres, each joint by a branch of its own.

Geng, Sun, Xiao, Zhang, Wang, "Bottom-Up Human Pose Estimation via Disentangled Keypoint Regression", CVPR 2021,
https://arxiv.org/abs/2104.02300. Official code: HRNet/DEKR@7a30313 (`lib/models/hrnet_dekr.py`, `conv_block.py`).

The official code keeps one module for each joint's branch; here the branches are grouped convolutions over all joints,
which compute the same and are read from official files by stacking (`posecli.official`).

An optional third head, not in the paper, gives at each pixel the box of the person standing there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from posecli.models.deform import adaptive_conv
from posecli.models.layers import BasicBlock, conv_norm, initialise

#: exp() of the box head is cut here: e^7 = 1097 map pixels, beyond any picture that fits into memory.
_BOX_LOG_LIMIT = 7.0
_BOX_LOG_START = 2.0


class DekrOutput(NamedTuple):
    """Maps at 1/stride of the input, h x w.

    Attributes:
        heatmap: (B, K + 1, h, w): the K keypoints, then the person centre; about 0 to 1.
        offset: (B, 2 K, h, w): x0 y0 x1 y1 ... in map pixels; at a pixel p near a person's centre, keypoint k of this
            person lies at p - offset_k (Sec. 3.1; the official sign).
    """

    heatmap: Tensor
    offset: Tensor


class DekrBoxOutput(NamedTuple):
    """`DekrOutput` with ``box`` (B, 4, h, w): from the pixel to the left, top, right and bottom side of the box of the
    person whose centre is near, in map pixels, positive."""

    heatmap: Tensor
    offset: Tensor
    box: Tensor


class AdaptiveBlocks(nn.Module):
    """One adaptive block of every joint's branch (Sec. 3.2): adaptive 3x3 convolution, norm, added input, ReLU.

    `geometry_conv` gives each pixel of each joint the 2x2 matrix (row-major) and the translation (dy, dx) that move
    the nine taps; both start at zero, so that at first all taps read the pixel itself (as in the official code).
    """

    def __init__(self, joints: int, channels: int):
        super().__init__()
        self.geometry_conv = nn.Conv2d(joints * channels, joints * 6, 3, 1, 1, groups=joints)
        self.adapt_conv = nn.Conv2d(joints * channels, joints * channels, 3, 1, 1, bias=False, groups=joints)
        self.bn = nn.BatchNorm2d(joints * channels)
        self.relu = nn.ReLU(inplace=True)
        #: What convolves; `models.fast_cuda` may put a kernel in its place that gives the same.
        self.convolve: Callable[..., Tensor] = adaptive_conv

    def forward(self, x: Tensor) -> Tensor:
        out = self.convolve(x, self.geometry_conv(x), self.adapt_conv.weight, self.adapt_conv.bias)
        return self.relu(self.bn(out) + x)


class DEKR(nn.Module):
    """Heat map head and disentangled offset branches on any backbone.

    Args:
        backbone: module with ``out_channels`` and ``stride`` that maps (B, 3, H, W) to (B, out_channels, h, w).
        keypoints: K.
        heatmap_channels: width of the heat map head (32 with HRNet-W32, 48 with W48).
        heatmap_blocks: residual blocks in it (1).
        joint_channels: width of each joint's branch (15).
        offset_blocks: adaptive blocks in each branch (2).
        box: add the box head; its width is ``heatmap_channels``.
    """

    def __init__(
        self,
        backbone: nn.Module,
        keypoints: int,
        heatmap_channels: int = 32,
        heatmap_blocks: int = 1,
        joint_channels: int = 15,
        offset_blocks: int = 2,
        box: bool = False,
    ):
        super().__init__()
        channels = int(backbone.out_channels)  # type: ignore[arg-type]
        self.stride = int(backbone.stride)  # type: ignore[arg-type]
        self.keypoints = keypoints
        final_heatmap = nn.Conv2d(heatmap_channels, keypoints + 1, 1)
        final_box = nn.Conv2d(heatmap_channels, 4, 1)
        blocks = [AdaptiveBlocks(keypoints, joint_channels) for _ in range(offset_blocks)]
        self.transition_heatmap = conv_norm(channels, heatmap_channels, 1)
        self.head_heatmap = nn.Sequential(
            nn.Sequential(*(BasicBlock(heatmap_channels) for _ in range(heatmap_blocks))), final_heatmap
        )
        self.transition_offset = conv_norm(channels, keypoints * joint_channels, 1)
        self.offset_blocks = nn.Sequential(*blocks)
        self.offset_final = nn.Conv2d(keypoints * joint_channels, keypoints * 2, 1, groups=keypoints)
        self.head_box: nn.Sequential | None = None
        if box:
            self.head_box = nn.Sequential(
                conv_norm(channels, heatmap_channels, 1), BasicBlock(heatmap_channels), final_box
            )
        initialise(self)
        for final in (final_heatmap, self.offset_final, final_box):
            nn.init.normal_(final.weight, std=0.001)
        nn.init.constant_(cast(Tensor, final_box.bias), _BOX_LOG_START)
        for block in blocks:
            nn.init.zeros_(block.geometry_conv.weight)
        self.backbone = backbone  # last: it has initialised itself

    def forward(self, image: Tensor) -> DekrOutput | DekrBoxOutput:
        """(B, 3, H, W) to the maps of `DekrOutput`, or of `DekrBoxOutput` with a box head."""
        features = self.backbone(image)
        heatmap = self.head_heatmap(self.transition_heatmap(features))
        offset = self.offset_final(self.offset_blocks(self.transition_offset(features)))
        box = self.box(features)
        return DekrOutput(heatmap, offset) if box is None else DekrBoxOutput(heatmap, offset, box)

    def box(self, features: Tensor) -> Tensor | None:
        """``box`` of `DekrBoxOutput` from the backbone's features; None without a box head."""
        if self.head_box is None:
            return None
        return torch.exp(self.head_box(features).float().clamp(max=_BOX_LOG_LIMIT))
