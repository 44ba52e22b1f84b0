"""A folder of videos with labels beside them: the format ``mars``.

Videos (or folders of frame images in their place) lie anywhere below the folder. The labels of each are a file of the
same stem beside it or in a sibling ``labels/``, ``annotations/`` or ``gt/``; `clips` says where exactly.

Forms: JSON (`frame_json`), CSV wide, long and DeepLabCut (`tables`; `deeplabcut` for its H5), ``.npy``, ``.npz`` and
``.mat`` arrays (`arrays`), a folder of OpenPose JSON (`openpose`). ``skeleton.toml`` in the folder names the joints,
and maps the files' names by ``[rename]``.
"""

from __future__ import annotations

import reprlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import refuse_device
from posecli.formats import openpose
from posecli.formats.alignment import align, describe_rates
from posecli.formats.arrays import read_array
from posecli.formats.clip_names import recording_of, tags_of
from posecli.formats.clips import LABEL_SUFFIXES, Clip, ClipFacts, facts_of, find_clips, find_labels
from posecli.formats.deeplabcut import read_table
from posecli.formats.frame_json import read_frame_json, read_frame_json_folder
from posecli.formats.joint_names import skeleton_from_names
from posecli.formats.labels import SCORE_THRESHOLD, LabelFile, LabelRow, joint_columns, say_scores_outside, to_instance
from posecli.formats.tables import read_csv
from posecli.skeletons import get_skeleton, read_renames, read_skeleton_toml
from posecli.types import Dataset, Instance, Record, Skeleton, Video

Warn = Callable[[str], None]
_MOST_FRAMES = 10**15  # what no video has, and whole numbers of 64 bits still hold


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


@dataclass(frozen=True)
class _Part:
    """A clip with its labels and its facts."""

    clip: Clip
    label: LabelFile | None
    facts: ClipFacts


def read(
    root: str | Path,
    *,
    skeleton: str | Path | Skeleton | None = None,
    every: int = 1,
    label_fps: float | None = None,
    score_threshold: float = SCORE_THRESHOLD,
    workers: int | None = None,
    warn: Warn = _warn,
) -> Dataset:
    """Reads a folder of videos and labels (or one video with its labels beside it).

    Every ``every``-th frame becomes a record, labelled or not; one that the labels do not speak of has
    ``is_labeled: false`` among its extra keys. ``tags`` of a video are the folders it lies in, ``recording`` (an extra
    key) is shared by all cameras of one scene.

    Args:
        root: the folder, or one video.
        skeleton: a known name, the path of a `skeleton.toml`, or a `Skeleton`; None: ``root/skeleton.toml``, else
            the labels' own joint names.
        every: keep frames 0, every, 2 every, ...
        label_fps: the rate in which the labels' frame numbers count, where it is not the video's own; rows are then
            matched by time stamps.
        score_threshold: confidence above which a joint counts as visible (2) and not as uncertain (1).
        workers: videos looked through at a time; None: one a core.
        warn: takes one sentence for each thing worth knowing.

    Raises:
        PoseError: naming file and row, for anything wrong in a label file; no video; no labels; a joint the skeleton
            lacks; labels beyond the end of their video; label files with different joints and no skeleton.
    """
    root = Path(root)
    clips = find_clips(root)
    if not clips:
        raise PoseError("no video and no folder of frame images in it", str(root))
    base = root.parent if root.is_file() else root
    found = {clip.name: find_labels(clip, base) for clip in clips}
    pictures = {clip.name: clip.pictures for clip in clips}
    labels = {name: None if path is None else read_labels(path, pictures[name]) for name, path in found.items()}
    chosen, renames = _skeleton(root, base, skeleton, [x for x in labels.values() if x is not None], warn)
    if root.is_dir():
        _warn_of_leftovers(base, clips, found, warn)
    parts = [_Part(c, labels[c.name], facts) for c, facts in zip(clips, facts_of(clips, workers), strict=True)]
    videos: list[Video] = []
    records: list[Record] = []
    for number, part in enumerate(parts, 1):
        for note in part.facts.notes:
            warn(note)
        videos.append(_video(part, base, number))
        people = _people(part, chosen, renames, label_fps, score_threshold, warn)
        records += _records(part, base, number, people, every, len(records))
    return Dataset(chosen, tuple(records), tuple(videos), str(base))


