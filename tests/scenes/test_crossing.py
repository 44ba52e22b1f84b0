"""People who cross: both ways at once, past one another, behind a wall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecli.errors import UsageError
from posecli.scenes.backdrop import Backgrounds
from posecli.scenes.folder import SceneOptions, stage

OPTIONS = SceneOptions(seed=3, people=(4, 4), frames=100, fps=25.0, blur=0.0, cameras=("front",), crossing=True)


def test_people_walk_both_ways_past_one_another_and_a_wall() -> None:
    staged = stage(OPTIONS, 0, Backgrounds(None), None)
    assert len(staged.scene.people) == 4 and len(staged.scene.boxes) == 1 and not staged.scene.props
    ways = np.stack([person.pose.joints[:, 0, [0, 2]] for person in staged.scene.people])  # (people, T, 2) metres
    begins = np.sign(ways[:, 25, 0] - ways[:, 0, 0])
    assert begins.tolist() == [-1, 1, -1, 1]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    order = [np.sign(ways[i, :, 0] - ways[j, :, 0]) for i, j in pairs]
    assert sum(len(set(o.tolist()) - {0.0}) == 2 for o in order) >= 3
    # Nobody walks through anybody: they keep to depths of their own.
    assert min(np.linalg.norm(ways[i] - ways[j], axis=1).min() for i, j in pairs) > 0.15
    # The wall stands between the camera and everybody.
    wall = staged.scene.boxes[0].corners
    assert wall[:, 2].min() > ways[:, :, 1].max() and wall[:, 2].max() < staged.rigs["front"].at(0.0).position[2]


def test_recorded_motion_does_not_cross() -> None:
    with pytest.raises(UsageError, match="walk by the rules"):
        replace(OPTIONS, motion="tracks.npz").check()
