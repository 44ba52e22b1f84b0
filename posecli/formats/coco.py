"""COCO keypoint JSON, the project's own data-set file.

Layout: ``images[]``, ``annotations[]``, ``categories[]`` as in https://cocodataset.org/#format-data, plus ``videos[]``.
Boxes are ``[x, y, width, height]``; keypoints are flat ``x, y, v`` triples with v 0 not labelled (x and y mean
nothing), 1 labelled but hidden, 2 visible; the category's ``skeleton`` counts joints from 1.

What posecli adds, so that nothing has to be guessed later: the category's block ``posecli`` (skeleton name, sigmas,
flip pairs, head, torso, limbs), ``video_id`` and 0-based ``frame_id`` of images, ``tags`` and ``recording`` of videos,
``track_id``, ``head_box`` (x, y, width, height), ``keypoint_scores``, and of people that a model found ``score`` and
``heat`` of annotations. An image whose ``file_name``
is a video is that video's frame ``frame_id``. Keys this module does not know are kept, also those of the category.
"""

from __future__ import annotations

import json
import os
import reprlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of, is_finite, json_fault, only_numbers, refuse_device
from posecli.formats.coco_write import category_json, joint_box, own_category, to_json, write, xywh_json
from posecli.formats.joint_names import skeleton_from_names, spelling
from posecli.types import Dataset, Instance, Record, Skeleton, Video

_IMAGE_KEYS = {"id", "file_name", "width", "height"}
_VIDEO_KEYS = {"id", "name", "file_name", "width", "height", "fps", "num_frames", "tags"}
_SIZE = ("width", "height")
_ANNOTATION_KEYS = {
    "image_id", "category_id", "keypoints", "num_keypoints", "bbox", "area", "iscrowd", "track_id", "head_box",
    "keypoint_scores",
}  # fmt: skip
__all__ = [
    "absent_files", "box_from_xywh", "category_json", "from_json", "joint_box", "load_json", "person_categories",
    "read", "to_json", "unknown_category", "with_slashes", "write", "xywh_json",
]  # fmt: skip
Warn = Callable[[str], None]
_FAR = 2.0**53  # numbers below are finite and floats hold them
_PLAIN = frozenset((int, float))


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def read(
    path: str | Path, *, image_root: str | Path | None = None, skeleton: Skeleton | None = None, warn: Warn = _warn
) -> Dataset:
    """Reads and checks a COCO keypoint file.

    Coordinates stay float64 and NaN where v is 0; v is kept exactly. ``Instance.extra`` holds the annotation's ``id``,
    its ``segmentation`` (polygons or RLE, untouched), all unknown keys, and a ``num_keypoints`` of 0 beside labelled
    joints (pycocotools ignores such people; `write` counts anew); ``ignore`` is ``iscrowd``. A box without
    width and height becomes None. ``Dataset.info`` holds the file's other top-level keys, and under ``categories`` the
    category of the people where it is not simply ``person`` with id 1. Several categories of the same joints are taken
    as one; of several with different joints, the one called ``person`` or the one with the joints of ``skeleton``.

    Args:
        path: the JSON file.
        image_root: folder that ``file_name`` is relative to; None: the JSON's folder, or, where the first picture is
            not there, a usual neighbour (``images/``, ``../images``, ``../val2017`` for ``*_val2017.json``).
        skeleton: for files whose category names no joints (boxes only), or to override the file's sigmas and edges;
            its joints must be the file's.
        warn: takes one sentence for each thing that is odd but readable.

    Raises:
        PoseError: naming file and record, for a missing key, a wrong count of keypoints, a non-finite number, v outside
            0..2, an unknown image, video or category id, a repeated id, a negative box.
    """
    path = Path(path)
    value = load_json(path)
    if not isinstance(value, dict):
        kind = "a list: COCO results, not a data set" if isinstance(value, list) else "not an object"
        raise PoseError(f"not a COCO data set ({kind})", str(path))
    dataset = from_json(value, str(path), skeleton=skeleton, warn=warn)
    root = Path(image_root) if image_root is not None else _root_of(path, dataset)
    return Dataset(dataset.skeleton, dataset.records, dataset.videos, str(root), dataset.info)


