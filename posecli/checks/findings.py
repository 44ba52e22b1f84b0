"""What a check can find: the kinds, how grave each is, and which of them `--fix` repairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

# error: readers refuse it or scores become wrong. warning: most likely wrong. note: worth knowing.
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Kind:
    """One kind of finding: ``severity``, whether it can be ``repaired`` (in some or all cases), and what it means."""

    severity: str
    repaired: bool
    about: str


KINDS: dict[str, Kind] = {
    "malformed": Kind("error", True, "entries that are not of the form the format asks for"),
    "cut-off": Kind("warning", True, "a stream whose last line is not whole"),
    "non-finite": Kind("error", True, "coordinates, boxes or areas that are NaN or infinite"),
    "odd-visibility": Kind("error", False, "v that is not 0, 1 or 2"),
    "odd-score": Kind("warning", False, "scores outside 0 to 1"),
    "duplicate-image-id": Kind("error", True, "an image id used twice"),
    "duplicate-annotation-id": Kind("error", True, "an annotation id used twice"),
    "duplicate-frame": Kind("error", True, "a frame or picture listed twice"),
    "frame-order": Kind("error", False, "frames of a stream that run backwards"),
    "same-time": Kind("warning", False, "frames of a stream that are shown at the same moment"),
    "annotation-without-image": Kind("error", True, "people on images that are not listed"),
    "wrong-count": Kind("warning", True, "num_keypoints is not the count of v > 0"),
    "negative-box": Kind("error", True, "boxes of negative width or height"),
    "zero-area": Kind("warning", True, "people of area 0: OKS cannot be computed"),
    "empty-annotation": Kind("warning", False, "people with neither joints nor box"),
    "area-exceeds-box": Kind("note", False, "an area larger than the person's box"),
    "joint-outside": Kind("warning", False, "labelled joints outside the image"),
    "box-outside": Kind("note", False, "boxes that reach beyond the image"),
    "box-misses-joints": Kind("warning", True, "boxes that leave out joints of their person"),
    "coinciding-joints": Kind("warning", False, "three or more joints on the same point"),
    "duplicate-person": Kind("error", True, "the same entry twice"),
    "similar-person": Kind("warning", False, "two people of one image on the same place"),
    "left-right": Kind("warning", False, "left and right joints look exchanged"),
    "left-right-names": Kind("warning", False, "left and right look exchanged in most people: the joint names?"),
    "track-twice": Kind("error", False, "one identity on two people of a frame"),
    "track-jump": Kind("warning", False, "a person far from where the track was before"),
    "joint-jump": Kind("warning", False, "a joint that leaves for one frame and comes back"),
    "track-left-right": Kind("warning", False, "left and right change places from one frame to the next"),
    "file-missing": Kind("error", False, "pictures or videos that are not there"),
    "file-unreadable": Kind("error", False, "pictures or videos that cannot be decoded"),
    "frame-missing": Kind("error", False, "frames beyond the end of their video"),
    "wrong-size": Kind("error", True, "width and height that are not the file's"),
    "same-picture": Kind("note", False, "look-alike pictures within a file"),
    "split-leak": Kind("error", False, "look-alike pictures in two of the files: a leak between splits"),
}


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        kind: a key of `KINDS`.
        file: the file checked; record: what in it, e.g. ``"annotation 12"``.
        what: the case in words.
        confidence: in [0, 1] for suspicions, None for facts.
        place: where it is in the parsed file, for repairs (index of the image or annotation, or line and person).
        value: what a repair needs beside.
        severity: of this case; empty: its kind's.
    """

    kind: str
    file: str
    record: str
    what: str
    confidence: float | None = None
    place: Any = None
    value: Any = None
    severity: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unknown kind {self.kind!r}")

    @property
    def gravity(self) -> str:
        """One of `SEVERITIES`."""
        return self.severity or KINDS[self.kind].severity

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``confidence`` only for suspicions."""
        value: dict[str, Any] = {"file": self.file, "record": self.record, "what": self.what, "severity": self.gravity}
        if self.confidence is not None:
            value["confidence"] = round(self.confidence, 3)
        return value


def by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    """Findings of each kind that occurs, in the order of gravity and of `KINDS`; the surest suspicions first."""
    groups: dict[str, list[Finding]] = {}
    for finding in findings:
        groups.setdefault(finding.kind, []).append(finding)
    for group in groups.values():
        group.sort(key=lambda f: -(1.0 if f.confidence is None else f.confidence))
    order = list(KINDS)

    def rank(kind: str) -> tuple[int, int]:
        return min(SEVERITIES.index(f.gravity) for f in groups[kind]), order.index(kind)

    return {kind: groups[kind] for kind in sorted(groups, key=rank)}


def gravities(findings: Iterable[Finding]) -> dict[str, int]:
    """How many errors, warnings and notes."""
    counts = Counter(f.gravity for f in findings)
    return {s: counts[s] for s in SEVERITIES}
