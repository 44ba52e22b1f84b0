"""AI Challenger: the release's code and COCO's, never one for the other."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset
from posecli.skeletons import AIC14

FLAT = [n for j in range(14) for n in (10 + j, 20 + j, 1 + j % 3)]
for _j in range(2, 14, 3):
    FLAT[3 * _j : 3 * _j + 2] = [0, 0]
RELEASE: list[dict[str, Any]] = [
    {
        "image_id": "ab12",
        "url": "http://example.org/a.jpg",
        "keypoint_annotations": {"human1": FLAT, "human2": [7, 8, 1] * 14},
        "human_annotations": {"human1": [5, 10, 45, 50], "human2": [0, 0, 10, 20]},
    },
    {"image_id": "cd34", "url": "", "keypoint_annotations": {}, "human_annotations": {}},
]


def release(tmp_path: Path, make_picture: Any, value: Any = RELEASE) -> Path:
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "keypoint_train_annotations_20170909.json").write_text(json.dumps(value))
    for name in ("ab12", "cd34"):
        make_picture(tmp_path / f"keypoint_train_images_20170902/{name}.jpg", (60, 50))
    return tmp_path


def test_the_releases_code(tmp_path: Path, make_picture: Any) -> None:
    root = release(tmp_path, make_picture)
    name, reason = detect(root)
    assert name == "aic" and "the release, v 1 visible, 2 hidden, 3 absent" in reason
    dataset = read_dataset(root)
    assert dataset.skeleton is AIC14 and [len(r.instances) for r in dataset.records] == [2, 0]
    person = dataset.records[0].instances[0]
    assert person.visibility.tolist() == [(2, 1, 0)[j % 3] for j in range(14)]  # 1, 2, 3 in the file
    assert person.xy[0].tolist() == [10, 20] and np.isnan(person.xy[2]).all()
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [5, 10, 45, 50]
    assert person.area == pytest.approx(0.53 * 40 * 40) and person.extra == {"human": "human1"}
    assert dataset.records[0].file_name == "ab12.jpg" and dataset.records[0].width == 60
    assert coco.absent_files(dataset) == []


def coco_style(release_v: bool = False) -> dict[str, Any]:
    points = list(FLAT)
    if not release_v:
        points[2::3] = [(2, 1, 0)[v - 1] for v in FLAT[2::3]]
    names = [n.replace("_", " ").title() if n != "head_top" else "Head top" for n in AIC14.keypoints]
    return {
        "images": [{"id": 1, "file_name": "ab12.jpg", "width": 60, "height": 50}],
        "annotations": [{"id": 4, "image_id": 1, "category_id": 1, "keypoints": points, "bbox": [5, 10, 40, 40]}],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
    }


def test_cocos_code(tmp_path: Path, make_picture: Any) -> None:
    path = tmp_path / "aic_val.json"
    path.write_text(json.dumps(coco_style()))
    name, reason = detect(path)
    assert name == "aic" and "v as in COCO" in reason
    from_release = read_dataset(release(tmp_path / "raw", make_picture)).records[0].instances[0]
    person = read_dataset(path).records[0].instances[0]
    assert np.array_equal(person.visibility, from_release.visibility)
    assert np.array_equal(person.xy, from_release.xy, equal_nan=True)
    assert person.area == pytest.approx(from_release.area)
    path.write_text(json.dumps(coco_style(release_v=True)))
    with pytest.raises(PoseError, match=r"annotation 4: v of 'right_wrist' is 3 \(3 is the release's code"):
        read_dataset(path)


def changed(**changes: Any) -> list[dict[str, Any]]:
    return [{**copy.deepcopy(RELEASE[0]), **changes}]


def joints(flat: list[Any]) -> list[dict[str, Any]]:
    return changed(keypoint_annotations={"human1": flat}, human_annotations={})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (joints([1, 2, 0] * 14), r"ab12, human1: v of 'right_shoulder' is 0 \(the rel"),
        (joints([1, 2, 1] * 13), "ab12, human1: 13 joints, not 14"),
        (joints(["x", 2, 1] * 14), "ab12, human1: keypoint_annotations is not 42 numbers"),
        (joints([float("nan"), 2, 1] * 14), "human1: a coordinate of 'right_shoulder'"),
        (changed(human_annotations={"human1": [5, 5, 1, 1], "human2": [0, 0, 1, 1]}), "human1: box"),
        (changed(human_annotations={"human1": [5, 5]}), "human1: human_annotations is not 4 numbers"),
        (changed(human_annotations={"human9": [0, 0, 1, 1]}), "ab12: a box but no joints of 'human9'"),
        (changed(keypoint_annotations=[]), "ab12: no 'keypoint_annotations' by person"),
        (RELEASE[:1] * 2, "ab12: the picture stands twice"),
        ([{"image_id": 5, "keypoint_annotations": {}}], "picture 0: no 'image_id'"),
    ],
)
def test_faults_are_named(value: Any, message: str, tmp_path: Path, make_picture: Any) -> None:
    root = release(tmp_path, make_picture, value)
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(root)
    assert "keypoint_train_annotations_20170909.json" in str(caught.value)


def test_sample(shared: Path) -> None:
    folder = shared / "data/aic"
    assert detect(folder)[0] == "aic"
    dataset = read_dataset(folder)
    source = {a["id"]: a for a in json.loads((folder / "test_aic.json").read_text())["annotations"]}
    people = [i for r in dataset.records for i in r.instances]
    assert len(people) == len(source) == 9 and coco.absent_files(dataset) == []
    for person in people:
        assert person.visibility.tolist() == source[person.extra["id"]]["keypoints"][2::3]
    # Seven of the nine show their face: the person's left shoulder lies at the larger x.
    left, right = (AIC14.index(f"{side}_shoulder") for side in ("left", "right"))
    seen = [p for p in people if p.visibility[left] and p.visibility[right]]
    assert sum(p.xy[left, 0] > p.xy[right, 0] for p in seen) >= 0.75 * len(seen)
