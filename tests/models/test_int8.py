"""Networks in whole numbers: each convolution is exact on its grid, and the whole agrees with the float network."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from posecli.errors import PoseError, UsageError
from posecli.inference import PoseModel, load_model
from posecli.models import MODELS
from posecli.models.fast import FusedConv, fuse
from posecli.models.int8 import (
    Grid,
    Observer,
    QuantisedConv,
    can_quantise,
    input_grid,
    quantise,
    quantised,
    restored,
)
from posecli.models.one_call import OneCall, can_call, in_one_call
from posecli.readout import PredictOptions

pytestmark = pytest.mark.skipif(not can_quantise(), reason="this processor has no products of 8 bits (VNNI)")


def network(name: str = "pose-fpn", **arguments: object) -> nn.Module:
    """Random weights and norms that are not the identity."""
    torch.manual_seed(3)
    made = MODELS[name](keypoints=5, **arguments)
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


SMALL = {"widths": (16, 32, 32, 48), "blocks": (2, 1, 1, 1), "stem_channels": 16, "channels": 16}


def observed(made: nn.Module, *pictures: Tensor) -> dict[str, list[float]]:
    seen = Observer(fuse(made))
    with torch.inference_mode():
        for picture in pictures:
            seen.run(picture)
    return seen.ranges()


@pytest.mark.parametrize(("low", "high"), [(0.0, 6.3), (-2.0, 5.0), (0.5, 4.0), (-3.0, -1.0), (0.0, 0.0)])
def test_a_grid_holds_its_range_and_zero(low: float, high: float) -> None:
    grid = Grid.over(low, high)
    values = torch.linspace(low, high, 1000)
    assert 0 <= grid.zero <= 255 and float(restored(quantised(torch.zeros(1), *grid), *grid)) == 0
    assert (restored(quantised(values, *grid), *grid) - values).abs().max() <= 0.5001 * grid.scale + 1e-6
    beyond = quantised(torch.tensor([low - 100, high + 100]), *grid)
    assert beyond.tolist() == [0, 255]


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("adding", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (1, 1), (3, 2)])
def test_a_convolution_is_exact_on_its_grid(relu: bool, adding: bool, kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 32, kernel, stride, kernel // 2)
    given, gives, added = Grid.over(-1.5, 2.0), Grid.over(0 if relu else -3.0, 3.0), Grid.over(-2.0, 1.0)
    x = torch.randint(0, 256, (2, 16, 12, 9), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    size = plain(restored(x, *given)).shape
    other = torch.randint(0, 256, size, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    conv = QuantisedConv(FusedConv(plain, relu, torch.float32), given, gives, added if adding else None)
    scale = plain.weight.detach().abs().amax((1, 2, 3)).view(-1, 1, 1, 1) / 127
    weight = (plain.weight.detach() / scale).round() * scale
    wanted = functional.conv2d(
        restored(x, *given).double(), weight.double(), plain.bias.detach().double(), stride, kernel // 2
    )
    if adding:
        wanted = wanted + restored(other, *added)
    wanted = quantised(wanted.relu() if relu else wanted, *gives)
    found = conv(x, other.clone(memory_format=torch.preserve_format)) if adding else conv(x)
    assert found.dtype == torch.uint8
    away = (found.int() - wanted.int()).abs()
    assert away.max() <= 1 and (away > 0).float().mean() < 0.02  # halves are rounded either way


def test_the_whole_network_is_the_float_one_with_its_maps_on_grids() -> None:
    made = network(**SMALL)
    torch.manual_seed(1)
    x = torch.randn(3, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    ranges = observed(made, x)
    whole = quantise(fuse(made), ranges)
    kinds = [type(m) for m in whole.modules()]
    assert kinds.count(FusedConv) == 0 and kinds.count(QuantisedConv) == len(ranges) - 1
    fused = fuse(made)

    class OnGrids(fx.Interpreter):
        def run_node(self, n: fx.Node) -> object:
            found = super().run_node(n)
            if n.op in ("placeholder", "call_module") and n.target != "fused_head":
                grid = Grid.over(*ranges["input" if n.op == "placeholder" else n.target])
                return restored(quantised(found, *grid), *grid)
            return found

    with torch.inference_mode():
        found, plain = whole(x).heatmap, made(x).heatmap
        rounded = OnGrids(fused).run(x).heatmap
        assert torch.equal(found[1:2], whole(x[1:2].contiguous(memory_format=torch.channels_last)).heatmap)
        assert torch.equal(found, whole(x).heatmap)  # nothing it works with was overwritten
    spread = plain.std()
    # Weights on their grids make the rest of the difference.
    assert (found - rounded).abs().mean() < 0.05 * spread
    assert (found - plain).abs().mean() < 0.1 * spread and np.corrcoef(found.flatten(), plain.flatten())[0, 1] > 0.99


class Awkward(nn.Module):
    """Adds a map to a convolution of itself, one that is used again, one of a single row, a view of another's."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.itself, self.again, self.row, self.view = (
            nn.Conv2d(n, 16, 3, 1, 1) for n in (3, 16, 16, 16, 16)
        )

    def forward(self, image: Tensor) -> Tensor:
        a = torch.relu(self.first(image))
        b = torch.relu(self.itself(a) + a)
        c = self.again(b) + a
        d = torch.relu(self.row(c) + b[:, :, :1])
        e = self.view(d) + torch.flip(c, (0,))[:]
        return e + a + b + c + d


