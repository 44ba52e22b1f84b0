"""Whole pictures for training a person finder: scaled, turned, tiled into mosaics, and with people pasted in.

`augment` changes the crop of one person; here many labelled pictures become one canvas with any number of people:

- a picture at a random zoom, cut or with room around it;
- a mosaic: the canvas split into tiles, a picture in each (Bochkovskiy et al., "YOLOv4", 2020,
  https://arxiv.org/abs/2004.10934, Sec. 3.3): many people a canvas, also from pictures of a single person;
- people cut out along their mask and pasted at random scales (Ghiasi et al., "Simple Copy-Paste is a Strong Data
  Augmentation Method for Instance Segmentation", CVPR 2021, https://arxiv.org/abs/2012.07177). People with joints but
  no mask are cut along thick limbs.

Not every data set names all people of its pictures. A canvas therefore knows where it is sure: `known` is 0 in crowds,
on people too small or too cut off to count, and everywhere outside the labelled people of a picture whose other people
may be unlabelled. Randomness comes from a `numpy.random.Generator` only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator

from posecli.augment import blur, colour_jitter, noise, to_grey
from posecli.errors import PoseError
from posecli.geometry import apply_affine
from posecli.types import Dataset, Skeleton

# A joint box lacks flesh around the joints: grown by this share of its longer side, as LSPET's stored boxes are.
JOINT_BOX_MARGIN = 0.1
# A person of which less is left in view is neither learnt nor taken for background.
LEAST_VISIBLE = 0.35
# Shorter people (longer box side, canvas pixels) likewise: 1.5 cells of stride 8.
LEAST_SIDE = 12.0
# Weight of the background within people that are too large.
TOO_LARGE_WEIGHT = 0.5


@dataclass(frozen=True)
class Picture:
    """A labelled picture on disk; N people, K joints; pixels.

    Attributes:
        path: the file.
        boxes_xyxy: (N, 4).
        xy, visibility: (N, K, 2) and (N, K); visibility 0: not labelled.
        masks: N COCO segmentations (polygons or RLE) or None.
        unknown: (M, 4) boxes of crowds and the like.
        complete: whether everybody outside ``unknown`` is labelled.
        joint_boxes: the boxes are those of the joints, so the picture may be turned by any angle.
    """

    path: Path
    boxes_xyxy: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray
    masks: tuple[Any, ...] = ()
    unknown: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    complete: bool = True
    joint_boxes: bool = False

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; PoseError when the file is no picture."""
        image = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if image is None:
            raise PoseError("not a readable picture", str(self.path))
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pictures_of(
    dataset: Dataset,
    skeleton: Skeleton,
    *,
    complete: bool | None = None,
    joint_boxes: bool = False,
    rename: Mapping[str, str] | None = None,
) -> list[Picture]:
    """The records of a data set as pictures whose joints are those of ``skeleton``, met by name.

    Args:
        dataset: any skeleton; joints that ``skeleton`` lacks are dropped, those it has besides are not labelled.
        complete: whether all people are labelled; None takes each record's ``all_people_labelled``, else true.
        joint_boxes: see `Picture`.
        rename: joint names of the data set to those of ``skeleton``.
    """
    names = [(rename or {}).get(name, name) for name in dataset.skeleton.keypoints]
    pairs = [(i, skeleton.keypoints.index(name)) for i, name in enumerate(names) if name in skeleton.keypoints]
    source, target = [p[0] for p in pairs], [p[1] for p in pairs]
    pictures = []
    for record in dataset.records:
        people = [i for i in record.instances if not i.ignore and i.box_xyxy is not None]
        crowds = [i.box_xyxy for i in record.instances if i.ignore and i.box_xyxy is not None]
        xy = np.zeros((len(people), skeleton.num_keypoints, 2))
        visibility = np.zeros((len(people), skeleton.num_keypoints), np.int64)
        for n, person in enumerate(people):
            xy[n, target] = np.nan_to_num(person.xy[source])
            visibility[n, target] = person.visibility[source]
        pictures.append(
            Picture(
                path=Path(dataset.root) / record.file_name,
                boxes_xyxy=np.array([p.box_xyxy for p in people], np.float64).reshape(-1, 4),
                xy=xy,
                visibility=visibility,
                masks=tuple(p.extra.get("segmentation") for p in people),
                unknown=np.array(crowds, np.float64).reshape(-1, 4),
                complete=bool(record.extra.get("all_people_labelled", True)) if complete is None else complete,
                joint_boxes=joint_boxes,
            )
        )
    return pictures


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
        mask = _mask_of(segmentation, width, height).astype(np.float32)
    elif (picture.visibility[person] > 0).sum() >= 8:
        mask = limb_mask(picture.xy[person], picture.visibility[person], skeleton, width, height)
    else:
        return None
    box = picture.boxes_xyxy[person]
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


