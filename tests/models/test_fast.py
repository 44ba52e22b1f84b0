"""Quicker copies of networks give the plain network's maps within rounding."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference import load_case, tensors
from torch import Tensor, fx, nn

from posecli.errors import PoseError
from posecli.models import MODELS, compiled
from posecli.models.adaptive import CompiledAdaptiveBlocks
from posecli.models.compiled import build, find_compiler
from posecli.models.deform import DeformConv2d, DeformSamples
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fast import FusedConv, fuse, keep_memory, traced
from posecli.models.fuse import fold_norms
from posecli.official import FAMILIES, convert

SMALL = [name for name in MODELS if name.endswith("-tiny") or name in ("pose-fpn", "dekr-finder")]
#: Those that run as a single graph; the others decide by what they are given, and their parts are graphs.
WHOLE = {"dekr-tiny", "hrnet-tiny", "simple-baseline-tiny", "hourglass-tiny", "hg-tiny", "fastpose-tiny", "cpn-tiny"}
WHOLE |= {"unipose-tiny", "cpm-tiny", "pose-fpn", "dekr-finder"}

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="no C++ compiler")


def trained(name: str) -> nn.Module:
    """As after training: norms that do something, taps that move."""
    torch.manual_seed(0)
    network = MODELS[name](keypoints=3).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
        if isinstance(module, AdaptiveBlocks):
            nn.init.normal_(module.geometry_conv.weight, std=0.1)
    return network


def worst(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> float:
    """The largest difference, in the range of each map."""
    ranges = [max(float(b.max() - b.min()), 1e-6) for b in expected]
    return max(float((a.float() - b).abs().max()) / r for a, b, r in zip(found, expected, ranges, strict=True))


@pytest.mark.parametrize("name", SMALL)
def test_same_maps_at_any_size(name: str) -> None:
    network = trained(name)
    quick = fuse(network, compiled=find_compiler() is not None)
    assert isinstance(quick, fx.GraphModule) or name not in WHOLE
    clip = "gru" in name or "lstm" in name
    for batch, size in ((1, 64), (2, 128)):
        image = torch.randn(batch, 3, size, size)
        image = image[:, None].repeat(1, 2, 1, 1, 1) if clip else image
        with torch.no_grad():
            found, expected = quick(image), network(image)
        if not isinstance(found, Tensor):
            assert getattr(found, "_fields", None) == getattr(expected, "_fields", None)
        maps = [(a, b) for a, b in zip(found, expected, strict=True) if isinstance(b, Tensor)]
        assert worst(tuple(a for a, _ in maps), tuple(b for _, b in maps)) < 1e-3


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-3), (torch.bfloat16, 0.1)])
def test_deformable_convolutions_are_joined_too(dtype: torch.dtype, most: float) -> None:
    torch.manual_seed(0)
    network = MODELS["fastpose-tiny"](keypoints=3, dcn=True).eval()
    blocks = [m for m in network.modules() if isinstance(m, DeformConv2d)]
    for name, values in network.named_parameters():
        if name.endswith("conv2_offset.weight"):
            nn.init.normal_(values, std=0.1)
    quick = fuse(network, dtype)
    assert isinstance(quick, fx.GraphModule)
    made = list(quick.modules())
    assert sum(isinstance(m, DeformSamples) for m in made) == len(blocks) > 2
    assert not any(isinstance(m, nn.Conv2d) for m in made)
    picture = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        assert worst(tuple(quick(picture.to(dtype))), tuple(network(picture))) < most


def test_convolutions_take_additions_and_relus_with_them() -> None:
    quick = fuse(trained("hrnet-tiny"))
    functions = [node.target for node in quick.graph.nodes if node.op == "call_function"]
    modules = list(quick.modules())
    assert sum(isinstance(m, FusedConv) for m in modules) == 41
    assert not any(isinstance(m, nn.Conv2d | nn.BatchNorm2d) for m in modules)
    # What is left are the sums with enlarged maps.
    assert len(functions) < 30


class Shared(nn.Module):
    """What must not be joined: a sum that is read twice, an addition in place of a map that is read again, a sum with
    a number, and one that spreads a smaller map."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv1(x)
        b = self.relu(a)
        kept = b * 1
        b += self.conv2(b)
        c = self.conv2(b) + 1
        d = self.conv2(c) + c.mean((2, 3), keepdim=True)
        return torch.stack([a, b, kept, self.relu(c), self.relu(d)])


