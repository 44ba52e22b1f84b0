"""Learning of CPN: maps of every level, and online hard keypoint mining on the refined ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from posecli.data import Source
from posecli.errors import UsageError
from posecli.losses import hard_keypoint_mse, joint_mse
from posecli.settings import TrainSettings
from posecli.tasks.top_down import TopDownTask
from posecli.types import Skeleton

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
