"""How many pictures go together by the memory there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from posecli.batching import fit_batch
from posecli.inference import load_model
from posecli.models.fast import keep_memory
from posecli.on_device import memory
from posecli.on_device.memory import batch_for, fitting_batch, free_bytes, host_free_bytes, peak_bytes

CPU = torch.device("cpu")


def test_a_power_of_two_that_fits() -> None:
    assert batch_for(100, 1000, 64, share=1) == 8
    assert batch_for(100, 799, 64, share=1) == 4
    assert batch_for(100, 50, 64) == 1
    assert batch_for(1, 1e9, 64) == 64
    assert batch_for(0, 1e9, 48) == 32
    # Only a part of what is free is planned with.
    assert batch_for(100, 1000, 64) < 8


def test_the_least_of_machine_and_container(tmp_path: Path) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       100000 kB\nMemAvailable:    50000 kB\n")
    nowhere = tmp_path / "none"
    assert host_free_bytes(meminfo, nowhere) == 50000 * 1024
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "memory.max").write_text("10000000\n")
    (group / "memory.current").write_text("7000000\n")
    assert host_free_bytes(meminfo, group) == 3000000
    (group / "memory.stat").write_text("anon 5\ninactive_file 2000000\n")
    assert host_free_bytes(meminfo, group) == 5000000
    (group / "memory.max").write_text("max\n")
    assert host_free_bytes(meminfo, group) == 50000 * 1024
    assert host_free_bytes(nowhere, nowhere) is None
    old = tmp_path / "cgroup1" / "memory"
    old.mkdir(parents=True)
    (old / "memory.limit_in_bytes").write_text("9000000")
    (old / "memory.usage_in_bytes").write_text("8000000")
    assert host_free_bytes(meminfo, old.parent) == 1000000


def test_what_one_more_picture_takes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    if peak_bytes(lambda: None, CPU) is None:
        pytest.skip("this system does not tell how much memory was used")
    keep_memory()  # as a quick copy does: what is freed stays with the process
    torch.ones(100 << 20)
    each = 96 << 20

    def run(count: int) -> None:
        torch.ones(count * each // 4)

    monkeypatch.setattr(memory, "free_bytes", lambda device: 10 * each)
    fit = fitting_batch(run, CPU)
    assert fit is not None
    assert 0.7 * each < fit.bytes_each < 1.3 * each
    assert fit.batch == 4  # of the six that 0.6 x 10 are
    # Decoded pictures wait on the host.
    monkeypatch.setattr(memory, "host_free_bytes", lambda: 10 << 20)
    small = fitting_batch(run, CPU, frame_bytes=1 << 19)
    assert small is not None and small.batch == 1


def test_what_is_free_on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on the one that is named by its kind alone, which older versions of PyTorch refuse."""

    def free(device: int) -> tuple[int, int]:
        return {0: 100, 1: 200}[device], 1000

    monkeypatch.setattr(torch.cuda, "mem_get_info", free)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 20)
    assert [free_bytes(torch.device(name)) for name in ("cuda", "cuda:0", "cuda:1")] == [130, 130, 230]


def test_where_nothing_is_told_there_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_bytes(torch.device("meta")) is None
    monkeypatch.setattr(memory, "peak_bytes", lambda run, device: None)
    assert fitting_batch(lambda count: None, CPU) is None


def test_batches_by_memory_change_no_result(
    cli: Callable[..., Any], tiny_model: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = ("--weights", tiny_model, "--device", "cpu", "--end", 9, "--find-every", 0, "--quiet")
    lines = []
    for name, more in {"eight": (), "auto": ("--batch", "auto"), "three": ("--batch", 3)}.items():
        out = tmp_path / f"{name}.jsonl"
        ran = cli("infer", clip, *common, *more, "--out", out)
        assert ran.code == 0, ran.err
        lines.append([json.loads(line) for line in out.read_text().splitlines()[1:]])
    assert lines[0] == lines[1] == lines[2]
    assert len(lines[0]) == 9


def test_what_is_no_batch(cli: Callable[..., Any], tiny_model: Path, clip: Path) -> None:
    for batch in ("0", "-2", "many", "1.5"):
        ran = cli("infer", clip, "--weights", tiny_model, f"--batch={batch}")
        assert ran.code == 2 and "--batch" in ran.err
    ran = cli("infer", clip, "--weights", tiny_model, "--batch", "auto", "--segments", 1)
    assert ran.code == 2 and "--batch" in ran.err


def test_a_crowd_goes_through_the_model(tiny_model: Path) -> None:
    fit = fit_batch(load_model(tiny_model, "cpu"), 96, 64)
    if fit is not None:
        assert 1 <= fit.batch <= 8
        assert fit.batch & (fit.batch - 1) == 0
