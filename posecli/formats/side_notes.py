"""What labelling tools have no field for: kept as notes beside their own fields, so that corrected labels lose nothing.

A writer asks `person_notes` and `frame_notes` for plain JSON values and puts them where the tool leaves them alone; its
reader gives them back to `make_person` and `assemble`. Files that the tool itself made have no notes, and need none.
Coordinates pass unchanged between posecli and every tool: no half pixel is added or taken away.
"""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats.joint_names import skeleton_from_names, spelling
from posecli.skeletons import SKELETONS, get_skeleton
from posecli.types import Dataset, Instance, Record, Skeleton, Video

_FAR = 2**53  # what lies beyond is no pixel, frame or id, and no float holds such whole numbers


@dataclass(frozen=True)
class LabelledFrame:
    """One picture as a tool's file tells it: its name, size in pixels, people, and the notes of `frame_notes`."""

    where: str
    file_name: str
    width: int
    height: int
    people: tuple[Instance, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)


def person_notes(person: Instance, names: Sequence[str]) -> dict[str, Any]:
    """Plain values of all but the joints' places, their visibility and the person's box; defaults are left out."""
    notes: dict[str, Any] = {}
    if person.track_id is not None:
        notes["track_id"] = int(person.track_id)
    if person.person_score != 1:
        notes["score"] = float(person.person_score)
    scores = {n: float(s) for n, s in zip(names, person.score, strict=True) if s != 1}
    if scores:
        notes["joint_scores"] = scores
    for key in ("heat", "area"):
        if getattr(person, key) is not None:
            notes[key] = float(getattr(person, key))
    if person.head_box_xyxy is not None:
        notes["head_box_xyxy"] = [float(v) for v in person.head_box_xyxy]
    if person.ignore:
        notes["ignore"] = True
    if person.extra:
        notes["extra"] = plain(dict(person.extra))
    return notes


def make_person(
    xy: np.ndarray,
    visibility: np.ndarray,
    names: Sequence[str],
    box_xyxy: np.ndarray | None,
    notes: Any,
    where: str,
) -> Instance:
    """A person of ``names`` with what `person_notes` had kept; PoseError with ``where`` when the notes are damaged.

    A joint that was missing when the notes were made (score 0) and has a place now was set by hand: its score is 1.
    """
    if not isinstance(notes, Mapping):
        raise PoseError("the notes of a person are no object", where)
    score = np.ones(len(names), dtype=np.float32)
    try:
        stored = {str(k): float(v) for k, v in dict(notes.get("joint_scores") or {}).items()}
        for i, name in enumerate(names):
            value = stored.get(name, 1.0)
            score[i] = 1.0 if visibility[i] > 0 and value == 0 else value
        head = notes.get("head_box_xyxy")
        head_box = None if head is None else np.array(head, dtype=np.float64).reshape(4)
        person = Instance(
            xy=xy,
            visibility=visibility,
            score=score,
            person_score=float(notes.get("score", 1.0)),
            box_xyxy=box_xyxy,
            area=None if notes.get("area") is None else float(notes["area"]),
            ignore=bool(notes.get("ignore", False)),
            track_id=None if notes.get("track_id") is None else int(notes["track_id"]),
            heat=None if notes.get("heat") is None else float(notes["heat"]),
            head_box_xyxy=head_box,
            extra=dict(notes.get("extra") or {}),
        )
    except (TypeError, ValueError, OverflowError) as error:
        raise PoseError(f"the notes of a person are damaged: {error}", where) from None
    if person.track_id is not None:
        whole(person.track_id, "the noted track_id", where)
    numbers = [*score.tolist(), person.person_score, person.area or 0, person.heat or 0]
    if not all(math.isfinite(v) for v in numbers) or (head_box is not None and not np.isfinite(head_box).all()):
        raise PoseError("a number in the notes of a person is not finite", where)
    return person


def frame_notes(dataset: Dataset, record: Record) -> dict[str, Any]:
    """Plain values of all that a picture's name and size do not say."""
    notes: dict[str, Any] = {"image_id": record.image_id}
    if record.frame_id is not None:
        notes["frame_id"] = int(record.frame_id)
    if record.video_id is not None:
        notes["video_id"] = record.video_id
        video = next((v for v in dataset.videos if v.id == record.video_id), None)
        if video is not None:
            notes["video"] = video_json(video)
    if record.extra:
        notes["extra"] = plain(dict(record.extra))
    return notes