def read_labels(path: Path, pictures: Sequence[Path] = ()) -> LabelFile:
    """Reads a label file (or folder of them, a file a frame, of a video or ``pictures``) of any form, chosen by suffix
    and content."""
    refuse_device(path)
    if path.is_dir():
        if openpose.is_openpose_folder(path):
            return openpose.read_openpose(path, pictures)
        return read_frame_json_folder(path, sorted(path.glob("*.json")), pictures)
    readers = {".json": read_frame_json, ".csv": read_csv, ".h5": read_table}
    return readers.get(path.suffix, read_array)(path)


def _skeleton(
    root: Path, base: Path, given: str | Path | Skeleton | None, labels: Sequence[LabelFile], warn: Warn
) -> tuple[Skeleton, Mapping[str, str]]:
    """The skeleton of all labels and the renames, by what is stated first: option, skeleton.toml, the files' names."""
    toml = base / "skeleton.toml"
    renames = read_renames(toml) if toml.exists() else {}
    if isinstance(given, Skeleton):
        return given, renames
    if given is not None:
        if str(given).endswith(".toml"):
            renames = renames | read_renames(given)
        return get_skeleton(str(given)), renames
    if toml.exists():
        return read_skeleton_toml(toml), renames
    if not labels:
        what = "no labels for any video" if root.is_dir() else "a video without labels beside it"
        hint = "walk.json or walk.csv for walk.mp4, beside it or in labels/, annotations/, gt/; --skeleton NAME if none"
        raise PoseError(what, str(root), hint)
    hint = "name the joints in skeleton.toml in the folder, or with --skeleton"
    first = next((x for x in labels if x.names is not None), None)
    if first is None:
        openpose_label = next((x for x in labels if x.form.startswith("OpenPose") and x.rows), None)
        if openpose_label is None:
            raise PoseError("the labels do not name their joints", str(labels[0].path), hint)
        skeleton = openpose.skeleton_of(openpose_label)
        warn(f"{openpose_label.path}: {skeleton.num_keypoints} joints a person: taken as OpenPose's {skeleton.name}")
        return skeleton, renames
    skeleton = skeleton_from_names(first.names or (), where=str(first.path))
    for label in labels:
        if label.names is not None and len(label.names) != skeleton.num_keypoints:
            what = f"{len(label.names)} joints where {first.path.name} has {skeleton.num_keypoints}"
            raise PoseError(what, str(label.path), hint)
    return skeleton, renames


def _warn_of_leftovers(base: Path, clips: Sequence[Clip], found: Mapping[str, Path | None], warn: Warn) -> None:
    bare = [name for name, path in found.items() if path is None]
    if bare:
        warn(f"{len(bare)} of {len(clips)} videos have no labels: {', '.join(bare[:3])}{' ...' * (len(bare) > 3)}")
    used = {p for p in found.values() if p is not None}
    left = []
    for path in sorted(base.rglob("*")):
        if path.suffix not in LABEL_SUFFIXES or path in used or used & set(path.parents) or not path.is_file():
            continue
        if path.suffix == ".h5" and path.with_suffix(".csv") in used:  # the same table
            continue
        # Folders hold JSON of many kinds (settings, calibrations): only that of our own form is meant as labels.
        if path.suffix != ".json" or b'"persons"' in path.read_bytes():
            left.append(path)
    if left:
        warn(f"{len(left)} files that could be labels belong to no video (first: {left[0].relative_to(base)})")


def _video(part: _Part, base: Path, number: int) -> Video:
    clip, facts = part.clip, part.facts
    stated = part.label.facts if part.label is not None else {}
    tags = [str(t) for t in stated.get("tags") or ()]
    recording = str(stated.get("recording") or recording_of(clip.name, bool(clip.pictures)))
    name = clip.name if clip.pictures else clip.name.rpartition(".")[0]
    all_tags = tuple(dict.fromkeys([*tags_of(clip.name), *tags]))
    return Video(
        id=number, name=name, file_name=clip.path.relative_to(base).as_posix(), width=facts.width,
        height=facts.height, fps=facts.fps, num_frames=facts.num_frames, tags=all_tags,
        extra={"recording": recording},
    )  # fmt: skip


