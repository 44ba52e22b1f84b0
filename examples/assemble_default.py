"""Puts pose network and finder into one file and chooses the threshold from which on a person is shown.

    python examples/assemble_default.py --pose runs/pose/best.safetensors --finder runs/finder/finder.safetensors \
        --data DATA --out posecli/weights/default.safetensors

Kernels are stored in eight bits, other tensors as bfloat16, with the ranges of the networks' maps, for int8. What a
person's score is worth (`posecli.pose_scores.Judgement`) is fitted to the stored file on the pictures that
`train_finder.py` kept for tuning: everyday scenes, pictures without anybody, and single athletes, who together count as
much as the everyday scenes. The threshold is chosen on the first two, the score from which on joints are drawn on all.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from train_finder import training_pools

from posecli.augment_pictures import Picture
from posecli.calibration import calibrate
from posecli.checkpoint import ModelMeta, lossless, read_parts, save_model
from posecli.errors import PoseError
from posecli.files import sha256_of
from posecli.geometry import box_iou
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.pose_scores import Judgement
from posecli.types import Instance

TRAINED_ON = (
    "LSPET (without the tenth kept for validation), COCO 2017 pictures (coco_mini train, coco_tiny, coco_more, "
    "people_boxes), Clothing Co-Parsing and Graz-01 (joints by MediaPipe Pose), a basketball recording, generated "
    "people (posecli scenes), pictures without people (ImageNet samples, BSDS500, Houses, COCO, CamVid, clothing)"
)
TERMS = "weights for research: several of the training pictures allow no other use; the code is MIT"
PARTS = ("lspet", "coco", "backgrounds")
RECORDED = ("PCK", "mean_OKS", "AP", "per_picture")
LARGEST = 10_000_000
#: Longer side of the people who count, over the picture's, at least; box IoU from which on somebody is found.
LEAST, SAME = 0.1, 0.5


#: How the finder looks at a picture: longer side of each look in pixels, and what `posecli.codecs.boxes` explains.
LOOKS: dict[str, Any] = {
    "sides": [352, 144, 112, 96], "trusted": [30.0, 120.0], "inside": 0.95, "overlap": 0.6, "floor": 0.05,
    "flip_test": "pictures",
}  # fmt: skip

#: What a candidate is: log of `Judgement`'s s, whether somebody is there, whether the picture shows nobody, weight.
Candidate = tuple[float, bool, bool, float]


def looking(finder: ModelMeta, looks: dict[str, Any]) -> ModelMeta:
    """A finder's description, with the ways in which it is to look at pictures: `LOOKS`."""
    side = looks["sides"][0]
    extra = {name: value for name, value in looks.items() if name != "sides"}
    return replace(finder, input_size=(side, side)).with_extra(
        scales=[s / side for s in looks["sides"]], stride=8, **extra
    )


class Seen(NamedTuple):
    """A picture, its longer side in pixels, the people found on it, and whom each of them meets (`met`)."""

    picture: Picture
    side: int
    people: Sequence[Instance]
    met: list[int | None]


def look_at(model: PoseModel, pictures: Sequence[Picture]) -> list[Seen]:
    """What a model sees on some pictures."""
    seen = []
    for picture in pictures:
        image = picture.read()
        people = model.predict([image])[0]
        seen.append(Seen(picture, max(image.shape[:2]), people, met(people, picture)))
    return seen


def met(people: Sequence[Instance], picture: Picture) -> list[int | None]:
    """The labelled person, by place, whom each found one meets: at a box IoU of 0.5, each once, by the first in
    order."""
    taken: dict[int, None] = {}
    places: list[int | None] = []
    for person in people:
        overlap = box_iou(person.box_xyxy, picture.boxes_xyxy)[0]
        free = [g for g in np.argsort(-overlap).tolist() if g not in taken and overlap[g] >= SAME]
        taken.update(dict.fromkeys(free[:1]))
        places.append(free[0] if free else None)
    return places


