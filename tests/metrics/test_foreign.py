"""Predictions of other tools, and labels of a second annotator, measured against labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from posecli.errors import PoseError
from posecli.exports import export_dataset, export_stream
from posecli.formats import coco, openpose
from posecli.metrics import evaluate
from posecli.predictions import read_stream
from posecli.skeletons import COCO17, MEDIAPIPE33, OPENPOSE_BODY25, Skeleton, get_skeleton
from posecli.types import Dataset, Instance, Record, Video

SIZE = (200, 100)


def place(skeleton: Skeleton, moved: float = 0.0) -> np.ndarray:
    """(K, 2): the same point for the same name in any skeleton."""
    at = {name: (20.0 + 7 * i, 10.0 + 4 * i + moved) for i, name in enumerate(COCO17.keypoints)}
    return np.array([at.get(name, (1.0, 1.0)) for name in skeleton.keypoints])


def somebody(moved: float = 0.0) -> Instance:
    return Instance(
        xy=place(COCO17, moved), visibility=np.full(17, 2), score=np.ones(17), area=5000.0,
        box_xyxy=np.array([20.0, 10, 140, 80]),
    )  # fmt: skip


def pictures(names: list[str], moved: float = 0.0) -> Dataset:
    records = [Record(n, name, *SIZE, (somebody(moved),)) for n, name in enumerate(names, 1)]
    return Dataset(COCO17, tuple(records))


def video(frames: int) -> Dataset:
    records = [Record(n + 1, "walk.mp4", *SIZE, (somebody(),), 1, n) for n in range(frames)]
    return Dataset(COCO17, tuple(records), (Video(1, "walk", "walk.mp4", *SIZE, 25.0, frames),))


def save(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def flat(xy: np.ndarray) -> list[float]:
    return [v for x, y in xy.tolist() for v in (x, y, 0.9)]


def test_alphapose_by_picture_name(tmp_path: Path) -> None:
    """No picture is there: the labels know them."""
    entries = [
        {"image_id": name, "category_id": 1, "keypoints": flat(place(COCO17, off)), "score": 2.5, "box": [1, 2, 3, 4]}
        for name, off in (("a.jpg", 0.0), ("b.jpg", 0.0), ("zzz.jpg", 0.0))
    ]
    path = save(tmp_path / "alphapose-results.json", entries)
    labels = pictures(["x/a.jpg", "x/b.jpg", "x/c.jpg"])
    result = evaluate(labels, path, metrics=["oks", "pck"], pred_skeleton=COCO17)
    assert result["all"]["mean_OKS"] == pytest.approx(2 / 3)  # c.jpg has no prediction
    assert result["frames"]["met_by"] == {"picture name": 2}
    assert result["frames"]["predicted_without_labels"] == 1
    assert evaluate(labels, path, skeleton=COCO17)["all"]["mean_OKS"] == pytest.approx(2 / 3)
    with pytest.raises(PoseError, match="does not name its joints"):
        evaluate(labels, path)


def test_results_by_ids_that_are_text(tmp_path: Path) -> None:
    """Not AlphaPose's names of pictures; one of a picture that nobody labelled is counted, as with numbers."""
    labels = pictures(["x/a.jpg", "x/b.jpg"])
    labels = replace(labels, records=tuple(replace(r, image_id=f"id{r.image_id}") for r in labels.records))
    entries = [
        {"image_id": f"id{n}", "category_id": 1, "keypoints": flat(place(COCO17)), "score": 0.5} for n in (1, 2, 99)
    ]
    result = evaluate(labels, save(tmp_path / "results.json", entries), metrics=["oks"])
    assert result["all"]["mean_OKS"] == pytest.approx(1)
    assert result["frames"]["met_by"] == {"image_id": 2} and result["frames"]["predicted_without_labels"] == 1


def test_results_by_numbers_that_are_text(tmp_path: Path) -> None:
    """Labels of numbers; a name of another picture is still a name."""
    labels = pictures(["x/a.jpg", "x/b.jpg"])
    entries = [{"image_id": str(n), "category_id": 1, "keypoints": flat(place(COCO17)), "score": 0.5} for n in (1, 2)]
    path = save(tmp_path / "results.json", entries)
    result = evaluate(labels, path, metrics=["oks"])
    assert result["all"]["mean_OKS"] == pytest.approx(1) and result["frames"]["met_by"] == {"image_id": 2}
    assert any("2 image ids are text in the results ('1')" in note for note in result["notes"])
    turned = evaluate(pictures(["2.jpg", "1.jpg"]), path, metrics=["oks"], pred_skeleton=COCO17)
    assert turned["frames"]["met_by"] == {"picture name": 2}


