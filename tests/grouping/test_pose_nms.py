"""Suppression of poses: official results, and what must hold for any poses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import load_post

from posecli.grouping.pose_nms import dekr_nms, hrnet_pose_score, oks_matrix, oks_nms, soft_oks_nms
from posecli.skeletons import COCO17, get_skeleton


@pytest.mark.parametrize(("name", "skeleton"), [("coco", "coco17"), ("crowdpose", "crowdpose14")])
def test_oks(shared, name, skeleton):
    stored = load_post(shared, "oks_nms")
    sigmas = get_skeleton(skeleton).sigmas
    keypoints, scores, areas = (stored[f"{name}_{key}"] for key in ("keypoints", "scores", "areas"))
    np.testing.assert_allclose(oks_matrix(keypoints, areas, sigmas), stored[f"{name}_oks"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        oks_matrix(keypoints, areas, sigmas, 0.2), stored[f"{name}_oks_vis02"], rtol=1e-9, atol=1e-12
    )
    for suffix in ("0.9", "0.5", "0.3", "0.5_vis02"):
        least = 0.2 if suffix.endswith("vis02") else None
        threshold = float(suffix[:3])
        assert oks_nms(keypoints, scores, areas, sigmas, threshold, least) == stored[f"{name}_nms_{suffix}"].tolist()
        kept, picked = soft_oks_nms(keypoints, scores, areas, sigmas, threshold, least)
        assert kept == stored[f"{name}_softnms_{suffix}"].tolist()
        assert (np.diff(picked) <= 0).all()


def test_dekr_rule(shared):
    stored = load_post(shared, "dekr_inference")
    kept = dekr_nms(torch.from_numpy(stored["core_poses"]), torch.from_numpy(stored["core_scores"]))
    assert kept == stored["core_keep"].tolist()


def crowd(seed: int, people: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.uniform(0, 200, (max(1, people // 2), 1, 2)) + rng.uniform(-40, 40, (max(1, people // 2), 17, 2))
    keypoints = base[rng.integers(0, len(base), people)] + rng.normal(0, 4, (people, 17, 2))
    keypoints = np.concatenate([keypoints, rng.uniform(0, 1, (people, 17, 1))], axis=-1)
    return keypoints, rng.uniform(0, 1, people), rng.uniform(3000, 7000, people)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 12))
def test_properties(seed, people):
    keypoints, scores, areas = crowd(seed, people)
    if people:
        np.testing.assert_allclose(np.diag(oks_matrix(keypoints, areas, COCO17.sigmas)), 1)
    kept = oks_nms(keypoints, scores, areas, COCO17.sigmas, 0.5)
    again = oks_nms(keypoints[kept], scores[kept], areas[kept], COCO17.sigmas, 0.5)
    assert again == list(range(len(kept))), "twice is once"
    turned = np.random.default_rng(seed).permutation(people)
    other = oks_nms(keypoints[turned], scores[turned], areas[turned], COCO17.sigmas, 0.5)
    assert [int(turned[i]) for i in other] == kept, "the order of people is irrelevant"
    xy, quality = torch.from_numpy(keypoints[..., :2]), torch.from_numpy(scores)
    first = dekr_nms(xy, quality)
    assert len(set(first)) == len(first) <= people
    assert (people == 0) == (not first)


def test_soft_suppression_without_poses():
    kept, picked = soft_oks_nms(np.zeros((0, 17, 3)), np.zeros(0), np.zeros(0), COCO17.sigmas)
    assert kept == [] and len(picked) == 0


def test_hrnet_score():
    # (0.9 + 0.5) / 2 x 0.8; the joint at 0.2 does not count.
    assert hrnet_pose_score(0.8, np.array([0.9, 0.2, 0.5])) == pytest.approx(0.56)
    assert hrnet_pose_score(0.8, np.array([0.1])) == 0
