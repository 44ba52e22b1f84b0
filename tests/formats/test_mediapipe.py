"""MediaPipe landmarks as poses and as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posecli.errors import PoseError
from posecli.formats import detect, read_dataset
from posecli.skeletons import MEDIAPIPE33


def landmarks(shift: float = 0.0, visibility: float = 0.75) -> list[dict[str, float]]:
    return [{"x": k / 64 + shift, "y": 0.5, "z": -0.25, "visibility": visibility} for k in range(33)]


def save(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("key", ["pose_landmarks", "poseLandmarks", "landmarks", "poses"])
def test_the_size_may_stand_in_the_file(tmp_path: Path, key: str) -> None:
    frames = [{"frame": 4, key: [landmarks(), landmarks(0.25, 0.25)]}, {"frame": 6, key: []}]
    path = save(tmp_path / "l.json", {"source": "walk.mp4", "width": 640, "height": 480, "fps": 25, "frames": frames})
    assert detect(path) == ("mediapipe", f"it has {key} with x and visibility")
    dataset = read_dataset(path)
    assert dataset.skeleton == MEDIAPIPE33
    assert [(r.frame_id, len(r.instances), r.file_name) for r in dataset.records] == [
        (4, 2, "walk.mp4"),
        (6, 0, "walk.mp4"),
    ]
    first, second = dataset.records[0].instances
    assert first.xy[2].tolist() == [20, 240] and first.score[2] == 0.75 and set(first.visibility) == {2}
    assert second.xy[0].tolist() == [160, 240] and set(second.visibility) == {1}


def test_video_of_the_same_stem_and_json_lines(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    make_video(tmp_path / "walk.mp4", 3, size=(64, 48))
    lines = [{"poseLandmarks": landmarks(), "timestamp_ms": 0}, {"poseLandmarks": None}]
    path = tmp_path / "walk.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert detect(path)[0] == "mediapipe"
    dataset = read_dataset(path)
    assert [len(r.instances) for r in dataset.records] == [1, 0] and dataset.records[0].width == 64
    assert dataset.records[0].instances[0].xy[32].tolist() == [32, 24]


def test_json_lines_in_every_verb(tmp_path: Path, make_video: Callable[..., Path], cli: Callable[..., Any]) -> None:
    """Their files are called like pose streams."""
    video = make_video(tmp_path / "walk.mp4", 3, size=(64, 48))
    lines = [{"poseLandmarks": landmarks(), "frame": n, "width": 64, "height": 48} for n in range(2)]
    path = tmp_path / "found.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for more in ((), ("--format", "mediapipe")):
        done = cli("convert", path, "--out", tmp_path / "o.json", "--overwrite", *more)
        assert done.code == 0, done.err
    assert len(json.loads((tmp_path / "o.json").read_text())["annotations"]) == 2
    assert cli("convert", path, "--out", tmp_path / "poses.jsonl").code == 0
    done = cli("render", video, path, "--out", tmp_path / "o.mp4", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["people"] == 2
    assert cli("browse", path, "--image-root", tmp_path, "--out", tmp_path / "g.html").code == 0
    done = cli("check", path, "--image-root", tmp_path, "--json")
    assert '"people": 2' in done.out, done.err
    lines[1]["width"] = 80
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(PoseError, match="result 1: width is 80, of the video 64"):
        read_dataset(path)


def test_pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    make_picture(tmp_path / "a.jpg", (64, 48))
    rows = [[m["x"], m["y"], m["z"], m["visibility"]] for m in landmarks()]
    path = save(tmp_path / "l.json", [{"image": "a.jpg", "landmarks": [rows]}])
    record = read_dataset(path, "mediapipe").records[0]
    assert record.file_name == "a.jpg" and record.frame_id is None and record.instances[0].xy[4].tolist() == [4, 24]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([{"landmarks": [landmarks()[:-1]]}], "32 landmarks, not the 33"),
        ([{"landmarks": [[{**m, "x": m["x"] * 640} for m in landmarks()]]}], "pixels, not parts"),
        ([{"landmarks": [landmarks(visibility=1.5)]}], "visibility is 1.5"),
        ([{"landmarks": [[{**m, "x": "a"} for m in landmarks()]]}], "result 0, person 0, nose: x is 'a'"),
        ([{"frame": 1, "landmarks": []}, {"frame": 1, "landmarks": []}], "frame 1 a second time"),
        ([{"hands": []}], "result 0: none of pose_landmarks"),
    ],
)
def test_errors_name_file_and_result(tmp_path: Path, frames: list[Any], message: str) -> None:
    path = save(tmp_path / "l.json", {"width": 640, "height": 480, "frames": frames})
    with pytest.raises(PoseError) as error:
        read_dataset(path, "mediapipe")
    assert message in str(error.value) and "l.json" in str(error.value)


def test_without_a_size_nothing_is_assumed(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="which nobody says"):
        read_dataset(save(tmp_path / "l.json", [{"landmarks": [landmarks()]}]))