def load_json(path: str | Path) -> Any:
    """The parsed file; PoseError with file, line and column when it is not JSON or not readable."""
    refuse_device(path)
    try:
        with open(path, encoding="utf-8-sig") as handle:  # Windows' editors write a byte order mark
            return json.load(handle)
    except json.JSONDecodeError as error:
        raise PoseError(f"not JSON: {error.msg}", f"{path}, line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:
        raise PoseError(json_fault(error), str(path)) from None
    except OSError as error:
        raise PoseError(f"cannot read: {error.strerror or error}", str(path)) from None


def from_json(value: Mapping[str, Any], where: str, *, skeleton: Skeleton | None = None, warn: Warn = _warn) -> Dataset:
    """A parsed COCO object as a `Dataset` with an empty ``root``; checks as `read`. ``where`` names it in errors."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(value.get(key), list):
            raise PoseError(f"no list {key!r}", where, "is it a COCO keypoint data set?")
    chosen, skeleton = person_categories(value["categories"], where, skeleton, warn)
    videos = _read_videos(value.get("videos") or [], where)
    heads = _read_images(value["images"], where, {v.id for v in videos} if videos else None)
    _say_backslashes((*value["images"], *(value.get("videos") or ())), where, warn)
    listed = {c["id"]: str(c.get("name", "")) for c in value["categories"]}
    ids = {c["id"] for c in chosen}
    people = _read_annotations(value["annotations"], where, heads, ids, listed, skeleton, warn)
    records = tuple(Record(instances=tuple(people.get(image_id, ())), **head) for image_id, head in heads.items())
    info = {k: v for k, v in value.items() if k not in ("images", "annotations", "categories", "videos")}
    if len(chosen) == 1 and (own := own_category(chosen[0])):
        info["categories"] = [own]
    return Dataset(skeleton, records, videos, "", info)


def person_categories(
    categories: Sequence[Any], where: str, override: Skeleton | None, warn: Warn
) -> tuple[list[Mapping[str, Any]], Skeleton]:
    """The categories whose annotations are people, and the skeleton; PoseError where that is not clear."""
    for i, category in enumerate(categories):
        if not isinstance(category, dict) or "id" not in category:
            raise PoseError("no 'id'", f"{where}, categories[{i}]")
        if not _is_id(category["id"]):
            raise PoseError(
                f"category id {category['id']!r} is neither a number nor a name", f"{where}, categories[{i}]"
            )
        names = category.get("keypoints") or []
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise PoseError("'keypoints' is not a list of joint names", f"{where}, category {category['id']}")
    with_joints = [c for c in categories if c.get("keypoints")]
    if not with_joints:
        if override is None:
            raise PoseError("no category names its keypoints", where, "say which joints they are with --skeleton")
        people = [c for c in categories if str(c.get("name", "")).lower() == "person"] or list(categories)
        if len(people) != 1:
            raise PoseError("no category named 'person'", where)
        return people, override
    if len({tuple(c["keypoints"]) for c in with_joints}) > 1:
        with_joints = [_one_of(with_joints, where, override)]
    elif len(with_joints) > 1:
        names = ", ".join(str(c.get("name", c["id"])) for c in with_joints)
        warn(f"{where}: {len(with_joints)} categories ({names}) were taken as one")
    first = with_joints[0]
    skeleton = _skeleton_of(first, f"{where}, category {first['id']}", warn)
    if override is not None:
        spelled = [spelling(n) for n in first["keypoints"]]
        if [spelling(n) for n in override.keypoints] not in (spelled, [spelling(n) for n in skeleton.keypoints]):
            raise PoseError(
                f"skeleton {override.name!r} does not have the file's joints in the file's order",
                where,
                "use --to-skeleton to change the joint set",
            )
        skeleton = override
    return with_joints, skeleton


def _one_of(categories: Sequence[Mapping[str, Any]], where: str, override: Skeleton | None) -> Mapping[str, Any]:
    """Of categories with different joints the only one with the joints asked for, else the only one called person."""
    if override is None:
        fit = [c for c in categories if str(c.get("name", "")).lower() == "person"]
    else:
        joints = [spelling(n) for n in override.keypoints]
        fit = [c for c in categories if [spelling(n) for n in c["keypoints"]] == joints]
    if len(fit) != 1:
        names = ", ".join(str(c.get("name", c["id"])) for c in categories)
        hint = "keep one of them, or say which joints are meant with --skeleton"
        raise PoseError(f"categories with different joints: {names}", where, hint)
    return fit[0]


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _skeleton_of(category: Mapping[str, Any], where: str, warn: Warn) -> Skeleton:
    names = [str(n) for n in category["keypoints"]]
    pairs = []
    listed = category.get("skeleton") or ()
    if not isinstance(listed, list | tuple):
        raise PoseError(f"skeleton {reprlib.repr(listed)} is not a list of edges", where)
    for pair in listed:
        try:
            a, b = (int(i) for i in pair)
        except (TypeError, ValueError, OverflowError):
            raise PoseError(f"skeleton edge {pair!r} is not a pair of joint numbers", where) from None
        pairs.append((a, b))
    # COCO counts from 1. A 0 where nothing lies beyond the last joint from 0 on says that this file does not.
    ends = [i for pair in pairs for i in pair]
    from_zero = bool(ends) and min(ends) == 0 and max(ends) < len(names)
    moved = [(a, b) if from_zero else (a - 1, b - 1) for a, b in pairs]
    edges = [(a, b) for a, b in moved if 0 <= a < len(names) and 0 <= b < len(names) and a != b]
    odd = len(moved) - len(edges)
    block = category.get("posecli")
    if block is not None:
        if not isinstance(block, dict):
            raise PoseError("'posecli' is not an object", where)
        return Skeleton.from_json({"edges": edges, **block, "keypoints": names}, where)
    skeleton = skeleton_from_names(names, edges, where)
    if from_zero and skeleton.edges == tuple(edges):
        warn(f"{where}: the skeleton counts joints from 0, COCO from 1; it was read as it says")
    if odd and skeleton.edges == tuple(edges):
        warn(f"{where}: {odd} skeleton edges name joints beyond the {len(names)} and were left out")
    return skeleton


def _read_videos(entries: Any, where: str) -> tuple[Video, ...]:
    if not isinstance(entries, list):
        raise PoseError("'videos' is not a list", where)
    videos, seen = [], set()
    for i, entry in enumerate(entries):
        at = f"{where}, videos[{i}]"
        if not isinstance(entry, dict) or "id" not in entry:
            raise PoseError("no 'id'", at)
        if not _is_id(entry["id"]):
            raise PoseError(f"video id {entry['id']!r} is neither a number nor a name", at)
        if entry["id"] in seen:
            raise PoseError(f"video id {entry['id']!r} is used twice", at)
        seen.add(entry["id"])
        tags = entry.get("tags") or []
        if not isinstance(tags, list):
            raise PoseError("'tags' is not a list", at)
        file_name = with_slashes(str(entry.get("file_name", "")))
        try:
            numbers = {key: float(entry.get(key) or 0) for key in ("width", "height", "fps", "num_frames")}
            if odd := [key for key, number in numbers.items() if not abs(number) < _FAR]:
                raise ValueError(f"{odd[0]} is {reprlib.repr(entry[odd[0]])}")
            videos.append(
                Video(
                    id=entry["id"],
                    name=str(entry.get("name") or file_name or entry["id"]),
                    file_name=file_name,
                    width=int(numbers["width"]),
                    height=int(numbers["height"]),
                    fps=numbers["fps"],
                    num_frames=int(numbers["num_frames"]),
                    tags=tuple(str(t) for t in tags),
                    extra={k: v for k, v in entry.items() if k not in _VIDEO_KEYS},
                )
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise PoseError(f"not a video entry: {error}", at) from None
    return tuple(videos)


def with_slashes(name: str) -> str:
    """A name as Windows writes it (``sub\\p1.jpg``) as all other systems do. One with a slash stays: there a backslash
    is a letter."""
    return name if "/" in name else name.replace("\\", "/")


def _say_backslashes(entries: Sequence[Any], where: str, warn: Warn) -> None:
    names = [str(e.get("file_name", "")) for e in entries]
    moved = [n for n in names if with_slashes(n) != n]
    if moved:
        warn(f"{where}: {len(moved)} file names have backslashes, as on Windows; read as {with_slashes(moved[0])!r}")


def _read_images(entries: Sequence[Any], where: str, video_ids: set[int] | None) -> dict[Any, dict[str, Any]]:
    """Image id to the keyword arguments of its `Record`, in file order."""
    heads: dict[Any, dict[str, Any]] = {}
    for i, entry in enumerate(entries):
        at = f"{where}, images[{i}]"
        if not isinstance(entry, dict):
            raise PoseError("not an object", at)
        for key in ("id", "file_name", "width", "height"):
            if key not in entry:
                raise PoseError(f"no {key!r}", at)
        image_id = entry["id"]
        width, height = (int(v) if isinstance(v, float) and v.is_integer() else v for v in map(entry.get, _SIZE))
        if not _is_id(image_id):
            raise PoseError(f"image id {image_id!r} is neither a number nor a name", at)
        if image_id in heads:
            raise PoseError(f"image id {image_id!r} is used twice", at)
        if not (isinstance(width, int) and isinstance(height, int) and 0 < width < _FAR and 0 < height < _FAR):
            raise PoseError(
                f"{reprlib.repr(width)} x {reprlib.repr(height)} is not a picture's size", f"{where}, image {image_id}"
            )
        if not isinstance(entry["file_name"], str):
            raise PoseError(f"file_name {entry['file_name']!r} is not a name", f"{where}, image {image_id}")
        head: dict[str, Any] = {
            "image_id": image_id,
            "file_name": with_slashes(entry["file_name"]),
            "width": width,
            "height": height,
        }
        # `frame_id` without `video_id` is something else (PoseTrack18 numbers its pictures so): an unknown key, kept.
        # Among frames of videos, pictures may have null for both.
        known = _IMAGE_KEYS
        if entry.get("video_id") is not None and "frame_id" in entry:
            video_id, frame_id = entry["video_id"], entry["frame_id"]
            if not _is_id(video_id) or (video_ids is not None and video_id not in video_ids):
                raise PoseError(f"unknown video id {video_id!r}", f"{where}, image {image_id}")
            if not isinstance(frame_id, int) or isinstance(frame_id, bool) or not 0 <= frame_id < _FAR:
                raise PoseError(
                    f"frame_id {reprlib.repr(frame_id)} is not a 0-based frame number", f"{where}, image {image_id}"
                )
            head |= {"video_id": video_id, "frame_id": frame_id}
            known = known | {"video_id", "frame_id"}
        head["extra"] = {k: v for k, v in entry.items() if k not in known}
        heads[image_id] = head
    return heads


def _read_annotations(
    entries: Sequence[Any], where: str, heads: Mapping[Any, Any], category: set[Any], listed: Mapping[Any, str],
    skeleton: Skeleton, warn: Warn,
) -> dict[Any, list[Instance]]:  # fmt: skip
    """Image id to its people, in file order. ``category`` are the ids of people, ``listed`` the names of all ids."""
    count = skeleton.num_keypoints
    people: dict[Any, list[Instance]] = {}
    seen: set[Any] = set()
    others = miscounted = 0
    first_miscounted = ""
    kept = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise PoseError("not an object", f"{where}, annotations[{i}]")
        at = f"{where}, annotation {entry['id']}" if "id" in entry else f"{where}, annotations[{i}]"
        for key in ("image_id", "category_id"):
            if key not in entry:
                raise PoseError(f"no {key!r}", at)
        try:
            if entry["image_id"] not in heads:
                raise PoseError(f"unknown image id {entry['image_id']!r}", at)
            if "id" in entry:
                if entry["id"] in seen:
                    raise PoseError("the annotation id is used twice", at)
                seen.add(entry["id"])
            known = entry["category_id"] in category
            if not known and entry["category_id"] not in listed:
                raise PoseError(unknown_category(entry["category_id"], listed), at)
        except TypeError:  # lists and objects cannot be looked up
            raise PoseError("an id is neither a number nor a name", f"{where}, annotations[{i}]") from None
        if not known:
            others += 1
            continue
        kept.append((at, entry))
    points = _points([(at, e.get("keypoints")) for at, e in kept], count)
    visibility = points[..., 2].astype(np.int64)
    scores = np.ones(visibility.shape, np.float32)
    labelled_joints = np.count_nonzero(visibility, axis=1).tolist()
    for row, (at, entry) in enumerate(kept):
        labelled = labelled_joints[row]
        if entry.get("num_keypoints", labelled) != labelled:
            miscounted += 1
            first_miscounted = first_miscounted or at
        people.setdefault(entry["image_id"], []).append(
            _instance(at, entry, points[row, :, :2], visibility[row], scores[row])
        )
    if others:
        warn(f"{where}: {others} annotations of other categories were left out")
    if miscounted:
        warn(f"{first_miscounted}: num_keypoints is not the count of v > 0 ({miscounted} such annotations; v is used)")
    return people


def unknown_category(category: Any, listed: Mapping[Any, str]) -> str:
    """What is wrong with the id of a category that the file does not list."""
    known = ", ".join(f"{i!r} {name}".rstrip() for i, name in list(listed.items())[:5])
    return f"unknown category id {reprlib.repr(category)} (the file has {known}{', ...' if len(listed) > 5 else ''})"


def _points(rows: Sequence[tuple[str, Any]], count: int) -> np.ndarray:
    """(N, K, 3) float64 of the annotations' x, y, v; x and y are NaN where v is 0. Checks every number."""
    blank = [0.0] * (3 * count)
    flat = []
    for at, keypoints in rows:
        if keypoints is None or (isinstance(keypoints, list) and not keypoints):
            flat.append(blank)  # a box without joints
        elif not isinstance(keypoints, list) or len(keypoints) != 3 * count:
            size = f"{len(keypoints) / 3:g} keypoints" if isinstance(keypoints, list) else "no list of keypoints"
            raise PoseError(f"{size} where the category names {count}", at)
        else:
            flat.append(keypoints)
    try:
        if not only_numbers(flat, null=True):
            raise ValueError
        points = np.array(flat, dtype=np.float64).reshape(len(flat), count, 3)
    except (ValueError, OverflowError):
        for at, keypoints in rows:
            for i, number in enumerate(keypoints or ()):
                # null and NaN may stand where v is 0.
                if isinstance(number, bool) or not isinstance(number, int | float | None):
                    raise PoseError(f"{reprlib.repr(number)} is not a number", f"{at}, keypoint {i // 3}") from None
                if isinstance(number, int) and not is_finite(number):
                    raise PoseError("a number beyond all bounds", f"{at}, keypoint {i // 3}") from None
        raise
    v = points[..., 2]
    odd = np.argwhere(~np.isin(v, (0, 1, 2)))
    if len(odd):
        row, joint = odd[0]
        raise PoseError(f"v is {v[row, joint]:g}, not 0, 1 or 2", f"{rows[row][0]}, keypoint {joint}")
    odd = np.argwhere((v > 0) & ~(np.abs(points[..., :2]) < _FAR).all(axis=2))
    if len(odd):
        row, joint = odd[0]
        raise PoseError("a coordinate is not finite", f"{rows[row][0]}, keypoint {joint}")
    points[v == 0, :2] = np.nan
    return points


def _instance(at: str, entry: Mapping[str, Any], xy: np.ndarray, visibility: np.ndarray, score: np.ndarray) -> Instance:
    """``score`` (K,) is what joints have where the annotation gives none."""
    extra = {k: v for k, v in entry.items() if k not in _ANNOTATION_KEYS}
    if entry.get("num_keypoints", 1) == 0 and visibility.any():
        extra["num_keypoints"] = 0
    if "ignore" in entry and "iscrowd" in entry:
        extra["iscrowd"] = entry["iscrowd"]
    for key in ("iscrowd", "ignore"):
        flag = entry.get(key)
        # The text "0" would count as true, and take the person out of all training and measuring.
        if flag is not None and not (isinstance(flag, int | float) and flag in (0, 1)):
            raise PoseError(f"{key} {reprlib.repr(flag)} is not 0 or 1", at)
    area = entry.get("area")
    if area is not None and not (isinstance(area, (int, float)) and 0 <= area <= sys.float_info.max):
        raise PoseError(f"area {area!r} is not a number of pixels", at)
    track_id = entry.get("track_id")
    if track_id is not None and not (type(track_id) is int and -_FAR < track_id < _FAR):
        raise PoseError(f"track_id {reprlib.repr(track_id)} is not a whole number", at)
    if entry.get("keypoint_scores") is not None:
        score = _numbers(entry["keypoint_scores"], len(xy), "keypoint_scores", at).astype(np.float32)
    # Other tools use these names for other things: only what can be ours is taken, the rest stays a further key.
    found = {k: float(extra.pop(k)) for k in ("score", "heat") if _is_fraction(extra.get(k))}
    if found.get("score") == 1:  # what labels have anyway: it is not written unless it stays a further key
        extra["score"] = entry["score"]
    return Instance(
        xy=xy,
        visibility=visibility,
        score=score,
        person_score=found.get("score", 1.0),
        heat=found.get("heat"),
        box_xyxy=box_from_xywh(entry.get("bbox"), "bbox", at),
        area=None if area is None else float(area),
        ignore=bool(entry.get("iscrowd") or entry.get("ignore")),
        track_id=track_id,
        head_box_xyxy=box_from_xywh(entry.get("head_box"), "head_box", at),
        extra=extra,
    )


def _is_fraction(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _numbers(value: Any, count: int, name: str, at: str) -> np.ndarray:
    if not isinstance(value, list) or len(value) != count or not all(map(is_finite, value)):
        raise PoseError(f"{name} {reprlib.repr(value)} is not {count} finite numbers", at)
    return np.array(value, dtype=np.float64)


def box_from_xywh(value: Any, name: str, at: str) -> np.ndarray | None:
    """(4,) float64 x1, y1, x2, y2 from ``[x, y, width, height]``; None for none or for a box without any extent.
    PoseError with ``at`` on anything but four finite numbers with width and height of at least 0."""
    if value is None or (isinstance(value, list) and not value):
        return None
    # Ten thousand boxes are the rule, so the usual form does not go through an array.
    if not (isinstance(value, list) and len(value) == 4 and _PLAIN.issuperset(map(type, value))):
        value = _numbers(value, 4, name, at)
    x, y, w, h = value
    if not (-_FAR < x < _FAR and -_FAR < y < _FAR and -_FAR < w < _FAR and -_FAR < h < _FAR):
        x, y, w, h = _numbers(list(value), 4, name, at)
    if w < 0 or h < 0:
        raise PoseError(f"{name} {value!r} has a negative size", at, "boxes are x, y, width, height")
    return np.array((x, y, x + w, y + h), np.float64) if w or h else None


def absent_files(dataset: Dataset) -> list[str]:
    """File names of the data set (pictures and videos) that do not exist below its root, each once, in order."""
    listed: dict[str, set[str]] = {}

    def exists(file_name: str) -> bool:
        folder, name = os.path.split(os.path.join(dataset.root, file_name))
        if folder not in listed:  # one listing a folder: far fewer system calls than one stat a picture
            listed[folder] = set(os.listdir(folder or ".")) if os.path.isdir(folder or ".") else set()
        return name in listed[folder]

    names = dict.fromkeys(r.file_name for r in dataset.records)
    return [n for n in names if "://" not in n and not exists(n)]


def _root_of(path: Path, dataset: Dataset) -> Path:
    return image_root_of(path, dataset.records[0].file_name) if dataset.records else path.parent
