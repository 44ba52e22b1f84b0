"""labelme: what it is read as, round trips, and what is refused."""

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
from posecli.types import Dataset, Record, Video


def point(label: str, x: float, y: float, group: int | None = None, **more: Any) -> dict[str, Any]:
    return {"label": label, "points": [[x, y]], "group_id": group, "shape_type": "point", "flags": {}, **more}


def labelme(path: Path, shapes: list[dict[str, Any]], **more: Any) -> Path:
    """A file as labelme 5 saves it."""
    value = {
        "version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": path.stem + ".jpg", "imageData": None,
        "imageHeight": 480, "imageWidth": 640, **more,
    }  # fmt: skip
    path.write_text(json.dumps(value, indent=2))
    return path


@pytest.mark.parametrize("length", [0, 40])
def test_a_cut_off_file_is_not_passed_over(tmp_path: Path, length: int) -> None:
    """What is left of it has none of the words a labelme file is known by."""
    first = labelme(tmp_path / "a.json", [point("nose", 4, 5)])
    (tmp_path / "zzz.json").write_bytes(first.read_bytes()[:length])
    with pytest.raises(PoseError, match=r"zzz\.json: (an empty file|not JSON: it ends in the middle)"):
        read_dataset(tmp_path, "labelme")
    for bracket in (b"]", b"}"):  # at its end it looks whole
        text = first.read_bytes()
        (tmp_path / "zzz.json").write_bytes(text[: text.index(bracket, text.index(b'"points"')) + 1])
        with pytest.raises(PoseError, match=r"zzz\.json: not JSON"):
            read_dataset(tmp_path, "labelme")
    (tmp_path / "zzz.json").write_text('{"of": "another kind"}')
    assert len(read_dataset(tmp_path, "labelme").records) == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets())
def test_round_trip_loses_nothing(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        WRITERS["labelme"](dataset, Path(folder) / "out")
        again = read_dataset(Path(folder) / "out", "labelme", warn=pytest.fail)
        by_id = sorted(again.records, key=lambda r: r.image_id)
        assert_same(dataset, Dataset(again.skeleton, tuple(by_id), again.videos), names=False)
        named = {json.loads(p.read_text())["posecli"]["file_name"] for p in Path(folder).rglob("*.json")}
        assert named == {r.file_name for r in dataset.records}


def test_what_labelme_itself_saves(tmp_path: Path) -> None:
    box = {"label": "person", "points": [[50, 90], [10, 20]], "group_id": 2, "shape_type": "rectangle", "flags": {}}
    shapes = [
        point("nose", 20, 30, 2), point("left_eye", 21, 28, 2, flags={"hidden": True}), box, point("nose", 90, 91, 5),
    ]  # fmt: skip
    labelme(tmp_path / "a.json", shapes)
    labelme(tmp_path / "b.json", [])
    assert detect(tmp_path) == ("labelme", "2 labelme files (first: a.json)")
    dataset = read_dataset(tmp_path, skeleton="coco17")
    assert dataset.skeleton == COCO17
    first, second = dataset.records[0].instances
    assert first.visibility[:3].tolist() == [2, 1, 0] and first.xy[1].tolist() == [21, 28]
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [10, 20, 50, 90]
    assert second.xy[0].tolist() == [90, 91] and second.box_xyxy is None
    assert dataset.records[1].instances == () and dataset.records[0].file_name == "a.jpg"


def test_corrections_come_back(tmp_path: Path) -> None:
    """A moved joint moves, a new one gets score 1, a deleted one goes; the track id and the scores stay."""
    from posecli.types import Instance

    xy = np.full((17, 2), np.nan)
    xy[:2] = [[10, 11], [12, 13]]
    visibility = np.array([2, 2] + [0] * 15)
    score = np.where(visibility > 0, 0.5, 0).astype(np.float32)
    person = Instance(xy, visibility, score, 0.75, track_id=8)
    dataset = Dataset(COCO17, (Record(3, "p.jpg", 640, 480, (person,)),))
    WRITERS["labelme"](dataset, tmp_path / "out")
    path = tmp_path / "out" / "p.json"
    value = json.loads(path.read_text())
    value["shapes"][0]["points"] = [[15, 16]]
    value["shapes"][1]["label"] = "right_eye"
    path.write_text(json.dumps(value))
    again = read_dataset(tmp_path / "out").records[0].instances[0]
    assert again.xy[0].tolist() == [15, 16] and again.visibility[:3].tolist() == [2, 0, 2]
    assert again.track_id == 8 and again.person_score == 0.75 and again.score[[0, 2]].tolist() == [0.5, 1.0]


def test_names_stay_relative_to_the_pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    make_picture(tmp_path / "images" / "a.jpg", (64, 48))
    dataset = Dataset(COCO17, (Record(1, "a.jpg", 64, 48),), (), str(tmp_path / "images"))
    WRITERS["labelme"](dataset, tmp_path / "labels")
    assert json.loads((tmp_path / "labels/a.json").read_text())["imagePath"] == "../images/a.jpg"
    assert read_dataset(tmp_path / "labels").records[0].file_name == "../images/a.jpg"
    assert read_dataset(tmp_path / "labels", image_root=tmp_path / "images").records[0].file_name == "a.jpg"


def test_the_video_of_an_extracted_frame_is_still_found(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "clip.mp4").touch()
    video = Video(1, "clip", "in/clip.mp4", 64, 48, 25.0, 9, ("front",))
    record = Record(1, "frames/000003.jpg", 64, 48, (), 1, 3)
    WRITERS["labelme"](Dataset(COCO17, (record,), (video,), str(tmp_path)), tmp_path / "out")
    again = read_dataset(tmp_path / "out")
    assert again.videos[0].file_name == "../in/clip.mp4" and again.records[0].frame_id == 3
    assert (again.videos[0].fps, again.videos[0].tags) == (25.0, ("front",))
    assert read_dataset(tmp_path / "out", image_root=tmp_path).videos == (video,)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([point("nose", 1, 2), point("nose", 3, 4)], "shape 1 ('nose'): a second 'nose'"),
        ([point("tentacle", 1, 2)], "shape 0 ('tentacle'): unknown joint"),
        ([{**point("nose", 1, 2), "points": [[1, "x"]]}], "not a finite number"),
        ([{**point("nose", 1, 2), "points": [1, 2]}], "'points' is not 1 of [x, y]"),
        ([{"points": [[1, 2]]}], "shape 0: no label"),
        ([{**point("nose", 1, 2), "group_id": [1]}], "group_id is [1]"),
    ],
)
def test_errors_name_file_and_shape(tmp_path: Path, shapes: list[Any], message: str) -> None:
    path = labelme(tmp_path / "a.json", shapes)
    with pytest.raises(PoseError) as error:
        read_dataset(path, "labelme", skeleton="coco17")
    assert message in str(error.value) and "a.json" in str(error.value)


def test_frames_inside_videos_are_refused(tmp_path: Path) -> None:
    dataset = Dataset(COCO17, (Record(1, "clip.mp4", 64, 48, (), 1, 0),))
    with pytest.raises(PoseError, match="--frames"):
        WRITERS["labelme"](dataset, tmp_path / "out")
    assert not (tmp_path / "out").exists()
