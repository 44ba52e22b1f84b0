"""Whatever is given to a verb: an error in one sentence or a right result; no traceback, no hang, no stray file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz import cases, judge
from fuzz.conftest import FAILED, Fuzz
from fuzz.mutations import OUTSIDE, Spoilt, places
from fuzz.samples import CATEGORY, Sample
from posecli.exports import FORMS
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
            failures.append(_kept(fuzz, case, broken))
        shutil.rmtree(place)
    assert not failures, f"{len(failures)} of {len(numbers)} cases (kept in {FAILED}):\n" + "\n".join(failures[:12])
    # A harness that only ever meets errors, or never any, tests nothing.
    assert codes[0] > 0.1 * len(numbers) and codes[1] > 0.2 * len(numbers), codes


def _kept(fuzz: Fuzz, case: cases.Case, broken: judge.Broken) -> str:
    shutil.rmtree(case.work / "out", ignore_errors=True)
    (case.work / "out").mkdir()
    again = fuzz.server.run(case.arguments, case.work, case.seconds)
    return cases.keep(case, again, str(broken), FAILED)


def _one(fuzz: Fuzz, folder: Path, name: str, arguments: list[str], out: str | None = None, **more: Any) -> int:
    """A case made by hand in ``folder/a/b``; returns the exit code, fails where a promise was broken."""
    work = folder / "a" / "b"
    (work / "out").mkdir(parents=True, exist_ok=True)
    must, seconds = more.pop("must", None), more.pop("seconds", 30.0)
    spoilt = [Spoilt(name, must)]
    sample = Sample(name, folder, "")
    case = cases.Case(0, sample, spoilt, folder, arguments, out and work / out, seconds=seconds, **more)
    try:
        return judge.run(case, fuzz.server).code or 0
    except judge.Broken as broken:
        raise AssertionError(_kept(fuzz, case, broken)) from None


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
        _one(fuzz, folder, f"any JSON: {key!r} = {str(value)[:80]!r}", command, out)

    check()


def test_any_json(fuzz: Fuzz, tmp_path: Path) -> None:
    _any_json(fuzz, tmp_path, 40)


@pytest.mark.slow
def test_much_more_json(fuzz: Fuzz, tmp_path: Path) -> None:
    _any_json(fuzz, tmp_path, 250)


# --- dangers by name ---


@pytest.fixture(params=["../../escape.jpg", f"{OUTSIDE}/a.jpg", "x/../../../escape.png", "..\\..\\escape.jpg"])
def leading_outside(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_names_in_the_data_lead_nowhere(fuzz: Fuzz, tmp_path: Path, leading_outside: str) -> None:
    """No form of output, nor extracted frames, are written where a name in the data points (`cases.run` looks)."""
    for number, sample in enumerate(s for s in fuzz.samples if s.name in ("coco", "coco-video")):
        value = json.loads((sample.folder / sample.source).read_text())
        for image in value["images"]:
            image["file_name"] = leading_outside if number == 0 else image["file_name"]
        for video in value.get("videos", ()):
            video["name"] = leading_outside
        for form in FORMS if number == 0 else ("coco", "openpose"):
            folder = tmp_path / f"{number}{form}"
            shutil.copytree(sample.folder, folder / "a/b/in")
            (folder / "a/b/in/coco.json").write_text(json.dumps(value))
            more = ["--frames", "out/frames", "--workers", "1"] if form == "coco" else ["--to", form]
            out = {"stream": "out/o.jsonl", "csv": "out/o.csv", "csv-wide": "out/o.csv"}.get(form, "out/o.json")
            _one(fuzz, folder, f"{form} of {leading_outside}", ["convert", "in/coco.json", "--out", out, *more])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("danger", ["pickled", "claims"])
def test_arrays_that_carry_code_or_claim_terabytes(fuzz: Fuzz, tmp_path: Path, suffix: str, danger: str) -> None:
    import random

    from fuzz import mutations

    sample = next(s for s in fuzz.samples if s.name == f"mars{suffix.replace('.', '-')}")
    shutil.copytree(sample.folder, tmp_path / "a/b/in")
    path = tmp_path / f"a/b/in/mars/front/clip{suffix}"
    mutation: Callable[..., Spoilt | None] = getattr(mutations, danger)
    if mutation(path, random.Random(1)) is None:
        pytest.skip("nothing of the kind in this form")
    if danger == "pickled" and suffix == ".npz":
        np.savez(path, keypoints=np.array([mutations._Marks()], object))
    assert _one(fuzz, tmp_path, danger, ["convert", "in/mars", "--out", "out/o.json"], "out/o.json", must="fail") == 1


def _crowd(path: Path, people: int) -> None:
    """A COCO file with so many people of two joints, twenty in a picture."""
    pictures = people // 20
    joints = {"keypoints": ["nose", "neck"], "skeleton": [[1, 2]], "posecli": {"name": "two", "sigmas": [0.03, 0.08]}}
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(pictures)]
    head = {"images": images, "categories": [{**CATEGORY, **joints}]}
    with open(path, "w") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for n in range(people):
            person = (
                f'{{"id":{n},"image_id":{n % pictures},"category_id":1,"iscrowd":0,"num_keypoints":2,'
                f'"keypoints":[{n % 601},{n % 401},2,{n % 599},{n % 397},2],"bbox":[1,1,9,9],"area":81}}'
            )
            file.write(("," if n else "") + person)
        file.write("]}")


@pytest.mark.parametrize("verb", ["convert", "check", "evaluate", "stats"])
@pytest.mark.parametrize("people", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_very_many_people(fuzz: Fuzz, tmp_path: Path, verb: str, people: int) -> None:
    """A right result or an error in one sentence, in minutes."""
    if verb not in fuzz.verbs:
        pytest.skip(f"no verb {verb}")
    if people == 10_000 and verb == "evaluate":
        pytest.skip("slow enough to be left to the slow ones")
    (tmp_path / "a/b/in").mkdir(parents=True)
    _crowd(tmp_path / "a/b/in/coco.json", people)
    more = {"convert": ["--out", "out/o.json"], "check": ["--json"], "stats": ["--json"]}.get(
        verb, ["in/p.jsonl", "--json"]
    )
    if verb == "evaluate":
        header = {
            "posecli": 1, "kind": "header", "source": "x",
            "skeleton": {"name": "two", "keypoints": ["nose", "neck"], "sigmas": [0.03, 0.08]},
        }  # fmt: skip
        person = {"score": 0.9, "keypoints": [[1, 1, 1], [2, 2, 1]]}
        rows = [{"frame": n, "file": f"{n}.jpg", "persons": [person] * 20} for n in range(people // 20)]
        (tmp_path / "a/b/in/p.jsonl").write_text("\n".join(map(json.dumps, [header, *rows])))
    seconds = 60 if people == 10_000 else 400
    out = "out/o.json" if verb == "convert" else None
    code = _one(fuzz, tmp_path, f"{people} people", [verb, "in/coco.json", *more], out, seconds=seconds, people=people)
    assert code == 0 or people > 10_000
