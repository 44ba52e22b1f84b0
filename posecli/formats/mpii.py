"""MPII Human Pose: the release's ``.mat``, and the JSON that HRNet made of it.

Source: M. Andriluka, L. Pishchulin, P. Gehler and B. Schiele, "2D Human Pose Estimation: New Benchmark and State of the
Art Analysis", CVPR 2014 (http://human-pose.mpi-inf.mpg.de). 16 joints (`mpii16`), ``id`` 0..15.

**The release**, ``mpii_human_pose_v1_u12_1.mat``, is a struct ``RELEASE``:

    annolist(i).image.name             the picture
    annolist(i).vididx, frame_sec      place in video_list, second
    annolist(i).annorect(p)            a person: x1, y1, x2, y2 (the head's box), scale, objpos.x, .y
    ....annopoints.point(j)            x, y, id, is_visible (1, 0, or empty: neck and head top come from the head's box)
    img_train(i)                       1 train, 0 test: of test pictures only scale and objpos are published
    single_person{i}                   numbers (from 1) of the people who stand apart from others
    act(i)                             act_name, cat_name, act_id

Numbers may be text (``'1'``), fields may be missing for some pictures or empty for some people.

**HRNet's JSON** (leoxiaobin/deep-high-resolution-net.pytorch@6f69e46, also mmpose's) is a list of one entry a person:
``image``, ``center``, ``scale``, ``joints`` (16 x 2) and ``joints_vis`` (1 labelled, 0 not: hidden is not told apart).
Head boxes are not in it; a ``gt_valid.mat`` (or ``mpii_gt_val.mat``) beside it has them, in the same order of people.

Both count pixels from 1, and boxes alike. v: ``is_visible`` 1 and empty are 2, 0 is 1 (labelled but hidden).
``scale`` is the person's height / 200 px and ``center`` their rough middle; both stay with the person, who has a
``bbox`` of their own only where no joint is labelled (the square of 200 x scale around the middle). ``single_person``
is true for who stands apart. Not everyone in a picture is labelled (``all_people_labelled`` false). Frames of one
video share a ``recording``, so that a split keeps them together.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of, is_finite
from posecli.formats import coco, matlab, release
from posecli.skeletons import MPII16
from posecli.types import Dataset, Instance, Record

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

PIXELS_OF_SCALE = 200.0
_HEAD_FILES = ("gt_valid.mat", "mpii_gt_val.mat")
_COUNT = MPII16.num_keypoints


def _is_json(path: Path) -> bool:
    return release.starts_with(path, b"[") and release.mentions(path, ("image", "center", "scale"), ("bbox",))


def _matrix(src: Path) -> Path | None:
    paths = [src] if src.is_file() else sorted(src.glob("mpii_human_pose*.mat"))
    return next((p for p in paths if p.suffix == ".mat" and "RELEASE" in matlab.variable_names(p)), None)


def _json_files(src: Path) -> list[Path]:
    return [p for p in release.json_files(src, ("", "annot", "annotations")) if _is_json(p)]


def recognise(src: Path) -> str | None:
    """Why ``src`` is MPII, or None; says which of the two."""
    path = _matrix(src)
    if path is not None:
        return f"{path.name} has the struct RELEASE"
    return release.describe(src, _json_files(src), "a list with image, center and scale: HRNet's JSON of MPII")


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads the release's ``.mat`` or HRNet's JSON, or a folder with one of them.

    Neither states the pictures' sizes: pictures that are not there are left out and counted.

    Raises:
        PoseError: several JSON files, a field missing or of another shape, a joint's ``id`` or visibility that does
            not exist, a coordinate that is not finite, head boxes of other people, no picture at all; the picture and
            the person (counted from 1) are named.
    """
    path = _matrix(src)
    if path is not None:
        return _read_release(path, options, warn)
    path = release.only(src, _json_files(src) or ([src] if src.is_file() else []), "MPII")
    return _read_json(path, options, warn)


# --- the release ---


