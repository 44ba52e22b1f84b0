"""Identities in crossing scenes: IDF1, MOTA and HOTA of each tracker, and what a frame of 1 to 50 people costs.

    posecli scenes cross/ --crossing --seed 7 --count 9 --people 2-6 --frames 150 --fps 25 --size 640x360 \
        --cameras front --camera-motion 0.3 --light day
    (cd cross/front && posecli infer *.mp4 --out ../../poses)
    python benchmarks/tracking.py cross/ poses/ --posetrack labels/

Three kinds of poses go to the same trackers: true poses with noise (2 % of the person's height in each joint); the same
with one person in twenty missed in every frame; and those of a model (a folder of streams, identities in them are not
looked at). Beside the trackers stand ``none`` (everybody is new in every frame), ``motion`` (`oks` that looks at no
colours) and ``perfect`` (identities from the labels: what these poses allow at most). Scenes in which nobody turns
round are counted by
themselves too. Somebody of whom less than a third is seen (of the largest area of the seconds around) does not count,
neither as labelled nor as predicted. Only people at or above the display threshold take part. A pose is somebody's from
an OKS of 0.5 on; ``IDF1_at_OKS_0.2`` asks for identities also where poses are poor.

``--posetrack FOLDER`` also writes the labels as PoseTrack18 does (a JSON a video; its joints, v 0 or 1; the middle 30
frames and every fourth of the others labelled; people of whom little is seen as ignore regions), reads them by the
converter, and gives the figures of `posecli evaluate` for each tracker.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from posecli.formats import read_dataset
from posecli.geometry import keypoint_box
from posecli.metrics import evaluate
from posecli.metrics.tracking import (
    TrackedFrame,
    clear_mot,
    clear_scores,
    hota,
    hota_scores,
    identity,
    identity_scores,
)
from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.skeletons import BODY19, POSETRACK18
from posecli.tracking import TRACKERS, OksTracker, make
from posecli.tracking.colours import described
from posecli.types import Instance
from posecli.video import open_source

#: Kinds of true poses with noise, and the share of people that are missed.
MISSED = {"noise": 0.0, "missed": 0.05}
_SEEN = 1 / 3  # share of a person's area that must be seen
_LOOSE = 0.2  # OKS of people whose identity is asked for although their pose is not good
_SIGMAS = (2 * np.asarray(BODY19.sigmas)) ** 2
_NAMES = ["neck" if n == "head_bottom" else "" if n.endswith("ear") else n for n in POSETRACK18.keypoints]
_STANDING = {  # pixels: what colours are read between
    "left_shoulder": (30, 20), "right_shoulder": (10, 20), "left_hip": (27, 52), "right_hip": (13, 52),
    "left_knee": (28, 78), "right_knee": (12, 78), "left_ankle": (28, 100), "right_ankle": (12, 100),
}  # fmt: skip
_POSETRACK = ("MOTA", "IDF1", "HOTA", "PoseTrack_MOTA")


@dataclass
class Person:
    """A labelled person of a frame: joints (K, 3) with visibility, area of the seen outline, whether it counts."""

    track: int
    joints: np.ndarray
    box: np.ndarray
    area: float
    counts: bool = True


def labels(path: Path, fps: float) -> list[list[Person]]:
    """The people of each frame of a generated scene."""
    frames = []
    for frame in json.loads(path.read_text())["frames"]:
        people = []
        for p in frame["persons"]:
            x, y, w, h = p["bbox"]
            joints = np.array(p["keypoints"], float)
            people.append(Person(p["track_id"], joints, np.array([x, y, x + w, y + h]), p["area"]))
        frames.append(people)
    area = {}
    for n, people in enumerate(frames):
        for p in people:
            area.setdefault(p.track, np.zeros(len(frames)))[n] = p.area
    reach = round(fps)
    for n, people in enumerate(frames):
        for p in people:
            around = area[p.track][max(0, n - reach) : n + reach + 1]
            p.counts = p.area >= _SEEN * around.max() and (p.joints[:, 2] > 0).sum() >= 5
    return frames


def noisy(truth: list[list[Person]], seed: int, missed: float) -> list[list[Instance]]:
    """True poses with noise, a share ``missed``; whoever does not count is missed, too."""
    rng = np.random.default_rng(seed)
    frames = []
    for people in truth:
        found = []
        for p in people:
            if not p.counts or rng.random() < missed:
                continue
            there = p.joints[:, 2] > 0
            height = np.ptp(p.joints[there, 1])
            xy = p.joints[:, :2] + rng.normal(0, 0.02 * height, (len(there), 2))
            box = keypoint_box(xy, there)
            found.append(
                Instance(
                    np.where(there[:, None], xy, np.nan).astype(np.float32), np.where(there, 2, 0),
                    there.astype(np.float32) * 0.8, 0.8, box,
                )
            )  # fmt: skip
        frames.append([found[i] for i in rng.permutation(len(found))])
    return frames


def similarity(people: list[Person], found: list[Instance]) -> np.ndarray:
    """(G, P) OKS with the labels' joints; the area is that of the whole person (0.53 of the joint box)."""
    result = np.zeros((len(people), len(found)))
    if not len(found):
        return result
    xy = np.stack([other.xy for other in found])
    seen = np.stack([other.visibility > 0 for other in found])
    for i, p in enumerate(people):
        there = p.joints[:, 2] > 0
        if not there.any():
            continue
        area = 0.53 * float(np.ptp(p.joints[there, :2], axis=0).prod())
        squared = ((xy[:, there] - p.joints[there, :2]) ** 2).sum(-1)
        alike = np.exp(-squared / (2 * max(area, 1.0) * _SIGMAS[there]))
        result[i] = np.where(seen[:, there], alike, 0.0).mean(1)
    return result


