"""Keypoints as numbers: coordinates relative to a box, for networks that regress them directly.

Toshev, Szegedy, "DeepPose: Human Pose Estimation via Deep Neural Networks", CVPR 2014,
https://arxiv.org/abs/1312.4659 (Sec. 3, Eq. 1: N(y; b) has the box's centre at 0 and its sides at -0.5 and 0.5).
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode_coords(xy: Tensor, box_xyxy: Tensor) -> Tensor:
    """Points (..., K, 2) to coordinates relative to boxes (..., 4): (y - centre) / (width, height) (Eq. 1)."""
    centre, size = _centre_and_size(box_xyxy)
    return (xy - centre) / size


def decode_coords(values: Tensor, box_xyxy: Tensor) -> Tensor:
    """The inverse of `encode_coords`: (..., K, 2) to pixels."""
    centre, size = _centre_and_size(box_xyxy)
    return values * size + centre


def _centre_and_size(box_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = box_xyxy[..., None, :2], box_xyxy[..., None, 2:]
    return (low + high) / 2, high - low


def input_box(size: tuple[int, int], like: Tensor) -> Tensor:
    """(4,) box of a whole network input of (width, height): the outer sides of its pixels."""
    return torch.tensor([-0.5, -0.5, size[0] - 0.5, size[1] - 0.5], device=like.device, dtype=like.dtype)
