"""Several looks at one person, and what they agree on: how a top-down model takes care over a picture.

A finder's box often cuts a raised arm or a leg. The pose inside tells where the rest must be, so a second look is taken
in a box moved towards it. Many pictures are themselves cut around one person; the whole picture is then a good box, and
the pose found in it a better one. People stand next to people, and a finder gives two who overlap one box: so it is
looked beside those who were found, too. No network sees the same in a picture that is turned a little, so its last
looks are at turned ones. Each joint is put where the looks agree.

Nothing here knows of networks: people with joints go in, boxes and people come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from posecli.codecs.sides import LIMBS, choose
from posecli.geometry import box_iou
from posecli.grouping.pose_nms import oks_matrix
from posecli.types import Instance

__all__ = [
    "TURNS",
    "agreed",
    "around",
    "beside",
    "box_around",
    "boxed",
    "likeness",
    "merged",
    "moved_box",
    "nearer",
    "newcomers",
    "of_boxes",
    "whole_picture_box",
]

TURNS = (
    15.0,
    -15.0,
    30.0,
    -30.0,
)  # degrees by which the last looks' crops are turned; chosen on half of LSPET validation

# Chosen on 450 pictures of LSPET and 145 of COCO, none of them from the validation sets.
_SURE_JOINT = 0.15  # joints below this score have no say in where a box lies
_TOWARDS_POSE = 0.6  # how far the box of the second look moves from the finder's to the pose's
_SAME_PERSON = 0.3  # IoU of a found person's box with the one found in the whole picture
_WHOLE_PICTURE = 1.1  # how much the joint scores of the whole picture's person count against the second look's
_NEARER = 0.875  # size of the last look's box over that around the pose
# The boxes given out meet the labels' of 106 people that were learnt from with a mean IoU of 0.71, those of the looks
# with 0.67; of 38 people never seen 0.71 and 0.65.
_FLESH = 0.06  # how far a person's box reaches beyond its joints, in its longer side
# Where it is looked beside somebody: moved by these shares of the box's width and height, and so many times as large.
_BESIDE = ((0.4, 0.0, 1.0), (-0.4, 0.0, 1.0), (0.0, 0.3, 1.0), (0.0, -0.3, 1.0), (0.0, 0.0, 1.6), (0.0, 0.0, 0.6))
_SMALLEST = 8  # pixels of such a box's shorter side within the picture
_RIGHT = 0.3  # quality from which on somebody seen there is somebody
_APART = 0.5  # and likeness (`likeness`) to everybody else below which it is somebody else
_DOUBT = 0.65  # times the odds of whom it was looked beside
_KNOWN_JOINT = 0.3  # a pose is told from others by joints from this score on
_REACH = 0.1  # joints that lie this share of the person's box apart support each other little (1 / e)
_CROP = 1.25  # size of a look's crop over the person's box, which `codecs.sides` counts distances in

#: Places of a limb's left and right joints, from one end to the other (`codecs.sides.limb_joints`).
Limb = Sequence[tuple[int, int]]


def of_boxes(boxes: np.ndarray, keypoints: int) -> list[Instance]:
    """People of whom only a box (4,) is known, with a certainty of 1, or a box and its score (5,)."""
    boxes = np.asarray(boxes, dtype=np.float64)
    boxes = boxes.reshape(-1, 5 if boxes.shape[-1:] == (5,) else 4)
    nothing = np.full((keypoints, 2), np.nan, np.float32)
    zeros = np.zeros(keypoints)
    scores = np.clip(boxes[:, 4], 0, 1) if boxes.shape[1] == 5 else np.ones(len(boxes))
    return [
        Instance(nothing, zeros.astype(int), zeros.astype(np.float32), float(score), box)
        for box, score in zip(boxes[:, :4], scores, strict=True)
    ]


def whole_picture_box(width: int, height: int, scale: float) -> np.ndarray:
    """(4,) square box x0 y0 x1 y1 in the middle, such that enlarged by ``scale`` it spans the picture's longer side."""
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    half = max(width, height) / (2 * scale)
    return np.concatenate([middle - half, middle + half])


