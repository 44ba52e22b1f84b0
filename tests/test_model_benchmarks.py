"""What the benchmarks of the shipped model stand on: calibration, exchanged sides, groups, MediaPipe's landmarks."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecli.predictions import read_stream
from posecli.skeletons import COCO17, SKELETONS
from posecli.types import Dataset, Instance, Record

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def load() -> Iterator[ModuleType]:
    sys.path.insert(0, str(FOLDER))
    yield importlib.import_module
    sys.path.remove(str(FOLDER))


def test_calibration_error_by_hand(load) -> None:
    calibration = load("calibration")
    score = np.array([0.05, 0.05, 0.95, 0.95, 0.95, 0.95])
    right = np.array([0.0, 0.0, 1.0, 1.0, 0.0, 0.0])
    # Two bins of equal width that count alike: |0 - 0.05| and |0.5 - 0.95|.
    assert calibration.calibration_error(score, right, True) == pytest.approx((0.05 + 0.45) / 2)
    # A thousand scores that are what they say, and the same ones squared, which are not.
    rng = np.random.default_rng(0)
    score = rng.random(20000)
    right = (rng.random(20000) < score).astype(float)
    assert calibration.calibration_error(score, right, False) < 0.02
    assert calibration.calibration_error(score**2, right, False) == pytest.approx(1 / 6, abs=0.01)  # E[x - x^2]
    # A map repairs that, fitted on other pictures only.
    again = calibration.refitted(score**2, right, np.arange(20000) // 4)
    assert calibration.calibration_error(again, right, False) < 0.02


def test_people_are_right_once_and_crowds_count_neither_way(load) -> None:
    calibration = load("calibration")

    def person(box: tuple, score: float = 1.0, **more: bool) -> Instance:
        return Instance(np.zeros((17, 2)), np.zeros(17, int), np.zeros(17), score, np.array(box, float), **more)

    people = (person((0, 0, 50, 50)), person((100, 0, 110, 10)), person((100, 100, 200, 200), ignore=True))
    record = Record(1, "a.jpg", 200, 200, people)
    found = [
        person((0, 0, 50, 48), 0.9), person((0, 0, 50, 45), 0.8), person((100, 0, 110, 10), 0.7),
        person((120, 120, 180, 180), 0.6), person((60, 60, 90, 90), 0.5),
    ]  # fmt: skip
    claims = calibration.Claims()
    calibration.add_people(claims, record, found, 0)
    # The second is the same man again; the third smaller than a tenth of the picture; the fourth in the crowd.
    assert list(zip(claims.score, claims.right, strict=True)) == [(0.9, True), (0.8, False), (0.5, False)]


def test_exchanged_sides_are_met_in_the_groups_that_may_be_exchanged(load) -> None:
    ceiling = load("label_ceiling")
    rng = np.random.default_rng(0)
    label, known = rng.uniform(0, 1000, (12, 2)), np.ones(12, bool)
    places = {name: i for i, name in enumerate(ceiling.LIMBS)}
    arms = label.copy()
    for joint in ("shoulder", "elbow", "wrist"):
        i, j = places["left_" + joint], places["right_" + joint]
        arms[[i, j]] = label[[j, i]]
    count = {name: ceiling.free_hits(label, known, arms, 10.0, groups) for name, groups in ceiling.FREEDOMS.items()}
    # Exchanging everything would lose the legs.
    assert count == {"as labelled": 6, "each pair by itself": 12, "arms, legs": 12, "whole person": 6}
    assert ceiling.free_hits(label, known, None, 10.0, ceiling.FREEDOMS["whole person"]) == 0


def test_every_judged_joint_is_a_joint(load) -> None:
    ceiling = load("label_ceiling")
    judged = ceiling.read_judged(FOLDER / "results/lspet_judged.csv")
    assert len(judged) == 100
    for wrong, exchanged in judged.values():
        assert set(wrong) <= set(ceiling.LIMBS)
        assert {f"left_{joint}" for joint in exchanged} <= set(ceiling.LIMBS)


@pytest.mark.parametrize(("hips", "turn"), [((0, 100), 0), ((-100, 0), 90), ((0, -100), 180)])
def test_turn_of_the_trunk(load, hips: tuple[int, int], turn: float) -> None:
    breakdown = load("breakdown")
    skeleton = SKELETONS["lsp14"]
    xy, visibility = np.zeros((14, 2)), np.full(14, 2)
    for side in ("left", "right"):
        xy[skeleton.index(f"{side}_hip")] = hips
    person = Instance(xy, visibility, np.ones(14))
    assert breakdown.trunk_turn(person, skeleton) == pytest.approx(turn)
    visibility[skeleton.index("left_hip")] = 0
    assert np.isnan(breakdown.trunk_turn(Instance(xy, visibility, np.ones(14)), skeleton))


def test_mediapipes_answers_become_a_stream(load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules.pop("mediapipe", None)
    benchmark = load("mediapipe")
    sys.modules.pop("mediapipe", None)  # the package of that name is another thing
    record = Record(7, "a.jpg", 100, 100, ())
    pictures = benchmark.Pictures(Dataset(COCO17, (record,), root=tmp_path), [np.array([[10.0, 20, 30, 60]])])
    asked = {}

    def answer(python: Path, jobs: dict, out: Path) -> list[dict]:
        asked.update(jobs)
        return [{"people": [[[float(n), 2.0 * n, 0.5] for n in range(33)], None]}]

    monkeypatch.setattr(benchmark, "in_mediapipe", answer)
    benchmark.by_mediapipe(Path("python"), pictures, tmp_path / "out.jsonl", 0.5)
    # The box grown by 1.25 about its middle (20, 40).
    assert asked["pictures"][0]["boxes"] == [[7.5, 15.0, 32.5, 65.0]]
    ((_, line),) = list(read_stream(tmp_path / "out.jsonl"))
    (person,) = line.instances
    # Left wrist and right ankle by MediaPipe's numbers.
    assert person.xy[COCO17.index("left_wrist")].tolist() == [15, 30]
    assert person.xy[COCO17.index("right_ankle")].tolist() == [28, 56]
    assert person.person_score == 0.5 and line.file == "a.jpg"
