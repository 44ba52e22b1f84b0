"""How good the weights are during training: the model's own predictions against the labels of a validation set.

Goes through `PoseModel.predict`, as `infer` does. Top-down models are given the labelled people's boxes, so the numbers
speak of the joints alone; bottom-up models see whole pictures.
"""

from __future__ import annotations

import numpy as np
import torch

from posecli.data import Source, person_box, read_image
from posecli.distributed import Processes
from posecli.errors import PoseError
from posecli.inference import PoseModel
from posecli.metrics.oks import oks_matrix, resolve_areas
from posecli.metrics.pck import correct, distances, pck_reference
from posecli.metrics.people import joint_boxes_xywh
from posecli.types import Record, Skeleton

_PICTURES_AT_ONCE = 16
PCK_THRESHOLD = 0.2


class Validation:
    """A validation set, seen through the joints that are learnt.

    People without labelled joints and crowds are not asked for. Each of the others is paired with at most one
    prediction, greedily by OKS (by closeness to the box size where the skeleton has no sigmas); nobody found counts as
    OKS 0 and all joints wrong.

    Args:
        source: labels. skeleton: the model's. limit: pictures looked at, evenly spread; 0: all.
    """

    def __init__(self, source: Source, skeleton: Skeleton, limit: int = 0) -> None:
        self.source, self.skeleton = source, skeleton
        records = [r for r in source.dataset.records if self._people(r)]
        if not records:
            raise PoseError("no person with labelled joints to validate on", source.name)
        if limit and limit < len(records):
            records = [records[i] for i in np.linspace(0, len(records) - 1, limit).round().astype(int)]
        self.records = records

    def _people(self, record: Record) -> list[int]:
        _, visibility = self.source.people(record)
        return [i for i, person in enumerate(record.instances) if (visibility[i] > 0).any() and not person.ignore]

    def run(self, model: PoseModel, processes: Processes) -> dict[str, float]:
        """``mean-oks`` (absent without sigmas) and ``pck`` (at 0.2 of the torso, or of the box where none is named).

        The pictures are shared among the processes; all get the same numbers.
        """
        mine = self.records[processes.rank :: processes.world]
        totals = np.zeros(4)  # OKS, people, correct joints, joints
        for start in range(0, len(mine), _PICTURES_AT_ONCE):
            chunk = mine[start : start + _PICTURES_AT_ONCE]
            images = [read_image(self.source.dataset.root, record) for record in chunk]
            boxes = [self._boxes(record) for record in chunk] if model.top_down else None
            for record, people in zip(chunk, model.predict(images, boxes), strict=True):
                found = np.array([p.xy for p in people], np.float64).reshape(-1, self.skeleton.num_keypoints, 2)
                totals += self._score(record, found)
        oks, people, right, joints = processes.total(torch.from_numpy(totals)).tolist()
        result = {"pck": right / joints if joints else float("nan")}
        if self.skeleton.sigmas:
            result["mean-oks"] = oks / people
        return result

    def _boxes(self, record: Record) -> np.ndarray:
        xy, visibility = self.source.people(record)
        boxes = [person_box(record.instances[i], xy[i], visibility[i]) for i in self._people(record)]
        return np.array([box for box in boxes if box is not None], np.float64).reshape(-1, 4)

    def _score(self, record: Record, found: np.ndarray) -> np.ndarray:
        wanted = self._people(record)
        xy, visibility = (part[wanted] for part in self.source.people(record))
        persons = [record.instances[i] for i in wanted]
        boxes = joint_boxes_xywh(xy, visibility)
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
