"""How the systems of `temporal.py` compare: on the labelled clips with intervals, in time, on real clips."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_files import write_json
from temporal_clips import CONDITIONS, MORE, VALIDATION, judged_folder
from temporal_figures import draws, interval, score, truth_of
from temporal_looking import stream_file, streams
from temporal_systems import ABLATIONS, BASE, LSTM, SMOOTHED, ready

from posecli.infer_files import run_jobs
from posecli.infer_jobs import plan_jobs
from posecli.pipeline import InferOptions
from posecli.predictions import read_stream
from posecli.video import list_inputs

REAL = ("tai_chi.mp4", "clean_and_jerk.mp4", "basketball_two_children.mp4", "two_people_hug.mp4")


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
