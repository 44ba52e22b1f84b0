"""The scripts that the documentation sends people to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.sh")), ids=lambda p: p.name)
def test_scripts_are_valid_shell(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
