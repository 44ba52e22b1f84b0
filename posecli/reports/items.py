"""What a gallery shows: frames of a data set, of a pose stream, or of both, with people, tags and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.metrics import evaluate
from posecli.metrics.measures import Side
from posecli.metrics.people import Labels
from posecli.metrics.reading import is_measured, read_results
from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.reports.examples import person_values
from posecli.reports.pictures import is_video
from posecli.types import Dataset, Instance, Record, Skeleton

Warn = Callable[[str], None]


@dataclass
class Shown:
    """A person of a frame; ``value`` is the likeness of a labelled one to its prediction, ``note`` what stands in
    its place (missed, false)."""

    person: Instance
    value: float | None = None
    note: str = ""


@dataclass
class Item:
    """A frame: its name, where its picture may be, its people.

    Attributes:
        files: names under which the picture or video is looked for, the likeliest first.
        frame: index in the video, None for pictures.
        size_wh: as stated, (0, 0) where nobody says.
        value: mean over labelled people of their likeness (missed ones count 0), None where not measured.
        missed, false: people; 0 where not measured.
    """

    name: str
    files: tuple[str, ...]
    frame: int | None
    size_wh: tuple[int, int]
    tags: tuple[str, ...] = ()
    labels: list[Shown] = field(default_factory=list)
    predictions: list[Shown] = field(default_factory=list)
    value: float | None = None
    missed: int = 0
    false: int = 0

    @property
    def score(self) -> float | None:
        """The highest score among the predicted people."""
        return max((float(p.person.person_score) for p in self.predictions), default=None)


@dataclass
class Collection:
    """The frames of a gallery, and what they have in common.

    Attributes:
        labels, found: skeletons, None where there are no labels or no predictions.
        measure: name of `Item.value`, empty where labels or predictions are missing.
        roots: folders of the pictures.
        notes: what has to be said.
    """

    items: list[Item]
    labels: Skeleton | None
    found: Skeleton | None
    measure: str
    roots: list[Path]
    notes: list[str]


def of_dataset(dataset: Dataset, root: str | Path | None = None) -> Collection:
    """The frames of a data set with their labels; ``root`` in place of the data set's."""
    tags: dict[int | None, tuple[str, ...]] = {video.id: video.tags for video in dataset.videos}
    items = [_of_record(record, tags.get(record.video_id, ())) for record in dataset.records]
    if not any(item.tags for item in items):
        _tag_by_folder(items)
    roots = [Path(root)] if root is not None else [Path(dataset.root or ".")]
    return Collection(items, dataset.skeleton, None, "", roots, [])


def _of_record(record: Record, tags: tuple[str, ...]) -> Item:
    frame = record.frame_id if record.frame_id is not None and is_video(record.file_name) else None
    name = record.file_name if frame is None else f"{record.file_name}, frame {frame}"
    people = [Shown(person) for person in record.instances]
    return Item(name, (record.file_name,), frame, (record.width, record.height), tags, people)


def _tag_by_folder(items: Sequence[Item]) -> None:
    """Folders of the pictures stand in for tags, where there are a few."""
    folders = [str(PurePosixPath(item.files[0]).parent) for item in items]
    if 1 < len(set(folders)) <= 50:
        for item, folder in zip(items, folders, strict=True):
            item.tags = (folder,)


