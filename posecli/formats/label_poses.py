"""Labels as poses and poses as labels: what a `Dataset` and a pose stream say of the same people.

A stream of labels carries what poses do not have under further keys of a person (which every verb keeps):
``visibility`` (K numbers 0, 1, 2, where one is 1), ``area``, ``head_box`` (x, y, width, height) and ``ignore``.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats.clip_names import recording_of, tags_of
from posecli.formats.coco_write import xywh_json
from posecli.formats.labels import SCORE_THRESHOLD
from posecli.formats.picture_size import picture_size
from posecli.formats.side_notes import is_video_frame, is_video_name
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton, Video

Frames = Iterable[tuple[StreamHeader, FramePoses]]
Warn = Callable[[str], None]
_LABEL_KEYS = ("visibility", "area", "head_box", "ignore")


def by_source(frames: Frames) -> Iterator[tuple[bool, StreamHeader, FramePoses]]:
    """Each frame with whether its source is a new one."""
    before = None
    for header, poses in frames:
        yield header is not before, header, poses
        before = header


def one_skeleton(frames: Frames, remedy: str) -> Iterator[tuple[bool, StreamHeader, FramePoses]]:
    """As `by_source`; PoseError with ``remedy`` when a source has other joints than those before."""
    names: tuple[str, ...] | None = None
    for new, header, poses in by_source(frames):
        if names is not None and new and header.skeleton.keypoints != names:
            raise PoseError("other joints than the sources before", header.source, remedy)
        names = header.skeleton.keypoints
        yield new, header, poses


def label_stream(dataset: Dataset, *, whole_names: bool = False) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """A data set's labels as poses, e.g. to draw them: one source a video, and one for all pictures.

    A video's source is its file's name; with ``whole_names``, or where several have that name, with its folders. Its
    frames come in the order of their numbers, whatever order the data set has them in.
    """
    videos = {v.id: v for v in dataset.videos}
    last = Counter(Path(v.file_name or v.name).name for v in dataset.videos)
    records_of: dict[Any, list[Record]] = {}
    for record in dataset.records:
        records_of.setdefault(record.video_id if record.video_id in videos else None, []).append(record)
    for video_id, records in records_of.items():
        video = videos.get(video_id)
        if video is None:
            header = StreamHeader(Path(dataset.root or ".").resolve().name, dataset.skeleton)
        else:
            name = video.file_name or video.name
            short = Path(name).name
            whole = (whole_names and bool(video.file_name)) or last[short] > 1
            size = video.width or None, video.height or None
            header = StreamHeader(name if whole else short, dataset.skeleton, *size, video.fps or None)
            records.sort(key=lambda r: 0 if r.frame_id is None else r.frame_id)
        for n, record in enumerate(records):
            frame = n if record.frame_id is None or video is None else record.frame_id
            time = frame / video.fps if video is not None and video.fps else None
            poses = FramePoses(frame, record.instances, time, record.image_id)
            # Of a recording that is a folder of pictures only their names tell where the frames are.
            if video is None or not (is_video_frame(record) or (video.fps and is_video_name(video.file_name))):
                poses = replace(poses, file=record.file_name, width=record.width, height=record.height)
            yield header, poses


def with_label_keys(person: Instance) -> Instance:
    """A labelled person with what a stream has no key for among its further keys."""
    extra: dict[str, Any] = {k: v for k, v in person.extra.items() if k not in _LABEL_KEYS}
    if (person.visibility == 1).any():
        extra["visibility"] = [int(v) for v in person.visibility]
    if person.area is not None:
        extra["area"] = round(float(person.area), 4)
    if person.head_box_xyxy is not None:
        extra["head_box"] = xywh_json(person.head_box_xyxy)
    if person.ignore:
        extra["ignore"] = True
    # A negative identity is how some data sets say none; a stream has no place for it.
    track_id = None if person.track_id is None or person.track_id < 0 else person.track_id
    return replace(person, track_id=track_id, extra=extra)


def labels_of_poses(
    frames: Frames,
    *,
    root: str | Path = ".",
    min_score: float | None = None,
    score_threshold: float | None = None,
    warn: Warn,
) -> Dataset:
    """A pose stream as labels, e.g. to be corrected by hand. All of it is held in memory.

    People below ``min_score`` are left out and counted. A joint found with a score above ``score_threshold`` is visible
    (2), one found with less uncertain (1), any other missing (0); scores are kept. Image ids are kept where all are
    stated and different, else counted from 1.

    Args:
        frames: of a stream; the joints of all sources must be the same.
        root: folder of the videos and pictures: they are looked up there when the stream does not say their size.
        min_score: None: each source's display threshold.
        score_threshold: None: `SCORE_THRESHOLD`.
        warn: told of people left out, and of pictures that could not be decoded.

    Raises:
        PoseError: sources with different joints; a size that neither stream nor file says.
    """
    root = Path(root)
    threshold = SCORE_THRESHOLD if score_threshold is None else score_threshold
    videos: list[Video] = []
    records: list[Record] = []
    skeleton: Skeleton | None = None
    left_out = unreadable = 0
    ends: dict[int, int] = {}
    number = 0
    for new, header, poses in one_skeleton(frames, "choose one joint set with --to-skeleton"):
        skeleton = header.skeleton
        is_video = poses.file is None
        in_video = is_video or poses.time is not None  # pictures with times are the frames of a recording
        if new:
            number = 0
        if in_video and not number:
            number = len(videos) + 1
            size = _size(header, None, root) if is_video else (header.width or 0, header.height or 0)
            videos.append(_video(number, header, size))
        if not is_video and poses.extra.get("broken") and not poses.width:
            unreadable += 1  # nobody knows how large it is
            continue
        floor = (header.threshold or 0.0) if min_score is None else min_score
        # A score below 0 is of another tool; where nobody asked for a threshold it leaves nobody out.
        people = [p for p in poses.instances if max(p.person_score, 0.0) >= floor]
        left_out += len(poses.instances) - len(people)
        place = f"{header.source}, frame {poses.frame}"
        instances = tuple(_label(p, threshold, f"{place}, person {n}") for n, p in enumerate(people, 1))
        extra = dict(poses.extra) | ({"is_labeled": False} if poses.extra.get("broken") else {})
        image_id = len(records) + 1 if poses.image_id is None else poses.image_id
        if in_video:
            ends[number] = max(ends.get(number, 0), poses.frame + 1)
        if is_video:
            video = videos[-1]
            record = Record(image_id, video.file_name, video.width, video.height, instances, number, poses.frame, extra)
        else:
            name = _picture(header, str(poses.file), root)
            width, height = _size(header, poses, root / name)
            video_id, frame = (number, poses.frame) if in_video else (None, None)
            record = Record(image_id, name, width, height, instances, video_id, frame, extra)
        records.append(record)
    if skeleton is None:
        raise PoseError("the stream has no frames: nothing to label")
    if left_out:
        warn(f"{left_out} people below the threshold were left out; --min-score 0 keeps them")
    if unreadable:
        warn(f"{unreadable} pictures that could not be decoded were left out")
    if len({r.image_id for r in records}) < len(records):
        records = [replace(r, image_id=n) for n, r in enumerate(records, 1)]
    counted = tuple(replace(v, num_frames=ends[v.id]) for v in videos)
    return Dataset(skeleton, tuple(records), counted, str(root))


def _video(number: int, header: StreamHeader, size: tuple[int, int]) -> Video:
    """Named, grouped and tagged as the videos of a folder are, by the folders that the stream says it lies in."""
    path, fps = PurePosixPath(header.source), header.fps or 0.0
    if len(path.parts) == 1 or "://" in header.source:
        return Video(number, path.stem, header.source, *size, fps, 0)
    extra = {"recording": recording_of(header.source)}
    return Video(number, str(path.with_suffix("")), header.source, *size, fps, 0, tags_of(header.source), extra)


def _label(person: Instance, threshold: float, where: str) -> Instance:
    visibility = np.where(person.visibility > 0, np.where(person.score > threshold, 2, 1), 0)
    extra = {k: v for k, v in person.extra.items() if k not in _LABEL_KEYS}
    stated, area, box = person.extra.get("visibility"), person.extra.get("area"), person.extra.get("head_box")
    if isinstance(stated, list) and len(stated) == len(visibility):
        kept = np.array([v if v in (0, 1, 2) else -1 for v in stated])
        # It stands for joints that are there; what the stream has made null since stays missing.
        visibility = np.where((person.visibility > 0) & (kept > 0), kept, visibility)
    if isinstance(area, (int, float)) and not (is_finite(area) and area >= 0):
        raise PoseError(f"area {reprlib.repr(area)} is not a number of pixels", where)
    return replace(
        person,
        visibility=visibility,
        person_score=max(person.person_score, 0.0),
        area=float(area) if isinstance(area, (int, float)) else person.area,
        ignore=person.ignore or person.extra.get("ignore") is True,
        head_box_xyxy=_box(box, where) if isinstance(box, list) else person.head_box_xyxy,
        extra=extra,
    )


def _box(value: list[Any], where: str) -> np.ndarray | None:
    if len(value) != 4 or not all(isinstance(v, (int, float)) for v in value):
        return None
    if not (all(map(is_finite, value)) and min(value[2:]) >= 0):
        raise PoseError(f"head_box {reprlib.repr(value)} is not x, y, width, height of a box", where)
    x, y, w, h = value
    return np.array([x, y, x + w, y + h], dtype=np.float64)


def _picture(header: StreamHeader, file: str, root: Path) -> str:
    """The picture's name relative to ``root``: a stream of the pictures of a folder names them relative to that."""
    below = f"{header.source}/{file}"
    return below if not (root / file).exists() and (root / below).exists() else file


def _size(header: StreamHeader, poses: FramePoses | None, place: Path) -> tuple[int, int]:
    for said in (poses, header):
        if said is not None and said.width and said.height:
            return said.width, said.height
    name = header.source if poses is None else str(poses.file)
    path = place / header.source if poses is None else place
    if not path.exists():
        hint = "say where the videos or pictures are with --image-root"
        raise PoseError(f"the stream does not say how large {name!r} is", str(path), hint)
    if poses is not None:
        return picture_size(path)
    from posecli.video import VideoSource

    with VideoSource(path) as video:
        return video.width, video.height
