"""Learning of DEKR on clips: its losses in every frame, and steadiness of its errors from frame to frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from posecli.codecs.offsets import poses_at
from posecli.data import Source, read_image
from posecli.geometry import warp
from posecli.losses import steadiness_loss
from posecli.settings import TrainSettings
from posecli.tasks.clips import coloured, moments, pass_by, shaken, timelines, windows
from posecli.tasks.dekr import DekrTask
from posecli.types import Crop, Record, Skeleton

#: People of a clip whose steadiness is learnt; more are rarely there.
_MOST = 6


class DekrClipTask(DekrTask):
    """A clip a sample, for networks that remember, and for DEKR itself (which sees the same frames, one by one).

    The loss is DEKR's in every frame (the first has no past to lean on, and counts all the same), and with
    ``consistency`` the steadiness of the error (`losses.steadiness_loss`): of the difference between the pose regressed
    at a person's centre and the true one, so that movement of the person or of the camera costs nothing.
    """

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> None:
        super().__init__(settings, sources, skeleton)
        self.terms = dict(type(self).terms)  # type: ignore[misc]
        if settings.consistency:
            self.terms["consistency"] = settings.consistency  # type: ignore[index]
        self._lines = [
            timelines(source, [(r, -1) for r in records], by_track=False)
            for source, records in zip(self.sources, self._records, strict=True)
        ]
        self._windows = [windows(lines, settings.clip_frames) for lines in self._lines]
        self.counts = [len(found) for found in self._windows]

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        settings, data = self.settings, self.sources[source]
        line, first = self._windows[source][index]
        clip = moments(self._lines[source][line], first, settings, rng)
        records = [data.dataset.records[r] for r, _ in clip.items]
        region = self._crop(records[0], rng, size)
        crops = shaken([region] * len(records), clip.seconds, settings.shake, rng)
        fill = self._fill(rng)
        pictures: dict[int, np.ndarray] = {}
        for (r, _), record in zip(clip.items, records, strict=True):
            if r not in pictures:
                pictures[r] = read_image(data.dataset.root, record)
        images = [warp(pictures[r], crop, fill) for (r, _), crop in zip(clip.items, crops, strict=True)]
        people = [self._people(data, record, crop) for record, crop in zip(records, crops, strict=True)]
        if rng.random() < settings.occlude:
            other = data.dataset.records[self._records[source][int(rng.integers(len(self._records[source])))]]
            patch = read_image(data.dataset.root, other) if rng.random() < 0.6 else None
            images = pass_by(images, clip.seconds, self._aim(people, size, rng), patch, rng)
        images = coloured(images, settings, rng)
        frames = [
            self._frame(data, record, crop, *found, counts)
            for record, crop, found, counts in zip(records, crops, people, clip.counts, strict=True)
        ]
        sample = {key: np.stack([frame[key] for frame in frames]) for key in frames[0]}
        sample |= {"image": np.stack(images), "gap": clip.gap.astype(np.float32)}
        if settings.consistency:
            sample |= self._tracks(data, records, people, clip.counts, size)
        return sample

    def _frame(
        self, data: Source, record: Record, crop: Crop, joints: np.ndarray, area: np.ndarray, counts: bool
    ) -> dict[str, np.ndarray]:
        targets = self._targets(joints, area, data, record, crop)
        if not counts:
            targets["weight"][:], targets["offset_weight"][:] = 0, 0
        return targets

    def _aim(
        self, people: Sequence[tuple[np.ndarray, np.ndarray]], size: tuple[int, int], rng: Generator
    ) -> np.ndarray:
        """(2,) a random labelled joint of a random frame, or a place in the picture where nobody is."""
        joints, _ = people[int(rng.integers(len(people)))]
        seen = joints[:, :-1][joints[:, :-1, 2] > 0][:, :2]
        return seen[int(rng.integers(len(seen)))] if len(seen) else rng.uniform(0, 1, 2) * np.array(size)

    def _tracks(
        self,
        data: Source,
        records: Sequence[Record],
        people: Sequence[tuple[np.ndarray, np.ndarray]],
        counts: np.ndarray,
        size: tuple[int, int],
    ) -> dict[str, np.ndarray]:
        """Where each person's pose is read in each frame: ``centre`` (T, N) flat map pixels, ``pose`` (T, N, K, 2) map
        pixels, and the weight ``seen`` (T, N, K) of each joint, 0 where there is none."""
        width, height = size[0] // self.stride, size[1] // self.stride
        joints_count = self.skeleton.num_keypoints
        centre = np.zeros((len(records), _MOST), np.int64)
        pose = np.zeros((len(records), _MOST, joints_count, 2), np.float32)
        seen = np.zeros((len(records), _MOST, joints_count), np.float32)
        numbers: dict[Any, int] = {}
        for t, (record, (joints, area)) in enumerate(zip(records, people, strict=True)):
            _, visibility = data.people(record)
            labelled = [
                p for n, p in enumerate(record.instances) if not p.ignore and (visibility[n] > 0).any()
            ]  # as in `_people`
            for person, moved, one_area in zip(labelled, joints, area, strict=True):
                # Somebody without an identity is known again only where nobody else is there.
                name = person.track_id if person.track_id is not None else ("alone" if len(labelled) == 1 else None)
                if name is None or not counts[t]:
                    continue
                number = numbers.setdefault(name, len(numbers))
                x, y = np.floor(moved[-1, :2] / self.stride).astype(int)
                if number >= _MOST or moved[-1, 2] < 1 or not (0 <= x < width and 0 <= y < height):
                    continue
                xy = moved[:-1, :2] / self.stride
                inside = ((xy >= 0) & (xy < (width, height))).all(1)
                centre[t, number] = y * width + x
                pose[t, number] = xy
                seen[t, number] = ((moved[:-1, 2] > 0) & inside) / np.sqrt(one_area)
        return {"centre": centre, "pose": pose, "seen": seen}

    def arranged(self, network: nn.Module, image: Tensor) -> Tensor:
        return image if getattr(network, "recurrent", False) else image.flatten(0, 1)

    def inputs(self, network: nn.Module, image: Tensor, batch: Mapping[str, Tensor]) -> tuple[Any, ...]:
        return (batch["gap"], self.settings.truncate) if getattr(network, "recurrent", False) else ()

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        sizes = super().sizes(batch)
        if not self.settings.consistency:
            return sizes
        both = (batch["seen"][:, 1:] > 0) & (batch["seen"][:, :-1] > 0)
        return torch.cat([sizes, 2 * both.sum().cpu().double().reshape(1)])

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        frames = batch["image"].shape[:2]
        maps = type(output)(*(part.flatten(0, 1) if part.ndim == 5 else part for part in output))
        terms = super().sums(maps, {key: batch[key].flatten(0, 1) for key in _MAPS})
        if not self.settings.consistency:
            return terms
        found = poses_at(maps.offset, batch["centre"].flatten(0, 1)).unflatten(0, frames)
        return torch.cat([terms, steadiness_loss(found - batch["pose"], batch["seen"]).total.reshape(1)])


_MAPS = ("heatmap", "weight", "offset", "offset_weight")
