"""Scores the shipped model as a user meets it: plain ``posecli infer FOLDER``, then the project's metrics.

    python benchmarks/default_model.py --data DATA --out runs/scores [--weights FILE] [--json]

Measured (DATA as `examples/train_finder.py` reads it; none of these pictures was trained on):

- LSPET validation tenth (crc32 of the file name divisible by 10), whole stored crops in: PCK@0.2 of the torso (left
  shoulder to right hip) over 12 limb joints, the person with the highest score, a picture without a person all wrong.
- coco_mini val, whole pictures in: mean OKS over people with 5 or more labelled joints, unpaired people 0, with a
  bootstrap interval over pictures; OKS AP beside it.
- Backgrounds kept out of training: people above the display threshold a picture.

``--parts groups,spoilt`` breaks the scores down by size, turn, joint and hiding, from the streams of an earlier run,
and measures what blur, light, noise and packing cost (`breakdown.py`). ``--result FILE.md`` writes a page of all that
the folder ``--out`` holds.

With ``--check score.py`` the same streams are also scored by that separate program.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from posecli import evaluate
from posecli.files import replace_when_done, sha256_of
from posecli.formats import coco
from posecli.inference import find_weights
from posecli.predictions import read_stream
from posecli.types import Dataset

PCK = "PCK@0.2"
LIMBS = [
    f"{side}_{joint}" for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle") for side in ("left", "right")
]


def held_out(name: str) -> bool:
    """Whether a picture of LSPET or of the backgrounds is kept for scoring."""
    return zlib.crc32(Path(name).name.encode()) % 10 == 0


def folder_of(pictures: list[Path], folder: Path) -> Path:
    """A folder that shows just these pictures, by links."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in pictures:
        link = folder / path.name
        if not link.exists():
            link.symlink_to(path.resolve())
    return folder


def infer(folder: Path, stream: Path, options: list[str]) -> float:
    """Runs the verb as a user would; returns pictures a second, start of the program included."""
    started = time.monotonic()
    command = [sys.executable, "-m", "posecli", "infer", str(folder), "--out", str(stream), "--overwrite", "--quiet"]
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)
    return len(os.listdir(folder)) / (time.monotonic() - started)


def score_lspet(dataset: Dataset, stream: Path, draws: int) -> dict[str, Any]:
    """PCK@0.2 in all and by joint."""
    result = evaluate(
        dataset, stream, metrics=("pck",), thresholds={"pck": [0.2]}, match="top-score", misses="wrong",
        by=("joint",), joints=LIMBS, pck_reference="torso", bootstrap=draws,
    )  # fmt: skip
    return {
        "PCK": result["all"][PCK], "interval": result["all"]["intervals"][PCK], "people": result["all"]["people"],
        "joints": {name: row[PCK] for name, row in result["groups"]["joint"].items()}, "counts": result["counts"],
    }  # fmt: skip


def count_false(stream: Path) -> tuple[int, int, float]:
    """People above the display threshold on pictures without anybody: people, pictures with some, threshold."""
    people = pictures = 0
    threshold = 0.0
    for header, line in read_stream(stream):
        threshold = header.threshold or 0.0
        shown = sum(p.person_score >= threshold for p in line.instances)
        people += shown
        pictures += shown > 0
    return people, pictures, threshold


def page(folder: Path, tables: Callable[[dict[str, Any]], str]) -> str:
    """All results of a folder as Markdown."""
    report = json.loads((folder / "scores.json").read_text())
    lines = [
        "# Scores of the default model", "",
        f"{platform.machine()}, {os.cpu_count()} cores, {datetime.date.today()}; `{report['weights']}`, "
        f"{report['bytes'] / 1e6:.2f} MB, SHA-256 `{report['sha256']}`. `python benchmarks/default_model.py --data "
        "../shared/data --out runs/scores`, then `--parts groups,spoilt --result ...`.", "",
        "| measure | value | 95 % interval |", "|---|---|---|",
    ]  # fmt: skip

    def row(name: str, value: float, interval: list[float] | None) -> None:
        lines.append(f"| {name} | {value:.3f} | {interval[0]:.3f} to {interval[1]:.3f} |" if interval else
                     f"| {name} | {value:.3f} | |")  # fmt: skip

    if "lspet" in report:
        row("LSPET validation, PCK@0.2", report["lspet"]["PCK"], report["lspet"]["interval"])
    if "coco" in report:
        row("`coco_mini` val, mean OKS", report["coco"]["mean_OKS"], report["coco"]["interval"])
        row("`coco_mini` val, OKS AP", report["coco"]["AP"], report["coco"]["AP_interval"])
    if "backgrounds" in report:
        row("people shown on a background picture", report["backgrounds"]["per_picture"], None)
    lines += [""]
    if "lspet" in report:
        lines += ["**LSPET by joint**", "", "| joint | PCK@0.2 |", "|---|---|"]
        lines += [f"| {name.replace('_', ' ')} | {value:.3f} |" for name, value in report["lspet"]["joints"].items()]
        lines += [""]
    finer = folder / "breakdown.json"
    return "\n".join(lines) + "\n" + (tables(json.loads(finer.read_text())) if finer.is_file() else "")


