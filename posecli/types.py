"""The values that pass between modules: frozen, checked once when built, plain arrays within.

Letters: B batch, T time, N people, K keypoints, H W image, h w map. Points are ``(x, y)`` with pixel centres on
integers; boxes are ``box_xywh`` on disk and ``box_xyxy`` in memory. A missing keypoint has visibility 0 (its
coordinates mean nothing), never "near zero".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from posecli.errors import PoseError

_LEFT_RIGHT = (("left_", "right_"), ("Left", "Right"), ("left", "right"), ("l_", "r_"), ("L", "R"))
# The words of a name: "LEFT_HIP", "hipLeft", "LHip" and "hip.L" all have two.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def side_of(name: str) -> tuple[str, tuple[str, str]] | None:
    """The side that a joint's name states, "left" or "right", and the name before and after that word, in small
    letters; None where no word or several say a side."""
    found = [w for w in _WORD.finditer(name) if w[0].lower() in _SIDES]
    if len(found) != 1:
        return None
    rest = name[: found[0].start()].lower(), name[found[0].end() :].lower()
    return _SIDES[found[0][0].lower()], rest


def flip_pairs_from_names(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs ``(left index, right index)`` of names that differ only in a left/right.

    Understood: ``left_x``, ``LeftX``, ``leftX``, ``l_x``, ``Lx`` and their right partners, and a word left, right, l or
    r anywhere, in letters of any size: ``LEFT_X``, ``x_left``, ``xLeft``, ``x.L``, ``front left x``. A name without a
    partner in the list is taken to lie on the body's middle.
    """
    certain = _prefixed_pairs(names)
    paired = {i for pair in certain for i in pair}
    places: dict[tuple[str, tuple[str, str]], int] = {}
    for i, name in enumerate(names):
        said = side_of(name)
        if said is not None and i not in paired:
            places.setdefault(said, i)
    both = ((i, places.get(("right", rest))) for (side, rest), i in places.items() if side == "left")
    return tuple(sorted((*certain, *((a, b) for a, b in both if b is not None))))


