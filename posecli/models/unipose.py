"""UniPose: a dilated ResNet, a waterfall of dilated convolutions over it, and a small decoder.

Artacho, Savakis, "UniPose: Unified Human Pose Estimation in Single Images and Videos", CVPR 2020,
https://arxiv.org/abs/2001.08095 (Fig. 2 the whole, Fig. 3 WASP, Fig. 4 the decoder). Parameter names and details are
those of bmartacho/UniPose@bf53632 (`model/`).

    image -> ResNet-101 at stride 16 -> WASP (256) -> enlarged, with 48 channels of the trunk's first stage -> heat maps

Where the official code departs from the paper's figures we follow the code, on which the published weights rest:
WASP's first branch is a 1x1 convolution (its dilation of 24 has no meaning), the branches pass one and the same 1x1
convolution twice without a norm or an activation, and the low-level features are pooled: heat maps have stride 8.
The first of the maps is that of the background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import HeatmapOutput, conv_norm, initialise, multiple_of
from posecli.models.resnet import PaperResNet

torch.fx.wrap("multiple_of")

#: Of the three blocks of the trunk's last stage, whose stride is 1 (a multi-grid, 1, 2, 4, on a dilation of 2).
_LAST_DILATIONS = (2, 4, 8)
#: Of WASP's second to fourth branch, one after the other (Sec. 3.1).
_WATERFALL = (18, 12, 6)


def _dilated(trunk: PaperResNet) -> PaperResNet:
    """A trunk whose last stage keeps the size and looks further: stride 16 instead of 32."""
    for number, block in enumerate(trunk.get_submodule("layer4").children()):
        dilation = _LAST_DILATIONS[number % len(_LAST_DILATIONS)]
        convolution = block.get_submodule("conv2")
        assert isinstance(convolution, nn.Conv2d)
        convolution.stride, convolution.dilation, convolution.padding = (1, 1), (dilation,) * 2, (dilation,) * 2
        if isinstance(shortcut := block.get_submodule("downsample"), nn.Sequential):
            first = shortcut[0]
            assert isinstance(first, nn.Conv2d)
            first.stride = (1, 1)
    return trunk


class Atrous(nn.Module):
    """Convolution, norm, ReLU; ``dilation`` 0 for a 1x1."""

    def __init__(self, channels_in: int, channels: int, dilation: int = 0):
        super().__init__()
        kernel = 3 if dilation else 1
        self.atrous_conv = nn.Conv2d(
            channels_in, channels, kernel, padding=dilation, dilation=max(dilation, 1), bias=False
        )
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.atrous_conv(x)))


class WASP(nn.Module):
    """Waterfall atrous spatial pooling (Fig. 3): each branch starts from the one before, and the picture's mean."""

    def __init__(self, channels_in: int, channels: int, pool_norm: bool = True):
        super().__init__()
        self.aspp1 = Atrous(channels_in, channels)
        self.aspp2, self.aspp3, self.aspp4 = (Atrous(channels, channels, dilation) for dilation in _WATERFALL)
        # UniPose-LSTM has no norm here.
        pooled = conv_norm(channels_in, channels, 1)
        self.global_avg_pool = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), *(pooled if pool_norm else (pooled[0], nn.ReLU()))
        )
        self.conv1 = nn.Conv2d(5 * channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 1, bias=False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        branch = x
        for atrous in (self.aspp1, self.aspp2, self.aspp3, self.aspp4):
            branch = atrous(branch)
            branches.append(self.conv2(self.conv2(branch)))
        branches.append(self.global_avg_pool(x).expand_as(branch))
        return self.dropout(functional.relu(self.bn1(self.conv1(torch.cat(branches, 1)))))


class Decoder(nn.Module):
    """WASP's features enlarged to those of the trunk's first stage, and heat maps from both (Fig. 4)."""

    def __init__(self, low_channels: int, channels: int, maps: int, reduced: int):
        super().__init__()
        self.conv1 = nn.Conv2d(low_channels, reduced, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(reduced)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.last_conv = nn.Sequential(
            *conv_norm(channels + reduced, channels, 3),
            nn.Dropout(0.5),
            *conv_norm(channels, channels, 3),
            nn.Dropout(0.1),
            nn.Conv2d(channels, maps, 1),
        )

    def forward(self, x: Tensor, low: Tensor) -> Tensor:
        low = self.maxpool(functional.relu(self.bn1(self.conv1(low))))
        x = functional.interpolate(x, size=low.shape[-2:], mode="bilinear", align_corners=True)
        return self.last_conv(torch.cat([x, low], 1))


class UniPose(nn.Module):
    """The crop of one person to heat maps of the background and of each keypoint, at an eighth of its size.

    Args:
        keypoints: K.
        blocks: of the trunk's four stages (ResNet-101, but three blocks in the last stage whatever the trunk).
        width: of the trunk's first stage (64 in the paper).
        channels: of WASP and the decoder (256). reduced: of the low-level features in the decoder (48).
        dropout: whether training drops features as the official code (0.5 after WASP, 0.5 and 0.1 in the decoder).
        pool_norm: whether a norm follows the convolution of the picture's mean.
    """

    stride = 8
    size_step = 16
    background = "first"

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
        channels: int = 256,
        reduced: int = 48,
        dropout: bool = True,
        pool_norm: bool = True,
    ):
        super().__init__()
        self.backbone = _dilated(PaperResNet(blocks, width))
        self.wasp = WASP(self.backbone.channels, channels, pool_norm)
        self.decoder = Decoder(4 * width, channels, keypoints + 1, reduced)
        initialise(self)
        # Maps are empty at first, as their targets nearly are: otherwise the first epochs go into unlearning noise.
        nn.init.normal_(cast(nn.Conv2d, self.decoder.last_conv[-1]).weight, std=0.001)
        if not dropout:
            for module in self.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0

    def forward(self, image: Tensor) -> HeatmapOutput:
        """(B, 3, H, W), multiples of 16, to heatmap (B, K + 1, H / 8, W / 8)."""
        image = multiple_of(image, self.size_step, "UniPose")
        trunk = self.backbone
        x = trunk.layer1(trunk.maxpool(trunk.relu(trunk.bn1(trunk.conv1(image)))))  # type: ignore[operator]
        features = trunk.layer4(trunk.layer3(trunk.layer2(x)))  # type: ignore[operator]
        return HeatmapOutput(self.decoder(self.wasp(features), x))
