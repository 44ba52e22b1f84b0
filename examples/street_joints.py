"""Joints of people who have a mask and no labelled joints, by MediaPipe Pose (full, Apache-2.0): a teacher's labels.

    MEDIAPIPE/bin/python -I examples/street_joints.py --data DATA --out runs/street.json

Runs in an environment of MediaPipe's own, as `athlete_masks.py` does, so nothing of posecli is imported. Looked at are
the people of `people_boxes` from Clothing Co-Parsing and Graz-01, their boxes grown by a quarter. A joint is kept where
MediaPipe is sure that it is seen (``SURE``) and it lies within the person's mask; a person where ``INSIDE`` of the
seen joints do and both shoulders, both hips and four more joints are kept. Faces of people from behind are left out.
OUT: COCO JSON, COCO-17 joints, masks as they are. For training only.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SURE, INSIDE, LEAST, GROWN = 0.7, 0.9, 8, 1.25
SOURCES = ("ccp", "graz01")
# Of MediaPipe's 33 landmarks, the COCO-17 joints in their order.
COCO_OF = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
NAMES = [
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
]  # fmt: skip
TRUNK = [5, 6, 11, 12]


def mask_of(segmentation: dict[str, Any]) -> np.ndarray:
    """(h, w) bool of an uncompressed COCO RLE."""
    counts = segmentation["counts"]
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return flat.reshape(segmentation["size"], order="F")


def kept_joints(joints: np.ndarray, mask: np.ndarray) -> np.ndarray | None:
    """Which of the joints (17, 3) x, y, visibility are good labels, (17,) bool; None: the person is none."""
    height, width = mask.shape
    torso = float(np.hypot(*(joints[5, :2] - joints[12, :2])))
    rim = max(1, round(0.08 * torso))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((2 * rim + 1, 2 * rim + 1), np.uint8)) > 0
    x, y = np.round(joints[:, :2]).astype(int).T
    there = (x >= 0) & (y >= 0) & (x < width) & (y < height)
    within = there & grown[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    seen = joints[:, 2] >= SURE
    kept = seen & within
    if joints[5, 0] < joints[6, 0]:  # from behind: MediaPipe marks a face where there is hair
        kept[:5] = False
    good = kept[TRUNK].all() and kept.sum() >= LEAST and within[seen].mean() >= INSIDE
    return kept if good else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    import mediapipe  # type: ignore[import-not-found,import-untyped,unused-ignore]

    folder = args.data / "people_boxes"
    labels = json.loads((folder / "annotations.json").read_text(encoding="utf-8"))
    pictures = {i["id"]: i for i in labels["images"] if i["source"] in SOURCES}
    people = [a for a in labels["annotations"] if a["image_id"] in pictures and not a["iscrowd"]]
    learnt = []
    with mediapipe.solutions.pose.Pose(
        static_image_mode=True, model_complexity=1, min_detection_confidence=0.1
    ) as pose:
        for person in people:
            file = folder / "images" / Path(pictures[person["image_id"]]["file_name"]).name
            image = cv2.imread(str(file), cv2.IMREAD_COLOR)
            left, top, wide, high = person["bbox"]
            grow = (GROWN - 1) / 2
            x0, y0 = max(0, int(left - grow * wide)), max(0, int(top - grow * high))
            x1, y1 = int(left + wide * (1 + grow)) + 1, int(top + high * (1 + grow)) + 1
            crop = np.ascontiguousarray(image[y0:y1, x0:x1, ::-1])
            found = pose.process(crop).pose_landmarks
            if found is None:
                continue
            landmarks = [found.landmark[n] for n in COCO_OF]
            size = crop.shape[1], crop.shape[0]
            joints = np.array([[p.x * size[0] - 0.5 + x0, p.y * size[1] - 0.5 + y0, p.visibility] for p in landmarks])
            kept = kept_joints(joints, mask_of(person["segmentation"]))
            if kept is None:
                continue
            labels_of = np.where(kept[:, None], np.c_[joints[:, :2].round(1), np.full(len(joints), 2)], 0)
            learnt.append({**person, "keypoints": labels_of.ravel().tolist(), "num_keypoints": int(kept.sum())})
    used = {a["image_id"] for a in learnt}
    result = {
        "info": {"description": "joints by MediaPipe Pose (full), for training only"},
        "images": [i for i in labels["images"] if i["id"] in used],
        "annotations": learnt,
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": []}],
    }
    for image in result["images"]:
        image["file_name"] = str((folder / "images" / Path(image["file_name"]).name).resolve())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    part = args.out.with_name(args.out.name + ".part")
    part.write_text(json.dumps(result), encoding="utf-8")
    os.replace(part, args.out)
    print(f"{args.out}: joints of {len(learnt)} of {len(people)} people")


if __name__ == "__main__":
    main()
