"""Percentile bootstrap (Efron, 1979) over videos and pictures, also of the difference of two predictions.

Frames of one video are not independent, so whole videos are drawn. Both predictions see the same draws, and whether
they differ is also tested by swapping them video by video (`posecli.metrics.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from posecli.metrics import crowdpose
from posecli.metrics.both import OverBoth
from posecli.metrics.comparison import FEW_UNITS, difference_entry, p_values
from posecli.metrics.groups import AP_KEYS, Group, group_rows, joint_rows
from posecli.metrics.measures import Side
from posecli.metrics.options import Settings
from posecli.metrics.people import Labels
from posecli.metrics.resampling import Key, Sampler

_WEIGHTS_AT_ONCE = 5_000_000  # counts held at once: 40 MB
AP_LIKE = (*AP_KEYS, *crowdpose.KEYS)  # -1 where there is nobody to find
_NOT_MEASURED = ("frames", "people", "intervals", "counted")


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
    both: OverBoth | None = None,
) -> None:
    """Percentile intervals (95 %) for every row, joint and limb; with two predictions also for the differences, with p.

    Args:
        result: of `evaluate`; rows get ``intervals``, ``difference`` its entries (see `difference_entry`).
        unit: (F,) the unit of each frame, see `independent_units`; ``unit_name``: what the units are.
        notes: is told of rows with too few units.
        both: the two predictions over what both measured, where that is less than each has.
    """
    sides = [first] if second is None else [first, second]
    over = [] if both is None else [_table(side, result, groups, settings) for side in both.sides]
    too_few, few = [], []
    for number, group in enumerate(groups):
        units, local = np.unique(unit[group.frames], return_inverse=True)
        place = np.full(len(unit), -1)
        place[group.frames] = local
        drawn: list[dict[Key, np.ndarray]] = [{} for _ in sides]
        compared = drawn
        p: dict[Key, float] = {}
        if settings.bootstrap and len(units) < 2:
            too_few.append(group.name)
        elif settings.bootstrap:
            if len(units) < FEW_UNITS:
                few.append(f"{group.name} ({len(units)})")
            whole = number == 0 and "joint" in settings.by
            samplers = [Sampler(side, group, place, len(units), columns=whole) for side in sides]
            drawn = compared = _all_draws(samplers, len(units), settings, number)
            if second is not None:
                seed = [settings.seed, number, 1]
                p = p_values(samplers[0], samplers[1], len(units), settings.bootstrap, seed)
                if both is not None:  # on the same draws and swaps
                    pair = [Sampler(side, group, place, len(units), columns=whole) for side in both.sides]
                    again = _all_draws(pair, len(units), settings, number)
                    compared = [own | common for own, common in zip(drawn, again, strict=True)]
                    p |= p_values(pair[0], pair[1], len(units), settings.bootstrap, seed)
        tables = [result] if second is None else [result, result["second"]]
        for table, values in zip(tables, drawn, strict=True):
            for key, (low, high) in ((k, _interval(v)) for k, v in values.items()):
                if low is not None:
                    _row(table, group, key).setdefault("intervals", {})[key[0]] = [low, high]
        if second is not None:
            _add_differences(result, group, over, compared, p)
            if number == 0 and "joint" in settings.by:
                for kind in ("joint", "limb"):
                    for name in result["groups"].get(kind, {}):
                        _add_differences(result, Group(kind, name, group.frames), over, compared, p)
    if too_few:
        notes.append(f"no intervals for {_some(too_few)}: only one of the {unit_name} to draw from")
    if few:
        notes.append(
            f"the intervals of {_some(few)} rest on fewer than {FEW_UNITS} {unit_name} and are likely too narrow"
        )


def _table(side: Side, result: dict[str, Any], groups: list[Group], settings: Settings) -> dict[str, Any]:
    """Rows of one prediction, those of joints and limbs among them where asked for."""
    table = group_rows(side, groups, settings)
    if "joint" in settings.by:
        table["groups"] |= joint_rows(side, result["joints"]["compared"], groups[0].frames)
    return table


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _row(table: dict[str, Any], group: Group, key: Key = ("", "")) -> dict[str, Any]:
    """The row of a group, or of the joint or limb the key names."""
    if key[1]:
        kind = next(k for k in ("joint", "limb") if key[1] in table["groups"].get(k, {}))
        return table["groups"][kind][key[1]]
    if group.by == "all":
        return table["all"]
    return table["groups"].setdefault(group.by, {}).setdefault(group.name, {})


def _add_differences(
    result: dict[str, Any],
    group: Group,
    over: list[dict[str, Any]],
    drawn: list[dict[Key, np.ndarray]],
    p: dict[Key, float],
) -> None:
    """Second minus first for every metric that both have in this row; ``over`` are the tables (first, second) of those
    that are compared over what both measured."""
    before, after = _row(result, group), _row(result["second"], group)
    if over:
        before, after = before | _row(over[0], group), after | _row(over[1], group)
    column = group.name if group.by in ("joint", "limb") else ""
    target = _row(result["difference"], group)
    for name, value in before.items():
        if name in _NOT_MEASURED or value is None or after.get(name) is None:
            continue
        if name.removeprefix("CrowdPose_") in AP_LIKE and -1 in (value, after[name]):
            continue
        key = (name, column)
        interval = None
        if key in drawn[0] and key in drawn[-1]:
            interval = _interval(drawn[-1][key] - drawn[0][key])
        target[name] = difference_entry(after[name] - value, interval, p.get(key))


def _all_draws(samplers: list[Sampler], size: int, settings: Settings, number: int) -> list[dict[Key, np.ndarray]]:
    """For each sampler metric -> (B,), all on the same draws; blocks of draws bound the memory."""
    parts: list[list[dict[Key, np.ndarray]]] = [[] for _ in samplers]
    for weights in _draw_weights(size, settings.bootstrap, [settings.seed, number]):
        for sampler, part in zip(samplers, parts, strict=True):
            part.append(sampler.draw(weights))
    return [{key: np.concatenate([p[key] for p in part]) for key in part[0]} for part in parts]


def _draw_weights(size: int, draws: int, seed: list[int]) -> Iterator[np.ndarray]:
    """(b, size) float64 blocks of how often each unit was drawn."""
    random = np.random.default_rng(seed)
    block = max(1, min(draws, _WEIGHTS_AT_ONCE // size))
    for start in range(0, draws, block):
        weights = np.zeros((min(block, draws - start), size))
        for row in weights:
            row[:] = np.bincount(random.integers(size, size=size), minlength=size)
        yield weights


def _interval(values: np.ndarray) -> tuple[float | None, float | None]:
    values = values[~np.isnan(values)]
    if not len(values):
        return None, None
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)
