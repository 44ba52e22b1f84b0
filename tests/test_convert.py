"""`convert` as a whole: data sets joined, split, thinned, extracted; poses to other forms; what the command says."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from posecli.convert import (
    describe_change,
    drop_empty,
    merge,
    parse_shares,
    recording_names,
    split,
    summarise,
    thin,
    to_skeleton,
)
from posecli.errors import PoseError, UsageError
from posecli.exports import export_stream, label_stream, reskeleton
from posecli.formats import coco, read_dataset
from posecli.frames import extract_frames, frame_name
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.skeletons import BODY19, COCO17, CROWDPOSE14, LSP14
from posecli.types import Dataset, Instance, Record, Skeleton, Video

THREE = Skeleton("three", ("nose", "left_hand", "right_hand"), ((0, 1),))


def person(skeleton: Skeleton = THREE, first: float = 1.0, **more: Any) -> Instance:
    """Joint j at (first + j, 2 j) with visibility 2, 1, 0, 2, 1, 0, ..."""
    count = skeleton.num_keypoints
    visibility = 2 - np.arange(count) % 3
    xy = np.stack([first + np.arange(count), 2.0 * np.arange(count)], 1)
    return Instance(np.where(visibility[:, None] > 0, xy, np.nan), visibility, np.ones(count, np.float32), **more)


def recordings(names: list[str], cameras: tuple[str, ...] = ("front", "side"), frames: int = 4) -> Dataset:
    """Videos of ``frames`` frames, one person in each, of every recording by every camera."""
    videos, records = [], []
    for name in names:
        for camera in cameras:
            number = len(videos) + 1
            file = f"{camera}/{name}.mp4"
            videos.append(Video(number, file[:-4], file, 64, 48, 25.0, frames, (camera,), {"recording": name}))
            records += [Record(100 * number + f, file, 64, 48, (person(track_id=1),), number, f) for f in range(frames)]
    return Dataset(THREE, tuple(records), tuple(videos), "root")


def test_to_skeleton_by_name() -> None:
    source = Dataset(LSP14, (Record(1, "a.jpg", 64, 48, (person(LSP14),)),), (), "x")
    changed, change = to_skeleton(source, COCO17)
    before, after = source.records[0].instances[0], changed.records[0].instances[0]
    for joint, name in enumerate(COCO17.keypoints):
        if name in LSP14.keypoints:
            other = LSP14.index(name)
            assert after.visibility[joint] == before.visibility[other]
            np.testing.assert_array_equal(after.xy[joint], before.xy[other])
        else:
            assert after.visibility[joint] == 0 and np.isnan(after.xy[joint]).all()
    assert change.lost == ("neck", "head_top")
    assert change.absent == ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    with pytest.raises(PoseError, match="share no joint"):
        to_skeleton(source, Skeleton("other", ("tail",)))


def test_to_skeleton_knows_aliases_but_not_neighbours() -> None:
    source = Dataset(CROWDPOSE14, (Record(1, "a.jpg", 64, 48, (person(CROWDPOSE14),)),))
    _, change = to_skeleton(source, BODY19)
    assert change.lost == ()  # top_head is head_top
    assert "nose" in change.absent


def test_split_keeps_recordings_together() -> None:
    dataset = recordings([f"scene{i}" for i in range(20)])
    parts = split(dataset, {"train": 0.7, "val": 0.3})
    seen = {name: set(recording_names(part)) for name, part in parts.items()}
    assert seen["train"] | seen["val"] == {f"scene{i}" for i in range(20)} and not seen["train"] & seen["val"]
    assert sum(len(p.records) for p in parts.values()) == len(dataset.records)
    for part in parts.values():  # both cameras and all frames of each, and only the videos that are used
        assert len(part.records) == 8 * len(set(recording_names(part)))
        assert {v.id for v in part.videos} == {r.video_id for r in part.records}
    assert 8 <= len(seen["train"]) <= 19


def test_split_is_stable_when_recordings_come() -> None:
    few = split(recordings([f"scene{i}" for i in range(12)]), {"train": 0.5, "val": 0.5})
    many = split(recordings([f"scene{i}" for i in range(40)]), {"train": 0.5, "val": 0.5})
    assert set(recording_names(few["val"])) <= set(recording_names(many["val"]))


def test_split_of_few_recordings() -> None:
    said: list[str] = []
    for names in (["a", "b"], ["b", "c"], ["c", "d", "e"]):
        parts = split(recordings(names), {"train": 0.8, "val": 0.1, "t": 0.1} if len(names) > 2 else
                      {"train": 0.9, "val": 0.1}, warn=said.append)  # fmt: skip
        assert all(part.records for part in parts.values())
    assert any("no recording falls into" in s for s in said)
    with pytest.raises(PoseError, match="1 recordings cannot be split into 2 parts"):
        split(recordings(["a"]), {"train": 0.5, "val": 0.5})


@pytest.mark.parametrize("text", ["train", "train=1,val=0", "train=0.5,train=0.5", "train=0.5,val=0.6", "=1", "a/b=1"])
def test_bad_shares(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shares(text)


def test_thin_and_drop_empty() -> None:
    dataset = recordings(["a"], ("front",), 5)
    assert [r.frame_id for r in thin(dataset, 2).records] == [0, 2, 4]
    pictures = Dataset(THREE, tuple(Record(i, f"{i}.jpg", 4, 4) for i in range(5)))
    assert [r.image_id for r in thin(pictures, 2).records] == [0, 2, 4]
    blind = replace(person(), visibility=np.zeros(3, int))
    mixed = replace(dataset, records=(dataset.records[0], replace(dataset.records[1], instances=(blind,))))
    kept, dropped = drop_empty(mixed)
    assert [r.frame_id for r in kept.records] == [0] and dropped == 1


def test_merge(tmp_path: Path) -> None:
    one = replace(recordings(["a"]), root=str(tmp_path / "one"))
    people = (person(LSP14, extra={"id": 3}),)
    licences = {"licenses": [{"id": 4, "name": "CC", "url": "u"}]}
    picture = Record(101, "b.jpg", 8, 8, people, extra={"license": 4})
    two = Dataset(LSP14, (picture,), (), str(tmp_path / "two"), licences)
    licences = {"licenses": [{"id": 1, "name": "CC", "url": "u"}, {"id": 2, "name": "GPL"}]}
    pictures = (
        Record(102, "c.jpg", 8, 8, people, extra={"license": 1}),
        Record(103, "d.jpg", 8, 8, people, extra={"license": 9}),
    )
    three = Dataset(LSP14, pictures, (), str(tmp_path / "two/images"), licences)
    with pytest.raises(PoseError, match="choose one joint set with --to-skeleton"):
        merge([one, two])
    said: list[str] = []
    joined = merge([two, one, one, three], BODY19, told=lambda source, change: said.append(describe_change(change)))
    assert joined.skeleton is BODY19 and joined.root == str(tmp_path)
    assert [r.file_name for r in joined.records][:2] == ["two/b.jpg", "one/front/a.mp4"]
    assert joined.records[-2].file_name == "two/images/c.jpg"
    ids = [r.image_id for r in joined.records]
    assert ids == list(range(1, len(ids) + 1))  # the sources' own collide
    assert [v.id for v in joined.videos] == [1, 2, 3, 4] and joined.records[1].video_id == 1
    assert joined.records[0].extra == {"license": 1, "source": "two", "source_skeleton": "lsp14"}
    assert joined.records[-2].extra["license"] == 1 and len(joined.info["licenses"]) == 2
    # Licence 9 is in no list of its source: it must not become another source's.
    assert joined.records[-1].extra == {"source_license": 9, "source": "two", "source_skeleton": "lsp14"}
    assert any("lost left_hand, right_hand" in s for s in said)
    coco.write(joined, tmp_path / "all.json")
    again = coco.read(tmp_path / "all.json")
    assert len(again.records) == len(ids) and again.skeleton == BODY19


def test_merge_keeps_videos_apart_that_a_source_does_not_list(tmp_path: Path) -> None:
    one = replace(recordings(["a"]), root=str(tmp_path / "one"))
    unlisted = Dataset(
        THREE,
        (Record(1, "walk/0.jpg", 8, 6, (person(),), 1, 0), Record(2, "run/3.jpg", 8, 6, (person(),), 7, 3)),
        (), str(tmp_path / "two"),
    )  # fmt: skip
    joined = merge([one, unlisted])
    walk, run = joined.records[-2:]
    of = {v.id: v for v in joined.videos}
    assert len(of) == len(joined.videos) == len(one.videos) + 2
    assert (of[walk.video_id].name, of[run.video_id].name) == ("two video 1", "two video 7")
    assert of[run.video_id].num_frames == 4 and (walk.frame_id, run.frame_id) == (0, 3)
    coco.write(joined, tmp_path / "all.json")
    assert coco.read(tmp_path / "all.json").records[-1].file_name == "two/run/3.jpg"


def test_summary(tmp_path: Path) -> None:
    dataset = replace(recordings(["a"]), root=str(tmp_path))
    crowd = replace(person(), ignore=True, visibility=np.zeros(3, int))
    dataset = replace(dataset, records=(*dataset.records, Record(1, "x.jpg", 4, 4, (crowd,)), Record(2, "y.jpg", 4, 4)))
    summary = summarise(dataset)
    assert summary["images"] == 10 and summary["images_without_people"] == 1 and summary["videos"] == 2
    assert summary["people"] == 9 and summary["people_without_joints"] == 1 and summary["crowds"] == 1
    assert summary["people_by_labelled_joints"] == {0: 1, 2: 8}
    assert summary["joints"]["nose"] == {"visible": 8, "hidden": 0}
    assert summary["joints"]["left_hand"] == {"visible": 0, "hidden": 8}
    assert summary["tags"] == {"front": 4, "side": 4} and summary["tracks"] == 2
    assert summary["files_absent"] == 4


def level(index: int) -> int:
    """Grey level of frame ``index`` of a test video."""
    return 20 + (index * 7) % 200


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.options = {"preset": "ultrafast", "g": "10", "bf": "2"}
        for i in range(frames):
            image = np.full((size[1], size[0], 3), level(i), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def mars(tmp_path: Path) -> Path:
    """Two recordings by two cameras, 20 frames each; frame 3 of each has a person."""
    for scene in ("a", "b"):
        for camera in ("front", "side"):
            video = write_video(tmp_path / "mars" / camera / f"{scene}.mp4", 20)
            points = [[1.5, 2, 2], [3, 4, 1], None]
            frames = [{"frame": 3, "persons": [{"track_id": 1, "keypoints": points}]}]
            value = {"frames": frames, "keypoints": THREE.keypoints}
            video.with_suffix(".json").write_text(json.dumps(value))
    return tmp_path / "mars"


def levels(dataset: Dataset) -> list[int]:
    """Grey level of every record's picture file, in order."""
    pictures = [cv2.imread(str(Path(dataset.root) / r.file_name)) for r in dataset.records]
    return [round(float(p.mean())) for p in pictures]


