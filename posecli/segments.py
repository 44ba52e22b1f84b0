"""One long video by many processes: segments cut at key frames, looked at apart, then one pass for identities.

A segment's frames are looked at one by one, without following people and without identities, in batches of a fixed
shape; so what is found in a frame does not depend on where the video was cut. Its stream is written beside its place
and renamed: a segment is done when its stream stands under its final name, and a run that goes on skips it. When all
are done they are joined, and identities are given in one pass over the whole (`posecli.merging`).

Everything here is a plain function of plain values: a loop over `run_segment` in one process, a shard of a job array,
and tasks on a cluster (`posecli.cluster`) do the same.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.infer_jobs import STREAM_SUFFIX, Job, Summary
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel
from posecli.merging import merge
from posecli.person_boxes import BoxLookup
from posecli.pipeline import poses_of, stream_header, tracker_name
from posecli.predictions import FramePoses, StreamWriter, complete_prefix, read_headers
from posecli.smoothing.stream import Smoothing, smooth_file
from posecli.spans import PART, Span, segments_of, share_of, wanted_frames
from posecli.storage import is_stored
from posecli.tracking import TRACKERS
from posecli.types import Skeleton

__all__ = [
    "Segment",
    "check_segmentable",
    "finish",
    "made_with",
    "plan_segments",
    "run_segment",
    "run_segments",
    "shard_jobs",
]

_PICTURES = 512  # pictures of a segment


@dataclass(frozen=True)
class Segment:
    """A part of a job: the frames of ``span``, written to ``place``; ``about`` is what its header says of the part."""

    job: Job
    span: Span
    place: Path
    about: Mapping[str, Any]

    @property
    def done(self) -> bool:
        """Whether its stream stands under its final name; PoseError where that is a stream of another run."""
        if not self.place.is_file():
            return False
        header = read_headers(self.place)[0]
        if header.extra.get(PART) != self.about or header.source != self.job.input.name:
            raise PoseError("this part is of a run with other options", str(self.place), "--overwrite begins anew")
        return True


def made_with(model: PoseModel, options: InferOptions, boxes: BoxLookup | None) -> str:
    """A short name of all that decides what is found in a frame: parts of one run have it in common."""
    seen: list[Any] = [model.weights_sha256(), asdict(model.options), options.roi, options.batch]
    whose = None if boxes is None else boxes.about
    seen.append(model.about_finder() if whose is None and model.top_down else whose)
    seen += filter(None, [model.rescoring_sha256()])
    return hashlib.sha256(json.dumps(seen, sort_keys=True, default=str).encode()).hexdigest()[:16]


def check_segmentable(model: PoseModel, options: InferOptions, boxes: BoxLookup | None) -> None:
    """UsageError where frames depend on those before them, so that segments would not give what one process gives."""
    if model.recurrent:
        raise UsageError(f"{model.name} remembers the frames before", hint="recurrent models look at whole videos")
    if options.find_every > 0 and model.top_down and boxes is None and model.skeleton.sigmas:
        raise UsageError(
            "in segments people are looked for in every frame by itself, not followed",
            hint="say so with --find-every 0, or leave --segments out",
        )
    if options.track in TRACKERS and TRACKERS[options.track].needs_pictures:
        raise UsageError(f"--track {options.track} looks at pictures; segments are joined without", hint="oks or iou")


def plan_segments(
    jobs: Sequence[Job],
    options: InferOptions,
    skeleton: Skeleton,
    made: str,
    *,
    seconds: float,
    shard: tuple[int, int] = (1, 1),
) -> list[Segment]:
    """All segments of all jobs in order; of those a shard: number k, from 0, is shard ``k % n + 1``'s.

    Args:
        jobs: each with a stream of its own.
        made: see `made_with`.
        seconds: least length of a segment; pictures go by 512.

    Raises:
        PoseError: a source that can't be opened or whose length nobody knows.
    """
    places = [j.stream for j in jobs]
    if None in places or len(set(places)) < len(places):
        raise UsageError("segments need a stream for each input", hint="--out with a folder")
    segments: list[Segment] = []
    for job in jobs:
        assert job.stream is not None
        if job.input.only is not None:
            raise UsageError("the frames that a COCO file names can't be divided", job.input.name, "leave it out")
        with job.input.open() as source:
            frames = wanted_frames(source, options)
            if source.kind == "pictures":
                count = -(-len(frames) // _PICTURES)
                spans = [s for i in range(count) if (s := share_of(frames, (i + 1, count))) is not None]
            else:
                spans = segments_of(source, frames, seconds)
            track = tracker_name(source, skeleton, options)
        folder = parts_folder(job)
        for span in spans:
            about = {**span.to_json(), "track": track, "made": made}
            place = folder / f"{span.first:09d}-{span.stop:09d}{STREAM_SUFFIX}"
            segments.append(Segment(job, span, place, about))
    return segments[shard[0] - 1 :: shard[1]]


def parts_folder(job: Job) -> Path:
    """Where the streams of a job's segments stand until they are joined."""
    assert job.stream is not None
    return job.stream.with_name(job.stream.name + ".parts")


