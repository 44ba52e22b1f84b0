"""What is learnt: from a labelled picture to a network input with targets, and from the network's maps to a loss.

A task makes samples (in the loader's processes) and measures maps (in the training process). Its loss is a sum of
terms, each a sum over a batch divided by a count that the targets alone decide. The division is left to the training
loop: with several processes or accumulated passes the counts are summed over all of them first, so that the loss does
not depend on how a step was split.
"""

from __future__ import annotations

import abc
import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.random import Generator
from torch import Tensor, nn

from posecli import augment
from posecli.augment_pictures import Cutout, cut_out, pictures_of
from posecli.checkpoint import ModelMeta
from posecli.data import Source, pictures_named, read_image
from posecli.errors import PoseError, UsageError
from posecli.settings import TrainSettings, gentle
from posecli.types import Skeleton


class Task(abc.ABC):
    """One kind of learning.

    Attributes:
        settings, sources, skeleton: what it was made from.
        terms: names of the loss terms, with their weight in the loss.
        counts: samples of each source.
        left_out: why people or pictures are not learnt from, counted.
        backdrops: pictures that people may be put before.
    """

    terms: ClassVar[Mapping[str, float]]
    #: Whether people may be put before other pictures (`TrainSettings.backdrop`).
    cuts_out: ClassVar[bool] = False

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> None:
        self.settings = settings
        self.sources = tuple(sources)
        self.skeleton = skeleton
        self.counts: list[int] = []
        self.left_out: dict[str, int] = {}
        if settings.backdrop and not self.cuts_out:
            raise UsageError(f"backdrop: {settings.model} learns from whole pictures", "training settings", "paste")
        self.backdrops = pictures_named(settings.backdrops) if settings.backdrops else []

    def _count(self, reason: str) -> None:
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def _labelled(self, source: Source) -> list[int]:
        """Indices of the records that somebody looked at; of the others nobody knows who stands on them."""
        labelled = []
        for index, record in enumerate(source.dataset.records):
            if record.extra.get("is_labeled") is False:
                self._count("pictures that nobody labelled, left out")
            else:
                labelled.append(index)
        return labelled

    def _check_counts(self) -> None:
        for source, count in zip(self.sources, self.counts, strict=True):
            if not count:
                why = ", ".join(f"{count} {what}" for what, count in self.left_out.items()) or "nobody is labelled"
                most = max(self.left_out, key=self.left_out.__getitem__, default="")
                setting = next((key for key in ("min_joints", "min_side", "min_area") if f"({key})" in most), "")
                remedy = f"; --set {setting}=1 asks for less" if setting else ""
                raise PoseError("nothing to learn from", source.name, f"left out: {why}{remedy}")

    def shapes(self) -> list[np.ndarray]:
        """The shape of each source's samples (count,), see `posecli.data.shape_of`; whole pictures have none."""
        return [np.zeros(count, np.int64) for count in self.counts]

    def gentle(self) -> Task:
        """The same task with samples changed half as much."""
        task = copy.copy(self)
        task.settings = gentle(self.settings)
        return task

    def begin_step(self, network: nn.Module, progress: float) -> None:  # noqa: B027 (most have nothing to do)
        """Before each step, at a share of the run from 0 to 1: a task that learns in phases sets the network's."""

    def within(self, progress: float) -> float:
        """The share of a learning rate's course that a share of the run is: of its phase, where each has a course."""
        return progress

    def start_from(self, network: nn.Module) -> None:  # noqa: B027 (most have nothing to do)
        """Before a run that starts from other weights: forgets what these know of the samples they learnt from."""

    def unsurveyed(self, network: nn.Module) -> bool:
        """Whether the network's phase wants a `survey` before its first step."""
        return False

    def survey(  # noqa: B027 (most have nothing to do)
        self,
        network: nn.Module,
        samples: Iterator[tuple[Tensor, Mapping[str, Tensor]]],
        total: Callable[[Tensor], Tensor],
    ) -> None:
        """Looks at samples with the network as it stands and keeps in its buffers what a phase wants to know.

        Args:
            samples: this process's batches: network inputs, and what `sample` gave. total: sums over processes.
        """

    def arranged(self, network: nn.Module, image: Tensor) -> Tensor:
        """The normalised pictures (B, ..., 3, h, w) as the network wants them while it learns."""
        return image

    def inputs(self, network: nn.Module, image: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the network is given besides the pictures (B, 3, h, w) while it learns."""
        return ()

    @abc.abstractmethod
    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        """See `posecli.data.Samples`; "image" is (h, w, 3) uint8."""

    @abc.abstractmethod
    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        """(terms,) float64: what each term's sum over this batch is to be divided by."""

    @abc.abstractmethod
    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        """(terms,) float32: each term summed over the batch; with gradient."""

    @abc.abstractmethod
    def meta(self, architecture: str, arguments: Mapping[str, Any]) -> ModelMeta:
        """The description that goes with the weights."""

    def _coloured(self, image: np.ndarray, rng: Generator) -> np.ndarray:
        """The changes that move nothing."""
        settings = self.settings
        if settings.colour:
            image = augment.colour_jitter(image, rng, settings.colour)
        if rng.random() < settings.grey:
            image = augment.to_grey(image)
        if rng.random() < settings.blur:
            image = augment.blur(image, rng, settings.blur_most)
        if settings.dim and rng.random() < settings.dim:
            image = augment.darker(image, rng.uniform(0.08, 0.5), rng)
        if settings.glare and rng.random() < settings.glare:
            image = augment.brighter(image, rng.uniform(1.2, 2.5))
        if rng.random() < settings.noise:
            image = augment.noise(image, rng, settings.noise_most)
        if settings.compress and rng.random() < settings.compress:
            image = augment.compressed(image, int(rng.integers(6, 50)))
        return image

    def _occluded(self, image: np.ndarray, rng: Generator, other: np.ndarray | None) -> np.ndarray:
        """One or two rectangles put before it, cut from another picture or of one colour."""
        for _ in range(int(rng.integers(1, 3))):
            image = augment.occlude(image, rng, other if rng.random() < 0.6 else None)
        return image

    def _cut_out(self, source: int, sides: tuple[float, float], rng: Generator) -> Cutout | None:
        """A random person of a data set, its longer side between two numbers of pixels; None if it can't be cut out."""
        data = self.sources[source]
        dataset = data.dataset
        record = dataset.records[int(rng.integers(len(dataset.records)))]
        side, mirrored = math.exp(rng.uniform(*np.log(sides))), bool(rng.random() < self.settings.flip)
        (picture,) = pictures_of(replace(dataset, records=(record,)), self.skeleton)
        if not len(picture.boxes_xyxy):
            return None
        # Joints as the rest of the sample has them: `pictures_of` knows them by their exact names only.
        people = [n for n, i in enumerate(record.instances) if not i.ignore and i.box_xyxy is not None]
        xy, visibility = data.people(record)
        picture = replace(picture, xy=xy[people], visibility=visibility[people])
        person = int(rng.integers(len(picture.boxes_xyxy)))
        found = cut_out(picture, read_image(dataset.root, record), person, self.skeleton)
        if found is None:
            return None
        # Never enlarged much: blur would give a pasted person away.
        zoom = min(side / float((found.box_xyxy[2:] - found.box_xyxy[:2]).max()), 1.5)
        return found.scaled(zoom, mirrored, self.skeleton.flip_index)

    def _fill(self, rng: Generator) -> list[int]:
        """The colour beyond the picture."""
        return rng.integers(0, 256, 3).tolist() if rng.random() < self.settings.fill else [0, 0, 0]
