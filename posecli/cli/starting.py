"""A command's start: standard streams that are there, the signal that asks it to end, and memory.

What is imported stays for as long as the process, so nobody need look for garbage there.
PyTorch alone brings a quarter of a million objects. Python's collector goes through them several times while they come,
whenever later garbage is looked for everywhere, and once more at the end, which takes longer than they took to come.
"""

from __future__ import annotations

import gc
import io
import math
import os
import signal
import sys
import time
from types import FrameType

from posecli.files import leave_lost_terminal

_alone = False


def alone() -> None:
    """Says that this process is one command's; without it nothing here does anything. Programs that call posecli
    decide about their garbage themselves."""
    global _alone
    _alone = True


def three_streams() -> None:
    """Opens what of standard input, output and error was closed by whoever started us (``>&-``, some services): else
    the next file opened has the number, and what libraries tell on standard error goes into it. Reading or writing is
    an error all the same, but on standard error, where it is for nobody."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_WRONLY)  # takes the lowest free number
            # Without a buffer, whose contents would be an error once more when Python ends.
            raw = open(number, "rb" if name == "stdin" else "wb", buffering=0, closefd=False)  # noqa: SIM115
            setattr(sys, name, io.TextIOWrapper(raw, encoding="utf-8", write_through=True))  # type: ignore[arg-type]


def every_character() -> None:
    """What standard output's encoding lacks is written there as ``\\u2588``, as Python does on standard error. Else a
    name or a bar would end the command when all is done: piped output on Windows is cp1252."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def end_as_by_ctrl_c() -> None:
    """SIGTERM (of `kill`, `timeout`, a service manager, SLURM) and SIGHUP (of a terminal that is closed) end the
    command as Ctrl-C does: what is half-written is removed, and a stream ends with a whole line. Where whoever started
    us ignores one of them (``nohup``), that stays so."""
    last = -math.inf

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal last
        before, last = last, time.monotonic()
        leave_lost_terminal()
        # GNU's timeout sends two, a terminal and its shell one each; the second would come in the middle of the tidying
        # up.
        if last - before > 1:
            raise KeyboardInterrupt

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


def begin() -> None:
    """Before a verb imports much: nothing is collected until `settled`."""
    if _alone:
        gc.disable()


def settled() -> None:
    """After it: what is there now is left out of all collections; later garbage is collected as ever."""
    if _alone:
        gc.freeze()
        gc.enable()
