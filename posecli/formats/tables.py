"""CSV label files: wide, long and DeepLabCut.

Wide, a row per person and frame (``person`` may be absent; ``_v`` visibility, or ``_score`` confidence, or neither):

    frame,person,nose_x,nose_y,nose_v,left_eye_x,...

Long, a row per joint (``v`` or ``score`` or neither):

    frame,person,joint,x,y,v

``time`` (seconds from the first frame) may stand in for ``frame`` (0-based). Wide tables may also have ``box_x, box_y,
box_w, box_h``, the same with ``head_box``, and ``area``; either may have ``person_score``. Columns ``source``,
``width`` and ``height`` are passed over beside a video, and read where the table stands by itself (`table_set`).
An empty cell is a missing joint; ``nan`` is an error unless its visibility is 0.

DeepLabCut: header rows ``scorer``, (``individuals``,) ``bodyparts``, ``coords``, then one row per frame or per picture
(https://deeplabcut.github.io, written by ``analyze_videos(save_as_csv=True)`` and by the labelling tool). Rows are
named by their line in the file.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import refuse_device
from posecli.formats.labels import LabelFile, LabelRow, Third, check_unique

_V_NAMES = {"v", "visibility", "vis", "visible"}
_SCORE_NAMES = {"score", "conf", "confidence", "likelihood", "prob"}
_PERSON_NAMES = {"person", "track_id", "id"}
_BOXES = ("box", "head_box")
_ABOUT = ("source", "width", "height", "person_score")  # further columns of tables that `posecli convert` wrote
_LONGEST = 18  # digits of a whole number that 64 bits surely hold
Lines = list[tuple[int, list[str]]]


def read_csv(path: Path, *, by_source: bool = False) -> LabelFile:
    """Reads a CSV label file of any of the three forms, told apart by its header.

    Args:
        path: the file.
        by_source: whether the column ``source`` tells rows of one video or picture from those of others.

    Raises:
        PoseError: with file and row, for a header of no known form, a row of another length, a cell that is no number,
            a person twice in one frame.
    """
    lines = csv_lines(path)
    if not lines:
        raise PoseError("the file is empty", str(path))
    header = [c.strip() for c in lines[0][1]]
    if header[0].lower() == "scorer":
        return read_deeplabcut(path, lines)
    columns = [c.lower() for c in header]
    repeated = next((c for c in columns if columns.count(c) > 1), None)
    if repeated is not None:
        raise PoseError(f"column {repeated!r} stands twice", f"{path}, row 1")
    if "frame" not in columns and "time" not in columns:
        raise PoseError("no column 'frame' or 'time'", f"{path}, row 1", "the first row names the columns")
    if "frame" in columns and "time" in columns:
        columns[columns.index("time")] = ""  # both stand: the frame number is exact
    about = _About(columns, by_source)
    if {"joint", "x", "y"} <= set(columns):
        return _read_long(path, columns, about, lines[1:])
    return _read_wide(path, header, columns, about, lines[1:])


def csv_lines(path: Path) -> Lines:
    """Line number and cells of each row that is not blank; every row as long as the first."""
    refuse_device(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise PoseError(f"cannot read: {error.strerror or error}", str(path)) from None
    except UnicodeDecodeError as error:
        raise PoseError(f"cannot read as text: {error}", str(path), "save it as UTF-8") from None
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    lines = []
    try:
        for cells in reader:
            if any(c.strip() for c in cells):
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise PoseError(f"not CSV: {error}", f"{path}, row {reader.line_num}") from None
    for number, cells in lines:
        if len(cells) != len(lines[0][1]):
            raise PoseError(f"{len(cells)} cells where the header has {len(lines[0][1])}", f"{path}, row {number}")
    return lines


def _number(cell: str, name: str, where: str) -> float:
    """The cell's number; NaN for an empty cell; infinity for a written ``nan``, so that it is not taken for empty."""
    cell = cell.strip()
    if not cell:
        return np.nan
    try:
        value = float(cell)
    except ValueError:
        raise PoseError(f"{name} is {cell!r}, not a number", where) from None
    return value if np.isfinite(value) else np.inf


