"""Which of several threads computes: no more at once than there are cores, the most urgent first.

To the operating system threads are all alike, and so it lets the one that the others wait for stand aside for
milliseconds while frames are decoded that nobody wants yet. `Cores` hands the cores out instead: a thread takes one to
compute (`Cores.turn`), gives it back while it waits (`away`), and lets others go first where it can be interrupted
(`give_way`). A thread that takes no turns is not held up.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
from collections.abc import Iterator

__all__ = ["AT_ONCE", "LATER", "Cores", "away", "give_way"]

#: How urgent a turn is: what others wait for; what may run ahead of them.
AT_ONCE, LATER = 0, 1


class _Mine(threading.local):
    """The core that a thread has, and how urgent its turn is."""

    cores: Cores | None = None
    rank = LATER


_mine = _Mine()


class Cores:
    """So many cores, for threads that take turns."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()
        self._order = itertools.count()
        # Who waits: how urgent, since when, and the lock that is opened when a core is theirs.
        self._waiting: list[tuple[int, int, threading.Lock]] = []

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

    def _take(self, rank: int) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            heapq.heappush(self._waiting, (rank, next(self._order), mine))
        mine.acquire()

    def _leave(self) -> None:
        with self._lock:
            if self._waiting:
                heapq.heappop(self._waiting)[2].release()
            else:
                self._free += 1

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