def box_around(pose: Instance, more: float = 0.1) -> np.ndarray | None:
    """(4,) box of the joints found with some certainty, grown by that share of its longer side: flesh around joints."""
    sure = pose.xy[pose.score >= _SURE_JOINT].astype(np.float64)
    if not len(sure):
        return None
    (x0, y0), (x1, y1) = sure.min(0).tolist(), sure.max(0).tolist()
    grown = more * max(x1 - x0, y1 - y0)
    return np.array([x0 - grown, y0 - grown, x1 + grown, y1 + grown])


def moved_box(person: Instance, pose: Instance) -> Instance:
    """The person with its box moved towards the pose found in it; unchanged where no joint is certain."""
    box = box_around(pose)
    if box is None or person.box_xyxy is None:
        return person
    return person.changed(box_xyxy=(1 - _TOWARDS_POSE) * np.asarray(person.box_xyxy) + _TOWARDS_POSE * box)


def around(pose: Instance) -> Instance | None:
    """The person with the box around the pose; None where no joint is certain."""
    box = box_around(pose)
    return None if box is None else replace(pose, box_xyxy=box)


def boxed(person: Instance, width: int, height: int) -> Instance:
    """The person with the box that is given out: around the joints, within the picture. The box of a look, which is to
    show everything of somebody, is larger. Unchanged where no joint is certain or none lies in the picture."""
    box = box_around(person, _FLESH)
    if box is None:
        return person
    box = np.clip(box, -0.5, np.array([width, height, width, height]) - 0.5)
    return person.changed(box_xyxy=box) if (box[2:] > box[:2]).all() else person


def nearer(pose: Instance) -> Instance | None:
    """The person with a tight box around the pose, for a look from nearer by; None where no joint is certain."""
    box = box_around(pose)
    if box is None:
        return None
    middle, half = (box[:2] + box[2:]) / 2, _NEARER * (box[2:] - box[:2]) / 2
    return replace(pose, box_xyxy=np.concatenate([middle - half, middle + half]))


def beside(person: Instance, width: int, height: int) -> list[Instance]:
    """The person with boxes of neighbours whom the finder may have missed, cut off at the picture's edge."""
    box = np.asarray(person.box_xyxy, np.float64)
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
    shares = np.array(_BESIDE)
    centres, halves = middle + shares[:, :2] * 2 * half, shares[:, 2:] * half
    boxes = np.clip(np.hstack([centres - halves, centres + halves]), 0, np.array([width, height, width, height]))
    return [person.changed(box_xyxy=b) for b in boxes if (b[2:] - b[:2]).min() >= _SMALLEST]


def likeness(people: Sequence[Instance], sigmas: Sequence[float]) -> np.ndarray:
    """(N, N) how alike poses are, in [0, 1]: OKS over the joints that the one or the other is sure of, whichever is
    greater. Of somebody whose upper half alone was looked at the legs lie somewhere; they say nothing."""
    if not people:
        return np.zeros((0, 0))
    boxes = np.array([np.asarray(p.box_xyxy) for p in people], np.float64).reshape(-1, 4)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) * 0.53
    joints = np.stack([np.column_stack([p.xy, p.score]) for p in people])
    alike = oks_matrix(joints, areas, sigmas, _KNOWN_JOINT)
    return np.maximum(alike, alike.T)


def newcomers(seen: Sequence[Instance], poses: Sequence[Instance], sigmas: Sequence[float]) -> list[Instance]:
    """Who of those seen beside people is somebody else, best first; with a box around the pose.

    Args:
        seen: looked at in boxes of `beside`, with their quality; their score is that of whom it was looked beside.
        poses: everybody's who was found.
    """
    likely = sorted((p for p in seen if (p.quality or 0.0) >= _RIGHT), key=lambda p: -(p.quality or 0.0))
    there = [p for p in map(around, likely) if p is not None]
    alike = likeness([*poses, *there], sigmas)
    known, new = list(range(len(poses))), []
    for row, pose in enumerate(there, len(poses)):
        if alike[row, known].max(initial=0) < _APART:
            known.append(row)
            odds = _DOUBT * pose.person_score / max(1 - pose.person_score, 1e-9)
            new.append(pose.changed(person_score=odds / (1 + odds)))
    return new