def test_frames_are_the_right_ones(mars: Path, tmp_path: Path) -> None:
    dataset = thin(read_dataset(mars), 3)
    counted: list[int] = []
    result = extract_frames(dataset, tmp_path / "jpeg", workers=1, progress=counted.append)
    assert sum(counted) == len(result.records) == 4 * 7
    coco.write(result, tmp_path / "out/coco.json")
    again = coco.read(tmp_path / "out/coco.json")
    assert again.records[1].file_name == "../jpeg/front/a/000003.jpg" and again.records[1].frame_id == 3
    wanted = [level(r.frame_id or 0) for r in again.records]
    assert np.abs(np.subtract(levels(again), wanted)).max() <= 3
    assert coco.absent_files(again) == []
    with pytest.raises(PoseError, match="exists already"):
        extract_frames(dataset, tmp_path / "jpeg", workers=1)
    extract_frames(dataset, tmp_path / "jpeg", workers=1, overwrite=True)


def test_frames_by_several_processes_are_the_same(mars: Path, tmp_path: Path) -> None:
    dataset = read_dataset(mars)
    one = extract_frames(dataset, tmp_path / "one", workers=1)
    two = extract_frames(dataset, tmp_path / "two", workers=2)
    for a, b in zip(one.records, two.records, strict=True):
        first, second = (Path(dataset.root) / r.file_name for r in (a, b))
        assert first.read_bytes() == second.read_bytes()


