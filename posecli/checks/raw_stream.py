"""A pose stream read loosely, line by line."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Picture, Rows, Subject
from posecli.checks.values import are_numbers, is_number, is_whole
from posecli.errors import PoseError
from posecli.files import json_fault, place_of_not_finite, refuse_device
from posecli.predictions import StreamHeader, header_from_json


def load(path: str | Path, *, image_root: str | Path | None = None) -> tuple[Subject, list[Finding]]:
    """A stream (``"-"``: on standard input) as columns; all its sources must have the same joints.

    ``raw`` is the list of parsed lines (None for a line that is no JSON object); a person's place is ``(line, person)``
    in it. PoseError for a file without header, or with sources of different joints.
    """
    name = "standard input" if str(path) == "-" else str(path)
    findings: list[Finding] = []
    lines = _lines(str(path), name, findings)
    header: StreamHeader | None = None
    first: StreamHeader | None = None
    rows: Rows | None = None
    pictures: list[Picture] = []
    seen: dict[tuple[str, Any], tuple[int, int]] = {}  # the line, and of how many sources of the name it is the last
    begun: Counter[str] = Counter()  # sources of each name
    last: tuple[int, float] | None = None  # frame and seconds of the line before, of the same video
    for n, value in enumerate(lines):
        where = f"line {n + 1}"
        if value is None:
            continue
        if "posecli" in value:
            header = header_from_json(value, f"{name}, {where}")
            begun[header.source] += 1
            last = None
            if first is not None and header.skeleton.keypoints != first.skeleton.keypoints:
                raise PoseError(
                    "a source with other joints than the first", f"{name}, {where}", "check them one by one"
                )
            if first is None:
                first, rows = header, Rows(header.skeleton.num_keypoints)
            continue
        if header is None or rows is None:
            raise PoseError("not a pose stream: its first line is no header", name, 'it begins {"posecli": 1, ...}')
        frame, persons = value.get("frame"), value.get("persons")
        if not is_whole(frame) or frame < 0 or not isinstance(persons, list):
            findings.append(Finding("malformed", name, where, "no frame number or no list of persons", place=(n, None)))
            continue
        file = value.get("file") if isinstance(value.get("file"), str) else None
        record = f"{where} ({file or header.source}, frame {frame})"
        for wrong in _wrong_values(value):
            findings.append(Finding("malformed", name, record, wrong, place=(n, None)))
        key = (header.source, file or frame)
        if key in seen:
            other, section = seen[key]
            # Two videos of one name may well both have a frame without anybody.
            same = lines[other] == value and bool(persons or section == begun[header.source])
            what = f"also on line {other + 1}{', word for word' if same else ' with other people'}"
            findings.append(Finding("duplicate-frame", name, record, what, place=(n, None), value=same))
            if same:
                continue
        seen.setdefault(key, (n, begun[header.source]))
        if file is None:
            time = _seconds(value, header, last)
            if last is not None and (frame < last[0] or time < last[1]):
                back = f"frame {last[0]}" if frame < last[0] else f"{last[1]:g} s, its time is {time:g} s"
                findings.append(Finding("frame-order", name, record, f"comes after {back}", place=(n, None)))
            elif last is not None and frame > last[0] and time == last[1] and value.get("broken") is not True:
                what = f"{time:g} s, as frame {last[0]}"
                findings.append(Finding("same-time", name, record, what, place=(n, None)))
            last = frame, time
        # Streams joined by `cat` may hold two videos of one name, whose frames and identities are not each other's.
        video = header.source if begun[header.source] == 1 else (header.source, begun[header.source])
        width, height = (value.get(k) or getattr(header, k) for k in ("width", "height"))
        pictures.append(
            Picture(
                record, (n, None), value.get("image_id"), file or header.source,
                width if is_whole(width) else 0, height if is_whole(height) else 0,
                source=None if file else video, frame=frame, in_video=file is None, fps=header.fps,
                origin=header.source, threshold=header.threshold or 0.0,
                time=time if is_number(time := value.get("time")) else None, broken=value.get("broken") is True,
            )
        )  # fmt: skip
        for i, person in enumerate(persons):
            _person(person, (n, i), f"{record}, person {i + 1}", len(pictures) - 1, name, header, rows, findings)
    if first is None or rows is None:
        raise PoseError("the pose stream is empty", name)
    root = str(image_root) if image_root is not None else str(Path(path).parent)
    subject = Subject(name, "stream", first.skeleton, root, pictures, **rows.finish(), predicted=True, raw=lines)
    return subject, findings


def _seconds(line: dict[str, Any], header: StreamHeader, last: tuple[int, float] | None) -> float:
    """When a video's frame is shown, as `posecli smooth` sees it: without a stamp by the nominal rate, or, where it was
    not decoded, with the line before."""
    if is_number(line.get("time")):
        return float(line["time"])
    if line.get("broken") is True and last is not None:
        return last[1]
    return float(line["frame"] / (header.fps or 25.0))


def _wrong_values(line: dict[str, Any]) -> Iterator[str]:
    """What readers refuse of what else a frame's line says."""
    for key in ("width", "height"):
        size = line.get(key)
        if size is not None and not (is_whole(size) and size >= 0):
            yield f"{key} {size!r} is no whole number from 0"
    if line.get("time") is not None and not is_number(line["time"]):
        yield f"time {line['time']!r} is no number"
    if not isinstance(line.get("file"), str | None):
        yield f"file {line['file']!r} is no text"
    if not isinstance(line.get("image_id"), int | str | None):
        yield f"image_id {line['image_id']!r} is neither number nor text"
    for wrong in (line, *(p for p in line["persons"] if isinstance(p, dict))):
        rest = {k: v for k, v in wrong.items() if k not in _LOOKED_AT}
        if place := place_of_not_finite(rest):
            yield f"{place}: JSON has no such number"


