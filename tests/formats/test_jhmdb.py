"""JHMDB: a matrix a video with its puppet's mask and splits, and the COCO style."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_matlab import Save, save5, save73

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset
from posecli.skeletons import JHMDB15


def points(frames: int = 3) -> np.ndarray:
    """(2, 15, T): joint j of frame t at MATLAB's (11 + j + t, 21 + j); the last ankle left of the picture."""
    xy = np.zeros((2, 15, frames))
    xy[0] = np.arange(11, 26)[:, None] + np.arange(frames)
    xy[1] = np.arange(21, 36)[:, None]
    xy[:, 14] = [[-4.0], [30.0]]
    return xy


def release(tmp_path: Path, save: Save = save5, **changes: Any) -> Path:
    folder = tmp_path / "joint_positions/catch/Ball_game_1"
    folder.mkdir(parents=True, exist_ok=True)
    frames = changes.get("pos_img", points()).shape[-1]
    values = {"pos_img": points(), "scale": np.ones((1, frames)), "viewpoint": "S", **changes}
    save(folder / "joint_positions.mat", values)
    return tmp_path


@pytest.mark.parametrize("save", [save5, save73], ids=["5", "7.3"])
def test_release(save: Save, tmp_path: Path, make_picture: Any) -> None:
    root = release(tmp_path, save)
    make_picture(root / "Rename_Images/catch/Ball_game_1/00001.png", (320, 240))
    masks = np.zeros((240, 320, 3), dtype=np.uint8)
    masks[20:40, 10:30, :] = 7
    (root / "puppet_mask/catch/Ball_game_1").mkdir(parents=True)
    save(root / "puppet_mask/catch/Ball_game_1/puppet_mask.mat", {"part_mask": masks})
    (root / "splits").mkdir()
    (root / "splits/catch_test_split1.txt").write_text("Ball_game_1.avi 1\nOther.avi 2\n")
    (root / "splits/catch_test_split2.txt").write_text("Ball_game_1.avi 0\n")
    (root / "splits/catch_test_split3.txt").write_text("Ball_game_1.avi 2\n")
    assert detect(root) == ("jhmdb", "1 joint_positions.mat")
    for place in (root, root / "joint_positions", root / "joint_positions/catch/Ball_game_1/joint_positions.mat"):
        dataset = read_dataset(place)
        assert dataset.skeleton is JHMDB15 and Path(dataset.root) == root
        video = dataset.videos[0]
        assert (video.name, video.tags, video.num_frames) == ("Ball_game_1", ("catch",), 3)
        assert video.extra == {"splits": {"1": "train", "3": "test"}}
        assert [r.frame_id for r in dataset.records] == [0, 1, 2]
    record = dataset.records[1]
    assert record.file_name == "Rename_Images/catch/Ball_game_1/00002.png" and record.extra == {"viewpoint": "S"}
    person = record.instances[0]
    assert person.xy[3].tolist() == [14, 23]  # MATLAB's 15, 24
    assert person.visibility.tolist() == [2] * 14 + [1]  # the ankle outside the picture
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [10, 20, 30, 40] and person.area == 400
    coco.write(dataset, tmp_path / "o.json")
    from pycocotools.coco import COCO

    loaded = COCO(str(tmp_path / "o.json"))
    assert loaded.annToMask(loaded.loadAnns([1])[0]).sum() == 400


def test_without_pictures_and_thinned(tmp_path: Path) -> None:
    said: list[str] = []
    dataset = read_dataset(release(tmp_path), every=2, warn=said.append)
    assert "the pictures of 1 of 1 videos are not there" in said[0]
    assert [r.frame_id for r in dataset.records] == [0, 2] and dataset.videos[0].num_frames == 3
    assert (dataset.records[0].width, dataset.records[0].height) == (320, 240)


def test_frames_in_a_video(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "ReCompress_Videos/catch").mkdir(parents=True)
    (root / "ReCompress_Videos/catch/Ball_game_1.avi").write_bytes(b"")
    records = read_dataset(root).records
    assert {r.file_name for r in records} == {"ReCompress_Videos/catch/Ball_game_1.avi"}
    assert [r.frame_id for r in records] == [0, 1, 2]


def test_a_single_frame(tmp_path: Path) -> None:
    dataset = read_dataset(release(tmp_path, pos_img=points(1)[..., 0]), warn=lambda m: None)
    assert len(dataset.records) == 1 and dataset.records[0].instances[0].xy[0].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"pos_img": np.zeros((2, 14, 3))}, "pos_img: an array of 2 x 14 x 3 where numbers of 2 x 15 x n are due"),
        ({"pos_img": np.full((2, 15, 3), np.nan)}, "frame 1: a coordinate of 'neck' is not finite"),
    ],
)
def test_faults_are_named(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(release(tmp_path, **bad))
    assert "Ball_game_1/joint_positions.mat" in str(caught.value)


def test_faults_beside_it_are_named(tmp_path: Path) -> None:
    root = release(tmp_path)
    (root / "puppet_mask/catch/Ball_game_1").mkdir(parents=True)
    save5(root / "puppet_mask/catch/Ball_game_1/puppet_mask.mat", {"part_mask": np.ones((240, 320, 2), np.uint8)})
    with pytest.raises(PoseError, match=r"puppet_mask\.mat: 2 masks for 3 frames"):
        read_dataset(root)
    (root / "splits").mkdir()
    (root / "splits/catch_test_split1.txt").write_text("Ball_game_1.avi 1\nOther.avi train\n")
    with pytest.raises(PoseError, match=r"catch_test_split1\.txt, line 2: 'Other\.avi train'"):
        read_dataset(root)
    (root / "splits/catch_test_split1.txt").write_bytes(b"Ball_game_1.avi 1\n\xff\xfe.avi 1\n")
    with pytest.raises(PoseError, match=r"catch_test_split1\.txt, line 2: not UTF-8"):
        read_dataset(root)


def test_sample(shared: Path) -> None:
    folder = shared / "data/jhmdb"
    assert detect(folder)[0] == "jhmdb"
    dataset = read_dataset(folder)
    source = {a["id"]: a for a in json.loads((folder / "test_jhmdb_sub1.json").read_text())["annotations"]}
    assert [(r.video_id, r.frame_id) for r in dataset.records] == [(1, 0), (2, 0), (3, 0)]
    assert [v.num_frames for v in dataset.videos] == [37, 40, 30]
    assert coco.absent_files(dataset) == []
    for record in dataset.records:
        person = record.instances[0]
        given = np.reshape(source[person.extra["id"]]["keypoints"], (15, 3))
        assert np.array_equal(person.xy, given[:, :2]) and (person.visibility == 2).all() and person.track_id == 0
        at = dict(zip(JHMDB15.keypoints, person.xy[:, 1], strict=True))
        assert at["head"] < at["neck"] < at["belly"] < at["left_knee"] < at["left_ankle"]


def test_coco_style_names_what_is_wrong(shared: Path, tmp_path: Path) -> None:
    value = json.loads((shared / "data/jhmdb/test_jhmdb_sub1.json").read_text())
    value["images"][1]["file_name"] = "somewhere.png"
    (tmp_path / "o.json").write_text(json.dumps(value))
    with pytest.raises(PoseError, match=r"o\.json, image \d+: file_name 'somewhere\.png' is not <video>/<frame"):
        read_dataset(tmp_path / "o.json")