def test_one_video_in_chunks_loses_nothing(tmp_path: Path) -> None:
    from posecli.frames import _chunks, _Task, write_frames

    video = write_video(tmp_path / "a.mp4", 40)
    (tmp_path / "out").mkdir()
    for chunk in _chunks(list(range(40)), 3):
        assert write_frames(_Task("a.mp4", str(video), chunk, str(tmp_path / "out"), 95, 1)) == (len(chunk), ())
    (tmp_path / "odd").mkdir()
    assert write_frames(_Task("a.mp4", str(video), (1, 2, 17, 55), str(tmp_path / "odd"), 95, 1)) == (3, (55,))
    assert sorted(p.name for p in (tmp_path / "odd").iterdir()) == [frame_name(i) for i in (1, 2, 17)]
    seen = [round(float(cv2.imread(str(p)).mean())) for p in sorted((tmp_path / "out").iterdir())]
    assert np.abs(np.subtract(seen, [level(i) for i in range(40)])).max() <= 3


def test_nothing_is_left_of_failed_frames(mars: Path, tmp_path: Path) -> None:
    """Folders that are finished stay, and are gone on with; of the one that failed there is nothing."""
    dataset = read_dataset(mars)
    whole = (mars / "side/b.mp4").read_bytes()
    (mars / "side/b.mp4").write_bytes(b"not a video any more")
    with pytest.raises(PoseError, match=r"b\.mp4"):
        extract_frames(dataset, tmp_path / "jpeg", workers=1)
    done = tmp_path / "jpeg/front/a"
    wanted = {r.frame_id for r in dataset.records if r.file_name == "front/a.mp4"}
    assert {p.name for p in done.glob("*.jpg")} == {frame_name(i or 0) for i in wanted}
    assert [p.name for p in (tmp_path / "jpeg/side").glob("*b*")] == []
    with pytest.raises(PoseError, match=r"exists already \(--resume"):
        extract_frames(dataset, tmp_path / "jpeg", workers=1)
    (mars / "side/b.mp4").write_bytes(whole)
    before, counted = done.stat().st_ino, []
    result = extract_frames(dataset, tmp_path / "jpeg", workers=1, resume=True, progress=counted.append)
    assert done.stat().st_ino == before and sum(counted) == len(dataset.records) == len(result.records)
    assert coco.absent_files(result) == []
    with pytest.raises(PoseError, match="other options"):
        extract_frames(dataset, tmp_path / "jpeg", workers=1, resume=True, quality=50)
    with pytest.raises(PoseError, match="other options"):
        extract_frames(thin(dataset, 2), tmp_path / "jpeg", workers=1, resume=True)


