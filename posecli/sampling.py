"""Crops for a network, made quickly: the twin of `geometry.warp`, which averages strong reductions over exact areas.

Here a picture is halved as a whole, once for all its crops (`sharing`), until a crop reduces it to half or less no
more, and the rest is sampled bilinearly. That is a little sharper than the mean over the exact area, which networks
learn from, so frames of a video are sampled like this and pictures are not. Whole pictures are resized, which is
several times as quick as a warp.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from posecli.geometry import halved
from posecli.types import Crop

__all__ = ["Halves", "halves_of", "is_shared", "sampled", "shared_ones", "sharing", "taking", "thumbnail"]

_THUMBNAIL = 320  # pixels that a thumbnail's longer side stays below; a pixel is the mean of a block
_NEAR = 1e-6  # pixels of the input by which the picture's border may miss the input's
_FINEST = 0.5  # of the picture's zoom; below it the picture is halved first


class Halves:
    """A picture (H, W, 3) uint8 and its halves, each made when first asked for. The picture must not change."""

    def __init__(self, image: np.ndarray) -> None:
        self._levels = [image]
        self._lock = threading.Lock()

    def __getitem__(self, times: int) -> np.ndarray:
        """The picture halved so many times; an odd last row or column is left out each time."""
        if len(self._levels) <= times:
            with self._lock:
                while len(self._levels) <= times:
                    self._levels.append(halved(self._levels[-1]))
        return self._levels[times]


class _Shared(threading.local):
    def __init__(self) -> None:
        self.pictures: dict[int, Halves] = {}


_shared = _Shared()


@contextlib.contextmanager
def sharing(images: Sequence[np.ndarray]) -> Iterator[list[Halves]]:
    """While it lasts the halves of these pictures, which must not change meanwhile, are made once in this thread; gives
    them, for other threads to take (`taking`)."""
    mine = [image for image in images if id(image) not in _shared.pictures]
    _shared.pictures.update((id(image), Halves(image)) for image in mine)
    try:
        yield [_shared.pictures[id(image)] for image in images]
    finally:
        for image in mine:
            _shared.pictures.pop(id(image), None)


@contextlib.contextmanager
def taking(halves: Sequence[Halves]) -> Iterator[None]:
    """While it lasts these pictures are being shared in this thread as well."""
    mine = {id(own[0]): own for own in halves if id(own[0]) not in _shared.pictures}
    _shared.pictures.update(mine)
    try:
        yield
    finally:
        for image in mine:
            _shared.pictures.pop(image, None)


def shared_ones(images: Sequence[np.ndarray]) -> list[Halves]:
    """The halves of those of the pictures that are being shared."""
    return [_shared.pictures[id(image)] for image in images if id(image) in _shared.pictures]


def is_shared(image: np.ndarray) -> bool:
    """Whether a picture's halves are shared now."""
    return id(image) in _shared.pictures


def halves_of(image: np.ndarray) -> Halves:
    """A picture's halves: those that are shared, or new ones."""
    return _shared.pictures.get(id(image)) or Halves(image)


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(h, w, 3) uint8: a picture (H, W, 3) uint8 halved until its longer side is below 320; never the picture itself,
    which whoever was given it may draw on."""
    times, side = 0, max(image.shape[:2])
    while side >= _THUMBNAIL:
        times, side = times + 1, side // 2
    return halves_of(image)[times] if times else image.copy()


def _halvings(zoom: float, height: int, width: int) -> int:
    """How often a picture is halved before it is sampled at a zoom."""
    if zoom >= _FINEST:
        return 0
    # A zoom of exactly a half is one of a mean of 2 x 2; rounding must not make it two.
    return max(0, min(math.ceil(math.log2(_FINEST / zoom) - 1e-9), int(math.log2(min(height, width)))))


def _straight(matrix: np.ndarray) -> bool:
    """Whether a crop is neither turned nor mirrored nor distorted."""
    return bool(matrix[0, 1] == 0 and matrix[1, 0] == 0 and matrix[0, 0] > 0 and matrix[0, 0] == matrix[1, 1])


def sampled(image: np.ndarray, crop: Crop) -> np.ndarray:
    """An image (H, W, 3) uint8 at a crop: (h, w, 3) uint8, black outside of the image."""
    matrix = np.asarray(crop.matrix, dtype=np.float64)
    if _straight(matrix):
        zoom = float(matrix[0, 0])
    else:
        zoom = math.sqrt(abs(float(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0])))
    times = _halvings(zoom, image.shape[0], image.shape[1])
    level = halves_of(image)[times] if times else image
    block = 2**times
    # Pixels of the level to image pixels, composed with the crop.
    inner = matrix[:, :2] * block
    move = matrix[:, 2] + matrix[:, :2].sum(1) * (block / 2 - 0.5)
    if _straight(matrix):
        found = _resized(level, float(inner[0, 0]), (float(move[0]), float(move[1])), crop.size_wh)
        if found is not None:
            return found
    return cv2.warpAffine(
        level,
        np.column_stack([inner, move]),
        crop.size_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(0.0, 0.0, 0.0),
    )


def _resized(level: np.ndarray, zoom: float, move: tuple[float, float], size_wh: tuple[int, int]) -> np.ndarray | None:
    """A whole picture in an input as large or larger, by `cv2.resize`; None for other crops."""
    # Where the picture's outer side lies.
    if any(abs(zoom / 2 - 0.5 - by) > _NEAR for by in move):
        return None
    small_wh = [round(side * zoom) for side in (level.shape[1], level.shape[0])]
    if not all(0 < a <= b for a, b in zip(small_wh, size_wh, strict=True)):
        return None
    small = cv2.resize(level, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_LINEAR)
    found = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    found[: small.shape[0], : small.shape[1]] = small
    return found
