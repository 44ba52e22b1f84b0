"""OKS, AP and AR: against pycocotools, by hand, and what must always hold."""

from __future__ import annotations

import contextlib
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.errors import PoseError
from posecli.formats import coco
from posecli.metrics import evaluate, oks
from posecli.metrics.people import joint_boxes_xywh
from posecli.skeletons import get_skeleton

KEYS = ("AP", "AP50", "AP75", "AP_medium", "AP_large", "AR", "AR50", "AR75", "AR_medium", "AR_large")


def pycocotools_stats(labels, results, sigmas) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(labels))
        scorer = COCOeval(coco, coco.loadRes(str(results)), "keypoints")
        scorer.params.kpt_oks_sigmas = np.array(sigmas)
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return scorer.stats


@pytest.mark.parametrize(
    "seed, skeleton, images, people, detections, decimals",
    [
        (0, "coco17", 60, 150, 400, 2),
        (1, "crowdpose14", 60, 150, 400, 2),
        (2, "coco17", 8, 60, 400, 1),  # more than 20 detections a picture, and many tied scores
        (3, "coco17", 8, 120, 300, 0),  # crowded, all scores 0 or 1
        (4, "lsp14", 30, 15, 40, 2),
        (5, "coco17", 200, 400, 900, 3),
        pytest.param(6, "coco17", 5000, 10800, 32000, 4, marks=pytest.mark.slow),  # as large as COCO val
    ],
)
def test_equals_pycocotools(write_json, random_coco, seed, skeleton, images, people, detections, decimals) -> None:
    labels, results = random_coco(
        seed, images=images, people=people, detections=detections, skeleton=skeleton, decimals=decimals
    )
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    ours = evaluate(gt, dt, metrics=["oks"])["all"]
    theirs = pycocotools_stats(gt, dt, get_skeleton(skeleton).sigmas)
    assert [ours[k] for k in KEYS] == pytest.approx(list(theirs), abs=1e-9)


def test_equals_pycocotools_where_results_bring_boxes(write_json, random_coco) -> None:
    """`loadRes` then takes the box' area for the area ranges, not the joints' box."""
    labels, results = random_coco(7, images=20, people=60, detections=200)
    for result in results:
        result["bbox"] = [0.0, 0.0, 20.0 + 100 * result["score"], 50.0]
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    ours = evaluate(gt, dt, metrics=["oks"])["all"]
    theirs = pycocotools_stats(gt, dt, get_skeleton("coco17").sigmas)
    assert [ours[k] for k in KEYS] == pytest.approx(list(theirs), abs=1e-9)


def test_equals_pycocotools_where_joints_were_not_found(write_json, random_coco) -> None:
    """It measures ``0, 0, 0`` at (0, 0), which is near enough to people in the picture's corner to count."""
    labels, results = random_coco(11, images=20, people=60, detections=200)
    random = np.random.default_rng(11)
    for result in results:
        points = np.array(result["keypoints"]).reshape(-1, 3)
        points[random.random(len(points)) < 0.3] = 0
        result["keypoints"] = points.ravel().tolist()
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    ours = evaluate(gt, dt, metrics=["oks"], diagnose=True)
    theirs = pycocotools_stats(gt, dt, get_skeleton("coco17").sigmas)
    assert [ours["all"][k] for k in KEYS] == pytest.approx(list(theirs), abs=1e-9)
    assert ours["diagnosis"]["OKS"]["value"] == pytest.approx(ours["all"]["AP"], abs=1e-12)


def test_equals_pycocotools_where_people_are_flagged_ignore(write_json, random_coco) -> None:
    """pycocotools overwrites ``ignore`` with ``iscrowd``: AP counts such people, everything else leaves them out."""
    labels, results = random_coco(9, images=20, people=80, detections=200)
    for number, annotation in enumerate(labels["annotations"]):
        if number % 3 == 0:
            annotation["ignore"] = number % 2
        if number % 9 == 0:
            del annotation["iscrowd"]
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    for annotation in labels["annotations"]:
        annotation.setdefault("iscrowd", 0)  # without the key pycocotools ends in a KeyError
    theirs = pycocotools_stats(write_json("full.json", labels), dt, get_skeleton("coco17").sigmas)
    result = evaluate(gt, dt, metrics=["oks"])
    assert [result["all"][k] for k in KEYS] == pytest.approx(list(theirs), abs=1e-9)
    flagged = sum(bool(a.get("ignore")) and not a["iscrowd"] for a in labels["annotations"])
    assert any(note.startswith(f"{flagged} people are flagged ignore") for note in result["notes"])


