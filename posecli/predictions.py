"""The pose stream: JSON Lines that `infer` writes and every other verb reads.

First a header, then one line per frame; a header starts a new source, so streams concatenate with ``cat``::

    {"posecli": 1, "kind": "header", "source": "clip.mp4", "width": 1280, "height": 720, "fps": 29.97,
     "skeleton": {"name": "coco17", "keypoints": [...], "edges": [...], "sigmas": [...], "flip_pairs": [...]},
     "model": "default", "weights_sha256": "...", "threshold": 0.3, "joint_threshold": 0.3}
    {"frame": 12, "time": 0.4, "persons": [{"id": 1, "score": 0.93, "box": [x, y, w, h],
     "keypoints": [[x, y, score], null, ...], "heat": 0.77}]}

Coordinates are pixels of the displayed frame, (0, 0) the centre of its top-left pixel, written with 2 decimals, scores
with 4. A joint not found is ``null``. Unknown keys of headers, frames and persons are kept. Every line is flushed when
written, so that a stream can be followed while it grows; a last line that was cut off is dropped with a warning.
The form is fixed by ``docs/pose-stream.schema.json`` and told in ``docs/pose-stream.md``.
"""

from __future__ import annotations

import json
import os
import reprlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite, json_fault, no_constant, no_room_named, place_of_not_finite, refuse_device
from posecli.types import Instance, Skeleton

VERSION = 1
_HEADER_KEYS = {
    "posecli", "kind", "source", "width", "height", "fps", "skeleton", "model", "weights_sha256", "threshold",
    "joint_threshold",
}  # fmt: skip
_FRAME_KEYS = {"frame", "time", "image_id", "file", "width", "height", "persons"}
_PERSON_KEYS = {"id", "score", "box", "keypoints", "heat"}
_BEGINNING = b'{"posecli"'  # of the headers that are written here
_FAR = 2**53  # what lies beyond is no pixel, frame or id, and arrays of float32 and int64 would not hold it


@dataclass(frozen=True)
class StreamHeader:
    """What holds for all frames of one source.

    Attributes:
        source: name of the video, folder or picture.
        skeleton: the joints, in the order of every person's keypoints.
        width, height: of the displayed frame in pixels; None where pictures differ.
        fps: nominal rate, None for pictures.
        model, weights_sha256: what made the poses.
        threshold: person score from which on people are shown, tracked and counted; the stream holds weaker ones too.
        joint_threshold: joint score from which on joints are drawn; the stream holds weaker ones too. None: not chosen
            for this model.
        extra: further keys, kept as they are.
    """

    source: str
    skeleton: Skeleton
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    model: str | None = None
    weights_sha256: str | None = None
    threshold: float | None = None
    joint_threshold: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FramePoses:
    """The people of one frame.

    Attributes:
        frame: the source's own frame index, from 0; for pictures the place in the list.
        instances: people, possibly none; keys of a person that are unknown here are in `Instance.extra`.
        time: seconds, None for pictures.
        image_id: id in a COCO file, where the source was one.
        file: a picture's name relative to the folder given.
        width, height: of a picture in pixels.
        extra: further keys, kept as they are.
    """

    frame: int
    instances: tuple[Instance, ...]
    time: float | None = None
    image_id: int | str | None = None
    file: str | None = None
    width: int | None = None
    height: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def _print_warning(message: str) -> None:
    print(f"posecli: warning: {message}", file=sys.stderr)


