"""Time and memory of intervals on a COCO-val-sized file: 1,000 draws of OKS AP, and a paired comparison of two files.

    python benchmarks/intervals.py [--draws 1000] [--people 10800] [--detections 32000] [--no-pair]

Writes random labels and results into a temporary folder and evaluates them in a fresh interpreter, without draws, with
them, and against a second result; prints what the draws take beyond the evaluation itself, and the peak memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from evaluate import write_random

CODE = """
import json, resource, sys, time
from posecli.metrics import evaluate
gt, dt, draws, pair = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "pair"
def timed(*more, **options):
    start, cpu = time.perf_counter(), time.process_time()
    result = evaluate(gt, dt, *more, metrics=["oks"], **options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    taken = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu, "mib": memory}
    return taken | {"intervals": result["all"].get("intervals")}
runs = {"alone": timed(), "drawn": timed(bootstrap=draws)}
if pair:
    runs["pair_alone"] = timed(dt, bootstrap=0)
    runs["pair"] = timed(dt, bootstrap=draws)
print(json.dumps(runs))
"""


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--people", type=int, default=10800)
    parser.add_argument("--detections", type=int, default=32000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--no-pair", action="store_true", help="leave the comparison of two files out")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        gt, dt = write_random(Path(folder), arguments.pictures, arguments.people, arguments.detections)
        command = [sys.executable, "-c", CODE, str(gt), str(dt), str(arguments.draws)]
        command.append("one" if arguments.no_pair else "pair")
        runs = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    machine = f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    print(f"{datetime.date.today()}, {machine}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"load of the machine over the last minute: {os.getloadavg()[0]:.1f}")
    print(f"{arguments.people} people, {arguments.detections} detections, {arguments.draws} draws over pictures")
    low, high = runs["drawn"]["intervals"]["AP"]
    extra, cpu = (runs["drawn"][k] - runs["alone"][k] for k in ("seconds", "cpu"))
    print(f"evaluation alone        {runs['alone']['seconds']:6.2f} s  {runs['alone']['mib']:5.0f} MiB")
    print(
        f"draws, in addition      {extra:6.2f} s  {runs['drawn']['mib']:5.0f} MiB  {cpu:.1f} s of processor time; "
        f"OKS-AP {low:.4f} to {high:.4f}"
    )
    if "pair" in runs:
        extra, cpu = (runs["pair"][k] - runs["pair_alone"][k] for k in ("seconds", "cpu"))
        told = f"{cpu:.1f} s of processor time, with p by as many swaps"
        print(f"two files, in addition  {extra:6.2f} s  {runs['pair']['mib']:5.0f} MiB  {told}")


if __name__ == "__main__":
    main()
