"""Human pose estimation in video: a command-line toolkit and the Python package behind it.

    model = posecli.load_model("default")              # or a .safetensors, or an official .pth
    people = model.predict([image])                    # list[list[Instance]] for RGB uint8 images
    for frame, persons in posecli.infer("clip.mp4"):   # lazily, frame by frame
        ...
    numbers = posecli.evaluate("coco.json", "clip.poses.jsonl")

Names are imported when first used, so that ``import posecli`` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecli.errors import PoseError
    from posecli.inference import PoseModel, load_model
    from posecli.metrics import evaluate
    from posecli.pipeline import infer
    from posecli.types import Crop, Dataset, Frame, Instance, Record, Skeleton

__version__ = "0.1.0"

_HOMES = {
    "PoseError": "posecli.errors",
    "PoseModel": "posecli.inference",
    "load_model": "posecli.inference",
    "infer": "posecli.pipeline",
    "evaluate": "posecli.metrics",
    "Crop": "posecli.types",
    "Dataset": "posecli.types",
    "Frame": "posecli.types",
    "Instance": "posecli.types",
    "Record": "posecli.types",
    "Skeleton": "posecli.types",
}

__all__ = [
    "Crop", "Dataset", "Frame", "Instance", "PoseError", "PoseModel", "Record", "Skeleton",
    "__version__", "evaluate", "infer", "load_model",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'posecli' has no attribute {name!r}")
