"""Labels and poses for them, as two files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import SKELETONS
from posecli.types import Instance

SKELETON = SKELETONS["coco17"]


def write_pair(labels: Path, poses: Path, seed: int) -> None:
    """Four pictures of one person each, and poses some pixels beside."""
    noise = np.random.default_rng(seed)
    images, annotations = [], []
    labels.parent.mkdir(parents=True, exist_ok=True)
    poses.parent.mkdir(parents=True, exist_ok=True)
    with StreamWriter(poses) as writer:
        writer.header(StreamHeader("data", SKELETON))
        for i in range(4):
            xy = noise.uniform(20, 100, (17, 2)).round(2)
            joints = np.hstack([xy, np.full((17, 1), 2)]).ravel().tolist()
            images.append({"id": i, "file_name": f"{i}.jpg", "width": 160, "height": 120})
            annotations.append(
                {"id": i + 1, "image_id": i, "category_id": 1, "keypoints": joints, "num_keypoints": 17}
                | {"bbox": [20.0, 20.0, 80.0, 80.0], "area": 3000.0, "iscrowd": 0}
            )
            moved = (xy + noise.normal(0, 3, (17, 2))).astype(np.float32)
            person = Instance(moved, np.full(17, 2), np.ones(17), 0.9)
            writer.frame(FramePoses(i, (person,), image_id=i, file=f"{i}.jpg", width=160, height=120))
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints), "skeleton": []}
    labels.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
