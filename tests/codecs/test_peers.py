"""How other repositories read maps, make targets and crop: their own numbers; SimCC and UDP there and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import load_post

from posecli.codecs import affine
from posecli.codecs.dark import decode_dark, encode_dark
from posecli.codecs.gaussian import decode_gaussian, encode_gaussian, highest_pixel, mirror_heatmap
from posecli.codecs.peers import decode_argmax, decode_cpn, decode_mmpose, decode_princeton, decode_pytorchpose
from posecli.codecs.simcc import decode_simcc, encode_simcc
from posecli.codecs.udp import decode_udp, encode_udp
from posecli.geometry import apply_affine


def test_mmpose_decoders(shared: Path) -> None:
    stored = load_post(shared, "mmpose_codecs")
    maps = torch.from_numpy(stored["heatmaps"])[None]
    found = stored["score"] > 0  # the last map has no positive value: mmpose gives -1, we the origin
    assert found.sum() == 7
    xy, score = highest_pixel(maps)
    np.testing.assert_array_equal(xy[0, found], stored["maximum"][found])
    np.testing.assert_array_equal(score[0], stored["score"])
    for decode, name in ((decode_mmpose, "shift"), (decode_dark, "dark"), (decode_udp, "dark_udp")):
        xy, _ = decode(maps)
        np.testing.assert_allclose(xy[0, found], stored[f"refine_{name}"][found], rtol=1e-5, atol=1e-5, err_msg=name)


def test_mmpose_targets(shared: Path) -> None:
    stored = load_post(shared, "mmpose_codecs")
    xy, visible = stored["target_keypoints"][0], stored["target_visible"][0]
    size = (48, 64)
    for name, (target, weight) in {
        "generate_gaussian_heatmaps": encode_gaussian(xy, visible, size, size),
        "generate_unbiased_gaussian_heatmaps": encode_dark(xy, visible, size),
        "generate_udp_gaussian_heatmaps": encode_udp(xy, visible, size),
    }.items():
        np.testing.assert_allclose(target, stored[name], atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(weight, stored[f"{name}_weight"][0], err_msg=name)


def test_mmpose_simcc(shared: Path) -> None:
    stored = load_post(shared, "mmpose_codecs")
    xy, score = decode_simcc(torch.from_numpy(stored["simcc_x"]), torch.from_numpy(stored["simcc_y"]))
    np.testing.assert_array_equal(xy, stored["simcc_location"])
    np.testing.assert_array_equal(score, stored["simcc_score"])


@given(st.floats(0, 95), st.floats(0, 127))
def test_simcc_there_and_back(x: float, y: float) -> None:
    xy = torch.tensor([[x, y]])
    across, down, weight = encode_simcc(xy, torch.ones(1), (96, 128), split=2.0)
    assert across.shape == (1, 192) and down.shape == (1, 256) and weight.tolist() == [1]
    found, score = decode_simcc(across, down, split=2.0)
    assert (found - xy).abs().max() <= 0.2501, "half a bin of half a pixel"
    assert score.item() == pytest.approx(1)


def test_simcc_without_a_label_or_far_outside() -> None:
    xy = torch.tensor([[10.0, 10.0], [-80.0, 10.0]])
    across, _, weight = encode_simcc(xy, torch.tensor([0.0, 1.0]), (96, 128))
    assert weight.tolist() == [0, 0] and not across.any()
    found, _ = decode_simcc(across, across)
    assert (found == -1).all()


def test_mmpose_boxes(shared: Path) -> None:
    stored = load_post(shared, "mmpose_boxes")
    for i, row in enumerate(stored["rows_x1_y1_x2_y2_padding_outw_outh_rot"]):
        (x1, y1, x2, y2, padding), size, rotation = row[:5], (int(row[5]), int(row[6])), row[7]
        box = np.array([x1, y1, x2 - x1, y2 - y1])
        centre, scale = affine.box_to_center_scale(box, size[0] / size[1], padding)
        np.testing.assert_allclose(centre, stored["center"][i], rtol=1e-6)
        np.testing.assert_allclose(scale * 200, stored["scale_fixed"][i], rtol=1e-6)
        np.testing.assert_allclose(box[2:] * padding, stored["scale"][i], rtol=1e-6)
        for inverse, name in ((False, "warp"), (True, "warp_inverse")):
            found = affine.hrnet_matrix(
                stored["center"][i], stored["scale_fixed"][i] / 200, size, rotation, inverse=inverse
            )
            np.testing.assert_allclose(found, stored[name][i], rtol=1e-6, atol=1e-3)
        found = affine.udp_matrix(stored["center"][i], stored["scale_fixed"][i], size, rotation)
        np.testing.assert_allclose(found, stored["udp_warp"][i], rtol=1e-5, atol=1e-3)


def test_alphapose(shared: Path) -> None:
    stored = load_post(shared, "alphapose_decode")
    maps = torch.from_numpy(stored["heatmaps"])[None]
    box = stored["box"]
    back = affine.hrnet_matrix((box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 200, (48, 64), inverse=True)
    xy, score = decode_gaussian(maps)
    np.testing.assert_allclose(apply_affine(back, xy[0].numpy()), stored["simple_coords"], rtol=1e-6, atol=1e-4)
    np.testing.assert_array_equal(score[0], stored["simple_scores"][:, 0])
    index = np.arange(6)
    for a, b in stored["flip_pairs"]:
        index[a], index[b] = b, a
    given_ = torch.from_numpy(stored["flip_in"])[None]
    np.testing.assert_array_equal(mirror_heatmap(given_, index)[0], stored["flip_out"])


def test_alphapose_boxes(shared: Path) -> None:
    stored = load_post(shared, "alphapose_decode")
    for i, row in enumerate(stored["box_rows_x_y_w_h_aspect_mult_outw_outh"]):
        centre, scale = affine.box_to_center_scale(row[:4], row[4], row[5])
        np.testing.assert_allclose(centre, stored["box_center"][i], rtol=1e-6)
        np.testing.assert_allclose(scale * 200, stored["box_scale"][i], rtol=1e-6)
        size = (int(row[6]), int(row[7]))
        matrix = affine.hrnet_matrix(stored["box_center"][i], stored["box_scale"][i] / 200, size)
        np.testing.assert_allclose(matrix, stored["box_matrix"][i], rtol=1e-6, atol=1e-3)
        found = affine.box_of(stored["box_center"][i], stored["box_scale"][i])
        np.testing.assert_allclose(found, stored["box_back_xyxy"][i], rtol=1e-6)
    found = affine.enlarged_box(stored["enlarge_in"], 0.25, tuple(stored["enlarge_image_wh"]))
    np.testing.assert_allclose(found, stored["enlarge_out"])


def test_pytorchpose(shared: Path) -> None:
    stored = load_post(shared, "other_decoders")
    maps = torch.from_numpy(stored["heatmaps"])
    xy, _ = decode_pytorchpose(maps)
    for one, centre, scale, expected in zip(
        xy, stored["center"], stored["scale"], stored["pytorchpose_preds"], strict=True
    ):
        # Half a pixel on, then the region's pixels, counted from one and cut off.
        found = np.trunc(((one.numpy() + 0.5) / 64 - 0.5) * 200 * scale + centre) + 1
        np.testing.assert_array_equal(found, expected)


def test_princeton(shared: Path) -> None:
    stored = load_post(shared, "other_decoders")
    xy, score = decode_princeton(torch.from_numpy(stored["heatmaps"]))
    certain = np.ones((2, 8), bool)
    certain[0, 3] = certain[:, -1] = False  # ties
    np.testing.assert_allclose(xy.numpy()[certain] + 0.5, stored["princeton_parsed"][..., :2][certain], atol=1e-6)
    np.testing.assert_allclose(score.numpy()[certain], stored["princeton_parsed"][..., 2][certain], atol=1e-6)


def test_unipose(shared: Path) -> None:
    stored = load_post(shared, "other_decoders")
    xy, _ = decode_argmax(torch.from_numpy(stored["unipose_heatmaps"])[:, 1:])
    found = np.trunc(xy[0].numpy() * np.array([300 / 46, 400 / 46]))
    np.testing.assert_array_equal(found, stored["unipose_keypoints"])


def test_cpn(shared: Path) -> None:
    stored = load_post(shared, "other_decoders")
    xy, score = decode_cpn(torch.from_numpy(stored["cpn_heatmaps"]))
    box = stored["cpn_box_xyxy"]
    found = (4 * xy[0].numpy() + 2) / np.array([192, 256]) * (box[2:] - box[:2]) + box[:2]
    np.testing.assert_allclose(found, stored["cpn_result"][:, :2], rtol=1e-6)
    np.testing.assert_allclose(score[0].numpy() / 255 + 0.5, stored["cpn_joint_scores"], rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.floats(6, 41), st.floats(6, 57))
def test_udp_there_and_back(x: float, y: float) -> None:
    """Away from the border a clean Gaussian comes back within a few hundredths of a map pixel."""
    target, _ = encode_udp(np.array([[x, y]]), np.ones(1), (48, 64))
    xy, score = decode_udp(torch.from_numpy(target)[None])
    assert np.abs(xy[0, 0].numpy() - [x, y]).max() < 0.06
    assert score.item() > 0.9
