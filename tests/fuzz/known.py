"""What is known of a right result, whatever the reader does: people that come out went in.

The intact sample is converted once. A spoilt copy is held against it: after a cut or a lost line everybody who comes
out is somebody who went in (`Spoilt.strangers` may differ: the one the cut went through); where one coordinate became
another number, that joint moves there and no other does; where it became none (NaN, infinity, a word), the joint is
missing or the file refused. Coordinates of the samples have two decimals and are told apart by their value, so that
this holds for every form, in whatever unit it keeps them. And a COCO file that was spoilt in any way is read a second
time here, by a few plain lines, and has to say the same.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fuzz.bombs import LONG_NUMBER

Joints = tuple[tuple[float, float, float], ...]
Person = tuple[str, Joints]
"""Which picture or frame, and x, y, v of each joint; zeros where v is 0."""

_APART = 0.02  # of two coordinates that are told apart by value
_NEW = 33.25  # lies in all our pictures
_FINITE = (f"{_NEW}", f"{_NEW}", "-1.5", "1e22", "3.0e1")
_NONE = ("NaN", "nan", "Infinity", "inf", "-inf", "1e999", "null", "", '"x"', "x", "[]", "true", "--1", LONG_NUMBER)
NUMBER = re.compile(rb"(?<![\w.+-])-?\d+\.\d+(?:[eE][-+]?\d+)?(?![\w.])")


@dataclass(frozen=True)
class Moved:
    """One coordinate that was replaced: where it stands in the intact result, what has to stand there now (None: the
    joint must be missing; NaN: any number)."""

    person: int
    joint: int
    axis: int
    to: float | None


@dataclass(frozen=True)
class Whole:
    """The people of an intact sample, the size of its pictures, and the same people as a pose stream."""

    people: tuple[Person, ...]
    size: tuple[float, float]
    stream: Path

    def coordinates(self) -> Iterator[tuple[float, int, int, int]]:
        """(value, person, joint, axis) of every coordinate of a labelled joint whose value stands once only."""
        every = [
            (joint[axis], p, j, axis)
            for p, (_, joints) in enumerate(self.people)
            for j, joint in enumerate(joints)
            if joint[2] > 0
            for axis in (0, 1)
        ]
        every.sort()
        for n, entry in enumerate(every):
            near = [every[m][0] for m in (n - 1, n + 1) if 0 <= m < len(every)]
            if all(abs(v - entry[0]) > _APART for v in near):
                yield entry


def people_of(value: dict[str, Any]) -> tuple[Person, ...]:
    """The people of a COCO data set, by the plain meaning of its keys; ValueError where a number is none."""
    names = {}
    for image in value["images"]:
        names[_key(image["id"])] = f"{PurePosixPath(image['file_name']).name} {image.get('frame_id', '')}"
    joints = {_key(c["id"]): c["keypoints"] for c in value["categories"] if c.get("keypoints")}
    return tuple(
        (names[_key(p["image_id"])], _by_name(_joints(p["keypoints"]), joints[_key(p["category_id"])]))
        for p in value["annotations"]
        if _key(p["category_id"]) in joints
    )


def _by_name(joints: Joints, names: list[Any]) -> Joints:
    """In the order of their names: where a table's first joint is missing, the others come before it."""
    if len(names) != len(joints):
        return joints
    return tuple(joints[i] for i in sorted(range(len(names)), key=lambda i: str(names[i])))


def _key(value: Any) -> Any:
    return (type(value).__name__, value) if not isinstance(value, float) else ("int", value)


def _joints(flat: list[Any]) -> Joints:
    joints = []
    for x, y, v in zip(flat[0::3], flat[1::3], flat[2::3], strict=True):
        for number in (x, y, v) if v else (v,):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not math.isfinite(number):
                raise ValueError(f"{number!r} as a coordinate")
        joints.append((float(x), float(y), float(v)) if v else (0.0, 0.0, 0.0))
    return tuple(joints)


# --- one coordinate is spoilt -----------------------------------------------------------------------------------------


