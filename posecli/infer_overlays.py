"""Overlays of a run: drawn while people are found or once more from the stream, and what becomes of those that fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from posecli.errors import PoseError, UsageError
from posecli.infer_jobs import Job, OverlayError, Summary, many_pictures, part_of_job
from posecli.infer_options import InferOptions, frame_range
from posecli.predictions import read_stream
from posecli.render import Style, overlay_writer, render_stream
from posecli.video import FrameSource, PictureWriter, VideoWriter


def open_overlay(job: Job, source: FrameSource, options: InferOptions, overwrite: bool) -> VideoWriter | PictureWriter:
    """The writer of a job's overlay: a video for a video, pictures for pictures."""
    assert job.overlay is not None
    if source.kind == "pictures":
        return PictureWriter(job.overlay, single=not many_pictures(job.input), overwrite=overwrite)
    start, stop = frame_range(source, options)
    return overlay_writer(source, job.overlay, start=start, stop=stop, every=options.every, overwrite=overwrite)


def draw_again(
    job: Job, summary: Summary, options: InferOptions, style: Style | None, undrawn: list[OverlayError]
) -> None:
    """An overlay of a source that is read once more, from the stream as it stands."""
    try:
        with overlay_failures():
            _drawn_again(job, summary, options, style)
    except OverlayError as error:
        summary.overlay = None
        undrawn.append(error)


def _drawn_again(job: Job, summary: Summary, options: InferOptions, style: Style | None) -> None:
    assert job.stream is not None
    options = part_of_job(options, job)
    with contextlib.ExitStack() as stack:
        again = stack.enter_context(job.input.open())
        output = open_overlay(job, again, options, overwrite=True)
        stack.enter_context(_unless_empty(output))
        start, stop = frame_range(again, options)
        pairs = (pair for pair in read_stream(job.stream) if pair[0].source == job.input.name)
        render_stream(again, pairs, output, style, start=start, stop=stop, every=options.every)
    note_overlay(summary, output)


@contextlib.contextmanager
def overlay_failures() -> Iterator[None]:
    """What can't be written in the block as a failure of the overlay."""
    try:
        yield
    except (UsageError, OverlayError):
        raise
    except PoseError as error:
        raise OverlayError(error.what, error.where, error.hint) from error


@contextlib.contextmanager
def _unless_empty(output: VideoWriter | PictureWriter) -> Iterator[None]:
    """Finishes an overlay at the block's end; none is left where there was no frame to draw."""
    with output:
        yield
        if isinstance(output, VideoWriter) and not output.count:
            output.abort()


@contextlib.contextmanager
def finishing(output: VideoWriter | PictureWriter, undrawn: list[OverlayError]) -> Iterator[None]:
    """Finishes an overlay at the block's end as `_unless_empty`; where that fails, or it has failed before, none is
    left, and ``undrawn`` knows why."""
    try:
        yield
        with overlay_failures(), _unless_empty(output):
            if undrawn:
                raise undrawn[0]
    except BaseException as error:
        if isinstance(output, VideoWriter):
            output.abort()
        if not isinstance(error, OverlayError):
            raise
        if not undrawn:
            undrawn.append(error)


def note_overlay(summary: Summary, output: VideoWriter | PictureWriter) -> None:
    """Whether there is one, and what became of its sound."""
    if isinstance(output, VideoWriter):
        summary.sound = output.audio
        if not output.count:
            summary.overlay = None
