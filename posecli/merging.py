"""Pose streams joined to one and checked: segments of a video, shards of a folder, sources that were run apart.

Streams are read twice, line by line: first what each part holds, then the parts in their order. Nothing is joined that
does not fit: frames that are missing or there twice, other weights, another skeleton, other options.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from posecli.as_written import line_time
from posecli.errors import PoseError, UsageError
from posecli.files import json_fault, no_constant, refuse_device, replace_when_done
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, frame_from_json, header_from_json
from posecli.spans import PART, Span
from posecli.tracking import TRACKERS, Tracker, make

__all__ = ["MergeReport", "Section", "merge", "scan", "stream_files"]


@dataclass(frozen=True)
class Section:
    """One source's lines in one file.

    Attributes:
        header: of the source.
        span: the frames that must be there, where the header says so.
        begin, end: bytes of the lines after the header.
        line: number of the header's line in the file, from 1.
        first, last: frame indices, None without frames.
        step: between frames; None where it differs or there are fewer than two.
        ids: whether anybody has an identity.
    """

    path: Path
    header: StreamHeader
    span: Span | None
    begin: int
    end: int
    line: int
    first: int | None
    last: int | None
    step: int | None
    count: int
    ids: bool

    @property
    def part(self) -> dict[str, Any]:
        """What its header says of the part and of how it was made."""
        return dict(self.header.extra.get(PART) or {})

    def lines(self) -> Iterator[tuple[str, bytes]]:
        """``("file, line 3", text)`` of every frame."""
        with open(self.path, "rb") as handle:
            handle.seek(self.begin)
            at, number = self.begin, self.line
            while at < self.end:
                text = handle.readline()
                at, number = at + len(text), number + 1
                if text.strip():
                    yield f"{self.path}, line {number}", text


@dataclass
class MergeReport:
    """What was joined: parts, sources and frames; frames that could not be decoded; identities given anew."""

    out: str | None
    parts: int = 0
    frames: int = 0
    broken: int = 0
    people: int = 0
    identities: int = 0
    sources: list[str] = field(default_factory=list)


def stream_files(places: Sequence[str | Path]) -> list[Path]:
    """The streams that files and folders name; of a folder all ``*.jsonl`` below it, by name, hidden ones left out.

    Raises:
        PoseError: nothing there.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if not place.is_dir():
            found.append(place)
            continue
        inner = sorted(p for p in place.rglob("*.jsonl") if p.is_file())
        inner = [p for p in inner if not any(part.startswith(".") for part in p.relative_to(place).parts)]
        if not inner:
            raise PoseError("no pose stream (.jsonl) in the folder", str(place))
        found += inner
    twice = next((p for p in found if found.count(p) > 1), None)
    if twice is not None:
        raise PoseError("the stream is named twice", str(twice))
    return found


def scan(path: str | Path) -> list[Section]:
    """The sources of a stream and which of their frames it holds.

    Raises:
        PoseError: no stream, a damaged or cut off line, frames that run backwards, frames missing of a part.
    """
    path = Path(path)
    refuse_device(path)
    scans: list[_Scan] = []
    at = 0
    try:
        with open(path, "rb") as handle:
            for number, text in enumerate(handle, 1):
                at += len(text)
                if text.strip():
                    value = _value(text, where := f"{path}, line {number}")
                    if "posecli" in value:
                        scans.append(_Scan(path, header_from_json(value, where), at, number))
                    elif not scans:
                        raise PoseError("not a pose stream: its first line is no header", where)
                    else:
                        scans[-1].add(value, where)
                if scans:
                    scans[-1].end = at
    except OSError as error:
        raise PoseError(f"cannot read the pose stream: {error.strerror}", str(path)) from None
    if not scans:
        raise PoseError("the pose stream is empty", str(path))
    return [s.section() for s in scans]


