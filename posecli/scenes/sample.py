"""One labelled picture at a time, for training without files."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from posecli.scenes.backdrop import Backgrounds, paint_background, paste_patch
from posecli.scenes.body import Pose, keypoints3d, sample_build
from posecli.scenes.camera import Camera, look_at
from posecli.scenes.motion import EVERYDAY, SPORT, sample_motion
from posecli.scenes.penn import PennTracks, penn_motion
from posecli.scenes.scene import Finish, Person, Scene, light_from, render_moment
from posecli.scenes.wardrobe import sample_figure
from posecli.types import Instance


@dataclass(frozen=True)
class FrameStyle:
    """How pictures vary; each figure is a probability unless said otherwise.

    Attributes:
        sport: a person does gymnastics or athletics rather than everyday things.
        tracked: a person moves as a recorded track (only with ``tracks``).
        blur: the picture is exposed long enough to blur movement.
        defocus: the lens is out of focus.
        occluders: up to 1 the probability that patches are laid over the people; beyond, half a patch less than the
            mean number of them.
        close_up: the camera is so near that limbs leave the picture.
        noise: largest sensor noise in grey levels.
        jpeg: the picture is compressed and decoded.
        grey: the picture has no colour.
        fill: (least, most) part of the picture's width or height that the first person takes.
        light: a kind of `posecli.scenes.scene.LIGHTS`.
    """

    sport: float = 0.35
    tracked: float = 0.3
    blur: float = 0.2
    defocus: float = 0.25
    occluders: float = 0.5
    close_up: float = 0.15
    noise: float = 12.0
    jpeg: float = 0.3
    grey: float = 0.05
    fill: tuple[float, float] = (0.35, 0.95)
    light: str = "random"


def render_frame(
    rng: np.random.Generator,
    size_wh: tuple[int, int],
    people: int | tuple[int, int] = (1, 3),
    background: np.ndarray | Backgrounds | None = None,
    *,
    style: FrameStyle | None = None,
    tracks: PennTracks | None = None,
) -> tuple[np.ndarray, list[Instance]]:
    """Samples one labelled picture.

    Args:
        rng: decides everything; the same state gives the same picture.
        size_wh: width and height of the picture in pixels.
        people: how many, or (least, most).
        background: an RGB picture (resized to cover), a folder of them, or None for a painted one.
        style: how much the pictures vary.
        tracks: recorded motion to draw poses from, besides the procedural.

    Returns:
        image (H, W, 3) uint8 RGB and the people seen in it: joints of `posecli.skeletons.BODY19` (xy NaN where
        visibility is 0), box and area of the visible outline, box of the head.
    """
    style = style or FrameStyle()
    count = int(people if isinstance(people, int) else rng.integers(people[0], people[1] + 1))
    folder = background if isinstance(background, Backgrounds) else None
    picture = folder.texture(rng) if folder else background if isinstance(background, np.ndarray) else None
    blurred = rng.random() < style.blur
    shutter = rng.uniform(0.01, 0.06) if blurred else 0.0
    times = np.linspace(-0.5, 0.5, 5) * shutter + shutter if blurred else np.zeros(1)
    middle = len(times) // 2

    persons: list[Person] = []
    for _ in range(count):
        build = sample_build(rng)
        figure = sample_figure(rng, build, picture)
        if tracks is not None and rng.random() < style.tracked:
            pose = _facing(rng, penn_motion(tracks, rng, build, times))
        else:
            pose = sample_motion(rng, build, times, SPORT if rng.random() < style.sport else EVERYDAY)
        persons.append(Person(figure, pose, len(persons) + 1))
    camera, persons = _compose(rng, size_wh, persons, middle, style)
    light = light_from(rng, style.light)
    scene = Scene(persons, light, shadow=float(rng.uniform(0.1, 0.5)) if rng.random() < 0.5 else 0.0)

    back = _background(rng, size_wh, background)
    placed, keypoints, joints = scene.moments(slice(0, len(times)))
    image, canvas, labels = render_moment(scene, lambda _: camera, lambda _: back.copy(), placed, keypoints, joints)

    if labels and rng.random() < style.occluders:
        canvas.image = image
        for _ in range(1 + rng.poisson(max(style.occluders - 0.5, 0.2))):
            _, who = labels[int(rng.integers(len(labels)))]
            seen = who.xy[who.visibility > 0]
            centre = seen[int(rng.integers(len(seen)))] if len(seen) else np.array(size_wh) / 2
            box = who.box_xyxy if who.box_xyxy is not None else np.array([0, 0, *size_wh])
            size = rng.uniform(0.06, 0.3) * max(box[2] - box[0], box[3] - box[1])
            patch = folder.texture(rng) if folder else None
            paste_patch(rng, canvas, patch, centre + rng.normal(0, 0.3, 2) * size, max(size, 2.0))
        labels = scene.label(canvas, camera, placed[middle], keypoints[middle])
    image = _finish(rng, image, style)
    return image, [instance for _, instance in labels]


def _facing(rng: np.random.Generator, pose: Pose) -> Pose:
    """Turns a recorded motion a little about the vertical: the recording camera's view stays the likely one."""
    angle = rng.normal(0, 0.5)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    return Pose(pose.joints @ turn.T, turn @ pose.frames, pose.actions)


