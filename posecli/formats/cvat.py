"""CVAT for images 1.1 and CVAT for video 1.1: one XML file of skeletons (``annotations.xml``).

Format notes (https://docs.cvat.ai/docs/other/xml_format/, and CVAT's own writer, ``dataset_manager/formats/cvat.py``).
For images: ``<image id name width height>`` with, for each person, ``<skeleton label="person" z_order>`` of ``<points
label="nose" outside="0" occluded="0" points="x,y"/>``. For video: ``<track id label="person">`` with one ``<skeleton
frame keyframe>`` of such points for each frame, a frame with every point outside where the person leaves; frame numbers
are the video's own. Sizes stand in ``original_size``, the frames of the task in ``start_frame``, ``stop_frame`` and
``frame_filter`` (``step=5``). ``outside`` is visibility 0, ``occluded`` 1, neither 2.

Also read: loose ``<points>`` labelled with a joint's name, joined into people by ``group_id``. A box is a ``<box
label="person_box">`` (in video a track of its own) with the ``group_id`` of its person; boxes of other things are left
out, which is said. CVAT itself writes every frame of a track; frames between two of another writer's key frames are not
interpolated, which is said.

A project is exported as one file of several ``<task>``. For video each is a video of its own, to which tracks belong by
``task_id``; their frame numbers count on from one task of a subset to the next (`_offsets`). A job's file has a
``<job>`` in place of the ``<task>``, whose frames older CVAT counted otherwise (`_job_frames`). For images the pictures
lie in a folder for each ``subset``. Pictures that are frames of a video are named without their suffix
(``frame_000012`` for ``frame_000012.PNG``).

What CVAT has no field for stands in the text attribute ``posecli`` of a skeleton, which CVAT keeps if its label
declares one, and under ``<meta>``, which it rewrites (`side_notes`). Document types and entities are refused.
"""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ET
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.formats.cvat_write import BOX_LABEL, NOTES, PERSON_LABEL, write
from posecli.formats.joint_names import spelling
from posecli.formats.side_notes import (
    Joints,
    LabelledFrame,
    assemble,
    found_below,
    is_video_name,
    make_person,
    video_from_json,
    video_json,
)
from posecli.formats.sniffing import head_of
from posecli.skeletons import get_skeleton
from posecli.types import Dataset, Instance, Skeleton, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

__all__ = ["parse", "read", "recognise", "write"]
Warn = Callable[[str], None]
_PASSED_OVER = {"polygon", "polyline", "ellipse", "cuboid", "mask", "tag"}


@dataclass
class _Person:
    """What has been gathered of one person in one frame."""

    where: str
    joints: list[tuple[str, float, float, int]] = field(default_factory=list)
    box: np.ndarray | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    track: int | None = None


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is CVAT's XML, or a folder with ``annotations.xml``."""
    path = src / "annotations.xml" if src.is_dir() else src
    if path.suffix == ".xml" and path.is_file() and b"<annotations" in head_of(path, 4096):
        return f"{path.name} is XML of <annotations>"
    return None


