"""Numbers of data sets and streams, against sets whose answers are known."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.checks.reading import load
from posecli.errors import PoseError, UsageError
from posecli.formats import coco
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import BODY19, COCO17
from posecli.stats import worth
from posecli.stats.describe import describe
from posecli.stats.poses import cluster_sizes
from posecli.types import Dataset, Instance, Record, Skeleton

# COCO-17 of a person seen from the front, 100 pixels tall, standing at (0, 0).
STANDING = np.array(
    [
        (0, 10), (4, 7), (-4, 7), (8, 8), (-8, 8), (14, 24), (-14, 24), (20, 42), (-20, 42), (22, 58), (-22, 58),
        (9, 56), (-9, 56), (10, 78), (-10, 78), (11, 100), (-11, 100),
    ],
    np.float32,
)  # fmt: skip


def someone(xy: np.ndarray, score: float = 0.9, track: int | None = 1, **more: Any) -> Instance:
    count = len(xy)
    visibility = more.pop("visibility", np.full(count, 2))
    return Instance(xy, visibility, np.full(count, score, np.float32), score, track_id=track, **more)


def save(path: Path, frames: Sequence[Sequence[Instance]], skeleton: Skeleton = COCO17, source: str = "a.mp4") -> Path:
    with StreamWriter(path) as writer:
        writer.header(StreamHeader(source, skeleton, 96, 64, 25.0, threshold=0.3))
        for n, people in enumerate(frames):
            writer.frame(FramePoses(n, tuple(people), n / 25))
    return path


def walking(count: int = 60, **changes: Any) -> list[list[Instance]]:
    return [[someone(STANDING + (n, 0), **changes)] for n in range(count)]


def test_counts(tmp_path: Path) -> None:
    hidden = np.array([2] * 9 + [1] * 4 + [0] * 4)
    ankles = np.where(hidden[:, None] > 0, STANDING, np.nan)
    records = (
        Record(1, "1.jpg", 200, 120, (someone(STANDING + (50, 5)), someone(ankles + (99, 5), visibility=hidden))),
        Record(2, "2.jpg", 200, 120, ()),
        Record(3, "3.jpg", 200, 120, (someone(STANDING * 0, visibility=np.zeros(17, int),
                                              box_xyxy=np.array([5.0, 5, 25, 45])),)),
        Record(4, "4.jpg", 200, 120, (someone(STANDING, ignore=True, box_xyxy=np.array([0.0, 0, 200, 50])),)),
    )  # fmt: skip
    path = tmp_path / "set.json"
    coco.write(Dataset(COCO17, records), path)
    result = describe(load(path)[0])
    assert (result["images"], result["images_without_people"], result["people"], result["crowds"]) == (4, 2, 3, 1)
    assert result["people_by_labelled_joints"] == {0: 1, 13: 1, 17: 1}
    assert result["images_by_people"] == {0: 2, 1: 1, 2: 1}
    assert result["people_without_joints"] == 1 and result["share_without_joints"] == pytest.approx(1 / 3)
    assert result["joints"]["left_ankle"] == {"visible": 1, "hidden": 0, "missing": 2}
    assert result["joints"]["left_hip"] == {"visible": 1, "hidden": 1, "missing": 1}
    # 44 x 93 px, 44 x 51 px (to the hips), 20 x 40 px; the second reaches 99 + 22 = 121 of 200.
    assert result["boxes"]["by_area"] == {"small": 1, "medium": 2, "large": 0}
    assert result["boxes"]["height"]["most"] == 93
    assert result["orientation"]["trunk"]["upright"] == 2 and result["orientation"]["seen_from"]["front"] == 2
    assert result["motion"] is None and not result["predicted"]


def test_which_way_up_and_from_where(tmp_path: Path) -> None:
    turned = [STANDING[:, ::-1] * (-1, 1), -STANDING, STANDING * (-1, 1), STANDING * (0.05, 1)]
    path = save(tmp_path / "p.jsonl", [[someone(p + 40) for p in turned]])
    result = describe(load(path)[0])["orientation"]
    # Turned by a quarter clockwise the head is on the image's right; by a half it is down, still seen from the front.
    assert result["trunk"] == dict.fromkeys(result["trunk"], 0) | {"lying, head right": 1, "head down": 1, "upright": 2}
    assert result["seen_from"] == {"front": 2, "back": 1, "side": 1, "unclear": 0}


def test_variety_counts_poses_not_places_or_sizes(tmp_path: Path) -> None:
    sizes = [someone(STANDING * s + 10 * n) for n, s in enumerate((0.5, 1, 2, 3))]
    one = describe(load(save(tmp_path / "a.jsonl", [sizes]))[0])["variety"]
    assert one["clusters"] == 1 and one["effective"] == pytest.approx(1) and one["spread"] == pytest.approx(0, abs=1e-5)
    rng = np.random.default_rng(2)
    different = [someone(rng.normal(size=(17, 2)).astype(np.float32) * 40) for _ in range(30)]
    many = describe(load(save(tmp_path / "b.jsonl", [different]))[0])["variety"]
    assert many["clusters"] == 30 and many["effective"] == pytest.approx(30) and many["dimensions"] > 10


@pytest.mark.filterwarnings("error")
def test_a_joint_that_nobody_has_is_passed_over_in_silence(tmp_path: Path) -> None:
    """numpy's warning of an empty mean stood in the terminal."""
    seen = np.array([0] + [2] * 16)
    frames = walking(5, visibility=seen)
    for n, (one,) in enumerate(frames):
        one.xy[9] += (5 * n, 0)
    found = describe(load(save(tmp_path / "p.jsonl", frames))[0])["variety"]
    assert found["people"] == 5 and found["dimensions"] == pytest.approx(1, abs=0.1)


