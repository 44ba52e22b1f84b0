"""What `temporal.py` measures: poses of clips against labels, by clip, with intervals; and the tables of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from posecli.metrics import oks
from posecli.metrics.resampling import ApSampler
from posecli.predictions import read_stream
from posecli.skeletons import BODY19, LSP14, match_joints


@dataclass(frozen=True)
class Truth:
    """Labels of the clips of a condition: by frame row, and which clip and view a row is of."""

    names: tuple[str, ...]
    view: np.ndarray
    clip: np.ndarray
    rows: Mapping[tuple[str, int], int]
    frame: np.ndarray
    track: np.ndarray
    xy: np.ndarray
    visibility: np.ndarray
    area: np.ndarray
    height: np.ndarray


def truth_of(folder: Path) -> Truth:
    """Reads the label files of a folder of puppets, in joints of LSP."""
    columns = match_joints(BODY19.keypoints, LSP14.keypoints)
    names, view, clip, rows = [], [], [], {}
    people: list[tuple[int, int, np.ndarray, float, float]] = []
    for file in sorted(folder.glob("*/*.json")):
        labels = json.loads(file.read_text())
        name = f"{file.parent.name}/{file.stem}.mp4"
        for frame in labels["frames"]:
            rows[name, frame["frame"]] = len(clip)
            clip.append(len(names))
            for person in frame["persons"]:
                joints = np.array(person["keypoints"], float)[columns]
                if (joints[:, 2] > 0).any():
                    people.append((len(clip) - 1, person["track_id"], joints, person["area"], person["bbox"][3]))
        names.append(name)
        view.append(file.parent.name)
    joints = np.stack([p[2] for p in people])
    return Truth(
        tuple(names), np.array(view), np.array(clip), rows, np.array([p[0] for p in people]),
        np.array([p[1] for p in people]), joints[..., :2], joints[..., 2].astype(int),
        np.array([p[3] for p in people], float), np.array([p[4] for p in people], float),
    )  # fmt: skip


@dataclass(frozen=True)
class Scores:
    """One network under one condition: matches for AP, and sums by clip, (clips, 2) with what they are divided by."""

    matches: oks.Matches
    sums: Mapping[str, np.ndarray]


def score(file: Path, truth: Truth) -> Scores:
    """Compares a stream with the labels. People rank by their score times the local NMS score, where there is one: a
    centre is as easily found where the limbs are not."""
    frame, points, scores, heats = [], [], [], []
    for header, line in read_stream(file):
        row = truth.rows.get((str(header.source), line.frame))
        if row is None:
            raise SystemExit(f"{file}: no labels for {header.source}, frame {line.frame}")
        for person in line.instances:
            frame.append(row)
            points.append(person.xy)
            scores.append(person.person_score * (1.0 if person.heat is None else person.heat))
            heats.append(np.nan if person.heat is None else person.heat)
    row = np.array(frame, np.int64)
    xy = np.array(points, float).reshape(-1, LSP14.num_keypoints, 2)
    value, heat = np.array(scores, float), np.array(heats, float)
    found = np.isfinite(xy).all(-1).astype(int)
    label, detection = oks.same_frame_pairs(truth.frame, row)
    box = np.full((len(truth.frame), 4), np.nan)
    similarity = oks.oks_of_pairs(
        label, detection, truth.xy, truth.visibility, box, truth.area, xy, found, np.array(LSP14.sigmas)
    )
    nobody = np.zeros(len(truth.frame), bool)
    matches = oks.match_coco(
        truth.frame, truth.area, nobody, nobody, row, value, np.ones(len(row)), (label, detection, similarity),
        ranges={"all": (0.0, 1e10)},
    )  # fmt: skip
    partner = paired(len(truth.frame), label, detection, similarity)
    return Scores(matches, sums_by_clip(truth, xy, heat, partner, label, detection, similarity))


def paired(count: int, label: np.ndarray, detection: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """(N,) the detection of each labelled person, greedily by OKS; -1 for none with an OKS of at least 0.05."""
    partner, taken = np.full(count, -1), set()
    for pair in np.argsort(-similarity, kind="stable"):
        if similarity[pair] < 0.05:
            break
        if partner[label[pair]] < 0 and int(detection[pair]) not in taken:
            partner[label[pair]] = detection[pair]
            taken.add(int(detection[pair]))
    return partner


def sums_by_clip(
    truth: Truth, xy: np.ndarray, heat: np.ndarray, partner: np.ndarray, label: np.ndarray, detection: np.ndarray,
    similarity: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """``oks`` over all labelled people, ``jitter`` over moments with three frames in a row, ``heat`` over those found,
    ``found`` (share of people): (clips, 2) sums and counts."""
    clips = len(truth.names)
    own = {(a, b): s for a, b, s in zip(label.tolist(), detection.tolist(), similarity.tolist(), strict=True)}
    result = {name: np.zeros((clips, 2)) for name in ("oks", "jitter", "heat", "found")}
    who = {(f, t): n for n, (f, t) in enumerate(zip(truth.frame.tolist(), truth.track.tolist(), strict=True))}
    error = np.full(truth.xy.shape, np.nan)
    seen = partner >= 0
    error[seen] = xy[partner[seen]] - truth.xy[seen]
    error[truth.visibility == 0] = np.nan
    for n, (row, track) in enumerate(zip(truth.frame.tolist(), truth.track.tolist(), strict=True)):
        clip = truth.clip[row]
        result["oks"][clip] += (own.get((n, int(partner[n])), 0.0), 1)
        result["found"][clip] += (partner[n] >= 0, 1)
        if partner[n] >= 0 and np.isfinite(heat[partner[n]]):
            result["heat"][clip] += (heat[partner[n]], 1)
        before = [who.get((row - back, track)) if row >= back else None for back in (1, 2)]
        if None in before or truth.clip[row - 2] != clip:
            continue
        second = error[n] - 2 * error[before[0]] + error[before[1]]
        length = np.linalg.norm(second, axis=-1) / truth.height[n]
        there = np.isfinite(length)
        result["jitter"][clip] += (length[there].sum(), there.sum())
    return result


def draws(scores: Sequence[Scores], truth: Truth, kept: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """(B + 1, seeds) of each figure: first of all kept clips as they are, then of B draws.

    Args:
        scores: of each seed. kept: (clips,) bool. weights: (B, clips) how often each clip counts.
    """
    weights = np.concatenate([np.ones((1, weights.shape[1])), weights]) * kept
    names = ("AP", "AP50")
    values: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "oks", "jitter", "heat", "found")}
    for one in scores:
        sampler = ApSampler([one.matches], truth.clip, len(truth.names), copies=int(weights.max()))
        drawn = sampler.draw(weights, weights)
        for name in names:
            values[name].append(100 * drawn[name])
        for name, sums in one.sums.items():
            total = weights @ sums
            factor = {"jitter": 1000.0}.get(name, 100.0)
            with np.errstate(invalid="ignore", divide="ignore"):
                values[name].append(factor * total[:, 0] / total[:, 1])
    return {name: np.stack(columns, 1) for name, columns in values.items()}


def interval(values: np.ndarray) -> list[float]:
    """[value, lower end, upper end] of a figure whose first row is of the clips as they are."""
    if np.isnan(values).all():  # a network without such a figure
        return [float("nan")] * 3
    return [float(values[0]), *(float(v) for v in np.nanpercentile(values[1:], [2.5, 97.5]))]


def lines_of(result: Mapping[str, Any]) -> Iterator[str]:
    """The result as tables in Markdown."""
    yield f"{result['date']}, {result['machine']}; {result['pictures']}"
    for condition, tables in result["figures"].items():
        yield f"\n### {condition} ({tables['clips']} clips, {tables['seeds']} of {result['seeds']} seeds)\n"
        yield "| system | OKS-AP | gain | AP50: gain | jitter | gain | mean OKS | gain | local NMS score |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for system, row in tables["all"].items():
            kinds = {"AP": ("value", "gain"), "AP50": ("gain",), "jitter": ("value", "gain"), "oks": ("value", "gain")}
            cells = [told(row[n][kind], kind == "gain") for n, both in kinds.items() for kind in both]
            cells.append(told(row["heat"]["value"]))
            yield f"| {system} | {' | '.join(cells)} |"
    yield "\n### Front and side (clean)\n\n| system | view | local NMS score | OKS | AP |\n|---|---|---|---|---|"
    for view, table in result["figures"].get("clean", {}).items():
        if view in ("front", "side"):
            for system, row in table.items():
                cells = [told(row[name]["value"]) for name in ("heat", "oks", "AP")]
                yield f"| {system} | {view} | {' | '.join(cells)} |"
    yield "\n### Cost of a frame\n\n| system | ms | over per-frame | parameters |\n|---|---|---|---|"
    for system, row in result["cost"].items():
        yield f"| {system} | {row['ms']:.1f} | {row['over_per_frame']:+.1%} | {row['parameters']} |"
    yield "\n### Real clips\n\n| system | clip | second difference | identities | people a frame |"
    yield "|---|---|---|---|---|"
    for system, clips in result["real"].items():
        for name, row in clips.items():
            yield (f"| {system} | {name} | {row['second_difference']:.2f} | {row['identities']} | "
                   f"{row['people_a_frame']:.2f} |")  # fmt: skip


def told(values: Sequence[float], signed: bool = False) -> str:
    """A figure with its interval."""
    if not np.isfinite(values[0]):
        return "none"
    form = "+.2f" if signed else ".2f"
    return f"{values[0]:{form}} ({values[1]:{form}} to {values[2]:{form}})"
