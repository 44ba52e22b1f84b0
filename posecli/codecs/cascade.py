"""Coarse-to-fine heat maps: the place is that of the fine map's maximum, in a window around the coarse map's.

Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient Object Localization Using Convolutional Networks", CVPR 2015, Sec.
4.1 (place = coarse place + offset within the window) and Eq. 2 (targets G of the fine maps). The step within a pixel is
DARK's, which the paper does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from posecli.codecs.dark import decode_dark
from posecli.codecs.gaussian import highest_pixel

#: DARK's step is not trusted beyond this many pixels.
_LONGEST_STEP = 1.0


def encode_fine(xy: Tensor, corner: Tensor, window: int, sigma: float) -> Tensor:
    """Targets of the fine maps: a Gaussian of height 1 at the joint, as far as the window shows it.

    Args:
        xy: (B, K, 2) joints in input pixels. corner: (B, K, 2) the windows' first pixels.
        window: side of the windows. sigma: input pixels.

    Returns:
        (B, K, window, window); next to zero everywhere where the coarse network missed by more than the window.
    """
    steps = torch.arange(window, device=xy.device, dtype=xy.dtype)
    away = corner[..., None] + steps - xy[..., None]  # (B, K, 2, window)
    along = torch.exp(-away.square() / (2 * sigma**2))
    return along[:, :, 1, :, None] * along[:, :, 0, None, :]


def decode_cascade(heatmap: Tensor, fine: Tensor, corner: Tensor) -> tuple[Tensor, Tensor]:
    """Joints from coarse and fine maps.

    Args:
        heatmap: (B, K, h, w). fine: (B, K, n, n) at the input's resolution. corner: (B, K, 2) of their first pixels.

    Returns:
        (B, K, 2) x, y in input pixels: the window's middle where its fine map has no positive value; (B, K) scores, the
        maxima of the coarse maps.
    """
    fine = fine.float()
    pixel, height = highest_pixel(fine)
    place, _ = decode_dark(fine)
    place = torch.where((place - pixel).abs().amax(-1, keepdim=True) <= _LONGEST_STEP, place, pixel)
    middle = torch.full_like(place, (fine.shape[-1] - 1) / 2)
    place = torch.where((height > 0)[..., None], place, middle)
    return corner.float() + place, heatmap.float().flatten(2).amax(-1)


def merge_mirrored(
    found: tuple[Tensor, Tensor],
    mirrored: tuple[Tensor, Tensor],
    flip_index: Sequence[int] | np.ndarray,
    width: int,
    window: int,
) -> tuple[Tensor, Tensor]:
    """The flip test: the mean of the joints of an input and of its mirror image, and of their scores.

    The windows of the two lie where each run's coarse map led, so the places are averaged, not the maps. Where they are
    further apart than half a window (in x or in y) one run has lost the joint: the place of the higher score is taken.

    Args:
        found, mirrored: joints (B, K, 2) in input pixels and scores (B, K), as `decode_cascade` gives them.
        flip_index: (K,) the joint each joint becomes. width: of the input.
    """
    index = torch.as_tensor(np.asarray(flip_index), device=found[0].device)
    xy, score = mirrored[0][:, index], mirrored[1][:, index]
    xy = torch.stack([width - 1 - xy[..., 0], xy[..., 1]], dim=-1)
    better = torch.where((score > found[1])[..., None], xy, found[0])
    agreed = (xy - found[0]).abs().amax(-1, keepdim=True) <= window / 2
    return torch.where(agreed, (xy + found[0]) / 2, better), (score + found[1]) / 2