def main() -> None:
    import breakdown  # which takes from this file what it shares

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for streams and the result")
    parser.add_argument("--weights", default="default")
    parser.add_argument("--parts", default="lspet,coco,backgrounds", help="also: groups, spoilt")
    parser.add_argument("--spoilt", type=int, default=200, help="pictures to spoil")
    parser.add_argument("--check", type=Path, help="a separate scoring program for the same streams")
    parser.add_argument("--result", type=Path, help="Markdown file to write")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--options", default="", help="further options of infer")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    weights = find_weights(args.weights)
    options = ["--weights", str(weights), *args.options.split()]
    report: dict[str, Any] = {
        "weights": weights.name, "sha256": sha256_of(weights), "bytes": weights.stat().st_size,
    }  # fmt: skip

    def check(*arguments: object) -> None:
        if args.check:
            command = [sys.executable, str(args.check), *map(str, arguments)]
            said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            print(f"  {args.check.name}: {said.strip().splitlines()[-2]}", file=sys.stderr)

    if "lspet" in args.parts:
        dataset = coco.read(args.data / "lspet/annotations.json")
        records = tuple(replace(r, file_name=Path(r.file_name).name) for r in dataset.records if held_out(r.file_name))
        pictures = [args.data / "lspet/images" / r.file_name for r in records]
        stream = args.out / "lspet.jsonl"
        rate = infer(folder_of(pictures, args.out / "lspet"), stream, options)
        report["lspet"] = score_lspet(replace(dataset, records=records), stream, args.bootstrap) | {"per_second": rate}
        check("lspet", args.data, stream)
    if "coco" in args.parts:
        labels = args.data / "coco_mini/annotations/person_keypoints_val2017.json"
        stream = args.out / "coco.jsonl"
        rate = infer(args.data / "coco_mini/val2017", stream, options)
        five = evaluate(labels, stream, metrics=("oks",), min_joints=5, bootstrap=args.bootstrap)
        everybody = evaluate(labels, stream, metrics=("oks",), bootstrap=args.bootstrap)
        report["coco"] = {
            "mean_OKS": five["all"]["mean_OKS"], "interval": five["all"]["intervals"]["mean_OKS"],
            "people": five["all"]["people"], "AP": everybody["all"]["AP"], "AP50": everybody["all"]["AP50"],
            "AP_interval": everybody["all"]["intervals"]["AP"], "per_second": rate,
        }  # fmt: skip
        check("coco", labels, stream)
    if "backgrounds" in args.parts:
        pictures = [p for p in sorted((args.data / "backgrounds/images").iterdir()) if held_out(p.name)]
        stream = args.out / "backgrounds.jsonl"
        infer(folder_of(pictures, args.out / "backgrounds"), stream, options)
        people, some, threshold = count_false(stream)
        report["backgrounds"] = {
            "pictures": len(pictures), "false_people": people, "pictures_with_some": some,
            "per_picture": people / len(pictures), "threshold": threshold,
        }  # fmt: skip
    finer: dict[str, Any] = {}
    if "groups" in args.parts:
        finer |= breakdown.groups_of(args.data, args.out, args.bootstrap)
    if "spoilt" in args.parts:
        finer["LSPET, spoilt"] = breakdown.spoilt(args.data, args.out, options, args.spoilt, args.bootstrap)
    if finer:
        stored = args.out / "breakdown.json"
        earlier = json.loads(stored.read_text()) if stored.is_file() else {}
        stored.write_text(json.dumps(earlier | finer, indent=1))
        print(breakdown.tables(finer), file=sys.stderr if args.json else sys.stdout)
    if any(part in report for part in ("lspet", "coco", "backgrounds")):
        (args.out / "scores.json").write_text(json.dumps(report, indent=1))
    if args.result:
        with replace_when_done(args.result, overwrite=True) as part:
            part.write_text(page(args.out, breakdown.tables), encoding="utf-8")
    if args.json:
        print(json.dumps(report, indent=1))
        return
    print(f"{report['weights']}  {report['bytes'] / 1e6:.2f} MB  sha256 {report['sha256'][:16]}")
    for part in ("lspet", "coco", "backgrounds"):
        if part in report:
            print(part, json.dumps({k: v for k, v in report[part].items() if k not in ("joints", "counts")}))
    for name, value in report.get("lspet", {}).get("joints", {}).items():
        print(f"  {name:15s} {value:.3f}")


if __name__ == "__main__":
    main()
