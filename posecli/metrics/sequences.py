"""People of label and prediction files as sequences for the tracking metrics: who takes part, under which identity.

Each video of the labels is a sequence of its labelled frames. Predicted people at or above their stream's display
threshold take part. Labelled people who do not count (crowds, too few joints) and ignore regions leave out the
predictions on them: a prediction that resembles nobody who counts (OKS below 0.5) but somebody who does not, or whose
joints lie mostly inside a region, is neither right nor wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from posecli.errors import PoseError
from posecli.metrics import joint_tracking, tracking
from posecli.metrics.joint_tracking import JointFrame
from posecli.metrics.people import LabelFrames, People
from posecli.metrics.side import SequenceSums
from posecli.metrics.tracking import TrackedFrame

PEOPLE_METRICS = ("mota", "idf1", "hota")
TRACKING_METRICS = (*PEOPLE_METRICS, "posetrack")


@dataclass(frozen=True)
class Tracked:
    """Labels and predictions on the joints compared.

    Attributes:
        frames: of the labels; used: (F,) bool frames that count.
        labels: (N,) people; counted: (N,) bool those that are to be found.
        predicted: (M,) people; at: (M,) labelled frame of each, -1 for none; shown: (M,) bool above the threshold.
        pairs: ``(label, prediction)`` of everybody in the same frame; similarity: OKS of these.
        head: (N,) head sizes in pixels, NaN for none.
    """

    frames: LabelFrames
    used: np.ndarray
    labels: People
    counted: np.ndarray
    predicted: People
    at: np.ndarray
    shown: np.ndarray
    pairs: tuple[np.ndarray, np.ndarray]
    similarity: np.ndarray
    head: np.ndarray


@dataclass(frozen=True)
class TrackingResult:
    """Sums per video by metric, what was left out and why, and the curve of HOTA over its thresholds."""

    sequences: dict[str, SequenceSums]
    counts: dict[str, int]
    notes: tuple[str, ...]
    curve: dict[str, np.ndarray] = field(default_factory=dict)


def track_sides(
    data: Tracked,
    metrics: tuple[str, ...],
    joints: tuple[str, ...],
    *,
    threshold: float = tracking.THRESHOLD,
    poseval: bool = False,
) -> TrackingResult:
    """The tracking metrics asked for.

    Args:
        metrics: of `TRACKING_METRICS`.
        joints: K names.
        threshold: OKS from which on two people are the same, for MOTA and IDF1 and for who is beside the point.
        poseval: PoseTrack's figures with the habits of poseval (`posecli.metrics.compat`).

    Raises:
        PoseError: an identity stands twice in a frame.
    """
    frames = data.frames
    in_video = data.used & (frames.video >= 0)
    here = in_video & frames.labelled
    videos = np.unique(frames.video[here])
    inside = _regions(data)
    similar = np.zeros(len(data.predicted))
    mine = data.counted[data.pairs[0]]
    np.maximum.at(similar, data.pairs[1][mine], data.similarity[mine])
    base = data.shown & (data.at >= 0) & (data.predicted.visibility > 0).any(axis=1)
    base[base] &= here[data.at[base]]
    counts = {
        "videos": len(videos),
        "frames": int(here.sum()),
        "frames_without_video": int((data.used & (frames.video < 0)).sum()),
        "frames_not_labelled": int(((frames.video >= 0) & ~frames.labelled).sum()),
        "people_below_threshold": int(((data.at >= 0) & ~data.shown).sum()),
    }
    notes = _refusals(data, here, base, bool(len(videos)))
    if notes:
        return TrackingResult({}, counts, notes)
    sequences: dict[str, SequenceSums] = {}
    curve: dict[str, np.ndarray] = {}
    people_here = here[data.labels.frame]
    if any(m in metrics for m in PEOPLE_METRICS):
        taking_part = base & ~_beside_the_point(data, data.counted, similar, inside, threshold)
        counts["predicted_on_ignored"] = int((base & ~taking_part).sum())
        counted = data.counted & people_here
        _count(counts, data, counted, taking_part)
        lists = [list(_people_frames(data, v, here, counted, taking_part)) for v in videos]
        if "mota" in metrics:
            sums = np.array([tracking.clear_mot(f, threshold) for f in lists])
            sequences["mota"] = SequenceSums(videos, sums, tracking.clear_scores)
        if "idf1" in metrics:
            sums = np.array([tracking.identity(f, threshold) for f in lists])
            sequences["idf1"] = SequenceSums(videos, sums, tracking.identity_scores)
        if "hota" in metrics:
            sums = np.array([tracking.hota(f).ravel() for f in lists])
            sequences["hota"] = SequenceSums(videos, sums, tracking.hota_scores)
            curve = tracking.hota_curve(sums.sum(axis=0))
    if "posetrack" in metrics:
        sized = data.counted & people_here & ~np.isnan(data.head)
        counts["people_without_head_size"] = int((data.counted & people_here & np.isnan(data.head)).sum())
        if sized.any():
            near = np.zeros(len(data.predicted))
            mine = sized[data.pairs[0]]
            np.maximum.at(near, data.pairs[1][mine], data.similarity[mine])
            left_out = np.zeros(len(base), bool) if poseval else _beside_the_point(data, sized, near, None, threshold)
            taking_part = base & ~left_out
            counts["predicted_on_ignored_joints"] = int((base & left_out).sum())
            _count(counts, data, sized, taking_part)
            sums = np.array([_joint_sums(data, v, here, sized, taking_part, inside, poseval) for v in videos])
            sequences["posetrack"] = _joint_sequences(videos, sums, joints)
        else:
            notes = ("no PoseTrack MOTA: nobody has a head box, and the skeleton's head segment is not labelled",)
    return TrackingResult(sequences, counts, notes, curve)


def _joint_sequences(videos: np.ndarray, sums: np.ndarray, joints: tuple[str, ...]) -> SequenceSums:
    def by_joint(values: np.ndarray) -> dict[str, np.ndarray]:
        return joint_tracking.joint_scores(values.reshape(*values.shape[:-1], -1, len(joints)))

    def total(values: np.ndarray) -> dict[str, np.ndarray]:
        return {key: joint_tracking.joint_mean(shares) for key, shares in by_joint(values).items()}

    return SequenceSums(videos, sums.reshape(len(videos), -1), total, joints, by_joint)


def _refusals(data: Tracked, here: np.ndarray, base: np.ndarray, videos: bool) -> tuple[str, ...]:
    if not videos:
        return ("no tracking metrics: no labelled frame belongs to a video",)
    tracks = data.labels.track[data.counted & here[data.labels.frame]]
    if len(tracks) and (tracks < 0).all():
        return ("no tracking metrics: the labelled people carry no track_id",)
    if base.any() and (data.predicted.track[base] < 0).all():
        return ("no tracking metrics: the predicted people carry no ids (infer --track oks gives them)",)
    return ()


def _count(counts: dict[str, int], data: Tracked, people: np.ndarray, taking_part: np.ndarray) -> None:
    counts["people_without_track_id"] = int((data.labels.track[people] < 0).sum())
    counts["predicted_without_id"] = int((data.predicted.track[taking_part] < 0).sum())


def _beside_the_point(
    data: Tracked, counted: np.ndarray, similar: np.ndarray, inside: np.ndarray | None, threshold: float
) -> np.ndarray:
    """(M,) bool: predictions on people or in regions that do not count, and on nobody who does."""
    other = np.zeros(len(data.predicted))
    theirs = (~counted & ~_drawn_regions(data))[data.pairs[0]]
    np.maximum.at(other, data.pairs[1][theirs], data.similarity[theirs])
    hidden = other >= threshold
    if inside is not None:
        found = data.predicted.visibility > 0
        hidden |= 2 * (inside & found).sum(axis=1) > np.maximum(found.sum(axis=1), 1)
    return hidden & (similar < threshold)


def _drawn_regions(data: Tracked) -> np.ndarray:
    """(N,) bool: regions without joints whose polygon is known; that says more than their box."""
    known = np.zeros(len(data.frames), bool)
    known[[row for row, polygons in data.frames.ignore_regions.items() if polygons]] = True
    return data.labels.ignore & (data.labels.visibility == 0).all(axis=1) & known[data.labels.frame]


def _regions(data: Tracked) -> np.ndarray:
    """(M, K) bool: predicted joints inside an ignore region of their frame."""
    return _inside(data.predicted.xy, data.at, data.frames)


def _inside(xy: np.ndarray, frame: np.ndarray, frames: LabelFrames) -> np.ndarray:
    inside = np.zeros(xy.shape[:2], bool)
    for row, polygons in frames.ignore_regions.items():
        mine = frame == row
        if polygons and mine.any():
            inside[mine] = joint_tracking.inside_polygons(xy[mine], polygons)
    return inside


def _identities(track: np.ndarray, rows: np.ndarray, frame: np.ndarray, name: Callable[[int, int], str]) -> np.ndarray:
    """(len(rows),) identities 0, 1, ...; people without one are each their own."""
    ids = track[rows].copy()
    known = ids >= 0
    pair = np.stack([frame[rows], ids], axis=1)[known]
    _, first, count = np.unique(pair, axis=0, return_index=True, return_counts=True)
    if (count > 1).any():
        where, who = pair[first[count > 1][0]]
        raise PoseError(f"identity {who} stands twice in one frame", name(int(where), int(who)))
    start = int(ids.max(initial=0)) + 1
    ids[~known] = start + np.arange((~known).sum())
    return np.unique(ids, return_inverse=True)[1].reshape(-1)


def _frame_rows(data: Tracked, video: int, here: np.ndarray) -> np.ndarray:
    """Rows of a video's frames, in order of time."""
    rows = np.flatnonzero(here & (data.frames.video == video))
    return rows[np.argsort(data.frames.frame_id[rows], kind="stable")]


