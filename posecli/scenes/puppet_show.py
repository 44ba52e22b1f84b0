"""Videos of puppets: real people's pictures moved along recorded tracks, over real backgrounds, with exact labels.

Each video has people, a background, tracks of Penn Action and a camera drawn from its number alone: with the same seed
the same people do the same things whatever blur, noise, darkness, occluders and compression are asked for, so that
conditions can be compared clip by clip. People, backgrounds and tracks are split (`puppets.in_split`; tracks by Penn
Action's own flag, a tenth of its training tracks serving for validation).

Written is a ``mars`` folder, as `scenes.folder` does: ``OUT/front/front_000.mp4`` with its ``.json``; the tag is the
view that the tracks were recorded from (``front``, ``side``, ``back``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.scenes.backdrop import Backgrounds
from posecli.scenes.filming import Filming
from posecli.scenes.folder import MARKER, person_json, refuse_other_folders, skeleton_toml
from posecli.scenes.penn import FPS, PennTracks, Track
from posecli.scenes.puppets import (
    COVER,
    J19,
    LIMB_JOINTS,
    People,
    Puppet,
    Stage,
    draw,
    ends_of,
    face_places,
    head_of,
    in_split,
    parts_at,
)
from posecli.scenes.scene import Finish
from posecli.types import Instance
from posecli.video import VideoWriter

#: Recorded views by tag.
VIEWS = {"front": ("front",), "back": ("back",), "side": ("left", "right")}
_PENN = ("head", *(f"{side}_{j}" for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
                   for side in ("right", "left")))  # fmt: skip
SUBFRAMES = 5
_MARGIN = 0.25
#: Levels of light, and of the grain of a dark sensor.
_LIGHT = {"random": (0.75, 1.1), "day": (0.95, 1.15), "indoor": (0.7, 0.95), "dim": (0.1, 0.3), "backlit": (0.4, 0.6)}
_DARK_GRAIN = 5.0


@dataclass(frozen=True, kw_only=True)
class PuppetOptions(Filming):
    """What to make.

    Attributes:
        puppets: COCO keypoint JSON files of people. motion: ``.npz`` of Penn Action tracks. ``split``, also ``"val"``,
            is of people, tracks and backgrounds.
        views: tags of `VIEWS`; ``count`` videos of each.
    """

    puppets: tuple[str, ...]
    motion: str
    views: tuple[str, ...] = ("front", "side")
    people: tuple[int, int] = (1, 1)

    def check(self) -> None:
        """UsageError on values that make no sense."""
        self.check_filming(
            people=(1, 6),
            least_frames=2,
            largest=2048,
            fastest=120,
            lights=_LIGHT,
            splits=("train", "val", "test", "all"),
        )
        if not self.views or any(view not in VIEWS for view in self.views) or len(set(self.views)) < len(self.views):
            raise UsageError("views of puppets are front, side and back", hint="--cameras front,side")
        if self.motion == "procedural":
            raise UsageError("puppets move along recorded tracks", hint="--motion penn_action_labels.npz")


@dataclass(frozen=True)
class Actor:
    """A puppet with its way through the video: ``places`` by joint, (frames x SUBFRAMES, 2) pixels before the camera
    moves; ``scale`` of its thickness, ``light`` (3,), the side ``near`` to the camera, and what ``motion`` it is."""

    puppet: Puppet
    places: Mapping[str, np.ndarray]
    scale: float
    light: np.ndarray
    near: str
    motion: str


@dataclass(frozen=True)
class Passing:
    """A thing that passes: its picture, outline, middle (frames x SUBFRAMES, 2)."""

    image: np.ndarray
    alpha: np.ndarray
    path: np.ndarray


class Cast:
    """What videos are made of, of one split."""

    def __init__(self, options: PuppetOptions) -> None:
        self.people = People(options.puppets, options.split)
        self.backgrounds = Backgrounds(None if options.backgrounds == "procedural" else options.backgrounds)
        if self.backgrounds.folder is not None:
            folder = self.backgrounds.folder
            found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
            self.backgrounds.files = [p for p in found if in_split(p.name, options.split)]
            if not self.backgrounds.files:
                raise PoseError(f"no background of the split {options.split!r}", str(folder))
        flag = {"train": "train", "val": "train", "test": "test", "all": "all"}[options.split]
        self.tracks = PennTracks(options.motion, flag)
        numbers = np.array(self.tracks.usable)
        tenth = numbers % 10 == 1
        kept = {"train": ~tenth, "val": tenth}.get(options.split, np.ones(len(numbers), bool))
        self._by_view = {
            view: [n for n in np.flatnonzero(kept).tolist() if self.tracks.view(n) in wanted]
            for view, wanted in VIEWS.items()
        }

    def track(self, view: str, rng: np.random.Generator) -> Track:
        """A random track of a view in which bodies don't point at the camera all the time."""
        numbers = self._by_view[view]
        for _ in range(200 if numbers else 0):
            track = self.tracks.track(numbers[int(rng.integers(len(numbers)))])
            if _in_full_length(track.xy):
                return track
        raise PoseError(f"no usable track of the view {view} in this split", str(self.tracks.path))