def test_only_what_may_be_joined_is() -> None:
    torch.manual_seed(1)
    network, image = Shared().eval(), torch.randn(2, 3, 8, 10)
    with torch.no_grad():
        torch.testing.assert_close(fuse(network)(image), network(image), rtol=1e-4, atol=1e-5)


def test_bfloat16_is_near() -> None:
    network, image = trained("dekr-tiny"), torch.randn(1, 3, 64, 64)
    for own in (False, find_compiler() is not None):
        with torch.no_grad():
            found = fuse(network, torch.bfloat16, compiled=own)(image.bfloat16())
            expected = network(image)
        for a, b in zip(found, expected, strict=True):
            # A tap that moves by a rounding may read another pixel: the mean tells.
            assert a.dtype == torch.bfloat16
            assert (a.float() - b).abs().mean() < 0.01 * (b.max() - b.min())


@pytest.mark.parametrize("name", SMALL)
def test_every_network_computes_in_bfloat16(name: str) -> None:
    """Also those that compute some of their maps in float32 themselves (Tompson's contrast normalisation)."""
    if "gru" in name or "lstm" in name:
        pytest.skip("runs in float32, as all that carry something from frame to frame")
    network, image = trained(name), torch.randn(1, 3, 64, 64)
    quick = fuse(network, torch.bfloat16)
    with torch.no_grad():
        pairs = list(zip(quick(image.bfloat16()), network(image), strict=True))
    for found, expected in pairs:
        if isinstance(expected, Tensor):
            error = (found.float() - expected).abs().mean()
            assert error < 0.02 * max(float(expected.max() - expected.min()), 1.0)


@needs_compiler
@pytest.mark.parametrize("channels", [1, 3, 4, 8, 15, 16])
def test_compiled_blocks_equal_the_plain_ones(channels: int) -> None:
    """Taps within, across and far outside the map, and at positions that are no numbers; maps one pixel wide."""
    torch.manual_seed(channels)
    block = AdaptiveBlocks(2, channels).eval()
    nn.init.normal_(block.bn.running_mean, std=0.1)
    for reach in (0.1, 3.0):
        nn.init.normal_(block.geometry_conv.weight, std=reach)
        quick = CompiledAdaptiveBlocks(fold_norms(block), torch.float32)
        for height, width in ((9, 21), (1, 7), (8, 1)):
            x = torch.randn(2, 2 * channels, height, width)
            with torch.no_grad():
                expected = block(x)
                torch.testing.assert_close(quick(x), expected, rtol=1e-4, atol=2e-3 * float(expected.max()))
    nn.init.constant_(quick.geometry_conv.bias, float("nan"))
    assert torch.isfinite(quick(x)).all()


def test_too_wide_branches_stay_as_they_are() -> None:
    block = fold_norms(AdaptiveBlocks(1, 17).eval())
    with pytest.raises(ValueError, match="up to 16"):
        CompiledAdaptiveBlocks(block, torch.float32)
    with pytest.raises(ValueError, match="folded first"):
        CompiledAdaptiveBlocks(AdaptiveBlocks(1, 4).eval(), torch.float32)
    network = MODELS["dekr-tiny"](keypoints=2, joint_channels=17).eval()
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert worst(tuple(fuse(network, compiled=True)(image)), tuple(network(image))) < 1e-3


