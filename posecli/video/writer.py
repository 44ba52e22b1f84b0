"""Frames out: H.264 video that every browser plays, written through PyAV.

H.264 High, yuv420p, BT.709 (tagged), index at the front of the file (faststart). Frames keep the time stamps they are
given, so a variable rate stays variable. 4:2:0 video needs even sizes: an odd width or height is padded by repeating
the last column or row, so that no pixel is lost and coordinates do not move. Sound is copied packet by packet from the
source, not encoded again.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from posecli.errors import PoseError, UsageError, reason
from posecli.files import is_passed_on, refuse_no_folder, unfinished
from posecli.video.conversion import Conversion

_ENCODER = "libx264"
_BT709 = 1  # code of BT.709 in ITU-T H.273 for primaries, transfer and matrix
_LAYOUTS = {1: "mono", 2: "stereo"}
_CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska"}


def container_of(path: str | Path) -> str:
    """FFmpeg's name for the form that a video of this name has; UsageError for one that is not written."""
    suffix = Path(path).suffix.lower()
    if suffix not in _CONTAINERS:
        raise UsageError(f"cannot write video as {suffix or 'a name without suffix'}", str(path), "use .mp4")
    return _CONTAINERS[suffix]


def refuse_unwritable(path: str | Path) -> None:
    """Makes the folder of a file that is to be written; PoseError where there can be no file of that name: FFmpeg opens
    it with the first frame only, when there is work done already."""
    path = Path(path)
    if is_passed_on(path):
        raise PoseError("the output is a device or a pipe, not a file", str(path), "choose another name")
    refuse_no_folder(path)
    part = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise PoseError(f"cannot be written: {reason(error)}", str(path), "choose another name or folder") from None


