"""Many pairs of files, labels and poses of the same name, measured one by one, or by tasks of Ray.

The result of a pair is a file of its own, complete or absent: what is there need not be done again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecli.errors import PoseError, UsageError
from posecli.files import json_text, replace_when_done
from posecli.metrics.evaluation import evaluate
from posecli.metrics.intervals import AP_LIKE
from posecli.on_ray import Cluster, Failure, each_on_ray
from posecli.storage import current
from posecli.types import Skeleton

__all__ = ["Pair", "find_pairs", "mean_row", "measure_pair", "measure_pairs"]

_POSES = (".poses.jsonl", ".jsonl", ".json")  # of several, the first that is there is taken


@dataclass(frozen=True)
class Pair:
    """Labels, poses, the file of the result, and the options of `evaluate`; all paths absolute."""

    name: str
    labels: str
    poses: str
    result: str
    options: Mapping[str, Any]


def find_pairs(
    labels: str | Path, poses: str | Path, results: str | Path, options: Mapping[str, Any]
) -> tuple[list[Pair], list[str]]:
    """``front/walk.json`` below ``labels`` meets ``front/walk.poses.jsonl`` (``.jsonl``, ``.json``) below ``poses``;
    its result is ``front/walk.json`` below ``results``.

    Returns:
        The pairs by name, and the names of labels without poses.

    Raises:
        PoseError: no such folders, no pair. UsageError: a result would replace what is measured.
    """
    roots = [Path(p).absolute() for p in (labels, poses, results)]
    for root in roots[:2]:
        if not root.is_dir():
            raise PoseError("this is no folder", str(root), "--each measures folders of files")
    names = (p.relative_to(roots[0]) for p in sorted(roots[0].rglob("*.json")))
    pairs, alone = [], []
    for name in (n for n in names if not any(part.startswith(".") for part in n.parts)):
        stem = name.with_suffix("").as_posix()
        found = [p for suffix in _POSES if (p := roots[1] / f"{stem}{suffix}").is_file()]
        if found and roots[2] / name in (roots[0] / name, found[0]):
            raise UsageError("the output is an input", str(roots[2] / name), "--each with a folder of its own")
        if found:
            pairs.append(Pair(stem, str(roots[0] / name), str(found[0]), str(roots[2] / name), options))
        else:
            alone.append(stem)
    if not pairs:
        raise PoseError("no labels (.json) have poses of the same name", f"{labels}, {poses}", "a.json, a.poses.jsonl")
    return pairs, alone


def measure_pair(pair: Pair) -> dict[str, Any]:
    """Measures and writes the result, with what was ``asked``; the row over all its people. PoseError as `evaluate`."""
    result = {"asked": _asked(pair.options), **evaluate(pair.labels, pair.poses, **pair.options)}
    if (storage := current()) is not None:
        result |= {key: storage.said(result[key]) for key in ("labels", "predictions")}
    with replace_when_done(pair.result) as place:
        place.write_text(json_text(result, pair.result, indent=2) + "\n", encoding="utf-8")
    return dict(result["all"])


def _asked(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `evaluate` as JSON gives them back; not where pictures lie, which may have moved."""
    told = {key: value for key, value in options.items() if key != "image_root"}
    plain = {key: value.to_json() if isinstance(value, Skeleton) else value for key, value in told.items()}
    return dict(json.loads(json_text(plain)))


def _row_there(pair: Pair) -> dict[str, Any]:
    """The row of a result that is there, if it was asked with the same options (or does not say with which)."""
    hint = "--overwrite measures anew"
    try:
        there = json.loads(Path(pair.result).read_text(encoding="utf-8"))
        row, was = dict(there["all"]), dict(there.get("asked", {}))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PoseError("not a result of evaluate", pair.result, hint) from None
    wanted = _asked(pair.options)
    for option in {**was, **wanted} if was else ():
        if was.get(option) != wanted.get(option):
            said = f"{option} {json.dumps(was.get(option))}, not {json.dumps(wanted.get(option))}"
            what = f"another {option}" if "skeleton" in option else said
            raise PoseError(f"this result was measured with {what}", pair.result, f"the same options; {hint}")
    return row


def measure_pairs(
    pairs: Sequence[Pair], *, resume: bool = False, cluster: Cluster | None = None
) -> Iterator[tuple[Pair, dict[str, Any] | Failure]]:
    """Each pair with its row over all people, as they are done; a failure stops nobody else.

    Args:
        resume: results that are there are taken as they are, if the options are the same.
        cluster: whose tasks do it; None: this process.

    Raises:
        PoseError: a result that is there and cannot be read, or was measured with other options.
    """
    left = []
    for pair in pairs:
        if resume and Path(pair.result).is_file():
            yield pair, _row_there(pair)
        else:
            left.append(pair)
    if cluster is not None:
        yield from each_on_ray(measure_pair, left, cluster, lambda pair: pair.name)
        return
    for pair in left:
        try:
            yield pair, measure_pair(pair)
        except (PoseError, OSError) as error:
            yield pair, Failure(pair.name, str(error))


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The mean of each number over rows in which it is one: every file counts the same. AP of -1 is none."""
    means: dict[str, float | None] = {}
    for key in dict.fromkeys(k for row in rows for k in row):
        nothing = -1 if key in AP_LIKE else None  # MOTA may be -1
        values = [row[key] for row in rows if isinstance(row.get(key), int | float) and row[key] != nothing]
        means[key] = sum(values) / len(values) if values else None
    return means
