"""Scene generator: labelled videos of articulated people, rendered from 3D.

`generate` writes a folder of videos and labels; `render_frame` samples one labelled picture for training.
Reading order: ``body`` (bones), ``motion`` and ``penn`` (how they move), ``wardrobe`` (what is seen of a person),
``camera``, ``raster`` (pixels), ``backdrop`` (what stands behind and in front), ``scene`` (all together, with labels),
``folder`` (files).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecli.scenes.backdrop import Backgrounds
    from posecli.scenes.folder import SceneOptions, generate
    from posecli.scenes.sample import FrameStyle, render_frame

_HOMES = {
    "Backgrounds": "posecli.scenes.backdrop",
    "FrameStyle": "posecli.scenes.sample",
    "SceneOptions": "posecli.scenes.folder",
    "generate": "posecli.scenes.folder",
    "render_frame": "posecli.scenes.sample",
}

__all__ = ["Backgrounds", "FrameStyle", "SceneOptions", "generate", "render_frame"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'posecli.scenes' has no attribute {name!r}")
