"""Released weights of the original repositories: recognised by their parameter names, renamed by explicit tables.

Nothing in such a file is run: it is read with ``weights_only=True``, which refuses any pickle that holds more than
tensors and plain values (`reading`). A family (`family.Family`, one module each) says which of its names tell
architecture and arguments, and where each of our tensors comes from; every name that is missing or left over is an
error. A bare state dict says neither skeleton nor input size: the rows of ``RELEASES`` beside each family do.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, check_input_size
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.outline import outline
from posecli.official import (
    cpm,
    cpn,
    deeppose,
    dekr,
    fastpose,
    hourglass,
    hrnet,
    integral,
    mmpose,
    simple_baseline,
    unipose,
)
from posecli.official.family import Family, convert
from posecli.official.reading import listing, read_state_dict
from posecli.official.releases import Release, choose
from posecli.official.rescore import load_official_rescore, load_rescore
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton

__all__ = [
    "FAMILIES", "RELEASES", "convert", "load_official", "load_official_rescore", "load_rescore", "read_state_dict",
]  # fmt: skip

#: One module a repository, with ``FAMILIES`` (or ``FAMILY``, the only one) and ``RELEASES``.
TABLES: tuple[ModuleType, ...] = (
    dekr, hrnet, mmpose, simple_baseline, fastpose, hourglass, cpm, cpn, unipose, deeppose,
    integral,
)  # fmt: skip

#: A file is of the first family whose markers it has.
FAMILIES: tuple[Family, ...] = tuple(
    family for table in TABLES for family in getattr(table, "FAMILIES", None) or (table.FAMILY,)
)

#: For each architecture and joint count the first row is the one taken.
RELEASES: tuple[Release, ...] = tuple(release for table in TABLES for release in table.RELEASES)


def load_official(
    path: str | Path,
    *,
    skeleton: Skeleton | str | None = None,
    input_size: tuple[int, int] | None = None,
    release: str | None = None,
    warn: Callable[[str], None] = warnings.warn,
) -> tuple[nn.Module, ModelMeta]:
    """Builds the network of an official ``.pth`` file, with what is known of its release.

    Args:
        path: the file.
        skeleton: overrides the release's skeleton (a name or a `Skeleton`); must have the file's joint count.
        input_size: overrides the release's (width, height).
        release: name of the release the file is, where names and shapes leave it open (a row of `RELEASES`).
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
    architecture, arguments = described
    rows = [r for r in RELEASES if r.family in ("", family.name)]
    taken, found_skeleton, size = choose(
        path, rows, architecture, arguments["keypoints"], wanted, input_size, warn, release
    )
    arguments = {**arguments, **taken.arguments}
    # Without drawing weights that are replaced at once; `convert` gives every tensor that the network has.
    network = outline(MODELS[architecture], **arguments)
    network.load_state_dict(convert(family, network, state, str(path)), assign=True)
    meta = ModelMeta(
        architecture=architecture,
        arguments=arguments,
        skeleton=found_skeleton,
        input_size=size,
        mean=taken.mean,
        std=taken.std,
        codec=taken.codec,
        extra={**taken.extra, "release": taken.name},
    )
    check_input_size(network, meta, str(path))
    return network.eval(), meta


def _unknown(path: Path, state: Mapping[str, Tensor]) -> PoseError:
    """Names the family that shares the most names, and the first names that differ."""
    best: tuple[float, Family, list[str], list[str]] | None = None
    for family in FAMILIES:
        architecture, arguments = family.example
        network = outline(MODELS[architecture], **arguments)
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
                and not any(re.fullmatch(pattern, name) for pattern in (*family.constants, *family.unused))
            ]
            best = (share, family, missing, extra)
    assert best is not None
    _, family, missing, extra = best
    parts = [f"{kind} {listing(names[:4])}" for kind, names in (("it lacks", missing), ("it has", extra)) if names] or [
        f"its first convolution has shape {tuple(next(iter(state.values())).shape)}, a width we do not know"
    ]
    return PoseError(
        f"weights of an unknown kind; the nearest is {family.name}: {'; '.join(parts)}",
        str(path),
        f"known: {', '.join(f.name for f in FAMILIES)}",
    )
