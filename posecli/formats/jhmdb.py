"""JHMDB: a ``joint_positions.mat`` a video, and the COCO-style files made of it.

Source: H. Jhuang et al., "Towards understanding action recognition", ICCV 2013 (http://jhmdb.is.tue.mpg.de).

    joint_positions/<action>/<video>/joint_positions.mat   pos_img (2, 15, T): x and y of the picture, first pixel 1;
                                                           scale, viewpoint, pos_world
    puppet_mask/<action>/<video>/puppet_mask.mat           part_mask (H, W, T): the puppet's pixels
    Rename_Images/<action>/<video>/00001.png               frames, counted from 1
    ReCompress_Videos/<action>/<video>.avi                 the same as a video
    splits/<action>_test_split1.txt                        "<video>.avi 1": 1 train, 2 test, 0 neither

15 joints (`jhmdb15`); ``head`` is the face. They are a fitted puppet's: all are given in every frame, hidden or not,
also where they lie outside the picture. Here v is 2 inside the picture and 1 outside. One person a frame, ``track_id``
0. Where the puppet's mask is there, it gives box, area and ``segmentation``. Frames are all 320 x 240.

**COCO style** (``test_jhmdb_sub1.json`` as mmpose ships it, ``vid_id`` and JHMDB's joint names): v is 2 throughout,
``frame_id`` is the image id (video and frame number from 1); here the frame is the number of the picture less 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats import coco, matlab, release
from posecli.formats.picture_size import picture_size
from posecli.skeletons import JHMDB15
from posecli.types import Dataset, Instance, Record, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

SIZE = (320, 240)
_NAME = "joint_positions.mat"
_COCO_WORDS = (*release.COCO_KEYS, "vid_id", "belly")


def _json_files(src: Path) -> list[Path]:
    return [p for p in release.json_files(src) if release.mentions(p, _COCO_WORDS, ("posecli",))]


def _matrices(src: Path) -> list[Path]:
    """All ``joint_positions.mat`` at or below ``src``, down to three folders."""
    if src.is_file():
        return [src] if src.suffix == ".mat" and "pos_img" in matlab.variable_names(src) else []
    patterns = (_NAME, f"*/{_NAME}", f"*/*/{_NAME}", f"*/*/*/{_NAME}")
    return sorted(p for pattern in patterns for p in src.glob(pattern))


def recognise(src: Path) -> str | None:
    """Why ``src`` is JHMDB, or None."""
    matrices = _matrices(src)
    if matrices:
        return "it has pos_img" if src.is_file() else f"{len(matrices)} {_NAME}"
    return release.describe(src, _json_files(src), "vid_id and JHMDB's joints")


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads the release (its folder, one action's or one video's, or a ``joint_positions.mat``), or a COCO-style JSON.

    Videos have their action as a tag, and among their extra keys ``splits`` (``{"1": "train", ...}``) where these are
    there; frames have ``viewpoint`` where it is stated. ``every`` keeps every n-th frame.

    Raises:
        PoseError: several JSON files, ``pos_img`` of another shape, a coordinate that is not finite, a mask of another
            length; file and record named.
    """
    matrices = _matrices(src)
    if matrices:
        return _read_release(matrices, options, warn)
    path = release.only(src, _json_files(src) or ([src] if src.is_file() else []), "JHMDB")
    return _read_coco_style(path, options, warn)


