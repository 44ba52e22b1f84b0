"""Where people are, for top-down models: boxes of a pose stream, a data set of any form, or COCO detection results.

Frames find their boxes by picture name, by video and frame number, or, for results that know nothing else, by
``image_id``: that of a COCO JSON, the number that a picture is called by, or a video's frame index plus one. Of names
that end alike (``front/walk.mp4``, ``side/walk.mp4``) it is the one that has most folders in common with where the
frame is from. A frame that the file does not name has no people, which is counted. Whose boxes they are is told in the
header of the stream that is made with them, and from there by `evaluate`.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.codecs.boxes import keep_boxes
from posecli.errors import PoseError, UsageError
from posecli.files import ends_alike, sha256_of
from posecli.formats import coco, read_dataset
from posecli.geometry import person_box
from posecli.predictions import read_stream
from posecli.types import Dataset, Frame
from posecli.video import VIDEO_SUFFIXES, Input

Warn = Callable[[str], None]
#: COCO's number for people, among the other things that a detector names.
_PERSON = 1


@dataclass(frozen=True)
class BoxLookup:
    """Boxes by frame.

    Attributes:
        find: gives the boxes (N, 4) x0 y0 x1 y1 in the pixels of the whole picture for a frame and its image id, or
            (N, 5) with each box's score in [0, 1].
        about: where they are from, for the stream's header: ``{"from": "labels", "file": "val.json", ...}``.
        asked: of a file, how many frames it was asked for and named (True) or did not (False).
        at: of a file, ``find`` for frames of a folder.
        numbered: the file names pictures by number only.
    """

    find: Callable[[Frame, int | str], np.ndarray]
    about: Mapping[str, Any] = field(default_factory=lambda: {"from": "given"})
    asked: Counter[bool] = field(default_factory=Counter)
    at: Callable[[Path], Callable[[Frame, int | str], np.ndarray]] | None = None
    numbered: bool = False

    def check(self, sources: Sequence[Input]) -> None:
        """UsageError where numbers do not tell which picture of the sources is meant."""
        unknown = [source for source in sources if not source.image_ids] if self.numbered else []
        if not unknown:
            return
        where, hint = str(self.about.get("file", "")), "give the COCO JSON the ids belong to as the input"
        if len(sources) > 1:
            raise UsageError(f"its image ids do not say which of {len(sources)} inputs they are of", where, hint)
        if unknown[0].kind == "pictures" and not _are_numbers(unknown[0]):
            raise UsageError("its image ids do not say which picture they are of", where, hint)

    def of(self, source: Input) -> BoxLookup:
        """The lookup for one source: where it lies tells names that end alike apart."""
        if self.at is None:
            return self
        path = Path(source.path)
        find = self.at(path if source.kind == "pictures" else path.parent)
        if self.numbered and source.kind == "pictures" and not source.image_ids:
            self.check([source])
            return replace(self, find=lambda frame, image_id: find(frame, int(PurePosixPath(frame.source).stem)))
        return replace(self, find=find)

    def __call__(self, frame: Frame, image_id: int | str) -> np.ndarray:
        """The boxes of a frame."""
        return self.find(frame, image_id)


def _are_numbers(source: Input) -> bool:
    """Whether pictures are called by numbers, each by another one, as COCO's are: ``000000000139.jpg``."""
    stems = [PurePosixPath(file).stem for file in source.files]
    return all(stem.isascii() and stem.isdecimal() for stem in stems) and len(set(map(int, stems))) == len(stems)


def whole_picture(scale: float) -> BoxLookup:
    """A lookup that takes the whole picture for one person; ``scale`` is how much the model enlarges boxes."""

    def find(frame: Frame, image_id: int | str) -> np.ndarray:
        height, width = frame.image.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        half = np.array([width, height]) / (2 * scale)
        return np.concatenate([middle - half, middle + half])[None]

    return BoxLookup(find, {"from": "whole picture"})


def labelled_boxes(dataset: Dataset) -> BoxLookup:
    """A lookup by ``image_id`` of a data set's labelled people, crowds left out."""
    by_id = {record.image_id: record for record in dataset.records}

    def find(frame: Frame, image_id: int | str) -> np.ndarray:
        record = by_id.get(image_id)
        people = [i for i in record.instances if not i.ignore] if record is not None else []
        boxes = [person_box(i, np.asarray(i.xy, np.float64), i.visibility) for i in people]
        return np.array([b for b in boxes if b is not None], np.float64).reshape(-1, 4)

    return BoxLookup(find, {"from": "labels"})


