"""`resample.plain` as a Triton kernel: reads a picture's bytes once, writes the network's input."""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from posecli.on_device.resample import Taps

_BLOCK, _WARPS = 256, 4


@triton.jit
def _resample(
    image, row_start, row_weight, column_start, column_weight, mean, std, out,
    height, width, out_height, out_width,
    ROW_TAPS: tl.constexpr, COLUMN_TAPS: tl.constexpr, BGR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A block of output pixels: all three channels."""
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
    to = out + pixel * 3
    tl.store(to + (2 if BGR else 0), red.to(out.dtype.element_ty), mask=there)
    tl.store(to + 1, green.to(out.dtype.element_ty), mask=there)
    tl.store(to + (0 if BGR else 2), blue.to(out.dtype.element_ty), mask=there)


def resample(
    image: Tensor, rows: Taps, columns: Taps, mean: Tensor, std: Tensor, out: Tensor, bgr: bool = False
) -> None:
    """Writes one crop of a picture (H, W, 3) uint8 to ``out`` (h, w, 3), dense, of any floating type."""
    height, width = image.shape[:2]
    out_height, out_width = out.shape[:2]
    tables = [_table(values, image.device) for values in (rows.start, rows.weight, columns.start, columns.weight)]
    grid = (triton.cdiv(out_height * out_width, _BLOCK),)
    with torch.cuda.device(image.device) if image.is_cuda else torch.no_grad():
        _resample[grid](
            image, *tables, mean, std, out, height, width, out_height, out_width, ROW_TAPS=rows.weight.shape[1],
            COLUMN_TAPS=columns.weight.shape[1], BGR=bgr, BLOCK=_BLOCK, num_warps=_WARPS,
        )  # fmt: skip


# The tables last sent, with the arrays they were made from: pictures of a video are cropped alike.
_tables: dict[int, tuple[np.ndarray, Tensor]] = {}
_MOST_TABLES = 1024


def _table(values: np.ndarray, device: torch.device) -> Tensor:
    """The array on the device; sent once for as long as the same array comes."""
    kept = _tables.get(id(values))
    if kept is not None and kept[0] is values and kept[1].device == device:
        return kept[1]
    if len(_tables) >= _MOST_TABLES:
        _tables.clear()
    table = torch.from_numpy(np.ascontiguousarray(values)).to(device)
    _tables[id(values)] = (values, table)
    return table
