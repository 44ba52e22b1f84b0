"""MPII: the release's struct from either version of MATLAB file, HRNet's JSON, head boxes, who stands apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_matlab import Save, save5, save73

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset
from posecli.skeletons import MPII16
from posecli.types import Dataset

NONE = np.zeros((0, 0))


def struct_array(rows: list[dict[str, Any]]) -> Any:
    """A 1 x N struct array as `scipy.io.savemat` takes it."""
    out = np.zeros((1, len(rows)), dtype=[(name, "O") for name in rows[0]])
    for i, row in enumerate(rows):
        out[0, i] = tuple(row.values())
    return out


def point(joint: int, visible: Any) -> dict[str, Any]:
    """Joint j at MATLAB's (10 + j, 20 + j)."""
    return {"x": 10.0 + joint, "y": 20.0 + joint, "id": float(joint), "is_visible": visible}


def rect(points: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "x1": 3.0, "y1": 4.0, "x2": 9.0, "y2": 12.0, "scale": 0.2, "objpos": {"x": 31.0, "y": 21.0},
        "annopoints": {"point": struct_array(points)} if points else NONE, **more,
    }  # fmt: skip


def release(**changes: Any) -> dict[str, Any]:
    """Three pictures: two people of which one stands apart and one has no joints; nobody; a test picture."""
    both = [rect([point(0, 1.0), point(6, "0"), point(8, NONE), point(9, NONE)]), rect([])]
    test = {"scale": 0.1, "objpos": {"x": 21.0, "y": 11.0}}
    images = [
        {"image": {"name": "a.jpg"}, "annorect": struct_array(both), "frame_sec": 5.0, "vididx": 2.0},
        {"image": {"name": "b.jpg"}, "annorect": NONE, "frame_sec": NONE, "vididx": NONE},
        {"image": {"name": "c.jpg"}, "annorect": struct_array([test]), "frame_sec": 7.0, "vididx": 1.0},
    ]
    apart = np.empty((3, 1), dtype=object)
    apart[:, 0] = [np.array([[2.0]]), NONE, np.array([[1.0]])]
    videos = np.empty((1, 2), dtype=object)
    videos[0, :] = ["first", "second"]
    acts = [{"cat_name": "sports", "act_name": "curling", "act_id": 1.0}] * 2
    acts.append({"cat_name": "", "act_name": "", "act_id": -1.0})
    return {
        "annolist": struct_array(images), "img_train": np.array([[1.0, 1.0, 0.0]]), "version": "12",
        "single_person": apart, "act": struct_array(acts).T, "video_list": videos, **changes,
    }  # fmt: skip


@pytest.fixture(params=[save5, save73], ids=["5", "7.3"])
def save(request: pytest.FixtureRequest) -> Save:
    function: Save = request.param
    return function


