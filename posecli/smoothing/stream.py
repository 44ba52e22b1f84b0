"""Pose streams made steady, line by line, with little look-ahead: memory does not grow with their length.

People are told apart by their ``id``; those without one stay as they are, so do joints that are missing. A cut (a line
with ``"cut": true``) starts everything anew, as a new source does. One Euro looks back only: each line comes out as it
goes in. Savitzky-Golay and Kalman look ahead: lines are filtered in blocks of `_BLOCK` seconds with `_MARGIN` seconds
(more for strong filters) on both sides; what is farther away does not change the digits that are written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, stream_items
from posecli.smoothing.filters import OneEuro, breaks, kalman, savitzky_golay
from posecli.smoothing.gaps import fill_gaps, line_time, people_of, size_of
from posecli.types import Instance, Skeleton

__all__ = ["FILTERS", "LEAST_STRENGTH", "MOST_STRENGTH", "SmoothReport", "Smoothing", "smooth_file", "smooth_lines"]

FILTERS = ("none", "oneeuro", "savgol", "kalman")
LEAST_STRENGTH, MOST_STRENGTH = 0.1, 4.0
_BLOCK, _MARGIN = 6.0, 3.0  # seconds
_MOST = 2048  # lines of a block or margin, whatever the time stamps say
_WINDOW = 0.4  # seconds that a Savitzky-Golay window spans
_ACCELERATION = 4.0  # of `kalman`
_GONE = 2.0  # seconds after which somebody seen again is a new track


@dataclass(frozen=True)
class Smoothing:
    """What is done to a stream.

    Attributes:
        filter: of `FILTERS`.
        fill: gaps of at most so many frames are filled (`posecli.smoothing.gaps`); 0 for none.
        keep_raw: people keep their joints as they were under ``raw``.
        strength: times as long as usual a filter looks to either side (`LEAST_STRENGTH` to `MOST_STRENGTH`): more is
            calmer, less follows quick movements more closely.
    """

    filter: str = "kalman"
    fill: int = 0
    keep_raw: bool = False
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.filter not in FILTERS:
            raise UsageError(f"unknown filter {self.filter!r}", hint=", ".join(FILTERS))
        if not 0 <= self.fill <= 1000:
            raise UsageError(f"gaps of {self.fill} frames can't be filled", hint="0 to 1000")
        if not LEAST_STRENGTH <= self.strength <= MOST_STRENGTH:
            raise UsageError(f"a strength of {self.strength:g}", hint=f"{LEAST_STRENGTH:g} to {MOST_STRENGTH:g}")
        if self.filter == "none" and self.strength != 1:
            raise UsageError("a strength is for a filter", hint="leave it out, or choose a filter")

    @property
    def does_nothing(self) -> bool:
        """Whether streams come out as they went in."""
        return self.filter == "none" and not self.fill

    @property
    def looks_ahead(self) -> bool:
        """Whether lines come out later than they went in."""
        return self.fill > 0 or self.filter in ("savgol", "kalman")

    def header(self, header: StreamHeader) -> StreamHeader:
        """The header of a source that this was done to: it says so under ``smoothing``."""
        told: dict[str, Any] = {"filter": self.filter, "fill": self.fill}
        if self.strength != 1:
            told["strength"] = self.strength
        return replace(header, extra={**header.extra, "smoothing": told})


@dataclass
class SmoothReport:
    """What a stream held: frames, people filtered, joints filled in, people without an id (left alone), sources that
    had been filtered before and were again, frames shown at the moment of the one before (to filters they are one)."""

    frames: int = 0
    people: int = 0
    filled_joints: int = 0
    without_id: int = 0
    filtered_again: int = 0
    same_time: int = 0


def smooth_lines(header: StreamHeader, lines: Iterable[FramePoses], smoothing: Smoothing) -> Iterator[FramePoses]:
    """The lines of one source made steady, in their order.

    Raises:
        PoseError: time runs backwards.
    """
    if smoothing.does_nothing:
        return iter(lines)
    lines = _forwards(header, lines)
    if smoothing.keep_raw:
        lines = (replace(line, instances=tuple(_with_raw(p) for p in line.instances)) for line in lines)
    if smoothing.fill:
        lines = fill_gaps(header, lines, smoothing.fill)
    if smoothing.filter == "oneeuro":
        return _causal(header, lines, smoothing.strength)
    return iter(lines) if smoothing.filter == "none" else _in_blocks(header, lines, smoothing)


def smooth_file(
    source: str | Path,
    target: str | Path,
    smoothing: Smoothing,
    *,
    overwrite: bool = False,
    again: bool = True,
    on_frame: Callable[[], Any] = lambda: None,
) -> SmoothReport:
    """Writes a stream made steady; the target may be the source itself.

    Args:
        source: path, or ``"-"`` for standard input.
        target: path (complete or absent), or ``"-"`` for standard output.
        again: also filter sources that are steady already; else they are copied.

    Raises:
        PoseError: no stream; time runs backwards; the target exists and ``overwrite`` is false.
    """
    report = SmoothReport()
    with contextlib.ExitStack() as stack:
        place: str | Path = "-"
        if str(target) != "-":
            place = stack.enter_context(replace_when_done(target, overwrite=overwrite))
        writer = stack.enter_context(StreamWriter(place))
        items = _Sources(source)
        for header, lines in items:
            before = header.extra.get("smoothing")
            steady = before is not None and not again
            filtered = isinstance(before, dict) and before.get("filter") not in (None, "none")
            report.filtered_again += filtered and not steady and smoothing.filter != "none"
            writer.header(header if steady or smoothing.does_nothing else smoothing.header(header))
            last: tuple[int, float] | None = None
            lines = _less_filled(lines, report)
            for line in lines if steady else smooth_lines(header, lines, smoothing):
                now = line.frame, line_time(header, line)
                if not line.extra.get("broken"):
                    report.same_time += last is not None and now[0] > last[0] and now[1] == last[1]
                    last = now
                writer.frame(line)
                report.frames += 1
                for person in line.instances:
                    report.without_id += person.track_id is None
                    report.people += person.track_id is not None
                    report.filled_joints += len(person.extra.get("filled") or ())
                on_frame()
    return report


def _less_filled(lines: Iterable[FramePoses], report: SmoothReport) -> Iterator[FramePoses]:
    """The lines as they are; what they say was filled in before is taken off what is reported as filled."""
    for line in lines:
        report.filled_joints -= sum(len(p.extra.get("filled") or ()) for p in line.instances)
        yield line


class _Sources:
    """The sources of a stream, each with its lines; the lines of one are read before the next is asked for."""

    def __init__(self, source: str | Path) -> None:
        self._items = stream_items(source)
        self._next: StreamHeader | None = None

    def __iter__(self) -> Iterator[tuple[StreamHeader, Iterator[FramePoses]]]:
        for header, _ in self._items:  # the first is a header
            self._next = header
            break
        while self._next is not None:
            header, self._next = self._next, None
            yield header, self._lines()

    def _lines(self) -> Iterator[FramePoses]:
        for header, line in self._items:
            if line is None:
                self._next = header
                return
            yield line


def _forwards(header: StreamHeader, lines: Iterable[FramePoses]) -> Iterator[FramePoses]:
    last = -np.inf
    for line in lines:
        # What was not decoded may have no stamp, and the nominal rate says nothing among frames that have theirs.
        if line.extra.get("broken") and line.time is None:
            yield line if last == -np.inf else replace(line, time=last)
            continue
        time = line_time(header, line)
        if time < last:
            hint = "lines stand in the order of their frames; posecli merge puts the parts of a source in theirs"
            raise PoseError(f"time runs backwards at frame {line.frame}", header.source, hint)
        last = time
        yield line


def _with_raw(person: Instance) -> Instance:
    """A person with the joints as they are under ``raw`` (those kept earlier stay)."""
    if person.track_id is None or "raw" in person.extra:
        return person
    values = np.column_stack([person.xy, person.score]).astype(np.float64)
    raw = [
        [round(x, 2), round(y, 2), round(s, 4)] if there else None
        for (x, y, s), there in zip(values.tolist(), (person.visibility > 0).tolist(), strict=True)
    ]
    return replace(person, extra={**person.extra, "raw": raw})


def _joints(person: Instance) -> np.ndarray:
    """(K, 2) float64, NaN where missing."""
    return np.where(person.visibility[:, None] > 0, person.xy, np.nan).astype(np.float64)


def _changed(line: FramePoses, joints: dict[int, np.ndarray]) -> FramePoses:
    """The line with other joints (K, 2) of the people named; of an id that stands there twice only the first."""
    left = dict(joints)
    people = []
    for person in line.instances:
        xy = None if person.track_id is None else left.pop(person.track_id, None)
        people.append(person if xy is None else replace(person, xy=xy.astype(np.float32)))
    return replace(line, instances=tuple(people))


def _causal(header: StreamHeader, lines: Iterable[FramePoses], strength: float) -> Iterator[FramePoses]:
    filters: dict[int, tuple[OneEuro, float]] = {}  # with when each was used last
    for line in lines:
        time = line_time(header, line)
        filters = {} if line.extra.get("cut") else {i: f for i, f in filters.items() if time - f[1] <= _GONE}
        joints = {}
        for number, person in people_of(line).items():
            used = filters.get(number, (OneEuro.of_strength(strength), time))[0]
            joints[number] = used.update(time, _joints(person), size_of(person))
            filters[number] = used, time
        yield _changed(line, joints)


def _in_blocks(header: StreamHeader, lines: Iterable[FramePoses], how: Smoothing) -> Iterator[FramePoses]:
    margin = _MARGIN * max(1.0, how.strength)
    window: list[FramePoses] = []
    times: list[float] = []
    done = 0  # lines of the window that were given out; they are its first margin
    for line in lines:
        if line.extra.get("cut"):
            yield from _filtered(header, window, times, how)[done:]
            window, times, done = [], [], 0
        window.append(line)
        times.append(line_time(header, line))
        if times[-1] - times[done] < _BLOCK + margin and len(window) - done < 2 * _MOST:
            continue
        ready = max(done + 1, min(len(window), int(np.searchsorted(times, times[-1] - margin, "right"))))
        if len(window) - done >= 2 * _MOST:
            ready = max(ready, len(window) - _MOST)
        yield from _filtered(header, window, times, how)[done:ready]
        first = max(int(np.searchsorted(times, times[ready - 1] - margin)), ready - _MOST)
        window, times, done = window[first:], times[first:], ready - first
    yield from _filtered(header, window, times, how)[done:]


def _filtered(header: StreamHeader, lines: list[FramePoses], times: list[float], how: Smoothing) -> list[FramePoses]:
    """All lines of a window with everybody's track through a filter."""
    tracks: dict[int, list[tuple[int, Instance]]] = {}
    for n, line in enumerate(lines):
        for number, person in people_of(line).items():
            tracks.setdefault(number, []).append((n, person))
    changed: list[dict[int, np.ndarray]] = [{} for _ in lines]
    for number, seen in tracks.items():
        at = np.array([n for n, _ in seen])
        time = np.array(times)[at]
        for part in np.split(np.arange(len(seen)), np.flatnonzero(np.diff(time) > _GONE) + 1):
            steady = _track([seen[i][1] for i in part], at[part], time[part], how, header.skeleton)
            for n, xy in zip(at[part].tolist(), steady, strict=True):
                changed[n][number] = xy
    return [_changed(line, joints) for line, joints in zip(lines, changed, strict=True)]


def _track(people: list[Instance], at: np.ndarray, time: np.ndarray, how: Smoothing, skeleton: Skeleton) -> np.ndarray:
    """(T, K, 2) one person's joints, filtered; ``at`` are the lines they stand in."""
    xy = np.stack([_joints(p) for p in people])
    size = np.array([size_of(p) for p in people])
    anew, outlier = breaks(time, xy, size, np.array(skeleton.flip_pairs, int).reshape(-1, 2))
    if how.filter == "kalman":
        filled = np.array([[n in (p.extra.get("filled") or ()) for n in skeleton.keypoints] for p in people])
        score = np.stack([p.score for p in people]).astype(np.float64)
        # Its memory goes with the root of place over acceleration.
        sudden = _ACCELERATION / how.strength**2
        return kalman(time, xy, score, size, ~filled & ~outlier, anew=anew, acceleration=sudden)
    # A line in which the person is missing ends a run.
    result = xy.copy()
    for run in np.split(np.arange(len(at)), np.flatnonzero(np.diff(at) > 1) + 1):
        result[run] = savitzky_golay(time[run], xy[run], _WINDOW * how.strength, anew=anew[run])
    return result
