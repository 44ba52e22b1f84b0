"""Run by `tests/models/test_adaptive_triton.py` in a process of its own: how far the kernels are from the plain code.

    TRITON_INTERPRET=1 python tests/triton_cases.py interpret [all]
    python tests/triton_cases.py cuda|compile [all|wide]

``interpret``: the kernels run on the CPU, as Python; the variable holds for a whole process. ``cuda`` runs them on the
device, ``compile`` translates them for devices that need not be here. Prints JSON.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from posecli.geometry import crop_from_box
from posecli.models import adaptive_triton
from posecli.models.deform import adaptive_conv_plain
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fuse import fold_norms
from posecli.on_device import resample, resample_triton

MODE = sys.argv[1] if len(sys.argv) > 1 else "interpret"
#: joints, channels read and made, batch, height, width, reach of the taps.
CASES = {
    "taps within and outside": (2, 3, 3, 2, 5, 7, 3.0),
    "a column, more made than read": (1, 4, 5, 1, 6, 1, 1.0),
}
LARGER = {
    "as in DEKR": (3, 15, 15, 1, 9, 21, 1.5),
    "a row": (2, 16, 16, 2, 1, 7, 0.3),
    "wider than sixteen": (1, 17, 17, 1, 8, 5, 2.0),
}


def gap(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in the largest value expected."""
    return float((found.detach().float().cpu() - expected.detach()).abs().max() / expected.detach().abs().max())


def convolution(case: tuple[Any, ...], device: str, dtype: torch.dtype = torch.float32) -> dict[str, float]:
    """Output and gradients of one case, against the definition in float32 on the CPU."""
    joints, read, made, batch, height, width, reach = case
    torch.manual_seed(sum(case[:6]))
    # Rounded to the type that the kernels get, so that only their own rounding is seen.
    x = torch.randn(batch, joints * read, height, width).to(dtype).float().requires_grad_()
    geometry = (torch.randn(batch, 6 * joints, height, width) * reach).to(dtype).float().requires_grad_()
    weight = torch.randn(joints * made, read, 3, 3).to(dtype).float().requires_grad_()
    grad = torch.randn(batch, joints * made, height, width).to(dtype).float()
    expected = adaptive_conv_plain(x, geometry, weight)
    wanted = torch.autograd.grad(expected, (x, geometry, weight), grad)
    given = [t.detach().to(device, dtype).requires_grad_() for t in (x, geometry, weight)]
    found = adaptive_triton.adaptive_conv(*given)
    assert found.is_contiguous(memory_format=torch.channels_last) and found.dtype == dtype
    got = torch.autograd.grad(found, given, grad.to(device, dtype))
    names = ("map", "geometry", "kernel")
    return {"output": gap(found, expected), **{n: gap(a, b) for n, a, b in zip(names, got, wanted, strict=True)}}


def block(device: str, dtype: torch.dtype = torch.float32, channels: int = 3) -> dict[str, float]:
    """A whole adaptive block, its norm folded; then one whose positions are no numbers."""
    torch.manual_seed(channels)
    plain = AdaptiveBlocks(2, channels).eval()
    nn.init.normal_(plain.bn.running_mean, std=0.1)
    nn.init.normal_(plain.geometry_conv.weight, std=0.3)
    folded = fold_norms(plain)
    x = torch.randn(1, 2 * channels, 5, 6)
    with torch.no_grad():
        expected = plain(x)
        quick = adaptive_triton.TritonAdaptiveBlocks(folded, dtype).to(device)
        found = quick(x.to(device, dtype))
        quick.geometry_shift.fill_(float("nan"))
        finite = bool(torch.isfinite(quick(x.to(device, dtype))).all())
    return {"block": gap(found, expected), "not finite": 0.0 if finite else 1.0}


