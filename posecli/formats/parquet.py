"""Parquet: poses or labels as one table, a row a joint, for pandas, polars, DuckDB and R (extra ``parquet``).

Columns, all nullable where it makes sense: ``source`` (video, or the pictures' folder), ``fps``, ``frame``, ``time``,
``file`` (a picture's name), ``width``, ``height``, ``image_id`` (a number) or ``image_key`` (a text), ``image_extra``
and ``extra`` (further keys of frame and person, JSON); of a person ``n`` (its place in the frame), ``person`` (track
id), ``person_score``, ``heat``, ``box_*`` and ``head_box_*`` (``x1, y1, x2, y2`` in pixels), ``area``, ``ignore``; of a
joint ``joint``, ``x``, ``y``, ``score``, ``v`` (0, 1, 2; null x and y with 0), ``derived``. A frame with nobody is one
row whose ``n`` is null. The file's metadata has under ``posecli`` a JSON object: ``kind`` (``poses`` or ``labels``),
``skeleton``, and of labels ``videos`` and ``info``.

Written in groups of some ten thousand rows, so that poses of any length need little memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import MissingExtra, PoseError, reason
from posecli.formats.label_poses import Frames, one_skeleton
from posecli.types import Dataset, Instance, Record, Skeleton, Video

if TYPE_CHECKING:
    import pyarrow

    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_GROUP = 1 << 16  # rows held before they are written
_LARGEST = 1 << 20  # of one group; a frame of more than that would be no frame
_MOST_ROWS = 100  # a byte, in a table of more than one group: frames without people take a byte or so each
_CORNERS = ("x1", "y1", "x2", "y2")


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("pyarrow", "parquet", "Parquet") from None
    return pyarrow


def _schema(pa: Any) -> Any:
    text, number, real = pa.string(), pa.int64(), pa.float64()
    name = pa.dictionary(pa.int32(), text)
    fields = [
        ("source", name), ("fps", real), ("video_id", number), ("frame", number), ("time", real), ("file", name),
        ("width", pa.int32()), ("height", pa.int32()), ("image_id", number), ("image_key", name),
        ("image_extra", name), ("n", pa.int32()), ("person", number), ("person_score", pa.float32()),
        ("heat", pa.float32()), *((f"box_{c}", real) for c in _CORNERS), *((f"head_box_{c}", real) for c in _CORNERS),
        ("area", real), ("ignore", pa.bool_()), ("extra", name), ("joint", name), ("x", real), ("y", real),
        ("score", pa.float32()), ("v", pa.int8()), ("derived", pa.bool_()),
    ]  # fmt: skip
    return pa.schema(fields)


def write_poses(frames: Frames, path: Path) -> int:
    """Writes poses; returns the number of people. PoseError when a source has other joints than those before;
    MissingExtra without pyarrow."""

    def rows() -> Iterator[tuple[Skeleton, dict[str, Any], tuple[Instance, ...]]]:
        for _, header, poses in one_skeleton(frames, "choose one joint set with --to-skeleton"):
            frame = {
                "source": header.source, "fps": header.fps, "frame": poses.frame, "time": poses.time,
                "file": poses.file, "width": poses.width or header.width, "height": poses.height or header.height,
                **_image_id(poses.image_id), "image_extra": _json(poses.extra),
            }  # fmt: skip
            yield header.skeleton, frame, poses.instances

    return _write(rows(), path, {"kind": "poses"})


def write_labels(dataset: Dataset, path: Path) -> int:
    """Writes a data set; returns the number of people. Videos whose ids are not numbers are counted from 1, the column
    holds numbers. MissingExtra without pyarrow."""
    dataset = _with_numbered_videos(dataset)
    videos = {v.id: v for v in dataset.videos}

    def rows() -> Iterator[tuple[Skeleton, dict[str, Any], tuple[Instance, ...]]]:
        for record in dataset.records:
            video = videos.get(record.video_id) if record.video_id is not None else None
            frame = {
                "source": video.file_name if video else None, "fps": video.fps if video else None,
                "video_id": record.video_id, "frame": record.frame_id, "file": record.file_name,
                "time": record.frame_id / video.fps if video and video.fps and record.frame_id is not None else None,
                "width": record.width, "height": record.height, **_image_id(record.image_id),
                "image_extra": _json(record.extra),
            }  # fmt: skip
            yield dataset.skeleton, frame, record.instances

    head = {"kind": "labels", "videos": [asdict(v) for v in dataset.videos], "info": dict(dataset.info)}
    return _write(rows(), path, head, dataset.skeleton)


def _with_numbered_videos(dataset: Dataset) -> Dataset:
    """The data set itself where all ids of videos are numbers."""
    ids = dict.fromkeys([*(v.id for v in dataset.videos), *(r.video_id for r in dataset.records)])
    ids.pop(None, None)
    if all(isinstance(i, int) for i in ids):
        return dataset
    number = {old: new for new, old in enumerate(ids, 1)}
    records = tuple(r if r.video_id is None else replace(r, video_id=number[r.video_id]) for r in dataset.records)
    return replace(dataset, records=records, videos=tuple(replace(v, id=number[v.id]) for v in dataset.videos))


def _image_id(value: int | str | None) -> dict[str, Any]:
    return {"image_id": value} if not isinstance(value, str) else {"image_key": value}


def _json(extra: Mapping[str, Any]) -> str | None:
    return json.dumps(dict(extra), separators=(",", ":")) if extra else None


def _write(
    rows: Iterator[tuple[Skeleton, dict[str, Any], tuple[Instance, ...]]],
    path: Path,
    head: dict[str, Any],
    skeleton: Skeleton | None = None,
) -> int:
    pa = _pyarrow()
    schema = _schema(pa)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    count, writer = 0, None

    def flush() -> None:
        nonlocal writer
        if writer is None:
            about = json.dumps({**head, "skeleton": None if skeleton is None else skeleton.to_json()})
            table_schema = schema.with_metadata({"posecli": about})
            writer = pa.parquet.ParquetWriter(str(path), table_schema, compression="zstd")
        writer.write_table(pa.table({n: pa.array(c, schema.field(n).type) for n, c in columns.items()}, writer.schema))
        for values in columns.values():
            values.clear()

    try:
        for skeleton, frame, people in rows:
            for n, person in enumerate(people, 1):
                _add(columns, len(skeleton.keypoints), frame | _person(n, person) | _joints(person, skeleton))
            if not people:
                _add(columns, 1, frame)
            count += len(people)
            if len(columns["frame"]) >= _GROUP:
                flush()
        flush()
    finally:
        if writer is not None:
            writer.close()
    return count


def _add(columns: dict[str, list[Any]], rows: int, values: Mapping[str, Any]) -> None:
    for name, column in columns.items():
        value = values.get(name)
        if isinstance(value, str):  # names of files need not be UTF-8, which the column is
            value = value.encode("utf-8", "backslashreplace").decode()
        column.extend(value if isinstance(value, list) else [value] * rows)


def _person(n: int, person: Instance) -> dict[str, Any]:
    value: dict[str, Any] = {
        "n": n, "person": person.track_id, "person_score": float(person.person_score), "heat": person.heat,
        "area": person.area, "ignore": bool(person.ignore),
        "extra": _json({k: v for k, v in person.extra.items() if k != "derived"}),
    }  # fmt: skip
    for name, box in (("box", person.box_xyxy), ("head_box", person.head_box_xyxy)):
        if box is not None:
            value |= {f"{name}_{c}": float(b) for c, b in zip(_CORNERS, box, strict=True)}
    return value


def _joints(person: Instance, skeleton: Skeleton) -> dict[str, Any]:
    there = (person.visibility > 0).tolist()
    derived = person.extra.get("derived") or ()
    return {
        "joint": list(skeleton.keypoints),
        "x": [x if v else None for x, v in zip(person.xy[:, 0].tolist(), there, strict=True)],
        "y": [y if v else None for y, v in zip(person.xy[:, 1].tolist(), there, strict=True)],
        "score": person.score.tolist(),
        "v": person.visibility.tolist(),
        "derived": [name in derived for name in skeleton.keypoints],
    }


def recognise(src: Path) -> str | None:
    """Whether the file is a Parquet table written here; looks at its end only."""
    if src.suffix.lower() != ".parquet" or not src.is_file():
        return None
    with open(src, "rb") as handle:
        handle.seek(max(0, src.stat().st_size - (1 << 20)))
        tail = handle.read()
    return "a Parquet table with 'posecli' metadata" if tail.endswith(b"PAR1") and b"posecli" in tail else None


def read(path: Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads a table written by `write_labels` or `write_poses` as a data set.

    Coordinates are float64. Poses: a frame of a video is named by its source, and image ids that are not stated are
    counted from 1.

    Args:
        path: the file.
        options: ``image_root`` is the folder of the pictures and videos, else the file's folder.
        warn: told nothing; for the sake of all readers being called alike.

    Raises:
        PoseError: not Parquet, not written by posecli, a column missing or of another kind, a frame without a size,
            a joint the skeleton lacks. MissingExtra without pyarrow.
    """
    pa = _pyarrow()
    try:
        file = pa.parquet.ParquetFile(str(path), memory_map=True)
        head = json.loads((file.schema_arrow.metadata or {})[b"posecli"])
    except (OSError, pa.ArrowException) as error:
        raise PoseError(f"not a Parquet file: {reason(error)}", str(path)) from None
    except (KeyError, ValueError):
        raise PoseError("no 'posecli' metadata: not a table that posecli wrote", str(path)) from None
    try:
        labels = head["kind"] == "labels"
        skeleton = Skeleton.from_json(head["skeleton"], str(path))
        videos = tuple(Video(**{**v, "tags": tuple(v["tags"])}) for v in head.get("videos", ()))
        info = dict(head.get("info") or {})
    except (KeyError, TypeError, ValueError):
        raise PoseError("its 'posecli' metadata is damaged", str(path)) from None
    try:
        records, found = _records(_groups(file, _schema(pa), path), skeleton, labels, path)
    except (OSError, pa.ArrowException) as error:
        raise PoseError(f"a damaged Parquet file: {error}", str(path)) from None
    root = Path(options.image_root) if options.image_root is not None else path.parent
    return Dataset(skeleton, records, videos if labels else found, str(root), info)