def test_what_is_added_is_overwritten_only_where_nobody_needs_it() -> None:
    torch.manual_seed(0)
    made = Awkward().eval()
    x = torch.randn(2, 3, 24, 32).contiguous(memory_format=torch.channels_last)
    whole = quantise(fuse(made), observed(made, x))
    assert sum(isinstance(m, QuantisedConv) for m in whole.modules()) == 5
    with torch.inference_mode():
        found, plain = whole(x), made(x)
        assert torch.equal(found, whole(x))
    assert (found - plain).abs().mean() < 0.03 * plain.std()


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("hrnet-tiny", {}),
        ("simple-baseline-tiny", {}),
        ("dekr-tiny", {}),
        ("hourglass-tiny", {}),
        ("cpn-tiny", {}),
        ("cpm-tiny", {}),
    ],
)
def test_other_networks_in_whole_numbers(name: str, arguments: dict) -> None:
    made = network(name, **arguments)
    torch.manual_seed(1)
    x = torch.randn(2, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    whole = quantise(fuse(made), observed(made, x))
    assert sum(isinstance(m, QuantisedConv) for m in whole.modules()) > 5
    with torch.inference_mode():
        found, plain = whole(x).heatmap, made(x).heatmap
    assert np.corrcoef(found.flatten(), plain.flatten())[0, 1] > 0.98


def test_models_choose_and_say_why_not(tiny_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    plain = load_model(tiny_model, "cpu")
    assert not plain.in_whole_numbers
    told = load_model(tiny_model, "cpu", options=PredictOptions(precision="int8"))
    with pytest.raises(PoseError, match="no ranges"):
        told.predict([image])
    with pytest.raises(UsageError, match="unknown precision"):
        load_model(tiny_model, "cpu", options=PredictOptions(precision="int4"))
    with plain.calibrated():
        plain.predict([image], [np.array([[10.0, 10, 80, 80]])])
    assert plain.in_whole_numbers and set(plain.meta.extra["ranges"]) > {"input"}
    slow = PoseModel(plain.network, plain.meta, device="cpu", options=PredictOptions(precision="float32"))
    slow.finder = plain.finder
    assert not slow.in_whole_numbers
    boxes = [np.array([[10.0, 10, 80, 80], [30, 5, 90, 85]])]
    quick, exact = plain.predict([image], boxes)[0], slow.predict([image], boxes)[0]
    assert len(quick) == len(exact) > 0
    assert PoseModel(plain.network, plain.meta, device="cpu", speed="plain").in_whole_numbers is False


@pytest.mark.parametrize("mirrored", [False, True])
def test_bytes_by_table_are_those_of_the_arithmetic(monkeypatch: pytest.MonkeyPatch, mirrored: bool) -> None:
    """Pictures of a model in whole numbers go in by a table of their 256 values; the maps are the same, bit by bit."""
    model = load_model(device="cpu", options=PredictOptions(precision="int8"))
    for one in (model, model._people_finder()):
        width, height = one.meta.input_size
        pictures = np.random.default_rng(4).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
        mirror = (lambda batch: batch.flip(3)) if mirrored else None
        quick = one.maps(pictures, mirror)
        assert one._table is not None
        monkeypatch.setattr(one, "_table", None)
        for a, b in zip(quick, one.maps(pictures, mirror), strict=True):
            assert torch.equal(a, b)


def test_bytes_go_in_only_where_a_network_begins_with_them() -> None:
    made = network("pose-fpn", **SMALL)
    grids = observed(made, torch.rand(1, 3, 64, 64))
    whole = quantise(fuse(made), grids)
    assert input_grid(whole) == Grid.over(*grids["input"])
    assert input_grid(fuse(made)) is None and input_grid(made) is None


needs_graphs = pytest.mark.skipif(not can_call(), reason="this PyTorch reads no graphs that are written down")
FINDER = {**SMALL, "heatmap_channels": 16, "joint_channels": 2}


def in_whole(name: str, size: tuple[int, int], **arguments: object) -> fx.GraphModule:
    made = network(name, **arguments)
    torch.manual_seed(1)
    quantised = quantise(fuse(made), observed(made, *(torch.randn(1, 3, *size) for _ in range(3))))
    assert isinstance(quantised, fx.GraphModule)
    return quantised


def same(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return len(some) == len(others) and all(torch.equal(a, b) for a, b in zip(some, others, strict=True))


@needs_graphs
@pytest.mark.parametrize(
    ("name", "arguments"),
    [("pose-fpn", SMALL), ("pose-fpn", {**SMALL, "quality": True, "judge": 16}), ("dekr-finder", FINDER)],
)
def test_maps_are_the_same_bit_by_bit(name: str, arguments: dict) -> None:
    plain = in_whole(name, (64, 96), **arguments)
    called = in_one_call(plain)
    assert isinstance(called, OneCall)
    torch.manual_seed(2)
    with torch.inference_mode():
        for batch, height, width in ((1, 64, 96), (3, 64, 96), (2, 96, 64), (1, 64, 96)):
            picture = torch.randn(batch, 3, height, width)
            a, b = called(picture), plain(picture)
            assert type(a) is type(b) and same(a, b)


@needs_graphs
def test_threads_may_share_a_network() -> None:
    plain = in_whole("pose-fpn", (64, 64), **SMALL)
    called = in_one_call(plain)
    pictures = [torch.randn(n, 3, 64, 64) for n in (1, 2, 3, 4)]
    found: list[tuple[Tensor, ...]] = [()] * 4

    def look(n: int) -> None:
        with torch.inference_mode():
            for _ in range(5):
                found[n] = called(pictures[n])

    threads = [threading.Thread(target=look, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torch.inference_mode():
        assert all(same(a, plain(picture)) for a, picture in zip(found, pictures, strict=True))


@needs_graphs
def test_no_more_sizes_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posecli.models.one_call._MOST_SIZES", 2)
    called = in_one_call(in_whole("pose-fpn", (64, 64), **SMALL))
    assert isinstance(called, OneCall)
    with torch.inference_mode():
        for side in (64, 96, 128):
            called(torch.randn(1, 3, side, side))
    assert list(called._made) == [(96, 96), (128, 128)]


@needs_graphs
def test_what_cannot_be_read_runs_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(text: str) -> None:
        raise RuntimeError("no such operator\nand much more")

    plain = in_whole("pose-fpn", (64, 64), **SMALL)
    called = in_one_call(plain)
    monkeypatch.setattr("torch._C.parse_ir", refused)
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        with pytest.warns(UserWarning, match="call by call, more slowly: no such operator$"):
            assert same(called(x), plain(x))
        assert same(called(x), plain(x))  # and is not tried, or warned of, again


@needs_graphs
def test_others_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(in_one_call(nn.Identity()), nn.Identity)
    floats = fuse(network("pose-fpn", **SMALL))
    assert in_one_call(floats) is floats
    model = load_model(device="cpu", options=PredictOptions(precision="int8"))
    assert isinstance(model._running(), OneCall)
    monkeypatch.setenv("POSECLI_ONE_CALL", "0")
    model = load_model(device="cpu", options=PredictOptions(precision="int8"))
    assert not isinstance(model._running(), OneCall)
