"""UniPose and UniPose-LSTM: bmartacho/UniPose@bf53632. Our networks keep their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from posecli.models.resnet import DEPTHS
from posecli.official.family import Family, same_names
from posecli.official.releases import Release

_FINAL = "decoder.last_conv.8.weight"
_MARKERS = (_FINAL, "wasp.conv2.weight", "backbone.layer4.0.conv2.weight", "decoder.conv1.weight")


def _describe(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    blocks = tuple(
        len({n.split(".")[2] for n in state if n.startswith(f"backbone.layer{stage}.")}) for stage in range(1, 5)
    )
    known = blocks == DEPTHS[101] and state["wasp.conv2.weight"].shape[0] == 256
    return ("unipose", {"keypoints": state[_FINAL].shape[0] - 1}) if known else None


def _describe_lstm(state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]] | None:
    found = _describe(state)
    known = found is not None and state["conv1.weight"].shape[0] == 128 and state["conv1.weight"].shape[-1] == 11
    return ("unipose-lstm", found[1]) if found is not None and known else None


# Left over in the official decoder from DeepLab, on whose code it rests.
_UNUSED = (r"decoder\.(conv2|bn2)\..*",)

FAMILIES = (
    Family(
        "UniPose-LSTM",
        (*_MARKERS, "lstm_0.conv_g_lstm.weight", "lstm.conv_fh_lstm.weight", "conv1.weight"),
        _describe_lstm,
        same_names,
        ("unipose-lstm", {"keypoints": 13}),
        unused=_UNUSED,
    ),
    Family("UniPose", _MARKERS, _describe, same_names, ("unipose", {"keypoints": 14}), unused=_UNUSED),
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
        name,
        architecture,
        skeleton,
        (368, 368),
        "argmax",
        _EXTRA,
        mean=(128 / 255,) * 3,
        std=(256 / 255,) * 3,
        published=architecture == "unipose",
    )
    for name, architecture, skeleton in (
        ("unipose_lsp", "unipose", "lsp14"),
        ("unipose_mpii", "unipose", "mpii16"),
        # Weights of the recurrent variant were not released; these are data sets that its script takes.
        ("unipose_lstm_penn", "unipose-lstm", "pennaction13"),
        ("unipose_lstm_lsp", "unipose-lstm", "lsp14"),
        ("unipose_lstm_mpii", "unipose-lstm", "mpii16"),
    )
)
