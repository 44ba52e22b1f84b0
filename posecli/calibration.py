"""Weights made ready for int8: the ranges of their networks' maps, seen on sample pictures and kept in the file.

`posecli export --format int8` is the verb; `models.int8` says what the ranges are for.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from posecli.checkpoint import save_model
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
            model.predict([image])
            count += 1
        if not count:
            raise PoseError("no sample pictures", model.name, "give some dozens of pictures or a video")
    return count


def write_calibrated(model: PoseModel, path: str | Path) -> None:
    """Writes the networks of a model, ranges and all, as a weights file; in bfloat16 where that loses nothing."""
    finder = model.finder
    networks = [model.network, *([] if finder is None else [finder.network])]
    short = all(_is_short(network) for network in networks)
    save_model(
        path,
        model.network,
        model.meta,
        dtype=torch.bfloat16 if short else None,
        finder=None if finder is None else (finder.network, finder.meta),
    )


def _is_short(network: nn.Module) -> bool:
    values = (v for v in network.state_dict().values() if v.is_floating_point())
    return all(torch.equal(v, v.bfloat16().to(v.dtype)) for v in values)
