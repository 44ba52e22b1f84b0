"""Records to batches: which sample comes when, where its pixels are, and a loader that prefetches.

The order of samples and every random change to them is a function of (seed, epoch, place in the epoch) alone. Nothing
about it has to be saved: a run resumed at a step, or spread over processes, meets the samples it would have met.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from posecli.errors import PoseError, reason
from posecli.formats.joint_mapping import match_points
from posecli.geometry import is_narrow
from posecli.geometry import person_box as person_box
from posecli.types import Dataset, Record, Skeleton
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, VideoSource, read_picture

# Distinguish the purposes that draw random numbers from one seed.
_ORDER, _SAMPLE, _SHAPES = 1, 2, 3

#: Shapes of what a sample shows: as long as wide or nearly, and long and narrow.
SQUARE, UPRIGHT, LYING = 0, 1, 2


@dataclass(frozen=True)
class Source:
    """A data set seen through the joints that are learnt.

    Attributes:
        dataset: as it was read.
        joints: (K,) index of each learnt joint in the data set's skeleton, -1 where it has none.
        name: for messages.
    """

    dataset: Dataset
    joints: np.ndarray
    name: str

    def people(self, record: Record) -> tuple[np.ndarray, np.ndarray]:
        """Points (N, K, 2) and visibility (N, K) of the record's people in learnt joints; unlabelled points are 0."""
        count = len(self.joints)
        xy = np.zeros((len(record.instances), count, 2))
        visibility = np.zeros((len(record.instances), count), np.int64)
        known = self.joints >= 0
        for row, instance in enumerate(record.instances):
            visibility[row, known] = instance.visibility[self.joints[known]]
            labelled = visibility[row] > 0
            xy[row, labelled] = instance.xy[self.joints[labelled]]
        return xy, visibility


def make_source(dataset: Dataset, skeleton: Skeleton, name: str) -> Source:
    """A data set through a skeleton's joints, which meet by name; PoseError when they share none."""
    joints = match_points(dataset.skeleton, skeleton)
    if not (joints >= 0).any():
        raise PoseError(f"shares no joint with the skeleton {skeleton.name!r}", name, "choose another with --skeleton")
    return Source(dataset, joints, name)


def read_image(root: str | Path, record: Record) -> np.ndarray:
    """The record's pixels, RGB uint8 (H, W, 3): a picture file, or frame `frame_id` of a video.

    Raises:
        PoseError: the file is missing or damaged, or has another size than the record says.
    """
    path = Path(root) / record.file_name
    if record.frame_id is not None and path.suffix.lower() in VIDEO_SUFFIXES:
        image = _video(str(path)).read_at(record.frame_id).image
    else:
        image = read_picture(path)
    if image.shape[:2] != (record.height, record.width):
        found, said = f"{image.shape[1]} x {image.shape[0]}", f"{record.width} x {record.height}"
        raise PoseError(f"the picture is {found}, the data set says {said}", str(path))
    return image


def pictures_named(where: str | Path) -> list[Path]:
    """The pictures of a folder, or those that a text file names, one a line and seen from its folder; sorted.

    Raises:
        PoseError: no such folder or file, no pictures in it, or one that isn't there.
    """
    where = Path(where)
    if where.is_dir():
        found = [p for p in where.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES]
    else:
        try:
            lines = where.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise PoseError(f"cannot read it: {reason(error)}", str(where), "a folder of pictures, or a list") from None
        found = [where.parent / line.strip() for line in lines if line.strip()]
        missing = next((p for p in found if not p.is_file()), None)
        if missing:
            raise PoseError(f"names a picture that isn't there: {missing}", str(where))
    if not found:
        raise PoseError("no pictures", str(where))
    return sorted(found)


@lru_cache(maxsize=4)
def _video(path: str) -> VideoSource:
    # Kept open in each process: opening reads the index of the whole file.
    return VideoSource(path, threads=1)


