"""`posecli convert`: labels of any form to COCO keypoints, poses to the forms of others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayCpusOption,
    RayOption,
    RayWorkersOption,
    console,
    print_json,
    progress,
    warn,
)
from posecli.cli.stored import through_storage

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from posecli.convert import SkeletonChange
    from posecli.formats import ReadOptions
    from posecli.on_ray import Cluster
    from posecli.types import Dataset, Skeleton

_READING = "Reading"
_IMAGES = "Images"
_OUTPUT = "Output"
# Said here so that --help need not import readers and writers; a test compares with `FORMS` and `FORMATS`.
_FORMS = (
    "coco, coco-dataset, coco-results, stream, csv, csv-wide, openpose, parquet, cvat, labelme, "
    "labelstudio, yolo, deeplabcut"
)
_FORMATS = (
    "auto, mars_lab, lspet, lsp, mpii, flic, aic, crowdpose, posetrack, penn, jhmdb, parquet, csv, "
    "labelme, labelstudio, cvat, yolo, yolo_predictions, deeplabcut, pose_stream, coco_results, alphapose, mmpose, "
    "openpose, mediapipe, coco, mars"
)


def _one_place(given: dict[str, Any]) -> None:
    """Labels name pictures and videos relative to themselves: they must stand where those are."""
    from posecli.errors import UsageError

    def place(word: str) -> str:
        return word.partition("://")[0] if "://" in word else ""

    if given["ray"]:
        raise UsageError("--ray wants files that all machines see, not URLs")
    if given["resume"]:
        raise UsageError("--resume goes on with folders of this machine; to storage frames go when all are there")
    if all(source.endswith((".jsonl", ".ndjson")) for source in given["sources"]):
        return
    beside = [given["frames"]] if given["frames"] else given["sources"]
    if any(place(word) != place(given["out"]) for word in beside):
        hint = "--out beside them, or --frames beside --out"
        raise UsageError("labels here of pictures or videos there would not find them", given["out"], hint)


@through_storage(reads=["sources", "skeleton", "image_root", "to_skeleton"], writes=["frames", "out"], check=_one_place)
def convert(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC...",
            help="Data set or labels of any form that docs/formats.md lists; or pose streams (.jsonl, - or a folder).",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help="File or folder; --to or else its suffix says the form (.json: COCO data set, of poses COCO results).",
            show_default=False,
            rich_help_panel=_OUTPUT,
        ),
    ],
    format_: Annotated[
        str,
        typer.Option("--format", metavar="FORM", help=f"{_FORMATS}.", rich_help_panel=_READING),
    ] = "auto",
    skeleton: Annotated[
        str | None,
        typer.Option(
            help="Joints of labels that do not name them: a known name or a skeleton.toml.", rich_help_panel=_READING
        ),
    ] = None,
    image_root: Annotated[
        str | None,
        typer.Option(help="Folder that the labels' picture names are relative to.", rich_help_panel=_READING),
    ] = None,
    label_fps: Annotated[
        float | None,
        typer.Option(
            min=1e-3,
            help="Rate in which the labels' frame numbers count, if not the video's; matched by time then.",
            rich_help_panel=_READING,
        ),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Labels with confidences: visible above this, uncertain (v = 1) below. (default: 0.3)",
            rich_help_panel=_READING,
        ),
    ] = None,
    frames: Annotated[
        str | None,
        typer.Option(
            "--frames", metavar="DIR", help="Write the videos' frames there as JPEG.", rich_help_panel=_IMAGES
        ),
    ] = None,
    no_frames: Annotated[
        bool,
        typer.Option(
            "--no-frames", help="Leave frames in their videos, read at frame_id (the default).", rich_help_panel=_IMAGES
        ),
    ] = False,
    quality: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="JPEG quality for --frames. (default: 95)", rich_help_panel=_IMAGES),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Videos read, or processes for --frames, at a time. (default: one a core)",
            rich_help_panel=_IMAGES,
        ),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Keep every N-th frame (or picture).", rich_help_panel=_IMAGES)] = 1,
    drop_empty: Annotated[
        bool,
        typer.Option("--drop-empty", help="Leave out images where nobody has a joint.", rich_help_panel=_IMAGES),
    ] = False,
    to_skeleton: Annotated[
        str | None,
        typer.Option(
            help="Change to this joint set (a known name or a skeleton.toml): same joints kept, midpoints derived.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    no_derived: Annotated[
        bool,
        typer.Option(
            "--no-derived", help="--to-skeleton: leave joints missing that are midpoints.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    to: Annotated[
        str | None,
        typer.Option(metavar="FORM", help=f"{_FORMS}. (default: by the suffix of --out)", rich_help_panel=_OUTPUT),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Poses: people below are left out. (default: in forms of labels, the stream's display threshold)",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=SHARE,...",
            help="Split by recording into OUT_NAME each, e.g. train=0.8,val=0.2; own: as the data set itself says.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    ray_cpus: RayCpusOption = 1.0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="--frames: keep the videos' frames that are finished.", rich_help_panel=_OUTPUT),
    ] = False,
    overwrite: OverwriteOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Turn labels of any form into COCO keypoints, or into any other form; poses likewise.

    Example: posecli convert mars/ --out coco.json --split train=0.8,val=0.2

    What was recognised and a table of what the data set holds are told at the end.
    """
    from posecli.errors import UsageError
    from posecli.exports import form_of
    from posecli.formats import ReadOptions
    from posecli.formats.pose_stream import is_named
    from posecli.on_ray import Cluster
    from posecli.skeletons import get_skeleton

    _refuse_contradictions(out, frames, no_frames, quality, bool(ray), resume, overwrite)
    pictures = _Frames(frames, quality, workers, resume, Cluster.asked(ray, ray_workers, ray_cpus))
    sources = _with_streams_of_folders(sources)
    streams = [s for s in sources if format_ != "mediapipe" and is_named(s)]
    if streams and len(streams) < len(sources):
        raise UsageError("pose streams and data sets cannot be joined", hint="convert them one by one")
    if no_derived and to_skeleton is None:
        raise UsageError("--no-derived is for --to-skeleton")
    target = None if to_skeleton is None else get_skeleton(to_skeleton)
    kind = _kind(to, out, bool(streams))
    asked = _Asked(out, kind, split, target, not no_derived, every, drop_empty, overwrite, json_, quiet)
    folders = [] if streams else _openpose_folders(sources, format_, kind)
    as_poses = bool(folders) or (bool(streams) and form_of(kind, poses=True).write_frames is not None)
    if streams or folders:
        # Poses in a form of labels become a data set on the way, for which most options mean something.
        given: dict[str, object] = {"--label-fps": label_fps}
        if streams:
            given |= {"--format": format_ != "auto", "--skeleton": skeleton}
        if as_poses:
            given |= {
                "--frames": frames, "--no-frames": no_frames, "--every": every > 1, "--drop-empty": drop_empty,
                "--split": split, "--image-root": image_root if streams else None,
                "--score-threshold": score_threshold is not None,
            }  # fmt: skip
        if workers is not None and frames is None:
            given["--workers"] = True
        useless = [name for name, value in given.items() if value]
        if useless:
            raise UsageError(f"{useless[0]} means nothing for a pose stream written as {kind}")
    elif min_score is not None:
        raise UsageError("--min-score is for pose streams")
    if as_poses:
        _convert_poses(streams or folders, asked, min_score, skeleton, image_root)
        return
    readers = None if frames is not None else workers
    reading = ReadOptions(skeleton, image_root, every, label_fps, score_threshold, readers)
    read = partial(_read_poses, streams, reading, min_score) if streams else partial(_read, sources, format_, reading)
    _convert_labels(sources, asked, pictures, read)


