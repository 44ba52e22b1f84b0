"""Frames out of videos into JPEG files, by several processes.

Each video's pictures stand in a folder of their own under stable names, ``<video>/<frame number, 6 digits>.jpg``:
the same frame has the same name whatever else is extracted. JPEG quality is 95 unless asked otherwise. A folder appears
under its final name when all its pictures are written, not before.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from posecli.errors import PoseError
from posecli.files import inside, replace_when_done
from posecli.formats.clips import available_cores
from posecli.types import Dataset, Record

JPEG_QUALITY = 95
# Below this many frames starting processes costs more than it gains.
_FEW = 64


@dataclass(frozen=True)
class _Task:
    """Frames of one video that one process writes; ``frames`` ascending."""

    video: str
    frames: tuple[int, ...]
    folder: str
    quality: int
    threads: int


def is_video_frame(record: Record) -> bool:
    """Whether the record's picture is a frame inside a video file."""
    from posecli.video import VIDEO_SUFFIXES

    return record.frame_id is not None and PurePosixPath(record.file_name).suffix.lower() in VIDEO_SUFFIXES


def extract_frames(
    dataset: Dataset,
    folder: str | Path,
    *,
    workers: int | None = None,
    quality: int = JPEG_QUALITY,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda count: None,
    warn: Callable[[str], None] = lambda message: None,
) -> Dataset:
    """Writes every frame the data set takes from a video as a JPEG below ``folder``; the records then name these files.

    Records of pictures stay as they are. Frames that cannot be decoded lose their record; ``warn`` says how many.

    Args:
        dataset: with ``root``.
        folder: where the pictures go.
        workers: processes; None: one a core.
        quality: JPEG quality, 1 to 100.
        overwrite: folders of the same videos may be replaced.
        progress: called with the number of frames written since the last call.

    Raises:
        PoseError: a video can't be read, a video's folder exists and ``overwrite`` is false, or would lie outside
            ``folder``.
    """
    folder = Path(folder)
    wanted: dict[str, list[int]] = {}
    for record in dataset.records:
        if is_video_frame(record):
            wanted.setdefault(record.file_name, []).append(record.frame_id or 0)
    places = _places(wanted)
    count = workers or available_cores()
    if sum(map(len, wanted.values())) < _FEW:
        count = 1
    lost: dict[str, set[int]] = {}
    with contextlib.ExitStack() as stack:
        tasks = []
        for name, frames in wanted.items():
            place = inside(folder, places[name], name)
            part = stack.enter_context(replace_when_done(place, overwrite=overwrite))
            part.mkdir()
            video = os.path.join(dataset.root, name)
            # AVI cannot be entered in the middle: each part would be decoded from the beginning.
            whole = len(frames) < 2 * _FEW or name.lower().endswith(".avi")
            parts = 1 if whole else max(1, count // len(wanted))
            for chunk in _chunks(sorted(set(frames)), parts):
                # One process leaves the cores to the decoder's own threads.
                tasks.append((name, _Task(video, chunk, str(part), quality, 0 if count == 1 else 1)))
        for name, written, missing in _run(tasks, count):
            progress(written)
            lost.setdefault(name, set()).update(missing)
    number = sum(map(len, lost.values()))
    if number:
        name = next(n for n, m in lost.items() if m)
        warn(f"{number} frames cannot be decoded and were left out (first: frame {min(lost[name])} of {name})")
    return replace(dataset, records=tuple(_renamed(dataset, folder, places, lost)))


def _renamed(dataset: Dataset, folder: Path, places: dict[str, str], lost: dict[str, set[int]]) -> Iterator[Record]:
    prefix = Path(os.path.relpath(folder, dataset.root or ".")).as_posix()
    for record in dataset.records:
        name, frame = record.file_name, record.frame_id
        if name not in places or frame is None:
            yield record
        elif frame not in lost.get(name, ()):
            yield replace(record, file_name=f"{prefix}/{places[name]}/{frame_name(frame)}")


def frame_name(frame: int) -> str:
    """The picture's name of a frame: ``000012.jpg``."""
    return f"{frame:06d}.jpg"


def _places(names: Iterable[str]) -> dict[str, str]:
    """Video to its folder of pictures: its path without suffix (and without ``..``); with the suffix where two videos
    differ in nothing else."""
    plain = {}
    for name in names:
        path = PurePosixPath(name.replace("://", "/"))
        plain[name] = PurePosixPath(*(p for p in path.with_suffix("").parts if p not in ("..", "/"))).as_posix()
    taken = Counter(plain.values())
    return {n: p if taken[p] == 1 else p + PurePosixPath(n).suffix.replace(".", "_") for n, p in plain.items()}


def _chunks(frames: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    size = -(-len(frames) // parts)
    return [tuple(frames[i : i + size]) for i in range(0, len(frames), size)]


def _run(tasks: Sequence[tuple[str, _Task]], workers: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """(video, frames written, frames lost) of each task as it ends."""
    if workers == 1:
        for name, task in tasks:
            yield name, *write_frames(task)
        return
    # A fresh interpreter for each worker: a fork of a process with threads (OpenCV, FFmpeg, torch) may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending: dict[Future[tuple[int, tuple[int, ...]]], str] = {
            pool.submit(write_frames, task): name for name, task in tasks
        }
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield pending.pop(future), *future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def write_frames(task: _Task) -> tuple[int, tuple[int, ...]]:
    """Writes one task's frames; returns how many, and which could not be decoded."""
    import cv2

    from posecli.video import VideoSource

    if task.threads:
        cv2.setNumThreads(task.threads)
    bgr = None  # one buffer for all frames: fresh memory for each costs more than the conversion
    wanted = set(task.frames)
    first, last = task.frames[0], task.frames[-1]
    step = task.frames[1] - first if len(task.frames) > 1 else 1
    if wanted != set(range(first, last + 1, step)):
        step = 1
    with contextlib.closing(VideoSource(task.video, threads=task.threads)) as source:
        for frame in source.frames(first, last + 1, step):
            if frame.index not in wanted:
                continue
            path = os.path.join(task.folder, frame_name(frame.index))
            bgr = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR, dst=bgr)
            done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, task.quality])
            if not done:
                raise PoseError("the frame cannot be written as JPEG", path)
            with open(path, "wb") as handle:
                handle.write(data.tobytes())
            wanted.discard(frame.index)
    return len(task.frames) - len(wanted), tuple(sorted(wanted))
