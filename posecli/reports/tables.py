"""Figures of a result as cells of the report's tables: numbers with their intervals and units, as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from posecli.metrics.summary import main_columns, main_rows, part_table, shown

_OF_TRACKS = ("MOT", "ID", "HOTA", "Det", "Ass", "Loc", "PoseTrack")
_MORE = ("MOT_mostly_tracked",)  # of the counts those of which more is better
_NOT_METRICS = ("frames", "people", "intervals")
_ABOUT = (
    ("AP", "average precision over OKS 0.50 to 0.95, as COCO counts it"),
    ("mean_OKS", "likeness to the labels, over all labelled people"),
    ("PCKh@", "joints within that share of the head size"),
    ("PCK@", "joints within that share of the reference length"),
    ("PDJ_AUC", "area under the curve of detected joints"),
    ("PCP@", "limbs with both ends in place"),
    ("CrowdPose_AP", "average precision as CrowdPose counts it"),
    ("EPE", "distance of found joints to their labels"),
    ("NME", "the same as a share of the reference length"),
    ("MOTA", "people found and kept under one id"),
    ("IDF1", "frames in which people bear their own id"),
    ("HOTA", "detection and association in equal parts"),
    ("PoseTrack_MOTA", "joints found and kept under one id"),
    ("heat", "local NMS score: needs no labels"),
)


@dataclass(frozen=True)
class Cell:
    """A figure and its interval, as text; ``direction`` is up or down where a difference is beyond chance."""

    value: str
    range: str = ""
    direction: str = ""


def _number(key: str, value: float | None, unit: str, sign: str = "") -> str:
    """A figure as text: shares and ratios x 100, pixels and counts as they are."""
    if value is None or (value == -1 and key.startswith(("AP", "AR", "CrowdPose"))):
        return "–"
    if unit == "count":
        return f"{value:{sign},.0f}"
    return f"{value if unit == 'px' else 100 * value:{sign}.1f}"


def _range(key: str, ends: Sequence[float | None] | None, unit: str, sign: str = "") -> str:
    low, high = ends or (None, None)
    if low is None or high is None:
        return ""
    return f"{_number(key, low, unit, sign)} to {_number(key, high, unit, sign)}"


def _cell(result: dict[str, Any], row: dict[str, Any], key: str) -> Cell:
    unit = result["units"].get(key, "share")
    return Cell(_number(key, row.get(key), unit), _range(key, (row.get("intervals") or {}).get(key), unit))


def _difference(result: dict[str, Any], row: dict[str, Any], key: str) -> Cell:
    """Second minus first; coloured where it holds: up for better, whichever way that is."""
    entry = row.get(key)
    if entry is None:
        return Cell("–")
    unit = result["units"].get(key, "share")
    direction = ""
    if entry.get("holds"):
        direction = "up" if (entry["value"] > 0) == (unit == "share" or key in _MORE) else "down"
    # Signs tell that it is a difference; the pair of minus and number is not broken over lines.
    return Cell(_number("", entry["value"], unit, "+"), _range("", entry.get("interval"), unit, "+"), direction)


def sides_of(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [result, result["second"]] if "second" in result else [result]


def cards(result: dict[str, Any]) -> list[dict[str, Any]]:
    cards = []
    for key, heading in main_columns(result):
        about = next(
            (text for start, text in _ABOUT if key == start or (start[-1] == "@" and key.startswith(start))), ""
        )
        both = "second" in result and key in result["difference"]["all"]
        cards.append(
            {
                "title": heading,
                "cells": [_cell(result, side["all"], key) for side in sides_of(result)],
                "about": about,
                "difference": _difference(result, result["difference"]["all"], key) if both else None,
            }
        )
    return cards


def main_table(result: dict[str, Any]) -> tuple[list[str], list[list[dict[str, Any]]]]:
    """The total and each group; with two predictions three rows for each."""
    columns = main_columns(result)
    headings = ["", "frames", "people", *(heading for _, heading in columns)]

    def row(name: str, values: dict[str, Any], kind: str = "") -> dict[str, Any]:
        cells = [
            Cell(f"{values['frames']:,}"),
            Cell(f"{values['people']:,}"),
            *(_cell(result, values, k) for k, _ in columns),
        ]
        return {"name": name, "kind": kind, "cells": cells}

    if "second" not in result:
        rows = main_rows(result)
        return headings, [[row(name, values, "total" if name == "all" else "")] for name, values in rows]
    blocks = []
    triples = zip(main_rows(result), main_rows(result["second"]), main_rows(result["difference"]), strict=True)
    for (name, first), (_, other), (_, difference) in triples:
        cells = [Cell(""), Cell(""), *(_difference(result, difference, key) for key, _ in columns)]
        blocks.append(
            [row(f"{name}: first", first), row("second", other)]
            + [{"name": "second − first", "kind": "difference", "cells": cells}]
        )
    return headings, blocks


def metric_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Tables of every metric of the total: of whole people, of identities over time, of joints and limbs (these with
    their mean over joints)."""
    keys = [k for k in result["all"] if k not in _NOT_METRICS and not k.endswith("_joint_mean")]
    kinds: dict[str, list[str]] = {"People": [], "Identities": [], "Joints and limbs": []}
    for key in keys:
        if f"{key}_joint_mean" in result["all"]:
            kinds["Joints and limbs"].append(key)
        else:
            kinds["Identities" if key.startswith(_OF_TRACKS) else "People"].append(key)
    tables = []
    for title, chosen in kinds.items():
        headings, rows = ["", "total"], []
        for key in chosen:
            cells = [_cell(result, side["all"], key) for side in sides_of(result)]
            if "second" in result:
                cells.append(_difference(result, result["difference"]["all"], key))
                headings = ["", "first", "second", "second − first"]
            elif title == "Joints and limbs":
                cells.append(_cell(result, result["all"], f"{key}_joint_mean"))
                headings = ["", "total", "mean over joints"]
            rows.append({"name": metric_name(key, result["units"].get(key, "share")), "cells": cells})
        if rows:
            tables.append({"title": title, "headings": headings, "rows": rows})
    return tables


