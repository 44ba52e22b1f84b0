"""How the time grows: with threads, with the size of the picture, with people in it, with the length of the video.

    python benchmarks/scaling.py [--out FOLDER] [--only threads,resolution,people,length] [--minutes 1,10]

- threads: DEKR-W32 (random weights) at 512 x 960 with 1, 2, 4, ... threads, seconds on the clock; of use on a machine
  with nothing else to do.
- resolution: DEKR-small from 256 x 480 up, core-seconds a megapixel.
- people: reading DEKR's maps with 1 to 100 people planted in them, and the pose network for as many crops, on one
  thread.
- length: peak memory of `posecli infer` on generated videos of these minutes, in processes of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_files import write_json

import posecli
from posecli.bench import BenchOptions, machine, measure_network, network_of, rounds
from posecli.models import DekrOutput
from posecli.readout import BOTTOM_UP, PredictOptions
from posecli.video import VideoWriter

# Not `ru_maxrss`, which begins with the peak of the process that forked this one.
ONE_LENGTH = """
import posecli, re, sys
frames = sum(1 for _ in posecli.infer(sys.argv[1]))
print(frames, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024)
"""


def threads() -> list[dict[str, Any]]:
    """The same network with more and more threads."""
    rows = []
    before = torch.get_num_threads()
    try:
        for count in (n for n in (1, 2, 4, 8, 16, 32) if n <= (os.cpu_count() or 1)):
            torch.set_num_threads(count)
            model = network_of("dekr-w32", device="cpu")
            found = measure_network("network", model, BenchOptions(size=(960, 512), runs=3, threads=count))
            row = next(iter(found["runs"].values()))
            rows.append({"threads": count, "seconds": row["seconds"], "core_seconds": row["core_seconds"]})
    finally:
        torch.set_num_threads(before)
    return rows


def resolution() -> list[dict[str, Any]]:
    """The same network on larger and larger pictures."""
    rows = []
    model = network_of("dekr-small", device="cpu")
    for height, width in ((256, 480), (512, 960), (736, 1312), (1088, 1920)):
        found = measure_network("network", model, BenchOptions(size=(width, height), runs=2))
        row = next(iter(found["runs"].values()))
        rows.append(
            {
                "input": f"{width}x{height}",
                "core_seconds": row["core_seconds"],
                "core_seconds_a_megapixel": round(row["core_seconds"] / (width * height / 1e6), 4),
            }
        )
    return rows


def planted(count: int, keypoints: int = 17, height: int = 128, width: int = 240) -> DekrOutput:
    """DEKR's maps with so many people in them, on a grid, each 12 map pixels tall."""
    rng = np.random.default_rng(count)
    heat = np.zeros((keypoints + 1, height, width), np.float32)
    offset = np.zeros((2 * keypoints, height, width), np.float32)
    rows, columns = np.mgrid[:height, :width]
    across = int(np.ceil(np.sqrt(count * width / height)))
    down = -(-count // across)
    for number in range(count):
        x = (number % across + 0.5) * width / across
        y = (number // across + 0.5) * height / down
        joints = np.stack([x + rng.uniform(-4, 4, keypoints), y + rng.uniform(-6, 6, keypoints)], 1)
        near = np.hypot(columns - x, rows - y) < 4
        for k, (jx, jy) in enumerate([*joints, (x, y)]):
            heat[k] = np.maximum(heat[k], 0.9 * np.exp(-((columns - jx) ** 2 + (rows - jy) ** 2) / 8))
            if k < keypoints:
                offset[2 * k][near] = (columns - jx)[near]
                offset[2 * k + 1][near] = (rows - jy)[near]
    return DekrOutput(torch.from_numpy(heat)[None], torch.from_numpy(offset)[None])


def people() -> list[dict[str, Any]]:
    """Reading maps, and crops of the shipped model, by the number of people; on one thread, where none waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _people()
    finally:
        torch.set_num_threads(before)


def _people() -> list[dict[str, Any]]:
    meta = network_of("dekr-w32", device="cpu").meta
    model = posecli.load_model(device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (720, 1280, 3), dtype=np.uint8)
    rows = []
    for count in (1, 2, 5, 10, 20, 50, 100):
        maps, options = planted(count), PredictOptions(max_persons=count)
        found = BOTTOM_UP["dekr"].decode([maps], [], options, meta)
        x = np.arange(count) * 12.0
        boxes = [np.stack([x, x / 4, x + 80, x / 4 + 200], 1)]
        work: dict[str, Callable[[], Any]] = {
            "read": lambda m=maps, o=options: BOTTOM_UP["dekr"].decode([m], [], o, meta),
            "crops": lambda b=boxes: model.predict([image], b, still=False),
        }
        took = {name: statistics.median(core for _, core, _ in t) for name, t in rounds(work, 3).items()}
        rows.append(
            {
                "people": count,
                "found": len(found[0]),
                "read_maps_ms": round(1000 * took["read"], 2),
                "crops_and_pose_network_ms": round(1000 * took["crops"], 2),
                "of_that_a_person_ms": round(1000 * took["crops"] / count, 2),
            }
        )
    return rows


def length(minutes: list[float]) -> list[dict[str, Any]]:
    """Peak memory by the length of a generated video (320 x 240, 25 frames a second)."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for wanted in minutes:
            path = Path(folder) / f"{wanted}.mp4"
            with VideoWriter(path, 320, 240, 25) as writer:
                for n in range(round(wanted * 60 * 25)):
                    writer.write(_moving(n))
            began = time.perf_counter()
            run = subprocess.run([sys.executable, "-c", ONE_LENGTH, path], check=True, capture_output=True, text=True)
            frames, megabytes = run.stdout.split()
            rows.append(
                {
                    "minutes": wanted,
                    "frames": int(frames),
                    "peak_mb": round(float(megabytes), 1),
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
    return rows


_PLACES = np.mgrid[:240, :320].astype(np.int32)


def _moving(n: int) -> np.ndarray:
    rows, columns = _PLACES
    return np.stack([(columns + n) % 256, (rows + 2 * n) % 256, (rows + columns) % 256], 2).astype(np.uint8)


def main() -> None:
    """Measures what is asked and writes scaling.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", default="threads,resolution,people,length")
    parser.add_argument("--minutes", default="1,10")
    arguments = parser.parse_args()
    work: dict[str, Callable[[], Any]] = {
        "threads": threads,
        "resolution": resolution,
        "people": people,
        "length": lambda: length([float(m) for m in arguments.minutes.split(",")]),
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "scaling.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for name in arguments.only.split(","):
        found[name] = {
            "command": "python benchmarks/scaling.py " + " ".join(sys.argv[1:]),
            "machine": machine(),
            "rows": work[name](),
        }
        for row in found[name]["rows"]:
            print(name, row, flush=True)
        write_json(file, found)


if __name__ == "__main__":
    main()
