"""MediaPipe Pose against the default model: one run, the same pictures, the same metrics.

    python benchmarks/mediapipe.py --data DATA --out runs/mediapipe [--python ENV/bin/python] [--weights FILE]
        [--parts lspet,coco,speed] [--result benchmarks/results/mediapipe.md]

MediaPipe 0.10.21 carries its models and wants a numpy and an OpenCV other than ours: it runs in an environment of its
own, which is made in ``--out`` (with Python 3.11 and pip) unless ``--python`` names the interpreter of one. The two
exchange files: `in_mediapipe.py` writes landmarks, which become pose streams here and are scored as ours are.

- LSPET validation: whole stored crops in, the best person, 12 limb joints, PCK@0.2 of the torso, misses wrong.
- coco_mini val: people with 5 or more labelled joints, mean OKS, misses 0, and OKS AP over everybody; whole pictures in
  (MediaPipe finds one person a picture), and the true boxes given: MediaPipe gets each box grown by 1.25 as a picture.
- Beside them the mean pose of the training labels, set into the same boxes, and our network with random weights.
- Speed: the first frames of a clip, decoding included, each on one core and on two, in turns; ratios of wall and of
  processor time.

MediaPipe's detector is asked from a score of 0.1 on, its best setting here: with its own 0.5 it finds nobody on 250 of
960 LSPET pictures.

Intervals: 95 %, bootstrap over pictures; differences are paired. Streams that are there already are kept
(``--again``: are made anew).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from default_model import LIMBS, PCK, folder_of, held_out, infer

from posecli import evaluate
from posecli.checkpoint import build
from posecli.files import replace_when_done, sha256_of
from posecli.formats import coco
from posecli.geometry import keypoint_box
from posecli.inference import PoseModel, find_weights, load_model
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record, Skeleton
from posecli.video import read_picture

VERSION = "0.10.21"
#: Place of each COCO joint among MediaPipe's 33 landmarks (`mediapipe.solutions.pose.PoseLandmark`).
LANDMARK = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
FULL = 1
#: How much a true box is grown before it is given to MediaPipe as a picture.
GROWN = 1.25
OURS, THEIRS, MEAN, RANDOM = "default", "MediaPipe", "mean pose", "random weights"

OWN_SPEED = """
import json, sys, time
import cv2, torch
threads = int(sys.argv[3])
cv2.setNumThreads(threads); torch.set_num_threads(threads)
import posecli
frames = iter(posecli.infer(sys.argv[1], weights=sys.argv[4], device="cpu"))
next(frames)
wall, cpu, seen = time.perf_counter(), time.process_time(), 0
for _ in frames:
    seen += 1
    if seen == int(sys.argv[2]):
        break
