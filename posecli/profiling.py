"""Where the time of a run goes: `stage` around every step, a table at the end. Costs one comparison a step when off.

Core-seconds are those of the step's own thread, and for networks those of the library's pool as well: what the process
used meanwhile, less what is known to belong to other threads. Decoders' and encoders' own threads are told by their
names, which only Linux shows; elsewhere their time is counted to the network they ran beside.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["Profile", "Usage", "name_thread", "profiled", "stage", "stage_of", "wait"]

T = TypeVar("T")
_TASKS = Path("/proc/self/task")
_SEARCH_EVERY = 0.1  # seconds between searches for new threads
_READINGS = 5  # tries at one reading of all clocks
_SHARP = 0.002  # core-seconds that may go by within a reading
_active: Profile | None = None
_off: AbstractContextManager[None] = contextlib.nullcontext()


@dataclass
class Usage:
    """What a stage took: seconds on the clock, core-seconds, times it ran."""

    seconds: float = 0.0
    core_seconds: float = 0.0
    calls: int = 0


@dataclass
class Profile:
    """What was measured; filled by `stage` and `wait` while it is active (`profiled`).

    Attributes:
        stages: by name, in the order of first use.
        waits: seconds that a thread waited for another, by what it waited for.
        seconds, core_seconds: of everything between begin and end, all threads.
        measuring: core-seconds of them that measuring itself took.
    """

    stages: dict[str, Usage] = field(default_factory=dict)
    waits: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    core_seconds: float = 0.0
    measuring: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _clocks: dict[int, tuple[int, float]] = field(default_factory=dict, repr=False)
    _helpers: dict[str, tuple[str, float]] = field(default_factory=dict, repr=False)
    _owner: dict[str, int] = field(default_factory=dict, repr=False)
    _names: dict[str, str] = field(default_factory=dict, repr=False)
    _files: dict[str, int] = field(default_factory=dict, repr=False)
    _next_search: float = field(default=0.0, repr=False)
    _own_tasks: set[str] = field(default_factory=set, repr=False)

    def table(self, frames: int) -> dict[str, Any]:
        """The result as plain values: rows with shares, waits, and the stage that sets the pace.

        The pace is set by the thread that waits least for the others; the stage is the longest of that thread.
        """
        known = sum(usage.core_seconds for usage in self.stages.values()) + self.measuring
        rows = [
            {
                "stage": name,
                "seconds": round(usage.seconds, 4),
                "core_seconds": round(usage.core_seconds, 4),
                "share": round(usage.core_seconds / max(self.core_seconds, known, 1e-9), 4),
                "ms_per_frame": round(1000 * usage.core_seconds / max(frames, 1), 3),
                "calls": usage.calls,
            }
            for name, usage in self.stages.items()
        ]
        besides = {"measuring": self.measuring, "other": max(self.core_seconds - known, 0.0)}
        rows += [
            {
                "stage": name,
                "seconds": None,
                "core_seconds": round(core_seconds, 4),
                "share": round(core_seconds / max(self.core_seconds, known, 1e-9), 4),
                "ms_per_frame": round(1000 * core_seconds / max(frames, 1), 3),
                "calls": None,
            }
            for name, core_seconds in besides.items()
        ]
        busy: dict[int, float] = {}
        for name, usage in self.stages.items():
            busy[self._owner[name]] = busy.get(self._owner[name], 0.0) + usage.seconds
        limit = None
        if busy:
            slowest = max(busy, key=lambda thread: busy[thread])
            limit = max(
                (n for n in self.stages if self._owner[n] == slowest), key=lambda name: self.stages[name].seconds
            )
        return {
            "frames": frames,
            "seconds": round(self.seconds, 4),
            "core_seconds": round(self.core_seconds, 4),
            "frames_per_second": round(frames / max(self.seconds, 1e-9), 2),
            "cores": os.cpu_count(),
            "stages": rows,
            "waits": {name: round(seconds, 4) for name, seconds in self.waits.items()},
            "limit": limit,
        }

    def _enter(self) -> None:
        """Makes the clock of the calling thread known."""
        ident = threading.get_ident()
        if ident not in self._clocks and hasattr(time, "pthread_getcpuclockid"):
            with self._lock:
                self._clocks[ident] = (time.pthread_getcpuclockid(ident), time.thread_time())

    def _unnamed_threads(self) -> float:
        """Core-seconds so far of threads that are not known by themselves: a library's own.

        The process' clock less those of the known threads, which go on while they are read, on a busy machine for a
        whole turn of the scheduler. So the process' clock is read before and after, and again if much went by.
        """
        best, found = float("inf"), 0.0
        for _ in range(_READINGS):
            before = time.process_time()
            known = self._known_threads()
            after = time.process_time()
            if after - before < best:
                best, found = after - before, (before + after) / 2 - known
            if best < _SHARP:
                break
        return found

    def _known_threads(self) -> float:
        """Core-seconds so far of the threads that are known by themselves, the calling one included."""
        total = 0.0
        with self._lock:
            for ident, (clock, last) in self._clocks.items():
                # A thread that has ended has no clock any more; its last reading stays.
                with contextlib.suppress(OSError):
                    last = time.clock_gettime(clock)
                    self._clocks[ident] = (clock, last)
                total += last
            return total + sum(seconds for _, seconds in self._read_helpers().values())

    def _read_helpers(self) -> dict[str, tuple[str, float]]:
        """Decoders' and encoders' own threads: number to name and core-seconds, also of those that have ended."""
        now = time.perf_counter()
        if now >= self._next_search:
            self._next_search = now + _SEARCH_EVERY
            self._find_helpers()
        for task, file in list(self._files.items()):
            try:
                self._helpers[task] = (self._names[task], int(os.pread(file, 64, 0).split()[0]) / 1e9)
            except (OSError, ValueError, IndexError):
                # The thread has ended; its last reading stays.
                os.close(self._files.pop(task))
        return self._helpers

    def _find_helpers(self) -> None:
        """Opens the clocks of threads that are new."""
        with contextlib.suppress(OSError):
            for task in os.listdir(_TASKS):
                if task not in self._names:
                    with contextlib.suppress(OSError):
                        self._names[task] = (_TASKS / task / "comm").read_text().strip()
                        if self._names[task].startswith(("av:", "encode")) and task not in self._own_tasks:
                            self._files[task] = os.open(_TASKS / task / "schedstat", os.O_RDONLY)

    def _settle(self) -> None:
        """Adds the time of decoders' and encoders' own threads to their stages."""
        self._next_search = 0.0
        for name, seconds in self._read_helpers().values():
            owner = "decode" if name.startswith("av:") else "draw and encode"
            if owner in self.stages:
                self.stages[owner].core_seconds += seconds
        while self._files:
            os.close(self._files.popitem()[1])

    def _add(self, name: str, seconds: float, core_seconds: float) -> None:
        with self._lock:
            if time.perf_counter() >= self._next_search:
                # They end with their source, and nobody can ask them afterwards.
                self._read_helpers()
            usage = self.stages.setdefault(name, Usage())
            self._owner.setdefault(name, threading.get_ident())
            usage.seconds += seconds
            usage.core_seconds += core_seconds
            usage.calls += 1

    def _measuring(self, core_seconds: float) -> None:
        with self._lock:
            self.measuring += core_seconds

    def _wait(self, name: str, seconds: float) -> None:
        with self._lock:
            self.waits[name] = self.waits.get(name, 0.0) + seconds


@contextlib.contextmanager
def profiled() -> Iterator[Profile]:
    """Everything within is measured; read the profile after leaving. One at a time in a process."""
    global _active
    if _active is not None:
        raise RuntimeError("a profile is being taken already")
    profile = Profile()
    began, used = time.perf_counter(), time.process_time()
    _active = profile
    try:
        yield profile
    finally:
        _active = None
        profile.seconds, profile.core_seconds = time.perf_counter() - began, time.process_time() - used
        profile._settle()


def stage(name: str, *, pool: bool = False) -> AbstractContextManager[None]:
    """Counts what happens within to a stage.

    Args:
        name: of the stage; stages don't lie in each other.
        pool: a library computes this in threads of its own, whose time is to be counted too.
    """
    return _off if _active is None else _measure(_active, name, pool)


@contextlib.contextmanager
def _measure(profile: Profile, name: str, pool: bool) -> Iterator[None]:
    begun = time.thread_time()
    profile._enter()
    unnamed = profile._unnamed_threads() if pool else 0.0
    own, began = time.thread_time(), time.perf_counter()
    try:
        yield
    finally:
        ended, seconds = time.thread_time(), time.perf_counter() - began
        core = ended - own
        if pool:
            core += max(profile._unnamed_threads() - unnamed, 0.0)
        profile._add(name, seconds, core)
        profile._measuring(own - begun + time.thread_time() - ended)


def wait(name: str) -> AbstractContextManager[None]:
    """Counts what happens within as waiting for another thread."""
    return _off if _active is None else _waiting(_active, name)


@contextlib.contextmanager
def _waiting(profile: Profile, name: str) -> Iterator[None]:
    began = time.perf_counter()
    try:
        yield
    finally:
        profile._wait(name, time.perf_counter() - began)


def stage_of(items: Iterable[T], name: str) -> Iterator[T]:
    """The same items; making each of them is counted to a stage."""
    iterator = iter(items)
    try:
        while True:
            with stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
    finally:
        close: Callable[[], None] | None = getattr(iterator, "close", None)
        if close is not None:
            close()


def name_thread(name: str) -> None:
    """Names the calling thread for the system, so that threads that a library starts from it are told apart."""
    if _active is None:
        return
    with contextlib.suppress(OSError):
        _active._own_tasks.add(str(threading.get_native_id()))
        (_TASKS / str(threading.get_native_id()) / "comm").write_text(name)
