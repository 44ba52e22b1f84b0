"""A case made by hand: any command in a folder of the test's own, held to the same promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from fuzz import cases, judge
from fuzz.conftest import FAILED, Fuzz
from fuzz.mutations import Spoilt
from fuzz.samples import Sample


def kept(fuzz: Fuzz, case: cases.Case, broken: judge.Broken) -> str:
    """Keeps a failing case with what it said; returns the message."""
    shutil.rmtree(case.work / "out", ignore_errors=True)
    (case.work / "out").mkdir()
    again = fuzz.server.run(case.arguments, case.work, case.seconds)
    return cases.keep(case, again, str(broken), FAILED)


def one(fuzz: Fuzz, folder: Path, name: str, arguments: list[str], out: str | None = None, **more: Any) -> int:
    """A case made by hand in ``folder/a/b``; returns the exit code, fails where a promise was broken.

    ``more``: ``must`` and ``seconds`` as of `cases.Case`; ``memory``, the bytes it may hold.
    """
    work = folder / "a" / "b"
    (work / "out").mkdir(parents=True, exist_ok=True)
    must, seconds, memory = more.pop("must", None), more.pop("seconds", 30.0), more.pop("memory", None)
    spoilt = [Spoilt(name, must)]
    sample = Sample(name, folder, "")
    case = cases.Case(0, sample, spoilt, folder, arguments, out and work / out, seconds=seconds, **more)
    try:
        ran = judge.run(case, fuzz.server)
        if memory is not None and ran.memory > memory:
            raise judge.Broken(f"it held {ran.memory >> 20} MiB")
        return ran.code or 0
    except judge.Broken as broken:
        raise AssertionError(kept(fuzz, case, broken)) from None
