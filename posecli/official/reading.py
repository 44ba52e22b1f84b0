"""Tensors out of official ``.pth`` files, without running anything that such a file may hold."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from posecli.errors import PoseError

_HINT = "an official .pth or a posecli .safetensors is wanted"
_SHOWN = 20
#: Data parallel, princeton's trainer around that, and other trainers.
_WRAPPERS = ("model.module.", "module.", "model.")
#: Where training checkpoints keep the state dict.
_KEYS = ("state_dict", "model_state_dict", "model")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of an official ``.pth`` by name, without running anything that the file may hold.

    Understood: a bare state dict, or a training checkpoint with one under ``state_dict`` (or another of `_KEYS`);
    what all names begin with because the network was wrapped (``module.`` and the like, see `_WRAPPERS`) is removed.

    Raises:
        PoseError: the file is absent, empty, cut off, not a torch file, holds objects other than tensors and plain
            values, or holds no tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise PoseError("no such file" if not path.exists() else "not a file", str(path), _HINT)
    with open(path, "rb") as handle:
        start = handle.read(16)
    if not start:
        raise PoseError("the file is empty", str(path), "download it again")
    if start[:2] != b"PK" and start[:1] != b"\x80" and not _looks_like_tar(path):
        raise PoseError("not a PyTorch file", str(path), _HINT)
    if start[:2] == b"PK" and not zipfile.is_zipfile(path):
        raise PoseError("the file is cut off or damaged (no archive index at its end)", str(path), "download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old storage types; nothing a user can act on
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except Exception as error:
        # torch raises RuntimeError, EOFError, KeyError, ValueError, ... depending on where the damage lies.
        raise PoseError(
            f"the file is cut off or damaged ({first_line(error)})", str(path), "download it again"
        ) from None
    state = content if isinstance(content, Mapping) else None
    if isinstance(content, Mapping):
        state = next((content[key] for key in _KEYS if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping) or not any(isinstance(v, Tensor) for v in state.values()):
        raise PoseError("the file holds no state dict", str(path), _HINT)
    others = [str(name) for name, value in state.items() if not isinstance(value, Tensor)]
    if others:
        raise PoseError(f"not only tensors in the state dict: {listing(others)}", str(path), _HINT)
    tensors = {str(name): value for name, value in state.items()}
    for prefix in _WRAPPERS:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors


def _looks_like_tar(path: Path) -> bool:
    with open(path, "rb") as handle:  # the oldest torch files are tar archives
        handle.seek(257)
        return handle.read(5) == b"ustar"


def _refused(path: Path, error: Exception) -> PoseError:
    """An unpickling error is either code in the pickle or damage; the torch message tells which."""
    text = str(error)
    found = re.search(r"GLOBAL (\S+)|Unsupported class (\S+)|Unsupported global: (?:GLOBAL )?(\S+)", text)
    if found or ("weights_only" in text.lower() and "nsupported" in text):
        named = next((group for group in (found.groups() if found else ()) if group), "an object")
        return PoseError(
            f"refused: the pickle holds code or objects besides tensors ({named})",
            str(path),
            "only files of plain tensors are read; nothing in it was run",
        )
    return PoseError(f"the file is cut off or damaged ({first_line(error)})", str(path), "download it again")


def first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


def listing(names: Sequence[str]) -> str:
    """Names for a message; long lists are cut and the rest is counted."""
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest
