"""Does a memory help? Per-frame DEKR, dekr-gru, the reports' GRU, UniPose-LSTM and smoothing on the same puppet clips.

    python benchmarks/temporal.py --data DATA --out runs/temporal [--seeds 3] [--only dekr-gru] [--tables] [--rehearse]

In pieces, each of which leaves a file and is not done again: a stopped run goes on where it was. The seeds are done one
after another and the tables are of those that are finished; `--tables` works nothing out that is not there yet.

1. Puppet clips (`posecli scenes --puppets`): training clips in several conditions; validation clips, which alone
   settings were chosen by (`--conditions val_clean,val_blur,val_occlusion`); test clips in front and side views, the
   same people, tracks and cameras under each of `CONDITIONS`, and more, larger sets of them (`--conditions
   second_blur,second_occlusion` or `third_...`). People, backgrounds and tracks of the splits differ.
2. A per-frame network all start from: a finder (`--finder`), learnt further on single frames of a third of the training
   clips and on real pictures (`temporal_base`). What its heads give for each frame of the other clips, as they are and
   changed at random, is kept in files (`temporal_features`). From these the last layers of the per-frame network learn
   (with `--base-steps 0 --head-steps 0` the finder stays as it is); networks with a memory stand on that network of the
   same seed, as it is, and learn their memory alone from the same batches: all have seen the same pictures. `--ablate`
   takes parts of dekr-gru away, or its past. UniPose-LSTM (`--only unipose-lstm`) learns by itself, by `posecli train`,
   and looks into the boxes of the per-frame DEKR.
3. Each network looks at each test clip in order. The per-frame poses are also tracked and smoothed.
4. OKS-AP, AP50, mean OKS, jitter and local NMS score with 95 % intervals (bootstrap over clips and seeds, paired with
   the per-frame network), by condition and by view; the time of a frame; steadiness and identities on real clips.

Jitter is the mean second difference over time of (prediction - truth), in heights of the person's box: neither the
person's own movement nor a pose that lies a little off costs anything, a frozen or trembling one does.

The finder that the base starts from has seen a few of the people of the test clips in its own training, as pictures;
that is the same for all.
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import lspet
import numpy as np
import temporal_base
import temporal_features as features
import torch
from temporal_base import TERMS, TRAINED_ON
from temporal_figures import draws, interval, lines_of, score, truth_of

from posecli.augment_pictures import Picture
from posecli.checkpoint import load_checkpoint, load_finder, save_model
from posecli.files import replace_when_done
from posecli.geometry import box_iou
from posecli.infer_files import plan_jobs, run_jobs
from posecli.inference import PoseModel, load_model
from posecli.models import MEMORY_OF_FINDER
from posecli.pipeline import InferOptions
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.readout import PredictOptions
from posecli.scenes.puppet_show import PuppetOptions, generate_puppets
from posecli.scenes.puppets import in_split
from posecli.skeletons import BODY19, LSP14, match_joints
from posecli.smoothing.stream import Smoothing, smooth_file
from posecli.tracking import make as make_tracker
from posecli.video import list_inputs

BASE = "per-frame"
_USUAL: dict[str, Any] = {
    "blur": 0.3, "occluders": 0.0, "noise": 3.0, "light": "day", "compression": 20, "camera_motion": 0.6,
}  # fmt: skip
#: Of the test clips; the same clips in each.
CONDITIONS: dict[str, dict[str, Any]] = {
    "clean": {},
    "blur": {"blur": 1.0},
    "occlusion": {"occluders": 5.0},
    "dark": {"light": "dim", "noise": 6.0},
    "compressed": {"compression": 42},
}
#: Of the training clips, each in clips of its own.
LEARNT: dict[str, dict[str, Any]] = {
    "a": {"blur": 0.3, "occluders": 1.0, "light": "random", "camera_motion": 0.5},
    "b": {"blur": 1.0, "occluders": 4.0, "light": "random", "camera_motion": 1.0},
    "c": {"blur": 0.5, "occluders": 2.0, "light": "dim", "noise": 5.0, "camera_motion": 0.7, "compression": 36},
}
#: Of the videos of each view that are asked for.
_SHARE = {"a": 1.0, "b": 0.5, "c": 0.25}
#: To choose by, with clips of their own: only when asked for by name.
VALIDATION = {f"val_{name}": CONDITIONS[name] for name in ("clean", "blur", "occlusion")}
#: Test clips of other seeds, looked at once, when everything else had been decided: only when asked for by name.
MORE = {f"{n}_{name}": CONDITIONS[name] for n in ("second", "third") for name in ("blur", "occlusion")}
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
REAL = ("tai_chi.mp4", "clean_and_jerk.mp4", "basketball_two_children.mp4", "two_people_hug.mp4")
_SEED = {"train": 21, "test": 12, "val": 13, "second": 14, "third": 15}
_FPS, _STRIDE = 15.0, 8
_SHOWN = 0.2  # score from which people are shown and tracked
#: How the shipped weights look at a frame: longer side in pixels, and smaller looks for people near by (SNIP).
_SHIPPED_SIZE = (256, 256)
SHIPPED: dict[str, Any] = {
    "scales": [1.0, 0.625], "trusted": [30.0, 110.0], "inside": 0.95, "heat_counts": True,
}  # fmt: skip


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


# --- 1. clips --------------------------------------------------------------------------------------------------------


def people_file(arguments: Any) -> Path:
    """COCO JSON of `people_boxes` with joints and masks in one, written once."""
    file = arguments.out / "people.json"
    if not file.is_file():
        folder = (arguments.data / "people_boxes").resolve()
        joints, masks = (json.loads((folder / n).read_text()) for n in ("coco_keypoints.json", "annotations.json"))
        outline = {
            p["coco_annotation_id"]: p["segmentation"] for p in masks["annotations"] if "coco_annotation_id" in p
        }
        for person in joints["annotations"]:
            if person["coco_annotation_id"] in outline:
                person["segmentation"] = outline[person["coco_annotation_id"]]
        for image in joints["images"]:
            image["file_name"] = str(folder / image["file_name"])
        write_json(file, joints)
    return file


def make_clips(
    arguments: Any, name: str, split: str, count: int, condition: Mapping[str, Any], seed: int | None = None
) -> Path:
    """A folder of puppet clips, ``count`` of each view."""
    folder = arguments.out / "clips" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = PuppetOptions(
            puppets=(str(people_file(arguments)), str(arguments.data / "lspet" / "annotations.json")),
            motion=str(arguments.data / "penn_action_labels" / "penn_action_labels.npz"),
            backgrounds=str(arguments.data / "backgrounds" / "images"),
            split=split, seed=seed or _SEED[split] + (sum(map(ord, name)) if split == "train" else 0), count=count,
            people=(1, 2) if split == "train" else (1, 1), fps=_FPS,
            frames={"train": arguments.train_frames, "val": arguments.val_frames, "test": arguments.frames}[split],
            size_wh=(arguments.side, arguments.side), **{**_USUAL, **condition},
        )  # fmt: skip
        say(f"clips {name}: {count} of each view")
        generate_puppets(folder, options)
    return folder


def learnt_folder(arguments: Any, name: str) -> Path:
    """The training clips in a condition of `LEARNT`."""
    count = max(1, round(arguments.train_clips * _SHARE[name]))
    return make_clips(arguments, f"train_{name}", "train", count, LEARNT[name])


def learnt_videos(arguments: Any, of_base: bool) -> list[Path]:
    """The training clips that the base learns from, every third, or the others."""
    folders = [learnt_folder(arguments, name) for name in LEARNT]
    videos = [sorted(folder.glob("*/*.mp4")) for folder in folders]
    return [video for found in videos for n, video in enumerate(found) if (n % 3 == 0) == of_base]


def learnt_files(arguments: Any) -> list[Path]:
    """All training clips as COCO JSON with extracted frames."""
    files = []
    for name in LEARNT:
        file = arguments.out / f"train_{name}.json"
        if not file.is_file():
            folder = str(learnt_folder(arguments, name))
            command = [sys.executable, "-m", "posecli", "convert", folder, "--out", str(file), "--quiet"]
            subprocess.run([*command, "--frames", str(arguments.out / f"train_{name}_frames")], check=True)
        files.append(file)
    return files


def judged_folder(arguments: Any, condition: str) -> Path:
    """The test clips under a condition, or the validation clips."""
    if condition in VALIDATION:
        return make_clips(arguments, condition, "val", arguments.val_clips, VALIDATION[condition])
    if condition in MORE:
        seed = _SEED[condition.partition("_")[0]]
        return make_clips(arguments, condition, "test", arguments.more_clips, MORE[condition], seed)
    return make_clips(arguments, f"test_{condition}", "test", arguments.test_clips, CONDITIONS[condition])


# --- 2. learning -----------------------------------------------------------------------------------------------------


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
            told = told.with_extra(scales=[1.0], threshold=_SHOWN)
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


# --- 3. looking ------------------------------------------------------------------------------------------------------


def ready(system: str, seed: int, arguments: Any, precision: str = "auto") -> PoseModel:
    """A system's network as `infer` runs it."""
    finder = weights_of(BASE, seed, arguments) if system == LSTM else None
    options = PredictOptions(min_score=0.01, max_persons=10, precision=precision)
    return load_model(weights_of(system, seed, arguments), "cpu", box_weights=finder, options=options)


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
            writer.header(StreamHeader(f"{view}/{rest}.mp4", LSP14, fps=_FPS, threshold=_SHOWN))
            tracker = make_tracker("oks", LSP14, _SHOWN)
            found = features.poses(heads.network, meta, kept, size, _FPS, own.get("past", "all"))
            for n, people in enumerate(found):
                people = [
                    replace(p, xy=p.xy[columns], visibility=p.visibility[columns], score=p.score[columns])
                    for p in people
                ]
                writer.frame(FramePoses(frame=n, instances=tracker.update(people, n / _FPS), time=n / _FPS))
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


