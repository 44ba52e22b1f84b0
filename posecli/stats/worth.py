"""Which frames are most worth a human's time: where the model is unsure, unsteady or contradicted.

Each frame gets up to five doubts in [0, 1], and its worth is 1 - (1 - a)(1 - b)...: one strong reason is enough, weak
ones add up. Frames are then taken one by one, the worth of those near in time to one already taken falling with
exp(-(dt / gap)^2), so that one bad second does not fill the list.
"""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.checks.left_right import trunk_doubts
from posecli.checks.subject import Picture, Subject
from posecli.errors import PoseError, UsageError
from posecli.files import replace_when_done
from posecli.formats.joint_mapping import match_points
from posecli.stats.motion import second_differences
from posecli.stats.neighbours import frames_of_sources, links, pair_up, pose_distances

# Person sizes at which a doubt is whole.
JITTER, DISAGREEMENT = 0.15, 0.2
ASSUMED_FPS = 25.0
NOTHING = 0.05  # doubts and worths below are not spoken of


@dataclass(frozen=True)
class Candidate:
    """A frame with its worth in [0, 1] and the reasons, strongest first; ``row`` of the first subject's pictures."""

    row: int
    worth: float
    reasons: tuple[str, ...]


def rank(subjects: Sequence[Subject], count: int = 50, gap: float = 1.0) -> list[Candidate]:
    """The frames of the first stream most worth labelling, best first.

    Args:
        subjects: one stream, or two of the same frames by different models (joints meet by name).
        count: how many at most; frames without any reason are left out.
        gap: seconds within which frames of a video take worth from one another; 0: none.

    Raises:
        UsageError: more than two. PoseError: the second has none of the first one's frames or joints.
    """
    if not 1 <= len(subjects) <= 2:
        raise UsageError("--worth-labelling takes one stream, or two of the same frames")
    subject = subjects[0]
    doubts: list[dict[str, float]] = [{} for _ in subject.pictures]
    _unsure(subject, doubts)
    _unsteady(subject, doubts)
    _exchanged(subject, doubts)
    if len(subjects) == 2:
        _contradicted(subject, subjects[1], doubts)
    worth = np.array([1 - np.prod([1 - min(v, 0.99) for v in d.values()]) for d in doubts])
    return _spread(subject, worth, doubts, count, gap)


def _people(subject: Subject) -> list[np.ndarray]:
    """Rows of the people shown, of each picture."""
    rows: list[list[int]] = [[] for _ in subject.pictures]
    for n in np.flatnonzero(subject.shown):
        rows[subject.frame[n]].append(int(n))
    return [np.array(r, int) for r in rows]


def _unsure(subject: Subject, doubts: list[dict[str, float]]) -> None:
    """The least sure person shown, by heat or else by the mean of the joints' scores; and people just below the
    threshold."""
    scores = np.where(subject.visibility > 0, subject.score, np.nan)
    for n, people in enumerate(_people(subject)):
        sure = []
        for p in people:
            heat = subject.heat[p]
            value = heat if np.isfinite(heat) else np.nanmean(scores[p]) if np.isfinite(scores[p]).any() else 0.0
            sure.append((float(value), "heat" if np.isfinite(heat) else "score"))
        if sure:
            value, name = min(sure)
            doubts[n][f"{name} {value:.2f}"] = float(np.clip(1 - value, 0, 1)) * 0.8
    least = subject.threshold
    for p in np.flatnonzero(~subject.shown & ~subject.crowd & (subject.person_score > 0.6 * least)):
        close = float(subject.person_score[p] / least[p])
        doubts[subject.frame[p]][f"somebody just below the threshold ({subject.person_score[p]:.2f})"] = 0.4 * close


def _unsteady(subject: Subject, doubts: list[dict[str, float]]) -> None:
    """Joints off the line between their neighbours, and people who are there for less than their neighbours."""
    shake = _spikes(subject)
    for n in np.flatnonzero(np.isfinite(shake).any(axis=1)):
        joint = int(np.nanargmax(shake[n]))
        # The mean says whether the whole pose trembles, the largest whether one joint is lost for a frame.
        value = float(max(np.nanmean(shake[n]), 0.5 * shake[n, joint]) / JITTER)
        if value > 0.1:
            reason = f"{subject.skeleton.keypoints[joint]} jumps by {shake[n, joint]:.2f} person sizes"
            doubts[subject.frame[n]][reason] = min(value, 1.0)
    for every in frames_of_sources(subject).values():
        frames = [frame for frame in every if not subject.pictures[frame[0]].broken]
        numbers = [len(people) for _, people in frames]
        for i in range(1, len(frames) - 1):
            if numbers[i] != numbers[i - 1] and numbers[i] != numbers[i + 1]:
                reason = f"{numbers[i]} people, {numbers[i - 1]} before and {numbers[i + 1]} after"
                doubts[frames[i][0]][reason] = 0.6


