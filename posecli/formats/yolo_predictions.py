"""What YOLO pose found (Ultralytics): a folder of text files, as ``save_txt`` leaves it.

Format notes (https://docs.ultralytics.com/modes/predict/): ``labels/a.txt`` for the picture ``a.jpg``, or
``labels/clip_12.txt`` for the twelfth frame of ``clip.mp4`` (counted from **1**). A line a person: ``class cx cy w h
x1 y1 c1 x2 y2 c2 ... [confidence] [track]``, all but class, confidences and track in parts of the picture's size; a
joint of little confidence stands at 0 0 and counts as not found. The person's confidence is there with ``save_conf``
only; without it everybody's score is 1. A picture in which nobody was found has no file. The files name neither joints
nor sizes: the joints are said by ``--skeleton``, the sizes by the pictures or the video (``--image-root``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from posecli.errors import PoseError
from posecli.files import refuse_device
from posecli.formats.coco_results import chosen_skeleton
from posecli.formats.found_pictures import FoundPictures, StatedPictures, stated_header, video_header, video_of
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.yolo import read_lines
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Skeleton, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_FEWEST = 5 + 2  # class, box, one joint of two numbers
_OTHER = {"classes.txt", "labels.txt", "notes.txt", "readme.txt"}
_FRAME = re.compile(r"(?P<stem>.+)_(?P<number>\d+)")


def _files(src: Path) -> list[Path]:
    """The text files of the folder, else of its ``labels/``; none where there are other label files."""
    for folder in (src, src / "labels"):
        found = [p for p in sorted(folder.glob("*.txt")) if p.name.lower() not in _OTHER] if folder.is_dir() else []
        if found:
            return found
    return []


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a folder of text files with lines of poses, and no ``data.yaml`` speaks of them."""
    if not src.is_dir() or any(src.glob("*.y*ml")):
        return None
    files = _files(src)
    for path in files[:20]:
        refuse_device(path)
        with open(path, encoding="utf-8", errors="replace") as handle:
            line = handle.read(4096).strip().split("\n")[0]
        if line:
            return f"{len(files)} files like {path.name} with lines of poses" if _is_pose(line) else None
    return None


def _is_pose(line: str) -> bool:
    words = line.split()
    try:
        box = [float(w) for w in words[1:5]]
        [float(w) for w in words]
    except ValueError:
        return False
    return len(words) >= _FEWEST and words[0].isdecimal() and all(-0.5 <= v <= 1.5 for v in box)


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the folder as labels, e.g. to correct them: `labels_of_poses` of `read_poses`."""
    src = Path(src)
    video = video_of(src, options.image_root)
    root = video.parent if video else _root(src, options.image_root)
    frames = read_poses(src, options.skeleton, options.image_root, warn)
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def read_poses(
    src: Path,
    skeleton: str | Path | Skeleton | None,
    image_root: str | Path | None,
    warn: Warn,
    stated: StatedPictures | None = None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The detections as poses, of pictures (one frame each, by name) or of a video's frames (all of them).

    They are a video's when ``image_root`` is a video. With ``stated`` pictures and videos are those of a data set and
    need not be there.

    Raises:
        PoseError: naming file and line, for anything that is no detection; a frame twice; no skeleton, or one with
            another number of joints; a picture or video that is not there, or one of two pictures of that name; frames
            beyond the end.
    """
    files = _files(src)
    if not files:
        raise PoseError("no text files", str(src))
    chosen = chosen_skeleton(skeleton, None, str(src))
    video = video_of(src, image_root)
    if video is not None:
        mine = _of_video(src, files, video, warn)
        yield from _frames(src, mine, *video_header(video, chosen), warn)
        return
    root = _root(src, image_root)
    pictures = stated or FoundPictures(root, str(src))
    videos: dict[str, Video] = {}
    by_video: dict[str, list[Path]] = {}
    found = []
    for path in files:
        try:
            found.append((path, pictures.of_stem(path.stem)))
        except PoseError:
            match = _FRAME.fullmatch(path.stem)
            known = stated.video([match["stem"]], only=False) if match is not None and stated is not None else None
            if match is None or known is None:
                raise
            videos[match["stem"]] = known
            by_video.setdefault(match["stem"], []).append(path)
    header = StreamHeader(root.resolve().name, chosen)
    scored = 0
    for frame, (path, (name, width, height)) in enumerate(found):
        people, with_score = _people(path, chosen, width, height)
        scored += with_score
        yield header, FramePoses(frame, people, None, None, name, width, height)
    if found and not scored:
        _say_unscored(src, warn)
    for stem, paths in by_video.items():
        known = videos[stem]
        yield from _frames(src, paths, stated_header(known, chosen), known.num_frames, warn)


def _of_video(src: Path, files: list[Path], video: Path, warn: Warn) -> list[Path]:
    """The files named after the video; several videos may share a folder. One not named after a frame stays, to be
    refused."""
    stems = {path: match["stem"] for path in files if (match := _FRAME.fullmatch(path.stem)) is not None}
    mine = [path for path in files if stems.get(path, video.stem) == video.stem]
    if not mine:
        raise PoseError(f"none of {len(files)} files is named after {video.name}", str(files[0]), "another video's?")
    if len(mine) < len(files):
        warn(f"{src}: {len(files) - len(mine)} files are not named after {video.name} and were left out")
    return mine


def _root(src: Path, image_root: str | Path | None) -> Path:
    """The folder of the pictures: as said, else ``images/`` where the path says ``labels/``, else that above."""
    if image_root is not None:
        return Path(image_root)
    parts = list(src.absolute().parts)
    places = [n for n, part in enumerate(parts) if part == "labels"]
    if places:
        beside = Path(*parts[: places[-1]], "images", *parts[places[-1] + 1 :])
        if beside.is_dir():
            return beside
    return src.parent


def _people(path: Path, skeleton: Skeleton, width: int, height: int) -> tuple[tuple[Instance, ...], int]:
    """The people of one file, and how many of them have a score."""
    instances, _ = read_lines(path, skeleton, None, None, width, height)
    return tuple(instances), sum(p.person_score < 1 for p in instances)


def _say_unscored(src: Path, warn: Warn) -> None:
    warn(f"{src}: nobody has a confidence (save_conf=True writes it): everybody's score is 1, so AP has one step only")


def _frames(
    src: Path, files: list[Path], header: StreamHeader, length: int, warn: Warn
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    if not header.width or not header.height:
        raise PoseError(f"nothing says how large {header.source} is", str(src))
    people: dict[int, tuple[Instance, ...]] = {}
    scored = 0
    for path in files:
        match = _FRAME.fullmatch(path.stem)
        if match is None or int(match["number"]) < 1:
            raise PoseError(f"not named after a frame of {header.source}, as NAME_12.txt is", str(path))
        frame = int(match["number"]) - 1
        if frame in people:
            raise PoseError(f"a second file of frame {frame + 1} of {header.source}", str(path), "keep one of them")
        people[frame], with_score = _people(path, header.skeleton, header.width, header.height)
        scored += with_score
    last = max(people, default=-1)
    if length and last >= length:
        raise PoseError(f"frame {last + 1}, but {header.source} has {length} frames", str(src), "another video's?")
    if not scored:
        _say_unscored(src, warn)
    for frame in range(max(length, last + 1)):
        yield header, FramePoses(frame, people.get(frame, ()), frame / header.fps if header.fps else None)
