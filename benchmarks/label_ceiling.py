"""How good LSPET's labels are, and what a score against them can reach.

    python benchmarks/label_ceiling.py --data DATA --stream runs/scores/lspet.jsonl [--sheets FOLDER]

- PCK@0.2 of a stream of the validation pictures (`default_model.py` leaves it) as the labels stand, and where left and
  right may be exchanged: in each pair of joints by itself, in arms and legs, in the whole person; always whichever
  exchange hits more, so each is an upper bound, and the mean pose's gain by the same freedom stands beside it.
- 100 validation pictures drawn with a fixed seed were judged by eye (`lspet_judged.csv`): joints labelled elsewhere
  than they are, and exchanged pairs. From these the share of labels that even a perfect model misses, and the stream's
  score on these pictures with the labels as they are, and with exchanged pairs put right and wrong joints left out.

``--sheets`` draws the hundred with their labels: left blue, right red, neck and head grey.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import cv2
import numpy as np
from default_model import LIMBS, held_out

from posecli.formats import coco
from posecli.predictions import read_stream
from posecli.types import Dataset, Record
from posecli.video import read_picture

_NEAR = 0.2
_JUDGED = Path(__file__).with_name("results") / "lspet_judged.csv"
_PAIRS = [("left_" + j, "right_" + j) for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")]
#: What may be exchanged together.
FREEDOMS = {
    "as labelled": [], "each pair by itself": [[p] for p in _PAIRS], "arms, legs": [_PAIRS[:3], _PAIRS[3:]],
    "whole person": [_PAIRS],
}  # fmt: skip


def hits(label: np.ndarray, known: np.ndarray, found: np.ndarray | None, length: float) -> np.ndarray:
    """(12,) which labelled joints are met; ``label``, ``found`` (12, 2), in the order of `LIMBS`."""
    if found is None:
        return np.zeros(len(known), bool)
    return known & (np.linalg.norm(found - label, axis=1) <= _NEAR * length)


def free_hits(
    label: np.ndarray, known: np.ndarray, found: np.ndarray | None, length: float, freedom: list[list[tuple[str, str]]]
) -> int:
    """Labelled joints met where each group of pairs may be exchanged if that meets more."""
    plain = hits(label, known, found, length)
    total = int(plain.sum())
    if found is None:
        return total
    for group in freedom:
        index = np.arange(len(LIMBS))
        for a, b in group:
            i, j = LIMBS.index(a), LIMBS.index(b)
            index[i], index[j] = j, i
        here = [LIMBS.index(name) for pair in group for name in pair]
        other = hits(label, known, found[index], length)
        total += max(0, int(other[here].sum()) - int(plain[here].sum()))
    return total


class Picture:
    """The person of a validation picture: labels (12, 2), which are there, torso in pixels; NaN: not scored."""

    def __init__(self, record: Record, dataset: Dataset) -> None:
        person = record.instances[0]
        places = [dataset.skeleton.index(name) for name in LIMBS]
        self.name = Path(record.file_name).name
        self.xy = np.asarray(person.xy, float)[places]
        self.known = person.visibility[places] > 0
        ends = [LIMBS.index("left_shoulder"), LIMBS.index("right_hip")]
        length = float(np.linalg.norm(self.xy[ends[0]] - self.xy[ends[1]]))
        self.torso = length if self.known[ends].all() and length >= 1 else float("nan")


def read_found(stream: Path) -> dict[str, np.ndarray | None]:
    """(12, 2) the joints of each picture's best person; None: nobody."""
    found: dict[str, np.ndarray | None] = {}
    for header, line in read_stream(stream):
        places = [header.skeleton.index(name) for name in LIMBS]
        best = max(line.instances, key=lambda p: p.person_score, default=None)
        found[Path(line.file or header.source).name] = None if best is None else np.asarray(best.xy, float)[places]
    return found


def mean_pose(dataset: Dataset) -> np.ndarray:
    """(12, 2) mean places of the joints of the other pictures, in shares of the picture."""
    places = [dataset.skeleton.index(name) for name in LIMBS]
    shares = []
    for record in dataset.records:
        if not held_out(record.file_name):
            person = record.instances[0]
            xy = np.asarray(person.xy, float)[places] / (record.width, record.height)
            shares.append(np.where(person.visibility[places, None] > 0, xy, np.nan))
    return np.nanmean(np.stack(shares), 0)


def score(pictures: list[Picture], found: dict[str, np.ndarray | None], freedom: list[list[tuple[str, str]]]) -> float:
    """PCK@0.2 over all joints of the pictures that have a torso."""
    scored = [p for p in pictures if np.isfinite(p.torso)]
    good = sum(free_hits(p.xy, p.known, found.get(p.name), p.torso, freedom) for p in scored)
    return good / sum(int(p.known.sum()) for p in scored)