def _refuse_contradictions(
    out: str, frames: str | None, no_frames: bool, quality: int | None, ray: bool, resume: bool, overwrite: bool
) -> None:
    from posecli.errors import UsageError

    if out == "-":
        raise UsageError("--out - is not possible: the output is renamed when complete", hint="give a file name")
    if frames is not None and no_frames:
        raise UsageError("--frames and --no-frames contradict each other")
    if quality is not None and frames is None:
        raise UsageError("--quality is for --frames")
    if frames is None and (resume or ray):
        raise UsageError(f"{'--resume' if resume else '--ray'} is for --frames")
    if resume and overwrite:
        raise UsageError("--resume goes on with what is there, --overwrite replaces it", hint="give one of them")


def _convert_labels(
    sources: list[str], asked: _Asked, pictures: _Frames, read: Callable[[_Asked, dict[str, SkeletonChange]], Dataset]
) -> None:
    """A data set, as ``read`` gives it, into a form of labels, in parts where it is split."""
    from pathlib import Path

    from posecli.convert import own_splits, parse_shares
    from posecli.convert import split as split_by_recording
    from posecli.errors import UsageError

    rewrite = asked.overwrite or pictures.resume  # labels take no time: only frames are gone on with
    own = asked.split == "own"
    shares = None if asked.split is None or own else parse_shares(asked.split)
    paths = _places(asked.out, shares)
    if not own:
        _refuse_existing(paths.values(), rewrite)
    folder = pictures.folder
    for source in sources if folder is not None else ():
        # There the pictures would be read as more videos the next time.
        if Path(source).is_dir() and Path(source).resolve() in Path(str(folder)).resolve().parents:
            raise UsageError(f"--frames {folder} lies in the source {source}", hint="choose a folder beside it")

    changes: dict[str, SkeletonChange] = {}
    dataset = _chosen(read(asked, changes), sources, asked)
    if shares:
        split_by_recording(dataset, shares)  # what cannot be split shows before frames are extracted
    if own:
        paths = _places(asked.out, own_splits(dataset))
        _refuse_existing(paths.values(), rewrite)
    if folder is not None:
        dataset = _extract(dataset, folder, pictures, asked)
    if own:
        parts = own_splits(dataset)
    else:
        parts = split_by_recording(dataset, shares, warn=warn) if shares else {"": dataset}
    summaries = {str(place): _write(parts[part], place, asked.kind, rewrite) for part, place in paths.items()}
    for summary in summaries.values() if changes else ():
        summary["to_skeleton"] = {source: change.to_json() for source, change in changes.items()}
    if not asked.quiet:
        for name, summary in summaries.items():
            _table(console(), name, summary)
    if asked.json:
        print_json(summaries)
    else:
        for name in summaries:
            typer.echo(name)


