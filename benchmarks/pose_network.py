"""The pose network by itself, on LSPET validation in the labels' boxes: PCK@0.2 plain and with flip test.

    python benchmarks/pose_network.py --data DATA [runs/pose/last.safetensors ...] [--precision float32]

A file is any top-down model, or a whole model whose pose network is taken; none: the shipped model. One look at each
person, 12 limb joints, torso from left shoulder to right hip. Differences to the first file are paired: 95 %
intervals, bootstrap over pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from default_model import LIMBS, held_out

from posecli.formats import coco
from posecli.inference import PoseModel, PredictOptions, find_weights, load_model
from posecli.types import Dataset
from posecli.video import read_picture

AT_ONCE = 40


def right(model: PoseModel, dataset: Dataset) -> np.ndarray:
    """(people, 2): joints right within 0.2 torso, and joints that count."""
    own, theirs = dataset.skeleton, model.skeleton
    rows = [own.index(name) for name in LIMBS]
    columns = [theirs.index(name) for name in LIMBS]
    ends = own.index("left_shoulder"), own.index("right_hip")
    counts = []
    for start in range(0, len(dataset.records), AT_ONCE):
        records = dataset.records[start : start + AT_ONCE]
        images = [read_picture(Path(dataset.root) / record.file_name) for record in records]
        boxes = [np.asarray(record.instances[0].box_xyxy)[None] for record in records]
        for record, people in zip(records, model.predict(images, boxes), strict=True):
            truth = record.instances[0]
            torso = np.linalg.norm(truth.xy[ends[0]] - truth.xy[ends[1]])
            if not (torso >= 1):  # an end without a label is NaN
                continue
            there = truth.visibility[rows] > 0
            far = np.linalg.norm(people[0].xy[columns] - truth.xy[rows], axis=1)
            counts.append((int(((far <= 0.2 * torso) & there).sum()), int(there.sum())))
    return np.array(counts)


def paired(first: np.ndarray, other: np.ndarray, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of the difference of two shares over resampled pictures."""
    drawn = np.random.default_rng(0).integers(len(first), size=(draws, len(first)))
    low, high = np.percentile(share(other[drawn]) - share(first[drawn]), [2.5, 97.5])
    return float(low), float(high)


def share(counts: np.ndarray) -> np.ndarray:
    """Right over counted, over the people of the last axis but one."""
    sums = counts.sum(-2)
    return np.asarray(sums[..., 0] / sums[..., 1])


def compare(files: Sequence[Path], dataset: Dataset, precision: str) -> None:
    """Prints a line a file and reading."""
    before: dict[bool, np.ndarray] = {}
    for file in files:
        for flip in (False, True):
            options = PredictOptions(flip_test=flip, second_look=False, precision=precision)
            counts = right(load_model(file, "cpu", options=options), dataset)
            said = f"{file} {'flip test' if flip else 'plain'}: {share(counts):.4f} of {counts[:, 1].sum()} joints"
            if flip in before:
                low, high = paired(before[flip], counts)
                said += f", {share(counts) - share(before[flip]):+.4f} ({low:+.4f} to {high:+.4f})"
            before.setdefault(flip, counts)
            print(said, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--precision", default="float32", help="as of posecli infer; auto: int8 where the file has it")
    parser.add_argument("--pictures", type=int, default=0, help="the first so many, 0: all")
    args = parser.parse_args()
    folder = args.data / "lspet"
    dataset = coco.read(folder / "annotations.json", image_root=folder / "images")
    records = tuple(record for record in dataset.records if held_out(record.file_name))
    if args.pictures:
        records = records[: args.pictures]
    dataset = replace(dataset, records=records)
    compare(args.files or [find_weights("default")], dataset, args.precision)


if __name__ == "__main__":
    main()
