"""Work on a Ray cluster: which one, how much room it has, and a function over many values as Ray tasks.

Ray: https://docs.ray.io (`ray.init`, tasks with ``max_retries``, actors with ``max_restarts``); tested with 2.60. Ray
places, retries and reports. The actors that hold a model are in `posecli.cluster`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from posecli.errors import MissingExtra, PoseError, UsageError

__all__ = ["TRIES", "Cluster", "Failure", "connected", "each_on_ray", "failure_of", "room"]

TRIES = 20  # deaths of a worker after which its task is given up: a file may be what kills it
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cluster:
    """Where tasks run.

    Attributes:
        address: of a Ray cluster; ``"auto"``: the one of this machine, started if there is none.
        workers: processes at a time; None: as many as there is room for.
        cpus, gpus: that each of them takes; parts of a GPU may be shared.
    """

    address: str = "auto"
    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0

    @classmethod
    def asked(cls, address: str | None, workers: int | None, cpus: float, gpus: float = 0.0) -> Cluster | None:
        """What a verb's options ask for, or None; UsageError where they speak of workers and of no cluster."""
        if address is not None:
            return cls(address, workers, cpus, gpus)
        if workers is not None or (cpus, gpus) != (cls.cpus, cls.gpus):
            raise UsageError("--ray-workers, --ray-cpus and --ray-gpus are for --ray", hint="--ray auto")
        return None

    def without_gpus(self, here: str) -> str:
        """What is to be warned of, or nothing, by the kind of device that this process takes: workers that ask Ray for
        no GPU see none (RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO, the default until 2026), or all share the first."""
        if self.gpus > 0 or here != "cuda":
            return ""
        return "--ray's workers ask for no GPU: they see none, or all share one; --ray-gpus 1 gives each its own"


@dataclass(frozen=True)
class Failure:
    """Why a task could not be done."""

    name: str
    reason: str


def each_on_ray(
    function: Callable[[Item], Result], items: Sequence[Item], cluster: Cluster, name: Callable[[Item], str] = str
) -> Iterator[tuple[Item, Result | Failure]]:
    """Yields each item with what the function makes of it, as they are finished; a failure does not stop the others.

    Args:
        function: of a module, so that workers find it; may be run again for an item whose worker was killed.
        items: plain values; paths in them must mean the same everywhere.
        name: what an item is called in messages.

    Raises:
        PoseError: no such cluster, or no room in it for a worker.
        MissingExtra: without Ray.
    """
    if not items:
        return
    with connected(cluster.address) as ray:
        count = room(ray.cluster_resources(), cluster)
        count = 2 * count if cluster.workers is None else cluster.workers
        task = ray.remote(num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=TRIES)(_attempt)
        waiting = list(reversed(items))
        running: dict[Any, Item] = {}
        while waiting or running:
            while waiting and len(running) < count:
                item = waiting.pop()
                running[task.remote(function, item, name(item))] = item
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            item = running.pop(done)
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayError as error:
                yield item, failure_of(name(item), error)


def _attempt(function: Callable[[Item], Result], item: Item, name: str) -> Result | Failure:
    try:
        return function(item)
    except (PoseError, OSError) as error:
        return Failure(name, str(error))


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to the cluster; what was connected here is left at the end."""
    # Ray would send figures of use to its makers, and print whatever workers print.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise MissingExtra("ray", "ray", "--ray") from None
    ours = not ray.is_initialized()
    if ours:
        try:
            ray.init(
                address=None if address == "auto" else address,
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=False,
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise PoseError(f"no Ray cluster there: {str(error).splitlines()[0]}", address, "--ray auto") from None
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()


def room(resources: dict[str, float], cluster: Cluster) -> int:
    """How many workers a cluster with these resources holds; PoseError for none."""
    counts = []
    for name, wanted in (("CPU", cluster.cpus), ("GPU", cluster.gpus)):
        if wanted > 0:
            counts.append(int(resources.get(name, 0.0) / wanted))
    if counts and min(counts) < 1:
        there = ", ".join(f"{resources.get(n, 0):g} {n}s" for n in ("CPU", "GPU"))
        what = f"no room for a worker of {cluster.cpus:g} CPUs and {cluster.gpus:g} GPUs"
        raise PoseError(what, "the cluster", f"it has {there}; see --ray-cpus and --ray-gpus")
    return min(counts) if counts else 1


def failure_of(name: str, error: Exception) -> Failure:
    """What Ray says of a task that could not be done, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if "Error: " in line]
    return Failure(name, f"its worker failed: {told[-1] if told else lines[0] if lines else type(error).__name__}")
