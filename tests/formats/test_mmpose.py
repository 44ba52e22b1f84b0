"""Results of mmpose's inferencer and of its demos as poses and as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.formats import detect, read_dataset
from posecli.metrics import evaluate
from posecli.skeletons import COCO17, CROWDPOSE14
from posecli.types import Dataset, Instance, Record, Video

POINTS = [[10.0 + k, 20.5] for k in range(17)]


def person(**more: Any) -> dict[str, Any]:
    """Somebody as `split_instances` of mmpose writes people: the box in one list more than one expects."""
    return {
        "keypoints": POINTS, "keypoint_scores": [0.5] * 17, "bbox": [[1.5, 2.5, 31.5, 42.5]], "bbox_score": 0.8, **more,
    }  # fmt: skip


def meta(names: tuple[str, ...] = COCO17.keypoints, **more: Any) -> dict[str, Any]:
    """``dataset_meta`` as json_tricks writes it."""
    array = {"__ndarray__": [0.05] * len(names), "dtype": "float32", "shape": [len(names)]}
    told = {
        "dataset_name": "x",
        "keypoint_id2name": {str(k): n for k, n in enumerate(names)},
        "skeleton_links": [[0, 1]],
    }
    return {**told, "sigmas": array, **more}


def frames(*numbers: int) -> list[dict[str, Any]]:
    return [{"frame_id": n, "instances": [person()]} for n in numbers]


def save(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2))
    return path


def test_a_folder_of_pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    for name in ("a", "b", "c"):
        make_picture(tmp_path / f"images/deep/{name}.jpg", (64, 48))
    scores = [0.0, 1.25, 0.1, -0.5, *[0.5] * 13]
    save(tmp_path / "predictions/a.json", [])
    save(tmp_path / "predictions/b.json", [person(), person(keypoint_scores=scores, track_id=4, note=7)])
    save(tmp_path / "predictions/c.json", [{"keypoints": POINTS, "keypoint_scores": [0.5] * 17}])
    folder = tmp_path / "predictions"
    assert detect(folder) == ("mmpose", "3 files, b.json: people with keypoints and keypoint_scores")
    notes: list[str] = []
    dataset = read_dataset(folder, skeleton="coco17", image_root=tmp_path / "images", warn=notes.append)
    assert [r.file_name for r in dataset.records] == ["deep/a.jpg", "deep/b.jpg", "deep/c.jpg"]
    assert [len(r.instances) for r in dataset.records] == [0, 2, 1]
    first, second = dataset.records[1].instances
    assert first.person_score == pytest.approx(0.8 * 0.5) and first.extra == {"bbox_score": 0.8}
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [1.5, 2.5, 31.5, 42.5]
    assert first.xy[3].tolist() == [13.0, 20.5] and (first.visibility == 2).all()
    # Joints 0 and 3 were not found; joint 2 is too uncertain to count: 0.8 (1 + 13 x 0.5) / 14.
    assert second.visibility[:4].tolist() == [0, 2, 1, 0] and second.score[1] == 1 and np.isnan(second.xy[3]).all()
    assert second.person_score == pytest.approx(0.8 * (1 + 13 * 0.5) / 14, abs=1e-4)
    assert second.track_id == 4 and second.extra["note"] == 7
    assert dataset.records[2].instances[0].person_score == 0.5 and dataset.records[2].instances[0].box_xyxy is None
    assert notes == [f"{folder}: 1 joint scores above 1 count as 1"]
    with pytest.raises(PoseError, match=r"17 a person.*--skeleton"):
        read_dataset(folder, image_root=tmp_path / "images")
    with pytest.raises(PoseError, match=r"nothing says where the pictures.*--image-root"):
        read_dataset(folder, skeleton="coco17")


@pytest.mark.parametrize("by", ["folder", "video"])
def test_frames_are_counted_from_1_by_demos_only(tmp_path: Path, make_video: Callable[..., Path], by: str) -> None:
    video = make_video(tmp_path / "videos/walk.mp4", 4)
    root = video if by == "video" else video.parent
    inferred = save(tmp_path / "walk.json", frames(0, 1, 3))
    demo = save(tmp_path / "results_walk.json", {"meta_info": meta(), "instance_info": frames(1, 2, 4)})
    changed = save(tmp_path / "more/walk.json", {"meta_info": meta(), "instance_info": frames(0, 1, 3)})
    for path, skeleton in ((inferred, "coco17"), (demo, None), (changed, None)):
        dataset = read_dataset(path, skeleton=skeleton, image_root=root)
        assert [r.frame_id for r in dataset.records] == [0, 1, 3], path
        assert dataset.skeleton == COCO17 and dataset.videos[0].file_name == "walk.mp4"
    save(inferred, frames(0, 4))
    with pytest.raises(PoseError, match=r"frame 4, but walk.mp4 has 4 frames"):
        read_dataset(inferred, skeleton="coco17", image_root=root)


def test_joints_as_the_demos_describe_them(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    make_picture(tmp_path / "a.jpg")
    some = {**person(), "keypoints": POINTS[:3], "keypoint_scores": [0.5] * 3}
    for names, links, expected in (
        (("tip", "left_end", "right_end"), [[0, 1], [1, 2]], ((0, 1), (1, 2))),
        (("tip", "left_end", "right_end"), [], ()),
    ):
        value = {"meta_info": meta(names, skeleton_links=links), "instance_info": [some]}
        path = save(tmp_path / "r/results_a.json", value)
        assert detect(path) == ("mmpose", "it has meta_info and instance_info")
        skeleton = read_dataset(path, image_root=tmp_path).skeleton
        assert skeleton.keypoints == names and skeleton.edges == expected and skeleton.sigmas == (0.05,) * 3
        assert skeleton.flip_pairs == ((1, 2),)
    crowd = {**person(), "keypoints": POINTS[:14], "keypoint_scores": [0.5] * 14}
    save(path, {"meta_info": meta(CROWDPOSE14.keypoints), "instance_info": [crowd]})
    assert read_dataset(path, image_root=tmp_path).skeleton == CROWDPOSE14  # with the sigmas that are its own


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([person(), person(keypoints=POINTS[:9])], "person 1: 9 keypoints, but skeleton 'coco17' has 17 joints"),
        ([person(), person(keypoint_scores=None)], "person 1: no list 'keypoint_scores'"),
        ([person(keypoints=[[1, 2, 3]] * 17)], "person 0: three numbers a joint"),
        ([person(keypoints=[[1, float("nan")], *POINTS[1:]])], "person 0: nose: not x and y"),
        ([person(keypoint_scores=["x", *[0.5] * 16])], "person 0: nose: the score is no finite number"),
        ([person(bbox=[5, 5, 1, 9])], "person 0: bbox [5, 5, 1, 9] has a negative size"),
        ([person(bbox=[[1, 2]])], "person 0: bbox is not four numbers"),
        ([person(bbox_score="x")], "person 0: bbox_score is 'x'"),
        ([person(track_id="x")], "person 0: track_id is 'x'"),
        ([person(), 7], "person 1: not an object"),
        ([*frames(0), {"frame_id": "1"}], "entry 1: frame_id is '1', not a frame's number"),
        (frames(0, 0), "entry 1: frame 0 a second time"),
        ([*frames(0), {"frame_id": 1}], "entry 1: no list 'instances'"),
        ({"instance_info": []}, "no object 'meta_info'"),
        ({"meta_info": {}, "instance_info": {}}, "no list of people or frames"),
    ],
)  # fmt: skip
def test_errors_name_file_and_person(
    tmp_path: Path, make_picture: Callable[..., Path], value: Any, message: str
) -> None:
    make_picture(tmp_path / "p.jpg")
    path = save(tmp_path / "r/p.json", value)
    with pytest.raises(PoseError) as error:
        read_dataset(path, "mmpose", skeleton="coco17", image_root=tmp_path)
    assert message in str(error.value) and "p.json" in str(error.value)


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ({}, "keypoint_id2name does not name the joints 0, 1, ..."),
        (meta(skeleton_links=[[0]]), "skeleton_links is no list of pairs"),
        (meta(("a", "b"), skeleton_links=[[0, 5]]), "edge (0, 5) does not name two of the 2 keypoints"),
        (meta(("a", "b"), sigmas="x"), "sigmas is no list of numbers"),
        (meta(("a", "b"), sigmas=[0.1]), "1 sigmas for 2 keypoints"),
        (meta(("a", "b")), "17 joints a person, but skeleton 'custom2' has 2"),
    ],
)
def test_errors_of_the_description(tmp_path: Path, described: dict[str, Any], message: str) -> None:
    path = save(tmp_path / "r.json", {"meta_info": described, "instance_info": [person()]})
    with pytest.raises(PoseError) as error:
        read_dataset(path, "mmpose", image_root=tmp_path)
    assert message in str(error.value) and "r.json" in str(error.value)


def test_pictures_and_videos_that_are_not_there(
    tmp_path: Path, make_video: Callable[..., Path], make_picture: Callable[..., Path]
) -> None:
    picture, video = save(tmp_path / "r/gone.json", [person()]), save(tmp_path / "r/walk.json", frames(0))
    with pytest.raises(PoseError, match=r"0 pictures in .* are called 'gone'"):
        read_dataset(picture, skeleton="coco17", image_root=tmp_path)
    with pytest.raises(PoseError, match=r"no video in .* is called walk \(say which it is with --image-root VIDEO"):
        read_dataset(video, skeleton="coco17", image_root=tmp_path)
    with pytest.raises(PoseError, match="the people of a picture, not of a video's frames"):
        read_dataset(picture, skeleton="coco17", image_root=make_video(tmp_path / "walk.mp4", 2))


def test_evaluate_takes_sizes_from_the_labels(tmp_path: Path) -> None:
    """No picture and no video is there; what has no labels is counted."""
    xy = np.array(POINTS)
    somebody = Instance(xy, np.full(17, 2), np.ones(17), area=900.0, box_xyxy=np.array([1.0, 2, 31, 42]))
    pictures = Dataset(COCO17, tuple(Record(n, f"x/{n}.jpg", 64, 48, (somebody,)) for n in (1, 2)))
    for name in ("1", "2", "3"):
        save(tmp_path / f"predictions/{name}.json", [person()] if name != "2" else [])
    result = evaluate(pictures, tmp_path / "predictions", metrics=["oks", "pck"], pred_skeleton=COCO17)
    assert result["all"]["mean_OKS"] == pytest.approx(1 / 2)
    assert result["frames"]["predicted_without_labels"] == 1
    records = tuple(Record(n + 1, "walk.mp4", 64, 48, (somebody,), 1, n) for n in range(4))
    video = Dataset(COCO17, records, (Video(1, "walk", "walk.mp4", 64, 48, 25.0, 4),))
    path = save(tmp_path / "results_walk.json", {"meta_info": meta(), "instance_info": frames(1, 2, 3)})
    assert evaluate(video, path)["all"]["mean_OKS"] == pytest.approx(3 / 4)
