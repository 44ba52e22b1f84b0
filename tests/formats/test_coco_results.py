"""COCO results as poses and as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.formats import detect, read_dataset
from posecli.formats.coco_results import read_poses
from posecli.skeletons import COCO17

FLAT = [v for k in range(17) for v in (10.0 + k, 20.5, 0.25 if k == 2 else 0.875)]


def result(image_id: Any = 42, **more: Any) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": 1, "keypoints": FLAT, "score": 0.75, **more}


def save(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_as_labels(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    make_picture(tmp_path / "images" / "000000000042.jpg", (64, 48))
    make_picture(tmp_path / "images" / "7.png", (32, 24))
    missing = [0, 0, 0] + FLAT[3:]
    entries = [result(), result(7), result(42, keypoints=missing, bbox=[1, 2, 3, 4], track_id=5, area=9)]
    path = save(tmp_path / "results.json", entries)
    assert detect(path) == ("coco_results", "a list of detections with image_id (numbers) and keypoints")
    dataset = read_dataset(path, skeleton="coco17", image_root=tmp_path / "images")
    assert [(r.image_id, r.file_name, r.width) for r in dataset.records] == [
        (42, "000000000042.jpg", 64),
        (7, "7.png", 32),
    ]
    first, second = dataset.records[0].instances
    assert first.visibility.tolist() == [2, 2, 1] + [2] * 14 and first.person_score == 0.75
    assert second.visibility[0] == 0 and second.track_id == 5 and second.area == 9
    assert second.box_xyxy is not None and second.box_xyxy.tolist() == [1, 2, 4, 6]


def test_what_export_writes_comes_back(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    from posecli.exports import export_stream
    from posecli.predictions import FramePoses, StreamHeader
    from posecli.types import Instance

    make_picture(tmp_path / "3.jpg", (64, 48))
    rng = np.random.default_rng(2)
    visibility = np.array([2] * 12 + [0] * 5)
    xy = np.where(visibility[:, None] > 0, rng.uniform(0, 60, (17, 2)).round(2), np.nan).astype(np.float32)
    person = Instance(xy, visibility, np.where(visibility, 0.5, 0).astype(np.float32), 0.5, track_id=9)
    frames = [(StreamHeader("x", COCO17), FramePoses(0, (person,), None, 3, "3.jpg", 64, 48))]
    export_stream(frames, tmp_path / "r.json", "coco-results")
    ((_, poses),) = read_poses(tmp_path / "r.json", COCO17, tmp_path)
    again = poses.instances[0]
    np.testing.assert_allclose(again.xy, xy, atol=1e-6)
    assert again.visibility.tolist() == visibility.tolist() and (again.track_id, again.person_score) == (9, 0.5)
    assert (poses.image_id, poses.file, poses.width) == (3, "3.jpg", 64)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (result(keypoints=FLAT[:-1]), "16 joints a person, but skeleton 'coco17' has 17"),
        (result(keypoints=[None, *FLAT[1:]]), "not a finite number"),
        (result(score="high"), "score is 'high'"),
        (result(image_id=1.5), "image_id is 1.5"),
        (result(bbox=[1, 2, -3, 4]), "negative size"),
        (result(image_id=1), "0 pictures in"),
    ],
)
def test_errors_name_file_and_entry(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "results.json", [entry])
    with pytest.raises(PoseError) as error:
        read_dataset(path, "coco_results", skeleton="coco17")
    assert message in str(error.value) and "results.json" in str(error.value)


def test_joints_are_never_guessed_from_their_number(tmp_path: Path) -> None:
    path = save(tmp_path / "results.json", [result()])
    with pytest.raises(PoseError, match=r"17 a person.*--skeleton"):
        read_dataset(path)
    with pytest.raises(PoseError, match="skeleton 'mpii16' has 16"):
        read_dataset(path, skeleton="mpii16")
