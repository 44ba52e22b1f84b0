"""How fast the shipped model goes from a clip to a pose stream, and how soon `--help` answers.

    python benchmarks/speed.py clip.mp4 [--runs 3]

Whole commands are timed, start-up and decoding included; beside them, in the same run, decoding alone (PyAV to RGB) and
the bare interpreter, so that ratios can be quoted. Prints the machine and the date.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from posecli.video import open_source

PYTHON = [sys.executable]
POSECLI = [sys.executable, "-m", "posecli"]


def seconds(command: list[str]) -> float:
    """Wall time of a whole command."""
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begin


def decoding(clip: str) -> tuple[int, float]:
    """Frames of a clip, and the time to decode them to RGB in this process."""
    begin = time.perf_counter()
    count = sum(1 for _ in open_source(clip).frames())
    return count, time.perf_counter() - begin


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
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    frames, _ = decoding(arguments.clip)
    infer, decode, bare, help_ = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/poses.jsonl"
        for _ in range(arguments.runs):
            infer.append(seconds([*POSECLI, "infer", arguments.clip, "--out", out, "--overwrite", "--quiet"]))
            decode.append(decoding(arguments.clip)[1])
            bare.append(seconds([*PYTHON, "-c", "pass"]))
            help_.append(seconds([*POSECLI, "--help"]))
    took = statistics.median(infer)
    print(f"{cpu()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {datetime.date.today()}")
    print(f"infer {Path(arguments.clip).name}: {frames} frames in {took:.2f} s, {frames / took:.1f} frames/s")
    print(f"decoding alone: {statistics.median(decode):.2f} s, infer/decoding {took / statistics.median(decode):.1f}")
    late = statistics.median(help_) - statistics.median(bare)
    print(f"posecli --help: {late:.2f} s beyond the interpreter's own start of {statistics.median(bare):.3f} s")


if __name__ == "__main__":
    main()
