"""The figures that a published scorer prints, from what was measured under its rules (`posecli.metrics.compat`).

In the units and under the names of the peer: HRNet and poseval print percent, mmpose, CrowdPose and deeppose_tf shares.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posecli.metrics import crowdpose, pcp
from posecli.metrics.compat import COMPAT
from posecli.metrics.groups import plain
from posecli.metrics.options import Settings
from posecli.metrics.side import Measure, Paired, Side

_PAIRS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
_NOT_IN_POSEVAL = ("ear", "eye")


def compat_notes(settings: Settings) -> list[str]:
    """What was done as the peer does it."""
    if not settings.compat:
        return []
    peer = COMPAT[settings.compat]
    return [f"--compat {settings.compat} ({peer.source}): {rule}" for rule in peer.rules]


def compat_block(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    """``{"name", "source", "rules", "figures"}``; the figures are None where there is nothing to measure."""
    peer = COMPAT[settings.compat]
    figures = {
        "mmpose": _mmpose,
        "hrnet": _hrnet,
        "crowdpose": _crowdpose,
        "deeppose": _deeppose,
        "poseval": _poseval,
    }[settings.compat](side, settings, frames_used)
    return {"name": settings.compat, "source": peer.source, "rules": list(peer.rules), "figures": figures}


def _shares(measure: Measure, frames_used: np.ndarray) -> dict[str, float]:
    """Joint or limb -> share."""
    values = measure.column_shares(frames_used[measure.frame])
    return dict(zip(measure.columns, values.tolist(), strict=True))


def _mmpose(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    figures = {}
    for key, measure in side.measures.items():
        if key.startswith("PCK") and not key.startswith("PCKh"):
            shares = np.array(list(_shares(measure, frames_used).values()))
            shares = shares[~np.isnan(shares)]
            name = key.replace("PCK_AUC", "AUC").replace("PCK_pixels_AUC", "AUC px")
            figures[name] = float(shares.mean()) if len(shares) else None
        elif key in ("EPE", "NME"):
            figures[key] = plain(measure.total(frames_used[measure.frame]))
    return figures


def _hrnet(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    first = side.measures.get("PCKh@0.5")
    if first is not None:
        shares = _shares(first, frames_used)
        head = shares.get("head_top", float("nan"))
        figures["Head"] = plain(100 * head)
        for joint in _PAIRS:
            both = [shares.get(f"{which}_{joint}", float("nan")) for which in ("left", "right")]
            figures[joint.capitalize()] = plain(50 * sum(both))
    for key, name in (("PCKh@0.5", "Mean"), ("PCKh@0.1", "Mean@0.1")):
        if key in side.measures:
            measure = side.measures[key]
            figures[name] = plain(100 * measure.total(frames_used[measure.frame]))
    return figures


def _crowdpose(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    if side.crowdpose is None:
        return {}
    scores = crowdpose.crowdpose_scores(side.crowdpose, side.crowd_index, frames_used, rounded=True)
    return {key.removeprefix("CrowdPose_"): value for key, value in scores.items()}


def _sticks(pair: Paired) -> tuple[Paired | None, tuple[tuple[int, int], ...], tuple[str, ...]]:
    """The ten sticks as pairs of points; midpoints of shoulders and hips are added as two more joints."""
    names = list(pair.compared.keypoints)

    def at(*joints: str) -> tuple[int, ...] | None:
        return tuple(names.index(j) for j in joints) if all(j in names for j in joints) else None

    head = at(*(pair.skeleton.head[::-1])) if pair.skeleton.head else None
    torso = at("thorax", "pelvis")
    limbs: list[tuple[int, ...] | None] = []
    for side in ("right", "left"):
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("hip", "knee"), ("knee", "ankle")):
            limbs.append(at(f"{side}_{a}", f"{side}_{b}"))
    shoulders, hips = at("left_shoulder", "right_shoulder"), at("left_hip", "right_hip")
    if head is None or any(limb is None for limb in limbs) or (torso is None and (shoulders is None or hips is None)):
        return None, (), ()
    arrays = {key: getattr(pair, key) for key in ("gt_xy", "pred_xy", "judged", "found")}
    if torso is None:
        for key, values in arrays.items():
            middle = [
                values[:, ends].mean(axis=1) if values.ndim == 3 else values[:, ends].all(axis=1)
                for ends in (list(shoulders or ()), list(hips or ()))
            ]
            arrays[key] = np.concatenate([values, np.stack(middle, axis=1)], axis=1)
        torso = (len(names), len(names) + 1)
    distance = np.hypot(*np.moveaxis(arrays["gt_xy"] - arrays["pred_xy"], -1, 0))
    distance = np.where(arrays["found"], distance, np.inf)
    points = Paired(
        pair.frame, arrays["gt_xy"], arrays["pred_xy"], pair.visible, arrays["found"], arrays["judged"], distance,
        pair.people, pair.skeleton, pair.compared, pair.label_index,
    )  # fmt: skip
    ends = tuple((limb[0], limb[1]) for limb in (head, torso, *limbs) if limb is not None)
    titles = ("Head", "Torso", *(f"{s}{part}" for s in "RL" for part in ("U Arm", "L Arm", "U Leg", "L Leg")))
    return points, ends, titles


def _deeppose(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    points, ends, titles = _sticks(side.paired)
    if points is not None:
        use = frames_used[points.frame][:, None]
        for metric, name, rule in (("pcp", "strict", pcp.pcp_strict), ("pcp-relaxed", "relaxed", pcp.pcp_relaxed)):
            for threshold in settings.thresholds["pcp"] if metric in settings.metrics else ():
                judged = np.where(points.judged & use, 1, 0)
                hit, counted = rule(points.gt_xy, judged, points.distance, ends, threshold)
                with np.errstate(invalid="ignore"):
                    shares = hit.sum(axis=0) / counted.sum(axis=0)
                parts = [*shares[:2], *((shares[2:6] + shares[6:]) / 2)]
                figures[f"PCP {name}@{threshold:g}"] = {
                    **{title: plain(value) for title, value in zip(titles, shares.tolist(), strict=True)},
                    **{
                        title: plain(value)
                        for title, value in zip(("U Arm", "L Arm", "U Leg", "L Leg"), parts[2:], strict=True)
                    },
                    "mean": plain(float(np.mean(parts))),
                }
    for key, measure in side.measures.items():
        if key.startswith("PDJ@"):
            figures[key] = {name: plain(value) for name, value in _shares(measure, frames_used).items()}
    return figures


def _poseval(side: Side, settings: Settings, frames_used: np.ndarray) -> dict[str, Any]:
    sums = side.sequences.get("posetrack")
    if sums is None or sums.score_columns is None:
        return {}
    chosen = np.isin(sums.video, side.video[frames_used])
    values = sums.score_columns(sums.sums[chosen].sum(axis=0))
    kept = [not name.endswith(_NOT_IN_POSEVAL) for name in sums.columns]
    figures: dict[str, Any] = {}
    for key, title in (("MOTA", "MOTA"), ("MOTP", "MOTP"), ("precision", "Prec"), ("recall", "Rec")):
        by_joint = 100 * values[f"PoseTrack_{key}"][kept]
        if key == "MOTP":
            by_joint = np.where(np.isnan(by_joint), 0.0, by_joint)
        names = [name for name, keep in zip(sums.columns, kept, strict=True) if keep]
        there = by_joint[~np.isnan(by_joint)]
        figures[title] = {
            **{name: plain(value) for name, value in zip(names, by_joint.tolist(), strict=True)},
            "total": float(there.mean()) if len(there) else None,
        }
    return figures
