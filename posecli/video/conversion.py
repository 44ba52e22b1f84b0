"""Decoded pixels to RGB and back, by threads that stay from frame to frame."""

from __future__ import annotations

from typing import Any

import av
from av.video.reformatter import VideoReformatter

# From here on PyAV's conversions use threads, and take their number; before they use none.
_WITH_THREADS = int(av.__version__.split(".")[0]) >= 17


class Conversion:
    """`VideoFrame.reformat` for frame after frame.

    That one makes a new scaler for each frame, and the scaler as many threads as there are cores, which end with the
    frame: on many cores this takes longer than the conversion, and where a container allows few threads it fails.

    Args:
        threads: 0 leaves the number to FFmpeg.
    """

    def __init__(self, threads: int = 0) -> None:
        self._reformatter = VideoReformatter()
        self._how: dict[str, Any] = {"threads": threads} if _WITH_THREADS else {}

    def of(self, frame: av.VideoFrame, **wanted: Any) -> av.VideoFrame:
        """The frame as ``wanted`` (of `VideoFrame.reformat`); one at a time."""
        return self._reformatter.reformat(frame, **wanted, **self._how)
