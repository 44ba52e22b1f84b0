"""AlphaPose results (``alphapose-results.json``), read as poses and as labels.

Format notes (https://github.com/MVIG-SJTU/AlphaPose, ``docs/output.md``, ``alphapose/utils/pPose_nms.py``): by
default a list like COCO results whose ``image_id`` is the picture's name: ``[{"image_id": "street.jpg",
"category_id": 1, "keypoints": [x, y, c, ...], "score", "box": [x, y, w, h], "idx": 3}]``; ``idx`` is the identity
with tracking. With ``--format cmu`` and ``open`` an object, picture name to ``{"bodies": [{"joints": [...]}]}`` and
``{"people": [{"pose_keypoints_2d": [...]}]}``. Of a video the names count its frames: ``0.jpg``, ``1.jpg``; frames
with nobody are left out.

17, 26 or 136 joints mean nothing by their number: ``--skeleton`` names them (``coco17``, ``halpe26``, a
``skeleton.toml``). ``--format open`` writes another order (with a neck) than the default: say ``openpose_coco18``.
Joint scores above 1 (older models go to 6) count as 1. Person scores are sums that pass 1: they are divided by the
largest then, ``alphapose_score`` keeps them. Both are said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats.coco import box_from_xywh, load_json
from posecli.formats.coco_results import chosen_skeleton, triples
from posecli.formats.found_pictures import FoundPictures, StatedPictures, stated_header, video_header, video_of
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.side_notes import number
from posecli.formats.sniffing import head_of
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Skeleton

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_KEYS = {"image_id", "category_id", "keypoints", "joints", "pose_keypoints_2d", "score", "box", "idx"}

# Other lists of JSON name joints under this key.
_NUMBERS = rb'"keypoints"\s*:\s*\[\s*[-+\d]'


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a list of detections whose images are names, or an object of bodies by picture name."""
    head = head_of(src) if src.is_file() and src.suffix == ".json" else b""
    if re.match(rb"\[\s*\{", head) and re.search(_NUMBERS, head) and re.search(rb'"image_id"\s*:\s*"', head):
        return "a list of detections with image_id (picture names) and keypoints"
    people = rb'(bodies"\s*:\s*\[\s*(\{\s*"joints"|\])|people"\s*:\s*\[\s*(\{\s*"pose_keypoints_2d"|\]))'
    if re.match(rb'\{\s*"[^"]+\.\w{2,5}"\s*:\s*\{\s*"version"\s*:\s*("[^"]*"|[\d.]+)\s*,\s*"' + people, head):
        return "bodies by picture name"
    return None


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the file as labels, e.g. to correct them: `labels_of_poses` of `read_poses`."""
    src = Path(src)
    video = video_of(src, options.image_root)
    root = video.parent if video else src.parent if options.image_root is None else Path(options.image_root)
    frames = read_poses(src, options.skeleton, options.image_root, warn)
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def read_poses(
    src: Path,
    skeleton: str | Path | Skeleton | None,
    image_root: str | Path | None,
    warn: Warn,
    stated: StatedPictures | None = None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The detections as poses, of pictures (one frame each, in the order of the file) or of a video's frames.

    They are a video's when ``image_root`` is a video, or one of the file's own stem lies beside it. With ``stated`` the
    pictures and videos are those of a data set and need not be there: names that are numbers, and no pictures of it,
    are frames of its video of the file's stem, or of its only one.

    Raises:
        PoseError: naming file and entry, for anything that is no detection; no skeleton, or one with another number of
            joints; a picture that is not there; frames beyond the video's end.
    """
    entries = _entries(load_json(src), src)
    count = next((len(flat) // 3 for _, flat, _, _ in entries if isinstance(flat, list)), None)
    chosen = chosen_skeleton(skeleton, count, str(src))
    by_name: dict[str, list[Instance]] = {}
    for name, flat, entry, where in entries:
        by_name.setdefault(name, []).append(_person(flat, entry, chosen, where))
    unscored = sum("score" not in entry for _, _, entry, _ in entries)
    if unscored:
        warn(f"{src}: {unscored} people have no score: theirs is 1, which ranks them first")
    _put_in_range(by_name, src, warn)
    video = video_of(src, image_root)
    if video is not None:
        yield from _frames_of_video(by_name, *video_header(video, chosen), str(src))
        return
    if stated is not None and all(PurePosixPath(n).stem.isdecimal() and not stated.named(n)[1] for n in by_name):
        known = stated.video([src.stem])
        if known is not None:
            yield from _frames_of_video(by_name, stated_header(known, chosen), known.num_frames, str(src))
            return
    root = src.parent if image_root is None else Path(image_root)
    pictures = stated or FoundPictures(root, str(src))
    header = StreamHeader(root.resolve().name, chosen)
    for frame, (name, people) in enumerate(by_name.items()):
        yield header, FramePoses(frame, tuple(people), None, None, *pictures.named(name))


def _entries(value: Any, src: Path) -> list[tuple[str, Any, dict[str, Any], str]]:
    """Picture name, flat joints, the entry, and where it stands."""
    if isinstance(value, list):
        names = [e.get("image_id") if isinstance(e, dict) else None for e in value]
        listed = [(names[n], e, f"{src}, result {n}") for n, e in enumerate(value)]
        key = "keypoints"
    elif isinstance(value, dict):
        listed, key = [], "joints"
        for name, picture in value.items():
            people = picture.get("bodies", picture.get("people")) if isinstance(picture, dict) else None
            if not isinstance(people, list):
                raise PoseError("no list 'bodies' or 'people'", f"{src}, {name}")
            if "people" in picture:
                key = "pose_keypoints_2d"
            listed += [(name, e, f"{src}, {name}, person {n}") for n, e in enumerate(people)]
    else:
        raise PoseError("neither a list nor an object of people", str(src))
    for name, entry, where in listed:
        if not isinstance(entry, dict):
            raise PoseError("not an object", where)
        if not isinstance(name, str):
            raise PoseError(f"image_id is {name!r}, not a picture's name", where, "COCO results have numbers: --format")
    return [(str(name), entry.get(key), entry, where) for name, entry, where in listed]


def _person(flat: Any, entry: dict[str, Any], skeleton: Skeleton, where: str) -> Instance:
    xy, visibility, score = triples(flat, skeleton, where)
    idx = entry.get("idx")
    while isinstance(idx, list) and len(idx) == 1:
        idx = idx[0]
    track = int(idx) if isinstance(idx, int | float) and not isinstance(idx, bool) and idx == idx // 1 else None
    return Instance(
        xy=xy,
        visibility=visibility,
        score=score,
        person_score=number(entry["score"], "score", where) if "score" in entry else 1.0,
        box_xyxy=box_from_xywh(entry.get("box"), "box", where),
        track_id=track if track is not None and track >= 0 else None,
        extra={k: v for k, v in entry.items() if k not in _KEYS},
    )


def _put_in_range(by_name: dict[str, list[Instance]], src: Path, warn: Warn) -> None:
    """Scores as posecli has them, 0 to 1; see the module's notes."""
    people = [p for group in by_name.values() for p in group]
    over = sum(int((p.score > 1).sum()) for p in people)
    largest = max((p.person_score for p in people), default=0.0)
    if over:
        warn(f"{src}: {over} joint scores above 1 count as 1")
    if largest > 1:
        warn(f"{src}: person scores up to {largest:g} were divided by that; alphapose_score keeps them")
    for name, group in by_name.items():
        for n, person in enumerate(group):
            changed = replace(person, score=np.clip(person.score, 0, 1))
            if largest > 1:
                extra = {**person.extra, "alphapose_score": person.person_score}
                changed = replace(changed, person_score=person.person_score / largest, extra=extra)
            by_name[name][n] = changed


def _frames_of_video(
    by_name: dict[str, list[Instance]], header: StreamHeader, length: int, where: str
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    people: dict[int, list[Instance]] = {}
    for name, group in by_name.items():
        stem = PurePosixPath(name).stem
        if not stem.isdecimal():
            raise PoseError(f"{name!r} is not the number of a frame of {header.source}", where)
        if len(stem) > 18:
            raise PoseError(f"{stem[:20]}... is no frame of {header.source}", where, "another video's results?")
        if int(stem) in people:
            raise PoseError(f"{name!r}: frame {int(stem)} has another name before", where, "keep one of them")
        people[int(stem)] = group
    last = max(people, default=-1)
    if length and last >= length:
        raise PoseError(f"frame {last}, but {header.source} has {length} frames", where, "another video's results?")
    for frame in range(max(length, last + 1)):
        time = frame / header.fps if header.fps else None
        yield header, FramePoses(frame, tuple(people.get(frame, ())), time)
