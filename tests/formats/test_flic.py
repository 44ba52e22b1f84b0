"""FLIC: the struct examples from either version of MATLAB file; whose left the names mean, told by the faces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_matlab import Save, save5, save73

from posecli.errors import PoseError
from posecli.formats import detect, flic, read_dataset
from posecli.skeletons import FLIC11

# Someone who faces the camera: the person's left at the larger x. In FLIC11's order, MATLAB's coordinates.
FRONT = np.array(
    [[70, 40], [75, 60], [78, 80], [30, 40], [25, 60], [22, 80], [62, 100], [38, 100], [54, 20], [46, 20], [50, 24]],
    dtype=np.float64,
)


def example(n: int, mirrored: bool = False, **changes: Any) -> dict[str, Any]:
    coords = np.full((2, 29), np.nan)
    points = FRONT[FLIC11.flip_index] if mirrored else FRONT
    coords[:, list(flic.PLACES)] = points.T
    return {
        "poselet_hit_idx": np.array([[1.0]]), "moviename": f"film-{n % 3}", "coords": coords,
        "filepath": f"film-{n % 3}-{n:08d}.jpg", "imgdims": np.array([[120.0, 100.0, 3.0]]), "currframe": float(n),
        "torsobox": np.array([[31.0, 41.0, 71.0, 101.0]]), "istrain": np.array([[n % 2 == 0]]),
        "istest": np.array([[n % 2 == 1]]), **changes,
    }  # fmt: skip


def written(tmp_path: Path, examples: list[dict[str, Any]], save: Save = save5) -> Path:
    rows = np.zeros((1, len(examples)), dtype=[(name, "O") for name in examples[0]])
    for i, row in enumerate(examples):
        rows[0, i] = tuple(row.values())
    save(tmp_path / "examples.mat", {"examples": rows})
    return tmp_path


@pytest.mark.parametrize("save", [save5, save73], ids=["5", "7.3"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_the_persons_left(mirrored: bool, save: Save, tmp_path: Path) -> None:
    root = written(tmp_path, [example(n, mirrored) for n in range(25)], save)
    assert detect(root) == ("flic", "examples.mat has the struct examples")
    said: list[str] = []
    dataset = read_dataset(root, warn=said.append)
    assert len(dataset.records) == 25 and dataset.skeleton is FLIC11
    if mirrored:
        assert "left lies on the picture's left in 25 of 25 people" in said[0] and "exchanged" in said[0]
    else:
        assert not said
    for record in dataset.records:
        assert np.array_equal(record.instances[0].xy, FRONT - 1)  # MATLAB's first pixel is 1
    record = dataset.records[1]
    assert (record.width, record.height, record.file_name) == (100, 120, "film-1-00000001.jpg")
    assert record.extra == {"all_people_labelled": False, "recording": "film-1", "frame": 1, "split": "test"}
    assert record.instances[0].extra["torso_box"] == [30, 40, 40, 60]


def test_joints_that_are_not_labelled(tmp_path: Path) -> None:
    coords = example(0)["coords"]
    coords[:, 2] = np.nan  # lwri
    said: list[str] = []
    dataset = read_dataset(written(tmp_path, [example(0, coords=coords)]), warn=said.append)
    assert dataset.records[0].instances[0].visibility.tolist() == [2, 2, 0] + [2] * 8
    assert "1 faces are too few" in said[0]


def test_two_people_of_one_picture(tmp_path: Path) -> None:
    dataset = read_dataset(written(tmp_path, [example(0), example(0)]), warn=lambda message: None)
    assert [len(r.instances) for r in dataset.records] == [2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"coords": np.zeros((2, 11))}, "coords: an array of 2 x 11 where numbers of 2 x 29 are due"),
        ({"coords": np.full((2, 29), np.inf)}, "a coordinate is infinite"),
        ({"imgdims": np.array([[0.0, 5.0, 3.0]])}, "imgdims is"),
        ({"imgdims": "big"}, "imgdims is the text 'big'"),
        ({"torsobox": np.zeros((1, 3))}, "torsobox: an array of 1 x 3"),
        ({"filepath": ""}, "an empty filepath"),
        ({"istrain": "yes"}, "istrain: 'yes' is not a number"),
    ],
)
def test_faults_name_the_example(bad: dict[str, Any], message: str, tmp_path: Path) -> None:
    root = written(tmp_path, [example(0), example(1, **bad)])
    with pytest.raises(PoseError, match=message) as caught:
        read_dataset(root)
    assert "examples.mat, example 2" in str(caught.value)


def test_a_field_that_is_missing(tmp_path: Path) -> None:
    rows = [example(0)]
    del rows[0]["coords"]
    with pytest.raises(PoseError, match=r"example 1: no field 'coords' \(it has poselet_hit_idx, moviename"):
        read_dataset(written(tmp_path, rows))
