"""Pose streams in the forms of others: COCO results, CSV tables, OpenPose folders; all read and written frame by frame.

COCO results: a JSON list of ``{"image_id", "category_id": 1, "keypoints": [x, y, score, ...], "score"}``, 0, 0, 0 for a
joint not found (https://cocodataset.org/#format-results); people without any joint are left out. ``track_id`` is added
where there is one. CSV long has one row a joint, ``source,frame,time,person,joint,x,y,score,person_score``; wide one
row a person with ``<joint>_x, <joint>_y, <joint>_score``; the table of one video is read back as its labels by
``posecli convert``. ``source`` is the video, or the picture's own name.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.formats.openpose import frame_json, frame_name
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.skeletons import match_joints
from posecli.types import Dataset, Instance, Record, Skeleton

Frames = Iterable[tuple[StreamHeader, FramePoses]]
Warn = Callable[[str], None]


def _silent(message: str) -> None:
    """For callers that have nobody to tell."""


def export_stream(
    source: str | Path | IO[str] | Frames,
    out: str | Path,
    kind: str = "coco",
    *,
    to_skeleton: Skeleton | None = None,
    overwrite: bool = False,
    warn: Warn = _silent,
) -> int:
    """Writes a pose stream in another form, complete or not at all; returns the number of people written.

    Args:
        source: path of a stream, ``"-"``, an open text file, or frames with their headers.
        out: the file (``coco``, ``csv``, ``csv-wide``, ``stream``) or folder (``openpose``).
        kind: one of `KINDS`.
        to_skeleton: another joint set; joints meet by name, those the stream lacks are not found.
        overwrite: ``out`` may be replaced.
        warn: takes one sentence for each thing worth knowing (image ids that had to be counted).

    Raises:
        PoseError: what the stream's reader finds wrong, or the output exists. UsageError: unknown kind.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown form {kind!r}", hint=f"one of {', '.join(KINDS)}")
    frames = read_stream(source) if isinstance(source, str | Path) or hasattr(source, "read") else source  # type: ignore[arg-type]
    if to_skeleton is not None:
        frames = reskeleton(frames, to_skeleton)
    with replace_when_done(out, overwrite=overwrite) as part:
        return KINDS[kind](frames, part, warn)


