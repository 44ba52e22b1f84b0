"""What kind of file it is, by its first bytes and by words in it, without parsing it."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from pathlib import Path

from posecli.errors import PoseError


def head_of(path: Path, count: int = 65536) -> bytes:
    """The first bytes without a byte order mark and leading white space; empty for what cannot be read."""
    try:
        with open(path, "rb") as handle:
            return handle.read(count).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return b""


def refuse_cut_off(paths: Iterable[Path]) -> None:
    """PoseError for a JSON file that is empty or ends in the middle. A folder's reader that goes by words asks for the
    files without these words: passed over as files of another kind, cut-off labels would be lost without a word."""
    for path in paths:
        if path.is_file() and not _tail_of(path).endswith((b"}", b"]")):
            what = "an empty file" if path.stat().st_size == 0 else "not JSON: it ends in the middle"
            raise PoseError(what, str(path), "restore it, or take it out of the folder")
        # Cut after a bracket it ends like a whole one; labelme's may then lack the words it is known by.
        if path.is_file() and file_has(path, b'"shapes"'):
            try:
                json.loads(path.read_bytes())
            except (ValueError, RecursionError):
                what = "not JSON: it is damaged or ends in the middle"
                raise PoseError(what, str(path), "restore it, or take it out of the folder") from None


def _tail_of(path: Path) -> bytes:
    with open(path, "rb") as handle:
        handle.seek(max(path.stat().st_size - 256, 0))
        return handle.read().rstrip()


def file_has(path: Path, *words: bytes) -> bool:
    """Whether all the words stand somewhere in the file: much faster than parsing to learn its kind."""
    try:
        if path.stat().st_size == 0:
            return False
        with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
            return all(text.find(word) >= 0 for word in words)
    except (OSError, ValueError):
        return False
