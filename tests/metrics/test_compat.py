"""Peers' figures, through `evaluate` and `--compat`, against what their code gave; nothing changes without it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from single_people import single_people

from posecli.errors import UsageError
from posecli.formats import read_dataset
from posecli.metrics import evaluate
from posecli.metrics.compat import COMPAT
from posecli.metrics.heatmap_accuracy import heatmap_accuracy
from posecli.metrics.pck import mean_over_grid
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton


def test_hrnet_prints_this_for_mpii(shared) -> None:
    case = np.load(shared / "reference" / "post" / "pckh_mpii.npz")
    # The release counts from 1, predictions from 0. Arrays there are joint x axis x person.
    gt, boxes = case["gt_one_based"].transpose(2, 0, 1) - 1, case["headboxes"].transpose(2, 0, 1).reshape(-1, 4) - 1
    labels, lines = single_people(
        get_skeleton("mpii16"), gt, case["preds_zero_based"], case["missing"].T == 0, head_box_xyxy=boxes
    )
    result = evaluate(labels, lines, metrics=["pckh"], compat="hrnet", match="top-score")
    figures = result["compat"]["figures"]
    assert list(figures) == case["names"].tolist()
    assert list(figures.values()) == pytest.approx(case["values"].tolist(), abs=1e-9)
    assert result["references"]["PCKh"]["rule"] == "0.6 of the head box' diagonal"
    plain = evaluate(labels, lines, metrics=["pckh"], match="top-score", thresholds={"pckh": [0.1, 0.11, 0.5]})
    assert "compat" not in plain
    assert 100 * plain["all"]["PCKh@0.1"] != pytest.approx(figures["Mean@0.1"])  # 0.1 is 0.1, and all joints count
    assert sum("--compat hrnet" in note for note in result["notes"]) == len(COMPAT["hrnet"].rules)


def test_crowdpose_prints_this(shared, write_json) -> None:
    folder = shared / "reference" / "post"
    case = np.load(folder / "crowdpose_ap.npz")
    expected = dict(zip(case["stat_names"].tolist(), case["stats"].tolist(), strict=True))
    del expected["unused"]
    gt, dt = folder / "crowdpose_gt.json", folder / "crowdpose_dt.json"
    result = evaluate(gt, dt, metrics=["crowdpose"], compat="crowdpose")
    assert result["compat"]["figures"] == pytest.approx(expected, abs=1e-9)
    row = evaluate(gt, dt, metrics=["crowdpose"])["all"]
    for level in ("easy", "medium", "hard"):
        exact = row[f"CrowdPose_AP_{level}"]
        assert exact == pytest.approx(expected[f"AP_{level}"], abs=5e-5)
        assert exact != expected[f"AP_{level}"]  # not rounded without being asked
    labels = json.loads(gt.read_text())
    for image in labels["images"]:
        image["crowdIndex"] = 0.9
    only_hard = evaluate(write_json("gt.json", labels), dt, metrics=["crowdpose"])
    assert only_hard["all"]["CrowdPose_AP_hard"] == pytest.approx(only_hard["all"]["CrowdPose_AP"])
    assert only_hard["all"]["CrowdPose_AP_easy"] == -1
    assert any("-1 for easy, medium" in note for note in only_hard["notes"])
    dataset = read_dataset(write_json("gt.json", labels), warn=lambda text: None)
    records = [replace(r, extra={}) if n < 4 else r for n, r in enumerate(dataset.records)]
    without = evaluate(replace(dataset, records=tuple(records)), dt, metrics=["crowdpose"])
    assert without["all"]["CrowdPose_AP"] == pytest.approx(only_hard["all"]["CrowdPose_AP"])
    assert any("4 pictures have no crowdIndex" in note for note in without["notes"])


@pytest.mark.parametrize("name, skeleton", [("lsp", "lsp14"), ("mpii", "mpii16")])
def test_deeppose_prints_this(shared, name, skeleton) -> None:
    case = np.load(shared / "reference" / "post" / "pcp.npz")
    labels, lines = single_people(get_skeleton(skeleton), case[f"{name}_gt"], case[f"{name}_pred"])
    result = evaluate(
        labels, lines, metrics=["pcp", "pcp-relaxed", "pdj", "pckh"], compat="deeppose", match="top-score",
        thresholds={"pcp": [0.3, 0.5], "pdj": [0.1, 0.2], "pckh": [0.1, 0.5]}, pckh_reference="head-segment",
        by=["joint"],
    )  # fmt: skip
    figures = result["compat"]["figures"]
    sticks = case["stick_names"].tolist()
    for threshold in (0.3, 0.5):
        for kind in ("strict", "relaxed"):
            found = figures[f"PCP {kind}@{threshold:g}"]
            expected = case[f"{name}_{kind}_{threshold}"]
            assert [found[s] for s in sticks] == pytest.approx(expected, abs=1e-6)
        parts = figures[f"PCP strict@{threshold:g}"]
        expected = case[f"{name}_strict_{threshold}_parts"]
        assert [parts[p] for p in case["part_names"].tolist()] == pytest.approx(expected, abs=1e-6)
    if name == "lsp":
        for threshold in (0.1, 0.2):
            found = list(figures[f"PDJ@{threshold:g}"].values())
            assert found == pytest.approx(case[f"lsp_pdj_{threshold}"], abs=1e-6)
    else:
        canonical = [9, 8, 12, 11, 10, 2, 1, 0, 13, 14, 15, 3, 4, 5, 7, 6]
        names = get_skeleton(skeleton).keypoints
        for threshold in (0.1, 0.5):
            found = [result["groups"]["joint"][names[j]][f"PCKh@{threshold:g}"] for j in canonical]
            assert found == pytest.approx(case[f"mpii_pckh_headsegment_{threshold}"], abs=1e-6)


def test_crowdpose_looks_for_nobody_of_whom_only_head_and_neck_are_labelled() -> None:
    """The benchmark's num_keypoints leaves both out, and its code ignores people of whom it is 0."""
    skeleton = get_skeleton("crowdpose14")
    gt = np.random.default_rng(0).uniform(100, 300, (2, 14, 2))
    labelled = np.ones((2, 14), bool)
    labelled[1, :12] = False
    boxes = np.tile([100.0, 100, 300, 300], (2, 1))
    labels, lines = single_people(skeleton, gt, gt + [[[0.0, 0]], [[900.0, 900]]], labelled, box_xyxy=boxes)
    row = evaluate(labels, lines, metrics=["oks", "crowdpose"])["all"]
    assert row["CrowdPose_AR"] == 1 and row["AR"] == 0.5
    labelled[1, 0] = True
    labels, lines = single_people(skeleton, gt, gt + [[[0.0, 0]], [[900.0, 900]]], labelled, box_xyxy=boxes)
    assert evaluate(labels, lines, metrics=["crowdpose"])["all"]["CrowdPose_AR"] == 0.5


