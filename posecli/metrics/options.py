"""What `evaluate` can be asked for, its defaults, and the check of what was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from posecli.errors import UsageError
from posecli.metrics.compat import COMPAT
from posecli.metrics.pairing import MATCH_RULES
from posecli.metrics.pck import PCK_REFERENCES, PCKH_REFERENCES

METRICS = (
    "oks", "crowdpose", "pck", "pckh", "pdj", "pcp", "pcp-relaxed", "epe", "nme", "heat", "mota", "idf1", "hota",
    "posetrack",
)  # fmt: skip
DEFAULT_METRICS = ("oks", "pck", "pckh", "pdj", "pcp", "heat")
MISSES = ("wrong", "skip")
GROUPINGS = ("joint", "video", "tag", "track")
DEFAULT_THRESHOLDS: dict[str, tuple[float, ...]] = {
    "pck": (0.2,),
    "pckh": (0.5,),
    "pdj": (0.1, 0.2, 0.3, 0.4),
    "pcp": (0.5,),
    "pixels": (5.0, 10.0, 20.0),
    "tracking": (0.5,),
}
_OF_LENGTHS = ("pck", "pckh", "pdj", "pcp")


# Whose a threshold is; "pixels" are those of PCK in pixels.
_USED_BY = {
    "pck": ("pck",), "pckh": ("pckh",), "pdj": ("pdj",), "pcp": ("pcp", "pcp-relaxed"), "pixels": ("pck",),
    "tracking": ("mota", "idf1", "hota", "posetrack"),
}  # fmt: skip


def refuse_unused(
    metrics: Sequence[str], pck_reference: str, pckh_reference: str, thresholds: Mapping[str, Sequence[float]]
) -> None:
    """UsageError where a reference length or threshold was given of which none of the metrics asked for knows.

    Thresholds for all metrics at once (those of `_OF_LENGTHS` are there) need one that does.
    """
    for option, value, users in (
        ("--pck-reference", pck_reference, ("pck", "nme")),
        ("--pckh-reference", pckh_reference, ("pckh",)),
    ):
        if value != "auto" and not set(users) & set(metrics):
            raise UsageError(f"{option} is for the metric {' or '.join(users)}", hint=f"--metrics ...,{users[0]}")
    at_once = set(_OF_LENGTHS) <= set(thresholds)
    groups: list[tuple[str, ...]] = [_OF_LENGTHS] if at_once else []
    groups += [(name,) for name in thresholds if not (at_once and name in _OF_LENGTHS)]
    for group in groups:
        known = [user for name in group for user in _USED_BY.get(name, ())]
        if known and not set(known) & set(metrics):
            what = f"--thresholds {group[0]}=" if len(group) == 1 else "--thresholds"
            raise UsageError(f"{what} is for the metric {' or '.join(known)}", hint=f"--metrics ...,{known[0]}")
    if "pixels" in thresholds and "pixels" not in pck_reference.split(","):
        raise UsageError("--thresholds pixels= is for --pck-reference pixels", hint="--pck-reference auto,pixels")


@dataclass(frozen=True)
class Settings:
    """What `evaluate` was asked for, checked; ``pck_reference`` is the first of ``pck_references``."""

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
    pck_references: tuple[str, ...] = ("auto",)
    pckh_reference: str = "auto"
    compat: str = ""


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
    *,
    pckh_reference: str = "auto",
    compat: str | None = None,
) -> Settings:
    """The settings with defaults filled in; UsageError names the option that is not understood."""
    references = [name.strip() for name in pck_reference.split(",") if name.strip()] or ["auto"]
    peer = compat or ""
    for given, known, what in (
        (metrics, METRICS, "metric"),
        ((match,), MATCH_RULES, "matching rule"),
        ((misses,), MISSES, "way to count misses"),
        (by, GROUPINGS, "grouping"),
        (references, PCK_REFERENCES, "PCK reference"),
        ((pckh_reference,), PCKH_REFERENCES, "PCKh reference"),
        ((peer,) if peer else (), tuple(COMPAT), "peer to be compatible with"),
    ):
        for name in given:
            if name not in known:
                raise UsageError(f"unknown {what} {name!r}", hint=f"one of {', '.join(known)}")
    if not metrics:
        raise UsageError("no metric asked for", hint=f"some of {', '.join(METRICS)}")
    if peer and not set(COMPAT[peer].metrics) & set(metrics):
        raise UsageError(f"{peer} changes {', '.join(COMPAT[peer].metrics)}, and none of them is asked for")
    chosen = dict(DEFAULT_THRESHOLDS)
    if peer == "hrnet":
        chosen["pckh"] = (0.5, 0.1)
    if thresholds is not None:
        given_thresholds = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(_OF_LENGTHS, thresholds)
        for name, values in given_thresholds.items():
            if name not in chosen:
                raise UsageError(f"{name!r} has no threshold to set", hint=f"one of {', '.join(chosen)}")
            chosen[name] = tuple(float(v) for v in values)
            if not chosen[name] or not all(0 < v < float("inf") for v in chosen[name]):
                raise UsageError(f"thresholds of {name} must be positive numbers")
    if len(chosen["tracking"]) > 1 or chosen["tracking"][0] > 1:
        raise UsageError("the threshold of tracking is one OKS, up to 1", hint="tracking=0.5")
    if bootstrap is None:
        bootstrap = 0 if pred2 is None else 1000
    if bootstrap < 0 or min_joints < 1:
        raise UsageError("bootstrap draws cannot be negative" if bootstrap < 0 else "min_joints must be at least 1")
    return Settings(
        tuple(dict.fromkeys(metrics)), match, misses, tuple(dict.fromkeys(by)), chosen, bootstrap, seed, min_joints,
        references[0], only_predicted, tuple(dict.fromkeys(references)), pckh_reference, peer,
    )  # fmt: skip