def read_judged(path: Path) -> dict[str, tuple[list[str], list[str]]]:
    """By picture the joints labelled wrongly and the pairs exchanged (``"shoulder"``)."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["file"]: (row["wrong"].split(), row["exchanged"].split()) for row in csv.DictReader(file)}


def mended(picture: Picture, wrong: list[str], exchanged: list[str]) -> Picture:
    """The picture with its labels put right as far as that is possible: wrong joints are left out."""
    better = Picture.__new__(Picture)
    better.__dict__.update(picture.__dict__)
    better.xy, better.known = picture.xy.copy(), picture.known.copy()
    for joint in exchanged:
        i, j = LIMBS.index("left_" + joint), LIMBS.index("right_" + joint)
        better.xy[[i, j]], better.known[[i, j]] = better.xy[[j, i]], better.known[[j, i]]
    for joint in wrong:
        better.known[LIMBS.index(joint)] = False
    return better


def missed_by_truth(picture: Picture, wrong: list[str], exchanged: list[str]) -> int:
    """Labelled joints that a perfect answer would miss: wrong ones, and exchanged ones that lie apart."""
    lost = {LIMBS.index(joint) for joint in wrong if picture.known[LIMBS.index(joint)]}
    for joint in exchanged:
        i, j = LIMBS.index("left_" + joint), LIMBS.index("right_" + joint)
        both = picture.known[i] and picture.known[j]
        if both and np.linalg.norm(picture.xy[i] - picture.xy[j]) > _NEAR * picture.torso:
            lost |= {i, j}
    return len(lost)


def drawn(pictures: list[Picture], seed: int = 6, count: int = 100) -> list[Picture]:
    """The pictures that were judged."""
    order = np.random.default_rng(seed).permutation(len(pictures))
    return [pictures[i] for i in sorted(order[:count])]


def draw_sheets(pictures: list[Picture], data: Path, folder: Path, columns: int = 5, rows: int = 4) -> None:
    """PNGs of the pictures with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    side = 300
    ends = (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle"), ("shoulder", "hip"))
    bones = [(side_of + a, side_of + b) for side_of in ("left_", "right_") for a, b in ends]
    for start in range(0, len(pictures), columns * rows):
        sheet = np.full((rows * side, columns * side, 3), 40, np.uint8)
        for n, picture in enumerate(pictures[start : start + columns * rows]):
            image = read_picture(data / "lspet/images" / picture.name)
            zoom = (side - 4) / max(image.shape[:2])
            image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
            at = np.round(np.nan_to_num((picture.xy + 0.5) * zoom - 0.5)).astype(int)
            for a, b in bones:
                i, j = LIMBS.index(a), LIMBS.index(b)
                if picture.known[i] and picture.known[j]:
                    colour = (60, 110, 255) if a.startswith("left") else (255, 50, 50)
                    cv2.line(image, at[i].tolist(), at[j].tolist(), colour, 1, cv2.LINE_AA)
            for i, name in enumerate(LIMBS):
                if picture.known[i]:
                    cv2.circle(
                        image, at[i].tolist(), 3, (60, 110, 255) if name.startswith("left") else (255, 50, 50), -1
                    )
            label = f"{start + n}"
            cv2.putText(image, label, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3)
            cv2.putText(image, label, (3, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 0), 1)
            y, x = divmod(n, columns)
            sheet[y * side : y * side + image.shape[0], x * side : x * side + image.shape[1]] = image
        cv2.imwrite(str(folder / f"sheet{start // (columns * rows)}.png"), sheet[..., ::-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stream", type=Path, help="of the validation pictures")
    parser.add_argument("--judged", type=Path, default=_JUDGED)
    parser.add_argument("--sheets", type=Path, help="folder for the drawn pictures")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    dataset = coco.read(args.data / "lspet/annotations.json")
    records = [r for r in dataset.records if held_out(r.file_name)]
    pictures = [Picture(r, dataset) for r in records]
    hundred = drawn(pictures)
    if args.sheets:
        draw_sheets(hundred, args.data, args.sheets)
    if not args.stream:
        return
    found = read_found(args.stream)
    mean = mean_pose(dataset)
    still = {Path(r.file_name).name: mean * (r.width, r.height) for r in records}
    report: dict[str, dict[str, float]] = {"all": {}, "mean pose": {}}
    for name, freedom in FREEDOMS.items():
        report["all"][name] = score(pictures, found, freedom)
        report["mean pose"][name] = score(pictures, dict(still), freedom)
    judged = read_judged(args.judged)
    subset = [p for p in hundred if np.isfinite(p.torso)]
    labelled = sum(int(p.known.sum()) for p in subset)
    better = [mended(p, *judged[p.name]) for p in subset]
    report["judged"] = {
        "pictures": len(subset), "joints": labelled,
        "joints wrong": sum(sum(bool(p.known[LIMBS.index(j)]) for j in judged[p.name][0]) for p in subset),
        "pictures with an exchange": sum(bool(judged[p.name][1]) for p in subset),
        "pictures without a fault": sum(not any(judged[p.name]) for p in subset),
        "reached by the truth": 1 - sum(missed_by_truth(p, *judged[p.name]) for p in subset) / labelled,
        "as labelled": score(subset, found, []), "mended": score(better, found, []),
    }  # fmt: skip
    print(json.dumps(report, indent=1) if args.json else _text(report))


def _text(report: dict[str, dict[str, float]]) -> str:
    lines = [f"{'PCK@0.2, left and right exchanged':36s} stream  mean pose"]
    lines += [f"  {name:34s} {report['all'][name]:.3f}   {report['mean pose'][name]:.3f}" for name in FREEDOMS]
    lines += ["", "judged by eye"]
    lines += [f"  {k:34s} {v:.3f}" if isinstance(v, float) else f"  {k:34s} {v}" for k, v in report["judged"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
