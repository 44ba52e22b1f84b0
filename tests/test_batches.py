"""Calls filled up to numbers of pictures that came before: few of them, little lost in the long run, the same maps."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecli import batches
from posecli.batches import Fills
from posecli.inference import PoseModel, load_model
from posecli.models.int8 import can_quantise

SIZE = (192, 128)


@given(st.lists(st.integers(1, 32), min_size=1, max_size=300))
def test_few_numbers_and_few_copies(asked: list[int]) -> None:
    fills = Fills()
    seen = [fills.count(pictures, SIZE) for pictures in asked]
    assert all(pictures <= count <= 32 for pictures, count in zip(asked, seen, strict=True))
    assert len(set(seen)) <= len(batches._STEPS) + batches._MOST
    assert all(fills.now(pictures, SIZE) == fills.count(pictures, SIZE) for pictures in (seen[-1],))


def test_what_comes_often_gets_its_own() -> None:
    fills = Fills()
    assert [fills.count(n, SIZE) for n in (7, 7, 5, 8, 3)] == [8, 8, 8, 8, 8]
    assert fills.now(5, SIZE) == 8 and fills.now(9, SIZE) == 9 and fills.now(5, (160, 160)) == 5
    often = [fills.count(7, SIZE) for _ in range(200)]
    assert often[-1] == 7 and often.count(8) <= batches._WORTH
    assert fills.count(40, SIZE) == 40  # beyond all steps


@pytest.fixture(scope="module")
def model() -> PoseModel:
    if not can_quantise():
        pytest.skip("this processor has no products of 8 bits")
    return load_model("default", device="cpu")


def test_copies_change_nobody(model: PoseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Maps to the last bit, however many copies there are; the quality, which is of float32, within rounding."""
    crops = np.random.default_rng(5).integers(0, 255, (7, 160, 160, 4), dtype=np.uint8)
    filled = model.maps(crops)
    assert model.called_with(crops) == 8
    monkeypatch.setenv("POSECLI_FILL", "0")
    assert model.called_with(crops) == 7
    plain = model.maps(crops)
    assert filled.heatmap.shape == plain.heatmap.shape and bool((filled.heatmap == plain.heatmap).all())
    assert np.allclose(filled.quality, plain.quality, atol=1e-5)


def test_the_room_for_kernels_is_asked_for_and_may_be_chosen() -> None:
    code = "import os; from posecli.models.fast import keep_kernels as k; k(); print(os.environ.get(%r))"
    name = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"

    def room(**said: str) -> str:
        here = {key: value for key, value in os.environ.items() if not key.endswith("PRIMITIVE_CACHE_CAPACITY")}
        done = subprocess.run([sys.executable, "-c", code % name], env=here | said, capture_output=True, text=True)
        return done.stdout.strip()

    assert room() == "4096" and room(**{name: "7"}) == "7" and room(DNNL_PRIMITIVE_CACHE_CAPACITY="7") == "None"
