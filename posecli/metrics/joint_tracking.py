"""PoseTrack's MOTA: every joint is an object of its own, tracked under the id of its person.

Source: Andriluka et al., PoseTrack: A Benchmark for Human Pose Estimation and Tracking, CVPR 2018, Sec. 4; official
code leonid-pishchulin/poseval@1ebce28 (`assignGTmulti`, `computeMetrics`), which counts with py-motmetrics. A predicted
joint may be matched to a labelled joint of the same kind at most half a head size away (0.6 of the head box' diagonal).
The total is the mean over joints, of figures that each joint has over all videos.

What poseval does besides is reproduced by ``--compat poseval`` only, see `posecli.metrics.compat`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.assignment import assign

HEAD_SHARE = 0.5
JOINT_SUMS = ("labelled", "matched", "misses", "false_positives", "switches", "distance")
_FAR = 1e6  # dearer than any sum of distances below the threshold


@dataclass(frozen=True)
class JointFrame:
    """One frame of a video: G labelled and P predicted people with K joints.

    Attributes:
        labels: (G,) int64 identities, each at most once; predicted: (P,) likewise.
        labelled: (G, K) bool: joint is labelled; found: (P, K) bool: joint is predicted.
        distance: (G, P, K) float64 pixels over the labelled person's head size.
    """

    labels: np.ndarray
    predicted: np.ndarray
    labelled: np.ndarray
    found: np.ndarray
    distance: np.ndarray


def joint_mota_sums(frames: Sequence[JointFrame], num_joints: int, *, placeholders: bool = False) -> np.ndarray:
    """(6, K) float64, `JOINT_SUMS` of one video.

    Per joint, as py-motmetrics: a person keeps the prediction last matched while both are there and close enough, also
    across gaps; the rest is assigned one to one, as many as possible, then with the least sum of distances. A match to
    another prediction than the last one is a switch.

    Args:
        placeholders: poseval's rule for frames in which one side has nobody: each joint counts one miss and one false
            positive, however many people are labelled.
    """
    sums = np.zeros((len(JOINT_SUMS), num_joints))
    last: list[dict[int, int]] = [{} for _ in range(num_joints)]
    for frame in frames:
        if placeholders and not (len(frame.labels) and len(frame.predicted)):
            sums[0] += 1
            sums[2] += 1
            sums[3] += 1
            continue
        for k in range(num_joints):
            g, p = np.flatnonzero(frame.labelled[:, k]), np.flatnonzero(frame.found[:, k])
            near = frame.distance[np.ix_(g, p, np.array([k]))][..., 0]
            matched, switches, length = _match(frame.labels[g], frame.predicted[p], near, last[k])
            sums[:, k] += len(g), matched, len(g) - matched, len(p) - matched, switches, length
    return sums


def _match(
    labels: np.ndarray, predicted: np.ndarray, distance: np.ndarray, last: dict[int, int]
) -> tuple[int, int, float]:
    """Numbers of matches and switches, and the summed distance; updates ``last``."""
    allowed = distance <= HEAD_SHARE
    place = {int(p): j for j, p in enumerate(predicted)}
    pairs = []
    for i, person in enumerate(labels.tolist()):
        j = place.get(last.get(person, -1), -1)
        if j >= 0 and allowed[i, j]:
            pairs.append((i, j))
            allowed[i, :] = False
            allowed[:, j] = False
    rest = np.zeros(0, np.int64)
    if allowed.any():
        cost = np.where(allowed, distance, _FAR)
        rows, columns = assign(cost)
        rest = np.flatnonzero(allowed[rows, columns])
        pairs += [(int(rows[r]), int(columns[r])) for r in rest]
    switches = 0
    for i, j in pairs:
        person, partner = int(labels[i]), int(predicted[j])
        switches += last.get(person, partner) != partner
        last[person] = partner
    return len(pairs), switches, float(sum(distance[i, j] for i, j in pairs))


def joint_scores(sums: np.ndarray) -> dict[str, np.ndarray]:
    """MOTA, MOTP, precision and recall of each joint, (..., K), from (..., 6, K) sums; NaN for joints never labelled.

    MOTP is 1 - the mean distance of the matches in head sizes.
    """
    labelled, matched, misses, wrong, switches, distance = np.moveaxis(sums, -2, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "PoseTrack_MOTA": np.where(labelled > 0, 1 - (misses + wrong + switches) / labelled, np.nan),
            "PoseTrack_MOTP": 1 - distance / matched,
            "PoseTrack_precision": matched / (matched + wrong),
            "PoseTrack_recall": matched / labelled,
        }


def joint_mean(scores: np.ndarray) -> np.ndarray:
    """(...) mean over the joints that have a figure; NaN when none has."""
    there = ~np.isnan(scores)
    with np.errstate(invalid="ignore"):
        return np.where(there, scores, 0.0).sum(axis=-1) / there.sum(axis=-1)


def inside_polygons(xy: np.ndarray, polygons: Sequence[np.ndarray]) -> np.ndarray:
    """(...) bool: points (..., 2) that lie inside one of the polygons, each (M, 2), by the even-odd rule."""
    inside = np.zeros(xy.shape[:-1], bool)
    x, y = xy[..., 0], xy[..., 1]
    for polygon in polygons:
        odd = np.zeros(inside.shape, bool)
        for (ax, ay), (bx, by) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if ay != by:
                odd ^= ((ay > y) != (by > y)) & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
        inside |= odd
    return inside
