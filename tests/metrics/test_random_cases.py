"""Published scorers again, on random people: each definition written down a second time, in plain loops.

The stored cases of `test_compat.py` are one draw each; here the draws vary, with people and joints that are missing.
"""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from single_people import single_people

from posecli.metrics import evaluate
from posecli.skeletons import get_skeleton
from posecli.types import Skeleton

SEEDS = range(4)


def people(seed: int, joints: int, count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Labels, predictions (some close, some far), and who is labelled; each joint in somebody."""
    random = np.random.default_rng(seed)
    gt = random.uniform(50, 400, (count, joints, 2))
    pred = gt + random.normal(size=gt.shape) * random.choice([1.0, 8.0, 60.0], (count, joints, 1))
    labelled = random.random((count, joints)) < 0.8
    labelled[0] = True
    return gt, pred, labelled, random


@pytest.mark.parametrize("seed", SEEDS)
def test_hrnet_on_mpii(seed: int) -> None:
    gt, pred, labelled, random = people(seed, 16)
    corner = random.uniform(50, 300, (len(gt), 2))
    boxes = np.concatenate([corner, corner + random.uniform(20, 90, corner.shape)], axis=1)

    def share(joint: int, threshold: float) -> tuple[int, int]:
        right = counted = 0
        for i in range(len(gt)):
            if not labelled[i, joint]:
                continue
            head = 0.6 * np.hypot(boxes[i, 2] - boxes[i, 0], boxes[i, 3] - boxes[i, 1])
            counted += 1
            right += np.hypot(*(gt[i, joint] - pred[i, joint])) / head <= threshold
        return right, counted

    def mean_of(joints: list[int], threshold: float) -> float:
        total = [share(j, threshold) for j in joints]
        return 100 * sum(r for r, _ in total) / sum(c for _, c in total)

    pairs = {"Shoulder": (12, 13), "Elbow": (11, 14), "Wrist": (10, 15), "Hip": (2, 3), "Knee": (1, 4), "Ankle": (0, 5)}
    every = [j for j in range(16) if j not in (6, 7)]
    expected = {"Head": mean_of([9], 0.5)}
    expected |= {name: (mean_of([a], 0.5) + mean_of([b], 0.5)) / 2 for name, (a, b) in pairs.items()}
    expected |= {"Mean": mean_of(every, 0.5), "Mean@0.1": mean_of(every, 0.11)}
    labels, lines = single_people(get_skeleton("mpii16"), gt, pred, labelled, head_box_xyxy=boxes)
    result = evaluate(labels, lines, metrics=["pckh"], compat="hrnet", match="top-score")
    assert result["compat"]["figures"] == pytest.approx(expected, abs=1e-9)


# Ends of the ten sticks in the data sets' own order; a pair of pairs is a midpoint.
STICKS = {
    "lsp14": [(13, 12), ((8, 9), (2, 3)), (8, 7), (7, 6), (2, 1), (1, 0), (9, 10), (10, 11), (3, 4), (4, 5)],
    "mpii16": [(9, 8), (7, 6), (12, 11), (11, 10), (2, 1), (1, 0), (13, 14), (14, 15), (3, 4), (4, 5)],
}


@pytest.mark.parametrize("skeleton", STICKS)
@pytest.mark.parametrize("seed", SEEDS)
def test_deeppose_sticks(seed: int, skeleton: str) -> None:
    gt, pred, _, _ = people(seed, get_skeleton(skeleton).num_keypoints)
    labels, lines = single_people(get_skeleton(skeleton), gt, pred)
    result = evaluate(
        labels, lines, metrics=["pcp", "pcp-relaxed", "pdj"], compat="deeppose", match="top-score",
        thresholds={"pcp": [0.2, 0.5], "pdj": [0.15]},
    )  # fmt: skip
    figures = result["compat"]["figures"]

    def point(pose: np.ndarray, end: int | tuple[int, int]) -> np.ndarray:
        return pose[list(end)].mean(axis=0) if isinstance(end, tuple) else pose[end]

    for threshold in (0.2, 0.5):
        strict, relaxed = [], []
        for a, b in STICKS[skeleton]:
            hits = [0, 0]
            for true, found in zip(gt, pred, strict=True):
                length = np.hypot(*(point(true, a) - point(true, b)))
                off = [np.hypot(*(point(true, end) - point(found, end))) for end in (a, b)]
                hits[0] += max(off) <= threshold * length
                hits[1] += sum(off) / 2 <= threshold * length
            strict.append(hits[0] / len(gt))
            relaxed.append(hits[1] / len(gt))
        found = figures[f"PCP strict@{threshold:g}"]
        assert list(found.values())[:10] == pytest.approx(strict, abs=1e-9)
        assert list(figures[f"PCP relaxed@{threshold:g}"].values())[:10] == pytest.approx(relaxed, abs=1e-9)
        # Head and torso, then the mean of right and left of each limb, then the mean of these six.
        parts = [strict[0], strict[1], *((strict[2 + k] + strict[6 + k]) / 2 for k in range(4))]
        assert list(found.values())[10:] == pytest.approx([*parts[2:], np.mean(parts)], abs=1e-9)
    if skeleton == "lsp14":
        torso = np.hypot(*(gt[:, 9] - gt[:, 2]).T)
        expected = (np.hypot(*np.moveaxis(gt - pred, -1, 0)) < 0.15 * torso[:, None]).mean(axis=0)
        assert list(figures["PDJ@0.15"].values())[:14] == pytest.approx(expected.tolist(), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_mmpose_metrics(seed: int) -> None:
    gt, pred, labelled, random = people(seed, 9)
    labelled[:, 5] = False  # a joint that nobody has does not enter the mean
    factor = random.uniform(30, 90, len(gt))
    factor[3] = 0.0  # that person is left out, of NME too
    boxes = np.stack([np.zeros_like(factor), np.zeros_like(factor), factor, factor / 2], axis=1)
    labels, lines = single_people(
        Skeleton("toy9", tuple(f"j{i}" for i in range(9))), gt, pred, labelled, box_xyxy=boxes
    )
    result = evaluate(
        labels, lines, metrics=["pck", "epe", "nme"], compat="mmpose", match="top-score", pck_reference="box,pixels",
        thresholds={"pck": [0.05, 0.3], "pixels": [7]},
    )  # fmt: skip
    figures = result["compat"]["figures"]
    distance = np.hypot(*np.moveaxis(gt - pred, -1, 0))

    def pck(threshold: float, reference: np.ndarray) -> float:
        means = []
        for j in range(9):
            rows = [i for i in range(len(gt)) if labelled[i, j] and reference[i] > 0]
            if rows:
                means.append(np.mean([distance[i, j] / reference[i] < threshold for i in rows]))
        return float(np.mean(means))

    assert figures["PCK@0.05"] == pytest.approx(pck(0.05, factor), abs=1e-9)
    assert figures["PCK@0.3"] == pytest.approx(pck(0.3, factor), abs=1e-9)
    thirty = np.full(len(gt), 30.0)
    assert figures["AUC px"] == pytest.approx(np.mean([pck(i / 20, thirty) for i in range(20)]), abs=1e-9)
    assert figures["EPE"] == pytest.approx(distance[labelled].mean(), abs=1e-9)
    valid = labelled & (factor > 0)[:, None]
    scaled = distance / np.where(factor > 0, factor, 1)[:, None]
    assert figures["NME"] == pytest.approx(scaled[valid].mean(), abs=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_crowdpose_levels(seed: int, write_json, random_coco) -> None:
    """pycocotools on the pictures of each level, with 0.53 of the box as area: what CrowdPose's scorer comes to."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    gt, dt = random_coco(seed, images=40, people=90, detections=400, skeleton="crowdpose14")
    random = np.random.default_rng(seed)
    for image in gt["images"]:
        image["crowdIndex"] = float(random.choice([0.0, 0.05, 0.1999, 0.2, 0.5, 0.8, 0.95]))
    for person in gt["annotations"]:
        person["area"] = 0.53 * person["bbox"][2] * person["bbox"][3]
        person["iscrowd"] = 0
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(write_json("gt.json", gt)))
        found = coco.loadRes(str(write_json("dt.json", dt)))

    def precision(low: float, high: float) -> np.ndarray:
        run = COCOeval(coco, found, "keypoints")
        run.params.kpt_oks_sigmas = np.array(get_skeleton("crowdpose14").sigmas)
        run.params.imgIds = [i["id"] for i in gt["images"] if low <= i["crowdIndex"] < high]
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        with contextlib.redirect_stdout(io.StringIO()):
            run.evaluate()
            run.accumulate()
        return run.eval["precision"]

    result = evaluate(write_json("gt.json", gt), write_json("dt.json", dt), metrics=["crowdpose"], compat="crowdpose")
    figures = result["compat"]["figures"]
    whole = precision(0, 2)
    assert figures["AP"] == pytest.approx(whole.mean(), abs=1e-9)
    assert figures["AP50"] == pytest.approx(whole[0].mean(), abs=1e-9)
    for level, low, high in (("easy", 0, 0.2), ("medium", 0.2, 0.8), ("hard", 0.8, 2)):
        assert figures[f"AP_{level}"] == pytest.approx(round(float(precision(low, high).mean()), 4), abs=1e-9)
