"""One case: a sample, spoilt, given to a verb; and what must be true of whatever comes of it.

A case is a function of its number and the samples. It is laid out as ``<case>/a/b/{in,out}``, and the command runs in
``b``, so that a name with ``..`` in it has somewhere to go where it is seen.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.mutations import MARKER, MUTATIONS, OUTSIDE, Spoilt
from fuzz.samples import Sample
from fuzz.server import Ran, Server

# Talk of Python that no user should have to read.
PYTHON_SPEAKING = re.compile(
    r"Traceback|internal error|object has no attribute|NoneType|not subscriptable|indices must be|unhashable|"
    r"could not broadcast|cannot unpack|positional argument|object is not|must be str, not|\bKeyError\b|IndexError|"
    r"TypeError|AttributeError|UnicodeDecodeError|RecursionError|<class '|numpy\.|unsupported operand|to unpack \("
)
POSE_FORMS = ("coco", "stream", "csv", "csv-wide", "openpose", "coco-results")


class Broken(AssertionError):
    """A promise was not kept."""


@dataclass
class Case:
    """A case that is laid out and waits for its command.

    Attributes:
        number: see the module. sample: before it was spoilt. spoilt: what was done. folder: of the whole case.
        arguments: of posecli. out: where its output belongs (None: there is none). seconds: its time.
    """

    number: int
    sample: Sample
    spoilt: list[Spoilt]
    folder: Path
    arguments: list[str]
    out: Path | None
    seconds: float = 30.0
    people: int | None = None
    told: str = field(init=False)

    def __post_init__(self) -> None:
        self.told = f"{self.sample.name}: " + "; ".join(s.told for s in self.spoilt)

    @property
    def work(self) -> Path:
        """Where the command runs."""
        return self.folder / "a" / "b"

    @property
    def must(self) -> str | None:
        """What is certain of the outcome."""
        if len(self.spoilt) == 1:
            return self.spoilt[0].must
        return "fail" if any(s.must == "fail" for s in self.spoilt[-1:]) else None

    @property
    def most_people(self) -> int | None:
        """More people than these cannot come out."""
        if self.people is None:
            return None
        most = self.people
        for spoilt in self.spoilt:
            most = most * (2 if spoilt.twice else 1) + spoilt.more + (most if spoilt.twice else 0)
        return most


def spoil(sample: Sample, folder: Path, rng: random.Random, times: int) -> list[Spoilt]:
    """Spoils a copy of a sample; returns what was done (once at least)."""
    done: list[Spoilt] = []
    for _ in range(60):
        if len(done) == times:
            break
        files = sorted({p for pattern in sample.spoil for p in folder.glob(pattern) if p.is_file()})
        if not files:
            break
        path = rng.choice(files)
        mutation = rng.choice(MUTATIONS)
        try:
            found = mutation(path, rng)
        except Exception:
            if not done:
                raise
            continue  # what is spoilt already cannot always be spoilt further
        if found is not None:
            done.append(Spoilt(f"{path.relative_to(folder)} {found.told}", found.must, found.more, found.twice))
    return done


def lay_out(number: int, samples: Sequence[Sample], verbs: Sequence[str], folder: Path, people: dict[str, int]) -> Case:
    """Makes case ``number`` in an empty folder."""
    rng = random.Random(f"fuzz {number}")
    # Each sample in turn, so that none is forgotten.
    sample = samples[number % len(samples)]
    work = folder / "a" / "b"
    work.mkdir(parents=True)
    shutil.copytree(sample.folder, work / "in", symlinks=True)
    spoilt = spoil(sample, work / "in", rng, rng.choice([1, 1, 1, 2, 3]))
    (work / "out").mkdir()
    arguments, out = _command(sample, samples, rng.choice(list(_usable(sample, verbs))), work, rng)
    return Case(number, sample, spoilt, folder, arguments, out, people=people.get(sample.name))


def _usable(sample: Sample, verbs: Sequence[str]) -> list[str]:
    weights = {"convert": 4, "evaluate": 2, "check": 2, "stats": 1, "render": 2 if sample.kind == "poses" else 0}
    return [verb for verb in verbs for _ in range(weights.get(verb, 0))]


def _command(
    sample: Sample, samples: Sequence[Sample], verb: str, work: Path, rng: random.Random
) -> tuple[list[str], Path | None]:
    """Arguments of a verb that reads the spoilt sample, and its output."""
    source = f"in/{sample.source}"
    if verb == "convert":
        return _convert(sample, source, work, rng)
    if verb == "evaluate":
        good = next(s for s in samples if s.name == ("coco-video" if "video" in sample.name else "coco"))
        if sample.kind == "poses":
            pair = [str(good.folder / good.source), source]
        else:
            stream = next(s for s in samples if s.name == f"stream ({good.name})")
            pair = [source, str(stream.folder / stream.source)]
        metrics = rng.choice([[], ["--metrics", "oks,pck"], ["--by", "video,joint"], ["--misses", "skip"]])
        return ["evaluate", *pair, "--json", *metrics], None
    if verb == "render":
        if "video" in sample.name:
            return ["render", "in/clip.mp4", source, "--out", "out/o.mp4"], work / "out/o.mp4"
        return ["render", "in/p0.png", source, "--out", "out/o.png"], work / "out/o.png"
    if verb == "check":
        options = rng.choice([["--json"], ["--strict", "--json"], ["--no-pictures", "--json"]])
        fix = rng.random() < 0.3
        out = work / ("out/fixed.jsonl" if source.endswith(".jsonl") else "out/fixed.json")
        fixing = ["--fix", str(out.relative_to(work))] if fix else []
        return ["check", source, *options, *fixing, *sample.options], out if fix else None
    return [verb, source, "--json", *sample.options], None


def _convert(sample: Sample, source: str, work: Path, rng: random.Random) -> tuple[list[str], Path]:
    if sample.kind == "poses":
        form = rng.choice(POSE_FORMS)
    else:
        form = rng.choice(["coco", "coco", "coco", "stream", "csv", "csv-wide"])
    suffix = {"coco": ".json", "coco-results": ".json", "stream": ".jsonl", "openpose": ""}.get(form, ".csv")
    out = work / f"out/o{suffix}"
    asked = [] if form == "coco" else ["--to", form]
    more: list[str] = []
    if sample.kind == "labels":
        more = rng.choice(
            [[], [], ["--every", "2"], ["--drop-empty"], ["--to-skeleton", "coco17"], ["--frames", "out/frames"]]
        )
        if more[:1] == ["--frames"] or ("--workers" not in more and sample.name.startswith("mars")):
            more = [*more, "--workers", "1"]
    return ["convert", source, "--out", f"out/o{suffix}", *asked, *more, *sample.options], out


# --- promises ---------------------------------------------------------------------------------------------------------


def snapshot(folder: Path, without: Path) -> dict[str, str]:
    """Every path below a folder but those below ``without``, with what is in it."""
    seen = {}
    for path in sorted(folder.rglob("*")):
        if path == without or without in path.parents:
            continue
        name = str(path.relative_to(folder))
        if path.is_symlink():
            seen[name] = "link"
        elif path.is_dir():
            seen[name] = "folder"
        else:
            seen[name] = hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
    return seen


def run(case: Case, server: Server) -> Ran:
    """Runs a case; Broken when a promise was not kept."""
    output = case.work / "out"
    before = snapshot(case.folder, output)
    ran = server.run(case.arguments, case.work, case.seconds)
    _judge(case, ran)
    after = snapshot(case.folder, output)
    if before != after:
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        raise Broken(f"files outside the output folder were changed: {changed}")
    if Path(OUTSIDE).exists():
        raise Broken(f"{OUTSIDE} was written")
    if any(case.folder.rglob(MARKER)):
        raise Broken("something was unpickled")
    _judge_output(case, ran, output)
    return ran


def _judge(case: Case, ran: Ran) -> None:
    if ran.code is None:
        raise Broken(f"did not end within {case.seconds:g} s of processor time")
    if ran.code not in (0, 1, 2):
        raise Broken(f"exit code {ran.code}")
    found = PYTHON_SPEAKING.search(ran.err)
    if found:
        raise Broken(f"speaks Python ({found[0]})")
    lines = [t for t in ran.err.splitlines() if t.startswith("posecli: ") and not t.startswith("posecli: warning: ")]
    findings = case.arguments[0] == "check" and ran.code == 1 and "--strict" in case.arguments and not lines
    if ran.code and not findings:
        if ran.code == 1 and len(lines) != 1:
            raise Broken(f"{len(lines)} errors in place of one")
        if ran.code == 2 and "Usage:" not in ran.err and len(lines) != 1:
            raise Broken("exit code 2 and no word why")
        if lines and len(lines[0]) > 4000:
            raise Broken(f"an error of {len(lines[0])} characters")
        if lines and re.fullmatch(r"posecli: ('?[\w.]*'?|.*: )", lines[0]):
            raise Broken("an error that says nothing")
    elif lines:
        raise Broken("exit code 0 and an error")
    if case.must == "fail" and ran.code == 0 and case.arguments[0] == "convert":
        raise Broken("succeeded where only an error is right")
    # The predictions at hand are of our own pictures, and not every sample has a video.
    ours = case.arguments[0] != "evaluate" or case.sample.name in ("coco", "coco-video")
    ours = ours and "--frames" not in case.arguments
    if case.must == "pass" and ran.code != 0 and not findings and ours:
        raise Broken("failed on an input that means what it meant")


def _judge_output(case: Case, ran: Ran, folder: Path) -> None:
    files = [p for p in folder.rglob("*") if not p.is_dir()]
    parts = [p.name for p in folder.rglob("*") if ".part" in p.name]
    if parts:
        raise Broken(f"half-written files stay behind: {parts}")
    frames = folder / "frames"
    if ran.code != 0:
        left = [p for p in files if frames not in p.parents]
        if left and not (case.arguments[0] == "check" and "--fix" in case.arguments):
            raise Broken(f"failed, but left {[p.name for p in left]}")
        return
    if case.arguments[0] in ("evaluate", "check", "stats"):
        _strict_json(ran.out, "the result")
    if case.out is None:
        return
    if not case.out.exists():
        raise Broken(f"succeeded without {case.out.name}")
    text = case.out.read_text(encoding="utf-8") if case.out.suffix in (".json", ".jsonl", ".csv") else ""
    most = case.most_people
    if case.out.suffix == ".json":
        value = _strict_json(text, case.out.name)
        if case.arguments[0] == "check":
            return  # a copy with the safe repairs: what cannot be repaired was told and stays
        count = _coco_people(value) if isinstance(value, dict) else _results_people(value)
        if most is not None and count > most:
            raise Broken(f"{count} people came out, {most} at most went in")
    elif case.out.suffix == ".jsonl":
        count = _stream_people(text)
        if most is not None and count > most:
            raise Broken(f"{count} people came out, {most} at most went in")
    elif re.search(r"(?i)(^|,)(nan|-?inf(inity)?)(,|$)", text, re.M):
        raise Broken("numbers that are not finite in the table")


def _strict_json(text: str, what: str) -> Any:
    def refuse(constant: str) -> Any:
        raise Broken(f"{constant} in {what}")

    try:
        return json.loads(text, parse_constant=refuse)
    except ValueError as error:
        raise Broken(f"{what} is no JSON: {error}") from None


def _finite(values: Any, what: str) -> None:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Broken(f"{what}: {value!r}")


def _coco_people(value: dict[str, Any]) -> int:
    """Checks a COCO data set as strictly as pycocotools takes it literally; returns its number of people."""
    images = {i["id"]: i for i in value["images"]}
    if len(images) != len(value["images"]):
        raise Broken("image ids stand twice")
    joints = len(value["categories"][0]["keypoints"])
    ids = [p["id"] for p in value["annotations"]]
    if len(set(ids)) != len(ids):
        raise Broken("annotation ids stand twice")
    for image in images.values():
        if not (isinstance(image["width"], int) and isinstance(image["height"], int)):
            raise Broken("an image without a size")
        if image["width"] < 1 or image["height"] < 1:
            raise Broken(f"an image of {image['width']} x {image['height']}")
        if not isinstance(image["file_name"], str):
            raise Broken("an image without a name")
    for person in value["annotations"]:
        if person["image_id"] not in images:
            raise Broken("a person without an image")
        if len(person["keypoints"]) != 3 * joints:
            raise Broken(f"{len(person['keypoints'])} numbers for {joints} joints")
        _finite(person["keypoints"], "keypoints")
        if not set(person["keypoints"][2::3]) <= {0, 1, 2}:
            raise Broken("a visibility that is none")
        if person["num_keypoints"] != sum(v > 0 for v in person["keypoints"][2::3]):
            raise Broken("num_keypoints is not their number")
        for key in ("bbox", "head_box"):
            if person.get(key) is not None:
                _finite(person[key], key)
                if min(person[key][2:]) < 0:
                    raise Broken(f"{key} of negative size: {person[key]}")
        if person.get("area") is not None:
            _finite([person["area"]], "area")
            if person["area"] < 0:
                raise Broken("a negative area")
    return len(ids)


def _results_people(value: list[dict[str, Any]]) -> int:
    for person in value:
        _finite(person["keypoints"], "keypoints")
        _finite([person["score"]], "score")
    return len(value)


def _stream_people(text: str) -> int:
    count = 0
    for line in text.splitlines():
        value = _strict_json(line, "a line of the stream")
        for person in value.get("persons", ()):
            for joint in person["keypoints"]:
                if joint is not None:
                    _finite(joint, "a joint")
            count += 1
    return count


# --- what is kept of a failure ----------------------------------------------------------------------------------------


def keep(case: Case, ran: Ran | None, why: str, folder: Path) -> str:
    """Saves a failing case with the command that repeats it; returns the message for the test."""
    name = f"{case.number}-{re.sub(r'[^a-z0-9]+', '-', case.sample.name)}"
    place = folder / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(case.folder, place, symlinks=True)
    shutil.rmtree(place / "a" / "b" / "out", ignore_errors=True)
    (place / "a" / "b" / "out").mkdir()
    command = f"cd {shlex.quote(str(place / 'a/b'))} && posecli {shlex.join(case.arguments)} --debug"
    said = "" if ran is None else f"exit code {ran.code} after {ran.seconds:.1f} s\n{ran.out[:500]}\n{ran.err[-1500:]}"
    (place / "why.txt").write_text(f"{why}\n{case.told}\n{command}\n{said}\n", encoding="utf-8", errors="replace")
    return f"case {case.number}: {why}\n  {case.told}\n  {said.strip()}\n  again: {command}"


Runner = Callable[[Case], Ran]
