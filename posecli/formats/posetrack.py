"""PoseTrack18: a JSON a video (``annotations/val/012834_mpii_test.json``), or one file for all of them.

Source: M. Andriluka et al., "PoseTrack: A Benchmark for Human Pose Estimation and Tracking", CVPR 2018
(https://posetrack.net, https://github.com/leonid-pishchulin/poseval). COCO style with these differences:

- v is 0 or **1**: 1 means labelled; whether a joint is hidden is not told. It is kept as 1 (COCO's "labelled"); a 2 is
  an error.
- 17 joints (`posetrack18`) in COCO's places; the two ears are never labelled.
- ``frame_id`` is the image id (1, six digits of the video, four of the frame), not a frame number: the frame is the
  number of the picture, ``000012.jpg``. ``vid_id`` names the video. Here ``video_id`` and a 0-based ``frame_id`` take
  their places, and every video becomes an entry of its own.
- ``bbox_head`` (x, y, width, height) is our ``head_box``.
- ``ignore_regions_x`` and ``ignore_regions_y`` of an image are polygons in which people are not labelled. Each becomes
  a crowd region (``iscrowd`` 1 with its polygon and ``ignore_region``: true); the two keys stay with the image.
- ``is_labeled`` false: a frame between the labelled ones. The rate of the videos is not stated.
- The release does not state ``width`` and ``height``; they are taken from the video's first picture that is there.
"""

from __future__ import annotations

import reprlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.formats import coco, release
from posecli.formats.side_notes import is_id
from posecli.formats.sniffing import refuse_cut_off
from posecli.skeletons import POSETRACK18
from posecli.types import Dataset

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

_WORDS = ("images", "categories", "vid_id", "head_bottom")


def _fits(path: Path) -> bool:
    return path.suffix == ".json" and release.mentions(path, _WORDS, ("posecli",))


def _files(src: Path) -> list[Path]:
    """The JSON file at ``src``, or those of the folder; else ``annotations/``'s one file or one folder of them."""
    if src.is_file():
        return [src] if _fits(src) else []
    if found := [p for p in sorted(src.glob("*.json")) if _fits(p)]:
        return found
    for folder in (src / "annotations", src):
        merged = [p for p in sorted(folder.glob("*.json")) if _fits(p)]
        if merged:
            return merged
        splits = [d for d in sorted(folder.iterdir()) if d.is_dir()] if folder.is_dir() else []
        found = [p for d in splits for p in sorted(d.glob("*.json")) if _fits(p)]
        if found:
            return found
    return []


def recognise(src: Path) -> str | None:
    """Why ``src`` is PoseTrack18, or None."""
    return release.describe(src, _files(src), "vid_id and PoseTrack's joints")


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads one JSON, or a folder of a JSON a video as one data set.

    A folder with ``annotations/<split>/`` of one split is that split; with several, name one. Tracks are numbered
    within their video.

    Raises:
        PoseError: several splits, v other than 0 and 1, the same frame twice, a picture name without a number, a
            region whose x and y differ in length, no size and no picture to take it from, and what the COCO reader
            finds; file and record named.
    """
    files = _files(src) or ([src] if src.is_file() else [])
    if not files:
        raise PoseError("no PoseTrack18 JSON", str(src))
    if len({p.parent for p in files}) > 1:
        names = ", ".join(sorted({str(p.parent.relative_to(src)) for p in files}))
        raise PoseError(f"several splits: {names}", str(src), "name the folder of one")
    if src.is_dir():
        refuse_cut_off(sorted(set(files[0].parent.glob("*.json")) - set(files)))
    value = _joined(files)
    where = str(files[0]) if len(files) == 1 else str(files[0].parent)
    images = value["images"]
    root = options.image_root if options.image_root is not None else _root(files[0], images)
    _fill_sizes(images, Path(root), where)
    value["videos"] = _videos(images, where)
    for i, image in enumerate(images):
        if not is_id(image.get("id")):
            what = f"image id {reprlib.repr(image.get('id'))} is neither a number nor a name"
            raise PoseError(what, f"{where}, images[{i}]")
    known = {i["id"] for i in images}
    for i, entry in enumerate(value["annotations"]):
        at = f"{where}, annotation {entry.get('id', i)}"
        points = entry.get("keypoints")
        if isinstance(points, list) and 2 in points[2::3]:
            raise PoseError("v is 2; PoseTrack18 has 0 and 1", at, "--format coco reads COCO's codes")
        if "bbox_head" in entry:
            entry["head_box"] = entry.pop("bbox_head")
        if not is_id(entry.get("image_id")) or entry["image_id"] not in known:
            raise PoseError(f"unknown image id {reprlib.repr(entry.get('image_id'))}", at)
    value["annotations"] += _ignore_regions(value, where, warn)
    return release.coco_dataset(value, files[0], POSETRACK18, root, warn)


def _root(path: Path, images: list[dict[str, Any]]) -> Path:
    """The folder that file names are relative to: where one of the pictures is, else that above ``annotations/``."""
    for image in images:
        name = str(image.get("file_name", ""))
        root = image_root_of(path, name)
        if name and (root / name).exists():
            return root
    return next((p.parent for p in path.parents if p.name == "annotations"), path.parent)


def _joined(files: list[Path]) -> dict[str, Any]:
    """All files as one object; the categories must be the same."""
    whole: dict[str, Any] = {}
    for path in files:
        value = coco.load_json(path)
        images = release.entries(value, "images", str(path))
        categories = release.entries(value, "categories", str(path))
        # A test video is published without annotations.
        people = release.entries(value, "annotations", str(path)) if "annotations" in value else []
        if not whole:
            whole = {"images": [], "annotations": [], "categories": categories}
        elif [c.get("keypoints") for c in categories] != [c.get("keypoints") for c in whole["categories"]]:
            raise PoseError(f"other joints than {files[0].name}", str(path))
        whole["images"] += images
        whole["annotations"] += people
    return whole


def _fill_sizes(images: list[dict[str, Any]], root: Path, where: str) -> None:
    """Gives images without width and height those of their video's first picture that is there."""
    without = [i for i in images if "width" not in i or "height" not in i]
    if not without:
        return
    pictures, sizes = release.Pictures(root), {}
    for image in images:
        name = str(image.get("file_name", ""))
        folder = name.rpartition("/")[0]
        if folder not in sizes and (size := pictures.size(name)) is not None:
            sizes[folder] = size
    for image in without:
        name = str(image.get("file_name", ""))
        size = sizes.get(name.rpartition("/")[0])
        if size is None:
            what = "no width and height, and no picture of its video is there"
            raise PoseError(what, f"{where}, image {image.get('id')}", f"{root} has no {name}: give --image-root")
        image["width"], image["height"] = size


