"""Residual network trunks: an image to feature maps at strides 4, 8, 16 and 32.

He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, https://arxiv.org/abs/1512.03385.
`PaperResNet` is the published network, with torchvision's parameter names. `ResNet` is ours; it departs for speed on a
CPU: two 3x3 stem convolutions instead of a 7x7 and a max pooling; bottlenecks that halve the channels instead of
quartering them (fewer, denser maps); channel counts in multiples of 16.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
import torch.fx
from torch import Tensor, nn

from posecli.models.layers import Bottleneck, conv_norm, multiple_of

torch.fx.wrap("multiple_of")

#: Bottlenecks in the four stages (Table 1).
DEPTHS: dict[int, tuple[int, ...]] = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def depth_of(state: Mapping[str, Tensor], prefix: str = "") -> tuple[int, ...]:
    """Blocks in each of the four stages of a state dict whose trunk's names begin with ``prefix``."""
    counts = []
    for stage in range(1, 5):
        start = f"{prefix}layer{stage}."
        counts.append(len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)}))
    return tuple(counts)


class PaperResNet(nn.Module):
    """The published trunk (Table 1): 7x7 convolution, 3x3 max pooling, four stages of bottlenecks.

    Args:
        blocks: of the four stages (`DEPTHS`).
        width: of the stem and of the bottlenecks of the first stage (64 in the paper); it doubles with each stage.
        block: makes a bottleneck from ``(channels in, channels within, stride)``; a list has one for each stage.
    """

    size_step = 32

    def __init__(
        self,
        blocks: Sequence[int],
        width: int = 64,
        block: Callable[[int, int, int], nn.Module] | Sequence[Callable[[int, int, int], nn.Module]] = Bottleneck,
    ):
        super().__init__()
        makers = list(block) if isinstance(block, Sequence) else [block] * 4
        if len(blocks) != 4 or len(makers) != 4:
            raise ValueError(f"four stages wanted, got {list(blocks)}")
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = width
        for stage, (count, make) in enumerate(zip(blocks, makers, strict=True)):
            within = width * 2**stage
            layer = [make(channels, within, 1 if stage == 0 else 2)]
            channels = within * Bottleneck.expansion
            layer += [make(channels, within, 1) for _ in range(count - 1)]
            self.add_module(f"layer{stage + 1}", nn.Sequential(*layer))
        self.channels = channels

    def maps(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W), H and W multiples of 32, to four maps (B, 4 width 2^i, H / s, W / s), s = 4, 8, 16, 32."""
        x = self.conv1(multiple_of(image, self.size_step, "the network"))
        x = self.maxpool(self.relu(self.bn1(x)))
        maps = []
        for stage in range(1, 5):
            x = cast(nn.Module, self.get_submodule(f"layer{stage}"))(x)
            maps.append(x)
        return maps

    def forward(self, image: Tensor) -> Tensor:
        """The last of the `maps`."""
        return self.maps(image)[-1]


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
        self,
        widths: Sequence[int] = (64, 128, 256, 384),
        blocks: Sequence[int] = (2, 3, 4, 2),
        stem_channels: int = 32,
        channels_in: int = 3,
    ):
        super().__init__()
        if len(widths) != 4 or len(blocks) != 4:
            raise ValueError(f"four widths and four block counts wanted, got {list(widths)} and {list(blocks)}")
        self.widths = tuple(widths)
        self.stem = nn.Sequential(
            conv_norm(channels_in, stem_channels, 3, 2), conv_norm(stem_channels, widths[0], 3, 2)
        )
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
