"""Sources in, files out: the run itself.

A stream is written under its final name while it grows (it can be followed, and resumed after an interruption); every
other output is written beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from posecli.errors import PoseError, SourceError, UsageError
from posecli.files import is_passed_on
from posecli.infer_jobs import LIVE, Job, OverlayError, Summary, part_of_job
from posecli.infer_options import InferOptions, check_region, frame_range
from posecli.infer_overlays import draw_again, finishing, note_overlay, open_overlay, overlay_failures
from posecli.infer_resume import (
    finished_parts,
    last_source,
    next_frame,
    require_same_frames,
    require_same_run,
    require_same_smoothing,
    require_unsmoothed,
)
from posecli.inference import PoseModel
from posecli.person_boxes import BoxLookup
from posecli.pipeline import make_follower, make_memory, make_tracker, poses_of, recall, replay, stream_header
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.profiling import stage
from posecli.render import Style, draw_line
from posecli.smoothing.stream import Smoothing, smooth_file, smooth_lines
from posecli.spans import PART
from posecli.stages import Background
from posecli.types import Frame
from posecli.video import FrameSource, PictureWriter, VideoWriter, refuse_unwritable

# Frames that wait to be drawn and encoded; a 4K frame takes 25 MB.
_WAITING_FRAMES = 8
_TOLD = 20  # pictures that are named


def run_jobs(
    jobs: Sequence[Job],
    model: PoseModel,
    options: InferOptions,
    *,
    boxes: BoxLookup | None = None,
    style: Style | None = None,
    smoothing: Smoothing | None = None,
    overwrite: bool = False,
    resume: bool = False,
    on_frame: Callable[[Job, FrameSource, FramePoses], None] = lambda job, source, line: None,
    on_unreadable: Callable[[SourceError | OverlayError], None] | None = None,
) -> Iterator[Summary]:
    """Runs the jobs one after the other and yields a summary after each.

    With ``on_unreadable`` a source that can't be opened, or an overlay that can't be written, is told to it, and the
    others are run. Where an overlay fails on the way, the stream is still finished.

    With ``smoothing`` a stream is written as people are found and, when all its sources are finished, once more with
    steady joints; overlays are drawn from that. On standard output, and of live sources by a filter that looks back
    only, lines are made steady as they come.

    With ``resume`` a stream that is there is continued after its last whole line, before other sources are added to it:
    finished sources are skipped, the tracker is brought to where it was by replaying the lines, and overlays are drawn
    from the whole stream at the end.

    Raises:
        PoseError: an output exists and neither ``overwrite`` nor ``resume`` is given; a source that can't be opened;
            a stream to be resumed that was smoothed already, or in another way than asked for.
        UsageError: an overlay of a live source, or beside standard output, by a filter that looks ahead.
    """
    smoothing = None if smoothing is None or smoothing.does_nothing else smoothing
    _refuse(jobs, smoothing, overwrite, resume)
    if resume and smoothing is not None:
        require_same_smoothing(jobs, smoothing)
    opened: dict[Path, StreamWriter] = {}
    done = finished_parts(jobs) if resume else {}
    # First those that were under way: their lines go on at the end of their streams.
    jobs = sorted(jobs, key=lambda job: done.get(id(job), sys.maxsize) == sys.maxsize)
    waiting: dict[Path, list[tuple[Job, Summary]]] = {}  # finished jobs whose stream is still to be smoothed
    try:
        for number, job in enumerate(jobs):

            def writer_of(job: Job = job) -> StreamWriter:
                place = job.stream or Path("-")
                if place not in opened:
                    replace_it = overwrite or is_passed_on(place)
                    opened[place] = StreamWriter(job.stream or "-", append=resume, overwrite=replace_it)
                return opened[place]

            run = _Run(job, model, options, boxes, style, smoothing, overwrite or resume, done.get(id(job)), on_frame)
            summary = None
            try:
                summary = _run(run, writer_of)
            except (SourceError, OverlayError) as error:
                if on_unreadable is None:
                    raise
                on_unreadable(error)
            undrawn = run.undrawn
            if smoothing is not None and job.stream is not None and not run.inline:
                if summary is not None:
                    waiting.setdefault(job.stream, []).append((job, summary))
                last = not any(other.stream == job.stream for other in jobs[number + 1 :])
                if last and job.stream in waiting:
                    if job.stream in opened:
                        opened.pop(job.stream).close()
                    _smooth(job.stream, waiting.pop(job.stream), options, style, smoothing, undrawn)
            if summary is not None:
                yield summary
            for failure in undrawn:
                if on_unreadable is None:
                    raise failure
                on_unreadable(failure)
    finally:
        for writer in opened.values():
            writer.close()


def _refuse(jobs: Sequence[Job], smoothing: Smoothing | None, overwrite: bool, resume: bool) -> None:
    """What can't be done, or would replace something, of all jobs before the first is run."""
    for job in jobs if smoothing is not None and smoothing.looks_ahead else ():
        if job.overlay is not None and (job.stream is None or job.input.kind in LIVE):
            raise UsageError(
                "an overlay of what can't be read again",
                job.input.name,
                "--smooth oneeuro, or smooth and render a file",
            )
    for job in jobs:
        if job.stream is not None and is_passed_on(job.stream) and (resume or smoothing is not None):
            what = "the output is a pipe or a device, which can't be read again"
            raise PoseError(what, str(job.stream), "without --resume and --smooth, or --out NAME.jsonl")
    if not overwrite and not resume:  # of all sources now: the last one's turn may come after hours
        for place in (p for job in jobs for p in (job.stream, job.overlay) if p is not None):
            if place.exists() and not is_passed_on(place):
                raise PoseError("the output exists already", str(place), "--overwrite, --resume or another --out")


