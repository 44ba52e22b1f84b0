"""Identities over time: MOTA, IDF1 and HOTA of people, from similarities between labelled and predicted people.

Sources, each followed to the letter on plain arrays:

- MOTA, MOTP: Bernardin & Stiefelhagen, Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics, 2008.
- IDF1: Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, ECCV Workshops
  2016, arXiv:1609.01775, Sec. 3.
- HOTA: Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, IJCV 2021, arXiv:2009.07736.

Details that the papers leave open are those of JonathonLuiten/TrackEval@32656db (the code of MOTChallenge). The
similarity is OKS in `evaluate`; any in [0, 1] will do. Everything is counted per sequence, in sums that add up over
sequences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.assignment import assign

THRESHOLD = 0.5
ALPHAS = np.arange(1, 20) * 0.05
_EPS = np.finfo(float).eps

CLEAR_SUMS = (
    "labelled", "matched", "misses", "false_positives", "switches", "similarity", "tracks", "mostly_tracked",
    "mostly_lost", "fragmentations",
)  # fmt: skip
IDENTITY_SUMS = ("IDTP", "IDFN", "IDFP")
HOTA_SUMS = ("TP", "FN", "FP", "AssA", "AssRe", "AssPr", "Loc")


@dataclass(frozen=True)
class TrackedFrame:
    """One frame of a sequence.

    Attributes:
        labels: (G,) int64 identities of the labelled people, 0 .. number of labelled tracks - 1, each at most once.
        predicted: (P,) int64 identities of the predicted people, likewise.
        similarity: (G, P) float64 in [0, 1].
    """

    labels: np.ndarray
    predicted: np.ndarray
    similarity: np.ndarray


def _sizes(frames: Sequence[TrackedFrame]) -> tuple[int, int]:
    """Numbers of labelled and predicted identities."""
    return (
        max((int(f.labels.max()) + 1 for f in frames if len(f.labels)), default=0),
        max((int(f.predicted.max()) + 1 for f in frames if len(f.predicted)), default=0),
    )


def clear_mot(frames: Sequence[TrackedFrame], threshold: float = THRESHOLD) -> np.ndarray:
    """(10,) float64, `CLEAR_SUMS` of one sequence.

    Frame by frame, people matched in the frame before stay matched while their similarity is at least the threshold;
    the rest is assigned so that the summed similarity is greatest. A match to another prediction than the last one
    the person was matched to, however long ago, is a switch. A track is mostly tracked above 0.8 of its frames, mostly
    lost below 0.2; fragmentations are the times it was found again. Frames where one side has nobody do not break a
    correspondence.
    """
    num_labels, _ = _sizes(frames)
    last = np.full(num_labels, -1)  # the prediction each person was last matched to
    before = np.full(num_labels, -1)  # the same, in the frame before only
    present, found, starts = (np.zeros(num_labels, np.int64) for _ in range(3))
    sums = dict.fromkeys(CLEAR_SUMS, 0.0)
    for frame in frames:
        g, p = frame.labels, frame.predicted
        present[g] += 1
        sums["labelled"] += len(g)
        if not len(g) or not len(p):
            sums["misses"] += len(g)
            sums["false_positives"] += len(p)
            continue
        # 1000 is more than any sum of similarities in a frame: old correspondences come first.
        value = np.where(p[None, :] == before[g][:, None], 1000.0, 0.0) + frame.similarity
        value[frame.similarity < threshold - _EPS] = 0.0
        rows, columns = assign(-value)
        real = value[rows, columns] > _EPS
        rows, columns = rows[real], columns[real]
        people, partners = g[rows], p[columns]
        sums["switches"] += int(((last[people] >= 0) & (last[people] != partners)).sum())
        untracked = before < 0
        last[people] = partners
        before[:] = -1
        before[people] = partners
        starts += untracked & (before >= 0)
        found[people] += 1
        sums["matched"] += len(rows)
        sums["misses"] += len(g) - len(rows)
        sums["false_positives"] += len(p) - len(rows)
        sums["similarity"] += float(frame.similarity[rows, columns].sum())
    share = found[present > 0] / present[present > 0]
    sums["tracks"] = len(share)
    sums["mostly_tracked"] = int((share > 0.8).sum())
    sums["mostly_lost"] = int((share < 0.2).sum())
    sums["fragmentations"] = int((starts[starts > 0] - 1).sum())
    return np.array([sums[name] for name in CLEAR_SUMS])


def identity(frames: Sequence[TrackedFrame], threshold: float = THRESHOLD) -> np.ndarray:
    """(3,) float64, `IDENTITY_SUMS` of one sequence.

    Whole tracks are assigned one to one so that as many boxes as possible agree (similarity at least the threshold);
    IDTP are these, IDFN and IDFP the rest of the labelled and of the predicted people.
    """
    num_labels, num_predicted = _sizes(frames)
    together = np.zeros((num_labels, num_predicted))
    labelled = predicted = 0
    for frame in frames:
        together[np.ix_(frame.labels, frame.predicted)] += frame.similarity >= threshold
        labelled += len(frame.labels)
        predicted += len(frame.predicted)
    # Leaving a pair unassigned costs its common frames and nothing else, so the greatest sum is the paper's least cost.
    rows, columns = assign(-together)
    true = float(together[rows, columns].sum())
    return np.array([true, labelled - true, predicted - true])


def hota(frames: Sequence[TrackedFrame]) -> np.ndarray:
    """(7, 19) float64, `HOTA_SUMS` of one sequence at each of `ALPHAS`.

    One assignment per frame serves all thresholds: it maximises similarity times the Jaccard index of the two whole
    tracks (counted with the frames' relative similarities). ``AssA``, ``AssRe``, ``AssPr`` and ``Loc`` are sums over
    the true positives, to be divided by ``TP``.
    """
    num_labels, num_predicted = _sizes(frames)
    sums = np.zeros((len(HOTA_SUMS), len(ALPHAS)))
    potential = np.zeros((num_labels, num_predicted))
    label_count, predicted_count = np.zeros((num_labels, 1)), np.zeros((1, num_predicted))
    for frame in frames:
        s = frame.similarity
        total = s.sum(axis=0)[None, :] + s.sum(axis=1)[:, None] - s
        potential[np.ix_(frame.labels, frame.predicted)] += np.divide(s, total, np.zeros(s.shape), where=total > _EPS)
        label_count[frame.labels] += 1
        predicted_count[0, frame.predicted] += 1
    aligned = potential / np.maximum(label_count + predicted_count - potential, _EPS)
    matches = np.zeros((len(ALPHAS), num_labels, num_predicted))
    for frame in frames:
        g, p, s = frame.labels, frame.predicted, frame.similarity
        rows, columns = assign(-(aligned[np.ix_(g, p)] * s))
        values = s[rows, columns]
        for a, alpha in enumerate(ALPHAS):
            real = values >= alpha - _EPS
            count = int(real.sum())
            matches[a, g[rows[real]], p[columns[real]]] += 1
            sums[:3, a] += count, len(g) - count, len(p) - count
            sums[6, a] += values[real].sum()
    sums[3] = (matches * matches / np.maximum(label_count + predicted_count - matches, 1)).sum(axis=(1, 2))
    sums[4] = (matches * matches / np.maximum(label_count, 1)).sum(axis=(1, 2))
    sums[5] = (matches * matches / np.maximum(predicted_count, 1)).sum(axis=(1, 2))
    return sums


def clear_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """MOTA, MOTP (mean similarity of matches) and the counts behind them, from (..., 10) sums; NaN without people."""
    value = dict(zip(CLEAR_SUMS, np.moveaxis(sums, -1, 0), strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        wrong = value["misses"] + value["false_positives"] + value["switches"]
        scores = {
            "MOTA": np.where(value["labelled"] > 0, 1 - wrong / value["labelled"], np.nan),
            "MOTP": value["similarity"] / value["matched"],
        }
    counts = ("misses", "false_positives", "switches", "tracks", "mostly_tracked", "mostly_lost", "fragmentations")
    return scores | {f"MOT_{name}": value[name] for name in counts}


def identity_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """IDF1, IDP, IDR from (..., 3) sums; NaN where there is nobody at all (IDP, IDR: on their side)."""
    true, missed, wrong = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "IDF1": np.where(true + missed > 0, 2 * true / (2 * true + missed + wrong), np.nan),
            "IDP": true / (true + wrong),
            "IDR": true / (true + missed),
        }


def hota_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """HOTA, DetA, AssA and their parts, means over `ALPHAS`, from (..., 7 * 19) sums; NaN without labelled people.

    A threshold at which nothing is matched has association 0; LocA is the mean over those where something is.
    """
    values = sums.reshape(*sums.shape[:-1], len(HOTA_SUMS), len(ALPHAS))
    tp, fn, fp, *rest = np.moveaxis(values, -2, 0)
    nobody = (tp + fn).sum(axis=-1) == 0
    with np.errstate(invalid="ignore", divide="ignore"):
        detection = tp / np.maximum(tp + fn + fp, 1)
        association, recall, precision, where = (part / np.maximum(tp, 1) for part in rest)
        found = (tp > 0).sum(axis=-1)
        scores = {
            "HOTA": np.sqrt(detection * association).mean(axis=-1),
            "DetA": detection.mean(axis=-1),
            "AssA": association.mean(axis=-1),
            "DetRe": (tp / np.maximum(tp + fn, 1)).mean(axis=-1),
            "DetPr": (tp / np.maximum(tp + fp, 1)).mean(axis=-1),
            "AssRe": recall.mean(axis=-1),
            "AssPr": precision.mean(axis=-1),
            "LocA": where.sum(axis=-1) / found,
        }
    return {name: np.where(nobody, np.nan, value) for name, value in scores.items()}


def hota_curve(sums: np.ndarray) -> dict[str, np.ndarray]:
    """HOTA, DetA and AssA (19,) at each of `ALPHAS`, under ``thresholds``, from the (7 * 19,) sums of all sequences."""
    tp, fn, fp, association = sums.reshape(len(HOTA_SUMS), len(ALPHAS))[:4]
    detection = tp / np.maximum(tp + fn + fp, 1)
    association = association / np.maximum(tp, 1)
    return {
        "thresholds": ALPHAS.round(2), "HOTA": np.sqrt(detection * association), "DetA": detection, "AssA": association,
    }  # fmt: skip
