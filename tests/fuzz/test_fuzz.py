"""Whatever is given to a verb: an error in one sentence or a right result; no traceback, no hang, no stray file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import cases, judge, known
from fuzz.by_hand import kept, one
from fuzz.conftest import FAILED, Fuzz
from fuzz.mutations import places
from posecli.formats import FORMATS


def _run(fuzz: Fuzz, numbers: range, folder: Path) -> None:
    failures = []
    codes = {0: 0, 1: 0, 2: 0}
    for number in numbers:
        place = folder / str(number)
        case = cases.lay_out(number, fuzz.samples, fuzz.verbs, place, fuzz.wholes)
        try:
            codes[judge.run(case, fuzz.server).code or 0] += 1
        except judge.Broken as broken:
            failures.append(kept(fuzz, case, broken))
        shutil.rmtree(place)
    assert not failures, f"{len(failures)} of {len(numbers)} cases (kept in {FAILED}):\n" + "\n".join(failures[:12])
    # A harness that only ever meets errors, or never any, tests nothing.
    assert codes[0] > 0.1 * len(numbers) and codes[1] > 0.2 * len(numbers), codes


def test_every_reader_has_a_sample(fuzz: Fuzz) -> None:
    """A reader is spoilt only where a sample of its form is at hand: a new one needs one in samples.py."""
    from posecli.formats import detect

    found = {s.options[1] if s.options else detect(s.folder / s.source)[0] for s in fuzz.samples if s.kind == "labels"}
    found |= {"pose_stream", "coco_results"}  # the poses of the samples
    # Folders of OpenPose JSON are spoilt beside their video, as `mars` reads them.
    assert set(FORMATS) - found <= {"openpose"}


def test_spoilt_inputs(fuzz: Fuzz, tmp_path: Path) -> None:
    _run(fuzz, range(150), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(150, 1900, 250))
def test_many_spoilt_inputs(fuzz: Fuzz, tmp_path: Path, first: int) -> None:
    _run(fuzz, range(first, first + 250), tmp_path)


# --- any JSON in any place ---

_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
_NAMES = st.sampled_from(["id", "image_id", "keypoints", "bbox", "size", "counts", "name", "file_name"]) | st.text(
    max_size=3
)
_ANY = st.recursive(
    _PLAIN, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=3), max_leaves=10
)
_COMMANDS = (
    ["check", "in/coco.json", "--json"], ["convert", "in/coco.json", "--out", "out/o.json"],
    ["convert", "in/coco.json", "--out", "out/o.csv"], ["evaluate", "in/coco.json", "in/poses.jsonl", "--json"],
    ["render", "in/p0.png", "in/poses.jsonl", "--out", "out/o.png"],
    ["convert", "in/poses.jsonl", "--out", "out/o.json"],
)  # fmt: skip


def _any_json(fuzz: Fuzz, folder: Path, examples: int) -> None:
    labels = next(s for s in fuzz.samples if s.name == "coco")
    poses = next(s for s in fuzz.samples if s.name == "stream (coco)")
    text = (labels.folder / labels.source).read_text()
    lines = (poses.folder / poses.source).read_text().splitlines()
    shutil.copytree(labels.folder, folder / "a/b/in")

    # The same examples every time; a failing one is made small before it is kept.
    @settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(command=st.sampled_from(_COMMANDS), at=st.integers(0, 10_000), line=st.integers(0, 10_000), value=_ANY)
    def check(command: list[str], at: int, line: int, value: Any) -> None:
        written = [json.loads(text)] if "in/coco.json" in command else [json.loads(one) for one in lines]
        here = list(places(written[line % len(written)]))
        holder, key = here[at % len(here)]
        holder[key] = value
        name = "coco.json" if len(written) == 1 else "poses.jsonl"
        (folder / "a/b/in/coco.json").write_text(text)
        (folder / "a/b/in/poses.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "a/b/in" / name).write_text("\n".join(map(json.dumps, written)) + "\n")
        shutil.rmtree(folder / "a/b/out", ignore_errors=True)
        out = command[command.index("--out") + 1] if "--out" in command else None
        told = f"any JSON: {key!r} = {str(value)[:80]!r}"
        if one(fuzz, folder, told, command, out) == 0 and command == _COMMANDS[1]:
            wrong = known.disagrees(folder / "a/b/in/coco.json", json.loads((folder / "a/b/out/o.json").read_text()))
            assert not wrong, f"{told}: {wrong}"

    check()


def test_any_json(fuzz: Fuzz, tmp_path: Path) -> None:
    _any_json(fuzz, tmp_path, 40)


@pytest.mark.slow
def test_much_more_json(fuzz: Fuzz, tmp_path: Path) -> None:
    _any_json(fuzz, tmp_path, 250)
