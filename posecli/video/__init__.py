"""Frames in, frames out, lazily: the door to video files, pictures, cameras and URLs.

    with open_source("clip.mp4") as source:
        for frame in source.frames(start=100, every=2):
            ...                                     # frame.image (H, W, 3) uint8 RGB, frame.index, frame.time
        exact = source.read_at(57).image            # the same pixels as frame 57 of a pass from the beginning

What every source offers stands in `frame_source`; reading lives in `reader` (files, URLs), `pictures` and `camera`,
finding what was meant by the words on the command line in `sources`, writing in `writer`.
"""

from __future__ import annotations

from posecli.video.camera import CameraSource
from posecli.video.frame_source import FrameSource, check_positions, parse_position
from posecli.video.pictures import HEIC_SUFFIXES, PictureSource, PictureWriter, read_picture
from posecli.video.reader import DECODERS, VideoSource
from posecli.video.sources import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Input, list_inputs, natural_key, open_source
from posecli.video.writer import VideoWriter, container_of, refuse_unwritable

__all__ = [
    "DECODERS",
    "HEIC_SUFFIXES",
    "PICTURE_SUFFIXES",
    "VIDEO_SUFFIXES",
    "CameraSource",
    "FrameSource",
    "Input",
    "PictureSource",
    "PictureWriter",
    "VideoSource",
    "VideoWriter",
    "check_positions",
    "container_of",
    "list_inputs",
    "natural_key",
    "open_source",
    "parse_position",
    "read_picture",
    "refuse_unwritable",
]
