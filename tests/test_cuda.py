"""What only a CUDA device shows: every quick way agrees with the plain one there. `make test-gpu` runs these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from torch import nn

from posecli.batching import fit_batch
from posecli.checkpoint import ModelMeta
from posecli.geometry import crop_from_box, fit_picture, warp
from posecli.inference import DEFAULT_MODEL, PoseModel, PredictOptions, load_model
from posecli.models import MODELS
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fast_cuda import can_run_kernels, learn_with_kernels
from posecli.on_device.graphs import CudaRecorder, Replays
from posecli.on_device.resample import resampled
from posecli.on_device.upload import Uploader, on_device, sent_ahead
from posecli.scenes import render_frame
from posecli.skeletons import COCO17

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Float32 means float32: no TF32, so that what is left is rounding."""
    if torch.cuda.is_available():
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)


def model_of(name: str, speed: str, precision: str = "float32", size: int = 128) -> PoseModel:
    """A network of random weights whose norms and taps do something; the same for all speeds."""
    torch.manual_seed(0)
    network = MODELS[name](keypoints=17).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, AdaptiveBlocks):
            nn.init.normal_(module.geometry_conv.weight, std=0.05)
    codec = "dekr" if name.startswith("dekr") else "gaussian"
    meta = ModelMeta(name, {"keypoints": 17}, COCO17, (size, size), codec=codec)
    return PoseModel(network, meta, device="cuda", speed=speed, options=PredictOptions(precision=precision))


def pictures(count: int, side: int = 128) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)


def gap(found: Any, expected: Any, mean: bool = False) -> float:
    """The largest (or the mean) difference of maps in their range."""
    gaps = []
    for a, b in zip(found, expected, strict=True):
        difference = (a.float() - b.float()).abs()
        gaps.append(float(difference.mean() if mean else difference.max()) / float(b.max() - b.min()))
    return max(gaps)


@pytest.mark.parametrize("name", ["dekr-tiny", "hrnet-tiny"])
def test_quick_networks_agree_with_plain_ones(name: str) -> None:
    crops = pictures(3)
    expected = model_of(name, "plain").maps(crops)
    for speed in ("fused", "auto"):
        model = model_of(name, speed)
        for _ in range(5):  # called, recorded, replayed
            assert gap(model.maps(crops), expected) < 1e-3, speed
        assert model._replays is not None and len(model._replays) == 1
    for precision in ("bfloat16", "float16"):
        assert gap(model_of(name, "auto", precision).maps(crops), expected, mean=True) < 0.02, precision


def test_networks_that_give_places_are_recorded() -> None:
    crops, model = pictures(3), model_of("integral-resnet-tiny", "auto")
    expected = model_of("integral-resnet-tiny", "plain").maps(crops)
    for _ in range(5):
        found = model.maps(crops)
        torch.testing.assert_close(found.places, expected.places, rtol=0, atol=1e-4)
    assert model._replays is not None and len(model._replays) == 1


def test_kernels_run_where_they_can() -> None:
    model = model_of("dekr-tiny", "auto")
    assert model.runs_as == ("compiled" if can_run_kernels(model.device) else "fused")


def test_launches_are_replayed_for_every_size_of_batch() -> None:
    plain, quick = model_of("dekr-tiny", "plain"), model_of("dekr-tiny", "auto")
    quick.maps(pictures(1))  # the copy is made
    assert quick._replays is not None
    quick._replays = Replays(CudaRecorder(quick.device), patience=1)
    for count in (1, 5, 2, 5, 7, 1):
        crops = pictures(count)
        assert gap(quick.maps(crops), plain.maps(crops)) < 1e-3, count


def test_without_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSECLI_GRAPHS", "0")
    model = model_of("dekr-tiny", "auto")
    assert gap(model.maps(pictures(2)), model_of("dekr-tiny", "plain").maps(pictures(2))) < 1e-3
    assert model._replays is None


def test_a_recording_keeps_what_it_gave() -> None:
    network = nn.Conv2d(3, 4, 3).cuda().eval()
    replays = Replays(CudaRecorder(torch.device("cuda")))
    batches = [torch.randn(2, 3, 16, 16, device="cuda") for _ in range(4)]
    with torch.inference_mode():
        found = [replays(network, batch) for batch in batches]
        for batch, mine in zip(batches, found, strict=True):
            torch.testing.assert_close(mine, network(batch), rtol=1e-4, atol=1e-4)


def test_crops_of_the_device() -> None:
    image = pictures(1, 256)[0]
    # Smooth, so that OpenCV's grid of 1/32 pixel does not matter.
    image = warp(warp(image, fit_picture(256, 256, 32)), fit_picture(32, 32, 256))
    mean, std = torch.zeros(3, device="cuda"), torch.ones(3, device="cuda")
    for crop in (crop_from_box(np.array([20.0, -30, 180, 240]), (96, 128)), fit_picture(256, 256, 64)):
        found = resampled([image], [(0, crop)], mean, std, device=torch.device("cuda", 0))
        difference = np.abs(found[0].permute(1, 2, 0).cpu().numpy() - warp(image, crop))
        assert difference.mean() < 0.6 and difference.max() <= 4


