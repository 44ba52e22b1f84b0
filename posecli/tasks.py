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
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from posecli import augment
from posecli.augment_pictures import Cutout, cut_out, pictures_of
from posecli.checkpoint import ModelMeta, build
from posecli.codecs.background import add_background
from posecli.codecs.cascade import encode_fine
from posecli.codecs.coords import PLACES, fitted_errors, mean_and_deviation, simulated_predictions
from posecli.codecs.integral import distribution, expectation, integral_l1
from posecli.codecs.offsets import encode_heatmap, encode_offset, person_centres
from posecli.codecs.softmax import encode_softmax, softmax_cross_entropy_2d
from posecli.codecs.top_down import CASCADE, TEACHING, teacher, to_map
from posecli.data import Source, person_box, read_image
from posecli.errors import PoseError, UsageError
from posecli.geometry import apply_affine, crop_from_box, warp
from posecli.losses import (
    DEKR_OFFSET_FACTOR,
    TOMPSON_FINE_FACTOR,
    dekr_heatmap_loss,
    dekr_offset_loss,
    hard_keypoint_mse,
    heatmap_error,
    joint_mse,
)
from posecli.models import MODELS
from posecli.models.deeppose import DeepPose, Refinement, denormalise, frame, normalise
from posecli.models.rescore import RESCORE_MODEL
from posecli.settings import TrainSettings, family, gentle
from posecli.types import Crop, Instance, Record, Skeleton

# A box around half a body, enlarged to take in the flesh around the joints; never below this share of the whole.
_HALF_MARGIN, _HALF_LEAST = 1.25, 0.4
# Share of top-down samples that stand as they are.
_UNTURNED = 0.35
# The softmax of maps of height 1 is nearly flat; times this, nine tenths of it lie in a Gaussian of 2 pixels.
_SHARP = 20.0
# A squared error's mean over a map is small beside that of places: a joint fills about a hundredth of its map.
_PIXELS_OF_A_JOINT = 100.0
# DeepPose: simulated predictions of one picture in a step; the joints that the paper names for a pose's diameter.
_SIMULATED = 4
_TORSO = ("left_shoulder", "right_hip")
_LOWER = ("hip", "knee", "ankle", "foot", "toe", "heel", "leg")


class Task(abc.ABC):
    """One kind of learning.

    Attributes:
        settings, sources, skeleton: what it was made from.
        terms: names of the loss terms, with their weight in the loss.
        counts: samples of each source.
        left_out: why people or pictures are not learnt from, counted.
    """

    terms: ClassVar[Mapping[str, float]]

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> None:
        self.settings = settings
        self.sources = tuple(sources)
        self.skeleton = skeleton
        self.counts: list[int] = []
        self.left_out: dict[str, int] = {}

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
                raise PoseError("nothing to learn from", source.name, f"left out: {self.left_out}")

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
            image = augment.blur(image, rng)
        if rng.random() < settings.noise:
            image = augment.noise(image, rng)
        return image

    def _occluded(self, image: np.ndarray, rng: Generator, other: np.ndarray | None) -> np.ndarray:
        """One or two rectangles put before it, cut from another picture or of one colour."""
        for _ in range(int(rng.integers(1, 3))):
            image = augment.occlude(image, rng, other if rng.random() < 0.6 else None)
        return image

    def _cut_out(self, source: int, sides: tuple[float, float], rng: Generator) -> Cutout | None:
        """A random person of a data set, its longer side between two numbers of pixels; None if it can't be cut out."""
        dataset = self.sources[source].dataset
        record = dataset.records[int(rng.integers(len(dataset.records)))]
        side, mirrored = math.exp(rng.uniform(*np.log(sides))), bool(rng.random() < self.settings.flip)
        (picture,) = pictures_of(replace(dataset, records=(record,)), self.skeleton)
        if not len(picture.boxes_xyxy):
            return None
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


