"""Whole pose streams drawn on their source, one frame at a time: video to video or pictures, pictures to pictures.

What a person looks like is in `posecli.drawing`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.drawing import BACKGROUNDS, COLOURS, Style, draw_instances, is_drawn
from posecli.errors import PoseError, UsageError
from posecli.files import ends_alike
from posecli.panels import joined
from posecli.predictions import FramePoses, StreamHeader, read_headers, read_stream
from posecli.trails import Trails
from posecli.types import Frame, Instance, Skeleton
from posecli.video import FrameSource, PictureSource, PictureWriter, VideoSource, VideoWriter

__all__ = [
    "BACKGROUNDS",
    "COLOURS",
    "Comparison",
    "RenderReport",
    "Style",
    "draw_instances",
    "draw_line",
    "frame_file_name",
    "overlay_writer",
    "poses_for",
    "render_stream",
]


@dataclass(frozen=True)
class Comparison:
    """A second stream of the same video: its ``poses``, the ``layout`` (of `posecli.panels.LAYOUTS`) and the ``names``
    of both that are written on the picture."""

    poses: Iterable[tuple[StreamHeader, FramePoses]]
    layout: str
    names: tuple[str, str]


@dataclass
class RenderReport:
    """What a rendering met.

    Attributes:
        frames: frames drawn.
        people: people drawn on them.
        missing: frames without a line in the stream; drawn without people.
        unused: lines of the stream whose frame the source does not give.
        broken: frames of the source that cannot be decoded.
        sound: what became of it, see `VideoWriter.audio`.
    """

    frames: int = 0
    people: int = 0
    missing: int = 0
    unused: int = 0
    broken: int = 0
    sound: str = "none"


def render_stream(
    source: FrameSource,
    poses: Iterable[tuple[StreamHeader, FramePoses]],
    writer: VideoWriter | PictureWriter,
    style: Style | None = None,
    *,
    start: int = 0,
    stop: int | None = None,
    every: int = 1,
    second: Comparison | None = None,
    on_frame: Callable[[], Any] = lambda: None,
) -> RenderReport:
    """Draws a pose stream on its source, in order, holding one frame at a time.

    Frames meet lines by frame index, pictures by file name. A frame without a line is drawn without people. The report
    counts people and lines of the first stream, and missing and unused lines of both.

    Args:
        source: what the poses were found on.
        poses: as `read_stream` yields them, of this source only.
        writer: gets every frame, a video with the source's time stamps.
        style: by default `Style()`; its thresholds None mean the header's.
        start, stop, every: range of frames or pictures and step between them.
        second: another stream of the same video, drawn beside or opposite.
        on_frame: called after each frame (progress).

    Raises:
        UsageError: a second stream, or trails, on pictures.
        PoseError: the stream was made on another size of picture, or its frames go backwards.
    """
    style = style or Style()
    report = RenderReport()
    pens = [_Pen(style)] + ([_Pen(style)] if second is not None else [])
    rows: Iterable[tuple[Frame, Sequence[_Meeting]]]
    if isinstance(source, PictureSource):
        if second is not None or style.trail:
            raise UsageError("two streams, and trails, are drawn on videos", source.name)
        rows = ((frame, [pair]) for frame, *pair in _pair_pictures(source, poses, report, start, stop, every))
    else:
        streams = [poses] if second is None else [poses, second.poses]
        rows = _pair_frames(source, streams, report, start, stop, every)
    for frame, pairs in rows:
        images = []
        for number, (pen, (header, line)) in enumerate(zip(pens, pairs, strict=True)):
            image, count = pen.draw(frame, header, line)
            images.append(image)
            report.people += count if number == 0 else 0
        image = images[0] if second is None else joined(images[0], images[1], second.layout, second.names)
        if isinstance(writer, VideoWriter):
            writer.write(image, frame.time)
        elif isinstance(source, PictureSource):
            writer.write(image, str(PurePosixPath(frame.source)))
        else:
            writer.write(image, frame_file_name(frame.index))
        report.frames += 1
        on_frame()
    report.broken = source.broken
    if isinstance(writer, VideoWriter):
        report.sound = writer.audio
    return report


_NOBODY = Skeleton("none", ("none",))
_Meeting = Sequence[Any]  # (header, line), both None for a frame without one


class _Pen:
    """Draws the lines of one stream in their order, with trails where the style has them."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._trails = Trails(style.trail) if style.trail else None

    def draw(self, frame: Frame, header: StreamHeader | None, line: FramePoses | None) -> tuple[np.ndarray, int]:
        """The frame with the people of its line, and how many there were."""
        style = self._style if header is None else self._style.of_stream(header)
        if self._trails is not None:
            if line is not None and line.extra.get("cut"):
                self._trails.clear()
            people = () if header is None or line is None else shown(header, line, style)
            image = np.zeros_like(frame.image) if style.background == "black" else frame.image
            image = self._trails.draw(image, people, _NOBODY if header is None else header.skeleton, style)
            frame, style = replace(frame, image=image), replace(style, background="source")
        if header is None or line is None:
            return draw_instances(frame.image, (), _NOBODY, style), 0
        return draw_line(frame, header, line, style)


