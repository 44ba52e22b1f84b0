"""The repairs that are safe: what a finding knows for certain is written, everything else stays as it was.

A repair never moves, invents or exchanges a joint. Of COCO JSON and streams the parsed file is changed in place, so
that unknown keys survive; other forms are written as the COCO JSON that `convert` makes, repaired.
"""

from __future__ import annotations

import copy
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject
from posecli.checks.values import is_number
from posecli.errors import PoseError
from posecli.files import place_of_not_finite, replace_when_done
from posecli.formats.coco_write import AREA_OF_BOX


def repaired(subject: Subject, findings: Sequence[Finding]) -> tuple[Any, dict[str, int]]:
    """The parsed file with all safe repairs made, and how many of each kind; the subject is left as it is."""
    value = copy.deepcopy(subject.raw)
    counts: Counter[str] = Counter()
    if subject.form == "stream":
        _repair_stream(value, findings, counts)
        for kind in ("malformed", "cut-off"):
            unread = sum(f.kind == kind and f.place is not None and subject.raw[f.place[0]] is None for f in findings)
            counts.update({kind: unread} if unread else {})
        value = [line for line in value if line is not None]
    else:
        _repair_coco(value, findings, counts)
    return value, dict(counts)


def write(subject: Subject, value: Any, out: str | Path, *, overwrite: bool = False) -> None:
    """Writes what `repaired` gave. A data set's file names are made relative to ``out``'s folder.

    Raises:
        PoseError: the name does not fit the form (``.jsonl`` for a stream, ``.json`` for a data set), or it exists.
    """
    out = Path(out)
    stream = subject.form == "stream"
    if out.suffix not in ((".jsonl", ".ndjson") if stream else (".json",)):
        kind = "a stream is repaired into a .jsonl" if stream else "a data set is repaired into a .json"
        raise PoseError(kind, str(out))
    if out.exists() and os.path.samefile(out, subject.path):
        raise PoseError("the file that is checked would be replaced", str(out), "choose another name")
    if not stream:
        _move(value, subject.root, out.parent)
    with replace_when_done(out, overwrite=overwrite) as part, open(part, "w", encoding="utf-8") as handle:
        try:
            if stream:
                handle.writelines(json.dumps(line, allow_nan=False) + "\n" for line in value)
            else:
                handle.write(json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n")
        except ValueError:
            places = ((f"frame {line.get('frame')}: ", line) for line in value) if stream else (("", value),)
            place = next(where + found for where, part in places if (found := place_of_not_finite(part)))
            what = f"{place}, where no repair is safe"
            raise PoseError(what, subject.path, "mend what the table lists and try again") from None


def _move(value: dict[str, Any], root: str, folder: Path) -> None:
    relative = os.path.relpath(root or ".", folder)
    if relative == ".":
        return
    for entry in (*value["images"], *(value.get("videos") or ())):
        name = entry.get("file_name") if isinstance(entry, dict) else None
        if isinstance(name, str) and name and not os.path.isabs(name) and "://" not in name:
            entry["file_name"] = os.path.normpath(os.path.join(relative, name)).replace(os.sep, "/")


def _repair_coco(value: dict[str, Any], findings: Sequence[Finding], counts: Counter[str]) -> None:
    images, people = value["images"], value["annotations"]
    gone: set[int] = set()
    gone_images: set[int] = set()
    last = max((a["id"] for a in people if isinstance(a, dict) and isinstance(a.get("id"), int)), default=0)
    for kind, finding in sorted(((f.kind, f) for f in findings), key=lambda p: _ORDER.get(p[0], 0)):
        n = finding.place
        if kind == "wrong-size" and finding.value is not None:
            images[n]["width"], images[n]["height"] = (int(v) for v in finding.value)
        elif kind == "duplicate-image-id" and finding.value:
            gone_images.add(n)
        elif kind in ("duplicate-person", "annotation-without-image"):
            gone.add(n)
        elif kind == "duplicate-annotation-id":
            last += 1
            people[n]["id"] = last
        elif kind == "non-finite" and finding.value == "joints":
            _drop_broken(people[n])
        elif kind == "non-finite" and finding.value == "area":
            people[n]["area"] = _area_of(people[n])
        elif kind in ("negative-box", "non-finite"):
            people[n]["bbox"] = _xywh(_joint_box(people[n])) or [0, 0, 0, 0]
        elif kind == "box-misses-joints":
            people[n]["bbox"] = _xywh(finding.value)
        elif kind == "zero-area" and (area := _area_of(people[n])) > 0:
            people[n]["area"] = area
        elif kind == "wrong-count":
            people[n]["num_keypoints"] = _labelled(people[n])
        else:
            continue
        counts[kind] += 1
    # A joint that is gone is not counted any more.
    for finding in findings:
        if finding.kind == "non-finite" and finding.value == "joints" and "num_keypoints" in people[finding.place]:
            people[finding.place]["num_keypoints"] = _labelled(people[finding.place])
    value["images"] = [image for n, image in enumerate(images) if n not in gone_images]
    value["annotations"] = [person for n, person in enumerate(people) if n not in gone]


# Joints first, then boxes, then areas, then counts: each from what was mended before.
_ORDER = {"non-finite": -1, "box-misses-joints": 1, "zero-area": 2, "wrong-count": 3}


def _triples(person: dict[str, Any]) -> np.ndarray:
    return np.array(person.get("keypoints") or [], np.float64).reshape(-1, 3)


def _labelled(person: dict[str, Any]) -> int:
    return int((_triples(person)[:, 2] > 0).sum())


def _drop_broken(person: dict[str, Any]) -> None:
    flat = person["keypoints"]
    for k in range(0, len(flat), 3):
        if flat[k + 2] > 0 and not (is_number(flat[k]) and is_number(flat[k + 1])):
            flat[k : k + 3] = [0, 0, 0]


def _joint_box(person: dict[str, Any]) -> np.ndarray | None:
    points = _triples(person)
    points = points[points[:, 2] > 0, :2]
    return np.concatenate([points.min(axis=0), points.max(axis=0)]) if len(points) else None


def _xywh(box_xyxy: np.ndarray | None) -> list[float] | None:
    if box_xyxy is None:
        return None
    x1, y1, x2, y2 = (float(v) for v in box_xyxy)
    return [round(v, 3) for v in (x1, y1, x2 - x1, y2 - y1)]


def _area_of(person: dict[str, Any]) -> float:
    """0.53 of the joint box, the rule of `convert`; of the given box without joints."""
    joints = _joint_box(person)
    if joints is not None and (sides := joints[2:] - joints[:2]).all():
        return round(AREA_OF_BOX * float(sides.prod()), 3)
    box = person.get("bbox") or [0, 0, 0, 0]
    return round(AREA_OF_BOX * max(0.0, float(box[2])) * max(0.0, float(box[3])), 3) if np.isfinite(box).all() else 0.0


def _repair_stream(lines: list[Any], findings: Sequence[Finding], counts: Counter[str]) -> None:
    gone: set[tuple[int, int]] = set()
    for finding in sorted(findings, key=lambda f: _ORDER.get(f.kind, 0)):
        line, person = finding.place if finding.place is not None else (0, None)
        if finding.kind == "duplicate-frame" and finding.value:
            lines[line] = None
        elif person is None:
            continue
        elif finding.kind == "duplicate-person":
            gone.add((line, person))
        elif finding.kind == "non-finite" and finding.value == "joints":
            points = lines[line]["persons"][person]["keypoints"]
            points[:] = [p if p is not None and all(map(is_number, p)) else None for p in points]
        elif finding.kind in ("non-finite", "negative-box", "box-misses-joints"):
            _repair_box(lines[line]["persons"][person], finding.value)
        else:
            continue
        counts[finding.kind] += 1
    for line, person in sorted(gone, reverse=True):
        if lines[line] is not None:
            del lines[line]["persons"][person]


def _repair_box(person: dict[str, Any], box_xyxy: Any) -> None:
    if isinstance(box_xyxy, np.ndarray):
        person["box"] = [round(v, 2) for v in _xywh(box_xyxy) or ()]
        return
    points = np.array([p[:2] for p in person["keypoints"] if p is not None], np.float64)
    if len(points):
        person["box"] = [round(v, 2) for v in _xywh(np.concatenate([points.min(axis=0), points.max(axis=0)])) or ()]
    else:
        person.pop("box", None)