def shard_jobs(jobs: Sequence[Job], shard: tuple[int, int], options: InferOptions) -> list[Job]:
    """A shard's share of the jobs, in their order: of videos the k-th, counted from 0, is shard ``k % n + 1``'s; of
    each folder of pictures every shard has a run (`spans.share_of`), and outputs named after it."""
    mine: list[Job] = []
    others = 0
    for job in jobs:
        if job.input.kind != "pictures":
            if others % shard[1] == shard[0] - 1:
                mine.append(job)
            others += 1
            continue
        with job.input.open() as source:
            span = share_of(wanted_frames(source, options), shard)
        if span is not None:
            label = f"{shard[0]}-of-{shard[1]}"
            stream = job.stream
            if stream is not None and stream.name.endswith(STREAM_SUFFIX):
                stream = stream.with_name(f"{stream.name.removesuffix(STREAM_SUFFIX)}.{label}{STREAM_SUFFIX}")
            overlay = job.overlay and job.overlay.with_name(f"{job.overlay.stem}.{label}{job.overlay.suffix}")
            mine.append(replace(job, stream=stream, overlay=overlay, span=span))
    return mine


def run_segment(
    segment: Segment,
    model: PoseModel,
    options: InferOptions,
    *,
    boxes: BoxLookup | None = None,
    on_frame: Callable[[FramePoses], Any] = lambda line: None,
) -> Summary:
    """Looks at a segment's frames and writes its stream, complete or not at all.

    Args:
        model: loaded with `PredictOptions.filled`.
        options: of the whole run.

    Raises:
        PoseError: the source can't be read, the stream can't be written.
    """
    if not model.options.filled:
        raise ValueError("segments are looked at by a model that fills its batches")
    check_segmentable(model, options, boxes)
    job, span = segment.job, segment.span
    boxes = None if boxes is None else boxes.of(job.input)
    own = replace(options, track="none", start=span.of[0], end=span.stop)
    summary = Summary(job.input.name, str(segment.place), None)
    with job.input.open() as source, replace_when_done(segment.place) as place, StreamWriter(place) as writer:
        header = stream_header(source, model, options, job.input.name, boxes)
        writer.header(replace(header, extra={**header.extra, PART: dict(segment.about)}))
        # "Going on" at its first frame, a segment knows of a cut between it and the frame before.
        ids = job.input.image_ids
        # Whoever joins the parts has no pictures.
        track = segment.about["track"]
        colours = track in TRACKERS and TRACKERS[track].needs_colours
        for _, line in poses_of(source, model, own, boxes=boxes, resume_at=span.first, image_ids=ids, colours=colours):
            writer.frame(line)
            summary.frames += 1
            summary.people += sum(p.person_score >= model.threshold for p in line.instances)
            summary.broken += bool(line.extra.get("broken"))
            on_frame(line)
        summary.problems = list(source.problems) if summary.broken else []
    return summary