@dataclass(frozen=True)
class _Run:
    """A job with all that it is run with; ``last`` is what `finished_parts` says of it; ``undrawn`` takes what is
    wrong with an overlay whose stream is there."""

    job: Job
    model: PoseModel
    options: InferOptions
    boxes: BoxLookup | None
    style: Style | None
    smoothing: Smoothing | None
    overwrite: bool
    last: int | None
    on_frame: Callable[[Job, FrameSource, FramePoses], None]
    undrawn: list[OverlayError] = field(default_factory=list)

    @property
    def inline(self) -> bool:
        """Whether lines are made steady as they come; else all of them later, and overlays are drawn then."""
        if self.smoothing is None:
            return False
        return self.job.stream is None or (self.job.input.kind in LIVE and not self.smoothing.looks_ahead)


def _smooth(
    stream: Path,
    jobs: Sequence[tuple[Job, Summary]],
    options: InferOptions,
    style: Style | None,
    smoothing: Smoothing,
    undrawn: list[OverlayError],
) -> None:
    """Makes a finished stream steady, in its place, and draws the overlays of its jobs."""
    smooth_file(stream, stream, smoothing, overwrite=True, again=False)
    for job, summary in jobs:
        if job.overlay is not None:
            draw_again(job, summary, options, style, undrawn)