def parse(path: str | Path) -> ET.Element:
    """The XML file as a tree; PoseError names line and column. A document type, and with it every entity that could
    expand or fetch something, is refused."""
    builder = ET.TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: Any) -> None:
        raise PoseError("a document type or an entity in it: refused", str(path), "CVAT writes none")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True
    try:
        with open(path, "rb") as handle:
            parser.ParseFile(handle)
        return builder.close()
    except expat.ExpatError as error:
        where = f"{path}, line {error.lineno}, column {error.offset + 1}"
        raise PoseError(f"not XML: {expat.errors.messages.get(error.code, error.code)}", where) from None
    except (OSError, ValueError, LookupError, RecursionError) as error:
        raise PoseError(f"cannot read: {error}", str(path)) from None


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads CVAT's XML (a file, or a folder with ``annotations.xml``).

    Picture names are as in the file, relative to ``options.image_root`` (None: a usual place beside it). For video,
    every frame of the task becomes a record, also those without people; ``track_id`` is the track's number, or the one
    that posecli noted. ``options.skeleton`` names the joints; without it the file's note, else its labels.

    Raises:
        PoseError: naming file and picture or track, for anything that is not CVAT's XML, a number that is none, a point
            of several people, an unknown joint, a joint twice, a video whose size nobody knows.
    """
    path = Path(src) / "annotations.xml" if Path(src).is_dir() else Path(src)
    root = parse(path)
    if root.tag != "annotations":
        raise PoseError(f"it is XML of <{root.tag}>, not of <annotations>", str(path))
    images, tracks = root.findall("image"), root.findall("track")
    if images and tracks:
        raise PoseError("both images and tracks", str(path), "export one task, for images or for video")
    notes = _notes(root.find(f"meta/{NOTES}"), str(path))
    left_out = _leave_out_other_skeletons(root, options.skeleton, path)
    if left_out:
        warn(f"{path}: {left_out} skeletons of other labels were left out")
    joints = Joints(_joint_names(root), options.skeleton, notes.get("skeleton"), str(path))
    others = sum(1 for shape in root.iter() if shape.tag in _PASSED_OVER)
    if others:
        warn(f"{path}: {others} polygons, masks, tags and the like were left out")
    strange = _leave_out_other_boxes(root)
    if strange:
        warn(f"{path}: {strange} boxes whose label is not that of a person were left out")
    if tracks or (not images and "video" in notes):
        return _read_videos(root, path, notes, joints, options, warn)
    return _read_images(images, path, notes, joints, options, warn, _videos_of_tasks(root))


def _notes(element: ET.Element | None, where: str) -> dict[str, Any]:
    """The JSON of our own element or attribute; empty for none."""
    if element is None or not (element.text or "").strip():
        return {}
    try:
        value = json.loads(element.text or "")
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise PoseError("the note 'posecli' is damaged", where, "empty it to go on without")
    return value


def _declared(root: ET.Element) -> dict[str, list[str]]:
    """The parts of each skeleton that the file declares."""
    declared: dict[str, list[str]] = defaultdict(list)
    for label in root.iter("label"):
        parent = label.findtext("parent")
        if parent:
            declared[parent].append(label.findtext("name") or "")
    return declared


def _used(root: ET.Element) -> set[str]:
    return {s.get("label", "") for kind in ("track", "skeleton") for s in root.iter(kind)}


def _leave_out_other_skeletons(root: ET.Element, given: Any, path: Path) -> int:
    """Of skeletons with different joints only those of one label stay in the tree: of the one with the joints asked
    for, else of the one called person. Returns the number of the others; PoseError where neither is clear."""
    used = _used(root)
    parts = {label: names for label, names in _declared(root).items() if label in used or not used}
    if len({tuple(names) for names in parts.values()}) < 2:
        return 0
    if given is None:
        fit = [label for label in parts if label.lower() == PERSON_LABEL]
    else:
        skeleton = given if isinstance(given, Skeleton) else get_skeleton(str(given))
        joints = {spelling(n) for n in skeleton.keypoints}
        fit = [label for label, names in parts.items() if {spelling(n) for n in names} == joints]
    if len(fit) != 1:
        what = f"skeletons with different joints: {', '.join(parts)}"
        raise PoseError(what, str(path), "keep one kind of skeleton, or say which joints are meant with --skeleton")
    others = parts.keys() - set(fit)
    count = 0
    for holder in (root, *root.iter("image")):
        gone = [s for s in holder if s.tag in ("track", "skeleton") and s.get("label", "") in others]
        count += len(gone)
        for shape in gone:
            holder.remove(shape)
    for labels in root.iter("labels"):
        for label in [x for x in labels if x.findtext("parent") in others]:
            labels.remove(label)
    return count


def _leave_out_other_boxes(root: ET.Element) -> int:
    """Only boxes labelled as people's stay in the tree: ``person``, ``person_box``, the same with the label of the
    skeletons in place of ``person``; where all have one label and stand in groups, that label is
    a person's by another name. Returns the number of the others."""
    people = {s.get("label", "") for s in root.iter("skeleton")}
    people |= {t.get("label", "") for t in root.iter("track") if t.find("skeleton") is not None}
    names = {p.lower() for p in people if p} | {PERSON_LABEL}
    known = names | {f"{p}_box" for p in names} | {BOX_LABEL}
    holders = [*root.iter("image"), *root.iter("track")]
    boxes = [
        (holder, box, holder if holder.tag == "track" else box) for holder in holders for box in holder.findall("box")
    ]
    labels = {named.get("label", "").lower() for _, _, named in boxes}
    if len(labels) == 1 and all(named.get("group_id", "0") not in ("", "0") for _, _, named in boxes):
        known |= labels
    count = 0
    for holder, box, named in boxes:
        if named.get("label", "").lower() not in known:
            holder.remove(box)
            count += box.get("outside") != "1"
    return count


