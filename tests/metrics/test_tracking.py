"""Identities over time: hand-worked cases, and the papers' definitions computed by brute force."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.metrics import joint_tracking, tracking
from posecli.metrics.joint_tracking import JointFrame
from posecli.metrics.tracking import TrackedFrame


def frame(labels, predicted, similarity) -> TrackedFrame:
    shape = (len(labels), len(predicted))
    return TrackedFrame(
        np.array(labels, np.int64), np.array(predicted, np.int64), np.array(similarity, float).reshape(shape)
    )


def scores(frames) -> dict[str, float]:
    found = tracking.clear_scores(tracking.clear_mot(frames))
    found |= tracking.identity_scores(tracking.identity(frames))
    found |= tracking.hota_scores(tracking.hota(frames).ravel())
    return {key: float(value) for key, value in found.items()}


EYE = np.eye(2)


def test_perfect() -> None:
    row = scores([frame([0, 1], [0, 1], EYE)] * 3)
    for key in ("MOTA", "MOTP", "IDF1", "IDP", "IDR", "HOTA", "DetA", "AssA", "LocA"):
        assert row[key] == pytest.approx(1), key
    assert row["MOT_mostly_tracked"] == row["MOT_tracks"] == 2
    assert row["MOT_switches"] == row["MOT_fragmentations"] == row["MOT_mostly_lost"] == 0


def test_ids_that_swap_half_way() -> None:
    # Two people, four frames, all found; after two frames the ids trade places.
    row = scores([frame([0, 1], [0, 1], EYE)] * 2 + [frame([0, 1], [1, 0], EYE)] * 2)
    assert row["MOT_switches"] == 2
    assert row["MOTA"] == pytest.approx(1 - 2 / 8)
    assert row["IDF1"] == pytest.approx(0.5)  # whichever way ids are assigned, 4 of 8 agree
    # Each true positive: 2 of its kind (TPA), 2 labels (FNA) and 2 predictions (FPA) elsewhere: 2 / 6.
    assert row["DetA"] == pytest.approx(1)
    assert row["AssA"] == pytest.approx(1 / 3)
    assert row["HOTA"] == pytest.approx(math.sqrt(1 / 3))


def test_misses_and_false_positives() -> None:
    # Person 0 in three frames; found in the first, missed in the second, found by another id in the third, where
    # prediction 2 is on nobody. Similarity 0.8.
    frames = [frame([0], [0], [[0.8]]), frame([0], [], []), frame([0], [1, 2], [[0.8, 0.0]])]
    row = scores(frames)
    assert (row["MOT_misses"], row["MOT_false_positives"], row["MOT_switches"]) == (1, 1, 1)
    assert row["MOTA"] == pytest.approx(1 - 3 / 3)
    assert row["MOTP"] == pytest.approx(0.8)
    # IDTP 1, IDFN 2, IDFP 2: 2 * 1 / (2 + 2 + 2).
    assert row["IDF1"] == pytest.approx(1 / 3)
    # Up to alpha 0.8 (16 of 19 thresholds): TP 2, FN 1, FP 1, DetA 1/2; each match: TPA 1, FNA 2, FPA 0, AssA 1/3.
    assert row["HOTA"] == pytest.approx(16 / 19 * math.sqrt(1 / 2 * 1 / 3))
    assert row["MOT_mostly_tracked"] == row["MOT_mostly_lost"] == 0  # 2 of 3 frames


def test_a_correspondence_is_kept_while_it_is_good_enough() -> None:
    # In the second frame prediction 1 fits better, but 0 still fits: no switch. In the third 0 no longer does.
    frames = [
        frame([0], [0, 1], [[0.9, 0.1]]),
        frame([0], [0, 1], [[0.6, 0.9]]),
        frame([0], [0, 1], [[0.4, 0.9]]),
    ]
    assert scores(frames[:2])["MOT_switches"] == 0
    assert scores(frames)["MOT_switches"] == 1


def test_equality_with_the_threshold_counts() -> None:
    assert scores([frame([0], [0], [[0.5]])])["MOTA"] == 1
    assert scores([frame([0], [0], [[0.4999]])])["MOTA"] == -1


def test_nobody_anywhere_gives_no_figure() -> None:
    row = scores([frame([], [], [])])
    assert all(math.isnan(row[key]) for key in ("MOTA", "IDF1", "HOTA"))
    lost = scores([frame([0], [], [])] * 3)
    assert lost["MOTA"] == lost["IDF1"] == lost["HOTA"] == 0
    assert math.isnan(lost["MOTP"])
    invented = scores([frame([], [0], [])])
    assert math.isnan(invented["MOTA"])


def test_sums_add_up_over_sequences() -> None:
    """Figures of two sequences come from their summed counts; HOTA's association is weighed by true positives."""
    one = [frame([0, 1], [0, 1], EYE)] * 4
    two = [frame([0], [0], [[0.6]]), frame([0], [1], [[0.6]])]
    hota = tracking.hota(one) + tracking.hota(two)
    total = tracking.hota_scores(hota.ravel())
    # alpha <= 0.6 (12 thresholds): DetA 1, AssA (8 * 1 + 2 * 1/2) / 10; above: TP 8, FN 2, FP 2, AssA 1.
    expected = (12 * math.sqrt(0.9) + 7 * math.sqrt(8 / 12)) / 19
    assert float(total["HOTA"]) == pytest.approx(expected)
    mota = tracking.clear_scores(tracking.clear_mot(one) + tracking.clear_mot(two))["MOTA"]
    assert float(mota) == pytest.approx(1 - 1 / 10)