def tracked(
    truth: list[list[Person]], found: list[list[Instance]], numbers: list[list[int | None]]
) -> list[TrackedFrame]:
    """Frames for the metrics; predictions on people who do not count are left out."""
    frames = []
    own: dict[int, int] = {}
    ids: dict[int, int] = {}
    for people, instances, given in zip(truth, found, numbers, strict=True):
        kept = [i for i, n in enumerate(given) if n is not None]
        alike = similarity(people, [instances[i] for i in kept])
        counts = np.array([p.counts for p in people], bool)
        best = alike[counts].max(0, initial=0) if len(people) else np.zeros(len(kept))
        other = alike[~counts].max(0, initial=0) if len(people) else np.zeros(len(kept))
        use = [j for j in range(len(kept)) if not (other[j] >= 0.5 and best[j] < 0.5)]
        frames.append(
            TrackedFrame(
                np.array([own.setdefault(p.track, len(own)) for p in people if p.counts], np.int64),
                np.array([ids.setdefault(given[kept[j]], len(ids)) for j in use], np.int64),  # type: ignore[arg-type]
                alike[counts][:, use].reshape(int(counts.sum()), len(use)),
            )
        )
    return frames


def run(name: str, truth: list[list[Person]], found: list[list[Instance]], fps: float, video: Path) -> Any:
    """The numbers a tracker gives, and the CPU seconds it took, colours included."""
    if name == "none":
        count = iter(range(10**9))
        return [[next(count) for _ in people] for people in found], 0.0
    if name == "perfect":
        return [
            _own(people, instances, 10**6 + 100 * n)
            for n, (people, instances) in enumerate(zip(truth, found, strict=True))
        ], 0.0
    tracker = OksTracker(BODY19) if name == "motion" else make(name, BODY19, 0.0)
    pictures = frames_of(video) if tracker.needs_pictures or tracker.needs_colours else None
    numbers, used = [], 0.0
    for n, people in enumerate(found):
        image = None if pictures is None else next(pictures)
        start = time.process_time()
        if tracker.needs_colours:
            assert image is not None
            people = described(people, image, BODY19)
        numbers.append(tracker.link(people, n / fps, image))
        used += time.process_time() - start
    return numbers, used


def _own(people: list[Person], found: list[Instance], new: int) -> list[int]:
    """The labelled track of each person found, a number of its own for whoever is none."""
    alike = similarity(people, found)
    numbers = [new + i for i in range(len(found))]
    for i, j in zip(*linear_sum_assignment(-alike), strict=True):
        if alike[i, j] >= _LOOSE:
            numbers[j] = people[i].track + 1
    return numbers


