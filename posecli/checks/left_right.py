"""Left and right exchanged, told by geometry alone: from any skeleton's flip pairs, edges and joint names.

A single pair says nothing: seen from the front a person's left shoulder lies on the image's right, seen from behind on
its left. What cannot be is a trunk whose shoulders are seen from the front and whose hips from behind. So each pair's
signed width is measured across the trunk's own axis (heads may be down, people may lie), in trunk lengths; widths near
zero are views from the side and say nothing. Three tests:

- *trunk*: shoulders and hips of opposite sign, both wide. In a hard twist of the trunk this is true, so that the
  confidence grows with the narrower of the two widths.
- *chain*: a middle pair of a chain of edges (hips, knees, ankles; shoulders, elbows, wrists) that fits both its
  neighbours much better exchanged. Crossed legs or arms cross once; a pair that crosses twice is exchanged.
- *face*: nose and eyes give the view without any trunk (eyes are not seen from behind). Where the eyes run against
  the nose the face is mirrored; where they run against shoulders and hips, the trunk is or the head is turned.

Skeletons without shoulders and hips by name (animals, hands) get the chain test only.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from posecli.checks.findings import Finding
from posecli.checks.subject import Subject
from posecli.types import Skeleton

# Widths in trunk lengths at which the confidence reaches 1: about half of a person seen frontally.
SHOULDERS, HIPS = 0.5, 0.3
SHORT_TRUNK = 0.45  # over the root mean square distance of the joints from their middle; upright people have 1 to 1.3
CHAIN = 0.6  # exchanged length over labelled length of a chain at which the confidence reaches 1
_SIDE = re.compile(r"^(?i:left|right)[ _-]?|^[lrLR][ _-]|[ _-](?i:left|right|l|r)$|^[LR](?=[A-Z])")


@dataclass(frozen=True)
class Roles:
    """Pairs (left, right) of joints by what they are; None where the skeleton has none. ``nose``: its index."""

    shoulders: tuple[int, int] | None
    hips: tuple[int, int] | None
    eyes: tuple[int, int] | None
    nose: int | None


def roles_of(skeleton: Skeleton) -> Roles:
    """Finds shoulders, hips, eyes and nose by the joints' names without their side."""
    bare = {pair: _bare(skeleton.keypoints[pair[0]]) for pair in skeleton.flip_pairs}

    def pair(name: str) -> tuple[int, int] | None:
        return next((p for p, b in bare.items() if b == name), None)

    nose = next((k for k, n in enumerate(skeleton.keypoints) if n.strip().lower() == "nose"), None)
    return Roles(pair("shoulder"), pair("hip"), pair("eye"), nose)


def _bare(name: str) -> str:
    return _SIDE.sub("", name.strip()).strip().lower()


def chains(skeleton: Skeleton) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
    """Triples of pairs (a, b, c) joined by edges on both sides; shoulders and hips count as joined. A head turns on its
    neck, so that nothing follows from edges between ears and shoulders: faces are left out."""
    edges = {frozenset(e) for e in (*skeleton.edges, *skeleton.limbs)}
    roles = roles_of(skeleton)
    if roles.shoulders and roles.hips:
        edges |= {frozenset(p) for p in zip(roles.shoulders, roles.hips, strict=True)}
    pairs = [p for p in skeleton.flip_pairs if not _bare(skeleton.keypoints[p[0]]).startswith(("eye", "ear", "mouth"))]
    joined = {
        p: [q for q in pairs if q != p and all(frozenset((a, b)) in edges for a, b in zip(p, q, strict=True))]
        for p in pairs
    }
    return [(a, b, c) for b in pairs for i, a in enumerate(joined[b]) for c in joined[b][i + 1 :]]


def signed_widths(subject: Subject) -> tuple[np.ndarray, np.ndarray]:
    """(N,) signed widths of shoulders and of hips in trunk lengths, NaN where they cannot be measured; positive as
    seen from the front."""
    roles = roles_of(subject.skeleton)
    nothing = np.full(len(subject), np.nan)
    if roles.shoulders is None or roles.hips is None:
        return nothing, nothing
    across, length = _trunk_axis(subject, roles.shoulders, roles.hips)
    return tuple(_width(subject, pair, across) / length for pair in (roles.shoulders, roles.hips))  # type: ignore[return-value]