def assemble(skeleton: Skeleton, frames: Iterable[LabelledFrame], root: str | Path) -> Dataset:
    """The data set of a tool's pictures. Image ids are the noted ones where all are noted and different, else counted
    from 1; videos come from the notes."""
    frames = list(frames)
    ids: list[Any] = [f.notes.get("image_id") for f in frames]
    if not all(map(is_id, ids)) or len(set(ids)) < len(ids):
        ids = list(range(1, len(frames) + 1))
    videos: dict[Any, Video] = {}
    records = []
    for image_id, frame in zip(ids, frames, strict=True):
        if isinstance(frame.notes.get("video"), Mapping):
            video = video_from_json(frame.notes["video"], frame.where)
            videos.setdefault(video.id, video)
        extra, frame_id = frame.notes.get("extra") or {}, frame.notes.get("frame_id")
        video_id = frame.notes.get("video_id")
        if frame_id is not None and whole(frame_id, "the noted frame_id", frame.where) < 0:
            raise PoseError("the notes of a picture are damaged", frame.where)
        if not isinstance(extra, Mapping) or not (video_id is None or is_id(video_id)):
            raise PoseError("the notes of a picture are damaged", frame.where)
        if frame.people and extra.get("is_labeled") is False:  # somebody labelled it since
            extra = {k: v for k, v in extra.items() if k != "is_labeled"}
        records.append(
            Record(
                image_id, frame.file_name, frame.width, frame.height, frame.people,
                video_id, frame_id, dict(extra),
            )
        )  # fmt: skip
    return Dataset(skeleton, tuple(records), tuple(videos.values()), str(root))


def video_json(video: Video) -> dict[str, Any]:
    """A video as plain values."""
    keys = ("id", "name", "file_name", "width", "height", "fps", "num_frames")
    return {k: getattr(video, k) for k in keys} | {"tags": list(video.tags), "extra": plain(dict(video.extra))}


