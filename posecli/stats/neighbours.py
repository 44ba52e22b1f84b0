"""Who is who in the next frame: by identity where the labels have one, else by the nearest pose."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from posecli.assignment import assign
from posecli.checks.subject import Subject

FARTHEST = 0.5  # person sizes between two poses that may still be the same person in the next frame


def pose_distances(first: np.ndarray, second: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(A, B) median distance of common joints of (A, K, 2) and (B, K, 2) poses (NaN: no joint), over ``size`` (A,);
    infinite where fewer than a third of the joints are common."""
    apart = np.linalg.norm(first[:, None] - second[None], axis=3)
    common = np.isfinite(apart).sum(axis=2)
    few = common < max(1, first.shape[1] // 3) if first.size else common < 1
    middle = np.median(np.where(np.isfinite(apart), apart, np.inf), axis=2)
    # A median over joints of which many are missing: of those there are.
    for a, b in np.argwhere(~few):
        middle[a, b] = np.nanmedian(apart[a, b])
    return np.where(few, np.inf, middle / np.where(size > 0, size, np.nan)[:, None])


def pair_up(distances: np.ndarray, farthest: float = FARTHEST) -> list[tuple[int, int]]:
    """One to one pairs of the least total distance, none farther apart than that."""
    cost = np.where(distances <= farthest, distances, 1e3)
    return [(int(a), int(b)) for a, b in zip(*assign(cost), strict=True) if cost[a, b] < 1e3]


def frames_of_sources(subject: Subject) -> dict[Any, list[tuple[int, np.ndarray]]]:
    """Video to its frames in order, each with its row and the rows of the people shown there."""
    order = np.argsort(subject.frame, kind="stable")
    bounds = np.searchsorted(subject.frame[order], np.arange(len(subject.pictures) + 1))
    shown = subject.shown
    sources: dict[Any, list[tuple[int, np.ndarray]]] = {}
    for n, picture in enumerate(subject.pictures):
        if picture.source is not None:
            people = order[bounds[n] : bounds[n + 1]]
            sources.setdefault(picture.source, []).append((n, people[shown[people]]))
    return {s: sorted(f, key=lambda p: subject.pictures[p[0]].frame) for s, f in sources.items()}


def links(subject: Subject, longest_gap: int = 1) -> np.ndarray:
    """(N,) int64: the row of the same person in the frame before, -1 for none. Frames farther apart than
    ``longest_gap`` are not neighbours."""
    before = np.full(len(subject), -1)
    size = subject.person_size
    for frames in frames_of_sources(subject).values():
        for (m, earlier), (n, later) in pairwise(frames):
            if subject.pictures[n].frame - subject.pictures[m].frame > longest_gap or not len(earlier):
                continue
            known = {int(subject.track[a]): int(a) for a in earlier if subject.track[a] >= 0}
            free_later = []
            for b in later:
                if int(subject.track[b]) in known:
                    before[b] = known.pop(int(subject.track[b]))
                elif subject.track[b] < 0:
                    free_later.append(int(b))
            free = [int(a) for a in earlier if subject.track[a] < 0]
            if free and free_later:
                distances = pose_distances(subject.xy[free], subject.xy[free_later], size[free])
                for i, j in pair_up(distances):
                    before[free_later[j]] = free[i]
    return before