def test_groups_of_known_sizes() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 17, 2)) * 3
    poses = np.concatenate([c + rng.normal(size=(n, 17, 2)) * 0.02 for c, n in zip(centres, (5, 3, 2), strict=True)])
    poses[0, :5] = np.nan
    assert sorted(cluster_sizes(poses).tolist()) == [2, 3, 5]


def test_motion_in_person_sizes_a_second(tmp_path: Path) -> None:
    result = describe(load(save(tmp_path / "p.jsonl", walking()))[0])["motion"]
    # 1 pixel a frame at 25 frames/s, the person 93 pixels tall (nose and eyes begin at 7).
    assert result["unit"] == "person sizes per second" and result["steps"] == 59
    assert result["joints"]["nose"]["speed"] == pytest.approx(25 / 93, rel=1e-3)
    assert result["joints"]["nose"]["jitter"] == pytest.approx(0, abs=1e-6)
    frames = walking()
    for n in range(0, 60, 2):
        frames[n][0].xy[9] += (4, 0)
    shaken = describe(load(save(tmp_path / "q.jsonl", frames))[0])["motion"]["joints"]
    assert shaken["left_wrist"]["jitter"] == pytest.approx(1000 * 4 / 93, rel=0.05)
    assert shaken["left_elbow"]["jitter"] == pytest.approx(0, abs=1e-6)


def test_people_without_identity_are_followed(tmp_path: Path) -> None:
    frames = [[someone(STANDING + (n, 0), track=None), someone(STANDING + (300 - n, 0), track=None)] for n in range(10)]
    for people in frames[::2]:
        people.reverse()
    result = describe(load(save(tmp_path / "p.jsonl", frames))[0])["motion"]
    assert result["steps"] == 18 and result["joints"]["nose"]["speed_95"] == pytest.approx(25 / 93, rel=1e-3)


def ranked(*paths: Path, count: int = 3, gap: float = 0.4) -> list[dict[str, Any]]:
    subjects = [load(p)[0] for p in paths]
    return worth.to_json(subjects[0], worth.rank(subjects, count, gap))


