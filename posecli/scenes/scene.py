"""One scene: people, props and light in the world, drawn by a camera, with labels read from the depth buffer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from posecli.scenes.backdrop import Box, draw_box, draw_shadow
from posecli.scenes.body import JOINTS, Pose, keypoints3d
from posecli.scenes.camera import Camera
from posecli.scenes.raster import NOBODY, Canvas, Light, Parts, draw_parts, silhouette_box
from posecli.scenes.wardrobe import OWN_GROUPS, SURFACE_GAP, Figure, G, Placed, place
from posecli.types import Instance

COVER_GAP = 0.012
"""How far (metres) something else must lie in front of a keypoint to hide it."""
LEAST_AREA = 12
"""People of whom fewer pixels are seen are not labelled."""


@dataclass(frozen=True)
class Person:
    """A dressed body and its motion over all times of the scene (T, sub-frames included)."""

    figure: Figure
    pose: Pose
    track_id: int


@dataclass(frozen=True)
class Prop:
    """A rounded object (pole, ball, bush): one part, see `posecli.scenes.raster.Parts`."""

    ends: np.ndarray
    axes: np.ndarray
    poly: np.ndarray
    texture: np.ndarray


@dataclass
class Scene:
    """Everything there is.

    Attributes:
        people: with poses at the same T times.
        light: of the whole scene.
        boxes, props: things, standing still.
        shadow: 0 none .. 1 black.
    """

    people: Sequence[Person]
    light: Light
    boxes: Sequence[Box] = ()
    props: Sequence[Prop] = ()
    shadow: float = 0.0
    _parts: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        figures = [p.figure for p in self.people]
        textures = [f.texture for f in figures] + [p.texture[None] for p in self.props]
        self._parts = {
            "poly": np.concatenate(
                [f.poly for f in figures] + [p.poly[None] for p in self.props] or [np.zeros((0, 3))]
            ),
            "texture": np.concatenate(textures) if textures else np.zeros((0, 1, 1, 3), np.uint8),
            "shine": np.concatenate([f.shine for f in figures] + [np.zeros(len(self.props), np.float32)]),
            "group": np.concatenate([f.group for f in figures] + [np.full(len(self.props), -1)]).astype(int),
            "owner": np.concatenate(
                [np.full(len(f), i) for i, f in enumerate(figures)] + [np.full(len(self.props), -1)]
            ).astype(int),
        }
        # Things carried hide a body but do not belong to its outline.
        self._parts["outline"] = np.where(self._parts["group"] == G["carried"], -1, self._parts["owner"])

    def moments(self, times: slice) -> tuple[list[list[Placed]], np.ndarray, np.ndarray]:
        """The people at some of the times, T of them.

        Returns:
            parts [time][person]; keypoints (T, people, 19, 3) and joints (T, people, len(JOINTS), 3) in metres.
        """
        poses = [Pose(p.pose.joints[times], p.pose.frames[times]) for p in self.people]
        if not poses:
            count = times.stop - times.start
            return [[] for _ in range(count)], np.zeros((count, 0, 19, 3)), np.zeros((count, 0, len(JOINTS), 3))
        figures = [p.figure for p in self.people]
        placed = zip(*(place(f, pose) for f, pose in zip(figures, poses, strict=True)), strict=True)
        keypoints = np.stack([keypoints3d(f.build, pose) for f, pose in zip(figures, poses, strict=True)], 1)
        return [list(row) for row in placed], keypoints, np.stack([pose.joints for pose in poses], 1)

    def draw(self, canvas: Canvas, camera: Camera, placed: Sequence[Placed], joints: np.ndarray) -> None:
        """Draws the scene at one time into a canvas that holds the background; ``joints`` (people, len(JOINTS), 3)."""
        if self.shadow > 0 and len(joints):
            draw_shadow(canvas, camera, joints, self.light, self.shadow)
        for box in self.boxes:
            draw_box(canvas, camera, box, self.light)
        parts = Parts(
            ends=np.concatenate([np.zeros((0, 2, 3)), *(p.ends for p in placed), *(p.ends[None] for p in self.props)]),
            axes=np.concatenate([np.zeros((0, 3, 3)), *(p.axes for p in placed), *(p.axes[None] for p in self.props)]),
            poly=self._parts["poly"],
            texture=self._parts["texture"],
            texture_index=np.arange(len(self._parts["poly"])),
            shine=self._parts["shine"],
        )
        draw_parts(canvas, camera, parts, self.light)

    def label(
        self, canvas: Canvas, camera: Camera, placed: Sequence[Placed], keypoints: np.ndarray
    ) -> list[tuple[int, Instance]]:
        """What is true of the picture in ``canvas``: (index of the person, labels) of everyone seen.

        Visibility: 2 visible, 1 hidden by another part of the body, a person or a thing, 0 out of the picture (xy NaN).
        Boxes and areas are of the seen outline, clothes and hair included; the head box is of the whole skull.
        """
        height, width = canvas.depth.shape
        out = []
        owner = np.append(self._parts["outline"], [-1, -1])  # identities -1 and -2 read these two
        owners = owner.astype(np.int8).take(canvas.identity, mode="wrap")
        for index, person in enumerate(self.people):
            outline = (owners == index).view(np.uint8)
            area = int(cv2.countNonZero(outline))
            if area < LEAST_AREA:
                continue
            x, y, w, h = cv2.boundingRect(outline)
            xy, depth = camera.project(keypoints[index])
            visibility = self._visibility(canvas, index, xy, depth, person.figure.build.stature)
            skull = person.figure.skull
            head = silhouette_box(
                camera, placed[index].ends[skull : skull + 1], placed[index].axes[skull : skull + 1],
                person.figure.poly[skull : skull + 1],
            )[0]  # fmt: skip
            head = np.clip(head, -0.5, [width - 0.5, height - 0.5] * 2)
            head_box = head if np.isfinite(head).all() and head[2] > head[0] and head[3] > head[1] else None
            xy[visibility == 0] = np.nan
            instance = Instance(
                xy=xy.astype(np.float32),
                visibility=visibility,
                score=np.ones(len(xy), np.float32),
                box_xyxy=np.array([x, y, x + w, y + h], float),
                area=float(area),
                track_id=person.track_id,
                head_box_xyxy=head_box,
            )
            out.append((index, instance))
        return out

    def _visibility(self, canvas: Canvas, index: int, xy: np.ndarray, depth: np.ndarray, stature: float) -> np.ndarray:
        height, width = canvas.depth.shape
        with np.errstate(invalid="ignore"):
            inside = (xy > -0.5).all(1) & (xy[:, 0] < width - 0.5) & (xy[:, 1] < height - 0.5)
        pixel = np.where(inside[:, None], np.nan_to_num(xy), 0).round().astype(int)
        found = canvas.identity[pixel[:, 1], pixel[:, 0]]
        front = canvas.depth[pixel[:, 1], pixel[:, 0]]
        part = np.maximum(found, 0)
        if len(self._parts["owner"]):
            mine = (found >= 0) & (self._parts["owner"][part] == index)
            own = mine & OWN_GROUPS[np.arange(len(xy)), self._parts["group"][part]]
        else:
            own = np.zeros(len(xy), bool)
        # Its own piece of the body lies in front of every keypoint; anything else must not.
        allowed = np.where(own, SURFACE_GAP * stature, COVER_GAP)
        hidden = (found != NOBODY) & (front < depth - allowed)
        return np.where(inside, np.where(hidden, 1, 2), 0)


def light_from(rng: np.random.Generator, kind: str = "random") -> Light:
    """Light of a ``kind`` of `LIGHTS`."""
    if kind == "random":
        kind = str(rng.choice(list(LIGHTS)[1:], p=[0.45, 0.35, 0.1, 0.1]))
    high, sun, ambient = LIGHTS[kind]
    around = rng.uniform(-np.pi, np.pi) * (1.0 if kind == "day" else 0.6) + (np.pi if kind == "backlit" else 0.0)
    up = np.deg2rad(rng.uniform(*high))
    direction = np.array([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)])
    warm = rng.normal(0, 0.05)
    tint = np.array([1 + warm, 1.0, 1 - warm])
    return Light(direction, rng.uniform(*sun) * tint, rng.uniform(*ambient) * (2 - tint))


LIGHTS: dict[str, tuple[tuple[float, float], tuple[float, float], tuple[float, float]]] = {
    "random": ((0, 0), (0, 0), (0, 0)),
    "day": ((25, 70), (0.5, 0.8), (0.4, 0.6)),
    "indoor": ((40, 85), (0.25, 0.5), (0.45, 0.7)),
    "dim": ((30, 80), (0.1, 0.25), (0.2, 0.35)),
    "backlit": ((15, 45), (0.5, 0.8), (0.25, 0.4)),
}
"""Kinds of light: height of the sun in degrees, its strength, the strength of light from all around."""


@dataclass(frozen=True)
class Finish:
    """What a camera does to the picture: gain and colour, gamma, noise (grey levels), JPEG quality (None: none)."""

    gain: np.ndarray
    gamma: float = 1.0
    noise: float = 0.0
    quality: int | None = None
    grey: bool = False

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(H, W, 3) uint8 to the same."""
        levels = np.linspace(0, 1, 256)[:, None] ** self.gamma * self.gain * 255
        image = cv2.LUT(image, np.clip(levels, 0, 255).astype(np.uint8).reshape(1, 256, 3))
        if self.grey:
            image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        if self.noise > 0:
            h, w = image.shape[:2]
            bank = _noise_bank()
            tall, wide = -(-h // 384), -(-w // 384)
            y, x = rng.integers(0, 128, 2)
            grain = bank[y : y + 384, x : x + 384]
            if tall > 1 or wide > 1:
                grain = np.tile(grain, (tall, wide, 1))
            scaled = (grain[:h, :w] * np.float32(self.noise)).astype(np.int16)
            image = cv2.add(image, scaled, dtype=cv2.CV_8U)
        if self.quality is not None:
            _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, self.quality])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1]
        return np.ascontiguousarray(image)


