"""How many pictures go through a network together, by the memory there is and what one more picture takes.

`--batch auto` runs the network once for one picture and once for two, on the device and at the size that will be used,
and reads how much memory that took. Which pictures go together changes no result beyond rounding; where memory is
shorter than foreseen, `PoseModel` still halves the batch.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

#: Of the free memory, what may be planned with: libraries take workspaces of their own, other programs grow.
SHARE = 0.6
#: Together at most: beyond, a device gains nothing; a processor gains nothing from the start.
MOST = {"cpu": 8}
MOST_ON_DEVICE = 64

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Fit:
    """What was found: pictures together, bytes that one more takes, bytes that were free."""

    batch: int
    bytes_each: int
    bytes_free: int


def free_bytes(device: torch.device) -> int | None:
    """Memory that can still be taken: the device's, or the machine's within the limits of its container; None where the
    system does not tell."""
    if device.type == "cuda":
        # By its number, which PyTorch before 2.6 wants here.
        free, _ = torch.cuda.mem_get_info(torch.cuda.current_device() if device.index is None else device.index)
        # What PyTorch keeps for itself and does not use can be taken too.
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type != "cpu":
        return None
    return host_free_bytes()


def host_free_bytes(meminfo: Path = Path("/proc/meminfo"), cgroup: Path = _CGROUP) -> int | None:
    """The machine's available memory, or less where a control group (version 2 or 1) has less left."""
    found = []
    with contextlib.suppress(OSError):
        told = re.search(r"MemAvailable:\s*(\d+) kB", meminfo.read_text())
        found += [int(told[1]) * 1024] if told else []
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):  # "max": there is no limit
            limit_bytes = int((cgroup / limit).read_text())
            found.append(max(0, limit_bytes - int((cgroup / used).read_text()) + _cached(cgroup)))
    return min(found) if found else None


def _cached(cgroup: Path) -> int:
    """Of a group's memory, the files that are only cached: they go when memory is wanted."""
    for name in ("memory.stat", "memory/memory.stat"):
        with contextlib.suppress(OSError):
            told = re.search(r"^(?:total_)?inactive_file (\d+)$", (cgroup / name).read_text(), re.MULTILINE)
            return int(told[1]) if told else 0
    return 0


def peak_bytes(run: Callable[[], object], device: torch.device) -> int | None:
    """The most memory in use while something runs; None where the system does not tell."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    # What was freed and is kept for later would serve the run without being seen.
    with contextlib.suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        # Sets the mark of the most resident memory back to what is resident now (proc(5)); Linux only.
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    run()
    told = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(told[1]) * 1024 if told else None


def batch_for(bytes_each: float, free: float, most: int, share: float = SHARE) -> int:
    """The largest power of two, at most ``most``, of which each takes that many bytes; 1 if even that is too much."""
    if bytes_each <= 0:
        return 2 ** int(math.log2(most))
    room = max(1, min(most, int(share * free / bytes_each)))
    return 2 ** int(math.log2(room))


def fitting_batch(
    run: Callable[[int], object], device: torch.device, sizes: Iterable[int] = (1, 2), frame_bytes: int = 0
) -> Fit | None:
    """How many pictures fit, by a run of few.

    Args:
        run: puts a batch of so many pictures through everything that is done with them.
        device: where.
        sizes: two batches whose memory is compared, the smaller first.
        frame_bytes: of a decoded picture; about six batches of them wait or are worked on, on the host.

    Returns:
        None where memory cannot be measured.
    """
    small, large = sizes
    free = free_bytes(device)
    peaks = [peak_bytes(lambda count=count: run(count), device) for count in (small, large)]  # type: ignore[misc]
    if free is None or peaks[0] is None or peaks[1] is None:
        return None
    each = max(peaks[1] - peaks[0], 0) // (large - small)
    most = MOST.get(device.type, MOST_ON_DEVICE)
    batch = batch_for(each, free, most)
    host = host_free_bytes()
    if host is not None and frame_bytes:
        batch = min(batch, batch_for(6 * frame_bytes, host, most, share=SHARE / 2))
    return Fit(batch, each, free)
