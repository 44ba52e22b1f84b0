"""The videos of a folder, the label file of each, and what must be known of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecli.errors import PoseError
from posecli.formats.clip_names import LABEL_FOLDERS
from posecli.formats.openpose import is_openpose_folder
from posecli.formats.picture_size import picture_size
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, natural_key, open_source

LABEL_SUFFIXES = (".json", ".csv", ".h5", ".npy", ".npz", ".mat")


@dataclass(frozen=True)
class Clip:
    """A video file, or a folder of frame images in its place.

    Attributes:
        path: the file or folder.
        name: path relative to the data set's folder, with forward slashes.
        pictures: of a folder, its pictures in natural order; empty for a video file.
    """

    path: Path
    name: str
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True)
class ClipFacts:
    """What must be known of a clip.

    Attributes:
        width, height: of the displayed frame, pixels.
        fps: frames per second; 0.0 where there is no clock (frame images).
        num_frames: T.
        times: gives the frames' (T,) seconds, ascending (it may scan the file).
        notes: what is wrong with the file, if anything.
    """

    width: int
    height: int
    fps: float
    num_frames: int
    times: Callable[[], np.ndarray]
    notes: tuple[str, ...] = ()


def find_clips(root: Path) -> list[Clip]:
    """Videos and folders of frame images anywhere below ``root``, or ``root`` itself if it is one; in natural order.

    Hidden names and label folders are left out. A folder that holds videos is no folder of frame images.
    """
    if root.is_file():
        return [Clip(root, root.name)]
    videos: list[Path] = []
    pictures: dict[Path, list[Path]] = {}
    for path in sorted(root.rglob("*"), key=lambda p: natural_key(p.relative_to(root).as_posix())):
        name = path.relative_to(root)
        if any(part.startswith(".") for part in name.parts) or not path.is_file():
            continue
        if path.suffix.lower() in VIDEO_SUFFIXES:
            videos.append(path)
        elif path.suffix.lower() in PICTURE_SUFFIXES and name.parent.name not in LABEL_FOLDERS:
            pictures.setdefault(path.parent, []).append(path)
    with_videos = {p.parent for p in videos}
    clips = [Clip(p, p.relative_to(root).as_posix()) for p in videos]
    for folder, files in pictures.items():
        if folder not in with_videos:
            label = folder.relative_to(root).as_posix() if folder != root else folder.resolve().name
            clips.append(Clip(folder, label, tuple(files)))
    return sorted(clips, key=lambda c: natural_key(c.name))


def find_labels(clip: Clip, root: Path) -> Path | None:
    """The label file (or OpenPose / JSON folder) of a clip: the same stem beside it or in a sibling ``labels/``,
    ``annotations/`` or ``gt/`` of any folder up to ``root`` (with the clip's folders repeated below it, or not); for
    DeepLabCut the stem followed by ``DLC...``; in a folder of frame images ``labels.*`` and ``CollectedData_*``.

    Raises:
        PoseError: several files could be meant.
    """
    stem = clip.path.name if clip.pictures else clip.path.stem
    places = [clip.path.parent]
    above = [clip.path.parent, *clip.path.parent.parents]
    above = above[: above.index(root) + 1] if root in above else above[:1]
    for folder in above:
        below = clip.path.parent.relative_to(folder)
        for label_folder in LABEL_FOLDERS:
            places += [folder / label_folder / below, folder / label_folder]
            if below.parts:  # videos/front/a.mp4 beside labels/front/a.csv
                places.append(folder / label_folder / Path(*below.parts[1:]))
    found: dict[Path, None] = {}
    for place in dict.fromkeys(places):
        for suffix in LABEL_SUFFIXES:
            if (place / f"{stem}{suffix}").is_file():
                found[place / f"{stem}{suffix}"] = None
        for pattern in (f"{_literal(stem)}DLC*.csv", f"{_literal(stem)}DLC*.h5"):
            found |= dict.fromkeys(sorted(place.glob(pattern)))
        folder = place / stem
        if folder.is_dir() and (folder != clip.path) and any(folder.glob("*.json")):
            found[folder] = None
    if clip.pictures:
        found |= dict.fromkeys(p for s in LABEL_SUFFIXES if (p := clip.path / f"labels{s}").is_file())
        for suffix in (".csv", ".h5"):
            found |= dict.fromkeys(sorted(clip.path.glob(f"CollectedData_*{suffix}")))
        if is_openpose_folder(clip.path):
            found[clip.path] = None
    # DeepLabCut writes each table twice: the CSV says the same as the H5, and needs nothing installed to be read.
    found = {p: None for p in found if p.suffix != ".h5" or p.with_suffix(".csv") not in found}
    if len(found) > 1:
        names = ", ".join(str(p) for p in found)
        raise PoseError(f"several label files for {clip.name}: {names}", hint="keep one of them")
    return next(iter(found), None)


def _literal(text: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", text)


def clip_facts(clip: Clip) -> ClipFacts:
    """Size, rate and length of a clip; PoseError when it can't be read, or when frame images differ in size."""
    if clip.pictures:
        sizes = {picture_size(p): p for p in clip.pictures}
        if len(sizes) > 1:
            (a, first), (b, second) = list(sizes.items())[:2]
            what = f"frames of different size: {first.name} {a[0]} x {a[1]}, {second.name} {b[0]} x {b[1]}"
            raise PoseError(what, str(clip.path), "one folder is one video")
        width, height = next(iter(sizes))

        def no_times() -> np.ndarray:
            raise PoseError("labels with times, but a folder of pictures has no clock", str(clip.path), "use 'frame'")

        return ClipFacts(width, height, 0.0, len(clip.pictures), no_times)
    with open_source(clip.path) as source:
        count, fps = source.num_frames, source.fps or 0.0
        if count is None:
            count = sum(1 for _ in source.frames())
        notes = tuple(f"{clip.name}: {p}" for p in source.problems[:1])
    frames = count
    return ClipFacts(source.width, source.height, fps, frames, lambda: frame_times(clip.path, frames, fps), notes)


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts_of(clips: Sequence[Clip], workers: int | None = None) -> list[ClipFacts]:
    """`clip_facts` of many clips in their order, ``workers`` (None: one a core) videos at a time."""
    with ThreadPoolExecutor(workers or available_cores()) as pool:
        return list(pool.map(clip_facts, clips))


def frame_times(path: Path, count: int, fps: float) -> np.ndarray:
    """(count,) seconds of a video's frames in order of display, from the packets' time stamps without decoding.

    Where the file has not one stamp for each frame (AVI stores none), the nominal rate is all that is known.
    """
    import av

    with av.open(os.path.abspath(path)) as container:
        stream = container.streams.video[0]
        stamps = [p.pts for p in container.demux(stream) if p.size and not p.is_discard]
        unit = float(stream.time_base or 0)
    if unit and len(stamps) == count and None not in stamps and len(set(stamps)) == count:
        times = np.sort(np.array(stamps, dtype=np.float64)) * unit
        return times - times[0]
    return np.arange(count) / fps