def read_stream(
    source: str | Path | IO[str], *, warn: Callable[[str], None] = _print_warning
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """Frames of a stream with the header each belongs to, lazily and in the stream's order.

    Args:
        source: path, ``"-"`` for standard input, or an open text file.
        warn: told of a cut-off last line, which is dropped.

    Raises:
        PoseError: with file and line: not a stream, a line that is not JSON, a frame before any header, keypoints that
            do not fit the skeleton, a coordinate that is no finite number.
    """
    for header, line in stream_items(source, warn=warn):
        if line is not None:
            yield header, line


def stream_items(
    source: str | Path | IO[str], *, warn: Callable[[str], None] = _print_warning
) -> Iterator[tuple[StreamHeader, FramePoses | None]]:
    """As `read_stream`, but each header comes by itself too, with None: sources without frames are not lost."""
    header: StreamHeader | None = None
    for where, value in _lines(source, warn):
        if "posecli" in value:
            header = header_from_json(value, where)
            yield header, None
        elif header is None:
            raise PoseError("not a pose stream: its first line is no header", where, 'it begins {"posecli": 1, ...}')
        else:
            yield header, frame_from_json(value, header.skeleton, where)


def read_headers(source: str | Path, *, warn: Callable[[str], None] = _print_warning) -> list[StreamHeader]:
    """All headers of a file, in order, without building the people; PoseError as `read_stream`."""
    headers = []
    for where, value in _lines(source, warn):
        if "posecli" in value:
            headers.append(header_from_json(value, where))
        elif not headers:
            raise PoseError("not a pose stream: its first line is no header", where, 'it begins {"posecli": 1, ...}')
    return headers


def _lines(source: str | Path | IO[str], warn: Callable[[str], None]) -> Iterator[tuple[str, dict[str, Any]]]:
    """``("file, line 3", value)`` for every line that is not blank; PoseError where there is none."""
    if isinstance(source, str | Path) and str(source) != "-":
        name = str(source)
        refuse_device(name)
        try:
            handle: IO[str] = open(source, encoding="utf-8", errors="surrogateescape")  # noqa: SIM115  (closed below)
        except OSError as error:
            raise PoseError(f"cannot read the pose stream: {error.strerror}", name) from None
        close = True
    else:
        handle = sys.stdin if isinstance(source, str | Path) else source
        name, close = getattr(handle, "name", None) or "pose stream", False
    number, found = 0, False
    try:
        for number, line in enumerate(handle, 1):
            if not line.strip():
                continue
            where = f"{name}, line {number}"
            try:
                value = json.loads(line, parse_constant=no_constant)
            except (ValueError, RecursionError) as error:
                # What is cut off is no JSON; a number that is none was written so.
                if isinstance(error, json.JSONDecodeError) and not line.endswith("\n"):
                    warn(f"{where}: the last line is cut off; it was dropped")
                    break
                raise PoseError(json_fault(error), where) from None
            if not isinstance(value, dict):
                raise PoseError(f"a JSON object is wanted, not {type(value).__name__}", where)
            found = True
            yield where, value
    except UnicodeDecodeError:
        raise PoseError("not a pose stream: it is not UTF-8 text", f"{name}, after line {number}") from None
    finally:
        if close:
            handle.close()
    if not found:
        raise PoseError("the pose stream is empty", name)


class StreamWriter:
    """Writes a pose stream line by line, each flushed at once.

    Lines go straight under the final name: a stream is meant to be followed and resumed. An interrupted run leaves
    whole lines.

    Args:
        target: path, ``"-"`` for standard output, or an open text file (which is left open).
        append: go on with a file; what follows its last whole line is cut off first.
        overwrite: whether a file that exists may be replaced.

    Raises:
        PoseError: the file exists and neither ``append`` nor ``overwrite`` is given.
    """

    def __init__(self, target: str | Path | IO[str], *, append: bool = False, overwrite: bool = True) -> None:
        self._skeleton: Skeleton | None = None
        self._close = False
        self._name = str(target) if isinstance(target, str | Path) else "pose stream"
        if not isinstance(target, str | Path):
            self._handle = target
        elif str(target) == "-":
            self._handle = sys.stdout
            self._name = "standard output"
        else:
            path = Path(target)
            if path.exists() and not (append or overwrite):
                raise PoseError("the output exists already", str(path), "choose another name or give --overwrite")
            path.parent.mkdir(parents=True, exist_ok=True)
            if append and path.exists():
                prefix = complete_prefix(path)
                os.truncate(path, prefix.size)
                self._skeleton = prefix.header.skeleton if prefix.header else None
            self._handle = open(path, "a" if append else "w", encoding="utf-8", newline="\n")  # noqa: SIM115
            self._close = True

    def header(self, header: StreamHeader) -> None:
        """Starts a source."""
        self._skeleton = header.skeleton
        self._line(header_to_json(header))

    def frame(self, poses: FramePoses) -> None:
        """Adds a frame of the source begun last; ValueError when a person's joints do not fit its skeleton."""
        if self._skeleton is None:
            raise ValueError("a header comes before the first frame")
        count = self._skeleton.num_keypoints
        for person in poses.instances:
            if len(person.xy) != count:
                raise ValueError(f"{count} keypoints expected ({self._skeleton.name}), got {len(person.xy)}")
        self._line(frame_to_json(poses))

    def close(self) -> None:
        """Closes the file, if this writer opened it."""
        if self._close:
            with no_room_named(self._name):
                self._handle.close()
            self._close = False

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _line(self, value: dict[str, Any]) -> None:
        # One write per line, so that an interruption falls between lines and not inside one.
        try:
            line = json.dumps(value, allow_nan=False)
        except ValueError:
            what = f"a value that JSON does not know: {place_of_not_finite(value)}"
            hint = "a joint not found has visibility 0; other numbers must be finite"
            raise PoseError(what, self._name, hint) from None
        with no_room_named(self._name):
            self._handle.write(line + "\n")
            self._handle.flush()


class Prefix(NamedTuple):
    """What of a stream file is complete.

    Attributes:
        size: bytes up to the end of the last whole line.
        frame: index of the last frame of the last source; None when it has none yet.
        header: of the last source; None in a file without any whole line.
        last: the last frame itself; None when the last source has none yet.
        finished: names of the sources before the last one.
    """

    size: int
    frame: int | None
    header: StreamHeader | None
    last: FramePoses | None
    finished: tuple[str, ...]


def complete_prefix(path: str | Path) -> Prefix:
    """How far a stream file is whole, so that a run can be resumed: cut the file to ``size`` and go on after ``frame``.

    Raises:
        PoseError: the file is there but is no pose stream, or a line before the last is damaged.
    """
    size, header, frame, finished = 0, None, None, []
    last: tuple[str, dict[str, Any]] | None = None
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, 1):
            where = f"{path}, line {number}"
            if not line.endswith(b"\n"):
                if header is None and line.strip() and line[: len(_BEGINNING)] != _BEGINNING[: len(line)]:
                    raise PoseError("not a pose stream", where, 'its first line begins {"posecli": 1, ...}')
                break
            try:
                value = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                raise PoseError(json_fault(error), where, "this file cannot be resumed") from None
            size += len(line)
            if value is None:
                continue
            if isinstance(value, dict) and "posecli" in value:
                if header is not None:
                    finished.append(header.source)
                header, frame, last = header_from_json(value, where), None, None
            elif header is None or not isinstance(value, dict):
                raise PoseError("not a pose stream", where, 'its first line begins {"posecli": 1, ...}')
            else:
                frame, last = _integer(value.get("frame"), "frame", where), (where, value)
    poses = frame_from_json(last[1], header.skeleton, last[0]) if header and last else None
    return Prefix(size, frame, header, poses, tuple(finished))


