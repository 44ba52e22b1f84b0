"""A network that learns: one step of optimization, over several micro-batches and processes, and its averaged weights.

The loss of a step is that of one large batch, however it was split: its terms are divided by counts that the targets
alone decide, summed over accumulated passes and all processes before the network runs. Batch normalisation sees
micro-batches; its running statistics are averaged over them, and over the processes when the weights are saved.
"""

from __future__ import annotations

import copy
import ctypes
import math
import platform
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from posecli.checkpoint import ModelMeta, of_bytes
from posecli.distributed import Processes
from posecli.errors import PoseError
from posecli.models.fast_cuda import can_run_kernels, has_blocks, kernels_trouble, learn_with_kernels
from posecli.on_device.graphs import measured_convolutions
from posecli.settings import TrainSettings
from posecli.tasks import Task


@dataclass(frozen=True)
class StepOutcome:
    """What a step came to, over all processes.

    Attributes:
        sums, sizes: (terms,) float64: each loss term is their quotient.
        gradient_norm: before clipping.
    """

    sums: Tensor
    sizes: Tensor
    gradient_norm: float

    def terms(self) -> Tensor:
        """(terms,) float64: the loss terms, without their weights."""
        return self.sums / self.sizes.clamp(min=1e-12)


class NotFinite(ArithmeticError):
    """The loss or its gradient is infinite or NaN; the weights are as they were before the step."""

    def __init__(self, outcome: StepOutcome) -> None:
        self.outcome = outcome
        super().__init__("the loss is not finite")


def learning_rate(settings: TrainSettings, step: int, progress: float) -> float:
    """Of a step (0-based) at a share of the run: warm-up by steps, the rest by `progress`."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "cosine":
        # Not quite to zero: the last steps still move.
        return settings.lr * warm * max(0.5 * (1 + math.cos(math.pi * progress)), 1e-3)
    if settings.schedule == "step":
        return settings.lr * warm * settings.lr_factor ** sum(progress >= share for share in settings.lr_steps)
    return settings.lr * warm


def draws_of(seed: int, step: int, accumulate: int, rank: int, world: int) -> list[int]:
    """What the network draws by (dropout) in each micro-batch of a step of one of ``world`` processes: its own, and the
    same however a step's micro-batches are shared out."""
    numbers = [a * world + rank for a in range(accumulate)]
    return [int(np.random.SeedSequence([seed, step, n]).generate_state(1, np.uint64)[0] >> 1) for n in numbers]


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory instead of giving it back: large activations are otherwise mapped anew each step.

    Measured on 2 CPU cores: 10-20 % faster training steps. Elsewhere it does nothing.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        trim_threshold, mmap_threshold = -1, -3
        mallopt(mmap_threshold, 1 << 30)
        mallopt(trim_threshold, (1 << 31) - 1)