def _videos(images: list[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """The videos' entries; gives every image its ``video_id`` and 0-based ``frame_id``."""
    videos: dict[str, dict[str, Any]] = {}
    seen = set()
    for i, image in enumerate(images):
        at = f"{where}, image {image.get('id', i)}"
        name = str(image.get("file_name", ""))
        folder, _, picture = name.rpartition("/")
        number = picture.rpartition(".")[0]
        if not (number.isascii() and number.isdigit()) or not folder:
            raise PoseError(f"file_name {name!r} is not <video>/<frame number>.jpg", at)
        if "vid_id" not in image:
            raise PoseError("no 'vid_id'", at)
        parts = folder.split("/")
        count = image.get("nframes")
        video = videos.setdefault(
            folder,
            {
                "id": len(videos) + 1, "name": parts[-1], "file_name": folder, "width": image.get("width"),
                "height": image.get("height"), "fps": 0.0, "num_frames": count if isinstance(count, int) else 0,
                "tags": parts[-2:-1], "vid_id": image["vid_id"],
            },
        )  # fmt: skip
        if (folder, int(number)) in seen:
            raise PoseError(f"frame {int(number)} of {parts[-1]} stands twice", at)
        seen.add((folder, int(number)))
        image["video_id"], image["frame_id"] = video["id"], int(number)
    per_video = Counter(i["video_id"] for i in images)
    for video in videos.values():
        video["num_frames"] = max(video["num_frames"], per_video[video["id"]])
    return list(videos.values())


def _ignore_regions(value: dict[str, Any], where: str, warn: release.Warn) -> list[dict[str, Any]]:
    """A crowd annotation for every ignore region of every image."""
    ids = [e["id"] for e in value["annotations"] if isinstance(e.get("id"), int)]
    following = max(ids, default=0) + 1
    category = next((c.get("id") for c in value["categories"] if c.get("keypoints")), 1)
    regions: list[dict[str, Any]] = []
    thin = 0
    for image in value["images"]:
        at = f"{where}, image {image.get('id')}"
        across, down = image.get("ignore_regions_x") or [], image.get("ignore_regions_y") or []
        if not isinstance(across, list) or not isinstance(down, list) or len(across) != len(down):
            raise PoseError("ignore_regions_x and ignore_regions_y are not lists of the same length", at)
        for n, (xs, ys) in enumerate(zip(across, down, strict=True)):
            if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
                raise PoseError(f"ignore region {n} has not as many x as y", at)
            points = release.numbers([xs, ys], (2, len(xs)), f"ignore region {n}", at).T
            if not np.isfinite(points).all():
                raise PoseError(f"ignore region {n} has a coordinate that is not finite", at)
            low, high = (points.min(axis=0), points.max(axis=0)) if len(points) else (np.zeros(2), np.zeros(2))
            if len(points) < 3 or (high <= low).any():
                thin += 1
                continue
            regions.append(
                {
                    "id": following + len(regions), "image_id": image.get("id"), "category_id": category,
                    "keypoints": [], "num_keypoints": 0, "iscrowd": 1, "ignore_region": True,
                    "bbox": [*low.tolist(), *(high - low).tolist()], "area": _area(points),
                    "segmentation": [points.ravel().tolist()],
                }
            )  # fmt: skip
    if thin:
        warn(f"{where}: {thin} ignore regions enclose nothing and were left out")
    return regions


def _area(points: np.ndarray) -> float:
    """Of a polygon (N, 2), by the shoelace formula."""
    x, y = (points - points[0]).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2)
