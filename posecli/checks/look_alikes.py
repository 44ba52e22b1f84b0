"""Pictures that look alike, by a perceptual hash and a look at the candidates' thumbnails.

The hash is the usual DCT hash (C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010,
section 3.2.1), with 16 x 16 in place of 8 x 8 coefficients: the grey picture at 64 x 64, its two-dimensional cosine
transform, of which the lowest frequencies but for the mean are compared with their median. The hash alone has to choose
between missing pictures that were cut a little differently and naming strangers, so it only proposes: the middle of
one thumbnail is then looked for in the other, at several scales. Mirrored pictures are not found.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Picture, Subject

SIDE = 64  # the picture the hash is taken of
LOWEST = 16  # coefficients in each direction
BITS = LOWEST * LOWEST - 1
NEAR = 90  # of `BITS`: candidates. Unrelated pictures differ in about half of the bits
ALIKE = 0.9  # likeness of the two thumbnails from which on candidates count as alike
THUMB = 64  # longer side of a thumbnail
_SCALES = (0.75, 0.87, 1.0, 1.15, 1.33)  # of the one in the other


class Look(NamedTuple):
    """``bits`` (BITS,) bool; ``thumb`` (h, w) uint8 grey, its longer side `THUMB`."""

    bits: np.ndarray
    thumb: np.ndarray


def look_of(image: np.ndarray) -> Look:
    """The look of an (H, W, 3) or (H, W) uint8 picture."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:LOWEST, :LOWEST].reshape(-1)[1:]
    scale = THUMB / max(grey.shape)
    size = tuple(max(16, round(side * scale)) for side in grey.shape[::-1])
    return Look(low > np.median(low), cv2.resize(grey, size, interpolation=cv2.INTER_AREA))


def near_pairs(bits: np.ndarray, others: np.ndarray | None = None, near: int = NEAR) -> Iterator[tuple[int, int, int]]:
    """``(row, row of others, differing bits)`` of pairs that differ in at most ``near`` bits; within ``bits`` itself
    (each pair once) when ``others`` is None. ``bits``, ``others``: (N, BITS) and (M, BITS) bool."""
    left = np.where(bits, 1.0, -1.0).astype(np.float32)
    right = left if others is None else np.where(others, 1.0, -1.0).astype(np.float32)
    width = left.shape[1]
    for start in range(0, len(left), 1024):
        # Products of signs: equal bits count 1, different ones -1. One matrix product instead of N x M loops.
        differing = (width - left[start : start + 1024] @ right.T) / 2
        for i, j in np.argwhere(differing <= near):
            if others is not None or start + i < j:
                yield int(start + i), int(j), round(float(differing[i, j]))


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Of two thumbnails, in [-1, 1]: how well the middle of either fits somewhere in the other, at the best scale."""
    return max(_fit(a, b), _fit(b, a))


def _fit(part: np.ndarray, whole: np.ndarray) -> float:
    height, width = part.shape
    middle = part[height // 6 : height - height // 6, width // 6 : width - width // 6]
    best = -1.0
    for scale in _SCALES:
        size = tuple(max(4, round(side * scale)) for side in middle.shape[::-1])
        if size[0] <= whole.shape[1] and size[1] <= whole.shape[0]:
            template = cv2.resize(middle, size, interpolation=cv2.INTER_AREA)
            best = max(best, float(cv2.matchTemplate(whole, template, cv2.TM_CCOEFF_NORMED).max()))
    return best


def is_plain(look: Look) -> bool:
    """A picture of (nearly) one colour: it looks like every other such picture."""
    return float(look.thumb.std()) < 4


def alike_within(subject: Subject, looks: Sequence[Look], rows: Sequence[int]) -> Iterator[Finding]:
    """``same-picture``: look-alikes in one file, but for frames of one video and pictures of one ``recording``."""
    pictures = [subject.pictures[r] for r in rows]
    for i, j, confidence in _alike(looks, None):
        if not _belong_together(pictures[i], pictures[j]):
            what = f"like {pictures[i].record}"
            yield Finding("same-picture", subject.path, pictures[j].record, what, confidence)


def alike_across(
    first: Subject, looks: Sequence[Look], rows: Sequence[int], second: Subject, others: Sequence[Look],
    other_rows: Sequence[int],
) -> Iterator[Finding]:  # fmt: skip
    """``split-leak``: look-alikes of which one is in each file."""
    for i, j, confidence in _alike(looks, others):
        a, b = first.pictures[rows[i]], second.pictures[other_rows[j]]
        yield Finding("split-leak", second.path, b.record, f"like {a.record} of {first.path}", confidence)


def _belong_together(a: Picture, b: Picture) -> bool:
    if (a.file_name, a.frame if a.in_video else 0) == (b.file_name, b.frame if b.in_video else 0):
        return True  # listed twice: another finding
    return (a.source is not None and a.source == b.source) or bool(a.recording and a.recording == b.recording)


def _alike(looks: Sequence[Look], others: Sequence[Look] | None) -> Iterator[tuple[int, int, float]]:
    """Pairs near by hash and alike in their thumbnails, with that likeness."""
    if not looks or (others is not None and not others):
        return
    second = looks if others is None else others
    bits = np.array([k.bits for k in looks])
    for i, j, _ in near_pairs(bits, None if others is None else np.array([k.bits for k in others])):
        if is_plain(looks[i]) or is_plain(second[j]):
            continue
        alike = likeness(looks[i].thumb, second[j].thumb)
        if alike >= ALIKE:
            yield i, j, alike
