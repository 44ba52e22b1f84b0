"""The training loop: one process or many, resumable, with everything it did on record.

A step takes its micro-batches, learns from the targets alone what each loss term is to be divided by (summed over
accumulated passes and all processes), and only then runs the network. So the gradient is that of one large batch
however it was split. Batch normalisation sees micro-batches; its running statistics are averaged over them and over
the processes.

The run folder: `config.toml`, `environment.json`, `log.jsonl`, `last.safetensors` (the averaged weights where there are
such), `best.safetensors` by the chosen metric, `state.pt` with all that `--resume` needs.
"""

from __future__ import annotations

import copy
import ctypes
import json
import math
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

import posecli
from posecli.checkpoint import ModelMeta, build, read_parts, save_model
from posecli.data import Loader, Mixture, Source, make_source
from posecli.distributed import Processes, join_processes
from posecli.errors import MissingExtra, PoseError
from posecli.files import replace_when_done
from posecli.formats import coco
from posecli.inference import PoseModel, find_weights, pick_device
from posecli.settings import RESUMABLE, TrainSettings, absolute_paths, read_toml, resolve, to_toml
from posecli.skeletons import get_skeleton
from posecli.tasks import Task, make_task
from posecli.types import Skeleton
from posecli.validation import Validation

LOG_EVERY = 50

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class TrainResult:
    """What a run came to: its folder, steps made, samples seen, the last and the best validation (None without), and
    whether this is the first of the run's processes."""

    out: Path
    steps: int
    samples: int
    validation: dict[str, float] | None
    best: dict[str, float] | None
    first: bool = True


def train(
    settings: TrainSettings | None,
    out: str | Path,
    *,
    resume: bool = False,
    changes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    device: str = "auto",
    report: Report | None = None,
) -> TrainResult:
    """Runs or resumes a training.

    Args:
        settings: of a new run; None with `resume`: those of the run folder are taken.
        out: the run folder.
        resume: go on from the folder's saved state.
        changes: settings changed on resuming; only those of `RESUMABLE`.
        overwrite: a folder with a run in it is replaced.
        device: see `pick_device`; under torchrun ``cuda`` means one device for each process.
        report: takes every log record, and ``{"event": "step", "progress", "step"}`` after each step.

    Raises:
        PoseError: data, weights or folder are not usable, or the loss became infinite or NaN.
        KeyboardInterrupt: SIGINT or SIGTERM came; the state was saved.
    """
    out = Path(out)
    if resume:
        settings = _stored_settings(out, changes or {})
    elif settings is None:
        raise ValueError("settings are needed for a new run")
    elif (out / "state.pt").exists() and not overwrite:
        raise PoseError("the folder holds a run already", str(out), "--resume goes on with it, --overwrite replaces it")
    settings = absolute_paths(settings)
    kind = pick_device(device).type
    with join_processes(kind) as processes:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        keep_freed_memory()
        target = (
            torch.device("cuda", processes.local_rank)
            if processes.world > 1 and kind == "cuda"
            else pick_device(device)
        )
        run = _Run(settings, out, processes, target, report or (lambda record: None))
        return run.go(resume)


def _stored_settings(out: Path, changes: Mapping[str, Any]) -> TrainSettings:
    if not (out / "state.pt").is_file():
        raise PoseError("no saved state to resume from", str(out))
    stored = read_toml(out / "config.toml")
    settings = resolve(stored)
    wanted = resolve(stored, changes)
    fixed = [key for key in changes if key not in RESUMABLE and getattr(settings, key) != getattr(wanted, key)]
    if fixed:
        raise PoseError(f"{fixed[0]} cannot change on a resumed run", str(out), "start a new run with --init instead")
    return wanted


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of giving it back: large activations are otherwise mapped anew each step.

    Measured on 2 CPU cores: 10-20 % faster training steps. Elsewhere it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


