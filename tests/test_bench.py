"""`posecli bench`: what it says follows from what it measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from posecli import bench as module
from posecli.bench import UNIT_MACS, BenchOptions, bench, count_macs, network_of, rounds
from posecli.cli.app import app
from posecli.errors import PoseError, UsageError
from posecli.on_device.graphs import PATIENCE


@pytest.fixture(autouse=True)
def small_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed piece of work is large: a small one stands in."""
    conv, image = nn.Conv2d(4, 4, 3), torch.randn(1, 4, 16, 16)

    def unit(*given: object) -> object:
        return lambda: conv(image)

    monkeypatch.setattr(module, "unit", unit)
    monkeypatch.setattr(
        module, "roofline", lambda *given: {"gemm_gflops": 100.0, "conv_gflops": 100.0, "copy_gb_per_s": 10.0}
    )


def test_multiply_adds_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2))
    # 16 x 16 outputs: 3 * 9 * 8 and 8 / 2 * 8 multiply-adds each.
    assert count_macs(network, torch.zeros(1, 3, 32, 32)) == 256 * (216 + 32)
    assert UNIT_MACS == 24_159_191_040


def test_every_round_measures_all_in_turn() -> None:
    order: list[str] = []
    took = rounds({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3  # one round to warm up
    assert [len(t) for t in took.values()] == [2, 2]
    assert all(seconds >= 0 and core >= 0 for t in took.values() for seconds, core, _ in t)


def test_a_gpu_that_is_not_used_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    here = module.machine()
    monkeypatch.setattr(module, "machine", lambda: {**here, "cuda": "A GPU"})
    found = bench("hrnet-tiny", BenchOptions("fused", None, (64, 64), runs=1, threads=1), device="cpu")
    assert found["machine"] == {**here, "cuda": None}


def test_rows_of_two_machines_are_not_mixed() -> None:
    here = module.machine()
    found = {"machine": {**here, "date": "2020-01-01"}, "networks": [{"architecture": "a"}]}
    assert module.rows_of_this_machine(found, here) == found["networks"]
    with pytest.raises(UsageError, match="another processor"):
        module.rows_of_this_machine(found, {**here, "features": [*here["features"], "more"]})
    assert module.computes_in_bfloat16({"features": ["avx2", "avx512_bf16"]})
    assert not module.computes_in_bfloat16({"features": ["avx512f", "avx512_vnni"]})


@pytest.mark.parametrize("name", ["dekr-tiny", "hrnet-tiny"])
def test_the_numbers_agree_with_each_other(name: str) -> None:
    before = torch.get_num_threads()
    found = bench(name, BenchOptions("fused", "plain", (64, 96), batch=2, runs=2, threads=1), device="cpu")
    assert torch.get_num_threads() == before
    (part,) = found["networks"]
    assert part["input"] == [2, 3, 96, 64] and part["runs_as"] == "fused" and found["machine"]["threads"] == 1
    quick, plain = part["runs"]["fused"], part["runs"]["plain"]
    assert quick["pictures_per_second"] == pytest.approx(2 / quick["decisive_seconds"], rel=0.01)
    assert plain["pictures_per_second"] == pytest.approx(1 / plain["decisive_seconds"], rel=0.01)
    rate = quick["pictures_per_second"] / plain["pictures_per_second"]
    assert part["times_faster"] == pytest.approx(rate, abs=0.006)
    for row in (quick, plain):
        assert row["units"] == pytest.approx(
            1 / row["pictures_per_second"] / part["unit"]["decisive_seconds"], rel=0.02, abs=0.001
        )
        assert row["gflops"] == pytest.approx(2 * part["macs"] * row["pictures_per_second"] / 1e9, rel=0.01, abs=0.06)
        assert row["quartiles"][0] <= row["seconds"] <= row["quartiles"][1]
    network = network_of(name, device="cpu").network
    assert part["macs"] == count_macs(network, torch.zeros(1, 3, 96, 64))
    assert {row["stage"] for row in found["stages"]["stages"]} >= {f"{part['role']} network"}
    json.dumps(found)


def test_stages_of_a_clip(clip: Path) -> None:
    found = bench(
        "dekr-tiny", BenchOptions("plain", size=(64, 64), runs=1, threads=1, frames=3), str(clip), device="cpu"
    )
    stages = found["stages"]
    assert stages["frames"] == 3 and stages["source"] == clip.name
    assert {"finder network", "tracking"} <= {row["stage"] for row in stages["stages"]}


def test_command() -> None:
    words = ["bench", "--model", "hrnet-tiny", "--size", "64x64", "--runs", "1", "--threads", "1", "--speed", "fused"]
    run = CliRunner().invoke(app, [*words, "--json", "--device", "cpu"])
    assert run.exit_code == 0, run.output
    assert json.loads(run.stdout)["networks"][0]["architecture"] == "hrnet-tiny"
    run = CliRunner().invoke(app, [*words, "--against", "plain", "--device", "cpu"])
    assert run.exit_code == 0 and "times faster" in run.stdout and "of the convolution's" in run.stdout


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"speed": "fast"}, "unknown speed"),
        ({"against": "slow"}, "unknown speed"),
        ({"runs": 0}, "at least 1"),
        ({"speed": "plain", "against": "plain"}, "both ways"),
    ],
)
def test_asked_wrongly(options: dict, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        bench("hrnet-tiny", BenchOptions(**{"size": (64, 64), "runs": 1, **options}), device="cpu")
    with pytest.raises(UsageError, match="no network"):
        network_of("nothing")


def test_energy_is_read_where_the_machine_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RAPL", tmp_path)
    assert module.energy_joules() is None
    for zone, used in (("intel-rapl:0", "2500000"), ("intel-rapl:1", "500000")):
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "energy_uj").write_text(used + "\n")
    assert module.energy_joules() == 3.0


def test_launches_are_recorded_before_rounds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making a recording takes as long as hundreds of replays."""
    called: list[int] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    for device, before in (("cpu", 1), ("cuda", PATIENCE)):
        called.clear()
        took = rounds({"work": lambda: called.append(len(called))}, 2, device)
        assert len(called) == before + 2 and len(took["work"]) == 2


def test_sizes_that_a_network_does_not_take() -> None:
    with pytest.raises(PoseError, match="multiples of 32, not 48 x 64"):
        network_of("hrnet-tiny", (48, 64))
    for name in ("hrnet-tiny", "dekr-tiny"):
        with pytest.raises(PoseError, match="multiples of 32, not 72 x 64"):
            bench(name, BenchOptions(size=(72, 64), runs=1, threads=1), device="cpu")
