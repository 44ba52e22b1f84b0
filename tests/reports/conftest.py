"""A small labelled set with pictures, one video and odd names; two predictions of known errors; a browser."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17
from posecli.types import Instance
from posecli.video import VideoWriter

# A name that is markup, leaves an attribute, breaks a line and holds a byte that is no UTF-8.
ODD_NAME = os.fsdecode(b"odd \"'><script>alert(1)<!--\n\xff$x$.jpg")
ODD_SHOWN = "odd \"'><script>alert(1)<!--\\n\\xff$x$.jpg"
SIZE = (320, 240)
VOID = {"meta", "br", "img", "input", "link", "hr"}


def pose(x: float, y: float, height: float) -> np.ndarray:
    """(17, 2) somebody standing, head at (x, y)."""
    place = """0 0 .02 -.02 -.02 -.02 .05 0 -.05 0 .12 .15 -.12 .15 .17 .32 -.17 .32 .18 .48 -.18 .48 .08 .5 -.08 .5
    .09 .74 -.09 .74 .09 .97 -.09 .97"""
    return np.array([float(v) for v in place.split()]).reshape(17, 2) * height + (x, y)


@dataclass(frozen=True)
class Sample:
    """Files of the sample; ``xy`` are the labelled joints by image id."""

    gt: Path
    pred: Path
    worse: Path
    xy: dict[int, np.ndarray]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Four pictures (ids 1 to 4; 1 has the odd name, 4 nobody) and a video of 6 frames, ids 11 to 16, tag ``front``.

    The first prediction is exact on picture 1, 6 pixels off on 2, misses 3, sees somebody false on 4, and is off by the
    frame's number in pixels on the video; the second is 8 pixels off everywhere.
    """
    folder = tmp_path_factory.mktemp("sample")
    (folder / "pictures").mkdir()
    random = np.random.default_rng(3)
    names = {1: f"pictures/{ODD_NAME}", 2: "pictures/two.jpg", 3: "pictures/three.png", 4: "pictures/four.jpg"}
    for number, name in names.items():
        image = np.full((SIZE[1], SIZE[0], 3), 40 * number, np.uint8)
        image[60:180, 60:260] = random.integers(0, 255, (120, 200, 3))
        done, data = cv2.imencode(Path(name).suffix, image)
        assert done
        (folder / name).write_bytes(data.tobytes())
    with VideoWriter(folder / "walk.mp4", *SIZE, 25.0) as writer:
        for n in range(6):
            writer.write(np.full((SIZE[1], SIZE[0], 3), 30 * n + 40, np.uint8), n / 25)
    images = [{"id": i, "file_name": n, "width": SIZE[0], "height": SIZE[1]} for i, n in names.items()]
    images += [
        {"id": 11 + n, "file_name": "walk.mp4", "width": SIZE[0], "height": SIZE[1], "video_id": 1, "frame_id": n}
        for n in range(6)
    ]
    xy = {i: pose(80 + 30 * (i % 4), 30, 180) for i in (1, 2, 3, 11, 12, 13, 14, 15, 16)}
    annotations = []
    for number, (image_id, points) in enumerate(xy.items(), start=1):
        low, high = points.min(axis=0), points.max(axis=0)
        flat = np.hstack([points, np.full((17, 1), 2)]).ravel().tolist()
        annotations.append(
            {"id": number, "image_id": image_id, "category_id": 1, "keypoints": flat, "num_keypoints": 17, "iscrowd": 0}
            | {"bbox": [*low.tolist(), *(high - low).tolist()], "area": 9000.0}
        )
    video = {"id": 1, "name": "walk", "file_name": "walk.mp4", "width": SIZE[0], "height": SIZE[1], "fps": 25.0}
    videos = [video | {"num_frames": 6, "tags": ["front"]}]
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    category["skeleton"] = [[a + 1, b + 1] for a, b in COCO17.edges]
    gt = folder / "coco.json"
    gt.write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category], "videos": videos})
    )

    def person(points: np.ndarray, score: float, heat: float | None = None) -> Instance:
        return Instance(points, np.full(17, 2), np.ones(17), person_score=score, heat=heat)

    false = pose(250, 40, 120)
    exact = {1: [(xy[1], 0.9)], 2: [(xy[2] + (6, 0), 0.8), (false, 0.1)], 3: [], 4: [(false, 0.7)]}
    shifted = {i: [(xy[i] + (0, 8), 0.5)] for i in (1, 2, 3)} | {4: []}
    pred, worse = folder / "poses.jsonl", folder / "worse.jsonl"
    for path, people, step in ((pred, exact, 1), (worse, shifted, 0)):
        with StreamWriter(path) as stream:
            stream.header(StreamHeader("pictures", COCO17, threshold=0.3, model="test"))
            for n, (image_id, name) in enumerate(names.items()):
                found = tuple(person(points, score, 0.5) for points, score in people[image_id])
                stream.frame(FramePoses(n, found, file=Path(name).name, width=SIZE[0], height=SIZE[1]))
            stream.header(StreamHeader("walk.mp4", COCO17, *SIZE, fps=25.0, threshold=0.3))
            for n in range(6):
                off = (float(n), 0.0) if step else (0.0, 8.0)
                stream.frame(FramePoses(n, (person(xy[11 + n] + off, 0.6, 0.6 - 0.05 * n),), time=n / 25))
    return Sample(gt, pred, worse, xy)


class Page(HTMLParser):
    """What a page holds: its elements, whether they close as they open, its text without styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "script" in self.open:
            self.scripts.append(data)
        elif "style" not in self.open:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        """The words with single spaces between."""
        return " ".join(" ".join(self.words).split())

    def check_loads_nothing(self) -> None:
        """Nothing on the page refers to anything but itself, and its policy forbids it."""
        for _, attributes in self.elements:
            for key in ("src", "href", "action", "data", "poster", "srcset"):
                value = attributes.get(key) or "#"
                assert value.startswith(("#", "data:image/jpeg;base64,"))
        policy = next(a["content"] for a in self.named("meta") if a.get("http-equiv") == "Content-Security-Policy")
        assert policy is not None and policy.startswith("default-src 'none'")


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A headless Chromium; tests that need it skip where there is none."""
    from reports.browser import Browser, find

    if find() is None:
        pytest.skip("no Chromium here")
    with Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened
