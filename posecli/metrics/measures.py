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
    skeleton = sub_skeleton(labels.skeleton, common.label_index)
    full, gt = labels.people, labels.people.with_joints(common.label_index)
    if not len(predictions.people):  # an empty list of results does not say how many joints it has
        count = int(common.predicted_index.max()) + 1
        nobody = replace(predictions.people, xy=np.zeros((0, count, 2)), visibility=np.zeros((0, count), np.int8))
        predictions = replace(predictions, people=nobody)
    found = predictions.people.with_joints(common.predicted_index)
    at = partners.partner[found.frame] if len(found) else np.zeros(0, np.int64)
    at = np.where((at >= 0) & frames_used[at], at, -1)
    labelled = (gt.visibility > 0).sum(axis=1)
    here = frames_used[gt.frame] if len(gt) else np.zeros(0, bool)
    counts_as_person = ~gt.ignore & (labelled >= settings.min_joints)

    area, rule = oks.resolve_areas(full.area, full.has_mask, full.xy, full.visibility, full.box_xywh)
    pairs = oks.same_frame_pairs(np.where(here, gt.frame, -1), at)

    def similarities(of_area: np.ndarray, visibility: np.ndarray) -> np.ndarray:
        sigmas = oks.require_sigmas(skeleton)
        return oks.oks_of_pairs(*pairs, gt.xy, gt.visibility, gt.box_xywh, of_area, found.xy, visibility, sigmas)

    measured = oks.measured_by_ap(found.visibility, predictions.is_stream)

    needed = {"oks", *PEOPLE_METRICS} & set(settings.metrics)
    wanted = settings.match == "top-score" or bool(set(TRACKING_METRICS) & set(settings.metrics))
    similarity = None
    if needed or settings.match == "oks" or (wanted and skeleton.sigmas):
        similarity = similarities(area, found.visibility)
    rows = np.flatnonzero(here & counts_as_person)

    row_of = np.full(len(gt), -1, np.int64)
    row_of[rows] = np.arange(len(rows))
    mine = row_of[pairs[0]] >= 0
    chosen = row_of[pairs[0][mine]], pairs[1][mine]
    if settings.match == "iou" or similarity is None:
        boxes = (
            person_boxes(full.box_xywh, full.xy, full.visibility),
            person_boxes(found.box_xywh, found.xy, found.visibility),
        )
        alike = iou_of_pairs(boxes[0][rows][chosen[0]], boxes[1][chosen[1]])
    else:
        alike = similarity[mine]
    partner = pair_people(settings.match, chosen, alike, found.score, len(rows))
    paired = _paired(labels, common, skeleton, gt, found, rows, partner, settings)
    side = Side(
        predictions, partners, {}, None, full.track[rows], gt.frame[rows], rows, partner, common,
        labels.frames.video, paired, crowd_index=labels.frames.crowd_index,
    )  # fmt: skip
    side.notes += [*predictions.notes, *contradictions(labels.frames, predictions.frames, partners.partner)]

    inside = np.flatnonzero(here)
    row_here = np.full(len(gt), -1, np.int64)
    row_here[inside] = np.arange(len(inside))

    def match(
        of_area: np.ndarray, values: np.ndarray, few: np.ndarray, ranges: dict[str, tuple[float, float]]
    ) -> oks.Matches:
        return oks.match_coco(
            gt.frame[inside],
            of_area[inside],
            (gt.crowd | few | np.isnan(of_area))[inside],
            gt.crowd[inside],
            at,
            found.score,
            found.area,
            (row_here[pairs[0]], pairs[1], values),
            ranges=ranges,
        )

    flagged = int((gt.ignore & ~gt.crowd & here).sum())
    if flagged and {"oks", "crowdpose"} & set(settings.metrics):
        side.notes.append(
            f"{flagged} people are flagged ignore, not iscrowd: AP counts them, as pycocotools does; the rest does not"
        )
    if "oks" in settings.metrics and similarity is not None:
        _add_oks(side, area[rows], oks.require_sigmas(skeleton))
        none = np.isnan(area) & counts_as_person & here
        if none.any():
            side.notes.append(f"{int(none.sum())} people have no area, mask or box: left out of OKS")
        for_ap = similarity if measured is found.visibility else similarities(area, measured)
        side.matches = match(area, for_ap, labelled < settings.min_joints, oks.AREA_RANGES)
        side.areas = {
            name: int((rule[rows] == number).sum())
            for number, name in enumerate(oks.AREA_RULES)
            if (rule[rows] == number).any()
        }
    if "crowdpose" in settings.metrics:
        boxed = crowdpose_areas(full.box_xywh)
        few = (labelled < settings.min_joints) | ~counts_for_crowdpose(gt.visibility, skeleton.keypoints)
        side.crowdpose = match(boxed, similarities(boxed, measured), few, {"all": oks.AREA_RANGES["all"]})
        none = np.isnan(boxed) & counts_as_person & here
        if none.any():
            side.notes.append(f"{int(none.sum())} people have no box: left out of CrowdPose's AP")
        without = int((frames_used & np.isnan(labels.frames.crowd_index)).sum())
        if without:
            side.notes.append(f"{without} pictures have no crowdIndex: they count in CrowdPose's AP, but for no level")
    shares.add_shares(side, settings)
    if "heat" in settings.metrics:
        _add_heat(side, predictions, at)
    shown = found.score >= predictions.frames.threshold[found.frame] if len(found) else np.zeros(0, bool)
    if set(TRACKING_METRICS) & set(settings.metrics):
        head = pck.head_reference(full.xy, full.visibility, full.head_box_xyxy, labels.skeleton)
        values = np.zeros(len(pairs[0])) if similarity is None else similarity
        with_area = ~np.isnan(area) if needed else np.ones(len(gt), bool)
        tracked = track_sides(
            Tracked(
                labels.frames, frames_used, gt, counts_as_person & with_area, found, at, shown, pairs, values,
                np.full(len(gt), np.nan) if head is None else head.length,
            ),
            settings.metrics, skeleton.keypoints, threshold=settings.thresholds["tracking"][0],
            poseval=settings.compat == "poseval",
        )  # fmt: skip
        side.sequences, side.tracking = tracked.sequences, tracked.counts
        side.hota_curve = {name: values.tolist() for name, values in tracked.curve.items()}
        side.notes += tracked.notes

    empty = np.ones(len(labels.frames), bool)
    empty[gt.frame] = False
    taken = np.zeros(len(found), bool)
    taken[partner[partner >= 0]] = True
    side.counts = {
        "people_labelled": int(here.sum()),
        "people_ignored_regions": int((here & gt.ignore).sum()),
        "people_with_too_few_joints": int((here & ~gt.ignore & (labelled < settings.min_joints)).sum()),
        "people_evaluated": len(rows),
        "people_paired": int((partner >= 0).sum()),
        "people_missed": int((partner < 0).sum()),
        "predicted_people": int((at >= 0).sum()),
        "predicted_people_above_threshold": int(((at >= 0) & shown).sum()),
        "predicted_people_above_threshold_unpaired": int(((at >= 0) & shown & ~taken).sum()),
        "predicted_people_above_threshold_on_frames_without_people": int((shown & (at >= 0) & empty[at]).sum()),
    }
    return side


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


def _add_oks(side: Side, area: np.ndarray, sigmas: np.ndarray) -> None:
    """Mean OKS, by person and by joint; (R,) areas."""
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
