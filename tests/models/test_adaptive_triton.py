"""DEKR's adaptive convolution as Triton kernels agrees with the plain one: values and gradients."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

SCRIPT = Path(__file__).resolve().parent.parent / "triton_cases.py"

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def cases(mode: str, *more: str) -> dict[str, Any]:
    """What the script found; without a device it sees none, so that the interpreter is asked wherever it runs."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    if mode == "interpret":
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(SCRIPT), mode, *more]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


def check(found: dict[str, Any]) -> None:
    """Single precision to the last bits, halves to theirs; crops to a grey level at a rounding's edge."""
    for name, gaps in found.items():
        for what, gap in gaps.items():
            limit = 1.01 if "crop" in what else 0.03 if "float16" in name else 1e-4
            assert gap <= limit, (name, what, gap)


@needs_triton
def test_kernels_agree_with_the_plain_code() -> None:
    check(cases("interpret"))


@needs_triton
@pytest.mark.slow
def test_more_shapes_and_types() -> None:
    check(cases("interpret", "all"))


@needs_triton
@pytest.mark.slow
def test_kernels_are_programs_for_devices() -> None:
    """They are translated without a device: what a device's compiler would refuse is refused here."""
    found = cases("compile")
    assert len(found) == 8
    assert min(found.values()) > 1000


@needs_triton
@pytest.mark.slow
def test_wide_kernels_fit_into_what_devices_have() -> None:
    """99 KB of shared memory in all of them since Ampere; in an A100 163, in an H100 227."""
    found = cases("compile", "wide")
    assert len(found) == 3
    assert max(found.values()) <= 99 * 1024, found


@needs_triton
@pytest.mark.cuda
def test_kernels_on_the_device() -> None:
    check(cases("cuda", "all"))


@needs_triton
def test_learning_in_one_order_is_no_kernels_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their atomics add in any order: under `torch.use_deterministic_algorithms` they stand back."""
    from posecli.models import adaptive_triton, deform

    monkeypatch.setattr(deform, "wants_one_order", lambda x, geometry: True)
    monkeypatch.setattr(adaptive_triton, "_AdaptiveConv", None)
    torch.manual_seed(0)
    given = torch.randn(1, 6, 5, 4), torch.randn(1, 12, 5, 4), torch.randn(6, 3, 3, 3), torch.randn(6)
    torch.testing.assert_close(adaptive_triton.adaptive_conv(*given), deform.adaptive_conv(*given))


def test_without_triton_the_plain_blocks_stay() -> None:
    """Nothing but the kernels' own module imports Triton."""
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "import posecli.inference, posecli.training, posecli.on_device.resample\n"
        "from posecli.models import MODELS, fast_cuda\n"
        "import torch\n"
        "network = MODELS['dekr-tiny'](keypoints=2).eval()\n"
        "fast_cuda.quicken(network, torch.float32, kernels=False)(torch.zeros(1, 3, 32, 32))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_quickened_networks_agree_on_the_cpu() -> None:
    """All that `quicken` does but the kernels runs anywhere."""
    from posecli.models import MODELS
    from posecli.models.fast_cuda import quicken

    torch.manual_seed(0)
    network, image = MODELS["dekr-tiny"](keypoints=2).eval(), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = network(image)
        for dtype, limit in ((torch.float32, 1e-5), (torch.bfloat16, 0.05)):
            quick = quicken(network, dtype, kernels=False)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
                found = quick(image.to(dtype))
            assert any(p.dtype == dtype for p in quick.parameters())
            for a, b in zip(found, expected, strict=True):
                assert (a.float() - b).abs().max() <= limit * max(float(b.abs().max()), 0.1)
