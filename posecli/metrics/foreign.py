"""Predictions in the forms of others (AlphaPose, mmpose, ...), and labelled data sets in place of them.

Whoever only compares need not have the pictures at hand: sizes come from the labels. A data set as predictions is what
a second annotator says: people flagged ``ignore``, people without a labelled joint (a box is no pose) and frames nobody
has labelled are left out, every person's score is 1, so that precision over score (AP) has one step only.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from posecli.errors import PoseError
from posecli.formats import ReadOptions, coco_results, openpose, read_dataset, recognised, table_set
from posecli.formats.clips import find_clips, find_labels
from posecli.formats.found_pictures import StatedPictures
from posecli.formats.label_poses import label_stream
from posecli.metrics.people import LabelFrames
from posecli.types import Instance, Skeleton
from posecli.video import PICTURE_SUFFIXES

if TYPE_CHECKING:
    from posecli.predictions import FramePoses, StreamHeader

Warn = Callable[[str], None]
# Forms that `posecli.metrics.reading` reads itself.
OWN = ("pose_stream", "coco_results")
# Forms of poses; their readers are imported when asked: they load decoders.
_POSES = ("alphapose", "mmpose", "openpose", "yolo_predictions", "mediapipe")


def form_of_predictions(path: Path) -> str:
    """The form of what is no pose stream: a key of `posecli.formats.FORMATS`; "" for none known."""
    if coco_results.recognise(path):
        return "coco_results"  # by its first bytes: other forms may look through the whole file
    try:
        form = (recognised(path) or ("", ""))[0]
    except PoseError:
        return ""
    if form in ("", "mars") and path.is_dir() and openpose.folders_below(path) and not _has_labelled_clips(path):
        return "openpose"  # a folder for each of several videos
    return form


def _has_labelled_clips(folder: Path) -> bool:
    return any(find_labels(clip, folder) is not None for clip in find_clips(folder))


def stated_pictures(frames: LabelFrames) -> StatedPictures:
    """What a label set says of the sizes of its pictures and videos."""
    sizes = {
        name: (int(width), int(height))
        for name, video, (width, height) in zip(frames.file_name, frames.video, frames.size_wh, strict=True)
        if video < 0
    }
    of_videos: dict[int, dict[str, tuple[int, int]]] = {}
    for name, video, (width, height) in zip(frames.file_name, frames.video, frames.size_wh, strict=True):
        if video >= 0 and PurePosixPath(name).suffix.lower() in PICTURE_SUFFIXES:
            of_videos.setdefault(frames.videos[video].id, {})[name] = (int(width), int(height))
    return StatedPictures(sizes, frames.videos, of_videos)


def read_foreign(
    path: Path,
    form: str,
    skeleton: Skeleton | None,
    frames: LabelFrames | None,
    warn: Warn,
    image_root: str | Path | None = None,
) -> Iterable[tuple[StreamHeader, FramePoses]]:
    """The predictions at ``path`` as poses.

    Args:
        form: of `form_of_predictions`, not one of `OWN`.
        skeleton: the joints, for forms that do not name them.
        frames: of the labels, where sizes are looked up.
        image_root: folder of the pictures and videos of a data set whose sizes the labels do not say.

    Raises:
        PoseError: what the form's reader refuses.
    """
    stated = None if frames is None else stated_pictures(frames)
    if form == "openpose" and not openpose.is_openpose_folder(path):
        return openpose.read_folders(path, skeleton, warn, stated)
    if form in _POSES:
        read_poses = importlib.import_module(f"posecli.formats.{form}").read_poses
        return read_poses(path, None, stated) if form == "mediapipe" else read_poses(path, skeleton, None, warn, stated)
    return _labels_as_poses(path, form, skeleton, stated, warn, image_root)


def _labels_as_poses(
    path: Path,
    form: str,
    skeleton: Skeleton | None,
    stated: StatedPictures | None,
    warn: Warn,
    image_root: str | Path | None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    from posecli.formats import FORMATS

    given = skeleton if "skeleton" in FORMATS[form].takes else None
    root = image_root if "image_root" in FORMATS[form].takes else None
    if form == "csv" and stated is not None:
        dataset = table_set.read_to_compare(path, ReadOptions(given, root), stated, warn)
    else:
        dataset = read_dataset(path, form, skeleton=given, image_root=root, warn=warn)
    labelled = [r for r in dataset.records if r.extra.get("is_labeled") is not False]
    records = tuple(replace(r, instances=tuple(p for p in r.instances if _has_pose(p))) for r in labelled)
    fewer = sum(len(r.instances) for r in labelled) - sum(len(r.instances) for r in records)
    left_out = f"; {fewer} crowds and people without joints left out" if fewer else ""
    warn(f"{path}: a data set ({form}) as predictions: everybody's score is as it says, 1 if it says none{left_out}")
    yield from label_stream(replace(dataset, records=records), whole_names=True)


def _has_pose(person: Instance) -> bool:
    return not person.ignore and bool((person.visibility > 0).any())
