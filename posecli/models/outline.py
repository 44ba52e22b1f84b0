"""A network without values: its names and shapes alone, in a fraction of the time and without memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_FILLING = {
    "kaiming_uniform_",
    "kaiming_normal_",
    "constant_",
    "zeros_",
    "ones_",
    "uniform_",
    "normal_",
    "trunc_normal_",
    "fill_",
    "zero_",
}


class _Unfilled(TorchFunctionMode):
    """Leaves new tensors without values."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in _FILLING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def outline(builder: Callable[..., nn.Module], **arguments: Any) -> nn.Module:
    """The network on the meta device, for its names and shapes, or to be given all its tensors (``assign=True``)."""
    with torch.device("meta"), _Unfilled():
        return builder(**arguments)
