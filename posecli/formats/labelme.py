"""labelme: one JSON file a picture, points grouped into people by ``group_id``.

Format notes (https://github.com/wkentaro/labelme, ``labelme/label_file.py``): ``{"version", "flags": {}, "shapes":
[{"label", "points": [[x, y]], "group_id": 3, "shape_type": "point", "flags": {}, "description": ""}], "imagePath",
"imageData", "imageWidth", "imageHeight"}``. ``imagePath`` is relative to the JSON; ``imageData`` (the picture itself,
base64) may be null. labelme keeps keys it does not know, of shapes and of the file.

Here a ``point`` is a joint named by its label, and a ``rectangle`` (of two corners, in any order) labelled ``person``
the box of its group. Points without a ``group_id`` are one person together, if no label is there twice. A shape's flag
``hidden`` (or ``occluded``) is visibility 1; else it is 2; a joint without a point is missing. Other shapes are passed
over and counted. The key ``posecli`` of the file keeps what labelme has no field for (`side_notes`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import inside, json_text, replace_when_done
from posecli.formats.coco import load_json
from posecli.formats.picture_size import picture_size
from posecli.formats.side_notes import (
    Joints,
    LabelledFrame,
    assemble,
    coordinate,
    frame_notes,
    make_person,
    number,
    person_notes,
    refuse_video_frames,
    size,
)
from posecli.formats.sniffing import file_has, refuse_cut_off
from posecli.types import Dataset, Instance, Record

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_BOX = "person"
_HIDDEN = ("hidden", "occluded")


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a labelme file or a folder with some."""
    if src.is_file():
        return "it has shapes and imagePath" if _is_labelme(src) else None
    # Folders may hold many thousand JSON files of other kinds: a few of them show it.
    if not any(_is_labelme(p) for p in islice(src.rglob("*.json"), 50)):
        return None
    found = _files(src)
    return f"{len(found)} labelme files (first: {found[0].relative_to(src)})" if found else None


def _is_labelme(path: Path) -> bool:
    return path.suffix == ".json" and file_has(path, b'"shapes"', b'"imagePath"')