def _groups(file: Any, schema: Any, path: Path) -> Iterator[tuple[int, dict[str, list[Any]]]]:
    """(first row, columns) of each group of rows; a frame never lies in two."""
    first = 0
    if file.metadata.num_rows > max(_LARGEST, _MOST_ROWS * path.stat().st_size):
        what = f"{file.metadata.num_rows} rows in {path.stat().st_size} bytes: not a table that posecli wrote"
        raise PoseError(what, str(path))
    for n in range(file.num_row_groups):
        rows = file.metadata.row_group(n).num_rows
        if rows > _LARGEST:  # a few bytes can claim any number of equal rows
            raise PoseError(f"{rows} rows in one group: not a table that posecli wrote", str(path))
        yield first, _columns(file.read_row_group(n), schema, path)
        first += rows


def _columns(table: pyarrow.Table, schema: Any, path: Path) -> dict[str, list[Any]]:
    columns = {}
    for name in schema.names:
        if name not in table.column_names:
            raise PoseError(f"no column {name!r}", str(path))
        column = table.column(name)
        if column.type != schema.field(name).type:
            raise PoseError(f"column {name!r} is {column.type}, not {schema.field(name).type}", str(path))
        columns[name] = column.to_pylist()
    return columns


def _records(
    groups: Iterator[tuple[int, dict[str, list[Any]]]], skeleton: Skeleton, labels: bool, path: Path
) -> tuple[tuple[Record, ...], tuple[Video, ...]]:
    records: list[Record] = []
    videos: dict[str, Video] = {}
    place = {name: i for i, name in enumerate(skeleton.keypoints)}
    for offset, columns in groups:
        for start, end in _runs(columns, ("source", "frame", "file", "image_id", "image_key")):
            where = f"{path}, row {offset + start + 1}"
            row = {name: column[start] for name, column in columns.items()}
            people = []
            for first, last in _runs(columns, ("n",), start, end):
                if columns["n"][first] is not None:
                    people.append(_instance(columns, first, last, place, f"{path}, row {offset + first + 1}"))
            if not all(isinstance(row[k], int) and row[k] > 0 for k in ("width", "height")):
                raise PoseError("no width and height of the frame", where)
            if row["frame"] is not None and row["frame"] < 0:
                raise PoseError(f"frame {row['frame']} is not counted from 0", where)
            image_id = row["image_id"] if row["image_key"] is None else row["image_key"]
            video_id, file = row["video_id"], row["file"]
            if not labels and file is None:
                source = str(row["source"])
                video = videos.setdefault(
                    source,
                    Video(
                        len(videos) + 1, Path(source).stem, source, row["width"], row["height"], row["fps"] or 0.0, 0
                    ),
                )
                video_id, file = video.id, source
                end_frame = max(video.num_frames, (row["frame"] or 0) + 1)
                videos[source] = Video(**{**asdict(video), "num_frames": end_frame, "tags": video.tags})
            records.append(
                Record(
                    len(records) + 1 if image_id is None else image_id, str(file), row["width"], row["height"],
                    tuple(people), video_id, row["frame"] if labels or video_id is not None else None,
                    _extra(row["image_extra"], where),
                )
            )  # fmt: skip
    if len({r.image_id for r in records}) < len(records):
        if labels:
            raise PoseError("an image id stands for two images", str(path))
        records = [Record(**{**vars(r), "image_id": n}) for n, r in enumerate(records, 1)]
    return tuple(records), tuple(videos.values())