def _places(out: str, parts: Iterable[str] | None) -> dict[str, Path]:
    """Where each part goes: OUT_NAME; without parts the whole to OUT."""
    from pathlib import Path

    path = Path(out)
    return {name: path.with_name(f"{path.stem}_{name}{path.suffix}") for name in parts or ()} or {"": path}


def _refuse_existing(places: Iterable[Path], overwrite: bool) -> None:
    from posecli.errors import PoseError

    for place in places:
        if place.exists() and not overwrite:
            raise PoseError("the output exists already", str(place), "choose another name or give --overwrite")


@dataclass(frozen=True)
class _Asked:
    """Options of the output."""

    out: str
    kind: str
    split: str | None
    target: Skeleton | None
    derive: bool
    every: int
    drop_empty: bool
    overwrite: bool
    json: bool
    quiet: bool


@dataclass(frozen=True)
class _Frames:
    """Options of the pictures that videos' frames are written as; without a folder they stay in the videos."""

    folder: str | None
    quality: int | None
    workers: int | None
    resume: bool
    cluster: Cluster | None


def _read(
    sources: list[str], format_: str, options: ReadOptions, asked: _Asked, changes: dict[str, SkeletonChange]
) -> Dataset:
    """All sources as one data set with the joints asked for; ``changes`` takes what became of the joints."""
    from dataclasses import asdict

    from posecli.convert import merge, repeated_frames, to_skeleton
    from posecli.formats import detect, read_dataset
    from posecli.formats.left_right import describe_sides, look_at_sides

    talk = console(asked.quiet)

    def told(source: str, change: SkeletonChange) -> None:
        changes[source] = change
        _tell_change(change, talk, f"{source}: ")

    parts = []
    for source in sources:
        name, reason = detect(source) if format_ == "auto" else (format_, "as asked")
        talk.print(f"{source}: {name} ({reason})")
        part = read_dataset(source, name, **asdict(options), warn=warn)
        for sentence in describe_sides(look_at_sides(part)):
            warn(f"{source}: {sentence}")
        parts.append(part)
    target = asked.target
    dataset = merge(parts, target if len(parts) > 1 else None, derive=asked.derive, told=told)
    if len(parts) > 1 and (repeated := repeated_frames(dataset)):
        warn(f"{repeated} of {len(dataset.records)} images are in more than one source; posecli check lists them")
    if target is not None and dataset.skeleton != target:
        dataset, change = to_skeleton(dataset, target, derive=asked.derive)
        told(sources[0], change)
    return dataset


