"""Boxes and crops: every change between image pixels and network input pixels.

Pixel centres lie on integers: pixel i covers [i - 0.5, i + 0.5). Resizing by a factor f therefore maps
``x -> (x + 0.5) f - 0.5``. Official models that use another convention get their matrix from the function that
reproduces it, and go through the same `warp`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from posecli.types import Crop, Instance

# Below this scale bilinear sampling skips pixels (aliasing): the image is first shrunk by area averaging.
AREA_BELOW = 0.5


def apply_affine(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Maps points ``(..., 2)`` by a (2, 3) matrix; NaN stays NaN."""
    return np.asarray(xy) @ matrix[:, :2].T + matrix[:, 2]


def box_xywh_to_xyxy(box: np.ndarray) -> np.ndarray:
    """``(..., 4)`` x, y, width, height to corners."""
    box = np.asarray(box, dtype=np.float64)
    return np.concatenate([box[..., :2], box[..., :2] + box[..., 2:]], axis=-1)


def box_xyxy_to_xywh(box: np.ndarray) -> np.ndarray:
    """``(..., 4)`` corners to x, y, width, height."""
    box = np.asarray(box, dtype=np.float64)
    return np.concatenate([box[..., :2], box[..., 2:] - box[..., :2]], axis=-1)


def keypoint_box(xy: np.ndarray, visibility: np.ndarray) -> np.ndarray | None:
    """(4,) corners of the smallest box around the labelled joints; None without any."""
    found = np.asarray(xy, dtype=np.float64)[np.asarray(visibility) > 0]
    return np.concatenate([found.min(0), found.max(0)]) if len(found) else None


def person_box(instance: Instance, xy: np.ndarray, visibility: np.ndarray) -> np.ndarray | None:
    """(4,) corners of a person: the given box, else that of the labelled joints grown by 0.1 of its longer side."""
    if instance.box_xyxy is not None:
        return np.asarray(instance.box_xyxy, np.float64)
    labelled = xy[visibility > 0]
    if len(labelled) < 2:
        return None
    low, high = labelled.min(0), labelled.max(0)
    margin = 0.1 * (high - low).max()
    return np.concatenate([low - margin, high + margin])


