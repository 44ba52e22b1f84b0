"""People without their background: cut out along their mask, or along thick limbs where they have none.

Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation", CVPR 2021,
https://arxiv.org/abs/2012.07177.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from posecli.augment_pictures.pictures import Picture
from posecli.geometry import apply_affine
from posecli.masks import mask_of
from posecli.types import Skeleton

# A joint box lacks flesh around the joints: grown by this share of its longer side, as LSPET's stored boxes are.
JOINT_BOX_MARGIN = 0.1


@dataclass(frozen=True)
class Cutout:
    """One person without background: ``image`` (h, w, 3), ``alpha`` (h, w) float32 in [0, 1], labels in its pixels."""

    image: np.ndarray
    alpha: np.ndarray
    box_xyxy: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray

    def scaled(self, zoom: float, flip: bool, flip_index: np.ndarray) -> Cutout:
        """Scaled by a factor, mirrored or not, the edge of the mask softened over about a pixel and a half."""
        height, width = self.alpha.shape
        size = (max(2, round(width * zoom)), max(2, round(height * zoom)))
        how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        image, alpha = cv2.resize(self.image, size, interpolation=how), cv2.resize(self.alpha, size, interpolation=how)
        alpha = cv2.GaussianBlur(alpha, (0, 0), 0.8)
        fx, fy = size[0] / width, size[1] / height
        matrix = np.array([[fx, 0, 0.5 * fx - 0.5], [0, fy, 0.5 * fy - 0.5]])
        xy, visibility = self.xy, self.visibility
        if flip:
            image, alpha = image[:, ::-1], alpha[:, ::-1]
            matrix = np.array([[-1.0, 0, size[0] - 1], [0, 1, 0]]) @ np.vstack([matrix, [0, 0, 1]])
            xy, visibility = xy[flip_index], visibility[flip_index]
        return Cutout(image, alpha, moved_boxes(self.box_xyxy[None], matrix)[0], apply_affine(matrix, xy), visibility)


def joint_box(xy: np.ndarray) -> np.ndarray:
    """(4,) the box of joints (J, 2) grown by `JOINT_BOX_MARGIN` of its longer side."""
    low, high = xy.min(0), xy.max(0)
    margin = JOINT_BOX_MARGIN * (high - low).max()
    return np.concatenate([low - margin, high + margin])


def moved_boxes(boxes_xyxy: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """(N, 4) boxes around the moved corners of boxes; exact for matrices that turn by multiples of 90 degrees."""
    corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    moved = apply_affine(matrix, corners)
    return np.concatenate([moved.min(1), moved.max(1)], 1) if len(moved) else np.zeros((0, 4))


def limb_mask(xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton, width: int, height: int) -> np.ndarray:
    """(height, width) float32: a body of thick limbs, for people with joints but no mask; softened at the edge."""
    mask = np.zeros((height, width), np.uint8)
    labelled = visibility > 0
    if labelled.sum() < 3:
        return mask.astype(np.float32)
    low, high = xy[labelled].min(0), xy[labelled].max(0)
    limbs = [np.hypot(*(xy[a] - xy[b])) for a, b in skeleton.limbs if labelled[a] and labelled[b]]
    # A limb is about a third as thick as it is long, clothes and a margin included.
    thick = max(3, round(0.5 * float(np.median(limbs)) if limbs else 0.15 * float((high - low).max())))
    points = np.round(xy).astype(int)
    for a, b in skeleton.edges:
        if labelled[a] and labelled[b]:
            cv2.line(mask, points[a].tolist(), points[b].tolist(), 1, thick)
    trunk = [i for i in range(len(xy)) if labelled[i] and skeleton.keypoints[i].endswith(("shoulder", "hip"))]
    if len(trunk) >= 3:
        cv2.fillConvexPoly(mask, cv2.convexHull(points[trunk].astype(np.int32)), 1)
    names = skeleton.keypoints
    if "neck" in names and "head_top" in names and labelled[names.index("neck")] and labelled[names.index("head_top")]:
        neck, top = xy[names.index("neck")], xy[names.index("head_top")]
        radius = max(2, round(0.6 * float(np.hypot(*(top - neck)))))
        cv2.circle(mask, np.round((neck + top) / 2).astype(int).tolist(), radius, 1, -1)
    return cv2.GaussianBlur(mask.astype(np.float32), (0, 0), max(0.5, 0.08 * thick))


def cut_out(picture: Picture, image: np.ndarray, person: int, skeleton: Skeleton) -> Cutout | None:
    """One person of a picture without its background; None where neither a mask nor enough joints are labelled."""
    height, width = image.shape[:2]
    segmentation = picture.masks[person] if picture.masks else None
    if segmentation:
        mask = mask_of(segmentation, width, height, str(picture.path)).astype(np.float32)
    elif (picture.visibility[person] > 0).sum() >= 8:
        mask = limb_mask(picture.xy[person], picture.visibility[person], skeleton, width, height)
    else:
        return None
    box = picture.boxes_xyxy[person]
    if segmentation and picture.joint_boxes and mask.any():
        # The mask knows more of the body's outline than the joints do.
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([columns[0], rows[0], columns[-1], rows[-1]], float)
    x0, y0 = np.floor(np.clip(box[:2] - 4, 0, None)).astype(int)
    x1, y1 = np.ceil(np.minimum(box[2:] + 5, (width, height))).astype(int)
    if x1 - x0 < 8 or y1 - y0 < 8 or mask[y0:y1, x0:x1].sum() < 32:
        return None
    return Cutout(
        image[y0:y1, x0:x1],
        mask[y0:y1, x0:x1],
        box - (x0, y0, x0, y0),
        picture.xy[person] - (x0, y0),
        picture.visibility[person],
    )
