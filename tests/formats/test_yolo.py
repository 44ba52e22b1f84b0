"""YOLO pose: what it is read as, round trips, and what is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from made_labels import HEIGHT, WIDTH, assert_same, datasets

from posecli.errors import PoseError
from posecli.formats import WRITERS, detect, read_dataset
from posecli.metrics import evaluate
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record, Skeleton, Video

pytest.importorskip("yaml")
PICTURE = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
NAMES = "kpt_names:\n  0: [nose, left_eye, right_eye]\n"


def folder_of(path: Path, labels: str, yaml: str = "kpt_shape: [3, 3]\nnames: {0: person, 1: car}\n" + NAMES) -> Path:
    """A data set as Ultralytics' documentation lays it out."""
    for name, data in (("images/train/a.png", PICTURE), ("images/val/b.png", PICTURE)):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    (path / "labels/train").mkdir(parents=True)
    (path / "labels/train/a.txt").write_text(labels)
    (path / "data.yaml").write_text("path: ../gone\ntrain: images/train\nval: images/val\n" + yaml)
    return path


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(rich=False))
def test_round_trip_loses_nothing_that_yolo_can_hold(dataset: Dataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for record in dataset.records:
            (Path(folder) / "in" / record.file_name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / "in" / record.file_name).write_bytes(PICTURE)
        notes: list[str] = []
        WRITERS["yolo"](replace(dataset, root=str(Path(folder) / "in")), Path(folder) / "out", warn=notes.append)
        again = read_dataset(Path(folder) / "out", warn=pytest.fail)
        by_name = {r.file_name.removeprefix("images/"): r for r in again.records}
        expected, found = [], []
        for record in dataset.records:
            people = [_as_yolo_holds(p) for p in record.instances]
            kept = tuple(p for p in people if p.box_xyxy is not None or (p.visibility > 0).any())
            assert len(kept) == len(people) or any("left out" in note for note in notes)
            assert all(p.track_id is None for p in record.instances) or any("track ids" in note for note in notes)
            expected.append(replace(record, instances=kept))
            found.append(replace(by_name[record.file_name], image_id=record.image_id))
        assert_same(replace(dataset, records=tuple(expected)), Dataset(again.skeleton, tuple(found)), 1e-6, names=False)


def _as_yolo_holds(person: Instance) -> Instance:
    """Without a track id; the box of the joints where there is none."""
    there = person.xy[person.visibility > 0]
    box = person.box_xyxy
    if box is None and len(there):
        box = np.concatenate([there.min(axis=0), there.max(axis=0)])
        box = box if (box[2:] > box[:2]).any() else None
    return replace(person, track_id=None, box_xyxy=box)


def test_what_ultralytics_documents(tmp_path: Path) -> None:
    src = folder_of(tmp_path, "0 0.5 0.5 0.25 0.5 0.5 0.25 2 0.25 0.5 1 0 0 0\n1 0.5 0.5 0.1 0.1" + " 0" * 9 + "\n")
    assert detect(src) == ("yolo", "data.yaml has kpt_shape")
    notes: list[str] = []
    dataset = read_dataset(src, warn=notes.append)
    assert dataset.skeleton.keypoints == ("nose", "left_eye", "right_eye")
    (person,) = dataset.records[0].instances
    assert person.xy[:2].tolist() == [[320, 120], [160, 240]] and person.visibility.tolist() == [2, 1, 0]
    assert person.box_xyxy is not None and person.box_xyxy.tolist() == [240, 120, 400, 360]
    assert [(r.file_name, r.extra["split"]) for r in dataset.records] == [
        ("images/train/a.png", "train"), ("images/val/b.png", "val"),
    ]  # fmt: skip
    assert dataset.records[1].instances == () and "1 objects of other classes" in notes[0]


def test_two_numbers_a_joint_and_predictions(tmp_path: Path) -> None:
    yaml = "kpt_shape: [3, 2]\nnames: [person]\n" + NAMES
    src = folder_of(tmp_path / "2", "0 0.5 0.5 0.25 0.5 0.5 0.25 0 0 -0.1 0.5\n", yaml)
    assert read_dataset(src).records[0].instances[0].visibility.tolist() == [2, 0, 0]
    line = "0 0.5 0.5 0.25 0.5 0.5 0.25 0.875 0.25 0.5 0.125 0 0 0 0.75 12\n"
    person = read_dataset(folder_of(tmp_path / "p", line)).records[0].instances[0]
    assert person.visibility.tolist() == [2, 1, 0] and person.score.tolist() == [0.875, 0.125, 0]
    assert (person.person_score, person.track_id) == (0.75, 12)


def test_what_roboflow_exports(tmp_path: Path) -> None:
    """Its paths lead out of the folder and mean those in it, as Ultralytics takes them."""
    for split in ("train", "valid"):
        (tmp_path / split / "images").mkdir(parents=True)
        (tmp_path / split / "labels").mkdir()
        (tmp_path / split / "images" / f"{split}.png").write_bytes(PICTURE)
        text = "\ufeff0 0.5 0.5 0.25 0.5 0.5 0.25 2 0.25 0.5 1 0 0 0\n"
        (tmp_path / split / "labels" / f"{split}.txt").write_text(text, encoding="utf-8")
    yaml = "train: ../train/images\nvalidation: ../valid/images\nkpt_shape: [3, 3]\nnc: 1\nnames: ['person']\n"
    (tmp_path / "data.yaml").write_text(yaml + NAMES)
    dataset = read_dataset(tmp_path)
    assert [(r.file_name, r.extra["split"], len(r.instances)) for r in dataset.records] == [
        ("train/images/train.png", "train", 1), ("valid/images/valid.png", "val", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("labels", "yaml", "message"),
    [
        ("0 0.5 0.5 0.1 0.1 0.5 0.5 2\n", None, "a.txt, line 1: 8 numbers where 3 joints of 3 need 14"),
        ("0 0.5 0.5 0.1 nan" + " 0" * 9, None, "a.txt, line 1: a number is not finite"),
        ("\n0 0.5 0.5 0.1 0.1" + " 0.5 0.5 3" * 3, None, "a.txt, line 2: v is 3"),
        ("0 0.5 0.5 0.1 0.1 320 120 2 160 240 2 0 0 0\n", None, "a.txt, line 1: 320, 120 are pixels"),
        ("0 320 240 100 200 0.5 0.5 2 0.5 0.5 2 0 0 0\n", None, "a.txt, line 1: 320, 240 are pixels"),
        ("", "kpt_shape: [3, 4]\nnames: [person]\n", "kpt_shape is [3, 4]"),
        ("", "kpt_shape: [17, 3]\nnames: [person]\n", "nothing names the 17 joints"),
        ("", "kpt_shape: [3, 3]\nnames: [cat, dog]\n" + NAMES, "none of the classes"),
        ("", "kpt_shape: [3, 3]\nnames: [person]\nflip_idx: [0, 1, 2]\n" + NAMES, "flip_idx [0, 1, 2]"),
        ("", "kpt_shape: [3, 3\n", "not YAML"),
        ("", "kpt_shape: !!python/object/apply:os.system [ls]\n", "not YAML"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, labels: str, yaml: str | None, message: str) -> None:
    src = folder_of(tmp_path, labels) if yaml is None else folder_of(tmp_path, labels, yaml)
    with pytest.raises(PoseError) as error:
        read_dataset(src, "yolo")
    assert message in str(error.value) and str(tmp_path) in str(error.value)


def test_pictures_are_linked_and_the_folder_is_ready_for_training(
    tmp_path: Path, make_picture: Callable[..., Path]
) -> None:
    make_picture(tmp_path / "in" / "x" / "a.jpg", (64, 48))
    records = (Record(1, "x/a.jpg", 64, 48), Record(2, "../gone.jpg", 64, 48))
    notes: list[str] = []
    WRITERS["yolo"](Dataset(COCO17, records, (), str(tmp_path / "in")), tmp_path / "out", warn=notes.append)
    assert (tmp_path / "out/images/x/a.jpg").resolve() == (tmp_path / "in/x/a.jpg").resolve()
    assert (tmp_path / "out/labels/x/a.txt").read_text() == "" and (tmp_path / "out/labels/gone.txt").exists()
    assert "1 pictures are not there" in notes[0]


@pytest.mark.parametrize("splits", [("train", "test"), ("val", "test"), ("train", "val"), ("train", "val", "test")])
def test_nobody_is_learnt_from_and_validated_on(
    tmp_path: Path, make_picture: Callable[..., Path], splits: tuple[str, ...]
) -> None:
    import yaml

    for split in splits:
        make_picture(tmp_path / "in" / f"{split}.png", (64, 48))
    records = tuple(Record(n, f"{s}.png", 64, 48, extra={"split": s}) for n, s in enumerate(splits, 1))
    WRITERS["yolo"](Dataset(COCO17, records, (), str(tmp_path / "in")), tmp_path / "out")
    config = yaml.safe_load((tmp_path / "out/data.yaml").read_text())
    pictures = {
        s: {p.name for p in (tmp_path / "out" / config[s]).rglob("*.png")}
        for s in ("train", "val", "test")
        if s in config
    }
    assert pictures["train"] and pictures["val"] and not pictures["train"] & pictures["val"]
    again = read_dataset(tmp_path / "out")
    assert {Path(r.file_name).stem: r.extra["split"] for r in again.records} == {s: s for s in splits}


def found_line(joints: int = 3, x: float = 0.5, tail: str = " 0.75") -> str:
    return "0 0.5 0.5 0.2 0.4" + "".join(f" {x} 0.25 0.9" for _ in range(joints)) + tail + "\n"


def test_predictions_of_pictures(tmp_path: Path) -> None:
    """Sizes come from the pictures, joints from --skeleton; a joint put at 0 0 was not found."""
    path = folder_of(tmp_path / "set", "")
    (tmp_path / "predict/labels").mkdir(parents=True)
    lines = found_line() + found_line(2, tail="").rstrip() + " 0 0 0.3 0.5 7\n"
    (tmp_path / "predict/labels/a.txt").write_text(lines)
    (tmp_path / "predict/labels/b.txt").write_text("")
    skeleton = Skeleton("three", ("nose", "left_eye", "right_eye"))
    assert detect(tmp_path / "predict")[0] == "yolo_predictions"
    dataset = read_dataset(
        tmp_path / "predict", skeleton=skeleton, image_root=path / "images", warn=pytest.fail, score_threshold=0.5
    )
    assert [r.file_name for r in dataset.records] == ["train/a.png", "val/b.png"]
    first, second = dataset.records[0].instances
    assert first.xy == pytest.approx(np.array([[0.5 * WIDTH, 0.25 * HEIGHT]] * 3))
    assert first.score == pytest.approx(np.full(3, 0.9)) and (first.person_score, first.track_id) == (0.75, None)
    assert first.box_xyxy == pytest.approx(np.array([0.4 * WIDTH, 0.3 * HEIGHT, 0.6 * WIDTH, 0.7 * HEIGHT]))
    assert second.visibility.tolist() == [2, 2, 0] and (second.person_score, second.track_id) == (0.5, 7)
    with pytest.raises(PoseError, match="does not name its joints"):
        read_dataset(tmp_path / "predict", image_root=path / "images")
    with pytest.raises(PoseError, match=r"a\.txt, line 1: 15 numbers where 17 joints of 2 need 39"):
        read_dataset(tmp_path / "predict", skeleton=COCO17, image_root=path / "images")
    with pytest.raises(PoseError, match=r"0 pictures in .* are called 'a'"):
        read_dataset(tmp_path / "predict", skeleton=skeleton, image_root=tmp_path / "predict")


def test_predictions_against_labels(tmp_path: Path) -> None:
    """`evaluate` takes the folder as it is: nothing but the labels says how large pictures are; frames count from 1."""
    skeleton = Skeleton("three", ("nose", "left_eye", "right_eye"), sigmas=(0.1, 0.1, 0.1))
    place = np.array([[0.5 * 200, 0.25 * 100]] * 3)
    person = Instance(place, np.full(3, 2), np.ones(3), area=900.0)
    records = (
        Record(1, "deep/down/p.jpg", 200, 100, (person,)),
        Record(2, "deep/q.jpg", 200, 100, ()),
        Record(3, "walk.mp4", 200, 100, (), 1, 0),
        Record(4, "walk.mp4", 200, 100, (person,), 1, 1),
    )
    labels = Dataset(skeleton, records, (Video(1, "walk", "walk.mp4", 200, 100, 25.0, 2),))
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "p.txt").write_text(found_line())
    (folder / "walk_2.txt").write_text(found_line(tail=""))
    said: list[str] = []
    result = evaluate(labels, folder, metrics=["oks", "epe"], pred_skeleton=skeleton, warn=said.append)
    assert result["all"]["EPE"] == pytest.approx(0.0, abs=1e-9) and result["all"]["AP"] == pytest.approx(1.0)
    assert result["frames"]["labelled_without_prediction"] == 1  # a video's frames have a line each, pictures not
    assert ["save_conf" in text for text in said] == [True]
    (folder / "walk_3.txt").write_text(found_line())
    with pytest.raises(PoseError, match=r"frame 3, but walk\.mp4 has 2 frames"):
        evaluate(labels, folder, metrics=["epe"], pred_skeleton=skeleton)
    (folder / "walk_3.txt").rename(folder / "other_3.txt")
    with pytest.raises(PoseError, match="0 labelled pictures are called 'other_3'"):
        evaluate(labels, folder, metrics=["epe"], pred_skeleton=skeleton)


def test_own_splits(tmp_path: Path, cli: Callable) -> None:
    path = folder_of(tmp_path / "set", "0 0.5 0.5 0.2 0.4 0.5 0.5 2 0.5 0.5 2 0.5 0.5 2\n")
    done = cli("convert", path, "--out", tmp_path / "o.json", "--split", "own")
    assert done.code == 0 and done.out.split() == [str(tmp_path / "o_train.json"), str(tmp_path / "o_val.json")]
    parts = [read_dataset(tmp_path / f"o_{name}.json") for name in ("train", "val")]
    assert [[Path(r.file_name).name for r in p.records] for p in parts] == [["a.png"], ["b.png"]]
    again = cli("convert", path, "--out", tmp_path / "o.json", "--split", "own")
    assert again.code == 1 and "exists already" in again.err
    (path / "data.yaml").write_text((path / "data.yaml").read_text().replace("val: images/val\n", ""))
    done = cli("convert", path, "--out", tmp_path / "p.json", "--split", "own")
    assert done.code == 1 and "nothing says which split it is of" in done.err


def test_predictions_of_two_videos_in_one_folder(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    """A frame of the other video took the place of this one's."""
    video = make_video(tmp_path / "a.mp4", 4)
    folder = tmp_path / "labels"
    folder.mkdir()
    for name, people in (("a_1", 2), ("b_1", 1), ("b_3", 1)):
        (folder / f"{name}.txt").write_text(found_line() * people)
    skeleton = Skeleton("three", ("nose", "left_eye", "right_eye"))

    def read(notes: list[str]) -> Dataset:
        return read_dataset(folder, "yolo_predictions", skeleton=skeleton, image_root=video, warn=notes.append)

    notes: list[str] = []
    assert [len(r.instances) for r in read(notes).records] == [2, 0, 0, 0]
    assert any("2 files are not named after a.mp4" in note for note in notes)
    (folder / "a_01.txt").write_text(found_line())
    with pytest.raises(PoseError, match=r"a second file of frame 1 of a\.mp4"):
        read([])
    for path in folder.glob("a_*"):
        path.unlink()
    with pytest.raises(PoseError, match=r"none of 2 files is named after a\.mp4"):
        read([])
