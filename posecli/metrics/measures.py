"""One prediction file against the labels: every metric as sums and counts per person.

Most metrics are means: each labelled joint, limb or person (or each predicted person, for the local NMS score) adds a
number to a sum and 1 to a count. A `Measure` holds these per person, so that totals, means over joints, groups and
bootstrap draws are all sums over the same arrays. AP keeps its matches (`oks.Matches`); tracking metrics keep sums per
video (`SequenceSums`), which add up over videos before the figure is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from posecli.metrics import oks, pck, pcp
from posecli.metrics.local_score import counted_people
from posecli.metrics.options import Settings
from posecli.metrics.pairing import (
    CommonJoints,
    FramePartners,
    iou_of_pairs,
    pair_people,
    person_boxes,
    sub_skeleton,
)
from posecli.metrics.people import Labels, Predictions
from posecli.types import Skeleton

CURVES = {"pck": np.linspace(0.0, 0.5, 51), "pckh": np.linspace(0.0, 1.0, 51), "pdj": pck.PDJ_CURVE}
NAMES = {"pck": "PCK", "pckh": "PCKh", "pdj": "PDJ", "pcp": "PCP"}


@dataclass(frozen=True)
class Measure:
    """A mean: sum of ``hit`` over count of ``valid``.

    Attributes:
        key: name in results.
        hit: (N, C) float64, in [0, 1] where ``unit`` is ``share``; columns are joints, limbs or one.
        valid: (N, C) bool.
        frame: (N,) labelled frame of each row.
        columns: C names, empty for one column.
        of_labels: rows are the evaluated labelled people (else predicted people).
        per_column: another measure to use for the columns, where the total is not their sum (mean OKS).
        unit: ``share`` (printed x 100), ``px``, or ``ratio`` (of a reference length; printed x 100).
        higher_is_better: False for errors.
    """

    key: str
    hit: np.ndarray
    valid: np.ndarray
    frame: np.ndarray
    columns: tuple[str, ...] = ()
    of_labels: bool = True
    per_column: Measure | None = None
    unit: str = "share"
    higher_is_better: bool = True

    def column_shares(self, rows: np.ndarray) -> np.ndarray:
        """(C,) share of each column over the chosen rows; NaN without any."""
        valid = self.valid & rows[:, None]
        with np.errstate(invalid="ignore"):
            return np.where(valid, self.hit, 0.0).sum(axis=0) / valid.sum(axis=0)

    def total(self, rows: np.ndarray) -> float:
        """Share over everything in the chosen rows; NaN without any."""
        valid = self.valid & rows[:, None]
        count = int(valid.sum())
        return float(self.hit[valid].sum() / count) if count else float("nan")


@dataclass(frozen=True)
class SequenceSums:
    """What a tracking metric counts, one row per video; the figures come from the sum of the chosen rows.

    Attributes:
        video: (V,) int64 rows of the labels' videos.
        sums: (V, C) float64.
        score: takes (..., C) sums, gives the figures by key, each (...); NaN where there is nothing to measure.
        columns: names of parts (joints) that have figures of their own, by ``score_columns``: each (..., parts).
    """

    video: np.ndarray
    sums: np.ndarray
    score: Callable[[np.ndarray], dict[str, np.ndarray]]
    columns: tuple[str, ...] = ()
    score_columns: Callable[[np.ndarray], dict[str, np.ndarray]] | None = None


@dataclass
class Side:
    """One prediction file against the labels: measures, AP matches, and what had to be said.

    ``rows`` are the evaluated people among the labels', ``partner`` the predicted person each was paired with (-1 for
    nobody), ``common`` the joints compared; ``track`` and ``frame`` are those of ``rows``; ``video`` is (F,) the video
    of each labelled frame.
    """

    predictions: Predictions
    partners: FramePartners
    measures: dict[str, Measure]
    matches: oks.Matches | None
    track: np.ndarray
    frame: np.ndarray
    rows: np.ndarray
    partner: np.ndarray
    common: CommonJoints
    video: np.ndarray
    sequences: dict[str, SequenceSums] = field(default_factory=dict)
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    areas: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


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
    found = predictions.people
    if len(found):
        found = found.with_joints(common.predicted_index)
    else:
        count = len(common.predicted_index)
        found = replace(found, xy=np.zeros((0, count, 2)), visibility=np.zeros((0, count), np.int8))
    at = partners.partner[found.frame] if len(found) else np.zeros(0, np.int64)
    at = np.where((at >= 0) & frames_used[at], at, -1)
    labelled = (gt.visibility > 0).sum(axis=1)
    here = frames_used[gt.frame] if len(gt) else np.zeros(0, bool)
    counts_as_person = ~gt.ignore & (labelled >= settings.min_joints)

    area, rule = oks.resolve_areas(full.area, full.has_mask, full.xy, full.visibility, full.box_xywh)
    similarity = None
    pairs = oks.same_frame_pairs(np.where(here, gt.frame, -1), at)
    if "oks" in settings.metrics or settings.match == "oks" or (settings.match == "top-score" and skeleton.sigmas):
        sigmas = oks.require_sigmas(skeleton)
        similarity = oks.oks_of_pairs(
            *pairs, gt.xy, gt.visibility, gt.box_xywh, area, found.xy, found.visibility, sigmas
        )
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
    paired = partner >= 0
    side = Side(
        predictions, partners, {}, None, full.track[rows], gt.frame[rows], rows, partner, common, labels.frames.video
    )
    side.notes += predictions.notes

    visible = gt.visibility[rows] > 0
    gt_xy = np.where(visible[..., None], gt.xy[rows], 0.0)
    pred_xy = np.zeros_like(gt_xy)
    pred_found = np.zeros(visible.shape, bool)
    pred_xy[paired], pred_found[paired] = found.xy[partner[paired]], found.visibility[partner[paired]] > 0
    pred_xy = np.where(pred_found[..., None], pred_xy, 0.0)
    judged = visible & (paired | (settings.misses == "wrong"))[:, None]

    if "oks" in settings.metrics:
        _add_oks(side, settings, sigmas, area[rows], gt_xy, pred_xy, pred_found, visible, judged, skeleton)
        none = np.isnan(area) & counts_as_person & here
        if none.any():
            side.notes.append(f"{int(none.sum())} people have no area, mask or box: left out of OKS")
        inside = np.flatnonzero(here)
        row_here = np.full(len(gt), -1, np.int64)
        row_here[inside] = np.arange(len(inside))
        side.matches = oks.match_coco(
            gt.frame[inside],
            area[inside],
            (~counts_as_person | np.isnan(area))[inside],
            gt.ignore[inside],
            at,
            found.score,
            found.area,
            (row_here[pairs[0]], pairs[1], similarity),  # type: ignore[arg-type]
        )
        side.areas = {
            name: int((rule[rows] == number).sum())
            for number, name in enumerate(oks.AREA_RULES)
            if (rule[rows] == number).any()
        }
    distance = pck.distances(gt_xy, pred_xy, pred_found)
    _add_pck(side, settings, labels, rows, distance, judged, skeleton)
    if "pcp" in settings.metrics:
        _add_pcp(side, settings, gt_xy, np.where(judged, 1, 0), distance, skeleton)
    if "heat" in settings.metrics:
        _add_heat(side, predictions, at)

    shown = found.score >= predictions.frames.threshold[found.frame] if len(found) else np.zeros(0, bool)
    empty = np.ones(len(labels.frames), bool)
    empty[gt.frame] = False
    taken = np.zeros(len(found), bool)
    taken[partner[paired]] = True
    side.counts = {
        "people_labelled": int(here.sum()),
        "people_ignored_regions": int((here & gt.ignore).sum()),
        "people_with_too_few_joints": int((here & ~gt.ignore & (labelled < settings.min_joints)).sum()),
        "people_evaluated": len(rows),
        "people_paired": int(paired.sum()),
        "people_missed": int((~paired).sum()),
        "predicted_people": int((at >= 0).sum()),
        "predicted_people_above_threshold": int(((at >= 0) & shown).sum()),
        "predicted_people_above_threshold_unpaired": int(((at >= 0) & shown & ~taken).sum()),
        "predicted_people_above_threshold_on_frames_without_people": int((shown & (at >= 0) & empty[at]).sum()),
    }
    return side


def _add_oks(
    side: Side,
    settings: Settings,
    sigmas: np.ndarray,
    area: np.ndarray,
    gt_xy: np.ndarray,
    pred_xy: np.ndarray,
    pred_found: np.ndarray,
    visible: np.ndarray,
    judged: np.ndarray,
    skeleton: Skeleton,
) -> None:
    similar = oks.joint_similarities(gt_xy, pred_xy, pred_found, np.nan_to_num(area), sigmas)
    scored = judged & ~np.isnan(area)[:, None]
    person = np.where(visible, similar, 0.0).sum(axis=1) / np.maximum(visible.sum(axis=1), 1)
    by_joint = Measure("mean_OKS", similar, scored, side.frame, skeleton.keypoints)
    side.measures["mean_OKS"] = Measure(
        "mean_OKS", person[:, None], scored.any(axis=1)[:, None], side.frame, per_column=by_joint
    )


def _add_pck(
    side: Side,
    settings: Settings,
    labels: Labels,
    rows: np.ndarray,
    distance: np.ndarray,
    judged: np.ndarray,
    skeleton: Skeleton,
) -> None:
    """PCK, PCKh and PDJ. References come from all labelled joints, also those the predictions lack."""
    people = labels.people.take(rows)
    full = labels.skeleton
    for name in ("pck", "pckh", "pdj"):
        if name not in settings.metrics:
            continue
        if name == "pck":
            reference: pck.Reference | None = pck.pck_reference(
                settings.pck_reference, people.xy, people.visibility, people.box_xywh, full
            )
        elif name == "pdj":
            reference = pck.torso_reference(people.xy, people.visibility, full)
        else:
            reference = pck.head_reference(people.xy, people.visibility, people.head_box_xyxy, full)
        if reference is None:
            missing = "names no torso" if name == "pdj" else "names no head segment, and nobody has a head box"
            side.notes.append(f"no {NAMES[name]}: skeleton {full.name!r} {missing}")
            continue
        usable = ~np.isnan(reference.length)
        valid = judged & usable[:, None]
        for threshold in settings.thresholds[name]:
            key = f"{NAMES[name]}@{threshold:g}"
            hit = pck.correct(distance, reference.length, threshold)
            side.measures[key] = Measure(key, hit, valid, side.frame, skeleton.keypoints)
        if name == "pdj":
            hit = pck.area_under_curve(distance, reference.length)
            side.measures["PDJ_AUC"] = Measure("PDJ_AUC", hit, valid, side.frame, skeleton.keypoints)
        side.curves[NAMES[name]] = {
            "thresholds": [round(float(t), 6) for t in CURVES[name]],
            "values": pck.curve(distance, reference.length, valid, CURVES[name]),
        }
        side.references[NAMES[name]] = {
            "rule": reference.rule,
            "people": int(usable.sum()),
            "skipped": int((~usable).sum()),
            **({"by_rule": {k: v for k, v in reference.counts.items() if v}} if reference.counts else {}),
        }


def _add_pcp(
    side: Side,
    settings: Settings,
    gt_xy: np.ndarray,
    visibility: np.ndarray,
    distance: np.ndarray,
    skeleton: Skeleton,
) -> None:
    limbs, origin = pcp.limbs_of(skeleton)
    if not limbs:
        side.notes.append(f"no PCP: skeleton {skeleton.name!r} names no limbs")
        return
    for threshold in settings.thresholds["pcp"]:
        key = f"PCP@{threshold:g}"
        hit, valid = pcp.pcp_strict(gt_xy, visibility, distance, limbs, threshold)
        names = tuple(pcp.limb_names(skeleton, limbs))
        side.measures[key] = Measure(key, hit.astype(np.float64), valid, side.frame, names)
    ends = np.array(limbs)
    both = (visibility[:, ends] > 0).all(axis=2)
    side.references["PCP"] = {
        "rule": f"length of the labelled limb, both ends ({origin})",
        "limbs": list(names),
        "people": int(valid.any(axis=1).sum()),
        "skipped": int((both & ~valid).sum()),
    }


def _add_heat(side: Side, predictions: Predictions, at: np.ndarray) -> None:
    counted = counted_people(predictions) & (at >= 0)
    if np.isnan(predictions.people.heat).all():
        side.notes.append("no local NMS score: the predictions carry none (only models with a keypoint heat map do)")
        return
    chosen = np.flatnonzero(counted)
    heat = predictions.people.heat[chosen][:, None]
    side.measures["heat"] = Measure("heat", heat, np.ones(heat.shape, bool), at[chosen], of_labels=False)
