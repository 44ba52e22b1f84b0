"""Train here, test there: every run on every data set, one table with intervals.

How well a model does on pictures of another kind than it learnt from shows only there. `cross_evaluate` takes the best
weights of each run, lets them look at each data set once (the streams stay in a folder, a finished one is not made
again, a cut-off one goes on where it ended), and measures all of them on the joints that everybody has, so that the
figures of a column can be compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError
from posecli.files import sha256_of
from posecli.formats import read_dataset
from posecli.formats.joint_mapping import match_points
from posecli.infer_files import run_jobs
from posecli.infer_jobs import Job
from posecli.infer_options import InferOptions
from posecli.inference import PoseModel, find_weights, load_model
from posecli.metrics import evaluate
from posecli.metrics.summary import interval, main_columns, shown
from posecli.person_boxes import BoxLookup, labelled_boxes, whole_picture
from posecli.predictions import read_headers
from posecli.types import Dataset, Skeleton
from posecli.video import VIDEO_SUFFIXES, Input

BOXES = ("found", "labels", "full")
_NOTHING = {"frames", "people", "intervals", "counted"}


@dataclass(frozen=True)
class Run:
    """A row of the table: weights, and the data sets its run folder says it learnt from."""

    name: str
    weights: Path
    sha256: str
    trained_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class TestSet:
    """A column of the table: a labelled data set, where it was read from, and a digest of what is asked of it."""

    __test__ = False  # not a class of tests

    name: str
    source: str
    dataset: Dataset
    digest: str


def find_runs(names: Sequence[str]) -> list[Run]:
    """Run folders (their ``best.safetensors``), weights files, or names of shipped models.

    Raises:
        PoseError: a folder without best weights, no such weights.
    """
    runs = []
    for text, name in zip(names, _short_names(names), strict=True):
        folder = Path(text)
        trained: tuple[str, ...] = ()
        if folder.is_dir():
            weights = folder / "best.safetensors"
            if not weights.is_file():
                last = (folder / "last.safetensors").is_file()
                hint = f"give {folder / 'last.safetensors'}" if last else "a folder that posecli train wrote"
                raise PoseError("the run has no best.safetensors", text, hint)
            trained = _trained_on(folder / "config.toml")
        else:
            weights = find_weights(text)
        runs.append(Run(name, weights, sha256_of(weights), trained))
    return runs


def _trained_on(config: Path) -> tuple[str, ...]:
    if not config.is_file():
        return ()
    try:
        value = tomllib.loads(config.read_text(encoding="utf-8")).get("data", [])
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PoseError(f"cannot read the settings of the run: {error}", str(config)) from None
    return tuple(str(v) for v in ([value] if isinstance(value, str) else value))


def read_sets(names: Sequence[str], warn: Callable[[str], None]) -> list[TestSet]:
    """Data sets of any form that `convert` reads."""
    sets = []
    for text, name in zip(names, _short_names(names), strict=True):
        dataset = read_dataset(text, warn=warn)
        if not any(record.instances for record in dataset.records):
            raise PoseError("no labelled person to test on", text)
        # The folder too: pictures of another set may have the same names.
        asked = [os.path.realpath(dataset.root), [[r.file_name, r.frame_id, str(r.image_id)] for r in dataset.records]]
        sets.append(TestSet(name, text, dataset, hashlib.sha256(json.dumps(asked).encode()).hexdigest()))
    return sets


def _short_names(paths: Sequence[str]) -> list[str]:
    """The last parts of each path, as many as it takes to tell them all apart."""
    parts = [[p for p in text.replace("\\", "/").split("/") if p not in ("", ".")] or [text] for text in paths]
    for count in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(p[-count:]) for p in parts]
        if len(set(names)) == len(names):
            return names
    raise UsageError(f"one of {', '.join(paths)} is given twice")


def inputs_of(test: TestSet) -> list[Input]:
    """The pictures of a data set as one source, and each of its videos as one, with the frames that are labelled.

    Raises:
        PoseError: a file that is not there.
    """
    root = Path(test.dataset.root)
    pictures: dict[str, int | str] = {}
    videos: dict[str, dict[int, int | str]] = {}
    for record in test.dataset.records:
        if record.frame_id is not None and Path(record.file_name).suffix.lower() in VIDEO_SUFFIXES:
            videos.setdefault(record.file_name, {})[record.frame_id] = record.image_id
        else:
            pictures[record.file_name] = record.image_id
    for name in (*pictures, *videos):
        if not (root / name).is_file():
            raise PoseError(f"it names {name}, which is not there", test.source, f"looked in {root}")
    found = []
    if pictures:
        source = Input("pictures", str(root), test.name, tuple(pictures), None, dict(enumerate(pictures.values())))
        found.append(source)
    for name, frames in videos.items():
        found.append(Input("video", str(root / name), name, (), tuple(sorted(frames)), frames))
    return found


def boxes_of(kind: str, model: PoseModel, dataset: Dataset) -> BoxLookup | None:
    """Where a top-down model looks: ``found`` by a finder, at the labelled people (``labels``), or at the ``full``
    picture. None leaves it to the model, as for those that find people themselves."""
    if kind == "found" or not model.top_down:
        return None
    if kind == "full":
        return whole_picture(float(model.meta.extra.get("box_scale", 1.25)))
    return labelled_boxes(dataset)


def cross_evaluate(
    runs: Sequence[Run],
    sets: Sequence[TestSet],
    folder: str | Path,
    *,
    device: str = "auto",
    batch: int = 8,
    boxes: str = "found",
    metrics: Sequence[str] = ("oks", "pck"),
    own_joints: bool = False,
    match: str = "oks",
    min_joints: int = 1,
    pck_reference: str = "auto",
    bootstrap: int = 1000,
    seed: int = 0,
    warn: Callable[[str], None] = print,
    on_frame: Callable[[Run, TestSet], None] = lambda run, test: None,
) -> dict[str, Any]:
    """Every run on every set.

    Args:
        runs, sets: see `find_runs`, `read_sets`.
        folder: where the streams are kept, a file for each run and set.
        boxes: for top-down models, see `boxes_of`.
        metrics, match, min_joints, pck_reference, bootstrap, seed: as `evaluate`.
        own_joints: each cell on all joints that its run and its set share, instead of those that all share.
        warn: takes remarks. on_frame: is told of every frame looked at.

    Returns:
        Plain numbers: ``runs``, ``sets``, ``joints`` (compared in each set), ``metrics`` (keys of the values),
        ``cells`` (``run``, ``set``, ``own``, ``stream``, ``frames``, ``people``, ``unit``, ``units``, ``values``,
        ``intervals``), ``settings``, ``notes``.

    Raises:
        PoseError: no joint that all share; what reading, inference and `evaluate` raise.
    """
    if boxes not in BOXES:
        raise UsageError(f"unknown boxes {boxes!r}", hint=f"one of {', '.join(BOXES)}")
    streams: dict[tuple[str, str], Path] = {}
    for run in runs:
        model: PoseModel | None = None
        for test in sets:
            path = Path(folder) / _stream_name(run, test, boxes)
            streams[run.name, test.name] = path
            if not path.exists():
                model = model or load_model(run.weights, device, warn=warn)
                _infer(model, run, test, path, boxes, batch, on_frame)
    skeletons = {run.name: read_headers(streams[run.name, sets[0].name])[0].skeleton for run in runs}
    joints = {t.name: None if own_joints else _shared_joints(t, sets, list(skeletons.values())) for t in sets}
    cells = []
    keys: dict[str, None] = {}
    notes: list[str] = []
    for run in runs:
        for test in sets:
            path = streams[run.name, test.name]
            result = evaluate(
                test.dataset, path, metrics=metrics, match=match, min_joints=min_joints, joints=joints[test.name],
                pck_reference=pck_reference, bootstrap=bootstrap, seed=seed, warn=warn,
            )  # fmt: skip
            row = result["all"]
            keys |= dict.fromkeys(k for k in row if k not in _NOTHING)
            notes += [f"{test.name}: {n}" for n in result["notes"]]
            cells.append(
                {
                    "run": run.name,
                    "set": test.name,
                    "own": _is_own(run, test),
                    "stream": str(path),
                    "frames": row["frames"],
                    "people": row["people"],
                    "unit": result["settings"]["unit"],
                    "units": result["settings"]["units"],
                    "values": {k: v for k, v in row.items() if k not in _NOTHING},
                    "intervals": row.get("intervals", {}),
                }
            )
    return {
        "runs": [
            {"name": r.name, "weights": str(r.weights), "sha256": r.sha256, "trained_on": list(r.trained_on)}
            for r in runs
        ],
        "sets": [
            {"name": t.name, "source": t.source, "frames": len(t.dataset.records), "skeleton": t.dataset.skeleton.name}
            for t in sets
        ],
        "joints": {t.name: joints[t.name] for t in sets},
        "metrics": list(keys),
        "settings": {
            "boxes": boxes, "metrics": list(metrics), "match": match, "min_joints": min_joints, "bootstrap": bootstrap,
            "seed": seed, "pck_reference": pck_reference,
        },
        "cells": cells,
        "notes": list(dict.fromkeys(notes)),
    }  # fmt: skip


def _stream_name(run: Run, test: TestSet, boxes: str) -> str:
    """A name that changes with the weights, the frames asked for, where they lie, and the boxes, so that no stream of
    others is taken."""
    if boxes == "labels":  # they may be corrected between two calls
        people = [person for record in test.dataset.records for person in record.instances]
        places = [[p.ignore, p.visibility.tolist(), p.xy.tolist(), _numbers(p.box_xyxy)] for p in people]
        boxes += hashlib.sha256(json.dumps(places).encode()).hexdigest()
    plain = [PurePosixPath(n).with_suffix("").as_posix().replace("/", "_") for n in (run.name, test.name)]
    key = hashlib.sha256(f"{run.sha256} {test.digest} {boxes}".encode()).hexdigest()[:12]
    return f"{plain[0]}.on.{plain[1]}.{key}.poses.jsonl"


def _numbers(box: np.ndarray | None) -> list[float] | None:
    return None if box is None else box.tolist()


def _infer(
    model: PoseModel,
    run: Run,
    test: TestSet,
    path: Path,
    boxes: str,
    batch: int,
    on_frame: Callable[[Run, TestSet], None],
) -> None:
    """One stream over all sources of the set; under another name until it is whole, and gone on with if it is there."""
    part = path.with_name(f".{path.name}.part.jsonl")
    jobs = [Job(source, part, None) for source in inputs_of(test)]
    lookup = boxes_of(boxes, model, test.dataset)
    options = InferOptions(track="none", batch=batch)
    for _ in run_jobs(jobs, model, options, boxes=lookup, resume=True, on_frame=lambda *_: on_frame(run, test)):
        pass
    os.replace(part, path)


def _shared_joints(test: TestSet, sets: Sequence[TestSet], models: Sequence[Skeleton]) -> list[str]:
    names = test.dataset.skeleton.keypoints
    others = [t.dataset.skeleton for t in sets if t is not test] + list(models)
    kept = np.ones(len(names), bool)
    for other in others:
        kept &= match_points(other, test.dataset.skeleton) >= 0
    if not kept.any():
        raise PoseError(
            "there is no joint that all runs and sets have",
            ", ".join(dict.fromkeys(s.name for s in [test.dataset.skeleton, *others])),
            "compare each pair on its own joints with --own-joints",
        )
    return [name for name, keep in zip(names, kept, strict=True) if keep]


def _is_own(run: Run, test: TestSet) -> bool:
    """Whether the run learnt from this very file, so that the cell says nothing about new pictures."""
    return any(Path(p).resolve() == Path(test.source).resolve() for p in run.trained_on)


def cross_tables(result: dict[str, Any]) -> tuple[list[tuple[str, list[str], list[list[str]]]], list[str]]:
    """``(title, headings, rows)`` of a table for each metric, runs down and sets across, and the lines below them."""
    columns: dict[str, str] = {}
    for cell in result["cells"]:
        columns |= dict(main_columns({"all": cell["values"], "groups": {}}))
    at = {(cell["run"], cell["set"]): cell for cell in result["cells"]}
    names = [test["name"] for test in result["sets"]]
    tables = []
    for key, heading in columns.items():
        rows = []
        for run in result["runs"]:
            cells = [at[run["name"], name] for name in names]
            texts = [shown(c["values"].get(key), key) + ("*" if c["own"] else "") + interval(c, key) for c in cells]
            rows.append([run["name"], *texts])
        tables.append((f"{heading} (x 100); down: runs, across: tested on", ["", *names], rows))
    lines = []
    if any(cell["own"] for cell in result["cells"]):
        lines.append("* the run learnt from this file: the figure says nothing about new pictures")
    for name in names:
        cell = at[result["runs"][0]["name"], name]
        joints = result["joints"][name]
        text = "its own with each run" if joints is None else f"{len(joints)} shared by all"
        lines.append(f"{name}: {cell['frames']} frames, {cell['people']} people; joints: {text}")
    if result["settings"]["bootstrap"]:
        lines.append("intervals: 95 %, percentile bootstrap over pictures, or over whole videos")
    return tables, lines + result["notes"]
