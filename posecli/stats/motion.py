"""How joints move from frame to frame: speed, and jitter (what of the motion has no direction)."""

from __future__ import annotations

from typing import Any

import numpy as np

from posecli.checks.subject import Subject
from posecli.stats.neighbours import links


def second_differences(subject: Subject, before: np.ndarray) -> np.ndarray:
    """(N, K) float64: how far each joint of a frame lies from the middle of its places one frame before and after, in
    person sizes; NaN at the ends of a track."""
    after = np.full(len(before), -1)
    there = np.flatnonzero(before >= 0)
    after[before[there]] = there
    result = np.full(subject.xy.shape[:2], np.nan)
    rows = np.flatnonzero((before >= 0) & (after >= 0))
    middle = (subject.xy[before[rows]] + subject.xy[after[rows]]) / 2
    size = subject.person_size[rows]
    apart = np.linalg.norm(subject.xy[rows] - middle, axis=2)
    result[rows] = apart / np.where(size > 0, size, np.nan)[:, None]
    return result


def motion(subject: Subject) -> dict[str, Any] | None:
    """Speed and jitter of each joint; None without neighbouring frames.

    ``speed``: median and 95th percentile of person sizes a second (a frame where no rate is known), by the frames' own
    times where they have some; a person size is the longer side of the joint box. ``jitter``: median
    `second_differences` x 1000.
    """
    before = links(subject)
    rows = np.flatnonzero(before >= 0)
    if not len(rows):
        return None
    now, then = subject.frame[rows], subject.frame[before[rows]]
    times = np.array([np.nan if p.time is None else p.time for p in subject.pictures])
    fps = np.array([p.fps or np.nan for p in subject.pictures])[now]
    fps = np.divide(1, times[now] - times[then], out=fps, where=times[now] > times[then])
    known = bool(np.isfinite(fps).all())
    size = subject.person_size[rows]
    step = np.linalg.norm(subject.xy[rows] - subject.xy[before[rows]], axis=2)
    step = step / np.where(size > 0, size, np.nan)[:, None] * (fps[:, None] if known else 1.0)
    shake = second_differences(subject, before)
    joints = {}
    for k, name in enumerate(subject.skeleton.keypoints):
        speed, jitter = (v[np.isfinite(v)] for v in (step[:, k], shake[:, k]))
        if len(speed):
            joints[name] = {
                "speed": float(np.median(speed)),
                "speed_95": float(np.quantile(speed, 0.95)),
                "jitter": float(np.median(jitter)) * 1000 if len(jitter) else None,
            }
    return {"unit": "person sizes per second" if known else "person sizes per frame", "steps": len(rows),
            "joints": joints}  # fmt: skip
