"""COCO keypoint results: a JSON list of detections, read as poses and as labels.

Format notes (https://cocodataset.org/#format-results): ``[{"image_id": 42, "category_id": 1, "keypoints": [x, y,
score, ...], "score": 0.9}, ...]``, in no order; ``bbox``, ``track_id`` and further keys are kept. The list names
neither joints nor pictures: the joints are said by ``--skeleton``; the picture of ``image_id`` 42 is the one called
``42.jpg`` or ``000000000042.jpg`` below ``--image-root``, that of an ``image_id`` that is text the one of that name.
0, 0, 0 is a joint that was not found.

Joint scores beyond 0 to 1 count as 0 and 1. Person scores above 1 (sums, as some tools write) are divided by the
largest, those below 0 count as 0; ``coco_score`` keeps them. All of it is said.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats.coco import box_from_xywh, load_json
from posecli.formats.found_pictures import FoundPictures
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.side_notes import number, whole
from posecli.formats.sniffing import head_of
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import get_skeleton
from posecli.types import Dataset, Instance, Skeleton

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_KEYS = {"image_id", "category_id", "keypoints", "score", "bbox", "track_id", "heat"}

# Other lists of JSON name joints under this key.
_NUMBERS = rb'"keypoints"\s*:\s*\[\s*[-+\d]'


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a list of detections with keypoints whose images are numbers."""
    head = head_of(src) if src.is_file() and src.suffix == ".json" else b""
    if re.match(rb"\[\s*\{", head) and re.search(_NUMBERS, head) and re.search(rb'"image_id"\s*:\s*\d', head):
        return "a list of detections with image_id (numbers) and keypoints"
    return None


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the list as labels, e.g. to correct them: `labels_of_poses` of `read_poses`."""
    src = Path(src)
    root = src.parent if options.image_root is None else Path(options.image_root)
    frames = read_poses(src, options.skeleton, root, warn)
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def read_poses(
    src: Path, skeleton: str | Path | Skeleton | None, root: Path, warn: Warn = _warn
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The detections as poses of pictures below ``root``, one frame a picture, in the order of the list.

    Raises:
        PoseError: naming file and entry, for anything that is no detection; no skeleton, or one with another number of
            joints; a picture that is not there.
    """
    results = load_json(src)
    if not isinstance(results, list):
        raise PoseError("not a list of detections", str(src))
    chosen = chosen_skeleton(skeleton, _first_count(results), str(src))
    by_image: dict[int | str, list[Instance]] = {}
    for n, entry in enumerate(results):
        where = f"{src}, result {n}"
        image_id = entry.get("image_id") if isinstance(entry, dict) else None
        if not isinstance(image_id, int | str) or isinstance(image_id, bool):
            raise PoseError(f"image_id is {image_id!r}, neither a number nor a name", where)
        by_image.setdefault(image_id, []).append(detection(entry, chosen, where))
    _put_in_range(by_image, src, warn)
    pictures = FoundPictures(root, str(src))
    header = StreamHeader(root.resolve().name, chosen)
    for frame, (image_id, people) in enumerate(by_image.items()):
        place = pictures.numbered(image_id) if isinstance(image_id, int) else pictures.named(image_id)
        yield header, FramePoses(frame, tuple(people), None, image_id, *place)


def _put_in_range(by_image: dict[int | str, list[Instance]], src: Path, warn: Warn) -> None:
    """Scores as posecli has them, 0 to 1; see the module's notes."""
    people = [p for group in by_image.values() for p in group]
    outside = sum(int(((p.score < 0) | (p.score > 1)).sum()) for p in people)
    largest = max((p.person_score for p in people), default=0.0)
    negative = sum(p.person_score < 0 for p in people)
    if outside:
        warn(f"{src}: {outside} joint scores below 0 or above 1 count as 0 and 1")
    if largest > 1:
        warn(f"{src}: person scores up to {largest:g} were divided by that; coco_score keeps them")
    if negative:
        warn(f"{src}: {negative} person scores below 0 count as 0; coco_score keeps them")
    for group in by_image.values():
        for n, person in enumerate(group):
            score = max(person.person_score, 0.0) / max(largest, 1.0)
            kept = {} if score == person.person_score else {"coco_score": person.person_score}
            scores = np.clip(person.score, 0, 1)
            group[n] = replace(person, score=scores, person_score=score, extra={**person.extra, **kept})


def _first_count(results: list[Any]) -> int | None:
    flat = next((r["keypoints"] for r in results if isinstance(r, dict) and isinstance(r.get("keypoints"), list)), None)
    return None if flat is None else len(flat) // 3


def chosen_skeleton(skeleton: str | Path | Skeleton | None, count: int | None, where: str) -> Skeleton:
    """The skeleton that was asked for; PoseError when none was (a count of joints names none) or its count differs."""
    if skeleton is None:
        said = "" if count is None else f" ({count} a person)"
        raise PoseError(f"the file does not name its joints{said}", where, "say which they are with --skeleton")
    chosen = skeleton if isinstance(skeleton, Skeleton) else get_skeleton(str(skeleton))
    if count is not None and count != chosen.num_keypoints:
        what = f"{count} joints a person, but skeleton {chosen.name!r} has {chosen.num_keypoints}"
        raise PoseError(what, where, "say which joints they are with --skeleton")
    return chosen


def detection(entry: Mapping[str, Any], skeleton: Skeleton, where: str, keys: set[str] = _KEYS) -> Instance:
    """One detection as a person; joint scores as they stand. PoseError with ``where`` on anything else."""
    xy, visibility, score = triples(entry.get("keypoints"), skeleton, where)
    track = entry.get("track_id")
    if track is not None:
        track = whole(track, "track_id", where)
    return Instance(
        xy=xy,
        visibility=visibility,
        score=score,
        person_score=number(entry.get("score"), "score", where),
        box_xyxy=box_from_xywh(entry.get("bbox"), "bbox", where),
        track_id=track,
        heat=None if entry.get("heat") is None else number(entry["heat"], "heat", where),
        extra={k: v for k, v in entry.items() if k not in keys},
    )


def triples(flat: Any, skeleton: Skeleton, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(K, 2) float64 places (NaN where not found), (K,) visibility 2 or 0, (K,) float32 scores, of flat x, y, score."""
    count = skeleton.num_keypoints
    if not isinstance(flat, list) or len(flat) != 3 * count:
        said = f"{len(flat)} numbers" if isinstance(flat, list) else "no list"
        raise PoseError(f"keypoints: {said}, not x, y, score of {count} joints", where)
    points = np.array([number(v, "a number of keypoints", where) for v in flat]).reshape(count, 3)
    found = (points != 0).any(axis=1)
    xy = np.where(found[:, None], points[:, :2], np.nan)
    return xy, np.where(found, 2, 0), points[:, 2].astype(np.float32)
