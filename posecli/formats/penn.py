"""Penn Action: a ``.mat`` a sequence, or all sequences in one ``.npz``.

Source: W. Zhang, M. Zhu and K. Derpanis, "From Actemes to Action: A Strongly-supervised Representation for Detailed
Action Understanding", ICCV 2013 (https://dreamdragon.github.io/PennAction/): 2,326 sequences of 15 actions.

    labels/0001.mat           action, pose (the view), x, y, visibility (T, 13), bbox (T, 4: x1, y1, x2, y2),
                              dimensions (height, width, T), nframes, train (1 train, -1 test)
    frames/0001/000001.jpg    frames, counted from 1

The ``.npz`` has the same with all frames one after the other: ``sequence``, ``num_frames``, ``offset``, ``x``, ``y``,
``visibility``, ``bbox``, ``action``, ``view``, ``train``, ``height_width_frames``.

**Left and right.** The set's description gives the order head, left shoulder, right shoulder, left elbow, ... But the
first of each pair lies on the picture's *left* in nearly all frames seen from the front, and on its right in most of
those from behind: it is the person's **right**. So column 1 is read as ``right_shoulder``, column 2 as
``left_shoulder``, and so on down. Readers that follow the description have left and right exchanged.

**Visibility** is 1 or 0. With 0 the coordinate is a guess, or a mark that there is none: MATLAB's first pixel (1, 1),
scaled like the frames (0.75, 0.75 where these were made smaller to 75 %). We make of it v = 2 visible, 1 a guess
(hidden), 0 the mark. Coordinates and boxes count from 1. Frame rates are not stated.

One person a frame; `track_id` 0. Pictures need not be there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats import matlab, release
from posecli.formats.arrays import load_arrays
from posecli.skeletons import PENNACTION13
from posecli.types import Dataset, Instance, Record, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

# Where our joints (head, left, right, left, ...) stand in the file (head, right, left, right, ...).
COLUMNS = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11)
# The mark of no coordinate is (s, s) for frames scaled by s; the largest s met is 1.5.
_LARGEST_MARK = 2.0
_FIELDS = {"action", "pose", "x", "y", "visibility", "bbox", "dimensions", "nframes", "train"}
_NPZ = {
    "sequence", "num_frames", "offset", "x", "y", "visibility", "bbox", "action", "view", "train",
    "height_width_frames",
}  # fmt: skip


@dataclass(frozen=True)
class _Sequence:
    """One sequence: xy (T, 13, 2) and visibility (T, 13) in our terms, box (T, 4) as in the file with NaN for none."""

    number: int
    xy: np.ndarray
    visibility: np.ndarray
    box: np.ndarray
    action: str
    view: str
    train: int
    width: int
    height: int


def _matrices(src: Path) -> list[Path]:
    if src.is_file():
        paths = [src] if src.suffix == ".mat" else []
    else:
        paths = sorted([*src.glob("[0-9][0-9][0-9][0-9].mat"), *src.glob("labels/[0-9][0-9][0-9][0-9].mat")])
    return paths if paths and _FIELDS.issubset(matlab.variable_names(paths[0])) else []


def _archive(src: Path) -> Path | None:
    paths = [src] if src.is_file() else sorted(src.glob("*.npz"))
    fitting = [p for p in paths if p.suffix == ".npz" and _names(p) >= _NPZ]
    return fitting[0] if len(fitting) == 1 else None


def _names(path: Path) -> set[str]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return {n.removesuffix(".npy") for n in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def recognise(src: Path) -> str | None:
    """Why ``src`` is Penn Action, or None."""
    archive, matrices = _archive(src), _matrices(src)
    if archive is not None:
        beside = f"; {len(matrices)} .mat files beside it are not read" if matrices else ""
        return f"{archive.name} has Penn Action's arrays{beside}"
    if not matrices:
        return None
    return "it has Penn Action's fields" if src.is_file() else f"{len(matrices)} files like {matrices[0].name}"


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads the release (its folder, ``labels/`` or one ``.mat``) or the ``.npz``; in a folder the ``.npz`` goes first.

    Videos have action and view as tags and ``split`` (``train``, ``test``) among their extra keys; image ids are
    10,000 x sequence + frame from 1. ``every`` keeps every n-th frame.

    Raises:
        PoseError: a field missing or of another shape, visibility other than 0 and 1, a coordinate of a visible joint
            that is not finite; sequence and frame named.
    """
    archive = _archive(src)
    if archive is not None:
        sequences = _of_archive(archive)
    else:
        matrices = _matrices(src) or ([src] if src.suffix == ".mat" else [])
        if not matrices:
            raise PoseError("no Penn Action labels", str(src), "labels/0001.mat, ..., or the .npz of all")
        sequences = (_of_matrix(p, warn) for p in matrices)
    folder = src if src.is_dir() else src.parent
    base = folder.parent if folder.name == "labels" else folder
    root = Path(options.image_root) if options.image_root is not None else base
    records: list[Record] = []
    videos: list[Video] = []
    empty = 0
    for sequence in sequences:
        video, frames, boxless = _video(sequence, options.every)
        videos.append(video)
        records += frames
        empty += boxless
    if empty:
        warn(f"{src}: {empty} boxes enclose nothing and were left out")
    return Dataset(PENNACTION13, tuple(records), tuple(videos), str(root))


