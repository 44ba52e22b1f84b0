"""What every form of label file for a video becomes: rows of one person at one moment, still in the file's own joints.

A reader (`tables`, `arrays`, `frame_json`, `openpose`) turns a file into a `LabelFile`; `mars` matches it with its
video and makes `Instance`s by `to_instance`. The third number beside x and y is either a visibility 0, 1, 2 (kept
exactly) or a confidence (kept as the joint's score; visibility then follows from `visibility_from_scores`), never
mixed in a file.
Coordinates of every form are pixels with pixel centres on integers, counted from 0.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.formats.joint_names import spelling
from posecli.types import Instance, Skeleton

# A joint reported with at least this confidence counts as seen; below it, as there but not to be relied on.
SCORE_THRESHOLD = 0.3


class Third(enum.Enum):
    """What stands beside x and y."""

    VISIBILITY = "visibility"
    SCORE = "score"
    NOTHING = "nothing"


@dataclass(frozen=True)
class LabelRow:
    """One person at one moment.

    Attributes:
        where: file and row for messages.
        xy: (K, 2) float64 pixels; NaN means missing, infinity "something that is no number stood there".
        third: (K,) float64 as `LabelFile.third` says; NaN where nothing stood.
        frame: 0-based number (in units of the file's ``fps`` if it has one), or None when ``time`` or ``file`` stands.
        time: seconds from the video's first frame.
        file: name of the frame's picture.
        track_id: identity, or None.
        box_xyxy, head_box_xyxy, area, ignore, person_score: as in `Instance`.
        source: the video or picture it is of, in tables of several; else empty.
        width, height: of that picture, where the table says so; else 0.
        extra: further keys, kept.
    """

    where: str
    xy: np.ndarray
    third: np.ndarray
    frame: int | None = None
    time: float | None = None
    file: str | None = None
    track_id: int | None = None
    box_xyxy: np.ndarray | None = None
    head_box_xyxy: np.ndarray | None = None
    area: float | None = None
    ignore: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)
    person_score: float = 1.0
    source: str = ""
    width: int = 0
    height: int = 0


@dataclass(frozen=True)
class LabelFile:
    """All rows of one label file.

    Attributes:
        path: the file or folder.
        form: which form was recognised, for messages.
        rows: in file order.
        third: what `LabelRow.third` means.
        names: the file's joint names, or None where the form has none (arrays): then a skeleton must be given.
        num_frames: how many frames the labels speak of, where the form says (arrays); else None.
        labelled: frame numbers that are labelled as empty (a frame entry without people).
        fps: the rate in which frame numbers count, where the file states it; None: the video's own frames.
        facts: what the file says of the whole video (``recording``, ``tags``, ``width``, ``height``), else empty.
    """

    path: Path
    form: str
    rows: tuple[LabelRow, ...]
    third: Third
    names: tuple[str, ...] | None
    num_frames: int | None = None
    labelled: tuple[int, ...] = ()
    fps: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def say_scores_outside(label: LabelFile, warn: Callable[[str], None]) -> None:
    """Tells how many joint scores lie outside 0 to 1 (per cent, logits): they count as 0 and 1."""
    if label.third is Third.SCORE:
        say_outside((row.third for row in label.rows), str(label.path), warn)


def say_outside(scores: Iterable[np.ndarray], where: str, warn: Callable[[str], None]) -> None:
    """The same of arrays of scores; what is not finite is no score."""
    outside = sum(int((np.isfinite(s) & ((s < 0) | (s > 1))).sum()) for s in scores)
    if outside:
        warn(f"{where}: {outside} joint scores below 0 or above 1 count as 0 and 1")


def joint_columns(label: LabelFile, skeleton: Skeleton, renames: Mapping[str, str]) -> np.ndarray:
    """(K_skeleton,) int64: the place in the file of each of the skeleton's joints, -1 where the file has it not.

    Names meet after ``renames`` (file's name to skeleton's), spelling aside. PoseError names the file and the first
    joint that the skeleton lacks; a rename to ``""`` leaves a joint out on purpose.
    """
    if label.names is None:
        return np.arange(skeleton.num_keypoints)
    place = {spelling(n): i for i, n in enumerate(skeleton.keypoints)}
    columns = np.full(skeleton.num_keypoints, -1, dtype=np.int64)
    for i, name in enumerate(label.names):
        renamed = renames.get(name, name)
        if renamed == "":
            continue
        joint = place.get(spelling(renamed))
        if joint is None:
            raise PoseError(
                f"unknown joint {renamed!r}",
                str(label.path),
                f"skeleton {skeleton.name!r} has {', '.join(skeleton.keypoints)}; [rename] in skeleton.toml maps names",
            )
        if columns[joint] >= 0:
            raise PoseError(f"joint {skeleton.keypoints[joint]!r} stands twice", str(label.path))
        columns[joint] = i
    return columns


def to_instance(
    row: LabelRow,
    columns: np.ndarray,
    skeleton: Skeleton,
    kind: Third,
    width: int | None,
    height: int | None,
    threshold: float,
) -> Instance:
    """The row as a labelled person of ``skeleton`` (K joints) in a picture of that size (None: wherever joints lie).

    Raises:
        PoseError: a labelled joint's coordinate is not finite, or a visibility is not 0, 1 or 2; file and row named.
    """
    present = columns >= 0
    xy = np.full((len(columns), 2), np.nan)
    third = np.full(len(columns), np.nan)
    xy[present] = row.xy[columns[present]]
    third[present] = row.third[columns[present]]
    score = np.ones(len(columns), dtype=np.float32)
    finite = np.isfinite(xy).all(axis=1)
    if kind is Third.VISIBILITY:
        # A joint without any entry is one that is not labelled.
        third = np.where(np.isnan(third) & np.isnan(xy).all(axis=1), 0, third)
        odd = ~np.isin(third, (0, 1, 2))
        if odd.any():
            joint = int(np.flatnonzero(odd)[0])
            name = skeleton.keypoints[joint]
            raise PoseError(f"visibility of {name!r} is {third[joint]:g}, not 0, 1 or 2", row.where)
        claimed = third > 0
        visibility = third.astype(np.int64)
    elif kind is Third.SCORE:
        if np.isinf(third).any():
            joint = int(np.flatnonzero(np.isinf(third))[0])
            raise PoseError(f"the confidence of {skeleton.keypoints[joint]!r} is not finite", row.where)
        claimed = np.nan_to_num(third, nan=0.0) > 0
        visibility = visibility_from_scores(xy, third, width, height, threshold)
        score = np.clip(np.nan_to_num(third, nan=0.0), 0, 1).astype(np.float32)
    else:
        claimed = ~np.isnan(xy).all(axis=1)
        visibility = np.where(claimed, 2, 0)
    odd = claimed & ~finite
    if odd.any():
        joint = int(np.flatnonzero(odd)[0])
        raise PoseError(f"a coordinate of {skeleton.keypoints[joint]!r} is not finite", row.where)
    xy[visibility == 0] = np.nan
    return Instance(
        xy=xy,
        visibility=visibility,
        score=score,
        person_score=row.person_score,
        box_xyxy=row.box_xyxy,
        head_box_xyxy=row.head_box_xyxy,
        area=row.area,
        ignore=row.ignore,
        track_id=row.track_id,
        extra=row.extra,
    )


def visibility_from_scores(
    xy: np.ndarray, score: np.ndarray, width: int | None, height: int | None, threshold: float = SCORE_THRESHOLD
) -> np.ndarray:
    """(K,) int64: 2 for a joint inside the picture with confidence above ``threshold``, 1 for one inside with less,
    0 for one outside or missing (confidence 0 or NaN). Pixel centres are integers: inside is
    -0.5 <= x < width - 0.5; without a size it is everywhere."""
    with np.errstate(invalid="ignore"):
        inside = np.isfinite(xy).all(axis=1) & (score > 0)
        if width is not None and height is not None:
            inside &= ((xy >= -0.5) & (xy < np.array([width, height]) - 0.5)).all(axis=1)
        return np.where(inside, np.where(score > threshold, 2, 1), 0).astype(np.int64)


def kind_of_third(values: np.ndarray, where: str) -> Third:
    """Whether unnamed third numbers are visibilities or confidences: whole numbers 0, 1, 2 are visibilities; numbers
    between 0 and 1 confidences; PoseError for anything else. NaN counts for neither."""
    values = values[~np.isnan(values)]
    if np.isin(values, (0, 1, 2)).all():
        return Third.VISIBILITY
    if ((values >= 0) & (values <= 1)).all():
        return Third.SCORE
    odd = values[(values < 0) | ((values > 1) & (values != 2)) | ~np.isfinite(values)]
    seen = f"{odd[0]:g}" if len(odd) else "a mixture of 2 and fractions"
    raise PoseError(f"the third number beside x and y is {seen}", where, "visibility is 0, 1, 2; confidence 0 to 1")


def check_unique(rows: Sequence[LabelRow], hint: str) -> None:
    """PoseError naming the row where the same person stands a second time in the same frame."""
    seen: set[tuple[Any, ...]] = set()
    for row in rows:
        key = (row.source, row.frame, row.time, row.file, row.track_id)
        if key in seen:
            moment = f"frame {row.frame}" if row.frame is not None else f"{row.file or f'{row.time:g} s'}"
            raise PoseError(f"{moment} has person {row.track_id} twice", row.where, hint)
        seen.add(key)
