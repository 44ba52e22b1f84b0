"""Writing a COCO results list from poses, frame by frame (https://cocodataset.org/#format-results)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from posecli.errors import PoseError
from posecli.formats.label_poses import Frames
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Instance

Warn = Callable[[str], None]


def write_results(frames: Frames, path: Path, warn: Warn) -> int:
    """Writes the list; returns the number of people. People without any joint are left out (the form has no place for
    them). PoseError when image ids are stated for some frames only."""
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


def _image_ids(frames: Frames, warn: Warn) -> Iterator[tuple[int | str, StreamHeader, FramePoses]]:
    """Each frame with its image id: the stated one, else the number that is its picture's name (as COCO names them),
    else its place in the stream counted from 1, which is how `convert` numbers the frames of videos."""
    stated: str | None = None
    seen: set[int | str] = set()
    told = False
    for count, (header, poses) in enumerate(frames, 1):
        stem = Path(poses.file).stem if poses.file else ""
        if poses.image_id is not None:
            how, image_id = "stated", poses.image_id
        elif stem.isdecimal():
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
        if image_id in seen and not told:
            told = True
            warn(
                f"{header.source}: the image id {image_id} stands for another frame too: the results do not tell them "
                "apart (infer the data set, or convert the sources one by one)"
            )
        seen.add(image_id)
        yield image_id, header, poses
