"""Fixtures that many tests share."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference cases and real data beside the checkout; tests that need it skip without it."""
    folder = Path(os.environ.get("POSECLI_SHARED", ROOT.parent / "shared"))
    if not (folder / "DESIGN.md").exists():
        pytest.skip("reference material (../shared) is not here; set POSECLI_SHARED to its folder")
    return folder


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit code, stdout, stderr."""

    code: int
    out: str
    err: str


@pytest.fixture
def cli() -> Callable[..., Outcome]:
    """``cli("evaluate", gt, pred)``: runs a verb in this process as the shell would (pipes: use a subprocess)."""

    def run(*arguments: object) -> Outcome:
        from posecli.__main__ import main

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main([str(a) for a in arguments])
                code = 0
            except SystemExit as stop:
                code = int(stop.code or 0)
        return Outcome(code, out.getvalue(), err.getvalue())

    return run
