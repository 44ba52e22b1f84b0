"""One pixel, one keypoint: every change of coordinates moves pictures and points alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.geometry import (
    apply_affine,
    box_iou,
    box_xywh_to_xyxy,
    box_xyxy_to_xywh,
    crop_from_box,
    fit_picture,
    halved,
    in_one_size,
    keypoint_box,
    warp,
)


def centre_of_light(image: np.ndarray) -> np.ndarray:
    weight = image[..., 0].astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@settings(max_examples=40, deadline=None)
@given(
    x=st.integers(30, 70),
    y=st.integers(25, 55),
    scale=st.floats(0.8, 2.5),
    rotation=st.floats(-180, 180),
    flip=st.booleans(),
)
def test_a_lit_spot_and_its_keypoint_coincide_in_the_crop(x, y, scale, rotation, flip) -> None:
    # A soft spot: what bilinear sampling does to a hard edge is not a matter of coordinates.
    across, down = np.meshgrid(np.arange(100), np.arange(80))
    spot = 220 * np.exp(-((across - x) ** 2 + (down - y) ** 2) / (2 * 2.5**2))
    image = np.repeat(spot.astype(np.uint8)[..., None], 3, 2)
    crop = crop_from_box(np.array([20, 15, 80, 65]), (96, 64), scale, rotation, flip)
    expected = apply_affine(crop.matrix, np.array([[x, y]]))[0]
    if not (14 < expected[0] < 81 and 14 < expected[1] < 49):
        return
    assert centre_of_light(warp(image, crop)) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("longer", [16, 33, 64, 160, 400])
def test_whole_picture_reduction_has_no_shift(longer: int) -> None:
    """Strong reductions go through area averaging first; the spot must still fall where its point does."""
    image = np.zeros((240, 400, 3), np.uint8)
    image[100:140, 280:330] = 250
    crop = fit_picture(400, 240, longer, 8)
    expected = apply_affine(crop.matrix, np.array([[304.5, 119.5]]))[0]
    assert centre_of_light(warp(image, crop)) == pytest.approx(expected, abs=0.06)


def test_crops_are_padded_to_the_size_of_a_larger_one_that_is_near() -> None:
    crops = [fit_picture(1280, 720, longer) for longer in (112, 352, 96, 144)]
    together = in_one_size(crops, 30_000)
    assert [crop.size_wh for crop in together] == [(160, 96), (352, 224), (160, 96), (160, 96)]
    assert all(a.matrix is b.matrix for a, b in zip(together, crops, strict=True))
    assert [crop.size_wh for crop in in_one_size(crops, 0)] == [crop.size_wh for crop in crops]
    # Each by the largest of those that it goes with, and never cut.
    apart = [fit_picture(*size, 96) for size in ((320, 180), (180, 320))]
    assert [crop.size_wh for crop in in_one_size(apart, 30_000)] == [(96, 64), (64, 96)]


def test_crop_shows_box_enlarged_without_distortion() -> None:
    crop = crop_from_box(np.array([10, 20, 30, 80]), (100, 200), 1.5)
    # the box is 20 x 60, aspect 1:2 asks for 30 x 60, times 1.5 = 45 x 90 image pixels for 100 x 200
    assert np.allclose(crop.matrix[:, :2], np.eye(2) * 200 / 90)
    assert np.allclose(apply_affine(crop.matrix, np.array([20.0, 50.0])), [49.5, 99.5])


def test_crop_and_inverse_cancel() -> None:
    crop = crop_from_box(np.array([3, 4, 50, 90]), (128, 96), 1.2, 33, True)
    points = np.random.default_rng(0).uniform(0, 100, (20, 2))
    assert np.allclose(apply_affine(crop.inverse, apply_affine(crop.matrix, points)), points)


def test_empty_box_and_box_outside_give_a_picture_not_a_crash() -> None:
    image = np.full((50, 60, 3), 9, np.uint8)
    assert warp(image, crop_from_box(np.array([5, 5, 5, 5]), (32, 32))).shape == (32, 32, 3)
    far = warp(image, crop_from_box(np.array([5000, 5000, 9000, 9000]), (32, 32)))
    assert far.shape == (32, 32, 3) and not far.any()


def test_boxes() -> None:
    boxes = np.array([[0, 0, 10, 10], [5, 5, 10, 10.0]])
    corners = box_xywh_to_xyxy(boxes)
    assert np.allclose(box_xyxy_to_xywh(corners), boxes)
    # 5 x 5 shared, 100 + 100 - 25 in all
    assert box_iou(corners, corners)[0, 1] == pytest.approx(25 / 175)
    assert box_iou(corners, corners).diagonal() == pytest.approx([1, 1])
    assert box_iou(np.zeros((1, 4)), np.zeros((1, 4)))[0, 0] == 0


def test_keypoint_box_ignores_missing_joints() -> None:
    xy = np.array([[0.0, 0.0], [5, 6], [9, 2]])
    assert keypoint_box(xy, np.array([0, 2, 1])).tolist() == [5, 2, 9, 6]
    assert keypoint_box(xy, np.zeros(3)) is None


@pytest.mark.parametrize("size", [(720, 1280), (719, 1279), (1001, 637), (403, 3000)])
@pytest.mark.parametrize("longer_side", [300, 120, 48])
def test_strong_reductions_move_nothing(size: tuple[int, int], longer_side: int) -> None:
    """In a picture whose grey is its place, every pixel of the crop has the grey of the place it shows."""
    height, width = size
    across, down = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    ramp = np.stack([across, down, across], -1)
    crop = fit_picture(width, height, longer_side, multiple=1)
    # Rounding may add to every pixel; the ramp that falls tells it from a shift.
    rises, falls = (warp(picture.round().astype(np.uint8), crop).astype(np.float64) for picture in (ramp, 250 - ramp))
    got = 125 + (rises - falls)[..., :2] / 2
    # Away from the border, where what lies outside is mixed in.
    inside = np.s_[2 : got.shape[0] - 2, 2 : got.shape[1] - 2]
    rows, columns = np.mgrid[inside]
    places = apply_affine(crop.inverse, np.stack([columns, rows], -1).reshape(-1, 2).astype(np.float64))
    grey_per_pixel = 250 / np.array([width - 1, height - 1]) * max(size) / longer_side
    apart = (got[inside].reshape(-1, 2) - places * 250 / [width - 1, height - 1]) / grey_per_pixel
    assert np.abs(apart.mean(0)).max() < 0.15
    assert (
        np.abs(rises[inside] - ramp_at(places, size).reshape(rises[inside].shape)).max()
        < 1.8 + 0.03 * grey_per_pixel.max()
    )


def ramp_at(places: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, 3) grey levels of the ramp at places (N, 2)."""
    return (places * 250 / [size[1] - 1, size[0] - 1])[:, [0, 1, 0]]


def test_halves_are_means_of_four() -> None:
    image = np.random.default_rng(1).integers(0, 256, (7, 11, 3), dtype=np.uint8)
    means = image[:6, :10].reshape(3, 2, 5, 2, 3).mean((1, 3))
    assert np.abs(halved(image) - means).max() <= 0.75
    assert halved(image[:1]).shape == (1, 5, 3) and halved(image[:1, :1]).shape == (1, 1, 3)
