"""Both sides of a body read together: two legs at one place, where maps show two, are put apart.

A network that is not sure which leg is the left one gives the maps of both knees the same two peaks. Read one by one,
both often lie at the higher peak of the two: on an LSPET picture (validation, true boxes) 14 % of the pairs of joints
that are apart were found together. Here the highest peaks of a limb's joints are looked at together, and those are
taken that agree best: each by its probability, two sides by how far apart they are, the ends of a bone by its length.
The distances' weights are logarithms of how often a distance is seen between true joints to how often between peaks
drawn from each map by itself (`benchmarks/sides.py` makes them).

In a video the network is undecided in one frame after the other, and legs and arms would exchange their sides to and
fro. Peaks near to where a joint was a moment ago are therefore taken rather than others (`decode_sides`, ``before``).
That says which of two likely places is meant; it makes no place, so a limb that moves is followed without delay.

A departure of ours; peaks joined by the lengths of
limbs are as old as pictorial structures (Felzenszwalb and Huttenlocher, IJCV 2005).
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from posecli.codecs.softmax import decode_softmax, flat_maps, read_windows, total_here

#: The name of this reading.
SIDES = "sides"
#: Joints of a limb, from one end to the other.
LIMBS = (("hip", "knee", "ankle"), ("shoulder", "elbow", "wrist"))
#: Distances, in shares of the longer side of the network's input, and the weight of each between the two sides of a
#: joint and between the ends of a bone; linear between them.
DISTANCES = (0.01, 0.03, 0.05, 0.07, 0.1, 0.14, 0.18, 0.225, 0.275, 0.35, 0.45, 0.6)
WEIGHTS: dict[tuple[str, str], tuple[float, ...]] = {
    ("hip", "hip"): (-2.53, -2.33, -0.78, -0.13, 0.14, 0.22, 0.48, 0.54, 0.38, 0.31, 0.03, 0.40),
    ("knee", "knee"): (-4.02, -2.41, -0.22, 0.44, 0.67, 0.59, 0.38, 0.35, 0.23, 0.30, 0.32, 0.05),
    ("hip", "knee"): (-0.34, -0.68, -0.63, 0.13, 0.31, 0.25, 0.06, -0.01, -0.10, -0.24, -0.48, -0.65),
    ("ankle", "ankle"): (-3.71, -1.76, 0.09, 0.57, 0.68, 0.67, 0.64, 0.44, 0.53, 0.40, 0.40, 0.51),
    ("knee", "ankle"): (-0.59, -0.86, -0.34, 0.10, 0.51, 0.29, 0.19, 0.16, 0.01, -0.30, -1.58, -2.64),
    ("shoulder", "shoulder"): (-2.97, -2.01, -0.43, 0.06, 0.16, 0.06, 0.19, 0.11, 0.19, 0.45, 0.40, 0.40),
    ("elbow", "elbow"): (-3.68, -1.68, 0.12, 0.66, 0.65, 0.55, 0.36, 0.18, 0.20, 0.21, 0.15, 0.01),
    ("shoulder", "elbow"): (-0.20, 0.44, 0.46, 0.38, 0.13, 0.08, -0.02, -0.08, -0.21, -0.57, -1.26, -1.15),
    ("wrist", "wrist"): (-3.53, -1.38, 0.14, 0.57, 0.64, 0.60, 0.38, 0.33, 0.34, 0.23, 0.06, 0.16),
    ("elbow", "wrist"): (-0.72, -0.68, -0.12, 0.26, 0.24, 0.06, 0.16, 0.07, -0.22, -1.09, -2.35, -2.28),
}
#: How much all these weights count beside the probabilities of the peaks.
STRENGTH = 0.3
#: Peaks of a map that are looked at, and the window around each that holds no other, in map pixels.
PEAKS, APART = 3, 5
#: How much it may count that a peak is not where its joint is expected, in logarithms of probability; and the distance,
#: in shares of the longer side of the input, at which about two thirds of that count.
MEMORY, NEAR = 2.0, 0.03
#: Seconds over which expectation fades to nothing: in a tenth of a second a limb may be where the other one was.
FADES = 0.12
_LEAST = 1e-3  # probability of a peak that isn't there


def limb_joints(keypoints: Sequence[str]) -> list[list[tuple[int, int]]] | None:
    """The limbs of `LIMBS` as left and right joints' places in the list; None unless all of them are in it."""
    place = {name: n for n, name in enumerate(keypoints)}
    names = [[(f"left_{joint}", f"right_{joint}") for joint in limb] for limb in LIMBS]
    if not all(name in place for limb in names for pair in limb for name in pair):
        return None
    return [[(place[left], place[right]) for left, right in limb] for limb in names]