_NOISE: list[np.ndarray] = []


def _noise_bank() -> np.ndarray:
    if not _NOISE:
        rng = np.random.default_rng(11)
        _NOISE.append(rng.normal(0, 1, (512, 512, 3)).astype(np.float32))
    return _NOISE[0]


def render_moment(
    scene: Scene,
    camera_at: Callable[[int], Camera],
    background_of: Callable[[Camera], np.ndarray],
    placed: Sequence[Sequence[Placed]],
    keypoints: np.ndarray,
    joints: np.ndarray,
) -> tuple[np.ndarray, Canvas, list[tuple[int, Instance]]]:
    """One exposure: sub-frames averaged (more of them the faster things move), labels of the middle one.

    Args:
        scene: what is there.
        camera_at: sub-frame index to camera.
        background_of: a new background picture as seen by a camera.
        placed, keypoints, joints: [sub-frame][person ...], an odd number of sub-frames.

    Returns:
        image (H, W, 3) uint8, the canvas of the middle sub-frame, and its labels as `Scene.label`.
    """
    count = len(placed)
    middle = count // 2
    chosen = [middle]
    if count > 1:
        first, _ = camera_at(0).project(keypoints[0])
        last, _ = camera_at(count - 1).project(keypoints[-1])
        path = np.nan_to_num(np.linalg.norm(last - first, axis=-1)).max(initial=0.0)
        turn, _ = camera_at(0).project(camera_at(middle).position + camera_at(middle).rotation[2] * 100)
        pan = np.linalg.norm(np.nan_to_num(turn) - camera_at(0).centre) * 2
        if max(path, pan) > 7:
            chosen = list(range(count))
        elif max(path, pan) > 1.5:
            chosen = [0, middle, count - 1]
    total: np.ndarray | None = None
    canvas = None
    for k in chosen:
        camera = camera_at(k)
        drawn = Canvas.on(background_of(camera))
        scene.draw(drawn, camera, placed[k], joints[k])
        if k == middle:
            canvas = drawn
        if len(chosen) > 1:
            total = drawn.image.astype(np.uint16) if total is None else total + drawn.image
    if canvas is None:
        raise ValueError("an even number of sub-frames has no middle one")
    labels = scene.label(canvas, camera_at(middle), placed[middle], keypoints[middle])
    image = canvas.image if total is None else (total // len(chosen)).astype(np.uint8)
    return image, canvas, labels
