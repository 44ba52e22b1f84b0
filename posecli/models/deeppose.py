"""DeepPose: joints as numbers, regressed from the person's picture and then corrected from a closer look at each.

Toshev, Szegedy, "DeepPose: Human Pose Estimation via Deep Neural Networks", CVPR 2014, https://arxiv.org/abs/1312.4659
(Fig. 2: a stage; Fig. 3: the cascade). There is no official code.

    image (3, H, W) -> smaller -> stage 1 -> y (K, 2)                                  Eq. 2, 5
    for s = 2, 3, ...: sub-image around each joint, sides sigma diam(y)                Eq. 7
                       -> stage s -> displacement of that joint, added to its place    Eq. 6

A stage is a trunk and a linear layer with 2 K outputs; one network serves all joints of a stage, and of its outputs
those of the joint in the sub-image's middle count. All stages are alike and none shares weights with another. They
are learnt one after the other (`posecli.tasks.deeppose`).

The paper cuts its sub-images from the photograph, so that later stages see what the first stage's 220 x 220 pixels
cannot show. Here the photograph is the network's input: ``zoom`` times as large as what stage 1 sees of it. So the
whole cascade, sub-images included, is one graph.

Places in a picture are normalised by a box (`normalise`, Eq. 1): its centre is 0, its sides lie at -0.5 and 0.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import BasicBlock, conv_norm, initialise, is_exporting
from posecli.models.resnet import PaperResNet

#: A pose's diameter counts as at least this share of the picture's shorter side: a sub-image of a few pixels shows
#: nothing.
LEAST_DIAMETER = 0.1
#: Sub-images that go through a trunk together; of more, one joint's after the other's, which takes less memory.
_TOGETHER = 64


def normalise(xy: Tensor, centre: Tensor, size: Tensor) -> Tensor:
    """N(y; b) (Eq. 1): points (..., 2) relative to boxes with ``centre`` and ``size`` (..., 2), in the same unit."""
    return (xy - centre) / size


def denormalise(places: Tensor, centre: Tensor, size: Tensor) -> Tensor:
    """The inverse of `normalise`."""
    return places * size + centre


class DeepPoseOutput(NamedTuple):
    """`places` (B, S, K, 2): the joints after each stage, x and y normalised by the whole picture."""

    places: Tensor


class Refinement(NamedTuple):
    """What a stage after the first says of some joints while it is learnt.

    `displacement` (B, J, 2): from the middle of the sub-image to the joint, as shares of the sub-image's side.
    `boxes` (B, J, 3): middle (x, y) and side of the sub-images, in pixels of the picture.
    """

    displacement: Tensor
    boxes: Tensor


def sub_images(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Square regions of pictures, N(x; b): bilinear, grey (0, the mean colour) beyond the picture.

    Args:
        image: (B, C, H, W). boxes: (B, N, 3) middle (x, y) and side, pixels. side: of the result.

    Returns:
        (B, N, C, side, side).
    """
    batch, channels, height, width = image.shape
    steps = (torch.arange(side, device=image.device, dtype=boxes.dtype) + 0.5) / side - 0.5
    places = boxes[..., :2, None] + boxes[..., 2:, None] * steps  # (B, N, 2, side)
    # The pixel i of a row of n has its centre at (2 i + 1) / n - 1 for `grid_sample`.
    x, y = (2 * places[:, :, 0] + 1) / width - 1, (2 * places[:, :, 1] + 1) / height - 1
    count = boxes.shape[1]
    grid = torch.stack(
        [x[:, :, None].expand(-1, -1, side, -1), y[..., None].expand(-1, -1, -1, side)], dim=-1
    )  # (B, N, side, side, 2)
    # All regions of a picture below one another: the picture itself is then not copied for each.
    grid = grid.reshape(batch, count * side, side, 2).to(image.dtype)
    found = functional.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return found.reshape(batch, channels, count, side, side).transpose(1, 2)


class ResponseNorm(nn.Module):
    """Each value over a power of the squares at its pixel in the nearest 5 channels (AlexNet, Sec. 3.3; LRN here)."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        squares = functional.pad(x * x, (0, 0, 0, 0, 2, 2))
        total = sum((squares[:, n : n + channels] for n in range(1, 5)), squares[:, :channels])
        return x / (2 + 1e-4 * total) ** 0.75


def at_size(x: Tensor, side: int) -> Tensor:
    """Maps (B, C, h, w) brought to (B, C, side, side)."""
    if x.shape[-2:] == (side, side):
        return x
    return functional.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)


class AlexNetTrunk(nn.Module):
    """Fig. 2: C(55x55x96) - LRN - P - C(27x27x256) - LRN - P - C(13x13x384) - C(13x13x384) - C(13x13x256) - P - F - F.

    Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", NIPS 2012, on one
    device. (Its two fully connected layers alone have more parameters than the 40 million that Sec. 3.1 counts.)

    Args:
        width: channels of the first convolution (96), the others in proportion.
        features: of each of the fully connected layers F (4096).
        dropout: share of F's values left out while learning (0.6).
        stride: of the first convolution (4).
        grid: side of the last map; pictures of other sizes than the paper's are brought to it.
    """

    def __init__(
        self, width: int = 96, features: int = 4096, dropout: float = 0.6, stride: int = 4, grid: int = 6
    ) -> None:
        super().__init__()
        second, third = 8 * width // 3, 4 * width
        self.maps = nn.Sequential(
            nn.Conv2d(3, width, 11, stride, 4),
            nn.ReLU(inplace=True),
            ResponseNorm(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(width, second, 5, 1, 2),
            nn.ReLU(inplace=True),
            ResponseNorm(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(second, third, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(third, third, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(third, second, 3, 1, 1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2),
        )
        self.grid = grid
        self.fully = nn.Sequential(
            nn.Linear(second * grid * grid, features),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(features, features),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.channels = features
        initialise(self)
        for layer in self.fully:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, features)."""
        return self.fully(at_size(self.maps(image), self.grid).flatten(1))