def test_a_joint_that_jumps_and_a_frame_without_heat_come_first(tmp_path: Path) -> None:
    frames = walking(score=0.9)
    frames[20][0].xy[9] += (60, 0)
    frames[45] = [someone(STANDING + (45, 0), score=0.5, heat=0.2)]
    first, second, third = ranked(save(tmp_path / "p.jsonl", frames))
    assert {first["frame"], second["frame"]} == {20, 45}
    reasons = {f["frame"]: f["reasons"][0] for f in (first, second)}
    assert "left_wrist jumps by 0.58 person sizes" in reasons[20] and reasons[45] == "heat 0.20"
    assert third["worth"] < 0.5 and all(f["worth"] <= 1 for f in (first, second, third))


def test_a_person_who_is_gone_for_one_frame(tmp_path: Path) -> None:
    frames = walking(score=0.99)
    frames[30] = [someone(STANDING, score=0.25)]  # below the display threshold
    best = ranked(save(tmp_path / "p.jsonl", frames))[0]
    assert best["frame"] == 30 and "0 people, 1 before and 1 after" in best["reasons"]
    assert any("below the threshold" in r for r in best["reasons"])


def test_times_are_those_of_the_frames(tmp_path: Path) -> None:
    """Of a video that keeps 10 frames a second, not the 25 of its header, by which times were counted."""
    frames = walking(60, score=0.9)
    for n in (10, 20, 40):
        frames[n] = [someone(STANDING + (n, 0), score=0.4)]
    path = save(tmp_path / "p.jsonl", frames)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines[1:]:
        line["time"] = line["frame"] / 10
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert {f["frame"]: f["time"] for f in ranked(path, count=3, gap=0.9)} == {10: 1.0, 20: 2.0, 40: 4.0}
    assert 40 in [f["frame"] for f in ranked(path, count=2, gap=1.5)]
    motion = describe(load(path)[0])["motion"]["joints"]["nose"]
    assert motion["speed"] == pytest.approx(10 / 93, rel=1e-3)


def test_frames_that_cannot_be_decoded_are_not_worth_labelling(tmp_path: Path) -> None:
    path = save(tmp_path / "p.jsonl", [[] if n == 30 else people for n, people in enumerate(walking(score=0.99))])
    assert ranked(path, count=1)[0]["frame"] == 30
    lines = path.read_text().splitlines()
    lines[31] = json.dumps({**json.loads(lines[31]), "broken": True})
    path.write_text("\n".join(lines) + "\n")
    assert ranked(path, count=100) == []
    counted = describe(load(path)[0])
    assert counted["images"] == 60 and counted["images_without_people"] == 1


def test_the_list_covers_the_video(tmp_path: Path) -> None:
    frames = walking(100, score=0.9)
    for n in range(40, 50):  # one bad stretch
        frames[n] = [someone(STANDING + (n, 0), score=0.4)]
    path = save(tmp_path / "p.jsonl", frames)
    together = [f["frame"] for f in ranked(path, count=4, gap=0)]
    apart = sorted(f["frame"] for f in ranked(path, count=4, gap=1.0))
    assert all(40 <= n < 50 for n in together)
    assert sum(40 <= n < 50 for n in apart) == 1 and min(np.diff(apart)) >= 15
    assert len(ranked(path, count=500)) <= 100


def test_models_are_compared_on_the_same_of_two_videos_of_one_name(tmp_path: Path) -> None:
    parts = {"front": walking(5, score=0.99), "side": [[someone(STANDING + (200, 90), score=0.99)]] * 5}
    for model in ("a", "b"):
        streams = [save(tmp_path / "part.jsonl", f, source=f"{n}/walk.mp4").read_text() for n, f in parts.items()]
        (tmp_path / f"{model}.jsonl").write_text("".join(streams))
    same = ranked(tmp_path / "a.jsonl", tmp_path / "b.jsonl", count=10)
    assert not any("the models" in reason for frame in same for reason in frame["reasons"])
    # One that was looked at by itself is named without its folder.
    save(tmp_path / "alone.jsonl", [[]] * 5, source="walk.mp4")
    save(tmp_path / "one.jsonl", parts["front"], source="front/walk.mp4")
    assert "disagree about 1" in ranked(tmp_path / "one.jsonl", tmp_path / "alone.jsonl")[0]["reasons"][0]
    with pytest.raises(PoseError, match="none of its frames"):
        ranked(tmp_path / "a.jsonl", tmp_path / "alone.jsonl")


