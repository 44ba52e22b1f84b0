"""A long video at full speed: does memory stay flat, do descriptors and threads not grow?

    python benchmarks/soak.py [--minutes 30] [--weights FILE] [--out results/soak.json]

A video of so many minutes (320 x 240, 25 frames a second, two people's outlines walking) is generated, and
`posecli infer --render` looks at it; once a second resident memory, descriptors and threads of the process are read.
After a warm-up (the first fifth of the frames) the median of the last fifth may be 1.05 of that of the second fifth.
Needs Linux (/proc). `make soak`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.bench import machine
from posecli.files import replace_when_done
from posecli.video import VideoWriter

FPS = 25
ALLOWED = 1.05


def generated(path: Path, frames: int, width: int = 320, height: int = 240) -> Path:
    """The video: dark figures that walk to and fro before a ground that drifts."""
    rows, columns = np.mgrid[:height, :width]
    with VideoWriter(path, width, height, FPS) as writer:
        for n in range(frames):
            image = np.stack([(columns + n) % 97 + 90, (rows + n // 2) % 89 + 100, (rows + columns) % 83 + 90], 2)
            image = image.astype(np.uint8)
            for person, speed in enumerate((2, 3)):
                x = abs((n * speed + 100 * person) % (2 * width) - width)
                y, size = height // 2, height // 8
                swing = int(size * np.sin(n / 5 + person) / 2)
                cv2.circle(image, (x, y - 2 * size), size // 2, (40, 30, 30), -1)
                cv2.line(image, (x, y - 2 * size), (x, y), (60, 30, 20), size // 2)
                for side in (-swing, swing):
                    cv2.line(image, (x, y), (x + side, y + 2 * size), (20, 30, 60), size // 4)
                    cv2.line(image, (x, y - size), (x - side, y), (60, 40, 30), size // 5)
            writer.write(image, n / FPS)
    return path


def readings(process: subprocess.Popen[Any], every: float) -> list[dict[str, float]]:
    """Seconds, resident MiB, descriptors and threads of a process until it ends."""
    rows: list[dict[str, float]] = []
    began = time.monotonic()
    place = Path(f"/proc/{process.pid}")
    while process.poll() is None:
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            descriptors = len(list((place / "fd").iterdir()))
            rows.append(
                {
                    "seconds": round(time.monotonic() - began, 1),
                    "mib": int(status["VmRSS"].split()[0]) / 1024,
                    "descriptors": descriptors,
                    "threads": int(status["Threads"]),
                }
            )
        except (OSError, KeyError):  # it is ending
            break
        time.sleep(every)
    process.wait()
    return rows


def soak(minutes: float, weights: str | None, folder: Path, every: float = 1.0) -> dict[str, Any]:
    """Looks at a video of so many minutes; what was read, in fifths of the time that frames were written.

    Raises:
        RuntimeError: `infer` failed, or frames are missing.
    """
    frames = round(minutes * 60 * FPS)
    video = generated(folder / "soak.mp4", frames)
    command = [sys.executable, "-m", "posecli", "infer", str(video), "--out", "soak.jsonl", "--render", "--quiet"]
    command += ["--device", "cpu", *(["--weights", weights] if weights else [])]
    began = time.monotonic()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    rows = readings(process, every)
    took = time.monotonic() - began
    lines = (folder / "soak.jsonl").read_bytes().count(b"\n") if (folder / "soak.jsonl").is_file() else 0
    if process.returncode or lines != frames + 1:
        raise RuntimeError(f"infer ended with {process.returncode} after {lines - 1} of {frames} frames")
    fifth = len(rows) // 5
    early, late = rows[fifth : 2 * fifth], rows[-fifth - 1 : -1]
    if fifth < 3:
        raise RuntimeError(f"{len(rows)} readings in {took:.0f} s are too few: a longer video, or more of them")
    result: dict[str, Any] = {"minutes": minutes, "frames": frames, "seconds": round(took, 1), "readings": len(rows)}
    for key in ("mib", "descriptors", "threads"):
        result[key] = {
            "early": statistics.median(r[key] for r in early),
            "late": statistics.median(r[key] for r in late),
            "most": max(r[key] for r in rows),
        }
    result["memory_ratio"] = round(result["mib"]["late"] / result["mib"]["early"], 3)
    result["flat"] = (
        result["memory_ratio"] <= ALLOWED
        and result["descriptors"]["late"] <= result["descriptors"]["early"]
        and result["threads"]["late"] <= result["threads"]["early"]
    )
    return result


def main() -> None:
    """Soaks, prints and keeps the result; exit code 1 where something grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--weights", help="else the shipped model")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/soak.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = soak(arguments.minutes, arguments.weights, Path(folder))
    said = {"command": "python benchmarks/soak.py " + " ".join(sys.argv[1:]), "machine": machine(), **result}
    print(json.dumps(result, indent=1))
    with replace_when_done(arguments.out) as part:
        part.write_text(json.dumps(said, indent=1) + "\n")
    sys.exit(not result["flat"])


if __name__ == "__main__":
    main()
