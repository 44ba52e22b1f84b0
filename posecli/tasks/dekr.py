"""Learning of DEKR: whole pictures, everybody's joints and centres, and offsets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from posecli import augment
from posecli.checkpoint import ModelMeta
from posecli.codecs.offsets import encode_heatmap, encode_offset, person_centres
from posecli.data import Source, read_image
from posecli.geometry import apply_affine, crop_from_box, warp
from posecli.losses import DEKR_OFFSET_FACTOR, dekr_heatmap_loss, dekr_offset_loss
from posecli.masks import mask_of, polygons_of
from posecli.settings import TrainSettings
from posecli.tasks.task import Task
from posecli.types import Crop, Instance, Record, Skeleton


class DekrTask(Task):
    """A whole picture a sample; heat maps of all people's joints and centres, and offsets from the centres.

    Geng et al., CVPR 2021, Sec. 3.3 and 4.1. A square as wide as the picture's shorter side, times `scale`, is turned
    about and moved; joints that a data set doesn't have are masked in all its pictures, crowds and (by `unlabelled`)
    people without labelled joints where they stand.

    As in the official code (HRNet/DEKR@7a30313, `lib/dataset/COCOKeypoints.py`, `lib/dataset/transforms/transforms.py`)
    a person's size is that of the joints' box in the upright picture, brought to input pixels by the zoom, and people
    whose annotated area is below `min_area` have joints but no centre. Other than there, pictures with nobody on them
    are learnt from (`posecli convert --drop-empty` leaves them out), the mirrored labels lie exactly on the mirrored
    picture (three input pixels beside it there, see `grouping.dekr.mirrored_input`), and `shift` is in input pixels as
    the paper has it (the official 40 counts in units of a two-hundredth of the region: 102 pixels of 512).
    """

    terms: ClassVar = {"heatmap": 1.0, "offset": DEKR_OFFSET_FACTOR}
    stride = 4

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> None:
        super().__init__(settings, sources, skeleton)
        self._records = [self._labelled(source) for source in self.sources]
        self.counts = [len(records) for records in self._records]
        self._check_counts()
        for source, records in zip(self.sources, self._records, strict=True):
            for record in (source.dataset.records[r] for r in records):
                _, visibility = source.people(record)
                for person, instance in enumerate(record.instances):
                    labelled = (visibility[person] > 0).any()
                    if instance.ignore:
                        self._count("crowds and ignored regions, masked")
                    elif not labelled:
                        fate = "masked" if settings.unlabelled == "mask" else "taken for background"
                        self._count(f"people without labelled joints, {fate}")
                    elif _area_of(instance) < settings.min_area:
                        self._count("people too small for a centre")

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        settings, data = self.settings, self.sources[source]
        record = data.dataset.records[self._records[source][index]]
        crop = self._crop(record, rng, size)
        joints, area = self._people(data, record, crop)
        image = warp(read_image(data.dataset.root, record), crop, self._fill(rng))
        if rng.random() < settings.paste:
            cutout = self._cut_out(source, (0.15 * min(size), 0.8 * min(size)), rng)
            # Somebody without labelled joints would be taken for background.
            if cutout is not None and (cutout.visibility > 0).any():
                h, w = cutout.alpha.shape
                # At least half of the person stays in view.
                corner = rng.uniform((-w / 2, -h / 2), (size[0] - w / 2, size[1] - h / 2)).astype(int)
                image = augment.paste(image, cutout.image, cutout.alpha, int(corner[0]), int(corner[1]))
                pasted = np.column_stack([cutout.xy + corner, cutout.visibility])
                more_joints, more_area = person_centres(pasted[None])
                joints, area = np.concatenate([joints, more_joints]), np.concatenate([area, more_area])
        image = self._coloured(image, rng)
        if rng.random() < settings.occlude:
            other = data.dataset.records[self._records[source][int(rng.integers(self.counts[source]))]]
            image = self._occluded(image, rng, read_image(data.dataset.root, other))
        return {"image": image, **self._targets(joints, area, data, record, crop)}

    def _people(self, data: Source, record: Record, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
        """Joints and centres (N, K + 1, 3) of the labelled people in input pixels, and their sizes W^2 + H^2 (N,)."""
        xy, visibility = data.people(record)
        people = [p for p, i in enumerate(record.instances) if not i.ignore and (visibility[p] > 0).any()]
        annotated = np.array([_area_of(record.instances[p]) for p in people])
        labels = np.concatenate([xy[people], visibility[people][..., None]], axis=2)
        # Measured in the upright picture: a turned person is as large as before.
        joints, area = person_centres(labels, annotated, least_area=self.settings.min_area)
        determinant = float(np.linalg.det(crop.matrix[:, :2]))
        joints[..., :2] = apply_affine(crop.matrix, joints[..., :2])
        if determinant < 0:
            joints = joints[:, [*self.skeleton.flip_index, self.skeleton.num_keypoints]]
        return joints, np.maximum(area * abs(determinant), 1)

    def _crop(self, record: Record, rng: Generator, size: tuple[int, int]) -> Crop:
        settings = self.settings
        side = min(record.width, record.height) * rng.uniform(*settings.scale)
        # `shift` is in pixels of the input, of which min(size) show `side`.
        move = rng.uniform(-settings.shift, settings.shift, 2) * side / min(size)
        centre = (np.array([record.width, record.height]) - 1) / 2 + move
        angle = rng.uniform(-settings.rotation, settings.rotation)
        box = np.concatenate([centre - side / 2, centre + side / 2])
        return crop_from_box(box, size, 1.0, angle, flip=rng.random() < settings.flip)

    def _targets(
        self, joints: np.ndarray, area: np.ndarray, data: Source, record: Record, crop: Crop
    ) -> dict[str, np.ndarray]:
        width, height = crop.size_wh
        map_size = (width // self.stride, height // self.stride)
        joints = joints / np.array([self.stride, self.stride, 1])
        heatmap, weight = encode_heatmap(joints, map_size, self.settings.sigma, 2 * self.settings.sigma)
        offset, offset_weight = encode_offset(joints, area, map_size)
        unknown = data.joints < 0
        if np.linalg.det(crop.matrix[:, :2]) < 0:  # of a mirrored picture the other side is not labelled
            unknown = unknown[self.skeleton.flip_index]
        weight[:-1][unknown] = 0
        weight *= self._known(record, data, crop, map_size)
        return {"heatmap": heatmap, "weight": weight, "offset": offset, "offset_weight": offset_weight}

    def _known(self, record: Record, data: Source, crop: Crop, map_size: tuple[int, int]) -> np.ndarray:
        """(h, w) float32: 0 where crowds and unlabelled people stand."""
        known = np.ones((map_size[1], map_size[0]), np.float32)
        _, visibility = data.people(record)
        for person, instance in enumerate(record.instances):
            unlabelled = not (visibility[person] > 0).any() and self.settings.unlabelled == "mask"
            if not (instance.ignore or unlabelled):
                continue
            for outline in _outlines(instance, record):
                points = np.round(apply_affine(crop.matrix, outline) / self.stride).astype(np.int32)
                cv2.fillPoly(known, [points], 0.0)
        return known

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        counted = (batch["offset_weight"] > 0).sum()
        return torch.stack([torch.tensor(float(batch["heatmap"].numel())), counted.cpu().float()]).double()

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        heatmap = dekr_heatmap_loss(output.heatmap, batch["heatmap"], batch["weight"])
        offset = dekr_offset_loss(output.offset, batch["offset"], batch["offset_weight"])
        return torch.stack([heatmap.total, offset.total])

    def meta(self, architecture: str, arguments: Mapping[str, Any]) -> ModelMeta:
        return ModelMeta(
            architecture=architecture,
            arguments=arguments,
            skeleton=self.skeleton,
            input_size=self.settings.input_size,
            codec="dekr",
            extra={"convention": "dekr", "threshold": self.settings.threshold},
        )


def _area_of(instance: Instance) -> float:
    """The annotated area in square pixels of the picture, NaN where none (or none that can be true) is given."""
    return instance.area if instance.area is not None and instance.area > 0 else math.nan


def _outlines(instance: Instance, record: Record) -> list[np.ndarray]:
    """Outlines (N, 2) of a region in picture pixels: its mask's where it has one, else its box."""
    mask = instance.extra.get("segmentation")
    where = f"annotation {instance.extra.get('id')}"
    if isinstance(mask, list) and (polygons := polygons_of(mask, where)):
        return polygons
    if isinstance(mask, dict):
        shape = mask_of(mask, record.width, record.height, where)
        found, _ = cv2.findContours(shape, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return [contour[:, 0].astype(np.float64) for contour in found]
    if instance.box_xyxy is None:
        return []
    x0, y0, x1, y1 = instance.box_xyxy
    return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)]