def _joint_names(root: ET.Element) -> list[str]:
    """The declared parts of the skeletons in use, then any further names in use."""
    used = _used(root)
    parts = [names for parent, names in _declared(root).items() if parent in used or not used]
    names = list(parts[0]) if parts else []
    for track in root.iter("track"):
        if track.find("points") is not None:
            names.append(track.get("label", ""))
    for holder in (*root.iter("image"), *root.iter("skeleton")):
        for point in holder.findall("points"):
            if (point.get("points") or "").count(";") == 0:
                names.append(point.get("label", ""))
    return list(dict.fromkeys(names))


def _number(element: ET.Element, key: str, where: str) -> float:
    text = element.get(key)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise PoseError(f"{key} is {text!r}, not a number", where)
    return value


def _whole(text: str | None, name: str, where: str) -> int:
    if text is None or not re.fullmatch(r"\s*\d{1,12}\s*", text):
        raise PoseError(f"{name} is {(text or '')[:40]!r}, not a number from 0", where)
    return int(text)


def _points(shape: ET.Element, joints: Joints, where: str) -> Iterator[tuple[str, float, float, int]]:
    """Name, x, y and visibility of the joints of a ``<points>``."""
    label = shape.get("label", "")
    pairs = [p.split(",") for p in (shape.get("points") or "").split(";")]
    try:
        places = [(float(x), float(y)) for x, y in pairs]
    except ValueError:
        raise PoseError(f"points of {label!r} are {shape.get('points')!r}, not x,y", where) from None
    if not all(math.isfinite(v) for place in places for v in place):
        raise PoseError(f"a coordinate of {label!r} is not finite", where)
    names = [label]
    if len(places) > 1:
        names = list(joints.skeleton.keypoints)
        if len(places) != len(names):
            what = f"{len(places)} points in one shape, where skeleton {joints.skeleton.name!r} has {len(names)} joints"
            raise PoseError(what, where, "name each joint by a shape of its own")
    visibility = 0 if shape.get("outside") == "1" else 1 if shape.get("occluded") == "1" else 2
    for name, (x, y) in zip(names, places, strict=True):
        yield name, x, y, visibility


def _box(shape: ET.Element, where: str) -> np.ndarray:
    if shape.get("rotation") and _number(shape, "rotation", where):
        raise PoseError("a box that is turned", where, "boxes are upright")
    return np.array([_number(shape, k, where) for k in ("xtl", "ytl", "xbr", "ybr")])


def _made(person: _Person, joints: Joints) -> Instance | None:
    """The person; None when nothing of them is in this frame."""
    xy, visibility = joints.blank()
    seen = set()
    for name, x, y, v in person.joints:
        place = joints.index(name, person.where)
        if place in seen:
            raise PoseError(f"a second {name!r} for one person", person.where, "group the points by person")
        seen.add(place)
        if v:
            xy[place], visibility[place] = (x, y), v
    notes = {k: v for k, v in person.notes.items() if k not in ("undrawn", "order")}
    if not visibility.any() and person.box is None and not person.notes.get("undrawn"):
        return None
    if person.track is not None and not person.notes:
        notes["track_id"] = person.track
    return make_person(xy, visibility, joints.skeleton.keypoints, person.box, notes, person.where)


def _in_order(people: list[_Person], joints: Joints) -> tuple[Instance, ...]:
    def place(person: _Person) -> float:
        order = person.notes.get("order")
        return order if isinstance(order, int) else math.inf

    made = (_made(p, joints) for p in sorted(people, key=place))
    return tuple(p for p in made if p is not None)


