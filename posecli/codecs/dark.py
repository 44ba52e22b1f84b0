"""DARK: heat maps without quantisation, encoded at the true place and decoded by a Newton step on their logarithm.

Zhang, Zhu, Dai, Ye, Zhu, "Distribution-Aware Coordinate Representation for Human Pose Estimation", CVPR 2020,
https://arxiv.org/abs/1910.06278. Official code: ilovepose/DarkPose@0185b42 (`lib/core/inference.py`,
`lib/dataset/JointsDataset.py`).

Coordinates: first and last pixels of map, input and image crop correspond (`posecli.codecs.affine.dark_matrix`), so map
pixel u is input pixel ``u (W - 1) / (w - 1)``.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from posecli.codecs.gaussian import highest_pixel, neighbour_differences, pixel_values


def encode_dark(
    xy: np.ndarray, weight: np.ndarray, heatmap_size: tuple[int, int], sigma: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Targets centred on the exact position ("unbiased", Sec. 3.2), over the whole map.

    Args:
        xy: (..., 2) map pixels, fractional.
        weight: (...) 1 for joints with a label, 0 without.
        heatmap_size: (width, height).
        sigma: map pixels.

    Returns:
        maps (..., h, w) float32; and weights (...) float32, 0 where the box of 3 sigma around the joint (corners cut
        towards zero) misses the map. Those joints and joints without label have an empty map.
    """
    width, height = heatmap_size
    xy = np.asarray(xy, dtype=np.float64)
    low, high = np.trunc(xy - 3 * sigma), np.trunc(xy + 3 * sigma + 1)
    outside = ((low >= np.array([width, height])) | (high < 0)).any(-1)
    weight = np.where(outside, 0, np.asarray(weight)).astype(np.float32)
    across = np.exp(-((np.arange(width) - xy[..., :1]) ** 2) / (2 * sigma**2))
    down = np.exp(-((np.arange(height) - xy[..., 1:]) ** 2) / (2 * sigma**2))
    maps = down[..., :, None] * across[..., None, :]
    return (maps * (weight > 0.5)[..., None, None]).astype(np.float32), weight


@lru_cache(maxsize=8)
def gaussian_taps(size: int) -> tuple[float, ...]:
    """OpenCV's Gaussian of that size with sigma 0: fixed values up to 7, else sigma 0.3 ((size - 1) / 2 - 1) + 0.8."""
    import cv2

    return tuple(float(v) for v in cv2.getGaussianKernel(size, 0)[:, 0])


def blur(heatmap: Tensor, kernel: int = 11) -> Tensor:
    """Smooths maps (B, K, h, w) with zeros outside, then rescales each to its old maximum (Sec. 3.2, Eq. 10).

    A map without a positive value is smoothed and rescaled too (its maximum is then not positive): nothing is found in
    it either way. Computed in float32 or better.
    """
    maps = heatmap.to(torch.promote_types(heatmap.dtype, torch.float32))
    taps = torch.tensor(gaussian_taps(kernel), device=maps.device, dtype=maps.dtype)
    batch, count, height, width = maps.shape
    smooth = maps.reshape(batch * count, 1, height, width)
    smooth = functional.conv2d(smooth, taps.view(1, 1, 1, -1), padding=(0, kernel // 2))
    smooth = functional.conv2d(smooth, taps.view(1, 1, -1, 1), padding=(kernel // 2, 0))
    smooth = smooth.view(batch, count, height, width)
    return smooth * (maps.amax((-2, -1), keepdim=True) / smooth.amax((-2, -1), keepdim=True))


def smoothing(sigma: float) -> int:
    """The odd kernel size that goes with the targets' sigma: 3, 11 and 17 at 1, 2 and 3 map pixels, as the official
    configurations have it. Too wide a kernel costs more than the step gains (`benchmarks/quarter_dark.py`).
    """
    return max(3, 2 * int((7 * sigma - 4) // 2) + 1)


def decode_dark(heatmap: Tensor, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """Keypoints from heat maps by the highest pixel and one Newton step (Eq. 9), batched on the device of the maps.

    Args:
        heatmap: (B, K, h, w).
        kernel: odd size of the smoothing; see `smoothing`.

    Returns:
        (B, K, 2) x, y in map pixels, (B, K) scores: the maxima of the maps as they came. Where the highest pixel lies
        closer than two pixels to the border, or the second derivatives are singular, the pixel itself is given.
    """
    xy, score = highest_pixel(heatmap)
    height, width = heatmap.shape[-2:]
    x, y = xy[..., 0].long(), xy[..., 1].long()
    log = blur(heatmap, kernel).clamp(min=1e-10).log()
    dx, dy = (0.5 * d for d in neighbour_differences(log, x, y))
    here = pixel_values(log, x, y)
    dxx = 0.25 * (pixel_values(log, x + 2, y) - 2 * here + pixel_values(log, x - 2, y))
    dyy = 0.25 * (pixel_values(log, x, y + 2) - 2 * here + pixel_values(log, x, y - 2))
    dxy = 0.25 * (
        pixel_values(log, x + 1, y + 1)
        - pixel_values(log, x + 1, y - 1)
        - pixel_values(log, x - 1, y + 1)
        + pixel_values(log, x - 1, y - 1)
    )
    determinant = dxx * dyy - dxy * dxy
    usable = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2) & (determinant != 0)
    safe = torch.where(usable, determinant, torch.ones_like(determinant))
    step = torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], dim=-1) / safe[..., None]
    return torch.where(usable[..., None], xy - step.to(xy.dtype), xy), score
