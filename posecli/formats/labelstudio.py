"""Label Studio JSON: a list of tasks, each with a picture and regions in per cent of its size.

Format notes (https://labelstud.io/guide/task_format, https://labelstud.io/tags/keypointlabels): a task is ``{"id",
"data": {"image": NAME}, "annotations": [{"result": [REGION, ...], "was_cancelled"}], "predictions": [{"model_version",
"result"}]}``. A joint is a region of type ``keypointlabels``: ``{"id", "type", "from_name", "to_name",
"original_width", "original_height", "image_rotation": 0, "parentID", "meta": {"text": [...]}, "value": {"x", "y",
"width", "keypointlabels": ["nose"]}}``; a box one of type ``rectanglelabels``. x and y are 0 to 100.

People: the joints whose ``parentID`` is the id of one rectangle, else those with the same ``person N`` in their meta
text, else those inside one rectangle only; in a task without any of these all joints are one person. Where rectangles
are labelled ``person``, those of other labels are things, unless joints name them as their parent. A joint whose meta
text has the word ``hidden`` (or a per-region choice ``hidden`` or ``occluded``) has visibility 1, another 2.

The newest annotation that was not cancelled counts; where there is none, the predictions do (and it is said). The key
``posecli`` of a task's ``data`` keeps what Label Studio has no field for (`side_notes`). Labels with a score go out as
``predictions``, which Label Studio shows as a draft to be corrected, others as ``annotations``. The labelling set-up
needs ``<KeyPointLabels name="keypoints" toName="image">`` with the joints' names and ``<RectangleLabels name="box"
toName="image">`` with ``person``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of, json_text, replace_when_done
from posecli.formats.coco import load_json
from posecli.formats.picture_size import picture_size
from posecli.formats.side_notes import (
    Joints,
    LabelledFrame,
    assemble,
    coordinate,
    found_below,
    frame_notes,
    make_person,
    number,
    person_notes,
    refuse_video_frames,
    size,
)
from posecli.formats.sniffing import file_has, head_of
from posecli.types import Dataset, Instance, Record

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_HIDDEN = {"hidden", "occluded"}
_PERSON = "person"


@dataclass(frozen=True)
class _Joint:
    """A keypoint region in pixels."""

    where: str
    label: str
    xy: tuple[float, float]
    parent: str | None
    person: str | None
    hidden: bool


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a list of tasks with keypoints."""
    if src.is_file() and src.suffix == ".json" and head_of(src, 64).startswith(b"["):
        marks = (b'"keypointlabels"',) if file_has(src, b'"keypointlabels"') else (b'"posecli"', b'"annotations"')
        if file_has(src, b'"data"', *marks):
            return "a list of tasks with data and keypointlabels"
    return None


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads a Label Studio export (``JSON``, not ``JSON-MIN``).

    Picture names are those of the tasks without the server's own parts (but for uploads that lie there under the
    server's names, ``0a1b2c3d-street.jpg``), relative to ``options.image_root`` (None: a
    usual place beside the file). ``options.skeleton`` names the joints; without it the file's own note, else its
    labels.

    Raises:
        PoseError: naming file, task and region, for a region that is none, an unknown joint, a joint that belongs to
            nobody or twice to one person, a picture whose size nobody knows, two uploads that would be one picture.
    """
    src = Path(src)
    tasks = load_json(src)
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and isinstance(t.get("data"), dict) for t in tasks):
        raise PoseError("not a list of tasks with 'data'", str(src), "export as JSON, not as JSON-MIN")
    chosen = [_results(t, f"{src}, task {t.get('id', n)}") for n, t in enumerate(tasks)]
    names = [
        label
        for results, _ in chosen
        for r in results or ()
        if isinstance(r.get("value"), dict) and isinstance(r["value"].get("keypointlabels"), list)
        for label in r["value"]["keypointlabels"]
    ]
    stored = next((n.get("skeleton") for n in map(_notes_of, tasks) if n.get("skeleton")), None)
    joints = Joints([str(n) for n in names], options.skeleton, stored, str(src))
    pictures = [_picture(t, f"{src}, task {t.get('id', n)}") for n, t in enumerate(tasks)]
    root = Path(options.image_root) if options.image_root is not None else None
    if root is None:
        root = _root(src, tasks[0], pictures[0]) if pictures else src.parent
    chosen, things = _without_things(chosen)
    frames = []
    task_of: dict[str, str] = {}
    for n, (task, (results, _), name) in enumerate(zip(tasks, chosen, pictures, strict=True)):
        where = f"{src}, task {task.get('id', n)}"
        uploaded = _uploaded(task)
        known = uploaded if uploaded and (root / uploaded).is_file() else found_below(root, name)
        stated = uploaded or name
        if task_of.setdefault(known, stated) != stated:
            hint = "put the pictures there under the server's names, or delete the task that is there twice"
            raise PoseError(f"{task_of[known]} and {stated} would both be {known}", where, hint)
        frames.append(_frame(task, results, known, root, joints, where))
    if things:
        warn(f"{src}: {things} rectangles of other labels than {_PERSON!r} were left out")
    drafts = sum(how == "prediction" for _, how in chosen)
    several = sum(how == "several" for _, how in chosen)
    if drafts:
        warn(f"{src}: {drafts} of {len(tasks)} tasks have no annotation; their predictions were taken")
    if several:
        warn(f"{src}: {several} tasks have several annotations; the newest was taken")
    return assemble(joints.skeleton, frames, root)


def _results(task: Mapping[str, Any], where: str) -> tuple[list[dict[str, Any]] | None, str]:
    """The regions that count, and whose they are; None for a task nobody has worked on."""
    done = []
    for key in ("annotations", "predictions"):
        entries = task.get(key) or []
        if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
            raise PoseError(f"{key!r} is not a list of objects", where)
        done = [e for e in entries if not e.get("was_cancelled")]
        if done:
            dates = [str(e.get("updated_at") or e.get("created_at") or "") for e in done]
            newest = max(range(len(done)), key=lambda n: (dates[n], n))
            results = done[newest].get("result", [])
            if not isinstance(results, list) or not all(isinstance(r, dict) for r in results):
                raise PoseError("'result' is not a list of regions", where)
            how = "prediction" if key == "predictions" else "several" if len(done) > 1 else "annotation"
            return results, how
    return None, "nothing"


def _without_things(
    tasks: list[tuple[list[dict[str, Any]] | None, str]],
) -> tuple[list[tuple[list[dict[str, Any]] | None, str]], int]:
    """The tasks' regions, and how many are things: rectangles of other labels where some are people's. Those are
    of type "thing" then."""

    def labels(region: Mapping[str, Any]) -> set[str]:
        value = region.get("value")
        named = value.get("rectanglelabels") if isinstance(value, dict) else None
        return {str(n).lower() for n in named} if isinstance(named, list) else set()

    if not any(_PERSON in labels(r) for results, _ in tasks for r in results or ()):
        return tasks, 0
    kept: list[tuple[list[dict[str, Any]] | None, str]] = []
    things = 0
    for results, how in tasks:
        parents = {str(r.get("parentID")) for r in results or ()}
        people = []
        for region in results or ():
            thing = bool(labels(region)) and _PERSON not in labels(region) and str(region.get("id")) not in parents
            things += thing
            people.append({**region, "type": "thing"} if thing else region)  # which still says the picture's size
        kept.append((None if results is None else people, how))
    return kept, things


def _notes_of(task: Mapping[str, Any]) -> Mapping[str, Any]:
    notes = task["data"].get("posecli")
    return notes if isinstance(notes, dict) else {}


def _picture(task: Mapping[str, Any], where: str) -> str:
    """The picture's name, without what the server puts around it."""
    stated = _notes_of(task).get("file_name")
    if isinstance(stated, str):
        return stated
    data = task["data"]
    key = next((k for k in ("image", "img", "picture", "url") if isinstance(data.get(k), str)), None)
    if key is None:
        key = next((k for k, v in data.items() if isinstance(v, str)), None)
    if key is None:
        raise PoseError("its data name no picture", where)
    name = str(data[key])
    if "/data/local-files/" in name and "?d=" in name:
        return unquote(name.partition("?d=")[2]).lstrip("/")
    upload = re.search(r"/data/upload/(?:\d+/)?(?:[0-9a-f]{8}-)?([^/?]+)", name)
    if upload:
        return unquote(upload[1])
    return unquote(urlsplit(name).path).lstrip("/") if "://" in name else name


