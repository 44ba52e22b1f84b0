"""Whether scores mean what they say: joints and people right as often as their scores promise, on pictures kept out.

    python benchmarks/default_model.py --data DATA --out runs/scores
    python benchmarks/calibration.py --data DATA --streams runs/scores [--plot docs/calibration.svg] [--json]

Reads the streams that `default_model.py` leaves (LSPET validation, coco_mini val, backgrounds kept out of training).

- A joint is right within 0.2 of the torso (left shoulder to right hip), as PCK@0.2 counts it. LSPET: the best person of
  each picture; coco_mini: everybody labelled, paired with the people found by OKS.
- A person is right when the box meets a labelled one's by an IoU of 0.5, each labelled one once, best score first. On
  coco_mini and backgrounds together; crowds, and people shorter than a tenth of the picture, count neither way. LSPET
  labels one person a picture: there the best one only.

The error is the expected calibration error over ten bins of equally many (people: over bins of equal width that count
alike, since nearly all suggestions have scores near 0, which are right and would hide the rest), with a 95 % bootstrap
interval over pictures. Beside it the error that is left after an isotonic map fitted on the other four fifths of the
pictures: how much a further map could repair.
"""

from __future__ import annotations

import argparse
import datetime
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from default_model import LIMBS
from scipy.optimize import isotonic_regression

from posecli.files import replace_when_done
from posecli.formats import coco
from posecli.geometry import box_iou
from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.skeletons import BODY19
from posecli.types import Dataset, Instance, Record, Skeleton

_NEAR, _SMALL, _BINS = 0.2, 0.1, 10
_SIGMA = dict(zip(BODY19.keypoints, BODY19.sigmas, strict=True))


@dataclass
class Claims:
    """Scores, whether each was right, and the picture that each is from."""

    score: list[float] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)
    picture: list[int] = field(default_factory=list)

    def add(self, score: float, right: bool, picture: int) -> None:
        self.score.append(float(score))
        self.right.append(bool(right))
        self.picture.append(picture)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return np.array(self.score), np.array(self.right, float), np.array(self.picture)


def shared_joints(labels: Skeleton, found: Skeleton) -> list[tuple[int, int]]:
    """Places in both of the limb joints that both have."""
    both = [name for name in LIMBS if name in labels.keypoints and name in found.keypoints]
    return [(labels.index(name), found.index(name)) for name in both]


def torso(person: Instance, skeleton: Skeleton) -> float:
    """Pixels from left shoulder to right hip; NaN unless both are labelled and a pixel apart."""
    ends = [skeleton.index(name) for name in ("left_shoulder", "right_hip")]
    length = float(np.linalg.norm(person.xy[ends[0]] - person.xy[ends[1]]))
    return length if (person.visibility[ends] > 0).all() and length >= 1 else float("nan")


def add_joints(claims: Claims, label: Instance, found: Instance, header: StreamHeader, of: Skeleton, at: int) -> None:
    """The labelled limb joints of a person, as found."""
    length = torso(label, of)
    for a, b in shared_joints(of, header.skeleton):
        if label.visibility[a] > 0 and np.isfinite(length):
            claims.add(found.score[b], np.linalg.norm(found.xy[b] - label.xy[a]) <= _NEAR * length, at)


def similarity(label: Instance, found: Instance, header: StreamHeader, of: Skeleton) -> float:
    """OKS over the limb joints, the area by the label's box."""
    pairs = [(a, b) for a, b in shared_joints(of, header.skeleton) if label.visibility[a] > 0]
    if not pairs or label.box_xyxy is None:
        return 0.0
    area = 0.53 * float(np.prod(np.asarray(label.box_xyxy)[2:] - np.asarray(label.box_xyxy)[:2]))
    apart = np.array([np.sum((found.xy[b] - label.xy[a]) ** 2) for a, b in pairs])
    sigma = np.array([_SIGMA[of.keypoints[a]] for a, _ in pairs])
    return float(np.exp(-apart / (2 * area * (2 * sigma) ** 2)).mean())