def draw_line(frame: Frame, header: StreamHeader, line: FramePoses, style: Style) -> tuple[np.ndarray, int]:
    """The frame with the people of its line, and how many there were."""
    height, width = frame.image.shape[:2]
    expected = (line.width or header.width or width, line.height or header.height or height)
    if expected != (width, height):
        raise PoseError(
            f"the poses were found on {expected[0]} x {expected[1]} pixels, this picture has {width} x {height}",
            frame.source,
            "render on the file the poses come from",
        )
    own = style.of_stream(header)
    people = [person for person in shown(header, line, style) if is_drawn(person, own)]
    return draw_instances(frame.image, people, header.skeleton, own), len(people)


def shown(header: StreamHeader, line: FramePoses, style: Style) -> list[Instance]:
    """The people of a line who are drawn: those at or above the style's threshold, or the stream's; no crowds."""
    threshold = style.of_stream(header).threshold or 0.0
    people = [p for p in line.instances if p.person_score >= threshold]
    # Streams of labels carry the crowd's mark as a key of its own.
    return [p for p in people if not p.ignore and p.extra.get("ignore") is not True]


_Pair = tuple[Frame, StreamHeader | None, FramePoses | None]


def _pair_frames(
    source: FrameSource,
    streams: Sequence[Iterable[tuple[StreamHeader, FramePoses]]],
    report: RenderReport,
    start: int,
    stop: int | None,
    every: int,
) -> Iterator[tuple[Frame, list[_Meeting]]]:
    """Each frame of a video with its line in every stream."""
    iterators = [iter(lines) for lines in streams]
    waiting = [next(lines, None) for lines in iterators]
    for frame in source.frames(start, stop, every):
        met: list[_Meeting] = []
        for n, lines in enumerate(iterators):
            now = waiting[n]
            while now is not None and now[1].frame < frame.index:
                report.unused += _wanted(now[1], start, stop, every)
                now = _following(lines, now[1].frame, source)
            if now is not None and now[1].frame == frame.index:
                met.append(now)
                now = _following(lines, frame.index, source)
            else:
                report.missing += 1
                met.append((None, None))
            waiting[n] = now
        yield frame, met
    for n, lines in enumerate(iterators):
        now = waiting[n]
        while now is not None:
            report.unused += _wanted(now[1], start, stop, every)
            now = _following(lines, now[1].frame, source)


def _wanted(line: FramePoses, start: int, stop: int | None, every: int) -> bool:
    """Whether a line should have met a frame: those out of the range, those between its steps and those of frames that
    can't be decoded have no picture, which is no surprise."""
    inside = line.frame >= start and (stop is None or line.frame < stop) and (line.frame - start) % every == 0
    return inside and not line.extra.get("broken")


def _following(
    lines: Iterator[tuple[StreamHeader, FramePoses]], index: int, source: FrameSource
) -> tuple[StreamHeader, FramePoses] | None:
    """The next line; PoseError unless its frame comes later."""
    line = next(lines, None)
    if line is not None and line[1].frame <= index:
        raise PoseError(f"the pose stream goes from frame {index} back to {line[1].frame}", source.name)
    return line


def _pair_pictures(
    source: PictureSource,
    poses: Iterable[tuple[StreamHeader, FramePoses]],
    report: RenderReport,
    start: int,
    stop: int | None,
    every: int,
) -> Iterator[_Pair]:
    """The stream's order leads, so that neither side has to be held; pictures without a line come last."""
    wanted = range(source.num_frames)[start:stop:every]
    met: set[int] = set()
    broken: list[str] = []
    for header, line in poses:
        index = picture_of(source, line.file) if line.file is not None else line.frame
        if index is None or index not in wanted or index in met:
            report.unused += 1
            continue
        met.add(index)
        try:
            frame = source.read_at(index)
        except PoseError as error:
            broken.append(str(error))
            continue
        yield frame, header, line
    for index in itertools.filterfalse(met.__contains__, wanted):
        try:
            frame = source.read_at(index)
        except PoseError as error:
            broken.append(str(error))
            continue
        report.missing += 1
        yield frame, None, None
    source.broken = len(broken)
    source.problems[:] = broken[:20]


def frame_file_name(index: int) -> str:
    """Name of a video's frame in a folder of pictures."""
    return f"{index:06d}.png"


