"""What every source of frames offers: a video, a folder of pictures, a camera, a URL."""

from __future__ import annotations

import abc
import math
import os
import re
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

from posecli.errors import PoseError, UsageError
from posecli.types import Frame

_LAST = 10**15  # no video has as many frames; what is longer does not fit into the numbers that `range` counts with


def parse_position(text: str | int, fps: float | None) -> int:
    """A position on the command line as a frame index: ``"300"`` is frame 300, ``"12.5s"`` is 12.5 seconds.

    Seconds become the first frame shown at or after that time in a video of constant rate ``fps``;
    `FrameSource.position` does the same with the source's own time stamps.

    Raises:
        UsageError: anything else, a negative position, or seconds for a source without a rate.
    """
    number, in_seconds = _number(text)
    if not in_seconds:
        return int(number)
    if not fps:
        raise UsageError(f"{text!r} counts seconds, but the source has no frame rate", hint="give a frame number")
    return math.ceil(number * fps - 1e-6)


def check_positions(start: str | int | None, end: str | int | None) -> None:
    """UsageError where one is no position, or where there is nothing between them in whatever source: both are frames,
    or both seconds, and ``end`` is not after ``start``."""
    first, in_seconds = (0.0, None) if start is None else _number(start)
    if end is None:
        return
    last, kind = _number(end)
    if last <= first and in_seconds in (None, kind):
        raise UsageError(f"there is no frame from {start or 0} to below {end}", hint="--end after --start")


def _number(text: str | int) -> tuple[float, bool]:
    """A position's number, and whether it counts seconds."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(s?)\s*", str(text))
    if match is None or (not match[2] and not match[1].isdigit()):
        raise UsageError(f"{text!r} is not a position", hint="a frame like 300 or seconds like 12.5s")
    return (float(match[1]), True) if match[2] else (min(int(match[1]), _LAST), False)


class FrameSource(abc.ABC):
    """Something that gives frames in order of display.

    Attributes:
        name: file name (without folders), URL, ``camera:0``, or the folder's name for pictures.
        path: what was opened, as a string.
        width, height: of the displayed frame in pixels; for pictures those of the first one.
        rate: nominal frames per second as a fraction, None for pictures.
        sample_aspect: width by height of a pixel when shown (coordinates count stored pixels either way).
        time_base: unit of the source's time stamps in seconds, None where there is none.
        broken: frames of the latest pass that could not be decoded or came out damaged (pictures: could not be read),
            and those that a file announces but, being cut off, does not hold.
        repaired: frames of the latest pass whose time stamp was missing or out of order and was replaced.
        problems: the first few things that went wrong, in words.
    """

    kind = "video"
    sample_aspect = Fraction(1)
    time_base: Fraction | None = None

    def __init__(self, name: str, path: str, width: int, height: int, rate: Fraction | None) -> None:
        self.name, self.path, self.width, self.height, self.rate = name, path, width, height, rate
        self.broken = 0
        self.repaired = 0
        self.problems: list[str] = []

    @property
    def fps(self) -> float | None:
        """Frames per second, None for pictures."""
        return float(self.rate) if self.rate else None

    @property
    @abc.abstractmethod
    def num_frames(self) -> int | None:
        """How many frames there are; None where that is not known (streams, cameras)."""

    @abc.abstractmethod
    def frames(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Frame]:
        """Frames with index ``start``, ``start + every``, ... below ``stop``, lazily; one at a time is held."""

    @abc.abstractmethod
    def read_at(self, index: int) -> Frame:
        """The frame with that index, the same pixels and time as `frames` gives; PoseError when there is none."""

    def indices(self, start: int = 0, stop: int | None = None, every: int = 1) -> Sequence[int]:
        """Indices of the frames that `frames` gives where all can be decoded, rising; without ``stop`` they may go on
        beyond the last."""
        return range(start, sys.maxsize if stop is None else stop, every)

    def position(self, text: str | int) -> int:
        """`parse_position` for this source: ``"12.5s"`` is the first frame shown at or after 12.5 s."""
        return parse_position(text, self.fps)

    def time_of(self, index: int) -> float:
        """Seconds at which that frame is shown (one past the last: when it ends); by the nominal rate where the source
        has no table of time stamps, 0 for pictures."""
        return float(index / self.rate) if self.rate else 0.0

    def close(self) -> None:  # noqa: B027  (nothing to release is the common case)
        """Releases the file or device; a source can't be used afterwards."""

    def __enter__(self) -> FrameSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _note(self, problem: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(problem)


def check_range(start: int, stop: int | None, every: int) -> None:
    """PoseError unless ``start`` >= 0, ``every`` >= 1 and ``stop`` is not below ``start``."""
    if start < 0 or every < 1 or (stop is not None and stop < start):
        raise PoseError(f"no frames from {start} to {stop} in steps of {every}", hint="0 <= start <= end, every >= 1")


def check_file(path: Path) -> None:
    """PoseError unless ``path`` is a file (or device) that can be read and is not empty."""
    if path.is_dir():
        raise PoseError("this is a folder, not a file", str(path))
    if not path.exists():
        raise PoseError("no such file", str(path))
    if path.is_file() and path.stat().st_size == 0:
        raise PoseError("the file is empty", str(path))
    if not os.access(path, os.R_OK):
        raise PoseError("the file cannot be read: permission denied", str(path))
