"""SimCC: a keypoint as two classifications, of its column and of its row, in bins finer than input pixels.

Li, Yang, Liu, Zhang, Wang, Wang, Yang, Xia, "SimCC: a Simple Coordinate Classification Perspective for Human Pose
Estimation", ECCV 2022, https://arxiv.org/abs/2107.03332 (Sec. 3.2). Rules as in open-mmlab/mmpose@759b39c
(`mmpose/codecs/simcc_label.py`, `codecs/utils/post_processing.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor


def encode_simcc(
    xy: Tensor, weight: Tensor, size: tuple[int, int], split: float = 2.0, sigma: float = 6.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Two vectors for each point, Gaussians of height 1 around its bins ("Gaussian label smoothing").

    Args:
        xy: (..., 2) input pixels.
        weight: (...) 1 for joints with a label, 0 without.
        size: (width, height) of the input.
        split: bins a pixel.
        sigma: bins.

    Returns:
        (..., split W), (..., split H), and the weights (...), 0 where 3 sigma around the point miss the input. Points
        of weight 0 have empty vectors.
    """
    bins = torch.tensor([round(n * split) for n in size], device=xy.device)
    middle = (xy * split).round()
    outside = ((middle - 3 * sigma >= bins) | (middle + 3 * sigma + 1 < 0)).any(-1)
    weight = torch.where(outside, torch.zeros_like(weight), weight)
    vectors = []
    for axis, count in enumerate(bins.tolist()):
        place = torch.arange(count, device=xy.device, dtype=middle.dtype)
        vector = torch.exp(-((place - middle[..., axis, None]) ** 2) / (2 * sigma**2))
        vectors.append(vector * (weight > 0.5)[..., None])
    return vectors[0], vectors[1], weight


def decode_simcc(x: Tensor, y: Tensor, split: float = 1.0) -> tuple[Tensor, Tensor]:
    """The highest bins of vectors (..., split W) and (..., split H).

    Returns:
        (..., 2) input pixels, -1 where the score is not positive; (...) scores, the lesser of the two maxima.
    """
    best = [vector.max(-1) for vector in (x, y)]
    score = torch.minimum(best[0].values, best[1].values)
    place = torch.stack([b.indices for b in best], dim=-1).to(torch.promote_types(score.dtype, torch.float32)) / split
    return torch.where((score > 0)[..., None], place, torch.full_like(place, -1)), score
