"""How fast every network is on this machine, quick against plain.

    python benchmarks/networks.py [--out FOLDER] [--threads 1] [--runs 2] [--only dekr-w32,hrnet-w32] [--all]

Weights are drawn at random. Each network is measured as `posecli bench --against plain` does (in units of a fixed
piece of work, see docs/speed.md), and in int8 and bfloat16 where it and the processor can, one crop or picture at a
time, at the input size that `posecli train` starts from; DEKR-W32 and -W48 at 512 x 960, a 720p frame. Without `--all`
those that differ in depth only are left out. The table is written after each network; with `--only` the other rows
stay, if they are of the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from result_files import write_both

from posecli.bench import (
    BenchOptions,
    computes_in_bfloat16,
    machine,
    measure_network,
    network_of,
    ranges_of_noise,
    roofline,
    rows_of_this_machine,
)
from posecli.catalogue import architectures
from posecli.errors import PoseError
from posecli.readout import PredictOptions

SIZES = {"dekr-w32": (960, 512), "dekr-w48": (960, 512), "dekr-small": (960, 512), "dekr-finder": (960, 512)}
CHOSEN = (
    "dekr-w32 hrnet-w32 pose-fpn dekr-finder dekr-small hrnet-small simple-baseline-50 fastpose-50 hourglass-2 hg cpm "
    "cpn-50 unipose integral-resnet-50 tompson deeppose dekr-w48 hrnet-w48 fastpose-50-dcn hourglass"
).split()


def row(name: str, threads: int, runs: int) -> dict[str, Any]:
    """One network, measured."""
    size = SIZES.get(name)
    usual = None if size is None else (size[1], size[1])
    model = network_of(name, usual, device="cpu")
    options = BenchOptions(against="plain", size=size, runs=runs, threads=threads)
    found = measure_network(model.role.strip(), model, options)
    options = BenchOptions(size=size, runs=runs, threads=threads)
    for precision in ("int8", "bfloat16") if computes_in_bfloat16() else ("int8",):
        quick = network_of(name, usual, device="cpu", options=PredictOptions(precision=precision))
        try:
            if precision == "int8":
                ranges_of_noise(quick, options)
            other = measure_network(quick.role.strip(), quick, options)
            (found["runs"][precision],) = other["runs"].values()
        except PoseError as error:
            found[f"no_{precision}"] = str(error)
    return found


def table(found: dict[str, Any]) -> str:
    """The results for people."""
    of, roof = found["machine"], found["roofline"]
    halves = found.get("roofline_bfloat16")
    in_halves = (
        f" In bfloat16 {halves['gemm_gflops']:.0f} and {halves['conv_gflops']:.0f} GFLOP/s."
        if halves
        else " It doesn't compute in bfloat16."
    )
    lines = [
        "# Networks on a CPU",
        "",
        f"{of['processor']} ({', '.join(of['features'])}), {of['threads']} threads, torch {of['torch']}, {of['date']}, "
        f"load before {of['load_before']}.",
        f"`{found['command']}`",
        "",
        f"One unit took {found['networks'][0]['unit']['decisive_seconds']:.3f} core-seconds. The machine: "
        f"{roof['gemm_gflops']:.0f} GFLOP/s multiplying matrices, {roof['conv_gflops']:.0f} in convolutions, "
        f"{roof['copy_gb_per_s']:.1f} GB/s copying." + in_halves,
        "",
        "| network | input | GMACs | quick: units | a second | of the convolution's speed | plain: units | times | "
        "int8: units | times plain | bfloat16: units | times plain |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for part in found["networks"]:
        quick, plain, *_ = part["runs"].values()
        others = [
            f"{run['units']:.2f} | {plain['units'] / run['units']:.2f}" if run else "- | -"
            for run in (part["runs"].get(precision) for precision in ("int8", "bfloat16"))
        ]
        lines.append(
            f"| {part['architecture']} | {part['input'][3]}x{part['input'][2]} | {part['macs'] / 1e9:.2f} | "
            f"{quick['units']:.2f} | {quick['pictures_per_second']:.2f} | {quick['share_of_conv']:.0%} | "
            f"{plain['units']:.2f} | {part['times_faster']:.2f} | "
            f"{' | '.join(others)} |"
        )
    return "\n".join([*lines, *(f"\nnot measured: {name}: {why}" for name, why in found["left_out"].items())]) + "\n"


def main() -> None:
    """Measures and writes networks.json and networks.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--only")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    names = arguments.only.split(",") if arguments.only else CHOSEN
    if arguments.all:
        names = [a.name for a in architectures() if not a.name.endswith("-tiny")]
    found: dict[str, Any] = {
        "command": " ".join(["python benchmarks/networks.py", *sys.argv[1:]]),
        "machine": machine(),
        "roofline": roofline(torch.device("cpu")),
        "networks": [],
        "left_out": {},
    }
    if computes_in_bfloat16():
        found["roofline_bfloat16"] = roofline(torch.device("cpu"), torch.bfloat16)
    file = arguments.out / "networks.json"
    if arguments.only and file.is_file():
        found["networks"] = rows_of_this_machine(json.loads(file.read_text()), found["machine"])
    for name in names:
        try:
            new = row(name, arguments.threads, arguments.runs)
            others = [part for part in found["networks"] if part["architecture"] != name]
            found["networks"] = [*others, new]
        except PoseError as error:
            found["left_out"][name] = str(error)
            continue
        print(table(found).splitlines()[-1], flush=True)
        write_both(arguments.out, "networks", found, table(found))


if __name__ == "__main__":
    main()
