"""Training by several processes (gloo on this machine): what one process learns, also where their number changes."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from forked import forked
from learning import make_people
from safetensors.torch import load_file
from torch.distributed.distributed_c10d import Backend, BackendConfig

from posecli import training
from posecli.distributed import join_processes
from posecli.errors import PoseError
from posecli.settings import resolve, to_toml

MICRO = 4  # micro-batches of a step


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_people(tmp_path_factory.mktemp("toy") / "data")


def start(data: Path, folder: Path, processes: int) -> list[str]:
    """Command of a run whose steps have `MICRO` micro-batches, and which saves after each."""
    settings = resolve(
        {
            "model": "pose-fpn", "data": [str(data)], "val": str(data), "input_size": [64, 64], "workers": 0,
            "threads": 1, "batch": 1, "accumulate": MICRO // processes, "epochs": 6, "val_every": 3.0,
            "save_every": 1e-6, "min_side": 1.0, "metric": "pck", "model_arguments": '{"widths": [16, 16, 16, 16], '
            '"blocks": [1, 1, 1, 1], "stem_channels": 8, "channels": 16}',
        }
    )  # fmt: skip
    (folder / "run.toml").write_text(to_toml(settings))
    return ["train", "--config", "run.toml", "--out", "run", "--device", "cpu", "--quiet"]


def losses(run: Path) -> list[float]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [x.get("loss", x.get("pck")) for x in lines if x["event"] in ("train", "validation")]


def assert_equal(one: Path, other: Path) -> None:
    """Weights and figures within what another order of sums gives."""
    for name in ("last", "best"):
        a, b = load_file(one / f"{name}.safetensors"), load_file(other / f"{name}.safetensors")
        for key, value in a.items():
            torch.testing.assert_close(value, b[key], rtol=2e-5, atol=2e-5, msg=lambda m, k=key: f"{k}: {m}")
    assert losses(one) == pytest.approx(losses(other), abs=2e-5)


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    ended = forked(start(data, folder, 1), folder)
    assert ended.code == 0, ended.err
    return folder / "run"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
def test_any_number_of_processes_learns_the_same(data: Path, alone: Path, tmp_path: Path, processes: int) -> None:
    ended = forked(start(data, tmp_path, processes), tmp_path, processes=processes)
    assert ended.code == 0, ended.err
    assert_equal(alone, tmp_path / "run")
    assert json.loads((tmp_path / "run/environment.json").read_text())["processes"] == processes


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(4, 2), (1, 4)])
def test_another_number_of_processes_goes_on(data: Path, alone: Path, tmp_path: Path, first: int, then: int) -> None:
    killed = forked(start(data, tmp_path, first), tmp_path, processes=first, kill_once="run/state.pt")
    assert killed.code == -9, killed.err
    done, whole = (torch.load(run / "state.pt", weights_only=True)["step"] for run in (tmp_path / "run", alone))
    assert 0 < done < whole
    resume = ["train", "--resume", "--out", "run", "--device", "cpu", "--quiet"]
    three = forked(resume, tmp_path, processes=3)
    assert three.code == 1 and "3 processes cannot share the 4 micro-batches" in three.err, three.err
    assert "resume with one of 1, 2, 4" in three.err
    ended = forked(resume, tmp_path, processes=then)
    assert ended.code == 0, ended.err
    assert_equal(alone, tmp_path / "run")
    assert f"accumulate = {MICRO // then}" in (tmp_path / "run/config.toml").read_text()


class Gpus:
    """What the second of two processes of a machine asks of CUDA and of the other process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.visible = ["GPU-a", "GPU-b"]  # to this process
        self.others = "GPU-a"  # the one that the other process has taken
        self.chosen: list[int] = []
        self.backends: list[str] = []
        self.left = 0
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(self.visible))
        monkeypatch.setattr(torch.cuda, "set_device", self.chosen.append)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda n: SimpleNamespace(uuid=self.visible[n]))
        monkeypatch.setattr(torch.distributed, "init_process_group", self.connect)
        monkeypatch.setattr(torch.distributed, "all_gather", self.gather)
        monkeypatch.setattr(torch.distributed, "destroy_process_group", self.leave)
        for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost"}.items():
            monkeypatch.setenv(name, value)

    def connect(self, backend: str, **more: object) -> None:
        assert self.chosen  # before: what names no device must not go to the first
        self.backends.append(backend)

    def gather(self, everybody: list[torch.Tensor], own: torch.Tensor) -> None:
        shared = own if self.others == self.visible[self.chosen[-1]] else own + 1
        everybody[:] = [shared, own]

    def leave(self) -> None:
        self.left += 1


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    return Gpus(monkeypatch)


def test_runs_on_several_gpus_add_up_on_the_host_too(gpus: Gpus) -> None:
    """Losses and their sizes are summed as tensors of the CPU, which NCCL alone does not take."""
    with join_processes("cuda") as processes:
        assert (processes.rank, processes.world, processes.device) == (1, 2, 1)
    connected = BackendConfig(Backend(gpus.backends[0])).get_device_backend_map()
    assert {device: str(kind) for device, kind in connected.items()} == {"cpu": "gloo", "cuda": "nccl"}


def test_a_process_that_sees_its_own_gpu_only_takes_it(gpus: Gpus) -> None:
    """As `srun --gpus-per-task=1` starts them: each one's device is number 0."""
    gpus.visible = ["GPU-b"]
    with join_processes("cuda") as processes:
        assert (processes.rank, processes.device) == (1, 0) and gpus.chosen == [0]
    assert gpus.left == 1


@pytest.mark.parametrize("visible", [["GPU-a"], []])
def test_more_processes_than_gpus_are_refused(gpus: Gpus, visible: list[str]) -> None:
    """The first one's device is the only one here: NCCL would fail with words of its own."""
    gpus.visible = visible
    words = "process 2 of this machine has no CUDA device of its own"
    with pytest.raises(PoseError, match=words) as told, join_processes("cuda"):
        pass
    assert "--device cpu" in str(told.value) and gpus.left == len(visible)


def test_no_process_touches_the_first_gpu_before_it_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever makes a tensor there keeps some hundred megabytes of it."""

    def touched(name: str) -> None:
        raise AssertionError(f"{name} was touched")

    monkeypatch.setattr(training, "pick_device", touched)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [training._kind_of(name) for name in ("auto", "cuda", "cuda:1")] == ["cuda"] * 3
    monkeypatch.undo()
    assert training._kind_of("cpu") == "cpu"
