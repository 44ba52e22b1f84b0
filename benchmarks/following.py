"""What following people between the finder's runs saves, and what it changes: against finding them in every frame.

    python benchmarks/following.py CLIP... [--weights FILE] [--find-every 0.1,0.2,0.3] [--frames 300]

Both ways run in one process one after the other; the figures are its CPU time. Only people at or above the display
threshold are counted. ``kept`` is the share of the plain run's people that the other run shows too (OKS >= 0.5),
``added`` the share of its own that the plain run doesn't, ``oks`` the mean similarity of the pairs, ``ids`` the
identities given, ``held`` the share of all sightings that the most frequent of them have, as many as there are people
in one frame of ten at least, ``gaps`` how often in a hundred frames one is not shown for a moment, ``jitter`` the mean
second difference of certain joints that move by less than a hundredth of the person's height a frame, in thousandths of
that height.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment

from posecli.grouping.pose_nms import oks_matrix
from posecli.inference import DEFAULT_MODEL, PoseModel, load_model
from posecli.pipeline import infer
from posecli.types import Instance

Frames = list[tuple[Instance, ...]]


def run(clip: str, model: PoseModel, find_every: float, frames: int) -> tuple[Frames, float]:
    """The shown people of every frame, and the CPU time."""
    used = time.process_time()
    people = [
        tuple(p for p in found if p.person_score >= model.threshold)
        for _, found in infer(clip, model=model, find_every=find_every, end=frames)
    ]
    return people, time.process_time() - used


def agreement(plain: Frames, other: Frames, sigmas: tuple[float, ...]) -> tuple[float, float]:
    """Share of the plain run's people that the other has, and the mean OKS of the pairs."""
    pairs, total = [], 0
    for a, b in zip(plain, other, strict=True):
        total += len(a)
        if not a or not b:
            continue
        both = [*a, *b]
        boxes = np.stack([np.asarray(p.box_xyxy) for p in both])
        areas = 0.53 * (boxes[:, 2:] - boxes[:, :2]).prod(1)
        oks = oks_matrix(np.stack([p.xy for p in both]), areas, sigmas)[: len(a), len(a) :]
        rows, columns = linear_sum_assignment(-oks)
        pairs += [v for v in oks[rows, columns].tolist() if v >= 0.5]
    return len(pairs) / max(total, 1), float(np.mean(pairs)) if pairs else float("nan")


def jitter(frames: Frames) -> float:
    """Mean second difference of certain joints on slow parts, thousandths of the box height."""
    values = []
    tracks = [{p.track_id: p for p in people if p.track_id is not None} for people in frames]
    for a, b, c in zip(tracks, tracks[1:], tracks[2:], strict=False):
        for i in a.keys() & b.keys() & c.keys():
            height = float(b[i].box_xyxy[3] - b[i].box_xyxy[1])  # type: ignore[index]
            sure = (a[i].score > 0.3) & (b[i].score > 0.3) & (c[i].score > 0.3)
            slow = np.linalg.norm(c[i].xy - a[i].xy, axis=1) < 0.02 * height
            second = np.linalg.norm(a[i].xy - 2 * b[i].xy + c[i].xy, axis=1)[sure & slow]
            values += (1000 * second / height).tolist()
    return float(np.mean(values)) if values else float("nan")


def gaps(frames: Frames) -> float:
    """Gaps in which an identity is not shown, in a hundred frames; the tracker forgets whoever is gone for longer."""
    shown: dict[int, list[int]] = {}
    for n, people in enumerate(frames):
        for p in people:
            if p.track_id is not None:
                shown.setdefault(p.track_id, []).append(n)
    return 100 * sum(int((np.diff(numbers) > 1).sum()) for numbers in shown.values()) / max(len(frames), 1)


def held(frames: Frames) -> float:
    """Share of the sightings with an identity that the most frequent identities have, one for each person."""
    sightings = Counter(p.track_id for people in frames for p in people if p.track_id is not None)
    together = Counter(len(people) for people in frames)
    often = (n for n in together if sum(c for m, c in together.items() if m >= n) >= len(frames) / 10)
    kept = sightings.most_common(max(often, default=0))
    return sum(count for _, count in kept) / max(sightings.total(), 1)


def main() -> None:
    """Prints a table, a row for each clip and setting."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--weights", default=DEFAULT_MODEL)
    parser.add_argument("--find-every", default="0.2")
    parser.add_argument("--frames", type=int, default=300)
    arguments = parser.parse_args()
    model = load_model(arguments.weights, device="cpu")
    settings = [0.0, *(float(v) for v in arguments.find_every.split(","))]
    print(f"{model.name}, {torch.get_num_threads()} threads, threshold {model.threshold}")
    print(
        f"{'clip':28} {'every':>6} {'ms/frame':>8} {'people':>7} {'kept':>6} {'added':>6} {'oks':>6} "
        f"{'ids':>4} {'held':>5} {'gaps':>5} {'jitter':>7}"
    )
    for clip in arguments.clips:
        plain: Frames = []
        for setting in settings:
            people, used = run(clip, model, setting, arguments.frames)
            plain = plain or people
            kept, oks = agreement(plain, people, model.skeleton.sigmas)
            back, _ = agreement(people, plain, model.skeleton.sigmas)
            ids = len({p.track_id for found in people for p in found})
            print(
                f"{Path(clip).name:28} {setting:6.2f} {1000 * used / len(people):8.1f} "
                f"{np.mean([len(p) for p in people]):7.2f} {kept:6.3f} {1 - back:6.3f} {oks:6.3f} {ids:4d} "
                f"{held(people):5.2f} {gaps(people):5.1f} {jitter(people):7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
