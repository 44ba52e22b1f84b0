"""LSP and LSPET: opposite flags, either order of axes, 1-based coordinates, the real annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_matlab import save73
from scipy.io import loadmat, savemat

from posecli.convert import recording_names
from posecli.errors import PoseError
from posecli.formats import detect, lsp, read_dataset
from posecli.formats.picture_size import picture_size
from posecli.skeletons import LSP14


def folder(tmp_path: Path, make_picture: Any, digits: int, axes: str, count: int = 2) -> Path:
    """``count`` pictures; joint j of picture n at MATLAB's (j + 1, n + 5), the third row 1 for the first 7 joints."""
    joints = np.zeros((count, 14, 3))
    joints[..., 0] = np.arange(1, 15)
    joints[..., 1] = np.arange(5, 5 + count)[:, None]
    joints[:, :7, 2] = 1
    order = (1, 2, 0) if axes == "14 3 N" else (2, 1, 0)
    savemat(tmp_path / "joints.mat", {"joints": joints.transpose(order)})
    for n in range(count):
        make_picture(tmp_path / f"images/im{n + 1:0{digits}d}.jpg", (40, 30))
    return tmp_path


@pytest.mark.parametrize("axes", ["14 3 N", "3 14 N"])
@pytest.mark.parametrize(("kind", "digits", "flag1", "flag0"), [("lsp", 4, 1, 2), ("lspet", 5, 2, 0)])
def test_flags_mean_opposite_things(
    kind: str, digits: int, flag1: int, flag0: int, axes: str, tmp_path: Path, make_picture: Any
) -> None:
    root = folder(tmp_path, make_picture, digits, axes)
    assert detect(root)[0] == kind
    dataset = read_dataset(root)
    assert dataset.skeleton is LSP14
    person = dataset.records[1].instances[0]
    assert person.visibility.tolist() == [flag1] * 7 + [flag0] * 7
    assert person.xy[3].tolist() == [3, 5]  # MATLAB's (4, 6)
    assert np.isnan(person.xy[7:]).all() == (flag0 == 0)
    assert (dataset.records[1].width, dataset.records[1].height) == (40, 30)
    assert (Path(dataset.root) / dataset.records[1].file_name).exists()


def test_a_matrix_of_version_73(tmp_path: Path, make_picture: Any) -> None:
    root = folder(tmp_path, make_picture, 4, "3 14 N")
    joints = loadmat(root / "joints.mat")["joints"]
    wanted = read_dataset(root)
    save73(root / "joints.mat", {"joints": joints})
    for a, b in zip(read_dataset(root).records, wanted.records, strict=True):
        assert np.array_equal(a.instances[0].xy, b.instances[0].xy)
        assert np.array_equal(a.instances[0].visibility, b.instances[0].visibility)


def test_axes_decide_without_pictures_of_telling_names(tmp_path: Path, make_picture: Any) -> None:
    root = folder(tmp_path, make_picture, 4, "3 14 N")
    assert lsp.kind_of(root) == "lsp"
    (root / "images").rename(root / "pictures")
    assert lsp.kind_of(root / "joints.mat") == "lsp"
    said: list[str] = []
    dataset = read_dataset(root, "lsp", image_root=root / "pictures", warn=said.append)
    assert len(dataset.records) == 2 and not said
    with pytest.raises(PoseError, match="none of 2 pictures"):
        read_dataset(root, "lsp")


def test_absent_pictures_are_counted(tmp_path: Path, make_picture: Any) -> None:
    root = folder(tmp_path, make_picture, 4, "3 14 N", 3)
    (root / "images/im0002.jpg").unlink()
    said: list[str] = []
    dataset = read_dataset(root, warn=said.append)
    assert [r.image_id for r in dataset.records] == [1, 3]
    assert "1 of 3 pictures are not in" in said[0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("joints", np.zeros((3, 15, 2)), "no 'joints' of shape"),
        ("points", np.zeros((3, 14, 2)), "no 'joints' of shape"),
        ("joints", np.full((3, 14, 2), 2.0), "picture 1: flag 2 of 'right_ankle'"),
        ("joints", np.concatenate([np.full((2, 14, 2), 999.0), np.zeros((1, 14, 2))]), "lie far outside"),
        ("joints", np.concatenate([np.full((2, 14, 2), np.nan), np.zeros((1, 14, 2))]), "picture 1: coordinate of"),
    ],
)
def test_bad_matrix(name: str, value: np.ndarray, message: str, tmp_path: Path, make_picture: Any) -> None:
    root = folder(tmp_path, make_picture, 4, "3 14 N")
    savemat(root / "joints.mat", {name: value})
    with pytest.raises(PoseError, match=message):
        read_dataset(root, "lsp")


def test_lspet_as_shared(shared: Path) -> None:
    root = shared / "data/lspet"
    name, reason = detect(root)
    assert name == "lspet" and "annotations.json" in reason
    dataset = read_dataset(root)
    assert len(dataset.records) == 9991 and dataset.skeleton is LSP14
    assert sum(int((r.instances[0].visibility == 2).sum()) for r in dataset.records) == 123169
    # The matrix and the JSON agree: original = crop + offset + 1 (data/README.md).
    joints = lsp._joints(root / "joints_original.mat")
    worst = 0.0
    for record in dataset.records[:200]:
        person, crop = record.instances[0], record.extra["crop"]
        # A few joints beyond the picture were moved to its edge when it was cut.
        inside = (person.xy > 0.5) & (person.xy < np.array([record.width, record.height]) - 1.5)
        labelled = (person.visibility > 0) & inside.all(axis=1)
        wanted = joints[labelled, :2, int(record.image_id) - 1] - 1 - np.array([crop["x"], crop["y"]])
        worst = max(worst, float(np.abs(person.xy[labelled] - wanted).max()))
    assert worst <= 0.0051  # the JSON has two decimals
    # Look-alikes are one recording: a split keeps them on one side.
    names = dict(zip((r.image_id for r in dataset.records), recording_names(dataset), strict=True))
    pairs = json.loads((root / "near_duplicates.json").read_text())["pairs"]
    assert all(names[a] == names[b] for a, b, _ in pairs if a in names and b in names)


def test_matrix_beside_cut_pictures_is_refused(shared: Path) -> None:
    with pytest.raises(PoseError, match="far outside their pictures"):
        read_dataset(shared / "data/lspet/joints_original.mat", "lspet")


def test_picture_size(tmp_path: Path, make_picture: Any, shared: Path) -> None:
    import cv2

    for name in ("a.jpg", "a.png", "a.bmp"):
        assert picture_size(make_picture(tmp_path / name, (33, 21))) == (33, 21)
    # EXIF orientation 6: shown turned by a quarter.
    data = (tmp_path / "a.jpg").read_bytes()
    tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    exif = b"\xff\xe1" + (len(tiff) + 8).to_bytes(2, "big") + b"Exif\0\0" + tiff
    (tmp_path / "turned.jpg").write_bytes(data[:2] + exif + data[2:])
    assert picture_size(tmp_path / "turned.jpg") == (21, 33)
    assert cv2.imread(str(tmp_path / "turned.jpg")).shape[:2] == (33, 21)
    for path in sorted((shared / "data/coco_mini/val2017").iterdir())[:5]:
        height, width = cv2.imread(str(path)).shape[:2]
        assert picture_size(path) == (width, height)
    (tmp_path / "text.jpg").write_text("no picture")
    with pytest.raises(PoseError, match=r"text\.jpg"):
        picture_size(tmp_path / "text.jpg")
    with pytest.raises(PoseError, match=r"none\.jpg"):
        picture_size(tmp_path / "none.jpg")
