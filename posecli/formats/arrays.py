"""Label arrays of one video: ``.npy``, ``.npz`` and MATLAB ``.mat``.

Shape (T, K, 2|3) for one person or (T, N, K, 2|3) for N people in fixed places (track ids 1..N): x, y in pixels
counted from 0 and, as a third, visibility 0/1/2 or a confidence in 0..1. Without a third number NaN is a missing joint.
A person all of whose joints are missing is not there in that frame. Frame t is row t. In ``.npz`` and ``.mat`` the
array is ``keypoints`` (or the only array of such a shape); beside it may stand ``visibility`` or ``scores`` of the
shape without its last axis, ``names`` (K joint names), ``frames`` (T frame numbers) or ``times`` (T seconds), and
``fps``, the rate in which frames count. The joints' order is that of ``names``, else that of the skeleton given with
the folder.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError, reason
from posecli.files import refuse_device
from posecli.formats.labels import LabelFile, LabelRow, Third, kind_of_third
from posecli.formats.matlab import read_mat
from posecli.formats.matlab_check import MAX_BYTES, MAX_RATIO, SMALL

_BESIDE = {"visibility", "scores", "names", "frames", "times", "fps"}


def read_array(path: Path) -> LabelFile:
    """Reads a ``.npy``, ``.npz`` or ``.mat`` label file.

    Raises:
        PoseError: naming the file (and frame) for an array of another shape, a value that is no number, a third number
            that is neither visibility nor confidence, object arrays (never unpickled), a file that unpacks
            to far more than it is.
    """
    arrays = load_arrays(path)
    if "keypoints" in arrays:
        name = "keypoints"
    else:
        fitting = [n for n, a in arrays.items() if n not in _BESIDE and _fits(a)]
        if len(fitting) != 1:
            seen = ", ".join(f"{n or 'array'} {a.shape}" for n, a in arrays.items())
            raise PoseError(
                f"{len(fitting)} arrays of shape (T, K, 2|3) or (T, N, K, 2|3)",
                str(path),
                f"it has {seen}; name the right one 'keypoints'",
            )
        name = fitting[0]
    points = arrays[name]
    if not _fits(points):
        hint = "(T, K, 2|3) or (T, N, K, 2|3) of numbers"
        raise PoseError(f"an array {points.shape} of {points.dtype}", str(path), hint)
    points = points.astype(np.float64)
    if points.ndim == 3:
        points = points[:, None]
    xy, kind, third = _third(points, arrays, path)
    frames, times = _moments(arrays, len(points), path)
    rows = []
    for t in range(len(points)):
        where = f"{path}, frame {t}" if frames is None else f"{path}, row {t} (frame {frames[t]})"
        for n in range(points.shape[1]):
            missing = np.isnan(xy[t, n]).all(axis=1)
            if kind is not Third.NOTHING:
                missing = (third[t, n] == 0) | (missing & np.isnan(third[t, n]))
            if missing.all():
                continue
            rows.append(
                LabelRow(
                    where if points.shape[1] == 1 else f"{where}, person {n}",
                    xy[t, n],
                    third[t, n],
                    frame=None if times is not None else t if frames is None else int(frames[t]),
                    time=None if times is None else float(times[t]),
                    track_id=n + 1,
                )
            )
    return LabelFile(
        path,
        f"{path.suffix[1:]} array {arrays[name].shape}",
        tuple(rows),
        kind,
        _names(arrays, points.shape[2], path),
        num_frames=len(points) if frames is None and times is None else None,
        fps=_fps(arrays["fps"], path) if "fps" in arrays else None,
    )


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """Name to array of a ``.npy`` (name ""), ``.npz`` or ``.mat`` file; nothing is unpickled. PoseError otherwise."""
    refuse_device(path)
    try:
        if path.suffix == ".mat":
            return _load_mat(path)
        if path.suffix == ".npz":
            _check_size(path)
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        hint = "object arrays are not read: they may carry code" if "pickle" in str(error).lower() else ""
        raise PoseError(f"not a {path.suffix} file that can be read: {reason(error)}", str(path), hint) from None
    except MemoryError:
        raise PoseError("it unpacks to more than there is memory for", str(path)) from None


def _load_mat(path: Path) -> dict[str, np.ndarray]:
    """Numbers, text and lists of text as arrays; structs and other cells are no label arrays and left out."""
    arrays = {}
    for name, value in read_mat(path).items():
        if isinstance(value, np.ndarray):
            arrays[name] = value
        elif isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
            arrays[name] = np.array([value] if isinstance(value, str) else value, dtype=str)
    return arrays


def _check_size(path: Path) -> None:
    """PoseError for an ``.npz`` that unpacks to far more than it is."""
    with zipfile.ZipFile(path) as archive:
        size = sum(i.file_size for i in archive.infolist())
    if size > MAX_BYTES or size > max(SMALL, MAX_RATIO * path.stat().st_size):
        raise PoseError(f"it unpacks from {path.stat().st_size} bytes to {size}", str(path))


def _fits(array: np.ndarray) -> bool:
    return array.ndim in (3, 4) and array.shape[-1] in (2, 3) and array.dtype.kind in "fiu"


def _third(points: np.ndarray, arrays: Mapping[str, np.ndarray], path: Path) -> tuple[np.ndarray, Third, np.ndarray]:
    """xy (T, N, K, 2), what the third is, and the third (T, N, K)."""
    xy, shape = points[..., :2], points.shape[:-1]
    named = [k for k in ("visibility", "scores") if k in arrays]
    if len(named) + (points.shape[-1] == 3) > 1:
        raise PoseError("more than one third number beside x and y", str(path), f"leave {named[0]!r} out or the column")
    if named:
        try:
            third = arrays[named[0]].astype(np.float64).reshape(shape)
        except ValueError:
            raise PoseError(f"{named[0]} {arrays[named[0]].shape} does not fit {points.shape}", str(path)) from None
        return xy, Third.VISIBILITY if named[0] == "visibility" else Third.SCORE, third
    if points.shape[-1] == 3:
        return xy, kind_of_third(points[..., 2], str(path)), points[..., 2]
    return xy, Third.NOTHING, np.full(shape, np.nan)


def _moments(arrays: Mapping[str, Any], count: int, path: Path) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Frame numbers and times of the rows, at most one of them not None."""
    found: list[np.ndarray | None] = []
    for name in ("frames", "times"):
        value = np.ravel(arrays[name]) if name in arrays else None
        if value is not None and (value.dtype.kind not in "fiu" or len(value) != count or not (value >= 0).all()):
            raise PoseError(f"{name} is not {count} numbers from 0", str(path))
        if value is not None and not (value < 2.0**62).all():
            raise PoseError(f"{name} holds {value.max():g}, which is in no video", str(path))
        found.append(value)
    frames, times = found
    if frames is not None and (frames != frames.astype(np.int64)).any():
        raise PoseError("frames are not whole numbers", str(path), "seconds are called 'times'")
    for value, name in ((frames, "frames"), (times, "times")):
        if value is not None and len(np.unique(value)) < count:
            raise PoseError(f"{name} holds a value twice", str(path))
    return frames, None if frames is not None else times


def _fps(value: np.ndarray, path: Path) -> float:
    rate = np.ravel(value)
    if rate.dtype.kind not in "fiu" or len(rate) != 1 or not np.isfinite(rate[0]) or rate[0] <= 0:
        raise PoseError(f"fps is {np.array2string(rate, threshold=4)}, not a rate", str(path))
    return float(rate[0])


def _names(arrays: Mapping[str, Any], count: int, path: Path) -> tuple[str, ...] | None:
    if "names" not in arrays:
        return None
    names = tuple(str(np.ravel(n)[0]).strip() for n in np.ravel(arrays["names"]))
    if len(names) != count:
        raise PoseError(f"{len(names)} names for {count} joints", str(path))
    return names
