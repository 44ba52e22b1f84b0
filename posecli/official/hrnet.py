"""HRNet: leoxiaobin/deep-high-resolution-net.pytorch@6f69e46, and the same as saved by AlphaPose.

Our network keeps the official names, and so does AlphaPose (`alphapose/models/hrnet.py`), which normalises pictures in
its own way (`posecli.official.fastpose`): only a file's name tells, ``hrnet_w32_256x192.pth`` without ``pose_``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from posecli.official.family import Family, same_names
from posecli.official.fastpose import ALPHAPOSE_EXTRA, ALPHAPOSE_PIXELS
from posecli.official.releases import Release

WIDTHS = {32: "w32", 48: "w48"}
WIDTH_NAME = "stage2.0.fuse_layers.0.1.0.weight"


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    size = WIDTHS.get(state[WIDTH_NAME].shape[0])
    return (f"hrnet-{size}", {"keypoints": state["final_layer.weight"].shape[0]}) if size else None


FAMILY = Family("HRNet", (WIDTH_NAME, "final_layer.weight"), _describe, same_names, ("hrnet-w32", {"keypoints": 17}))

_EXTRA = {"convention": "hrnet", "licence": "MIT", "source": "leoxiaobin/deep-high-resolution-net.pytorch@6f69e46"}

_OFFICIAL = tuple(
    Release(f"pose_hrnet_{size}_{name}", f"hrnet-{size}", skeleton, input_size, "gaussian", _EXTRA, family="HRNet")
    for skeleton, shapes in (
        ("coco17", {"256x192": (192, 256), "384x288": (288, 384)}),
        ("mpii16", {"256x256_mpii": (256, 256)}),
    )
    for size in WIDTHS.values()
    for name, input_size in shapes.items()
)

# `docs/MODEL_ZOO.md`, `configs/coco/hrnet/256x192_w32_lr1e-3.yaml`.
_ALPHAPOSE = Release(
    "hrnet_w32_256x192", "hrnet-w32", "coco17", (192, 256), "gaussian", ALPHAPOSE_EXTRA, family="HRNet",
    **ALPHAPOSE_PIXELS,
)  # fmt: skip

RELEASES = (*_OFFICIAL, _ALPHAPOSE)
