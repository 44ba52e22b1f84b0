"""What `infer --ray` costs besides: short clips by one Ray worker against one process, once the cluster is up.

    python benchmarks/ray_overhead.py [--clips 20] [--frames 50] [--rounds 3] [--out results/ray_overhead.json]

Clips (640 x 360) are generated. A cluster of this machine is started first. In turn, each in this process: plain
`infer` of all clips; `infer --ray auto --ray-workers 1` of all clips. Both begin with loading the model: that a worker
is a new process which imports PyTorch is part of what Ray costs. Beside the whole ratio stands that of the time from
the first finished clip to the last, which is what a longer list of clips pays. Needs `pip install 'posecli[ray]'`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from soak import generated

from posecli.__main__ import main as posecli
from posecli.bench import machine
from posecli.files import replace_when_done


def timed(folder: Path, name: str, *options: str) -> tuple[float, float]:
    """Seconds of `infer` over the clips, and from the first finished stream to the last."""
    out = folder / name
    finished: dict[str, float] = {}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            for path in out.glob("*.poses.jsonl") if out.is_dir() else ():
                # Of plain infer a stream grows under its final name: the next clip's says that it is done.
                finished.setdefault(path.name, time.perf_counter())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            posecli(["infer", str(folder / "clips"), "--out", str(out), "--quiet", "--device", "cpu", *options])
        except SystemExit as ended:
            if ended.code:
                raise RuntimeError(f"infer ended with {ended.code}") from None
    took = time.perf_counter() - began
    stop.set()
    watcher.join()
    marks = sorted(finished.values())
    return took, marks[-1] - marks[0]


def main() -> None:
    """Measures, prints and keeps the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--frames", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", help="else the shipped model")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/ray_overhead.json")
    arguments = parser.parse_args()
    import ray

    os.environ.setdefault("RAY_worker_niceness", "0")  # else workers are nice by 15, which is no cost of Ray's
    began = time.perf_counter()
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    up = time.perf_counter() - began
    import torch

    torch.set_num_threads(1)  # as a worker of one CPU
    own = ["--weights", arguments.weights] if arguments.weights else []
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "clips").mkdir()
        for number in range(arguments.clips):
            generated(folder / f"clips/{number:02d}.mp4", arguments.frames, 640, 360)
        for number in range(arguments.rounds):
            plain = timed(folder, f"plain{number}", *own)
            shared = timed(folder, f"ray{number}", "--ray", "auto", "--ray-workers", "1", *own)
            rows.append(
                {
                    "plain_s": round(plain[0], 2), "ray_s": round(shared[0], 2),
                    "ratio": round(shared[0] / plain[0], 3), "between_clips_ratio": round(shared[1] / plain[1], 3),
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
    ray.shutdown()
    said = {
        "command": "python benchmarks/ray_overhead.py " + " ".join(sys.argv[1:]), "machine": machine(),
        "ray": ray.__version__, "clips": arguments.clips, "frames": arguments.frames,
        "cluster_up_s": round(up, 1), "ratio": statistics.median(r["ratio"] for r in rows),
        "between_clips_ratio": statistics.median(r["between_clips_ratio"] for r in rows), "rows": rows,
    }  # fmt: skip
    print(json.dumps({k: said[k] for k in ("cluster_up_s", "ratio", "between_clips_ratio")}))
    with replace_when_done(arguments.out) as part:
        part.write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    main()
