"""What is done with a source apart from the model, and which part of its pictures is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.tracking import TRACKERS
from posecli.video import DECODERS, FrameSource, check_positions


@dataclass(frozen=True)
class InferOptions:
    """What is done with a source, apart from the model.

    Attributes:
        track: who gives identities, of `posecli.tracking.TRACKERS`; ``"none"`` nobody, ``"auto"`` does so for video and
            cameras by ``"oks"``. ``"flow"`` also carries the boxes of people followed by optical flow.
        start, end: first frame and the one after the last: frame numbers, or seconds as ``"12.5s"``; None for all.
        every: step between frames.
        roi: x, y, width, height of the part of the picture to look at; coordinates stay those of the whole picture.
        batch: frames that go through the model together.
        find_every: videos: seconds between the finder's runs, people are followed meanwhile (`posecli.following`); 0:
            it runs in every frame. For models with a finder that are given no boxes.
    """

    track: str = "auto"
    start: int | str | None = None
    end: int | str | None = None
    every: int = 1
    roi: tuple[float, float, float, float] | None = None
    batch: int = 8
    find_every: float = 0.2

    def __post_init__(self) -> None:
        if self.track not in ("auto", "none", *TRACKERS):
            raise UsageError(f"unknown tracker {self.track!r}", hint=f"auto, none, {', '.join(TRACKERS)}")
        check_positions(self.start, self.end)
        if self.every < 1 or self.batch < 1:
            raise UsageError("every and batch must be at least 1")
        if not 0 <= self.find_every < float("inf"):
            raise UsageError("seconds between runs of the finder must be 0 or more")
        if self.roi is not None and (self.roi[2] < 1 or self.roi[3] < 1):
            raise UsageError(f"the region {self.roi} is empty", hint="--roi x,y,width,height in pixels")


class InferChoices(TypedDict, total=False):
    """The fields of `InferOptions` as named arguments."""

    track: str
    start: int | str | None
    end: int | str | None
    every: int
    roi: tuple[float, float, float, float] | None
    batch: int
    find_every: float


def check_decoder(decode: str) -> None:
    """UsageError where nobody decodes videos by that name."""
    if decode not in DECODERS:
        raise UsageError(f"unknown decoder {decode!r}", hint=f"one of {', '.join(DECODERS)}")


def check_region(source: FrameSource, options: InferOptions) -> None:
    """UsageError where the region lies outside of a source's frames (of pictures: of all of them)."""
    if options.roi is None or not source.width > 0 or not source.height > 0:
        return
    try:
        part_of(source.width, source.height, options.roi)
    except UsageError:
        if not any(_holds(source, index, options) for index in range(_pictures(source))):
            raise


def _pictures(source: FrameSource) -> int:
    return source.num_frames or 0 if source.kind == "pictures" else 0


def _holds(source: FrameSource, index: int, options: InferOptions) -> bool:
    """Whether something of the region lies in a picture; not if it can't be read."""
    try:
        return holds_region(source.read_at(index).image, options)
    except PoseError:
        return False


def holds_region(image: np.ndarray, options: InferOptions) -> bool:
    """Whether there is something of the region in a picture (H, W, 3)."""
    try:
        region_of(image, options)
    except UsageError:
        return False
    return True


def part_of(width: int, height: int, roi: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """What of a region lies in a picture of this size: first column and row, and those after the last."""
    x, y, across, down = (round(v) for v in roi)
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + across, width), min(y + down, height)
    if left >= right or top >= bottom:
        raise UsageError(f"the region {x},{y},{across},{down} lies outside the picture of {width} x {height}")
    return left, top, right, bottom


def region_of(image: np.ndarray, options: InferOptions) -> np.ndarray:
    """The part of a picture (H, W, 3) that is looked at; UsageError where the region lies outside."""
    if options.roi is None:
        return image
    left, top, right, bottom = part_of(image.shape[1], image.shape[0], options.roi)
    return image[top:bottom, left:right]


def origin_of(options: InferOptions) -> np.ndarray:
    """(2,) first pixel of the region."""
    return np.zeros(2) if options.roi is None else np.array([max(round(v), 0) for v in options.roi[:2]], np.float64)


def parse_numbers(text: str, count: int | None, what: str) -> tuple[float, ...]:
    """``"1,0.5"`` to numbers; UsageError unless there are ``count`` of them, all finite."""
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or (count is not None and len(numbers) != count) or not np.isfinite(numbers).all():
        raise UsageError(f"{what} {text!r} is not {count or 'some'} numbers separated by commas")
    return numbers


def frame_range(source: FrameSource, options: InferOptions) -> tuple[int, int | None]:
    """First frame and the one after the last, None for all."""
    start = source.position(options.start) if options.start is not None else 0
    return start, source.position(options.end) if options.end is not None else None
