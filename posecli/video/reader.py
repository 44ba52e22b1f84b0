"""Video files and URLs as sources of frames, decoded by FFmpeg through PyAV.

What a frame's index means: its place in the order of display, counted from 0 over all frames of the source. For a
file whose container keeps presentation time stamps (MP4, MOV, Matroska, MPEG-TS, ...) the packets are scanned once
without decoding; the rank of a frame's stamp among all stamps is its index, and the scan also gives an honest number
of frames and exact random access. A frame that cannot be decoded leaves a gap in the indices and is counted in
`FrameSource.broken`. Where stamps cannot be trusted (AVI has none of its own, VP8 hides frames in packets) frames are
counted as they leave the decoder, which is the order of display for every codec, and the sorted stamps are dealt out in
that order.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import math
import os
from array import array
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from posecli.errors import PoseError
from posecli.types import Frame
from posecli.video.conversion import Conversion
from posecli.video.frame_index import PacketIndex, Restarts, find_restarts, scan_packets
from posecli.video.frame_source import FrameSource, check_file, check_range, parse_position
from posecli.video.nvidia import decoder_of
from posecli.video.orientation import TURNED, display_matrix, orient

_NETWORK_TIMEOUT = 20.0
#: Forms without a container, which hold neither time stamps nor a rate of their own.
_RAW = ("h264", "hevc", "m4v", "mpegvideo", "obu")
#: Who decodes a video, see `VideoSource`.
DECODERS = ("auto", "cpu", "gpu")


class VideoSource(FrameSource):
    """A video file or a URL that FFmpeg reads. See the module's notes on indices.

    Args:
        path: file or URL.
        threads: of decoder and conversion to RGB; 0 leaves the number to FFmpeg: as many as there are cores.
        decode: ``"cpu"``; ``"gpu"`` (or ``"gpu:1"``): by the decoder of an NVIDIA device; ``"auto"`` (``"auto:1"``): by
            it where it is there and takes this video. Pictures are the same.

    Attributes:
        is_file: a file on this machine, not a URL.
        has_sound: there is a sound track beside the pictures.
        hardware: whether frames come from a device's decoder.
        threads: of decoders that are opened from now on.

    Raises:
        PoseError: the file is missing, empty, cut off before its index, holds no video or not a single readable frame;
            ``"gpu"`` where no device's decoder takes it.
    """

    def __init__(self, path: str | Path, *, threads: int = 0, decode: str = "cpu") -> None:
        self.threads = threads
        self.hardware = False
        self._decode, _, self._gpu = decode.partition(":")
        if self._decode not in DECODERS:
            raise PoseError(f"no decoder {decode!r}", hint=f"one of {', '.join(DECODERS)}")
        self.is_file = "://" not in str(path)
        self._where = str(path)
        if self.is_file:
            check_file(Path(path))
            if not Path(path).is_file():
                raise PoseError("not a file on disk", str(path), "a pipe cannot be read again; cameras go by number")
        with self._open() as container:
            stream = container.streams.video[0]
            self._origin = Fraction(container.start_time or 0, av.time_base)
            rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            nominal = stream.guessed_rate or rate
            if container.format.name in _RAW:  # frames are timed by the guess: the other is FFmpeg's 25 for all of them
                rate = nominal
            first = self._first_frame(container, stream)
            # Asked of the first frame only: side data and frame hold each other, which would keep every frame in memory
            # until the next garbage collection.
            self._matrix = display_matrix(first)
            self._stored_size = (first.width, first.height)
            turned = self._matrix in TURNED
            width, height = self._stored_size[::-1] if turned else self._stored_size
            super().__init__(Path(path).name if self.is_file else str(path), str(path), width, height, Fraction(rate))
            self.time_base = Fraction(stream.time_base)
            aspect = stream.codec_context.sample_aspect_ratio
            if aspect:
                self.sample_aspect = 1 / Fraction(aspect) if turned else Fraction(aspect)
            self._announced = stream.frames or None
            self.has_sound = bool(container.streams.audio)
        if self._decode != "cpu":
            problem = self._try_hardware()
            if problem and self._decode == "gpu":
                raise PoseError(f"no GPU decodes this video here: {problem}", self._where, "--decode cpu")
            self.hardware = not problem
        self._step = 1 / Fraction(nominal)
        self._cut_off = 0
        self._index_cache: PacketIndex | None = None
        self._scanned = False
        self._restarts: Restarts | None = None
        self._reader: _Decoder | None = None

    @property
    def num_frames(self) -> int | None:
        index = self._index()
        return index.count if index is not None else self._announced

    def frames(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Frame]:
        check_range(start, stop, every)
        return self._frames(start, stop, every)

    def _frames(self, start: int, stop: int | None, every: int) -> Iterator[Frame]:
        if start == stop:
            return
        self._index()
        self.broken, self.repaired = self._cut_off, 0
        del self.problems[bool(self._cut_off) :]
        with contextlib.closing(_Decoder(self, counting=True)) as decoder:
            for index, raw, seconds in decoder.run(start):
                if stop is not None and index >= stop:
                    return
                if (index - start) % every == 0:
                    yield self._frame(index, raw, seconds, decoder.conversion)
                    if stop is not None and index + every >= stop:
                        return

    def read_at(self, index: int) -> Frame:
        """Exact: decodes on from the frame read last, or from the key frame before the one wanted. Without trustworthy
        time stamps key frames are found by decoding the file once, at the first step back. Errors met on the way are
        not counted in `broken`."""
        total = self.num_frames if self._index() is not None else None
        if index < 0 or (total is not None and index >= total):
            raise PoseError(f"no frame {index}", self.path, f"it has {total} frames" if total is not None else "")
        if self._reader is None:
            self._reader = _Decoder(self, counting=False)
        found = self._reader.find(index)
        if found is None:
            raise PoseError(f"frame {index} cannot be decoded", self.path)
        raw, seconds = found
        return self._frame(index, raw, seconds, self._reader.conversion)

    def key_frames(self) -> list[int] | None:
        """Indices of the frames at which decoding may begin, in order; None where stamps cannot be trusted."""
        index = self._index()
        if index is None or not index.exact:
            return None
        return [bisect.bisect_left(index.stamps, key) for key in index.keys]

    def position(self, text: str | int) -> int:
        index = self._index()
        if str(text).strip().endswith("s") and index is not None and index.stamps:
            parse_position(text, 1.0)
            stamp = (Fraction(str(text).strip()[:-1].strip()) + self._origin) / Fraction(self.time_base or 1)
            return bisect.bisect_left(index.stamps, math.ceil(stamp - Fraction(1, 2)) + index.delay)
        return parse_position(text, self.fps)

    def time_of(self, index: int) -> float:
        table = self._index()
        if table is None or not table.stamps:
            return super().time_of(index)
        last = len(table.stamps) - 1
        beyond = max(index - last, 0)
        return self._seconds(table.stamps[min(index, last)]) + beyond * float(self._step)

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _try_hardware(self) -> str:
        """Decodes a frame on the device; what is wrong with that, or nothing."""
        try:
            with self._open(hardware=True) as container:
                self._first_frame(container, container.streams.video[0])
        except PoseError as error:
            return f"{error.what} ({error.hint})" if error.hint else error.what
        except (RuntimeError, NotImplementedError) as error:  # PyAV: this codec has no such decoder, no such device
            return _reason(error)
        return ""

    def _open(self, *, hardware: bool = False) -> Any:
        try:
            # FFmpeg takes what stands before a colon in a bare name (2024-05-01T12:30.mp4) for a protocol.
            place = os.path.abspath(self._where) if self.is_file else self._where
            with decoder_of(self._gpu) if hardware else contextlib.nullcontext() as decoder:
                more = {} if decoder is None else {"hwaccel": decoder}
                container = av.open(place, timeout=None if self.is_file else _NETWORK_TIMEOUT, **more)
        except (av.FFmpegError, OSError, ValueError) as error:
            if hardware:  # without, it was opened before
                raise PoseError(f"its decoder cannot be opened: {_reason(error)}", self._where) from None
            raise PoseError(*_opening_problem(self._where, error)) from None
        if container.format.name.endswith("_pipe") or container.format.name in ("image2", "tty"):
            container.close()
            raise PoseError("this is a picture or text, not a video", self._where, "give it its own suffix")
        if not container.streams.video:
            container.close()
            raise PoseError("no video in it", self._where, "only sound or data")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            container.close()
            raise PoseError("its video is in no form that is known here", self._where, "it may be damaged")
        stream.thread_type = "AUTO"
        # A device's decoder has a fixed number of pictures to give away, and threads would each hold some.
        stream.codec_context.thread_count = 1 if hardware else self.threads
        return container

    def _first_frame(self, container: Any, stream: Any) -> av.VideoFrame:
        failure = "it may be cut off or not be a video"
        try:
            for packet in container.demux(stream):
                try:
                    for frame in packet.decode():
                        return frame
                except av.FFmpegError as error:
                    failure = _reason(error)
        except av.FFmpegError as error:
            failure = _reason(error)
        raise PoseError("not a single frame can be decoded", self._where, failure)

    def _index(self) -> PacketIndex | None:
        """The packet index, built at first use; None for what can't be scanned (URLs, pipes)."""
        if not self._scanned:
            self._scanned = True
            if self.is_file and Path(self.path).is_file():
                with self._open() as container:
                    self._index_cache = scan_packets(container)
                there = self._index_cache.count + self._index_cache.repeats
                if self._announced and there < self._announced:
                    self._cut_off = self.broken = self._announced - there
                    self._note(
                        f"the file is cut off: {self._cut_off} of {self._announced} announced frames are missing"
                    )
        return self._index_cache

    def _restart_points(self) -> Restarts:
        """Found at the first step back in a file without trustworthy stamps, by decoding it once."""
        if self._restarts is None:
            with self._open() as container:
                self._restarts = find_restarts(container)
        return self._restarts

    def _seconds(self, stamp: int) -> float:
        delay = self._index_cache.delay if self._index_cache is not None else 0
        return float((stamp - delay) * Fraction(self.time_base or 1) - self._origin)

    def _frame(self, index: int, raw: av.VideoFrame, seconds: float, conversion: Conversion) -> Frame:
        # Where the stream changes its size on the way, coordinates stay those of the first frame.
        width, height = self._stored_size
        image = conversion.of(raw, format="rgb24", width=width, height=height).to_ndarray()
        return Frame(orient(image, self._matrix), self.name, index, seconds)