def decode_sides(
    logits: Tensor,
    stride: int,
    limbs: Sequence[Sequence[tuple[int, int]]],
    reach: int = 2,
    before: np.ndarray | None = None,
) -> tuple[Tensor, Tensor]:
    """As `decode_softmax`, the joints of `limb_joints` read together.

    Args:
        logits: (B, K, h, w). stride: of the maps. limbs: of `limb_joints`. reach: of `decode_softmax`.
        before: (B, K, 3) where each joint is expected, input pixels, and how much that counts, 0 to 1.

    Returns:
        (B, K, 2) points in input pixels and (B, K) scores in 0..1: the probability around the peak that was taken.
    """
    joints = [joint for limb in limbs for pair in limb for joint in pair]
    longest = stride * max(logits.shape[-2:])
    if logits.device.type == "cpu" and logits.dtype == torch.float32 and not logits.requires_grad:
        uv, mass, more, mass_of_more = peaks_here(logits.numpy(), joints, reach)
        first = [uv[:, joints, None], mass[:, joints, None]]
        places, masses = np.concatenate([first[0], more], 2), np.concatenate([first[1], mass_of_more], 2)
        middle = (stride - 1) / 2
        known = None if before is None else before[:, joints] - np.array([middle, middle, 0])
        chosen = _chosen(places * stride, masses, longest, known)
        uv[:, joints] = np.take_along_axis(places, chosen[..., None, None], 2)[:, :, 0]
        mass[:, joints] = np.take_along_axis(masses, chosen[..., None], 2)[..., 0]
        return torch.from_numpy(uv * stride + (stride - 1) / 2), torch.from_numpy(mass)
    xy, score = decode_softmax(logits, stride, reach)
    there, of_there = peaks(logits[:, joints], reach)
    there = there * stride + (stride - 1) / 2
    known = None if before is None else before[:, joints]
    taken = torch.from_numpy(_chosen(there.cpu().numpy(), of_there.cpu().numpy(), longest, known)).to(logits.device)
    # The first is the highest pixel's, read as ever.
    other = taken > 0
    new = there.gather(2, taken[..., None, None].expand(-1, -1, 1, 2))[:, :, 0]
    xy[:, joints] = torch.where(other[..., None], new.to(xy.dtype), xy[:, joints])
    sure = of_there.gather(2, taken[..., None])[..., 0].to(score.dtype)
    score[:, joints] = torch.where(other, sure, score[:, joints])
    return xy, score


def _chosen(places: np.ndarray, mass: np.ndarray, longest: float, before: np.ndarray | None) -> np.ndarray:
    """`choose` for the joints of all limbs, one limb's after the other's."""
    count = len(LIMBS)
    known = [None] * count if before is None else np.split(before, count, 1)
    of_limbs = zip(LIMBS, np.split(places, count, 1), np.split(mass, count, 1), known, strict=True)
    return np.concatenate([choose(place, own, names, longest, was) for names, place, own, was in of_limbs], axis=1)


