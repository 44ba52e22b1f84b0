"""Data sets changed as a whole: joined, given another joint set, thinned, split by recording, counted.

Every function gives a new `Dataset`; people who lose something (joints their new skeleton lacks) are never changed
without the caller being able to say so.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.exports import export_dataset, export_stream
from posecli.formats.coco import absent_files
from posecli.formats.joint_mapping import SkeletonChange, describe_change, joint_mapping
from posecli.formats.side_notes import is_video_frame
from posecli.types import Dataset, Record, Skeleton, Video

__all__ = [
    "SkeletonChange",
    "describe_change",
    "drop_empty",
    "export_dataset",
    "export_stream",
    "merge",
    "own_splits",
    "parse_shares",
    "recording_names",
    "split",
    "summarise",
    "thin",
    "to_skeleton",
]  # fmt: skip
Warn = Callable[[str], None]


def _silent(message: str) -> None:
    """For callers that have nobody to tell."""


def to_skeleton(dataset: Dataset, target: Skeleton, *, derive: bool = True) -> tuple[Dataset, SkeletonChange]:
    """The data set with the joints of ``target``, by the rules of `posecli.formats.joint_mapping`: joints meet as
    points, never by position; midpoints (pelvis, neck, ...) are derived from their parents unless ``derive`` is false.

    Visibility, scores and all else stay; joints the source lacks get visibility 0. PoseError when no joint is shared.
    """
    mapping = joint_mapping(dataset.skeleton, target, derive=derive, where=dataset.root)
    records = tuple(
        replace(r, instances=tuple(mapping.apply(i, missing_score=1.0) for i in r.instances)) for r in dataset.records
    )
    return replace(dataset, skeleton=target, records=records), mapping.change


def merge(
    datasets: Sequence[Dataset],
    skeleton: Skeleton | None = None,
    *,
    derive: bool = True,
    told: Callable[[str, SkeletonChange], None] | None = None,
) -> Dataset:
    """Several data sets as one.

    Video ids are counted anew; image ids are kept when all are different, else counted from 1; annotation ids are
    counted from 1. File names become relative to the folder all have in common. Each image says where it is from:
    ``source`` (the folder) and ``source_skeleton``, so that training can tell a joint that is not labelled from one
    that this source never labels. Licences are joined, and images keep pointing at theirs (``source_license`` where
    the source does not list it).

    Args:
        datasets: one or more.
        skeleton: the joint set of the result; None: all must have the same.
        derive: whether midpoints stand in for joints a source lacks.
        told: given each source's folder and its change of joint set.

    Raises:
        PoseError: the skeletons differ and none is asked for.
    """
    if not datasets:
        raise PoseError("nothing to merge")
    if skeleton is None:
        skeleton = datasets[0].skeleton
        for dataset in datasets[1:]:
            if dataset.skeleton != skeleton:
                what = f"{dataset.root} has skeleton {dataset.skeleton.name}, {datasets[0].root} {skeleton.name}"
                raise PoseError(what, hint="choose one joint set with --to-skeleton")
    if len(datasets) == 1 and datasets[0].skeleton == skeleton:
        return datasets[0]
    root = os.path.commonpath([os.path.abspath(d.root) for d in datasets])
    ids = [r.image_id for d in datasets for r in d.records]
    keep_ids = len(set(ids)) == len(ids)
    videos: list[Video] = []
    records: list[Record] = []
    licences: list[Any] = []
    for dataset in datasets:
        source, names = dataset.skeleton.name, dataset.root
        if dataset.skeleton != skeleton:
            dataset, change = to_skeleton(dataset, skeleton, derive=derive)
            if told is not None:
                told(names, change)
        prefix = Path(os.path.relpath(dataset.root or ".", root)).as_posix()
        filmed = [*dataset.videos, *unlisted_videos(dataset, _folder_name(names))]
        renumbered = {v.id: len(videos) + n for n, v in enumerate(filmed, 1)}
        videos += [replace(v, id=renumbered[v.id], file_name=_joined(prefix, v.file_name)) for v in filmed]
        licence_ids = _join_licences(dataset, licences)
        for record in dataset.records:
            extra = {**record.extra, "source": _folder_name(names), "source_skeleton": source}
            if "license" in extra and extra["license"] in licence_ids:
                extra["license"] = licence_ids[extra["license"]]
            elif "license" in extra:  # its source lists no such licence: another source's must not be taken for it
                extra["source_license"] = extra.pop("license")
            people = tuple(replace(i, extra={k: v for k, v in i.extra.items() if k != "id"}) for i in record.instances)
            records.append(
                replace(
                    record, image_id=record.image_id if keep_ids else len(records) + 1,
                    file_name=_joined(prefix, record.file_name), instances=people, extra=extra,
                    video_id=None if record.video_id is None else renumbered[record.video_id],
                )
            )  # fmt: skip
    info: dict[str, Any] = {"info": {"description": f"{len(datasets)} data sets joined by posecli"}}
    if licences:
        info["licenses"] = licences
    return Dataset(skeleton, tuple(records), tuple(videos), root, info)


def unlisted_videos(dataset: Dataset, folder: str = "") -> list[Video]:
    """Entries for the videos that images say they are of and that the data set does not list, named by ``folder`` and
    their number: among those of other sources a bare number would mean another one's video, or none."""
    listed = {v.id for v in dataset.videos}
    frames: dict[Any, list[Record]] = {}
    for record in dataset.records:
        if record.video_id is not None and record.video_id not in listed:
            frames.setdefault(record.video_id, []).append(record)
    return [
        Video(
            number, f"{folder} video {number}".lstrip(), of[0].file_name if is_video_frame(of[0]) else "", of[0].width,
            of[0].height, 0.0, max(r.frame_id or 0 for r in of) + 1,
        )
        for number, of in frames.items()
    ]  # fmt: skip


