"""People of many frames as columns: what every metric here computes on.

One array per quantity instead of one object per person, float64, so that a file of ten thousand people is a handful of
numpy operations. `Labels` and `Predictions` are what `posecli.metrics.reading` makes of files and data sets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from posecli.types import Skeleton, Video


@dataclass(frozen=True)
class People:
    """N people with K joints; image pixels, missing numbers are NaN.

    Attributes:
        frame: (N,) int64 row of the frame in its own frame list.
        xy: (N, K, 2) float64; meaningless where ``visibility`` is 0.
        visibility: (N, K) int8: 0 missing, 1 hidden, 2 visible (predictions: 0 not found, 2 found).
        score: (N,) float64 of the whole person (ones for labels).
        box_xywh: (N, 4) float64 as given.
        area: (N,) float64 pixels^2 as given, by mask or by number.
        has_mask: (N,) bool: a segmentation mask stands behind ``area``.
        ignore: (N,) bool: crowd, ignore region, or flagged so by the file.
        crowd: (N,) bool: those AP leaves out; without people flagged ``ignore`` only, whom pycocotools counts.
        none_stated: (N,) bool: the file says ``num_keypoints`` 0 of somebody with labelled joints; pycocotools ignores
            these.
        head_box_xyxy: (N, 4) float64.
        heat: (N,) float64 local NMS score in [0, 1].
        track: (N,) int64 identity, -1 for none.
    """

    frame: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray
    score: np.ndarray
    box_xywh: np.ndarray
    area: np.ndarray
    has_mask: np.ndarray
    ignore: np.ndarray
    crowd: np.ndarray
    none_stated: np.ndarray
    head_box_xyxy: np.ndarray
    heat: np.ndarray
    track: np.ndarray

    def __len__(self) -> int:
        return len(self.frame)

    def with_joints(self, index: np.ndarray) -> People:
        """The same people with joint ``index[j]`` at place j (all indices valid)."""
        return replace(self, xy=self.xy[:, index], visibility=self.visibility[:, index])

    def take(self, index: np.ndarray) -> People:
        """The people at ``index`` (integers or a boolean mask)."""
        return People(**{name: getattr(self, name)[index] for name in self.__dataclass_fields__})


def make_people(frame: Sequence[int] | np.ndarray, xy: np.ndarray, visibility: np.ndarray, **columns: object) -> People:
    """`People` from what is known; the other columns get their "not given" value.

    Args:
        frame: N rows of the frame list.
        xy: (N, K, 2) coordinates.
        visibility: (N, K).
        columns: any further column of `People`.
    """
    count = len(frame)
    values: dict[str, np.ndarray] = {
        "score": np.ones(count),
        "box_xywh": np.full((count, 4), np.nan),
        "area": np.full(count, np.nan),
        "has_mask": np.zeros(count, bool),
        "ignore": np.zeros(count, bool),
        "crowd": np.zeros(count, bool),
        "none_stated": np.zeros(count, bool),
        "head_box_xyxy": np.full((count, 4), np.nan),
        "heat": np.full(count, np.nan),
        "track": np.full(count, -1, np.int64),
    }
    for name, value in columns.items():
        values[name] = np.asarray(value, values[name].dtype).reshape(values[name].shape)
    return People(
        frame=np.asarray(frame, np.int64),
        xy=np.asarray(xy, np.float64).reshape(count, -1, 2) if count else np.zeros((0, *np.shape(xy)[1:])),
        visibility=np.asarray(visibility, np.int8),
        **values,
    )


def joint_boxes_xywh(xy: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """(N, 4) tight boxes around the joints with visibility above 0; NaN for people without any."""
    seen = visibility > 0
    low = np.where(seen[..., None], xy, np.inf).min(axis=1, initial=np.inf)
    high = np.where(seen[..., None], xy, -np.inf).max(axis=1, initial=-np.inf)
    boxes = np.hstack([low, high - low])
    boxes[~seen.any(axis=1)] = np.nan
    return boxes


@dataclass(frozen=True)
class LabelFrames:
    """The F frames of a label set, in the order of their ids (as pycocotools sorts them).

    Attributes:
        image_id: F ids.
        file_name: F names (a picture, or the video the frame is read from).
        video: (F,) int64 row of ``videos``, -1 for pictures.
        frame_id: (F,) int64 0-based index in the video, -1 for pictures.
        videos: the data set's videos.
        size_wh: (F, 2) int64 width and height as the data set states them, 0 where it does not.
        labelled: (F,) bool; False for frames that the data set says nobody has labelled (``is_labeled: false``).
        crowd_index: (F,) float64 share of other people's joints in the people's boxes (CrowdPose), NaN where not given.
        ignore_regions: row of the frame -> its polygons (M, 2) within which nothing is counted (PoseTrack).
    """

    image_id: list[int | str]
    file_name: list[str]
    video: np.ndarray
    frame_id: np.ndarray
    videos: tuple[Video, ...] = ()
    size_wh: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))
    labelled: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    crowd_index: np.ndarray = field(default_factory=lambda: np.zeros(0))
    ignore_regions: Mapping[int, tuple[np.ndarray, ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.image_id)

    @property
    def judged(self) -> np.ndarray:
        """(F,) bool: frames on which predictions can be right or wrong: the labelled ones; all where none is."""
        return self.labelled.copy() if self.labelled.any() else np.ones(len(self), bool)


@dataclass(frozen=True)
class Labels:
    """A label set: its skeleton, frames, people, and what had to be said while reading.

    ``root`` is the folder that file names are relative to, "" where the reader did not look for it.
    """

    skeleton: Skeleton
    frames: LabelFrames
    people: People
    source: str = ""
    notes: tuple[str, ...] = ()
    root: str = ""


@dataclass(frozen=True)
class PredictedFrames:
    """The P frames that predictions speak of, in file order.

    Attributes:
        source: P names of the header each frame stands under ("" for results lists).
        file: P picture names or None.
        index: P frame indices in the source (-1 for results lists).
        image_id: P ids or None.
        threshold: (P,) display threshold of the header, 0 where none is stated.
        fps: (P,) float64 rate of the header, 0 where none is stated; size_wh: (P, 2) int64 width and height, likewise;
            both empty for results lists.
    """

    source: list[str]
    file: list[str | None]
    index: list[int]
    image_id: list[int | str | None]
    threshold: np.ndarray
    fps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    size_wh: np.ndarray = field(default_factory=lambda: np.zeros((0, 2), np.int64))

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class Predictions:
    """Predicted people; ``skeleton`` is None for a results list, which has the order of the labels' category.

    ``people.area`` holds the detection's area as pycocotools would take it; of a results list AP also measures joints
    that were not found (`oks.measured_by_ap`). ``boxes`` are the different descriptions of
    whose boxes a top-down model looked at, as the stream's headers have them.
    """

    frames: PredictedFrames
    people: People
    skeleton: Skeleton | None = None
    is_stream: bool = True
    source: str = ""
    notes: tuple[str, ...] = field(default=())
    boxes: tuple[Mapping[str, Any], ...] = ()