def streams(folder: Path, stem: str) -> list[list[Instance]]:
    """The shown people of each frame of a scene, as a model found them."""
    frames = []
    for header, line in read_stream(folder / f"{stem}.poses.jsonl"):
        frames.append([p for p in line.instances if p.person_score >= (header.threshold or 0)])
    return frames


def misses(scenes: list[tuple[Path, list[list[Person]]]], poses: Path) -> dict[str, int]:
    """How many labelled people a model found: with a pose of an OKS of 0.5 or more; else with a poor one (from 0.2);
    else with a good one below the display threshold (down to 0.4 of it)."""
    counts = dict.fromkeys(("labelled", "found", "poor", "weak"), 0)
    for path, truth in scenes:
        for (header, line), people in zip(read_stream(poses / f"{path.stem}.poses.jsonl"), truth, strict=True):
            least, wanted = header.threshold or 0.0, [p for p in people if p.counts]
            shown = similarity(wanted, [p for p in line.instances if p.person_score >= least]).max(1, initial=0)
            weak = [p for p in line.instances if 0.4 * least <= p.person_score < least]
            missed = shown < 0.5
            counts["labelled"] += len(wanted)
            counts["found"] += int((~missed).sum())
            counts["poor"] += int((missed & (shown >= _LOOSE)).sum())
            counts["weak"] += int((missed & (similarity(wanted, weak).max(1, initial=0) >= 0.5)).sum())
    return counts


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """The frames of a video."""
    with open_source(path) as source:
        for frame in source.frames():
            yield frame.image


def scores(sums: list[list[np.ndarray]]) -> dict[str, float]:
    """Figures over all scenes."""
    clear, ident, higher = (np.sum(part, axis=0) for part in zip(*sums, strict=True))
    values = clear_scores(clear) | identity_scores(ident) | hota_scores(higher.ravel())
    return {
        k: float(values[k])
        for k in ("IDF1", "MOTA", "HOTA", "AssA", "MOT_switches", "MOT_misses", "MOT_false_positives")
    }


def returns(frames: list[TrackedFrame], fps: float) -> tuple[int, int]:
    """How often somebody came back who was not found for 0.5 to 1.5 s, and how often with the identity from before.

    The identity is the one most often given in the 0.4 s before and after.
    """
    seen: dict[int, list[tuple[int, int]]] = {}
    for n, frame in enumerate(frames):
        for i, j in zip(*linear_sum_assignment(-frame.similarity), strict=True):
            if frame.similarity[i, j] >= 0.5:
                seen.setdefault(int(frame.labels[i]), []).append((n, int(frame.predicted[j])))
    often = round(0.4 * fps)
    came = kept = 0
    for path in seen.values():
        for k in range(1, len(path)):
            if 0.5 <= (path[k][0] - path[k - 1][0]) / fps <= 1.5:
                before = [i for n, i in path[:k] if n > path[k - 1][0] - often]
                after = [i for n, i in path[k:] if n < path[k][0] + often]
                came += 1
                kept += max(set(before), key=before.count) == max(set(after), key=after.count)
    return came, kept


def turns(truth: list[list[Person]]) -> bool:
    """Whether anybody walks both ways, each for a third of a second at least."""
    ways: dict[int, list[float]] = {}
    for people in truth:
        for p in people:
            there = p.joints[:, 2] > 0
            if there.any():
                ways.setdefault(p.track, []).append(float(p.joints[there, 0].mean()))
    for xs in ways.values():
        if len(xs) > 30:
            step = np.diff(np.convolve(xs, np.ones(9) / 9, "valid"))
            if (step > 0.4).sum() > 8 and (step < -0.4).sum() > 8:
                return True
    return False