def repeated_frames(dataset: Dataset) -> int:
    """How many images are a picture, or a frame of a video, that an image before them is already."""
    seen = {(r.file_name, r.frame_id) for r in dataset.records}
    return len(dataset.records) - len(seen)


def _folder_name(root: str) -> str:
    """What a data set's folder is called; ``images`` says nothing, the folder above does."""
    path = Path(root).resolve()
    return path.parent.name if path.name.lower() in ("images", "img", "frames") else path.name


def _joined(prefix: str, name: str) -> str:
    return name if not name or prefix == "." or os.path.isabs(name) else f"{prefix}/{name}"


def _join_licences(dataset: Dataset, licences: list[Any]) -> dict[Any, int]:
    """Adds the data set's licences that are new; old id to new."""
    ids = {}
    for entry in dataset.info.get("licenses") or ():
        if not isinstance(entry, dict):
            continue
        same = next((x for x in licences if all(x.get(k) == entry.get(k) for k in ("name", "url"))), None)
        if same is None:
            same = {**entry, "id": len(licences) + 1}
            licences.append(same)
        ids[entry.get("id")] = same["id"]
    return ids


def thin(dataset: Dataset, every: int) -> Dataset:
    """Every ``every``-th frame of each video (frames 0, every, ...); of pictures every ``every``-th in file order."""
    if every < 1:
        raise UsageError(f"--every {every}", hint="1 or more")
    records, pictures = [], 0
    for record in dataset.records:
        place = record.frame_id
        if place is None:
            place, pictures = pictures, pictures + 1
        if place % every == 0:
            records.append(record)
    return replace(dataset, records=tuple(records))


def drop_empty(dataset: Dataset) -> tuple[Dataset, int]:
    """Without the images in which nobody has a labelled joint, and how many these were."""
    kept = tuple(r for r in dataset.records if any((i.visibility > 0).any() for i in r.instances))
    return replace(dataset, records=kept), len(dataset.records) - len(kept)


def recording_names(dataset: Dataset) -> list[str]:
    """The recording each record belongs to: its video's ``recording`` (all cameras of one scene have the same) or
    name; for pictures what ``recording`` or ``vid_id`` among their extra keys says, else the picture itself."""
    videos = {v.id: str(v.extra.get("recording") or v.name or v.file_name) for v in dataset.videos}
    names = []
    for record in dataset.records:
        stated = record.extra.get("recording", record.extra.get("vid_id"))
        if record.video_id is not None:
            names.append(videos.get(record.video_id, f"video {record.video_id}"))
        else:
            names.append(record.file_name if stated is None else str(stated))
    return names