def _prefixed_pairs(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs by the usual spellings, at the start or the end of a name."""
    index = {name: i for i, name in enumerate(names)}
    pairs = []
    for i, name in enumerate(names):
        partners = [right + name[len(left) :] for left, right in _LEFT_RIGHT if name.startswith(left)]
        partners += [name[: -len(a)] + b for a, b in (("_left", "_right"), ("_l", "_r")) if name.endswith(a)]
        partner = next((p for p in partners if p in index), None)
        if partner is not None:
            pairs.append((i, index[partner]))
    return tuple(pairs)


@dataclass(frozen=True)
class Skeleton:
    """A joint set and everything that must travel with it.

    Attributes:
        name: e.g. ``"coco17"``.
        keypoints: K names; left/right by prefix (``left_wrist``).
        edges: 0-based index pairs to draw.
        sigmas: K OKS sigmas s (the metric uses k = 2 s); empty when the set has none: then OKS is an error,
            not a guess.
        flip_pairs: ``(left, right)`` index pairs; derived from the names when not given, checked when given.
        head: names of the two joints whose distance is the head size, or empty.
        torso: names of the two joints whose distance is the torso size, or empty.
        limbs: 0-based index pairs for PCP; empty when the set states none (then the edges between limbs joints serve).
    """

    name: str
    keypoints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    head: tuple[str, ...] = ()
    torso: tuple[str, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        names, count = self.keypoints, len(self.keypoints)
        where = f"skeleton {self.name!r}"
        if not count or len(set(names)) != count:
            raise PoseError("keypoint names must be given and unique", where)
        for kind, pairs in (("edge", self.edges), ("flip pair", self.flip_pairs), ("limb", self.limbs)):
            for pair in pairs:
                if len(pair) != 2 or not all(0 <= i < count for i in pair) or pair[0] == pair[1]:
                    raise PoseError(f"{kind} {tuple(pair)} does not name two of the {count} keypoints", where)
        if self.sigmas and len(self.sigmas) != count:
            raise PoseError(f"{len(self.sigmas)} sigmas for {count} keypoints", where)
        if any(not 0 < s < np.inf for s in self.sigmas):
            raise PoseError("sigmas must be positive numbers", where)
        for kind, joints in (("head", self.head), ("torso", self.torso)):
            if joints and (len(joints) != 2 or any(j not in names for j in joints)):
                raise PoseError(f"{kind} {joints} does not name two keypoints", where)
        derived, certain, given = (
            {frozenset(p) for p in pairs}
            for pairs in (flip_pairs_from_names(names), _prefixed_pairs(names), self.flip_pairs)
        )
        if not self.flip_pairs:
            object.__setattr__(self, "flip_pairs", flip_pairs_from_names(names))
        elif certain and not certain <= given <= derived:
            raise PoseError("flip pairs contradict the left/right names", where, "leave them out to derive them")

    @property
    def num_keypoints(self) -> int:
        """K."""
        return len(self.keypoints)

    @property
    def flip_index(self) -> np.ndarray:
        """(K,) int64: the joint each joint becomes in a mirrored image."""
        index = np.arange(self.num_keypoints)
        for a, b in self.flip_pairs:
            index[a], index[b] = b, a
        return index

    def index(self, name: str) -> int:
        """Index of a keypoint name; PoseError when the skeleton has no such joint."""
        try:
            return self.keypoints.index(name)
        except ValueError:
            raise PoseError(
                f"no joint {name!r}", f"skeleton {self.name!r}", f"it has {', '.join(self.keypoints)}"
            ) from None

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON headers and weight metadata (0-based edges)."""
        return {
            "name": self.name,
            "keypoints": list(self.keypoints),
            "edges": [list(e) for e in self.edges],
            "sigmas": list(self.sigmas),
            "flip_pairs": [list(p) for p in self.flip_pairs],
            "head": list(self.head),
            "torso": list(self.torso),
            "limbs": [list(p) for p in self.limbs],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "") -> Skeleton:
        """Reads what `to_json` wrote; PoseError with ``where`` on anything else."""
        if not isinstance(value, Mapping):
            raise PoseError("not a skeleton", where, "an object with name and keypoints is wanted")
        for key in ("name", "keypoints"):
            if value.get(key) is None:
                raise PoseError(f"not a skeleton: no {key!r}", where)
        made: dict[str, Any] = {"name": str(value["name"])}
        for key, (kind, make) in _SKELETON_LISTS.items():
            given = value.get(key)
            if given is None:
                continue
            try:
                if not isinstance(given, (list, tuple)):
                    raise TypeError
                made[key] = tuple(make(item) for item in given)
            except (TypeError, ValueError, OverflowError):
                raise PoseError(f"not a skeleton: {key} = {str(given)[:60]}", where, f"{kind} wanted") from None
        return cls(**made)


def _pair(value: Any) -> tuple[int, int]:
    a, b = value
    return int(a), int(b)


# Keys of a skeleton's JSON that are lists: what of, and how an item is made.
_SKELETON_LISTS: dict[str, tuple[str, Any]] = {
    "keypoints": ("a list of names", str),
    "edges": ("pairs of 0-based numbers", _pair),
    "flip_pairs": ("pairs of 0-based numbers", _pair),
    "limbs": ("pairs of 0-based numbers", _pair),
    "sigmas": ("a list of numbers", float),
    "head": ("a list of names", str),
    "torso": ("a list of names", str),
}


@dataclass(frozen=True, eq=False)  # arrays: one is equal to itself alone
class Frame:
    """One picture: ``image`` (H, W, 3) uint8 RGB as displayed (rotation applied), its ``source`` name, ``index`` in
    that source (0-based) and ``time`` in seconds (None for pictures)."""

    image: np.ndarray
    source: str
    index: int = 0
    time: float | None = None

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[2] != 3 or self.image.dtype != np.uint8:
            raise ValueError(f"image must be (H, W, 3) uint8, got {self.image.shape} {self.image.dtype}")


@dataclass(frozen=True, eq=False)  # arrays: one is equal to itself alone
class Instance:
    """One person in one frame, predicted or labelled; image pixels.

    Attributes:
        xy: (K, 2) float32; rows of joints with visibility 0 mean nothing (NaN by custom).
        visibility: (K,) int: 0 missing / not labelled, 1 labelled but hidden, 2 visible. Predictions: 2 found, 0 not.
        score: (K,) float32 in [0, 1]; ones for labels.
        person_score: of the whole person, [0, 1].
        box_xyxy: (4,) float or None.
        area: for OKS, pixels^2, or None.
        ignore: crowd or ignore region.
        track_id: identity over frames, or None.
        heat: local NMS score: mean heat at the regressed keypoints before refinement, [0, 1], or None without
            such a map.
        head_box_xyxy: for PCKh, or None.
        extra: what formats carry besides (kept by every verb), e.g. ``raw``, ``filled``, ``derived``,
            ``segmentation``.
        quality: probability that the pose is right, by the network that saw it, or None where it doesn't say; part of
            the person's score already, and not written to files.
    """

    xy: np.ndarray
    visibility: np.ndarray
    score: np.ndarray
    person_score: float = 1.0
    box_xyxy: np.ndarray | None = None
    area: float | None = None
    ignore: bool = False
    track_id: int | None = None
    heat: float | None = None
    head_box_xyxy: np.ndarray | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    quality: float | None = None

    def __post_init__(self) -> None:
        count = len(self.xy)
        if self.xy.shape == (count, 2) and self.visibility.shape == self.score.shape == (count,):
            return  # ten thousands of people are the rule: the usual case first
        for name, shape in (("xy", (count, 2)), ("visibility", (count,)), ("score", (count,))):
            if np.shape(getattr(self, name)) != shape:
                raise ValueError(f"{name} must be {shape}, got {np.shape(getattr(self, name))}")

    def changed(self, **values: Any) -> Instance:
        """What `dataclasses.replace` gives, ten times as quickly: every frame's people are changed a dozen times."""
        own = self.__dict__
        if not values.keys() <= own.keys():
            raise TypeError(f"a person has no {', '.join(values.keys() - own.keys())}")
        new = object.__new__(type(self))
        new.__dict__.update(own, **values)
        new.__post_init__()
        return new


@dataclass(frozen=True)
class Record:
    """One labelled (or label-less) frame of a data set: who it is, its size, and its people.

    Attributes:
        image_id: unique in the data set.
        file_name: picture or video, relative to the data set's image root.
        width, height: pixels.
        instances: people, possibly none.
        video_id, frame_id: set when the frame belongs to a video (frame_id 0-based).
        extra: further keys of the format (e.g. ``license``, ``all_people_labelled``).
    """

    image_id: int | str
    file_name: str
    width: int
    height: int
    instances: tuple[Instance, ...] = ()
    video_id: int | None = None
    frame_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Video:
    """A video of a data set; ``tags`` say how it is grouped (a video below ``mars/front/`` has the tag ``front``)."""

    id: int
    name: str
    file_name: str
    width: int
    height: int
    fps: float
    num_frames: int
    tags: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Dataset:
    """One skeleton, many records; ``root`` is the folder that file names are relative to."""

    skeleton: Skeleton
    records: tuple[Record, ...]
    videos: tuple[Video, ...] = ()
    root: str = ""
    info: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Crop:
    """The affine map from image pixels to network input pixels.

    Attributes:
        matrix: (2, 3) float64, ``input = matrix @ (x, y, 1)``.
        size_wh: network input width and height.
    """

    matrix: np.ndarray
    size_wh: tuple[int, int]

    def turned(self, degrees: float) -> Crop:
        """The crop with its content turned clockwise about the middle of the input."""
        angle = np.radians(degrees)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        middle = (np.array(self.size_wh) - 1) / 2
        matrix = turn @ self.matrix
        matrix[:, 2] += middle - turn @ middle
        return Crop(matrix, self.size_wh)

    @cached_property
    def inverse(self) -> np.ndarray:
        """(2, 3) float64: input pixels back to image pixels."""
        ((a, b, x), (c, d, y)) = self.matrix.tolist()
        size = a * d - b * c
        if size == 0:
            raise np.linalg.LinAlgError("a crop that shows nothing has no inverse")
        a, b, c, d = d / size, -b / size, -c / size, a / size
        return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])
