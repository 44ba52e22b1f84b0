"""MediaPipe Pose landmarks kept as JSON: 33 of them a person, normalised by the picture's size.

Format notes (https://ai.google.dev/edge/mediapipe/solutions/vision/pose_landmarker): MediaPipe has no file format of
its own; what people write down is its results as they come. A result has its people under ``pose_landmarks``,
``poseLandmarks``, ``landmarks`` or ``poses``: a list of people, or one person, each a list of 33 ``{"x", "y", "z",
"visibility", "presence"}`` or of ``[x, y, z, visibility]``. x and y are parts of the picture's width and height (they
may lie outside 0 to 1), ``visibility`` becomes the joint's score; z, presence and world landmarks are passed over.

A file is one result, a list of results, or an object with ``frames`` (or ``results``); JSON Lines too. A result may
say ``frame`` (0-based), ``time`` or ``timestamp_ms``, ``file`` or ``image``, ``width`` and ``height``; the object
``source`` (or ``video``), ``fps``, ``width`` and ``height``. Without ``frame`` results are frames in their order. The
size comes from the file, the pictures, or the video (stated, ``--image-root``, or the one of the same stem).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import json_fault
from posecli.formats.coco import load_json
from posecli.formats.found_pictures import FoundPictures, StatedPictures, stated_header, video_header, video_of
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.side_notes import number, size
from posecli.formats.sniffing import head_of
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import MEDIAPIPE33
from posecli.types import Dataset, Instance

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_PEOPLE = ("pose_landmarks", "poseLandmarks", "landmarks", "poses")
_COUNT = 33
# Landmarks leave the picture by a part of its size; numbers far beyond that are pixels.
_LARGEST = 10.0


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is JSON (or JSON Lines) with pose landmarks."""
    if not src.is_file() or src.suffix not in (".json", ".jsonl", ".ndjson"):
        return None
    head = head_of(src)
    found = re.search(rb'"(pose_landmarks|poseLandmarks|landmarks|poses)"\s*:\s*\[', head)
    if found and re.search(rb'"x"\s*:', head) and b'"visibility"' in head and b'"posecli"' not in head:
        return f"it has {found[1].decode()} with x and visibility"
    return None


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the landmarks as labels, e.g. to correct them: `labels_of_poses` of `read_poses`."""
    src = Path(src)
    frames = list(read_poses(src, options.image_root))
    video = video_of(src, options.image_root, frames[0][0].source if frames else None)
    root = video.parent if video else src.parent if options.image_root is None else Path(options.image_root)
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def read_poses(
    src: Path, image_root: str | Path | None, pictures_of: StatedPictures | None = None
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The landmarks as poses of ``mediapipe33`` in pixels.

    With ``pictures_of`` sizes that the file does not say are those of a data set's pictures and videos, whose files
    need not be there.

    Raises:
        PoseError: naming file and result, for another number of landmarks than 33, a number that is none, pixels in
            place of parts, a picture or video whose size nobody knows, a frame twice.
    """
    head, results = _results(src)
    stated = head.get("source") or head.get("video")
    with_files = [r for r in results if r.get("file") or r.get("image")]
    if with_files:
        root = Path(image_root) if image_root is not None else src.parent
        yield from _pictures(src, head, results, root, pictures_of)
        return
    video = video_of(src, image_root, str(stated) if stated else None)
    stems = [*([Path(str(stated)).stem] if stated else []), src.stem]
    known = pictures_of.video(stems) if video is None and pictures_of is not None else None
    if video is not None:
        header, length = video_header(video, MEDIAPIPE33)
    elif known is not None and known.width and known.height:
        header, length = stated_header(known, MEDIAPIPE33), known.num_frames
    else:
        said = next((v for v in (head, *results) if v.get("width") is not None and v.get("height") is not None), None)
        if said is None:
            hint = "say which video it is with --image-root VIDEO, or put width and height into the file"
            raise PoseError("landmarks are parts of the picture's size, which nobody says", str(src), hint)
        width, height = (size(said[k], k, str(src)) for k in ("width", "height"))
        fps = None if head.get("fps") is None else number(head["fps"], "fps", str(src))
        header, length = StreamHeader(str(stated or src.stem), MEDIAPIPE33, width, height, fps), 0
    numbers: set[int] = set()
    for n, result in enumerate(results):
        where = f"{src}, result {n}"
        frame = result.get("frame", n)
        if not isinstance(frame, int) or isinstance(frame, bool) or frame < 0:
            raise PoseError(f"frame is {frame!r}, not a number counted from 0", where)
        if frame in numbers:
            raise PoseError(f"frame {frame} a second time", where)
        if length and frame >= length:
            raise PoseError(f"frame {frame}, but the video has {length} frames", where, "another video's landmarks?")
        numbers.add(frame)
        for key, whole in (("width", header.width), ("height", header.height)):
            if result.get(key) is not None and size(result[key], key, where) != whole:
                raise PoseError(f"{key} is {result[key]}, of the video {whole}", where)
        people = _people(result, int(header.width or 0), int(header.height or 0), where)
        yield header, FramePoses(frame, people, _time(result, frame, header.fps, where))


