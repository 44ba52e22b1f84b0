"""From a network's maps to people: which crop a codec wants, how its maps are averaged with mirrored ones, how read.

`TOP_DOWN` and `BOTTOM_UP` map the codec's name in the model description to these functions; the arithmetic is in
`posecli.codecs` and `posecli.grouping`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from posecli.checkpoint import ModelMeta
from posecli.codecs import affine
from posecli.codecs.background import drop_background
from posecli.codecs.boxes import decode_people, merge_scales
from posecli.codecs.cascade import decode_cascade, merge_mirrored
from posecli.codecs.coords import PLACES, decode_places
from posecli.codecs.dark import decode_dark, smoothing
from posecli.codecs.gaussian import average_flipped, mirror_heatmap
from posecli.codecs.integral import distribution
from posecli.codecs.sides import SIDES, decode_sides, limb_joints
from posecli.codecs.softmax import decode_local_mean, decode_softmax
from posecli.codecs.top_down import CASCADE, CODECS, teacher, to_input
from posecli.codecs.udp import decode_udp
from posecli.errors import PoseError, UsageError
from posecli.geometry import box_xyxy_to_xywh, crop_from_box, fit_picture, is_narrow
from posecli.grouping import dekr
from posecli.types import Crop


@dataclass(frozen=True)
class PredictOptions:
    """How a model is run, apart from its weights.

    Attributes:
        flip_test: also run the mirrored input and average, for twice the time. None: as the weights' description says.
        second_look: pictures, top-down models with a finder: each person is looked at again in a box corrected by the
            first pose, the likeliest one also in the whole picture, and joints go where the looks agree (`looks`).
            Costs twice the crops; not done in videos.
        scales: of the picture, bottom-up models only; several are merged.
        max_persons: people kept in a picture, the best first.
        min_score: people below this score are dropped (a low floor; the display threshold is another thing).
        batch: crops or pictures that go through a network together.
        filled: batches that are not full are filled with copies of their last picture, so that the network always sees
            the same shape and what it says of a picture does not depend on how many there are beside it.
        precision: one of `posecli.running.PRECISIONS`.
        codec: reads the maps of a top-down model (a name of `TOP_DOWN`; of a cascade the coarse ones). None: the one
            that taught it, but "sides" for one of "softmax" that knows arms and legs.
        person_score: top-down models: what joints add to the score of a person's box: "mean" (times the mean joint
            score) or "sure" (times the mean of the scores above 0.2). None: as the weights say, else "mean" for
            distributions and "sure" for heat maps, as HRNet does.
        pose_nms: top-down models: poses with a larger OKS to a better one are dropped; 1: none are. None: as the
            weights say, else 1 for distributions and 0.9 for heat maps.
        soft_nms: lower such poses' scores instead of dropping them.
    """

    flip_test: bool | None = None
    second_look: bool = True
    scales: tuple[float, ...] = (1.0,)
    max_persons: int = 30
    min_score: float = 0.0
    batch: int = 32
    filled: bool = False
    precision: str = "auto"
    codec: str | None = None
    person_score: str | None = None
    pose_nms: float | None = None
    soft_nms: bool = False

    def __post_init__(self) -> None:
        if not all(scale > 0 for scale in self.scales):
            raise UsageError(f"a scale of {min(self.scales):g}", hint="more than 0, e.g. --scales 0.5,1,2")
        if self.person_score not in (None, "mean", "sure"):
            raise UsageError(f"unknown person score {self.person_score!r}", hint="mean or sure")
        if self.pose_nms is not None and not 0 < self.pose_nms <= 1:
            raise UsageError(f"pose suppression at an OKS of {self.pose_nms:g}", hint="more than 0, at most 1")


@dataclass(frozen=True)
class Person:
    """One decoded person in network input pixels.

    Attributes:
        xy: (K, 2). score: (K,) in [0, 1]. person_score: [0, 1]. box_xyxy: (4,) or None. heat: local NMS score or None.
    """

    xy: np.ndarray
    score: np.ndarray
    person_score: float
    box_xyxy: np.ndarray | None = None
    heat: float | None = None


@dataclass(frozen=True)
class TopDown:
    """How a top-down codec crops a box (4,) and reads a batch of maps, plain and mirrored (or None).

    Attributes:
        crop: (box, meta) to the crop.
        decode: (maps, mirrored maps, meta) to places and scores; of one that ``remembers`` with a fourth argument,
            where the joints of each person are expected, or None (``before`` of `codecs.sides.decode_sides`).
        remembers: whether it makes use of that.
    """

    crop: Callable[[np.ndarray, ModelMeta], Crop]
    decode: Callable[..., tuple[Tensor, Tensor]]
    remembers: bool = False


@dataclass(frozen=True)
class BottomUp:
    """How a bottom-up codec scales pictures and turns the maps of all scales into people.

    Attributes:
        crop: (width, height, scale, all scales, meta) to the crop of the whole picture.
        mirror: input tensor (B, 3, h, w) to the mirrored one that its flip test wants.
        decode: (outputs by scale, mirrored outputs by scale or [], options, meta) to the people of each picture, in
            input pixels of the reference scale.
        reference_scale: index of that scale.
        multi_scale: whether several scales can be merged.
        padded: whether crops may be larger on the right and below than they need be.
    """

    crop: Callable[[int, int, float, Sequence[float], ModelMeta], Crop]
    mirror: Callable[[Tensor, ModelMeta], Tensor]
    decode: Callable[[Sequence[Any], Sequence[Any], PredictOptions, ModelMeta], list[list[Person]]]
    reference_scale: Callable[[tuple[float, ...]], int]
    multi_scale: bool
    padded: bool = False


def narrow_inputs(meta: ModelMeta) -> list[tuple[tuple[int, int], float, float]]:
    """The inputs for boxes longer than wide that weights state (``extra["narrow"]``: one, or a list of them): each
    its ``size`` for upright boxes (turned for lying ones); its ``ratio``, the shorter side over the longer up to which
    it is taken; its ``side``, the longer side in pixels from which on it is.

    Raises:
        PoseError: weights that say it wrongly.
    """
    narrow = meta.extra.get("narrow")
    if narrow is None:
        return []
    try:
        found = []
        for one in narrow if isinstance(narrow, list) else [narrow]:
            width, height = (int(n) for n in one["size"])
            if min(width, height) < 1:
                raise ValueError
            found.append(((width, height), float(one["ratio"]), float(one["side"])))
        return found
    except (TypeError, KeyError, ValueError, OverflowError):
        raise PoseError(f"narrow {narrow!r}", meta.architecture, "size, a pair of whole numbers; ratio; side") from None


def size_for(box: np.ndarray, meta: ModelMeta) -> tuple[int, int]:
    """Width and height of the input in which a top-down network looks at a box (4,) corners in pixels.

    The weights' own, but for boxes much longer than wide where the weights say so (`narrow_inputs`): a square crop
    shows mostly what is beside somebody who stands, in an input of the person's shape the same number of pixels shows
    more of the person. Of several inputs for a box the one is taken that is for the largest people.

    Raises:
        PoseError: weights that say it wrongly.
    """
    across, along = float(box[2] - box[0]), float(box[3] - box[1])
    longer, least = max(across, along), -math.inf
    chosen = meta.input_size
    for size, ratio, side in narrow_inputs(meta):
        if longer >= side > least and is_narrow(box, ratio):
            chosen, least = size if along >= across else (size[1], size[0]), side
    return chosen


def together(boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], meta: ModelMeta) -> list[tuple[int, int]]:
    """The sizes of `size_for` for the boxes of one picture, made the same where little is lost by it: each size is a
    call of the network, which takes as long as three people. People join the most frequent size (of two, the other than
    the weights' own) if that is the weights' own, or if it shows them as large as their own."""
    if len(set(sizes)) < 2:
        return list(sizes)
    best = max(sizes, key=lambda size: (sizes.count(size), size != meta.input_size))

    def reduced(box: np.ndarray, size: tuple[int, int]) -> float:
        return max(float(box[2] - box[0]) / size[0], float(box[3] - box[1]) / size[1])

    return [
        best if best == meta.input_size or reduced(box, best) <= 1.001 * reduced(box, own) else own
        for box, own in zip(boxes, sizes, strict=True)
    ]


def _box_crop(box: np.ndarray, meta: ModelMeta) -> Crop:
    """The crop of a box (4,) corners as the weights were trained with it (``extra["convention"]``)."""
    scale = float(meta.extra.get("box_scale", 1.25))
    matrix = {"hrnet": affine.hrnet_matrix, "dark": affine.dark_matrix}.get(str(meta.extra.get("convention")))
    if matrix is None:
        return crop_from_box(box, meta.input_size, scale)
    width, height = meta.input_size
    centre, size = affine.box_to_center_scale(box_xyxy_to_xywh(box), width / height, scale)
    return Crop(matrix(centre, size, meta.input_size), meta.input_size)


def _read_softmax(output: Any, mirrored: Any, meta: ModelMeta) -> tuple[Tensor, Tensor]:
    logits = _joint_logits(output, mirrored, meta)
    return decode_softmax(logits, meta.input_size[1] // logits.shape[2], _reach(meta))


def _read_sides(output: Any, mirrored: Any, meta: ModelMeta, before: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    limbs = limb_joints(meta.skeleton.keypoints)
    assert limbs is not None
    logits = _joint_logits(output, mirrored, meta)
    return decode_sides(logits, meta.input_size[1] // logits.shape[2], limbs, _reach(meta), before)


def _joint_logits(output: Any, mirrored: Any, meta: ModelMeta) -> Tensor:
    """(B, K, h, w) of the joints' distributions; with mirrored ones of the mean of both."""
    logits = output.heatmap.float()
    if mirrored is None:
        return logits
    both = torch.stack([logits, mirror_heatmap(mirrored.heatmap.float(), meta.skeleton.flip_index)])
    return torch.logsumexp(both.flatten(3).log_softmax(3), 0).view_as(logits)


def _reach(meta: ModelMeta) -> int:
    """How far around the highest pixel counts: so far that the scores are right as often as they say."""
    reach = meta.extra.get("reach", 2)
    if not isinstance(reach, int) or not 1 <= reach <= 16:
        raise PoseError(f"reach {reach!r}", meta.architecture, "a whole number of map pixels, 1 to 16")
    return reach


def _read_heatmap(name: str, output: Any, mirrored: Any, meta: ModelMeta) -> Any:
    """The maps of a network, whatever taught it, read by the codec `name`."""
    if name == meta.codec == "softmax":
        return _read_softmax(output, mirrored, meta)
    taught, reading = teacher(meta.codec), CODECS[name]
    maps = _joint_maps(output, meta)
    if mirrored is not None:
        shift = bool(meta.extra.get("flip_shift", taught.grid == "corner"))
        maps = average_flipped(maps, _joint_maps(mirrored, meta), meta.skeleton.flip_index, shift)
    if name in ("dark", "udp") and "sigma" in meta.extra:
        # Both smooth the maps, as far as the targets are wide.
        decode = {"dark": decode_dark, "udp": decode_udp}[name]
        xy, score = decode(maps, smoothing(float(meta.extra["sigma"])))
    else:
        xy, score = reading.decode(maps)
    if taught.learns == "logits":
        score = decode_local_mean(maps)[1]
    elif name == "softmax":
        score = maps.flatten(2).amax(-1)
    # DARK's convention maps first and last pixels onto each other. Some official code means the middle of the pixels
    # that a map pixel was made from (`map_offset` 0.5).
    grid = "ends" if meta.extra.get("convention") == "dark" else taught.grid
    xy = to_input(xy + float(meta.extra.get("map_offset", 0.0)), grid, meta.input_size, (maps.shape[3], maps.shape[2]))
    # `peak`: the height of the targets that the network learnt, 255 in some official code.
    return xy, score / float(meta.extra.get("peak", 1.0))


def _joint_maps(output: Any, meta: ModelMeta) -> Tensor:
    """The joints' maps (B, K, h, w): of logits the distributions; without the background's where there is one."""
    maps, place = output.heatmap.float(), meta.extra.get("background")
    maps = drop_background(maps, str(place)) if place else maps
    if teacher(meta.codec).learns != "logits":
        return maps
    return distribution(maps, "softmax", float(meta.extra.get("beta", 1.0)))


def _read_cascade(output: Any, mirrored: Any, meta: ModelMeta) -> tuple[Tensor, Tensor]:
    found = decode_cascade(*output)
    if mirrored is None:
        return found
    turned = decode_cascade(*mirrored)
    return merge_mirrored(found, turned, meta.skeleton.flip_index, meta.input_size[0], output.fine.shape[-1])


def _read_coordinates(output: Any, mirrored: Any, meta: ModelMeta) -> tuple[Tensor, Tensor]:
    """Places after the last stage; nothing tells how sure they are, so every score is 1."""
    # Some official code counts shares of the picture from its first pixel on.
    read = partial(decode_places, size=meta.input_size, corner=meta.extra.get("places") == "corner")
    xy = read(output.places[:, -1].float())
    if mirrored is not None:
        turned = read(mirrored.places[:, -1].float())[:, meta.skeleton.flip_index]
        xy = (xy + torch.stack([meta.input_size[0] - 1 - turned[..., 0], turned[..., 1]], dim=-1)) / 2
    return xy, torch.ones_like(xy[..., 0])


def read_quality(output: Any, mirrored: Any) -> Tensor | None:
    """(B,) in [0, 1]: how likely each crop's pose is right, where the network says so (`models.fpn.JudgedOutput`)."""
    logits = getattr(output, "quality", None)
    if logits is None:
        return None
    return torch.sigmoid(logits.float() if mirrored is None else (logits.float() + mirrored.quality.float()) / 2)


TOP_DOWN: dict[str, TopDown] = {
    **{name: TopDown(_box_crop, partial(_read_heatmap, name)) for name in CODECS},
    SIDES: TopDown(_box_crop, _read_sides, remembers=True),
    CASCADE: TopDown(_box_crop, _read_cascade),
    PLACES: TopDown(_box_crop, _read_coordinates),
}


def reading(meta: ModelMeta, codec: str | None) -> TopDown:
    """How a top-down network's maps are read: as asked for, else as they were taught; distributions of a whole body's
    joints with both sides together (`codecs.sides`)."""
    return TOP_DOWN[SIDES if reads_sides(meta, codec) else codec or meta.codec]


def reads_sides(meta: ModelMeta, codec: str | None) -> bool:
    """Whether `reading` is the one of `codecs.sides`."""
    return codec == SIDES if codec else can_read_sides(meta)


def can_read_sides(meta: ModelMeta) -> bool:
    """Whether maps are distributions, and of joints that `codecs.sides` knows."""
    return meta.codec == "softmax" and limb_joints(meta.skeleton.keypoints) is not None


def _fitted(width: int, height: int, scale: float, scales: Sequence[float], meta: ModelMeta) -> Crop:
    return fit_picture(width, height, round(meta.input_size[0] * scale), 32)


# Within one look only near copies are dropped: the rest vote where the box lies.
_ONE_LOOK_OVERLAP = 0.9


def _people_stride(meta: ModelMeta) -> int:
    return int(meta.extra.get("stride", 8))


def _read_people(outputs: Any, mirrored: Any, options: PredictOptions, meta: ModelMeta) -> list[list[Person]]:
    extra = meta.extra
    overlap = float(extra.get("overlap", 0.6))
    # The longer side of the picture at each scale, the finest first.
    sides = [round(meta.input_size[0] * scale) for scale in options.scales]
    order = sorted(range(len(sides)), key=lambda s: -sides[s])
    if mirrored:
        flip_index = meta.skeleton.flip_index
        outputs = [dekr.average_flipped(a, b, flip_index) for a, b in zip(outputs, mirrored, strict=True)]
    looks = [
        decode_people(
            outputs[s].heatmap,
            outputs[s].offset,
            outputs[s].box,
            _people_stride(meta),
            floor=float(extra.get("floor", 0.05)),
            overlap=_ONE_LOOK_OVERLAP,
            most=max(50, options.max_persons),
            reach=float(extra.get("peak_reach", 0.0)),
        )
        for s in order
    ]
    smallest, largest = extra.get("trusted", (0.0, math.inf))
    reference = sides[_first_one(options.scales)]
    found = [
        merge_scales(
            [look[n] for look in looks],
            [reference / sides[s] for s in order],
            smallest=float(smallest),
            largest=float(largest),
            overlap=overlap,
            inside=float(extra.get("inside", 1.0)),
        )
        for n in range(len(looks[0]))
    ]
    return [
        [
            Person(
                people.xy[n],
                people.joint_scores[n],
                # As DEKR's own reading has it: limbs that are not there tell a chair from a person.
                float(people.scores[n] * (people.heat[n] if extra.get("heat_counts") else 1.0)),
                people.boxes_xyxy[n],
                float(people.heat[n]),
            )
            for n in range(len(people.scores))
        ]
        for people in found
    ]


def _first_one(scales: Sequence[float]) -> int:
    return list(scales).index(1.0)


def _dekr_crop(width: int, height: int, scale: float, scales: Sequence[float], meta: ModelMeta) -> Crop:
    # The official test measures all scales from scale 1. At others than 1/2, 1, 2 the size may be none that the network
    # takes: the input is then padded on the right and below. A picture's shorter side is as long as it was in training.
    size, centre, extent = affine.dekr_test_geometry((height, width), min(meta.input_size), scale)
    matrix = affine.hrnet_matrix(centre, extent, size)
    return Crop(matrix, (-(-size[0] // 32) * 32, -(-size[1] // 32) * 32))


def _read_dekr(outputs: Any, mirrored: Any, options: PredictOptions, meta: ModelMeta) -> list[list[Person]]:
    if mirrored:
        flip_index = meta.skeleton.flip_index
        outputs = [dekr.average_flipped(a, b, flip_index) for a, b in zip(outputs, mirrored, strict=True)]
    chosen = {"nms_joints": dekr.nms_joints_for(meta.skeleton.num_keypoints), **meta.extra.get("decode", {})}
    settings = dekr.DekrSettings(**{**chosen, "max_people": options.max_persons})
    return [
        [
            Person(
                xy=people.xy[n].numpy(),
                score=people.score[n].numpy(),
                person_score=float(people.person_score[n]),
                box_xyxy=None if people.box_xyxy is None else people.box_xyxy[n].numpy(),
                heat=float(people.heat[n]),
            )
            for n in range(len(people.xy))
        ]
        for people in dekr.decode_dekr(outputs, settings, options.scales)
    ]


BOTTOM_UP: dict[str, BottomUp] = {
    "dekr": BottomUp(
        _dekr_crop, lambda batch, meta: dekr.mirrored_input(batch), _read_dekr, _first_one, multi_scale=True
    ),
    "people": BottomUp(
        _fitted,
        lambda batch, meta: dekr.mirrored_input(batch, _people_stride(meta)),
        _read_people,
        _first_one,
        multi_scale=True,
        padded=True,
    ),
}
