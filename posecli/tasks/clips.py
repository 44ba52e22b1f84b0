"""Clips: frames of a video in their order, changed as a camera, things in the way and a codec would change them.

What holds for the whole clip (the region, a turn, mirroring, colours) is drawn once; what lasts (movement of the
camera, things passing by, blur) is a smooth function of the frames' times.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator

from posecli import augment
from posecli.data import Source
from posecli.settings import TrainSettings
from posecli.types import Crop

#: Seconds between the frames of a clip that is one picture.
STILL_GAP = 1 / 30
#: Degrees, and share of the size, that a camera turns and zooms while it moves by a share of the picture.
_TURN, _ZOOM = 60.0, 1.0


@dataclass(frozen=True)
class Timeline:
    """What follows each other: ``items`` with their ``seconds``; a picture of no video is one item."""

    items: tuple[tuple[int, int], ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class Moments:
    """The frames of one clip.

    Attributes:
        items: (record, person) of each; person -1 where the frame is meant.
        gap: (T,) seconds since the frame before; 0 for the first.
        counts: (T,) bool: False for repetitions at the end of a video that is too short.
    """

    items: tuple[tuple[int, int], ...]
    gap: np.ndarray
    counts: np.ndarray

    @property
    def seconds(self) -> np.ndarray:
        """(T,) since the first frame."""
        return np.cumsum(self.gap)


def shared_videos(source: Source) -> set[object]:
    """The videos some frame of which shows more than one person: without an identity nobody can be followed there."""
    return {
        record.video_id
        for record in source.dataset.records
        if record.video_id is not None and sum(not person.ignore for person in record.instances) > 1
    }


def timelines(source: Source, items: Sequence[tuple[int, int]], by_track: bool) -> list[Timeline]:
    """The items (record, person) of a source in the order of time, by video (and, if asked, by the person's identity).

    People without an identity are one and the same in a video that never shows two at once; elsewhere they stand alone,
    and so do items of pictures that belong to no video.
    """
    rates: dict[object, float] = {video.id: video.fps for video in source.dataset.videos}
    shared = shared_videos(source) if by_track else set()
    groups: dict[tuple[object, ...], list[tuple[int, tuple[int, int]]]] = {}
    for number, (r, p) in enumerate(items):
        record = source.dataset.records[r]
        track = record.instances[p].track_id if by_track else None
        unknown = track is None and record.video_id in shared
        alone = record.video_id is None or record.frame_id is None or unknown
        key: tuple[object, ...] = ("alone", number) if alone else (record.video_id, track)
        groups.setdefault(key, []).append((record.frame_id or 0, (r, p)))
    found = []
    for key, members in groups.items():
        members.sort()
        rate = 0.0 if key[0] == "alone" else rates.get(key[0], 0.0)
        times = tuple(frame / (rate if rate > 0 else 30.0) for frame, _ in members)
        found.append(Timeline(tuple(item for _, item in members), times))
    return found


def windows(lines: Sequence[Timeline], frames: int) -> list[tuple[int, int]]:
    """(timeline, first item) of the clips of an epoch: each begins half a clip after the one before."""
    step = max(1, frames // 2)
    return [(n, first) for n, line in enumerate(lines) for first in range(0, max(1, len(line.items) - step), step)]


def moments(line: Timeline, first: int, settings: TrainSettings, rng: Generator) -> Moments:
    """The frames of a clip that begins about the item `first`, at a random one of the steps for which there is room."""
    count, length = settings.clip_frames, len(line.items)
    if length == 1:
        gap = np.full(count, STILL_GAP)
        gap[0] = 0
        return Moments(line.items * count, gap, np.ones(count, bool))
    fitting = [step for step in settings.clip_steps if (count - 1) * step < length] or [1]
    step = fitting[int(rng.integers(len(fitting)))]
    latest = max(0, length - 1 - (count - 1) * step)
    begin = min(first + int(rng.integers(0, max(1, count // 2))), latest)
    chosen = begin + step * np.arange(count)
    counts = chosen < length
    chosen = np.minimum(chosen, length - 1)
    times = np.array([line.seconds[i] for i in chosen])
    gap = np.concatenate([[0.0], np.diff(times)])
    return Moments(tuple(line.items[i] for i in chosen), gap, counts)


def waves(rng: Generator, seconds: np.ndarray) -> np.ndarray:
    """(T,) a smooth random movement, mostly between -1 and 1, 0 in the middle of its swing on average."""
    hertz = np.array([rng.uniform(0.15, 0.6), rng.uniform(0.8, 3.0)])
    weight = np.array([rng.uniform(0.3, 0.8), rng.uniform(0.0, 0.3)])
    phase = rng.uniform(0, 2 * math.pi, 2)
    return (np.sin(2 * math.pi * hertz * seconds[:, None] + phase) * weight).sum(1)


def shaken(crops: Sequence[Crop], seconds: np.ndarray, largest: float, rng: Generator) -> list[Crop]:
    """The crops of a clip as a hand-held camera shows them, moved by about `largest` input pixels at most."""
    width, height = crops[0].size_wh
    share = largest / max(width, height)
    x, y, turn, zoom = (waves(rng, seconds) * rng.uniform(0, 1) for _ in range(4))
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    found = []
    for t, crop in enumerate(crops):
        angle, factor = math.radians(_TURN * share * turn[t]), math.exp(_ZOOM * share * zoom[t])
        cos, sin = math.cos(angle) * factor, math.sin(angle) * factor
        linear = np.array([[cos, -sin], [sin, cos]])
        shift = middle - linear @ middle + largest * np.array([x[t], y[t]])
        found.append(Crop(np.hstack([linear @ crop.matrix[:, :2], (linear @ crop.matrix[:, 2] + shift)[:, None]]),
                          crop.size_wh))  # fmt: skip
    return found


def pass_by(
    images: list[np.ndarray], seconds: np.ndarray, aim: np.ndarray, patch: np.ndarray | None, rng: Generator
) -> list[np.ndarray]:
    """Something moves straight through the clip, over the point `aim` (2,) at some time; labels stay.

    A rectangle or an ellipse, 0.1 to 0.4 of the picture's sides, of a part of `patch` (H, W, 3) or of one colour.
    """
    height, width = images[0].shape[:2]
    size = np.maximum(2, np.array([width, height]) * rng.uniform(0.1, 0.4, 2)).astype(int)
    if patch is None or patch.shape[1] < size[0] or patch.shape[0] < size[1]:
        content = np.full((size[1], size[0], 3), rng.integers(0, 256, 3), np.uint8)
    else:
        left, top = (
            int(rng.integers(0, patch.shape[1] - size[0] + 1)),
            int(rng.integers(0, patch.shape[0] - size[1] + 1)),
        )
        content = patch[top : top + size[1], left : left + size[0]]
    alpha = np.ones((size[1], size[0]), np.float32)
    if rng.random() < 0.5:
        alpha[:] = 0
        across, down = float(size[0] - 1), float(size[1] - 1)
        cv2.ellipse(alpha, ((across / 2, down / 2), (across, down), 0.0), 1.0, -1, cv2.LINE_AA)
    angle, speed = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 1.2) * max(width, height)
    velocity = speed * np.array([math.cos(angle), math.sin(angle)])
    when = rng.uniform(seconds[0], seconds[-1]) if len(seconds) else 0.0
    changed = []
    for image, time in zip(images, seconds, strict=True):
        corner = aim + velocity * (time - when) - size / 2
        changed.append(augment.paste(image, content, alpha, round(corner[0]), round(corner[1])))
    return changed


def coloured(images: list[np.ndarray], settings: TrainSettings, rng: Generator) -> list[np.ndarray]:
    """The changes that move nothing: colours alike in all frames, grain anew in each, blur in some frames on end."""
    seed = int(rng.integers(1 << 31))
    if settings.colour:
        images = [augment.colour_jitter(image, np.random.default_rng(seed), settings.colour) for image in images]
    if rng.random() < settings.grey:
        images = [augment.to_grey(image) for image in images]
    if rng.random() < settings.blur:
        first, last = np.sort(rng.integers(0, len(images), 2))
        largest = rng.uniform(1.5, 4.0)
        kernel = int(rng.integers(1 << 31))
        images = [
            augment.blur(image, np.random.default_rng(kernel), largest) if first <= t <= last else image
            for t, image in enumerate(images)
        ]
    if rng.random() < settings.dim:
        level = rng.uniform(0.08, 0.4)
        images = [augment.darker(image, level, rng) for image in images]
    if settings.glare and rng.random() < settings.glare:
        level = rng.uniform(1.2, 2.5)
        images = [augment.brighter(image, level) for image in images]
    if rng.random() < settings.noise:
        strongest = rng.uniform(2, 12)
        images = [augment.noise(image, rng, strongest) for image in images]
    if rng.random() < settings.compress:
        quality = int(rng.integers(6, 35))
        images = [augment.compressed(image, quality) for image in images]
    return images
