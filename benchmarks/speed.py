"""How fast the shipped model goes from a clip to a pose stream, and how soon `--help` answers.

    python benchmarks/speed.py clip.mp4 [--weights FILE] [--find-every 0.2] [--runs 3] [--height 720] [--times 5]
                                        [--against FOLDER]

Whole commands are timed, start-up and decoding included; beside them, in the same run, decoding alone (PyAV to RGB)
and the bare interpreter, so that ratios can be quoted. Then where the time goes (`infer --profile`, the middle run by
its wall time): core-milliseconds a frame of each stage, of everything but the networks, and wall time over core-seconds
by cores (1: no core is ever idle), with what the machine did besides where it tells (Linux). What measuring itself
takes is left out. With ``--height`` the clip is scaled to so many rows first, with ``--times`` it is shown so often on
end. With ``--against`` another version of posecli, that of a folder, is profiled in turn, its streams are compared with
these byte by byte, and core-milliseconds of both stand side by side. With ``OMP_NUM_THREADS=1`` no thread waits for
another at the library's expense: core-milliseconds are then those of the work. Prints the machine, its load and the
date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import cv2
import torch

from posecli.video import VideoWriter, open_source

PYTHON = [sys.executable]
POSECLI = [sys.executable, "-m", "posecli"]


def seconds(command: list[str]) -> float:
    """Wall time of a whole command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def machine() -> tuple[float, float]:
    """Seconds that the machine's cores were busy, and idle, so far; (0, 0) where it doesn't tell."""
    try:
        ticks = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0.0, 0.0
    idle = ticks[3] + ticks[4]
    return (sum(ticks) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


def profile(command: list[str], folder: str | None = None) -> dict[str, Any]:
    """The table of a command with ``--profile --json``, by the posecli of a folder or this one; ``others``: cores that
    other programs kept busy meanwhile."""
    path = {"PYTHONPATH": folder} if folder else {}
    usage, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    before = machine()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | path, cwd=folder
    )
    busy, took = machine()[0] - before[0], time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    return json.loads(done.stdout)["profile"] | {"others": max(busy - own, 0.0) / took}