def peaks_here(
    logits: np.ndarray, joints: Sequence[int], reach: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What `peaks` finds in the maps of some joints, and the highest peak of every joint, of float32 arrays and without
    threads, as `softmax.decode_softmax_here`.

    Returns:
        (B, K, 2) and (B, K) highest peaks, map pixels, and the probabilities around them; (B, J, P - 1, 2) and
        (B, J, P - 1) the others of the joints asked for.
    """
    batch, count, height, width = logits.shape
    flat = flat_maps(logits)
    first = flat.argmax(1)
    asked = (np.arange(batch)[:, None] * count + np.asarray(joints)).ravel()
    found = _next_peaks(flat[asked], first[asked], height, width)
    place = np.concatenate([first, found.ravel()])
    whose = np.concatenate([np.arange(len(flat)), asked.repeat(PEAKS - 1)])
    # Where there is no further peak the first one stands in, and counts nothing.
    there = place >= 0
    place = np.where(there, place, first[whose])
    height_of = np.exp(flat[whose, place] - flat[whose, first[whose]])
    uv, around = read_windows(flat, whose, place, width, reach)
    mass = around * height_of * there / total_here(flat, first)[whose]
    of_all, more = (batch, count), (batch, len(joints), PEAKS - 1)
    (uv, others), (mass, of_others) = (np.split(found, [len(flat)]) for found in (uv, mass))
    return uv.reshape(*of_all, 2), mass.reshape(of_all), others.reshape(*more, 2), of_others.reshape(more)


def _next_peaks(flat: np.ndarray, first: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, PEAKS - 1) the pixels of the peaks after the first of maps (N, h w), -1 where there are no more."""
    # One below the other, so far apart that none sees its neighbour.
    rows = height + APART // 2
    tall = np.full((len(flat), rows, width), -np.inf, np.float32)
    tall[:, :height] = flat.reshape(-1, height, width)
    around = cv2.dilate(tall.reshape(-1, width), np.ones((APART, APART), np.uint8))
    left = np.where(around.reshape(tall.shape) == tall, tall, np.float32(-np.inf)).reshape(len(flat), -1)
    everyone = np.arange(len(flat))
    found = []
    last = first
    for _ in range(PEAKS - 1):
        left[everyone, last] = -np.inf
        last = left.argmax(1)
        found.append(np.where(left[everyone, last] > -np.inf, last, -1))
    return np.stack(found, 1)


def peaks(logits: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """The highest peaks of maps (B, K, h, w): their places (B, K, P, 2), map pixels, and the probability around each
    (B, K, P), 0 where a map has fewer."""
    maps = logits.float()
    width = maps.shape[-1]
    highest = _highest_around(maps) == maps
    value, index = torch.where(highest, maps, -torch.inf).flatten(2).topk(PEAKS, dim=2)
    there = value > -torch.inf
    flat = maps.flatten(2)
    total = flat.logsumexp(2)
    offset = torch.arange(-reach, reach + 1, device=maps.device)
    row = torch.div(index, width, rounding_mode="floor")[..., None, None] + offset[:, None]
    column = (index % width)[..., None, None] + offset
    inside = (row >= 0) & (row < maps.shape[-2]) & (column >= 0) & (column < width)
    at = row.clamp(0, maps.shape[-2] - 1) * width + column.clamp(0, width - 1)
    window = flat.gather(2, at.flatten(2)).view(at.shape) - total[..., None, None, None]
    window = torch.where(inside & there[..., None, None], window.exp(), 0.0)
    mass = window.sum((3, 4))
    some = mass.clamp(min=torch.finfo(mass.dtype).tiny)
    x = index % width + (window.sum(3) * offset).sum(3) / some
    y = torch.div(index, width, rounding_mode="floor") + (window.sum(4) * offset).sum(3) / some
    return torch.stack([x, y], 3), mass


def _highest_around(maps: Tensor) -> Tensor:
    """The maximum of the `APART` x `APART` pixels around each. On a CPU pooling takes many times as long."""
    for axis in (2, 3):
        size, beyond = maps.shape[axis], [0, 0, 0, 0]
        beyond[2 * (3 - axis)] = beyond[2 * (3 - axis) + 1] = APART // 2
        wide = functional.pad(maps, beyond, value=-torch.inf)
        maps = wide.narrow(axis, 0, size)
        for shift in range(1, APART):
            maps = torch.maximum(maps, wide.narrow(axis, shift, size))
    return maps


def choose(
    places: np.ndarray,
    mass: np.ndarray,
    limb: Sequence[str],
    longest: float,
    before: np.ndarray | None = None,
) -> np.ndarray:
    """Which peak of each joint is taken: the likeliest together.

    A chain from one end of the limb to the other; its states are the peaks of both sides (Viterbi).

    Args:
        places: (B, 2 J, P, 2) peaks of the limb's joints, left and right in turn. mass: (B, 2 J, P) in 0..1.
        limb: the J joints' names. longest: the longer side of the input, in the unit of the places.
        before: (B, 2 J, 3) where the joints are expected, in that unit, and how much that counts, 0 to 1.

    Returns:
        (B, 2 J) indices.
    """
    count, states = mass.shape[2], mass.shape[2] ** 2
    likely = np.log(mass + _LEAST)
    if before is not None:
        likely -= _surprise(places, before, longest)
    best: np.ndarray | None = None
    back = []
    for n, joint in enumerate(limb):
        left, right = places[:, 2 * n], places[:, 2 * n + 1]
        both = STRENGTH * _weight(left, right, (joint, joint), longest)
        own = (likely[:, 2 * n, :, None] + likely[:, 2 * n + 1, None] + both).reshape(-1, states)
        if best is None:
            best = own
            continue
        bone = (limb[n - 1], joint)
        of_left = _weight(places[:, 2 * n - 2], left, bone, longest)[:, :, None, :, None]
        of_right = _weight(places[:, 2 * n - 1], right, bone, longest)[:, None, :, None, :]
        step = STRENGTH * (of_left + of_right).reshape(-1, states, states) + best[:, :, None]
        back.append(step.argmax(1))
        best = step.max(1) + own
    assert best is not None
    state = best.argmax(1)
    chosen = np.empty(mass.shape[:2], np.int64)
    for n in range(len(limb) - 1, -1, -1):
        chosen[:, 2 * n], chosen[:, 2 * n + 1] = np.divmod(state, count)
        if n:
            state = np.take_along_axis(back[n - 1], state[:, None], 1)[:, 0]
    return chosen


def _weight(some: np.ndarray, others: np.ndarray, kind: tuple[str, str], longest: float) -> np.ndarray:
    """(B, P, P) the weight of each distance between (B, P, 2) and (B, P, 2)."""
    distance = np.sqrt(((some[:, :, None] - others[:, None]) ** 2).sum(-1)) / longest
    return np.interp(distance, DISTANCES, WEIGHTS[kind])


def _surprise(places: np.ndarray, before: np.ndarray, longest: float) -> np.ndarray:
    """(B, 2 J, P) how much speaks against a peak that is not where its joint is expected."""
    distance = np.sqrt(((places - before[:, :, None, :2]) ** 2).sum(-1)) / longest
    return MEMORY * before[:, :, 2:] * (1 - np.exp(-distance / NEAR))
