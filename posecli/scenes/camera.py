"""Pinhole cameras: where a 3D point falls in the picture, and how a held camera moves.

World: metres, y up. Camera: x right, y down, z forward (the depth). Picture: pixels, centres on integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VIEWS = {"front": 0.0, "oblique": 40.0, "side": 90.0, "back": 180.0, "left": -90.0}
"""Camera names and their azimuth around the scene, degrees: 0 sees a person of yaw 0 from the front, 90 its left."""


@dataclass(frozen=True)
class Camera:
    """One camera at one time.

    Attributes:
        rotation: (3, 3), world to camera.
        position: (3,) metres in the world.
        focal: pixels.
        centre: (2,) principal point in pixels.
    """

    rotation: np.ndarray
    position: np.ndarray
    focal: float
    centre: tuple[float, float]

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """World points (..., 3) in camera coordinates (..., 3)."""
        return (points - self.position) @ self.rotation.T

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World points (..., 3) to pixels (..., 2) and depths (...); points behind the camera become NaN."""
        local = self.to_camera(points)
        depth = local[..., 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            xy = self.focal * local[..., :2] / depth[..., None] + np.array(self.centre)
        xy[depth <= 0.05] = np.nan
        return xy, depth


def look_at(
    target: np.ndarray, azimuth: float, elevation: float, distance: float, roll: float, focal: float,
    centre: tuple[float, float],
) -> Camera:  # fmt: skip
    """A camera ``distance`` metres from ``target`` at ``azimuth`` and ``elevation`` (degrees), turned by ``roll``."""
    a, e, r = np.deg2rad([azimuth, elevation, roll])
    back = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
    right = np.array([np.cos(a), 0.0, -np.sin(a)])
    down = np.cross(-back, right)
    rotation = np.stack([right, down, -back])
    c, s = np.cos(r), np.sin(r)
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ rotation
    return Camera(rotation, np.asarray(target, float) + distance * back, float(focal), centre)


@dataclass(frozen=True)
class Rig:
    """A camera over time: a fixed view of the scene, and the movements of the hand that holds it.

    Attributes:
        target: (3,) what it looks at.
        azimuth, elevation, distance, roll: the view, degrees and metres.
        focal: pixels.
        size_wh: picture size.
        motion: 0 on a tripod; 1 a lively hand (a few degrees, slow, plus shake and drift).
        waves: (6, 2, 3) hertz, phase, weight of each movement's waves.
        drift: (3,) azimuth degrees/s, target metres/s sideways, zoom 1/s.
    """

    target: np.ndarray
    azimuth: float
    elevation: float
    distance: float
    roll: float
    focal: float
    size_wh: tuple[int, int]
    motion: float
    waves: np.ndarray
    drift: np.ndarray

    def at(self, time: float) -> Camera:
        """The camera at a time in seconds."""
        wave = self.waves
        move = (np.sin(2 * np.pi * wave[:, :, 0] * time + wave[:, :, 1]) * wave[:, :, 2]).sum(1) * self.motion
        drift = self.drift * time * self.motion
        target = self.target + np.array([0.06 * move[0] + drift[1], 0.04 * move[1], 0.0])
        w, h = self.size_wh
        return look_at(
            target,
            self.azimuth + 0.8 * move[2] + drift[0],
            self.elevation + 0.5 * move[3],
            self.distance,
            self.roll + 0.7 * move[4],
            self.focal * float(np.exp(0.02 * move[5] + drift[2])),
            ((w - 1) / 2, (h - 1) / 2),
        )


def sample_rig(
    rng: np.random.Generator, target: np.ndarray, azimuth: float, elevation: float, distance: float, roll: float,
    focal: float, size_wh: tuple[int, int], motion: float,
) -> Rig:  # fmt: skip
    """A rig with random movements of strength ``motion``."""
    waves = np.stack(
        [
            np.stack([rng.uniform(0.1, 0.4, 6), rng.uniform(1.0, 3.0, 6)], 1),
            rng.uniform(0, 6.28, (6, 2)),
            np.stack([rng.normal(0, 1.0, 6), rng.normal(0, 0.2, 6)], 1),
        ],
        axis=-1,
    )
    drift = rng.normal(0, 1, 3) * np.array([1.2, 0.03, 0.01])
    return Rig(np.asarray(target, float), azimuth, elevation, distance, roll, focal, size_wh, motion, waves, drift)