def _moment(cells: Sequence[str], columns: Sequence[str], where: str) -> tuple[int | None, float | None]:
    """Frame number and time of a row; exactly one is not None."""
    if "frame" in columns:
        value = _number(cells[columns.index("frame")], "frame", where)
        if not np.isfinite(value) or value < 0 or value != int(value):
            raise PoseError(f"frame is {cells[columns.index('frame')]!r}, not a number counted from 0", where)
        return int(value), None
    value = _number(cells[columns.index("time")], "time", where)
    if not np.isfinite(value) or value < 0:
        raise PoseError(f"time is {cells[columns.index('time')]!r}, not seconds from the first frame", where)
    return None, value


class _People:
    """Track ids from a ``person`` column: whole numbers are kept if all are such, else they are names too; names are
    numbered from 1 in order of appearance."""

    def __init__(self, columns: Sequence[str], lines: Lines) -> None:
        found = [i for i, c in enumerate(columns) if c in _PERSON_NAMES]
        self.column = found[0] if found else None
        self.names: dict[str, int] = {}
        self.numbered = all(re.fullmatch(r"\s*\d+\s*", cells[i]) for i in found[:1] for _, cells in lines)

    def __call__(self, cells: Sequence[str], where: str) -> tuple[int, dict[str, Any]]:
        if self.column is None:
            return 1, {}
        cell = cells[self.column].strip()
        if not cell:
            raise PoseError("no person", where)
        if self.numbered:
            if len(cell) > _LONGEST:
                raise PoseError(f"person is a number of {len(cell)} digits", where)
            return int(cell), {}
        return self.names.setdefault(cell, len(self.names) + 1), {"person": cell}


class _About:
    """What a row says besides the joints: ``source``, ``width``, ``height`` (asked for by source only) and
    ``person_score``, as keyword arguments of `LabelRow`."""

    def __init__(self, columns: Sequence[str], by_source: bool) -> None:
        wanted = _ABOUT if by_source else ("person_score",)
        self.columns = {name: columns.index(name) for name in wanted if name in columns}

    def __call__(self, cells: Sequence[str], where: str) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for name, column in self.columns.items():
            cell = cells[column].strip()
            if name == "source":
                value[name] = cell
                continue
            number = _number(cell, name, where)
            if np.isnan(number):
                continue
            if not np.isfinite(number) or number < 0:
                raise PoseError(f"{name} is {cell!r}", where)
            value[name] = number if name == "person_score" else int(number)
        return value