class Mixture:
    """The order in which samples of several sources come.

    Args:
        counts: samples of each source.
        weights: share of each source in an epoch; empty: by their counts, so that each sample comes once.
        epoch_samples: length of an epoch; 0: the sum of the counts.
        seed: of the order.
    """

    def __init__(self, counts: Sequence[int], weights: Sequence[float], epoch_samples: int, seed: int) -> None:
        self.counts = tuple(counts)
        self.seed = seed
        self.length = epoch_samples or sum(counts)
        # Fractions of the numbers as they are written: shares are the same on every machine and in every epoch.
        share = [Fraction(repr(float(value))) for value in weights or counts]
        share = [value * self.length / sum(share) for value in share]
        self._whole = [int(value) for value in share]
        self._part = [value - whole for value, whole in zip(share, self._whole, strict=True)]
        self._given = (0, [0] * len(share))  # an epoch, and how often each source had one more than its whole share

    def epoch(self, epoch: int) -> np.ndarray:
        """(length, 2) int: source and sample at each place of an epoch.

        Each source is gone through in shuffled passes that carry on from epoch to epoch, so that all its samples come
        equally often whatever its share; a share of less than a sample an epoch comes in some epochs.
        """
        parts = []
        for source, (count, first, end) in enumerate(
            zip(self.counts, self._before(epoch), self._before(epoch + 1), strict=True)
        ):
            draws = np.arange(first, end)
            chosen = np.empty(len(draws), np.int64)
            for number in np.unique(draws // count) if len(draws) else ():
                order = np.random.default_rng((self.seed, _ORDER, source, int(number))).permutation(count)
                here = draws // count == number
                chosen[here] = order[draws[here] % count]
            parts.append(np.stack([np.full(len(draws), source), chosen], axis=1))
        places = np.concatenate(parts)
        return places[np.random.default_rng((self.seed, _ORDER, len(self.counts), epoch)).permutation(len(places))]

    def _before(self, epoch: int) -> list[int]:
        """How many samples each source gives in the epochs before this one.

        An epoch takes the whole part of each share, and one more from those that are owed most of what is left of
        theirs.
        """
        done, given = self._given if self._given[0] <= epoch else (0, [0] * len(self.counts))
        left = self.length - sum(self._whole)
        for number in range(done + 1, epoch + 1) if left else ():
            owed = [part * number - extra for part, extra in zip(self._part, given, strict=True)]
            most = sorted(range(len(owed)), key=lambda source: -owed[source])[:left]
            given = [extra + (source in most) for source, extra in enumerate(given)]
        self._given = epoch, given
        return [whole * epoch + extra for whole, extra in zip(self._whole, given, strict=True)]


def shape_of(box: np.ndarray, ratio: float) -> int:
    """The shape of a box (4,) corners: `SQUARE` unless its shorter side is at most so much of the longer."""
    if not is_narrow(box, ratio):
        return SQUARE
    return UPRIGHT if box[3] - box[1] >= box[2] - box[0] else LYING


def in_steps(order: np.ndarray, shapes: np.ndarray, length: int, seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """An epoch in another order, so that each step of `length` samples shows one shape.

    Args:
        order: (N, 2) source and sample. shapes: (N,) of each. seed: of the order of the steps.

    Returns:
        (N, 2) the same in the new order; (steps,) the shape of each step. What fills no step of its own shape comes
        last, as `SQUARE`.
    """
    of_shape = [np.flatnonzero(shapes == shape) for shape in (SQUARE, UPRIGHT, LYING)]
    whole = [(shape, places[i : i + length]) for shape, places in enumerate(of_shape)
             for i in range(0, len(places) - length + 1, length)]  # fmt: skip
    steps = [whole[i] for i in np.random.default_rng(seed).permutation(len(whole))]
    rest = np.sort(np.concatenate([places[len(places) // length * length :] for places in of_shape]))
    places = np.concatenate([*(places for _, places in steps), rest])
    left = -(-len(rest) // length)
    return order[places], np.array([shape for shape, _ in steps] + [SQUARE] * left, np.int64)


class Samples(Protocol):
    """What a task gives the loader."""

    def sample(self, source: int, index: int, rng: np.random.Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """Sample `index` of a source, changed at random, for a network input of (width, height) = `size`."""


@dataclass(frozen=True)
class Place:
    """A sample asked of a worker: its place in the run, what it is, how large, and whether changed gently."""

    epoch: int
    number: int
    source: int
    index: int
    size: tuple[int, int]
    gentle: bool


class _Changed(torch.utils.data.Dataset):
    """Samples by place; pickled into worker processes."""

    def __init__(self, samples: Samples, gentle: Samples, seed: int) -> None:
        self.samples, self.gentle, self.seed = samples, gentle, seed

    def __getitem__(self, place: Place) -> dict[str, np.ndarray] | PoseError:
        rng = np.random.default_rng((self.seed, _SAMPLE, place.epoch, place.number))
        try:
            samples = self.gentle if place.gentle else self.samples
            return samples.sample(place.source, place.index, rng, place.size)
        except PoseError as error:
            # Handed over as a value: raised in a worker it would arrive wrapped in the worker's traceback.
            return error


def collate(samples: Sequence[dict[str, np.ndarray] | PoseError]) -> dict[str, Tensor] | PoseError:
    """Equal arrays of all samples stacked along a new first axis, as tensors; or the first error among them."""
    arrays = []
    for sample in samples:
        if isinstance(sample, PoseError):
            return sample
        arrays.append(sample)
    return {key: torch.from_numpy(np.stack([a[key] for a in arrays])) for key in arrays[0]}


def left_to_parent(worker: int = 0) -> None:
    """Leaves it to the training process when this worker of it ends.

    Ctrl-C, a closed terminal's SIGHUP and a service manager's SIGTERM reach all processes of a run, which goes on to
    the end of its step. So SIGINT and SIGHUP are ignored, and SIGTERM unless the parent sent it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):  # Windows has none
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS does not tell who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    parent = os.getppid()

    def heed() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    threading.Thread(target=heed, daemon=True).start()


def _start_worker(worker: int) -> None:
    left_to_parent()
    cv2.setNumThreads(0)  # the workers are the parallelism
    # A video that the parent has open is the same open file here: reading it would move it under the other processes.
    _video.cache_clear()


class Loader:
    """Micro-batches of a run, from any step on, read ahead by worker processes.

    A step takes ``batch x accumulate x world`` consecutive samples of the epoch (the last step of an epoch is filled
    up with its first samples, changed differently). Its micro-batch number ``a * world + rank`` is the a-th one of a
    process: however many processes share a step, the step sees the same micro-batches.

    Args:
        samples: the task. mixture: the order.
        batch, accumulate, rank, world: see above.
        workers: processes; 0: loads when asked, in this process.
        plan: step and the shape of its samples to the network input size (width, height) and whether they are changed
            gently; asked when they are sent for.
        shapes: of each source's samples (count,), where each step is to show one shape; by default all are `SQUARE`.
        shaped: share of the samples of other shapes that are shown as such.
        gentle: makes the gently changed samples; by default the same as `samples`.
        pinned: batches lie in page-locked memory, from which a device reads them while the network runs.
    """

    def __init__(
        self,
        samples: Samples,
        mixture: Mixture,
        *,
        batch: int,
        accumulate: int = 1,
        rank: int = 0,
        world: int = 1,
        workers: int = 1,
        seed: int = 1,
        plan: Callable[[int, int], tuple[tuple[int, int], bool]],
        shapes: Sequence[np.ndarray] = (),
        shaped: float = 1.0,
        gentle: Samples | None = None,
        pinned: bool = False,
    ) -> None:
        self.mixture = mixture
        self.batch, self.accumulate, self.rank, self.world = batch, accumulate, rank, world
        self.steps_per_epoch = -(-mixture.length // (batch * accumulate * world))
        self._plan, self._seed = plan, seed
        self._shapes, self._shaped = shapes, shaped
        self._dataset = _Changed(samples, gentle or samples, seed)
        self._workers = workers
        self._pinned = pinned

    def _places(self, step: int) -> Iterator[list[Place]]:
        """Micro-batches of this process from a step on, without end."""
        known: tuple[int, np.ndarray, np.ndarray] | None = None
        while True:
            epoch, within = divmod(step, self.steps_per_epoch)
            if known is None or known[0] != epoch:
                known = (epoch, *self._epoch(epoch))
            order, (size, gentle) = known[1], self._plan(step, int(known[2][within]))
            for a in range(self.accumulate):
                micro = (within * self.accumulate + a) * self.world + self.rank
                numbers = range(micro * self.batch, (micro + 1) * self.batch)
                chosen = [(n, *order[n % len(order)].tolist()) for n in numbers]
                yield [Place(epoch, number, source, index, size, gentle) for number, source, index in chosen]
            step += 1

    def _epoch(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(length, 2) samples of an epoch in their order, and the shape that each step shows."""
        order = self.mixture.epoch(epoch)
        if not self._shapes:
            return order, np.zeros(self.steps_per_epoch, np.int64)
        seed = (self._seed, _SHAPES, epoch)
        first = np.cumsum([0, *(len(s) for s in self._shapes)])
        shapes = np.concatenate(self._shapes)[first[order[:, 0]] + order[:, 1]]
        shapes = np.where(np.random.default_rng(seed).random(len(order)) < self._shaped, shapes, SQUARE)
        return in_steps(order, shapes, self.batch * self.accumulate * self.world, (*seed, 1))

    def from_step(self, step: int) -> Generator[list[dict[str, Tensor]], None, None]:
        """For each step from `step` on the micro-batches of this process; never ends (close it to stop the workers)."""
        loader = DataLoader(
            self._dataset,
            batch_sampler=self._places(step),
            num_workers=self._workers,
            prefetch_factor=4 if self._workers else None,
            collate_fn=collate,
            pin_memory=self._pinned,
            worker_init_fn=_start_worker if self._workers else None,
            # Its own source of seeds: starting a loader must not move the generator that the network draws from.
            generator=torch.Generator(),
        )
        # OpenCV's threads don't survive a fork: a worker that inherits a started pool waits for ever.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        stream = iter(loader)
        cv2.setNumThreads(threads)
        while True:
            batches = [next(stream) for _ in range(self.accumulate)]
            for batch in batches:
                if isinstance(batch, PoseError):
                    raise batch
            yield batches