print(json.dumps({"frames": seen, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}))
"""


@dataclass(frozen=True)
class Pictures:
    """Pictures of one set and how each system is shown them.

    Attributes:
        labels: the people to find.
        boxes: by record the boxes (N, 4) given; None: systems find people themselves.
    """

    labels: Dataset
    boxes: Sequence[np.ndarray] | None = None

    def file(self, record: Record) -> Path:
        return Path(self.labels.root) / record.file_name


def mediapipe_python(given: Path | None, out: Path) -> Path:
    """The interpreter of an environment that has MediaPipe; makes one unless it is given or there."""
    python = given or out / "environment/bin/python"
    if not python.is_file():
        if given:
            raise SystemExit(f"{given}: no such interpreter")
        print(f"making an environment with mediapipe {VERSION} in {out / 'environment'}", file=sys.stderr)
        subprocess.run(["python3.11", "-m", "venv", str(out / "environment")], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", f"mediapipe=={VERSION}"], check=True)
    ask = "from importlib.metadata import version; print(version('mediapipe'))"
    found = subprocess.run([str(python), "-I", "-c", ask], capture_output=True, text=True).stdout.strip()
    if found != VERSION:
        raise SystemExit(f"{python} has mediapipe {found or '-'}, wanted is {VERSION}")
    return python


def in_mediapipe(python: Path, jobs: dict[str, Any], out: Path, prefix: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The lines that `in_mediapipe.py` answers with."""
    asked, answered = out.with_suffix(".jobs.json"), out.with_suffix(".landmarks.jsonl")
    asked.write_text(json.dumps(jobs))
    # -I: this folder's mediapipe.py must not be taken for the package.
    command = [*prefix, str(python), "-I", str(Path(__file__).with_name("in_mediapipe.py")), str(asked), str(answered)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return [json.loads(line) for line in answered.read_text().splitlines()]


def instance(xy: np.ndarray, score: np.ndarray, person_score: float, skeleton: Skeleton = COCO17) -> Instance:
    """A person with all joints of ``skeleton``."""
    visibility = np.full(len(xy), 2)
    box = keypoint_box(xy, visibility)
    return Instance(
        xy.astype(np.float32), visibility, np.clip(score, 0, 1).astype(np.float32), float(person_score), box
    )


def write(stream: Path, model: str, pictures: Pictures, people: Iterator[Sequence[Instance]]) -> None:
    """One stream of all pictures."""
    with replace_when_done(stream, overwrite=True) as part, StreamWriter(part) as writer:
        writer.header(StreamHeader("pictures", COCO17, model=model))
        for n, (record, persons) in enumerate(zip(pictures.labels.records, people, strict=True)):
            writer.frame(FramePoses(n, tuple(persons), image_id=record.image_id, file=Path(record.file_name).name))


def by_mediapipe(python: Path, pictures: Pictures, stream: Path, confidence: float) -> None:
    """MediaPipe's people; its score of a person is the mean visibility of the landmarks that are ours too."""
    grown: list[np.ndarray | None] = [None] * len(pictures.labels.records)
    if pictures.boxes is not None:
        for n, boxes in enumerate(pictures.boxes):
            middle, half = (boxes[:, :2] + boxes[:, 2:]) / 2, GROWN * (boxes[:, 2:] - boxes[:, :2]) / 2
            grown[n] = np.concatenate([middle - half, middle + half], 1)
    jobs = [
        {"file": str(pictures.file(record).resolve()), "boxes": None if boxes is None else boxes.tolist()}
        for record, boxes in zip(pictures.labels.records, grown, strict=True)
    ]
    lines = in_mediapipe(python, {"complexity": FULL, "confidence": confidence, "pictures": jobs}, stream)

    def people() -> Iterator[list[Instance]]:
        for line in lines:
            found = [np.array(p)[LANDMARK] for p in line["people"] if p is not None]
            yield [instance(p[:, :2], p[:, 2], p[:, 2].mean()) for p in found]

    write(stream, f"mediapipe {VERSION}", pictures, people())


def by_us(weights: Path, pictures: Pictures, stream: Path) -> None:
    """The default model as a user runs it; with true boxes given by ``--boxes``."""
    if pictures.boxes is None:
        folder = folder_of([pictures.file(r) for r in pictures.labels.records], stream.with_suffix(""))
        part = stream.with_suffix(".part.jsonl")  # `infer` writes under the name as it goes
        infer(folder, part, ["--weights", str(weights)])
        part.replace(stream)
    else:
        model = load_model(weights, "cpu")
        write_found(model, pictures, stream, weights.stem)


def write_found(model: PoseModel, pictures: Pictures, stream: Path, name: str) -> None:
    """People of a top-down model in the boxes given, with the joints that COCO has."""
    assert pictures.boxes is not None
    places = [model.skeleton.index(joint) for joint in COCO17.keypoints]

    def people() -> Iterator[list[Instance]]:
        for record, boxes in zip(pictures.labels.records, pictures.boxes or (), strict=True):
            found = model.predict([read_picture(pictures.file(record))], [boxes])[0] if len(boxes) else []
            yield [instance(p.xy[places], p.score[places], p.person_score) for p in found]

    write(stream, name, pictures, people())


def mean_pose(training: Dataset, whole: bool) -> np.ndarray:
    """(17, 2) mean place of each joint in shares of the picture (``whole``) or of the person's box; NaN: never seen."""
    places = {name: n for n, name in enumerate(training.skeleton.keypoints)}
    seen: list[list[np.ndarray]] = [[] for _ in COCO17.keypoints]
    for record in training.records:
        for person in record.instances:
            box = np.array([0, 0, record.width, record.height], float) if whole else person.box_xyxy
            if person.ignore or box is None:
                continue
            for n, joint in enumerate(COCO17.keypoints):
                at = places.get(joint)
                if at is not None and person.visibility[at] > 0:
                    seen[n].append((person.xy[at] - box[:2]) / (box[2:] - box[:2]))
    return np.array([np.mean(s, 0) if s else (np.nan, np.nan) for s in seen])


def by_mean(pose: np.ndarray, pictures: Pictures, stream: Path) -> None:
    """The mean pose set into each box given; joints that it lacks lie in the box's middle, at a score of 0."""
    known = np.isfinite(pose).all(1)
    filled = np.where(known[:, None], pose, 0.5)

    def people() -> Iterator[list[Instance]]:
        for boxes in pictures.boxes or ():
            yield [instance(b[:2] + filled * (b[2:] - b[:2]), known.astype(float), 1.0) for b in boxes]

    write(stream, MEAN, pictures, people())


def pictures_of(data: Path, part: str) -> Pictures:
    """LSPET's validation pictures or those of coco_mini, people to be found."""
    if part == "lspet":
        dataset = coco.read(data / "lspet/annotations.json")
        records = tuple(replace(r, file_name=Path(r.file_name).name) for r in dataset.records if held_out(r.file_name))
        return Pictures(replace(dataset, records=records, root=data / "lspet/images"))
    labels = data / "coco_mini/annotations/person_keypoints_val2017.json"
    return Pictures(coco.read(labels, image_root=data / "coco_mini/val2017"))


def in_boxes(pictures: Pictures, whole: bool) -> Pictures:
    """The same pictures with boxes given: the whole picture, or the labelled people's (crowds and boxless left out)."""
    if whole:
        boxes = [np.array([[0.0, 0.0, r.width, r.height]]) for r in pictures.labels.records]
    else:
        boxes = [
            np.array([p.box_xyxy for p in r.instances if not p.ignore and p.box_xyxy is not None]).reshape(-1, 4)
            for r in pictures.labels.records
        ]
    return replace(pictures, boxes=boxes)


def training_labels(data: Path, part: str) -> Dataset:
    """What the mean pose is the mean of."""
    if part == "lspet":
        dataset = coco.read(data / "lspet/annotations.json")
        return replace(dataset, records=tuple(r for r in dataset.records if not held_out(r.file_name)))
    return coco.read(data / "coco_mini/annotations/person_keypoints_train2017.json")


def random_weights(weights: Path) -> PoseModel:
    """The pose network of the file as it is before it learns."""
    meta = load_model(weights, "cpu").meta
    torch.manual_seed(0)
    return PoseModel(build(meta), meta, device="cpu")


def scores(part: str, labels: Dataset, first: Path, second: Path | None, draws: int) -> dict[str, Any]:
    """PCK@0.2 on LSPET, mean OKS and AP on coco_mini, of the first and of the second stream, and the difference."""
    if part == "lspet":
        result = evaluate(
            labels, first, second, metrics=("pck",), thresholds={"pck": [0.2]}, match="top-score", misses="wrong",
            joints=LIMBS, pck_reference="torso", bootstrap=draws,
        )  # fmt: skip
        return {PCK: _rows(result, PCK)}
    five = evaluate(labels, first, second, metrics=("oks",), min_joints=5, bootstrap=draws)
    everybody = evaluate(labels, first, second, metrics=("oks",), bootstrap=draws)
    return {"mean_OKS": _rows(five, "mean_OKS"), "AP": _rows(everybody, "AP")}


def _rows(result: dict[str, Any], key: str) -> dict[str, Any]:
    rows = {"first": result["all"]}
    if "second" in result:
        rows["second"] = result["second"]["all"]
    found = {
        name: {"value": row[key], "interval": row["intervals"][key], "people": row["people"]}
        for name, row in rows.items()
    }
    return found | ({"difference": result["difference"]["all"][key]} if "difference" in result else {})


def speeds(python: Path, weights: Path, clip: Path, out: Path, frames: int, rounds: int) -> list[dict[str, Any]]:
    """Time a frame of both on one core and on two, in turns; the least of some rounds."""
    rows = []
    for cores in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
        bound = ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[-cores:]))]
        best: dict[str, dict[str, float]] = {}
        for _ in range(rounds):
            jobs = {"complexity": FULL, "confidence": 0.5, "clip": str(clip), "frames": frames, "threads": cores}
            theirs = in_mediapipe(python, jobs, out / "speed", bound)[0]
            command = [*bound, sys.executable, "-c", OWN_SPEED, str(clip), str(frames), str(cores), str(weights)]
            environment = os.environ | {"OMP_NUM_THREADS": str(cores), "GOMP_SPINCOUNT": "10000"}  # as the verbs
            said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
            for name, row in ((THEIRS, theirs), (OURS, json.loads(said))):
                each = {kind: row[kind] / row["frames"] for kind in ("wall", "cpu")}
                best[name] = {k: min(v, best.get(name, each)[k]) for k, v in each.items()}
        rows.append({"cores": cores, **best})
    return rows


