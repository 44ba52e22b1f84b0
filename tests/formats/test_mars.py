"""The folder of videos and labels: every label form, names, tags, times, and what is refused."""

from __future__ import annotations

import copy
import csv
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.errors import PoseError
from posecli.formats import detect, mars, read_dataset
from posecli.formats.alignment import align, nearest_frames
from posecli.formats.clip_names import recording_of, tags_of
from posecli.formats.frame_json import read_frame_json
from posecli.formats.labels import Third
from posecli.formats.tables import read_csv
from posecli.types import Dataset, Skeleton

JOINTS = ("nose", "left_hand", "right_hand")
TOML = 'name = "three"\nkeypoints = ["nose", "left_hand", "right_hand"]\nedges = [["nose", "left_hand"]]\n'
# Frame 0: all three; frame 2: the nose hidden, the left hand missing.
WANTED = {0: [[1.5, 2, 2], [3, 4.25, 1], [5, 6, 2]], 2: [[7, 8, 1], None, [9.125, 10, 2]]}


def check(dataset: Dataset, thirds: bool = True) -> None:
    """The data set holds WANTED in a video of 5 frames and nothing else."""
    assert dataset.skeleton.keypoints == JOINTS
    assert [r.frame_id for r in dataset.records] == [0, 1, 2, 3, 4]
    for record in dataset.records:
        wanted = WANTED.get(record.frame_id or 0)
        assert len(record.instances) == (wanted is not None), record.frame_id
        if wanted is None:
            continue
        (person,) = record.instances
        for joint, point in enumerate(wanted):
            if point is None:
                assert person.visibility[joint] == 0 and np.isnan(person.xy[joint]).all()
            else:
                assert person.xy[joint].tolist() == point[:2]
                assert person.visibility[joint] == (point[2] if thirds else 2)


def table(path: Path, rows: list[list[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as handle:
        csv.writer(handle).writerows(rows)


def wide(path: Path, third: str = "v", first: str = "frame", scale: float = 1) -> None:
    head = [first, *(f"{j}_{c}" for j in JOINTS for c in ("x", "y", third))]
    rows = [[f * scale, *(v for p in points for v in (p or ["", "", 0]))] for f, points in WANTED.items()]
    table(path, [head, *rows])


def long(path: Path) -> None:
    rows = [[f, 1, j, *p] for f, points in WANTED.items() for j, p in zip(JOINTS, points, strict=True) if p]
    table(path, [["frame", "person", "joint", "x", "y", "v"], *rows])


def frame_json(path: Path, **more: Any) -> None:
    frames = [{"frame": f, "persons": [{"track_id": 1, "keypoints": p}]} for f, p in WANTED.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"frames": frames, "keypoints": JOINTS, **more}))


def array(people: int = 0, nan: bool = True) -> np.ndarray:
    """(5, 3, 3), or (5, people, 3, 3) with the person in the last place."""
    values = np.full((5, 3, 3), np.nan)
    values[..., 2] = 0
    for f, points in WANTED.items():
        for j, p in enumerate(points):
            if p:
                values[f, j] = p
    if not nan:
        values = np.nan_to_num(values)
    if people:
        empty = np.zeros((5, people - 1, 3, 3))
        return np.concatenate([empty, values[:, None]], axis=1)
    return values


def openpose(folder: Path) -> None:
    folder.mkdir(parents=True)
    for f in range(5):
        people = []
        if f in WANTED:
            flat = [v for p in WANTED[f] for v in ([*p[:2], {1: 0.1, 2: 0.9}[p[2]]] if p else [0, 0, 0])]
            people = [{"person_id": [-1], "pose_keypoints_2d": flat, "face_keypoints_2d": []}]
        (folder / f"clip_{f:012d}_keypoints.json").write_text(json.dumps({"version": 1.3, "people": people}))


def deeplabcut(path: Path, individuals: bool = False) -> None:
    who = [["individuals", *["anna"] * 9]] if individuals else []
    head = [["scorer", *["net"] * 9], *who, ["bodyparts", *(j for j in JOINTS for _ in range(3))]]
    head.append(["coords", *["x", "y", "likelihood"] * 3])
    rows = []
    for f in range(5):
        points = WANTED.get(f, [None] * 3)
        rows.append([f, *(v for p in points for v in ([*p[:2], {1: 0.1, 2: 0.9}[p[2]]] if p else ["", "", ""]))])
    table(path, [*head, *rows])


def labels_as(form: str, place: Path) -> bool:
    """Writes WANTED in that form below ``place``/clip; returns whether the form tells v = 1 from 2."""
    place.mkdir(parents=True, exist_ok=True)
    if form == "json":
        frame_json(place / "clip.json")
    elif form == "json folder":
        (place / "clip").mkdir()
        for f, p in WANTED.items():
            value = {"persons": [{"keypoints": p}], "keypoints": JOINTS}
            (place / f"clip/frame_{f:04d}.json").write_text(json.dumps(value))
    elif form == "csv wide":
        wide(place / "clip.csv")
    elif form == "csv long":
        long(place / "clip.csv")
    elif form == "npy":
        np.save(place / "clip.npy", array())
    elif form == "npy two places":
        np.save(place / "clip.npy", array(2))
    elif form == "npz":
        np.savez(place / "clip.npz", keypoints=array()[..., :2], visibility=array()[..., 2], names=np.array(JOINTS))
    elif form == "npz frames":
        np.savez(place / "clip.npz", keypoints=array()[[2, 0]], frames=np.array([2, 0]), names=np.array(JOINTS))
    elif form == "mat":
        from scipy.io import savemat

        savemat(place / "clip.mat", {"keypoints": array(nan=False)})
    elif form == "openpose":
        openpose(place / "clip")
    elif form == "deeplabcut":
        deeplabcut(place / "clipDLC_resnet50_1000.csv")
    elif form == "deeplabcut people":
        deeplabcut(place / "clip.csv", individuals=True)
    elif form == "npy no third":
        np.save(place / "clip.npy", array()[..., :2])
        return False
    return True


FORMS = [
    "json", "json folder", "csv wide", "csv long", "npy", "npy two places", "npy no third", "npz", "npz frames", "mat",
    "openpose", "deeplabcut", "deeplabcut people",
]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, make_video: Any) -> Path:
    """A folder with one video of five frames and a skeleton.toml."""
    make_video(tmp_path / "mars/clip.mp4", 5)
    (tmp_path / "mars/skeleton.toml").write_text(TOML)
    return tmp_path / "mars"


