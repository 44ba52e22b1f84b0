"""Width and height of a picture file from its header, without decoding it."""

from __future__ import annotations

import struct
from pathlib import Path

from posecli.errors import PoseError

# EXIF orientations that turn the picture by a quarter: width and height change places when it is shown.
_QUARTER_TURNS = {5, 6, 7, 8}


def picture_size(path: str | Path) -> tuple[int, int]:
    """(width, height) in pixels as displayed (EXIF orientation applied). JPEG and PNG are read from their header, other
    kinds are decoded. PoseError when it is no picture."""
    try:
        with open(path, "rb") as handle:
            data = handle.read(1 << 16)
            if data.startswith(b"\xff\xd8"):
                size = _jpeg_size(data + handle.read(1 << 20))
                if size is not None:
                    return size
    except OSError as error:
        raise PoseError(f"cannot read: {error.strerror or error}", str(path)) from None
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24 and b"eXIf" not in data:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    from posecli.video import read_picture

    height, width = read_picture(path).shape[:2]
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the frame header (SOF, ITU-T T.81 B.2.2); None when none is found in ``data``."""
    at, turned = 2, False
    while at + 9 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
            turned = _exif_orientation(data[at + 10 : at + 2 + length]) in _QUARTER_TURNS
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return (height, width) if turned else (width, height)
        at += 2 + length
    return None


def _exif_orientation(data: bytes) -> int:
    """Tag 0x0112 of the first directory of a TIFF block; 1 (upright) when there is none."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 10:
        return 1
    start = struct.unpack(order + "I", data[4:8])[0]
    if start + 2 > len(data):
        return 1
    count = struct.unpack(order + "H", data[start : start + 2])[0]
    for i in range(count):
        entry = data[start + 2 + 12 * i : start + 14 + 12 * i]
        if len(entry) == 12 and struct.unpack(order + "H", entry[:2])[0] == 0x0112:
            return int(struct.unpack(order + "H", entry[8:10])[0])
    return 1
