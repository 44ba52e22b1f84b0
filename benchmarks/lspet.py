"""What the benchmarks of networks share: LSPET split and cut as all of them see it, training, reading maps, scores.

The whole stored crop is the person's box, for every system alike. Validation pictures are those whose file name has a
crc32 divisible by 10; pictures that `near_duplicates.json` pairs with one of them are in neither part. A person's area,
for OKS, is 0.53 of the box of the labelled joints.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from posecli import evaluate
from posecli.codecs.background import drop_background
from posecli.codecs.top_down import CODECS, to_input
from posecli.data import read_image
from posecli.files import replace_when_done
from posecli.formats import coco
from posecli.geometry import apply_affine, warp
from posecli.inference import PoseModel, load_model
from posecli.learner import keep_freed_memory
from posecli.predictions import FramePoses, StreamHeader
from posecli.readout import TOP_DOWN, PredictOptions
from posecli.settings import resolve
from posecli.training import train
from posecli.types import Dataset, Instance

Poses = list[tuple[StreamHeader, FramePoses]]
Decoder = Callable[[Tensor], tuple[Tensor, Tensor]]
#: Names of the metrics: share of joints within 0.2 of the torso, within half the head, OKS AP.
PCK, PCKH, AP = "PCK@0.2", "PCKh@0.5", "AP"
_AT_ONCE = 32

#: What all trainings here share: no change of the picture but mirroring, turning and a little zoom, for short runs.
SHORT_RUN: dict[str, Any] = {
    "optimizer": "adam", "schedule": "cosine", "batch": 16, "warmup": 100, "weight_decay": 0.0, "clip": 5.0,
    "ema": 0.99, "workers": 0, "threads": 1, "save_every": 1.0, "flip": 0.5, "rotation": 15.0, "rotation_any": 0.0,
    "box_scale": [0.85, 1.1], "val_box_scale": 1.0, "shift": 0.03, "half_body": 0.0, "colour": 0.0, "grey": 0.0,
    "blur": 0.0, "noise": 0.0, "occlude": 0.0, "paste": 0.0, "fill": 0.0, "min_joints": 1, "min_side": 0.0,
    "gentle_from": 1.0, "small_until": 0.0,
}  # fmt: skip


def options(description: str, **defaults: Any) -> argparse.ArgumentParser:
    """A parser with the options that all of them have, and more with their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with lspet/")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results; what is there is kept")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--draws", type=int, default=1000, help="of the intervals")
    parser.add_argument("--limit", type=int, default=0, help="validation pictures, the first so many; 0: all")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser


def set_threads(threads: int) -> None:
    """Of torch and OpenCV, so that processor time is comparable."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    keep_freed_memory()


def prepare(data: Path, out: Path) -> tuple[Path, Path]:
    """Writes the two parts as COCO JSON into a folder, unless they are there: training and validation file."""
    files = out / "train.json", out / "val.json"
    if all(file.is_file() for file in files):
        return files
    out.mkdir(parents=True, exist_ok=True)
    folder = (data / "lspet").resolve()
    labels = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    pairs = [p[:2] for p in json.loads((folder / "near_duplicates.json").read_text(encoding="utf-8"))["pairs"]]
    validation = {image["id"] for image in labels["images"] if held_out(image["file_name"])}
    twins = {b for pair in pairs for a in pair for b in pair if a in validation} - validation
    people = {person["image_id"]: person for person in labels["annotations"]}
    for file, wanted in zip(files, (lambda i: i not in validation | twins, validation.__contains__), strict=True):
        images = [image for image in labels["images"] if wanted(image["id"])]
        annotations = []
        for image in images:
            person = people[image["id"]]
            joints = np.array(person["keypoints"], float).reshape(-1, 3)
            size = np.ptp(joints[joints[:, 2] > 0, :2], axis=0)
            box = [0, 0, image["width"], image["height"]]
            annotations.append(person | {"bbox": box, "area": round(0.53 * float(size.prod()), 2)})
        part = {**labels, "annotations": annotations}
        part["images"] = [image | {"file_name": str(folder / "images" / image["file_name"])} for image in images]
        with replace_when_done(file) as unfinished:
            unfinished.write_text(json.dumps(part), encoding="utf-8")
    return files


def held_out(name: str) -> bool:
    """Whether a picture is for validation."""
    return zlib.crc32(Path(name).name.encode()) % 10 == 0


def learn(settings: Mapping[str, Any], folder: Path, report: Callable[[str], None] = print) -> Path:
    """Trains, or goes on where it was stopped; returns the weights. A finished run is left alone."""
    wanted = resolve(settings)
    resume = (folder / "state.pt").is_file()

    def told(record: dict[str, Any]) -> None:
        if record["event"] in ("start", "resume", "train") and record.get("step", 0) % 500 == 0:
            report(f"  {folder.name}: " + json.dumps({k: v for k, v in record.items() if k in _TOLD}))

    train(None if resume else wanted, folder, resume=resume, device="cpu", report=told)
    return folder / "last.safetensors"


_TOLD = ("event", "step", "epoch", "progress", "minutes", "heatmap", "coordinates", "samples_per_second")


def predict(model: PoseModel, dataset: Dataset) -> Poses:
    """The model's poses in the true boxes, as `infer` gives them."""
    poses: Poses = []
    header = StreamHeader("pictures", model.skeleton)
    for start in range(0, len(dataset.records), _AT_ONCE):
        records = dataset.records[start : start + _AT_ONCE]
        images = [read_image(dataset.root, record) for record in records]
        boxes = [np.array([person.box_xyxy for person in record.instances]) for record in records]
        for record, people in zip(records, model.predict(images, boxes), strict=True):
            poses.append((header, _frame(len(poses), record, tuple(people))))
    return poses