def test_mmpose_computes_this(shared) -> None:
    case = np.load(shared / "reference" / "post" / "mmpose_metrics.npz")
    gt, pred, mask = case["gt"].astype(float), case["pred"].astype(float), case["mask"]
    toy = Skeleton("toy9", tuple(f"j{i}" for i in range(9)))
    # The box whose longer side is the given factor; a factor of 0 is no box, and its person is left out.
    side = case["norm_factor"][:, 0].astype(float)
    boxes = np.stack([np.zeros_like(side), np.zeros_like(side), side, side], axis=1)
    labels, lines = single_people(toy, gt, pred, mask, box_xyxy=boxes)
    options = {"metrics": ["pck", "epe", "nme"], "compat": "mmpose", "match": "top-score"}
    result = evaluate(
        labels, lines, pck_reference="box,pixels", by=["joint"],
        thresholds={"pck": [0.05, 0.2, 0.5], "pixels": [5]}, **options,
    )  # fmt: skip
    figures = result["compat"]["figures"]
    for threshold in (0.05, 0.2, 0.5):
        assert figures[f"PCK@{threshold:g}"] == pytest.approx(float(case[f"pck_{threshold}_mean"]), abs=1e-6)
        for j in range(9):
            found = result["groups"]["joint"][f"j{j}"][f"PCK@{threshold:g}"]
            theirs = float(case[f"pck_{threshold}"][j])
            assert (found is None and theirs == -1) or found == pytest.approx(theirs, abs=1e-6)
    assert figures["AUC px"] == pytest.approx(float(case["auc_norm30"]), abs=1e-6)
    # mmpose's AUC is the mean of thresholds i / bins; how many bins is the caller's choice there, 20 by default.
    distance = np.linalg.norm(pred - gt, axis=-1)
    for bins, name in ((20, "auc_norm30"), (8, "auc_norm30_bins8")):
        shares = mean_over_grid(distance, np.full(len(gt), 30.0), np.arange(bins) / bins, strict=True)
        by_joint = [shares[mask[:, j], j].mean() for j in range(9) if mask[:, j].any()]
        assert np.mean(by_joint) == pytest.approx(float(case[name]), abs=1e-6)
    assert figures["EPE"] == pytest.approx(float(case["epe"]), rel=1e-6)
    assert figures["NME"] == pytest.approx(float(case["nme"]), rel=1e-6)