def add_people(claims: Claims, record: Record | None, found: Iterable[Instance], at: int) -> None:
    """Everybody suggested on a picture."""
    people = [p for p in record.instances if p.box_xyxy is not None] if record else []
    boxes = np.array([p.box_xyxy for p in people], float).reshape(-1, 4)
    longer = max(record.width or 1, record.height or 1) if record else 1
    plain = [not p.ignore for p in people]
    large = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) >= _SMALL * longer
    taken: set[int] = set()
    for person in sorted(found, key=lambda p: -p.person_score):
        overlap = box_iou(np.asarray(person.box_xyxy, float)[None], boxes)[0]
        free = [g for g in np.argsort(-overlap) if plain[g] and g not in taken and overlap[g] >= 0.5]
        if free:
            taken.add(int(free[0]))
            if large[free[0]]:
                claims.add(person.person_score, True, at)
        elif not any(overlap[g] > 0.1 for g in range(len(people)) if not plain[g]):
            claims.add(person.person_score, False, at)


def lines_by_name(stream: Path) -> dict[str, tuple[StreamHeader, FramePoses]]:
    return {Path(line.file or header.source).name: (header, line) for header, line in read_stream(stream)}


def gather(data: Path, streams: Path) -> dict[str, Claims]:
    """All claims of the three streams."""
    names = ("joints, LSPET", "joints, coco_mini", "people, coco_mini and backgrounds", "people, LSPET")
    sport, everyday, scenes, athletes = claims = [Claims() for _ in names]
    labels: Dataset = coco.read(data / "lspet/annotations.json")
    by_name = {Path(r.file_name).name: r for r in labels.records}
    for at, (name, (header, line)) in enumerate(lines_by_name(streams / "lspet.jsonl").items()):
        if line.instances:
            best = max(line.instances, key=lambda p: p.person_score)
            record = by_name[name]
            add_joints(sport, record.instances[0], best, header, labels.skeleton, at)
            add_people(athletes, record, [best], at)
    labels = coco.read(data / "coco_mini/annotations/person_keypoints_val2017.json")
    by_name = {Path(r.file_name).name: r for r in labels.records}
    at = 0
    for at, (name, (header, line)) in enumerate(lines_by_name(streams / "coco.jsonl").items()):
        people = [p for p in by_name[name].instances if not p.ignore]
        pairs = [(similarity(a, b, header, labels.skeleton), i, j) for i, a in enumerate(people)
                 for j, b in enumerate(line.instances)]  # fmt: skip
        seen: tuple[set[int], set[int]] = (set(), set())
        for oks, i, j in sorted(pairs, reverse=True):
            if oks > 0.1 and i not in seen[0] and j not in seen[1]:
                seen[0].add(i)
                seen[1].add(j)
                add_joints(everyday, people[i], line.instances[j], header, labels.skeleton, at)
        add_people(scenes, by_name[name], line.instances, at)
    for after, (_, line) in enumerate(lines_by_name(streams / "backgrounds.jsonl").values(), at + 1):
        add_people(scenes, None, line.instances, after)
    return dict(zip(names, claims, strict=True))


def bins_of(score: np.ndarray, equal_width: bool) -> np.ndarray:
    """(N,) the bin of each score."""
    if equal_width:
        return np.minimum((score * _BINS).astype(int), _BINS - 1)
    edges = np.quantile(score, np.linspace(0, 1, _BINS + 1)[1:-1])
    return np.searchsorted(edges, score, side="right")


def calibration_error(score: np.ndarray, right: np.ndarray, equal_width: bool) -> float:
    """Mean over the bins, each by its share, of how far the mean score lies from the share that is right.

    With bins of equal width every bin counts alike.
    """
    place = bins_of(score, equal_width)
    there = np.unique(place)
    gaps = np.array([abs(right[place == b].mean() - score[place == b].mean()) for b in there])
    weight = np.ones(len(there)) if equal_width else np.array([(place == b).mean() for b in there])
    return float((gaps * weight).sum() / weight.sum())


def refitted(score: np.ndarray, right: np.ndarray, picture: np.ndarray, folds: int = 5) -> np.ndarray:
    """(N,) scores after an isotonic map that was fitted on the other folds' pictures."""
    result = np.zeros(len(score))
    for fold in range(folds):
        here = picture % folds == fold
        order = np.argsort(score[~here], kind="stable")
        line = isotonic_regression(right[~here][order]).x
        result[here] = np.interp(score[here], score[~here][order], line)
    return result


