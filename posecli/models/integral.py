"""Integral regression: any heat map network, and the mean place of each of its maps as the joint.

Sun, Xiao, Wei, Liang, Wei, "Integral Human Pose Regression", ECCV 2018, https://arxiv.org/abs/1711.08229 (Fig. 1, Eq. 2
and 3). Official code: JimmySuen/integral-human-pose@ad3f875 (`pytorch_projects/common_pytorch/blocks/resnet_pose.py`,
`common_loss/integral.py`). Two dimensions only.

    image (3, H, W) -> network -> H (K, h, w) -> softmax over the pixels -> P -> J = sum of p P(p) (K, 2)

The integral has no parameters and is differentiable, so the network learns from the joints' places alone (the paper's
I*, the codec `integral`), or from places and heat maps together (I1 and I3, setting ``integral_heat`` "gaussian" or
"softmax"). The same network with the codec `gaussian` is the detection baseline H1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional


class IntegralOutput(NamedTuple):
    """`heatmaps` (B, S, K, h, w): logits of each of S stages (one, where the network has no supervision within);
    `places` (B, S, K, 2): their joints as shares of the map, x and y from -0.5 to 0.5 (Eq. 2)."""

    heatmaps: Tensor
    places: Tensor

    @property
    def heatmap(self) -> Tensor:
        """(B, K, h, w), the last stage's, what is decoded."""
        return self.heatmaps[:, -1]

    @property
    def stages(self) -> tuple[Tensor, ...]:
        """The maps that are learnt from."""
        return self.heatmaps.unbind(1)


def soft_argmax(maps: Tensor, beta: float = 1.0) -> Tensor:
    """Maps (..., h, w) to the mean place of their softmax: (..., 2), ``x / w - 0.5, y / h - 0.5``, the paper's J."""
    height, width = maps.shape[-2:]
    wide = maps.to(torch.promote_types(maps.dtype, torch.float32))
    probability = functional.softmax(beta * wide.flatten(-2), dim=-1).view(maps.shape)  # Eq. 3
    x, y = expectation(probability).unbind(-1)
    return torch.stack([x / width, y / height], dim=-1) - 0.5


def expectation(probability: Tensor) -> Tensor:
    """Mean place (..., 2), x and y in map pixels, of distributions (..., h, w) (Eq. 2); differentiable.

    Sums and products only: a matrix product might be rounded to half precision (autocast), to an eighth of a pixel.
    """
    height, width = probability.shape[-2:]
    columns = torch.arange(width, device=probability.device, dtype=probability.dtype)
    rows = torch.arange(height, device=probability.device, dtype=probability.dtype)
    across, down = probability.sum(-2) * columns, probability.sum(-1) * rows
    return torch.stack([across.sum(-1), down.sum(-1)], dim=-1)


class IntegralPose(nn.Module):
    """A heat map network and the integral after it.

    Args:
        network: its output has ``heatmap`` (B, K, h, w) and, with supervision within, ``stages`` of that shape.
        beta: sharpness of the softmax: 1, as in the paper, unless the maps are taught as Gaussians of height 1 too.
    """

    def __init__(self, network: nn.Module, beta: float = 1.0):
        super().__init__()
        self.network = network
        self.beta = float(beta)
        self.stride = int(getattr(network, "stride", 4))
        self.size_step = int(getattr(network, "size_step", 1))

    def forward(self, image: Tensor) -> IntegralOutput:
        """(B, 3, H, W), of sizes that the network takes."""
        output: Any = self.network(image)
        maps = getattr(output, "heatmaps", None)  # all stages together already
        if maps is None:
            maps = torch.stack(list(getattr(output, "stages", (output.heatmap,))), dim=1)
        return IntegralOutput(maps, soft_argmax(maps, self.beta))
