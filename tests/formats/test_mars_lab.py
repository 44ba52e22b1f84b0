"""The lab recordings: time, boxes and visibility of each camera, and what is refused."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecli.convert import to_skeleton
from posecli.errors import PoseError
from posecli.formats import coco, detect, mars_lab, read_dataset
from posecli.skeletons import COCO17, MARS22, match_joints

FPS = Fraction(60000, 1001)
VIEWS = ("north", "east")
# COCO's joints in the lab's order, from the description of the layout.
COCO_FROM_LAB = [9, 11, 10, 13, 12, 5, 6, 14, 15, 18, 19, 2, 3, 7, 8, 16, 17]


def line(frame: float, x: np.ndarray, y: np.ndarray, score: np.ndarray) -> str:
    return " ".join([f"{frame:g}", *(f"{v:.6f}" for v in (*x, *y, *score))])


def points(view: int, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joint j at (2 + j + frame / 8 + view, 4 + j) with confidence 0.9: another place in each view."""
    joints = np.arange(22)
    return 2.25 + joints + frame / 8 + view, 4.5 + joints, np.full(22, 0.9)


def write_labels(root: Path, numbers: list[int], frame_of: Any = lambda n: n) -> None:
    for i, view in enumerate(VIEWS):
        (root / "walk" / view).mkdir(parents=True, exist_ok=True)
        lines = [line(n, *points(i, frame_of(n))) for n in numbers]
        (root / "walk" / view / "joints2d.txt").write_text("\n".join(lines) + "\n")


@pytest.fixture
def lab(tmp_path: Path, make_video: Any) -> Path:
    """A set of two views, 30 frames at 59.94/s, no labels yet."""
    make_video(tmp_path / "lab/walk/data1.mp4", 30, fps=FPS)
    make_video(tmp_path / "lab/walk/data2.mp4", 30, size=(96, 64), fps=FPS)
    (tmp_path / "lab/calibration.json").write_text(json.dumps({v: {"K": [0] * 9, "RT": [0] * 12} for v in VIEWS}))
    return tmp_path / "lab"


def frames_with_people(dataset: Any, video_id: int) -> list[int]:
    return [r.frame_id for r in dataset.records if r.video_id == video_id and r.instances]


def test_sixty_hertz_numbers_every_third_frame(lab: Path) -> None:
    # Labels every third camera frame from frame 6 on: the k-th line is frame 6 + 3 k, not frame k.
    numbers = [6, 9, 12, 15]
    write_labels(lab, numbers)
    (lab / "walk/pose.txt").write_text("6 " + " ".join(["0"] * 75) + "\n")
    assert detect(lab) == ("mars_lab", "1 sets with <view>/joints2d.txt")
    said: list[str] = []
    dataset = read_dataset(lab, warn=said.append)
    assert not said
    assert dataset.skeleton is MARS22 and len(dataset.records) == 60
    for view in (0, 1):
        assert frames_with_people(dataset, view + 1) == numbers
        for record in dataset.records[30 * view : 30 * view + 30]:
            for person in record.instances:
                x, y, _ = points(view, record.frame_id or 0)
                assert person.xy[:, 0].tolist() == x.tolist() and person.xy[:, 1].tolist() == y.tolist()  # floats kept
                assert person.visibility.tolist() == [2] * 22


def test_box_is_the_views_own_as_xywh(lab: Path) -> None:
    write_labels(lab, [0])
    value = coco.to_json(read_dataset(lab))
    # Joints span 21 x 21 pixels in both views; the second view's are one pixel to the right.
    assert [a["bbox"] for a in value["annotations"]] == [[2.25, 4.5, 21, 21], [3.25, 4.5, 21, 21]]
    assert [(i["width"], i["height"]) for i in (value["images"][0], value["images"][30])] == [(64, 48), (96, 64)]
    ids = [i["id"] for i in value["images"]]
    assert len(set(ids)) == 60 and len({a["id"] for a in value["annotations"]}) == 2
    assert [v["tags"] for v in value["videos"]] == [["walk", "north"], ["walk", "east"]]
    assert {v["recording"] for v in value["videos"]} == {"walk"}


def test_visibility(lab: Path) -> None:
    write_labels(lab, [0])
    x, y, score = points(0, 0)
    score[1] = 0.1  # inside, uncertain
    score[2] = 0.0  # not found
    score[3] = np.nan
    x[4] = -5  # outside
    x[5], y[5] = 63.4, 47.4  # the last pixel reaches to 63.5
    y[6] = 47.6
    score[7] = 1.25
    (lab / "walk/north/joints2d.txt").write_text(line(0, x, y, score) + "\n")
    said: list[str] = []
    person = read_dataset(lab, warn=said.append).records[0].instances[0]
    assert said == [f"{lab / 'walk/north/joints2d.txt'}: 1 joint scores below 0 or above 1 count as 0 and 1"]
    assert person.score[7] == 1
    assert person.visibility.tolist() == [2, 1, 0, 0, 0, 2, 0] + [2] * 15
    assert person.score[1] == pytest.approx(0.1) and np.isnan(person.xy[4]).all()
    assert read_dataset(lab, score_threshold=0.05, warn=said.append).records[0].instances[0].visibility[1] == 2
    # The box is that of the joints that are there.
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [2.25, 4.5, 63.4, 47.4]


def test_nobody_in_sight(lab: Path) -> None:
    write_labels(lab, [0])
    x, y, score = points(0, 0)
    (lab / "walk/north/joints2d.txt").write_text(line(0, x + 500, y, score) + "\n")
    record = read_dataset(lab).records[0]
    assert record.instances == () and record.extra == {}


