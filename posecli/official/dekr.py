"""DEKR: HRNet/DEKR@7a30313. The tensors of all joints' offset branches are stacked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from posecli.models.deform import regular_grid
from posecli.official.family import Family, Sources
from posecli.official.hrnet import WIDTH_NAME, WIDTHS
from posecli.official.releases import Release


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    size = WIDTHS.get(state[WIDTH_NAME].shape[0])
    return (f"dekr-{size}", {"keypoints": state["head_heatmap.1.weight"].shape[0] - 1}) if size else None


#: DEKR, rows of (our name, official name or names). ``{block}`` counts adaptive blocks, ``{joint}`` runs over all
#: joints, whose tensors are stacked; ``*`` is copied. The first row that fits counts.
_TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("backbone.*", ("*",)),
    ("transition_heatmap.*", ("transition_heatmap.*",)),
    ("head_heatmap.*", ("head_heatmap.*",)),
    ("transition_offset.*", ("transition_offset.*",)),
    (
        "offset_blocks.{block}.geometry_conv.*",
        (
            "offset_feature_layers.{joint}.{block}.transform_matrix_conv.*",
            "offset_feature_layers.{joint}.{block}.translation_conv.*",
        ),
    ),
    ("offset_blocks.{block}.adapt_conv.*", ("offset_feature_layers.{joint}.{block}.adapt_conv.*",)),
    ("offset_blocks.{block}.bn.*", ("offset_feature_layers.{joint}.{block}.bn.*",)),
    ("offset_final.*", ("offset_final_layer.{joint}.*",)),
)


def _sources(network: nn.Module) -> Sources:
    joints = range(int(network.keypoints))  # type: ignore[arg-type]
    sources: Sources = {}
    for name in network.state_dict():
        for ours, official in _TABLE:
            pattern = re.escape(ours).replace(r"\{block\}", r"(?P<block>\d+)").replace(r"\*", r"(?P<rest>.*)")
            if found := re.fullmatch(pattern, name):
                values = found.groupdict()
                filled = [text.replace("*", values["rest"]) for text in official]
                per_joint = any("{joint}" in text for text in filled)
                sources[name] = tuple(
                    text.format(block=values.get("block"), joint=joint)
                    for joint in (joints if per_joint else range(1))
                    for text in filled
                )
                break
        else:
            raise ValueError(f"no row of the table for {name}")
    return sources


FAMILY = Family(
    "DEKR",
    (WIDTH_NAME, "head_heatmap.1.weight", "offset_feature_layers.0.0.adapt_conv.weight"),
    _describe,
    _sources,
    ("dekr-w32", {"keypoints": 17}),
    {r"offset_feature_layers\.\d+\.\d+\.regular_matrix": lambda: regular_grid(torch.zeros(())).T},
)

_COCO = {"convention": "dekr", "licence": "MIT", "source": "HRNet/DEKR@7a30313"}
# Test settings of the CrowdPose configurations that differ from COCO's (experiments/crowdpose/*/*.yaml).
_CROWD = {**_COCO, "decode": {"nms_joints": 7, "decrease": 0.8}}

RELEASES = (
    Release("pose_dekr_hrnetw32_coco", "dekr-w32", "coco17", (512, 512), "dekr", _COCO),
    Release("pose_dekr_hrnetw48_coco", "dekr-w48", "coco17", (640, 640), "dekr", _COCO),
    Release("pose_dekr_hrnetw32_crowdpose", "dekr-w32", "crowdpose14", (512, 512), "dekr", _CROWD),
    Release("pose_dekr_hrnetw48_crowdpose", "dekr-w48", "crowdpose14", (640, 640), "dekr", _CROWD),
)
