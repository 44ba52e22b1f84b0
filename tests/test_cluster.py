"""Inputs and segments on a local Ray cluster: what comes out is what one process gives, whoever is killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from made_clips import with_keys
from made_pairs import write_pair

from posecli.errors import PoseError
from posecli.on_ray import Cluster, room

ALONE = ("--find-every", "0", "--device", "cpu")
POSECLI = [sys.executable, "-m", "posecli"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def ray(request: pytest.FixtureRequest) -> Iterator[None]:
    """A cluster of this machine that says it has four CPUs; it knows the server that speaks S3, where there is one."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'posecli[ray]'")
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_AUTH_MODE="disabled",
        RAY_agent_register_timeout_ms="120000",
        RAY_worker_niceness="0",
    )
    if find_spec("moto") and find_spec("s3fs"):
        request.getfixturevalue("s3")
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


def test_workers_that_ask_for_no_gpu_are_told_of() -> None:
    """By its version Ray hides a machine's GPUs from them, or lets them all take the first."""
    assert "--ray-gpus 1" in Cluster().without_gpus("cuda")
    assert not Cluster(gpus=0.5).without_gpus("cuda") and not Cluster().without_gpus("cpu")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_any_number_of_workers_gives_the_same_stream(
    here: Path, cli: Callable, ray: None, segmented: tuple[Path, bytes], tiny_model: Path, workers: int
) -> None:
    path, whole = segmented
    arguments = ["--segments", "0.1", "--ray", "auto", "--ray-workers", workers, *ALONE]
    result = cli("infer", path, "-w", tiny_model, "-o", "a.jsonl", *arguments)
    assert result.code == 0, result.err
    assert (here / "a.jsonl").read_bytes() == whole and [p.name for p in here.iterdir()] == ["a.jsonl"]
    assert b'"id": 1' in whole  # people were tracked


@pytest.mark.slow
def test_killed_workers_lose_nothing(
    here: Path, cli: Callable, ray: None, segmented: tuple[Path, bytes], tiny_model: Path
) -> None:
    """Ten SIGKILLs, each to a worker that has a segment half-written."""
    path, whole = segmented
    stop, killed = threading.Event(), []

    def kill() -> None:
        while not stop.wait(0.005) and len(killed) < 10:
            for part in (here / "a.jsonl.parts").glob(".0*.part.jsonl"):
                pid = int(part.name.split(".")[-3])  # of the process that writes it
                if pid not in killed and len(killed) < 10:
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
    assert len(set(killed)) == 10 and (here / "a.jsonl").read_bytes() == whole


@pytest.mark.slow
def test_segments_between_storage_and_storage(
    cli: Callable, ray: None, request: pytest.FixtureRequest, segmented: tuple[Path, bytes], tiny_model: Path
) -> None:
    """Workers copy the video from a server, and hand their parts over to it."""
    s3 = request.getfixturevalue("s3")
    path, whole = segmented
    s3.put_file(str(path), "lab/long.mp4")
    arguments = ["--segments", "1", "--ray", "auto", "--ray-workers", 2, *ALONE]
    result = cli("infer", "s3://lab/long.mp4", "-w", tiny_model, "-o", "s3://lab/a.jsonl", *arguments)
    assert result.code == 0 and result.out.split() == ["s3://lab/a.jsonl"], result.err
    s3.invalidate_cache()
    assert s3.cat_file("lab/a.jsonl") == whole and s3.find("lab") == ["lab/a.jsonl", "lab/long.mp4"]


@pytest.mark.slow
def test_frames_by_tasks_are_the_same(here: Path, cli: Callable, ray: None, clip: Path) -> None:
    """`convert --frames`: a video that is damaged stops nobody else, and can be gone on with."""
    (here / "set").mkdir()
    persons = [{"track_id": 1, "keypoints": [[1.5, 2, 2], [3, 4, 1]]}]
    value = {"frames": [{"frame": i, "persons": persons} for i in range(30)], "keypoints": ["nose", "neck"]}
    for name in "abc":
        shutil.copy(clip, here / f"set/{name}.mp4")
        (here / f"set/{name}.json").write_text(json.dumps(value))
    assert cli("convert", "set", "--out", "one.json", "--frames", "one").code == 0
    arguments = ["convert", "set", "--out", "two.json", "--frames", "two", "--ray", "auto", "--ray-workers", 2]
    result = cli(*arguments)
    assert result.code == 0, result.err
    for path in (here / "one").rglob("*.jpg"):
        assert path.read_bytes() == (here / "two" / path.relative_to(here / "one")).read_bytes()
    assert (here / "two.json").read_text() == (here / "one.json").read_text().replace("one/", "two/")
    shutil.rmtree(here / "two/b")
    again = cli(*arguments, "--resume")
    assert again.code == 0 and len(list((here / "two/b").glob("*.jpg"))) == 30, again.err


@pytest.mark.slow
def test_pairs_by_tasks_are_the_same(here: Path, cli: Callable, ray: None) -> None:
    """`evaluate --each`."""
    asked = ("--metrics", "oks,pck", "--by", "none")
    for seed, name in enumerate("abc"):
        write_pair(here / f"gt/{name}.json", here / f"poses/{name}.poses.jsonl", seed)
    one = cli("evaluate", "gt", "poses", "--each", "one", "--json", *asked)
    two = cli("evaluate", "gt", "poses", "--each", "two", "--json", "--ray", "auto", "--ray-workers", 2, *asked)
    assert two.code == 0 and two.out == one.out, two.err
    for name in "abc":
        assert (here / f"one/{name}.json").read_bytes() == (here / f"two/{name}.json").read_bytes()
    (here / "poses/b.poses.jsonl").write_text("no stream\n")
    bad = cli("evaluate", "gt", "poses", "--each", "three", "--ray", "auto", "--ray-workers", 2, *asked)
    assert bad.code == 1 and "b: " in bad.err and "1 of 3 pairs failed" in bad.err
    assert sorted(p.name for p in (here / "three").iterdir()) == ["a.json", "c.json"]


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
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    driver = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    parts, end = here / "a.jsonl.parts", time.monotonic() + 600
    while not list(parts.glob("0*")):
        assert driver.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    assert not (here / "a.jsonl").exists()
    done = {p.name: p.stat().st_ino for p in parts.glob("0*")}
    run = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, timeout=900)
    assert run.returncode == 0, run.stderr
    assert done and "segments are done already" in run.stderr and (here / "a.jsonl").read_bytes() == whole
