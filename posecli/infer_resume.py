"""Going on with a stream that is there: how far it is, and whether it was begun in the same way."""

from __future__ import annotations

import bisect
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from posecli.errors import PoseError
from posecli.infer_jobs import Job
from posecli.infer_options import InferOptions, frame_range
from posecli.predictions import FramePoses, StreamHeader, complete_prefix, stream_items
from posecli.smoothing.stream import Smoothing
from posecli.types import Skeleton
from posecli.video import FrameSource


def finished_parts(jobs: Sequence[Job]) -> dict[int, int]:
    """For jobs that a stream has begun: the index of the last frame written, -1 with a header only; for sources that
    the stream has left behind a number past every frame."""
    done: dict[int, int] = {}
    for stream in {j.stream for j in jobs if j.stream is not None and j.stream.exists()}:
        prefix = complete_prefix(stream)
        finished = list(prefix.finished)
        begun = None if prefix.header is None else prefix.header.source
        # Two may have one name: lists of frames of one video.
        for job in (j for j in jobs if j.stream == stream):
            if job.input.name in finished:
                finished.remove(job.input.name)
                done[id(job)] = sys.maxsize
            elif begun == job.input.name:
                done[id(job)] = -1 if prefix.frame is None else prefix.frame
                begun = None
    return done


def next_frame(source: FrameSource, options: InferOptions, last: int) -> int:
    """The frame to go on with, where ``last`` is the last one written, -1 for none."""
    start = frame_range(source, options)[0]
    if last < 0:
        return start
    wanted = source.indices(start, None, options.every)
    at = bisect.bisect_right(wanted, last)
    return wanted[at] if at < len(wanted) else source.num_frames or last + 1


def last_source(stream: Path) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The lines of a stream after its last header."""
    count = len(complete_prefix(stream).finished)
    number = -1
    for header, line in stream_items(stream):
        number += line is None
        if line is not None and number == count:
            yield header, line


def require_same_run(stream: Path, now: StreamHeader) -> None:
    """PoseError where a stream's last source was begun by other weights, on other pictures or with other options than
    those at hand: its lines would not be of one kind. What its header leaves unsaid is not compared."""
    begun = complete_prefix(stream).header
    assert begun is not None
    pairs: dict[str, tuple[Any, Any]] = {
        what: (getattr(begun, what), getattr(now, what)) for what in ("skeleton", "weights_sha256", "width", "height")
    }
    pairs["boxes"] = begun.extra.get("boxes"), now.extra.get("boxes")
    pairs = {what: pair for what, pair in pairs.items() if pair[0] is not None}
    there, here = begun.extra.get("run"), now.extra["run"]
    if isinstance(there, dict):
        pairs |= {what: (there.get(what), here.get(what)) for what in {**there, **here}}
    for what, (was, wanted) in pairs.items():
        if was != wanted:
            said = what if isinstance(was, Skeleton) else f"{what} {_said(was)}, not {_said(wanted)}"
            raise PoseError(
                f"this stream was begun with {'another ' if said == what else ''}{said}",
                str(stream),
                "give the options it was begun with, --overwrite, or another --out",
            )


def require_same_frames(stream: Path, source: FrameSource, options: InferOptions) -> None:
    """PoseError where a stream's last source begins with another frame than is asked for: frames would be missing, or
    stand between those wanted."""
    line = next((line for _, line in last_source(stream)), None)
    if line is None:
        return
    wanted = source.indices(frame_range(source, options)[0], None, options.every)
    if not wanted or wanted[0] != line.frame:
        asked = f"frame {wanted[0]}" if wanted else "no frame"
        raise PoseError(
            f"this stream was begun at frame {line.frame}, not at {asked}",
            str(stream),
            "give the --start it was begun with, --overwrite, or another --out",
        )


def require_same_smoothing(jobs: Sequence[Job], smoothing: Smoothing) -> None:
    """PoseError where a stream that is there was made steady in another way: a finished one would be left as it is."""
    for stream in {j.stream for j in jobs if j.stream is not None and j.stream.exists()}:
        header = complete_prefix(stream).header
        told = None if header is None else header.extra.get("smoothing")
        if header is None or not isinstance(told, dict):
            continue
        asked = smoothing.header(header).extra["smoothing"]
        if told != asked:
            was, wanted = (", ".join(f"{key} {value}" for key, value in it.items()) for it in (told, asked))
            hint = "posecli smooth on a stream without, --overwrite, or another --out"
            raise PoseError(f"this stream was smoothed with {was}, not with {wanted}", str(stream), hint)


def require_unsmoothed(job: Job, source: FrameSource, options: InferOptions, resume_at: int) -> None:
    """PoseError where frames are left to be looked at and the stream so far is a smoothed one."""
    assert job.stream is not None
    prefix = complete_prefix(job.stream)
    if prefix.header is None or "smoothing" not in prefix.header.extra:
        return
    stop, count = frame_range(source, options)[1], source.num_frames
    left = stop is None or resume_at < stop
    if left and (count is None or resume_at < count):
        raise PoseError(
            "a stream that was smoothed can't be continued", str(job.stream), "--overwrite, or another --out"
        )


def _said(value: Any) -> str:
    return "as usual" if value is None else value[:12] if isinstance(value, str) else json.dumps(value)
