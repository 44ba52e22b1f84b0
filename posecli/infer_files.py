"""Sources in, files out: resuming, and the run itself.

A stream is written under its final name while it grows (it can be followed, and resumed after an interruption); every
other output is written beside its place and renamed.
"""

from __future__ import annotations

import bisect
import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posecli.errors import PoseError, SourceError, UsageError
from posecli.files import is_passed_on
from posecli.infer_jobs import Job, OverlayError, Summary, many_pictures
from posecli.infer_options import InferOptions, check_region
from posecli.inference import PoseModel
from posecli.person_boxes import BoxLookup
from posecli.pipeline import (
    make_follower,
    make_memory,
    make_tracker,
    poses_of,
    recall,
    replay,
    stream_header,
)
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, complete_prefix, read_stream, stream_items
from posecli.profiling import stage
from posecli.render import Style, draw_line, overlay_writer, render_stream
from posecli.smoothing.stream import Smoothing, smooth_file, smooth_lines
from posecli.spans import PART
from posecli.stages import Background
from posecli.types import Frame, Skeleton
from posecli.video import FrameSource, PictureWriter, VideoWriter, refuse_unwritable

_LIVE = ("camera", "url")  # kinds of sources that can't be read again
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
    for job in jobs if smoothing is not None and smoothing.looks_ahead else ():
        if job.overlay is not None and (job.stream is None or job.input.kind in _LIVE):
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
    if resume and smoothing is not None:
        _require_same_smoothing(jobs, smoothing)
    opened: dict[Path, StreamWriter] = {}
    done = _finished_parts(jobs) if resume else {}
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


def _finished_parts(jobs: Sequence[Job]) -> dict[int, int]:
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


@dataclass(frozen=True)
class _Run:
    """A job with all that it is run with; ``last`` is what `_finished_parts` says of it; ``undrawn`` takes what is
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
        return self.job.stream is None or (self.job.input.kind in _LIVE and not self.smoothing.looks_ahead)


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
            _draw_again(job, summary, options, style, undrawn)


def _draw_again(
    job: Job, summary: Summary, options: InferOptions, style: Style | None, undrawn: list[OverlayError]
) -> None:
    """An overlay of a source that is read once more, from the stream as it stands."""
    try:
        with _overlay_failures():
            _drawn_again(job, summary, options, style)
    except OverlayError as error:
        summary.overlay = None
        undrawn.append(error)


def _drawn_again(job: Job, summary: Summary, options: InferOptions, style: Style | None) -> None:
    assert job.stream is not None
    options = _part_of(options, job)
    with contextlib.ExitStack() as stack:
        again = stack.enter_context(job.input.open())
        output = _overlay(job, again, options, overwrite=True)
        stack.enter_context(_unless_empty(output))
        start, stop = _range(again, options)
        pairs = (pair for pair in read_stream(job.stream) if pair[0].source == job.input.name)
        render_stream(again, pairs, output, style, start=start, stop=stop, every=options.every)
    _note_overlay(summary, output)


@contextlib.contextmanager
def _overlay_failures() -> Iterator[None]:
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
def _finished(output: VideoWriter | PictureWriter, undrawn: list[OverlayError]) -> Iterator[None]:
    """Finishes an overlay at the block's end as `_unless_empty`; where that fails, or it has failed before, none is
    left, and ``undrawn`` knows why."""
    try:
        yield
        with _overlay_failures(), _unless_empty(output):
            if undrawn:
                raise undrawn[0]
    except BaseException as error:
        if isinstance(output, VideoWriter):
            output.abort()
        if not isinstance(error, OverlayError):
            raise
        if not undrawn:
            undrawn.append(error)


def _note_overlay(summary: Summary, output: VideoWriter | PictureWriter) -> None:
    """Whether there is one, and what became of its sound."""
    if isinstance(output, VideoWriter):
        summary.sound = output.audio
        if not output.count:
            summary.overlay = None


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
        missing = job.overlay is not None and not job.overlay.exists() and job.input.kind not in _LIVE
        if missing and run.smoothing is None:
            _draw_again(job, summary, options, style, run.undrawn)
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
        _range(source, options)  # seconds, of pictures, are refused before anything is written
        header = stream_header(source, model, options, job.input.name, boxes)
        options = _part_of(options, job)
        if job.span is not None:
            header = replace(header, extra={**header.extra, PART: job.span.to_json()})
        tracker = make_tracker(source, model.skeleton, options, model.threshold)
        follower = make_follower(source, model, options, boxes, tracker)
        memory = make_memory(source, model)
        resume_at = None
        if last is not None:
            assert job.stream is not None
            _require_same_run(job.stream, header)
            _require_same_frames(job.stream, source, options)
        # Before a line is written: what an overlay without a place leaves behind would be in the way of the next run.
        if job.overlay is not None:
            with _overlay_failures():
                if last is None and (run.smoothing is None or inline):
                    output = _overlay(job, source, options, run.overwrite)
                    stack.enter_context(_finished(output, run.undrawn))
                elif source.kind != "pictures":
                    refuse_unwritable(job.overlay)
        # Only now: a source that cannot be opened leaves no file behind.
        writer = writer_of()
        if last is None:
            assert run.smoothing is not None or not inline
            writer.header(run.smoothing.header(header) if run.smoothing is not None and inline else header)
        else:
            assert job.stream is not None
            resume_at = _resume_at(source, options, last)
            _require_unsmoothed(job, source, options, resume_at)
            summary.resumed_at = resume_at
            replay(_last_source(job.stream), source, options, tracker, follower)
            if memory is not None:
                recall(memory, _last_source(job.stream), source, options, boxes, job.input.image_ids)
        draw = None
        if output is not None:
            drawn = output
            look = style or Style()

            def encode(item: tuple[Frame, FramePoses]) -> None:
                if run.undrawn:  # the stream goes on without
                    return
                frame, line = item
                image, _ = draw_line(frame, header, line, look)
                try:
                    with _overlay_failures():
                        if isinstance(drawn, VideoWriter):
                            drawn.write(image, frame.time)
                        else:
                            drawn.write(image, frame.source)
                except OverlayError as error:
                    run.undrawn.append(error)

            draw = stack.enter_context(Background(encode, _WAITING_FRAMES))
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
        endless = job.input.kind in _LIVE and source.num_frames is None
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
        _note_overlay(summary, output)
    if job.overlay is not None and last is not None and run.smoothing is None:
        _draw_again(job, summary, options, style, run.undrawn)
    return summary


def _last_source(stream: Path) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The lines of a stream after its last header."""
    count = len(complete_prefix(stream).finished)
    number = -1
    for header, line in stream_items(stream):
        number += line is None
        if line is not None and number == count:
            yield header, line


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


