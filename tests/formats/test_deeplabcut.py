"""DeepLabCut tables: CSV and H5, round trips, and what is refused."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from made_labels import HEIGHT, WIDTH, assert_same, datasets

from posecli.convert import split
from posecli.errors import PoseError
from posecli.formats import WRITERS, detect, read_dataset
from posecli.formats.deeplabcut_h5 import plain_values
from posecli.types import Dataset, Instance

PICTURE = cv2.imencode(".png", np.zeros((HEIGHT, WIDTH, 3), np.uint8))[1].tobytes()
SEVERAL = """scorer,,,me,me,me,me,me,me,me,me
individuals,,,ant1,ant1,ant1,ant1,ant2,ant2,ant2,ant2
bodyparts,,,nose,nose,tail,tail,nose,nose,tail,tail
coords,,,x,y,x,y,x,y,x,y
labeled-data,walk,img0.png,0.5,1.0,2.0,3.0,4.0,5.0,6.0,7.0
labeled-data,walk,img10.png,8.0,9.0,,,,,,
labeled-data,walk,img20.png,,,,,,,,
"""


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(datasets(rich=False))
def test_round_trip_loses_nothing_that_the_table_can_hold(dataset: Dataset) -> None:
    def held(person: Instance) -> Instance:
        return replace(person, visibility=np.where(person.visibility > 0, 2, 0), box_xyxy=None)

    with tempfile.TemporaryDirectory() as folder:
        for record in dataset.records:
            (Path(folder) / record.file_name).parent.mkdir(parents=True, exist_ok=True)
            (Path(folder) / record.file_name).write_bytes(PICTURE)
        path = Path(folder) / "table.csv"
        notes: list[str] = []
        WRITERS["deeplabcut"](dataset, path, warn=notes.append)
        again = read_dataset(path, skeleton=dataset.skeleton, warn=pytest.fail)
        expected, found = [], []
        for record, other in zip(dataset.records, again.records, strict=True):
            people = [held(p) for p in record.instances if (p.visibility > 0).any()]
            assert len(people) == len(record.instances) or "people without joints" in notes[0]
            assert all((p.visibility != 1).all() for p in record.instances) or "hidden joints" in notes[0]
            order = sorted(people, key=lambda p: (p.track_id is None, p.track_id or 0))
            expected.append(replace(record, instances=tuple(order)))
            found.append(replace(other, image_id=record.image_id))
        assert_same(replace(dataset, records=tuple(expected)), Dataset(again.skeleton, tuple(found)))


def as_h5(path: Path, columns: list[tuple[str, ...]], index: list[Any], values: np.ndarray, table: bool) -> Path:
    """The table as pandas and PyTables lay it out (checked against files they wrote)."""
    h5py = pytest.importorskip("h5py")

    def axis(group: Any, name: str, labels: list[tuple[str, ...]]) -> None:
        group.attrs[f"{name}_variety"], group.attrs[f"{name}_nlevels"] = b"multi", len(labels[0])
        for level, parts in enumerate(zip(*labels, strict=True)):
            known = sorted(set(parts))
            group[f"{name}_level{level}"] = np.array([k.encode() for k in known])
            group[f"{name}_label{level}"] = np.array([known.index(p) for p in parts], np.int8)

    with h5py.File(path, "w") as file:
        group = file.create_group("df_with_missing")
        if table:
            group.attrs["pandas_type"] = b"frame_table"
            kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (len(columns),))])
            rows = np.array([(i, v) for i, v in zip(index, values, strict=True)], kind)
            group["table"] = rows
            group["table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps(columns, 0))
        else:
            group.attrs["pandas_type"], group.attrs["nblocks"] = b"frame", 1
            axis(group, "axis0", columns)
            axis(group, "block0_items", columns)
            axis(group, "axis1", index)
            group["block0_values"] = values
    return path


@pytest.mark.parametrize("h5", [False, True])
def test_a_project_of_labelled_pictures(tmp_path: Path, make_picture: Callable[..., Path], h5: bool) -> None:
    folder = tmp_path / "labeled-data" / "walk"
    for name in ("img0.png", "img10.png", "img20.png"):
        make_picture(folder / name, (64, 48))
    if h5:
        columns = [("me", a, p, c) for a in ("ant1", "ant2") for p in ("nose", "tail") for c in "xy"]
        values = np.full((3, 8), np.nan)
        values[0], values[1, :2] = [0.5, 1, 2, 3, 4, 5, 6, 7], [8, 9]
        index = [("labeled-data", "walk", n) for n in ("img0.png", "img10.png", "img20.png")]
        path = as_h5(folder / "CollectedData_me.h5", columns, index, values, table=False)
    else:
        path = folder / "CollectedData_me.csv"
        path.write_text(SEVERAL)
    assert detect(tmp_path) == ("deeplabcut", "1 tables of labelled pictures in labeled-data")
    for source in (tmp_path, path):
        dataset = read_dataset(source)
        assert dataset.skeleton.keypoints == ("nose", "tail")
        assert [len(r.instances) for r in dataset.records] == [2, 1, 0]
        first, second = dataset.records[0].instances
        assert first.xy.tolist() == [[0.5, 1], [2, 3]] and (first.track_id, second.track_id) == (1, 2)
        assert first.extra == {"person": "ant1"} and dataset.records[1].instances[0].visibility.tolist() == [2, 0]
        assert (Path(dataset.root) / dataset.records[1].file_name).is_file()


def test_frames_of_a_video_stay_on_one_side_of_a_split(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    for video in ("walk", "run"):
        folder = tmp_path / "labeled-data" / video
        folder.mkdir(parents=True)
        (folder / "CollectedData_me.csv").write_text(SEVERAL.replace("labeled-data,walk,", ",,"))
        for number in (0, 10, 20):
            make_picture(folder / f"img{number}.png", (64, 48))
    parts = split(read_dataset(tmp_path), {"train": 0.5, "val": 0.5})
    folders = [{Path(r.file_name).parent.name for r in part.records} for part in parts.values()]
    assert sorted(map(sorted, folders)) == [["run"], ["walk"]]


def test_pictures_of_one_name_in_several_folders(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    """The table of all videos that DeepLabCut merges for training; the same picture twice is still an error."""
    path = tmp_path / "CollectedData_me.csv"
    path.write_text(SEVERAL + "labeled-data,run,img0.png,1.5,1.0,2.0,3.0,4.0,5.0,6.0,7.0\n")
    for name in ("walk/img0.png", "walk/img10.png", "walk/img20.png", "run/img0.png"):
        make_picture(tmp_path / "labeled-data" / name, size=(WIDTH, HEIGHT))
    found = read_dataset(path, warn=pytest.fail).records
    assert [found[i].file_name for i in (0, -1)] == ["labeled-data/walk/img0.png", "labeled-data/run/img0.png"]
    assert found[-1].instances[0].xy[0, 0] == 1.5 and len(found) == 4
    assert [r.extra["recording"] for r in found] == ["walk", "walk", "walk", "run"]
    path.write_text(path.read_text() + "labeled-data,run,img0.png,1.5,1.0,2.0,3.0,4.0,5.0,6.0,7.0\n")
    with pytest.raises(PoseError, match=r"row 9: img0.png has person 1 twice"):
        read_dataset(path)


@pytest.mark.parametrize("h5", [False, True])
def test_results_of_a_video(tmp_path: Path, make_video: Callable[..., Path], h5: bool) -> None:
    make_video(tmp_path / "walk.mp4", 3)
    values = np.array([[1, 2, 0.5, 3, 4, 0.25], [5, 6, 0.5, 7, 8, 1.0], [1, 1, 0.5, 1, 1, 0.5]])
    if h5:
        columns = [("net", p, c) for p in ("nose", "tail") for c in ("x", "y", "likelihood")]
        path = as_h5(tmp_path / "walkDLC_resnet50.h5", columns, [0, 1, 2], values, table=True)
    else:
        path = tmp_path / "walkDLC_resnet50.csv"
        rows = [f"{n},{','.join(map(str, row))}\n" for n, row in enumerate(values.tolist())]
        head = "scorer" + ",net" * 6 + "\nbodyparts" + ",nose" * 3 + ",tail" * 3 + "\ncoords" + ",x,y,likelihood" * 2
        path.write_text(head + "\n" + "".join(rows))
    assert detect(path)[0] == "deeplabcut"
    dataset = read_dataset(path)
    assert [r.frame_id for r in dataset.records] == [0, 1, 2] and dataset.records[0].file_name == "walk.mp4"
    person = dataset.records[0].instances[0]
    assert person.visibility.tolist() == [2, 1] and person.score.tolist() == [0.5, 0.25] and person.track_id is None
    beside = read_dataset(tmp_path, "mars")  # the table is found beside its video
    assert [r.instances[0].xy.tolist() for r in beside.records] == [r.instances[0].xy.tolist() for r in dataset.records]
    if h5:
        path.with_suffix(".csv").write_text("scorer,net,net\nbodyparts,nose,nose\ncoords,x,y\n0,9,9\n")
        assert len(read_dataset(tmp_path, "mars").skeleton.keypoints) == 1  # of two that say the same, the CSV
        path.with_suffix(".csv").unlink()
    told: list[str] = []
    WRITERS["deeplabcut"](dataset, tmp_path / "walk_posecli.csv", warn=told.append)
    assert len(told) == 1 and told[0].endswith("no place for hidden joints (1)")
    assert_same(dataset, read_dataset(tmp_path / "walk_posecli.csv"))


class Evil:
    def __reduce__(self) -> Any:
        return print, ("unpickled",)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_names_are_read_and_nothing_is_unpickled(protocol: int, capsys: pytest.CaptureFixture[str]) -> None:
    names = [("me", "nose", "x"), ("me", "Ünose\n", "y")]
    assert plain_values(pickle.dumps(names, protocol), "f") == names
    with pytest.raises(PoseError, match="is refused"):
        plain_values(pickle.dumps([Evil()], protocol), "f")
    with pytest.raises(PoseError, match=r"damaged pickle|without an end"):
        plain_values(pickle.dumps(names, protocol)[:-4], "f")
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SEVERAL.replace("img10", "img11"), "picture 'labeled-data/walk/img11.png' is not in"),
        (SEVERAL.replace("8.0,9.0", "8.0,b"), "row 6: nose y is 'b', not a number"),
        ("scorer,a,a,a\nbodyparts,nose,nose,nose\ncoords,x,y,X\n0,1,2,3\n", "column 'nose x' stands twice"),
        (SEVERAL.replace("coords", "cords"), "not a DeepLabCut table"),
    ],
)
def test_errors_name_file_and_row(tmp_path: Path, make_picture: Callable[..., Path], text: str, message: str) -> None:
    for name in ("img0.png", "img10.png", "img20.png"):
        make_picture(tmp_path / name, (64, 48))
    path = tmp_path / "CollectedData_me.csv"
    path.write_text(text)
    with pytest.raises(PoseError) as error:
        read_dataset(path, "deeplabcut")
    assert message in str(error.value) and "CollectedData_me.csv" in str(error.value)


def test_a_file_that_is_no_hdf5(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    path = tmp_path / "x.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\nrubbish")
    with pytest.raises(PoseError, match="not a DeepLabCut table"):
        read_dataset(path, "deeplabcut")


def test_a_damaged_hdf5_is_not_recognised_and_not_a_crash(tmp_path: Path) -> None:
    columns = [("net", "nose", c) for c in ("x", "y")]
    whole = as_h5(tmp_path / "whole.h5", columns, [0], np.ones((1, 2)), table=True).read_bytes()
    damaged = bytearray(whole)
    for place in range(96, len(damaged), 97):
        damaged[place] ^= 0xFF
    path = tmp_path / "damaged.h5"
    path.write_bytes(bytes(damaged))
    with pytest.raises(PoseError):
        detect(path)
    with pytest.raises(PoseError):
        read_dataset(path, "deeplabcut")