# --- 4. figures ------------------------------------------------------------------------------------------------------


def finished(arguments: Any, systems: Sequence[str], condition: str) -> list[int]:
    """Seeds of which all systems have looked at the clips of a condition."""
    return [
        seed for seed in range(arguments.seeds)
        if all(stream_file(system, seed, condition, arguments).is_file() for system in systems)
    ]  # fmt: skip


def compare(arguments: Any, systems: Sequence[str]) -> dict[str, Any]:
    """All figures of what is finished, with intervals; differences are paired with the per-frame network's."""
    rng = np.random.default_rng(0)
    result: dict[str, Any] = {}
    for condition in [*CONDITIONS, *VALIDATION, *MORE]:
        seeds = finished(arguments, systems, condition)
        if not seeds:
            continue
        truth = truth_of(judged_folder(arguments, condition))
        count = len(truth.names)
        weights = np.stack(
            [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(arguments.draws)]
        )
        which = np.concatenate([[np.arange(len(seeds))], rng.integers(len(seeds), size=(arguments.draws, len(seeds)))])
        scored = {s: [score(streams(s, seed, condition, arguments), truth) for seed in seeds] for s in systems}
        for view in ("all", *(np.unique(truth.view) if condition == "clean" else ())):
            kept = np.ones(count, bool) if view == "all" else truth.view == view
            found = {s: draws(scored[s], truth, kept, weights) for s in systems}
            table = {}
            for system in systems:
                row = {}
                for name, values in found[system].items():
                    over_seeds = np.take_along_axis(values, which, 1).mean(1)
                    base = np.take_along_axis(found[BASE][name], which, 1).mean(1)
                    row[name] = {"value": interval(over_seeds), "gain": interval(over_seeds - base)}
                table[system] = row
            result.setdefault(condition, {})[view] = table
        result[condition] |= {"clips": count, "seeds": len(seeds)}
    return result