class ResNetTrunk(PaperResNet):
    """A residual network and the mean of its last map, as later work has it (open-mmlab/mmpose@759b39c,
    `configs/body_2d_keypoint/topdown_regression`).

    Args:
        grid: side of the last map, brought to it and kept as it is, as the paper's own trunk keeps it; 0: its mean.
        arguments: of `PaperResNet`.
    """

    def __init__(self, grid: int = 0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.grid = grid
        if grid:
            self.channels *= grid * grid

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, h, w), multiples of 32, to (B, features)."""
        x = self.maps(image)[-1]
        return at_size(x, self.grid).flatten(1) if self.grid else x.mean((2, 3))


class PooledTrunk(nn.Module):
    """Of few channels, for small pictures and short runs: AlexNet's pooling, with norms and residual blocks.

    A 5x5 convolution of stride 2; then, three times, 2x2 max pooling, with a 3x3 convolution to twice the channels and
    a residual block between; the last map itself is the result. The design is ours.

    Args:
        width: channels of the first convolution, the others two and four times as many.
        grid: side of the last map; pictures of other sizes than 16 times that are brought to it.
    """

    def __init__(self, width: int = 24, grid: int = 3) -> None:
        super().__init__()
        parts: list[nn.Module] = [conv_norm(3, width, 5, 2), nn.MaxPool2d(2)]
        for channels in (width, 2 * width):
            parts += [conv_norm(channels, 2 * channels, 3), BasicBlock(2 * channels), nn.MaxPool2d(2)]
        self.maps = nn.Sequential(*parts)
        self.grid = grid
        self.channels = 4 * width * grid * grid

    def forward(self, image: Tensor) -> Tensor:
        """(B, 3, h, w) to (B, features)."""
        return at_size(self.maps(image), self.grid).flatten(1)


TRUNKS: dict[str, Callable[..., Any]] = {"alexnet": AlexNetTrunk, "resnet": ResNetTrunk, "pooled": PooledTrunk}


class Stage(nn.Module):
    """psi (Sec. 3.1): a picture to two numbers for each joint, (B, 3, h, w) to (B, K, 2)."""

    def __init__(self, trunk: nn.Module, channels: int, keypoints: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.fc = nn.Linear(channels, 2 * keypoints)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.trunk(image)).float().unflatten(1, (-1, 2))


class DeepPose(nn.Module):
    """The cascade.

    Args:
        keypoints: K.
        stages: S (3 in Sec. 4.1).
        trunk: of `TRUNKS`; further arguments are the trunk's.
        zoom: width of the picture over that of what stage 1 sees.
        side: of the sub-images (220, Sec. 3.1).
        sigma: side of a sub-image over the pose's diameter (2 for LSP, 1 for FLIC; Sec. 4.1).
        diameter: the two joints whose distance is the pose's diameter; the paper takes left shoulder and right hip.
            None: the longer side of the box around the pose.

    Attributes:
        phase: the stage that learns, from 0; the others stand still. phased: parts have no gradient in a step.
        error_mean, error_deviation: (S - 1, K, 2): of the errors of each stage's predictions on the pictures it learnt
            from, normalised by the picture; what the next stage's simulated predictions are drawn by (Sec. 3.2).
        surveyed: (S - 1,) 1 where these are known.
        multiple: widths and heights that the trunk takes are multiples of it. size_step: those of pictures.
    """

    error_mean: Tensor
    error_deviation: Tensor
    surveyed: Tensor
    phased = True

    def __init__(
        self,
        keypoints: int,
        stages: int = 3,
        trunk: str = "alexnet",
        zoom: int = 2,
        side: int = 220,
        sigma: float = 2.0,
        diameter: Sequence[int] | None = None,
        **arguments: int | float | Sequence[int],
    ) -> None:
        super().__init__()
        if trunk not in TRUNKS:
            raise ValueError(f"trunk {trunk!r}: one of {', '.join(TRUNKS)} wanted")
        if stages < 1 or zoom < 1 or side < 1 or not sigma > 0:
            raise ValueError("stages, zoom and side of 1 or more and a positive sigma wanted")
        joints = None if diameter is None else tuple(diameter)
        if joints is not None and not (
            len(set(joints)) == len(joints) == 2 and all(0 <= j < keypoints for j in joints)
        ):
            raise ValueError(f"diameter {list(joints)}: indices of two of the {keypoints} joints wanted")
        self.keypoints, self.zoom, self.side, self.sigma, self.diameter_joints = keypoints, zoom, side, sigma, joints
        self.phase = 0
        self.multiple = 32 if trunk == "resnet" else 1
        self.size_step = zoom * self.multiple
        self.stages = nn.ModuleList()
        for number in range(stages):
            part = TRUNKS[trunk](**arguments)
            if trunk != "alexnet":
                initialise(part)
            stage = Stage(part, int(part.channels), keypoints)
            # At first all joints are in the middle, and later stages leave them where they are.
            nn.init.normal_(stage.fc.weight, std=0.0 if number else 0.01)
            nn.init.zeros_(stage.fc.bias)
            self.stages.append(stage)
        if stages > 1:
            self.register_buffer("error_mean", torch.zeros(stages - 1, keypoints, 2))
            self.register_buffer("error_deviation", torch.zeros(stages - 1, keypoints, 2))
            self.register_buffer("surveyed", torch.zeros(stages - 1, dtype=torch.int64))

    def train(self, mode: bool = True) -> DeepPose:
        """While one stage learns, the others run as they do later: their norms and dropout stand still."""
        super().train(mode)
        for number, stage in enumerate(self.stages):
            stage.train(mode and number == self.phase)
        return self

    def forward(
        self, image: Tensor, boxes: Tensor | None = None, joints: Tensor | None = None
    ) -> DeepPoseOutput | Refinement:
        """(B, 3, H, W), multiples of ``zoom``, to the places after each stage (while learning: up to the one that
        learns).

        With ``boxes`` (B, J, 3, pixels) and the ``joints`` (B, J) that they lie around: what the stage that learns says
        of these.
        """
        if boxes is not None and joints is not None:
            return self._look(self.phase, image, boxes, joints)
        return DeepPoseOutput(self.places(image, self.phase + 1 if self.training else len(self.stages)))

    def places(self, image: Tensor, stages: int) -> Tensor:
        """(B, stages, K, 2), normalised by the picture: the joints after each of the first stages (Eq. 5, 6)."""
        middle, size = frame(image)
        found = [self.stages[0](functional.avg_pool2d(image, self.zoom) if self.zoom > 1 else image)]
        for number in range(1, stages):
            xy = denormalise(found[-1], middle, size)
            boxes = self.boxes(xy, self.diameter(xy, image))
            moved = xy + self._displacements(number, image, boxes) * boxes[..., 2:]  # Eq. 6
            found.append(normalise(moved, middle, size))
        return torch.stack(found, dim=1)

    def diameter(self, xy: Tensor, image: Tensor) -> Tensor:
        """diam(y) of poses (..., K, 2) in pixels of pictures (..., H, W): (...)."""
        if self.diameter_joints is None:
            found = (xy.amax(-2) - xy.amin(-2)).amax(-1)
        else:
            a, b = self.diameter_joints
            found = (xy[..., a, :] - xy[..., b, :]).norm(dim=-1)
        return found.clamp(min=LEAST_DIAMETER * min(image.shape[-2:]))

    def boxes(self, xy: Tensor, diameter: Tensor) -> Tensor:
        """Eq. 7: points (B, J, 2) and diameters (B,) to the middles and sides (B, J, 3) of the sub-images."""
        sides = (self.sigma * diameter)[:, None, None].expand(-1, xy.shape[1], -1)
        return torch.cat([xy, sides.to(xy.dtype)], dim=-1)

    def _displacements(self, number: int, image: Tensor, boxes: Tensor) -> Tensor:
        """(B, K, 2): of each joint by stage ``number``, as shares of its sub-image's side."""
        count = self.keypoints
        joints = torch.arange(count, device=image.device)
        if is_exporting() or image.shape[0] * count <= _TOGETHER:
            found = self.stages[number](sub_images(image, boxes, self.side).flatten(0, 1))
            return found.unflatten(0, (-1, count))[:, joints, joints]
        each = (sub_images(image, boxes[:, j : j + 1], self.side)[:, 0] for j in range(count))
        return torch.stack([self.stages[number](part)[:, j] for j, part in enumerate(each)], dim=1)

    def _look(self, number: int, image: Tensor, boxes: Tensor, joints: Tensor) -> Refinement:
        """Some joints, each in its own sub-image: of the outputs for all joints those of the one in the middle."""
        outputs = self.stages[number](sub_images(image, boxes, self.side).flatten(0, 1))  # (B J, K, 2)
        outputs = outputs.unflatten(0, tuple(joints.shape))
        chosen = joints[..., None, None].expand(-1, -1, 1, 2)
        return Refinement(outputs.gather(2, chosen)[:, :, 0], boxes)


def frame(image: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and size (2,) of the whole picture as a box: b^0 is what the detector gave, already cut out."""
    size = torch.tensor([image.shape[-1], image.shape[-2]], device=image.device, dtype=torch.float32)
    return (size - 1) / 2, size
