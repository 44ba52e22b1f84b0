"""Labels and predictions as columns, from files, data sets and streams.

Labels: whatever `posecli.formats` reads, or a `Dataset`. Predictions: a pose stream (JSON Lines; a file, ``-``, a
folder of streams, or an iterable of `(StreamHeader, FramePoses)`), a COCO results list (``.json``), or what
`posecli.metrics.foreign` reads.
"""

from __future__ import annotations

import contextlib
import gc
import re
import reprlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite
from posecli.metrics.people import (
    LabelFrames,
    Labels,
    PredictedFrames,
    Predictions,
    joint_boxes_xywh,
    make_people,
)
from posecli.types import Dataset, Instance, Record, Skeleton

if TYPE_CHECKING:
    from posecli.predictions import FramePoses, StreamHeader

Warn = Callable[[str], None]
_NO_BOX = (np.nan,) * 4
_FAR = 2**53  # beyond it no number is a size, a frame or an id, and columns would not hold it


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """No cyclic garbage collection inside: reading makes millions of small lists, none of them garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


# Forms that are lists of predictions.
_PREDICTED = ("coco_results", "alphapose", "mmpose", "mediapipe", "yolo_predictions")


def _form_of_json(where: str, value: Any) -> str:
    """Which form of `posecli.formats` a JSON file with this content is, "" for none; `SeveralForms` where several fit.

    A file with COCO's keys may be another data set in COCO's clothes, unless posecli wrote it.
    """
    from posecli.formats import COCO_STYLE, SeveralForms, recognised

    in_coco_style = isinstance(value, dict) and value.keys() >= {"images", "annotations"}
    categories = value.get("categories") if in_coco_style else None
    if isinstance(categories, list) and any(isinstance(c, dict) and "posecli" in c for c in categories):
        return "coco"
    try:
        return (recognised(where, COCO_STYLE if in_coco_style else None) or ("", ""))[0]
    except SeveralForms:
        raise
    except PoseError:
        return ""


def _read_unknown(where: str, skeleton: Skeleton | None, image_root: str | Path | None, say: Warn) -> Dataset:
    """A data set of whatever form it is; the skeleton names the joints where the form does not, the folder says where
    its pictures are."""
    from posecli.formats import FORMATS, detect, read_dataset

    form, _ = detect(where)
    takes = FORMATS[form].takes
    return read_dataset(
        where,
        form,
        skeleton=skeleton if "skeleton" in takes else None,
        image_root=image_root if "image_root" in takes else None,
        warn=say,
    )


def read_labels(
    source: Dataset | str | Path,
    skeleton: Skeleton | None = None,
    warn: Warn | None = None,
    image_root: str | Path | None = None,
) -> Labels:
    """The label set at ``source``: a `Dataset`, a COCO keypoint JSON, or anything else `posecli.formats` reads.

    Args:
        skeleton: replaces the data set's skeleton of the same joints (to bring sigmas, torso, head, limbs).
        warn: takes one sentence for each thing that is odd but readable; None keeps them as ``notes``.
        image_root: folder of the pictures and videos, for forms that take their sizes from them.

    Raises:
        PoseError: what the reader refuses; a skeleton with other joints; no frames.
    """
    notes: list[str] = []
    say = warn or notes.append
    if isinstance(source, Dataset):
        dataset, where = source, source.root
    elif str(source).endswith(".json") and Path(source).is_file():
        from posecli.formats import coco

        where = str(source)
        value = coco.load_json(where)
        form = _form_of_json(where, value)
        if form not in ("", "coco", *_PREDICTED):
            dataset = _read_unknown(where, skeleton, image_root, say)
            notes.append(f"the labels were read as {form}, by that format's own rules")
        elif form in _PREDICTED or not isinstance(value, dict):
            raise PoseError(
                "these are results, not labels" if form or isinstance(value, list) else "not a data set",
                where,
                "posecli evaluate LABELS PREDICTIONS",
            )
        else:
            dataset = coco.from_json(value, where, skeleton=skeleton, warn=say)
    else:
        where = str(source)
        dataset = _read_unknown(where, skeleton, image_root, say)
    if skeleton is not None and dataset.skeleton is not skeleton:
        if skeleton.keypoints != dataset.skeleton.keypoints:
            raise PoseError(
                f"skeleton {skeleton.name!r} has other joints than the labels' {dataset.skeleton.name!r}", where
            )
        dataset = Dataset(skeleton, dataset.records, dataset.videos, dataset.root, dataset.info)
    if not dataset.records:
        raise PoseError("no frames to evaluate on", where)
    return labels_of(dataset, where, tuple(notes))


def labels_of(dataset: Dataset, source: str = "", notes: tuple[str, ...] = ()) -> Labels:
    """A data set as columns; frames in the order of their ids."""
    ids = [record.image_id for record in dataset.records]
    if len(set(ids)) < len(ids):
        raise PoseError("an image id is used twice", source)
    # pycocotools sorts pictures by id; among equal scores that order decides.
    whole = all(isinstance(i, int) for i in ids)
    records = sorted(dataset.records, key=(lambda r: r.image_id) if whole else (lambda r: str(r.image_id)))
    _refuse_far(records, source)
    videos = dataset.videos
    if not {r.video_id for r in records} <= {None, *(v.id for v in videos)}:
        from posecli.convert import unlisted_videos  # it loads decoders

        videos = (*videos, *unlisted_videos(dataset))
    row: dict[int | None, int] = {video.id: i for i, video in enumerate(videos)}
    in_video = [r.video_id is not None and r.frame_id is not None and r.video_id in row for r in records]
    frames = LabelFrames(
        image_id=[r.image_id for r in records],
        file_name=[r.file_name for r in records],
        video=np.array([row[r.video_id] if v else -1 for r, v in zip(records, in_video, strict=True)], np.int64),
        frame_id=np.array([r.frame_id if v else -1 for r, v in zip(records, in_video, strict=True)], np.int64),
        videos=videos,
        size_wh=np.array([(r.width, r.height) for r in records], np.int64).reshape(-1, 2),
        labelled=np.array([r.extra.get("is_labeled") is not False for r in records], bool),
        crowd_index=np.array([_crowd_index(r, source) for r in records], np.float64),
        ignore_regions={f: _ignore_regions(r, source) for f, r in enumerate(records) if "ignore_regions_x" in r.extra},
    )
    people = [(f, i) for f, record in enumerate(records) for i in record.instances]
    sizes = [(record.width, record.height) for record in records]
    areas, masks = zip(*(_area(i, sizes[f], source) for f, i in people), strict=True) if people else ((), ())
    count = dataset.skeleton.num_keypoints
    boxes = np.array([_NO_BOX if i.box_xyxy is None else i.box_xyxy for _, i in people], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    columns = make_people(
        [f for f, _ in people],
        _stack([i.xy for _, i in people], (count, 2), np.float64),
        _stack([i.visibility for _, i in people], (count,), np.int8),
        box_xywh=boxes,
        area=areas,
        has_mask=masks,
        ignore=[i.ignore for _, i in people],
        crowd=[i.ignore and bool(i.extra.get("iscrowd", "ignore" not in i.extra)) for _, i in people],
        none_stated=[i.extra.get("num_keypoints") == 0 for _, i in people],
        head_box_xyxy=[_NO_BOX if i.head_box_xyxy is None else i.head_box_xyxy for _, i in people],
        track=[-1 if i.track_id is None else i.track_id for _, i in people],
    )
    return Labels(dataset.skeleton, frames, columns, source, notes, dataset.root)


def _refuse_far(records: Iterable[Record], source: str) -> None:
    """PoseError for numbers of data sets that no column holds; most readers refuse them already."""
    for record in records:
        for name in ("width", "height", "frame_id"):
            value = getattr(record, name)
            if value is not None and not abs(value) < _FAR:
                raise PoseError(f"{name} {reprlib.repr(value)} is too large", f"{source}, image {record.image_id!r}")
        _refuse_far_tracks(record.instances, f"{source}, image {record.image_id!r}")


def is_measured(person: Instance) -> bool:
    """Whether a person of a stream is measured: labels written as poses (`convert labels.json --out labels.jsonl`) have
    crowds, and people with a box only."""
    return bool((person.visibility > 0).any()) and person.extra.get("ignore") is not True


def _refuse_far_tracks(people: Iterable[Instance], where: str) -> None:
    for n, person in enumerate(people, 1):
        if person.track_id is not None and not abs(person.track_id) < _FAR:
            raise PoseError(f"track_id {reprlib.repr(person.track_id)} is too large", f"{where}, person {n}")


def _crowd_index(record: Record, source: str) -> float:
    """CrowdPose's ``crowdIndex`` of a picture, NaN for none."""
    value = record.extra.get("crowdIndex")
    if value is None:
        return np.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise PoseError(f"crowdIndex {value!r} is not a number from 0 to 1", f"{source}, image {record.image_id!r}")
    return float(value)


