"""Random label and result files for the metric tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posecli.skeletons import get_skeleton


def make_random_coco(
    seed: int, *, images: int, people: int, detections: int, skeleton: str = "coco17", decimals: int = 2
) -> tuple[dict, list[dict]]:
    """A label file and a results list with crowds, people without joints, all sizes, tied scores, exact hits."""
    random = np.random.default_rng(seed)
    names = get_skeleton(skeleton).keypoints
    count = len(names)
    ids = (np.arange(images) * 3 + 1).tolist()
    annotations, results = [], []
    for number in range(people):
        w, h = random.uniform(15, 300, 2)
        x, y = random.uniform(0, 300, 2)
        v = random.choice([0, 1, 2], count, p=[0.3, 0.2, 0.5]) if random.random() < 0.8 else np.zeros(count, int)
        xy = np.stack([x + random.random(count) * w, y + random.random(count) * h], axis=1).round(2)
        xy[v == 0] = 0
        annotations.append(
            {
                "id": number + 1,
                "image_id": ids[random.integers(images // 2 + 1)],
                "category_id": 1,
                "iscrowd": int(random.random() < 0.08),
                "bbox": [float(b) for b in (x, y, w, h)],
                "area": float(w * h * random.uniform(0.3, 0.8)),
                "num_keypoints": int((v > 0).sum()),
                "keypoints": [float(k) for k in np.hstack([xy, v[:, None]]).ravel()],
            }
        )
    for _ in range(detections):
        chosen = annotations[random.integers(people)]
        xy = np.array(chosen["keypoints"]).reshape(-1, 3)[:, :2]
        if random.random() > 0.1:
            xy = xy + random.normal(size=(count, 2)) * np.sqrt(chosen["area"]) * 10 ** random.uniform(-3, 0.2)
        results.append(
            {
                "image_id": chosen["image_id"] if random.random() < 0.85 else ids[random.integers(images)],
                "category_id": 1,
                "keypoints": [float(k) for k in np.hstack([xy.round(2), np.ones((count, 1))]).ravel()],
                "score": round(float(random.random()), decimals),
            }
        )
    pictures = [{"id": i, "file_name": f"{i:06d}.jpg", "width": 640, "height": 480} for i in ids]
    category = {"id": 1, "name": "person", "keypoints": list(names), "skeleton": []}
    return {"images": pictures, "annotations": annotations, "categories": [category]}, results


@pytest.fixture
def write_json(tmp_path: Path) -> Callable[..., Path]:
    """``write_json("name.json", value)`` -> its path in a fresh folder."""

    def write(name: str, value: object) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(value))
        return path

    return write


@pytest.fixture
def random_coco() -> Callable[..., tuple[dict, list[dict]]]:
    """`make_random_coco`."""
    return make_random_coco
