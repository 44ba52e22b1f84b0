"""Ways to spoil an input. Each changes files below a folder at random and says what it did.

What is certain about the outcome is said with it: `Spoilt.must` is ``"fail"`` where only an error is right, ``"pass"``
where the input still means what it meant, else None. `Spoilt.more` is the number of people that may have been added.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fuzz import bombs
from fuzz.known import Moved

MARKER = "was-run.marker"
# Absolute names that a data file may ask for; nothing may ever be written there.
OUTSIDE = "/tmp/posecli-fuzz-escape"


@dataclass(frozen=True)
class Spoilt:
    """What was done to an input.

    Attributes:
        told: in words.
        must: ``"fail"``, ``"pass"`` or None, see the module.
        more: people that may have been added.
        twice: everybody may be there twice.
        strangers: how many people may come out, at most, who did not go in as they are; None: any number.
        moved: the one coordinate that was replaced.
    """

    told: str
    must: str | None = None
    more: int = 0
    twice: bool = False
    strangers: int | None = None
    moved: Moved | None = None


Mutation = Callable[[Path, random.Random], "Spoilt | None"]

_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "nan", "inf", "1e999", "-1e308", "-1", "0", "-0.0", "99999999999999999999",
    "1e-320", "4294967296", "2147483648", "0.5", "true", "null", '""', '"1"', "[]", "{}", bombs.LONG_NUMBER,
    "1" + "0" * 400, "0." + "3" * 3000, "0x10", "1_0", "\u0665",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    None, True, False, -1, 0, 1, 3, 0.5, -1e308, 1e308, 10**30, float("nan"), float("inf"), "", "x", "nose",
    "../../escape.jpg", f"{OUTSIDE}/a.jpg", "..", "a\0b", "x" * 5000, "\ud83d", "C:\\x", [], [[]], [None], {}, {"x": 1},
    [1, 2, 3], "</script><b id=injected>", [0.0] * 51, [float("nan")] * 51, ["a"] * 51,
)  # fmt: skip
_KEYS = ("id", "keypoints", "file_name", "width", "frame", "name", "x", "\0", "")


# --- any file ---------------------------------------------------------------------------------------------------------


_CLOSED = (".json", ".xml", ".npy", ".npz", ".parquet", ".h5")


def cut_off(path: Path, rng: random.Random) -> Spoilt:
    """The file ends early."""
    data = path.read_bytes()
    at = rng.choice([0, 1, rng.randrange(max(len(data), 1)), max(len(data) - rng.randrange(1, 9), 0)])
    path.write_bytes(data[:at])
    # Of these every proper beginning is broken, but for the white space at the end of a text.
    closed = path.suffix not in _CLOSED or len(data[:at].rstrip()) == len(data.rstrip())
    return Spoilt(f"cut off after {at} of {len(data)} bytes", None if closed else "fail", strangers=1)


def flip_bytes(path: Path, rng: random.Random) -> Spoilt:
    """Some bytes are others."""
    data = bytearray(path.read_bytes())
    count = rng.choice([1, 1, 2, 8])
    for _ in range(count if data else 0):
        data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)
    return Spoilt(f"{count} bytes changed", more=count)


def grow(path: Path, rng: random.Random) -> Spoilt:
    """Something stands before or after."""
    junk = rng.choice(
        [b"\0", b"\xff\xfe\xfd", b"}", b"]", b"{}", b"\n\n", b"x" * 4096, b'{"frame": 3, "persons": []}\n']
    )
    data = path.read_bytes()
    path.write_bytes(junk + data if rng.random() < 0.5 else data + junk)
    return Spoilt(f"{junk[:20]!r} put before or after", more=1, strangers=0)


def other_encoding(path: Path, rng: random.Random) -> Spoilt | None:
    """Text in an encoding nobody said."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        return None
    how = rng.choice(["utf-16", "utf-32", "utf-8-sig", "cp1252"])
    path.write_bytes(text.encode(how, "replace") + (b"\xe9" if how == "cp1252" else b""))
    return Spoilt(f"written as {how}", more=1, strangers=0)


def line_ends(path: Path, rng: random.Random) -> Spoilt | None:
    """Windows' line ends, which mean nothing."""
    data = path.read_bytes()
    if path.suffix not in (".json", ".jsonl", ".csv", ".txt", ".toml") or b"\r" in data:
        return None
    path.write_bytes(data.replace(b"\n", b"\r\n"))
    return Spoilt("CRLF line ends", "pass", strangers=0)


