"""DeepLabCut tables: CSV and H5, of labelled pictures and of analysed videos, of one animal or several.

Format notes (https://deeplabcut.github.io): the columns have the levels ``scorer``, (``individuals``,) ``bodyparts``
and ``coords`` (``x``, ``y``, and in results ``likelihood``); a row is a frame number, or a picture under one path or
under three (``labeled-data``, folder, picture). `tables.read_deeplabcut` reads the CSV, `deeplabcut_h5` the H5 (extra
``hdf5``). Labels lie in ``labeled-data/<video>/CollectedData_<scorer>.csv`` of a project, results beside their video
under its name followed by ``DLC...``. An empty cell (NaN) is a missing joint; a likelihood is the joint's score.

Individuals become track ids: their place among the columns; of tables that posecli wrote the number in ``person7``
(``untracked1`` has none). DeepLabCut has no place for hidden joints, boxes and person scores.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import replace_when_done
from posecli.formats.found_pictures import FoundPictures, video_of
from posecli.formats.joint_names import skeleton_from_names
from posecli.formats.labels import SCORE_THRESHOLD, LabelFile, LabelRow, joint_columns, say_scores_outside, to_instance
from posecli.formats.side_notes import coordinate, is_video_frame, tell_losses
from posecli.formats.sniffing import head_of
from posecli.formats.tables import Lines, csv_lines, read_deeplabcut
from posecli.skeletons import get_skeleton
from posecli.types import Dataset, Instance, Record, Skeleton, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_HDF5 = b"\x89HDF\r\n\x1a\n"
_LABELLED = "labeled-data"


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is such a table, or a project with ``labeled-data``."""
    if src.is_dir():
        found = _of_project(src)
        return f"{len(found)} tables of labelled pictures in labeled-data" if found else None
    if src.suffix == ".csv" and head_of(src, 16).lower().startswith(b"scorer"):
        return "its first row begins with scorer"
    if src.suffix in (".h5", ".hdf5") and head_of(src, 8).startswith(_HDF5):
        from posecli.formats.deeplabcut_h5 import is_deeplabcut

        return "an HDF5 file with a table of bodyparts" if is_deeplabcut(src) else None
    return None


