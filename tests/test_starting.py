"""How a command starts: what it imports is left out of collections, standard streams that are closed are opened, both
in a process of its own only."""

from __future__ import annotations

import gc
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posecli.cli import starting
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_headers
from posecli.skeletons import COCO17

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


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors as a shell does")
@pytest.mark.parametrize(
    ("words", "closed", "code", "told"),
    [
        ("smooth in.jsonl --out out.jsonl", ">&- 2>&- <&-", 0, ""),
        ("smooth in.jsonl --out out.jsonl", "2>&-", 0, ""),
        ("smooth in.jsonl --out -", ">&-", 1, "Bad file descriptor"),
        ("smooth - --out out.jsonl", "<&-", 1, "Bad file descriptor"),
    ],
)
def test_standard_streams_that_are_closed(tmp_path: Path, words: str, closed: str, code: int, told: str) -> None:
    with StreamWriter(tmp_path / "in.jsonl") as writer:
        writer.header(StreamHeader("a.mp4", COCO17))
        writer.frame(FramePoses(0, (), 0.0))
    command = f"{shlex.quote(sys.executable)} -m posecli {words} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert told in done.stderr and "internal error" not in done.stderr and "Exception ignored" not in done.stderr
    if code == 0:
        assert [h.source for h in read_headers(tmp_path / "out.jsonl")] == ["a.mp4"]


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_end_leaves_no_half_written_file(tmp_path: Path, clip: Path, sent: signal.Signals) -> None:
    """A verb that waits for more of a stream, with its output begun; an ignored signal (``trap ''``) stays so."""
    with StreamWriter(tmp_path / "in.jsonl") as writer:
        writer.header(StreamHeader(clip.name, COCO17, 96, 64, 29.97))
        for n in range(20):
            writer.frame(FramePoses(n, (), n / 29.97))
    for ignored in (False, True):
        run = subprocess.Popen(
            [sys.executable, "-m", "posecli", "render", clip, "-", "--out", tmp_path / "out.mp4", "--overwrite"],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=lambda how=signal.SIG_IGN if ignored else signal.SIG_DFL: signal.signal(sent, how),
        )
        assert run.stdin is not None
        run.stdin.write((tmp_path / "in.jsonl").read_bytes())
        run.stdin.flush()
        deadline = time.monotonic() + 60
        while not any(".part" in p.name for p in tmp_path.iterdir()):
            assert run.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
        run.send_signal(sent)
        if ignored:
            time.sleep(0.2)
            assert run.poll() is None
            run.stdin.close()
        assert run.wait(60) == (0 if ignored else 130)
        assert run.stderr is not None and b"Traceback" not in run.stderr.read()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.jsonl", "out.mp4"][: 1 + ignored]
