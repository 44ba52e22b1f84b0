"""The processes of a run started by `torchrun` (or SLURM): who am I, sums over all, one decision for all.

One process needs none of it: every function then returns what it was given.
"""

from __future__ import annotations

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
    """`rank` of this process among `world`, and `local_rank` among those of its machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

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
    process's own device becomes its current one. Leaves the group at the end.
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
    if device_kind == "cuda":
        _take_device(local)
    os.environ.setdefault("MASTER_PORT", "29500")
    backend = "cpu:gloo,cuda:nccl" if device_kind == "cuda" else "gloo"
    torch.distributed.init_process_group(backend, rank=rank, world_size=world)
    try:
        yield Processes(rank, world, local)
    finally:
        torch.distributed.destroy_process_group()


def _take_device(local: int) -> None:
    """Else what names no device (streams, pinned memory, NCCL's barriers) would be the first one's in all processes."""
    count = torch.cuda.device_count()
    if local >= count:
        what = f"process {local + 1} of this machine has no CUDA device of its own: there are {count}"
        raise PoseError(what, hint=f"start {count} processes on it, or --device cpu")
    torch.cuda.set_device(local)
