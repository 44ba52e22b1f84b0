"""OKS AP and AR of a COCO-val-sized file: posecli against pycocotools, loading included, in one run.

    python benchmarks/evaluate.py [--people 10800] [--detections 32000] [--repeats 3]

Writes random labels (crowds, people without joints, people flagged ignore) and results into a temporary folder, runs
both in fresh interpreters, in turns, and prints the ten numbers of each, the best times (of the clock, and of the
processor for busy machines), their ratio and the peak memory of each; ends with an error if a number differs by more
than 1e-9. Time counts from before the import to the last number.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from posecli.skeletons import COCO17

NAMES = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")
OURS = f"""
from posecli.metrics import evaluate
row = evaluate(sys.argv[1], sys.argv[2], metrics=["oks"])["all"]
stats = [row[name] for name in {NAMES}]
"""
THEIRS = """
import contextlib, io
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
with contextlib.redirect_stdout(io.StringIO()):
    labels = COCO(sys.argv[1])
    scorer = COCOeval(labels, labels.loadRes(sys.argv[2]), "keypoints")
    scorer.evaluate(), scorer.accumulate(), scorer.summarize()
stats = scorer.stats.tolist()
"""
FRAME = """
import json, resource, sys, time
start = time.perf_counter()
{body}
seconds, cpu = time.perf_counter() - start, time.process_time()
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({{"stats": stats, "seconds": seconds, "cpu": cpu, "mib": memory}}))
"""


def write_random(folder: Path, pictures: int, people: int, detections: int) -> tuple[Path, Path]:
    """Labels and results as COCO val2017 is sized: people in about half of the pictures, a few per cent crowds."""
    random = np.random.default_rng(0)
    labels, results = [], []
    where = random.integers(1, pictures // 2, people)
    for number in range(people):
        w, h = random.uniform(15, 300, 2)
        x, y = random.uniform(0, 300, 2)
        v = random.choice([0, 1, 2], 17, p=[0.3, 0.2, 0.5]) if random.random() < 0.6 else np.zeros(17, int)
        xy = (random.random((17, 2)) * [w, h] + [x, y]).round(2) * (v > 0)[:, None]
        labels.append(
            {
                "id": number + 1,
                "image_id": int(where[number]),
                "category_id": 1,
                "iscrowd": int(random.random() < 0.03),
                "ignore": int(random.random() < 0.01),
                "bbox": [round(float(b), 2) for b in (x, y, w, h)],
                "area": round(float(0.5 * w * h), 2),
                "num_keypoints": int((v > 0).sum()),
                "keypoints": np.hstack([xy, v[:, None]]).ravel().tolist(),
            }
        )
    for _ in range(detections):
        near = labels[random.integers(people)]
        xy = np.array(near["keypoints"]).reshape(17, 3)[:, :2]
        xy = xy + random.normal(size=(17, 2)) * np.sqrt(near["area"]) * 10 ** random.uniform(-3, 0)
        results.append(
            {
                "image_id": near["image_id"],
                "category_id": 1,
                "keypoints": np.hstack([xy.round(2), np.ones((17, 1))]).ravel().tolist(),
                "score": round(float(random.random()), 4),
            }
        )
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(1, pictures + 1)]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    gt, dt = folder / "labels.json", folder / "results.json"
    gt.write_text(json.dumps({"images": images, "annotations": labels, "categories": [category]}))
    dt.write_text(json.dumps(results))
    return gt, dt


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    parser.add_argument("--people", type=int, default=10800)
    parser.add_argument("--detections", type=int, default=32000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = write_random(Path(folder), arguments.pictures, arguments.people, arguments.detections)
        best = {}
        for _ in range(arguments.repeats):  # in turns, so that other load on the machine meets both
            for name, body in (("posecli", OURS), ("pycocotools", THEIRS)):
                command = [sys.executable, "-c", FRAME.format(body=body), *map(str, paths)]
                value = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                if name not in best or value["seconds"] < best[name]["seconds"]:
                    best[name] = value
    ours, theirs = best["posecli"], best["pycocotools"]
    difference = float(np.abs(np.subtract(ours["stats"], theirs["stats"])).max())
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")
    print(f"{arguments.people} people, {arguments.detections} detections; greatest difference {difference:g}")
    print(f"{'':14}{'posecli':>14}{'pycocotools':>14}")
    for name, one, two in zip(NAMES, ours["stats"], theirs["stats"], strict=True):
        print(f"{name:14}{one:14.10f}{two:14.10f}")
    print(f"{'time, s':14}{ours['seconds']:14.2f}{theirs['seconds']:14.2f}")
    print(f"{'processor, s':14}{ours['cpu']:14.2f}{theirs['cpu']:14.2f}")
    print(f"{'memory, MiB':14}{ours['mib']:14.0f}{theirs['mib']:14.0f}")
    ratios = [theirs[key] / ours[key] for key in ("seconds", "cpu")]
    print(f"ratio of times {ratios[0]:.1f}, of processor times {ratios[1]:.1f}")
    if difference > 1e-9:
        sys.exit(f"the numbers differ by {difference:g}")


if __name__ == "__main__":
    main()
