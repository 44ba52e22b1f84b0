"""Runs inside MediaPipe's own environment for `mediapipe.py`, which starts it: pictures in, landmarks out.

    python -I benchmarks/in_mediapipe.py JOBS.json OUT.jsonl

JOBS: ``{"complexity": 0|1|2, "confidence": least of its detector, "pictures": [{"file": path, "boxes": null or
[[x0, y0, x1, y1], ...]}]}``, or ``{"complexity", "confidence", "clip": path, "frames": n, "threads": n}``. Each box is
cut out and looked at by itself; null: the whole picture. OUT has a line a picture: ``{"people": [[[x, y, visibility],
...] or null, ...]}`` in pixels of the picture, centres on integers; for a clip one line ``{"frames", "wall", "cpu"}``,
seconds with the decoding, without loading the model. Only what that environment has is imported: nothing of posecli.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import mediapipe  # type: ignore[import-not-found,import-untyped,unused-ignore]
import numpy as np

Landmarks = list[list[float]] | None


def landmarks_of(pose: Any, image: np.ndarray, left: int = 0, top: int = 0) -> Landmarks:
    """The 33 landmarks of the person in an RGB picture (H, W, 3), moved by where it was cut out; None: nobody."""
    found = pose.process(np.ascontiguousarray(image)).pose_landmarks
    if found is None:
        return None
    height, width = image.shape[:2]
    return [[p.x * width - 0.5 + left, p.y * height - 0.5 + top, p.visibility] for p in found.landmark]


def look(pose: Any, picture: dict[str, Any]) -> list[Landmarks]:
    """Everybody in one picture of the jobs."""
    image = cv2.cvtColor(cv2.imread(picture["file"], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    if picture["boxes"] is None:
        return [landmarks_of(pose, image)]
    height, width = image.shape[:2]
    people = []
    for box in picture["boxes"]:
        x0, y0 = (max(0, int(np.floor(v))) for v in box[:2])
        x1, y1 = min(width, int(np.ceil(box[2])) + 1), min(height, int(np.ceil(box[3])) + 1)
        people.append(landmarks_of(pose, image[y0:y1, x0:x1], x0, y0) if min(x1 - x0, y1 - y0) > 1 else None)
    return people


def watch(pose: Any, clip: str, frames: int) -> dict[str, float]:
    """Time for the first frames of a clip, decoding included; the first one, which warms up, is not counted."""
    video = cv2.VideoCapture(clip)
    pose.process(cv2.cvtColor(video.read()[1], cv2.COLOR_BGR2RGB))
    wall, cpu, seen = time.perf_counter(), time.process_time(), 0
    for _ in itertools.repeat(None, frames):
        there, frame = video.read()
        if not there:
            break
        pose.process(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        seen += 1
    return {"frames": seen, "wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    cv2.setNumThreads(int(jobs.get("threads", 1)))
    still = "pictures" in jobs
    lines: Any
    with mediapipe.solutions.pose.Pose(
        static_image_mode=still, model_complexity=jobs["complexity"], min_detection_confidence=jobs["confidence"]
    ) as pose:
        lines = (
            ({"people": look(pose, picture)} for picture in jobs["pictures"])
            if still
            else [watch(pose, jobs["clip"], jobs["frames"])]
        )
        with open(sys.argv[2], "w", encoding="utf-8") as out:
            for line in lines:
                out.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
