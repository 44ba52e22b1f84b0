"""Instances drawn on one frame, with sub-pixel placement and anti-aliasing.

A joint at (x, y) is a disc centred on that point of the pixel grid (pixel centres on integers); limbs are capsules
whose width follows the person's size. Dark rims keep them readable on any ground.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from posecli.errors import UsageError
from posecli.predictions import StreamHeader
from posecli.types import Instance, Skeleton

COLOURS = ("side", "person", "limb")
BACKGROUNDS = ("source", "black")
_LEFT, _RIGHT, _CENTRE = (72, 219, 120), (255, 146, 43), (64, 156, 255)  # RGB: green, orange, blue
_DARK, _LIGHT = (24, 26, 31), (250, 250, 250)
_SHIFT = 4  # OpenCV draws on a grid of 1/16 pixel
_LIMIT = 20_000.0  # joints are drawn no farther out than this, so that fixed-point coordinates cannot overflow
_CAP = np.stack([np.sin(np.linspace(0, np.pi, 9)), np.cos(np.linspace(0, np.pi, 9))], 1)


#: Joints below are not drawn where neither the style nor the stream has a threshold of joints.
JOINT_THRESHOLD = 0.1


@dataclass(frozen=True)
class Style:
    """How people are drawn.

    Attributes:
        colours: ``side`` (left green, right orange, middle blue), ``person`` (one colour per id) or ``limb`` (one per
            limb).
        labels, ids, scores, boxes: whether joint names, identities, person scores and boxes are written.
        threshold: people with a lower score are left out; None takes the stream's own threshold (0 without one).
        joint_threshold: joints with a lower score are left out; None takes the stream's own (`JOINT_THRESHOLD` without
            one).
        background: ``source`` draws on the picture, ``black`` on black.
        trail: frames over which the ways of hands, feet and heads are drawn (`posecli.trails`); of streams only.
    """

    colours: str = "side"
    labels: bool = False
    ids: bool = False
    scores: bool = False
    boxes: bool = False
    threshold: float | None = None
    joint_threshold: float | None = None
    background: str = "source"
    trail: int = 0

    @property
    def least_joint(self) -> float:
        """Joint score from which on joints are drawn."""
        return JOINT_THRESHOLD if self.joint_threshold is None else self.joint_threshold

    def of_stream(self, header: StreamHeader) -> Style:
        """The style with the stream's thresholds, where it has none of its own."""
        return replace(
            self,
            threshold=(header.threshold or 0.0) if self.threshold is None else self.threshold,
            joint_threshold=header.joint_threshold if self.joint_threshold is None else self.joint_threshold,
        )

    def __post_init__(self) -> None:
        for what, value, known in (("style", self.colours, COLOURS), ("background", self.background, BACKGROUNDS)):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r}", hint=f"one of {', '.join(known)}")
        if not 0 <= self.trail <= 1000:
            raise UsageError(f"a trail of {self.trail} frames", hint="0 to 1000")


def draw_instances(
    image: np.ndarray, instances: Sequence[Instance], skeleton: Skeleton, style: Style | None = None
) -> np.ndarray:
    """A copy of the image with people drawn on it; smaller people first, so that those in front stay whole.

    Args:
        image: (H, W, 3) uint8 RGB.
        instances: people in pixels of the image; joints with visibility 0 or a score below ``joint_threshold`` are left
            out, and limbs that end in such a joint.
        skeleton: of the instances.
        style: by default `Style()`. A threshold of None draws everybody, a joint threshold of None joints from
            `JOINT_THRESHOLD` on.

    Returns:
        (H, W, 3) uint8 RGB, a new array.
    """
    style = style or Style()
    canvas = np.zeros_like(image) if style.background == "black" else np.ascontiguousarray(image).copy()
    shown = [
        (_size(person, found), place, person, found)
        for place, person in enumerate(instances)
        if is_drawn(person, style)
        for found in [_found(person, style)]
    ]
    tags = []
    for size, place, person, found in sorted(shown, key=lambda item: item[:2]):
        colour = identity_colour(person.track_id if person.track_id is not None else place)
        if found.any():
            _draw_person(canvas, person, found, size, skeleton, style, colour)
        if style.boxes and _has_box(person):
            x0, y0, x1, y1 = _fixed(np.asarray(person.box_xyxy).reshape(2, 2)).ravel().tolist()
            cv2.rectangle(canvas, (x0, y0), (x1, y1), colour, 1 + (size > 300), cv2.LINE_AA, _SHIFT)
        words = [f"{person.track_id}"] if style.ids and person.track_id is not None else []
        words += [f"{person.person_score:.2f}"] if style.scores else []
        if words:
            tags.append((person, found, size, "  ".join(words), colour))
    for tag in tags:
        _draw_tag(canvas, *tag)
    return canvas