def random_frames(seed: int, length: int = 6) -> list[TrackedFrame]:
    random = np.random.default_rng(seed)
    frames = []
    for _ in range(length):
        g = random.permutation(3)[: random.integers(0, 4)]
        p = random.permutation(4)[: random.integers(0, 4)]
        # Some stand on a threshold exactly; what is added makes the best assignment the only one.
        similarity = random.random((len(g), len(p))).round(2) ** 0.5
        frames.append(frame(g, p, similarity + 1e-6 * random.random(similarity.shape) * (1 - similarity)))
    return frames


def injections(rows: int, columns: int):
    """All ways to assign the smaller side to the larger one, as lists of pairs."""
    if rows <= columns:
        for chosen in itertools.permutations(range(columns), rows):
            yield list(enumerate(chosen))
    else:
        for chosen in itertools.permutations(range(rows), columns):
            yield [(r, c) for c, r in enumerate(chosen)]


def best(value: np.ndarray) -> list[tuple[int, int]]:
    return max(injections(*value.shape), key=lambda pairs: sum(value[r, c] for r, c in pairs))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_idf1_is_the_best_assignment_of_whole_tracks(seed) -> None:
    frames = random_frames(seed)
    labelled, predicted = sum(len(f.labels) for f in frames), sum(len(f.predicted) for f in frames)
    agree = np.zeros((3, 4))
    for f in frames:
        for i, g in enumerate(f.labels):
            for j, p in enumerate(f.predicted):
                agree[g, p] += f.similarity[i, j] >= 0.5
    true = max(sum(agree[r, c] for r, c in pairs) for pairs in injections(3, 4))
    assert tracking.identity(frames).tolist() == [true, labelled - true, predicted - true]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_hota_by_its_definition(seed) -> None:
    """Eq. 8 to 16 of the paper: every true positive by itself, with the paper's global assignment."""
    frames = random_frames(seed)
    overlap: dict[tuple[int, int], float] = {}
    of_label, of_predicted = np.zeros(3), np.zeros(4)
    for f in frames:
        np.add.at(of_label, f.labels, 1)
        np.add.at(of_predicted, f.predicted, 1)
        s = f.similarity
        for (i, g), (j, p) in itertools.product(enumerate(f.labels), enumerate(f.predicted)):
            union = s[i].sum() + s[:, j].sum() - s[i, j]
            overlap[g, p] = overlap.get((g, p), 0.0) + (s[i, j] / union if union else 0.0)
    expected = []
    chosen = []
    for f in frames:
        value = np.array(
            [
                [overlap[g, p] / (of_label[g] + of_predicted[p] - overlap[g, p]) * f.similarity[i, j]
                 for j, p in enumerate(f.predicted)]
                for i, g in enumerate(f.labels)
            ]
        ).reshape(f.similarity.shape)  # fmt: skip
        chosen.append(best(value))
    for alpha in tracking.ALPHAS:
        hits = [
            (f.labels[r], f.predicted[c])
            for f, pairs in zip(frames, chosen, strict=True)
            for r, c in pairs
            if f.similarity[r, c] >= alpha - 1e-12
        ]
        shares = []
        for g, p in hits:
            tpa = sum(hit == (g, p) for hit in hits)
            fna, fpa = of_label[g] - tpa, of_predicted[p] - tpa
            shares.append(tpa / (tpa + fna + fpa))
        wrong = of_label.sum() + of_predicted.sum() - 2 * len(hits)
        expected.append(math.sqrt(sum(shares) / (len(hits) + wrong)) if hits else 0.0)
    if of_label.sum():
        assert scores(frames)["HOTA"] == pytest.approx(np.mean(expected))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mota_by_its_definition(seed) -> None:
    frames = random_frames(seed)
    last: dict[int, int] = {}
    before: dict[int, int] = {}
    misses = wrong = switches = 0
    for f in frames:
        if not len(f.labels) or not len(f.predicted):
            misses, wrong = misses + len(f.labels), wrong + len(f.predicted)
            continue
        value = np.where(f.similarity >= 0.5, f.similarity, 0.0)
        for i, g in enumerate(f.labels):
            for j, p in enumerate(f.predicted):
                value[i, j] += 1000 * (before.get(g) == p and value[i, j] > 0)
        pairs = [(f.labels[r], f.predicted[c]) for r, c in best(value) if value[r, c] > 0]
        switches += sum(g in last and last[g] != p for g, p in pairs)
        misses, wrong = misses + len(f.labels) - len(pairs), wrong + len(f.predicted) - len(pairs)
        before = dict(pairs)
        last |= before
    sums = dict(zip(tracking.CLEAR_SUMS, tracking.clear_mot(frames), strict=True))
    assert (sums["misses"], sums["false_positives"], sums["switches"]) == (misses, wrong, switches)


