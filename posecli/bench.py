"""How fast a model is on this machine, and how near to what the machine can do.

Everything is measured in turn, round by round, beside a fixed piece of work, so that what else the machine does falls
on all alike; on a CPU ratios are of core-seconds, which other programs disturb little. The fixed piece, one *unit*, is
ten convolutions 3x3 of 64 channels to 64, padding 1, on 4 x 64 x 128 x 128 float32 values in channels-last order (48.3
GFLOP).

The bound is what the machine reaches itself: multiplying large matrices, that convolution, copying memory (the roofline
of Williams, Waterman, Patterson, "Roofline", CACM 2009).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli.catalogue import architectures
from posecli.checkpoint import ModelMeta, check_input_size
from posecli.errors import UsageError
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.models import MODELS
from posecli.on_device.graphs import PATIENCE
from posecli.pipeline import poses_of
from posecli.profiling import profiled
from posecli.running import SPEEDS
from posecli.skeletons import COCO17
from posecli.video import open_source

#: Multiply-adds of one unit.
UNIT_MACS = 10 * 4 * 128 * 128 * 64 * 64 * 9
_RAPL = Path("/sys/class/powercap")
_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
_BOTTOM_UP_STEP = 32
_FRAME = (720, 1280)


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Attributes:
        speed, against: ways to run the networks (`running.SPEEDS`); ``against`` may be None. Against ``"plain"`` the
            network runs as it was loaded, one picture at a time, in PyTorch's usual order of values (NCHW).
        size: (width, height) of the input; None: the model's own (bottom-up models: a 16:9 picture of that height).
        batch: pictures or crops together.
        runs: rounds that count, after one that doesn't (on a CUDA device three).
        threads: of the network's library; None: as many as it takes by itself.
        frames: of the clip, for the stages.
    """

    speed: str = "auto"
    against: str | None = None
    size: tuple[int, int] | None = None
    batch: int = 1
    runs: int = 5
    threads: int | None = None
    frames: int = 30

    def __post_init__(self) -> None:
        for speed in filter(None, (self.speed, self.against)):
            if speed not in SPEEDS:
                raise UsageError(f"unknown speed {speed!r}", hint=f"one of {', '.join(SPEEDS)}")
        if min(self.batch, self.runs, self.threads or 1, self.frames) < 1:
            raise UsageError("batch, runs, threads and frames must be at least 1")


def machine() -> dict[str, Any]:
    """The machine, what its processor can do, and how busy it is, as plain values."""
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": told.get("model name") or platform.processor() or platform.machine(),
        "features": [f for f in _FEATURES if f in told.get("flags", "").split()],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "date": datetime.date.today().isoformat(),
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def computes_in_bfloat16(of: Mapping[str, Any] | None = None) -> bool:
    """Whether a machine's processor (of `machine`; None: this one's) multiplies bfloat16 itself."""
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint((machine() if of is None else of)["features"])


