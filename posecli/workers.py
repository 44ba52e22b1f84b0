"""Threads that compute on one core each, for networks so small that threads within one wait longer than they compute.

A convolution of a crop of 160 x 160 takes 50 microseconds; two threads that share it meet after each, and whenever
other stages want the cores too one of them waits for a whole turn of the scheduler. So people are shared out instead.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import torch

from posecli.turns import AT_ONCE, LATER, Cores, away

__all__ = ["CallCosts", "Workers", "on_one_core", "several_threads"]

T = TypeVar("T")

#: Pictures that a call of a network has at least where they are shared out, while nobody knows what calls cost.
LEAST_SHARE = 6
_KEPT = 0.99  # of what earlier calls said, with each call
_SPREAD = 0.02  # variance of the numbers of pictures below which calls are too much alike to tell


def on_one_core() -> None:
    """From here on the calling thread's networks compute in it alone."""
    torch.set_num_threads(1)


class _OneOpenCVThread:
    """While anybody is inside OpenCV uses no threads of its own. Its number is the whole process's, so that only the
    last who leaves may restore what the first found."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before = 1

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = cv2.getNumThreads()
                cv2.setNumThreads(1)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                cv2.setNumThreads(self._before)


_one_opencv_thread = _OneOpenCVThread()


@contextlib.contextmanager
def several_threads() -> Iterator[int]:
    """While it lasts threads may be `on_one_core`, and OpenCV uses no threads of its own. Gives the number of threads
    that the calling thread's networks have, and has again afterwards."""
    # What a thread chooses becomes the choice of those started later.
    count = torch.get_num_threads()
    with _one_opencv_thread:
        try:
            yield count
        finally:
            torch.set_num_threads(count)


class CallCosts:
    """What calls of a network take on this machine: so much each, and so much for every picture in it.

    Both are read off the calls as they are made, by least squares. They lie far apart: with AMX a call takes as long as
    three pictures, without as long as half a picture.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Sums over the calls: 1, pictures, their squares, seconds, pictures times seconds.
        self._sums = [0.0] * 5

    def add(self, pictures: float, seconds: float) -> None:
        """A call took so many seconds of processor time for so many pictures (larger ones count as more)."""
        new = (1.0, pictures, pictures**2, seconds, pictures * seconds)
        with self._lock:
            self._sums = [_KEPT * old + now for old, now in zip(self._sums, new, strict=True)]

    @property
    def least_share(self) -> int:
        """Pictures that a call is to have at least where they are shared out: that the call itself takes no longer than
        half of them. From 2, since two calls for two take longer all in all, to `LEAST_SHARE`, also while nobody can
        tell."""
        with self._lock:
            count, pictures, squares, seconds, products = self._sums
        spread = count * squares - pictures**2
        if spread <= _SPREAD * count**2:
            return LEAST_SHARE
        each = (count * products - pictures * seconds) / spread
        call = (seconds - each * pictures) / max(count, 1.0)
        if each <= 0:
            return LEAST_SHARE
        return min(max(2, math.ceil(2 * call / each)), LEAST_SHARE)


class Workers:
    """Does several things at once, each on one core: in the calling thread and in others. Close it.

    Args:
        most: things at once.
        cores: that the others take turns on.
        count: how many things at once are worth it now; by default always as many as may be.
        costs: of the calls that are shared out, where results don't depend on how.

    Attributes:
        costs: these.
    """

    def __init__(
        self, most: int, cores: Cores, count: Callable[[], int] | None = None, costs: CallCosts | None = None
    ) -> None:
        self._most, self._cores, self._count = most, cores, count
        self.costs = costs
        self._pool = ThreadPoolExecutor(max(1, most - 1), "worker", initializer=on_one_core)

    @property
    def count(self) -> int:
        """Into how many pieces work is to be shared out now."""
        return self._most if self._count is None else max(1, min(self._most, self._count()))

    @property
    def least_share(self) -> int:
        """Pictures that a call is to have at least."""
        return LEAST_SHARE if self.costs is None else self.costs.least_share

    def each(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """What each piece gives, in order; the first error is raised when all have ended."""

        def on_its_core(piece: Callable[[], T]) -> T:
            with self._cores.turn(AT_ONCE):
                return piece()

        futures = [self._pool.submit(on_its_core, piece) for piece in work[1:]]
        found: list[T] = []
        errors: list[BaseException] = []
        for piece, future in zip(work, [None, *futures], strict=True):
            try:
                # What nobody has begun is done here.
                if future is None or future.cancel():
                    found.append(piece())
                else:
                    with away():
                        found.append(future.result())
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return found

    def meanwhile(self, piece: Callable[[], None]) -> None:
        """Does something in another thread, some time. Its error counts nothing: whoever needs what it makes and does
        not find it makes it again."""

        def on_its_core() -> None:
            with self._cores.turn(LATER), contextlib.suppress(Exception):
                piece()

        self._pool.submit(on_its_core)

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
