"""People across frames: `tracks` holds what all trackers share; `oks`, `coloured`, `iou` and `flow` how they compare
people; `colours` is what they wear."""

from __future__ import annotations

from posecli.tracking.coloured import ColouredTracker
from posecli.tracking.flow import FlowTracker
from posecli.tracking.iou import IouTracker
from posecli.tracking.oks import OksTracker
from posecli.tracking.tracks import Tracker
from posecli.types import Skeleton

__all__ = ["TRACKERS", "ColouredTracker", "FlowTracker", "IouTracker", "OksTracker", "Tracker", "make"]

TRACKERS: dict[str, type[ColouredTracker] | type[IouTracker]] = {
    "oks": ColouredTracker,
    "iou": IouTracker,
    "flow": FlowTracker,
}


def make(name: str, skeleton: Skeleton, min_score: float) -> Tracker:
    """The tracker of a name of `TRACKERS`; PoseError where the skeleton lacks what it needs."""
    return TRACKERS[name](skeleton, min_score=min_score)