def test_twenty_hertz_clock_shows_and_is_said(lab: Path) -> None:
    # Ten labels numbered 0..9 for 30 frames: a clock of 20/s. Label n belongs to the frame nearest to n / 20 s.
    write_labels(lab, list(range(10)))
    said: list[str] = []
    dataset = read_dataset(lab, warn=said.append)
    assert frames_with_people(dataset, 1) == [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
    assert len(said) == 2 and "labels count at 20/s, the video runs at 59.9401/s: matched by time stamps" in said[0]
    # The same numbers, but pose.txt says that the first labelled camera frame is the first number: camera frames.
    write_labels(lab, list(range(2, 12)))
    (lab / "walk/pose.txt").write_text("2 0\n")
    assert frames_with_people(read_dataset(lab, warn=said.append), 1) == list(range(2, 12))


def test_slower_clock_begins_at_the_first_labelled_camera_frame(lab: Path) -> None:
    # pose.txt: the first labelled camera frame is 3; labels 0..8 every third frame from there would end at 27.
    write_labels(lab, list(range(9)))
    (lab / "walk/pose.txt").write_text("3 0\n")
    said: list[str] = []
    dataset = read_dataset(lab, label_fps=20, warn=said.append)
    assert frames_with_people(dataset, 1) == [3, 6, 9, 12, 15, 18, 21, 24, 27]
    write_labels(lab, list(range(10)))  # ten: the clock shows by itself, 10 x 3 frames from frame 0 on
    (lab / "walk/pose.txt").write_text("0 0\n")
    assert frames_with_people(read_dataset(lab, warn=said.append), 1) == list(range(0, 30, 3))
    # Ten labels in the first third of a longer video with gaps: camera frames.
    write_labels(lab, [0, 1, 2, 3, 4, 5, 6, 7, 8, 11])
    assert frames_with_people(read_dataset(lab, warn=said.append), 1)[-2:] == [8, 11]


def test_stated_rate(lab: Path) -> None:
    write_labels(lab, [0, 1, 5])
    said: list[str] = []
    dataset = read_dataset(lab, label_fps=20, warn=said.append)
    assert frames_with_people(dataset, 1) == [0, 3, 15]


def test_whole_rates_beside_59_94(tmp_path: Path, make_video: Any) -> None:
    # 20 s: 1199 frames at 59.94/s, 1200 labels at 60/s. At the end, label n is frame n - 1; nothing lies beyond.
    make_video(tmp_path / "walk/data1.mp4", 1199, size=(32, 32), fps=FPS)
    (tmp_path / "walk/calibration.json").write_text('{"north": {}}')
    (tmp_path / "walk/north").mkdir()
    (tmp_path / "walk/north/joints2d.txt").write_text("\n".join(line(n, *points(0, 0)) for n in range(1200)))
    said: list[str] = []
    dataset = mars_lab.read(tmp_path, warn=said.append)
    assert len(frames_with_people(dataset, 1)) == 1199
    assert "labels count at 60/s" in said[0] and "1.2 frames apart at the end" in said[0]
    assert "1 labels left out: a nearer one has their frame" in said[1]


def test_coco17_comes_out_by_name(lab: Path) -> None:
    assert match_joints(MARS22.keypoints, COCO17.keypoints).tolist() == COCO_FROM_LAB
    write_labels(lab, [0])
    dataset = read_dataset(lab)
    changed, change = to_skeleton(dataset, COCO17)
    assert change.lost == ("mid_hip", "neck", "head", "left_big_toe", "right_big_toe") and change.absent == ()
    before, after = dataset.records[0].instances[0], changed.records[0].instances[0]
    assert after.xy.tolist() == before.xy[COCO_FROM_LAB].tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1 2 3\n", r"north/joints2d\.txt, row 1: 4 numbers, not a frame number and 3 x 22"),
        (line(0, *points(0, 0)) + "\n" + line(0, *points(0, 0)), r"joints2d\.txt, row 2: frame 0 stands twice"),
        (line(0.5, *points(0, 0)), r"joints2d\.txt, row 1: '0\.5' is not a frame number"),
        (line(1e30, *points(0, 0)), r"joints2d\.txt, row 1: '1e\+30' is not a frame number"),
        ("x" + line(0, *points(0, 0))[1:], r"joints2d\.txt, row 1: not a number"),
        (line(30, *points(0, 0)), r"joints2d\.txt, row 1: frame 30, but the video has 30 frames"),
        (line(0, *points(0, 0)).replace(" 4.500000 ", " nan "), r"row 1: a number of 'mid_hip' is not finite"),
        ("\n", "no labels in it"),
    ],
)
def test_bad_labels_name_file_and_row(lab: Path, text: str, message: str) -> None:
    write_labels(lab, [0])
    (lab / "walk/north/joints2d.txt").write_text(text)
    with pytest.raises(PoseError, match=message):
        read_dataset(lab)


def test_bad_layout(lab: Path) -> None:
    write_labels(lab, [0])
    (lab / "walk/east").rename(lab / "walk/west")
    with pytest.raises(PoseError, match=r"view 'west' is not in calibration\.json"):
        read_dataset(lab)
    (lab / "walk/west").rename(lab / "walk/east")
    (lab / "walk/data2.mp4").rename(lab / "walk/data3.mp4")
    with pytest.raises(PoseError, match=r"data3\.mp4, but .*calibration\.json has 2 views"):
        read_dataset(lab)
    (lab / "walk/data3.mp4").unlink()
    with pytest.raises(PoseError, match=r"labels of view 'east', but no data2\.mp4"):
        read_dataset(lab)
    (lab / "calibration.json").unlink()
    with pytest.raises(PoseError, match=r"no calibration\.json"):
        read_dataset(lab)
