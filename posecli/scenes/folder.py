"""Scenes as files: a folder with one video and one label file for every camera of every scene.

    OUT/front/scene_000.mp4   OUT/front/scene_000.json   OUT/side/scene_000.mp4 ...   OUT/skeleton.toml

Labels have the form of the ``mars`` folder: ``{"frames": [{"frame", "persons": [{"track_id", "keypoints", "bbox",
"head_box", "area"}]}], "keypoints": [names]}``, boxes as x, y, width, height in pixels.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.scenes.backdrop import Backgrounds, Panorama, make_box
from posecli.scenes.body import Pose, keypoints3d, sample_build
from posecli.scenes.camera import VIEWS, Rig, look_at, sample_rig
from posecli.scenes.crossing import CROSSING_FIELD, crossing_walk, crossing_wall
from posecli.scenes.filming import Filming
from posecli.scenes.motion import EVERYDAY, sample_motion
from posecli.scenes.penn import PennTracks, penn_motion
from posecli.scenes.raster import Canvas
from posecli.scenes.scene import LIGHTS, Finish, Person, Prop, Scene, light_from, render_moment
from posecli.scenes.textures import cloth, plain, random_colour
from posecli.scenes.wardrobe import sample_figure
from posecli.skeletons import BODY19
from posecli.types import Instance
from posecli.video import VideoWriter

MARKER = "scenes.json"
"""Written into every folder of scenes: what was made, and from what."""
SUBFRAMES = 5
_CHUNK = 16


@dataclass(frozen=True, kw_only=True)
class SceneOptions(Filming):
    """What to make.

    Attributes:
        cameras: names of `posecli.scenes.camera.VIEWS`, seen at the same times.
        motion: ``"procedural"``, or an ``.npz`` of Penn Action tracks, of which ``split`` says which.
        crossing: people walk past one another and behind a wall that hides each for about a second, which stands in
            place of ``occluders``; the people of a scene last longer than its pictures show them.
    """

    cameras: tuple[str, ...] = ("front", "side")
    motion: str = "procedural"
    crossing: bool = False

    def check(self) -> None:
        """UsageError on values that make no sense."""
        self.check_filming(
            people=(0, 30),
            least_frames=1,
            largest=4096,
            fastest=240,
            lights=LIGHTS,
            splits=("train", "test", "all"),
        )
        if self.crossing and self.motion != "procedural":
            raise UsageError("people who cross walk by the rules", hint="--motion procedural")
        unknown = [c for c in self.cameras if c not in VIEWS]
        if unknown or not self.cameras or len(set(self.cameras)) != len(self.cameras):
            what = f"unknown camera {unknown[0]!r}" if unknown else "cameras must be given, each once"
            raise UsageError(what, hint=f"of {', '.join(VIEWS)}")


@dataclass(frozen=True)
class Staged:
    """A scene ready to be filmed: rigs and backgrounds by camera, times (``subframes`` a frame), motions."""

    scene: Scene
    rigs: dict[str, Rig]
    panoramas: dict[str, Panorama]
    finish: Finish
    times: np.ndarray
    subframes: int
    motions: tuple[str, ...]


def stage(options: SceneOptions, index: int, backgrounds: Backgrounds, tracks: PennTracks | None) -> Staged:
    """Builds scene number ``index``: people, their motion, things, light, cameras."""
    rng = np.random.default_rng([options.seed, index])
    shutter = np.linspace(-0.5, 0.5, SUBFRAMES) * options.blur if options.blur > 0 else np.zeros(1)
    # Half a shutter later, so that no time is negative.
    times = ((np.arange(options.frames)[:, None] + shutter + options.blur / 2) / options.fps).ravel()
    people: list[Person] = []
    spots: list[np.ndarray] = []
    count = int(rng.integers(options.people[0], options.people[1] + 1))
    for number in range(count):
        build = sample_build(rng)
        figure = sample_figure(rng, build, backgrounds.texture(rng))
        if options.crossing:
            people.append(Person(figure, crossing_walk(rng, build, times, number, count), number + 1))
            continue
        if tracks is None:
            pose = sample_motion(rng, build, times, EVERYDAY)
        else:
            pose = penn_motion(tracks, rng, build, times)
        spot = _free_spot(rng, spots)
        spots.append(spot)
        shift = np.array([spot[0], 0, spot[1]]) - pose.joints[0, 0] * [1, 0, 1]
        people.append(Person(figure, Pose(pose.joints + shift, pose.frames, pose.actions), number + 1))
    points = [keypoints3d(p.figure.build, p.pose)[:: max(1, len(times) // 40)].reshape(-1, 3) for p in people]
    cloud = np.concatenate(points) if points else np.array([[-1, 0, -1], [1, 1.8, 1.0]])
    if options.crossing:
        cloud = CROSSING_FIELD
    rigs = _rigs(rng, options, cloud)
    boxes, props = _things(rng, options, rigs, cloud, people, backgrounds)
    if options.crossing:
        boxes, props = [crossing_wall(rng, backgrounds.texture(rng))], []
    scene = Scene(people, light_from(rng, options.light), boxes, props, shadow=float(rng.uniform(0.1, 0.5)))
    panoramas = {n: Panorama(backgrounds, rng, rig.at(0.0), options.size_wh) for n, rig in rigs.items()}
    gain = rng.uniform(0.85, 1.15) * rng.normal(1, 0.02, 3)
    finish = Finish(gain=gain, gamma=float(np.exp(rng.normal(0, 0.1))), noise=options.noise)
    motions = tuple("+".join(p.pose.actions) for p in people)
    return Staged(scene, rigs, panoramas, finish, times, len(shutter), motions)


def _free_spot(rng: np.random.Generator, taken: list[np.ndarray]) -> np.ndarray:
    """(2,) x, z in metres: near the others, half a metre apart at least."""
    if not taken:
        return np.zeros(2)
    spot = np.zeros(2)
    for attempt in range(50):
        spot = rng.normal(0, 0.8 + 0.05 * attempt, 2) * [1.2, 1.0]
        if min(np.linalg.norm(spot - other) for other in taken) > 0.55:
            break
    return spot


def _rigs(rng: np.random.Generator, options: SceneOptions, cloud: np.ndarray) -> dict[str, Rig]:
    """Cameras that see where people are; somebody who travels far may leave the picture."""
    w, h = options.size_wh
    low, high = np.percentile(cloud, 4, axis=0), np.percentile(cloud, 96, axis=0)
    target = (low + high) / 2
    elevation, distance = rng.uniform(-2, 14), rng.uniform(4.0, 7.5)
    rigs = {}
    for name in options.cameras:
        azimuth = VIEWS[name] + rng.normal(0, 3)
        roll = rng.normal(0, 1.0) * options.camera_motion
        unit = look_at(target, azimuth, elevation, distance, roll, 1.0, (0.0, 0.0))
        xy, _ = unit.project(cloud)
        extent = np.nanpercentile(np.abs(xy), 98, axis=0) + 0.04
        focal = min(0.5 * w / extent[0], 0.5 * h / extent[1]) * rng.uniform(0.82, 0.98)
        focal = max(focal, 0.4 * h * distance / 1.75)
        rigs[name] = sample_rig(
            rng, target, azimuth, elevation, distance, roll, focal, options.size_wh, options.camera_motion
        )
    return rigs


def _things(
    rng: np.random.Generator, options: SceneOptions, rigs: dict[str, Rig], cloud: np.ndarray, people: list[Person],
    backgrounds: Backgrounds,
) -> tuple[list, list[Prop]]:  # fmt: skip
    """Boxes, poles, bushes and balls: some before the people, some behind, none inside a body."""
    boxes, props = [], []
    ground = cloud[:, [0, 2]]
    wanted = rng.poisson(options.occluders) if options.occluders > 0 else 0
    names = list(rigs)
    for number in range(wanted + int(rng.integers(0, 3))):
        camera = rigs[names[int(rng.integers(len(names)))]].at(0.0)
        goal = ground[int(rng.integers(len(ground)))]
        start = camera.position[[0, 2]]
        far = rng.uniform(0.6, 0.88) if number < wanted else rng.uniform(1.15, 1.5)
        aside = np.array([goal[1] - start[1], start[0] - goal[0]]) / max(np.linalg.norm(goal - start), 0.1)
        spot = start + (goal - start) * far + aside * rng.normal(0, 0.25 if number < wanted else 0.9)
        clearance = np.linalg.norm(ground - spot, axis=1).min() if people else 9.0
        kind = rng.choice(["box", "pole", "bush", "ball"], p=[0.45, 0.25, 0.2, 0.1])
        size = rng.uniform(0.3, 0.9, 3) * [1.0, 1.2, 0.6]
        reach = {"box": max(size[0], size[2]) * 0.75, "pole": 0.12, "bush": 0.5, "ball": 0.25}[str(kind)]
        if clearance < reach + 0.2:
            continue
        if kind == "box":
            boxes.append(make_box(rng, spot, (size[0], size[1], size[2]), backgrounds.texture(rng)))
            continue
        texture = cloth(rng, backgrounds.texture(rng)).cut(rng, 60, 60)
        radius = rng.uniform(0.03, 0.09)
        ends = np.array([[spot[0], 0, spot[1]], [spot[0], 2.6, spot[1]]])
        axes = np.diag([radius, radius * 0.5, radius])
        if kind == "bush":
            radius = rng.uniform(0.25, 0.45)
            texture = plain(random_colour(rng) * [0.4, 0.8, 0.3], folds=4.0).cut(rng, 60, 60)
            ends[:, 1] = [radius * 0.6, radius * rng.uniform(1.0, 2.4)]
            axes = np.diag([radius, radius * 0.9, radius])
        elif kind == "ball":
            radius = rng.uniform(0.1, 0.2)
            ends[:, 1] = radius
            axes = np.diag([radius] * 3)
        # The part's middle axis is the way from end to end: up.
        poly = np.array([1.0, 0.0, 0.0])
        props.append(Prop(ends, axes, poly, np.clip(texture, 0, 255).astype(np.uint8)))
    return boxes, props


@dataclass(frozen=True)
class Shot:
    """One frame of one camera: its number, the camera's name, the picture (H, W, 3) uint8, depth and identities of the
    middle of the exposure, and its labels as `Scene.label` gives them."""

    frame: int
    camera: str
    image: np.ndarray
    canvas: Canvas
    labels: list[tuple[int, Instance]]


def film(staged: Staged, seed: int) -> Iterator[Shot]:
    """All frames of all cameras of a scene, frame by frame; ``seed`` decides the sensor noise."""
    scene, times, each = staged.scene, staged.times, staged.subframes
    frames = len(times) // each
    grain = {name: np.random.default_rng([seed, number]) for number, name in enumerate(staged.rigs)}
    for start in range(0, frames, _CHUNK):
        stop = min(frames, start + _CHUNK)
        placed, keypoints, joints = scene.moments(slice(start * each, stop * each))
        for frame in range(start, stop):
            own = slice((frame - start) * each, (frame - start + 1) * each)
            for name, rig in staged.rigs.items():
                cameras = [rig.at(float(t)) for t in times[frame * each : (frame + 1) * each]]
                image, canvas, labels = render_moment(
                    scene, cameras.__getitem__, staged.panoramas[name].seen_by, placed[own], keypoints[own], joints[own]
                )
                yield Shot(frame, name, staged.finish(image, grain[name]), canvas, labels)


def person_json(instance: Instance) -> dict[str, Any]:
    """A labelled person in the form of the module's files."""
    keypoints = [
        [round(float(x), 3), round(float(y), 3), int(v)] if v else [0, 0, 0]
        for (x, y), v in zip(instance.xy, instance.visibility, strict=True)
    ]
    out: dict[str, Any] = {"track_id": instance.track_id, "keypoints": keypoints}
    if instance.box_xyxy is not None:
        out |= {"bbox": _xywh(instance.box_xyxy), "area": instance.area}
    if instance.head_box_xyxy is not None:
        out["head_box"] = _xywh(instance.head_box_xyxy)
    return out