def _results(src: Path) -> tuple[Mapping[str, Any], list[dict[str, Any]]]:
    """What holds for the whole file, and the results."""
    if src.suffix in (".jsonl", ".ndjson"):
        value: Any = []
        for n, line in enumerate(src.read_bytes().splitlines(), 1):
            if line.strip():
                try:
                    value.append(json.loads(line))
                except (ValueError, RecursionError) as error:
                    raise PoseError(json_fault(error), f"{src}, line {n}") from None
    else:
        value = load_json(src)
    head: Mapping[str, Any] = {}
    if isinstance(value, dict):
        head = value
        value = next((value[k] for k in ("frames", "results") if k in value), [value])
    if not isinstance(value, list) or not value:
        raise PoseError("no results in it", str(src))
    for n, result in enumerate(value):
        if not isinstance(result, dict) or not any(k in result for k in _PEOPLE):
            raise PoseError(f"none of {', '.join(_PEOPLE)}", f"{src}, result {n}")
    return head, value


def _time(result: Mapping[str, Any], frame: int, fps: float | None, where: str) -> float | None:
    if result.get("time") is not None:
        return number(result["time"], "time", where)
    if result.get("timestamp_ms") is not None:
        return number(result["timestamp_ms"], "timestamp_ms", where) / 1000
    return frame / fps if fps else None


def _pictures(
    src: Path, head: Mapping[str, Any], results: list[dict[str, Any]], root: Path, stated: StatedPictures | None
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    pictures = FoundPictures(root, str(src))
    header = StreamHeader(str(head.get("source") or root.resolve().name), MEDIAPIPE33)
    for n, result in enumerate(results):
        where = f"{src}, result {n}"
        name = result.get("file") or result.get("image")
        if not isinstance(name, str):
            raise PoseError("no file, where others have one", where)
        if result.get("width") is not None and result.get("height") is not None:
            place = (name, size(result["width"], "width", where), size(result["height"], "height", where))
        else:
            known, width, height = stated.named(name) if stated is not None else (name, None, None)
            place = (known, width, height) if width and height else pictures.named(name)
        yield header, FramePoses(n, _people(result, place[1], place[2], where), None, None, *place)


def _people(result: Mapping[str, Any], width: int, height: int, where: str) -> tuple[Instance, ...]:
    value = next(result[k] for k in _PEOPLE if k in result)
    if value is None:  # what the older interface gives when nobody is there
        return ()
    if isinstance(value, dict) and "landmark" in value:
        value = value["landmark"]
    if not isinstance(value, list):
        raise PoseError("the people are no list", where)
    single = bool(value) and ((isinstance(value[0], dict) and "x" in value[0]) or _numbers(value[0]))
    groups = [value] if single else value
    people = []
    for n, landmarks in enumerate(groups):
        at = where if single else f"{where}, person {n}"
        if isinstance(landmarks, dict):
            landmarks = landmarks.get("landmarks", landmarks.get("landmark"))
        if not isinstance(landmarks, list) or len(landmarks) != _COUNT:
            said = f"{len(landmarks)} landmarks" if isinstance(landmarks, list) else "no list of landmarks"
            raise PoseError(f"{said}, not the {_COUNT} of MediaPipe Pose", at)
        people.append(_person(landmarks, width, height, at))
    return tuple(people)


def _numbers(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, int | float) for v in value)


def _person(landmarks: list[Any], width: int, height: int, where: str) -> Instance:
    points = np.ones((_COUNT, 3))
    for k, landmark in enumerate(landmarks):
        at = f"{where}, {MEDIAPIPE33.keypoints[k]}"
        if isinstance(landmark, dict):
            seen = landmark.get("visibility")
            values = [landmark.get("x"), landmark.get("y"), 1.0 if seen is None else seen]
        elif _numbers(landmark) and len(landmark) in (2, 3, 4):
            values = [*landmark[:2], landmark[3] if len(landmark) == 4 else 1.0]
        else:
            raise PoseError("neither an object with x and y nor a list of 2 to 4 numbers", at)
        points[k] = [number(v, name, at) for v, name in zip(values, ("x", "y", "visibility"), strict=True)]
        if abs(points[k, :2]).max() > _LARGEST:
            what = f"x, y = {points[k, 0]:g}, {points[k, 1]:g}: pixels, not parts of the picture's size"
            raise PoseError(what, at, "write down the normalised landmarks")
        if not 0 <= points[k, 2] <= 1:
            raise PoseError(f"visibility is {points[k, 2]:g}, not 0 to 1", at)
    return Instance(
        xy=points[:, :2] * np.array([width, height]),
        visibility=np.full(_COUNT, 2),
        score=points[:, 2].astype(np.float32),
        person_score=round(float(points[:, 2].mean()), 4),
    )
