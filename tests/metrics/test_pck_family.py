"""PCK, PCKh, PDJ and PCP: against published code, and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.metrics import pck, pcp
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton


def test_pckh_as_hrnet_evaluates_mpii(shared) -> None:
    case = np.load(shared / "reference" / "post" / "pckh_mpii.npz")
    # The release counts from 1, predictions from 0; here both count from 0. Arrays there are joint x axis x person.
    gt = case["gt_one_based"].transpose(2, 0, 1) - 1
    labelled = case["missing"].T == 0
    boxes = case["headboxes"].transpose(2, 0, 1).reshape(-1, 4)
    reference = pck.head_reference(gt, labelled, boxes, get_skeleton("mpii16"))
    assert reference.counts["head box"] == len(gt)
    distance = pck.distances(gt, case["preds_zero_based"], np.ones(labelled.shape, bool))

    def per_joint(threshold: float) -> tuple[np.ndarray, np.ndarray]:
        good = pck.correct(distance, reference.length, threshold) & labelled
        return 100 * good.sum(axis=0) / labelled.sum(axis=0), labelled.sum(axis=0)

    share, count = per_joint(0.5)
    joint = {name: i for i, name in enumerate(case["joint_names"].tolist())}
    expected = dict(zip(case["names"].tolist(), case["values"].tolist(), strict=True))
    for name, key in (("Shoulder", "sho"), ("Elbow", "elb"), ("Wrist", "wri"), ("Hip", "hip"), ("Knee", "kne")):
        assert (share[joint[f"l{key}"]] + share[joint[f"r{key}"]]) / 2 == pytest.approx(expected[name], abs=1e-9)
    assert share[joint["head"]] == pytest.approx(expected["Head"], abs=1e-9)
    kept = np.delete(np.arange(16), [6, 7])  # HRNet leaves pelvis and thorax out of the mean
    assert np.average(share[kept], weights=count[kept]) == pytest.approx(expected["Mean"], abs=1e-9)
    share, count = per_joint(0.11)  # what HRNet prints as "Mean@0.1" is at 0.11
    assert np.average(share[kept], weights=count[kept]) == pytest.approx(expected["Mean@0.1"], abs=1e-9)


def test_pck_as_mmpose_except_for_equality(shared) -> None:
    """mmpose compares with ``<``; the case has no exact equality, so ``<=`` gives the same."""
    case = np.load(shared / "reference" / "post" / "mmpose_metrics.npz")
    mask = case["mask"]
    for factor, names in (("norm_factor", (0.05, 0.2, 0.5)), ("norm_factor_with_zero", (0.2,))):
        scale = case[factor].astype(np.float64)
        usable = (scale > 0).all(axis=1)
        scaled = [case[k].astype(np.float64) / np.where(usable[:, None], scale, 1)[:, None] for k in ("gt", "pred")]
        distance = pck.distances(*scaled, np.ones(mask.shape, bool))
        length = np.where(usable, 1.0, np.nan)
        valid = mask & usable[:, None]
        for threshold in names:
            good = pck.correct(distance, length, threshold) & valid
            key = f"pck_{threshold:g}" if factor == "norm_factor" else f"pck_zero_{threshold:g}"
            for j in range(mask.shape[1]):
                if valid[:, j].any():
                    share = good[:, j].sum() / valid[:, j].sum()
                    assert share == pytest.approx(case[key][j], abs=1e-6)
                else:
                    assert case[key][j] == -1
            shares = [good[:, j].sum() / valid[:, j].sum() for j in range(mask.shape[1]) if valid[:, j].any()]
            assert np.mean(shares) == pytest.approx(float(case[f"{key}_mean"]), abs=1e-6)


def test_pcp_and_pdj_as_deeppose_tf(shared) -> None:
    case = np.load(shared / "reference" / "post" / "pcp.npz")
    for name, torso_ends in (("lsp", ((8, 9), (2, 3))), ("mpii", ((7, 7), (6, 6)))):
        both = []
        for kind in ("gt", "pred"):
            xy = case[f"{name}_{kind}"]
            # The torso stick ends between joints (LSP) or in single joints (MPII): two more points.
            ends = [(xy[:, a] + xy[:, b]) / 2 for a, b in torso_ends]
            both.append(np.concatenate([xy, np.stack(ends, axis=1)], axis=1))
        gt, pred = both
        k = gt.shape[1] - 2
        if name == "lsp":  # head, torso, right upper and lower arm, right upper and lower leg, then left
            limbs = ((13, 12), (k, k + 1), (8, 7), (7, 6), (2, 1), (1, 0), (9, 10), (10, 11), (3, 4), (4, 5))
        else:
            limbs = ((9, 8), (k, k + 1), (12, 11), (11, 10), (2, 1), (1, 0), (13, 14), (14, 15), (3, 4), (4, 5))
        distance = pck.distances(gt, pred, np.ones(gt.shape[:2], bool))
        for threshold in (0.3, 0.5):
            good, counted = pcp.pcp_strict(gt, np.full(gt.shape[:2], 2), distance, limbs, threshold)
            assert counted.all()
            assert good.mean(axis=0) == pytest.approx(case[f"{name}_strict_{threshold}"], abs=1e-6)
    gt, pred = case["lsp_gt"], case["lsp_pred"]
    distance = pck.distances(gt, pred, np.ones(gt.shape[:2], bool))
    torso = pck.torso_reference(gt, np.full(gt.shape[:2], 2), get_skeleton("lsp14"))
    for threshold in (0.1, 0.2):  # PDJ there compares with <; no exact equality in the case
        assert pck.correct(distance, torso.length, threshold).mean(axis=0) == pytest.approx(
            case[f"lsp_pdj_{threshold}"], abs=1e-6
        )
    gt, pred = case["mpii_gt"], case["mpii_pred"]
    distance = pck.distances(gt, pred, np.ones(gt.shape[:2], bool))
    head = pck.head_reference(gt, np.full(gt.shape[:2], 2), np.full((len(gt), 4), np.nan), get_skeleton("mpii16"))
    assert head.counts == {"head box": 0, "head segment": len(gt)}
    canonical = [9, 8, 12, 11, 10, 2, 1, 0, 13, 14, 15, 3, 4, 5, 7, 6]  # deeppose_tf's order of the joints
    for threshold in (0.1, 0.5):
        shares = pck.correct(distance, head.length, threshold).mean(axis=0)[canonical]
        assert shares == pytest.approx(case[f"mpii_pckh_headsegment_{threshold}"], abs=1e-6)


def test_equality_counts() -> None:
    # Torso 10 px, threshold 0.2: 2 px off is correct, 2.01 px is not.
    distance = np.array([[2.0, 2.01, np.inf]])
    assert pck.correct(distance, np.array([10.0]), 0.2).tolist() == [[True, False, False]]
    assert not pck.correct(distance, np.array([np.nan]), 100.0).any()


def test_torso_joints_come_from_the_skeleton() -> None:
    """mmpose measures joints 4 and 5 whatever the data; here the names decide, at any place."""
    for order in (("left_shoulder", "right_hip", "nose"), ("nose", "right_hip", "left_shoulder")):
        skeleton = Skeleton("toy", order, torso=("left_shoulder", "right_hip"))
        place = {"left_shoulder": (0.0, 0.0), "right_hip": (3.0, 4.0), "nose": (50.0, 0.0)}
        xy = np.array([[place[n] for n in order]] * 3)
        visibility = np.full((3, 3), 2)
        visibility[1, order.index("right_hip")] = 0
        xy[2, order.index("right_hip")] = 0  # a torso of no length
        reference = pck.torso_reference(xy, visibility, skeleton)
        assert reference.length[0] == 5
        assert np.isnan(reference.length[1:]).all()


def test_box_reference_and_choice() -> None:
    xy = np.array([[[0.0, 0], [30, 10]], [[0.0, 0], [30, 10]], [[4.0, 4], [0, 0]]])
    visibility = np.array([[2, 2], [2, 2], [2, 0]])
    boxes = np.array([[0.0, 0, 20, 80], [np.nan] * 4, [np.nan] * 4])
    plain = Skeleton("toy", ("a", "b"))
    reference = pck.pck_reference("auto", xy, visibility, boxes, plain)  # no torso named
    assert reference.length[:2].tolist() == [80, 30]
    assert np.isnan(reference.length[2])  # a single joint spans no box
    assert "box" in reference.rule
    with pytest.raises(PoseError, match="names no torso"):
        pck.pck_reference("torso", xy, visibility, boxes, plain)


def test_head_box_before_head_segment() -> None:
    skeleton = Skeleton("toy", ("head_top", "neck"), head=("neck", "head_top"))
    xy = np.array([[[0.0, 0], [0, 7]]] * 3)
    visibility = np.array([[2, 2], [2, 2], [2, 0]])
    boxes = np.array([[0.0, 0, 30, 40], [np.nan] * 4, [np.nan] * 4])
    reference = pck.head_reference(xy, visibility, boxes, skeleton)
    assert reference.length[:2] == pytest.approx([30, 7])  # 0.6 * 50 of the diagonal; the segment itself
    assert np.isnan(reference.length[2])
    assert reference.counts == {"head box": 1, "head segment": 1}
    assert pck.head_reference(xy, visibility, np.full((3, 4), np.nan), Skeleton("bare", ("a", "b"))) is None


def test_area_under_the_pdj_curve() -> None:
    # Torso 1. A joint at distance d is correct from threshold d on. At d = 0 the curve is 1 throughout: area 1.
    # At d = 0.25 it is 1 on 0.25..0.5, with half a step of 0.01 before: (0.25 + 0.005) / 0.5 = 0.51.
    # At d = 0.6: 0.
    distance = np.array([[0.0, 0.25, 0.6]])
    area = pck.area_under_curve(distance, np.array([1.0]))
    assert area[0] == pytest.approx([1, 0.51, 0])
    values = pck.curve(distance, np.array([1.0]), np.ones((1, 3), bool), pck.PDJ_CURVE)
    assert values[0] == pytest.approx(1 / 3)
    assert values[-1] == pytest.approx(2 / 3)


def test_pcp_by_hand() -> None:
    # Limb 0-1 is 10 px long: both ends may be 5 px off. Limb 1-2 has no length and is not counted.
    gt = np.array([[[0.0, 0], [10, 0], [10, 0]]] * 3)
    visibility = np.array([[2, 2, 2], [2, 2, 2], [2, 0, 2]])
    distance = np.array([[5.0, 5.0, 0], [5.0, 5.1, 0], [0.0, 0.0, 0]])
    good, counted = pcp.pcp_strict(gt, visibility, distance, ((0, 1), (1, 2)))
    assert counted.tolist() == [[True, False], [True, False], [False, False]]
    assert good.tolist() == [[True, False], [False, False], [False, False]]


def test_limbs_from_edges_where_none_are_stated() -> None:
    skeleton = get_skeleton("openpose_body25")
    assert not skeleton.limbs
    limbs, origin = pcp.limbs_of(skeleton)
    assert len(limbs) == 8
    assert "edges" in origin
    assert "left_hip-left_knee" in pcp.limb_names(skeleton, limbs)
