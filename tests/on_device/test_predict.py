"""The device's way through `PoseModel` and the pipeline, run on a CPU, gives the plain way's people."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from posecli import running
from posecli.errors import PoseError
from posecli.inference import PoseModel, load_model
from posecli.models import fast_cuda
from posecli.on_device.graphs import Replays
from posecli.on_device.upload import sent_ahead
from posecli.person_boxes import whole_picture
from posecli.pipeline import InferOptions, infer, poses_of
from posecli.video import open_source


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models behave as on a CUDA device, as far as a CPU can."""
    monkeypatch.setattr(PoseModel, "crops_on_device", True)


class Recorder:
    """Calls again instead of replaying."""

    def record(self, run: Any) -> tuple[Any, Any]:
        output = run()
        parts = [part for part in output if isinstance(part, Tensor)]

        def replay() -> None:
            for mine, new in zip(parts, run(), strict=True):
                mine.copy_(new)

        return replay, output


def same_people(found: list[Any], expected: list[Any]) -> None:
    """A network of random weights answers to a grey level; joints stay within half a pixel nearly everywhere."""
    assert len(found) == len(expected) > 0
    gaps = []
    for (_, mine), (_, other) in zip(found, expected, strict=True):
        assert len(mine) == len(other) == 1
        gaps.append(np.abs(mine[0].xy - other[0].xy).max(-1))
    assert np.quantile(np.concatenate(gaps), 0.95) < 0.5


def test_people_of_a_video(on_device: None, tiny_model: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"end": 10, "batch": 4, "track": "none"}
    boxes = whole_picture(1.25)
    quick = load_model(tiny_model, "cpu")
    found = [(f.index, people) for f, people in infer(clip, model=quick, boxes=boxes, **options)]
    monkeypatch.setattr(PoseModel, "crops_on_device", False)
    plain = load_model(tiny_model, "cpu")
    expected = [(f.index, people) for f, people in infer(clip, model=plain, boxes=boxes, **options)]
    assert [i for i, _ in found] == list(range(10))
    same_people(found, expected)


def test_recorded_launches_in_between(tiny_model: Path, clip: Path) -> None:
    """Replaying changes no bit, whatever the batches."""
    boxes = whole_picture(1.25)
    results = []
    for recorded in (False, True):
        model = load_model(tiny_model, "cpu")
        model._running()
        if recorded:
            model._replays = Replays(Recorder(), patience=1)
        results.append([people[0].xy for _, people in infer(clip, model=model, boxes=boxes, end=7, batch=3)])
        assert not recorded or len(model._replays or ()) == 2  # batches of three and of one
    assert all(np.array_equal(a, b) for a, b in zip(*results, strict=True))


def test_what_cannot_be_recorded_runs_all_the_same(tiny_model: Path) -> None:
    class Refusing:
        def record(self, run: Any) -> tuple[Any, Any]:
            raise RuntimeError("operation not permitted when stream is capturing\nand more")

    told: list[str] = []
    model = load_model(tiny_model, "cpu")
    model.warn = told.append
    crops = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    expected = model.maps(crops)
    model._replays = Replays(Refusing(), patience=1)
    found = model.maps(crops)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert len(told) == 1 and "not recorded" in told[0] and "more" not in told[0]
    assert model._replays is None


def test_short_memory_forgets_recordings_and_halves(tiny_model: Path) -> None:
    class Short:
        def record(self, run: Any) -> tuple[Any, Any]:
            output = run()
            if len(output.heatmap) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return Recorder().record(run)

    told: list[str] = []
    model = load_model(tiny_model, "cpu")
    model.warn = told.append
    crops = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    expected = model.maps(crops)
    model._replays = Replays(Short(), patience=1)
    found = model.maps(crops)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert len(told) == 1 and "out of memory" in told[0]


def test_stopping_early_ends_all_threads(on_device: None, tiny_model: Path, clip: Path) -> None:
    before = {t for t in threading.enumerate() if t.is_alive()}
    model = load_model(tiny_model, "cpu")
    with open_source(clip) as source:
        lines = poses_of(source, model, InferOptions(track="none", batch=2), boxes=whole_picture(1.25))
        next(lines)
        lines.close()
    assert not [t for t in threading.enumerate() if t not in before and t.name == "prefetch"]
    assert sent_ahead() <= 30


def test_the_first_error_is_the_one_told(
    on_device: None, tiny_model: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(tiny_model, "cpu")

    def broken(*arguments: Any, **more: Any) -> Any:
        raise ValueError("this network is broken")

    monkeypatch.setattr(model, "maps", broken)
    with pytest.raises(ValueError, match="this network is broken"):
        list(infer(clip, model=model, boxes=whole_picture(1.25), track="none"))


def test_where_triton_cannot_build_its_kernels(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a container without a C compiler: `auto` does without them and says so, `compiled` is refused."""
    here = torch.device("cuda", 77)

    def refusing(device: torch.device) -> None:
        raise RuntimeError("Failed to find C compiler.\nand more")

    kernels = SimpleNamespace(try_out=refusing)
    monkeypatch.setitem(sys.modules, "posecli.models.adaptive_triton", kernels)
    for module in (fast_cuda, running):
        monkeypatch.setattr(module, "has_triton", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    fast_cuda.kernels_trouble.cache_clear()
    assert not fast_cuda.can_run_kernels(here)
    told: list[str] = []
    for speed in ("auto", "compiled"):
        model = load_model(tiny_model, "cpu", speed=speed)
        model.warn = told.append
        model.device = here
        if speed == "auto":
            assert model.runs_as == "fused"
            model._running()
            assert len(told) == 1 and "C compiler" in told[0] and "more" not in told[0]
        else:
            with pytest.raises(PoseError, match="Failed to find C compiler"):
                model._running()
    fast_cuda.kernels_trouble.cache_clear()