def _ignore_regions(record: Record, source: str) -> tuple[np.ndarray, ...]:
    """PoseTrack's ``ignore_regions_x`` and ``_y`` of a picture as polygons (M, 2)."""
    try:
        xs, ys = record.extra["ignore_regions_x"] or (), record.extra["ignore_regions_y"] or ()
        polygons = tuple(np.array([x, y], np.float64).T for x, y in zip(xs, ys, strict=True))
    except (KeyError, TypeError, ValueError):
        polygons = (np.full((1, 3), np.nan),)
    if not all(p.ndim == 2 and p.shape[1] == 2 and np.isfinite(p).all() for p in polygons):
        raise PoseError(
            "ignore_regions_x and ignore_regions_y are not equally long lists of numbers",
            f"{source}, image {record.image_id!r}",
        )
    return polygons


def _stack(arrays: list[np.ndarray], shape: tuple[int, ...], kind: type) -> np.ndarray:
    return np.array(arrays, kind).reshape(-1, *shape)


def _area(instance: Instance, size_wh: tuple[int, int], source: str) -> tuple[float, bool]:
    """The given area (NaN for none) and whether a mask stands behind it."""
    mask = instance.extra.get("segmentation")
    if isinstance(mask, list):  # tools also write empty polygons and lines, of two points
        mask = [polygon for polygon in mask if not isinstance(polygon, list) or len(polygon) >= 6]
    if instance.area is not None and (instance.area > 0 or not mask):
        return instance.area, bool(mask)
    if not mask:
        return np.nan, False
    from posecli.masks import mask_area

    return mask_area(mask, *size_wh, f"{source}, annotation {instance.extra.get('id')}"), True


