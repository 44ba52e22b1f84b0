"""DeepPose with a residual network, as in mmpose (open-mmlab/mmpose@759b39c): one stage, `backbone` and a linear `fc`.

Pictures are RGB, normalised by the ImageNet mean and deviation; crops are HRNet's. Places are shares of the picture,
counted from its first pixel (`mmpose/codecs/regression_label.py`); ours are from its middle and by its outer sides. The
files of residual log-likelihood estimation (`_rle`, Li et al., ICCV 2021) have more outputs and are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from posecli.models.resnet import DEPTHS, depth_of
from posecli.official.family import Family, Sources
from posecli.official.releases import Release

_ARCHITECTURES = {blocks: f"deeppose-resnet-{depth}" for depth, blocks in DEPTHS.items()}


def _pixels(values: tuple[float, float, float]) -> Callable[[], Tensor]:
    """mmpose's normalisation, of values 0 to 255; some files have it on board."""
    return lambda: (torch.tensor(values) * 255).round(decimals=3).view(3, 1, 1)


CONSTANTS = {r"data_preprocessor\.mean": _pixels(IMAGENET_MEAN), r"data_preprocessor\.std": _pixels(IMAGENET_STD)}


def _family(version: str, head: str) -> Family:
    def describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
        architecture = _ARCHITECTURES.get(depth_of(state, "backbone."))
        if architecture is None or any("flow_model" in name for name in state):
            return None
        return architecture, {"keypoints": state[f"{head}fc.weight"].shape[0] // 2, "stages": 1, "zoom": 1}

    def sources(network: nn.Module) -> Sources:
        trunk, last = "stages.0.trunk.", "stages.0."
        return {
            n: ("backbone." + n.removeprefix(trunk) if n.startswith(trunk) else head + n.removeprefix(last),)
            for n in network.state_dict()
        }

    return Family(
        f"DeepPose (mmpose {version})",
        ("backbone.layer4.0.conv3.weight", f"{head}fc.weight"),
        describe,
        sources,
        ("deeppose-resnet-50", {"keypoints": 17, "stages": 1, "zoom": 1}),
        CONSTANTS,
    )


FAMILIES = (_family("1.x", "head."), _family("0.x", "keypoint_head."))

_EXTRA = {
    "convention": "hrnet",
    "places": "corner",
    "licence": "Apache-2.0",
    "source": "open-mmlab/mmpose@759b39c",
}

# The names begin those of the published files; 0.x wrote all but COCO's with 50 layers.
RELEASES = tuple(
    Release(start.format(depth, data, form), f"deeppose-resnet-{depth}", skeleton, size, "coordinates", _EXTRA)
    for data, skeleton, size, form in (
        ("coco", "coco17", (192, 256), "256x192"),
        ("mpii", "mpii16", (256, 256), "256x256"),
    )
    for depth in DEPTHS
    for start in (("td-reg_res{}_8xb64-210e_{}-{}",) if (depth, data) == (50, "coco") else ("deeppose_res{}_{}_{}",))
)
