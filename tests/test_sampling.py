"""Crops made quickly show what `geometry.warp` shows, at the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.geometry import apply_affine, crop_from_box, fit_picture, halved, warp
from posecli.inference import load_model
from posecli.sampling import Halves, halves_of, sampled, sharing, thumbnail

SIZES = [(128, 128), (96, 128), (64, 48)]


def picture(height: int = 360, width: int = 500) -> np.ndarray:
    """Smooth waves of some 100 pixels, different in each channel."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(columns / 17 + rows / 21), np.sin(columns / 23 - rows / 16), np.cos(rows / 19)]
    return np.stack([128 + 100 * w for w in waves], -1).round().astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-80, 450),
    y=st.floats(-80, 300),
    side=st.floats(20, 380),
    size=st.sampled_from(SIZES),
)
def test_a_crop_shows_the_same(x: float, y: float, side: float, size: tuple[int, int]) -> None:
    image = picture()
    crop = crop_from_box(np.array([x, y, x + side, y + side]), size)
    found, expected = sampled(image, crop).astype(int), warp(image, crop).astype(int)
    assert found.shape == expected.shape
    inside = apply_affine(crop.matrix, np.array([[0, 0], [image.shape[1] - 1, image.shape[0] - 1]])).round().astype(int)
    rim = 2 + int(np.ceil(crop.matrix[0, 0] * 4))  # at the picture's border, and the crop's when it is enlarged
    (x0, y0), (x1, y1) = np.maximum(inside[0], 0) + rim, np.minimum(inside[1], np.array(size) - 1) - rim
    apart = np.abs(found - expected)[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    # What averages over an area keeps less of a wave than what samples between halved pixels.
    limit = 3 if crop.matrix[0, 0] >= 0.5 else 30
    assert apart.max(initial=0) <= limit
    assert apart.size == 0 or apart.mean() <= (1 if limit == 3 else 6)


def test_turned_and_mirrored_crops() -> None:
    for more in ({"rotation": 20.0}, {"flip": True}):
        crop = crop_from_box(np.array([50, 60, 150, 190]), (64, 64), **more)
        apart = np.abs(sampled(picture(), crop).astype(int) - warp(picture(), crop))
        assert apart.mean() <= 4


@pytest.mark.parametrize("side", [352, 144, 96, 1000])
def test_a_whole_picture_in_a_padded_input(side: int) -> None:
    image = picture(355, 501)
    crop = fit_picture(501, 355, side)
    found, expected = sampled(image, crop).astype(int), warp(image, crop).astype(int)
    high, wide = (int(n * side / 501) - 3 for n in image.shape[:2])
    assert np.abs(found - expected)[3:high, 3:wide].mean() < 5
    assert not found[high + 6 :].any()


def test_far_away_and_absurd_boxes() -> None:
    image = picture()
    for box in ([5000, 5000, 5100, 5100], [-4000, -4000, -3900, -3900]):
        assert not sampled(image, crop_from_box(np.array(box), (64, 64))).any()
    huge = crop_from_box(np.array([-1e9, -1e9, 1e9, 1e9]), (64, 64))
    assert sampled(image, huge).shape == (64, 64, 3)
    assert sampled(image[:1, :1], crop_from_box(np.array([0, 0, 1, 1]), (32, 32))).shape == (32, 32, 3)


def test_halves_are_shared_while_it_lasts_and_by_picture() -> None:
    image, other = picture(), picture()[:200]
    assert halves_of(image) is not halves_of(image)
    with sharing([image]):
        first = halves_of(image)
        with sharing([image, other]):
            assert halves_of(image) is first
        assert halves_of(image) is first
        assert halves_of(other) is not halves_of(other)
    assert halves_of(image) is not first
    np.testing.assert_array_equal(Halves(image)[2], halved(halved(image)))


def test_thumbnail() -> None:
    image = picture(720, 1280)
    expected = image
    while max(expected.shape[:2]) >= 320:
        expected = halved(expected)
    np.testing.assert_array_equal(thumbnail(image), expected)
    small = thumbnail(expected)
    np.testing.assert_array_equal(small, expected)
    assert not np.shares_memory(small, expected)


def test_pictures_are_averaged_exactly_and_frames_sampled_quickly(tiny_model: Path) -> None:
    model = load_model(tiny_model, "cpu")
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    crop = crop_from_box(np.array([40.0, 30, 600, 440]), (64, 64))
    exact, quick = warp(image, crop), sampled(image, crop)
    assert not np.array_equal(exact, quick)
    assert np.array_equal(model.crops([image], [(0, crop)])[0], exact)
    with sharing([image]):
        assert np.array_equal(model.crops([image], [(0, crop)])[0], quick)
    seen: list[np.ndarray] = []
    box = [np.array([[40.0, 30, 600, 440]])]
    plain, model.maps = model.maps, lambda crops, *more: seen.append(crops) or plain(crops, *more)
    for still in (True, False):
        model.predict([image], box, still=still)
    assert not np.array_equal(seen[0], seen[1])
