"""Learning of the cascade of Tompson et al., in its three phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from posecli.codecs.cascade import encode_fine
from posecli.codecs.top_down import CASCADE
from posecli.data import Source
from posecli.errors import UsageError
from posecli.losses import TOMPSON_FINE_FACTOR, heatmap_error
from posecli.settings import TrainSettings
from posecli.tasks.top_down import TopDownTask
from posecli.types import Skeleton


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
        narrow = [("narrow_sizes", size) for size in settings.narrow_inputs()]
        for key, size in (("input_size", settings.input_size), ("small_size", settings.small_size), *narrow):
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