def _compose(
    rng: np.random.Generator, size_wh: tuple[int, int], persons: list[Person], middle: int, style: FrameStyle
) -> tuple[Camera, list[Person]]:
    """A camera that sees the first person as large as the style says, and the others around."""
    w, h = size_wh
    distance = rng.uniform(2.2, 7.5)
    elevation = rng.uniform(25, 60) if rng.random() < 0.08 else rng.normal(5, 7)
    azimuth, roll = rng.normal(0, 25), rng.normal(0, 4)
    if not persons:
        return look_at(np.array([0, 1.0, 0]), azimuth, elevation, distance, roll, w, ((w - 1) / 2, (h - 1) / 2)), []
    points = keypoints3d(persons[0].figure.build, persons[0].pose)[middle]
    target = (points.min(0) + points.max(0)) / 2
    unit = look_at(target, azimuth, elevation, distance, roll, 1.0, (0.0, 0.0))
    xy, _ = unit.project(points)
    low, high = np.nanmin(xy, 0), np.nanmax(xy, 0)
    extent = np.maximum(high - low, 0.02) + 0.02
    fill = rng.uniform(1.1, 2.2) if rng.random() < style.close_up else rng.uniform(*style.fill)
    focal = float(fill * min(w / extent[0], h / extent[1]))
    # Where the first person stands in the picture: anywhere that keeps most of it inside.
    spare = np.abs(np.array([w, h]) - focal * extent) / 2
    centre = np.array([(w - 1) / 2, (h - 1) / 2]) - focal * (low + high) / 2 + rng.uniform(-0.9, 0.9, 2) * spare
    camera = look_at(target, azimuth, elevation, distance, roll, focal, (float(centre[0]), float(centre[1])))
    out = [persons[0]]
    right, ahead = camera.rotation[0], camera.rotation[2] * [1, 0, 1]
    for person in persons[1:]:
        away = rng.uniform(-0.25, 1.0) * distance if rng.random() < 0.6 else rng.normal(0, 0.6)
        away = max(away, 1.6 - distance, -0.3 * distance)
        column = rng.uniform(0, w)
        aside = (column - centre[0]) / focal * (distance + away)
        if rng.random() < 0.35:  # close to the first, so that they overlap
            aside = rng.normal(0, 0.6)
        start = person.pose.joints[middle, 0] * [1, 0, 1]
        shift = target * [1, 0, 1] - start + right * aside + ahead * away
        if abs(aside) < 0.45 and abs(away) < 0.45:
            shift = shift + right * (0.6 if aside >= 0 else -0.6)
        out.append(replace(person, pose=Pose(person.pose.joints + shift, person.pose.frames, person.pose.actions)))
    return camera, out


def _background(
    rng: np.random.Generator, size_wh: tuple[int, int], background: np.ndarray | Backgrounds | None
) -> np.ndarray:
    if background is None:
        return paint_background(rng, size_wh)
    if isinstance(background, Backgrounds):
        return np.ascontiguousarray(background.picture(rng, size_wh))
    w, h = size_wh
    if background.shape[:2] == (h, w):
        return np.ascontiguousarray(background)
    scale = max(w / background.shape[1], h / background.shape[0])
    wide = (max(w, round(background.shape[1] * scale)), max(h, round(background.shape[0] * scale)))
    image = cv2.resize(background, wide, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    y, x = rng.integers(0, image.shape[0] - h + 1), rng.integers(0, image.shape[1] - w + 1)
    return np.ascontiguousarray(image[y : y + h, x : x + w])


def _finish(rng: np.random.Generator, image: np.ndarray, style: FrameStyle) -> np.ndarray:
    if rng.random() < style.defocus:
        image = cv2.GaussianBlur(image, (0, 0), float(rng.uniform(0.4, 1.8)))
    finish = Finish(
        gain=rng.uniform(0.75, 1.2) * rng.normal(1, 0.03, 3),
        gamma=float(np.exp(rng.normal(0, 0.15))),
        noise=float(rng.uniform(0, style.noise)) if rng.random() < 0.5 else 0.0,
        quality=int(rng.integers(25, 90)) if rng.random() < style.jpeg else None,
        grey=bool(rng.random() < style.grey),
    )
    return finish(image, rng)
