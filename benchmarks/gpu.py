"""What a CUDA device gains: DEKR-W32 from a 720p video, its adaptive kernel alone, training; quick against plain.

    python benchmarks/gpu.py [--out FOLDER] [--only kernel,network,video,training] [--frames 600] [--batch 16]

Everything it needs is made here: a video, pictures with labels, networks of random weights (as fast as trained ones),
with five people planted in the maps, so that reading them, tracking and writing have their work. "Plain" is ``--speed
plain``: our own network as loaded, float32, one picture at a time, cropped on the CPU; in training no kernel, no half
precision, an optimizer that is not fused. The results are written as they come, as gpu.json and gpu.md. With
``--only`` the other parts that stand there are kept. Without a device ``--smoke`` runs small versions of all parts on
the CPU: nothing to be quoted.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from result_files import write_both
from torch import Tensor, nn

from posecli.bench import machine, roofline
from posecli.checkpoint import ModelMeta
from posecli.infer_files import run_jobs
from posecli.infer_jobs import plan_jobs
from posecli.inference import PoseModel, PredictOptions
from posecli.models import MODELS
from posecli.models.deform import adaptive_conv
from posecli.models.dekr import AdaptiveBlocks, DekrOutput
from posecli.models.fast_cuda import can_run_kernels
from posecli.models.fuse import fold_norms
from posecli.pipeline import InferOptions, decoder_for
from posecli.profiling import profiled
from posecli.settings import resolve
from posecli.skeletons import COCO17
from posecli.training import train
from posecli.video import VideoSource, VideoWriter, list_inputs

SIZE = (1280, 720)
#: Network input of a 720p frame, and DEKR-W32's joints and channels of a joint.
INPUT, JOINTS, CHANNELS = (960, 512), 17, 15
HALVES = ("float16", "bfloat16")
GOAL_FRAMES, GOAL_TIMES, GOAL_TRAINING = 400, 10, 3


class Planted(nn.Module):
    """A DEKR whose maps show five people, besides a trace of its own: the network's work is done and counts."""

    def __init__(self, network: nn.Module, size_wh: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        width, height = (n // 4 for n in size_wh)
        heat, offset = torch.zeros(JOINTS + 1, height, width), torch.zeros(2 * JOINTS, height, width)
        rng = np.random.default_rng(1)
        down, across = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        for person in range(5):
            centre = np.array([(person + 0.5) * width / 5, height / 2])
            for joint in range(JOINTS + 1):
                xy = centre if joint == JOINTS else centre + rng.uniform(-0.08, 0.08, 2) * width
                blob = torch.exp(-((across - xy[0]) ** 2 + (down - xy[1]) ** 2) / 8)
                heat[joint] = torch.maximum(heat[joint], blob.float())
                if joint < JOINTS:
                    near = (across - centre[0]).abs() < width / 10
                    offset[2 * joint][near] = (across - xy[0])[near].float()
                    offset[2 * joint + 1][near] = (down - xy[1])[near].float()
        self.register_buffer("heat", heat[None])
        self.register_buffer("offset", offset[None])

    def forward(self, image: Tensor) -> DekrOutput:
        """(B, 3, H, W) to the planted maps."""
        found = self.network(image)
        return DekrOutput(found.heatmap * 1e-6 + self.heat, found.offset * 1e-6 + self.offset)


def planted(speed: str, precision: str, batch: int, arguments: argparse.Namespace) -> PoseModel:
    """DEKR-W32 with people in its maps."""
    torch.manual_seed(0)
    name, size = ("dekr-tiny", (256, 128)) if arguments.smoke else ("dekr-w32", INPUT)
    network = Planted(MODELS[name](keypoints=JOINTS), size).eval()
    meta = ModelMeta(name, {"keypoints": JOINTS}, COCO17, (size[1], size[1]), codec="dekr")
    options = PredictOptions(precision=precision, batch=batch)
    return PoseModel(network, meta, device=arguments.device, speed=speed, options=options)


def seconds(once: Callable[[], Any], device: torch.device, runs: int) -> float:
    """The median time of a call, by the device's own clock where there is one."""
    for _ in range(3):
        once()
    took = []
    for _ in range(runs):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            once()
            end.record()
            torch.cuda.synchronize()
            took.append(begin.elapsed_time(end) / 1000)
        else:
            began = time.perf_counter()
            once()
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def kernel(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """An adaptive block of DEKR-W32 at 512 x 960: plain, by the kernel, and both ways of learning."""
    for precision in ("float32",) if arguments.smoke else ("float32", *HALVES):
        yield from kernel_in(precision, arguments)


def kernel_in(precision: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """The same in one precision."""
    device, dtype = torch.device(arguments.device), getattr(torch, precision)
    batch, height, width = (2, 16, 24) if arguments.smoke else (8, INPUT[1] // 4, INPUT[0] // 4)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    block = AdaptiveBlocks(JOINTS, CHANNELS).eval().to(device)
    nn.init.normal_(block.geometry_conv.weight, std=0.02)
    x = torch.randn(batch, JOINTS * CHANNELS, height, width, device=device).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    # Read once, written once: the map, the geometry, the result.
    floor = x.element_size() * batch * height * width * JOINTS * (2 * CHANNELS + 6)
    geometry, weight = block.geometry_conv.to(dtype)(x).detach(), block.adapt_conv.weight.detach().to(dtype)
    leaves = [t.detach().clone().requires_grad_() for t in (x, geometry, weight)]

    def row(name: str, once: Callable[[], Any]) -> None:
        took = seconds(once, device, arguments.runs)
        about = {"what": name, "precision": precision, "ms": round(1000 * took, 4)}
        rows.append({**about, "gb_per_s": round(floor / took / 1e9, 1), "batch": batch, "map": f"{height}x{width}"})

    with torch.no_grad():
        row("convolution, plain", lambda: adaptive_conv(x, geometry, weight))
        row("geometry's own convolution", lambda: block.geometry_conv(x))
    row("forward and backward, plain", lambda: learn(adaptive_conv, leaves))
    if not can_run_kernels(device):
        return rows
    from posecli.models import adaptive_triton

    quick = adaptive_triton.TritonAdaptiveBlocks(fold_norms(block), dtype).to(device)
    usual = adaptive_triton.BLOCK, adaptive_triton.WARPS
    with torch.inference_mode():
        row("whole block, kernel", lambda: quick(x))
        for size in (32, 64, 128):
            for warps in (4, 8):
                adaptive_triton.BLOCK, adaptive_triton.WARPS = size, warps
                name = f"convolution, kernel of {size} pixels, {warps} warps"
                row(name, lambda: adaptive_triton._convolve(x, geometry, weight))
    for size, warps in ((32, 4), (64, 4), (64, 8), (128, 8)):
        adaptive_triton.BLOCK, adaptive_triton.WARPS = size, warps
        name = f"forward and backward, kernel of {size} pixels, {warps} warps"
        row(name, lambda: learn(adaptive_triton.adaptive_conv, leaves))
    adaptive_triton.BLOCK, adaptive_triton.WARPS = usual
    return rows


def learn(convolve: Callable[..., Tensor], leaves: list[Tensor]) -> None:
    """One pass forward and back."""
    out = convolve(*leaves)
    torch.autograd.grad(out, leaves, out.detach())


def network(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The network alone, its input on the device: frames a second by speed, precision, batch, recorded or not."""
    ways = [("plain", "float32", 1), ("plain", "float16", 8), ("fused", "float32", 8), ("auto", "float32", 8)]
    ways += [("auto", precision, batch) for precision in HALVES for batch in (1, 8, 16, 32)]
    for speed, precision, batch in [("plain", "float32", 1), ("auto", "float32", 2)] if arguments.smoke else ways:
        model = planted(speed, precision, batch, arguments)
        width, height = (256, 128) if arguments.smoke else INPUT
        values = torch.randn(batch, 3, height, width, device=model.device).to(model._numbers())
        values = values.contiguous(memory_format=torch.channels_last)
        took = seconds(lambda model=model, values=values: model.maps(values), model.device, arguments.runs)  # type: ignore[misc]
        yield {
            "speed": speed, "runs_as": model.runs_as, "precision": precision, "batch": batch,
            "recorded": model._replays is not None, "ms": round(1000 * took, 3),
            "frames_per_second": round(batch / took, 1),
        }  # fmt: skip
        del model
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def make_video(path: Path, frames: int, size: tuple[int, int] = SIZE) -> None:
    """Shapes that move before a ground with detail."""
    width, height = size
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), (width + 200, height))
    with VideoWriter(path, width, height, 30) as writer:
        for t in range(frames):
            image = np.ascontiguousarray(ground[:, t % 200 : t % 200 + width])
            for k in range(5):
                at = int((k + 0.5) * width / 5 + 30 * np.sin(t / 15 + k)), height // 2
                cv2.ellipse(image, at, (width // 24, height // 4), 0, 0, 360, (200, 40 * k, 90), -1)
            writer.write(image, t / 30)


def video(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """From the file to the pose stream: decode, crop, network, people, tracks, JSON."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        make_video(path, arguments.frames)
        began = time.perf_counter()
        count = sum(1 for _ in VideoSource(path).frames())
        yield {"what": "decoding alone, CPU", "frames_per_second": round(count / (time.perf_counter() - began), 1)}
        hardware = False
        if torch.cuda.is_available():
            with VideoSource(path, decode="auto") as source:
                hardware = source.hardware
                began = time.perf_counter()
                count = sum(1 for _ in source.frames())
            if hardware:
                rate = round(count / (time.perf_counter() - began), 1)
                yield {"what": "decoding alone, GPU", "frames_per_second": rate}
        ways = [("plain", "float32", 1, "cpu")]
        kinds = ("float32",) if arguments.smoke else HALVES
        ways += [("auto", p, b, "cpu") for p in kinds for b in (arguments.batch // 2, arguments.batch)]
        ways += [("auto", "float16", arguments.batch, "gpu")] if hardware else []
        for speed, precision, batch, decode in ways:
            frames = arguments.frames // 4 if speed == "plain" else arguments.frames
            model = planted(speed, precision, batch, arguments)
            out = Path(folder) / "poses.jsonl"
            run_video(model, path, out, batch, decode, 4 * batch)  # kernels are chosen and recorded
            with profiled() as profile:
                people = run_video(model, path, out, batch, decode, frames)
            table = profile.table(frames)
            about = {"what": "video", "speed": speed, "precision": precision, "batch": batch, "decode": decode}
            found = {"frames": frames, "people": people, "frames_per_second": table["frames_per_second"]}
            yield {**about, **found, "stages": table["stages"], "waits": table["waits"]}
            del model
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def run_video(model: PoseModel, path: Path, out: Path, batch: int, decode: str, frames: int) -> float:
    """Infers so many frames into a file; people a frame."""
    from dataclasses import replace

    sources = [replace(one, decode=decoder_for(decode, model)) for one in list_inputs([str(path)])]
    jobs = plan_jobs(sources, str(out), render=False, render_out=None)
    (summary,) = run_jobs(jobs, model, InferOptions(batch=batch, end=frames), overwrite=True)
    return summary.people / summary.frames


def make_pictures(folder: Path, count: int) -> Path:
    """Pictures 640 x 480 of two made-up people each, with labels; returns the COCO file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        picture = cv2.resize(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8), (640, 480))
        cv2.imwrite(str(folder / f"images/{i}.jpg"), picture)
        images.append({"id": i + 1, "file_name": f"images/{i}.jpg", "width": 640, "height": 480})
        for k in range(2):
            xy = np.array([170 + 300 * k, 240]) + rng.uniform(-90, 90, (JOINTS, 2))
            low, high = xy.min(0), xy.max(0)
            labels = np.column_stack([xy, np.full(JOINTS, 2)]).ravel().tolist()
            box = [*low, *(high - low)]
            about = {"id": 2 * i + k + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "num_keypoints": JOINTS}
            annotations.append({**about, "bbox": box, "area": float(np.prod(high - low)) * 0.5, "keypoints": labels})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": [[1, 2]]}
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def training(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """`posecli train` of DEKR-W32: samples a second once it runs, loading included."""
    smoke = arguments.smoke
    batch, steps, warm = (2, 6, 2) if smoke else (16, 60, 20)
    ways = [("plain", "float32"), ("auto", "float32"), ("auto", "bfloat16"), ("auto", "float16")]
    ways = ways[:2] if smoke else [*ways, ("compiled", "bfloat16")]
    with tempfile.TemporaryDirectory() as folder:
        data = make_pictures(Path(folder) / "data", 64)
        for speed, precision in ways:
            size = [64, 64] if smoke else [512, 512]
            settings = resolve(
                {
                    "model": "dekr-tiny" if smoke else "dekr-w32", "data": [str(data)], "epochs": 1, "batch": batch,
                    "epoch_samples": batch * steps, "workers": 0 if smoke else arguments.workers, "speed": speed,
                    "precision": precision, "input_size": size, "skeleton": "coco17",
                }
            )  # fmt: skip
            moments: list[float] = []

            def report(record: dict[str, Any], moments: list[float] = moments) -> None:
                if record["event"] == "step":
                    moments.append(time.perf_counter())

            row = {"speed": speed, "precision": precision, "batch": batch, "input": size}
            try:
                train(settings, Path(folder) / f"{speed}-{precision}", device=arguments.device, report=report)
            except Exception as error:  # another way may still run
                traceback.print_exc()
                yield {**row, "failed": str(error).splitlines()[0] if str(error) else repr(error)}
                continue
            took = (moments[-2] - moments[warm]) / (len(moments) - 2 - warm)
            yield {**row, "ms_a_step": round(1000 * took, 2), "samples_per_second": round(batch / took, 1)}
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def verdicts(found: dict[str, Any]) -> Iterator[str]:
    """What the goals say of the figures."""
    runs = [row for row in found.get("video", []) if row["what"] == "video"]
    plain = [row for row in runs if row["speed"] == "plain"]
    quick = [row for row in runs if row["speed"] != "plain"]
    if plain and quick:
        best = max(quick, key=lambda row: row["frames_per_second"])
        times = best["frames_per_second"] / plain[0]["frames_per_second"]
        yield (
            f"video: {best['frames_per_second']:.0f} frames/s ({best['precision']}, batch {best['batch']}, decoded by "
            f"{best['decode']}), goal {GOAL_FRAMES}; {times:.1f} times unbatched eager, goal {GOAL_TIMES}"
        )
    steps = [row for row in found.get("training", []) if "ms_a_step" in row]
    plain = [row for row in steps if row["speed"] == "plain"]
    quick = [row for row in steps if row["speed"] != "plain"]
    if plain and quick:
        best = min(quick, key=lambda row: row["ms_a_step"])
        times = plain[0]["ms_a_step"] / best["ms_a_step"]
        yield f"training: {times:.1f} times the plain loop ({best['speed']}, {best['precision']}), goal {GOAL_TRAINING}"


def table(rows: list[dict[str, Any]]) -> list[str]:
    """Rows for people, without what is a table of its own."""
    names = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in ("stages", "waits")]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in rows:
        cells = (row.get(name, "") for name in names)
        lines.append("| " + " | ".join(f"{c:.4g}" if isinstance(c, float) else str(c) for c in cells) + " |")
    return lines


def page(found: dict[str, Any]) -> str:
    """The results for people."""
    of = found["machine"]
    lines = [
        "# On a CUDA device",
        "",
        f"{of['cuda'] or 'no device: ' + str(of['processor'])}, {of['cores']} cores, torch {of['torch']}, "
        f"Triton {found['triton']}, {of['date']}",
        *(f"`{line}`" for line in found["command"].splitlines()),
        "",
        *(f"- {line}" for line in verdicts(found)),
        *(f"- {name}: failed: {why}" for name, why in found["failed"].items()),
    ]
    for part in PARTS:
        if found.get(part):
            lines += ["", f"## {part}", "", *table(found[part])]
    for row in found.get("video", []):
        if "stages" in row:
            lines += ["", f"Stages of {row['speed']}, {row['precision']}, batch {row['batch']}, {row['decode']}:", ""]
            lines += table(row["stages"])
            lines += ["", *(f"- waited {seconds:.2f} s: {name}" for name, seconds in row["waits"].items())]
    return "\n".join(lines) + "\n"


PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, Any]]]] = {
    "kernel": kernel,
    "network": network,
    "video": video,
    "training": training,
}


def main() -> None:
    """Measures part by part and writes gpu.json and gpu.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--frames", type=int, default=600)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--workers", type=int, default=12)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.device, arguments.frames, arguments.batch, arguments.runs = "cpu", 12, 2, 1
    elif not torch.cuda.is_available():
        sys.exit("no CUDA device here; --smoke tries the script on a CPU")
    elif (index := torch.device(arguments.device).index) is not None:
        torch.cuda.set_device(index)  # clocks and names are the current one's
    arguments.out.mkdir(parents=True, exist_ok=True)
    version = "none"
    with contextlib.suppress(ImportError):
        import triton

        version = triton.__version__
    found: dict[str, Any] = {
        "command": "python benchmarks/gpu.py " + " ".join(sys.argv[1:]),
        "machine": {**machine(), "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")},
        "triton": version,
        "failed": {},
    }
    before = arguments.out / "gpu.json"
    if arguments.only != ",".join(PARTS) and before.is_file():  # the other parts stay, if they are this device's
        kept = json.loads(before.read_text())
        if kept["machine"]["cuda"] == found["machine"]["cuda"]:
            found |= {name: kept[name] for name in PARTS if name in kept}
            found["command"] = "\n".join([kept["command"], found["command"]])
    if not arguments.smoke:
        found["roofline"] = roofline(torch.device(arguments.device), torch.float16)
    for name in arguments.only.split(","):
        began = time.perf_counter()
        found[name] = []
        try:
            for row in PARTS[name](arguments):
                found[name].append(row)
                write_both(arguments.out, "gpu", found, page(found))
        except Exception as error:  # the other parts are still to be measured
            traceback.print_exc()
            found["failed"][name] = str(error).splitlines()[0] if str(error) else repr(error)
            write_both(arguments.out, "gpu", found, page(found))
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    print(page(found))
    if found["failed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
