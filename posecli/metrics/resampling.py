"""Every metric of reweighted units (pictures, or whole videos), without measuring anything twice.

A bootstrap draw counts a unit as often as it was drawn, a permutation takes a unit from one prediction or the other:
both are weights on sums that are formed once. Shares (PCK, mean OKS, ...) are sums over units, so that all draws are
one matrix product. AP is no sum: `ApSampler` sorts the detections once and accumulates precision and recall anew for
each draw, which is exactly what evaluating the drawn set would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.metrics import crowdpose, oks
from posecli.metrics.groups import AP_KEYS, Group, rows_of, videos_of
from posecli.metrics.measures import Measure, Side

_CELLS_AT_ONCE = 1 << 16  # draws x detections gone through together: many draws of a small set, few of a large one


@dataclass(frozen=True)
class _Threshold:
    """What one OKS threshold needs of the detections sorted by score.

    Attributes:
        hit_column: (H,) weight column of each true positive.
        counted_before: (H,) detections of `_Range.column` up to and with each true positive.
        moved_column, moved_sign: (X,) detections that count here and not there (+1), or the other way round (-1).
        moved_before: (H,) of these up to and with each true positive.
    """

    hit_column: np.ndarray
    counted_before: np.ndarray
    moved_column: np.ndarray
    moved_sign: np.ndarray
    moved_before: np.ndarray


@dataclass(frozen=True)
class _Range:
    """One area range: people by unit, and the detections that count at most thresholds (the others are told apart)."""

    name: str
    people: np.ndarray
    column: np.ndarray
    thresholds: tuple[_Threshold, ...]


class ApSampler:
    """AP and AR of draws in which units count several times, or not at all.

    Repeats of a detection have the same score and do not change the interpolated precision, so weighted cumulative sums
    over the sorted detections give what evaluating the drawn set would (in which the repeats of a frame follow one
    another). Only where detections of one frame have equal scores do their repeats take turns, and are written out.

    Args:
        matches: of one prediction, or of several on the same labels; these are sorted together, and the weights say
            which of them speaks for a unit.
        unit: (F,) the unit of each frame.
        size: number of units U.
        frames: (F,) boolean mask of the frames that count; None for all.
        copies: the greatest weight that will come.
    """

    def __init__(
        self,
        matches: Sequence[oks.Matches],
        unit: np.ndarray,
        size: int,
        frames: np.ndarray | None = None,
        *,
        copies: int = 1,
    ) -> None:
        first = matches[0]
        self._at50, self._at75 = (np.isclose(first.thresholds, value) for value in (0.5, 0.75))
        here = np.ones(len(unit), bool) if frames is None else frames
        keep = [here[m.frame] for m in matches]
        score, frame, side = (
            np.concatenate(parts)
            for parts in (
                [m.score[k] for m, k in zip(matches, keep, strict=True)],
                [m.frame[k] for m, k in zip(matches, keep, strict=True)],
                [np.full(int(k.sum()), i) for i, k in enumerate(keep)],
            )
        )
        order = np.lexsort((np.arange(len(score)), frame, -score))
        column = (unit[frame] + size * side)[order]
        again, column, self._tied = _write_out_ties(score[order], frame[order], column, size * len(matches), copies)
        order = order[again]
        self._steps = np.arange(1, copies + 1)
        self._ranges = []
        for a, name in enumerate(first.ranges):
            matched, ignored = (
                np.concatenate([part[a][:, k] for part, k in zip(parts, keep, strict=True)], axis=1)[:, order]
                for parts in ([m.matched for m in matches], [m.ignored for m in matches])
            )
            people = ~first.label_ignored[a] & here[first.label_frame]
            by_unit = np.bincount(unit[first.label_frame[people]], minlength=size).astype(np.float64)
            self._ranges.append(_plan(name, by_unit, column, matched, ignored))

    def draw(self, weights: np.ndarray, label_weights: np.ndarray) -> dict[str, np.ndarray]:
        """AP, AP50, AP75, AR, AR50, AR75 and AP and AR of the other area ranges, over B draws.

        Args:
            weights: (B, sides * U) how often the detections of each unit count, prediction after prediction.
            label_weights: (B, U) how often its labelled people do.

        Returns:
            name -> (B,) float64; NaN where a draw holds no person that counts.
        """
        values: dict[str, np.ndarray] = {}
        for part in self._ranges:
            totals = label_weights @ part.people
            count = len(part.thresholds)
            precision, recall = np.full((2, len(weights), count), np.nan)
            there = np.flatnonzero(totals)
            at_once = max(1, _CELLS_AT_ONCE // (len(part.column) + 1))
            for start in range(0, len(there), at_once):
                b = there[start : start + at_once]
                rows = weights[b]
                if len(self._tied):
                    copies = rows[:, self._tied, None] >= self._steps
                    rows = np.hstack([rows, copies.reshape(len(b), -1)])
                precision[b], recall[b] = _accumulate(part, rows, totals[b])
            if part.name == "all":
                for key, numbers in (("AP", precision), ("AR", recall)):
                    values[key] = numbers.mean(axis=1)
                    values[f"{key}50"] = numbers[:, self._at50].mean(axis=1)
                    values[f"{key}75"] = numbers[:, self._at75].mean(axis=1)
            else:
                values[f"AP_{part.name}"], values[f"AR_{part.name}"] = precision.mean(axis=1), recall.mean(axis=1)
        return values


def _write_out_ties(
    score: np.ndarray, frame: np.ndarray, column: np.ndarray, columns: int, copies: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Puts ``copies`` repeats of detections that share score and frame in the order they have when repeated.

    Args:
        score, frame, column: (D,) sorted by falling score, then frame.
        columns: number of weight columns.

    Returns:
        (D',) which detection stands at each place; (D',) its weight column; (T,) columns after which ``copies`` further
        ones each are appended: 1 where the weight is at least 1, at least 2, ...
    """
    nothing = np.zeros(0, np.int64)
    alike = (score[1:] == score[:-1]) & (frame[1:] == frame[:-1])
    tied = np.append(alike, False) | np.insert(alike, 0, False) if len(score) else np.zeros(0, bool)
    if copies == 1 or not tied.any():
        return np.arange(len(score)), column, nothing
    cluster = np.cumsum(np.insert(~alike, 0, True))
    again = np.repeat(np.arange(len(score)), np.where(tied, copies, 1))
    copy = np.arange(len(again)) - np.searchsorted(again, again, "left")
    order = np.lexsort((again, copy, cluster[again]))
    again, copy = again[order], copy[order]
    which = np.unique(column[tied])
    place = np.searchsorted(which, column[again])
    return again, np.where(tied[again], columns + place * copies + copy, column[again]), which


