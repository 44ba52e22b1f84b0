"""What `evaluate` can be asked for, its defaults, and the check of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posecli.errors import UsageError
from posecli.metrics.pairing import MATCH_RULES

METRICS = ("oks", "pck", "pckh", "pdj", "pcp", "heat")
MISSES = ("wrong", "skip")
GROUPINGS = ("joint", "video", "tag", "track")
DEFAULT_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "pck": (0.2,),
    "pckh": (0.5,),
    "pdj": (0.1, 0.2, 0.3, 0.4),
    "pcp": (0.5,),
}


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


def check_settings(
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
    """The settings with defaults filled in; UsageError names the option that is not understood."""
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
