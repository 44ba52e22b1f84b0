"""Files of mmpose (open-mmlab/mmpose@759b39c) of networks that we have: other prefixes, the same names behind them.

A checkpoint of version 1 keeps the network under ``backbone.`` and ``head.``, one of before under ``backbone.`` and
``keypoint_head.``. HRNet's and ResNet's names behind the prefix are the official ones (`mmpose/models/backbones`).
Pictures are RGB, normalised by the ImageNet mean and deviation; crops and decoding follow HRNet's convention
(`mmpose/datasets/transforms/topdown_transforms.py` without ``use_udp``, `mmpose/codecs/msra_heatmap.py`).

Files with "udp" in their name have the same tensors, but their maps' first and last pixels are those of the input
(`posecli.codecs.udp`): read as plain ones their joints would lie up to 3 pixels off. Their crops map the region's first
and last pixels onto those of the input, axis by axis; ours, around the same middle, differ by half a percent in size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from posecli.official.family import Family, Sources
from posecli.official.hrnet import WIDTH_NAME, WIDTHS
from posecli.official.releases import Release
from posecli.zoo import entries

_HEADS = {"1.x": "head.", "0.x": "keypoint_head."}


def _pixels(values: tuple[float, float, float]) -> Callable[[], Tensor]:
    """mmpose's normalisation, of values 0 to 255; some files have it on board."""
    return lambda: (torch.tensor(values) * 255).round(decimals=3).view(3, 1, 1)


_CONSTANTS = {
    r"data_preprocessor\.mean": _pixels(IMAGENET_MEAN),
    r"data_preprocessor\.std": _pixels(IMAGENET_STD),
}


def _sources(head: str, of_head: tuple[str, ...]) -> Callable[[nn.Module], Sources]:
    """The table of a network whose names are official: behind the prefix of the head or of the backbone."""

    def sources(network: nn.Module) -> Sources:
        return {name: ((head if name.startswith(of_head) else "backbone.") + name,) for name in network.state_dict()}

    return sources


def _hrnet(version: str) -> Family:
    head = _HEADS[version]
    width_name, final_name = "backbone." + WIDTH_NAME, head + "final_layer.weight"

    def describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
        size = WIDTHS.get(state[width_name].shape[0])
        return (f"hrnet-{size}", {"keypoints": state[final_name].shape[0]}) if size else None

    return Family(
        f"HRNet (mmpose {version})",
        (width_name, final_name),
        describe,
        _sources(head, ("final_layer.",)),
        ("hrnet-w32", {"keypoints": 17}),
        _CONSTANTS,
    )


FAMILIES = tuple(_hrnet(version) for version in _HEADS)

# One row for each public file, known by its name; facts from the table of public weights.
_TABLE = tuple(
    Release(
        Path(entry.file).stem,
        entry.architecture,
        entry.skeleton,
        entry.input_size,
        entry.codec,
        {"convention": "hrnet", "licence": entry.licence, "source": entry.page},
        family=family.name,
    )
    for entry in entries()
    if entry.provider == "mmpose 1.x" and entry.input_size and entry.architecture.startswith("hrnet-")
    if entry.codec != "udp"
    for family in FAMILIES
)

# `configs/body_2d_keypoint/topdown_heatmap/coco/hrnet_udp_coco.md`: boxes enlarged by 1.25, sigma 2, at 384x288 3. A
# file that does not say its size is taken for the first. (The `udp-regress` files have three maps a joint: not read.)
_UDP = tuple(
    Release(
        f"td-hm_hrnet-{size}_udp-8xb{batch}-210e_coco-{height}x{width}",
        f"hrnet-{size}",
        "coco17",
        (width, height),
        "udp",
        {"sigma": sigma, "licence": "Apache-2.0", "source": "open-mmlab/mmpose@759b39c"},
        words=("udp", f"{height}x{width}") if sigma > 2 else ("udp",),
        family=family.name,
    )
    for size, batch in (("w32", 64), ("w48", 32))
    for (width, height), sigma in (((192, 256), 2.0), ((288, 384), 3.0))
    for family in FAMILIES
)

RELEASES = (*_TABLE, *_UDP)
