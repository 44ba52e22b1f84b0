"""FastPose: a residual network with squeeze-and-excitation, enlarged by pixel shuffling; AlphaPose's pose network.

Fang, Li, Tang, Xu, Zhu, Xiu, Li, Lu, "AlphaPose: Whole-Body Regional Multi-Person Pose Estimation and Tracking in
Real-Time", TPAMI 2022, https://arxiv.org/abs/2211.03375 (Sec. 3.2, Fig. 4). Official code: MVIG-SJTU/AlphaPose@c60106d
(`alphapose/models/fastpose.py`, `fastpose_duc.py`, `layers/SE_Resnet.py`, `layers/DUC.py`), whose parameter names are
kept. Its parts:

- Hu, Shen, Sun, "Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507 (Sec. 3), here without
  reduction and only in the block of each stage that changes the shape, after its last norm.
- Wang, Chen, Yuan, Liu, Huang, Hou, Cottrell, "Understanding Convolution for Semantic Segmentation", WACV 2018,
  https://arxiv.org/abs/1702.08502 (Sec. 3.1, dense upsampling convolution: channels become pixels).
- Dai et al., "Deformable Convolutional Networks", ICCV 2017, in the 3x3 of the blocks of stages 2 to 4 (``dcn``).

    image (3, H, W) -> SE-ResNet C5 (2048, H/32, W/32) -> shuffle (512, H/16, W/16)
      -> [3x3 -> 1024, norm, ReLU, shuffle] (256, H/8, W/8) -> [3x3 -> 512, norm, ReLU, shuffle] (128, H/4, W/4)
      -> 3x3 convolution -> heat maps (K, H/4, W/4)

The variant with ``duc`` shuffles first and convolves after that, several times: (512, H/16, W/16) -> 1024,
(256, H/8, W/8) -> 512, (128, H/4, W/4) -> 256. Its trunk of 50 layers was given out with ``unshuffle``
(`layers/ShuffleResnet.py`): where a stage halves the size, 2x2 pixels become 4 channels before the 3x3 convolution,
which has stride 1 then, so that no pixel is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from posecli.models.deform import DeformConv2d
from posecli.models.layers import Bottleneck, HeatmapOutput, initialise
from posecli.models.resnet import PaperResNet


class SqueezeExcite(nn.Module):
    """Each channel times a factor of 0 to 1 that the means of all channels decide (Hu et al., Eq. 2 to 4)."""

    def __init__(self, channels: int):
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, channels), nn.ReLU(inplace=True), nn.Linear(channels, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to the same shape."""
        return x * self.fc(x.mean((-2, -1)))[..., None, None]


class SEBottleneck(Bottleneck):
    """The residual block: squeeze-and-excitation where the shape changes, deformable 3x3 with ``deformable``, pixels to
    channels in place of its stride with ``unshuffle``."""

    def __init__(
        self, channels_in: int, channels: int, stride: int = 1, deformable: bool = False, unshuffle: bool = False
    ):
        super().__init__(channels_in, channels, stride)
        self.deformable = deformable
        if unshuffle and stride == 2:
            convolution = nn.Conv2d(4 * channels, channels, 3, 1, 1, bias=False)
            self.conv2 = nn.Sequential(nn.PixelUnshuffle(2), convolution)  # type: ignore[assignment]
        if deformable:
            self.conv2_offset = nn.Conv2d(channels, 18, 3, stride, 1)
            self.conv2 = DeformConv2d(channels, channels, 3, stride, 1, bias=False)
        changes = not isinstance(self.downsample, nn.Identity)
        self.se = SqueezeExcite(channels * self.expansion) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.conv2(out, self.conv2_offset(out)) if self.deformable else self.conv2(out)
        out = self.bn3(self.conv3(self.relu(self.bn2(out))))
        return self.relu(self.se(out) + self.downsample(x))


class ShuffleUp(nn.Module):
    """Dense upsampling convolution: 3x3 to four times ``channels_out``, norm, ReLU, then 4 channels to 2x2 pixels."""

    def __init__(self, channels_in: int, channels_out: int):
        super().__init__()
        self.conv = nn.Conv2d(channels_in, 4 * channels_out, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(4 * channels_out)
        self.relu = nn.ReLU(inplace=True)
        self.pixel_shuffle = nn.PixelShuffle(2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) to (B, C', 2 h, 2 w)."""
        return self.pixel_shuffle(self.relu(self.bn(self.conv(x))))


def shuffle_stage(channels_in: int, channels_out: int, convolutions: int) -> nn.Sequential:
    """4 channels to 2x2 pixels, then 3x3 convolutions with norm and ReLU, the last to ``channels_out``."""
    within = channels_in // 4
    layers: list[nn.Module] = [nn.PixelShuffle(2)]
    for last in [False] * (convolutions - 1) + [True]:
        channels = channels_out if last else within
        layers += [nn.Conv2d(within, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class FastPose(nn.Module):
    """Crop to one heat map for each keypoint, Gaussians of height 1 around it.

    Args:
        keypoints: K.
        blocks: of the four stages (ResNet-50: 3, 4, 6, 3).
        dcn: deformable convolutions in stages 2 to 4.
        duc: convolutions in each of the three stages after the trunk; None for FastPose itself, which has two.
        width: of the trunk's first stage (64 in the paper).
        unshuffle: pixels become channels where stages 2 to 4 halve the size; not with ``dcn``.
    """

    stride = 4
    size_step = 32

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int] = (3, 4, 6, 3),
        dcn: bool = False,
        duc: Sequence[int] | None = None,
        width: int = 64,
        unshuffle: bool = False,
    ):
        super().__init__()
        if dcn and unshuffle:
            raise ValueError("dcn or unshuffle: deformable convolutions have a stride of their own")
        makers = [partial(SEBottleneck, deformable=dcn and stage > 0, unshuffle=unshuffle) for stage in range(4)]
        self.preact = PaperResNet(blocks, width, makers)
        channels = self.preact.channels
        if duc is None:
            self.suffle1 = nn.PixelShuffle(2)
            self.duc1 = ShuffleUp(channels // 4, channels // 8)
            self.duc2 = ShuffleUp(channels // 8, channels // 16)
            last = channels // 16
        else:
            if len(duc) != 3 or min(duc) < 1:
                raise ValueError(f"duc: convolutions of three stages wanted, got {list(duc)}")
            self.duc1 = shuffle_stage(channels, channels // 2, duc[0])  # type: ignore[assignment]
            self.duc2 = shuffle_stage(channels // 2, channels // 4, duc[1])  # type: ignore[assignment]
            self.duc3 = shuffle_stage(channels // 4, channels // 8, duc[2])
            last = channels // 8
        self.shuffles_first = duc is not None
        self.conv_out = nn.Conv2d(last, keypoints, 3, 1, 1)
        initialise(self)
        for module in self.modules():
            if isinstance(module, SEBottleneck) and module.deformable:
                # Samples start on the regular grid (Dai et al., Sec. 3.1).
                nn.init.zeros_(module.conv2_offset.weight)
        nn.init.normal_(self.conv_out.weight, std=0.001)

    def forward(self, image: Tensor) -> HeatmapOutput:
        """(B, 3, H, W), H and W multiples of 32, to heatmap (B, K, H / 4, W / 4)."""
        x = self.preact(image)
        x = self.duc3(self.duc2(self.duc1(x))) if self.shuffles_first else self.duc2(self.duc1(self.suffle1(x)))
        return HeatmapOutput(self.conv_out(x))
