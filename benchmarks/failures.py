"""Draws where the shipped model fails: pictures of `coco_mini` val that may be shown, worst people first.

    python benchmarks/failures.py --data DATA --stream runs/scores/coco.jsonl --out docs/failures.jpg

The stream is the one that `default_model.py` leaves. Only pictures under an Attribution or Attribution-ShareAlike
licence are drawn. A tile shows one case, on the left as labelled, on the right everybody whom the model shows there
(from its threshold on) and, thin, the nearest one below it:

- a labelled person with five joints or more whose nearest pose has an OKS below 0.5: "missed" where none above the
  threshold has an IoU of 0.3 with the label's box, else "joints";
- "nobody there": a person shown where no label has an IoU of 0.1.

Prints one line of Markdown for each tile: what it is, the figures, the credit.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from posecli.drawing import Style, draw_instances
from posecli.formats import coco
from posecli.geometry import box_iou
from posecli.metrics.oks import oks_matrix
from posecli.predictions import read_stream
from posecli.skeletons import match_joints
from posecli.types import Instance, Record, Skeleton
from posecli.video import read_picture

ALLOWED = {"Attribution License": "CC BY 2.0", "Attribution-ShareAlike License": "CC BY-SA 2.0"}
WANTED = 0.5
SIDE = 220
PER_ROW = 3


@dataclass(frozen=True)
class Case:
    """One failure: how bad (0 worst), what, the person meant, whom the model shows there, and the nearest one below."""

    badness: float
    what: str
    record: Record
    meant: Instance
    shown: tuple[Instance, ...]
    below: Instance | None


def cases_of(
    record: Record, people: tuple[Instance, ...], threshold: float, names: tuple[Skeleton, Skeleton]
) -> list[Case]:
    """The failures on one picture; ``names``: skeletons of the labels and of the stream."""
    labelled, found = names
    joints = match_joints(found.keypoints, labelled.keypoints)
    known = joints >= 0
    shown = tuple(p for p in people if p.person_score >= threshold)
    shown_boxes = np.array([p.box_xyxy for p in shown], float).reshape(-1, 4)
    cases = []
    for person in record.instances:
        if person.ignore or person.box_xyxy is None or (person.visibility > 0).sum() < 5:
            continue
        xy = np.array([p.xy[joints[known]] for p in people]).reshape(-1, int(known.sum()), 2)
        sigmas = np.array(labelled.sigmas)[known]
        truth = np.nan_to_num(person.xy[known])[None]
        oks = oks_matrix(truth, person.visibility[known][None], np.array([person.area]), xy, sigmas)[0]
        if oks.max(initial=0) >= WANTED:
            continue
        best = int(np.argmax(oks)) if people else None
        near = box_iou(np.asarray(person.box_xyxy), shown_boxes)[0].max(initial=0) >= 0.3
        below = people[best] if best is not None and people[best].person_score < threshold else None
        cases.append(Case(float(oks.max(initial=0)), "joints" if near else "missed", record, person, shown, below))
    everybody = np.array([p.box_xyxy for p in record.instances if p.box_xyxy is not None], float).reshape(-1, 4)
    for person, box in zip(shown, shown_boxes, strict=True):
        if box_iou(box, everybody).max(initial=0) < 0.1:
            cases.append(Case(1 - person.person_score, "nobody there", record, person, (person,), None))
    return cases


def tile(case: Case, image: np.ndarray, names: tuple[Skeleton, Skeleton]) -> np.ndarray:
    """(SIDE, 2 x SIDE, 3) uint8: the person meant as labelled, and what the model shows."""
    labelled, found = names
    x0, y0, x1, y1 = np.asarray(case.meant.box_xyxy, float)
    size = np.array(image.shape[1::-1])
    half = min(max(x1 - x0, y1 - y0, 60) * 0.75, size.min() / 2)
    # The view stays within the picture.
    centre = np.clip([(x0 + x1) / 2, (y0 + y1) / 2], half, size - half)
    zoom = SIDE / (2 * half)
    matrix = np.array([[zoom, 0, SIDE / 2 - zoom * centre[0]], [0, zoom, SIDE / 2 - zoom * centre[1]]])
    how = cv2.INTER_AREA if zoom < 1 else cv2.INTER_CUBIC
    view = cv2.warpAffine(image, matrix, (SIDE, SIDE), flags=how, borderValue=(255, 255, 255))

    def moved(person: Instance) -> Instance:
        box = None if person.box_xyxy is None else np.asarray(person.box_xyxy) * zoom + np.tile(matrix[:, 2], 2)
        xy = np.asarray(person.xy) * zoom + matrix[:, 2]
        return Instance(xy, person.visibility, person.score, person.person_score, box)

    style = Style(threshold=0.0, joint_threshold=0.1)
    if case.what == "nobody there":
        left = view
    else:
        left = draw_instances(view, [moved(case.meant)], labelled, style)
    right = view
    if case.below is not None:
        faint = draw_instances(view, [moved(case.below)], found, style)
        right = cv2.addWeighted(view, 0.55, faint, 0.45, 0)
    right = draw_instances(right, [moved(p) for p in case.shown], found, style)
    return np.hstack([left, right])


def main() -> None:
    """Draws the sheet and prints its legend."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--most", type=int, default=8, help="tiles")
    args = parser.parse_args()
    labels = args.data / "coco_mini/annotations/person_keypoints_val2017.json"
    root = args.data / "coco_mini/val2017"
    terms = {entry["id"]: entry["name"] for entry in json.loads(labels.read_text())["licenses"]}
    dataset = coco.read(labels, image_root=root)
    stream = list(read_stream(args.stream))
    header = stream[0][0]
    threshold = header.threshold or 0.0
    found = {Path(str(frame.file)).name: frame.instances for _, frame in stream}
    names = (dataset.skeleton, header.skeleton)
    cases = []
    for record in dataset.records:
        if terms[record.extra["license"]] in ALLOWED:
            cases += cases_of(record, found[record.file_name], threshold, names)
    cases.sort(key=lambda case: case.badness)
    tiles = []
    for number, case in enumerate(cases[: args.most], 1):
        drawn = tile(case, read_picture(root / case.record.file_name), names)
        cv2.putText(drawn, str(number), (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(drawn, str(number), (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (255, 255, 255), 1, cv2.LINE_AA)
        tiles.append(np.pad(drawn, ((2, 2), (2, 2), (0, 0)), constant_values=255))
        flickr = Path(case.record.extra["flickr_url"]).name.split("_")[0]
        figures = (
            f"shown with {case.meant.person_score:.2f}" if case.what == "nobody there" else f"OKS {case.badness:.2f}"
        )
        licence = ALLOWED[terms[case.record.extra["license"]]]
        print(
            f"{number}. {case.what}, {figures} (COCO val2017 {int(case.record.image_id)}, Flickr {flickr}, {licence})"
        )
    if not tiles:
        raise SystemExit("no failures on the pictures that may be shown: nothing to draw")
    row = min(PER_ROW, len(tiles))
    while len(tiles) % row:
        tiles.append(np.full_like(tiles[0], 255))
    sheet = np.vstack([np.hstack(tiles[i : i + row]) for i in range(0, len(tiles), row)])
    cv2.imwrite(str(args.out), sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])
    print(f"{len(cases)} failures on the pictures that may be shown, {min(len(cases), args.most)} drawn")


if __name__ == "__main__":
    main()
