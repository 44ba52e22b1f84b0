"""DEKR's maps: keypoint and centre heat maps and offsets from each person's centre; targets and their reading.

Geng, Sun, Xiao, Zhang, Wang, "Bottom-Up Human Pose Estimation via Disentangled Keypoint Regression", CVPR 2021,
https://arxiv.org/abs/2104.02300 (Sec. 3.1 and 3.3). Official code: HRNet/DEKR@7a30313
(`lib/dataset/COCOKeypoints.py`, `lib/dataset/target_generators/target_generators.py`, `lib/core/inference.py`,
`lib/core/nms.py`, `lib/utils/transforms.py`).

Coordinates: map pixel u lies on input pixel ``stride u``. The official targets contain effects that nobody intended;
``official=True`` reproduces them, the default follows the evident intention:

- the centre of a person without labelled joints stands at the picture's origin;
- a person's size counts unlabelled joints as (0, 0). The extent of the labelled ones alone would make somebody with a
  single joint a hundred times as small as others and the loss mostly theirs, so a size is never below what the
  annotated area tells; somebody with one labelled joint of several and no area has no known size and teaches no offset;
- the wider Gaussian of centres is used from channel 17 on only, so not with 14 joints;
- where two people's centres are close, the smaller one's offsets should stand; but the remembered size is one float32
  map for all joints, so that a larger person who brings a joint that the smaller one lacks takes over others too, and a
  smaller person whose size is rounded down overwrites its first joint only.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

#: Annotated people smaller than this (square pixels of the picture) get no centre.
SMALL_AREA = 32.0**2
#: The first channel that the official code gives the centre's sigma.
_OFFICIAL_CENTRE_CHANNEL = 17


# --- targets ---------------------------------------------------------------------------------------------------------


def person_centres(
    keypoints: np.ndarray,
    annotated_area: np.ndarray | None = None,
    official: bool = False,
    least_area: float = SMALL_AREA,
) -> tuple[np.ndarray, np.ndarray]:
    """Adds each person's centre, the mean of the labelled joints, as a last joint, and measures the person.

    Args:
        keypoints: (N, K, 3) x, y in picture pixels and visibility (0: not labelled; x and y are then taken as 0).
        annotated_area: (N,) square pixels of the picture, NaN for unknown; people below ``least_area`` get no centre.
            None: nobody is too small.
        official: see the module.
        least_area: see above.

    Returns:
        joints (N, K + 1, 3), the centre's visibility 0 or 1; and (N,) W^2 + H^2 of the joints' extent. By default it
        is at least the annotated area (a mask's, or a box's: then W^2 + H^2 is no less than twice as much) and at least
        1, so that its root can divide; infinite where nothing tells it.
    """
    keypoints = np.asarray(keypoints, dtype=np.float64)
    people, count = keypoints.shape[:2]
    labelled = keypoints[..., 2] > 0
    joints = np.zeros((people, count + 1, 3))
    joints[:, :-1] = np.where(labelled[..., None], keypoints, 0)
    xy = joints[..., :2]
    if official:
        extent = xy.max(1) - xy.min(1) if people else np.zeros((0, 2))
        area = (extent**2).sum(-1)
    else:
        low = np.where(labelled[..., None], keypoints[..., :2], np.inf).min(1, initial=np.inf)
        high = np.where(labelled[..., None], keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
        extent = np.where(np.any(labelled, axis=1, keepdims=True), high - low, 0)
        covered = np.full(people, np.nan) if annotated_area is None else np.asarray(annotated_area, np.float64)
        area = np.fmax(np.maximum((extent**2).sum(-1), 1), covered)
        area[np.isnan(covered) & (labelled.sum(1) == 1) & (count > 1)] = np.inf
    total = labelled.sum(1)
    joints[:, -1, :2] = xy[:, :-1].sum(1) / np.maximum(total, 1)[:, None]
    joints[:, -1, 2] = 1 if official else total > 0
    if annotated_area is not None:
        small = np.asarray(annotated_area) < least_area
        joints[small, -1] = 0
    return joints, area


def encode_heatmap(
    joints: np.ndarray,
    size: tuple[int, int],
    sigma: float = 2.0,
    centre_sigma: float = 4.0,
    background: float = 0.1,
    official: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Heat map targets of all people and the weight of each pixel in the loss (Sec. 3.3).

    Args:
        joints: (N, K + 1, 3) map pixels, as `person_centres` gives them, moved to the map.
        size: (w, h) of the map.
        sigma, centre_sigma: of keypoints and of the centre, map pixels.
        background: weight of pixels that no Gaussian covers.
        official: see the module (centre sigma).

    Returns:
        (K + 1, h, w) float32 maxima over people, 0 to 1; (K + 1, h, w) float32 weights, 1 in the Gaussians' windows.
    """
    width, height = size
    channels = joints.shape[1]
    heatmap = np.zeros((channels, height, width), dtype=np.float32)
    covered = np.zeros((channels, height, width), dtype=bool)
    first_wide = _OFFICIAL_CENTRE_CHANNEL if official else channels - 1
    for person in joints:
        for channel, (x, y, visibility) in enumerate(person):
            if visibility <= 0 or not (0 <= x < width and 0 <= y < height):
                continue
            deviation = centre_sigma if channel >= first_wide else sigma
            left, right = _window(x, deviation, width)
            top, bottom = _window(y, deviation, height)
            across = np.exp(-((np.arange(left, right) - x) ** 2) / (2 * deviation**2))
            down = np.exp(-((np.arange(top, bottom) - y) ** 2) / (2 * deviation**2))
            window = heatmap[channel, top:bottom, left:right]
            np.maximum(window, (down[:, None] * across).astype(np.float32), out=window)
            covered[channel, top:bottom, left:right] = True
    return heatmap, np.where(covered, np.float32(1), np.float32(background))


