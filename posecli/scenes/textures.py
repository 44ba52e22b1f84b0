"""Small pictures that bodies wear: cloth patterns, skin, faces, hair.

A body part's texture has two halves side by side, its front and its back, each seen straight on; row 0 lies at the
part's first end. One texel of cloth is about a centimetre.
"""

from __future__ import annotations

import colorsys
import functools
from dataclasses import dataclass

import cv2
import numpy as np

ROWS, COLS = 48, 96
"""Texture size: rows along a part, columns front half and back half."""

TILE = 128

SKIN = np.array(
    [(255, 224, 200), (244, 208, 177), (231, 185, 150), (208, 155, 117), (172, 118, 84), (134, 88, 60), (96, 62, 44),
     (68, 45, 34)], dtype=np.float32,
)  # fmt: skip
HAIR = np.array(
    [(20, 17, 16), (38, 28, 22), (70, 46, 30), (110, 76, 45), (160, 120, 70), (200, 165, 105), (120, 55, 30),
     (150, 148, 145), (215, 212, 208)], dtype=np.float32,
)  # fmt: skip


def smooth_noise(rng: np.random.Generator, rows: int, cols: int, cells: int) -> np.ndarray:
    """(rows, cols) float32 around 0, about -1..1, varying over about ``rows / cells`` pixels."""
    coarse = rng.normal(0, 0.5, (max(2, cells), max(2, cells * cols // rows))).astype(np.float32)
    return cv2.resize(coarse, (cols, rows), interpolation=cv2.INTER_CUBIC)


@functools.cache
def _folds() -> np.ndarray:
    """(512, 512, 3) float32 around 0: folds of several sizes."""
    rng = np.random.default_rng(7)
    noise = np.zeros((512, 512), np.float32)
    for cells, weight in ((12, 1.0), (32, 0.6), (100, 0.35)):
        noise += smooth_noise(rng, 512, 512, cells) * np.float32(weight)
    return np.ascontiguousarray(np.repeat(noise[..., None] * np.float32(0.12), 3, axis=2))


def wrinkled(rng: np.random.Generator, texture: np.ndarray, strength: float) -> np.ndarray:
    """A (rows, cols, 3) float32 texture made uneven: folds of cloth, blotches of skin."""
    rows, cols = texture.shape[:2]
    y, x = rng.integers(0, 512 - rows), rng.integers(0, 512 - cols)
    return cv2.add(texture, cv2.multiply(texture, _folds()[y : y + rows, x : x + cols], scale=strength))


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32 RGB as clothes have them: many greys, blacks, whites and blues."""
    kind = rng.random()
    if kind < 0.2:
        return np.full(3, rng.uniform(12, 60), np.float32)
    if kind < 0.35:
        return np.full(3, rng.uniform(190, 250), np.float32)
    if kind < 0.45:
        return np.full(3, rng.uniform(70, 180), np.float32)
    hue = rng.normal(0.6, 0.05) % 1 if kind < 0.62 else rng.random()
    rgb = colorsys.hsv_to_rgb(float(hue), float(rng.uniform(0.2, 0.95)), float(rng.uniform(0.2, 0.95)))
    return np.array(rgb, np.float32) * 255


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """(3,) float32 RGB."""
    position = rng.uniform(0, len(SKIN) - 1)
    k = int(position)
    return SKIN[k] + (SKIN[k + 1] - SKIN[k]) * np.float32(position - k) + rng.normal(0, 4, 3).astype(np.float32)


@dataclass(frozen=True)
class Material:
    """A pattern to cut parts' textures from: (TILE, TILE, 3) float32, or (ROWS, COLS, 3) of one colour; with how
    strongly it folds and shines."""

    tile: np.ndarray
    folds: float = 1.0
    shine: float = 0.0

    def cut(self, rng: np.random.Generator, length_cm: float, width_cm: float) -> np.ndarray:
        """A part's texture (ROWS, COLS, 3) float32 of the given real size."""
        if self.tile.shape[0] == ROWS:
            return wrinkled(rng, self.tile, self.folds)
        rows = min(max(int(length_cm), 4), TILE - 1)
        cols = min(max(int(2 * width_cm), 4), TILE - 1)
        y, x = rng.integers(0, TILE - rows), rng.integers(0, TILE - cols)
        texture = cv2.resize(self.tile[y : y + rows, x : x + cols], (COLS, ROWS), interpolation=cv2.INTER_LINEAR)
        return wrinkled(rng, texture, self.folds)


def plain(colour: np.ndarray, folds: float = 1.0, shine: float = 0.0) -> Material:
    """One colour."""
    return Material(np.full((ROWS, COLS, 3), colour, np.float32), folds, shine)


def cloth(rng: np.random.Generator, picture: np.ndarray | None = None) -> Material:
    """A random garment's cloth: plain, striped, chequered, dotted, mottled, printed, or cut from ``picture`` (RGB)."""
    base, other = random_colour(rng), random_colour(rng)
    kind = rng.random()
    folds, shine = float(rng.uniform(0.5, 1.6)), float(rng.choice([0.0, 0.0, 0.15]))
    if kind < 0.5:
        return plain(base, folds, shine)
    tile = np.empty((TILE, TILE, 3), np.float32)
    tile[:] = base
    step = int(rng.integers(3, 16))
    band = np.arange(TILE) % step < rng.integers(1, max(2, step // 2 + 1))
    if kind < 0.58:
        tile[band] = other
    elif kind < 0.63:
        tile[:, band] = other
    elif kind < 0.72:
        tile[band] = tile[band] * 0.5 + other * 0.5
        tile[:, band] = tile[:, band] * 0.5 + other * 0.5
    elif kind < 0.77:
        for y in range(2, TILE, step + 2):
            for x in range(2, TILE, step + 2):
                cv2.circle(tile, (x, y), max(1, step // 4), other.tolist(), -1)
    elif kind < 0.86:
        noise = smooth_noise(rng, TILE, TILE, int(rng.integers(5, 20)))
        tile[noise > 0.1] = other
        tile[noise < -0.35] = random_colour(rng)
    elif picture is not None:
        side = int(rng.integers(24, 1 + min(200, *picture.shape[:2])))
        y, x = rng.integers(0, picture.shape[0] - side + 1), rng.integers(0, picture.shape[1] - side + 1)
        printed = cv2.resize(picture[y : y + side, x : x + side], (TILE, TILE), interpolation=cv2.INTER_AREA)
        tile[:] = printed
    else:
        tile[:] = base + (other - base) * np.linspace(0, 1, TILE, dtype=np.float32)[:, None, None]
    return Material(tile, folds, shine)


def face(rng: np.random.Generator, skin: np.ndarray, hair: np.ndarray, beard: bool, glasses: bool) -> np.ndarray:
    """The head's texture (ROWS, COLS, 3) float32: eyes, brows, mouth, cheeks on the front half; row 0 is the chin."""
    texture = np.empty((ROWS, COLS, 3), np.float32)
    texture[:] = skin
    front = np.ascontiguousarray(texture[:, : COLS // 2])
    centre, eye_row = 23.5, 0.585 * ROWS
    cheek = skin * np.array([0.97, 0.82, 0.8], np.float32)
    dark, white = skin * 0.45, np.array([225, 220, 215], np.float32) * (0.6 + 0.4 * skin.mean() / 255)
    iris = np.array([(60, 40, 25), (40, 70, 60), (50, 80, 120), (25, 18, 14)], np.float32)[rng.integers(4)]

    def ellipse(u: float, v: float, a: float, b: float, colour: np.ndarray, filled: bool = True) -> None:
        point = (round((centre + u) * 16), round(v * 16))
        axes = (round(a * 16), round(b * 16))
        values = [float(c) for c in colour]
        cv2.ellipse(front, point, axes, 0, 0, 360, values, -1 if filled else 1, cv2.LINE_AA, 4)

    for sign in (-1, 1):
        ellipse(11 * sign, 19, 5, 4, (skin + cheek) / 2)
        ellipse(9.5 * sign, eye_row, 5.2, 3.2, skin * 0.82)
    if beard:
        ellipse(0, 9, 19, 10, skin * 0.4 + hair * 0.6)
        ellipse(0, 17, 10, 2.5, skin * 0.4 + hair * 0.6)
    gap = rng.uniform(0.4, 2.5) if rng.random() < 0.3 else 0.0
    ellipse(0, 11.5, 6.5, 1.6 + gap, skin * np.array([0.85, 0.55, 0.52], np.float32))
    ellipse(0, 11.5, 6.0, 0.5 + gap / 2, dark)
    for sign in (-1, 1):
        ellipse(9.5 * sign, eye_row, 3.5, 1.5, white)
        ellipse(9.5 * sign, eye_row, 1.7, 1.6, iris)
        ellipse(9.5 * sign, eye_row + 5.2, 5.0, 1.2, hair * 0.8 + skin * 0.2)
    ellipse(0, eye_row - 8, 3.0, 1.5, skin * 0.8)
    if glasses:
        rim = random_colour(rng) * 0.5
        tinted = rng.random() < 0.3
        for sign in (-1, 1):
            ellipse(9.5 * sign, eye_row, 6.5, 4.5, rim, filled=tinted)
        cv2.line(front, (20, round(eye_row)), (27, round(eye_row)), [float(c) for c in rim], 1)
    texture[:, : COLS // 2] = front
    return wrinkled(rng, texture, 0.4)
