"""Error diagnosis on constructed people, of whom it is known what is wrong with them."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.metrics import evaluate
from posecli.metrics.diagnosis import PCK_NEAR
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton

# Six joints 100 px apart; area 10,000 and sigma 0.05: ks = exp(-d^2 / (2 * 10000 * 0.01)) = exp(-d^2 / 200).
NAMES = ("left_hand", "right_hand", "left_foot", "right_foot", "left_eye", "right_eye")
SKELETON = Skeleton("six", NAMES, sigmas=(0.05,) * 6, torso=("left_hand", "right_foot"))
PLACES = np.array([[0.0, 0], [100, 0], [0, 100], [100, 100], [0, 200], [100, 200]])
AREA = 10_000.0


def offset(ks: float) -> float:
    """Pixels off that mean this keypoint similarity."""
    return float(np.sqrt(-200 * np.log(ks)))


def person(xy: np.ndarray, score: float = 1.0, found: np.ndarray | None = None, **more) -> Instance:
    visibility = np.full(6, 2) if found is None else np.where(found, 2, 0)
    return Instance(np.where(visibility[:, None] > 0, xy, np.nan), visibility, np.ones(6), person_score=score, **more)


def diagnosis(gt: list[list[np.ndarray]], pred: list[list[Instance]], skeleton: Skeleton = SKELETON, **options) -> dict:
    records = tuple(
        Record(i + 1, f"{i}.jpg", 1000, 1000, tuple(person(xy, area=AREA) for xy in people))
        for i, people in enumerate(gt)
    )
    header = StreamHeader(source="folder", skeleton=skeleton)
    stream = [(header, FramePoses(i, tuple(p), file=f"{i}.jpg")) for i, p in enumerate(pred)]
    return evaluate(Dataset(skeleton, records), stream, metrics=["oks", "pck"], diagnose=True, **options)["diagnosis"]


def kinds(**counts: int) -> dict[str, int]:
    return dict.fromkeys(("good", "jitter", "inversion", "swap", "miss"), 0) | counts


def test_perfect() -> None:
    found = diagnosis([[PLACES]], [[person(PLACES)]])["OKS"]
    assert found["joints"] == kinds(good=6)
    assert found["value"] == pytest.approx(1)
    for values in (found["in_order"], found["alone"]):
        assert list(values.values()) == pytest.approx([1] * 7)
    assert found["people"] == {
        "matched": 1, "background_false_positives": 0, "duplicates": 0, "false_negatives": 0,
    }  # fmt: skip


def test_one_joint_of_each_kind() -> None:
    elsewhere = PLACES + [400.0, 0]
    xy = PLACES.copy()
    xy[0] += [0, offset(0.86)]  # good
    xy[1] += [0, offset(0.84)]  # jitter
    xy[2] = PLACES[3] + [0, offset(0.6)]  # at the other foot: inversion
    xy[4] = elsewhere[4]  # at the other person's eye: swap
    xy[5] = elsewhere[4] + [offset(0.51), 0]  # at the other person's other eye: swap
    xy[3] = [700, 700]  # miss
    found = diagnosis([[PLACES, elsewhere]], [[person(xy), person(elsewhere, 0.5)]])["OKS"]
    assert found["joints"] == kinds(good=7, jitter=1, inversion=1, swap=2, miss=1)
    by_joint = found["by_joint"]
    assert by_joint["left_hand"] == kinds(good=2)
    assert by_joint["right_hand"] == kinds(good=1, jitter=1)
    assert by_joint["left_foot"] == kinds(good=1, inversion=1)
    assert by_joint["right_foot"] == kinds(good=1, miss=1)
    assert by_joint["left_eye"] == by_joint["right_eye"] == kinds(good=1, swap=1)


def test_joints_not_predicted_are_missed() -> None:
    found = diagnosis([[PLACES]], [[person(PLACES, found=np.arange(6) != 2)]])["OKS"]
    assert found["joints"] == kinds(good=5, miss=1)
    # OKS 5/6 = 0.833: thresholds 0.5 to 0.8 are met, 7 of 10. With the joint at 0.5: 5.5/6 = 0.917, 9 of 10.
    assert found["value"] == pytest.approx(0.7)
    assert found["alone"]["miss"] == pytest.approx(0.9)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_somebody_without_an_area_beside() -> None:
    one_joint = person(PLACES, found=np.arange(6) == 0)  # no area, no mask, no box
    gt = Dataset(SKELETON, (Record(1, "a.jpg", 1000, 1000, (person(PLACES + 400, area=AREA), one_joint)),))
    pred = [(StreamHeader("folder", SKELETON), FramePoses(0, (person(PLACES + 408),), file="a.jpg"))]
    found = evaluate(gt, pred, metrics=["oks"], diagnose=True)["diagnosis"]["OKS"]
    assert found["joints"] == kinds(jitter=6)


def test_mirrored_people() -> None:
    """Left and right exchanged on half of the people: without inversions everything is perfect."""
    mirrored = PLACES[[1, 0, 3, 2, 5, 4]].copy()
    mirrored[4:] = PLACES[4:]  # the eyes are right, so that the person is still matched (OKS 1/3)
    found = diagnosis([[PLACES], [PLACES]], [[person(PLACES)], [person(mirrored, 0.5)]])["OKS"]
    assert found["joints"] == kinds(good=8, inversion=4)
    # One of two people at every threshold: recall 0.5, precision 1 up to it: 51 of 101 recall points.
    assert found["value"] == pytest.approx(51 / 101)
    assert found["alone"]["inversion"] == pytest.approx(1)
    for kind in ("miss", "swap", "jitter"):
        assert found["alone"][kind] == pytest.approx(found["value"])
    assert found["in_order"]["swap"] == pytest.approx(found["value"])
    assert found["in_order"]["inversion"] == found["in_order"]["jitter"] == pytest.approx(1)


def test_flip_pairs_come_from_the_skeleton() -> None:
    """Without pairs nothing can be inverted: the same people then have missed joints."""
    bare = Skeleton("bare", tuple("abcdef"), sigmas=(0.05,) * 6, torso=("a", "d"))
    mirrored = PLACES[[1, 0, 2, 3, 4, 5]]
    assert diagnosis([[PLACES]], [[person(mirrored)]], bare)["OKS"]["joints"] == kinds(good=4, miss=2)
    paired = Skeleton("paired", tuple("abcdef"), sigmas=(0.05,) * 6, torso=("a", "d"), flip_pairs=((0, 1),))
    assert diagnosis([[PLACES]], [[person(mirrored)]], paired)["OKS"]["joints"] == kinds(good=4, inversion=2)
    # Also where only one of the two is compared.
    found = diagnosis([[PLACES]], [[person(mirrored)]], joints=["left_hand", "left_foot"])["OKS"]
    assert found["joints"] == kinds(good=1, inversion=1)


def test_jitter_everywhere() -> None:
    found = diagnosis([[PLACES]], [[person(PLACES + [offset(0.6), 0])]])["OKS"]
    assert found["joints"] == kinds(jitter=6)
    assert found["value"] == pytest.approx(0.3)  # OKS 0.6 meets 0.5, 0.55 and 0.6 (the offset is rounded down)
    assert found["alone"]["jitter"] == pytest.approx(0.8)  # ks 0.85 meets 0.5 to 0.85
    assert found["in_order"]["background_false_positives"] == pytest.approx(0.8)
    assert found["in_order"]["false_negatives"] == 1


def test_background_and_people_not_found() -> None:
    """A false alarm above the only match, and a person whom nobody found."""
    far = PLACES + [0, 600.0]
    gt = [[PLACES, far], []]
    pred = [[person(PLACES, 0.5)], [person(PLACES, 0.9)]]
    found = diagnosis(gt, pred)["OKS"]
    assert found["people"] == {
        "matched": 1, "background_false_positives": 1, "duplicates": 0, "false_negatives": 1,
    }  # fmt: skip
    # The match comes second: precision 0.5 up to recall 0.5.
    assert found["value"] == pytest.approx(0.5 * 51 / 101)
    assert found["alone"]["background_false_positives"] == pytest.approx(51 / 101)
    assert found["alone"]["false_negatives"] == pytest.approx(0.5)
    # The false alarm has OKS 0 with everybody: the best scores put it last, behind recall 0.5.
    assert found["alone"]["score"] == pytest.approx(51 / 101)
    for kind in ("miss", "swap", "inversion", "jitter"):
        assert found["in_order"][kind] == found["alone"][kind] == pytest.approx(found["value"])
    assert found["in_order"]["background_false_positives"] == pytest.approx(51 / 101)
    assert found["in_order"]["false_negatives"] == 1


def test_duplicates_and_scores() -> None:
    """The worse of two detections of a person has the higher score; a second person's detection lies between."""
    far = PLACES + [0, 600.0]
    worse = person(PLACES + [offset(0.7), 0], 0.9)
    pred = [[worse, person(PLACES, 0.1), person(far, 0.5)]]
    found = diagnosis([[PLACES, far]], pred)["OKS"]
    assert found["people"] == {
        "matched": 2, "background_false_positives": 1, "duplicates": 1, "false_negatives": 0,
    }  # fmt: skip
    assert found["value"] < 0.9
    assert found["alone"]["score"] == pytest.approx(1)


