"""People to look at in a report: the worst and the best found, the missed, the false, and where two predictions differ.

Each is a cut of its picture with the labelled and the predicted skeleton as lines in the coordinates of the cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from posecli.metrics.measures import Measure, Side
from posecli.metrics.people import LabelFrames, Labels, joint_boxes_xywh
from posecli.reports.pictures import Pictures, data_uri, is_video, to_jpeg

SHOWN_SIZE = 320  # pixels of the longer side of an example in the page's own unit
_STORED_SIZE, _LEAST_SIZE = 480, 160  # at most and at least as many pixels of a picture are stored for it
_SHARP = 40  # so many examples are stored in full size, more of them smaller, so that the page stays below some 5 MB
_SEEN = 0.02  # a smaller difference of likeness is not seen
_APART = 30  # frames of a video that lie closer look alike: only one of them is an example
_MARGIN = 0.12  # of the longer side, around the people of an example
FOUND = 0.1  # below this likeness a pair is no find, as in Ronchi & Perona (2017)


@dataclass(frozen=True)
class Drawing:
    """A skeleton in the coordinates of a cut: ``path`` draws limbs (SVG path data), ``joints`` are (x, y)."""

    path: str
    joints: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Panel:
    """A cut with the label and one prediction on it; ``errors`` joins each labelled joint with the predicted one."""

    title: str
    caption: str
    label: Drawing | None
    prediction: Drawing | None
    errors: str = ""


@dataclass(frozen=True)
class Example:
    """One person: where, how large the cut is drawn, its picture (None: could not be read), one panel a prediction."""

    name: str
    number: int
    width: float
    height: float
    picture: str | None
    panels: tuple[Panel, ...]


@dataclass
class ExampleGroup:
    """Examples of one kind under a heading; ``of`` how many there are of the kind."""

    title: str
    about: str
    of: int
    examples: list[Example] = field(default_factory=list)


@dataclass(frozen=True)
class _Person:
    """Whom an example shows: a labelled person (row of the evaluated ones) or a predicted one (`prediction`)."""

    frame: int
    row: int = -1
    prediction: int = -1


def person_measure(side: Side) -> Measure | None:
    """What people are ranked by: their OKS, without sigmas the share of their joints that PCK, PDJ or PCKh counts."""
    for start in ("mean_OKS", "PCK@", "PDJ@", "PCKh@"):
        for key, measure in side.measures.items():
            if key.startswith(start) and measure.of_labels:
                return measure
    return None


def person_values(side: Side) -> tuple[str, np.ndarray]:
    """Name of `person_measure` and (N,) its value for each evaluated person, NaN where it counts nothing; a person
    nobody was paired with has 0 where misses count as wrong."""
    measure = person_measure(side)
    if measure is None:
        return "", np.full(len(side.rows), np.nan)
    count = measure.valid.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(measure.valid, measure.hit, 0.0).sum(axis=1) / count
    return "OKS" if measure.key == "mean_OKS" else measure.key, np.where(count > 0, value, np.nan)


def false_people(side: Side, frames: LabelFrames) -> np.ndarray:
    """Indices of predicted people at or above the display threshold, on labelled frames, whom no label was paired
    with, the most confident first. People in crowd regions are not told apart from others."""
    people = side.predictions.people
    if not len(people):
        return np.zeros(0, np.int64)
    taken = np.zeros(len(people), bool)
    taken[side.partner[side.partner >= 0]] = True
    at = side.partners.partner[people.frame]
    here = (at >= 0) & frames.judged[at]
    free = np.flatnonzero(~taken & here & (people.score >= side.predictions.frames.threshold[people.frame]))
    return free[np.argsort(-people.score[free], kind="stable")]


def find_examples(
    labels: Labels, sides: Sequence[Side], names: Sequence[str], pictures: Pictures, count: int
) -> list[ExampleGroup]:
    """Groups of examples, ``count`` people in each at most; those without anybody are left out.

    Args:
        names: of the predictions, for the panels of two.
        pictures: where the pixels come from.
    """
    if count < 1 or person_measure(sides[0]) is None:
        return []
    draw = _Drawer(labels, sides, names, pictures, stored_size(4 * count))
    return _of_one(labels, sides[0], draw, count) if len(sides) == 1 else _of_two(labels, sides, draw, count)


def stored_size(examples: int) -> int:
    """Longer side in pixels at which the pictures of so many examples are stored: about the same bytes in all."""
    return round(min(_STORED_SIZE, max(_LEAST_SIZE, _STORED_SIZE * (_SHARP / max(examples, 1)) ** 0.5)))


def _of_one(labels: Labels, side: Side, draw: _Drawer, count: int) -> list[ExampleGroup]:
    what, value = person_values(side)
    paired = (side.partner >= 0) & (value >= FOUND)
    missed = np.flatnonzero((side.partner < 0) | (value < FOUND))
    people = labels.people.take(side.rows)
    size = np.nan_to_num(joint_boxes_xywh(people.xy, people.visibility)[:, 2:]).max(axis=1, initial=0.0)
    false = false_people(side, labels.frames)
    found = np.flatnonzero(paired)
    order = found[np.argsort(value[found], kind="stable")]
    groups = [
        ("Worst", f"people who were found ({what} at least {FOUND:g}), lowest first", order, len(order)),
        ("Best", f"highest {what} first", order[::-1], len(order)),
        ("Missed", f"labelled people paired with nobody, or with {what} below {FOUND:g}; largest first",
         missed[np.argsort(-size[missed], kind="stable")], len(missed)),
    ]  # fmt: skip
    made = []
    for title, about, rows, total in groups:
        chosen = _apart(labels.frames, (_Person(int(side.frame[r]), row=int(r)) for r in rows), count)
        made.append(ExampleGroup(title, about, total, [draw(p) for p in chosen]))
    frame_of = side.partners.partner[side.predictions.people.frame[false]] if len(false) else false
    confident = (_Person(int(f), prediction=int(p)) for f, p in zip(frame_of, false, strict=True))
    chosen = _apart(labels.frames, confident, count)
    about = "predicted people without a labelled partner, most confident first; some are real but unlabelled"
    made.append(ExampleGroup("False", about, len(false), [draw(p) for p in chosen]))
    return [group for group in made if group.examples]


def _of_two(labels: Labels, sides: Sequence[Side], draw: _Drawer, count: int) -> list[ExampleGroup]:
    """People whom one prediction has much better than the other, and those hard for both."""
    what, first = person_values(sides[0])
    second = person_values(sides[1])[1]
    gain = second - first
    there = np.flatnonzero(~np.isnan(gain))
    by_gain = there[np.argsort(gain[there], kind="stable")]
    both = there[np.argsort((first + second)[there], kind="stable")]
    found = both[((first >= FOUND) & (second >= FOUND))[both]]
    worse, better = by_gain[gain[by_gain] <= -_SEEN], by_gain[::-1][gain[by_gain[::-1]] >= _SEEN]
    made = []
    for title, about, rows in (
        (f"{draw.names[1]} better", f"people whose {what} rises most", better),
        (f"{draw.names[0]} better", f"people whose {what} falls most", worse),
        ("Hard for both", f"found by both, lowest {what}", found),
        ("Easy for both", f"highest {what}", found[::-1]),
    ):
        # The frames of an evaluated person are the same on both sides.
        chosen = _apart(labels.frames, (_Person(int(sides[0].frame[r]), row=int(r)) for r in rows), count)
        made.append(ExampleGroup(title, about, len(rows), [draw(p) for p in chosen]))
    return [group for group in made if group.examples]


def _labelled_joints(labels: Labels, side: Side) -> np.ndarray:
    """(N, K, 2) of the evaluated people; NaN where not labelled."""
    people = labels.people
    return np.where(people.visibility[side.rows][..., None] > 0, people.xy[side.rows], np.nan)


def _apart(frames: LabelFrames, people: Iterable[_Person], count: int) -> list[_Person]:
    """The first ``count`` of different pictures, and of moments of a video that do not look alike."""
    chosen: list[_Person] = []
    for person in people:
        if len(chosen) == count:
            break
        video, at = frames.video[person.frame], frames.frame_id[person.frame]
        near = any(
            p.frame == person.frame
            or (video >= 0 and frames.video[p.frame] == video and abs(frames.frame_id[p.frame] - at) < _APART)
            for p in chosen
        )
        if not near:
            chosen.append(person)
    return chosen


class _Drawer:
    """Makes an `Example` of a person."""

    def __init__(
        self, labels: Labels, sides: Sequence[Side], names: Sequence[str], pictures: Pictures, stored_size: int
    ) -> None:
        self.labels, self.sides, self.names, self.pictures = labels, sides, names, pictures
        self.stored_size = stored_size
        self.values = [person_values(side) for side in sides]
        self.edges = labels.skeleton.edges
        self.made = 0

    def __call__(self, person: _Person) -> Example:
        frames = self.labels.frames
        name, at = frames.file_name[person.frame], int(frames.frame_id[person.frame])
        label = self._label(person)
        predictions = [self._prediction(side, person) for side in self.sides]
        image = self.pictures.read([name], at if at >= 0 else None)
        size = image.shape[1::-1] if image is not None else self._stated_size(person)
        box = _view([label, *predictions], self._box(person), size)
        cut = None
        if image is not None:
            x0, y0, x1, y1 = box
            cut = data_uri(to_jpeg(image[y0:y1, x0:x1], self.stored_size))
        scale = SHOWN_SIZE / max(box[2] - box[0], box[3] - box[1])
        # Pixel centres lie on integers: the cut's left edge is at -0.5.
        shift = np.array([box[0] - 0.5, box[1] - 0.5])
        to_cut: Callable[[np.ndarray], np.ndarray] = lambda xy: (xy - shift) * scale  # noqa: E731
        panels = []
        for number, prediction in enumerate(predictions):
            drawn = None
            if prediction is not None:
                drawn = skeleton_drawing(to_cut(prediction), self.edges)
            panels.append(
                Panel(
                    self.names[number] if len(self.sides) > 1 else "",
                    self._caption(number, person),
                    skeleton_drawing(to_cut(label), self.edges) if label is not None else None,
                    drawn,
                    error_path(to_cut(label), to_cut(prediction))
                    if label is not None and prediction is not None
                    else "",
                )
            )
        self.made += 1
        title = f"{name}, frame {at}" if at >= 0 and is_video(name) else name
        width, height = (round(scale * (box[i + 2] - box[i]), 1) for i in (0, 1))
        return Example(title, self.made, width, height, cut, tuple(panels))

    def _label(self, person: _Person) -> np.ndarray | None:
        """(K, 2) labelled joints in the labels' order, NaN where missing."""
        return _labelled_joints(self.labels, self.sides[0])[person.row] if person.row >= 0 else None

    def _prediction(self, side: Side, person: _Person) -> np.ndarray | None:
        """(K, 2) predicted joints in the labels' order, NaN where the prediction lacks them."""
        number = person.prediction if person.row < 0 else int(side.partner[person.row])
        if number < 0:
            return None
        people, common = side.predictions.people, side.common
        xy = np.full((self.labels.skeleton.num_keypoints, 2), np.nan)
        found = people.visibility[number][common.predicted_index] > 0
        xy[common.label_index[found]] = people.xy[number][common.predicted_index[found]]
        return xy if found.any() else None

    def _box(self, person: _Person) -> np.ndarray:
        """(4,) x, y, w, h given with the person; NaN for none."""
        if person.row >= 0:
            return self.labels.people.box_xywh[self.sides[0].rows[person.row]]
        return np.full(4, np.nan)

    def _stated_size(self, person: _Person) -> tuple[int, int]:
        sizes = self.labels.frames.size_wh
        width, height = sizes[person.frame].tolist() if len(sizes) else (0, 0)
        return (width, height) if width > 0 and height > 0 else (100_000, 100_000)

    def _caption(self, number: int, person: _Person) -> str:
        side, (what, value) = self.sides[number], self.values[number]
        if person.row < 0:
            return f"score {side.predictions.people.score[person.prediction]:.2f}"
        if side.partner[person.row] < 0:
            return "missed"
        score = side.predictions.people.score[side.partner[person.row]]
        measured = "" if np.isnan(value[person.row]) else f"{what} {value[person.row]:.2f}, "
        return f"{measured}score {score:.2f}"


