"""The verb `evaluate`: table, JSON, CSV, plot, page, errors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17
from posecli.types import Instance


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Labels of two tagged videos of 4 frames, and a stream that is better on the first."""
    random = np.random.default_rng(0)
    images, annotations, frames = [], [], {1: [], 2: []}
    for video in (1, 2):
        for frame in range(4):
            number = len(images) + 1
            images.append(
                {"id": number, "file_name": f"{'xfs'[video]}/walk.mp4", "width": 640, "height": 480}
                | {"video_id": video, "frame_id": frame}
            )
            xy = random.uniform(100, 300, (17, 2)).round(2)
            keypoints = np.hstack([xy, np.full((17, 1), 2)]).ravel().tolist()
            box = [100.0, 100.0, 200.0, 200.0]
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "keypoints": keypoints, "num_keypoints": 17}
                | {"bbox": box, "area": 20000.0, "iscrowd": 0, "track_id": 1, "head_box": [100, 100, 30, 40]}
            )
            off = random.normal(size=(17, 2)) * (1 if video == 1 else 30)
            frames[video].append(
                Instance(xy + off, np.full(17, 2), np.ones(17), person_score=0.9, heat=0.8 - 0.1 * frame)
            )
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    videos = [
        {"id": i, "name": f"{n}/walk", "file_name": f"{n}/walk.mp4", "width": 640, "height": 480}
        | {"fps": 30.0, "num_frames": 4, "tags": [tag]}
        for i, n, tag in ((1, "f", "front"), (2, "s", "side"))
    ]
    gt, pred = tmp_path / "coco.json", tmp_path / "poses.jsonl"
    gt.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category], "videos": videos})
    )
    with StreamWriter(pred) as writer:
        for video, name in ((1, "f/walk.mp4"), (2, "s/walk.mp4")):
            writer.header(StreamHeader(source=name, skeleton=COCO17, threshold=0.3))
            for frame, instance in enumerate(frames[video]):
                writer.frame(FramePoses(frame, (instance,)))
    return gt, pred


def test_table(cli, files) -> None:
    outcome = cli("evaluate", *files)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    for heading in ("OKS-AP", "mean OKS", "PCK@0.2", "PCKh@0.5", "PDJ AUC", "PCP@0.5", "heat"):
        assert heading in outcome.out
    rows = {line.split()[1]: line.split() for line in outcome.out.splitlines() if line.startswith("│")}
    assert set(rows) == {"all", "front", "side"}
    assert rows["front"][3] == "4"  # frames
    assert "torso: left_shoulder to right_hip" in outcome.out
    assert "0.6 of the head box' diagonal" in outcome.out
    assert "OKS area: given 8" in outcome.out
    assert "8 by video name and frame" in outcome.out


def test_json_is_what_python_gets(cli, files) -> None:
    import posecli

    outcome = cli("evaluate", *files, "--json", "--by", "video,joint", "--bootstrap", 50)
    assert outcome.code == 0, outcome.err
    value = json.loads(outcome.out)
    result = posecli.evaluate(*files, by=["video", "joint"], bootstrap=50)
    assert value == json.loads(json.dumps(result))
    assert value["groups"]["joint"]["nose"]["counted"] == 8
    assert set(value["groups"]["video"]) == {"f/walk", "s/walk"}


def test_two_predictions(cli, files, tmp_path) -> None:
    gt, pred = files
    outcome = cli("evaluate", gt, pred, pred, "--bootstrap", 20)
    assert outcome.code == 0, outcome.err
    assert "second - first" in outcome.out
    assert "+0.0" in outcome.out
    assert "OKS-AP: no difference, first and second are equal on every draw" in outcome.out


def test_two_predictions_with_identities(cli, files, tmp_path) -> None:
    gt, pred = files
    tracked = tmp_path / "tracked.jsonl"
    tracked.write_text(pred.read_text().replace('"persons": [{', '"persons": [{"id": 1, '))
    metrics = "mota,idf1,hota,posetrack,crowdpose"
    outcome = cli("evaluate", gt, tracked, tracked, "--bootstrap", 20, "--metrics", metrics)
    assert outcome.code == 0, outcome.err
    for start in ("", "second: "):
        lines = [line for line in outcome.out.splitlines() if line.startswith(f"{start}tracking of people (OKS >= 0.5")]
        assert len(lines) == 1


def test_heat_csv_and_plot(cli, files, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    table, plot = tmp_path / "heat.csv", tmp_path / "heat.svg"
    outcome = cli("evaluate", *files, "--heat-csv", table, "--heat-plot", plot)
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(table.open()))
    assert [r["heat"] for r in rows[:4]] == ["0.8000", "0.7000", "0.6000", "0.5000"]
    assert [r["source"] for r in rows] == ["f/walk.mp4"] * 4 + ["s/walk.mp4"] * 4
    assert plot.read_text().lstrip().startswith("<?xml")
    again = cli("evaluate", *files, "--heat-csv", table)
    assert again.code == 1
    assert "--overwrite" in again.err
    assert cli("evaluate", *files, "--heat-csv", table, "--overwrite").code == 0
    odd = cli("evaluate", *files, "--heat-plot", tmp_path / "heat.txt")
    assert odd.code == 1
    assert not list(tmp_path.glob("*heat*.txt"))


def test_plot_without_matplotlib_names_the_extra(cli, files, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    outcome = cli("evaluate", *files, "--heat-plot", tmp_path / "heat.png")
    assert outcome.code == 1
    assert "pip install 'posecli[plots]'" in outcome.err


def test_stream_from_standard_input(files) -> None:
    gt, pred = files
    with open(pred) as handle:
        done = subprocess.run(
            [sys.executable, "-m", "posecli", "evaluate", str(gt), "-", "--json"],
            stdin=handle, capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["all"]["people"] == 8


def test_standard_input_takes_streams_only(cli, files, monkeypatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('[{"image_id": 1, "keypoints": [1, 2, 1], "score": 1}]'))
    outcome = cli("evaluate", files[0], "-")
    assert outcome.code == 1 and "- takes pose streams only; give other forms as a file" in outcome.err


def test_no_torch_is_imported(files) -> None:
    gt, pred = files
    code = (
        "import sys, posecli.metrics\n"
        f"posecli.metrics.evaluate({str(gt)!r}, {str(pred)!r})\n"
        "assert 'torch' not in sys.modules and 'cv2' not in sys.modules, 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["--metrics", "moat"], 2, "unknown metric 'moat'"),
        (["--match", "best"], 2, "unknown matching rule"),
        (["--misses", "maybe"], 2, "wrong, skip"),
        (["--by", "camera"], 2, "unknown grouping"),
        (["--thresholds", "pck=a"], 2, "not numbers"),
        (["--thresholds", "oks=0.5"], 2, "no threshold to set"),
        (["--joints", "left_tentacle"], 1, "no joint 'left_tentacle'"),
        (["--skeleton", "lsp14"], 1, "lsp14"),
    ],
)
def test_errors(cli, files, arguments, code, words) -> None:
    outcome = cli("evaluate", *files, *arguments)
    assert outcome.code == code, outcome.err
    assert words in outcome.err
    assert outcome.err.count("\n") <= 2
    assert outcome.out == ""


def test_files_that_are_not_what_they_should_be(cli, files, tmp_path) -> None:
    gt, pred = files
    empty, text = tmp_path / "empty.jsonl", tmp_path / "text.jsonl"
    empty.write_text("")
    text.write_text("hello\nworld\n")
    for bad in (empty, text, tmp_path / "absent.jsonl"):
        outcome = cli("evaluate", gt, bad)
        assert outcome.code == 1, bad
        assert str(bad) in outcome.err
    outcome = cli("evaluate", pred, gt)
    assert outcome.code == 1
