"""The worked example of CONTRIBUTING.md, built from its text: file, line and table make a working network."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from learning import Pupil, make_people

import posecli.official as official
from posecli.inference import load_model
from posecli.models import MODELS

TEXT = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def blocks() -> dict[str, str]:
    """The text of each code block by the file that its first line names."""
    found = re.findall(r"```python\n# (posecli/\S+)\n(.*?)```", TEXT, re.DOTALL)
    assert len(dict(found)) == len(found)
    return dict(found)


def written(folder: Path, name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of that text, from a file as it would lie in the package."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example's name, registered as the text says."""
    files = blocks()
    assert list(files) == ["posecli/models/stripes.py", "posecli/models/__init__.py", "posecli/official/stripes.py"]
    network = written(tmp_path, "posecli.models.stripes", files["posecli/models/stripes.py"], monkeypatch)
    line = files["posecli/models/__init__.py"]
    assert len(line.strip().splitlines()) == 1, "one line"
    table = ast.parse("{" + line + "}", mode="eval")
    ((name, builder),) = eval(compile(table, "line", "eval"), {"partial": partial, **vars(network)}).items()
    monkeypatch.setitem(MODELS, name, builder)
    rows = written(tmp_path, "posecli.official.stripes", files["posecli/official/stripes.py"], monkeypatch)
    monkeypatch.setattr(official, "FAMILIES", (*official.FAMILIES, rows.FAMILY))
    monkeypatch.setattr(official, "RELEASES", (*official.RELEASES, *rows.RELEASES))
    return name


def test_a_step_of_training_lowers_the_loss(added: str, tmp_path: Path) -> None:
    pupil = Pupil(make_people(tmp_path / "data", 4), added)
    first = pupil.step(3e-3)
    assert min(pupil.step(3e-3) for _ in range(5)) < first


def test_trained_and_looked_with(cli, added: str, tmp_path: Path) -> None:
    data, run = make_people(tmp_path / "data", 4), tmp_path / "run"
    settings = ("workers=0", "batch=4", "input_size=[64, 64]", "tensorboard=false", "warmup=0", "lr=0.003")
    chosen = [word for setting in settings for word in ("--set", setting)]
    outcome = cli("train", "--data", data, "--model", added, "--epochs", "1", *chosen, "--out", run, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    poses = tmp_path / "p.jsonl"
    weights = run / "last.safetensors"
    outcome = cli("infer", data, "-w", weights, "--boxes", data, "-o", poses, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    lines = [json.loads(line) for line in poses.read_text().splitlines()]
    assert [len(line["persons"]) for line in lines if "frame" in line] == [1] * 4
    listed = json.loads(cli("models", added, "--json").out)["architectures"]
    assert [a["name"] for a in listed] == [added] and listed[0]["recipe"]


def test_released_weights_are_read(added: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = MODELS[added](keypoints=17, channels=24)
    state = {n.replace("body", "stem").replace("head", "classifier"): t for n, t in network.state_dict().items()}
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "stripes.pth")
    model = load_model(tmp_path / "stripes.pth", device="cpu")
    assert model.meta.arguments == {"keypoints": 17, "channels": 24} and model.skeleton.name == "coco17"
    image = torch.rand(1, 3, 64, 48)
    with torch.no_grad():
        torch.testing.assert_close(model.network.eval()(image).heatmap, network.eval()(image).heatmap)