def written(tmp_path: Path, make_picture: Any, save: Save, whole: Any) -> Path:
    save(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": whole})
    for name in "abc":
        make_picture(tmp_path / f"images/{name}.jpg", (80, 60))
    return tmp_path


def test_release(tmp_path: Path, make_picture: Any, save: Save) -> None:
    root = written(tmp_path, make_picture, save, release())
    assert detect(root) == ("mpii", "mpii_human_pose_v1_u12_1.mat has the struct RELEASE")
    said: list[str] = []
    dataset = read_dataset(root, warn=said.append)
    assert dataset.skeleton is MPII16 and not said
    first, empty, test = dataset.records
    assert [r.file_name for r in dataset.records] == ["a.jpg", "b.jpg", "c.jpg"] and (first.width, first.height) == (
        80,
        60,
    )
    assert first.extra == {
        "split": "train", "all_people_labelled": False, "recording": "second", "frame_sec": 5.0,
        "activity": "curling", "category": "sports",
    }  # fmt: skip
    person, other = first.instances
    assert person.visibility.tolist() == [2, 0, 0, 0, 0, 0, 1, 0, 2, 2] + [0] * 6
    assert person.xy[0].tolist() == [9, 19] and person.xy[6].tolist() == [15, 25]  # MATLAB's 10, 20 and 16, 26
    assert np.isnan(person.xy[1]).all() and person.head_box_xyxy is not None
    assert person.head_box_xyxy.tolist() == [2, 3, 8, 11] and person.box_xyxy is None
    assert person.extra == {"scale": 0.2, "center": [30.0, 20.0], "single_person": False}
    assert other.extra["single_person"] is True and not other.visibility.any()
    assert other.box_xyxy is not None and other.box_xyxy.tolist() == [10, 0, 50, 40]  # 200 x 0.2 around (30, 20)
    assert empty.instances == () and empty.extra["is_labeled"] is False and "recording" not in empty.extra
    assert test.extra["split"] == "test" and test.extra["is_labeled"] is False
    assert test.instances[0].extra["single_person"] and "category" not in test.extra
    coco.write(dataset, tmp_path / "o.json")
    assert detect(tmp_path / "o.json")[0] == "coco"
    again = coco.read(tmp_path / "o.json").records[0].instances[0]
    assert again.head_box_xyxy is not None and again.head_box_xyxy.tolist() == [2, 3, 8, 11]
    assert again.extra["scale"] == 0.2


def test_pictures_that_are_absent(tmp_path: Path, make_picture: Any) -> None:
    root = written(tmp_path, make_picture, save5, release())
    (root / "images/b.jpg").unlink()
    said: list[str] = []
    assert len(read_dataset(root, warn=said.append).records) == 2
    assert len(said) == 1 and "1 of 3 pictures (b.jpg ...) are not in" in said[0]
    with pytest.raises(PoseError, match=r"none of 3 pictures .* \(.*--image-root\)"):
        read_dataset(root, image_root=root)


def points_of(*points: dict[str, Any]) -> dict[str, Any]:
    image = {"image": {"name": "a.jpg"}, "annorect": struct_array([rect(list(points))])}
    return {"annolist": struct_array([image]), "img_train": np.array([[1.0]])}


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (points_of(point(16, 1.0)), r"annolist 1 \(a\.jpg\), person 1: joint id 16 \(0 to 15\)"),
        (points_of(point(3, 2.0)), r"person 1, left_hip: is_visible is 2"),
        (points_of(dict(point(3, 1.0), x=np.nan)), r"person 1, left_hip, x: a number that is not finite"),
        (points_of({"x": 1.0, "id": 0.0}), r"person 1, right_ankle: no field 'y'"),
        (release(img_train=np.ones((1, 2))), r"img_train has 2 values for 3 pictures"),
        (release(annolist=np.ones((2, 2))), r"annolist: an array of 2 x 2 where a struct array is due"),
        ({"img_train": np.ones((1, 2))}, r"RELEASE: no field 'annolist'|no field 'annolist'"),
    ],
)
def test_faults_are_named(whole: Any, message: str, tmp_path: Path, make_picture: Any) -> None:
    root = written(tmp_path, make_picture, save5, whole)
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(root)
    assert "mpii_human_pose_v1_u12_1.mat" in str(caught.value)


def test_a_joint_that_stands_twice(tmp_path: Path, make_picture: Any) -> None:
    root = written(tmp_path, make_picture, save5, points_of(point(3, 1.0), dict(point(3, 0.0), x=2.0)))
    said: list[str] = []
    person = read_dataset(root, warn=said.append).records[0].instances[0]
    assert person.xy[3].tolist() == [1, 22] and person.visibility[3] == 1 and "1 joints stand twice" in said[0]


def row(image: str = "a.jpg", **more: Any) -> dict[str, Any]:
    joints = [[5.0 + j, 7.0] for j in range(16)]
    joints[4] = [-1.0, -1.0]
    vis = [int(j != 4) for j in range(16)]
    return {"image": image, "center": [31.0, 21.0], "scale": 0.2, "joints": joints, "joints_vis": vis, **more}


def hrnet(tmp_path: Path, make_picture: Any, rows: list[Any]) -> Path:
    (tmp_path / "annot").mkdir(exist_ok=True)
    (tmp_path / "annot/valid.json").write_text(json.dumps(rows))
    for name in "ab":
        make_picture(tmp_path / f"images/{name}.jpg", (80, 60))
    return tmp_path


