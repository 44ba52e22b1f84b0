"""`posecli infer`: videos and pictures in, people out."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    DeviceOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayCpusOption,
    RayOption,
    RayWorkersOption,
    SpeedOption,
    fetched,
    refuse_dash,
    refuse_inputs,
    warn,
)
from posecli.cli.infer_output import Output, kind_of
from posecli.cli.infer_results import tell
from posecli.cli.infer_values import box_lookup, fitting_batch, parse_batch, parse_pose_nms
from posecli.cli.starting import begin, settled
from posecli.cli.stored import jobs_left, through_storage

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
            help="Top-down models: how heat maps are read, e.g. argmax, gaussian, dark, udp, softmax "
            "(else as the model was taught, left and right limbs together)",
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
    from dataclasses import replace

    from posecli.errors import UsageError
    from posecli.infer_options import InferOptions, check_decoder, parse_numbers
    from posecli.on_ray import Cluster
    from posecli.smoothing.stream import Smoothing
    from posecli.spans import parse_shard
    from posecli.storage import current
    from posecli.video import list_inputs

    # First what the options say by themselves, so that what was asked wrongly is told at once.
    if weights is not None and model != "default":
        raise UsageError("--model and --weights name two models", hint="give one of them")
    kind = kind_of(format_, out)
    output = Output(kind, out, render, render_out, plots, profile, overwrite, resume, json_, quiet)
    sources = list_inputs(inputs, warn)
    refuse_dash(render_out=render_out)
    refuse_inputs([out, render_out], [*inputs, weights, box_weights, rescore, boxes])
    smoothing = Smoothing(smooth, fill, keep_raw)
    smoothed = not smoothing.does_nothing
    if keep_raw and not smoothed:
        raise UsageError("--keep-raw is for --smooth and --fill", hint="add one of them")
    still = track == "auto" and all(source.kind == "pictures" for source in sources)
    for asked, what in ((smoothed, "--smooth and --fill need"), (plots, "--plots needs")):
        if asked and (track == "none" or still):
            raise UsageError(f"{what} identities", hint="--track oks")
    region = parse_numbers(roi, 4, "--roi") if roi else None
    several = parse_numbers(scales, None, "--scales")
    check_decoder(decode)
    if decode == "gpu" and not any(source.kind in ("video", "url") for source in sources):
        raise UsageError("--decode gpu is for videos", hint="leave it out")
    if batch == "auto" and (segments or ray):
        raise UsageError("segments go through the network in batches of one size", hint="give --batch a number")
    options = InferOptions(
        track=track, start=start, end=end, every=every, batch=parse_batch(batch), find_every=find_every,
        roi=(region[0], region[1], region[2], region[3]) if region else None,
    )  # fmt: skip
    soft, suppression = parse_pose_nms(pose_nms)
    if boxes is not None and box_weights is not None:
        raise UsageError("--boxes and --box-weights both say where people are", hint="give one of them")
    if boxes in (None, "full") and (box_nms < 1 or box_min_score > 0):
        raise UsageError("--box-nms and --box-min-score are for the boxes of a file", hint="give --boxes FILE")
    share = parse_shard(shard) if shard else None
    cluster = Cluster.asked(ray, ray_workers, ray_cpus, ray_gpus)
    in_parts = segments is not None or ray is not None
    if share or in_parts:
        output.check_shared(segments=segments is not None, here=not in_parts, smoothed=smoothed)

    # Only now: PyTorch takes a second or two to come.
    from posecli.cli.infer_here import infer_here
    from posecli.cli.infer_parts import infer_parts
    from posecli.cluster import Recipe
    from posecli.infer_jobs import plan_jobs
    from posecli.inference import PredictOptions, load_model
    from posecli.pipeline import decoder_for
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
        options = replace(options, batch=fitting_batch(network, sources, quiet))
    if not network.top_down and (person_score is not None or pose_nms is not None):
        raise UsageError("--person-score and --pose-nms are for top-down models", hint="leave them out")
    if not network.top_down and box_weights is not None:
        raise UsageError("--box-weights is for top-down models", hint="leave it out: this model finds people itself")
    if network.top_down and network.options.scales != (1.0,):
        raise UsageError("--scales is for bottom-up models", network.name, "leave it out")
    lookup = box_lookup(boxes, box_min_score, box_nms, network, sources)
    if not in_parts:
        infer_here(sources, network, lookup, boxes, options, smoothing, output, share)
        return

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