def test_mmpose_leaves_out_equality(shared) -> None:
    """`test_equality_counts` the other way round: at exactly the threshold mmpose says wrong."""
    skeleton = Skeleton("toy", ("a", "b"))
    gt = np.array([[[0.0, 0], [10, 0]]])
    labels, lines = single_people(skeleton, gt, gt + [2.0, 0], box_xyxy=np.array([[0.0, 0, 10, 10]]))
    options = {"metrics": ["pck"], "match": "top-score", "pck_reference": "box"}
    assert evaluate(labels, lines, **options)["all"]["PCK@0.2"] == 1
    assert evaluate(labels, lines, compat="mmpose", **options)["all"]["PCK@0.2"] == 0


def test_mmpose_measures_the_torso_by_number() -> None:
    coco = get_skeleton("coco17")
    random = np.random.default_rng(0)
    gt = random.uniform(0, 100, (1, 17, 2))
    gt[0, 4], gt[0, 5] = (0, 0), (30, 40)  # right ear and left shoulder, 50 apart
    labels, lines = single_people(coco, gt, gt + [10.0, 0])
    options = {"metrics": ["pck"], "match": "top-score", "pck_reference": "torso", "compat": "mmpose"}
    result = evaluate(labels, lines, thresholds={"pck": [0.19, 0.21]}, **options)
    assert (result["all"]["PCK@0.19"], result["all"]["PCK@0.21"]) == (0, 1)
    assert "right_ear to left_shoulder" in result["references"]["PCK"]["rule"]


def test_a_diagnosis_measures_the_torso_by_number_too() -> None:
    """Joints 30 pixels off are far, where 10 are right: not near because the named torso is 1000 long."""
    coco = get_skeleton("coco17")
    gt = np.array([[[300.0 * (k % 5), 300.0 * (k // 5)] for k in range(17)]])
    gt[0, 5] = gt[0, 4] + [30, 40]
    labels, lines = single_people(coco, gt, gt + [0, -30.0])
    options = {"metrics": ["pck"], "match": "top-score", "pck_reference": "torso", "diagnose": True}
    found = evaluate(labels, lines, compat="mmpose", **options)["diagnosis"]["PCK"]
    assert found["joints"] == {"good": 0, "jitter": 0, "inversion": 0, "swap": 0, "miss": 17}
    assert evaluate(labels, lines, **options)["diagnosis"]["PCK"]["joints"]["good"] == 17


def test_heatmap_accuracy(shared) -> None:
    folder = shared / "reference" / "post"
    case = np.load(folder / "argmax_decode.npz")
    found = heatmap_accuracy(case["heatmaps"], case["target_heatmaps"], "hrnet")
    assert found.mean == pytest.approx(float(case["accuracy_mean"]))
    assert found.counted == int(case["accuracy_count"])
    assert np.where(np.isnan(found.joints), -1, found.joints) == pytest.approx(case["accuracy"][1:])
    assert case["accuracy"][0] == pytest.approx(found.mean)
    case = np.load(folder / "mmpose_metrics.npz")
    found = heatmap_accuracy(case["hm_pred"], case["hm_gt"], "mmpose", case["hm_mask"])
    assert found.joints == pytest.approx(case["hm_pck"])
    assert (found.mean, found.counted) == (pytest.approx(float(case["hm_pck_mean"])), int(case["hm_pck_count"]))


def test_names_are_checked() -> None:
    skeleton = Skeleton("toy", ("a", "b"))
    gt = np.array([[[0.0, 0], [10, 0]]])
    labels, lines = single_people(skeleton, gt, gt)
    with pytest.raises(UsageError, match="mmpose, hrnet, crowdpose, deeppose, poseval"):
        evaluate(labels, lines, compat="ultralytics")
    with pytest.raises(UsageError, match="posetrack, and none of them is asked for"):
        evaluate(labels, lines, metrics=["pck"], compat="poseval")
    with pytest.raises(UsageError, match="head-segment, head-box, pixels"):
        evaluate(labels, lines, metrics=["pck"], pck_reference="torso,foot")


def test_documentation_and_help_name_every_peer_and_metric() -> None:
    from typer.testing import CliRunner

    from posecli.cli.app import app
    from posecli.metrics import METRICS
    from posecli.metrics.pck import PCK_REFERENCES, PCKH_REFERENCES

    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "1000", "TERM": "dumb"}).stdout
    for name, peer in COMPAT.items():
        assert f"| `{name}` | {', '.join(f'`{m}`' for m in peer.metrics)} | {'; '.join(peer.rules)} |" in page
        assert f"{name} (" in shown
    for name in (*METRICS, *PCK_REFERENCES, *PCKH_REFERENCES):
        assert f"`{name}`" in page or f"`--pckh-reference {name}`" in page, name
        assert name in shown, name
