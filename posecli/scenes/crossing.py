"""People who walk past one another and behind a wall: what tells whether identities last."""

from __future__ import annotations

import numpy as np

from posecli.scenes.backdrop import Box, make_box
from posecli.scenes.body import CHANNELS, Build, C, Pose, pose_from_channels
from posecli.scenes.motion import ACTIONS

CROSSING_FIELD = np.array([[x, y, z] for x in (-3.2, 3.2) for y in (0.0, 1.8) for z in (-1.5, 0.5)])
"""(8, 3) metres: corners of the part of the world that the camera shows."""

_TURNS = 0.3  # share of people who turn round on their way
_PASSES = 0.6  # seconds around the middle of the scene in which people pass the middle of the field
_WALL = 0.5  # metres: with the bodies' own width it hides a walker for about a second


def crossing_walk(rng: np.random.Generator, build: Build, times: np.ndarray, number: int, count: int) -> Pose:
    """One of ``count`` people who walk across the field, every other one the other way, each at a depth of their own.

    Args:
        times: (T,) seconds.
        number: of the person, from 0.
    """
    way = 1.0 if number % 2 else -1.0
    values = ACTIONS["walk"](rng, times)
    channels = np.zeros((len(times), len(CHANNELS)))
    for name, value in values.items():
        channels[:, C[name]] = value
    heading = np.full(len(times), 90.0 * way + rng.normal(0, 6))
    middle = float(times[-1]) / 2
    if rng.random() < _TURNS:
        when = middle + rng.uniform(-1.5, 1.5)
        part = np.clip((times - when) / 0.9, 0, 1)
        heading += rng.choice([-180.0, 180.0]) * part * part * (3 - 2 * part)
    channels[:, C["yaw"]] = heading
    pose = pose_from_channels(build, channels)
    at = int(np.argmin(np.abs(times - middle - rng.uniform(-_PASSES, _PASSES))))
    # Depths are taken in turn, so that whoever goes one way has neighbours who come the other way.
    depth = -1.3 + 1.6 * (number + 0.5) / count + rng.normal(0, 0.05)
    spot = np.array([rng.normal(0, 0.5), 0.0, depth])
    joints = pose.joints + (spot - pose.joints[at, 0] * [1, 0, 1])
    return Pose(joints, pose.frames, ("cross",))


def crossing_wall(rng: np.random.Generator, picture: np.ndarray | None) -> Box:
    """A wall between the camera and the walkers, to one side of where they meet."""
    wall = make_box(rng, np.zeros(2), (_WALL, 2.2, 0.1), picture)
    bits = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)], float)
    side = rng.choice([-1.0, 1.0]) * rng.uniform(1.0, 1.5)
    corners = (bits - [0.5, 0, 0.5]) * (_WALL, 2.2, 0.1) + [side, 0.0, 1.0]
    return Box(corners, wall.texture)
