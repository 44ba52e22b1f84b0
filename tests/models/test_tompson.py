"""Tompson et al.'s cascade: its parts against direct computations, the geometry of its windows, its three phases."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from learning import Pupil, make_people
from safetensors.torch import load_file
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta, load_checkpoint, save_model
from posecli.errors import UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.models import MODELS
from posecli.models.fuse import fold_norms
from posecli.models.layers import HeatmapOutput
from posecli.models.tompson import LocalContrast, Tompson, TompsonOutput, crop_windows, enlarge, halve, pyramid
from posecli.settings import resolve
from posecli.skeletons import get_skeleton
from posecli.training import train


def made(keypoints: int = 3, **arguments: object) -> Tompson:
    """A tiny network whose last layers say something."""
    torch.manual_seed(0)
    network = MODELS["tompson-tiny"](keypoints=keypoints, **arguments)
    assert isinstance(network, Tompson)
    with torch.no_grad():
        for layer in (network.classifier[-1], network.fine and network.fine.last):
            if layer is not None:
                layer.weight.normal_(0, 0.3)
    return network


def test_contrast_against_a_direct_computation() -> None:
    """Jarrett et al., Sec. 2, pixel by pixel; at the border only the pixels inside count."""
    size, reach = 5, 2
    picture = torch.rand(1, 3, 7, 9, dtype=torch.float64)
    picture[..., :4] *= 0.01  # a flat part, whose deviation is below the mean one
    w = [math.exp(-0.5 * (i / (size / 4)) ** 2) for i in range(-reach, reach + 1)]

    def weighted(values: np.ndarray, y: int, x: int) -> float:
        total = mass = 0.0
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                if 0 <= y + dy < 7 and 0 <= x + dx < 9:
                    total += w[dy + reach] * w[dx + reach] * values[:, y + dy, x + dx].mean()
                    mass += w[dy + reach] * w[dx + reach]
        return total / mass

    plain = picture[0].numpy()
    v, deviation = np.empty_like(plain), np.empty((7, 9))
    for y in range(7):
        for x in range(9):
            v[:, y, x] = plain[:, y, x] - weighted(plain, y, x)
    for y in range(7):
        for x in range(9):
            deviation[y, x] = math.sqrt(weighted(v**2, y, x))
    expected = v / np.maximum(deviation, deviation.mean())
    assert (deviation < deviation.mean()).any() and (deviation > deviation.mean()).any()
    found = LocalContrast(size).double()(picture)[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_contrast_takes_light_away() -> None:
    picture = torch.rand(2, 3, 32, 32)
    normalise = LocalContrast()
    torch.testing.assert_close(normalise(3 * picture + 5), normalise(picture), rtol=1e-3, atol=1e-3)
    assert normalise(torch.full((1, 3, 16, 16), 0.7)).abs().max() < 1e-2
    with pytest.raises(ValueError, match="odd"):
        LocalContrast(4)


def ramp(width: int, height: int, stride: int = 1) -> Tensor:
    """(1, 2, h, w): x and y of each pixel of a map of that stride, in input pixels."""
    x, y = (stride * torch.arange(n // stride) + (stride - 1) / 2 for n in (width, height))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"))[None]


def test_levels_lie_where_they_should() -> None:
    """Half a picture's pixel lies in the middle of its four, and enlarging takes it back there."""
    whole, half = ramp(32, 24), ramp(32, 24, 2)
    torch.testing.assert_close(halve(whole)[..., 1:-1, 1:-1], half[..., 1:-1, 1:-1])
    torch.testing.assert_close(enlarge(half, 2)[..., 1:-1, 1:-1], whole[..., 1:-1, 1:-1])
    picture = torch.rand(1, 3, 32, 32)
    plain, bands = pyramid(picture, "gaussian"), pyramid(picture, "laplacian")
    assert [level.shape[-1] for level in bands] == [32, 16, 8] and torch.equal(bands[2], plain[2])
    # The bands add up to the picture (Burt & Adelson).
    torch.testing.assert_close(enlarge(enlarge(bands[2], 2) + bands[1], 2) + bands[0], picture)
    assert bands[0][..., 4:-4, 4:-4].mean().abs() < 0.1 * picture.mean()


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_windows_show_the_same_place_at_every_stride(stride: int) -> None:
    """Planted places: what is cut out says where it came from, wherever the corner lies."""
    corner = torch.tensor([[[16.0, 24.0], [21.0, 18.0], [19.5, 30.25]]])
    cut = crop_windows(ramp(96, 80, stride), corner, stride, 24)
    assert cut.shape == (1, 3, 2, 24 // stride, 24 // stride)
    expected = corner.view(1, 3, 2, 1, 1) + ramp(24, 24, stride)[:, None]
    torch.testing.assert_close(cut, expected, rtol=0, atol=1e-3)


def test_windows_on_pixels_are_copies_with_zeros_beyond() -> None:
    features = torch.rand(2, 5, 12, 16)
    corner = torch.tensor([[[8.0, 4.0], [-8.0, 32.0]]]).repeat(2, 1, 1)
    corner[1, 0] = torch.tensor([40.0, 0.0])
    cut = crop_windows(features, corner, 4, 24)
    torch.testing.assert_close(cut[0, 0], features[0, :, 1:7, 2:8], rtol=0, atol=1e-5)
    torch.testing.assert_close(cut[1, 0], features[1, :, 0:6, 10:16], rtol=0, atol=1e-5)
    # Two columns left of the picture, two rows below it.
    torch.testing.assert_close(cut[0, 1, :, :4, 2:], features[0, :, 8:12, 0:4], rtol=0, atol=1e-5)
    assert cut[0, 1, :, 4:].abs().max() == 0 and cut[0, 1, :, :, :2].abs().max() == 0


def test_gradients_go_back_to_the_pixels_taken() -> None:
    """Sec. 4.1: those of overlapping windows add up."""
    features = torch.zeros(1, 1, 16, 16, requires_grad=True)
    crop_windows(features, torch.tensor([[[0.0, 0.0], [4.0, 4.0]]]), 1, 8).sum().backward()
    expected = torch.zeros(16, 16)
    expected[0:8, 0:8] += 1
    expected[4:12, 4:12] += 1
    torch.testing.assert_close(features.grad[0, 0], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("pooling", [4, 8, 16])
def test_window_is_centred_on_the_planted_maximum(pooling: int) -> None:
    network = made(2, pooling=pooling)
    heatmap = torch.zeros(1, 2, 6, 8)
    heatmap[0, 0, 4, 7] = heatmap[0, 1, 0, 2] = 1
    middle = network.corners(heatmap) + (network.window - 1) / 2
    torch.testing.assert_close(middle, pooling * torch.tensor([[[7.0, 4.0], [2.0, 0.0]]]) + (pooling - 1) / 2)
    assert (network.corners(heatmap) % 1 == 0).all()


@pytest.mark.parametrize("pooling", [4, 8, 16])
def test_a_mirrored_picture_gives_mirrored_maps(pooling: int) -> None:
    """With kernels that are alike from both sides nothing in the network may tell left from right: every level, map
    and window lies on the middle of its pixels."""
    network = made(3, pooling=pooling).double().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.copy_((module.weight + module.weight.flip(3)) / 2)
        picture = torch.randn(1, 3, 64, 128, dtype=torch.float64)
        straight, mirrored = network(picture), network(picture.flip(3))
    assert straight.heatmap.shape == (1, 3, 64 // pooling, 128 // pooling) and straight.fine.shape == (1, 3, 24, 24)
    torch.testing.assert_close(mirrored.heatmap.flip(3), straight.heatmap)
    # The last pixel of the mirrored window is the first of the other.
    torch.testing.assert_close(127 - (mirrored.corner[..., 0] + 23), straight.corner[..., 0])
    torch.testing.assert_close(mirrored.corner[..., 1], straight.corner[..., 1])
    torch.testing.assert_close(mirrored.fine.flip(3), straight.fine, rtol=1e-4, atol=1e-4)


def test_spatial_dropout_drops_whole_maps_and_nothing_in_evaluation() -> None:
    network = made(dropout=0.5)
    seen: list[tuple[Tensor, Tensor]] = []
    network.dropout.register_forward_hook(lambda module, given, gave: seen.append((given[0], gave)))
    picture = torch.randn(4, 3, 64, 64)
    network.train()(picture)
    before, after = seen[-1]
    dropped = (after == 0).all(3).all(2)
    assert 0.3 < dropped.double().mean() < 0.7
    # A map is either gone or as it was, doubled.
    kept = torch.where(dropped[..., None, None], torch.zeros_like(before), 2 * before)
    torch.testing.assert_close(after, kept)
    assert any((a != b).any() for a, b in itertools.pairwise(dropped))  # each picture by itself
    network.eval()(picture)
    assert torch.equal(*seen[-1])
    # A coarse network that is held fixed is held as it will be used.
    network.train().phase = "fine"
    count = len(seen)
    network(picture)
    assert len(seen) == count


def test_joints_share_all_but_the_last_layer() -> None:
    """Joints that see the same window have the same features; only the last 1x1 may tell them apart."""
    network = made(2).eval()
    windows = [torch.randn(1, 1, 16, 24 // s, 24 // s).repeat(1, 2, 1, 1, 1) for s in network.fine.strides]
    with torch.no_grad():
        a, b = network.fine(windows)[0]
        assert (a - b).abs().max() > 0.1
        network.fine.last.weight[1] = network.fine.last.weight[0]
        a, b = network.fine(windows)[0]
        torch.testing.assert_close(a, b)
        windows[0][0, 1] += 1  # of the second joint alone
        again, other = network.fine(windows)[0]
    assert torch.equal(a, again) and (other - b).abs().max() > 1e-3
    assert network.fine.last.weight.shape == (2, 16, 1, 1)


def test_arguments_and_sizes() -> None:
    with pytest.raises(ValueError, match="multiples of 64"):
        made(pooling=16)(torch.zeros(1, 3, 96, 64))
    for arguments, words in (
        ({"pooling": 5}, "4, 8 or 16"),
        ({"window": 20}, "multiple of 8"),
        ({"pyramid": "steep"}, "laplacian or gaussian"),
    ):
        with pytest.raises(ValueError, match=words):
            MODELS["tompson-tiny"](keypoints=3, **arguments)
    output = made(cascade=False).eval()(torch.zeros(1, 3, 32, 48))
    assert isinstance(output, HeatmapOutput) and output.heatmap.shape == (1, 3, 8, 12)
    paper = MODELS["tompson"](keypoints=14)
    assert [m.out_channels for m in paper.classifier if isinstance(m, nn.Conv2d)] == [512, 256, 14]


def test_folding_changes_nothing() -> None:
    network = made().eval()
    picture = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(network(picture), fold_norms(network)(picture), strict=True):
            assert torch.equal(a, b)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("people") / "data", 2)


@pytest.mark.parametrize(
    ("progress", "phase", "learning"),
    [(0.0, "coarse", (True, False)), (0.5, "fine", (False, True)), (0.75, "joint", (True, True))],
)
def test_a_step_of_each_phase(people: Path, progress: float, phase: str, learning: tuple[bool, bool]) -> None:
    """It lowers the losses of what learns, and nothing else changes."""
    pupil = Pupil(people, "tompson-tiny", input_size=[96, 96], model_arguments='{"dropout": 0.0}', weight_decay=0.1)
    network = pupil.learner.network
    # Windows that show the joints, as a coarse network that has learnt would place them.
    network.corners = lambda heatmap: (pupil.batch["xy"] - 9).round()
    if phase == "joint":
        # As after the second phase: a fine network from zero has nothing to pass back.
        with torch.no_grad():
            network.fine.last.weight.normal_(0, 0.01)
    pupil.task.begin_step(network, progress)
    assert network.phase == phase
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    losses = torch.stack([pupil.learner.learn([pupil.batch], 1e-4).terms() for _ in range(4)])
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    fine = {name for name in before if name.startswith("fine.")}
    assert bool(changed - fine) is learning[0] and bool(changed & fine) is learning[1]
    if learning[0] and learning[1]:
        assert changed == set(before)
    for loss, learns in zip(losses.T, learning, strict=True):
        assert loss[-1] < loss[0] if learns else (loss == loss[0]).all()
    if phase == "coarse":
        assert (losses[:, 1] == 0).all()


def test_the_fine_loss_teaches_early_layers_only_in_the_last_phase(people: Path) -> None:
    pupil = Pupil(people, "tompson-tiny", input_size=[96, 96], model_arguments='{"dropout": 0.0}')
    network = pupil.learner.network.train()
    torch.nn.init.normal_(network.fine.last.weight)
    last = network.classifier[-1].weight
    for progress, expected in ((0.5, False), (1.0, True)):
        pupil.task.begin_step(network, progress)
        output = network(torch.randn(2, 3, 96, 96))
        _, fine = pupil.task.sums(output, pupil.batch)
        assert output.heatmap.requires_grad is expected
        fine.backward()
        first = network.banks[0].conv1.weight.grad
        assert (first is not None and bool(first.abs().max() > 0)) is expected
        # Never through the maximum: the layers after the windows' are the coarse loss's.
        assert last.grad is None or last.grad.abs().max() == 0
    assert list(pupil.task.terms.values()) == [1.0, 0.1]


def test_loss_by_hand(people: Path) -> None:
    """Eq. 1 and 2: squared errors summed over pixels, mean over joints, with an unlabelled joint."""
    pupil = Pupil(people, "tompson-tiny", input_size=[96, 96])
    batch = {key: value.clone() for key, value in pupil.batch.items()}
    batch["weight"][1, 2] = 0
    maps = torch.rand(2, 5, 24, 24)
    corner = (batch["xy"] - 10.5).round()
    fine = torch.rand(2, 5, 24, 24)
    sums = pupil.task.sums(TompsonOutput(maps, fine, corner), batch) / pupil.task.sizes(batch)
    expected = [0.0, 0.0]
    for n in range(2):
        for k in range(5):
            if (n, k) == (1, 2):
                continue
            expected[0] += float(((maps[n, k] - batch["target"][n, k]) ** 2).sum())
            (x, y), (left, top) = batch["xy"][n, k].tolist(), corner[n, k].tolist()
            for v in range(24):
                for u in range(24):
                    away = (left + u - x) ** 2 + (top + v - y) ** 2
                    expected[1] += (float(fine[n, k, v, u]) - math.exp(-away / (2 * 1.5**2))) ** 2
    assert sums.tolist() == pytest.approx([e / 10 for e in expected], rel=1e-4)


def test_resumed_in_each_phase_equals_uninterrupted(people: Path, tmp_path: Path) -> None:
    """The phase hangs on the step alone: 4 steps, one in the first phase, one in the second, two in the last."""

    def settings(**more: object) -> object:
        return resolve(
            {"model": "tompson-tiny", "data": [str(people)], "input_size": [64, 64], "batch": 2, "epochs": 4},
            {"workers": 0, "threads": 1, "phases": [0.25, 0.5], "save_every": 100.0, **more},
        )

    assert not train(settings(), tmp_path / "whole").validation

    def stop_at(step: int):  # type: ignore[no-untyped-def]
        def report(record: dict[str, object]) -> None:
            if record["event"] == "step" and record["step"] == step:
                raise RuntimeError("stopped")

        return report

    with pytest.raises(RuntimeError):
        train(settings(), tmp_path / "cut", report=stop_at(2))  # the state of step 1 was saved
    with pytest.raises(RuntimeError):
        train(None, tmp_path / "cut", resume=True, report=stop_at(3))
    train(None, tmp_path / "cut", resume=True)
    whole, cut = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys() and all(torch.equal(whole[name], cut[name]) for name in whole)


def test_settings_are_checked(people: Path) -> None:
    with pytest.raises(UsageError, match="multiples of 32 at this pooling"):
        Pupil(people, "tompson-tiny", input_size=[48, 48], model_arguments='{"pooling": 8}')
    with pytest.raises(UsageError, match=r"narrow_sizes = .*multiples of 32"):
        Pupil(people, "tompson-tiny", input_size=[64, 64], narrow_sizes=[48, 64], model_arguments='{"pooling": 8}')
    with pytest.raises(UsageError, match="one of cascade"):
        Pupil(people, "tompson-tiny", codec="dark")
    with pytest.raises(UsageError, match="one of gaussian"):
        Pupil(people, "hrnet-tiny", codec="cascade")
    with pytest.raises(UsageError, match="phases"):
        resolve({"model": "tompson", "phases": [0.8, 0.2]})
    # Coarse maps alone are a plain network's, with any codec.
    coarse = Pupil(people, "tompson-tiny", codec="dark", model_arguments='{"cascade": false}')
    assert coarse.meta.codec == "dark" and coarse.step(1e-3) > 0


def test_other_codecs_read_the_coarse_maps(tmp_path: Path) -> None:
    """Weights go to disk and back; a plain reading gives coarse places, the cascade's lie in their windows."""
    skeleton = get_skeleton("lsp14")
    arguments = {"keypoints": 14}
    save_model(
        tmp_path / "a.safetensors", made(14), ModelMeta("tompson-tiny", arguments, skeleton, (64, 96), codec="cascade")
    )
    picture = np.random.default_rng(0).integers(0, 255, (96, 64, 3)).astype(np.uint8)
    box = np.array([[0.0, 0.0, 64.0, 96.0]])
    found = {}
    for codec in (None, "argmax", "dark"):
        for flip in (False, True):
            model = PoseModel(
                *load_checkpoint(tmp_path / "a.safetensors"),
                device="cpu",
                options=PredictOptions(codec=codec, flip_test=flip),
            )
            ((person,),) = model.predict([picture], [box])
            assert np.isfinite(person.xy).all()
            found[codec, flip] = person.xy
    scale = 1.25  # the crop's pixels are that much larger
    away = np.abs(found[None, False] - found["argmax", False]).max()
    assert 1 < away <= scale * (23 / 2 + 1e-3)
    assert np.abs(found["dark", False] - found["argmax", False]).max() > 1e-3
    network, meta = MODELS["hrnet-tiny"](keypoints=14), ModelMeta("hrnet-tiny", arguments, skeleton, (64, 96))
    with pytest.raises(UsageError, match="fine maps"):
        PoseModel(network, meta, device="cpu", options=PredictOptions(codec="cascade"))


def test_an_outline_is_made_at_once() -> None:
    """Without what PyTorch imports to compute without values (sympy, a second), for every kind of network."""
    program = (
        "import sys; from posecli.models import MODELS; from posecli.models.outline import outline\n"
        "for name in MODELS:\n"
        "    if name.endswith(('-tiny', '-finder')): outline(MODELS[name], keypoints=3)\n"
        "sys.exit('sympy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    with torch.device("meta"):
        taps = LocalContrast(5).get_buffer("taps")
    assert torch.equal(taps, LocalContrast(5).get_buffer("taps"))
