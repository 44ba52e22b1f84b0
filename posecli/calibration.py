"""Weights made ready for int8: the ranges of their networks' maps, seen on sample pictures and kept in the file.

`posecli export --format int8` is the verb; `models.int8` says what the ranges are for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from posecli.checkpoint import lossless, save_model
from posecli.errors import PoseError
from posecli.inference import PoseModel


def calibrate(model: PoseModel, images: Iterable[np.ndarray]) -> int:
    """Looks for people in pictures and keeps the ranges of the maps, of the model's network and of its own finder's, in
    their descriptions (``meta.extra["ranges"]``); returns the number of pictures.

    Args:
        model: on a CPU.
        images: RGB uint8 (H, W, 3), a few dozen of the kind that the model is meant for, people in most of them.

    Raises:
        PoseError: no picture, nobody found in any, or a network that can't compute in int8.
    """
    count = 0
    with contextlib.ExitStack() as stack:
        for part in (model, model.finder):
            if part is not None:
                stack.enter_context(part.calibrated())
        for image in images:
            people = model.predict([image])[0]
            if model.last_pose:  # as in the next frame of a video
                model.look([image], [[person.changed(track_id=n) for n, person in enumerate(people)]])
            count += 1
        if not count:
            raise PoseError("no sample pictures", model.name, "give some dozens of pictures or a video")
    return count


def write_calibrated(model: PoseModel, path: str | Path) -> None:
    """Writes the networks of a model, ranges and all, as a weights file; in as few bits as lose nothing."""
    finder = model.finder
    states = [model.network.state_dict(), *([] if finder is None else [finder.network.state_dict()])]
    dtype, eight_bits = lossless([value for state in states for value in state.values()])
    save_model(
        path,
        model.network,
        model.meta,
        dtype=dtype,
        eight_bits=eight_bits,
        finder=None if finder is None else (finder.network, finder.meta),
    )
