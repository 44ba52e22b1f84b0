"""Results of mmpose's inferencer (``pred_out_dir``) and of its demos (``--save-predictions``), as poses and as labels.

Format notes (https://github.com/open-mmlab/mmpose, 1.x: ``mmpose/apis/inferencers/base_mmpose_inferencer.py``,
``mmpose/structures/utils.py``, ``demo/topdown_demo_with_mmdet.py``). Of a picture ``street.jpg`` the inferencer leaves
``street.json``, a list of people: ``[{"keypoints": [[x, y], ...], "keypoint_scores": [...], "bbox": [[x1, y1, x2, y2]],
"bbox_score": 0.9}]`` (the corners of the box, in one list more than one expects); of a video ``walk.mp4`` one
``walk.json``, ``[{"frame_id": 0, "instances": [people]}, ...]``. The demos leave ``results_street.json`` and
``results_walk.json`` with the same under ``instance_info``, and under ``meta_info`` the data set's description: names
of joints, links, sigmas (arrays as json_tricks writes them, ``{"__ndarray__": [...]}``). Their ``frame_id`` counts from
**1**, the inferencer's from 0; a file with ``meta_info`` and a frame 0 counts from 0.

Without ``meta_info`` joints are said by ``--skeleton``. Nothing says how large pictures are, and what lies beside the
results under the same name is what mmpose has drawn on: ``--image-root`` names the originals, a folder or the video.
A joint whose score is 0 or less was not found; scores above 1 (RTMPose has some) count as 1, which is said. A person's
score is that of mmpose's ``CocoMetric`` by default: ``bbox_score`` (1 if absent) times the mean of the joint scores
above 0.2. Poses in space (three numbers a joint) are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats.coco import load_json
from posecli.formats.coco_results import chosen_skeleton
from posecli.formats.found_pictures import FoundPictures, StatedPictures, stated_header, video_header, video_of
from posecli.formats.joint_names import skeleton_from_names
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.side_notes import number
from posecli.formats.sniffing import head_of
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Skeleton
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_KEYS = {"keypoints", "keypoint_scores", "bbox", "track_id"}
_LEAST_SCORE = 0.2  # keypoint_score_thr of mmpose's CocoMetric

# A list of people, a list of frames, or the demos' object.
_PEOPLE = re.compile(rb'\[\s*\{\s*"keypoints"\s*:\s*\[\s*\[\s*[-+\d]')
_FRAMES = re.compile(rb'\[\s*\{\s*"frame_id"\s*:\s*\d+\s*,\s*"instances"\s*:')
_META = re.compile(rb'\{\s*"meta_info"\s*:\s*\{')


@dataclass(frozen=True)
class _File:
    """What one file holds: people by frame (from 0) of a video, or the people of a picture under None."""

    path: Path
    people: Mapping[int | None, list[Any]]
    meta: Mapping[str, Any] | None

    @property
    def stems(self) -> list[str]:
        """What the picture or the video may be called."""
        stem = self.path.stem
        return [stem.removeprefix("results_"), stem] if stem.startswith("results_") else [stem]

    @property
    def is_video(self) -> bool:
        return None not in self.people


def _reason(path: Path) -> str | None:
    head = head_of(path)
    if _PEOPLE.match(head) and b'"keypoint_scores"' in head:
        return "people with keypoints and keypoint_scores"
    if _FRAMES.match(head):
        return "a list of frame_id and instances"
    if _META.match(head) and (b'"keypoint_id2name"' in head or b'"instance_info"' in head):
        return "it has meta_info and instance_info"
    return None


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is such a file, or a folder of them and of no pictures and videos."""
    if src.is_file():
        return _reason(src) if src.suffix == ".json" else None
    files = sorted(src.glob("*.json"))
    if not files or any(p.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) for p in src.iterdir()):
        return None
    # A picture in which nobody was found is an empty list.
    told = next((p for p in files[:50] if p.is_file() and head_of(p, 16).strip() != b"[]"), None)
    reason = None if told is None else _reason(told)
    return None if told is None or reason is None else f"{len(files)} files, {told.name}: {reason}"


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the results as labels, e.g. to correct them: `labels_of_poses` of `read_poses`."""
    src = Path(src)
    if options.image_root is None:
        hint = "say it with --image-root FOLDER or VIDEO; what lies beside the results has poses drawn on it"
        raise PoseError("nothing says where the pictures or the video are", str(src), hint)
    root = Path(options.image_root)
    frames = read_poses(src, options.skeleton, root, warn)
    root = root.parent if root.suffix.lower() in VIDEO_SUFFIXES else root
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def read_poses(
    src: Path,
    skeleton: str | Path | Skeleton | None,
    image_root: str | Path | None,
    warn: Warn,
    stated: StatedPictures | None = None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The people of a file or a folder of files as poses: pictures first, by name, then each video's frames.

    With ``stated`` pictures and videos are those of a data set and need not be there; else they are in ``image_root``
    (a folder, or the video).

    Raises:
        PoseError: naming file and person, for anything that is no result; no skeleton, or one with another number of
            joints; a picture or video that is not there; frames beyond the video's end.
    """
    paths = [src] if src.is_file() else sorted(src.glob("*.json"))
    files = [_read_file(path) for path in paths]
    if not files:
        raise PoseError("no JSON files", str(src))
    reader = _Reader(_skeleton(files, skeleton, src), src)
    pictures = [f for f in files if not f.is_video]
    videos = [f for f in files if f.is_video]
    yield from chain(
        reader.pictures(pictures, image_root, stated),
        *(reader.frames(file, image_root, stated) for file in videos),
    )
    if reader.over:
        warn(f"{src}: {reader.over} joint scores above 1 count as 1")