def _gather(holder: ET.Element, joints: Joints, where: str) -> tuple[list[_Person], int]:
    """The people of an ``<image>`` and the number of boxes that belong to nobody."""
    people: list[_Person] = []
    groups: dict[str, _Person] = {}
    boxes: list[tuple[str, np.ndarray]] = []
    for n, shape in enumerate(holder):
        at, group = f"{where}, shape {n}", shape.get("group_id") or ""
        if shape.tag == "skeleton":
            person = _Person(at, [p for s in shape.findall("points") for p in _points(s, joints, at)])
            person.notes = _notes(shape.find(f"attribute[@name='{NOTES}']"), at)
            people.append(person)
            if group:
                groups.setdefault(group, person)
        elif shape.tag == "points":
            if group not in groups:
                groups[group] = _Person(at)
                people.append(groups[group])
            groups[group].joints += _points(shape, joints, at)
        elif shape.tag == "box":
            boxes.append((group, _box(shape, at)))
    left = 0
    for group, box in boxes:
        if group and group in groups and groups[group].box is None:
            groups[group].box = box
        else:
            left += 1
    return people, left


def _read_images(
    images: list[ET.Element], path: Path, notes: dict[str, Any], joints: Joints, options: ReadOptions, warn: Warn,
    videos: Mapping[str, str],
) -> Dataset:  # fmt: skip
    """``videos`` are those of `_videos_of_tasks`."""
    frames, left = [], 0
    root = _image_root(images, path) if options.image_root is None else Path(options.image_root)
    of_picture: dict[str, str] = {}
    noted = notes.get("frames") if isinstance(notes.get("frames"), dict) else {}
    for n, image in enumerate(images):
        name = image.get("name")
        where = f"{path}, image {name or n}"
        if not name:
            raise PoseError("no name", where)
        width, height = (_whole(image.get(k), k, where) for k in ("width", "height"))
        if not width or not height:
            raise PoseError(f"{width} x {height} is not a picture's size", where)
        people, over = _gather(image, joints, where)
        left += over
        note = (noted or {}).get(name, {})
        if not isinstance(note, Mapping):
            raise PoseError("the note 'posecli' is damaged", str(path))
        known = _picture(image, root) or (name if options.image_root is None else found_below(root, name))
        task = image.get("task_id") or ""
        if of_picture.setdefault(known, task) != task:
            hint = "export the tasks one by one, or keep each subset's pictures in a folder of its name (--image-root)"
            raise PoseError(f"tasks {of_picture[known]} and {task} both have it: {known}", where, hint)
        video = videos.get(task) or (next(iter(videos.values())) if len(videos) == 1 and not task else None)
        if video is not None and isinstance(note.get("extra") or {}, Mapping):
            note = {**note, "extra": {"recording": video, **(note.get("extra") or {})}}
        frames.append(LabelledFrame(where, known, width, height, _in_order(people, joints), note))
    if left:
        warn(f"{path}: {left} boxes belong to no person by their group_id and were left out")
    return assemble(joints.skeleton, frames, root)


def _videos_of_tasks(root: ET.Element) -> dict[str, str]:
    """Task id -> name of the video that its pictures are frames of; these are of one recording."""
    found = {}
    for task in root.iter("task"):
        source = (task.findtext("source") or "").strip().replace("\\", "/")
        if is_video_name(source):
            found[(task.findtext("id") or "").strip()] = PurePosixPath(source).stem
    return found


def _picture_names(image: ET.Element) -> list[str]:
    """What the picture's file may be called: in its subset's folder or not, its suffix stated or not."""
    name, subset = image.get("name", ""), image.get("subset")
    names = [f"{subset}/{name}", name] if subset else [name]
    return [n + suffix for n in names for suffix in ("", ".PNG", ".png", ".jpg")]


def _picture(image: ET.Element, root: Path) -> str | None:
    """The picture's name below ``root``, None where it is not there."""
    return next((n for n in _picture_names(image) if (root / n).is_file()), None)


