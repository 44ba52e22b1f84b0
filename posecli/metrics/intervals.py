"""Percentile bootstrap (Efron, 1979) over videos and pictures, also of the difference of two predictions.

Frames of one video are not independent, so whole videos are drawn. Both predictions see the same draws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posecli.metrics import oks
from posecli.metrics.groups import AP_KEYS, Group, rows_of
from posecli.metrics.measures import Side
from posecli.metrics.options import Settings
from posecli.metrics.people import Labels

_WEIGHTS_AT_ONCE = 5_000_000  # counts held at once: 40 MB


def independent_units(labels: Labels) -> tuple[np.ndarray, str]:
    """(F,) the independent unit of each frame, and its name: whole videos, since their frames are not independent."""
    video = labels.frames.video
    picture = len(labels.frames.videos) + np.arange(len(video))
    unit = np.unique(np.where(video >= 0, video, picture), return_inverse=True)[1]
    if (video >= 0).all():
        return unit, "videos"
    return unit, "videos and single pictures" if (video >= 0).any() else "pictures"


def add_intervals(
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

    too_few = []
    for number, group in enumerate(groups):
        units = np.unique(unit[group.frames])
        one: dict[str, np.ndarray] = {}
        two: dict[str, np.ndarray] = {}
        if settings.bootstrap and len(units) < 2:
            too_few.append(group.name)
        elif settings.bootstrap:
            one, two = _all_draws([s for s in (first, second) if s is not None], group, units, unit, settings, number)
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
            if key in AP_KEYS and -1 in (before[key], after[key]):
                continue
            entry: dict[str, Any] = {"value": after[key] - before[key]}
            if key in one and key in two:
                low, high = _interval(two[key] - one[key])
                entry |= {
                    "interval": [low, high],
                    "holds": low is not None and high is not None and (low > 0 or high < 0),
                }
            differences[key] = entry
    if too_few:
        some = ", ".join(too_few[:5]) + (f" and {len(too_few) - 5} more" if len(too_few) > 5 else "")
        notes.append(f"no intervals for {some}: only one of the {unit_name} to draw from")


def _all_draws(
    sides: list[Side], group: Group, units: np.ndarray, unit: np.ndarray, settings: Settings, number: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Metric -> (B,) for the first and the second side, on the same draws; blocks of draws bound the memory."""
    random = np.random.default_rng([settings.seed, number])
    size = int(unit.max()) + 1
    block = max(1, min(settings.bootstrap, _WEIGHTS_AT_ONCE // size))
    parts: list[list[dict[str, np.ndarray]]] = [[] for _ in sides]
    for start in range(0, settings.bootstrap, block):
        weights = np.zeros((min(block, settings.bootstrap - start), size))
        for row in weights:
            row[:] = np.bincount(units[random.integers(len(units), size=len(units))], minlength=size)
        for side, part in zip(sides, parts, strict=True):
            part.append(_draws(side, group, weights, unit))
    joined = [{key: np.concatenate([p[key] for p in part]) for key in part[0]} for part in parts]
    return joined[0], joined[1] if len(joined) > 1 else {}


def _draws(side: Side, group: Group, weights: np.ndarray, unit: np.ndarray) -> dict[str, np.ndarray]:
    """Metric -> (B,) values of the group over the draws; NaN where a draw has nothing to measure."""
    values: dict[str, np.ndarray] = {}
    if side.matches is not None and group.track is None:
        values |= oks.resampled_ap(side.matches, weights, unit, group.frames)
    size = weights.shape[1]
    for key, measure in side.measures.items():
        rows = rows_of(measure, group, side)
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


def _intervals(draws: dict[str, np.ndarray]) -> dict[str, list[float | None]]:
    return {key: list(_interval(values)) for key, values in draws.items()}


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
