"""People who fill the picture: head and shoulders, or down to the waist, cut out of `coco_mini` val.

    python benchmarks/closeups.py --data DATA --out runs/closeups [FILE.safetensors ...]

The pictures are made by `examples/make_closeups.py`, six of each person who is large enough in a picture that was never
learnt from; each file (none: the shipped model) looks at them by plain ``posecli infer FOLDER``. For the person around
whom a picture was cut: OKS of the best pose (joints within the picture; the area is that of the whole person, by the
shoulders or the trunk), the share whose best pose has an OKS of 0.5, and the share shown, that is with such a pose at
or above the display threshold. Intervals and paired differences to the first file: 95 %, bootstrap over the pictures
that they were cut from.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from default_model import infer

from posecli.files import sha256_of
from posecli.inference import find_weights
from posecli.predictions import read_stream
from posecli.skeletons import SKELETONS, match_joints

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
import make_closeups as closeups

RIGHT = 0.5
#: Area of a person over the square of `make_closeups.size_of`: half of the box of somebody upright.
AREA = 6.0
COCO = SKELETONS["coco17"]


def looked(stream: Path, truth: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """By picture: the best OKS, and whether a pose that is right is shown (1 or 0)."""
    spread = (2 * np.asarray(COCO.sigmas)) ** 2
    found = {}
    for header, line in read_stream(stream):
        joints = truth[Path(line.file or "").name]
        columns = match_joints(header.skeleton.keypoints, COCO.keypoints)
        seen = joints[:, 2] > 0
        area = AREA * joints[0, 3] ** 2
        best, shown = 0.0, False
        for person in line.instances:
            off = ((np.nan_to_num(person.xy[columns], nan=1e6) - joints[:, :2]) ** 2).sum(1)
            value = float(np.exp(-off / (2 * area * spread))[seen].mean())
            best = max(best, value)
            shown |= value >= RIGHT and person.person_score >= (header.threshold or 0.0)
        found[Path(line.file or "").name] = best, float(shown)
    return found


def interval(values: np.ndarray, group: np.ndarray, draws: int) -> tuple[float, float, float]:
    """The mean and its 95 % interval over resampled groups."""
    rng = np.random.default_rng(0)
    names = np.unique(group)
    sums = np.array([values[group == name].sum() for name in names])
    counts = np.array([(group == name).sum() for name in names])
    drawn = rng.integers(len(names), size=(draws, len(names)))
    low, high = np.percentile(sums[drawn].sum(1) / counts[drawn].sum(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bootstrap", type=int, default=1000)
    args = parser.parse_args()
    labels = args.data / "coco_mini/annotations/person_keypoints_val2017.json"
    value = json.loads(labels.read_text(encoding="utf-8"))
    images, people = closeups.cut_out(value, args.data / "coco_mini/val2017", args.out)
    first = {p["image_id"]: p for p in reversed(people)}  # the one around whom it was cut
    truth = {}
    for image in images:
        joints = closeups.joints_of(first[image["id"]])
        size = np.full((len(joints), 1), image["unit"])
        truth[Path(image["file_name"]).name] = np.hstack([joints, size])
    group = np.array([image["of"] for image in images])
    names = [Path(image["file_name"]).name for image in images]
    print(f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}")
    print(f"{len(images)} close-ups of people in {len(np.unique(group))} pictures")
    rows: list[np.ndarray] = []
    files: Sequence[Path] = args.files or [find_weights("default")]
    for file in files:
        stream = args.out / f"{sha256_of(file)[:8]}.jsonl"
        if not stream.is_file():
            infer(args.out / "images", stream, ["--weights", str(file)])
        found = looked(stream, truth)
        values = np.array([found[name] for name in names])
        rows.append(np.column_stack([values[:, 0], values[:, 0] >= RIGHT, values[:, 1]]))
        for what, n in (("mean OKS", 0), ("found", 1), ("shown", 2)):
            mean, low, high = interval(rows[-1][:, n], group, args.bootstrap)
            said = f"{file.name:28s} {what:9s} {mean:.3f} ({low:.3f} to {high:.3f})"
            if len(rows) > 1:
                gain, low, high = interval(rows[-1][:, n] - rows[0][:, n], group, args.bootstrap)
                said += f"  {gain:+.3f} ({low:+.3f} to {high:+.3f})"
            print(said)


if __name__ == "__main__":
    main()