def read_predictions(
    source: str | Path | Iterable[tuple[StreamHeader, FramePoses]],
    *,
    skeleton: Skeleton | None = None,
    frames: LabelFrames | None = None,
    warn: Warn | None = None,
    image_root: str | Path | None = None,
) -> Predictions:
    """The predictions at ``source``: a stream, ``-`` (standard input), a folder of ``.jsonl`` streams, an iterable of
    `(StreamHeader, FramePoses)`, a COCO results list, or any form that `posecli.metrics.foreign` reads.

    Args:
        skeleton: joints of a results list (without it they are the labels') and of other forms that do not name them;
            a stream states its own.
        frames: of the labels, for forms that do not say how large their pictures are.
        image_root: as of `read_labels`, where the labels do not say it either.

    Raises:
        PoseError: unreadable files, a wrong number of joints, numbers that are not finite, streams of different joints.
    """
    notes: list[str] = []
    say = warn or notes.append
    if hasattr(source, "read"):
        from posecli.predictions import read_stream

        stream = read_stream(source, warn=say)  # type: ignore[arg-type]
        return _from_stream(stream, getattr(source, "name", "") or "pose stream", notes)
    if not isinstance(source, str | Path):
        return _from_stream(source, "predictions", notes)
    where = str(source)
    path = Path(where)
    if where != "-" and not path.exists():
        raise PoseError("no such file or folder", where)
    if where != "-" and not _is_stream(path):
        from posecli.metrics.foreign import OWN, form_of_predictions, read_foreign

        form = form_of_predictions(path)
        if form == "alphapose" and frames is not None and _names_ids(path, frames):
            form = "coco_results"
        if form and form not in OWN:
            return _from_stream(read_foreign(path, form, skeleton, frames, say, image_root), where, notes)
        if path.suffix == ".json":
            if not _start(path).startswith(b"["):
                hint = "a results list is a JSON list of detections"
                raise PoseError("neither a pose stream nor another form of poses or labels", where, hint)
            return read_results(path, skeleton, frames)
    from posecli.predictions import read_stream

    if where != "-" and path.is_dir():
        files = sorted(path.rglob("*.jsonl"))
        if not files:
            raise PoseError("no .jsonl pose stream in this folder", where)
        return _from_stream((item for file in files for item in read_stream(file, warn=say)), where, notes)
    items = read_stream(where if where == "-" else path, warn=say)
    return _from_stream(_only_streams(items) if where == "-" else items, where, notes)


def _only_streams(items: Iterator[tuple[StreamHeader, FramePoses]]) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The frames of standard input; whoever sends another form there is told so."""
    try:
        first = next(items, None)
    except PoseError as error:
        raise PoseError(error.what, error.where, "- takes pose streams only; give other forms as a file") from None
    if first is not None:
        yield first
    yield from items


def _is_stream(path: Path) -> bool:
    """Whether the file begins as a pose stream, or the folder has such files."""
    if path.is_dir():
        return any(path.rglob("*.jsonl")) or not any(path.iterdir())
    return re.search(rb'"posecli"\s*:\s*\d', _start(path).split(b"\n")[0]) is not None


def _names_ids(path: Path, frames: LabelFrames) -> bool:
    """Whether a list's ``image_id``s, which are text, are the labels' ids (and not names of pictures). Some may be of
    pictures that nobody labelled. A number as text that is another picture's name is taken as the name."""
    ids = {str(i): row for row, i in enumerate(frames.image_id)}
    names = {Path(n).stem: row for row, n in enumerate(frames.file_name) if not isinstance(frames.image_id[row], str)}
    if not ids:
        return False
    from posecli.formats import coco

    value = coco.load_json(path)
    found = [e.get("image_id") for e in value if isinstance(e, dict)] if isinstance(value, list) else []
    return any(isinstance(i, str) and i in ids and names.get(i, ids[i]) == ids[i] for i in found)


