"""A network as an ONNX file that other run-times take, checked against ours before it gets its name.

The graph is the bare network: normalised input to maps, no crop before and no decoding after it. What these need stands
in the file's metadata. The adaptive convolution of DEKR becomes `GridSample`, which ONNX has since version 16.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta
from posecli.errors import MissingExtra, PoseError, UsageError
from posecli.files import replace_when_done

#: The first version with bilinear `GridSample` of the form that run-times share is 16; 18 is what the exporter aims at.
OPSET = 18
#: Largest difference between ONNX Runtime's maps and ours, as a share of the largest value.
TOLERANCE = 1e-4
INPUT = "image"


@dataclass(frozen=True)
class Exported:
    """What was written: the file, its input (shape with None for the batch), the names and shapes of its outputs, and
    the largest difference from our own maps, as a share of their largest value."""

    path: Path
    input_shape: tuple[int | None, ...]
    outputs: dict[str, tuple[int | None, ...]]
    difference: float


class _Plain(nn.Module):
    """The network with a plain tuple for its named one."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.network(image))


def export_onnx(network: nn.Module, meta: ModelMeta, path: str | Path, *, overwrite: bool = False) -> Exported:
    """Writes a network as ONNX: input "image" (N, 3, h, w) float32, any N; outputs named as the maps are.

    Metadata (strings): "skeleton", "keypoints", "input_size" ([width, height]), "mean", "std" (per channel, of values
    in [0, 1]), "channels" ("rgb" or "bgr", the order that the network takes), "codec", and "posecli" with the whole
    description as posecli's own weights carry it. Lists and objects are JSON.

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not there.
        UsageError: the name does not end in ``.onnx``.
        PoseError: the file exists, the network cannot be expressed in ONNX, or ONNX Runtime's maps differ from ours.
    """
    path = Path(path)
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtra(package, "export", "writing ONNX files")
    if path.suffix != ".onnx":
        raise UsageError(f"{path.name} is no name of an ONNX file", hint="end it in .onnx")
    import onnx

    network = network.eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    channels = 4 if getattr(network, "last_pose", False) else 3
    shape = (channels, meta.input_size[1], meta.input_size[0])
    generator = torch.Generator().manual_seed(0)
    # Two pictures: the exporter takes a batch of one for a constant.
    example = torch.randn((2, *shape), generator=generator)
    with torch.no_grad():
        output = network(example)
    names = list(output._fields)
    with replace_when_done(path, overwrite=overwrite) as part:
        with _quiet():
            try:
                torch.onnx.export(
                    _Plain(network),
                    (example,),
                    part,
                    input_names=[INPUT],
                    output_names=names,
                    opset_version=OPSET,
                    dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                    dynamo=True,
                    external_data=False,
                )
            except Exception as error:  # the exporter raises many kinds
                reason = str(error).strip().splitlines()
                raise PoseError(
                    f"{meta.architecture} cannot be written as ONNX: {reason[0] if reason else type(error).__name__}",
                    str(path),
                ) from error
        model = onnx.load(str(part))
        del model.metadata_props[:]
        for key, value in _metadata(meta).items():
            entry = model.metadata_props.add()
            entry.key, entry.value = key, value
        onnx.checker.check_model(model)
        onnx.save(model, str(part))
        difference = _difference(part, network, example, names)
        if not difference <= TOLERANCE:
            raise PoseError(
                f"ONNX Runtime's maps differ from ours by {difference:.2g} of their largest value", str(path)
            )
    outputs = {name: (None, *value.shape[1:]) for name, value in zip(names, output, strict=True)}
    return Exported(path, (None, *shape), outputs, difference)


def _metadata(meta: ModelMeta) -> dict[str, str]:
    return {
        "skeleton": meta.skeleton.name,
        "keypoints": json.dumps(list(meta.skeleton.keypoints)),
        "input_size": json.dumps(list(meta.input_size)),
        "mean": json.dumps(list(meta.mean)),
        "std": json.dumps(list(meta.std)),
        "channels": str(meta.extra.get("channels", "rgb")),
        "codec": meta.codec,
        "posecli": json.dumps(meta.to_json()),
    }


def _difference(path: Path, network: nn.Module, example: Tensor, names: list[str]) -> float:
    """The largest difference over all outputs, of a batch of one and of several, as a share of the largest value."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for batch in (example[:1], torch.cat([example, example[:1] * 0.5])):
        with torch.no_grad():
            ours = [value.numpy() for value in network(batch)]
        theirs = session.run(names, {INPUT: batch.numpy()})
        for mine, other in zip(ours, theirs, strict=True):
            if mine.shape != other.shape:
                raise PoseError(f"ONNX Runtime gives maps of shape {other.shape}, we {mine.shape}", str(path))
            largest = max(float(np.abs(mine).max()), 1e-12)
            worst = max(worst, float(np.abs(mine - other).max()) / largest)
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter tells of each of its steps, on stdout too."""
    loggers: list[Any] = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
