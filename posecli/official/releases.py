"""What a bare official file cannot say: skeleton, input size and codec of the releases, and which one a file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from posecli.checkpoint import IMAGENET_MEAN, IMAGENET_STD
from posecli.errors import PoseError, UsageError
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton


@dataclass(frozen=True)
class Release:
    """What a named release takes and gives.

    Attributes:
        name: begins the names of its files, where they are known.
        architecture, skeleton, codec, extra: as in `posecli.checkpoint.ModelMeta`.
        input_size: (width, height).
        arguments: of the network's builder, where names and shapes do not tell them.
        words: parts of a file's name that together speak for this release.
        family: name of the family whose files may be it; "" for any.
        mean, std: by which images are normalised, per RGB channel of values in [0, 1]; ``extra["channels"]`` is "bgr"
            for networks that take blue first.
        published: whether there are such files at all; of some code only the training was given out.
    """

    name: str
    architecture: str
    skeleton: str
    input_size: tuple[int, int]
    codec: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    family: str = ""
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    published: bool = True


def choose(
    path: Path,
    releases: Sequence[Release],
    architecture: str,
    keypoints: int,
    skeleton: Skeleton | None,
    input_size: tuple[int, int] | None,
    warn: Callable[[str], None],
    name: str | None = None,
) -> tuple[Release, Skeleton, tuple[int, int]]:
    """The release a file is taken for, with skeleton and input size as given or as the release has them.

    Taken is the release ``name``, else the first of those that the file's name speaks for, else the first.
    """
    if skeleton is not None and skeleton.num_keypoints != keypoints:
        raise PoseError(
            f"the weights give {keypoints} joints, skeleton {skeleton.name!r} has {skeleton.num_keypoints}", str(path)
        )
    of_architecture = [r for r in releases if r.architecture == architecture]
    rows = [r for r in of_architecture if get_skeleton(r.skeleton).num_keypoints == keypoints]
    if skeleton is not None:
        rows = [r for r in rows if r.skeleton == skeleton.name] or rows
    if input_size is not None:
        rows = [r for r in rows if r.input_size == input_size] or rows
    if name is not None:
        if name not in {r.name for r in rows}:
            fitting = ", ".join(r.name for r in rows) or "none"
            raise UsageError(f"the file cannot be the release {name!r}", str(path), f"releases that fit: {fitting}")
        rows = [r for r in rows if r.name == name]
    rows = _by_file_name(rows, path.name)
    if not rows:
        if skeleton is None or input_size is None:
            known = ", ".join(f"{get_skeleton(r.skeleton).num_keypoints} ({r.skeleton})" for r in of_architecture)
            raise PoseError(
                f"no known release of {architecture} gives {keypoints} joints",
                str(path),
                f"known: {known}; name skeleton= and input_size= to use the file all the same",
            )
        nearest = _by_file_name(of_architecture, path.name)[0]
        return (
            replace(nearest, name=path.stem, skeleton=skeleton.name, input_size=input_size),
            skeleton,
            input_size,
        )
    taken = rows[0]
    settled = skeleton is not None and input_size is not None
    if len(rows) > 1 and not (settled and all((r.arguments, r.codec) == (taken.arguments, taken.codec) for r in rows)):
        others = ", ".join(r.name for r in rows[1:])
        warn(
            f"{path.name} fits several releases; taken for {taken.name} (skeleton {taken.skeleton}, input "
            f"{taken.input_size[0]}x{taken.input_size[1]}), not {others}; skeleton=, input_size= and release= override"
        )
    return taken, skeleton or get_skeleton(taken.skeleton), input_size or taken.input_size


def _by_file_name(rows: Sequence[Release], name: str) -> list[Release]:
    """The releases that a file's name speaks for: whose name it begins with, else whose words it has; else all."""
    for spoken in (
        {r.name: len(r.name) for r in rows if name.startswith(r.name)},
        {r.name: len(r.words) for r in rows if r.words and all(word in name.lower() for word in r.words)},
    ):
        if spoken:
            return [r for r in rows if spoken.get(r.name) == max(spoken.values())]
    return list(rows)