def _spikes(subject: Subject) -> np.ndarray:
    """(N, K) how far each joint is from where its neighbours in time put it, in person sizes: off the line between them
    and far from the nearer of them, so that the frames beside a jump are not blamed for it."""
    before = links(subject)
    there = np.flatnonzero(before >= 0)
    size = subject.person_size
    step = np.full((2, *subject.xy.shape[:2]), np.nan)
    apart = np.linalg.norm(subject.xy[there] - subject.xy[before[there]], axis=2)
    step[0, there] = apart / np.where(size[there] > 0, size[there], np.nan)[:, None]
    step[1, before[there]] = step[0, there]
    return np.minimum(second_differences(subject, before), step.min(axis=0))


def _exchanged(subject: Subject, doubts: list[dict[str, float]]) -> None:
    for n in np.flatnonzero((np.nan_to_num(trunk_doubts(subject)) > 0.5) & subject.shown):
        doubts[subject.frame[n]]["left and right look exchanged"] = 0.8 * float(trunk_doubts(subject)[n])


def _key(picture: Picture) -> tuple[str, Any]:
    return picture.file_name, picture.frame if picture.in_video else None


def _keys(subject: Subject) -> list[tuple[Any, ...]]:
    """A key for each picture: name and frame, the folder or video it is of, and the how manieth of all that it is:
    streams joined by `cat` may hold pictures of one name."""
    met: Counter[tuple[Any, ...]] = Counter()
    keys: list[tuple[Any, ...]] = []
    for picture in subject.pictures:
        name = (*_key(picture), picture.origin)
        met[name] += 1
        keys.append((*name, met[name]))
    return keys


def _videos(subject: Subject) -> dict[str, str]:
    """Last name of a video to its whole one, where no other video has that last name."""
    names: dict[str, list[str]] = {}
    for name in {p.file_name for p in subject.pictures if p.in_video}:
        names.setdefault(os.path.basename(name), []).append(name)
    return {last: whole[0] for last, whole in names.items() if len(whole) == 1}


def _partners(first: Subject, second: Subject) -> list[int | None]:
    """Row of the second one's picture that is the same as each of the first's. Pictures whose folders have other names
    meet by their own, and videos that one of them names with its folders and the other without by their last one, where
    that leaves no doubt."""
    rows = {key: n for n, key in enumerate(_keys(second))}
    plain = {_key(p): n for n, p in enumerate(second.pictures)}
    counts = [Counter(map(_key, subject.pictures)) for subject in (first, second)]
    ours, theirs = _videos(first), _videos(second)
    partners = []
    for picture, key in zip(first.pictures, _keys(first), strict=True):
        partner = rows.get(key)
        if partner is None and all(count[_key(picture)] == 1 for count in counts):
            partner = plain[_key(picture)]
        last = os.path.basename(picture.file_name)
        if partner is None and picture.in_video and last in ours and last in theirs:
            partner = plain.get((theirs[last], picture.frame))
        partners.append(partner)
    return partners


def _contradicted(first: Subject, second: Subject, doubts: list[dict[str, float]]) -> None:
    """Joints the two models put on different places, and people only one of them sees."""
    columns = match_points(second.skeleton, first.skeleton)
    shared = np.flatnonzero(columns >= 0)
    if not len(shared):
        raise PoseError(f"{first.skeleton.name} and {second.skeleton.name} share no joint", second.path)
    other_people, size = _people(second), first.person_size
    names = [first.skeleton.keypoints[k] for k in shared]
    met = 0
    for n, (people, other) in enumerate(zip(_people(first), _partners(first, second), strict=True)):
        if other is None:
            continue
        met += 1
        theirs = other_people[other]
        ours, others = first.xy[people][:, shared], second.xy[theirs][:, columns[shared]]
        pairs = pair_up(pose_distances(ours, others, size[people])) if len(people) and len(theirs) else []
        alone = len(people) + len(theirs) - 2 * len(pairs)
        if alone:
            doubts[n][f"the models disagree about {alone} of the people"] = 0.9 * min(1.0, 0.5 + alone / 4)
        worst, reason = 0.0, ""
        for a, b in pairs:
            apart = np.linalg.norm(ours[a] - others[b], axis=1) / size[people[a]]
            if np.isfinite(apart).any() and np.nanmean(apart) > worst:
                joint = int(np.nanargmax(apart))
                worst = float(np.nanmean(apart))
                reason = f"the models put {names[joint]} {apart[joint]:.2f} person sizes apart"
        if worst > 0.1 * DISAGREEMENT:
            doubts[n][reason] = min(worst / DISAGREEMENT, 1.0)
    if not met:
        raise PoseError("none of its frames is among those of the first stream", second.path, f"{first.path}")


