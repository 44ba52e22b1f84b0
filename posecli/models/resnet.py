"""Residual network trunk: an image to feature maps at strides 4, 8, 16 and 32.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
Departures, all for speed on a CPU: two 3x3 stem convolutions instead of a 7x7 and a max pooling; bottlenecks that halve
the channels instead of quartering them (fewer, denser maps); channel counts in multiples of 16.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from posecli.models.layers import conv_norm


class HalfBottleneck(nn.Module):
    """1x1, 3x3, 1x1 with half the channels within, added to the input (Fig. 5 right; stride in the 3x3)."""

    def __init__(self, channels_in: int, channels_out: int, stride: int = 1):
        super().__init__()
        middle = channels_out // 2
        last = conv_norm(middle, channels_out, 1, relu=False)
        self.residual = nn.Sequential(conv_norm(channels_in, middle, 1), conv_norm(middle, middle, 3, stride), last)
        # The last scale starts at zero, so that every block starts as the identity (Goyal et al. 2017, Sec. 5.1).
        nn.init.zeros_(last[1].weight)  # type: ignore[arg-type]
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else conv_norm(channels_in, channels_out, 1, stride, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class ResNet(nn.Module):
    """Four stages of bottlenecks.

    `widths` are the channels of the maps at strides 4, 8, 16 and 32, `blocks` the bottlenecks of each stage.
    """

    def __init__(
        self, widths: Sequence[int] = (64, 128, 256, 384), blocks: Sequence[int] = (2, 3, 4, 2), stem_channels: int = 32
    ):
        super().__init__()
        if len(widths) != 4 or len(blocks) != 4:
            raise ValueError(f"four widths and four block counts wanted, got {list(widths)} and {list(blocks)}")
        self.widths = tuple(widths)
        self.stem = nn.Sequential(conv_norm(3, stem_channels, 3, 2), conv_norm(stem_channels, widths[0], 3, 2))
        stages, channels = [], widths[0]
        for index, (width, count) in enumerate(zip(widths, blocks, strict=True)):
            stage = [HalfBottleneck(channels, width, stride=1 if index == 0 else 2)]
            stage += [HalfBottleneck(width, width) for _ in range(count - 1)]
            stages.append(nn.Sequential(*stage))
            channels = width
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) to four maps (B, widths[i], H / s, W / s), s = 4, 8, 16, 32; H and W are multiples of 32."""
        x = self.stem(image)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return tuple(maps)
