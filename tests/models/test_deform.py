"""Deformable and adaptive convolution against direct summation and against each other."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import load_post
from torch.nn import functional

from posecli.models import deform
from posecli.models.deform import (
    DeformConv2d,
    adaptive_conv,
    adaptive_conv_plain,
    adaptive_offset,
    deform_conv2d,
    in_two_steps,
)


def test_before_pytorch_2_7():
    """It does not tell yet whether a network is being exported."""
    code = (
        "import torch\n"
        "if hasattr(torch.compiler, 'is_exporting'): del torch.compiler.is_exporting\n"
        "from posecli.models import MODELS\n"
        "MODELS['dekr-tiny'](keypoints=2).eval()(torch.zeros(1, 3, 32, 32))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_learning_in_one_order(monkeypatch, dtype):
    """What a CUDA device does under `torch.use_deterministic_algorithms`: only what PyTorch can do so, same values."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 40).contiguous(memory_format=torch.channels_last)
    given = [x, torch.randn(2, 12, 5, 40), torch.randn(6, 3, 3, 3), torch.randn(6)]
    found = {}
    for ordered in (False, True):
        monkeypatch.setattr(deform, "wants_one_order", lambda x, geometry, wanted=ordered: wanted)
        leaves = [t.detach().clone().requires_grad_() for t in given]
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = adaptive_conv(leaves[0].to(dtype), *leaves[1:])
        assert out.is_contiguous(memory_format=torch.channels_last)
        found[ordered] = out.detach(), *torch.autograd.grad(out.float().sum(), leaves)
        if ordered:
            names = graph_names(out.grad_fn)
            assert "GatherBackward0" in names and "GridSampler2DBackward0" not in names
    for a, b in zip(*found.values(), strict=True):
        limit = 1e-4 if dtype == torch.float32 else 0.02
        assert (a.float() - b.float()).abs().max() <= limit * b.abs().max()


def graph_names(node):
    """Of all steps of a backward pass."""
    seen, waiting = set(), [node]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return {node.name() for node in seen}


def test_one_order_is_wanted_where_it_was_told_and_something_learns(monkeypatch):
    x, geometry = SimpleNamespace(device=torch.device("cuda"), requires_grad=True), torch.zeros(1)
    assert not deform.wants_one_order(x, geometry)
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert deform.wants_one_order(x, geometry)
    assert not deform.wants_one_order(torch.zeros(1, requires_grad=True), geometry)  # a CPU's sums are in one order
    with torch.no_grad():
        assert not deform.wants_one_order(x, geometry)
    x.requires_grad = False
    assert not deform.wants_one_order(x, geometry)


@pytest.mark.parametrize("name", ["plain", "stride2", "dilation2_groups2", "modulated_two_offset_groups"])
def test_definition(shared, name):
    stored = {k.removeprefix(f"{name}_"): v for k, v in load_post(shared, "deform_conv").items() if k.startswith(name)}
    stride, padding, dilation, _ = (int(v) for v in stored.pop("stride_padding_dilation_groups"))
    given = {k: torch.from_numpy(v).double() for k, v in stored.items()}
    out = deform_conv2d(
        given["input"], given["offset"], given["weight"], given["bias"], stride, padding, dilation, given.get("mask")
    )
    assert np.abs(out.numpy() - stored["output"]).max() < 1e-5


def test_no_offset_is_ordinary_convolution():
    torch.manual_seed(0)
    x, weight = torch.randn(2, 4, 6, 7), torch.randn(5, 4, 3, 3)
    out = deform_conv2d(x, torch.zeros(2, 18, 6, 7), weight, padding=1)
    torch.testing.assert_close(out, functional.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-5)


def test_adaptive_block_steps(shared):
    stored = {k: torch.from_numpy(np.asarray(v)) for k, v in load_post(shared, "dekr_adapt_block").items()}
    geometry = torch.cat([stored["transform"], stored["translation"]], dim=1)
    torch.testing.assert_close(adaptive_offset(geometry), stored["offset"])
    for function in (adaptive_conv_plain, adaptive_conv):
        out = function(stored["input"], geometry, stored["param_adapt_conv.weight"])
        torch.testing.assert_close(out, stored["deform_output"], rtol=1e-4, atol=1e-5)


