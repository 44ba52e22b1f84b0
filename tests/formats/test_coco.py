"""COCO keypoint files: checks, round trips, the skeleton that travels with them, the public samples."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.errors import PoseError
from posecli.formats import coco
from posecli.formats.joint_names import skeleton_from_names
from posecli.skeletons import COCO17, CROWDPOSE14, LSP14, MPII16
from posecli.types import Dataset, Instance, Record, Skeleton, Video


def small() -> dict[str, Any]:
    """One image with one person of three joints, one crowd with run-length mask."""
    return {
        "info": {"description": "small", "year": 2026},
        "licenses": [{"id": 1, "name": "CC", "url": "u"}],
        "images": [{"id": 7, "file_name": "a.jpg", "width": 64, "height": 48, "license": 1, "flickr": "x"}],
        "annotations": [
            {
                "id": 5,
                "image_id": 7,
                "category_id": 1,
                "keypoints": [1.25, 2, 2, 3, 4, 1, 9, 9, 0],
                "num_keypoints": 2,
                "bbox": [1, 2, 10, 20],
                "area": 123.5,
                "iscrowd": 0,
                "segmentation": [[1, 2, 3, 4, 5, 6]],
                "odd_key": {"a": [1]},
            },
            {
                "id": 6,
                "image_id": 7,
                "category_id": 1,
                "bbox": [0, 0, 30, 30],
                "area": 900,
                "iscrowd": 1,
                "segmentation": {"size": [48, 64], "counts": [3, 5]},
            },
        ],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["nose", "left_hand", "right_hand"], "skeleton": [[1, 2], [1, 3]]}
        ],
    }


def load(value: Any, folder: Path, **options: Any) -> Dataset:
    path = folder / "in.json"
    path.write_text(json.dumps(value))
    return coco.read(path, **options)


def test_reads_what_it_says(tmp_path: Path) -> None:
    dataset = load(small(), tmp_path)
    (record,) = dataset.records
    person, crowd = record.instances
    assert record.image_id == 7 and record.extra == {"license": 1, "flickr": "x"}
    assert person.visibility.tolist() == [2, 1, 0]
    assert person.xy[:2].tolist() == [[1.25, 2], [3, 4]] and np.isnan(person.xy[2]).all()
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [1, 2, 11, 22]  # x y w h on disk, corners here
    assert person.area == 123.5 and not person.ignore
    assert person.extra == {"id": 5, "segmentation": [[1, 2, 3, 4, 5, 6]], "odd_key": {"a": [1]}}
    assert crowd.ignore and crowd.visibility.tolist() == [0, 0, 0]
    assert crowd.extra["segmentation"] == {"size": [48, 64], "counts": [3, 5]}
    assert dataset.skeleton.keypoints == ("nose", "left_hand", "right_hand")
    assert dataset.skeleton.edges == ((0, 1), (0, 2)) and dataset.skeleton.flip_pairs == ((1, 2),)
    assert dataset.skeleton.sigmas == ()  # nobody stated any: not guessed


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    dataset = load(small(), tmp_path)
    coco.write(dataset, tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    source = small()
    assert written["info"] == source["info"] and written["licenses"] == source["licenses"]
    assert written["images"] == source["images"]
    person, crowd = written["annotations"]
    assert person == source["annotations"][0] | {"keypoints": [1.25, 2, 2, 3, 4, 1, 0, 0, 0]}
    assert crowd == source["annotations"][1] | {"keypoints": [0] * 9, "num_keypoints": 0}
    again = coco.read(tmp_path / "out.json")
    assert coco.to_json(again) == coco.to_json(dataset)
    assert again.skeleton == dataset.skeleton


WRONG: list[tuple[str, Any, str]] = [
    ("annotations.0.keypoints", [1, 2, 2], "annotation 5: 1 keypoints where the category names 3"),
    ("annotations.0.keypoints.0", "x", "annotation 5, keypoint 0: 'x' is not a number"),
    ("annotations.0.keypoints.4", float("nan"), "annotation 5, keypoint 1: a coordinate is not finite"),
    ("annotations.0.keypoints.3", float("inf"), "annotation 5, keypoint 1: a coordinate is not finite"),
    ("annotations.0.keypoints.2", 3, "annotation 5, keypoint 0: v is 3, not 0, 1 or 2"),
    ("annotations.0.keypoints.2", 0.5, "annotation 5, keypoint 0: v is 0.5"),
    ("annotations.0.image_id", 8, "annotation 5: unknown image id 8"),
    ("annotations.1.id", 5, "annotation 5: the annotation id is used twice"),
    ("annotations.0.bbox", [1, 2, -3, 4], "annotation 5: bbox [1, 2, -3, 4] has a negative size"),
    ("annotations.0.bbox", [1, 2, 3], "annotation 5: bbox [1, 2, 3] is not 4 finite numbers"),
    ("annotations.0.area", "big", "annotation 5: area 'big' is not a number"),
    ("annotations.0.track_id", "one", "annotation 5: track_id 'one' is not a whole number"),
    ("images.0.width", 0, "image 7: 0 x 48 is not a picture's size"),
    ("images.0.id", None, "images[0]: image id None"),
    ("categories.0.skeleton.0", [1], "category 1: skeleton edge [1] is not a pair"),
    ("categories.0.keypoints", [], "no category names its keypoints"),
    ("categories.0.keypoints.1", "nose", "keypoint names must be given and unique"),
    ("categories", {}, "no list 'categories'"),
]


@pytest.mark.parametrize(("place", "value", "message"), WRONG)
def test_names_file_and_record(place: str, value: Any, message: str, tmp_path: Path) -> None:
    data: Any = small()
    *path, last = (int(p) if p.isdigit() else p for p in place.split("."))
    at = data
    for step in path:
        at = at[step]
    at[last] = value
    with pytest.raises(PoseError) as caught:
        load(data, tmp_path)
    assert str(tmp_path / "in.json") in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["id", "file_name", "width", "height"])
def test_missing_image_key(key: str, tmp_path: Path) -> None:
    data = small()
    del data["images"][0][key]
    with pytest.raises(PoseError, match=rf"images\[0\]: no '{key}'"):
        load(data, tmp_path)


def test_pictures_among_frames_may_say_null(tmp_path: Path) -> None:
    data = small()
    data["videos"] = [{"id": 1, "name": "walk", "file_name": "walk.mp4"}]
    data["images"][0] |= {"video_id": None, "frame_id": None}
    data["images"].append({"id": 8, "file_name": "walk.mp4", "width": 64, "height": 48, "video_id": 1, "frame_id": 3})
    records = load(data, tmp_path).records
    assert [(r.video_id, r.frame_id) for r in records] == [(None, None), (1, 3)]
    coco.write(load(data, tmp_path), tmp_path / "out.json")
    assert coco.read(tmp_path / "out.json").records[1].frame_id == 3


def test_image_id_twice(tmp_path: Path) -> None:
    data = small()
    data["images"].append(dict(data["images"][0]))
    with pytest.raises(PoseError, match=r"images\[1\]: image id 7 is used twice"):
        load(data, tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not JSON"), (b'{"images": [}', "line 1, column 13"), (b"[]", "a list"), (b"\xff\xfe\x00", "UTF-8")],
)
def test_not_what_it_claims(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(PoseError, match=message):
        coco.read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=r"none\.json: cannot read"):
        coco.read(tmp_path / "none.json")


def test_skeleton_travels() -> None:
    custom = Skeleton(
        "mine", ("hub", "left_arm", "right_arm"), ((0, 1),), (0.1, 0.2, 0.3), head=("hub", "left_arm"), limbs=((0, 2),)
    )
    value = json.loads(json.dumps(coco.to_json(Dataset(custom, ()))))
    assert value["categories"][0]["skeleton"] == [[1, 2]]  # COCO counts joints from 1
    assert coco.from_json(value, "x").skeleton == custom


def test_skeleton_block_without_edges_takes_coco_edges() -> None:
    value = coco.to_json(Dataset(COCO17, ()))
    assert "edges" not in value["categories"][0]["posecli"]
    assert coco.from_json(value, "x").skeleton == COCO17


def test_skeleton_by_names_not_by_count() -> None:
    assert skeleton_from_names(["Right-ankle", *MPII16.keypoints[1:]]) is MPII16
    assert skeleton_from_names([n.replace("top_head", "head") for n in CROWDPOSE14.keypoints]) is CROWDPOSE14
    fourteen = skeleton_from_names([f"joint{i}" for i in range(14)])
    assert fourteen.name == "custom14" and fourteen.sigmas == ()


def test_reordered_joints_take_their_sigmas_along() -> None:
    order = [*range(16, -1, -1)]
    found = skeleton_from_names([COCO17.keypoints[i] for i in order])
    assert found.name == "coco17_reordered"
    assert found.sigmas == tuple(COCO17.sigmas[i] for i in order)
    assert {frozenset(found.keypoints[i] for i in e) for e in found.edges} == {
        frozenset(COCO17.keypoints[i] for i in e) for e in COCO17.edges
    }
    # LSP and AI Challenger have the same joints but different sigmas: in another order nobody can say which.
    assert skeleton_from_names(list(reversed(LSP14.keypoints))).sigmas == ()


def test_override_must_have_the_same_joints(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="does not have the file's joints"):
        load(small(), tmp_path, skeleton=COCO17)
    named = Skeleton("mine", ("nose", "left_hand", "right_hand"), sigmas=(0.1, 0.1, 0.1))
    assert load(small(), tmp_path, skeleton=named).skeleton == named


def test_boxes_only_need_a_skeleton(tmp_path: Path) -> None:
    data = small()
    del data["categories"][0]["keypoints"]
    del data["annotations"][0]["keypoints"], data["annotations"][0]["num_keypoints"]
    dataset = load(data, tmp_path, skeleton=COCO17)
    assert [i.visibility.sum() for i in dataset.records[0].instances] == [0, 0]


def test_edges_beyond_the_joints_are_said(tmp_path: Path) -> None:
    data = small()
    data["categories"][0]["skeleton"].append([2, 16])
    said: list[str] = []
    assert len(load(data, tmp_path, warn=said.append).skeleton.edges) == 2
    assert "1 skeleton edges name joints beyond the 3" in said[0]


@pytest.mark.parametrize(
    ("pairs", "edges", "told"),
    [
        ([[0, 1], [1, 2]], ((0, 1), (1, 2)), "counts joints from 0, COCO from 1"),
        ([[1, 2], [2, 3]], ((0, 1), (1, 2)), None),
        ([[0, 1], [2, 3]], ((1, 2),), "1 skeleton edges name joints beyond the 3"),  # neither from 0 nor from 1
    ],
)
def test_edges_that_count_from_0(tmp_path: Path, pairs: list, edges: tuple, told: str | None) -> None:
    """The edge with the 0 was left out and all others were one joint off."""
    data = small()
    data["categories"][0]["skeleton"] = pairs
    said: list[str] = []
    assert load(data, tmp_path, warn=said.append).skeleton.edges == edges
    assert len(said) == (told is not None) and all(told in s for s in said if told)


def test_wrong_num_keypoints_and_other_categories_are_said(tmp_path: Path) -> None:
    data = small()
    data["annotations"][0]["num_keypoints"] = 17
    data["categories"].append({"id": 2, "name": "dog"})
    data["annotations"].append({"id": 9, "image_id": 7, "category_id": 2, "bbox": [0, 0, 1, 1]})
    said: list[str] = []
    dataset = load(data, tmp_path, warn=said.append)
    assert len(dataset.records[0].instances) == 2
    assert any("1 annotations of other categories" in s for s in said)
    assert any("annotation 5: num_keypoints is not the count" in s for s in said)


@pytest.mark.parametrize("category", [0, "1"])
def test_a_category_that_is_not_listed_is_refused(tmp_path: Path, category: Any) -> None:
    """Everybody would be left out as an annotation of another category."""
    data = small()
    data["annotations"][1]["category_id"] = category
    with pytest.raises(PoseError, match=rf"annotation 6: unknown category id {category!r} \(the file has 1 person\)"):
        load(data, tmp_path)


def test_the_category_keeps_its_id_its_name_and_further_keys(tmp_path: Path) -> None:
    data = small()
    data["categories"][0] |= {"id": 3, "name": "player", "supercategory": "sport", "color": "#f00"}
    for annotation in data["annotations"]:
        annotation["category_id"] = 3
    dataset = load(data, tmp_path, warn=pytest.fail)
    again = coco.to_json(dataset)
    (category,) = again["categories"]
    assert {k: category[k] for k in data["categories"][0]} == data["categories"][0]
    assert {a["category_id"] for a in again["annotations"]} == {3}
    coco.write(dataset, tmp_path / "again.json")
    assert coco.to_json(coco.read(tmp_path / "again.json", warn=pytest.fail)) == again


def test_several_categories_of_the_same_joints_are_taken_as_one_and_said(tmp_path: Path) -> None:
    data = small()
    data["categories"] = [
        {**data["categories"][0], "id": n, "name": name} for n, name in ((1, "player"), (2, "referee"))
    ]
    data["annotations"][1]["category_id"] = 2
    said: list[str] = []
    dataset = load(data, tmp_path, warn=said.append)
    assert len(dataset.records[0].instances) == 2 and len(said) == 1
    assert said[0].endswith("2 categories (player, referee) were taken as one")
    assert [c["name"] for c in coco.to_json(dataset)["categories"]] == ["person"]


def test_of_categories_with_different_joints_the_people_are_taken(tmp_path: Path) -> None:
    data = small()
    data["categories"].append({"id": 2, "name": "dog", "keypoints": ["snout", "tail"]})
    data["annotations"].append({"id": 9, "image_id": 7, "category_id": 2, "keypoints": [1, 2, 2, 3, 4, 2]})
    said: list[str] = []
    dataset = load(data, tmp_path, warn=said.append)
    assert dataset.skeleton.keypoints[0] == "nose" and len(dataset.records[0].instances) == 2
    assert len(said) == 1 and "1 annotations of other categories were left out" in said[0]
    dogs = load(data, tmp_path, skeleton=Skeleton("dog", ("snout", "tail")), warn=said.append)
    assert len(dogs.records[0].instances) == 1 and coco.to_json(dogs)["categories"][0]["name"] == "dog"
    data["categories"][0]["name"] = "man"
    with pytest.raises(PoseError, match=r"categories with different joints: man, dog .*--skeleton"):
        load(data, tmp_path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "bom.json"
    path.write_text(json.dumps(small()), encoding="utf-8-sig")
    assert len(coco.read(path, warn=pytest.fail).records) == 1


def test_names_with_backslashes_are_folders_and_said_once(tmp_path: Path, make_picture: Any) -> None:
    data = small()
    data["images"] = [{**data["images"][0], "id": n, "file_name": f"sub\\p{n}.png"} for n in (7, 8)]
    data["images"].append({**data["images"][0], "id": 9, "file_name": "x/a\\b.png"})  # a letter of the name there
    make_picture(tmp_path / "sub" / "p7.png", (64, 48))
    said: list[str] = []
    dataset = load(data, tmp_path, warn=said.append)
    assert [r.file_name for r in dataset.records] == ["sub/p7.png", "sub/p8.png", "x/a\\b.png"]
    assert len(said) == 1 and "2 file names have backslashes" in said[0]
    assert coco.absent_files(dataset) == ["sub/p8.png", "x/a\\b.png"]


def test_sizes_may_be_whole_numbers_with_a_point(tmp_path: Path) -> None:
    data = small()
    data["images"][0] |= {"width": 64.0, "height": 48.0}
    (record,) = load(data, tmp_path).records
    assert (record.width, record.height) == (64, 48) and isinstance(record.width, int)
    data["images"][0]["width"] = 64.5
    with pytest.raises(PoseError, match=r"64\.5 x 48 is not a picture's size"):
        load(data, tmp_path)


def test_scores_of_missing_joints_say_nothing() -> None:
    """A stream has 0 there; labels that pass through it must not look like predictions."""
    visibility = np.array([2, 1, 0])
    person = Instance(np.zeros((3, 2)), visibility, np.array([1, 1, 0], np.float32))
    skeleton = Skeleton("three", ("a", "b", "c"))
    dataset = Dataset(skeleton, (Record(1, "a.jpg", 64, 48, (person,)),))
    assert "keypoint_scores" not in coco.to_json(dataset)["annotations"][0]


def test_ids_that_pycocotools_cannot_take_are_counted_anew(tmp_path: Path) -> None:
    data = small()
    data["annotations"][0]["id"] = 0  # pycocotools takes 0 for "no match"
    dataset = load(data, tmp_path)
    assert [a["id"] for a in coco.to_json(dataset)["annotations"]] == [1, 2]


def test_area_and_box_where_none_is_given() -> None:
    # Joint box 10 x 20: area 0.53 * 200 = 106.
    person = Instance(np.array([[0.0, 0], [10, 20], [3, 3]]), np.array([2, 1, 2]), np.ones(3))
    nobody = Instance(np.full((3, 2), np.nan), np.zeros(3, int), np.ones(3))
    skeleton = Skeleton("three", ("a", "b", "c"))
    value = coco.to_json(Dataset(skeleton, (Record(1, "a.jpg", 64, 48, (person, nobody)),)))
    assert value["annotations"][0]["bbox"] == [0, 0, 10, 20] and value["annotations"][0]["area"] == pytest.approx(106)
    assert value["annotations"][1]["bbox"] == [0, 0, 0, 0] and value["annotations"][1]["area"] == 0
    assert value["info"]["posecli"]["area_from_joint_box"] == 2
    assert coco.from_json(value, "x").records[0].instances[1].box_xyxy is None


@pytest.mark.parametrize(
    ("mask", "area"),
    [
        ([[1, 1, 41, 1, 41, 31, 1, 31]], 1200),
        ({"counts": [48, 48 * 9, 48 * 54], "size": [48, 64]}, 432),
        ([], 106), ([[1, 1, 5, 5]], 106), ({"counts": [1], "size": [4, 4]}, 106),  # nothing, a line, another picture's
    ],
)  # fmt: skip
def test_a_mask_without_an_area_gives_it(mask: Any, area: float) -> None:
    """As `evaluate` reads it; 0.53 of the joint box, written in its place, was then taken for the mask's area."""
    person = Instance(np.array([[0.0, 0], [10, 20]]), np.array([2, 2]), np.ones(2), extra={"segmentation": mask})
    value = coco.to_json(Dataset(Skeleton("two", ("a", "b")), (Record(1, "a.jpg", 64, 48, (person,)),)))
    assert value["annotations"][0]["area"] == pytest.approx(area)
    assert value["annotations"][0]["segmentation"] == mask
    assert value["info"].get("posecli", {}).get("area_from_joint_box", 0) == (area == 106)