def box_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, M) intersection over union of two sets of corner boxes; 0 where both are empty."""
    a, b = np.asarray(a, dtype=np.float64).reshape(-1, 4), np.asarray(b, dtype=np.float64).reshape(-1, 4)
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.clip(high - low, 0, None).prod(-1)
    areas = [np.clip(box[:, 2:] - box[:, :2], 0, None).prod(-1) for box in (a, b)]
    union = areas[0][:, None] + areas[1][None] - inter
    return np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)


def crop_from_box(
    box_xyxy: np.ndarray, size_wh: tuple[int, int], scale: float = 1.25, rotation: float = 0.0, flip: bool = False
) -> Crop:
    """The crop that shows a box, enlarged, without distortion.

    Args:
        box_xyxy: (4,) corners in image pixels.
        size_wh: network input width and height; the box is widened or heightened to this aspect ratio.
        scale: side of the crop over side of the box.
        rotation: degrees, clockwise as displayed, about the box centre.
        flip: mirrored left to right.
    """
    x0, y0, x1, y1 = (float(v) for v in box_xyxy)
    width, height = size_wh
    side = max((x1 - x0) / width, (y1 - y0) / height, 1e-3) * scale
    zoom = 1.0 / side
    angle = math.radians(rotation)
    cos, sin = math.cos(angle) * zoom, math.sin(angle) * zoom
    linear = np.array([[cos, -sin], [sin, cos]])
    if flip:
        linear[0] = -linear[0]
    centre = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    return Crop(np.hstack([linear, (middle - linear @ centre)[:, None]]), (width, height))


def is_narrow(box_xyxy: np.ndarray, ratio: float) -> bool:
    """Whether the shorter side of a box (4,) is at most so much of the longer."""
    across, along = float(box_xyxy[2] - box_xyxy[0]), float(box_xyxy[3] - box_xyxy[1])
    return min(across, along) <= ratio * max(across, along)


def fit_picture(width: int, height: int, longer_side: int, multiple: int = 32) -> Crop:
    """The whole picture scaled so that its longer side is ``longer_side``; right and bottom padded to ``multiple``."""
    zoom = longer_side / max(width, height)
    shift = 0.5 * zoom - 0.5
    matrix = np.array([[zoom, 0.0, shift], [0.0, zoom, shift]])
    size = [max(multiple, math.ceil(round(n * zoom, 6) / multiple) * multiple) for n in (width, height)]
    return Crop(matrix, (size[0], size[1]))


def in_one_size(crops: Sequence[Crop], most: int) -> list[Crop]:
    """Crops in the same order, padded on the right and below to the size of a larger one where that is at most so many
    pixels more, so that they go through a network together."""
    sizes: dict[int, tuple[int, int]] = {}
    size = (0, 0)
    for i in sorted(range(len(crops)), key=lambda i: -math.prod(crops[i].size_wh)):
        own = crops[i].size_wh
        if not all(a <= b for a, b in zip(own, size, strict=True)) or math.prod(size) - math.prod(own) > most:
            size = own
        sizes[i] = size
    return [Crop(crop.matrix, sizes[i]) for i, crop in enumerate(crops)]


def halved(image: np.ndarray) -> np.ndarray:
    """(H // 2, W // 2, 3), at least one pixel each: means of 2 x 2 pixels of an image (H, W, 3) uint8. An odd last row
    or column is left out."""
    height, width = (max(1, side // 2) for side in image.shape[:2])
    return cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)


def _extended(low: int, high: int, end: int, step: int) -> tuple[int, int]:
    """A range within 0..end, made longer to a multiple of ``step`` where there is room, else shorter."""
    length = min(-(-(high - low) // step), end // step) * step
    low = min(low, end - length)
    return low, low + length


class Shrink(NamedTuple):
    """How `warp` makes the picture under a crop smaller first: the part x0, y0 to x1, y1 is halved some times, then
    averaged over areas to ``small_wh``. ``empty``: the crop shows nothing of the picture."""

    x0: int
    y0: int
    x1: int
    y1: int
    halves: int
    small_wh: tuple[int, int]
    empty: bool = False


def shrink_under(crop: Crop, image_height: int, image_width: int) -> Shrink | None:
    """What comes before a crop's sampling; None for crops that reduce less than to half."""
    matrix = np.asarray(crop.matrix, dtype=np.float64)
    width, height = crop.size_wh
    zoom = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if zoom >= AREA_BELOW:
        return None
    corners = apply_affine(crop.inverse, np.array([[-1, -1], [width, -1], [-1, height], [width, height]]))
    margin = 1 / zoom
    x0, y0 = (int(v) for v in np.floor(np.clip(corners.min(0) - margin, 0, None)))
    x1, y1 = (int(v) for v in np.ceil(np.minimum(corners.max(0) + margin, (image_width, image_height))))
    if x1 - x0 < 1 or y1 - y0 < 1:
        return Shrink(0, 0, 0, 0, 0, (1, 1), empty=True)
    # Halves are quickly made, other areas slowly. No pixel may be left over, unless there is none to add.
    halves = max(0, math.ceil(math.log2(AREA_BELOW / 2 / zoom)))
    halves = min(halves, int(math.log2(min(image_height, image_width))))
    x0, x1 = _extended(x0, x1, image_width, 2**halves)
    y0, y1 = _extended(y0, y1, image_height, 2**halves)
    across, down = (x1 - x0) >> halves, (y1 - y0) >> halves
    small_wh = (max(1, round(across * zoom * 2**halves)), max(1, round(down * zoom * 2**halves)))
    return Shrink(x0, y0, x1, y1, halves, small_wh)


def warp(image: np.ndarray, crop: Crop, fill: int | Sequence[int] = 0) -> np.ndarray:
    """Samples an image (H, W, 3) uint8 at a crop: (h, w, 3) uint8, the grey level or colour ``fill`` outside the image.

    Strong reductions are first averaged over areas, and only the part of the image under the crop is touched.
    """
    matrix = np.asarray(crop.matrix, dtype=np.float64)
    width, height = crop.size_wh
    colour = tuple(float(c) for c in np.broadcast_to(fill, 3))
    shrink = shrink_under(crop, image.shape[0], image.shape[1])
    if shrink is not None:
        if shrink.empty:
            return np.full((height, width, 3), colour, np.uint8)
        part = image[shrink.y0 : shrink.y1, shrink.x0 : shrink.x1]
        for _ in range(shrink.halves):
            part = halved(part)
        small_wh = shrink.small_wh
        image = cv2.resize(part, small_wh, interpolation=cv2.INTER_AREA)
        # Small-image pixels back to image pixels, composed with the crop.
        blocks = 2**shrink.halves
        fx, fy = blocks * part.shape[1] / small_wh[0], blocks * part.shape[0] / small_wh[1]
        up = np.array([[fx, 0, 0.5 * fx - 0.5 + shrink.x0], [0, fy, 0.5 * fy - 0.5 + shrink.y0], [0, 0, 1]])
        matrix = matrix @ up
    return cv2.warpAffine(
        image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=colour
    )
