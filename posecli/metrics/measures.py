"""One prediction file against the labels: every metric as sums and counts per person, gathered in a `Side`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posecli.metrics import oks, pck, shares
from posecli.metrics.crowdpose import counts_for_crowdpose, crowdpose_areas
from posecli.metrics.local_score import counted_people
from posecli.metrics.options import Settings
from posecli.metrics.pairing import (
    CommonJoints,
    FramePartners,
    contradictions,
    iou_of_pairs,
    pair_people,
    person_boxes,
    sub_skeleton,
)
from posecli.metrics.people import Labels, People, Predictions
from posecli.metrics.sequences import PEOPLE_METRICS, TRACKING_METRICS, Tracked, track_sides
from posecli.metrics.side import Measure, Paired, SequenceSums, Side
from posecli.types import Skeleton

__all__ = ["Measure", "Paired", "SequenceSums", "Side", "measure_side"]


def measure_side(
    labels: Labels,
    predictions: Predictions,
    common: CommonJoints,
    partners: FramePartners,
    settings: Settings,
    frames_used: np.ndarray,
) -> Side:
    """All measures of one prediction file."""
    scene = _Scene(labels, predictions, common, partners, settings, frames_used)
    partner, without_size = _partners(scene)
    paired = _paired(labels, common, scene.skeleton, scene.gt, scene.found, scene.rows, partner, settings)
    side = Side(
        scene.predictions, partners, {}, None, labels.people.track[scene.rows], scene.gt.frame[scene.rows], scene.rows,
        partner, common, labels.frames.video, paired, crowd_index=labels.frames.crowd_index,
    )  # fmt: skip
    side.notes += [*predictions.notes, *contradictions(labels.frames, predictions.frames, partners.partner)]
    flagged = int((scene.gt.ignore & ~scene.gt.crowd & scene.here).sum())
    if flagged and {"oks", "crowdpose"} & set(settings.metrics):
        side.notes.append(
            f"{flagged} people are flagged ignore, not iscrowd: AP counts them, as pycocotools does; the rest does not"
        )
    unstated = int((scene.gt.none_stated & scene.counted & scene.here).sum())
    if unstated and {"oks", "crowdpose"} & set(settings.metrics):
        side.notes.append(
            f"{unstated} people have num_keypoints 0 and labelled joints: AP ignores them, as pycocotools does; the "
            "rest does not"
        )
    if without_size:
        side.notes.append(
            f"{without_size} people have no area, or one of nearly nothing: paired by the size of the predicted person"
        )
    if "oks" in settings.metrics and scene.similarity is not None:
        _add_oks(side, scene)
    if "crowdpose" in settings.metrics:
        _add_crowdpose(side, scene)
    shares.add_shares(side, settings)
    if "heat" in settings.metrics:
        _add_heat(side, scene.predictions, scene.at)
    if set(TRACKING_METRICS) & set(settings.metrics):
        _add_tracking(side, scene)
    side.counts = _counts(scene, partner)
    return side


_WITHOUT_SIGMAS = 0.1  # of each joint, to pair by where the skeleton has none; COCO's reach from 0.025 to 0.107


class _Scene:
    """Labels and predictions of the common joints with what all measures look at.

    Attributes:
        gt, found: people with the common joints; of ``full``, the labels, all.
        at: the labels' frame of each predicted person, -1 for none that is used.
        here: labelled people in frames that are used; ``counted``: those with joints enough that are not to be ignored,
            and ``rows``, the indices of both.
        area, rule: of labelled people (square pixels, NaN for none), and which of `oks.AREA_RULES` it is from.
        pairs: labelled and predicted people of the same frame, indices of both; ``similarity``: their OKS, None where
            nothing asks for it.
    """

    def __init__(
        self,
        labels: Labels,
        predictions: Predictions,
        common: CommonJoints,
        partners: FramePartners,
        settings: Settings,
        frames_used: np.ndarray,
    ) -> None:
        if not len(predictions.people):  # an empty list of results does not say how many joints it has
            count = int(common.predicted_index.max()) + 1
            nobody = replace(predictions.people, xy=np.zeros((0, count, 2)), visibility=np.zeros((0, count), np.int8))
            predictions = replace(predictions, people=nobody)
        self.labels, self.predictions, self.settings, self.frames_used = labels, predictions, settings, frames_used
        self.skeleton = sub_skeleton(labels.skeleton, common.label_index)
        self.full, self.gt = labels.people, labels.people.with_joints(common.label_index)
        self.found = predictions.people.with_joints(common.predicted_index)
        at = partners.partner[self.found.frame] if len(self.found) else np.zeros(0, np.int64)
        self.at = np.where((at >= 0) & frames_used[at], at, -1)
        self.labelled = (self.gt.visibility > 0).sum(axis=1)
        self.here = frames_used[self.gt.frame] if len(self.gt) else np.zeros(0, bool)
        self.counted = ~self.gt.ignore & (self.labelled >= settings.min_joints)
        self.rows = np.flatnonzero(self.here & self.counted)
        full = self.full
        self.area, self.rule = oks.resolve_areas(full.area, full.has_mask, full.xy, full.visibility, full.box_xywh)
        self.pairs = oks.same_frame_pairs(np.where(self.here, self.gt.frame, -1), self.at)
        self.by_similarity = bool({"oks", *PEOPLE_METRICS} & set(settings.metrics))
        wanted = settings.match == "top-score" or bool(set(TRACKING_METRICS) & set(settings.metrics))
        asked = self.by_similarity or settings.match == "oks" or (wanted and self.skeleton.sigmas)
        self.similarity = self.similarities(self.area, self.found.visibility) if asked else None
        self.for_ap = oks.measured_by_ap(self.found.visibility, predictions.is_stream)

    @property
    def shown(self) -> np.ndarray:
        """Predicted people at or above the display threshold."""
        if not len(self.found):
            return np.zeros(0, bool)
        return self.found.score >= self.predictions.frames.threshold[self.found.frame]

    def similarities(self, area: np.ndarray, visibility: np.ndarray) -> np.ndarray:
        """OKS of the pairs, by these areas and with these joints found. Whoever has joints and no area is not scored by
        it; that a prediction is on him shows by `likeness`, or it would count as on nobody."""
        sigmas, gt = oks.require_sigmas(self.skeleton), self.gt
        values = oks.oks_of_pairs(
            *self.pairs, gt.xy, gt.visibility, gt.box_xywh, area, self.found.xy, visibility, sigmas
        )
        blank = np.flatnonzero((np.isnan(area) & (self.labelled > 0))[self.pairs[0]])
        if len(blank):
            values[blank] = self.likeness(self.pairs[0][blank], self.pairs[1][blank])
        return values

    def likeness(self, g: np.ndarray, p: np.ndarray) -> np.ndarray:
        """(P,) `oks.oks_by_either_area` of labelled people ``g`` (P,) with the predicted ones ``p`` (P,)."""
        gt, found, whole = self.gt, self.found, self.predictions.people.take(p)
        nothing = np.full(len(p), np.nan)
        own, _ = oks.resolve_areas(nothing, np.zeros(len(p), bool), whole.xy, whole.visibility, whole.box_xywh)
        sigmas = np.asarray(self.skeleton.sigmas or (_WITHOUT_SIGMAS,) * len(self.skeleton.keypoints), np.float64)
        return oks.oks_by_either_area(
            gt.xy[g], gt.visibility[g] > 0, self.area[g], found.xy[p], found.visibility[p] > 0, own, sigmas
        )

    def match(
        self, area: np.ndarray, values: np.ndarray, few: np.ndarray, ranges: dict[str, tuple[float, float]]
    ) -> oks.Matches:
        """COCO's matching of the pairs by these values; whoever is of ``few``, has no area or no joint by the file's
        own count is ignored."""
        inside = np.flatnonzero(self.here)
        row_here = np.full(len(self.gt), -1, np.int64)
        row_here[inside] = np.arange(len(inside))
        return oks.match_coco(
            self.gt.frame[inside],
            area[inside],
            (self.gt.crowd | self.gt.none_stated | few | np.isnan(area))[inside],
            self.gt.crowd[inside],
            self.at,
            self.found.score,
            self.found.area,
            (row_here[self.pairs[0]], self.pairs[1], values),
            ranges=ranges,
        )


def _partners(scene: _Scene) -> tuple[np.ndarray, int]:
    """(R,) the predicted person that each evaluated one is compared with, -1 for none; how many of the pairs are of
    people whose own size says nothing about likeness."""
    rows, full, found, pairs = scene.rows, scene.full, scene.found, scene.pairs
    row_of = np.full(len(scene.gt), -1, np.int64)
    row_of[rows] = np.arange(len(rows))
    mine = row_of[pairs[0]] >= 0
    chosen = row_of[pairs[0][mine]], pairs[1][mine]
    if scene.settings.match == "iou" or scene.similarity is None:
        labelled = person_boxes(full.box_xywh, full.xy, full.visibility)[rows]
        predicted = person_boxes(found.box_xywh, found.xy, found.visibility)
        alike = iou_of_pairs(labelled[chosen[0]], predicted[chosen[1]])
        sized = np.asarray((labelled[:, 2:] > 0).all(axis=1))
    else:
        alike = scene.similarity[mine]
        # Nor has anybody a size whose area is so small that everybody's OKS is 0: two joints of a face, say.
        sized = np.zeros(len(rows), bool)
        sized[chosen[0][alike > 0]] = True
        sized &= ~np.isnan(scene.area[rows])
    which = np.flatnonzero(~sized[chosen[0]])
    if len(which):
        alike[which] = scene.likeness(rows[chosen[0][which]], chosen[1][which])
    partner = pair_people(scene.settings.match, chosen, alike, found.score, len(rows))
    return partner, int(((partner >= 0) & ~sized).sum())


def _paired(
    labels: Labels, common: CommonJoints, skeleton: Skeleton, gt: People, found: People,
    rows: np.ndarray, partner: np.ndarray, settings: Settings,
) -> Paired:  # fmt: skip
    """Labels and predictions of the evaluated people side by side."""
    there = partner >= 0
    visible = gt.visibility[rows] > 0
    gt_xy = np.where(visible[..., None], gt.xy[rows], 0.0)
    pred_xy = np.zeros_like(gt_xy)
    pred_found = np.zeros(visible.shape, bool)
    pred_xy[there], pred_found[there] = found.xy[partner[there]], found.visibility[partner[there]] > 0
    pred_xy = np.where(pred_found[..., None], pred_xy, 0.0)
    return Paired(
        frame=gt.frame[rows],
        gt_xy=gt_xy,
        pred_xy=pred_xy,
        visible=visible,
        found=pred_found,
        judged=visible & (there | (settings.misses == "wrong"))[:, None],
        distance=pck.distances(gt_xy, pred_xy, pred_found),
        people=labels.people.take(rows),
        skeleton=labels.skeleton,
        compared=skeleton,
        label_index=common.label_index,
    )


def _add_oks(side: Side, scene: _Scene) -> None:
    """Mean OKS, by person and by joint, and what AP and AR are made of."""
    assert scene.similarity is not None
    area, rule, rows = scene.area, scene.rule[scene.rows], scene.rows
    _add_mean_oks(side, area[rows], oks.require_sigmas(scene.skeleton))
    none = np.isnan(area) & scene.counted & scene.here
    if none.any():
        side.notes.append(f"{int(none.sum())} people have no area, mask or box: left out of OKS")
    measured = scene.for_ap
    values = scene.similarity if measured is scene.found.visibility else scene.similarities(area, measured)
    side.matches = scene.match(area, values, scene.labelled < scene.settings.min_joints, oks.AREA_RANGES)
    side.areas = {
        name: int((rule == number).sum()) for number, name in enumerate(oks.AREA_RULES) if (rule == number).any()
    }


def _add_crowdpose(side: Side, scene: _Scene) -> None:
    """What CrowdPose's AP is made of."""
    boxed = crowdpose_areas(scene.full.box_xywh)
    few = scene.labelled < scene.settings.min_joints
    few = few | ~counts_for_crowdpose(scene.gt.visibility, scene.skeleton.keypoints)
    values = scene.similarities(boxed, scene.for_ap)
    side.crowdpose = scene.match(boxed, values, few, {"all": oks.AREA_RANGES["all"]})
    none = np.isnan(boxed) & scene.counted & scene.here
    if none.any():
        side.notes.append(f"{int(none.sum())} people have no box: left out of CrowdPose's AP")
    without = int((scene.frames_used & np.isnan(scene.labels.frames.crowd_index)).sum())
    if without:
        side.notes.append(f"{without} pictures have no crowdIndex: they count in CrowdPose's AP, but for no level")


