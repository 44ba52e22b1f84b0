"""The codecs that any top-down heat map network takes, by name: how its targets are made and how its maps are read.

A codec that teaches says what the network's maps are ("maps": Gaussians of height 1; "logits": of a distribution over
the pixels) and where map pixels lie in the input (`GRIDS`). Reading is another matter: any codec reads the maps of any
other (`posecli infer --codec`), since all of them take maps whose high values mean "here"; of logits they get the
distribution. Some only read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from posecli.codecs.dark import decode_dark, encode_dark
from posecli.codecs.gaussian import decode_gaussian, encode_gaussian
from posecli.codecs.integral import decode_integral
from posecli.codecs.peers import decode_argmax, decode_cpn, decode_mmpose, decode_princeton, decode_pytorchpose
from posecli.codecs.softmax import decode_local_mean
from posecli.codecs.udp import decode_udp, encode_udp

Size = tuple[int, int]

#: Which input position map pixel 0 and the last one have, as (input size, map size) to (factor, offset):
#: "corner": pixel u at ``stride u``; "middle": in the middle of the pixels that it was made from; "ends": first and
#: last pixels correspond (a single one lies in the middle).
GRIDS: dict[str, Callable[[int, int], tuple[float, float]]] = {
    "corner": lambda size, maps: (size / maps, 0.0),
    "middle": lambda size, maps: (size / maps, (size / maps - 1) / 2),
    "ends": lambda size, maps: ((size - 1) / (maps - 1), 0.0) if maps > 1 else (float(size), (size - 1) / 2),
}


@dataclass(frozen=True)
class Codec:
    """One of `CODECS`.

    Attributes:
        decode: maps (B, K, h, w) to x, y in map pixels (B, K, 2) and scores (B, K).
        learns: what a network taught by it gives, "maps" or "logits"; "" if it only reads.
        encode: for "maps": points (K, 2) in map pixels, labels (K,), map size, sigma to targets (K, h, w) and weights
            (K,). Logits are taught by the points themselves.
        grid: of `GRIDS`, for networks taught by it.
    """

    decode: Callable[[Tensor], tuple[Tensor, Tensor]]
    learns: str = ""
    encode: Callable[[np.ndarray, np.ndarray, Size, float], tuple[np.ndarray, np.ndarray]] | None = None
    grid: str = "corner"


def _biased(xy: np.ndarray, weight: np.ndarray, size: Size, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    return encode_gaussian(xy, weight, size, size, sigma)


CODECS: dict[str, Codec] = {
    "gaussian": Codec(decode_gaussian, "maps", _biased),
    "dark": Codec(decode_dark, "maps", encode_dark),
    "udp": Codec(decode_udp, "maps", encode_udp, "ends"),
    "softmax": Codec(decode_local_mean, "logits", grid="middle"),
    "integral": Codec(decode_integral, "logits", grid="middle"),
    "argmax": Codec(decode_argmax),
    "mmpose": Codec(decode_mmpose),
    "pytorch-pose": Codec(decode_pytorchpose),
    "princeton": Codec(decode_princeton),
    "cpn": Codec(decode_cpn),
}

#: What a cascade's coarse maps are taught as, and how they are read alone. Its fine maps are `codecs.cascade`'s.
CASCADE = "cascade"
_COARSE = Codec(decode_gaussian, "maps", encode_dark, "middle")


def teacher(name: str) -> Codec:
    """What a network taught by the codec of that name gives in its `heatmap`."""
    return _COARSE if name == CASCADE else CODECS[name]


#: Those that any network can be taught by.
TEACHING: tuple[str, ...] = tuple(name for name, codec in CODECS.items() if codec.learns)


def to_map(xy: np.ndarray, grid: str, input_size: Size, map_size: Size) -> np.ndarray:
    """Input pixels (..., 2) to map pixels; sizes are (width, height)."""
    pairs = [GRIDS[grid](size, maps) for size, maps in zip(input_size, map_size, strict=True)]
    factor, offset = (np.array(values) for values in zip(*pairs, strict=True))
    return (np.asarray(xy, np.float64) - offset) / factor


def to_input(xy: Tensor, grid: str, input_size: Size, map_size: Size) -> Tensor:
    """The inverse of `to_map`, for tensors."""
    pairs = [GRIDS[grid](size, maps) for size, maps in zip(input_size, map_size, strict=True)]
    factor, offset = (torch.tensor(values, device=xy.device, dtype=xy.dtype) for values in zip(*pairs, strict=True))
    return xy * factor + offset
