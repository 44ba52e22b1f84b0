"""The MARS lab recordings: one person, several synchronised cameras (format ``mars_lab``).

Layout of a set::

    calibration.json            {view name: {...}}; the order of its keys is the order of the videos (here or above)
    <set>/data1.mp4 ...         one video a view
    <set>/<view>/joints2d.txt   a line per labelled frame: frame number, 22 x, 22 y, 22 confidences
    <set>/pose.txt              SMPL poses; the first number is the first labelled camera frame

Each view's labels, box and size come from that view alone. Frame numbers are the camera's own, unless another rate is
stated or shows: labels that count at 60/s beside a video at 59.94/s, or at 20/s, are matched by time stamps.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from posecli.errors import PoseError
from posecli.files import refuse_device
from posecli.formats.alignment import align, describe_rates
from posecli.formats.clips import Clip, ClipFacts, facts_of
from posecli.formats.coco import joint_box, load_json
from posecli.formats.labels import SCORE_THRESHOLD, say_outside, visibility_from_scores
from posecli.skeletons import MARS22
from posecli.types import Dataset, Instance, Record, Video
from posecli.video import VIDEO_SUFFIXES

Warn = Callable[[str], None]
_FAR = 2.0**53  # whole numbers up to here are what they say
_JOINTS = MARS22.num_keypoints


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class View:
    """One camera of a set: its name, its video and its label file (None where it has none)."""

    name: str
    video: Path
    labels: Path | None


@dataclass(frozen=True)
class Joints2d:
    """A ``joints2d.txt``: (L,) frame numbers, (L, 22, 2) pixels, (L, 22) confidences, and file and row of each line."""

    number: np.ndarray
    xy: np.ndarray
    score: np.ndarray
    where: tuple[str, ...]


def find_sets(root: Path) -> list[Path]:
    """Folders of the lab layout at or below ``root``: those with a ``<view>/joints2d.txt``."""
    return sorted({p.parent.parent for p in [*root.glob("*/joints2d.txt"), *root.glob("*/*/joints2d.txt")]})


def find_views(folder: Path, root: Path) -> list[View]:
    """The views of a set, in the order of ``calibration.json`` (in the set, or in a folder above up to ``root``).

    Raises:
        PoseError: no calibration, it names no views, or it does not have as many views as the set has videos.
    """
    above = [folder, *folder.parents]
    above = above[: above.index(root) + 1] if root in above else above[:1]
    calibration = next((f / "calibration.json" for f in above if (f / "calibration.json").exists()), None)
    if calibration is None:
        raise PoseError("no calibration.json", str(folder), "the order of its views says which video is whose")
    value = load_json(calibration)
    if not isinstance(value, dict) or not value:
        raise PoseError("no views in it", str(calibration))
    videos = {}
    for path in folder.iterdir():
        match = re.fullmatch(r"data(\d+)", path.stem)
        if match and path.suffix.lower() in VIDEO_SUFFIXES:
            videos[int(match[1])] = path
    if not videos:
        raise PoseError("no videos data1.mp4, data2.mp4, ...", str(folder))
    beyond = [p for n, p in sorted(videos.items()) if not 1 <= n <= len(value)]
    if beyond:
        raise PoseError(f"{beyond[0].name}, but {calibration} has {len(value)} views", str(folder))
    views = []
    for number, name in enumerate(value, 1):
        labels = folder / name / "joints2d.txt"
        if number in videos:
            views.append(View(name, videos[number], labels if labels.exists() else None))
        elif labels.exists():
            raise PoseError(f"labels of view {name!r}, but no data{number}.mp4", str(folder))
    unknown = [p for p in sorted(folder.glob("*/joints2d.txt")) if p.parent.name not in value]
    if unknown:
        raise PoseError(f"view {unknown[0].parent.name!r} is not in {calibration.name}", str(unknown[0]))
    return views


def read_joints2d(path: Path) -> Joints2d:
    """Reads a label file; PoseError with the row for a wrong count of numbers, a number that is none, a frame number
    that is no whole number from 0 or stands twice. Confidence NaN or 0 is a joint not found."""
    numbers, values, where = [], [], []
    refuse_device(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PoseError(f"cannot read as text: {error}", str(path)) from None
    seen: set[int] = set()
    for row, line in enumerate(text.splitlines(), 1):
        cells = line.replace(",", " ").split()
        if not cells:
            continue
        at = f"{path}, row {row}"
        if len(cells) != 1 + 3 * _JOINTS:
            raise PoseError(f"{len(cells)} numbers, not a frame number and 3 x {_JOINTS}", at)
        try:
            frame, *rest = (float(c) for c in cells)
        except ValueError as error:
            raise PoseError(f"not a number: {error}", at) from None
        if not 0 <= frame < _FAR or frame != int(frame):
            raise PoseError(f"{cells[0]!r} is not a frame number", at)
        if int(frame) in seen:
            raise PoseError(f"frame {int(frame)} stands twice", at)
        seen.add(int(frame))
        numbers.append(int(frame))
        values.append(rest)
        where.append(at)
    if not numbers:
        raise PoseError("no labels in it", str(path))
    array = np.array(values).reshape(len(values), 3, _JOINTS)  # all x, then all y, then all confidences
    xy, score = array[:, :2].transpose(0, 2, 1), np.nan_to_num(array[:, 2], nan=0.0, posinf=np.inf)
    odd = np.argwhere(((score > 0) & ~np.isfinite(xy).all(axis=2)) | np.isinf(score))
    if len(odd):
        row, joint = odd[0]
        raise PoseError(f"a number of {MARS22.keypoints[joint]!r} is not finite", where[row])
    return Joints2d(np.array(numbers), xy, score, tuple(where))


def read(
    root: str | Path,
    *,
    every: int = 1,
    label_fps: float | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    workers: int | None = None,
    warn: Warn = _warn,
) -> Dataset:
    """Reads one set or a folder of sets, joints in the lab's own order (skeleton ``mars22``).

    v is 2 for a joint inside the picture with confidence above ``score_threshold``, 1 for one inside with less, 0
    outside or missing; the confidences stay as scores. The box is that of the view's own joints with v > 0. Tags of a
    video are its set and its view; ``recording`` is the set.

    Args:
        root: the folder.
        every: keep frames 0, every, 2 every, ...
        label_fps: the rate in which the labels' frame numbers count; None: the video's own frames, unless the numbers
            show another rate (then said in a warning).
        score_threshold: see above.
        workers: videos looked through at a time; None: one a core.
        warn: takes one sentence for each thing worth knowing.

    Raises:
        PoseError: naming file and row, for anything that is not as the layout says.
    """
    root = Path(root)
    sets = find_sets(root)
    if not sets:
        raise PoseError("no <set>/<view>/joints2d.txt in it", str(root))
    views = [(folder, view) for folder in sets for view in find_views(folder, root)]
    clips = [Clip(view.video, view.video.relative_to(root).as_posix()) for _, view in views]
    videos: list[Video] = []
    records: list[Record] = []
    for (folder, view), clip, facts in zip(views, clips, facts_of(clips, workers), strict=True):
        name = folder.relative_to(root).as_posix() if folder != root else root.resolve().name
        for note in facts.notes:
            warn(note)
        video_id = len(videos) + 1
        videos.append(
            Video(
                id=video_id, name=f"{name}/{view.name}", file_name=clip.name, width=facts.width, height=facts.height,
                fps=facts.fps, num_frames=facts.num_frames, tags=(name, view.name), extra={"recording": name},
            )
        )  # fmt: skip
        people: dict[int, tuple[Instance, ...]] = {}
        if view.labels is None:
            warn(f"{folder / view.name}: no joints2d.txt")
        else:
            first = _first_labelled_frame(folder / "pose.txt")
            people = _people(view.labels, facts, label_fps, first, score_threshold, warn)
        for frame in range(0, facts.num_frames, every):
            records.append(
                Record(
                    image_id=len(records) + 1, file_name=clip.name, width=facts.width, height=facts.height,
                    instances=people.get(frame, ()), video_id=video_id, frame_id=frame,
                    extra={} if frame in people else {"is_labeled": False},
                )
            )  # fmt: skip
    return Dataset(MARS22, tuple(records), tuple(videos), str(root))


def _people(
    path: Path, facts: ClipFacts, label_fps: float | None, first: int | None, threshold: float, warn: Warn
) -> dict[int, tuple[Instance, ...]]:
    """Frame index to the person, if any joint is in sight; frames without a label are not among the keys."""
    labels = read_joints2d(path)
    say_outside([labels.score], str(path), warn)
    fps = label_fps if label_fps is not None else _rate_that_shows(labels.number, facts, first)
    numbers, times = labels.number, np.full(len(labels.number), np.nan)
    if fps is not None:
        # The first label lies on the first labelled camera frame, where pose.txt says which that is.
        start = 0.0 if first is None else first / facts.fps - numbers.min() / fps
        numbers, times = np.full(len(numbers), -1), start + numbers / fps
    keys = [1] * len(numbers)
    aligned = align(labels.where, numbers, times, keys, facts.num_frames, facts.times, None)
    if fps is not None:
        warn(f"{path}: {describe_rates(fps, facts.fps, facts.num_frames / facts.fps)}")
    if aligned.doubled:
        warn(f"{path}: {aligned.doubled} labels left out: a nearer one has their frame")
    if first is not None and fps is None and labels.number.min() != first:
        warn(f"{path}: the first label is frame {labels.number.min()}, pose.txt begins at frame {first}")
    people: dict[int, tuple[Instance, ...]] = {}
    for row, frame in enumerate(aligned.frame.tolist()):
        if frame < 0:
            continue
        xy, score = labels.xy[row].copy(), labels.score[row]
        visibility = visibility_from_scores(xy, score, facts.width, facts.height, threshold)
        xy[visibility == 0] = np.nan
        person = Instance(
            xy=xy, visibility=visibility, score=np.clip(score, 0, 1).astype(np.float32),
            box_xyxy=joint_box(xy, visibility), track_id=1,
        )  # fmt: skip
        people[frame] = (person,) if visibility.any() else ()  # nobody in sight of this camera
    return people


def _rate_that_shows(numbers: np.ndarray, facts: ClipFacts, first: int | None) -> float | None:
    """The rate in which label numbers count when they cannot be camera frames; None when they can.

    Two things show it. Ten or more numbers without gaps that cover a half, a third, a quarter ... of the video from the
    first labelled camera frame on, to a hundredth, and are not that camera frame's own number: a slower clock. Numbers
    that go beyond the video's frames, but by no more than the thousandth between 60/s and 59.94/s (or 30 and 29.97,
    ...): a clock of whole rates.
    """
    last, count, fps = int(numbers.max()) + 1, facts.num_frames, facts.fps
    nominal, lowest = round(fps), int(numbers.min())
    if count < last <= int(count * nominal / fps) and nominal - fps < 0.05 * nominal:
        return float(nominal)
    length = last - lowest
    if len(numbers) < max(length, 10) or (first is not None and first == lowest > 0):
        return None
    left = count - (lowest if first is None else first)  # frames from the first label to the end
    slower = round(left / length)
    if slower >= 2 and abs(length * slower - left) <= max(slower, 0.01 * left):
        return float(nominal) / slower
    return None


def _first_labelled_frame(path: Path) -> int | None:
    """The first number of ``pose.txt``; None without such a file."""
    if not path.exists():
        return None
    with open(path, encoding="utf-8", errors="replace") as handle:
        cells = handle.readline().split()
    try:
        return int(float(cells[0]))
    except (IndexError, ValueError, OverflowError):
        raise PoseError("the first line does not begin with a frame number", str(path)) from None
