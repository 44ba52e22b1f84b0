"""`evaluate`: labels against predictions, every metric, in groups, with intervals, for one or two prediction files.

All metrics but AP are shares: each labelled joint, limb or person (or each predicted person, for the local NMS score)
adds a number in [0, 1] to a sum and 1 to a count. A `Measure` holds these per person, so that totals, means over
joints, groups and bootstrap draws are all sums over the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.metrics import oks, pck, pcp
from posecli.metrics.local_score import counted_people, heat_curve
from posecli.metrics.pairing import (
    MATCH_RULES,
    CommonJoints,
    FramePartners,
    common_joints,
    iou_of_pairs,
    pair_frames,
    pair_people,
    person_boxes,
    sub_skeleton,
)
from posecli.metrics.people import Labels, Predictions
from posecli.metrics.reading import collector_paused, read_labels, read_predictions
from posecli.types import Dataset, Skeleton

if TYPE_CHECKING:
    from posecli.predictions import FramePoses, StreamHeader

METRICS = ("oks", "pck", "pckh", "pdj", "pcp", "heat")
MISSES = ("wrong", "skip")
GROUPINGS = ("joint", "video", "tag", "track")
DEFAULT_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "pck": (0.2,),
    "pckh": (0.5,),
    "pdj": (0.1, 0.2, 0.3, 0.4),
    "pcp": (0.5,),
}
CURVES = {"pck": np.linspace(0.0, 0.5, 51), "pckh": np.linspace(0.0, 1.0, 51), "pdj": pck.PDJ_CURVE}
_NAMES = {"pck": "PCK", "pckh": "PCKh", "pdj": "PDJ", "pcp": "PCP"}
_AP_KEYS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


@dataclass(frozen=True)
class Settings:
    """What `evaluate` was asked for, checked."""

    metrics: tuple[str, ...]
    match: str
    misses: str
    by: tuple[str, ...]
    thresholds: dict[str, tuple[float, ...]]
    bootstrap: int
    seed: int
    min_joints: int
    pck_reference: str
    only_predicted: bool


@dataclass(frozen=True)
class Measure:
    """A share: sum of ``hit`` over count of ``valid``.

    Attributes:
        key: name in results.
        hit: (N, C) float64 in [0, 1]; columns are joints, limbs or one.
        valid: (N, C) bool.
        frame: (N,) labelled frame of each row.
        columns: C names, empty for one column.
        of_labels: rows are the evaluated labelled people (else predicted people).
        per_column: another measure to use for the columns, where the total is not their sum (mean OKS).
    """

    key: str
    hit: np.ndarray
    valid: np.ndarray
    frame: np.ndarray
    columns: tuple[str, ...] = ()
    of_labels: bool = True
    per_column: Measure | None = None

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


@dataclass
class Side:
    """One prediction file against the labels: measures, AP matches, and what had to be said."""

    predictions: Predictions
    partners: FramePartners
    measures: dict[str, Measure]
    matches: oks.Matches | None
    track: np.ndarray
    frame: np.ndarray
    curves: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    references: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    areas: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """A row of the table: some frames, or the people of one track."""

    by: str
    name: str
    frames: np.ndarray
    track: int | None = None


def evaluate(
    gt: Dataset | str | Path,
    pred: str | Path | Iterable[tuple[StreamHeader, FramePoses]],
    pred2: str | Path | Iterable[tuple[StreamHeader, FramePoses]] | None = None,
    *,
    metrics: Sequence[str] = METRICS,
    match: str = "oks",
    misses: str = "wrong",
    by: Sequence[str] = (),
    thresholds: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    min_joints: int = 1,
    joints: Sequence[str] | None = None,
    pck_reference: str = "auto",
    only_predicted: bool = False,
    skeleton: Skeleton | None = None,
    pred_skeleton: Skeleton | None = None,
    warn: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Compares predictions with labels.

    Args:
        gt: labels: a `Dataset`, a COCO keypoint JSON, or anything `posecli.formats` reads.
        pred: predictions: pose stream, folder of streams, ``-``, COCO results list, or `(StreamHeader, FramePoses)`s.
        pred2: a second prediction to compare with the first on the same frames, joints and draws.
        metrics: of `METRICS`.
        match: how labelled and predicted people of a frame pair up for everything but AP: ``oks``, ``iou``,
            ``top-score`` (see `pair_people`).
        misses: joints of labelled people whom nobody was paired with count as ``wrong``, or ``skip``.
        by: rows beside the total: ``tag``, ``video``, ``track``, ``joint``.
        thresholds: per metric (``{"pck": [0.1, 0.2]}``) or for all of pck, pckh, pdj and pcp.
        bootstrap: number of draws for percentile intervals (95 %), 0 for none; None: 1000 with ``pred2``, else 0.
            Units are videos, and pictures that belong to none.
        seed: of the draws.
        min_joints: labelled people with fewer labelled joints are ignored (COCO's scores count people with 1).
        joints: names to compare on; None for all that both sides have.
        pck_reference: ``torso``, ``box``, or ``auto`` (torso if the skeleton names one).
        only_predicted: leave out labelled frames that a stream has no line for.
        skeleton: replaces the labels' skeleton; pred_skeleton: joints of a results list.
        warn: takes remarks of the readers; None: they stand in ``notes``.

    Returns:
        Plain numbers: ``all`` and ``groups[by][name]`` map metric names to values (OKS in [0, 1], shares in [0, 1];
        None where there is nothing to measure; AP -1 as in pycocotools, explained in ``notes``), each with
        ``frames``, ``people`` and ``intervals``; ``joints``, ``references``, ``areas``, ``counts``, ``frames``,
        ``curves``, ``heat_curve``, ``settings``, ``notes``; with ``pred2`` also ``second`` and ``difference``.

    Raises:
        UsageError: unknown names among the options.
        PoseError: unreadable files, no frame or joint in common, OKS asked of a skeleton without sigmas.
    """
    settings = _check(
        metrics, match, misses, by, thresholds, bootstrap, seed, min_joints, pck_reference, only_predicted, pred2
    )
    with collector_paused():
        labels = read_labels(gt, skeleton, warn)
        predicted = [read_predictions(p, skeleton=pred_skeleton, warn=warn) for p in (pred, pred2) if p is not None]
    return _evaluate(labels, predicted, settings, joints)


