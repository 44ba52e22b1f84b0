"""Writing COCO keypoint JSON; `posecli.formats.coco` tells the layout and reads it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import json_text, replace_when_done
from posecli.masks import mask_area
from posecli.types import Dataset, Instance, Record, Skeleton, Video

# OKS area of a person without a mask: 0.53 of the joint box, as CrowdPose and AI Challenger do.
AREA_OF_BOX = 0.53
_CATEGORY = {"id": 1, "name": "person", "supercategory": "person"}
_FAR = 2.0**53  # as the reader has it
# Further keys of other tools that would be read as ours: what is ours is written from the person itself.
_OURS = frozenset(("id", "iscrowd", "track_id", "head_box", "keypoint_scores"))


def write(dataset: Dataset, path: str | Path, *, overwrite: bool = True) -> None:
    """Writes the data set as COCO keypoint JSON that pycocotools loads; complete or not at all.

    File names are written relative to the JSON's folder (they are kept as they are when the data set has no ``root``).
    """
    path = Path(path)
    here = os.path.abspath(path.parent)
    value = to_json(moved(dataset, here))
    with replace_when_done(path, overwrite=overwrite) as part, open(part, "w", encoding="utf-8") as handle:
        # dumps is several times faster than dump: it takes the C encoder.
        handle.write(json_text(value, path, separators=(",", ":")))
        handle.write("\n")


def moved(dataset: Dataset, folder: str | Path) -> Dataset:
    """The data set with file names relative to ``folder``; as it is when it has no ``root``."""
    if not dataset.root:
        return dataset
    root, folder = os.path.abspath(dataset.root), os.path.abspath(folder)
    if root == folder:
        return dataset
    relative = Path(os.path.relpath(root, folder)).as_posix()

    def name(file_name: str) -> str:
        if not file_name or os.path.isabs(file_name) or "://" in file_name:
            return file_name
        if file_name.startswith(".."):  # it may lie below the new folder; such a name would not survive a move of it
            return os.path.relpath(os.path.join(root, file_name), folder).replace(os.sep, "/")
        return os.path.normpath(f"{relative}/{file_name}").replace(os.sep, "/")

    return replace(
        dataset,
        records=tuple(replace(r, file_name=name(r.file_name)) for r in dataset.records),
        videos=tuple(replace(v, file_name=name(v.file_name)) for v in dataset.videos),
        root=folder,
    )


def to_json(dataset: Dataset) -> dict[str, Any]:
    """The COCO object of a data set, plain values only.

    Every annotation gets ``bbox`` (its joint box where the source has none, zeros without joints) and ``area`` (else
    that of its mask, else 0.53 of the joint box; ``info["posecli"]["area_from_joint_box"]`` counts the last).
    Annotation ids are kept when all are unique and positive (pycocotools takes 0 for "unmatched"), else counted from 1.
    An ``info`` that is text becomes its ``description``, any other that is no object its ``info``. Further keys never
    take the place of COCO's own.

    Raises:
        PoseError: naming picture and person, for what the reader would refuse: a negative or endless box or area, a
            coordinate or track id beyond 2^53.
    """
    people = [(record, instance) for record in dataset.records for instance in record.instances]
    ids: list[Any] = [i.extra.get("id") for _, i in people]
    if not all(isinstance(i, int) and i > 0 for i in ids) or len(set(ids)) < len(ids):
        ids = list(range(1, len(people) + 1))
    masked = [i.area is None and "segmentation" in i.extra for _, i in people]
    people = [(r, replace(i, area=_mask_area(r, i)) if m else i) for (r, i), m in zip(people, masked, strict=True)]
    filled = sum(i.area is None for _, i in people)
    rest = dict(dataset.info)
    info = _info(rest.pop("info", None))
    known = info.get("posecli")
    block = dict(known) if isinstance(known, Mapping) else {}
    if filled:
        before = block.get("area_from_joint_box")
        block["area_from_joint_box"] = (before if isinstance(before, int) else 0) + filled
    if block:
        info["posecli"] = block
    category = category_json(dataset.skeleton, next(iter(rest.pop("categories", ())), None))
    value: dict[str, Any] = {"info": info, **rest}
    if dataset.videos:
        value["videos"] = [_video_json(v) for v in dataset.videos]
    value["images"] = [_image_json(r) for r in dataset.records]
    value["annotations"] = [_annotation_json(r, i, n, category["id"]) for (r, i), n in zip(people, ids, strict=True)]
    value["categories"] = [category]
    return value


def _info(value: Any) -> dict[str, Any]:
    """COCO's ``info`` as the object that it has to be; labelme2coco, for one, writes a text."""
    if isinstance(value, Mapping):
        return dict(value)
    return {"description" if isinstance(value, str) else "info": value} if value else {}


def own_category(category: Mapping[str, Any]) -> dict[str, Any]:
    """What of a category is not about its joints; empty where it says no more than ``person`` and id 1."""
    own = {k: v for k, v in category.items() if k not in ("keypoints", "skeleton", "posecli")}
    return own if any(_CATEGORY.get(k) != v for k, v in own.items()) else {}