class _Scan:
    """A section while it is read."""

    def __init__(self, path: Path, header: StreamHeader, begin: int, line: int) -> None:
        self.path, self.header, self.begin, self.end, self.line = path, header, begin, begin, line
        part = header.extra.get(PART)
        self.span = None if part is None else Span.from_json(part, f"{path}, line {line}")
        self._wanted = None if self.span is None else iter(self.span.frames())
        self.first: int | None = None
        self.last: int | None = None
        self.step: int | None = None
        self.regular, self.count, self.ids = True, 0, False

    def add(self, value: dict[str, Any], where: str) -> None:
        frame, persons = value.get("frame"), value.get("persons")
        if not isinstance(frame, int) or isinstance(frame, bool) or not isinstance(persons, list):
            raise PoseError("a frame needs its index and a list of persons", where)
        if self.last is not None and frame <= self.last:
            raise PoseError(f"frame {frame} comes after frame {self.last}", where)
        if self._wanted is not None and (wanted := next(self._wanted, None)) != frame:
            what = f"frame {frame}, of which this is no part" if wanted is None else f"frame {wanted} is missing"
            raise PoseError(what, where, "run this part again")
        if self.last is not None:
            self.regular &= self.step in (None, frame - self.last)
            self.step = frame - self.last
        self.first = frame if self.first is None else self.first
        self.last = frame
        self.count += 1
        self.ids = self.ids or any(isinstance(p, dict) and p.get("id") is not None for p in persons)

    def section(self) -> Section:
        if self._wanted is not None and (missing := next(self._wanted, None)) is not None:
            raise PoseError(
                f"it ends before frame {missing}", str(self.path), "this part is not finished; run it again"
            )
        step = self.step if self.regular else None
        return Section(
            self.path, self.header, self.span, self.begin, self.end, self.line,
            self.first, self.last, step, self.count, self.ids,
        )  # fmt: skip