def _uploaded(task: Mapping[str, Any]) -> str | None:
    """The name under which the server keeps an uploaded picture: with eight digits of its own before the picture's."""
    texts = [] if "file_name" in _notes_of(task) else [v for v in task["data"].values() if isinstance(v, str)]
    found = next(filter(None, (re.search(r"/data/upload/(?:\d+/)?([0-9a-f]{8}-[^/?]+)", text) for text in texts)), None)
    return unquote(found[1]) if found else None


def _root(src: Path, task: Mapping[str, Any], name: str) -> Path:
    """The usual place beside the file that holds a task's picture, under the server's name or its own."""
    uploaded = _uploaded(task)
    folder = image_root_of(src, uploaded) if uploaded else src.parent
    return folder if uploaded and (folder / uploaded).is_file() else image_root_of(src, name)


def _frame(
    task: Mapping[str, Any], results: list[dict[str, Any]] | None, name: str, root: Path, joints: Joints, where: str
) -> LabelledFrame:
    notes = _notes_of(task)
    width, height = _size(results or [], notes, root / name, where)
    boxes, box_person, points = _regions(results or [], width, height, where)
    of_person = {person: key for key, person in box_person.items() if person is not None}
    groups: dict[Any, list[_Joint]] = {key: [] for key in boxes}
    loose = []
    for joint in points:
        if joint.parent in boxes:
            groups[joint.parent].append(joint)
        elif joint.person is not None:
            groups.setdefault(of_person.get(joint.person, ("person", joint.person)), []).append(joint)
        elif joint.parent is not None:
            groups.setdefault(("parent", joint.parent), []).append(joint)
        else:
            loose.append(joint)
    if loose and not groups:
        groups[("all",)] = loose
    else:
        for joint in loose:
            inside = [k for k, b in boxes.items() if (b[:2] <= joint.xy).all() and (joint.xy <= b[2:]).all()]
            if len(inside) != 1:
                hint = "put it below its person's box, or write 'person 1' into its meta text"
                raise PoseError(f"{joint.label!r} belongs to nobody: it lies in {len(inside)} boxes", joint.where, hint)
            groups[inside[0]].append(joint)
    persons = notes.get("persons") or {}
    if not isinstance(persons, dict):
        raise PoseError("'posecli' is damaged", where)
    keys = {k: box_person.get(k) if k in boxes else k[1] if k[0] == "person" else None for k in groups}
    for person, note in persons.items():
        if isinstance(note, dict) and note.get("undrawn") and person not in keys.values() and results is not None:
            groups[("person", person)], keys[("person", person)] = [], person
    order = {person: n for n, person in enumerate(persons)}
    people = []
    for key in sorted(groups, key=lambda k: order.get(str(keys[k]), len(order))):
        xy, visibility = joints.blank()
        for joint in groups[key]:
            place = joints.index(joint.label, joint.where)
            if visibility[place]:
                raise PoseError(f"a second {joint.label!r} for one person", joint.where)
            xy[place], visibility[place] = joint.xy, 1 if joint.hidden else 2
        note = persons.get(str(keys[key]), {})
        note = {k: v for k, v in note.items() if k != "undrawn"} if isinstance(note, dict) else note
        at = f"{where}, person {keys[key] or key}"
        people.append(make_person(xy, visibility, joints.skeleton.keypoints, boxes.get(key), note, at))
    if results is None:
        extra = notes.get("extra") if isinstance(notes.get("extra"), dict) else {}
        notes = {**notes, "extra": {**(extra or {}), "is_labeled": False}}
    return LabelledFrame(where, name, width, height, tuple(people), notes)


