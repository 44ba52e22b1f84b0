"""How a stored frame is turned and mirrored for display, as phones record it."""

from __future__ import annotations

import struct
from typing import Any

import av
import numpy as np

# Display matrices (a, b, c, d as signs) of the eight ways to turn and mirror a picture: displayed x = a x + c y,
# displayed y = b x + d y, in pixels with y downwards (ISO/IEC 14496-12, "tkhd" matrix).
Matrix = tuple[int, int, int, int]
TURNED: set[Matrix] = {(0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0), (0, -1, -1, 0)}


def display_matrix(frame: av.VideoFrame) -> Matrix:
    """Signs (a, b, c, d) of the frame's display matrix, the identity where there is none or it turns by odd angles."""
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return (1, 0, 0, 1)
    a, b, _, c, d = struct.unpack("=5i", bytes(data)[:20])
    signs = tuple(round(v / 65536) for v in (a, b, c, d))
    straight = abs(signs[0] * signs[3] - signs[1] * signs[2]) == 1 and sum(map(abs, signs)) == 2
    return signs if straight else (1, 0, 0, 1)  # type: ignore[return-value]


def orient(image: np.ndarray, matrix: Matrix) -> np.ndarray:
    """(H, W, 3) turned and mirrored as the display matrix (a, b, c, d) says: x' = a x + c y, y' = b x + d y."""
    if matrix == (1, 0, 0, 1):
        return image
    a, b, c, d = matrix
    if a == 0:  # displayed x runs along stored y
        image, a, d = image.transpose(1, 0, 2), c, b
    if a < 0:
        image = image[:, ::-1]
    if d < 0:
        image = image[::-1]
    return np.ascontiguousarray(image)