def _read_coco_style(path: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    value = coco.load_json(path)
    videos: dict[str, dict[str, Any]] = {}
    for i, image in enumerate(release.entries(value, "images", str(path))):
        at = f"{path}, image {image.get('id', i)}"
        folder, _, picture = str(image.get("file_name", "")).rpartition("/")
        number = picture.rpartition(".")[0]
        if not folder or not (number.isascii() and number.isdigit()) or int(number) < 1:
            raise PoseError(f"file_name {image.get('file_name')!r} is not <video>/<frame from 1>.png", at)
        parts = folder.split("/")
        count = image.get("nframes")
        video = videos.setdefault(
            folder,
            {
                "id": len(videos) + 1, "name": parts[-1], "file_name": folder, "width": image.get("width"),
                "height": image.get("height"), "fps": 0.0, "num_frames": count if isinstance(count, int) else 0,
                "tags": parts[-2:-1], "vid_id": image.get("vid_id"),
            },
        )  # fmt: skip
        image["video_id"], image["frame_id"] = video["id"], int(number) - 1
    value["videos"] = list(videos.values())
    return release.coco_dataset(value, path, JHMDB15, options.image_root, warn)


def _read_release(matrices: list[Path], options: ReadOptions, warn: release.Warn) -> Dataset:
    base = _base(matrices[0])
    root = Path(options.image_root) if options.image_root is not None else base
    splits = _splits(base)
    records: list[Record] = []
    videos: list[Video] = []
    absent = 0
    for path in matrices:
        name, action = path.parent.name, path.parent.parent.name
        below = f"{action}/{name}"
        frames = _frames(root, below)
        absent += frames is None
        video_id = len(videos) + 1
        found = _people(path, base / "puppet_mask" / below / "puppet_mask.mat", frames, root)
        file_name, is_video, (width, height), people, views = found
        videos.append(
            Video(
                video_id, name, file_name, width, height, 0.0, len(people), (action,),
                {"splits": splits[name]} if name in splits else {},
            )
        )  # fmt: skip
        for t in range(0, len(people), options.every):
            records.append(
                Record(
                    len(records) + 1, file_name if is_video else f"{file_name}/{t + 1:05d}.png", width, height,
                    (people[t],), video_id, t, {"viewpoint": views[t]} if views else {},
                )
            )  # fmt: skip
    if absent:
        warn(f"{base}: the pictures of {absent} of {len(matrices)} videos are not there (labels are read all the same)")
    return Dataset(JHMDB15, tuple(records), tuple(videos), str(root))


def _base(path: Path) -> Path:
    """The release's folder: that above ``joint_positions``, else the one above the action."""
    for parent in path.parents:
        if parent.name == "joint_positions":
            return parent.parent
    return path.parents[2] if len(path.parents) > 2 else path.parent


def _frames(root: Path, below: str) -> str | None:
    """Where a video's frames are, relative to ``root``: a folder of pictures or a video; None when neither is there."""
    for folder in (f"Rename_Images/{below}", below):
        if (root / folder / "00001.png").is_file():
            return folder
    video = f"ReCompress_Videos/{below}.avi"
    return video if (root / video).is_file() else None


def _people(
    path: Path, mask_path: Path, frames: str | None, root: Path
) -> tuple[str, bool, tuple[int, int], list[Instance], list[Any]]:
    """File name, whether it is a video, size, the person of every frame, the viewpoint of every frame or []."""
    where = str(path)
    value = matlab.read_mat(path)
    points = matlab.field(value, "pos_img", where)
    count = points.shape[2] if isinstance(points, np.ndarray) and points.ndim == 3 else 1
    if isinstance(points, np.ndarray) and points.ndim == 2:
        points = points[..., None]  # MATLAB drops the last axis of a single frame
    points = matlab.array(points, (2, JHMDB15.num_keypoints, None), f"{where}, pos_img")
    below = f"{path.parent.parent.name}/{path.parent.name}"
    file_name = frames or f"Rename_Images/{below}"
    is_video = frames is not None and frames.endswith(".avi")
    size = picture_size(root / file_name / "00001.png") if frames is not None and not is_video else SIZE
    masks = _masks(mask_path, count) if mask_path.is_file() else None
    if masks is not None:
        size = (masks.shape[1], masks.shape[0])
    people = []
    for t in range(count):
        xy = points[:, :, t].T - 1.0  # MATLAB's first pixel is 1
        with np.errstate(invalid="ignore"):
            inside = ((xy >= -0.5) & (xy < np.array(size) - 0.5)).all(axis=1)
        shape = {} if masks is None else _shape(masks[:, :, t])
        at = f"{where}, frame {t + 1}"
        people.append(release.person(xy, np.where(inside, 2, 1), JHMDB15, at, track_id=0, **shape))
    return file_name, is_video, size, people, _viewpoints(value.get("viewpoint"), count)


def _viewpoints(value: Any, count: int) -> list[Any]:
    """One a frame: a number, or a text for the whole video; [] when it is not stated so."""
    if isinstance(value, str) and value:
        return [value] * count
    if isinstance(value, np.ndarray) and value.size in (1, count) and value.dtype.kind in "fiu":
        return [float(v) for v in np.broadcast_to(value.ravel(), (count,))]
    return []


def _masks(path: Path, count: int) -> np.ndarray:
    masks = matlab.field(matlab.read_mat(path), "part_mask", str(path))
    if isinstance(masks, np.ndarray) and masks.ndim == 2:
        masks = masks[..., None]
    masks = matlab.array(masks, (None, None, None), f"{path}, part_mask") > 0
    if masks.shape[2] != count:
        raise PoseError(f"{masks.shape[2]} masks for {count} frames", str(path))
    return masks


def _shape(mask: np.ndarray) -> dict[str, Any]:
    """Box, area and segmentation (compressed RLE) of a mask (H, W); nothing of an empty one."""
    from pycocotools.mask import encode

    down, across = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(down):
        return {}
    rle = encode(np.asfortranarray(mask.astype(np.uint8)))
    segmentation = {"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")}
    box = np.array([across[0], down[0], across[-1] + 1, down[-1] + 1], dtype=np.float64)
    return {"box_xyxy": box, "area": float(mask.sum()), "extra": {"segmentation": segmentation}}


def _splits(base: Path) -> dict[str, dict[str, str]]:
    """Video name to split number to ``train`` or ``test``, from ``splits/``."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted((base / "splits").glob("*_test_split?.txt")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            line_number = error.object[: error.start].count(b"\n") + 1
            raise PoseError("not UTF-8 text", f"{path}, line {line_number}") from None
        for n, line in enumerate(lines, 1):
            if not line.strip():
                continue
            name, _, code = line.strip().rpartition(" ")
            if code not in ("0", "1", "2") or not name:
                raise PoseError(f"{line.strip()!r} is not '<video>.avi 0|1|2'", f"{path}, line {n}")
            if code != "0":
                part = "train" if code == "1" else "test"
                found.setdefault(name.strip().removesuffix(".avi"), {})[path.stem[-1]] = part
    return found
