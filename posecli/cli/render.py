"""`posecli render`: a source and its pose stream in, an overlay out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    print_json,
    progress,
    refuse_dash,
    refuse_without,
    warn,
)
from posecli.cli.stored import through_storage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from posecli.predictions import FramePoses, StreamHeader
    from posecli.video import FrameSource, Input

_LOOK = "Look"


@through_storage(reads=["poses", "poses2"], writes=["out"])
def render(
    context: typer.Context,
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="The video, picture or folder that the poses were found on.")
    ],
    poses: Annotated[
        str,
        typer.Argument(
            metavar="PRED",
            help="Pose stream (.jsonl; '-' reads standard input), or labels: COCO JSON, or anything convert reads.",
        ),
    ],
    poses2: Annotated[
        str | None,
        typer.Argument(metavar="[PRED2]", help="A second stream of the same video, drawn beside or opposite."),
    ] = None,
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
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Least score of a joint (default: 0.1, or the stream's own).",
            show_default=False,
            rich_help_panel=_LOOK,
        ),
    ] = None,
    background: Annotated[str, typer.Option(help="source or black.", rich_help_panel=_LOOK)] = "source",
    trail: Annotated[
        int,
        typer.Option(min=0, help="Draw the ways of hands, feet and heads over so many frames.", rich_help_panel=_LOOK),
    ] = 0,
    layout: Annotated[
        str,
        typer.Option(
            help="With PRED2: side (next to each other) or split (left half, right half).", rich_help_panel=_LOOK
        ),
    ] = "side",
    start: Annotated[
        str | None, typer.Option(help="First frame, as a number or in seconds: 12.5s.", rich_help_panel="Frames")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The frame after the last one.", rich_help_panel="Frames")] = None,
    every: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Step between frames.", rich_help_panel="Frames")
    ] = 1,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Draw a pose stream, or labels, on the video or pictures it was made from.

    Example: posecli render clip.mp4 clip.poses.jsonl --out overlay.mp4

    Videos come out as H.264 with the source's time stamps and sound. Also in a pipe:
    posecli infer clip.mp4 --out - | posecli render clip.mp4 - --out overlay.mp4

    Labels: posecli render images/ coco.json --out drawn/

    Before and after: posecli render clip.mp4 raw.jsonl smooth.jsonl --layout split
    """
    from posecli.errors import UsageError
    from posecli.panels import LAYOUTS
    from posecli.render import Comparison, Style, poses_for, render_stream
    from posecli.render_files import default_target, open_writer
    from posecli.video import VideoWriter, check_positions, open_source

    refuse_dash(out=out)
    check_positions(start, end)
    look = Style(style, labels, ids, scores, boxes, threshold, joint_threshold, background, trail)
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}", hint=f"one of {', '.join(LAYOUTS)}")
    if poses2 is None:
        refuse_without("PRED2", context, "layout")
    if poses2 is not None and poses == poses2 == "-":
        raise UsageError("both streams can't come from standard input", hint="give a file")
    with open_source(_source_of(source, poses)) as opened:
        if opened.kind == "pictures" and (start is not None or end is not None or every != 1):
            raise UsageError("--start, --end and --every are for videos", opened.name)
        first = opened.position(start) if start is not None else 0
        last = opened.position(end) if end is not None else None
        target = out if out is not None else default_target(opened)
        if poses2 is not None and opened.kind == "pictures":
            raise UsageError("two streams are drawn on videos", opened.name)

        def lines_of(place: str) -> Iterator[tuple[StreamHeader, FramePoses]]:
            stream = place if place == "-" or _is_stream(Path(place)) else _labels(Path(place), opened)
            return poses_for(opened, stream, warn, place)

        lines = lines_of(poses)
        second = None
        if poses2 is not None:
            second = Comparison(lines_of(poses2), layout, (_caption(poses), _caption(poses2)))
        shape = layout if second is not None else "one"
        with open_writer(opened, target, first, last, every, overwrite, shape) as writer, progress(quiet) as bar:
            total = opened.num_frames
            if total is not None:
                total = len(range(first, total if last is None else min(total, last), every))
            task = bar.add_task("render", total=total)
            report = render_stream(
                opened, lines, writer, look, start=first, stop=last, every=every, second=second,
                on_frame=lambda: bar.advance(task),
            )  # fmt: skip
    names, times = (poses, 1) if poses2 is None else (f"{poses} and {poses2}", 2)
    if report.missing:
        warn(f"{names}: no line for {report.missing} of {times * report.frames} frames; they are drawn without people")
    if report.unused:
        warn(f"{names}: {report.unused} lines have no frame in {opened.name}")
    if report.broken:
        first_problem = f" ({opened.problems[0]})" if opened.problems else ""
        warn(f"{opened.name}: {report.broken} damaged frames{first_problem}")
    if isinstance(writer, VideoWriter):  # the last of the sound came when it was closed
        report.sound = writer.audio
    if report.sound not in ("copied", "none"):
        warn(f"{target}: sound {report.sound}")
    if json_:
        print_json({"out": str(target), **vars(report)})
    else:
        console(quiet).print(f"{target}: {report.frames} frames, {report.people} people drawn")


def _source_of(source: str, poses: str) -> str | Input:
    """What to draw on; of a folder with videos and pictures the one that the stream is of."""
    from posecli.formats.pose_stream import is_named
    from posecli.predictions import read_headers
    from posecli.video import list_inputs

    found = list_inputs([source])
    if len(found) < 2 or poses == "-" or not is_named(poses, (".jsonl",)):
        return source
    named = {header.source for header in read_headers(poses, warn=lambda _: None)}
    some = [item for item in found if item.name in named]
    return some[0] if len(some) == 1 else source


def _caption(place: str) -> str:
    """What a stream is called on the picture."""
    return "standard input" if place == "-" else Path(place).name.removesuffix(".jsonl").removesuffix(".poses")


def _is_stream(path: Path) -> bool:
    """Whether it is a stream, or nothing that labels could be: then the reader of streams says what is wrong."""
    from posecli.errors import PoseError
    from posecli.formats import SeveralForms, detect
    from posecli.formats.pose_stream import is_named

    if is_named(path, (".jsonl",)) or not path.exists():
        return True
    try:
        return detect(path)[0] == "pose_stream"
    except SeveralForms:
        return False
    except PoseError:
        return path.is_file() and path.suffix != ".json"


def _labels(path: Path, source: FrameSource) -> list[tuple[StreamHeader, FramePoses]]:
    """The people of a data set (no crowds) as poses; pictures are named relative to the folder drawn on, where they lie
    in it."""
    from dataclasses import replace

    from posecli.formats import read_dataset
    from posecli.formats.label_poses import label_stream
    from posecli.video import PictureSource

    dataset = read_dataset(path, warn=warn)
    if isinstance(source, PictureSource):  # frames kept as pictures go by their names, whatever their video's rate
        dataset = replace(dataset, videos=tuple(replace(video, fps=0.0) for video in dataset.videos))
    lines = [
        (header, replace(line, instances=tuple(p for p in line.instances if not p.ignore)))
        for header, line in label_stream(dataset, whole_names=True)
    ]
    if not isinstance(source, PictureSource):
        return lines
    root, base = source.root.resolve(), Path(dataset.root or ".")
    named = []
    for header, line in lines:
        there = None if line.file is None else (base / line.file).resolve()
        inside = there is not None and there.is_relative_to(root)
        file = there.relative_to(root).as_posix() if there is not None and inside else line.file
        named.append((header, replace(line, file=file)))
    return named