def test_equals_pycocotools_where_no_joints_are_stated(write_json, random_coco, tmp_path) -> None:
    """pycocotools ignores whoever has ``num_keypoints`` 0, whatever v says; in a converted file they are counted."""
    labels, results = random_coco(11, images=20, people=80, detections=200)
    stated = [a for a in labels["annotations"] if a["num_keypoints"]]
    for annotation in stated[::3]:
        annotation["num_keypoints"] = 0
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    sigmas = get_skeleton("coco17").sigmas
    result = evaluate(gt, dt, metrics=["oks", "pck"], diagnose=True)
    assert [result["all"][k] for k in KEYS] == pytest.approx(list(pycocotools_stats(gt, dt, sigmas)), abs=1e-9)
    assert result["diagnosis"]["OKS"]["value"] == pytest.approx(result["all"]["AP"], abs=1e-12)
    counted = sum(not a["iscrowd"] for a in stated)
    assert result["counts"]["people_evaluated"] == counted  # the other metrics go by v
    flagged = sum(not a["iscrowd"] for a in stated[::3])
    assert any(note.startswith(f"{flagged} people have num_keypoints 0") for note in result["notes"])
    coco.write(coco.read(gt, warn=lambda message: None), tmp_path / "again.json")
    again = evaluate(tmp_path / "again.json", dt, metrics=["oks"])
    stats = pycocotools_stats(tmp_path / "again.json", dt, sigmas)
    assert [again["all"][k] for k in KEYS] == pytest.approx(list(stats), abs=1e-9)
    assert again["all"]["AR"] != result["all"]["AR"]


def test_sizes_that_do_not_occur_are_explained(write_json, random_coco) -> None:
    labels, results = random_coco(0, images=10, people=20, detections=30)
    for annotation in labels["annotations"]:
        annotation["area"] = 50.0  # below medium
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", results), metrics=["oks"])
    assert result["all"]["AP_medium"] == result["all"]["AP_large"] == -1
    assert result["all"]["AP"] >= 0
    assert any("-1" in n and "medium" in n and "none of that size" in n for n in result["notes"])


def test_no_labelled_person_is_explained(write_json, random_coco) -> None:
    labels, results = random_coco(0, images=10, people=20, detections=30)
    labels["annotations"] = []
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", results), metrics=["oks"])
    assert result["all"]["AP"] == -1
    assert result["all"]["mean_OKS"] is None
    assert any("nothing to find" in n for n in result["notes"])


def test_no_detection_gives_zero(write_json, random_coco) -> None:
    labels, _ = random_coco(0, images=10, people=20, detections=1)
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", []))
    assert result["all"]["AP"] == 0
    assert result["all"]["AR"] == 0
    assert result["all"]["mean_OKS"] == 0
    assert result["all"]["PCK@0.2"] == 0
    assert result["frames"]["labelled_without_prediction"] == 10


def test_label_id_zero_counts(write_json, random_coco) -> None:
    """pycocotools takes a match with annotation id 0 for none."""
    labels, _ = random_coco(0, images=4, people=3, detections=1)
    person = next(a for a in labels["annotations"] if a["num_keypoints"])
    labels["annotations"] = [person | {"id": 0, "iscrowd": 0}]
    found = [{k: person[k] for k in ("image_id", "category_id", "keypoints")} | {"score": 0.5}]
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", found), metrics=["oks"])
    assert result["all"]["AP"] == pytest.approx(1)


def test_by_hand() -> None:
    # area 100, sigmas 0.05 and 0.1: k^2 = (2 sigma)^2 = 0.01 and 0.04.
    # Joint 0 lies 1 px off:    d^2 = 1, exp(-1 / (2 * 100 * 0.01)) = exp(-0.5).
    # Joint 1 lies (2, 2) off:  d^2 = 8, exp(-8 / (2 * 100 * 0.04)) = exp(-1).
    # Joint 2 is not labelled and does not enter.
    gt = np.array([[[10.0, 10], [20, 20], [0, 0]]])
    pred = np.array([[[11.0, 10], [22, 22], [500, 500]]])
    value = oks.oks_matrix(gt, np.array([[2, 1, 0]]), np.array([100.0]), pred, [0.05, 0.1, 0.1])
    assert value == pytest.approx(np.array([[(math.exp(-0.5) + math.exp(-1)) / 2]]), abs=1e-12)
    # A joint that was not found counts 0.
    pred[0, 1] = np.nan
    value = oks.oks_matrix(gt, np.array([[2, 1, 0]]), np.array([100.0]), pred, [0.05, 0.1, 0.1])
    assert value[0, 0] == pytest.approx(math.exp(-0.5) / 2, abs=1e-12)