def _xywh(box: np.ndarray) -> list[float]:
    return [round(float(v), 2) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def skeleton_toml() -> str:
    """The joints of all generated people."""

    def names(values: tuple[str, ...]) -> str:
        return "[" + ", ".join(f'"{v}"' for v in values) + "]"

    return (
        f'name = "{BODY19.name}"\nkeypoints = {names(BODY19.keypoints)}\n'
        f"edges = {[list(e) for e in BODY19.edges]}\nsigmas = {list(BODY19.sigmas)}\n"
        f"limbs = {[list(e) for e in BODY19.limbs]}\nhead = {names(BODY19.head)}\ntorso = {names(BODY19.torso)}\n"
    )


def refuse_other_folders(out: Path, overwrite: bool) -> None:
    """PoseError unless scenes can be written to a folder: a new or empty one, or one of scenes with ``overwrite``."""
    if not out.exists():
        return
    if not out.is_dir():
        raise PoseError("the output is a file", str(out), "give a folder")
    if any(out.iterdir()):
        if not overwrite:
            raise PoseError("the output exists already", str(out), "choose another name or give --overwrite")
        if not (out / MARKER).exists():
            raise PoseError("not a folder of scenes, left alone", str(out), "choose another name")


def generate(
    out: str | Path,
    options: SceneOptions,
    *,
    overwrite: bool = False,
    on_frame: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Writes a folder of scenes; it appears under its name when all of it is finished.

    Args:
        out: the folder, new or empty, or one of scenes that ``overwrite`` replaces.
        options: what to make.
        overwrite: replace a folder made by this function before; any other is left alone.
        on_frame: called after each frame of each camera with the number finished.

    Returns:
        A summary: ``videos``, ``frames``, ``people`` (labelled, over all frames), ``keypoints`` by visibility, and
        ``scenes`` with the motions used.

    Raises:
        PoseError: the folder holds something else, or motion or backgrounds cannot be read.
        UsageError: options out of range.
    """
    options.check()
    out = Path(out)
    refuse_other_folders(out, overwrite)
    backgrounds = Backgrounds(None if options.backgrounds == "procedural" else options.backgrounds)
    tracks = None if options.motion == "procedural" else PennTracks(options.motion, options.split)
    people, seen, scenes = 0, [0, 0, 0], []
    done = 0
    with replace_when_done(out) as part:
        part.mkdir(parents=True)
        (part / "skeleton.toml").write_text(skeleton_toml(), encoding="utf-8")
        for name in options.cameras:
            (part / name).mkdir()
        for index in range(options.count):
            staged = stage(options, index, backgrounds, tracks)
            stem = f"scene_{index:03d}"
            frames: dict[str, list[dict[str, Any]]] = {name: [] for name in options.cameras}
            with contextlib.ExitStack() as stack:
                writers = {
                    name: stack.enter_context(
                        VideoWriter(part / name / f"{stem}.mp4", *options.size_wh, options.fps, crf=options.compression)
                    )
                    for name in options.cameras
                }
                for shot in film(staged, options.seed + index):
                    writers[shot.camera].write(shot.image)
                    persons = [person_json(instance) for _, instance in shot.labels]
                    frames[shot.camera].append({"frame": shot.frame, "persons": persons})
                    people += len(persons)
                    for _, instance in shot.labels:
                        for v in (0, 1, 2):
                            seen[v] += int((instance.visibility == v).sum())
                    done += 1
                    if on_frame is not None:
                        on_frame(done)
            for name in options.cameras:
                head = {
                    "recording": stem, "tags": [name], "fps": options.fps, "width": options.size_wh[0],
                    "height": options.size_wh[1], "camera": name, "motion": list(staged.motions),
                    "keypoints": list(BODY19.keypoints),
                }  # fmt: skip
                text = json.dumps({**head, "frames": frames[name]}, separators=(",", ":"))
                (part / name / f"{stem}.json").write_text(text + "\n", encoding="utf-8")
            scenes.append({"scene": stem, "people": len(staged.motions), "motion": list(staged.motions)})
        # Only names of files, no folders: the same options give the same bytes anywhere.
        told = replace(
            options,
            motion=options.motion if tracks is None else tracks.path.name,
            backgrounds=options.backgrounds if backgrounds.folder is None else backgrounds.folder.resolve().name,
        )
        summary = {
            "videos": options.count * len(options.cameras),
            "frames": done,
            "people": people,
            "keypoints": {"out_of_frame": seen[0], "hidden": seen[1], "visible": seen[2]},
            "motion_source": "procedural" if tracks is None else f"{tracks.path.name} ({options.split})",
            "background_source": told.backgrounds,
            "scenes": scenes,
        }
        text = json.dumps({"posecli_scenes": 1, "options": asdict(told), **summary}, indent=1)
        (part / MARKER).write_text(text + "\n", encoding="utf-8")
    return summary