def rows_of_this_machine(found: Mapping[str, Any], here: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``networks`` of an earlier result, to which others measured on the machine ``here`` may be added.

    Raises:
        UsageError: it was measured on another kind of processor.
    """
    if any(found["machine"][name] != here[name] for name in ("processor", "features")):
        raise UsageError("the other rows were measured on another processor", hint="give another folder with --out")
    rows: list[dict[str, Any]] = found["networks"]
    return rows


def network_of(name: str, input_size: tuple[int, int] | None = None, **options: Any) -> PoseModel:
    """A model with a network of `MODELS` whose weights are drawn at random: it is as fast as a trained one.

    Args:
        name: of the network; UsageError where there is none.
        input_size: (width, height); None: what ``train`` starts from.
        options: of `PoseModel`.
    """
    if name not in MODELS:
        raise UsageError(f"no network {name!r}", hint="posecli models lists them")
    about = next(a for a in architectures(name) if a.name == name)
    size = input_size or about.input_size or (512, 512)
    codec = "people" if name.endswith("-finder") else about.codec or "gaussian"
    network = MODELS[name](keypoints=COCO17.num_keypoints)
    meta = ModelMeta(name, {"keypoints": 17}, COCO17, size, codec=codec)
    check_input_size(network, meta, name)
    return PoseModel(network, meta, **options)


def bench(
    model: str | Path | PoseModel,
    options: BenchOptions,
    clip: str | None = None,
    *,
    device: str = "auto",
    precision: str = "auto",
) -> dict[str, Any]:
    """Measures a model.

    Args:
        model: name of a network (random weights) or of weights, a weights file, or a loaded model.
        options: see `BenchOptions`.
        clip: a video for the stages from decoding on; by default they are measured on a made-up picture.
        device, precision: of a model that is not loaded yet.

    Returns:
        Plain values: ``machine``, ``roofline``, ``unit``, ``networks`` (one for each network of the model), ``stages``.
    """
    before = torch.get_num_threads()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    try:
        if not isinstance(model, PoseModel):
            known = str(model) in MODELS
            make: Callable[..., PoseModel] = network_of if known else load_model
            chosen = PredictOptions(precision=precision)
            model = make(model, device=device, speed=options.speed, options=chosen)
            if known and precision == "int8":
                ranges_of_noise(model, options)
        parts = {model.role.strip(): model}
        if model.finder is not None:
            parts["finder"] = model.finder
        on_cuda = model.device.type == "cuda"
        name = torch.cuda.get_device_name(model.device) if on_cuda else None
        result: dict[str, Any] = {"model": model.name, "machine": {**machine(), "cuda": name}}
        result["precision"] = "int8" if model.in_whole_numbers else model.options.precision.replace("auto", "float32")
        result["roofline"] = roofline(model.device, model._numbers())
        measured = [measure_network(role, part, options) for role, part in parts.items()]
        result["unit"] = measured[0]["unit"]
        result["networks"] = measured
        result["stages"] = _stages(model, clip, options)
        return result
    finally:
        torch.set_num_threads(before)


def ranges_of_noise(model: PoseModel, options: BenchOptions) -> None:
    """Lets a network of random weights compute in int8: any ranges of its maps are as fast as any others.

    Raises:
        PoseError: a network that can't.
    """
    width, height = _size(model, options)
    with model.calibrated():
        model.maps(np.random.default_rng(0).integers(0, 255, (1, height, width, 3), dtype=np.uint8))


def roofline(device: torch.device, dtype: torch.dtype = torch.float32, runs: int = 3) -> dict[str, float]:
    """What the machine reaches: GFLOP/s of matrix products and of the unit's convolution, GB/s of copying.

    On a CPU per core-second, times threads.
    """
    side = 4096 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    big = torch.empty((1 << 28) if device.type == "cuda" else (1 << 25), dtype=torch.float32, device=device)
    big.zero_()
    out = torch.empty_like(big)
    work = {"gemm": lambda: torch.mm(a, b), "conv": unit(device, dtype), "copy": lambda: out.copy_(big)}
    took = rounds(work, runs, device)
    best = {name: min(t for t in _decisive(took[name], device)) for name in work}
    return {
        "gemm_gflops": round(2 * side**3 / best["gemm"] / 1e9, 1),
        "conv_gflops": round(2 * UNIT_MACS / best["conv"] / 1e9, 1),
        # Read and written.
        "copy_gb_per_s": round(2 * big.numel() * 4 / best["copy"] / 1e9, 2),
    }


def unit(device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Callable[[], Any]:
    """The fixed piece of work, to be called."""
    conv = nn.Conv2d(64, 64, 3, padding=1).to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(4, 64, 128, 128, device=device).to(dtype).contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.inference_mode():
            for _ in range(10):
                conv(image)

    return once


def rounds(
    work: Mapping[str, Callable[[], Any]], runs: int, device: torch.device | str = "cpu"
) -> dict[str, list[tuple[float, float, float | None]]]:
    """Seconds, core-seconds and joules of each piece of work, in every round; those before, until all is made
    (`_first_calls`), are not counted."""
    device = torch.device(device)
    before = _first_calls(device)
    took: dict[str, list[tuple[float, float, float | None]]] = {name: [] for name in work}
    for number in range(before + runs):
        for name, once in work.items():
            energy = energy_joules()
            own, began = time.process_time(), time.perf_counter()
            once()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds, core = time.perf_counter() - began, time.process_time() - own
            after = energy_joules()
            joules = None if energy is None or after is None or after < energy else after - energy
            if number >= before:
                took[name].append((seconds, core, joules))
    return took


def _first_calls(device: torch.device) -> int:
    """Calls at which something is made that later ones find: on a CUDA device launches are recorded at the last."""
    return PATIENCE if device.type == "cuda" else 1


def energy_joules() -> float | None:
    """What the processors have used since some time, where the machine shows it (RAPL) to this user."""
    total, found = 0, False
    with contextlib.suppress(OSError, ValueError):
        for zone in _RAPL.glob("intel-rapl:?"):
            total += int((zone / "energy_uj").read_text())
            found = True
        return total / 1e6 if found else None
    return None


def count_macs(network: nn.Module, image: Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one run (sampling and additions are not counted)."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(image)
    return int(counter.get_total_flops()) // 2


def _decisive(took: list[tuple[float, float, float | None]], device: torch.device) -> list[float]:
    """The seconds that ratios are made of: on a CPU core-seconds by threads, elsewhere those on the clock."""
    if device.type != "cpu":
        return [seconds for seconds, _, _ in took]
    return [core / torch.get_num_threads() for _, core, _ in took]


def _summary(took: list[tuple[float, float, float | None]], device: torch.device, pictures: int) -> dict[str, Any]:
    """Medians and spread of some rounds."""
    seconds = sorted(t[0] for t in took)
    decisive = statistics.median(_decisive(took, device))
    joules = [j for _, _, j in took if j is not None]
    low, high = (seconds[round((len(seconds) - 1) * q)] for q in (0.25, 0.75))
    return {
        "seconds": round(statistics.median(seconds), 5),
        "quartiles": [round(low, 5), round(high, 5)],
        "least": round(seconds[0], 5),
        "core_seconds": round(statistics.median(t[1] for t in took), 5),
        "decisive_seconds": round(decisive, 6),
        "pictures_per_second": round(pictures / decisive, 2),
        "joules": round(statistics.median(joules), 2) if joules else None,
    }


def measure_network(role: str, model: PoseModel, options: BenchOptions) -> dict[str, Any]:
    """The network of a model, as it runs and as it is compared with, and the unit, in turn."""
    if model._carrier is not None:
        raise UsageError(f"{model.meta.architecture} needs a video: bench measures networks of single pictures")
    device = model.device
    width, height = _size(model, options)
    crops = np.random.default_rng(0).integers(0, 255, (options.batch, height, width, 3), dtype=np.uint8)
    batch = torch.from_numpy(crops).to(device).permute(0, 3, 1, 2).float() / 255
    work: dict[str, Callable[[], Any]] = {"unit": unit(device)}
    kinds = {model.runs_as: options.batch}
    work[model.runs_as] = _call(model, batch)
    if options.against is not None:
        other = PoseModel(model.network, model.meta, device=device, options=model.options, speed=options.against)
        name = other.runs_as
        if name == model.runs_as:
            raise UsageError(f"both ways to run are {name} here", hint="--speed and --against name two")
        if name == "plain":
            network = MODELS[model.meta.architecture](**model.meta.arguments).eval().to(device)
            network.load_state_dict(model.network.state_dict())
            single = batch[:1].contiguous()
            work[name] = lambda: _without_gradients(network, single)
        else:
            work[name] = _call(other, batch)
        kinds[name] = 1 if name == "plain" else options.batch
    took = rounds(work, options.runs, device)
    found = {name: _summary(took[name], device, pictures) for name, pictures in kinds.items()}
    one = _summary(took["unit"], device, 1)
    macs = count_macs(model.network, batch[:1])
    for row in found.values():
        row["units"] = round(1 / row["pictures_per_second"] / one["decisive_seconds"], 3)
        row["gflops"] = round(2 * macs * row["pictures_per_second"] / 1e9, 1)
        row["share_of_conv"] = round(macs / UNIT_MACS / row["units"], 3)
    result = {
        "role": role,
        "architecture": model.meta.architecture,
        "input": [options.batch, 3, height, width],
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "macs": macs,
        "runs_as": model.runs_as,
        "unit": one,
        "runs": found,
    }
    if len(found) == 2:
        mine, theirs = found.values()
        result["times_faster"] = round(mine["pictures_per_second"] / theirs["pictures_per_second"], 2)
    return result


def _call(model: PoseModel, batch: Tensor) -> Callable[[], Any]:
    values = batch.contiguous(memory_format=torch.channels_last).to(model._numbers())

    def once() -> None:
        with torch.inference_mode(), model._autocast():
            model._called(model._running(), values)

    return once


def _without_gradients(network: nn.Module, image: Tensor) -> None:
    with torch.inference_mode():
        network(image)


def _size(model: PoseModel, options: BenchOptions) -> tuple[int, int]:
    """Width and height that the network is measured at; PoseError where it takes none such."""
    if options.size is None:
        return _usual_size(model)
    meta = replace(model.meta, input_size=options.size)
    if model.top_down:
        check_input_size(model.network, meta, "--size")
    else:
        # Pictures of any size are padded for these; here the padded size itself is given.
        check_input_size(model.network, meta, "--size", _BOTTOM_UP_STEP)
    return options.size


def _usual_size(model: PoseModel) -> tuple[int, int]:
    """Top-down: the crop; bottom-up: the network's input for a 720p frame."""
    width, height = model.meta.input_size
    if model.top_down:
        return width, height
    from posecli.readout import BOTTOM_UP

    return BOTTOM_UP[model.meta.codec].crop(_FRAME[1], _FRAME[0], 1.0, (1.0,), model.meta).size_wh


def _stages(model: PoseModel, clip: str | None, options: BenchOptions) -> dict[str, Any]:
    """Where the time of the whole chain goes: `profiling.Profile.table`."""
    if clip is not None:
        with contextlib.closing(_of_clip(model, clip, options.frames)) as lines:
            next(lines)
            with profiled() as profile:
                count = sum(1 for _ in lines)
        return {"source": Path(clip).name, **profile.table(count)}
    image = np.random.default_rng(0).integers(0, 255, (*_FRAME, 3), dtype=np.uint8)
    boxes = None
    if model.top_down:
        boxes = [np.array([[400.0, 100, 700, 650]] * options.batch)]
    for _ in range(_first_calls(model.device)):
        model.predict([image], boxes, still=False)
    with profiled() as profile:
        for _ in range(options.runs):
            model.predict([image], boxes, still=False)
    return {"source": "made-up 1280x720 frame", **profile.table(options.runs)}


def _of_clip(model: PoseModel, clip: str, frames: int) -> Generator[Any, None, None]:
    """Lines of a clip's first frames; before them one made-up line, when everything is loaded."""
    with open_source(clip) as source:
        wanted, image = InferOptions(end=frames), next(iter(source.frames(0, 1, 1))).image
        for _ in range(_first_calls(model.device)):
            model.predict([image] * (wanted.batch if model.device.type == "cuda" else 1), still=False)
        yield None
        yield from islice(poses_of(source, model, wanted), frames)
