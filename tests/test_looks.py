"""Looks at one person: boxes moved, joints where most looks see them; and beside people, for those who were missed."""

from dataclasses import replace

import numpy as np
import pytest

from posecli import looks
from posecli.types import Instance

CORNERS = np.array([[10.0, 10], [90, 10], [90, 190], [10, 190]], np.float32)


def person(xy: np.ndarray = CORNERS, score: float = 0.8, box: tuple = (0, 0, 100, 200), certainty: float = 0.5):
    count = len(xy)
    return Instance(
        xy.astype(np.float32), np.full(count, 2), np.full(count, score, np.float32), certainty, np.array(box, float)
    )


def test_box_of_the_whole_picture_spans_its_longer_side_once_enlarged() -> None:
    box = looks.whole_picture_box(201, 101, 1.25)
    middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * 1.25
    assert middle == pytest.approx([100, 50]) and half == pytest.approx([100.5, 100.5])


def test_box_moves_towards_the_pose_by_the_stated_share() -> None:
    # Joints span 10..90 by 10..190; grown by a tenth of 180 on each side: -8..108 by -8..208.
    moved = looks.moved_box(person(box=(20, 20, 80, 80)), person()).box_xyxy
    assert moved == pytest.approx(0.4 * np.array([20, 20, 80, 80]) + 0.6 * np.array([-8, -8, 108, 208]))
    # A pose without a certain joint says nothing about the box.
    assert looks.moved_box(person(), person(score=0.1)).box_xyxy == pytest.approx([0, 0, 100, 200])


def test_nearer_box_is_smaller_about_the_same_middle() -> None:
    # Joints grown by a tenth of 180: 116 x 216 about (50, 100); times 0.875.
    assert looks.nearer(person()).box_xyxy == pytest.approx([50 - 50.75, 100 - 94.5, 50 + 50.75, 100 + 94.5])
    assert looks.nearer(person(score=0.1)) is None


def test_box_around_is_that_of_the_certain_joints() -> None:
    assert looks.around(person()).box_xyxy == pytest.approx(looks.box_around(person()))
    assert looks.around(person(score=0.1)) is None


def test_box_given_out_is_tight_and_within_the_picture() -> None:
    # Joints span 10..90 by 10..190; grown by 0.06 of 180 on each side, and cut by a picture of 95 x 400.
    assert looks.boxed(person(), 95, 400).box_xyxy == pytest.approx([-0.5, -0.5, 94.5, 200.8])
    assert looks.boxed(person(), 400, 400).box_xyxy == pytest.approx([-0.5, -0.5, 100.8, 200.8])
    # Nothing is known of it where no joint is certain, or all lie outside.
    unsure, outside = person(score=0.1), person(CORNERS + 500)
    assert looks.boxed(unsure, 95, 400) is unsure and looks.boxed(outside, 95, 400) is outside


def test_two_looks_outvote_a_third() -> None:
    astray = CORNERS.copy()
    astray[2] = [20, 30]
    result = looks.agreed([person(astray), person(CORNERS + 1), person(CORNERS - 1)])
    assert np.abs(result.xy - CORNERS).max() < 1.1
    # The disputed joint is less certain than the agreed ones.
    assert result.score[2] < result.score[[0, 1, 3]].min() - 0.1


def test_a_sure_look_outweighs_unsure_ones() -> None:
    result = looks.agreed([person(CORNERS + 60, score=0.2), person(CORNERS + 60, score=0.2), person(score=0.9)])
    assert np.abs(result.xy - CORNERS).max() < 0.5


def test_looks_without_any_score_keep_the_first() -> None:
    result = looks.agreed([person(score=0.0), person(CORNERS + 50, score=0.0)])
    assert result.xy.tolist() == CORNERS.tolist() and not result.score.any()


def test_whole_picture_refines_one_person_and_adds_none() -> None:
    other = person(CORNERS + [300, 0], box=(300, 0, 400, 200), certainty=0.4)
    found = [person(CORNERS + 20, certainty=0.6), other]
    sure = person(score=0.95, box=(2, 2, 98, 198))
    result = looks.merged(found, found, found, [sure, sure])
    assert len(result) == 2
    assert np.abs(result[0].xy - CORNERS).max() < 15 and result[0].box_xyxy.tolist() == [2, 2, 98, 198]
    assert result[0].person_score == 0.6
    assert result[1].xy.tolist() == other.xy.tolist() and result[1].person_score == 0.4
    # Far from everybody it has no say, and nobody stays nobody.
    elsewhere = person(score=0.95, box=(900, 900, 950, 950))
    assert looks.merged(found, found, found, [elsewhere])[0].box_xyxy.tolist() == [0, 0, 100, 200]
    assert looks.merged([], [], [], [sure]) == []


SIGMAS = (0.05,) * 4


def test_boxes_beside_somebody_lie_in_the_picture() -> None:
    boxes = np.stack([p.box_xyxy for p in looks.beside(person(box=(100, 50, 200, 250)), 240, 300)])
    # To the right cut off by the edge, to the left, below, above, larger, smaller.
    assert boxes == pytest.approx(
        np.array(
            [
                [140, 50, 240, 250], [60, 50, 160, 250], [100, 110, 200, 300], [100, 0, 200, 190], [70, 0, 230, 300],
                [120, 90, 180, 210],
            ]
        )
    )  # fmt: skip
    assert len(looks.beside(person(box=(0, 50, 12, 250)), 240, 300)) == 4  # what is too narrow to see is left out


def test_likeness_is_by_the_joints_that_are_sure() -> None:
    whole, half = person(), person(np.array([[10, 10], [90, 10], [30, 60], [50, 70.0]]))
    assert looks.likeness([half, whole], SIGMAS)[0, 1] < 0.6
    half = replace(half, score=np.array([0.8, 0.8, 0.1, 0.1], np.float32))
    assert looks.likeness([half, whole], SIGMAS) == pytest.approx(np.ones((2, 2)))
    assert looks.likeness([], SIGMAS).shape == (0, 0)


def test_newcomers_are_right_and_somebody_else() -> None:
    found = [person()]
    beside = [
        replace(person(CORNERS + (1, 0), box=(0, 0, 100, 200)), quality=0.95),  # the same person
        replace(person(CORNERS + (60, 0), box=(60, 0, 160, 200)), quality=0.6),
        replace(person(CORNERS + (61, 0), box=(61, 0, 161, 200)), quality=0.7),  # who was seen twice
        replace(person(CORNERS + (200, 0), box=(200, 0, 300, 200)), quality=0.2),  # most likely nobody
    ]
    [new] = looks.newcomers(beside, found, SIGMAS)
    assert new.quality == 0.7 and new.box_xyxy == pytest.approx(looks.box_around(beside[2]))
    # Less likely than whom it was looked beside: 0.65 times the odds, which were even.
    assert new.person_score == pytest.approx(0.65 / 1.65)
