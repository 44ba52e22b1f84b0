"""Label Studio: what it is read as, round trips, and what is refused."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from made_labels import assert_same, datasets

from posecli.errors import PoseError
from posecli.formats import WRITERS, detect, read_dataset
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record


def keypoint(label: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    """A region as Label Studio exports it, in a picture of 200 x 100."""
    value = {"x": x, "y": y, "width": 0.3, "keypointlabels": [label]}
    return {
        "original_width": 200, "original_height": 100, "image_rotation": 0, "value": value, "id": label + str(x),
        "from_name": "kp", "to_name": "img", "type": "keypointlabels", "origin": "manual", **more,
    }  # fmt: skip


def rectangle(key: str, x: float, y: float, w: float, h: float) -> dict[str, Any]:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0, "rectanglelabels": ["person"]}
    return {**keypoint("", 0, 0), "value": value, "id": key, "type": "rectanglelabels"}


def export(path: Path, *results: list[dict[str, Any]] | None, **more: Any) -> Path:
    tasks = [
        {
            "id": n, "annotations": [] if r is None else [{"id": n, "was_cancelled": False, "result": r}],
            "data": {"image": f"/data/upload/2/0a1b2c3d-pic{n}.jpg"}, **more,
        }
        for n, r in enumerate(results, 40)
    ]  # fmt: skip
    path.write_text(json.dumps(tasks))
    return path


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets())
def test_round_trip_loses_nothing(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tasks.json"
        WRITERS["labelstudio"](dataset, path)
        assert detect(path)[0] == "labelstudio"
        assert_same(dataset, read_dataset(path, warn=lambda message: None))


def test_what_label_studio_itself_exports(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    grouped = [
        rectangle("r1", 0, 0, 50, 100), keypoint("nose", 10, 20, parentID="r1"), keypoint("nose", 60, 20),
        rectangle("r2", 50, 0, 50, 100), keypoint("left_eye", 12, 22, meta={"text": ["hidden"]}),
        keypoint("right_eye", 8, 22), {"type": "choices", "id": "right_eye8", "value": {"choices": ["Occluded"]}},
    ]  # fmt: skip
    path = export(tmp_path / "e.json", grouped, [keypoint("nose", 1, 2)], None)
    make_picture(tmp_path / "pic42.jpg", (64, 48))
    assert detect(path) == ("labelstudio", "a list of tasks with data and keypointlabels")
    dataset = read_dataset(path, skeleton="coco17")
    assert [r.file_name for r in dataset.records] == ["pic40.jpg", "pic41.jpg", "pic42.jpg"]
    first, second = dataset.records[0].instances
    assert first.xy[:3].tolist() == [[20, 20], [24, 22], [16, 22]] and first.visibility[:4].tolist() == [2, 1, 1, 0]
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [0, 0, 100, 100]
    assert second.xy[0].tolist() == [120, 20]
    assert len(dataset.records[1].instances) == 1
    last = dataset.records[2]
    assert last.instances == () and last.extra == {"is_labeled": False} and (last.width, last.height) == (64, 48)


def test_uploads_of_one_name_are_not_one_picture(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    """000.jpg of two cameras: the server keeps them apart by digits before the name, which were taken away."""
    path = export(tmp_path / "e.json", [keypoint("nose", 1, 2)], [keypoint("nose", 3, 4)])
    text = path.read_text().replace("0a1b2c3d-pic41", "9f8e7d6c-pic40")
    path.write_text(text)
    with pytest.raises(PoseError, match=r"task 41: 0a1b2c3d-pic40.jpg and 9f8e7d6c-pic40.jpg would both"):
        read_dataset(path)
    for name in ("0a1b2c3d-pic40.jpg", "9f8e7d6c-pic40.jpg"):
        make_picture(tmp_path / "images" / name, (200, 100))
    for dataset in (read_dataset(path), read_dataset(path, image_root=tmp_path / "images")):
        assert [r.file_name for r in dataset.records] == ["0a1b2c3d-pic40.jpg", "9f8e7d6c-pic40.jpg"]
        assert Path(dataset.root) == tmp_path / "images"
    path.write_text(text.replace("9f8e7d6c-pic40", "0a1b2c3d-pic40"))  # one picture in two tasks
    assert len(read_dataset(path).records) == 2


def test_things_in_rectangles_are_nobody(tmp_path: Path) -> None:
    ball = rectangle("b", 5, 10, 20, 30)
    ball["value"]["rectanglelabels"] = ["Ball"]
    path = export(tmp_path / "e.json", [rectangle("r", 0, 0, 50, 100), ball, keypoint("nose", 10, 20)], [ball])
    notes: list[str] = []
    dataset = read_dataset(path, skeleton="coco17", warn=notes.append)
    (person,) = dataset.records[0].instances
    assert person.xy[0].tolist() == [20, 20] and person.box_xyxy is not None and person.box_xyxy[2] == 100
    assert dataset.records[1].instances == () and "2 rectangles of other labels" in notes[0]
    # Where nobody is called a person, every box is somebody's; so is one that joints name.
    path = export(tmp_path / "f.json", [ball, keypoint("nose", 10, 20)])
    assert len(read_dataset(path, skeleton="coco17", warn=pytest.fail).records[0].instances) == 1
    path = export(tmp_path / "g.json", [rectangle("r", 0, 0, 50, 100), ball, keypoint("nose", 10, 20, parentID="b")])
    assert len(read_dataset(path, skeleton="coco17", warn=pytest.fail).records[0].instances) == 2


def test_drafts_and_their_corrections(tmp_path: Path) -> None:
    """Scored people go out as predictions; an annotation made of them keeps track id and scores."""
    xy = np.full((17, 2), np.nan)
    xy[0] = [10, 11]
    visibility = np.array([2] + [0] * 16)
    person = Instance(xy, visibility, np.where(visibility, 0.5, 0).astype(np.float32), 0.75, track_id=8)
    path = tmp_path / "tasks.json"
    WRITERS["labelstudio"](Dataset(COCO17, (Record(3, "p.jpg", 640, 480, (person,)),)), path)
    tasks = json.loads(path.read_text())
    assert tasks[0]["annotations"] == []
    notes: list[str] = []
    assert read_dataset(path, warn=notes.append).records[0].instances[0].track_id == 8
    assert "predictions were taken" in notes[0]
    result = tasks[0]["predictions"][0]["result"]
    result[0]["value"]["x"] += 10
    old = {"result": [], "updated_at": "2026-01-01"}
    tasks[0]["annotations"] = [
        {"result": result, "updated_at": "2026-01-02"},
        old,
        {"result": [], "was_cancelled": True},
    ]
    path.write_text(json.dumps(tasks))
    again = read_dataset(path, warn=notes.append).records[0].instances[0]
    assert again.xy[0].tolist() == pytest.approx([74, 11]) and (again.track_id, again.person_score) == (8, 0.75)
    assert "several annotations" in notes[1]


def test_labels_that_passed_through_a_stream_stay_annotations(tmp_path: Path) -> None:
    """Joints that are missing come back with score 0 there, which made drafts of everybody."""
    visibility = np.array([2] * 16 + [0])
    xy = np.where(visibility[:, None] > 0, np.arange(34.0).reshape(17, 2), np.nan)
    person = Instance(xy, visibility, (visibility > 0).astype(np.float32))
    path = tmp_path / "tasks.json"
    WRITERS["labelstudio"](Dataset(COCO17, (Record(3, "p.jpg", 640, 480, (person,)),)), path)
    (task,) = json.loads(path.read_text())
    assert task["predictions"] == [] and len(task["annotations"]) == 1


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([keypoint("nose", 1, 2), keypoint("nose", 3, 4)], "a second 'nose' for one person"),
        ([rectangle("r", 50, 0, 50, 50), keypoint("nose", 3, 4)], "belongs to nobody: it lies in 0 boxes"),
        ([keypoint("tentacle", 1, 2)], "unknown joint 'tentacle'"),
        ([{**keypoint("nose", 1, 2), "value": {"x": "a", "y": 1, "keypointlabels": ["nose"]}}], "not a finite number"),
        ([{**keypoint("nose", 1, 2), "image_rotation": 90}], "turned by 90"),
        ([keypoint("nose", 1, 2), {**keypoint("nose", 1, 2), "original_width": 7}], "different sizes"),
    ],
)
def test_errors_name_file_task_and_region(tmp_path: Path, result: list[Any], message: str) -> None:
    path = export(tmp_path / "e.json", result)
    with pytest.raises(PoseError) as error:
        read_dataset(path, skeleton="coco17")
    assert message in str(error.value) and "e.json, task 40" in str(error.value)
