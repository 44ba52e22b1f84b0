"""All checks over one or several files, and what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.checks import duplicates, left_right, look_alikes, pictures, places, tracks
from posecli.checks.findings import KINDS, Finding, by_kind, gravities
from posecli.checks.reading import load
from posecli.checks.subject import Subject
from posecli.errors import UsageError

__all__ = ["Options", "Outcome", "check"]

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How to look.

    Attributes:
        format, skeleton, image_root: as `convert`.
        look: decode pictures (sizes, damage, look-alikes); their absence is told in any case.
        confidence: suspicions (left and right) below it are left out.
        only, skip: kinds of findings to look for, or to leave out.
        workers: threads that decode.
    """

    format: str = "auto"
    skeleton: str | None = None
    image_root: str | None = None
    look: bool = True
    confidence: float = 0.5
    only: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    workers: int = 2


@dataclass(frozen=True)
class Outcome:
    """``findings`` in all ``subjects``; ``notes`` say what could not be looked at."""

    subjects: tuple[Subject, ...]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Neither errors nor warnings."""
        counts = gravities(self.findings)
        return not counts["error"] and not counts["warning"]

    def to_json(self) -> dict[str, Any]:
        """Plain values: files, counts, and of each kind all cases."""
        kinds = {
            kind: {
                "severity": group[0].gravity,
                "count": len(group),
                "about": KINDS[kind].about,
                "repairable": KINDS[kind].repaired,
                "cases": [f.to_json() for f in group],
            }
            for kind, group in by_kind(self.findings).items()
        }
        return {
            "files": [
                {"file": s.path, "skeleton": s.skeleton.name, "images": len(s.pictures), "people": len(s)}
                for s in self.subjects
            ],
            **gravities(self.findings),
            "findings": kinds,
            "notes": list(self.notes),
        }


def check(
    files: Sequence[str | Path],
    options: Options = Options(),
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Warn = lambda message: None,
) -> Outcome:
    """Checks files; several of them are taken as the splits of one data set and compared with one another.

    Args:
        files: COCO JSON, data sets that `posecli.formats` reads, pose streams.
        progress: told of pictures looked at, and of how many there are.
        warn: told what a strict reader finds odd.

    Raises:
        PoseError: a file that is no data set and no stream. UsageError: an unknown kind.
    """
    for kind in (*options.only, *options.skip):
        if kind not in KINDS:
            raise UsageError(f"unknown kind {kind!r}", hint=f"one of {', '.join(KINDS)}")
    subjects: list[Subject] = []
    findings: list[Finding] = []
    notes: list[str] = []
    for file in files:
        subject, broken = load(
            file, format=options.format, skeleton=options.skeleton, image_root=options.image_root, warn=warn
        )
        subjects.append(subject)
        findings += broken
        for family in (
            places.joints_outside, places.boxes_outside, places.boxes_missing_joints, places.areas_beyond_boxes,
            places.coinciding_joints, duplicates.duplicate_people, tracks.twice_in_a_frame, tracks.unsteady_tracks,
        ):  # fmt: skip
            findings += family(subject)
        crowded = int((np.bincount(subject.frame[subject.shown]) > duplicates.MOST).sum()) if len(subject) else 0
        if crowded:
            more = f"more than {duplicates.MOST} people: not compared with one another"
            notes.append(f"{subject.path}: {crowded} images with {more}")
        findings += left_right.exchanged_sides(subject, options.confidence)
    findings += _of_files(subjects, options, notes, progress)
    kept = (f for f in findings if f.kind not in options.skip and (not options.only or f.kind in options.only))
    return Outcome(tuple(subjects), tuple(kept), tuple(notes))


def _of_files(
    subjects: Sequence[Subject], options: Options, notes: list[str], progress: Callable[[int, int], None]
) -> Iterable[Finding]:
    findings: list[Finding] = []
    seen: list[list[pictures.Seen]] = []
    total = sum(len(s.pictures) for s in subjects)
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    for subject in subjects:
        gone = list(pictures.absent(subject))
        if subject.form == "stream" and len(gone) == len({p.file_name for p in subject.pictures}):
            # A stream names its source, not where it lies: nothing is wrong with it.
            notes.append(f"{subject.path}: its pictures are not in {subject.root}; say where with --image-root")
        else:
            findings += gone
        seen.append(pictures.look_at(subject, findings, count, options.workers) if options.look else [])
    if not options.look:
        notes.append("the pictures themselves were not looked at")
    wanted = [k for k in ("same-picture", "split-leak") if k not in options.skip and k in (options.only or KINDS)]
    for i, (subject, those) in enumerate(zip(subjects, seen, strict=True)):
        looks, rows = [s.look for s in those], [s.row for s in those]
        if "same-picture" in wanted:
            findings += look_alikes.alike_within(subject, looks, rows)
        for other, these in zip(subjects[:i], seen[:i], strict=True) if "split-leak" in wanted else ():
            findings += look_alikes.alike_across(
                other, [s.look for s in these], [s.row for s in these], subject, looks, rows
            )
    return findings