def _check(
    metrics: Sequence[str],
    match: str,
    misses: str,
    by: Sequence[str],
    thresholds: Mapping[str, Sequence[float]] | Sequence[float] | None,
    bootstrap: int | None,
    seed: int,
    min_joints: int,
    pck_reference: str,
    only_predicted: bool,
    pred2: object,
) -> Settings:
    for given, known, what in (
        (metrics, METRICS, "metric"),
        ((match,), MATCH_RULES, "matching rule"),
        ((misses,), MISSES, "way to count misses"),
        (by, GROUPINGS, "grouping"),
        ((pck_reference,), ("auto", "torso", "box"), "PCK reference"),
    ):
        for name in given:
            if name not in known:
                raise UsageError(f"unknown {what} {name!r}", hint=f"one of {', '.join(known)}")
    if not metrics:
        raise UsageError("no metric asked for", hint=f"some of {', '.join(METRICS)}")
    chosen = dict(DEFAULT_THRESHOLDS)
    if thresholds is not None:
        given_thresholds = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(chosen, thresholds)
        for name, values in given_thresholds.items():
            if name not in chosen:
                raise UsageError(f"{name!r} has no threshold to set", hint=f"one of {', '.join(chosen)}")
            chosen[name] = tuple(float(v) for v in values)
            if not chosen[name] or not all(0 < v < float("inf") for v in chosen[name]):
                raise UsageError(f"thresholds of {name} must be positive numbers")
    if bootstrap is None:
        bootstrap = 0 if pred2 is None else 1000
    if bootstrap < 0 or min_joints < 1:
        raise UsageError("bootstrap draws cannot be negative" if bootstrap < 0 else "min_joints must be at least 1")
    return Settings(
        tuple(dict.fromkeys(metrics)), match, misses, tuple(dict.fromkeys(by)), chosen, bootstrap, seed, min_joints,
        pck_reference, only_predicted,
    )  # fmt: skip


