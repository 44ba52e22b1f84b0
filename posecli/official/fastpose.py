"""FastPose: MVIG-SJTU/AlphaPose@c60106d. Our network keeps the official names.

Pictures are red first; the means (0.406, 0.457, 0.480), in the order of blue first, are taken off red, green and blue,
and there is no deviation (`alphapose/utils/presets/simple_transform.py`). Crops are HRNet's, boxes enlarged by 1.25.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from posecli.models.resnet import DEPTHS, depth_of
from posecli.official.family import Family, same_names
from posecli.official.releases import Release

_ARCHITECTURES = {blocks: f"fastpose-{depth}" for depth, blocks in DEPTHS.items()}
_USUAL_DUC = [4, 2, 1]


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    architecture = _ARCHITECTURES.get(depth_of(state, "preact."))
    if architecture is None:
        return None
    arguments: dict[str, Any] = {"keypoints": state["conv_out.weight"].shape[0]}
    deformable = "preact.layer2.0.conv2_offset.weight" in state
    if "preact.layer2.0.conv2.1.weight" in state:
        arguments["unshuffle"] = True
    if "duc1.conv.weight" in state:
        return (f"{architecture}-dcn" if deformable else architecture), arguments
    counts = [
        sum(n.startswith(f"duc{stage}.") and n.endswith("weight") and t.ndim == 4 for n, t in state.items())
        for stage in (1, 2, 3)
    ]
    if min(counts) < 1:
        return None
    if counts != _USUAL_DUC:
        arguments["duc"] = counts
    if deformable:
        arguments["dcn"] = True
    return f"{architecture}-duc", arguments


FAMILY = Family(
    "FastPose",
    ("preact.layer1.0.se.fc.0.weight", "conv_out.weight"),
    _describe,
    same_names,
    ("fastpose-50", {"keypoints": 17}),
)

#: Of all AlphaPose's files, other networks' too.
ALPHAPOSE_EXTRA = {"convention": "hrnet", "licence": "non-commercial", "source": "MVIG-SJTU/AlphaPose@c60106d"}
ALPHAPOSE_PIXELS: dict[str, Any] = {"mean": (0.406, 0.457, 0.480), "std": (1.0, 1.0, 1.0)}

# docs/MODEL_ZOO.md; the other depths are what its configurations allow.
RELEASES = tuple(
    Release(
        name, architecture, "coco17", (192, 256), "gaussian", ALPHAPOSE_EXTRA, family=FAMILY.name, **ALPHAPOSE_PIXELS
    )
    for name, architecture in (
        ("fast_res50_256x192", "fastpose-50"),
        ("fast_dcn_res50_256x192", "fastpose-50-dcn"),
        ("fast_421_res152_256x192", "fastpose-152-duc"),
        ("fast_421_res50-shuffle_256x192", "fastpose-50-duc"),
        *((f"fast_res{depth}_256x192", f"fastpose-{depth}") for depth in (101, 152)),
        *((f"fast_dcn_res{depth}_256x192", f"fastpose-{depth}-dcn") for depth in (101, 152)),
        ("fast_421_res101_256x192", "fastpose-101-duc"),
    )
)