def is_drawn(person: Instance, style: Style) -> bool:
    """Whether anything of a person is drawn: a joint, or a box where boxes are."""
    if person.person_score < (style.threshold or 0.0):
        return False
    return bool(_found(person, style).any()) or (style.boxes and _has_box(person))


def _has_box(person: Instance) -> bool:
    return person.box_xyxy is not None and bool(np.isfinite(person.box_xyxy).all())


def _found(person: Instance, style: Style) -> np.ndarray:
    """(K,) bool: joints that are drawn."""
    finite = np.isfinite(person.xy).all(axis=1)
    return (person.visibility > 0) & (person.score >= style.least_joint) & finite


def _size(person: Instance, found: np.ndarray) -> float:
    """Longer side in pixels of the box around the joints drawn, and of at least half the person's own box."""
    xy = person.xy[found]
    size = float(np.ptp(xy, axis=0).max()) if len(xy) else 0.0
    if person.box_xyxy is not None:
        box = np.asarray(person.box_xyxy, dtype=float)
        size = max(size, 0.5 * float(max(box[2] - box[0], box[3] - box[1])))
    return size


def _draw_person(
    canvas: np.ndarray,
    person: Instance,
    found: np.ndarray,
    size: float,
    skeleton: Skeleton,
    style: Style,
    own: tuple[int, int, int],
) -> None:
    xy = np.clip(np.where(found[:, None], person.xy, 0), -_LIMIT, _LIMIT).astype(np.float64)
    half = float(np.clip(size / 115, 0.75, 7.0))
    rim = float(np.clip(half * 0.45, 0.5, 2.0))
    limbs = [(i, a, b) for i, (a, b) in enumerate(skeleton.edges) if found[a] and found[b]]
    # Short limbs (in faces, or seen from the end) are drawn thinner, or their joints would run together.
    lengths = {i: float(np.hypot(*(xy[a] - xy[b]))) for i, a, b in limbs}
    widths = {i: min(half, 0.6 + 0.16 * length) for i, length in lengths.items()}
    radii = np.full(len(xy), 1.45 * half + 0.3)
    for i, a, b in limbs:
        for joint in (a, b):
            radii[joint] = min(radii[joint], 0.9 + 0.22 * lengths[i])
    guessed = {skeleton.keypoints.index(n) for n in person.extra.get("filled") or () if n in skeleton.keypoints}

    # Rims first, so that no limb cuts a dark line through another; joints lie over limbs.
    joints = np.flatnonzero(found).tolist()
    ends = [(xy[a], xy[b], widths[i], _limb_colour(i, a, b, skeleton, style, own)) for i, a, b in limbs]
    spots = [(xy[j], xy[j], radii[j], _joint_colour(j, skeleton, style, own)) for j in joints]
    # The light centre marks a joint that was seen; one that was filled in stays dark.
    centres = [(xy[j], xy[j], 0.5 * radii[j], _DARK if j in guessed else _LIGHT) for j in joints]
    rims = [(a, b, half + rim, _DARK) for a, b, half, _ in ends + spots]
    _draw_capsules(canvas, rims + ends + spots + centres)
    if style.labels:
        scale = float(np.clip(size / 900, 0.32, 0.7))
        for joint in joints:
            x, y = xy[joint] + (radii[joint] + rim + 2, 4 * scale)
            _text(canvas, skeleton.keypoints[joint], (round(x), round(y)), scale)


def _fixed(points: np.ndarray) -> np.ndarray:
    """Coordinates as OpenCV's fixed-point integers; pixel centres on integers."""
    return np.round(np.clip(points, -_LIMIT, _LIMIT) * (1 << _SHIFT)).astype(np.int32)


_Capsule = tuple[np.ndarray, np.ndarray, float, tuple[int, int, int]]


