"""Measures of paired people, joint by joint: PCK, PCKh, PDJ with their curves, PCP, EPE and NME."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from posecli.errors import PoseError
from posecli.metrics import pck, pcp
from posecli.metrics.compat import COMPAT
from posecli.metrics.options import Settings
from posecli.metrics.people import People
from posecli.metrics.side import Measure, Paired, Side
from posecli.types import Skeleton

CURVES = {"pck": np.linspace(0.0, 0.5, 51), "pckh": np.linspace(0.0, 1.0, 51), "pdj": pck.PDJ_CURVE}
AUC_GRID = np.linspace(0.0, 0.5, 51)
PIXEL_GRID = np.linspace(0.0, 30.0, 31)
MMPOSE_GRID = np.arange(20) / 20
MMPOSE_PIXELS = 30.0  # mmpose's AUC with its default norm_factor
_HRNET_LEFT_OUT = (6, 7)  # pelvis and thorax of MPII's joints


def add_shares(side: Side, settings: Settings) -> None:
    """Adds every measure of this module that was asked for, its curve and its reference."""
    if "pck" in settings.metrics:
        for kind in settings.pck_references:
            _add_pck(side, settings, kind)
    if "pckh" in settings.metrics:
        _add_pckh(side, settings)
    if "pdj" in settings.metrics:
        reference = pck.torso_reference(side.paired.people.xy, side.paired.people.visibility, side.paired.skeleton)
        if reference is None:
            side.notes.append(f"no PDJ: skeleton {side.paired.skeleton.name!r} names no torso")
        else:
            _add(side, settings, "pdj", "PDJ", reference, CURVES["pdj"])
    for name, kind in (("pcp", "PCP"), ("pcp-relaxed", "PCP_relaxed")):
        if name in settings.metrics:
            _add_pcp(side, settings, kind)
    if "epe" in settings.metrics or "nme" in settings.metrics:
        _add_errors(side, settings)


def _add(
    side: Side,
    settings: Settings,
    metric: str,
    name: str,
    reference: pck.Reference,
    grid: np.ndarray,
    *,
    auc_grid: np.ndarray = AUC_GRID,
    left_out: tuple[int, ...] = (),
    unit: str = "",
) -> None:
    """Shares at the thresholds, the area under the curve and the curve of one reference."""
    pair = side.paired
    peer = COMPAT.get(settings.compat)
    strict = peer is not None and metric in peer.strict
    usable = ~np.isnan(reference.length)
    valid = pair.judged & usable[:, None]
    if left_out:
        valid[:, np.isin(pair.label_index, left_out)] = False
    names = pair.compared.keypoints
    for threshold in settings.thresholds["pixels" if unit else metric]:
        key = f"{'PCK' if unit else name}@{threshold:g}{unit}"
        at = 0.11 if settings.compat == "hrnet" and metric == "pckh" and np.isclose(threshold, 0.1) else threshold
        hit = pck.correct(pair.distance, reference.length, at, strict)
        side.measures[key] = Measure(key, hit, valid, side.frame, names)
    key = f"{name}_AUC"
    if settings.compat == "mmpose" and metric == "pck":
        area = pck.mean_over_grid(
            pair.distance, reference.length, MMPOSE_GRID * (MMPOSE_PIXELS if unit else 1.0), strict
        )
    else:
        area = pck.area_under_curve(pair.distance, reference.length, auc_grid, strict)
    side.measures[key] = Measure(key, area, valid, side.frame, names)
    side.curves[name] = {
        "thresholds": [round(float(t), 6) for t in grid],
        "values": pck.curve(pair.distance, reference.length, valid, grid, strict),
    }
    side.references[name] = {
        "rule": reference.rule,
        "people": int(usable.sum()),
        "skipped": int((~usable).sum()),
        **({"by_rule": {k: v for k, v in reference.counts.items() if v}} if reference.counts else {}),
    }


def _add_pck(side: Side, settings: Settings, kind: str) -> None:
    reference = pck_length(side.paired, settings, kind)
    if kind == "pixels":
        _add(side, settings, "pck", "PCK_pixels", reference, PIXEL_GRID, auc_grid=PIXEL_GRID, unit="px")
        return
    name = "PCK" if len([k for k in settings.pck_references if k != "pixels"]) == 1 else f"PCK_{kind.replace('-', '_')}"
    _add(side, settings, "pck", name, reference, CURVES["pck"])


def pck_length(pair: Paired, settings: Settings, kind: str) -> pck.Reference:
    """PCK's reference, from all labelled joints, also those the predictions lack."""
    reference = reference_of(pair.people, pair.skeleton, settings, kind)
    if by_number(pair.skeleton, settings, kind):
        return replace(reference, length=_mmpose_length(pair, reference.length))
    return reference


