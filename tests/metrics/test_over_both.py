"""Differences of means that run over what a prediction found: over what both found, or leaving out would win."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.metrics import evaluate
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton

TOY = Skeleton(
    "toy", ("left_shoulder", "right_shoulder", "right_hip", "left_hip"), sigmas=(0.1,) * 4,
    torso=("left_shoulder", "right_hip"),
)  # fmt: skip
CORNERS = np.array([[0.0, 0], [40, 0], [40, 30], [0, 30]])


def labels(pictures: int) -> Dataset:
    person = Instance(CORNERS, np.full(4, 2), np.ones(4), area=1200.0)
    return Dataset(TOY, tuple(Record(i + 1, f"{i}.jpg", 64, 48, (person,)) for i in range(pictures)))


def stream(off: np.ndarray, found: np.ndarray):
    """Predictions ``off`` (N, 4) pixels to the right, with the joints ``found`` (N, 4); nobody where none is."""
    header = StreamHeader(source="x", skeleton=TOY)
    lines = []
    for i, (by, there) in enumerate(zip(off, found, strict=True)):
        person = Instance(CORNERS + np.stack([by, 0 * by], 1), np.where(there, 2, 0), np.ones(4), 0.9)
        lines.append((header, FramePoses(i, (person,) if there.any() else (), image_id=i + 1)))
    return lines


def test_the_same_poses_with_the_hard_joints_left_out_are_no_better() -> None:
    off = np.random.default_rng(0).choice([2.0, 20.0], (40, 4))
    careful, bold = stream(off, off < 10), stream(off, np.ones((40, 4), bool))
    options = {"metrics": ["epe", "nme"], "match": "top-score", "by": ["joint"], "bootstrap": 100}
    result = evaluate(labels(40), careful, bold, **options)
    # Each one's own figure stays what it was: over its own joints.
    assert result["all"]["EPE"] == pytest.approx(2) and result["second"]["all"]["EPE"] == pytest.approx(off.mean())
    both = int((off < 10).sum())
    for key in ("EPE", "NME", "EPE_joint_mean"):
        entry = result["difference"]["all"][key]
        assert entry["value"] == pytest.approx(0) and entry["interval"] == pytest.approx([0, 0])
        assert entry["p"] == 1 and not entry["holds"]
    hip = result["difference"]["groups"]["joint"]["left_hip"]
    assert hip["EPE"]["value"] == pytest.approx(0) and hip["EPE"]["p"] == 1
    note = f"EPE, NME: the difference is over the {both} joints that both measured"
    note += f" (first alone {both}, second alone 160)"
    assert note in result["notes"]
    assert any(v.startswith("EPE px: no difference") and f"over the {both} joints" in v for v in result["verdicts"])


def test_a_difference_on_the_common_joints_is_found() -> None:
    found = np.ones((30, 4), bool)
    found[:, 3] = False
    worse, better = stream(np.full((30, 4), 5.0), found), stream(np.full((30, 4), 3.0) + [0, 0, 0, 50], ~found | found)
    entry = evaluate(labels(30), worse, better, metrics=["epe"], match="top-score")["difference"]["all"]["EPE"]
    assert entry["value"] == pytest.approx(-2) and entry["holds"]  # over four joints it would be (3 * 3 + 53) / 4 - 5
    without = evaluate(labels(30), worse, better, metrics=["epe"], match="top-score", bootstrap=0)
    assert without["difference"]["all"]["EPE"]["value"] == pytest.approx(-2)


def test_misses_that_are_skipped_are_skipped_for_both() -> None:
    off = np.repeat([[0.0], [30.0]], 10, axis=0) + np.zeros(4)  # ten pictures all right, ten all wrong
    found = np.ones((20, 4), bool)
    picky = found & (off < 10)
    options = {"metrics": ["oks", "pck"], "match": "top-score", "misses": "skip", "bootstrap": 50}
    result = evaluate(labels(20), stream(off, picky), stream(off, found), **options)
    assert result["all"]["PCK@0.2"] == 1 and result["second"]["all"]["PCK@0.2"] == pytest.approx(0.5)
    assert result["difference"]["all"]["PCK@0.2"]["value"] == 0
    assert result["difference"]["all"]["mean_OKS"]["value"] == pytest.approx(0)
    assert any("over the 10 people that both measured" in note for note in result["notes"])


def test_nothing_in_common_has_no_difference_and_equal_joints_need_no_words() -> None:
    left = np.array([[True, False, False, True]] * 12)
    result = evaluate(labels(12), stream(np.ones((12, 4)), left), stream(np.ones((12, 4)), ~left), metrics=["epe"],
                      match="top-score")  # fmt: skip
    assert "EPE" not in result["difference"]["all"] and result["verdicts"] == []
    assert any("over the 0 joints that both measured" in note for note in result["notes"])
    every = np.ones((12, 4), bool)
    result = evaluate(labels(12), stream(np.ones((12, 4)), every), stream(np.zeros((12, 4)), every), metrics=["epe"],
                      match="top-score")  # fmt: skip
    assert result["difference"]["all"]["EPE"]["value"] == pytest.approx(-1)
    assert not any("both measured" in words for words in (*result["notes"], *result["verdicts"]))
