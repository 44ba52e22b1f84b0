"""The wheel: small, complete, and working in an empty environment without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MOST_MEGABYTES = 17


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_wheel_holds_the_weights_and_stays_small(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {"posecli/weights/default.safetensors", "posecli/weights/dekr-gru.safetensors", "posecli/py.typed"} <= set(
        names
    )
    assert {f"posecli/reports/templates/{n}" for n in ("report.html", "gallery.html", "gallery.js")} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/"))]
    assert wheel.stat().st_size < MOST_MEGABYTES * 1e6


@pytest.mark.slow
def test_wheel_infers_offline_in_an_empty_environment(wheel: Path, tmp_path: Path, clip: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*pip, "torch"], check=True)
    subprocess.run([*pip, wheel], check=True)
    if subprocess.run([python, "-c", "import cv2"], capture_output=True).returncode:
        # No libGL here: what the documentation tells users to do.
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "opencv-python"], check=True)
        subprocess.run([*pip, "opencv-python-headless"], check=True)
    # A proxy that refuses everything stands for no network.
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "PATH": os.environ["PATH"]}
    command = [tmp_path / "env" / "bin" / "posecli", "infer", clip, "--render", "--json"]
    run = subprocess.run(command, cwd=tmp_path, env=nowhere, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)[0]["frames"] == 30
    assert (tmp_path / "clip.overlay.mp4").exists()
