"""People as centres, boxes and rough poses on one map: targets for a person finder, the losses between, and back.

A finder is a small DEKR (`posecli.models.dekr`) with a box head. Its maps have stride s; cell i lies on input pixel
``s * i``, as the padded strided convolutions of the trunk sample it. What this codec takes from where:

- The person's centre is the centre of its box, whether joints are labelled or not (Zhou, Wang, Kraehenbuehl, "Objects
  as Points", 2019, https://arxiv.org/abs/1904.07850, Sec. 3), so that people with a box only teach as well. DEKR's own
  centre, the mean of the labelled joints, moves with what an annotator happened to label.
- Heat maps are logits, trained by the penalty-reduced focal loss of that paper (Eq. 1): from few pictures it separates
  people from background better than DEKR's squared error, whose gradient the empty cells dominate.
- The Gaussian of a centre is elongated as its box is (Liu et al., "Training-Time-Friendly Network for Real-Time Object
  Detection", AAAI 2020, https://arxiv.org/abs/1909.00700, Sec. 3.2, alpha 0.54).
- Boxes are the distances from a cell to the four sides (Tian et al., "FCOS", ICCV 2019,
  https://arxiv.org/abs/1904.01355, Eq. 1), learnt at all cells near the centre.
- Poses are DEKR's: cell minus joint in cells (Geng et al., "Bottom-Up Human Pose Estimation Via Disentangled Keypoint
  Regression", CVPR 2021, https://arxiv.org/abs/2104.02300, Eq. 1), learnt at the same cells as the boxes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from posecli.geometry import box_iou

# Joints have no size of their own: a Gaussian of one cell, so that two cells apart are told apart.
JOINT_SIGMA = 1.0
# sigma = alpha * side / 6: three sigmas reach to alpha / 2 of the side.
CENTRE_ALPHA = 0.54
# Boxes and offsets are learnt in the middle 30 % of the box, and at least one cell around the centre.
NEAR_CENTRE = 0.15
# Boxes of one person from several looks: those that overlap the best one so far have a say in where it lies.
VOTE_OVERLAP = 0.65


@dataclass(frozen=True)
class PeopleTargets:
    """What the maps of one picture should be; K joints, map h x w.

    Attributes:
        heat: (K+1, h, w) float32 in [0, 1]; joints, then the centre.
        heat_weight: (K+1, h, w) float32 in [0, 1]: 0 where nobody knows (crowds, unlabelled people, unlabelled joints).
        box: (4, h, w) float32: cells from the cell to the left, top, right, bottom side.
        offset: (2K, h, w) float32: cell minus joint in cells, channels x0 y0 x1 y1 ... as in DEKR.
        offset_weight: (K, h, w) float32: share of the joint in the loss of its person over the person's size in cells.
        near: (h, w) float32: weight of the cell for box and offset; each person's cells sum to 1.
        people: number of people with at least one such cell.
    """

    heat: np.ndarray
    heat_weight: np.ndarray
    box: np.ndarray
    offset: np.ndarray
    offset_weight: np.ndarray
    near: np.ndarray
    people: int


def _splat(heat: np.ndarray, x: float, y: float, sigma_x: float, sigma_y: float) -> None:
    """Raises a map (h, w) to a Gaussian that is 1 at the cell nearest to ``(x, y)``; nothing if that lies outside."""
    height, width = heat.shape
    column, row = round(x), round(y)
    if not (0 <= column < width and 0 <= row < height):
        return
    x0, x1 = max(0, int(column - 3 * sigma_x)), min(width, int(column + 3 * sigma_x) + 2)
    y0, y1 = max(0, int(row - 3 * sigma_y)), min(height, int(row + 3 * sigma_y) + 2)
    gx = np.exp(-((np.arange(x0, x1) - column) ** 2) / (2 * sigma_x**2))
    gy = np.exp(-((np.arange(y0, y1) - row) ** 2) / (2 * sigma_y**2))
    part = heat[y0:y1, x0:x1]
    np.maximum(part, gy[:, None] * gx, out=part)


def encode_people(
    boxes_xyxy: np.ndarray,
    xy: np.ndarray,
    visibility: np.ndarray,
    known: np.ndarray,
    stride: int,
) -> PeopleTargets:
    """Targets of one picture.

    Args:
        boxes_xyxy: (N, 4) input pixels, N may be 0.
        xy: (N, K, 2) input pixels.
        visibility: (N, K); 0: not labelled, in no way penalised within that person's box.
        known: (h, w) float in [0, 1]: how sure it is that all people near the cell are labelled.
        stride: input pixels to a cell.

    Returns:
        Maps of the size of ``known``. Where the middles of two people overlap the smaller one has the cell: the larger
        has others.
    """
    height, width = known.shape
    count = xy.shape[1]
    heat = np.zeros((count + 1, height, width), np.float32)
    weight = np.repeat(known[None].astype(np.float32), count + 1, 0)
    box = np.zeros((4, height, width), np.float32)
    offset = np.zeros((2 * count, height, width), np.float32)
    offset_weight = np.zeros((count, height, width), np.float32)
    owner = np.full((height, width), -1)
    boxes = np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
    sides = boxes[:, 2:] - boxes[:, :2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 / stride
    columns, rows = np.arange(width), np.arange(height)

    for person in np.argsort(-sides.prod(1), kind="stable").tolist():
        (cx, cy), (w, h) = centres[person], sides[person] / stride
        _splat(heat[count], cx, cy, max(CENTRE_ALPHA * w / 6, 0.4), max(CENTRE_ALPHA * h / 6, 0.4))
        x0, y0, x1, y1 = boxes[person] / stride
        inside = np.ix_((rows >= y0) & (rows <= y1), (columns >= x0) & (columns <= x1))
        for joint in range(count):
            if visibility[person, joint] > 0:
                at_x, at_y = xy[person, joint] / stride
                _splat(heat[joint], at_x, at_y, JOINT_SIGMA, JOINT_SIGMA)
            else:
                weight[joint][inside] = 0
        middle_x = np.abs(columns - cx) <= max(NEAR_CENTRE * w, 0.75)
        middle_y = np.abs(rows - cy) <= max(NEAR_CENTRE * h, 0.75)
        owner[np.ix_(middle_y, middle_x)] = person

    # A labelled joint of one person inside the box of another who lacks it is still known.
    weight[:count] = np.maximum(weight[:count], heat[:count])
    weight[count] = np.maximum(weight[count], heat[count] == 1)

    near = np.zeros((height, width), np.float32)
    people = 0
    for person in range(len(boxes)):
        ys, xs = np.nonzero(owner == person)
        if not len(ys):
            continue
        people += 1
        near[ys, xs] = 1 / len(ys)
        x0, y0, x1, y1 = boxes[person] / stride
        box[:, ys, xs] = (xs - x0, ys - y0, x1 - xs, y1 - ys)
        labelled = np.nonzero(visibility[person] > 0)[0]
        size = np.sqrt(max(sides[person].prod(), 1.0)) / stride
        for joint in labelled.tolist():
            offset[2 * joint, ys, xs] = xs - xy[person, joint, 0] / stride
            offset[2 * joint + 1, ys, xs] = ys - xy[person, joint, 1] / stride
            offset_weight[joint, ys, xs] = 1 / (len(labelled) * size)
    return PeopleTargets(heat, weight, box, offset, offset_weight, near, people)


def focal_heatmap_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Penalty-reduced focal loss of "Objects as Points" (Eq. 1, alpha 2, beta 4), summed over all cells.

    Args:
        logits, target, weight: of one shape; the target is 1 at a peak and less around it.
    """
    probability = logits.sigmoid()
    peak = functional.logsigmoid(logits) * (1 - probability) ** 2
    rest = functional.logsigmoid(-logits) * probability**2 * (1 - target) ** 4
    return -(torch.where(target == 1, peak, rest) * weight).sum()


