"""Every full-size network as an ONNX file: whether it can be written, how well ONNX Runtime agrees, how fast it is.

    python benchmarks/onnx_files.py [--out FOLDER] [--threads 1] [--only hrnet-w32,dekr-w32]

Weights are drawn at random, of every parameter (offsets of adaptive convolutions start at zero). The input has the
size that `posecli train` starts from. `export_onnx` compares a batch of one and of three pictures with our own maps and
refuses a file that differs by more than 1e-4 of their largest value; then one picture is timed, ONNX Runtime's way
against ours (`--speed auto`), the median of several in turn. Networks that are in the result file are not done again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_files import write_both

from posecli.bench import machine, network_of
from posecli.catalogue import architectures
from posecli.checkpoint import ModelMeta
from posecli.errors import PoseError
from posecli.inference import PoseModel
from posecli.models import MODELS
from posecli.onnx_export import export_onnx
from posecli.skeletons import COCO17

_RUNS = 3
# Sub-images of white noise multiply the rounding of where they lie.
_NOISE = {"deeppose": 0.0003}


def row(name: str, threads: int) -> dict[str, Any]:
    """One network: written, compared, timed."""
    import onnxruntime

    size = network_of(name, device="cpu").meta.input_size
    torch.manual_seed(0)
    network = MODELS[name](keypoints=COCO17.num_keypoints).eval()
    noise = _NOISE.get(name.split("-")[0], 0.002)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn_like(parameter) * noise)
    meta = ModelMeta(name, {"keypoints": COCO17.num_keypoints}, COCO17, size)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{name}.onnx"
        began = time.perf_counter()
        written = export_onnx(network, meta, file)
        seconds = time.perf_counter() - began
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, threads
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        ours = PoseModel(network, meta, device="cpu")
        pixels = np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3), np.uint8)
        values = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
        both = {"ours": lambda: ours.maps(pixels), "theirs": lambda: session.run(None, {"image": values})}
        times = in_turn(both)
        megabytes = file.stat().st_size / 1e6
    return {
        "architecture": name, "input": list(written.input_shape), "outputs": list(written.outputs),
        "difference": written.difference, "megabytes": round(megabytes, 1), "write_seconds": round(seconds, 1),
        "times_ours": round(times["theirs"] / times["ours"], 2),
    }  # fmt: skip


def in_turn(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """The median seconds of each, called in turn, so that a busy machine disturbs both alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(_RUNS + 1):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            if run:
                found[name].append(time.thread_time() - began)
    return {name: statistics.median(values) for name, values in found.items()}


def table(found: dict[str, Any]) -> str:
    """The results for people."""
    of = found["machine"]
    lines = [
        "# Networks as ONNX files",
        "",
        f"{of['processor']}, {of['threads']} threads, torch {of['torch']}, onnxruntime {found['onnxruntime']}, "
        f"{of['date']}.",
        f"`{found['command']}`",
        "",
        "Difference: the largest from our own maps, as a share of their largest value, of batches of one and three.",
        "Time: ONNX Runtime's for one picture over ours, core-seconds.",
        "",
        "| network | input | outputs | MB | seconds to write | difference | time |",
        "|---|---|---|---|---|---|---|",
    ]
    for part in found["networks"]:
        lines.append(
            f"| {part['architecture']} | {part['input'][3]}x{part['input'][2]} | {len(part['outputs'])} | "
            f"{part['megabytes']:.0f} | {part['write_seconds']:.0f} | {part['difference']:.1e} | "
            f"{part['times_ours']:.2f} |"
        )
    return "\n".join([*lines, *(f"\nnot written: {name}: {why}" for name, why in found["left_out"].items())]) + "\n"


def main() -> None:
    """Writes onnx_files.json and onnx_files.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    import onnxruntime

    every = [a.name for a in architectures() if not a.name.endswith("-tiny")]
    names = arguments.only.split(",") if arguments.only else every
    found: dict[str, Any] = {
        "command": "python benchmarks/onnx_files.py", "machine": machine(), "onnxruntime": onnxruntime.__version__,
        "networks": [], "left_out": {},
    }  # fmt: skip
    file = arguments.out / "onnx_files.json"
    if file.is_file():
        found |= {key: json.loads(file.read_text())[key] for key in ("networks", "left_out")}
    for name in names:
        if any(part["architecture"] == name for part in found["networks"]):
            continue
        found["left_out"].pop(name, None)
        try:
            found["networks"].append(row(name, arguments.threads))
            print(found["networks"][-1], flush=True)
        except PoseError as error:
            found["left_out"][name] = str(error)
            print(f"{name}: {error}", file=sys.stderr, flush=True)
        write_both(arguments.out, "onnx_files", found, table(found))


if __name__ == "__main__":
    main()