def overlay_writer(
    source: FrameSource,
    path: str | Path,
    *,
    start: int = 0,
    stop: int | None = None,
    every: int = 1,
    sound: bool = True,
    overwrite: bool = False,
    layout: str = "one",
) -> VideoWriter:
    """A `VideoWriter` for an overlay of the frames ``start`` to below ``stop`` of a source: its size, rate, stamps and
    sound (of files); the first frame's time becomes 0 where the range does not begin at the beginning."""
    if source.rate is None:
        raise PoseError("pictures are rendered to pictures, not to video", source.name, "give --out FOLDER/")
    file = isinstance(source, VideoSource) and source.is_file
    if file and Path(path).resolve() == Path(source.path).resolve():
        raise UsageError("the output is the input", str(path), "choose another name")
    begin = source.time_of(start) if start else 0.0
    end = source.time_of(stop) if stop is not None else None
    unheard = sound and not file and isinstance(source, VideoSource) and source.has_sound
    return VideoWriter(
        path,
        source.width * (2 if layout == "side" else 1),
        source.height,
        source.rate / every,
        audio_from=source.path if sound and file else None,
        silent_because="left out: it comes from a URL" if unheard else "none",
        span=(begin, end),
        time_base=source.time_base,
        sample_aspect=source.sample_aspect,
        overwrite=overwrite,
    )


def poses_for(
    source: FrameSource,
    stream: str | Path | Sequence[tuple[StreamHeader, FramePoses]],
    warn: Callable[[str], None],
    where: str = "",
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The part of a stream that belongs to a source, lazily.

    A stream may hold several sources. The one of the same name is taken, or, where none is, of the same name without
    suffix; of several of that name the one with most folders in common with the source's place; of a file that holds
    only one source, that one whatever its name, with a warning. On a folder of pictures, where none has its name, all
    of them: videos that are kept as pictures below it.

    Args:
        stream: path, or ``"-"`` for standard input; or poses at hand, named ``where`` in messages.

    Raises:
        PoseError: the stream holds no poses of that source.
    """
    piped = isinstance(stream, str) and stream == "-"
    at_hand = None if isinstance(stream, str | Path) else stream
    where = "standard input" if piped else where or str(stream)

    folder = "" if "://" in source.path else Path(source.path).resolve().parent.as_posix()
    nearest = 0

    def near(header: StreamHeader) -> int:
        return ends_alike(str(PurePosixPath(header.source.replace("\\", "/")).parent), folder)

    def alike(header: StreamHeader, part: Callable[[str], str]) -> bool:
        return part(header.source) in (part(source.name), part(source.path))

    named = _stem  # what of names is compared

    def fits(header: StreamHeader) -> bool:
        return alike(header, named) and near(header) >= nearest

    take_any = several = False
    if not piped:
        if at_hand is None:
            headers = read_headers(str(stream), warn=lambda message: None)
        else:
            headers = list({id(header): header for header, _ in at_hand}.values())
        if any(alike(h, _name) for h in headers):
            named = _name
        nearest = max((near(h) for h in headers if fits(h)), default=0)
        if headers and not any(fits(h) for h in headers):
            take_any = len(headers) == 1
            several = len(headers) > 1 and isinstance(source, PictureSource)
        if take_any and at_hand is None:
            warn(f"{where}: these are poses of {headers[0].source}, drawn on {source.name}")
    seen: list[str] = []
    last: StreamHeader | None = None
    taken: StreamHeader | None = None
    for header, line in read_stream(str(stream), warn=warn) if at_hand is None else at_hand:
        if header is not last:
            last = header
            seen.append(header.source)
        if several and isinstance(source, PictureSource) and picture_of(source, line.file) is not None:
            taken = header
            yield header, line
        if several or not (take_any or fits(header)):
            continue
        if taken is not None and header is not taken:
            if header.source == taken.source:
                raise PoseError(f"poses of {header.source} come twice", where, "leave one of them out")
            what = f"{taken.source} and {header.source} may both be {source.name}"
            hint = "write the stream to a file first" if piped else "draw on the file where its folders say which it is"
            raise PoseError(what, where, hint)
        taken = header
        yield header, line
    if seen and taken is None:
        names = ", ".join(dict.fromkeys(seen))
        raise PoseError(f"the stream holds poses of {names}, not of {source.name}", where)


def picture_of(source: PictureSource, file: str | None) -> int | None:
    """Index of the picture a line names; None for none.

    Names are relative to the folder; or to a folder above it, if they begin with (the end of) its own path.
    """
    if file is None:
        return None
    index = source.index_of(file)
    parts = PurePosixPath(file).parts
    for cut in range(1, len(parts)):
        if index is None and parts[cut - 1] == source.root.resolve().name:
            index = source.index_of("/".join(parts[cut:]))
    return index


def _name(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem
