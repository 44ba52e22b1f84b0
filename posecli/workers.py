"""Threads that compute on one core each, for networks so small that threads within one wait longer than they compute.

A convolution of a crop of 160 x 160 takes 50 microseconds; two threads that share it meet after each, and whenever
other stages want the cores too one of them waits for a whole turn of the scheduler. So people are shared out instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import torch

from posecli.turns import AT_ONCE, LATER, Cores, away

__all__ = ["Workers", "on_one_core", "several_threads"]

T = TypeVar("T")


def on_one_core() -> None:
    """From here on the calling thread's networks compute in it alone."""
    torch.set_num_threads(1)


@contextlib.contextmanager
def several_threads() -> Iterator[int]:
    """While it lasts threads may be `on_one_core`, and OpenCV uses no threads of its own. Gives the number of threads
    that the calling thread's networks have, and has again afterwards."""
    # What a thread chooses becomes the choice of those started later.
    count, others = torch.get_num_threads(), cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield count
    finally:
        cv2.setNumThreads(others)
        torch.set_num_threads(count)


class Workers:
    """Does several things at once, each on one core: in the calling thread and in others. Close it.

    Args:
        most: things at once.
        cores: that the others take turns on.
        count: how many things at once are worth it now; by default always as many as may be.
    """

    def __init__(self, most: int, cores: Cores, count: Callable[[], int] | None = None) -> None:
        self._most, self._cores, self._count = most, cores, count
        self._pool = ThreadPoolExecutor(max(1, most - 1), "worker", initializer=on_one_core)

    @property
    def count(self) -> int:
        """Into how many pieces work is to be shared out now."""
        return self._most if self._count is None else max(1, min(self._most, self._count()))

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