def of_stream(frames: Iterable[tuple[StreamHeader, FramePoses]], roots: Sequence[Path]) -> Collection:
    """The frames of a pose stream; people below the display threshold must have been left out already.

    Raises:
        PoseError: no frame, or sources of different joints.
    """
    items: list[Item] = []
    skeleton: Skeleton | None = None
    sources: list[str] = []
    for header, line in frames:
        if skeleton is not None and header.skeleton.keypoints != skeleton.keypoints:
            raise PoseError("sources with different joints", f"source {header.source!r}", "look at them one by one")
        skeleton = header.skeleton
        sources.append(header.source)
        files: tuple[str, ...] = (header.source,)
        frame: int | None = None
        if line.file is not None:
            name, files = line.file, (line.file, f"{header.source}/{line.file}")
        elif is_video(header.source):
            name, frame = f"{header.source}, frame {line.frame}", line.frame
        elif header.source:
            name = header.source
        else:
            name, files = f"image {line.image_id}", (str(line.image_id),)
        size = (line.width or header.width or 0, line.height or header.height or 0)
        people = [Shown(person) for person in line.instances]
        items.append(Item(name, files, frame, size, predictions=people))
    if skeleton is None:
        raise PoseError("the stream holds no frame")
    if len(set(sources)) > 1:
        for item, source in zip(items, sources, strict=True):
            item.tags = (source,)
    return Collection(items, None, skeleton, "", list(roots), [])


def read_predicted(
    source: str | Path, skeleton: Skeleton | None, min_score: float | None, warn: Warn
) -> list[tuple[StreamHeader, FramePoses]]:
    """Frames of a pose stream (file, folder of streams, ``-``) or of a COCO results list, with the people whose score
    reaches ``min_score`` (None: the stream's own display threshold, 0 where it states none).

    Args:
        skeleton: of a results list.

    Raises:
        UsageError: a results list without a skeleton to read it by.
    """
    path = Path(source)
    if str(source) != "-" and path.suffix == ".json" and path.is_file():
        if skeleton is None:
            raise UsageError("a results list does not say which joints it has", str(source), "give the labels first")
        frames = _results(path, skeleton)
    elif str(source) != "-" and path.is_dir():
        frames = [item for file in sorted(path.rglob("*.jsonl")) for item in read_stream(file, warn=warn)]
        if not frames:
            raise PoseError("no .jsonl pose stream in this folder", str(source))
    else:
        frames = list(read_stream(source, warn=warn))
    return [
        (header, replace(line, instances=tuple(p for p in line.instances if p.person_score >= least)))
        for header, line in frames
        for least in [min_score if min_score is not None else header.threshold or 0.0]
    ]


def _results(path: Path, skeleton: Skeleton) -> list[tuple[StreamHeader, FramePoses]]:
    read = read_results(path, skeleton)
    people = read.people
    if len(people) and people.xy.shape[1] != skeleton.num_keypoints:
        raise PoseError(f"{people.xy.shape[1]} joints, the labels have {skeleton.num_keypoints}", str(path))
    of_frame: dict[int, list[Instance]] = {}
    for i, frame in enumerate(people.frame.tolist()):
        box = people.box_xywh[i]
        corners = None if np.isnan(box).any() else np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]])
        score = np.ones(skeleton.num_keypoints, np.float32)
        person = Instance(people.xy[i], people.visibility[i], score, float(people.score[i]), corners)
        of_frame.setdefault(frame, []).append(person)
    header = StreamHeader("", skeleton)
    ids = read.frames.image_id
    return [(header, FramePoses(i, tuple(of_frame.get(i, ())), image_id=ids[i])) for i in range(len(ids))]


