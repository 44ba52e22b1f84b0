"""Networks made quicker for inference on a CUDA device; the plain network stays beside, and both agree within rounding.

Norms are folded into convolutions, weights are kept in the type that is computed with (autocast would convert them anew
at every run), maps in channels-last order, as tensor cores want them; DEKR's adaptive blocks are one Triton kernel each
(`models.adaptive_triton`) where Triton is there.
"""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import nn

from posecli.errors import PoseError
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fuse import fold_norms

#: Modules that work in half precision under autocast.
_HALVED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
#: Compute capability that Triton's matrix products need.
_LEAST = (7, 0)


@cache
def has_triton() -> bool:
    """Whether the package is there; it comes with PyTorch's CUDA builds for Linux."""
    return importlib.util.find_spec("triton") is not None


@cache
def kernels_trouble(device: torch.device) -> str:
    """Why Triton kernels don't run on a CUDA device, or nothing. Found out once, by running one: besides the package
    Triton wants a C compiler and Python's headers, which small containers lack."""
    if not has_triton():
        return "Triton is not installed"
    if torch.cuda.get_device_capability(device) < _LEAST:
        return "the device is too old for them"
    from posecli.models.adaptive_triton import try_out

    try:
        try_out(device)
    except Exception as error:  # whatever a compiler, a linker, a driver says
        said = str(error).splitlines()[0][:200] if str(error) else repr(error)
        return f"{said} (Triton wants a C compiler, e.g. gcc, and Python's headers)"
    return ""


def can_run_kernels(device: torch.device) -> bool:
    """Whether Triton kernels run on a device."""
    return device.type == "cuda" and not kernels_trouble(device)


def quicken(network: nn.Module, dtype: torch.dtype = torch.float32, *, kernels: bool) -> nn.Module:
    """A quicker copy of a network in evaluation mode, on the network's device; run it under autocast of ``dtype``.

    Args:
        network: any of ours; as it is afterwards.
        dtype: of convolutions: float32, bfloat16 or float16. What autocast leaves in float32 stays so.
        kernels: adaptive blocks run as Triton kernels; PoseError where the package is missing.

    Raises:
        ValueError: a network in training.
    """
    folded = fold_norms(network)
    if kernels:
        _use_blocks(folded, dtype)
    for module in folded.modules():
        if isinstance(module, _HALVED):
            module.to(dtype)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _use_blocks(network: nn.Module, dtype: torch.dtype) -> None:
    if not has_triton():
        raise PoseError("Triton is not installed", hint="pip install triton, or choose --speed fused")
    from posecli.models.adaptive_triton import MOST_CHANNELS, TritonAdaptiveBlocks

    for name, module in list(network.named_modules()):
        if isinstance(module, AdaptiveBlocks) and module.adapt_conv.weight.shape[1] <= MOST_CHANNELS:
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, TritonAdaptiveBlocks(module, dtype))


def has_blocks(network: nn.Module) -> bool:
    """Whether there is anything in a network that the kernels do."""
    return any(isinstance(m, AdaptiveBlocks) for m in network.modules())


def learn_with_kernels(network: nn.Module) -> int:
    """Lets the adaptive blocks of a network in training run as Triton kernels; how many there are.

    Parameters, their names and what is saved stay as they are.
    """
    blocks = [m for m in network.modules() if isinstance(m, AdaptiveBlocks)]
    if blocks:
        from posecli.models.adaptive_triton import MOST_CHANNELS, adaptive_conv

        blocks = [m for m in blocks if m.adapt_conv.weight.shape[1] <= MOST_CHANNELS]
        for block in blocks:
            block.convolve = adaptive_conv
    return len(blocks)