def joint_frame(labels, predicted, distance, labelled=None, found=None) -> JointFrame:
    distance = np.array(distance, float).reshape(len(labels), len(predicted), -1)
    count = distance.shape[2]
    return JointFrame(
        np.array(labels, np.int64),
        np.array(predicted, np.int64),
        np.ones((len(labels), count), bool) if labelled is None else np.array(labelled, bool),
        np.ones((len(predicted), count), bool) if found is None else np.array(found, bool),
        distance,
    )


def test_posetrack_by_hand() -> None:
    # One person with two joints, one prediction, three frames. Joint 0 is found within half a head in all, with the id
    # of the prediction changing in the third; joint 1 is 0.6 heads off in the second and not predicted in the third.
    frames = [
        joint_frame([0], [0], [[[0.1, 0.5]]]),
        joint_frame([0], [0], [[[0.2, 0.6]]]),
        joint_frame([0], [1], [[[0.3, 0.0]]], found=[[True, False]]),
    ]
    sums = joint_tracking.joint_mota_sums(frames, 2)
    assert sums.T.tolist() == [[3, 3, 0, 0, 1, pytest.approx(0.6)], [3, 1, 2, 1, 0, 0.5]]
    by_joint = joint_tracking.joint_scores(sums)
    assert by_joint["PoseTrack_MOTA"] == pytest.approx([1 - 1 / 3, 1 - 3 / 3])
    assert by_joint["PoseTrack_MOTP"] == pytest.approx([0.8, 0.5])
    assert by_joint["PoseTrack_precision"] == pytest.approx([1, 1 / 2])
    assert by_joint["PoseTrack_recall"] == pytest.approx([1, 1 / 3])
    assert float(joint_tracking.joint_mean(by_joint["PoseTrack_MOTA"])) == pytest.approx(1 / 3)


def test_posetrack_keeps_correspondences_across_gaps() -> None:
    """py-motmetrics remembers; the nearer prediction comes second to the known one."""
    frames = [
        joint_frame([0], [0], [[[0.1]]]),
        joint_frame([0], [1], [[[0.9]]], found=[[False]]),
        joint_frame([0], [1, 0], [[[0.1], [0.4]]]),
    ]
    sums = joint_tracking.joint_mota_sums(frames, 1)[:, 0]
    assert sums.tolist() == [3, 2, 1, 1, 0, pytest.approx(0.5)]


def test_posetrack_matches_as_many_as_possible() -> None:
    # Greedy by distance would take (0, 0) at 0.0 and leave person 1, whose only candidate is prediction 0.
    sums = joint_tracking.joint_mota_sums([joint_frame([0, 1], [0, 1], [[[0.0], [0.5]], [[0.4], [0.9]]])], 1)[:, 0]
    assert sums.tolist() == [2, 2, 0, 0, 0, pytest.approx(0.9)]


def test_joints_never_labelled_do_not_enter_the_mean() -> None:
    sums = joint_tracking.joint_mota_sums([joint_frame([0], [0], [[[0.0, 0.0]]], labelled=[[True, False]])], 2)
    values = joint_tracking.joint_scores(sums)["PoseTrack_MOTA"]
    assert values[0] == 1
    assert math.isnan(values[1])
    assert float(joint_tracking.joint_mean(values)) == 1
    assert math.isnan(float(joint_tracking.joint_mean(np.full(3, np.nan))))


def test_placeholders_of_poseval() -> None:
    empty = JointFrame(
        np.arange(3), np.zeros(0, np.int64), np.ones((3, 2), bool), np.zeros((0, 2), bool), np.zeros((3, 0, 2))
    )
    assert joint_tracking.joint_mota_sums([empty], 2)[:, 0].tolist() == [3, 0, 3, 0, 0, 0]
    assert joint_tracking.joint_mota_sums([empty], 2, placeholders=True)[:, 0].tolist() == [1, 0, 1, 1, 0, 0]


def test_points_in_polygons() -> None:
    square = np.array([[0.0, 0], [10, 0], [10, 10], [0, 10]])
    arrow = np.array([[20.0, 0], [30, 0], [30, 10], [25, 5], [20, 10]])
    points = np.array([[5.0, 5], [15, 5], [25, 4], [25, 8], [21, 8]])
    inside = joint_tracking.inside_polygons(points, [square, arrow])
    assert inside.tolist() == [True, False, True, False, True]
