"""Weights as one safetensors file whose metadata rebuilds the model.

The metadata holds one JSON object under ``posecli``: ``{"version": 1, "meta": {...}, "finder": {...}}``. Tensors
of the main network carry their bare names. A top-down model may bring the network that finds its people along: those
tensors are prefixed ``finder.`` and described by the second object.

Large tensors of weights may be stored in eight bits: ``NAME`` holds whole numbers from -127 to 127, ``NAME.scale`` what
one of them stands for, for each channel that comes out (as `models.int8` computes, so there nothing is lost by it).

Nothing here unpickles: official ``.pth`` files are read by `posecli.official`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialised
from torch import nn

from posecli.errors import PoseError, reason
from posecli.files import replace_when_done
from posecli.models import MODELS
from posecli.models.int8 import whole_kernel
from posecli.models.outline import outline
from posecli.types import Skeleton

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FINDER = "finder."
_LARGEST = 1 << 14  # pixels of an input side
_SCALE = ".scale"
_WORTH = 4096  # numbers of a tensor that is stored in eight bits; smaller ones weigh little
# A norm counts its batches; a file of eight bits does without.
_MEAN, _COUNT = ".running_mean", ".num_batches_tracked"


@dataclass(frozen=True)
class ModelMeta:
    """All that is needed, besides the tensors, to use a network.

    Attributes:
        architecture: a key of `posecli.models.MODELS`.
        arguments: keyword arguments of its builder (plain JSON values).
        skeleton: the joints it gives.
        input_size: (width, height) of a top-down input; for bottom-up models that of training, by which pictures
            are scaled (`posecli.readout`); (0, 0) of a network that looks at no pictures (DEKR's rescoring net).
        mean, std: per RGB channel, of values in [0, 1].
        codec: how maps become keypoints: ``"gaussian"``, ``"dark"``, ``"softmax"``, ``"dekr"``.
        extra: what it was trained on, licence, measured scores, ``threshold`` (calibrated display threshold of the
            person score), ``joint_threshold`` (joint score from which on joints are drawn), ``box_scale`` (crop side
            over box side), ``channels`` ("bgr": blue is the network's first channel), and settings of the codec.
    """

    architecture: str
    arguments: Mapping[str, Any]
    skeleton: Skeleton
    input_size: tuple[int, int]
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    codec: str = "gaussian"
    extra: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "architecture": self.architecture,
            "arguments": dict(self.arguments),
            "skeleton": self.skeleton.to_json(),
            "input_size": list(self.input_size),
            "mean": list(self.mean),
            "std": list(self.std),
            "codec": self.codec,
            "extra": dict(self.extra),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "") -> ModelMeta:
        """Raises PoseError when a key is missing or of the wrong kind."""
        try:
            width, height = (int(n) for n in value["input_size"])
            mean, std = (tuple(float(x) for x in value[key]) for key in ("mean", "std"))
            if len(mean) != 3 or len(std) != 3:
                raise ValueError("mean and std need three numbers")
            looks = (width, height) != (0, 0)
            if looks and not (0 < width <= _LARGEST and 0 < height <= _LARGEST):
                raise ValueError(f"no input size: {width} x {height}")
            if not all(map(math.isfinite, mean + std)) or min(std) <= 0:
                raise ValueError("mean and std must be finite, std above 0")
            return cls(
                architecture=str(value["architecture"]),
                arguments=dict(value["arguments"]),
                skeleton=Skeleton.from_json(value["skeleton"], where),
                input_size=(width, height),
                mean=(mean[0], mean[1], mean[2]),
                std=(std[0], std[1], std[2]),
                codec=str(value["codec"]),
                extra=dict(value.get("extra") or {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise PoseError(f"the model description is incomplete: {error!r}", where) from None

    def with_extra(self, **values: Any) -> ModelMeta:
        """A copy with further entries in ``extra``."""
        return replace(self, extra={**self.extra, **values})


def build(meta: ModelMeta, where: str = "") -> nn.Module:
    """The network of a description, with fresh parameters, in float32 on the CPU."""
    if meta.architecture not in MODELS:
        raise PoseError(f"unknown architecture {meta.architecture!r}", where, f"known: {', '.join(sorted(MODELS))}")
    try:
        return MODELS[meta.architecture](**meta.arguments)
    except (TypeError, ValueError, OverflowError) as error:
        raise PoseError(f"{meta.architecture}: {error}", where) from None


def save_model(
    path: str | Path,
    network: nn.Module | Mapping[str, torch.Tensor],
    meta: ModelMeta,
    *,
    dtype: torch.dtype | None = None,
    eight_bits: bool = False,
    finder: tuple[nn.Module | Mapping[str, torch.Tensor], ModelMeta] | None = None,
) -> None:
    """Writes one safetensors file, complete or not at all.

    Args:
        path: the file, ``.safetensors``.
        network: a module or its state dict.
        meta: its description.
        dtype: floating point tensors are stored in this type (``torch.bfloat16`` halves the file); None keeps theirs.
        eight_bits: kernels of convolutions are stored in eight bits, a quarter of float32, and the norms' counts of
            batches, which tell nothing of a network that has learnt, not at all.
        finder: network and description of the model that finds the people for a top-down network.
    """

    def tensors(source: nn.Module | Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
        state = source.state_dict() if isinstance(source, nn.Module) else source
        result = {}
        for name, value in state.items():
            value = value.detach().to("cpu")
            if eight_bits and name.endswith(_COUNT):
                continue
            if eight_bits and _is_kernel(value):
                result[prefix + name], result[prefix + name + _SCALE] = whole_kernel(value)
                continue
            if dtype is not None and value.is_floating_point():
                value = value.to(dtype)
            # A copy: safetensors refuses tensors that share memory or are not contiguous.
            result[prefix + name] = value.clone(memory_format=torch.contiguous_format)
        return result

    everything = tensors(network, "")
    description: dict[str, Any] = {"version": 1, "meta": meta.to_json(), "finder": None}
    if finder is not None:
        everything |= tensors(finder[0], FINDER)
        description["finder"] = finder[1].to_json()
    with replace_when_done(path) as part:
        # Written by us: safetensors' own writer makes files that only their owner may read, and of a full disk it says
        # nothing that can be told from a bug.
        part.write_bytes(serialised(everything, metadata={"posecli": json.dumps(description)}))


def lossless(values: Iterable[torch.Tensor]) -> tuple[torch.dtype | None, bool]:
    """The ``dtype`` and ``eight_bits`` of `save_model` that store tensors as they are in the least space."""
    floating = [value for value in values if value.is_floating_point()]
    kernels = [value for value in floating if _is_kernel(value)]
    eight_bits = bool(kernels) and all(torch.equal(value, _of_eight_bits(*whole_kernel(value))) for value in kernels)
    others = [value for value in floating if not (eight_bits and _is_kernel(value))]
    short = all(torch.equal(value, value.bfloat16().to(value.dtype)) for value in others)
    return torch.bfloat16 if short else None, eight_bits


def _is_kernel(value: torch.Tensor) -> bool:
    """Whether eight bits are meant for a tensor: a convolution's, and large."""
    return value.is_floating_point() and value.dim() == 4 and value.numel() >= _WORTH


def _of_eight_bits(whole: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The inverse of `whole_kernel`, float32."""
    return whole * scale.float().view(-1, *[1] * (whole.dim() - 1))


def _restored(state: Mapping[str, torch.Tensor], where: str) -> dict[str, torch.Tensor]:
    """Floating point tensors as float32, those of eight bits as what they stand for; counts left out begin at 0."""
    whole = {n for n, value in state.items() if value.dtype == torch.int8 and n + _SCALE in state}
    result = {}
    for name, value in state.items():
        if name in whole:
            scale = state[name + _SCALE]
            if not scale.is_floating_point() or scale.shape != value.shape[:1] or not len(scale):
                raise PoseError(
                    f"{name}{_SCALE} does not fit: {tuple(scale.shape)} for {tuple(value.shape)}",
                    where,
                    "a number for each channel is wanted",
                )
            value = _of_eight_bits(value, scale)
        elif name.removesuffix(_SCALE) in whole:
            continue
        result[name] = value.float() if value.is_floating_point() else value
        if whole and name.endswith(_MEAN):
            result.setdefault(name.removesuffix(_MEAN) + _COUNT, torch.tensor(0))
    return result


def read_parts(
    path: str | Path, wanted: Collection[str] = ("main", "finder")
) -> dict[str, tuple[dict[str, torch.Tensor], ModelMeta]]:
    """State dicts (float32) and descriptions in a file: ``{"main": ...}`` and, where there is one, ``"finder"``.

    Args:
        path: the file.
        wanted: which of them; the tensors of the others are not read.

    Raises:
        PoseError: the file is missing, no safetensors, truncated, or was not written by posecli.
    """
    path = Path(path)
    where = str(path)
    if not path.is_file():
        raise PoseError("no such weights file", where, "give a .safetensors or an official .pth file")
    try:
        with safe_open(str(path), framework="pt") as handle:
            text = (handle.metadata() or {}).get("posecli")
            names = [n for n in handle.keys() if ("finder" if n.startswith(FINDER) else "main") in wanted]  # noqa: SIM118
            state = {name: handle.get_tensor(name) for name in names}
    except (SafetensorError, OSError, ValueError) as error:
        raise PoseError(f"not a complete safetensors file: {reason(error)}", where) from None
    if text is None:
        raise PoseError("the file holds tensors but no model description", where, "it was not written by posecli")
    try:
        description = json.loads(text)
        found = {"main": description["meta"], "finder": description["finder"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PoseError(f"the model description cannot be read: {error!r}", where) from None
    state = _restored(state, where)
    parts = {
        "main": (
            {n: t for n, t in state.items() if not n.startswith(FINDER)},
            ModelMeta.from_json(found["main"], where),
        )
    }
    if found["finder"]:
        own = {n[len(FINDER) :]: t for n, t in state.items() if n.startswith(FINDER)}
        parts["finder"] = (own, ModelMeta.from_json(found["finder"], where))
    return {name: part for name, part in parts.items() if name in wanted}


def load_into(network: nn.Module, state: Mapping[str, torch.Tensor], where: str = "") -> None:
    """Loads a state dict strictly; PoseError as `check_fit`."""
    check_fit(network.state_dict(), state, where)
    network.load_state_dict(dict(state))


def check_fit(wanted: Mapping[str, torch.Tensor], state: Mapping[str, torch.Tensor], where: str = "") -> None:
    """PoseError that lists the first names that are missing, left over or of another shape."""
    missing = [n for n in wanted if n not in state]
    extra = [n for n in state if n not in wanted]
    shapes = [
        f"{n} {tuple(state[n].shape)} for {tuple(wanted[n].shape)}"
        for n in wanted
        if n in state and state[n].shape != wanted[n].shape
    ]
    problems = [
        f"{len(names)} {kind}: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for kind, names in (("missing", missing), ("left over", extra), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise PoseError(f"the tensors do not fit the network ({'; '.join(problems)})", where)


def of_bytes(network: nn.Module, meta: ModelMeta, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread (1, C, 1, 1) by which a network's input of bytes is normalised: red, green and blue as the
    description says; the last pose of a network with ``last_pose`` lies in [0, 1]."""
    more = 1 if getattr(network, "last_pose", False) else 0
    mean, spread = ((*values, other)[: 3 + more] for values, other in ((meta.mean, 0.0), (meta.std, 1.0)))
    a, b = (torch.tensor(values, device=device).view(1, 3 + more, 1, 1) * 255 for values in (mean, spread))
    return a, b


def check_input_size(network: nn.Module, meta: ModelMeta, where: str = "", step: int | None = None) -> None:
    """PoseError unless a network takes the input size of a description: its ``size_step`` divides width and height.

    Networks without one take any size, or pictures that are padded for them. ``step``: instead of the network's.
    """
    step = int(getattr(network, "size_step", 1)) if step is None else step
    if all(side % step == 0 for side in meta.input_size):
        return
    fitting = " x ".join(str(max(1, round(side / step)) * step) for side in meta.input_size)
    raise PoseError(
        f"{meta.architecture} takes widths and heights that are multiples of {step}, "
        f"not {meta.input_size[0]} x {meta.input_size[1]}",
        where,
        f"the input size next to it is {fitting}",
    )


def load_checkpoint(path: str | Path) -> tuple[nn.Module, ModelMeta]:
    """The main network of a file, in evaluation mode on the CPU, and its description."""
    state, meta = read_parts(path, ["main"])["main"]
    return _rebuilt(state, meta, str(path)), meta


def load_finder(path: str | Path) -> tuple[nn.Module, ModelMeta] | None:
    """The network that finds people in a file that brings one along, else None."""
    part = read_parts(path, ["finder"]).get("finder")
    return None if part is None else (_rebuilt(*part, str(path)), part[1])


def _rebuilt(state: Mapping[str, torch.Tensor], meta: ModelMeta, where: str) -> nn.Module:
    # First without memory: a description may claim a network of terabytes.
    try:
        network = outline(lambda: build(meta, where))
    except RuntimeError as error:  # sizes that no memory could have
        raise PoseError(f"{meta.architecture}: {str(error).splitlines()[0]}", where) from None
    wanted = network.state_dict()
    check_fit(wanted, state, where)
    check_input_size(network, meta, where)
    if _is_given_by(network, wanted):
        # Copies: what is read may lie in the file itself, which somebody may write over.
        own = {name: state[name].to(value.dtype, copy=True) for name, value in wanted.items()}
        network.load_state_dict(own, assign=True)
    else:
        network = build(meta, where)
        load_into(network, state, where)
    return network.eval()


def _is_given_by(network: nn.Module, state: Mapping[str, torch.Tensor]) -> bool:
    """Whether a state dict names all tensors without values of an outline, and none of them stands for two."""
    every = [*network.named_parameters(remove_duplicate=False), *network.named_buffers(remove_duplicate=False)]
    whole = all(name in state or not value.is_meta for name, value in every)
    return whole and len({id(value) for _, value in every}) == len(every)
