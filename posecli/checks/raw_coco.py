"""COCO keypoint JSON read loosely: what is broken becomes a finding, what is whole goes on to the other checks."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Picture, Rows, Subject
from posecli.checks.values import LARGEST, are_numbers, is_number, is_whole
from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.formats import coco
from posecli.types import Dataset, Skeleton

_VISIBILITIES = frozenset((0.0, 1.0, 2.0))
_NO_BOX = (math.nan,) * 4


def load(
    path: str | Path, *, image_root: str | Path | None = None, skeleton: Skeleton | None = None
) -> tuple[Subject, list[Finding]]:
    """A COCO file (or the folder that holds one) as columns; PoseError when it is no COCO keypoint data set at all."""
    path = Path(path)
    if path.is_dir():
        from posecli.formats import coco_file

        path = coco_file(path)
    value = coco.load_json(path)
    if not isinstance(value, dict):
        raise PoseError("not a COCO data set", str(path), "a JSON object with images, annotations, categories")
    root: str | Path | None = image_root
    if root is None:
        names = [i["file_name"] for i in value.get("images") or () if isinstance(i, dict) and "file_name" in i]
        root = image_root_of(path, coco.with_slashes(str(names[0]))) if names else path.parent
    return _columns(value, str(path), str(root), skeleton, "coco")


def of_dataset(dataset: Dataset, path: str) -> tuple[Subject, list[Finding]]:
    """A data set that another reader made, as the COCO object that `convert` would write of it."""
    subject, findings = _columns(coco.to_json(dataset), path, dataset.root, dataset.skeleton, "other")
    # Fields that `to_json` fills in itself were not stated by anybody.
    given = [i for r in dataset.records for i in r.instances]
    # People who were found malformed have no row: a row's place is the number of its annotation.
    for row, place in enumerate(subject.places):
        if given[place].box_xyxy is None:
            subject.box_xyxy[row] = np.nan
        if given[place].area is None:
            subject.area[row] = np.nan
    return subject, [f for f in findings if f.kind != "zero-area"]


def _columns(
    value: Mapping[str, Any], path: str, root: str, skeleton: Skeleton | None, form: str
) -> tuple[Subject, list[Finding]]:
    for key in ("images", "annotations", "categories"):
        if not isinstance(value.get(key), list):
            raise PoseError(f"no list {key!r}", path, "is it a COCO keypoint data set?")
    # The categories must be whole: without the joints' names nothing can be said.
    chosen, joints = coco.person_categories(value["categories"], path, skeleton, lambda message: None)
    listed = {c["id"]: str(c.get("name", "")) for c in value["categories"]}
    findings: list[Finding] = []
    pictures, row = _pictures(value, path, findings)
    rows = Rows(joints.num_keypoints)
    seen: set[Any] = set()
    wanted = {c["id"] for c in chosen}
    for n, entry in enumerate(value["annotations"]):
        if not isinstance(entry, dict) or "image_id" not in entry:
            findings.append(Finding("malformed", path, f"annotations[{n}]", "no object with image_id", place=n))
            continue
        record = f"annotation {entry['id']}" if "id" in entry else f"annotations[{n}]"
        if "id" in entry:
            if _hashable(entry["id"]) in seen:
                findings.append(Finding("duplicate-annotation-id", path, record, "its id was used before", place=n))
            seen.add(_hashable(entry["id"]))
        image = row.get(_hashable(entry["image_id"]))
        if image is None:
            what = f"there is no image {entry['image_id']!r}"
            findings.append(Finding("annotation-without-image", path, record, what, place=n))
            continue
        category = _hashable(entry.get("category_id"))
        if category not in listed:
            what = coco.unknown_category(category, listed) if "category_id" in entry else "no category_id"
            findings.append(Finding("malformed", path, record, what, place=n))
        elif category in wanted:
            _person(entry, n, f"{record} (image {entry['image_id']})", image, path, joints, rows, findings)
    subject = Subject(path, form, joints, root, pictures, **rows.finish(), raw=value)
    return subject, findings


def _hashable(value: Any) -> Any:
    return value if isinstance(value, (int, str, float)) else repr(value)


def _pictures(value: Mapping[str, Any], path: str, findings: list[Finding]) -> tuple[list[Picture], dict[Any, int]]:
    videos = {_hashable(v.get("id")): v for v in value.get("videos") or () if isinstance(v, dict)}
    pictures: list[Picture] = []
    row: dict[Any, int] = {}
    entries: dict[Any, Any] = {}
    files: dict[tuple[str, Any], str] = {}
    for n, entry in enumerate(value["images"]):
        if not isinstance(entry, dict) or "id" not in entry or not isinstance(entry.get("file_name"), str):
            findings.append(Finding("malformed", path, f"images[{n}]", "no object with id and file_name", place=n))
            continue
        key, record, file_name = _hashable(entry["id"]), f"image {entry['id']}", coco.with_slashes(entry["file_name"])
        if key in row:
            same = entries[key] == entry
            what = "the same entry twice" if same else f"also the id of {entries[key].get('file_name')!r}"
            findings.append(Finding("duplicate-image-id", path, record, what, place=n, value=same))
            continue
        width, height = (
            int(v) if isinstance(v, float) and v.is_integer() else v for v in (entry.get("width"), entry.get("height"))
        )
        if not (is_whole(width) and is_whole(height) and width > 0 and height > 0):
            what = f"{width!r} x {height!r} is no size"
            findings.append(Finding("wrong-size", path, record, what, place=n))
            width = height = 0
        in_video = "frame_id" in entry and "video_id" in entry and _is_video(file_name)
        frame = entry.get("frame_id")
        known = _hashable(entry.get("video_id", entry.get("vid_id")))
        video = videos.get(known, {})
        name = (file_name, frame if in_video else None)
        if name in files:
            findings.append(Finding("duplicate-frame", path, record, f"{file_name} is {files[name]} too",
                                    place=n, value=False))  # fmt: skip
        files.setdefault(name, record)
        row[key], entries[key] = len(pictures), entry
        tags = video.get("tags")
        pictures.append(
            Picture(
                f"{record} ({file_name}{f', frame {frame}' if in_video else ''})",
                n, entry["id"], file_name, int(width or 0), int(height or 0),
                source=known if is_whole(frame) and known is not None else None,
                frame=int(frame or 0) if is_whole(frame) else 0, in_video=in_video,
                fps=float(video["fps"]) if is_number(video.get("fps")) and video["fps"] > 0 else None,
                tags=tuple(map(str, tags)) if isinstance(tags, list) else (),
                recording=str(entry.get("recording") or video.get("recording") or ""),
            )
        )  # fmt: skip
    return pictures, row


def _is_video(name: str) -> bool:
    from posecli.video import VIDEO_SUFFIXES

    return Path(name).suffix.lower() in VIDEO_SUFFIXES


def _numbers(value: Any, count: int) -> np.ndarray | None:
    """(count,) float64, or None when it is no list of that many numbers."""
    return np.array(value, np.float64) if are_numbers(value, count) else None


def _person(
    entry: Mapping[str, Any], place: int, record: str, image: int, path: str, joints: Skeleton, rows: Rows,
    findings: list[Finding],
) -> None:  # fmt: skip
    def found(kind: str, what: str, value: Any = None) -> None:
        findings.append(Finding(kind, path, record, what, place=place, value=value))

    count = joints.num_keypoints
    flat = entry.get("keypoints")
    points = np.zeros(3 * count) if flat is None or flat == [] else _numbers(flat, 3 * count)
    if points is None:
        size = f"{len(flat)} values" if isinstance(flat, list) else "no list"
        found("malformed", f"keypoints: {size} where {count} x, y, v are wanted")
        return
    points = points.reshape(count, 3)
    seen = points[:, 2].tolist()
    if not _VISIBILITIES.issuperset(seen):
        odd = ~np.isin(points[:, 2], (0, 1, 2))
        names = ", ".join(f"{joints.keypoints[k]} {points[k, 2]:g}" for k in np.flatnonzero(odd)[:3])
        found("odd-visibility", names)
        points[:, 2] = np.where(odd, (points[:, 2] > 0) * 1.0, points[:, 2])
    stated = sum(v > 0 for v in points[:, 2].tolist())
    known = np.abs(points[:, :2]) < LARGEST
    if not known.all() and (broken := (points[:, 2] > 0) & ~known.all(axis=1)).any():
        found("non-finite", ", ".join(joints.keypoints[k] for k in np.flatnonzero(broken)), "joints")
        points[broken, 2] = 0
    if entry.get("num_keypoints", stated) != stated:
        found("wrong-count", f"num_keypoints {entry['num_keypoints']!r}, labelled {stated}")
    box = _box(entry.get("bbox"), found)
    area = entry.get("area")
    if area is not None and not is_number(area):
        found("non-finite" if isinstance(area, float) else "malformed", f"area {area!r}", "area")
        area = None
    labelled = sum(v > 0 for v in points[:, 2].tolist())
    if area is not None and area <= 0 and (labelled > 1 or box is not None):
        found("zero-area", f"area {area:g}")
    if not labelled and not stated and box is None:
        found("empty-annotation", "no joint, no box")
    track = entry.get("track_id")
    if track is not None and not is_whole(track):
        found("malformed", f"track_id {track!r} is no whole number")
        track = None
    head, scores = entry.get("head_box"), entry.get("keypoint_scores")
    if head not in (None, []) and not (are_numbers(head, 4) and np.isfinite(head).all() and min(head[2:]) >= 0):
        found("malformed", f"head_box {head!r} is not x, y, width, height")
    if scores is not None and not (are_numbers(scores, count) and np.isfinite(scores).all()):
        found("malformed", f"keypoint_scores {reprlib.repr(scores)} are not {count} numbers")
        scores = None
    rows.add(
        frame=image, xy=points[:, :2], visibility=points[:, 2], score=(1.0,) * count if scores is None else scores,
        person_score=1.0, heat=np.nan, box_xyxy=_NO_BOX if box is None else box,
        area=np.nan if area is None or area <= 0 else area, crowd=bool(entry.get("iscrowd") or entry.get("ignore")),
        track=-1 if track is None or track < 0 else track, records=record, places=place,
    )  # fmt: skip


def _box(value: Any, found: Any) -> tuple[float, ...] | None:
    """x1, y1, x2, y2; None where it is missing, broken or has no extent."""
    if value is None or value == []:
        return None
    if not are_numbers(value, 4):
        found("malformed", f"bbox {value!r} is not x, y, width, height")
        return None
    x, y, width, height = map(float, value)
    if not all(map(math.isfinite, (x, y, width, height))):
        found("non-finite", f"bbox {value}", "box")
        return None
    if width < 0 or height < 0:
        found("negative-box", f"bbox {value}")
        return None
    return (x, y, x + width, y + height) if width or height else None