def _value(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and not text.endswith(b"\n"):
            raise PoseError("the last line is cut off", where, "finish it first: infer --resume") from None
        raise PoseError(json_fault(error), where) from None
    if not isinstance(value, dict):
        raise PoseError(f"a JSON object is wanted, not {type(value).__name__}", where)
    return value


def merge(
    places: Sequence[str | Path],
    out: str | Path | None,
    *,
    track: str = "auto",
    overwrite: bool = False,
    on_frame: Callable[[], Any] = lambda: None,
) -> MergeReport:
    """Joins streams: the parts of each source in the order of their frames, sources in the order they come first.

    Args:
        places: streams, or folders of them.
        out: the stream to write (complete or absent), ``"-"`` for standard output, None to check only.
        track: who gives identities over the joined frames: ``"auto"`` as the run asked that made the parts, else
            nobody; a tracker that needs no pictures; ``"none"`` leaves people without.

    Raises:
        PoseError: frames missing or there twice, parts of different runs, ``out`` exists and ``overwrite`` is false.
    """
    blind = [name for name, kind in TRACKERS.items() if not kind.needs_pictures]
    if track not in ("auto", "none", *blind):
        raise UsageError(f"no tracker {track!r} for streams", hint=f"auto, none, {', '.join(blind)}")
    groups = _groups([section for path in stream_files(places) for section in scan(path)])
    report = MergeReport(None if out is None else str(out))
    plans = [(parts, _tracker_name(parts, track)) for parts in groups]
    with contextlib.ExitStack() as stack:
        writer, copy = None, None
        if out is not None:
            writer, copy = _open(out, overwrite, stack)
        for parts, name in plans:
            header = _joined_header(parts)
            again = track != "auto" or name is not None
            run = header.extra.get("run")
            if again and isinstance(run, dict):
                header = replace(header, extra={**header.extra, "run": {**run, "track": name}})
            if writer is not None:
                writer.header(header)
            report.sources.append(header.source)
            report.parts += len(parts)
            tracker = None if name in (None, "none") else make(str(name), header.skeleton, header.threshold or 0.0)
            numbers: set[int] = set()
            for where, text in (line for part in parts for line in part.lines()):
                report.frames += 1
                on_frame()
                if not again and copy is not None:
                    value = text.decode("utf-8", "surrogateescape")
                    copy.write(value if value.endswith("\n") else value + "\n")
                line = frame_from_json(_value(text, where), header.skeleton, where)
                if again:
                    line = _tracked(line, header, tracker)
                    if writer is not None:
                        writer.frame(line)
                report.broken += bool(line.extra.get("broken"))
                report.people += sum(p.person_score >= (header.threshold or 0.0) for p in line.instances)
                numbers |= {p.track_id for p in line.instances if p.track_id is not None}
            report.identities += len(numbers)
    return report


def _open(out: str | Path, overwrite: bool, stack: contextlib.ExitStack) -> tuple[StreamWriter, IO[str]]:
    if str(out) == "-":
        return StreamWriter(sys.stdout), sys.stdout
    place = stack.enter_context(replace_when_done(out, overwrite=overwrite))
    handle = open(place, "w", encoding="utf-8", errors="surrogateescape", newline="\n")  # noqa: SIM115  (the stack's)
    stack.enter_context(handle)
    return StreamWriter(handle), handle


def _tracked(line: FramePoses, header: StreamHeader, tracker: Tracker | None) -> FramePoses:
    """The line with its people's identities given anew, as `pipeline.poses_of` does it."""
    people = tuple(replace(p, track_id=None) for p in line.instances)
    if tracker is not None and not line.extra.get("broken"):
        if line.extra.get("cut"):
            tracker.cut()
        people = tracker.update(people, line_time(line.time, line.frame, header.fps))
    return replace(line, instances=people)


def _tracker_name(parts: Sequence[Section], track: str) -> str | None:
    """Who gives identities; None: the lines stay as they are."""
    if track != "auto":
        return track
    name = parts[0].part.get("track")
    if name is not None and name not in ("none", *TRACKERS):
        raise PoseError(f"unknown tracker {name!r}", str(parts[0].path), "choose one with --track")
    if name is None and len(parts) > 1 and any(p.ids for p in parts):
        raise PoseError(
            "people have identities that were given in each part by itself",
            parts[0].header.source,
            "--track oks gives them anew over the whole, --track none takes them away",
        )
    return name


def _groups(sections: Sequence[Section]) -> list[list[Section]]:
    """The parts of each source in the order of their frames; PoseError where they don't make a whole."""
    first = sections[0]
    groups: dict[str, list[Section]] = {}
    for section in sections:
        for what in ("skeleton", "model", "weights_sha256", "threshold", "joint_threshold"):
            if getattr(section.header, what) != getattr(first.header, what):
                raise PoseError(_differs(what, first, section), str(section.path), f"compared with {first.path}")
        groups.setdefault(section.header.source, []).append(section)
    for parts in groups.values():
        # A part without a frame has no place of its own.
        parts.sort(key=lambda p: -1 if p.first is None else p.first)
        for one, other in itertools.pairwise(parts):
            _check_pair(one, other)
        _check_ends(parts)
    return list(groups.values())


def _differs(what: str, one: Section, other: Section) -> str:
    a, b = (getattr(s.header, what) for s in (one, other))
    if what == "skeleton":
        a, b = a.name, b.name
        if a == b:
            return f"skeletons that are both called {a} but differ"
    if what == "weights_sha256":
        a, b = (v and v[:12] for v in (a, b))
    return f"{what} differs: {b} here, {a} there"


def _check_pair(one: Section, other: Section) -> None:
    where, than = str(other.path), f"it goes on after {one.path}"
    if _joined_header([one]) != _joined_header([other]):
        raise PoseError(f"the headers of {one.header.source} differ in more than their parts", where, than)
    a, b = one.part, other.part
    for key in {*a, *b} - {"first", "stop"}:
        if a.get(key) != b.get(key):
            raise PoseError(f"parts of different runs: {key} is {b.get(key)} here, {a.get(key)} there", where, than)
    if one.last is None or other.first is None:
        return
    if other.first <= one.last:
        raise PoseError(f"frames {other.first} to {min(one.last, other.last or 0)} are there twice", where, than)
    if one.span is not None:
        wanted = one.span.following
    else:
        steps = {s.step for s in (one, other) if s.count > 1} or {_asked_step(one)}
        if len(steps) > 1 or None in steps:
            raise PoseError("frames come in steps that differ", where, than)
        wanted = one.last + int(steps.pop() or 1)
    if other.first != wanted:
        raise PoseError(f"frames {wanted} to {other.first - 1} of {one.header.source} are missing", where, than)


def _asked_step(part: Section) -> int:
    """Between frames, as the run was asked for that made a part (`infer --every`)."""
    run = part.header.extra.get("run")
    every = run.get("every") if isinstance(run, dict) else None
    return every if isinstance(every, int) and not isinstance(every, bool) and every > 0 else 1


def _check_ends(parts: Sequence[Section]) -> None:
    source, span = parts[0].header.source, parts[0].span
    if span is None:
        return
    if span.first != span.of[0]:
        raise PoseError(f"frames {span.of[0]} to {span.first - 1} of {source} are missing", str(parts[0].path))
    last = parts[-1].span
    if last is not None and not last.ends:
        raise PoseError(f"frames {last.following} to {last.of[1] - 1} of {source} are missing", str(parts[-1].path))


def _joined_header(parts: Sequence[Section]) -> StreamHeader:
    header = parts[0].header
    return replace(header, extra={k: v for k, v in header.extra.items() if k != PART})
