"""Heat maps as distributions: keypoints to normalised Gaussians, logits to keypoints, and the loss between the two.

The network gives a logit for every pixel of a keypoint's map; softmax over the pixels is the distribution of the place.
Targets are Gaussians that sum to one, compared by cross-entropy. Learns several times faster from little data than mean
squared error on unnormalised maps, where the empty background dominates early training.

Map pixel u covers the input pixels stride u .. stride u + stride - 1, so its centre is the input point
stride u + (stride - 1) / 2: with this choice a mirrored input gives exactly the mirrored map.
"""

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def encode_softmax(xy: Tensor, size: tuple[int, int], stride: int, sigma: float) -> Tensor:
    """Points (..., 2) in input pixels to Gaussians (..., h, w), each summing to one; `size` is (w, h) of the map.

    `sigma` is in map pixels. A point outside the map gives the part of its Gaussian that falls inside, normalised.
    """
    width, height = size
    uv = (xy - (stride - 1) / 2) / stride
    columns = torch.arange(width, device=xy.device, dtype=xy.dtype)
    rows = torch.arange(height, device=xy.device, dtype=xy.dtype)
    # Softmax of the exponent equals the normalised Gaussian and can't divide by an underflowed zero.
    across = torch.softmax(-((columns - uv[..., :1]) ** 2) / (2 * sigma**2), dim=-1)
    down = torch.softmax(-((rows - uv[..., 1:]) ** 2) / (2 * sigma**2), dim=-1)
    return down[..., :, None] * across[..., None, :]


def decode_softmax(logits: Tensor, stride: int, reach: int = 2) -> tuple[Tensor, Tensor]:
    """Logits (B, K, h, w) to points (B, K, 2) in input pixels and scores (B, K) in 0..1.

    The place is the mean of the distribution in a window of `reach` pixels around its highest pixel (the mode,
    refined); the score is the probability that falls into the window. Float32 logits on a CPU that need no gradient
    are read by `decode_softmax_here`, which gives the same within rounding.
    """
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and not logits.requires_grad:
        here, scores = decode_softmax_here(logits.numpy(), reach)
        here = here * stride + (stride - 1) / 2  # of float32 still
        return torch.from_numpy(here), torch.from_numpy(scores)
    uv, mass = decode_softmax_there(logits, reach)
    return uv * stride + (stride - 1) / 2, mass


