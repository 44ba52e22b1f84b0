"""Integral regression with a residual network, as in mmpose (open-mmlab/mmpose@759b39c).

Names are SimpleBaseline's, the layers after the trunk under ``head.simplebaseline_head.``; the head also keeps the
coordinates of its pixels as ``linspace``. Pictures are RGB, normalised by the ImageNet mean and deviation; crops are
HRNet's. A map pixel u is at 4 u in the input (`mmpose/models/heads/regression_heads/integral_regression_head.py`), not
in the middle of the pixels it was made from: `map_offset`. In a flip test we move the mirrored maps by one pixel, where
mmpose moves its places by three quarters of one. The ``debias`` file has the same names but another formula, and is
not among the releases.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from posecli.models.resnet import DEPTHS, depth_of
from posecli.official.deeppose import CONSTANTS
from posecli.official.family import Family, Sources
from posecli.official.releases import Release

_ARCHITECTURES = {blocks: f"integral-resnet-{depth}" for depth, blocks in DEPTHS.items()}
_HEAD = "head.simplebaseline_head."


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    architecture = _ARCHITECTURES.get(depth_of(state, "backbone."))
    return (architecture, {"keypoints": state[_HEAD + "final_layer.weight"].shape[0]}) if architecture else None


def _sources(network: nn.Module) -> Sources:
    names = {n: n.removeprefix("network.") for n in network.state_dict()}
    after = ("deconv_layers.", "final_layer.")
    return {n: ((_HEAD if bare.startswith(after) else "backbone.") + bare,) for n, bare in names.items()}


FAMILY = Family(
    "Integral regression (mmpose)",
    ("backbone.layer4.0.conv3.weight", f"{_HEAD}deconv_layers.0.weight", f"{_HEAD}final_layer.weight"),
    _describe,
    _sources,
    ("integral-resnet-50", {"keypoints": 17}),
    CONSTANTS,
    # Pixel coordinates, shared out over the map's width and height; older files have them for each pixel.
    unused=(r"head\.linspace_[xy]",),
)

RELEASES = tuple(
    Release(
        f"ipr_res50_{kind}8xb64-210e_coco-256x256",
        "integral-resnet-50",
        "coco17",
        (256, 256),
        "integral",
        {
            "convention": "hrnet",
            "map_offset": -0.375,
            "flip_shift": True,
            "licence": "Apache-2.0",
            "source": "open-mmlab/mmpose@759b39c",
        },
    )
    for kind in ("", "dsnt-")
)
