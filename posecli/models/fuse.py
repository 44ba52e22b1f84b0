"""Batch normalisation folded into the convolutions before it, for inference.

In evaluation mode a norm is a scale and a shift of each channel (Ioffe & Szegedy, ICML 2015, Sec. 3.1); multiplied into
the convolution's weights it costs nothing. Results agree with the plain network within rounding.
"""

from __future__ import annotations

import copy
import itertools
import re
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

_CONSTANTS = (type(None), bool, int, float, str)


def fold_norms(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode in which norms are part of the convolutions before them.

    Found are convolutions followed by their norm in a `Sequential`, and members named ``conv1`` and ``bn1`` (with any
    number), or ``...conv`` and ``bn`` next to each other. In a pre-activated block, whose ``bn1`` is declared before
    its ``conv1``, the norm after ``conv1`` is ``bn2``. Other norms stay. The copy is for inference: its parameters have
    other names.
    """
    if network.training:
        raise ValueError("fold_norms takes a network in evaluation mode")
    folded = _copied(network, {})
    for module in list(folded.modules()):
        for conv_name, norm_name in list(_pairs(module)):
            conv, norm = module.get_submodule(conv_name), module.get_submodule(norm_name)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                _fold(conv, norm)
                setattr(module, norm_name, nn.Identity())
    return folded.requires_grad_(False)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy` of a network, which has a dozen tables to a module, most of them empty: there it spends its time.
    Modules and their tables are copied here, everything else by it."""
    kind = type(value)
    if kind in _CONSTANTS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in (dict, OrderedDict) and all(type(name) in (str, int) for name in value):
        twin = memo[id(value)] = kind()
        twin.update((name, _copied(item, memo)) for name, item in value.items())
    elif isinstance(value, nn.Module) and kind.__getstate__ is nn.Module.__getstate__ and not _copies_itself(kind):
        twin = memo[id(value)] = object.__new__(kind)
        twin.__dict__.update((name, _copied(item, memo)) for name, item in value.__getstate__().items())
    else:
        twin = copy.deepcopy(value, memo)
    return twin


def _copies_itself(kind: type) -> bool:
    return hasattr(kind, "__deepcopy__") or kind.__reduce_ex__ is not object.__reduce_ex__


def _pairs(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of members that may be a convolution and its norm."""
    names = [name for name, _ in module.named_children()]
    if isinstance(module, nn.Sequential):
        yield from itertools.pairwise(names)
    for name in names:
        if found := re.fullmatch(r"conv(\d+)", name):
            own = f"bn{found[1]}"
            before = own in names and names.index(own) < names.index(name)
            norm = f"bn{int(found[1]) + 1}" if before else own
            if norm in names:
                yield name, norm
    yield from ((name, after) for name, after in itertools.pairwise(names) if name.endswith("conv") and after == "bn")


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Multiplies the norm into the convolution, in float64 so that rounding happens once."""
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a norm without running statistics cannot be folded")
    scale = (_wide(norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * _wide(norm.weight)
    shift = -_wide(norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + _wide(norm.bias)
    if conv.bias is not None:
        shift = shift + _wide(conv.bias) * scale
    weight = _wide(conv.weight) * scale.view(-1, 1, 1, 1)
    conv.bias = nn.Parameter(shift.to(conv.weight), requires_grad=False)
    conv.weight = nn.Parameter(weight.to(conv.weight), requires_grad=False)


def _wide(values: Tensor) -> Tensor:
    return values.detach().cpu().double()  # not every device has float64
