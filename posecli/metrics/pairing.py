"""Who meets whom: predicted frames and labelled frames, joints of two skeletons, predicted and labelled people.

Frames meet by picture name, by video name and frame, or by ``image_id`` (results lists, and streams whose names meet
nothing). Joints meet by name, as far as the name means the same point. People of one frame meet one to one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from posecli.errors import PoseError
from posecli.formats.joint_mapping import match_points, other_points
from posecli.metrics.people import LabelFrames, PredictedFrames, joint_boxes_xywh
from posecli.types import Skeleton

MATCH_RULES = ("oks", "iou", "top-score")
_SAME_RATE = 0.02  # 29.97 is written as 30
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".ts", ".gif")


@dataclass(frozen=True)
class FramePartners:
    """Partners of P predicted frames.

    Attributes:
        partner: (P,) int64 row of the labelled frame, -1 for none.
        ways: frames by the way they met, e.g. ``{"picture name": 68}``.
        without_labels: predicted frames that met no labelled one; the first few named in ``examples``.
        without_predictions: labelled frames that no predicted frame met.
        ambiguous: predicted frames whose name fits several labelled ones equally well (part of ``without_labels``).
    """

    partner: np.ndarray
    ways: dict[str, int]
    without_labels: int
    without_predictions: int
    ambiguous: int
    examples: tuple[str, ...]


def _parts(name: str) -> tuple[str, ...]:
    return tuple(p for p in name.replace("\\", "/").split("/") if p not in ("", "."))


def _video_parts(name: str) -> tuple[str, ...]:
    """Parts of a video's name without a video suffix (labels often name videos without it)."""
    stem = name
    for suffix in _VIDEO_SUFFIXES:
        if name.lower().endswith(suffix):
            stem = name[: -len(suffix)]
    return _parts(stem)


class _Names:
    """Finds the file a name means: the same path, or one of which the other is the end; of several the longest."""

    def __init__(self, names: Sequence[tuple[tuple[str, ...], int]]) -> None:
        self.by_last: dict[str, set[tuple[tuple[str, ...], int]]] = defaultdict(set)
        for parts, row in names:
            if parts:
                self.by_last[parts[-1]].add((parts, row))

    def find(self, parts: tuple[str, ...]) -> int:
        """Row of the one file this name fits; -1 for none, -2 when several fit as well."""
        fits = [(p, row) for p, row in self.by_last.get(parts[-1] if parts else "", ()) if self._fit(p, parts)]
        longest = max((min(len(p), len(parts)) for p, _ in fits), default=0)
        exact = {row for p, row in fits if p == parts}
        rows = exact or {row for p, row in fits if min(len(p), len(parts)) == longest}
        return -1 if not rows else rows.pop() if len(rows) == 1 else -2

    @staticmethod
    def _fit(a: tuple[str, ...], b: tuple[str, ...]) -> bool:
        size = min(len(a), len(b))
        return a[-size:] == b[-size:]