def test_streams_joined_by_cat_keep_their_own_thresholds(tmp_path: Path) -> None:
    first = save(tmp_path / "a.jsonl", walking(10, score=0.5)).read_text()
    second = save(tmp_path / "b.jsonl", walking(10, score=0.5), source="b.mp4").read_text()
    for texts in ((first, second.replace('"threshold": 0.3', '"threshold": 0.6')),
                  (second.replace('"threshold": 0.3', '"threshold": 0.6'), first)):  # fmt: skip
        (tmp_path / "all.jsonl").write_text("".join(texts))
        result = describe(load(tmp_path / "all.jsonl")[0])
        assert (result["people"], result["below_threshold"]) == (10, 10)
    listed = ranked(tmp_path / "all.jsonl", count=20)
    assert {f["file"] for f in listed if "just below" in " ".join(f["reasons"])} == {"b.mp4"}


def test_two_videos_of_one_name_are_two(tmp_path: Path) -> None:
    """Frame by frame their people were taken for one person who jumps to and fro."""
    nobody: list[list[Instance]] = [[], []]
    one = save(tmp_path / "a.jsonl", [*nobody, *walking(20)]).read_text()
    other = save(tmp_path / "b.jsonl", [*nobody, *([someone(STANDING + (200 + n, 50))] for n in range(20))]).read_text()
    (tmp_path / "all.jsonl").write_text(one + other)
    subject, findings = load(tmp_path / "all.jsonl")
    result = describe(subject)
    assert (result["images"], result["videos"], result["tracks"], result["people"]) == (44, 2, 2, 40)
    assert result["motion"]["joints"]["nose"]["speed"] == pytest.approx(25 / 93, rel=1e-3)
    assert len(findings) == 22 and not any(f.value for f in findings)  # told, and none of them taken away by --fix
    assert not any("jumps" in reason for frame in ranked(tmp_path / "all.jsonl") for reason in frame["reasons"])


@pytest.mark.parametrize("names", [("x", "y"), ("p", "p")])
def test_models_are_compared_on_the_same_of_two_pictures_of_one_name(tmp_path: Path, names: tuple[str, str]) -> None:
    for model in ("a", "b"):
        with StreamWriter(tmp_path / f"{model}.jsonl") as writer:
            for n, name in enumerate(names):
                writer.header(StreamHeader(name, COCO17, threshold=0.3))
                person = someone(STANDING + 40 * n, score=0.9, track=None)
                writer.frame(FramePoses(0, (person,), file="0.png", width=200, height=200))
    found = ranked(tmp_path / "a.jsonl", tmp_path / "b.jsonl", count=10)
    assert not any("the models" in reason for frame in found for reason in frame["reasons"])
    assert sorted(f["file"] for f in found) == (["x/0.png", "y/0.png"] if names == ("x", "y") else ["0.png"] * 2)
    if names == ("x", "y"):
        for name in names:
            (tmp_path / name).mkdir()
            (tmp_path / name / "0.png").touch()
        subject = load(tmp_path / "a.jsonl")[0]
        worth.write(subject, worth.rank([subject]), tmp_path / "todo.json")
        images = json.loads((tmp_path / "todo.json").read_text())["images"]
        assert sorted(i["file_name"] for i in images) == ["x/0.png", "y/0.png"]


