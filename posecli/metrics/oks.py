"""Object keypoint similarity (OKS), mean OKS, and average precision and recall over it.

Source: Lin et al., Microsoft COCO (2014) and the COCO keypoint evaluation, cocodataset.org/#keypoints-eval; agrees with
pycocotools' `COCOeval` for keypoints (cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py), with these differences:
any number of joints, sigmas given by the skeleton, a joint that was not found counts 0, and label ids may be 0.

    OKS = mean over labelled joints of exp(-d^2 / (2 area (2 sigma)^2))

Where pycocotools loops over pictures, thresholds and detections, everything here runs over all pictures at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecli.errors import PoseError
from posecli.metrics.people import joint_boxes_xywh
from posecli.types import Skeleton

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
AREA_RANGES = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MAX_DETECTIONS = 20

# Where a person's area came from, by preference.
AREA_RULES = ("mask", "given", "0.53 of the joint box", "0.53 of the given box", "none")

_PAIRS_AT_ONCE = 1 << 12  # bounds memory, and keeps the temporaries of 17 joints in the cache


def require_sigmas(skeleton: Skeleton) -> np.ndarray:
    """(K,) float64 sigmas of the skeleton; PoseError when it has none, because guessed ones would mean nothing."""
    if not skeleton.sigmas:
        raise PoseError(
            "OKS needs one sigma per joint and this skeleton has none",
            f"skeleton {skeleton.name!r}",
            "add sigmas to the data set's skeleton (skeleton.toml, --skeleton), or leave oks out of --metrics "
            "and choose --match iou or top-score",
        )
    return np.asarray(skeleton.sigmas, np.float64)


def resolve_areas(
    given: np.ndarray, has_mask: np.ndarray, xy: np.ndarray, visibility: np.ndarray, box_xywh: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The area OKS uses, and by which of `AREA_RULES`.

    A mask's area first, then a given one, then 0.53 of the box around the labelled joints (0.53 is COCO's mean ratio
    of mask to box), then 0.53 of the given box (one joint alone has no box). Areas that are not positive count as
    not given.

    Args:
        given: (N,) areas, NaN for none.
        has_mask: (N,) bool: the given area is a mask's.
        xy: (N, K, 2); visibility: (N, K); box_xywh: (N, 4), NaN for none.

    Returns:
        (N,) float64 areas, NaN where no rule applies; (N,) int8 indices into `AREA_RULES`.
    """
    joint_boxes = joint_boxes_xywh(xy, visibility)
    choices = [
        np.where(has_mask, given, np.nan),
        given,
        0.53 * joint_boxes[:, 2] * joint_boxes[:, 3],
        0.53 * box_xywh[:, 2] * box_xywh[:, 3],
    ]
    area = np.full(len(given), np.nan)
    rule = np.full(len(given), len(choices), np.int8)
    for number, choice in reversed(list(enumerate(choices))):
        usable = choice > 0
        area[usable], rule[usable] = choice[usable], number
    return area, rule


MOST_PAIRS = 5_000_000