def _files(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.rglob("*.json")) if _is_labelme(p)]


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads a labelme file, or all of a folder (and the folders in it).

    Picture names are relative to ``options.image_root`` (None: the folder of the labels). ``options.skeleton`` names
    the joints; without it the file's own note does, else the labels' names.

    Raises:
        PoseError: naming file and shape, for a point that is none, an unknown joint, a joint twice in a person, two
            boxes for one person, a picture whose size nobody knows, a cut-off file.
    """
    src = Path(src)
    paths = _files(src) if src.is_dir() else [src]
    if src.is_dir():
        refuse_cut_off(sorted(set(src.rglob("*.json")) - set(paths)))
    if not paths:
        raise PoseError("no labelme file in it", str(src))
    values = [(path, _load(path)) for path in paths]
    names = [s.get("label") for _, v in values for s in v["shapes"] if s.get("shape_type", "polygon") == "point"]
    stored = next((v["posecli"].get("skeleton") for _, v in values if isinstance(v.get("posecli"), dict)), None)
    if not names and stored is None and options.skeleton is None:
        raise PoseError("no shape is a point", str(src), "joints are points, labelled with the joint's name")
    joints = Joints([str(n) for n in names], options.skeleton, stored, str(src))
    folder = src if src.is_dir() else src.parent
    root = Path(options.image_root) if options.image_root is not None else folder
    passed_over = 0
    frames = []
    for path, value in values:
        frame, others = _frame(path, value, joints, root, options.image_root is not None)
        passed_over += others
        frames.append(frame)
    if passed_over:
        warn(f"{src}: {passed_over} shapes that are neither points nor rectangles {_BOX!r} were left out")
    return assemble(joints.skeleton, frames, root)


def _load(path: Path) -> dict[str, Any]:
    value = load_json(path)
    if not isinstance(value, dict) or not isinstance(value.get("shapes"), list) or "imagePath" not in value:
        raise PoseError("not a labelme file: no 'shapes' or no 'imagePath'", str(path))
    for n, shape in enumerate(value["shapes"]):
        if not isinstance(shape, dict) or not isinstance(shape.get("label"), str):
            raise PoseError("no label", f"{path}, shape {n}")
    return value


def _frame(
    path: Path, value: dict[str, Any], joints: Joints, root: Path, root_given: bool
) -> tuple[LabelledFrame, int]:
    where = str(path)
    notes = value.get("posecli") or {}
    if not isinstance(notes, dict) or not isinstance(notes.get("persons", {}), dict):
        raise PoseError("'posecli' is damaged", where)
    persons = notes.get("persons", {})
    people: dict[Any, tuple[np.ndarray, np.ndarray]] = {}
    boxes: dict[Any, np.ndarray] = {}
    others = 0
    for n, shape in enumerate(value["shapes"]):
        at = f"{where}, shape {n} ({shape['label']!r})"
        group, kind = shape.get("group_id"), shape.get("shape_type", "polygon")
        if group is not None and (not isinstance(group, int | str) or isinstance(group, bool)):
            raise PoseError(f"group_id is {group!r}", at, "a whole number, the same for all joints of a person")
        if kind == "rectangle" and shape["label"] == _BOX:
            if group in boxes:
                raise PoseError(f"a second box for the person of group {group}", at)
            corners = _points(shape, 2, at)
            boxes[group] = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
            people.setdefault(group, joints.blank())
        elif kind == "point":
            xy, visibility = people.setdefault(group, joints.blank())
            joint = joints.index(shape["label"], at)
            if visibility[joint]:
                hint = "give the joints of each person a group id of their own"
                raise PoseError(f"a second {shape['label']!r} for the person of group {group}", at, hint)
            xy[joint] = _points(shape, 1, at)[0]
            flags = shape.get("flags") or {}
            visibility[joint] = 1 if isinstance(flags, dict) and any(flags.get(f) for f in _HIDDEN) else 2
        else:
            others += 1
    drawn = {str(g) for g in people}
    if len(drawn) < len(people):
        raise PoseError("a group_id stands as a number and as text", where, "is it one person, or two?")
    for key in persons:  # people of whom nothing was drawn: neither a box nor a joint
        if key not in drawn and isinstance(persons[key], dict) and persons[key].get("undrawn"):
            people[key] = joints.blank()
    made = []
    for group, (xy, visibility) in people.items():
        note = persons.get(str(group), {})
        note = {k: v for k, v in note.items() if k != "undrawn"} if isinstance(note, dict) else note
        at = f"{where}, group {group}"
        made.append(make_person(xy, visibility, joints.skeleton.keypoints, boxes.get(group), note, at))
    named = {str(g): p for g, p in zip(people, made, strict=True)}
    # In the notes' order, then those of whom they do not speak.
    made = [named.pop(k) for k in persons if k in named] + list(named.values())
    file_name = _picture_name(path, value, notes, root, root_given)
    notes = _with_video_path(path, notes, root)
    width, height = _size(path, value, root / file_name)
    return LabelledFrame(where, file_name, width, height, tuple(made), notes), others


def _points(shape: dict[str, Any], count: int, where: str) -> np.ndarray:
    points = shape.get("points")
    if (
        not isinstance(points, list)
        or len(points) != count
        or not all(isinstance(p, list) and len(p) == 2 for p in points)
    ):
        raise PoseError(f"'points' is not {count} of [x, y]", where)
    return np.array([[number(v, "a coordinate", where) for v in p] for p in points])


def _picture_name(path: Path, value: dict[str, Any], notes: dict[str, Any], root: Path, root_given: bool) -> str:
    stated = str(value["imagePath"]).replace("\\", "/")
    picture = os.path.normpath(os.path.join(os.path.abspath(path.parent), stated))
    if root_given and not os.path.exists(picture):
        known = [str(notes["file_name"])] if isinstance(notes.get("file_name"), str) else []
        for name in (*known, stated, os.path.basename(stated)):
            if (root / name).exists():
                return name
        if known:
            return known[0]
    return Path(os.path.relpath(picture, os.path.abspath(root))).as_posix()


def _with_video_path(path: Path, notes: dict[str, Any], root: Path) -> dict[str, Any]:
    """The notes with the name of the video the picture is from relative to ``root``, like the picture's own."""
    video, stated = notes.get("video"), notes.get("video_path")
    if not isinstance(video, dict) or not isinstance(stated, str) or (root / str(video.get("file_name"))).exists():
        return notes
    place = os.path.normpath(os.path.join(os.path.abspath(path.parent), stated))
    return {**notes, "video": {**video, "file_name": Path(os.path.relpath(place, os.path.abspath(root))).as_posix()}}