def _read_release(path: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    where = str(path)
    found = matlab.structs(matlab.read_mat(path)["RELEASE"], where)
    if len(found) != 1:
        raise PoseError(f"RELEASE is {len(found)} structs, not one", where)
    whole = found[0]
    images = matlab.structs(matlab.field(whole, "annolist", where), f"{where}, annolist")
    if not images:
        raise PoseError("annolist is empty", where)
    count = len(images)
    train = matlab.field(whole, "img_train", where)
    if np.size(train) != count:
        raise PoseError(f"img_train has {np.size(train)} values for {count} pictures", where)
    train = np.ravel(train)
    apart = _per_picture(matlab.cells(whole.get("single_person"), where), count, "single_person", where)
    acts = _per_picture(matlab.structs(whole.get("act"), f"{where}, act"), count, "act", where)
    videos = matlab.cells(whole.get("video_list"), where)
    names = [_name(image, f"{where}, annolist {i + 1}") for i, image in enumerate(images)]
    root = Path(options.image_root) if options.image_root is not None else image_root_of(path, names[0])
    pictures = release.Pictures(root)
    records, seen, doubled = [], set(), Counter[str]()
    for i, image in enumerate(images):
        at = f"{where}, annolist {i + 1} ({names[i]})"
        if names[i] in seen:
            raise PoseError("the picture stands twice", at)
        seen.add(names[i])
        people = _people(image, apart[i] if apart else None, at, doubled)
        size = pictures.size(names[i])
        if size is None:
            continue
        extra: dict[str, Any] = {
            "split": "train" if train[i] else "test", "all_people_labelled": False, **_about(image, videos, at),
        }  # fmt: skip
        if acts:
            extra |= _activity(acts[i], at)
        if not any((p.visibility > 0).any() for p in people):
            extra["is_labeled"] = False
        records.append(Record(i + 1, names[i], *size, tuple(people), extra=extra))
    pictures.report(where, warn)
    if doubled:
        first = next(iter(doubled))
        warn(f"{where}: {sum(doubled.values())} joints stand twice in one person ({first} ...); the last counts")
    return Dataset(MPII16, tuple(records), (), str(root))


def _per_picture(values: list[Any], count: int, name: str, where: str) -> list[Any]:
    if values and len(values) != count:
        raise PoseError(f"{name} has {len(values)} entries for {count} pictures", where)
    return values


def _name(image: dict[str, Any], at: str) -> str:
    inner = matlab.structs(matlab.field(image, "image", at), f"{at}, image")
    name = matlab.text(matlab.field(inner[0], "name", at), at) if inner else ""
    if not name:
        raise PoseError("no image.name", at)
    return name


def _about(image: dict[str, Any], videos: list[Any], at: str) -> dict[str, Any]:
    """The video that a picture is from and its second in it."""
    if matlab.is_empty(image.get("vididx")):
        return {}
    index = int(matlab.number(image["vididx"], f"{at}, vididx"))
    if videos and not 1 <= index <= len(videos):
        raise PoseError(f"vididx {index} of {len(videos)} videos", at)
    about: dict[str, Any] = {"recording": matlab.text(videos[index - 1], at) if videos else f"video {index}"}
    if not matlab.is_empty(image.get("frame_sec")):
        about["frame_sec"] = matlab.number(image["frame_sec"], f"{at}, frame_sec")
    return about


def _activity(act: dict[str, Any], at: str) -> dict[str, Any]:
    named = {
        key: matlab.text(act.get(field), at) for key, field in (("activity", "act_name"), ("category", "cat_name"))
    }
    return {key: name for key, name in named.items() if name}


def _people(image: dict[str, Any], apart: Any, at: str, doubled: Counter[str]) -> list[Instance]:
    rects = matlab.structs(image.get("annorect"), f"{at}, annorect")
    alone: set[int] = set()
    if apart is not None and not matlab.is_empty(apart):
        alone = {int(n) for n in np.ravel(matlab.array(np.atleast_2d(apart), (None, None), f"{at}, single_person"))}
        if not alone <= set(range(1, len(rects) + 1)):
            raise PoseError(f"single_person names person {max(alone)} of {len(rects)}", at)
    people = []
    for n, rect in enumerate(rects, 1):
        here = f"{at}, person {n}"
        xy, visibility = _joints(rect.get("annopoints"), here, doubled)
        extra = _place(rect, here)
        if apart is not None:
            extra["single_person"] = n in alone
        box = None if visibility.any() else _rough_box(extra)
        if not visibility.any() and box is None and _head_box(rect, here) is None:
            continue  # an empty entry
        people.append(
            release.person(xy, visibility, MPII16, here, box_xyxy=box, head_box_xyxy=_head_box(rect, here), extra=extra)
        )
    return people


def _joints(value: Any, at: str, doubled: Counter[str]) -> tuple[np.ndarray, np.ndarray]:
    """x, y (16, 2) counted from 0, and v (16,)."""
    xy, visibility = np.full((_COUNT, 2), np.nan), np.zeros(_COUNT, dtype=np.int64)
    outer = matlab.structs(value, f"{at}, annopoints")
    for point in matlab.structs(outer[0].get("point"), f"{at}, annopoints") if outer else ():
        number = matlab.number(matlab.field(point, "id", at), f"{at}, point id")
        if number not in range(_COUNT):
            raise PoseError(f"joint id {number:g}", at, f"0 to {_COUNT - 1}")
        joint = int(number)
        here = f"{at}, {MPII16.keypoints[joint]}"
        if visibility[joint]:
            doubled[here] += 1
        flag = point.get("is_visible")
        seen = 1.0 if matlab.is_empty(flag) else matlab.number(flag, f"{here}, is_visible")
        if seen not in (0, 1):
            raise PoseError(f"is_visible is {seen:g}", here, "0, 1 or empty")
        # MATLAB's first pixel is 1.
        xy[joint] = [matlab.number(matlab.field(point, axis, here), f"{here}, {axis}") - 1.0 for axis in ("x", "y")]
        visibility[joint] = 2 if seen else 1
    return xy, visibility


def _place(rect: dict[str, Any], at: str) -> dict[str, Any]:
    """``scale`` and ``center`` (counted from 0) where they are stated."""
    place: dict[str, Any] = {}
    if not matlab.is_empty(rect.get("scale")):
        place["scale"] = matlab.number(rect["scale"], f"{at}, scale")
    position = matlab.structs(rect.get("objpos"), f"{at}, objpos")
    if position and not matlab.is_empty(position[0].get("x")):
        place["center"] = [matlab.number(position[0].get(axis), f"{at}, objpos.{axis}") - 1.0 for axis in ("x", "y")]
    return place


def _rough_box(place: dict[str, Any]) -> np.ndarray | None:
    if place.get("scale", 0) <= 0 or "center" not in place:  # -1 stands for not known
        return None
    half = PIXELS_OF_SCALE * place["scale"] / 2
    x, y = place["center"]
    return np.array([x - half, y - half, x + half, y + half])


def _head_box(rect: dict[str, Any], at: str) -> np.ndarray | None:
    corners = [rect.get(c) for c in ("x1", "y1", "x2", "y2")]
    if any(matlab.is_empty(c) for c in corners):
        return None
    box = np.array([matlab.number(c, f"{at}, head box") for c in corners]) - 1.0
    if (box[2:] < box[:2]).any():
        raise PoseError(f"head box {(box + 1).tolist()} is not x1, y1, x2, y2", at)
    return box


# --- HRNet's JSON ---


def _read_json(path: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    where = str(path)
    rows = coco.load_json(path)
    if not isinstance(rows, list) or not rows:
        raise PoseError("no list of people", where)
    by_picture: dict[str, list[Instance]] = {}
    points = []
    for n, row in enumerate(rows, 1):
        at = f"{where}, person {n}"
        if not isinstance(row, dict) or not isinstance(row.get("image"), str) or not row["image"]:
            raise PoseError("no 'image'", at)
        person = _person(row, f"{at} ({row['image']})")
        points.append(person)
        by_picture.setdefault(row["image"], []).append(person)
    heads = _head_boxes(path, points)
    if heads is not None:
        numbered = iter(range(len(points)))
        place = {id(p): next(numbered) for p in points}
        by_picture = {name: [_with_head(p, heads[place[id(p)]]) for p in people] for name, people in by_picture.items()}
    first = next(iter(by_picture))
    pictures = release.Pictures(
        Path(options.image_root) if options.image_root is not None else image_root_of(path, first)
    )
    records = []
    for n, (name, people) in enumerate(by_picture.items(), 1):
        size = pictures.size(name)
        if size is not None:
            extra: dict[str, Any] = {"all_people_labelled": False}
            if not any(p.visibility.any() for p in people):
                extra["is_labeled"] = False
            records.append(Record(n, name, *size, tuple(people), extra=extra))
    pictures.report(where, warn)
    return Dataset(MPII16, tuple(records), (), str(pictures.root))


def _person(row: dict[str, Any], at: str) -> Instance:
    center = release.numbers(row.get("center"), (2,), "center", at) - 1.0
    scale = row.get("scale")
    if scale is None or not is_finite(scale) or not np.isfinite(center).all():
        raise PoseError(f"scale {reprlib.repr(scale)} or center is not a finite number", at)
    place: dict[str, Any] = {"scale": float(scale), "center": center.tolist()}
    xy, flags = np.full((_COUNT, 2), np.nan), np.zeros(_COUNT)
    if "joints" in row or "joints_vis" in row:  # a test file has neither
        xy = release.numbers(row.get("joints"), (_COUNT, 2), "joints", at) - 1.0
        flags = release.numbers(row.get("joints_vis"), (_COUNT,), "joints_vis", at)
    odd = np.flatnonzero(~np.isin(flags, (0, 1)))
    if len(odd):
        raise PoseError(f"joints_vis of {MPII16.keypoints[odd[0]]!r} is {flags[odd[0]]:g}", at, "0 or 1")
    visibility = np.where(flags == 1, 2, 0)
    box = None if visibility.any() else _rough_box(place)
    return release.person(xy, visibility, MPII16, at, box_xyxy=box, extra=place)


def _with_head(person: Instance, box: np.ndarray) -> Instance:
    return replace(person, head_box_xyxy=box)


def _head_boxes(path: Path, people: list[Instance]) -> np.ndarray | None:
    """(N, 4) head boxes from the ``.mat`` beside the JSON when it has as many people; None when there is none."""
    side = next((path.parent / n for n in _HEAD_FILES if (path.parent / n).is_file()), None)
    if side is None:
        return None
    value, where = matlab.read_mat(side), str(side)
    boxes = matlab.array(matlab.field(value, "headboxes_src", where), (2, 2, None), f"{where}, headboxes_src")
    if boxes.shape[2] != len(people):
        return None  # it is of another part: train.json lies in the same folder
    truth = matlab.array(matlab.field(value, "pos_gt_src", where), (_COUNT, 2, len(people)), f"{where}, pos_gt_src")
    for n, person in enumerate(people):
        labelled = person.visibility > 0
        if not np.allclose(truth[labelled, :, n] - 1.0, person.xy[labelled], atol=0.51):
            raise PoseError(f"other joints than {path.name} has for its person {n + 1}", where, "move the file away")
    return boxes.reshape(4, -1).T - 1.0