def _view(skeletons: Sequence[np.ndarray | None], box_xywh: np.ndarray, size: tuple[int, int]) -> tuple[int, ...]:
    """The cut (x0, y0, x1, y1; whole pixels, the last ones left out) around the skeletons and the box."""
    points = [s[~np.isnan(s).any(axis=1)] for s in skeletons if s is not None]
    if not np.isnan(box_xywh).any():
        points.append(np.array([box_xywh[:2], box_xywh[:2] + box_xywh[2:]]))
    every = np.concatenate(points) if points else np.zeros((1, 2))
    low, high = every.min(axis=0), every.max(axis=0)
    margin = max(_MARGIN * float((high - low).max()), 12.0)
    # A square where the picture allows it: surroundings tell more than empty bars.
    side = np.ceil((high - low).max() + 2 * margin)
    limit = np.asarray(size, np.float64)
    extent = np.minimum(side, limit)
    start = np.clip(np.floor((low + high) / 2 - side / 2), 0, limit - extent)
    return tuple(int(v) for v in (*start, *(start + extent)))


def skeleton_drawing(xy: np.ndarray, edges: Sequence[tuple[int, int]]) -> Drawing:
    """The limbs whose ends are both there, and the joints.

    Args:
        xy: (K, 2), NaN where missing.
    """
    there = ~np.isnan(xy).any(axis=1)
    spots = [(round(float(x), 1), round(float(y), 1)) for x, y in np.nan_to_num(xy)]
    limbs = [(spots[a], spots[b]) for a, b in edges if there[a] and there[b]]
    path = "".join(f"M{a[0]:g} {a[1]:g}L{b[0]:g} {b[1]:g}" for a, b in limbs)
    return Drawing(path, tuple(spot for spot, known in zip(spots, there, strict=True) if known))


def error_path(label: np.ndarray, prediction: np.ndarray) -> str:
    """SVG path data of lines from each labelled joint to the predicted one."""
    both = ~np.isnan(label).any(axis=1) & ~np.isnan(prediction).any(axis=1)
    return "".join(
        f"M{a:.1f} {b:.1f}L{c:.1f} {d:.1f}" for (a, b), (c, d) in zip(label[both], prediction[both], strict=True)
    )
