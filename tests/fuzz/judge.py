"""What must be true of whatever comes of a case: an error in one sentence, or a right result; no stray file."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fuzz import known
from fuzz.cases import Case
from fuzz.mutations import MARKER, OUTSIDE
from fuzz.server import Ran, Server

# Talk of Python that no user should have to read.
PYTHON_SPEAKING = re.compile(
    r"Traceback|internal error|object has no attribute|NoneType|not subscriptable|indices must be|unhashable|"
    r"could not broadcast|cannot unpack|positional argument|object is not|must be str, not|\bKeyError\b|IndexError|"
    r"TypeError|AttributeError|UnicodeDecodeError|RecursionError|<class '|numpy\.|unsupported operand|to unpack \(|"
    r"set_int_max_str_digits|Errno"
)
INJECTED = "<b id=injected>"  # mutations put it where a page may show it
_IS_COCO = re.compile(r"coco$|coco-video$|coco-dataset|real-coco$")


class Broken(AssertionError):
    """A promise was not kept."""


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
    _judge_words(case, ran)
    after = snapshot(case.folder, output)
    if before != after:
        changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        raise Broken(f"files outside the output folder were changed: {changed}")
    if Path(OUTSIDE).exists():
        raise Broken(f"{OUTSIDE} was written")
    if any(case.folder.rglob(MARKER)):
        raise Broken("something was unpickled")
    _judge_files(case, ran, output)
    if ran.code == 0 and case.out is not None and case.arguments[0] != "check":
        _judge_output(case, case.out)
    return ran


def _judge_words(case: Case, ran: Ran) -> None:
    """What the command said, and whether it may end so."""
    if ran.code is None:
        raise Broken(f"did not end within {case.seconds:g} s of processor time")
    if ran.code not in (0, 1, 2):
        raise Broken(f"exit code {ran.code}")
    found = PYTHON_SPEAKING.search(ran.err)
    if found:
        raise Broken(f"speaks Python ({found[0]})")
    verb = case.arguments[0]
    lines = [t for t in ran.err.splitlines() if t.startswith("posecli: ") and not t.startswith("posecli: warning: ")]
    findings = verb == "check" and ran.code == 1 and "--strict" in case.arguments and not lines
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
    result = _strict_json(ran.out, "the result") if ran.code == 0 and "--json" in case.arguments else {}
    # check tells what is wrong, and stats counts what is right and tells how much is not.
    told = verb == "check" and ran.code == 0 and result["error"]
    told = told or (verb == "stats" and "not wholly counted" in ran.err)
    if case.must == "fail" and ran.code == 0 and not told:
        raise Broken("succeeded where only an error is right")
    # The predictions at hand are of our own pictures; not every form holds a video; a gallery is of what is there.
    ours = (
        # DeepLabCut's own joints have no sigmas: without them OKS is an error, whatever the file says.
        case.sample.kind == "labels" and not case.sample.options and "OKS needs one sigma" not in ran.err
        if verb == "evaluate"
        else verb != "convert" or case.plain
    )
    # A list of results names no joints, and is refused until --skeleton says which they are.
    nameless = case.sample.name.startswith("coco-results") and "does not name its joints" in ran.err
    if case.must == "pass" and ran.code != 0 and not findings and ours and not nameless:
        raise Broken("failed on an input that means what it meant")
    if verb == "evaluate" and ran.code == 0:
        _judge_scores(result)


def _judge_files(case: Case, ran: Ran, folder: Path) -> None:
    """Whether what was left is whole, or nothing."""
    files = [p for p in folder.rglob("*") if not p.is_dir()]
    parts = [p.name for p in folder.rglob("*") if ".part" in p.name]
    if parts:
        raise Broken(f"half-written files stay behind: {parts}")
    if ran.code != 0:
        frames = folder / "frames"
        left = [p for p in files if frames not in p.parents]
        if left and not (case.arguments[0] == "check" and "--fix" in case.arguments):
            raise Broken(f"failed, but left {[p.name for p in left]}")
    elif case.out is not None and not case.out.exists():
        raise Broken(f"succeeded without {case.out.name}")


def _judge_scores(result: Any) -> None:
    """Every score of an evaluation is a share, or null."""
    for name, value in _leaves(result):
        if re.search(r"(^|[._])(AP|AR|ap|ar|mean_oks|pck|pckh|pdj|pcp|auc|accuracy)($|[._@])", name) and (
            isinstance(value, float) and not 0 <= value <= 1 and value != -1  # pycocotools: nobody of that size
        ):
            raise Broken(f"{name} = {value}")


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, f"{name}.{key}")
    else:
        yield name, value


def _judge_output(case: Case, out: Path) -> None:
    """Whether what was written is strict, and says nothing that the input does not say."""
    if out.suffix == ".html" or case.arguments[0] == "browse":
        page = out if out.suffix == ".html" else out / "index.html"
        if INJECTED in page.read_text(encoding="utf-8"):
            raise Broken("text of the data stands as markup in the page")
        return
    form = case.arguments[case.arguments.index("--to") + 1] if "--to" in case.arguments else ""
    text = out.read_text(encoding="utf-8") if out.suffix in (".json", ".jsonl", ".csv") else ""
    count = None
    if out.suffix == ".json":
        value = _strict_json(text, out.name)
        if form != "labelstudio":
            count = _coco_people(value) if isinstance(value, dict) else _results_people(value)
        if case.plain:
            _judge_people(case, value)
    elif out.suffix == ".jsonl":
        count = _stream_people(text)
    elif re.search(r"(?i)(^|,)(nan|-?inf(inity)?)(,|$)", text, re.M):
        raise Broken("numbers that are not finite in the table")
    if count is not None and case.most_people is not None and count > case.most_people:
        raise Broken(f"{count} people came out, {case.most_people} at most went in")


def _judge_people(case: Case, value: dict[str, Any]) -> None:
    """Whether those who came out went in, as they are (`fuzz.known`)."""
    if _IS_COCO.match(case.sample.name):
        wrong = known.disagrees(case.work / "in" / case.sample.source, value)
        if wrong:
            raise Broken(wrong)
    if case.whole is None or len(case.spoilt) != 1:
        return
    spoilt, out = case.spoilt[0], known.people_of(value)
    if spoilt.moved is not None:
        wrong = known.wrong_after_move(out, case.whole, spoilt.moved)
        if wrong:
            raise Broken(wrong)
    elif spoilt.must == "pass" and Counter(out) != Counter(case.whole.people):
        raise Broken("an input that means what it meant gave other people")
    elif spoilt.strangers is not None:
        found = known.strangers(out, case.whole)
        if len(found) > spoilt.strangers:
            raise Broken(f"{len(found)} people came out who did not go in: {str(found[0])[:300]}")


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
