"""Writing CVAT's XML; `posecli.formats.cvat` tells the layout and reads it."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import replace_when_done
from posecli.formats.side_notes import coordinate, frame_notes, is_video_frame, person_notes
from posecli.types import Dataset, Instance, Record, Skeleton

NOTES = "posecli"
PERSON_LABEL = "person"
BOX_LABEL = "person_box"
# What XML 1.0 cannot hold, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(
    dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Callable[[str], None] = lambda message: None
) -> None:
    """Writes CVAT's XML: for video when the data set is frames of one video, else for images.

    The task it is uploaded to needs the skeleton label ``person`` with the joints as its parts (and, for nothing to be
    lost, a text attribute ``posecli``), and the rectangle label ``person_box``.

    Raises:
        PoseError: frames inside several videos, or videos and pictures mixed; a name that XML cannot hold; the output
            exists.
    """
    inside = [is_video_frame(r) for r in dataset.records]
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    if any(inside):
        if not all(inside) or len({(r.video_id, r.file_name) for r in dataset.records}) > 1:
            hint = "write the frames out with --frames DIR, or convert the videos one by one"
            raise PoseError("CVAT's form for video holds one video, and no pictures beside it", str(path), hint)
        _write_video(root, dataset)
    else:
        _write_images(root, dataset)
    _check(root, str(path))
    ET.indent(root)
    with replace_when_done(path, overwrite=overwrite) as part:
        ET.ElementTree(root).write(part, encoding="utf-8", xml_declaration=True)


def _check(root: ET.Element, where: str) -> None:
    for element in root.iter():
        for text in (element.text or "", *element.attrib.values()):
            if _NOT_XML.search(text):
                raise PoseError(f"XML cannot hold {text!r}", where, "rename it")


def _meta(root: ET.Element, dataset: Dataset, facts: dict[str, Any], notes: dict[str, Any]) -> None:
    meta = ET.SubElement(root, "meta")
    task = ET.SubElement(meta, "task")
    for key, value in facts.items():
        if isinstance(value, dict):
            below = ET.SubElement(task, key)
            for name, number in value.items():
                ET.SubElement(below, name).text = str(number)
        else:
            ET.SubElement(task, key).text = str(value)
    labels = ET.SubElement(task, "labels")
    for name, kind in ((PERSON_LABEL, "skeleton"), (BOX_LABEL, "rectangle")):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = kind
        attributes = ET.SubElement(label, "attributes")
        if kind == "skeleton":
            attribute = ET.SubElement(attributes, "attribute")
            for key, value in (("name", NOTES), ("mutable", "True"), ("input_type", "text"), ("default_value", "")):
                ET.SubElement(attribute, key).text = value
            ET.SubElement(label, "svg").text = _svg(dataset.skeleton)
    for name in dataset.skeleton.keypoints:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = "points"
        ET.SubElement(label, "attributes")
        ET.SubElement(label, "parent").text = PERSON_LABEL
    ET.SubElement(meta, NOTES).text = json.dumps(
        {"skeleton": dataset.skeleton.to_json(), **notes}, ensure_ascii=False, allow_nan=False
    )


def _svg(skeleton: Skeleton) -> str:
    """The template CVAT draws a skeleton by: joints on a circle, with their edges. 0 to 100 each way."""
    count = skeleton.num_keypoints
    turn = [2 * math.pi * n / count for n in range(count)]
    places = [(50 + 45 * math.sin(t), 50 - 45 * math.cos(t)) for t in turn]
    lines = [
        f'<line x1="{places[a][0]:.1f}" y1="{places[a][1]:.1f}" x2="{places[b][0]:.1f}" y2="{places[b][1]:.1f}" '
        f'data-type="edge" data-node-from="{a + 1}" data-node-to="{b + 1}"></line>'
        for a, b in skeleton.edges
    ]
    dots = [
        f'<circle r="0.75" cx="{x:.1f}" cy="{y:.1f}" data-type="element node" data-element-id="{n}" data-node-id="{n}" '
        f'data-label-id="{n}"></circle>'
        for n, (x, y) in enumerate(places, 1)
    ]
    return "".join(lines + dots)


def _write_images(root: ET.Element, dataset: Dataset) -> None:
    names = [r.file_name for r in dataset.records]
    twice = next((n for n in names if names.count(n) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise PoseError("the picture stands twice in the data set", twice)
    noted = {r.file_name: frame_notes(dataset, r) for r in dataset.records}
    _meta(root, dataset, {"name": "posecli", "size": len(names), "mode": "annotation"}, {"frames": noted})
    for n, record in enumerate(dataset.records):
        head = {"id": str(n), "name": record.file_name, "width": str(record.width), "height": str(record.height)}
        image = ET.SubElement(root, "image", head)
        for group, person in enumerate(record.instances, 1):
            # A group only where there is a box to be joined with.
            grouped = {"group_id": str(group)} if person.box_xyxy is not None else {}
            _skeleton(
                image, person, dataset, {"label": PERSON_LABEL, "source": "file", "z_order": "0", **grouped}, group
            )
            if person.box_xyxy is not None:
                head = {"label": BOX_LABEL, "source": "file", "occluded": "0", **_corners(person.box_xyxy)}
                ET.SubElement(image, "box", {**head, "z_order": "0", **grouped})


def _skeleton(parent: ET.Element, person: Instance, dataset: Dataset, head: dict[str, str], order: int) -> None:
    """A person with all joints; missing ones lie "outside", in the middle of the rest, where a hand can fetch them."""
    names = dataset.skeleton.keypoints
    shape = ET.SubElement(parent, "skeleton", head)
    there = person.visibility > 0
    single = person.xy.dtype == np.float32
    middle = [coordinate(v, single) for v in person.xy[there].mean(axis=0)] if there.any() else [0.0, 0.0]
    if not there.any() and person.box_xyxy is not None:
        middle = [float(v) for v in (person.box_xyxy[:2] + person.box_xyxy[2:]) / 2]
    key = {"keyframe": "1"} if "frame" in head else {"source": "file"}
    for name, point, v in zip(names, person.xy.tolist(), person.visibility.tolist(), strict=True):
        x, y = (coordinate(c, single) for c in point) if v else middle
        flags = {"outside": str(int(v == 0)), "occluded": str(int(v == 1))}
        ET.SubElement(shape, "points", {"label": name, **key, **flags, "points": f"{x!r},{y!r}"})
    notes = {"order": order, **person_notes(person, names)}
    if not there.any():
        notes["undrawn"] = True
    ET.SubElement(shape, "attribute", {"name": NOTES}).text = json.dumps(notes, ensure_ascii=False, allow_nan=False)


def _corners(box_xyxy: np.ndarray) -> dict[str, str]:
    return {k: repr(float(v)) for k, v in zip(("xtl", "ytl", "xbr", "ybr"), box_xyxy, strict=True)}


def _write_video(root: ET.Element, dataset: Dataset) -> None:
    records = sorted(dataset.records, key=lambda r: r.frame_id or 0)
    frames = [r.frame_id or 0 for r in records]
    if len(set(frames)) < len(frames):
        raise PoseError("a frame stands twice in the data set", records[0].file_name)
    step = reduce(math.gcd, (b - a for a, b in pairwise(frames)), 0) or 1
    first = records[0]
    facts: dict[str, Any] = {
        "name": Path(first.file_name).stem, "size": len(range(frames[0], frames[-1] + 1, step)),
        "mode": "interpolation", "start_frame": frames[0], "stop_frame": frames[-1], "frame_filter": f"step={step}",
        "original_size": {"width": first.width, "height": first.height}, "source": first.file_name,
    }  # fmt: skip
    notes: dict[str, Any] = {"frames": {}}
    for record in records:
        note = frame_notes(dataset, record)
        video = note.pop("video", None)
        notes["frames"][str(record.frame_id)] = note
        if video is not None:
            notes["video"] = video
    _meta(root, dataset, facts, notes)
    after = dict(zip(frames, [*frames[1:], None], strict=True))
    for number, track in enumerate(_tracks(records)):
        group = str(number + 1)
        skeletons = ET.SubElement(root, "track", {"id": str(2 * number), "label": PERSON_LABEL, "source": "file"})
        skeletons.set("group_id", group)
        boxes: ET.Element | None = None
        seen = {frame for frame, _, _ in track}
        boxed = {frame for frame, _, p in track if p.box_xyxy is not None}
        for frame, order, person in track:
            _skeleton(skeletons, person, dataset, {"frame": str(frame), "keyframe": "1", "z_order": "0"}, order)
            following = after[frame]
            if following is not None and following not in seen:
                _away(skeletons, dataset, person, following)
            if person.box_xyxy is None:
                continue
            if boxes is None:
                head = {"id": str(2 * number + 1), "label": BOX_LABEL, "source": "file", "group_id": group}
                boxes = ET.SubElement(root, "track", head)
            box = {"keyframe": "1", "occluded": "0", **_corners(person.box_xyxy), "z_order": "0"}
            ET.SubElement(boxes, "box", {"frame": str(frame), "outside": "0", **box})
            if following is not None and following not in boxed:
                ET.SubElement(boxes, "box", {"frame": str(following), "outside": "1", **box})


def _tracks(records: Sequence[Record]) -> list[list[tuple[int, int, Instance]]]:
    """People by track as (frame, place in the frame, person); one without an identity is a track of one frame."""
    tracks: dict[Any, list[tuple[int, int, Instance]]] = {}
    for record in records:
        ids = Counter(p.track_id for p in record.instances)
        for n, person in enumerate(record.instances):
            alone = person.track_id is None or ids[person.track_id] > 1
            key = ("alone", record.frame_id, n) if alone else person.track_id
            tracks.setdefault(key, []).append((record.frame_id or 0, n, person))
    return list(tracks.values())


def _away(track: ET.Element, dataset: Dataset, person: Instance, frame: int) -> None:
    """The frame from which on the person is gone: every joint outside."""
    shape = ET.SubElement(track, "skeleton", {"frame": str(frame), "keyframe": "1", "z_order": "0"})
    for name, (x, y) in zip(dataset.skeleton.keypoints, np.nan_to_num(person.xy).tolist(), strict=True):
        flags = {"keyframe": "1", "outside": "1", "occluded": "0", "points": f"{x!r},{y!r}"}
        ET.SubElement(shape, "points", {"label": name, **flags})
    ET.SubElement(shape, "attribute", {"name": NOTES}).text = ""
