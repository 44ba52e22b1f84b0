"""Cascaded pyramid network: GengDavid/pytorch-cpn@48696a9. Our network keeps its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from posecli.models.resnet import DEPTHS
from posecli.official.family import Family, same_names
from posecli.official.releases import Release

_FINAL = "refine_net.final_predict.1.weight"


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    blocks = tuple(
        len({name.split(".")[2] for name in state if name.startswith(f"resnet.layer{stage}.")}) for stage in range(1, 5)
    )
    depth = {counts: depth for depth, counts in DEPTHS.items()}.get(blocks)  # type: ignore[arg-type]
    return (f"cpn-{depth}", {"keypoints": state[_FINAL].shape[0]}) if depth else None


FAMILY = Family(
    "CPN",
    (_FINAL, "global_net.laterals.0.0.weight", "resnet.conv1.weight"),
    _describe,
    same_names,
    ("cpn-50", {"keypoints": 17}),
)

# `256.192.model/` and `384.288.model/` (config.py, test.py), `dataloader/mscocoMulti.py`: RGB in [0, 1] less a mean;
# the crop is the box grown by 0.2 of its width and 0.3 of its height (the height mostly decides); targets are 255 high,
# on the pixel a joint falls into; the flip test moves nothing; a person counts by the mean joint score (`test.py`).
_MEAN = (122.7717 / 255, 115.9465 / 255, 102.9801 / 255)
_EXTRA = {
    "convention": "hrnet", "box_scale": 1.3, "map_offset": 0.5, "peak": 255.0, "flip_shift": False,
    "person_score": "mean", "pose_nms": 1.0, "licence": "not stated", "source": "GengDavid/pytorch-cpn@48696a9",
}  # fmt: skip

# The files that go about are called by their size, not by our names: CPN50_384x288.pth.tar.
RELEASES = tuple(
    Release(
        f"cpn_{depth}_{name}",
        f"cpn-{depth}",
        "coco17",
        size,
        "cpn",
        _EXTRA,
        words=(name,),
        mean=_MEAN,
        std=(1.0, 1.0, 1.0),
    )
    for depth in DEPTHS
    for name, size in (("256x192", (192, 256)), ("384x288", (288, 384)))
)
