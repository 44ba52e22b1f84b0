"""Why a figure is missing: every None and every -1 of a result, in words."""

from __future__ import annotations

from typing import Any

from posecli.metrics.groups import AP_KEYS

_BOUNDS = {"medium": "32^2 to 96^2", "large": "above 96^2"}
_WHOLE_FRAMES = ("AP", "CrowdPose_AP", "MOTA", "IDF1", "HOTA", "PoseTrack_MOTA", "heat")
# Of a figure's name, what it needs; the first that fits speaks.
_NEEDS = (
    ("PCK_pixels", "no labelled joint counts"),
    ("PCK", "no labelled joint of a person with a reference length counts"),
    ("PDJ", "no labelled joint of a person with a torso counts"),
    ("PCP", "no limb has both ends labelled"),
    ("mean_OKS", "no labelled person with an area counts"),
    ("EPE", "no labelled joint was found"),
    ("NME", "no labelled joint of a person with a reference length was found"),
    ("heat", "no predicted person at or above the threshold has a heat"),
    ("MOTP", "nobody was matched"),
    ("IDP", "nobody was predicted"),
    ("LocA", "nobody was matched"),
    ("PoseTrack_MOTP", "no joint was matched"),
    ("PoseTrack_precision", "no joint was predicted"),
    ("", "nobody is labelled there"),
)


def explain(result: dict[str, Any]) -> list[str]:
    """Sentences for the notes of a result."""
    notes = []
    for where, row in _rows(result):
        notes += _without_people(where, row)
    notes += _nothing_measured("all", result["all"])
    several = False
    for by, rows in result["groups"].items():
        if by == "track":
            if any(row.get(key, 0) is None for row in rows.values() for key in _WHOLE_FRAMES):
                notes.append("by track: AP, tracking metrics and heat are of whole frames, not of one person")
            continue
        several |= any(
            value is None and result["all"].get(key) is not None for row in rows.values() for key, value in row.items()
        )
    if several:
        notes.append("a dash stands where a row has nothing to measure: no label of that kind counts there")
    return notes


def _rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    rows = [("all", result["all"])]
    for by, group in result["groups"].items():
        if by not in ("joint", "limb"):
            rows += [(f"{by} {name}", row) for name, row in group.items()]
    return rows


def _without_people(where: str, row: dict[str, Any]) -> list[str]:
    """Says in words why an AP or AR is -1."""
    notes = []
    empty = [k for k in AP_KEYS if row.get(k) == -1]
    if "AP" in empty:
        notes.append(f"{where}: AP and AR are -1: no labelled person counts here, so there is nothing to find")
    elif empty:
        sizes = sorted({k.split("_")[1] for k in empty}, reverse=True)
        text = " or ".join(f"{s} ({_BOUNDS[s]} pixels)" for s in sizes)
        notes.append(f"{where}: AP and AR are -1 for people of {text}: the labels have none of that size")
    if row.get("CrowdPose_AP") == -1:
        notes.append(f"{where}: CrowdPose's AP and AR are -1: no labelled person counts here")
    else:
        levels = [k for k in ("easy", "medium", "hard") if row.get(f"CrowdPose_AP_{k}") == -1]
        if levels:
            notes.append(f"{where}: CrowdPose's AP is -1 for {', '.join(levels)}: no labelled person is of that level")
    return notes


def _nothing_measured(where: str, row: dict[str, Any]) -> list[str]:
    """One sentence for each reason why figures of a row are None."""
    reasons: dict[str, list[str]] = {}
    for key, value in row.items():
        if value is None and not key.endswith("_joint_mean"):
            reason = next(text for start, text in _NEEDS if key.startswith(start))
            reasons.setdefault(reason, []).append(key)
    return [f"{where}: no {', '.join(keys)}: {reason}" for reason, keys in reasons.items()]
