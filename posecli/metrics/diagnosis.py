"""What kind of errors cost how much: jitter, inversion, swap, miss, scores, background, people not found.

Source: Ronchi & Perona, Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation, ICCV 2017 (arXiv
1707.05388), and their code matteorr/coco-analyze@a4e679f. People are matched as COCO does at OKS >= 0.1. Each labelled
joint of a matched person is then judged by the keypoint similarity ks = exp(-d^2 / (2 area (2 sigma)^2)) (Sec. 3.1):

    good       ks with its own label >= 0.85 (what two human labellers differ by)
    jitter     0.5 <= ks < 0.85
    inversion  ks < 0.5, but >= 0.5 with the mirrored joint of the same person (the skeleton's flip pairs)
    swap       neither, but >= 0.5 with that joint, or its mirrored one, of another person in the picture
    miss       none of these, or the joint was not predicted

Repairing puts the joint at that distance from its label which means ks 0.85 (jitter), 0.5 (miss), or the ks it had
with the wrong joint (inversion, swap). In the authors' order, each on top of the last: miss, swap, inversion, jitter;
then scores (the best OKS with anybody, lowered for near copies of better ones by soft non-maximum suppression, Sec.
3.2); then detections that still match nobody at an OKS threshold are dropped, then people whom nobody matches: what is
left is perfect. Alone: each by itself on the predictions as they are; background false positives are then those that
match nobody at OKS 0.1, people not found those whom no detection matches at 0.1.

Two habits of their code contradict these definitions and are not followed: it calls a joint by whichever label is most
similar even if it is good by its own, and its repaired distances leave out the 2 of 2 sigma, so that 0.85 becomes 0.96.

For PCK the same words are used with distances: good is the metric's own "correct"; near means within
sqrt(ln 0.5 / ln 0.85) = 2.07 times the threshold; a repaired joint counts as correct.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from posecli.metrics import oks
from posecli.metrics.groups import plain
from posecli.metrics.measures import Side
from posecli.metrics.options import Settings
from posecli.metrics.people import Labels, People, joint_boxes_xywh
from posecli.metrics.shares import pck_length, reference_of

JOINT_ERRORS = ("miss", "swap", "inversion", "jitter")
GOOD, NEAR, MATCHED = 0.85, 0.5, 0.1
PCK_NEAR = float(np.sqrt(np.log(NEAR) / np.log(GOOD)))
_SOFT_NMS = 0.5  # variance of the penalty, as in coco-analyze
_INSIDE = 1e-9  # repaired joints lie just inside, so that rounding does not decide


def diagnose(labels: Labels, side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    """Counts of every kind of error and what the metrics would be without it.

    Returns:
        ``"OKS"`` where people were compared by OKS, ``"PCK"`` where PCK was measured. Each holds ``joints`` (kind to
        count over the labelled joints of matched people), ``by_joint`` (name to the same), ``people``, ``metric``,
        ``value`` as measured, ``in_order`` and ``alone``: kind to the value after repair.
    """
    result: dict[str, Any] = {}
    if side.matches is not None:
        result["OKS"] = _Multi(labels, side, settings, frames_used).result()
    key = next((k for k in side.measures if k.startswith("PCK@")), None)
    if key is not None:
        result["PCK"] = _pck(labels, side, settings, key)
    return result


@dataclass(frozen=True)
class _Joints:
    """The mirrored joint of each compared one, among all of the labels' joints; -1 on the body's middle."""

    own: np.ndarray
    mirrored: np.ndarray

    @classmethod
    def of(cls, labels: Labels, side: Side) -> _Joints:
        own = side.common.label_index
        mirrored = labels.skeleton.flip_index[own]
        return cls(own, np.where(mirrored == own, -1, mirrored))


def _kinds(
    labelled: np.ndarray, good: np.ndarray, near: np.ndarray, mirror: np.ndarray, other: np.ndarray
) -> np.ndarray:
    """(N, J) kind of each joint: "" where it is not labelled. All arguments (N, J) bool."""
    chosen = np.select([good, near, mirror, other], ["good", "jitter", "inversion", "swap"], "miss")
    return np.where(labelled, chosen, "")


def _counts(kinds: np.ndarray, names: list[str]) -> dict[str, Any]:
    def row(part: np.ndarray) -> dict[str, int]:
        return {kind: int((part == kind).sum()) for kind in ("good", *reversed(JOINT_ERRORS))}

    return {"joints": row(kinds), "by_joint": {name: row(kinds[:, j]) for j, name in enumerate(names)}}


class _Multi:
    """The diagnosis by OKS and AP."""

    def __init__(self, labels: Labels, side: Side, settings: Settings, frames_used: np.ndarray) -> None:
        full = labels.people
        self.names = [labels.skeleton.keypoints[i] for i in side.common.label_index]
        self.sigmas = np.asarray(labels.skeleton.sigmas, np.float64)[side.common.label_index]
        area, _ = oks.resolve_areas(full.area, full.has_mask, full.xy, full.visibility, full.box_xywh)
        chosen = np.flatnonzero(frames_used[full.frame]) if len(full) else np.zeros(0, np.int64)
        self.full, self.area = full.take(chosen), area[chosen]
        self.gt = self.full.with_joints(side.common.label_index)
        labelled = (self.gt.visibility > 0).sum(axis=1)
        self.left_out = self.gt.crowd | self.gt.none_stated | (labelled < settings.min_joints) | np.isnan(self.area)
        found = side.predictions.people
        self.is_stream = side.predictions.is_stream
        at = side.partners.partner[found.frame] if len(found) else np.zeros(0, np.int64)
        seen = np.flatnonzero((at >= 0) & frames_used[at]) if len(found) else at
        self.found = found.take(seen).with_joints(side.common.predicted_index) if len(seen) else None
        self.at = at[seen]
        self.joints = _Joints.of(labels, side)

    def result(self) -> dict[str, Any]:
        """See `diagnose`."""
        people = int((~self.left_out).sum())
        if self.found is None or not len(self.gt):
            alarms = 0 if self.found is None else len(oks.kept_detections(self.at, self.found.score)[0])
            nothing = dict.fromkeys((*JOINT_ERRORS, "score", "background_false_positives"), 0.0 if people else None)
            return _counts(np.zeros((0, len(self.names)), "U9"), self.names) | {
                "people": {
                    "matched": 0, "background_false_positives": alarms, "duplicates": 0, "false_negatives": people,
                },
                "metric": "AP",
                "value": 0.0 if people else None,
                "in_order": nothing | {"false_negatives": None},
                "alone": nothing | {"false_negatives": None},
            }  # fmt: skip
        pairs = oks.same_frame_pairs(self.gt.frame, self.at)
        similar = self._similarity(self.found, pairs)
        match = _match(self.at, self.found.score, pairs, similar, self.left_out, self.gt.crowd)
        good = (match >= 0) & ~self.left_out[match]
        kinds, repaired = self._classify(self.found, np.flatnonzero(good), match[good])
        kept = np.zeros(len(match), bool)
        kept[oks.kept_detections(self.at, self.found.score)[0]] = True
        nobody = kept & (match < 0)
        best = np.zeros(len(match))
        np.maximum.at(best, pairs[1], np.where(self.left_out[pairs[0]], 0.0, similar))
        found_people = np.zeros(len(self.gt), bool)
        found_people[match[good]] = True
        value = self._ap(self.found)
        return _counts(kinds, self.names) | {
            "people": {
                "matched": int(good.sum()),
                "background_false_positives": int(nobody.sum()),
                "duplicates": int((nobody & (best >= MATCHED)).sum()),
                "false_negatives": int((~found_people & ~self.left_out).sum()),
            },
            "metric": "AP",
            "value": value,
            "in_order": self._in_order(np.flatnonzero(good), kinds, repaired),
            "alone": {
                kind: self._ap(self._repair(np.flatnonzero(good), kinds, repaired, {kind})) for kind in JOINT_ERRORS
            }
            | {
                "score": self._ap(replace(self.found, score=self._best_scores(self.found))),
                "background_false_positives": self._ap(self.found, without_detections=nobody),
                "false_negatives": self._ap(self.found, without_people=~found_people & ~self.left_out),
            },
        }

    def _similarity(self, found: People, pairs: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        gt, measured = self.gt, oks.measured_by_ap(found.visibility, self.is_stream)
        return oks.oks_of_pairs(*pairs, gt.xy, gt.visibility, gt.box_xywh, self.area, found.xy, measured, self.sigmas)

    def _classify(self, found: People, detection: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, J) kinds, and the similarity each joint is repaired to, of N matched detections."""
        xy = np.where((found.visibility > 0)[..., None], found.xy, np.inf)[detection]

        def similarity(person: np.ndarray, joint: np.ndarray, points: np.ndarray) -> np.ndarray:
            """ks of predicted points with labelled joints; 0 where not labelled. The sigma is that of the own joint."""
            there = (joint >= 0) & (self.full.visibility[person][:, joint] > 0)
            target = np.where(there[..., None], self.full.xy[person][:, joint], 0.0)
            with np.errstate(invalid="ignore", over="ignore", divide="ignore"):  # somebody else may be without an area
                distance = ((points - target) ** 2).sum(axis=-1)
                value = np.exp(-distance / (2 * np.nan_to_num(self.area[person])[:, None] * (2 * self.sigmas) ** 2))
            return np.where(there, np.nan_to_num(value), 0.0)

        own = similarity(label, self.joints.own, xy)
        mirror = similarity(label, self.joints.mirrored, xy)
        other = np.zeros_like(own)
        one, two = oks.same_frame_pairs(self.gt.frame[label], self.gt.frame)
        apart = label[one] != two
        one, two = one[apart], two[apart]
        for joint in (self.joints.own, self.joints.mirrored):
            np.maximum.at(other, one, similarity(two, joint, xy[one]))
        kinds = _kinds(self.gt.visibility[label] > 0, own >= GOOD, own >= NEAR, mirror >= NEAR, other >= NEAR)
        target = np.select(
            [kinds == "miss", kinds == "jitter", kinds == "inversion", kinds == "swap"],
            [NEAR, GOOD, mirror, other],
            1.0,
        )
        offset = 2 * self.sigmas * np.sqrt(-2 * np.log(np.minimum(target + _INSIDE, 1.0)) * self.area[label][:, None])
        goal = self.gt.xy[label].copy()
        goal[..., 0] += offset
        return kinds, goal

    def _repair(self, detection: np.ndarray, kinds: np.ndarray, goal: np.ndarray, which: set[str]) -> People:
        """The predictions with the joints of these kinds put right."""
        assert self.found is not None
        xy, visibility = self.found.xy.copy(), self.found.visibility.copy()
        chosen = np.isin(kinds, sorted(which))
        xy[detection] = np.where(chosen[..., None], goal, xy[detection])
        visibility[detection] = np.where(chosen, 2, visibility[detection])
        return replace(self.found, xy=xy, visibility=visibility)

    def _in_order(self, detection: np.ndarray, kinds: np.ndarray, goal: np.ndarray) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        done: set[str] = set()
        people = self._repair(detection, kinds, goal, done)
        for kind in JOINT_ERRORS:
            done.add(kind)
            people = self._repair(detection, kinds, goal, done)
            values[kind] = self._ap(people)
        people = replace(people, score=self._best_scores(people))
        values["score"] = self._ap(people)
        matches = self._matches(people)
        clean = replace(matches, ignored=matches.ignored | ~matches.matched)
        values["background_false_positives"] = _ap_of(clean)
        true = (clean.matched & ~clean.ignored)[0].any(axis=1)
        # Without the people nobody matches every match is a true one: precision and recall are 1.
        values["false_negatives"] = 1.0 if true.any() else None
        return values

    def _best_scores(self, people: People) -> np.ndarray:
        """(D,) scores that sort the detections best: OKS with the likeliest person, near copies last (Sec. 3.2)."""
        pairs = oks.same_frame_pairs(self.gt.frame, self.at)
        best = np.zeros(len(self.at))
        np.maximum.at(best, pairs[1], np.where(self.left_out[pairs[0]], 0.0, self._similarity(people, pairs)))
        box = joint_boxes_xywh(people.xy, people.visibility)
        area = np.nan_to_num(box[:, 2] * box[:, 3])
        order = np.argsort(self.at, kind="stable")
        score = best.copy()
        for mine in np.split(order, np.flatnonzero(np.diff(self.at[order])) + 1):
            waiting = mine
            while len(waiting) > 1:
                top = waiting[np.argmax(score[waiting])]
                waiting = waiting[waiting != top]
                both = (people.visibility[waiting] > 0) & (people.visibility[top] > 0)
                distance = ((people.xy[waiting] - people.xy[top]) ** 2).sum(axis=-1)
                size = (area[waiting] + area[top])[:, None] / 2 + np.spacing(1)
                alike = np.where(both, np.exp(-distance / (2 * size * (2 * self.sigmas) ** 2)), 0.0)
                score[waiting] *= np.exp(-((alike.sum(axis=1) / np.maximum(both.sum(axis=1), 1)) ** 2) / _SOFT_NMS)
        return score

    def _matches(
        self, people: People, without_detections: np.ndarray | None = None, without_people: np.ndarray | None = None
    ) -> oks.Matches:
        gone = np.zeros(len(self.gt), bool) if without_people is None else without_people
        at = self.at if without_detections is None else np.where(without_detections, -1, self.at)
        pairs = oks.same_frame_pairs(np.where(gone, -2, self.gt.frame), at)
        return oks.match_coco(
            self.gt.frame, self.area, self.left_out | gone, self.gt.crowd, at, people.score, people.area,
            (*pairs, self._similarity(people, pairs)), ranges={"all": oks.AREA_RANGES["all"]},
        )  # fmt: skip

    def _ap(self, people: People, **without: np.ndarray) -> float | None:
        return _ap_of(self._matches(people, **without))


