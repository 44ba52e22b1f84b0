"""The same person twice in one image: word for word, or on the same place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject

SAME_PLACE = 0.05  # mean distance of common joints, in person sizes
MOST = 500  # people of an image that are compared with one another; beyond, only repeated entries are looked for
SAME_BOX = 0.95  # intersection over union of two boxes without joints


def duplicate_people(subject: Subject) -> Iterator[Finding]:
    """``duplicate-person``: an entry that repeats another of its image in all but its id (repaired: the later goes).
    ``similar-person``: two people whose common joints lie together (or, without joints, whose boxes do)."""
    order = np.argsort(subject.frame, kind="stable")
    starts = np.flatnonzero(np.diff(subject.frame[order], prepend=-1))
    size = subject.person_size
    for rows in np.split(order, starts[1:]) if len(order) else ():
        rows = rows[~subject.crowd[rows]]
        if len(rows) < 2:
            continue
        exact = set()
        seen: dict[str, int] = {}
        for n in rows:
            text = _text(_entry(subject, n))
            if text in seen:
                exact.add(int(n))
                what = f"repeats {subject.records[seen[text]]}"
                yield Finding("duplicate-person", subject.path, subject.records[n], what, place=subject.places[n])
            seen.setdefault(text, int(n))
        kept = [n for n in rows if n not in exact and subject.shown[n]]
        for i, a in enumerate(kept if len(kept) <= MOST else ()):
            for b in kept[i + 1 :]:
                yield from _similar(subject, int(a), int(b), size)


def _similar(subject: Subject, a: int, b: int, size: np.ndarray) -> Iterator[Finding]:
    both = (subject.visibility[a] > 0) & (subject.visibility[b] > 0)
    fewer = min((subject.visibility[n] > 0).sum() for n in (a, b))
    record = subject.records[b]
    if fewer == 0:
        overlap = _overlap(subject.box_xyxy[a], subject.box_xyxy[b])
        if overlap > SAME_BOX and not (subject.visibility[[a, b]] > 0).any():
            what = f"box as {subject.records[a]} (IoU {overlap:.2f})"
            yield Finding("similar-person", subject.path, record, what, overlap, subject.places[b])
    elif both.sum() >= max(3, 0.5 * fewer):
        distance = np.linalg.norm(subject.xy[a][both] - subject.xy[b][both], axis=1).mean()
        share = float(distance / max(size[a], size[b], 1.0))
        if share < SAME_PLACE:
            what = f"{both.sum()} joints as {subject.records[a]}, {distance:.1f} px apart"
            yield Finding("similar-person", subject.path, record, what, 1 - share / SAME_PLACE / 2, subject.places[b])


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two x1, y1, x2, y2 boxes; 0 where one is not known."""
    inner = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner
    return float(inner / union) if union > 0 else 0.0


def _entry(subject: Subject, n: int) -> dict[str, Any]:
    place = subject.places[n]
    if subject.form == "stream":
        return subject.raw[place[0]]["persons"][place[1]]
    return {k: v for k, v in subject.raw["annotations"][place].items() if k != "id"}


def _text(entry: dict[str, Any]) -> str:
    import json

    return json.dumps(entry, sort_keys=True)
