"""Left and right limbs of people in videos, with what was a moment ago counted (`posecli.codecs.sides.MEMORY`) and not.

    python benchmarks/sides_over_time.py ../shared/data/clips/*.mp4 ../shared/data/clips/*.avi
    posecli scenes puppets --puppets ../shared/data/lspet/annotations.json --motion \\
        ../shared/data/penn_action_labels/penn_action_labels.npz --split val --count 12 --people 1-2 --frames 120 \\
        --size 384x384 --cameras front,side --backgrounds ../shared/data/backgrounds/images --seed 5
    python benchmarks/sides_over_time.py puppets/*/*.mp4

Each video is run twice, by the shipped model. *Exchanged*: of a hundred pairs of a person's elbows, wrists, knees or
ankles (all four joints with a score of 0.25 or more) those of which left and right have changed places since the frame
before: exchanged they would have moved by less than half as much. Of videos with labels beside them (of `posecli
scenes`) also PCK@0.2 of the twelve limb joints, misses counted as wrong, and the jitter of errors, the mean second
difference of (found - true) in torsos, of joints found in three frames on end; differences with 95 % intervals by
bootstrap over videos. Who is whose is decided with the sides left open, so exchanged limbs count as errors.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import linear_sum_assignment

from posecli.codecs import sides
from posecli.inference import DEFAULT_MODEL, PoseModel, load_model
from posecli.pipeline import infer
from posecli.skeletons import BODY19

Poses = dict[int | None, np.ndarray]  # (K, 3) x, y, score, by identity


def joints(*names: str) -> list[int]:
    """Left and right joints in turn."""
    return [BODY19.keypoints.index(f"{side}_{name}") for name in names for side in ("left", "right")]


LIMBS = joints(*(name for limb in sides.LIMBS for name in limb))
MOVING = np.array(joints("elbow", "wrist", "knee", "ankle")).reshape(-1, 2)
_SURE, _NEAR, _SOMEBODY = 0.25, 0.2, 0.5


def run(video: Path, model: PoseModel) -> list[Poses]:
    """The shown people of every frame."""
    return [
        {p.track_id: np.column_stack([p.xy, p.score]) for p in people if p.person_score >= model.threshold}
        for _, people in infer(str(video), model=model)
    ]


def exchanged(frames: list[Poses]) -> tuple[int, int]:
    """Pairs that changed places since the frame before, and pairs seen in both."""
    found = total = 0
    for last, now in pairwise(frames):
        for who in last.keys() & now.keys():
            before, after = last[who][MOVING], now[who][MOVING]
            sure = (before[..., 2] >= _SURE).all(1) & (after[..., 2] >= _SURE).all(1)
            stayed = np.linalg.norm(after[..., :2] - before[..., :2], axis=2).sum(1)
            swapped = np.linalg.norm(after[..., :2] - before[:, ::-1, :2], axis=2).sum(1)
            # Joints at one place exchange nothing that can be seen.
            height = np.ptp(after[..., 1])
            found += int((sure & (swapped < 0.5 * stayed) & (stayed > 0.1 * height)).sum())
            total += int(sure.sum())
    return found, total


def judged(labels: Path, frames: list[Poses]) -> tuple[int, int, float, int]:
    """Limb joints that are right, labelled ones, the sum of second differences of errors and how many they are."""
    right = labelled = 0
    errors: dict[int, dict[int, np.ndarray]] = {}
    for entry in json.loads(labels.read_text())["frames"]:
        number = entry["frame"]
        people = list(frames[number].values()) if number < len(frames) else []
        true, tracks = [], []
        for person in entry["persons"]:
            xyv = np.asarray(person["keypoints"], float)
            if xyv[5, 2] > 0 and xyv[12, 2] > 0:  # whose torso is known
                true.append(xyv)
                tracks.append(person["track_id"])
        if not true:
            continue
        torso = [max(float(np.linalg.norm(t[5, :2] - t[12, :2])), 1.0) for t in true]
        away = np.full((len(true), len(people), len(LIMBS)), np.inf)
        open_sides = np.full((len(true), len(people)), np.inf)
        for i, t in enumerate(true):
            seen = t[LIMBS, 2] > 0
            for j, found in enumerate(people):
                away[i, j] = np.linalg.norm(found[LIMBS, :2] - t[LIMBS, :2], axis=1) / torso[i]
                other = np.asarray(LIMBS).reshape(-1, 2)[:, ::-1].ravel()
                crossed = np.linalg.norm(found[other, :2] - t[LIMBS, :2], axis=1) / torso[i]
                open_sides[i, j] = np.minimum(np.minimum(away[i, j], crossed), 1)[seen].mean()
        rows, columns = linear_sum_assignment(np.minimum(open_sides, 9)) if people else ([], [])
        partner = {i: j for i, j in zip(rows, columns, strict=True) if open_sides[i, j] < _SOMEBODY}
        for i, t in enumerate(true):
            seen = t[LIMBS, 2] > 0
            labelled += int(seen.sum())
            if i in partner:
                right += int((seen & (away[i, partner[i]] < _NEAR)).sum())
                error = (people[partner[i]][LIMBS, :2] - t[LIMBS, :2]) / torso[i]
                errors.setdefault(tracks[i], {})[number] = np.where(seen[:, None], error, np.nan)
    second = [
        np.linalg.norm(of[n - 1] - 2 * of[n] + of[n + 1], axis=1)
        for of in errors.values()
        for n in of
        if n - 1 in of and n + 1 in of
    ]
    values = np.concatenate(second) if second else np.zeros(0)
    return right, labelled, float(np.nansum(values)), int((~np.isnan(values)).sum())


def interval(without: np.ndarray, memory: np.ndarray, by: np.ndarray, by_memory: np.ndarray) -> str:
    """Difference of two ratios of sums over videos, with its interval."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(without), (2000, len(without)))
    differences = memory[rows].sum(1) / by_memory[rows].sum(1) - without[rows].sum(1) / by[rows].sum(1)
    low, high = np.quantile(differences, [0.025, 0.975])
    return f"{memory.sum() / by_memory.sum() - without.sum() / by.sum():+.4f} ({low:+.4f} to {high:+.4f})"