def spoil_coordinate(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    """Replaces one coordinate in a file; returns what was done and what must come of it."""
    spoil = _ARRAYS.get(path.suffix.lower(), _spoil_text)
    try:
        return spoil(path, whole, rng)
    except (OSError, ValueError, ImportError, KeyError):
        return None


def _spoil_text(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    data = path.read_bytes()
    if b"\0" in data[:4096] or len(data) > 1 << 20:
        return None
    spans = [m.span() for m in NUMBER.finditer(data)]
    found = _match(np.array([float(data[a:b]) for a, b in spans]), whole)
    if not found:
        return None
    at, (_, person, joint, axis), unit = rng.choice(found)
    start, end = spans[at]
    new = rng.choice(_FINITE + _NONE)
    if new in _FINITE:
        to = _NEW if float(new) == _NEW else math.nan
        new = f"{unit[0] * float(new) + unit[1]:.10g}" if to == _NEW else new
    else:
        to = None
    path.write_bytes(data[:start] + new.encode() + data[end:])
    told = f"coordinate {data[start:end].decode()} -> {new[:20] or 'nothing'}"
    return told, Moved(person, joint, axis, to)


def _match(numbers: np.ndarray, whole: Whole) -> list[tuple[int, tuple[float, int, int, int], tuple[float, float]]]:
    """(index of a number, the coordinate that it is, (factor, offset) of the file's unit) where there is no doubt."""
    coordinates = list(whole.coordinates())
    best: list[tuple[int, tuple[float, int, int, int], tuple[float, float]]] = []
    if not coordinates or not len(numbers):
        return best
    for axis in (0, 1):
        mine = [c for c in coordinates if c[3] == axis]
        chosen: list[tuple[int, tuple[float, int, int, int], tuple[float, float]]] = []
        for unit in ((1.0, 0.0), (1.0, 1.0), (1 / whole.size[axis], 0.0), (100 / whole.size[axis], 0.0)):
            in_pixels = np.sort((numbers - unit[1]) / unit[0])
            order = np.argsort((numbers - unit[1]) / unit[0], kind="stable")
            found = []
            for coordinate in mine:
                low, high = np.searchsorted(in_pixels, [coordinate[0] - _APART / 2, coordinate[0] + _APART / 2])
                if high - low == 1 and abs(in_pixels[low] - coordinate[0]) < 0.006:
                    found.append((int(order[low]), coordinate, unit))
            if len(found) > len(chosen):
                chosen = found
        if 2 * len(chosen) > len(mine):  # else what fits does so by chance
            best += chosen
    return best


def _spoil_arrays(
    arrays: dict[str, np.ndarray], whole: Whole, rng: random.Random
) -> tuple[str, Moved, str, np.ndarray] | None:
    """One number of one array replaced: also the array's name and its new self."""
    for name in sorted(arrays, key=lambda n: -arrays[n].size):
        old = arrays[name]
        if old.dtype.kind != "f" or old.size > 1_000_000:
            continue
        found = _match(old.ravel(), whole)
        if not found:
            continue
        at, (_, person, joint, axis), unit = rng.choice(found)
        value = rng.choice([_NEW, _NEW, math.nan, math.inf, -math.inf])
        flat = old.ravel().copy()
        flat[at] = unit[0] * value + unit[1]
        to = _NEW if value == _NEW else None
        return f"coordinate {old.ravel()[at]:.6g} of {name!r} -> {value}", Moved(person, joint, axis, to), name, flat
    return None


def _spoil_npy(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    array = np.load(path)
    done = _spoil_arrays({"": array}, whole, rng)
    if done is not None:
        np.save(path, done[3].reshape(array.shape))
    return done and done[:2]


def _spoil_npz(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    with np.load(path) as loaded:
        arrays = dict(loaded)
    done = _spoil_arrays(arrays, whole, rng)
    if done is not None:
        arrays[done[2]] = done[3].reshape(arrays[done[2]].shape)
        np.savez(path, **arrays)  # type: ignore[arg-type]
    return done and done[:2]


def _spoil_mat(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    import scipy.io

    if path.read_bytes()[:6] != b"MATLAB" or b"HDF" in path.read_bytes()[:600]:
        return _spoil_hdf5(path, whole, rng)
    arrays = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    done = _spoil_arrays(arrays, whole, rng)
    if done is not None:
        arrays[done[2]] = done[3].reshape(arrays[done[2]].shape)
        scipy.io.savemat(path, arrays)
    return done and done[:2]


def _spoil_hdf5(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    import h5py

    arrays: dict[str, np.ndarray] = {}
    with h5py.File(path, "r+") as file:

        def gather(name: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and node.dtype.kind == "f":
                arrays[name] = node[()]

        file.visititems(gather)
        done = _spoil_arrays(arrays, whole, rng)
        if done is not None:
            file[done[2]][...] = done[3].reshape(arrays[done[2]].shape)
    return done and done[:2]


def _spoil_parquet(path: Path, whole: Whole, rng: random.Random) -> tuple[str, Moved] | None:
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.parquet.read_table(path)
    arrays = {n: table.column(n).to_numpy().astype(np.float64) for n in ("x", "y")}
    both = np.concatenate([arrays["x"], arrays["y"]])
    done = _spoil_arrays({"x, y": np.where(np.isnan(both), -1e6, both)}, whole, rng)
    if done is None:
        return None
    changed = done[3]
    for n, name in enumerate(("x", "y")):
        old = arrays[name]
        new = changed[n * len(old) : (n + 1) * len(old)]
        column = pa.array(new, mask=np.isnan(old), from_pandas=False)
        table = table.set_column(table.column_names.index(name), table.schema.field(name), column)
    pa.parquet.write_table(table, path)
    return done[:2]


_ARRAYS: dict[str, Callable[[Path, Whole, random.Random], tuple[str, Moved] | None]] = {
    ".npy": _spoil_npy, ".npz": _spoil_npz, ".mat": _spoil_mat, ".h5": _spoil_hdf5, ".parquet": _spoil_parquet,
}  # fmt: skip


# --- what came out ----------------------------------------------------------------------------------------------------


def strangers(out: tuple[Person, ...], whole: Whole) -> list[Person]:
    """Those who came out and did not go in. Nothing is rounded: it is the same reader that read the intact sample."""
    known = set(whole.people)
    return [p for p in out if p not in known]


def wrong_after_move(out: tuple[Person, ...], whole: Whole, moved: Moved) -> str:
    """What is wrong where one coordinate was replaced; "" for nothing."""
    picture, joints = whole.people[moved.person]
    others = Counter(p for n, p in enumerate(whole.people) if n != moved.person)
    left = list((Counter(out) - others).elements())
    if others - Counter(out):
        return f"{sum((others - Counter(out)).values())} people have changed whose numbers have not"
    if not left and moved.to is None:
        return ""  # the whole person is left out
    if len(left) != 1:
        return f"{len(left)} people in place of the one with the changed coordinate"
    name, found = left[0]
    if name != picture:
        return f"the person moved from {picture!r} to {name!r}"
    for j, (old, new) in enumerate(zip(joints, found, strict=True)):
        if j != moved.joint:
            if not _near(old, new):
                return f"joint {j} was {old} and is {new}, but {moved.joint} was changed"
            continue
        if moved.to is None:
            if new[2] > 0:
                return f"joint {j} is {new}, its coordinate was made no number"
            continue
        if new[2] == 0:
            return f"joint {j} is missing, its coordinate is {moved.to}" if moved.to == moved.to else ""
        expected = list(old)
        expected[moved.axis] = moved.to if moved.to == moved.to else new[moved.axis]
        if not _near(tuple(expected), new):
            return f"joint {j} is {new}, expected {tuple(expected)}"
    return ""


def _near(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return abs(a[0] - b[0]) < 0.011 and abs(a[1] - b[1]) < 0.011 and a[2] == b[2]


def disagrees(spoilt: Path, out: dict[str, Any]) -> str:
    """What a COCO data set says differently from the result of its conversion; "" for nothing, or where it is no JSON
    that a few lines can read."""
    try:
        said = people_of(json.loads(spoilt.read_bytes().decode("utf-8-sig")))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"it was read, and a plain reading of it fails: {error!r}"
    except ValueError as error:
        return f"it was read, but {error}"
    if Counter(said) != Counter(people_of(out)):
        missing = list((Counter(said) - Counter(people_of(out))).elements())
        return f"{len(said)} people went in, {len(people_of(out))} came out; {len(missing)} of them changed or lost"
    return ""
