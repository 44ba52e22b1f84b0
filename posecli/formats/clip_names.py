"""What the names of videos and of their folders say: tags, and which of them show the same moment."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

LABEL_FOLDERS = ("labels", "annotations", "gt")
# Folders that only hold things of a kind: they say nothing about the videos below them.
_CONTAINERS = {"videos", "video", "clips", "frames", "images", *LABEL_FOLDERS}
# Words that name a camera: videos that differ in nothing else show the same moment from two sides.
_CAMERA = re.compile(
    r"(front|side|back|rear|left|right|top|oblique|(cam|camera|view|kinect|gopro)[-_ ]?\w{0,3}|c\d{1,3}|[a-z])", re.I
)


def tags_of(name: str) -> tuple[str, ...]:
    """The names of the folders a clip lies in, without mere containers (``videos/``): ``front`` of ``front/a.mp4``."""
    return tuple(p for p in PurePosixPath(name).parts[:-1] if p.lower() not in _CONTAINERS)


def recording_of(name: str, is_folder: bool = False) -> str:
    """The recording a clip belongs to: its name without what names a camera, so that all cameras of a scene share it.

    ``front/walk.mp4`` and ``side/walk.mp4`` are both ``walk``; ``day1/walk_cam2.mp4`` is ``day1/walk``;
    ``scene3/front.mp4`` is ``scene3``.
    """
    path = PurePosixPath(name)
    folders = [p for p in tags_of(name) if not _CAMERA.fullmatch(p)]
    stem = path.name if is_folder else path.stem
    words = [w for w in re.split(r"[-_. ]+", stem) if w]
    while len(words) > 1 and _CAMERA.fullmatch(words[-1]):
        words.pop()
    while len(words) > 1 and _CAMERA.fullmatch(words[0]):
        words.pop(0)
    if len(words) == 1 and _CAMERA.fullmatch(words[0]) and folders:
        words = []
    return "/".join([*folders, "_".join(words)] if words else folders) or stem