def _read_wide(path: Path, header: Sequence[str], columns: Sequence[str], about: _About, lines: Lines) -> LabelFile:
    names: dict[str, dict[str, int]] = {}
    boxes: dict[str, dict[str, int]] = {}
    area_column = None
    kinds = set()
    for i, (column, original) in enumerate(zip(columns, header, strict=True)):
        stem, _, part = column.rpartition("_")
        if column in ("", "frame", "time", *_ABOUT) or column in _PERSON_NAMES:
            continue
        if column == "area":
            area_column = i
        elif stem in _BOXES and part in ("x", "y", "w", "h"):
            boxes.setdefault(stem, {})[part] = i
        elif stem and part in ("x", "y"):
            names.setdefault(original[: len(stem)], {})[part] = i
        elif stem and part in _V_NAMES | _SCORE_NAMES:
            kind = Third.VISIBILITY if part in _V_NAMES else Third.SCORE
            kinds.add(kind)
            names.setdefault(original[: len(stem)], {})["third"] = i
        else:
            raise PoseError(
                f"column {original!r} is none of frame, time, person, <joint>_x, <joint>_y, <joint>_v, <joint>_score",
                f"{path}, row 1",
            )
    for name, places in names.items():
        if not {"x", "y"} <= set(places):
            raise PoseError(f"joint {name!r} has no column for x and for y", f"{path}, row 1")
    for name, places in boxes.items():
        if len(places) != 4:
            raise PoseError(f"{name} needs the columns {name}_x, {name}_y, {name}_w, {name}_h", f"{path}, row 1")
    kind = _one_kind(kinds, sum("third" in p for p in names.values()), len(names), path)
    person = _People(columns, lines)
    rows = []
    for number, cells in lines:
        where = f"{path}, row {number}"
        frame, time = _moment(cells, columns, where)
        track_id, extra = person(cells, where)
        xy = [[_number(cells[p[c]], f"{n}_{c}", where) for c in ("x", "y")] for n, p in names.items()]
        third = [_number(cells[p["third"]], n, where) if "third" in p else np.nan for n, p in names.items()]
        found = {b: _box(cells, p, b, where) for b, p in boxes.items()}
        area = None if area_column is None else _number(cells[area_column], "area", where)
        rows.append(
            LabelRow(
                where, np.array(xy).reshape(-1, 2), np.array(third), frame, time, track_id=track_id,
                box_xyxy=found.get("box"), head_box_xyxy=found.get("head_box"),
                area=None if area is None or np.isnan(area) else area, extra=extra, **about(cells, where),
            )
        )  # fmt: skip
    check_unique(rows, "tell people apart with a column 'person'")
    return LabelFile(path, "CSV, wide", tuple(rows), kind, tuple(names))


def _one_kind(kinds: set[Third], with_third: int, joints: int, path: Path) -> Third:
    if not joints:
        raise PoseError("no joint columns (<joint>_x, <joint>_y)", f"{path}, row 1")
    if not kinds:
        return Third.NOTHING
    if len(kinds) > 1 or with_third != joints:
        raise PoseError("all joints need the same: a _v column, a _score column, or neither", f"{path}, row 1")
    return kinds.pop()


def _box(cells: Sequence[str], places: dict[str, int], name: str, where: str) -> np.ndarray | None:
    x, y, w, h = (_number(cells[places[p]], f"{name}_{p}", where) for p in ("x", "y", "w", "h"))
    if np.isnan([x, y, w, h]).all():
        return None
    if not np.isfinite([x, y, w, h]).all() or w < 0 or h < 0:
        raise PoseError(f"{name} is not x, y, width, height", where)
    return np.array([x, y, x + w, y + h])


def _read_long(path: Path, columns: Sequence[str], about: _About, lines: Lines) -> LabelFile:
    thirds = [c for c in columns if c in _V_NAMES | _SCORE_NAMES]
    if len(thirds) > 1:
        raise PoseError(f"columns {thirds[0]!r} and {thirds[1]!r}: one of them is wanted", f"{path}, row 1")
    known = {"", "frame", "time", "joint", "x", "y", *_ABOUT, *_PERSON_NAMES, *thirds}
    if odd := [c for c in columns if c not in known]:
        raise PoseError(f"column {odd[0]!r} is none of frame, time, person, joint, x, y, v, score", f"{path}, row 1")
    kind = Third.NOTHING if not thirds else Third.VISIBILITY if thirds[0] in _V_NAMES else Third.SCORE
    x, y, joint = (columns.index(c) for c in ("x", "y", "joint"))
    person = _People(columns, lines)
    names: dict[str, None] = {}
    people: dict[tuple[Any, ...], tuple[str, dict[str, Any], dict[str, tuple[float, float, float]]]] = {}
    source_of: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, cells in lines:
        where = f"{path}, row {number}"
        moment = _moment(cells, columns, where)
        track_id, extra = person(cells, where)
        name = cells[joint].strip()
        if not name:
            raise PoseError("no joint", where)
        names[name] = None
        said = about(cells, where)
        key = (*moment, track_id, said.get("source", ""))
        source_of.setdefault(key, said)
        _, _, joints = people.setdefault(key, (where, extra, {}))
        if name in joints:
            raise PoseError(f"joint {name!r} of person {track_id} stands twice in this frame", where)
        third = _number(cells[columns.index(thirds[0])], thirds[0], where) if thirds else np.nan
        point = (_number(cells[x], "x", where), _number(cells[y], "y", where), third)
        claimed = third > 0 if thirds else not np.isnan(point[:2]).all()
        # Said here, where the joint's own row is known; `LabelRow.where` is the person's first.
        if claimed and not np.isfinite(point[:2]).all():
            raise PoseError(f"a coordinate of {name!r} is not finite", where)
        if kind is Third.VISIBILITY and third not in (0, 1, 2):
            raise PoseError(f"visibility of {name!r} is {cells[columns.index(thirds[0])]!r}, not 0, 1 or 2", where)
        joints[name] = point
    rows = []
    for key, (where, extra, joints) in people.items():
        frame, time, track_id, _ = key
        points = np.array([joints.get(n, (np.nan, np.nan, np.nan)) for n in names])
        rows.append(
            LabelRow(where, points[:, :2], points[:, 2], frame, time, track_id=track_id, extra=extra, **source_of[key])
        )
    return LabelFile(path, "CSV, long", tuple(rows), kind, tuple(names))


