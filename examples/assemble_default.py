"""Puts pose network and finder into one file and chooses the threshold from which on a person is shown.

    python examples/assemble_default.py --pose runs/pose/best.safetensors --finder runs/finder/finder.safetensors \
        --data DATA --out posecli/weights/default.safetensors

The tensors are stored as bfloat16; the threshold is that of the stored file, the one with the best F1 on the pictures
that `train_finder.py` kept for tuning (people found at a box IoU of 0.5, backgrounds included).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train_finder import training_pools

from posecli.augment_pictures import Picture
from posecli.checkpoint import read_parts, save_model
from posecli.files import sha256_of
from posecli.geometry import box_iou
from posecli.inference import PoseModel, PredictOptions, load_model

TRAINED_ON = (
    "LSPET (without the tenth kept for validation), COCO 2017 pictures (coco_mini train, coco_tiny, coco_more, "
    "people_boxes), Clothing Co-Parsing, Graz-01, a basketball recording, pictures without people (ImageNet samples, "
    "BSDS500, Houses, COCO, CamVid, clothing)"
)
TERMS = "weights for research: several of the training pictures allow no other use; the code is MIT"
PARTS = ("lspet", "coco", "backgrounds")
RECORDED = ("PCK", "mean_OKS", "AP", "per_picture")
LARGEST = 10_000_000


def best_threshold(
    model: PoseModel, people: list[Picture], quiet: list[Picture], most_false: float
) -> tuple[float, dict[str, float]]:
    """The person score with the best F1, and recall, precision, F1 and false people a quiet picture there.

    Where that shows more than ``most_false`` people a picture on the pictures without anybody, the least score that
    does not is taken instead.
    People shorter than a tenth of the picture's longer side count neither as missed nor as found.
    """
    scored: list[tuple[float, bool]] = []
    wanted = 0
    false: list[float] = []
    for picture, empty in [(p, False) for p in people if p.complete] + [(p, True) for p in quiet]:
        image = picture.read()
        boxes = picture.boxes_xyxy
        large = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) >= 0.1 * max(image.shape[:2])
        wanted += int(large.sum())
        taken: set[int] = set()
        found = model.predict([image])[0]
        false += [person.person_score for person in found] if empty else []
        for person in found:
            overlap = box_iou(person.box_xyxy, boxes)[0]
            free = [g for g in np.argsort(-overlap) if g not in taken and overlap[g] >= 0.5]
            if free:
                taken.add(int(free[0]))
                if large[free[0]]:
                    scored.append((person.person_score, True))
            elif not (box_iou(person.box_xyxy, picture.unknown) > 0.1).any():
                scored.append((person.person_score, False))
    if not scored or not wanted:
        raise SystemExit(
            f"no threshold can be chosen: {len(scored)} people found on the tuning pictures, {wanted} labelled there; "
            "train the finder longer (FINDER_MINUTES), or lower --floor to rehearse the recipe"
        )
    scored.sort(reverse=True)
    hits, shown = np.cumsum([hit for _, hit in scored]), np.arange(1, len(scored) + 1)
    f1 = 2 * hits / (shown + wanted)
    # The middle of the plateau around the best: one picture more or less should not move it far.
    near = np.flatnonzero(f1 >= f1.max() - 0.005)
    at = int(near[len(near) // 2])
    allowed = int(most_false * len(quiet))
    if len(false) > allowed:
        scores = [score for score, _ in scored]
        at = min(at, sum(score > sorted(false, reverse=True)[allowed] for score in scores) - 1)
    if at < 0:
        raise SystemExit("nobody scores above the false people on pictures without anybody; train the finder longer")
    quietly = sum(score >= scored[at][0] for score in false) / max(len(quiet), 1)
    numbers = {"recall": hits[at] / wanted, "precision": hits[at] / shown[at], "f1": f1[at], "false": quietly}
    return scored[at][0], {k: round(float(v), 4) for k, v in numbers.items()}


def record(path: Path, scores: dict[str, Any]) -> None:
    """Writes what was measured of a finished file into it; weights and threshold stay as they are."""
    parts = read_parts(path)
    if (measured_file := scores["sha256"]) != sha256_of(path):
        raise SystemExit(f"these are scores of another file ({measured_file})")
    pose_state, pose = parts["main"]
    kept = {
        part: {name: round(value, 4) for name, value in scores[part].items() if name in RECORDED}
        for part in PARTS
        if part in scores
    }
    save_model(path, pose_state, pose.with_extra(measured=kept), dtype=torch.bfloat16, finder=parts["finder"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pose", type=Path)
    parser.add_argument("--finder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--box-scale", type=float, help="crop side over box side [default: as the pose network says]")
    parser.add_argument("--no-flip-test", action="store_true", help="do not ask for the flip test on pictures")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=[288, 112, 96], help="longer side of the finder's looks"
    )
    parser.add_argument("--trusted", type=float, nargs=2, default=[30, 80], help="sizes of people: see merge_scales")
    parser.add_argument("--inside", type=float, default=0.85, help="share of a box within a better one to drop it")
    parser.add_argument("--floor", type=float, default=0.05, help="least score of the finder's centres")
    parser.add_argument("--overlap", type=float, default=0.6, help="IoU above which the weaker of two boxes is dropped")
    parser.add_argument("--pictures", type=int, default=0, help="tuning pictures of each kind, 0: all [default]")
    parser.add_argument(
        "--size-power", type=float, default=0.2, help="how much a person's size counts: looks.sized_score"
    )
    parser.add_argument("--most-false", type=float, default=0.08, help="people shown a picture without anybody")
    parser.add_argument(
        "--measured", type=Path, help="scores.json of benchmarks/default_model.py, put on record in the finished --out"
    )
    args = parser.parse_args()
    if args.measured:
        record(args.out, json.loads(args.measured.read_text()))
        return
    if not (args.pose and args.finder and args.data):
        parser.error("--pose, --finder and --data are needed to make a file")

    pose_state, pose = read_parts(args.pose)["main"]
    finder_state, finder = read_parts(args.finder)["main"]
    side = args.sides[0]
    finder = replace(finder, input_size=(side, side)).with_extra(
        scales=[s / side for s in args.sides], trusted=args.trusted, inside=args.inside, floor=args.floor,
        overlap=args.overlap, stride=8,
    )  # fmt: skip
    pose = pose.with_extra(flip_test=False if args.no_flip_test else "pictures", trained_on=TRAINED_ON, licence=TERMS)
    pose = pose.with_extra(size_power=args.size_power)
    if args.box_scale:
        pose = pose.with_extra(box_scale=args.box_scale)

    def save() -> None:
        save_model(args.out, pose_state, pose, dtype=torch.bfloat16, finder=(finder_state, finder))

    save()
    _, _, people, quiet = training_pools(args.data)
    people = [p for p in people if p.complete]
    if args.pictures:
        people, quiet = people[: args.pictures], quiet[: args.pictures]
    model = load_model(args.out, "cpu", options=PredictOptions(min_score=min(0.01, args.floor)))
    threshold, numbers = best_threshold(model, people, quiet, args.most_false)
    pose = pose.with_extra(threshold=round(threshold, 3), tuning=numbers)
    save()
    size = args.out.stat().st_size
    print(json.dumps({"threshold": round(threshold, 3), **numbers, "bytes": size}))
    if size > LARGEST:
        raise SystemExit(f"{args.out} has {size} bytes, more than the {LARGEST} that may be shipped")


if __name__ == "__main__":
    main()
