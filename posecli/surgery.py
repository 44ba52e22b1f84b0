"""Starting a network from another's weights: every part that fits is taken, and what was not is said.

Tensors meet by name and shape, also where one side keeps the part under a prefix (a top-down HRNet is DEKR's
``backbone.``). Tensors that have a share for each joint (heads, and layers that take heat maps in) meet joint by joint:
joints that both skeletons know are carried over, the others start afresh. The first convolution of a network that takes
blue first (some official code) is turned to red first, that of one that wants other means and deviations of colours
(pixels divided by 256, say) is brought to ours, and that of a network that is shown a last pose (`models.fpn`) meets
one that is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli.catalogue import outline
from posecli.checkpoint import ModelMeta, read_parts
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.official import load_official, read_state_dict
from posecli.skeletons import match_joints

_LISTED = 4
#: Arguments of builders that speak of a skeleton, or of a part that judges a trunk's poses, which was taught when the
#: trunk was done and says nothing of one that learns on.
_NOT_TAKEN = ("keypoints", "diameter", "quality", "judge")
#: A part under another prefix is taken for the same only if it fits at least this share of the tensors there.
_SAME_PART = 0.5


@dataclass(frozen=True)
class Donor:
    """Weights to take from: tensors by name, and of known models architecture and joints."""

    name: str
    state: Mapping[str, Tensor]
    meta: ModelMeta | None = None
    notes: tuple[str, ...] = ()


@dataclass
class Surgery:
    """What was taken.

    Attributes:
        source: the file's name. total: tensors of the network.
        taken: names of tensors taken whole. by_joint: those of which the shared joints were taken.
        fresh: names that start afresh. unused: names of the file that nothing was taken from.
        joints: names of the shared joints, where `by_joint` is not empty; new_joints: those that start afresh.
        prefix: ("backbone.", "") when tensors under "backbone." were taken from the bare names, or the other way.
        notes: what to know of the file.
    """

    source: str
    total: int = 0
    taken: list[str] = field(default_factory=list)
    by_joint: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    joints: list[str] = field(default_factory=list)
    new_joints: list[str] = field(default_factory=list)
    prefix: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{len(self.taken)} of {self.total} tensors from {self.source}"
        if self.prefix:
            text += f" ({self.prefix[1] or ''}* as {self.prefix[0] or ''}*)"
        if self.by_joint:
            text += f"; {len(self.by_joint)} joint by joint: {len(self.joints)} joints carried over"
            if self.new_joints:
                text += f", new {_some(self.new_joints)}"
        if self.fresh:
            text += f"; {len(self.fresh)} start afresh ({_parts(self.fresh)})"
        if self.unused:
            text += f"; {len(self.unused)} of the file unused ({_parts(self.unused)})"
        return "; ".join((text, *self.notes))


def read_donors(path: Path) -> list[Donor]:
    """The networks in a weights file: of posecli's own main network and finder, of an official file the one it holds.

    A file of no known family gives its bare tensors: its trunk may fit all the same.
    """
    if path.suffix == ".safetensors":
        return [Donor(path.name, state, meta) for state, meta in read_parts(path).values()]
    state = read_state_dict(path)
    notes: list[str] = []
    try:
        network, meta = load_official(path, warn=notes.append)
    except PoseError:
        return [Donor(path.name, state)]
    return [Donor(path.name, network.state_dict(), meta, tuple(notes))]


def same_build(architecture: str, path: str | Path) -> dict[str, Any]:
    """Arguments with which a weights file's network of that architecture was built, but for `_NOT_TAKEN`.

    Empty where the file holds no such network, or one of the usual depth and width.
    """
    metas = [donor.meta for donor in read_donors(Path(path)) if donor.meta is not None]
    found = next((meta.arguments for meta in metas if meta.architecture == architecture), {})
    return {name: value for name, value in found.items() if name not in _NOT_TAKEN}


def transplant(network: nn.Module, meta: ModelMeta, path: str | Path) -> Surgery:
    """Copies into a network, in place, every part of a weights file that fits.

    Args:
        network: as built from ``meta``.
        meta: architecture, arguments and skeleton of the network.
        path: a ``.safetensors`` of ours or a ``.pth``; of a file with two networks the one that fits better is taken.

    Raises:
        PoseError: the file cannot be read, or nothing in it fits.
    """
    path = Path(path)
    attempts = [(_plan(network, meta, donor), donor) for donor in read_donors(path)]
    (new, report), _ = max(attempts, key=lambda attempt: _weight(attempt[0][0]))
    if not _weight(new):
        raise PoseError("no tensor fits the model", str(path), "are the weights of another architecture?")
    network.load_state_dict({**network.state_dict(), **new})
    return report


def _weight(tensors: Mapping[str, Tensor]) -> int:
    """Numbers in tensors, counters left out."""
    return sum(t.numel() for t in tensors.values() if t.ndim)


def _plan(network: nn.Module, meta: ModelMeta, donor: Donor) -> tuple[dict[str, Tensor], Surgery]:
    """The new tensors by our names, and the report."""
    own = network.state_dict()
    report = Surgery(donor.name, len(own), notes=donor.notes)
    ours = _joint_axes(meta, own)
    theirs = _joint_axes(donor.meta, donor.state) if donor.meta else {}
    shared = match_joints(donor.meta.skeleton.keypoints, meta.skeleton.keypoints) if donor.meta else None
    if shared is not None:
        report.joints = [name for name, n in zip(meta.skeleton.keypoints, shared, strict=True) if n >= 0]
        report.new_joints = [name for name, n in zip(meta.skeleton.keypoints, shared, strict=True) if n < 0]
    names = {name: name for name in own if name in donor.state}
    pair = _other_prefix(own, donor.state, ours, theirs)
    if pair is not None:
        report.prefix = pair
        names |= {
            name: pair[1] + name.removeprefix(pair[0])
            for name in own
            if name.startswith(pair[0]) and pair[1] + name.removeprefix(pair[0]) in donor.state
        }
    beyond = _beyond(network, meta, donor)
    turned = donor.meta is not None and _order(donor.meta) != _order(meta)
    joints = donor.meta.skeleton.num_keypoints if donor.meta else 0
    new: dict[str, Tensor] = {}
    first: list[str] = []  # kernels over colours
    for name, tensor in own.items():
        source = names.get(name)
        given = donor.state[source] if source is not None else None
        if given is None or source is None:
            report.fresh.append(name)
        elif name in ours or source in theirs:
            mixed = None
            if shared is not None and name in ours and source in theirs:
                mixed = _by_joint(tensor, given, ours[name], theirs[source], shared, joints, beyond)
            if mixed is None:
                report.fresh.append(name)
            else:
                new[name] = mixed
                report.by_joint.append(name)
        elif (given := with_last_pose(given, tensor)).shape == tensor.shape:
            colours = given.ndim == 4 and given.shape[1] == (4 if meta.arguments.get("last_pose") else 3)
            new[name] = (given.flip(1) if turned and _sees_colours(given) else given).to(tensor.dtype)
            report.taken.append(name)
            first += [name] if colours else []
        else:
            report.fresh.append(name)
    if donor.meta is not None:
        known = [list(v)[:: -1 if turned else 1] for v in (donor.meta.mean, donor.meta.std)]
        report.notes += _renormalised(network, new, first, known, meta)
    used = {names[name] for name in new}
    report.unused = [name for name in donor.state if name not in used]
    if report.by_joint and not report.new_joints and _same_order(shared, donor):
        # The same joints in the same order: nothing to tell joint by joint.
        report.taken += report.by_joint
        report.by_joint = []
    return new, report


def _order(meta: ModelMeta) -> str:
    """Which colour of a picture is a network's first channel: "rgb" or "bgr"."""
    return str(meta.extra.get("channels", "rgb"))


