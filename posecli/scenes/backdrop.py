"""What stands behind people and in front of them: background pictures, props in the scene, patches over the picture."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posecli.errors import PoseError
from posecli.scenes.body import J
from posecli.scenes.camera import Camera
from posecli.scenes.raster import PROP, Canvas, Light
from posecli.scenes.textures import random_colour, smooth_noise

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


class Backgrounds:
    """Background pictures: from a folder (and its folders), or painted when ``folder`` is None.

    Pictures whose ``crc32(file name) % 10 == 0`` are never taken: they are kept for tests of trained models.

    Args:
        folder: pictures without people.
        cache: how many decoded pictures to keep.
    """

    def __init__(self, folder: str | Path | None = None, cache: int = 48) -> None:
        self.folder = None if folder is None else Path(folder)
        self.files: list[Path] = []
        self._cache: OrderedDict[Path, np.ndarray] = OrderedDict()
        self._limit = cache
        if self.folder is None:
            return
        if not self.folder.is_dir():
            raise PoseError("the folder of backgrounds is not there", str(folder))
        found = sorted(p for p in self.folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
        self.files = [p for p in found if zlib.crc32(p.name.encode()) % 10 != 0]
        if not self.files:
            raise PoseError("no background pictures", str(folder), f"looked for {', '.join(_SUFFIXES)}")

    def picture(self, rng: np.random.Generator, size_wh: tuple[int, int]) -> np.ndarray:
        """A (H, W, 3) uint8 RGB picture: a random cut of a random file, or a painted one."""
        if not self.files:
            return paint_background(rng, size_wh)
        path = self.files[int(rng.integers(len(self.files)))]
        image = self._load(path)
        w, h = size_wh
        scale = max(w / image.shape[1], h / image.shape[0]) * rng.uniform(1.0, 1.4)
        cut_w, cut_h = min(image.shape[1], round(w / scale)), min(image.shape[0], round(h / scale))
        x, y = rng.integers(0, image.shape[1] - cut_w + 1), rng.integers(0, image.shape[0] - cut_h + 1)
        cut = image[y : y + cut_h, x : x + cut_w]
        if rng.random() < 0.5:
            cut = cut[:, ::-1]
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        return cv2.resize(cut, size_wh, interpolation=how)

    def texture(self, rng: np.random.Generator) -> np.ndarray | None:
        """A picture that cloth and props may be cut from; None without a folder."""
        return self._load(self.files[int(rng.integers(len(self.files)))]) if self.files else None

    def _load(self, path: Path) -> np.ndarray:
        if path in self._cache:
            self._cache.move_to_end(path)
            return self._cache[path]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise PoseError("not a readable picture", str(path), "remove it from the folder of backgrounds")
        shrink = 720 / max(image.shape[:2])
        if shrink < 1:
            image = cv2.resize(image, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        image = np.ascontiguousarray(image[:, :, ::-1])
        self._cache[path] = image
        if len(self._cache) > self._limit:
            self._cache.popitem(last=False)
        return image


def paint_background(rng: np.random.Generator, size_wh: tuple[int, int]) -> np.ndarray:
    """A painted room, landscape or jumble of shapes, (H, W, 3) uint8."""
    w, h = size_wh
    kind = rng.random()
    horizon = int(h * rng.uniform(0.35, 0.75))
    image = np.empty((h, w, 3), np.float32)
    top, bottom = random_colour(rng), random_colour(rng)
    if kind < 0.35:  # outdoors
        sky = np.array([rng.uniform(120, 200), rng.uniform(160, 220), rng.uniform(200, 250)], np.float32)
        image[:horizon] = sky + (245 - sky) * np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None]
        image[horizon:] = np.array([rng.uniform(60, 150), rng.uniform(80, 150), rng.uniform(40, 110)], np.float32)
        ridge = horizon - np.abs(smooth_noise(rng, 8, w, 2)[0]) * h * 0.3
        points = np.stack([np.arange(w), ridge], 1)
        points = np.concatenate([points, [[w, horizon], [0, horizon]]]).round().astype(np.int32)
        cv2.fillPoly(image, [points], [float(c) for c in random_colour(rng) * 0.5 + 40])
    elif kind < 0.75:  # a room
        image[:horizon], image[horizon:] = top, bottom
        if rng.random() < 0.6:
            step = int(rng.integers(10, 50))
            for x in range(-w, 2 * w, step):
                end = round(w / 2 + (x - w / 2) * 3)
                cv2.line(image, (x, horizon), (end, h), (bottom * 0.8).tolist(), 1, cv2.LINE_AA)
        for _ in range(rng.integers(1, 6)):
            x, y = int(rng.integers(0, w)), int(rng.integers(0, max(1, horizon)))
            a, b = int(rng.integers(8, max(9, w // 3))), int(rng.integers(8, max(9, h // 3)))
            cv2.rectangle(image, (x, y), (x + a, min(y + b, horizon)), random_colour(rng).tolist(), -1)
            cv2.rectangle(image, (x, y), (x + a, min(y + b, horizon)), random_colour(rng).tolist(), 2)
    else:
        image[:] = top
        for _ in range(rng.integers(6, 30)):
            points = (rng.random((int(rng.integers(3, 7)), 2)) * 0.5 + rng.random(2) * 1.2 - 0.3) * [w, h]
            hull = cv2.convexHull(points.round().astype(np.int32))
            cv2.fillConvexPoly(image, hull, random_colour(rng).tolist(), cv2.LINE_AA)
    image *= 1 + rng.uniform(0.02, 0.12) * smooth_noise(rng, h, w, int(rng.integers(4, 40)))[..., None]
    image *= rng.uniform(0.75, 1.15) + rng.uniform(-0.2, 0.2) * np.linspace(-1, 1, w, dtype=np.float32)[None, :, None]
    image += rng.normal(0, rng.uniform(1, 6), (h, w, 1)).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


class Panorama:
    """A distant background for one camera: as the camera turns and zooms, the picture moves as a far wall would."""

    MARGIN = 0.2

    def __init__(self, backgrounds: Backgrounds, rng: np.random.Generator, camera: Camera, size_wh: tuple[int, int]):
        w, h = size_wh
        self.size_wh, self.first = size_wh, camera
        self.margin = (round(w * self.MARGIN), round(h * self.MARGIN))
        self.wide = backgrounds.picture(rng, (w + 2 * self.margin[0], h + 2 * self.margin[1]))

    def seen_by(self, camera: Camera) -> np.ndarray:
        """(H, W, 3) uint8, a new array."""
        w, h = self.size_wh
        mx, my = self.margin
        same = np.allclose(camera.rotation, self.first.rotation, atol=1e-9) and camera.focal == self.first.focal
        if same:
            return self.wide[my : my + h, mx : mx + w].copy()
        # Pixel of the first camera -> ray -> pixel of this one (rotation about the same point).
        matrix = _intrinsics(camera) @ camera.rotation @ self.first.rotation.T @ np.linalg.inv(_intrinsics(self.first))
        matrix = matrix @ np.array([[1, 0, -mx], [0, 1, -my], [0, 0, 1.0]])
        return cv2.warpPerspective(self.wide, matrix, (w, h), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def _intrinsics(camera: Camera) -> np.ndarray:
    return np.array([[camera.focal, 0, camera.centre[0]], [0, camera.focal, camera.centre[1]], [0, 0, 1.0]])


@dataclass(frozen=True)
class Box:
    """A box standing in the scene: a crate, a bench, a wall. ``corners`` (8, 3): index bits are x, y, z ends."""

    corners: np.ndarray
    texture: np.ndarray


# Corner indices (bits x=1, y=2, z=4) of each face, in turn around it.
_FACES = ((0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5))


def make_box(
    rng: np.random.Generator,
    centre_xz: np.ndarray,
    size: tuple[float, float, float],
    picture: np.ndarray | None,
    bottom: float = 0.0,
) -> Box:
    """A box of ``size`` (x, y, z metres) standing on the ground, turned at random, painted or covered by a picture."""
    angle = rng.uniform(0, 2 * np.pi)
    bits = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], float)
    local = (bits - [0.5, 0, 0.5]) * size
    c, s = np.cos(angle), np.sin(angle)
    corners = local @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]])
    corners += [centre_xz[0], bottom, centre_xz[1]]
    if picture is not None and rng.random() < 0.6:
        side = int(rng.integers(32, 1 + min(240, *picture.shape[:2])))
        y, x = rng.integers(0, picture.shape[0] - side + 1), rng.integers(0, picture.shape[1] - side + 1)
        texture = cv2.resize(picture[y : y + side, x : x + side], (64, 64), interpolation=cv2.INTER_AREA)
    else:
        grain = 1 + 0.25 * smooth_noise(rng, 64, 64, int(rng.integers(3, 30)))[..., None]
        texture = np.clip(random_colour(rng) * grain, 0, 255).astype(np.uint8)
    return Box(corners, texture)


def draw_box(canvas: Canvas, camera: Camera, box: Box, light: Light) -> None:
    """Draws the faces that look at the camera, with depth; a box that reaches behind the camera is left out."""
    height, width = canvas.depth.shape
    local = camera.to_camera(box.corners)
    if (local[:, 2] < 0.1).any():
        return
    xy = camera.focal * local[:, :2] / local[:, 2:] + np.array(camera.centre)
    middle = local.mean(0)
    for face in _FACES:
        quad = local[list(face)]
        normal = np.cross(quad[1] - quad[0], quad[3] - quad[0])
        normal /= max(np.linalg.norm(normal), 1e-9)
        if normal @ (quad[0] - middle) < 0:
            normal = -normal
        if normal @ quad[0] >= 0:
            continue
        points = xy[list(face)]
        x0, y0 = np.maximum(np.floor(points.min(0)) - 1, 0).astype(int)
        x1, y1 = np.minimum(np.ceil(points.max(0)) + 2, [width, height]).astype(int)
        if x1 <= x0 or y1 <= y0:
            continue
        corners = (points - [x0, y0]).astype(np.float32)
        th, tw = box.texture.shape[:2]
        matrix = cv2.getPerspectiveTransform(np.array([[0, 0], [tw, 0], [tw, th], [0, th]], np.float32), corners)
        size = (int(x1 - x0), int(y1 - y0))
        bright = 0.55 + 0.45 * max(0.0, float(normal @ (camera.rotation @ light.direction)))
        colour = cv2.warpPerspective(box.texture, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        mask = np.zeros((size[1], size[0]), np.uint8)
        cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        gx = (np.arange(x0, x1) - camera.centre[0]) / camera.focal
        gy = (np.arange(y0, y1) - camera.centre[1]) / camera.focal
        slope = normal[0] * gx[None] + normal[1] * gy[:, None] + normal[2]
        depth = (normal @ quad[0]) / np.where(np.abs(slope) > 1e-6, slope, -1e-6)
        view = (slice(y0, y1), slice(x0, x1))
        nearer = (depth > 0.05) & (depth < canvas.depth[view]) & (mask > 0)
        alpha = (mask.astype(np.float32) / 255 * nearer)[..., None]
        shade = (light.ambient + light.sun * bright).astype(np.float32)
        image = canvas.image[view]
        image[:] = np.clip(image * (1 - alpha) + colour * shade * alpha, 0, 255).astype(np.uint8)
        solid = nearer & (mask > 127)
        canvas.depth[view][solid] = depth[solid]
        canvas.identity[view][solid] = PROP


_SHADOW_NAMES = (
    ("pelvis", "thorax", 0.13), ("thorax", "head_top", 0.08), ("left_shoulder", "right_shoulder", 0.09),
    ("left_shoulder", "left_elbow", 0.05), ("left_elbow", "left_hand", 0.04), ("right_shoulder", "right_elbow", 0.05),
    ("right_elbow", "right_hand", 0.04), ("left_hip", "left_knee", 0.075), ("left_knee", "left_ankle", 0.05),
    ("right_hip", "right_knee", 0.075), ("right_knee", "right_ankle", 0.05), ("left_ankle", "left_toe", 0.04),
    ("right_ankle", "right_toe", 0.04),
)  # fmt: skip
_SHADOW_BONES = tuple((J[a], J[b], girth) for a, b, girth in _SHADOW_NAMES)


def draw_shadow(canvas: Canvas, camera: Camera, joints: np.ndarray, light: Light, strength: float) -> None:
    """The shadow of people on the ground y = 0, darkening the background; ``joints`` (N, len(JOINTS), 3)."""
    if light.direction[1] < 0.1:
        return
    fall = joints - light.direction * (np.maximum(joints[..., 1:2], 0) / light.direction[1])
    xy, depth = camera.project(fall)
    height, width = canvas.depth.shape
    mask = np.zeros(((height + 1) // 2, (width + 1) // 2), np.uint8)
    usable = np.isfinite(xy).all((1, 2)) & (np.abs(np.nan_to_num(xy)).max((1, 2)) < 8000)
    for person in np.flatnonzero(usable):
        points = np.round(xy[person] * 4).astype(int).tolist()  # eighths of the half-size mask's pixels
        girths = np.clip(camera.focal / depth[person] * 0.5, 1, 300).tolist()
        for first, second, girth in _SHADOW_BONES:
            thickness = min(max(1, round(girths[first] * 2 * girth)), 120)
            cv2.line(mask, points[first], points[second], 255, thickness, cv2.LINE_AA, 3)
    size = 2 * max(1, width // 120) + 1
    mask = cv2.resize(cv2.blur(mask, (size, size)), (width, height), interpolation=cv2.INTER_LINEAR)
    darken = 255 - (mask.astype(np.float32) * strength).astype(np.uint8)
    darken[canvas.depth < 1e5] = 255
    cv2.multiply(canvas.image, cv2.merge([darken] * 3), canvas.image, 1 / 255)


def paste_patch(
    rng: np.random.Generator, canvas: Canvas, picture: np.ndarray | None, centre: np.ndarray, size: float
) -> None:
    """Puts a patch of a picture (or of painted noise) over everything, as something close to the camera would stand."""
    height, width = canvas.depth.shape
    a, b = size * rng.uniform(0.3, 1.0, 2)
    angle = rng.uniform(0, np.pi)
    corners = rng.integers(4, 9)
    turn = np.sort(rng.uniform(0, 2 * np.pi, corners)) if rng.random() < 0.6 else np.linspace(0, 2 * np.pi, 24)
    around = np.stack([np.cos(turn) * a, np.sin(turn) * b], 1)
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    outline = cv2.convexHull(np.round((around @ spin.T + centre) * 16).astype(np.int32))
    mask = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(mask, outline, 255, cv2.LINE_AA, 4)
    x, y, w, h = cv2.boundingRect(mask)
    if not w or not h:
        return
    if picture is None:
        picture = paint_background(rng, (max(w, 8), max(h, 8)))
    cut = cv2.resize(picture, (w, h), interpolation=cv2.INTER_AREA)
    view = (slice(y, y + h), slice(x, x + w))
    alpha = mask[view].astype(np.float32)[..., None] / 255
    image = canvas.image[view]
    image[:] = (image * (1 - alpha) + cut * alpha).astype(np.uint8)
    solid = mask[view] > 127
    canvas.identity[view][solid] = PROP
    canvas.depth[view][solid] = 0.05
