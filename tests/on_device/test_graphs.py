"""A network through recordings gives what the network gives; here recordings are calls of Python."""

from __future__ import annotations

import contextlib
from collections import namedtuple
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from posecli.models import MODELS
from posecli.models.fast import is_one_graph
from posecli.on_device.graphs import CudaRecorder, Replays, copied

Maps = namedtuple("Maps", ["heatmap", "stages"])


class Player:
    """As CUDA graphs work: one memory for the output, written anew by each replay from the memory of the input."""

    def __init__(self) -> None:
        self.recorded = 0

    def record(self, run: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        self.recorded += 1
        output = run()

        def replay() -> None:
            for mine, new in zip(
                (output.heatmap, *output.stages), (lambda o: (o.heatmap, *o.stages))(run()), strict=True
            ):
                mine.copy_(new)

        return replay, output


def network(values: Tensor) -> Maps:
    return Maps(values.sum(1, keepdim=True), [values * 2, values.mean((2, 3))])


def same(found: Maps, expected: Maps) -> bool:
    pairs = zip((found.heatmap, *found.stages), (expected.heatmap, *expected.stages), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_what_was_made_stays_as_it_was() -> None:
    player = Player()
    replays = Replays(player, patience=1)
    batches = [torch.randn(2, 3, 4, 6) for _ in range(3)]
    found = [replays(network, batch) for batch in batches]
    assert player.recorded == 1
    assert all(same(f, network(b)) for f, b in zip(found, batches, strict=True))


def test_batches_are_filled_up_to_few_sizes() -> None:
    player = Player()
    replays = Replays(player, patience=1)
    for count in (5, 6, 7, 8, 6, 5, 70):
        batch = torch.randn(count, 3, 4, 6).contiguous(memory_format=torch.channels_last)
        assert same(replays(network, batch), network(batch))
    assert player.recorded == len(replays) == 3  # 6, 8 and 70
    # The last frames of a video: what was recorded for more of them will do.
    replays = Replays(player := Player(), patience=1)
    for count in (8, 5, 4, 3):
        batch = torch.randn(count, 3, 4, 6)
        assert same(replays(network, batch), network(batch))
    assert player.recorded == 2  # 8 and 3


def test_only_what_comes_again_is_recorded() -> None:
    player = Player()
    replays = Replays(player, patience=3)
    for side, recorded in ((4, 0), (6, 0), (4, 0), (4, 1), (6, 1), (6, 2), (4, 2)):
        batch = torch.randn(2, 3, side, side)
        assert same(replays(network, batch), network(batch))
        assert player.recorded == recorded


def test_a_recording_goes_when_it_was_not_used_for_long() -> None:
    player = Player()
    replays = Replays(player, most=2, patience=1, kept=3)
    for side in (4, 6, 8, 8, 6, 8):  # there is no room for the third
        batch = torch.randn(1, 3, side, side)
        assert same(replays(network, batch), network(batch))
    assert player.recorded == 3  # the last time: the first was not used for four calls
    assert len(replays) == 2
    replays(network, torch.randn(1, 3, 6, 6))
    assert player.recorded == 3
    replays.clear()
    assert len(replays) == 0


def test_another_network_has_its_own() -> None:
    player = Player()
    replays = Replays(player, patience=1)
    batch = torch.randn(1, 3, 4, 4)
    replays(network, batch)
    other = replays(lambda values: Maps(values * 3, []), batch)
    assert player.recorded == 2
    assert torch.equal(other.heatmap, batch * 3)


def test_copies_keep_their_form() -> None:
    found = copied(Maps(torch.ones(3, 2), [torch.zeros(3), {"a": torch.ones(3, 1)}, "text"]), 2)
    assert type(found) is Maps
    assert found.heatmap.shape == (2, 2)
    assert found.stages[1]["a"].shape == (2, 1)
    assert found.stages[2] == "text"


class Cuda:
    """Of `torch.cuda` what a recorder uses: who has which stream, whose pool; a refused recording keeps its stream
    the current one, as PyTorch's does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current: Any = SimpleNamespace(name="default", wait_stream=lambda other: None)
        self.pools: list[Any] = []
        self.streams: list[Any] = []
        self.refused = False
        cuda = self

        class Graph:
            def replay(self) -> None:
                pass

            def pool(self) -> int:
                return id(self)

        class Recording:
            def __init__(self, graph: Graph, pool: Any = None, stream: Any = None, **more: Any) -> None:
                cuda.pools.append(pool)
                cuda.streams.append(stream)

            def __enter__(self) -> None:
                self.before, cuda.current = cuda.current, cuda.streams[-1]

            def __exit__(self, *error: object) -> None:
                if cuda.refused:
                    raise RuntimeError("operation failed due to a previous error during capture")
                cuda.current = self.before

        @contextlib.contextmanager
        def stream(wanted: Any) -> Iterator[None]:
            before, cuda.current = cuda.current, wanted
            try:
                yield
            finally:
                cuda.current = before

        monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "Stream", lambda: SimpleNamespace(name="side", wait_stream=lambda other: None))
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current)
        monkeypatch.setattr(torch.cuda, "stream", stream)
        monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
        monkeypatch.setattr(torch.cuda, "graph", Recording)


def test_a_refused_recording_leaves_the_stream_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = Cuda(monkeypatch)
    cuda.refused = True
    with pytest.raises(RuntimeError, match="previous error"):
        CudaRecorder(torch.device("cuda", 0)).record(lambda: None)
    assert cuda.current.name == "default"
    assert not torch.backends.cudnn.benchmark


def test_recordings_share_the_pool_of_those_that_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody uses any more is refused by PyTorch for as long as a library holds a part of it."""
    cuda = Cuda(monkeypatch)
    replays = Replays(CudaRecorder(torch.device("cuda", 0)), patience=1)
    for count in (1, 2):
        replays(network, torch.randn(count, 3, 4, 4))
    assert cuda.pools[0] is None and cuda.pools[1] is not None
    replays.clear()
    replays(network, torch.randn(1, 3, 4, 4))
    assert cuda.pools[2] is None
    assert len(set(map(id, cuda.streams))) == 1  # none of them is PyTorch's own, which is on one device for all


class Forbidden(TorchDispatchMode):
    """Notes what a recording can't hold: numbers taken from a tensor, or brought to the device from Python."""

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.name().split("::")[1].split(".")[0]
        if name in ("lift_fresh", "_local_scalar_dense", "nonzero", "masked_select"):
            self.called.add(name)
        return function(*args, **(kwargs or {}))


#: Cascades, which cut out what they look at next, and what remembers: they are called, not recorded.
DECIDING = {
    "deeppose-tiny", "deeppose-resnet-tiny", "tompson-tiny", "dekr-gru-tiny", "dekr-gru-seed-tiny", "unipose-lstm-tiny",
}  # fmt: skip
#: Every family once, deformable convolutions and the shipped model's two networks among them.
EACH = {name for name in MODELS if name.endswith("-tiny")} | {"fastpose-50-dcn", "pose-fpn", "dekr-finder"}


def test_networks_that_decide_by_what_they_see_are_these() -> None:
    assert {name for name in EACH if not is_one_graph(MODELS[name](keypoints=3).eval())} == DECIDING


@pytest.mark.parametrize("name", sorted(EACH - DECIDING))
def test_networks_that_are_recorded_can_be(name: str) -> None:
    """A number made a tensor in `forward` is a copy from the host, of memory that is another's when it is replayed."""
    model = MODELS[name](keypoints=3).eval()
    with torch.inference_mode(), Forbidden() as forbidden:
        model(torch.randn(1, 3, 64, 64))
    assert not forbidden.called
