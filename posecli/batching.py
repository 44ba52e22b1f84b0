"""How many pictures go through a model together, where the memory decides (`infer --batch auto`)."""

from __future__ import annotations

import numpy as np

from posecli.inference import PoseModel
from posecli.on_device.memory import Fit, fitting_batch

#: People of a crowded picture, for the memory it takes.
_CROWD = 20


def fit_batch(model: PoseModel, width: int, height: int) -> Fit | None:
    """How many pictures of a size go through a model together by the memory there is (`on_device.memory`).

    Made-up pictures go through it; of a top-down model with a finder those of a crowd of twenty. None where memory
    cannot be measured.
    """
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    crowd = np.tile([[width * 0.3, height * 0.1, width * 0.5, height * 0.9]], (_CROWD, 1))

    def run(count: int) -> None:
        if not model.top_down:
            model.predict([image] * count, still=False)
            return
        model.find([image] * count)
        for start in range(0, count * _CROWD, model.options.batch):
            some = min(model.options.batch, count * _CROWD - start)
            model.predict([image], [np.resize(crowd, (some, 4))], still=False)

    return fitting_batch(run, model.device, frame_bytes=image.size)
