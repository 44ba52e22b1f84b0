"""The network that predicts how good a DEKR pose is from its shape (rescoring).

Geng, Sun, Xiao, Zhang, Wang, CVPR 2021, https://arxiv.org/abs/2104.02300, Sec. 4.1 ("a pose scoring network").
Official code: HRNet/DEKR@7a30313 (`lib/utils/rescore.py`, `lib/models/predictOKS.py`).

Known for two skeletons only, because its features are lists of limbs and two of them normalise the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from posecli.errors import PoseError

#: The name it is trained under and stored with.
RESCORE_MODEL = "dekr-rescore"

#: Limbs (a, b) in the official order; numbers 9 and 11 are the two whose mean length normalises the rest.
RESCORE_LIMBS: dict[str, tuple[tuple[int, int], ...]] = {
    "coco17": (
        (0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 5), (4, 6), (5, 6), (5, 7), (5, 11), (6, 8), (6, 12), (7, 9),
        (8, 10), (11, 12), (11, 13), (12, 14), (13, 15), (14, 16),
    ),
    "crowdpose14": (
        (12, 13), (13, 0), (13, 1), (0, 2), (1, 3), (2, 4), (3, 5), (0, 6), (1, 7), (6, 8), (7, 9), (8, 10), (9, 11),
        (6, 7), (0, 1),
    ),
}  # fmt: skip


def rescore_features(poses: Tensor, skeleton: str) -> Tensor:
    """What the rescoring network sees of each pose.

    Args:
        poses: (N, K, 3) x, y (image pixels) and joint score.
        skeleton: ``"coco17"`` or ``"crowdpose14"``.

    Returns:
        (N, 3 L + K) float32: L limb vectors a - b over the normalising length (x0 y0 x1 ...), their lengths over the
        same, K joint scores. The normalising length is the mean of limbs 9 and 11, at least 1 pixel.
    """
    if skeleton not in RESCORE_LIMBS:
        raise PoseError(f"no rescoring features for skeleton {skeleton!r}", hint=f"known: {', '.join(RESCORE_LIMBS)}")
    limbs = torch.tensor(RESCORE_LIMBS[skeleton], device=poses.device)
    vectors = poses[:, limbs[:, 0], :2] - poses[:, limbs[:, 1], :2]
    lengths = vectors.square().sum(-1).sqrt()
    unit = ((lengths[:, 9] + lengths[:, 11]) / 2).clamp(min=1)[:, None]
    return torch.cat([(vectors / unit[..., None]).flatten(1), lengths / unit, poses[..., 2]], dim=1).float()


class RescoreNet(nn.Module):
    """Three linear layers; (N, features) to (N, 1), an estimate of the pose's OKS.

    Multiply the old pose score with it; treat NaN as 0 (official code).
    """

    def __init__(self, features: int, hidden: int = 256):
        super().__init__()
        self.l1 = nn.Linear(features, hidden)
        self.l2 = nn.Linear(hidden, hidden)
        self.l3 = nn.Linear(hidden, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self.l3(torch.relu(self.l2(torch.relu(self.l1(features)))))


def rescore(network: RescoreNet, poses: Tensor, scores: Tensor, skeleton: str) -> Tensor:
    """New pose scores (N,): the network's estimate times the old scores (N,); NaN counts as 0."""
    if not len(poses):
        return scores
    with torch.no_grad():
        estimate = network(rescore_features(poses, skeleton))[:, 0]
    return torch.nan_to_num(estimate, nan=0.0) * scores