def _size(results: list[dict[str, Any]], notes: Mapping[str, Any], picture: Path, where: str) -> tuple[int, int]:
    sizes = [(r["original_width"], r.get("original_height")) for r in results if r.get("original_width")]
    if any(not isinstance(side, (int, float)) for size in sizes for side in size):
        raise PoseError("original_width and original_height are not numbers", where)
    stated = set(sizes)
    if len(stated) > 1:
        raise PoseError(f"regions state different sizes of the picture: {sorted(stated)}", where)
    for width, height in (*stated, (notes.get("width"), notes.get("height"))):
        if width is not None:
            return size(width, "original_width", where), size(height, "original_height", where)
    if not picture.exists():
        raise PoseError(f"nothing says how large {picture.name!r} is, and it is not there", where, "give --image-root")
    return picture_size(picture)


def _regions(
    results: list[dict[str, Any]], width: int, height: int, where: str
) -> tuple[dict[str, np.ndarray], dict[str, str | None], list[_Joint]]:
    """Boxes by region id, the person each names, and the joints."""
    boxes: dict[str, np.ndarray] = {}
    box_person: dict[str, str | None] = {}
    points: list[_Joint] = []
    choices: dict[str, set[str]] = {}
    for region in results:
        if region.get("type") == "choices" and isinstance(region.get("value"), dict):
            stated = region["value"].get("choices") or []
            if not isinstance(stated, list):
                raise PoseError(f"choices {stated!r} are no list", f"{where}, region {region.get('id')}")
            choices.setdefault(str(region.get("id")), set()).update(str(c).lower() for c in stated)
    for n, region in enumerate(results):
        at = f"{where}, region {region.get('id', n)}"
        kind, value = region.get("type"), region.get("value")
        if kind not in ("keypointlabels", "rectanglelabels", "keypoint", "rectangle"):
            continue
        if not isinstance(value, dict):
            raise PoseError("no 'value'", at)
        if region.get("image_rotation"):
            raise PoseError(f"the picture was turned by {region['image_rotation']} degrees", at, "label it upright")
        x, y = (number(value.get(k), k, at) for k in ("x", "y"))
        text, person = _meta(region)
        if kind.startswith("rectangle"):
            if value.get("rotation"):
                raise PoseError(f"the box is turned by {value['rotation']} degrees", at, "boxes are upright")
            w, h = (number(value.get(k), k, at) for k in ("width", "height"))
            if w < 0 or h < 0:
                raise PoseError(f"the box is {w:g} wide and {h:g} high", at, "x and y are its upper left corner")
            percent = np.array([x, y, x + w, y + h])
            key = str(region.get("id", f"#{n}"))
            boxes[key] = percent * np.array([width, height, width, height]) / 100
            box_person[key] = person
            continue
        labels = value.get("keypointlabels")
        if not isinstance(labels, list) or len(labels) != 1:
            raise PoseError(f"labels {labels!r}: one joint name is wanted", at)
        hidden = bool(_HIDDEN & (set(re.findall(r"\w+", text)) | choices.get(str(region.get("id")), set())))
        parent = region.get("parentID")
        point = (x * width / 100, y * height / 100)
        points.append(_Joint(at, str(labels[0]), point, None if parent is None else str(parent), person, hidden))
    return boxes, box_person, points