def agreed(looks: Sequence[Instance], limbs: Sequence[Limb] | None = None) -> Instance:
    """The first of the looks with each joint where most of them see it.

    Every look's place for a joint is supported by all looks, by the square of their score for it and by how near they
    put it; the place with the most support wins and is then the mean of its supporters. The joint's score is the root
    of the mean support, so a joint that the looks place apart gets a low one. The pose's quality is the mean of theirs.

    Args:
        looks: at one person.
        limbs: of `codecs.sides.limb_joints`: their joints are decided together as in one look (`codecs.sides`), so that
            looks that exchange the legs don't put both at one place. None: each joint by itself.
    """
    first = looks[0]
    if len(looks) == 1:
        return first
    xy = np.stack([look.xy for look in looks]).astype(np.float64)
    weight = np.stack([look.score for look in looks]).astype(np.float64) ** 2
    side = 1.0 if first.box_xyxy is None else float((first.box_xyxy[2:] - first.box_xyxy[:2]).max())
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1) / (_REACH * max(side, 1.0))
    nearness = np.exp(-(apart**2))  # (look, look, K)
    support = (nearness * weight[None]).sum(1)
    best = support.argmax(0)
    for names, limb in zip(LIMBS if limbs else (), limbs or (), strict=True):
        pairs = [joint for pair in limb for joint in pair]
        places, likely = xy[:, pairs].swapaxes(0, 1), np.sqrt(support[:, pairs].T / len(looks))
        best[pairs] = choose(places[None], likely[None], names, _CROP * max(side, 1.0))[0]
    joints = np.arange(xy.shape[1])
    share = nearness[best, :, joints].T * weight  # (look, K)
    total = share.sum(0)
    place = (share[..., None] * xy).sum(0) / np.maximum(total, 1e-12)[:, None]
    place = np.where(total[:, None] > 0, place, xy[0])
    score = np.sqrt(support[best, joints] / len(looks))
    judged = [look.quality for look in looks if look.quality is not None]
    return replace(
        first,
        xy=place.astype(np.float32),
        score=np.clip(score, 0, 1).astype(np.float32),
        quality=float(np.mean(judged)) if judged else None,
    )


def merged(
    people: Sequence[Instance],
    first: Sequence[Instance],
    second: Sequence[Instance],
    whole: Sequence[Instance],
    limbs: Sequence[Limb] | None = None,
) -> list[Instance]:
    """The people of a picture, each from all looks at them.

    Args:
        people: as the finder gave them, with its certainty.
        first, second: the same people in the same order, as seen in the finder's boxes and in moved ones.
        whole: the person seen in the whole picture, looked at again in a box around that pose; the better look first.
            It never adds a person, since even an empty scene suggests some pose; it refines the likeliest of the
            finder's people at its place.
        limbs: of `agreed`.

    Returns:
        The people, with the score that they came with.
    """
    main = None
    if whole and whole[0].box_xyxy is not None and second:
        overlap = box_iou(np.stack([np.asarray(p.box_xyxy) for p in second]), np.asarray(whole[0].box_xyxy)[None])[:, 0]
        there = [i for i in range(len(second)) if overlap[i] > _SAME_PERSON]
        main = max(there, key=lambda i: second[i].person_score, default=None)
    result = []
    for i, (person, one, two) in enumerate(zip(people, first, second, strict=True)):
        looks = [two, one]
        if i == main:
            better = float(whole[0].score.mean()) * _WHOLE_PICTURE > float(two.score.mean())
            looks = [*whole, two, one] if better else [two, one, whole[0]]
        result.append(replace(agreed(looks, limbs), person_score=person.person_score))
    return result
