"""`evaluate`: labels against predictions, every metric, in groups, with intervals, for one or two prediction files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.metrics import oks
from posecli.metrics.both import over_both
from posecli.metrics.comparison import verdicts
from posecli.metrics.diagnosis import diagnose as kinds_of_errors
from posecli.metrics.explain import explain
from posecli.metrics.groups import group_rows, joint_rows, make_groups, plain, units_of
from posecli.metrics.intervals import add_intervals, independent_units
from posecli.metrics.local_score import heat_curve
from posecli.metrics.measures import Side, measure_side
from posecli.metrics.options import DEFAULT_METRICS, Settings, check_settings
from posecli.metrics.pairing import CommonJoints, FramePartners, common_joints, pair_frames
from posecli.metrics.peers import compat_block, compat_notes
from posecli.metrics.people import Labels, Predictions
from posecli.metrics.reading import collector_paused, read_labels, read_predictions
from posecli.types import Dataset, Skeleton

if TYPE_CHECKING:
    from posecli.predictions import FramePoses, StreamHeader


def evaluate(
    gt: Dataset | str | Path,
    pred: str | Path | Iterable[tuple[StreamHeader, FramePoses]],
    pred2: str | Path | Iterable[tuple[StreamHeader, FramePoses]] | None = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    match: str = "oks",
    misses: str = "wrong",
    by: Sequence[str] = (),
    thresholds: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    bootstrap: int | None = None,
    seed: int = 0,
    min_joints: int = 1,
    joints: Sequence[str] | None = None,
    pck_reference: str = "auto",
    pckh_reference: str = "auto",
    compat: str | None = None,
    only_predicted: bool = False,
    diagnose: bool = False,
    skeleton: Skeleton | None = None,
    pred_skeleton: Skeleton | None = None,
    image_root: str | Path | None = None,
    warn: Callable[[str], None] | None = None,
    on_sides: Callable[[Labels, list[Side]], None] | None = None,
) -> dict[str, Any]:
    """Compares predictions with labels.

    Args:
        gt: labels: a `Dataset`, a COCO keypoint JSON, or anything `posecli.formats` reads.
        pred: predictions: pose stream, folder of streams, ``-``, COCO results list, AlphaPose, MediaPipe, OpenPose, a
            second data set of labels, or `(StreamHeader, FramePoses)`s.
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
        pck_reference: one or several of `posecli.metrics.pck.PCK_REFERENCES`, commas between; ``auto`` is the torso if
            the skeleton names one, else the box. Several give ``PCK_torso@0.2``, ``PCK_box@0.2`` and so on; ``pixels``
            gives ``PCK@5px`` and takes its thresholds from ``thresholds["pixels"]``.
        pckh_reference: ``auto`` (head box, else head segment), ``head-box``, ``head-segment``.
        compat: a name of `posecli.metrics.compat.COMPAT`: that scorer's rules, and its figures in ``compat``.
        only_predicted: leave out labelled frames that a stream has no line for.
        diagnose: also say what kinds of errors there are and what each costs, see `posecli.metrics.diagnosis`.
        skeleton: replaces the labels' skeleton; pred_skeleton: joints of predictions that do not name them (None: the
            same).
        image_root: folder of the pictures and videos, where labels or predictions take sizes from them.
        warn: takes remarks of the readers; None: they stand in ``notes``.
        on_sides: is handed the labels and the measures of each prediction, person by person (what reports draw).

    Returns:
        Plain numbers: ``all`` and ``groups[by][name]`` map metric names to values (OKS in [0, 1], shares in [0, 1];
        None where there is nothing to measure; AP -1 as in pycocotools, explained in ``notes``), each with
        ``frames``, ``people`` and ``intervals``; ``by`` joint gives ``groups["joint"]`` and ``groups["limb"]``; then
        ``joints``, ``references``, ``areas``, ``counts``, ``frames``, ``curves``, ``precision_recall``,
        ``heat_curve``, ``settings``, ``notes``; ``diagnosis`` where asked for; with ``pred2`` also ``second``,
        ``difference`` (second minus first, with interval and p) and ``verdicts`` (whether it holds, in words).

    Raises:
        UsageError: unknown names among the options.
        PoseError: unreadable files, no frame or joint in common, OKS asked of a skeleton without sigmas.
    """
    settings = check_settings(
        metrics, match, misses, by, thresholds, bootstrap, seed, min_joints, pck_reference, only_predicted, pred2,
        pckh_reference=pckh_reference, compat=compat,
    )  # fmt: skip
    with collector_paused():
        labels = read_labels(gt, skeleton, warn, image_root)
        unnamed = pred_skeleton or skeleton  # of predictions that do not name their joints
        predicted = [
            read_predictions(p, skeleton=unnamed, frames=labels.frames, warn=warn, image_root=image_root)
            for p in (pred, pred2)
            if p is not None
        ]
    return _evaluate(labels, predicted, settings, joints, on_sides, diagnose)


def _evaluate(
    labels: Labels,
    predicted: list[Predictions],
    settings: Settings,
    joints: Sequence[str] | None,
    on_sides: Callable[[Labels, list[Side]], None] | None,
    diagnose: bool,
) -> dict[str, Any]:
    common = _joints_of_all(labels, predicted, joints)
    partners = [pair_frames(labels.frames, p.frames, not p.is_stream) for p in predicted]
    frames_used = _frames_used(labels, predicted, partners, settings)
    first, *rest = [
        measure_side(labels, p, c, f, settings, frames_used)
        for p, c, f in zip(predicted, common, partners, strict=True)
    ]
    if on_sides is not None:
        on_sides(labels, [first, *rest])
    notes: list[str] = list(labels.notes)
    for p, c in zip(predicted, common, strict=True):
        if c.other_points and p.skeleton is not None:
            names = " and ".join(c.other_points)
            notes.append(f"{names}: another point in {p.skeleton.name} than in {labels.skeleton.name}; not compared")
    groups = make_groups(labels, settings, frames_used, first, notes)
    unit, unit_name = independent_units(labels)
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
            "units": len(np.unique(unit[frames_used])),
            "pck_references": list(settings.pck_references),
            "pckh_reference": settings.pckh_reference,
            "compat": settings.compat or None,
        },
        "units": units_of(first),
    }
    result |= group_rows(first, groups, settings)
    result |= _about(first, labels, frames_used, settings)
    compared = result["joints"]["compared"]
    if "joint" in settings.by:
        result["groups"] |= joint_rows(first, compared, frames_used)
    second = rest[0] if rest else None
    if second is not None:
        result["second"] = {"predictions": predicted[1].source, **group_rows(second, groups, settings)}
        result["second"] |= _about(second, labels, frames_used, settings)
        if "joint" in settings.by:
            result["second"]["groups"] |= joint_rows(second, compared, frames_used)
        result["difference"] = {"all": {}, "groups": {}}
    both = None if second is None else over_both(first, second)
    add_intervals(result, first, second, groups, unit, unit_name, settings, notes, both)
    if both is not None:
        notes += both.notes()
    if second is not None:
        result["verdicts"] = verdicts(result, first, both)
    if diagnose:
        result["diagnosis"] = kinds_of_errors(labels, first, settings, frames_used)
        if second is not None:
            result["second"]["diagnosis"] = kinds_of_errors(labels, second, settings, frames_used)
    result["notes"] = list(dict.fromkeys([*notes, *compat_notes(settings), *explain(result), *first.notes]))
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
        kept.append(replace(c, label_index=c.label_index[mask], predicted_index=c.predicted_index[mask]))
    return kept


def _frames_used(
    labels: Labels, predicted: list[Predictions], partners: list[FramePartners], settings: Settings
) -> np.ndarray:
    """(F,) bool: labelled frames that count."""
    # A frame that nobody has labelled would make every prediction on it wrong.
    used = labels.frames.judged
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


def _about(side: Side, labels: Labels, frames_used: np.ndarray, settings: Settings) -> dict[str, Any]:
    return {
        **({"compat": compat_block(side, settings, frames_used)} if settings.compat else {}),
        "references": side.references,
        "tracking": side.tracking,
        **({"hota_curve": side.hota_curve} if side.hota_curve else {}),
        "areas": side.areas,
        "counts": side.counts,
        "boxes": [dict(told) for told in side.predictions.boxes],
        "frames": {
            "labelled": len(labels.frames),
            "evaluated": int(frames_used.sum()),
            "not_labelled": int((~labels.frames.labelled).sum()),
            "predicted": len(side.predictions.frames),
            "met_by": side.partners.ways,
            "labelled_without_prediction": side.partners.without_predictions,
            "predicted_without_labels": side.partners.without_labels,
            "ambiguous_names": side.partners.ambiguous,
            "examples_without_labels": list(side.partners.examples),
        },
        "precision_recall": _precision_recall(side, frames_used),
        "curves": {
            name: {"thresholds": c["thresholds"], "values": [plain(v) for v in c["values"]]}
            for name, c in side.curves.items()
        },
        "heat_curve": heat_curve(side.predictions) if "heat" in side.measures else [],
    }


def _precision_recall(side: Side, frames_used: np.ndarray) -> dict[str, list[float]]:
    """Interpolated precision over recall at OKS 0.5, 0.75, and its mean over all thresholds; empty without labels."""
    if side.matches is None:
        return {}
    precision, _ = oks.precision_recall(side.matches, "all", frames_used)
    if precision.min() < 0:
        return {}
    rows = {"OKS 0.50": precision[0], "OKS 0.75": precision[5], "mean of 0.50 to 0.95": precision.mean(axis=0)}
    return {"recall": oks.RECALLS.round(2).tolist()} | {name: row.tolist() for name, row in rows.items()}
