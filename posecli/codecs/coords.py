"""Keypoints as numbers: coordinates relative to a box, for networks that regress them directly.

Toshev, Szegedy, "DeepPose: Human Pose Estimation via Deep Neural Networks", CVPR 2014,
https://arxiv.org/abs/1312.4659 (Sec. 3, Eq. 1: N(y; b) has the box's centre at 0 and its sides at -0.5 and 0.5).
"""

from __future__ import annotations

import torch
from torch import Tensor

from posecli.models.deeppose import denormalise, normalise

#: Name of this codec.
PLACES = "coordinates"


def encode_coords(xy: Tensor, box_xyxy: Tensor) -> Tensor:
    """Points (..., K, 2) to coordinates relative to boxes (..., 4): (y - centre) / (width, height) (Eq. 1)."""
    return normalise(xy, *_centre_and_size(box_xyxy))


def decode_coords(values: Tensor, box_xyxy: Tensor) -> Tensor:
    """The inverse of `encode_coords`: (..., K, 2) to pixels."""
    return denormalise(values, *_centre_and_size(box_xyxy))


def _centre_and_size(box_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low, high = box_xyxy[..., None, :2], box_xyxy[..., None, 2:]
    return (low + high) / 2, high - low


def input_box(size: tuple[int, int], like: Tensor) -> Tensor:
    """(4,) box of a whole network input of (width, height): the outer sides of its pixels."""
    return torch.tensor([-0.5, -0.5, size[0] - 0.5, size[1] - 0.5], device=like.device, dtype=like.dtype)


def decode_places(places: Tensor, size: tuple[int, int], corner: bool = False) -> Tensor:
    """Places normalised by the whole network input (..., K, 2) to its pixels; ``size`` is (width, height).

    ``corner``: they are shares of the size, counted from the centre of the first pixel (mmpose).
    """
    if corner:
        return places * torch.tensor(size, device=places.device, dtype=places.dtype)
    return decode_coords(places, input_box(size, places))


def fitted_errors(errors: Tensor, weight: Tensor) -> Tensor:
    """Sums from which `mean_and_deviation` come: (3, K, 2) float64 of weight, error and squared error.

    Args:
        errors: (B, K, 2) predicted less true places. weight: (B, K), 0 where there is no label.
    """
    errors, weight = errors.double(), weight.double()[..., None].expand_as(errors)
    return torch.stack([weight.sum(0), (weight * errors).sum(0), (weight * errors * errors).sum(0)])


def mean_and_deviation(sums: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (K, 2) of each joint's errors from summed `fitted_errors`.

    A joint with fewer than two labels gets the numbers of all joints together; without any labels they are 0.
    """
    everything = sums.sum(1, keepdim=True).expand_as(sums)
    count, first, second = torch.where(sums[:1] >= 2, sums, everything)
    mean = first / count.clamp(min=1)
    return mean, (second / count.clamp(min=1) - mean * mean).clamp(min=0).sqrt()


def simulated_predictions(truth: Tensor, mean: Tensor, deviation: Tensor, noise: Tensor) -> Tensor:
    """Where an earlier stage might have put joints (Sec. 3.2): y + delta, delta from a normal distribution.

    Args:
        truth: (..., 2). mean, deviation: of the earlier stage's errors, same shape and unit. noise: (..., 2) standard
            normal numbers.
    """
    return truth + mean + deviation * noise
