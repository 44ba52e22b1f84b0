"""Sample files for the examples of docs/formats.md, built afresh for each section: nothing is downloaded or copied."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from posecli.formats import coco
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17, Skeleton
from posecli.types import Dataset, Instance, Record

# Section (the first name in its heading) to what fills the folder its commands run in.
SAMPLES: dict[str, Callable[[Path], None]] = {}


def sample(*sections: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    """Registers a builder for sections of docs/formats.md."""

    def register(build: Callable[[Path], None]) -> Callable[[Path], None]:
        for section in sections:
            assert section not in SAMPLES, section
            SAMPLES[section] = build
        return build

    return register


def picture(path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """A grey picture file."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0], 3), 120, np.uint8))
    return path


def video(path: Path, frames: int = 8, size: tuple[int, int] = (64, 48)) -> Path:
    """A short grey H.264 video at 25 frames/s."""
    from posecli.video import VideoWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, *size, 25.0) as writer:
        for t in range(frames):
            writer.write(np.full((size[1], size[0], 3), 60 + t, np.uint8), t / 25)
    return path


def person(skeleton: Skeleton = COCO17, first: float = 5.0) -> Instance:
    """Somebody with all joints, visible, at (first + j, first + j / 2)."""
    j = np.arange(skeleton.num_keypoints)
    xy = np.stack([first + j, first + j / 2], 1)
    return Instance(xy, np.full(len(j), 2), np.ones(len(j), np.float32), box_xyxy=np.array([4.0, 4, 40, 40]))


@sample("to-skeleton", "coco", "coco_results", "stream", "csv", "parquet", "openpose")
def coco_and_stream(folder: Path) -> None:
    """``coco.json`` with two pictures, ``clip.mp4`` with ``clip.poses.jsonl``, ``skeleton.toml``."""
    records = []
    for n in (1, 2):
        picture(folder / f"images/{n}.jpg")
        records.append(Record(n, f"{n}.jpg", 64, 48, (person(),) if n == 1 else ()))
    coco.write(Dataset(COCO17, tuple(records), (), str(folder / "images")), folder / "coco.json")
    video(folder / "clip.mp4")
    with StreamWriter(folder / "clip.poses.jsonl") as writer:
        writer.header(StreamHeader("clip.mp4", COCO17, 64, 48, 25.0, threshold=0.3))
        for frame in range(8):
            one = person(first=5.0 + frame)
            writer.frame(FramePoses(frame, (Instance(one.xy, one.visibility, one.score * 0.75, 0.8),), frame / 25))
    (folder / "skeleton.toml").write_text('name = "mine"\nkeypoints = ["pelvis", "neck", "nose"]\n')


@sample("mars")
def videos_with_labels(folder: Path) -> None:
    """``mars/`` with two videos and labels beside them."""
    for name in ("walk", "run"):
        video(folder / f"mars/{name}.mp4")
        frames = [{"frame": 2, "persons": [{"keypoints": [[10, 11, 2], [20, 21, 1]]}]}]
        value = {"frames": frames, "keypoints": ["left_wrist", "right_wrist"]}
        (folder / f"mars/{name}.json").write_text(json.dumps(value))