def test_video_fields(tmp_path: Path) -> None:
    video = Video(3, "front/a", "front/a.mp4", 64, 48, 59.94, 100, ("front",), {"recording": "a"})
    head = np.array([1.0, 2, 3, 5])
    person = Instance(
        np.zeros((3, 2), np.float32), np.array([2, 2, 1]), np.array([1, 0.5, 0.25], np.float32), track_id=4,
        head_box_xyxy=head,
    )  # fmt: skip
    record = Record(1, "front/a.mp4", 64, 48, (person,), 3, 99, {"is_labeled": True})
    coco.write(Dataset(Skeleton("three", ("a", "b", "c")), (record,), (video,), str(tmp_path)), tmp_path / "o.json")
    value = json.loads((tmp_path / "o.json").read_text())
    assert value["videos"][0] == {
        "id": 3, "name": "front/a", "file_name": "front/a.mp4", "width": 64, "height": 48, "fps": 59.94,
        "num_frames": 100, "tags": ["front"], "recording": "a",
    }  # fmt: skip
    assert value["images"][0]["video_id"] == 3 and value["images"][0]["frame_id"] == 99
    assert value["annotations"][0]["head_box"] == [1, 2, 2, 3] and value["annotations"][0]["track_id"] == 4
    again = coco.read(tmp_path / "o.json")
    assert again.videos == (video,)
    assert again.records[0].instances[0].score.tolist() == [1, 0.5, 0.25]
    broken = copy.deepcopy(value)
    broken["images"][0]["video_id"] = 9
    with pytest.raises(PoseError, match="image 1: unknown video id 9"):
        coco.from_json(broken, "x")
    broken = copy.deepcopy(value)
    broken["images"][0]["frame_id"] = -1
    with pytest.raises(PoseError, match="frame_id -1"):
        coco.from_json(broken, "x")