def _video(sequence: _Sequence, every: int) -> tuple[Video, list[Record], int]:
    """A sequence's video entry, its frames, and how many boxes enclose nothing."""
    xy, visibility, count = sequence.xy, sequence.visibility, len(sequence.xy)
    # The first pixel is 1, for boxes as for joints.
    boxes = sequence.box - 1.0
    with np.errstate(invalid="ignore"):
        stated = np.array(np.isfinite(boxes).all(axis=1))
        real = stated & np.array((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
    name = f"{sequence.number:04d}"
    there, ones = np.array(visibility.any(axis=1)), np.ones(13, dtype=np.float32)
    records = []
    for t in range(0, count, every):
        box = boxes[t] if real[t] else None
        people: tuple[Instance, ...] = ()
        if there[t] or box is not None:
            people = (Instance(xy[t], visibility[t], ones, box_xyxy=box, track_id=0),)
        records.append(
            Record(
                10_000 * sequence.number + t + 1, f"frames/{name}/{t + 1:06d}.jpg", sequence.width, sequence.height,
                people, sequence.number, t,
            )
        )  # fmt: skip
    split = {1: "train", -1: "test"}[sequence.train]
    video = Video(
        sequence.number, name, f"frames/{name}", sequence.width, sequence.height, 0.0, count,
        tuple(t for t in (sequence.action, sequence.view) if t), {"split": split},
    )  # fmt: skip
    return video, records, int((stated & ~real)[::every].sum())


def _joints(
    x: np.ndarray, y: np.ndarray, flags: np.ndarray, name: Callable[[int], str]
) -> tuple[np.ndarray, np.ndarray]:
    """x, y (T, 13, 2) counted from 0 and v (T, 13) in the order of our skeleton; ``name`` names a row in errors."""
    odd = np.argwhere(~np.isin(flags, (0, 1)))
    if len(odd):
        t, column = odd[0]
        joint = PENNACTION13.keypoints[COLUMNS.index(int(column))]
        raise PoseError(f"visibility of {joint!r} is {flags[t, column]:g}", name(int(t)), "0 or 1")
    with np.errstate(invalid="ignore"):
        marked = (np.abs(x - y) < 1e-3) & (x <= _LARGEST_MARK)
    guess = np.isfinite(x) & np.isfinite(y) & ~marked
    visibility = np.where(flags == 1, 2, np.where(guess, 1, 0))
    columns = list(COLUMNS)
    xy, visibility = np.stack([x, y], axis=-1)[:, columns] - 1.0, visibility[:, columns]
    odd = np.argwhere((visibility > 0) & ~np.isfinite(xy).all(axis=2))
    if len(odd):
        t, joint = odd[0]
        raise PoseError(f"a coordinate of {PENNACTION13.keypoints[joint]!r} is not finite", name(int(t)))
    xy[visibility == 0] = np.nan
    return xy, visibility


def _of_matrix(path: Path, warn: release.Warn) -> _Sequence:
    where = str(path)
    value = matlab.read_mat(path)
    x = matlab.array(matlab.field(value, "x", where), (None, 13), f"{where}, x")
    count = len(x)
    y = matlab.array(matlab.field(value, "y", where), (count, 13), f"{where}, y")
    flags = matlab.array(matlab.field(value, "visibility", where), (count, 13), f"{where}, visibility")
    height, width, stated = matlab.array(matlab.field(value, "dimensions", where), (1, 3), f"{where}, dimensions")[0]
    frames = matlab.number(matlab.field(value, "nframes", where), f"{where}, nframes")
    if not frames == stated == count:
        raise PoseError(f"{count} rows, nframes {frames:g}, dimensions for {stated:g} frames", where)
    box = matlab.array(matlab.field(value, "bbox", where), (None, 4), f"{where}, bbox")
    if len(box) != count:  # sequences 1154 and 1865 of the release have a row too few
        if len(box) > count:
            raise PoseError(f"{len(box)} boxes for {count} frames", where)
        warn(f"{where}: {len(box)} boxes for {count} frames; the last frames have none")
        box = np.concatenate([box, np.full((count - len(box), 4), np.nan)])
    if not path.stem.isascii() or not path.stem.isdigit():
        raise PoseError("the name of the file is not the number of a sequence", where, "like labels/0001.mat")
    xy, visibility = _joints(x, y, flags, lambda t: f"{where}, frame {t + 1}")
    return _Sequence(
        int(path.stem), xy, visibility, box, matlab.text(matlab.field(value, "action", where), where),
        matlab.text(matlab.field(value, "pose", where), where),
        _train(matlab.number(matlab.field(value, "train", where), f"{where}, train"), where),
        *_size(width, height, where),
    )  # fmt: skip


def _of_archive(path: Path) -> Iterator[_Sequence]:
    arrays = load_arrays(path)
    where = str(path)
    count = len(_column(arrays, "sequence", (None,), where))
    rows = len(_column(arrays, "x", (None, 13), where))
    x, y, flags = (_column(arrays, n, (rows, 13), where) for n in ("x", "y", "visibility"))
    boxes = _column(arrays, "bbox", (rows, 4), where)
    numbers, lengths, starts, train = (
        _column(arrays, n, (count,), where) for n in ("sequence", "num_frames", "offset", "train")
    )
    sizes = _column(arrays, "height_width_frames", (count, 3), where)
    for name in ("action", "view"):
        if arrays[name].shape != (count,) or arrays[name].dtype.kind != "U":
            raise PoseError(f"{name} is not {count} texts", where)
    if lengths.sum() != rows:
        raise PoseError(f"{rows} rows for sequences of {lengths.sum():g} frames", where)
    if len(np.unique(numbers)) < count:
        raise PoseError("a sequence stands twice", where)

    def moment(row: int) -> str:
        i = int(np.argmax((starts <= row) & (row < starts + lengths)))
        return f"{where}, sequence {numbers[i]:g}, frame {row - starts[i] + 1:g}"

    xy, visibility = _joints(x, y, flags, moment)
    for i in range(count):
        number, start, length = int(numbers[i]), int(starts[i]), int(lengths[i])
        at = f"{where}, sequence {number}"
        if start < 0 or length < 0 or start + length > rows or length != sizes[i, 2]:
            raise PoseError(f"rows {start} to {start + length} of {rows}, {sizes[i, 2]:g} frames stated", at)
        part = slice(start, start + length)
        yield _Sequence(
            number, xy[part], visibility[part], boxes[part], str(arrays["action"][i]), str(arrays["view"][i]),
            _train(train[i], at), *_size(sizes[i, 1], sizes[i, 0], at),
        )  # fmt: skip


def _column(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int | None, ...], where: str) -> np.ndarray:
    if name not in arrays:
        raise PoseError(f"no array {name!r}", where)
    values: Any = arrays[name]
    return matlab.array(values, shape, f"{where}, {name}")


def _train(value: float, where: str) -> int:
    if value not in (1, -1):
        raise PoseError(f"train is {value:g}, not 1 or -1", where)
    return int(value)


def _size(width: float, height: float, where: str) -> tuple[int, int]:
    if not (width >= 1 and height >= 1):
        raise PoseError(f"{width:g} x {height:g} is not a picture's size", where)
    return int(width), int(height)
