"""Top-down feature pyramid over a residual trunk, and the pose network made of the two.

Lin, Dollar, Girshick, He, Hariharan, Belongie, "Feature Pyramid Networks for Object Detection", CVPR 2017,
https://arxiv.org/abs/1612.03144 (Sec. 3: 1x1 lateral connections, nearest-neighbour upsampling by 2, addition, a 3x3
convolution on the merged map). Here that convolution has normalisation and ReLU, and the next finer level takes its
result, so each level refines the one before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.models.layers import BasicBlock, HeatmapOutput, conv_norm, highest
from posecli.models.resnet import ResNet

fx.wrap("highest")


class FeaturePyramid(nn.Module):
    """Merges maps of rising stride, coarsest first, into one map of `channels` at the finest stride.

    `widths` maps each stride, finest first, to the channels of its map. Layers are named by stride, so a pyramid that
    ends at stride 8 takes the weights of one that ends at stride 4 by name.
    """

    def __init__(self, widths: Mapping[int, int], channels: int = 64):
        super().__init__()
        self.strides = tuple(widths)
        self.lateral = nn.ModuleDict(
            {f"s{s}": conv_norm(width, channels, 1, relu=False) for s, width in widths.items()}
        )
        self.smooth = nn.ModuleDict({f"s{s}": conv_norm(channels, channels, 3) for s in widths})

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps finest first, each half the size of the one before; returns (B, channels, h, w) of the finest."""
        coarsest, *finer = zip(reversed(self.strides), reversed(maps), strict=True)
        x = self._level(*coarsest, None)
        for stride, feature in finer:
            x = self._level(stride, feature, x)
        return x

    def _level(self, stride: int, feature: Tensor, coarser: Tensor | None) -> Tensor:
        merged = self.lateral[f"s{stride}"](feature)
        if coarser is not None:
            merged = merged + functional.interpolate(coarser, scale_factor=2, mode="nearest")
        return self.smooth[f"s{stride}"](merged)


class Trunk(nn.Module):
    """Residual network and pyramid: (B, 3, H, W) to (B, channels, H / stride, W / stride), stride 4 or 8."""

    def __init__(
        self,
        widths: Sequence[int] = (64, 128, 256, 384),
        blocks: Sequence[int] = (2, 3, 4, 2),
        stem_channels: int = 32,
        channels: int = 64,
        stride: int = 4,
        channels_in: int = 3,
    ):
        super().__init__()
        if stride not in (4, 8):
            raise ValueError(f"stride 4 or 8 wanted, got {stride}")
        self.stride = stride
        self.out_channels = channels
        self.backbone = ResNet(widths, blocks, stem_channels, channels_in)
        used = {s: width for s, width in zip((4, 8, 16, 32), widths, strict=True) if s >= stride}
        self.pyramid = FeaturePyramid(used, channels)

    def forward(self, image: Tensor) -> Tensor:
        return self.levels(image)[0]

    def levels(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` gives, and the backbone's map at stride 16."""
        maps = self.backbone(image)
        return self.pyramid(maps[-len(self.pyramid.strides) :]), maps[-2]


class JudgedOutput(NamedTuple):
    """`heatmap` (B, K, h, w), and `quality` (B,): the logit of the probability that the pose read from it is right."""

    heatmap: Tensor
    quality: Tensor


class PoseFPN(nn.Module):
    """Top-down pose network: the crop of one person to one score map for each keypoint at a quarter of its size.

    The maps are logits of a distribution over the pixels (`codecs.softmax`), not probabilities.

    Maps of somebody's joints say little of whether there is somebody: a network that has only ever seen people finds
    joints in a tree. With ``quality`` it says for each crop how likely its pose is right, by a linear map of the
    maxima of its last features, and of ``judge`` channels besides, which a few convolutions make of the trunk's map at
    stride 16: more is seen there than joints need. All this is taught by itself, once the rest is done
    (`examples/train_quality.py`), as the second stage of a detector judges the first one's boxes (Ren, He, Girshick,
    Sun, "Faster R-CNN", NeurIPS 2015, https://arxiv.org/abs/1506.01497) and Mask Scoring R-CNN its masks (Huang et al.,
    CVPR 2019, https://arxiv.org/abs/1903.00241).

    With ``last_pose`` it sees a fourth channel, where the person was a frame ago (`codecs.last_pose`); 0 everywhere in
    pictures and at first sight. One without is one whose kernels for it are 0.
    """

    stride = 4
    size_step = 32

    def __init__(
        self,
        keypoints: int,
        widths: Sequence[int] = (64, 128, 256, 384),
        blocks: Sequence[int] = (2, 3, 4, 2),
        stem_channels: int = 32,
        channels: int = 64,
        quality: bool = False,
        judge: int = 0,
        last_pose: bool = False,
    ):
        super().__init__()
        if judge and not quality:
            raise ValueError(f"judge = {judge} is for networks with quality")
        self.last_pose = last_pose
        self.trunk = Trunk(widths, blocks, stem_channels, channels, self.stride, 4 if last_pose else 3)
        self.head = nn.Conv2d(channels, keypoints, 1)
        self.quality = nn.Linear(channels + judge, 1) if quality else None
        self.judge = nn.Sequential(conv_norm(widths[2], judge, 1), BasicBlock(judge)) if judge else None
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor) -> HeatmapOutput | JudgedOutput:
        """(B, 3, H, W), with ``last_pose`` (B, 4, H, W), H and W multiples of 32, to (B, K, H / 4, W / 4), and quality
        (B,) if it was asked for."""
        features, coarse = self.trunk.levels(image)
        heatmap = self.head(features)
        if self.quality is None:
            return HeatmapOutput(heatmap)
        return JudgedOutput(heatmap, self.judged(highest(features), coarse))

    def judged(self, seen: Tensor, coarse: Tensor) -> Tensor:
        """(B,): the quality, of the maxima (B, C) of the last features and the trunk's map at stride 16."""
        assert self.quality is not None
        if self.judge is not None:
            seen = torch.cat([seen, highest(self.judge(coarse))], 1)
        return self.quality(seen)[:, 0]
