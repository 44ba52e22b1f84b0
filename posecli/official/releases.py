"""What a bare official file cannot say: skeleton, input size and codec of the releases, and which one a file is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from posecli.errors import PoseError
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton


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


def choose(
    path: Path,
    releases: Sequence[Release],
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
    of_architecture = [r for r in releases if r.architecture == architecture]
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
