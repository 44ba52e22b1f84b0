"""What a command imports is left out of collections, in a process of its own only."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path

import pytest

from posecli.cli import starting

PROGRAM = """
import gc, sys
from posecli.__main__ import main
sys.argv = ["posecli", "infer", "none.mp4"]
collections = sum(each["collections"] for each in gc.get_stats())
try:
    main()
except SystemExit as stop:
    assert stop.code == 1, stop.code
frozen = gc.get_freeze_count()
assert gc.isenabled() and frozen > 100_000 and "torch" in sys.modules, frozen
assert sum(each["collections"] for each in gc.get_stats()) - collections < 100
class Loop: pass
loop = Loop()
loop.own = loop
import weakref
seen = weakref.ref(loop)
del loop
gc.collect()
assert seen() is None
"""


def test_a_command_looks_for_no_garbage_among_what_it_imports(tmp_path: Path) -> None:
    """And for later garbage as ever."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "none.mp4" in done.stderr


def test_programs_that_call_posecli_keep_their_own_ways(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not starting._alone
    before = gc.get_freeze_count()
    seen: list[bool] = []
    monkeypatch.setattr("posecli.cli.infer.settled", lambda: seen.append(gc.isenabled()) or starting.settled())
    assert cli("infer", "none.mp4").code == 1
    assert seen == [True] and gc.isenabled() and gc.get_freeze_count() == before
