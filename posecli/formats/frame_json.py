"""JSON labels of one video: an object with a list of frames, or a folder with one JSON file a frame.

    {"frames": [{"frame": 0, "persons": [{"track_id": 1, "keypoints": [[x, y, v], ...]}]}], "keypoints": [names]}

``time`` (seconds from the first frame) may stand in for ``frame`` (0-based). ``keypoints`` of a person: triples, pairs
(then every joint given is visible), ``null`` for a missing joint, or one flat list of triples; v is 0, 1 or 2, or a
confidence where the file says ``"third": "score"``. A person may have ``box`` (or ``bbox``) and ``head_box`` as x, y,
width, height, ``area``, ``ignore``; further keys are kept. Beside ``frames`` may stand ``fps`` (the rate in which frame
numbers count, where that is not the video's), ``recording`` (videos of one recording stay in one split), ``tags``, and
``width`` and ``height`` of the picture the labels were made on.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats.coco import box_from_xywh, load_json
from posecli.formats.labels import LabelFile, LabelRow, Third, check_unique

_PERSON_KEYS = {"track_id", "keypoints", "box", "bbox", "head_box", "area", "ignore", "iscrowd"}
_FACTS = ("recording", "tags", "width", "height")


def read_frame_json(path: Path) -> LabelFile:
    """Reads a JSON label file; PoseError names file, frame and person."""
    value = load_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("frames"), list):
        raise PoseError("no list 'frames'", str(path), 'expected {"frames": [...], "keypoints": [names]}')
    frames = [(f"{path}, frames[{i}]", entry) for i, entry in enumerate(value["frames"])]
    return _label_file(path, "JSON", value, frames)


def frame_of_picture(stem: str, pictures: Sequence[Path], where: str) -> int | None:
    """The place of the picture that a frame's label file is named after; None where the number in its name may count
    frames from 0. PoseError where it may not: the pictures have other numbers in their names."""
    found = [i for i, picture in enumerate(pictures) if picture.stem == stem]
    if len(found) == 1:
        return found[0]
    numbers = [re.findall(r"\d+", picture.stem) for picture in pictures]
    if len(found) > 1 or any(n and int(n[-1]) != i for i, n in enumerate(numbers)):
        what = f"{len(found)} pictures are called {stem!r}, and its number is no place among {pictures[0].name} ..."
        raise PoseError(what, where, "name it after its picture")
    return None


def read_frame_json_folder(folder: Path, files: Sequence[Path], pictures: Sequence[Path] = ()) -> LabelFile:
    """Reads a folder of JSON files, one a frame: ``{"persons": [...]}``; a file's frame is the one of ``pictures`` that
    it is named after, else the last number in its name. Joint names may stand in any of the files (all the same)."""
    frames: list[tuple[str, Any]] = []
    head: dict[str, Any] = {}
    for path in files:
        value = load_json(path)
        if not isinstance(value, dict) or not isinstance(value.get("persons"), list):
            raise PoseError("no list 'persons'", str(path))
        numbers = [int(n) for n in re.findall(r"\d+", path.stem)]
        if pictures and "frame" not in value and "time" not in value:
            place = frame_of_picture(path.stem, pictures, str(path))
            numbers += [] if place is None else [place]
        if not numbers and "frame" not in value and "time" not in value:
            raise PoseError("neither its name nor its content says which frame it is", str(path))
        if "keypoints" in value and head.setdefault("keypoints", value["keypoints"]) != value["keypoints"]:
            raise PoseError("other joint names than in the files before", str(path))
        frames.append((str(path), {"frame": numbers[-1], **value} if numbers and "time" not in value else value))
    return _label_file(folder, "folder of JSON frames", head, frames)


def _label_file(path: Path, form: str, head: Mapping[str, Any], frames: Sequence[tuple[str, Any]]) -> LabelFile:
    names = head.get("keypoints")
    if names is not None and (not isinstance(names, list) or not all(isinstance(n, str) for n in names)):
        raise PoseError("'keypoints' is not a list of joint names", str(path))
    third = head.get("third", "visibility")
    if third not in ("visibility", "score"):
        raise PoseError(f"'third' is {third!r}", str(path), '"visibility" or "score"')
    fps = head.get("fps")
    if fps is not None and not (is_finite(fps) and fps > 0):
        raise PoseError(f"'fps' is {reprlib.repr(fps)}, not a rate", str(path))
    tags = head.get("tags")
    if tags is not None and not (isinstance(tags, list) and all(isinstance(t, (str, int, float)) for t in tags)):
        raise PoseError(f"'tags' is {reprlib.repr(tags)}, not a list of words", str(path))
    rows: list[LabelRow] = []
    labelled = []
    for where, entry in frames:
        if not isinstance(entry, dict):
            raise PoseError("not an object", where)
        frame, time = entry.get("frame"), entry.get("time")
        if frame is not None:
            time = None
            if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
                raise PoseError(f"'frame' is {reprlib.repr(frame)}, not a number counted from 0", where)
            labelled.append(frame)
        elif time is None or not is_finite(time) or time < 0:
            raise PoseError("neither 'frame' (from 0) nor 'time' (seconds)", where)
        persons = entry.get("persons")
        if not isinstance(persons, list):  # without it nobody said that the frame is empty
            moment = f"frame {reprlib.repr(frame)}" if time is None else f"{time:g} s"
            what = "'persons' is not a list" if "persons" in entry else "no list 'persons'"
            raise PoseError(f"{what} in {moment}", where, "an empty list says that nobody is there")
        for n, person in enumerate(persons):
            rows.append(_row(person, f"{where}, persons[{n}]", names, frame, time))
    # One that is not tracked has no identity to be met twice.
    check_unique([r for r in rows if r.track_id is not None], "")
    if len({len(r.xy) for r in rows}) > 1:
        odd = next(r for r in rows if len(r.xy) != len(rows[0].xy))
        raise PoseError(f"{len(odd.xy)} keypoints where the first person has {len(rows[0].xy)}", odd.where)
    return LabelFile(
        path, form, tuple(rows), Third(third), tuple(names) if names is not None else None, labelled=tuple(labelled),
        fps=None if fps is None else float(fps), facts={k: head[k] for k in _FACTS if k in head},
    )  # fmt: skip


def _row(person: Any, where: str, names: Sequence[str] | None, frame: int | None, time: float | None) -> LabelRow:
    if not isinstance(person, dict) or not isinstance(person.get("keypoints"), list):
        raise PoseError("no list 'keypoints'", where)
    points = _points(person["keypoints"], where)
    if names is not None and len(points) != len(names):
        raise PoseError(f"{len(points)} keypoints where the file names {len(names)}", where)
    track_id = person.get("track_id")
    if track_id is not None and (not isinstance(track_id, int) or isinstance(track_id, bool)):
        raise PoseError(f"track_id {track_id!r} is not a whole number", where)
    area = person.get("area")
    if area is not None and not (is_finite(area) and area >= 0):
        raise PoseError(f"area {reprlib.repr(area)} is not a number of pixels", where)
    return LabelRow(
        where=where,
        xy=points[:, :2],
        third=points[:, 2],
        frame=frame,
        time=None if time is None else float(time),
        track_id=track_id,
        box_xyxy=box_from_xywh(person.get("box", person.get("bbox")), "box", where),
        head_box_xyxy=box_from_xywh(person.get("head_box"), "head_box", where),
        area=None if area is None else float(area),
        ignore=bool(person.get("ignore") or person.get("iscrowd")),
        extra={k: v for k, v in person.items() if k not in _PERSON_KEYS},
    )


def _points(keypoints: Sequence[Any], where: str) -> np.ndarray:
    """(K, 3) float64; NaN for ``null``; infinity for NaN written out, which is not how a missing joint is said."""
    if keypoints and all(isinstance(k, (int, float)) for k in keypoints):
        if len(keypoints) % 3:
            raise PoseError(f"{len(keypoints)} numbers are not x, y, v triples", where)
        keypoints = [keypoints[i : i + 3] for i in range(0, len(keypoints), 3)]
    points = np.full((len(keypoints), 3), np.nan)
    for i, point in enumerate(keypoints):
        if point is None:
            continue
        if not isinstance(point, list) or len(point) not in (2, 3):
            raise PoseError(f"keypoint {i} is {point!r}, not x, y, v", where)
        for j, number in enumerate([*point, 2] if len(point) == 2 else point):
            if number is None:
                continue
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise PoseError(f"keypoint {i} is {point!r}, not x, y, v", where)
            points[i, j] = number if is_finite(number) else np.inf
    return points