def other_kind(path: Path, rng: random.Random) -> Spoilt:
    """The name of one kind, the contents of another."""
    kinds: dict[str, bytes] = {
        "text": b"hello\n", "empty": b"", "zip": b"PK\x03\x04" + bytes(40), "pickle": pickle.dumps(Marks()),
        "json": b'{"a": [1, 2]}', "list": b"[]", "number": b"7", "string": b'"x"', "null": b"null",
        "deep": b"[" * 200_000, "xml": bombs.ENTITIES,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(30), "hdf5": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "parquet": b"PAR1" + bytes(60) + b"PAR1", "mat": b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\x01IM" + bytes(64),
        "npy": b"\x93NUMPY\x01\x00v\x00",
    }  # fmt: skip
    name = rng.choice(sorted(kinds))
    path.write_bytes(kinds[name])
    return Spoilt(f"replaced by {name}")


def missing(path: Path, rng: random.Random) -> Spoilt:
    """The file is not there, is a folder, or a link to itself or away."""
    path.unlink()
    how = rng.choice(["missing", "a folder", "a link to itself", "a link to nowhere", "a link to /dev/zero"])
    if how == "a folder":
        path.mkdir()
    elif how == "a link to itself":
        path.symlink_to(path)
    elif how == "a link to nowhere":
        path.symlink_to("/nowhere/at/all")
    elif how == "a link to /dev/zero":
        path.symlink_to("/dev/zero")
    return Spoilt(how)


# --- text -------------------------------------------------------------------------------------------------------------

_NUMBER = re.compile(rb"-?\d+\.?\d*(?:[eE][-+]?\d+)?")


def other_numbers(path: Path, rng: random.Random) -> Spoilt | None:
    """Numbers in a text become others, or none at all."""
    data = path.read_bytes()
    if b"\0" in data[:4096]:
        return None
    places = [m.span() for m in _NUMBER.finditer(data)]
    if not places:
        return None
    told = []
    for start, end in sorted(rng.sample(places, min(len(places), rng.choice([1, 1, 3]))), reverse=True):
        new = rng.choice(_NUMBERS)
        told.append(f"{data[start:end].decode()} -> {new[:30]}")
        data = data[:start] + new.encode() + data[end:]
    path.write_bytes(data)
    return Spoilt("numbers: " + ", ".join(told), more=len(told))


def other_lines(path: Path, rng: random.Random) -> Spoilt | None:
    """A line is missing, twice, elsewhere or blank."""
    lines = path.read_bytes().splitlines(keepends=True)
    if len(lines) < 2 or b"\0" in lines[0]:
        return None
    at = rng.randrange(len(lines))
    how = rng.choice(["dropped", "doubled", "blank", "swapped with the first"])
    if how == "dropped":
        del lines[at]
    elif how == "doubled":
        lines.insert(at, lines[at])
    elif how == "blank":
        lines[at] = b"\n"
    else:
        lines[0], lines[at] = lines[at], lines[0]
    path.write_bytes(b"".join(lines))
    # The first line may name the columns; of two lines in one another's place each may be a new person.
    few = 1 if at and how in ("dropped", "blank", "doubled") else None
    return Spoilt(f"line {at + 1} {how}", twice=True, strangers=few)


def other_cells(path: Path, rng: random.Random) -> Spoilt | None:
    """A cell of a table is something else, or there is one more or less."""
    if path.suffix not in (".csv", ".txt"):
        return None
    lines = path.read_text(encoding="utf-8").splitlines()
    if not lines:
        return None
    separator = "," if "," in lines[0] else " "
    row = rng.randrange(len(lines))
    cells = lines[row].split(separator)
    at = rng.randrange(len(cells))
    how = rng.choice(["changed", "changed", "dropped", "added"])
    value = rng.choice(["", "x", "nan", "-5", "1e999", "999999", "nose", '"', "../../escape", OUTSIDE, "3.7", " 2 "])
    if how == "changed":
        cells[at] = value
    elif how == "dropped":
        del cells[at]
    else:
        cells.insert(at, value)
    lines[row] = separator.join(cells)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Spoilt(f"cell {at + 1} of line {row + 1} {how} ({value!r})", more=1)


# --- JSON -------------------------------------------------------------------------------------------------------------


