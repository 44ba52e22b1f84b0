"""A pose stream over time as one HTML page: who was there when, local NMS score, joints' ways and speeds, jitter.

The local NMS score over the frames is drawn as the report the project starts from does, but for each person; stretches
in which it stays below three quarters of the person's own median are marked, and the worst frame of each is shown.
The page holds no script and needs nothing else. What is kept in memory is a few numbers a joint and frame. The same
sections stand in the report of an evaluation, where the stream has ids (`sources_of`).
"""

from __future__ import annotations

import base64
import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from markupsafe import Markup

from posecli.drawing import Style, draw_instances
from posecli.errors import PoseError
from posecli.files import replace_when_done
from posecli.predictions import FramePoses, StreamHeader, read_stream
from posecli.reports import plots, time_plots
from posecli.reports.page import render_page, visible
from posecli.trails import person_size, trail_joints
from posecli.types import Instance
from posecli.video import open_source

__all__ = ["Section", "low_sections", "sources_of", "write_over_time"]

_PEOPLE = 6  # of a source who have plots of their own: those seen longest
_ROWS = 40  # of the timeline
_LOW = 0.75  # of a person's median local NMS score
_SHORTEST = 3  # frames that a marked stretch lasts at least
_THUMBNAILS = 8
_SURE = 0.3  # joints below this score say nothing of speed and jitter, where the header has no joint_threshold


@dataclass
class _Track:
    frames: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    heat: list[float] = field(default_factory=list)
    xy: list[np.ndarray] = field(default_factory=list)
    score: list[np.ndarray] = field(default_factory=list)
    size: list[float] = field(default_factory=list)
    filled: int = 0


@dataclass(frozen=True)
class Section:
    """A stretch of low local NMS score: frames ``first`` to ``last``, its ``worst`` frame and the ``value`` there."""

    first: int
    last: int
    worst: int
    value: float


def low_sections(frames: Sequence[int], heat: Sequence[float], below: float) -> list[Section]:
    """Stretches of at least `_SHORTEST` frames in a row with values below ``below``, in order; NaN ends a stretch, and
    so does a longer step than is usual between the frames."""
    low = np.array([value < below for value in heat])
    step = np.diff(frames)
    apart = step > 1.5 * float(np.median(step)) if len(step) else np.zeros(0, bool)
    edges = [0, *(np.flatnonzero((np.diff(low) != 0) | apart) + 1).tolist(), len(low)]
    found = []
    for a, b in itertools.pairwise(edges):
        if b - a >= _SHORTEST and low[a]:
            worst = a + int(np.argmin(heat[a:b]))
            found.append(Section(frames[a], frames[b - 1], frames[worst], float(heat[worst])))
    return found


def write_over_time(
    stream: str | Path, path: str | Path, *, videos: dict[str, str] | None = None, overwrite: bool = False
) -> None:
    """Writes the page.

    Args:
        stream: a pose stream with ids.
        path: the HTML file.
        videos: name of a source to the file it was; sources without one have no thumbnails.

    Raises:
        MissingExtra: matplotlib is not installed.
        PoseError: nobody in the stream has an id; the file exists and ``overwrite`` is false.
    """
    plots.require_matplotlib()
    sources, _ = sources_of(stream, lambda name: (videos or {}).get(name))
    if not sources:
        raise PoseError(
            "nobody has an id, so there is nothing to draw over time", str(stream), "infer --track gives ids"
        )
    page = render_page(
        "over_time.html", styles=("base.css", "report.css"), title=f"posecli: {visible(Path(stream).name)}",
        stream=str(stream), sources=sources,
    )  # fmt: skip
    with replace_when_done(path, overwrite=overwrite) as part:
        part.write_text(page, encoding="utf-8")


