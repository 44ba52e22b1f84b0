"""People written in the forms of others: poses frame by frame, labels as a whole.

`FORMS` names the forms. One that is written frame by frame (COCO results, CSV, OpenPose, Parquet, the stream itself)
takes poses of any length in little memory; a form of labels (COCO data set, YOLO, labelme, ...) takes a `Dataset`, and
poses are gathered into one for it. Labels are written in either. What a form has no place for is counted and said.

COCO results: a JSON list of ``{"image_id", "category_id": 1, "keypoints": [x, y, score, ...], "score"}``, 0, 0, 0 for a
joint not found (https://cocodataset.org/#format-results); people without any joint are left out. ``track_id`` is added
where there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from posecli.errors import UsageError
from posecli.files import replace_when_done
from posecli.formats import FORMATS, WRITERS, parquet
from posecli.formats.coco_results_write import write_results
from posecli.formats.coco_write import moved
from posecli.formats.coco_write import write as write_coco
from posecli.formats.joint_mapping import JointMapping, SkeletonChange, joint_mapping
from posecli.formats.label_poses import Frames, by_source, label_stream, labels_of_poses, with_label_keys
from posecli.formats.openpose_write import write_openpose
from posecli.formats.tables_write import Columns, label_columns, misjudged_by_scores, write_long, write_wide
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.types import Dataset, Instance, Skeleton

__all__ = [
    "FORMS", "Form", "Frames", "export_dataset", "export_stream", "form_of", "label_stream", "labels_of_poses",
    "reskeleton",
]  # fmt: skip
Warn = Callable[[str], None]


def _silent(message: str) -> None:
    """For callers that have nobody to tell."""


@dataclass(frozen=True)
class Form:
    """One form of output.

    Attributes:
        about: what it is, for help and documentation.
        holds: which of `FEATURES` it has a place for.
        write_frames: writes poses one after the other; returns the number of people.
        write_labels: writes a data set; returns the number of people. A form needs one of the two; with both, labels
            go the second way.
        by_tool: name in `posecli.formats.WRITERS` of a writer that renames its output itself and says itself what it
            cannot hold.
    """

    about: str
    holds: frozenset[str]
    write_frames: Callable[[Frames, Path, Warn], int] | None = None
    write_labels: Callable[[Dataset, Path, Warn], int] | None = None
    by_tool: str | None = None


def _has_unusual_scores(person: Instance) -> bool:
    return bool((person.score[person.visibility > 0] != 1).any())


def _has_further_keys(person: Instance) -> bool:
    return any(k not in ("id", "iscrowd") for k in person.extra)


# What there is to hold of a person besides the places of its joints.
FEATURES: dict[str, Callable[[Instance], bool]] = {
    "track ids": lambda p: p.track_id is not None,
    "hidden joints": lambda p: bool((p.visibility == 1).any()),
    "joint scores": _has_unusual_scores,
    "person scores": lambda p: p.person_score != 1,
    "boxes": lambda p: p.box_xyxy is not None,
    "head boxes": lambda p: p.head_box_xyxy is not None,
    "areas": lambda p: p.area is not None,
    "crowds": lambda p: p.ignore,
    "heat": lambda p: p.heat is not None,
    "further keys": _has_further_keys,
    "people without joints": lambda p: not (p.visibility > 0).any(),
}
_EMPTY = "frames without people"
ALL = frozenset([*FEATURES, _EMPTY])


def export_stream(
    source: str | Path | IO[str] | Frames,
    out: str | Path,
    kind: str = "coco",
    *,
    to_skeleton: Skeleton | None = None,
    derive: bool = True,
    overwrite: bool = False,
    root: str | Path | None = None,
    min_score: float | None = None,
    score_threshold: float | None = None,
    told: Callable[[SkeletonChange], None] | None = None,
    warn: Warn = _silent,
) -> int:
    """Writes a pose stream in another form, complete or not at all; returns the number of people written.

    Args:
        source: path of a stream, ``"-"``, an open text file, or frames with their headers.
        out: the file or folder.
        kind: one of `FORMS`; ``"coco"`` means COCO results.
        to_skeleton: another joint set, by the rules of `posecli.formats.joint_mapping`.
        derive: whether midpoints stand in for joints the stream lacks.
        overwrite: ``out`` may be replaced.
        root: for forms of labels, the folder of the videos and pictures; None: the stream's.
        min_score: people below are left out; None: nobody, for forms of labels those below the display threshold.
        score_threshold: for forms of labels, the score above which a joint counts as visible.
        told: given the change of joint set of each source whose joints are new.
        warn: takes one sentence for each thing worth knowing (image ids that had to be counted, what is not held).

    Raises:
        PoseError: what the stream's reader finds wrong, or the output exists. UsageError: unknown kind.
    """
    form = form_of(kind, poses=True)
    if root is None:
        root = Path(source).parent if isinstance(source, str | Path) else Path(".")
    frames = read_stream(source) if isinstance(source, str | Path) or hasattr(source, "read") else source  # type: ignore[arg-type]
    if min_score:
        frames = _above(frames, min_score)
    if to_skeleton is not None:
        frames = reskeleton(frames, to_skeleton, derive=derive, told=told)
    if form.write_frames is None:
        dataset = labels_of_poses(frames, root=root, min_score=min_score, score_threshold=score_threshold, warn=warn)
        return export_dataset(dataset, out, kind, overwrite=overwrite, warn=warn)
    missed: Counter[str] = Counter()
    with replace_when_done(out, overwrite=overwrite) as part:
        count = form.write_frames(_watched(frames, form, missed), part, warn)
    _tell(missed, kind, out, warn)
    return count


def export_dataset(
    dataset: Dataset, out: str | Path, kind: str = "coco", *, overwrite: bool = False, warn: Warn = _silent
) -> int:
    """Writes labels in any form, complete or not at all; returns the number of people written.

    Args:
        dataset: with ``root``.
        out: the file or folder.
        kind: one of `FORMS`; ``"coco"`` means a COCO data set.
        overwrite: ``out`` may be replaced.
        warn: takes one sentence for each thing worth knowing, such as what the form has no place for.

    Raises:
        PoseError: the output exists. UsageError: unknown kind.
    """
    form = form_of(kind, poses=False)
    if form.by_tool is not None:
        WRITERS[form.by_tool](dataset, Path(out), overwrite=overwrite, warn=warn)
        return sum(len(r.instances) for r in dataset.records)
    missed: Counter[str] = Counter()
    for record in dataset.records:
        _count(record.instances, form, missed)
    if kind in ("csv", "csv-wide"):
        missed["hidden joints"] += misjudged_by_scores(dataset)
    with replace_when_done(out, overwrite=overwrite) as part:
        if form.write_labels is not None:
            count = form.write_labels(dataset, part, warn)
        else:
            assert form.write_frames is not None  # a form has one or the other
            count = form.write_frames(label_stream(dataset), part, warn)
    _tell(missed, kind, out, warn)
    return count


def form_of(kind: str, *, poses: bool) -> Form:
    """The form of that name; ``"coco"`` is COCO results for poses and a COCO data set for labels. UsageError lists the
    names."""
    if kind == "coco":
        kind = "coco-results" if poses else "coco-dataset"
    if kind not in FORMS:
        raise UsageError(f"unknown form {kind!r}", hint=f"one of coco, {', '.join(FORMS)}")
    return FORMS[kind]


def reskeleton(
    frames: Frames,
    target: Skeleton,
    *,
    derive: bool = True,
    told: Callable[[SkeletonChange], None] | None = None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The same people with the joints of ``target``; PoseError when a source shares none of them. ``told`` is given the
    change of each joint set once."""
    mappings: dict[tuple[str, tuple[str, ...]], JointMapping] = {}
    for new, header, poses in by_source(frames):
        if new:
            key = (header.skeleton.name, header.skeleton.keypoints)
            if key not in mappings:
                mappings[key] = joint_mapping(header.skeleton, target, derive=derive, where=header.source)
                if told is not None:
                    told(mappings[key].change)
            mapping = mappings[key]
            changed = replace(header, skeleton=target)
        yield changed, replace(poses, instances=tuple(mapping.apply(p) for p in poses.instances))


