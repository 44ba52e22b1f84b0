"""DEKR's targets and maps: the official arrays, the intended rules, and the way back."""

import numpy as np
import pytest
import torch
from reference import load_post

from posecli.codecs.offsets import (
    centre_peaks,
    encode_heatmap,
    encode_offset,
    enlarge,
    heat_at,
    person_centres,
    pose_map,
    poses_at,
)

NAMES = ["coco", "crowdpose"]


@pytest.mark.parametrize("name", NAMES)
def test_official_targets(shared, name):
    stored = load_post(shared, "dekr_targets")
    size = (int(stored["size"]),) * 2
    joints, area = person_centres(stored[f"{name}_keypoints"], stored[f"{name}_ann_area"], official=True)
    np.testing.assert_allclose(joints, stored[f"{name}_joints"])
    np.testing.assert_allclose(area, stored[f"{name}_area"][:, 0])
    heatmap, weight = encode_heatmap(joints, size, official=True)
    np.testing.assert_allclose(heatmap, stored[f"{name}_heatmap"], atol=1e-7)
    np.testing.assert_array_equal(weight, stored[f"{name}_heatmap_weight"])
    offset, weight = encode_offset(joints, stored[f"{name}_area_used"][:, 0], size, official=True)
    np.testing.assert_array_equal(offset, stored[f"{name}_offset"])
    np.testing.assert_allclose(weight, stored[f"{name}_offset_weight"], rtol=1e-6)


def person(x: float, y: float, side: float, keypoints: int = 14) -> np.ndarray:
    rng = np.random.default_rng(3)
    xy = np.array([x, y]) + rng.uniform(-0.5, 0.5, (keypoints, 2)) * side
    return np.concatenate([xy, np.full((keypoints, 1), 2.0)], axis=1)


def test_intended_rules():
    keypoints = np.stack([person(30, 30, 20), person(31, 30, 8), np.zeros((14, 3))])
    keypoints[1, 4:] = 0  # the smaller person lacks joints
    joints, area = person_centres(keypoints)
    assert joints[2, -1].tolist() == [0, 0, 0], "nobody without a labelled joint has a centre"
    labelled = keypoints[1, :4, :2]
    assert area[1] == pytest.approx(((labelled.max(0) - labelled.min(0)) ** 2).sum())
    np.testing.assert_allclose(joints[1, -1, :2], labelled.mean(0))
    heatmap, _ = encode_heatmap(joints, (64, 64))
    spread = (heatmap > 0.3).sum((1, 2))
    assert spread[-1] > 2 * spread[:-1].max(), "centres are wider whatever the number of joints"
    offset, weight = encode_offset(joints, area, (64, 64))
    x, y = (int(v) for v in joints[1, -1, :2])
    for joint in range(14):
        owner = 1 if joint < 4 else 0  # the smaller person's where it has the joint
        assert weight[2 * joint, y, x] == pytest.approx(1 / np.sqrt(area[owner]), rel=1e-6)
        np.testing.assert_allclose(
            [x, y] - offset[2 * joint : 2 * joint + 2, y, x], keypoints[owner, joint, :2], atol=1e-4
        )
    swapped, _ = encode_offset(joints[::-1], area[::-1], (64, 64))
    np.testing.assert_array_equal(swapped, offset)  # the order of people is irrelevant


def test_small_people_have_no_centre():
    joints, _ = person_centres(np.stack([person(30, 30, 20)] * 2), np.array([900.0, 1100.0]))
    assert joints[:, -1, 2].tolist() == [0, 1]


def test_size_of_people_with_one_labelled_joint():
    """The extent of one joint is nothing: the annotated area tells the size, or nothing does and no offset counts."""
    people = np.stack([person(30, 30, 20), person(20, 20, 20), person(40, 40, 20)])
    people[1:, 1:, 2] = 0
    joints, area = person_centres(people, np.array([np.nan, 3200.0, np.nan]))
    assert area[1] == 3200 and area[2] == np.inf and np.isfinite(area[0])
    _, weight = encode_offset(joints, area, (64, 64))
    assert weight.max() == pytest.approx(1 / np.sqrt(area[0]))
    assert (weight[0] > 0).any() and not weight[0, 40, 40]
    assert person_centres(people[1:, :1])[1].tolist() == [1, 1]  # of a skeleton of one joint everybody is alike


