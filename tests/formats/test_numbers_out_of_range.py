"""Numbers, flags and keys that no file of ours can hold: an error that names the place, or read as meant."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.formats import WRITERS, coco
from posecli.formats.coco_results import read_poses
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.labelstudio import _regions
from posecli.formats.mpii import _person
from posecli.formats.side_notes import size, video_from_json
from posecli.masks import mask_area, mask_of
from posecli.metrics.reading import labels_of, read_results
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record

HUGE = 10**400
FLAT = [v for k in range(17) for v in (10.0 + k, 20.5, 2)]


def labels(**person: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48}],
        "annotations": [{"id": 5, "image_id": 7, "category_id": 1, "keypoints": FLAT, **person}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}],
    }


def read(value: dict[str, Any]) -> Dataset:
    return coco.from_json(value, "a.json", warn=lambda message: None)


def dataset(**person: Any) -> Dataset:
    """One person in a picture with other people's keys."""
    found = read(labels())
    someone = replace(found.records[0].instances[0], **person)
    return replace(found, records=(replace(found.records[0], instances=(someone,)),))


def test_further_keys_do_not_take_the_place_of_cocos() -> None:
    extra = {"image_id": 1, "category_id": 9, "keypoints": [], "bbox": 3, "num_keypoints": 0, "keypoint_scores": [2]}
    written = coco.to_json(dataset(extra={**extra, "track_id": "x", "ignore": "false", "mars": 4}))
    (person,) = written["annotations"]
    assert (person["image_id"], person["category_id"], person["num_keypoints"], person["mars"]) == (7, 1, 17, 4)
    assert person["keypoints"] == FLAT and not {"keypoint_scores", "track_id", "ignore"} & set(person)
    assert read(written).records[0].instances[0].extra["mars"] == 4
    picture = replace(dataset().records[0], extra={"width": 1, "id": 3, "licence": 2})
    image = coco.to_json(replace(dataset(), records=(picture,)))["images"][0]
    assert (image["width"], image["id"], image["licence"]) == (64, 7, 2)


@pytest.mark.parametrize(
    "mask",
    [
        [[1, 1, 1e8, 1, 5, 5]],
        [[1, 1, float("nan"), 1, 5, 5]],
        [[1, 1, float("inf"), 1, 5, 5]],
        [[1, 1, HUGE, 1, 5, 5]],
        {"size": [48, 64], "counts": [-1, 48 * 64 + 1]},
        {"size": [48, 64], "counts": [3, 5]},
        {"size": [48, 64], "counts": [HUGE]},
        {"size": [48, 64], "counts": "zzz"},
        {"size": [4, 4], "counts": [16]},
    ],
)
@pytest.mark.parametrize("area", [None, 0])
def test_masks_are_checked_before_they_are_measured(mask: Any, area: int | None) -> None:
    with pytest.raises(PoseError, match=r"a\.json, annotation 5"):
        labels_of(read(labels(segmentation=mask, area=area)), "a.json")


def test_area_of_a_mask() -> None:
    for mask in ([[1, 1, 11, 1, 11, 11, 1, 11]], {"size": [48, 64], "counts": [10, 100, 48 * 64 - 110]}, [[]]):
        assert mask_area(mask, 64, 48) == mask_of(mask, 64, 48).sum()
    with pytest.raises(PoseError, match="too large"):
        mask_of([[1, 1, 2, 2, 3, 3]], 10**9, 10**9)


@pytest.mark.parametrize("info", ["spytensor created", ["a"], {"posecli": "x"}])
def test_info_that_is_no_object(info: Any) -> None:
    written = coco.to_json(read({**labels(), "info": info}))["info"]
    assert isinstance(written, dict) and written["posecli"] == {"area_from_joint_box": 1}
    assert info in (written.get("description"), written.get("info")) or isinstance(info, dict)


@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
def test_flags_of_people(key: str) -> None:
    for flag in ("0", "false", [0], 2):
        with pytest.raises(PoseError, match=f"annotation 5: {key} .* is not 0 or 1"):
            read(labels(**{key: flag}))
    assert [read(labels(**{key: f})).records[0].instances[0].ignore for f in (0, 1, True, False, None)] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_scores_of_results_out_of_range(tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (64, 48)).save(tmp_path / "7.png")
    flat = [1, 1, 2.0, 1, 1, -0.5] + [5, 5, 0.5] * 15
    entries = [{"image_id": 7, "keypoints": flat, "score": s} for s in (2.5, 1.0, -0.5)]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    told: list[str] = []
    frames = list(read_poses(tmp_path / "r.json", COCO17, tmp_path, told.append))
    people = frames[0][1].instances
    assert [p.person_score for p in people] == [1, 0.4, 0]
    assert [p.extra.get("coco_score") for p in people] == [2.5, 1.0, -0.5]
    assert people[0].score[:3].tolist() == [1, 0, 0.5] and len(told) == 3
    assert len(labels_of_poses(frames, root=tmp_path, warn=told.append).records[0].instances) == 3 and len(told) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"videos": 5},
        {"videos": [{"id": 1, "width": float("inf")}]},
        {"videos": [{"id": 1, "num_frames": float("nan")}]},
        {"videos": [{"id": 1, "fps": HUGE}]},
        {"images": [{"id": 7, "file_name": "a.jpg", "width": 1e300, "height": 48}]},
        {"categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": 5}]},
    ],
)
def test_coco_numbers(change: dict[str, Any]) -> None:
    with pytest.raises(PoseError, match=r"a\.json"):
        read({**labels(), **change})