def _evaluate(
    labels: Labels, predicted: list[Predictions], settings: Settings, joints: Sequence[str] | None
) -> dict[str, Any]:
    common = _joints_of_all(labels, predicted, joints)
    partners = [pair_frames(labels.frames, p.frames, not p.is_stream) for p in predicted]
    frames_used = _frames_used(labels, predicted, partners, settings)
    first, *rest = [
        _side(labels, p, c, f, settings, frames_used) for p, c, f in zip(predicted, common, partners, strict=True)
    ]
    notes: list[str] = list(labels.notes)
    groups = _groups(labels, settings, frames_used, first, notes)
    unit, unit_name = _units(labels)
    result: dict[str, Any] = {
        "labels": labels.source,
        "predictions": predicted[0].source,
        "skeleton": labels.skeleton.name,
        "joints": {
            "compared": [labels.skeleton.keypoints[i] for i in common[0].label_index],
            "only_labels": list(common[0].only_labels),
            "only_predictions": list(common[0].only_predictions),
        },
        "settings": {
            "metrics": list(settings.metrics),
            "match": settings.match,
            "misses": settings.misses,
            "thresholds": {k: list(v) for k, v in settings.thresholds.items()},
            "min_joints": settings.min_joints,
            "bootstrap": settings.bootstrap,
            "seed": settings.seed,
            "unit": unit_name,
        },
    }
    result |= _rows(first, groups, settings)
    result |= _about(first, labels, frames_used)
    if "joint" in settings.by:
        result["groups"]["joint"] = _joint_rows(first, result["joints"]["compared"], frames_used)
    second = rest[0] if rest else None
    if second is not None:
        result["second"] = {"predictions": predicted[1].source, **_rows(second, groups, settings)}
        result["second"] |= _about(second, labels, frames_used)
        if "joint" in settings.by:
            names = [labels.skeleton.keypoints[i] for i in common[1].label_index]
            result["second"]["groups"]["joint"] = _joint_rows(second, names, frames_used)
        result["difference"] = {"all": {}, "groups": {}}
    _add_intervals(result, first, second, groups, unit, unit_name, settings, notes)
    result["notes"] = list(dict.fromkeys([*notes, *_explain(result), *first.notes]))
    if second is not None:
        own = [f"second predictions: {n}" for n in second.notes if n not in result["notes"]]
        result["second"]["notes"] = own
        result["notes"] += own
    return result


def _joints_of_all(labels: Labels, predicted: list[Predictions], joints: Sequence[str] | None) -> list[CommonJoints]:
    """For each prediction the joints that labels and all predictions have (and that were asked for)."""
    found = []
    for p in predicted:
        if p.skeleton is not None:
            found.append(common_joints(labels.skeleton, p.skeleton))
            if not p.is_stream and len(p.people) and p.people.xy.shape[1] != p.skeleton.num_keypoints:
                raise PoseError(
                    f"the results have {p.people.xy.shape[1]} joints, skeleton {p.skeleton.name!r} has "
                    f"{p.skeleton.num_keypoints}",
                    p.source,
                )
            continue
        every = np.arange(labels.skeleton.num_keypoints)
        if len(p.people) and p.people.xy.shape[1] != len(every):
            raise PoseError(
                f"the results have {p.people.xy.shape[1]} joints, the labels {len(every)}",
                p.source,
                "say which joints they are with --pred-skeleton",
            )
        found.append(CommonJoints(every, every, (), ()))
    names = labels.skeleton.keypoints
    wanted = set(range(len(names))) if joints is None else {labels.skeleton.index(j) for j in joints}
    shared = wanted.intersection(*(set(c.label_index.tolist()) for c in found))
    if not shared:
        raise PoseError("no joint is left to compare", labels.source)
    kept = []
    for c in found:
        mask = np.isin(c.label_index, list(shared))
        kept.append(CommonJoints(c.label_index[mask], c.predicted_index[mask], c.only_labels, c.only_predictions))
    return kept


def _frames_used(
    labels: Labels, predicted: list[Predictions], partners: list[FramePartners], settings: Settings
) -> np.ndarray:
    """(F,) bool: labelled frames that count."""
    used = np.ones(len(labels.frames), bool)
    if settings.only_predicted:
        for p, f in zip(predicted, partners, strict=True):
            if not p.is_stream:
                raise UsageError(
                    "a results list does not say which frames it has seen",
                    p.source,
                    "--only-predicted needs a pose stream",
                )
            seen = np.zeros(len(used), bool)
            seen[f.partner[f.partner >= 0]] = True
            used &= seen
    return used