def _read_poses(
    streams: list[str],
    options: ReadOptions,
    min_score: float | None,
    asked: _Asked,
    changes: dict[str, SkeletonChange],
) -> Dataset:
    """Pose streams as a data set with the joints asked for."""
    from itertools import chain
    from pathlib import Path

    from posecli.exports import labels_of_poses, reskeleton
    from posecli.predictions import read_stream

    talk = console(asked.quiet)

    def told(change: SkeletonChange) -> None:
        changes[change.source] = change
        _tell_change(change, talk)

    frames = chain.from_iterable(read_stream(s, warn=warn) for s in streams)
    if asked.target is not None:
        frames = reskeleton(frames, asked.target, derive=asked.derive, told=told)  # type: ignore[assignment]
    root = options.image_root
    if root is None:
        root = "." if streams[0] == "-" else Path(streams[0]).parent
    return labels_of_poses(frames, root=root, min_score=min_score, score_threshold=options.score_threshold, warn=warn)


def _chosen(dataset: Dataset, sources: list[str], asked: _Asked) -> Dataset:
    """The images asked for; PoseError when none is left."""
    from posecli.convert import drop_empty, thin
    from posecli.errors import PoseError

    dataset = thin(dataset, asked.every)
    if asked.drop_empty:
        dataset, dropped = drop_empty(dataset)
        console(asked.quiet).print(f"{dropped} images without labelled joints left out")
    if not dataset.records:
        raise PoseError("no images are left", ", ".join(sources))
    return dataset


def _write(dataset: Dataset, path: Path, kind: str, overwrite: bool) -> dict[str, Any]:
    """Writes the data set in that form; returns what it holds."""
    from posecli.convert import export_dataset, summarise

    export_dataset(dataset, path, kind, overwrite=overwrite, warn=warn)
    summary = summarise(dataset)
    if summary["files_absent"]:
        warn(f"{path}: {summary['files_absent']} of its pictures or videos do not exist in {dataset.root}")
    return summary


def _kind(to: str | None, out: str, stream: bool) -> str:
    """The form of the output: as asked, else by the name of ``out``."""
    from pathlib import Path

    from posecli.errors import UsageError
    from posecli.exports import FORMS, form_of

    by_suffix = {
        ".json": "coco", ".csv": "csv", ".jsonl": "stream", ".ndjson": "stream", ".parquet": "parquet", "": "openpose",
    }  # fmt: skip
    kind = to or by_suffix.get(Path(out).suffix.lower())
    if kind is None:
        raise UsageError(f"--out {out}: no form goes by this name", hint=f"say it with --to: coco, {', '.join(FORMS)}")
    form_of(kind, poses=stream)
    if to is None and kind == "openpose" and not stream:
        hint = f"a data set is written as .json; for a folder say the form: --to {', '.join(FORMS)}"
        raise UsageError(f"--out {out} has no suffix", hint=hint)
    return kind


def _with_streams_of_folders(sources: list[str]) -> list[str]:
    """A folder of nothing but streams, as `infer` leaves it for several inputs, is its streams in natural order."""
    from pathlib import Path

    from posecli.video import natural_key

    found = []
    for source in sources:
        files = [p for p in Path(source).iterdir() if not p.name.startswith(".")] if Path(source).is_dir() else []
        if files and all(p.suffix in (".jsonl", ".ndjson") for p in files):
            found += sorted(map(str, files), key=natural_key)
        else:
            found.append(source)
    return found


def _openpose_folders(sources: list[str], format_: str, kind: str) -> list[str]:
    """The sources, when they are OpenPose folders to be written in a form of poses, which needs no video's size."""
    from pathlib import Path

    from posecli.exports import FORMS
    from posecli.formats.openpose import recognise

    if kind not in FORMS or FORMS[kind].write_frames is None or format_ not in ("auto", "openpose"):
        return []
    return sources if all(recognise(Path(s)) for s in sources) else []


