"""What tells the files of one repository, and how their tensors become ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from posecli.errors import PoseError
from posecli.official.reading import listing

Sources = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Family:
    """How the files of one repository look.

    Attributes:
        name: as printed.
        markers: names that together only this family has.
        describe: state dict to ``(architecture, arguments)``, the arguments with ``keypoints``; None when
            width, depth or head is none we know.
        sources: our network to ``{our name: official names}``; several are stacked along the first axis.
        constants: official names (pattern) that hold a constant of the code, with that constant.
        unused: official names (patterns) of tensors that the official code keeps but never uses.
        example: ``(architecture, arguments)`` of the best-known release, for messages about unknown files.
    """

    name: str
    markers: tuple[str, ...]
    describe: Callable[[Mapping[str, Tensor]], tuple[str, dict[str, Any]] | None]
    sources: Callable[[nn.Module], Sources]
    example: tuple[str, Mapping[str, Any]]
    constants: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()


def same_names(network: nn.Module) -> Sources:
    """The table of a network that keeps the official names."""
    return {name: (name,) for name in network.state_dict()}


def convert(family: Family, network: nn.Module, state: Mapping[str, Tensor], where: str = "") -> dict[str, Tensor]:
    """Official tensors to those of our ``network``; PoseError lists whatever is missing, left over or misshapen.

    Counters that old library versions did not save (``num_batches_tracked``) may be missing and are 0 then.
    """
    own = network.state_dict()
    sources = family.sources(network)
    left = set(state)
    missing, wrong = [], []
    result: dict[str, Tensor] = {}
    for name, tensor in own.items():
        parts = [state[source] for source in sources[name] if source in state]
        left.difference_update(sources[name])
        if name.endswith("num_batches_tracked"):
            result[name] = parts[0].reshape(()) if parts else torch.zeros((), dtype=tensor.dtype)
            continue
        absent = [source for source in sources[name] if source not in state]
        missing += absent
        if absent:
            continue
        if len({part.shape[1:] for part in parts}) > 1 or _stacked_shape(parts) != tensor.shape:
            shape = "x".join(map(str, parts[0].shape))
            wrong.append(f"{sources[name][0]} ({shape})")
            continue
        result[name] = (torch.cat(parts) if len(parts) > 1 else parts[0]).to(tensor.dtype)
    left = {name for name in left if not any(re.fullmatch(pattern, name) for pattern in family.unused)}
    for pattern, constant in family.constants.items():
        for name in sorted(left):
            if re.fullmatch(pattern, name):
                left.discard(name)
                if state[name].shape != constant().shape or not torch.equal(state[name].float(), constant()):
                    wrong.append(f"{name} (not the constant of the code)")
    problems = [
        f"{kind}: {listing(names)}"
        for kind, names in (("missing", missing), ("left over", sorted(left)), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise PoseError(f"the file looks like {family.name} but its names do not fit; {'; '.join(problems)}", where)
    return result


def _stacked_shape(parts: Sequence[Tensor]) -> tuple[int, ...]:
    return (sum(p.shape[0] for p in parts), *parts[0].shape[1:]) if len(parts) > 1 else tuple(parts[0].shape)
