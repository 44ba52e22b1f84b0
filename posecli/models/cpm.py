"""Convolutional pose machine: stage after stage looks at the last guess and the picture again, ever more widely.

Wei, Ramakrishna, Kanade, Sheikh, "Convolutional Pose Machines", CVPR 2016, https://arxiv.org/abs/1602.00134 (Fig. 2).
Parameter names and details are those of open-mmlab/mmpose@759b39c (`mmpose/models/backbones/cpm.py`), which norms every
convolution but each stage's last and pools over 3x3; the paper's Caffe network has neither.

    g_1: image features x and beliefs b_1 (Eq. 1)        stage 1    receptive field 167
    g_t: features x', with b_(t-1), to beliefs b_t (Eq. 2)  stage t    167 + 240 (t - 1) input pixels

The paper's beliefs are P + 1 maps, the last for the background (Sec. 3.1); mmpose has P. Its picture of where the
person is (a fourth input) is left out, as in mmpose: a top-down crop has the person in its middle. Every stage is
compared with the same targets (Eq. 5, intermediate supervision).
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from posecli.models.layers import initialise, multiple_of, staged_output

torch.fx.wrap("multiple_of")


class ConvNorm(nn.Sequential):
    """Convolution that keeps the size, norm and ReLU; mmpose's names."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)


class Scores(nn.Sequential):
    """A stage's last convolution: 1x1, no norm."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 1)


class Stage(nn.Module):
    """Three 11x11 convolutions (Fig. 2d), before the two 1x1 of `CPM.out_convs`."""

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        self.model = nn.Sequential(*(ConvNorm(a, b, 11) for a, b in pairwise([channels_in, *[channels] * 3])))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


def _to_an_eighth(channels: int) -> list[nn.Module]:
    """Three times a 9x9 convolution and a pooling that halves the size."""
    layers: list[nn.Module] = []
    for channels_in in (3, channels, channels):
        layers += [ConvNorm(channels_in, channels, 9), nn.MaxPool2d(3, 2, 1)]
    return layers


class CPM(nn.Module):
    """The crop of one person to belief maps at an eighth of its size, one guess for each stage.

    Args:
        keypoints: P.
        stages: T (6 in the paper; 3 reach nearly as far, Sec. 4.1).
        background: "last" (the paper), "first", or None for no map of the background.
        channels: of the feature extractors' 9x9 convolutions. wide: of the 9x9 and the 1x1 convolution of stage 1.
        middle: of the features that a stage gets. features: of a later stage's convolutions.
    """

    stride = 8
    size_step = 8

    def __init__(
        self,
        keypoints: int,
        stages: int = 6,
        background: str | None = "last",
        channels: int = 128,
        wide: int = 512,
        middle: int = 32,
        features: int = 128,
    ):
        super().__init__()
        if background not in (None, "first", "last") or stages < 1:
            raise ValueError(f"background first, last or None and one or more stages wanted: {background!r}, {stages}")
        self.background = background
        maps = keypoints + (background is not None)
        self.stem = nn.Sequential(
            *_to_an_eighth(channels),
            ConvNorm(channels, middle, 5),
            ConvNorm(middle, wide, 9),
            ConvNorm(wide, wide, 1),
            Scores(wide, maps),
        )
        later = range(stages - 1)
        self.middle = nn.Sequential(*_to_an_eighth(channels))  # x', shared by all later stages
        self.cpm_stages = nn.ModuleList(Stage(middle + maps, features) for _ in later)
        self.middle_conv = nn.ModuleList(nn.Sequential(ConvNorm(channels, middle, 5)) for _ in later)
        self.out_convs = nn.ModuleList(
            nn.Sequential(ConvNorm(features, features, 1), Scores(features, maps)) for _ in later
        )
        initialise(self)
        for module in self.modules():
            if isinstance(module, Scores):
                nn.init.normal_(module.conv.weight, std=0.001)
        if not later:  # kept for its names, but no stage looks at it
            self.middle.requires_grad_(False)

    def forward(self, image: Tensor) -> Any:
        """(B, 3, H, W) to ``stage0``, ``stage1``, ...: (B, P or P + 1, H / 8, W / 8), multiples of 8 in H and W."""
        image = multiple_of(image, self.size_step, "CPM")
        beliefs = [self.stem(image)]
        if len(self.cpm_stages):
            features = self.middle(image)
            for stage, look, score in zip(self.cpm_stages, self.middle_conv, self.out_convs, strict=True):
                beliefs.append(score(stage(torch.cat([beliefs[-1], look(features)], 1))))
        return staged_output(*(f"stage{n}" for n in range(len(beliefs))))(*beliefs)