def read_all(model: PoseModel, dataset: Dataset, decoders: Mapping[str, Decoder]) -> dict[str, Poses]:
    """The poses in the true boxes by several readings of the same maps: the network looks at each picture once."""
    meta = model.meta
    header = StreamHeader("pictures", model.skeleton)
    poses: dict[str, Poses] = {name: [] for name in decoders}
    for start in range(0, len(dataset.records), _AT_ONCE):
        records = dataset.records[start : start + _AT_ONCE]
        boxes = [np.asarray(record.instances[0].box_xyxy) for record in records]
        crops = [TOP_DOWN[meta.codec].crop(box, meta) for box in boxes]
        pixels = [warp(read_image(dataset.root, r), crop) for r, crop in zip(records, crops, strict=True)]
        maps = model.maps(np.stack(pixels)).heatmap.float()
        if meta.extra.get("background"):
            maps = drop_background(maps, str(meta.extra["background"]))
        for name, decode in decoders.items():
            xy, score = decode(maps)
            xy = to_input(xy, CODECS[meta.codec].grid, meta.input_size, (maps.shape[3], maps.shape[2]))
            for row, (record, crop) in enumerate(zip(records, crops, strict=True)):
                points = apply_affine(crop.inverse, xy[row].double().numpy())
                person = person_of(points, score[row].clamp(0, 1).numpy(), boxes[row])
                poses[name].append((header, _frame(start + row, record, (person,))))
    return poses


def mean_pose(learnt: Dataset, dataset: Dataset) -> Poses:
    """The same pose for everybody: each joint's mean place in the learnt people's boxes."""
    boxes = np.array([record.instances[0].box_xyxy for record in learnt.records])
    xy = np.array([record.instances[0].xy for record in learnt.records], float)
    labelled = np.array([record.instances[0].visibility > 0 for record in learnt.records])
    shares = (xy - boxes[:, None, :2]) / (boxes[:, None, 2:] - boxes[:, None, :2])
    mean = np.where(labelled[..., None], shares, 0).sum(0) / labelled.sum(0)[:, None]
    header = StreamHeader("mean pose", dataset.skeleton)
    poses = []
    for number, record in enumerate(dataset.records):
        box = np.asarray(record.instances[0].box_xyxy)
        person = person_of(box[:2] + mean * (box[2:] - box[:2]), np.ones(len(mean)), box)
        poses.append((header, _frame(number, record, (person,))))
    return poses


def person_of(xy: np.ndarray, score: np.ndarray, box: np.ndarray) -> Instance:
    """A found person; (K, 2), (K,), (4,)."""
    found = np.full(len(xy), 2)
    return Instance(xy.astype(np.float32), found, score.astype(np.float32), float(score.mean()), box)


def _frame(number: int, record: Any, people: tuple[Instance, ...]) -> FramePoses:
    return FramePoses(number, people, image_id=record.image_id, file=record.file_name)


def measure(
    dataset: Dataset,
    poses: Poses,
    other: Poses | None = None,
    *,
    draws: int = 1000,
    pck: Sequence[float] = (0.2,),
    joints: Sequence[str] | None = None,
    metrics: Iterable[str] = ("pck", "pckh", "oks"),
) -> dict[str, Any]:
    """`posecli.evaluate` by one rule: the picture's person against the labelled one, intervals over pictures."""
    return evaluate(
        dataset, poses, other, metrics=tuple(metrics), thresholds={"pck": list(pck), "pckh": [0.5]}, match="top-score",
        misses="wrong", bootstrap=draws, joints=joints,
    )  # fmt: skip


def validation_set(file: Path, limit: int = 0) -> Dataset:
    """The validation pictures, or the first so many."""
    dataset = coco.read(file)
    if not limit:
        return dataset
    return Dataset(dataset.skeleton, dataset.records[:limit], root=dataset.root)


def ready(weights: Path, codec: str | None = None) -> PoseModel:
    """The model of a file, on the CPU; its maps read by `codec`, by default the one that taught it."""
    return load_model(weights, "cpu", options=PredictOptions(codec=codec))


def stored(file: Path) -> dict[str, Any] | None:
    """A result that is there already."""
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def store(file: Path, result: Mapping[str, Any]) -> None:
    """A result, complete or not at all, with machine and date."""
    about = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    with replace_when_done(file, overwrite=True) as part:
        part.write_text(json.dumps({**result, "about": about}, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def with_interval(row: Mapping[str, Any], key: str) -> str:
    """``"43.2 (40.1 to 46.0)"``, percent."""
    low, high = row["intervals"][key]
    return f"{100 * row[key]:5.1f} ({100 * low:.1f} to {100 * high:.1f})"


def signed(entry: Mapping[str, Any]) -> str:
    """A paired difference with its interval, points; a star where it holds."""
    low, high = entry["interval"]
    return f"{100 * entry['value']:+5.1f} ({100 * low:+.1f} to {100 * high:+.1f}){'*' if entry['holds'] else ' '}"


def rate_of(model: PoseModel, dataset: Dataset, rounds: int = 3) -> float:
    """Pictures a second of processor time from decoded picture to joints, the best of some rounds."""
    records = dataset.records[: 4 * _AT_ONCE]
    images = [read_image(dataset.root, record) for record in records]
    boxes = [np.array([person.box_xyxy for person in record.instances]) for record in records]
    model.predict(images[:_AT_ONCE], boxes[:_AT_ONCE])
    best = 0.0
    for _ in range(rounds):
        before = time.process_time()
        for start in range(0, len(images), _AT_ONCE):
            model.predict(images[start : start + _AT_ONCE], boxes[start : start + _AT_ONCE])
        best = max(best, len(images) / (time.process_time() - before))
    return best
