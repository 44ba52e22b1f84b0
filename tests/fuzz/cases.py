"""One case: a sample, spoilt, given to a verb.

A case is a function of its number and the samples. It is laid out as ``<case>/a/b/{in,out}``, and the command runs in
``b``, so that a name with ``..`` in it has somewhere to go where it is seen.
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.known import Whole, spoil_coordinate
from fuzz.mutations import MUTATIONS, Spoilt
from fuzz.samples import Sample
from fuzz.server import Ran

POSE_FORMS = ("coco", "stream", "csv", "csv-wide", "openpose", "coco-results", "parquet", "labelme", "yolo")
LABEL_FORMS = ("coco", "coco", "stream", "csv", "csv-wide", "parquet", "cvat", "labelme", "labelstudio", "yolo",
               "deeplabcut")  # fmt: skip
SUFFIXES = {
    "coco": ".json", "coco-dataset": ".json", "coco-results": ".json", "stream": ".jsonl", "parquet": ".parquet",
    "cvat": ".xml", "labelstudio": ".json", "openpose": "", "labelme": "", "yolo": "",
}  # fmt: skip


@dataclass
class Case:
    """A case that is laid out and waits for its command.

    Attributes:
        number: see the module. sample: before it was spoilt. spoilt: what was done. folder: of the whole case.
        arguments: of posecli. out: where its output belongs (None: there is none). seconds: its time.
        people: of the sample. whole: what the intact sample says, where that is known.
        plain: the output is a COCO data set, made without an option that would change it.
    """

    number: int
    sample: Sample
    spoilt: list[Spoilt]
    folder: Path
    arguments: list[str]
    out: Path | None
    seconds: float = 30.0
    people: int | None = None
    whole: Whole | None = None
    plain: bool = False
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


def spoil(sample: Sample, folder: Path, rng: random.Random, times: int, whole: Whole | None) -> list[Spoilt]:
    """Spoils a copy of a sample; returns what was done (once at least)."""
    done: list[Spoilt] = []
    one_coordinate = whole is not None and rng.random() < 0.25
    for _ in range(60):
        if len(done) == (1 if one_coordinate and done and done[0].moved else times):
            break
        files = sorted({p for pattern in sample.spoil for p in folder.glob(pattern) if p.is_file()})
        if not files:
            break
        path = rng.choice(files)
        name = path.relative_to(folder)
        if one_coordinate and not done and whole is not None:
            found = spoil_coordinate(path, whole, rng)
            if found is not None:
                must = "pass" if found[1].to is not None and found[1].to == found[1].to else None
                done.append(Spoilt(f"{name} {found[0]}", must, moved=found[1]))
                continue
        mutation = rng.choice(MUTATIONS)
        try:
            one = mutation(path, rng)
        except Exception:
            if not done:
                raise
            continue  # what is spoilt already cannot always be spoilt further
        if one is not None:
            done.append(Spoilt(f"{name} {one.told}", one.must, one.more, one.twice, one.strangers))
    return done


def lay_out(
    number: int | str,
    samples: Sequence[Sample],
    verbs: Sequence[str],
    folder: Path,
    wholes: Mapping[str, Whole],
) -> Case:
    """Makes case ``number`` in an empty folder; a text is a seed of one's own, with the number behind a space."""
    rng = random.Random(f"fuzz {number}")
    # Each sample in turn, so that none is forgotten.
    number = int(str(number).split()[-1])
    sample = samples[number % len(samples)]
    whole = wholes.get(sample.name)
    work = folder / "a" / "b"
    work.mkdir(parents=True)
    copy(sample, work / "in")
    spoilt = spoil(sample, work / "in", rng, rng.choice([1, 1, 1, 1, 1, 2, 3]), whole)
    (work / "out").mkdir()
    exact = len(spoilt) == 1 and (spoilt[0].moved is not None or spoilt[0].strangers is not None)
    verb = "convert" if exact and rng.random() < 0.7 else rng.choice(list(_usable(sample, verbs)))
    plain = verb == "convert" and (rng.random() < 0.9 if exact else rng.random() < 0.3)
    if plain:
        out: Path | None = work / "out/o.json"
        arguments = ["convert", f"in/{sample.source}", "--out", "out/o.json", "--to", "coco-dataset", *sample.options]
    else:
        arguments, out = _command(sample, samples, verb, work, rng, whole)
    people = None if whole is None else len(whole.people)
    return Case(number, sample, spoilt, folder, arguments, out, people=people, whole=whole, plain=plain)