def interval(
    measure: Callable[[np.ndarray, np.ndarray], float], claims: Claims, draws: int, seed: int = 0
) -> list[float]:
    """95 %, pictures drawn with replacement."""
    score, right, picture = claims.arrays()
    rows = [np.flatnonzero(picture == p) for p in np.unique(picture)]
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = np.concatenate([rows[i] for i in rng.integers(len(rows), size=len(rows))])
        values.append(measure(score[drawn], right[drawn]))
    return [float(v) for v in np.quantile(values, [0.025, 0.975])]


def report_of(claims: Claims, people: bool, draws: int) -> dict[str, Any]:
    """Error with interval, error after a further map, and the curve: mean score, share right, claims by bin."""
    score, right, picture = claims.arrays()
    place = bins_of(score, people)
    return {
        "claims": len(score), "right": float(right.mean()),
        "error": calibration_error(score, right, people),
        "interval": interval(lambda s, r: calibration_error(s, r, people), claims, draws),
        "after_map": calibration_error(refitted(score, right, picture), right, people),
        "curve": [
            [float(score[place == b].mean()), float(right[place == b].mean()), int((place == b).sum())]
            for b in np.unique(place)
        ],
    }  # fmt: skip


def plot(report: dict[str, dict[str, Any]], path: Path) -> None:
    """The curves as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "posecli", "svg.fonttype": "none"}
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 4), sharey=True)
    for axis, kind in zip(axes, ("joints", "people"), strict=True):
        axis.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for (name, row), colour in zip(
            ((n, r) for n, r in report.items() if n.startswith(kind)), ("tab:blue", "tab:orange"), strict=False
        ):
            x, y, count = np.array(row["curve"]).T
            axis.plot(x, y, color=colour, linewidth=1, label=f"{name.split(', ')[1]}: {row['error']:.3f}")
            axis.scatter(x, y, s=6 + 60 * count / count.max(), color=colour)
        axis.set(xlabel=f"score of {kind}", xlim=(0, 1), ylim=(0, 1), aspect="equal")
        axis.legend(title="calibration error", loc="lower right", fontsize=8, title_fontsize=8)
    axes[0].set_ylabel("share that is right")
    figure.tight_layout()
    with replace_when_done(path, overwrite=True) as part:
        figure.savefig(part, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None)


def tables(report: dict[str, dict[str, Any]]) -> str:
    """Markdown: the errors, and the curves."""
    lines = ["| claims | how many | right | calibration error | after a further map |", "|---|---|---|---|---|"]
    for name, row in report.items():
        low, high = row["interval"]
        error = f"{row['error']:.3f} ({low:.3f} to {high:.3f})"
        lines.append(f"| {name} | {row['claims']} | {row['right']:.3f} | {error} | {row['after_map']:.3f} |")
    lines += ["", "Mean score and share that is right, by bin (claims):", ""]
    for name, row in report.items():
        lines.append(f"- {name}: " + ", ".join(f"{x:.2f} {y:.2f} ({n})" for x, y, n in row["curve"]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--streams", type=Path, required=True, help="folder that default_model.py wrote")
    parser.add_argument("--plot", type=Path, help=".svg or .png to write")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    parser.add_argument("--bootstrap", type=int, default=500)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    report = {
        name: report_of(claims, name.startswith("people"), args.bootstrap)
        for name, claims in gather(args.data, args.streams).items()
    }
    if args.plot:
        plot(report, args.plot)
    if args.json:
        print(json.dumps(report, indent=1))
        return
    text = tables(report)
    print(text)
    if args.result:
        shown = f"![reliability]({args.plot.name})\n\n" if args.plot and args.plot.parent == args.result.parent else ""
        header, _ = next(read_stream(args.streams / "coco.jsonl"))
        told = (
            "# Calibration of the default model\n\n"
            f"{datetime.date.today()}, weights {str(header.weights_sha256)[:16]}. "
            "`python benchmarks/calibration.py --data ../shared/data --streams runs/scores`; what each column means "
            "stands at its head.\n\n"
        )
        with replace_when_done(args.result, overwrite=True) as part:
            part.write_text(told + shown + text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