def compare(command: list[str], folder: str, runs: int, place: str) -> None:
    """Prints core-milliseconds of each stage, another version's and this one's, and whether their streams are equal."""
    found: dict[str, list[dict[str, Any]]] = {"before": [], "now": []}
    streams = {}
    for _ in range(runs):
        for name, where in (("before", str(Path(folder).resolve())), ("now", None)):
            found[name].append(profile(command, where))
            streams[name] = Path(place).read_bytes()
    middle = {name: sorted(runs, key=lambda one: one["seconds"])[len(runs) // 2] for name, runs in found.items()}
    rows = {name: {row["stage"]: row["ms_per_frame"] for row in one["stages"]} for name, one in middle.items()}
    print("| core-milliseconds a frame | before | now |\n|---|---|---|")
    for stage in dict.fromkeys([*rows["before"], *rows["now"]]):
        print(f"| {stage} | {rows['before'].get(stage, 0.0):.2f} | {rows['now'].get(stage, 0.0):.2f} |")
    for what in ("frames_per_second", "core_seconds", "others"):
        print(f"| {what.replace('_', ' ')} | {middle['before'][what]:.2f} | {middle['now'][what]:.2f} |")
    print(f"streams are {'the same' if streams['before'] == streams['now'] else 'NOT the same'}")


def show(found: dict[str, Any]) -> None:
    """Prints a profile and what it says of the goals."""
    for row in found["stages"]:
        print(f"  {row['stage']:24} {row['ms_per_frame']:7.2f} core-ms a frame  {row['share']:4.0%}")
    left_out = [row["stage"] for row in found["stages"] if row["stage"].endswith("network")] + ["measuring"]
    besides = sum(row["ms_per_frame"] for row in found["stages"] if row["stage"] not in left_out)
    busy = found["core_seconds"] / found["cores"]
    print(f"everything but the networks: {besides:.2f} core-ms a frame; the limit is: {found['limit']}")
    print(
        f"{found['frames_per_second']:.1f} frames/s once loaded; wall time {found['seconds']:.2f} s is "
        f"{found['seconds'] / busy:.2f} x core-seconds / cores ({found['core_seconds']:.2f} / {found['cores']}); "
        f"other programs kept {found['others']:.2f} cores busy"
    )


def decoding(clip: str) -> tuple[int, float]:
    """Frames of a clip, and the time to decode them to RGB in this process."""
    begin = time.perf_counter()
    count = sum(1 for _ in open_source(clip).frames())
    return count, time.perf_counter() - begin


def scaled(clip: str, height: int, folder: str) -> str:
    """A clip of so many rows, and as many columns as its shape wants, in a folder."""
    place = f"{folder}/{Path(clip).stem}_{height}.mp4"
    with open_source(clip) as source:
        width = 2 * round(source.width * height / source.height / 2)
        with VideoWriter(place, width, height, source.fps or 25) as writer:
            for frame in source.frames():
                writer.write(cv2.resize(frame.image, (width, height)), frame.time)
    return place


def repeated(clip: str, times: int, folder: str) -> str:
    """A clip shown so often on end, its packets as they are, in a folder."""
    place = f"{folder}/{Path(clip).stem}_x{times}.mkv"
    with av.open(place, "w") as out:
        shift, target = 0, None
        for _ in range(times):
            with av.open(clip) as source:
                stream = source.streams.video[0]
                target = target or out.add_stream_from_template(stream)
                end = shift
                for packet in source.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, target
                        end = max(end, packet.pts + (packet.duration or 1))
                        out.mux(packet)
                shift = end
    return place


def cpu() -> str:
    """The processor's name where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown processor"


def main() -> None:
    """Times the commands in turn and prints medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clip")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--find-every", default="0.2")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--height", type=int)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--against")
    arguments = parser.parse_args()
    infer, decode, bare, help_, profiles = [], [], [], [], []
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.height:
            arguments.clip = scaled(arguments.clip, arguments.height, folder)
        if arguments.times > 1:
            arguments.clip = repeated(arguments.clip, arguments.times, folder)
        # Another version is started in its own folder.
        arguments.clip = str(Path(arguments.clip).resolve())
        frames, _ = decoding(arguments.clip)
        command = [*POSECLI, "infer", arguments.clip, "--out", f"{folder}/poses.jsonl", "--overwrite"]
        command += ["--quiet", "--weights", arguments.weights, "--find-every", arguments.find_every]
        if arguments.against:
            compare([*command, "--profile", "--json"], arguments.against, arguments.runs, f"{folder}/poses.jsonl")
            return
        for _ in range(arguments.runs):
            infer.append(seconds(command))
            profiles.append(profile([*command, "--profile", "--json"]))
            decode.append(decoding(arguments.clip)[1])
            bare.append(seconds([*PYTHON, "-c", "pass"]))
            help_.append(seconds([*POSECLI, "--help"]))
    took = statistics.median(infer)
    spread = f"{min(infer):.2f} to {max(infer):.2f}"
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {datetime.date.today()}")
    print(f"load of the machine before: {load:.1f}; weights: {Path(arguments.weights).stem}")
    print(
        f"infer {Path(arguments.clip).name}: {frames} frames in {took:.2f} s ({spread}), {frames / took:.1f} frames/s"
    )
    print(f"decoding alone: {statistics.median(decode):.2f} s, infer/decoding {took / statistics.median(decode):.1f}")
    show(sorted(profiles, key=lambda found: found["seconds"])[len(profiles) // 2])
    late = statistics.median(help_) - statistics.median(bare)
    print(f"posecli --help: {late:.2f} s beyond the interpreter's own start of {statistics.median(bare):.3f} s")


if __name__ == "__main__":
    main()
