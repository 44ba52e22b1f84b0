"""Identities in crossing scenes: IDF1, MOTA and HOTA of each tracker, and what a frame of 1 to 50 people costs.

    posecli scenes cross/ --crossing --seed 7 --count 12 --people 2-6 --frames 175 --fps 25 --size 640x360 \
        --cameras front --camera-motion 0.3 --light day
    posecli infer cross/front/*.mp4 --out poses/
    python benchmarks/tracking.py cross/ poses/

Two kinds of poses go to the same trackers: those of a model (a folder of streams, identities in them are not looked
at) and true poses with noise (2 % of the person's height in each joint, one person in twenty missed). Scenes in which
nobody turns round are counted by themselves too: whoever turns while hidden can't be told from somebody else by motion.
Somebody of whom less than a third is seen (of the largest area of the seconds around) does not count, neither as
labelled nor as predicted. Only people at or above the display threshold take part.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.geometry import keypoint_box
from posecli.metrics.tracking import (
    TrackedFrame,
    clear_mot,
    clear_scores,
    hota,
    hota_scores,
    identity,
    identity_scores,
)
from posecli.predictions import read_stream
from posecli.skeletons import BODY19
from posecli.tracking import TRACKERS, make
from posecli.types import Instance
from posecli.video import open_source

_SEEN = 1 / 3  # share of a person's area that must be seen
_SIGMAS = (2 * np.asarray(BODY19.sigmas)) ** 2


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


def noisy(truth: list[list[Person]], seed: int) -> list[list[Instance]]:
    """True poses with noise; whoever does not count is missed."""
    rng = np.random.default_rng(seed)
    frames = []
    for people in truth:
        found = []
        for p in people:
            if not p.counts or rng.random() < 0.05:
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


def run(name: str, found: list[list[Instance]], fps: float, images: Callable[[], Iterator[np.ndarray]] | None) -> Any:
    """The numbers a tracker gives, and the CPU seconds it took."""
    tracker = make(name, BODY19, 0.0)
    pictures = images() if images is not None and tracker.needs_pictures else None
    numbers, used = [], 0.0
    for n, people in enumerate(found):
        image = None if pictures is None else next(pictures)
        start = time.process_time()
        numbers.append(tracker.link(people, n / fps, image))
        used += time.process_time() - start
    return numbers, used


def streams(folder: Path, stem: str) -> list[list[Instance]]:
    """The shown people of each frame of a scene, as a model found them."""
    frames = []
    for header, line in read_stream(folder / f"{stem}.poses.jsonl"):
        frames.append([p for p in line.instances if p.person_score >= (header.threshold or 0)])
    return frames


def pictures(path: Path) -> Callable[[], Iterator[np.ndarray]]:
    """The frames of a video, as often as wanted."""

    def frames() -> Iterator[np.ndarray]:
        with open_source(path) as source:
            for frame in source.frames():
                yield frame.image

    return frames


def scores(sums: list[list[np.ndarray]]) -> dict[str, float]:
    """Figures over all scenes."""
    clear, ident, higher = (np.sum(part, axis=0) for part in zip(*sums, strict=True))
    values = clear_scores(clear) | identity_scores(ident) | hota_scores(higher.ravel())
    return {
        k: float(values[k])
        for k in ("IDF1", "MOTA", "HOTA", "AssA", "MOT_switches", "MOT_misses", "MOT_false_positives")
    }


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


def quality(scenes: Path, poses: Path | None, names: list[str]) -> dict[str, Any]:
    """Figures of every tracker on both kinds of poses."""
    files = sorted(p for p in scenes.glob("*/*.json"))
    result: dict[str, Any] = {}
    straight = [not turns(labels(path, json.loads(path.read_text())["fps"])) for path in files]
    for kind in ("true + noise", *(["model"] if poses else [])):
        for name in names:
            sums, used, count = [], 0.0, 0
            for number, path in enumerate(files):
                fps = json.loads(path.read_text())["fps"]
                truth = labels(path, fps)
                found = noisy(truth, number) if kind != "model" else streams(poses, path.stem)  # type: ignore[arg-type]
                numbers, seconds = run(name, found, fps, pictures(path.with_suffix(".mp4")))
                frames = tracked(truth, found, numbers)
                sums.append([clear_mot(frames), identity(frames), hota(frames)])
                used, count = used + seconds, count + len(found)
            row = scores(sums) | {"ms_per_frame": 1000 * used / count, "scenes": len(files)}
            row["IDF1_by_scene"] = [round(scores([s])["IDF1"], 3) for s in sums]
            row["IDF1_nobody_turns"] = scores([s for s, plain in zip(sums, straight, strict=True) if plain])["IDF1"]
            result.setdefault(kind, {})[name] = row
            print(
                f"{kind:13} {name:5} "
                + " ".join(f"{k} {v if isinstance(v, list) else f'{v:.3f}'}" for k, v in row.items()),
                flush=True,
            )
    return result


def cost(names: list[str]) -> dict[str, Any]:
    """CPU milliseconds a frame and memory held for crowds of people, at the start and after many frames."""
    result: dict[str, Any] = {}
    shape = np.random.default_rng(0).uniform([0, 0], [40, 100], (BODY19.num_keypoints, 2))
    for name in names:
        for people in (1, 2, 5, 10, 20, 50):
            tracker = make(name, BODY19, 0.0)
            rng = np.random.default_rng(1)
            spots = rng.uniform([0, 0], [1200, 600], (people, 2))
            image = rng.integers(0, 255, (720, 1280, 3), dtype=np.uint8)
            took, held = [], []
            tracemalloc.start()
            frames = 300 if not tracker.needs_pictures else 60
            for n in range(frames):
                spots += rng.normal(0, 2, spots.shape)
                crowd = []
                for x, y in spots:
                    if rng.random() < 0.05:
                        continue
                    xy = (shape + [x, y]).astype(np.float32)
                    crowd.append(
                        Instance(xy, np.full(len(xy), 2), np.ones(len(xy), np.float32), 0.9,
                                 np.concatenate([xy.min(0), xy.max(0)]).astype(float))
                    )  # fmt: skip
                start = time.process_time()
                tracker.link(crowd, n / 25, image)
                took.append(time.process_time() - start)
                if n in (frames // 5, frames - 1):
                    held.append(tracemalloc.get_traced_memory()[0])
            tracemalloc.stop()
            row = {"ms_per_frame": 1000 * float(np.mean(took)), "memory_growth_kb": (held[1] - held[0]) / 1024}
            result.setdefault(name, {})[people] = row
            print(f"{name:5} {people:3d} people " + " ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)
    return result


def main() -> None:
    """Prints the figures; with ``--out`` also writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("scenes", type=Path)
    parser.add_argument("poses", type=Path, nargs="?")
    parser.add_argument("--trackers", default=",".join(TRACKERS))
    parser.add_argument("--no-cost", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    names = arguments.trackers.split(",")
    result = {"quality": quality(arguments.scenes, arguments.poses, names)}
    if not arguments.no_cost:
        result["cost"] = cost(names)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
