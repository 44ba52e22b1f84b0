"""Integral regression and normalised coordinates against the official code; the mean place is differentiable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from reference import load_post

from posecli.codecs import affine
from posecli.codecs.coords import decode_coords, encode_coords, input_box
from posecli.codecs.integral import decode_integral, distribution, expectation, integral_l1, normalised
from posecli.geometry import apply_affine


def test_official_places(shared: Path) -> None:
    stored = load_post(shared, "integral")
    maps = torch.from_numpy(stored["heatmaps_2d"])
    found = normalised(expectation(distribution(maps)), (maps.shape[3], maps.shape[2]))
    # The official code has a third coordinate, -0.5 at depth 1.
    expected = stored["heatmaps_2d_preds_depth1"].reshape(2, 4, 3)
    np.testing.assert_allclose(found.numpy(), expected[..., :2], atol=1e-6)
    assert (expected[..., 2] == -0.5).all()


def test_volumes_projected_on_the_image_plane(shared: Path) -> None:
    """x and y of the official volumes: the softmax over a whole volume, summed over its depth, is such a map."""
    stored = load_post(shared, "integral")
    volume = torch.from_numpy(stored["volume_2x3joints_depth8_h12_w10"]).view(2, 3, 8, 12, 10)
    plane = volume.flatten(2).softmax(-1).view(volume.shape).sum(2)
    found = normalised(expectation(plane), (10, 12))
    np.testing.assert_allclose(found.numpy(), stored["volume_preds"].reshape(2, 3, 3)[..., :2], atol=1e-6)
    patch = torch.from_numpy(stored["patch_volume_2x3joints_depth10_h12_w10"]).view(2, 3, 10, 12, 10)
    plane = patch.flatten(2).softmax(-1).view(patch.shape).sum(2)
    # `patch_preds`: the normalised place plus a half, times the patch.
    pixels = (normalised(expectation(plane), (10, 12)).numpy() + 0.5) * stored["patch_wh"]
    np.testing.assert_allclose(pixels, stored["patch_preds"][..., :2], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("norm", ["softmax", "sigmoid"])
def test_alphapose(shared: Path, norm: str) -> None:
    stored = load_post(shared, "alphapose_decode")
    maps = torch.from_numpy(stored["integral_input"])[None]
    xy = expectation(distribution(maps, norm))
    size = (maps.shape[3], maps.shape[2])
    np.testing.assert_allclose(normalised(xy, size)[0].numpy().ravel(), stored[f"{norm}_normalised"][0], atol=1e-6)
    box = stored["box"]
    back = affine.hrnet_matrix((box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 200, size, inverse=True)
    np.testing.assert_allclose(apply_affine(back, xy[0].numpy()), stored[f"{norm}_coords"], rtol=1e-6, atol=1e-4)
    score = torch.ones(8) if norm == "softmax" else maps[0].sigmoid().flatten(1).amax(1)
    np.testing.assert_allclose(score.numpy(), stored[f"{norm}_scores"][:, 0], atol=1e-6)


def test_mean_place_by_hand() -> None:
    """The lecture's curve: 0.2 at 0, 0.4 at 1, 0.3 at 2, 0.1 at 3 has its mean at 1.3, its highest at 1."""
    curve = torch.tensor([[[[0.2, 0.4, 0.3, 0.1]]]])
    xy, score = decode_integral(curve)
    torch.testing.assert_close(xy, torch.tensor([[[1.3, 0.0]]]))
    assert score.item() == pytest.approx(0.4)


def test_maps_without_a_positive_value_are_uniform() -> None:
    xy, _ = decode_integral(torch.full((1, 1, 3, 5), -1.0))
    assert xy.tolist() == [[[2.0, 1.0]]]


def test_gradient_points_to_the_target() -> None:
    logits = torch.zeros(1, 1, 5, 5, requires_grad=True)
    target, weight = torch.tensor([[[4.0, 2.0]]]), torch.ones(1, 1)
    loss = integral_l1(expectation(distribution(logits)), target, weight, (5, 5))
    assert loss.item() == pytest.approx(2 / 5)
    loss.backward()
    slope = logits.grad[0, 0].sum(0)
    assert (slope[:2] > 0).all() and (slope[3:] < 0).all(), "columns on the target's side gain"
    assert integral_l1(target, target + 3, 0 * weight, (5, 5)) == 0


@given(st.floats(0, 100), st.floats(-50, 50), st.floats(1, 30), st.floats(1, 40))
def test_coordinates_there_and_back(x: float, y: float, width: float, height: float) -> None:
    box = torch.tensor([x, y, x + width, y + height], dtype=torch.float64)
    corners = torch.stack([box[:2], box[2:], (box[:2] + box[2:]) / 2])
    values = encode_coords(corners, box)
    # Sec. 3, Eq. 1: the box's corners are at -1/2 and 1/2, its centre at 0.
    expected = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [0, 0]], dtype=torch.float64)
    torch.testing.assert_close(values, expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(decode_coords(values, box), corners)


def test_coordinates_of_an_input() -> None:
    points = torch.tensor([[-0.5, -0.5], [95.5, 127.5]])
    assert encode_coords(points, input_box((96, 128), points)).tolist() == [[-0.5, -0.5], [0.5, 0.5]]
