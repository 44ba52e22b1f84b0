"""What `posecli smooth` does to jitter, and how late it is: on the streams of real clips and against exact truth.

    posecli infer CLIP... --out streams/
    python benchmarks/smoothing.py streams/ --out benchmarks/results/smoothing.json

Clips: ``jitter`` is the mean second difference of certain joints (score above 0.3 in three frames) on slow parts (less
than a hundredth of the person's height a frame) in thousandths of that height, over the same joints before and after;
``lag`` in frames, on parts that are not slow, by least squares: how many steps of the motion the result lies behind.
Truth: joints of generated people (30 a second, nothing drawn), disturbed by noise of 1.2 % of the height at a score of
0.75 (more at lower ones), half of it carried on to the next frame; ``jitter`` is the second difference of what is
wrong, everywhere, so a frozen skeleton gains nothing; ``error`` the mean distance from the truth. All are ratios, after
to before.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.scenes.backdrop import Backgrounds
from posecli.scenes.folder import SceneOptions, stage
from posecli.skeletons import BODY19
from posecli.smoothing.filters import savitzky_golay
from posecli.smoothing.stream import FILTERS, Smoothing, smooth_lines
from posecli.types import Instance

Lines = list[FramePoses]
_SURE, _SLOW = 0.3, 0.01


def joints(lines: Iterable[FramePoses]) -> dict[int, dict[int, tuple[np.ndarray, np.ndarray, float]]]:
    """By identity and place in the stream: joints (K, 2), scores (K,), height of the box."""
    tracks: dict[int, dict[int, tuple[np.ndarray, np.ndarray, float]]] = {}
    for n, line in enumerate(lines):
        for p in line.instances:
            if p.track_id is not None and p.box_xyxy is not None:
                xy = np.where(p.visibility[:, None] > 0, p.xy, np.nan).astype(float)
                tracks.setdefault(p.track_id, {})[n] = xy, p.score, float(p.box_xyxy[3] - p.box_xyxy[1])
    return tracks


def runs(raw: Lines, steady: Lines) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Stretches of at least 12 frames: joints before and after (T, K, 2), certain ones (T, K), heights (T,)."""
    after = joints(steady)
    for number, seen in joints(raw).items():
        at = np.array(sorted(seen))
        for part in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
            if len(part) >= 12:
                yield (
                    np.stack([seen[n][0] for n in part]),
                    np.stack([after[number][n][0] for n in part]),
                    np.stack([seen[n][1] for n in part]) > _SURE,
                    np.array([seen[n][2] for n in part]),
                )


