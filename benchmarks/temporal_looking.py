"""What the systems of `temporal.py` see in its clips: one stream of poses of each under each condition."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import temporal_features as features
from lspet import say
from temporal_clips import FPS, judged_folder
from temporal_systems import ABLATIONS, BASE, LSTM, SHOWN, SMOOTHED, SYSTEMS, kept_features, ready, weights_of

from posecli.checkpoint import load_checkpoint
from posecli.files import replace_when_done
from posecli.infer_files import run_jobs
from posecli.infer_jobs import plan_jobs
from posecli.inference import PoseModel
from posecli.pipeline import InferOptions
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import BODY19, LSP14, match_joints
from posecli.smoothing.stream import Smoothing, smooth_file
from posecli.tracking import make as make_tracker
from posecli.video import list_inputs


def stream_file(system: str, seed: int, condition: str, arguments: Any) -> Path:
    """Where the poses of a system stand, when it has looked."""
    return arguments.out / "poses" / f"{system}_{seed}_{condition}.jsonl"


def streams(system: str, seed: int, condition: str, arguments: Any) -> Path:
    """One stream of a system's poses in all test clips under a condition."""
    file = stream_file(system, seed, condition, arguments)
    if file.is_file():
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    if system in SMOOTHED:
        smooth_file(streams(BASE, seed, condition, arguments), file, Smoothing(filter=SMOOTHED[system]))
        return file
    say(f"looking: {system}, seed {seed}, {condition}")
    if system == LSTM:
        return by_infer(ready(system, seed, arguments), judged_folder(arguments, condition), file)
    own = {**SYSTEMS, **ABLATIONS}[system]
    network, meta = load_checkpoint(weights_of(system, seed, arguments))
    heads = features.Heads(network.eval())
    columns = match_joints(BODY19.keypoints, LSP14.keypoints)
    size = (arguments.side, arguments.side)
    with replace_when_done(file) as part, StreamWriter(part) as writer:
        for kept in kept_features(arguments, judged_folder(arguments, condition)):
            view, _, rest = kept.stem.partition("_")
            writer.header(StreamHeader(f"{view}/{rest}.mp4", LSP14, fps=FPS, threshold=SHOWN))
            tracker = make_tracker("oks", LSP14, SHOWN)
            found = features.poses(heads.network, meta, kept, size, FPS, own.get("past", "all"))
            for n, people in enumerate(found):
                people = [
                    replace(p, xy=p.xy[columns], visibility=p.visibility[columns], score=p.score[columns])
                    for p in people
                ]
                writer.frame(FramePoses(frame=n, instances=tracker.update(people, n / FPS), time=n / FPS))
    return file


def by_infer(model: PoseModel, clips: Path, file: Path) -> Path:
    """A stream of all videos of a folder, by the pipeline of `posecli infer`."""
    inputs = [item for item in list_inputs([str(clips)]) if item.kind == "video"]
    with replace_when_done(file) as part:
        target = part.with_suffix(".jsonl")
        jobs = plan_jobs(inputs, str(target), render=False, render_out=None)
        list(run_jobs(jobs, model, InferOptions(find_every=0), overwrite=True))
        target.replace(part)
    return file
