"""HRNet: branches of four resolutions side by side, exchanging features; top-down pose network and DEKR's backbone.

Sun, Xiao, Liu, Wang, "Deep High-Resolution Representation Learning for Human Pose Estimation", CVPR 2019,
https://arxiv.org/abs/1902.09212. Official code: leoxiaobin/deep-high-resolution-net.pytorch@6f69e46
(`lib/models/pose_hrnet.py`), whose parameter names are kept.

Two facts that the paper leaves open: fusion enlarges with nearest neighbour (Sec. 3, Fig. 3), and the last exchange
unit of the top-down network computes its highest resolution only, the one that the heat maps are read from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import BasicBlock, Bottleneck, HeatmapOutput, conv_norm, initialise, multiple_of

torch.fx.wrap("multiple_of")


class HighResolutionModule(nn.Module):
    """One exchange block: residual blocks in each branch, then every branch from all branches (Fig. 3, Eq. 1).

    Args:
        widths: channels of the branches, highest resolution first; each branch has half the size of the one before.
        blocks: residual blocks in each branch.
        rows: how many of the outputs to compute (all of them, or only the first).
    """

    def __init__(self, widths: Sequence[int], blocks: int, rows: int):
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths)
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(_fuse_path(widths, target, source) for source in range(len(widths))) for target in range(rows)
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        maps = [branch(x) for branch, x in zip(self.branches, maps, strict=True)]
        fused = []
        for row in self.fuse_layers:
            parts = [path(x) for path, x in zip(cast(nn.ModuleList, row), maps, strict=True)]
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            fused.append(self.relu(total))
        return fused


def _fuse_path(widths: Sequence[int], target: int, source: int) -> nn.Module:
    """From branch ``source`` to the size and channels of branch ``target`` (Fig. 3)."""
    if source == target:
        return nn.Identity()
    if source > target:
        path = conv_norm(widths[source], widths[target], 1, relu=False)
        path.append(nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
        return path
    steps = target - source
    return nn.Sequential(
        *(
            conv_norm(widths[source], widths[source] if step < steps - 1 else widths[target], 3, 2, step < steps - 1)
            for step in range(steps)
        )
    )


class HRNetTrunk(nn.Module):
    """Stem and the four stages: (B, 3, H, W), H and W multiples of 32, to maps at strides 4, 8, 16, 32.

    Args:
        width: channels C of the highest resolution; the others have 2C, 4C, 8C (32 or 48 in the paper).
        modules: exchange blocks in stages 2, 3 and 4 (1, 4, 3 in the paper).
        blocks: residual blocks per branch of an exchange block (4 in the paper).
        stem: channels of the stem and of stage 1's bottlenecks (64 in the paper).
        bottlenecks: bottlenecks in stage 1 (4 in the paper).
        all_maps: compute all four outputs of the last block, or only the first.
    """

    stride = 4
    size_step = 32

    def __init__(
        self,
        width: int = 32,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        stem: int = 64,
        bottlenecks: int = 4,
        all_maps: bool = True,
    ):
        super().__init__()
        self.widths = tuple(width * 2**level for level in range(4))
        self.conv1 = nn.Conv2d(3, stem, 3, 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.conv2 = nn.Conv2d(stem, stem, 3, 2, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        channels = stem * Bottleneck.expansion
        self.layer1 = nn.Sequential(*(Bottleneck(channels if n else stem, stem) for n in range(bottlenecks)))
        self.transition1 = _transition((channels,), self.widths[:2])
        self.stage2 = _stage(self.widths[:2], modules[0], blocks)
        self.transition2 = _transition(self.widths[:2], self.widths[:3])
        self.stage3 = _stage(self.widths[:3], modules[1], blocks)
        self.transition3 = _transition(self.widths[:3], self.widths)
        self.stage4 = _stage(self.widths, modules[2], blocks, last_rows=4 if all_maps else 1)

    def maps(self, image: Tensor) -> list[Tensor]:
        """The outputs of stage 4, highest resolution first: (B, C, H/4, W/4), (B, 2C, H/8, W/8), ..."""
        x = self.relu(self.bn1(self.conv1(multiple_of(image, self.size_step, "HRNet"))))
        x = self.relu(self.bn2(self.conv2(x)))
        maps = [self.layer1(x)]
        for transition, stage in (
            (self.transition1, self.stage2),
            (self.transition2, self.stage3),
            (self.transition3, self.stage4),
        ):
            # A new branch starts from the lowest resolution there is.
            maps = [path(maps[min(i, len(maps) - 1)]) for i, path in enumerate(transition)]
            maps = stage(maps)
        return maps


def _transition(before: Sequence[int], after: Sequence[int]) -> nn.ModuleList:
    """Paths from the branches of one stage to those of the next, which has one more."""
    paths: list[nn.Module] = []
    for level, width in enumerate(after):
        if level >= len(before):
            paths.append(nn.Sequential(conv_norm(before[-1], width, 3, 2)))
        elif before[level] != width:
            paths.append(conv_norm(before[level], width, 3))
        else:
            paths.append(nn.Identity())
    return nn.ModuleList(paths)


def _stage(widths: Sequence[int], modules: int, blocks: int, last_rows: int | None = None) -> nn.Sequential:
    rows = [len(widths)] * (modules - 1) + [last_rows or len(widths)]
    return nn.Sequential(*(HighResolutionModule(widths, blocks, n) for n in rows))


class HRNet(HRNetTrunk):
    """Top-down network: the crop of one person to one heat map for each keypoint, at a quarter of its size.

    The maps are Gaussians of height 1 around the keypoints (codec `gaussian` or `dark`). Arguments beyond
    ``keypoints`` are those of `HRNetTrunk`.
    """

    def __init__(
        self,
        keypoints: int,
        width: int = 32,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        stem: int = 64,
        bottlenecks: int = 4,
    ):
        super().__init__(width, modules, blocks, stem, bottlenecks, all_maps=False)
        self.final_layer = nn.Conv2d(width, keypoints, 1)
        initialise(self)
        nn.init.normal_(self.final_layer.weight, std=0.001)

    def forward(self, image: Tensor) -> HeatmapOutput:
        """(B, 3, H, W), H and W multiples of 32, to heatmap (B, K, H / 4, W / 4)."""
        return HeatmapOutput(self.final_layer(self.maps(image)[0]))


class HRNetConcat(HRNetTrunk):
    """Backbone for bottom-up heads: all four maps enlarged to the first's size and concatenated.

    Enlarging is bilinear with half-pixel centres (HRNet/DEKR@7a30313, `lib/models/hrnet_dekr.py`). Gives
    (B, ``out_channels`` = 15 C, H / 4, W / 4): 480 channels for C = 32.
    """

    def __init__(
        self,
        width: int = 32,
        modules: Sequence[int] = (1, 4, 3),
        blocks: int = 4,
        stem: int = 64,
        bottlenecks: int = 4,
    ):
        super().__init__(width, modules, blocks, stem, bottlenecks, all_maps=True)
        self.out_channels = sum(self.widths)
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        first, *rest = self.maps(image)
        size = first.shape[-2:]
        rest = [functional.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in rest]
        return torch.cat([first, *rest], dim=1)
