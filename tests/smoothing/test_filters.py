"""Filters over time: what they must not change, what they must, and how late they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import savgol_filter

from posecli.smoothing.filters import kalman, one_euro, savitzky_golay

Filter = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def _kalman(time: np.ndarray, xy: np.ndarray, size: np.ndarray) -> np.ndarray:
    return kalman(time, xy, np.full(xy.shape[:2], 0.8), size, np.ones(xy.shape[:2], bool))


FILTERS: dict[str, Filter] = {
    "oneeuro": one_euro,
    "savgol": lambda time, xy, size: savitzky_golay(time, xy, 0.4),
    "kalman": _kalman,
}
every_filter = pytest.mark.parametrize("name", FILTERS)


def times(rng: np.random.Generator, count: int, vary: float = 0.0) -> np.ndarray:
    """Frames at 30 a second; their steps vary by the share given."""
    return np.cumsum((1 + vary * rng.uniform(-1, 1, count)) / 30)


@every_filter
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 60), st.floats(0, 0.9))
def test_constant_in_constant_out(name: str, seed: int, count: int, vary: float) -> None:
    rng = np.random.default_rng(seed)
    xy = np.broadcast_to(rng.uniform(-2000, 2000, (4, 2)), (count, 4, 2))
    result = FILTERS[name](times(rng, count, vary), xy, np.full(count, rng.uniform(5, 2000)))
    np.testing.assert_allclose(result, xy, atol=1e-6)


@every_filter
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.9))
def test_a_straight_line_keeps_its_slope(name: str, seed: int, vary: float) -> None:
    rng = np.random.default_rng(seed)
    count, size = 150, 200.0
    time = times(rng, count, vary)
    speed = rng.uniform(-3, 3, (3, 2)) * size
    xy = rng.uniform(0, 500, (3, 2)) + time[:, None, None] * speed
    result = FILTERS[name](time, xy, np.full(count, size))
    if name != "oneeuro":
        np.testing.assert_allclose(result, xy, atol=1e-3 * size)
    # One Euro is late by a constant time; what is left after a second of settling has the same slope.
    slope = (result[-1] - result[60]) / (time[-1] - time[60])
    np.testing.assert_allclose(slope, speed, atol=0.005 * size if vary == 0 else 0.03 * size)


@every_filter
@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 0.6))
def test_missing_joints_stay_missing_and_disturb_nobody(name: str, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    time, size = times(rng, 40), np.full(40, 100.0)
    xy = np.cumsum(rng.normal(0, 3, (40, 5, 2)), axis=0)
    holes = rng.random((40, 5)) < share
    holes[:, 0] = False
    holed = np.where(holes[:, :, None], np.nan, xy)
    result = FILTERS[name](time, holed, size)
    assert (np.isnan(result[:, :, 0]) == holes).all() and (np.isnan(result[:, :, 1]) == holes).all()
    whole = FILTERS[name](time, xy, size)
    np.testing.assert_allclose(result[:, 0], whole[:, 0], atol=1e-9)


@every_filter
def test_nobody_at_all(name: str) -> None:
    xy = np.full((5, 3, 2), np.nan)
    assert np.isnan(FILTERS[name](np.arange(5) / 25, xy, np.ones(5))).all()


@every_filter
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 10))
def test_size_and_place_make_no_difference(name: str, seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    time, xy = times(rng, 50, 0.5), np.cumsum(rng.normal(0, 3, (50, 2, 2)), axis=0)
    small = FILTERS[name](time, xy, np.full(50, 100.0))
    large = FILTERS[name](time, scale * xy + 77, np.full(50, scale * 100.0))
    np.testing.assert_allclose(large, scale * small + 77, atol=1e-6 * scale * 100)


def _shaking(rng: np.random.Generator, moving: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, truth and measurements of 20 joints of a person of 200 pixels, who sway by ``moving`` sizes."""
    time = times(rng, 300)
    phase = rng.uniform(0, 6.28, (20, 2))
    truth = 300 + 200 * moving * np.sin(2 * np.pi * 0.7 * time[:, None, None] + phase)
    return time, truth, truth + rng.normal(0, 2.0, truth.shape)


@every_filter
def test_jitter_at_rest_is_at_least_halved(name: str) -> None:
    time, _, seen = _shaking(np.random.default_rng(1), 0.0)
    steady = FILTERS[name](time, seen, np.full(300, 200.0))

    def jitter(xy: np.ndarray) -> float:
        return float(np.linalg.norm(np.diff(xy, 2, axis=0), axis=2).mean())

    assert jitter(steady) < 0.5 * jitter(seen)


@every_filter
def test_lag_is_as_stated(name: str) -> None:
    """At most a frame for One Euro, none for the others, for limbs that sway at about the body's size a second."""
    time, truth, seen = _shaking(np.random.default_rng(2), 0.2)
    steady = FILTERS[name](time, seen, np.full(300, 200.0))[30:-30]
    velocity = np.gradient(truth, axis=0)[30:-30]
    late = float(((truth[30:-30] - steady) * velocity).sum() / (velocity**2).sum())
    assert 0.1 < late < 1.0 if name == "oneeuro" else abs(late) < 0.05
    error = np.linalg.norm(steady - truth[30:-30], axis=2).mean()
    assert name == "oneeuro" or error < 0.8 * np.linalg.norm(seen - truth, axis=2).mean()