def _trunk_axis(subject: Subject, shoulders: tuple[int, int], hips: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 2) unit vectors across the trunk, to the image's right for an upright person, and (N,) trunk lengths. A trunk
    so short that its direction is chance (seen along it, or bent) is NaN."""
    up = subject.xy[:, shoulders].mean(axis=1) - subject.xy[:, hips].mean(axis=1)
    length = np.linalg.norm(up, axis=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # people without any joint
        centre = np.nanmean(subject.xy, axis=1, keepdims=True)
        spread = np.sqrt(np.nanmean(((subject.xy - centre) ** 2).sum(axis=2), axis=1))
    length = np.where(length > SHORT_TRUNK * spread, length, np.nan)
    up = up / length[:, None]
    return np.stack([-up[:, 1], up[:, 0]], axis=1), length


def _width(subject: Subject, pair: tuple[int, int], across: np.ndarray) -> np.ndarray:
    return ((subject.xy[:, pair[0]] - subject.xy[:, pair[1]]) * across).sum(axis=1)


def trunk_doubts(subject: Subject) -> np.ndarray:
    """(N,) confidence in [0, 1] that shoulders or hips are exchanged; NaN where nothing can be said."""
    shoulders, hips = signed_widths(subject)
    doubt = np.minimum(np.minimum(np.abs(shoulders) / SHOULDERS, np.abs(hips) / HIPS), 1.0)
    return np.where(np.isnan(doubt), np.nan, np.where(np.sign(shoulders) != np.sign(hips), doubt, 0.0))


def chain_doubts(subject: Subject) -> list[tuple[tuple[int, int], np.ndarray]]:
    """For each chain its middle pair and (N,) confidence in [0, 1] that this pair is exchanged."""
    found = []
    for a, b, c in chains(subject.skeleton):
        first, middle, last = (subject.xy[:, p] for p in (a, b, c))

        def length(points: np.ndarray, first: np.ndarray = first, last: np.ndarray = last) -> np.ndarray:
            sides = (points - first, points - last)
            return sum(np.linalg.norm(s, axis=2).sum(axis=1) for s in sides)  # type: ignore[return-value]

        labelled, exchanged = length(middle), length(middle[:, ::-1])
        with np.errstate(all="ignore"):
            found.append((b, np.clip((1 - exchanged / labelled) / (1 - CHAIN), 0, 1)))
    return found


def face_signs(subject: Subject) -> np.ndarray:
    """(N,) 1 for a face whose eyes run as they must beside the nose below them, -1 for a mirrored one, 0 where eyes and
    nose are not all visible or lie nearly on a line (a view from the side)."""
    roles = roles_of(subject.skeleton)
    if roles.eyes is None or roles.nose is None:
        return np.zeros(len(subject))
    left, right = subject.xy[:, roles.eyes[0]], subject.xy[:, roles.eyes[1]]
    eyes, nose = left - right, subject.xy[:, roles.nose] - (left + right) / 2
    seen = (subject.visibility[:, [*roles.eyes, roles.nose]] == 2).all(axis=1)
    cross = eyes[:, 0] * nose[:, 1] - eyes[:, 1] * nose[:, 0]
    lengths = np.linalg.norm(eyes, axis=1) * np.linalg.norm(nose, axis=1)
    # Below four pixels between the eyes a slip of the mouse turns them round.
    clear = seen & (np.abs(cross) > 0.5 * lengths) & (np.linalg.norm(eyes, axis=1) >= 4)
    return np.where(clear, np.sign(np.nan_to_num(cross)), 0)


def exchanged_sides(subject: Subject, least: float = 0.5) -> Iterator[Finding]:
    """``left-right`` suspects of at least that confidence, one finding a person; ``left-right-names`` once, where most
    of the faces are mirrored."""
    reasons: dict[int, list[tuple[float, str]]] = {}

    def add(confidence: np.ndarray, text: str, extra: np.ndarray | None = None) -> None:
        for n in np.flatnonzero(np.nan_to_num(confidence) >= max(least, 1e-6)):
            detail = "" if extra is None else f" ({extra[n]})"
            reasons.setdefault(int(n), []).append((float(confidence[n]), text + detail))

    shown = subject.shown
    shoulders, hips = signed_widths(subject)
    views = np.array([f"widths {s:.2f} and {h:.2f} trunk lengths" for s, h in zip(shoulders, hips, strict=True)])
    add(np.where(shown, trunk_doubts(subject), 0), "shoulders and hips seen from opposite sides", views)
    for pair, doubt in chain_doubts(subject):
        names = "/".join(subject.skeleton.keypoints[k] for k in pair)
        add(np.where(shown, doubt, 0), f"{names} fit their neighbours better exchanged")
    faces = face_signs(subject)
    mirrored = (faces < 0) & shown
    told = ((faces != 0) & shown).sum()
    if told >= 10 and mirrored.sum() > 0.5 * told:
        what = f"{mirrored.sum()} of {told} faces are mirrored"
        yield Finding("left-right-names", subject.path, "", what, float(mirrored.sum() / told))
    else:
        add(mirrored * 0.7, "eyes against the nose")
        both = np.sign(shoulders) * (np.sign(shoulders) == np.sign(hips))
        sure = np.minimum(np.minimum(np.abs(shoulders) / SHOULDERS, np.abs(hips) / HIPS), 1.0)
        # A turned head looks over one shoulder: never more than a good guess.
        add(np.where(shown & (faces > 0) & (both < 0), 0.7 * sure, 0), "the face looks here, the trunk away")
    for n, why in sorted(reasons.items()):
        # Independent hints: the chance that none of them is right.
        confidence = 1 - float(np.prod([1 - c for c, _ in why]))
        text = "; ".join(t for _, t in sorted(why, reverse=True))
        yield Finding("left-right", subject.path, subject.records[n], text, confidence, subject.places[n])