def header_to_json(header: StreamHeader) -> dict[str, Any]:
    """The header line as plain values; keys that are None are left out."""
    value: dict[str, Any] = {"posecli": VERSION, "kind": "header", "source": header.source}
    for key in ("width", "height", "fps"):
        if getattr(header, key) is not None:
            value[key] = getattr(header, key)
    value["skeleton"] = header.skeleton.to_json()
    for key in ("model", "weights_sha256", "threshold", "joint_threshold"):
        if getattr(header, key) is not None:
            value[key] = getattr(header, key)
    return value | {k: v for k, v in header.extra.items() if k not in _HEADER_KEYS}


def header_from_json(value: Mapping[str, Any], where: str = "") -> StreamHeader:
    """Reads a header line; PoseError with ``where`` when it is none or of a later version."""
    if value.get("posecli") != VERSION or value.get("kind") != "header":
        raise PoseError(
            f"a header of version {value.get('posecli')!r}, kind {value.get('kind')!r}",
            where,
            f'version {VERSION} and kind "header" are understood',
        )
    if "skeleton" not in value or not isinstance(value.get("source"), str):
        raise PoseError("the header lacks source or skeleton", where)
    sizes = {key: None if value.get(key) is None else _integer(value[key], key, where) for key in ("width", "height")}
    numbers = {
        key: None if value.get(key) is None else _number(value[key], key, where)
        for key in ("fps", "threshold", "joint_threshold")
    }
    try:
        skeleton = Skeleton.from_json(value["skeleton"], where)
    except PoseError as error:
        raise error if error.where == where else PoseError(str(error), where) from None
    return StreamHeader(
        source=value["source"],
        skeleton=skeleton,
        model=value.get("model"),
        weights_sha256=value.get("weights_sha256"),
        extra={k: v for k, v in value.items() if k not in _HEADER_KEYS},
        width=sizes["width"],
        height=sizes["height"],
        fps=numbers["fps"],
        threshold=numbers["threshold"],
        joint_threshold=numbers["joint_threshold"],
    )


def frame_to_json(poses: FramePoses) -> dict[str, Any]:
    """A frame's line as plain values; keys that are None are left out."""
    value: dict[str, Any] = {"frame": int(poses.frame)}
    if poses.time is not None:
        value["time"] = round(float(poses.time), 6)
    for key in ("image_id", "file", "width", "height"):
        if getattr(poses, key) is not None:
            value[key] = getattr(poses, key)
    value["persons"] = [person_to_json(person) for person in poses.instances]
    return value | {k: v for k, v in poses.extra.items() if k not in _FRAME_KEYS}


