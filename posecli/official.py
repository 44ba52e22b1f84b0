"""Released weights of the original repositories: recognised by their parameter names, renamed by explicit tables.

Nothing in such a file is run: it is read with ``weights_only=True``, which refuses any pickle that holds more than
tensors and plain values. A family (`FAMILIES`) says which of its names tell architecture and joint count, and where
each of our tensors comes from; every name that is missing or left over is an error. A bare state dict says neither
skeleton nor input size: the rows of `RELEASES` do.

Families: HRNet (leoxiaobin/deep-high-resolution-net.pytorch@6f69e46) and DEKR (HRNet/DEKR@7a30313), with DEKR's
rescoring net apart (`load_official_rescore`).
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, load_into, read_parts
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.deform import regular_grid
from posecli.models.rescore import RESCORE_LIMBS, RESCORE_MODEL, RescoreNet
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton

_HINT = "an official .pth or a posecli .safetensors is wanted"
_SHOWN = 20


# --- reading ---------------------------------------------------------------------------------------------------------


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of an official ``.pth`` by name, without running anything that the file may hold.

    Understood: a bare state dict, or a training checkpoint with one under ``state_dict``; names may carry the
    data-parallel prefix ``module.``, which is removed.

    Raises:
        PoseError: the file is absent, empty, cut off, not a torch file, holds objects other than tensors and plain
            values, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PoseError("no such file" if not path.exists() else "not a file", str(path), _HINT)
    with open(path, "rb") as handle:
        start = handle.read(16)
    if not start:
        raise PoseError("the file is empty", str(path), "download it again")
    if start[:2] != b"PK" and start[:1] != b"\x80" and not _looks_like_tar(path):
        raise PoseError("not a PyTorch file", str(path), _HINT)
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise PoseError("the file is cut off or damaged (no archive index at its end)", str(path), "download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old storage types; nothing a user can act on
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except Exception as error:
        # torch raises RuntimeError, EOFError, KeyError, ValueError, ... depending on where the damage lies.
        raise PoseError(
            f"the file is cut off or damaged ({_first_line(error)})", str(path), "download it again"
        ) from None
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise PoseError("the file holds no state dict", str(path), _HINT)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise PoseError(f"not only tensors in the state dict: {_listing(others)}", str(path), _HINT)
    tensors = {str(name): value for name, value in state.items()}
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    return tensors


def _looks_like_tar(path: Path) -> bool:
    with open(path, "rb") as handle:  # the oldest torch files are tar archives
        handle.seek(257)
        return handle.read(5) == b"ustar"


def _refused(path: Path, error: Exception) -> PoseError:
    """An unpickling error is either code in the pickle or damage; the torch message tells which."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)|Unsupported global: (?:GLOBAL )?(\S+)", text)
    if found or ("weights_only" in text.lower() and "nsupported" in text):
        named = next((group for group in (found.groups() if found else ()) if group), "an object")
        return PoseError(
            f"refused: the pickle holds code or objects besides tensors ({named})",
            str(path),
            "only files of plain tensors are read; nothing in it was run",
        )
    return PoseError(f"the file is cut off or damaged ({_first_line(error)})", str(path), "download it again")


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def _listing(names: Sequence[str]) -> str:
    """Names for a message; long lists are cut and the rest is counted."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


# --- families --------------------------------------------------------------------------------------------------------

Sources = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Family:
    """How the files of one repository look.

    Attributes:
        name: as printed.
        markers: names that together only this family has.
        describe: state dict to ``(architecture, joint count)``; None when width or head is none we know.
        sources: our network to ``{our name: official names}``; several are stacked along the first axis.
        constants: official names (pattern) that hold a constant of the code, with that constant.
        example: ``(architecture, joint count)`` of the best-known release, for messages about unknown files.
    """

    name: str
    markers: tuple[str, ...]
    describe: Callable[[Mapping[str, Tensor]], tuple[str, int] | None]
    sources: Callable[[nn.Module], Sources]
    example: tuple[str, int]
    constants: Mapping[str, Callable[[], Tensor]] = field(default_factory=dict)


_WIDTHS = {32: "w32", 48: "w48"}
_WIDTH_NAME = "stage2.0.fuse_layers.0.1.0.weight"


def _describe_hrnet(state: Mapping[str, Tensor]) -> tuple[str, int] | None:
    size = _WIDTHS.get(state[_WIDTH_NAME].shape[0])
    return (f"hrnet-{size}", state["final_layer.weight"].shape[0]) if size else None


def _describe_dekr(state: Mapping[str, Tensor]) -> tuple[str, int] | None:
    size = _WIDTHS.get(state[_WIDTH_NAME].shape[0])
    return (f"dekr-{size}", state["head_heatmap.1.weight"].shape[0] - 1) if size else None


def _hrnet_sources(network: nn.Module) -> Sources:
    """Our HRNet keeps the official names."""
    return {name: (name,) for name in network.state_dict()}


#: DEKR, rows of (our name, official name or names). ``{block}`` counts adaptive blocks, ``{joint}`` runs over all
#: joints, whose tensors are stacked; ``*`` is copied. The first row that fits counts.
_DEKR_TABLE: tuple[tuple[str, tuple[str, ...]], ...] = (
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


def _dekr_sources(network: nn.Module) -> Sources:
    joints = range(int(network.keypoints))  # type: ignore[arg-type]
    sources: Sources = {}
    for name in network.state_dict():
        for ours, official in _DEKR_TABLE:
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


FAMILIES: tuple[Family, ...] = (
    Family(
        "DEKR",
        (_WIDTH_NAME, "head_heatmap.1.weight", "offset_feature_layers.0.0.adapt_conv.weight"),
        _describe_dekr,
        _dekr_sources,
        ("dekr-w32", 17),
        {r"offset_feature_layers\.\d+\.\d+\.regular_matrix": lambda: regular_grid(torch.zeros(())).T},
    ),
    Family("HRNet", (_WIDTH_NAME, "final_layer.weight"), _describe_hrnet, _hrnet_sources, ("hrnet-w32", 17)),
)


# --- releases --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Release:
    """What a named release takes and gives; ``input_size`` is (width, height); images are normalised by the ImageNet
    mean and deviation in all of them."""

    name: str
    architecture: str
    skeleton: str
    input_size: tuple[int, int]
    codec: str
    extra: Mapping[str, Any] = field(default_factory=dict)


_HRNET = {"convention": "hrnet", "licence": "MIT", "source": "leoxiaobin/deep-high-resolution-net.pytorch@6f69e46"}
_DEKR = {"convention": "dekr", "licence": "MIT", "source": "HRNet/DEKR@7a30313"}
# Test settings of the CrowdPose configurations that differ from COCO's (experiments/crowdpose/*/*.yaml).
_DEKR_CROWD = {**_DEKR, "decode": {"nms_joints": 7, "decrease": 0.8}}

#: For each architecture and joint count the first row is the one taken.
RELEASES: tuple[Release, ...] = (
    Release("pose_dekr_hrnetw32_coco", "dekr-w32", "coco17", (512, 512), "dekr", _DEKR),
    Release("pose_dekr_hrnetw48_coco", "dekr-w48", "coco17", (640, 640), "dekr", _DEKR),
    Release("pose_dekr_hrnetw32_crowdpose", "dekr-w32", "crowdpose14", (512, 512), "dekr", _DEKR_CROWD),
    Release("pose_dekr_hrnetw48_crowdpose", "dekr-w48", "crowdpose14", (640, 640), "dekr", _DEKR_CROWD),
    Release("pose_hrnet_w32_256x192", "hrnet-w32", "coco17", (192, 256), "gaussian", _HRNET),
    Release("pose_hrnet_w32_384x288", "hrnet-w32", "coco17", (288, 384), "gaussian", _HRNET),
    Release("pose_hrnet_w48_256x192", "hrnet-w48", "coco17", (192, 256), "gaussian", _HRNET),
    Release("pose_hrnet_w48_384x288", "hrnet-w48", "coco17", (288, 384), "gaussian", _HRNET),
    Release("pose_hrnet_w32_256x256_mpii", "hrnet-w32", "mpii16", (256, 256), "gaussian", _HRNET),
    Release("pose_hrnet_w48_256x256_mpii", "hrnet-w48", "mpii16", (256, 256), "gaussian", _HRNET),
)


def _choose(
    path: Path,
    architecture: str,
    keypoints: int,
    skeleton: Skeleton | None,
    input_size: tuple[int, int] | None,
    warn: Callable[[str], None],
) -> tuple[Release, Skeleton, tuple[int, int]]:
    """The release a file is taken for, with skeleton and input size as given or as the release has them."""
    if skeleton is not None and skeleton.num_keypoints != keypoints:
        raise PoseError(
            f"the weights give {keypoints} joints, skeleton {skeleton.name!r} has {skeleton.num_keypoints}", str(path)
        )
    of_architecture = [r for r in RELEASES if r.architecture == architecture]
    rows = [r for r in of_architecture if get_skeleton(r.skeleton).num_keypoints == keypoints]
    if skeleton is not None:
        rows = [r for r in rows if r.skeleton == skeleton.name] or rows
    if input_size is not None:
        rows = [r for r in rows if r.input_size == input_size] or rows
    if not rows:
        if skeleton is None or input_size is None:
            known = ", ".join(f"{get_skeleton(r.skeleton).num_keypoints} ({r.skeleton})" for r in of_architecture)
            raise PoseError(
                f"no known release of {architecture} gives {keypoints} joints",
                str(path),
                f"known: {known}; name skeleton= and input_size= to use the file all the same",
            )
        nearest = of_architecture[0]
        return (
            Release(path.stem, architecture, skeleton.name, input_size, nearest.codec, nearest.extra),
            skeleton,
            (input_size),
        )
    taken = rows[0]
    if len(rows) > 1 and (skeleton is None or input_size is None):
        others = ", ".join(r.name for r in rows[1:])
        warn(
            f"{path.name} fits several releases; taken for {taken.name} (skeleton {taken.skeleton}, input "
            f"{taken.input_size[0]}x{taken.input_size[1]}), not {others}; skeleton= and input_size= override"
        )
    return taken, skeleton or get_skeleton(taken.skeleton), input_size or taken.input_size


# --- loading ---------------------------------------------------------------------------------------------------------


def load_official(
    path: str | Path,
    *,
    skeleton: Skeleton | str | None = None,
    input_size: tuple[int, int] | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[nn.Module, ModelMeta]:
    """Builds the network of an official ``.pth`` file, with what is known of its release.

    Args:
        path: the file.
        skeleton: overrides the release's skeleton (a name or a `Skeleton`); must have the file's joint count.
        input_size: overrides the release's (width, height).
        warn: called with one sentence when several releases fit.

    Returns:
        The network in evaluation mode, and its description (``extra["release"]``, ``extra["convention"]``: the
        geometry its training used, see `posecli.codecs.affine`).

    Raises:
        PoseError: the file cannot be read (`read_state_dict`), is of no known family, or does not fit its family;
            the message lists the names.
    """
    path = Path(path)
    wanted = get_skeleton(skeleton) if isinstance(skeleton, str) else skeleton
    state = read_state_dict(path)
    family = next((f for f in FAMILIES if all(m in state for m in f.markers)), None)
    described = family.describe(state) if family and all(state[m].ndim for m in family.markers) else None
    if family is None or described is None:
        raise _unknown(path, state)
    architecture, keypoints = described
    release, found_skeleton, size = _choose(path, architecture, keypoints, wanted, input_size, warn)
    network = MODELS[architecture](keypoints=keypoints)
    network.load_state_dict(convert(family, network, state, str(path)))
    meta = ModelMeta(
        architecture=architecture,
        arguments={"keypoints": keypoints},
        skeleton=found_skeleton,
        input_size=size,
        codec=release.codec,
        extra={**release.extra, "release": release.name},
    )
    return network.eval(), meta


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
            result[name] = parts[0].reshape(()) if parts else torch.zeros_like(tensor)
            continue
        absent = [source for source in sources[name] if source not in state]
        missing += absent
        if absent:
            continue
        if len({part.shape[1:] for part in parts}) > 1 or _stacked_shape(parts) != tensor.shape:
            shape = "x".join(map(str, parts[0].shape))
            wrong.append(f"{sources[name][0]} ({shape})")
            continue
        result[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    for pattern, constant in family.constants.items():
        for name in sorted(left):
            if re.fullmatch(pattern, name):
                left.discard(name)
                if state[name].shape != constant().shape or not torch.equal(state[name].float(), constant()):
                    wrong.append(f"{name} (not the constant of the code)")
    problems = [
        f"{kind}: {_listing(names)}"
        for kind, names in (("missing", missing), ("left over", sorted(left)), ("of another shape", wrong))
        if names
    ]
    if problems:
        raise PoseError(f"the file looks like {family.name} but its names do not fit; {'; '.join(problems)}", where)
    return result


def _stacked_shape(parts: Sequence[Tensor]) -> tuple[int, ...]:
    return (sum(p.shape[0] for p in parts), *parts[0].shape[1:]) if len(parts) > 1 else tuple(parts[0].shape)


def _unknown(path: Path, state: Mapping[str, Tensor]) -> PoseError:
    """Names the family that shares the most names, and the first names that differ."""
    best: tuple[float, Family, list[str], list[str]] | None = None
    for family in FAMILIES:
        architecture, keypoints = family.example
        with torch.device("meta"):
            network = MODELS[architecture](keypoints=keypoints)
        expected = [s for sources in family.sources(network).values() for s in sources]
        expected = [name for name in expected if not name.endswith("num_batches_tracked")]
        known = set(expected)
        shared = sum(name in known for name in state)
        share = shared / max(1, len(known | set(state)))
        if best is None or share > best[0]:
            missing = [name for name in expected if name not in state]
            extra = [
                name
                for name in state
                if name not in known
                and not name.endswith("num_batches_tracked")
                and not any(re.fullmatch(pattern, name) for pattern in family.constants)
            ]
            best = (share, family, missing, extra)
    assert best is not None
    _, family, missing, extra = best
    parts = [
        f"{kind} {_listing(names[:4])}" for kind, names in (("it lacks", missing), ("it has", extra)) if names
    ] or [f"its first convolution has shape {tuple(next(iter(state.values())).shape)}, a width we do not know"]
    return PoseError(
        f"weights of an unknown kind; the nearest is {family.name}: {'; '.join(parts)}",
        str(path),
        f"known: {', '.join(f.name for f in FAMILIES)}",
    )


def load_official_rescore(path: str | Path) -> tuple[RescoreNet, str]:
    """DEKR's rescoring net (``final_rescore_*_kpt.pth``) and the name of the skeleton it is for.

    Raises:
        PoseError: unreadable, or not the three linear layers with the features of a known skeleton.
    """
    state = read_state_dict(path)
    wanted = {f"l{n}.{kind}" for n in (1, 2, 3) for kind in ("weight", "bias")}
    if set(state) != wanted:
        raise PoseError(f"not a rescoring net; it differs in {_listing(sorted(wanted ^ set(state)))}", str(path))
    features = {3 * len(limbs) + get_skeleton(name).num_keypoints: name for name, limbs in RESCORE_LIMBS.items()}
    count = state["l1.weight"].shape[-1]
    if count not in features:
        raise PoseError(f"a rescoring net of {count} features", str(path), f"known: {features}")
    network = RescoreNet(count, state["l1.weight"].shape[0])
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise PoseError(f"not a rescoring net: {_first_line(error)}", str(path)) from None
    return network.eval(), features[count]


def load_rescore(path: str | Path) -> tuple[RescoreNet, str]:
    """A rescoring net, as `train --model dekr-rescore` writes it or an official one, and its skeleton's name.

    Raises:
        PoseError: unreadable, or no rescoring net.
    """
    if Path(path).suffix != ".safetensors":
        return load_official_rescore(path)
    state, meta = read_parts(path)["main"]
    if meta.architecture != RESCORE_MODEL:
        raise PoseError(f"not a rescoring net but {meta.architecture}", str(path), "--weights takes it")
    features = meta.arguments.get("features")
    if not isinstance(features, int) or features < 1:
        raise PoseError("the description of the rescoring net is incomplete", str(path))
    network = RescoreNet(features)
    load_into(network, state, str(path))
    return network.eval(), meta.skeleton.name
