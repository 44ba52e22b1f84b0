"""Slips on the command line that were once taken for something else."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import make_clip

from posecli.cli.common import progress
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.types import Instance, Skeleton

TWO = Skeleton("two", ("head", "foot"), edges=((0, 1),), sigmas=(0.1, 0.1))


def poses(path: Path, source: str, **frame: object) -> Path:
    """A stream of one frame with one person, of a video or of a picture."""
    person = Instance(np.array([[4.0, 5], [6, 30]]), np.full(2, 2), np.ones(2), 0.9, np.array([2.0, 3, 8, 32]))
    with StreamWriter(path) as writer:
        writer.header(StreamHeader(source, TWO, threshold=0.0))
        writer.frame(FramePoses(0, (person,), **frame))  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("words", [("infer", ""), ("convert", "", "--out", "o.json"), ("check", "a.json", "")])
def test_an_empty_word_is_not_the_current_folder(cli, tmp_path: Path, monkeypatch, words) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4", 2)
    done = cli(*words)
    assert done.code == 2 and f"argument {words.index('') + 1} is empty" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["c.mp4"]


@pytest.mark.parametrize("verb", ["smooth", "merge"])
def test_a_stream_is_not_written_under_another_forms_name(cli, tmp_path: Path, verb: str) -> None:
    made = poses(tmp_path / "p.jsonl", "c.mp4", time=0.0)
    done = cli(verb, made, "--out", tmp_path / "o.csv")
    assert done.code == 2 and "what is written is a stream" in done.err
    assert not (tmp_path / "o.csv").exists()


def test_two_predictions_from_one_pipe(cli) -> None:
    """It said that the stream is empty."""
    done = cli("evaluate", "a.json", "-", "-")
    assert done.code == 2 and "both predictions can't come from standard input" in done.err


def test_the_heat_of_metrics_that_leave_it_out(cli, tmp_path: Path) -> None:
    """It said that the predictions carry none."""
    done = cli("evaluate", "a.json", "p.jsonl", "--metrics", "oks", "--heat-csv", tmp_path / "h.csv")
    assert done.code == 2 and "--metrics ...,heat" in done.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("stats p.jsonl --count 5", "--count is for --worth-labelling (give --worth-labelling, or leave it out)"),
        ("stats p.jsonl --gap 1", "--gap is for --worth-labelling"),
        ("evaluate a.json p.jsonl --examples 8", "--examples is for --report"),
        ("evaluate a.json p.jsonl --metrics oks --pck-reference box", "--pck-reference is for the metric pck or nme"),
        ("evaluate a.json p.jsonl --metrics pck --pckh-reference head-box", "--pckh-reference is for the metric pckh"),
        ("evaluate a.json p.jsonl --thresholds tracking=0.7", "is for the metric mota or idf1 or hota or posetrack"),
        ("evaluate a.json p.jsonl --metrics oks --thresholds 0.1", "--thresholds is for the metric pck or pckh"),
        ("evaluate a.json p.jsonl --thresholds pixels=5", "pixels= is for --pck-reference pixels"),
        ("cross r.safetensors --on a.json --metrics oks --pck-reference box", "--pck-reference is for the metric pck"),
        ("render c.mp4 p.jsonl --layout side", "--layout is for PRED2"),
        ("scenes s --split test", "--split is for --motion NPZ"),
        ("scenes s --crossing --occluders 1", "--crossing has a wall in place of --occluders"),
        ("smooth p.jsonl --out q.jsonl --filter none --keep-raw", "--filter none is for --fill"),
        ("train --data a.json --out r --model deeppose --val-image-root x", "--val-image-root is for --val"),
        ("train --data a.json --out r --model deeppose --metric pck", "--metric is for --val"),
        ("models hrnet --fetch x", "hrnet is for the list"),
        ("models --all --fetch x", "--all is for the list"),
        ("infer c.mp4 --find-every 0 --segments 5 --profile", "--profile is for one process"),
        ("infer 1.png --decode gpu", "--decode gpu is for videos"),
    ],
)
def test_an_option_without_the_one_it_is_for(cli, tmp_path: Path, monkeypatch, words: str, said: str) -> None:
    """They did nothing, in silence."""
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4", 2)
    cv2.imwrite("1.png", np.zeros((48, 64, 3), np.uint8))
    done = cli(*words.split())
    assert done.code == 2 and said in done.err, done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1.png", "c.mp4"]


@pytest.mark.parametrize(
    "words",
    [
        "render c.mp4 p.jsonl --out -",
        "infer c.mp4 --render-out -",
        "browse p.jsonl --out -",
        "stats p.jsonl --html -",
        "evaluate a.json p.jsonl --heat-csv -",
        "evaluate a.json p.jsonl --report -",
        "evaluate gt poses --each -",
    ],
)
def test_no_file_is_called_dash(cli, tmp_path: Path, monkeypatch, words: str) -> None:
    """Where ``-`` was no standard output there was then a file or folder of that name."""
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4", 2)
    poses(tmp_path / "p.jsonl", "c.mp4", time=0.0)
    done = cli(*words.split())
    assert done.code == 2 and f"{words.split()[-2]} - is not possible" in done.err, done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.mp4", "p.jsonl"]


@pytest.mark.parametrize(
    ("given", "place", "said"),
    [
        ("pictures", "o.mp4", "pictures are drawn on pictures, in a folder"),
        ("pictures", "o.png", "pictures are drawn on pictures, in a folder"),
        ("pictures/1.png", "o.mp4", "a picture is drawn on a picture"),
    ],
)
def test_pictures_are_not_drawn_in_a_video(
    cli, tmp_path: Path, monkeypatch, tiny_model: Path, given: str, place: str, said: str
) -> None:
    """There was a folder of that name, or the error came when all had been looked at."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    for name in "12":
        cv2.imwrite(f"pictures/{name}.png", np.zeros((48, 64, 3), np.uint8))
    done = cli("infer", given, "-w", tiny_model, "--device", "cpu", "--render-out", place)
    assert done.code == 2 and said in done.err, done.err
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


