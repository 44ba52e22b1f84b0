"""The weights of the network with a memory that ship with the package: small, described, run by name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from posecli.checkpoint import load_checkpoint
from posecli.inference import find_weights, load_model
from posecli.predictions import read_stream


@pytest.fixture(scope="module")
def path():
    return find_weights("dekr-gru")


def test_the_file_is_small_and_says_what_it_is(path):
    assert path.stat().st_size <= 5_000_000
    network, meta = load_checkpoint(path)
    assert meta.architecture == "dekr-gru-finder" and meta.skeleton.name == "body19"
    assert sum(p.numel() for p in network.parameters()) < 3e6 and max(meta.input_size) <= 256
    for key in ("trained_on", "licence", "measured", "threshold"):
        assert meta.extra[key]


def test_its_memory_is_open_and_does_something(path):
    """A picture after another gets other maps than by itself; with one gate closed less so, with both the same."""
    network, _ = load_checkpoint(path)
    rng = np.random.default_rng(0)
    image, other = (torch.from_numpy(rng.normal(size=(1, 3, 64, 64)).astype(np.float32)) for _ in range(2))

    def change():
        _, state = network.step(other)
        return float((network.step(image, state)[0].offset - network.step(image)[0].offset).abs().max())

    with torch.no_grad():
        assert change() > 0.05
        network.memory_pose.gate.zero_()
        unit = change()
        network.memory_offset.gate.zero_()
        assert unit > 0.02 and change() == 0


def test_infer_takes_it_by_its_name(path, cli, clip, tmp_path):
    out = tmp_path / "clip.jsonl"
    run = cli("infer", clip, "--model", "dekr-gru", "--render", "--render-out", tmp_path / "drawn.mp4", "--out", out)
    assert run.code == 0, run.err
    lines = [line for _, line in read_stream(out)]
    assert len(lines) == 30 and (tmp_path / "drawn.mp4").stat().st_size > 0
    # A network without a memory says nothing of where one began.
    assert json.loads(out.read_text().splitlines()[1]).get("reset") is True


def test_a_still_gives_nobody_on_a_blank_picture(path):
    model = load_model("dekr-gru", "cpu")
    assert model.recurrent
    blank = np.full((192, 192, 3), 128, np.uint8)
    assert not [p for p in model.predict([blank])[0] if p.person_score >= model.threshold]
