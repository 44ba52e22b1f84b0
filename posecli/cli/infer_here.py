"""`posecli infer` in this process: one input after another, with bars, overlays, pages and a profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from posecli.cli.common import ExitCode, progress, report_error, warn
from posecli.cli.infer_results import places_of_plots, plot_pages, tell
from posecli.cli.stored import hand_over, is_there, jobs_left

if TYPE_CHECKING:
    from rich.progress import TaskID

    from posecli.cli.infer_output import Output
    from posecli.errors import PoseError
    from posecli.infer_jobs import Job, Summary
    from posecli.infer_options import InferOptions
    from posecli.inference import PoseModel
    from posecli.person_boxes import BoxLookup
    from posecli.predictions import FramePoses
    from posecli.smoothing.stream import Smoothing
    from posecli.video import FrameSource, Input


def infer_here(
    sources: list[Input],
    network: PoseModel,
    lookup: BoxLookup | None,
    boxes: str | None,
    options: InferOptions,
    smoothing: Smoothing,
    output: Output,
    share: tuple[int, int] | None,
) -> None:
    """Looks at the sources (or this share of them), writes what is asked for, and tells what came of it.

    ``boxes`` names the lookup's file in messages.

    Raises:
        PoseError: an output is there already; or inputs could not be opened or drawn, and the others are done.
    """
    import contextlib
    import tempfile
    from pathlib import Path

    from posecli.exports import export_stream
    from posecli.files import refuse_no_folder
    from posecli.infer_files import run_jobs
    from posecli.infer_jobs import plan_jobs
    from posecli.profiling import profiled
    from posecli.segments import shard_jobs

    streams, out = output.kind == "stream", output.out
    summaries: list[Summary] = []
    with contextlib.ExitStack() as stack:
        target, overlays = out, None
        if not streams:
            # The stream is a means here: it lives in a folder of its own until the result is written from it.
            overlays = Path(str(out)).parent
            refuse_no_folder(Path(str(out)))
            overlays.mkdir(parents=True, exist_ok=True)
            target = stack.enter_context(tempfile.TemporaryDirectory(prefix=".posecli-", dir=overlays)) + "/all.jsonl"
        jobs = plan_jobs(sources, target, render=output.render, render_out=output.render_out, overlays=overlays)
        if share:
            jobs = shard_jobs(jobs, share, options)
        jobs = jobs_left(jobs, overwrite=output.overwrite, resume=output.resume)
        _refuse_outputs(jobs, output)
        bar = stack.enter_context(progress(output.quiet))
        # What is measured begins with the first source: networks are made ready before.
        if not network.recurrent:
            network.make_ready(finder=lookup is None)
        measured = stack.enter_context(profiled()) if output.profile else None
        tasks: dict[int, TaskID] = {}

        def on_frame(job: Job, source: FrameSource, line: FramePoses) -> None:
            if id(job) not in tasks:
                count = source.num_frames
                total = None if count is None else count // options.every
                tasks[id(job)] = bar.add_task(job.input.name, total=total)
            bar.advance(tasks[id(job)])

        unreadable: list[PoseError] = []

        def put_aside(error: PoseError) -> None:
            report_error(error)
            unreadable.append(error)

        try:
            apart = streams and not output.plots and len({job.stream for job in jobs}) == len(jobs)
            for summary in run_jobs(
                jobs,
                network,
                options,
                boxes=lookup,
                smoothing=smoothing,
                overwrite=output.overwrite,
                resume=output.resume,
                on_frame=on_frame,
                on_unreadable=put_aside if len(jobs) > 1 else None,
            ):
                summaries.append(summary)
                if apart:
                    hand_over(summary)
        except KeyboardInterrupt:
            resumable = streams and out != "-"
            report_error("interrupted; go on with --resume" if resumable else "interrupted; nothing was kept")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if lookup is not None:
            _warn_of_boxes(lookup, boxes)
        if not streams and summaries:
            export_stream(str(target), str(out), output.kind, overwrite=output.overwrite, warn=warn)
            for summary in summaries:
                summary.stream = out
    seen = [job for job in jobs if job.stream is None or job.stream.exists()]
    pages = plot_pages(seen, output.overwrite or output.resume) if output.plots else []
    table = None if measured is None else measured.table(sum(s.frames for s in summaries))
    tell(summaries, output.quiet, output.json, table)
    for page in () if output.json else pages:
        typer.echo(page)
    if unreadable:
        raise _left_out(unreadable, len(jobs), bool(summaries), "--resume" if streams and out != "-" else "")


def _refuse_outputs(jobs: list[Job], output: Output) -> None:
    """What is there already, before anything is looked at; streams and overlays are refused one by one."""
    from posecli.errors import PoseError

    hint = "choose another name or give --overwrite"
    if output.kind != "stream" and is_there(str(output.out)) and not output.overwrite:
        raise PoseError("the output exists already", str(output.out), hint)
    there = [page for page in places_of_plots(jobs).values() if page.exists()] if output.plots else []
    if there and not output.overwrite and not output.resume:
        raise PoseError("the output exists already", str(there[0]), hint)


def _warn_of_boxes(lookup: BoxLookup, file: str | None) -> None:
    """Where a file of boxes did not name frames that were looked at."""
    known, all_ = lookup.asked[True], lookup.asked.total()
    if all_ and not known:
        warn(f"{file}: it names none of the frames that were looked at, so nobody has a box")
    elif known < all_ and lookup.about["from"] in ("labels", "poses"):
        warn(f"{file}: it names {known} of {all_} frames; nobody has a box in the others")


def _left_out(errors: list[PoseError], jobs: int, done: bool, again: str) -> PoseError:
    """The error at the end of a run in which some inputs could not be opened, or not drawn on.

    Args:
        jobs: how many inputs there were. done: some were looked at.
        again: the option that does the others when they are mended, or nothing.
    """
    from posecli.errors import PoseError
    from posecli.infer_jobs import OverlayError

    undrawn = sum(isinstance(error, OverlayError) for error in errors)
    what = "opened" if not undrawn else "drawn" if undrawn == len(errors) else "opened or drawn"
    said = f"{len(errors)} of {jobs} inputs could not be {what}"
    hint = f"{again} does them when they are mended" if again else ""
    return PoseError(f"{said}; the others are done" if done else said, hint=hint)
