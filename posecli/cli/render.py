"""`posecli render`: a source and its pose stream in, an overlay out."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    print_json,
    progress,
    warn,
)

_LOOK = "Look"


def render(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="The video, picture or folder that the poses were found on.")
    ],
    poses: Annotated[str, typer.Argument(metavar="PRED", help="Pose stream (.jsonl); '-' reads standard input.")],
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Video (.mp4, .mov, .mkv), or a folder (name/) or picture for pictures. "
            "Default: NAME.overlay.mp4 or NAME.overlay/ in the current folder.",
            show_default=False,
        ),
    ] = None,
    style: Annotated[
        str, typer.Option(help="Colours: side (left green, right orange), person or limb.", rich_help_panel=_LOOK)
    ] = "side",
    labels: Annotated[bool, typer.Option("--labels", help="Write the names of joints.", rich_help_panel=_LOOK)] = False,
    ids: Annotated[bool, typer.Option("--ids", help="Write people's ids.", rich_help_panel=_LOOK)] = False,
    scores: Annotated[bool, typer.Option("--scores", help="Write people's scores.", rich_help_panel=_LOOK)] = False,
    boxes: Annotated[bool, typer.Option("--boxes", help="Draw people's boxes.", rich_help_panel=_LOOK)] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least score of a person; by default the stream's.",
            show_default=False,
            rich_help_panel=_LOOK,
        ),
    ] = None,
    joint_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of a joint.", rich_help_panel=_LOOK)
    ] = 0.1,
    background: Annotated[str, typer.Option(help="source or black.", rich_help_panel=_LOOK)] = "source",
    start: Annotated[
        str | None, typer.Option(help="First frame, as a number or in seconds: 12.5s.", rich_help_panel="Frames")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The frame after the last one.", rich_help_panel="Frames")] = None,
    every: Annotated[int, typer.Option(min=1, help="Step between frames.", rich_help_panel="Frames")] = 1,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw a pose stream on the video or pictures it was made from.

    Example: posecli render clip.mp4 clip.poses.jsonl --out overlay.mp4

    Videos come out as H.264 with the source's time stamps and sound. Also in a pipe:
    posecli infer clip.mp4 --out - | posecli render clip.mp4 - --out overlay.mp4
    """
    from posecli.errors import UsageError
    from posecli.render import Style, poses_for, render_stream
    from posecli.render_files import default_target, open_writer
    from posecli.video import open_source

    look = Style(style, labels, ids, scores, boxes, threshold, joint_threshold, background)
    with open_source(source) as opened:
        if opened.kind == "pictures" and (start is not None or end is not None or every != 1):
            raise UsageError("--start, --end and --every are for videos", opened.name)
        first = opened.position(start) if start is not None else 0
        last = opened.position(end) if end is not None else None
        target = out if out is not None else default_target(opened)
        lines = poses_for(opened, poses, warn)
        with open_writer(opened, target, first, last, every, overwrite) as writer, progress(quiet) as bar:
            total = opened.num_frames
            if total is not None:
                total = len(range(first, total if last is None else min(total, last), every))
            task = bar.add_task("render", total=total)
            report = render_stream(
                opened, lines, writer, look, start=first, stop=last, every=every, on_frame=lambda: bar.advance(task)
            )
    if report.missing:
        warn(f"{poses}: no line for {report.missing} of {report.frames} frames; they are drawn without people")
    if report.unused:
        warn(f"{poses}: {report.unused} lines have no frame in {opened.name}")
    if report.broken:
        first_problem = f" ({opened.problems[0]})" if opened.problems else ""
        warn(f"{opened.name}: {report.broken} damaged frames{first_problem}")
    if report.sound.startswith("left out") or report.sound.startswith("copied up"):
        warn(f"{target}: sound {report.sound}")
    if json_:
        print_json({"out": str(target), **vars(report)})
    else:
        console(quiet).print(f"{target}: {report.frames} frames, {report.people} people drawn")
