"""Inputs and segments on a local Ray cluster: what comes out is what one process gives, whoever is killed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from made_clips import with_keys

from posecli.errors import PoseError
from posecli.on_ray import Cluster, room

ALONE = ("--find-every", "0", "--device", "cpu")
POSECLI = [sys.executable, "-m", "posecli"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    """A cluster of this machine that says it has four CPUs."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'posecli[ray]'")
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="disabled",
        RAY_agent_register_timeout_ms="120000",
        RAY_worker_niceness="0",
    )
    module.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    yield
    module.shutdown()


@pytest.fixture(scope="module")
def segmented(clip: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A clip of ten segments, and its stream by one process."""
    from posecli.__main__ import main
    from posecli.video import VideoWriter, open_source

    folder = tmp_path_factory.mktemp("segmented")
    plain = folder / "plain.mp4"
    with open_source(clip) as source, VideoWriter(plain, 96, 64, 25) as writer:
        images = [f.image for f in source.frames()]
        for i in range(120):
            writer.write(images[i % 30], i / 25)
    path = with_keys(plain, folder / "long.mp4", 12)
    with open_source(path) as source:
        assert len(source.key_frames()) == 10
    out = folder / "one.jsonl"
    with pytest.raises(SystemExit) as stop:
        main(["infer", str(path), "-w", str(tiny_model), "-o", str(out), "--quiet", "--segments", "0.1", *ALONE])
    assert not stop.value.code
    return path, out.read_bytes()


def test_without_ray_the_remedy_is_named(
    here: Path, cli: Callable, clip: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = cli("infer", clip, "-w", tiny_model, "--ray", "auto")
    assert result.code == 1 and "pip install 'posecli[ray]'" in result.err and not list(here.iterdir())


def test_room_for_workers() -> None:
    resources = {"CPU": 16.0, "GPU": 2.0}
    assert room(resources, Cluster(cpus=4, gpus=0)) == 4
    assert room(resources, Cluster(cpus=4, gpus=1)) == 2
    assert room(resources, Cluster(cpus=1, gpus=0.25)) == 8
    assert room(resources, Cluster(cpus=0, gpus=0)) == 1
    with pytest.raises(PoseError, match="no room for a worker of 32 CPUs"):
        room(resources, Cluster(cpus=32))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers_gives_the_same_stream(
    here: Path, cli: Callable, ray: None, segmented: tuple[Path, bytes], tiny_model: Path, workers: int
) -> None:
    path, whole = segmented
    arguments = ["--segments", "0.1", "--ray", "auto", "--ray-workers", workers, *ALONE]
    result = cli("infer", path, "-w", tiny_model, "-o", "a.jsonl", *arguments)
    assert result.code == 0, result.err
    assert (here / "a.jsonl").read_bytes() == whole and [p.name for p in here.iterdir()] == ["a.jsonl"]


def _workers() -> list[int]:
    """Process ids of the actors of this process's cluster."""
    import psutil

    below = psutil.Process().children(recursive=True)
    return [p.pid for p in below if p.status() != "zombie" and "_Worker" in " ".join(p.cmdline()[:1])]


@pytest.mark.slow
def test_killed_workers_lose_nothing(
    here: Path, cli: Callable, ray: None, segmented: tuple[Path, bytes], tiny_model: Path
) -> None:
    """SIGKILL, up to ten times, at whatever moment."""
    path, whole = segmented
    stop, killed = threading.Event(), []

    def kill() -> None:
        while not stop.wait(1.5) and len(killed) < 10:
            for pid in _workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        arguments = ["--segments", "0.1", "--ray", "auto", "--ray-workers", 2, *ALONE]
        result = cli("infer", path, "-w", tiny_model, "-o", "a.jsonl", *arguments)
    finally:
        stop.set()
        thread.join()
    assert result.code == 0, result.err
    assert killed and (here / "a.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_whole_videos_and_one_that_is_none(here: Path, cli: Callable, ray: None, clip: Path, tiny_model: Path) -> None:
    """Videos are followed as by one process; a failure is told and stops nobody else."""
    for name in "ab":
        shutil.copy(clip, here / f"{name}.mp4")
    (here / "bad.mp4").write_bytes(clip.read_bytes()[:700])
    arguments = ["infer", "a.mp4", "bad.mp4", "b.mp4", "-w", tiny_model, "-o", "out", "--ray", "auto"]
    result = cli(*arguments, "--ray-workers", 2)
    assert result.code == 1 and "bad.mp4" in result.err and "1 of 3 tasks failed" in result.err
    assert sorted(p.name for p in (here / "out").iterdir()) == ["a.poses.jsonl", "b.poses.jsonl"]
    assert cli("infer", "a.mp4", "-w", tiny_model, "-o", "alone.jsonl").code == 0
    assert (here / "out/a.poses.jsonl").read_bytes() == (here / "alone.jsonl").read_bytes()
    (here / "bad.mp4").write_bytes(clip.read_bytes())
    again = cli(*arguments, "--resume")
    assert again.code == 0 and "2 inputs" in again.err and (here / "out/bad.poses.jsonl").exists()


@pytest.mark.slow
def test_a_killed_driver_goes_on(here: Path, segmented: tuple[Path, bytes], tiny_model: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'posecli[ray]'")
    path, whole = segmented
    arguments = ["infer", path, "-w", tiny_model, "-o", "a.jsonl", "--segments", "0.1", *ALONE]
    command = [*POSECLI, *map(str, arguments), "--ray", "auto", "--ray-workers", "1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled"}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    parts, end = here / "a.jsonl.parts", time.monotonic() + 240
    while not list(parts.glob("0*")):
        assert driver.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not (here / "a.jsonl").exists()
    done = {p.name: p.stat().st_ino for p in parts.glob("0*")}
    run = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert done and "segments are done already" in run.stderr and (here / "a.jsonl").read_bytes() == whole
