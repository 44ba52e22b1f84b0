"""UDP: first and last pixels of input and map correspond, and DARK's step is taken with finer differences.

Huang, Zhu, Guo, Huang, "The Devil is in the Details: Delving into Unbiased Data Processing for Human Pose Estimation",
CVPR 2020, https://arxiv.org/abs/1911.07524 (Sec. 4). Rules as in open-mmlab/mmpose@759b39c
(`mmpose/codecs/udp_heatmap.py`, `codecs/utils/gaussian_heatmap.py`, `codecs/utils/refinement.py`).

Coordinates: map pixel u is input pixel ``u (W - 1) / (w - 1)``; so a mirrored input gives exactly the mirrored map.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from posecli.codecs.dark import blur
from posecli.codecs.gaussian import highest_pixel, pixel_values


def encode_udp(
    xy: np.ndarray, weight: np.ndarray, heatmap_size: tuple[int, int], sigma: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Targets centred on the exact position, in the square of 6 sigma + 1 pixels around the nearest pixel.

    Args:
        xy: (..., 2) map pixels, fractional.
        weight: (...) 1 for joints with a label, 0 without.
        heatmap_size: (width, height).
        sigma: map pixels.

    Returns:
        maps (..., h, w) float32; and weights (...) float32, 0 where the square lies outside the map. Those joints and
        joints without label have an empty map.
    """
    width, height = heatmap_size
    xy = np.asarray(xy, dtype=np.float64)
    radius = 3 * sigma
    centre = np.trunc(xy + 0.5)
    low, high = np.trunc(centre - radius), np.trunc(centre + radius + 1)
    outside = ((low >= np.array([width, height])) | (high < 0)).any(-1)
    weight = np.where(outside, 0, np.asarray(weight)).astype(np.float32)
    along = []
    for axis, size in ((0, width), (1, height)):
        pixel = np.arange(size, dtype=np.float64)
        value = np.exp(-((pixel - xy[..., axis, None]) ** 2) / (2 * sigma**2))
        along.append(np.where((pixel >= low[..., axis, None]) & (pixel < high[..., axis, None]), value, 0))
    maps = along[1][..., :, None] * along[0][..., None, :]
    return (maps * (weight > 0.5)[..., None, None]).astype(np.float32), weight


def decode_udp(heatmap: Tensor, kernel: int = 11) -> tuple[Tensor, Tensor]:
    """Keypoints by the highest pixel and one Newton step on the logarithm, everywhere in the map.

    As `dark.decode_dark`, but the second derivatives are differences of direct neighbours, the map goes on beyond its
    border with the border's values, and the logarithm's argument is kept between 0.001 and 50.

    Args:
        heatmap: (B, K, h, w).
        kernel: odd size of the smoothing, 11 for sigma 2.

    Returns:
        (B, K, 2) x, y in map pixels, (B, K) scores: the maxima of the maps as they came.
    """
    xy, score = highest_pixel(heatmap)
    log = blur(heatmap, kernel).clamp(1e-3, 50.0).log()
    x, y = xy[..., 0].long(), xy[..., 1].long()

    def at(dx: int, dy: int) -> Tensor:
        return pixel_values(log, x + dx, y + dy)  # clamped into the map: the border's values go on

    here = at(0, 0)
    dx, dy = 0.5 * (at(1, 0) - at(-1, 0)), 0.5 * (at(0, 1) - at(0, -1))
    dxx, dyy = at(1, 0) - 2 * here + at(-1, 0), at(0, 1) - 2 * here + at(0, -1)
    dxy = 0.5 * (at(1, 1) - at(1, 0) - at(0, 1) + 2 * here - at(-1, 0) - at(0, -1) + at(-1, -1))
    least = torch.finfo(torch.float32).eps  # as mmpose, which inverts the matrix with this on its diagonal
    dxx, dyy = dxx + least, dyy + least
    determinant = dxx * dyy - dxy * dxy
    usable = (determinant != 0) & (score > 0)
    safe = torch.where(usable, determinant, torch.ones_like(determinant))
    step = torch.stack([dyy * dx - dxy * dy, dxx * dy - dxy * dx], dim=-1) / safe[..., None]
    return torch.where(usable[..., None], xy - step.to(xy.dtype), xy), score