def test_no_detection_and_nobody() -> None:
    none = diagnosis([[PLACES]], [[]])["OKS"]
    assert none["value"] == none["alone"]["jitter"] == 0
    assert none["people"]["false_negatives"] == 1
    nobody = diagnosis([[]], [[person(PLACES)]])["OKS"]
    assert nobody["value"] is None
    assert nobody["people"]["background_false_positives"] == 1


def test_without_diagnosis_there_is_none() -> None:
    records = (Record(1, "0.jpg", 9, 9, (person(PLACES, area=AREA),)),)
    stream = [(StreamHeader(source="x", skeleton=SKELETON), FramePoses(0, (person(PLACES),), file="0.jpg"))]
    assert "diagnosis" not in evaluate(Dataset(SKELETON, records), stream)


def test_pck_of_single_people() -> None:
    # Torso left hand to right foot: 141 px; PCK@0.2 allows 28.3 px, near is 2.07 times as far: 58.4 px.
    allowed = 0.2 * np.hypot(100, 100)
    xy = PLACES.copy()
    xy[0] += [0, 0.99 * allowed]
    xy[1] += [1.01 * allowed, 0]
    xy[2] = PLACES[3]
    xy[4] = [500, 0]
    found = diagnosis([[PLACES], [PLACES]], [[person(xy)], []])["PCK"]
    assert pytest.approx(2.065, abs=1e-3) == PCK_NEAR
    assert found["metric"] == "PCK@0.2"
    assert found["joints"] == kinds(good=3, jitter=1, inversion=1, miss=1)
    assert found["people"] == {"matched": 1, "false_negatives": 1}
    assert found["value"] == pytest.approx(3 / 12)
    assert found["alone"] == pytest.approx(
        {"miss": 4 / 12, "swap": 3 / 12, "inversion": 4 / 12, "jitter": 4 / 12, "false_negatives": 9 / 12}
    )
    assert found["in_order"] == pytest.approx(
        {"miss": 4 / 12, "swap": 4 / 12, "inversion": 5 / 12, "jitter": 6 / 12, "false_negatives": 1}
    )