def parse_shares(text: str) -> dict[str, float]:
    """``"train=0.8,val=0.2"`` as a dict; UsageError unless names differ and the shares are positive and add to 1."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            raise UsageError(f"--split {part!r}", hint="like train=0.8,val=0.2") from None
        if not _is_part_name(name) or name in shares or not value > 0:
            raise UsageError(f"--split {part!r}", hint="different names with shares above 0, like train=0.8,val=0.2")
        shares[name] = value
    if abs(sum(shares.values()) - 1) > 1e-6:
        raise UsageError(f"--split: the shares add to {sum(shares.values()):g}", hint="they must add to 1")
    return shares


def split(dataset: Dataset, shares: Mapping[str, float], *, warn: Warn = _silent) -> dict[str, Dataset]:
    """Splits by recording: all frames and all cameras of one recording stay together.

    A recording's place is the SHA-256 of its name as a fraction of 1, compared with the shares: adding recordings
    never moves the others. Only when a part would stay empty is the recording next to it moved there (said by
    ``warn``), which can happen with few recordings.

    Raises:
        PoseError: fewer recordings than parts.
    """
    names = recording_names(dataset)
    place = {n: int.from_bytes(hashlib.sha256(n.encode()).digest()[:8], "big") / 2**64 for n in set(names)}
    if len(place) < len(shares):
        what = f"{len(place)} recordings cannot be split into {len(shares)} parts"
        raise PoseError(what, dataset.root, "frames of one recording are too much alike to be on both sides")
    parts = list(shares)
    ends = np.cumsum([shares[p] for p in parts])
    of = {n: parts[min(int(np.searchsorted(ends, x, side="right")), len(parts) - 1)] for n, x in place.items()}
    for part, end in zip(parts, ends, strict=True):
        counts = Counter(of.values())
        if counts[part]:
            continue
        middle = end - shares[part] / 2
        spare = [n for n in place if counts[of[n]] > 1]
        nearest = min(spare, key=lambda n: (abs(place[n] - middle), n))
        warn(f"no recording falls into {part!r}: {nearest!r} is moved there from {of[nearest]!r}")
        of[nearest] = part
    result = {}
    for part in parts:
        records = tuple(r for r, n in zip(dataset.records, names, strict=True) if of[n] == part)
        used = {r.video_id for r in records}
        result[part] = replace(dataset, records=records, videos=tuple(v for v in dataset.videos if v.id in used))
    return result


def own_splits(dataset: Dataset) -> dict[str, Dataset]:
    """The parts that the data set says itself (``split`` of a picture or a video: YOLO, MPII, FLIC, Penn Action).

    Raises:
        PoseError: a picture of which nothing is said, or a split whose name is no plain word.
    """
    of_video: dict[int | None, Any] = {v.id: v.extra.get("split") for v in dataset.videos}
    names = [r.extra.get("split", of_video.get(r.video_id)) for r in dataset.records]
    for record, name in zip(dataset.records, names, strict=True):
        if not isinstance(name, str) or not _is_part_name(name):
            what = "nothing says which split it is of" if name is None else f"split {name!r} is no name"
            raise PoseError(
                what, f"{dataset.root}, {record.file_name}", "--split train=0.8,val=0.2 splits by recording"
            )
    result = {}
    for part in dict.fromkeys(str(n) for n in names):
        records = tuple(r for r, n in zip(dataset.records, names, strict=True) if n == part)
        used = {r.video_id for r in records}
        result[part] = replace(dataset, records=records, videos=tuple(v for v in dataset.videos if v.id in used))
    return result


def _is_part_name(name: str) -> bool:
    return name.replace("-", "").replace("_", "").isalnum()


def summarise(dataset: Dataset) -> dict[str, Any]:
    """What a data set holds, as plain numbers: the table at the end of `convert` and its ``--json``."""
    people = [i for r in dataset.records for i in r.instances]
    count = dataset.skeleton.num_keypoints
    visibility = np.array([i.visibility for i in people]).reshape(len(people), count)
    labelled = (visibility > 0).sum(axis=1)
    videos = {v.id: v for v in dataset.videos}
    tags: Counter[str] = Counter()
    for record in dataset.records:
        if record.video_id in videos:
            tags.update(videos[record.video_id].tags)
    absent = absent_files(dataset)
    tracks = {(r.video_id, i.track_id) for r in dataset.records for i in r.instances if i.track_id is not None}
    return {
        "skeleton": dataset.skeleton.name,
        "videos": len(dataset.videos),
        "recordings": len(set(recording_names(dataset))),
        "images": len(dataset.records),
        "images_without_people": sum(not r.instances for r in dataset.records),
        "images_not_labelled": sum(r.extra.get("is_labeled") is False for r in dataset.records),
        "files_absent": len(absent),
        "people": len(people),
        "people_without_joints": int((labelled == 0).sum()),
        "crowds": sum(i.ignore for i in people),
        "boxes": sum(i.box_xyxy is not None for i in people),
        "head_boxes": sum(i.head_box_xyxy is not None for i in people),
        "tracks": len(tracks),
        "people_by_labelled_joints": {k: int((labelled == k).sum()) for k in range(count + 1) if (labelled == k).any()},
        "joints": {
            name: {"visible": int((visibility[:, k] == 2).sum()), "hidden": int((visibility[:, k] == 1).sum())}
            for k, name in enumerate(dataset.skeleton.keypoints)
        },
        "tags": dict(sorted(tags.items())),
    }
