"""Outlines of people in COCO's forms: polygons, and run lengths of either kind (RLE), to pixels."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from posecli.errors import PoseError

_FAR = 1e6  # pixels; what lies beyond is no picture's, and its way there would fill the memory


def polygons_of(segmentation: Sequence[Any], where: str = "") -> list[np.ndarray]:
    """Polygons (N, 2) of a COCO segmentation that enclose something: tools write empty ones and lines, too.

    Raises:
        PoseError: one is no list x0, y0, x1, ... of finite numbers, or lies a million pixels away.
    """
    found = []
    for polygon in segmentation:
        try:
            numbers = np.asarray(polygon, np.float64)
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        if numbers.ndim != 1 or not (np.abs(numbers) < _FAR).all():
            raise PoseError(
                f"the segmentation holds {reprlib.repr(polygon)}", where, "polygons are lists x0, y0, x1, ..."
            )
        if len(numbers) >= 6:
            found.append(numbers[: len(numbers) // 2 * 2].reshape(-1, 2))
    return found


def mask_of(segmentation: Any, width: int, height: int, where: str = "") -> np.ndarray:
    """(height, width) uint8, 1 on the person, of a COCO segmentation: polygons, or RLE of either kind.

    Raises:
        PoseError: it is neither, or a mask of another size or of fewer pixels; ``where`` it stands is named.
    """
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        polygons = [polygon.ravel().tolist() for polygon in polygons_of(segmentation, where)]
        if not polygons:
            return np.zeros((height, width), np.uint8)
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)))
    try:
        size, counts = list(segmentation["size"]), segmentation["counts"]
        if size == [height, width]:
            packed = isinstance(counts, (str, bytes))
            covered = sum(_runs_of(counts) if packed else map(int, counts))
            if covered != height * width:
                # pycocotools would leave the rest as it lies in memory.
                raise PoseError(f"the mask's runs cover {covered} of {height * width} pixels", where)
            return coco_mask.decode(segmentation if packed else coco_mask.frPyObjects(segmentation, height, width))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PoseError(f"cannot read the segmentation: {error!r}", where) from None
    said = " x ".join(str(n) for n in reversed(size))
    raise PoseError(f"a mask of {said} pixels for a picture of {width} x {height}", where, "make the masks anew")


def _runs_of(counts: str | bytes) -> list[int]:
    """The run lengths of COCO's text: five bits a character, the lowest first, the sixth for more, the highest of the
    last for less than 0; from the fourth run on the difference to the one two before. ValueError on other text."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii") if isinstance(counts, str) else counts:
        bits = byte - 48
        if not 0 <= bits < 64:
            raise ValueError("no run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) * (bits >> 4 & 1)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or min(runs, default=0) < 0:
        raise ValueError("run lengths that are cut off, or less than 0")
    return runs