def test_adaptive_block(shared):
    from posecli.models.dekr import AdaptiveBlocks

    stored = {k: torch.from_numpy(np.asarray(v)) for k, v in load_post(shared, "dekr_adapt_block").items()}
    block = AdaptiveBlocks(1, 15).eval()
    state = {k.removeprefix("param_"): v for k, v in stored.items() if k.startswith("param_")}
    for kind in ("weight", "bias"):
        parts = [state.pop(f"{part}_conv.{kind}") for part in ("transform_matrix", "translation")]
        state[f"geometry_conv.{kind}"] = torch.cat(parts)
    state.pop("regular_matrix")
    block.load_state_dict(state)
    with torch.no_grad():
        torch.testing.assert_close(block(stored["input"]), stored["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("together", [1, 2, 100])
@pytest.mark.parametrize("reach", [0.3, 3.0, 30.0])
def test_fast_path_equals_plain(monkeypatch, reach, together):
    """Joints one by one, in pairs and all at once; taps within, across and far outside the map; maps one pixel wide."""
    monkeypatch.setattr(deform, "_CACHED_VALUES", together * 2 * 9 * 5 * 99)
    torch.manual_seed(1)
    for height, width in ((9, 11), (1, 7), (8, 1)):
        x = torch.randn(2, 3 * 5, height, width)
        geometry, weight = torch.randn(2, 3 * 6, height, width) * reach, torch.randn(3 * 5, 5, 3, 3)
        plain = torch.cat(
            [
                adaptive_conv_plain(x[:, 5 * j : 5 * j + 5], geometry[:, 6 * j : 6 * j + 6], weight[5 * j : 5 * j + 5])
                for j in range(3)
            ],
            dim=1,
        )
        torch.testing.assert_close(adaptive_conv(x, geometry, weight), plain, rtol=1e-4, atol=2e-4)


def test_one_map_is_read_in_strips(monkeypatch):
    monkeypatch.setattr(deform, "_CACHED_VALUES", 1)
    torch.manual_seed(3)
    x, geometry, weight = torch.randn(1, 4, 16, 6), torch.randn(1, 6, 16, 6), torch.randn(4, 4, 3, 3)
    plain = adaptive_conv_plain(x, geometry, weight)
    torch.testing.assert_close(adaptive_conv(x, geometry, weight), plain, rtol=1e-4, atol=1e-5)
    x = x.contiguous(memory_format=torch.channels_last)
    out = adaptive_conv(x, geometry, weight)
    assert out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-5)


def test_half_precision_keeps_the_positions():
    """Under autocast the positions are computed in float32."""
    torch.manual_seed(4)
    x, weight = torch.randn(1, 4, 4, 300), torch.randn(4, 4, 3, 3)
    geometry = torch.zeros(1, 6, 4, 300)
    geometry[:, 5] = 0.5
    plain = adaptive_conv_plain(x, geometry, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = adaptive_conv(x, geometry, weight)
    assert (half.float() - plain).abs().max() < 0.02 * plain.abs().max()


def test_gradients_equal_the_plain_path():
    torch.manual_seed(2)
    leaves = [torch.randn(1, 4, 5, 6), torch.randn(1, 6, 5, 6), torch.randn(4, 4, 3, 3)]
    grads = []
    for function in (adaptive_conv_plain, adaptive_conv):
        own = [leaf.double().requires_grad_() for leaf in leaves]
        function(*own).square().sum().backward()
        grads.append([leaf.grad for leaf in own])
    for plain, fast in zip(*grads, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_positions_of_any_taps(dtype: torch.dtype) -> None:
    """Maps of half precision are sampled where they are told: beyond pixel 128 bfloat16 knows whole pixels only."""
    torch.manual_seed(4)
    x, weight = torch.randn(1, 4, 4, 300).to(dtype), (torch.randn(4, 4, 3, 3) / 6).to(dtype)
    offset = torch.full((1, 18, 4, 300), 0.5, dtype=dtype)
    plain = deform_conv2d(x.float(), offset.float(), weight.float(), padding=1)
    half = deform_conv2d(x, offset, weight, padding=1)
    assert half.dtype == dtype
    assert (half.float() - plain).abs().max() < 0.01 * plain.abs().max()


@pytest.mark.parametrize(
    ("shape", "size_in"),
    [
        pytest.param({"kernel_size": 3, "padding": 1}, (7, 9), id="same"),
        pytest.param({"kernel_size": 3, "padding": 1, "stride": 2}, (8, 5), id="stride2"),
        pytest.param({"kernel_size": (1, 3), "padding": 2, "dilation": 2, "bias": False}, (4, 9), id="dilated"),
    ],
)
@pytest.mark.parametrize("reach", [0.3, 6.0])
@torch.no_grad()
def test_samples_then_an_ordinary_convolution(shape, size_in, reach):
    """Equal to the definition, with samples within, across and far outside the map."""
    torch.manual_seed(0)
    conv = DeformConv2d(3, 5, **shape)
    samples, mix = in_two_steps(conv)
    x = torch.randn(2, 3, *size_in).contiguous(memory_format=torch.channels_last)
    out_size = torch.nn.functional.conv2d(x, conv.weight, None, conv.stride, conv.padding, conv.dilation).shape[-2:]
    taps = conv.weight[0, 0].numel()
    offset = reach * torch.randn(2, 2 * taps, *out_size)
    expected = conv(x, offset)
    sampled = samples(x, offset)
    assert sampled.shape == (2, 3 * taps, *out_size) and sampled.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(mix(sampled), expected, rtol=1e-5, atol=1e-5)
    halved = samples(x.bfloat16(), offset)
    assert halved.dtype == torch.bfloat16
    torch.testing.assert_close(halved.float(), sampled, rtol=0.02, atol=0.02 * float(sampled.abs().max()))
    # Positions that are no numbers read nothing, and nothing beyond the map.
    wild = torch.full_like(offset, float("nan"))
    wild[:, ::2] = float("inf")
    assert samples(x, wild).abs().max() == 0


def test_weights_in_groups_stay_one_step():
    assert in_two_steps(DeformConv2d(4, 4, 3, groups=2)) is None