def copy(sample: Sample, folder: Path) -> None:
    """A copy of a sample; what is not spoilt (pictures, as a rule) is linked, which is faster."""
    spoilt = {p for pattern in sample.spoil for p in sample.folder.glob(pattern)}

    def one(source: str, target: str) -> None:
        if Path(source) in spoilt:
            shutil.copyfile(source, target)
        else:
            os.link(source, target)

    shutil.copytree(sample.folder, folder, symlinks=True, copy_function=one)


def _usable(sample: Sample, verbs: Sequence[str]) -> list[str]:
    weights = {"convert": 4, "evaluate": 2, "check": 2, "stats": 1, "render": 2 if sample.kind == "poses" else 0}
    # browse and stats find out the form themselves.
    weights["browse"] = 0 if sample.options else 1
    return [verb for verb in verbs for _ in range(weights.get(verb, 0))]


def _command(
    sample: Sample, samples: Sequence[Sample], verb: str, work: Path, rng: random.Random, whole: Whole | None
) -> tuple[list[str], Path | None]:
    """Arguments of a verb that reads the spoilt sample, and its output."""
    source = f"in/{sample.source}"
    good = next(s for s in samples if s.name == ("coco-video" if "video" in sample.name else "coco"))
    labels = str(good.folder / good.source)
    if verb == "convert":
        return _convert(sample, source, work, rng)
    if verb == "evaluate":
        if sample.kind == "poses":
            pair = [labels, source]
        else:
            assert whole is not None
            pair = [source, str(whole.stream)]
        metrics = rng.choice([[], ["--metrics", "oks,pck"], ["--by", "video,joint"], ["--misses", "skip"]])
        return ["evaluate", *pair, "--json", *metrics], None
    if verb == "render":
        if "video" in sample.name:
            return ["render", "in/clip.mp4", source, "--out", "out/o.mp4"], work / "out/o.mp4"
        return ["render", "in/p0.png", source, "--out", "out/o.png"], work / "out/o.png"
    if verb == "browse":
        shown = [labels, source] if sample.kind == "poses" and rng.random() < 0.5 else [source]
        out = rng.choice(["out/o.html", "out/o.html", "out/gallery"])
        return ["browse", *shown, "--json", "--out", out], work / out
    if verb == "check":
        options = rng.choice([["--json"], ["--strict", "--json"], ["--no-pictures", "--json"]])
        fix = rng.random() < 0.3
        out_fixed = work / ("out/fixed.jsonl" if source.endswith(".jsonl") else "out/fixed.json")
        fixing = ["--fix", str(out_fixed.relative_to(work))] if fix else []
        return ["check", source, *options, *fixing, *sample.options], out_fixed if fix else None
    return [verb, source, "--json", *sample.options], None


def _convert(sample: Sample, source: str, work: Path, rng: random.Random) -> tuple[list[str], Path]:
    form = rng.choice(POSE_FORMS if sample.kind == "poses" else LABEL_FORMS)
    out = work / f"out/o{SUFFIXES.get(form, '.csv')}"
    asked = [] if form == "coco" else ["--to", form]
    more: list[str] = []
    if sample.kind == "labels":
        more = rng.choice(
            [[], [], ["--every", "2"], ["--drop-empty"], ["--to-skeleton", "coco17"], ["--frames", "out/frames"]]
        )
        if more[:1] == ["--frames"] or ("--workers" not in more and sample.name.startswith("mars")):
            more = [*more, "--workers", "1"]
    return ["convert", source, "--out", f"out/{out.name}", *asked, *more, *sample.options], out


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