def _sees_colours(kernel: Tensor) -> bool:
    """Whether a tensor is that of a convolution over three channels: of those, ours have pictures before them."""
    return kernel.ndim == 4 and kernel.shape[1] == 3


def _renormalised(
    network: nn.Module,
    new: dict[str, Tensor],
    kernels: Sequence[str],
    known: Sequence[Sequence[float]],
    meta: ModelMeta,
) -> tuple[str, ...]:
    """Brings kernels over pictures, in place, from the colours' means and deviations that they were taught with
    (``known``, in our order of colours) to those of ``meta``; what to say of it.

    (x - m) / s = (z S + M - m) / s for z = (x - M) / S: the factor goes into the kernel, what is added into its bias or
    into the mean of the norm behind it. The same maps come out, but at the picture's border, where zeros stand for
    another colour.
    """
    mean, std = (torch.tensor(v, dtype=torch.float64) for v in known)
    wanted_mean, wanted_std = (torch.tensor(v, dtype=torch.float64) for v in (meta.mean, meta.std))
    if torch.allclose(mean, wanted_mean, atol=1e-4) and torch.allclose(std, wanted_std, atol=1e-4):
        return ()
    modules = dict(network.named_modules())
    for name in kernels:
        kernel = new[name].double()
        added = (kernel[:, :3].sum((2, 3)) * ((wanted_mean - mean) / std)).sum(1)
        changed = torch.cat([kernel[:, :3] * (wanted_std / std)[:, None, None], kernel[:, 3:]], 1)
        new[name] = changed.to(new[name].dtype)
        owner = name.removesuffix(".weight")
        behind = islice(modules.items(), list(modules).index(owner) + 1, None)
        norms = (n for n, m in behind if isinstance(m, nn.BatchNorm2d) and m.num_features == len(added))
        norm = next(norms, None)
        if f"{owner}.bias" in new:
            new[f"{owner}.bias"] = (new[f"{owner}.bias"].double() + added).to(new[f"{owner}.bias"].dtype)
        elif norm is not None and f"{norm}.running_mean" in new:
            before = new[f"{norm}.running_mean"]
            new[f"{norm}.running_mean"] = (before.double() - added).to(before.dtype)
    return ("taught with other means and deviations of colours: the first convolution is brought to ours",)