def video_from_json(value: Mapping[str, Any], where: str) -> Video:
    """Reads what `video_json` wrote; PoseError with ``where`` on anything else."""
    try:
        if not is_id(value["id"]):
            raise ValueError(f"id {reprlib.repr(value['id'])}")
        for key in ("width", "height", "fps", "num_frames"):
            if not abs(float(value[key])) < _FAR:
                raise ValueError(f"{key} {reprlib.repr(value[key])}")
        return Video(
            value["id"], str(value["name"]), str(value["file_name"]), int(value["width"]), int(value["height"]),
            float(value["fps"]), int(value["num_frames"]), tuple(str(t) for t in value.get("tags") or ()),
            dict(value.get("extra") or {}),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PoseError(f"the notes of a video are damaged: {error!r}", where) from None


class Joints:
    """Where each joint name of a file stands in the skeleton chosen for it.

    The skeleton is, in this order: the one asked for, the one the file carries, the known one that has exactly these
    names, else a custom one of the names in the order given.

    Args:
        names: the file's joint names.
        given: option ``--skeleton``: a known name, a `skeleton.toml`, or a `Skeleton`; None: not asked.
        stored: what the file carries (`Skeleton.to_json`), or None.
        where: the file, for messages.

    Raises:
        PoseError: no names at all.
    """

    def __init__(self, names: Sequence[str], given: Any, stored: Any, where: str) -> None:
        self.where = where
        if isinstance(given, Skeleton):
            self.skeleton = given
        elif given is not None:
            self.skeleton = get_skeleton(str(given))
        elif stored is not None:
            if not isinstance(stored, Mapping):
                raise PoseError("the skeleton it carries is no object", where)
            self.skeleton = Skeleton.from_json(stored, where)
        elif names:
            self.skeleton = _by_names(list(dict.fromkeys(names)), where)
        else:
            raise PoseError("nobody has a joint in it, and nothing says which joints there are", where, "--skeleton")
        self._place = {spelling(n): i for i, n in enumerate(self.skeleton.keypoints)}
        self._place |= {n: i for i, n in enumerate(self.skeleton.keypoints)}

    def index(self, name: str, where: str) -> int:
        """The joint's place; PoseError with ``where`` when the skeleton has no such joint."""
        place = self._place.get(name)
        if place is None:
            place = self._place.get(spelling(name))
        if place is None:
            hint = f"skeleton {self.skeleton.name!r} has {', '.join(self.skeleton.keypoints)}"
            raise PoseError(f"unknown joint {name!r}", where, hint)
        return place

    def blank(self) -> tuple[np.ndarray, np.ndarray]:
        """(K, 2) NaN and (K,) zeros: a person without any joint."""
        count = self.skeleton.num_keypoints
        return np.full((count, 2), np.nan), np.zeros(count, dtype=np.int64)


def _by_names(names: Sequence[str], where: str) -> Skeleton:
    """A known skeleton of exactly these names, whatever their order (in a tool's file it means nothing)."""
    spelled = {spelling(n) for n in names}
    same = [s for s in SKELETONS.values() if {spelling(n) for n in s.keypoints} == spelled]
    return same[0] if len(same) == 1 else skeleton_from_names(names, where=where)


def plain(value: Any) -> Any:
    """The value with numpy's arrays and numbers as lists and numbers, so that it can stand in JSON."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    return value


def coordinate(value: float, single: bool = False) -> float:
    """A number of pixels as it is written: float32 carries about 7 digits, so 110.2 and not 110.19999694824219."""
    return round(float(value), 4) if single else float(value)


def number(value: Any, name: str, where: str) -> float:
    """A finite number out of a file; PoseError with ``where`` on anything else."""
    if not is_finite(value):
        raise PoseError(f"{name} is {reprlib.repr(value)}, not a finite number", where)
    return float(value)


def size(value: Any, name: str, where: str) -> int:
    """A picture's width or height in pixels out of a file."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < _FAR:
        raise PoseError(f"{name} is {reprlib.repr(value)}, not a size in pixels", where)
    return value


def whole(value: Any, name: str, where: str) -> int:
    """A whole number out of a file, within 2^53; PoseError with ``where`` on anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not -_FAR < value < _FAR:
        raise PoseError(f"{name} {reprlib.repr(value)} is not a whole number", where)
    return value


def is_id(value: Any) -> bool:
    """Whether a value out of a file can be an id: a number or a name."""
    return isinstance(value, int | str) and not isinstance(value, bool)


def found_below(root: Path, name: str) -> str:
    """The name below ``root``: as it is, or without the folders before it where only that exists."""
    base = name.rsplit("/", 1)[-1]
    return base if not (root / name).exists() and (root / base).exists() else name


def is_video_frame(record: Record) -> bool:
    """Whether the record is a frame inside a video file and not a picture of its own."""
    return record.frame_id is not None and is_video_name(record.file_name)


def is_video_name(name: str) -> bool:
    """Whether it is a video file's name, by its suffix."""
    from posecli.video import VIDEO_SUFFIXES  # it loads decoders

    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def refuse_video_frames(dataset: Dataset, form: str) -> None:
    """PoseError when a frame was not extracted: the tool shows pictures only."""
    record = next((r for r in dataset.records if is_video_frame(r)), None)
    if record is not None:
        what = f"{form} shows pictures; frame {record.frame_id} is inside a video"
        raise PoseError(what, record.file_name, "write the frames out with --frames DIR")


# What there is to lose of a person besides the places of the joints.
_LOSSES: dict[str, Callable[[Instance], bool]] = {
    "track ids": lambda p: p.track_id is not None,
    "hidden joints": lambda p: bool((p.visibility == 1).any()),
    "joint scores": lambda p: bool((p.score[p.visibility > 0] != 1).any()),
    "person scores": lambda p: p.person_score != 1,
    "boxes": lambda p: p.box_xyxy is not None,
    "head boxes": lambda p: p.head_box_xyxy is not None,
    "areas": lambda p: p.area is not None,
    "crowds": lambda p: p.ignore,
    "heat": lambda p: p.heat is not None,
    "further keys": lambda p: any(k not in ("id", "iscrowd") for k in p.extra),
    "people without joints": lambda p: not (p.visibility > 0).any(),
}


def tell_losses(dataset: Dataset, path: str | Path, form: str, holds: set[str], warn: Callable[[str], None]) -> None:
    """One sentence on what the form has no place for, each with the number of people it concerns; none if nothing."""
    people = [p for r in dataset.records for p in r.instances]
    lost = {name: sum(map(has, people)) for name, has in _LOSSES.items() if name not in holds}
    if any(lost.values()):
        warn(f"{path}: {form} has no place for {', '.join(f'{n} ({c})' for n, c in lost.items() if c)}")
