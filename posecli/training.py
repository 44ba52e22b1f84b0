"""The training loop: one process or many, resumable, with everything it did on record.

The run folder: `config.toml`, `environment.json`, `log.jsonl`, `last.safetensors` (the averaged weights where there are
such), `best.safetensors` by the chosen metric, `state.pt` with all that `--resume` needs.
"""

from __future__ import annotations

import json
import math
import os
import platform
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

import posecli
from posecli.checkpoint import ModelMeta, build, save_model
from posecli.data import SQUARE, UPRIGHT, Loader, Mixture
from posecli.distributed import Processes, join_processes
from posecli.errors import PoseError
from posecli.files import leave_lost_terminal, replace_when_done
from posecli.inference import PoseModel, PredictOptions, find_weights
from posecli.learner import Learner, NotFinite, StepOutcome, draws_of, keep_freed_memory, learning_rate
from posecli.run_log import Meter, RunLog, clear_run, refuse_used
from posecli.running import pick_device
from posecli.settings import RESUMABLE, TrainSettings, absolute_paths, read_toml, resolve, to_toml
from posecli.surgery import same_build, transplant
from posecli.tasks import Task, make_task
from posecli.tasks.top_down import TopDownTask
from posecli.training_data import check_pictures, mirror_trouble, never_labelled, read_data, read_validation
from posecli.validation import Validation

LOG_EVERY = 50
#: Samples that a task's survey sees at most.
SURVEYED = 4096

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
        resume: go on from the folder's saved state. The number of processes may be another one: ``accumulate`` is
            changed so that a step sees the same micro-batches as before.
        changes: settings changed on resuming; only those of `RESUMABLE`.
        overwrite: a folder with a run in it is replaced.
        device: see `pick_device`; under torchrun ``cuda`` means one device for each process.
        report: takes every log record, and ``{"event": "step", "progress", "step"}`` after each step.

    Raises:
        PoseError: data, weights or folder are not usable, or the loss became infinite or NaN.
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came; the state was saved.
    """
    out = Path(out)
    if resume:
        settings = _stored_settings(out, changes or {})
    elif settings is None:
        raise ValueError("settings are needed for a new run")
    settings = absolute_paths(settings)
    if settings.init and not resume and not settings.builder_arguments():
        # As deep and wide as the network that it starts from; of another nothing would fit, or half of it.
        arguments = same_build(settings.model, find_weights(settings.init))
        settings = replace(settings, model_arguments=json.dumps(arguments))
    if not resume and not overwrite:
        refuse_used(out, "--resume goes on with it, --overwrite replaces it", to_toml(settings))
    kind = _kind_of(device)
    with join_processes(kind) as processes:
        if resume:
            settings = _shared_by(settings, out, processes.world)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        keep_freed_memory()
        target = (
            torch.device("cuda", processes.device) if processes.world > 1 and kind == "cuda" else pick_device(device)
        )
        run = _Run(settings, out, processes, target, report or (lambda record: None), resume)
        return run.go()


def _kind_of(device: str) -> str:
    """The kind of the device of that name, see `pick_device`. No CUDA device is touched: each process is to have its
    own, and one that touched the first would keep some hundred megabytes there."""
    if torch.cuda.is_available() and device.partition(":")[0] in ("auto", "cuda"):
        return "cuda"
    return pick_device(device).type


def _stored_settings(out: Path, changes: Mapping[str, Any]) -> TrainSettings:
    if not (out / "state.pt").is_file():
        raise PoseError("no saved state to resume from", str(out))
    stored = read_toml(out / "config.toml")
    settings = resolve(stored)
    if settings.max_minutes and "epochs" in changes and "max_minutes" not in changes:
        what = f"the run is max_minutes = {settings.max_minutes:g} long; epochs would change nothing"
        raise PoseError(what, str(out), "--set max_minutes=... makes it longer")
    # The same command once more may name the same files from its own folder.
    wanted = absolute_paths(resolve(stored, changes))
    before, now = (absolute_paths(s, followed=True) for s in (settings, wanted))
    fixed = [key for key in changes if key not in RESUMABLE and getattr(before, key) != getattr(now, key)]
    if fixed:
        raise PoseError(f"{fixed[0]} cannot change on a resumed run", str(out), "start a new run with --init instead")
    return wanted


def _shared_by(settings: TrainSettings, out: Path, world: int) -> TrainSettings:
    """The settings with which so many processes go on with a run: its steps keep their micro-batches.

    Raises:
        PoseError: they can't share a step evenly.
    """
    micro = _read_state(out / "state.pt", mmap=True).get("micro_batches", settings.accumulate * world)
    if micro % world:
        divisors = ", ".join(str(n) for n in range(1, micro + 1) if micro % n == 0)
        what = f"{world} processes cannot share the {micro} micro-batches of this run's steps evenly"
        raise PoseError(what, str(out), f"resume with one of {divisors}")
    return replace(settings, accumulate=micro // world)


def random_states(device: torch.device) -> dict[str, Tensor]:
    """States of torch's random generators that a run draws from, by kind of device: dropout draws on its own."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Tensor] | Tensor, device: torch.device) -> None:
    """Takes over what `random_states` gave, as far as it is of this kind of device; runs of before gave the CPU's."""
    if isinstance(states, Tensor):
        states = {"cpu": states}
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps" and "mps" in states:
        torch.mps.set_rng_state(states["mps"])