class _Run:
    """One training run in one process."""

    def __init__(self, settings: TrainSettings, out: Path, processes: Processes, device: torch.device, report: Report):
        self.settings, self.out, self.processes, self.device, self.report = settings, out, processes, device, report
        self.skeleton, sources = _read_data(settings)
        self.task: Task = make_task(settings, sources, self.skeleton)
        self.mixture = Mixture(self.task.counts, settings.data_weights, settings.epoch_samples, settings.seed)
        self.validation = _read_validation(settings, self.skeleton)
        torch.manual_seed(settings.seed)
        arguments = {"keypoints": self.skeleton.num_keypoints, **settings.builder_arguments()}
        self.meta: ModelMeta = self.task.meta(settings.model, arguments)
        self.network = build(self.meta, "training settings")
        self.initialised = _initialise(self.network, settings.init) if settings.init else ""
        self.network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval() if settings.ema else None
        self.averaged_steps = 0
        self.optimizer = _make_optimizer(self.network, settings)
        self.scaler = torch.amp.GradScaler(enabled=settings.precision == "float16")
        if settings.precision == "float16" and device.type != "cuda":
            raise PoseError("float16 training needs a CUDA device", hint="take bfloat16")
        self.parallel: nn.Module = self.network
        if processes.world > 1:
            # Buffers stay each process's own; they are averaged when saved.
            self.parallel = DistributedDataParallel(self.network, broadcast_buffers=False)
        self.statistics = _NormStatistics(self.network)
        self.mean = torch.tensor(self.meta.mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(self.meta.std, device=device).view(1, 3, 1, 1) * 255
        self.loader = Loader(
            self.task,
            self.mixture,
            batch=settings.batch,
            accumulate=settings.accumulate,
            rank=processes.rank,
            world=processes.world,
            workers=settings.workers,
            seed=settings.seed,
            size_at=self._size_at,
        )
        self.total_steps = settings.epochs * self.loader.steps_per_epoch
        self.step = 0
        self.used = 0.0  # seconds of the sessions before this one
        self.started = time.monotonic()
        self.last_validated = 0.0  # epochs or minutes
        self.validated: dict[str, float] | None = None
        self.best: dict[str, float] | None = None
        self.log: _Log | None = None
        self.stop_signal = 0

    # Time and schedule

    @property
    def elapsed(self) -> float:
        """Seconds of training, sessions before included; the first process's."""
        return self.used + time.monotonic() - self.started

    def progress(self, step: int, elapsed: float) -> float:
        """How far the run is, 0 to 1."""
        if self.settings.max_minutes:
            return min(1.0, elapsed / (60 * self.settings.max_minutes))
        return min(1.0, step / self.total_steps)

    def _size_at(self, step: int) -> tuple[int, int]:
        small = self.progress(step, self.elapsed) < self.settings.small_until
        return self.settings.small_size if small else self.settings.input_size

    def learning_rate(self, step: int, progress: float) -> float:
        """Of a step (0-based)."""
        settings = self.settings
        warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
        if settings.schedule == "cosine":
            # Not quite to zero: the last steps still move.
            return settings.lr * warm * max(0.5 * (1 + math.cos(math.pi * progress)), 1e-3)
        if settings.schedule == "step":
            return settings.lr * warm * settings.lr_factor ** sum(progress >= share for share in settings.lr_steps)
        return settings.lr * warm

    # The run

    def go(self, resume: bool) -> TrainResult:
        if resume:
            self._load_state()
        elif self.processes.first:
            self.out.mkdir(parents=True, exist_ok=True)
            for name in ("state.pt", "log.jsonl", "best.safetensors", "last.safetensors", "nonfinite.pt"):
                (self.out / name).unlink(missing_ok=True)
        if self.processes.first:
            (self.out / "config.toml").write_text(to_toml(self.settings), encoding="utf-8")
            self._write_environment()
            self.log = _Log(self.out, self.settings.tensorboard, self.step)
        self._tell(
            event="resume" if resume else "start",
            step=self.step,
            samples=dict(zip([s.name for s in self.task.sources], self.task.counts, strict=True)),
            left_out=self.task.left_out,
            parameters=sum(p.numel() for p in self.network.parameters()),
            steps_per_epoch=self.loader.steps_per_epoch,
            init=self.initialised,
        )
        try:
            with self._signals():
                self._loop()
        finally:
            if self.log:
                self.log.close()
        samples = self.step * self.settings.batch * self.settings.accumulate * self.processes.world
        return TrainResult(self.out, self.step, samples, self.validated, self.best, self.processes.first)

    def _loop(self) -> None:
        stream = self.loader.from_step(self.step)
        meter = _Meter(self.task.terms)
        last_saved = time.monotonic()
        clock, save_due, stop = self._agree(last_saved)
        while self.progress(self.step, clock) < 1:
            before = time.monotonic()
            batches = next(stream)
            meter.waited += time.monotonic() - before
            share = self.progress(self.step, clock)
            rate = self.learning_rate(self.step, share)
            sums, sizes, norm = self._learn(batches, rate)
            self.step += 1
            meter.add(sums, sizes, norm, self.settings.batch * self.settings.accumulate * self.processes.world)
            clock, save_due, stop = self._agree(last_saved)
            share = self.progress(self.step, clock)
            epoch_end = self.step % self.loader.steps_per_epoch == 0
            self.report({"event": "step", "step": self.step, "progress": share})
            if self.step % LOG_EVERY == 0 or epoch_end or share >= 1:
                self._tell(event="train", **self._where(share, clock), lr=rate, **meter.read())
            if self.validation is not None and self._validation_due(share, clock):
                self._validate(self.validation, share, clock)
                save_due = True
            if save_due or epoch_end or share >= 1 or stop:
                self._save()
                last_saved = time.monotonic()
            if stop and share < 1:
                raise KeyboardInterrupt

    def _learn(self, batches: Sequence[dict[str, Tensor]], rate: float) -> tuple[Tensor, Tensor, float]:
        """One optimizer step; the terms' sums and sizes over all processes, and the gradient's norm."""
        settings, world = self.settings, self.processes.world
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        batches = [{key: value.to(self.device, non_blocking=True) for key, value in b.items()} for b in batches]
        sizes = self.processes.total(torch.stack([self.task.sizes(b).cpu() for b in batches]).sum(0))
        # DDP averages gradients over processes; the loss is a sum over them.
        factors = torch.tensor([self.task.terms[t] * world for t in self.task.terms]) / sizes.clamp(min=1e-12).float()
        factors = factors.to(self.device)
        sums = torch.zeros(len(sizes), dtype=torch.float64)
        self.statistics.begin()
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            # Gradients are exchanged once a step, after the last pass.
            spread = self.parallel
            with spread.no_sync() if isinstance(spread, DistributedDataParallel) and not last else nullcontext():
                with self._autocast():
                    output = self.parallel(self._normalised(batch["image"]))
                terms = self.task.sums(output, batch)
                self.scaler.scale((terms * factors).sum()).backward()
            sums += terms.detach().double().cpu()
            self.statistics.next(last, len(batches))
        sums = self.processes.total(sums)
        self.scaler.unscale_(self.optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), settings.clip or math.inf))
        # A scaler skips steps whose scaled gradients overflow; that is its normal work.
        if not torch.isfinite(sums).all() or not (math.isfinite(norm) or self.scaler.is_enabled()):
            self._stop_nonfinite(batches, sums, sizes, norm, rate)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._average_weights()
        return sums, sizes, norm

    def _normalised(self, image: Tensor) -> Tensor:
        values = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return values.contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> Any:
        kinds = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
        kind = kinds[self.settings.precision]
        return nullcontext() if kind is None else torch.autocast(self.device.type, kind)

    @torch.no_grad()
    def _average_weights(self) -> None:
        if self.average is None:
            return
        self.averaged_steps += 1
        # A short memory at first: the average must not hang on to the random start.
        decay = min(self.settings.ema, (1 + self.averaged_steps) / (20 + self.averaged_steps))
        torch._foreach_lerp_(_floating(self.average), _floating(self.network), 1 - decay)

    def _agree(self, last_saved: float) -> tuple[float, bool, bool]:
        """Elapsed seconds, whether to save, whether to stop: the first process decides."""
        due = time.monotonic() - last_saved >= 60 * self.settings.save_every
        clock, save, stop = self.processes.agreed([self.elapsed, float(due), float(self.stop_signal)])
        return clock, bool(save), bool(stop)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the run after the step in hand, with its state saved."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            self.stop_signal = number

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    # Validation

    def _validation_due(self, share: float, clock: float) -> bool:
        if share >= 1:
            return True
        if self.settings.max_minutes:
            return clock / 60 - self.last_validated >= self.settings.val_every
        epoch = self.step / self.loader.steps_per_epoch
        return epoch == int(epoch) and epoch - self.last_validated >= self.settings.val_every

    def _validate(self, validation: Validation, share: float, clock: float) -> None:
        self.last_validated = clock / 60 if self.settings.max_minutes else self.step / self.loader.steps_per_epoch
        state = self._averaged_state(self.average or self.network)
        network = copy.deepcopy(self.network)
        network.load_state_dict(state)
        before = time.monotonic()
        values = validation.run(PoseModel(network, self.meta, device=self.device), self.processes)
        if self.settings.metric not in values:
            why = 'the skeleton has no sigmas, give metric = "pck"'
            raise PoseError(f"no {self.settings.metric} on the validation set", self.settings.val, why)
        self.validated = values
        self._tell(
            event="validation", **self._where(share, clock), **values, seconds=round(time.monotonic() - before, 2)
        )
        if self.best is None or values[self.settings.metric] > self.best[self.settings.metric]:
            self.best = {**values, "step": self.step}
            if self.processes.first:
                save_model(self.out / "best.safetensors", state, self._scored(values))

    def _scored(self, values: dict[str, float] | None) -> ModelMeta:
        names = [Path(name).name for name in self.settings.data]
        extra: dict[str, Any] = {"trained_on": names, "steps": self.step}
        if values:
            extra["scores"] = {"set": Path(self.settings.val).name, **values}
        return self.meta.with_extra(**extra)

    # State

    def _averaged_state(self, network: nn.Module) -> dict[str, Tensor]:
        """A copy of the tensors, batch normalisation averaged over the processes."""
        state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        buffers = {name for name, _ in network.named_buffers()}
        self.processes.average([t for name, t in state.items() if name in buffers and t.is_floating_point()])
        return state

    def _save(self) -> None:
        network = self._averaged_state(self.network)
        average = self._averaged_state(self.average) if self.average is not None else None
        if not self.processes.first:
            return
        save_model(self.out / "last.safetensors", average or network, self._scored(self.validated))
        state = {
            "network": network,
            "average": average,
            "averaged_steps": self.averaged_steps,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "elapsed": self.elapsed,
            "last_validated": self.last_validated,
            "validated": self.validated,
            "best": self.best,
            "log_bytes": self.log.size() if self.log else 0,
        }
        with replace_when_done(self.out / "state.pt") as part:
            torch.save(state, part)

    def _load_state(self) -> None:
        path = self.out / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(state["network"])
            if self.average is not None:
                self.average.load_state_dict(state["average"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            torch.set_rng_state(state["random"])
            self.averaged_steps, self.step = state["averaged_steps"], state["step"]
            self.last_validated, self.validated, self.best = state["last_validated"], state["validated"], state["best"]
            self.used, self.started = state["elapsed"], time.monotonic()
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise PoseError(f"the saved state cannot be used: {reason}", str(path)) from None
        if self.processes.first and (self.out / "log.jsonl").is_file():
            # Steps after the saved one are done again: their lines would stand twice.
            os.truncate(self.out / "log.jsonl", min(state["log_bytes"], (self.out / "log.jsonl").stat().st_size))

    def _stop_nonfinite(
        self, batches: Sequence[dict[str, Tensor]], sums: Tensor, sizes: Tensor, norm: float, rate: float
    ) -> None:
        """Saves what is needed to look into it, and stops."""
        path = self.out / ("nonfinite.pt" if self.processes.first else f"nonfinite.{self.processes.rank}.pt")
        evidence = {
            "step": self.step, "learning_rate": rate, "gradient_norm": norm,
            "terms": {t: float(s) for t, s in zip(self.task.terms, sums, strict=True)}, "sizes": sizes,
            "batches": [{k: v.cpu() for k, v in b.items()} for b in batches], "network": self.network.state_dict(),
        }  # fmt: skip
        with replace_when_done(path) as part:
            torch.save(evidence, part)
        values = ", ".join(f"{t} {float(s / n):g}" for t, s, n in zip(self.task.terms, sums, sizes, strict=True))
        raise PoseError(
            f"the loss is not finite at step {self.step + 1} ({values}; gradient norm {norm:g})",
            str(path),
            f"the batch and the weights are in that file; try a learning rate below {rate:g}, a longer warmup, float32",
        )

    # Talk

    def _where(self, share: float, clock: float) -> dict[str, Any]:
        left = clock * (1 - share) / share if share > 0 else math.nan
        if self.settings.max_minutes:
            left = 60 * self.settings.max_minutes - clock
        return {
            "step": self.step,
            "epoch": round(self.step / self.loader.steps_per_epoch, 3),
            "progress": round(share, 5),
            "minutes": round(clock / 60, 2),
            "minutes_left": round(left / 60, 1),
        }

    def _tell(self, **record: Any) -> None:
        if self.log:
            self.log.write(record)
            self.report(record)

    def _write_environment(self) -> None:
        versions = {"posecli": posecli.__version__, "python": platform.python_version(), "torch": torch.__version__}
        environment = {
            **versions,
            "numpy": np.__version__,
            "platform": platform.platform(),
            "device": str(self.device),
            "processes": self.processes.world,
            "threads": torch.get_num_threads(),
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        (self.out / "environment.json").write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")


class _NormStatistics:
    """Running statistics of batch normalisation when a step has several micro-batches.

    Each micro-batch updates the statistics the step began with, and the results are averaged: the same as if each had
    been a process's own, so that accumulating equals running in parallel.
    """

    def __init__(self, network: nn.Module):
        norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
        everything = [buffer for m in norms for buffer in m.buffers()]
        self.buffers = [buffer for buffer in everything if buffer.is_floating_point()]
        self.counters = [buffer for buffer in everything if not buffer.is_floating_point()]

    @torch.no_grad()
    def begin(self) -> None:
        self.start = [buffer.clone() for buffer in self.buffers]
        self.counts = [counter.clone() for counter in self.counters]
        self.sum: list[Tensor] = []

    @torch.no_grad()
    def next(self, last: bool, total: int) -> None:
        """After each micro-batch; `total` of them make the step."""
        if total == 1:
            return
        self.sum = (
            [s + b for s, b in zip(self.sum, self.buffers, strict=True)]
            if self.sum
            else [b.clone() for b in self.buffers]
        )
        for buffer, value in zip(self.buffers, self.sum if last else self.start, strict=True):
            buffer.copy_(value / total if last else value)
        if not last:
            for counter, value in zip(self.counters, self.counts, strict=True):
                counter.copy_(value)


class _Meter:
    """Means between two log records."""

    def __init__(self, terms: Mapping[str, float]):
        self.terms = dict(terms)
        self.waited = 0.0
        self._reset()

    def _reset(self) -> None:
        self.values = torch.zeros(len(self.terms), dtype=torch.float64)
        self.steps, self.samples, self.norm, self.waited = 0, 0, 0.0, 0.0
        self.since = time.monotonic()

    def add(self, sums: Tensor, sizes: Tensor, norm: float, samples: int) -> None:
        self.values += sums / sizes.clamp(min=1e-12)
        self.steps += 1
        self.samples += samples
        self.norm += norm

    def read(self) -> dict[str, float]:
        """Losses, the gradient's norm, samples a second and the share of time spent waiting for data."""
        means = (self.values / max(self.steps, 1)).tolist()
        seconds = max(time.monotonic() - self.since, 1e-9)
        loss = sum(weight * mean for weight, mean in zip(self.terms.values(), means, strict=True))
        record = {"loss": round(loss, 6)} | {f"loss_{t}": round(m, 6) for t, m in zip(self.terms, means, strict=True)}
        record |= {
            "gradient_norm": round(self.norm / max(self.steps, 1), 4),
            "samples_per_second": round(self.samples / seconds, 2),
            "waiting": round(self.waited / seconds, 4),
        }
        self._reset()
        return record


class _Log:
    """`log.jsonl`, one record a line, and TensorBoard events where asked."""

    def __init__(self, out: Path, tensorboard: bool, step: int):
        self._file = open(out / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 (open for the whole run)
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise MissingExtra("tensorboard", "train", "--tensorboard") from None
            self._board = SummaryWriter(str(out), purge_step=step)

    def write(self, record: Mapping[str, Any]) -> None:
        clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()}
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()
        if self._board and record["event"] in ("train", "validation"):
            for key, value in clean.items():
                if isinstance(value, (int, float)) and key not in ("step", "epoch"):
                    self._board.add_scalar(f"{record['event']}/{key}", value, record["step"])

    def size(self) -> int:
        """Bytes written so far, by this run and the sessions before."""
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        if self._board:
            self._board.close()


def _read_data(settings: TrainSettings) -> tuple[Skeleton, list[Source]]:
    if not settings.data:
        raise PoseError("no data to learn from", hint="give --data coco.json")
    roots = settings.image_root or ("",) * len(settings.data)
    datasets = [coco.read(path, image_root=root or None) for path, root in zip(settings.data, roots, strict=True)]
    skeleton = get_skeleton(settings.skeleton) if settings.skeleton else datasets[0].skeleton
    names = [
        Path(path).name if len({Path(p).name for p in settings.data}) == len(settings.data) else path
        for path in settings.data
    ]
    return skeleton, [make_source(d, skeleton, name) for d, name in zip(datasets, names, strict=True)]


def _read_validation(settings: TrainSettings, skeleton: Skeleton) -> Validation | None:
    if not settings.val:
        return None
    dataset = coco.read(settings.val, image_root=settings.val_image_root or None)
    return Validation(make_source(dataset, skeleton, settings.val), skeleton, settings.val_limit)


def _initialise(network: nn.Module, weights: str) -> str:
    """Copies the tensors that fit by name and shape; says how many, and which did not."""
    path = find_weights(weights)
    if path.suffix == ".safetensors":
        state = read_parts(path)["main"][0]
    else:
        from posecli.official import load_official

        state = load_official(path)[0].state_dict()
    own = network.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise PoseError("no tensor fits the model", str(path), "are the weights of another architecture?")
    network.load_state_dict(own | fitting)
    new = [name for name in own if name not in fitting]
    left = [name for name in state if name not in fitting]
    text = f"{len(fitting)} of {len(own)} tensors from {path.name}"
    if new:
        text += f"; {len(new)} start afresh ({', '.join(new[:3])}{', ...' if len(new) > 3 else ''})"
    return text + (f"; {len(left)} of the file unused" if left else "")


def _make_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr)


def _floating(network: nn.Module) -> list[Tensor]:
    return [tensor for tensor in network.state_dict().values() if tensor.is_floating_point()]
