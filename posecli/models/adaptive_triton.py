"""DEKR's adaptive convolution as Triton kernels: one pass forward, two backward, over channels-last maps on CUDA.

Geng et al., CVPR 2021, Sec. 3.2; `models.deform.adaptive_conv` and, by the definition, `adaptive_conv_plain` are what
the kernels have to agree with. Triton comes with PyTorch's CUDA builds; this module is imported only where it is there.
With ``TRITON_INTERPRET=1`` set before the import everything runs on the CPU, slowly: that is how tests check it.

A program does a block of pixels of one joint. In channels-last order the joint's channels of one pixel lie side by
side, so a corner of a bilinear sample is one short run of memory; the joints of a block of pixels are neighbouring
programs, which find each other's memory in the cache. Positions and samples are float32 whatever the maps are; the
kernels of the joints are multiplied on the tensor cores in the type of the weights, summed in float32.

The gradient of the map is added up by atomics, so its last bits differ from run to run, as with PyTorch's own sampling.
Where PyTorch is told `torch.use_deterministic_algorithms` learning goes by the definition instead: sums in one order,
several times slower and with several times the memory.
"""

# Kernels are Triton's language, which has no types of Python's.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from typing import Any, cast

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

from posecli.models import deform
from posecli.models.dekr import AdaptiveBlocks

#: Channels of a joint that there is room for.
MOST_CHANNELS = 64
#: Pixels of a program and its warps; `benchmarks/gpu.py` tries others.
BLOCK, WARPS = 64, 8
#: Programs that share the sum over pixels of a kernel's gradient.
_SPLITS = 64


@triton.jit
def _axis(at, size):
    """The neighbour below a position, the share of the one above, and whether the position is on the map's reach.

    What is farther than a pixel outside is brought to -1 or ``size``, where all reads zero; so is NaN.
    """
    inside = (at > -1.0) & (at < size)
    at = tl.where(at > -1.0, at, -1.0)
    at = tl.where(at < size, at, size * 1.0)
    low = tl.floor(at)
    return low.to(tl.int32), at - low, inside


