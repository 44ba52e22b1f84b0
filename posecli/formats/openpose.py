"""OpenPose JSON: a folder with one ``<name>_<frame>_keypoints.json`` a frame, as ``--write_json`` leaves it.

Format notes: https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md. Each person has
``pose_keypoints_2d``, flat x, y, confidence in pixels counted from 0; 0, 0, 0 is a joint not found; ``person_id`` is
``[-1]`` without tracking. The files do not name the joints: OpenPose's own body models are BODY_25 and COCO (18).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats.coco import load_json
from posecli.formats.labels import LabelFile, LabelRow, Third
from posecli.skeletons import SKELETONS
from posecli.types import Instance, Skeleton

# The body models that OpenPose writes under this key; a skeleton.toml beside the folder says otherwise.
BODY_MODELS = {25: "openpose_body25", 18: "openpose_coco18"}
_PERSON_KEYS = {"person_id", "pose_keypoints_2d"}


def is_openpose_folder(folder: Path) -> bool:
    """Whether the folder holds ``*_keypoints.json`` files."""
    return any(folder.glob("*_keypoints.json"))


def read_openpose(folder: Path) -> LabelFile:
    """Reads a folder of OpenPose JSON as labels with confidences; hands, face and 3D points are kept as extra keys.

    Raises:
        PoseError: with the file (and person), for a name without a frame number, a frame twice, a list that is not
            triples of finite numbers, people with different numbers of joints.
    """
    rows: list[LabelRow] = []
    frames: dict[int, Path] = {}
    for path in sorted(folder.glob("*_keypoints.json")):
        match = re.search(r"(\d+)_keypoints\.json$", path.name)
        if match is None:
            hint = "expected name_000000000012_keypoints.json"
            raise PoseError("no frame number in the file's name", str(path), hint)
        frame = int(match[1])
        if frame in frames:
            raise PoseError(f"frame {frame} is in {frames[frame].name} already", str(path))
        frames[frame] = path
        value = load_json(path)
        people = value.get("people") if isinstance(value, dict) else None
        if not isinstance(people, list):
            raise PoseError("no list 'people'", str(path))
        for n, person in enumerate(people):
            row = _row(person, f"{path}, people[{n}]", frame)
            if rows and len(row.xy) != len(rows[0].xy):
                raise PoseError(f"{len(row.xy)} joints where the first person has {len(rows[0].xy)}", row.where)
            rows.append(row)
    if not frames:
        raise PoseError("no *_keypoints.json in it", str(folder))
    return LabelFile(folder, "OpenPose JSON folder", tuple(rows), Third.SCORE, None, labelled=tuple(frames))


def _row(person: Any, where: str, frame: int) -> LabelRow:
    flat = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    try:
        points = np.array(flat, dtype=np.float64).reshape(-1, 3)
    except (TypeError, ValueError):
        raise PoseError("'pose_keypoints_2d' is not triples of numbers", where) from None
    if not np.isfinite(points).all():
        raise PoseError("a number of 'pose_keypoints_2d' is not finite", where)
    ids = person.get("person_id", [-1])
    track_id = ids[0] if isinstance(ids, list) and ids else ids
    # Empty lists are what OpenPose writes for parts it was not asked for.
    extra = {k: v for k, v in person.items() if k not in _PERSON_KEYS and v}
    points[points[:, 2] == 0, :2] = np.nan
    return LabelRow(
        where,
        points[:, :2],
        points[:, 2],
        frame=frame,
        track_id=track_id if isinstance(track_id, int) and track_id >= 0 else None,
        extra=extra,
    )


def skeleton_of(label: LabelFile) -> Skeleton:
    """The body model whose joints these are; PoseError when OpenPose has none with so many joints."""
    count = len(label.rows[0].xy) if label.rows else 0
    if count not in BODY_MODELS:
        hint = "say which they are in skeleton.toml beside the labels or with --skeleton"
        raise PoseError(f"{count} joints a person: not OpenPose's BODY_25 or COCO (18)", str(label.path), hint)
    return SKELETONS[BODY_MODELS[count]]


def frame_json(instances: Iterable[Instance]) -> str:
    """One frame's people as OpenPose JSON text: x, y, score triples, 0, 0, 0 for a joint not found."""
    people = []
    for instance in instances:
        flat: list[float] = []
        for (x, y), v, s in zip(instance.xy.tolist(), instance.visibility, instance.score.tolist(), strict=True):
            flat += (round(x, 3), round(y, 3), round(s, 4)) if v else (0, 0, 0)
        track_id = -1 if instance.track_id is None else int(instance.track_id)
        people.append({"person_id": [track_id], "pose_keypoints_2d": flat})
    return json.dumps({"version": 1.3, "people": people}, separators=(",", ":"))


def frame_name(stem: str, frame: int) -> str:
    """The file name OpenPose gives a frame: ``clip_000000000012_keypoints.json``."""
    return f"{stem}_{frame:012d}_keypoints.json"
