"""Boxes of people from a file, for top-down models: a pose stream, a COCO data set, or COCO detection results.

Frames find their boxes by picture name, by video and frame number, or, for results that know nothing else, by
``image_id``. A frame that the file does not name has no people.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np

from posecli.errors import PoseError
from posecli.formats import coco
from posecli.predictions import read_stream
from posecli.types import Frame

# Gives the boxes (N, 4) x0 y0 x1 y1 in the pixels of the whole picture for a frame and its image id.
BoxLookup = Callable[[Frame, "int | str"], np.ndarray]


def whole_picture(scale: float) -> BoxLookup:
    """A lookup that takes the whole picture for one person; ``scale`` is how much the model enlarges boxes."""

    def lookup(frame: Frame, image_id: int | str) -> np.ndarray:
        height, width = frame.image.shape[:2]
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        half = np.array([width, height]) / (2 * scale)
        return np.concatenate([middle - half, middle + half])[None]

    return lookup


def read_boxes(path: str | Path, min_score: float = 0.0) -> BoxLookup:
    """The lookup of a file; boxes with a score below ``min_score`` are left out.

    Raises:
        PoseError: the file is none of the three kinds, or a box is not four finite numbers of positive size.
    """
    path = Path(path)
    named: dict[tuple[str, int | None], list[np.ndarray]] = defaultdict(list)
    numbered: dict[int | str, list[np.ndarray]] = defaultdict(list)
    if path.suffix == ".jsonl":
        for header, line in read_stream(path):
            key = (line.file, None) if line.file else (header.source, line.frame)
            for person in line.instances:
                if person.box_xyxy is not None and person.person_score >= min_score:
                    named[key].append(np.asarray(person.box_xyxy, dtype=np.float64))
    elif isinstance(value := coco.load_json(path), list):
        for row, entry in enumerate(value):
            box, image_id, score = _detection(entry, f"{path}, result {row}")
            if score >= min_score:
                numbered[image_id].append(box)
    else:
        for record in coco.read(path).records:
            for person in record.instances:
                if person.box_xyxy is not None and not person.ignore:
                    named[record.file_name, record.frame_id].append(np.asarray(person.box_xyxy, dtype=np.float64))
    by_last_name: dict[tuple[str, int | None], list[str]] = defaultdict(list)
    for name, index in named:
        by_last_name[PurePosixPath(name).name, index].append(name)

    def lookup(frame: Frame, image_id: int | str) -> np.ndarray:
        for index in (frame.index if frame.time is not None else None, None):
            found = named.get((frame.source, index))
            if found is None:
                # Folders may have been given differently; a last name that only one picture has still tells.
                names = by_last_name.get((PurePosixPath(frame.source).name, index), [])
                found = named[names[0], index] if len(names) == 1 else None
            if found is not None:
                return np.array(found)
        return np.array(numbered.get(image_id, [])).reshape(-1, 4)

    return lookup


def _detection(entry: object, where: str) -> tuple[np.ndarray, int | str, float]:
    try:
        x, y, width, height = (float(v) for v in entry["bbox"])  # type: ignore[index]
        image_id, score = entry["image_id"], float(entry.get("score", 1.0))  # type: ignore[index,attr-defined]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PoseError(f"not a detection with image_id and bbox [x, y, width, height]: {error!r}", where) from None
    if not np.isfinite([x, y, width, height]).all() or width <= 0 or height <= 0:
        raise PoseError(f"the box {json.dumps([x, y, width, height])} has no size", where)
    return np.array([x, y, x + width, y + height]), image_id, score
