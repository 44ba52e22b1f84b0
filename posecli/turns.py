"""Which of several threads computes: no more at once than there are cores, the most urgent first.

To the operating system threads are all alike, and so it lets the one that the others wait for stand aside for
milliseconds while frames are decoded that nobody wants yet. `Cores` hands the cores out instead: a thread takes one to
compute (`Cores.turn`), gives it back while it waits (`away`), and lets others go first where it can be interrupted
(`give_way`). A thread that takes no turns is not held up.

Where all of the machine's cores are taken turns on, a thread also runs on the very core that it was given (`bound`):
left to itself Linux lets two threads wait for each other on one core while another is idle, for up to 4 milliseconds,
since looking for a core seems dearer to it than such short rests. Only while no other program wants the cores: a thread
that is bound could not make room for it.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["AT_ONCE", "LATER", "Cores", "away", "bound", "give_way"]

#: How urgent a turn is: what others wait for; what may run ahead of them.
AT_ONCE, LATER = 0, 1


_CORES = Path("/sys/devices/system/cpu")
_LOOK = 0.3  # seconds between looks at what other programs do
_OTHERS = 0.1  # cores that they may keep busy


def _busy() -> float | None:
    """Seconds so far for which the machine's cores were busy, all together; None where it doesn't tell."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            ticks = [int(n) for n in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK") if len(ticks) == 8 else None


def bound(count: int) -> tuple[int, ...]:
    """The system's numbers of so many cores, for `Cores` to bind threads to: where the process may use just as many,
    which others then do without, and they are alike; else none. None with ``POSECLI_BIND=0``, and where the system
    doesn't tell."""
    if os.environ.get("POSECLI_BIND") == "0" or not hasattr(os, "sched_setaffinity"):
        return ()
    mine = tuple(sorted(os.sched_getaffinity(0)))
    return mine if len(mine) == count and _alike(mine) else ()


def _alike(cores: Sequence[int]) -> bool:
    """Whether no core is slower than another, as laptops have them: the system must be free to choose between those."""
    speeds = set()
    for core in cores:
        try:
            speeds.add((_CORES / f"cpu{core}" / "cpufreq" / "cpuinfo_max_freq").read_text("ascii").strip())
        except OSError:
            speeds.add("")  # virtual machines say nothing
    return len(speeds) == 1


class _Mine(threading.local):
    """The core that a thread has, and how urgent its turn is; ``at``: the core that it is bound to."""

    cores: Cores | None = None
    rank = LATER
    core = 0
    at: int | None = None


_mine = _Mine()


class _Waiting(threading.Event):
    """Somebody who waits for a core; ``core`` is given before the event is set."""

    core = 0


class Cores:
    """So many cores, for threads that take turns.

    Args:
        count: how many.
        bind: their numbers in the system, where threads are to be bound to them (`bound`).
    """

    def __init__(self, count: int, bind: Sequence[int] = ()) -> None:
        if bind and len(bind) != count:
            raise ValueError(f"{count} cores cannot be {list(bind)}")
        self._bind = tuple(bind)
        self._everywhere = set(self._bind)
        self._alone = False  # whether other programs leave the cores alone
        self._looked = (time.monotonic(), time.process_time(), _busy())
        self._free = list(range(count))
        self._lock = threading.Lock()
        self._order = itertools.count()
        # Who waits: how urgent, since when, and who.
        self._waiting: list[tuple[int, int, _Waiting]] = []

    @property
    def binds(self) -> bool:
        """Whether threads are bound to the cores that they have."""
        return bool(self._bind)

    @contextlib.contextmanager
    def turn(self, rank: int) -> Iterator[None]:
        """While it lasts the calling thread has a core; it waits for one, the most urgent (lowest) first, and of those
        who waits longest. Turns don't lie in each other."""
        self._take(rank)
        _mine.cores, _mine.rank = self, rank
        try:
            yield
        finally:
            _mine.cores = None
            self._leave()
            self._go_to(None)

    def _take(self, rank: int) -> None:
        with self._lock:
            if self._free:
                _mine.core = self._free.pop(self._free.index(_mine.core) if _mine.core in self._free else 0)
                waiting = None
            else:
                waiting = _Waiting()
                heapq.heappush(self._waiting, (rank, next(self._order), waiting))
        if waiting is not None:
            waiting.wait()
            _mine.core = waiting.core
        if self._bind:
            self._look()
            self._go_to(self._bind[_mine.core] if self._alone else None)

    def _go_to(self, core: int | None) -> None:
        """Binds the calling thread to a core, or to none."""
        if _mine.at != core:
            _mine.at = core
            os.sched_setaffinity(0, self._everywhere if core is None else {core})

    def _look(self) -> None:
        """From time to time looks at whether other programs want the cores."""
        with self._lock:
            before, own, busy = self._looked
            passed = time.monotonic() - before
            if passed < _LOOK:
                return
            now = self._looked = (before + passed, time.process_time(), _busy())
            if busy is not None and now[2] is not None:
                self._alone = now[2] - busy - (now[1] - own) < _OTHERS * passed

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                first = heapq.heappop(self._waiting)[2]
                first.core = _mine.core
                first.set()
            else:
                self._free.append(_mine.core)

    def _wanted(self, rank: int) -> bool:
        """Whether somebody waits who is as urgent."""
        with self._lock:
            return bool(self._waiting) and self._waiting[0][0] <= rank


@contextlib.contextmanager
def away() -> Iterator[None]:
    """While it lasts the calling thread waits for something, and others may have its core, if it has one."""
    cores, rank = _mine.cores, _mine.rank
    if cores is None:
        yield
        return
    cores._leave()
    try:
        yield
    finally:
        cores._take(rank)


def give_way() -> None:
    """Lets others go first who wait for a core and are as urgent, if the calling thread has one."""
    cores, rank = _mine.cores, _mine.rank
    if cores is not None and cores._wanted(rank):
        cores._leave()
        cores._take(rank)
