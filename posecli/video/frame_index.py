"""Where a video's frames are: one scan over its packets, or one pass of decoding where packets do not tell."""

from __future__ import annotations

import contextlib
import itertools
from array import array
from dataclasses import dataclass
from typing import Any

import av

# Codecs whose packets may hold a frame that is never shown: packets and pictures cannot be matched by counting.
_HIDDEN_FRAME_CODECS = {"vp8"}
# Containers that store no presentation time stamps; what FFmpeg reports for them is derived and may be wrong.
_NO_STAMPS = {"avi", "h264", "hevc", "m4v", "mpegvideo", "mjpeg", "obu", "ivf", "vob", "mpeg", "asf"}
# Of them those in which some packets have a stored stamp, the first one among them.
_SOME_STAMPS = {"vob", "mpeg"}


@dataclass(frozen=True)
class PacketIndex:
    """What one scan over a file's packets tells.

    Attributes:
        count: packets that hold a picture.
        stamps: their presentation stamps sorted, in units of the time base; empty where some are missing or equal, or
            where time begins again on the way.
        keys: sorted stamps of key frames.
        delay: by how much stamps that FFmpeg made up for a container without any begin too late (the decoder's
            reordering), in units of the time base; 0 where stamps are stored.
        exact: stamps can be matched with decoded frames one by one.
        repeats: AVI: how many pictures have no packet, since the one before them is shown on. The file's own count of
            frames has them.
    """

    count: int
    stamps: array[int]
    keys: array[int]
    delay: int
    exact: bool
    repeats: int = 0


def scan_packets(container: Any) -> PacketIndex:
    """Reads an open container to its end without decoding."""
    stream = container.streams.video[0]
    stamps, keys = array("q"), array("q")
    unknown = 0
    first = last = None
    in_order = rising = True
    with contextlib.suppress(av.FFmpegError):  # a damaged tail ends the scan as it ends decoding
        for packet in container.demux(stream):
            # Edit lists mark packets to be decoded but not shown.
            if packet.size == 0 or packet.is_discard:
                continue
            first = packet.dts if first is None else first
            # Packets come in the order of decoding. Where time runs back in it another recording was joined on (cat):
            # sorted stamps would mix the two.
            rising = rising and (packet.dts is None or last is None or packet.dts >= last)
            last = packet.dts if packet.dts is not None else last
            in_order = in_order and packet.pts == packet.dts
            if packet.pts is None:
                unknown += 1
                continue
            stamps.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
    known = array("q", sorted(stamps))
    unique = not unknown and rising and all(a < b for a, b in itertools.pairwise(known))
    form = set(container.format.name.split(","))
    stored = not _NO_STAMPS & form or len(keys) == len(stamps) or ("asf" in form and in_order)
    begun = stored or not unique or first is None or bool(_SOME_STAMPS & form)
    count = len(stamps) + unknown
    return PacketIndex(
        count=count,
        stamps=known if unique else array("q"),
        keys=array("q", sorted(keys)),
        delay=0 if begun or first is None else max(known[0] - first, 0),
        exact=unique and stored and stream.codec_context.codec.canonical_name not in _HIDDEN_FRAME_CODECS,
        repeats=0 if last is None or "avi" not in form else max(last + 1 - count, 0),  # it counts time in frames
    )


@dataclass(frozen=True)
class Restarts:
    """Key frames from which decoding may begin in a file whose time stamps cannot be trusted.

    Attributes:
        frames: their indices in the order of display.
        stamps: decoding stamps of their packets, by which the container is searched.
    """

    frames: array[int]
    stamps: array[int]


def find_restarts(container: Any) -> Restarts:
    """Decodes an open container to its end; the n-th key packet gives the n-th key frame. Empty where the two differ in
    number (then there is nothing to go by) or anything is damaged."""
    stream = container.streams.video[0]
    frames, stamps = array("q"), array("q")
    count = packets = 0
    try:
        for packet in container.demux(stream):
            if packet.size and packet.is_keyframe:
                packets += 1
                if packet.dts is not None:
                    stamps.append(packet.dts)
            for frame in packet.decode():
                if frame.key_frame:
                    frames.append(count)
                count += 1
    except av.FFmpegError:
        return Restarts(array("q"), array("q"))
    if not len(frames) == len(stamps) == packets:
        return Restarts(array("q"), array("q"))
    return Restarts(frames, stamps)