@pytest.mark.parametrize(
    ("reference", "options", "metric", "allowed"),
    [
        ("pixels", {}, "PCK@5px", 5.0),
        ("box,torso,pixels", {"pixels": [30.0]}, "PCK@30px", 30.0),
        ("pixels,box", {"pixels": [10.0]}, "PCK@10px", 10.0),
        ("head-box", {"pck": [0.5]}, "PCK@0.5", 0.5 * 0.6 * 50),
    ],
)
def test_pck_is_diagnosed_in_its_own_reference(
    reference: str, options: dict[str, list[float]], metric: str, allowed: float
) -> None:
    xy = PLACES.copy()
    xy[0] += [0, 0.99 * allowed]
    xy[1] += [2.06 * allowed, 0]
    xy[2] += [-2.07 * allowed, 0]
    label = person(PLACES, area=AREA, box_xyxy=np.array([0.0, 0, 100, 200]), head_box_xyxy=np.array([0.0, 0, 30, 40]))
    stream = [(StreamHeader(source="folder", skeleton=SKELETON), FramePoses(0, (person(xy),), file="0.jpg"))]
    result = evaluate(
        Dataset(SKELETON, (Record(1, "0.jpg", 1000, 1000, (label,)),)), stream, metrics=["pck"], diagnose=True,
        pck_reference=reference, thresholds=options or None,
    )  # fmt: skip
    found = result["diagnosis"]["PCK"]
    assert found["metric"] == metric
    assert found["joints"] == kinds(good=4, jitter=1, miss=1)


def test_value_is_the_one_in_the_table(write_json, random_coco) -> None:
    labels, results = random_coco(3, images=30, people=80, detections=300)
    whole = evaluate(write_json("gt.json", labels), write_json("dt.json", results), diagnose=True, by=["joint"])
    found = whole["diagnosis"]
    assert found["OKS"]["value"] == pytest.approx(whole["all"]["AP"], abs=1e-12)
    assert found["PCK"]["value"] == pytest.approx(whole["all"]["PCK@0.2"], abs=1e-12)
    for part in found.values():
        values = [part["value"], *part["in_order"].values()]
        assert values[-1] == pytest.approx(1)
        assert max(part["alone"].values()) <= 1
        assert sum(part["joints"].values()) == sum(sum(row.values()) for row in part["by_joint"].values())


def test_a_list_of_results_in_which_nobody_was_found(write_json, random_coco) -> None:
    """An empty list does not say how many joints it has."""
    labels, _ = random_coco(3, images=5, people=8, detections=1)
    found = evaluate(write_json("gt.json", labels), write_json("dt.json", []), diagnose=True)["diagnosis"]
    assert found["OKS"]["value"] == found["PCK"]["value"] == 0
    assert found["PCK"]["people"]["matched"] == 0 < found["PCK"]["people"]["false_negatives"]
