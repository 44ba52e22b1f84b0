"""What a person's score is worth: probabilities from certainty, joints and size, and how they are fitted."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from posecli.checkpoint import ModelMeta
from posecli.errors import PoseError
from posecli.inference import PoseModel, PredictOptions, load_model
from posecli.pose_scores import Judgement
from posecli.skeletons import COCO17
from posecli.types import Instance

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def person(certainty: float, side: float) -> Instance:
    nothing = np.zeros(17)
    return Instance(np.zeros((17, 2), np.float32), nothing.astype(int), nothing, certainty, np.array([0, 0, 9, side]))


def test_the_probability_is_the_stated_regression() -> None:
    judge = Judgement(steepness=2.0, bias=1.0, certainty=0.5, size=0.25, full=0.75)
    large, small, unsure = judge.found([person(0.64, 160), person(0.36, 10), person(0.3, 320)])
    # Certain enough to compare sizes with are those from 0.32 on: the largest of them is 160 pixels tall.
    # log s = 0.5 log(0.64) + log(0.75) = log(0.6); odds = e * 0.6^2.
    assert large.person_score == pytest.approx(np.e * 0.36 / (1 + np.e * 0.36))
    s = 0.6 * (1 / 16) ** 0.25 * 0.75  # = 0.225
    assert small.person_score == pytest.approx(np.e * s**2 / (1 + np.e * s**2))
    # Nobody gains by being larger than them.
    s = 0.3**0.5 * 0.75
    assert unsure.person_score == pytest.approx(np.e * s**2 / (1 + np.e * s**2))
    # Joints at 0.6 of 0.75: s = 0.6 * 0.8.
    assert judge.seen(large.person_score, 0.6) == pytest.approx(np.e * 0.48**2 / (1 + np.e * 0.48**2))


def test_joints_only_take_away() -> None:
    judge = Judgement(steepness=4.0, bias=3.0)
    (found,) = judge.found([person(0.7, 50)])
    seen = [judge.seen(found.person_score, joints) for joints in (0.0, 0.2, 0.5, 0.75, 0.9)]
    assert seen == sorted(seen) and seen[-1] == seen[-2] == pytest.approx(found.person_score)
    assert 0 <= seen[0] < 1e-3
    assert judge.found([]) == []


def test_it_travels_with_the_weights() -> None:
    meta = ModelMeta("pose-fpn", {"keypoints": 17}, COCO17, (64, 64), codec="softmax")
    assert Judgement.of(meta) is None
    stated = Judgement(3.0, 2.0, 0.4, 0.1)
    assert Judgement.of(meta.with_extra(judgement=asdict(stated))) == stated


def test_found_people_are_judged_and_given_boxes_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from posecli.checkpoint import build

    meta = ModelMeta("pose-fpn", {"keypoints": 17}, COCO17, (64, 64), codec="softmax")
    judge = Judgement(steepness=3.0, bias=2.0)
    model = PoseModel(build(meta), meta.with_extra(judgement=asdict(judge), threshold=0.0), device="cpu")

    class Finder:
        def predict(self, images: list[np.ndarray], still: bool) -> list[list[Instance]]:
            return [[person(0.5, 40)] for _ in images]

    monkeypatch.setattr(model, "_people_finder", Finder)
    image = np.zeros((64, 64, 3), np.uint8)
    (found,) = model.find([image])[0]
    (expected,) = judge.found([person(0.5, 40)])
    assert found.person_score == expected.person_score
    for still in (True, False):
        (seen,) = model.predict([image], still=still)[0]
        assert seen.person_score == pytest.approx(judge.seen(found.person_score, float(seen.score.mean())))
    (looked,) = model.look([image], [[found]])[0]
    assert looked.person_score == pytest.approx(judge.seen(found.person_score, float(looked.score.mean())))
    (given,) = model.predict([image], [np.array([[0, 0, 9, 40, 0.5]])])[0]
    assert given.person_score == pytest.approx(0.5 * given.score.mean(), abs=1e-6)


@pytest.fixture(scope="module")
def assemble():
    sys.path.insert(0, str(EXAMPLES))
    try:
        import assemble_default
    finally:
        sys.path.remove(str(EXAMPLES))
    return assemble_default


def test_the_fit_finds_the_line_that_made_the_candidates(assemble) -> None:
    rng = np.random.default_rng(0)
    log_s = rng.uniform(-2.5, 0, 4000)
    there = rng.random(4000) < 1 / (1 + np.exp(-(5.0 * log_s + 4.0)))
    found = [(float(s), bool(t), False, 1.0) for s, t in zip(log_s, there, strict=True)]
    judge = assemble.fitted(found, Judgement(certainty=0.3))
    assert judge.steepness == pytest.approx(5.0, abs=0.4) and judge.bias == pytest.approx(4.0, abs=0.4)
    assert judge.certainty == 0.3
    # A candidate that weighs nothing changes nothing.
    assert assemble.fitted([*found, (-0.1, False, False, 0.0)], Judgement(certainty=0.3)) == judge


def test_the_threshold_bounds_false_people_where_nobody_is(assemble) -> None:
    judge = replace(Judgement(), steepness=1.0, bias=0.0)
    # Best first: three people, a thing in an empty picture, two people, another thing, one more person, things.
    kinds = [True, True, True, None, True, True, None, True, False, False]
    found = [(-0.1 * n, kind is True, kind is None, 1.0) for n, kind in enumerate(kinds)]
    threshold, told = assemble.best_threshold(found, 6, 10, 0.5, judge)
    shown = [1 / (1 + np.exp(0.1 * n)) >= threshold for n in range(10)]
    # Nothing is in the way of the best F1: all six people.
    assert sum(shown) == 8 and told["recall"] == 1.0 and told["precision"] == 1.0 and told["false"] == 0.2
    threshold, told = assemble.best_threshold(found, 6, 10, 0.1, judge)
    assert sum(1 / (1 + np.exp(0.1 * n)) >= threshold for n in range(10)) == 6
    assert told["recall"] == pytest.approx(5 / 6, abs=1e-3) and told["false"] == 0.1
    with pytest.raises(SystemExit, match="no threshold"):
        assemble.best_threshold([], 6, 10, 0.1, judge)
    with pytest.raises(SystemExit, match="nobody scores"):
        assemble.best_threshold([(0.1, False, True, 1.0), *found], 6, 10, 0.0, judge)


def test_joints_are_drawn_from_a_score_that_hides_few_right_ones(assemble, tmp_path: Path) -> None:
    scores = np.linspace(0, 0.999, 1000)
    right = scores > 0.25
    assert assemble.joint_threshold(scores, right, 0.0) == 0.25
    assert assemble.joint_threshold(scores, right, 0.1) == 0.3  # 50 of 750 are hidden then; 0.35 would hide 100
    assert assemble.joint_threshold(np.zeros(0), np.zeros(0, bool), 0.01) == 0.0
    # Of two people, one is met; her first joint is where it is, the second is far off, the third is not labelled.
    boxes = np.array([[0, 0, 100, 200], [300, 0, 310, 20.0]])
    picture = assemble.Picture(tmp_path / "p.png", boxes, np.full((2, 3, 2), 50.0), np.array([[2, 1, 0], [2, 2, 2]]))
    xy = np.array([[50, 51], [90, 150], [50, 50.0]])
    found = [Instance(xy, np.full(3, 2), np.array([0.9, 0.4, 0.8]), 0.5, np.array([0, 0, 100, 190.0]))]
    seen = [assemble.Seen(picture, 400, found, assemble.met(found, picture)), assemble.Seen(picture, 400, [], [])]
    assert seen[0].met == [0]
    scores, right = assemble.joint_claims(seen, (0.05, 0.05, 0.05))
    assert scores.tolist() == [0.9, 0.4] and right.tolist() == [True, False]
    assert not len(assemble.joint_claims(seen, (0.05,) * 3, least=0.6)[0])


def test_scores_of_many_are_those_of_each(tiny_model: Path) -> None:
    rows = np.random.default_rng(3).uniform(0, 1, (9, 19)).astype(np.float32)
    for rule in ("mean", "sure"):
        model = load_model(tiny_model, "cpu", options=PredictOptions(person_score=rule))
        assert model._joints_scores(rows) == [model.joints_score(row) for row in rows]


def test_how_far_around_the_highest_pixel_counts_stands_in_the_file(tiny_model: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    model = load_model(tiny_model, "cpu")
    scores = {}
    for reach in (1, 2, 3):
        model.meta = model.meta.with_extra(reach=reach)
        scores[reach] = model.predict([image], [np.array([[0.0, 0, 79, 79]])])[0][0].score
    assert (scores[1] < scores[2]).all() and (scores[2] < scores[3]).all()
    for wrong in (0, 2.5, "far", 1000):
        model.meta = model.meta.with_extra(reach=wrong)
        with pytest.raises(PoseError, match="reach"):
            model.predict([image], [np.array([[0.0, 0, 79, 79]])])
