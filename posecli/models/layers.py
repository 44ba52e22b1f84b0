"""Blocks that several papers share, and the output of networks that give one heat map for each keypoint.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
The names of parameters are those of the official HRNet, DEKR and SimpleBaseline code, so that released state dicts
fit (leoxiaobin/deep-high-resolution-net.pytorch@6f69e46, HRNet/DEKR@7a30313).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

#: Whether a network is being written as a file for other programs; before PyTorch 2.7, which tells the two apart, also
#: whether it is being compiled.
is_exporting: Callable[[], bool] = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)


class HeatmapOutput(NamedTuple):
    """`heatmap` (B, K, h, w): one map for each keypoint, raw scores whose meaning the codec knows."""

    heatmap: Tensor


@cache
def staged_output(*names: str) -> Any:
    """A named tuple type for networks with supervision within: a field (B, K, h, w) for each stage, in order.

    Its ``heatmap`` is the last stage's map, which is what is decoded; its ``stages`` are all maps that are compared
    with targets. Outputs of networks without such supervision have no ``stages``.
    """
    base = namedtuple("StagedOutput", names)  # type: ignore[misc]
    properties = {"heatmap": property(lambda self: self[-1]), "stages": property(tuple), "__slots__": ()}
    return type("StagedOutput", (base,), properties)


def multiple_of(image: Tensor, step: int, network: str) -> Tensor:
    """The image, if its height and width are multiples of ``step``; ValueError naming the network otherwise.

    A step of its own where a network is traced (`models.fast`), hence ``torch.fx.wrap`` in every module that calls it.
    """
    if image.shape[-1] % step or image.shape[-2] % step:
        raise ValueError(f"{network} takes heights and widths that are multiples of {step}, got {tuple(image.shape)}")
    return image


def highest(features: Tensor) -> Tensor:
    """(B, C, h, w) to (B, C): the maximum of each channel.

    A step of its own where a network is traced, as `multiple_of`: of whole numbers it is one of them (`models.int8`).
    """
    if features.dtype != torch.uint8:
        return features.amax((2, 3))
    # PyTorch compares pairs of bytes a vector at a time, but looks for the largest of many one by one.
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)
    while rows.shape[1] % 2 == 0:
        half = rows.shape[1] // 2
        rows = torch.maximum(rows[:, :half], rows[:, half:])
    return rows.amax(1)


def conv_norm(channels_in: int, channels_out: int, kernel: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Convolution without bias (``.0``), batch normalisation (``.1``), and a ReLU unless ``relu`` is false.

    Padding keeps the size at stride 1 and halves even sizes at stride 2.
    """
    parts: list[nn.Module] = [
        nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels_out),
    ]
    if relu:
        parts.append(nn.ReLU(inplace=True))
    return nn.Sequential(*parts)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions added to their input (Fig. 2 and Fig. 5 left), (B, C, h, w) to the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + x)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions added to the input (Fig. 5 right); gives 4 x ``channels`` channels.

    ``stride`` is that of the 3x3 convolution, or with ``caffe`` that of the first 1x1, as in the first Caffe models.
    """

    expansion = 4

    def __init__(self, channels_in: int, channels: int, stride: int = 1, caffe: bool = False):
        super().__init__()
        channels_out = channels * self.expansion
        first, second = (stride, 1) if caffe else (1, stride)
        self.conv1 = nn.Conv2d(channels_in, channels, 1, first, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, second, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.relu = nn.ReLU(inplace=True)
        same = stride == 1 and channels_in == channels_out
        self.downsample = nn.Identity() if same else conv_norm(channels_in, channels_out, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu(out + self.downsample(x))


def initialise(network: nn.Module) -> None:
    """He's initialisation (fan-out, ReLU) for every convolution, zeros for biases, identity for norms.

    The official code draws convolutions with deviation 0.001 and then loads ImageNet weights; without those weights
    He's rule is the one that trains.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
