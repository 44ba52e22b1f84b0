"""CrowdPose: the crowd index stays, the head is the top of it, num_keypoints leaves out head and neck."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset
from posecli.skeletons import CROWDPOSE14

NAMES = [*CROWDPOSE14.keypoints[:12], "head", "neck"]


def value(index: Any = 0.33, **changes: Any) -> dict[str, Any]:
    points = [n for j in range(14) for n in (10 + j, 20 + j, 1 + j % 2)]
    image = {"id": 7, "file_name": "7.jpg", "width": 60, "height": 50, "crowdIndex": index}
    person = {
        "id": 3, "image_id": 7, "category_id": 1, "keypoints": points, "num_keypoints": 12, "iscrowd": 0,
        "bbox": [5, 10, 40, 30], **changes,
    }  # fmt: skip
    return {
        "images": [{k: v for k, v in image.items() if v is not None}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 3]]}],
    }


def read(tmp_path: Path, content: dict[str, Any], said: list[str] | None = None) -> Any:
    (tmp_path / "json").mkdir(exist_ok=True)
    path = tmp_path / "json/crowdpose_val.json"
    path.write_text(json.dumps(content))
    return read_dataset(path, "crowdpose", warn=lambda m: None if said is None else said.append(m))


def test_what_is_its_own(tmp_path: Path) -> None:
    said: list[str] = []
    dataset = read(tmp_path, value(), said)
    assert detect(tmp_path)[0] == "crowdpose" == detect(tmp_path / "json/crowdpose_val.json")[0]
    assert dataset.skeleton is CROWDPOSE14 and not said
    assert dataset.records[0].extra["crowdIndex"] == 0.33
    assert dataset.records[0].instances[0].area == pytest.approx(0.53 * 40 * 30)
    coco.write(dataset, tmp_path / "o.json")
    written = json.loads((tmp_path / "o.json").read_text())
    assert written["images"][0]["crowdIndex"] == 0.33 and written["annotations"][0]["num_keypoints"] == 14
    assert detect(tmp_path / "o.json")[0] == "coco"


def test_an_area_that_is_given_stays(tmp_path: Path) -> None:
    assert read(tmp_path, value(area=99.0)).records[0].instances[0].area == 99


def test_a_count_that_fits_neither_way_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    read(tmp_path, value(num_keypoints=5), said)
    assert "annotation 3: num_keypoints is not the count" in said[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (value(1.5), r"image 7: crowdIndex 1\.5 is not in 0\.\.1"),
        (value("0.5"), "image 7: crowdIndex '0.5' is not"),
        (value(None), "image 7: no crowdIndex"),
        (value(keypoints=[1, 2, 2] * 13), "annotation 3: 13 keypoints where the category names 14"),
        (value(keypoints=[1, 2, 3] * 14), "annotation 3, keypoint 0: v is 3"),
        (value(keypoints=[float("nan"), 2, 2] * 14), "annotation 3, keypoint 0: a coordinate is not finite"),
        (
            {**value(), "categories": [{"id": 1, "name": "person", "keypoints": NAMES[::-1]}]},
            "its joints are not the 14",
        ),
    ],
)
def test_faults_are_named(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=message) as caught:
        read(tmp_path, content)
    assert "crowdpose_val.json" in str(caught.value)


def test_sample(shared: Path) -> None:
    folder = shared / "data/crowdpose"
    assert detect(folder)[0] == "crowdpose"
    said: list[str] = []
    dataset = read_dataset(folder, warn=said.append)
    assert not said and coco.absent_files(dataset) == []
    assert [r.extra["crowdIndex"] for r in dataset.records] == [
        i["crowdIndex"] for i in json.loads((folder / "test_crowdpose.json").read_text())["images"]
    ]
    people = [i for r in dataset.records for i in r.instances]
    assert [int((p.visibility > 0).sum()) for p in people] == [7, 0, 12, 14, 14]
    # Three of them show their face: left lies on the picture's right, and the head's top above the neck.
    for person in people[2:]:
        at = dict(zip(CROWDPOSE14.keypoints, person.xy, strict=True))
        assert at["left_shoulder"][0] > at["right_shoulder"][0] and at["top_head"][1] < at["neck"][1]