class Learner:
    """Network, its averaged copy and the optimizer.

    Args:
        network: on any device; moved to `device`.
        task: what is learnt. meta: the normalisation of its input. settings: optimizer, precision, average.
        processes: of the run. device: of this process.

    Attributes:
        network: as trained. average: its exponential moving average, or None.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        meta: ModelMeta,
        settings: TrainSettings,
        processes: Processes,
        device: torch.device,
    ) -> None:
        if settings.precision == "float16" and device.type != "cuda":
            raise PoseError("float16 training needs a CUDA device", hint="take bfloat16")
        self.task, self.settings, self.processes, self.device = task, settings, processes, device
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        quick = device.type == "cuda" and settings.speed != "plain"
        # The inputs that are learnt from come in few sizes; others (validation's, a program's own) need not.
        self._measured = measured_convolutions if quick else nullcontext
        if quick and can_run_kernels(device):
            learn_with_kernels(self.network)
        elif quick and has_blocks(self.network) and processes.first:
            why = kernels_trouble(device)
            warnings.warn(f"Triton's kernels don't run here, training is slower without: {why}", stacklevel=2)
        self.average = copy.deepcopy(self.network).eval() if settings.ema else None
        self._averaged_steps = 0
        self._fused = quick and _can_fuse_steps()
        self._optimizer = _make_optimizer(self.network, settings, fused=self._fused)
        self._scaler = torch.amp.GradScaler(enabled=settings.precision == "float16")
        self._spread: nn.Module = self.network
        self._parallel: DistributedDataParallel | None = None
        if processes.world > 1:
            # Buffers stay each process's own; they are averaged when saved. A network that is learnt in phases has
            # parts without a gradient; so has one that remembers and sees single frames.
            forgets = bool(getattr(self.network, "recurrent", False)) and settings.clip_frames == 1
            self._spread = self._parallel = DistributedDataParallel(
                self.network,
                broadcast_buffers=False,
                find_unused_parameters=bool(getattr(self.network, "phased", False)) or forgets,
            )
        if quick and settings.speed == "compiled":
            self._spread = torch.compile(self._spread)  # type: ignore[assignment]
        self._statistics = _NormStatistics(self.network)
        self._mean, self._std = of_bytes(network, meta, device)

    def learn(
        self, batches: Sequence[Mapping[str, Tensor]], rate: float, draws: Sequence[int] | None = None
    ) -> StepOutcome:
        """One step at a learning rate; `batches` are this process's micro-batches, `draws` what dropout draws by in
        each of them (`draws_of`; None: goes on drawing). NotFinite before anything moves; PoseError where a norm needs
        more samples than one."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        # Counted before the batches move: the device need not be waited for.
        sizes = self.processes.total(torch.stack([self.task.sizes(b).cpu() for b in batches]).sum(0))
        batches = [{key: value.to(self.device, non_blocking=True) for key, value in b.items()} for b in batches]
        # DDP averages gradients over processes; the loss is a sum over them.
        weights = torch.tensor([weight * self.processes.world for weight in self.task.terms.values()])
        factors = (weights / sizes.clamp(min=1e-12).float()).to(self.device)
        sums = torch.zeros(len(sizes), dtype=torch.float64)
        self._statistics.begin()
        for number, batch in enumerate(batches):
            last = number == len(batches) - 1
            if draws is not None:
                torch.manual_seed(draws[number])
            with self._exchange(last), self._measured():
                with self._autocast():
                    image = self.task.arranged(self.network, self._normalised(batch["image"]))
                    with _norms_told(len(image)):
                        output = self._spread(image, *self.task.inputs(self.network, image, batch))
                terms = self.task.sums(output, batch)
                self._scaler.scale((terms * factors).sum()).backward()
            sums += terms.detach().double().cpu()
            self._statistics.next(last, len(batches))
        sums = self.processes.total(sums)
        self._scaler.unscale_(self._optimizer)
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip or math.inf))
        outcome = StepOutcome(sums, sizes, norm)
        # A scaler skips steps whose scaled gradients overflow; that is its normal work.
        if not torch.isfinite(sums).all() or not (math.isfinite(norm) or self._scaler.is_enabled()):
            raise NotFinite(outcome)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad(set_to_none=True)
        self._average_weights()
        return outcome

    def survey(self, batches: Iterable[Mapping[str, Tensor]]) -> None:
        """Shows the task samples for its `survey`. All processes must ask."""
        moved = ({key: value.to(self.device, non_blocking=True) for key, value in b.items()} for b in batches)
        samples = ((self._normalised(batch["image"]), batch) for batch in moved)
        with self._autocast():
            self.task.survey(self.network, samples, self.processes.total)

    def _exchange(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged once a step, after the last pass."""
        if self._parallel is not None and not last:
            return self._parallel.no_sync()
        return nullcontext()

    def _normalised(self, image: Tensor) -> Tensor:
        """(..., h, w, C) uint8 to (..., C, h, w)."""
        leading = image.shape[:-3]
        values = (image.flatten(0, -4).permute(0, 3, 1, 2).float() - self._mean) / self._std
        return values.contiguous(memory_format=torch.channels_last).unflatten(0, leading)

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}[self.settings.precision]
        return nullcontext() if kind is None else torch.autocast(self.device.type, kind)

    @torch.no_grad()
    def _average_weights(self) -> None:
        if self.average is None:
            return
        self._averaged_steps += 1
        # A short memory at first: the average must not hang on to the random start.
        decay = min(self.settings.ema, (1 + self._averaged_steps) / (20 + self._averaged_steps))
        follow_average(self.average.state_dict(), self.network, decay)

    def weights(self, averaged: bool = True) -> dict[str, Tensor]:
        """A copy of the tensors to use: of the averaged network where there is one (and `averaged`), batch
        normalisation averaged over the processes. All processes must ask."""
        network = self.average if averaged and self.average is not None else self.network
        state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        buffers = {name for name, _ in network.named_buffers()}
        self.processes.average([t for name, t in state.items() if name in buffers and t.is_floating_point()])
        return state

    def leave(self) -> None:
        """Learns no more beside other processes: what connects them can be taken down."""
        self._spread, self._parallel = self.network, None

    def state(self) -> dict[str, Any]:
        """All that another `Learner` needs to go on; tensors and plain values. All processes must ask."""
        return {
            "network": self.weights(averaged=False),
            "average": self.weights() if self.average is not None else None,
            "averaged_steps": self._averaged_steps,
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self._averaged_steps = state["averaged_steps"]
        # How steps are computed is this run's matter (its ``speed``, its device), not the saved one's.
        groups = [{**group, "fused": self._fused or None} for group in state["optimizer"]["param_groups"]]
        self._optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        self._scaler.load_state_dict(state["scaler"])


class _NormStatistics:
    """Running statistics of batch normalisation when a step has several micro-batches.

    Each micro-batch updates the statistics the step began with, and the results are averaged: the same as if each had
    been a process's own, so that accumulating equals running in parallel.
    """

    def __init__(self, network: nn.Module) -> None:
        norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
        everything = [buffer for m in norms for buffer in m.buffers()]
        self.buffers = [buffer for buffer in everything if buffer.is_floating_point()]
        self.counters = [buffer for buffer in everything if not buffer.is_floating_point()]

    @torch.no_grad()
    def begin(self) -> None:
        self.start = [buffer.clone() for buffer in self.buffers]
        self.counts = [counter.clone() for counter in self.counters]
        self.sum = [torch.zeros_like(buffer) for buffer in self.buffers]

    @torch.no_grad()
    def next(self, last: bool, total: int) -> None:
        """After each micro-batch; `total` of them make the step."""
        if total == 1:
            return
        for buffer, start, summed in zip(self.buffers, self.start, self.sum, strict=True):
            summed += buffer
            buffer.copy_(summed / total if last else start)
        if not last:
            for counter, value in zip(self.counters, self.counts, strict=True):
                counter.copy_(value)


@contextmanager
def _norms_told(samples: int) -> Iterator[None]:
    """PoseError where a norm sees one value of each channel, which has no deviation: one sample's map of one pixel."""
    try:
        yield
    except ValueError as error:
        if samples > 1 or "more than 1 value per channel" not in str(error):
            raise
        what = "a norm of this network cannot learn from one sample a pass"
        raise PoseError(what, "training settings", "batch = 2 or more (and accumulate less)") from None


def _can_fuse_steps() -> bool:
    """Whether the fused optimizer takes our networks: before PyTorch 2.5 it refuses a weight whose gradient has another
    stride in an axis of length one, where strides mean nothing (pytorch/pytorch#134546)."""
    major, minor = torch.__version__.split(".")[:2]
    return (int(major), int(minor)) >= (2, 5)


def _make_optimizer(network: nn.Module, settings: TrainSettings, *, fused: bool = False) -> torch.optim.Optimizer:
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr, fused=True) if fused else kind(groups, lr=settings.lr)


@torch.no_grad()
def follow_average(average: Mapping[str, Tensor], network: nn.Module, decay: float) -> None:
    """Moves averaged weights, by name as in `nn.Module.state_dict`, ``1 - decay`` of the way to a network's; counters
    become the network's."""
    now = network.state_dict()
    values = [name for name, tensor in now.items() if tensor.is_floating_point()]
    torch._foreach_lerp_([average[name] for name in values], [now[name] for name in values], 1 - decay)
    for name in now.keys() - set(values):
        average[name].copy_(now[name])
