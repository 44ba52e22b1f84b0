"""`posecli cross`: runs against data sets."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posecli.predictions import read_stream
from posecli.skeletons import BODY19, COCO17
from posecli.types import Skeleton


def write_labels(path: Path, name: str, skeleton: Skeleton = COCO17, frames: tuple[int, ...] = (0, 4, 9)) -> Path:
    """Labels of some frames of a clip, people anywhere."""
    random = np.random.default_rng(len(path.name))
    images, people = [], []
    for number, frame in enumerate(frames, 1):
        images.append({"id": number, "file_name": name, "width": 96, "height": 64, "video_id": 1, "frame_id": frame})
        xy = random.uniform(5, 60, (skeleton.num_keypoints, 2)).round(2)
        keypoints = np.hstack([xy, np.full((len(xy), 1), 2)]).ravel().tolist()
        people.append(
            {"id": number, "image_id": number, "category_id": 1, "keypoints": keypoints, "iscrowd": 0}
            | {"bbox": [5, 5, 55, 55], "area": 1500.0, "num_keypoints": len(xy)}
        )
    video = {"id": 1, "name": name, "file_name": name, "width": 96, "height": 64, "fps": 30.0, "num_frames": 30}
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}
    category["posecli"] = {"name": skeleton.name, "sigmas": list(skeleton.sigmas), "flip_pairs": []}
    path.write_text(
        json.dumps(
            {"images": images, "annotations": people, "categories": [category], "videos": [video | {"tags": []}]}
        )
    )
    return path


@pytest.fixture
def places(tmp_path: Path, tiny_model: Path, clip: Path) -> dict[str, Path]:
    """Two run folders and two data sets beside a clip."""
    shutil.copy(clip, tmp_path / "clip.mp4")
    found = {
        "val": write_labels(tmp_path / "val.json", "clip.mp4"),
        "other": write_labels(tmp_path / "other.json", "clip.mp4", BODY19, (1, 2)),
    }
    for name in ("one", "two"):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        shutil.copy(tiny_model, folder / "best.safetensors")
        (folder / "config.toml").write_text(f"data = [{json.dumps(str(found['val' if name == 'one' else 'other']))}]\n")
        found[name] = folder
    return found


def test_table(cli: Callable, places: dict[str, Path], tmp_path: Path) -> None:
    words = ["cross", places["one"], places["two"], "--on", places["val"], "--on", places["other"]]
    words += ["--out", tmp_path / "kept", "--bootstrap", 20, "--quiet", "--device", "cpu"]
    outcome = cli(*words)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    assert "OKS-AP (x 100); down: runs, across: tested on" in outcome.out
    lines = [line for line in outcome.out.splitlines() if line.startswith("│ one")]
    assert lines and "*" in lines[0]  # the set it learnt from is marked
    streams = sorted((tmp_path / "kept").iterdir())
    assert len(streams) == 4
    assert [s.name.rsplit(".", 3)[0] for s in streams] == ["one.on.other", "one.on.val", "two.on.other", "two.on.val"]
    lines = list(read_stream(next(s for s in streams if s.name.startswith("one.on.val"))))
    assert [poses.frame for _, poses in lines] == [0, 4, 9]  # the labelled frames only
    assert [poses.image_id for _, poses in lines] == [1, 2, 3]

    again = cli(*words, "--json")
    value = json.loads(again.out)
    assert [(c["run"], c["set"], c["own"]) for c in value["cells"]] == [
        ("one", "val.json", True), ("one", "other.json", False),
        ("two", "val.json", False), ("two", "other.json", True),
    ]  # fmt: skip
    assert value["cells"][0]["values"] == value["cells"][2]["values"]  # the same weights
    assert value["cells"][0]["frames"] == 3
    assert value["joints"]["other.json"] == list(COCO17.keypoints)  # neck and head top are not in the other set
    from posecli import evaluate

    alone = evaluate(places["val"], value["cells"][0]["stream"], metrics=["oks", "pck"])
    assert value["cells"][0]["values"]["PCK@0.2"] == alone["all"]["PCK@0.2"]


def test_streams_are_kept_and_cut_off_ones_go_on(cli, places, tmp_path, monkeypatch) -> None:
    from posecli import cross

    words = ["cross", places["one"], "--on", places["val"], "--out", tmp_path / "kept", "--quiet", "--device", "cpu"]
    assert cli(*words).code == 0
    (stream,) = (tmp_path / "kept").iterdir()
    whole = stream.read_text()
    # As an interruption after the second frame leaves it.
    stream.unlink()
    part = stream.with_name(f".{stream.name}.part.jsonl")
    part.write_text("\n".join(whole.splitlines()[:3]) + '\n{"frame": 9, "per')
    looked: list[int] = []
    original = cross.run_jobs

    def counting(jobs, *rest, on_frame, **more):
        return original(jobs, *rest, on_frame=lambda *a: (looked.append(a[2].frame), on_frame(*a)), **more)

    monkeypatch.setattr(cross, "run_jobs", counting)
    assert cli(*words).code == 0
    assert looked == [9]
    assert stream.read_text() == whole
    assert not part.exists()
    # Finished streams need no model at all.
    monkeypatch.setattr(cross, "load_model", None)
    assert cli(*words).code == 0
    # Other boxes, other weights: other streams.
    monkeypatch.undo()
    assert cli(*words, "--boxes", "labels").code == 0
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_streams_of_other_boxes_and_of_another_folder_are_not_taken(cli, places, tmp_path) -> None:
    def streams(labels: Path, *more: str) -> set[str]:
        words = ["cross", places["one"], "--on", labels, "--out", tmp_path / "kept", "--quiet", "--device", "cpu"]
        assert cli(*words, "--bootstrap", 0, *more).code == 0
        return {p.name for p in (tmp_path / "kept").iterdir()}

    first = streams(places["val"], "--boxes", "labels")
    assert streams(places["val"], "--boxes", "labels") == first
    places["val"].write_text(places["val"].read_text().replace("[5, 5, 55, 55]", "[9, 9, 40, 40]"))
    assert len(streams(places["val"], "--boxes", "labels")) == 2  # the boxes were corrected
    assert len(streams(places["val"])) == len(streams(places["val"])) == 3
    # Another set with files of the same names.
    (tmp_path / "night").mkdir()
    for name in ("val.json", "clip.mp4"):
        shutil.copy(tmp_path / name, tmp_path / "night" / name)
    assert len(streams(tmp_path / "night/val.json")) == 4


def test_joints(cli, places, tmp_path) -> None:
    strange = Skeleton("strange", ("tip_a", "tip_b"), sigmas=(0.1, 0.1))
    labels = write_labels(tmp_path / "strange.json", "clip.mp4", strange)
    words = ["cross", places["one"], "--out", tmp_path / "kept", "--quiet", "--device", "cpu", "--on", places["val"]]
    outcome = cli(*words, "--on", labels)
    assert outcome.code == 1
    assert "no joint that all runs and sets have" in outcome.err
    outcome = cli("cross", places["one"], "--on", places["other"], "--own-joints", *words[2:7], "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["joints"] == {"other.json": None}


def test_errors(cli, places, tmp_path) -> None:
    empty = tmp_path / "runs" / "empty"
    empty.mkdir()
    for words, text in (
        ([empty, "--on", places["val"]], "no best.safetensors"),
        ([places["one"], "--on", tmp_path / "absent.json"], "absent.json"),
        ([places["one"], places["one"], "--on", places["val"]], "given twice"),
        ([places["one"], "--on", places["val"], "--boxes", "guessed"], "found, labels, full"),
        (["nobody", "--on", places["val"]], "no weights for the model"),
    ):
        outcome = cli("cross", *words, "--out", tmp_path / "kept", "--quiet")
        assert outcome.code in (1, 2), words
        assert text in outcome.err
    (tmp_path / "clip.mp4").unlink()
    outcome = cli("cross", places["one"], "--on", places["val"], "--out", tmp_path / "kept", "--quiet")
    assert outcome.code == 1
    assert "clip.mp4" in outcome.err
