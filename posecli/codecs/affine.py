"""The affine maps of the official repositories: where their image, input and heat map pixels meet.

Each repository has its own idea of which point is sent where; weights trained with one expect it at test time.

- HRNet and SimpleBaseline (leoxiaobin/deep-high-resolution-net.pytorch@6f69e46, `lib/utils/transforms.py`): the centre
  goes to (w/2, h/2) and 200 ``scale[0]`` image pixels to w output pixels.
- DARK (ilovepose/DarkPose@0185b42): the centre goes to ((w-1)/2, (h-1)/2) and 200 ``scale[0]`` - 1 pixels to w - 1.
- DEKR (HRNet/DEKR@7a30313): HRNet's map at test time, with its own sizes (`dekr_test_geometry`); a map of its own for
  training (`dekr_train_matrix`).

``scale`` is in units of 200 pixels throughout, as in those files. The official code finds each matrix from three
points rounded to float32, which shifts results by up to 2e-4 pixel; the functions here round in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

PIXELS_PER_SCALE = 200.0


def box_to_center_scale(
    box_xywh: np.ndarray, aspect_ratio: float, padding: float = 1.25
) -> tuple[np.ndarray, np.ndarray]:
    """Centre and scale of a person box, HRNet's rule (`lib/dataset/coco.py`, `_xywh2cs`).

    Args:
        box_xywh: (4,) image pixels.
        aspect_ratio: width / height of the network input; the shorter side of the box is enlarged to it.
        padding: factor on both sides.

    Returns:
        centre (2,) and scale (2,) in units of 200 pixels, both float32.
    """
    x, y, width, height = (float(v) for v in box_xywh)
    centre = np.array([x + width * 0.5, y + height * 0.5], dtype=np.float32)
    if width > aspect_ratio * height:
        height = width / aspect_ratio
    elif width < aspect_ratio * height:
        width = height * aspect_ratio
    scale = np.array([width / PIXELS_PER_SCALE, height / PIXELS_PER_SCALE], dtype=np.float32)
    # The official code marks a missing centre by x = -1 and leaves such boxes unpadded.
    return centre, scale * np.float32(padding) if centre[0] != -1 else scale


def mpii_center_scale(
    center: np.ndarray, scale: float, joints: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """MPII's annotated person to the values used for cropping (`lib/dataset/mpii.py`).

    Args:
        center: (2,) one-based; x = -1 when unknown.
        scale: person height over 200 pixels.
        joints: (16, 2) one-based.

    Returns:
        centre (2,) zero-based, moved down by 15 x scale; scale (2,), enlarged by 1.25; joints (16, 2) zero-based.
    """
    centre, size = np.array(center, dtype=np.float64), np.array([scale, scale], dtype=np.float64)
    if centre[0] != -1:
        centre[1] += 15 * size[1]
        size *= 1.25
    return centre - 1, size, np.asarray(joints, dtype=np.float64)[:, :2] - 1


def hrnet_matrix(
    center: np.ndarray,
    scale: np.ndarray,
    output_size: Sequence[int],
    rotation: float = 0.0,
    shift: Sequence[float] = (0.0, 0.0),
    inverse: bool = False,
) -> np.ndarray:
    """HRNet's map from image to output pixels.

    Args:
        center: (2,) image pixels; goes to (w/2, h/2).
        scale: (2,) in units of 200 pixels; only the first entry sets the size.
        output_size: (w, h).
        rotation: degrees about the centre.
        shift: moves the centre by this fraction of ``200 scale``.
        inverse: from output to image pixels (from the same three points, not by inverting the matrix).

    Returns:
        (2, 3) float64.
    """
    return _three_point_matrix(center, scale, output_size, rotation, shift, inverse, 0)


def dark_matrix(
    center: np.ndarray,
    scale: np.ndarray,
    output_size: Sequence[int],
    rotation: float = 0.0,
    shift: Sequence[float] = (0.0, 0.0),
    inverse: bool = False,
) -> np.ndarray:
    """DARK's map from image to output pixels: as `hrnet_matrix`, but pixel centres meet pixel centres (Sec. 3.3: the
    distances between first and last pixel correspond, which are one less than the sizes)."""
    return _three_point_matrix(center, scale, output_size, rotation, shift, inverse, 1)


def _three_point_matrix(
    center: np.ndarray,
    scale: np.ndarray,
    output_size: Sequence[int],
    rotation: float,
    shift: Sequence[float],
    inverse: bool,
    less: int,
) -> np.ndarray:
    """Centre, the middle of the upper side, and the point a quarter turn from there; rounded to float32."""
    center, scale = np.asarray(center), np.asarray(scale)
    extent = scale * np.asarray(PIXELS_PER_SCALE, dtype=scale.dtype if scale.dtype.kind == "f" else float)
    width, height = output_size[0] - less, output_size[1] - less
    half = -0.5 * (extent[0] - less)
    angle = np.pi * rotation / 180
    up = np.array([-half * np.sin(angle), half * np.cos(angle)])
    moved = extent * np.asarray(shift, dtype=np.float32)
    source = np.array([center + moved, center + up + moved], dtype=np.float32)
    target = np.array([[width * 0.5, height * 0.5], [width * 0.5, height * 0.5 - width * 0.5]], dtype=np.float32)
    source, target = _with_third(source), _with_third(target)
    if inverse:
        source, target = target, source
    corners = np.hstack([source.astype(np.float64), np.ones((3, 1))])
    return np.linalg.solve(corners, target.astype(np.float64)).T


def _with_third(points: np.ndarray) -> np.ndarray:
    a, b = points
    direct = a - b
    return np.array([a, b, b + np.array([-direct[1], direct[0]], dtype=np.float32)], dtype=np.float32)


def udp_matrix(center: np.ndarray, size: np.ndarray, output_size: Sequence[int], rotation: float = 0.0) -> np.ndarray:
    """UDP's map from image to output pixels (open-mmlab/mmpose@759b39c, `mmpose/structures/bbox/transforms.py`).

    The region's size, in pixels, goes to the output's size less one in each axis by itself; the centre goes to
    ((w - 1) / 2, (h - 1) / 2).

    Args:
        center, size: (2,) of the region, image pixels.
        output_size: (w, h).
        rotation: degrees about the centre.

    Returns:
        (2, 3) float64.
    """
    center, size = np.asarray(center, dtype=np.float64), np.asarray(size, dtype=np.float64)
    angle = math.radians(rotation)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    zoom = (np.asarray(output_size, dtype=np.float64) - 1) / size
    linear = zoom[:, None] * turn
    return np.hstack([linear, (zoom * size / 2 - linear @ center)[:, None]])


def box_of(center: np.ndarray, size: np.ndarray) -> np.ndarray:
    """(..., 4) corners of boxes of these centres and sizes (..., 2)."""
    center, half = np.asarray(center), np.asarray(size) * 0.5
    return np.concatenate([center - half, center + half], axis=-1)


def enlarged_box(box_xyxy: np.ndarray, share: float, image_size: Sequence[int]) -> np.ndarray:
    """Boxes (..., 4) grown by a share of their sides (half of it at each end), cut off at an image of (width, height);
    AlphaPose's boxes at test time have 0.25 (MVIG-SJTU/AlphaPose@c60106d)."""
    box = np.asarray(box_xyxy, dtype=np.float64)
    more = (box[..., 2:] - box[..., :2]) * share / 2
    low = np.maximum(box[..., :2] - more, 0)
    high = np.minimum(box[..., 2:] + more, np.asarray(image_size))
    return np.concatenate([low, high], axis=-1)