def quality(
    scenes: Path, poses: Path | None, names: list[str], kinds: list[str], released: Path | None
) -> dict[str, Any]:
    """Figures of every tracker on the kinds of poses wanted."""
    files = sorted(p for p in scenes.glob("*/*.json"))
    result: dict[str, Any] = {}
    rates = [json.loads(path.read_text())["fps"] for path in files]
    truths = [labels(path, fps) for path, fps in zip(files, rates, strict=True)]
    straight = [not turns(truth) for truth in truths]
    if released is not None:
        for path, truth in zip(files, truths, strict=True):
            release(released, path, truth)
    if "model" in kinds and poses is not None:
        result["people of the model"] = misses(list(zip(files, truths, strict=True)), poses)
        print(result["people of the model"], flush=True)
    for kind in kinds:
        every = [
            streams(poses, path.stem) if kind == "model" and poses is not None else noisy(truth, n, MISSED[kind])
            for n, (path, truth) in enumerate(zip(files, truths, strict=True))
        ]
        for name in names:
            sums, loose, used, count, lines, back = [], [], 0.0, 0, [], []
            for path, fps, truth, found in zip(files, rates, truths, every, strict=True):
                numbers, seconds = run(name, truth, found, fps, path.with_suffix(".mp4"))
                frames = tracked(truth, found, numbers)
                sums.append([clear_mot(frames), identity(frames), hota(frames)])
                loose.append(identity(frames, _LOOSE))
                back.append(returns(frames, fps))
                used, count = used + seconds, count + len(found)
                lines += written(path, fps, found, numbers)
            row = scores(sums) | {"ms_per_frame": 1000 * used / count, "scenes": len(files)}
            row["IDF1_at_OKS_0.2"] = float(identity_scores(np.sum(loose, axis=0))["IDF1"])
            row["came_back"], row["with_their_identity"] = np.sum(back, axis=0).tolist()
            row["IDF1_by_scene"] = [round(scores([s])["IDF1"], 3) for s in sums]
            if any(straight):
                row["IDF1_nobody_turns"] = scores([s for s, plain in zip(sums, straight, strict=True) if plain])["IDF1"]
            if released is not None:
                row["posetrack"] = posetrack(released, lines)
            result.setdefault(kind, {})[name] = row
            print(
                f"{kind:6} {name:7} "
                + " ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()),
                flush=True,
            )
    return result


def written(path: Path, fps: float, found: list[list[Instance]], numbers: list[list[int | None]]) -> list[Any]:
    """A scene's people with a tracker's identities, as lines of a stream."""
    header = StreamHeader(source=f"{path.stem}.mp4", skeleton=BODY19, fps=fps)
    return [
        (header, FramePoses(n, tuple(replace(p, track_id=i) for p, i in zip(people, given, strict=True)), n / fps))
        for n, (people, given) in enumerate(zip(found, numbers, strict=True))
    ]


def release(folder: Path, path: Path, truth: list[list[Person]]) -> None:
    """Writes a scene's labels as PoseTrack18 does."""
    scene = json.loads(path.read_text())
    places = [scene["keypoints"].index(n) if n in scene["keypoints"] else None for n in _NAMES]
    number = int(path.stem.rpartition("_")[2])
    middle = len(truth) // 2
    images: list[dict[str, Any]] = []
    people: list[dict[str, Any]] = []
    for n, frame in enumerate(truth):
        labelled = n % 4 == 0 or abs(n - middle) <= 15
        image_id = 10**10 + number * 10**4 + n
        image: dict[str, Any] = {
            "id": image_id, "frame_id": image_id, "vid_id": f"{number:06d}", "nframes": len(truth),
            "is_labeled": labelled, "file_name": f"images/val/{path.stem}/{n:06d}.jpg",
            "width": scene["width"], "height": scene["height"],
        }  # fmt: skip
        images.append(image)
        if not labelled:
            continue
        hidden = [p.box for p in frame if not p.counts]
        image["ignore_regions_x"] = [[b[0], b[2], b[2], b[0]] for b in hidden]
        image["ignore_regions_y"] = [[b[1], b[1], b[3], b[3]] for b in hidden]
        for p, known in zip(frame, scene["frames"][n]["persons"], strict=True):
            if p.counts:
                points = [[0, 0, 0] if k is None else [*p.joints[k, :2], int(p.joints[k, 2] > 0)] for k in places]
                x0, y0, x1, y1 = (float(v) for v in p.box)
                people.append({
                    "id": image_id * 100 + len(people), "image_id": image_id, "category_id": 1,
                    "track_id": p.track, "scores": [],
                    "keypoints": [float(v) for point in points for v in point], "bbox": [x0, y0, x1 - x0, y1 - y0],
                    **({"bbox_head": known["head_box"]} if "head_box" in known else {}),
                })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(POSETRACK18.keypoints)}
    place = folder / "annotations/val" / f"{path.stem}.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    value = {"images": images, "annotations": people, "categories": [category]}
    place.write_text(json.dumps(value, default=float))