class _Reader:
    """Makes poses of people, and counts the scores that are put in range."""

    def __init__(self, skeleton: Skeleton, src: Path) -> None:
        self.skeleton = skeleton
        self.src = src
        self.over = 0

    def pictures(
        self, files: list[_File], image_root: str | Path | None, stated: StatedPictures | None
    ) -> Iterator[tuple[StreamHeader, FramePoses]]:
        """A frame a file."""
        root = Path(image_root or self.src.parent)
        if files and root.suffix.lower() in VIDEO_SUFFIXES:
            raise PoseError("the people of a picture, not of a video's frames", str(files[0].path), "--image-root")
        header = StreamHeader(root.resolve().name, self.skeleton)
        pictures = stated or FoundPictures(root, str(self.src))
        for frame, file in enumerate(files):
            people = tuple(self._person(p, f"{file.path}, person {n}") for n, p in enumerate(file.people[None]))
            yield header, FramePoses(frame, people, None, None, *_picture(file, pictures))

    def frames(
        self, file: _File, image_root: str | Path | None, stated: StatedPictures | None
    ) -> Iterator[tuple[StreamHeader, FramePoses]]:
        """The frames that stand in a file, in order."""
        places = [file.path.with_name(f"{stem}.json") for stem in file.stems]
        video = None if image_root is None else next(filter(None, (video_of(p, image_root) for p in places)), None)
        known = stated.video(file.stems) if video is None and stated is not None else None
        length = 0
        if video is not None:
            header, length = video_header(video, self.skeleton)
        elif known is not None:
            header, length = stated_header(known, self.skeleton), known.num_frames
        elif image_root is not None:
            what = f"no video in {image_root} is called {' or '.join(file.stems)}"
            raise PoseError(what, str(file.path), "say which it is with --image-root VIDEO")
        else:
            header = StreamHeader(file.stems[0], self.skeleton)
        numbers = sorted(n for n in file.people if n is not None)
        if length and numbers and numbers[-1] >= length:
            what = f"frame {numbers[-1]}, but {header.source} has {length} frames"
            raise PoseError(what, str(file.path), "another video's results?")
        for frame in numbers:
            where = f"{file.path}, frame {frame}"
            people = tuple(self._person(p, f"{where}, person {n}") for n, p in enumerate(file.people[frame]))
            yield header, FramePoses(frame, people, frame / header.fps if header.fps else None)

    def _person(self, entry: Any, where: str) -> Instance:
        if not isinstance(entry, dict):
            raise PoseError("not an object", where)
        xy, score = _joints(entry, self.skeleton, where)
        self.over += int((score > 1).sum())
        found = score > 0
        score = np.clip(score, 0, 1)
        box_score = _plain(entry.get("bbox_score"))
        of_box = 1.0 if box_score is None else number(box_score, "bbox_score", where)
        counted = score[score > _LEAST_SCORE]
        track = entry.get("track_id")
        if track is not None and (not isinstance(track, int) or isinstance(track, bool) or track < 0):
            raise PoseError(f"track_id is {track!r}, not a whole number", where)
        return Instance(
            xy=np.where(found[:, None], xy, np.nan),
            visibility=np.where(found, 2, 0),
            score=np.where(found, score, 0).astype(np.float32),
            person_score=round(float(np.clip(of_box * counted.mean(), 0, 1)), 4) if len(counted) else 0.0,
            box_xyxy=_box(entry.get("bbox"), where),
            track_id=track,
            extra={k: _plain(v) for k, v in entry.items() if k not in _KEYS},
        )


def _read_file(path: Path) -> _File:
    """The file's people, whose own values are not looked at yet; PoseError when it is of another form."""
    value, meta = load_json(path), None
    if isinstance(value, dict):
        meta, value = value.get("meta_info"), value.get("instance_info")
        if not isinstance(meta, dict):
            raise PoseError("no object 'meta_info'", str(path))
    if not isinstance(value, list):
        raise PoseError("no list of people or frames", str(path), "is it a result of mmpose?")
    if not value or not (isinstance(value[0], dict) and "frame_id" in value[0]):
        return _File(path, {None: value}, meta)
    frames: dict[int | None, list[Any]] = {}
    for n, entry in enumerate(value):
        where = f"{path}, entry {n}"
        frame = entry.get("frame_id") if isinstance(entry, dict) else None
        if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
            raise PoseError(f"frame_id is {frame!r}, not a frame's number", where)
        if frame in frames:
            raise PoseError(f"frame {frame} a second time", where)
        people = entry.get("instances")
        if not isinstance(people, list):
            raise PoseError("no list 'instances'", where)
        frames[frame] = people
    first = 1 if meta is not None and 0 not in frames else 0
    return _File(path, {n - first: people for n, people in frames.items() if n is not None}, meta)


