"""PoseTrack18: videos and 0-based frames, ignore regions, head boxes, visibility 0 and 1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset
from posecli.skeletons import POSETRACK18


def video(vid: str = "000012", frames: tuple[int, ...] = (0, 4), sizes: bool = True) -> dict[str, Any]:
    images, people = [], []
    for f in frames:
        image_id = int(f"1{vid}{f:04d}")
        image = {
            "id": image_id, "frame_id": image_id, "vid_id": vid, "nframes": 30, "is_labeled": f < 10,
            "file_name": f"images/val/{vid}_mpii_test/{f:06d}.jpg",
        }  # fmt: skip
        if sizes:
            image |= {"width": 80, "height": 60}
        if f == 0:
            image |= {"ignore_regions_x": [[0, 10, 10, 0], [5, 5]], "ignore_regions_y": [[0, 0, 20, 20], [1, 1]]}
        images.append(image)
        points = [n for j in range(17) for n in (10 + j, 20, int(j not in (3, 4)))]
        if f < 10:
            people.append(
                {
                    "id": image_id * 100, "image_id": image_id, "category_id": 1, "track_id": 3, "keypoints": points,
                    "bbox": [5, 5, 40, 40], "bbox_head": [10, 8, 6, 7], "scores": [],
                }
            )  # fmt: skip
    names = list(POSETRACK18.keypoints)
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person", "keypoints": names}]}


def release(tmp_path: Path, *videos: dict[str, Any]) -> Path:
    folder = tmp_path / "annotations/val"
    folder.mkdir(parents=True)
    for n, content in enumerate(videos):
        (folder / f"{n:06d}_mpii_test.json").write_text(json.dumps(content))
    return tmp_path


def test_a_json_a_video(tmp_path: Path) -> None:
    root = release(tmp_path, video(), video("000034", (2, 12)))
    for place in (root, root / "annotations/val"):
        assert detect(place)[0] == "posetrack"
    said: list[str] = []
    dataset = read_dataset(root, warn=said.append)
    assert dataset.skeleton is POSETRACK18 and said == [s for s in said if "enclose nothing" in s] and len(said) == 1
    assert [(v.id, v.name, v.num_frames, v.tags) for v in dataset.videos] == [
        (1, "000012_mpii_test", 30, ("val",)),
        (2, "000034_mpii_test", 30, ("val",)),
    ]
    assert [(r.video_id, r.frame_id, r.image_id) for r in dataset.records] == [
        (1, 0, 10000120000), (1, 4, 10000120004), (2, 2, 10000340002), (2, 12, 10000340012),
    ]  # fmt: skip
    region, person = sorted(dataset.records[0].instances, key=lambda p: not p.ignore)
    assert person.visibility.tolist() == [1, 1, 1, 0, 0] + [1] * 12 and person.track_id == 3
    assert person.head_box_xyxy is not None and person.head_box_xyxy.tolist() == [10, 8, 16, 15]
    assert region.ignore and region.area == 200 and region.extra["ignore_region"] is True
    assert region.box_xyxy is not None and region.box_xyxy.tolist() == [0, 0, 10, 20]
    assert region.extra["segmentation"] == [[0, 0, 10, 0, 10, 20, 0, 20]]
    assert dataset.records[0].extra["ignore_regions_x"] == [[0, 10, 10, 0], [5, 5]]
    assert dataset.records[3].extra["is_labeled"] is False and dataset.records[3].instances == ()


def test_what_is_written_is_not_taken_for_the_release_again(tmp_path: Path) -> None:
    dataset = read_dataset(release(tmp_path, video()), warn=lambda message: None)
    coco.write(dataset, tmp_path / "o.json")
    assert detect(tmp_path / "o.json")[0] == "coco"
    again = read_dataset(tmp_path / "o.json")
    assert [len(r.instances) for r in again.records] == [len(r.instances) for r in dataset.records]
    assert [(r.video_id, r.frame_id) for r in again.records] == [(1, 0), (1, 4)]
    from pycocotools.coco import COCO

    loaded = COCO(str(tmp_path / "o.json"))
    crowd = loaded.loadAnns(loaded.getAnnIds(iscrowd=True))[0]
    assert loaded.annToMask(crowd).sum() == 200


def test_sizes_come_from_the_pictures(tmp_path: Path, make_picture: Any) -> None:
    root = release(tmp_path, video(sizes=False))
    with pytest.raises(PoseError, match=r"image 10000120000: no width and height.*--image-root"):
        read_dataset(root)
    make_picture(root / "images/val/000012_mpii_test/000004.jpg", (70, 50))
    assert {(r.width, r.height) for r in read_dataset(root, warn=lambda m: None).records} == {(70, 50)}


def test_a_test_video_has_no_annotations(tmp_path: Path) -> None:
    content = video()
    del content["annotations"]
    assert all(
        p.ignore for r in read_dataset(release(tmp_path, content), warn=lambda m: None).records for p in r.instances
    )


def edited(change: Any) -> dict[str, Any]:
    content = video()
    change(content)
    return content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["annotations"][0].update(keypoints=[1, 2, 2] * 17),
            "annotation 1000012000000: v is 2; PoseTrack18 has",
        ),
        (lambda c: c["annotations"][0].update(keypoints=[1, 2, 1] * 16), "16 keypoints where the category names 17"),
        (lambda c: c["annotations"][0].update(keypoints=[float("inf"), 2, 1] * 17), "a coordinate is not finite"),
        (lambda c: c["annotations"][0].update(bbox_head=[1, 2, -3, 4]), "head_box .* has a negative size"),
        (lambda c: c["annotations"][0].update(image_id=5), "unknown image id 5"),
        (lambda c: c["images"][0].update(ignore_regions_y=[[0]]), "image 10000120000: ignore_regions_x and"),
        (lambda c: c["images"][0].update(ignore_regions_y=[[0], [1, 1]]), "ignore region 0 has not as many x as y"),
        (lambda c: c["images"][0].update(file_name="a.jpg"), "file_name 'a.jpg' is not <video>/<frame number>"),
        (lambda c: c["images"][0].pop("vid_id"), "image 10000120000: no 'vid_id'"),
        (
            lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]),
            "frame 0 of 000012_mpii_test stands twice",
        ),
        (lambda c: c["categories"][0]["keypoints"].reverse(), "its joints are not the 17 of posetrack18"),
    ],
)
def test_faults_are_named(change: Any, message: str, tmp_path: Path) -> None:
    root = release(tmp_path, edited(change))
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(root, "posetrack", warn=lambda m: None)
    assert "000000_mpii_test.json" in str(caught.value)


def test_several_splits(tmp_path: Path) -> None:
    root = release(tmp_path, video())
    (root / "annotations/train").mkdir()
    (root / "annotations/train/a.json").write_text(json.dumps(video("000056")))
    with pytest.raises(PoseError, match=r"several splits: annotations/train, annotations/val \(name the folder of one"):
        read_dataset(root)


def test_sample(shared: Path) -> None:
    folder = shared / "data/posetrack18"
    whole = read_dataset(folder, warn=lambda m: None)
    parts = read_dataset(folder / "annotations/val", warn=lambda m: None)
    for dataset in (whole, parts):
        people = [i for r in dataset.records for i in r.instances if not i.ignore]
        assert len(people) == 14 and all(p.head_box_xyxy is not None and p.track_id is not None for p in people)
        assert coco.absent_files(dataset) == [] and all(r.frame_id == 0 for r in dataset.records)
        assert {int(v) for p in people for v in np.unique(p.visibility)} == {0, 1}
        assert sum(i.ignore for r in dataset.records for i in r.instances) == 15
    assert sorted(r.file_name for r in whole.records) == sorted(r.file_name for r in parts.records)