def decode_softmax_here(logits: np.ndarray, reach: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """As `decode_softmax_there`, of float32 arrays and without threads: maps are small, and threads that wait for each
    other cost as much time as the reading."""
    batch, count, _, width = logits.shape
    flat = flat_maps(logits)
    place = flat.argmax(1)
    uv, around = read_windows(flat, np.arange(len(flat)), place, width, reach)
    return uv.reshape(batch, count, 2), (around / total_here(flat, place)).reshape(batch, count)


def flat_maps(logits: np.ndarray) -> np.ndarray:
    """Maps (B, K, h, w) as new rows (B K, h w) float32."""
    batch, count, height, width = logits.shape
    flat = np.empty((batch * count, height * width), np.float32)
    for person, own in zip(logits, flat.reshape(batch, count, -1), strict=True):
        # Networks give channels last, which OpenCV brings into order four times as quickly as numpy.
        if count > 1 and person.strides[0] == person.itemsize:
            cv2.transpose(person.transpose(1, 2, 0).reshape(-1, count), dst=own)
        else:
            own[:] = person.reshape(count, -1)
    return flat


def read_windows(
    flat: np.ndarray, whose: np.ndarray, place: np.ndarray, width: int, reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows of `reach` pixels around places in maps.

    Args:
        flat: (N, h w) logits. whose, place: (M,) which map, and which pixel of it. width: of the maps.

    Returns:
        (M, 2) float32 mean places of the windows, map pixels, and (M,) their sums, as multiples of the probability at
        the place: pixels beyond the border count nothing.
    """
    height = flat.shape[1] // width
    row, column = np.divmod(place, width)
    # Windows lie beside each other along the last axis: numpy sums along the first ones several times as quickly, and
    # each window's sum is the same however many there are.
    offset = np.arange(-reach, reach + 1)[:, None]
    rows, columns = row + offset, column + offset
    index = rows.clip(0, height - 1)[:, None] * width + columns.clip(0, width - 1)
    weight = flat[whose, index] - flat[whose, place]
    np.exp(weight, out=weight)
    weight *= ((rows >= 0) & (rows < height))[:, None]
    weight *= (columns >= 0) & (columns < width)
    shift = offset.astype(np.float32)
    by_column, by_row = weight.sum(0), weight.sum(1)
    some = by_column.sum(0)  # at least 1, the place itself
    uv = np.stack([column + (by_column * shift).sum(0) / some, row + (by_row * shift).sum(0) / some], 1)
    return uv.astype(np.float32), some


def total_here(flat: np.ndarray, place: np.ndarray) -> np.ndarray:
    """(N,) sums of the maps (N, h w), as multiples of the probability at their highest pixels; the maps are used up."""
    flat -= flat[np.arange(len(flat)), place][:, None]
    return np.exp(flat, out=flat).sum(1)


def decode_softmax_there(logits: Tensor, reach: int = 2) -> tuple[Tensor, Tensor]:
    """Logits (B, K, h, w) to points (B, K, 2) in map pixels and scores (B, K), on their device."""
    # Of a distribution only the window is wanted: its exponents, less the logarithm of the sum of all.
    flat = logits.flatten(2).float()
    total = flat.logsumexp(dim=-1)
    place, window, shift = _windows(flat, logits.shape[-1], reach, outside=-torch.inf)
    return _mean_place(place, (window - total[..., None, None]).exp(), shift)


def decode_local_mean(maps: Tensor, reach: int = 2) -> tuple[Tensor, Tensor]:
    """The mean place in a window of `reach` pixels around the highest pixel of maps (B, K, h, w); negative values count
    as 0.

    Returns:
        (B, K, 2) map pixels and (B, K) sums of the window, of a distribution the probability that falls into it.
    """
    place, window, shift = _windows(maps.flatten(2), maps.shape[-1], reach, outside=0)
    return _mean_place(place, window.clamp(min=0), shift)


def _windows(flat: Tensor, width: int, reach: int, outside: float) -> tuple[Tensor, Tensor, Tensor]:
    """Maps (B, K, h w) around their highest pixels: these (B, K, 2), the windows (B, K, side, side), places in them
    (side,) from the middle. Windows keep their size at the border; pixels beyond it have the value ``outside``."""
    height = flat.shape[-1] // width
    best = flat.argmax(dim=-1)
    column, row = best % width, best // width
    offset = torch.arange(-reach, reach + 1, device=flat.device)
    rows = (row[..., None] + offset)[..., :, None]
    columns = (column[..., None] + offset)[..., None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    window = flat.gather(2, index.flatten(2)).view(index.shape)
    return torch.stack([column, row], dim=-1), torch.where(inside, window, outside), offset.to(flat.dtype)


def _mean_place(place: Tensor, window: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Mean places (B, K, 2) of windows that hold no negative values, and their sums (B, K)."""
    mass = window.sum(dim=(-2, -1))
    some = mass.clamp(min=torch.finfo(window.dtype).tiny)
    u = place[..., 0] + (window.sum(dim=-2) * shift).sum(dim=-1) / some
    v = place[..., 1] + (window.sum(dim=-1) * shift).sum(dim=-1) / some
    return torch.stack([u, v], dim=-1), mass


def softmax_cross_entropy_2d(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy between maps (B, K, h, w) and target distributions of that shape, weighted sum over (B, K).

    `weight` (B, K) is 0 where a joint has no label. The caller divides by the weight's sum (over all ranks).
    """
    entropy = -(target.flatten(2) * functional.log_softmax(logits.flatten(2).float(), dim=-1)).sum(dim=-1)
    return (entropy * weight).sum()
