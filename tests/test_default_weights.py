"""The weights that ship with the package: small enough, described, and quiet where nobody is."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.files import sha256_of
from posecli.inference import find_weights, load_model


@pytest.fixture(scope="module")
def path():
    try:
        return find_weights("default")
    except PoseError:
        pytest.skip("no shipped weights in this tree")


def test_the_file_is_small_and_says_what_it_is(path):
    assert path.stat().st_size <= 10_000_000
    model = load_model("default", "cpu")
    assert model.skeleton.name == "body19" and model.finder is not None
    assert 0 < model.threshold < 1
    for key in ("trained_on", "licence", "measured", "tuning"):
        assert model.meta.extra[key]


def test_the_card_speaks_of_this_file(path):
    card = path.parents[2] / "docs" / "model-card.md"
    if not card.is_file():
        pytest.skip("installed without docs")
    assert sha256_of(path) in card.read_text()


def test_nobody_on_a_blank_picture(path):
    model = load_model("default", "cpu")
    assert not [
        p for p in model.predict([np.full((240, 320, 3), 128, np.uint8)])[0] if p.person_score >= model.threshold
    ]