def run_segments(
    segments: Sequence[Segment],
    model: PoseModel,
    options: InferOptions,
    *,
    boxes: BoxLookup | None = None,
    on_frame: Callable[[Segment, FramePoses], Any] = lambda segment, line: None,
) -> Iterator[Summary]:
    """Runs those that are not done, one after the other, and yields a summary after each."""
    for segment in segments:
        if not segment.done:

            def tell(line: FramePoses, segment: Segment = segment) -> None:
                on_frame(segment, line)

            yield run_segment(segment, model, options, boxes=boxes, on_frame=tell)


def prepare(
    jobs: Sequence[Job],
    segments: Sequence[Segment],
    *,
    overwrite: bool,
    resume: bool,
    options: InferOptions | None = None,
) -> list[Job]:
    """The jobs left to do; clears the way for them. ``options`` of the run tell which streams are whole.

    Raises:
        PoseError: a stream, an overlay or parts are there, and neither ``overwrite`` nor ``resume`` is given; a stream
            that a run by itself has begun and not finished.
        UsageError: two jobs with one stream.
    """
    if len({job.stream for job in jobs}) < len(jobs):
        raise UsageError("shared work needs a stream for each input", hint="--out with a folder")
    left = []
    for job in jobs:
        assert job.stream is not None
        mine = [s for s in segments if s.job == job]
        if job.stream.exists() and resume:
            if options is not None and not _is_whole(job, options):
                raise PoseError(
                    "a stream that was begun by one process alone and is not finished",
                    str(job.stream),
                    "--resume without --segments and --ray, --overwrite, or another --out",
                )
            shutil.rmtree(parts_folder(job), ignore_errors=True)  # joined already
            continue
        there = [s.place for s in mine if s.place.exists()]
        outputs = [p for p in (job.stream, job.overlay) if p is not None and p.exists()]
        if not overwrite and not resume and (outputs or there):
            place = (outputs + there)[0]
            raise PoseError("the output exists already", str(place), "--overwrite, --resume or another --out")
        if overwrite:
            for place in there:
                place.unlink()
        left.append(job)
    return left


def _is_whole(job: Job, options: InferOptions) -> bool:
    """Whether a stream that is there goes to the last frame asked for, where that can be told."""
    if job.input.kind not in ("video", "pictures") or is_stored(job.input.path):
        return True
    assert job.stream is not None
    with job.input.open() as source:
        frames = wanted_frames(source, options) if job.span is None else job.span.frames()
        wanted = source.indices(frames.start, frames.stop, frames.step)
    return not wanted or complete_prefix(job.stream).frame == wanted[-1]


def leave_empty(
    job: Job, model: PoseModel, options: InferOptions, boxes: BoxLookup | None, *, overwrite: bool
) -> Summary:
    """The stream of a job without a segment, since its source ends before the range begins: a header."""
    assert job.stream is not None
    boxes = None if boxes is None else boxes.of(job.input)
    with (
        job.input.open() as source,
        replace_when_done(job.stream, overwrite=overwrite) as place,
        StreamWriter(place) as writer,
    ):
        writer.header(stream_header(source, model, options, job.input.name, boxes))
    return Summary(job.input.name, str(job.stream), None)


def finish(job: Job, segments: Sequence[Segment], *, smoothing: Smoothing, overwrite: bool) -> Summary:
    """Joins a job's segments, all of them done, under the stream's final name and removes them.

    Identities are given and joints made steady in one pass each over the whole.

    Raises:
        PoseError: segments are missing or don't fit.
    """
    assert job.stream is not None
    places = [s.place for s in segments if s.job == job]
    if smoothing.does_nothing:
        report = merge(places, job.stream, overwrite=overwrite)
    else:
        joined = parts_folder(job) / f".joined{STREAM_SUFFIX}"
        report = merge(places, joined, overwrite=True)
        smooth_file(joined, job.stream, smoothing, overwrite=overwrite)
    shutil.rmtree(parts_folder(job))
    return Summary(job.input.name, str(job.stream), None, report.frames, report.people, report.broken)
