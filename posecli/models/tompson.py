"""Tompson et al.: coarse heat maps from three resolutions, then fine ones around each coarse maximum.

Tompson, Goroshin, Jain, LeCun, Bregler, "Efficient Object Localization Using Convolutional Networks", CVPR 2015,
https://arxiv.org/abs/1411.4280 (Fig. 2 the coarse network, Sec. 3.2 SpatialDropout, Fig. 4 to 7 the cascade). The
coarse network is that of Tompson, Jain, LeCun, Bregler, "Joint Training of a Convolutional Network and a Graphical
Model for Human Pose Estimation", NIPS 2014, https://arxiv.org/abs/1406.2984 (Sec. 3.1). No code or weights were
published.

    image -> pyramid of 3 -> local contrast normalisation -> 3 banks (5x5, pool, ..., 9x9) -> +
          -> SpatialDropout -> 1x1, 1x1, 1x1 -> coarse maps (K, h, w)
    coarse maps -> argmax -> a window for each joint, of the first two layers of each bank
          -> 5x5, 5x5 (for all joints) -> + -> 1x1 -> 1x1 (one for each joint) -> fine maps (K, n, n)

The banks slide fully connected networks over the picture: the 9x9 convolution and the 1x1 ones after it are the layers
that such a network would have for one patch (NIPS 2014, Sec. 3.1). Every bank sees the same pixels at half the
resolution of the one before, so a patch of twice the side; its features are enlarged and added.

The second network is Siamese: one and the same for all joints but for the last 1x1 (Sec. 4.1). It sees nothing but the
features that the coarse one has computed already, cut out at each resolution so that the windows show the same part of
the picture, and corrects the place for what pooling lost.

Chosen here, as the text leaves it open: ``window``, the sizes of the fine network's layers, the rate of dropout, where
16x pooling has its fourth pool (after a fourth 5x5 layer), and the last layer of the fine network starting from zero:
before it has learnt anything its maps are empty, and the decoder keeps the coarse place. The papers' graphical model,
which picks one person among several by a given torso, is left out: a top-down crop does that.

Coordinates: a pixel u at stride s lies in the middle of the input pixels that it was made from, s u + (s - 1) / 2.
"""

from __future__ import annotations

import itertools
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import HeatmapOutput

#: Which of the three learns (Sec. 4.2): the coarse network alone; the fine one on a fixed coarse one; both.
PHASES = ("coarse", "fine", "joint")
#: Ways to split the picture into resolutions: CVPR 2015 Sec. 3.1 has "gaussian", NIPS 2014 "laplacian".
PYRAMIDS = ("laplacian", "gaussian")
BANKS = 3


class TompsonOutput(NamedTuple):
    """`heatmap` (B, K, h, w), the coarse maps; `fine` (B, K, n, n), at the input's resolution; `corner` (B, K, 2), x
    and y of the fine maps' first pixel in input pixels (their last is n - 1 further)."""

    heatmap: Tensor
    fine: Tensor
    corner: Tensor


