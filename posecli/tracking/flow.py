"""Identities by optical flow: where a track's joints went in the picture, compared with poses by OKS.

Xiao, Wu, Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, https://arxiv.org/abs/1804.06208,
Sec. 3: joints of a frame are carried into the next by optical flow; boxes around them join those of the detector
(Sec. 3.2, `FlowTracker.moved`), and the flow-warped pose is what people are compared with (Sec. 3.3). The flow is DIS
(Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016) as OpenCV has it, on pictures of at most
`_SIDE` pixels; the paper uses FlowNet2S. Departures: somebody who was not seen in the last frame is expected by
velocity, since flow at the place of somebody hidden is that of whatever hides them; and flow tells the joints of one
frame only, those of frames before it being in the tracks' own poses.
"""

from __future__ import annotations

import cv2
import numpy as np

from posecli.geometry import halved
from posecli.tracking.coloured import ColouredTracker
from posecli.tracking.tracks import Track
from posecli.types import Skeleton

_SIDE = 480  # pixels that the longer side of the pictures compared stays below
_LEAST_SIDE = 12  # pixels, below which there is no flow


class FlowTracker(ColouredTracker):
    """Gives every person of every frame a ``track_id`` by flow-warped poses and colours; see `Tracker`."""

    needs_pictures = True

    def __init__(
        self, skeleton: Skeleton, *, min_oks: float = 0.02, max_age: float = 2.0, min_score: float = 0.0
    ) -> None:
        super().__init__(skeleton, min_oks=min_oks, max_age=max_age, min_score=min_score)
        self._before: np.ndarray | None = None  # the last picture, grey and small
        self._flow: np.ndarray | None = None  # (h, w, 2) from it to this one
        self._scale = 1.0  # pixels of the picture in one of the small one
        self._last: float | None = None  # time of the last frame
        self._looked: float | None = None

    def look(self, image: np.ndarray | None, time: float) -> None:
        """Takes the picture of the next frame; asked twice for one time, it keeps what it has."""
        if self._looked == time:
            return
        self._last, self._looked = self._looked, time
        self._flow = None
        if image is None:
            self._before = None
            return
        small = image
        while max(small.shape[:2]) >= _SIDE:
            small = halved(small)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        # OpenCV takes no pictures that are smaller than its patches.
        if self._before is not None and self._before.shape == grey.shape and min(grey.shape) >= _LEAST_SIDE:
            # One that was used before finds something else in some sizes: a run that is gone on with would, too.
            dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
            self._flow = dis.calc(self._before, grey, np.zeros((*grey.shape, 2), np.float32))
        self._before, self._scale = grey, image.shape[1] / grey.shape[1]

    def cut(self) -> None:
        """Another scene begins."""
        super().cut()
        self._flow = None

    def moved(self, xy: np.ndarray, time: float) -> np.ndarray | None:
        """(K, 2) where the flow takes joints seen at ``time``; None unless that was the last frame."""
        if self._flow is None or time != self._last:
            return None
        height, width = self._flow.shape[:2]
        # Halves of pixels: the centre of small pixel i lies at (i + 0.5) * scale - 0.5.
        small = np.clip(np.nan_to_num((xy + 0.5) / self._scale - 0.5), 0, [width - 1, height - 1])
        x, y = np.ascontiguousarray(small.T, np.float32)[:, :, None]
        step = cv2.remap(self._flow, x, y, cv2.INTER_LINEAR)[:, 0]
        return xy + step * self._scale

    def expected(self, track: Track, time: float) -> np.ndarray:
        """(K, 2) where the joints of a track should be now."""
        moved = self.moved(track.xy, track.time)
        return super().expected(track, time) if moved is None else moved
