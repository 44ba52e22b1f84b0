"""Penn Action: left and right by geometry, the mark of a missing joint, one file a sequence and all in one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_matlab import Save, save5, save73

from posecli.errors import PoseError
from posecli.formats import coco, detect, penn, read_dataset
from posecli.skeletons import PENNACTION13
from posecli.types import Dataset

# Someone who faces the camera, as the file has it: the first of each pair lies on the picture's left.
SIDES = np.array([0] + [-10, 10] * 6)
POSE = np.stack([100.0 + SIDES, np.array([20, 40, 40, 60, 60, 80, 80, 90, 90, 120, 120, 150, 150])], axis=1)


def sequence(frames: int = 3, **changes: Any) -> dict[str, Any]:
    x, y = (np.tile(POSE[:, a], (frames, 1)) + np.arange(frames)[:, None] for a in (0, 1))
    visibility = np.ones((frames, 13))
    visibility[:, 3] = 0  # a guess
    visibility[1, 4], x[1, 4], y[1, 4] = 0, 0.75, 0.75  # none at all, frames scaled by 0.75
    return {
        "action": "squat", "pose": "front", "x": x, "y": y, "visibility": visibility,
        "bbox": np.tile([[81.0, 11.0, 121.0, 161.0]], (frames, 1)), "train": np.array([[-1.0]]),
        "dimensions": np.array([[240.0, 320.0, float(frames)]]), "nframes": np.array([[float(frames)]]), **changes,
    }  # fmt: skip


def written(tmp_path: Path, save: Save = save5, **changes: Any) -> Path:
    (tmp_path / "labels").mkdir(exist_ok=True)
    save(tmp_path / "labels/0007.mat", sequence(**changes))
    return tmp_path


def check(dataset: Dataset) -> None:
    """Sequence 7 of `sequence`."""
    video = dataset.videos[0]
    assert (video.id, video.name, video.file_name, video.num_frames) == (7, "0007", "frames/0007", 3)
    assert video.tags == ("squat", "front") and video.extra == {"split": "test"}
    assert [(r.image_id, r.frame_id, r.file_name) for r in dataset.records] == [
        (70000 + n, n - 1, f"frames/0007/00000{n}.jpg") for n in (1, 2, 3)
    ]
    assert dataset.skeleton is PENNACTION13 and (dataset.records[0].width, dataset.records[0].height) == (320, 240)
    first, second = (dataset.records[t].instances[0] for t in (0, 1))
    joints = PENNACTION13.index
    # The person's left lies on the right of the picture of who faces the camera; MATLAB's first pixel is 1.
    assert first.xy[joints("left_shoulder")].tolist() == [109, 39]
    assert first.xy[joints("right_shoulder")].tolist() == [89, 39] and first.xy[0].tolist() == [99, 19]
    assert first.xy[joints("left_ankle")].tolist() == [109, 149]
    hidden = [PENNACTION13.keypoints[i] for i in np.flatnonzero(first.visibility == 1)]
    assert hidden == ["right_elbow"] and (np.delete(first.visibility, joints("right_elbow")) == 2).all()
    assert second.visibility[joints("left_elbow")] == 0 and np.isnan(second.xy[joints("left_elbow")]).all()
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [80, 10, 120, 160] and first.track_id == 0


@pytest.mark.parametrize("save", [save5, save73], ids=["5", "7.3"])
def test_a_file_a_sequence(save: Save, tmp_path: Path) -> None:
    root = written(tmp_path, save)
    assert detect(root) == ("penn", "1 files like 0007.mat")
    for place in (root, root / "labels", root / "labels/0007.mat"):
        dataset = read_dataset(place)
        check(dataset)
        assert Path(dataset.root) == root
    assert [r.frame_id for r in read_dataset(root, every=2).records] == [0, 2]


def archive(path: Path, **changes: Any) -> Path:
    one = sequence()
    np.savez(
        path,
        **{
            "sequence": np.array([7]), "num_frames": np.array([3]), "offset": np.array([0]), "x": one["x"],
            "y": one["y"], "visibility": one["visibility"], "bbox": one["bbox"], "action": np.array(["squat"]),
            "view": np.array(["front"]), "train": np.array([-1]), "height_width_frames": np.array([[240, 320, 3]]),
            **changes,
        },
    )  # fmt: skip
    return path


def test_all_in_one(tmp_path: Path) -> None:
    path = archive(tmp_path / "all.npz")
    for place in (path, tmp_path):
        assert detect(place)[0] == "penn"
        check(read_dataset(place))


def test_boxes_that_are_missing(tmp_path: Path) -> None:
    said: list[str] = []
    boxes = np.array([[81.0, 11, 121, 161], [5, 5, 5, 9]])
    dataset = read_dataset(written(tmp_path, bbox=boxes), warn=said.append)
    assert [r.instances[0].box_xyxy is None for r in dataset.records] == [False, True, True]
    assert "2 boxes for 3 frames" in said[0] and "1 boxes enclose nothing" in said[1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"visibility": np.full((3, 13), 2.0)}, "frame 1: visibility of 'head' is 2"),
        ({"x": np.zeros((3, 14))}, "x: an array of 3 x 14 where numbers of n x 13 are due"),
        ({"y": np.zeros((2, 13))}, "y: an array of 2 x 13 where numbers of 3 x 13 are due"),
        ({"x": np.full((3, 13), np.nan)}, "frame 1: a coordinate of 'head' is not finite"),
        ({"nframes": np.array([[4.0]])}, "3 rows, nframes 4, dimensions for 3 frames"),
        ({"train": np.array([[0.0]])}, "train is 0, not 1 or -1"),
        ({"bbox": np.zeros((4, 4))}, "4 boxes for 3 frames"),
        ({"dimensions": np.array([[0.0, 320, 3]])}, "320 x 0 is not a picture's size"),
    ],
)
def test_faults_are_named(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(written(tmp_path, **bad))
    assert "0007.mat" in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"offset": np.array([1])}, "sequence 7: rows 1 to 4 of 3"),
        ({"x": np.zeros((3, 12))}, "x: an array of 3 x 12"),
        ({"action": np.array([5])}, "action is not 1 texts"),
        ({"visibility": np.full((3, 13), -1)}, "sequence 7, frame 1: visibility of 'head' is -1"),
        ({"sequence": np.array([{"a": 1}], dtype=object)}, "they may carry code"),
    ],
)
def test_faults_of_the_archive_are_named(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "all.npz", **bad)
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(path)
    assert "all.npz" in str(caught.value)


def test_an_archive_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posecli.formats.arrays.SMALL", 1 << 16)
    path = tmp_path / "all.npz"
    one = sequence()
    np.savez_compressed(path, **dict.fromkeys(penn._NPZ, one["x"]), much=np.zeros((500, 500)))
    with pytest.raises(PoseError, match="it unpacks from"):
        read_dataset(path)


def test_originals_left_and_right(shared: Path) -> None:
    """In the 59 original files the person's left lies at the larger x from the front, and the other way from behind."""
    dataset = read_dataset(shared / "data/penn_action_labels/labels")
    assert len(dataset.videos) == 59
    view = {v.id: v.tags[1] for v in dataset.videos}
    left, right = PENNACTION13.index("left_shoulder"), PENNACTION13.index("right_shoulder")
    agree: dict[str, list[bool]] = {"front": [], "back": []}
    for record in dataset.records:
        person = record.instances[0]
        where = view[record.video_id or 0]
        if where in agree and (person.visibility[[left, right]] == 2).all():
            agree[where].append(bool(person.xy[left, 0] > person.xy[right, 0]))
    assert len(agree["front"]) > 300 and np.mean(agree["front"]) > 0.9
    assert len(agree["back"]) > 300 and np.mean(agree["back"]) < 0.3


def test_the_archive_of_all(shared: Path, tmp_path: Path) -> None:
    folder = shared / "data/penn_action_labels"
    name, reason = detect(folder)
    assert name == "penn" and "59 .mat files beside it are not read" in reason
    said: list[str] = []
    dataset = read_dataset(folder, every=100, warn=said.append)
    assert len(dataset.videos) == 2326 and sum(v.num_frames for v in dataset.videos) == 163841
    assert len(said) == 1 and "boxes enclose nothing" in said[0]
    originals = {r.image_id: r.instances[0] for r in read_dataset(folder / "labels", every=100).records}
    both = [r for r in dataset.records if r.image_id in originals]
    assert len(both) == len(originals) >= 59
    for record in both:  # the archive has 32-bit numbers
        person, original = record.instances[0], originals[record.image_id]
        assert np.array_equal(person.visibility, original.visibility)
        assert np.allclose(person.xy, original.xy, atol=1e-4, equal_nan=True)
    coco.write(dataset, tmp_path / "o.json")
    again = coco.read(tmp_path / "o.json")
    assert [r.frame_id for r in again.records] == [r.frame_id for r in dataset.records]
