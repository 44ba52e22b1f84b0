"""The scripts that the documentation sends people to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from posecli.checkpoint import ModelMeta, read_parts, save_model
from posecli.inference import load_model
from posecli.models import MODELS
from posecli.skeletons import get_skeleton
from posecli.video import open_source

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_demo_runs_from_scenes_to_numbers(tmp_path: Path, clip: Path) -> None:
    environment = {**os.environ, "BIN": str(Path(sys.executable).parent), "DEMO_OUT": "out", "DEMO_CLIP": str(clip)}
    run = subprocess.run(
        ["sh", str(ROOT / "examples/demo.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    for word in ("front", "side", "OKS-AP", "mean OKS", "PCK@", "PCKh@", "PDJ", "PCP", "heat"):
        assert word in run.stdout
    overlays = sorted((tmp_path / "out" / "overlays").rglob("*.mp4"))
    assert len(overlays) == 4 and open_source(overlays[0]).num_frames == 60
    assert open_source(tmp_path / "out" / "clip.overlay.mp4").num_frames == 30
    assert (tmp_path / "out" / "heat.csv").read_text().count("\n") > 200


@pytest.mark.slow
def test_the_recipe_of_the_shipped_weights_runs_from_labels_to_one_file(
    tmp_path: Path, shared: Path, clip: Path, cli
) -> None:
    """Seconds in place of hours: what comes out has learnt nothing, but is a complete model that `infer` takes."""
    environment = {
        **os.environ, "BIN": str(Path(sys.executable).parent), "DATA": str(shared / "data"), "RUNS": str(tmp_path),
    }  # fmt: skip
    script = ["sh", str(ROOT / "examples/train_default.sh"), "--budget", "rehearsal", "--device", "cpu"]
    run = subprocess.run(script, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    weights = tmp_path / "default.safetensors"
    told = json.loads(run.stdout.splitlines()[-2])
    assert told["bytes"] == weights.stat().st_size < 10_000_000
    model = load_model(weights, "cpu")
    assert model.finder is not None and model.skeleton.name == "body19" and model.threshold == told["threshold"]
    assert {"trained_on", "licence", "tuning", "flip_test"} <= set(model.meta.extra)
    found = cli("infer", clip, "--weights", weights, "--device", "cpu", "--end", 3, "--out", tmp_path / "poses.jsonl")
    assert found.code == 0, found.err
    assert len((tmp_path / "poses.jsonl").read_text().splitlines()) == 4

    # A finder that finds nobody is no reason for a traceback.
    last = [sys.executable, str(ROOT / "examples/assemble_default.py"), "--data", str(shared / "data"), "--floor", "1"]
    last += ["--pictures", "4"]
    last += ["--pose", str(tmp_path / "pose/last.safetensors"), "--finder", str(tmp_path / "finder/finder.safetensors")]
    failed = subprocess.run([*last, "--out", str(tmp_path / "x.safetensors")], capture_output=True, text=True)
    assert failed.returncode == 1 and failed.stderr.startswith("no ranges for int8 on the ")
    assert "nobody was found" in failed.stderr and "Traceback" not in failed.stderr


@pytest.mark.slow
def test_fine_tuning_goes_from_labels_to_before_and_after(tmp_path: Path, shared: Path) -> None:
    environment = {
        **os.environ, "BIN": str(Path(sys.executable).parent), "DATA": str(shared / "data"), "OMP_NUM_THREADS": "1",
        "FINETUNE_OUT": str(tmp_path / "out"), "FINETUNE_MINUTES": "0.2",
    }  # fmt: skip
    run = subprocess.run(
        ["sh", str(ROOT / "examples/finetune.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "11 joints carried over" in run.stderr
    for word in ("PCK@0.2", "right_foot", "spine"):
        assert word in run.stdout
    assert load_model(tmp_path / "out/run/last.safetensors", "cpu").skeleton.name == "player18"


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_shell(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.slow
def test_correction_loop_teaches_the_model(tmp_path: Path) -> None:
    environment = {**os.environ, "BIN": str(Path(sys.executable).parent), "CORRECT_OUT": "out", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        ["sh", str(ROOT / "examples/correct.sh")], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "16 files" in run.stdout and "0 errors, 0 warnings" in run.stdout
    scores = {}
    for name in ("before", "after"):
        command = [sys.executable, "-m", "posecli", "evaluate", "truth.json", f"{name}.jsonl", "--json"]
        numbers = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=True)
        scores[name] = json.loads(numbers.stdout)["all"]["mean_OKS"]
    # 0.49 and 0.64 when it was written.
    assert scores["after"] > scores["before"] + 0.05


def test_weights_are_averaged_by_their_shares(tmp_path: Path) -> None:
    files, networks = [], []
    for seed in (0, 1):
        torch.manual_seed(seed)
        networks.append(MODELS["hrnet-tiny"](keypoints=17))
        files.append(tmp_path / f"{seed}.safetensors")
        save_model(
            files[-1], networks[-1], ModelMeta("hrnet-tiny", {"keypoints": 17}, get_skeleton("coco17"), (64, 64))
        )
    script = [sys.executable, ROOT / "examples/average_weights.py", *files, "--out", tmp_path / "mean.safetensors"]
    subprocess.run([*script, "--shares", "1", "3"], check=True)
    found = read_parts(tmp_path / "mean.safetensors")["main"][0]
    a, b = (network.state_dict() for network in networks)
    for name, tensor in found.items():
        wanted = (a[name] + 3 * b[name]) / 4 if tensor.is_floating_point() else b[name]
        torch.testing.assert_close(tensor, wanted, atol=1e-6, rtol=1e-5)
    save_model(
        files[0],
        MODELS["pose-fpn"](keypoints=17),
        ModelMeta("pose-fpn", {"keypoints": 17}, get_skeleton("coco17"), (64, 64)),
    )
    refused = subprocess.run(script, capture_output=True, text=True)
    assert refused.returncode == 1 and "not the same network" in refused.stderr
    assert subprocess.run([*script, "--shares", "1"], capture_output=True).returncode == 2