def test_no_people():
    joints, area = person_centres(np.zeros((0, 14, 3)), np.zeros(0))
    heatmap, weight = encode_heatmap(joints, (16, 12))
    offset, strength = encode_offset(joints, area, (16, 12))
    assert heatmap.shape == (15, 12, 16) and offset.shape == (28, 12, 16)
    assert not heatmap.any() and not offset.any() and not strength.any() and (weight == np.float32(0.1)).all()


def test_targets_come_back():
    joints, area = person_centres(person(30, 25, 24)[None])
    heatmap, _ = encode_heatmap(joints, (64, 48))
    offset, _ = encode_offset(joints, area, (64, 48))
    index, score = centre_peaks(torch.from_numpy(heatmap[-1:]))
    assert (index >= 0).sum() == 1 and score[0, 0] > 0.9
    found = poses_at(torch.from_numpy(offset)[None], index)[0, 0]
    np.testing.assert_allclose(found.numpy(), joints[0, :-1, :2], atol=1e-4)
    whole = pose_map(torch.from_numpy(offset)[None]).flatten(2)[0, :, index[0, 0]].view(-1, 2)
    torch.testing.assert_close(found, whole)


@pytest.mark.parametrize("name", NAMES)
def test_reading(shared, name):
    stored = {k: torch.from_numpy(np.asarray(v)) for k, v in load_post(shared, "dekr_inference").items()}
    heatmap, offset = stored[f"{name}_heatmap"], stored[f"{name}_offset"]
    index, score = centre_peaks(heatmap[:, -1])
    count = int((index >= 0).sum())
    assert index[0, :count].tolist() == stored[f"{name}_peak_index"].tolist()
    torch.testing.assert_close(score[0, :count], stored[f"{name}_peak_score"])
    xy = poses_at(offset, index[:, :count]) * 4
    torch.testing.assert_close(xy[0], stored[f"{name}_candidates"][..., :2], rtol=1e-6, atol=1e-5)
    size = (4 * heatmap.shape[2], 4 * heatmap.shape[3])
    heat = heat_at([heatmap], [size], xy)[0]
    torch.testing.assert_close(heat, stored[f"{name}_heat_values"][..., 0], rtol=1e-5, atol=1e-6)


def test_enlarging(shared):
    stored = load_post(shared, "dekr_geometry")
    small = torch.from_numpy(stored["up_in"])
    for name, size in (("up_out", (24, 32)), ("up_out_half", (12, 16)), ("up_out_same", (6, 8))):
        np.testing.assert_allclose(enlarge(small, size).numpy(), stored[name], rtol=1e-6, atol=1e-6)


def test_heat_is_that_of_the_enlarged_maps():
    torch.manual_seed(0)
    maps = [torch.rand(2, 4, 10, 12), torch.rand(2, 4, 5, 6)]
    size = (40, 48)
    xy = torch.rand(2, 7, 3, 2) * 60 - 6
    average = (enlarge(maps[0], size) + enlarge(maps[1], size)) / 2
    column, row = xy[..., 0].floor().clamp(0, 47).long(), xy[..., 1].floor().clamp(0, 39).long()
    expected = average[:, :3].flatten(2).gather(2, (row * 48 + column).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(heat_at(maps, [size, size], xy), expected)


@pytest.mark.parametrize(("height", "width", "window"), [(40, 56, 3), (200, 204, 5), (300, 304, 7)])
def test_peak_windows_grow_with_the_map(height, width, window):
    """Two peaks as far apart as the window reaches: the lower is none; one further: both are."""
    for gap, expected in ((window // 2, 1), (window // 2 + 1, 2)):
        centre = torch.zeros(1, height, width)
        centre[0, 20, 20], centre[0, 20, 20 + gap] = 0.9, 0.8
        assert int((centre_peaks(centre)[0] >= 0).sum()) == expected
