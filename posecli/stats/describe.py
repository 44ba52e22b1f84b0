"""What a data set or a stream holds: counts and distributions as plain numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from posecli.checks.subject import Subject
from posecli.stats.motion import motion
from posecli.stats.poses import orientation, variety

# COCO's: small below 32^2, large above 96^2 pixels.
SMALL, LARGE = 32.0**2, 96.0**2


def describe(subject: Subject, seed: int = 0) -> dict[str, Any]:
    """All numbers of one file, ready for JSON.

    Predictions are counted where they reach the stream's display threshold. Sizes are those of the given boxes, else of
    the boxes around the joints, in pixels of the image.
    """
    shown = subject.shown
    people = np.flatnonzero(shown)
    visibility = subject.visibility[people]
    labelled = (visibility > 0).sum(axis=1)
    per_image = np.bincount(subject.frame[people], minlength=len(subject.pictures))
    result: dict[str, Any] = {
        "file": subject.path,
        "skeleton": subject.skeleton.name,
        "predicted": subject.predicted,
        "images": len(subject.pictures),
        "images_without_people": int((per_image == 0).sum()),
        "videos": len({p.source for p in subject.pictures if p.source is not None}),
        "people": len(people),
        "crowds": int(subject.crowd.sum()),
        "below_threshold": int((~shown & ~subject.crowd).sum()),
        "people_without_joints": int((labelled == 0).sum()),
        "share_without_joints": float((labelled == 0).mean()) if len(people) else None,
        "tracks": len({(subject.pictures[subject.frame[n]].source, int(subject.track[n])) for n in people
                       if subject.track[n] >= 0}),
        "people_by_labelled_joints": _counts(labelled),
        "images_by_people": _counts(per_image),
        "joints": _joints(subject, people),
        "boxes": _boxes(subject, people),
        "image_sizes": {
            f"{w} x {h}": n for (w, h), n in Counter((p.width, p.height) for p in subject.pictures).most_common(5)
        },
        "tags": dict(Counter(t for p in subject.pictures for t in p.tags).most_common()),
        "variety": variety(subject, seed),
        "orientation": orientation(subject),
        "motion": motion(subject),
    }  # fmt: skip
    if subject.predicted and len(people):
        result["scores"] = _quantiles(subject.person_score[people])
        if np.isfinite(subject.heat[people]).any():
            result["heat"] = _quantiles(subject.heat[people])
    return result


def _counts(values: np.ndarray) -> dict[int, int]:
    return {int(v): int(n) for v, n in zip(*np.unique(values, return_counts=True), strict=True)}


def _joints(subject: Subject, people: np.ndarray) -> dict[str, dict[str, Any]]:
    visibility, scores = subject.visibility[people], subject.score[people]
    joints = {}
    for k, name in enumerate(subject.skeleton.keypoints):
        there = visibility[:, k] > 0
        entry: dict[str, Any] = {
            "visible": int((visibility[:, k] == 2).sum()),
            "hidden": int((visibility[:, k] == 1).sum()),
            "missing": int((~there).sum()),
        }
        if subject.predicted and there.any():
            entry["score"] = float(scores[there, k].mean())
        joints[name] = entry
    return joints


def _quantiles(values: np.ndarray) -> dict[str, float]:
    values = values[np.isfinite(values)]
    names = ("least", "5 %", "25 %", "median", "75 %", "95 %", "most")
    found = np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1)) if len(values) else [float("nan")] * 7
    return dict(zip(names, map(float, found), strict=True))


def _boxes(subject: Subject, people: np.ndarray) -> dict[str, Any] | None:
    given = np.isfinite(subject.box_xyxy[people]).all(axis=1)
    boxes = np.where(given[:, None], subject.box_xyxy[people], subject.joint_boxes[people])
    known = np.isfinite(boxes).all(axis=1)
    if not known.any():
        return None
    sides = boxes[known, 2:] - boxes[known, :2]
    area = subject.area[people][known]
    area = np.where(np.isfinite(area), area, sides.prod(axis=1))
    images = subject.size_wh[people][known]
    edge = (boxes[known, :2] < 1).any(axis=1) | (boxes[known, 2:] > images - 1).any(axis=1)
    return {
        "given": int(given.sum()),
        "width": _quantiles(sides[:, 0]),
        "height": _quantiles(sides[:, 1]),
        "share_of_image_height": _quantiles(sides[:, 1] / images[:, 1]),
        "by_area": {
            "small": int((area < SMALL).sum()),
            "medium": int(((area >= SMALL) & (area <= LARGE)).sum()),
            "large": int((area > LARGE).sum()),
        },
        "at_the_edge": int(edge.sum()),
    }
