"""From a list of joint names to a skeleton: by the names, never by their number."""

from __future__ import annotations

from collections.abc import Sequence

from posecli.errors import PoseError
from posecli.skeletons import ALIASES, SKELETONS
from posecli.types import Skeleton

# Names under which a data set publishes its joints where they differ from ours by more than spelling.
_PUBLISHED = {
    "crowdpose14": "left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip "
    "left_knee right_knee left_ankle right_ankle head neck",
}


def spelling(name: str) -> str:
    """A joint name without differences that mean nothing: ``Right-ankle`` and ``right ankle`` are ``right_ankle``."""
    name = "_".join(str(name).strip().lower().replace("-", " ").replace("_", " ").split())
    return ALIASES.get(name, name)


def skeleton_from_names(names: Sequence[str], edges: Sequence[Sequence[int]] = (), where: str = "") -> Skeleton:
    """The skeleton of a list of joint names: a known one when these are its names, else a custom one.

    The same joints in another order give the known skeleton with everything that counts joints (sigmas, edges, limbs)
    moved along, named ``<name>_reordered`` -- unless several known skeletons have these joints, which differ in their
    sigmas. A custom skeleton (``customK``) has the 0-based ``edges`` given, flip pairs derived from its names, and no
    sigmas: nobody stated any.
    """
    spelled = [spelling(n) for n in names]
    same_joints = []
    for known in SKELETONS.values():
        variants = [[spelling(n) for n in known.keypoints]]
        if known.name in _PUBLISHED:
            variants.append(_PUBLISHED[known.name].split())
        for variant in variants:
            if spelled == variant:
                return known
            if len(spelled) == len(variant) and set(spelled) == set(variant):
                same_joints.append((known, [variant.index(n) for n in spelled]))
    if len(same_joints) == 1:
        return _reorder(*same_joints[0])
    try:
        return Skeleton(f"custom{len(names)}", tuple(names), tuple((int(a), int(b)) for a, b in edges))
    except PoseError as error:
        raise PoseError(error.what, where, error.hint) from None


def _reorder(known: Skeleton, order: Sequence[int]) -> Skeleton:
    """``known`` with its joint ``order[i]`` at place i; everything that counts joints follows."""
    place = {old: new for new, old in enumerate(order)}

    def moved(pairs: Sequence[Sequence[int]]) -> tuple[tuple[int, int], ...]:
        return tuple((place[a], place[b]) for a, b in pairs)

    return Skeleton(
        f"{known.name}_reordered",
        tuple(known.keypoints[i] for i in order),
        moved(known.edges),
        tuple(known.sigmas[i] for i in order) if known.sigmas else (),
        moved(known.flip_pairs),
        known.head,
        known.torso,
        moved(known.limbs),
    )