def _in_full_length(xy: np.ndarray) -> bool:
    """Whether torso and legs of a track (T, 13, 2) are about as long as each other's on an upright body."""

    def longest(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.percentile(np.linalg.norm(a - b, axis=-1), 85))

    torso = longest((xy[:, 1] + xy[:, 2]) / 2, (xy[:, 7] + xy[:, 8]) / 2)
    legs = [longest(xy[:, hip], xy[:, hip + 2]) + longest(xy[:, hip + 2], xy[:, hip + 4]) for hip in (7, 8)]
    return 0.4 * max(legs) < torso < 1.1 * min(legs)


def rehearse(
    options: PuppetOptions, cast: Cast, view: str, index: int
) -> tuple[list[Actor], list[Passing], np.ndarray, np.ndarray]:
    """Video number ``index`` of a view: people, things, background (larger than the picture) and camera matrices
    (frames x SUBFRAMES, 2, 3), picture of the first camera to picture."""
    own = [options.seed, list(VIEWS).index(view), index]
    draw_people, draw_way, draw_things = (np.random.default_rng([*own, purpose]) for purpose in range(3))
    w, h = options.size_wh
    shutter = np.linspace(-0.5, 0.5, SUBFRAMES) * options.blur
    times = ((np.arange(options.frames)[:, None] + shutter + 0.5) / options.fps).ravel()
    actors: list[Actor] = []
    count = int(draw_people.integers(options.people[0], options.people[1] + 1))
    for _ in range(count):
        actors.append(_actor(options, cast, view, times, len(actors), count, draw_people))
    wide = (round(w * (1 + 2 * _MARGIN)), round(h * (1 + 2 * _MARGIN)))
    background = np.ascontiguousarray(cast.backgrounds.picture(draw_people, wide))
    cameras = _cameras(draw_way, times, options)
    things = []
    for _ in range(draw_things.poisson(options.occluders)):
        things.append(_thing(draw_things, cast, options, times, actors))
    return actors, things, background, cameras


