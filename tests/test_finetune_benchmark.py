"""What the benchmark of fine-tuning stands on: blocks of time, units of the intervals, the map without training."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecli.metrics import evaluate
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import get_skeleton
from posecli.types import Dataset, Instance, Record

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def finetune() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        import finetune as module
    finally:
        sys.path.remove(str(FOLDER))
    return module


def test_every_moment_is_tested_once_and_its_neighbours_are_not_learnt_from(finetune: ModuleType) -> None:
    folds = finetune.blocks_of(24, 4)
    assert sorted(m for block, _ in folds for m in block) == list(range(24))
    for block, learnt in folds:
        assert block == list(range(block[0], block[-1] + 1))
        assert min(abs(a - b) for a in block for b in learnt) == 2
    assert [len(learnt) for _, learnt in folds] == [17, 16, 16, 17]


def test_a_map_finds_the_joints_that_are_means_of_others_wherever_people_stand(
    finetune: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(2)
    weights = np.array([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0, 0, 1.4, -0.4, 0]])
    found = rng.uniform(0, 100, (60, 5, 2)) + rng.uniform(0, 2000, (60, 1, 2))
    labelled = weights @ found
    known = np.ones((60, 3), bool)
    labelled[7, 1], known[7, 1] = 0, False
    learnt = finetune.learn_map(found, labelled, known)
    assert np.allclose(learnt.sum(1), 1)
    # The ridge pulls them towards the nearest joint, the less the smaller it is.
    assert np.abs(learnt - weights).max() < 0.6
    monkeypatch.setattr(finetune, "RIDGE", 1e-6)
    assert np.abs(finetune.learn_map(found, labelled, known) - weights).max() < 1e-3


def test_intervals_are_over_moments_with_all_their_cameras(finetune: ModuleType) -> None:
    skeleton = replace(get_skeleton("lsp14"), name="own")
    rng = np.random.default_rng(1)
    records, frames = [], []
    for number in range(12):
        xy = rng.uniform(20, 180, (14, 2)).astype(np.float32)
        person = Instance(xy, np.full(14, 2), np.ones(14, np.float32), 1.0, np.array([0, 0, 200, 200.0]))
        name = f"images/{number:04d}.jpg"
        extra = {"video_frame": 2 * (number % 4)}
        records.append(Record(number, name, 200, 200, (person,), extra=extra))
        frames.append(FramePoses(number, (person,), file=name))
    dataset = Dataset(skeleton, tuple(records))
    moments = finetune.moment_of(dataset)
    assert moments == [0, 1, 2, 3] * 3
    stream = [(StreamHeader("x", skeleton), frame) for frame in frames]
    labels = finetune.in_units(dataset, moments)
    result = evaluate(labels, stream, metrics=["pck"], match="iou", bootstrap=50)
    assert result["settings"]["units"] == 4 and result["settings"]["unit"] == "videos"
    assert result["all"]["people"] == 12 and result["all"]["PCK@0.2"] == 1.0
    halved = finetune.part(dataset, moments, [1, 2])
    assert [r.file_name for r in halved.records] == [f"images/{n:04d}.jpg" for n in (1, 2, 5, 6, 9, 10)]
    shared = finetune.with_sigmas(dataset, get_skeleton("body19"))
    assert len(shared.skeleton.sigmas) == len(shared.skeleton.keypoints) == 14
