"""The weights that ship with the package: small enough, described, and quiet where nobody is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from posecli.files import sha256_of
from posecli.inference import find_weights, load_model


@pytest.fixture(scope="module")
def path():
    return find_weights("default")


def test_the_file_is_small_and_says_what_it_is(path):
    assert path.stat().st_size <= 10_000_000
    model = load_model("default", "cpu")
    assert model.skeleton.name == "body19" and model.finder is not None
    assert 0 < model.threshold < 1
    for key in ("trained_on", "licence", "measured", "tuning"):
        assert model.meta.extra[key]


@pytest.mark.parametrize(("name", "page"), [("default", "model-card.md"), ("dekr-gru", "temporal.md")])
def test_the_page_about_it_speaks_of_this_file(name, page):
    docs = Path(__file__).resolve().parent.parent / "docs"
    if not docs.is_dir():
        pytest.skip("the tests were taken away from the docs")
    assert sha256_of(find_weights(name)) in (docs / page).read_text()


def test_nobody_on_a_blank_picture(path):
    model = load_model("default", "cpu")
    assert not [
        p for p in model.predict([np.full((240, 320, 3), 128, np.uint8)])[0] if p.person_score >= model.threshold
    ]


@pytest.mark.slow
def test_it_scores_what_it_says(path, shared, tmp_path):
    """The figures on record in the file, anew; another processor rounds differently."""
    benchmark = Path(__file__).resolve().parent.parent / "benchmarks/default_model.py"
    command = [sys.executable, benchmark, "--data", shared / "data", "--out", tmp_path, "--bootstrap", "10"]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    found = json.loads((tmp_path / "scores.json").read_text())
    said = load_model(path, "cpu").meta.extra["measured"]
    assert found["sha256"] == sha256_of(path)
    assert found["lspet"]["PCK"] == pytest.approx(said["lspet"]["PCK"], abs=0.01)
    assert found["coco"]["mean_OKS"] == pytest.approx(said["coco"]["mean_OKS"], abs=0.03)
    assert found["coco"]["AP"] == pytest.approx(said["coco"]["AP"], abs=0.03)
    assert found["backgrounds"]["per_picture"] <= said["backgrounds"]["per_picture"] + 0.03
