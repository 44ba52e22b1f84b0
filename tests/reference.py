"""Reading the reference cases of ../shared."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch


def fill_module(shared: Path) -> Any:
    """The shared module that makes deterministic parameters."""
    spec = importlib.util.spec_from_file_location("fill", shared / "reference" / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_case(shared: Path, name: str) -> dict[str, Any]:
    """A model case: manifest, parameters, input and golden outputs."""
    return fill_module(shared).load_case(str(shared / "reference" / name))


def load_post(shared: Path, name: str) -> dict[str, np.ndarray]:
    """The arrays of one file of `reference/post`."""
    with np.load(shared / "reference" / "post" / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Arrays as tensors of the same names."""
    return {name: torch.from_numpy(np.asarray(value)) for name, value in arrays.items()}
