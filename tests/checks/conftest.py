"""A small clean data set with its pictures, to be spoilt in one way at a time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from posecli.formats.coco import category_json
from posecli.skeletons import COCO17

WIDTH, HEIGHT = 220, 180
# COCO-17 of a person seen from the front, 100 pixels tall, standing at (0, 0).
STANDING = np.array(
    [
        (0, 10), (4, 7), (-4, 7), (8, 8), (-8, 8), (14, 24), (-14, 24), (20, 42), (-20, 42), (22, 58), (-22, 58),
        (9, 56), (-9, 56), (10, 78), (-10, 78), (11, 100), (-11, 100),
    ],
    np.float64,
)  # fmt: skip


def person(number: int, image: int, x: float = 100, y: float = 40, **changes: Any) -> dict[str, Any]:
    """An annotation of somebody standing there, all joints visible, in a box a little wider than the joints."""
    xy = STANDING + (x, y)
    low, high = xy.min(axis=0) - 4, xy.max(axis=0) + 4
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": np.column_stack([xy, np.full(17, 2)]).reshape(-1).tolist(),
        "num_keypoints": 17,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": 3000.0,
        "iscrowd": 0,
        **changes,
    }


def picture(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Soft blobs that differ with the seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


@pytest.fixture
def clean() -> dict[str, Any]:
    """Five frames of a video with one track, and two pictures with two people each."""
    images: list[dict[str, Any]] = [
        {"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(1, 8)
    ]
    people = [person(n, n, x=80 + 3 * n, track_id=1) for n in range(1, 6)]
    for n in range(1, 6):
        images[n - 1] |= {"video_id": 1, "frame_id": n - 1}
    people += [person(10, 6, x=60), person(11, 6, x=150), person(12, 7, x=70), person(13, 7, x=160, y=50)]
    return {
        "videos": [{"id": 1, "name": "walk", "file_name": "walk", "width": WIDTH, "height": HEIGHT, "fps": 25}],
        "images": images,
        "annotations": people,
        "categories": [category_json(COCO17)],
    }


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """``save(value, "a.json")`` writes it beside pictures of the names it lists (those that are not there yet)."""

    def write(value: dict[str, Any], name: str = "set.json", seed: int = 0) -> Path:
        for n, image in enumerate(value["images"]):
            path = tmp_path / str(image["file_name"])
            if not path.exists() and path.suffix == ".jpg":
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(path, 1000 * seed + n)
        path = tmp_path / name
        path.write_text(json.dumps(value))
        return path

    return write
