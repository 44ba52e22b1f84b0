"""AI Challenger human keypoints: the release's own JSON, and the COCO-style files made of it. Their codes differ.

Source: J. Wu et al., "Large-Scale Datasets for Going Deeper in Image Understanding", ICME 2019 (arXiv:1711.06475):
``keypoint_train_annotations_20170909.json`` beside ``keypoint_train_images_20170902/``. 14 joints (`aic14`).

**The release** is a list of ``{"image_id": "<hash>", "url", "keypoint_annotations": {"human1": [x, y, v, ...]},
"human_annotations": {"human1": [x1, y1, x2, y2]}}``; the picture is ``<hash>.jpg``. Its v is 1 visible, 2 hidden,
3 not in the picture; in our terms 2, 1, 0. A 0 is not part of it and is an error: such a file has COCO's codes.

**COCO style** (``images``, ``annotations``, ``categories``, as mmpose ships it) has COCO's codes 0, 1, 2. A 3 there
means that somebody changed the layout without the codes, and is an error too: 1 and 2 would silently trade places.

Which of the two a file is, its layout says; the codes are then checked against it. Coordinates count from 0. Neither
has an area; 0.53 of the person box is taken, as those do who evaluate on the set with COCO's tools.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats import coco, release
from posecli.skeletons import AIC14
from posecli.types import Dataset, Instance, Record

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

AREA_OF_BOX = 0.53
_OURS = np.array([-1, 2, 1, 0])  # by the release's code
_RAW = ("keypoint_annotations", "image_id")


def _is_raw(path: Path) -> bool:
    return release.starts_with(path, b"[") and release.mentions(path, _RAW)


def _is_coco_style(path: Path) -> bool:
    if not release.mentions(path, release.COCO_KEYS, ("posecli",)) or not release.starts_with(path, b"{"):
        return False
    # The words are cheap to look for; that it is this order of joints takes parsing to see.
    if not (release.mentions(path, ("Head top", "Neck")) or release.mentions(path, ("head_top", "neck"))):
        return False
    value = coco.load_json(path)
    names = [c.get("keypoints") for c in value.get("categories", ()) if isinstance(c, dict)]
    return any(isinstance(n, list) and _spelled(n) == AIC14.keypoints for n in names)


def _spelled(names: list[Any]) -> tuple[str, ...]:
    return tuple(str(n).strip().lower().replace(" ", "_").replace("-", "_") for n in names)


def _files(src: Path) -> list[Path]:
    return [p for p in release.json_files(src) if _is_raw(p) or _is_coco_style(p)]


def recognise(src: Path) -> str | None:
    """Why ``src`` is AI Challenger, or None; says which of the two layouts."""
    files = _files(src)
    if not files:
        return None
    if _is_raw(files[0]):
        return release.describe(src, files, "keypoint_annotations: the release, v 1 visible, 2 hidden, 3 absent")
    return release.describe(src, files, "AI Challenger's joints in COCO style, v as in COCO")


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads either layout: a JSON, or a folder with one.

    The release's people have ``human`` (``"human1"``) among their extra keys, pictures their ``url``. Pictures that
    are not there are left out of the release (it does not state their sizes) and counted.

    Raises:
        PoseError: several files or none, a code of the other layout, 14 joints or a box missing, a coordinate that is
            not finite; file and record named.
    """
    path = release.only(src, _files(src) or ([src] if src.is_file() else []), "AI Challenger")
    if release.starts_with(path, b"["):
        return _read_release(path, options, warn)
    return _read_coco_style(path, options, warn)


def _read_coco_style(path: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    value = coco.load_json(path)
    for i, entry in enumerate(release.entries(value, "annotations", str(path))):
        points = entry.get("keypoints")
        if isinstance(points, list) and 3 in points[2::3]:
            hint = "3 is the release's code: convert the release itself, its 1 and 2 mean COCO's 2 and 1"
            joint = AIC14.keypoints[points[2::3].index(3) % AIC14.num_keypoints]
            raise PoseError(f"v of {joint!r} is 3", f"{path}, annotation {entry.get('id', i)}", hint)
        box = entry.get("bbox")
        if entry.get("area") is None and isinstance(box, list) and len(box) == 4:
            sizes = [float(b) for b in box[2:] if is_finite(b) and b >= 0]
            if len(sizes) == 2:
                entry["area"] = AREA_OF_BOX * sizes[0] * sizes[1]
    return release.coco_dataset(value, path, AIC14, options.image_root, warn)


def _read_release(path: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    images = coco.load_json(path)
    where = str(path)
    if not isinstance(images, list) or not images:
        raise PoseError("no list of pictures", where)
    names = []
    for i, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("image_id"), str) or not image["image_id"]:
            raise PoseError("no 'image_id'", f"{where}, picture {i}")
        names.append(f"{image['image_id']}.jpg")
    pictures = release.Pictures(_root(path, names[0]) if options.image_root is None else options.image_root)
    records, seen = [], set()
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        at = f"{where}, picture {image['image_id']}"
        if name in seen:
            raise PoseError("the picture stands twice", at)
        seen.add(name)
        people = _people(image, at)
        size = pictures.size(name)
        if size is not None:
            extra = {"url": image["url"]} if "url" in image else {}
            records.append(Record(i + 1, name, *size, tuple(people), extra=extra))
    pictures.report(where, warn)
    return Dataset(AIC14, tuple(records), (), str(pictures.root))


def _root(path: Path, first: str) -> Path:
    """The pictures' folder: the JSON's own, ``images/``, or a neighbour like ``keypoint_train_images_20170902``."""
    near = [path.parent, path.parent / "images", path.parent.parent / "images"]
    near += sorted(path.parent.glob("keypoint_*images*")) + sorted(path.parent.parent.glob("keypoint_*images*"))
    return next((f for f in near if (f / first).exists()), path.parent)


def _people(image: dict[str, Any], at: str) -> list[Instance]:
    points, boxes = image.get("keypoint_annotations"), image.get("human_annotations") or {}
    if not isinstance(points, dict) or not isinstance(boxes, dict):
        raise PoseError("no 'keypoint_annotations' by person", at)
    if extra := sorted(set(boxes) - set(points)):
        raise PoseError(f"a box but no joints of {extra[0]!r}", at)
    people = []
    for human, flat in points.items():
        here = f"{at}, {human}"
        if isinstance(flat, list) and len(flat) != 3 * AIC14.num_keypoints:
            raise PoseError(f"{len(flat) / 3:g} joints, not {AIC14.num_keypoints}", here)
        found = release.numbers(flat, (3 * AIC14.num_keypoints,), "keypoint_annotations", here).reshape(-1, 3)
        codes = found[:, 2]
        odd = np.flatnonzero(~np.isin(codes, (1, 2, 3)))
        if len(odd):
            hint = "the release has 1, 2 and 3; 0 is COCO's"
            raise PoseError(f"v of {AIC14.keypoints[odd[0]]!r} is {codes[odd[0]]:g}", here, hint)
        box = area = None
        if human in boxes:
            box = release.numbers(boxes[human], (4,), "human_annotations", here)
            if not np.isfinite(box).all() or (box[2:] < box[:2]).any():
                raise PoseError(f"box {boxes[human]} is not x1, y1, x2, y2", here)
            area = AREA_OF_BOX * float(np.prod(box[2:] - box[:2]))
        visibility = _OURS[codes.astype(np.int64)]
        extra_keys = {"human": human}
        people.append(release.person(found[:, :2], visibility, AIC14, here, box_xyxy=box, area=area, extra=extra_keys))
    return people