@triton.jit
def _place(pixel, height, width, pixels):
    """Of a block of pixels: whether they exist, the map's first pixel, row, column."""
    column = pixel % width
    row = (pixel // width) % height
    return pixel < pixels, (pixel - row * width - column).to(tl.int64), row, column


@triton.jit
def _geometry_at(geometry, pixel, there, joint, joints):
    """The six values of geometry of a block of pixels."""
    six = geometry + (pixel.to(tl.int64) * joints + joint) * 6
    a_yy = tl.load(six, mask=there, other=0.0).to(tl.float32)
    a_yx = tl.load(six + 1, mask=there, other=0.0).to(tl.float32)
    a_xy = tl.load(six + 2, mask=there, other=0.0).to(tl.float32)
    a_xx = tl.load(six + 3, mask=there, other=0.0).to(tl.float32)
    t_y = tl.load(six + 4, mask=there, other=0.0).to(tl.float32)
    t_x = tl.load(six + 5, mask=there, other=0.0).to(tl.float32)
    return a_yy, a_yx, a_xy, a_xx, t_y, t_x


@triton.jit
def _corner(x, first, row, column, height, width, there, joint, joints, CHANNELS: tl.constexpr, LANES: tl.constexpr):
    """Where the channels of a pixel of the map stand (block, LANES), and which of them are on the map."""
    lane = tl.arange(0, LANES)
    on = there & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    at = (first + row * width + column) * (joints * CHANNELS) + joint * CHANNELS
    return x + at[:, None] + lane[None, :], on[:, None] & (lane < CHANNELS)[None, :]


@triton.jit
def _read(x, first, row, column, height, width, there, joint, joints, CHANNELS: tl.constexpr, LANES: tl.constexpr):
    where, on = _corner(x, first, row, column, height, width, there, joint, joints, CHANNELS, LANES)
    return tl.load(where, mask=on, other=0.0).to(tl.float32)


@triton.jit
def _sample(x, first, y, x_at, height, width, there, joint, joints, CHANNELS: tl.constexpr, LANES: tl.constexpr):
    """Bilinear samples (block, LANES) at the positions y, x_at."""
    row, down, _ = _axis(y, height)
    column, right, _ = _axis(x_at, width)
    down, right = down[:, None], right[:, None]
    v00 = _read(x, first, row, column, height, width, there, joint, joints, CHANNELS, LANES)
    v01 = _read(x, first, row, column + 1, height, width, there, joint, joints, CHANNELS, LANES)
    v10 = _read(x, first, row + 1, column, height, width, there, joint, joints, CHANNELS, LANES)
    v11 = _read(x, first, row + 1, column + 1, height, width, there, joint, joints, CHANNELS, LANES)
    return (1 - down) * ((1 - right) * v00 + right * v01) + down * ((1 - right) * v10 + right * v11)


@triton.jit
def _kernel_of(weight, joint, tap, CHANNELS: tl.constexpr, OUT: tl.constexpr, rows, columns):
    """A joint's kernel at one tap: ``rows`` are channels read, ``columns`` those made (or broadcast the other way)."""
    at = ((joint * OUT + columns) * CHANNELS + rows) * 9 + tap
    return tl.load(weight + at, mask=(rows < CHANNELS) & (columns < OUT), other=0.0)


@triton.jit
def _own_geometry(
    x, weight, bias, first, row, column, height, width, there, joint, joints,
    CHANNELS: tl.constexpr, LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The six values of geometry by the block's own 3x3 convolution, in float32."""
    lane, six = tl.arange(0, LANES), tl.arange(0, 16)
    total = tl.zeros((BLOCK, 16), tl.float32)
    for tap in range(9):
        values = _read(
            x, first, row + tap // 3 - 1, column + tap % 3 - 1, height, width, there, joint, joints, CHANNELS, LANES
        )
        own = _kernel_of(weight, joint, tap, CHANNELS, 6, lane[:, None], six[None, :])
        total += tl.dot(values.to(own.dtype), own, input_precision="ieee")
    total += tl.load(bias + joint * 6 + six, mask=six < 6, other=0.0).to(tl.float32)[None, :]
    six = six[None, :]
    a_yy = tl.sum(tl.where(six == 0, total, 0.0), axis=1)
    a_yx = tl.sum(tl.where(six == 1, total, 0.0), axis=1)
    a_xy = tl.sum(tl.where(six == 2, total, 0.0), axis=1)
    a_xx = tl.sum(tl.where(six == 3, total, 0.0), axis=1)
    t_y = tl.sum(tl.where(six == 4, total, 0.0), axis=1)
    t_x = tl.sum(tl.where(six == 5, total, 0.0), axis=1)
    return a_yy, a_yx, a_xy, a_xx, t_y, t_x


@triton.jit
def _forward(
    x, geometry, geometry_bias, weight, bias, out, pixels, height, width, joints,
    CHANNELS: tl.constexpr, OUT: tl.constexpr, LANES: tl.constexpr, OUT_LANES: tl.constexpr, BLOCK: tl.constexpr,
    BIAS: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """The convolution; WHOLE: the whole adaptive block, ``geometry`` being the kernel of its geometry, relu(. + x)."""
    joint = tl.program_id(0) % joints
    pixel = tl.program_id(0) // joints * BLOCK + tl.arange(0, BLOCK)
    there, first, row, column = _place(pixel, height, width, pixels)
    if WHOLE:
        a_yy, a_yx, a_xy, a_xx, t_y, t_x = _own_geometry(
            x, geometry, geometry_bias, first, row, column, height, width, there, joint, joints, CHANNELS, LANES, BLOCK
        )
    else:
        a_yy, a_yx, a_xy, a_xx, t_y, t_x = _geometry_at(geometry, pixel, there, joint, joints)
    lane, made = tl.arange(0, LANES), tl.arange(0, OUT_LANES)
    total = tl.zeros((BLOCK, OUT_LANES), tl.float32)
    for tap in range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        y = row + t_y + (dy * a_yy + dx * a_yx)
        x_at = column + t_x + (dy * a_xy + dx * a_xx)
        sampled = _sample(x, first, y, x_at, height, width, there, joint, joints, CHANNELS, LANES)
        own = _kernel_of(weight, joint, tap, CHANNELS, OUT, lane[:, None], made[None, :])
        total += tl.dot(sampled.to(own.dtype), own, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + joint * OUT + made, mask=made < OUT, other=0.0).to(tl.float32)[None, :]
    where = (pixel.to(tl.int64) * joints + joint)[:, None] * OUT + made[None, :]
    mask = there[:, None] & (made < OUT)[None, :]
    if WHOLE:
        total += tl.load(x + where, mask=mask, other=0.0).to(tl.float32)
        total = tl.where(total > 0, total, 0.0)
    tl.store(out + where, total.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward_maps(
    x, geometry, weight, grad, grad_x, grad_geometry, pixels, height, width, joints,
    CHANNELS: tl.constexpr, OUT: tl.constexpr, LANES: tl.constexpr, OUT_LANES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Gradients of the map (added to ``grad_x``) and of the geometry (written)."""
    joint = tl.program_id(0) % joints
    pixel = tl.program_id(0) // joints * BLOCK + tl.arange(0, BLOCK)
    there, first, row, column = _place(pixel, height, width, pixels)
    a_yy, a_yx, a_xy, a_xx, t_y, t_x = _geometry_at(geometry, pixel, there, joint, joints)
    lane, made = tl.arange(0, LANES), tl.arange(0, OUT_LANES)
    where = (pixel.to(tl.int64) * joints + joint)[:, None] * OUT + made[None, :]
    incoming = tl.load(grad + where, mask=there[:, None] & (made < OUT)[None, :], other=0.0)
    g_yy = tl.zeros((BLOCK,), tl.float32)
    g_yx = tl.zeros((BLOCK,), tl.float32)
    g_xy = tl.zeros((BLOCK,), tl.float32)
    g_xx = tl.zeros((BLOCK,), tl.float32)
    g_y = tl.zeros((BLOCK,), tl.float32)
    g_x = tl.zeros((BLOCK,), tl.float32)
    for tap in range(9):
        dy, dx = tap // 3 - 1, tap % 3 - 1
        top, down, on_y = _axis(row + t_y + (dy * a_yy + dx * a_yx), height)
        left, right, on_x = _axis(column + t_x + (dy * a_xy + dx * a_xx), width)
        down, right = down[:, None], right[:, None]
        turned = _kernel_of(weight, joint, tap, CHANNELS, OUT, lane[None, :], made[:, None])  # (OUT_LANES, LANES)
        wanted = tl.dot(incoming.to(turned.dtype), turned, input_precision="ieee")  # of the sampled values
        p00, m00 = _corner(x, first, top, left, height, width, there, joint, joints, CHANNELS, LANES)
        p01, m01 = _corner(x, first, top, left + 1, height, width, there, joint, joints, CHANNELS, LANES)
        p10, m10 = _corner(x, first, top + 1, left, height, width, there, joint, joints, CHANNELS, LANES)
        p11, m11 = _corner(x, first, top + 1, left + 1, height, width, there, joint, joints, CHANNELS, LANES)
        v00 = tl.load(p00, mask=m00, other=0.0).to(tl.float32)
        v01 = tl.load(p01, mask=m01, other=0.0).to(tl.float32)
        v10 = tl.load(p10, mask=m10, other=0.0).to(tl.float32)
        v11 = tl.load(p11, mask=m11, other=0.0).to(tl.float32)
        on = there & on_y & on_x
        by_y = tl.sum(wanted * ((1 - right) * (v10 - v00) + right * (v11 - v01)), axis=1)
        by_x = tl.sum(wanted * ((1 - down) * (v01 - v00) + down * (v11 - v10)), axis=1)
        by_y = tl.where(on, by_y, 0.0)
        by_x = tl.where(on, by_x, 0.0)
        g_yy += dy * by_y
        g_yx += dx * by_y
        g_xy += dy * by_x
        g_xx += dx * by_x
        g_y += by_y
        g_x += by_x
        d00, _ = _corner(grad_x, first, top, left, height, width, there, joint, joints, CHANNELS, LANES)
        d01, _ = _corner(grad_x, first, top, left + 1, height, width, there, joint, joints, CHANNELS, LANES)
        d10, _ = _corner(grad_x, first, top + 1, left, height, width, there, joint, joints, CHANNELS, LANES)
        d11, _ = _corner(grad_x, first, top + 1, left + 1, height, width, there, joint, joints, CHANNELS, LANES)
        reached = on[:, None]
        tl.atomic_add(d00, (1 - down) * (1 - right) * wanted, mask=m00 & reached, sem="relaxed")
        tl.atomic_add(d01, (1 - down) * right * wanted, mask=m01 & reached, sem="relaxed")
        tl.atomic_add(d10, down * (1 - right) * wanted, mask=m10 & reached, sem="relaxed")
        tl.atomic_add(d11, down * right * wanted, mask=m11 & reached, sem="relaxed")
    six = grad_geometry + (pixel.to(tl.int64) * joints + joint) * 6
    tl.store(six, g_yy, mask=there)
    tl.store(six + 1, g_yx, mask=there)
    tl.store(six + 2, g_xy, mask=there)
    tl.store(six + 3, g_xx, mask=there)
    tl.store(six + 4, g_y, mask=there)
    tl.store(six + 5, g_x, mask=there)


@triton.jit
def _backward_kernel(
    x, geometry, grad, partial, pixels, height, width, joints, splits,
    CHANNELS: tl.constexpr, OUT: tl.constexpr, LANES: tl.constexpr, OUT_LANES: tl.constexpr, BLOCK: tl.constexpr,
    ROUNDS: tl.constexpr,
):  # fmt: skip
    """A part of the gradient of a joint's kernel at one tap: its sum over every ``splits``-th block of pixels."""
    joint, tap = tl.program_id(0) // 9, tl.program_id(0) % 9
    dy, dx = tap // 3 - 1, tap % 3 - 1
    lane, made = tl.arange(0, LANES), tl.arange(0, OUT_LANES)
    total = tl.zeros((LANES, OUT_LANES), tl.float32)
    for number in range(ROUNDS):
        pixel = (tl.program_id(1) + number * splits) * BLOCK + tl.arange(0, BLOCK)
        there, first, row, column = _place(pixel, height, width, pixels)
        a_yy, a_yx, a_xy, a_xx, t_y, t_x = _geometry_at(geometry, pixel, there, joint, joints)
        y = row + t_y + (dy * a_yy + dx * a_yx)
        x_at = column + t_x + (dy * a_xy + dx * a_xx)
        sampled = _sample(x, first, y, x_at, height, width, there, joint, joints, CHANNELS, LANES)
        where = (pixel.to(tl.int64) * joints + joint)[:, None] * OUT + made[None, :]
        incoming = tl.load(grad + where, mask=there[:, None] & (made < OUT)[None, :], other=0.0)
        total += tl.dot(tl.trans(sampled.to(incoming.dtype)), incoming, input_precision="ieee")
    at = ((tl.program_id(1) * joints + joint) * 9 + tap) * LANES + lane
    tl.store(partial + at[:, None] * OUT_LANES + made[None, :], total)


def _lanes(channels: int) -> int:
    return max(16, triton.next_power_of_2(channels))  # what a matrix product on tensor cores takes at least


def stages(channels: int) -> int:
    """Rounds of a loop that are loaded ahead. Of more than 32 channels in float32 three take 180 KB of an SM's shared
    memory, which an H100 has and no other device."""
    return 1 if channels > 32 else 3


def _shape(x: Tensor, weight: Tensor) -> tuple[int, int, int, dict[str, int]]:
    """Pixels of the batch, joints, programs over pixels, and the sizes (and options) that are compiled in."""
    channels, joints = weight.shape[1], x.shape[1] // weight.shape[1]
    made = weight.shape[0] // joints
    if max(channels, made) > MOST_CHANNELS:
        raise ValueError(f"adaptive kernels take up to {MOST_CHANNELS} channels of a joint, not {max(channels, made)}")
    pixels = x.shape[0] * x.shape[2] * x.shape[3]
    sizes = {"CHANNELS": channels, "OUT": made, "LANES": _lanes(channels), "OUT_LANES": _lanes(made), "BLOCK": BLOCK}
    sizes["num_stages"] = stages(max(channels, made))
    return pixels, joints, triton.cdiv(pixels, BLOCK), sizes


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last)


def _convolve(x: Tensor, geometry: Tensor, weight: Tensor) -> Tensor:
    """The convolution for a given geometry (B, 6 J, h, w)."""
    return _launched(x, _channels_last(geometry), None, weight.contiguous(), None, whole=False)


def _launched(
    x: Tensor, geometry: Tensor, geometry_bias: Tensor | None, weight: Tensor, bias: Tensor | None, *, whole: bool
) -> Tensor:
    x = _channels_last(x)
    pixels, joints, blocks, sizes = _shape(x, weight)
    batch, _, height, width = x.shape
    # Of a map with a single pixel both orders look alike; the strides are made to be those of channels-last.
    out = torch.empty((batch, height, width, len(weight)), device=x.device, dtype=weight.dtype).permute(0, 3, 1, 2)
    with _on(x):
        _forward[(blocks * joints,)](
            x, geometry, geometry if geometry_bias is None else geometry_bias, weight,
            weight if bias is None else bias, out, pixels, height, width, joints,
            **sizes, BIAS=bias is not None, WHOLE=whole, num_warps=WARPS,
        )  # fmt: skip
    return out


class _AdaptiveConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, geometry: Tensor, weight: Tensor) -> Tensor:
        x, geometry, weight = _channels_last(x), _channels_last(geometry), weight.contiguous()
        ctx.save_for_backward(x, geometry, weight)
        return _convolve(x, geometry, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, geometry, weight = ctx.saved_tensors
        grad = _channels_last(grads[0].to(weight.dtype))
        pixels, joints, blocks, sizes = _shape(x, weight)
        batch, channels, height, width = x.shape
        grad_x = torch.zeros((batch, height, width, channels), device=x.device).permute(0, 3, 1, 2)
        grad_geometry = torch.empty((batch, height, width, 6 * joints), device=x.device).permute(0, 3, 1, 2)
        splits = min(_SPLITS, blocks)
        lanes = (sizes["LANES"], sizes["OUT_LANES"])
        partial = torch.empty((splits, joints, 9, *lanes), device=x.device)
        with _on(x):
            _backward_maps[(blocks * joints,)](
                x, geometry, weight, grad, grad_x, grad_geometry, pixels, height, width, joints,
                **sizes, num_warps=WARPS,
            )  # fmt: skip
            _backward_kernel[(joints * 9, splits)](
                x, geometry, grad, partial, pixels, height, width, joints, splits,
                **sizes, ROUNDS=triton.cdiv(blocks, splits), num_warps=WARPS,
            )  # fmt: skip
        own = partial.sum(0)[:, :, : sizes["CHANNELS"], : sizes["OUT"]]  # (J, 9, c, c')
        grad_weight = own.permute(0, 3, 2, 1).reshape(weight.shape).to(weight.dtype)
        return grad_x.to(x.dtype), grad_geometry.to(geometry.dtype), grad_weight


def _on(x: Tensor) -> Any:
    """Triton launches on the current device, which need not be that of the maps."""
    return torch.cuda.device(x.device) if x.is_cuda else torch.no_grad()


@torch.compiler.disable
def adaptive_conv(x: Tensor, geometry: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`models.deform.adaptive_conv` by the kernels, with gradients: same arguments, same values within rounding.

    Under autocast the joints' kernels are multiplied in its type, as PyTorch's own matrix products are.

    Raises:
        ValueError: a joint of more than 64 channels.
    """
    if deform.wants_one_order(x, geometry):
        return deform.adaptive_conv(x, geometry, weight, bias)
    if torch.is_autocast_enabled(x.device.type):
        weight = weight.to(torch.get_autocast_dtype(x.device.type))
    out: Tensor = _AdaptiveConv.apply(x, geometry, weight)
    return out if bias is None else out + bias.to(out.dtype).view(1, -1, 1, 1)


@triton.jit
def _one(out):
    tl.store(out, 1.0)


def try_out(device: torch.device) -> None:
    """Runs a kernel that does next to nothing; whatever Triton raises where it can't."""
    out = torch.zeros(1, device=device)
    with _on(out):
        _one[(1,)](out, num_warps=1)
    if float(out) != 1:
        raise RuntimeError("a kernel did nothing")


class TritonAdaptiveBlocks(nn.Module):
    """An adaptive block of every joint's branch in one kernel, for inference: the convolution that gives its geometry,
    the adaptive one, the input added, ReLU. It takes the place of `models.dekr.AdaptiveBlocks` after its norm was
    folded.

    Args:
        block: whose parameters are taken; it stays as it is.
        dtype: of the maps that come and go.

    Raises:
        ValueError: a branch of more than 64 channels, or a norm that is not folded.
    """

    kernel: Tensor
    shift: Tensor | None
    geometry_kernel: Tensor
    geometry_shift: Tensor

    def __init__(self, block: AdaptiveBlocks, dtype: torch.dtype) -> None:
        super().__init__()
        if not isinstance(block.bn, nn.Identity):
            raise ValueError("the norm of an adaptive block is to be folded first")
        if block.adapt_conv.weight.shape[1] > MOST_CHANNELS:
            raise ValueError(f"adaptive kernels take up to {MOST_CHANNELS} channels of a joint")
        weights = {"kernel": block.adapt_conv.weight, "geometry_kernel": block.geometry_conv.weight}
        for name, weight in weights.items():
            # Flat: changes of memory order are for maps.
            self.register_buffer(name, weight.detach().to(dtype).contiguous().flatten(2))
        bias = block.adapt_conv.bias
        self.register_buffer("shift", None if bias is None else bias.detach().float())
        self.register_buffer("geometry_shift", cast(Tensor, block.geometry_conv.bias).detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """(B, J c, h, w) to the same shape, channels last."""
        return _launched(x, self.geometry_kernel, self.geometry_shift, self.kernel, self.shift, whole=True)
