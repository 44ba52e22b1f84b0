"""`posecli infer` where several processes share the work: segments of videos, shards of segments, a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from posecli.cli.common import ExitCode, console, progress, report_error
from posecli.cli.stored import hand_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from posecli.cluster import Recipe, Task
    from posecli.infer_jobs import Job, Summary
    from posecli.inference import PoseModel
    from posecli.on_ray import Cluster
    from posecli.person_boxes import BoxLookup
    from posecli.predictions import FramePoses
    from posecli.segments import Segment
    from posecli.storage import Storage


def infer_parts(
    jobs: Sequence[Job],
    model: PoseModel,
    boxes: BoxLookup | None,
    recipe: Recipe,
    *,
    seconds: float | None,
    shard: tuple[int, int] | None,
    cluster: Cluster | None,
    overwrite: bool,
    resume: bool,
    quiet: bool,
) -> list[Summary]:
    """Runs jobs in segments of ``seconds``, or whole on a cluster, and joins what is finished.

    A shard leaves its segments for `posecli merge`. Ends with exit code 1 where tasks failed; the others are done.
    """
    from posecli.cluster import run_on_cluster, task_name
    from posecli.errors import PoseError
    from posecli.infer_jobs import Summary
    from posecli.on_ray import Failure
    from posecli.segments import (
        Segment,
        check_segmentable,
        finish,
        leave_empty,
        made_with,
        parts_folder,
        plan_segments,
        prepare,
        run_segment,
    )

    storage = recipe.storage
    segments: list[Segment] = []
    if seconds is not None:
        check_segmentable(model, recipe.options, boxes)
        made = made_with(model, recipe.options, boxes)
        mine = shard or (1, 1)
        segments = plan_segments(jobs, recipe.options, model.skeleton, made, seconds=seconds, shard=mine)
    for segment in segments if not overwrite else ():
        _fetch(segment, storage)
    left = prepare(jobs, segments, overwrite=overwrite, resume=resume, options=recipe.options)
    segments = [s for s in segments if s.job in left]
    tasks: list[Task] = [s for s in segments if not s.done] if seconds is not None else list(left)
    talk = console(quiet)
    if len(left) < len(jobs) or len(tasks) < len(segments):
        talk.print(f"{len(jobs) - len(left)} inputs and {len(segments) - len(tasks)} segments are done already")
    failures: list[Failure] = []
    summaries: list[Summary] = []
    looked: dict[str, Summary] = {}  # by folder of parts: what was done now

    def add(segment: Segment, result: Summary) -> None:
        folder = str(parts_folder(segment.job))
        total = looked.setdefault(folder, Summary(segment.job.input.name, folder, None))
        total.frames += result.frames
        total.people += result.people
        total.broken += result.broken
        total.problems += result.problems

    with progress(quiet) as bar:
        counter = bar.add_task("segments" if seconds is not None else "inputs", total=len(tasks))
        try:
            if cluster is not None:
                for task, result in run_on_cluster(tasks, recipe, cluster):
                    bar.advance(counter)
                    if isinstance(result, Failure):
                        failures.append(Failure(task_name(task), result.reason))
                    elif isinstance(task, Segment):
                        add(task, result)
                    else:
                        summaries.append(result)
            else:
                frames = bar.add_task("frames", total=sum(len(s.span.frames()) for s in segments))

                def on_frame(line: FramePoses) -> None:
                    bar.advance(frames)

                for segment in segments:
                    if not segment.done:
                        summary = run_segment(segment, model, recipe.options, boxes=boxes, on_frame=on_frame)
                        add(segment, summary)
                        hand_over(summary)
                        bar.advance(counter)
        except KeyboardInterrupt:
            report_error("interrupted; go on with --resume")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
    if seconds is not None:
        for job in left:
            own = [s for s in segments if s.job == job]
            for segment in own if shard in (None, (1, 1)) else ():
                _fetch(segment, storage)
            if shard not in (None, (1, 1)):
                summaries += [looked[str(parts_folder(job))]] if str(parts_folder(job)) in looked else []
            elif not own:
                summaries.append(leave_empty(job, model, recipe.options, boxes, overwrite=overwrite))
                hand_over(summaries[-1])
            elif all(s.done for s in own):
                summaries.append(finish(job, own, smoothing=recipe.smoothing, overwrite=overwrite))
                hand_over(summaries[-1])
                if storage is not None and storage.owns(parts_folder(job)):
                    storage.remove(storage.url(parts_folder(job)))
    for failure in failures:
        report_error(f"{failure.name}: {failure.reason}")
    if failures:
        raise PoseError(f"{len(failures)} of {len(tasks)} tasks failed; the others are done", hint="--resume goes on")
    return summaries


def _fetch(segment: Segment, storage: Storage | None) -> None:
    """Takes a segment's stream from storage, where it is there and not here."""
    if storage is None or not storage.owns(segment.place) or segment.place.exists():
        return
    url = storage.url(segment.place)
    if storage.exists(url):
        storage.fetch(url)
