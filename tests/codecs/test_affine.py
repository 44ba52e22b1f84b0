"""The official affine maps, bit for bit where the official code is."""

import numpy as np
from reference import load_post

from posecli.codecs import affine
from posecli.geometry import apply_affine


def test_hrnet_and_dark(shared):
    stored = load_post(shared, "affine")
    for i, (width, height, rotation) in enumerate(stored["out_size_wh_rot"]):
        size = (width, height)
        centre, scale = affine.box_to_center_scale(stored["boxes_xywh"][i], width / height)
        np.testing.assert_array_equal(centre, stored["center"][i])
        np.testing.assert_array_equal(scale, stored["scale"][i])
        matrix = affine.hrnet_matrix(centre, scale, size, rotation)
        np.testing.assert_allclose(matrix, stored["matrix"][i], rtol=1e-9, atol=1e-9)
        for name, found in (
            ("inverse", affine.hrnet_matrix(centre, scale, size, rotation, inverse=True)),
            ("matrix_dark", affine.dark_matrix(centre, scale, size, rotation)),
            ("inverse_dark", affine.dark_matrix(centre, scale, size, rotation, inverse=True)),
            ("matrix_shift", affine.hrnet_matrix(centre, scale, size, rotation, stored["shift"])),
        ):
            np.testing.assert_allclose(found, stored[name][i], rtol=1e-9, atol=1e-9, err_msg=name)
        np.testing.assert_allclose(apply_affine(matrix, stored["points"]), stored["points_forward"][i], rtol=1e-9)
        back = affine.hrnet_matrix(centre, scale, size, inverse=True)
        np.testing.assert_allclose(apply_affine(back, stored["points"]), stored["points_back"][i], rtol=1e-9)


def test_mpii_people(shared):
    stored = load_post(shared, "affine")
    for i, center in enumerate(stored["mpii_center"]):
        centre, scale, joints = affine.mpii_center_scale(center, stored["mpii_scale"][i], stored["mpii_joints"][i])
        np.testing.assert_allclose(centre, stored["mpii_out_center"][i])
        np.testing.assert_allclose(scale, stored["mpii_out_scale"][i])
        np.testing.assert_allclose(joints, stored["mpii_out_joints"][i][:, :2])


def test_dekr_training(shared):
    stored = load_post(shared, "dekr_geometry")
    rows = zip(
        stored["train_rows_cx_cy_scale_res_rot"], stored["train_matrix"], stored["train_area_factor"], strict=True
    )
    for (x, y, scale, resolution, rotation), matrix, factor in rows:
        found, area = affine.dekr_train_matrix(np.array([x, y]), scale, resolution, rotation)
        np.testing.assert_allclose(found, matrix[:2], rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(area, factor, rtol=1e-9)


def test_dekr_testing(shared):
    stored = load_post(shared, "dekr_geometry")
    for i, (height, width) in enumerate(stored["test_image_hw"]):
        size, centre, scale = affine.dekr_test_geometry((height, width), *stored["test_input_scale_minscale"][i])
        assert size == tuple(stored["test_size_wh"][i])
        np.testing.assert_array_equal(centre, stored["test_center"][i])
        np.testing.assert_allclose(scale, stored["test_scale"][i], rtol=1e-12)
        matrix = affine.hrnet_matrix(centre, scale, size)
        np.testing.assert_allclose(matrix, stored["test_matrix"][i], rtol=1e-9, atol=1e-9)


def test_there_and_back():
    """One pixel, one place: forward and inverse meet within the float32 rounding of the official points."""
    for function in (affine.hrnet_matrix, affine.dark_matrix):
        there = function(np.array([100.0, 80.0]), np.array([1.5, 2.0]), (192, 256), 30)
        back = function(np.array([100.0, 80.0]), np.array([1.5, 2.0]), (192, 256), 30, inverse=True)
        points = np.array([[0.0, 0.0], [100, 80], [250, -3]])
        np.testing.assert_allclose(apply_affine(back, apply_affine(there, points)), points, atol=1e-3)
    centre = apply_affine(affine.hrnet_matrix(np.array([100.0, 80.0]), np.array([1.5, 2.0]), (192, 256), 30), points[1])
    np.testing.assert_allclose(centre, [96, 128], atol=1e-4)


def test_crops_of_pytorch_pose_are_hrnets(shared):
    """Its `transform`: centre, scale of 200 pixels, rotation and resolution give the same matrix."""
    stored = load_post(shared, "other_decoders")
    rows, matrices = stored["transform_rows_cx_cy_scale_rot_res0_res1_px_py"], stored["transform_matrix"]
    assert np.any(rows[:, 3] != 0)
    for (cx, cy, scale, rotation, height, width, x, y), expected, point, back in zip(
        rows, matrices, stored["transform_point"], stored["transform_point_inverse"], strict=True
    ):
        centre = np.array([cx, cy])
        matrix = affine.hrnet_matrix(centre, np.array([scale, scale]), (int(width), int(height)), rotation)
        np.testing.assert_allclose(matrix, expected[:2], atol=2e-4)
        # Its points count from one, and are cut off.
        inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
        for found, official in ((matrix @ [x - 1, y - 1, 1], point), (inverse @ [x - 1, y - 1, 1], back)):
            near_whole = np.abs(found - np.round(found)) < 1e-2
            assert (near_whole | (np.trunc(found) + 1 == official)).all(), (found, official)
