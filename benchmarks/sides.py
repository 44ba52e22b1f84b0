"""Both sides of a body read together against each map by itself: left and right legs and arms of LSPET's athletes.

    python benchmarks/sides.py --data DATA --out runs/sides [--learnt 3000]

The shipped pose network sees the validation people (5 joints or more) in their boxes, once; its maps are read by
`softmax` (each by itself) and by `sides` (`posecli.codecs.sides`). Compared, paired over pictures: PCK@0.2 of the 12
limb joints; the same where each pair of left and right may be exchanged if that fits better; and the pairs whose joints
are found within a tenth of the torso of each other although they are labelled more than three tenths apart.

The first lines are the tables of `sides.WEIGHTS`, made from the training pictures (so many of them): logarithms of how
often a distance is seen between labelled joints to how often between peaks drawn from each map by itself.
"""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lspet
import numpy as np
import torch
from result_files import write_both

from posecli.codecs import sides
from posecli.codecs.softmax import decode_softmax
from posecli.data import read_image
from posecli.formats import coco
from posecli.geometry import apply_affine
from posecli.inference import PoseModel
from posecli.readout import TOP_DOWN, size_for
from posecli.running import with_channel
from posecli.types import Crop, Dataset, Instance

PREPARE = Path(__file__).resolve().parent.parent / "examples/prepare_default_data.py"
#: Ends of the distances that are counted together, in shares of the input's longer side.
EDGES = np.array([0, 0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7])
_RARE = 0.002  # added to both shares, so that none is zero
_APART, _TOGETHER = 0.3, 0.1  # torsos


def labelled(data: Path, out: Path) -> tuple[Dataset, Dataset]:
    """Training and validation people with the boxes that the shipped network learnt from, in an order of chance."""
    subprocess.run([sys.executable, PREPARE, "--data", data, "--out", out], check=True, stdout=subprocess.DEVNULL)
    found = []
    for part in ("train", "val"):
        dataset = coco.read(out / f"lspet_{part}.json")
        kept = [r for r in dataset.records if r.instances and (r.instances[0].visibility > 0).sum() >= 5]
        kept.sort(key=lambda record: zlib.crc32(Path(record.file_name).name.encode()))
        found.append(replace(dataset, records=tuple(kept)))
    return found[0], found[1]


def looks(model: PoseModel, dataset: Dataset, count: int) -> Iterator[tuple[Instance, Crop, torch.Tensor]]:
    """Labelled people with the crops of their boxes and the logits (1, K, h, w) of these."""
    for record in dataset.records[:count]:
        person = record.instances[0]
        box = np.asarray(person.box_xyxy)
        crop = TOP_DOWN["softmax"].crop(box, replace(model.meta, input_size=size_for(box, model.meta)))
        pixels = model.crops([read_image(dataset.root, record)], [(0, crop)])
        shown = with_channel(pixels, np.zeros((1, *crop.size_wh[::-1]), np.uint8)) if model.last_pose else pixels
        yield person, crop, model.maps(shown).heatmap.float()


def tables(model: PoseModel, dataset: Dataset, count: int) -> dict[tuple[str, str], np.ndarray]:
    """`sides.WEIGHTS`, made anew."""
    limbs = sides.limb_joints(model.skeleton.keypoints)
    assert limbs is not None
    seen, drawn = {}, {}
    for person, crop, logits in looks(model, dataset, count):
        stride, longest = crop.size_wh[1] // logits.shape[2], max(crop.size_wh)
        true = apply_affine(crop.matrix, person.xy)
        there = dict(zip(dataset.skeleton.keypoints, person.visibility > 0, strict=True))
        at = dict(zip(dataset.skeleton.keypoints, true, strict=True))
        for names, limb in zip(sides.LIMBS, limbs, strict=True):
            places, mass = sides.peaks(logits[:, [joint for pair in limb for joint in pair]], 2)
            xy, mass = (places[0] * stride + (stride - 1) / 2).numpy(), mass[0].numpy()
            pairs = [((n, n), 2 * n, 2 * n + 1) for n in range(len(names))]
            pairs += [((n - 1, n), 2 * n - 2 + side, 2 * n + side) for n in range(1, len(names)) for side in (0, 1)]
            for (first, second), a, b in pairs:
                one, other = (f"{('left', 'right')[n % 2]}_{names[n // 2]}" for n in (a, b))
                if not (there.get(one) and there.get(other)):
                    continue
                kind = names[first], names[second]
                true_one = np.histogram(np.linalg.norm(at[one] - at[other]) / longest, EDGES)[0]
                weight = mass[a][:, None] * mass[b]
                distance = np.linalg.norm(xy[a][:, None] - xy[b], axis=2) / longest
                by_chance = np.histogram(distance, EDGES, weights=weight / weight.sum())[0]
                seen[kind] = seen.get(kind, 0) + true_one
                drawn[kind] = drawn.get(kind, 0) + by_chance
    return {
        kind: np.log((seen[kind] / seen[kind].sum() + _RARE) / (drawn[kind] / drawn[kind].sum() + _RARE))
        for kind in seen
    }


