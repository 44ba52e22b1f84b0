"""SimpleBaseline: a residual network and a few transposed convolutions, for one person's crop.

Xiao, Wu, Wei, "Simple Baselines for Human Pose Estimation and Tracking", ECCV 2018, https://arxiv.org/abs/1804.06208
(Fig. 1c, Sec. 2). Official code: microsoft/human-pose-estimation.pytorch@49f3f44 (`lib/models/pose_resnet.py`), whose
parameter names are kept.

    image (3, H, W) -> ResNet C5 (2048, H/32, W/32) -> 3 x [deconvolution 4x4 stride 2 -> 256, norm, ReLU]
                    -> 1x1 convolution -> heat maps (K, H/4, W/4)

The official code has two styles of bottleneck: "pytorch" halves the size in the 3x3 convolution, "caffe" in the first
1x1. Names and shapes of their parameters are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from posecli.models.layers import Bottleneck, HeatmapOutput, initialise
from posecli.models.resnet import PaperResNet


def deconvolutions(channels_in: int, channels: int, count: int, kernel: int = 4) -> nn.Sequential:
    """``count`` times a transposed convolution that doubles the size, norm and ReLU (Sec. 2)."""
    padding, output_padding = {4: (1, 0), 3: (1, 1), 2: (0, 0)}[kernel]
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [
            nn.ConvTranspose2d(channels_in, channels, kernel, 2, padding, output_padding, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        ]
        channels_in = channels
    return nn.Sequential(*layers)


class SimpleBaseline(PaperResNet):
    """Crop to one heat map for each keypoint: Gaussians of height 1 (codecs `gaussian`, `dark`, ...).

    Args:
        keypoints: K.
        blocks: of the four stages (ResNet-50: 3, 4, 6, 3).
        style: "pytorch" or "caffe", see the module.
        deconv: transposed convolutions (3 in the paper; 2 leave the maps at an eighth of the input).
        channels: of the transposed convolutions (256 in the paper).
        kernel: of the transposed convolutions: 4 (the paper's choice), 3 or 2 (its ablation, Table 2).
        width: of the trunk's first stage (64 in the paper).
    """

    def __init__(
        self,
        keypoints: int,
        blocks: Sequence[int] = (3, 4, 6, 3),
        style: str = "pytorch",
        deconv: int = 3,
        channels: int = 256,
        kernel: int = 4,
        width: int = 64,
    ):
        if style not in ("pytorch", "caffe"):
            raise ValueError(f"style {style!r}: pytorch or caffe wanted")
        if deconv < 1 or kernel not in (2, 3, 4):
            raise ValueError(f"one or more deconvolutions with kernel 2, 3 or 4 wanted, got {deconv} with {kernel}")
        super().__init__(blocks, width, partial(Bottleneck, caffe=style == "caffe"))
        self.stride = 32 // 2**deconv
        self.deconv_layers = deconvolutions(self.channels, channels, deconv, kernel)
        self.final_layer = nn.Conv2d(channels, keypoints, 1)
        initialise(self)
        nn.init.normal_(self.final_layer.weight, std=0.001)

    def forward(self, image: Tensor) -> HeatmapOutput:  # type: ignore[override]
        """(B, 3, H, W), H and W multiples of 32, to heatmap (B, K, H / stride, W / stride)."""
        return HeatmapOutput(self.final_layer(self.deconv_layers(self.maps(image)[-1])))
