"""Two drawings of one frame in one picture: next to each other, or one half of each."""

from __future__ import annotations

import cv2
import numpy as np

from posecli.errors import UsageError

LAYOUTS = ("side", "split")
_DARK, _LIGHT = (24, 26, 31), (250, 250, 250)


def joined(first: np.ndarray, second: np.ndarray, layout: str, names: tuple[str, str]) -> np.ndarray:
    """Two pictures (H, W, 3) uint8 as one.

    Args:
        layout: ``side``: (H, 2 W, 3), the first on the left; ``split``: (H, W, 3), the left half of the first and the
            right half of the second, with a line between them.
        names: written at the top of each.
    """
    if layout not in LAYOUTS:
        raise UsageError(f"unknown layout {layout!r}", hint=f"one of {', '.join(LAYOUTS)}")
    width = first.shape[1]
    if layout == "side":
        picture = np.hstack([first, second])
        middle, right = width, 2 * width
    else:
        picture = first.copy()
        middle, right = width // 2, width
        picture[:, middle:] = second[:, middle:]
    line = max(1, round(width / 640))
    picture[:, max(middle - line, 0) : middle + line] = _LIGHT
    for name, left, end in ((names[0], 0, middle), (names[1], middle + line, right)):
        _caption(picture[:, left:end], name)
    return picture


def _caption(part: np.ndarray, text: str) -> None:
    """A small plate with a name in the top left corner; cut where there is no room, none in a part without a column."""
    if not part.size:
        return
    scale = float(np.clip(part.shape[1] / 900, 0.35, 1.2))
    pad = round(3 + 6 * scale)
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    corner = (min(width + 2 * pad, part.shape[1]), height + base + 2 * pad)
    plate = part.copy()
    cv2.rectangle(plate, (0, 0), corner, _DARK, cv2.FILLED)
    cv2.putText(plate, text, (pad, pad + height), cv2.FONT_HERSHEY_SIMPLEX, scale, _LIGHT, 1, cv2.LINE_AA)
    part[:] = plate
