"""MATLAB files: the same values from version 5 and 7.3, compressed or not; what is absurd or elsewhere is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_matlab import save73
from scipy.io import savemat
from scipy.sparse import csc_matrix

from posecli.errors import MissingExtra, PoseError
from posecli.formats import matlab, matlab_check

POINTS = np.zeros((1, 2), dtype=[("x", "O"), ("name", "O")])
POINTS[0, 0] = (1.5, "one")
POINTS[0, 1] = (np.arange(6.0).reshape(2, 3), "two")
VALUES: dict[str, Any] = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "small": np.array([[1, 2]], dtype=np.uint8),
    "flag": np.array([[True]]),
    "word": "left ankle",
    "rows": np.array(["ab", "cde"]),
    "nothing": np.zeros((0, 0)),
    "box": {"inner": {"deep": 5.0}, "text": "t"},
    "points": POINTS,
    "cell": np.array([np.array([[1.0, 2.0]]), "word", np.zeros((0, 0))], dtype=object),
}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and set(a) == set(b) and all(same(a[k], b[k]) for k in a)
    return bool(a == b)


WANTED = {
    "numbers": VALUES["numbers"],
    "small": VALUES["small"],
    "word": "left ankle",
    "rows": ["ab", "cde"],
    "nothing": np.zeros((0, 0)),
    "box": {"inner": {"deep": np.array([[5.0]])}, "text": "t"},
    "points": [
        {"x": np.array([[1.5]]), "name": "one"},
        {"x": np.arange(6.0).reshape(2, 3), "name": "two"},
    ],
    "cell": [np.array([[1.0, 2.0]]), "word", np.zeros((0, 0))],
}


@pytest.mark.parametrize("form", ["5", "compressed", "7.3"])
def test_the_same_values_of_every_version(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    if form == "7.3":
        save73(path, VALUES)
    else:
        savemat(path, VALUES, do_compression=form == "compressed")
    assert set(matlab.variable_names(path)) == set(VALUES)
    found = matlab.read_mat(path)
    assert found["flag"].item() in (True, 1)
    for name, wanted in WANTED.items():
        assert same(wanted, found[name]), name


def test_what_is_not_plain_is_left_out(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"matrix": csc_matrix(np.eye(3)), "x": 1.0})
    assert set(matlab.read_mat(tmp_path / "a.mat")) == {"x"}
    savemat(tmp_path / "a.mat", {"box": {"matrix": csc_matrix(np.eye(3))}})
    with pytest.raises(PoseError, match=r"a\.mat: 'box' holds a sparse matrix"):
        matlab.read_mat(tmp_path / "a.mat")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_raise_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    """Bytes changed or cut off: an answer or a PoseError, from both versions."""
    for name, save in (("5.mat", savemat), ("73.mat", save73)):
        path = tmp_path / name
        if not path.exists():
            save(path, VALUES)
            (tmp_path / f"{name}.whole").write_bytes(path.read_bytes())
        content = bytearray((tmp_path / f"{name}.whole").read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
        matlab.variable_names(path)
        try:
            matlab.read_mat(path)
        except PoseError as error:
            assert name in str(error)


def element(kind: int, data: bytes) -> bytes:
    return struct.pack("<II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind: int, dims: tuple[int, ...], rest: bytes, name: bytes = b"x") -> bytes:
    head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack(f"<{len(dims)}i", *dims))
    return element(14, head + element(1, name) + rest)


def header() -> bytes:
    return b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def nested(depth: int) -> bytes:
    value = matrix(6, (1, 1), element(9, bytes(8)), b"")
    for _ in range(depth):
        value = matrix(1, (1, 1), value, b"")
    return value


def test_absurd_sizes_are_refused_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mat"
    zeros = element(9, bytes(64))
    fields = element(5, struct.pack("<i", 8)) + element(1, b"a".ljust(8, b"\0"))
    for content, message in (
        (matrix(6, (2**30, 2**30), zeros), "a value of 1073741824 x 1073741824 in 72 bytes"),
        (matrix(1, (2**31 - 1, 1), zeros), "cells or structs of 2147483647 x 1"),
        (matrix(2, (2**31 - 1, 1), fields), "cells or structs of 2147483647 x 1"),
        (matrix(4, (1, 2**31 - 1), b""), "a value of 1 x 2147483647 in 0 bytes"),
        (matrix(6, (-1, 2), zeros), "a value of -1 x 2"),
        (matrix(99, (1, 1), zeros), "unknown class 99"),
        (matrix(6, (8, 1), element(99, bytes(64))), "numbers or text of the unknown type 99"),
        (matrix(1, (1, 1), nested(0) + nested(0)), "more values than it declares"),
        (matrix(1, (1, 1), nested(40)), "nests deeper than 32"),
        (matrix(6, (1, 1), zeros)[:-9], "cut off"),
        (element(9, bytes(16)), "element of type 9"),
    ):
        path.write_bytes(header() + content)
        with pytest.raises(PoseError) as caught:
            matlab.read_mat(path)
        assert message in str(caught.value) and "a.mat" in str(caught.value)
    # Half a megabyte of zeros a hundred and fifty times over.
    monkeypatch.setattr(matlab_check, "SMALL", 1 << 16)
    bomb = zlib.compress(matrix(6, (1000, 1000), element(9, bytes(8_000_000))), 9)
    path.write_bytes(header() + element(15, bomb))
    with pytest.raises(PoseError, match="unpacks to more than"):
        matlab.read_mat(path)


def test_73_keeps_within_the_file(tmp_path: Path) -> None:
    path, other = tmp_path / "a.mat", tmp_path / "other.bin"
    other.write_bytes(bytes(800))

    def written(make: Any) -> None:
        with h5py.File(path, "w", userblock_size=512) as file:
            make(file)
        with open(path, "r+b") as handle:
            handle.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")

    written(lambda f: f.create_dataset("x", (100,), "f8", external=[(str(other), 0, 800)]))
    with pytest.raises(PoseError, match="'/x' lies in other files"):
        matlab.read_mat(path)
    written(lambda f: f.__setitem__("x", h5py.ExternalLink(str(other), "/y")))
    with pytest.raises(PoseError, match="'x' is a link to somewhere else"):
        matlab.read_mat(path)
    written(lambda f: f.create_dataset("x", (10**6, 10**6), "f8", chunks=(10, 10)))
    with pytest.raises(PoseError, match=r"'/x' unpacks from 0 bytes to 8000000000000"):
        matlab.read_mat(path)

    def circle(file: Any) -> None:
        cell = file.create_dataset("x", (1, 2), h5py.ref_dtype)
        cell.attrs["MATLAB_class"] = np.bytes_("cell")
        cell[0, 0] = cell[0, 1] = cell.ref

    written(circle)
    with pytest.raises(PoseError, match="in circles"):
        matlab.read_mat(path)


def test_73_without_h5py_names_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save73(tmp_path / "a.mat", {"x": np.ones((1, 1))})
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtra, match=r"MATLAB 7.3 .*pip install 'posecli\[hdf5\]'"):
        matlab.read_mat(tmp_path / "a.mat")


def test_what_readers_ask() -> None:
    one = np.array([[2.0]])
    assert matlab.number(one, "") == 2 == matlab.number("2", "") and matlab.text(["word"], "") == "word"
    assert matlab.structs({"a": 1}, "") == [{"a": 1}] and matlab.structs(np.zeros((0, 0)), "") == []
    assert matlab.cells("x", "") == ["x"] and matlab.cells("", "") == []
    for ask, value, message in (
        (matlab.number, np.ones((1, 2)), "an array of 1 x 2 where one number is due"),
        (matlab.number, "two", "'two' is not a number"),
        (matlab.number, np.array([[np.nan]]), "not finite"),
        (matlab.text, one, "an array of 1 x 1 where text is due"),
        (matlab.structs, one, "where a struct array is due"),
    ):
        with pytest.raises(PoseError, match=rf"file\.mat: .*{message}"):
            ask(value, "file.mat")
    with pytest.raises(PoseError, match="an array of 1 x 1 where numbers of n x 3 are due"):
        matlab.array(one, (None, 3), "file.mat")
    with pytest.raises(PoseError, match=r"no field 'x' \(it has y\)"):
        matlab.field({"y": 1}, "x", "file.mat")