def test_frames_that_cannot_be_decoded_are_said(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 10)
    records = tuple(Record(i, "a.mp4", 64, 48, (), 1, i) for i in (0, 9, 12))
    said: list[str] = []
    result = extract_frames(Dataset(THREE, records, (), str(tmp_path)), tmp_path / "j", warn=said.append)
    assert [r.frame_id for r in result.records] == [0, 9]
    assert "1 frames cannot be decoded and were left out (first: frame 12 of a.mp4)" in said[0]


Cli = Callable[..., Any]


def test_command_mars_to_coco(mars: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "coco.json"
    done = cli("convert", mars, "--out", out)
    assert done.code == 0 and done.out.strip() == str(out)
    assert "mars (4 videos or folders of frames, 4 with labels)" in done.err
    for word in ("images", "80", "76 without people", "no labelled joint", "boxes", "front", "side", "left_hand"):
        assert word in done.err
    value = json.loads(out.read_text())
    assert [v["tags"] for v in value["videos"]] == [["front"], ["front"], ["side"], ["side"]]
    assert value["images"][3] == {
        "id": 4, "file_name": "mars/front/a.mp4", "width": 64, "height": 48, "video_id": 1, "frame_id": 3,
    }  # fmt: skip
    assert value["annotations"][0]["keypoints"] == [1.5, 2, 2, 3, 4, 1, 0, 0, 0]
    assert value["annotations"][0]["bbox"] == [1.5, 2, 1.5, 2] and value["annotations"][0]["num_keypoints"] == 2
    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(out)).getAnnIds()) == 4
    again = cli("convert", mars, "--out", out)
    assert again.code == 1 and "exists already" in again.err and "--overwrite" in again.err
    # COCO in, COCO out: the same file.
    assert cli("convert", out, "--out", tmp_path / "same.json", "-q").code == 0
    assert (tmp_path / "same.json").read_text() == out.read_text()