def read_boxes(path: str | Path, min_score: float = 0.0, nms: float = 1.0, warn: Warn | None = None) -> BoxLookup:
    """The lookup of a file.

    Args:
        path: a pose stream, COCO detection results (a JSON list with ``image_id`` and ``bbox``), or a data set of any
            form that `convert` reads; labelled people without a box have that around their joints.
        min_score: boxes of streams and detections with a lower score are left out.
        nms: boxes of streams and detections that overlap a better one by more than this IoU are left out; 1: none.
        warn: takes what is odd but readable, and how many boxes were left out that are smaller than a pixel.

    Raises:
        PoseError: the file is none of these, a box is not four finite numbers (of detections: of positive size), or a
            stream holds two sources of one name with the same frames.
    """
    path = Path(path)
    say = warn or (lambda text: None)
    named: dict[tuple[str, int | None], list[np.ndarray]] = defaultdict(list)
    numbered: dict[int | str, list[np.ndarray]] = defaultdict(list)
    if path.suffix == ".jsonl":
        kind = "poses"
        pictures: dict[str, dict[str, list[np.ndarray]]] = {}  # by name and folder
        for header, line in read_stream(path):
            place = (header.source, line.frame)
            if header.source in pictures.get(line.file, {}) if line.file else place in named:
                raise PoseError(
                    f"boxes of {line.file or f'frame {line.frame}'} of {header.source} come twice",
                    str(path),
                    "give the stream of each source by itself",
                )
            given = (
                pictures.setdefault(line.file, {}).setdefault(header.source, [])
                if line.file
                else named[place]  # a frame with nobody is named, too
            )
            for person in line.instances:
                if person.box_xyxy is not None and person.person_score >= min_score:
                    given.append(np.append(np.asarray(person.box_xyxy, np.float64), person.person_score))
        for name, folders in pictures.items():
            for folder, given in folders.items():
                named[name if len(folders) == 1 else f"{folder}/{name}", None] = given
    elif path.suffix == ".json" and path.is_file() and isinstance(value := coco.load_json(path), list):
        kind = "detections"
        if len({_category(entry) for entry in value}) > 1:
            left = sum(_category(entry) != _PERSON for entry in value)
            say(f"{path}: {left} of {len(value)} detections are not of category {_PERSON} (person); they were left out")
            value = [entry if _category(entry) == _PERSON else None for entry in value]
        for row, entry in enumerate(value):
            if entry is None:
                continue
            box, image_id, score = _detection(entry, f"{path}, result {row}")
            if score >= min_score:
                numbered[image_id].append(np.append(box, score))
    else:
        kind = "labels"
        for record in read_dataset(path, warn=say).records:
            # A picture is known by its name, also where it counts as a frame of something.
            of_video = PurePosixPath(record.file_name).suffix.lower() in VIDEO_SUFFIXES
            key = (record.file_name, record.frame_id if of_video else None)
            named[key] += []
            for person in record.instances:
                around = person_box(person, np.asarray(person.xy, np.float64), person.visibility)
                if around is not None and not person.ignore:
                    named[key].append(np.append(around, 1.0))
    _leave_out_empty(list(chain(named.values(), numbered.values())), str(path), say)
    about: dict[str, Any] = {"from": kind, "file": path.name}
    if path.is_file():
        about["sha256"] = sha256_of(path)
    if kind != "labels":
        about |= {"min_score": min_score} if min_score > 0 else {}
        about |= {"nms": nms} if nms < 1 else {}
        for boxes in (*named.values(), *numbered.values()):
            boxes[:] = _suppressed(boxes, nms)
    files: dict[str, set[tuple[str, bool]]] = defaultdict(set)
    for name, index in named:
        files[PurePosixPath(name).name].add((name, index is None))
    asked: Counter[bool] = Counter()

    def file_of(source: str, picture: bool, folder: Path) -> str | None:
        """The file's own name of a video or picture; None when it names none, or several that fit alike."""
        some = [n for n, is_picture in files[PurePosixPath(source).name] if is_picture == picture]
        where = (folder.resolve() / source).as_posix()
        alike = {n: ends_alike(n, where) for n in some}
        # Folders may have been given differently; a last name that only one of them has still tells.
        best = [n for n in some if alike[n] == max(alike.values())]
        return source if source in best else best[0] if len(best) == 1 else None

    def at(folder: Path) -> Callable[[Frame, int | str], np.ndarray]:
        chosen: dict[tuple[str, bool], str | None] = {}

        def find(frame: Frame, image_id: int | str) -> np.ndarray:
            for index in (frame.index if frame.time is not None else None, None):
                key = (frame.source, index is None)
                if key not in chosen:
                    chosen[key] = file_of(*key, folder)
                found = named.get((chosen[key] or "", index))
                if found is not None:
                    asked[True] += 1
                    return np.array(found).reshape(-1, 5)
            asked[image_id in numbered] += 1
            return np.array(numbered.get(image_id, [])).reshape(-1, 5)

        return find

    return BoxLookup(at(Path()), about, asked, at, numbered=kind == "detections")


def _leave_out_empty(pictures: list[list[np.ndarray]], where: str, say: Warn) -> None:
    """Takes boxes (5,) that do not hold a pixel from those of each picture: a crop of nothing has no way back."""
    before = sum(map(len, pictures))
    for boxes in pictures:
        sides = [box[2:4] - box[:2] for box in boxes]
        boxes[:] = [box for box, side in zip(boxes, sides, strict=True) if side.min() >= 0 and side.max() >= 1]
    if left := before - sum(map(len, pictures)):
        say(f"{where}: {left} of {before} boxes are smaller than a pixel; they were left out")


def _suppressed(boxes: list[np.ndarray], nms: float) -> list[np.ndarray]:
    """The boxes (5,) of a picture left by greedy suppression, best first; all of them, in their order, for 1."""
    if nms >= 1 or len(boxes) < 2:
        return boxes
    table = np.stack(boxes)
    return [boxes[i] for i in keep_boxes(table[:, :4], table[:, 4], nms)]


def _category(entry: object) -> object:
    return entry.get("category_id", _PERSON) if isinstance(entry, dict) else _PERSON


def _detection(entry: object, where: str) -> tuple[np.ndarray, int | str, float]:
    try:
        x, y, width, height = (float(v) for v in entry["bbox"])  # type: ignore[index]
        image_id, score = entry["image_id"], float(entry.get("score", 1.0))  # type: ignore[index,attr-defined]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PoseError(f"not a detection with image_id and bbox [x, y, width, height]: {error!r}", where) from None
    if not isinstance(image_id, int | str) or not np.isfinite(score):
        raise PoseError("image_id must be a number or text, score a finite number", where)
    if not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
        raise PoseError(f"the box {json.dumps([x, y, width, height])} has no size", where)
    return np.array([x, y, x + width, y + height]), image_id, score
