"""The same person twice in one image: word for word, or on the same place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject

SAME_PLACE = 0.05  # mean distance of common joints, in person sizes
MOST = 500  # people of an image that are compared with one another; beyond, only repeated entries are looked for
PAIRS = 100_000  # compared at a time, for the memory
SAME_BOX = 0.95  # intersection over union of two boxes without joints


def duplicate_people(subject: Subject) -> Iterator[Finding]:
    """``duplicate-person``: an entry that repeats another of its image in all but its id (repaired: the later goes).
    ``similar-person``: two people whose common joints lie together (or, without joints, whose boxes do)."""
    order = np.argsort(subject.frame, kind="stable")
    starts = np.flatnonzero(np.diff(subject.frame[order], prepend=-1))
    size, corners, shown = subject.person_size, subject.joint_boxes, subject.shown
    for rows in np.split(order, starts[1:]) if len(order) else ():
        rows = rows[~subject.crowd[rows]]
        if len(rows) < 2:
            continue
        again = _repeated(subject, rows)
        for n, first in again.items():
            what = f"repeats {subject.records[first]}"
            yield Finding("duplicate-person", subject.path, subject.records[n], what, place=subject.places[n])
        kept = np.array([n for n in rows if int(n) not in again and shown[n]], int)
        if 1 < len(kept) <= MOST:
            yield from _similar(subject, kept, size, corners)


def _repeated(subject: Subject, rows: np.ndarray) -> dict[int, int]:
    """Row of each repeated entry to the row that it repeats."""
    # Only what lies on the same place is worth writing out as text.
    places: dict[bytes, list[int]] = {}
    for n in rows:
        places.setdefault(subject.xy[n].tobytes() + subject.box_xyxy[n].tobytes(), []).append(int(n))
    again: dict[int, int] = {}
    for group in places.values():
        seen: dict[str, int] = {}
        for n in group if len(group) > 1 else ():
            first = seen.setdefault(_text(_entry(subject, n)), n)
            if first != n:
                again[n] = first
    return dict(sorted(again.items()))


def _similar(subject: Subject, rows: np.ndarray, size: np.ndarray, corners: np.ndarray) -> Iterator[Finding]:
    """Of the people ``rows`` of one image; ``size`` and ``corners`` are `person_size` and `joint_boxes` of all."""
    there = subject.visibility[rows] > 0
    larger = np.fmax(np.fmax(size[rows, None], size[rows]), 1.0)
    # Joints that lie together lie in boxes that touch: few pairs are left to look at. NaN compares as false.
    low, high = corners[rows, :2], corners[rows, 2:]
    margin = SAME_PLACE * larger[..., None]
    with np.errstate(invalid="ignore"):
        touching = ((low[:, None] - high <= margin) & (low - high[:, None] <= margin)).all(axis=2)
    jointless = ~there.any(axis=1)
    pairs = np.argwhere(np.triu(touching | (jointless[:, None] & jointless), 1))
    for start in range(0, len(pairs), PAIRS):
        yield from _pairs(subject, rows, there, larger, pairs[start : start + PAIRS])


def _pairs(
    subject: Subject, rows: np.ndarray, there: np.ndarray, larger: np.ndarray, pairs: np.ndarray
) -> Iterator[Finding]:
    i, j = pairs.T
    a, b = rows[i], rows[j]
    both = there[i] & there[j]
    common, fewer = both.sum(axis=1), np.minimum(there[i].sum(axis=1), there[j].sum(axis=1))
    apart = np.linalg.norm(np.where(both[..., None], subject.xy[a] - subject.xy[b], 0), axis=2).sum(axis=1)
    distance = apart / np.maximum(common, 1)
    share = distance / larger[i, j]
    near = (common >= np.maximum(3, 0.5 * fewer)) & (share < SAME_PLACE)
    overlap = np.where(fewer == 0, _overlap(subject.box_xyxy[a], subject.box_xyxy[b]), 0)
    for n in np.flatnonzero(near | (overlap > SAME_BOX)):
        record = subject.records[a[n]]
        if near[n]:
            what, sure = f"{common[n]} joints as {record}, {distance[n]:.1f} px apart", 1 - share[n] / SAME_PLACE / 2
        else:
            what, sure = f"box as {record} (IoU {overlap[n]:.2f})", overlap[n]
        place = subject.places[b[n]]
        yield Finding("similar-person", subject.path, subject.records[b[n]], what, float(sure), place)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) intersection over union of (N, 4) x1, y1, x2, y2 boxes; 0 where one is not known."""
    with np.errstate(all="ignore"):
        inner = np.prod(np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), axis=1)
        union = np.prod(a[:, 2:] - a[:, :2], axis=1) + np.prod(b[:, 2:] - b[:, :2], axis=1) - inner
        return np.where(union > 0, inner / union, 0.0)


def _entry(subject: Subject, n: int) -> dict[str, Any]:
    place = subject.places[n]
    if subject.form == "stream":
        return subject.raw[place[0]]["persons"][place[1]]
    return {k: v for k, v in subject.raw["annotations"][place].items() if k != "id"}


def _text(entry: dict[str, Any]) -> str:
    import json

    return json.dumps(entry, sort_keys=True)