def giou_distance_loss(distance: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """One minus the generalised IoU of the boxes of two sets of distances (B, 4, h, w), weighted by (B, h, w), summed.

    Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019 (Algorithm 1), https://arxiv.org/abs/1902.09630
    """
    # A cell beside a box thinner than a cell would have a negative distance.
    target = target.clamp(min=0.05)
    low, high = torch.minimum(distance, target), torch.maximum(distance, target)
    inter = (low[:, 0] + low[:, 2]) * (low[:, 1] + low[:, 3])
    hull = (high[:, 0] + high[:, 2]) * (high[:, 1] + high[:, 3])
    areas = [(d[:, 0] + d[:, 2]) * (d[:, 1] + d[:, 3]) for d in (distance, target)]
    union = areas[0] + areas[1] - inter
    giou = inter / union - (hull - union) / hull
    return ((1 - giou) * weight).sum()


def people_losses(heatmap: Tensor, offset: Tensor, box: Tensor, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parts of a finder's loss for a batch, each a mean over its people, unweighted.

    Args:
        heatmap, offset, box: the network's maps.
        targets: the fields of `PeopleTargets` by name, stacked over the batch.

    Returns:
        ``centre``, ``joints`` (mean over joints, too), ``box`` and ``offset`` (in units of the person's size).
    """
    people = targets["people"].sum().clamp(min=1)
    count = offset.shape[1] // 2
    heat, weight = targets["heat"], targets["heat_weight"]
    labelled = (heat[:, :count] == 1).sum().clamp(min=1)
    share = (targets["offset_weight"] * targets["near"][:, None]).repeat_interleave(2, 1)
    return {
        "centre": focal_heatmap_loss(heatmap[:, count:], heat[:, count:], weight[:, count:]) / people,
        "joints": focal_heatmap_loss(heatmap[:, :count], heat[:, :count], weight[:, :count]) / labelled,
        "box": giou_distance_loss(box, targets["box"], targets["near"]) / people,
        "offset": ((offset - targets["offset"]).abs() * share).sum() / people,
    }


@dataclass(frozen=True)
class FoundPeople:
    """People of one picture, best first; input pixels.

    Attributes:
        boxes_xyxy: (N, 4) float32.
        scores: (N,) float32 in [0, 1], the centre's probability.
        xy: (N, K, 2) float32, rough poses.
        joint_scores: (N, K) float32: joint heat at each rough joint.
    """

    boxes_xyxy: np.ndarray
    scores: np.ndarray
    xy: np.ndarray
    joint_scores: np.ndarray

    @property
    def heat(self) -> np.ndarray:
        """(N,) local NMS score: mean joint heat at the regressed keypoints."""
        return self.joint_scores.mean(1) if len(self.joint_scores) else np.zeros(0, np.float32)


def decode_people(
    heatmap: Tensor,
    offset: Tensor,
    box: Tensor,
    stride: int,
    *,
    floor: float = 0.05,
    overlap: float = 0.6,
    most: int = 50,
    reach: float = 0.0,
) -> list[FoundPeople]:
    """People in each picture of a batch.

    Args:
        heatmap: (B, K+1, h, w) logits, joints then centre.
        offset: (B, 2K, h, w) cell minus joint in cells.
        box: (B, 4, h, w) cells from the cell to the left, top, right, bottom side.
        stride: input pixels to a cell.
        floor: least centre probability.
        overlap: of two boxes with a larger intersection over union the weaker is dropped.
        most: at most so many people, before overlapping ones are dropped.
        reach: see `moved_to_peaks`; 0: poses stay as they are regressed.
    """
    batch, channels, height, width = heatmap.shape
    count = channels - 1
    probability = heatmap.float().sigmoid()
    centre = probability[:, count]
    peak = functional.max_pool2d(centre[:, None], 3, 1, 1)[:, 0] == centre
    most = min(most, height * width)
    scores, index = torch.where(peak, centre, 0.0).flatten(1).topk(most)
    x, y = index % width, index // width
    cell = torch.stack([x, y], 2).float()  # (B, most, 2)

    def at_cells(maps: Tensor) -> Tensor:
        flat = maps.float().flatten(2)
        return flat.gather(2, index[:, None].expand(-1, flat.shape[1], -1)).transpose(1, 2)

    distances = at_cells(box)
    boxes = torch.cat([cell - distances[..., :2], cell + distances[..., 2:]], 2) * stride
    joints = cell[:, :, None] - at_cells(offset).reshape(batch, most, count, 2)  # cells
    if reach:
        size = (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp(min=1).sqrt() / stride
        joints = torch.stack([
            moved_to_peaks(*of_picture) for of_picture in zip(probability[:, :count], joints, reach * size, strict=True)
        ])  # fmt: skip
    # grid_sample over (joint, person) pairs: each joint reads its own map.
    size = torch.tensor([max(width - 1, 1), max(height - 1, 1)], device=joints.device)
    grid = (joints / size * 2 - 1).transpose(1, 2).reshape(batch * count, most, 1, 2)
    maps = probability[:, :count].reshape(batch * count, 1, height, width)
    heat = functional.grid_sample(maps, grid, align_corners=True, padding_mode="zeros")
    heat = heat.reshape(batch, count, most).transpose(1, 2)

    found = []
    limit = torch.tensor([width * stride - 1.0, height * stride - 1.0] * 2, device=boxes.device)
    boxes = torch.minimum(boxes.clamp(min=0), limit)
    host = [t.cpu().numpy() for t in (boxes, scores, joints * stride, heat)]  # all pictures at once
    for b in range(batch):
        sure = host[1][b] >= floor
        part = [values[b][sure] for values in host]
        kept = keep_boxes(part[0], part[1], overlap)
        found.append(FoundPeople(*(p[kept].astype(np.float32) for p in part)))
    return found


#: Where the heat, less what its distance costs, is nowhere higher a joint is not seen.
_SEEN = 0.05


def moved_to_peaks(heat: Tensor, joints: Tensor, reach: Tensor) -> Tensor:
    """Regressed joints, moved to where their heat maps are highest near by.

    A pose that is read at one place is right as a whole and its hands and feet are off; heat maps are exact and don't
    know whose a joint is. Zhou, Wang, Kraehenbuehl, "Objects as Points", 2019, https://arxiv.org/abs/1904.07850,
    Sec. 4.2: a regressed joint is assigned to the closest detected one. Here what is near counts the more, by a
    Gaussian, and a joint that is seen nowhere near stays where it was regressed.

    Args:
        heat: (K, h, w) in [0, 1]. joints: (N, K, 2) cells. reach: (N,) cells, sigma of the Gaussian.

    Returns:
        (N, K, 2) cells: the highest cell and its neighbours, by their heat.
    """
    count, height, width = heat.shape
    x, y = (torch.arange(n, device=heat.device, dtype=heat.dtype) for n in (width, height))
    near = 2 * reach[:, None, None] ** 2
    by_x = torch.exp(-((x - joints[..., :1]) ** 2) / near)  # (N, K, w)
    by_y = torch.exp(-((y - joints[..., 1:]) ** 2) / near)
    found, index = (heat * by_y[..., None] * by_x[..., None, :]).flatten(2).max(2)  # (N, K)
    peak = torch.stack([index % width, index // width], 2)
    step = torch.tensor([[i, j] for j in (-1, 0, 1) for i in (-1, 0, 1)], device=heat.device)
    cells = peak[:, :, None] + step  # (N, K, 9, 2)
    there = ((cells >= 0) & (cells < cells.new_tensor([width, height]))).all(-1)
    flat = (cells[..., 1] * width + cells[..., 0]).clamp(0, height * width - 1)
    values = heat.flatten(1)[torch.arange(count, device=heat.device)[None, :, None], flat] * there
    mean = (cells * values[..., None]).sum(2) / values.sum(2, keepdim=True).clamp(min=1e-6)
    return torch.where(found[..., None] >= _SEEN, mean, joints)


def merge_scales(
    looks: Sequence[FoundPeople],
    ratios: Sequence[float],
    *,
    smallest: float = 0.0,
    largest: float = math.inf,
    overlap: float = 0.6,
    inside: float = 1.0,
) -> FoundPeople:
    """People of one picture seen at several scales (Singh and Davis, "SNIP", CVPR 2018, https://arxiv.org/abs/1711.08189).

    Each look is trusted within a range of sizes only (Sec. 5): the finest not with large people, whose limbs it may
    take for people, the coarsest not with small ones.

    Args:
        looks: people in input pixels of their own scale, the finest look first.
        ratios: pixels of the result to a pixel of each look.
        smallest, largest: longer box side in the look's own pixels; below the first only the finest look counts, above
            the second only the coarsest.
        overlap, inside: see `keep_boxes`.

    Returns:
        The best of the boxes that overlap, moved to the mean of all that overlap it by `VOTE_OVERLAP`, weighted by the
        square of their scores (Gidaris and Komodakis, "Object Detection via a Multi-Region and Semantic
        Segmentation-Aware CNN Model", ICCV 2015, Sec. 5, box voting).
    """
    parts: list[list[np.ndarray]] = [[], [], [], []]
    for place, (look, ratio) in enumerate(zip(looks, ratios, strict=True)):
        longer = (look.boxes_xyxy[:, 2:] - look.boxes_xyxy[:, :2]).max(1, initial=0)
        trusted = np.ones(len(longer), bool)
        if place > 0:
            trusted &= longer >= smallest
        if place < len(looks) - 1:
            trusted &= longer <= largest
        moved = [(values[trusted] + 0.5) * ratio - 0.5 for values in (look.boxes_xyxy, look.xy)]
        for part, values in zip(
            parts, (moved[0], look.scores[trusted], moved[1], look.joint_scores[trusted]), strict=True
        ):
            part.append(values.astype(np.float32))
    joined = [np.concatenate(part) for part in parts]
    kept = keep_boxes(joined[0], joined[1], overlap, inside)
    votes = (box_iou(joined[0][kept], joined[0]) > VOTE_OVERLAP) * joined[1] ** 2
    voted = votes @ joined[0] / np.maximum(votes.sum(1, keepdims=True), 1e-12)
    return FoundPeople(voted.astype(np.float32), *(values[kept] for values in joined[1:]))


def keep_boxes(boxes_xyxy: np.ndarray, scores: np.ndarray, overlap: float, inside: float = 1.0) -> np.ndarray:
    """Indices of the boxes (N, 4) left by greedy non-maximum suppression, best first; ties keep their order.

    A box is dropped when its intersection over union with a better one exceeds ``overlap``, or when more than the share
    ``inside`` of the smaller of the two lies within the other (1: never).
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    related = box_iou(boxes_xyxy, boxes_xyxy) > overlap
    if inside < 1:
        low = np.maximum(boxes_xyxy[:, None, :2], boxes_xyxy[None, :, :2])
        high = np.minimum(boxes_xyxy[:, None, 2:], boxes_xyxy[None, :, 2:])
        area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(1)
        smaller = np.minimum(area[:, None], area[None])
        related |= np.clip(high - low, 0, None).prod(2) > inside * smaller
    kept: list[int] = []
    for i in order:
        if not related[i, kept].any():
            kept.append(int(i))
    return np.array(kept, dtype=np.int64)