def _spread(
    subject: Subject, worth: np.ndarray, doubts: Sequence[dict[str, float]], count: int, gap: float
) -> list[Candidate]:
    time = np.array([p.frame / (p.fps or ASSUMED_FPS) if p.time is None else p.time for p in subject.pictures])
    names = {source: n for n, source in enumerate({p.source for p in subject.pictures})}
    source = np.array([-1 if p.source is None else names[p.source] for p in subject.pictures])
    stood_for = np.zeros(len(worth))  # how near a frame already taken is, in [0, 1]
    free = worth > NOTHING
    chosen: list[Candidate] = []
    while free.any() and len(chosen) < count:
        n = int(np.where(free, worth * (1 - stood_for), -1).argmax())
        order = sorted(doubts[n].items(), key=lambda item: -item[1])
        chosen.append(Candidate(n, float(worth[n]), tuple(text for text, value in order if value > NOTHING)))
        if gap > 0 and source[n] >= 0:
            near = np.where(source == source[n], np.exp(-(((time - time[n]) / gap) ** 2)), 0)
            stood_for = np.maximum(stood_for, near)
        free[n] = False
    return chosen


def _names(subject: Subject) -> dict[int, str]:
    """Row of each picture to its name, with its folder where pictures of several folders have that name."""
    folders: dict[str, set[str]] = {}
    for picture in subject.pictures:
        folders.setdefault(picture.file_name, set()).add(picture.origin)
    return {
        n: p.file_name if p.in_video or len(folders[p.file_name]) == 1 else f"{p.origin}/{p.file_name}"
        for n, p in enumerate(subject.pictures)
    }


def to_json(subject: Subject, chosen: Sequence[Candidate]) -> list[dict[str, Any]]:
    """The list as plain values: ``rank``, ``file``, ``frame``, ``time``, ``worth``, ``reasons``."""
    result = []
    names = _names(subject)
    for place, candidate in enumerate(chosen, 1):
        picture = subject.pictures[candidate.row]
        time = picture.frame / picture.fps if picture.time is None and picture.fps else picture.time
        result.append(
            {
                "rank": place,
                "file": names[candidate.row],
                "frame": picture.frame,
                "time": round(time, 3) if time is not None and picture.in_video else None,
                "worth": round(candidate.worth, 4),
                "reasons": list(candidate.reasons),
            }
        )
    return result


def write(subject: Subject, chosen: Sequence[Candidate], out: str | Path, *, overwrite: bool = False) -> None:
    """The list as a file: ``.csv`` for people; ``.json`` a COCO data set of just these frames, with the poses found as
    labels to be corrected (``v`` 1 where a joint's score is low) and ``worth`` and ``reasons`` on each image.

    Raises:
        PoseError: another suffix, the file exists, or (``.json``) the videos or pictures are not in the subject's root.
    """
    out = Path(out)
    if out.suffix == ".csv":
        with replace_when_done(out, overwrite=overwrite) as part, open(part, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["rank", "file", "frame", "time", "worth", "reasons"])
            for entry in to_json(subject, chosen):
                table.writerow([*list(entry.values())[:-1], "; ".join(entry["reasons"])])
    elif out.suffix == ".json":
        from posecli.formats import coco

        coco.write(_dataset(subject, chosen), out, overwrite=overwrite)
    else:
        raise PoseError("the list is written as .json (a data set) or .csv", str(out))


def _dataset(subject: Subject, chosen: Sequence[Candidate]) -> Any:
    from posecli.types import Dataset, Record, Video

    people = _people(subject)
    # In the order of the video: that is how frames are decoded and labels are drawn.
    rows = sorted(chosen, key=lambda c: (subject.pictures[c.row].file_name, subject.pictures[c.row].frame))
    videos: dict[str, Video] = {}
    records = []
    names = _names(subject)
    for number, candidate in enumerate(rows, 1):
        picture, name = subject.pictures[candidate.row], names[candidate.row]
        path = os.path.join(subject.root, name)
        if not os.path.isfile(path):
            raise PoseError(f"{name} is not there", subject.root, "say where it is with --image-root")
        if picture.in_video and picture.file_name not in videos:
            last = max(p.frame for p in subject.pictures if p.file_name == picture.file_name)
            videos[picture.file_name] = Video(
                len(videos) + 1, Path(picture.file_name).stem, picture.file_name, picture.width, picture.height,
                picture.fps or 0.0, last + 1,
            )  # fmt: skip
        width, height = picture.width, picture.height
        if not (width and height):
            from posecli.formats.picture_size import picture_size

            width, height = picture_size(path)
        records.append(
            Record(
                number, name, width, height,
                tuple(_label(subject, n) for n in people[candidate.row]),
                videos[picture.file_name].id if picture.in_video else None,
                picture.frame if picture.in_video else None,
                {"worth": round(candidate.worth, 4), "reasons": list(candidate.reasons)},
            )
        )  # fmt: skip
    return Dataset(subject.skeleton, tuple(records), tuple(videos.values()), subject.root)


def _label(subject: Subject, n: int) -> Any:
    from posecli.formats.labels import SCORE_THRESHOLD
    from posecli.types import Instance

    sure = subject.score[n] >= SCORE_THRESHOLD
    box = subject.box_xyxy[n]
    return Instance(
        xy=subject.xy[n],
        visibility=np.where(subject.visibility[n] > 0, np.where(sure, 2, 1), 0),
        score=subject.score[n].astype(np.float32),
        box_xyxy=box if np.isfinite(box).all() else None,
        track_id=int(subject.track[n]) if subject.track[n] >= 0 else None,
    )
