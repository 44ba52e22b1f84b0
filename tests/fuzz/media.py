"""Clips and pictures spoilt in the ways of cameras, disks and mail programs; the same for the same number."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from made_clips import TURNS, make_clip, numbered_image, turn_clip

Make = Callable[[Path, random.Random], Path]


def _encoded(path: Path, frames: list[tuple[np.ndarray, str, int]], codec: str, form: str, **options: str) -> Path:
    """Writes pictures with their pixel format and time stamp (in 1/25 s)."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(codec, rate=25)
        stream.height, stream.width = frames[0][0].shape[:2]
        stream.pix_fmt = form
        stream.time_base = stream.codec_context.time_base = Fraction(1, 25)
        stream.codec_context.options = options
        for image, kind, stamp in frames:
            picture = av.VideoFrame.from_ndarray(image, format=kind).reformat(format=form)
            picture.pts, picture.time_base = stamp, Fraction(1, 25)
            output.mux(stream.encode(picture))
        output.mux(stream.encode(None))
    return path


def _numbered(count: int, width: int = 80, height: int = 48) -> list[tuple[np.ndarray, str, int]]:
    return [(numbered_image(i, width, height), "rgb24", i) for i in range(count)]


def _cut(path: Path, draw: random.Random) -> Path:
    clip = make_clip(path.with_suffix(draw.choice([".mp4", ".mkv", ".avi", ".ts"])), 24, codec="mpeg4", bframes=0)
    data = clip.read_bytes()
    clip.write_bytes(data[: draw.randrange(len(data))])
    return clip


def _flipped(path: Path, draw: random.Random) -> Path:
    clip = make_clip(path.with_suffix(draw.choice([".mp4", ".mkv", ".ts"])), 24)
    data = bytearray(clip.read_bytes())
    for _ in range(draw.choice([1, 8, 64])):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    clip.write_bytes(data)
    return clip


def _header(path: Path, draw: random.Random) -> Path:
    clip = make_clip(path.with_suffix(draw.choice([".mp4", ".mkv", ".avi"])), 12, codec="mpeg4", bframes=0)
    data = bytearray(clip.read_bytes())
    at = draw.randrange(min(len(data), 400))
    data[at : at + 8] = draw.randbytes(8)
    clip.write_bytes(data)
    return clip


def _renamed(path: Path, draw: random.Random) -> Path:
    clip = make_clip(path.with_suffix(".mp4"), 6, codec="mpeg4", bframes=0)
    return clip.rename(path.with_suffix(draw.choice([".avi", ".mkv", ".png", ".jpg", ".gif", ".h264", ".ts"])))


def _sized(path: Path, draw: random.Random) -> Path:
    width, height = draw.choice([(1, 1), (2, 2), (3, 5), (17, 31), (81, 49), (16, 1024), (2048, 16)])
    frames = [(np.full((height, width, 3), 40 * i, np.uint8), "rgb24", i) for i in range(4)]
    return _encoded(path.with_suffix(".mkv"), frames, "ffv1", "bgr0")


def _deep(path: Path, draw: random.Random) -> Path:
    form = draw.choice(["yuv420p10le", "gray", "gray10le", "bgra", "yuv444p", "yuv422p10le", "gray16le"])
    return _encoded(path.with_suffix(".mkv"), _numbered(5), "ffv1", form)


def _stamps(path: Path, draw: random.Random) -> Path:
    """Stamps that jump by hours or lie close together."""
    steps = [draw.choice([1, 1, 1, 2, 40, 3_600_000]) for _ in range(12)]
    ticks = [sum(steps[:i]) for i in range(12)]
    return make_clip(path.with_suffix(".mkv"), 12, codec="mpeg4", bframes=0, ticks=ticks)


def _rate(path: Path, draw: random.Random) -> Path:
    rate = draw.choice([1, 1000, Fraction(1, 10), Fraction(30000, 1001)])
    return make_clip(path.with_suffix(".mkv"), 6, codec="mpeg4", bframes=0, rate=rate)


def _turned(path: Path, draw: random.Random) -> Path:
    return turn_clip(make_clip(path.with_suffix(".mp4"), 6), draw.choice(sorted(TURNS)))


def _sound(path: Path, draw: random.Random) -> Path:
    return make_clip(path.with_suffix(".mkv"), 12, sound=draw.choice(["aac", "flac", "pcm_s16le"]))


def _empty(path: Path, draw: random.Random) -> Path:
    """A container without a frame, or without anything."""
    clip = path.with_suffix(".mkv")
    clip.write_bytes(b"" if draw.random() < 0.3 else make_clip(clip, 1, codec="mpeg4", bframes=0).read_bytes()[:300])
    return clip


def _picture(path: Path, draw: random.Random) -> Path:
    shape = draw.choice([(1, 1), (3, 200), (48, 64), (1, 4096)])
    channels = draw.choice([(), (3,), (4,)])
    kind = draw.choice([np.uint8, np.uint16])
    image = np.random.default_rng(draw.randrange(1 << 30)).integers(0, np.iinfo(kind).max, (*shape, *channels), kind)
    picture = path.with_suffix(draw.choice([".png", ".tif", ".jpg", ".bmp"]))
    if picture.suffix in (".jpg", ".bmp"):
        image = image.astype(np.uint8)
    cv2.imwrite(str(picture), image)
    data = bytearray(picture.read_bytes())
    harm = draw.choice(["none", "cut", "flip"])
    if harm == "cut":
        data = data[: draw.randrange(1, len(data))]
    elif harm == "flip":
        for _ in range(8):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    picture.write_bytes(data)
    return picture


KINDS: dict[str, Make] = {
    "cut": _cut, "flipped": _flipped, "header": _header, "renamed": _renamed, "sized": _sized, "deep": _deep,
    "stamps": _stamps, "rate": _rate, "turned": _turned, "sound": _sound, "empty": _empty, "picture": _picture,
}  # fmt: skip


def made(number: int, folder: Path) -> tuple[str, Path]:
    """Case ``number``: its kind and its file in ``folder``."""
    kind = list(KINDS)[number % len(KINDS)]
    return kind, KINDS[kind](folder / f"{number}-{kind}", random.Random(number))
