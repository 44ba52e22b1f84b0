"""Deformable convolution with torch operators only: the definition, and the affine case that DEKR uses.

Dai, Qi, Xiong, Li, Zhang, Hu, Wei, "Deformable Convolutional Networks", ICCV 2017, https://arxiv.org/abs/1703.06211
(Eq. 2: y(p) = sum over taps n of w(p_n) x(p + p_n + dp_n), bilinear between pixels, zero outside), with the
modulation of Zhu, Hu, Lin, Dai, "Deformable ConvNets v2", CVPR 2019 (Eq. 1).

`deform_conv2d` follows the definition for any stride, dilation and grouping. `adaptive_conv` is the special case of
Geng et al., "Bottom-Up Human Pose Estimation via Disentangled Keypoint Regression", CVPR 2021 (Sec. 3.2):
3x3 taps whose positions are an affine map of the regular grid, for all joints' branches at once.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecli.models.layers import is_exporting


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution by its definition.

    Args:
        x: (B, C, h, w).
        offset: (B, 2 G T, h', w') pixels, T taps for each of G offset groups, channel 2t the dy and 2t + 1 the dx of
            tap t; groups one after the other. Each serves C / G consecutive channels.
        weight: (C', C / groups, kh, kw); the number of convolution groups follows from its shape.
        bias: (C',) or None.
        stride, padding, dilation: as in an ordinary convolution, for both axes.
        mask: (B, G T, h', w') factors of the sampled values, or None.

    Returns:
        (B, C', h', w').
    """
    batch, channels, height, width = x.shape
    channels_out, channels_per_group, kernel_h, kernel_w = weight.shape
    taps = kernel_h * kernel_w
    out_h, out_w = offset.shape[-2:]
    offset_groups = offset.shape[1] // (2 * taps)
    groups = channels // channels_per_group
    # Half precision cannot tell pixels apart.
    wide = torch.promote_types(x.dtype, torch.float32)
    offset = offset.to(wide).view(batch, offset_groups, taps, 2, out_h, out_w)

    def positions(taps_along: Tensor, size: int, shape: tuple[int, ...]) -> Tensor:
        at_pixel = torch.arange(size, device=x.device, dtype=wide) * stride - padding
        return taps_along.view(1, 1, taps, 1, 1) * dilation + at_pixel.view(shape)

    tap = torch.arange(taps, device=x.device)
    rows = positions((tap // kernel_w).to(wide), out_h, (1, 1, 1, out_h, 1)) + offset[:, :, :, 0]
    columns = positions((tap % kernel_w).to(wide), out_w, (1, 1, 1, 1, out_w)) + offset[:, :, :, 1]
    source = x.reshape(batch, offset_groups, channels // offset_groups, height * width)
    sampled = _bilinear(source, rows.flatten(2), columns.flatten(2), height, width).to(x.dtype)
    sampled = sampled.view(batch, offset_groups, channels // offset_groups, taps, out_h * out_w)
    if mask is not None:
        sampled = sampled * mask.view(batch, offset_groups, 1, taps, out_h * out_w)
    sampled = sampled.reshape(batch, groups, channels_per_group * taps, out_h * out_w)
    kernel = weight.reshape(groups, channels_out // groups, channels_per_group * taps)
    out = torch.matmul(kernel, sampled).reshape(batch, channels_out, out_h, out_w)
    return out if bias is None else out + bias.view(1, -1, 1, 1)


def _bilinear(source: Tensor, rows: Tensor, columns: Tensor, height: int, width: int) -> Tensor:
    """Values of ``source`` (B, G, C, height * width) at ``rows``, ``columns`` (B, G, P): (B, G, C, P), zero outside."""
    top, left = rows.floor(), columns.floor()
    total = None
    for row, weight_row in ((top, 1 - (rows - top)), (top + 1, rows - top)):
        for column, weight_column in ((left, 1 - (columns - left)), (left + 1, columns - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            # What lies outside counts nothing: any pixel will do there.
            index = torch.where(inside, row, 0).long() * width + torch.where(inside, column, 0).long()
            value = source.gather(3, index.unsqueeze(2).expand(-1, -1, source.shape[2], -1))
            value = value * (weight_row * weight_column * inside).unsqueeze(2)
            total = value if total is None else total + value
    assert total is not None
    return total


class DeformConv2d(nn.Conv2d):
    """A convolution that samples where it is told; one number for each of stride, padding and dilation."""

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, h, w) and offsets (B, 2 T, h', w') of its T taps, as of `deform_conv2d`, to (B, C', h', w')."""
        padding = cast(int, self.padding[0])
        return deform_conv2d(x, offset, self.weight, self.bias, int(self.stride[0]), padding, int(self.dilation[0]))


class DeformSamples(nn.Module):
    """What the taps of a deformable convolution read, as channels of one map, for inference on a CPU.

    A pixel's channels are a row of a table, and each sample the sum of four such rows, by the operator that PyTorch has
    for sums of rows (`embedding_bag`): rows are read as they lie in memory, where `deform_conv2d` gathers each channel
    by itself. A 1x1 convolution makes the result of it (`in_two_steps`).
    """

    def __init__(self, conv: DeformConv2d):
        super().__init__()
        self.stride, self.padding = int(conv.stride[0]), cast(int, conv.padding[0])
        self.dilation, self.kernel = int(conv.dilation[0]), (int(conv.kernel_size[0]), int(conv.kernel_size[1]))

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """(B, C, h, w) and offsets (B, 2 T, h', w') to (B, T C, h', w') in the type of ``x``, channels last; a tap's
        channels lie side by side."""
        batch, channels, height, width = x.shape
        out_h, out_w = offset.shape[-2:]
        kernel_h, kernel_w = self.kernel
        taps = kernel_h * kernel_w
        # Half precision cannot tell pixels apart.
        moved = offset.float().permute(0, 2, 3, 1).reshape(batch, out_h, out_w, taps, 2)
        down = torch.arange(kernel_h).repeat_interleave(kernel_w) * self.dilation - self.padding
        right = torch.arange(kernel_w).repeat(kernel_h) * self.dilation - self.padding
        rows, row_weights = _both_sides(
            moved[..., 0] + (down + self.stride * torch.arange(out_h).view(-1, 1, 1)).float(), height
        )
        columns, column_weights = _both_sides(
            moved[..., 1] + (right + self.stride * torch.arange(out_w).view(-1, 1)).float(), width
        )
        first = (torch.arange(batch, dtype=torch.int32) * (height * width)).view(-1, 1, 1, 1, 1, 1)
        corners = first + rows[..., :, None] * width + columns[..., None, :]
        weights = row_weights[..., :, None] * column_weights[..., None, :]
        table = x.permute(0, 2, 3, 1).reshape(-1, channels)
        sampled = functional.embedding_bag(
            corners.view(-1, 4), table, per_sample_weights=weights.view(-1, 4).to(x.dtype), mode="sum"
        )
        return sampled.view(batch, out_h, out_w, taps * channels).permute(0, 3, 1, 2)


def _both_sides(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The pixels before and after positions (...) along an axis of a size, int32, and what each counts: (..., 2). Those
    beyond the map count nothing and are moved into it, as is what is no number."""
    at = at.nan_to_num(-1).clamp_(-1, size)
    low = at.floor()
    part = at - low
    pixels = torch.stack([low, low + 1], -1)
    weights = torch.stack([1 - part, part], -1) * ((pixels >= 0) & (pixels < size))
    return pixels.clamp_(0, size - 1).int(), weights


def in_two_steps(conv: DeformConv2d) -> tuple[DeformSamples, nn.Conv2d] | None:
    """A deformable convolution as samples and an ordinary 1x1 convolution of them; None for weights in groups."""
    if conv.groups != 1:
        return None
    taps = conv.weight[0, 0].numel()
    mix = nn.Conv2d(taps * conv.in_channels, conv.out_channels, 1, bias=conv.bias is not None, device="meta")
    mix.weight = nn.Parameter(conv.weight.permute(0, 2, 3, 1).flatten(1)[..., None, None], requires_grad=False)
    mix.bias = conv.bias
    return DeformSamples(conv), mix


def regular_grid(like: Tensor) -> Tensor:
    """(9, 2): the (dy, dx) of a 3x3 kernel's taps in row-major order, in the type and on the device of ``like``."""
    steps = torch.arange(-1, 2, device=like.device, dtype=like.dtype)
    return torch.cartesian_prod(steps, steps)


def adaptive_offset(geometry: Tensor) -> Tensor:
    """The tap offsets that DEKR hands to its deformable convolution (Sec. 3.2: A G_t + t minus the regular grid).

    Args:
        geometry: (B, 6 J, h, w): for each joint the row-major 2x2 matrix A, then the translation (dy, dx).

    Returns:
        (B, 18 J, h, w): dy0 dx0 dy1 dx1 ... for each joint, as `deform_conv2d` takes them.
    """
    batch, channels, height, width = geometry.shape
    joints = channels // 6
    values = geometry.view(batch, joints, 6, height, width)
    grid = regular_grid(geometry)
    matrix = values[:, :, :4].reshape(batch, joints, 2, 2, height, width)
    offset = torch.einsum("bjrchw,tc->bjtrhw", matrix, grid) - grid.view(1, 1, 9, 2, 1, 1)
    return (offset + values[:, :, None, 4:]).reshape(batch, joints * 18, height, width)


def adaptive_conv_plain(x: Tensor, geometry: Tensor, weight: Tensor) -> Tensor:
    """`adaptive_conv` by the definition: slow, the oracle of the tests."""
    return deform_conv2d(x, adaptive_offset(geometry), weight, padding=1)


def wants_one_order(x: Tensor, geometry: Tensor) -> bool:
    """Whether gradients of a map or its geometry on a CUDA device are to be added in one order
    (`torch.use_deterministic_algorithms`): PyTorch's own sampling does it by atomics and is refused then."""
    if x.device.type != "cuda" or not torch.are_deterministic_algorithms_enabled():
        return False
    return torch.is_grad_enabled() and (x.requires_grad or geometry.requires_grad)


def adaptive_conv(x: Tensor, geometry: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Adaptive convolution of all joints' branches in one go.

    Tap g of joint j reads x at p + A_j(p) g + t_j(p), bilinear, zero outside the map. Learning on a CUDA device goes by
    the definition where `wants_one_order`.

    Args:
        x: (B, J c, h, w), each joint's c channels one after the other.
        geometry: (B, 6 J, h, w), see `adaptive_offset`; pixels of the map.
        weight: (J c', c, 3, 3).
        bias: (J c') or None.

    Returns:
        (B, J c', h, w).
    """
    if wants_one_order(x, geometry):
        return _in_one_order(x, geometry, weight, bias)
    batch, channels, height, width = x.shape
    per_joint = weight.shape[1]
    joints = channels // per_joint
    # On a CPU as many joints at once as keep the sampled values in the cache; elsewhere all of them.
    together = joints
    if x.device.type == "cpu" and not is_exporting():  # an exported network takes any batch
        together = max(1, _CACHED_VALUES // (batch * 9 * per_joint * height * width))
    geometry = geometry.to(torch.promote_types(geometry.dtype, torch.float32)).contiguous()
    kernel = weight.reshape(joints, -1, per_joint * 9)
    channels_last = _is_channels_last(x)
    x = x.contiguous()
    parts = []
    for first in range(0, joints, together):
        last = min(first + together, joints)
        part = x[:, first * per_joint : last * per_joint]
        grid = _sampling_grid(geometry[:, 6 * first : 6 * last])
        parts.append(_sample_and_mix(part, grid, kernel[first:last]))
    out = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    if bias is not None:
        out += bias.view(1, -1, 1, 1)
    return out.contiguous(memory_format=torch.channels_last) if channels_last else out


def _in_one_order(x: Tensor, geometry: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`adaptive_conv` by gathers, whose gradients PyTorch can add in one order."""
    with torch.autocast(x.device.type, enabled=False):  # half precision cannot tell pixels apart
        offset = adaptive_offset(geometry.to(torch.promote_types(geometry.dtype, torch.float32)))
    out = deform_conv2d(x, offset, weight, bias, padding=1)
    return out.contiguous(memory_format=torch.channels_last) if _is_channels_last(x) else out


def _is_channels_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last)


#: 16 MiB of float32: about where more sampled values at once get slower on the processors we measured.
_CACHED_VALUES = 1 << 22


def _sampling_grid(geometry: Tensor) -> Tensor:
    """Where the taps read: (B, 6 J, h, w) to (B J, 9, h, w, 2), x and y as `grid_sample` counts them.

    Without align_corners -1 and 1 are the outer sides of the first and last pixel. Sums and products only: a matrix
    product might be rounded to half precision (autocast, TF32), which cannot tell pixels apart.
    """
    height, width = geometry.shape[-2:]
    a_yy, a_yx, a_xy, a_xx, t_y, t_x = geometry.reshape(-1, 6, 1, height, width).unbind(1)
    steps = torch.arange(-1, 2, device=geometry.device, dtype=geometry.dtype).view(3, 1, 1)
    rows = torch.arange(height, device=geometry.device, dtype=geometry.dtype).view(-1, 1)
    columns = torch.arange(width, device=geometry.device, dtype=geometry.dtype)

    def axis(pixel: Tensor, move: Tensor, by_dy: Tensor, by_dx: Tensor, size: int) -> Tensor:
        unit = 2 / size
        start = (pixel + move) * unit + (1 / size - 1)
        down = start + steps * (by_dy * unit)  # (B J, 3, h, w): one for each row of the kernel
        return (down[:, :, None] + (steps * (by_dx * unit))[:, None]).flatten(1, 2)

    position = torch.stack([axis(columns, t_x, a_xy, a_xx, width), axis(rows, t_y, a_yy, a_yx, height)], dim=1)
    return position.permute(0, 2, 3, 4, 1)


def _sample_and_mix(x: Tensor, grid: Tensor, kernel: Tensor) -> Tensor:
    """Bilinear samples of (B, J c, h, w) at (B J, 9, h, w, 2), then the joints' kernels (J, c', 9 c)."""
    batch, channels, height, width = x.shape
    joints, _, inner = kernel.shape
    source = x.reshape(batch * joints, channels // joints, height, width).to(grid.dtype)
    # grid_sample spreads its batch over threads: a single map is read in several strips of rows.
    single = not is_exporting() and batch * joints == 1
    strips = next(n for n in (8, 4, 2, 1) if height % n == 0) if single else 1
    if strips > 1:
        source = source.expand(strips, -1, -1, -1)
        grid = grid.view(9, strips, height // strips, width, 2).transpose(0, 1)
    grid = grid.reshape(batch * joints * strips, 9, height * width // strips, 2) if strips == 1 else grid.flatten(2, 3)
    sampled = functional.grid_sample(source, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if strips > 1:
        out = torch.matmul(kernel, sampled.view(strips, inner, -1).to(kernel.dtype))
        return out.transpose(0, 1).reshape(1, -1, height, width)
    sampled = sampled.view(batch, joints, inner, height * width)
    return torch.matmul(kernel, sampled.to(kernel.dtype)).reshape(batch, -1, height, width)