def same_frame_pairs(frame_a: np.ndarray, frame_b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices ``(a, b)`` of all pairs that stand in the same frame, in the order of a, then of b.

    Args:
        frame_a: (A,) int; frame_b: (B,) int. Negative frames meet nobody.

    Raises:
        PoseError: more than `MOST_PAIRS` of them in one frame: thousands of people, each beside each.
    """
    order = np.argsort(frame_b, kind="stable")
    ordered = frame_b[order]
    start = np.searchsorted(ordered, frame_a, "left")
    count = np.where(frame_a >= 0, np.searchsorted(ordered, frame_a, "right") - start, 0)
    together = np.sort(frame_a[count > 0])
    same = np.searchsorted(together, frame_a, "right") - np.searchsorted(together, frame_a, "left")
    most = int((count * same).max(initial=0))
    if most > MOST_PAIRS:
        raise PoseError(f"one frame has {most} pairs of people to compare", hint="are all people in one frame?")
    a = np.repeat(np.arange(len(frame_a)), count)
    within = np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    return a, order[np.repeat(start, count) + within]


def joint_similarities(
    gt_xy: np.ndarray, pred_xy: np.ndarray, pred_found: np.ndarray, area: np.ndarray, sigmas: np.ndarray
) -> np.ndarray:
    """(N, K) ``exp(-d^2 / (2 area (2 sigma)^2))`` of N pairs; 0 where the joint was not found.

    Args:
        gt_xy, pred_xy: (N, K, 2) pixels; pred_found: (N, K) bool; area: (N,) pixels^2; sigmas: (K,).
    """
    offset = np.where(pred_found[..., None], pred_xy, np.inf) - gt_xy
    return _similarities(offset[..., 0], offset[..., 1], area, sigmas)


def _similarities(dx: np.ndarray, dy: np.ndarray, area: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """`joint_similarities` of (N, K) distances, infinite for joints not found; overwrites them."""
    # The order of operations is pycocotools', so that ties fall alike.
    with np.errstate(over="ignore"):
        dx *= dx
        dy *= dy
        dx += dy
        dx /= (sigmas * 2) ** 2
        dx /= (area + np.spacing(1))[:, None]
        dx /= -2
        return np.exp(dx, out=dx)


def oks_of_pairs(
    gt_index: np.ndarray,
    pred_index: np.ndarray,
    gt_xy: np.ndarray,
    gt_visibility: np.ndarray,
    gt_box_xywh: np.ndarray,
    area: np.ndarray,
    pred_xy: np.ndarray,
    pred_visibility: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(P,) OKS of the pairs ``(gt_index, pred_index)``.

    A labelled person without labelled joints is a region to ignore: as in COCO, distances are then measured to its box
    enlarged by its own size on each side (0 without a box).
    """
    result = np.zeros(len(gt_index))
    seen = gt_visibility > 0
    found = pred_visibility > 0
    count = seen.sum(axis=1)
    gx, gy = (np.where(seen, gt_xy[..., i], 0.0) for i in (0, 1))
    px, py = (np.where(found, pred_xy[..., i], np.inf) for i in (0, 1))
    size = np.nan_to_num(area, nan=0.0)
    for start in range(0, len(gt_index), _PAIRS_AT_ONCE):
        g, p = gt_index[start : start + _PAIRS_AT_ONCE], pred_index[start : start + _PAIRS_AT_ONCE]
        similar = _similarities(px[p] - gx[g], py[p] - gy[g], size[g], sigmas)
        similar *= seen[g]
        result[start : start + _PAIRS_AT_ONCE] = similar.sum(axis=1) / np.maximum(count[g], 1)
    region = np.flatnonzero((count[gt_index] == 0) & ~np.isnan(gt_box_xywh[gt_index]).any(axis=1))
    if len(region):
        g, p = gt_index[region], pred_index[region]
        x, y, w, h = gt_box_xywh[g].T[..., None]
        dx = np.maximum(0, x - w - px[p]) + np.maximum(0, px[p] - (x + 2 * w))
        dy = np.maximum(0, y - h - py[p]) + np.maximum(0, py[p] - (y + 2 * h))
        similar = _similarities(dx, dy, size[g], sigmas)
        result[region] = similar.sum(axis=1) / np.maximum(found[p].sum(axis=1), 1)
    return result


def oks_by_either_area(
    gt_xy: np.ndarray,
    gt_seen: np.ndarray,
    gt_area: np.ndarray,
    pred_xy: np.ndarray,
    pred_found: np.ndarray,
    pred_area: np.ndarray,
    sigmas: np.ndarray,
) -> np.ndarray:
    """(P,) likeness of P pairs of which the label has no area of its own, or next to none: OKS by the larger area of
    the two. Where neither has one (both are points), 1 / (1 + mean distance in pixels) of the joints that both have.

    It serves to find out who is meant; nobody is scored by it.

    Args:
        gt_xy, pred_xy: (P, K, 2) pixels; gt_seen, pred_found: (P, K) bool.
        gt_area, pred_area: (P,) pixels^2, NaN for none; sigmas: (K,).
    """
    area = np.fmax(gt_area, pred_area)
    points = np.isnan(area)
    both = gt_seen & pred_found
    similar = joint_similarities(gt_xy, pred_xy, pred_found, np.where(points, 1.0, area), sigmas)
    result = np.where(both, similar, 0.0).sum(axis=1) / np.maximum(gt_seen.sum(axis=1), 1)
    distance = np.where(both, np.hypot(*np.moveaxis(pred_xy - gt_xy, -1, 0)), 0.0).sum(axis=1)
    near = np.where(both.any(axis=1), 1 / (1 + distance / np.maximum(both.sum(axis=1), 1)), 0.0)
    return np.where(points, near, result)


def measured_by_ap(visibility: np.ndarray, is_stream: bool) -> np.ndarray:
    """(M, K) the visibility of predicted joints by which AP measures: of a results list every joint counts as found,
    also ``0, 0, 0``, because pycocotools measures it at (0, 0). Everything else leaves such joints out."""
    return visibility if is_stream or (visibility > 0).all() else np.full_like(visibility, 2)


def oks_matrix(
    gt_xy: np.ndarray, gt_visibility: np.ndarray, area: np.ndarray, pred_xy: np.ndarray, sigmas: Sequence[float]
) -> np.ndarray:
    """(G, P) OKS of every labelled with every predicted person of one picture.

    Args:
        gt_xy: (G, K, 2) pixels; gt_visibility: (G, K); area: (G,) pixels^2.
        pred_xy: (P, K, 2) pixels, NaN for joints that were not found (they count 0).
        sigmas: K sigmas s of the skeleton (the metric uses k = 2 s).
    """
    gt_xy, pred_xy = np.asarray(gt_xy, np.float64), np.asarray(pred_xy, np.float64)
    g, p = (i.ravel() for i in np.indices((len(gt_xy), len(pred_xy))))
    found = ~np.isnan(pred_xy).any(axis=-1)
    boxes = np.full((len(gt_xy), 4), np.nan)
    flat = oks_of_pairs(
        g, p, gt_xy, np.asarray(gt_visibility), boxes, np.asarray(area, np.float64), pred_xy, found, np.asarray(sigmas)
    )
    return flat.reshape(len(gt_xy), len(pred_xy))


@dataclass(frozen=True)
class Matches:
    """COCO's matching of detections to labels, for A area ranges and T thresholds.

    Attributes:
        detection: (D,) index of each detection taken part (at most 20 a frame), by frame, then falling score.
        frame, score: (D,) of these.
        matched, ignored: (A, T, D) bool: found a label; does not count.
        label_frame: (N,) frame of each label.
        label_ignored: (A, N) bool.
        ranges: the A area ranges' names.
        thresholds: (T,).
    """

    detection: np.ndarray
    frame: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    label_frame: np.ndarray
    label_ignored: np.ndarray
    ranges: tuple[str, ...]
    thresholds: np.ndarray


def kept_detections(frame: np.ndarray, score: np.ndarray, limit: int = MAX_DETECTIONS) -> tuple[np.ndarray, np.ndarray]:
    """The ``limit`` detections with the highest scores of each frame.

    Returns:
        (D,) indices by frame, then falling score (ties in file order), and (D,) their rank in the frame.
    """
    order = np.lexsort((-score, frame))
    order = order[frame[order] >= 0]
    rank = np.arange(len(order)) - np.searchsorted(frame[order], frame[order], "left")
    return order[rank < limit], rank[rank < limit]


def match_coco(
    label_frame: np.ndarray,
    label_area: np.ndarray,
    label_ignored: np.ndarray,
    label_crowd: np.ndarray,
    detection_frame: np.ndarray,
    detection_score: np.ndarray,
    detection_area: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    *,
    thresholds: np.ndarray = THRESHOLDS,
    ranges: dict[str, tuple[float, float]] = AREA_RANGES,
    limit: int = MAX_DETECTIONS,
) -> Matches:
    """Matches detections to labels frame by frame as COCO does.

    By falling score, each detection takes the free label with the greatest OKS at or above the threshold, counted
    labels before ignored ones; a crowd can be taken again and again. Labels outside the area range are ignored, and so
    are unmatched detections whose own area lies outside it.

    Args:
        label_*: (N,) frame row, area, "does not count" flag, crowd flag.
        detection_*: (M,) frame row (-1: no partner), score, area.
        pairs: ``(label index, detection index, OKS)`` of everybody in the same frame, see `same_frame_pairs`.
    """
    kept, rank = kept_detections(detection_frame, detection_score, limit)
    place = np.full(len(detection_frame), -1, np.int64)
    place[kept] = np.arange(len(kept))
    bounds = np.array(list(ranges.values()), np.float64).reshape(-1, 2)
    with np.errstate(invalid="ignore"):
        outside = (label_area < bounds[:, :1]) | (label_area > bounds[:, 1:])
        away = (detection_area[kept] < bounds[:, :1]) | (detection_area[kept] > bounds[:, 1:])
    ignored = label_ignored | outside
    matched, on_ignored = _match(
        label_frame, ignored, label_crowd, detection_frame, kept, rank, place, pairs, thresholds
    )
    return Matches(
        detection=kept,
        frame=detection_frame[kept],
        score=detection_score[kept],
        matched=matched,
        ignored=on_ignored | (~matched & away[:, None, :]),
        label_frame=label_frame,
        label_ignored=ignored,
        ranges=tuple(ranges),
        thresholds=thresholds,
    )


def _match(
    label_frame: np.ndarray,
    ignored: np.ndarray,
    crowd: np.ndarray,
    detection_frame: np.ndarray,
    kept: np.ndarray,
    rank: np.ndarray,
    place: np.ndarray,
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    thresholds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """`matched` and "took an ignored label", both (A, T, D). Frames of about as many labels go through together."""
    shape = (len(ignored), len(thresholds), len(kept))
    matched, on_ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    # Column of each label in its frame, in file order.
    by_frame = np.argsort(label_frame, kind="stable")
    column = np.empty(len(label_frame), np.int64)
    column[by_frame] = np.arange(len(by_frame)) - np.searchsorted(label_frame[by_frame], label_frame[by_frame], "left")
    pair_label, pair_detection, pair_oks = pairs
    use = place[pair_detection] >= 0
    pair_label, pair_place, pair_oks = pair_label[use], place[pair_detection[use]], pair_oks[use]
    frames = np.unique(label_frame[pair_label])
    if not len(frames):
        return matched, on_ignored
    labels_in = np.bincount(label_frame, minlength=frames[-1] + 1)[frames]
    detections_in = np.bincount(detection_frame[kept], minlength=frames[-1] + 1)[frames]
    width_of = 1 << np.ceil(np.log2(labels_in)).astype(np.int64)
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None, None]
    for width in np.unique(width_of):
        group = np.flatnonzero(width_of == width)
        # Frames with most detections first: those that still have a detection of rank r are then a prefix.
        group = group[np.argsort(-detections_in[group], kind="stable")]
        row = np.full(frames[-1] + 1, -1, np.int64)
        row[frames[group]] = np.arange(len(group))
        ranks = int(detections_in[group[0]])

        oks = np.full((ranks, len(group), width), -1.0)
        mine = np.flatnonzero(row[label_frame[pair_label]] >= 0)
        oks[rank[pair_place[mine]], row[label_frame[pair_label[mine]]], column[pair_label[mine]]] = pair_oks[mine]
        places = np.zeros((ranks, len(group)), np.int64)
        here = np.flatnonzero(detection_frame[kept] <= frames[-1])
        here = here[row[detection_frame[kept[here]]] >= 0]
        places[rank[here], row[detection_frame[kept[here]]]] = here
        people = np.flatnonzero(label_frame <= frames[-1])
        people = people[row[label_frame[people]] >= 0]
        at = row[label_frame[people]], column[people]
        skip = np.zeros((len(ignored), len(group), width), bool)
        skip[:, at[0], at[1]] = ignored[:, people]
        again = np.zeros((len(group), width), bool)
        again[at] = crowd[people]

        taken = np.zeros((len(ignored), len(thresholds), len(group), width), bool)
        for r in range(ranks):
            n = int((detections_in[group] > r).sum())
            good = (oks[r, :n] >= limits) & (oks[r, :n] >= 0) & ~(taken[:, :, :n] & ~again[:n])
            value = np.where(good & ~skip[:, None, :n], oks[r, :n], -1.0)
            choice, best = _last_maximum(value)
            spare = np.where(good & skip[:, None, :n], oks[r, :n], -1.0)
            spare_choice, spare_best = _last_maximum(spare)
            regular = best >= 0
            hit = regular | (spare_best >= 0)
            choice = np.where(regular, choice, spare_choice)
            a, t, f = np.nonzero(hit)
            taken[a, t, f, choice[a, t, f]] = True
            matched[:, :, places[r, :n]] = hit
            on_ignored[:, :, places[r, :n]] = hit & ~regular
    return matched, on_ignored


def _last_maximum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index and value of the last of the greatest entries along the last axis (COCO lets later equals win)."""
    index = values.shape[-1] - 1 - values[..., ::-1].argmax(axis=-1)
    return index, np.take_along_axis(values, index[..., None], axis=-1)[..., 0]


def precision_recall(
    matches: Matches, area_range: str = "all", frames: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolated precision (T, 101) at `RECALLS` and the greatest recall (T,).

    All entries are -1 when no labelled person counts in this area range, as in pycocotools.

    Args:
        frames: boolean mask of the frames that count; None for all.
    """
    a = matches.ranges.index(area_range)
    keep = slice(None) if frames is None else frames[matches.frame]
    people = ~matches.label_ignored[a] if frames is None else ~matches.label_ignored[a] & frames[matches.label_frame]
    total = int(people.sum())
    count = len(matches.thresholds)
    if not total:
        return -np.ones((count, len(RECALLS))), -np.ones(count)
    order = np.argsort(-matches.score[keep], kind="stable")
    matched, ignored = matches.matched[a][:, keep][:, order], matches.ignored[a][:, keep][:, order]
    precision, recall = np.zeros((count, len(RECALLS))), np.zeros(count)
    if not len(order):
        return precision, recall
    true = np.cumsum(matched & ~ignored, axis=1, dtype=np.float64)
    false = np.cumsum(~matched & ~ignored, axis=1, dtype=np.float64)
    share = true / total
    envelope = _envelope(true / (false + true + np.spacing(1)))
    for t in range(count):
        precision[t] = _at_recalls(share[t], envelope[t])
    return precision, share[:, -1]


def _envelope(precision: np.ndarray) -> np.ndarray:
    """Greatest precision at this or any higher recall, along the last axis."""
    return np.maximum.accumulate(precision[..., ::-1], axis=-1)[..., ::-1]


def _at_recalls(recall: np.ndarray, envelope: np.ndarray) -> np.ndarray:
    """(101,) precision at `RECALLS`; 0 beyond the greatest recall."""
    index = np.searchsorted(recall, RECALLS, side="left")
    return np.where(index < len(recall), envelope[np.minimum(index, len(recall) - 1)], 0.0)


def summarize(matches: Matches, frames: np.ndarray | None = None) -> dict[str, float]:
    """COCO's ten numbers: AP, AP50, AP75, AP_medium, AP_large, AR, AR50, AR75, AR_medium, AR_large.

    -1 means that no labelled person counts (there is nothing a detector could find), as in pycocotools.
    """
    curves = {name: precision_recall(matches, name, frames) for name in matches.ranges}
    at50, at75 = (np.isclose(matches.thresholds, value) for value in (0.5, 0.75))
    result = {}
    for key, which in (("AP", 0), ("AR", 1)):
        result[key] = float(curves["all"][which].mean())
        result[f"{key}50"] = float(curves["all"][which][at50].mean())
        result[f"{key}75"] = float(curves["all"][which][at75].mean())
        for name in ("medium", "large"):
            result[f"{key}_{name}"] = float(curves[name][which].mean())
    return result
