"""Random canvases: which pictures, where on the canvas, how large, and who is pasted in.

Randomness comes from a `numpy.random.Generator` only: the same state gives the same canvas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from posecli.augment import blur, brighter, colour_jitter, compressed, darker, noise, to_grey
from posecli.augment_pictures.canvas import Canvas
from posecli.augment_pictures.cutouts import Cutout, cut_out
from posecli.augment_pictures.pictures import Picture
from posecli.errors import PoseError
from posecli.types import Skeleton


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
        pasted_on_backgrounds: how often 0, 1, 2 or 4 people are pasted onto a background; sums to 1.
        pasted_on_people: how often 0, 1 or 2 onto a picture with people.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        people: Sequence[Pool],
        backgrounds: Sequence[Picture],
        mosaic: float = 0.3,
        background: float = 0.2,
        largest: float = math.inf,
        pasted_on_backgrounds: Sequence[float] = (0.4, 0.25, 0.2, 0.15),
        pasted_on_people: Sequence[float] = (0.75, 0.15, 0.1),
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
        self._counts = {"backgrounds": pasted_on_backgrounds, "people": pasted_on_people}
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
            pastes = int(rng.choice([0, 1, 2, 4], p=self._counts["backgrounds"]))
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
            pastes = int(rng.choice([0, 1, 2], p=self._counts["people"]))
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
        light = rng.random()
        if light < 0.06:
            image = darker(image, rng.uniform(0.1, 0.5), rng)
        elif light < 0.1:
            image = brighter(image, rng.uniform(1.2, 2.2))
        if rng.random() < 0.15:
            image = noise(image, rng, 20.0)
        if rng.random() < 0.2:
            image = compressed(image, int(rng.integers(12, 90)))
        return image
