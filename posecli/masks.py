"""Outlines of people in COCO's forms: polygons, and run lengths of either kind (RLE), to pixels."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from posecli.errors import PoseError


def polygons_of(segmentation: Sequence[Any], where: str = "") -> list[np.ndarray]:
    """Polygons (N, 2) of a COCO segmentation that enclose something: tools write empty ones and lines, too.

    Raises:
        PoseError: one is no list x0, y0, x1, ... of finite numbers.
    """
    found = []
    for polygon in segmentation:
        try:
            numbers = np.asarray(polygon, np.float64)
        except (TypeError, ValueError):
            numbers = np.array(np.nan)
        if numbers.ndim != 1 or not np.isfinite(numbers).all():
            raise PoseError(
                f"the segmentation holds {reprlib.repr(polygon)}", where, "polygons are lists x0, y0, x1, ..."
            )
        if len(numbers) >= 6:
            found.append(numbers[: len(numbers) // 2 * 2].reshape(-1, 2))
    return found


def mask_of(segmentation: Any, width: int, height: int, where: str = "") -> np.ndarray:
    """(height, width) uint8, 1 on the person, of a COCO segmentation: polygons, or RLE of either kind.

    Raises:
        PoseError: it is neither, or a mask of another size; ``where`` it stands is named.
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
            return coco_mask.decode(segmentation if packed else coco_mask.frPyObjects(segmentation, height, width))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise PoseError(f"cannot read the segmentation: {error!r}", where) from None
    said = " x ".join(str(n) for n in reversed(size))
    raise PoseError(f"a mask of {said} pixels for a picture of {width} x {height}", where, "make the masks anew")
