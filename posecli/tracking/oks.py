"""Identities by pose similarity: each person takes the track whose expected pose it resembles most (OKS).

The similarity is COCO's OKS between a pose of this frame and the last pose of a track (Xiao et al., "Simple baselines
for human pose estimation and tracking", ECCV 2018, Sec. 3.3), moved on at the person's velocity. The longer ago a track
was seen, the wider is the area where it may be.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecli.errors import PoseError
from posecli.tracking.tracks import Seen, Track, Tracker
from posecli.types import Skeleton

_TOLERANCE = 2.0  # times the sigmas of the metric: motion from frame to frame is far larger than labelling noise
_DRIFT = 0.5  # by how many roots of its area somebody may be elsewhere after a second


class OksTracker(Tracker):
    """Gives every person of every frame a ``track_id`` by the likeness of poses; see `Tracker`.

    Args:
        skeleton: with sigmas.
        min_oks: least similarity that carries an identity on, in [0, 1].
        by_score: joints count by the squares of their scores in both poses, not all the same.
    """

    def __init__(
        self,
        skeleton: Skeleton,
        *,
        min_oks: float = 0.2,
        max_age: float = 2.0,
        min_score: float = 0.0,
        by_score: bool = False,
    ) -> None:
        super().__init__(skeleton, least=min_oks, max_age=max_age, min_score=min_score)
        if not skeleton.sigmas:
            raise PoseError("tracking by OKS needs sigmas", f"skeleton {skeleton.name!r}", "use --track iou or none")
        self._by_score = by_score
        self._variance = (2 * np.asarray(skeleton.sigmas) * _TOLERANCE) ** 2

    def expected(self, track: Track, time: float) -> np.ndarray:
        """(K, 2) where the joints of a track should be now."""
        return track.xy + track.velocity * (time - track.time)

    def similarity(self, people: Sequence[Seen], tracks: Sequence[Track], time: float) -> np.ndarray:
        """(N, T) OKS of this frame's poses and where the tracks should be now; 0 where no joint is in both."""
        moved = np.stack([self.expected(t, time) for t in tracks])
        squared = ((moved[None] - np.stack([p.xy for p in people])[:, None]) ** 2).sum(-1)
        # The mean of both areas, as in the official OKS NMS; a person whose size jumps is not the same person.
        area = (np.array([p.area for p in people])[:, None] + np.array([t.area for t in tracks])[None])[..., None]
        gap = np.array([time - t.time for t in tracks])[None, :, None]
        alike = np.exp(-squared / (area * (self._variance + (_DRIFT * gap) ** 2)))
        there = ~np.isnan(alike)
        if not self._by_score:
            return np.where(there, alike, 0).sum(-1) / np.maximum(there.sum(-1), 1)
        weight = np.stack([p.score for p in people])[:, None] * np.stack([t.score for t in tracks])
        weight = np.where(there, weight * weight, 0)
        return (np.where(there, alike, 0) * weight).sum(-1) / np.maximum(weight.sum(-1), 1e-9)
