"""Learning of networks that see one person: crops, targets by the codec, and their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import cv2
import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from posecli import augment
from posecli.checkpoint import ModelMeta, build
from posecli.codecs.background import add_background
from posecli.codecs.integral import distribution, expectation, integral_l1
from posecli.codecs.last_pose import drawn
from posecli.codecs.softmax import encode_softmax, softmax_cross_entropy_2d
from posecli.codecs.top_down import TEACHING, teacher, to_map
from posecli.data import SQUARE, Source, person_box, read_image, shape_of
from posecli.errors import UsageError
from posecli.geometry import apply_affine, crop_from_box, warp
from posecli.losses import joint_mse
from posecli.masks import mask_of
from posecli.models.outline import outline
from posecli.settings import TrainSettings
from posecli.tasks.task import Task
from posecli.types import Crop, Instance, Skeleton
from posecli.video import read_picture

# A box around half a body, enlarged to take in the flesh around the joints; never below this share of the whole.
_HALF_MARGIN, _HALF_LEAST = 1.25, 0.4
# Share of top-down samples that stand as they are.
_UNTURNED = 0.35
# The softmax of maps of height 1 is nearly flat; times this, nine tenths of it lie in a Gaussian of 2 pixels.
_SHARP = 20.0
# A squared error's mean over a map is small beside that of places: a joint fills about a hundredth of its map.
_PIXELS_OF_A_JOINT = 100.0
_LOWER = ("hip", "knee", "ankle", "foot", "toe", "heel", "leg")


def _shows(box: np.ndarray, xy: np.ndarray) -> bool:
    """Whether one of the points (N, 2) lies within the box' longer side around its middle: of others no crop knows."""
    away = np.abs(xy - (box[:2] + box[2:]) / 2).max(axis=1)
    return bool((away <= (box[2:] - box[:2]).max()).any())


def narrow_for(settings: TrainSettings) -> list[dict[str, Any]]:
    """What weights say of the inputs for long and narrow people that a run learns from (`readout.narrow_inputs`): each
    is for those whom the next smaller one would show reduced."""
    found, side = [], 0.0
    for width, height in sorted(settings.narrow_inputs(), key=math.prod):
        found.append({"size": [width, height], "ratio": settings.narrow_ratio, "side": round(side, 1)})
        side = height / settings.val_box_scale
    return found


