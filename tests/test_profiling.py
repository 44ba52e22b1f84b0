"""The table of `infer --profile`: what is measured adds up, and nothing is measured when nobody asks."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from posecli import profiling
from posecli.__main__ import main
from posecli.profiling import profiled, stage, stage_of, wait


def burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_core_seconds_are_those_of_the_thread_that_worked() -> None:
    with profiled() as profile:
        with stage("work"):
            burn(0.05)
        with stage("sleep"):
            time.sleep(0.05)
        with wait("nobody"):
            time.sleep(0.02)
    work, sleep = profile.stages["work"], profile.stages["sleep"]
    assert 0.05 <= work.core_seconds < 0.08 and work.seconds >= work.core_seconds - 0.01
    assert sleep.core_seconds < 0.03 and sleep.seconds >= 0.05
    assert profile.waits["nobody"] >= 0.02
    table = profile.table(10)
    shares = {row["stage"]: row["share"] for row in table["stages"]}
    assert sum(shares.values()) == pytest.approx(1, abs=0.01) and shares["work"] > shares["sleep"]


def test_threads_of_a_library_are_counted_but_not_those_that_are_stages_themselves() -> None:
    def library() -> None:
        burn(0.06)

    ready, stop = threading.Event(), threading.Event()

    def other_stage() -> None:
        with stage("other thread"):
            ready.set()
            burn(0.06)
            stop.wait()

    with profiled() as profile:
        beside = threading.Thread(target=other_stage)
        beside.start()
        ready.wait()
        with stage("network", pool=True):
            helper = threading.Thread(target=library)
            helper.start()
            helper.join()
        stop.set()
        beside.join()
    assert 0.05 <= profile.stages["network"].core_seconds < 0.1


def test_pace_is_set_by_the_busiest_thread() -> None:
    with profiled() as profile:
        thread = threading.Thread(target=lambda: [time.sleep(0.01) for _ in stage_of(range(2), "fast")])
        thread.start()
        with stage("slow"):
            time.sleep(0.1)
        with stage("quick"):
            time.sleep(0.01)
        thread.join()
    assert profile.table(1)["limit"] == "slow"


def test_off_costs_nothing_and_errors_pass() -> None:
    assert stage("a") is stage("b") is wait("c")
    with pytest.raises(ValueError), profiled(), stage("x"):
        raise ValueError
    assert profiling._active is None
    with profiled(), pytest.raises(RuntimeError), profiled():
        pass


def test_verb_shows_every_stage_and_the_same_result(
    tmp_path: Path, cli: Callable, clip: Path, tiny_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli("infer", clip, "-w", tiny_model, "-o", "a.jsonl", "--end", 8).code == 0
    result = cli("infer", clip, "-w", tiny_model, "-o", "b.jsonl", "--end", 8, "--profile", "--render", "--json")
    assert result.code == 0, result.err
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    told = json.loads(result.out)
    assert told["sources"][0]["frames"] == 8
    profile = told["profile"]
    names = [row["stage"] for row in profile["stages"]]
    for name in ("decode", "finder network", "crops", "pose network", "tracking", "write", "draw and encode"):
        assert name in names
    assert profile["limit"] in names
    assert sum(row["share"] for row in profile["stages"]) == pytest.approx(1, abs=0.02)
    shown = cli("infer", clip, "-w", tiny_model, "-o", "c.jsonl", "--end", 8, "--profile")
    assert "pose network" in shown.err and "the limit is" in shown.err and shown.out.split() == ["c.jsonl"]


def test_waiting_threads_spin_briefly_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["GOMP_SPINCOUNT"] == "10000"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "GOMP_SPINCOUNT" not in os.environ
