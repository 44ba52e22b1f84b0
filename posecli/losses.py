"""Published losses as small functions that return a sum and what it is divided by.

The two parts stay apart so that a trainer can add both over micro-batches and ranks before dividing: the loss of a
batch then does not depend on how it was spread.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LossSum(NamedTuple):
    """``total`` (a scalar with gradient) and ``divisor``, the scalar to divide it by (without gradient)."""

    total: Tensor
    divisor: Tensor

    @property
    def mean(self) -> Tensor:
        """The loss of this batch alone; 0 where nothing counts."""
        return self.total / self.divisor.clamp(min=1)


def joint_mse(heatmap: Tensor, target: Tensor, weight: Tensor) -> LossSum:
    """HRNet's and SimpleBaseline's loss: half the squared error of each joint's map, mean over pixels and joints.

    Xiao, Wu, Wei, ECCV 2018, Sec. 2; leoxiaobin/deep-high-resolution-net.pytorch@6f69e46 (`lib/core/loss.py`,
    `JointsMSELoss` with `USE_TARGET_WEIGHT`): the weight multiplies prediction and target, so it enters squared, and
    unlabelled joints still count in the mean.

    Args:
        heatmap, target: (B, K, h, w).
        weight: (B, K), 0 for joints without a label.
    """
    error = (heatmap.float() - target) * weight[..., None, None]
    return LossSum(0.5 * error.square().sum(), _size(heatmap))


def heatmap_error(heatmap: Tensor, target: Tensor, weight: Tensor) -> LossSum:
    """Tompson et al.'s loss: the squared error of each joint's map summed over its pixels, mean over the joints.

    CVPR 2015, Eq. 1 (coarse maps) and Eq. 2 (fine maps), with joints without a label left out of the sum.

    Args:
        heatmap, target: (B, K, h, w).
        weight: (B, K), 0 for joints without a label.
    """
    error = (heatmap.float() - target).square().sum((2, 3)) * weight
    return LossSum(error.sum(), torch.tensor(float(weight.numel()), device=heatmap.device))


#: Weight of the fine maps' loss beside the coarse maps' (lambda of Tompson et al., CVPR 2015, Eq. 3).
TOMPSON_FINE_FACTOR = 0.1


def hard_keypoint_mse(heatmap: Tensor, target: Tensor, weight: Tensor, hardest: int = 8) -> LossSum:
    """CPN's online hard keypoint mining: the mean squared error of each person's worst joints, mean over people.

    Chen et al., CVPR 2018, Sec. 3.2.2 and Table 3 (8 of COCO's 17); GengDavid/pytorch-cpn@48696a9
    (`256.192.model/train.py`, `ohkm`). Unlabelled joints have no error, and so are learnt from only where there are
    fewer labelled ones than `hardest`: they add nothing then.

    Args:
        heatmap, target: (B, K, h, w).
        weight: (B, K), 0 for joints without a label.
        hardest: joints of each person that count; all of them where K is less.
    """
    error = (heatmap.float() - target).square().mean((2, 3)) * weight
    worst = error.topk(min(hardest, error.shape[1]), dim=1).values
    return LossSum(worst.mean(1).sum(), torch.tensor(float(len(error)), device=error.device))


def dekr_heatmap_loss(heatmap: Tensor, target: Tensor, weight: Tensor) -> LossSum:
    """DEKR's heat map loss: weighted squared error, mean over all pixels and channels.

    Geng et al., CVPR 2021, Sec. 3.3 (Eq. 7); HRNet/DEKR@7a30313 (`lib/core/loss.py`).

    Args:
        heatmap, target: (B, K + 1, h, w).
        weight: (B, K + 1, h, w): 1 near keypoints, 0.1 elsewhere (`posecli.codecs.offsets.encode_heatmap`), 0 in
            crowd regions and for joints that the data set does not label.
    """
    return LossSum(((heatmap.float() - target).square() * weight).sum(), _size(heatmap))


def dekr_offset_loss(offset: Tensor, target: Tensor, weight: Tensor, beta: float = 1 / 9) -> LossSum:
    """DEKR's offset loss: smooth L1, weighted by the inverse size of the person, over the number of values that count.

    Geng et al., CVPR 2021, Sec. 3.3 (Eq. 6); HRNet/DEKR@7a30313 (`lib/core/loss.py`).

    Args:
        offset, target: (B, 2 K, h, w) map pixels.
        weight: (B, 2 K, h, w): 1/sqrt(W^2 + H^2) of the person whose offsets stand there, else 0.
        beta: error below which the loss is quadratic.
    """
    error = (offset.float() - target).abs()
    loss = torch.where(error < beta, 0.5 * error.square() / beta, error - 0.5 * beta)
    return LossSum((loss * weight).sum(), (weight > 0).sum().to(loss.dtype))


def steadiness_loss(error: Tensor, weight: Tensor, beta: float = 1 / 9) -> LossSum:
    """How much the errors of poses change from frame to frame: smooth L1, weighted as DEKR's offset loss.

    A pose that moves as the person does costs nothing, wherever it lies; one that stands still while the person moves,
    or trembles, costs. Ours.

    Args:
        error: (B, T, N, K, 2) found less true place, map pixels.
        weight: (B, T, N, K): 1/size of the person, 0 for joints without a label; both frames must have one.
        beta: as in `dekr_offset_loss`.
    """
    both = (weight[:, 1:] > 0) & (weight[:, :-1] > 0)
    change = (error[:, 1:] - error[:, :-1]).float().abs()
    loss = torch.where(change < beta, 0.5 * change.square() / beta, change - 0.5 * beta)
    weight = torch.where(both, (weight[:, 1:] + weight[:, :-1]) / 2, torch.zeros_like(weight[:, 1:]))
    return LossSum((loss * weight[..., None]).sum(), 2 * both.sum().to(loss.dtype))


#: Weight of the offset loss beside the heat map loss (lambda of Eq. 8).
DEKR_OFFSET_FACTOR = 0.03


def _size(maps: Tensor) -> Tensor:
    return torch.tensor(float(maps.numel()), device=maps.device)