@pytest.mark.parametrize("form", FORMS)
def test_every_label_form(form: str, folder: Path) -> None:
    thirds = labels_as(form, folder if form not in ("openpose", "mat", "npz") else folder / "labels")
    name, reason = detect(folder)
    assert name == "mars" and "1 with labels and skeleton.toml" in reason
    dataset = read_dataset(folder)
    check(dataset, thirds)
    (video,) = dataset.videos
    assert (video.file_name, video.width, video.height, video.num_frames) == ("clip.mp4", 64, 48, 5)
    assert video.fps == 25


def test_confidences_stay_as_scores(folder: Path) -> None:
    labels_as("openpose", folder)
    person = read_dataset(folder).records[2].instances[0]
    assert person.score.tolist() == pytest.approx([0.1, 0, 0.9]) and person.visibility.tolist() == [1, 0, 2]
    assert read_dataset(folder, score_threshold=0.05).records[2].instances[0].visibility.tolist() == [2, 0, 2]


def outside(kind: str, folder: Path) -> Path:
    """Labels of one frame with confidences 1.5, -0.5 and 0.5; where they are."""
    scores = [1.5, -0.5, 0.5]
    if kind == "npz":
        xy = np.array([[[1.0, 2], [3, 4], [5, 6]]])
        np.savez(folder / "clip.npz", keypoints=xy, scores=np.array([scores]), names=np.array(JOINTS))
        return folder / "clip.npz"
    if kind == "openpose":
        (folder / "clip").mkdir()
        flat = [n for k, s in enumerate(scores) for n in (2 * k + 1, 2 * k + 2, s)]
        path = folder / "clip" / "clip_000000000000_keypoints.json"
        path.write_text(json.dumps({"people": [{"pose_keypoints_2d": flat}]}))
        return folder / "clip"
    head = ",".join(f"{name}_{c}" for name in JOINTS for c in ("x", "y", "score"))
    if kind == "deeplabcut":
        cells = (",".join(f"{x}" for n in JOINTS for x in (v if v else n,) * 3) for v in ("net", ""))
        head = "\n".join(f"{h},{c}" for h, c in zip(("scorer", "bodyparts"), cells, strict=True))
        head += "\ncoords" + ",x,y,likelihood" * 3
    row = ",".join(f"{2 * k + 1},{2 * k + 2},{s}" for k, s in enumerate(scores))
    path = folder / ("clipDLC_net.csv" if kind == "deeplabcut" else "clip.csv")
    path.write_text(f"{head if kind == 'deeplabcut' else 'frame,' + head}\n0,{row}\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "npz", "deeplabcut", "openpose"])
def test_confidences_out_of_range_are_said_once(kind: str, folder: Path) -> None:
    place = outside(kind, folder)
    said: list[str] = []
    person = read_dataset(folder, "mars", warn=said.append).records[0].instances[0]
    assert person.score.tolist() == [1, 0, 0.5] and person.visibility.tolist() == [2, 0, 2]
    assert [s for s in said if "scores" in s] == [f"{place}: 2 joint scores below 0 or above 1 count as 0 and 1"]


def test_confidences_out_of_range_in_tables_and_results(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 2)
    table = tmp_path / "table.csv"
    head = ",".join(f"{n}_x,{n}_y,{n}_score" for n in JOINTS)
    table.write_text(f"source,frame,{head}\nclip.mp4,0,1,2,1.5,3,4,1,5,6,0.5\n")
    deeplabcut = outside("deeplabcut", tmp_path)
    openpose = outside("openpose", tmp_path)
    for path, form, count in ((table, "csv", 1), (deeplabcut, "deeplabcut", 2), (openpose, "openpose", 2)):
        said: list[str] = []
        skeleton = Skeleton("three", tuple(JOINTS)) if form == "openpose" else None
        read_dataset(path, form, skeleton=skeleton, warn=said.append)
        assert f"{path}: {count} joint scores below 0 or above 1 count as 0 and 1" in said, form


PLACES = [
    ("front/a.mp4", "front/a.csv"),
    ("front/a.mp4", "front/labels/a.csv"),
    ("front/a.mp4", "labels/front/a.csv"),
    ("front/a.mp4", "annotations/a.csv"),
    ("videos/front/a.mp4", "gt/front/a.csv"),
    ("videos/a.mp4", "labels/a.csv"),
]


@pytest.mark.parametrize(("video", "labels"), PLACES)
def test_where_labels_lie(video: str, labels: str, tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / video, 5)
    wide(tmp_path / labels)
    dataset = read_dataset(tmp_path)
    check(dataset)
    assert dataset.videos[0].tags == (("front",) if "front" in video else ())


def test_skeleton_from_the_labels_own_names(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 5)
    frame_json(tmp_path / "clip.json")
    dataset = mars.read(tmp_path)
    assert dataset.skeleton.name == "custom3" and dataset.skeleton.sigmas == ()
    check(mars.read(tmp_path / "clip.mp4"))  # one video, its labels beside it


def test_rename(folder: Path) -> None:
    (folder / "skeleton.toml").write_text(TOML + '[rename]\nsnout = "nose"\nhat = ""\n')
    head = ["frame", "snout_x", "snout_y", "hat_x", "hat_y"]
    table(folder / "clip.csv", [head, [0, 1, 2, 3, 4]])
    person = read_dataset(folder).records[0].instances[0]
    assert person.visibility.tolist() == [2, 0, 0] and person.xy[0].tolist() == [1, 2]


def test_two_cameras_two_people(tmp_path: Path, make_video: Any) -> None:
    (tmp_path / "skeleton.toml").write_text(TOML)
    for view in ("front", "side"):
        make_video(tmp_path / view / "walk.mp4", 3)
        points = [[1, 2, 2]] * 3
        people = [{"track_id": i, "keypoints": points, "box": [i, 0, 5, 6], "head_box": [1, 1, 2, 2]} for i in (4, 9)]
        value = {"frames": [{"frame": 1, "persons": people}, {"frame": 2, "persons": []}], "keypoints": JOINTS}
        (tmp_path / view / "walk.json").write_text(json.dumps(value | {"tags": ["gym"]}))
    dataset = read_dataset(tmp_path)
    assert [v.tags for v in dataset.videos] == [("front", "gym"), ("side", "gym")]
    assert {v.extra["recording"] for v in dataset.videos} == {"walk"}
    assert len({r.image_id for r in dataset.records}) == 6
    people = dataset.records[1].instances
    assert [p.track_id for p in people] == [4, 9]
    assert people[1].box_xyxy is not None and people[1].box_xyxy.tolist() == [9, 0, 14, 6]
    assert people[1].head_box_xyxy is not None and people[1].head_box_xyxy.tolist() == [1, 1, 3, 3]
    # Frame 2 is labelled as empty, frame 0 is not spoken of.
    assert [r.extra for r in dataset.records[:3]] == [{"is_labeled": False}, {}, {}]


def test_folder_of_frames(tmp_path: Path, make_picture: Any) -> None:
    for i in (0, 1, 2, 10, 9):  # natural order: 9 before 10
        make_picture(tmp_path / f"side/walk/{i}.png", (64, 48))
    wide(tmp_path / "side/walk.csv")
    dataset = read_dataset(tmp_path)
    check(dataset)
    assert [r.file_name for r in dataset.records] == [f"side/walk/{i}.png" for i in (0, 1, 2, 9, 10)]
    assert dataset.videos[0].fps == 0 and dataset.videos[0].num_frames == 5 and dataset.videos[0].tags == ("side",)
    wide(tmp_path / "side/walk.csv", first="time")
    with pytest.raises(PoseError, match="a folder of pictures has no clock"):
        read_dataset(tmp_path)


def test_deeplabcut_labelled_pictures(tmp_path: Path, make_picture: Any) -> None:
    for i in range(3):
        make_picture(tmp_path / f"walk/img{i:02d}.png")
    head = [["scorer", "me", "me"], ["bodyparts", "snout", "snout"], ["coords", "x", "y"]]
    table(tmp_path / "walk/CollectedData_me.csv", [*head, ["labeled-data/walk/img02.png", 3.5, 4]])
    dataset = read_dataset(tmp_path)
    assert [len(r.instances) for r in dataset.records] == [0, 0, 1]
    assert dataset.records[2].instances[0].xy.tolist() == [[3.5, 4]]
    # Newer releases give the path in three columns.
    three = [[r[0], "", "", *r[1:]] for r in head]
    table(tmp_path / "walk/CollectedData_me.csv", [*three, ["labeled-data", "walk", "img01.png", 5, 6]])
    assert [len(r.instances) for r in read_dataset(tmp_path).records] == [0, 1, 0]
    # The folder of pictures itself.
    alone = read_dataset(tmp_path / "walk")
    assert [r.file_name for r in alone.records] == ["img00.png", "img01.png", "img02.png"]
    assert alone.records[1].instances[0].xy.tolist() == [[5, 6]] and alone.videos[0].name == "walk"
    table(tmp_path / "walk/CollectedData_me.csv", [*head, ["labeled-data/walk/img07.png", 3.5, 4]])
    with pytest.raises(PoseError, match=r"row 4: picture 'img07\.png' is not in walk"):
        read_dataset(tmp_path)


def test_people_of_a_table_are_numbers_or_names(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 3)
    head = ["frame", "person", "snout_x", "snout_y", "snout_v"]
    table(tmp_path / "clip.csv", [head, [0, "7", 1, 1, 2], [1, "bob", 2, 2, 2], [1, "7", 1, 1, 2], [2, "7", 1, 1, 2]])
    people = [[(p.extra["person"], p.track_id) for p in r.instances] for r in read_dataset(tmp_path).records]
    assert people == [[("7", 1)], [("bob", 2), ("7", 1)], [("7", 1)]]


def test_a_deeplabcut_table_speaks_of_the_frames_it_has_rows_for(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 6)
    head = [["scorer", "me", "me"], ["bodyparts", "snout", "snout"], ["coords", "x", "y"]]
    table(tmp_path / "clip.csv", [*head, [2, 3.5, 4], [4, "", ""], [5, 5, 6]])
    records = read_dataset(tmp_path).records
    assert [r.frame_id for r in records if r.extra.get("is_labeled") is not False] == [2, 4, 5]
    assert [len(r.instances) for r in records] == [0, 0, 1, 0, 0, 1]


def test_time_column_meets_real_time_stamps(tmp_path: Path, make_video: Any) -> None:
    # A variable rate: frames at 0, 40, 80, 500 and 540 ms. Labels at 0.0 and 0.5 s are frames 0 and 3.
    make_video(tmp_path / "clip.mp4", 5, stamps=[0, 40, 80, 500, 540])
    wide(tmp_path / "clip.csv", first="time", scale=0.25)
    dataset = read_dataset(tmp_path)
    assert [r.frame_id for r in dataset.records if r.instances] == [0, 3]
    wide(tmp_path / "clip.csv", first="time", scale=0.3)  # the second at 0.6 s, the last frame is shown at 0.54
    with pytest.raises(PoseError, match=r"clip\.csv, row 3: a label at 0\.600 s, but the video ends at 0\.540 s"):
        read_dataset(tmp_path)


def test_a_blank_row_is_nobody(folder: Path) -> None:
    csv_text(folder, "frame,nose_x,nose_y,nose_v\n0,,,\n1,1,2,2\n2,0,0,0\n")
    dataset = read_dataset(folder)
    assert [len(r.instances) for r in dataset.records] == [0, 1, 0, 0, 0]
    assert [r.extra.get("is_labeled", True) for r in dataset.records] == [True, True, True, False, False]


def test_json_with_times(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 5, fps=10)
    frames = [{"time": f / 10 + 0.02, "persons": [{"keypoints": p}]} for f, p in WANTED.items()]
    (tmp_path / "clip.json").write_text(json.dumps({"frames": frames, "keypoints": JOINTS}))
    check(read_dataset(tmp_path))


def test_labels_at_another_rate(tmp_path: Path, make_video: Any) -> None:
    # 20 labels a second beside 60 frames a second: label n belongs to frame 3 n, never to frame n.
    make_video(tmp_path / "clip.mp4", 9, fps=60)
    frame_json(tmp_path / "clip.json", fps=20)
    said: list[str] = []
    dataset = read_dataset(tmp_path, warn=said.append)
    assert [r.frame_id for r in dataset.records if r.instances] == [0, 6]
    assert "labels count at 20/s, the video runs at 60/s: matched by time stamps" in said[0]
    frame_json(tmp_path / "clip.json")
    by_option = read_dataset(tmp_path, label_fps=20, warn=said.append)
    assert [r.frame_id for r in by_option.records if r.instances] == [0, 6]
    assert [r.frame_id for r in read_dataset(tmp_path).records if r.instances] == [0, 2]


def test_stated_rate_that_is_the_videos_own_counts_frames(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 5, fps=Fraction(30000, 1001))
    frame_json(tmp_path / "clip.json", fps=29.97)
    check(read_dataset(tmp_path))


def test_every(folder: Path) -> None:
    labels_as("json", folder)
    dataset = read_dataset(folder, every=2)
    assert [r.frame_id for r in dataset.records] == [0, 2, 4]
    assert [len(r.instances) for r in dataset.records] == [1, 1, 0]


def csv_text(folder: Path, text: str) -> None:
    (folder / "clip.csv").write_text(text)


BAD_CSV = [
    ("frame,nose_x,nose_y\n0,1,2\n5,1,2\n", "clip.csv, row 3: frame 5, but the video has 5 frames"),
    ("frame,tail_x,tail_y\n0,1,2\n", "clip.csv: unknown joint 'tail'"),
    ("frame,nose_x,nose_y\n0,nan,2\n", "clip.csv, row 2: a coordinate of 'nose' is not finite"),
    ("frame,nose_x,nose_y\n0,inf,2\n", "clip.csv, row 2: a coordinate of 'nose' is not finite"),
    ("frame,nose_x,nose_y\n0,,2\n", "clip.csv, row 2: a coordinate of 'nose' is not finite"),
    ("frame,nose_x,nose_y\n0,a,2\n", "clip.csv, row 2: nose_x is 'a', not a number"),
    ("frame,nose_x,nose_y,nose_v\n0,1,2,3\n", "clip.csv, row 2: visibility of 'nose' is 3, not 0, 1 or 2"),
    ("frame,nose_x,nose_y,nose_v\n0,1,2,\n", "clip.csv, row 2: visibility of 'nose' is nan"),
    ("frame,nose_x,nose_y,nose_v\n0,,,2\n", "clip.csv, row 2: a coordinate of 'nose' is not finite"),
    ("frame,nose_x,nose_y\n0,1,2\n0,3,4\n", "clip.csv, row 3: frame 0 has person 1 twice"),
    ("frame,nose_x,nose_y\n0,1\n", "clip.csv, row 2: 2 cells where the header has 3"),
    ("frame,nose_x,nose_y\n-1,1,2\n", "clip.csv, row 2: frame is '-1'"),
    ("frame,nose_x,nose_y\n1.5,1,2\n", "clip.csv, row 2: frame is '1.5'"),
    ("frame,nose_x\n0,1\n", "clip.csv, row 1: joint 'nose' has no column for x and for y"),
    ("frame,nose_x,nose_y,what\n0,1,2,3\n", "clip.csv, row 1: column 'what' is none of"),
    ("nose_x,nose_y\n1,2\n", "clip.csv, row 1: no column 'frame' or 'time'"),
    ("frame,nose_x,nose_y\n1e30,1,2\n", "clip.csv, row 2: frame 1000"),
    ("frame,nose_x,nose_x\n0,1,2\n", "clip.csv, row 1: column 'nose_x' stands twice"),
    ("", "clip.csv: the file is empty"),
    ("frame,joint,x,y,v\n0,nose,1,2,2\n0,nose,1,2,2\n", "clip.csv, row 3: joint 'nose' of person 1 stands twice"),
    ("frame,joint,x,y,v\n0,nose,1,2,2\n0,left_hand,nan,2,1\n", "row 3: a coordinate of 'left_hand' is not finite"),
    ("frame,joint,x,y,v\n0,nose,1,2,7\n", "clip.csv, row 2: visibility of 'nose' is '7'"),
    ("frame,joint,x,y,v\n0,tail,1,2,2\n", "clip.csv: unknown joint 'tail'"),
    ("scorer,a,a\nbodyparts,nose,nose\n0,1,2\n", "not a DeepLabCut table"),
]


@pytest.mark.parametrize(("text", "message"), BAD_CSV)
def test_bad_csv_names_file_and_row(text: str, message: str, folder: Path) -> None:
    csv_text(folder, text)
    with pytest.raises(PoseError) as caught:
        read_dataset(folder)
    assert message in str(caught.value)


def bad_json(change: Any) -> str:
    value: dict[str, Any] = {
        "frames": [{"frame": f, "persons": [{"track_id": 1, "keypoints": p}]} for f, p in WANTED.items()],
        "keypoints": list(JOINTS),
    }
    value = copy.deepcopy(value)  # the changes must not reach WANTED
    change(value)
    return json.dumps(value)


BAD_JSON = [
    (lambda v: v.pop("frames"), "no list 'frames'"),
    (lambda v: v["frames"][1].update(frame=-2), "frames[1]: 'frame' is -2"),
    (lambda v: v["frames"][1].update(frame=5), "frames[1], persons[0]: frame 5, but the video has 5 frames"),
    (lambda v: v["frames"].append({"frame": 7}), "frames[2]: no list 'persons' in frame 7"),
    (lambda v: v["frames"].append({"frame": 7, "persons": None}), "frames[2]: 'persons' is not a list in frame 7"),
    (lambda v: v["frames"][1].update(frame=10**400), "frames[1], persons[0]: frame 1000"),
    (lambda v: v["frames"][1].update(frame=2**63), "persons[0]: frame 9223372036854775808, but the video has 5"),
    (lambda v: v["frames"][1].update(frame=None, time=10**400), "frames[1]: neither 'frame' (from 0) nor 'time'"),
    (lambda v: v["frames"][1]["persons"][0].update(area=10**400), "frames[1], persons[0]: area 1000"),
    (lambda v: v["frames"][0]["persons"][0]["keypoints"][1].__setitem__(0, 10**400), "'left_hand' is not finite"),
    (lambda v: v.update(fps=10**400), "'fps' is 1000"),
    (lambda v: v.update(tags=5), "'tags' is 5, not a list of words"),
    (lambda v: v.update(tags="front"), "'tags' is 'front', not a list of words"),
    (lambda v: v["frames"].append({"frame": 7, "persons": []}), "labels for 8 frames, but the video has 5"),
    (lambda v: v["frames"][1]["persons"][0]["keypoints"].pop(), "frames[1], persons[0]: 2 keypoints where the file"),
    (lambda v: v["frames"][1]["persons"][0].update(keypoints=[[1, "a", 2]] * 3), "keypoint 0 is [1, 'a', 2]"),
    (lambda v: v["frames"][0]["persons"][0]["keypoints"][1].__setitem__(0, float("nan")), "'left_hand' is not finite"),
    (lambda v: v["frames"][0]["persons"][0]["keypoints"][1].__setitem__(2, 0.5), "visibility of 'left_hand' is 0.5"),
    (lambda v: v["frames"][0]["persons"].append(v["frames"][0]["persons"][0]), "frame 0 has person 1 twice"),
    (lambda v: v["frames"][0]["persons"][0].update(box=[1, 2, -3, 4]), "frames[0], persons[0]: box [1, 2, -3, 4]"),
    (lambda v: v.update(keypoints=["nose", "left_hand", "tail"]), "unknown joint 'tail'"),
    (lambda v: v.update(fps=0), "'fps' is 0"),
    (lambda v: v.update(width=640, height=48), "labels for a picture of 640 x 48, but the video has 64 x 48"),
]


@pytest.mark.parametrize(("change", "message"), BAD_JSON)
def test_bad_json_names_file_and_frame(change: Any, message: str, folder: Path) -> None:
    (folder / "clip.json").write_text(bad_json(change))
    with pytest.raises(PoseError) as caught:
        read_dataset(folder)
    assert str(folder / "clip.json") in str(caught.value) and message in str(caught.value)


BAD_ARRAYS = [
    (np.zeros((6, 3, 3)), "labels for 6 frames, but the video has 5"),
    (np.zeros((5, 3)), "0 arrays of shape"),
    (np.ones((5, 4, 2)), "4 joints where skeleton 'three' has 3"),
    (np.full((5, 3, 3), 7.0), "the third number beside x and y is 7"),
    (np.full((5, 3, 2), np.inf), "frame 0: a coordinate of 'nose' is not finite"),
    (np.dstack([np.full((5, 3, 2), np.nan), np.full((5, 3, 1), 2)]), "frame 0: a coordinate of 'nose' is not finite"),
]


@pytest.mark.parametrize(("values", "message"), BAD_ARRAYS)
def test_bad_arrays(values: np.ndarray, message: str, folder: Path) -> None:
    np.save(folder / "clip.npy", values)
    with pytest.raises(PoseError) as caught:
        read_dataset(folder)
    assert str(folder / "clip.npy") in str(caught.value) and message in str(caught.value)


def test_arrays_that_carry_code_are_not_read(folder: Path) -> None:
    np.save(folder / "clip.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(PoseError, match="they may carry code"):
        read_dataset(folder)


def test_matlab_73_is_read_and_a_damaged_one_named(folder: Path) -> None:
    h5py = pytest.importorskip("h5py")
    points = np.arange(30.0).reshape(5, 3, 2)
    with h5py.File(folder / "clip.mat", "w", userblock_size=512) as file:
        file["keypoints"] = points.T  # MATLAB's axes are reversed in HDF5
    people = [r.instances[0] for r in read_dataset(folder).records[:5]]
    assert np.array_equal([p.xy for p in people], points)
    # The 128-byte header of an HDF5 MATLAB file: text, then version 0x0200.
    (folder / "clip.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(64))
    with pytest.raises(PoseError, match=r"clip\.mat: a MATLAB header of version 2\.0 without"):
        read_dataset(folder)
    (folder / "clip.mat").write_bytes(b"not matlab at all")
    with pytest.raises(PoseError, match=r"clip\.mat: not a MATLAB file"):
        read_dataset(folder)


def test_openpose_without_a_skeleton(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 5)
    (tmp_path / "clip").mkdir()
    flat = [float(v) for i in range(25) for v in (i, i + 1, 0.5)]
    for name, people in (("clip_000000000000", [{"pose_keypoints_2d": flat}]), ("clip_000000000001", [])):
        (tmp_path / f"clip/{name}_keypoints.json").write_text(json.dumps({"people": people}))
    said: list[str] = []
    dataset = read_dataset(tmp_path, warn=said.append)
    assert dataset.skeleton.name == "openpose_body25" and "25 joints a person: taken as OpenPose's" in said[0]
    (tmp_path / "clip/clip_000000000000_keypoints.json").write_text(
        json.dumps({"people": [{"pose_keypoints_2d": flat[:9]}]})
    )
    with pytest.raises(PoseError, match="3 joints a person: not OpenPose's"):
        read_dataset(tmp_path)
    (tmp_path / "clip/clip_000000000000_keypoints.json").write_text(
        json.dumps({"people": [{"pose_keypoints_2d": [1, 2]}]})
    )
    with pytest.raises(PoseError, match=r"people\[0\]: 'pose_keypoints_2d' is not triples"):
        read_dataset(tmp_path)


def test_several_label_files(folder: Path) -> None:
    labels_as("json", folder)
    labels_as("csv wide", folder / "labels")
    with pytest.raises(PoseError, match=r"several label files for clip\.mp4: .*clip\.json, .*clip\.csv"):
        read_dataset(folder)


def test_videos_without_labels_are_said(folder: Path, make_video: Any) -> None:
    labels_as("json", folder)
    make_video(folder / "side/other.mp4", 3)
    table(folder / "stray.csv", [["frame", "nose_x", "nose_y"], [0, 1, 2]])
    (folder / "settings.json").write_text('{"frames": 3}')  # no labels, and not taken for any
    said: list[str] = []
    dataset = read_dataset(folder, warn=said.append)
    assert len(dataset.records) == 8
    assert any("1 of 2 videos have no labels: side/other.mp4" in s for s in said)
    assert any("1 files that could be labels belong to no video (first: stray.csv)" in s for s in said)


def test_no_labels_at_all(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "clip_labels.csv").write_text("frame,nose_x,nose_y\n0,1,2\n")
    with pytest.raises(PoseError, match="no labels for any video") as said:
        read_dataset(tmp_path)
    assert "walk.json or walk.csv for walk.mp4, beside it or in labels/" in said.value.hint
    (tmp_path / "clip_labels.csv").unlink()
    np.save(tmp_path / "clip.npy", np.ones((3, 3, 2)))
    with pytest.raises(PoseError, match="the labels do not name their joints"):
        read_dataset(tmp_path)
    assert len(read_dataset(tmp_path, skeleton=_toml(tmp_path)).records) == 3


def test_a_video_alone_is_named(tmp_path: Path, make_video: Any) -> None:
    make_video(tmp_path / "alone.mp4", 3)
    with pytest.raises(PoseError, match=r"alone\.mp4: a video without labels beside it"):
        mars.read(tmp_path / "alone.mp4")


def _toml(folder: Path) -> Path:
    (folder / "other.toml").write_text(TOML)
    return folder / "other.toml"


def test_labels_with_different_joints_need_a_skeleton(tmp_path: Path, make_video: Any) -> None:
    for name in ("a", "b"):
        make_video(tmp_path / f"{name}.mp4", 3)
    table(tmp_path / "a.csv", [["frame", "nose_x", "nose_y"], [0, 1, 2]])
    table(tmp_path / "b.csv", [["frame", "nose_x", "nose_y", "tail_x", "tail_y"], [0, 1, 2, 3, 4]])
    with pytest.raises(PoseError, match=r"b\.csv: 2 joints where a\.csv has 1"):
        read_dataset(tmp_path)


def test_a_broken_video_is_one_error(folder: Path) -> None:
    labels_as("json", folder)
    (folder / "clip.mp4").write_bytes(b"this is text")
    with pytest.raises(PoseError, match=r"clip\.mp4"):
        read_dataset(folder)


@pytest.mark.parametrize(
    ("name", "recording", "tags"),
    [
        ("front/walk.mp4", "walk", ("front",)),
        ("videos/side/walk.mp4", "walk", ("side",)),
        ("day1/walk_cam2.mp4", "day1/walk", ("day1",)),
        ("day1/cam2_walk.mp4", "day1/walk", ("day1",)),
        ("scene3/front.mp4", "scene3", ("scene3",)),
        ("gym/back.flip.mp4", "gym/flip", ("gym",)),
        ("front.mp4", "front", ()),
    ],
)
def test_recording_and_tags(name: str, recording: str, tags: tuple[str, ...]) -> None:
    assert recording_of(name) == recording and tags_of(name) == tags


def test_nearest_frames() -> None:
    frames = np.array([0.0, 0.1, 0.2, 1.0])
    index, offset = nearest_frames(np.array([0.0, 0.04, 0.06, 0.5, 0.7, 1.3, 1.5]), frames)
    assert index.tolist() == [0, 0, 1, 2, 3, 3, -1]
    assert offset[1] == pytest.approx(0.04) and offset[5] == pytest.approx(0.3)


def test_two_labels_on_one_frame_keep_the_nearer() -> None:
    # 120 labels a second on 60 frames: every other label has no frame of its own.
    numbers = np.arange(6)
    found = align(
        [f"row {n}" for n in numbers], numbers, np.full(6, np.nan), [1] * 6, 4, lambda: np.arange(4) / 60, fps=120
    )
    assert found.doubled == 3
    assert sorted(f for f in found.frame.tolist() if f >= 0) == [0, 1, 2]
    assert found.frame[[0, 2, 4]].tolist() == [0, 1, 2]


numbers = st.floats(-1e5, 1e5).map(lambda v: round(v, 3))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.integers(0, 50), st.lists(st.tuples(numbers, numbers, st.integers(0, 2)), min_size=3,
                                                    max_size=3), min_size=1, max_size=5))  # fmt: skip
def test_tables_and_json_read_back(tmp_path_factory: pytest.TempPathFactory, people: dict[int, list[Any]]) -> None:
    folder = tmp_path_factory.mktemp("forms")
    table(
        folder / "wide.csv",
        [["frame", *(f"{j}_{c}" for j in JOINTS for c in "xyv")], *([f, *sum(p, ())] for f, p in people.items())],
    )
    table(
        folder / "long.csv",
        [["frame", "person", "joint", "x", "y", "v"]]
        + [[f, 3, j, *q] for f, p in people.items() for j, q in zip(JOINTS, p, strict=True)],
    )
    entries = [{"frame": f, "persons": [{"track_id": 3, "keypoints": p}]} for f, p in people.items()]
    (folder / "a.json").write_text(json.dumps({"frames": entries, "keypoints": JOINTS}))
    for label in (read_csv(folder / "wide.csv"), read_csv(folder / "long.csv"), read_frame_json(folder / "a.json")):
        assert label.names == JOINTS and label.third is Third.VISIBILITY
        assert [r.frame for r in label.rows] == list(people)
        for row, wanted in zip(label.rows, people.values(), strict=True):
            assert np.column_stack([row.xy, row.third]).tolist() == [list(map(float, p)) for p in wanted]


def test_csv_of_other_hands(tmp_path: Path) -> None:
    # Semicolons, a byte order mark, blank lines, names of people.
    (tmp_path / "a.csv").write_bytes("﻿frame;person;nose_x;nose_y\n\n0;anna;1;2\n0;ben;3;4\n1;anna;5;6\n".encode())
    rows = read_csv(tmp_path / "a.csv").rows
    assert [r.track_id for r in rows] == [1, 2, 1]
    assert rows[1].extra == {"person": "ben"} and rows[0].where.endswith("row 3")


def picture_labels(folder: Path, form: str, names: list[str]) -> None:
    """A label file a name, with the nose at the name's place in the list."""
    folder.mkdir(parents=True)
    for n, name in enumerate(names):
        people: dict[str, Any] = {"persons": [{"keypoints": [[n, 5, 2], [6, 7, 2], [8, 9, 2]]}], "keypoints": JOINTS}
        if form == "openpose":
            people = {"people": [{"pose_keypoints_2d": [n + 0.5, 5, 1, 6, 7, 1, 8, 9, 1]}]}
            name += "_keypoints"
        (folder / f"{name}.json").write_text(json.dumps(people))


@pytest.mark.parametrize("form", ["json", "openpose"])
def test_label_files_named_after_pictures(tmp_path: Path, make_picture: Any, form: str) -> None:
    """The number of 000001.json was taken as a place, so that labels moved on by a picture."""
    (tmp_path / "skeleton.toml").write_text(TOML)
    for i in (1, 2, 3):
        make_picture(tmp_path / f"walk/{i:06d}.png", (64, 48))
    picture_labels(tmp_path / "labels/walk", form, ["000001", "000003"])
    found = [[int(p.xy[0, 0]) for p in r.instances] for r in read_dataset(tmp_path).records]
    assert found == [[0], [], [1]]
    (tmp_path / "labels/walk").rename(tmp_path / "old")
    picture_labels(tmp_path / "labels/walk", form, ["walk_1"])
    with pytest.raises(PoseError, match=r"walk_1.*0 pictures are called 'walk_1'.*name it after its picture"):
        read_dataset(tmp_path)
    (tmp_path / "walk").rename(tmp_path / "gone")
    for i in (0, 1, 2):
        make_picture(tmp_path / f"walk/{i:06d}.png", (64, 48))
    for path in sorted((tmp_path / "gone").iterdir()):
        path.unlink()
    assert [len(r.instances) for r in read_dataset(tmp_path).records] == [0, 1, 0]


def test_a_table_with_a_person_or_a_frame_of_thousands_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"frame,person,nose_x,nose_y\n0,{'9' * 5000},1,2\n")
    with pytest.raises(PoseError, match=r"t\.csv, row 2: person is a number of 5000 digits"):
        read_csv(path)
    path.write_text(f"scorer,a,a\nbodyparts,nose,nose\ncoords,x,y\n{'9' * 5000},1,2\n")
    with pytest.raises(PoseError, match=r"t\.csv, row 4: frame is a number of 5000 digits"):
        read_csv(path)


@pytest.mark.parametrize("fps", [np.array("fast"), np.zeros(0), np.array(np.nan), np.array(np.inf), np.array(0)])
def test_a_rate_of_arrays_is_a_number(fps: np.ndarray, folder: Path) -> None:
    np.savez(folder / "clip.npz", keypoints=array(), fps=fps)
    with pytest.raises(PoseError, match=r"clip\.npz: fps is .*, not a rate"):
        read_dataset(folder)


def test_frames_of_arrays_are_in_reach(folder: Path) -> None:
    np.savez(folder / "clip.npz", keypoints=array(), frames=np.array([0, 1, 2, 3, 1e30]))
    with pytest.raises(PoseError, match=r"clip\.npz: frames holds 1e\+30"):
        read_dataset(folder)