def test_a_track_id_of_null_is_none(tmp_path: Path) -> None:
    entry = {"image_id": 1, "category_id": 1, "keypoints": flat(place(COCO17)), "score": 0.5}
    labels = pictures(["a.jpg"])
    one, two = (
        evaluate(labels, save(tmp_path / "results.json", [e]), metrics=["oks"])
        for e in (entry, entry | {"track_id": None})
    )
    assert one == two


def test_videos_that_the_labels_do_not_list(tmp_path: Path) -> None:
    """``video_id`` and ``frame_id`` say it as well: the figures are those of labels with ``videos``."""
    labels = video(3)
    tracked = tuple(
        replace(r, file_name=f"v/{n}.jpg", instances=(replace(r.instances[0], track_id=1),))
        for n, r in enumerate(labels.records)
    )
    labels = replace(labels, records=tracked)
    results = tmp_path / "results.json"
    export_dataset(labels, results, "coco-results", warn=lambda message: None)
    listed, unlisted = (
        evaluate(d, results, metrics=["mota", "idf1"], by=["video"]) for d in (labels, replace(labels, videos=()))
    )
    assert listed["all"]["MOTA"] == 1 and listed["all"] == unlisted["all"]
    assert list(unlisted["groups"]["video"]) == ["video 1"]


def test_joints_not_found_are_left_out_of_a_results_list_too(tmp_path: Path) -> None:
    """``0, 0, 0`` is no joint at (0, 0); only AP measures it there, as pycocotools does."""
    labels = video(3)
    head = np.array([40.0, 0.0, 60.0, 20.0])

    def tracked(moved: float, missing: tuple[int, ...] = ()) -> Instance:
        person = replace(somebody(moved), track_id=1, head_box_xyxy=head)
        person.visibility[list(missing)] = 0
        return person

    labels = replace(labels, records=tuple(replace(r, instances=(tracked(0),)) for r in labels.records))
    frames = [
        replace(r, instances=(tracked(n, missing),))
        for n, (r, missing) in enumerate(zip(labels.records, ((9, 10), (), (16,)), strict=True))
    ]
    poses = replace(labels, records=tuple(frames))
    export_dataset(poses, tmp_path / "poses.jsonl", "stream", warn=lambda message: None)
    export_dataset(poses, tmp_path / "results.json", "coco-results", warn=lambda message: None)
    assert json.loads((tmp_path / "results.json").read_text())[0]["keypoints"][27:30] == [0, 0, 0]
    metrics = ["oks", "epe", "nme", "pck", "posetrack", "mota"]
    stream, listed = (
        evaluate(labels, tmp_path / name, metrics=metrics, diagnose=True, pck_reference="box")
        for name in ("poses.jsonl", "results.json")
    )
    assert stream["all"]["EPE"] < 2
    aps = {key for key in stream["all"] if key.startswith(("AP", "AR"))}
    others = stream["all"].keys() - aps
    assert {k: listed["all"][k] for k in others} == {k: stream["all"][k] for k in others}
    assert listed["curves"] == stream["curves"]
    assert listed["diagnosis"]["PCK"]["joints"] == stream["diagnosis"]["PCK"]["joints"]
    assert listed["diagnosis"]["OKS"]["joints"] == stream["diagnosis"]["OKS"]["joints"]


def test_a_joint_at_the_corner_with_a_score_was_found(tmp_path: Path) -> None:
    keypoints = flat(place(COCO17))
    keypoints[:3] = [0.0, 0.0, 0.7]
    entry = {"image_id": 1, "category_id": 1, "keypoints": keypoints, "score": 0.5}
    row = evaluate(pictures(["a.jpg"]), save(tmp_path / "results.json", [entry]), metrics=["epe"])["all"]
    assert row["EPE"] == pytest.approx(float(np.hypot(20, 10)) / 17)


def test_alphapose_of_a_video(tmp_path: Path) -> None:
    entries = [
        {"image_id": f"{n}.jpg", "category_id": 1, "keypoints": flat(place(COCO17)), "score": 0.5} for n in (0, 2)
    ]
    path = save(tmp_path / "alphapose-results.json", entries)
    result = evaluate(video(4), path, pred_skeleton=COCO17)
    assert result["frames"]["met_by"] == {"video name and frame": 4}
    assert result["all"]["mean_OKS"] == pytest.approx(1 / 2)
    entries[0]["image_id"] = "4.jpg"
    with pytest.raises(PoseError, match=r"frame 4, but walk\.mp4 has 4 frames"):
        evaluate(video(4), save(path, entries), pred_skeleton=COCO17)