def _add_tracking(side: Side, scene: _Scene) -> None:
    """Identities over the frames of each video."""
    full, settings = scene.full, scene.settings
    head = pck.head_reference(full.xy, full.visibility, full.head_box_xyxy, scene.labels.skeleton)
    values = np.zeros(len(scene.pairs[0])) if scene.similarity is None else scene.similarity
    with_area = ~np.isnan(scene.area) if scene.by_similarity else np.ones(len(scene.gt), bool)
    tracked = track_sides(
        Tracked(
            scene.labels.frames, scene.frames_used, scene.gt, scene.counted & with_area, scene.found, scene.at,
            scene.shown, scene.pairs, values, np.full(len(scene.gt), np.nan) if head is None else head.length,
        ),
        settings.metrics, scene.skeleton.keypoints, threshold=settings.thresholds["tracking"][0],
        poseval=settings.compat == "poseval",
    )  # fmt: skip
    side.sequences, side.tracking = tracked.sequences, tracked.counts
    side.hota_curve = {name: values.tolist() for name, values in tracked.curve.items()}
    side.notes += tracked.notes


def _counts(scene: _Scene, partner: np.ndarray) -> dict[str, int]:
    """How many people there are of which kind."""
    gt, here, at, shown = scene.gt, scene.here, scene.at, scene.shown
    empty = np.ones(len(scene.labels.frames), bool)
    empty[gt.frame] = False
    taken = np.zeros(len(scene.found), bool)
    taken[partner[partner >= 0]] = True
    return {
        "people_labelled": int(here.sum()),
        "people_ignored_regions": int((here & gt.ignore).sum()),
        "people_with_too_few_joints": int((here & ~gt.ignore & (scene.labelled < scene.settings.min_joints)).sum()),
        "people_evaluated": len(scene.rows),
        "people_paired": int((partner >= 0).sum()),
        "people_missed": int((partner < 0).sum()),
        "predicted_people": int((at >= 0).sum()),
        "predicted_people_above_threshold": int(((at >= 0) & shown).sum()),
        "predicted_people_above_threshold_unpaired": int(((at >= 0) & shown & ~taken).sum()),
        "predicted_people_above_threshold_on_frames_without_people": int((shown & (at >= 0) & empty[at]).sum()),
    }