def cost(arguments: Any, systems: Sequence[str], seed: int = 0, rounds: int = 200) -> dict[str, Any]:
    """Processor milliseconds of a frame of the network alone, the least of many turns taken in turn; and parameters.
    In float32, which is what networks with a memory compute in; the per-frame one could do with 8 bits."""
    torch.set_num_threads(1)
    picture = np.random.default_rng(0).integers(0, 256, (1, arguments.side, arguments.side, 3)).astype(np.uint8)
    compared = [s for s in systems if s not in SMOOTHED and s != LSTM and s not in ABLATIONS]
    models = {s: ready(s, seed, arguments, "float32") for s in compared}
    state: dict[str, Any] = dict.fromkeys(models)
    least = dict.fromkeys(models, float("inf"))
    values = {}
    for name, model in models.items():
        batch = torch.from_numpy(picture).permute(0, 3, 1, 2).float()
        values[name] = ((batch - model._mean) / model._std).contiguous(memory_format=torch.channels_last)
    for _ in range(rounds):
        for name, model in models.items():
            network = model._running()
            start = time.process_time()
            with torch.inference_mode():
                if model.recurrent:
                    _, state[name] = network.step(values[name], state[name], torch.full((1,), 1 / 15))  # type: ignore[operator]
                else:
                    network(values[name])
            least[name] = min(least[name], time.process_time() - start)
    return {
        name: {"ms": 1e3 * least[name], "over_per_frame": least[name] / least[BASE] - 1,
               "parameters": sum(p.numel() for p in model.network.parameters())}
        for name, model in models.items()
    }  # fmt: skip