@pytest.mark.parametrize("of_video", [False, True])
def test_mediapipe_takes_its_sizes_from_the_labels(tmp_path: Path, of_video: bool) -> None:
    people = [{"x": x / SIZE[0], "y": y / SIZE[1], "visibility": 0.9} for x, y in place(MEDIAPIPE33).tolist()]
    results: list[dict[str, Any]] = [{"pose_landmarks": people}, {"pose_landmarks": people}]
    if not of_video:
        results = [{**r, "file": name} for r, name in zip(results, ("a.jpg", "b.jpg"), strict=True)]
    path = save(tmp_path / "walk.json", results)
    result = evaluate(video(2) if of_video else pictures(["a.jpg", "b.jpg"]), path)
    assert result["all"]["mean_OKS"] == pytest.approx(1)
    assert len(result["joints"]["compared"]) == 17


def test_openpose_folder(tmp_path: Path, cli: Callable[..., Any]) -> None:
    folder = tmp_path / "walk_json"
    folder.mkdir()
    for n in range(3):
        person = {"person_id": [-1], "pose_keypoints_2d": flat(place(OPENPOSE_BODY25))}
        save(folder / f"walk_{n:012d}_keypoints.json", {"version": 1.3, "people": [person] if n else []})
    told: list[str] = []
    result = evaluate(video(3), folder, warn=told.append)
    assert result["all"]["mean_OKS"] == pytest.approx(2 / 3)
    assert len(told) == 1 and "taken as OpenPose's openpose_body25" in told[0]
    # By itself it becomes a stream of the same; as labels it lacks the size of its frames.
    done = cli("convert", folder, "--out", tmp_path / "walk.jsonl", "--skeleton", "openpose_body25")
    assert done.code == 0, done.err
    assert evaluate(video(3), tmp_path / "walk.jsonl")["all"]["mean_OKS"] == pytest.approx(2 / 3)
    done = cli("convert", folder, "--out", tmp_path / "walk.json")
    assert done.code == 1 and "--image-root VIDEO" in done.err and not (tmp_path / "walk.json").exists()
    done = cli("convert", folder, "--out", tmp_path / "x.jsonl", "--skeleton", "coco17")
    assert done.code == 1 and "25 joints a person" in done.err


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["139.jpg", "7.jpg"], ["139", "7"]),
        (["000000000139.jpg", "000000000001.jpg"], ["000000000139", "000000000001"]),
        (["val/cat.jpg", "val/dog.png"], ["cat", "dog"]),
        (["cat.jpg", "dog.jpg"], ["cat_000000000001", "dog_000000000000"]),  # as `infer --format openpose` names them
        (["walk_000000000007.jpg", "walk_000000000003.jpg"], ["walk_000000000007", "walk_000000000003"]),
    ],
)
def test_openpose_of_pictures(tmp_path: Path, names: list[str], files: list[str], cli: Callable[..., Any]) -> None:
    """``--image_dir`` names a file after its picture, whatever number is in the name."""
    folder = tmp_path / "out"
    folder.mkdir()
    labels = pictures(names)
    moved = replace(somebody(), xy=place(COCO17) + 50)
    labels = replace(labels, records=(labels.records[0], replace(labels.records[1], instances=(moved,))))
    for n, name in enumerate(files):
        person = {"person_id": [-1], "pose_keypoints_2d": flat(place(OPENPOSE_BODY25) + 50 * n)}
        save(folder / f"{name}_keypoints.json", {"version": 1.3, "people": [person]})
    save(folder / "unlabelled_keypoints.json", {"version": 1.3, "people": []})
    result = evaluate(labels, folder)
    assert result["all"]["mean_OKS"] == pytest.approx(1)
    assert result["frames"]["met_by"] == {"picture name": 2} and result["frames"]["predicted_without_labels"] == 1
    # Converted beside the pictures they are theirs, too; a file of none is refused.
    for name in names:
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(tmp_path / "pictures" / name)
    done = cli("convert", folder, "--image-root", tmp_path / "pictures", "--out", tmp_path / "x.jsonl")
    assert done.code == 1 and "0 pictures" in done.err and "'unlabelled'" in done.err
    (folder / "unlabelled_keypoints.json").unlink()
    for out in ("x.jsonl", "x.json"):
        done = cli("convert", folder, "--image-root", tmp_path / "pictures", "--out", tmp_path / out, "--quiet")
        assert done.code == 0, done.err
    frames = [line for _, line in read_stream(tmp_path / "x.jsonl")]
    assert sorted(line.file or "" for line in frames) == sorted(names)
    assert evaluate(labels, tmp_path / "x.jsonl")["all"]["mean_OKS"] == pytest.approx(1)
    assert sorted(r.file_name for r in coco.read(tmp_path / "x.json").records) == sorted(f"pictures/{n}" for n in names)


