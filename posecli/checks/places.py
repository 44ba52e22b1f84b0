"""Joints, boxes and areas that do not fit one another or the image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject

# Labels are clicked to a pixel or two; cameras and crops round. Beyond this it is no rounding.
OUTSIDE = 1.0  # pixels beyond the outermost pixel centres
BOX_SLACK = 0.1  # of the box's longer side: silhouette boxes leave out a hand or two by this much
BOX_SLACK_PIXELS = 3.0


def joints_outside(subject: Subject) -> Iterator[Finding]:
    """Labelled joints more than `OUTSIDE` pixels beyond the image."""
    limit = subject.size_wh[:, None, :] - 1 + OUTSIDE
    beyond = np.fmax(-OUTSIDE - subject.xy, subject.xy - limit).max(axis=2)
    out = (subject.visibility > 0) & (beyond > 0)
    for n in np.flatnonzero(out.any(axis=1) & subject.shown):
        joints = np.flatnonzero(out[n])
        names = ", ".join(subject.skeleton.keypoints[k] for k in joints[:4])
        what = f"{len(joints)} joints ({names}{', ...' if len(joints) > 4 else ''})" if len(joints) > 1 else names
        far = float((beyond[n][joints] + OUTSIDE).max())
        # Models place hidden joints where the body would go on: outside is no mistake of theirs.
        severity = "note" if subject.predicted else ""
        yield Finding("joint-outside", subject.path, subject.records[n], f"{what}, up to {far:.1f} px",
                      place=subject.places[n], severity=severity)  # fmt: skip


def boxes_outside(subject: Subject) -> Iterator[Finding]:
    """Boxes that reach more than `OUTSIDE` pixels beyond the image's edge."""
    size = subject.size_wh
    beyond = np.fmax(-subject.box_xyxy[:, :2], subject.box_xyxy[:, 2:] - size).max(axis=1) if len(subject) else []
    for n in np.flatnonzero((np.asarray(beyond) > OUTSIDE) & subject.shown):
        yield Finding(
            "box-outside", subject.path, subject.records[n], f"by {beyond[n]:.1f} px", place=subject.places[n]
        )


def missed_joints(subject: Subject) -> np.ndarray:
    """(N, K) bool: labelled joints outside their person's box by more than `BOX_SLACK` of its longer side and more
    than `BOX_SLACK_PIXELS`."""
    box = subject.box_xyxy[:, None, :]
    beyond = np.maximum(box[..., :2] - subject.xy, subject.xy - box[..., 2:])
    side = (subject.box_xyxy[:, 2:] - subject.box_xyxy[:, :2]).max(axis=1, initial=0)
    slack = np.maximum(BOX_SLACK * side, BOX_SLACK_PIXELS)
    with np.errstate(invalid="ignore"):
        return (subject.visibility > 0) & (beyond.max(axis=2) > slack[:, None])


def boxes_missing_joints(subject: Subject) -> Iterator[Finding]:
    """Boxes that leave out joints. The repair: the smallest box around the old one and the joints, or, where less
    than half of the joints lie in the old one (it is somebody else's), the box of the joints alone."""
    missed = missed_joints(subject)
    joints = subject.joint_boxes
    for n in np.flatnonzero(missed.any(axis=1) & ~subject.crowd):
        count, labelled = int(missed[n].sum()), int((subject.visibility[n] > 0).sum())
        box = joints[n]
        if 2 * count <= labelled:
            old = subject.box_xyxy[n]
            box = np.concatenate([np.minimum(old[:2], box[:2]), np.maximum(old[2:], box[2:])])
        yield Finding("box-misses-joints", subject.path, subject.records[n], f"{count} of {labelled} joints outside",
                      place=subject.places[n], value=box)  # fmt: skip


def areas_beyond_boxes(subject: Subject) -> Iterator[Finding]:
    """Areas more than 5 % larger than the box they are in."""
    sides = subject.box_xyxy[:, 2:] - subject.box_xyxy[:, :2]
    inside = sides[:, 0] * sides[:, 1]
    with np.errstate(invalid="ignore"):
        over = (subject.area > 1.05 * inside + 1) & ~subject.crowd
    for n in np.flatnonzero(over):
        what = f"area {subject.area[n]:.0f}, box {inside[n]:.0f} px^2"
        yield Finding("area-exceeds-box", subject.path, subject.records[n], what, place=subject.places[n])


def coinciding_joints(subject: Subject) -> Iterator[Finding]:
    """Three or more labelled joints of a person on exactly the same point: a default value, not a place."""
    for n in np.flatnonzero((subject.visibility > 0).sum(axis=1) >= 3):
        there = np.flatnonzero(subject.visibility[n] > 0)
        points, index, counts = np.unique(subject.xy[n][there], axis=0, return_inverse=True, return_counts=True)
        most = int(counts.argmax())
        if counts[most] >= 3:
            names = ", ".join(subject.skeleton.keypoints[k] for k in there[index.reshape(-1) == most][:4])
            x, y = points[most]
            yield Finding("coinciding-joints", subject.path, subject.records[n],
                          f"{counts[most]} joints at ({x:g}, {y:g}): {names}", place=subject.places[n])  # fmt: skip
