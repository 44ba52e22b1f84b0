"""How other official repositories read heat maps, for numbers that agree with theirs.

bearpaw/pytorch-pose@edc7aec (`pose/utils/evaluation.py`, `pose/utils/transforms.py`);
princeton-vl/pytorch_stacked_hourglass@ceedc14 (`utils/group.py`); bmartacho/UniPose@bf53632 (`utils/utils.py`);
GengDavid/pytorch-cpn@48696a9 (`test.py`); open-mmlab/mmpose@759b39c (`mmpose/codecs/utils/refinement.py`).

All functions take maps (B, K, h, w) and return (B, K, 2) x, y in map pixels, zero-based, without the half pixel that
some of them add (see each), and (B, K) scores: the maxima, where nothing else is said.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from posecli.codecs.dark import gaussian_taps
from posecli.codecs.gaussian import highest_pixel, neighbour_differences, pixel_values


def decode_mmpose(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """The quarter shift for each axis by itself: in x where 1 < x < w - 1 and 0 < y < h, in y likewise."""
    xy, score = highest_pixel(heatmap)
    height, width = heatmap.shape[-2:]
    x, y = xy[..., 0].long(), xy[..., 1].long()
    along = torch.stack([(x > 1) & (x < width - 1) & (y > 0), (y > 1) & (y < height - 1) & (x > 0)], dim=-1)
    differences = torch.stack(neighbour_differences(heatmap, x, y), dim=-1)
    return xy + differences.sign() * along * 0.25, score


def decode_pytorchpose(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """The quarter shift where 0 < x < w - 1 and 0 < y < h - 1. The repository adds half a pixel, and one for its
    one-based maps; it gives (0, 0) of those, here (-1, -1), where no value is positive."""
    xy, score = highest_pixel(heatmap)
    height, width = heatmap.shape[-2:]
    x, y = xy[..., 0].long(), xy[..., 1].long()
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    differences = torch.stack(neighbour_differences(heatmap, x, y), dim=-1)
    xy = xy + differences.sign() * inside[..., None] * 0.25
    return torch.where((score > 0)[..., None], xy, torch.full_like(xy, -1)), score


def decode_princeton(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """A quarter pixel towards the higher neighbour, up or left where both are equal, at the border too (beyond it lies
    the pixel itself). The repository adds half a pixel."""
    xy, score = highest_pixel(heatmap)
    across, down = neighbour_differences(heatmap, xy[..., 0].long(), xy[..., 1].long())
    higher = torch.stack([across, down], dim=-1) > 0
    return torch.where(higher, xy + 0.25, xy - 0.25), score


def decode_argmax(heatmap: Tensor) -> tuple[Tensor, Tensor]:
    """The highest pixel itself, also where no value is positive; UniPose's."""
    best = heatmap.flatten(2).max(-1)
    width = heatmap.shape[-1]
    xy = torch.stack([best.indices % width, torch.div(best.indices, width, rounding_mode="floor")], dim=-1)
    return xy.to(torch.promote_types(heatmap.dtype, torch.float32)), best.values


def decode_cpn(heatmap: Tensor, border: int = 10, kernel: int = 21) -> tuple[Tensor, Tensor]:
    """The highest pixel of the smoothed map, a quarter pixel towards its second highest.

    Each map is divided by its maximum, given a border of zeros and smoothed. The repository adds half a pixel. The
    score is the map's value, as it came, at the nearest pixel (the repository's score is that over 255 plus 0.5).
    """
    maps = heatmap.to(torch.promote_types(heatmap.dtype, torch.float32))
    batch, count, height, width = maps.shape
    smooth = maps / maps.amax((-2, -1), keepdim=True)
    smooth = functional.pad(smooth, (border,) * 4).view(batch * count, 1, height + 2 * border, width + 2 * border)
    taps = torch.tensor(gaussian_taps(kernel), device=maps.device, dtype=maps.dtype)
    # Mirrored at the outer border without repeating it, as OpenCV does.
    smooth = functional.pad(smooth, (kernel // 2,) * 4, mode="reflect")
    smooth = functional.conv2d(functional.conv2d(smooth, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1))
    flat = smooth.view(batch, count, -1)
    best = flat.argmax(-1)
    second = flat.scatter(2, best[..., None], 0.0).argmax(-1)
    wide = width + 2 * border

    def place(index: Tensor) -> Tensor:
        return (
            torch.stack([index % wide, torch.div(index, wide, rounding_mode="floor")], dim=-1).to(maps.dtype) - border
        )

    first = place(best)
    towards = functional.normalize(place(second) - first, dim=-1)
    most = torch.tensor([width - 1, height - 1], device=maps.device, dtype=maps.dtype)
    xy = torch.minimum((first + 0.25 * towards).clamp(min=0), most)
    nearest = xy.round().long()
    return xy, pixel_values(maps, nearest[..., 0], nearest[..., 1])