class TopDownTask(Task):
    """One person a sample, cut out around the box; one map for each joint.

    By the codec (`codecs.top_down`): "softmax": cross-entropy of distributions (`codecs.softmax`), the mean over
    labelled joints. "integral": absolute error of mean places (`codecs.integral`), the mean over labelled joints, alone
    or with one of the other two losses. All others: squared error of Gaussians (`losses.joint_mse`), the mean over
    joints, labelled or not, and pixels.

    Attributes:
        stride: input pixels that a map pixel stands for. background: place of a further map that is high where no joint
            is (`codecs.background`), or None. Both as the network's attributes of these names say.
        complete: of each source, whether it has all joints that any has.
        last_pose: whether the network is shown where somebody was a frame ago, as its attribute of this name says.
    """

    terms: ClassVar[Mapping[str, float]] = {"heatmap": 1.0}
    #: Codecs that it teaches by, and whether its samples hold the joints' places besides the maps.
    codecs: ClassVar[tuple[str, ...]] = TEACHING
    with_places: ClassVar[bool] = False
    cuts_out: ClassVar[bool] = True

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
        self.last_pose = False
        arguments = {"keypoints": skeleton.num_keypoints, **settings.builder_arguments()}
        network = outline(lambda: build(self.meta(settings.model, arguments), "training settings"))
        self.stride = int(getattr(network, "stride", 4))
        self.size_step = int(getattr(network, "size_step", 1))
        self.background = getattr(network, "background", None)
        self.last_pose = bool(getattr(network, "last_pose", False))
        if arguments.get("quality"):
            raise UsageError(
                "quality is learnt once the network is done, from boxes with people and without",
                "training settings",
                "leave it out; examples/train_quality.py adds it",
            )
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
        has = np.stack([source.joints >= 0 for source in self.sources])
        self.complete = [bool((own | ~has.any(axis=0)).all()) for own in has]
        self.upper = np.array([not any(part in name.lower() for part in _LOWER) for name in self.skeleton.keypoints])
        self._people = [self._usable(source) for source in self.sources]
        self.counts = [len(people) for people in self._people]
        self._check_counts()

    def _usable(self, source: Source) -> list[tuple[int, int]]:
        """(record, person) indices of the people that are learnt from."""
        people = []
        least = min(self.settings.min_joints, self.skeleton.num_keypoints)  # nobody has more
        for r in self._labelled(source):
            record = source.dataset.records[r]
            xy, visibility = source.people(record)
            for p, instance in enumerate(record.instances):
                box = person_box(instance, xy[p], visibility[p])
                if instance.ignore:
                    self._count("crowds and ignored regions")
                elif not (visibility[p] > 0).any():
                    self._count("people without labelled joints")
                elif (visibility[p] > 0).sum() < least:
                    self._count(f"people with fewer than {least} labelled joints (min_joints)")
                elif box is None or max(box[2] - box[0], box[3] - box[1]) < max(self.settings.min_side, 1):
                    self._count(f"people without a box, or smaller than {self.settings.min_side:g} pixels (min_side)")
                elif not _shows(box, xy[p, visibility[p] > 0]):
                    self._count("people whose joints lie elsewhere than their box")
                else:
                    people.append((r, p))
        return people

    def shapes(self) -> list[np.ndarray]:
        found = []
        for source, people in zip(self.sources, self._people, strict=True):
            of_people = []
            for r, p in people:
                record = source.dataset.records[r]
                xy, visibility = source.people(record)
                box = person_box(record.instances[p], xy[p], visibility[p])
                of_people.append(SQUARE if box is None else shape_of(box, self.settings.narrow_ratio))
            found.append(np.array(of_people, np.int64))
        return found

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
        pixels = read_image(data.dataset.root, record)
        image = warp(pixels, crop, self._fill(rng))
        if rng.random() < settings.backdrop:
            image = self._elsewhere(image, record.instances[p], pixels.shape, crop, rng)
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

    def _elsewhere(
        self, image: np.ndarray, person: Instance, shape: Sequence[int], crop: Crop, rng: Generator
    ) -> np.ndarray:
        """A person's crop before another picture, if the person of a picture of that shape has a mask."""
        segmentation = person.extra.get("segmentation")
        if not segmentation:
            return image
        mask = mask_of(segmentation, shape[1], shape[0], f"annotation {person.extra.get('id')}")
        if not mask.any():
            return image
        # Softened over a pixel or two: a hard edge would give the cut away.
        alpha = cv2.GaussianBlur(warp(mask[..., None].repeat(3, 2) * 255, crop)[..., 0], (0, 0), 0.8) / np.float32(255)
        ground = read_picture(self.backdrops[int(rng.integers(len(self.backdrops)))])
        ground = augment.colour_jitter(augment.random_part(ground, *crop.size_wh, rng), rng)
        return augment.paste(ground, image, alpha, 0, 0)

    def sample(self, source: int, index: int, rng: Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
        settings = self.settings
        image, xy, labelled = self._person(source, index, rng, size)
        if self.last_pose:
            image = np.dstack([image, self._last_pose(xy, labelled, source, rng, size)])
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
            target, weight = add_background(target, weight, self.background, self.complete[source])
        more = self._more_targets(partial(encode, on_map, labelled, map_size))
        if self.with_places:
            more["xy"] = xy.astype(np.float32)
        return {"image": image, "target": target, "weight": weight, **more}

    def _last_pose(
        self, xy: np.ndarray, labelled: np.ndarray, source: int, rng: Generator, size: tuple[int, int]
    ) -> np.ndarray:
        """(h, w) uint8: where a person, whose joints (K, 2) are labelled or not (K,), may have been a frame ago."""
        record, person = self._people[source][int(rng.integers(self.counts[source]))]
        data = self.sources[source]
        places, visibility = data.people(data.dataset.records[record])
        other = places[person], visibility[person] > 0
        last, known = augment.remembered(xy, labelled, other, np.array(self.skeleton.flip_index), rng)
        return drawn(last, known, size, self.skeleton)

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
        # The same share of the body in the small pictures of a run's first part, and in narrow ones.
        longer = max(maps.shape[2:]) * self.stride
        sigma = self.settings.sigma * longer / max(self.settings.input_size)
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
                **({"narrow": narrow_for(self.settings)} if self.settings.narrow_sizes else {}),
                **({"background": self.background} if self.background else {}),
                **({"beta": self.beta} if self.codec == "integral" else {}),
                **({"sigma": self.settings.sigma} if self.codec in ("gaussian", "dark", "udp") else {}),
            },
        )