def _convert_poses(
    sources: list[str], asked: _Asked, min_score: float | None, skeleton: str | None, image_root: str | None
) -> None:
    """Pose streams or OpenPose folders, frame by frame, into a form of poses."""
    from itertools import chain
    from pathlib import Path

    from posecli.convert import export_stream
    from posecli.formats.openpose import read_poses
    from posecli.predictions import read_stream

    talk = console(asked.quiet)
    changes: list[SkeletonChange] = []

    def told(change: SkeletonChange) -> None:
        changes.append(change)
        _tell_change(change, talk)

    frames = chain.from_iterable(
        read_poses(Path(s), skeleton, image_root, warn) if Path(s).is_dir() else read_stream(s, warn=warn)
        for s in sources
    )
    count = export_stream(
        frames, asked.out, asked.kind, to_skeleton=asked.target, derive=asked.derive, overwrite=asked.overwrite,
        min_score=min_score, told=told, warn=warn,
    )  # fmt: skip
    talk.print(f"{count} people written as {asked.kind}")
    if asked.json:
        result: dict[str, Any] = {"out": asked.out, "form": asked.kind, "people": count}
        if changes:
            result["to_skeleton"] = [change.to_json() for change in changes]
        print_json(result)
    else:
        typer.echo(asked.out)


def _tell_change(change: SkeletonChange, talk: Console, source: str = "") -> None:
    from posecli.convert import describe_change

    said = f"{source}{describe_change(change)}"
    if change.lost or change.absent or change.derived:
        warn(said)
    else:
        talk.print(said)


def _extract(dataset: Dataset, folder: str, how: _Frames, asked: _Asked) -> Dataset:
    from posecli.errors import PoseError
    from posecli.frames import JPEG_QUALITY, extract_frames, is_video_frame

    total = sum(is_video_frame(r) for r in dataset.records)
    if not total:
        raise PoseError("no image of this data set is a frame of a video", dataset.root, "leave --frames out")
    quality = JPEG_QUALITY if how.quality is None else how.quality
    with progress(asked.quiet) as bar:
        task = bar.add_task("frames", total=total)
        result = extract_frames(
            dataset, folder, workers=how.workers, quality=quality, overwrite=asked.overwrite, resume=how.resume,
            cluster=how.cluster, progress=lambda count: bar.advance(task, count), warn=warn,
        )  # fmt: skip
    console(asked.quiet).print(f"{total} frames in {folder} (JPEG, quality {quality})")
    return result


def _table(talk: Console, name: str, summary: dict[str, Any]) -> None:
    """What the data set holds, on stderr."""
    from rich.table import Table

    table = Table(title=name, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column()
    people, images = summary["people"], summary["images"]
    table.add_row("joints", str(len(summary["joints"])), summary["skeleton"])
    table.add_row("images", str(images), f"{summary['images_without_people']} without people")
    if summary["images_not_labelled"]:
        table.add_row("  not labelled", str(summary["images_not_labelled"]), "frames the labels do not speak of")
    if summary["videos"]:
        table.add_row("videos", str(summary["videos"]), f"{summary['recordings']} recordings")
    table.add_row("people", str(people), f"{summary['people_without_joints']} with no labelled joint")
    table.add_row("  boxes", str(summary["boxes"]), f"head boxes: {summary['head_boxes']}")
    table.add_row("  crowds", str(summary["crowds"]))
    table.add_row("  tracks", str(summary["tracks"]))
    largest = max(summary["people_by_labelled_joints"].values(), default=0)
    table.add_row("labelled joints", "people")
    for joints, count in summary["people_by_labelled_joints"].items():
        table.add_row(f"  {joints}", str(count), "█" * max(1, round(30 * count / largest)))
    table.add_row("joint", "visible", "hidden")
    for joint, counts in summary["joints"].items():
        table.add_row(f"  {joint}", str(counts["visible"]), str(counts["hidden"]))
    if summary["tags"]:
        table.add_row("tag", "images")
        for tag, count in summary["tags"].items():
            table.add_row(f"  {tag}", str(count))
    talk.print(table)
