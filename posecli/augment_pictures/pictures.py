"""Labelled pictures on disk, as the makers of canvases take them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.errors import PoseError
from posecli.types import Dataset, Skeleton


@dataclass(frozen=True)
class Picture:
    """A labelled picture on disk; N people, K joints; pixels.

    Attributes:
        path: the file.
        boxes_xyxy: (N, 4).
        xy, visibility: (N, K, 2) and (N, K); visibility 0: not labelled.
        masks: N COCO segmentations (polygons or RLE) or None.
        unknown: (M, 4) boxes of crowds and the like.
        complete: whether everybody outside ``unknown`` is labelled.
        joint_boxes: the boxes are those of the joints, so the picture may be turned by any angle.
    """

    path: Path
    boxes_xyxy: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray
    masks: tuple[Any, ...] = ()
    unknown: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    complete: bool = True
    joint_boxes: bool = False

    def read(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB; PoseError when the file is no picture."""
        image = cv2.imread(str(self.path), cv2.IMREAD_COLOR)
        if image is None:
            raise PoseError("not a readable picture", str(self.path))
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def pictures_of(
    dataset: Dataset,
    skeleton: Skeleton,
    *,
    complete: bool | None = None,
    joint_boxes: bool = False,
    rename: Mapping[str, str] | None = None,
) -> list[Picture]:
    """The records of a data set as pictures whose joints are those of ``skeleton``, met by name.

    Args:
        dataset: any skeleton; joints that ``skeleton`` lacks are dropped, those it has besides are not labelled.
        complete: whether all people are labelled; None takes each record's ``all_people_labelled``, else true.
        joint_boxes: see `Picture`.
        rename: joint names of the data set to those of ``skeleton``.
    """
    names = [(rename or {}).get(name, name) for name in dataset.skeleton.keypoints]
    pairs = [(i, skeleton.keypoints.index(name)) for i, name in enumerate(names) if name in skeleton.keypoints]
    source, target = [p[0] for p in pairs], [p[1] for p in pairs]
    pictures = []
    for record in dataset.records:
        people = [i for i in record.instances if not i.ignore and i.box_xyxy is not None]
        crowds = [i.box_xyxy for i in record.instances if i.ignore and i.box_xyxy is not None]
        xy = np.zeros((len(people), skeleton.num_keypoints, 2))
        visibility = np.zeros((len(people), skeleton.num_keypoints), np.int64)
        for n, person in enumerate(people):
            xy[n, target] = np.nan_to_num(person.xy[source])
            visibility[n, target] = person.visibility[source]
        pictures.append(
            Picture(
                path=Path(dataset.root) / record.file_name,
                boxes_xyxy=np.array([p.box_xyxy for p in people], np.float64).reshape(-1, 4),
                xy=xy,
                visibility=visibility,
                masks=tuple(p.extra.get("segmentation") for p in people),
                unknown=np.array(crowds, np.float64).reshape(-1, 4),
                complete=bool(record.extra.get("all_people_labelled", True)) if complete is None else complete,
                joint_boxes=joint_boxes,
            )
        )
    return pictures
