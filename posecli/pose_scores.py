"""How sure a top-down model is of a person, and which of its poses show the same one.

The box says how sure it is that somebody is there, the joints how well they are seen; the papers multiply the two.
HRNet and SimpleBaseline count joints above 0.2 only and then drop poses too like a better one, since boxes that overlap
little enough for a detector often give one pose twice (leoxiaobin/deep-high-resolution-net.pytorch@6f69e46,
`lib/dataset/coco.py`, `evaluate`; microsoft/human-pose-estimation.pytorch@49f3f44 has the same lines, with
`TEST.OKS_THRE` 0.9 and `TEST.IN_VIS_THRE` 0.2).

A model with a finder of its own may say what its scores are worth: `Judgement` turns them into a probability.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posecli.checkpoint import ModelMeta
from posecli.codecs.top_down import CODECS
from posecli.errors import PoseError
from posecli.grouping.pose_nms import hrnet_pose_score, oks_nms, soft_oks_nms
from posecli.readout import PredictOptions
from posecli.types import Crop, Instance

#: Joint scores above this are "sure" (`TEST.IN_VIS_THRE`).
SURE = 0.2
#: OKS above which two poses are one person's (`TEST.OKS_THRE`).
SAME_POSE = 0.9


def rules(meta: ModelMeta, options: PredictOptions) -> tuple[str, float]:
    """``(person_score, pose_nms)`` of a top-down model: as chosen, else as the weights say, else by what it learnt."""
    of_maps = meta.codec not in CODECS or CODECS[meta.codec].learns != "logits"
    score = options.person_score or str(meta.extra.get("person_score", "sure" if of_maps else "mean"))
    usual = meta.extra.get("pose_nms", SAME_POSE if of_maps else 1.0)
    return score, float(usual) if options.pose_nms is None else options.pose_nms


def joints_score(scores: np.ndarray, rule: str) -> float:
    """What a pose's joint scores (K,) in [0, 1] say of the whole person, [0, 1].

    Args:
        rule: "mean" of all, or "sure": the mean of those above `SURE`. Where none is, the official code gives 0 and
            keeps the person; here it is the mean of all then, lower than any with a sure joint, so that the order
            among such people is not lost.
    """
    sure = hrnet_pose_score(1.0, scores, SURE) if rule == "sure" else 0.0
    return sure or float(np.mean(scores))


@dataclass(frozen=True)
class Judgement:
    """The probability that somebody is where a finder and then a top-down network say so.

    A logistic regression (Platt, "Probabilistic Outputs for Support Vector Machines", 1999) on the logarithm of

        s = certainty^`certainty` * seen * size^`size`

    with the finder's certainty, what the top-down network saw, and the longer side of the person's box over that of the
    largest person who is about as certain. Sizes are compared within a picture: what a picture is about is large in it,
    but a single large thing in an empty one is no likelier to be a person for that.

    What was seen is the mean joint score, or, of networks that judge their own poses, the odds that the pose is right
    (`models.fpn.JudgedOutput`).

    Attributes:
        steepness, bias: ``probability = 1 / (1 + exp(-(steepness * log(s) + bias)))``.
        certainty, size: exponents.
        full: what counts as seen perfectly; more adds nothing.
        rival: share of the best certainty from which on a person's size is one to compare with.
        by: "joints" or "quality": which of the two is what was seen.
        least: certainty below which nobody is looked at in a video, where crops cost time.
    """

    steepness: float = 1.0
    bias: float = 0.0
    certainty: float = 0.5
    size: float = 0.25
    full: float = 0.75
    rival: float = 0.5
    by: str = "joints"
    least: float = 0.0

    def __post_init__(self) -> None:
        if self.by not in ("joints", "quality"):
            raise PoseError(f"a judgement by {self.by!r}", hint="joints or quality")

    @classmethod
    def of(cls, meta: ModelMeta) -> Judgement | None:
        """What the weights state under ``judgement``; None where they state nothing."""
        stated: Mapping[str, Any] | None = meta.extra.get("judgement")
        if stated is None:
            return None
        numbers: dict[str, Any] = {name: float(value) for name, value in stated.items() if name != "by"}
        return replace(cls(**numbers), by=str(stated.get("by", cls.by)))

    def found(self, people: Sequence[Instance]) -> list[Instance]:
        """A picture's people as a finder gave them, with the probability that they have if they are seen perfectly.
        People without a box keep their score."""
        boxes = np.array([np.full(4, np.nan) if p.box_xyxy is None else p.box_xyxy for p in people], float)
        if not len(boxes):
            return []
        side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(1), 1e-6)
        sure = np.array([p.person_score for p in people], float)
        rivals = side[(sure >= self.rival * sure.max()) & np.isfinite(side)]
        share = np.minimum(side / rivals.max(), 1.0) if len(rivals) else np.full(len(side), np.nan)
        with np.errstate(divide="ignore"):
            log = self.certainty * np.log(sure) + self.size * np.log(share) + np.log(self.full)
        chance = 1 / (1 + np.exp(-np.clip(self.steepness * log + self.bias, -50, 50)))
        return [replace(p, person_score=float(c)) if np.isfinite(c) else p for p, c in zip(people, chance, strict=True)]

    def seen(self, found: float, joints: float, quality: float | None = None) -> float:
        """The probability of `found` after a look, never more than before, from the mean joint score or, where that
        counts, the probability in [0, 1] that the pose is right.

        Raises:
            ValueError: the quality counts, and there is none.
        """
        seen = joints
        if self.by == "quality":
            if quality is None:
                raise ValueError("a judgement by quality of a pose without one")
            seen = quality / max(1 - quality, 1e-9)
        odds = min(max(found, 1e-9), 1 - 1e-9)
        odds = odds / (1 - odds) * min(max(seen / self.full, 1e-6), 1.0) ** self.steepness
        return odds / (1 + odds)


def crop_area(crop: Crop) -> float:
    """Square picture pixels that a crop shows: the size that the official suppression gives a person."""
    return float(abs(np.linalg.det(crop.inverse[:2, :2])) * np.prod(crop.size_wh))


def suppressed(
    people: Sequence[Instance], areas: Sequence[float], sigmas: Sequence[float], threshold: float, soft: bool = False
) -> list[Instance]:
    """One picture's people without those whose pose is too like a better one's, best first.

    Args:
        areas: square pixels of each, see `crop_area`.
        sigmas: of the skeleton; without any nobody is dropped, and so with a ``threshold`` of 1.
        threshold: an OKS.
        soft: lower the scores of such poses instead of dropping them.
    """
    if len(people) < 2 or not sigmas or (threshold >= 1 and not soft):
        return list(people)
    keypoints = np.stack([np.column_stack([p.xy, p.score]) for p in people])
    scores = np.array([p.person_score for p in people], np.float64)
    if soft:
        kept, lowered = soft_oks_nms(keypoints, scores, np.array(areas), sigmas, threshold, max_poses=len(people))
        return [replace(people[i], person_score=float(s)) for i, s in zip(kept, lowered, strict=True)]
    return [people[i] for i in oks_nms(keypoints, scores, np.array(areas), sigmas, threshold)]
