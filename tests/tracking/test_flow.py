"""The optical flow that carries people from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
from made_clips import numbered_image

from posecli.skeletons import COCO17
from posecli.tracking.flow import FlowTracker


@pytest.mark.parametrize("size", [(80, 48), (96, 64), (320, 180)])
def test_it_follows_from_two_pictures_alone(size: tuple[int, int]) -> None:
    """A run that is gone on with sees what the undisturbed one saw: in some sizes OpenCV's flow keeps a part of
    what it found between the pictures before."""
    images = [numbered_image(n, *size) for n in range(6)]
    places = np.random.default_rng(0).uniform(0, 1, (50, 2)) * size
    running = FlowTracker(COCO17)
    running.look(images[0], 0.0)
    for n in range(1, 6):
        running.look(images[n], n / 25)
        fresh = FlowTracker(COCO17)
        fresh.look(images[n - 1], (n - 1) / 25)
        fresh.look(images[n], n / 25)
        there, wanted = (tracker.moved(places, (n - 1) / 25) for tracker in (running, fresh))
        assert there is not None and wanted is not None
        assert np.array_equal(there, wanted), n
