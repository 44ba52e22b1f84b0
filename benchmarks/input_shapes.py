"""In an input of which shape a pose network sees people best, by the shape and the size of their boxes.

    python benchmarks/input_shapes.py --data DATA [WEIGHTS] [--sizes 128x160 128x192 160x192]

One look at each labelled person in the label's box, no flip test: in the weights' own input and in each of the sizes
(turned for boxes that lie). Everyday people with five joints or more (OKS; the shipped network has learnt from most of
them, not from those of `coco_mini` val), and the LSPET validation tenth (PCK@0.2 of 12 limb joints, averaged over
people). Told is the mean, and what each size adds to it, with 1.96 standard errors. `examples/train_quality.py` states
what follows for the shipped model (`NARROW`).
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from default_model import LIMBS, held_out

from posecli.checkpoint import ModelMeta
from posecli.formats import coco
from posecli.inference import PoseModel, PredictOptions, find_weights, load_model
from posecli.metrics.oks import oks_matrix
from posecli.types import Instance, Skeleton
from posecli.video import read_picture

EVERYDAY = (
    "coco_mini/annotations/person_keypoints_val2017.json",
    "coco_mini/annotations/person_keypoints_train2017.json",
    "people_keypoints_extra/coco_tiny/annotations.json",
    "people_keypoints_extra/coco_more/annotations.json",
)
RATIOS = (0.0, 0.35, 0.45, 0.55, 0.65, 0.75, 1.0)
SIDES = (0, 70, 110, 150, 220, 10_000)
#: Joints of a person that must be labelled.
JOINTS = 5
#: The shorter side over the longer, up to which people are told by size, too.
NARROW = 0.62


@dataclass(frozen=True)
class Labelled:
    """A person of a picture (H, W, 3), of ``kind``."""

    kind: str
    image: np.ndarray
    person: Instance
    skeleton: Skeleton

    @property
    def sides(self) -> tuple[float, float]:
        """The shorter and the longer side of the box, in pixels."""
        x0, y0, x1, y1 = np.asarray(self.person.box_xyxy, float).tolist()
        return min(x1 - x0, y1 - y0), max(x1 - x0, y1 - y0)


def people(data: Path, every: int) -> Iterator[Labelled]:
    """Everybody who counts, of every so manieth picture."""
    for path in EVERYDAY:
        dataset = coco.read(data / path)
        kind = "coco_mini val" if "val2017" in path else "everyday people"
        for record in dataset.records[::every]:
            there = [p for p in record.instances if (p.visibility > 0).sum() >= JOINTS and p.box_xyxy is not None]
            image = read_picture(Path(dataset.root) / record.file_name) if there else None
            yield from (Labelled(kind, image, p, dataset.skeleton) for p in there if image is not None)
    folder = data / "lspet"
    dataset = coco.read(folder / "annotations.json", image_root=folder / "images")
    for record in [r for r in dataset.records if held_out(r.file_name)][::every]:
        image = read_picture(Path(dataset.root) / record.file_name)
        yield Labelled("LSPET validation", image, record.instances[0], dataset.skeleton)


def seen_in(meta: ModelMeta, size: tuple[int, int]) -> ModelMeta:
    """The weights' description, with all boxes looked at in an input of that width and height, if they stand."""
    return meta.with_extra(narrow={"size": list(size), "ratio": 1.0, "side": 0})


def score(model: PoseModel, somebody: Labelled) -> float:
    """OKS or share of right joints of one look; NaN where it can't be said."""
    truth = somebody.person
    (found,) = model.predict([somebody.image], [np.asarray(truth.box_xyxy)[None]])[0]
    own, theirs = somebody.skeleton, model.skeleton
    if somebody.kind != "LSPET validation":
        short, long = somebody.sides
        xy = found.xy[[theirs.index(name) for name in own.keypoints]]
        area = np.array([0.53 * short * long])
        return float(oks_matrix(truth.xy[None], truth.visibility[None], area, xy[None], own.sigmas)[0, 0])
    rows = [own.index(name) for name in LIMBS]
    there = truth.visibility[rows] > 0
    torso = np.linalg.norm(truth.xy[own.index("left_shoulder")] - truth.xy[own.index("right_hip")])
    if not (torso >= 1) or not there.any():  # an end without a label is NaN
        return float("nan")
    far = np.linalg.norm(found.xy[[theirs.index(name) for name in LIMBS]] - truth.xy[rows], axis=1)
    return float((far[there] <= 0.2 * torso).mean())


def table(values: np.ndarray, of: np.ndarray, edges: Sequence[float], unit: str) -> Iterator[str]:
    """A row for each stretch of ``of`` (N,): values (N, 1 + sizes)."""
    for low, high in itertools.pairwise(edges):
        rows = values[(of > low) & (of <= high)]
        if len(rows) < 3:
            continue
        gain = rows[:, 1:] - rows[:, :1]
        error = 1.96 * gain.std(0, ddof=1) / np.sqrt(len(rows))
        cells = [f"{m:+.3f} ± {e:.3f}" for m, e in zip(gain.mean(0), error, strict=True)]
        yield f"| {unit} {low:g} to {high:g} | {len(rows)} | {rows[:, 0].mean():.3f} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, nargs="?", help="a top-down model; none: the shipped one")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sizes", nargs="+", default=["128x160", "128x192", "160x192"], metavar="WxH")
    parser.add_argument("--every", type=int, default=1, help="of the pictures, for a first impression")
    args = parser.parse_args()
    options = PredictOptions(flip_test=False, second_look=False)
    model = load_model(args.weights or find_weights("default"), "cpu", options=options)
    sizes = [tuple(int(n) for n in size.split("x")) for size in args.sizes]
    metas = [seen_in(model.meta, size) for size in (model.meta.input_size, *sizes)]
    kinds, shapes, values = [], [], []
    for somebody in people(args.data, args.every):
        scores = []
        for meta in metas:
            model.meta = meta
            scores.append(score(model, somebody))
        if not np.isnan(scores).any():
            kinds.append(somebody.kind)
            shapes.append(somebody.sides)
            values.append(scores)
    sides, found = np.array(shapes), np.array(values)
    for kind in dict.fromkeys(kinds):
        its = np.array([k == kind for k in kinds])
        print(f"\n| {kind}: box | people | mean | " + " | ".join(args.sizes) + " |")
        print("|---" * (3 + len(sizes)) + "|")
        ratio = sides[its, 0] / np.maximum(sides[its, 1], 1e-9)
        for row in table(found[its], ratio, RATIOS, "shorter over longer side"):
            print(row)
        narrow = ratio <= NARROW
        for row in table(found[its][narrow], sides[its, 1][narrow], SIDES, f"up to {NARROW}, longer side"):
            print(row, flush=True)


if __name__ == "__main__":
    main()
