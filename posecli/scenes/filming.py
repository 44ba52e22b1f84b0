"""What every generated video is asked for, whoever acts in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from posecli.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Filming:
    """How many videos, of what, how filmed. The same values give the same pixels before encoding.

    Attributes:
        seed, count: first decides everything together with the number of the video.
        people: (least, most) in a video.
        frames, fps, size_wh: of each video.
        split: which share of the material, ``"train"``, ``"test"``, ``"all"`` and what else the maker knows.
        backgrounds: ``"procedural"``, or a folder of pictures.
        occluders: mean number of things between camera and people.
        blur: exposure as a part of the time between frames, 0..1.
        noise: sensor noise in grey levels.
        light: a kind of light that the maker knows.
        camera_motion: 0 a tripod, 1 a lively hand.
        compression: x264's constant rate factor (lower is better).
    """

    seed: int = 0
    count: int = 2
    people: tuple[int, int] = (1, 3)
    frames: int = 60
    size_wh: tuple[int, int] = (320, 240)
    fps: float = 30.0
    split: str = "train"
    backgrounds: str = "procedural"
    occluders: float = 0.7
    blur: float = 0.4
    noise: float = 3.0
    light: str = "random"
    camera_motion: float = 0.5
    compression: int = 20

    def check_filming(
        self,
        *,
        people: tuple[int, int],
        least_frames: int,
        largest: int,
        fastest: float,
        lights: Collection[str],
        splits: Collection[str],
    ) -> None:
        """UsageError on values that make no sense, or are beyond what this maker of videos can do."""
        w, h = self.size_wh
        least, most = self.people
        wanted = {
            "--people": (people[0] <= least <= most <= people[1], f"{people[0]} to {people[1]}, as N or LEAST-MOST"),
            "--frames": (self.frames >= least_frames, f"{least_frames} or more"),
            "--count": (self.count >= 1, "1 or more"),
            "--size": (32 <= w <= largest and 32 <= h <= largest, f"32x32 to {largest}x{largest}"),
            "--fps": (1 <= self.fps <= fastest, f"1 to {fastest:g}"),
            "--blur": (0 <= self.blur <= 1, "0 to 1"),
            "--noise": (0 <= self.noise <= 100, "0 to 100"),
            "--occluders": (0 <= self.occluders <= 20, "0 to 20"),
            "--camera-motion": (0 <= self.camera_motion <= 3, "0 to 3"),
            "--compression": (0 <= self.compression <= 51, "0 to 51"),
            "--seed": (self.seed >= 0, "0 or more"),
        }
        for option, (right, range_) in wanted.items():
            if not right:
                raise UsageError(f"{option} is out of range", hint=range_)
        for what, value, known in (("light", self.light, lights), ("split", self.split, splits)):
            if value not in known:
                raise UsageError(f"unknown {what} {value!r}", hint=f"one of {', '.join(known)}")
