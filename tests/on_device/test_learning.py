"""What a CUDA device changes of training changes nothing on a CPU, and nothing of what is saved."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from learning import Pupil, make_people

from posecli import learner
from posecli.distributed import Processes
from posecli.errors import UsageError
from posecli.learner import Learner
from posecli.models import MODELS
from posecli.models.deform import adaptive_conv
from posecli.models.dekr import AdaptiveBlocks
from posecli.models.fast_cuda import can_run_kernels, learn_with_kernels, quicken
from posecli.on_device.graphs import measured_convolutions
from posecli.settings import resolve


def test_on_a_cpu_all_speeds_learn_alike(tmp_path: Path) -> None:
    data = make_people(tmp_path / "data", 2)
    losses = {}
    for speed in ("plain", "auto", "compiled"):
        pupil = Pupil(data, "dekr-tiny", speed=speed, input_size=[64, 64])
        losses[speed] = [pupil.step(1e-3) for _ in range(2)]
    assert losses["plain"] == losses["auto"] == losses["compiled"]


def test_convolutions_are_measured_while_it_learns_only(tmp_path: Path) -> None:
    """Validation sees pictures of many sizes, and each would be measured anew."""
    pupil = Pupil(make_people(tmp_path / "data", 2), "dekr-tiny", input_size=[64, 64])
    seen: list[bool] = []
    pupil.learner.network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.benchmark))
    pupil.step(1e-3)
    pupil.learner._measured = measured_convolutions  # as on a CUDA device
    pupil.step(1e-3)
    assert seen == [False, True] and not torch.backends.cudnn.benchmark


def fused(pupil: Pupil, wanted: bool) -> Pupil:
    """Learns in float16's way, by the optimizer of a CUDA device or by the plain one."""
    one = pupil.learner
    one._fused, one._optimizer = wanted, learner._make_optimizer(one.network, pupil.settings, fused=wanted)
    one._scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    return pupil


@pytest.mark.parametrize("before", [False, True])
def test_a_run_goes_on_with_another_speed(tmp_path: Path, before: bool) -> None:
    """``speed`` may change at --resume: the optimizer is then this speed's, with the saved one's moments."""
    data = make_people(tmp_path / "data", 2)
    first = fused(Pupil(data, "dekr-tiny", input_size=[64, 64]), before)
    first.step(1e-3)
    torch.save(first.learner.state(), tmp_path / "state.pt")
    then = fused(Pupil(data, "dekr-tiny", input_size=[64, 64]), not before)
    then.learner.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert [bool(group["fused"]) for group in then.learner._optimizer.param_groups] == [not before] * 2
    assert then.step(1e-3) == first.step(1e-3)
    for a, b in zip(then.learner.network.parameters(), first.learner.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_pytorch_whose_fused_optimizer_refuses_1x1_convolutions(monkeypatch: pytest.MonkeyPatch) -> None:
    for version, can in (("2.4.1+cu121", False), ("2.5.0", True), ("2.13.0+cpu", True), ("3.0.0a0+git1234", True)):
        monkeypatch.setattr(torch, "__version__", version)
        assert learner._can_fuse_steps() == can, version


@pytest.mark.parametrize(("name", "rank", "told"), [("dekr-tiny", 0, 1), ("dekr-tiny", 1, 0), ("hrnet-tiny", 0, 0)])
def test_training_without_kernels_says_so(
    name: str, rank: int, told: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Once: by the first process, and where there is something that the kernels would do."""
    pupil = Pupil(make_people(tmp_path / "data", 2), name, input_size=[64, 64])
    monkeypatch.setattr(learner, "can_run_kernels", lambda device: False)
    monkeypatch.setattr(learner, "kernels_trouble", lambda device: "Triton is not installed")
    device = torch.device("cuda", 0)
    for kind in (torch.nn.Module, torch.Tensor):  # there is no such device here
        monkeypatch.setattr(kind, "to", lambda self, *where, **more: self)
    monkeypatch.setattr(learner, "DistributedDataParallel", lambda network, **more: network)
    monkeypatch.setattr(torch, "tensor", lambda values, device=None, make=torch.tensor: make(values))
    Learner(pupil.learner.network, pupil.task, pupil.meta, pupil.settings, Processes(rank, 2), device)
    said = [str(w.message) for w in recwarn if "Triton" in str(w.message)]
    assert said == ["Triton's kernels don't run here, training is slower without: Triton is not installed"] * told


def test_what_is_no_speed() -> None:
    with pytest.raises(UsageError, match="speed = 'fast'"):
        resolve({"model": "dekr-tiny", "speed": "fast"})


def test_kernels_are_for_cuda_devices() -> None:
    assert not can_run_kernels(torch.device("cpu"))


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_blocks_that_learn_by_kernels_keep_their_names() -> None:
    network = MODELS["dekr-tiny"](keypoints=2)
    names = list(network.state_dict())
    blocks = [m for m in network.modules() if isinstance(m, AdaptiveBlocks)]
    assert blocks and all(block.convolve is adaptive_conv for block in blocks)
    assert learn_with_kernels(network) == len(blocks)
    assert all(block.convolve is not adaptive_conv for block in blocks)
    assert list(network.state_dict()) == names
    assert learn_with_kernels(MODELS["hrnet-tiny"](keypoints=2)) == 0
    # A joint of more channels than there is room for stays plain.
    wide = MODELS["dekr-tiny"](keypoints=1, joint_channels=65).eval()
    assert learn_with_kernels(wide) == 0
    assert any(isinstance(m, AdaptiveBlocks) for m in quicken(wide, kernels=True).modules())