def _ap_of(matches: oks.Matches) -> float | None:
    """AP over all sizes; None where no person counts."""
    value = float(oks.precision_recall(matches, "all")[0].mean())
    return None if value < 0 else value


def _match(
    at: np.ndarray,
    score: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray],
    similar: np.ndarray,
    left_out: np.ndarray,
    crowd: np.ndarray,
) -> np.ndarray:
    """(D,) label of each detection by COCO's rule at OKS >= 0.1, counted people before others; -1 for nobody."""
    match = np.full(len(at), -1, np.int64)
    kept = oks.kept_detections(at, score)[0]
    place = np.full(len(at), -1, np.int64)
    place[kept] = np.arange(len(kept))
    use = (similar >= MATCHED) & (place[pairs[1]] >= 0)
    label, detection, value = pairs[0][use], pairs[1][use], similar[use]
    order = np.lexsort((-label, -value, left_out[label], place[detection]))
    taken: set[int] = set()
    for g, d in zip(label[order].tolist(), detection[order].tolist(), strict=True):
        if match[d] < 0 and g not in taken:
            match[d] = g
            if not crowd[g]:
                taken.add(g)
    return match


def _pck(labels: Labels, side: Side, settings: Settings, key: str) -> dict[str, Any]:
    """The same kinds for people paired one to one, by distances in units of PCK's reference."""
    measure, joints = side.measures[key], _Joints.of(labels, side)
    full, found = labels.people, side.predictions.people
    # Of several references only pixels, or the one that is none, give a measure called PCK@.
    kind = "pixels" if key.endswith("px") else next(k for k in settings.pck_references if k != "pixels")
    threshold = settings.thresholds["pixels" if kind == "pixels" else "pck"][0]
    length = reference_of(full, labels.skeleton, settings, kind).length.copy()
    length[side.rows] = pck_length(side.paired, settings, kind).length  # what "correct" was measured by
    usable = measure.valid.any(axis=1)
    paired = np.flatnonzero(usable & (side.partner >= 0))
    person, prediction = side.rows[paired], side.partner[paired]
    points = np.where((found.visibility > 0)[..., None], found.xy, np.inf)[prediction][:, side.common.predicted_index]

    def near(who: np.ndarray, joint: np.ndarray, xy: np.ndarray) -> np.ndarray:
        there = (joint >= 0) & (full.visibility[who][:, joint] > 0)
        target = np.where(there[..., None], full.xy[who][:, joint], 0.0)
        limit = PCK_NEAR * threshold * length[who][:, None]
        return there & (np.hypot(*np.moveaxis(xy - target, -1, 0)) <= limit)

    other = np.zeros(points.shape[:2], bool)
    one, two = oks.same_frame_pairs(full.frame[person], full.frame)
    apart = person[one] != two
    one, two = one[apart], two[apart]
    for joint in (joints.own, joints.mirrored):
        np.logical_or.at(other, one, near(two, joint, points[one]))
    valid = measure.valid[paired]
    kinds = _kinds(
        valid, measure.hit[paired] > 0, near(person, joints.own, points), near(person, joints.mirrored, points), other
    )
    total = int(measure.valid.sum())
    counted = _counts(kinds, list(measure.columns))
    gains = {kind: counted["joints"][kind] for kind in JOINT_ERRORS}
    gains["false_negatives"] = int(measure.valid[usable & (side.partner < 0)].sum())
    right = counted["joints"]["good"]
    running = np.cumsum(list(gains.values()))
    share = plain(right / total) if total else None
    return counted | {
        "people": {"matched": len(paired), "false_negatives": int((usable & (side.partner < 0)).sum())},
        "metric": key,
        "value": share,
        "in_order": {k: (right + int(r)) / total if total else None for k, r in zip(gains, running, strict=True)},
        "alone": {k: (right + n) / total if total else None for k, n in gains.items()},
    }
