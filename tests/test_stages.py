"""Bounded queues between threads: order, errors, clean stops."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from posecli.stages import Background, prefetch
from posecli.video import VideoWriter


def test_prefetch_keeps_order_and_stays_bounded() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    ahead = 0
    for seen, item in enumerate(prefetch(items(), 3)):
        assert item == seen
        ahead = max(ahead, len(made) - seen)
        time.sleep(0.001)
    # three queued, one in the producer's hand, one in ours
    assert seen == 49 and ahead <= 5


def test_prefetch_raises_after_the_items_before_the_error() -> None:
    def items():
        yield 1
        yield 2
        raise OSError("broken")

    got = []
    with pytest.raises(OSError, match="broken"):
        for item in prefetch(items(), 4):
            got.append(item)
    assert got == [1, 2]


def test_closing_prefetch_stops_and_closes_the_producer() -> None:
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = prefetch(items(), 2)
    next(stream)
    stream.close()
    assert closed.wait(2)
    assert not any(t.name == "prefetch" for t in threading.enumerate())


def test_background_consumes_everything_in_order() -> None:
    got: list[int] = []
    with Background(got.append, 2) as sink:
        for i in range(20):
            sink.put(i)
    assert got == list(range(20))


def test_background_error_reaches_the_producer_without_a_hang() -> None:
    def consume(item: int) -> None:
        raise ValueError(f"cannot take {item}")

    with pytest.raises(ValueError, match="cannot take 0"), Background(consume, 1) as sink:
        for i in range(100):
            sink.put(i)


def test_background_drops_the_queue_when_the_producer_fails() -> None:
    got: list[int] = []
    with pytest.raises(KeyError), Background(got.append, 100) as sink:
        sink.put(1)
        raise KeyError
    assert len(got) <= 1


def peak_memory(clip: Path, model: Path, out: Path) -> int:
    """Largest resident size of `posecli infer` on a clip; `ru_maxrss` would begin with that of the tests' process."""
    code = (
        "import re, sys\n"
        "from posecli.__main__ import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "except SystemExit as stop:\n"
        "    assert not stop.code, stop.code\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
    )
    arguments = ["infer", str(clip), "-w", str(model), "-o", str(out), "--quiet", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
    )
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_length_of_a_video(tmp_path: Path, tiny_model: Path) -> None:
    """Ten minutes against one minute, people moving in every frame: at most 1.05 of the peak."""
    across, down = np.meshgrid(np.arange(160), np.arange(120))
    images = []
    for t in range(40):
        image = np.full((120, 160, 3), 60, np.uint8)
        image[..., 1] += (across + 4 * t).astype(np.uint8) % 97
        image[(across - 20 - 3 * t) ** 2 + (down - 60) ** 2 < 300] = (220, 180, 150)
        images.append(image)
    peaks = {}
    for minutes in (1, 10):
        clip = tmp_path / f"{minutes}.mp4"
        with VideoWriter(clip, 160, 120, 10) as writer:
            for n in range(600 * minutes):
                writer.write(images[n % 40], n / 10)
        out = tmp_path / f"{minutes}.jsonl"
        peaks[minutes] = peak_memory(clip, tiny_model, out)
        with out.open() as lines:
            assert sum(1 for _ in lines) == 1 + 600 * minutes
    print(f"peak memory: {peaks[1] / 1024:.0f} MiB for 1 minute, {peaks[10] / 1024:.0f} MiB for 10")
    assert peaks[10] <= 1.05 * peaks[1], peaks


def test_a_program_may_end_while_stages_are_at_work() -> None:
    """Who takes some items only need not close anything: threads end before Python does, not within a network."""
    program = """
import torch
from posecli.stages import prefetch

def work():
    while True:
        yield torch.nn.functional.conv2d(torch.ones(1, 64, 256, 256), torch.ones(64, 64, 3, 3)).sum()

items = prefetch(prefetch(work(), 2), 2)
next(items)
print("enough")
"""
    for _ in range(3):
        run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (run.returncode, run.stdout, run.stderr) == (0, "enough\n", "")


def test_a_consumer_that_nobody_wakes_ends_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an item is put may take the wake-up with it: Python's conditions then wake one who is gone."""
    done: list[int] = []
    background = Background(done.append, 4)
    with background:
        for n in range(3):
            background.put(n)
        while len(done) < 3:
            time.sleep(0.01)
        monkeypatch.setattr(background._queue.not_empty, "notify", lambda n=1: None)
        background.put(3)
    assert done == [0, 1, 2, 3] and not background._thread.is_alive()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_ctrl_c_while_a_consumer_is_waited_for() -> None:
    """It is not left behind at work on what is then closed, and does not do what is still queued."""
    done: list[int] = []

    def slowly(n: int) -> None:
        time.sleep(0.2)
        done.append(n)

    main = threading.get_ident()
    background = Background(slowly, 8)
    # A shell's background jobs ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), background:
            for n in range(8):
                background.put(n)
            threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not background._thread.is_alive() and 1 <= len(done) < 5
