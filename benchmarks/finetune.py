"""What fine-tuning the shipped model on 48 own pictures gains: cross-validation over blocks of time.

    python benchmarks/finetune.py --data DATA --out runs/finetune [--minutes 2] [--write]

The basketball recording shows one player from three cameras at 24 moments in four seconds. The moments are cut into
blocks that follow one another; for each block the shipped pose network is fine-tuned (`examples/finetune.toml`,
`posecli train --init default`) on the other moments, without the block's neighbours, and tested on the block in all
three cameras. So every picture is tested once, by a network that saw neither it nor the moments beside it. The finder
of the shipped model says where the player is, before and after; it learnt rough boxes from these pictures, the pose
network never saw them.

Three streams of poses are compared:

- before: the shipped model, as `posecli infer` gives it;
- mapped: the seven joints that the shipped model lacks as weighted means of the 19 it has (ridge regression with the
  same weights for x and y, summing to 1, learnt from the same pictures as the networks): what could be had without
  training. The ridge is the one that does best on the tested pictures;
- after: the fine-tuned networks.

Intervals (95 %) and p-values are paired, over moments with all their cameras, and once more over pairs of neighbouring
moments. They speak of this recording, not of other people. Minutes are processor time of one thread.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.formats import coco
from posecli.geometry import box_iou
from posecli.metrics import evaluate
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.skeletons import get_skeleton
from posecli.types import Dataset, Instance, Record, Skeleton, Video

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
RESULT = Path(__file__).with_name("results") / "finetune.md"
#: Moments beside a tested block that are not learnt from.
GUARD = 1
RIDGE = 1.0
#: Metric of a result, its name in the tables.
SHOWN = (("PCK@0.2", "PCK@0.2"), ("PCK@0.1", "PCK@0.1"), ("PDJ_AUC", "PDJ, area under the curve"))

Frames = list[tuple[StreamHeader, FramePoses]]


def posecli(*arguments: object) -> None:
    """Runs a verb in an interpreter of its own, on one thread; what it says goes to stderr."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "posecli", *map(str, arguments)], check=True, env=environment, stdout=sys.stderr
    )


def found(pictures: Path, stream: Path, *how: object) -> None:
    """Poses of a data set's pictures; the stream is there when it is complete."""
    part = stream.with_suffix(".part.jsonl")
    posecli("infer", pictures, "--out", part, "--overwrite", "--quiet", *how)
    part.rename(stream)


def moment_of(dataset: Dataset) -> list[int]:
    """For each picture the number of its moment, 0 to 23."""
    frames = [record.extra["video_frame"] for record in dataset.records]
    return [sorted(set(frames)).index(frame) for frame in frames]


def blocks_of(moments: int, folds: int) -> list[tuple[list[int], list[int]]]:
    """For each fold the moments tested, which follow one another, and those learnt from."""
    folded = []
    for block in np.array_split(np.arange(moments), folds):
        away = [m for m in range(moments) if m < block[0] - GUARD or m > block[-1] + GUARD]
        folded.append(([int(m) for m in block], away))
    return folded


def part(dataset: Dataset, moments: list[int], wanted: Iterable[int]) -> Dataset:
    """The pictures of some moments."""
    kept = set(wanted)
    return replace(dataset, records=tuple(r for r, m in zip(dataset.records, moments, strict=True) if m in kept))


def in_units(dataset: Dataset, units: list[int]) -> Dataset:
    """The same pictures, those of one unit as the frames of one video: `evaluate` draws whole videos."""
    count: dict[int, int] = {}
    records = []
    for record, unit in zip(dataset.records, units, strict=True):
        records.append(replace(record, video_id=unit, frame_id=count.setdefault(unit, 0)))
        count[unit] += 1
    videos = tuple(Video(u, f"unit{u}", f"unit{u}", 1, 1, 1.0, n) for u, n in sorted(count.items()))
    return replace(dataset, records=tuple(records), videos=videos)


def with_sigmas(dataset: Dataset, reference: Skeleton) -> Dataset:
    """The joints that a skeleton with sigmas knows too, with these: for OKS."""
    old = dataset.skeleton
    names = tuple(name for name in old.keypoints if name in reference.keypoints)
    rows = [old.index(name) for name in names]
    sigmas = tuple(reference.sigmas[reference.index(name)] for name in names)
    skeleton = Skeleton("shared", names, sigmas=sigmas, torso=old.torso)

    def reduced(person: Instance) -> Instance:
        return replace(person, xy=person.xy[rows], visibility=person.visibility[rows], score=person.score[rows])

    records = (replace(r, instances=tuple(map(reduced, r.instances))) for r in dataset.records)
    return replace(dataset, skeleton=skeleton, records=tuple(records))


