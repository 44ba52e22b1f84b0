"""Threads that convert pixels stay from frame to frame; the pixels are those that PyAV gives by itself."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from made_clips import make_clip, numbered_image

from posecli.video import VideoSource, VideoWriter
from posecli.video.conversion import Conversion


@contextlib.contextmanager
def threads_seen() -> Iterator[set[str]]:
    """All threads of this process that were there at some moment meanwhile."""
    seen: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(os.listdir("/proc/self/task"))
            time.sleep(1e-4)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        done.set()
        looking.join()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux' /proc")
@pytest.mark.parametrize("what", ["read", "read one by one", "write"])
def test_no_thread_begins_with_a_frame(tmp_path: Path, what: str) -> None:
    """FFmpeg's scaler starts as many as there are cores with each context: 64 threads a frame on 64 cores."""
    make_clip(tmp_path / "a.mp4", 120, size=(320, 240))
    image = numbered_image(0, 320, 240)
    with VideoSource(tmp_path / "a.mp4") as source, VideoWriter(tmp_path / "b.mp4", 320, 240, 25) as writer:
        frames = source.frames()

        def step(n: int) -> None:
            if what == "write":
                writer.write(image)
            elif what == "read":
                next(frames)
            else:
                source.read_at(n)

        writer.write(image)
        for n in range(20):
            step(n)
        before = set(os.listdir("/proc/self/task"))
        with threads_seen() as seen:
            for n in range(20, 120):
                step(n)
        assert len(seen - before) < 10, sorted(seen - before)  # one looks


def test_the_pixels_are_the_same(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    conversion = Conversion(1)
    for width, height in ((64, 48), (62, 46), (64, 48)):
        image = noise.integers(0, 255, (height, width, 3), dtype=np.uint8)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        wanted = {"format": "yuv420p", "dst_colorspace": "ITU709", "dst_color_range": "MPEG"}
        there = conversion.of(frame, **wanted)
        assert np.array_equal(there.to_ndarray(), frame.reformat(**wanted).to_ndarray())
        back = conversion.of(there, format="rgb24").to_ndarray()
        assert np.array_equal(back, there.to_ndarray(format="rgb24"))
        smaller = conversion.of(there, format="rgb24", width=30, height=20).to_ndarray()
        assert np.array_equal(smaller, there.to_ndarray(format="rgb24", width=30, height=20))
