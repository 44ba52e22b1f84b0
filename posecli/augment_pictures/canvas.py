"""A picture put together from others, that knows where its labels can be trusted.

Not every data set names all people of its pictures: `Canvas.known` is 0 in crowds, on people too small or too cut off
to count, and everywhere outside the labelled people of a picture whose other people may be unlabelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from posecli.augment_pictures.cutouts import Cutout, joint_box, moved_boxes
from posecli.augment_pictures.pictures import Picture
from posecli.geometry import apply_affine

# A person of which less is left in view is neither learnt nor taken for background.
LEAST_VISIBLE = 0.35
# Shorter people (longer box side, canvas pixels) likewise: 1.5 cells of stride 8.
LEAST_SIDE = 12.0
# Weight of the background within people that are too large.
TOO_LARGE_WEIGHT = 0.5


class Canvas:
    """A picture in the making: ``image`` (H, W, 3), ``known`` (H, W), and its people so far.

    People longer than ``largest`` pixels are for a coarser look at the picture: here they are background, lightly.
    """

    def __init__(
        self, width: int, height: int, keypoints: int, fill: Sequence[int] = (0, 0, 0), largest: float = math.inf
    ):
        self.largest = largest
        self.image = np.full((height, width, 3), fill, np.uint8)
        self.known = np.ones((height, width), np.float32)
        self.boxes = np.zeros((0, 4))
        self.xy = np.zeros((0, keypoints, 2))
        self.visibility = np.zeros((0, keypoints), np.int64)

    def _mark(self, box: np.ndarray, value: float) -> None:
        height, width = self.known.shape
        x0, y0 = np.floor(np.clip(box[:2], 0, (width, height))).astype(int)
        x1, y1 = np.ceil(np.clip(box[2:] + 1, 0, (width, height))).astype(int)
        self.known[y0:y1, x0:x1] = value

    def _add(
        self, boxes: np.ndarray, xy: np.ndarray, visibility: np.ndarray, region: tuple[int, int, int, int]
    ) -> None:
        """Adds the people of a region, cut at its edges; forgets, but marks, those of whom too little is left."""
        low, high = np.array(region[:2], float), np.array(region[2:], float) - 1
        cut = np.concatenate([np.clip(boxes[:, :2], low, high), np.clip(boxes[:, 2:], low, high)], 1)
        sides, full = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
        share = sides.prod(1) / np.maximum(full.prod(1), 1e-6)
        longer = full.max(1, initial=0)
        kept = (share >= LEAST_VISIBLE) & (sides.max(1, initial=0) >= LEAST_SIDE) & (longer <= self.largest)
        for box in cut[kept]:
            self._mark(box, 1)
        seen = (sides > 0).all(1)
        for box in cut[~kept & seen & (longer <= self.largest)]:
            self._mark(box, 0)
        for box in cut[seen & (longer > self.largest)]:
            # Their limbs are no people, but where their centre begins to count is a matter of taste.
            self._mark(box, TOO_LARGE_WEIGHT)
            quarter = (box[2:] - box[:2]) / 4
            self._mark(np.concatenate([box[:2] + 1.5 * quarter, box[2:] - 1.5 * quarter]), 0)
        inside = ((xy >= low - 0.5) & (xy <= high + 0.5)).all(-1)
        self.boxes = np.concatenate([self.boxes, cut[kept]])
        self.xy = np.concatenate([self.xy, xy[kept]])
        self.visibility = np.concatenate([self.visibility, (visibility * inside)[kept]])

    def lay(
        self,
        picture: Picture,
        image: np.ndarray,
        matrix: np.ndarray,
        region: tuple[int, int, int, int],
        flip_index: np.ndarray,
    ) -> None:
        """Covers a region (x0, y0, x1, y1) with a picture moved by ``matrix`` (2, 3), picture to canvas pixels.

        A matrix that mirrors swaps left and right joints by ``flip_index``. Where the picture does not reach, the
        canvas stays as it was.
        """
        x0, y0, x1, y1 = region
        local = matrix.copy()
        local[:, 2] -= (x0, y0)
        size = (x1 - x0, y1 - y0)
        height, width = image.shape[:2]
        zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
        source, shift = image, local
        if zoom < 0.6:
            # Bilinear sampling would skip pixels: average over areas first.
            small = cv2.resize(
                image, (max(1, round(width * zoom)), max(1, round(height * zoom))), interpolation=cv2.INTER_AREA
            )
            fx, fy = width / small.shape[1], height / small.shape[0]
            shift = local @ np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5], [0, 0, 1]])
            source = small
        part = self.image[y0:y1, x0:x1]
        cv2.warpAffine(source, shift, size, part, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_TRANSPARENT)
        self.image[y0:y1, x0:x1] = part

        corners = apply_affine(matrix, np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]))
        if not picture.complete:
            covered = np.zeros(self.known.shape, np.uint8)
            cv2.fillConvexPoly(covered, np.round(corners).astype(np.int32), 1)
            self.known[y0:y1, x0:x1][covered[y0:y1, x0:x1] == 1] = 0
        mirrored = np.linalg.det(matrix[:, :2]) < 0
        xy, visibility = apply_affine(matrix, picture.xy), picture.visibility
        if mirrored:
            xy, visibility = xy[:, flip_index], visibility[:, flip_index]
        boxes = moved_boxes(picture.boxes_xyxy, matrix)
        if picture.joint_boxes:
            for n in range(len(boxes)):
                labelled = visibility[n] > 0
                if labelled.sum() >= 3:
                    boxes[n] = joint_box(xy[n][labelled])
        low, high = np.array([x0, y0], float), np.array([x1 - 1, y1 - 1], float)
        bounds = np.concatenate([np.maximum(low, corners.min(0)), np.minimum(high, corners.max(0)) + 1])
        if (bounds[2:] > bounds[:2]).all():
            self._add(boxes, xy, visibility, tuple(np.round(bounds).astype(int)))  # type: ignore[arg-type]
        crowds = moved_boxes(picture.unknown, matrix)
        for box in np.concatenate([np.clip(crowds[:, :2], low, high), np.clip(crowds[:, 2:], low, high)], 1):
            if (box[2:] > box[:2]).all():
                self._mark(box, 0)

    def paste(self, cutout: Cutout, left: int, top: int) -> None:
        """Blends a person in; people more than 70 % hidden behind it are forgotten."""
        height, width = self.known.shape
        h, w = cutout.alpha.shape
        x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + w), min(height, top + h)
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        alpha = cutout.alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
        part = self.image[y0:y1, x0:x1]
        mixed = part + alpha * (cutout.image[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32) - part)
        self.image[y0:y1, x0:x1] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
        cover = np.zeros(self.known.shape, np.float32)
        cover[y0:y1, x0:x1] = alpha[..., 0] > 0.5
        kept = np.ones(len(self.boxes), bool)
        for n, box in enumerate(np.round(self.boxes).astype(int)):
            area = cover[max(0, box[1]) : box[3] + 1, max(0, box[0]) : box[2] + 1]
            kept[n] = area.size == 0 or area.mean() < 0.7
        self.boxes, self.xy, self.visibility = self.boxes[kept], self.xy[kept], self.visibility[kept]
        offset = np.array([left, top], float)
        self._add(
            cutout.box_xyxy[None] + np.tile(offset, 2),
            (cutout.xy + offset)[None],
            cutout.visibility[None],
            (0, 0, width, height),
        )
