"""`resample.plain` as a Triton kernel for several crops of a picture: reads its bytes, writes the network's input."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_BLOCK, _WARPS = 256, 4


@triton.jit
def _resample(
    image, places, starts, weights, mean, std, out,
    height, width, out_height, out_width,
    ROW_TAPS: tl.constexpr, COLUMN_TAPS: tl.constexpr, BGR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of output pixels of a crop: all three channels."""
    place = places + tl.program_id(1) * 8
    row_start, column_start = starts + tl.load(place), starts + tl.load(place + 1)
    row_weight, column_weight = weights + tl.load(place + 2), weights + tl.load(place + 3)
    number = tl.load(place + 4).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = pixel < out_height * out_width
    y, x = pixel // out_width, pixel % out_width
    top = tl.load(row_start + y, mask=there, other=0)
    left = tl.load(column_start + x, mask=there, other=0)
    red = tl.zeros((BLOCK,), tl.float32)
    green = tl.zeros((BLOCK,), tl.float32)
    blue = tl.zeros((BLOCK,), tl.float32)
    for down in range(ROW_TAPS):
        by_row = tl.load(row_weight + y * ROW_TAPS + down, mask=there, other=0.0)
        row = top + down
        for right in range(COLUMN_TAPS):
            weight = by_row * tl.load(column_weight + x * COLUMN_TAPS + right, mask=there, other=0.0)
            column = left + right
            on = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
            at = image + (row * width + column) * 3
            red += weight * tl.load(at, mask=on, other=0).to(tl.float32)
            green += weight * tl.load(at + 1, mask=on, other=0).to(tl.float32)
            blue += weight * tl.load(at + 2, mask=on, other=0).to(tl.float32)
    # To whole grey levels, then as the network takes them.
    red = (tl.floor(red + 0.5) - tl.load(mean)) / tl.load(std)
    green = (tl.floor(green + 0.5) - tl.load(mean + 1)) / tl.load(std + 1)
    blue = (tl.floor(blue + 0.5) - tl.load(mean + 2)) / tl.load(std + 2)
    to = out + number * (out_height * out_width * 3) + pixel * 3
    tl.store(to + (2 if BGR else 0), red.to(out.dtype.element_ty), mask=there)
    tl.store(to + 1, green.to(out.dtype.element_ty), mask=there)
    tl.store(to + (0 if BGR else 2), blue.to(out.dtype.element_ty), mask=there)


def resample(
    image: Tensor,
    places: Tensor,
    starts: Tensor,
    weights: Tensor,
    taps: tuple[int, int],
    mean: Tensor,
    std: Tensor,
    out: Tensor,
    bgr: bool = False,
) -> None:
    """Writes crops of a picture (H, W, 3) uint8 to their places in ``out`` (N, h, w, 3), dense, of any floating type.

    Args:
        image: the picture.
        places, starts, weights: of those crops (n, 8), of all (`resample.Tables`).
        taps: of each of their rows, of each of their columns.
        mean, std, out, bgr: as `resample.resampled` takes and makes them.
    """
    height, width = image.shape[:2]
    _, out_height, out_width, _ = out.shape
    grid = (triton.cdiv(out_height * out_width, _BLOCK), len(places))
    with torch.cuda.device(image.device) if image.is_cuda else torch.no_grad():
        _resample[grid](
            image, places, starts, weights, mean, std, out, height, width, out_height, out_width,
            ROW_TAPS=taps[0], COLUMN_TAPS=taps[1], BGR=bgr, BLOCK=_BLOCK, num_warps=_WARPS,
        )  # fmt: skip
