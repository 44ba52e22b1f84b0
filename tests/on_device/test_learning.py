"""What a CUDA device changes of training changes nothing on a CPU, and nothing of what is saved."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from learning import Pupil, make_people

from posecli.errors import UsageError
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