def main() -> None:
    """Prints a table, a row for each video, and what all with labels say together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--weights", default=DEFAULT_MODEL)
    arguments = parser.parse_args()
    model = load_model(arguments.weights, device="cpu")
    shipped, all_judged = sides.MEMORY, []
    totals = np.zeros(4)
    print(f"{'video':32} {'exchanged without':>18} {'with':>12}")
    for video in arguments.videos:
        found, of_video = [], []
        for memory in (0.0, shipped):
            sides.MEMORY = memory
            frames = run(video, model)
            found += exchanged(frames)
            if video.with_suffix(".json").is_file():
                of_video.append(judged(video.with_suffix(".json"), frames))
        totals += found
        print(f"{video.name:32} {found[0]:8} of {found[1]:6} {found[2]:6} of {found[3]:6}", flush=True)
        if of_video and of_video[0][1]:
            all_judged.append(of_video)
    print(f"in all {totals[0] / totals[1]:.4f} without, {totals[2] / totals[3]:.4f} with")
    if all_judged:
        table = np.asarray(all_judged, float)  # (videos, without and with, 4)
        without, memory = table[:, 0], table[:, 1]
        for name, over, under in (("PCK@0.2", 0, 1), ("jitter of errors", 2, 3)):
            first, second = (t[:, over].sum() / t[:, under].sum() for t in (without, memory))
            change = interval(without[:, over], memory[:, over], without[:, under], memory[:, under])
            print(f"{name}: {first:.4f} without, {second:.4f} with, {change}")


if __name__ == "__main__":
    main()