def frame_from_json(value: Mapping[str, Any], skeleton: Skeleton, where: str = "") -> FramePoses:
    """Reads a frame's line; PoseError with ``where`` on anything that does not fit."""
    persons = value.get("persons")
    if not isinstance(persons, list):
        raise PoseError("a frame needs a list of persons", where)
    file, image_id = value.get("file"), value.get("image_id")
    if not isinstance(file, str | None) or not isinstance(image_id, int | str | None):
        raise PoseError("file must be text, image_id a number or text", where)
    return FramePoses(
        frame=_integer(value.get("frame"), "frame", where),
        instances=tuple(
            person_from_json(person, skeleton, f"{where}, person {i + 1}") for i, person in enumerate(persons)
        ),
        time=None if value.get("time") is None else _number(value["time"], "time", where),
        image_id=image_id,
        file=file,
        width=None if value.get("width") is None else _integer(value["width"], "width", where),
        height=None if value.get("height") is None else _integer(value["height"], "height", where),
        extra={k: v for k, v in value.items() if k not in _FRAME_KEYS},
    )


def person_to_json(person: Instance) -> dict[str, Any]:
    """A person as plain values; ValueError when a joint that is there has no finite place or score."""
    found = person.visibility > 0
    xyz = np.empty((len(found), 3))
    xyz[:, :2], xyz[:, 2] = person.xy, person.score
    if not (np.isfinite(xyz).all() or np.isfinite(xyz[found]).all()):
        raise ValueError("a keypoint with visibility > 0 must have finite coordinates and score")
    value: dict[str, Any] = {}
    if person.track_id is not None:
        value["id"] = int(person.track_id)
    value["score"] = round(float(person.person_score), 4)
    if person.box_xyxy is not None:
        x0, y0, x1, y1 = (float(v) for v in person.box_xyxy)
        value["box"] = [round(x0, 2), round(y0, 2), round(x1 - x0, 2), round(y1 - y0, 2)]
    rows = np.concatenate([xyz[:, :2].round(2), xyz[:, 2:].round(4)], 1).tolist()
    value["keypoints"] = rows if found.all() else [row if f else None for row, f in zip(rows, found, strict=True)]
    if person.heat is not None:
        value["heat"] = round(float(person.heat), 4)
    return value | {k: v for k, v in person.extra.items() if k not in _PERSON_KEYS}


def person_from_json(value: Mapping[str, Any], skeleton: Skeleton, where: str = "") -> Instance:
    """Reads a person; joints that are ``null`` get visibility 0, NaN coordinates and score 0."""
    keypoints = value.get("keypoints") if isinstance(value, Mapping) else None
    if not isinstance(keypoints, list):
        raise PoseError("a person needs a list of keypoints", where)
    count = skeleton.num_keypoints
    if len(keypoints) != count:
        raise PoseError(f"{len(keypoints)} keypoints, but the skeleton {skeleton.name} has {count}", where)
    table = np.full((count, 3), np.nan)
    for row, point in enumerate(keypoints):
        if point is None:
            continue
        if not isinstance(point, list) or len(point) != 3 or not all(_finite(v) for v in point):
            raise PoseError(f"{skeleton.keypoints[row]} must be null or [x, y, score] in finite numbers", where)
        table[row] = point
    found = ~np.isnan(table[:, 2])
    box = value.get("box")
    if box is not None:
        if not isinstance(box, list) or len(box) != 4 or not all(_finite(v) for v in box):
            raise PoseError("box must be [x, y, width, height] in finite numbers", where)
        box = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], dtype=np.float64)
    return Instance(
        xy=table[:, :2].astype(np.float32),
        visibility=np.where(found, 2, 0),
        score=np.where(found, table[:, 2], 0).astype(np.float32),
        person_score=_number(value.get("score", 1.0), "score", where),
        box_xyxy=box,
        track_id=None if value.get("id") is None else _integer(value["id"], "id", where),
        heat=None if value.get("heat") is None else _number(value["heat"], "heat", where),
        extra={k: v for k, v in value.items() if k not in _PERSON_KEYS},
    )


def _finite(value: Any) -> bool:
    return is_finite(value) and abs(value) < _FAR


def _number(value: Any, name: str, where: str) -> float:
    if not _finite(value):
        raise PoseError(f"{name} must be a finite number, not {reprlib.repr(value)}", where)
    return float(value)


def _integer(value: Any, name: str, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _FAR:
        raise PoseError(f"{name} must be a whole number from 0, not {reprlib.repr(value)}", where)
    return value