def dekr_train_matrix(
    center: np.ndarray, scale: float, resolution: int, rotation: float = 0.0
) -> tuple[np.ndarray, float]:
    """DEKR's map from image to a square training input or map (`lib/dataset/transforms/transforms.py`).

    200 ``scale`` pixels go to ``resolution``, the centre to its half; rotation (degrees) is about the output's centre
    with the sign turned.

    Returns:
        (2, 3) float64, and the factor by which areas grow.
    """
    zoom = resolution / (PIXELS_PER_SCALE * scale)
    linear, move = np.eye(2) * zoom, resolution * 0.5 - np.asarray(center, dtype=np.float64) * zoom
    angle = -math.radians(rotation)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    half = resolution / 2
    return np.hstack([turn @ linear, (turn @ (move - half) + half)[:, None]]), zoom * zoom


def dekr_test_geometry(
    image_hw: tuple[int, int], input_size: int, scale: float = 1.0, min_scale: float = 1.0
) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Size, centre and scale of DEKR's test input (`lib/utils/transforms.py`, `get_multi_scale_size`).

    The shorter side becomes ``input_size`` at scale 1, the longer is rounded up to a multiple of 64. Map image to input
    by ``hrnet_matrix(centre, scale, size)``.

    Args:
        image_hw: height and width of the picture.
        input_size: e.g. 512.
        scale: of this pass in a multi-scale test.
        min_scale: smallest scale of the test.

    Returns:
        (width, height) of the input, centre (2,) int, scale (2,) float64.
    """
    height, width = image_hw
    smallest = int((min_scale * input_size + 63) // 64 * 64)
    short = int(smallest * scale / min_scale)
    long_side, short_side = max(height, width), min(height, width)
    rounded = int((smallest / short_side * long_side + 63) // 64 * 64)
    long = int(rounded * scale / min_scale)
    centre = np.array([int(width / 2 + 0.5), int(height / 2 + 0.5)])
    along, across = long / short * short_side / PIXELS_PER_SCALE, short_side / PIXELS_PER_SCALE
    if width < height:
        return (short, long), centre, np.array([across, along])
    return (long, short), centre, np.array([along, across])
