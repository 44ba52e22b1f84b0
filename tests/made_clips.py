"""Small clips made for tests: every frame carries its number in its pixels, so that order can be read back."""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from posecli.video import open_source

BLOCK = 8
WIDTH, HEIGHT = 80, 48


def numbered_image(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: ``number`` as 8 black or white blocks along the top row (lowest bit first), below a slope that
    moves with it."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    image = np.stack([(x + 3 * number) % 200 + 20, y * 3 % 200 + 20, np.full_like(x, 90)], 2).astype(np.uint8)
    for bit in range(8):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if number >> bit & 1 else 0
    return image


def number_of(image: np.ndarray) -> int:
    """The number that `numbered_image` put in, read back from a decoded frame."""
    middle = BLOCK // 2
    return sum((int(image[middle, bit * BLOCK + middle].mean()) > 127) << bit for bit in range(8))


def make_clip(
    path: Path,
    count: int = 40,
    *,
    codec: str = "libx264",
    rate: int | Fraction = 25,
    ticks: Sequence[int] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    gop: int = 12,
    options: Mapping[str, str] | None = None,
    bframes: int = 2,
    sound: str | None = None,
    container: Mapping[str, str] | None = None,
) -> Path:
    """Writes numbered frames; frame i at ``ticks[i]`` milliseconds, or at ``i / rate`` seconds.

    ``sound`` names an audio codec: a tone as long as the video.
    """
    time_base = Fraction(1, 1000) if ticks is not None else 1 / Fraction(rate)
    with av.open(str(path), "w", options=dict(container or {})) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        stream.codec_context.options = dict(options or {})
        if codec == "mpeg4":
            stream.codec_context.bit_rate = 2_000_000
        track: Any = output.add_stream(sound, rate=44100) if sound else None
        if track is not None:
            track.layout = "mono"
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(numbered_image(i, *size), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i if ticks is None else ticks[i], time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
        if track is not None:
            seconds = float(count * time_base) if ticks is None else ticks[-1] / 1000
            wave = (8000 * np.sin(np.arange(round(seconds * 44100)) / 20)).astype(np.int16)
            for begin in range(0, len(wave) - 1151, 1152):
                part = av.AudioFrame.from_ndarray(wave[None, begin : begin + 1152], format="s16", layout="mono")
                part.sample_rate, part.pts, part.time_base = 44100, begin, Fraction(1, 44100)
                output.mux(track.encode(part))
            output.mux(track.encode(None))
    return path


def with_keys(source: Path, target: Path, gop: int) -> Path:
    """The frames of a clip once more, with a key frame every ``gop``."""
    with open_source(source) as frames, av.open(str(target), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.width, frames.height, "yuv420p"
        stream.codec_context.gop_size = gop
        stream.codec_context.options = {"sc_threshold": "0"}
        for frame in frames.frames():
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24").reformat(format="yuv420p")
            picture.pts, picture.time_base = frame.index, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return target


# (a, b, c, d) of the display matrix: displayed x = a x + c y, displayed y = b x + d y.
TURNS = {
    "none": (1, 0, 0, 1),
    "right": (0, 1, -1, 0),
    "half": (-1, 0, 0, -1),
    "left": (0, -1, 1, 0),
    "mirrored": (-1, 0, 0, 1),
    "transposed": (0, 1, 1, 0),
}


def turn_clip(path: Path, turn: str) -> Path:
    """Writes a display matrix into an MP4's track header, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 40 if data[at] == 0 else 52  # past version, times, ids, layer, volume (ISO/IEC 14496-12, 8.3.2)
    a, b, c, d = (v << 16 for v in TURNS[turn])
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def turned(image: np.ndarray, turn: str) -> np.ndarray:
    """What a player shows of ``image`` under that turn."""
    return {
        "none": lambda: image,
        "right": lambda: np.rot90(image, -1),
        "half": lambda: np.rot90(image, 2),
        "left": lambda: np.rot90(image),
        "mirrored": lambda: image[:, ::-1],
        "transposed": lambda: image.transpose(1, 0, 2),
    }[turn]()


def damaged(path: Path, begin: float, length: int = 300) -> Path:
    """Overwrites ``length`` bytes of a file from the share ``begin`` of it on with noise."""
    data = bytearray(path.read_bytes())
    at = int(len(data) * begin)
    data[at : at + length] = random.Random(0).randbytes(length)
    path.write_bytes(data)
    return path
