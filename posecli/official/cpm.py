"""Convolutional pose machine: open-mmlab/mmpose@759b39c, its `backbone` alone or a whole checkpoint of it.

Our network keeps the backbone's names; the head has no parameters. Pictures are RGB, normalised by the ImageNet mean
and deviation; crops and targets are HRNet's (`mmpose/codecs/msra_heatmap.py`). There is no map of the background.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from posecli.official.family import Family, Sources
from posecli.official.releases import Release


def _pixels(values: tuple[float, float, float]) -> Callable[[], Tensor]:
    """mmpose's normalisation, of values 0 to 255; some files have it on board."""
    return lambda: (torch.tensor(values) * 255).round(decimals=3).view(3, 1, 1)


def _family(name: str, prefix: str) -> Family:
    def describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
        wanted = ("stem.7.conv.weight", "middle_conv.0.0.conv.weight", "cpm_stages.0.model.0.conv.weight")
        if any(prefix + name not in state for name in wanted):
            return None
        wide, middle, features = (state[prefix + name].shape[0] for name in wanted)
        stages = {name for name in state if name.startswith(f"{prefix}out_convs.") and name.endswith(".1.conv.weight")}
        return "cpm", {
            "keypoints": state[f"{prefix}stem.9.conv.weight"].shape[0],
            "stages": 1 + len(stages),
            "background": None,
            "channels": state[f"{prefix}stem.0.conv.weight"].shape[0],
            "wide": wide,
            "middle": middle,
            "features": features,
        }

    def sources(network: nn.Module) -> Sources:
        return {name: (prefix + name,) for name in network.state_dict()}

    return Family(
        name,
        (f"{prefix}stem.9.conv.weight", f"{prefix}stem.0.conv.weight", f"{prefix}middle.0.conv.weight"),
        describe,
        sources,
        ("cpm", {"keypoints": 17, "background": None}),
        {r"data_preprocessor\.mean": _pixels(IMAGENET_MEAN), r"data_preprocessor\.std": _pixels(IMAGENET_STD)},
    )


FAMILIES = (_family("CPM (mmpose)", "backbone."), _family("CPM", ""))

_EXTRA = {"convention": "hrnet", "licence": "Apache-2.0", "source": "open-mmlab/mmpose@759b39c"}

# The names begin those of the published files; 0.x wrote JHMDB's and MPII's.
RELEASES = tuple(
    Release(name, "cpm", skeleton, size, "mmpose", _EXTRA)
    for name, skeleton, size in (
        ("td-hm_cpm_8xb64-210e_coco-256x192", "coco17", (192, 256)),
        ("td-hm_cpm_8xb32-210e_coco-384x288", "coco17", (288, 384)),
        ("cpm_mpii_368x368", "mpii16", (368, 368)),
        ("cpm_jhmdb_sub1_368x368", "jhmdb15", (368, 368)),
        ("cpm_jhmdb_sub2_368x368", "jhmdb15", (368, 368)),
        ("cpm_jhmdb_sub3_368x368", "jhmdb15", (368, 368)),
    )
)