def counts(model: PoseModel, dataset: Dataset, count: int) -> np.ndarray:
    """(pictures, readings, 5): joints judged, right, right where sides may be exchanged; pairs labelled apart, of
    these found together. Readings: `softmax`, `sides`."""
    limbs = sides.limb_joints(model.skeleton.keypoints)
    assert limbs is not None
    names = dataset.skeleton.keypoints
    pairs = [(names.index(f"left_{joint}"), names.index(f"right_{joint}")) for limb in sides.LIMBS for joint in limb]
    torso = names.index("left_shoulder"), names.index("right_hip")
    rows = []
    for person, crop, logits in looks(model, dataset, count):
        if not (person.visibility[list(torso)] > 0).all():
            continue
        size = np.linalg.norm(person.xy[torso[0]] - person.xy[torso[1]])
        stride = crop.size_wh[1] // logits.shape[2]
        row = []
        for xy, _ in (decode_softmax(logits, stride), sides.decode_sides(logits, stride, limbs)):
            found = apply_affine(crop.inverse, xy[0].numpy())
            place = dict(zip(model.skeleton.keypoints, found, strict=True))
            sums = np.zeros(5)
            for pair in pairs:
                seen = person.visibility[list(pair)] > 0
                true, here = person.xy[list(pair)], np.array([place[names[n]] for n in pair])
                right = (np.linalg.norm(here - true, axis=1) <= 0.2 * size) & seen
                exchanged = (np.linalg.norm(here[::-1] - true, axis=1) <= 0.2 * size) & seen
                sums[:3] += seen.sum(), right.sum(), max(right.sum(), exchanged.sum())
                if seen.all() and np.linalg.norm(true[0] - true[1]) > _APART * size:
                    sums[3:] += 1, np.linalg.norm(here[0] - here[1]) < _TOGETHER * size
            row.append(sums)
        rows.append(row)
    return np.array(rows)


def shares(sums: np.ndarray) -> np.ndarray:
    """(..., readings, 3) PCK, PCK with sides exchanged, pairs found together, from sums of `counts`."""
    return np.stack([sums[..., 1] / sums[..., 0], sums[..., 2] / sums[..., 0], sums[..., 4] / sums[..., 3]], -1)


def main() -> None:
    parser = lspet.options(__doc__.splitlines()[0], weights="default", learnt=3000)
    arguments = parser.parse_args()
    lspet.set_threads(arguments.threads)
    train, val = labelled(arguments.data, arguments.out)
    model = lspet.ready(arguments.weights)
    learnt = tables(model, train, arguments.learnt) if arguments.learnt else {}
    lines = [f"{kind[0]} to {kind[1]}: " + ", ".join(f"{v:.2f}" for v in values) for kind, values in learnt.items()]
    rows = counts(model, val, arguments.limit or len(val.records))
    drawn = np.random.default_rng(0).integers(0, len(rows), (arguments.draws, len(rows)))
    value, spread = shares(rows.sum(0)), shares(rows[drawn].sum(1))
    page = [f"{len(rows)} pictures", "", "| | softmax | sides | difference (95 %) |", "|---|---|---|---|"]
    for n, what in enumerate(("PCK@0.2", "PCK@0.2, sides exchanged where that fits better", "pairs found together")):
        low, high = 100 * np.percentile(spread[:, 1, n] - spread[:, 0, n], [2.5, 97.5])
        one, other = 100 * value[:, n]
        page.append(f"| {what} | {one:.1f} | {other:.1f} | {other - one:+.1f} ({low:+.1f} to {high:+.1f}) |")
    result = {"weights": str(arguments.weights), "pictures": len(rows), "values": value.tolist(), "tables": lines}
    write_both(arguments.out, "sides", result, "\n".join([*lines, "", *page]) + "\n")
    print("\n".join([*lines, "", *page]))


if __name__ == "__main__":
    main()
