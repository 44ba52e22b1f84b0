"""The processes of a run started by `torchrun` (or SLURM): who am I, sums over all, one decision for all.

One process needs none of it: every function then returns what it was given.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor

from posecli.errors import PoseError


@dataclass(frozen=True)
class Processes:
    """`rank` of this process among `world`, and the number of its CUDA `device`, if it has one."""

    rank: int = 0
    world: int = 1
    device: int = 0

    @property
    def first(self) -> bool:
        """Whether this process talks, logs and saves."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The element-wise sum over all processes."""
        if self.world > 1:
            values = values.clone()
            torch.distributed.all_reduce(values)
        return values

    def average(self, tensors: list[Tensor]) -> None:
        """Replaces floating point tensors by their mean over all processes."""
        if self.world > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
                tensor /= self.world

    def agreed(self, values: list[float]) -> list[float]:
        """The first process's numbers."""
        if self.world == 1:
            return values
        shared = torch.tensor(values, dtype=torch.float64)
        torch.distributed.broadcast(shared, 0)
        return shared.tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.world > 1:
            torch.distributed.barrier()


@contextmanager
def join_processes(device_kind: str) -> Iterator[Processes]:
    """The processes of this run by the environment: torchrun's variables, or SLURM's with MASTER_ADDR set.

    NCCL connects CUDA devices, gloo everything else, also the counts and sums that such a run keeps on the host. Each
    process's own device becomes its current one: of those it sees the one of its number on the machine, or the only one
    (`srun --gpus-per-task=1`). Leaves the group at the end.

    Raises:
        PoseError: the environment makes no sense; a process without a CUDA device of its own.
    """
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
    if "RANK" not in os.environ:
        names = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
    try:
        rank, world, local = (int(os.environ.get(n, alone)) for n, alone in zip(names, (0, 1, 0), strict=True))
    except ValueError:
        raise PoseError(f"{', '.join(names)} must be numbers", "environment", "start with torchrun") from None
    # A plain `posecli train` inside an interactive SLURM allocation is one process.
    if world == 1 or "MASTER_ADDR" not in os.environ:
        yield Processes()
        return
    device = _take_device(local) if device_kind == "cuda" else 0
    os.environ.setdefault("MASTER_PORT", "29500")
    backend = "cpu:gloo,cuda:nccl" if device_kind == "cuda" else "gloo"
    # Functions of this module take the group of the moment at which it is imported, which DistributedDataParallel does,
    # as a default, and would hold it for ever.
    importlib.import_module("torch.distributed.nn")
    torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    try:
        if device_kind == "cuda":
            _refuse_shared_device(device, local, world)
        yield Processes(rank, world, device)
    finally:
        # Whoever still holds the group keeps gloo's threads at work, and one that lets go of a tensor while Python ends
        # is stopped within a destructor, which aborts the process. DistributedDataParallel lies in a circle.
        gc.collect()
        torch.distributed.destroy_process_group()


def _take_device(local: int) -> int:
    """Else what names no device (streams, pinned memory, NCCL's barriers) would be the first one's in all processes."""
    count = torch.cuda.device_count()
    device = 0 if count == 1 else local
    if device >= count:
        raise _no_device(local, count)
    torch.cuda.set_device(device)
    return device


def _refuse_shared_device(device: int, local: int, world: int) -> None:
    """PoseError where another process has the same device: whoever sees one only can't know it by himself, and NCCL
    fails later."""
    name = getattr(torch.cuda.get_device_properties(device), "uuid", None)  # PyTorch before 2.5 tells none
    own = f"process {torch.distributed.get_rank()}" if name is None else str(name)
    mark = torch.tensor([int.from_bytes(hashlib.sha256(own.encode()).digest()[:7])])
    everybody = [torch.zeros_like(mark) for _ in range(world)]
    torch.distributed.all_gather(everybody, mark)
    if sum(int(other) == int(mark) for other in everybody) > 1:
        raise _no_device(local, torch.cuda.device_count())


def _no_device(local: int, count: int) -> PoseError:
    what = f"process {local + 1} of this machine has no CUDA device of its own: it sees {count}"
    return PoseError(what, hint="start as many processes as there are devices, or --device cpu")