def _as_the_labels_have_them(image_ids: list[Any], frames: LabelFrames | None, notes: list[str]) -> list[Any]:
    """The results' image ids, numbers as text (or text as numbers) where the labels have the same otherwise."""
    if frames is None:
        return image_ids
    known, by_text = set(frames.image_id), {str(i): i for i in frames.image_id}
    meant = [i if i in known else by_text.get(str(i), i) for i in image_ids]
    other = [i for i, m in zip(image_ids, meant, strict=True) if m is not i and m != i]
    if other:
        kinds = ("text", "numbers") if isinstance(other[0], str) else ("numbers", "text")
        notes.append(
            f"{len(set(other))} image ids are {kinds[0]} in the results ({other[0]!r}) and {kinds[1]} in the labels; "
            "they were taken as the same"
        )
    return meant


def _start(path: Path) -> bytes:
    """The first bytes that are not white space."""
    with open(path, "rb") as handle:
        return handle.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")


def _from_stream(items: Iterable[tuple[StreamHeader, FramePoses]], where: str, notes: list[str]) -> Predictions:
    sources: list[str] = []
    files: list[str | None] = []
    indices: list[int] = []
    image_ids: list[int | str | None] = []
    thresholds: list[float] = []
    rates: list[float] = []
    sizes: list[tuple[int, int]] = []
    boxes_of: list[dict[str, Any]] = []
    rows: list[int] = []
    people: list[Instance] = []
    skeleton: Skeleton | None = None
    left_out = 0
    for header, poses in items:
        if skeleton is None:
            skeleton = header.skeleton
        elif header.skeleton.keypoints != skeleton.keypoints:
            raise PoseError(
                f"sources with different joints ({skeleton.name!r} and {header.skeleton.name!r})",
                f"{where}, source {header.source!r}",
                "evaluate them one by one",
            )
        shown = [p for p in poses.instances if is_measured(p)]
        left_out += len(poses.instances) - len(shown)
        _refuse_far_tracks(poses.instances, f"{where}, {header.source} frame {poses.frame}")
        rows += [len(sources)] * len(shown)
        people += shown
        sources.append(header.source)
        files.append(poses.file)
        indices.append(poses.frame)
        image_ids.append(poses.image_id)
        thresholds.append(header.threshold or 0.0)
        rates.append(header.fps or 0.0)
        sizes.append((poses.width or header.width or 0, poses.height or header.height or 0))
        told = header.extra.get("boxes")
        if isinstance(told, dict) and told not in boxes_of:
            boxes_of.append(told)
    if skeleton is None:
        raise PoseError("the stream holds no frame", where)
    if left_out:
        notes.append(f"{where}: {left_out} predicted people without a joint, and crowds of labels, left out")
    count = skeleton.num_keypoints
    boxes = np.array([_NO_BOX if i.box_xyxy is None else i.box_xyxy for i in people], np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    xy = _stack([i.xy for i in people], (count, 2), np.float64)
    visibility = _stack([i.visibility for i in people], (count,), np.int8)
    visibility[~np.isfinite(xy).all(axis=-1)] = 0
    own = joint_boxes_xywh(xy, visibility)
    columns = make_people(
        rows,
        xy,
        visibility,
        score=[i.person_score for i in people],
        box_xywh=boxes,
        area=own[:, 2] * own[:, 3],
        heat=[np.nan if i.heat is None else i.heat for i in people],
        track=[-1 if i.track_id is None else i.track_id for i in people],
    )
    size_wh = np.array(sizes, np.int64).reshape(-1, 2)
    frames = PredictedFrames(sources, files, indices, image_ids, np.array(thresholds), np.array(rates), size_wh)
    return Predictions(frames, columns, skeleton, True, where, tuple(notes), tuple(boxes_of))


def read_results(path: str | Path, skeleton: Skeleton | None = None, frames: LabelFrames | None = None) -> Predictions:
    """A COCO keypoint results list: ``[{"image_id", "keypoints": [x, y, s, ...], "score"}, ...]``.

    0, 0, 0 is a joint that was not found. AP measures it all the same, at (0, 0), as pycocotools does
    (`oks.measured_by_ap`). A detection's area is its box' where the list has boxes, else that of the box around all of
    its triples (`COCO.loadRes`). ``frames`` are the labels': an id that they have as a number may be text here.
    """
    from posecli.formats import coco

    where = str(path)
    results = coco.load_json(path)
    notes: list[str] = []
    try:
        image_ids = _as_the_labels_have_them([r["image_id"] for r in results], frames, notes)
        scores = np.array([r["score"] for r in results], np.float64)
        flat = [r["keypoints"] for r in results]
        boxed = bool(results) and bool(results[0].get("bbox"))
        boxes = np.array([r["bbox"] if boxed else _NO_BOX for r in results], np.float64).reshape(-1, 4)
        heat = np.array([r.get("heat", np.nan) for r in results], np.float64)
        track = [-1 if r.get("track_id") is None else r["track_id"] for r in results]
        if not all(isinstance(t, int) and not isinstance(t, bool) and abs(t) < _FAR for t in track):
            raise ValueError("a track_id is not a whole number")
        lengths = {len(k) for k in flat}
        count = next(iter(lengths)) // 3 if lengths else (skeleton.num_keypoints if skeleton else 1)
        points = np.array(flat, np.float64).reshape(len(flat), count, 3)
        if not (np.isfinite(points).all() and np.isfinite(scores).all() and scores.shape == (len(results),)):
            raise ValueError("a number is not finite")
        if boxed and not np.isfinite(boxes).all():
            raise ValueError("a box is not finite")
        frame_of: dict[Any, int] = {}
        rows = [frame_of.setdefault(i, len(frame_of)) for i in image_ids]
        categories = {r.get("category_id", 1) for r in results}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _first_bad_result(results, where, error) from None
    if len(categories) > 1:
        notes.append("the results carry several category ids; all were taken as people")
    xy = points[..., :2]
    found = np.where((points != 0).any(axis=-1), 2, 0).astype(np.int8)
    own = joint_boxes_xywh(xy, np.full_like(found, 2))
    area = boxes[:, 2] * boxes[:, 3] if boxed else own[:, 2] * own[:, 3]
    columns = make_people(rows, xy, found, score=scores, box_xywh=boxes, area=area, heat=heat, track=track)
    size = len(frame_of)
    found_frames = PredictedFrames([""] * size, [None] * size, [-1] * size, list(frame_of), np.zeros(size))
    return Predictions(found_frames, columns, skeleton, False, where, tuple(notes))


def _first_bad_result(results: Any, where: str, error: Exception) -> PoseError:
    """The error naming the first entry that is not like a result."""
    expected: int | None = None
    for number, entry in enumerate(results if isinstance(results, list) else ()):
        at = f"{where}, result {number}"
        if not isinstance(entry, dict):
            return PoseError("not an object", at)
        for key in ("image_id", "keypoints", "score"):
            if key not in entry:
                hint = "a list of detections, not of poses?" if key == "keypoints" else ""
                return PoseError(f"no {key!r}", at, hint)
        keypoints = entry["keypoints"]
        if not isinstance(keypoints, list) or len(keypoints) % 3 or not keypoints:
            return PoseError("keypoints are not x, y, score triples", at)
        if expected not in (None, len(keypoints)):
            return PoseError(f"{len(keypoints) // 3} keypoints where others have {expected // 3}", at)  # type: ignore[operator]
        expected = len(keypoints)
        box = entry.get("bbox") or []
        if not isinstance(box, list):
            return PoseError(f"bbox {reprlib.repr(box)} is not a list x, y, width, height", at)
        for value in [entry["score"], *keypoints, *box]:
            if not is_finite(value):
                return PoseError(f"{reprlib.repr(value)} is not a finite number", at)
        if bool(box) != bool(results[0].get("bbox")) or len(box) not in (0, 4):
            return PoseError("some results have a box [x, y, width, height], others not", at)
        track = entry.get("track_id")
        if track is not None and (isinstance(track, bool) or not isinstance(track, int) or abs(track) >= _FAR):
            return PoseError(f"track_id {reprlib.repr(track)} is not a whole number", at)
        if not isinstance(entry["image_id"], int | str):
            return PoseError(f"image_id {entry['image_id']!r} is neither a number nor a name", at)
        if isinstance(entry.get("category_id"), list | dict):
            return PoseError(f"category_id {entry['category_id']!r} is neither a number nor a name", at)
    return PoseError(f"not a COCO results list: {error}", where)
