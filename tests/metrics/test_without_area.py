"""Labelled people whose size says nothing: one joint, joints in a line, a corner of the face. They are still there."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.metrics import evaluate, oks
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton

NAMES = ("nose", "left_eye", "right_eye", "left_shoulder", "right_shoulder", "left_hip", "right_hip")
BODY = np.array([[0.0, 0], [6, -5], [-6, -5], [25, 40], [-25, 40], [18, 140], [-18, 140]]) + 200
UPPER = Skeleton("upper", NAMES, sigmas=(0.03, 0.03, 0.03, 0.08, 0.08, 0.1, 0.1))
POINTS = Skeleton("points", NAMES)


def labelled(joints: list[int], at: float = 0.0, **more: object) -> Instance:
    seen = np.isin(np.arange(len(NAMES)), joints)
    return Instance(np.where(seen[:, None], BODY + [at, 0], np.nan), np.where(seen, 2, 0), np.ones(len(NAMES)), **more)


def found(off: float, score: float = 0.9, joints: list[int] | None = None) -> Instance:
    seen = np.isin(np.arange(len(NAMES)), range(len(NAMES)) if joints is None else joints)
    return Instance(BODY + [off, 0], np.where(seen, 2, 0), np.ones(len(NAMES)), score)


def measured(people: list[Instance], predicted: list[Instance], skeleton: Skeleton = UPPER, **options: object) -> dict:
    gt = Dataset(skeleton, (Record(1, "0.jpg", 640, 480, tuple(people)),))
    stream = [(StreamHeader("x", skeleton), FramePoses(0, tuple(predicted), file="0.jpg"))]
    metrics = ["oks", "pck", "epe"] if skeleton.sigmas and options.get("match") != "iou" else ["pck", "epe"]
    return evaluate(gt, stream, metrics=metrics, pck_reference="pixels", **options)


@pytest.mark.parametrize("joints", [[5], [1, 2], [0, 1, 2]])
@pytest.mark.parametrize("match", ["oks", "iou", "top-score"])
def test_a_prediction_beside_them_is_theirs(joints: list[int], match: str) -> None:
    """A hip, two eyes at one height, and a face of 32 square pixels: 15 pixels off the OKS is 0."""
    result = measured([labelled(joints)], [found(15)], match=match)
    assert result["counts"]["people_paired"] == 1 and result["counts"]["people_missed"] == 0
    assert result["all"]["PCK@20px"] == 1 and result["all"]["PCK@10px"] == 0
    assert result["all"]["EPE"] == pytest.approx(15)
    said = any("paired by the size of the predicted person" in note for note in result["notes"])
    assert said == (match != "iou" or len(joints) < 3)


def test_the_nearest_is_meant_and_nobody_far_away() -> None:
    result = measured([labelled([5])], [found(30, 0.9), found(3, 0.2)])
    assert result["all"]["EPE"] == pytest.approx(3)
    # A person some 140 pixels tall, 1,500 pixels away, is another one.
    assert measured([labelled([5])], [found(1500)])["counts"]["people_missed"] == 1


def test_they_do_not_take_the_partners_of_others() -> None:
    """Two people side by side, of one of whom a hip alone is labelled."""
    people = [labelled([5], at=80), labelled(list(range(7)), area=5000.0)]
    result = measured(people, [found(2), found(81)])
    assert result["counts"]["people_paired"] == 2
    assert result["all"]["EPE"] == pytest.approx((7 * 2 + 1) / 8)


@pytest.mark.parametrize("skeleton", [UPPER, POINTS])
def test_points_beside_points_go_by_distance(skeleton: Skeleton) -> None:
    """One joint labelled, one found: neither has a size, and a skeleton without sigmas needs none."""
    people = [labelled([5]), labelled([5], at=100)]
    predicted = [found(97, joints=[5]), found(4, joints=[5]), found(0, joints=[6])]
    for match in ("oks", "iou") if skeleton.sigmas else ("iou",):
        result = measured(people, predicted, skeleton, match=match)
        assert result["all"]["EPE"] == pytest.approx((3 + 4) / 2)


def test_scores_stay_as_they_are() -> None:
    """OKS and AP go without people who have no area: they are not to be found, and nobody is wrong to find them."""
    people = [labelled([5]), labelled(list(range(7)), at=300, area=5000.0)]
    result = measured(people, [found(2, 0.9), found(300, 0.8)])
    assert result["all"]["mean_OKS"] == pytest.approx(1) and result["all"]["AP"] == pytest.approx(1)
    assert result["areas"] == {"given": 1, "none": 1}
    assert measured(people, [found(2000, 0.9), found(300, 0.8)])["all"]["AP"] == pytest.approx(0.5)  # on nobody


def test_the_larger_area_counts() -> None:
    seen = np.ones((1, 7), bool)
    same = oks.oks_by_either_area(
        BODY[None], seen, np.array([5000.0]), BODY[None] + 5, seen, np.array([100.0]), np.array(UPPER.sigmas)
    )
    assert same == pytest.approx(oks.oks_matrix(BODY[None], seen, [5000.0], BODY[None] + 5, UPPER.sigmas)[0])