def _size(path: Path, value: dict[str, Any], picture: Path) -> tuple[int, int]:
    width, height = value.get("imageWidth"), value.get("imageHeight")
    if width is not None and height is not None:
        return size(width, "imageWidth", str(path)), size(height, "imageHeight", str(path))
    if not picture.exists():
        raise PoseError("no imageWidth and imageHeight, and the picture is not there", str(path), "--image-root")
    return picture_size(picture)


def write(dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Warn = lambda message: None) -> None:
    """Writes a folder with one labelme JSON a picture, named as the picture; complete or not at all.

    Pictures stay where they are. Open the folder of the pictures in labelme with ``--output`` set to this folder, or
    the JSON files themselves.

    Raises:
        PoseError: frames inside videos, two pictures that would give the same file, the output exists.
    """
    refuse_video_frames(dataset, "labelme")
    folder = Path(path)
    with replace_when_done(folder, overwrite=overwrite) as part:
        part.mkdir(parents=True)
        for record in dataset.records:
            name = Path(record.file_name.replace("\\", "/")).with_suffix(".json").as_posix()
            place = inside(part, _below(name), record.file_name)
            if place.exists():
                raise PoseError(f"two pictures would both be labelled in {name}", record.file_name)
            place.parent.mkdir(parents=True, exist_ok=True)
            final = folder / place.relative_to(part)
            text = json_text(_file_json(dataset, record, final), final, indent=1)
            place.write_text(text + "\n", encoding="utf-8")


def _below(name: str) -> str:
    """The name without what leads above the folder: labels of ``../images/a.jpg`` stand in ``images/a.json``."""
    parts = [p for p in name.split("/") if p not in ("", ".", "..")]
    return "/".join(parts)


def _file_json(dataset: Dataset, record: Record, place: Path) -> dict[str, Any]:
    picture = record.file_name
    if dataset.root and not os.path.isabs(picture):
        picture = os.path.relpath(os.path.join(dataset.root, picture), place.parent)
    notes = frame_notes(dataset, record)
    if dataset.root and "video" in notes:
        video = os.path.join(dataset.root, notes["video"]["file_name"])
        notes["video_path"] = Path(os.path.relpath(video, place.parent)).as_posix()
    names = dataset.skeleton.keypoints
    shapes: list[dict[str, Any]] = []
    persons = {}
    for group, person in zip(_groups(record), record.instances, strict=True):
        drawn = _shapes(person, names, group)
        shapes += drawn
        persons[str(group)] = person_notes(person, names) | ({} if drawn else {"undrawn": True})
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": Path(picture).as_posix(),
        "imageData": None,
        "imageHeight": record.height,
        "imageWidth": record.width,
        "posecli": {
            **notes,
            "file_name": record.file_name,
            "skeleton": dataset.skeleton.to_json(),
            "persons": persons,
        },
    }


def _groups(record: Record) -> list[int]:
    """A group number for each person: the track id where it is one, so that editors see who is who."""
    tracks = [p.track_id for p in record.instances]
    if all(t is not None for t in tracks) and len(set(tracks)) == len(tracks):
        return [int(t) for t in tracks if t is not None]
    return list(range(1, len(tracks) + 1))


def _shapes(person: Instance, names: tuple[str, ...], group: int) -> list[dict[str, Any]]:
    def shape(label: str, kind: str, points: list[list[float]], hidden: bool) -> dict[str, Any]:
        flags = {"hidden": True} if hidden else {}
        return {
            "label": label, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": flags,
        }  # fmt: skip

    shapes = []
    if person.box_xyxy is not None:
        x1, y1, x2, y2 = (float(v) for v in person.box_xyxy)
        shapes.append(shape(_BOX, "rectangle", [[x1, y1], [x2, y2]], False))
    single = person.xy.dtype == np.float32
    for name, (x, y), v in zip(names, person.xy.tolist(), person.visibility.tolist(), strict=True):
        if v:
            shapes.append(shape(name, "point", [[coordinate(x, single), coordinate(y, single)]], v == 1))
    return shapes