def _require_same_run(stream: Path, now: StreamHeader) -> None:
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


def _require_same_frames(stream: Path, source: FrameSource, options: InferOptions) -> None:
    """PoseError where a stream's last source begins with another frame than is asked for: frames would be missing, or
    stand between those wanted."""
    line = next((line for _, line in _last_source(stream)), None)
    if line is None:
        return
    wanted = source.indices(_range(source, options)[0], None, options.every)
    if not wanted or wanted[0] != line.frame:
        asked = f"frame {wanted[0]}" if wanted else "no frame"
        raise PoseError(
            f"this stream was begun at frame {line.frame}, not at {asked}",
            str(stream),
            "give the --start it was begun with, --overwrite, or another --out",
        )


def _require_same_smoothing(jobs: Sequence[Job], smoothing: Smoothing) -> None:
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


def _said(value: Any) -> str:
    return "as usual" if value is None else value[:12] if isinstance(value, str) else json.dumps(value)


def _require_unsmoothed(job: Job, source: FrameSource, options: InferOptions, resume_at: int) -> None:
    """PoseError where frames are left to be looked at and the stream so far is a smoothed one."""
    assert job.stream is not None
    prefix = complete_prefix(job.stream)
    if prefix.header is None or "smoothing" not in prefix.header.extra:
        return
    stop, count = _range(source, options)[1], source.num_frames
    left = stop is None or resume_at < stop
    if left and (count is None or resume_at < count):
        raise PoseError(
            "a stream that was smoothed can't be continued", str(job.stream), "--overwrite, or another --out"
        )


def _part_of(options: InferOptions, job: Job) -> InferOptions:
    """The options for a job that looks at a part of its source."""
    return options if job.span is None else replace(options, start=job.span.first, end=job.span.stop)


def _range(source: FrameSource, options: InferOptions) -> tuple[int, int | None]:
    """First frame and the one after the last, None for all."""
    start = source.position(options.start) if options.start is not None else 0
    return start, source.position(options.end) if options.end is not None else None


def _overlay(job: Job, source: FrameSource, options: InferOptions, overwrite: bool) -> VideoWriter | PictureWriter:
    assert job.overlay is not None
    if source.kind == "pictures":
        return PictureWriter(job.overlay, single=not many_pictures(job.input), overwrite=overwrite)
    start, stop = _range(source, options)
    return overlay_writer(source, job.overlay, start=start, stop=stop, every=options.every, overwrite=overwrite)


def _resume_at(source: FrameSource, options: InferOptions, last: int) -> int:
    start = _range(source, options)[0]
    if last < 0:
        return start
    wanted = source.indices(start, None, options.every)
    at = bisect.bisect_right(wanted, last)
    return wanted[at] if at < len(wanted) else source.num_frames or last + 1