def _cell(row: dict[str, Any]) -> str:
    low, high = row["interval"]
    return f"{row['value']:.3f} ({low:.3f} to {high:.3f})"


def page(report: dict[str, Any]) -> str:
    """The result as Markdown."""
    lines = [
        f"# MediaPipe Pose {VERSION} against the default model", "",
        f"{report['machine']}, {report['date']}. `python benchmarks/mediapipe.py --data ../shared/data --out "
        f"runs/mediapipe`, weights {report['sha256'][:16]}; MediaPipe's full model (complexity 1), "
        f"detector from {report['confidence']:g} on.", "",
        "95 % bootstrap intervals over pictures; the difference (ours less MediaPipe's) is paired, a star where it",
        "holds. Misses count as wrong. *Given* boxes: LSPET's whole stored crop, coco_mini's true boxes (grown by",
        f"{GROWN} for MediaPipe, which takes each for a picture). MediaPipe finds one person a picture.", "",
    ]  # fmt: skip
    for part, title in (("lspet", "LSPET validation, 960 stored crops"), ("coco", "coco_mini val, 79 pictures")):
        if part not in report:
            continue
        for key in report[part]["measures"]:
            rows = report[part]["measures"][key]
            lines += [
                f"## {title}: {key}",
                "",
                "| people found by | default | MediaPipe | difference |",
                "|---|---|---|---|",
            ]
            for how, row in rows["systems"].items():
                gap = row["difference"]
                low, high = gap["interval"]
                star = "*" if gap["holds"] else ""
                apart = f"{-gap['value']:+.3f} ({-high:+.3f} to {-low:+.3f}){star}"
                lines.append(f"| {how} | {_cell(row['first'])} | {_cell(row['second'])} | {apart} |")
            lines += [""]
            lines += [f"- {name}, boxes given: {_cell(row)}" for name, row in rows["baselines"].items()]
            lines += [""]
    if "speed" in report:
        lines += [
            "## Speed", "",
            f"First {report['frames']} frames, decoding included, people followed between frames: all of them by the",
            "default model, one by MediaPipe. Milliseconds a frame, best of rounds in turns; ratios ours to theirs.",
            "",
            "| clip | cores | default, wall | MediaPipe | ratio | default, processor | MediaPipe | ratio |",
            "|---|---|---|---|---|---|---|---|",
        ]  # fmt: skip
        for clip, rows in report["speed"].items():
            for row in rows:
                cells = []
                for kind in ("wall", "cpu"):
                    ours, theirs = 1000 * row[OURS][kind], 1000 * row[THEIRS][kind]
                    cells += [f"{ours:.1f}", f"{theirs:.1f}", f"{ours / theirs:.2f}"]
                lines.append(f"| {clip} | {row['cores']} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for streams, scores.json and the environment")
    parser.add_argument("--python", type=Path, help="interpreter of an environment that has MediaPipe")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--parts", default="lspet,coco,speed")
    parser.add_argument(
        "--clips", nargs="+", type=Path, help="for the speed [default: of the data, one with one person and a crowd]"
    )
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--confidence", type=float, default=0.1, help="least of MediaPipe's detector")
    parser.add_argument("--limit", type=int, default=0, help="pictures of each set, the first so many; 0: all")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--again", action="store_true", help="make all streams anew")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    python = mediapipe_python(args.python, args.out)
    weights = find_weights(args.weights)
    clips = args.clips or [args.data / "clips" / name for name in ("tai_chi.mp4", "street_crowd.avi")]
    report: dict[str, Any] = {
        "date": datetime.date.today().isoformat(), "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "sha256": sha256_of(weights), "frames": args.frames, "confidence": args.confidence,
    }  # fmt: skip
    ours_tag = report["sha256"][:8]

    for part in ("lspet", "coco"):
        if part not in args.parts:
            continue
        found = pictures_of(args.data, part)
        if args.limit:
            found = replace(found, labels=replace(found.labels, records=found.labels.records[: args.limit]))
        given = in_boxes(found, whole=part == "lspet")
        ways = {"found": found} if part == "lspet" else {"found": found, "given": given}
        measures: dict[str, Any] = {}
        for how, pictures in ways.items():
            theirs, ours = (
                args.out / f"{part}.{how}.mediapipe{args.confidence:g}.jsonl",
                args.out / f"{part}.{how}.{ours_tag}.jsonl",
            )
            if args.again or not theirs.is_file():
                by_mediapipe(python, pictures, theirs, args.confidence)
            if args.again or not ours.is_file():
                by_us(weights, pictures, ours)
            for key, row in scores(part, found.labels, ours, theirs, args.bootstrap).items():
                measures.setdefault(key, {"systems": {}, "baselines": {}})["systems"][how] = row
        for name in (MEAN, RANDOM):
            stream = args.out / f"{part}.{name.replace(' ', '_')}.jsonl"
            if args.again or not stream.is_file():
                if name == MEAN:
                    by_mean(mean_pose(training_labels(args.data, part), whole=part == "lspet"), given, stream)
                else:
                    write_found(random_weights(weights), given, stream, RANDOM)
            for key, row in scores(part, found.labels, stream, None, args.bootstrap).items():
                measures[key]["baselines"][name] = row["first"]
        report[part] = {"measures": measures}
    if "speed" in args.parts:
        report["speed"] = {
            clip.name: speeds(python, weights, clip.resolve(), args.out, args.frames, args.rounds) for clip in clips
        }
    (args.out / "scores.json").write_text(json.dumps(report, indent=1) + "\n")
    text = page(report)
    print(text)
    if args.result:
        with replace_when_done(args.result, overwrite=True) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