def _window(position: float, deviation: float, size: int) -> tuple[int, int]:
    low, high = np.floor(position - 3 * deviation - 1), np.ceil(position + 3 * deviation + 2)
    return max(0, int(low)), min(size, int(high))


def encode_offset(
    joints: np.ndarray, area: np.ndarray, size: tuple[int, int], radius: int = 4, official: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Offset targets around each person's centre, and their weights (Sec. 3.3).

    Args:
        joints: (N, K + 1, 3) map pixels, the centre last.
        area: (N,) W^2 + H^2 of each person; the official code measures it in input pixels, so 1/sqrt(area) is the
            inverse of the person's size there. Infinite: no offset of that person counts.
        size: (w, h) of the map.
        radius: offsets stand at pixels from ``int(c) - radius`` to ``int(c) + radius - 1`` around the centre c.
        official: see the module (whose offsets stand where people overlap). By default the smaller person's do,
            joint by joint.

    Returns:
        (2 K, h, w) float32: x0 y0 x1 y1 ..., pixel minus joint; (2 K, h, w) float32 weights 1/sqrt(area), 0 where no
        offset stands.
    """
    width, height = size
    count = joints.shape[1] - 1
    offset = np.zeros((count, 2, height, width), dtype=np.float32)
    weight = np.zeros((count, height, width), dtype=np.float32)
    remembered = np.zeros((1 if official else count, height, width), dtype=np.float32 if official else np.float64)
    for person, person_area in zip(joints, np.asarray(area, dtype=np.float64).reshape(-1), strict=True):
        x, y, visibility = person[-1]
        column, row = int(x), int(y)
        if visibility < 1 or not (0 <= column < width and 0 <= row < height):
            continue
        xy = person[:-1, :2]
        kept = (person[:-1, 2] > 0) & (xy >= 0).all(1) & (xy < np.array([width, height])).all(1)
        which = np.flatnonzero(kept)
        if not len(which):
            continue
        rows = slice(max(row - radius, 0), min(row + radius, height))
        columns = slice(max(column - radius, 0), min(column + radius, width))
        pixel_y, pixel_x = np.mgrid[rows, columns]
        value = np.stack([pixel_x[None] - xy[which, 0, None, None], pixel_y[None] - xy[which, 1, None, None]], axis=1)
        before = offset[which, :, rows, columns]
        taken = (before != 0).any(1) if official else weight[which, rows, columns] > 0
        if official:
            smaller = remembered[0, rows, columns] < person_area
            write = ~(taken & smaller)
            # After the first write of this person the remembered size is its own, rounded to float32.
            written_before = np.cumsum(write, axis=0) - write > 0
            write = np.where(written_before, ~(taken & (np.float32(person_area) < person_area)), write)
            remembered[0, rows, columns][write.any(0)] = person_area
        else:
            sizes = remembered[which, rows, columns]
            write = ~(taken & (sizes < person_area))
            remembered[which, rows, columns] = np.where(write, person_area, sizes)
        offset[which, :, rows, columns] = np.where(write[:, None], value, before)
        strength = np.float32(1 / np.sqrt(person_area))
        weight[which, rows, columns] = np.where(write, strength, weight[which, rows, columns])
    return offset.reshape(2 * count, height, width), np.repeat(weight, 2, axis=0)


# --- reading ---------------------------------------------------------------------------------------------------------


def pose_map(offset: Tensor) -> Tensor:
    """The pose each pixel proposes: pixel minus offset.

    Args:
        offset: (B, 2 K, h, w), x0 y0 x1 y1 ... in map pixels.

    Returns:
        (B, 2 K, h, w) positions in map pixels, in float32 or better.
    """
    height, width = offset.shape[-2:]
    offset = offset.to(torch.promote_types(offset.dtype, torch.float32))
    rows = torch.arange(height, device=offset.device, dtype=offset.dtype).view(-1, 1).expand(height, width)
    columns = torch.arange(width, device=offset.device, dtype=offset.dtype).expand(height, width)
    pixels = torch.stack([columns, rows]).repeat(offset.shape[1] // 2, 1, 1)
    return pixels - offset


def poses_at(offset: Tensor, index: Tensor) -> Tensor:
    """`pose_map` read at pixels only: (B, 2 K, h, w) and flat pixel indices (B, P) to (B, P, K, 2) map pixels."""
    width = offset.shape[-1]
    index = index.clamp(min=0)
    chosen = offset.flatten(2).gather(2, index[:, None].expand(-1, offset.shape[1], -1))
    chosen = chosen.to(torch.promote_types(offset.dtype, torch.float32)).transpose(1, 2)
    pixel = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return pixel[:, :, None] - chosen.reshape(*index.shape, -1, 2)


def centre_peaks(centre: Tensor, max_people: int = 30, threshold: float = 0.01) -> tuple[Tensor, Tensor]:
    """Local maxima of centre maps, the best first.

    A pixel is a maximum if nothing within a window is higher: 3x3 where the mean of the map's height and width is at
    most 200, 5x5 up to 300, 7x7 above (official code).

    Args:
        centre: (B, h, w).
        max_people: at most this many.
        threshold: only maxima above it.

    Returns:
        flat pixel indices (B, P), -1 where there is no further peak, and scores (B, P), 0 there.
    """
    height, width = centre.shape[-2:]
    mean_size = (height + width) / 2
    window = 7 if mean_size > 300 else 5 if mean_size > 200 else 3
    highest = functional.max_pool2d(centre[:, None], window, 1, window // 2)[:, 0]
    peaks = torch.where(highest == centre, centre, torch.zeros_like(centre)).flatten(1)
    score, index = peaks.topk(min(max_people, peaks.shape[1]), dim=1)
    found = score > threshold
    return torch.where(found, index, -1), torch.where(found, score, 0)


def enlarge(maps: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """The official enlargement of heat maps (B, C, h, w) to a multiple of their size.

    With f the whole part of the ratio of sizes: bilinear with corners aligned to ``size - f + 1``, then the last row
    and column repeated, so that map pixel u lands exactly on ``f u``.
    """
    height, width = maps.shape[-2:]
    factor_h, factor_w = size_hw[0] // height, size_hw[1] // width
    inner = (size_hw[0] - factor_h + 1, size_hw[1] - factor_w + 1)
    large = functional.interpolate(maps, size=inner, mode="bilinear", align_corners=True)
    return functional.pad(large, (0, factor_w - 1, 0, factor_h - 1), mode="replicate")


def heat_at(maps: Sequence[Tensor], sizes_hw: Sequence[tuple[int, int]], xy: Tensor) -> Tensor:
    """Heat of each keypoint where it was regressed, without enlarging whole maps.

    Equal to reading the mean of the `enlarge`d keypoint maps at the floor of the coordinates, clamped into the map.

    Args:
        maps: for each scale of the test (B, C, h, w), C at least K; channels beyond K are not looked at.
        sizes_hw: the size each would be enlarged to.
        xy: (B, P, K, 2) enlarged pixels.

    Returns:
        (B, P, K).
    """
    height, width = sizes_hw[0]
    column = xy[..., 0].floor().clamp(0, width - 1)
    row = xy[..., 1].floor().clamp(0, height - 1)
    total = torch.zeros_like(column)
    for one, size in zip(maps, sizes_hw, strict=True):
        total = total + _read_enlarged(one[:, : xy.shape[2]], size, column, row)
    return total / len(maps)


def _read_enlarged(maps: Tensor, size_hw: tuple[int, int], column: Tensor, row: Tensor) -> Tensor:
    """Values of ``enlarge(maps, size_hw)`` at whole pixels (B, P, K)."""
    small_h, small_w = maps.shape[-2:]

    def source(place: Tensor, size: int, small: int) -> tuple[Tensor, Tensor, Tensor]:
        steps = size - size // small  # inner size minus 1
        at = (place * ((small - 1) / max(steps, 1))).clamp(max=small - 1)
        low = at.floor()
        return low.long(), (low + 1).clamp(max=small - 1).long(), at - low

    top, bottom, down = source(row, size_hw[0], small_h)
    left, right, across = source(column, size_hw[1], small_w)
    flat = maps.flatten(2).to(column.dtype)

    def read(y: Tensor, x: Tensor) -> Tensor:
        return flat.gather(2, (y * small_w + x).transpose(1, 2)).transpose(1, 2)

    upper = read(top, left) * (1 - across) + read(top, right) * across
    lower = read(bottom, left) * (1 - across) + read(bottom, right) * across
    return upper * (1 - down) + lower * down