def under_images(record: Record) -> Record:
    """The picture named within its own folder, wherever the label file lies."""
    return replace(record, file_name=f"images/{Path(record.file_name).name}")


def read_named(stream: Path) -> Frames:
    """A stream with its pictures named in the same way."""
    return [(h, replace(f, file=f"images/{Path(str(f.file)).name}")) for h, f in read_stream(stream)]


def main_person(frame: FramePoses) -> Instance | None:
    """The most certain person of a picture, who has all joints."""
    return max(frame.instances, key=lambda person: person.person_score, default=None)


def learn_map(found: np.ndarray, labelled: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each labelled joint as a weighted mean of found ones.

    Args:
        found: (N, J, 2). labelled: (N, K, 2), its joints known where `known` (N, K) says so.

    Returns:
        (K, J) weights, summing to 1 in each row: pulled towards those of the nearest joint.
    """
    weights = np.zeros((labelled.shape[1], found.shape[1]))
    for k in range(labelled.shape[1]):
        rows = known[:, k]
        distance = np.linalg.norm(found[rows] - labelled[rows, k, None], axis=2).mean(0)
        base = int(np.argmin(distance))
        # Places relative to the nearest joint, so that the weights sum to 1; lengths in those of the person.
        size = np.ptp(found[rows], axis=1).max(1)[:, None, None]
        a = ((found[rows] - found[rows, base, None]) / size).transpose(0, 2, 1).reshape(-1, found.shape[1])
        b = ((labelled[rows, k] - found[rows, base]) / size[:, 0]).reshape(-1)
        a = np.delete(a, base, axis=1)
        solved = np.linalg.solve(a.T @ a + RIDGE * len(a) * np.diag((a**2).mean(0)), a.T @ b)
        weights[k] = np.insert(solved, base, 1 - solved.sum())
    return weights


def mapped(before: dict[str, FramePoses], learn: Dataset, test: Dataset) -> list[FramePoses]:
    """Poses of the test pictures by a map learnt from the other ones."""
    pairs = [(main_person(before[r.file_name]), r.instances[0]) for r in learn.records]
    pairs = [(mine, label) for mine, label in pairs if mine is not None]
    weights = learn_map(
        np.stack([np.asarray(mine.xy, float) for mine, _ in pairs]),
        np.stack([np.nan_to_num(np.asarray(label.xy, float)) for _, label in pairs]),
        np.stack([label.visibility > 0 for _, label in pairs]),
    )
    count = len(weights)
    frames = []
    for record in test.records:
        frame = before[record.file_name]
        people = tuple(
            replace(
                person,
                xy=(weights @ np.asarray(person.xy, float)).astype(np.float32),
                visibility=np.full(count, 2),
                score=np.full(count, float(person.score.mean()), np.float32),
                extra={},
            )
            for person in frame.instances
        )
        frames.append(replace(frame, instances=people))
    return frames


def compared(labels: Dataset, first: Frames, second: Frames, **options: Any) -> dict[str, Any]:
    """`evaluate` of two streams."""
    return evaluate(
        labels, first, second, metrics=["pck", "pdj"], match="iou", pck_reference="torso",
        thresholds={"pck": [0.1, 0.2]}, **options,
    )  # fmt: skip


def per_cent(value: float, interval: list[float] | None = None, sign: str = "") -> str:
    """A share x 100, with its interval."""
    text = f"{100 * value:{sign}.1f}"
    return text if interval is None else f"{text} ({100 * interval[0]:{sign}.1f} to {100 * interval[1]:{sign}.1f})"


def table(result: dict[str, Any], names: tuple[tuple[str, str], ...], heads: tuple[str, str]) -> list[str]:
    """A Markdown table of two streams and their difference."""
    lines = [f"| | {heads[0]} | {heads[1]} | difference | p |", "|---|---|---|---|---|"]
    for key, name in names:
        first, second, difference = result["all"], result["second"]["all"], result["difference"]["all"][key]
        cells = [
            per_cent(first[key], first["intervals"][key]), per_cent(second[key], second["intervals"][key]),
            per_cent(difference["value"], difference["interval"], "+"), f"{difference['p']:.3f}",
        ]  # fmt: skip
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def by_group(
    labels: Dataset, before: Frames, after: Frames, joints: list[str], groups: list[str], what: str
) -> list[str]:
    """A Markdown table of PCK@0.2 by groups of pictures."""
    lines = [f"| {what} | pictures | before | after | difference |", "|---|---|---|---|---|"]
    key = SHOWN[0][0]
    for name in sorted(set(groups)):
        records = tuple(r for r, group in zip(labels.records, groups, strict=True) if group == name)
        names = {record.file_name for record in records}
        some = [[(h, f) for h, f in stream if str(f.file) in names] for stream in (before, after)]
        result = compared(replace(labels, records=records), *some, joints=joints)
        difference = result["difference"]["all"][key]
        cells = [per_cent(result["all"][key]), per_cent(result["second"]["all"][key])]
        cells.append(per_cent(difference["value"], difference.get("interval"), "+"))
        lines.append(f"| {name} | {len(records)} | " + " | ".join(cells) + " |")
    return lines


def exchanged(labels: Dataset, stream: Frames, joints: list[str]) -> list[tuple[float, float]]:
    """For each picture PCK@0.2 of the pose whose box fits best, as it is and with left and right exchanged."""
    found = {str(frame.file): (header.skeleton, frame.instances) for header, frame in stream}
    other = [("left_" if j[0] == "r" else "right_") + j.split("_", 1)[1] if "_" in j else j for j in joints]
    own = labels.skeleton
    rows, torso = [own.index(j) for j in joints], [own.index(j) for j in own.torso]
    shares = []
    for record in labels.records:
        skeleton, people = found[record.file_name]
        label = record.instances[0]
        boxes = np.array([p.box_xyxy for p in people], float).reshape(-1, 4)
        if not len(boxes):
            shares.append((0.0, 0.0))
            continue
        person = people[int(np.argmax(box_iou(boxes, np.asarray(label.box_xyxy))[:, 0]))]
        length = np.hypot(*(label.xy[torso[0]] - label.xy[torso[1]]))
        known = label.visibility[rows] > 0
        hit = []
        for names in (joints, other):
            away = person.xy[[skeleton.index(j) for j in names]] - label.xy[rows]
            hit.append(float((np.hypot(*away.T)[known] <= 0.2 * length).mean()))
        shares.append((hit[0], hit[1]))
    return shares


def losses(run: Path) -> list[float]:
    """The loss a tenth of the run at a time, from its log."""
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    seen = [(r["progress"], r["loss"]) for r in records if r["event"] == "train"]
    tenths = [[loss for share, loss in seen if n / 10 < share <= (n + 1) / 10] for n in range(10)]
    return [round(float(np.mean(tenth)), 3) for tenth in tenths if tenth]


def main() -> None:
    """Fine-tunes what is not done yet, then compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=EXAMPLES / "finetune.toml")
    parser.add_argument("--minutes", type=float, default=2.0, help="processor minutes of one thread, each fold")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--only", type=int, nargs="+", help="these folds only, nothing is compared with the others")
    parser.add_argument("--write", action="store_true", help=f"write the result to {RESULT.name}")
    args = parser.parse_args()
    folder = args.data / "people_keypoints_extra/basketball"
    args.out.mkdir(parents=True, exist_ok=True)

    everything, stream = args.out / "all.coco.json", args.out / "before.jsonl"
    if not everything.exists():
        posecli(
            "convert", folder / "annotations.json", "--image-root", folder, "--out", everything, "--quiet",
            "--to-skeleton", EXAMPLES / "finetune_joints.toml",
        )  # fmt: skip
    if not stream.exists():
        found(everything, stream)
    dataset = coco.read(everything)
    dataset = replace(dataset, root=str(folder.resolve()), records=tuple(map(under_images, dataset.records)))
    moments = moment_of(dataset)
    before = read_named(stream)
    by_name = {str(frame.file): frame for _, frame in before}

    after: Frames = []
    linear: Frames = []
    tested: list[int] = []
    away: dict[int, int] = {}
    curves = []
    for number, (block, others) in enumerate(blocks_of(max(moments) + 1, args.folds)):
        if args.only and number not in args.only:
            continue
        learn, test = part(dataset, moments, others), part(dataset, moments, block)
        tested += block
        away |= {m: min(abs(m - other) for other in others) for m in block}
        home = args.out / f"fold{number}"
        if not (home / "after.jsonl").exists():
            home.mkdir(exist_ok=True)
            coco.write(learn, home / "learn.coco.json")
            coco.write(test, home / "test.coco.json")
            resumed = (home / "run/state.pt").exists()
            how = ("--resume",) if resumed else ("--init", "default", "--config", args.config, "--data",
                home / "learn.coco.json", "--max-minutes", args.minutes, "--set", "clock=processor", "--set",
                "threads=1", "--set", "workers=0")  # fmt: skip
            posecli("train", "--out", home / "run", "--device", "cpu", *how)
            found(home / "test.coco.json", home / "after.jsonl", "--weights", home / "run/last.safetensors")
        after += read_named(home / "after.jsonl")
        header = replace(before[0][0], skeleton=dataset.skeleton)
        linear += [(header, frame) for frame in mapped(by_name, learn, test)]
        curves.append(losses(home / "run"))
        print(f"fold {number}: {len(learn.records)} pictures learnt from, {len(test.records)} tested", file=sys.stderr)

    with StreamWriter(args.out / "mapped.jsonl") as writer:
        writer.header(linear[0][0])
        for _, frame in linear:
            writer.frame(frame)
    chosen = part(dataset, moments, tested)
    units = moment_of(chosen) if args.only else [m for m in moments if m in set(tested)]
    labels = in_units(chosen, units)
    wide = in_units(chosen, [unit // 2 for unit in units])
    names = {str(r.file_name) for r in chosen.records}
    before = [(h, f) for h, f in before if str(f.file) in names]
    shared = [j for j in dataset.skeleton.keypoints if j in before[0][0].skeleton.keypoints]
    new = [j for j in dataset.skeleton.keypoints if j not in shared]

    one = compared(labels, before, after, joints=shared, by=["joint"])
    three = compared(labels, linear, after, joints=new, by=["joint"])
    doubled = compared(wide, before, after, joints=shared)
    camera = [Path(r.file_name).name.split("_")[0] for r in labels.records]
    apart = [f"{min(away[m], 5)}{' and more' if away[m] >= 5 else ''}" for m in moments if m in away]
    shares = [exchanged(labels, stream, shared) for stream in (before, after)]
    mirrored = [
        f"{name}: {sum(b > a for (a, b), c in zip(shares[0], camera, strict=True) if c == name)} before, "
        f"{sum(b > a for (a, b), c in zip(shares[1], camera, strict=True) if c == name)} after"
        for name in sorted(set(camera))
    ]
    body = get_skeleton("body19")
    oks = evaluate(with_sigmas(labels, body), before, after, metrics=["oks"], match="iou")
    date = datetime.date.today()
    text = [
        "# Fine-tuning on 48 pictures", "",
        f"By `benchmarks/finetune.py --minutes {args.minutes:g} --folds {args.folds}`, {date}: {len(chosen.records)} "
        f"pictures of one player, each tested once; {args.minutes:g} minutes of one thread a fold; intervals 95 % over "
        f"{len(set(units))} moments with their three cameras, paired.", "",
        f"The {len(shared)} joints that both have, shipped model before and after:", "",
        *table(one, SHOWN, ("before", "after")),
        *table(oks, (("mean_OKS", "mean OKS"),), ("", ""))[2:], "",
        f"The same over {len(set(units)) // 2} pairs of neighbouring moments: "
        + "; ".join(
            f"{name} {per_cent(d['value'], d['interval'], '+')}, p = {d['p']:.3f}"
            for key, name in SHOWN for d in [doubled["difference"]["all"][key]]
        ) + ".", "",
        f"The {len(new)} new joints, as weighted means of the shipped model's, and after:", "",
        *table(three, SHOWN, ("mapped", "after")), "",
        "The shared joints by camera (out5 is behind the player), and by the moments between a picture and the nearest",
        "one learnt from; six moments are a second:", "",
        *by_group(labels, before, after, shared, camera, "camera"), "",
        *by_group(labels, before, after, shared, apart, "moments away"), "",
        f"Pictures on which the pose would meet more joints with left and right exchanged: {'; '.join(mirrored)}.", "",
        "By joint, PCK@0.2; before: of the new joints the weighted means:", "",
        "| joint | before | after |", "|---|---|---|",
    ]  # fmt: skip
    for result, joints in ((one, shared), (three, new)):
        for joint in joints:
            rows = [side["groups"]["joint"][joint][SHOWN[0][0]] for side in (result, result["second"])]
            text.append(f"| {joint} | {per_cent(rows[0])} | {per_cent(rows[1])} |")
    text += ["", "Loss by tenths of the run, fold by fold: " + "; ".join(" ".join(map(str, c)) for c in curves) + "."]
    print("\n".join(text))
    if args.write:
        RESULT.write_text("\n".join(text) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
