"""Random changes of a sample: deterministic by the generator, right in kind and reach."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from posecli import augment

PICTURE = np.random.default_rng(3).integers(0, 256, (40, 60, 3)).astype(np.uint8)
CHANGES: dict[str, Callable] = {
    "colour_jitter": augment.colour_jitter,
    "blur": augment.blur,
    "noise": augment.noise,
    "occlude": augment.occlude,
    "darker": lambda image, rng: augment.darker(image, 0.3, rng),
    "brighter": lambda image, rng: augment.brighter(image, 1.8),
    "compressed": lambda image, rng: augment.compressed(image, 10),
}


@pytest.mark.parametrize("name", CHANGES)
def test_same_generator_same_picture_and_the_original_stays(name: str) -> None:
    before = PICTURE.copy()
    first, second = (CHANGES[name](PICTURE, np.random.default_rng(7)) for _ in range(2))
    assert first.shape == PICTURE.shape
    assert first.dtype == np.uint8
    assert (first == second).all()
    assert (first != PICTURE).any()
    assert (before == PICTURE).all()


def test_no_strength_no_change() -> None:
    assert np.abs(augment.colour_jitter(PICTURE, np.random.default_rng(0), 0.0).astype(int) - PICTURE).max() <= 1


def test_grey_has_equal_channels() -> None:
    grey = augment.to_grey(PICTURE)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert grey.shape == PICTURE.shape


def test_blur_keeps_the_mean_of_a_spot() -> None:
    spot = np.zeros((31, 31, 3), np.uint8)
    spot[15, 15] = 255
    for seed in range(10):
        blurred = augment.blur(spot, np.random.default_rng(seed)).astype(float)
        assert 150 < blurred[..., 0].sum() < 330  # rounding to whole levels
        y, x = (blurred[..., 0] * np.mgrid[:31, :31]).sum((1, 2)) / blurred[..., 0].sum()
        assert abs(y - 15) < 0.5
        assert abs(x - 15) < 0.5


def test_occluder_comes_from_the_other_picture() -> None:
    other = np.full((50, 70, 3), 9, np.uint8)
    covered = augment.occlude(np.full_like(PICTURE, 200), np.random.default_rng(1), other)
    share = (covered == 9).all(-1).mean()
    assert 0.01 <= share <= 0.16
    assert ((covered == 9) | (covered == 200)).all()


def test_half_body_takes_the_half_that_can_be_seen() -> None:
    xy = np.array([[0, 0], [10, 0], [5, 10], [0, 50], [10, 50], [5, 90.0]])
    upper = np.array([True] * 3 + [False] * 3)
    middle, side = augment.half_body(xy, np.ones(6, bool), upper, np.random.default_rng(0))
    assert side in (10, 40)
    lower_only = np.array([False] * 3 + [True] * 3)
    middle, side = augment.half_body(xy, lower_only, upper, np.random.default_rng(0))
    assert middle.tolist() == [5, 70]
    assert side == 40
    assert augment.half_body(xy, np.zeros(6, bool), upper, np.random.default_rng(0)) is None


def test_inside_counts_whole_edge_pixels() -> None:
    points = np.array([[-0.5, 0], [59.5, 39.5], [-0.6, 0], [0, 39.6]])
    assert augment.inside(points, (60, 40)).tolist() == [True, True, False, False]


def test_light_falls_and_rises_and_what_is_too_bright_is_white() -> None:
    grey = np.full((40, 60, 3), 150, np.uint8)
    dark = augment.darker(grey, 0.2, np.random.default_rng(1)).astype(float)
    assert dark.mean() == pytest.approx(30, abs=1.5) and 2 < dark.std() < 6
    assert (augment.brighter(grey, 1.5) == 225).all() and (augment.brighter(grey, 2.5) == 255).all()


def test_compression_costs_more_at_a_lower_quality() -> None:
    y, x = np.mgrid[:40, :60]
    smooth = np.stack([4 * x, 6 * y, 2 * x + 3 * y], -1).astype(np.uint8)
    lost = [np.abs(augment.compressed(smooth, q).astype(int) - smooth).mean() for q in (95, 50, 10)]
    assert lost[0] < lost[1] < lost[2] and lost[0] < 4