def _actor(
    options: PuppetOptions, cast: Cast, view: str, times: np.ndarray, number: int, count: int, rng: np.random.Generator
) -> Actor:
    w, h = options.size_wh
    puppet, track = cast.people.puppet(rng), cast.track(view, rng)
    last = len(track.xy) - 1
    span = options.frames / options.fps * FPS  # whatever the exposure
    start = rng.uniform(0, max(last - span, 0.0)) if span < last else 0.0
    position = np.abs(((times * FPS + start) + last) % (2 * last) - last)
    k = np.minimum(position.astype(int), last - 1)
    f = (position - k)[:, None, None]
    xy = track.xy[k] * (1 - f) + track.xy[k + 1] * f
    joints = {name: xy[:, n] for n, name in enumerate(_PENN)}
    trunk = joints["left_hip"] + joints["right_hip"] - joints["left_shoulder"] - joints["right_shoulder"]
    torso = np.linalg.norm(trunk / 2, axis=1)
    # A torso is about 0.3 of a person's height.
    goal = 0.3 * h * rng.uniform(0.5, 0.9) * (1.0 if count == 1 else 0.8)
    factor = goal / max(float(np.percentile(torso, 90)), 1.0)
    low, high = np.percentile(xy, 3, axis=(0, 1)), np.percentile(xy, 97, axis=(0, 1))
    factor = min(factor, *(0.95 * np.array([w, h]) / np.maximum(high - low, 1.0)))
    slot = (number + 0.5) / count + rng.uniform(-0.3, 0.3) / count
    room = np.array([w, h]) - factor * (high - low)
    corner = np.array([slot * w - factor * (high - low)[0] / 2, room[1] * rng.uniform(0.3, 0.9)])
    corner[0] = np.clip(corner[0], min(0.0, room[0]), max(0.0, room[0]))
    joints = {name: (place - low) * factor + corner for name, place in joints.items()}
    scale = float(np.percentile(torso, 90)) * factor / puppet.torso
    limbs = {name: joints[name] for name in LIMB_JOINTS}
    places = ends_of(limbs, np.zeros(2))
    places["crown"] = head_of(puppet, places, joints["head"], scale)
    light = rng.uniform(0.85, 1.15) * (1 + rng.normal(0, 0.03, 3))
    near = {"left": "left", "right": "right"}.get(track.view, "right")
    return Actor(puppet, places, scale, light, near, f"penn {track.number} {track.action}")


def _cameras(rng: np.random.Generator, times: np.ndarray, options: PuppetOptions) -> np.ndarray:
    """(N, 2, 3) of a held camera that also pans slowly."""
    w, h = options.size_wh
    hertz = np.stack([rng.uniform(0.1, 0.5, 4), rng.uniform(1.5, 4.0, 4)], 1)
    phase, weight = rng.uniform(0, 2 * math.pi, (4, 2)), np.array([0.8, 0.2]) * rng.uniform(0.4, 1.0, (4, 1))
    wave = (np.sin(2 * math.pi * hertz * times[:, None, None] + phase) * weight).sum(-1) * options.camera_motion
    pan = rng.normal(0, 1.0, 2) * options.camera_motion
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    travel = times * options.fps / options.frames - 0.5
    limit = 0.8 * _MARGIN * np.array([w, h])
    move = np.clip(wave[:, :2] * 0.04 * w + travel[:, None] * pan * 0.05 * w, -limit, limit)
    angle, zoom = np.deg2rad(1.5) * wave[:, 2], np.exp(0.03 * wave[:, 3])
    linear = zoom[:, None, None] * np.stack(
        [np.stack([np.cos(angle), -np.sin(angle)], -1), np.stack([np.sin(angle), np.cos(angle)], -1)], 1
    )
    shift = middle - linear @ middle + move
    return np.concatenate([linear, shift[..., None]], -1)