def matched(
    people: Sequence[Instance], picture: Picture, side: int, least: float = LEAST
) -> tuple[list[bool | None], int]:
    """Which of the people found on a picture are there, and how many there are to be found.

    Labelled people are found as `met` says. Those shorter than ``least`` of ``side``, the picture's longer one, count
    neither as missed nor as found (None), and neither does somebody found in a crowd, or away from the labels where not
    everybody is labelled.
    """
    boxes = picture.boxes_xyxy
    large = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) >= least * side
    there: list[bool | None] = []
    for person, place in zip(people, met(people, picture), strict=True):
        if place is not None:
            there.append(True if large[place] else None)
        else:
            unsure = not picture.complete or (box_iou(person.box_xyxy, picture.unknown) > 0.1).any()
            there.append(None if unsure else False)
    return there, int(large.sum())


def candidates(seen: Sequence[Seen], least: float = LEAST) -> tuple[list[Candidate], int]:
    """Everybody whom a model suggests on some pictures and who counts (`matched`), and how many people it should have
    suggested.

    The model's `Judgement` must be the plain one, or none, so that s can be read off the scores.
    """
    found: list[Candidate] = []
    wanted = 0
    for picture, side, people, _ in seen:
        empty = picture.complete and not len(picture.boxes_xyxy) and not len(picture.unknown)
        chance = np.clip(np.array([p.person_score for p in people], float), 1e-9, 1 - 1e-9)
        there, count = matched(people, picture, side, least)
        log_s = np.log(chance / (1 - chance)).tolist()
        found += [(s, hit, empty, 1.0) for s, hit in zip(log_s, there, strict=True) if hit is not None]
        wanted += count
    return found, wanted