def read_deeplabcut(path: Path, lines: Lines) -> LabelFile:
    keys = [cells[0].strip().lower() for _, cells in lines[:4]]
    heads = ["scorer", *(["individuals"] if "individuals" in keys else []), "bodyparts", "coords"]
    if keys[: len(heads)] != heads:
        raise PoseError(f"not a DeepLabCut table: its first column should begin {', '.join(heads)}", str(path))
    head = {k: [c.strip() for c in lines[i][1]] for i, k in enumerate(heads)}
    coords = [c.lower() for c in head["coords"]]
    # Labelled pictures stand under one path or under three columns (folder, video, picture).
    first = next((i for i, c in enumerate(coords) if c == "x"), 0)
    if not first:
        raise PoseError("no column 'x'", f"{path}, row {len(heads)}")
    named = list(zip(*(head[k][first:] for k in heads[1:-1]), coords[first:], strict=True))
    repeated = next((c for i, c in enumerate(named) if c in named[:i]), None)
    if repeated is not None:
        raise PoseError(f"column {' '.join(repeated)!r} stands twice", f"{path}, rows 1 to {len(heads)}")
    parts = list(dict.fromkeys(head["bodyparts"][first:]))
    people = list(dict.fromkeys(head["individuals"][first:])) if "individuals" in head else [""]
    kind = Third.SCORE if "likelihood" in coords else Third.NOTHING
    rows, labelled = [], []
    for number, cells in lines[len(heads) :]:
        where = f"{path}, row {number}"
        index = cells[first - 1].strip()
        if index.isdecimal() and len(index) > _LONGEST:
            raise PoseError(f"frame is a number of {len(index)} digits", where)
        frame, file = (int(index), None) if index.isdecimal() else (None, re.split(r"[/\\]", index)[-1])
        picture = "" if file is None else "/".join(cells[:first])  # several folders may have one of that name
        labelled += [] if frame is None else [frame]
        values = {}
        for i in range(first, len(cells)):
            person = head["individuals"][i] if "individuals" in head else ""
            part = head["bodyparts"][i]
            values[person, part, coords[i]] = _number(cells[i], f"{part} {coords[i]}", where)
        for track_id, person in enumerate(people, 1):
            points = np.array([[values.get((person, p, c), np.nan) for c in ("x", "y", "likelihood")] for p in parts])
            if np.isnan(points[:, :2]).all():
                continue
            rows.append(
                LabelRow(
                    where, points[:, :2], points[:, 2], frame, file=file, track_id=track_id,
                    extra={"person": person} if person else {}, source=picture,
                )
            )  # fmt: skip
    check_unique(rows, "")
    return LabelFile(path, "DeepLabCut CSV", tuple(rows), kind, tuple(parts), labelled=tuple(labelled))
