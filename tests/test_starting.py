"""How a command starts: what it imports is left out of collections, standard streams that are closed are opened, both
in a process of its own only."""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from learning import make_people

from posecli.cli import starting
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_headers
from posecli.settings import resolve, to_toml
from posecli.skeletons import COCO17

PROGRAM = """
import gc, sys
from posecli.__main__ import main
sys.argv = ["posecli", "infer", "a.png", "-w", "none.safetensors"]
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
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "none.safetensors" in done.stderr


# What is asked wrongly of `infer`, the exit code, and words of the error.
SLIPS = [
    ("none.mp4", 1, "none.mp4"),
    ("a.png --smooth sometimes", 2, "sometimes"),
    ("a.png --keep-raw", 2, "--keep-raw"),
    ("a.png --track oaks", 2, "oaks"),
    ("a.png --roi 1,2", 2, "--roi"),
    ("a.png --scales half", 2, "--scales"),
    ("a.png --start soon", 2, "soon"),
    ("a.png --batch few", 2, "--batch"),
    ("a.png --pose-nms 3", 2, "--pose-nms"),
    ("a.png --decode tpu", 2, "tpu"),
    ("a.png --shard 3/2", 2, "3/2"),
    ("a.png --box-nms 0.5", 2, "--boxes FILE"),
    ("a.png --plots --out x.json", 2, "--plots"),
    ("a.png --out x.xml", 2, ".xml"),
    ("a.png --resume --overwrite", 2, "--resume"),
    ("a.png --segments 5 --smooth kalman --track oks", 2, "--smooth"),
    ("a.png --segments 5 --render", 2, "overlay"),
]
SLIPS_PROGRAM = """
import sys
from posecli.__main__ import main
for words in sys.argv[1:]:
    sys.argv = ["posecli", "infer", *words.split()]
    try:
        main()
    except SystemExit as stop:
        print(stop.code, "torch" in sys.modules, flush=True)
"""


def test_what_is_asked_wrongly_is_said_before_torch_is_imported(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    command = [sys.executable, "-c", SLIPS_PROGRAM, *(words for words, _, _ in SLIPS)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"{code} False" for _, code, _ in SLIPS], done.stderr
    said = done.stderr.splitlines()
    assert len(said) == len(SLIPS) and all(told in line for (_, _, told), line in zip(SLIPS, said, strict=True)), said


def test_programs_that_call_posecli_keep_their_own_ways(cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert not starting._alone
    before = gc.get_freeze_count()
    seen: list[bool] = []
    monkeypatch.setattr("posecli.cli.infer.settled", lambda: seen.append(gc.isenabled()) or starting.settled())
    assert cli("infer", tmp_path / "a.png", "-w", "none.safetensors").code == 1
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


def test_characters_that_the_output_cannot_show(tmp_path: Path) -> None:
    """As in a pipe on Windows: the bars of `stats`, and a name, ended in an internal error."""
    with StreamWriter(tmp_path / "каша.jsonl") as writer:
        writer.header(StreamHeader("каша.mp4", COCO17, 64, 48, 25.0))
        writer.frame(FramePoses(0, (), 0.0))
    command = [sys.executable, "-m", "posecli", "stats", "каша.jsonl"]
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="cp1252")
    assert done.returncode == 0 and "\\u043a\\u0430\\u0448\\u0430.jsonl" in done.stdout, done.stderr
    assert "100.0 % ###" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
def test_a_closed_terminal_ends_a_training_with_its_state_saved(tmp_path: Path) -> None:
    """SIGHUP reaches the processes that read pictures, too."""
    data = make_people(tmp_path / "data")
    small = {"widths": [16, 16, 16, 16], "blocks": [1, 1, 1, 1], "stem_channels": 8, "channels": 16}
    values = {"model": "pose-fpn", "data": [str(data)], "input_size": [64, 64], "batch": 2, "workers": 1, "threads": 1}
    values |= {"epochs": 10_000, "save_every": 0.001, "min_side": 1.0, "model_arguments": json.dumps(small)}
    (tmp_path / "run.toml").write_text(to_toml(resolve(values)))
    command = ["-m", "posecli", "train", "--config", tmp_path / "run.toml", "--out", tmp_path / "run", "--quiet"]
    run = subprocess.Popen(
        [sys.executable, *command, "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # tests under nohup ignore it
    )
    state = tmp_path / "run/state.pt"
    deadline = time.monotonic() + 60
    while not state.exists():
        assert run.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(run.pid, signal.SIGHUP)
    told = run.communicate(timeout=60)[1]
    assert run.returncode == 130 and "--resume" in told and "Traceback" not in told, told
    assert torch.load(state, weights_only=True)["step"] > 0
    assert not [p.name for p in (tmp_path / "run").iterdir() if ".part" in p.name]