def test_one_euro_at_constant_speed_is_late_by_the_formula() -> None:
    time = np.arange(400) / 30
    xy = (50.0 * time)[:, None, None] * [1.0, 0.0] * np.ones((400, 1, 1))
    steady = one_euro(time, xy, np.full(400, 100.0), cutoff=1.0, beta=6.0)
    late = (xy[-1, 0, 0] - steady[-1, 0, 0]) / 50.0
    assert late == pytest.approx(1 / (2 * np.pi * (1.0 + 6.0 * 0.5)), rel=1e-3)


def test_one_euro_is_the_published_recursion() -> None:
    """By hand, for one coordinate: T = 0.1 s, sizes of 2 pixels, cut-off 1 Hz, beta 2, derivative at 1 Hz."""
    steady = one_euro(
        np.array([0.0, 0.1]), np.array([[[0.0, 0.0]], [[1.0, 0.0]]]), np.full(2, 2.0), cutoff=1.0, beta=2.0,
        derivative_cutoff=1.0,
    )  # fmt: skip
    share = 1 / (1 + 1 / (2 * np.pi * 0.1))  # 0.38587 of the derivative 5 / s
    cutoff = 1 + 2 * 5 * share
    assert steady[1, 0, 0] == pytest.approx(1 / (1 + 1 / (2 * np.pi * cutoff * 0.1)))


@pytest.mark.parametrize("length", [3, 8, 13, 14, 60])
def test_savitzky_golay_is_scipys_at_a_constant_rate(length: int) -> None:
    values = np.random.default_rng(5).normal(0, 10, (length, 3, 2))
    ours = savitzky_golay(np.arange(length) / 50, values, 0.24)
    width = min(13, length - (length + 1) % 2)
    theirs = savgol_filter(values, width, 2, axis=0, mode="interp")
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_savitzky_golay_fits_parabolas_at_any_rate() -> None:
    rng = np.random.default_rng(6)
    time = times(rng, 60, 0.9)
    xy = np.stack([3 * time**2 - time, 5 - 40 * time**2], axis=1)[:, None]
    np.testing.assert_allclose(savitzky_golay(time, xy, 1 / 3), xy, atol=1e-8)


def test_savitzky_golay_spans_seconds_where_the_rate_changes() -> None:
    """Half as many frames a second from the middle on: half as many in the window."""
    rng = np.random.default_rng(8)
    time = np.concatenate([np.arange(100) / 60, 100 / 60 + np.arange(100) / 30])
    xy = rng.normal(0, 10, (200, 3, 2))
    ours = savitzky_golay(time, xy, 0.4)
    for part, width in ((slice(0, 60), 25), (slice(140, 200), 13)):
        inner = slice(part.start, part.stop)
        theirs = savgol_filter(xy[: inner.stop] if part.start == 0 else xy[100:], width, 2, axis=0, mode="interp")
        theirs = theirs if part.start == 0 else theirs[inner.start - 100 :]
        np.testing.assert_allclose(ours[inner][:40], theirs[:40], atol=1e-6)


def _dense_smoother(time: np.ndarray, seen: np.ndarray, variance: np.ndarray, push: float) -> np.ndarray:
    """The same model solved at once, as least squares over all states: another way to the same answer."""
    count = len(time)
    rows, values = [], []
    for t in range(count):
        row = np.zeros(2 * count)
        row[2 * t] = 1 / np.sqrt(variance[t])
        if not np.isnan(seen[t]):
            rows.append(row)
            values.append(seen[t] / np.sqrt(variance[t]))
    for t in range(count - 1):
        d = time[t + 1] - time[t]
        noise = push * np.array([[d**3 / 3, d**2 / 2], [d**2 / 2, d]])
        root = np.linalg.inv(np.linalg.cholesky(noise))
        step = np.zeros((2, 2 * count))
        step[:, 2 * t : 2 * t + 2] = -np.array([[1, d], [0, 1]])
        step[:, 2 * t + 2 : 2 * t + 4] = np.eye(2)
        rows += list(root @ step)
        values += [0.0, 0.0]
    return np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)[0][::2]


def test_kalman_is_the_least_squares_solution_of_its_model() -> None:
    rng = np.random.default_rng(7)
    time, size = times(rng, 30, 0.8), np.full(30, 120.0)
    xy = np.cumsum(rng.normal(0, 4, (30, 1, 2)), axis=0)
    score = rng.uniform(0.2, 1, (30, 1))
    measured = np.ones((30, 1), bool)
    measured[[9, 10, 20]] = False
    ours = kalman(time, xy, score, size, measured, acceleration=3.0, place=0.02)
    variance = (0.02 * 120 / score[:, 0]) ** 2
    for c in range(2):
        seen = np.where(measured[:, 0], xy[:, 0, c], np.nan)
        np.testing.assert_allclose(ours[:, 0, c], _dense_smoother(time, seen, variance, (3 * 120.0) ** 2), atol=2e-3)


def test_kalman_believes_doubtful_joints_less() -> None:
    time, size = np.arange(21) / 30, np.full(21, 100.0)
    xy = np.full((21, 1, 2), 50.0)
    xy[10] += 20
    ones = np.ones((21, 1))
    sure = kalman(time, xy, ones, size, ones > 0)
    doubted = ones.copy()
    doubted[10] = 0.1
    unsure = kalman(time, xy, doubted, size, ones > 0)
    assert abs(unsure[10, 0, 0] - 50) < 0.1 * abs(sure[10, 0, 0] - 50)
