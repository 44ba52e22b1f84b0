"""UniPose: bmartacho/UniPose@bf53632. Our network keeps its names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from posecli.models.resnet import DEPTHS
from posecli.official.family import Family, same_names
from posecli.official.releases import Release

_FINAL = "decoder.last_conv.8.weight"


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    blocks = tuple(
        len({n.split(".")[2] for n in state if n.startswith(f"backbone.layer{stage}.")}) for stage in range(1, 5)
    )
    known = blocks == DEPTHS[101] and state["wasp.conv2.weight"].shape[0] == 256
    return ("unipose", {"keypoints": state[_FINAL].shape[0] - 1}) if known else None


FAMILY = Family(
    "UniPose",
    (_FINAL, "wasp.conv2.weight", "backbone.layer4.0.conv2.weight", "decoder.conv1.weight"),
    _describe,
    same_names,
    ("unipose", {"keypoints": 14}),
    # Left over in the official decoder from DeepLab, on whose code it rests.
    unused=(r"decoder\.(conv2|bn2)\..*",),
)

# `utils/lsp_lspet_data.py`, `utils/mpii_data.py`: pictures as OpenCV reads them, blue first, less 128 and over 256;
# whole pictures brought to 368 x 368 whatever their shape, where we cut the person's square; targets centred on the
# joint's own place over the stride.
_EXTRA = {
    "convention": "hrnet", "background": "first", "channels": "bgr", "licence": "academic, non-commercial",
    "source": "bmartacho/UniPose@bf53632",
}  # fmt: skip

RELEASES = tuple(
    Release(
        f"unipose_{name}",
        "unipose",
        skeleton,
        (368, 368),
        "argmax",
        _EXTRA,
        mean=(128 / 255,) * 3,
        std=(256 / 255,) * 3,
    )
    for name, skeleton in (("lsp", "lsp14"), ("mpii", "mpii16"))
)