def test_hrnets_json(tmp_path: Path, make_picture: Any) -> None:
    rows = [row("a.jpg"), row("b.jpg"), row("a.jpg")]
    del rows[1]["joints"], rows[1]["joints_vis"]
    root = hrnet(tmp_path, make_picture, rows)
    assert detect(root)[0] == "mpii"
    dataset = read_dataset(root)
    assert [len(r.instances) for r in dataset.records] == [2, 1]
    person, without = dataset.records[0].instances[0], dataset.records[1].instances[0]
    assert person.xy[0].tolist() == [4, 6] and person.visibility.tolist() == [2] * 4 + [0] + [2] * 11
    assert person.extra == {"scale": 0.2, "center": [30.0, 20.0]}
    assert without.box_xyxy is not None and without.box_xyxy.tolist() == [10, 0, 50, 40]
    assert dataset.records[1].extra["is_labeled"] is False


def test_head_boxes_beside_the_json(tmp_path: Path, make_picture: Any) -> None:
    rows = [row("a.jpg"), row("b.jpg")]
    root = hrnet(tmp_path, make_picture, rows)
    truth = np.array([r["joints"] for r in rows]).transpose(1, 2, 0)
    boxes = np.array([[[3, 13], [4, 14]], [[9, 19], [12, 22]]], dtype=np.float64)  # corner, axis, person
    save5(root / "annot/gt_valid.mat", {"headboxes_src": boxes, "pos_gt_src": truth})
    people = [r.instances[0] for r in read_dataset(root).records]
    assert [p.head_box_xyxy.tolist() for p in people if p.head_box_xyxy is not None] == [
        [2, 3, 8, 11],
        [12, 13, 18, 21],
    ]
    save5(root / "annot/gt_valid.mat", {"headboxes_src": boxes, "pos_gt_src": truth + 5})
    with pytest.raises(PoseError, match=r"gt_valid\.mat: other joints than valid\.json has for its person 1"):
        read_dataset(root)
    save5(root / "annot/gt_valid.mat", {"headboxes_src": boxes[..., :1], "pos_gt_src": truth[..., :1]})
    assert read_dataset(root).records[0].instances[0].head_box_xyxy is None  # one of another part


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"joints": [[1.0, 2.0]] * 15}, r"person 1 \(a\.jpg\): joints is not 16 x 2 numbers but \(15, 2\)"),
        ({"joints_vis": [2] * 16}, "joints_vis of 'right_ankle' is 2"),
        ({"joints": [[float("nan"), 1.0]] * 16}, "coordinate of 'right_ankle' is not finite"),
        ({"scale": "0.2"}, "scale '0.2'"),
        ({"center": [1.0]}, "center is not 2 numbers"),
        ({"image": 5}, "person 1: no 'image'"),
    ],
)
def test_faults_of_the_json_are_named(bad: dict[str, Any], message: str, tmp_path: Path, make_picture: Any) -> None:
    root = hrnet(tmp_path, make_picture, [row(**bad)])
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(root / "annot/valid.json", "mpii")
    assert "valid.json" in str(caught.value)


def test_sample(shared: Path) -> None:
    folder = shared / "data/mpii"
    assert detect(folder)[0] == "mpii"
    dataset: Dataset = read_dataset(folder)
    assert len(dataset.records) == 5 and all(len(r.instances) == 1 for r in dataset.records)
    person = dataset.records[0].instances[0]
    assert person.xy[0].tolist() == [803, 710] and person.extra["scale"] == 4.718488
    hidden = [int((r.instances[0].visibility == 0).sum()) for r in dataset.records]
    assert hidden == [0, 0, 2, 2, 0]
    assert detect(folder / "test_mpii_trb.json")[0] == "coco"
    # The head's middle lies above the pelvis, and in these pictures three of five people face the camera.
    for record in dataset.records:
        points = dict(zip(MPII16.keypoints, record.instances[0].xy, strict=True))
        assert points["head_top"][1] < points["upper_neck"][1] < points["pelvis"][1]