def sources_of(
    stream: str | Path, video_of: Callable[[str], str | None], most: int | None = None
) -> tuple[list[dict[str, Any]], int]:
    """What the template ``over_time_sources.html`` shows of each source of a stream in which somebody has an id.

    Args:
        stream: a pose stream.
        video_of: name of a source to the file it was, None where there is none: no thumbnails.
        most: sources that are shown, the first; None: all.

    Returns:
        what to show, and how many sources more there are.
    """
    shown: list[dict[str, Any]] = []
    more = 0
    for (_, header), group in itertools.groupby(_numbered(stream), key=lambda item: item[:2]):
        lines = (line for _, _, line in group)
        if most is not None and len(shown) == most:
            more += any(person.track_id is not None for line in lines for person in line.instances)
            continue
        made = _source(header, lines, video_of(header.source))
        if made:
            shown.append(made)
    return shown, more


def _numbered(stream: str | Path) -> Iterator[tuple[int, StreamHeader, FramePoses]]:
    """The frames of a stream, with the number of their source: two that were joined by `cat` may have equal headers."""
    number, last = 0, None
    for header, line in read_stream(stream):
        number += header is not last
        last = header
        yield number, header, line


def _source(header: StreamHeader, lines: Iterable[FramePoses], video: str | None) -> dict[str, Any] | None:
    """What the template shows of one source; None where nobody has an id."""
    tracks: dict[int, _Track] = {}
    cuts = []
    count = 0
    for line in lines:
        count += 1
        if line.extra.get("cut"):
            cuts.append(line.frame)
        for person in line.instances:
            if person.track_id is not None:
                _add(tracks.setdefault(person.track_id, _Track()), header, line, person)
    if not tracks:
        return None
    longest = sorted(tracks, key=lambda number: -len(tracks[number].frames))
    name = visible(header.source)
    shown = sorted(longest[:_ROWS])
    timeline = time_plots.timeline(
        [(f"id {number}", tracks[number].frames) for number in shown], cuts=cuts, title=f"{name}: who was there when"
    )
    people = [_person(header, number, tracks[number], name) for number in sorted(longest[:_PEOPLE])]
    sections = [(p["id"], section) for p in people for section in p["sections"]]
    sections.sort(key=lambda pair: pair[1].value)
    return {
        "name": name,
        "frames": count,
        "people": len(tracks),
        "left_out": len(tracks) - len(shown),
        "cuts": len(cuts),
        "timeline": timeline,
        "details": people,
        "thumbnails": _thumbnails(header, tracks, sections[:_THUMBNAILS], video) if video else [],
    }


def _add(track: _Track, header: StreamHeader, line: FramePoses, person: Instance) -> None:
    track.frames.append(line.frame)
    track.times.append(line.time if line.time is not None else line.frame / (header.fps or 25.0))
    track.heat.append(float("nan") if person.heat is None else person.heat)
    track.xy.append(np.where(person.visibility[:, None] > 0, person.xy, np.nan).astype(np.float32))
    track.score.append(person.score.astype(np.float32))
    track.size.append(max(person_size(person), 1.0))
    track.filled += bool(person.extra.get("filled"))


