"""Rows of a result: the total, and the parts by tag, video, track, joint and limb."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from posecli.metrics import crowdpose, oks
from posecli.metrics.crowdpose import crowdpose_scores
from posecli.metrics.measures import Measure, SequenceSums, Side
from posecli.metrics.options import Settings
from posecli.metrics.people import Labels
from posecli.types import Video

AP_KEYS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


@dataclass(frozen=True)
class Group:
    """A row of the table: some frames, or the people of one track."""

    by: str
    name: str
    frames: np.ndarray
    track: int | None = None


def make_groups(
    labels: Labels, settings: Settings, frames_used: np.ndarray, side: Side, notes: list[str]
) -> list[Group]:
    """The groups asked for that hold frames; adds a note where the labels offer none of a kind."""
    video, videos = labels.frames.video, labels.frames.videos
    names = _told_apart(videos)
    groups = [Group("all", "all", frames_used)]
    for by in settings.by:
        before = len(groups)
        if by == "video":
            groups += [Group(by, name, frames_used & (video == i)) for i, name in enumerate(names)]
        elif by == "tag":
            for tag in sorted({t for v in videos for t in v.tags}):
                tagged = np.array([tag in v.tags for v in videos])
                groups.append(Group(by, tag, frames_used & (video >= 0) & tagged[video]))
        elif by == "track":
            # A track lives in one video: ids of different videos are different people.
            where = video[side.frame]
            for v, t in sorted({(int(v), int(t)) for v, t in zip(where, side.track, strict=True) if t >= 0}):
                name = f"{names[v]} track {t}" if v >= 0 else f"track {t}"
                groups.append(Group(by, name, frames_used & (video == v), t))
        if by != "joint" and len(groups) == before:
            notes.append(f"no rows by {by}: the labels have no {by}s")
    return [g for g in groups if g.by == "all" or g.frames.any()]


def _told_apart(videos: Sequence[Video]) -> list[str]:
    """Names of videos; of those that have one name their files' (the rows of a result go by name)."""
    names = [v.name for v in videos]
    names = [v.file_name or n if names.count(n) > 1 else n for v, n in zip(videos, names, strict=True)]
    return [f"{n} ({v.id})" if names.count(n) > 1 else n for v, n in zip(videos, names, strict=True)]


def rows_of(measure: Measure, group: Group, side: Side) -> np.ndarray | None:
    """Rows of a measure that belong to the group; None when the measure cannot be split so."""
    rows = group.frames[measure.frame]
    if group.track is None:
        return rows
    return rows & (side.track == group.track) if measure.of_labels else None


def videos_of(sums: SequenceSums, group: Group, side: Side) -> np.ndarray | None:
    """(V,) bool: rows of a tracking metric that belong to the group; None for one track, which is no video."""
    if group.track is not None:
        return None
    return np.isin(sums.video, side.video[group.frames])


def _row(side: Side, group: Group) -> dict[str, Any]:
    values: dict[str, Any] = {"frames": int(group.frames.sum())}
    people = group.frames[side.frame]
    if group.track is not None:
        people = people & (side.track == group.track)
        values["frames"] = len(np.unique(side.frame[people]))
    values["people"] = int(people.sum())
    if side.matches is not None:
        if group.track is None:
            values |= oks.summarize(side.matches, group.frames)
        else:
            values |= dict.fromkeys(AP_KEYS)
    if side.crowdpose is not None:
        if group.track is None:
            values |= crowdpose_scores(side.crowdpose, side.crowd_index, group.frames)
        else:
            values |= dict.fromkeys(crowdpose.KEYS)
    for sums in side.sequences.values():
        chosen = videos_of(sums, group, side)
        if chosen is None:
            values |= dict.fromkeys(sums.score(sums.sums.sum(axis=0)))
        else:
            values |= {k: plain(float(v)) for k, v in sums.score(sums.sums[chosen].sum(axis=0)).items()}
    for key, measure in side.measures.items():
        rows = rows_of(measure, group, side)
        values[key] = None if rows is None else plain(measure.total(rows))
        if measure.columns:
            shares = measure.column_shares(rows) if rows is not None else np.full(1, np.nan)
            values[f"{key}_joint_mean"] = plain(_mean(shares))
    return values


def group_rows(side: Side, groups: list[Group], settings: Settings) -> dict[str, Any]:
    """``{"all": row, "groups": {by: {name: row}}}`` of the groups, the total being the first."""
    result: dict[str, Any] = {"all": _row(side, groups[0]), "groups": {by: {} for by in settings.by}}
    for group in groups[1:]:
        result["groups"][group.by][group.name] = _row(side, group)
    return result


def joint_rows(side: Side, joints: Sequence[str], frames_used: np.ndarray) -> dict[str, dict[str, dict[str, Any]]]:
    """``{"joint": {name: {metric: share}}, "limb": ...}``; ``counted`` is how many labelled ones stand behind it."""
    tables: dict[str, dict[str, dict[str, Any]]] = {"joint": {name: {} for name in joints}}
    for key, measure in side.measures.items():
        source = measure.per_column or measure
        if not source.columns:
            continue
        rows = tables.setdefault("limb" if key.startswith("PCP") else "joint", {})
        everybody = frames_used[source.frame]
        counted = (source.valid & everybody[:, None]).sum(axis=0)
        for name, share, count in zip(source.columns, source.column_shares(everybody), counted, strict=True):
            row = rows.setdefault(name, {"counted": 0})
            row[key] = plain(share)
            row["counted"] = max(int(count), row.get("counted", 0))
    for sums in side.sequences.values():
        if sums.score_columns is not None:
            chosen = np.isin(sums.video, side.video[frames_used])
            for key, values in sums.score_columns(sums.sums[chosen].sum(axis=0)).items():
                for name, value in zip(sums.columns, values, strict=True):
                    tables["joint"].setdefault(name, {"counted": 0})[key] = plain(float(value))
    return tables


_COUNTS = ("misses", "false_positives", "switches", "tracks", "mostly_tracked", "mostly_lost", "fragmentations")


def units_of(side: Side) -> dict[str, str]:
    """Key -> ``px``, ``ratio`` or ``count`` of every figure that is not a share in [0, 1]."""
    units = {key: measure.unit for key, measure in side.measures.items() if measure.unit != "share"}
    units |= {f"{key}_joint_mean": unit for key, unit in units.items()}
    if "mota" in side.sequences:
        units |= {f"MOT_{name}": "count" for name in _COUNTS}
    return units


def plain(value: float) -> float | None:
    """A Python float; None for NaN."""
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")