def real_clips(arguments: Any, systems: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """On clips without labels: second differences of the poses themselves, identities, people a frame; and overlays."""
    result: dict[str, Any] = {}
    for system in (s for s in systems if s not in SMOOTHED and s not in ABLATIONS):
        for name in REAL:
            clip = arguments.data / "clips" / name
            folder = arguments.out / "real" / f"{system}_{seed}"
            stream = folder / f"{Path(name).stem}.poses.jsonl"
            done = folder / f"{Path(name).stem}.json"
            if not clip.is_file():
                continue
            if not done.is_file():
                model = ready(system, seed, arguments)
                jobs = plan_jobs(list_inputs([str(clip)]), str(folder), render=True, render_out=str(folder))
                options = InferOptions(find_every=0, track="oks", end=arguments.real_frames)
                list(run_jobs(jobs, model, options, overwrite=True))
                write_json(done, steadiness(stream))
            result.setdefault(system, {})[name] = json.loads(done.read_text())
    return result


def steadiness(stream: Path) -> dict[str, float]:
    """Mean second difference of tracked joints in thousandths of the box height, identities, people a frame."""
    tracks: dict[int, dict[int, tuple[np.ndarray, float]]] = {}
    frames = 0
    for _, line in read_stream(stream):
        frames += 1
        for person in line.instances:
            if person.track_id is not None and person.box_xyxy is not None:
                tracks.setdefault(person.track_id, {})[line.frame] = (
                    person.xy,
                    float(np.diff(person.box_xyxy[1::2])[0]),
                )
    changes = [
        np.linalg.norm(track[t][0] - 2 * track[t - 1][0] + track[t - 2][0], axis=-1).mean() / max(track[t][1], 1.0)
        for track in tracks.values() for t in track if t - 1 in track and t - 2 in track
    ]  # fmt: skip
    people = sum(map(len, tracks.values()))
    return {
        "second_difference": 1000 * float(np.mean(changes)) if changes else float("nan"),
        "identities": len(tracks), "people_a_frame": people / max(frames, 1),
    }  # fmt: skip


def ship(file: Path, arguments: Any, system: str = "dekr-gru", seed: int = 0) -> None:
    """Writes a system's weights as they come with posecli: kernels in eight bits, all else bfloat16, so that the file
    stays below 5 MB; two looks at a frame (`SHIPPED`); the threshold with the best F1 on the finder's tuning pictures.
    The first seed, not the best."""
    network, meta = load_checkpoint(weights_of(system, seed, arguments))
    told = {k: v for k, v in meta.extra.items() if k in ("floor", "overlap", "inside", "stride", "peak_reach")}
    told |= {
        **SHIPPED, "trained_on": TRAINED_ON, "licence": TERMS,
        "measured": {"benchmark": "benchmarks/results/temporal.md", "seed": seed},
    }  # fmt: skip
    meta = replace(meta, input_size=_SHIPPED_SIZE, extra=told)
    save_model(file, network.state_dict(), meta.with_extra(threshold=0.0), dtype=torch.bfloat16, eight_bits=True)
    model = load_model(file, "cpu", options=PredictOptions(min_score=0.01))
    _, _, tuning, quiet = temporal_base.train_finder.training_pools(arguments.data)
    threshold, f1 = best_threshold(*people_found(model, [p for p in tuning if p.complete] + quiet))
    meta = meta.with_extra(threshold=threshold)
    save_model(file, network.state_dict(), meta, dtype=torch.bfloat16, eight_bits=True)
    say(f"{file}: {file.stat().st_size} bytes, threshold {threshold} (F1 {f1:.3f})")


def people_found(model: PoseModel, pictures: Sequence[Picture]) -> tuple[np.ndarray, int]:
    """(N, 2) score of each person that a model finds in pictures and whether it is one of the labels, by a box IoU of
    0.5, the best first and each label once; and how many people are labelled. Those shorter than a sixth of the
    picture's longer side, and crowds, count neither way."""
    rows, wanted = [], 0
    for picture in pictures:
        image = picture.read()
        boxes = picture.boxes_xyxy
        large = (boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) >= max(image.shape[:2]) / 6
        wanted += int(large.sum())
        taken: set[int] = set()
        for person in model.predict([image])[0]:
            overlap = box_iou(person.box_xyxy, boxes)[0]
            free = [n for n in np.argsort(-overlap).tolist() if n not in taken and overlap[n] >= 0.5]
            taken.update(free[:1])
            if large[free[0]] if free else not (box_iou(person.box_xyxy, picture.unknown) > 0.1).any():
                rows.append((person.person_score, bool(free)))
    return np.array(rows, float).reshape(-1, 2), wanted


def best_threshold(found: np.ndarray, wanted: int) -> tuple[float, float]:
    """The score from which on people are to be shown, for the best F1; and that."""
    score, hit = found[np.argsort(-found[:, 0])].T
    f1 = 2 * hit.cumsum() / (np.arange(1, len(hit) + 1) + wanted)
    at = int(f1.argmax())
    return round(float(score[at]), 2), float(f1[at])


# --- all of it -------------------------------------------------------------------------------------------------------


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", file=sys.stderr, flush=True)


def write_json(file: Path, value: Any) -> None:
    """Writes a file, complete or not at all."""
    with replace_when_done(file, overwrite=True) as part:
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")


def main() -> None:
    """Does what is not done yet, and prints the tables."""
    parser = lspet.options(
        __doc__ or "", seeds=3, side=192, batch=4, clip_frames=8, frames=30, train_frames=16, val_frames=24,
        train_clips=200, val_clips=12, test_clips=64, more_clips=128, ways=2, base_steps=330, head_steps=1000,
        steps=1000, real_frames=150, lstm_side=112, lstm_clips=8000, only="", conditions="",
    )  # fmt: skip
    parser.add_argument("--finder", type=Path, help="weights whose finder all start from; by default the shipped ones")
    parser.add_argument(
        "--peak-reach", type=float, default=0.0, help="all move joints to peaks: `posecli.codecs.boxes.moved_to_peaks`"
    )
    parser.add_argument("--ablate", action="store_true", help="also networks with parts taken away")
    parser.add_argument(
        "--ship", type=Path, help="only write dekr-gru's weights, of the first seed, as they are shipped"
    )
    parser.add_argument("--tables", action="store_true", help="only print what is finished")
    parser.add_argument(
        "--rehearse", action="store_true", help="everything once, tiny: minutes; the figures mean nothing"
    )
    arguments = parser.parse_args()
    if arguments.rehearse:
        small = {"seeds": 1, "side": 64, "lstm_side": 48, "batch": 2, "clip_frames": 2, "frames": 5, "train_frames": 5,
                 "train_clips": 2, "test_clips": 1, "more_clips": 1, "ways": 2, "base_steps": 2, "head_steps": 2,
                 "steps": 2, "lstm_clips": 8, "draws": 20, "real_frames": 8}  # fmt: skip
        vars(arguments).update(small)
    arguments.out, arguments.data = arguments.out.resolve(), arguments.data.resolve()
    arguments.out.mkdir(parents=True, exist_ok=True)
    lspet.set_threads(arguments.threads)
    if arguments.ship:
        return ship(arguments.ship, arguments)
    chosen = [name for name in arguments.only.split(",") if name]
    known = [*SYSTEMS, *(ABLATIONS if arguments.ablate else {}), *SMOOTHED]
    if unknown := [name for name in chosen if name not in (*known, LSTM)]:
        raise SystemExit(f"no system is called {unknown[0]!r}; there are {', '.join([*known, LSTM])}")
    systems = [name for name in [*known, LSTM] if (name in chosen if chosen else name != LSTM) or name == BASE]
    conditions = [name for name in arguments.conditions.split(",") if name] or list(CONDITIONS)
    known = [*CONDITIONS, *VALIDATION, *MORE]
    if unknown := [name for name in conditions if name not in known]:
        raise SystemExit(f"no condition is called {unknown[0]!r}; there are {', '.join(known)}")
    for seed in range(arguments.seeds if not arguments.tables else 0):
        for condition in conditions:
            for system in systems:
                streams(system, seed, condition, arguments)
    if not arguments.tables:
        more = {"cost": cost(arguments, systems), "real": real_clips(arguments, systems)}
        write_json(arguments.out / "more.json", more)
    print("\n".join(lines_of(tell(arguments, systems))))


def tell(arguments: Any, systems: Sequence[str]) -> dict[str, Any]:
    """Writes down the figures of what is finished, and gives them."""
    frames = arguments.clip_frames * arguments.batch * arguments.steps
    more = arguments.out / "more.json"
    result = {
        "date": str(datetime.date.today()),
        "machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores",
        "pictures": f"{frames} pictures seen in {arguments.batch * arguments.steps} clips",
        "seeds": arguments.seeds,
        "arguments": {k: str(v) for k, v in vars(arguments).items() if k not in ("data", "out")},
        "figures": compare(arguments, systems),
        **(json.loads(more.read_text()) if more.is_file() else {"cost": {}, "real": {}}),
    }
    write_json(arguments.out / "temporal.json", result)
    with replace_when_done(arguments.out / "temporal.md", overwrite=True) as part:
        part.write_text("\n".join(lines_of(result)) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    main()