def test_two_models_that_disagree(tmp_path: Path) -> None:
    ours = walking(score=0.97)
    theirs = []
    for n in range(60):  # another skeleton: joints meet by name
        xy = np.full((19, 2), 5, np.float32)
        xy[:17] = STANDING + (n, 0) + ((0, 30) if n == 25 else (0, 0))
        theirs.append([someone(xy, score=0.97)])
    theirs[50] = []
    a = save(tmp_path / "a.jsonl", ours)
    b = save(tmp_path / "b.jsonl", theirs, BODY19)
    first, second = ranked(a, b, count=2)
    reasons = {f["frame"]: " ".join(f["reasons"]) for f in (first, second)}
    assert "the models put" in reasons[25] and "0.32 person sizes apart" in reasons[25]
    assert "disagree about 1 of the people" in reasons[50]
    other = save(tmp_path / "c.jsonl", theirs, BODY19, source="b.mp4")
    with pytest.raises(PoseError, match="none of its frames"):
        ranked(a, other)
    with pytest.raises(UsageError):
        ranked(a, b, other)


def test_the_list_is_a_data_set_that_convert_takes(cli: Callable, tmp_path: Path, clip: Path) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "clip.mp4").write_bytes(clip.read_bytes())
    poses = save(tmp_path / "clip.jsonl", [[someone(STANDING * 0.5 + (30 + n, 5), score=0.9 - 0.03 * (n % 7))]
                                           for n in range(30)], source="clip.mp4")  # fmt: skip
    assert cli("stats", poses, "--worth-labelling", "--out", tmp_path / "todo.json").code == 1  # no video there
    common = ("--worth-labelling", "--count", 5, "--gap", 0.2, "--image-root", tmp_path / "videos")
    result = cli("stats", poses, *common, "--out", tmp_path / "todo.json", "--json")
    assert result.code == 0, result.err
    frames = sorted(f["frame"] for f in json.loads(result.out)["frames"])
    dataset = coco.read(tmp_path / "todo.json", warn=pytest.fail)
    assert [r.frame_id for r in dataset.records] == frames and len(frames) == 5
    assert all(len(r.instances) == 1 and r.extra["reasons"] for r in dataset.records)
    np.testing.assert_allclose(dataset.records[0].instances[0].xy, STANDING * 0.5 + (30 + frames[0], 5), atol=0.01)
    out = cli("convert", tmp_path / "todo.json", "--frames", tmp_path / "frames", "--out", tmp_path / "frames.json")
    assert out.code == 0, out.err
    assert len(list((tmp_path / "frames").rglob("*.jpg"))) == 5
    assert cli("check", tmp_path / "frames.json", "--skip", "joint-outside").code == 0
    assert cli("stats", poses, *common, "--out", tmp_path / "todo.csv").code == 0
    with open(tmp_path / "todo.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert sorted(int(r["frame"]) for r in rows) == frames
    assert cli("stats", poses, *common, "--out", tmp_path / "todo.csv").code == 1  # it exists


def test_page_and_table(cli: Callable, tmp_path: Path) -> None:
    frames = walking(20)
    odd = save(tmp_path / "<b>&.jsonl", frames)
    result = cli("stats", odd, "--html", tmp_path / "s.html")
    assert result.code == 0 and "left_wrist" in result.out and "seen from" in result.out
    page = (tmp_path / "s.html").read_text()
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page
    assert "<svg" in page and "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert cli("stats", odd, "--html", tmp_path / "s.html").code == 1
    assert cli("stats", odd, odd, "--html", tmp_path / "s.html", "--overwrite").code == 0
    value = json.loads(cli("stats", odd, "--json").out)
    assert value["files"][0]["people"] == 20 and value["files"][0]["tracks"] == 1
    assert cli("stats", odd, "--out", "x.csv").code == 2
    assert cli("stats", odd, "--worth-labelling", "--html", "x.html").code == 2
    assert cli("stats", tmp_path / "none.jsonl").code == 1


def test_nobody_anywhere(cli: Callable, tmp_path: Path) -> None:
    empty = save(tmp_path / "p.jsonl", [[], [], []])
    result = describe(load(empty)[0])
    assert result["people"] == 0 and result["variety"] is None and result["boxes"] is None
    assert cli("stats", empty, "--html", tmp_path / "s.html").code == 0
    assert cli("check", empty, "--strict").code == 0
    assert worth.rank([load(empty)[0]]) == []