people = st.integers(1, 5)
joints = st.integers(1, 30)


@settings(max_examples=40, deadline=None)
@given(people, joints, st.integers(0, 2**32 - 1))
def test_properties(count, num_joints, seed) -> None:
    random = np.random.default_rng(seed)
    xy = random.uniform(0, 500, (count, num_joints, 2))
    visibility = random.integers(0, 3, (count, num_joints))
    visibility[:, 0] = 2
    area, sigmas = random.uniform(10, 1e5, count), random.uniform(0.01, 0.2, num_joints)
    other = xy + random.normal(size=xy.shape) * 5
    matrix = oks.oks_matrix(xy, visibility, area, other, sigmas)
    assert np.diag(oks.oks_matrix(xy, visibility, area, xy, sigmas)) == pytest.approx(1)
    assert ((matrix >= 0) & (matrix <= 1)).all()
    # Sigmas go with their joints.
    order = random.permutation(num_joints)
    moved = oks.oks_matrix(xy[:, order], visibility[:, order], area, other[:, order], sigmas[order])
    assert moved == pytest.approx(matrix)
    people_order = random.permutation(count)
    moved = oks.oks_matrix(xy[people_order], visibility[people_order], area[people_order], other, sigmas)
    assert moved == pytest.approx(matrix[people_order])
    # Scaling picture and areas alike changes nothing.
    assert oks.oks_matrix(3 * xy, visibility, 9 * area, 3 * other, sigmas) == pytest.approx(matrix)


def test_order_of_people_does_not_matter(write_json, random_coco) -> None:
    labels, results = random_coco(11, images=10, people=40, detections=80, decimals=6)
    first = evaluate(write_json("gt.json", labels), write_json("dt.json", results))["all"]
    labels["annotations"].reverse()
    results.reverse()
    second = evaluate(write_json("gt2.json", labels), write_json("dt2.json", results))["all"]
    assert first == pytest.approx(second)


def test_labels_against_themselves_are_perfect(write_json, random_coco) -> None:
    labels, _ = random_coco(5, images=20, people=30, detections=1)
    for annotation in labels["annotations"]:
        annotation["iscrowd"] = 0
    results = [
        {"image_id": a["image_id"], "category_id": 1, "keypoints": a["keypoints"], "score": 1.0}
        for a in labels["annotations"]
    ]
    row = evaluate(write_json("gt.json", labels), write_json("dt.json", results))["all"]
    assert row["mean_OKS"] == pytest.approx(1)
    assert row["PCK@0.2"] == row["PCP@0.5"] == row["PDJ@0.1"] == 1


def test_areas() -> None:
    nan = math.nan
    xy = np.array([[[0.0, 0], [10, 20]]] * 4 + [[[5.0, 5], [5, 5]]] * 2)
    visibility = np.array([[2, 2]] * 4 + [[2, 0]] * 2)
    boxes = np.array([[0, 0, 100, 100.0]] * 5 + [[nan] * 4])
    given_areas = np.array([70.0, 70.0, nan, 0.0, nan, nan])
    masks = np.array([True, False, False, False, False, False])
    area, rule = oks.resolve_areas(given_areas, masks, xy, visibility, boxes)
    # 0.53 * 10 * 20 = 106 by the joints' box; one joint alone has no box, so 0.53 * 100 * 100 of the given one.
    assert area[:5] == pytest.approx([70, 70, 106, 106, 5300])
    assert np.isnan(area[5])
    names = ["mask", "given", "0.53 of the joint box", "0.53 of the joint box", "0.53 of the given box", "none"]
    assert [oks.AREA_RULES[r] for r in rule] == names


def test_area_of_a_mask_without_area(write_json, random_coco) -> None:
    labels, results = random_coco(0, images=4, people=6, detections=10)
    for annotation in labels["annotations"]:
        del annotation["area"]
        annotation["segmentation"] = [[10, 10, 50, 10, 50, 30, 10, 30]]
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", results), metrics=["oks"])
    assert set(result["areas"]) == {"mask"}


