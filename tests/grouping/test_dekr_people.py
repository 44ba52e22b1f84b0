"""From DEKR's maps to people: the official results at one and two scales, with flip test and refinement."""

import numpy as np
import pytest
import torch
from reference import load_post
from torch.nn import functional

from posecli.codecs.affine import hrnet_matrix
from posecli.codecs.offsets import pose_map
from posecli.geometry import apply_affine
from posecli.grouping.dekr import DekrSettings, average_flipped, decode_dekr, mirrored_input, nms_joints_for
from posecli.models import DekrBoxOutput, DekrOutput
from posecli.skeletons import get_skeleton

CASES = [("coco", "coco17"), ("crowdpose", "crowdpose14")]


@pytest.fixture(scope="module")
def stored(shared):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in load_post(shared, "dekr_inference").items()}


def maps(stored, name, which=""):
    return DekrOutput(stored[f"{name}_{which}heatmap"], stored[f"{name}_{which}offset"])


@pytest.mark.parametrize(("name", "skeleton"), CASES)
def test_one_scale(stored, name, skeleton):
    (people,) = decode_dekr(maps(stored, name))
    torch.testing.assert_close(people.xy, stored[f"{name}_poses"][..., :2], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(people.score, stored[f"{name}_poses"][..., 2], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(people.person_score, stored[f"{name}_scores"], rtol=1e-5, atol=1e-6)
    center, scale, size = (stored[f"{name}_{key}"].numpy() for key in ("center", "scale", "size_wh"))
    final = apply_affine(hrnet_matrix(center, scale, size, inverse=True), people.xy.numpy())
    np.testing.assert_allclose(final, stored[f"{name}_final"][..., :2].numpy(), rtol=1e-5, atol=1e-4)
    assert people.box_xyxy is None


@pytest.mark.parametrize(("name", "skeleton"), CASES)
def test_two_scales_in_any_order(stored, name, skeleton):
    large, half = maps(stored, name), maps(stored, name, "half_")
    for outputs, scales in (([large, half], (1.0, 0.5)), ([half, large], (0.5, 1.0))):
        (people,) = decode_dekr(outputs, scales=scales)
        torch.testing.assert_close(people.xy, stored[f"{name}_two_scale_poses"][..., :2], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(people.score, stored[f"{name}_two_scale_poses"][..., 2], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(people.person_score, stored[f"{name}_two_scale_scores"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("how", "name"), [("absorb", "coco_absorbed"), ("match", "coco_matched")])
def test_refinement(stored, how, name):
    (people,) = decode_dekr(maps(stored, "coco"), DekrSettings(refine=how))
    torch.testing.assert_close(people.xy, stored[name][..., :2], rtol=0, atol=1e-3)
    plain = decode_dekr(maps(stored, "coco"))[0]
    torch.testing.assert_close(people.heat, plain.heat)  # the local score is taken before


@pytest.mark.parametrize(("name", "skeleton"), CASES)
def test_flip_test(stored, name, skeleton):
    skeleton = get_skeleton(skeleton)
    image, kernel = stored[f"{name}_flip_image"], stored[f"{name}_flip_kernel"]

    def network(x):
        both = functional.conv2d(x, kernel, stride=4, padding=1)
        return DekrOutput(both[:, : skeleton.num_keypoints + 1], both[:, skeleton.num_keypoints + 1 :])

    plain = network(image)
    both = average_flipped(plain, network(mirrored_input(image)), skeleton.flip_index)
    torch.testing.assert_close(both.heatmap, stored[f"{name}_flip_heatmap"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pose_map(both.offset), stored[f"{name}_flip_posemap"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(pose_map(plain.offset), stored[f"{name}_noflip_posemap"], rtol=1e-5, atol=1e-5)


def test_flip_test_shift_puts_the_maps_on_each_other():
    """A network that reads every fourth pixel: without the three-pixel shift the two maps would not meet."""
    image = torch.rand(1, 1, 8, 16)

    def network(x):
        return DekrOutput(x[:, :, ::4, ::4].repeat(1, 2, 1, 1), torch.zeros(1, 2, 2, 4))

    plain = network(image)
    both = average_flipped(plain, network(mirrored_input(image)), [0])
    # The first map column has no partner: its pixel was shifted out and the kept columns stand in.
    torch.testing.assert_close(both.heatmap[..., 1:], plain.heatmap[..., 1:])


def planted(people: int, keypoints: int = 17, seed: int = 0) -> DekrBoxOutput:
    rng = np.random.default_rng(seed)
    heatmap, offset = torch.zeros(1, keypoints + 1, 48, 64), torch.zeros(1, 2 * keypoints, 48, 64)
    for n in range(people):
        x, y = 8 + 12 * n, 20
        pose = np.array([x, y]) + rng.uniform(-6, 6, (keypoints, 2))
        heatmap[0, -1, y, x] = 0.9 - 0.1 * n
        offset[0, :, y, x] = torch.from_numpy((np.array([x, y]) - pose).reshape(-1))
        for k, (px, py) in enumerate(pose):
            heatmap[0, k, round(py), round(px)] = 1
    return DekrBoxOutput(heatmap, offset, torch.full((1, 4, 48, 64), 5.0))


def test_batches_and_pictures_without_people():
    full, empty = planted(3), planted(0)
    batch = DekrBoxOutput(*(torch.cat(parts) for parts in zip(empty, full, full, strict=True)))
    nobody, *two = decode_dekr(batch)
    assert nobody.xy.shape == (0, 17, 2) and nobody.box_xyxy.shape == (0, 4) and nobody.heat.shape == (0,)
    alone = decode_dekr(full)[0]
    assert len(alone.xy) == 3
    for people in two:
        for a, b in zip(people, alone, strict=True):
            torch.testing.assert_close(a, b)
    np.testing.assert_allclose(alone.box_xyxy[0].numpy(), [(8 - 5) * 4, (20 - 5) * 4, (8 + 5) * 4, (20 + 5) * 4])


def test_at_most_so_many_people():
    assert len(decode_dekr(planted(4), DekrSettings(max_people=2))[0].xy) == 2


def test_people_of_one_joint_are_found():
    """One joint has no extent that others could lie within: nobody is near enough to another to be the same."""
    heatmap, offset = torch.zeros(1, 2, 48, 64), torch.zeros(1, 2, 48, 64)
    heatmap[0, :, 10, 12] = 0.9
    heatmap[0, :, 30, 40] = 0.8
    people = decode_dekr(DekrOutput(heatmap, offset), DekrSettings(nms_joints=nms_joints_for(1)))[0]
    assert people.xy.tolist() == [[[48, 40]], [[160, 120]]]


def test_flip_twice_is_identity():
    output = planted(2)
    index = get_skeleton("coco17").flip_index
    zeros = DekrBoxOutput(*(torch.zeros_like(m) for m in output))
    once = DekrBoxOutput(*(2 * m for m in average_flipped(zeros, output, index)))
    twice = DekrBoxOutput(*(2 * m for m in average_flipped(zeros, once, index)))
    for a, b in zip(twice, output, strict=True):
        torch.testing.assert_close(a, b)


def test_wrong_use_is_said():
    with pytest.raises(ValueError, match="must contain 1"):
        decode_dekr([planted(1)], scales=(0.5,))
    with pytest.raises(ValueError, match="refine"):
        DekrSettings(refine="guess")
    assert [nms_joints_for(k) for k in (17, 14)] == [8, 7]
