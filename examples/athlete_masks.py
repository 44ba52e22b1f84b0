"""Masks of LSPET's athletes, by MediaPipe Pose (full, Apache-2.0): who is cut out by one looks real on other grounds.

    MEDIAPIPE/bin/python -I examples/athlete_masks.py --data DATA --out runs/masks.json

Runs in an environment of MediaPipe's own (Python 3.11, ``pip install mediapipe==0.10.21``; `benchmarks/mediapipe.py`
makes one), so nothing of posecli is imported. Its segmentation counts as the labelled person's where at least
``INSIDE`` of the labelled joints lie in it and at least ``ALONG`` of its area is near the limbs between them (4,263 of
9,031 people). OUT: ``{"im00001.jpg": {"size": [h, w], "counts": [...]}, ...}``, uncompressed COCO RLE
(column-major, beginning with zeros). Pictures of the validation tenth are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import zlib
from pathlib import Path

import cv2
import numpy as np

INSIDE, ALONG = 0.9, 0.8
# LSP-14: limbs as pairs of joints, 12 neck, 13 head top.
LIMBS = [(0, 1), (1, 2), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (2, 3), (8, 9), (12, 13), (8, 12), (9, 12)]
TRUNK = [2, 3, 9, 8]


def rle(mask: np.ndarray) -> dict[str, list[int]]:
    """Uncompressed COCO RLE of a (h, w) bool mask."""
    flat = mask.flatten(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(np.concatenate([[0], flat]))).tolist()
    return {"size": list(mask.shape), "counts": np.diff([0, *changes, flat.size]).tolist()}


def fits(mask: np.ndarray, joints: np.ndarray) -> bool:
    """Whether a (h, w) bool mask is that of the person with ``joints`` (14, 3) x, y, labelled."""
    height, width = mask.shape
    known = joints[:, 2] > 0
    if not mask.any() or not known[TRUNK].all():
        return False
    points = np.round(joints[:, :2]).astype(int)
    torso = max(4.0, float(np.hypot(*(joints[9, :2] - joints[2, :2]))))
    # A joint at the rim of a limb is in it, too.
    rim = max(1, round(0.08 * torso))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8))
    inside = [
        bool(grown[min(max(y, 0), height - 1), min(max(x, 0), width - 1)])
        for n, (x, y) in enumerate(points) if known[n] and n != 13
    ]  # fmt: skip
    body = np.zeros(mask.shape, np.uint8)
    for a, b in LIMBS:
        if known[a] and known[b]:
            cv2.line(body, points[a].tolist(), points[b].tolist(), 1, max(3, round(0.55 * torso)))
    cv2.fillConvexPoly(body, cv2.convexHull(points[TRUNK].astype(np.int32)), 1)
    for end in (0, 5, 6, 11, 13):  # feet, hands and heads reach beyond their joint
        if known[end]:
            cv2.circle(body, points[end].tolist(), round(0.45 * torso), 1, -1)
    return float(np.mean(inside)) >= INSIDE and float(body[mask].mean()) >= ALONG


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--limit", type=int, help="the first so many people only")
    args = parser.parse_args()
    import mediapipe  # type: ignore[import-not-found,import-untyped,unused-ignore]

    folder = args.data / "lspet"
    labels = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    name = {image["id"]: image["file_name"] for image in labels["images"]}
    people = [a for a in labels["annotations"] if zlib.crc32(name[a["image_id"]].encode()) % 10][: args.limit]
    masks = {}
    with mediapipe.solutions.pose.Pose(
        static_image_mode=True, model_complexity=1, min_detection_confidence=0.1, enable_segmentation=True
    ) as pose:
        for n, person in enumerate(people):
            file = name[person["image_id"]]
            image = cv2.imread(str(folder / "images" / Path(file).name), cv2.IMREAD_COLOR)
            found = pose.process(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).segmentation_mask
            if found is not None and fits(found > 0.5, np.array(person["keypoints"], float).reshape(-1, 3)):
                masks[Path(file).name] = rle(found > 0.5)
            if n % 1000 == 999:
                print(f"{n + 1} people, {len(masks)} masks", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(args.out.name + ".part")
    part.write_text(json.dumps(masks), encoding="utf-8")
    os.replace(part, args.out)
    print(f"{args.out}: masks of {len(masks)} of {len(people)} people")


if __name__ == "__main__":
    main()
