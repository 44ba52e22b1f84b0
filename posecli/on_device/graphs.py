"""A network's kernels, recorded once for a shape of its input and replayed from then on (CUDA graphs).

A small network on a fast device spends its time in starting kernels one by one from Python; a graph starts all of them
at once. A graph is bound to addresses: what comes in is copied to where the recording read it, what comes out is copied
from where it wrote, so that results stay what they were when the next one is made.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

#: Graphs kept. They use the same memory in turn; only what comes in and goes out is each one's own.
MOST_GRAPHS = 16
#: Runs before the recording: libraries choose their kernels in them.
_WARM = 3
#: A shape is recorded when it comes for this time: a folder of pictures may have many that come once.
PATIENCE = 3
#: Calls for which a recording is kept although it is not used.
_KEPT_CALLS = 500

#: Sizes of batches that graphs are made for: others are filled up to the next of them.
_FULL = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)


class Recorder(Protocol):
    """Records what a function launches."""

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """What replays ``run``, and the output that is written anew by each replay."""


class CudaRecorder:
    """Recordings by `torch.cuda.graph`; all share one pool of memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._side: Any = None
        # Those that somebody still holds. The pool goes with the last of them: PyTorch refuses one that nobody uses.
        self._living: weakref.WeakSet[Any] = weakref.WeakSet()

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        """See `Recorder`. Other threads may upload pictures meanwhile."""
        with torch.cuda.device(self._device):
            current = torch.cuda.current_stream()
            # One stream of the device's own for all of them: what libraries keep for a stream (workspaces) is made in
            # the runs before, not in the recordings' pool; and PyTorch's stream is on the device that recorded first.
            side = self._side = self._side or torch.cuda.Stream()
            side.wait_stream(current)
            # The outer one: `torch.cuda.graph` leaves its stream the current one where what it recorded is refused.
            with torch.cuda.stream(current), measured_convolutions():
                with torch.cuda.stream(side):
                    for _ in range(_WARM):
                        run()
                current.wait_stream(side)
                graph = torch.cuda.CUDAGraph()
                pool = next((other.pool() for other in self._living), None)
                with torch.cuda.graph(graph, pool=pool, stream=side, capture_error_mode="thread_local"):
                    output = run()
            self._living.add(graph)
        return graph.replay, output


@contextlib.contextmanager
def measured_convolutions() -> Iterator[None]:
    """Meanwhile the library measures which of its convolutions is the quickest for a shape, and remembers it."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Replays:
    """Calls a network through recordings, one for each shape of input.

    Args:
        recorder: makes the recordings.
        most: recordings kept. Where there is no room for another the network is called, until one has not been used
            for ``kept`` calls.
        patience: how often a shape has to come before it is recorded.
    """

    def __init__(
        self, recorder: Recorder, most: int = MOST_GRAPHS, patience: int = PATIENCE, kept: int = _KEPT_CALLS
    ) -> None:
        self._recorder = recorder
        self._most, self._patience, self._kept = most, patience, kept
        self._made: OrderedDict[tuple[Any, ...], tuple[Tensor, Callable[[], None], Any]] = OrderedDict()
        self._met: dict[tuple[Any, ...], int] = {}  # how often, of shapes not recorded yet
        self._used: dict[tuple[Any, ...], int] = {}  # the last call that replayed it
        self._calls = 0
        self._lock = threading.Lock()

    def __call__(self, network: Callable[[Tensor], Any], values: Tensor) -> Any:
        """The network's output for a batch (B, ...), as `network(values)` gives it within rounding.

        Batches are filled up to one of few sizes by copies of their last row, which changes no other row.
        """
        count = len(values)
        with self._lock:
            full = self._size_for(count, id(network), values)
            key = (id(network), full, values.shape[1:], values.dtype)
            self._calls += 1
            if key not in self._made:
                if not self._worth(key):
                    return network(values)
                given = torch.empty_like(_filled(values, full))
                given.copy_(_filled(values, full))
                replay, output = self._recorder.record(lambda: network(given))
                # The network is kept with its recording, so that its id stays its own.
                self._made[key] = (given, replay, (output, network))
            self._made.move_to_end(key)
            self._used[key] = self._calls
            given, replay, (output, _) = self._made[key]
            given[:count].copy_(values)
            if count < full:
                given[count:].copy_(values[-1:].expand(full - count, *values.shape[1:]))
            replay()
            return copied(output, count)

    def _worth(self, key: tuple[Any, ...]) -> bool:
        """Whether a shape has come often enough to be recorded, and there is room for it."""
        if len(self._met) > _KEPT_CALLS:
            self._met.clear()
        self._met[key] = self._met.get(key, 0) + 1
        if self._met[key] < self._patience:
            return False
        if len(self._made) >= self._most:
            oldest = next(iter(self._made))
            if self._calls - self._used[oldest] <= self._kept:
                return False
            del self._made[oldest], self._used[oldest]
        del self._met[key]
        return True

    def _size_for(self, count: int, network: int, values: Tensor) -> int:
        """What a batch is filled up to: the next of the sizes, or one that is recorded and at most twice as large."""
        full = next((n for n in _FULL if n >= count), count)
        made = [
            n for who, n, shape, kind in self._made if (who, shape, kind) == (network, values.shape[1:], values.dtype)
        ]
        return min((n for n in made if full <= n <= 2 * full), default=full)

    def __len__(self) -> int:
        return len(self._made)

    def clear(self) -> None:
        """Forgets all recordings and frees what they hold."""
        with self._lock:
            self._made.clear()
            self._used.clear()


def _filled(values: Tensor, full: int) -> Tensor:
    if len(values) == full:
        return values
    more = values[-1:].expand(full - len(values), *values.shape[1:])
    return torch.cat([values, more]).contiguous(memory_format=torch.channels_last)


def copied(output: Any, count: int) -> Any:
    """A copy of the first ``count`` rows of every tensor of a network's output (tuples, lists, mappings of tensors)."""
    if isinstance(output, Tensor):
        return output[:count].clone()
    if isinstance(output, tuple | list):
        rows = [copied(part, count) for part in output]
        return type(output)(*rows) if hasattr(output, "_fields") else type(output)(rows)
    if isinstance(output, dict):
        return {name: copied(part, count) for name, part in output.items()}
    return output
