"""Processes that are forked from one whose networks have computed (`multiprocessing` on Linux, `os.fork`).

Only the thread that forks lives on in the child. A library that then hands work to the threads it had started waits for
them for ever: OpenMP's, on which PyTorch computes, and OpenCV's. So OpenCV lets its threads go for the fork, and in the
child networks compute in the calling thread. Processes that are spawned begin afresh, with all threads.
"""

from __future__ import annotations

import os

import cv2
import torch

_computed = False
_opencv: int | None = None  # its threads before a fork that is going on


def computed() -> None:
    """A network is computing in this process."""
    global _computed
    _computed = True


def _before() -> None:
    global _opencv
    if _computed:
        _opencv = cv2.getNumThreads()
        cv2.setNumThreads(1)


def _after() -> None:
    global _opencv
    if _opencv is not None:
        cv2.setNumThreads(_opencv)
        _opencv = None


def _in_child() -> None:
    _after()
    if _computed:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(before=_before, after_in_parent=_after, after_in_child=_in_child)
