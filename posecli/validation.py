"""How good the weights are during training: the model's own predictions against the labels of a validation set.

Goes through `PoseModel.predict`, as `infer` does. Top-down models are given the labelled people's boxes, so the numbers
speak of the joints alone; bottom-up models see whole pictures. Recurrent models see videos frame by frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from posecli.data import Source, person_box, read_image
from posecli.distributed import Processes
from posecli.errors import PoseError
from posecli.geometry import box_xyxy_to_xywh
from posecli.inference import PoseModel
from posecli.metrics.oks import oks_matrix, resolve_areas
from posecli.metrics.pck import correct, distances, pck_reference
from posecli.recurrence import Memory
from posecli.types import Instance, Record, Skeleton

_PICTURES_AT_ONCE = 16
PCK_THRESHOLD = 0.2


class Validation:
    """A validation set, seen through the joints that are learnt.

    People without labelled joints and crowds are not asked for. Each of the others is paired with at most one
    prediction, greedily by OKS (by closeness to the box size where the skeleton has no sigmas); nobody found counts as
    OKS 0 and all joints wrong.

    Args:
        source: labels. skeleton: the model's.
        limit: pictures looked at, evenly spread (for recurrent models about as many, in whole videos); 0: all.

    Attributes:
        most: people asked for in one picture.
    """

    def __init__(self, source: Source, skeleton: Skeleton, limit: int = 0) -> None:
        self.source, self.skeleton = source, skeleton
        records = [r for r in source.dataset.records if self._people(r)]
        if not records:
            raise PoseError("no person with labelled joints to validate on", source.name)
        self.most = max(len(self._people(r)) for r in records)
        self._clips = _clips(source, {id(r) for r in records}, limit)
        if limit and limit < len(records):
            records = [records[i] for i in np.linspace(0, len(records) - 1, limit).round().astype(int)]
        self.records = records

    def _people(self, record: Record) -> list[int]:
        _, visibility = self.source.people(record)
        return [i for i, person in enumerate(record.instances) if (visibility[i] > 0).any() and not person.ignore]

    def has_pck(self) -> bool:
        """Whether somebody has the length that PCK is measured by."""
        for record in self.records:
            wanted = self._people(record)
            xy, visibility = (part[wanted] for part in self.source.people(record))
            boxes = given_boxes_xywh([record.instances[i] for i in wanted])
            if np.isfinite(pck_reference("auto", xy, visibility, boxes, self.skeleton).length).any():
                return True
        return False

    def run(self, model: PoseModel, processes: Processes) -> dict[str, float]:
        """``mean-oks`` (absent without sigmas) and ``pck`` (at 0.2 of the torso, or of the box where none is named;
        absent where nobody has that).

        The pictures are shared among the processes; all get the same numbers.
        """
        totals = np.zeros(4)  # OKS, people, correct joints, joints
        if model.recurrent:
            for clip in self._clips[processes.rank :: processes.world]:
                totals += self._clip(model, clip)
        else:
            totals += self._pictures(model, self.records[processes.rank :: processes.world])
        oks, people, right, joints = processes.total(torch.from_numpy(totals)).tolist()
        result = {"pck": right / joints} if joints else {}
        if self.skeleton.sigmas:
            result["mean-oks"] = oks / people
        return result

    def _clip(self, model: PoseModel, clip: Sequence[tuple[Record, float]]) -> np.ndarray:
        """Sums over the frames of a video, each with its seconds."""
        memory, totals = Memory(model), np.zeros(4)
        for record, seconds in clip:
            image = read_image(self.source.dataset.root, record)
            people, _ = memory.people(image, seconds, self._boxes(record) if model.top_down else None)
            if self._people(record):
                totals += self._score(record, self._found(people))
        return totals

    def _found(self, people: Sequence[Instance]) -> np.ndarray:
        return np.array([p.xy for p in people], np.float64).reshape(-1, self.skeleton.num_keypoints, 2)

    def _pictures(self, model: PoseModel, mine: Sequence[Record]) -> np.ndarray:
        totals = np.zeros(4)
        for start in range(0, len(mine), _PICTURES_AT_ONCE):
            chunk = mine[start : start + _PICTURES_AT_ONCE]
            images = [read_image(self.source.dataset.root, record) for record in chunk]
            boxes = [self._boxes(record) for record in chunk] if model.top_down else None
            for record, people in zip(chunk, model.predict(images, boxes), strict=True):
                totals += self._score(record, self._found(people))
        return totals

    def _boxes(self, record: Record) -> np.ndarray:
        xy, visibility = self.source.people(record)
        boxes = [person_box(record.instances[i], xy[i], visibility[i]) for i in self._people(record)]
        return np.array([box for box in boxes if box is not None], np.float64).reshape(-1, 4)

    def _score(self, record: Record, found: np.ndarray) -> np.ndarray:
        wanted = self._people(record)
        xy, visibility = (part[wanted] for part in self.source.people(record))
        persons = [record.instances[i] for i in wanted]
        boxes = given_boxes_xywh(persons)
        given = np.array([np.nan if p.area is None else p.area for p in persons])
        masked = np.array(["segmentation" in p.extra for p in persons])
        area, _ = resolve_areas(given, masked, xy, visibility, boxes)
        # Without sigmas any will do to pair people; the OKS itself is then not reported.
        sigmas = self.skeleton.sigmas or (0.1,) * self.skeleton.num_keypoints
        oks = oks_matrix(xy, visibility, area, found, sigmas)
        best = np.full_like(xy, np.nan)
        value = np.zeros(len(wanted))
        for _ in range(min(oks.shape)):
            person, prediction = np.unravel_index(int(np.argmax(oks)), oks.shape)
            value[person], best[person] = oks[person, prediction], found[prediction]
            oks[person], oks[:, prediction] = -1, -1
        length = pck_reference("auto", xy, visibility, boxes, self.skeleton).length
        counted = (visibility > 0) & np.isfinite(length)[:, None]
        right = correct(distances(xy, best, np.isfinite(best).all(-1)), length, PCK_THRESHOLD) & counted
        return np.array([value.sum(), len(wanted), right.sum(), counted.sum()], np.float64)


def given_boxes_xywh(people: Sequence[Instance]) -> np.ndarray:
    """(N, 4) x, y, width and height of the people's boxes as labelled, NaN where there is none."""
    boxes = [np.full(4, np.nan) if p.box_xyxy is None else box_xyxy_to_xywh(p.box_xyxy) for p in people]
    return np.array(boxes, np.float64).reshape(-1, 4)


def _clips(source: Source, with_people: set[int], limit: int) -> list[list[tuple[Record, float]]]:
    """The videos of a data set with anybody in a record of ``with_people`` (identities of records), frames in order
    with their seconds, a picture of no video by itself; of more than ``limit`` frames some videos, evenly spread."""
    rates = {video.id: video.fps for video in source.dataset.videos}
    groups: dict[object, list[tuple[Record, float]]] = {}
    for number, record in enumerate(source.dataset.records):
        rate = rates.get(record.video_id, 0.0) if record.video_id is not None else 0.0
        key = ("alone", number) if record.video_id is None or record.frame_id is None else record.video_id
        groups.setdefault(key, []).append((record, (record.frame_id or 0) / (rate if rate > 0 else 30.0)))
    clips = [
        sorted(clip, key=lambda moment: moment[1])
        for clip in groups.values()
        if any(id(record) in with_people for record, _ in clip)
    ]
    frames = sum(map(len, clips))
    if limit and limit < frames:
        count = max(1, round(len(clips) * limit / frames))
        clips = [clips[i] for i in np.linspace(0, len(clips) - 1, count).round().astype(int)]
    return clips