def _people(
    part: _Part,
    skeleton: Skeleton,
    renames: Mapping[str, str],
    label_fps: float | None,
    threshold: float,
    warn: Warn,
) -> dict[int, list[Instance]]:
    """Frame index to its people; a frame labelled as empty has an empty list."""
    label, facts = part.label, part.facts
    if label is None:
        return {}
    size = tuple(label.facts.get(k, v) for k, v in (("width", facts.width), ("height", facts.height)))
    if size != (facts.width, facts.height):
        what = f"labels for a picture of {size[0]} x {size[1]}, but the video has {facts.width} x {facts.height}"
        raise PoseError(what, str(label.path))
    columns = joint_columns(label, skeleton, renames)
    rows = label.rows
    if label.names is None and rows and len(rows[0].xy) != skeleton.num_keypoints:
        what = f"{len(rows[0].xy)} joints where skeleton {skeleton.name!r} has {skeleton.num_keypoints}"
        raise PoseError(what, rows[0].where)
    say_scores_outside(label, warn)
    fps = label_fps if label_fps is not None else label.fps
    # 60/s and 59.94/s differ by a thousandth: only what is rounding counts as the same rate.
    if fps is not None and facts.fps and abs(fps - facts.fps) <= 1e-4 * facts.fps:
        fps = None
    numbers = np.array([_number(r, part) for r in rows], dtype=np.int64)
    times = np.array([np.nan if r.time is None else r.time for r in rows], dtype=np.float64)
    # One without an identity collides with nobody.
    keys = [r.track_id if r.track_id is not None else ("row", i) for i, r in enumerate(rows)]
    aligned = align([r.where for r in rows], numbers, times, keys, facts.num_frames, facts.times, fps)
    # Rows beyond the end are refused by `align`; what else speaks of frames: arrays by their length, empty frames.
    last = max([label.num_frames or 0, *(f + 1 for f in label.labelled)], default=0)
    if fps is None and last > facts.num_frames:
        what = f"labels for {last} frames, but the video has {facts.num_frames}"
        raise PoseError(what, f"{label.path}, frame {facts.num_frames} (counted from 0)")
    if fps is not None and rows:
        warn(f"{label.path}: {describe_rates(fps, facts.fps, facts.num_frames / facts.fps if facts.fps else 0.0)}")
    if aligned.doubled:
        warn(f"{label.path}: {aligned.doubled} labels left out: a nearer one has their frame")
    people: dict[int, list[Instance]] = {}
    if fps is None:
        people = {f: [] for f in (*label.labelled, *range(label.num_frames or 0))}
    for row, frame in zip(rows, aligned.frame.tolist(), strict=True):
        if frame >= 0:
            instance = to_instance(row, columns, skeleton, label.third, facts.width, facts.height, threshold)
            present = people.setdefault(frame, [])
            # A row of blanks says that nobody is there.
            if instance.visibility.any() or instance.box_xyxy is not None:
                present.append(instance)
    return people


def _number(row: LabelRow, part: _Part) -> int:
    """The row's frame number, by its picture's name where it states one; -1 for a row with a time."""
    clip = part.clip
    if row.file is None:
        if row.frame is not None and row.frame >= _MOST_FRAMES:
            what = f"frame {reprlib.repr(row.frame)}, but the video has {part.facts.num_frames} frames"
            raise PoseError(what, row.where)
        return -1 if row.frame is None else row.frame
    index = next((i for i, p in enumerate(clip.pictures) if p.name == row.file), None)
    if index is None:
        raise PoseError(f"picture {row.file!r} is not in {clip.name}", row.where)
    return index


def _records(
    part: _Part, base: Path, video_id: int, people: Mapping[int, list[Instance]], every: int, before: int
) -> list[Record]:
    clip, facts = part.clip, part.facts
    records: list[Record] = []
    for frame in range(0, facts.num_frames, every):
        file_name = clip.name
        if clip.pictures:
            file_name = clip.pictures[frame].relative_to(base).as_posix()
        extra: dict[str, Any] = {} if frame in people else {"is_labeled": False}
        records.append(
            Record(
                image_id=before + len(records) + 1, file_name=file_name, width=facts.width, height=facts.height,
                instances=tuple(people.get(frame, ())), video_id=video_id, frame_id=frame, extra=extra,
            )
        )  # fmt: skip
    return records
