"""Pixels for pages: a picture file or a frame of a video, cut, made smaller and encoded as JPEG.

A picture that is not there, or cannot be read, is no reason to have no page: it is counted and drawn blank.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType

import cv2
import numpy as np

from posecli.errors import PoseError
from posecli.video import VIDEO_SUFFIXES, VideoSource, read_picture


class Pictures:
    """Reads the pictures of a data set or stream by name; holds one video open at a time.

    Args:
        roots: folders that names are tried in, in order.

    Attributes:
        asked, missing: pictures asked for, and those of them that could not be read.
        problems: the first few reasons, in words.
    """

    def __init__(self, roots: Sequence[str | Path]) -> None:
        self.roots = [Path(root) for root in dict.fromkeys(map(str, roots))]
        self.asked = 0
        self.missing = 0
        self.problems: list[str] = []
        self._video: VideoSource | None = None

    def find(self, *names: str) -> Path | None:
        """The first file among the names below the roots; names of a stream are sometimes whole paths."""
        for name in names:
            for root in self.roots:
                path = root / name
                try:
                    if path.is_file():
                        return path
                except (OSError, ValueError):  # too long, or with a zero byte: no file of ours
                    continue
        return None

    def read(self, names: Sequence[str], frame: int | None = None) -> np.ndarray | None:
        """(H, W, 3) uint8 RGB of the first file found, of a video its frame ``frame``; None (counted) without one."""
        self.asked += 1
        try:
            path = self.find(*names)
            if path is None:
                raise PoseError("no such picture", names[0])
            if path.suffix.lower() in VIDEO_SUFFIXES and frame is not None and frame >= 0:
                return self._frame(path, frame)
            return read_picture(path)
        except PoseError as error:
            self.missing += 1
            if len(self.problems) < 5:
                self.problems.append(str(error))
            return None

    def _frame(self, path: Path, frame: int) -> np.ndarray:
        if self._video is None or self._video.path != str(path):
            self.close()
            self._video = VideoSource(path, threads=1)
        return self._video.read_at(frame).image

    def close(self) -> None:
        """Closes the video held open."""
        if self._video is not None:
            self._video.close()
            self._video = None

    def __enter__(self) -> Pictures:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_video(name: str) -> bool:
    """Whether a name is that of a video file."""
    return PurePosixPath(name).suffix.lower() in VIDEO_SUFFIXES


def to_jpeg(image: np.ndarray, longest: int, quality: int = 78) -> bytes:
    """The picture as JPEG, its longer side at most ``longest`` pixels (never enlarged).

    Args:
        image: (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longest / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done  # an RGB uint8 array can always be encoded
    return bytes(data.tobytes())


def data_uri(jpeg: bytes) -> str:
    """A JPEG as text that stands in a page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
