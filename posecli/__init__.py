"""Human pose estimation in video: a command-line toolkit and the Python package behind it.

    model = posecli.load_model("default")              # or a .safetensors, or an official .pth
    people = model.predict([image])[0]                 # list of Instance for an RGB uint8 image
    for frame, people in posecli.infer("clip.mp4"):    # lazily, frame by frame
        shown = [person for person in people if person.person_score >= model.threshold]
    numbers = posecli.evaluate("coco.json", "clip.poses.jsonl")

Names are imported when first used, so that ``import posecli`` stays light. ``docs/python.md`` tells the rest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecli.drawing import Style, draw_instances
    from posecli.errors import PoseError, UsageError
    from posecli.infer_options import InferOptions
    from posecli.inference import PoseModel, load_model
    from posecli.metrics import evaluate
    from posecli.pipeline import infer
    from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
    from posecli.readout import PredictOptions
    from posecli.types import Crop, Dataset, Frame, Instance, Record, Skeleton
    from posecli.video import open_source

__version__ = "0.1.0"

_HOMES = {
    "PoseError": "posecli.errors",
    "UsageError": "posecli.errors",
    "PoseModel": "posecli.inference",
    "load_model": "posecli.inference",
    "PredictOptions": "posecli.readout",
    "infer": "posecli.pipeline",
    "InferOptions": "posecli.infer_options",
    "open_source": "posecli.video",
    "read_stream": "posecli.predictions",
    "StreamWriter": "posecli.predictions",
    "StreamHeader": "posecli.predictions",
    "FramePoses": "posecli.predictions",
    "draw_instances": "posecli.drawing",
    "Style": "posecli.drawing",
    "evaluate": "posecli.metrics",
    "Crop": "posecli.types",
    "Dataset": "posecli.types",
    "Frame": "posecli.types",
    "Instance": "posecli.types",
    "Record": "posecli.types",
    "Skeleton": "posecli.types",
}

__all__ = [
    "Crop", "Dataset", "Frame", "FramePoses", "InferOptions", "Instance", "PoseError", "PoseModel", "PredictOptions",
    "Record", "Skeleton", "StreamHeader", "StreamWriter", "Style", "UsageError", "__version__", "draw_instances",
    "evaluate", "infer", "load_model", "open_source", "read_stream",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'posecli' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