def crops(device: str) -> dict[str, float]:
    """Crops by the kernel, in one batch, against those by gathers: the largest difference in grey levels."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((37, 50, 3), (20, 31, 3))]
    mean, std = torch.tensor([10.0, 20, 30]), torch.tensor([1.0, 1, 1])
    size = (12, 16)
    wanted = {
        "crop": (0, crop_from_box(np.array([-5.0, 4, 20, 30]), size)),
        "another crop": (0, crop_from_box(np.array([12.0, 3, 30, 22]), size)),
        "crop of another picture": (1, crop_from_box(np.array([3.0, 2, 20, 19]), size)),
        "reduced crop": (0, crop_from_box(np.array([2.0, 1, 46, 36]), size)),
        "the same crop": (0, crop_from_box(np.array([-5.0, 4, 20, 30]), size)),
    }
    if device == "cpu":
        resample.has_kernel = lambda device: True
    where = torch.device(device)
    found = resample.resampled(images, [*wanted.values()], mean.to(where), std.to(where), device=where, bgr=True).cpu()
    gaps = {}
    for (name, (i, crop)), mine in zip(wanted.items(), found, strict=True):
        rows, columns = resample.taps_of(crop, *images[i].shape[:2])
        expected = resample.plain(torch.from_numpy(images[i]), rows, columns, mean, std, True)
        gaps[name] = float((mine.permute(1, 2, 0) - expected).abs().max())
    return gaps


def compiled() -> dict[str, Any]:
    """Each kernel translated for an H100 and an A100; bytes of the programs."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    half, single, number = "*fp16", "*fp32", "i32"
    sizes = {"CHANNELS": 15, "OUT": 15, "LANES": 16, "OUT_LANES": 16, "BLOCK": adaptive_triton.BLOCK}
    floats = {"bias": single, "geometry_bias": single, "grad_x": single, "grad_geometry": single, "partial": single}
    floats |= {"image": "*u8", "places": "*i32", "starts": "*i32", "weights": single, "mean": single, "std": single}
    halves = {"x": half, "geometry": half, "weight": half, "grad": half, "out": half}
    found = {}
    for kernel, constants in (
        (adaptive_triton._forward, {**sizes, "BIAS": True, "WHOLE": True}),
        (adaptive_triton._backward_maps, sizes),
        (adaptive_triton._backward_kernel, {**sizes, "ROUNDS": 60}),
        (resample_triton._resample, {"BGR": False, "BLOCK": 256, "ROW_TAPS": 2, "COLUMN_TAPS": 2}),
    ):
        types = {
            name: "constexpr" if name in constants else {**halves, **floats}.get(name, number)
            for name in kernel.arg_names
        }
        for capability in (80, 90):
            source = ASTSource(fn=kernel, signature=types, constexprs=constants)
            made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8})
            found[f"{kernel.fn.__name__} {capability}"] = len(made.asm["cubin"])
    return found


def wide() -> dict[str, int]:
    """Bytes of shared memory that kernels of the widest joints take in float32, for an A100."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    most = adaptive_triton.MOST_CHANNELS
    sizes = {"CHANNELS": most, "OUT": most, "LANES": most, "OUT_LANES": most, "BLOCK": adaptive_triton.BLOCK}
    options = {"num_warps": adaptive_triton.WARPS, "num_stages": adaptive_triton.stages(most)}
    whole = {"pixels", "height", "width", "joints", "splits"}
    found = {}
    for kernel, constants in (
        (adaptive_triton._forward, {**sizes, "BIAS": True, "WHOLE": True}),
        (adaptive_triton._backward_maps, sizes),
        (adaptive_triton._backward_kernel, {**sizes, "ROUNDS": 60}),
    ):
        types = {n: "constexpr" if n in constants else "i32" if n in whole else "*fp32" for n in kernel.arg_names}
        source = ASTSource(fn=kernel, signature=types, constexprs=constants)
        made = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
        found[kernel.fn.__name__] = made.metadata.shared
    return found


def main() -> None:
    """Runs the cases of the mode given and prints what was found."""
    if MODE == "compile":
        print(json.dumps(wide() if "wide" in sys.argv else compiled()))
        return
    device = "cpu" if MODE == "interpret" else "cuda"
    if MODE == "interpret":
        adaptive_triton._SPLITS = 2  # every program costs a second of Python
    found: dict[str, Any] = {name: convolution(case, device) for name, case in CASES.items()}
    if "all" in sys.argv:
        found |= {name: convolution(case, device) for name, case in LARGER.items()}
        # The interpreter multiplies the bits of bfloat16 as if they were whole numbers.
        for dtype in (torch.float16,) if MODE == "interpret" else (torch.bfloat16, torch.float16):
            found[f"DEKR in {dtype}"] = convolution(LARGER["as in DEKR"], device, dtype)
        found["wide block"] = block(device, channels=15)
    adaptive_triton.try_out(torch.device(device))
    found["block"] = block(device)
    found["crops"] = crops(device)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
