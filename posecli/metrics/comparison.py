"""Are two predictions different? A paired permutation test, and the answer in words.

If the two were equally good, it would not matter which of them a picture (or video) came from. So the two are swapped
at random picture by picture, both metrics are formed anew from whole pictures (AP included: its curve is accumulated
over the mixed detections), and p is the share of such mixtures whose difference is at least as large as the one
observed (Fisher, The Design of Experiments, 1935; Phipson & Smyth, Permutation P-values Should Never Be Zero, 2010).
With few units all mixtures are tried; otherwise p is (1 + at least as large) / (1 + tried).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from posecli.metrics.both import OverBoth
from posecli.metrics.measures import Side
from posecli.metrics.resampling import Key, Sampler
from posecli.metrics.summary import main_columns

LEVEL = 0.05
FEW_UNITS = 10  # below, a percentile interval is known to be too narrow
_SWAPS_AT_ONCE = 2_000_000
# Differences of sums in another order may differ in their last digits; equal ones must count as equal.
_TIE = 1e-12


def p_values(first: Sampler, second: Sampler, units: int, draws: int, seed: list[int]) -> dict[Key, float]:
    """Two-sided p of the difference ``second - first``, for every metric that both have.

    Args:
        units: number of units that can change sides.
        draws: random mixtures; all 2^units are tried where that is not more.
        seed: of the mixtures.
    """
    exact = units < 60 and 2**units <= draws
    random = np.random.default_rng(seed)
    observed = first.draw_differences(second, np.zeros((1, units)))
    larger = dict.fromkeys(observed, 0)
    total = 2**units if exact else draws
    block = max(1, min(total, _SWAPS_AT_ONCE // units))
    for start in range(0, total, block):
        count = min(block, total - start)
        if exact:
            swapped = (np.arange(start, start + count)[:, None] >> np.arange(units) & 1).astype(np.float64)
        else:
            swapped = random.integers(2, size=(count, units)).astype(np.float64)
        for key, values in first.draw_differences(second, swapped).items():
            with np.errstate(invalid="ignore"):
                larger[key] += int((np.abs(values) >= abs(observed[key][0]) - _TIE).sum())
    if exact:
        return {key: count / total for key, count in larger.items() if not np.isnan(observed[key][0])}
    return {key: (1 + count) / (1 + total) for key, count in larger.items() if not np.isnan(observed[key][0])}


def difference_entry(
    value: float, interval: tuple[float | None, float | None] | None, p: float | None
) -> dict[str, Any]:
    """``{"value", "interval", "p", "holds"}`` of a difference; the last three only where draws were made.

    A difference holds when its 95 % interval leaves out 0 and p is at most 0.05.
    """
    entry: dict[str, Any] = {"value": value}
    if interval is not None:
        low, high = interval
        apart = low is not None and high is not None and (low > 0 or high < 0)
        entry |= {"interval": [low, high], "p": p, "holds": apart and p is not None and p <= LEVEL}
    return entry


def verdict(
    name: str,
    entry: dict[str, Any],
    sides: tuple[str, str],
    *,
    scale: float = 100.0,
    unit: str = "points",
    higher_is_better: bool = True,
    about: str = "",
) -> str:
    """Says in words whether a difference holds.

    Args:
        name: of the metric. entry: see `difference_entry`. sides: names of the first and the second prediction.
        scale, unit: how the difference is printed. higher_is_better: False for errors.
        about: what is said behind it.
    """
    about = f", {about}" if about else ""
    value = scale * entry["value"]
    low, high = (None if v is None else scale * v for v in entry.get("interval") or (None, None))
    chance = _p_text(entry.get("p"))
    if low is None or high is None:
        return f"{name}: {sides[1]} - {sides[0]} = {value:+.1f} {unit}{about}; nothing says whether that is chance"
    if entry["value"] == 0 and low == high == 0:
        return f"{name}: no difference, {sides[0]} and {sides[1]} are equal on every draw{about}"
    if not entry["holds"]:
        return (
            f"{name}: no difference shown; {sides[1]} - {sides[0]} = {value:+.1f} {unit} [{low:+.1f}, {high:+.1f}], "
            f"{chance}{about}"
        )
    better, worse = (sides[1], sides[0]) if (entry["value"] > 0) == higher_is_better else sides
    size = sorted(abs(v) for v in (low, high))
    return (
        f"{name}: {better} is better than {worse} by {abs(value):.1f} {unit} [{size[0]:.1f}, {size[1]:.1f}], "
        f"{chance}{about}"
    )


def verdicts(result: dict[str, Any], first: Side, both: OverBoth | None = None) -> list[str]:
    """A sentence for each metric of the main table that both predictions have, over everything evaluated; one more
    where there are few units."""
    names = short_names(result["predictions"], result["second"]["predictions"])
    sentences = []
    for key, heading in main_columns(result):
        entry = result["difference"]["all"].get(key)
        if entry is None:
            continue
        measure = first.measures.get(key)
        pixels = measure is not None and measure.unit == "px"
        sentences.append(
            verdict(
                heading,
                entry,
                names,
                scale=1.0 if pixels else 100.0,
                unit="px" if pixels else "points",
                higher_is_better=measure is None or measure.higher_is_better,
                about="" if both is None else both.words(key),
            )
        )
    few = few_units(result["settings"])
    return [*sentences, few] if sentences and few else sentences


def few_units(settings: dict[str, Any]) -> str:
    """Says in words what few units mean for differences; empty where there are enough, or nothing was drawn.

    Args:
        settings: of a result of `evaluate`.
    """
    units, name = settings["units"], settings["unit"]
    if not settings["bootstrap"] or not 2 <= units < FEW_UNITS:
        return ""
    least = 2 / 2**units
    text = f"only {units} {name}: intervals are likely too narrow"
    # All ways to swap were tried: the observed one and its mirror image are always among the largest.
    return text + (f", and no p can be below {least:.3g}, so no difference can hold" if least > LEVEL else "")


def short_names(first: str, second: str) -> tuple[str, str]:
    """The last parts of two paths, as many as it takes to tell them apart; "first" and "second" where nothing does."""
    a, b = (p.replace("\\", "/").rstrip("/").split("/") for p in (first, second))
    for count in range(1, max(len(a), len(b)) + 1):
        one, two = "/".join(a[-count:]), "/".join(b[-count:])
        if one != two:
            return one, two
    return "first", "second"


def _p_text(p: float | None) -> str:
    if p is None:
        return "no p"
    return "p < 0.001" if p < 0.0005 else f"p = {p:.3f}"
