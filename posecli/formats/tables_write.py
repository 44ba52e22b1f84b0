"""CSV tables of poses and of labels; `posecli.formats.tables` tells the columns and reads them back.

Poses: long ``source,frame,time,person,joint,x,y,score,person_score``, a row a joint; wide ``source,frame,time,person,
person_score,box_x,box_y,box_w,box_h`` and three columns a joint. Labels: the visibility ``v`` in place of the scores,
``width,height`` of the picture, and in wide tables ``head_box_...`` and ``area`` where there are any. An empty cell is
a joint that is missing. ``source`` is the video, or the picture's own name (of labels relative to the table's folder).
People without an identity (or with one that somebody before them has) are numbered 1, 2, ... within their frame, past
the identities there, so that the rows of one person can be told from the next one's.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats.label_poses import Frames, by_source, one_skeleton
from posecli.formats.labels import visibility_from_scores
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Skeleton

_XYWH = ("x", "y", "w", "h")


@dataclass(frozen=True)
class Columns:
    """What a table says of each person besides its joints: ``third`` is ``"score"`` (poses) or ``"v"`` (labels);
    ``size`` stands for the columns ``width`` and ``height`` of the picture."""

    third: str = "score"
    size: bool = False
    person_score: bool = True
    box: bool = True
    head_box: bool = False
    area: bool = False


def label_columns(dataset: Dataset) -> Columns:
    """The columns for a data set: ``v``, unless its joints have scores, as results read as a data set do."""
    people = [p for r in dataset.records for p in r.instances]
    scored = any((p.score[p.visibility > 0] != 1).any() for p in people)
    return Columns(
        "score" if scored else "v",
        size=True,
        person_score=scored,
        box=any(p.box_xyxy is not None for p in people),
        head_box=any(p.head_box_xyxy is not None for p in people),
        area=any(p.area is not None for p in people),
    )


def misjudged_by_scores(dataset: Dataset) -> int:
    """How many people of a table of scores come back with other visibilities than they have: readers form them from the
    scores."""
    if label_columns(dataset).third == "v":
        return 0
    return sum(
        bool((visibility_from_scores(p.xy, p.score * (p.visibility > 0), r.width, r.height) != p.visibility).any())
        for r in dataset.records
        for p in r.instances
    )


def write_long(frames: Frames, path: Path, columns: Columns) -> int:
    """Writes a row a joint; returns the number of people."""
    head = [*_about(columns), "joint", "x", "y", columns.third]
    count = 0
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow([*head, "person_score"] if columns.person_score else head)
        for _, header, poses in by_source(frames):
            for n, person in zip(_numbers(poses), poses.instances, strict=True):
                moment = _moment(poses, header, n, columns)
                tail = [_plain(person.person_score, 4)] if columns.person_score else []
                for name, point in zip(header.skeleton.keypoints, _points(person, columns.third), strict=True):
                    table.writerow([*moment, name, *point, *tail])
                count += 1
    return count


def write_wide(frames: Frames, path: Path, columns: Columns) -> int:
    """Writes a row a person; returns the number of people. PoseError when a source has other joints, or a joint is
    named like a column."""
    count, begun = 0, False
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        for _, header, poses in one_skeleton(frames, "choose one joint set with --to-skeleton, or --to csv"):
            if not begun:
                table.writerow(_head(header.skeleton, columns))
                begun = True
            for n, person in zip(_numbers(poses), poses.instances, strict=True):
                row = _moment(poses, header, n, columns)
                if columns.person_score:
                    row.append(_plain(person.person_score, 4))
                for there, box in ((columns.box, person.box_xyxy), (columns.head_box, person.head_box_xyxy)):
                    row += _box(box) if there else []
                if columns.area:
                    row.append(_plain(person.area, 4))
                table.writerow([*row, *(v for point in _points(person, columns.third) for v in point)])
                count += 1
    return count


def _head(skeleton: Skeleton, columns: Columns) -> list[str]:
    head = _about(columns)
    if columns.person_score:
        head.append("person_score")
    for there, name in ((columns.box, "box"), (columns.head_box, "head_box")):
        head += [f"{name}_{part}" for part in _XYWH] if there else []
    if columns.area:
        head.append("area")
    head += [f"{n}_{part}" for n in skeleton.keypoints for part in ("x", "y", columns.third)]
    lowered = [c.lower() for c in head]
    odd = next((c for c in head if lowered.count(c.lower()) > 1), None)
    if odd is None:
        odd = next((n for n in skeleton.keypoints if n.lower() in ("box", "head_box")), None)
    if odd is not None:
        what = f"a joint's name gives a column that means something else: {odd!r}"
        raise PoseError(what, f"skeleton {skeleton.name}", "--to csv has a row a joint")
    return head


def _about(columns: Columns) -> list[str]:
    return ["source", "frame", "time", *(["width", "height"] if columns.size else []), "person"]


def _numbers(poses: FramePoses) -> list[int]:
    """The column ``person`` of each of a frame's people: identities, and for those without one, or with somebody
    else's, 1, 2, ... as far as no identity has it."""
    taken = {p.track_id for p in poses.instances}
    free = (n for n in itertools.count(1) if n not in taken)
    numbers: list[int] = []
    for person in poses.instances:
        track = person.track_id
        # Labels of some data sets have -1 for none.
        numbers.append(next(free) if track is None or track < 0 or track in numbers else track)
    return numbers


def _moment(poses: FramePoses, header: StreamHeader, number: int, columns: Columns) -> list[Any]:
    size = [poses.width or header.width or "", poses.height or header.height or ""] if columns.size else []
    return [poses.file or header.source, poses.frame, _plain(poses.time, 6), *size, number]


def _points(person: Instance, third: str) -> list[tuple[Any, ...]]:
    # float32 coordinates have some 7 digits: 3 decimals; labels in float64 keep all of theirs.
    decimals = 3 if person.xy.dtype == np.float32 else 6
    values = zip(person.xy.tolist(), person.visibility.tolist(), person.score.tolist(), strict=True)
    return [
        (_plain(x, decimals), _plain(y, decimals), v if third == "v" else _plain(s, 4)) if v else ("", "", 0)
        for (x, y), v, s in values
    ]


def _box(box_xyxy: np.ndarray | None) -> list[Any]:
    if box_xyxy is None:
        return [""] * 4
    x1, y1, x2, y2 = (float(b) for b in box_xyxy)
    return [_plain(b, 3) for b in (x1, y1, x2 - x1, y2 - y1)]


def _plain(value: float | None, decimals: int) -> Any:
    return "" if value is None else round(float(value), decimals)
