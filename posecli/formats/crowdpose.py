"""CrowdPose: COCO style with 14 joints, and for every picture how crowded it is.

Source: J. Li et al., "CrowdPose: Efficient Crowded Scenes Pose Estimation and A New Benchmark", CVPR 2019
(https://github.com/Jeff-sjtu/CrowdPose): ``crowdpose_{train,val,trainval,test}.json`` beside ``images/``.

- ``crowdIndex`` of an image is in 0..1; the paper counts up to 0.1 as easy, the published code and figures below 0.2,
  both from 0.8 as hard. It stays a key of the image.
- The category calls the top of the head ``head``; it is `crowdpose14`'s ``top_head``.
- v is COCO's 0, 1, 2. ``num_keypoints`` leaves out head and neck; we count all 14, as COCO does its joints.
- There is no ``area``. The benchmark's own evaluation takes 0.53 of the person box, and so does this reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.formats import coco, release
from posecli.skeletons import CROWDPOSE14
from posecli.types import Dataset

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

AREA_OF_BOX = 0.53
_FOLDERS = ("", "annotations", "json")


def _files(src: Path) -> list[Path]:
    words = (*release.COCO_KEYS, "crowdIndex")
    return [p for p in release.json_files(src, _FOLDERS) if release.mentions(p, words, ("posecli",))]


def recognise(src: Path) -> str | None:
    """Why ``src`` is CrowdPose, or None."""
    return release.describe(src, _files(src), "COCO's keys and crowdIndex")


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads a CrowdPose JSON, or a folder with one.

    ``Record.extra["crowdIndex"]`` is the picture's crowd index.

    Raises:
        PoseError: several files or none, a picture without a ``crowdIndex`` in 0..1, other joints, and what the COCO
            reader finds; file and record named.
    """
    path = release.only(src, _files(src) or ([src] if src.is_file() else []), "CrowdPose")
    value = coco.load_json(path)
    where = str(path)
    for image in release.entries(value, "images", where):
        index = image.get("crowdIndex")
        if not isinstance(index, (int, float)) or isinstance(index, bool) or not 0 <= index <= 1:
            what = "no crowdIndex" if index is None else f"crowdIndex {index!r} is not in 0..1"
            raise PoseError(what, f"{where}, image {image.get('id')}")
    for entry in release.entries(value, "annotations", where):
        _as_coco(entry)
    return release.coco_dataset(value, path, CROWDPOSE14, options.image_root, warn)


def _as_coco(entry: dict[str, Any]) -> None:
    """Leaves out a ``num_keypoints`` that counts without head and neck, fills in the area; the COCO reader checks."""
    points, box = entry.get("keypoints"), entry.get("bbox")
    if isinstance(points, list) and entry.get("num_keypoints") == sum(v != 0 for v in points[2:36:3]):
        del entry["num_keypoints"]
    if entry.get("area") is None and isinstance(box, list) and len(box) == 4:
        sizes = [float(b) for b in box[2:] if is_finite(b) and b >= 0]
        if len(sizes) == 2:
            entry["area"] = AREA_OF_BOX * sizes[0] * sizes[1]