def test_a_refused_recording_leaves_the_stream_as_it_was() -> None:
    before = torch.cuda.current_stream()
    values = torch.randn(4, device="cuda")
    with pytest.raises(RuntimeError):
        CudaRecorder(torch.device("cuda")).record(lambda: values.sum().item())
    assert torch.cuda.current_stream() == before
    # What is asked afterwards is recorded.
    replay, output = CudaRecorder(torch.device("cuda")).record(lambda: values * 2)
    replay()
    torch.testing.assert_close(output, values * 2)


def test_recordings_after_all_were_forgotten() -> None:
    """Matrix products: the library keeps a workspace, which must not keep the pool of recordings that are gone."""
    network = nn.Linear(32, 32).cuda().eval()
    replays = Replays(CudaRecorder(torch.device("cuda")), patience=1)
    with torch.inference_mode():
        for count in (1, 2):
            values = torch.randn(count, 32, device="cuda")
            torch.testing.assert_close(replays(network, values), network(values), rtol=1e-4, atol=1e-4)
            replays.clear()


def test_pictures_sent_ahead() -> None:
    uploader = Uploader(torch.device("cuda"))
    groups = [[np.full((90, 120, 3), 10 * g + i, np.uint8) for i in range(3)] for g in range(6)]
    before = sent_ahead()
    for group in groups:
        uploader.send(group)
    assert sent_ahead() == before + 18
    for g, group in enumerate(groups):
        for i, image in enumerate(group):
            assert bool((on_device(image, uploader.device) == 10 * g + i).all())


def test_the_shipped_model_finds_the_same_people() -> None:
    """Joints within half a pixel in float32 where the device rounds like the plain way, nearly all in halves."""
    rng = np.random.default_rng(3)
    images = [render_frame(rng, (640, 480), 2)[0] for _ in range(3)]
    people = {}
    for speed, precision in (("plain", "float32"), ("auto", "float32"), ("auto", "float16")):
        model = load_model(DEFAULT_MODEL, "cuda", speed=speed, options=PredictOptions(precision=precision))
        people[speed, precision] = model.predict(images, still=False)
    expected = people.pop(("plain", "float32"))
    assert sum(map(len, expected)) > 0
    for (_, precision), found in people.items():
        gaps = []
        for mine, other in zip(found, expected, strict=True):
            for person in other:
                if person.person_score < model.threshold + 0.1:
                    continue
                near = min(mine, key=lambda p: np.abs(p.xy - person.xy).mean())
                gaps.append(np.abs(near.xy - person.xy).max(-1)[person.score > 0.3])
        share = np.mean(np.concatenate(gaps) < (0.5 if precision == "float32" else 2.0))
        assert share > 0.95, (precision, share)


def test_batches_by_the_memory_of_the_device() -> None:
    # Large enough that its maps outweigh what the library's convolutions take aside for one or two.
    fit = fit_batch(model_of("dekr-tiny", "auto", size=512), 1280, 720)
    assert fit is not None and fit.bytes_each > 0
    assert fit.batch in (1, 2, 4, 8, 16, 32, 64)


@pytest.mark.parametrize("speed", ["auto", "plain", pytest.param("compiled", marks=pytest.mark.slow)])
def test_learning_agrees_with_the_plain_loop(speed: str, tmp_path: Path) -> None:
    """The losses of the first steps; weights go apart by rounding later."""
    data = make_people(tmp_path / "data")
    losses = {}
    for way in ("plain", speed):
        pupil = Pupil(data, "dekr-tiny", device="cuda", speed=way)
        losses[way] = [pupil.step(1e-4) for _ in range(4)]
    assert np.allclose(losses[speed], losses["plain"], rtol=2e-3)


def test_convolutions_are_measured_while_it_learns_only(tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 2), "dekr-tiny", device="cuda")
    seen: list[bool] = []
    pupil.learner.network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    pupil.step(1e-3)
    assert seen == [True] and not torch.backends.cudnn.benchmark


def test_gradients_in_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what PyTorch asks for matrix products
    torch.manual_seed(0)
    network = MODELS["dekr-tiny"](keypoints=2).cuda().train()
    if can_run_kernels(torch.device("cuda")):
        learn_with_kernels(network)
    block = next(m for m in network.modules() if isinstance(m, AdaptiveBlocks))
    nn.init.normal_(block.geometry_conv.weight, std=0.3)
    x = torch.randn(2, block.adapt_conv.in_channels, 24, 32, device="cuda", requires_grad=True)
    leaves = [x, *block.parameters()]
    torch.use_deterministic_algorithms(True)
    try:
        one, other = (torch.autograd.grad(block(x).square().sum(), leaves) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    for a, b in zip(one, torch.autograd.grad(block(x).square().sum(), leaves), strict=True):  # by the kernels
        assert (a - b).abs().max() <= 1e-3 * b.abs().max()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_learning_in_halves(precision: str, tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data"), "dekr-tiny", device="cuda", precision=precision)
    losses = [pupil.step(2e-3) for _ in range(20)]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.9 * losses[0]
