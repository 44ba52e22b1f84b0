"""Outlines of people in COCO's forms: polygons, and run lengths of either kind (RLE), to pixels."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from posecli.errors import PoseError

_MOST = 2**31  # pixels of a picture; pycocotools counts runs in 32 bits
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
        except (TypeError, ValueError, OverflowError):
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

    packed = _packed(segmentation, width, height, where)
    return np.zeros((height, width), np.uint8) if packed is None else coco_mask.decode(packed)


def mask_area(segmentation: Any, width: int, height: int, where: str = "") -> float:
    """Pixels of `mask_of`, which is not made for that; raises the same."""
    from pycocotools import mask as coco_mask

    packed = _packed(segmentation, width, height, where)
    return 0.0 if packed is None else float(coco_mask.area(packed))


def _packed(segmentation: Any, width: int, height: int, where: str) -> dict[str, Any] | None:
    """The mask as pycocotools' own RLE, None without a polygon; checked, for its C code checks nothing."""
    from pycocotools import mask as coco_mask

    if not 0 <= width * height < _MOST:
        raise PoseError(f"a picture of {width:g} x {height:g} is too large for masks", where)
    if isinstance(segmentation, list):
        polygons = [polygon.ravel().tolist() for polygon in polygons_of(segmentation, where)]
        return coco_mask.merge(coco_mask.frPyObjects(polygons, height, width)) if polygons else None
    try:
        size, counts = list(segmentation["size"]), segmentation["counts"]
        if size == [height, width]:
            runs = _runs_of(counts) if isinstance(counts, (str, bytes)) else [int(n) for n in counts]
            if min(runs, default=0) < 0:
                raise PoseError("the mask has runs of less than 0 pixels", where)
            if sum(runs) != height * width:
                # pycocotools would leave the rest as it lies in memory.
                what = f"the mask's runs cover {reprlib.repr(sum(runs))} of {height * width} pixels"
                raise PoseError(what, where)
            return coco_mask.frPyObjects({"size": [height, width], "counts": runs}, height, width)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PoseError(f"cannot read the segmentation: {error!r}", where) from None
    said = " x ".join(reprlib.repr(n) for n in reversed(size))
    raise PoseError(f"a mask of {said} pixels for a picture of {width} x {height}", where, "make the masks anew")


def _runs_of(counts: str | bytes) -> list[int]:
    """The run lengths of COCO's text: five bits a character, the lowest first, the sixth for more, the highest of the
    last for less than 0; from the fourth run on the difference to the one two before. ValueError on other text."""
    runs: list[int] = []
    value = shift = 0
    for byte in counts.encode("ascii") if isinstance(counts, str) else counts:
        bits = byte - 48
        if not 0 <= bits < 64 or shift > 60:
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
