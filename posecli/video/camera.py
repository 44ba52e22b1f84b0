"""A camera as a source of frames, through OpenCV (PyAV's wheels leave capture devices out)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from fractions import Fraction

import cv2

from posecli.errors import PoseError
from posecli.types import Frame
from posecli.video.frame_source import FrameSource, check_range


class CameraSource(FrameSource):
    """A camera by its number, through OpenCV; time is seconds since the first frame.

    Raises:
        PoseError: no such camera, or it gives no frame.
    """

    kind = "camera"

    def __init__(self, number: int) -> None:
        # OpenCV tells on stderr, in ten lines, which of its backends have no such camera.
        before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            self._capture = cv2.VideoCapture(number)
        finally:
            cv2.utils.logging.setLogLevel(before)
        if not self._capture.isOpened():
            raise PoseError(f"no camera {number}", hint="camera numbers start at 0; a file of that name needs ./")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        rate = Fraction(fps).limit_denominator(1001) if 1 <= fps <= 1000 else Fraction(30)
        width, height = (int(self._capture.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        super().__init__(f"camera:{number}", str(number), width, height, rate)

    @property
    def num_frames(self) -> int | None:
        return None

    def frames(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Frame]:
        check_range(start, stop, every)
        return self._frames(start, stop, every)

    def _frames(self, start: int, stop: int | None, every: int) -> Iterator[Frame]:
        index, began = 0, time.monotonic()
        while stop is None or index < stop:
            good, image = self._capture.read()
            if not good:
                return
            if index >= start and (index - start) % every == 0:
                yield Frame(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), self.name, index, time.monotonic() - began)
            index += 1

    def read_at(self, index: int) -> Frame:
        raise PoseError("a camera has no past frames", self.name, "use frames()")

    def close(self) -> None:
        self._capture.release()