def _take_apart(
    data: Tracked, video: int, here: np.ndarray, counted: np.ndarray, taking_part: np.ndarray
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """``(frame row, label rows, their identities, prediction rows, their identities)`` of each frame of a video."""
    rows = _frame_rows(data, video, here)

    def named(kind: str) -> Callable[[int, int], str]:
        return lambda f, _: f"{kind} of {data.frames.videos[video].name}, frame {data.frames.frame_id[f]}"

    sides = []
    for people, at, chosen, kind in (
        (data.labels, data.labels.frame, counted, "labels"),
        (data.predicted, data.at, taking_part, "predictions"),
    ):
        mine = np.flatnonzero(chosen & np.isin(at, rows))
        ids = _identities(people.track, mine, at, named(kind))
        order = np.argsort(at[mine], kind="stable")
        mine, ids = mine[order], ids[order]
        low, high = (np.searchsorted(at[mine], rows, side) for side in ("left", "right"))
        sides.append((mine, ids, low, high))
    (g, gi, gl, gh), (p, pi, pl, ph) = sides
    for n, row in enumerate(rows):
        yield int(row), g[gl[n] : gh[n]], gi[gl[n] : gh[n]], p[pl[n] : ph[n]], pi[pl[n] : ph[n]]


def _people_frames(
    data: Tracked, video: int, here: np.ndarray, counted: np.ndarray, taking_part: np.ndarray
) -> Iterator[TrackedFrame]:
    label, prediction = data.pairs
    use = np.flatnonzero(counted[label] & taking_part[prediction])
    use = use[data.frames.video[data.labels.frame[label[use]]] == video]
    order = use[np.argsort(data.labels.frame[label[use]], kind="stable")]
    frame_of = data.labels.frame[label[order]]
    place = np.zeros(len(data.labels), np.int64), np.zeros(len(data.predicted), np.int64)
    for row, g, ids, p, predicted_ids in _take_apart(data, video, here, counted, taking_part):
        place[0][g], place[1][p] = np.arange(len(g)), np.arange(len(p))
        low, high = np.searchsorted(frame_of, row, "left"), np.searchsorted(frame_of, row, "right")
        mine = order[low:high]
        similarity = np.zeros((len(g), len(p)))
        similarity[place[0][label[mine]], place[1][prediction[mine]]] = data.similarity[mine]
        yield TrackedFrame(ids, predicted_ids, similarity)


def _joint_sums(
    data: Tracked, video: int, here: np.ndarray, sized: np.ndarray, taking_part: np.ndarray,
    inside: np.ndarray, poseval: bool,
) -> np.ndarray:  # fmt: skip
    """(6, K) `joint_tracking.JOINT_SUMS` of one video."""
    labelled_inside = _inside(data.labels.xy, data.labels.frame, data.frames)
    count = data.labels.xy.shape[1]
    frames = []
    for _, g, ids, p, predicted_ids in _take_apart(data, video, here, sized, taking_part):
        labelled = (data.labels.visibility[g] > 0) & ~labelled_inside[g]
        found = (data.predicted.visibility[p] > 0) & ~inside[p]
        some_g, some_p = labelled.any(axis=1), found.any(axis=1)
        if poseval and not len(g):
            continue
        g, ids, labelled = g[some_g], ids[some_g], labelled[some_g]
        p, predicted_ids, found = p[some_p], predicted_ids[some_p], found[some_p]
        offset = data.labels.xy[g][:, None] - data.predicted.xy[p][None]
        distance = np.hypot(offset[..., 0], offset[..., 1]) / data.head[g][:, None, None]
        frames.append(JointFrame(ids, predicted_ids, labelled, found, distance))
    if poseval:
        frames = frames[:-1]
    return joint_tracking.joint_mota_sums(frames, count, placeholders=poseval)
