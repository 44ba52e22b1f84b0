"""Heat maps as distributions: keypoints to normalised Gaussians, logits to keypoints, and the loss between the two.

The network gives a logit for every pixel of a keypoint's map; softmax over the pixels is the distribution of the place.
Targets are Gaussians that sum to one, compared by cross-entropy. Learns several times faster from little data than mean
squared error on unnormalised maps, where the empty background dominates early training.

Map pixel u covers the input pixels stride u .. stride u + stride - 1, so its centre is the input point
stride u + (stride - 1) / 2: with this choice a mirrored input gives exactly the mirrored map.
"""

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
    refined); the score is the probability that falls into the window.
    """
    probability = logits.flatten(2).float().softmax(dim=-1).view(logits.shape)
    uv, mass = decode_local_mean(probability, reach)
    return uv * stride + (stride - 1) / 2, mass


def decode_local_mean(maps: Tensor, reach: int = 2) -> tuple[Tensor, Tensor]:
    """The mean place in a window of `reach` pixels around the highest pixel of maps (B, K, h, w); negative values count
    as 0.

    Returns:
        (B, K, 2) map pixels and (B, K) sums of the window, of a distribution the probability that falls into it.
    """
    batch, keypoints, _, width = maps.shape
    best = maps.flatten(2).argmax(dim=-1)
    column, row = best % width, best // width
    offset = torch.arange(-reach, reach + 1, device=maps.device)
    # The window keeps its size at the border: pixels beyond it hold nothing.
    padded = functional.pad(maps.clamp(min=0), (reach,) * 4)
    rows = (row[..., None] + reach + offset)[..., :, None]
    columns = (column[..., None] + reach + offset)[..., None, :]
    window = padded.flatten(2).gather(2, (rows * (width + 2 * reach) + columns).flatten(2))
    window = window.view(batch, keypoints, 2 * reach + 1, 2 * reach + 1)
    mass = window.sum(dim=(-2, -1))
    shift = offset.to(window.dtype)
    some = mass.clamp(min=torch.finfo(window.dtype).tiny)
    u = column + (window.sum(dim=-2) * shift).sum(dim=-1) / some
    v = row + (window.sum(dim=-1) * shift).sum(dim=-1) / some
    return torch.stack([u, v], dim=-1), mass


def softmax_cross_entropy_2d(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy between maps (B, K, h, w) and target distributions of that shape, weighted sum over (B, K).

    `weight` (B, K) is 0 where a joint has no label. The caller divides by the weight's sum (over all ranks).
    """
    entropy = -(target.flatten(2) * functional.log_softmax(logits.flatten(2).float(), dim=-1)).sum(dim=-1)
    return (entropy * weight).sum()