def _skeleton(files: list[_File], given: str | Path | Skeleton | None, src: Path) -> Skeleton:
    """The joints: those asked for, else those that the files describe; PoseError when these differ or say nothing."""
    first = next((p for f in files for people in f.people.values() for p in people if isinstance(p, dict)), {})
    count = len(first["keypoints"]) if isinstance(first.get("keypoints"), list) else None
    if given is not None:
        return chosen_skeleton(given, count, str(src))
    described = {f.path: _described(f.meta, str(f.path)) for f in files if f.meta is not None}
    if not described or len(described) < len(files):
        return chosen_skeleton(None, count, str(next(f.path for f in files if f.path not in described)))
    chosen = next(iter(described.values()))
    for path, skeleton in described.items():
        if skeleton.keypoints != chosen.keypoints:
            raise PoseError("other joints than the files before", str(path), "convert them one by one")
    return chosen_skeleton(chosen, count, str(src))


def _described(meta: Mapping[str, Any], path: str) -> Skeleton:
    """The joint set of a ``meta_info``: a known one where the names are its names."""
    where = f"{path}, meta_info"
    names = meta.get("keypoint_id2name")
    if not isinstance(names, dict) or sorted(names) != sorted(map(str, range(len(names)))):
        raise PoseError("keypoint_id2name does not name the joints 0, 1, ...", where, "say which with --skeleton")
    links = _plain(meta.get("skeleton_links")) or []
    if not isinstance(links, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(i, int) for i in pair) for pair in links
    ):
        raise PoseError("skeleton_links is no list of pairs", where)
    skeleton = skeleton_from_names([str(names[str(i)]) for i in range(len(names))], links, where)
    sigmas = _plain(meta.get("sigmas"))
    if skeleton.sigmas or not sigmas:
        return skeleton
    if not isinstance(sigmas, list) or not all(map(is_finite, sigmas)):
        raise PoseError("sigmas is no list of numbers", where)
    try:
        return replace(skeleton, sigmas=tuple(map(float, sigmas)))
    except PoseError as error:
        raise PoseError(error.what, where, error.hint) from None


def _picture(file: _File, pictures: FoundPictures | StatedPictures) -> tuple[str, int | None, int | None]:
    """The picture's name and size; of a data set that has none of that name, the name alone."""
    stem = next((s for s in file.stems if pictures.called(s)), file.stems[0])
    if isinstance(pictures, StatedPictures) and not pictures.called(stem):
        return stem, None, None
    return pictures.of_stem(stem)


def _joints(entry: Mapping[str, Any], skeleton: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(K, 2) and (K,) float64."""
    points, scores = _plain(entry.get("keypoints")), _plain(entry.get("keypoint_scores"))
    count = skeleton.num_keypoints
    for name, values in (("keypoints", points), ("keypoint_scores", scores)):
        if not isinstance(values, list):
            raise PoseError(f"no list {name!r}", where)
        if len(values) != count:
            raise PoseError(f"{len(values)} {name}, but skeleton {skeleton.name!r} has {count} joints", where)
    for name, point, score in zip(skeleton.keypoints, points, scores, strict=True):
        if isinstance(point, list) and len(point) == 3:
            raise PoseError("three numbers a joint: a pose in space", where, "only poses in the picture can be read")
        if not isinstance(point, list) or len(point) != 2 or not (is_finite(point[0]) and is_finite(point[1])):
            raise PoseError(f"{name}: not x and y", where)
        if not is_finite(score):
            raise PoseError(f"{name}: the score is no finite number", where)
    return np.array(points, np.float64), np.array(scores, np.float64)


def _box(value: Any, where: str) -> np.ndarray | None:
    """(4,) float64 corners; None for none or for a box without any extent."""
    value = _plain(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None or value == []:
        return None
    if not isinstance(value, list) or len(value) != 4 or not all(map(is_finite, value)):
        raise PoseError("bbox is not four numbers", where)
    box = np.array(value, np.float64)
    if box[2] < box[0] or box[3] < box[1]:
        raise PoseError(f"bbox {value} has a negative size", where, "boxes are x1, y1, x2, y2")
    return box if (box[2:] > box[:2]).any() else None


def _plain(value: Any) -> Any:
    """An array as json_tricks writes it, as a list; anything else as it is."""
    return value["__ndarray__"] if isinstance(value, dict) and "__ndarray__" in value else value