def reskeleton(frames: Frames, target: Skeleton) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The same people with the joints of ``target``, met by name; PoseError when a source shares none of them."""
    for new, header, poses in _sources(frames):
        if new:
            columns = match_joints(header.skeleton.keypoints, target.keypoints)
            if (columns < 0).all():
                raise PoseError(f"skeletons {header.skeleton.name} and {target.name} share no joint", header.source)
            changed = replace(header, skeleton=target)
        yield changed, replace(poses, instances=tuple(with_joints(p, columns) for p in poses.instances))


def with_joints(instance: Instance, columns: np.ndarray, missing_score: float = 0.0) -> Instance:
    """The person with joint ``columns[j]`` of its own at place j; -1 gives a missing joint (visibility 0)."""
    there = columns >= 0
    place = np.where(there, columns, 0)
    return replace(
        instance,
        xy=np.where(there[:, None], instance.xy[place], np.nan).astype(instance.xy.dtype),
        visibility=np.where(there, instance.visibility[place], 0),
        score=np.where(there, instance.score[place], missing_score).astype(instance.score.dtype),
    )


def _image_ids(frames: Frames, warn: Warn) -> Iterator[tuple[int | str, StreamHeader, FramePoses]]:
    """Each frame with its image id: the stated one, else the number that is its picture's name (as COCO names them),
    else its place in the stream counted from 1, which is how `convert` numbers the frames of videos."""
    stated: str | None = None
    for count, (header, poses) in enumerate(frames, 1):
        stem = Path(poses.file).stem if poses.file else ""
        if poses.image_id is not None:
            how, image_id = "stated", poses.image_id
        elif stem.isdigit():
            how, image_id = "named", int(stem)
        else:
            how, image_id = "counted", count
        if stated is None and how != "stated":
            said = "are the numbers in their names" if how == "named" else "are their places in the stream, from 1"
            warn(f"{header.source}: the stream has no image ids; those of the results {said}")
        if stated not in (None, how):
            what = f"image ids are {stated} for some frames and {how} for others"
            raise PoseError(what, f"{header.source}, frame {poses.frame}", "convert the sources one by one")
        stated = how
        yield image_id, header, poses


def _write_coco(frames: Frames, path: Path, warn: Warn) -> int:
    count = 0
    with open(path, "w", encoding="utf-8") as handle:
        handle.write("[")
        for image_id, _, poses in _image_ids(frames, warn):
            for person in poses.instances:
                if not (person.visibility > 0).any():
                    continue
                handle.write(",\n" if count else "\n")
                handle.write(json.dumps(result_json(person, image_id), allow_nan=False, separators=(",", ":")))
                count += 1
        handle.write("\n]\n")
    return count


def result_json(person: Instance, image_id: int | str) -> dict[str, Any]:
    """One entry of a COCO results list; coordinates with 2 decimals, scores with 4, as the stream has them."""
    flat: list[float] = []
    for (x, y), v, s in zip(person.xy.tolist(), person.visibility, person.score.tolist(), strict=True):
        flat += (round(x, 2), round(y, 2), round(s, 4)) if v else (0, 0, 0)
    value: dict[str, Any] = {"image_id": image_id, "category_id": 1, "keypoints": flat}
    value["score"] = round(float(person.person_score), 6)
    if person.track_id is not None:
        value["track_id"] = int(person.track_id)
    return value


def _sources(frames: Frames) -> Iterator[tuple[bool, StreamHeader, FramePoses]]:
    """Each frame with whether its source is a new one."""
    before = None
    for header, poses in frames:
        yield header is not before, header, poses
        before = header


def _write_table(frames: Frames, path: Path, wide: bool) -> int:
    count = 0
    skeleton: Skeleton | None = None
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        for new, header, poses in _sources(frames):
            if skeleton is None:
                table.writerow(_columns(header.skeleton, wide))
            elif new and wide and header.skeleton.keypoints != skeleton.keypoints:
                hint = "choose one joint set with --to-skeleton, or --to csv"
                raise PoseError(f"{header.source} has other joints than the sources before", str(path), hint)
            skeleton = header.skeleton
            for n, person in enumerate(poses.instances, 1):
                track_id = n if person.track_id is None else person.track_id
                head = [poses.file or header.source, poses.frame, _plain(poses.time, 6), track_id]
                score = _plain(person.person_score, 4)
                points = [
                    (_plain(x, 3), _plain(y, 3), _plain(s, 4)) if v else ("", "", 0)
                    for (x, y), v, s in zip(person.xy.tolist(), person.visibility, person.score.tolist(), strict=True)
                ]
                if wide:
                    box = ["", "", "", ""]
                    if person.box_xyxy is not None:
                        x1, y1, x2, y2 = (float(b) for b in person.box_xyxy)
                        box = [_plain(b, 3) for b in (x1, y1, x2 - x1, y2 - y1)]
                    table.writerow([*head, score, *box, *(v for p in points for v in p)])
                else:
                    for name, point in zip(skeleton.keypoints, points, strict=True):
                        table.writerow([*head, name, *point, score])
                count += 1
    return count


def _columns(skeleton: Skeleton, wide: bool) -> list[str]:
    head = ["source", "frame", "time", "person"]
    if not wide:
        return [*head, "joint", "x", "y", "score", "person_score"]
    joints = [f"{n}_{part}" for n in skeleton.keypoints for part in ("x", "y", "score")]
    return [*head, "person_score", "box_x", "box_y", "box_w", "box_h", *joints]


def _plain(value: float | None, decimals: int) -> Any:
    return "" if value is None else round(float(value), decimals)


def _write_csv(frames: Frames, path: Path, warn: Warn) -> int:
    return _write_table(frames, path, wide=False)


def _write_csv_wide(frames: Frames, path: Path, warn: Warn) -> int:
    return _write_table(frames, path, wide=True)


def _write_openpose(frames: Frames, folder: Path, warn: Warn) -> int:
    """One file a frame; with several sources a folder for each."""
    folder.mkdir()
    count = 0
    places: list[str] = []
    place = folder
    for new, header, poses in _sources(frames):
        if new:
            name = Path(header.source.replace("://", "_")).stem or "source"
            if places:
                if len(places) == 1:  # the second source: the first moves into a folder of its own
                    _move_into(folder, places[0])
                while name in places:
                    name += "_"
                place = folder / name
                place.mkdir()
            places.append(name)
        stem = Path(poses.file).stem if poses.file else places[-1]
        (place / frame_name(stem, poses.frame)).write_text(frame_json(poses.instances), encoding="utf-8")
        count += len(poses.instances)
    return count


def _move_into(folder: Path, name: str) -> None:
    files = list(folder.iterdir())
    (folder / name).mkdir()
    for file in files:
        file.rename(folder / name / file.name)


def label_stream(dataset: Dataset) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """A data set's labels as poses, e.g. to draw them: one source a video, and one for all pictures."""
    videos = {v.id: v for v in dataset.videos}
    by_source: dict[Any, list[Record]] = {}
    for record in dataset.records:
        by_source.setdefault(record.video_id if record.video_id in videos else None, []).append(record)
    for video_id, records in by_source.items():
        video = videos.get(video_id)
        if video is None:
            header = StreamHeader(Path(dataset.root or ".").resolve().name, dataset.skeleton)
        else:
            header = StreamHeader(
                Path(video.file_name or video.name).name, dataset.skeleton, video.width or None, video.height or None,
                video.fps or None,
            )  # fmt: skip
        for n, record in enumerate(records):
            frame = n if record.frame_id is None or video is None else record.frame_id
            if video is not None and video.fps:
                yield header, FramePoses(frame, record.instances, frame / video.fps, record.image_id)
            else:
                yield (
                    header,
                    FramePoses(
                        frame, record.instances, None, record.image_id, record.file_name, record.width, record.height
                    ),
                )


def _write_stream(frames: Frames, path: Path, warn: Warn) -> int:
    count = 0
    with StreamWriter(path) as writer:
        for new, header, poses in _sources(frames):
            if new:
                writer.header(header)
            writer.frame(poses)
            count += len(poses.instances)
    return count


KINDS: dict[str, Callable[[Frames, Path, Warn], int]] = {
    "coco": _write_coco,
    "csv": _write_csv,
    "csv-wide": _write_csv_wide,
    "openpose": _write_openpose,
    "stream": _write_stream,
}
