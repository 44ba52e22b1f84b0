"""Integral regression: the joint is the mean place of a heat map taken as a distribution, not its highest pixel.

Sun, Xiao, Wei, Liang, Wei, "Integral Human Pose Regression", ECCV 2018, https://arxiv.org/abs/1711.08229 (Eq. 2 and 3).
Official code: JimmySuen/integral-human-pose@ad3f875 (`pytorch_projects/common_pytorch/common_loss/integral.py`);
AlphaPose's variant with sigmoid: MVIG-SJTU/AlphaPose@c60106d (`alphapose/utils/transforms.py`,
`heatmap_to_coord_simple_regress`).

Coordinates here are map pixels; `normalised` turns them into the paper's, ``u / w - 0.5``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from posecli.models.integral import expectation

__all__ = ["decode_integral", "distribution", "expectation", "integral_l1", "normalised"]


def distribution(maps: Tensor, norm: str = "softmax", beta: float = 1.0) -> Tensor:
    """Maps (..., h, w) of any sign as distributions over their pixels: (..., h, w) that sum to one.

    Args:
        maps: float tensor, at least float32 is computed in.
        norm: "softmax" of ``beta`` times the values (Eq. 3); "sigmoid" of the values, divided by the sum; "rectified":
            negative values taken for 0, divided by the sum (a map without a positive value becomes uniform).
        beta: sharpness of the softmax; 1 in the paper.
    """
    flat = maps.flatten(-2).to(torch.promote_types(maps.dtype, torch.float32))
    if norm == "softmax":
        result = (beta * flat).softmax(-1)
    elif norm == "sigmoid":
        result = flat.sigmoid()
        result = result / result.sum(-1, keepdim=True)
    elif norm == "rectified":
        result = flat.clamp(min=0)
        total = result.sum(-1, keepdim=True)
        result = torch.where(total > 0, result / total.clamp(min=torch.finfo(flat.dtype).tiny), 1 / flat.shape[-1])
    else:
        raise ValueError(f"norm {norm!r}: softmax, sigmoid or rectified wanted")
    return result.view(maps.shape)


def normalised(xy: Tensor, size: tuple[int, int]) -> Tensor:
    """Map pixels (..., 2) to the official coordinates ``(x / w - 0.5, y / h - 0.5)``; ``size`` is (w, h)."""
    return xy / torch.tensor(size, device=xy.device, dtype=xy.dtype) - 0.5


def decode_integral(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Keypoints as the mean place of maps (B, K, h, w) whose negative values count as 0.

    Returns:
        (B, K, 2) x, y in map pixels; (B, K) scores, the maxima of the maps.
    """
    return expectation(distribution(maps, "rectified")), maps.flatten(2).amax(-1)


def integral_l1(xy: Tensor, target: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Sum of the absolute errors in x and in y, each as a share of the map (the official `L1JointLocationLoss`).

    Args:
        xy, target: (B, K, 2) map pixels. weight: (B, K), 0 where a joint has no label. size: (w, h) of the map.
    """
    extent = torch.tensor(size, device=xy.device, dtype=xy.dtype)
    return (((xy - target) / extent).abs().sum(-1) * weight).sum()
