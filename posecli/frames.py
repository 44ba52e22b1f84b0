"""Frames out of videos into JPEG files, by several processes.

Each video's pictures stand in a folder of their own under stable names, ``<video>/<frame number, 6 digits>.jpg``:
the same frame has the same name whatever else is extracted. JPEG quality is 95 unless asked otherwise. A folder appears
under its final name when all its pictures are written, not before; a hidden file in it says which those are, so that a
run that was interrupted can be gone on with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
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
from posecli.on_ray import Cluster, Failure, each_on_ray
from posecli.types import Dataset, Record

JPEG_QUALITY = 95
# Below this many frames starting processes costs more than it gains.
_FEW = 64
# In a finished folder: what was asked, and which frames could not be decoded. Readers of labels look for .json.
_DONE = ".posecli-frames"


@dataclass(frozen=True)
class _Task:
    """Frames of one video that one process writes; ``name`` is the data set's for it, ``frames`` ascending."""

    name: str
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
    resume: bool = False,
    cluster: Cluster | None = None,
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
        resume: folders of the same videos that are finished stay as they are.
        cluster: where the work is done, by tasks of Ray; None: by processes of this machine. A video that fails there
            stops nobody else.
        progress: called with the number of frames written since the last call.

    Raises:
        PoseError: a video can't be read; a video's folder exists, and neither ``overwrite`` nor ``resume`` is given or
            it was made with other options; it would lie outside ``folder``.
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
    failures: list[Failure] = []
    with contextlib.ExitStack() as stack:
        tasks: list[_Task] = []
        folders: dict[str, tuple[contextlib.ExitStack, Path]] = {}  # of videos under way, and their pictures so far
        for name, frames in wanted.items():
            place = inside(folder, places[name], name)
            chosen = sorted(set(frames))
            if resume and place.exists():
                lost[name] = _lost_before(place, _asked(chosen, quality))
                progress(len(chosen))
                continue
            if place.exists() and not overwrite:
                raise PoseError("the output exists already", str(place), "--resume, --overwrite or another folder")
            own = stack.enter_context(contextlib.ExitStack())
            part = own.enter_context(replace_when_done(place, overwrite=overwrite))
            part.mkdir()
            folders[name] = own, part
            video = os.path.join(dataset.root, name)
            # AVI cannot be entered in the middle: each part would be decoded from the beginning.
            whole = len(frames) < 2 * _FEW or name.lower().endswith(".avi")
            parts = 1 if whole else max(1, count // len(wanted))
            for chunk in _chunks(chosen, parts):
                # One process leaves the cores to the decoder's own threads.
                threads = 0 if count == 1 and cluster is None else 1
                tasks.append(_Task(name, os.path.abspath(video), chunk, os.path.abspath(part), quality, threads))
        left = Counter(task.name for task in tasks)
        results = _run(tasks, count) if cluster is None else each_on_ray(write_frames, tasks, cluster, _name_of)
        for task, result in results:
            if isinstance(result, Failure):
                failures.append(result)
                continue
            written, missing = result
            progress(written)
            lost.setdefault(task.name, set()).update(missing)
            left[task.name] -= 1
            if not left[task.name]:
                own, part = folders[task.name]
                said = {"asked": _asked(sorted(set(wanted[task.name])), quality), "lost": sorted(lost[task.name])}
                (part / _DONE).write_text(json.dumps(said), encoding="utf-8")
                own.close()
        if failures:
            more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
            raise PoseError(f"{failures[0].reason}{more}", failures[0].name, "--resume keeps the videos that are done")
    number = sum(map(len, lost.values()))
    if number:
        name = next(n for n, m in lost.items() if m)
        warn(f"{number} frames cannot be decoded and were left out (first: frame {min(lost[name])} of {name})")
    return replace(dataset, records=tuple(_renamed(dataset, folder, places, lost)))


def _asked(frames: Sequence[int], quality: int) -> str:
    """A short name of what is wanted of a video."""
    return hashlib.sha256(json.dumps([quality, *frames]).encode()).hexdigest()[:16]


def _lost_before(place: Path, asked: str) -> set[int]:
    """The frames that could not be decoded when a finished folder was made; PoseError where it is of another run."""
    try:
        said = json.loads((place / _DONE).read_text(encoding="utf-8"))
        if said["asked"] == asked:
            return set(map(int, said["lost"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise PoseError("these frames are of a run with other options", str(place), "--overwrite begins anew")


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


def _name_of(task: _Task) -> str:
    return task.name


def _run(tasks: Sequence[_Task], workers: int) -> Iterator[tuple[_Task, tuple[int, tuple[int, ...]]]]:
    """Each task with (frames written, frames lost) as it ends."""
    if workers == 1:
        for task in tasks:
            yield task, write_frames(task)
        return
    # A fresh interpreter for each worker: a fork of a process with threads (OpenCV, FFmpeg, torch) may hang.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        pending: dict[Future[tuple[int, tuple[int, ...]]], _Task] = {
            pool.submit(write_frames, task): task for task in tasks
        }
        try:
            while pending:
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    yield pending.pop(future), future.result()
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
