"""What is checked, as columns: the pictures and people of one file, whatever its form, with broken values left out.

The strict readers of `posecli.formats` and `posecli.predictions` stop at the first broken value; a check has to go on
and count (`checks.reading`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from posecli.types import Skeleton


@dataclass(frozen=True)
class Picture:
    """One image or frame: ``record`` names it in findings, ``place`` finds it in the parsed file. ``source`` is the
    video it belongs to (None for pictures) and ``frame`` its index there; ``in_video``: its pixels are in that file.
    Of a stream, ``origin`` is the name of its source and ``threshold`` the source's display threshold, ``time`` the
    frame's own in seconds, where it has one; ``broken``: it could not be decoded."""

    record: str
    place: Any
    image_id: Any
    file_name: str
    width: int
    height: int
    source: Any = None
    frame: int = 0
    in_video: bool = False
    fps: float | None = None
    tags: tuple[str, ...] = ()
    recording: str = ""
    origin: str = ""
    threshold: float = 0.0
    time: float | None = None
    broken: bool = False


@dataclass
class Subject:
    """N people with K joints on the pictures of one file; image pixels, NaN for what is missing or broken.

    Attributes:
        path: the file. form: ``"coco"``, ``"stream"`` or ``"other"`` (read by its own reader).
        skeleton: the joints. root: folder of the pictures.
        pictures: all of them, also those without people.
        frame: (N,) int64 row of the picture.
        xy: (N, K, 2) float64; NaN where ``visibility`` is 0.
        visibility: (N, K) int8.
        score: (N, K) float64. person_score: (N,) float64; ones for labels.
        heat: (N,) float64 local NMS score, NaN without.
        box_xyxy: (N, 4) float64. area: (N,) float64.
        crowd: (N,) bool. track: (N,) int64, -1 for none.
        records: N names for findings. places: N places in the parsed file.
        predicted: people come from a model.
        raw: the parsed file, for repairs. notes: what to know about how it was looked at.
    """

    path: str
    form: str
    skeleton: Skeleton
    root: str
    pictures: list[Picture]
    frame: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray
    score: np.ndarray
    person_score: np.ndarray
    heat: np.ndarray
    box_xyxy: np.ndarray
    area: np.ndarray
    crowd: np.ndarray
    track: np.ndarray
    records: list[str]
    places: list[Any]
    predicted: bool = False
    raw: Any = None
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def size_wh(self) -> np.ndarray:
        """(N, 2) float64 width and height of each person's picture, NaN where not known."""
        sizes = np.array([(p.width, p.height) for p in self.pictures], np.float64).reshape(-1, 2)
        return np.where(sizes > 0, sizes, np.nan)[self.frame]

    @property
    def threshold(self) -> np.ndarray:
        """(N,) float64 display threshold of the source that each person is of; 0 for labels."""
        return np.array([p.threshold for p in self.pictures], np.float64)[self.frame]

    @property
    def shown(self) -> np.ndarray:
        """(N,) bool: no crowd and, of predictions, not below the display threshold."""
        return ~self.crowd & (self.person_score >= self.threshold)

    @property
    def joint_boxes(self) -> np.ndarray:
        """(N, 4) float64 x1, y1, x2, y2 around the labelled joints; NaN without any."""
        there = (self.visibility > 0)[..., None]
        low = np.where(there, self.xy, np.inf).min(axis=1) if len(self) else np.empty((0, 2))
        high = np.where(there, self.xy, -np.inf).max(axis=1) if len(self) else np.empty((0, 2))
        boxes = np.concatenate([low, high], axis=1)
        return np.where(np.isfinite(boxes), boxes, np.nan)

    @property
    def person_size(self) -> np.ndarray:
        """(N,) float64 pixels: the longer side of the joint box, or of the box without joints; NaN without either."""
        boxes = np.where(np.isnan(self.joint_boxes), self.box_xyxy, self.joint_boxes)
        return np.fmax(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])

    def tracks(self) -> dict[tuple[Any, int], np.ndarray]:
        """Rows of each identity of each video, by frame; only identities on two frames or more."""
        rows: dict[tuple[Any, int], list[int]] = {}
        for n in np.flatnonzero((self.track >= 0) & ~self.crowd):
            picture = self.pictures[self.frame[n]]
            if picture.source is not None:
                rows.setdefault((picture.source, int(self.track[n])), []).append(int(n))
        ordered = {k: sorted(v, key=lambda n: self.pictures[self.frame[n]].frame) for k, v in rows.items()}
        return {k: np.array(v) for k, v in ordered.items() if len(v) > 1}


class Rows:
    """People gathered one by one, then turned into the columns of a `Subject`."""

    def __init__(self, joints: int) -> None:
        self.joints = joints
        self.columns: dict[str, list[Any]] = {
            name: []
            for name in (
                "frame", "xy", "visibility", "score", "person_score", "heat", "box_xyxy", "area", "crowd", "track",
                "records", "places",
            )
        }  # fmt: skip

    def add(self, **values: Any) -> None:
        """One person; every column is given."""
        for name, column in self.columns.items():
            column.append(values[name])

    def finish(self) -> dict[str, Any]:
        """The columns as arrays of fixed types and shapes."""
        count = len(self.columns["frame"])
        shapes = {"xy": (count, self.joints, 2), "box_xyxy": (count, 4)}
        shapes |= dict.fromkeys(("visibility", "score"), (count, self.joints))
        kinds = {"frame": np.int64, "track": np.int64, "visibility": np.int8, "crowd": np.bool_}
        result: dict[str, Any] = {}
        for name, column in self.columns.items():
            if name in ("records", "places"):
                result[name] = column
            else:
                result[name] = np.array(column, kinds.get(name, np.float64)).reshape(shapes.get(name, (count,)))
        result["xy"][result["visibility"] == 0] = np.nan
        return result