def test_names_follow_the_json(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    dataset = load(small(), tmp_path / "data")
    coco.write(dataset, tmp_path / "out" / "deep" / "o.json")
    value = json.loads((tmp_path / "out/deep/o.json").read_text())
    assert value["images"][0]["file_name"] == "../../data/a.jpg"


def test_nothing_half_written(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text("old")
    person = Instance(np.full((3, 2), np.nan), np.full(3, 2), np.ones(3))  # claims joints but has none
    bad = Dataset(Skeleton("three", ("a", "b", "c")), (Record(1, "a.jpg", 64, 48, (person,)),))
    with pytest.raises(PoseError, match="not finite"):
        coco.write(bad, tmp_path / "o.json")
    assert (tmp_path / "o.json").read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "o.json"]


def test_absent_files_are_counted(tmp_path: Path, make_picture: Any) -> None:
    data = small()
    data["images"].append({"id": 8, "file_name": "b.jpg", "width": 4, "height": 4})
    make_picture(tmp_path / "b.jpg")
    assert coco.absent_files(load(data, tmp_path)) == ["a.jpg"]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.floats(-1e4, 1e4, allow_nan=False, width=32), st.floats(-1e4, 1e4, width=32), st.integers(0, 2)
            ),
            min_size=3,
            max_size=3,
        ),
        max_size=4,
    ),
    st.sampled_from([np.float32, np.float64]),
)
def test_any_people_survive(people: list[Any], kind: Any) -> None:
    instances = []
    for points in people:
        array = np.array(points, dtype=np.float64)
        visibility = array[:, 2].astype(int)
        xy = np.where(visibility[:, None] > 0, array[:, :2], np.nan).astype(kind)
        instances.append(Instance(xy, visibility, np.ones(3, np.float32), track_id=len(instances)))
    dataset = Dataset(Skeleton("three", ("a", "b", "c")), (Record(1, "a.jpg", 64, 48, tuple(instances)),))
    again = coco.from_json(json.loads(json.dumps(coco.to_json(dataset))), "x").records[0].instances
    assert len(again) == len(instances)
    for before, after in zip(instances, again, strict=True):
        assert after.visibility.tolist() == before.visibility.tolist() and after.track_id == before.track_id
        np.testing.assert_allclose(after.xy, before.xy, rtol=0, atol=0 if kind is np.float64 else 5e-4)