def _thing(
    rng: np.random.Generator, cast: Cast, options: PuppetOptions, times: np.ndarray, actors: list[Actor]
) -> Passing:
    """Something that crosses the picture over a person at some time."""
    w, h = options.size_wh
    picture = cast.backgrounds.texture(rng)
    size = (np.array([rng.uniform(0.12, 0.3) * w, rng.uniform(0.3, 1.1) * h])).astype(int)
    if rng.random() < 0.4:
        size = np.array([rng.uniform(0.15, 0.35) * w] * 2).astype(int)
    if picture is None:
        image = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), np.uint8)
    else:
        image = cv2.resize(picture, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    alpha = np.ones((size[1], size[0]), np.float32)
    if rng.random() < 0.5:
        alpha[:] = 0
        cv2.ellipse(alpha, ((float(size[0] - 1) / 2, float(size[1] - 1) / 2), (float(size[0]), float(size[1])), 0.0),
                    1.0, -1, cv2.LINE_AA)  # fmt: skip
    alpha = cv2.GaussianBlur(np.pad(alpha, 1), (0, 0), 0.7)[1:-1, 1:-1]
    who = actors[int(rng.integers(len(actors)))]
    when = int(rng.integers(len(times)))
    joint = LIMB_JOINTS[int(rng.integers(len(LIMB_JOINTS)))]
    # Across the width in half a second to three seconds, either way.
    speed = w / rng.uniform(0.5, 3.0) * rng.choice([-1.0, 1.0])
    path = who.places[joint][when] + (times - times[when])[:, None] * np.array([speed, rng.normal(0, 0.05) * h])
    return Passing(image, alpha, path)


def shoot(
    options: PuppetOptions, actors: list[Actor], things: list[Passing], background: np.ndarray, cameras: np.ndarray,
    frame: int,
) -> tuple[np.ndarray, list[Instance]]:  # fmt: skip
    """One frame: the picture (H, W, 3) uint8, sub-frames of the exposure averaged, before the sensor; and labels of the
    exposure's middle, joints of `BODY19`."""
    w, h = options.size_wh
    margin = np.array([round(w * _MARGIN), round(h * _MARGIN)])
    middle = frame * SUBFRAMES + SUBFRAMES // 2
    moments = [middle] if options.blur == 0 else list(range(frame * SUBFRAMES, (frame + 1) * SUBFRAMES))
    total = np.zeros((h, w, 3), np.uint16)
    labels: list[Instance] = []
    for moment in moments:
        camera = cameras[moment]
        from_wide = camera @ np.array([[1, 0, -margin[0]], [0, 1, -margin[1]], [0, 0, 1.0]])
        stage = Stage.on(cv2.warpAffine(background, from_wide, (w, h), borderMode=cv2.BORDER_REFLECT))
        zoom = math.sqrt(abs(float(np.linalg.det(camera[:, :2]))))
        outlines = []
        placed = []
        for number, actor in enumerate(actors):
            places = {name: camera[:, :2] @ way[moment] + camera[:, 2] for name, way in actor.places.items()}
            draw(stage, actor.puppet, places, actor.scale * zoom, number, actor.light, actor.near)
            placed.append(places)
            outlines.append((stage.owner // 16 == number) & (stage.owner >= 0))
        for thing in things:
            size = np.array(thing.alpha.shape[::-1])
            at = camera[:, :2] @ thing.path[moment] + camera[:, 2] - (size - 1) / 2
            stage.lay(thing.image, thing.alpha, np.array([[1.0, 0, at[0]], [0, 1.0, at[1]]]), COVER)
        total += stage.image
        if moment == middle:
            labels = [
                label
                for number, (actor, places, outline) in enumerate(zip(actors, placed, outlines, strict=True))
                if (label := _label(stage, actor, places, outline, zoom, number)) is not None
            ]
    return (total // len(moments)).astype(np.uint8), labels


def _label(
    stage: Stage, actor: Actor, places: Mapping[str, np.ndarray], outline: np.ndarray, zoom: float, number: int
) -> Instance | None:
    """A person's labels: visibility 2 seen, 1 hidden by something, somebody or another part of the body, 0 outside or
    not labelled in the source; box and area of the whole outline within the picture. None where nothing is in view."""
    height, width = stage.owner.shape
    area = int(outline.sum())
    if area < 12:
        return None
    x, y, w, h = cv2.boundingRect(outline.astype(np.uint8))
    xy = np.full((len(J19), 2), np.nan)
    visibility = np.zeros(len(J19), int)
    known = {name: places[name] for name in LIMB_JOINTS}
    known["neck"] = places["neck"]
    known |= face_places(actor.puppet, places, actor.scale * zoom)
    for name, place in known.items():
        if not (-0.5 < place[0] < width - 0.5 and -0.5 < place[1] < height - 0.5):
            continue
        owner = int(stage.owner[round(float(place[1])), round(float(place[0]))])
        mine = owner < 0 or (owner // 16 == number and owner % 16 in parts_at(name))
        xy[J19[name]], visibility[J19[name]] = place, 2 if mine else 1
    return Instance(
        xy=xy.astype(np.float32),
        visibility=visibility,
        score=np.ones(len(J19), np.float32),
        box_xyxy=np.array([x, y, x + w, y + h], float),
        area=float(area),
        track_id=number + 1,
    )


def generate_puppets(
    out: str | Path,
    options: PuppetOptions,
    *,
    overwrite: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Writes a folder of puppet videos; it appears under its name when all of it is finished.

    Args, returned summary and errors: as `posecli.scenes.folder.generate`.
    """
    options.check()
    out = Path(out)
    refuse_other_folders(out, overwrite)
    cast = Cast(options)
    people, seen, scenes, done = 0, [0, 0, 0], [], 0
    level = _LIGHT[options.light]
    with replace_when_done(out) as part:
        part.mkdir(parents=True)
        (part / "skeleton.toml").write_text(skeleton_toml(), encoding="utf-8")
        for view in options.views:
            (part / view).mkdir()
            for index in range(options.count):
                stem = f"{view}_{index:03d}"
                play = rehearse(options, cast, view, index)
                sensor = np.random.default_rng([options.seed, list(VIEWS).index(view), index, 3])
                dark = _DARK_GRAIN if options.light == "dim" else 0.0
                finish = Finish(
                    gain=sensor.uniform(*level) * sensor.normal(1, 0.02, 3), noise=math.hypot(options.noise, dark)
                )
                frames = []
                place = part / view / f"{stem}.mp4"
                with VideoWriter(place, *options.size_wh, options.fps, crf=options.compression) as film:
                    for frame in range(options.frames):
                        image, labels = shoot(options, *play, frame)
                        film.write(finish(image, sensor))
                        frames.append({"frame": frame, "persons": [person_json(label) for label in labels]})
                        people += len(labels)
                        for v in (0, 1, 2):
                            seen[v] += sum(int((label.visibility == v).sum()) for label in labels)
                        done += 1
                        if on_frame is not None:
                            on_frame(done)
                motion = [actor.motion for actor in play[0]]
                head = {
                    "recording": stem, "tags": [view], "fps": options.fps, "width": options.size_wh[0],
                    "height": options.size_wh[1], "camera": view, "motion": motion, "split": options.split,
                    "people": [actor.puppet.source for actor in play[0]], "keypoints": list(J19),
                }  # fmt: skip
                text = json.dumps({**head, "frames": frames}, separators=(",", ":"))
                (part / view / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
                scenes.append({"scene": stem, "people": len(motion), "motion": motion})
        folder = cast.backgrounds.folder
        told = replace(
            options,
            puppets=tuple(Path(name).name for name in options.puppets),
            motion=cast.tracks.path.name,
            backgrounds="procedural" if folder is None else folder.resolve().name,
        )
        summary = {
            "videos": options.count * len(options.views),
            "frames": done,
            "people": people,
            "keypoints": {"out_of_frame": seen[0], "hidden": seen[1], "visible": seen[2]},
            "motion_source": f"{cast.tracks.path.name} ({options.split})",
            "background_source": told.backgrounds,
            "scenes": scenes,
        }
        text = json.dumps({"posecli_scenes": 1, "options": asdict(told), **summary}, indent=1)
        (part / MARKER).write_text(text + "\n", encoding="utf-8")
    return summary