def _meta(region: Mapping[str, Any]) -> tuple[str, str | None]:
    """The region's meta text in small letters, and the person it names."""
    meta = region.get("meta")
    text = meta.get("text", "") if isinstance(meta, dict) else ""
    text = " ".join(str(t) for t in text) if isinstance(text, list) else str(text)
    found = re.search(r"\bperson (\w+)", text)
    return text.lower(), found[1] if found else None


def write(dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Warn = lambda message: None) -> None:
    """Writes one JSON file to be imported as tasks; ``data.image`` is the picture's name in the data set.

    Raises:
        PoseError: frames inside videos, the output exists.
    """
    refuse_video_frames(dataset, "Label Studio")
    people = [p for r in dataset.records for p in r.instances]
    # Of joints that are missing the score says nothing: labels that passed through a stream have 0 there.
    drafts = any(p.person_score != 1 or (p.score[p.visibility > 0] != 1).any() for p in people)
    tasks = [_task(dataset, record, n, drafts) for n, record in enumerate(dataset.records, 1)]
    with replace_when_done(path, overwrite=overwrite) as part:
        part.write_text(json_text(tasks, path, indent=1) + "\n", encoding="utf-8")


def _task(dataset: Dataset, record: Record, number_: int, drafts: bool) -> dict[str, Any]:
    names = dataset.skeleton.keypoints
    regions: list[dict[str, Any]] = []
    persons = {}
    for n, person in enumerate(record.instances, 1):
        drawn = _person_regions(person, names, record, f"t{number_}p{n}", n)
        regions += drawn
        persons[str(n)] = person_notes(person, names) | ({} if drawn else {"undrawn": True})
    notes = {
        **frame_notes(dataset, record),
        "file_name": record.file_name,
        "width": record.width,
        "height": record.height,
        "skeleton": dataset.skeleton.to_json(),
        "persons": persons,
    }
    task: dict[str, Any] = {"id": number_, "data": {"image": record.file_name, "posecli": notes}}
    task["annotations"], task["predictions"] = [], []
    if record.instances or record.extra.get("is_labeled", True) is not False:
        if drafts:
            score = max((p.person_score for p in record.instances), default=0.0)
            task["predictions"] = [{"model_version": "posecli", "score": float(score), "result": regions}]
        else:
            task["annotations"] = [{"result": regions, "was_cancelled": False}]
    return task


def _person_regions(person: Instance, names: tuple[str, ...], record: Record, key: str, n: int) -> list[dict[str, Any]]:
    width, height = record.width, record.height
    common = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
    regions = []
    boxed = person.box_xyxy is not None
    if person.box_xyxy is not None:
        x1, y1, x2, y2 = (float(v) for v in person.box_xyxy)
        value = {
            "x": x1 / width * 100, "y": y1 / height * 100, "width": (x2 - x1) / width * 100,
            "height": (y2 - y1) / height * 100, "rotation": 0, "rectanglelabels": ["person"],
        }  # fmt: skip
        head = {"id": key, "type": "rectanglelabels", "from_name": "box", "meta": {"text": [f"person {n}"]}}
        regions.append({**head, **common, "value": value})
    single = person.xy.dtype == np.float32
    for k, (name, (x, y), v) in enumerate(zip(names, person.xy.tolist(), person.visibility.tolist(), strict=True)):
        if v:
            value = {"x": coordinate(x, single) / width * 100, "y": coordinate(y, single) / height * 100}
            region: dict[str, Any] = {
                "id": f"{key}j{k}", "type": "keypointlabels", "from_name": "keypoints", **common,
                "value": {**value, "width": 0.5, "keypointlabels": [name]},
                "meta": {"text": [f"person {n} hidden" if v == 1 else f"person {n}"]},
            }  # fmt: skip
            regions.append({**region, "parentID": key} if boxed else region)
    return regions