def add_predictions(
    collection: Collection, dataset: Dataset, frames: Sequence[tuple[StreamHeader, FramePoses]]
) -> None:
    """Puts the predicted people onto the data set's frames, and measures both: likeness, missed, false.

    People pair up as in `posecli.metrics.evaluate`, by OKS, without sigmas by their boxes. Only the people given are
    measured: who is not shown counts as missed.

    Raises:
        PoseError: no frame or joint in common.
    """
    seen: list[tuple[Labels, list[Side]]] = []
    by_oks = bool(dataset.skeleton.sigmas)
    notes: list[str] = []
    evaluate(
        dataset,
        frames,
        metrics=("oks",) if by_oks else ("pck",),
        match="oks" if by_oks else "iou",
        warn=notes.append,
        on_sides=lambda labels, sides: seen.append((labels, sides)),
    )
    labels, (side,) = seen[0]
    collection.found = frames[0][0].skeleton
    collection.measure, values = person_values(side)
    item_of_id = {record.image_id: n for n, record in enumerate(dataset.records)}
    item_of_frame = [item_of_id[i] for i in labels.frames.image_id]
    items = collection.items

    _add_people(items, side, item_of_frame, frames, labels.frames.judged)
    # Labelled people stand in the order of the labels' frames, those of a frame in the record's own.
    people_of = labels.people.frame
    first = np.searchsorted(people_of, np.arange(len(labels.frames)))
    total: dict[int, list[float]] = {}
    for row, partner, value in zip(side.rows.tolist(), side.partner.tolist(), values.tolist(), strict=True):
        frame = int(people_of[row])
        item = items[item_of_frame[frame]]
        shown = item.labels[row - int(first[frame])]
        item.missed += partner < 0
        shown.note = "missed" if partner < 0 else ""
        if value == value:
            shown.value = value
            total.setdefault(item_of_frame[frame], []).append(value)
    for n, shares in total.items():
        items[n].value = sum(shares) / len(shares)
    without = side.partners.without_labels
    if without:
        collection.notes.append(f"{without:,} predicted frames have no labels and are not shown")
    if side.partners.without_predictions:
        collection.notes.append(f"{side.partners.without_predictions:,} labelled frames have no prediction")


def _add_people(
    items: Sequence[Item], side: Side, item_of_frame: Sequence[int],
    frames: Sequence[tuple[StreamHeader, FramePoses]], judged: np.ndarray,
) -> None:  # fmt: skip
    """The predicted people of each frame of the labels; those without a labelled partner are false, on frames that
    somebody has labelled (``judged``). Who is not measured (`is_measured`) is neither."""
    taken = set(side.partner[side.partner >= 0].tolist())
    number = 0  # of the measured people, as `side.partner` counts them
    for (_, line), labelled in zip(frames, side.partners.partner.tolist(), strict=True):
        for person in line.instances:
            measured = is_measured(person)
            if labelled >= 0:
                item = items[item_of_frame[labelled]]
                paired = measured and number in taken
                false = measured and bool(judged[labelled]) and not paired
                item.predictions.append(Shown(person, None, "paired" if paired else "false" if false else ""))
                item.false += false
            number += measured


def item_json(item: Item, picture: str | None, size_wh: tuple[int, int], tags: Sequence[str]) -> dict[str, Any]:
    """The item for the page's script, in the pixels of the original picture."""
    return {
        "n": item.name,
        "i": picture,
        "w": size_wh[0],
        "h": size_wh[1],
        "t": [tags.index(tag) for tag in item.tags],
        "g": [_person_json(p) for p in item.labels],
        "p": [_person_json(p, predicted=True) for p in item.predictions],
        "s": None if item.score is None else round(item.score, 4),
        "e": None if item.value is None else round(item.value, 4),
        "m": item.missed,
        "f": item.false,
    }


def _person_json(shown: Shown, predicted: bool = False) -> dict[str, Any]:
    person = shown.person
    there = (person.visibility > 0) & np.isfinite(person.xy).all(axis=1)
    keypoints: list[float] = []
    for (x, y), v, known in zip(person.xy.tolist(), person.visibility.tolist(), there.tolist(), strict=True):
        keypoints += [round(x, 1), round(y, 1), v] if known else [0, 0, 0]
    value: dict[str, Any] = {"k": keypoints, "id": person.track_id}
    if person.box_xyxy is not None and np.isfinite(person.box_xyxy).all():
        x0, y0, x1, y1 = (round(float(v), 1) for v in person.box_xyxy)
        value["b"] = [x0, y0, round(x1 - x0, 1), round(y1 - y0, 1)]
    if predicted:
        value["s"] = round(float(person.person_score), 4)
    if shown.value is not None:
        value["o"] = round(shown.value, 4)
    if shown.note:
        value["note"] = shown.note
    elif person.ignore:
        value["note"] = "ignored"
    return value