def category_json(skeleton: Skeleton, own: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The category entry that carries a skeleton (edges counted from 1, as COCO does), with the id, name and further
    keys of `own_category`."""
    block = {k: v for k, v in skeleton.to_json().items() if k not in ("keypoints", "edges") and v}
    return {
        **_CATEGORY,
        **own_category(own or {}),
        "keypoints": list(skeleton.keypoints),
        "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges],
        "posecli": {"sigmas": [], "flip_pairs": [], **block},
    }


def _video_json(video: Video) -> dict[str, Any]:
    value: dict[str, Any] = {
        "id": video.id,
        "name": video.name,
        "file_name": video.file_name,
        "width": video.width,
        "height": video.height,
        "fps": video.fps,
        "num_frames": video.num_frames,
        "tags": list(video.tags),
    }
    return value | {k: v for k, v in video.extra.items() if k not in value}


def _image_json(record: Record) -> dict[str, Any]:
    value = {"id": record.image_id, "file_name": record.file_name, "width": record.width, "height": record.height}
    if record.video_id is not None:
        value["video_id"] = record.video_id
        if record.frame_id is not None:
            value["frame_id"] = record.frame_id
    return value | {k: v for k, v in record.extra.items() if k not in value}


def _mask_area(record: Record, instance: Instance) -> float | None:
    """Pixels of the person's mask; None for none, and for one that cannot be read (it is kept as it is)."""
    if not instance.extra.get("segmentation"):
        return None
    try:
        return mask_area(instance.extra["segmentation"], record.width, record.height) or None
    except PoseError:
        return None


def _annotation_json(record: Record, instance: Instance, annotation_id: int, category_id: Any) -> dict[str, Any]:
    box, area = instance.box_xyxy, instance.area
    joints = joint_box(instance.xy, instance.visibility) if box is None or area is None else None
    if area is None:
        with np.errstate(all="ignore"):  # what is not finite is refused below
            area = 0.0 if joints is None else AREA_OF_BOX * float((joints[2] - joints[0]) * (joints[3] - joints[1]))
    value: dict[str, Any] = {
        "id": annotation_id,
        "image_id": record.image_id,
        "category_id": category_id,
        "keypoints": _keypoints_json(instance),
        "num_keypoints": int(np.count_nonzero(instance.visibility)),
        "bbox": xywh_json(joints if box is None else box),
        "area": _number(area),
        "iscrowd": int(bool(instance.extra.get("iscrowd", instance.ignore and not instance.extra.get("ignore")))),
    }
    if instance.track_id is not None:
        value["track_id"] = int(instance.track_id)
    if instance.head_box_xyxy is not None:
        value["head_box"] = xywh_json(instance.head_box_xyxy)
    if (instance.score[instance.visibility > 0] != 1).any():  # joints that are missing may have 0: it says nothing
        value["keypoint_scores"] = [round(s, 4) for s in instance.score.tolist()]
    if instance.person_score != 1:
        value["score"] = float(instance.person_score)
    if instance.heat is not None:
        value["heat"] = float(instance.heat)
    value.update((k, v) for k, v in instance.extra.items() if k not in _OURS and k not in value)
    if value.get("ignore") not in (None, 0, 1):  # of another tool; the reader takes it for a flag
        del value["ignore"]
    _refuse_unreadable(value, record, instance)
    return value


def _refuse_unreadable(value: Mapping[str, Any], record: Record, instance: Instance) -> None:
    """PoseError, naming the person, where the reader would refuse the annotation."""
    odd = ""
    for name in ("bbox", "head_box"):
        box = value.get(name)
        if box is not None and not (all(-_FAR < v < _FAR for v in box) and box[2] >= 0 and box[3] >= 0):
            odd = f"{name} {box} is not x, y, width, height of a box"
    if not 0 <= value["area"] < _FAR**2:
        odd = f"area {value['area']} is not a number of pixels"
    if not -_FAR < value.get("track_id", 0) < _FAR:
        odd = f"track_id {value['track_id']} is beyond 2^53"
    if not all(-_FAR < v < _FAR for v in value["keypoints"]):
        odd = "a coordinate is not finite or beyond 2^53"
    if odd:
        number = next(n for n, person in enumerate(record.instances, 1) if _same(person, instance))
        raise PoseError(odd, f"image {record.image_id!r} ({record.file_name}), person {number}")


def _same(person: Instance, written: Instance) -> bool:
    """Whether a person is the one that is written, who may have got an area since."""
    return person.xy is written.xy and person.extra is written.extra


def _keypoints_json(instance: Instance) -> list[float]:
    # float32 coordinates carry about 7 digits: 4 decimals bring back 110.2 instead of 110.19999694824219.
    xy = instance.xy
    if xy.dtype == np.float32:
        xy = xy.astype(np.float64).round(4)
    flat: list[float] = []
    for (x, y), v in zip(xy.tolist(), instance.visibility.tolist(), strict=True):
        flat += (_number(x), _number(y), int(v)) if v else (0, 0, 0)
    return flat


def _number(value: float) -> float:
    """An integer where nothing is lost (shorter files, and what COCO itself writes)."""
    value = float(value)
    return int(value) if value.is_integer() else value


def xywh_json(box_xyxy: np.ndarray | None) -> list[float]:
    """``[x, y, width, height]`` as plain numbers of at most 6 decimals; zeros for None."""
    if box_xyxy is None:
        return [0, 0, 0, 0]
    x1, y1, x2, y2 = map(float, box_xyxy)
    return [_number(round(v, 6)) for v in (x1, y1, x2 - x1, y2 - y1)]


def joint_box(xy: np.ndarray, visibility: np.ndarray) -> np.ndarray | None:
    """(4,) x1, y1, x2, y2 around the labelled joints; None without any."""
    points = xy[visibility > 0]
    if not len(points):
        return None
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float64)