# Joints, people and skeleton of the public samples, counted by hand (data/README.md).
SAMPLES = [
    ("coco/test_coco.json", "coco17", 4, 14),
    ("coco_mini/annotations/person_keypoints_val2017.json", "coco17", 79, 118),
    ("crowdpose/test_crowdpose.json", "crowdpose14", 2, 5),
    ("aic/test_aic.json", "aic14", 3, 9),
    ("mhp/test_mhp.json", "mpii16", 2, 4),
    ("jhmdb/test_jhmdb_sub1.json", "jhmdb15", 3, 3),
    ("ochuman/test_ochuman.json", "coco17", 3, 5),
    ("posetrack18/annotations/test_posetrack18_val.json", "posetrack18", 3, 14),
    ("people_keypoints_extra/basketball/annotations.json", "custom18", 72, 72),
]


@pytest.mark.parametrize(("name", "skeleton", "images", "people"), SAMPLES)
def test_public_samples(shared: Path, name: str, skeleton: str, images: int, people: int, tmp_path: Path) -> None:
    path = shared / "data" / name
    dataset = coco.read(path, warn=lambda message: None)
    assert dataset.skeleton.name == skeleton and len(dataset.records) == images
    assert sum(len(r.instances) for r in dataset.records) == people
    assert coco.absent_files(dataset) == []  # pictures are found beside the JSON or where the set keeps them
    coco.write(dataset, tmp_path / "o.json")
    source = {a["id"]: a for a in json.loads(path.read_text())["annotations"]}
    for entry in json.loads((tmp_path / "o.json").read_text())["annotations"]:
        original = source[entry["id"]]
        assert entry["keypoints"][2::3] == original["keypoints"][2::3]  # v exactly, 0/1/2 or PoseTrack's 0/1
        for i, v in enumerate(original["keypoints"][2::3]):
            if v:
                assert entry["keypoints"][3 * i : 3 * i + 2] == original["keypoints"][3 * i : 3 * i + 2]
        assert entry["bbox"] == pytest.approx(original["bbox"], abs=1e-6)
        assert entry.get("segmentation") == original.get("segmentation")


