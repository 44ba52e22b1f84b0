"""Videos of one name in several folders, as the cameras of a recording are kept: each verb knows which one is meant."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import make_clip

from posecli.errors import PoseError
from posecli.exports import export_stream
from posecli.formats.label_poses import labels_of_poses
from posecli.infer_jobs import plan_jobs
from posecli.metrics import evaluate
from posecli.person_boxes import read_boxes
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_headers, read_stream
from posecli.render import poses_for
from posecli.types import Instance, Skeleton
from posecli.video import list_inputs, open_source

TWO = Skeleton("two", ("head", "foot"), edges=((0, 1),), sigmas=(0.1, 0.1))


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """``lab/front/walk.mp4`` and ``lab/side/walk.mp4``, two frames each."""
    for camera in ("front", "side"):
        (tmp_path / "lab" / camera).mkdir(parents=True)
        make_clip(tmp_path / "lab" / camera / "walk.mp4", 2)
    return tmp_path / "lab"


def both(path: Path, names: tuple[str, str] = ("front/walk.mp4", "side/walk.mp4")) -> Path:
    """A stream of both: one person, at x = 10 in the first source, at x = 50 in the second."""
    with StreamWriter(path) as writer:
        for source, x in zip(names, (10.0, 50.0), strict=True):
            writer.header(StreamHeader(source, TWO, 80, 48, 25.0, threshold=0.0))
            xy = np.array([[x, 5.0], [x + 4, 30.0]])
            person = Instance(xy, np.full(2, 2), np.ones(2), 0.9, np.array([x - 2, 3, x + 6, 32]), track_id=1)
            for n in range(2):
                writer.frame(FramePoses(n, (person,), n / 25))
    return path


def test_the_one_that_is_drawn_on_is_known_by_its_folder(lab: Path, tmp_path: Path) -> None:
    poses = both(tmp_path / "p.jsonl")
    for camera in ("front", "side"):
        source = open_source(lab / camera / "walk.mp4")
        assert {h.source for h, _ in poses_for(source, poses, pytest.fail)} == {f"{camera}/walk.mp4"}
    elsewhere = open_source(make_clip(tmp_path / "walk.mp4", 2))
    with pytest.raises(PoseError, match=r"front/walk.mp4 and side/walk.mp4 may both be walk.mp4"):
        list(poses_for(elsewhere, poses, pytest.fail))


@pytest.mark.parametrize("given", ["lab", "lab/side/walk.mp4"])
def test_boxes_are_known_by_the_folder(lab: Path, tmp_path: Path, given: str) -> None:
    """`infer lab --boxes FILE` looked at nobody: the last name fits two videos of the file."""
    lookup = read_boxes(both(tmp_path / "p.jsonl"))
    for item in list_inputs([tmp_path / given]):
        with item.open() as source:
            boxes = lookup.of(item)(next(iter(source.frames())), 1)
        assert boxes[:, 0].tolist() == [8.0 if "front" in item.path else 48.0]
    assert set(lookup.asked) == {True}


@pytest.mark.parametrize("name", ["walk.mp4", "frames"])
def test_boxes_of_two_sources_of_one_name_are_not_mixed(tmp_path: Path, name: str) -> None:
    """`cat a/walk.poses.jsonl b/walk.poses.jsonl`: each frame had the boxes of both."""
    stream = tmp_path / "all.jsonl"
    with StreamWriter(stream) as writer:
        for _ in "ab":
            writer.header(StreamHeader(name, TWO))
            writer.frame(FramePoses(0, (), file="0.png" if name == "frames" else None))
    with pytest.raises(PoseError, match=f"of {name} come twice"):
        read_boxes(stream)


def test_a_file_of_boxes_that_names_nothing_is_told(lab: Path, tmp_path: Path, cli, tiny_model: Path) -> None:
    boxes = both(tmp_path / "p.jsonl", ("a.mp4", "b.mp4"))
    done = cli("infer", lab / "side/walk.mp4", "--weights", tiny_model, "--boxes", boxes, "--out", tmp_path / "o.jsonl")
    assert done.code == 0 and f"{boxes}: it names none of the frames" in done.err


def test_labels_and_poses_meet_by_the_longest_name(tmp_path: Path) -> None:
    labels = both(tmp_path / "labels.jsonl")
    found = both(tmp_path / "found.jsonl", ("lab/front/walk.mp4", "lab/side/walk.mp4"))
    result = evaluate(labels, found, metrics=("pck",), pck_reference="pixels", match="iou", by=("video",))
    assert result["all"]["PCK@5px"] == 1 and result["frames"]["ambiguous_names"] == 0
    assert list(result["groups"]["video"]) == ["front/walk", "side/walk"]


def test_poses_as_labels_keep_the_cameras_of_a_recording_together(lab: Path, tmp_path: Path) -> None:
    data = labels_of_poses(read_stream(both(tmp_path / "p.jsonl")), root=lab, warn=pytest.fail)
    assert [(v.name, v.tags, v.extra) for v in data.videos] == [
        ("front/walk", ("front",), {"recording": "walk"}),
        ("side/walk", ("side",), {"recording": "walk"}),
    ]


def test_labels_as_poses_say_which_camera(lab: Path, tmp_path: Path, cli) -> None:
    """Both sources were ``walk.mp4``: what was written could neither be drawn nor measured."""
    labels, poses = tmp_path / "lab.json", tmp_path / "labels.jsonl"
    done = cli("convert", both(tmp_path / "p.jsonl"), "--to", "coco-dataset", "--out", labels, "--image-root", lab)
    assert done.code == 0, done.err
    assert cli("convert", labels, "--out", poses).code == 0
    assert {header.source for header, _ in read_stream(poses)} == {"lab/front/walk.mp4", "lab/side/walk.mp4"}
    assert evaluate(labels, poses, metrics=("pck",), pck_reference="box", match="iou")["all"]["PCK@0.2"] == 1


def test_rows_of_videos_of_one_name(tmp_path: Path) -> None:
    """The row of the second stood in the place of that of the first."""
    lines = ["source,frame,person,joint,x,y,v,width,height"]
    lines += [
        f"{c}/walk.mp4,{n},1,{j},10,{y},2,80,48" for c in "ab" for n in (0, 1) for j, y in (("head", 5), ("foot", 30))
    ]
    table = tmp_path / "labels.csv"
    table.write_text("\n".join(lines) + "\n")
    result = evaluate(table, table, metrics=("pck",), pck_reference="box", match="iou", by=("video", "track"))
    assert list(result["groups"]["video"]) == ["a/walk.mp4", "b/walk.mp4"]
    assert list(result["groups"]["track"]) == ["a/walk.mp4 track 1", "b/walk.mp4 track 1"]


def _openpose(folder: Path, source: int | None) -> Path:
    """OpenPose's files of one of `both`, as its own program leaves them; None: two frames without anybody."""
    folder.mkdir(parents=True)
    flat = [] if source is None else [v for y in (5.0, 30.0) for v in ((10.0, 50.0)[source] + (y > 5) * 4, y, 0.9)]
    people = [{"person_id": [-1], "pose_keypoints_2d": flat}] if flat else []
    for n in range(2):
        (folder / f"walk_{n:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))
    return folder


@pytest.mark.parametrize(("layout", "videos"), [("{}", False), ("{}/walk", False), ("{}/walk_json", True)])
def test_openpose_folders_of_two_cameras_are_measured_together(
    tmp_path: Path, layout: str, videos: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And each by itself, whether its video lies beside it or is not there."""
    labels = both(tmp_path / "labels.jsonl")
    folders = [_openpose(tmp_path / "found" / layout.format(c), n) for n, c in enumerate(("front", "side"))]
    for folder in folders if videos else ():
        make_clip(folder.parent / "walk.mp4", 2)
    asked = {"metrics": ("pck",), "pck_reference": "pixels", "match": "iou", "by": ("video",), "skeleton": TWO}
    result = evaluate(labels, tmp_path / "found", **asked)
    assert result["all"]["PCK@5px"] == 1 and result["frames"]["labelled_without_prediction"] == 0
    monkeypatch.chdir(folders[1])
    for given in (folders[1], "."):
        one = evaluate(labels, given, **asked)["groups"]["video"]
        assert one["side/walk"]["PCK@5px"] == 1 and one["front/walk"]["PCK@5px"] == 0


def test_openpose_folders_that_do_not_say_which_camera(tmp_path: Path) -> None:
    labels = both(tmp_path / "labels.jsonl")
    _openpose(tmp_path / "found" / "one_json", 0)
    _openpose(tmp_path / "found" / "two_json", 1)
    with pytest.raises(PoseError, match="walk may be front/walk or side/walk") as told:
        evaluate(labels, tmp_path / "found", metrics=("pck",), pck_reference="pixels", match="iou", skeleton=TWO)
    assert "front/walk" in told.value.hint and "one_json" in told.value.where


def test_an_openpose_folder_of_nobody_among_others(tmp_path: Path) -> None:
    """Its files do not say how many joints nobody has."""
    labels = both(tmp_path / "labels.jsonl")
    _openpose(tmp_path / "found" / "front", None)
    _openpose(tmp_path / "found" / "side", 1)
    result = evaluate(labels, tmp_path / "found", metrics=("pck",), pck_reference="pixels", match="iou", skeleton=TWO)
    assert result["all"]["PCK@5px"] == 0.5 and result["frames"]["labelled_without_prediction"] == 0


def test_openpose_has_a_folder_for_each(tmp_path: Path) -> None:
    poses = both(tmp_path / "p.jsonl")
    assert export_stream(poses, tmp_path / "o", "openpose", warn=lambda text: None) == 4
    names = sorted(p.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("*.json"))
    assert names[0] == "front/walk/walk_000000000000_keypoints.json" and len(names) == 4
    assert {n.rsplit("/", 1)[0] for n in names} == {"front/walk", "side/walk"}


@pytest.mark.parametrize("words", [("lab/front/walk.mp4", "lab/side/walk.mp4"), ("lab/front", "lab/side"), ("lab",)])
def test_outputs_of_several_inputs(lab: Path, words: tuple[str, ...], monkeypatch) -> None:
    """Overlays beside their streams; they stood in ``out/front/front/`` when a folder was given."""
    monkeypatch.chdir(lab.parent)
    jobs = plan_jobs(list_inputs(words), "out", render=True, render_out=None)
    assert [(j.input.name, str(j.stream), str(j.overlay)) for j in jobs] == [
        (f"{camera}/walk.mp4", f"out/{camera}/walk.poses.jsonl", f"out/{camera}/walk.overlay.mp4")
        for camera in ("front", "side")
    ]


def test_a_frame_of_two_sources_is_told(lab: Path, tmp_path: Path, cli) -> None:
    one = tmp_path / "one.json"
    person = {"persons": [{"keypoints": [[1, 2, 2], [3, 4, 2]]}], "frame": 0}
    (lab / "front/walk.json").write_text(json.dumps({"frames": [person], "keypoints": ["head", "foot"]}))
    assert cli("convert", lab / "front", "--out", one).code == 0
    done = cli("convert", one, lab / "front", "--out", tmp_path / "two.json")
    assert done.code == 0 and "2 of 4 images are in more than one source" in done.err


def test_folders_of_pictures_of_one_name(tmp_path: Path, cli, tiny_model: Path, monkeypatch) -> None:
    """Both were called ``frames``: two streams were refused, and in one of both nobody knew which is which."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0)
    for name in ("a/frames", "b/frames", "c"):
        (tmp_path / name).mkdir(parents=True)
        for n in range(2):
            cv2.imwrite(str(tmp_path / name / f"{n}.png"), noise.integers(0, 255, (32, 32, 3), dtype=np.uint8))
    assert [i.name for i in list_inputs(["a/frames", "c"])] == ["frames", "c"]
    assert [i.name for i in list_inputs(["a/frames", "b/frames", "c"])] == ["a/frames", "b/frames", "c"]
    words = ("infer", "a/frames", "b/../b/frames", "-w", tiny_model, "--no-second-look", "--quiet")
    assert cli(*words).code == 0
    assert all((tmp_path / f"poses/{n}/frames.poses.jsonl").is_file() for n in "ab")
    assert cli(*words, "--out", "all.jsonl", "--render").code == 0
    assert [h.source for h in read_headers("all.jsonl")] == ["a/frames", "b/frames"]
    assert all((tmp_path / f"{n}/frames.overlay").is_dir() for n in "ab")


def test_boxes_of_pictures_of_one_name_are_known_by_the_folder(tmp_path: Path) -> None:
    """Each picture got the boxes of both."""
    stream = tmp_path / "all.jsonl"
    with StreamWriter(stream) as writer:
        for source, x in (("a", 10.0), ("b", 50.0), ("c", 90.0)):
            (tmp_path / source).mkdir()
            cv2.imwrite(str(tmp_path / source / "0.png"), np.zeros((64, 128, 3), np.uint8))
            writer.header(StreamHeader(source, TWO))
            xy = np.array([[x, 5.0], [x + 4, 30.0]])
            person = Instance(xy, np.full(2, 2), np.ones(2), 0.9, np.array([x - 2, 3, x + 6, 32]))
            writer.frame(FramePoses(0, (person,), file="only.png" if source == "c" else "0.png", width=128, height=64))
    lookup = read_boxes(stream)
    for source, x in (("a", 8.0), ("b", 48.0)):
        (item,) = list_inputs([tmp_path / source])
        with item.open() as opened:
            assert [lookup.of(item)(frame, 1)[:, 0].tolist() for frame in opened.frames()] == [[x]]
    os.rename(tmp_path / "c/0.png", tmp_path / "c/only.png")
    (item,) = list_inputs([tmp_path / "c"])
    with item.open() as opened:
        assert [lookup.of(item)(frame, 1)[:, 0].tolist() for frame in opened.frames()] == [[88.0]]


def test_two_videos_of_one_stem(tmp_path: Path, cli, tiny_model: Path, monkeypatch) -> None:
    """Their outputs keep the suffix, and `render` and a second run know them by it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    for name, count in (("two/a.mp4", 3), ("two/a.mkv", 5), ("two/b.mp4", 2)):
        make_clip(tmp_path / name, count)
    words = ("infer", "two", "-w", tiny_model, "--out", "two", "--render", "--device", "cpu")
    done = cli(*words)
    assert done.code == 0, done.err
    made = sorted(p.name for p in (tmp_path / "two").iterdir() if p.name not in ("a.mp4", "a.mkv", "b.mp4"))
    assert made == [
        "a.mkv.overlay.mp4", "a.mkv.poses.jsonl", "a.mp4.overlay.mp4", "a.mp4.poses.jsonl",
        "b.overlay.mp4", "b.poses.jsonl",
    ]  # fmt: skip
    assert [item.name for item in list_inputs(["two"])] == ["a.mkv", "a.mp4", "b.mp4"]
    assert [item.name for item in list_inputs(["two/*.m*"])] == ["a.mkv", "a.mp4", "b.mp4"]
    assert cli(*words, "--resume").code == 0
    both_of = tmp_path / "all.jsonl"
    both_of.write_bytes(b"".join((tmp_path / f"two/a.{s}.poses.jsonl").read_bytes() for s in ("mp4", "mkv")))
    for name, count in (("a.mp4", 3), ("a.mkv", 5)):
        found = list(poses_for(open_source(tmp_path / "two" / name), both_of, pytest.fail))
        assert {header.source for header, _ in found} == {name} and len(found) == count
