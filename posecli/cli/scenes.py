"""`posecli scenes`: labelled videos of generated people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    given,
    print_json,
    progress,
    refuse_without,
)
from posecli.errors import UsageError


def _numbers(text: str, separator: str, option: str, example: str) -> tuple[int, int]:
    try:
        values = [int(v) for v in text.lower().split(separator)]
    except ValueError:
        values = []
    if len(values) == 1 and separator == "-":
        values *= 2
    if len(values) != 2:
        raise UsageError(f"{option} is {text!r}", hint=f"e.g. {option} {example}")
    return values[0], values[1]


def scenes(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(help="Folder to make: OUT/CAMERA/scene_000.mp4 with .json labels beside it.")],
    seed: Annotated[int, typer.Option(help="The same seed makes the same scenes.")] = 0,
    count: Annotated[int, typer.Option(help="How many scenes.")] = 2,
    people: Annotated[str, typer.Option(help="People in a scene: 2, or least-most.")] = "1-3",
    frames: Annotated[int, typer.Option(help="Frames of each video.")] = 60,
    size: Annotated[str, typer.Option(help="Width x height in pixels.")] = "320x240",
    fps: Annotated[float, typer.Option(help="Frames per second.")] = 30.0,
    cameras: Annotated[
        str,
        typer.Option(
            help="Synchronised cameras: front, oblique, side, back, left; with commas. Of puppets the views that their "
            "tracks were recorded from: front, side, back."
        ),
    ] = "front,side",
    motion: Annotated[str, typer.Option(help="procedural, or an .npz of Penn Action joint tracks.")] = "procedural",
    split: Annotated[
        str,
        typer.Option(
            help="Which of the recorded tracks: train, test or all; of puppets also val, and of people and backgrounds "
            "too."
        ),
    ] = "train",
    backgrounds: Annotated[
        str,
        typer.Option(
            help="procedural, or a folder of pictures without people (every tenth, by crc32 of its name, is kept back)."
        ),
    ] = "procedural",
    occluders: Annotated[float, typer.Option(help="Mean number of things between camera and people.")] = 0.7,
    blur: Annotated[float, typer.Option(help="Exposure, 0 to 1 of the time between frames.")] = 0.4,
    noise: Annotated[float, typer.Option(help="Sensor noise in grey levels.")] = 3.0,
    light: Annotated[str, typer.Option(help="random, day, indoor, dim or backlit.")] = "random",
    camera_motion: Annotated[float, typer.Option(help="0 a tripod, 1 a lively hand.")] = 0.5,
    compression: Annotated[int, typer.Option(help="Constant rate factor of the H.264 video, 0 (best) to 51.")] = 20,
    crossing: Annotated[
        bool,
        typer.Option("--crossing", help="People walk past one another and behind a wall, in place of --occluders."),
    ] = False,
    puppets: Annotated[
        list[Path] | None,
        typer.Option(
            help="COCO keypoint JSON with pictures: real people, cut out, move along the recorded tracks (needs "
            "--motion NPZ); may be given several times.",
            show_default=False,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Make labelled videos of generated people: a folder that convert reads.

    Example: posecli scenes mars/ --count 4 --people 1-3 --cameras front,side
    """
    from posecli.scenes.folder import SceneOptions, generate
    from posecli.scenes.puppet_show import PuppetOptions, generate_puppets

    if motion == "procedural" and not puppets:
        refuse_without("--motion NPZ", context, "split")
    if crossing and given(context, "occluders"):
        raise UsageError("--crossing has a wall in place of --occluders", hint="give one of them")
    views = tuple(c.strip() for c in cameras.split(",") if c.strip())
    common: dict[str, Any] = {
        "seed": seed, "count": count, "people": _numbers(people, "-", "--people", "1-3"), "frames": frames,
        "size_wh": _numbers(size, "x", "--size", "320x240"), "fps": fps, "motion": motion, "split": split,
        "backgrounds": backgrounds, "occluders": occluders, "blur": blur, "noise": noise, "light": light,
        "camera_motion": camera_motion, "compression": compression,
    }  # fmt: skip
    with progress(quiet) as bar:
        task = bar.add_task("scenes", total=count * frames * len(views))

        def on_frame(done: int) -> None:
            bar.update(task, completed=done)

        if puppets:
            if crossing:
                raise UsageError("--crossing is for generated people", hint="without --puppets")
            shows = PuppetOptions(puppets=tuple(map(str, puppets)), views=views, **common)
            summary = generate_puppets(out, shows, overwrite=overwrite, on_frame=on_frame)
        else:
            options = SceneOptions(cameras=views, crossing=crossing, **common)
            summary = generate(out, options, overwrite=overwrite, on_frame=on_frame)
    talk = console(quiet)
    talk.print(f"motion: {summary['motion_source']}; backgrounds: {summary['background_source']}")
    for scene in summary["scenes"]:
        talk.print(f"  {scene['scene']}: {', '.join(scene['motion']) or 'nobody'}")
    if as_json:
        print_json({"out": str(out), **summary})
        return
    seen = summary["keypoints"]
    print(
        f"{out}: {summary['videos']} videos, {summary['frames']} frames, {summary['people']} people labelled; "
        f"keypoints {seen['visible']} visible, {seen['hidden']} hidden, {seen['out_of_frame']} out of the picture"
    )