def test_pycocotools_loads_it(shared: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    dataset = coco.read(shared / "data/coco_mini/annotations/person_keypoints_val2017.json")
    coco.write(dataset, tmp_path / "o.json")
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(str(tmp_path / "o.json"))
    assert len(loaded.getImgIds()) == 79 and len(loaded.getAnnIds(iscrowd=None)) == 118


def test_wrong_file_of_the_samples(shared: Path) -> None:
    with pytest.raises(PoseError, match="annotation 442619: 133 keypoints where the category names 17"):
        coco.read(shared / "data/coco/test_keypoint_partition_metric.json")
    with pytest.raises(PoseError, match="a list: COCO results"):
        coco.read(shared / "data/coco/test_coco_det_AP_H_56.json")


def test_a_name_too_long_for_any_file_system_is_kept(tmp_path: Path) -> None:
    """Nothing lies there; only who opens the picture needs it."""
    value = {
        "images": [{"id": 1, "file_name": "x" * 400 + ".png", "width": 64, "height": 48}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person", "keypoints": ["nose"]}],
    }
    (tmp_path / "a.json").write_text(json.dumps(value))
    dataset = coco.read(tmp_path / "a.json")
    assert dataset.records[0].file_name == "x" * 400 + ".png" and Path(dataset.root) == tmp_path
