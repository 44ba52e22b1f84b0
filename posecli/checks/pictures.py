"""Picture and video files: are they there, can they be decoded, do they have the size the labels state, what do they
look like. Each picture is decoded once, by a few threads; of a video a handful of frames."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.look_alikes import Look, look_of
from posecli.checks.subject import Picture, Subject
from posecli.errors import PoseError

# Frames of a video that are compared with other pictures: spread evenly.
FRAMES_OF_A_VIDEO = 8


@dataclass(frozen=True)
class Seen:
    """A decoded picture: its row in the subject, its real size, what it looks like."""

    row: int
    width: int
    height: int
    look: Look


def absent(subject: Subject) -> Iterator[Finding]:
    """``file-missing``, once for each file."""
    done: set[str] = set()
    for picture in subject.pictures:
        name = picture.file_name
        if name in done or "://" in name:
            continue
        done.add(name)
        if not os.path.isfile(os.path.join(subject.root, name)):
            what = f"{name} is not in {subject.root}"
            yield Finding("file-missing", subject.path, picture.record, what, place=picture.place)


def look_at(
    subject: Subject, findings: list[Finding], progress: Callable[[int], None] = lambda count: None, workers: int = 2
) -> list[Seen]:
    """Decodes the pictures that are there; adds ``file-unreadable``, ``wrong-size`` and ``frame-missing``.

    Args:
        progress: told of pictures done. workers: threads (decoding leaves the interpreter's lock).
    """
    stills = [n for n, p in enumerate(subject.pictures) if not p.in_video and _is_there(subject, p)]
    seen: list[Seen] = []
    with ThreadPoolExecutor(workers) as pool:
        for row, result in zip(stills, pool.map(lambda n: _still(subject, n), stills), strict=True):
            progress(1)
            picture = subject.pictures[row]
            if isinstance(result, PoseError):
                findings.append(Finding("file-unreadable", subject.path, picture.record, result.what,
                                        place=picture.place))  # fmt: skip
                continue
            seen.append(result)
            findings += _size(subject, row, picture, result.width, result.height)
    videos: dict[str, list[int]] = {}
    for n, picture in enumerate(subject.pictures):
        if picture.in_video and _is_there(subject, picture):
            videos.setdefault(picture.file_name, []).append(n)
    for name, rows in videos.items():
        seen += _video(subject, name, rows, findings)
        progress(len(rows))
    return seen


def _is_there(subject: Subject, picture: Picture) -> bool:
    return "://" not in picture.file_name and os.path.isfile(os.path.join(subject.root, picture.file_name))


def _still(subject: Subject, row: int) -> Seen | PoseError:
    from posecli.video import read_picture

    try:
        image = read_picture(os.path.join(subject.root, subject.pictures[row].file_name))
    except PoseError as error:
        return error
    return Seen(row, image.shape[1], image.shape[0], look_of(image))


def _size(subject: Subject, row: int, picture: Picture, width: int, height: int) -> Iterator[Finding]:
    """The repair, taking the file's size, is safe only where all joints then lie inside the picture; else they were
    labelled on another version of it."""
    if (picture.width, picture.height) in ((width, height), (0, 0)):
        return
    what = f"stated {picture.width} x {picture.height}, the file has {width} x {height}"
    if (picture.width, picture.height) == (height, width):
        what += " (turned by a quarter)"
    points = subject.xy[subject.frame == row]
    fits = True
    if np.isfinite(points).any():
        beyond = np.fmax(-1 - points, points - [width, height])
        fits = bool(np.nanmax(beyond) <= 0)
    if not fits:
        what += "; joints lie outside the file's picture"
    yield Finding("wrong-size", subject.path, picture.record, what, place=picture.place,
                  value=(width, height) if fits else None)  # fmt: skip


def _video(subject: Subject, name: str, rows: list[int], findings: list[Finding]) -> list[Seen]:
    from posecli.video import open_source

    first = subject.pictures[rows[0]]
    seen = []
    try:
        with contextlib.closing(open_source(os.path.join(subject.root, name))) as source:
            count = source.num_frames
            if source.width and source.height:
                findings += _size_of_video(subject, rows, source.width, source.height)
            for n in rows:
                picture = subject.pictures[n]
                if count is not None and picture.frame >= count:
                    what = f"{name} has {count} frames"
                    findings.append(Finding("frame-missing", subject.path, picture.record, what, place=picture.place))
            numbered = sorted((subject.pictures[n].frame, n) for n in rows)
            inside = [(frame, n) for frame, n in numbered if count is None or frame < count]
            for at in np.unique(np.linspace(0, len(inside) - 1, FRAMES_OF_A_VIDEO).astype(int)) if inside else ():
                frame, n = inside[at]
                image = source.read_at(frame).image
                seen.append(Seen(n, image.shape[1], image.shape[0], look_of(image)))
    except PoseError as error:
        findings.append(Finding("file-unreadable", subject.path, first.record, error.what, place=first.place))
    return seen


def _size_of_video(subject: Subject, rows: list[int], width: int, height: int) -> Iterator[Finding]:
    stated: dict[tuple[int, int], int] = {}
    for n in rows:
        picture = subject.pictures[n]
        stated.setdefault((picture.width, picture.height), n)
    for size, n in stated.items():
        if size not in ((width, height), (0, 0)):
            picture = subject.pictures[n]
            what = f"stated {size[0]} x {size[1]}, the video has {width} x {height}"
            yield Finding("wrong-size", subject.path, picture.record, what, place=picture.place)
