"""Stacked hourglass: princeton-vl/pytorch_stacked_hourglass@ceedc14 and bearpaw/pytorch-pose@edc7aec."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn

from posecli.official.family import Family, Sources
from posecli.official.releases import Release

_Rules = tuple[tuple[str, str], ...]

# Our name -> theirs, tried in turn; the first pattern that fits the whole name counts. A unit of one of the boxes of
# an hourglass is `hourglasses.(stack).(low2.)*(box).(block).(rest)` here.
_PRINCETON_STEM = {"layer1": "pre.1", "layer2": "pre.3", "layer3": "pre.4"}
_PRINCETON: _Rules = (
    (r"conv1\.(.*)", r"pre.0.conv.\1"),
    (r"bn1\.(.*)", r"pre.0.bn.\1"),
    *((rf"{ours}\.(.*)", rf"{theirs}.\1") for ours, theirs in _PRINCETON_STEM.items()),
    (r"hourglasses\.(\d+)\.((?:low2\.)*(?:up1|low[123]))\.0\.(.*)", r"hgs.\1.0.\2.\3"),
    (r"residuals\.(\d+)\.0\.(.*)", r"features.\1.0.\2"),
    (r"features\.(\d+)\.0\.(.*)", r"features.\1.1.conv.\2"),
    (r"features\.(\d+)\.1\.(.*)", r"features.\1.1.bn.\2"),
    (r"score\.(\d+)\.(.*)", r"outs.\1.conv.\2"),
    (r"merge_features\.(\d+)\.(.*)", r"merge_features.\1.conv.conv.\2"),
    (r"merge_scores\.(\d+)\.(.*)", r"merge_preds.\1.conv.conv.\2"),
)
_PYTORCH_POSE: _Rules = (
    (r"((?:conv1|bn1)\..*)", r"\1"),
    (r"(layer[123])\.(.*)", r"\1.0.\2"),
    (r"residuals\.(.*)", r"res.\1"),
    (r"features\.(.*)", r"fc.\1"),
    (r"(score\..*)", r"\1"),
    (r"merge_features\.(.*)", r"fc_.\1"),
    (r"merge_scores\.(.*)", r"score_.\1"),
)
_PYTORCH_POSE_BOXES = {"up1": 0, "low1": 1, "low3": 2, "low2": 3}


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, replacement in rules:
        if found := re.fullmatch(pattern, name):
            return found.expand(replacement)
    raise ValueError(f"no row of the table for {name}")


def _princeton_name(name: str) -> str:
    name = _renamed(name, _PRINCETON)
    # Within a residual unit convolutions are wrapped once more.
    name = re.sub(r"\.(conv[123])\.(weight|bias)$", r".\1.conv.\2", name)
    return re.sub(r"\.skip\.", ".skip_layer.conv.", name)


def _pytorch_pose_name(name: str, depth: int) -> str:
    if found := re.fullmatch(r"hourglasses\.(\d+)\.((?:low2\.)*)(up1|low[123])\.(\d+)\.(.*)", name):
        # The outermost hourglass has the highest level.
        level = depth - 1 - found[2].count("low2")
        name = f"hg.{found[1]}.hg.{level}.{_PYTORCH_POSE_BOXES[found[3]]}.{found[4]}.{found[5]}"
    else:
        name = _renamed(name, _PYTORCH_POSE)
    return re.sub(r"\.skip\.", ".downsample.0.", name)


def _princeton_sources(network: nn.Module) -> Sources:
    return {name: (_princeton_name(name),) for name in network.state_dict()}


def _pytorch_pose_sources(network: nn.Module) -> Sources:
    depth = int(network.depth)  # type: ignore[arg-type]
    return {name: (_pytorch_pose_name(name, depth),) for name in network.state_dict()}


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """How many different numbers stand in the group of a pattern."""
    return len({found[1] for name in state if (found := re.fullmatch(pattern, name))})


def _describe_princeton(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    keypoints, channels = state["outs.0.conv.weight"].shape[:2]
    below = state["hgs.0.0.low1.conv3.conv.weight"].shape[0]
    chains = [found[1].count("low2.") for n in state if (found := re.match(r"hgs\.0\.0\.((?:low2\.)*)up1\.", n))]
    stem = ("pre.0.conv.weight", "pre.1.conv3.conv.weight", "pre.3.conv3.conv.weight")
    if any(name not in state for name in stem) or not chains:
        return None
    return "hourglass", {
        "keypoints": keypoints,
        "stacks": _count(state, r"outs\.(\d+)\.conv\.weight"),
        "depth": 1 + max(chains),
        "channels": channels,
        "increase": below - channels,
        "stem": [state[name].shape[0] for name in stem],
    }


def _describe_pytorch_pose(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    keypoints, channels = state["score.0.weight"].shape[:2]
    stem = ("conv1.weight", "layer1.0.conv3.weight", "layer2.0.conv3.weight")
    if any(name not in state for name in stem):
        return None
    return "hg", {
        "keypoints": keypoints,
        "stacks": _count(state, r"score\.(\d+)\.weight"),
        "depth": _count(state, r"hg\.0\.hg\.(\d+)\..*"),
        "channels": channels,
        "blocks": _count(state, r"res\.0\.(\d+)\..*"),
        "stem": [state[name].shape[0] for name in stem],
    }


PRINCETON = Family(
    "stacked hourglass (princeton)",
    ("pre.0.conv.weight", "outs.0.conv.weight", "hgs.0.0.low1.conv3.conv.weight"),
    _describe_princeton,
    _princeton_sources,
    ("hourglass", {"keypoints": 16, "stacks": 2}),
    # Every residual unit of theirs has one; where the channels stay the same it is not used.
    unused=(r".*\.skip_layer\.conv\.(weight|bias)",),
)

PYTORCH_POSE = Family(
    "stacked hourglass (pytorch-pose)",
    ("hg.0.hg.0.0.0.conv1.weight", "score.0.weight", "res.0.0.conv1.weight"),
    _describe_pytorch_pose,
    _pytorch_pose_sources,
    ("hg", {"keypoints": 16, "stacks": 2}),
)

FAMILIES = (PRINCETON, PYTORCH_POSE)

# Both crop as HRNet does (`get_transform`) and decode half a map pixel further: targets lie on the pixel that a joint
# falls into (`int(x)`), so on the average its middle is meant. Their flip tests move nothing. Pictures are RGB in
# [0, 1]; princeton's network takes them as they are (`data/MPII/dp.py`), pytorch-pose subtracts MPII's mean and does
# not divide (`pose/utils/transforms.py`, `color_normalize`).
_GEOMETRY = {"convention": "hrnet", "map_offset": 0.5, "flip_shift": False}
_release = partial(Release, skeleton="mpii16", input_size=(256, 256), std=(1.0, 1.0, 1.0))

RELEASES = (
    _release(
        "stacked_hourglass_mpii",
        "hourglass",
        codec="princeton",
        mean=(0.0, 0.0, 0.0),
        extra={**_GEOMETRY, "licence": "BSD-3-Clause", "source": "princeton-vl/pytorch_stacked_hourglass@ceedc14"},
    ),
    _release(
        "pytorch_pose_hg_mpii",
        "hg",
        codec="pytorch-pose",
        mean=(0.4404, 0.4440, 0.4327),
        extra={**_GEOMETRY, "licence": "not stated", "source": "bearpaw/pytorch-pose@edc7aec"},
    ),
)