def posetrack(folder: Path, lines: list[Any]) -> dict[str, float]:
    """What `posecli evaluate` says of a tracker on labels in PoseTrack18's form."""
    dataset = read_dataset(folder, warn=lambda message: None)
    found = evaluate(dataset, lines, metrics=("mota", "idf1", "hota", "posetrack"), warn=lambda message: None)
    return {k: float(v) for k, v in found["all"].items() if k in _POSETRACK}


def cost(names: list[str]) -> dict[str, Any]:
    """CPU milliseconds a frame, colours included, and memory held for crowds of people, early and after many frames.

    The median frame, and the one of ten that is quickest: other work on the machine disturbs it least.
    """
    result: dict[str, Any] = {}
    for name in names:
        for people in (1, 2, 5, 10, 20, 50):
            took = _crowd(name, people, lambda: None)[0]
            tracemalloc.start()
            held = _crowd(name, people, lambda: tracemalloc.get_traced_memory()[0])[1]
            tracemalloc.stop()
            row = {
                "ms": 1000 * float(np.median(took)),
                "quick_ms": 1000 * float(np.quantile(took, 0.1)),
                "memory_growth_kb": (held[1] - held[0]) / 1024,
            }
            result.setdefault(name, {})[people] = row
            print(f"{name:5} {people:3d} people " + " ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)
    return result


def _crowd(name: str, people: int, look: Callable[[], Any]) -> tuple[np.ndarray, list[Any]]:
    """CPU seconds of each frame of people who stand about in 1280 x 720, and what ``look`` says at a fifth of the way
    and at the end."""
    tracker = make(name, BODY19, 0.0)
    rng = np.random.default_rng(1)
    shape = rng.uniform([0, 0], [40, 100], (BODY19.num_keypoints, 2))
    for joint, place in _STANDING.items():
        shape[BODY19.index(joint)] = place
    spots = rng.uniform([0, 0], [1200, 600], (people, 2))
    image = rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    frames = 300 if not tracker.needs_pictures else 60
    took, seen = np.zeros(frames), []
    for n in range(frames):
        spots += rng.normal(0, 2, spots.shape)
        crowd = []
        for x, y in spots:
            if rng.random() >= 0.05:
                xy = (shape + [x, y]).astype(np.float32)
                box = np.concatenate([xy.min(0), xy.max(0)]).astype(float)
                crowd.append(Instance(xy, np.full(len(xy), 2), np.ones(len(xy), np.float32), 0.9, box))
        start = time.process_time()
        shown = described(crowd, image, BODY19) if tracker.needs_colours else crowd
        tracker.link(shown, n / 25, image)
        took[n] = time.process_time() - start
        if n in (frames // 5, frames - 1):
            seen.append(look())
    return took, seen


def main() -> None:
    """Prints the figures; with ``--out`` also writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("scenes", type=Path)
    parser.add_argument("poses", type=Path, nargs="?")
    parser.add_argument("--trackers", default=",".join(["none", "iou", "motion", "oks", "flow", "perfect"]))
    parser.add_argument("--kinds", help="some of noise, missed and model; by default all there are")
    parser.add_argument("--posetrack", type=Path, metavar="FOLDER")
    parser.add_argument("--no-cost", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    names = arguments.trackers.split(",")
    kinds = (arguments.kinds or ("noise,missed,model" if arguments.poses else "noise,missed")).split(",")
    if unknown := set(kinds) - {*MISSED, "model"}:
        parser.error(f"no kind of poses is called {min(unknown)!r}")
    if "model" in kinds and arguments.poses is None:
        parser.error("the model's poses are wanted: give their folder")
    result = {"quality": quality(arguments.scenes, arguments.poses, names, kinds, arguments.posetrack)}
    if not arguments.no_cost:
        result["cost"] = cost([name for name in names if name in TRACKERS])
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
