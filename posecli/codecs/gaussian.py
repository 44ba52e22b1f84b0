"""Heat maps as Gaussians of height 1: targets, decoding by the highest pixel, and the top-down flip test.

Tompson, Jain, LeCun, Bregler, "Joint Training of a Convolutional Network and a Graphical Model for Human Pose
Estimation", NIPS 2014 (the target); Newell, Yang, Deng, "Stacked Hourglass Networks for Human Pose Estimation", ECCV
2016 (Sec. 3, the quarter pixel towards the higher neighbour). Rules as in
leoxiaobin/deep-high-resolution-net.pytorch@6f69e46 (`lib/dataset/JointsDataset.py`, `lib/core/inference.py`,
`lib/core/evaluate.py`); SimpleBaseline has the same.

Coordinates: map pixel u is input pixel ``stride u``. The way to image pixels is `posecli.codecs.affine.hrnet_matrix`
of the map's size, inverted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def encode_gaussian(
    xy: np.ndarray,
    weight: np.ndarray,
    input_size: tuple[int, int],
    heatmap_size: tuple[int, int],
    sigma: float = 2.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Targets with the Gaussian centred on a pixel ("biased"), as HRNet is trained.

    Args:
        xy: (..., 2) input pixels; any leading shape.
        weight: (...) 1 for joints with a label, 0 without.
        input_size, heatmap_size: (width, height).
        sigma: map pixels.

    Returns:
        maps (..., h, w) float32: a square of 6 sigma + 1 pixels with its peak of 1 at the rounded position; and the
        weights (...) float32, 0 where the square lies outside the map. A joint without label has an empty map.
    """
    width, height = heatmap_size
    stride = np.asarray(input_size, dtype=np.float64) / np.asarray(heatmap_size)
    # int(x / stride + 0.5) of the official code cuts towards zero, so -0.4 and 0.4 both become 0.
    centre = np.trunc(np.asarray(xy, dtype=np.float64) / stride + 0.5)
    low, high = np.trunc(centre - 3 * sigma), np.trunc(centre + 3 * sigma + 1)
    outside = ((low >= np.array([width, height])) | (high < 0)).any(-1)
    weight = np.where(outside, 0, np.asarray(weight)).astype(np.float32)
    along = []
    for axis, size in ((0, width), (1, height)):
        pixel = np.arange(size, dtype=np.float64)
        at, end = low[..., axis, None], high[..., axis, None]
        # The official code counts from the square's corner to its middle, which is the centre where 3 sigma is a whole
        # number, as there; at 1.4 or 1.7 it would be the pixel before.
        value = np.exp(-((pixel - centre[..., axis, None]) ** 2) / (2 * sigma**2))
        along.append(np.where((pixel >= at) & (pixel < end), value, 0))
    maps = along[1][..., :, None] * along[0][..., None, :]
    return (maps * (weight > 0.5)[..., None, None]).astype(np.float32), weight


