"""A few pictures of coloured dots to learn by heart, and a network that does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from posecli.checkpoint import ModelMeta, build
from posecli.data import collate, make_source
from posecli.distributed import Processes
from posecli.formats import coco
from posecli.inference import PoseModel
from posecli.learner import Learner
from posecli.settings import resolve
from posecli.tasks import make_task
from posecli.video import read_picture

NAMES = ["nose", "left_shoulder", "right_shoulder", "left_hip", "right_hip"]
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
SHAPE = np.array([[0, -24], [14, -12], [-14, -12], [11, 18], [-11, 18]])
#: As far apart as the left shoulder and the right hip.
TORSO = float(np.hypot(*(SHAPE[1] - SHAPE[4])))
#: Nothing is changed at random.
STILL = {
    "box_scale": [1.25, 1.25], "val_box_scale": 1.25, "rotation": 0.0, "rotation_any": 0.0, "flip": 0.0, "shift": 0.0,
    "half_body": 0.0, "colour": 0.0, "grey": 0.0, "blur": 0.0, "noise": 0.0, "occlude": 0.0, "paste": 0.0,
    "min_side": 0.0, "min_joints": 1, "workers": 0, "schedule": "constant", "warmup": 0, "weight_decay": 0.0,
    "ema": 0.0, "input_size": [128, 128],
}  # fmt: skip


def make_people(folder: Path, count: int = 8) -> Path:
    """Pictures of one person each, posed a little differently; returns the COCO file."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(count):
        picture = rng.integers(0, 60, (112, 112, 3)).astype(np.uint8)
        xy = rng.uniform(44, 68, 2) + SHAPE + rng.uniform(-5, 5, SHAPE.shape)
        for point, colour in zip(xy, COLOURS, strict=True):
            cv2.circle(picture, tuple(int(v) for v in np.round(point)), 4, colour, -1)
        cv2.imwrite(str(folder / f"images/{i}.png"), picture[..., ::-1])
        images.append({"id": i + 1, "file_name": f"images/{i}.png", "width": 112, "height": 112})
        low, high = xy.min(0) - 6, xy.max(0) + 6
        box = [*low, *(high - low)]
        labels = np.column_stack([xy, np.full(5, 2)]).ravel().tolist()
        person = {"id": i + 1, "image_id": i + 1, "category_id": 1, "iscrowd": 0, "bbox": box, "area": 900.0}
        annotations.append({**person, "keypoints": labels, "num_keypoints": 5})
    category = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}
    path = folder / "coco.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


class Pupil:
    """A network, its task and one batch of all pictures of a data set, unchanged.

    Args:
        data: COCO file. model: architecture. device: where it learns. settings: over `STILL` and the model's defaults.
    """

    def __init__(self, data: Path, model: str, *, device: str = "cpu", **settings: Any) -> None:
        self.dataset = coco.read(data)
        self.settings = resolve({"model": model, "data": [str(data)]}, STILL, settings)
        skeleton = self.dataset.skeleton
        self.task = make_task(self.settings, [make_source(self.dataset, skeleton, "people")], skeleton)
        torch.manual_seed(0)
        arguments = {"keypoints": skeleton.num_keypoints, **self.settings.builder_arguments()}
        self.meta: ModelMeta = self.task.meta(model, arguments)
        on = torch.device(device)
        self.learner = Learner(build(self.meta), self.task, self.meta, self.settings, Processes(), on)
        self._rng = np.random.default_rng(0)
        self.batch = self._sampled()

    def _sampled(self) -> dict[str, torch.Tensor]:
        size = self.settings.input_size
        batch = collate([self.task.sample(0, i, self._rng, size) for i in range(self.task.counts[0])])
        assert isinstance(batch, dict)
        return batch

    def begin(self, progress: float) -> None:
        """As the training loop does before a step at this share of the run."""
        self.task.begin_step(self.learner.network, progress)
        if self.task.unsurveyed(self.learner.network):
            self.learner.survey([self.batch])
        if "noise" in self.batch:  # drawn anew for each step, other than the pictures
            self.batch = self._sampled()

    def step(self, rate: float) -> float:
        """One step on all pictures; the loss before it."""
        terms = self.learner.learn([self.batch], rate).terms()
        return float((terms * torch.tensor(list(self.task.terms.values()), dtype=terms.dtype)).sum())

    def pck(self, share: float) -> float:
        """Share of joints found within a share of the torso, predicted as `posecli infer` does: in the true boxes, or,
        by models that find people themselves, of the first one found."""
        model = PoseModel(self.learner.network, self.meta, device="cpu", speed="plain")
        right = []
        for record in self.dataset.records:
            (person,) = record.instances
            image = read_picture(Path(self.dataset.root) / record.file_name)
            boxes = [np.asarray(person.box_xyxy)[None]] if model.top_down else None
            (people,) = model.predict([image], boxes)
            found = people[0].xy if people else np.full_like(person.xy, np.inf)
            right += (np.hypot(*(found - person.xy).T) <= share * TORSO).tolist()
        self.learner.network.train()
        return float(np.mean(right))

    def learn_by_heart(self, rate: float, steps: int, every: int = 25, share: float = 0.1) -> float:
        """Steps until every joint is right, or all of them; the PCK reached."""
        found = 0.0
        for step in range(1, steps + 1):
            self.begin(step / steps)
            # The last third at a tenth: running statistics of norms settle.
            self.step(rate if self.task.within(step / steps) < 2 / 3 else rate / 10)
            if step % every == 0 or step == steps:
                found = self.pck(share)
                if found == 1.0:
                    break
        return found
