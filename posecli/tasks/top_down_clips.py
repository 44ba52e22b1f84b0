"""Learning of recurrent top-down networks (UniPose-LSTM): the crops of one person in the frames of a clip."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.random import Generator
from torch import Tensor, nn

from posecli import augment
from posecli.codecs.background import add_background
from posecli.codecs.top_down import teacher, to_map
from posecli.data import Source, person_box, read_image
from posecli.errors import UsageError
from posecli.geometry import apply_affine, crop_from_box, warp
from posecli.losses import joint_mse
from posecli.tasks.clips import coloured, moments, pass_by, shaken, shared_videos, timelines, windows
from posecli.tasks.top_down import TopDownTask


class TopDownClipTask(TopDownTask):
    """A person's clip a sample. The network's maps of every frame are compared with Gaussians, all frames alike.

    bmartacho/UniPose@bf53632 (`uniposeLSTM.py`) sums the losses of a clip's frames. One size, turn, move (in shares of
    the box) and mirroring hold for the clip; the region follows the person's box.

    People are followed by their identity, or because a video never shows two at once. Those of whom neither is known
    are not learnt from: a clip of one of their frames would teach that people in videos don't move.
    """

    def _find_people(self) -> None:
        if self.logits:
            raise UsageError(f"codec {self.codec!r}", "training settings", "clips are learnt by gaussian, dark, udp")
        super()._find_people()
        self._people = [
            self._followed(source, people) for source, people in zip(self.sources, self._people, strict=True)
        ]
        self.counts = [len(people) for people in self._people]
        self._check_counts()
        self._lines = [
            timelines(source, people, by_track=True) for source, people in zip(self.sources, self._people, strict=True)
        ]
        self._windows = [windows(lines, self.settings.clip_frames) for lines in self._lines]
        self.counts = [len(found) for found in self._windows]

    def _followed(self, source: Source, people: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Those of the people (record, person) of whom the other frames are known, or who stand in pictures."""
        records, shared = source.dataset.records, shared_videos(source)
        frames = Counter(record.video_id for record in records)
        found = []
        for r, p in people:
            video, track = records[r].video_id, records[r].instances[p].track_id
            if track is None and video in shared and frames[video] > 1:
                self._count("people without an identity (track_id) in videos of several people")
            else:
                found.append((r, p))
        return found

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        settings, data = self.settings, self.sources[source]
        line, first = self._windows[source][index]
        clip = moments(self._lines[source][line], first, settings, rng)
        low, high = settings.box_scale
        scale = math.exp(rng.uniform(math.log(low), math.log(high)))
        move = np.clip(rng.normal(0, settings.shift / 2.4, 2), -settings.shift, settings.shift) * scale
        angle = float(np.clip(rng.normal(0, settings.rotation), -2 * settings.rotation, 2 * settings.rotation))
        flip = rng.random() < settings.flip
        boxes, joints, crops = [], [], []
        for r, p in clip.items:
            record = data.dataset.records[r]
            xy, visibility = data.people(record)
            box = person_box(record.instances[p], xy[p], visibility[p])
            if box is None:  # such people were left out at the start
                raise ValueError(f"person {p} of record {record.image_id} has no box")
            shift = np.tile(move * max(box[2] - box[0], box[3] - box[1]), 2)
            boxes.append(box)
            joints.append((xy[p], visibility[p] > 0))
            crops.append(crop_from_box(box + shift, size, scale, angle, flip=flip))
        crops = shaken(crops, clip.seconds, settings.shake, rng)
        fill = self._fill(rng)
        pictures = {r: read_image(data.dataset.root, data.dataset.records[r]) for r in {r for r, _ in clip.items}}
        images = [warp(pictures[r], crop, fill) for (r, _), crop in zip(clip.items, crops, strict=True)]
        placed = []
        for (xy, labelled), crop in zip(joints, crops, strict=True):
            moved = apply_affine(crop.matrix, xy)
            if np.linalg.det(crop.matrix[:, :2]) < 0:
                moved, labelled = moved[self.skeleton.flip_index], labelled[self.skeleton.flip_index]
            placed.append((moved, labelled & augment.inside(moved, size)))
        if rng.random() < settings.occlude:
            other = data.dataset.records[self._people[source][int(rng.integers(len(self._people[source])))][0]]
            patch = read_image(data.dataset.root, other) if rng.random() < 0.6 else None
            moved, labelled = placed[int(rng.integers(len(placed)))]
            seen = moved[labelled]
            aim = seen[int(rng.integers(len(seen)))] if len(seen) else np.array(size) / 2
            images = pass_by(images, clip.seconds, aim, patch, rng)
        images = coloured(images, settings, rng)
        targets = [self._target(source, *one, size, counts) for one, counts in zip(placed, clip.counts, strict=True)]
        return {
            "image": np.stack(images),
            "gap": clip.gap.astype(np.float32),
            "target": np.stack([target for target, _ in targets]),
            "weight": np.stack([weight for _, weight in targets]),
        }

    def _target(
        self, source: int, xy: np.ndarray, labelled: np.ndarray, size: tuple[int, int], counts: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Maps and weights of a frame; all weights are 0 where it does not count."""
        map_size = (size[0] // self.stride, size[1] // self.stride)
        encode = teacher(self.codec).encode
        assert encode is not None
        on_map = to_map(np.where(labelled[:, None], xy, 0), teacher(self.codec).grid, size, map_size)
        target, weight = encode(on_map, labelled, map_size, self.settings.sigma)
        if self.background:
            target, weight = add_background(target, weight, self.background, self.complete[source])
        return target, weight * counts

    def inputs(self, network: nn.Module, image: Tensor, batch: Mapping[str, Tensor]) -> tuple[Any, ...]:
        return (batch["gap"], self.settings.truncate)

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        maps, target, weight = output.heatmaps, batch["target"], batch["weight"]
        return joint_mse(maps.flatten(0, 1), target.flatten(0, 1), weight.flatten(0, 1)).total.reshape(1)