def highest_pixel(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """Place and value of each map's maximum.

    Args:
        heatmap: (B, K, h, w).

    Returns:
        (B, K, 2) x, y in map pixels (float), the first of equal maxima, (0, 0) where no value is positive; (B, K)
        maxima.
    """
    width = heatmap.shape[-1]
    flat = heatmap.flatten(2)
    score = flat.amax(-1)
    # argmax does not promise the first of equal values on every device.
    places = torch.arange(flat.shape[-1], device=flat.device)
    index = torch.where(flat == score[..., None], places, flat.shape[-1]).amin(-1)
    index = torch.where(score > 0, index, 0)
    xy = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return xy.to(torch.promote_types(heatmap.dtype, torch.float32)), score


def decode_gaussian(heatmap: Tensor, shift: bool = True) -> tuple[Tensor, Tensor]:
    """Keypoints from heat maps, batched on the device of the maps.

    Args:
        heatmap: (B, K, h, w).
        shift: move a quarter pixel towards the higher neighbour, in x and y (not at equal neighbours; only where
            1 < x < w - 1 and 1 < y < h - 1).

    Returns:
        (B, K, 2) x, y in map pixels and (B, K) scores, the maxima.
    """
    xy, score = highest_pixel(heatmap)
    if shift:
        height, width = heatmap.shape[-2:]
        x, y = xy[..., 0].long(), xy[..., 1].long()
        inside = (x > 1) & (x < width - 1) & (y > 1) & (y < height - 1)
        across, down = neighbour_differences(heatmap, x, y)
        xy = xy + torch.stack([across.sign(), down.sign()], dim=-1) * (inside[..., None] * 0.25)
    return xy, score


def neighbour_differences(maps: Tensor, x: Tensor, y: Tensor, step: int = 1) -> tuple[Tensor, Tensor]:
    """Right minus left and lower minus upper value at pixels (B, K) of maps (B, K, h, w); clamped at the border."""
    right, left = pixel_values(maps, x + step, y), pixel_values(maps, x - step, y)
    below, above = pixel_values(maps, x, y + step), pixel_values(maps, x, y - step)
    return right - left, below - above


def pixel_values(maps: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """(B, K) values of maps (B, K, h, w) at integer pixels (B, K), clamped into the map."""
    height, width = maps.shape[-2:]
    index = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    return maps.flatten(2).gather(2, index[..., None])[..., 0]


def mirror_heatmap(heatmap: Tensor, flip_index: Sequence[int] | np.ndarray | Tensor) -> Tensor:
    """Maps (B, K, h, w) of a mirrored input as if of the input itself: mirrored back, left and right joints swapped.

    Args:
        heatmap: of the mirrored input.
        flip_index: (K,) the joint each joint becomes (`Skeleton.flip_index`).
    """
    index = torch.as_tensor(np.asarray(flip_index), device=heatmap.device)
    return heatmap[:, index].flip(-1)


def average_flipped(
    heatmap: Tensor, mirrored: Tensor, flip_index: Sequence[int] | np.ndarray | Tensor, shift: bool = True
) -> Tensor:
    """The top-down flip test: mean of the maps of an input and of its mirror image.

    With ``shift`` the mirrored maps are first moved one pixel to the right, their first column kept (HRNet's
    `SHIFT_HEATMAP`): map pixel u lies on input pixel 4 u, in the mirrored input on W - 1 - 4 u = 4 (w - 1 - u) + 3, so
    that unshifted maps miss each other by three quarters of a map pixel, shifted ones by a quarter.
    """
    mirrored = mirror_heatmap(mirrored, flip_index)
    if shift:
        mirrored = torch.cat([mirrored[..., :1], mirrored[..., :-1]], dim=-1)
    return (heatmap + mirrored) * 0.5


def heatmap_accuracy(heatmap: Tensor, target: Tensor, threshold: float = 0.5) -> tuple[float, Tensor, int]:
    """Share of joints whose highest pixel lies close to that of the target; HRNet's number during training.

    The distance is scaled by (h / 10, w / 10) for (x, y) - in that order, as in the official code - and compared by
    ``<``; targets with x <= 1 or y <= 1 are left out. For results meant to be published use `posecli evaluate`.

    Args:
        heatmap, target: (B, K, h, w).

    Returns:
        mean over joints, (K,) float64 shares (-1 without valid target), number of joints with valid targets.
    """
    found, _ = highest_pixel(heatmap)
    wanted, _ = highest_pixel(target)
    height, width = heatmap.shape[-2:]
    unit = torch.tensor([height, width], device=found.device) / 10
    distance = ((found - wanted) / unit).norm(dim=-1)
    valid = (wanted > 1).all(-1)
    count = valid.sum(0).cpu()
    share = ((distance < threshold) & valid).sum(0).cpu() / count.clamp(min=1).double()
    share = torch.where(count > 0, share, -torch.ones_like(share))
    joints = int((count > 0).sum())
    return (float(share[count > 0].mean()) if joints else 0.0), share, joints