def _read_state(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        if isinstance(state, dict):
            return state
        said = "it is not a run's"
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else repr(error)
    raise PoseError(f"the saved state cannot be used: {said}", str(path)) from None


class _Run:
    """One training run in one process."""

    def __init__(
        self,
        settings: TrainSettings,
        out: Path,
        processes: Processes,
        device: torch.device,
        report: Report,
        resume: bool,
    ):
        self.settings, self.out, self.processes, self.device, self.report = settings, out, processes, device, report
        self.resume = resume
        self.skeleton, sources = read_data(settings)
        self.task: Task = make_task(settings, sources, self.skeleton)
        self.mixture = Mixture(self.task.counts, settings.data_weights, settings.epoch_samples, settings.seed)
        self.validation = read_validation(settings, self.skeleton)
        check_pictures(sources, self.validation)
        for trouble in (mirror_trouble(self.skeleton, settings.flip), never_labelled(self.skeleton, sources)):
            if trouble and processes.first:
                warnings.warn(trouble, stacklevel=2)
        torch.manual_seed(settings.seed)
        arguments = {"keypoints": self.skeleton.num_keypoints, **settings.builder_arguments()}
        self.meta: ModelMeta = self.task.meta(settings.model, arguments)
        network = build(self.meta, "training settings")
        self.initialised = ""
        if settings.init and not resume:  # else all of it is in the saved state, and the file may be gone
            self.initialised = str(transplant(network, self.meta, find_weights(settings.init)))
            self.task.start_from(network)
        self.learner = Learner(network, self.task, self.meta, settings, processes, device)
        self.loader = self._make_loader()
        self.samples_per_step = settings.batch * settings.accumulate * processes.world
        self.total_steps = settings.epochs * self.loader.steps_per_epoch
        self.step = 0
        self.used = 0.0  # seconds of the sessions before this one
        self.started = self._now()
        self.last_validated = 0.0  # epochs or minutes
        self.validated: dict[str, float] | None = None
        self.validated_at = -1  # the step of the weights that were measured
        self.best: dict[str, float] | None = None
        self.meter = Meter(self.task.terms)
        self.log: RunLog | None = None
        self.stop_signal = 0

    def _make_loader(self) -> Loader:
        settings, processes = self.settings, self.processes
        return Loader(
            self.task,
            self.mixture,
            batch=settings.batch,
            accumulate=settings.accumulate,
            rank=processes.rank,
            world=processes.world,
            workers=settings.workers,
            seed=settings.seed,
            plan=self._plan,
            shapes=self.task.shapes() if settings.narrow_sizes else (),
            shaped=settings.narrow_share,
            gentle=self.task.gentle(),
            pinned=self.device.type == "cuda" and settings.speed != "plain",
        )

    # Time and schedule

    @property
    def elapsed(self) -> float:
        """Seconds of training by the settings' clock, sessions before included; the first process's."""
        return self.used + self._now() - self.started

    def _now(self) -> float:
        if self.settings.clock == "processor":
            return time.process_time() / torch.get_num_threads()
        return time.monotonic()

    def progress(self, step: int, elapsed: float) -> float:
        """How far the run is, 0 to 1."""
        if self.settings.max_minutes:
            return min(1.0, elapsed / (60 * self.settings.max_minutes))
        return min(1.0, step / self.total_steps)

    def _plan(self, step: int, shape: int) -> tuple[tuple[int, int], bool]:
        """Size of a step's samples of a shape, and whether they are changed gently."""
        share = self.progress(step, self.elapsed)
        size = self.settings.small_size if share < self.settings.small_until else self.settings.input_size
        if shape != SQUARE:
            sizes = self.settings.narrow_inputs()
            shorter, longer = sizes[step % len(sizes)]
            size = (shorter, longer) if shape == UPRIGHT else (longer, shorter)
        return size, share >= self.settings.gentle_from

    # The run

    def go(self) -> TrainResult:
        if self.resume:
            self._load_state()
        elif self.processes.first:
            self.out.mkdir(parents=True, exist_ok=True)
            clear_run(self.out)
        if self.processes.first:
            with replace_when_done(self.out / "config.toml") as part:
                part.write_text(to_toml(self.settings), encoding="utf-8")
            self._write_environment()
            self.log = RunLog(self.out, self.settings.tensorboard, self.step)
        self._tell(
            event="resume" if self.resume else "start",
            step=self.step,
            samples=dict(zip([s.name for s in self.task.sources], self.task.counts, strict=True)),
            left_out=self.task.left_out,
            parameters=sum(p.numel() for p in self.learner.network.parameters()),
            steps_per_epoch=self.loader.steps_per_epoch,
            init=self.initialised,
        )
        if not self.settings.max_minutes:
            self._warn_of_warmup(self.total_steps)
        try:
            # Closed at the end, so that the loader's processes are gone before this one.
            with self._signals(), closing(self.loader.from_step(self.step)) as stream:
                self._loop(stream)
        finally:
            self.learner.leave()
            if self.log:
                self.log.close()
        if self.settings.max_minutes:  # which say only now how many steps there were
            self._warn_of_warmup(self.step)
        return TrainResult(
            self.out, self.step, self.step * self.samples_per_step, self.validated, self.best, self.processes.first
        )

    def _loop(self, stream: Iterator[list[dict[str, Tensor]]]) -> None:
        meter = self.meter
        last_saved = time.monotonic()
        clock, save_due, stop = self._agree(last_saved)
        while self.progress(self.step, clock) < 1:
            before = time.monotonic()
            batches = next(stream)
            meter.waited += time.monotonic() - before
            share = self.progress(self.step, clock)
            rate = learning_rate(self.settings, self.step, self.task.within(share))
            self.task.begin_step(self.learner.network, share)
            if self.task.unsurveyed(self.learner.network):
                self._survey()
            try:
                outcome = self.learner.learn(batches, rate, self._draws())
            except NotFinite as error:
                self._stop_nonfinite(batches, error.outcome, rate)
            self.step += 1
            meter.add(outcome, self.samples_per_step)
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

    def _draws(self) -> list[int]:
        settings, processes = self.settings, self.processes
        return draws_of(settings.seed, self.step, settings.accumulate, processes.rank, processes.world)

    def _survey(self) -> None:
        """Shows the task samples like those it learns from: the first epoch's, `SURVEYED` of them at most."""
        steps = min(self.loader.steps_per_epoch, -(-SURVEYED // self.samples_per_step))
        with closing(self._make_loader().from_step(0)) as stream:
            groups = (next(stream) for _ in range(steps))
            self.learner.survey(batch for group in groups for batch in group)
        self._tell(event="survey", step=self.step, samples=steps * self.samples_per_step)

    def _agree(self, last_saved: float) -> tuple[float, bool, bool]:
        """Elapsed seconds, whether to save, whether to stop: the first process decides."""
        due = time.monotonic() - last_saved >= 60 * self.settings.save_every
        clock, save, stop = self.processes.agreed([self.elapsed, float(due), float(self.stop_signal)])
        return clock, bool(save), bool(stop)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGINT, SIGTERM and, unless it is ignored (``nohup``), SIGHUP end the run after the step in hand, with its
        state saved."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            self.stop_signal = number
            leave_lost_terminal()

        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _warn_of_warmup(self, steps: int) -> None:
        """Of a few pictures a run has few steps: fewer than the warm-up's, and the schedule ends before the peak."""
        settings = self.settings
        if self.processes.first and steps < 2 * settings.warmup:
            what = f"the run is {steps} steps long and the learning rate rises over warmup = {settings.warmup} of them"
            hint = f"--set warmup={steps // 10}, or a longer run"
            warnings.warn(f"{what}: it stays far below lr = {settings.lr:g}; {hint}", stacklevel=2)

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
        state = self.learner.weights()
        network = build(self.meta)
        network.load_state_dict(state)
        before = time.monotonic()
        # Of labelled people nobody is there twice, and nobody whose box is given is one too many.
        options = PredictOptions(pose_nms=1.0)
        if isinstance(self.task, TopDownTask):
            options = replace(options, max_persons=max(options.max_persons, validation.most))
        values = validation.run(
            PoseModel(
                network,
                self.meta,
                device=self.device,
                options=options,
                speed="plain" if self.settings.speed == "plain" else "auto",
            ),
            self.processes,
        )
        metric = self.settings.metric
        if metric not in values:  # none of the few looked at (``val_limit``) has what it takes
            hint = "a larger val_limit, or 0 for all of it"
            raise PoseError(f"no {metric} on the val_limit validation pictures", self.settings.val, hint)
        self.validated, self.validated_at = values, self.step
        self._tell(
            event="validation", **self._where(share, clock), **values, seconds=round(time.monotonic() - before, 2)
        )
        if self.best is None or values[metric] > self.best[metric]:
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

    def _save(self) -> None:
        weights, learner = self.learner.weights(), self.learner.state()
        if not self.processes.first:
            return
        state = {
            "learner": learner,
            "random": random_states(self.device),
            "joints": list(self.skeleton.keypoints),
            "micro_batches": self.settings.accumulate * self.processes.world,
            "step": self.step,
            "elapsed": self.elapsed,
            "last_validated": self.last_validated,
            "validated": self.validated,
            "validated_at": self.validated_at,
            "best": self.best,
            "meter": self.meter.state(),
            "log_bytes": self.log.size() if self.log else 0,
        }
        path = self.out / "state.pt"
        with replace_when_done(path) as part:
            try:
                torch.save(state, part)
            except RuntimeError as error:  # what torch makes of a write that failed
                what = f"the run's state cannot be written: {str(error).splitlines()[0]}"
                hint = "is there room on the disk? --resume goes on from the state saved before, if there is one"
                raise PoseError(what, str(path), hint) from None
        # In this order: a run that is killed in between goes on, and saves them then (`_load_state`).
        self._save_last(weights)

    def _save_last(self, weights: Mapping[str, Tensor]) -> None:
        measured = self.validated if self.validated_at == self.step else None
        save_model(self.out / "last.safetensors", weights, self._scored(measured))

    def _load_state(self) -> None:
        path = self.out / "state.pt"
        state = _read_state(path)
        joints = state.get("joints", list(self.skeleton.keypoints))
        if joints != list(self.skeleton.keypoints):
            what = f"the data's joints are {', '.join(self.skeleton.keypoints)}; the run learnt {', '.join(joints)}"
            raise PoseError(what, str(path), "give the data as it was, or start a new run with --init")
        try:
            self.learner.load_state(state["learner"])
            set_random_states(state["random"], self.device)
            self.step = state["step"]
            self.meter.load_state(state["meter"])
            self.last_validated, self.validated, self.best = state["last_validated"], state["validated"], state["best"]
            self.validated_at = state.get("validated_at", self.validated_at)
            self.used, self.started = state["elapsed"], self._now()
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else repr(error)
            raise PoseError(f"the saved state cannot be used: {reason}", str(path)) from None
        if self.processes.first and (self.out / "log.jsonl").is_file():
            # Steps after the saved one are done again: their lines would stand twice.
            os.truncate(self.out / "log.jsonl", min(state["log_bytes"], (self.out / "log.jsonl").stat().st_size))
        last, weights = self.out / "last.safetensors", self.learner.weights()
        if self.processes.first and (not last.is_file() or last.stat().st_mtime_ns <= path.stat().st_mtime_ns):
            self._save_last(weights)

    def _stop_nonfinite(self, batches: Sequence[dict[str, Tensor]], outcome: StepOutcome, rate: float) -> NoReturn:
        """Saves what is needed to look into it, and stops."""
        path = self.out / ("nonfinite.pt" if self.processes.first else f"nonfinite.{self.processes.rank}.pt")
        terms = dict(zip(self.task.terms, outcome.terms().tolist(), strict=True))
        evidence = {
            "step": self.step, "learning_rate": rate, "gradient_norm": outcome.gradient_norm, "terms": terms,
            "sizes": outcome.sizes, "batches": list(batches), "network": self.learner.network.state_dict(),
        }  # fmt: skip
        with replace_when_done(path) as part:
            torch.save(evidence, part)
        values = ", ".join(f"{term} {value:g}" for term, value in terms.items())
        raise PoseError(
            f"the loss is not finite at step {self.step + 1} ({values}; gradient norm {outcome.gradient_norm:g})",
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
        with replace_when_done(self.out / "environment.json") as part:
            part.write_text(json.dumps(environment, indent=2) + "\n", encoding="utf-8")
