"""What two predictions both measured: the ground on which their difference stands.

EPE and NME are means over the joints that a prediction found, and with ``--misses skip`` every share is one over the
people it found. Each of two predictions then has a mean over joints of its own choice, and who leaves out the hard ones
looks better. Their difference is therefore formed over what both have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from posecli.metrics.side import Measure, Side


@dataclass(frozen=True)
class OverBoth:
    """Two predictions with those measures alone that they took over different joints or people, now over the same.

    Attributes:
        sides: first and second.
        counts: metric -> joints, limbs or people that both measured, that the first did, that the second did.
    """

    sides: tuple[Side, Side]
    counts: Mapping[str, tuple[int, int, int]]

    def words(self, key: str) -> str:
        """``"over the 394 joints that both measured"``; empty for a metric that was over the same ones anyway."""
        return f"over the {self.counts[key][0]} {self._kind(key)} that both measured" if key in self.counts else ""

    def notes(self) -> list[str]:
        """One sentence for all metrics of the same counts."""
        by_counts: dict[tuple[str, tuple[int, int, int]], list[str]] = {}
        for key, counts in self.counts.items():
            by_counts.setdefault((self._kind(key), counts), []).append(key)
        return [
            f"{', '.join(keys)}: the difference is over the {both} {kind} that both measured "
            f"(first alone {one}, second alone {two})"
            for (kind, (both, one, two)), keys in by_counts.items()
        ]

    def _kind(self, key: str) -> str:
        if not self.sides[0].measures[key].columns:
            return "people"
        return "limbs" if key.startswith("PCP") else "joints"


def over_both(first: Side, second: Side) -> OverBoth | None:
    """The measures of two predictions that are not over the same joints and people; None where all are."""
    ones: dict[str, Measure] = {}
    twos: dict[str, Measure] = {}
    counts = {}
    for key, one in first.measures.items():
        two = second.measures.get(key)
        # Rows of predicted people (the local NMS score) have no counterpart in the other prediction.
        if two is None or not one.of_labels or _same(one, two):
            continue
        ones[key], twos[key] = _common(one, two), _common(two, one)
        counts[key] = (int(ones[key].valid.sum()), int(one.valid.sum()), int(two.valid.sum()))
    if not ones:
        return None
    sides = (_with_these_alone(first, ones), _with_these_alone(second, twos))
    return OverBoth(sides, counts)


def _same(one: Measure, two: Measure) -> bool:
    columns = one.per_column is None or two.per_column is None or _same(one.per_column, two.per_column)
    return columns and np.array_equal(one.valid, two.valid)


def _common(measure: Measure, other: Measure) -> Measure:
    """The measure over what the other has, too."""
    columns = measure.per_column
    if columns is not None and other.per_column is not None:
        columns = _common(columns, other.per_column)
    return replace(measure, valid=measure.valid & other.valid, per_column=columns)


def _with_these_alone(side: Side, measures: dict[str, Measure]) -> Side:
    return replace(side, measures=measures, matches=None, crowdpose=None, sequences={})
