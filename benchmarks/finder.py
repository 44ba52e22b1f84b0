"""The finder by itself: which people of the tuning pictures get a box, and which boxes are nobody's.

    python benchmarks/finder.py --data DATA [FINDER_OR_MODEL ...] [--sides 352 144 112 96]

A file is a finder of `examples/train_finder.py`, or a whole model whose finder is taken; none: the shipped model. All
look at pictures as the shipped one does (suppression, mirror, float32), on three kinds of pictures: everyday scenes
kept out of training ("tuning"), as many scenes that were learnt from ("learnt"), and athletes kept out. People count
from a tenth of their picture's longer side on, at a box IoU of 0.5. AP50 is of all boxes; of athletes it is told how
often the first box is right, and its mean IoU. Of several files the first is what the others are compared with,
paired: 95 % intervals, bootstrap over pictures.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecli.augment_pictures import Picture
from posecli.checkpoint import read_parts, save_model
from posecli.geometry import box_iou
from posecli.inference import PoseModel, PredictOptions, find_weights, load_model

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "examples"))
from assemble_default import SAME, matched, spread
from train_finder import training_pools


@dataclass(frozen=True)
class Seen:
    """One picture: each box's score and 1 (somebody's), 0 (nobody's) or -1 (does not count), and people there."""

    scores: np.ndarray
    right: np.ndarray
    people: int
    met: int
    first: float  # IoU of the best box with the only person


def finder_of(file: Path, sides: Sequence[int], folder: Path) -> PoseModel:
    """A finder that looks as the shipped one does."""
    shipped = read_parts(find_weights("default"))
    parts = read_parts(file)
    state, meta = parts.get("finder", parts["main"])
    extra = dict(shipped["finder"][1].extra) | {"scales": [s / sides[0] for s in sides]}
    extra.pop("ranges", None)
    looking = type(meta)(
        **{f: getattr(meta, f) for f in ("architecture", "arguments", "skeleton", "mean", "std", "codec")},
        input_size=(sides[0], sides[0]),
        extra=extra,
    )
    whole = folder / "whole.safetensors"
    save_model(whole, *shipped["main"], finder=(state, looking))
    return load_model(whole, "cpu", options=PredictOptions(min_score=0.0, precision="float32"))


def look(model: PoseModel, picture: Picture) -> Seen:
    """What a finder makes of a picture."""
    image = picture.read()
    found = sorted(model.find([image], still=True)[0], key=lambda p: -p.person_score)
    right, people = matched(found, picture, max(image.shape[:2]))
    return Seen(
        np.array([p.person_score for p in found]),
        np.array([-1 if r is None else int(r) for r in right], int),
        people,
        right.count(True),
        float(box_iou(found[0].box_xyxy, picture.boxes_xyxy).max(initial=0)) if found else 0.0,
    )


def ap50(pictures: Sequence[Seen]) -> float:
    """Average precision of the boxes that count."""
    scores = np.concatenate([s.scores for s in pictures])
    right = np.concatenate([s.right for s in pictures])
    order = np.argsort(-scores[right >= 0], kind="stable")
    hits = np.cumsum(right[right >= 0][order] == 1)
    if not len(hits):
        return 0.0
    precision = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    wanted = max(sum(s.people for s in pictures), 1)
    return float(np.sum(np.diff(np.concatenate([[0], hits / wanted])) * precision))


def recall(pictures: Sequence[Seen]) -> float:
    """Share of people with a box."""
    return sum(s.met for s in pictures) / max(sum(s.people for s in pictures), 1)


def first_right(pictures: Sequence[Seen]) -> float:
    """Share of pictures of one person whose first box is that person's."""
    return float(np.mean([s.first >= SAME for s in pictures]))


def first_iou(pictures: Sequence[Seen]) -> float:
    """How well the first boxes that are right fit."""
    return float(np.mean([s.first for s in pictures if s.first >= SAME] or [0.0]))


Measure = Callable[[Sequence[Seen]], float]
MEASURES: dict[str, tuple[tuple[str, Measure], ...]] = {
    "tuning": (("AP50", ap50), ("with a box", recall)),
    "learnt": (("AP50", ap50), ("with a box", recall)),
    "athletes": (("first box right", first_right), ("IoU", first_iou)),
}


def paired(first: Sequence[Seen], other: Sequence[Seen], measure: Measure, draws: int = 1000) -> tuple[float, float]:
    """95 % interval of a measure's difference over resampled pictures."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = rng.integers(len(first), size=len(first))
        found.append(measure([other[i] for i in drawn]) - measure([first[i] for i in drawn]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=[352, 144, 112, 96])
    parser.add_argument("--pictures", type=int, default=0, help="of each kind, 0: all")
    args = parser.parse_args()
    pools, _, tuning, quiet = training_pools(args.data)
    kinds = {
        "tuning": [p for p in tuning if p.complete] + quiet,
        "athletes": [p for p in tuning if not p.complete],
    }
    kinds["learnt"] = spread([p for p in pools[0].pictures if p.complete], len(kinds["tuning"]))
    if args.pictures:
        kinds = {kind: spread(pictures, args.pictures) for kind, pictures in kinds.items()}
    before: dict[str, list[Seen]] = {}
    for file in args.files or [find_weights("default")]:
        with tempfile.TemporaryDirectory() as folder:
            model = finder_of(file, args.sides, Path(folder))
            said = [str(file)]
            for kind, measures in MEASURES.items():
                seen = [look(model, picture) for picture in kinds[kind]]
                for name, measure in measures:
                    value = f"  {kind}: {name} {measure(seen):.3f} of {sum(s.people for s in seen)} people"
                    if kind in before:
                        low, high = paired(before[kind], seen, measure)
                        value += f", {measure(seen) - measure(before[kind]):+.3f} ({low:+.3f} to {high:+.3f})"
                    said.append(value)
                before.setdefault(kind, seen)
            print("\n".join(said), flush=True)


if __name__ == "__main__":
    main()
