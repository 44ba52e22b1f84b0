"""Identities over the frames of a video: leaps, joints that flicker, left and right changing places."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject

# In person sizes (longer side of the joint box). A sprinter crosses about a tenth of his height in a frame at 25/s.
JUMP = 0.75  # a whole person, between neighbouring frames
JOINT_OUT, JOINT_BACK = 0.3, 0.08  # a joint leaves by at least the first and is back within the second
FLIP = 0.5  # exchanged, the joints lie this much nearer to where they were
LONGEST_GAP = 5  # frames between two labels beyond which nothing is said


def twice_in_a_frame(subject: Subject) -> Iterator[Finding]:
    """One identity on two people of a frame."""
    seen: dict[tuple[int, int], int] = {}
    for n in np.flatnonzero((subject.track >= 0) & ~subject.crowd):
        key = (int(subject.frame[n]), int(subject.track[n]))
        if key in seen:
            what = f"track {key[1]} is also {subject.records[seen[key]]}"
            yield Finding("track-twice", subject.path, subject.records[n], what, place=subject.places[n])
        seen.setdefault(key, int(n))


def unsteady_tracks(subject: Subject) -> Iterator[Finding]:
    """``track-jump``, ``joint-jump`` and ``track-left-right`` along every identity.

    A jump is measured in person sizes and, since a lively video has large steps everywhere, must also be several times
    the track's usual step. A gap of g frames allows g steps.
    """
    size = subject.person_size
    frames = np.array([p.frame for p in subject.pictures], np.int64)[subject.frame] if len(subject) else np.empty(0)
    for (_, track), rows in subject.tracks().items():
        rows = rows[np.concatenate([[True], np.diff(frames[rows]) > 0])]  # a frame counted twice is another finding
        if len(rows) < 2:
            continue
        gap = np.diff(frames[rows])
        scale = np.fmax(size[rows[1:]], size[rows[:-1]])
        scale = np.where(scale > 0, scale, np.nan)
        joints = np.linalg.norm(np.diff(subject.xy[rows], axis=0), axis=2) / scale[:, None]
        with np.errstate(all="ignore"):
            body = _median(joints)
        usual = np.nanmedian(body / gap) if np.isfinite(body).any() else 0.0
        for i in np.flatnonzero((gap <= LONGEST_GAP) & (body / gap > max(JUMP, 5 * usual))):
            what = f"track {track} moves {body[i]:.1f} person sizes in {gap[i]} frame{'s' if gap[i] > 1 else ''}"
            n = int(rows[i + 1])
            confidence = float(min(1.0, body[i] / gap[i] / (2 * JUMP)))
            yield Finding("track-jump", subject.path, subject.records[n], what, confidence, subject.places[n])
        yield from _joint_jumps(subject, rows, joints, gap, scale, usual, track)
        yield from _flips(subject, rows, gap, scale, track)


def _median(values: np.ndarray) -> np.ndarray:
    """(T,) median over the joints there are; NaN where there are none."""
    result = np.full(len(values), np.nan)
    some = np.isfinite(values).any(axis=1)
    result[some] = np.nanmedian(values[some], axis=1)
    return result


def _joint_jumps(
    subject: Subject, rows: np.ndarray, joints: np.ndarray, gap: np.ndarray, scale: np.ndarray, usual: float, track: int
) -> Iterator[Finding]:
    """Joints far from both neighbours, whose own places lie together."""
    if len(rows) < 3:
        return
    xy = subject.xy[rows]
    back = np.linalg.norm(xy[2:] - xy[:-2], axis=2) / np.fmax(scale[1:], scale[:-1])[:, None]
    out = np.fmin(joints[:-1], joints[1:])
    with np.errstate(invalid="ignore"):
        spikes = (
            (out > max(JOINT_OUT, 6 * usual)) & (back < JOINT_BACK) & ((gap[:-1] == gap[1:]) & (gap[1:] == 1))[:, None]
        )
    for i, k in np.argwhere(spikes):
        n = int(rows[i + 1])
        what = f"{subject.skeleton.keypoints[k]} of track {track} leaves by {out[i, k]:.2f} person sizes and is back"
        confidence = float(min(1.0, out[i, k] / (2 * JOINT_OUT)))
        yield Finding("joint-jump", subject.path, subject.records[n], what, confidence, subject.places[n])


def _flips(subject: Subject, rows: np.ndarray, gap: np.ndarray, scale: np.ndarray, track: int) -> Iterator[Finding]:
    """Pairs of which each joint lies where its partner was, in at least half of the pairs that can tell."""
    pairs = np.array(subject.skeleton.flip_pairs, int).reshape(-1, 2)
    if not len(pairs):
        return
    left, right = subject.xy[rows][:, pairs[:, 0]], subject.xy[rows][:, pairs[:, 1]]

    def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.linalg.norm(a - b, axis=2)

    kept = apart(left[1:], left[:-1]) + apart(right[1:], right[:-1])
    crossed = apart(left[1:], right[:-1]) + apart(right[1:], left[:-1])
    wide = np.fmin(apart(left, right)[1:], apart(left, right)[:-1]) / scale[:, None]
    with np.errstate(invalid="ignore"):
        telling = wide > 0.08
        flipped = telling & (crossed < FLIP * kept)
    for i in np.flatnonzero((gap <= LONGEST_GAP) & (flipped.sum(axis=1) >= np.maximum(1, 0.5 * telling.sum(axis=1)))):
        if not flipped[i].any():
            continue
        names = ", ".join(_pair_name(subject, p) for p in pairs[flipped[i]][:4])
        ratio = float(np.nanmean(crossed[i][flipped[i]] / kept[i][flipped[i]]))
        n = int(rows[i + 1])
        what = f"track {track}: {names} lie where their partners were"
        yield Finding("track-left-right", subject.path, subject.records[n], what, 1 - ratio, subject.places[n])


def _pair_name(subject: Subject, pair: np.ndarray) -> str:
    names = [subject.skeleton.keypoints[k] for k in pair]
    return f"{names[0]}/{names[1]}"