def _image_root(images: list[ET.Element], path: Path) -> Path:
    """The usual place beside the file that holds the first picture, else the file's own folder."""
    places = ((image_root_of(path, name), name) for name in (_picture_names(images[0]) if images else ()))
    return next((folder for folder, name in places if (folder / name).is_file()), path.parent)


def _read_videos(
    root: ET.Element, path: Path, notes: dict[str, Any], joints: Joints, options: ReadOptions, warn: Warn
) -> Dataset:
    """The video of a task, or the videos of a project's tasks."""
    tracks, tasks = root.findall("track"), [t for t in root.iter("task") if t.find("source") is not None]
    if len(tasks) < 2:
        only, folder = _read_video(root, tracks, 1, 0, path, notes, joints, options, warn)
        return assemble(joints.skeleton, only, folder)
    of_task: dict[str, list[ET.Element]] = {(t.findtext("id") or "").strip(): [] for t in tasks}
    for track in tracks:
        owner = track.get("task_id", "")
        if owner not in of_task:
            where = f"{path}, track {track.get('id')}"
            raise PoseError(f"task_id is {owner!r}, no task of the file", where, "export the tasks one by one")
        of_task[owner].append(track)
    frames: list[LabelledFrame] = []
    folders: list[Path] = []
    names: set[str] = set()
    offsets = _offsets(root, path)
    for number, task in enumerate(tasks, 1):
        task_id = (task.findtext("id") or "").strip()
        found, folder = _read_video(
            task, of_task[task_id], number, offsets[task_id], path, notes, joints, options, warn
        )
        frames += found
        folders.append(folder)
        name = found[0].file_name if found else str(number)
        if name in names:
            raise PoseError(f"two tasks of a video {name!r}", str(path), "export the tasks one by one")
        names.add(name)
    if len(set(folders)) > 1:
        raise PoseError("the videos of its tasks are in several folders", str(path), "say where with --image-root")
    return assemble(joints.skeleton, frames, folders[0])


def _offsets(root: ET.Element, path: Path) -> dict[str, int]:
    """Task id -> what CVAT adds to the task's frame numbers in a project's file: ``start_frame`` and ``step * size`` of
    every task before it in its subset (``_init_task_frame_offsets`` of CVAT's ``dataset_manager/bindings.py``)."""
    found: dict[str, int] = {}
    ends: dict[str, int] = defaultdict(int)
    for task in root.iter("task"):
        subset = (task.findtext("subset") or "").strip()
        found[(task.findtext("id") or "").strip()] = ends[subset]
        start, step = _start_and_step(task, path)
        size = (task.findtext("size") or "").strip()
        count = _whole(size, "size", str(path)) if size else len(_task_frames(task, [], path))
        ends[subset] += start + step * count
    return found


def _start_and_step(root: ET.Element, path: Path) -> tuple[int, int]:
    """The task's first frame, and the distance to the next."""
    start = _text(root, "start_frame")
    found = re.search(r"step\s*=\s*(\d{1,12})", _text(root, "frame_filter"))
    return _whole(start, "start_frame", str(path)) if start else 0, max(int(found[1]), 1) if found else 1


def _text(root: ET.Element, key: str) -> str:
    element = next(root.iter(key), None)
    return (element.text or "").strip() if element is not None else ""


