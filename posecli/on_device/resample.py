"""Crops made on the device in one pass: sampled, rounded to grey levels as `geometry.warp` gives them, normalised.

Crops for a network are not turned, so a crop is a picture weighted along its rows and along its columns: each output
row is a mean of few picture rows (two, or as many as a strong reduction averages), each output column likewise. The
weights are worked out on the host, as `geometry.warp` would sample; for a batch of crops they go to the device in one
piece. The device does the rest: with a Triton kernel that reads the bytes and writes the network's input, a launch for
all crops of a picture that are reduced alike, without Triton by two gathers a crop.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from posecli.geometry import Shrink, shrink_under
from posecli.models.fast_cuda import can_run_kernels
from posecli.on_device.upload import on_device
from posecli.types import Crop


class Taps(NamedTuple):
    """What the places along one axis of a crop are made of: ``weight`` (n, k) times the picture's values from ``start``
    (n,) on. Weights of what lies outside the picture are zero. Made on the host, or (`Tables`) on a device."""

    start: np.ndarray | Tensor
    weight: np.ndarray | Tensor


def can_resample(crop: Crop) -> bool:
    """Whether a crop is neither turned nor sheared nor upside down."""
    matrix = np.asarray(crop.matrix)
    return bool(matrix[0, 1] == 0 and matrix[1, 0] == 0 and matrix[0, 0] > 0 and matrix[1, 1] > 0)


def taps_of(crop: Crop, height: int, width: int) -> tuple[Taps, Taps]:
    """Of a crop of a picture: its rows, its columns."""
    numbers = tuple(float(v) for v in np.asarray(crop.matrix, np.float64)[[0, 0, 1, 1], [0, 2, 1, 2]])
    return _taps_of(numbers, crop.size_wh, height, width)


@lru_cache(maxsize=256)
def _taps_of(numbers: tuple[float, ...], size_wh: tuple[int, int], height: int, width: int) -> tuple[Taps, Taps]:
    zoom_x, move_x, zoom_y, move_y = numbers
    crop = Crop(np.array([[zoom_x, 0.0, move_x], [0.0, zoom_y, move_y]]), size_wh)
    shrink = shrink_under(crop, height, width)
    if shrink is None:
        return (
            _bilinear(np.arange(size_wh[1]), zoom_y, move_y, height),
            _bilinear(np.arange(size_wh[0]), zoom_x, move_x, width),
        )
    if shrink.empty:
        return tuple(Taps(np.zeros(n, np.int32), np.zeros((n, 1), np.float32)) for n in size_wh[::-1])  # type: ignore[return-value]
    return _shrunk(shrink, 1, size_wh[1], zoom_y, move_y), _shrunk(shrink, 0, size_wh[0], zoom_x, move_x)


def _bilinear(place: np.ndarray, zoom: float, move: float, size: int) -> Taps:
    at = (place - move) / zoom
    low = np.floor(at)
    share = at - low
    weight = np.stack([1 - share, share], axis=1)
    index = low[:, None] + np.arange(2)
    weight[(index < 0) | (index >= size)] = 0
    return Taps(np.clip(low, -2, size).astype(np.int32), weight.astype(np.float32))


def _shrunk(shrink: Shrink, axis: int, count: int, zoom: float, move: float) -> Taps:
    """Bilinear between the pixels of a smaller picture, each of which is the mean of an area of the large one."""
    block = 2**shrink.halves
    first, last = ((shrink.x0, shrink.x1), (shrink.y0, shrink.y1))[axis]
    large, small = (last - first) >> shrink.halves, shrink.small_wh[axis]
    step = large / small  # halved pixels to a small one
    up = block * step
    between = _bilinear(np.arange(count), zoom * up, zoom * (0.5 * up - 0.5 + first) + move, small)
    # The areas: how much of each halved pixel lies in each small one.
    reach = math.ceil(step) + 1
    begin = np.arange(small) * step
    begin_at = np.floor(begin + 1e-6).astype(np.int64)
    index = begin_at[:, None] + np.arange(reach)
    covered = np.minimum(index + 1, begin[:, None] + step) - np.maximum(index, begin[:, None])
    area = np.where((index >= 0) & (index < large), np.clip(covered, 0, None), 0)
    area /= np.maximum(area.sum(1, keepdims=True), 1e-12)
    # Both together, over halved pixels, then over pixels of the picture.
    low = np.clip(between.start, 0, small - 1)
    high = np.clip(between.start + 1, 0, small - 1)
    together = np.zeros((count, 2 * reach))
    rows = np.arange(count)[:, None]
    together[:, :reach] = between.weight[:, :1] * area[low]
    after = (begin_at[high] - begin_at[low])[:, None] + np.arange(reach)
    np.add.at(together, (rows, after), between.weight[:, 1:] * area[high])
    weight = np.repeat(together / block, block, axis=1)
    return Taps((first + begin_at[low] * block).astype(np.int32), weight.astype(np.float32))


def has_kernel(device: torch.device) -> bool:
    """Whether the crops are made by the Triton kernel there."""
    return can_run_kernels(device)


def resampled(
    images: Sequence[np.ndarray],
    wanted: Sequence[tuple[int, Crop]],
    mean: Tensor,
    std: Tensor,
    *,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    bgr: bool = False,
) -> Tensor:
    """The network's input for crops of pictures.

    Args:
        images: (H, W, 3) uint8, of any sizes; sent to the device unless they are there (`upload.on_device`).
        wanted: which picture, and its crop, all of one size and not turned (`can_resample`).
        mean, std: three values each, in grey levels.
        dtype: of the result. bgr: the network takes blue first.

    Returns:
        (N, 3, h, w), channels last.
    """
    width, height = wanted[0][1].size_wh
    out = torch.empty((len(wanted), height, width, 3), device=device, dtype=dtype)
    mean, std = mean.flatten().float(), std.flatten().float()
    taps = [taps_of(crop, *images[i].shape[:2]) for i, crop in wanted]
    alike: dict[tuple[int, int, int], list[int]] = {}
    for number, ((i, _), (rows, columns)) in enumerate(zip(wanted, taps, strict=True)):
        alike.setdefault((i, rows.weight.shape[1], columns.weight.shape[1]), []).append(number)
    tables = Tables(taps, list(chain.from_iterable(alike.values())), device)
    sent = {i: on_device(images[i], device) for i in dict.fromkeys(i for i, _ in wanted)}
    first = 0
    for (i, *counts), numbers in alike.items():
        if has_kernel(device):
            from posecli.on_device.resample_triton import resample

            part = tables.places[first : first + len(numbers)]
            resample(sent[i], part, tables.starts, tables.weights, (counts[0], counts[1]), mean, std, out, bgr)
            first += len(numbers)
        else:
            for number in numbers:
                out[number] = plain(sent[i], *tables.of(number), mean, std, bgr).to(dtype)
    return out.permute(0, 3, 1, 2)


class Tables:
    """The taps of several crops on a device, sent there in one piece, from page-locked memory.

    Args:
        taps: of each crop: its rows, its columns; those that come again are sent once.
        order: in which ``places`` has the crops, by number.
        device: where to.

    Attributes:
        starts, weights: of all of them end to end, int32 and float32.
        places: (N, 8) int32, for each crop: where the starts of its rows and of its columns begin, where their weights
            do, the number of the crop, and nothing three times, so that each row begins at a multiple of 16 bytes.
    """

    def __init__(self, taps: Sequence[tuple[Taps, Taps]], order: Sequence[int], device: torch.device) -> None:
        self._taps = taps
        self._begin: dict[int, tuple[int, int]] = {}  # of taps, by id: where their starts, their weights begin
        different, counts = [], [0, 0]
        for one in chain.from_iterable(taps):
            if id(one) not in self._begin:
                different.append(one)
                self._begin[id(one)] = counts[0], counts[1]
                counts = [counts[0] + len(one.start), counts[1] + one.weight.size]  # type: ignore[operator]
        starts, weights = (-(-count // 4) * 4 for count in counts)
        host = torch.zeros(starts + weights + 8 * len(order), dtype=torch.int32, pin_memory=device.type == "cuda")
        whole = host.numpy()
        for one in different:
            begin, weight = self._begin[id(one)]
            whole[begin : begin + len(one.start)] = one.start
            own = np.ravel(one.weight)
            whole[starts + weight : starts + weight + len(own)] = own.view(np.int32)
        for place, number in zip(whole[starts + weights :].reshape(-1, 8), order, strict=True):
            rows, columns = (self._begin[id(one)] for one in taps[number])
            place[:5] = rows[0], columns[0], rows[1], columns[1], number
        there = host.to(device, non_blocking=True)
        self.starts, self.weights = there[:starts], there[starts : starts + weights].view(torch.float32)
        self.places = there[starts + weights :].view(-1, 8)

    def of(self, number: int) -> tuple[Taps, Taps]:
        """A crop's rows and columns, on the device."""
        return self._sent(self._taps[number][0]), self._sent(self._taps[number][1])

    def _sent(self, one: Taps) -> Taps:
        (begin, weight), (count, each) = self._begin[id(one)], one.weight.shape
        return Taps(self.starts[begin : begin + count], self.weights[weight : weight + count * each].view(count, each))


def plain(image: Tensor, rows: Taps, columns: Taps, mean: Tensor, std: Tensor, bgr: bool = False) -> Tensor:
    """One crop (h, w, 3) of a picture (H, W, 3) uint8 by gathers, on any device."""
    part = _along(image.float(), rows)
    values = _along(part.transpose(0, 1), columns).transpose(0, 1)
    # To whole grey levels, halves upwards, as `geometry.warp` gives them.
    values = ((values + 0.5).floor().clamp(0, 255) - mean) / std
    return values.flip(-1) if bgr else values


def _along(values: Tensor, taps: Taps) -> Tensor:
    """Weighted sums along the first axis."""
    start = torch.as_tensor(taps.start, device=values.device).long()
    weight = torch.as_tensor(taps.weight, device=values.device)
    total = values.new_zeros((len(start), *values.shape[1:]))
    for k in range(weight.shape[1]):
        part = values[(start + k).clamp(0, len(values) - 1)]
        total += weight[:, k].view(-1, *[1] * (values.ndim - 1)) * part
    return total
