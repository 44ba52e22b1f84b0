"""From DEKR's maps to people: candidates at centre peaks, scores, suppression; flip test, several scales, refinement.

Geng, Sun, Xiao, Zhang, Wang, "Bottom-Up Human Pose Estimation via Disentangled Keypoint Regression", CVPR 2021,
https://arxiv.org/abs/2104.02300 (Sec. 3.4). Official code: HRNet/DEKR@7a30313 (`tools/valid.py`,
`lib/core/inference.py`, `lib/core/nms.py`, `lib/core/match.py`).

Everything up to the suppression is batched on the device of the maps; one copy to the host follows.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from posecli.codecs.offsets import centre_peaks, enlarge, heat_at, poses_at
from posecli.grouping.pose_nms import keep_best_related, related_poses
from posecli.models.dekr import DekrBoxOutput, DekrOutput

_REFINEMENTS = ("none", "absorb", "match")


@dataclass(frozen=True)
class DekrSettings:
    """How poses are read from DEKR's maps; the defaults are the official COCO configuration.

    Attributes:
        stride: input pixels per map pixel.
        max_people: most people of one picture, and most candidates of each scale.
        threshold: least score of a centre.
        nms_distance: joints nearer than this fraction of a pose's size, sqrt(W^2 + H^2), coincide.
        nms_joints: poses with more than this many coinciding joints are one person (8 for 17 joints; the official
            configuration for CrowdPose has 7). See `nms_joints_for` for other joint counts.
        decrease: factor on the scores of all scales but 1 (0.8 in the official CrowdPose configuration).
        refine: ``"none"``; ``"absorb"``: each joint moves to the nearest peak of its heat map; ``"match"``: then to the
            middle of a Gaussian fitted there (slow; official option `MATCH_HMP`).
        absorb_distance: farthest move, input pixels.
        match_threshold: least joint score for a fit.
        match_sigma: first guess of the fit's sigma, input pixels.
        match_window: the fit sees this many pixels to each side.
    """

    stride: int = 4
    max_people: int = 30
    threshold: float = 0.01
    nms_distance: float = 0.05
    nms_joints: int = 8
    decrease: float = 0.9
    refine: str = "none"
    absorb_distance: float = 75.0
    match_threshold: float = 0.05
    match_sigma: float = 2.0
    match_window: int = 6

    def __post_init__(self) -> None:
        if self.refine not in _REFINEMENTS:
            raise ValueError(f"refine must be one of {_REFINEMENTS}, got {self.refine!r}")


def nms_joints_for(keypoints: int) -> int:
    """A limit for `DekrSettings.nms_joints` that keeps the official share, 8 of 17 and 7 of 14: half, rounded down."""
    return keypoints // 2


class DekrPoses(NamedTuple):
    """The people of one picture, in the order found by the suppression; tensors on the host, float32.

    Attributes:
        xy: (N, K, 2) pixels of the network input at scale 1.
        score: (N, K) centre score times heat at the joint.
        person_score: (N,) mean of ``score``.
        heat: (N,) mean heat at the regressed keypoints before any refinement (the local NMS score).
        box_xyxy: (N, 4) input pixels, with a box head, else None.
    """

    xy: Tensor
    score: Tensor
    person_score: Tensor
    heat: Tensor
    box_xyxy: Tensor | None


def decode_dekr(
    output: DekrOutput | DekrBoxOutput | Sequence[DekrOutput | DekrBoxOutput],
    settings: DekrSettings | None = None,
    scales: Sequence[float] = (1.0,),
) -> list[DekrPoses]:
    """People of each picture of a batch.

    Args:
        output: the maps of a batch; for a test at several scales a list of them, one for each of ``scales``. Maps of
            scale s come from the input resized by s (`posecli.codecs.affine.dekr_test_geometry`).
        settings: see `DekrSettings`.
        scales: must contain 1.

    Returns:
        One `DekrPoses` for each picture; without people its arrays are empty.
    """
    settings = settings or DekrSettings()
    outputs = [output] if isinstance(output, DekrOutput | DekrBoxOutput) else list(output)
    if len(outputs) != len(scales) or 1.0 not in scales:
        raise ValueError(f"{len(outputs)} outputs for scales {tuple(scales)}, which must contain 1")
    # Largest scale first, as in the official code: the order of candidates decides ties.
    order = sorted(range(len(scales)), key=lambda i: -scales[i])
    outputs, scales = [outputs[i] for i in order], [scales[i] for i in order]
    main = scales.index(1.0)

    poses, centres, boxes, sizes = [], [], [], []
    for one, scale in zip(outputs, scales, strict=True):
        factor = settings.stride / scale
        index, score = centre_peaks(one.heatmap[:, -1].float(), settings.max_people, settings.threshold)
        poses.append(poses_at(one.offset, index) * factor)
        centres.append(score)
        height, width = one.heatmap.shape[-2:]
        sizes.append((int(factor * height), int(factor * width)))
        if isinstance(one, DekrBoxOutput):
            boxes.append(boxes_at(one.box, index) * factor)
    centres = [
        score if i == main else _rescaled(score, centres[main], settings.decrease) for i, score in enumerate(centres)
    ]
    xy, centre = torch.cat(poses, dim=1), torch.cat(centres, dim=1)
    heat = heat_at([one.heatmap for one in outputs], sizes, xy)
    related = related_poses(xy, settings.nms_distance, settings.nms_joints)
    score = centre[..., None] * heat

    xy, score, centre, heat, related = (t.float().cpu() for t in (xy, score, centre, heat, related))
    box = torch.cat(boxes, dim=1).float().cpu() if len(boxes) == len(outputs) else None
    people = []
    for n in range(len(xy)):
        found = torch.nonzero(centre[n] > 0)[:, 0]
        mean_heat = heat[n, found].mean(-1)
        kept = keep_best_related((related[n][found][:, found] > 0).numpy(), mean_heat.numpy())
        if len(kept) > settings.max_people:
            kept = [kept[int(i)] for i in mean_heat[kept].topk(settings.max_people).indices]
        rows = found[kept]
        person = DekrPoses(
            xy[n, rows], score[n, rows], score[n, rows].mean(-1), mean_heat[kept], None if box is None else box[n, rows]
        )
        if settings.refine != "none" and len(rows):
            large = [enlarge(o.heatmap[n : n + 1, :-1].float(), s) for o, s in zip(outputs, sizes, strict=True)]
            average = torch.cat(large).mean(0)
            person = person._replace(xy=refine(person.xy, person.score, average, settings))
        people.append(person)
    return people


def _rescaled(score: Tensor, main: Tensor, decrease: float) -> Tensor:
    """Scores (B, P) of another scale brought to the range of scale 1: over their maximum, times the maximum there,
    times ``decrease`` (1 stands for the maximum where nobody was found)."""
    best, best_main = score.amax(1, keepdim=True), main.amax(1, keepdim=True)
    best = torch.where(best > 0, best, torch.ones_like(best))
    best_main = torch.where(best_main > 0, best_main, torch.ones_like(best_main))
    return score / best * best_main * decrease


def boxes_at(box: Tensor, index: Tensor) -> Tensor:
    """Boxes that a box head (B, 4, h, w) gives at flat pixel indices (B, P): (B, P, 4) corners in map pixels."""
    width = box.shape[-1]
    index = index.clamp(min=0)
    sides = box.float().flatten(2).gather(2, index[:, None].expand(-1, 4, -1)).transpose(1, 2)
    pixel = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
    return torch.cat([pixel - sides[..., :2], pixel + sides[..., 2:]], dim=-1)


# --- flip test -------------------------------------------------------------------------------------------------------


def mirrored_input(image: Tensor, stride: int = 4) -> Tensor:
    """The mirrored input (B, 3, H, W) for a flip test, moved ``stride - 1`` = 3 pixels left, the last columns kept.

    Map pixel u lies on input pixel 4 u, that is on pixel W - 1 - 4 u = 4 (w - 1 - u) + 3 of the mirrored input: three
    pixels right of map pixel w - 1 - u. Moved by three, the mirrored maps fall on the same places as the others. The
    official code does this without a word.
    """
    mirrored = image.flip(-1)
    if stride == 1:
        return mirrored
    return torch.cat([mirrored[..., stride - 1 :], mirrored[..., 1 - stride :]], dim=-1)


def average_flipped(
    output: DekrOutput | DekrBoxOutput, mirrored: DekrOutput | DekrBoxOutput, flip_index: Sequence[int] | np.ndarray
) -> DekrOutput | DekrBoxOutput:
    """DEKR's flip test: the mean of the maps of an input and of its `mirrored_input`.

    The official code averages poses, with x mirrored as w - x - 1; since a pose is its pixel minus the offset, that is
    to mirror the offset maps, swap left and right joints, and turn the sign of x.

    Args:
        output, mirrored: of the input and of the mirrored input.
        flip_index: (K,) the joint each joint becomes, without the centre (`Skeleton.flip_index`).
    """
    joints = torch.as_tensor(np.asarray(flip_index), device=output.heatmap.device)
    with_centre = torch.cat([joints, joints.new_tensor([len(joints)])])
    heatmap = (output.heatmap + mirrored.heatmap[:, with_centre].flip(-1)) / 2
    batch, channels, height, width = output.offset.shape
    turned = mirrored.offset.view(batch, -1, 2, height, width)[:, joints].flip(-1)
    turned = turned * turned.new_tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
    offset = (output.offset + turned.reshape(batch, channels, height, width)) / 2
    if isinstance(output, DekrBoxOutput) and isinstance(mirrored, DekrBoxOutput):
        box = (output.box + mirrored.box[:, [2, 1, 0, 3]].flip(-1)) / 2
        return DekrBoxOutput(heatmap, offset, box)
    return DekrOutput(heatmap, offset)


# --- refinement ------------------------------------------------------------------------------------------------------


def refine(xy: Tensor, score: Tensor, heatmap: Tensor, settings: DekrSettings) -> Tensor:
    """Moves regressed joints to the heat map's evidence (`lib/core/match.py`).

    Args:
        xy: (N, K, 2) input pixels.
        score: (N, K).
        heatmap: (K, H, W) enlarged keypoint maps.
        settings: ``refine`` tells whether a fit follows.

    Returns:
        (N, K, 2) on the host.
    """
    xy = absorb(xy, heatmap, settings.max_people, settings.absorb_distance)
    if settings.refine == "match":
        xy = fit_gaussians(xy, score, heatmap, settings)
    return xy


def absorb(xy: Tensor, heatmap: Tensor, peaks: int = 30, distance: float = 75.0) -> Tensor:
    """Each joint (N, K, 2) moves to the nearest of the ``peaks`` best 5x5 maxima of its map (K, H, W), if one lies
    within ``distance``."""
    highest = functional.max_pool2d(heatmap[None], 5, 1, 2)[0]
    values = torch.where(highest == heatmap, heatmap, torch.zeros_like(heatmap)).flatten(1)
    index = values.topk(min(peaks, values.shape[1]), dim=1).indices.cpu()
    width = heatmap.shape[-1]
    places = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1).to(xy.dtype)
    gaps = (xy.transpose(0, 1)[:, :, None] - places[:, None]).norm(dim=-1)  # (K, N, peaks)
    gap, which = gaps.min(-1)
    nearest = places.gather(1, which[..., None].expand(-1, -1, 2))
    return torch.where((gap < distance)[..., None], nearest, xy.transpose(0, 1)).transpose(0, 1)


def fit_gaussians(xy: Tensor, score: Tensor, heatmap: Tensor, settings: DekrSettings) -> Tensor:
    """Each joint with a score above ``match_threshold`` moves to the centre of a round Gaussian (height, place, sigma
    free) fitted by least squares to the map around it; a joint whose fit does not converge stays."""
    from scipy.optimize import OptimizeWarning, curve_fit  # slow to import, seldom needed

    def gaussian(place: np.ndarray, height: float, x0: float, y0: float, sigma: float) -> np.ndarray:
        return height * np.exp(-((place[0] - x0) ** 2 + (place[1] - y0) ** 2) / (2 * sigma**2))

    maps, result, reach = heatmap.cpu().numpy(), xy.clone(), settings.match_window
    rows, columns = maps.shape[1:]
    for person in range(len(xy)):
        for joint in range(xy.shape[1]):
            if score[person, joint] <= settings.match_threshold:
                continue
            x, y = (int(v + 0.5) for v in xy[person, joint].tolist())
            x, y = min(max(x, 0), columns - 1), min(max(y, 0), rows - 1)
            left, top = max(0, x - reach), max(0, y - reach)
            window = maps[joint, top : y + reach + 1, left : x + reach + 1]
            place = np.mgrid[: window.shape[0], : window.shape[1]][::-1].reshape(2, -1)
            start = (maps[joint, y, x], x - left, y - top, settings.match_sigma)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", OptimizeWarning)
                    fitted, _ = curve_fit(gaussian, place, window.ravel(), p0=start, maxfev=300)
            except RuntimeError:
                continue  # no convergence: what lies there is no Gaussian
            result[person, joint] = torch.tensor([left + fitted[1], top + fitted[2]])
    return result