def with_last_pose(kernel: Tensor, wanted: Tensor) -> Tensor:
    """The kernel of a convolution over a picture's three colours for a network that is shown a last pose besides (0:
    it changes nothing at first), or the other way; others as they are."""
    if kernel.ndim == wanted.ndim == 4 and kernel.shape[2:] == wanted.shape[2:]:
        if (kernel.shape[1], wanted.shape[1]) == (3, 4):
            return torch.cat([kernel, torch.zeros_like(kernel[:, :1])], 1)
        if (kernel.shape[1], wanted.shape[1]) == (4, 3):
            return kernel[:, :3]
    return kernel


def _same_order(shared: np.ndarray | None, donor: Donor) -> bool:
    return (
        shared is not None and donor.meta is not None and list(shared) == list(range(donor.meta.skeleton.num_keypoints))
    )


#: For each axis of a tensor that grows with the joints: its number, and how many channels each joint has there.
Axes = dict[int, int]


def _joint_axes(meta: ModelMeta, state: Mapping[str, Tensor]) -> dict[str, Axes]:
    """Which axes of which tensors have a share for each joint: those that are longer in the same network for one joint
    more."""
    arguments = dict(meta.arguments)
    count = int(arguments.get("keypoints", meta.skeleton.num_keypoints))
    larger = outline(MODELS[meta.architecture], **{**arguments, "keypoints": count + 1}).state_dict()
    found = {}
    for name, tensor in state.items():
        other = larger.get(name)
        if other is not None and other.shape != tensor.shape and other.ndim == tensor.ndim:
            lengths = enumerate(zip(tensor.shape, other.shape, strict=True))
            found[name] = {axis: longer - length for axis, (length, longer) in lengths if longer != length}
    return found


