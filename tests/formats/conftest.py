"""Small videos and pictures for the format tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

MakeVideo = Callable[..., Path]


def shade(index: int) -> int:
    """The grey level that frame ``index`` of a test video is filled with."""
    return 20 + (index * 7) % 200


@pytest.fixture
def make_video() -> MakeVideo:
    """``make_video(path, 30, size=(64, 48), fps=Fraction(60000, 1001), stamps=None)``: H.264, frame i filled with
    ``shade(i)``; ``stamps`` in ticks of 1/1000 s make the rate variable."""

    def make(
        path: Path,
        frames: int,
        size: tuple[int, int] = (64, 48),
        fps: Fraction | int = 25,
        stamps: Sequence[int] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps)
            stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
            stream.options = {"preset": "ultrafast", "g": "10", "bf": "2"}
            stream.thread_count = 1
            if stamps is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            for i in range(frames):
                image = np.full((size[1], size[0], 3), shade(i), np.uint8)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                if stamps is not None:
                    frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
                for packet in stream.encode(frame):
                    container.mux(packet)
            for packet in stream.encode():
                container.mux(packet)
        return path

    return make


@pytest.fixture
def make_picture() -> Callable[..., Path]:
    """``make_picture(path, (width, height), level=128)``: a grey picture."""

    def make(path: Path, size: tuple[int, int] = (64, 48), level: int = 128) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), level, np.uint8))
        return path

    return make