def _add_mean_oks(side: Side, area: np.ndarray, sigmas: np.ndarray) -> None:
    """By person and by joint; (R,) areas."""
    pair = side.paired
    similar = oks.joint_similarities(pair.gt_xy, pair.pred_xy, pair.found, np.nan_to_num(area), sigmas)
    scored = pair.judged & ~np.isnan(area)[:, None]
    person = np.where(pair.visible, similar, 0.0).sum(axis=1) / np.maximum(pair.visible.sum(axis=1), 1)
    by_joint = Measure("mean_OKS", similar, scored, side.frame, pair.compared.keypoints)
    side.measures["mean_OKS"] = Measure(
        "mean_OKS", person[:, None], scored.any(axis=1)[:, None], side.frame, per_column=by_joint
    )


def _add_heat(side: Side, predictions: Predictions, at: np.ndarray) -> None:
    counted = counted_people(predictions) & (at >= 0)
    if np.isnan(predictions.people.heat).all():
        side.notes.append("no local NMS score: the predictions carry none (only models with a keypoint heat map do)")
        return
    chosen = np.flatnonzero(counted)
    heat = predictions.people.heat[chosen][:, None]
    side.measures["heat"] = Measure("heat", heat, np.ones(heat.shape, bool), at[chosen], of_labels=False)
