"""Commands in forked children of the test: imports are there already, limits and kills concern the child alone."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal that killed it, None: it hung), stderr, seconds."""

    code: int | None
    err: str
    seconds: float


def forked(
    arguments: Sequence[object],
    folder: Path,
    *,
    largest_file: int | None = None,
    kill_after: float | None = None,
    limit: float = 240.0,
) -> Ended:
    """Runs ``posecli ARGUMENTS`` in ``folder``.

    Args:
        largest_file: bytes that no file may grow beyond; writing on gives the error of a full disk's kind.
        kill_after: seconds after which the command and all its children get SIGKILL.
        limit: seconds after which it counts as hanging.
    """
    said = folder / ".stderr"
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            os.chdir(folder)
            for number, name in ((0, os.devnull), (1, os.devnull), (2, said)):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(name, flags, 0o644), number)
            sys.stdin, sys.stdout, sys.stderr = (open(n, "r" if n == 0 else "w") for n in range(3))  # noqa: SIM115
            import cv2
            import torch

            cv2.setNumThreads(0)  # pools of threads don't survive a fork
            torch.set_num_threads(1)
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, resource.RLIM_INFINITY))
            from posecli.__main__ import main

            try:
                main([str(a) for a in arguments])
            except SystemExit as stop:
                code = int(stop.code or 0)
            if largest_file is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            sys.stderr.flush()
        finally:
            os._exit(code)
    end = begin + (limit if kill_after is None else kill_after)
    done, status = 0, 0
    while not done and time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            time.sleep(0.005)
    hung = not done and kill_after is None
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # also its own children
    if not done:
        _, status = os.waitpid(child, 0)
    err = said.read_text(errors="replace") if said.exists() else ""
    return Ended(None if hung else os.waitstatus_to_exitcode(status), err, time.monotonic() - begin)