def by_number(skeleton: Skeleton, settings: Settings, kind: str) -> bool:
    """Whether PCK's reference is mmpose's torso."""
    return settings.compat == "mmpose" and (kind == "torso" or (kind == "auto" and bool(skeleton.torso)))


def reference_of(people: People, skeleton: Skeleton, settings: Settings, kind: str) -> pck.Reference:
    """PCK's reference of labelled people, by their labels alone."""
    if not by_number(skeleton, settings, kind):
        return pck.pck_reference(kind, people.xy, people.visibility, people.box_xywh, skeleton, people.head_box_xyxy)
    names = skeleton.keypoints
    if len(names) < 6:
        raise PoseError("--compat mmpose measures the torso from joint 4 to 5, and there are none", hint="box")
    length = pck.segment_length(people.xy, people.visibility, skeleton, (names[4], names[5]))
    return pck.Reference(length, f"joints 4 and 5: {names[4]} to {names[5]} (--compat mmpose)", {})


def _mmpose_length(pair: Paired, length: np.ndarray) -> np.ndarray:
    """The lengths, those below 1 pixel replaced by the prediction's."""
    place = [np.flatnonzero(pair.label_index == i) for i in (4, 5)]
    if not all(len(p) for p in place):
        return length
    i, j = int(place[0][0]), int(place[1][0])
    own = np.hypot(*(pair.pred_xy[:, i] - pair.pred_xy[:, j]).T)
    short = (pair.people.visibility[:, [4, 5]] > 0).all(axis=1) & ~(length >= 1) & pair.found[:, [i, j]].all(axis=1)
    return np.where(short & (own > 0), own, length)


def _add_pckh(side: Side, settings: Settings) -> None:
    people, full = side.paired.people, side.paired.skeleton
    reference = pck.head_reference(people.xy, people.visibility, people.head_box_xyxy, full, settings.pckh_reference)
    if reference is None:
        missing = {
            "auto": "names no head segment, and nobody has a head box",
            "head-box": "may have head boxes, but nobody here has one",
            "head-segment": "names no head segment",
        }
        side.notes.append(f"no PCKh: skeleton {full.name!r} {missing[settings.pckh_reference]}")
        return
    left_out = _HRNET_LEFT_OUT if settings.compat == "hrnet" and len(full.keypoints) == 16 else ()
    _add(side, settings, "pckh", "PCKh", reference, CURVES["pckh"], left_out=left_out)


def _add_pcp(side: Side, settings: Settings, kind: str) -> None:
    pair = side.paired
    limbs, origin = pcp.limbs_of(pair.compared)
    if not limbs:
        side.notes.append(f"no {kind}: skeleton {pair.compared.name!r} names no limbs")
        return
    names = tuple(pcp.limb_names(pair.compared, limbs))
    rule, words = (pcp.pcp_strict, "both ends") if kind == "PCP" else (pcp.pcp_relaxed, "mean of both ends")
    judged = np.where(pair.judged, 1, 0)
    for threshold in settings.thresholds["pcp"]:
        key = f"{kind}@{threshold:g}"
        hit, valid = rule(pair.gt_xy, judged, pair.distance, limbs, threshold)
        side.measures[key] = Measure(key, hit.astype(np.float64), valid, side.frame, names)
    both = pair.judged[:, np.array(limbs)].all(axis=2)
    side.references[kind] = {
        "rule": f"length of the labelled limb, {words} ({origin})",
        "limbs": list(names),
        "people": int(valid.any(axis=1).sum()),
        "skipped": int((both & ~valid).sum()),
    }


def _add_errors(side: Side, settings: Settings) -> None:
    """EPE and NME: means over labelled joints that were found, so a joint not found is counted, not measured."""
    pair = side.paired
    names = pair.compared.keypoints
    measured = pair.judged & pair.found
    distance = np.where(measured, pair.distance, 0.0)
    counts = {"joints": int(measured.sum()), "joints_not_found": int((pair.judged & ~pair.found).sum())}
    if "epe" in settings.metrics:
        side.measures["EPE"] = Measure("EPE", distance, measured, side.frame, names, unit="px", higher_is_better=False)
        people = measured.any(axis=1)
        side.references["EPE"] = {
            "rule": "pixels", "people": int(people.sum()), "skipped": int((~people).sum()), **counts,
        }  # fmt: skip
    if "nme" in settings.metrics:
        kind = next((k for k in settings.pck_references if k != "pixels"), "auto")
        reference = pck_length(pair, settings, kind)
        usable = ~np.isnan(reference.length)
        share = distance / np.where(usable, reference.length, 1.0)[:, None]
        valid = measured & usable[:, None]
        side.measures["NME"] = Measure("NME", share, valid, side.frame, names, unit="ratio", higher_is_better=False)
        side.references["NME"] = {
            "rule": reference.rule, "people": int(usable.sum()), "skipped": int((~usable).sum()),
            "joints": int(valid.sum()), "joints_not_found": counts["joints_not_found"],
        }  # fmt: skip