def test_command_frames_split_json(mars: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "set.json"
    done = cli(
        "convert", mars, "--out", out, "--frames", tmp_path / "jpeg", "--every", 3, "--drop-empty", "--workers", 1,
        "--split", "train=0.5,val=0.5", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert list(told) == [str(tmp_path / "set_train.json"), str(tmp_path / "set_val.json")]
    assert [t["images"] for t in told.values()] == [2, 2]  # one labelled frame by each of two cameras
    assert all(t["files_absent"] == 0 for t in told.values())
    assert "(JPEG, quality 95)" in done.err and "24 images without labelled joints left out" in done.err
    names = [i["file_name"] for p in told for i in json.loads(Path(p).read_text())["images"]]
    assert sorted(names) == [f"jpeg/{c}/{s}/000003.jpg" for c in ("front", "side") for s in ("a", "b")]


def test_command_joins_and_changes_joints(mars: Path, tmp_path: Path, cli: Cli) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    assert cli("convert", mars, "--out", one, "-q").code == 0
    coco.write(Dataset(LSP14, (Record(1, "a.jpg", 64, 48, (person(LSP14),)),), (), str(tmp_path)), two)
    assert cli("convert", one, two, "--out", tmp_path / "all.json").code == 1
    (tmp_path / "both.toml").write_text('name = "both"\nkeypoints = ["nose", "neck", "left_hand"]\n')
    done = cli("convert", one, two, "--out", tmp_path / "all.json", "--to-skeleton", tmp_path / "both.toml")
    assert done.code == 0, done.err
    assert "custom3 to both; kept 2; lost right_hand; not labelled: neck" in done.err
    assert "1 of its pictures or videos do not exist" in done.err
    value = json.loads((tmp_path / "all.json").read_text())
    assert value["categories"][0]["keypoints"] == ["nose", "neck", "left_hand"]
    assert len(value["images"]) == 81 and value["images"][-1]["source_skeleton"] == "lsp14"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "x", "--no-frames"], "contradict"),
        (["--workers", "2", "--format", "coco"], "--workers means nothing for the format coco"),
        (["--quality", "90"], "--quality is for --frames"),
        (["--split", "train=2"], "add to 2"),
        (["--format", "what"], "unknown format 'what'"),
        (["--image-root", "."], "--image-root means nothing for the format mars"),
        (["--to", "what"], "unknown form 'what'"),
        (["--to-skeleton", "what"], "unknown skeleton 'what'"),
        (["--every", "0"], "--every"),
    ],
)
def test_command_asked_wrongly(options: list[str], message: str, mars: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("convert", mars, "--out", tmp_path / "o.json", *options)
    assert done.code == 2 and message in done.err
    assert not (tmp_path / "o.json").exists()


def test_what_cannot_be_split_shows_before_frames_are_written(mars: Path, tmp_path: Path, cli: Cli) -> None:
    options = ["--out", tmp_path / "o.json", "--frames", tmp_path / "jpeg", "--split", "a=0.4,b=0.3,c=0.3"]
    done = cli("convert", mars, *options)
    assert done.code == 1 and "2 recordings cannot be split into 3 parts" in done.err
    assert not (tmp_path / "jpeg").exists()


def test_frames_do_not_go_into_their_source(mars: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("convert", mars, "--out", tmp_path / "o.json", "--frames", mars / "frames")
    assert done.code == 2 and "lies in the source" in done.err


def test_command_leaves_nothing_half_written(mars: Path, tmp_path: Path, cli: Cli) -> None:
    (mars / "side/b.json").write_text('{"frames": [{"frame": 50, "persons": []}], "keypoints": ["nose"]}')
    done = cli("convert", mars, "--out", tmp_path / "o.json", "--frames", tmp_path / "jpeg")
    assert done.code == 1 and "b.json" in done.err and len(done.err.strip().splitlines()) <= 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mars"]
    for name in ("nothing", "mars/side/b.json"):
        done = cli("convert", tmp_path / name, "--out", tmp_path / "o.json")
        assert done.code == 1 and name in done.err


# The other way: poses to other forms.


def stream(path: Path, sources: int = 1, skeleton: Skeleton = THREE) -> Path:
    """Each source: frame 0 with two people (the second has only its first joint), frame 1 with nobody."""
    with StreamWriter(path) as writer:
        for n in range(sources):
            writer.header(StreamHeader(f"clip{n}.mp4", skeleton, 64, 48, 25.0))
            count = skeleton.num_keypoints
            score = np.linspace(0.5, 0.9, count).astype(np.float32)
            xy = np.stack([np.arange(count) + 0.25, np.arange(count) + 10.5], 1).astype(np.float32)
            whole = Instance(xy, np.full(count, 2), score, 0.75, np.array([1.0, 2, 5, 8]), track_id=7)
            only = np.where(np.arange(count) == 0, 2, 0)
            part = Instance(np.where(only[:, None] > 0, xy, np.nan), only, np.where(only > 0, score, 0), 0.25)
            writer.frame(FramePoses(0, (whole, part), 0.0))
            writer.frame(FramePoses(1, (), 0.04))
    return path


def test_poses_to_coco_results(tmp_path: Path) -> None:
    said: list[str] = []
    path = stream(tmp_path / "a.jsonl")
    assert export_stream(path, tmp_path / "r.json", "coco", warn=said.append) == 2
    first, second = json.loads((tmp_path / "r.json").read_text())
    assert first == {
        "image_id": 1, "category_id": 1, "score": 0.75, "track_id": 7,
        "keypoints": [0.25, 10.5, 0.5, 1.25, 11.5, 0.7, 2.25, 12.5, 0.9],
    }  # fmt: skip
    assert second["keypoints"] == [0.25, 10.5, 0.5, 0, 0, 0, 0, 0, 0]
    assert "the stream has no image ids" in said[0]
    empty = tmp_path / "empty.jsonl"
    with StreamWriter(empty) as writer:
        writer.header(StreamHeader("x", THREE))
    assert export_stream(empty, tmp_path / "none.json", "coco") == 0
    assert json.loads((tmp_path / "none.json").read_text()) == []
    with pytest.raises(PoseError, match="exists already"):
        export_stream(path, tmp_path / "r.json", "coco")


def test_image_ids_are_stated_or_named(tmp_path: Path) -> None:
    def ids(*frames: FramePoses) -> list[Any]:
        header = StreamHeader("x", THREE)
        export_stream([(header, f) for f in frames], tmp_path / "r.json", "coco", overwrite=True)
        return [r["image_id"] for r in json.loads((tmp_path / "r.json").read_text())]

    people = (person(),)
    assert ids(FramePoses(0, people, image_id=9), FramePoses(1, people, image_id=4)) == [9, 4]
    assert ids(FramePoses(0, people, file="val/000000000785.jpg")) == [785]
    with pytest.raises(PoseError, match="stated for some frames and counted for others"):
        ids(FramePoses(0, people, image_id=9), FramePoses(1, people))


def test_image_ids_that_stand_for_frames_of_several_sources_are_said(tmp_path: Path) -> None:
    """`infer` counts the frames of each video from 1."""
    people = (person(),)
    frames = [(StreamHeader(name, THREE), FramePoses(0, people, image_id=1)) for name in ("a.mp4", "b.mp4", "c.mp4")]
    said: list[str] = []
    export_stream(frames[:1], tmp_path / "one.json", "coco", warn=said.append)
    assert not any("image id" in s for s in said)
    export_stream(frames, tmp_path / "all.json", "coco", warn=said.append)
    assert [s for s in said if "b.mp4: the image id 1 stands for another frame too" in s]
    assert len([s for s in said if "stands for another" in s]) == 1


def test_pycocotools_takes_the_results(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    dataset = recordings(["a"], ("front",))
    coco.write(replace(dataset, root=""), tmp_path / "gt.json")
    export_stream(label_stream(dataset), tmp_path / "r.json", "coco")
    with contextlib.redirect_stdout(io.StringIO()):
        results = COCO(str(tmp_path / "gt.json")).loadRes(str(tmp_path / "r.json"))
    assert len(results.getAnnIds()) == 4


@pytest.mark.parametrize("kind", ["csv", "csv-wide", "openpose"])
def test_poses_written_are_read_back_as_labels(kind: str, tmp_path: Path, cli: Cli) -> None:
    source = stream(tmp_path / "clip.jsonl")
    write_video(tmp_path / "mars/clip.mp4", 2)
    out = tmp_path / "mars" / ("clip" if kind == "openpose" else "clip.csv")
    done = cli("convert", source, "--out", out, "--to", kind)
    assert done.code == 0, done.err
    (tmp_path / "mars/skeleton.toml").write_text('name = "three"\nkeypoints = ["nose", "left_hand", "right_hand"]\n')
    dataset = read_dataset(tmp_path / "mars")
    first, second = dataset.records[0].instances
    assert first.xy.tolist() == [[0.25, 10.5], [1.25, 11.5], [2.25, 12.5]]
    assert first.score.tolist() == pytest.approx([0.5, 0.7, 0.9]) and first.track_id == 7
    assert second.visibility.tolist() == [2, 0, 0]
    assert not dataset.records[1].instances
    if kind == "csv-wide":
        assert first.box_xyxy is not None and first.box_xyxy.tolist() == [1, 2, 5, 8]


def test_csv_long_has_one_row_a_joint(tmp_path: Path) -> None:
    export_stream(stream(tmp_path / "a.jsonl", 2), tmp_path / "a.csv", "csv")
    with open(tmp_path / "a.csv", newline="") as handle:
        rows = list(csv.reader(handle))
    assert rows[0] == ["source", "frame", "time", "person", "joint", "x", "y", "score", "person_score"]
    assert len(rows) == 1 + 2 * 6 and rows[1] == ["clip0.mp4", "0", "0.0", "7", "nose", "0.25", "10.5", "0.5", "0.75"]
    assert rows[5] == ["clip0.mp4", "0", "0.0", "1", "left_hand", "", "", "0", "0.25"]
    assert rows[7][0] == "clip1.mp4"


def test_wide_table_has_one_joint_set(tmp_path: Path) -> None:
    two = stream(tmp_path / "a.jsonl").read_text() + stream(tmp_path / "b.jsonl", skeleton=LSP14).read_text()
    (tmp_path / "c.jsonl").write_text(two)
    assert export_stream(tmp_path / "c.jsonl", tmp_path / "long.csv", "csv") == 4
    with pytest.raises(PoseError, match="other joints than the sources before"):
        export_stream(tmp_path / "c.jsonl", tmp_path / "wide.csv", "csv-wide")
    assert not (tmp_path / "wide.csv").exists()
    done = export_stream(tmp_path / "c.jsonl", tmp_path / "wide.csv", "csv-wide", to_skeleton=COCO17)
    assert done == 4 and len((tmp_path / "wide.csv").read_text().splitlines()) == 5


def test_openpose_folder_of_several_sources(tmp_path: Path) -> None:
    export_stream(stream(tmp_path / "a.jsonl", 3), tmp_path / "op", "openpose")
    found = sorted(p.relative_to(tmp_path / "op").as_posix() for p in (tmp_path / "op").rglob("*.json"))
    assert found == [f"clip{n}/clip{n}_{f:012d}_keypoints.json" for n in range(3) for f in range(2)]


def test_streams_change_joints(tmp_path: Path, cli: Cli) -> None:
    path = stream(tmp_path / "a.jsonl", 2, skeleton=LSP14)
    out = tmp_path / "b.jsonl"
    done = cli("convert", path, "--out", out, "--to-skeleton", "coco17")
    assert done.code == 0 and "4 people written as stream" in done.err
    frames = list(read_stream(out))
    assert len(frames) == 4 and frames[0][0].skeleton == COCO17 and frames[0][0] is not frames[2][0]
    before = next(iter(read_stream(path)))[1].instances[0]
    after = frames[0][1].instances[0]
    assert after.xy[COCO17.index("left_knee")].tolist() == before.xy[LSP14.index("left_knee")].tolist()
    assert after.visibility[COCO17.index("nose")] == 0 and after.score[COCO17.index("nose")] == 0
    with pytest.raises(PoseError, match="share no joint"):
        list(reskeleton(read_stream(path), Skeleton("other", ("tail",))))
    done = cli("convert", path, "--out", tmp_path / "c.json", "--split", "a=1")
    assert done.code == 2 and "--split means nothing for a pose stream" in done.err


def test_a_folder_of_streams(tmp_path: Path, cli: Cli) -> None:
    for name in ("clip10", "clip2"):
        stream(tmp_path / f"poses/{name}.poses.jsonl")
    done = cli("convert", tmp_path / "poses", "--out", tmp_path / "all.csv", "--json")
    assert done.code == 0 and json.loads(done.out) == {"out": str(tmp_path / "all.csv"), "form": "csv", "people": 4}


def test_stream_errors_leave_nothing(tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "a.jsonl").write_text(stream(tmp_path / "g.jsonl").read_text() + "broken\n")
    done = cli("convert", tmp_path / "a.jsonl", "--out", tmp_path / "r.json")
    assert done.code == 1 and "a.jsonl, line 4" in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "g.jsonl"]


def test_labels_as_poses(mars: Path, tmp_path: Path, cli: Cli) -> None:
    done = cli("convert", mars, "--out", tmp_path / "labels.jsonl")
    assert done.code == 0, done.err
    frames = list(read_stream(tmp_path / "labels.jsonl"))
    # Two cameras have videos of these names: without their folders nobody could tell them apart.
    assert [h.source for h, _ in frames[::20]] == ["front/a.mp4", "front/b.mp4", "side/a.mp4", "side/b.mp4"]
    assert len(frames) == 80 and frames[3][1].instances[0].xy[1].tolist() == [3, 4]
    assert frames[3][1].time == pytest.approx(0.12)