def _side(
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
    side = Side(predictions, partners, {}, None, full.track[rows], gt.frame[rows])
    side.notes += predictions.notes

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
            side.notes.append(f"no {_NAMES[name]}: skeleton {full.name!r} {missing}")
            continue
        usable = ~np.isnan(reference.length)
        valid = judged & usable[:, None]
        for threshold in settings.thresholds[name]:
            key = f"{_NAMES[name]}@{threshold:g}"
            hit = pck.correct(distance, reference.length, threshold)
            side.measures[key] = Measure(key, hit, valid, side.frame, skeleton.keypoints)
        if name == "pdj":
            hit = pck.area_under_curve(distance, reference.length)
            side.measures["PDJ_AUC"] = Measure("PDJ_AUC", hit, valid, side.frame, skeleton.keypoints)
        side.curves[_NAMES[name]] = {
            "thresholds": [round(float(t), 6) for t in CURVES[name]],
            "values": pck.curve(distance, reference.length, valid, CURVES[name]),
        }
        side.references[_NAMES[name]] = {
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


def _units(labels: Labels) -> tuple[np.ndarray, str]:
    """(F,) the independent unit of each frame, and its name: whole videos, since their frames are not independent."""
    video = labels.frames.video
    picture = len(labels.frames.videos) + np.arange(len(video))
    unit = np.unique(np.where(video >= 0, video, picture), return_inverse=True)[1]
    if (video >= 0).all():
        return unit, "videos"
    return unit, "videos and single pictures" if (video >= 0).any() else "pictures"


def _groups(labels: Labels, settings: Settings, frames_used: np.ndarray, side: Side, notes: list[str]) -> list[Group]:
    video, videos = labels.frames.video, labels.frames.videos
    groups = [Group("all", "all", frames_used)]
    for by in settings.by:
        before = len(groups)
        if by == "video":
            groups += [Group(by, v.name, frames_used & (video == i)) for i, v in enumerate(videos)]
        elif by == "tag":
            for tag in sorted({t for v in videos for t in v.tags}):
                tagged = np.array([tag in v.tags for v in videos])
                groups.append(Group(by, tag, frames_used & (video >= 0) & tagged[video]))
        elif by == "track":
            # A track lives in one video: ids of different videos are different people.
            where = video[side.frame]
            for v, t in sorted({(int(v), int(t)) for v, t in zip(where, side.track, strict=True) if t >= 0}):
                name = f"{videos[v].name} track {t}" if v >= 0 else f"track {t}"
                groups.append(Group(by, name, frames_used & (video == v), t))
        if by != "joint" and len(groups) == before:
            notes.append(f"no rows by {by}: the labels have no {by}s")
    return [g for g in groups if g.by == "all" or g.frames.any()]


def _rows_of(measure: Measure, group: Group, side: Side) -> np.ndarray | None:
    """Rows of a measure that belong to the group; None when the measure cannot be split so."""
    rows = group.frames[measure.frame]
    if group.track is None:
        return rows
    return rows & (side.track == group.track) if measure.of_labels else None


def _row(side: Side, group: Group) -> dict[str, Any]:
    values: dict[str, Any] = {"frames": int(group.frames.sum())}
    people = group.frames[side.frame]
    if group.track is not None:
        people = people & (side.track == group.track)
        values["frames"] = len(np.unique(side.frame[people]))
    values["people"] = int(people.sum())
    if side.matches is not None:
        if group.track is None:
            values |= oks.summarize(side.matches, group.frames)
        else:
            values |= dict.fromkeys(_AP_KEYS)
    for key, measure in side.measures.items():
        rows = _rows_of(measure, group, side)
        values[key] = None if rows is None else _plain(measure.total(rows))
        if measure.columns:
            shares = measure.column_shares(rows) if rows is not None else np.full(1, np.nan)
            values[f"{key}_joint_mean"] = _plain(_mean(shares))
    return values


def _rows(side: Side, groups: list[Group], settings: Settings) -> dict[str, Any]:
    result: dict[str, Any] = {"all": _row(side, groups[0]), "groups": {by: {} for by in settings.by}}
    for group in groups[1:]:
        result["groups"][group.by][group.name] = _row(side, group)
    return result


def _joint_rows(side: Side, joints: Sequence[str], frames_used: np.ndarray) -> dict[str, dict[str, Any]]:
    """Joint -> metric -> share; limbs follow under their own names for PCP."""
    rows: dict[str, dict[str, Any]] = {name: {} for name in joints}
    for key, measure in side.measures.items():
        source = measure.per_column or measure
        if not source.columns:
            continue
        everybody = frames_used[source.frame]
        labelled = (source.valid & everybody[:, None]).sum(axis=0)
        for name, share, count in zip(source.columns, source.column_shares(everybody), labelled, strict=True):
            row = rows.setdefault(name, {})
            row[key] = _plain(share)
            row["labelled"] = max(int(count), row.get("labelled", 0))
    return rows


def _about(side: Side, labels: Labels, frames_used: np.ndarray) -> dict[str, Any]:
    return {
        "references": side.references,
        "areas": side.areas,
        "counts": side.counts,
        "frames": {
            "labelled": len(labels.frames),
            "evaluated": int(frames_used.sum()),
            "predicted": len(side.predictions.frames),
            "met_by": side.partners.ways,
            "labelled_without_prediction": side.partners.without_predictions,
            "predicted_without_labels": side.partners.without_labels,
            "ambiguous_names": side.partners.ambiguous,
            "examples_without_labels": list(side.partners.examples),
        },
        "curves": {
            name: {"thresholds": c["thresholds"], "values": [_plain(v) for v in c["values"]]}
            for name, c in side.curves.items()
        },
        "heat_curve": heat_curve(side.predictions) if "heat" in side.measures else [],
    }


def _explain(result: dict[str, Any]) -> list[str]:
    """Says in words why an AP or AR is -1."""
    notes = []
    for where, row in [("all", result["all"])] + [
        (f"{by} {name}", row) for by, rows in result["groups"].items() if by != "joint" for name, row in rows.items()
    ]:
        empty = [k for k in _AP_KEYS if row.get(k) == -1]
        if "AP" in empty:
            notes.append(f"{where}: AP and AR are -1: no labelled person counts here, so there is nothing to find")
        elif empty:
            sizes = sorted({k.split("_")[1] for k in empty}, reverse=True)
            bounds = {"medium": "32^2 to 96^2", "large": "above 96^2"}
            text = " or ".join(f"{s} ({bounds[s]} pixels)" for s in sizes)
            notes.append(f"{where}: AP and AR are -1 for people of {text}: the labels have none of that size")
    return notes


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _draws(side: Side, group: Group, weights: np.ndarray, unit: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (B,) values of the group over the draws; NaN where a draw has nothing to measure."""
    values: dict[str, np.ndarray] = {}
    if side.matches is not None and group.track is None:
        values |= oks.resampled_ap(side.matches, weights, unit, group.frames)
    size = weights.shape[1]
    for key, measure in side.measures.items():
        rows = _rows_of(measure, group, side)
        if rows is None or not rows.any():
            continue
        valid = measure.valid & rows[:, None]
        where = unit[measure.frame]
        columns = range(valid.shape[1])
        hits = np.stack([np.bincount(where, np.where(valid, measure.hit, 0.0)[:, c], size) for c in columns], axis=1)
        counts = np.stack([np.bincount(where, valid[:, c], size) for c in columns], axis=1)
        hit, count = weights @ hits, weights @ counts
        with np.errstate(invalid="ignore", divide="ignore"):
            values[key] = hit.sum(axis=1) / count.sum(axis=1)
            if measure.columns:
                shares = hit / count
                there = ~np.isnan(shares)
                total = np.where(there, shares, 0.0).sum(axis=1)
                values[f"{key}_joint_mean"] = total / there.sum(axis=1)
    return values


def _add_intervals(
    result: dict[str, Any],
    first: Side,
    second: Side | None,
    groups: list[Group],
    unit: np.ndarray,
    unit_name: str,
    settings: Settings,
    notes: list[str],
) -> None:
    """Percentile intervals (95 %) for every row, and for the differences when there are two predictions."""

    def row_of(table: dict[str, Any], group: Group) -> dict[str, Any]:
        if group.by == "all":
            return table["all"]
        return table["groups"].setdefault(group.by, {}).setdefault(group.name, {})

    for number, group in enumerate(groups):
        weights = None
        if settings.bootstrap:
            weights = _weights(unit[group.frames], int(unit.max()) + 1, settings, number)
            if weights is None:
                notes.append(f"{group.name}: no interval from {1 if group.frames.any() else 0} of the {unit_name}")
        one = {} if weights is None else _draws(first, group, weights, unit)
        two = {} if weights is None or second is None else _draws(second, group, weights, unit)
        if weights is not None:
            row_of(result, group)["intervals"] = _intervals(one)
            if second is not None:
                row_of(result["second"], group)["intervals"] = _intervals(two)
        if second is None:
            continue
        before, after = row_of(result, group), row_of(result["second"], group)
        differences = row_of(result["difference"], group)
        for key in before:
            if key in ("frames", "people", "intervals") or before[key] is None or after.get(key) is None:
                continue
            if key in _AP_KEYS and -1 in (before[key], after[key]):
                continue
            entry: dict[str, Any] = {"value": after[key] - before[key]}
            if key in one and key in two:
                low, high = _interval(two[key] - one[key])
                entry |= {"interval": [low, high], "holds": low is not None and (low > 0 or high < 0)}
            differences[key] = entry


def _weights(units_here: np.ndarray, size: int, settings: Settings, number: int) -> np.ndarray | None:
    """(B, U) how often each unit was drawn; None when there are fewer than two to draw from."""
    units = np.unique(units_here)
    if len(units) < 2:
        return None
    random = np.random.default_rng([settings.seed, number])
    weights = np.zeros((settings.bootstrap, size))
    for row in weights:
        row[:] = np.bincount(units[random.integers(len(units), size=len(units))], minlength=size)
    return weights


def _intervals(draws: dict[str, np.ndarray]) -> dict[str, list[float | None]]:
    return {key: list(_interval(values)) for key, values in draws.items()}


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
