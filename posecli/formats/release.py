"""What the readers of public data sets share: the one file meant, pictures that may be absent, checked people."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.formats import coco
from posecli.formats.picture_size import picture_size
from posecli.formats.sniffing import file_has, head_of
from posecli.types import Dataset, Instance, Skeleton

Warn = Callable[[str], None]
COCO_KEYS = ("images", "annotations", "categories")


MANY = 100
"""A folder with more JSON files than this has one a picture or a video, not one a data set."""


def json_files(src: Path, folders: Sequence[str] = ("", "annotations")) -> list[Path]:
    """JSON files at ``src``: itself, or those in the folder and in ``folders`` of it; none of a folder with `MANY`."""
    if src.is_file():
        return [src] if src.suffix == ".json" else []
    found = [sorted((src / f).glob("*.json")) for f in folders]
    return [p for paths in found if len(paths) <= MANY for p in paths]


def mentions(path: Path, words: Iterable[str], without: Iterable[str] = ()) -> bool:
    """Whether a file has all of ``words`` in quotes and none of ``without``: a look at the text, without parsing it."""
    quoted = [f'"{w}"'.encode() for w in words]
    return file_has(path, *quoted) and not any(file_has(path, f'"{w}"'.encode()) for w in without)


def starts_with(path: Path, bracket: bytes) -> bool:
    """Whether the first thing in a JSON file is that bracket."""
    return head_of(path, 64).startswith(bracket)


def only(src: Path, files: Sequence[Path], what: str) -> Path:
    """The one file of ``files``; PoseError names them when there are several or none."""
    if len(files) == 1:
        return files[0]
    names = ", ".join(str(f.relative_to(src)) if f != src else f.name for f in files) or "none"
    raise PoseError(f"{len(files)} {what} files in the folder: {names}", str(src), "name the file")


def describe(src: Path, files: Sequence[Path], reason: str) -> str | None:
    """What to say of the files a format was recognised by; None without any."""
    if not files:
        return None
    if src.is_file():
        return f"it has {reason}"
    others = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0].relative_to(src)}{others} has {reason}"


def coco_dataset(
    value: dict[str, Any], path: Path, skeleton: Skeleton, image_root: str | Path | None, warn: Warn
) -> Dataset:
    """A COCO-style object of a data set of known joints, checked by `posecli.formats.coco`.

    Raises:
        PoseError: what the COCO reader finds, or joints that are not those of ``skeleton``.
    """
    dataset = coco.from_json(value, str(path), warn=warn)
    if dataset.skeleton.keypoints != skeleton.keypoints:
        names = ", ".join(dataset.skeleton.keypoints)
        what = f"its joints are not the {skeleton.num_keypoints} of {skeleton.name}: {names}"
        raise PoseError(what, str(path), "--format coco reads any joints")
    root = image_root
    if root is None:
        root = image_root_of(path, dataset.records[0].file_name) if dataset.records else path.parent
    return Dataset(skeleton, dataset.records, dataset.videos, str(root), dataset.info)


def entries(value: Any, key: str, where: str) -> list[dict[str, Any]]:
    """A list of objects in a parsed JSON object; PoseError for anything else."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise PoseError(f"no list {key!r}", where)
    for i, entry in enumerate(found):
        if not isinstance(entry, dict):
            raise PoseError("not an object", f"{where}, {key}[{i}]")
    return found


class Pictures:
    """Sizes of the pictures below a folder, each looked at once, and the names of those that are absent."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.absent: list[str] = []
        self._sizes: dict[str, tuple[int, int] | None] = {}

    def size(self, name: str) -> tuple[int, int] | None:
        """(width, height), or None for a picture that is not there."""
        if name not in self._sizes:
            path = self.root / name
            found = picture_size(path) if path.is_file() else None
            self._sizes[name] = found
            if found is None:
                self.absent.append(name)
        return self._sizes[name]

    def report(self, where: str, warn: Warn) -> None:
        """Says how many pictures were not there; PoseError when that is all of them."""
        if not self.absent:
            return
        what = f"of {len(self._sizes)} pictures ({self.absent[0]} ...)"
        if len(self.absent) == len(self._sizes):
            hint = "the labels do not state sizes: give --image-root"
            raise PoseError(f"none {what} is there", str(self.root), hint)
        warn(f"{where}: {len(self.absent)} {what} are not in {self.root} and were left out")


def person(xy: np.ndarray, visibility: np.ndarray, skeleton: Skeleton, where: str, **more: Any) -> Instance:
    """A labelled person: x and y become NaN where ``visibility`` is 0.

    Raises:
        PoseError: naming ``where`` and the joint, for a coordinate of a labelled joint that is not finite.
    """
    odd = np.flatnonzero((visibility > 0) & ~np.isfinite(xy).all(axis=1))
    if len(odd):
        raise PoseError(f"a coordinate of {skeleton.keypoints[odd[0]]!r} is not finite", where)
    points = np.where((visibility > 0)[:, None], xy, np.nan)
    return Instance(points, visibility.astype(np.int64), np.ones(len(xy), dtype=np.float32), **more)


def numbers(value: Any, shape: tuple[int, ...], name: str, where: str) -> np.ndarray:
    """A JSON list as float64 of that shape; PoseError for anything else (strings, booleans, ragged lists)."""
    try:
        found = np.array(value) if _plain(value) else np.empty(0, dtype=object)
    except (ValueError, OverflowError):
        found = np.empty(0, dtype=object)
    if found.shape != shape or found.dtype.kind not in "fiu":
        due = " x ".join(map(str, shape))
        seen = f"{found.shape}" if found.dtype.kind in "fiu" else "something else"
        raise PoseError(f"{name} is not {due} numbers but {seen}", where)
    return found.astype(np.float64)


def _plain(value: Any) -> bool:
    """Numbers, or lists of them: numpy would take ``true`` for one."""
    if isinstance(value, list):
        return all(map(_plain, value))
    return isinstance(value, int | float) and not isinstance(value, bool)
