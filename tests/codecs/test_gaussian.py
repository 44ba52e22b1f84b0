"""Gaussian heat maps: official targets, decode, accuracy, flip; a planted joint comes back."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import load_post

from posecli.codecs.affine import hrnet_matrix
from posecli.codecs.gaussian import (
    average_flipped,
    decode_gaussian,
    encode_gaussian,
    heatmap_accuracy,
    highest_pixel,
    mirror_heatmap,
)
from posecli.geometry import apply_affine


@pytest.mark.parametrize(("sigma", "suffix"), [(2, ""), (3, "_sigma3")])
def test_targets(shared, sigma, suffix):
    stored = load_post(shared, "target_gaussian")
    target, weight = encode_gaussian(
        stored["joints_image"][:, :2],
        stored["visible"][:, 0],
        tuple(stored["image_size"]),
        tuple(stored["heatmap_size"]),
        sigma,
    )
    np.testing.assert_allclose(target, stored[f"hrnet_target{suffix}"], atol=1e-6)
    np.testing.assert_array_equal(weight, stored[f"hrnet_weight{suffix}"][:, 0])


def test_decode(shared):
    stored = load_post(shared, "argmax_decode")
    heatmap = torch.from_numpy(stored["heatmaps"])
    xy, score = highest_pixel(heatmap)
    np.testing.assert_array_equal(xy.numpy(), stored["argmax"])
    np.testing.assert_array_equal(score.numpy(), stored["maxvals"][..., 0])
    for shift, name in ((True, "preds_shift"), (False, "preds_noshift")):
        xy, _ = decode_gaussian(heatmap, shift)
        for one, centre, scale, expected in zip(xy, stored["center"], stored["scale"], stored[name], strict=True):
            back = hrnet_matrix(centre, scale, (heatmap.shape[3], heatmap.shape[2]), inverse=True)
            np.testing.assert_allclose(apply_affine(back, one.numpy()), expected, rtol=1e-6, atol=1e-4)


def test_accuracy(shared):
    stored = load_post(shared, "argmax_decode")
    mean, shares, count = heatmap_accuracy(
        torch.from_numpy(stored["heatmaps"]), torch.from_numpy(stored["target_heatmaps"])
    )
    assert mean == pytest.approx(float(stored["accuracy_mean"]))
    np.testing.assert_allclose(shares.numpy(), stored["accuracy"][1:])
    assert count == stored["accuracy_count"]


def test_mirror(shared):
    stored = load_post(shared, "argmax_decode")
    index = np.arange(8)
    for a, b in stored["flip_pairs"]:
        index[a], index[b] = b, a
    given_ = torch.from_numpy(stored["flip_in"])
    np.testing.assert_array_equal(mirror_heatmap(given_, index).numpy(), stored["flip_out"])
    np.testing.assert_array_equal(mirror_heatmap(mirror_heatmap(given_, index), index).numpy(), stored["flip_in"])


def test_flip_test_moves_the_mirrored_maps_one_pixel():
    heatmap = torch.zeros(1, 2, 1, 6)
    mirrored = torch.zeros(1, 2, 1, 6)
    heatmap[0, 0, 0, 3] = 1
    mirrored[0, 1, 0, 3] = 1  # mirrored back: pixel 2; moved: pixel 3, joint 0
    assert average_flipped(heatmap, mirrored, [1, 0])[0, 0, 0].tolist() == [0, 0, 0, 1, 0, 0]
    assert average_flipped(heatmap, mirrored, [1, 0], shift=False)[0, 0, 0].tolist() == [0, 0, 0.5, 0.5, 0, 0]


@settings(max_examples=40, deadline=None)
@given(st.floats(8, 180), st.floats(8, 240))
def test_round_trip(x, y):
    """Rounding to a map pixel (stride 4) and the quarter shift leave at most half a map pixel in each axis."""
    target, weight = encode_gaussian(np.array([[x, y]]), np.ones(1), (192, 256), (48, 64))
    xy, score = decode_gaussian(torch.from_numpy(target)[None])
    assert weight[0] == 1 and score[0, 0] == 1
    assert np.abs(xy[0, 0].numpy() * 4 - [x, y]).max() <= 2.001


@pytest.mark.parametrize("sigma", [1.0, 1.3, 1.4, 1.5, 1.7, 2.0, 2.6, 3.0])
def test_the_peak_is_on_the_joints_pixel_at_any_sigma(sigma):
    """CPN learns by 1.4 and multiples of it: three sigmas are then no whole number of pixels."""
    xy = np.array([[x, y] for x in (0.0, 1.0, 3.0, 20.0, 44.0, 47.0) for y in (0.0, 2.0, 30.0, 62.0, 63.0)])
    target, _ = encode_gaussian(xy, np.ones(len(xy)), (48, 64), (48, 64), sigma)
    np.testing.assert_array_equal(highest_pixel(torch.from_numpy(target)[None])[0][0], xy)
    assert target.max((1, 2)).min() == 1


def test_nothing_found_is_the_origin_with_its_score():
    xy, score = decode_gaussian(torch.full((1, 1, 5, 5), -1.0))
    assert xy.tolist() == [[[0, 0]]] and score.tolist() == [[-1]]


def test_joints_without_label_have_empty_maps():
    target, weight = encode_gaussian(np.array([[50.0, 50.0], [50.0, 50.0]]), np.array([0, 1]), (192, 256), (48, 64))
    assert not target[0].any() and target[1].max() == 1 and weight.tolist() == [0, 1]