class LocalContrast(nn.Module):
    """Local contrast normalisation: the neighbourhood's mean is taken away, and what is left divided by its deviation.

    Jarrett, Kavukcuoglu, Ranzato, LeCun, "What is the Best Multi-Stage Architecture for Object Recognition?", ICCV
    2009, Sec. 2: v = x - sum w x; y = v / max(c, s), where s = sqrt(sum w v^2) and c is the mean of s over the picture,
    so that noise in flat parts is not blown up. The weights are a Gaussian of ``size`` pixels (deviation a quarter of
    it), the same for all channels, whose mean is taken; at the border they are those inside, summing to one.
    """

    least = 1e-4

    def __init__(self, size: int = 9):
        super().__init__()
        if size % 2 == 0:
            raise ValueError(f"the window of the contrast normalisation is of odd size, not {size}")
        # With values also where the network is an outline: computing without takes PyTorch a second to prepare.
        taps = torch.exp(-0.5 * ((torch.arange(size, device="cpu") - size // 2) / (size / 4)).square())
        self.register_buffer("taps", taps / taps.sum(), persistent=False)

    def _smooth(self, x: Tensor) -> Tensor:
        """Weighted means (B, 1, H, W)."""
        taps, side = self.get_buffer("taps"), len(self.get_buffer("taps")) // 2

        def sums(values: Tensor) -> Tensor:
            values = functional.conv2d(values, taps.view(1, 1, 1, -1), padding=(0, side))
            return functional.conv2d(values, taps.view(1, 1, -1, 1), padding=(side, 0))

        return sums(x) / sums(torch.ones_like(x[:1]))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        v = x - self._smooth(x.mean(1, keepdim=True))
        deviation = self._smooth(v.square().mean(1, keepdim=True)).sqrt()
        return v / deviation.clamp(min=self.least).maximum(deviation.mean((2, 3), keepdim=True))


def halve(x: Tensor) -> Tensor:
    """(B, C, H, W), even sizes, to (B, C, H / 2, W / 2), smoothed by the binomial 1 3 3 1 in both directions."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return functional.conv2d(functional.pad(x, (1, 1, 1, 1), "replicate"), kernel, stride=2, groups=x.shape[1])


def enlarge(x: Tensor, factor: int) -> Tensor:
    """(B, C, h, w) to (B, C, factor h, factor w), bilinear; pixels stay in the middle of those they stand for."""
    if factor == 1:
        return x
    return functional.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


def pyramid(image: Tensor, kind: str = "laplacian") -> list[Tensor]:
    """The picture at stride 1, 2 and 4. "laplacian": what each level shows beyond the next; the last as it is."""
    levels = [image]
    for _ in range(BANKS - 1):
        levels.append(halve(levels[-1]))
    if kind == "laplacian":
        levels[:-1] = [here - enlarge(below, 2) for here, below in itertools.pairwise(levels)]
    return levels


class Bank(nn.Module):
    """One resolution: 5x5 convolutions with ReLU, the first with 2x2 pools after them, and the 9x9 one (Fig. 2)."""

    def __init__(self, pools: int, channels: int, wide: int):
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels, 5, padding=2)
        self.conv2 = nn.Conv2d(channels, channels, 5, padding=2)
        self.rest = nn.Sequential()
        for stage in range(2, max(pools, 3)):
            self.rest.extend([nn.Conv2d(channels, channels, 5, padding=2), nn.ReLU()])
            if stage < pools:
                self.rest.append(nn.MaxPool2d(2))
        self.wide = nn.Conv2d(channels, wide, 9, padding=4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, 3, H, W) to the first two layers, at stride 1 and 2, and the features at the stride of the pools."""
        first = functional.relu(self.conv1(x))
        second = functional.relu(self.conv2(functional.max_pool2d(first, 2)))
        return first, second, functional.relu(self.wide(self.rest(functional.max_pool2d(second, 2))))


def crop_windows(features: Tensor, corner: Tensor, stride: int, window: int) -> Tensor:
    """The same window of the input, cut out of features of any stride (Fig. 5); zeros beyond the picture.

    Args:
        features: (B, C, h, w) at ``stride``.
        corner: (B, K, 2) x and y of the windows' first input pixels.
        window: their side in input pixels, a multiple of ``stride``.

    Returns:
        (B, K, C, window / stride, window / stride). A corner that lies on the features' pixels (a multiple of the
        stride) takes them as they are, others in between (bilinear). Gradients flow back to the pixels taken.
    """
    batch, channels, height, width = features.shape
    joints, side = corner.shape[1], window // stride
    wide = torch.promote_types(features.dtype, torch.float32)
    steps = torch.arange(side, device=features.device, dtype=wide)
    # Feature pixel j of the window: in input pixels corner + s j + (s - 1) / 2, so in feature pixels corner / s + j.
    places = corner.to(wide)[..., None] / stride + steps  # (B, K, 2, side)
    x = (2 * places[:, :, 0] + 1) / width - 1
    y = (2 * places[:, :, 1] + 1) / height - 1
    grid = torch.stack(
        [x[:, :, None, :].expand(-1, -1, side, -1), y[:, :, :, None].expand(-1, -1, -1, side)], dim=-1
    ).reshape(batch, joints * side, side, 2)
    taken = functional.grid_sample(features.to(wide), grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return taken.view(batch, channels, joints, side, side).transpose(1, 2)


class FineNetwork(nn.Module):
    """Windows of the banks' first two layers to one fine map for each joint (Fig. 6 and 7).

    Each kind of window has 5x5 convolutions of its own; their features are enlarged to the input's resolution, added
    and mixed by a 1x1. All that is shared by the joints; ``last`` is not: a group of its own for each.
    """

    def __init__(self, keypoints: int, channels: int, width: int, strides: tuple[int, ...]):
        super().__init__()
        self.strides = strides
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, width, 5, padding=2),
                nn.ReLU(),
                nn.Conv2d(width, width, 5, padding=2),
                nn.ReLU(),
            )
            for _ in strides
        )
        self.mix = nn.Conv2d(width, width, 1)
        self.last = nn.Conv2d(keypoints * width, keypoints, 1, groups=keypoints)

    def forward(self, windows: list[Tensor]) -> Tensor:
        """(B, K, C, n / s, n / s) for each stride s, to (B, K, n, n)."""
        parts = [
            enlarge(branch(crops.flatten(0, 1)), stride)
            for branch, crops, stride in zip(self.branches, windows, self.strides, strict=True)
        ]
        mixed = functional.relu(self.mix(torch.stack(parts).sum(0)))
        return self.last(mixed.reshape(windows[0].shape[0], -1, *mixed.shape[-2:]))


class Tompson(nn.Module):
    """The crop of one person to a coarse heat map of each keypoint and a fine one around its highest pixel.

    Args:
        keypoints: K.
        pooling: 4, 8 or 16: input pixels that a coarse pixel stands for (the paper's 4x, 8x and 16x models).
        channels: of the 5x5 layers (128). wide: of the 9x9 layer and the first 1x1 (512). hidden: of the second (256).
        dropout: share of feature maps that SpatialDropout sets to zero, before the first 1x1 (Sec. 3.2).
        cascade: whether there is a fine network; without, only coarse maps are given.
        window: side of the fine maps in input pixels, a multiple of 8. fine: channels of the fine network.
        pyramid: one of `PYRAMIDS`.

    Attributes:
        stride: ``pooling``. phase: one of `PHASES`, what a training pass computes and learns; without meaning in
            evaluation. phased: parts of the network may have no gradient in a step. size_step: heights and widths are
            multiples of it.
    """

    phased = True

    def __init__(
        self,
        keypoints: int,
        pooling: int = 4,
        channels: int = 128,
        wide: int = 512,
        hidden: int = 256,
        dropout: float = 0.5,
        cascade: bool = True,
        window: int = 40,
        fine: int = 128,
        pyramid: str = "laplacian",
    ):
        super().__init__()
        if pooling not in (4, 8, 16):
            raise ValueError(f"pooling is 4, 8 or 16, not {pooling}")
        if window < 8 or window % 8:
            raise ValueError(f"the window's side is a multiple of 8, not {window}")
        if pyramid not in PYRAMIDS:
            raise ValueError(f"the pyramid is {' or '.join(PYRAMIDS)}, not {pyramid!r}")
        self.stride, self.window, self.pyramid, self.phase = pooling, window, pyramid, "joint"
        self.size_step = pooling * 2 ** (BANKS - 1)
        self.contrast = LocalContrast()
        self.banks = nn.ModuleList(Bank(pooling.bit_length() - 1, channels, wide) for _ in range(BANKS))
        # nn.Dropout2d is SpatialDropout: one throw for each feature map, the rest scaled up, nothing in evaluation.
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Sequential(
            nn.Conv2d(wide, wide, 1), nn.ReLU(), nn.Conv2d(wide, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, keypoints, 1)
        )
        strides = tuple(s for bank in range(BANKS) for s in (2**bank, 2 ** (bank + 1)))
        self.fine = FineNetwork(keypoints, channels, fine, strides) if cascade else None
        self._initialise()

    def _initialise(self) -> None:
        """He's rule by fan-in (no norms here); the last layers start from next to nothing, the fine one from zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        last = self.classifier[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=1e-3)
        if self.fine is not None:
            nn.init.zeros_(self.fine.last.weight)

    def coarse(self, image: Tensor, drop: bool = True) -> tuple[list[Tensor], Tensor]:
        """Coarse heat maps (B, K, H / p, W / p), and the first two layers of each bank, from stride 1, 2 to 4, 8."""
        early: list[Tensor] = []
        total: Any = 0
        for number, (level, bank) in enumerate(zip(pyramid(image, self.pyramid), self.banks, strict=True)):
            first, second, features = bank(self.contrast(level))
            early += [first, second]
            total = total + enlarge(features, 2**number)
        return early, self.classifier(self.dropout(total) if drop else total)

    def corners(self, heatmap: Tensor) -> Tensor:
        """(B, K, 2): first input pixel of the window around each map's highest pixel; whole numbers."""
        index = heatmap.detach().flatten(2).argmax(-1)
        width = heatmap.shape[-1]
        pixel = torch.stack([index % width, torch.div(index, width, rounding_mode="floor")], dim=-1)
        # The pixel's middle p u + (p - 1) / 2, less half the window's extent (n - 1) / 2.
        return (self.stride * pixel + (self.stride - self.window) // 2).to(torch.float32)

    def forward(self, image: Tensor) -> TompsonOutput | HeatmapOutput:
        """(B, 3, H, W), multiples of `size_step`; coarse maps alone where there is no fine network, or training has not
        come to it yet."""
        if image.shape[-1] % self.size_step or image.shape[-2] % self.size_step:
            raise ValueError(
                f"with {self.stride}x pooling heights and widths are multiples of {self.size_step}, "
                f"got {tuple(image.shape)}"
            )
        fixed = self.training and self.phase == "fine"
        with _without_gradient(fixed):
            early, heatmap = self.coarse(image, drop=not fixed)
        if self.fine is None or (self.training and self.phase == "coarse"):
            return HeatmapOutput(heatmap)
        corner = self.corners(heatmap)
        windows = [
            crop_windows(features, corner, stride, self.window)
            for features, stride in zip(early, self.fine.strides, strict=True)
        ]
        return TompsonOutput(heatmap, self.fine(windows), corner)


def _without_gradient(wanted: bool) -> AbstractContextManager[Any]:
    return torch.no_grad() if wanted else nullcontext()