def metric_name(key: str, unit: str = "share") -> str:
    """``AP_medium`` as people write it: ``OKS-AP medium``; pixels are named."""
    name = key.replace("_", " ") + (", px" if unit == "px" else "")
    return f"OKS-{name}" if key.startswith(("AP", "AR")) else {"heat": "local NMS score"}.get(key, name)


def part_tables(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every figure of the joints and limbs; for two predictions first, second and their difference of the main ones."""
    tables = []
    for kind, title in (("joint", "Joints"), ("limb", "Limbs")):
        parts = result["groups"].get(kind)
        if not parts:
            continue
        if "second" not in result:
            headings, rows = part_table(parts)
            tables.append({"title": title, "headings": headings, "rows": rows})
            continue
        keys = main_part_keys(parts)
        headings = ["", "counted", *(f"{part_name(k)} {w}" for k in keys for w in ("first", "second", "2nd − 1st"))]
        rows = []
        for name, row in parts.items():
            cells = [name, f"{row.get('counted', 0):,}"]
            for key in keys:
                one, two = row.get(key), result["second"]["groups"][kind].get(name, {}).get(key)
                cells += [shown(one), shown(two)]
                # Not simply two - one: a difference is over what both measured.
                entry = result["difference"]["groups"].get(kind, {}).get(name, {}).get(key)
                cells.append("–" if entry is None else f"{100 * entry['value']:+.1f}")
            rows.append(cells)
        tables.append({"title": title, "headings": headings, "rows": rows})
    return tables


def main_part_keys(parts: dict[str, dict[str, Any]]) -> list[str]:
    """The first threshold of each metric that joints or limbs have, without the PDJ, which has a curve."""
    chosen: dict[str, str] = {}
    for key in dict.fromkeys(k for row in parts.values() for k in row if k != "counted"):
        chosen.setdefault(key.partition("@")[0], key)
    return [k for k in chosen.values() if k == "mean_OKS" or (k.startswith(("PCK", "PCP")) and "@" in k)]


def part_name(key: str) -> str:
    return "OKS" if key == "mean_OKS" else key
