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
    """Does several things at once, each on one core: in the calling thread and in ``count - 1`` others. Close it."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool = ThreadPoolExecutor(max(1, count - 1), "worker", initializer=on_one_core)

    def each(self, work: Sequence[Callable[[], T]]) -> list[T]:
        """What each piece gives, in order; the first error is raised when all have ended."""
        futures = [self._pool.submit(piece) for piece in work[1:]]
        found: list[T] = []
        errors: list[BaseException] = []
        for piece, future in zip(work, [None, *futures], strict=True):
            try:
                # What nobody has begun is done here.
                found.append(piece() if future is None or future.cancel() else future.result())
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return found

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown()