class VideoWriter:
    """Writes frames to an H.264 file; the file appears under its name when `close` has finished it.

    Args:
        path: ``.mp4``, ``.m4v``, ``.mov`` or ``.mkv`` (whose stamps are whole milliseconds).
        width, height: of the frames given, in pixels; odd ones are padded to even.
        fps: nominal rate, as a fraction where it is one (30000/1001); a float is turned into the nearest such fraction.
        audio_from: file whose first sound track is copied.
        silent_because: of a source with sound that is not copied: what `audio` says of it.
        span: seconds of the source that are written: ``span[0]`` becomes time 0 of the output, sound before it and
            after ``span[1]`` is left out. Without it all of the sound is copied.
        time_base: of the source's stamps; a multiple of it is used, so that they are kept exactly.
        sample_aspect: width by height of a pixel when shown.
        crf, preset: x264's quality (lower is better) and effort.
        overwrite: whether an existing file may be replaced.

    Attributes:
        count: frames written so far.

    Raises:
        PoseError: the file exists, the suffix is unknown, or this FFmpeg has no H.264 encoder.
    """

    def __init__(
        self,
        path: str | Path,
        width: int,
        height: int,
        fps: float | Fraction,
        *,
        audio_from: str | Path | None = None,
        silent_because: str = "none",
        span: tuple[float, float | None] = (0.0, None),
        time_base: Fraction | None = None,
        sample_aspect: Fraction = Fraction(1),
        crf: int = 20,
        preset: str = "veryfast",
        overwrite: bool = True,
    ) -> None:
        self.path = Path(path)
        container, suffix = container_of(path), self.path.suffix.lower()
        if self.path.is_dir() or (self.path.exists() and not overwrite):
            raise PoseError("the output exists already", str(path), "choose another name or give --overwrite")
        if _ENCODER not in av.codecs_available:
            raise PoseError(
                f"this installation of PyAV has no {_ENCODER} encoder", hint="pip install --upgrade av (its wheels do)"
            )
        self.width, self.height = width, height
        self.count = 0
        self._padded = (width + width % 2, height + height % 2)
        self._conversion = Conversion()
        self._step = 1 / nominal_rate(fps)
        self._time_base = fine_time_base(time_base, self._step)
        self._span = span
        self._silent_because = silent_because
        self._last: int | None = None
        self._part = unfinished(self.path)
        self._sound: _SoundCopy | None = None
        with contextlib.ExitStack() as stack:
            stack.callback(self.abort)
            options = {"movflags": "+faststart"} if suffix != ".mkv" else {}
            refuse_unwritable(self.path)
            with self._failures_named():
                self._output: Any = av.open(os.path.abspath(self._part), "w", format=container, options=options)
            self._stream = self._video_stream(crf, preset, sample_aspect)
            if audio_from is not None:
                self._sound = _SoundCopy(self._output, str(audio_from), span)
            stack.pop_all()

    @property
    def audio(self) -> str:
        """What became of the sound so far: ``"copied"``, ``"none"``, or why (or from where on) it was left out.

        What follows the last picture is copied by `close`."""
        return self._silent_because if self._sound is None else self._sound.outcome

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Adds a frame: (H, W, 3) uint8 RGB shown from ``time`` seconds on; None is one nominal step after the last.

        Times must grow; two that fall on one tick of the output's clock are kept one tick apart.
        """
        if image.shape != (self.height, self.width, 3):
            raise ValueError(f"image must be ({self.height}, {self.width}, 3), got {image.shape}")
        if time is None:
            stamp = 0 if self._last is None else self._last + round(self._step / self._time_base)
        else:
            stamp = round((Fraction(time) - Fraction(self._span[0])) / self._time_base)
        if self._last is not None and stamp <= self._last:
            stamp = self._last + 1
        frame = self._encodable(image)
        frame.pts, frame.time_base = max(stamp, 0), self._time_base
        self._last = frame.pts
        with self._failures_named():
            self._output.mux(self._stream.encode(frame))
            if self._sound is not None:
                # Sound goes in step with the pictures, else the muxer would have to hold all of them back.
                self._sound.copy_until(float(frame.pts * self._time_base))
        self.count += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; PoseError when no frame was written."""
        if self._output is None:
            return
        if self.count == 0:
            self.abort()
            raise PoseError("no frame to write", str(self.path))
        try:
            with self._failures_named():
                self._output.mux(self._stream.encode(None))
                if self._sound is not None:
                    self._sound.copy_until(math.inf)
                    self._sound.close()
                self._output.close()
            self._output = None
            os.replace(self._part, self.path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Gives up: nothing is left, a file that was there before stays as it was."""
        if self._sound is not None:
            self._sound.close()
            self._sound = None
        output, self._output = getattr(self, "_output", None), None
        if output is not None:
            with contextlib.suppress(av.FFmpegError):
                output.close()
        with contextlib.suppress(OSError):  # a read-only folder, where there is nothing to remove
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    @contextlib.contextmanager
    def _failures_named(self) -> Iterator[None]:
        """FFmpeg's errors (disk full, a size that H.264 does not know) as one clear error."""
        try:
            yield
        except av.FFmpegError as error:
            raise PoseError(f"cannot be written: {error.strerror}", str(self.path)) from None

    def _video_stream(self, crf: int, preset: str, sample_aspect: Fraction) -> Any:
        stream = self._output.add_stream(_ENCODER, rate=1 / self._step)
        stream.width, stream.height = self._padded
        stream.pix_fmt = "yuv420p"
        stream.time_base = self._time_base
        context = stream.codec_context
        context.time_base = self._time_base
        context.sample_aspect_ratio = sample_aspect
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1  # limited ("mpeg") range
        context.options = {"crf": str(crf), "preset": preset}
        return stream

    def _encodable(self, image: np.ndarray) -> av.VideoFrame:
        right, below = self._padded[0] - self.width, self._padded[1] - self.height
        if right or below:
            image = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = self._conversion.of(frame, format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        frame.color_primaries = frame.color_trc = frame.colorspace = _BT709
        return frame


class _SoundCopy:
    """Copies the first sound track of a file packet by packet; ``outcome`` says whether it does."""

    def __init__(self, output: Any, source: str, span: tuple[float, float | None]) -> None:
        self.outcome = "none"
        self._packets: Iterator[Any] | None = None
        self._input: Any = None
        try:
            self._input = av.open(source if "://" in source else os.path.abspath(source))
        except (av.FFmpegError, OSError) as error:
            raise PoseError(f"its sound cannot be read: {error}", source) from None
        if not self._input.streams.audio:
            return
        known = [track for track in self._input.streams.audio if track.codec_context is not None]
        if not known:
            self.outcome = "left out: it is in no form that is known here"
            return
        track = known[0]
        codec = track.codec_context.codec.canonical_name
        if codec not in output.supported_codecs:
            self.outcome = f"left out: {codec} sound does not fit into {output.format.name}"
            return
        layout = _LAYOUTS.get(track.codec_context.layout.nb_channels)
        # AVI and MKV state a count of channels only; MP4 wants to know of uncompressed sound which they are.
        unstated = codec.startswith("pcm_") and track.codec_context.layout.name.endswith(" channels")
        if unstated and output.format.name == "mp4" and layout is None:
            self.outcome = f"left out: its {track.codec_context.layout.name} are in no order that mp4 is told"
            return
        self._target = output.add_stream_from_template(track)
        if unstated and output.format.name == "mp4":
            self._target.codec_context.layout = layout
        self._output = output
        self._packets = iter(self._input.demux(track))
        base = track.time_base
        origin = Fraction(self._input.start_time or 0, av.time_base) + Fraction(span[0])
        self._base = float(base)
        self._shift = round(origin / base)
        self._end = math.inf if span[1] is None else span[1] - span[0]
        self._cut = span[0] > 0
        self._pending: Any = None
        self._last = -math.inf  # stamp of the packet copied last
        self.outcome = "copied"

    def copy_until(self, seconds: float) -> None:
        """Copies the packets that begin up to that time of the output."""
        while self._packets is not None:
            packet = self._pending if self._pending is not None else self._next()
            self._pending = None
            if packet is None:
                self._packets = None
                return
            begin = (packet.pts - self._shift) * self._base
            if begin >= self._end:
                self._packets = None
                return
            if begin > seconds:
                self._pending = packet
                return
            # An encoder's priming packets lie before zero; before a cut, everything does.
            if begin < 0 and self._cut:
                continue
            packet.pts -= self._shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - self._shift
            if packet.dts <= self._last:  # recordings joined with cat begin again; containers take rising stamps only
                self.outcome = "left out where its time stamps run backwards"
                continue
            self._last = packet.dts
            packet.stream = self._target
            self._output.mux(packet)

    def _next(self) -> Any:
        assert self._packets is not None
        try:
            for packet in self._packets:
                if packet.size and packet.pts is not None:
                    return packet
        except av.FFmpegError as error:
            self.outcome = f"copied up to where it is damaged: {error}"
        return None

    def close(self) -> None:
        if self._input is not None:
            self._input.close()
            self._input = None
        self._packets = None


def nominal_rate(fps: float | Fraction) -> Fraction:
    """A rate as a fraction: floats near a television rate (29.97) become that fraction exactly (30000/1001)."""
    if isinstance(fps, Fraction):
        return fps
    whole = round(fps * 1.001)
    if abs(fps - whole / 1.001) < 0.005 and abs(fps - round(fps)) > 0.005:
        return Fraction(whole * 1000, 1001)
    return Fraction(fps).limit_denominator(1001)


def fine_time_base(source: Fraction | None, step: Fraction) -> Fraction:
    """Unit for the output's time stamps: a whole fraction of the source's own (or of one frame), at most 0.1 ms."""
    unit = source if source else step
    unit = unit / math.ceil(unit * 10_000)
    return unit if unit.numerator == 1 and unit.denominator <= 1_000_000 else Fraction(1, 90_000)