@pytest.mark.parametrize(
    "words",
    [
        "stats p.jsonl --html p.jsonl",
        "stats p.jsonl --worth-labelling --out ./p.json",
        "evaluate p.json p.jsonl --report p.json",
        "evaluate p.json p.jsonl --heat-csv p.jsonl",
        "evaluate gt poses --each gt",
        "evaluate gt gt --each gt",
        "browse p.json --out p.json",
        "infer p.json --out p.json",
        "infer c.mp4 --boxes p.jsonl --out p.jsonl",
        "infer c.mp4 --weights p.json --out p.json",
    ],
)
def test_overwrite_does_not_reach_what_is_read(cli, tmp_path: Path, monkeypatch, words: str) -> None:
    """Labels and streams were replaced with pages, tables and results made of them."""
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "c.mp4", 2)
    cv2.imwrite("1.png", np.zeros((48, 64, 3), np.uint8))
    for folder in (tmp_path, tmp_path / "gt", tmp_path / "poses"):
        folder.mkdir(exist_ok=True)
        poses(folder / "p.jsonl", "c.mp4", time=0.0)
    if "stats" in words:
        (tmp_path / "p.json").symlink_to("p.jsonl")
    else:
        (tmp_path / "p.json").write_text(json.dumps({"images": [{"id": 1, "file_name": "1.png"}]}))
    (tmp_path / "gt/p.json").write_text("{}")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = cli(*words.split(), "--overwrite")
    assert done.code == 2 and "the output is an input" in done.err, done.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    "more",
    [
        ("--thresholds", "0.1,0.2", "--metrics", "oks,pdj"),
        ("--pck-reference", "auto,pixels", "--thresholds", "pixels=3"),
    ],
)
def test_options_beside_the_ones_they_are_for(cli, tmp_path: Path, more: tuple[str, ...]) -> None:
    made = poses(tmp_path / "p.jsonl", "c.mp4", time=0.0)
    done = cli("evaluate", tmp_path / "none.json", made, *more)
    assert done.code == 1 and "none.json" in done.err, done.err  # the question itself was in order


@pytest.mark.parametrize(("option", "value", "range_"), [("--fps", "0", "1 to 240"), ("--people", "3-1", "0 to 30")])
def test_scenes_say_the_range(cli, tmp_path: Path, option: str, value: str, range_: str) -> None:
    done = cli("scenes", tmp_path / "s", option, value)
    assert done.code == 2 and f"{option} is out of range ({range_}" in done.err


@pytest.mark.parametrize(
    ("more", "code", "frames"),
    [(("--end", "9" * 20), 0, 5), (("--every", "9" * 10), 2, 0), (("--every", "1000000"), 0, 1)],
)
def test_numbers_that_mean_all_frames_or_one(
    cli, tmp_path: Path, tiny_model: Path, more, code: int, frames: int
) -> None:
    """They ended in an OverflowError."""
    clip = make_clip(tmp_path / "c.mp4", 5)
    made = poses(tmp_path / "p.jsonl", "c.mp4", time=0.0)
    drawn = ("--out", tmp_path / "o.jsonl", "--render-out", tmp_path / "o.mp4")
    infer = ("infer", clip, "-w", tiny_model, "--device", "cpu", *drawn)
    for words in (infer, ("render", clip, made, "--out", tmp_path / "r.mp4")):
        done = cli(*words, *more, "-q")
        assert done.code == code and "internal" not in done.err, done.err
    if frames:
        assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 1 + frames


def test_of_a_mixed_folder_what_the_poses_are_of_is_drawn(cli, tmp_path: Path) -> None:
    """`infer` writes a stream for the pictures and one for each video; none of them could be drawn on the folder."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    make_clip(mixed / "c.mp4", 2)
    cv2.imwrite(str(mixed / "a.png"), np.zeros((48, 64, 3), np.uint8))
    of_pictures = poses(tmp_path / "p.jsonl", "mixed", file="a.png", width=64, height=48)
    done = cli("render", mixed, of_pictures, "--out", tmp_path / "drawn/")
    assert (done.code, (tmp_path / "drawn/a.png").exists()) == (0, True), done.err
    other = poses(tmp_path / "q.jsonl", "other.mp4", time=0.0)
    done = cli("render", mixed, other, "--out", tmp_path / "none/")
    assert done.code == 1 and "2 sources where one is wanted: mixed, c.mp4 (name one of them)" in done.err


def test_a_broken_picture_does_not_stop_the_labels_of_the_others(cli, tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"")
    stream = poses(tmp_path / "p.jsonl", "here", file="a.png", width=64, height=48)
    with open(stream, "a") as lines:
        print(json.dumps({"frame": 1, "file": "b.jpg", "persons": [], "broken": True}), file=lines)
    done = cli("convert", stream, "--out", tmp_path / "o.json", "--to", "coco-dataset")
    assert done.code == 0 and "1 pictures that could not be decoded were left out" in done.err
    assert [i["file_name"] for i in json.loads((tmp_path / "o.json").read_text())["images"]] == ["a.png"]


def test_frames_without_a_line_of_two_streams(cli, tmp_path: Path) -> None:
    """It said "no line for 6 of 4 frames"."""
    make_clip(tmp_path / "c.mp4", 4)
    a, b = (poses(tmp_path / f"{n}.jsonl", "c.mp4", time=0.0) for n in "ab")
    done = cli("render", tmp_path / "c.mp4", a, b, "--out", tmp_path / "o.mp4")
    assert done.code == 0 and f"{a} and {b}: no line for 6 of 8 frames" in done.err


def test_names_that_look_like_markup_are_shown_as_they_are(cli, tmp_path: Path) -> None:
    """``[red]`` vanished from file names, ``:dog:`` became a picture of one, and ``[/b]`` was an error."""
    (tmp_path / "[red][").mkdir()
    made = poses(tmp_path / "[red][" / "b]:dog:.jsonl", "c", file="c.jpg", width=40, height=40)
    done = cli("evaluate", made, made)
    assert done.code == 0 and "[red][/b]:dog:.jsonl" in done.out.replace("\n", ""), done.err + done.out
    bar = progress()
    bar.add_task("[red][/b]:dog:.mp4", total=1)
    assert str(bar.columns[0].render(bar.tasks[0])) == "[red][/b]:dog:.mp4"


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_name_that_is_no_text_stands_in_tables_escaped(cli, tmp_path: Path, form: str) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    poses(tmp_path / "p.jsonl", os.fsdecode(b"caf\xe9.mp4"))
    done = cli("convert", tmp_path / "p.jsonl", "--out", tmp_path / f"p.{form}", "--to", form)
    assert done.code == 0, done.err
    assert b"caf\\udce9.mp4" in (tmp_path / f"p.{form}").read_bytes()