def test_openpose_of_a_videos_pictures(tmp_path: Path) -> None:
    """Frames of two videos called alike, counted from 1: a file is of the picture of its name, not of frame 1."""
    records, clips = [], []
    for v, walk in enumerate(("front", "side"), 1):
        clips.append(Video(v, walk, walk, 640, 480, 25.0, 3))
        for n in range(3):
            person = replace(somebody(), xy=place(COCO17) + 20 * n + 60 * v)
            number = len(records) + 1
            records.append(Record(number, f"{walk}/{n + 1:06d}.jpg", 640, 480, (person,), video_id=v, frame_id=n))
            found = {"person_id": [-1], "pose_keypoints_2d": flat(place(OPENPOSE_BODY25) + 20 * n + 60 * v)}
            (tmp_path / "out" / walk).mkdir(parents=True, exist_ok=True)
            save(tmp_path / "out" / walk / f"{n + 1:06d}_keypoints.json", {"people": [found]})
    result = evaluate(Dataset(COCO17, tuple(records), tuple(clips)), tmp_path / "out")
    assert result["all"]["mean_OKS"] == pytest.approx(1)


def test_numbers_of_openpose_files_that_may_be_pictures_are_said(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    person = {"person_id": [-1], "pose_keypoints_2d": flat(place(OPENPOSE_BODY25))}
    for name in ("walk_000000000003", "img_12"):
        save(tmp_path / "out" / f"{name}_keypoints.json", {"people": [person]})
    told: list[str] = []
    frames = list(openpose.read_poses(tmp_path / "out", None, None, told.append))
    assert [line.frame for _, line in frames] == [3, 12]
    assert "img_12_keypoints.json is not named as OpenPose names a video's frames" in told[0]
    (tmp_path / "out" / "img_12_keypoints.json").unlink()
    told.clear()
    list(openpose.read_poses(tmp_path / "out", None, None, told.append))
    assert len(told) == 1 and "taken as OpenPose's" in told[0]


def _tables_of_poses(tmp_path: Path) -> list[Path]:
    """What `infer --out poses.csv` writes, long and wide, of a video and of two pictures: without sizes."""
    outside = replace(somebody(), xy=place(COCO17) - [25.0, 0.0])  # the nose at x = -5
    whole = video(3)
    whole = replace(whole, records=(replace(whole.records[0], instances=(outside,)), *whole.records[1:]))
    both = replace(whole, records=(*whole.records, *(replace(r, image_id=f"p{r.image_id}") for r in two())))
    export_dataset(both, tmp_path / "walk.jsonl", "stream")
    paths = [tmp_path / "poses.csv", tmp_path / "wide.csv"]
    for path, kind in zip(paths, ("csv", "csv-wide"), strict=True):
        export_stream(tmp_path / "walk.jsonl", path, kind)
        assert ",width," not in path.read_text().split("\n")[0]
    return paths


def two() -> tuple[Record, ...]:
    return pictures(["a.jpg", "unlabelled.jpg"]).records


def test_tables_of_poses_take_their_sizes_from_the_labels(tmp_path: Path) -> None:
    """Neither video nor pictures are there; a table says of the people what the stream says, one of a picture without
    labels, and joints outside of the picture, too."""
    labels = replace(video(3), records=(*video(3).records, replace(two()[0], image_id="p1")))
    paths = _tables_of_poses(tmp_path)
    of_stream = evaluate(labels, tmp_path / "walk.jsonl", metrics=["oks", "pck"])
    assert of_stream["frames"]["predicted_without_labels"] == 1 and 0 < of_stream["all"]["mean_OKS"] < 1
    for path in paths:
        found = evaluate(labels, path, metrics=["oks", "pck"])
        assert found["all"] == pytest.approx(of_stream["all"], abs=1e-4)
        assert found["frames"] == of_stream["frames"]


def test_image_root_says_where_labels_and_predictions_find_sizes(tmp_path: Path, cli: Callable[..., Any]) -> None:
    """As the errors of the readers promise."""
    import cv2

    export_dataset(pictures(["a.png"]), tmp_path / "labels.json", "coco")
    for name in ("pictures", "elsewhere"):
        (tmp_path / name).mkdir()
    cv2.imwrite(str(tmp_path / "elsewhere" / "a.png"), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    table = tmp_path / "pictures" / "labels.csv"
    joints = [f"a.png,0,1,{n},{x:g},{y:g}" for n, (x, y) in zip(COCO17.keypoints, place(COCO17).tolist(), strict=True)]
    table.write_text("\n".join(["source,frame,person,joint,x,y", *joints]))
    done = cli("evaluate", table, tmp_path / "labels.json", "--metrics", "pck")
    assert done.code == 1 and "--image-root" in done.err
    given = ("--image-root", tmp_path / "elsewhere", "--metrics", "pck", "--json")
    done = cli("evaluate", table, tmp_path / "labels.json", *given)
    assert done.code == 0, done.err
    assert json.loads(done.out)["all"]["PCK@0.2"] == 1
    shapes = [
        {"label": n, "points": [point], "shape_type": "point", "group_id": 1}
        for n, point in zip(COCO17.keypoints, place(COCO17).tolist(), strict=True)
    ]
    sheet = save(tmp_path / "pictures" / "a.json", {"version": "5", "shapes": shapes, "imagePath": "a.png"})
    done = cli("evaluate", tmp_path / "labels.json", sheet, "--metrics", "pck")
    assert done.code == 1 and "--image-root" in done.err
    done = cli("evaluate", tmp_path / "labels.json", sheet, *given)
    assert done.code == 0, done.err
    assert json.loads(done.out)["all"]["PCK@0.2"] == 1


def test_two_annotators(tmp_path: Path) -> None:
    first, second = pictures(["a.jpg", "b.jpg"]), pictures(["a.jpg", "b.jpg"], moved=3.0)
    crowd = replace(somebody(), ignore=True)
    second = replace(
        second,
        records=(
            replace(second.records[0], instances=(*second.records[0].instances, crowd)),
            replace(second.records[1], extra={"is_labeled": False}, instances=()),
        ),
    )
    coco.write(second, tmp_path / "ben.json")
    result = evaluate(first, tmp_path / "ben.json", metrics=["oks", "epe"], misses="skip")
    assert result["all"]["EPE"] == pytest.approx(3.0)
    assert result["counts"]["people_paired"] == 1 and result["counts"]["predicted_people"] == 1
    assert result["frames"]["predicted"] == 1  # the frame that the second has not labelled says nothing


def test_results_are_no_labels(tmp_path: Path) -> None:
    points = [{"x": 0.5, "y": 0.5, "visibility": 0.9}] * 33
    path = save(tmp_path / "walk.json", {"frames": [{"pose_landmarks": points}]})
    with pytest.raises(PoseError, match="these are results, not labels"):
        evaluate(path, path)


def test_what_is_nothing_of_the_kind(tmp_path: Path) -> None:
    path = save(tmp_path / "settings.json", {"poses": 3})
    with pytest.raises(PoseError, match="neither a pose stream nor another form"):
        evaluate(pictures(["a.jpg"]), path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PoseError, match=r"no \.jsonl pose stream in this folder"):
        evaluate(pictures(["a.jpg"]), tmp_path / "empty")


def _posetrack(people: int) -> dict[str, Any]:
    """A PoseTrack18 file of one video with two frames; who is labelled has a head box and a track."""
    points = [(30.0 + 3 * i, 20.0 + 4 * i) for i in range(17)]
    images = [
        {"id": 10000010000 + n, "file_name": f"images/val/000001_x/00000{n}.jpg", "vid_id": "000001", "nframes": 2,
         "frame_id": 10000010000 + n, "is_labeled": True, "width": 200, "height": 150,
         "ignore_regions_x": [[150, 190, 190]], "ignore_regions_y": [[10, 10, 40]]}
        for n in range(2)
    ]  # fmt: skip
    annotations = [
        {"id": 100 * n + p, "image_id": 10000010000 + n, "category_id": 1, "track_id": p, "bbox_head": [30, 20, 12, 16],
         "keypoints": [v for x, y in points for v in (x + 40 * p, y, 1)], "bbox": [30 + 40 * p, 20, 48, 64]}
        for n in range(2)
        for p in range(people)
    ]  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(get_skeleton("posetrack18").keypoints), "skeleton": []}
    return {"images": images, "annotations": annotations, "categories": [category]}


def test_posetrack_labels_by_their_own_rules(tmp_path: Path) -> None:
    """Not silently as COCO: videos and head boxes are there, so that tracking and PCKh by the head box are."""
    path = save(tmp_path / "000001_x.json", _posetrack(2))
    result = evaluate(path, path, metrics=["pckh", "mota", "posetrack"])
    assert result["all"]["MOTA"] == 1.0 and result["all"]["PoseTrack_MOTA"] == 1.0
    reference = result["references"]["PCKh"]
    assert reference["by_rule"] == {"head box": 4}
    assert any("posetrack" in note for note in result["notes"])
    assert result["counts"]["people_ignored_regions"] == 2  # the ignore regions


def test_crowdpose_labels_by_their_own_rules(tmp_path: Path) -> None:
    """The area of OKS is 0.53 of the labelled box, as CrowdPose has it, not of the joints' box."""
    joints = get_skeleton("crowdpose14").keypoints
    keypoints = [v for i in range(14) for v in (50.0 + 2 * i, 40.0 + 3 * i, 2)]
    labels = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 300, "height": 300, "crowdIndex": 0.5}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "num_keypoints": 12, "keypoints": keypoints,
             "bbox": [10, 10, 200, 250]}
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(joints), "skeleton": []}],
    }  # fmt: skip
    seen: list[Any] = []
    path = save(tmp_path / "crowd.json", labels)
    result = evaluate(path, path, metrics=["oks"], on_sides=lambda given, sides: seen.append(given))
    assert seen[0].people.area.tolist() == [pytest.approx(0.53 * 200 * 250)]
    assert result["all"]["AP"] == pytest.approx(1.0) and any("crowdpose" in note for note in result["notes"])