class _Decoder:
    """One open container and where its decoder stands; gives ``(index, decoded frame, seconds)`` in order of display.

    With ``counting``, damaged frames and mended time stamps are counted in the source.
    """

    def __init__(self, source: VideoSource, *, counting: bool) -> None:
        self.source = source
        self.counting = counting
        self.container = source._open(hardware=source.hardware)
        self.stream = self.container.streams.video[0]
        self.conversion = Conversion(source.threads)
        self.index = source._index()
        self._moved = False
        self._running: Iterator[tuple[int, av.VideoFrame, float]] | None = None
        self._last: tuple[int, av.VideoFrame, float] | None = None

    def close(self) -> None:
        self._running = None
        self.container.close()

    def on_broken(self, problem: str) -> None:
        if self.counting:
            self.source.broken += 1
            self.source._note(problem)

    def run(self, start: int) -> Iterator[tuple[int, av.VideoFrame, float]]:
        """Frames from index ``start`` on, by seeking where that is exact."""
        if self.index is not None and self.index.exact:
            yield from self._by_stamp(start)
        else:
            yield from self._by_count(start)

    def find(self, index: int) -> tuple[av.VideoFrame, float] | None:
        """The frame with that index, or None if it can't be decoded; goes on from where it stands when that is near."""
        if self._last is None or self._running is None or index < self._last[0] or self._worth_seeking(index):
            if self.index is not None and self.index.exact:
                self._running = self._by_stamp(index)
            else:  # a first frame is reached by counting; only further jumps pay for the search of key frames
                self._running = self._from_restart(index) if self._moved else self._by_count(0)
            self._last = None
        while self._last is None or self._last[0] < index:
            self._last = next(self._running, None)
            if self._last is None:
                self._running = None
                return None
        return self._last[1:] if self._last[0] == index else None

    def _worth_seeking(self, index: int) -> bool:
        """A key frame lies between where the decoder stands and the frame wanted."""
        if self.index is None or self._last is None:
            return False
        keys, here, there = self.index.keys, self._last[0], index
        if self.index.exact:
            here, there = self.index.stamps[here], self.index.stamps[there]
        else:
            keys = self.source._restarts.frames if self.source._restarts is not None else array("q")
        return bisect.bisect_right(keys, there) > bisect.bisect_right(keys, here)

    def _by_stamp(self, start: int) -> Iterator[tuple[int, av.VideoFrame, float]]:
        assert self.index is not None
        stamps = self.index.stamps
        if start >= len(stamps):
            return
        following = start
        for raw in self._seek(start):
            if raw.pts is None:
                index = following
            else:
                index = bisect.bisect_left(stamps, raw.pts)
                if index < following:  # before the start, or a stamp shown already
                    continue
                if index >= len(stamps) or stamps[index] != raw.pts:  # a stamp no packet carries: next in order
                    index = following
            for lost in range(following, index):
                self.on_broken(f"frame {lost} cannot be decoded")
            if index >= len(stamps):
                return
            if raw.is_corrupt:
                self.on_broken(f"frame {index} is damaged")
            yield index, raw, self.source._seconds(stamps[index])
            following = index + 1
        for lost in range(following, len(stamps)):
            self.on_broken(f"frame {lost} cannot be decoded")

    def _seek(self, start: int) -> Iterator[av.VideoFrame]:
        """Decoded frames from a key frame at or before frame ``start``: an earlier one when the decoder, after the
        jump, gives nothing up to the frame wanted (open groups of pictures, containers that seek roughly)."""
        assert self.index is not None
        wanted = self.index.stamps[start]
        at = bisect.bisect_right(self.index.keys, wanted) - 1
        while start > 0 and at > 0:
            self.container.seek(self.index.keys[at], stream=self.stream, backward=True)
            decoded = self._decode(quiet=True)
            first = next(decoded, None)
            if first is not None and first.pts is not None and first.pts <= wanted:
                yield first
                yield from decoded
                return
            at -= 1
        self._rewind()
        yield from self._decode(quiet=True)

    def _rewind(self) -> None:
        """Back to the very beginning; opening anew is the only way that is exact in every container."""
        if self._moved:
            self.container.close()
            self.container = self.source._open(hardware=self.source.hardware)
            self.stream = self.container.streams.video[0]

    def _by_count(self, start: int) -> Iterator[tuple[int, av.VideoFrame, float]]:
        source = self.source
        stamps = self.index.stamps if self.index is not None else array("q")
        previous = -math.inf
        self._rewind()
        for index, raw in enumerate(self._decode(quiet=False)):
            step = float(source._step)
            if index < len(stamps):
                seconds = source._seconds(stamps[index])
                mended = raw.pts != stamps[index]
            else:
                seconds = source._seconds(raw.pts) if raw.pts is not None else math.nan
                mended = not seconds > previous
            if not seconds > previous:
                seconds = previous + step if previous > -math.inf else 0.0
            previous = seconds
            if index < start:
                continue
            source.repaired += mended and self.counting
            if raw.is_corrupt:
                self.on_broken(f"frame {index} is damaged")
            yield index, raw, seconds

    def _from_restart(self, index: int) -> Iterator[tuple[int, av.VideoFrame, float]]:
        """Frames counted from the key frame at or before ``index``; from the beginning where that is not possible."""
        restarts = self.source._restart_points()
        at = bisect.bisect_right(restarts.frames, index) - 1
        stamps = self.index.stamps if self.index is not None else array("q")
        if at > 0 and index < len(stamps):
            self.container.seek(restarts.stamps[at], stream=self.stream, backward=True)
            counted = itertools.count(restarts.frames[at])
            arrived = False
            for number, raw in zip(counted, self._after_key(restarts.stamps[at]), strict=False):
                arrived = True
                if number >= len(stamps):
                    return
                yield number, raw, self.source._seconds(stamps[number])
            if arrived:
                return
        yield from self._by_count(0)

    def _after_key(self, stamp: int) -> Iterator[av.VideoFrame]:
        """Frames shown from the key frame of that decoding stamp on; none when the container did not land there."""
        shown = False
        with contextlib.suppress(av.FFmpegError):
            for place, packet in enumerate(self.container.demux(self.stream)):
                if place == 0 and packet.dts != stamp:
                    return
                for raw in packet.decode():
                    # Frames that belong before the key frame may come out first, without what they build on.
                    shown = shown or bool(raw.key_frame)
                    if shown:
                        yield raw

    def _decode(self, *, quiet: bool) -> Iterator[av.VideoFrame]:
        """Decoded frames in order of display; errors are counted unless ``quiet`` (the caller sees the gap itself)."""
        self._moved = True
        try:
            for packet in self.container.demux(self.stream):
                try:
                    yield from packet.decode()
                except av.FFmpegError as error:
                    if not quiet:
                        self.on_broken(f"a frame cannot be decoded: {_reason(error)}")
        except av.FFmpegError as error:
            if not quiet:
                self.on_broken(f"the file ends in error: {_reason(error)}")


def _reason(error: BaseException) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")


def _opening_problem(where: str, error: BaseException) -> tuple[str, str, str]:
    """What, where and hint for a file or URL that FFmpeg does not open."""
    if isinstance(error, av.error.InvalidDataError):
        with contextlib.suppress(OSError):
            with open(where, "rb") as handle:
                head = handle.read(512)
            if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return "the video is cut off: its index is missing", where, "copy or record the file again"
            if head and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
                return "this is text, not a video", where, ""
        return "not a video that can be read", where, "damaged, or another kind of file under this name"
    return f"cannot be opened: {_reason(error)}", where, ""