def _mask_of(segmentation: Any, width: int, height: int) -> np.ndarray:
    from pycocotools import mask as coco_mask

    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    return coco_mask.decode(rle)


def split_tiles(width: int, height: int, count: int, rng: Generator) -> list[tuple[int, int, int, int]]:
    """Splits a canvas into ``count`` tiles (x0, y0, x1, y1), each time the largest one across its longer side."""
    tiles = [(0, 0, width, height)]
    while len(tiles) < count:
        tiles.sort(key=lambda t: (t[2] - t[0]) * (t[3] - t[1]))
        x0, y0, x1, y1 = tiles.pop()
        share = rng.uniform(0.35, 0.65)
        if x1 - x0 >= y1 - y0:
            middle = round(x0 + share * (x1 - x0))
            tiles += [(x0, y0, middle, y1), (middle, y0, x1, y1)]
        else:
            middle = round(y0 + share * (y1 - y0))
            tiles += [(x0, y0, x1, middle), (x0, middle, x1, y1)]
    return tiles


def random_view(
    picture: Picture,
    image: np.ndarray,
    region: tuple[int, int, int, int],
    zooms: tuple[float, float],
    rng: Generator,
    turn: float = 0.0,
) -> np.ndarray:
    """(2, 3) picture to canvas: mirrored or not, at a zoom drawn from ``zooms`` times the one that fits the region.

    Args:
        picture: where there are people, a view larger than the region is moved to show one of them.
        image: its pixels.
        region: (x0, y0, x1, y1).
        zooms: least and largest, drawn log-uniformly.
        turn: largest angle in degrees.
    """
    height, width = image.shape[:2]
    x0, y0, x1, y1 = region
    size = np.array([x1 - x0, y1 - y0], float)
    zoom = min(size / (width, height)) * float(np.exp(rng.uniform(*np.log(zooms))))
    angle = np.deg2rad(rng.uniform(-turn, turn))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    linear = np.array([[cos, -sin], [sin, cos]])
    if rng.random() < 0.5:
        linear[:, 0] *= -1
    focus = np.array([(width - 1) / 2, (height - 1) / 2])
    free = (size - np.abs(linear) @ (width, height)) / 2
    if len(picture.boxes_xyxy) and (free < 0).any() and rng.random() < 0.8:
        box = picture.boxes_xyxy[rng.integers(len(picture.boxes_xyxy))]
        wanted = box[:2] + rng.random(2) * (box[2:] - box[:2])
        # As near to the person as the picture's edges allow.
        reach = np.abs(np.linalg.inv(linear)) @ np.maximum(-free, 0)
        focus = np.clip(wanted, focus - reach, focus + reach)
        shift = np.maximum(free, 0) * rng.uniform(-1, 1, 2)
    else:
        shift = np.abs(free) * rng.uniform(-1, 1, 2)
    middle = np.array([x0 + x1 - 1, y0 + y1 - 1]) / 2 + shift
    return np.hstack([linear, (middle - linear @ focus)[:, None]])


@dataclass(frozen=True)
class Pool:
    """Pictures of one kind and how they are drawn.

    Attributes:
        pictures: at least one.
        weight: how often a picture of this pool is taken, relative to the others.
        zooms: see `random_view`.
        turn: largest rotation in degrees; other than 0 only for pictures with joint boxes.
        paste_weight: how often a pasted person comes from this pool, relative to the others.
    """

    pictures: Sequence[Picture]
    weight: float
    zooms: tuple[float, float] = (0.6, 2.5)
    turn: float = 0.0
    paste_weight: float = 0.0


