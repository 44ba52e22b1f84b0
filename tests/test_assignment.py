"""Pairs of least cost: SciPy's, whichever way its function is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from posecli import assignment


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    assignment._solver.cache_clear()
    yield
    assignment._solver.cache_clear()


@pytest.mark.parametrize("alone", [True, False])
def test_pairs_are_those_of_the_whole_library(alone: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if alone:
        monkeypatch.setattr(assignment, "_OPTIMIZE", "not imported")
    else:
        monkeypatch.setattr(assignment, "_alone", lambda: None)
    random = np.random.default_rng(0)
    for shape in [(0, 0), (0, 3), (1, 1), (1, 5), (4, 2), *random.integers(1, 9, (50, 2)).tolist()]:
        for cost in (random.normal(size=shape), random.integers(0, 3, shape), np.zeros(shape)):  # many are alike
            for own, theirs in zip(assignment.assign(-cost), linear_sum_assignment(-cost), strict=True):
                assert own.dtype == theirs.dtype and np.array_equal(own, theirs)
    assert (assignment._solver() is linear_sum_assignment) != alone
    with pytest.raises(ValueError, match="invalid numeric entries"):
        assignment.assign(np.array([[np.nan]]))


@pytest.mark.parametrize("change", ["spec", "place"])
def test_a_library_that_is_arranged_otherwise(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assignment, "_OPTIMIZE", "not imported")
    if change == "spec":
        monkeypatch.setattr(assignment, "find_spec", lambda name: None)
    else:
        monkeypatch.setattr(assignment, "EXTENSION_SUFFIXES", [".of another kind"])
    assert assignment._solver() is linear_sum_assignment


def test_nothing_else_of_the_library_is_imported() -> None:
    program = (
        "import sys, numpy as np; from posecli.assignment import assign; assign(np.zeros((2, 2)));"
        "sys.exit('scipy.optimize' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