def pair_frames(labels: LabelFrames, predicted: PredictedFrames, by_id: bool) -> FramePartners:
    """The labelled frame of each predicted one.

    Args:
        by_id: a results list, which knows only ``image_id``. A stream meets by picture name or video name and frame;
            lines that meet nothing so are tried by last name alone, where it is unique on both sides, then by
            ``image_id``.

    Raises:
        PoseError: two predicted frames mean the same labelled one; nothing meets at all.
    """
    id_row: dict[int | str | None, int] = {image_id: row for row, image_id in enumerate(labels.image_id)}
    partner = np.full(len(predicted), -1, np.int64)
    ways: Counter[str] = Counter()
    if by_id:
        for i, image_id in enumerate(predicted.image_id):
            partner[i] = id_row.get(image_id, -1)
        ways["image_id"] = int((partner >= 0).sum())
    else:
        _pair_by_names(labels, predicted, partner, ways)
        if not (partner >= 0).any():
            for i, image_id in enumerate(predicted.image_id):
                partner[i] = id_row.get(image_id, -1) if image_id is not None and partner[i] == -1 else partner[i]
            ways["image_id"] = int((partner >= 0).sum())
    met = partner >= 0
    examples = tuple(_frame_name(predicted, int(i)) for i in np.flatnonzero(~met)[:3])
    if len(predicted) and not met.any():
        some = labels.videos[0].name if len(labels.videos) else labels.file_name[0]
        raise PoseError(
            f"no predicted frame meets a labelled one (predicted: {examples[0]}; labelled: {some})",
            hint="frames meet by picture name, by video name and frame, or by image_id for COCO results",
        )
    rows, count = np.unique(partner[met], return_counts=True)
    if (count > 1).any():
        twice = np.flatnonzero(partner == rows[count > 1][0])[:2]
        raise PoseError(
            f"two predictions for the labelled frame {labels.image_id[int(partner[twice[0]])]!r}",
            " and ".join(f"{_frame_name(predicted, int(i))} of {predicted.source[i] or 'the list'}" for i in twice),
            "give each frame once",
        )
    return FramePartners(
        partner=np.maximum(partner, -1),
        ways={way: number for way, number in ways.items() if number},
        without_labels=int((~met).sum()),
        without_predictions=len(labels) - int(met.sum()),
        ambiguous=int((partner == -2).sum()),
        examples=examples,
    )


def contradictions(labels: LabelFrames, predicted: PredictedFrames, partner: np.ndarray) -> list[str]:
    """What labels and predictions say differently of the frames that met: their size, the rate of their video. Then
    places, or the numbers of frames, do not mean the same on both sides.

    Args:
        partner: (P,) of `pair_frames`.
    """
    notes: list[str] = []
    met = np.flatnonzero(partner >= 0)
    rows = partner[met]
    if len(predicted.size_wh) and len(labels.size_wh):
        stated, found = labels.size_wh[rows], predicted.size_wh[met]
        other = np.flatnonzero(((stated != found) & (stated > 0) & (found > 0)).any(axis=1))
        if len(other):
            (w, h), (x, y) = stated[other[0]], found[other[0]]
            example = f"{_frame_name(predicted, int(met[other[0]]))}: {x} x {y}, labels {w} x {h}"
            notes.append(
                f"{len(other)} frames are of another size than in the labels ({example}); places are not scaled"
            )
    if len(predicted.fps) and len(labels.videos):
        rates = np.array([v.fps for v in labels.videos], np.float64)
        video = labels.video[rows]
        by_number = np.array([not predicted.file[i] for i in met.tolist()], bool) & (video >= 0)
        stated, found = rates[video], predicted.fps[met]
        other = np.flatnonzero(by_number & (np.abs(found - stated) > _SAME_RATE * stated) & (stated > 0) & (found > 0))
        for v in np.unique(video[other]).tolist()[:3]:
            first = other[video[other] == v][0]
            notes.append(
                f"{labels.videos[v].name}: {found[first]:g} frames/s in the predictions, {stated[first]:g} in the "
                "labels; frames meet by number, and the same numbers are other moments"
            )
    return notes


def _frame_name(predicted: PredictedFrames, i: int) -> str:
    if predicted.file[i]:
        return str(predicted.file[i])
    if predicted.source[i]:
        return f"{predicted.source[i]} frame {predicted.index[i]}"
    return f"image_id {predicted.image_id[i]!r}"