# What is looked at by itself, NaN and infinities included.
_LOOKED_AT = {"persons", "width", "height", "time", "keypoints", "score", "heat", "box", "id"}


def _lines(path: str, name: str, findings: list[Finding]) -> list[Any]:
    lines: list[Any] = []
    if path != "-":
        refuse_device(path)
    try:
        with contextlib.nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as handle:
            for n, line in enumerate(handle):
                if not line.strip():
                    lines.append(None)
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    kind = "malformed" if line.endswith("\n") else "cut-off"
                    findings.append(Finding(kind, name, f"line {n + 1}", json_fault(error), place=(n, None)))
                    lines.append(None)
                    continue
                if not isinstance(value, dict):
                    findings.append(Finding("malformed", name, f"line {n + 1}", "not an object", place=(n, None)))
                lines.append(value if isinstance(value, dict) else None)
    except UnicodeDecodeError:
        raise PoseError("not a pose stream: it is not UTF-8 text", name) from None
    except OSError as error:
        raise PoseError(f"cannot read: {error.strerror or error}", name) from None
    return lines


def _person(
    person: Any, place: tuple[int, int], record: str, image: int, path: str, header: StreamHeader, rows: Rows,
    findings: list[Finding],
) -> None:  # fmt: skip
    def found(kind: str, what: str, value: Any = None) -> None:
        findings.append(Finding(kind, path, record, what, place=place, value=value))

    skeleton = header.skeleton
    keypoints = person.get("keypoints") if isinstance(person, dict) else None
    if not isinstance(keypoints, list) or len(keypoints) != skeleton.num_keypoints:
        found("malformed", f"no list of {skeleton.num_keypoints} keypoints")
        return
    points = np.zeros((len(keypoints), 3))
    there = np.zeros(len(keypoints), np.int8)
    broken = []
    for k, point in enumerate(keypoints):
        if point is None:
            continue
        if not are_numbers(point, 3):
            found("malformed", f"{skeleton.keypoints[k]} is {point!r}, not null or x, y, score")
            return
        if not all(map(is_number, point)):
            broken.append(skeleton.keypoints[k])
            continue
        points[k], there[k] = point, 2
    if broken:
        found("non-finite", ", ".join(broken), "joints")
    score, heat, box, track = (person.get(k) for k in ("score", "heat", "box", "id"))
    if score is not None and not is_number(score):
        found("malformed", f"score {score!r}")
        score = None
    if heat is not None and not is_number(heat):
        found("malformed", f"heat {heat!r} is no number")
    if track is not None and not (is_whole(track) and track >= 0):
        found("malformed", f"id {track!r} is no whole number from 0")
    scores = [1.0 if score is None else score, *points[there > 0, 2]]
    if min(scores) < 0 or max(scores) > 1:
        found("odd-score", f"{min(scores):g} to {max(scores):g}")
    corners = np.full(4, np.nan)
    if box is not None:
        if not are_numbers(box, 4):
            found("malformed", f"box {box!r} is not x, y, width, height")
        elif not all(map(is_number, box)):
            found("non-finite", f"box {box}", "box")
        elif box[2] < 0 or box[3] < 0:
            found("negative-box", f"box {box}")
        else:
            corners = np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], np.float64)
    # Labels written as poses say more under keys of their own.
    stated, area = person.get("visibility"), person.get("area")
    if are_numbers(stated, len(there)):
        there = np.where((there > 0) & np.isin(stated, (1, 2)), stated, there).astype(np.int8)
    rows.add(
        frame=image, xy=points[:, :2], visibility=there, score=points[:, 2],
        person_score=1.0 if score is None else score, heat=heat if is_number(heat) else np.nan, box_xyxy=corners,
        area=area if is_number(area) and area > 0 else np.nan, crowd=person.get("ignore") is True,
        track=track if is_whole(track) and track >= 0 else -1, records=record, places=place,
    )  # fmt: skip