def _runs(
    columns: dict[str, list[Any]], names: tuple[str, ...], start: int = 0, end: int | None = None
) -> Iterator[tuple[int, int]]:
    """Ranges of rows in which these columns stay the same."""
    end = len(columns["frame"]) if end is None else end
    keys = [columns[n] for n in names]
    first = start
    for row in range(start + 1, end):
        if any(k[row] != k[first] for k in keys):
            yield first, row
            first = row
    if first < end:
        yield first, end


def _extra(text: str | None, where: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PoseError("further keys are not a JSON object", where)
    return value


def _instance(columns: dict[str, list[Any]], first: int, last: int, place: dict[str, int], where: str) -> Instance:
    count = len(place)
    xy, score = np.full((count, 2), np.nan), np.zeros(count, np.float32)
    visibility = np.zeros(count, np.int64)
    derived = []
    seen = set()
    for row in range(first, last):
        name, v = columns["joint"][row], columns["v"][row]
        if name not in place or name in seen:
            raise PoseError(f"joint {name!r} is unknown or stands twice", where)
        seen.add(name)
        x, y, s = columns["x"][row], columns["y"][row], columns["score"][row]
        if v not in (0, 1, 2) or s is None or not np.isfinite(s):
            raise PoseError(f"visibility {v!r} or score {s!r} of {name!r} is none", where)
        if v and (x is None or y is None or not np.isfinite([x, y]).all()):
            raise PoseError(f"a coordinate of {name!r} is not finite", where)
        joint = place[name]
        visibility[joint], score[joint] = v, s
        if v:
            xy[joint] = x, y
        if columns["derived"][row]:
            derived.append(name)
    values = {name: column[first] for name, column in columns.items()}
    boxes = []
    for name in ("box", "head_box"):
        corners = [values[f"{name}_{c}"] for c in _CORNERS]
        boxes.append(None if None in corners else np.array(corners, np.float64))
    numbers = [values[k] for k in ("person_score", "heat", "area")] + [c for b in boxes if b is not None for c in b]
    if not np.isfinite([0.0 if v is None else v for v in numbers]).all():
        raise PoseError("a score, area or box that is no finite number", where)
    extra = _extra(values["extra"], where)
    return Instance(
        xy=xy, visibility=visibility, score=score,
        person_score=1.0 if values["person_score"] is None else float(values["person_score"]), box_xyxy=boxes[0],
        area=values["area"], ignore=bool(values["ignore"]), track_id=values["person"],
        heat=None if values["heat"] is None else float(values["heat"]), head_box_xyxy=boxes[1],
        extra=extra | ({"derived": derived} if derived else {}),
    )  # fmt: skip