@pytest.mark.parametrize("nothing", [[[]], [[10, 10, 50, 30]]])
def test_masks_that_enclose_nothing_are_none(write_json, random_coco, nothing) -> None:
    """Tools write empty polygons and lines: they have no area, and those beside them have theirs."""
    labels, results = random_coco(0, images=4, people=6, detections=10)
    square = [10, 10, 50, 10, 50, 30, 10, 30]
    for n, annotation in enumerate(labels["annotations"]):
        del annotation["area"]
        annotation["segmentation"] = [*nothing, square] if n % 2 else nothing
    result = evaluate(write_json("gt.json", labels), write_json("dt.json", results), metrics=["oks"])
    assert set(result["areas"]) == {"mask", "0.53 of the joint box"}


def test_custom_joints_without_sigmas_are_refused(write_json, random_coco) -> None:
    labels, results = random_coco(0, images=4, people=6, detections=10)
    labels["categories"][0]["keypoints"] = [f"tentacle_{i}" for i in range(17)]
    gt, dt = write_json("gt.json", labels), write_json("dt.json", results)
    with pytest.raises(PoseError, match="needs one sigma per joint"):
        evaluate(gt, dt)
    # Without OKS, and people paired by boxes, such labels can be measured.
    row = evaluate(gt, dt, metrics=["pck"], match="iou")["all"]
    assert 0 < row["PCK@0.2"] < 1


def test_crowdpose_reference(shared) -> None:
    """AP and AR of the CrowdPose API: area 0.53 of the annotated box, no area ranges."""
    folder = shared / "reference" / "post"
    case = np.load(folder / "crowdpose_ap.npz")
    labels = json.loads((folder / "crowdpose_gt.json").read_text())
    results = json.loads((folder / "crowdpose_dt.json").read_text())
    row = {i["id"]: n for n, i in enumerate(sorted(labels["images"], key=lambda i: i["id"]))}
    gt = np.array([a["keypoints"] for a in labels["annotations"]]).reshape(-1, 14, 3)
    boxes = np.array([a["bbox"] for a in labels["annotations"]])
    crowd = np.array([a["iscrowd"] for a in labels["annotations"]], bool)
    gt_frame = np.array([row[a["image_id"]] for a in labels["annotations"]])
    dt = np.array([r["keypoints"] for r in results]).reshape(-1, 14, 3)
    dt_frame = np.array([row[r["image_id"]] for r in results])
    score = np.array([r["score"] for r in results])
    area = 0.53 * boxes[:, 2] * boxes[:, 3]
    pairs = oks.same_frame_pairs(gt_frame, dt_frame)
    sigmas = np.array(get_skeleton("crowdpose14").sigmas)
    values = oks.oks_of_pairs(*pairs, gt[..., :2], gt[..., 2], boxes, area, dt[..., :2], np.ones(dt.shape[:2]), sigmas)
    matches = oks.match_coco(
        gt_frame, area, crowd | (gt[..., 2] > 0).sum(axis=1).__eq__(0), crowd, dt_frame, score,
        np.prod(joint_boxes_xywh(dt[..., :2], np.ones(dt.shape[:2]))[:, 2:], axis=1), (*pairs, values),
        ranges={"all": (0, 1e10), "medium": (0, 1e10), "large": (0, 1e10)},
    )  # fmt: skip
    stats = oks.summarize(matches)
    expected = dict(zip(case["stat_names"].tolist(), case["stats"].tolist(), strict=True))
    for key in ("AP", "AP50", "AP75", "AR", "AR50", "AR75"):
        assert stats[key] == pytest.approx(expected[key], abs=1e-9), key
    precision, recall = oks.precision_recall(matches)
    assert precision == pytest.approx(case["precision"][:, :, 0, 0, 0], abs=1e-9)
    assert recall == pytest.approx(case["recall"][:, 0, 0, 0], abs=1e-9)
    similar = case["oks_image_1005"]  # detections by falling score x labels
    mine = np.flatnonzero(dt_frame == row[1005])
    mine = mine[np.argsort(-score[mine], kind="stable")]
    matrix = np.zeros((len(dt), len(gt)))
    matrix[pairs[1], pairs[0]] = values
    assert matrix[mine][:, gt_frame == row[1005]] == pytest.approx(similar, abs=1e-9)