class TopDownTask(Task):
    """One person a sample, cut out around the box; one map for each joint.

    By the codec (`codecs.top_down`): "softmax": cross-entropy of distributions (`codecs.softmax`), the mean over
    labelled joints. "integral": absolute error of mean places (`codecs.integral`), the mean over labelled joints, alone
    or with one of the other two losses. All others: squared error of Gaussians (`losses.joint_mse`), the mean over
    joints, labelled or not, and pixels.

    Attributes:
        stride: input pixels that a map pixel stands for. background: place of a further map that is high where no joint
            is (`codecs.background`), or None. Both as the network's attributes of these names say.
    """

    terms: ClassVar[Mapping[str, float]] = {"heatmap": 1.0}
    #: Codecs that it teaches by, and whether its samples hold the joints' places besides the maps.
    codecs: ClassVar[tuple[str, ...]] = TEACHING
    with_places: ClassVar[bool] = False

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton, codec: str) -> None:
        super().__init__(settings, sources, skeleton)
        if codec not in self.codecs:
            raise UsageError(f"codec {codec!r}", "training settings", f"one of {', '.join(self.codecs)}")
        self.codec = codec
        self.logits = teacher(codec).learns == "logits"
        self.beta = _SHARP if settings.integral_heat == "gaussian" else 1.0
        if codec == "integral":
            self.terms = {"coordinates": 1.0} | {  # type: ignore[misc]
                "none": {},
                "softmax": {"heatmap": settings.integral_weight},
                "gaussian": {"heatmap": settings.integral_weight * _PIXELS_OF_A_JOINT},
            }[settings.integral_heat]
        self.background: str | None = None
        arguments = {"keypoints": skeleton.num_keypoints, **settings.builder_arguments()}
        with torch.device("meta"):  # without its tensors
            network = build(self.meta(settings.model, arguments), "training settings")
        self.stride = int(getattr(network, "stride", 4))
        self.size_step = int(getattr(network, "size_step", 1))
        self.background = getattr(network, "background", None)
        if self.codec == "integral" and getattr(network, "beta", self.beta) != self.beta:
            raise UsageError(
                f"the network's softmax is sharpened by {network.beta:g}, integral_heat = "
                f"{settings.integral_heat!r} wants {self.beta:g}",
                "training settings",
                f"--set 'model_arguments={{\"beta\": {self.beta:g}}}'",
            )
        if self.background and self.logits:
            raise UsageError(
                f"the codec {codec} has no place for the background map of {settings.model}",
                "training settings",
                "take gaussian, dark or udp",
            )
        self._find_people()

    def _find_people(self) -> None:
        self.upper = np.array([not any(part in name.lower() for part in _LOWER) for name in self.skeleton.keypoints])
        self._people = [self._usable(source) for source in self.sources]
        self.counts = [len(people) for people in self._people]
        self._check_counts()

    def _usable(self, source: Source) -> list[tuple[int, int]]:
        """(record, person) indices of the people that are learnt from."""
        people = []
        for r in self._labelled(source):
            record = source.dataset.records[r]
            xy, visibility = source.people(record)
            for p, instance in enumerate(record.instances):
                box = person_box(instance, xy[p], visibility[p])
                if instance.ignore:
                    self._count("crowds and ignored regions")
                elif not (visibility[p] > 0).any():
                    self._count("people without labelled joints")
                elif (visibility[p] > 0).sum() < self.settings.min_joints:
                    self._count("people with few labelled joints")
                elif box is None or max(box[2] - box[0], box[3] - box[1]) < max(self.settings.min_side, 1):
                    self._count("people without a box, or too small")
                else:
                    people.append((r, p))
        return people

    def _person(
        self, source: int, index: int, rng: Generator, size: tuple[int, int]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Picture (h, w, 3) of a person, joints (K, 2) in its pixels, 0 without a label, and which have one (K,)."""
        settings, data = self.settings, self.sources[source]
        r, p = self._people[source][index]
        record = data.dataset.records[r]
        all_xy, all_visibility = data.people(record)
        xy, labelled = all_xy[p], all_visibility[p] > 0
        box = person_box(record.instances[p], xy, all_visibility[p])
        if box is None:  # such people were left out at the start
            raise ValueError(f"person {p} of record {record.image_id} has no box")
        crop = self._crop(box, xy, labelled, rng, size)
        xy = apply_affine(crop.matrix, xy)
        if np.linalg.det(crop.matrix[:, :2]) < 0:
            xy, labelled = xy[self.skeleton.flip_index], labelled[self.skeleton.flip_index]
        labelled = labelled & augment.inside(xy, size)
        image = warp(read_image(data.dataset.root, record), crop, self._fill(rng))
        if rng.random() < settings.paste:
            # Somebody in the way, beside the person's middle.
            cutout = self._cut_out(source, (0.3 * max(size), 0.8 * max(size)), rng)
            if cutout is not None:
                angle = rng.uniform(0, 2 * math.pi)
                away = 0.35 * max(size) * np.array([math.cos(angle), math.sin(angle)])
                corner = (np.array(size) - cutout.alpha.shape[::-1]) / 2 + away
                image = augment.paste(image, cutout.image, cutout.alpha, int(corner[0]), int(corner[1]))
        image = self._coloured(image, rng)
        if rng.random() < settings.occlude:
            other = self._people[source][int(rng.integers(self.counts[source]))][0]
            patch = read_image(data.dataset.root, data.dataset.records[other])
            image = self._occluded(image, rng, patch)
        return image, np.where(labelled[:, None], xy, 0), labelled

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        settings = self.settings
        image, xy, labelled = self._person(source, index, rng, size)
        places = {"xy": xy.astype(np.float32), "weight": labelled.astype(np.float32)} if self.logits else {}
        if self.logits and settings.integral_heat != "gaussian":
            return {"image": image, **places}
        taught = teacher("dark" if self.logits else self.codec)
        map_size = (size[0] // self.stride, size[1] // self.stride)
        on_map = to_map(xy, teacher(self.codec).grid, size, map_size)
        encode = taught.encode
        assert encode is not None
        target, weight = encode(on_map, labelled, map_size, settings.sigma)
        if self.logits:
            return {"image": image, **places, "target": target}
        if self.background:
            target, weight = add_background(target, weight, self.background)
        more = self._more_targets(partial(encode, on_map, labelled, map_size))
        if self.with_places:
            more["xy"] = xy.astype(np.float32)
        return {"image": image, "target": target, "weight": weight, **more}

    def _more_targets(self, encode: Callable[[float], tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """Further targets of a sample; `encode` makes maps (K, h, w) and weights (K,) of a sigma."""
        return {}

    def _crop(
        self, box: np.ndarray, xy: np.ndarray, labelled: np.ndarray, rng: Generator, size: tuple[int, int]
    ) -> Crop:
        """A random region around the person, or around one half of it."""
        settings = self.settings
        if rng.random() < settings.half_body:
            half = augment.half_body(xy, labelled, self.upper, rng)
            if half is not None:
                least = _HALF_LEAST * max(box[2] - box[0], box[3] - box[1])
                reach = max(half[1] * _HALF_MARGIN, least) / 2
                box = np.concatenate([half[0] - reach, half[0] + reach])
        low, high = settings.box_scale
        scale = math.exp(rng.uniform(math.log(low), math.log(high)))
        side = max(box[2] - box[0], box[3] - box[1]) * scale
        # Mostly small moves: the largest is 2.4 standard deviations.
        move = np.clip(rng.normal(0, settings.shift / 2.4, 2), -settings.shift, settings.shift) * side
        chance = rng.random()
        if chance < settings.rotation_any:
            angle = rng.uniform(-180, 180)
        elif chance > 1 - _UNTURNED:
            angle = 0.0
        else:
            angle = float(np.clip(rng.normal(0, settings.rotation), -2 * settings.rotation, 2 * settings.rotation))
        return crop_from_box(box + np.tile(move, 2), size, scale, angle, flip=rng.random() < settings.flip)

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        joints = batch["weight"].sum().double().cpu().reshape(1)
        pixels = torch.tensor([float(batch["target"].numel())], dtype=torch.float64) if "target" in batch else joints
        if self.codec == "integral":
            return torch.cat([joints, pixels])[: len(self.terms)]
        return pixels

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        # Networks with supervision within learn at every stage alike.
        stages = getattr(output, "stages", (output.heatmap,))
        if self.codec == "integral":
            return torch.stack([self._integral_terms(stage, batch) for stage in stages]).sum(0)
        if self.codec == "softmax":
            losses = [
                softmax_cross_entropy_2d(stage, self._softmax_target(stage, batch), batch["weight"]) for stage in stages
            ]
        else:
            losses = [joint_mse(stage, batch["target"], batch["weight"]).total for stage in stages]
        return torch.stack(losses).sum().reshape(1)

    def _softmax_target(self, maps: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        # The same share of the body in the small pictures of a run's first part.
        sigma = self.settings.sigma * maps.shape[3] * self.stride / self.settings.input_size[0]
        return encode_softmax(batch["xy"], (maps.shape[3], maps.shape[2]), self.stride, sigma)

    def _integral_terms(self, maps: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """(terms,): places, and maps where they are learnt too."""
        target = (batch["xy"] - (self.stride - 1) / 2) / self.stride
        found = expectation(distribution(maps, "softmax", self.beta))
        losses = [integral_l1(found, target, batch["weight"], (maps.shape[3], maps.shape[2]))]
        if self.settings.integral_heat == "softmax":
            losses.append(softmax_cross_entropy_2d(maps, self._softmax_target(maps, batch), batch["weight"]))
        elif self.settings.integral_heat == "gaussian":
            losses.append(joint_mse(maps, batch["target"], batch["weight"]).total)
        return torch.stack(losses)

    def meta(self, architecture: str, arguments: Mapping[str, Any]) -> ModelMeta:
        return ModelMeta(
            architecture=architecture,
            arguments=arguments,
            skeleton=self.skeleton,
            input_size=self.settings.input_size,
            codec=self.codec,
            extra={
                "box_scale": self.settings.val_box_scale,
                "threshold": self.settings.threshold,
                **({"background": self.background} if self.background else {}),
                **({"beta": self.beta} if self.codec == "integral" else {}),
                **({"sigma": self.settings.sigma} if self.codec in ("gaussian", "dark", "udp") else {}),
            },
        )


# Kernels of 15, 11, 9 and 7 pixels, which OpenCV gives these deviations, over that of the last.
_GLOBAL_SIGMAS = (2.6 / 1.4, 2.0 / 1.4, 1.7 / 1.4, 1.0)


class CpnTask(TopDownTask):
    """Top-down learning for the cascaded pyramid network (Chen et al., CVPR 2018, Sec. 3.2).

    GlobalNet's levels learn all labelled joints, the coarser with wider Gaussians (GengDavid/pytorch-cpn@48696a9,
    `dataloader/mscocoMulti.py`); RefineNet learns the 8 hardest joints of each person (online hard keypoint mining,
    `losses.hard_keypoint_mse`). Other than there, GlobalNet also learns joints that are labelled but hidden.
    """

    terms: ClassVar[Mapping[str, float]] = {"global": 1.0, "refine": 1.0}

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton, codec: str) -> None:
        super().__init__(settings, sources, skeleton, codec)
        if self.logits:
            raise UsageError(
                f"codec {codec!r}", "training settings", f"{settings.model} learns maps: gaussian, dark, udp"
            )

    def _more_targets(self, encode: Callable[[float], tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        return {"global": np.stack([encode(self.settings.sigma * factor)[0] for factor in _GLOBAL_SIGMAS])}

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        return torch.tensor([batch["target"].numel(), len(batch["target"])], dtype=torch.float64)

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        *levels, refined = output.stages
        targets = batch["global"].unbind(1)
        losses = [joint_mse(level, t, batch["weight"]).total for level, t in zip(levels, targets, strict=True)]
        hard = hard_keypoint_mse(refined, batch["target"], batch["weight"])
        return torch.stack([torch.stack(losses).sum(), hard.total])


class TompsonTask(TopDownTask):
    """Top-down learning for the cascade of Tompson et al. (CVPR 2015, Sec. 4.2), in three phases.

    Up to the first share of `phases` the coarse network learns alone (E1); up to the second it stays as it is and the
    fine network learns in the windows that its maps lead to (E2); then both learn (E3 = E1 + 0.1 E2). The phase hangs
    on the share of the run alone, so that a resumed run goes on in its own.
    """

    terms: ClassVar[Mapping[str, float]] = {"coarse": 1.0, "fine": TOMPSON_FINE_FACTOR}
    codecs: ClassVar[tuple[str, ...]] = (CASCADE,)
    with_places: ClassVar[bool] = True

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton, codec: str) -> None:
        super().__init__(settings, sources, skeleton, codec)
        for key, size in (("input_size", settings.input_size), ("small_size", settings.small_size)):
            if size[0] % self.size_step or size[1] % self.size_step:
                raise UsageError(
                    f"{key} = {size}", "training settings", f"multiples of {self.size_step} at this pooling"
                )

    def begin_step(self, network: nn.Module, progress: float) -> None:
        first, second = self.settings.phases
        network.phase = "coarse" if progress < first else "fine" if progress < second else "joint"  # type: ignore[assignment]

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        return torch.full((2,), float(batch["weight"].numel()), dtype=torch.float64)

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        coarse = heatmap_error(output.heatmap, batch["target"], batch["weight"]).total  # Eq. 1
        if len(output) == 1:  # the first phase: no fine maps yet
            return torch.stack([coarse, torch.zeros_like(coarse)])
        target = encode_fine(batch["xy"], output.corner, output.fine.shape[-1], self.settings.fine_sigma)
        return torch.stack([coarse, heatmap_error(output.fine, target, batch["weight"]).total])  # Eq. 2, Eq. 3


class DeepPoseTask(TopDownTask):
    """Learning of the DeepPose cascade (Toshev & Szegedy, CVPR 2014, Sec. 3.1 and 3.2), one stage after the other.

    Each of the S stages has the same share of the run. The first learns the places of all labelled joints in the whole
    picture (Eq. 3, 4). Before each of the others starts, the stages before it look at samples, and the mean and
    variance of every joint's error are kept with the weights. The stage then learns from simulated predictions: random
    labelled joints, displaced at random by that distribution; from the sub-image around such a place it learns the
    way back to the joint (Eq. 8). Loss: the mean squared distance, in shares of the picture or the sub-image.

    Sub-images are as large as the labelled pose's diameter says; where a joint of the diameter has no label, as that of
    the pose which the first stage sees.
    """

    terms: ClassVar[Mapping[str, float]] = {"coordinates": 1.0}

    def __init__(self, settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> None:
        Task.__init__(self, settings, sources, skeleton)
        if settings.codec not in ("", PLACES):
            raise UsageError(
                f"codec {settings.codec!r}", "training settings", f"{settings.model} gives places, no heat maps"
            )
        self.codec, self.background, self.phase = PLACES, None, 0
        arguments = {"keypoints": skeleton.num_keypoints, **settings.builder_arguments()}
        with torch.device("meta"):
            network = build(self.meta(settings.model, arguments), "training settings")
        assert isinstance(network, DeepPose)
        self.stages = len(network.stages)
        step = network.zoom * network.multiple
        if network.side % network.multiple:
            raise UsageError(f"side = {network.side}", "training settings", f"multiples of {network.multiple}")
        for key, size in (("input_size", settings.input_size), ("small_size", settings.small_size)):
            if size[0] % step or size[1] % step:
                raise UsageError(
                    f"{key} = {size}", "training settings", f"multiples of {step} with this zoom and trunk"
                )
        self._find_people()

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        image, xy, labelled = self._person(source, index, rng, size)
        known = np.flatnonzero(labelled)
        # A person none of whose labelled joints is in view has a joint of no weight.
        joints = known[rng.integers(len(known), size=_SIMULATED)] if len(known) else np.zeros(_SIMULATED, int)
        return {
            "image": image,
            "xy": xy.astype(np.float32),
            "weight": labelled.astype(np.float32),
            "joints": joints.astype(np.int64),
            "noise": rng.normal(size=(_SIMULATED, 2)).astype(np.float32),
        }

    def begin_step(self, network: nn.Module, progress: float) -> None:
        self.phase = min(int(progress * self.stages), self.stages - 1)
        network.phase = self.phase  # type: ignore[assignment]

    def within(self, progress: float) -> float:
        return 1.0 if progress >= 1 else math.modf(progress * self.stages)[0]

    def unsurveyed(self, network: nn.Module) -> bool:
        assert isinstance(network, DeepPose)
        return network.phase > 0 and not network.surveyed[network.phase - 1]

    @torch.no_grad()
    def survey(
        self,
        network: nn.Module,
        samples: Iterator[tuple[Tensor, Mapping[str, Tensor]]],
        total: Callable[[Tensor], Tensor],
    ) -> None:
        assert isinstance(network, DeepPose)
        network.eval()
        device = network.error_mean.device
        sums = torch.zeros(3, self.skeleton.num_keypoints, 2, dtype=torch.float64, device=device)
        for image, batch in samples:
            found = network.places(image, network.phase)[:, -1]
            sums += fitted_errors(found - normalise(batch["xy"], *frame(image)), batch["weight"])
        mean, deviation = mean_and_deviation(total(sums))
        network.error_mean[network.phase - 1] = mean.float()
        network.error_deviation[network.phase - 1] = deviation.float()
        network.surveyed[network.phase - 1] = 1

    def inputs(self, network: nn.Module, image: Tensor, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        assert isinstance(network, DeepPose)
        if network.phase == 0:
            return ()
        joints, before = batch["joints"], network.phase - 1
        middle, size = frame(image)
        mean, deviation = network.error_mean[before][joints], network.error_deviation[before][joints]
        truth = normalise(_chosen(batch["xy"], joints), middle, size)
        places = denormalise(simulated_predictions(truth, mean, deviation, batch["noise"]), middle, size)
        return network.boxes(places, self._diameters(network, image, batch)), joints

    def _diameters(self, network: DeepPose, image: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """(B,) pixels."""
        needed = list(network.diameter_joints or range(network.keypoints))
        labelled = (batch["weight"][:, needed] > 0).all(1)
        found = network.diameter(batch["xy"], image)
        if not labelled.all():
            with torch.no_grad():
                seen = denormalise(network.places(image, 1)[:, 0], *frame(image))
            found = torch.where(labelled, found, network.diameter(seen, image))
        return found

    def sizes(self, batch: Mapping[str, Tensor]) -> Tensor:
        weight = batch["weight"] if self.phase == 0 else batch["weight"].gather(1, batch["joints"])
        return weight.sum().double().cpu().reshape(1)

    def sums(self, output: Any, batch: Mapping[str, Tensor]) -> Tensor:
        if isinstance(output, Refinement):
            xy, weight = _chosen(batch["xy"], batch["joints"]), batch["weight"].gather(1, batch["joints"])
            target = normalise(xy, output.boxes[..., :2], output.boxes[..., 2:])
            return ((output.displacement - target).square().sum(-1) * weight).sum().reshape(1)
        places, weight = output.places[:, 0], batch["weight"]
        target = normalise(batch["xy"], *frame(batch["image"].permute(0, 3, 1, 2)))
        return ((places - target).square().sum(-1) * weight).sum().reshape(1)

    def meta(self, architecture: str, arguments: Mapping[str, Any]) -> ModelMeta:
        torso = self.skeleton.torso or tuple(j for j in _TORSO if j in self.skeleton.keypoints)
        if "diameter" not in arguments and len(torso) == 2:
            arguments = {**arguments, "diameter": [self.skeleton.index(joint) for joint in torso]}
        return super().meta(architecture, arguments)


def _chosen(values: Tensor, joints: Tensor) -> Tensor:
    """Of (B, K, 2) those of the joints (B, J): (B, J, 2)."""
    return values.gather(1, joints[..., None].expand(-1, -1, 2))


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
            if cutout is not None:
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
        # `shift` is in pixels of the input, of which max(size) show `side`.
        move = rng.uniform(-settings.shift, settings.shift, 2) * side / max(size)
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
        weight[:-1][data.joints < 0] = 0
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
    if isinstance(mask, list) and mask:
        return [np.asarray(polygon, np.float64).reshape(-1, 2) for polygon in mask]
    if isinstance(mask, dict):
        from pycocotools import mask as rle

        counts = (
            mask if isinstance(mask["counts"], (str, bytes)) else rle.frPyObjects(mask, record.height, record.width)
        )
        found, _ = cv2.findContours(rle.decode(counts), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return [contour[:, 0].astype(np.float64) for contour in found]
    if instance.box_xyxy is None:
        return []
    x0, y0, x1, y1 = instance.box_xyxy
    return [np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], np.float64)]


def make_task(settings: TrainSettings, sources: Sequence[Source], skeleton: Skeleton) -> Task:
    """The task of a model; PoseError when the model isn't trained by `posecli train`."""
    if settings.model == "dekr-finder":
        raise PoseError("the finder has a training script of its own", hint="examples/train_finder.py")
    if settings.model == RESCORE_MODEL:
        raise PoseError("a rescoring net is no network of pictures", hint="posecli.rescoring.train_rescoring trains it")
    kind = family(settings.model)
    if kind == "pose-fpn":
        return TopDownTask(settings, sources, skeleton, settings.codec or "softmax")
    if kind.startswith("integral"):
        return TopDownTask(settings, sources, skeleton, settings.codec or "integral")
    if kind == "tompson":
        if settings.builder_arguments().get("cascade", True):
            return TompsonTask(settings, sources, skeleton, settings.codec or CASCADE)
        plain = "gaussian" if settings.codec in ("", CASCADE) else settings.codec
        return TopDownTask(settings, sources, skeleton, plain)
    if kind.startswith("deeppose"):
        return DeepPoseTask(settings, sources, skeleton)
    if kind == "cpn":
        return CpnTask(settings, sources, skeleton, settings.codec or "gaussian")
    if kind == "dekr":
        if settings.codec:
            raise UsageError(f"codec {settings.codec!r}", "training settings", "codecs are chosen for top-down models")
        return DekrTask(settings, sources, skeleton)
    if settings.model in MODELS:  # all others give heat maps of one person
        return TopDownTask(settings, sources, skeleton, settings.codec or "gaussian")
    raise PoseError(f"no network is called {settings.model!r}", hint="posecli models lists them")
