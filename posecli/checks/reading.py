"""Files as columns: COCO JSON (`raw_coco`) and pose streams (`raw_stream`) loosely, with what is broken in them.

Any other form goes through its own reader, whose error is final, and is then looked at as the COCO JSON that `convert`
would write.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from posecli.checks import raw_coco, raw_stream
from posecli.checks.subject import Subject
from posecli.errors import UsageError
from posecli.formats import detect, read_dataset
from posecli.formats.pose_stream import is_named
from posecli.skeletons import get_skeleton


def is_stream(path: str | Path) -> bool:
    """Whether the name is a pose stream's (and what it names no MediaPipe landmarks); ``"-"`` is standard input."""
    return is_named(path)


def load(
    path: str | Path,
    *,
    format: str = "auto",
    skeleton: str | None = None,
    image_root: str | Path | None = None,
    warn: Callable[[str], None] = lambda message: None,
) -> tuple[Subject, list[Any]]:
    """A file, folder or stream as columns, and what was broken in it.

    Args:
        path: COCO keypoint JSON, pose stream (``.jsonl``, or ``"-"`` for standard input) or any data set that
            `posecli.formats` reads.
        format: a key of `posecli.formats.FORMATS`, or ``"auto"``. skeleton, image_root: as `convert`.
        warn: told what a strict reader finds odd.

    Returns:
        The subject and its structural `Finding`s.

    Raises:
        PoseError: nothing there, no data set or stream, or what a strict reader refuses.
    """
    if is_stream(path):
        if format != "auto" or skeleton is not None:
            raise UsageError("--format and --skeleton mean nothing for a pose stream", str(path))
        return raw_stream.load(path, image_root=image_root)
    name = detect(path)[0] if format == "auto" else format
    if name == "coco":
        return raw_coco.load(path, image_root=image_root, skeleton=get_skeleton(skeleton) if skeleton else None)
    dataset = read_dataset(path, name, skeleton=skeleton, image_root=image_root, warn=warn)
    return raw_coco.of_dataset(dataset, str(path))
