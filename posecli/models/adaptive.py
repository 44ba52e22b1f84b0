"""DEKR's adaptive blocks as compiled C++, for inference on a CPU.

It takes the place of `models.dekr.AdaptiveBlocks` after its norm was folded, works on channels-last maps, and agrees
with it within rounding (Geng et al., CVPR 2021, Sec. 3.2; `models.deform.adaptive_conv_plain` is the definition).

In channels-last order the channels of one joint at one pixel lie side by side, so each corner of a bilinear sample is
one vector load, where `grid_sample` loads every channel by itself.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from posecli.models.compiled import build
from posecli.models.dekr import AdaptiveBlocks

#: Channels of a joint that there is room for.
MOST_CHANNELS = 16


class CompiledAdaptiveBlocks(nn.Module):
    """An adaptive block of every joint's branch, as C++ (``adaptive.cpp``).

    Args:
        block: whose parameters are taken; its norm is folded.
        dtype: of the maps that come and go; positions and samples are float32.

    Raises:
        PoseError: there is no C++ compiler.
        ValueError: a branch of more than 16 channels, or a norm that is not folded.
    """

    def __init__(self, block: AdaptiveBlocks, dtype: torch.dtype) -> None:
        super().__init__()
        weight = block.adapt_conv.weight.detach().float()  # (J c, c, 3, 3)
        channels = weight.shape[1]
        if not isinstance(block.bn, nn.Identity):
            raise ValueError("the norm of an adaptive block is to be folded first")
        if channels > MOST_CHANNELS:
            raise ValueError(f"compiled adaptive blocks take up to {MOST_CHANNELS} channels, not {channels}")
        self.dtype = dtype
        self.joints = len(weight) // channels
        self.geometry_conv = block.geometry_conv
        bias = block.adapt_conv.bias
        self.shift = torch.zeros(len(weight)) if bias is None else bias.detach().float()
        lanes = 1 << math.ceil(math.log2(channels))
        self.kernel = torch.zeros(self.joints, 9, channels, lanes)
        own = weight.view(self.joints, channels, channels, 9)
        self.kernel[..., :channels] = own.permute(0, 3, 2, 1)
        function = build("adaptive.cpp", CHANNELS=channels, LANES=lanes).adaptive_block
        function.restype = None
        function.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_int64] * 5
        self._function = cast("Callable[..., Any]", function)

    def forward(self, x: Tensor) -> Tensor:
        """(B, J c, h, w) to the same shape, channels last."""
        batch, channels, height, width = x.shape
        geometry = self.geometry_conv(x).float().permute(0, 2, 3, 1).contiguous()
        source = x.float().permute(0, 2, 3, 1).contiguous()
        out = torch.empty(batch, height, width, channels)
        places = (t.data_ptr() for t in (source, geometry, self.kernel, self.shift, out))
        self._function(*places, batch, height, width, self.joints, torch.get_num_threads())
        return out.permute(0, 3, 1, 2).to(self.dtype)
