"""Runs of frames that one process looks at: shards of a folder, segments of a video; each knows what it is a part of.

Who does what is decided by the inputs and the options alone, never by who is free: every process of a job array finds
the same plan for itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posecli.errors import PoseError, UsageError
from posecli.infer_options import InferOptions
from posecli.video import FrameSource
from posecli.video.reader import VideoSource

PART = "part"  # the header's key of streams that hold a part of a source


@dataclass(frozen=True)
class Span:
    """The frames ``first``, ``first + every``, ... below ``stop``, of the frames ``of[0]``, ... below ``of[1]``."""

    first: int
    stop: int
    every: int
    of: tuple[int, int]

    def frames(self) -> range:
        """Their indices."""
        return range(self.first, self.stop, self.every)

    @property
    def following(self) -> int:
        """Index at which the next span begins, if there is one."""
        return self.first + len(self.frames()) * self.every

    @property
    def ends(self) -> bool:
        """Whether no frame is left after it."""
        return self.following >= self.of[1]

    def to_json(self) -> dict[str, Any]:
        """As plain values, for the header of a stream."""
        return {"first": self.first, "stop": self.stop, "every": self.every, "of": list(self.of)}

    @classmethod
    def from_json(cls, value: Any, where: str) -> Span:
        """Reads what `to_json` made; PoseError with ``where``."""
        try:
            first, stop, every, (start, end) = (value[k] for k in ("first", "stop", "every", "of"))
        except (TypeError, KeyError, ValueError):
            raise PoseError("the header's part is none", where) from None
        numbers = (first, stop, every, start, end)
        if not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            raise PoseError("the header's part is none: whole numbers are wanted", where)
        span = cls(*numbers[:3], (start, end))
        if not (0 <= start <= first < stop <= end and every >= 1 and (first - start) % every == 0):
            raise PoseError("the header's part contradicts itself", where)
        return span


def parse_shard(text: str) -> tuple[int, int]:
    """``"3/8"`` to (3, 8): the third of eight; UsageError unless 1 <= i <= n."""
    match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard {text!r} is no shard", hint="i/n with i from 1 to n, e.g. 3/8")
    return int(match[1]), int(match[2])


def share_of(frames: range, shard: tuple[int, int]) -> Span | None:
    """A shard's run of frames: of N frames those from N(i - 1)/n to below N i/n, rounded down; None if that is none."""
    number, count = shard
    mine = frames[len(frames) * (number - 1) // count : len(frames) * number // count]
    return Span(mine[0], mine[-1] + 1, frames.step, (frames.start, frames.stop)) if mine else None


def wanted_frames(source: FrameSource, options: InferOptions) -> range:
    """All frames that ``start``, ``end`` and ``every`` of a run ask for; PoseError where their number is not known."""
    count = source.num_frames
    if count is None:
        raise PoseError("nobody knows how many frames it has, so it can't be divided", source.path)
    start = 0 if options.start is None else source.position(options.start)
    stop = count if options.end is None else min(source.position(options.end), count)
    return range(start, max(start, stop), options.every)


def segments_of(source: FrameSource, frames: range, seconds: float) -> list[Span]:
    """A video's frames cut before key frames: each segment but the last lasts ``seconds`` or a little more.

    A video whose key frames are not known without decoding it (no trustworthy time stamps) is one segment.

    Args:
        source: open.
        frames: those wanted, by `wanted_frames`.
        seconds: more than 0.
    """
    keys = source.key_frames() if isinstance(source, VideoSource) else None
    return _cut(frames, keys or (), [source.time_of(k) for k in keys or ()], source.time_of(frames.start), seconds)


def _cut(frames: range, keys: Sequence[int], times: Sequence[float], begin: float, seconds: float) -> list[Span]:
    borders = [frames.start]
    for key, time in zip(keys, times, strict=True):
        if frames.start < key < frames.stop and time - begin >= seconds - 1e-6:
            borders.append(key)
            begin = time
    of = (frames.start, frames.stop)
    spans = []
    for border, stop in zip(borders, [*borders[1:], frames.stop], strict=True):
        first = frames.start + -(-(border - frames.start) // frames.step) * frames.step
        if first < stop:
            spans.append(Span(first, stop, frames.step, of))
    return spans