class PictureMixer:
    """Draws canvases from pools of people and of backgrounds.

    Args:
        skeleton: joints of all pictures.
        people: pools with people; those with ``paste_weight`` also give the people that are pasted.
        backgrounds: pictures without people.
        mosaic: share of canvases that are mosaics.
        background: share that are a background, with or without pasted people.
        largest: longer side, in canvas pixels, of the largest people that are learnt.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        people: Sequence[Pool],
        backgrounds: Sequence[Picture],
        mosaic: float = 0.3,
        background: float = 0.2,
        largest: float = math.inf,
    ):
        if not people or not all(len(pool.pictures) for pool in people):
            raise PoseError("every pool needs at least one picture")
        self.skeleton = skeleton
        self.largest = largest
        self.people = list(people)
        self.backgrounds = list(backgrounds)
        self.mosaic, self.background = mosaic, background if backgrounds else 0.0
        weights = np.array([pool.weight for pool in people])
        self._weights = weights / weights.sum()
        pasted = np.array([pool.paste_weight for pool in people])
        self._pasted = pasted / pasted.sum() if pasted.sum() else None

    def _draw(self, rng: Generator) -> tuple[Picture, Pool]:
        pool = self.people[rng.choice(len(self.people), p=self._weights)]
        return pool.pictures[int(rng.integers(len(pool.pictures)))], pool

    def _lay(
        self, canvas: Canvas, region: tuple[int, int, int, int], picture: Picture, pool: Pool, rng: Generator
    ) -> None:
        image = picture.read()
        if rng.random() < 0.7:
            image = colour_jitter(image, rng)
        turn = pool.turn if picture.joint_boxes and rng.random() < 0.7 else 0.0
        # One time in six as far as upside down.
        turn = 180.0 if turn and rng.random() < 1 / 6 else turn
        matrix = random_view(picture, image, region, pool.zooms, rng, turn)
        canvas.lay(picture, image, matrix, region, self.skeleton.flip_index)

    def _paste(self, canvas: Canvas, rng: Generator) -> None:
        if self._pasted is None:
            return
        pool = self.people[rng.choice(len(self.people), p=self._pasted)]
        picture = pool.pictures[int(rng.integers(len(pool.pictures)))]
        if not len(picture.boxes_xyxy):
            return
        person = int(rng.integers(len(picture.boxes_xyxy)))
        image = picture.read()
        cutout = cut_out(picture, image, person, self.skeleton)
        if cutout is None:
            return
        side = float((cutout.box_xyxy[2:] - cutout.box_xyxy[:2]).max())
        height, width = canvas.known.shape
        # Never enlarged by more than 1.5: blur would give a pasted person away.
        wanted = float(np.exp(rng.uniform(np.log(24), np.log(min(self.largest, 0.9 * max(width, height))))))
        zoom = min(wanted / side, 1.5)
        cutout = cutout.scaled(zoom, bool(rng.random() < 0.5), self.skeleton.flip_index)
        h, w = cutout.alpha.shape
        left, top = (
            rng.integers(-w // 3, max(width - 2 * w // 3, 1)),
            rng.integers(-h // 4, max(height - 2 * h // 3, 1)),
        )
        jittered = colour_jitter(cutout.image, rng, 0.3) if rng.random() < 0.5 else cutout.image
        canvas.paste(Cutout(jittered, cutout.alpha, cutout.box_xyxy, cutout.xy, cutout.visibility), int(left), int(top))

    def sample(self, rng: Generator, width: int, height: int) -> Canvas:
        """One canvas of a size; the same generator state gives the same canvas."""
        fill = (0, 0, 0) if rng.random() < 0.6 else tuple(int(v) for v in rng.integers(0, 256, 3))
        canvas = Canvas(width, height, self.skeleton.num_keypoints, fill, self.largest)
        whole = (0, 0, width, height)
        kind = rng.random()
        if kind < self.background:
            picture = self.backgrounds[rng.integers(len(self.backgrounds))]
            self._lay(canvas, whole, picture, Pool([picture], 1, (0.8, 2.0)), rng)
            pastes = int(rng.choice([0, 1, 2, 4], p=[0.4, 0.25, 0.2, 0.15]))
        elif kind < self.background + self.mosaic:
            for tile in split_tiles(width, height, int(rng.integers(2, 6)), rng):
                picture, pool = self._draw(rng)
                # Tiles are small already: fill them.
                close = (max(pool.zooms[0], 0.85), max(pool.zooms[1], 1.6))
                self._lay(canvas, tile, picture, replace(pool, zooms=close), rng)
            pastes = 0
        else:
            picture, pool = self._draw(rng)
            self._lay(canvas, whole, picture, pool, rng)
            pastes = int(rng.choice([0, 1, 2], p=[0.75, 0.15, 0.1]))
        for _ in range(pastes):
            self._paste(canvas, rng)
        canvas.image = self._spoil(canvas.image, rng)
        return canvas

    @staticmethod
    def _spoil(image: np.ndarray, rng: Generator) -> np.ndarray:
        """What cameras and files do to a picture as a whole."""
        if rng.random() < 0.15:
            image = to_grey(image)
        if rng.random() < 0.15:
            image = blur(image, rng)
        if rng.random() < 0.15:
            image = noise(image, rng)
        if rng.random() < 0.2:
            quality = int(rng.integers(30, 90))
            coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
            image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR))
        return image