def _beyond(network: nn.Module, meta: ModelMeta, donor: Donor) -> str | None:
    """Where a map beyond the joints' stands in both networks: "first" or "last" (DEKR's centre, a background)."""
    if donor.meta is None:
        return None
    if meta.architecture.startswith("dekr") and donor.meta.architecture.startswith("dekr"):
        return "last"
    place = getattr(network, "background", None)
    alike = meta.arguments.get("background") == donor.meta.arguments.get("background")
    return place if alike and place in ("first", "last") else None


def _by_joint(
    own: Tensor, given: Tensor, ours: Axes, theirs: Axes, shared: np.ndarray, joints: int, beyond: str | None
) -> Tensor | None:
    """Our tensor with the shares of the shared joints, and of what stands beside them, from the other.

    Args:
        own, given: ours, and one of a network of ``joints`` joints.
        ours, theirs: their axes that grow with the joints.
        shared: for each of our joints its index among theirs, -1 for none.
        beyond: where one more map stands, see `_beyond`.

    Returns:
        None where the two differ otherwise, channels beside the joints' have no known place, or nothing is shared.
    """
    if ours != theirs or own.ndim != given.ndim:
        return None
    if own.shape == given.shape and list(shared) == list(range(joints)):
        return given.to(own.dtype)
    to: list[Tensor] = []
    origin: list[Tensor] = []
    for axis, (length, other) in enumerate(zip(own.shape, given.shape, strict=True)):
        if axis not in ours:
            if length != other:
                return None
            to.append(torch.arange(length))
            origin.append(torch.arange(length))
            continue
        each = ours[axis]
        extra = length - each * len(shared)
        if extra != other - each * joints or (extra and (extra != each or beyond is None)):
            return None
        first = extra if beyond == "first" else 0
        steps = torch.arange(each)
        mine = torch.tensor([j for j, n in enumerate(shared) if n >= 0], dtype=torch.long)
        found = torch.tensor([int(n) for n in shared if n >= 0], dtype=torch.long)
        if not len(mine):
            return None
        ends = (0, 0) if first else (length - extra, other - extra)
        to.append(torch.cat([first + (mine[:, None] * each + steps).flatten(), ends[0] + torch.arange(extra)]))
        origin.append(torch.cat([first + (found[:, None] * each + steps).flatten(), ends[1] + torch.arange(extra)]))
    result = own.clone()
    result[torch.meshgrid(*to, indexing="ij")] = given[torch.meshgrid(*origin, indexing="ij")].to(own.dtype)
    return result


def _other_prefix(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], ours: Mapping[str, Axes], theirs: Mapping[str, Axes]
) -> tuple[str, str] | None:
    """(our prefix, theirs) under which most of a part meets that does not meet by its whole name."""
    open_names = {n for n, t in own.items() if t.ndim and n not in ours}
    open_names = {n for n in open_names if n not in state or state[n].shape != own[n].shape}
    prefixes = {"", *(n.split(".")[0] + "." for n in own)}, {"", *(n.split(".")[0] + "." for n in state)}
    best: tuple[int, str, str] | None = None
    for mine in sorted(prefixes[0]):
        part = [n for n in open_names if n.startswith(mine)]
        for other in sorted(prefixes[1]):
            if mine == other or (mine and other):  # a part that is the whole of the other network, either way
                continue
            meeting = [(n, other + n.removeprefix(mine)) for n in part]
            fitting = sum(s in state and s not in theirs and state[s].shape == own[n].shape for n, s in meeting)
            there = sum(s.startswith(other) for s in state) if other else len(part)
            if fitting and fitting >= _SAME_PART * min(len(part), there) and (best is None or fitting > best[0]):
                best = (fitting, mine, other)
    return (best[1], best[2]) if best else None


def _parts(names: list[str]) -> str:
    """Names by their first component, counted."""
    counted = Counter(name.split(".")[0] for name in names).most_common()
    return _some([f"{part} {count}" for part, count in counted])


def _some(words: list[str]) -> str:
    return ", ".join(words[:_LISTED]) + (f" and {len(words) - _LISTED} more" if len(words) > _LISTED else "")
