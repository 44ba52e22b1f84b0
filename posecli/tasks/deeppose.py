"""Learning of the DeepPose cascade, stage by stage, from simulated predictions."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, build
from posecli.codecs.coords import PLACES, fitted_errors, mean_and_deviation, simulated_predictions
from posecli.data import Source
from posecli.errors import UsageError
from posecli.models.deeppose import DeepPose, Refinement, denormalise, frame, normalise
from posecli.models.outline import outline
from posecli.settings import TrainSettings
from posecli.tasks.task import Task
from posecli.tasks.top_down import TopDownTask
from posecli.types import Skeleton

# Simulated predictions of one picture in a step; the joints that the paper names for a pose's diameter.
_SIMULATED = 4
# A distance has no gradient at 0: shares of the picture, far below a pixel.
_LEAST = 1e-4
_TORSO = ("left_shoulder", "right_hip")


class DeepPoseTask(TopDownTask):
    """Learning of the DeepPose cascade (Toshev & Szegedy, CVPR 2014, Sec. 3.1 and 3.2), one stage after the other.

    Each of the S stages has its share of the run (`stage_shares`; all the same unless told). The first learns the
    places of all labelled joints in the whole picture (Eq. 3, 4). Before each of the others starts, the stages before
    it look at samples, and the mean and variance of every joint's error are kept with the weights. The stage then
    learns from simulated predictions: random labelled joints, displaced at random by that distribution; from the
    sub-image around such a place it learns the way back to the joint (Eq. 8). Loss: the mean squared distance, in
    shares of the picture or the sub-image; with `place_loss = "distance"` the mean distance, which labels on the wrong
    joint (left for right) move less.

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
        network = outline(lambda: build(self.meta(settings.model, arguments), "training settings"))
        assert isinstance(network, DeepPose)
        self.stages = len(network.stages)
        shares = np.array(settings.stage_shares or [1.0] * self.stages)
        if len(shares) != self.stages:
            raise UsageError(
                f"stage_shares = {list(settings.stage_shares)}",
                "training settings",
                f"one for each of {self.stages} stages",
            )
        #: Where in the run the stages begin, and its end.
        self.bounds = [0.0, *(np.cumsum(shares) / shares.sum()).tolist()]
        step = network.size_step
        if network.side % network.multiple:
            raise UsageError(f"side = {network.side}", "training settings", f"multiples of {network.multiple}")
        narrow = [("narrow_sizes", size) for size in settings.narrow_inputs()]
        for key, size in (("input_size", settings.input_size), ("small_size", settings.small_size), *narrow):
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
        assert isinstance(network, DeepPose)
        self.phase = network.phase = self._phase(progress)
        if self.stages > 1:
            # A run that was made longer may be back in an earlier stage: what was known of its errors is old then.
            network.surveyed[self.phase :] = 0

    def within(self, progress: float) -> float:
        begin, end = self.bounds[self._phase(progress) :][:2]
        return min((progress - begin) / (end - begin), 1.0)

    def _phase(self, progress: float) -> int:
        """The stage that learns at a share of the run."""
        return max(bisect.bisect_right(self.bounds, progress, hi=self.stages) - 1, 0)

    def start_from(self, network: nn.Module) -> None:
        assert isinstance(network, DeepPose)
        if len(network.stages) > 1:
            network.surveyed.zero_()

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
            return (self._loss(output.displacement - target) * weight).sum().reshape(1)
        places, weight = output.places[:, 0], batch["weight"]
        target = normalise(batch["xy"], *frame(batch["image"].permute(0, 3, 1, 2)))
        return (self._loss(places - target) * weight).sum().reshape(1)

    def _loss(self, error: Tensor) -> Tensor:
        """(..., 2) to (...)."""
        squared = error.square().sum(-1)
        return squared if self.settings.place_loss == "squared" else (squared + _LEAST**2).sqrt()

    def meta(self, architecture: str, arguments: Mapping[str, Any]) -> ModelMeta:
        torso = self.skeleton.torso or tuple(j for j in _TORSO if j in self.skeleton.keypoints)
        if "diameter" not in arguments and len(torso) == 2:
            arguments = {**arguments, "diameter": [self.skeleton.index(joint) for joint in torso]}
        return super().meta(architecture, arguments)


def _chosen(values: Tensor, joints: Tensor) -> Tensor:
    """Of (B, K, 2) those of the joints (B, J): (B, J, 2)."""
    return values.gather(1, joints[..., None].expand(-1, -1, 2))
