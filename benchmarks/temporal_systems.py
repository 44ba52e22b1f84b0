"""The systems that `temporal.py` compares, and how each comes by its weights: those that are there are kept."""

from __future__ import annotations

import itertools
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import lspet
import temporal_base
import temporal_features as features
from lspet import say
from temporal_clips import LEARNT, learnt_files, learnt_videos

from posecli.checkpoint import load_checkpoint, load_finder, save_model
from posecli.inference import PoseModel, load_model
from posecli.models import MEMORY_OF_FINDER
from posecli.readout import PredictOptions
from posecli.scenes.puppets import in_split

BASE = "per-frame"
SHOWN = 0.2  # score from which people are shown and tracked
_STRIDE = 8
#: What is learnt, and how: the network, which arguments of its memory are others, whether steadiness is asked for.
SYSTEMS: dict[str, dict[str, Any]] = {
    BASE: {"model": "dekr-finder"},
    "dekr-gru": {"model": "dekr-gru-finder"},
    "dekr-gru-seed": {"model": "dekr-gru-seed-finder"},
}
#: `--ablate`. Parts taken away: the carried poses; what is learnt; the term of steadiness. And the whole with a past
#: that is each frame itself: what of its gain is due to the pixels around, not to the frames before.
ABLATIONS: dict[str, dict[str, Any]] = {
    "dekr-gru-unit-only": {"model": "dekr-gru-finder", "arguments": {"memory": dict(MEMORY_OF_FINDER, carry=False)}},
    "dekr-gru-poses-only": {"model": "dekr-gru-finder", "steps": 0},
    "dekr-gru-no-consistency": {"model": "dekr-gru-finder", "consistency": False},
    "dekr-gru-itself": {"model": "dekr-gru-finder", "as": "dekr-gru", "past": "itself"},
}
#: Costs several hours: only when asked for by name.
LSTM = "unipose-lstm"
#: Smoothing of the per-frame network's tracked poses.
SMOOTHED = {f"{BASE} + {name}": name for name in ("oneeuro", "savgol", "kalman")}


def lstm_settings(arguments: Any, seed: int) -> dict[str, Any]:
    """Settings of UniPose-LSTM's training."""
    clips = arguments.lstm_clips
    per_epoch = min(clips, 500)
    return {
        "model": "unipose-lstm-tiny", "input_size": [arguments.lstm_side] * 2, "optimizer": "adam",
        "schedule": "cosine", "weight_decay": 0.0, "ema": 0.99, "warmup": 100, "clip": 5.0, "lr": 1e-3,
        "epochs": max(1, round(clips / per_epoch)), "epoch_samples": per_epoch, "batch": arguments.batch,
        "clip_frames": arguments.clip_frames, "clip_steps": [1, 2], "truncate": 0, "consistency": 0.0,
        "codec": "gaussian", "sigma": 1.5, "scale": [1.0, 1.0], "box_scale": [1.1, 1.5], "val_box_scale": 1.35,
        "shift": 0.08, "rotation": 15.0, "shake": 3.0, "flip": 0.5, "occlude": 0.4, "blur": 0.2, "dim": 0.15,
        "compress": 0.15, "noise": 0.1, "colour": 0.3, "grey": 0.05, "min_area": 0.0, "workers": 0,
        "threads": arguments.threads, "save_every": 2.0, "skeleton": "lsp14", "seed": seed, "threshold": 0.05,
        "data": [str(file) for file in learnt_files(arguments)],
    }  # fmt: skip


def base_of(arguments: Any) -> Path:
    """The per-frame network that all start from, learnt where it is not there yet."""
    file = arguments.out / "base.safetensors"
    if not file.is_file():
        finder = arguments.out / "finder.safetensors"
        if not finder.is_file():
            shipped = Path(str(resources.files("posecli"))) / "weights" / "default.safetensors"
            source = arguments.finder or shipped
            found = load_finder(source)
            network, meta = found or load_checkpoint(source)
            if meta.architecture != "dekr-finder":
                raise SystemExit(f"{source} brings no finder along, and is none")
            told = replace(meta, input_size=(arguments.side, arguments.side))
            told = told.with_extra(scales=[1.0], threshold=SHOWN)
            if arguments.peak_reach:
                told = told.with_extra(peak_reach=arguments.peak_reach)
            save_model(finder, network, told)
        if not arguments.base_steps:
            return finder
        canvases = temporal_base.mixer(arguments.data, temporal_base.stills(learnt_videos(arguments, of_base=True)))
        temporal_base.learn(finder, file, canvases, arguments.side, arguments.base_steps, say)
    return file


def kept_features(arguments: Any, folder: Path) -> list[Path]:
    """The files of `temporal_features.keep_features` of a folder of clips."""
    model = load_model(base_of(arguments), "cpu", speed="plain")
    videos = sorted(folder.glob("*/*.mp4"))
    return features.keep_features(model, videos, arguments.out / "features" / folder.name, say)


def training_clips(arguments: Any) -> list[features.Clip]:
    """The clips that are learnt from: as they are, and each changed at random in several ways."""
    model = load_model(base_of(arguments), "cpu", speed="plain")
    videos = learnt_videos(arguments, of_base=False)
    pictures = sorted((arguments.data / "backgrounds" / "images").glob("*.*"))
    change = features.ClipChange([p for p in pictures if in_split(p.name, "train")])
    found = []
    for way, name in itertools.product(range(arguments.ways), LEARNT):
        own = [video for video in videos if video.parent.parent.name == f"train_{name}"]
        folder = arguments.out / "features" / f"train_{name}_{way}"
        files = features.keep_features(model, own, folder, say, change if way else None)
        for file, video in zip(files, own, strict=True):
            found.append(features.read_clip(file, video.with_suffix(".json"), arguments.side))
    return found


def weights_of(system: str, seed: int, arguments: Any) -> Path:
    """The weights of a system, learnt where they are not there yet."""
    own = {**SYSTEMS, **ABLATIONS}.get(system, {})
    system = own.get("as", system)
    folder = arguments.out / "networks" / f"{system}_{seed}"
    weights = folder / "last.safetensors"
    if weights.is_file() and not (folder / "state.pt").is_file() and (system != LSTM or (folder / "done").is_file()):
        return weights
    say(f"learning {folder.name}")
    if system == LSTM:
        lspet.learn(lstm_settings(arguments, seed), folder, say)
        (folder / "done").touch()
        return weights
    start = base_of(arguments) if system == BASE else weights_of(BASE, seed, arguments)
    network, meta = features.started(own["model"], start, seed, own.get("arguments", {}))
    steps = arguments.head_steps if system == BASE else own.get("steps", arguments.steps)
    recipe = features.Recipe(steps, arguments.batch, arguments.clip_frames)
    batches = features.batch_maker(_once(arguments, training_clips), recipe, _STRIDE, seed)
    return features.learn(network, meta, folder, batches, recipe, say, own.get("consistency", True))


_CLIPS: list[features.Clip] = []


def _once(arguments: Any, read: Any) -> list[features.Clip]:
    """The training clips, read once a run."""
    if not _CLIPS:
        _CLIPS.extend(read(arguments))
    return _CLIPS


def ready(system: str, seed: int, arguments: Any, precision: str = "auto") -> PoseModel:
    """A system's network as `infer` runs it."""
    finder = weights_of(BASE, seed, arguments) if system == LSTM else None
    options = PredictOptions(min_score=0.01, max_persons=10, precision=precision)
    return load_model(weights_of(system, seed, arguments), "cpu", box_weights=finder, options=options)
