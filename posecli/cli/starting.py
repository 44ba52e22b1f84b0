"""A command's start: what it imports stays for as long as its process, so nobody need look for garbage there.

PyTorch alone brings a quarter of a million objects. Python's collector goes through them several times while they come,
whenever later garbage is looked for everywhere, and once more at the end, which takes longer than they took to come.
"""

from __future__ import annotations

import gc

_alone = False


def alone() -> None:
    """Says that this process is one command's; without it nothing here does anything. Programs that call posecli
    decide about their garbage themselves."""
    global _alone
    _alone = True


def begin() -> None:
    """Before a verb imports much: nothing is collected until `settled`."""
    if _alone:
        gc.disable()


def settled() -> None:
    """After it: what is there now is left out of all collections; later garbage is collected as ever."""
    if _alone:
        gc.freeze()
        gc.enable()