def _pair_by_names(labels: LabelFrames, predicted: PredictedFrames, partner: np.ndarray, ways: Counter[str]) -> None:
    """Fills ``partner`` by picture names and by video name and frame; -2 where a name fits several."""
    named = [(row, n) for row, n in enumerate(labels.file_name) if not n.lower().endswith(_VIDEO_SUFFIXES)]
    pictures = _Names([(_parts(n), row) for row, n in named])
    # Ultralytics' lists name pictures without their suffix.
    stems = _Names([((*_parts(n)[:-1], PurePosixPath(n).stem), row) for row, n in named if any(predicted.file)])
    video_names = [(_video_parts(n), row) for row, v in enumerate(labels.videos) for n in (v.name, v.file_name)]
    videos = _Names(video_names)
    frame_row = {
        (int(v), int(f)): row for row, (v, f) in enumerate(zip(labels.video, labels.frame_id, strict=True)) if v >= 0
    }
    video_of = {source: videos.find(_video_parts(source)) for source in set(predicted.source)}
    for i, (source, file) in enumerate(zip(predicted.source, predicted.file, strict=True)):
        if file:
            partner[i] = pictures.find(_parts(file))
            if partner[i] < 0 and source:  # names relative to the folder given, which is the source
                joined = pictures.find(_parts(source) + _parts(file))
                partner[i] = joined if joined >= 0 else partner[i]
            if partner[i] == -1:
                partner[i] = stems.find(_parts(file))
            ways["picture name"] += int(partner[i] >= 0)
            continue
        video = video_of[source]
        if video >= 0:
            partner[i] = frame_row.get((video, predicted.index[i]), -1)
            ways["video name and frame"] += int(partner[i] >= 0)
        elif video == -2:
            partner[i] = -2
        else:  # a single picture is its own source
            partner[i] = pictures.find(_parts(source))
            ways["picture name"] += int(partner[i] >= 0)
    _settle(predicted, partner, pictures, ways)
    _pair_by_last_name(labels, predicted, partner, ways)


def _settle(predicted: PredictedFrames, partner: np.ndarray, pictures: _Names, ways: Counter[str]) -> None:
    """Of several pictures that mean one labelled frame (``000001.jpg`` of every video) the one whose source lies in the
    labelled name as well keeps it; the others have no labels."""
    rows, count = np.unique(partner[partner >= 0], return_counts=True)
    for row in rows[count > 1]:
        rivals = [int(i) for i in np.flatnonzero(partner == row)]
        full = [_parts(predicted.source[i]) + _parts(str(predicted.file[i])) for i in rivals if predicted.file[i]]
        if len(full) < len(rivals):
            continue
        sure = [i for i, parts in zip(rivals, full, strict=True) if pictures.find(parts) == row]
        if len(sure) == 1:
            partner[[i for i in rivals if i != sure[0]]] = -1
            ways["picture name"] -= len(rivals) - 1


def _pair_by_last_name(
    labels: LabelFrames, predicted: PredictedFrames, partner: np.ndarray, ways: Counter[str]
) -> None:
    """Pictures in folders of other names on the two sides: by last name, where that is unique on both."""
    left = [i for i in np.flatnonzero(partner == -1) if predicted.file[i]]
    if not left:
        return
    last_of = {i: _parts(str(predicted.file[i]))[-1:] for i in left}
    times = Counter(last_of.values())
    taken = set(partner[partner >= 0].tolist())
    rows = defaultdict(list)
    for row, name in enumerate(labels.file_name):
        rows[_parts(name)[-1:]].append(row)
    for i in left:
        fit = rows.get(last_of[i], [])
        if times[last_of[i]] == 1 and len(fit) == 1 and fit[0] not in taken:
            partner[i] = fit[0]
            ways["last part of the picture name"] += 1


@dataclass(frozen=True)
class CommonJoints:
    """Joints on which labels and predictions can be compared.

    Attributes:
        label_index, predicted_index: (J,) places in the two skeletons, in the labels' order.
        only_labels, only_predictions: names without a partner.
        other_points: those of ``only_labels`` whose name the predictions give to another point.
    """

    label_index: np.ndarray
    predicted_index: np.ndarray
    only_labels: tuple[str, ...]
    only_predictions: tuple[str, ...]
    other_points: tuple[str, ...] = ()


