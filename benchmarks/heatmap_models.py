"""How near the heat map networks come to what this machine's convolutions allow.

    python benchmarks/heatmap_models.py [--out FOLDER] [--threads N] [--runs 5] [--only hrnet-w32,hg] [--size 192x256]

For each network (weights drawn at random, one crop at the size that `posecli train` starts from), float32, in turn,
round by round:

- *eager*: our own network as loaded, PyTorch's usual order of values, nothing fused;
- *fused*: what `infer` runs;
- *convolutions*: each distinct convolution of the network by itself, at the shape it meets, channels last, weights in
  oneDNN's own order, its input made before: medians, times how often the network calls it, summed. This is the least
  that the network could take with this library on this machine: nothing but its convolutions, each with a warm cache.

``share`` is convolutions over fused; beside it stands how fast they are by themselves, of the 3x3 convolution of 64
channels that is this machine's measured roofline (docs/speed.md). ``unit`` is the share if every convolution ran as
quickly as that one. On processors that compute in bfloat16 (avx512_bf16, amx_bf16) the fused network is measured in
that as well. Ratios are of core-seconds, which other programs disturb little. Writes heatmap_models.json and .md after
each network; with `--only` the other rows stay, if they are of the same machine.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from result_files import write_both
from torch import Tensor, nn
from torch.nn import functional

from posecli.bench import (
    _decisive,
    computes_in_bfloat16,
    machine,
    network_of,
    roofline,
    rounds,
    rows_of_this_machine,
)
from posecli.bench import count_macs as macs_of
from posecli.inference import PoseModel, PredictOptions
from posecli.models import MODELS

CHOSEN = "simple-baseline-50 hrnet-w32 hourglass-2 hg unipose fastpose-50 cpn-50 cpm hrnet-w48 pose-fpn".split()
_SLOWEST = 3  # convolutions of a network that its result names
_LEAST = 0.02  # seconds that a convolution is measured for at least, called again and again


class Shape(NamedTuple):
    """A convolution and what it is given: equal ones take equally long."""

    image: tuple[int, ...]
    weight: tuple[int, ...]
    bias: bool
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    more: tuple[int, ...] | None  # of a transposed one: what is added to its size


def shapes_of(network: nn.Module, image: Tensor) -> Counter[Shape]:
    """The convolutions of one run, and how often each is called."""
    found: Counter[Shape] = Counter()

    def note(conv: nn.Module, given: tuple[Tensor, ...], _: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d | nn.ConvTranspose2d)
        geometry = [tuple(int(n) for n in value) for value in (conv.stride, conv.padding, conv.dilation)]
        more = tuple(conv.output_padding) if isinstance(conv, nn.ConvTranspose2d) else None
        image, weight = tuple(given[0].shape), tuple(conv.weight.shape)
        found[Shape(image, weight, conv.bias is not None, *geometry, conv.groups, more)] += 1

    # Exactly these: a deformable one is a convolution by name only.
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    hooks = [m.register_forward_hook(note) for m in network.modules() if type(m) in kinds]
    with torch.inference_mode():
        network(image)
    for hook in hooks:
        hook.remove()
    return found


def alone(shape: Shape) -> Callable[[], Any]:
    """One convolution of a shape, to be called: as quickly as the library does it."""
    image = torch.randn(shape.image).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(shape.weight)
    # Norms are folded into convolutions, so each has a bias in the fused network.
    if shape.more is not None:
        last = weight.contiguous(memory_format=torch.channels_last)
        bias = torch.randn(shape.weight[1] * shape.groups)
        rest = (shape.stride, shape.padding, shape.more, shape.groups, shape.dilation)
        return lambda: functional.conv_transpose2d(image, last, bias, *rest)
    bias = torch.randn(shape.weight[0])
    geometry = ([*shape.padding], [*shape.stride], [*shape.dilation], shape.groups)
    packed = torch.ops.mkldnn._reorder_convolution_weight(weight, *geometry, list(shape.image))
    return lambda: torch.ops.mkldnn._convolution_pointwise(image, packed, bias, *geometry, "none", [], None)


def again(once: Callable[[], Any], times: int) -> Callable[[], None]:
    """The same so many times."""

    def all_of_them() -> None:
        with torch.inference_mode():
            for _ in range(times):
                once()

    return all_of_them


def seconds_of(work: dict[str, Callable[[], Any]], runs: int) -> dict[str, tuple[float, float]]:
    """Median and least core-seconds (by threads) of each piece of work."""
    taken = rounds(work, runs)
    found = {}
    for name, rows in taken.items():
        decisive = _decisive(rows, torch.device("cpu"))
        found[name] = (float(np.median(decisive)), min(decisive))
    return found


def running(name: str, size: tuple[int, int] | None, image: Tensor, precision: str) -> Callable[[], Any]:
    """The network as `infer` runs it, to be called."""
    model = network_of(name, size, device="cpu", speed="fused", options=PredictOptions(precision=precision))
    values = image.contiguous(memory_format=torch.channels_last).to(model._numbers())
    network = model._running()

    def once() -> None:
        with torch.inference_mode(), model._autocast():
            network(values)

    return once


def row(name: str, runs: int, size: tuple[int, int] | None, unit_gflops: float) -> dict[str, Any]:
    """One network, measured."""
    model: PoseModel = network_of(name, size, device="cpu")
    width, height = model.meta.input_size
    image = torch.rand(1, 3, height, width)
    eager = MODELS[name](**model.meta.arguments).eval()
    shapes = shapes_of(eager, image)

    def plain() -> None:
        with torch.inference_mode():
            eager(image)

    work: dict[str, Callable[[], Any]] = {"eager": plain, "fused": running(name, size, image, "float32")}
    if computes_in_bfloat16():
        work["bfloat16"] = running(name, size, image, "bfloat16")
    times: dict[str, int] = {}
    for number, shape in enumerate(shapes):
        once = alone(shape)
        (_, least) = seconds_of({"one": again(once, 1)}, 2)["one"]
        times[str(number)] = max(1, int(_LEAST / max(least, 1e-6)))
        work[str(number)] = again(once, times[str(number)])
    took = seconds_of(work, runs)
    parts = [
        {"convolution": shape._asdict(), "calls": calls, "seconds": took[str(n)][0] / times[str(n)]}
        for n, (shape, calls) in enumerate(shapes.items())
    ]
    convolutions = sum(part["calls"] * part["seconds"] for part in parts)
    macs = macs_of(eager, image)
    fused = took["fused"][0]
    found = {
        "architecture": name,
        "input": [1, 3, height, width],
        "macs": macs,
        "eager_seconds": took["eager"][0],
        "fused_seconds": fused,
        "times_faster": took["eager"][0] / fused,
        "convolutions_seconds": convolutions,
        "share": convolutions / fused,
        "unit_share": 2 * macs / (unit_gflops * 1e9) / fused,
        "slowest_convolutions": sorted(parts, key=lambda part: -part["calls"] * part["seconds"])[:_SLOWEST],
    }
    if "bfloat16" in took:
        found |= {
            "bfloat16_seconds": took["bfloat16"][0],
            "bfloat16_times_faster": took["eager"][0] / took["bfloat16"][0],
        }
    return found


def table(found: dict[str, Any]) -> str:
    """The results for people."""
    of, roof = found["machine"], found["roofline"]
    halves = computes_in_bfloat16(of)
    lines = [
        "# Heat map networks and what their convolutions allow",
        "",
        f"{of['processor']} ({', '.join(of['features'])}), {of['threads']} threads, torch {of['torch']}, {of['date']}, "
        f"load before {of['load_before']}.",
        f"`{found['command']}`",
        "",
        f"The machine: {roof['gemm_gflops']:.0f} GFLOP/s multiplying matrices, {roof['conv_gflops']:.0f} in the unit's "
        "convolution. Seconds are core-seconds over threads." + ("" if halves else " It doesn't compute in bfloat16."),
        "",
        "| network | input | GMACs | eager, s | fused, s | times | its convolutions alone, s | share | "
        "speed in them, of the roofline | unit | bfloat16, s | times |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for part in found["networks"]:
        line = (
            f"| {part['architecture']} | {part['input'][3]}x{part['input'][2]} | {part['macs'] / 1e9:.2f} | "
            f"{part['eager_seconds']:.3f} | {part['fused_seconds']:.3f} | {part['times_faster']:.2f} | "
            f"{part['convolutions_seconds']:.3f} | {part['share']:.0%} | "
            f"{part['unit_share'] / part['share']:.0%} | {part['unit_share']:.0%} |"
        )
        here = "bfloat16_seconds" in part
        line += f" {part['bfloat16_seconds']:.4f} | {part['bfloat16_times_faster']:.2f} |" if here else " - | - |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and writes heatmap_models.json and heatmap_models.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only")
    parser.add_argument("--size")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    names = arguments.only.split(",") if arguments.only else CHOSEN
    size = None
    if arguments.size:
        width, height = (int(n) for n in arguments.size.lower().split("x"))
        size = (width, height)
    found: dict[str, Any] = {
        "command": " ".join(["python benchmarks/heatmap_models.py", *sys.argv[1:]]),
        "machine": machine(),
        "roofline": roofline(torch.device("cpu")),
        "networks": [],
    }
    file = arguments.out / "heatmap_models.json"
    if arguments.only and file.is_file():
        found["networks"] = rows_of_this_machine(json.loads(file.read_text()), found["machine"])
    for name in names:
        new = row(name, arguments.runs, size, found["roofline"]["conv_gflops"])
        found["networks"] = [*(part for part in found["networks"] if part["architecture"] != name), new]
        print(table(found).splitlines()[-1], flush=True)
        write_both(arguments.out, "heatmap_models", found, table(found))


if __name__ == "__main__":
    main()