def joint_claims(seen: Sequence[Seen], sigmas: Sequence[float], least: float = LEAST) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the labelled joints of people who are found, and whether each joint is right: its OKS is 0.5 or more.

    ``sigmas`` are the skeleton's; the area is 0.53 of the labelled box's. People shorter than ``least`` of the picture
    are left out.
    """
    scores, right = [np.zeros(0)], [np.zeros(0, bool)]
    for picture, side, people, places in seen:
        for person, place in zip(people, places, strict=True):
            if place is None:
                continue
            size = picture.boxes_xyxy[place, 2:] - picture.boxes_xyxy[place, :2]
            if size.max() < least * side:
                continue
            labelled = picture.visibility[place] > 0
            apart = ((person.xy - picture.xy[place])[labelled] ** 2).sum(1)
            allowed = 2 * 0.53 * size.prod() * (2 * np.array(sigmas)[labelled]) ** 2
            scores.append(person.score[labelled])
            right.append(np.exp(-apart / allowed) >= 0.5)
    return np.concatenate(scores), np.concatenate(right)


def joint_threshold(scores: np.ndarray, right: np.ndarray, lost: float) -> float:
    """The score from which on joints are drawn: as high as it may be, in steps of 0.05, to hide at most a share of
    ``lost`` of the right ones; 0 where none is known to be right."""
    if not right.any():
        return 0.0
    steps = np.arange(0, 20) / 20
    hidden = [(right & (scores < step)).sum() for step in steps]
    return float(steps[np.flatnonzero(np.array(hidden) <= lost * right.sum())[-1]])


def spread(pictures: Sequence[Picture], count: int) -> list[Picture]:
    """So many of the pictures, at equal distances."""
    return [pictures[i] for i in np.unique(np.linspace(0, len(pictures) - 1, count).astype(int))]


def fitted(found: list[Candidate], plain: Judgement) -> Judgement:
    """The judgement whose probabilities are likeliest (Platt's regression), over weighted candidates."""
    log_s, there, _, weight = (np.array(column, float) for column in zip(*found, strict=True))

    def loss(line: np.ndarray) -> tuple[float, np.ndarray]:
        value = line[0] * log_s + line[1]
        wrong = weight * (1 / (1 + np.exp(-value)) - there)
        total = float((weight * (np.logaddexp(0, value) - there * value)).sum())
        # A little weight on a usual line, for rehearsals with a handful of candidates.
        away = line - (4.0, 4.0)
        return total + 0.05 * float(away @ away), np.array([(wrong * log_s).sum(), wrong.sum()]) + 0.1 * away

    steepness, bias = minimize(loss, np.array([4.0, 4.0]), jac=True, bounds=[(0.5, 20), (-20, 20)]).x
    return replace(plain, steepness=round(float(steepness), 3), bias=round(float(bias), 3))


def best_threshold(
    found: list[Candidate], wanted: int, empty: int, most_false: float, judgement: Judgement, near: float = 0.005
) -> tuple[float, dict[str, float]]:
    """The probability from which on people are shown; recall, precision, F1 and false people an empty picture there.

    It is that with the best F1, the middle of those within ``near`` of it (0: the first that has it), or, where more
    than ``most_false`` people a picture would be shown on the ``empty`` pictures without anybody, the least that does
    not.
    """
    if not found or not wanted:
        raise SystemExit(
            f"no threshold can be chosen: {len(found)} people found on the tuning pictures, {wanted} labelled there; "
            "train the finder longer, or lower --floor to rehearse the recipe"
        )
    log_s, there, nobody, _ = (np.array(column) for column in zip(*sorted(found, reverse=True), strict=True))
    chance = 1 / (1 + np.exp(-(judgement.steepness * log_s + judgement.bias)))
    there, nobody = there.astype(bool), nobody.astype(bool)
    # Precision is that on pictures with people; the empty ones have a bound of their own.
    hits, shown = np.cumsum(there), np.maximum(np.cumsum(~nobody), 1)
    f1 = 2 * hits / (shown + wanted)
    # The middle of the plateau around the best: one picture more or less should not move it far.
    plateau = np.flatnonzero(f1 >= f1.max() - near)
    at = int(plateau[len(plateau) // 2 if near else 0])
    too_many = np.flatnonzero(np.cumsum(nobody) > most_false * empty)
    if len(too_many):
        at = min(at, int(too_many[0]) - 1)
    if at < 0:
        raise SystemExit("nobody scores above the false people on pictures without anybody; train the finder longer")
    # Between this score and the next, so that rounding changes nothing.
    threshold = float((chance[at] + chance[min(at + 1, len(chance) - 1)]) / 2)
    numbers = {
        "recall": hits[at] / wanted, "precision": hits[at] / shown[at], "f1": f1[at],
        "false": np.cumsum(nobody)[at] / max(empty, 1), "people": wanted, "empty": empty,
    }  # fmt: skip
    return threshold, {k: round(float(v), 4) for k, v in numbers.items()}


def record(path: Path, scores: dict[str, Any]) -> None:
    """Writes what was measured of a finished file into it, and what it learnt from; weights and threshold stay."""
    parts = read_parts(path)
    if (measured_file := scores["sha256"]) != sha256_of(path):
        raise SystemExit(f"these are scores of another file ({measured_file})")
    pose_state, pose = parts["main"]
    kept = {
        part: {name: round(value, 4) for name, value in scores[part].items() if name in RECORDED}
        for part in PARTS
        if part in scores
    }
    finder_state, finder = parts["finder"]
    dtype, eight_bits = lossless([*pose_state.values(), *finder_state.values()])
    pose = pose.with_extra(measured=kept, trained_on=TRAINED_ON, licence=TERMS)
    save_model(path, pose_state, pose, dtype=dtype, eight_bits=eight_bits, finder=(finder_state, finder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pose", type=Path)
    parser.add_argument("--finder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--box-scale", type=float, help="crop side over box side [default: as the pose network says]")
    parser.add_argument("--no-flip-test", action="store_true", help="do not ask for the flip test on pictures")
    parser.add_argument(
        "--sides", type=int, nargs="+", default=LOOKS["sides"], help="longer side of the finder's looks"
    )
    parser.add_argument(
        "--trusted", type=float, nargs=2, default=LOOKS["trusted"], help="sizes of people: see merge_scales"
    )
    parser.add_argument(
        "--inside", type=float, default=LOOKS["inside"], help="share of a box within a better one to drop it"
    )
    parser.add_argument("--reach", type=int, default=3, help="map pixels around the highest one that count")
    parser.add_argument("--floor", type=float, default=LOOKS["floor"], help="least score of the finder's centres")
    parser.add_argument(
        "--overlap", type=float, default=LOOKS["overlap"], help="IoU above which the weaker of two boxes is dropped"
    )
    parser.add_argument("--pictures", type=int, default=0, help="tuning pictures of each kind, 0: all [default]")
    parser.add_argument("--certainty", type=float, default=0.3, help="exponent of the finder's certainty: Judgement")
    parser.add_argument("--size", type=float, default=0.1, help="exponent of a person's size: Judgement")
    parser.add_argument(
        "--sure", type=float, default=0.9, help="quality from which on a pose counts as surely right: Judgement"
    )
    parser.add_argument(
        "--least", type=float, default=0.3, help="certainty from which on videos are looked at: Judgement"
    )
    parser.add_argument("--pose-nms", type=float, default=0.8, help="OKS above which the weaker pose is dropped")
    parser.add_argument("--seen", type=int, default=16, help="pictures of each kind that the ranges for int8 are from")
    parser.add_argument("--athletes", type=int, default=60, help="tuning pictures of single athletes")
    parser.add_argument("--most-false", type=float, default=0.04, help="people shown a picture without anybody")
    parser.add_argument("--lost", type=float, default=0.01, help="share of the right joints that may be left undrawn")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1")
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
    flip_test = False if args.no_flip_test else LOOKS["flip_test"]
    asked = {name: getattr(args, name) for name in LOOKS if name != "flip_test"}
    finder = looking(finder, {**asked, "flip_test": flip_test})
    pose = pose.with_extra(flip_test=flip_test, trained_on=TRAINED_ON, licence=TERMS)
    plain = Judgement(certainty=args.certainty, size=args.size)
    if pose.arguments.get("quality"):
        plain = replace(plain, by="quality", full=args.sure / (1 - args.sure), least=args.least)
    # Everybody is looked at closely while the scores are judged.
    pose = pose.with_extra(judgement=asdict(plain), threshold=0.0, pose_nms=args.pose_nms, reach=args.reach)
    if args.box_scale:
        pose = pose.with_extra(box_scale=args.box_scale)

    def save() -> None:
        finder_part = (finder_state, finder)
        save_model(args.out, pose_state, pose, dtype=torch.bfloat16, eight_bits=True, finder=finder_part)

    save()
    pools, backgrounds, tuning, quiet = training_pools(args.data)
    # What the networks' maps hold, for int8: on pictures that they learnt from.
    known = [
        p
        for group in (*(pool.pictures for pool in pools[:4]), backgrounds)
        for p in spread(group, min(args.seen, args.pictures or args.seen))
    ]
    model = load_model(args.out, "cpu")
    try:
        calibrate(model, (p.read() for p in known))
    except PoseError as error:
        raise SystemExit(
            f"no ranges for int8 on the {len(known)} pictures looked at: {error}; "
            "train the finder longer, or lower --floor to rehearse the recipe"
        ) from None
    assert model.finder is not None
    pose, finder = model.meta, model.finder.meta
    save()
    scenes, athletes = [p for p in tuning if p.complete], [p for p in tuning if not p.complete][: args.athletes]
    if args.pictures:
        scenes, quiet, athletes = (group[: args.pictures] for group in (scenes, quiet, athletes))
    empty = sum(not len(p.boxes_xyxy) and not len(p.unknown) for p in scenes) + len(quiet)
    model = load_model(args.out, args.device, options=PredictOptions(min_score=0.0))
    seen = look_at(model, [*scenes, *quiet, *athletes])
    around, alone = seen[: -len(athletes) or None], seen[len(scenes) + len(quiet) :]
    everyday, wanted = candidates(around)
    sport, _ = candidates(alone)
    share = sum(len(p.boxes_xyxy) > 0 for p in scenes) / max(len(athletes), 1)
    weighted = [*everyday, *((s, there, empty, share) for s, there, empty, _ in sport)]
    judgement = fitted(weighted, plain) if weighted else plain
    threshold, numbers = best_threshold(everyday, wanted, empty, args.most_false, judgement)
    joints = joint_threshold(*joint_claims(seen, pose.skeleton.sigmas), args.lost)
    pose = pose.with_extra(
        judgement=asdict(judgement), threshold=round(threshold, 3), joint_threshold=joints, tuning=numbers
    )
    save()
    size = args.out.stat().st_size
    told = {"threshold": round(threshold, 3), "joint_threshold": joints, **numbers}
    print(json.dumps({**told, "judgement": asdict(judgement), "bytes": size}))
    if size > LARGEST:
        raise SystemExit(f"{args.out} has {size} bytes, more than the {LARGEST} that may be shipped")


if __name__ == "__main__":
    main()
