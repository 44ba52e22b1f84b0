"""Identities by overlap of boxes: each person takes the track whose last box it overlaps most.

The plain method that similarity of poses is compared with (Xiao et al., "Simple baselines for human pose estimation and
tracking", ECCV 2018, Sec. 3.3 and Table 4); works with skeletons without sigmas. Nothing is expected to move.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecli.geometry import box_iou
from posecli.tracking.tracks import Seen, Track, Tracker
from posecli.types import Skeleton


class IouTracker(Tracker):
    """Gives every person of every frame a ``track_id`` by the overlap of boxes; see `Tracker`.

    Args:
        min_iou: least intersection over union that carries an identity on, in [0, 1].
    """

    def __init__(
        self, skeleton: Skeleton, *, min_iou: float = 0.3, max_age: float = 2.0, min_score: float = 0.0
    ) -> None:
        super().__init__(skeleton, least=min_iou, max_age=max_age, min_score=min_score)

    def similarity(self, people: Sequence[Seen], tracks: Sequence[Track], time: float) -> np.ndarray:
        """(N, T) intersection over union of boxes."""
        return box_iou(np.stack([p.box for p in people]), np.stack([t.box for t in tracks]))