def other_nodes(path: Path, rng: random.Random) -> Spoilt | None:
    """Values in a JSON text are of another kind, missing, doubled or under another name."""
    if path.suffix not in (".json", ".jsonl"):
        return None
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    line = rng.randrange(len(lines))
    value = json.loads(lines[line])
    told, twice = [], False
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        nodes = list(places(value))
        if not nodes:
            break
        holder, key = rng.choice(nodes)
        how = rng.choice(["changed", "changed", "changed", "dropped", "doubled", "renamed"])
        if how == "changed":
            new = rng.choice(_VALUES)
            holder[key] = new
            told.append(f"{key!r} = {str(new)[:30]!r}")
        elif how == "dropped":
            del holder[key]
            told.append(f"{key!r} dropped")
        elif how == "doubled" and isinstance(holder, list):
            holder.insert(rng.randrange(len(holder) + 1), json.loads(json.dumps(holder[key])))
            told.append(f"element {key} doubled")
            twice = True
        elif isinstance(holder, dict):
            holder[rng.choice(_KEYS)] = holder.pop(key)
            told.append(f"{key!r} renamed")
    lines[line] = json.dumps(value)
    path.write_text("\n".join(lines) + ("\n" if path.suffix == ".jsonl" else ""), encoding="utf-8")
    return Spoilt("JSON: " + ", ".join(told), twice=twice)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value inside; of long lists of numbers the first and last only."""
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from places(value[key])
    elif isinstance(value, list):
        for n in range(len(value)) if len(value) < 12 else (0, 1, len(value) - 1):
            yield value, n
            yield from places(value[n])


def not_finite(path: Path, rng: random.Random) -> Spoilt | None:
    """A coordinate of a labelled joint is no finite number: only an error is right."""
    if path.suffix != ".json":
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    people = [p for p in value.get("annotations", []) if _labelled(p)] if isinstance(value, dict) else []
    if not people:
        return None
    person = rng.choice(people)
    joint = rng.choice([j for j in range(len(person["keypoints"]) // 3) if person["keypoints"][3 * j + 2] > 0])
    person["keypoints"][3 * joint + rng.randrange(2)] = rng.choice([float("nan"), float("inf"), None, "7"])
    path.write_text(json.dumps(value), encoding="utf-8")
    return Spoilt("a coordinate is not finite", "fail")


def _labelled(person: Any) -> bool:
    keypoints = person.get("keypoints") if isinstance(person, dict) else None
    return isinstance(keypoints, list) and any(isinstance(v, (int, float)) and v > 0 for v in keypoints[2::3])


def same_ids(path: Path, rng: random.Random) -> Spoilt | None:
    """Two pictures, or two people, have one id: only an error is right."""
    if path.suffix != ".json":
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    lists = (
        [value[k] for k in ("images", "annotations") if len(value.get(k, ())) > 1] if isinstance(value, dict) else []
    )
    lists = [entries for entries in lists if all(isinstance(e, dict) and "id" in e for e in entries)]
    if not lists:
        return None
    first, second, *_ = rng.choice(lists)
    second["id"] = first["id"]
    path.write_text(json.dumps(value), encoding="utf-8")
    return Spoilt("an id stands twice", "fail")


def harmless(path: Path, rng: random.Random) -> Spoilt | None:
    """Keys nobody knows, and spaces: the input means what it meant."""
    if path.suffix != ".json":
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        return None
    value["unknown to all"] = {"a": [1, None]}
    path.write_text(json.dumps(value, indent=3), encoding="utf-8")
    return Spoilt("an unknown key, other spaces", "pass", strangers=0)


# --- arrays -----------------------------------------------------------------------------------------------------------


class Marks:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (MARKER, "w"))


def pickled(path: Path, rng: random.Random) -> Spoilt | None:
    """An array of objects, which reading would have to run: only an error is right."""
    if path.suffix not in (".npy", ".npz"):
        return None
    objects = np.empty(2, object)
    objects[:] = [Marks(), Marks()]
    if path.suffix == ".npy":
        np.save(path, objects, allow_pickle=True)
        return Spoilt("an object array", "fail")
    with np.load(path) as loaded:
        arrays = dict(loaded)
    arrays[rng.choice(sorted(arrays))] = objects
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return Spoilt("an object array in it")


def other_arrays(path: Path, rng: random.Random) -> Spoilt | None:
    """An array of another shape, type or content."""
    if path.suffix not in (".npy", ".npz", ".mat") or path.read_bytes()[:10] == b"MATLAB 7.3":
        return None
    import scipy.io

    if path.suffix == ".npy":
        arrays = {"": np.load(path)}
    elif path.suffix == ".npz":
        with np.load(path) as loaded:
            arrays = dict(loaded)
    else:
        arrays = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    name = rng.choice(sorted(arrays))
    old = np.asarray(arrays[name])
    changes: dict[str, Callable[[], Any]] = {
        "empty": lambda: old[:0], "flat": old.ravel, "one number": lambda: np.array(7.0),
        "text": lambda: np.array(["x", "yy"]), "one more axis": lambda: old[None, ..., None], "turned": lambda: old.T,
        "complex": lambda: np.zeros(old.shape, complex), "whole": lambda: np.zeros(old.shape, np.int8),
        "true": lambda: np.ones(old.shape, bool),
        "infinite": lambda: np.full(old.shape, np.inf), "nan": lambda: np.full(old.shape, np.nan),
        "huge": lambda: np.full(old.shape, 1e300), "negative": lambda: np.full(old.shape, -5.0),
        "big-endian": lambda: np.zeros(old.shape, ">f8"), "half": lambda: old[: len(old) // 2] if old.ndim else old,
        "dates": lambda: np.zeros(old.shape, "M8[s]"), "fields": lambda: np.zeros(old.shape, [("a", "f4")]),
        "long": lambda: np.zeros((100_000, *old.shape[1:])),
    }  # fmt: skip
    how = rng.choice(sorted(changes))
    arrays[name] = changes[how]()
    if how == "long" and old.size > 5000:
        return None
    try:
        if path.suffix == ".npy":
            np.save(path, arrays[""])
        elif path.suffix == ".npz":
            np.savez(path, **arrays)
        else:
            scipy.io.savemat(path, arrays)
    except (TypeError, ValueError):
        return None
    return Spoilt(f"array {name!r} {how}", more=200_000 if how == "long" else 0)


def claims(path: Path, rng: random.Random) -> Spoilt | None:
    """A small file that holds, or says it holds, very much."""
    if path.suffix in (".npy", ".npz", ".mat"):
        made = {".npy": bombs.npy_claim, ".npz": bombs.zip_bomb, ".mat": bombs.mat_bomb}[path.suffix]
        path.write_bytes(made())
        return Spoilt("a bomb", "fail")
    if path.suffix in (".yaml", ".yml"):
        text = path.read_text(encoding="utf-8")
        key = rng.choice(["names", "kpt_names", "train", "unknown"])
        path.write_text(rng.choice([bombs.yaml_aliases(key), bombs.yaml_merges()]) + text, encoding="utf-8")
        return Spoilt("aliases that grow")
    if path.suffix == ".json":
        how = rng.choice(sorted(bombs.JSON_DANGERS))
        path.write_text(bombs.JSON_DANGERS[how](path.read_text(encoding="utf-8")), encoding="utf-8")
        return Spoilt(how, strangers=0)
    return None


# --- XML --------------------------------------------------------------------------------------------------------------


def other_tags(path: Path, rng: random.Random) -> Spoilt | None:
    """An attribute or a tag of an XML text is another or none, or entities that grow stand before."""
    if path.suffix != ".xml":
        return None
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.15:
        path.write_bytes(bombs.ENTITIES.split(b"<annotations>")[0] + text.split("?>", 1)[-1].encode())
        return Spoilt("entities that grow", None)
    attributes = list(re.finditer(r'(\w+)="([^"]*)"', text))
    if not attributes:
        return None
    one = rng.choice(attributes)
    new = rng.choice(["", "x", "-1", "NaN", "1e999", "9" * 30, "../../escape.jpg", "&amp;", f"{OUTSIDE}/b.jpg"])
    text = text[: one.start(2)] + new + text[one.end(2) :]
    path.write_text(text, encoding="utf-8")
    return Spoilt(f"{one[1]} = {new!r}", more=1)


# --- folders ----------------------------------------------------------------------------------------------------------


def strange_neighbours(path: Path, rng: random.Random) -> Spoilt:
    """Files beside it that nobody asked for."""
    name = rng.choice(["\n.json", "ä\udcff.csv", ".hidden.json", "x" * 200 + ".json", "deep/er/labels.json", "loop"])
    target = path.parent / os.fsdecode(os.fsencode(name)) if "\udcff" not in name else Path(os.fsdecode(b"\xff.csv"))
    if "\udcff" in name:
        target = path.parent / target
    target.parent.mkdir(parents=True, exist_ok=True)
    if name == "loop":
        target.symlink_to(path.parent)
    else:
        target.write_bytes(rng.choice([b"", b"{}", path.read_bytes()[:1000]]))
    return Spoilt(f"{name[:20]!r} beside it", twice=True, strangers=1)


MUTATIONS: tuple[Mutation, ...] = (
    cut_off, flip_bytes, grow, other_encoding, line_ends, other_kind, missing, other_numbers, other_numbers,
    other_lines, other_cells, other_cells, other_nodes, other_nodes, other_nodes, other_nodes, not_finite, same_ids,
    harmless, pickled, other_arrays, other_arrays, claims, other_tags, other_tags, strange_neighbours,
)  # fmt: skip