@needs_compiler
def test_built_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSECLI_CACHE", str(tmp_path))
    compiled._built.cache_clear()
    build("adaptive.cpp", CHANNELS=2, LANES=2)
    (library,) = (tmp_path / "kernels").iterdir()
    made = library.stat().st_mtime_ns
    compiled._built.cache_clear()
    build("adaptive.cpp", CHANNELS=2, LANES=2)
    assert library.stat().st_mtime_ns == made
    build("adaptive.cpp", CHANNELS=3, LANES=4)
    assert len(list((tmp_path / "kernels").iterdir())) == 2
    # A library that is broken says so.
    monkeypatch.setenv("POSECLI_CACHE", str(tmp_path / "other"))
    (tmp_path / "other" / "kernels").mkdir(parents=True)
    (tmp_path / "other" / "kernels" / library.name).write_bytes(b"no library")
    with pytest.raises(PoseError, match="cannot be loaded"):
        build("adaptive.cpp", CHANNELS=2, LANES=2)


def test_no_compiler_or_one_that_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSECLI_CACHE", str(tmp_path))
    monkeypatch.setenv("POSECLI_COMPILE", "0")
    with pytest.raises(PoseError, match="no C"):
        build("adaptive.cpp", CHANNELS=2, LANES=2)
    monkeypatch.delenv("POSECLI_COMPILE")
    refusing = tmp_path / "c++"
    refusing.write_text("#!/bin/sh\necho what is this >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setenv("CXX", str(refusing))
    with pytest.raises(PoseError, match="what is this"):
        build("adaptive.cpp", CHANNELS=2, LANES=2)
    assert not list((tmp_path / "kernels").iterdir())
    assert compiled.kernel_folder() == tmp_path / "kernels"


def test_memory_is_kept_once() -> None:
    """In a process of its own: it is a setting of the whole process."""
    code = "from posecli.models.fast import keep_memory as k; print(k() is k())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "True"
    assert isinstance(keep_memory(), bool)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_graph_that_is_there_already(name: str) -> None:
    """The network's own graph is that of its folded copy: maps are the same bit by bit."""
    network = trained(name)
    graph = traced(network)
    one, other = fuse(network, graph=graph), fuse(network)
    assert isinstance(one, fx.GraphModule) and isinstance(other, fx.GraphModule)
    assert one.code == other.code and list(dict(one.named_modules())) == list(dict(other.named_modules()))
    picture = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        assert all(torch.equal(a, b) for a, b in zip(one(picture), other(picture), strict=True))


@pytest.mark.parametrize("name", ["dekr-gru-tiny", "dekr-gru-seed-tiny", "unipose-lstm-tiny"])
def test_what_a_recurrent_network_sees_is_one_graph(name: str) -> None:
    """Only what is carried from frame to frame is left to code that decides; frame by frame the maps are the same."""
    network = trained(name)
    for gate in (p for n, p in network.named_parameters() if n.endswith("gate")):
        nn.init.constant_(gate, 0.1)
    quick = fuse(network)
    assert isinstance(quick.seen.__self__, fx.GraphModule)
    states: list[Any] = [None, None]
    with torch.inference_mode():
        for image in torch.randn(3, 1, 3, 64, 96):
            (found, states[0]), (expected, states[1]) = (
                own.step(image, state, torch.full((1,), 1 / 15))
                for own, state in zip((quick, network), states, strict=True)
            )
            assert worst(tuple(found), tuple(expected)) < 1e-4


def test_a_network_in_training_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation mode"):
        fuse(MODELS["hrnet-tiny"](keypoints=3))


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
@pytest.mark.parametrize("speed", ["fused", "compiled"])
def test_w32_of_the_reference(shared: Path, speed: str, dtype: torch.dtype, most: float) -> None:
    """Maps within a thousandth of their range, with the reference's parameters (here within a ten-thousandth); in
    bfloat16, whose values have eight bits, within two hundredths (here within one)."""
    if speed == "compiled" and find_compiler() is None:
        pytest.skip("no C++ compiler")
    case = load_case(shared, "dekr_w32_coco")
    network = MODELS["dekr-w32"](keypoints=17)
    network.load_state_dict(convert(FAMILIES[0], network, tensors(case["params"])))
    image = torch.from_numpy(case["input"])
    golden = tuple(torch.from_numpy(case["golden"][name]) for name in ("heatmap", "offset"))
    with torch.no_grad():
        found = fuse(network.eval(), dtype, compiled=speed == "compiled")(image.to(dtype))
    assert all(values.dtype == dtype for values in found)
    assert worst(tuple(found), golden) < most