def _read_video(
    root: ET.Element, tracks: list[ET.Element], video_id: int, offset: int, path: Path, notes: dict[str, Any],
    joints: Joints, options: ReadOptions, warn: Warn,
) -> tuple[list[LabelledFrame], Path]:  # fmt: skip
    """The frames of one video, and the folder its name is relative to.

    Args:
        root: the task, or the whole file where that is of one task. tracks: those of the task.
        offset: what is added to the task's frame numbers in the file.
    """
    noted = notes.get("frames") if isinstance(notes.get("frames"), dict) else None
    if noted is not None and all(str(k).isdecimal() for k in noted):
        task = sorted(int(k) for k in noted)
    else:
        of_job = next(root.iter("job"), None) is not None
        task, noted = (_job_frames(root, tracks, path, warn) if of_job else _task_frames(root, tracks, path)), None
    inside = None if noted is not None or next(root.iter("job"), None) is not None else set(task)
    people: dict[int, list[_Person]] = defaultdict(list)
    boxes: list[tuple[tuple[str, int], np.ndarray]] = []
    groups: dict[tuple[str, int], _Person] = {}
    gaps = 0
    for n, track in enumerate(tracks):
        number = _whole(track.get("id", str(n)), "the id of a track", f"{path}, track {n}")
        group = track.get("group_id") or ""
        before: tuple[int, bool] | None = None
        for shape in track:
            if shape.tag not in ("skeleton", "points", "box"):
                continue
            where = f"{path}, track {number}, frame {shape.get('frame')}"
            frame = _whole(shape.get("frame"), "frame", where) - offset
            away = shape.get("outside") == "1"
            if shape.tag == "skeleton":
                person = _Person(where, [p for s in shape.findall("points") for p in _points(s, joints, where)])
                person.notes = _notes(shape.find(f"attribute[@name='{NOTES}']"), where)
                person.track = number
                away = not any(p[3] for p in person.joints) and not person.notes
            # Older CVAT ends a track one frame behind the task.
            if not away and inside is not None and frame not in inside:
                raise PoseError(*_not_of_task(task, offset, where))
            if shape.tag == "skeleton":
                if not away:
                    people[frame].append(person)
                    if group:
                        groups[group, frame] = person
            elif not away and shape.tag == "points":
                key = (group or f"track {number}", frame)
                if key not in groups:
                    of_group = _whole(group, "group_id", where) if group.isdecimal() else number
                    groups[key] = _Person(where, track=of_group)
                    people[frame].append(groups[key])
                labelled = ET.Element("points", {**shape.attrib, "label": track.get("label", "")})
                groups[key].joints += _points(labelled, joints, where)
            elif not away:
                boxes.append(((group, frame), _box(shape, where)))
            if before is not None and not before[1]:
                gaps += bisect_left(task, frame) > bisect_right(task, before[0])
            before = (frame, away)
    left = 0
    for key, box in boxes:
        if key[0] and key in groups and groups[key].box is None:
            groups[key].box = box
        else:
            left += 1
    if left:
        warn(f"{path}: {left} boxes belong to no person by their group_id and were left out")
    if gaps:
        warn(f"{path}: {gaps} times a track jumps over frames; they were left empty (export every frame from CVAT)")
    frames = sorted({*task, *people})
    video, folder = _video(root, video_id, path, notes, options, frames)
    made = []
    for frame in frames:
        note = dict((noted or {}).get(str(frame)) or {})
        note |= {"video": video_json(video), "video_id": video.id, "frame_id": frame}
        where = f"{path}, frame {frame}"
        person_list = _in_order(people.get(frame, []), joints)
        made.append(LabelledFrame(where, video.file_name, video.width, video.height, person_list, note))
    return made, folder


def _task_frames(root: ET.Element, tracks: list[ET.Element], path: Path) -> list[int]:
    """The frames that the task has."""
    start, step = _start_and_step(root, path)
    if last := _text(root, "stop_frame"):
        stop = _whole(last, "stop_frame", str(path))
    elif size := _text(root, "size"):
        stop = start + (_whole(size, "size", str(path)) - 1) * step
    else:
        used = [_whole(s.get("frame"), "frame", str(path)) for t in tracks for s in t if s.get("frame")]
        stop = max(used, default=start - 1)
        if not _text(root, "frame_filter"):
            step = reduce(math.gcd, [f - start for f in used], 0) or 1
    if (stop - start) // step > 10_000_000:
        raise PoseError(f"a task of frames {start} to {stop}", str(path), "no video is that long")
    return list(range(start, stop + 1, step))