def _person(header: StreamHeader, number: int, track: _Track, source: str) -> dict[str, Any]:
    """The plots of one person."""
    frames, names = track.frames, header.skeleton.keypoints
    xy, score, size = np.stack(track.xy), np.stack(track.score), np.array(track.size)
    xy[score < (_SURE if header.joint_threshold is None else header.joint_threshold)] = np.nan
    title = f"{source}, id {number}"
    figures: list[dict[str, Any]] = []
    sections: list[Section] = []
    if np.isfinite(track.heat).any():
        below = _LOW * float(np.nanmedian(track.heat))
        sections = low_sections(frames, track.heat, below)
        svg = time_plots.curves(
            [("", frames, [100 * v for v in track.heat])], title=f"{title}: local NMS score",
            ylabel="local NMS score x 100", spans=[(s.first, s.last) for s in sections], level=100 * below,
        )  # fmt: skip
        about = f"marked: {len(sections)} stretches below {100 * below:.0f}" if sections else "no stretch is low"
        figures.append({"title": "Local NMS score", "svg": svg, "about": about})
    joints = trail_joints(header.skeleton)[:8]
    for axis, label in enumerate(("x", "y")):
        lines = [(names[k], frames, xy[:, k, axis].tolist()) for k in joints]
        figures.append({
            "title": f"Ways of joints, {label}", "about": "pixels; joints of low score leave gaps",
            "svg": time_plots.curves(lines, title=f"{title}: {label}", ylabel=f"{label} in pixels", down=axis == 1),
        })  # fmt: skip
    step = np.diff(np.array(track.times))
    near = np.diff(frames) == np.median(np.diff(frames)) if len(frames) > 1 else np.zeros(0, bool)
    speed = np.linalg.norm(np.diff(xy, axis=0), axis=2) / size[1:, None] / np.maximum(step, 1e-6)[:, None]
    speed[~near] = np.nan
    if np.isfinite(speed[:, joints]).any():
        lines = [(names[k], frames[1:], speed[:, k].tolist()) for k in joints]
        svg = time_plots.curves(lines, title=f"{title}: speed", ylabel="box sizes a second", zero=True)
        figures.append({"title": "Speeds of joints", "svg": svg, "about": "longer side of the box, a second"})
    second = np.linalg.norm(xy[:-2] - 2 * xy[1:-1] + xy[2:], axis=2) / size[1:-1, None] * 1000
    if len(second):
        second[~(near[:-1] & near[1:])] = np.nan
        rows = [(names[k], float(np.median(v))) for k, v in enumerate(second.T) for v in [v[np.isfinite(v)]] if len(v)]
        if rows:
            svg = time_plots.bars(rows, title=f"{title}: jitter", xlabel="second difference, thousandths of the box")
            figures.append({"title": "Jitter by joint", "svg": svg, "about": "median", "narrow": True})
    return {
        "id": number, "frames": len(frames), "filled": track.filled, "first": frames[0], "last": frames[-1],
        "figures": figures, "sections": sections,
    }  # fmt: skip


def _thumbnails(
    header: StreamHeader, tracks: dict[int, _Track], sections: Sequence[tuple[int, Section]], video: str
) -> list[dict[str, Any]]:
    """The worst frames of the lowest stretches, each cut around the person, with the pose drawn."""
    made: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        try:
            source = stack.enter_context(open_source(video))
        except PoseError:  # damaged, or something else under this name
            return made
        for number, section in sections:
            track = tracks[number]
            row = track.frames.index(section.worst)
            try:
                image = source.read_at(section.worst).image
            except PoseError:  # a damaged frame: its numbers stand in the plot
                continue
            xy, score = track.xy[row], track.score[row]
            found = np.isfinite(xy[:, 0])
            if not found.any():
                continue
            person = Instance(xy, np.where(found, 2, 0), score)
            drawn = draw_instances(image, [person], header.skeleton, Style().of_stream(header))
            made.append({
                "picture": _around(drawn, xy[found], track.size[row]),
                "caption": f"id {number}, frames {section.first} to {section.last}: {100 * section.value:.0f}",
            })  # fmt: skip
    return made


def _around(image: np.ndarray, xy: np.ndarray, size: float) -> Markup:
    """The square around a person, at most 260 pixels wide, as a data URL."""
    middle, half = (xy.min(0) + xy.max(0)) / 2, 0.65 * max(size, float(np.ptp(xy, axis=0).max()), 20.0)
    height, width = image.shape[:2]
    x0, y0 = np.clip(np.floor(middle - half), 0, [width - 2, height - 2]).astype(int)
    x1, y1 = np.clip(np.ceil(middle + half), [x0 + 2, y0 + 2], [width, height]).astype(int)
    part = image[y0:y1, x0:x1]
    scale = min(1.0, 260 / max(part.shape[:2]))
    part = cv2.resize(part, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else part
    _, data = cv2.imencode(".jpg", part[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    return Markup("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode())