def _above(frames: Frames, score: float) -> Iterator[tuple[StreamHeader, FramePoses]]:
    for header, poses in frames:
        yield header, replace(poses, instances=tuple(p for p in poses.instances if p.person_score >= score))


def _watched(frames: Frames, form: Form, missed: Counter[str]) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The frames, counting on their way what the form has no place for."""
    for header, poses in frames:
        _count(poses.instances, form, missed)
        yield header, poses


def _count(people: tuple[Instance, ...], form: Form, missed: Counter[str]) -> None:
    if not people and _EMPTY not in form.holds:
        missed[_EMPTY] += 1
    for name, there in FEATURES.items():
        if name not in form.holds:
            missed[name] += sum(map(there, people))


def _tell(missed: Counter[str], kind: str, out: str | Path, warn: Warn) -> None:
    said = [f"{name} ({missed[name]})" for name in (*FEATURES, _EMPTY) if missed[name]]
    if said:
        warn(f"{out}: {kind} has no place for {', '.join(said)}")


def _write_stream(frames: Frames, path: Path, warn: Warn) -> int:
    count = 0
    with StreamWriter(path) as writer:
        for new, header, poses in by_source(frames):
            if new:
                writer.header(header)
            writer.frame(poses)
            count += len(poses.instances)
    return count


def _stream_of_labels(dataset: Dataset, path: Path, warn: Warn) -> int:
    frames = (
        (header, replace(poses, instances=tuple(map(with_label_keys, poses.instances))))
        for header, poses in label_stream(dataset)
    )
    return _write_stream(frames, path, warn)


def _results(frames: Frames, path: Path, warn: Warn) -> int:
    return write_results(frames, path, warn)


def _csv(frames: Frames, path: Path, warn: Warn) -> int:
    return write_long(frames, path, Columns())


def _csv_of_labels(dataset: Dataset, path: Path, warn: Warn) -> int:
    return write_long(label_stream(moved(dataset, path.parent), whole_names=True), path, label_columns(dataset))


def _wide(frames: Frames, path: Path, warn: Warn) -> int:
    return write_wide(frames, path, Columns())


def _wide_of_labels(dataset: Dataset, path: Path, warn: Warn) -> int:
    return write_wide(label_stream(moved(dataset, path.parent), whole_names=True), path, label_columns(dataset))


def _openpose(frames: Frames, folder: Path, warn: Warn) -> int:
    return write_openpose(frames, folder)


def _parquet(frames: Frames, path: Path, warn: Warn) -> int:
    return parquet.write_poses(frames, path)


def _parquet_of_labels(dataset: Dataset, path: Path, warn: Warn) -> int:
    return parquet.write_labels(moved(dataset, path.parent), path)


def _coco(dataset: Dataset, path: Path, warn: Warn) -> int:
    write_coco(dataset, path)
    return sum(len(r.instances) for r in dataset.records)


_TABLE = frozenset({"track ids", "hidden joints", "joint scores", "person scores", "people without joints"})
FORMS: dict[str, Form] = {
    "coco-dataset": Form("COCO keypoint data set, one JSON file", ALL, None, _coco),
    "coco-results": Form(
        "COCO results, a JSON list", frozenset({"track ids", "joint scores", "person scores"}), _results
    ),
    "stream": Form("pose stream, JSON Lines", ALL, _write_stream, _stream_of_labels),
    "csv": Form("CSV table, a row a joint", _TABLE, _csv, _csv_of_labels),
    "csv-wide": Form("CSV table, a row a person", _TABLE | {"boxes", "head boxes", "areas"}, _wide, _wide_of_labels),
    "openpose": Form(
        "OpenPose folder, a JSON file a frame",
        frozenset({"track ids", "joint scores", "people without joints", _EMPTY}),
        _openpose,
    ),
    "parquet": Form("Parquet table, a row a joint", ALL, _parquet, _parquet_of_labels),
    **{name: Form(FORMATS[name].about, ALL, by_tool=name) for name in WRITERS},
}