def _run(run: _Run, writer_of: Callable[[], StreamWriter]) -> Summary:
    job, model, options = run.job, run.model, run.options
    boxes = None if run.boxes is None else run.boxes.of(job.input)
    style, last, inline = run.style, run.last, run.inline
    summary = Summary(
        job.input.name, str(job.stream) if job.stream else None, str(job.overlay) if job.overlay else None
    )
    if last == sys.maxsize:
        summary.finished = True
        # Asked for only now; with smoothing overlays are drawn later.
        missing = job.overlay is not None and not job.overlay.exists() and job.input.kind not in LIVE
        if missing and run.smoothing is None:
            draw_again(job, summary, options, style, run.undrawn)
        return summary
    output: VideoWriter | PictureWriter | None = None
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(job.input.open())
        except UsageError:
            raise
        except PoseError as error:
            raise SourceError(error.what, error.where, error.hint) from error
        check_region(source, options)
        frame_range(source, options)  # seconds, of pictures, are refused before anything is written
        header = stream_header(source, model, options, job.input.name, boxes)
        options = part_of_job(options, job)
        if job.span is not None:
            header = replace(header, extra={**header.extra, PART: job.span.to_json()})
        tracker = make_tracker(source, model.skeleton, options, model.threshold)
        follower = make_follower(source, model, options, boxes, tracker)
        memory = make_memory(source, model)
        resume_at = None
        if last is not None:
            assert job.stream is not None
            require_same_run(job.stream, header)
            require_same_frames(job.stream, source, options)
        # Before a line is written: what an overlay without a place leaves behind would be in the way of the next run.
        if job.overlay is not None:
            with overlay_failures():
                if last is None and (run.smoothing is None or inline):
                    output = open_overlay(job, source, options, run.overwrite)
                    stack.enter_context(finishing(output, run.undrawn))
                elif source.kind != "pictures":
                    refuse_unwritable(job.overlay)
        # Only now: a source that cannot be opened leaves no file behind.
        writer = writer_of()
        if last is None:
            assert run.smoothing is not None or not inline
            writer.header(run.smoothing.header(header) if run.smoothing is not None and inline else header)
        else:
            assert job.stream is not None
            resume_at = next_frame(source, options, last)
            require_unsmoothed(job, source, options, resume_at)
            summary.resumed_at = resume_at
            replay(last_source(job.stream), source, options, tracker, follower)
            if memory is not None:
                recall(memory, last_source(job.stream), source, options, boxes, job.input.image_ids)
        draw = None if output is None else stack.enter_context(_drawing(output, header, run))
        found = poses_of(
            source,
            model,
            options,
            boxes=boxes,
            tracker=tracker,
            follower=follower,
            memory=memory,
            resume_at=resume_at,
            image_ids=job.input.image_ids,
        )
        # Its threads end before the source is closed, also where the loop is left by an error.
        lines = stack.enter_context(contextlib.closing(found))
        # A camera has no end but this: what was seen until then is whole, and its overlay can't be drawn again.
        endless = job.input.kind in LIVE and source.num_frames is None
        with contextlib.suppress(KeyboardInterrupt) if endless else contextlib.nullcontext():
            for frame, line in _steady(lines, header, run.smoothing) if inline else lines:
                with stage("write"):
                    writer.frame(line)
                summary.frames += 1
                summary.people += sum(p.person_score >= model.threshold for p in line.instances)
                if frame is not None and line.extra.get("broken"):
                    summary.outside += 1
                    if summary.outside <= _TOLD:
                        summary.outside_of.append(f"{line.file}: {line.width} x {line.height}")
                if draw is not None and frame is not None:
                    draw.put((frame, line))
                run.on_frame(job, source, line)
        summary.broken, summary.repaired, summary.problems = source.broken, source.repaired, list(source.problems)
    if run.undrawn:
        summary.overlay = None
    elif output is not None:
        note_overlay(summary, output)
    if job.overlay is not None and last is not None and run.smoothing is None:
        draw_again(job, summary, options, style, run.undrawn)
    return summary


def _drawing(
    output: VideoWriter | PictureWriter, header: StreamHeader, run: _Run
) -> Background[tuple[Frame, FramePoses]]:
    """A thread that draws on frames and writes them. A failure is noted; the stream goes on without an overlay."""
    style = run.style or Style()

    def encode(item: tuple[Frame, FramePoses]) -> None:
        if run.undrawn:
            return
        frame, line = item
        image, _ = draw_line(frame, header, line, style)
        try:
            with overlay_failures():
                if isinstance(output, VideoWriter):
                    output.write(image, frame.time)
                else:
                    output.write(image, frame.source)
        except OverlayError as error:
            run.undrawn.append(error)

    return Background(encode, _WAITING_FRAMES)


def _steady(
    lines: Iterable[tuple[Frame | None, FramePoses]], header: StreamHeader, smoothing: Smoothing | None
) -> Iterator[tuple[Frame | None, FramePoses]]:
    """Lines made steady as they come; pictures stay with them unless the filter looks ahead."""
    assert smoothing is not None
    if smoothing.looks_ahead:
        yield from ((None, line) for line in smooth_lines(header, (line for _, line in lines), smoothing))
        return
    frames: list[Frame | None] = []

    def taken() -> Iterator[FramePoses]:
        for frame, line in lines:
            frames.append(frame)
            yield line

    for line in smooth_lines(header, taken(), smoothing):
        yield frames.pop(), line