def common_joints(labels: Skeleton, predicted: Skeleton) -> CommonJoints:
    """Joints of both skeletons that are the same point (`posecli.formats.joint_mapping`); PoseError without any."""
    index = match_points(predicted, labels)
    kept = np.flatnonzero(index >= 0)
    if not len(kept):
        raise PoseError(
            f"skeletons {labels.name!r} and {predicted.name!r} have no joint in common",
            hint="rename joints with [rename] in a skeleton.toml",
        )
    used = set(index[kept].tolist())
    return CommonJoints(
        kept,
        index[kept],
        tuple(n for n, i in zip(labels.keypoints, index, strict=True) if i < 0),
        tuple(n for i, n in enumerate(predicted.keypoints) if i not in used),
        other_points(predicted, labels),
    )


def sub_skeleton(skeleton: Skeleton, index: Sequence[int] | np.ndarray) -> Skeleton:
    """The skeleton of the joints at ``index``, in that order; sigmas, edges and limbs move along."""
    place = {int(old): new for new, old in enumerate(index)}

    def moved(pairs: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
        return tuple((place[a], place[b]) for a, b in pairs if a in place and b in place)

    names = tuple(skeleton.keypoints[i] for i in place)
    return Skeleton(
        name=skeleton.name,
        keypoints=names,
        edges=moved(skeleton.edges),
        sigmas=tuple(skeleton.sigmas[i] for i in place) if skeleton.sigmas else (),
        head=skeleton.head if set(skeleton.head) <= set(names) else (),
        torso=skeleton.torso if set(skeleton.torso) <= set(names) else (),
        limbs=moved(skeleton.limbs),
    )


def iou_of_pairs(boxes_a: np.ndarray, boxes_b: np.ndarray) -> np.ndarray:
    """(P,) intersection over union of P pairs of boxes ``x, y, w, h``; 0 where a box is missing or empty."""
    low = np.maximum(boxes_a[:, :2], boxes_b[:, :2])
    high = np.minimum(boxes_a[:, :2] + boxes_a[:, 2:], boxes_b[:, :2] + boxes_b[:, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=1)
    union = boxes_a[:, 2] * boxes_a[:, 3] + boxes_b[:, 2] * boxes_b[:, 3] - common
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.where(union > 0, common / union, 0.0))


def person_boxes(box_xywh: np.ndarray, xy: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """(N, 4) given boxes, else the boxes around the joints; NaN where there is neither."""
    return np.where(np.isnan(box_xywh), joint_boxes_xywh(xy, visibility), box_xywh)


def pair_people(
    rule: str, pairs: tuple[np.ndarray, np.ndarray], similarity: np.ndarray, score: np.ndarray, num_labels: int
) -> np.ndarray:
    """The predicted person of each labelled one, one to one within a frame.

    ``oks`` and ``iou``: greedily by falling similarity, as long as it is above 0. ``top-score``: predictions by falling
    score each take the free labelled person they resemble most, so that on pictures of one person the highest score
    speaks, however far off it is.

    Args:
        pairs: ``(label index, prediction index)`` of everybody in the same frame.
        similarity: (P,) of these pairs, OKS or IoU.
        score: (M,) of all predictions.

    Returns:
        (num_labels,) int64 indices of predictions, -1 for nobody.
    """
    if rule not in MATCH_RULES:
        raise PoseError(f"unknown matching rule {rule!r}", hint=", ".join(MATCH_RULES))
    label, prediction = pairs
    # Equal similarities: the higher score first, so that the order of people in the file does not matter.
    if rule == "top-score":
        order = np.lexsort((-similarity, -score[prediction]))
    else:
        order = np.lexsort((-score[prediction], -similarity))
        order = order[similarity[order] > 0]
    partner = np.full(num_labels, -1, np.int64)
    taken: set[int] = set()
    for g, p in zip(label[order].tolist(), prediction[order].tolist(), strict=True):
        if partner[g] < 0 and p not in taken:
            partner[g] = p
            taken.add(p)
    return partner
