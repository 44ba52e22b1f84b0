"""Videos of a person made of coloured dots that moves in a straight line, as frames on disk with COCO labels."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from learning import COLOURS, NAMES, SHAPE


def make_clips(
    folder: Path, count: int = 2, frames: int = 8, hidden_from: int | None = None, speed: float = 3.0, fps: float = 25.0
) -> Path:
    """Writes ``count`` videos of ``frames`` pictures 112 x 112; from frame ``hidden_from`` on nothing is drawn, while
    the labels go on. Returns the COCO file, with ``videos`` and identities.

    With ``hidden_from`` all videos have the same ground: a picture without dots must not say which video it is of,
    or a network learns by heart where its dots would be.
    """
    rng = np.random.default_rng(0)
    everywhere = np.random.default_rng(1).integers(0, 60, (112, 112, 3)).astype(np.uint8)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images, annotations, videos = [], [], []
    for v in range(count):
        videos.append(
            {"id": v + 1, "name": f"v{v}", "file_name": f"v{v}.mp4", "width": 112, "height": 112, "fps": fps,
             "num_frames": frames}
        )  # fmt: skip
        ground = rng.integers(0, 60, (112, 112, 3)).astype(np.uint8)
        if hidden_from is not None:
            ground = everywhere
        reach = 7 if hidden_from is None else 15
        shape, middle = SHAPE + rng.uniform(-5, 5, SHAPE.shape), rng.uniform(55 - reach, 55 + reach, 2)
        angle = rng.uniform(0, 2 * np.pi)
        for t in range(frames):
            picture = ground.copy()
            xy = middle + shape + speed * (t - frames / 2) * np.array([np.cos(angle), np.sin(angle)])
            if hidden_from is None or t < hidden_from:
                for point, colour in zip(xy, COLOURS, strict=True):
                    cv2.circle(picture, tuple(int(n) for n in np.round(point)), 4, colour, -1)
            number = len(images) + 1
            cv2.imwrite(str(folder / f"images/{v}_{t}.png"), picture[..., ::-1])
            images.append(
                {"id": number, "file_name": f"images/{v}_{t}.png", "width": 112, "height": 112, "video_id": v + 1,
                 "frame_id": t}
            )  # fmt: skip
            low, high = xy.min(0) - 6, xy.max(0) + 6
            annotations.append(
                {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "bbox": [*low, *(high - low)],
                 "area": 900.0, "track_id": 1, "num_keypoints": 5,
                 "keypoints": np.column_stack([xy, np.full(5, 2)]).ravel().tolist()}
            )  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
    path = folder / "coco.json"
    path.write_text(
        json.dumps({"images": images, "annotations": annotations, "videos": videos, "categories": [category]})
    )
    return path