def _of_project(folder: Path) -> list[Path]:
    """The labelled tables of a project, one a folder; CSV goes before H5, which says the same."""
    base = folder if folder.name == _LABELLED else folder / _LABELLED
    tables: dict[Path, Path] = {}
    for path in sorted(base.glob("*/CollectedData_*.*")):
        if path.suffix in (".csv", ".h5"):
            tables.setdefault(path.parent, path)
    return list(tables.values())


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads one table, or all labelled ones of a project. Each row is a record, also one in which nothing is labelled.

    Pictures are looked for in ``options.image_root`` (None: the folder of the table), by their path and by their name.
    The video of a table of results is the one given as ``options.image_root``, or of the same name in it (None: beside
    the table). ``options.skeleton`` names the joints that are meant; without it the table's own names do.

    Raises:
        PoseError: naming file and row, for anything that is no such table; tables with different joints; a picture or a
            video that is not there; a joint that the skeleton lacks.
        MissingExtra: an H5 file, and h5py is not installed.
    """
    src = Path(src)
    paths = _of_project(src) if src.is_dir() else [src]
    if not paths:
        raise PoseError("no labeled-data/*/CollectedData_*.csv or .h5 in it", str(src))
    tables = [(path, *_table(path)) for path in paths]
    first = tables[0][1]
    given = options.skeleton
    if given is None:
        skeleton = skeleton_from_names(first.names or (), where=str(first.path))
    else:
        skeleton = given if isinstance(given, Skeleton) else get_skeleton(str(given))
    threshold = SCORE_THRESHOLD if options.score_threshold is None else options.score_threshold
    root = Path(options.image_root) if options.image_root is not None else src if src.is_dir() else src.parent
    if root.is_file():
        root = root.parent
    records: list[Record] = []
    videos: list[Video] = []
    for path, label, lines in tables:
        columns = joint_columns(label, skeleton, {})
        say_scores_outside(label, warn)
        index = _index(lines)
        places: list[tuple[str, int, int, int | None]]
        recordings: list[str | None] = [None] * len(index)
        if all(name.isdecimal() for _, name in index) and index:
            video = _video(path, options, len(videos) + 1, root)
            videos.append(video)
            places = [(video.file_name, video.width, video.height, int(name)) for _, name in index]
            last = max(int(name) for _, name in index)
            if last >= video.num_frames > 0:
                what = f"frame {last}, but {video.file_name} has {video.num_frames} frames"
                raise PoseError(what, str(path), "another video's table?")
        else:
            folder = root if options.image_root is not None else path.parent
            pictures = FoundPictures(folder, str(path))
            recordings = [_recording(name, path) for _, name in index]
            places = []
            for _, name in index:
                found, width, height = pictures.named(name)
                relative = Path(os.path.relpath(folder / found, root)).as_posix()
                places.append((relative, width, height, None))
        rows: dict[str, list[LabelRow]] = {}
        for row in label.rows:
            rows.setdefault(row.where, []).append(row)
        for (number, _), (name, width, height, frame), recording in zip(index, places, recordings, strict=True):
            people = [
                _person(to_instance(row, columns, skeleton, label.third, width, height, threshold))
                for row in rows.get(f"{path}, row {number}", ())
            ]
            records.append(
                Record(
                    len(records) + 1, name, width, height, tuple(people),
                    None if frame is None else videos[-1].id, frame,
                    {} if recording is None else {"recording": recording},
                )
            )  # fmt: skip
    return Dataset(skeleton, tuple(records), tuple(videos), str(root))


def read_table(path: Path) -> LabelFile:
    """One CSV or H5 table as labels of frames or pictures; raises as `read` does."""
    return _table(path)[0]


def _table(path: Path) -> tuple[LabelFile, Lines]:
    if path.suffix in (".h5", ".hdf5"):
        from posecli.formats.deeplabcut_h5 import h5_lines

        lines = h5_lines(path)
    else:
        lines = csv_lines(path)
    if not lines:
        raise PoseError("the file is empty", str(path))
    return read_deeplabcut(path, lines), lines


def _index(lines: Lines) -> list[tuple[int, str]]:
    """Row number and picture (or frame number) of each row of values."""
    coords = next(n for n, (_, cells) in enumerate(lines) if cells[0].strip().lower() == "coords")
    first = next(i for i, c in enumerate(lines[coords][1]) if c.strip().lower() == "x")
    return [(number, "/".join(c.strip() for c in cells[:first])) for number, cells in lines[coords + 1 :]]


def _recording(name: str, table: Path) -> str | None:
    """The video that a picture was taken from: the folder below ``labeled-data``, in its name or around the table.
    Frames of one video are too much alike to be on both sides of a split."""
    for parts in (PurePosixPath(name.replace("\\", "/")).parts[:-1], table.resolve().parent.parts):
        below = [folder for base, folder in pairwise(parts) if base == _LABELLED]
        if below:
            return below[-1]
    return None


def _person(person: Instance) -> Instance:
    """The person with the track id that its name in the columns means."""
    name = str(person.extra.get("person", ""))
    numbered = re.fullmatch(r"(person|untracked)(\d+)", name)
    if numbered:
        track = int(numbered[2]) if numbered[1] == "person" else None
        return replace(person, track_id=track, extra={k: v for k, v in person.extra.items() if k != "person"})
    return person if name else replace(person, track_id=None)


def _video(path: Path, options: ReadOptions, number: int, root: Path) -> Video:
    stem = re.split(r"DLC|_posecli", path.stem, maxsplit=1)[0] or path.stem
    found = video_of(path.with_name(stem + path.suffix), options.image_root)
    if found is None:
        hint = "say which video it is with --image-root VIDEO"
        raise PoseError(f"rows are frames of a video, but no video {stem!r} is in {root}", str(path), hint)
    from posecli.video import VideoSource

    with VideoSource(found) as video:
        name = Path(os.path.relpath(found, root)).as_posix()
        size = (video.width, video.height)
        return Video(number, found.stem, name, *size, video.fps or 0.0, video.num_frames or 0)


def write(dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Warn = lambda message: None) -> None:
    """Writes a CSV table: pictures by name, or the frames of one video by number.

    With several people, or with track ids, it has the level ``individuals``; with joint scores the column
    ``likelihood``. What it has no place for is counted and said.

    Raises:
        PoseError: frames of several videos, or of videos and pictures; the output exists.
    """
    inside = [is_video_frame(r) for r in dataset.records]
    if any(inside) and (not all(inside) or len({r.file_name for r in dataset.records}) > 1):
        raise PoseError("a DeepLabCut table holds one video, or pictures", str(path), "convert the videos one by one")
    placed = [_individuals(r) for r in dataset.records]
    people = [p for r in dataset.records for p in r.instances]
    several = any(p.track_id is not None for p in people) or any(len(r.instances) > 1 for r in dataset.records)
    names = sorted({name for row in placed for name in row}, key=_natural) if several else [""]
    scored = any((p.score[p.visibility > 0] != 1).any() for p in people)
    coords = ("x", "y", "likelihood") if scored else ("x", "y")
    joints = dataset.skeleton.keypoints
    columns = [(name, joint, coord) for name in names for joint in joints for coord in coords]
    with replace_when_done(path, overwrite=overwrite) as part, open(part, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(["scorer", *("posecli" for _ in columns)])
        if several:
            table.writerow(["individuals", *(c[0] for c in columns)])
        table.writerow(["bodyparts", *(c[1] for c in columns)])
        table.writerow(["coords", *(c[2] for c in columns)])
        for record, row in zip(dataset.records, placed, strict=True):
            index: Any = record.frame_id if is_video_frame(record) else record.file_name
            cells: list[Any] = []
            for name in names:
                person = row.get(name) if several else next(iter(record.instances), None)
                cells += _cells(person, len(joints), scored)
            table.writerow([index, *cells])
    tell_losses(dataset, path, "deeplabcut", {"track ids", "joint scores"}, warn)


def _individuals(record: Record) -> dict[str, Instance]:
    ids = Counter(p.track_id for p in record.instances)
    named: dict[str, Instance] = {}
    untracked = 0
    for person in record.instances:
        if person.track_id is not None and person.track_id >= 0 and ids[person.track_id] == 1:
            named[f"person{person.track_id}"] = person
        else:
            untracked += 1
            named[f"untracked{untracked}"] = person
    return named


def _natural(name: str) -> tuple[str, int]:
    return name.rstrip("0123456789"), int(re.findall(r"\d+$", name)[0])


def _cells(person: Instance | None, count: int, scored: bool) -> list[Any]:
    width = 3 if scored else 2
    if person is None:
        return [""] * (width * count)
    cells: list[Any] = []
    single = person.xy.dtype == np.float32
    for (x, y), v, s in zip(person.xy.tolist(), person.visibility.tolist(), person.score.tolist(), strict=True):
        point = [coordinate(x, single), coordinate(y, single), round(s, 6)] if v else ["", "", ""]
        cells += point[:width]
    return cells