def _plan(name: str, people: np.ndarray, column: np.ndarray, matched: np.ndarray, ignored: np.ndarray) -> _Range:
    """Precomputes where each threshold's true positives lie; (T, D) masks in the order of the scores."""
    # Which detections count hardly depends on the threshold: one cumulative sum serves all, with few to add or drop.
    usual = (~ignored).sum(axis=0) * 2 > len(ignored)
    usual_at = np.flatnonzero(usual)
    thresholds = []
    for right, left_out in zip(matched, ignored, strict=True):
        hits = np.flatnonzero(right & ~left_out)
        moved = np.flatnonzero(usual == left_out)
        thresholds.append(
            _Threshold(
                hit_column=column[hits],
                counted_before=np.searchsorted(usual_at, hits, "right"),
                moved_column=column[moved],
                moved_sign=np.where(usual[moved], -1.0, 1.0),
                moved_before=np.searchsorted(moved, hits, "right"),
            )
        )
    return _Range(name, people, column[usual_at], tuple(thresholds))


def _accumulate(part: _Range, rows: np.ndarray, totals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(b, T) mean interpolated precision and recall of b draws, rows of weights, with ``totals`` (b,) people each."""
    draws = np.arange(len(rows))[:, None]
    # People needed for each recall: the least k with k / total >= recall, in floating point as pycocotools compares.
    needed = np.ceil(oks.RECALLS * totals[:, None])
    needed -= (needed - 1) / totals[:, None] >= oks.RECALLS
    needed += needed / totals[:, None] < oks.RECALLS
    step = needed.max() + 1  # sets the draws apart, so that one search serves all of them
    counted = _cumulated(rows[:, part.column])
    precision, recall = np.zeros((2, len(rows), len(part.thresholds)))
    for t, at in enumerate(part.thresholds):
        count = len(at.hit_column)
        if not count:
            continue
        true = np.cumsum(rows[:, at.hit_column], axis=1)
        seen = counted[:, at.counted_before]
        if len(at.moved_column):
            seen += _cumulated(rows[:, at.moved_column] * at.moved_sign)[:, at.moved_before]
        envelope = np.maximum.accumulate((true / (seen + np.spacing(1)))[:, ::-1], axis=1)[:, ::-1]
        index = np.searchsorted((true + step * draws).ravel(), (needed + step * draws).ravel(), side="left")
        index = index.reshape(needed.shape) - count * draws
        values = np.where(index < count, envelope[draws, np.minimum(index, count - 1)], 0.0)
        precision[:, t] = values.sum(axis=1) / len(oks.RECALLS)
        recall[:, t] = true[:, -1] / totals
    return precision, recall


def _cumulated(values: np.ndarray) -> np.ndarray:
    """(b, n + 1) sums of the first 0 to n columns."""
    sums = np.zeros((len(values), values.shape[1] + 1))
    np.cumsum(values, axis=1, out=sums[:, 1:])
    return sums


@dataclass(frozen=True)
class _Sums:
    """A measure summed by unit: (U, C) hits and counts."""

    columns: tuple[str, ...]
    hits: np.ndarray
    counts: np.ndarray


# (metric, "") for the value of a row, (metric, name) for a joint or limb.
Key = tuple[str, str]


class ShareSampler:
    """The shares of one prediction in draws: sums over units of hits and of what was counted.

    Args:
        side: the prediction.
        group: the frames or the track that count.
        unit: (F,) the unit of each frame; -1 outside the group.
        size: number of units U.
        columns: also each joint and limb by itself.
    """

    def __init__(self, side: Side, group: Group, unit: np.ndarray, size: int, *, columns: bool = False) -> None:
        self._sums: dict[tuple[str, bool], _Sums] = {}
        for key, measure in side.measures.items():
            for source, single in ((measure, False), (measure.per_column or measure, True)):
                rows = rows_of(source, group, side) if columns or not single else None
                if rows is not None and rows.any() and (source.columns or not single):
                    self._sums[key, single] = _sum_up(source, rows, unit, size)

    def draw(self, weights: np.ndarray) -> dict[Key, np.ndarray]:
        """(metric, column) -> (B,) over the draws ``weights`` (B, U); NaN where a draw has nothing to measure."""
        return self._shares({name: (weights @ s.hits, weights @ s.counts) for name, s in self._sums.items()})

    def draw_swapped(self, other: ShareSampler, swapped: np.ndarray) -> dict[Key, np.ndarray]:
        """The same of a set that takes the units where ``swapped`` (B, U) is 1 from the ``other`` prediction."""
        totals = {}
        for name in self._sums.keys() & other._sums.keys():
            mine, theirs = self._sums[name], other._sums[name]
            totals[name] = (
                mine.hits.sum(axis=0) + swapped @ (theirs.hits - mine.hits),
                mine.counts.sum(axis=0) + swapped @ (theirs.counts - mine.counts),
            )
        return self._shares(totals)

    def _shares(self, totals: dict[tuple[str, bool], tuple[np.ndarray, np.ndarray]]) -> dict[Key, np.ndarray]:
        values: dict[Key, np.ndarray] = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for (key, single), (hits, counts) in totals.items():
                shares = hits / counts
                columns = self._sums[key, single].columns
                if single:
                    values |= {(key, name): shares[:, c] for c, name in enumerate(columns)}
                    continue
                values[key, ""] = hits.sum(axis=1) / counts.sum(axis=1)
                if columns:
                    there = ~np.isnan(shares)
                    values[f"{key}_joint_mean", ""] = np.where(there, shares, 0.0).sum(axis=1) / there.sum(axis=1)
        return values


def _sum_up(measure: Measure, rows: np.ndarray, unit: np.ndarray, size: int) -> _Sums:
    """Hits and counts of the chosen rows by unit."""
    where, valid = unit[measure.frame[rows]], measure.valid[rows]
    hit = np.where(valid, measure.hit[rows], 0.0)
    columns = range(valid.shape[1])
    hits = np.stack([np.bincount(where, hit[:, c], size) for c in columns], axis=1)
    counts = np.stack([np.bincount(where, valid[:, c], size) for c in columns], axis=1)
    return _Sums(measure.columns, hits, counts)


class Sampler:
    """All metrics of one prediction in one group of frames, over draws of its units.

    Args:
        side: the prediction.
        group: a row of the table.
        unit: (F,) the unit of each frame, 0 to ``size`` - 1 inside the group.
        size: number of units U in the group.
        columns: also each joint and limb by itself.
    """

    def __init__(self, side: Side, group: Group, unit: np.ndarray, size: int, *, columns: bool = False) -> None:
        self._side, self._group, self._unit, self._size = side, group, unit, size
        self._shares = ShareSampler(side, group, unit, size, columns=columns)
        self._columns = columns
        self._sequences: dict[str, np.ndarray] = {}
        for key, sequence in side.sequences.items():
            chosen = videos_of(sequence, group, side)
            if chosen is not None and chosen.any():
                filmed = group.frames & (side.video >= 0)
                unit_of_video = np.full(int(side.video.max()) + 1, -1)
                unit_of_video[side.video[filmed]] = unit[filmed]
                totals = np.zeros((size, sequence.sums.shape[1]))
                np.add.at(totals, unit_of_video[sequence.video[chosen]], sequence.sums[chosen])
                self._sequences[key] = totals

    def draw(self, weights: np.ndarray) -> dict[Key, np.ndarray]:
        """(metric, "") or (metric, joint) -> (B,) over the draws ``weights`` (B, U); NaN where nothing is measured."""
        values: dict[Key, np.ndarray] = {}
        for sampler, names in self._ap_samplers([self._side], int(weights.max(initial=1))):
            drawn = sampler.draw(weights, weights)
            values |= {(name, ""): drawn[key] for key, name in names.items() if key in drawn}
        for key, totals in self._sequences.items():
            values |= self._scores(key, weights @ totals)
        return values | self._shares.draw(weights)

    def draw_differences(self, other: Sampler, swapped: np.ndarray) -> dict[Key, np.ndarray]:
        """``other`` minus this one, over draws in which the units where ``swapped`` (B, U) is 1 change sides."""
        kept = 1.0 - swapped
        values: dict[Key, np.ndarray] = {}
        everybody = np.ones_like(swapped)
        for sampler, names in self._ap_samplers([self._side, other._side], 1):
            mine = sampler.draw(np.hstack([kept, swapped]), everybody)
            theirs = sampler.draw(np.hstack([swapped, kept]), everybody)
            values |= {(name, ""): theirs[key] - mine[key] for key, name in names.items() if key in mine}
        for key in self._sequences.keys() & other._sequences.keys():
            a, b = self._sequences[key], other._sequences[key]
            mine_of, theirs_of = (self._scores(key, kept @ x + swapped @ y) for x, y in ((a, b), (b, a)))
            values |= {k: theirs_of[k] - mine_of[k] for k in mine_of}
        before = self._shares.draw_swapped(other._shares, swapped)
        after = other._shares.draw_swapped(self._shares, swapped)
        return values | {k: after[k] - before[k] for k in before}

    def _scores(self, key: str, totals: np.ndarray) -> dict[Key, np.ndarray]:
        """Figures of a tracking metric from sums (B, C), those of its parts too where columns were asked for."""
        sequence = self._side.sequences[key]
        values: dict[Key, np.ndarray] = {(name, ""): np.asarray(v) for name, v in sequence.score(totals).items()}
        if self._columns and sequence.score_columns is not None:
            for name, parts in sequence.score_columns(totals).items():
                values |= {(name, column): parts[..., c] for c, column in enumerate(sequence.columns)}
        return values

    def _ap_samplers(self, sides: Sequence[Side], copies: int) -> list[tuple[ApSampler, dict[str, str]]]:
        """Samplers of COCO's and CrowdPose's AP of these predictions together, each with its keys' names in results."""
        unit, size, group = self._unit, self._size, self._group
        if group.track is not None:
            return []
        found = []
        coco = [s.matches for s in sides if s.matches is not None]
        if len(coco) == len(sides):
            names = {key: key for key in AP_KEYS}
            found.append((ApSampler(coco, unit, size, group.frames, copies=copies), names))
        crowd = [s.crowdpose for s in sides if s.crowdpose is not None]
        if len(crowd) == len(sides):
            names = {key: f"CrowdPose_{key}" for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75")}
            found.append((ApSampler(crowd, unit, size, group.frames, copies=copies), names))
            for level, mask in crowdpose.level_frames(sides[0].crowd_index).items():
                frames = mask & group.frames
                if frames.any():
                    names = {"AP": f"CrowdPose_AP_{level}"}
                    found.append((ApSampler(crowd, unit, size, frames, copies=copies), names))
        return found
