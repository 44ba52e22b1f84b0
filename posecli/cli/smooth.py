"""`posecli smooth`: a pose stream in, the same stream with steady joints out."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    check_stream_name,
    console,
    print_json,
    progress,
    warn,
)
from posecli.cli.stored import through_storage

#: As in `posecli.smoothing.stream`, which help does not wait for.
LEAST_STRENGTH, MOST_STRENGTH = 0.1, 4.0


@through_storage(reads=["poses"], writes=["out"])
def smooth(
    poses: Annotated[str, typer.Argument(metavar="POSES", help="Pose stream (.jsonl); '-' reads standard input.")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="The stream to write; '-' for standard output.", show_default=False)
    ],
    filter_: Annotated[
        str,
        typer.Option(
            "--filter", help="kalman, savgol, oneeuro (looks back only, for live streams) or none (to fill gaps only)."
        ),
    ] = "kalman",
    strength: Annotated[
        float,
        typer.Option(
            min=LEAST_STRENGTH,
            max=MOST_STRENGTH,
            help="How calm: the filter looks so many times as far as usual. Less for quick sports, more for slow work.",
        ),
    ] = 1.0,
    fill: Annotated[int, typer.Option(min=0, help="Fill gaps of at most so many frames; marked as filled.")] = 0,
    keep_raw: Annotated[
        bool, typer.Option("--keep-raw", help="Keep the joints as they were, under 'raw' beside the new ones.")
    ] = False,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make the joints of a pose stream steady over time.

    Example: posecli smooth clip.poses.jsonl --out clip.smooth.jsonl --fill 5

    People are told apart by their ids (infer --track). Also in a pipe:
    posecli infer clip.mp4 --out - | posecli smooth - --out - | posecli render clip.mp4 -
    """
    from posecli.errors import UsageError
    from posecli.smoothing.stream import Smoothing, smooth_file

    if json_ and out == "-":
        raise UsageError("--json and --out - both want standard output", hint="give --out a file")
    check_stream_name(out)
    if filter_ == "none" and not fill:
        raise UsageError("--filter none is for --fill", hint="give --fill N, or another filter")
    smoothing = Smoothing(filter_, fill, keep_raw, strength)
    with progress(quiet) as bar:
        task = bar.add_task("smooth", total=None)
        report = smooth_file(poses, out, smoothing, overwrite=overwrite, on_frame=lambda: bar.advance(task))
    if report.without_id and not report.people:
        warn(f"{poses}: nobody has an id, so nothing was changed; infer --track gives ids")
    if report.filtered_again:
        warn(f"{poses}: it had been smoothed before, and was again")
    if report.same_time:
        warn(f"{poses}: {report.same_time} frames have the time of the frame before and count as one moment with it")
    if json_:
        print_json({"out": out, **vars(report)})
    else:
        console(quiet).print(
            f"{out}: {report.frames} frames, {report.people} poses smoothed, {report.filled_joints} "
            f"joint{'' if report.filled_joints == 1 else 's'} filled in"
        )
