"""`posecli infer`: videos and pictures in, people out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from posecli.cli.common import (
    OTHER_FORMS,
    DebugOption,
    DeviceOption,
    ExitCode,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayCpusOption,
    RayOption,
    RayWorkersOption,
    SpeedOption,
    console,
    fetched,
    progress,
    refuse_dash,
    refuse_inputs,
    report_error,
    warn,
)
from posecli.cli.infer_results import places_of_plots, plot_pages, tell
from posecli.cli.starting import begin, settled
from posecli.cli.stored import hand_over, is_there, jobs_left, through_storage

if TYPE_CHECKING:
    from rich.progress import TaskID

    from posecli.infer_jobs import Job, Summary
    from posecli.inference import PoseModel
    from posecli.predictions import FramePoses
    from posecli.video import FrameSource, Input

_MODEL = "Model"
_OUTPUT = "Output"
_SHARING = "Many processes"


@through_storage(reads=["weights", "box_weights", "rescore", "boxes"], writes=["render_out", "out"], checked=False)
def infer(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, pictures, folders, globs, a COCO JSON, a camera number or a URL.", show_default=False
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A model that comes with posecli.", rich_help_panel=_MODEL)
    ] = "default",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            "-w",
            help="A .safetensors or official .pth file, or public weights by name (posecli models).",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    release: Annotated[
        str | None,
        typer.Option(
            help="Official .pth files that fit several releases: which it is, e.g. pose_resnet_50_caffe_256x192.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: how heat maps are read, e.g. argmax, gaussian, dark, udp, integral "
            "(else as the model was taught)",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    box_weights: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: the model that finds people (else the shipped one)", rich_help_panel=_MODEL
        ),
    ] = None,
    boxes: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: boxes from a pose stream, a data set or COCO detections; 'full' for the whole "
            "picture.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    box_min_score: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="--boxes of detections or poses: the least score of a box.", rich_help_panel=_MODEL
        ),
    ] = 0.0,
    box_nms: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="--boxes of detections or poses: leave out boxes that overlap a better one by more than this IoU; "
            "1 for none.",
            rich_help_panel=_MODEL,
        ),
    ] = 1.0,
    person_score: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: the box's score times the mean joint score (mean), or times that of joints above "
            "0.2 (sure, as HRNet does) (else as the weights say: sure for heat maps)",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    pose_nms: Annotated[
        str | None,
        typer.Option(
            help="Top-down models: leave out poses with a larger OKS to a better one, e.g. 0.9; soft:0.9 lowers their "
            "scores; none (else as the weights say: 0.9 for heat maps)",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    flip_test: Annotated[
        bool | None,
        typer.Option(
            "--flip-test/--no-flip-test",
            help="Average with the mirrored picture (else as the model says)",
            show_default=False,
            rich_help_panel=_MODEL,
        ),
    ] = None,
    second_look: Annotated[
        bool,
        typer.Option(
            "--second-look/--no-second-look",
            help="Pictures: look again in better boxes, also turned a little; joints go where the looks agree.",
            rich_help_panel=_MODEL,
        ),
    ] = True,
    scales: Annotated[
        str, typer.Option(help="Scales of the picture, merged (DEKR), e.g. 0.5,1,2.", rich_help_panel=_MODEL)
    ] = "1",
    rescore: Annotated[
        str | None, typer.Option(help="DEKR: a rescoring net, trained or official.", rich_help_panel=_MODEL)
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="auto (int8 where processor and weights can), float32, int8, bfloat16 or float16.",
            rich_help_panel=_MODEL,
        ),
    ] = "auto",
    speed: SpeedOption = "auto",
    batch: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Frames that go through the model together; auto: by the memory of the device.",
            rich_help_panel=_MODEL,
        ),
    ] = "8",
    max_persons: Annotated[int, typer.Option(min=1, help="People kept in a frame.", rich_help_panel=_MODEL)] = 30,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="People below are not even written. (default: 0.001; with --boxes 0: all of them are)",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Stream (.jsonl), folder of streams, '-' for standard output, COCO results (.json) or .csv.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="stream, coco, csv or openpose (else by the name of --out)", rich_help_panel=_OUTPUT
        ),
    ] = None,
    render: Annotated[
        bool, typer.Option("--render", help="Also write an overlay video.", rich_help_panel=_OUTPUT)
    ] = False,
    render_out: Annotated[
        str | None, typer.Option(help="Where the overlay goes; implies --render.", rich_help_panel=_OUTPUT)
    ] = None,
    track: Annotated[
        str, typer.Option(help="Identities: oks, iou, flow, none, or auto (oks for video).", rich_help_panel="Frames")
    ] = "auto",
    smooth: Annotated[
        str,
        typer.Option(
            help="Steady joints over time: none, kalman, savgol, or oneeuro (looks back only).",
            rich_help_panel="Frames",
        ),
    ] = "none",
    fill: Annotated[
        int,
        typer.Option(min=0, help="Fill gaps of at most so many frames; marked as filled.", rich_help_panel="Frames"),
    ] = 0,
    keep_raw: Annotated[
        bool,
        typer.Option(
            "--keep-raw",
            help="Keep the joints as they were, under 'raw' beside the new ones.",
            rich_help_panel="Frames",
        ),
    ] = False,
    start: Annotated[
        str | None, typer.Option(help="First frame, as a number or in seconds: 12.5s.", rich_help_panel="Frames")
    ] = None,
    end: Annotated[str | None, typer.Option(help="The frame after the last one.", rich_help_panel="Frames")] = None,
    every: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Step between frames.", rich_help_panel="Frames")
    ] = 1,
    roi: Annotated[
        str | None, typer.Option(help="Look at this part only: x,y,width,height.", rich_help_panel="Frames")
    ] = None,
    find_every: Annotated[
        float,
        typer.Option(
            min=0,
            help="Videos: seconds between searches for people, who are followed meanwhile; 0 to search every frame.",
            rich_help_panel="Frames",
        ),
    ] = 0.2,
    decode: Annotated[
        str,
        typer.Option(
            help="Who decodes videos: cpu, gpu (NVIDIA's decoder), or auto: the GPU of the network where it can.",
            rich_help_panel="Frames",
        ),
    ] = "auto",
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="The I-th of N shares of the work, for job arrays: every N-th video (or segment), a run of the "
            "pictures of each folder.",
            rich_help_panel=_SHARING,
        ),
    ] = None,
    segments: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Cut videos at key frames into segments of so many seconds, each frame looked at by itself (give "
            "--find-every 0); identities are given when they are joined.",
            rich_help_panel=_SHARING,
        ),
    ] = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    ray_cpus: RayCpusOption = 1.0,
    ray_gpus: Annotated[
        float, typer.Option(min=0, help="--ray: GPUs of each process; 0.5: two share one.", rich_help_panel=_SHARING)
    ] = 0.0,
    plots: Annotated[
        bool,
        typer.Option(
            "--plots",
            help="Also write NAME.plots.html: who was there when, local NMS score, ways, speeds and jitter of joints.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Say where the time went, stage by stage.", rich_help_panel=_OUTPUT)
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on after the last whole line of the stream.", rich_help_panel=_OUTPUT)
    ] = False,
    overwrite: OverwriteOption = False,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Find people and their joints in videos and pictures.

    Example: posecli infer clip.mp4 --render

    Writes clip.poses.jsonl (one line a frame) and clip.overlay.mp4 into the current folder.
    """
    begin()
    import contextlib
    import tempfile
    from dataclasses import replace
    from pathlib import Path

    from posecli.errors import PoseError, UsageError
    from posecli.files import is_passed_on, refuse_no_folder
    from posecli.infer_options import InferOptions, check_decoder, parse_numbers
    from posecli.on_ray import Cluster
    from posecli.smoothing.stream import Smoothing
    from posecli.spans import parse_shard
    from posecli.storage import current
    from posecli.video import list_inputs

    if weights is not None and model != "default":
        raise UsageError("--model and --weights name two models", hint="give one of them")
    if resume and (overwrite or out == "-"):
        raise UsageError("--resume goes on with a file that is there", hint="without --overwrite, with a file as --out")
    kind = _format(format_, out)
    if kind != "stream" and resume:
        raise UsageError("--resume is for streams", hint="infer to a stream, then posecli convert it")
    if json_ and out == "-":
        raise UsageError("--json and --out - both want standard output", hint="give --out a file")
    sources = list_inputs(inputs, warn)
    refuse_dash(render_out=render_out)
    refuse_inputs([out, render_out], [*inputs, weights, box_weights, rescore, boxes])
    if plots and (kind != "stream" or out == "-" or (out and is_passed_on(Path(out)))):
        raise UsageError("--plots is drawn from a stream", hint="--out NAME.jsonl")
    if plots:  # now, not when all is done
        from posecli.reports.plots import require_matplotlib

        require_matplotlib()
    smoothing = Smoothing(smooth, fill, keep_raw)
    if keep_raw and smoothing.does_nothing:
        raise UsageError("--keep-raw is for --smooth and --fill", hint="add one of them")
    still = track == "auto" and all(source.kind == "pictures" for source in sources)
    if not smoothing.does_nothing and (track == "none" or still):
        raise UsageError("--smooth and --fill need identities", hint="--track oks")
    if plots and (track == "none" or still):
        raise UsageError("--plots needs identities", hint="--track oks")
    region = parse_numbers(roi, 4, "--roi") if roi else None
    several = parse_numbers(scales, None, "--scales")
    check_decoder(decode)
    if decode == "gpu" and not any(source.kind in ("video", "url") for source in sources):
        raise UsageError("--decode gpu is for videos", hint="leave it out")
    if batch == "auto" and (segments or ray):
        raise UsageError("segments go through the network in batches of one size", hint="give --batch a number")
    options = InferOptions(
        track=track, start=start, end=end, every=every, batch=_count(batch), find_every=find_every,
        roi=(region[0], region[1], region[2], region[3]) if region else None,
    )  # fmt: skip
    soft, suppression = _pose_nms(pose_nms)
    if boxes is not None and box_weights is not None:
        raise UsageError("--boxes and --box-weights both say where people are", hint="give one of them")
    if boxes in (None, "full") and (box_nms < 1 or box_min_score > 0):
        raise UsageError("--box-nms and --box-min-score are for the boxes of a file", hint="give --boxes FILE")
    share = parse_shard(shard) if shard else None
    cluster = Cluster.asked(ray, ray_workers, ray_cpus, ray_gpus)
    if (share or segments or ray) and (kind != "stream" or out == "-"):
        raise UsageError("shared work gives streams", hint="posecli merge and posecli convert make the rest of them")
    if (segments or ray) and (plots or not smoothing.does_nothing):
        raise UsageError("--smooth and --plots follow a whole stream", hint="posecli smooth, after posecli merge")
    if (segments or ray) and profile:
        raise UsageError("--profile is for one process and whole inputs", hint="without --segments and --ray")
    if segments and (render or render_out):
        raise UsageError("segments have no overlay", hint="posecli render VIDEO STREAM afterwards")

    # Only now: PyTorch takes a second or two to come, and what was asked wrongly is said before.
    from posecli.cli.infer_parts import infer_parts
    from posecli.cluster import Recipe
    from posecli.infer_files import run_jobs
    from posecli.infer_jobs import OverlayError, plan_jobs
    from posecli.inference import PredictOptions, load_model
    from posecli.person_boxes import read_boxes, whole_picture
    from posecli.pipeline import decoder_for
    from posecli.profiling import profiled
    from posecli.segments import shard_jobs

    settled()
    network = load_model(
        fetched(weights or model, quiet),
        device,
        release=release,
        box_weights=box_weights and fetched(box_weights, quiet),
        rescore=rescore,
        options=PredictOptions(
            flip_test=flip_test,
            second_look=second_look,
            scales=several,
            max_persons=max_persons,
            min_score=(0.001 if boxes is None else 0.0) if min_score is None else min_score,
            batch=32 if segments is None else options.batch,
            filled=segments is not None,
            precision=precision,
            codec=codec,
            person_score=person_score,
            pose_nms=suppression,
            soft_nms=soft,
        ),
        warn=warn,
        speed=speed,
    )
    sources = [replace(source, decode=decoder_for(decode, network)) for source in sources]
    if batch == "auto":
        options = replace(options, batch=_fitting(network, sources, quiet))
    lookup = None
    if not network.top_down and (person_score is not None or pose_nms is not None):
        raise UsageError("--person-score and --pose-nms are for top-down models", hint="leave them out")
    if not network.top_down and box_weights is not None:
        raise UsageError("--box-weights is for top-down models", hint="leave it out: this model finds people itself")
    if network.top_down and network.options.scales != (1.0,):
        raise UsageError("--scales is for bottom-up models", network.name, "leave it out")
    if boxes is not None:
        if not network.top_down:
            raise UsageError("--boxes is for top-down models", hint="leave it out: this model finds people itself")
        lookup = (
            whole_picture(float(network.meta.extra.get("box_scale", 1.25)))
            if boxes == "full"
            else read_boxes(boxes, box_min_score, box_nms, warn)
        )
        lookup.check(sources)

    if segments or ray:
        if cluster is not None and (told := cluster.without_gpus(network.device.type)):
            warn(told)
        jobs = plan_jobs(sources, out, render=render, render_out=render_out)
        if share and not segments:
            jobs = shard_jobs(jobs, share, options)
        jobs = jobs_left(jobs, overwrite=overwrite, resume=resume)
        recipe = Recipe(
            str(network.weights_path), device, release, box_weights and fetched(box_weights, True), rescore,
            network.options, options, boxes, box_min_score, box_nms, smoothing, speed, current(),
        )  # fmt: skip
        shared = infer_parts(
            jobs, network, lookup, recipe,
            seconds=segments, shard=share if segments else None, cluster=cluster, overwrite=overwrite, resume=resume,
            quiet=quiet,
        )  # fmt: skip
        tell(shared, quiet, json_, None)
        return

    summaries: list[Summary] = []
    with contextlib.ExitStack() as stack:
        target, overlays = out, None
        if kind != "stream":
            # The stream is a means here: it lives in a folder of its own until the result is written from it.
            overlays = Path(str(out)).parent
            refuse_no_folder(Path(str(out)))
            overlays.mkdir(parents=True, exist_ok=True)
            target = stack.enter_context(tempfile.TemporaryDirectory(prefix=".posecli-", dir=overlays)) + "/all.jsonl"
        jobs = plan_jobs(sources, target, render=render, render_out=render_out, overlays=overlays)
        if share:
            jobs = shard_jobs(jobs, share, options)
        jobs = jobs_left(jobs, overwrite=overwrite, resume=resume)
        if kind != "stream" and is_there(str(out)) and not overwrite:
            raise PoseError("the output exists already", str(out), "choose another name or give --overwrite")
        there = [page for page in places_of_plots(jobs).values() if page.exists()] if plots else []
        if there and not overwrite and not resume:
            raise PoseError("the output exists already", str(there[0]), "choose another name or give --overwrite")
        bar = stack.enter_context(progress(quiet))
        # What is measured begins with the first source: networks are made ready before.
        if not network.recurrent:
            network.make_ready(finder=lookup is None)
        measured = stack.enter_context(profiled()) if profile else None
        tasks: dict[int, TaskID] = {}

        def on_frame(job: Job, source: FrameSource, line: FramePoses) -> None:
            if id(job) not in tasks:
                count = source.num_frames
                tasks[id(job)] = bar.add_task(job.input.name, total=None if count is None else count // every)
            bar.advance(tasks[id(job)])

        unreadable: list[PoseError] = []

        def put_aside(error: PoseError) -> None:
            report_error(error)
            unreadable.append(error)

        try:
            apart = kind == "stream" and not plots and len({job.stream for job in jobs}) == len(jobs)
            for summary in run_jobs(
                jobs,
                network,
                options,
                boxes=lookup,
                smoothing=smoothing,
                overwrite=overwrite,
                resume=resume,
                on_frame=on_frame,
                on_unreadable=put_aside if len(jobs) > 1 else None,
            ):
                summaries.append(summary)
                if apart:
                    hand_over(summary)
        except KeyboardInterrupt:
            resumable = kind == "stream" and out != "-"
            report_error("interrupted; go on with --resume" if resumable else "interrupted; nothing was kept")
            raise typer.Exit(ExitCode.INTERRUPTED) from None
        if lookup is not None and lookup.asked and not lookup.asked[True]:
            warn(f"{boxes}: it names none of the frames that were looked at, so nobody has a box")
        elif lookup is not None and lookup.asked[False] and lookup.about["from"] in ("labels", "poses"):
            known, all_ = lookup.asked[True], lookup.asked.total()
            warn(f"{boxes}: it names {known} of {all_} frames; nobody has a box in the others")
        if kind != "stream" and summaries:
            from posecli.exports import export_stream

            export_stream(str(target), str(out), kind, overwrite=overwrite, warn=warn)
            for summary in summaries:
                summary.stream = out
    seen = [job for job in jobs if job.stream is None or job.stream.exists()]
    pages = plot_pages(seen, overwrite or resume) if plots else []
    table = None if measured is None else measured.table(sum(s.frames for s in summaries))
    tell(summaries, quiet, json_, table)
    for page in () if json_ else pages:
        typer.echo(page)
    if unreadable:
        undrawn = sum(isinstance(error, OverlayError) for error in unreadable)
        what = "opened" if not undrawn else "drawn" if undrawn == len(unreadable) else "opened or drawn"
        said = f"{len(unreadable)} of {len(jobs)} inputs could not be {what}"
        hint = "--resume does them when they are mended" if kind == "stream" and out != "-" else ""
        raise PoseError(f"{said}; the others are done" if summaries else said, hint=hint)


def _count(batch: str) -> int:
    """``--batch``: a number; of auto the one to begin with."""
    from posecli.errors import UsageError

    if batch == "auto":
        return 8
    if not batch.isdecimal() or int(batch) < 1:
        raise UsageError(f"--batch {batch}", hint="a number from 1 on, or auto")
    return int(batch)


def _fitting(network: PoseModel, sources: list[Input], quiet: bool) -> int:
    """``--batch auto``: as many pictures like those of the first source that opens as there is memory for."""
    from posecli.batching import fit_batch
    from posecli.errors import PoseError

    width, height = 1280, 720
    for source in sources:
        if source.kind not in ("video", "pictures"):
            break
        try:
            with source.open() as opened:
                width, height = opened.width, opened.height
            break
        except PoseError:  # told when its turn comes
            continue
    fit = fit_batch(network, width, height)
    if fit is None:
        warn("the memory in use cannot be measured here: --batch 8")
        return 8
    talk = f"batch {fit.batch}: a picture takes {fit.bytes_each / 1e6:.0f} MB of {fit.bytes_free / 1e9:.1f} GB"
    console(quiet).print(talk)
    return fit.batch


def _pose_nms(text: str | None) -> tuple[bool, float | None]:
    """``--pose-nms`` as (soft, OKS); None: as the weights say."""
    from posecli.errors import UsageError

    if text is None or text == "none":
        return False, None if text is None else 1.0
    soft, _, number = text.rpartition(":")
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if soft not in ("", "soft") or not 0 < value <= 1:
        raise UsageError(f"--pose-nms {text}", hint="an OKS such as 0.9, soft:0.9, or none")
    return soft == "soft", value


def _format(name: str | None, out: str | None) -> str:
    from pathlib import Path

    from posecli.errors import UsageError

    suffix = "." + (out or "").rsplit(".", 1)[-1]
    kind = name or {".json": "coco", ".csv": "csv"}.get(suffix, "stream")
    # Other suffixes belong to folders of streams, which may have a dot in their name.
    slips = OTHER_FORMS | {".jsonl", ".ndjson"}
    if kind == "stream" and suffix != ".jsonl" and suffix.lower() in slips and not Path(str(out)).is_dir():
        raise UsageError(f"--out {out}: poses are not written as {suffix}", hint=".jsonl, .json, .csv, or a folder")
    if kind not in ("stream", "coco", "csv", "openpose"):
        raise UsageError(f"unknown format {kind!r}", hint="stream, coco, csv or openpose")
    if kind != "stream" and out in (None, "-"):
        raise UsageError(f"--format {kind} needs --out", hint="a file for coco and csv, a folder for openpose")
    return kind