def test_people_without_joints_are_no_predictions(tmp_path: Path) -> None:
    """A second annotator who draws a box without joints has not predicted a pose."""
    box_only = replace(somebody(), xy=np.full((17, 2), np.nan), visibility=np.zeros(17, np.int64))
    dataset = pictures(["a.jpg"])
    record = dataset.records[0]
    both = replace(dataset, records=(replace(record, instances=(box_only, *record.instances)),))
    coco.write(both, tmp_path / "both.json")
    said: list[str] = []
    result = evaluate(tmp_path / "both.json", tmp_path / "both.json", metrics=["oks"], warn=said.append)
    assert result["all"]["AP"] == pytest.approx(1.0)
    assert any("1 crowds and people without joints left out" in s for s in said)


def test_labels_written_as_poses_are_perfect(tmp_path: Path) -> None:
    """Their crowds, and people without joints, are no more wrong in a stream than in the data set itself."""
    box_only = replace(somebody(), xy=np.full((17, 2), np.nan), visibility=np.zeros(17, np.int64))
    dataset = pictures(["a.jpg"])
    people = (box_only, replace(somebody(30.0), ignore=True), *dataset.records[0].instances)
    whole = replace(dataset, records=(replace(dataset.records[0], instances=people),))
    export_dataset(whole, tmp_path / "labels.jsonl", "stream")
    result = evaluate(whole, tmp_path / "labels.jsonl", metrics=["oks"])
    assert result["all"]["AP"] == pytest.approx(1.0)
    assert result["counts"]["predicted_people"] == 1
    assert any("2 predicted people without a joint, and crowds of labels, left out" in n for n in result["notes"])


def test_lists_that_name_pictures_without_suffix(tmp_path: Path) -> None:
    """Ultralytics' ``save_json``: image_id is a stem that is no number. Two pictures of one stem meet nothing."""
    entries = [{"image_id": n, "category_id": 1, "keypoints": flat(place(COCO17)), "score": 0.9} for n in ("a", "b.c")]
    path = save(tmp_path / "predictions.json", entries)
    result = evaluate(pictures(["x/a.jpg", "y/b.c.png"]), path, metrics=["oks"], pred_skeleton=COCO17)
    assert result["all"]["mean_OKS"] == 1 and result["frames"]["met_by"] == {"picture name": 2}
    result = evaluate(pictures(["x/a.jpg", "y/a.jpg", "b.c.png"]), path, metrics=["oks"], pred_skeleton=COCO17)
    assert result["frames"]["met_by"] == {"picture name": 1} and result["frames"]["ambiguous_names"] == 1
