"""AlphaPose results as poses and as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from posecli.errors import PoseError
from posecli.formats import detect, read_dataset
from posecli.skeletons import HALPE26

FLAT = [v for k in range(26) for v in (10.0 + k, 20.5, 0.875)]


def person(name: str, **more: Any) -> dict[str, Any]:
    """An entry as AlphaPose writes it with Halpe-26."""
    entry = {
        "image_id": name,
        "category_id": 1,
        "keypoints": FLAT,
        "score": 2.5,
        "box": [1.5, 2.5, 30, 40],
        "idx": [3.0],
    }
    return {**entry, **more}


def save(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_pictures(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    make_picture(tmp_path / "a b.jpg", (64, 48))
    entries = [person("a b.jpg"), person("a b.jpg", score=1.25, keypoints=[1.0, 2.0, 1.5] + FLAT[3:], idx=4)]
    path = save(tmp_path / "alphapose-results.json", entries)
    assert detect(path) == ("alphapose", "a list of detections with image_id (picture names) and keypoints")
    notes: list[str] = []
    dataset = read_dataset(path, skeleton="halpe26", warn=notes.append)
    assert dataset.skeleton == HALPE26 and dataset.records[0].file_name == "a b.jpg"
    first, second = dataset.records[0].instances
    assert (first.person_score, second.person_score, first.track_id, second.track_id) == (1.0, 0.5, 3, 4)
    assert first.extra == {"alphapose_score": 2.5} and second.score[0] == 1
    assert first.box_xyxy is not None and first.box_xyxy.tolist() == [1.5, 2.5, 31.5, 42.5]
    assert len(notes) == 2 and "up to 2.5" in notes[1]


def test_frames_of_a_video(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    make_video(tmp_path / "walk.mp4", 5)
    path = save(tmp_path / "walk.json", [person("3.jpg", score=0.5), person("1.jpg", score=0.5)])
    dataset = read_dataset(path, skeleton="halpe26")
    assert [len(r.instances) for r in dataset.records] == [0, 1, 0, 1, 0]
    assert [r.frame_id for r in dataset.records] == list(range(5)) and dataset.records[0].file_name == "walk.mp4"
    save(path, [person("5.jpg")])
    with pytest.raises(PoseError, match=r"frame 5, but walk.mp4 has 5 frames"):
        read_dataset(path, skeleton="halpe26", warn=lambda message: None)


@pytest.mark.parametrize("form", ["cmu", "open"])
def test_the_other_forms(tmp_path: Path, make_picture: Callable[..., Path], form: str) -> None:
    make_picture(tmp_path / "p.jpg", (64, 48))
    people, key = ("bodies", "joints") if form == "cmu" else ("people", "pose_keypoints_2d")
    version = "AlphaPose v0.3" if form == "cmu" else 0.1
    value = {"p.jpg": {"version": version, people: [{key: FLAT}]}, "q.jpg": {"version": version, people: []}}
    path = save(tmp_path / "r.json", value)
    assert detect(path) == ("alphapose", "bodies by picture name")
    notes: list[str] = []
    dataset = read_dataset(path, skeleton="halpe26", warn=notes.append)
    assert dataset.records[0].instances[0].xy[1].tolist() == [11, 20.5]
    assert len(notes) == 1 and "1 people have no score" in notes[0]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([person("p.jpg", keypoints=FLAT[:9])], "not x, y, score of 26 joints"),
        ([person("gone.jpg")], "picture 'gone.jpg' is not in"),
        ([7], "result 1: not an object"),
        ([{**person("p.jpg"), "image_id": 3}], "image_id is 3, not a picture's name"),
        ({"p.jpg": {"version": 1}}, "no list 'bodies'"),
    ],
)
def test_errors_name_file_and_entry(
    tmp_path: Path, make_picture: Callable[..., Path], value: Any, message: str
) -> None:
    make_picture(tmp_path / "p.jpg")
    entries = save(tmp_path / "r.json", [person("p.jpg"), *value] if isinstance(value, list) else value)
    with pytest.raises(PoseError) as error:
        read_dataset(entries, "alphapose", skeleton="halpe26", warn=lambda message: None)
    assert message in str(error.value) and "r.json" in str(error.value)


def test_joints_are_never_guessed_from_their_number(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match=r"26 a person.*--skeleton"):
        read_dataset(save(tmp_path / "r.json", [person("p.jpg")]))


def test_two_names_of_one_frame_are_refused(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """The second took the place of the first."""
    make_video(tmp_path / "walk.mp4", 5)
    path = save(tmp_path / "walk.json", [person("1.jpg", score=0.5), person("01.jpg", score=0.5)])
    with pytest.raises(PoseError, match=r"'01\.jpg': frame 1 has another name before"):
        read_dataset(path, skeleton="halpe26")