def _job_frames(root: ET.Element, tracks: list[ET.Element], path: Path, warn: Warn) -> list[int]:
    """The frames of the video that the job has.

    CVAT states the video's numbers of its first and last frame; older ones their places among the frames of the task
    (``JobData`` of ``dataset_manager/bindings.py``), beside which nothing tells where the task begins. Which it is
    shows where ``step`` is above 1: places follow one another. Of a task that begins elsewhere than with the video the
    frames with somebody in them may tell where; where they don't, they are all that is known, which is said.
    """
    start, step = _start_and_step(root, path)
    last = _text(root, "stop_frame")
    used = sorted({_whole(s.get("frame"), "frame", str(path)) for t in tracks for s in t if _has_somebody(s)})
    if not last:
        return _task_frames(root, tracks, path)
    stop = _whole(last, "stop_frame", str(path))
    size = _text(root, "size")
    count = _whole(size, "size", str(path)) if size else None
    by_place = step > 1 and count is not None and count > 1 and stop - start == count - 1
    apart = step if by_place else 1
    if (stop - start) * apart // step > 10_000_000:
        raise PoseError(f"a job of frames {start} to {stop}", str(path), "no video is that long")
    job = range(start * apart, stop * apart + 1, step)
    if not used or set(used) <= set(job):
        return list(job)
    # The frame of the video that the task begins with: the first and the last frame in use are frames of the job.
    rest = {(frame - start * apart) % step for frame in used}
    if job and len(rest) == 1:
        least = max(used[-1] - job[-1], 0)
        begins = range(least + (rest.pop() - least) % step, used[0] - job[0] + 1, step)
        if len(begins) == 1:
            return [begins[0] + frame for frame in job]
    warn(
        f"{path}: frames {start} to {stop} of the job are not counted as those of the video are: only the {len(used)} "
        "frames with somebody in them were taken (export the task to have the empty ones)"
    )
    return used


def _has_somebody(shape: ET.Element) -> bool:
    """Whether a shape of a track shows anything."""
    if shape.tag == "skeleton":
        return any(point.get("outside") != "1" for point in shape.findall("points"))
    return shape.tag in ("points", "box") and shape.get("outside") != "1"


def _not_of_task(task: list[int], offset: int, where: str) -> tuple[str, str, str]:
    """What is wrong with a frame that is none of the task's: message, place and hint."""
    has = f"frames {task[0] + offset} to {task[-1] + offset} of the file" if task else "no frames"
    counted = f", counted on by {offset} from the tasks before it" if offset else ""
    return f"no frame of its task, which has {has}{counted}", where, "export the tasks one by one"


def _video(
    root: ET.Element, video_id: int, path: Path, notes: dict[str, Any], options: ReadOptions, frames: list[int]
) -> tuple[Video, Path]:
    """The video, by posecli's note, else by the task and the file itself; and the folder its name is relative to."""
    if isinstance(notes.get("video"), Mapping):
        video = video_from_json(notes["video"], str(path))
        folder = image_root_of(path, video.file_name) if options.image_root is None else Path(options.image_root)
        return video, folder
    source = next(root.iter("source"), None)
    name = ((source.text if source is not None else None) or "").strip().replace("\\", "/").rsplit("/", 1)[-1]
    given = None if options.image_root is None else Path(options.image_root)
    # A job's file does not name the video of its task.
    if given is not None and given.is_file() and is_video_name(given.name) and name in ("", given.name):
        name, given = given.name, given.parent
    if not name:
        hint = "of a job, say which video with --image-root VIDEO; of a task of pictures, export 'for images'"
        raise PoseError("the task does not name its video", str(path), hint)
    folder = image_root_of(path, name) if given is None else given
    count, fps = max(frames, default=-1) + 1, 0.0
    stated = next(root.iter("original_size"), None)
    sizes = [stated.findtext(k) for k in ("width", "height")] if stated is not None else ["", ""]
    if (folder / name).is_file():
        from posecli.video import VideoSource

        with VideoSource(folder / name) as source_video:
            fps, count = source_video.fps or 0.0, max(source_video.num_frames or 0, count)
            sizes = [str(source_video.width), str(source_video.height)]
    width, height = (_whole(s, "original_size", str(path)) if s else 0 for s in sizes)
    if not width or not height:
        raise PoseError(f"nothing says how large {name!r} is, and it is not there", str(path), "give --image-root")
    return Video(video_id, name.rpartition(".")[0] or name, name, width, height, fps, count), folder