def shake(xy: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(T - 2, K) second differences in thousandths of the height."""
    return 1000 * np.linalg.norm(xy[:-2] - 2 * xy[1:-1] + xy[2:], axis=2) / height[1:-1, None]


def on_clip(raw: Lines, steady: Lines) -> dict[str, float]:
    """Jitter before and after, and lag."""
    before, later, behind, moved = [], [], 0.0, 0.0
    for xy, new, sure, height in runs(raw, steady):
        slow = np.linalg.norm(xy[2:] - xy[:-2], axis=2) < 2 * _SLOW * height[1:-1, None]
        use = slow & sure[:-2] & sure[1:-1] & sure[2:]
        before.append(shake(xy, height)[use])
        later.append(shake(new, height)[use])
        velocity = np.gradient(savitzky_golay(np.arange(len(xy)), xy, 8), axis=0)
        moving = (np.linalg.norm(velocity, axis=2) > _SLOW * height[:, None]) & sure
        moving[:5] = moving[-5:] = False
        behind += float(((xy - new) * velocity)[moving].sum())
        moved += float((velocity**2)[moving].sum())
    if not before or not sum(map(len, before)):
        return {}
    first, second = float(np.concatenate(before).mean()), float(np.concatenate(later).mean())
    return {"before": first, "after": second, "ratio": second / first, "lag": behind / moved if moved else 0.0}


def generated(scenes: int, frames: int = 150) -> list[tuple[np.ndarray, Lines]]:
    """True joints (T, K, 2) of one person each, and noisy lines."""
    options = SceneOptions(seed=5, people=(1, 1), frames=frames, blur=0.0, cameras=("front",), size_wh=(640, 480))
    rng = np.random.default_rng(0)
    made = []
    for number in range(scenes):
        staged = stage(options, number, Backgrounds(None), None)
        _, points, _ = staged.scene.moments(slice(0, frames))
        rig = staged.rigs["front"]
        truth = np.stack([rig.at(float(t)).project(points[n])[0][0] for n, t in enumerate(staged.times)])
        height = float(np.median(np.ptp(truth, axis=1).max(1)))
        score = np.clip(rng.normal(0.75, 0.15, truth.shape[:2]), 0.1, 1)
        noise = rng.normal(0, 1, truth.shape)
        for n in range(1, frames):
            noise[n] = 0.5 * noise[n - 1] + np.sqrt(0.75) * noise[n]
        xy = truth + noise * (0.012 * height * 0.75 / score)[:, :, None]
        lines = []
        for n in range(frames):
            middle = truth[n].mean(0)
            box = np.concatenate([middle - height / 2, middle + height / 2])
            person = Instance(
                xy[n].astype(np.float32), np.full(len(score[n]), 2), score[n].astype(np.float32), 0.9, box, track_id=1
            )
            lines.append(FramePoses(n, (person,), n / 30))
        made.append((truth, lines))
    return made


def against_truth(scenes: list[tuple[np.ndarray, Lines]], steady: Callable[[Lines], Lines]) -> dict[str, float]:
    """Ratios of jitter and error, and lag."""
    wrong: list[list[float]] = [[], [], [], []]
    behind = moved = 0.0
    for truth, lines in scenes:
        height = np.array([np.ptp(line.instances[0].box_xyxy[1::2]) for line in lines])  # type: ignore[index]
        raw, new = (np.stack([line.instances[0].xy for line in each]).astype(float) for each in (lines, steady(lines)))
        for k, values in enumerate((shake(raw - truth, height), shake(new - truth, height))):
            wrong[k] += values.ravel().tolist()
        for k, xy in enumerate((raw, new), 2):
            wrong[k] += (np.linalg.norm(xy - truth, axis=2) / height[:, None]).ravel().tolist()
        velocity = np.gradient(truth, axis=0)
        moving = np.linalg.norm(velocity, axis=2) > _SLOW * height[:, None]
        moving[:5] = moving[-5:] = False
        behind += float(((truth - new) * velocity)[moving].sum())
        moved += float((velocity**2)[moving].sum())
    means = [float(np.mean(values)) for values in wrong]
    return {
        "jitter": means[1] / means[0], "error": means[3] / means[2],
        "error_95": float(np.quantile(wrong[3], 0.95) / np.quantile(wrong[2], 0.95)), "lag": behind / moved,
    }  # fmt: skip


def main() -> None:
    """Prints a table; with ``--out`` also writes the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("streams", type=Path)
    parser.add_argument("--scenes", type=int, default=12)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    scenes = generated(arguments.scenes)
    truth_header = StreamHeader("generated", BODY19, fps=30.0)
    result: dict[str, Any] = {"clips": {}, "truth": {}}
    for name in FILTERS[1:]:
        for path in sorted(arguments.streams.glob("*.jsonl")):
            pairs = list(read_stream(path))
            if not pairs:
                continue
            raw = [line for _, line in pairs]
            row = on_clip(raw, list(smooth_lines(pairs[0][0], raw, Smoothing(name))))
            if row:
                result["clips"].setdefault(path.name.split(".")[0], {})[name] = row
                print(f"{name:8} {path.name.split('.')[0]:26} " + " ".join(f"{k} {v:.2f}" for k, v in row.items()))
        row = against_truth(scenes, lambda lines, name=name: list(smooth_lines(truth_header, lines, Smoothing(name))))
        result["truth"][name] = row
        print(f"{name:8} {'generated people':26} " + " ".join(f"{k} {v:.2f}" for k, v in row.items()), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