def _draw_capsules(canvas: np.ndarray, capsules: Sequence[_Capsule]) -> None:
    """Lines with round ends ``(from, to, half width, colour)`` in their order; of length 0 they are discs."""
    begin, end = (np.array([c[side] for c in capsules]) for side in (0, 1))
    # OpenCV's anti-aliased edge reaches about half a pixel beyond the polygon.
    radius = np.maximum(np.array([c[2] for c in capsules]) - 0.5, 0.1)[:, None]
    step = end - begin
    length = np.hypot(step[:, 0], step[:, 1])[:, None]
    along = radius * np.where(length > 0, step / np.maximum(length, 1e-6), (1.0, 0.0))
    across = np.stack([-along[:, 1], along[:, 0]], 1)
    cap = _CAP[None, :, :1] * along[:, None] + _CAP[None, :, 1:] * across[:, None]
    polygons = _fixed(np.concatenate([end[:, None] + cap, begin[:, None] - cap], axis=1))
    for polygon, (*_, colour) in zip(polygons, capsules, strict=True):
        cv2.fillConvexPoly(canvas, polygon, colour, cv2.LINE_AA, _SHIFT)


def _limb_colour(
    i: int, a: int, b: int, skeleton: Skeleton, style: Style, own: tuple[int, int, int]
) -> tuple[int, int, int]:
    if style.colours == "person":
        return own
    if style.colours == "limb":
        return _hue(i / max(len(skeleton.edges), 1))
    left, right = {p[0] for p in skeleton.flip_pairs}, {p[1] for p in skeleton.flip_pairs}
    sides = {("left" if j in left else "right" if j in right else "middle") for j in (a, b)}
    # A limb from a side to the middle (shoulder to neck) belongs to that side; one across the body to neither.
    sides -= {"middle"} if len(sides) == 2 and sides != {"left", "right"} else set()
    return {"left": _LEFT, "right": _RIGHT}.get(sides.pop(), _CENTRE) if len(sides) == 1 else _CENTRE


def _joint_colour(joint: int, skeleton: Skeleton, style: Style, own: tuple[int, int, int]) -> tuple[int, int, int]:
    if style.colours == "person":
        return own
    if style.colours == "limb":
        return _hue(joint / skeleton.num_keypoints)
    if any(joint == left for left, _ in skeleton.flip_pairs):
        return _LEFT
    return _RIGHT if any(joint == right for _, right in skeleton.flip_pairs) else _CENTRE


def _hue(turn: float) -> tuple[int, int, int]:
    """A bright colour by its place on the colour wheel."""
    red, green, blue = colorsys.hls_to_rgb(turn % 1.0, 0.6, 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


def identity_colour(number: int) -> tuple[int, int, int]:
    """RGB of an identity. Colours of neighbouring ids lie far apart: steps of the golden ratio around the wheel."""
    return _hue(0.55 + number * 0.6180339887)


def _text(canvas: np.ndarray, text: str, at: tuple[int, int], scale: float) -> None:
    # The same thin letters all around: thick ones are wider in OpenCV 5, and ran ahead of those they should lie under.
    around = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y]
    for colour, shifts in ((_DARK, around), (_LIGHT, [(0, 0)])):
        for x, y in shifts:
            place = at[0] + x, at[1] + y
            cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def _draw_tag(
    canvas: np.ndarray, person: Instance, found: np.ndarray, size: float, text: str, colour: tuple[int, int, int]
) -> None:
    """A small plate above the person, inside the picture."""
    scale = float(np.clip(size / 550, 0.4, 0.9))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 1)
    pad = round(3 + 4 * scale)
    if _has_box(person):
        x, y = (float(v) for v in np.asarray(person.box_xyxy)[:2])
    else:
        x, y = (float(v) for v in person.xy[found].min(axis=0) - (0, 4 + size / 40))
    left = round(min(max(x, 0), max(canvas.shape[1] - width - 2 * pad, 0)))
    top = round(min(max(y - height - 2 * pad, 0), max(canvas.shape[0] - height - 2 * pad, 0)))
    corner = (left + width + 2 * pad, top + height + 2 * pad)
    cv2.rectangle(canvas, (left, top), corner, colour, cv2.FILLED)
    dark = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 110
    ink = _DARK if dark else _LIGHT
    cv2.putText(canvas, text, (left + pad, top + pad + height), cv2.FONT_HERSHEY_DUPLEX, scale, ink, 1, cv2.LINE_AA)