@pytest.mark.parametrize("odd", [{"category_id": []}, {"keypoints": [HUGE] * 51}, {"bbox": -1}, {"track_id": 10**30}])
def test_results_that_evaluation_refuses(odd: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps([{"image_id": 7, "keypoints": FLAT, "score": 0.5, **odd}]))
    with pytest.raises(PoseError, match=r"r\.json, result 0"):
        read_results(tmp_path / "r.json")


def test_other_readers() -> None:
    video = {"id": 1, "name": "v", "file_name": "v.mp4", "width": 64, "height": 48, "fps": 25, "num_frames": 2}
    for odd in ({"width": float("inf")}, {"id": []}, {"num_frames": HUGE}):
        with pytest.raises(PoseError, match="task 1"):
            video_from_json({**video, **odd}, "a.json, task 1")
    with pytest.raises(PoseError, match="task 1"):
        size(10**30, "width", "a.json, task 1")
    box = {"id": "b", "type": "rectanglelabels", "value": {"x": 30, "y": 5, "width": -20, "height": 9}}
    for region in (box, {"id": "b", "type": "choices", "value": {"choices": 5}}):
        with pytest.raises(PoseError, match="task 1, region b"):
            _regions([region], 64, 48, "a.json, task 1")
    with pytest.raises(PoseError, match="person 3"):
        _person({"image": "a.jpg", "center": [1, 1], "scale": HUGE}, "a.json, person 3")
    assert _person({"image": "a.jpg", "center": [-1, -1], "scale": -1}, "a.json, person 3").box_xyxy is None


@pytest.mark.parametrize("form", ["crowdpose", "aic"])
def test_boxes_of_releases(form: str, tmp_path: Path) -> None:
    from posecli.formats import read_dataset
    from posecli.skeletons import get_skeleton

    names = list(get_skeleton(f"{form}14").keypoints)
    value = labels(keypoints=[5, 5, 2] * 14, bbox=[1, 2, HUGE, 4])
    value["images"][0]["crowdIndex"] = 0.5
    value["categories"][0]["keypoints"] = names
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(PoseError, match="annotation 5"):
        read_dataset(tmp_path / "a.json", form)


@pytest.mark.parametrize("key", ["images", "annotations"])
def test_posetrack_ids_that_are_lists(key: str, tmp_path: Path) -> None:
    from posecli.formats import read_dataset

    value = labels()
    value["images"][0] |= {"file_name": "images/val/v/000001.jpg", "vid_id": "1"}
    value[key][0]["id" if key == "images" else "image_id"] = [1]
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(PoseError, match=rf"a\.json, {key[:5]}"):
        read_dataset(tmp_path / "a.json", "posetrack")


def person(**more: Any) -> Instance:
    return Instance(np.ones((17, 2)), np.full(17, 2), np.ones(17, np.float32), **more)


@pytest.mark.parametrize("extra", [{"area": HUGE}, {"area": -1}, {"head_box": [1, 1, -5, 5]}, {"head_box": [HUGE] * 4}])
def test_streams(extra: dict[str, Any]) -> None:
    frames = [(StreamHeader("a.mp4", COCO17, 64, 48), FramePoses(3, (person(extra=extra),)))]
    with pytest.raises(PoseError, match=r"a\.mp4, frame 3, person 1"):
        labels_of_poses(frames, warn=lambda message: None)


def test_columns_of_evaluation() -> None:
    for record in (
        Record(7, "a.jpg", 10**30, 48, ()),
        Record(7, "a.jpg", 64, 48, (person(track_id=10**30),)),
    ):
        with pytest.raises(PoseError, match=r"a\.json, image 7"):
            labels_of(Dataset(COCO17, (record,), (), ""), "a.json")


@pytest.mark.parametrize("form", ["coco", "labelstudio", "labelme"])
def test_a_key_that_is_not_finite_is_named(form: str, tmp_path: Path) -> None:
    """With the file, under the name that was asked for."""
    odd = read(labels(mine={"deep": [1, float("nan")]}, note=3))
    write = coco.write if form == "coco" else WRITERS[form]
    with pytest.raises(PoseError, match=r"mine\.deep\[1\] is nan, kept from the input") as caught:
        write(odd, tmp_path / "out.json")
    assert caught.value.where.startswith(str(tmp_path / "out.json"))
    if form == "coco":
        assert caught.value.what.startswith("annotations[0] (id 5): mine.deep[1] is nan, kept from the input")


@pytest.mark.parametrize(
    "odd",
    [
        {"box_xyxy": np.array([30.0, 5, 10, 14])},
        {"box_xyxy": np.array([30.0, 5, 1e300, 14])},
        {"head_box_xyxy": np.array([30.0, 5, 10, 14])},
        {"area": -4.0},
        {"track_id": 2**53},
        {"xy": np.full((17, 2), 1e300)},
        {"xy": np.full((17, 2), np.inf)},
    ],
)
def test_what_could_not_be_read_again_is_not_written(odd: dict[str, Any]) -> None:
    with pytest.raises(PoseError, match=r"image 7 \(a\.jpg\), person 1"):
        coco.to_json(dataset(**odd))
