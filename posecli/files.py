"""Files that are either complete or absent: written beside their place under another name, then renamed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from posecli.errors import PoseError

_LONGEST_NAME = 255  # bytes, of nearly all file systems
# Writes that find no room: a full disk, a used-up quota (Windows knows none), a limit on the size of files.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@contextlib.contextmanager
def no_room_named(name: str | Path) -> Iterator[None]:
    """Where a write of the block finds no room, the system's error tells of which file: of itself it names none."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM and error.filename is None:
            error.filename = str(name)
        raise


@contextlib.contextmanager
def replace_when_done(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Yields a temporary path in the folder of ``path``; renames it to ``path`` when the block ends without an error.

    The temporary name keeps the suffix, so that writers which choose a format by suffix work. On an error the
    temporary file (or folder) is removed and ``path`` is left as it was.

    Raises:
        PoseError: ``path`` exists and ``overwrite`` is false; it is a device or a pipe, which a file would replace.
    """
    path = Path(path)
    if is_passed_on(path):
        raise PoseError("the output is a device or a pipe, not a file", str(path), "'-' for standard output, or a name")
    if path.exists() and not overwrite:
        raise PoseError("the output exists already", str(path), "choose another name or give --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = unfinished(path)
    if part.is_dir():  # of a run that was killed: in a container the next one has the same number
        shutil.rmtree(part)
    try:
        with no_room_named(path):
            yield part
        if path.is_dir() and part.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    except BaseException as error:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a read-only folder, where there is nothing to remove
                part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename, error.filename2 = str(path), None  # the name that a user knows
        if isinstance(error, PoseError):
            error.where = error.where.replace(str(part), str(path))
        raise


def is_passed_on(path: Path) -> bool:
    """Whether what is written there is held by nobody: a named pipe, a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def refuse_no_folder(path: Path) -> None:
    """PoseError where an output would lie below something that is no folder."""
    above = next((p for p in path.parents if p.exists()), None)
    if above is not None and not above.is_dir():
        raise PoseError(f"cannot be written: {above} is no folder", str(path), "choose another name or folder")


def unfinished(path: Path) -> Path:
    """What a file is called while it is written: hidden beside its place, with its suffix, and no longer than names may
    be."""
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    if len(os.fsencode(part.name)) > _LONGEST_NAME:
        short = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]
        part = path.with_name(f".{short}.{os.getpid()}.part{path.suffix}")
    return part


def leave_lost_terminal() -> None:
    """Standard output and error that are a terminal which was closed lead nowhere from here on: to write there would be
    an error in the midst of ending in order."""
    for number in (1, 2):
        try:
            os.tcgetpgrp(number)
        except AttributeError:  # Windows
            return
        except OSError as error:
            if error.errno == errno.EIO:  # else it is no terminal, or a good one
                os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def refuse_device(path: str | Path) -> None:
    """PoseError where the path is, or leads to, a device: /dev/zero has no end. Pipes may be read."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # opening it says what is wrong
        return
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        raise PoseError("a device, not a file", str(path))


def json_fault(error: Exception) -> str:
    """In words, why `json` could not read a text: a ValueError or RecursionError of it."""
    if isinstance(error, RecursionError):
        return "lists or objects lie too deep in each other"
    if isinstance(error, UnicodeDecodeError):
        return "not JSON: not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error}"
    if "digits" in str(error):  # Python's own limit against texts that take hours
        return "a whole number of more than 4300 digits"
    return f"not JSON: {error}"


def no_constant(name: str) -> float:
    """For ``parse_constant`` of `json.loads`: NaN and infinities, which Python reads and JSON has not, are refused."""
    raise ValueError(f"{name} is no number of JSON; a joint not found is null")


def is_finite(value: Any) -> bool:
    """Whether a value out of JSON is a number that floats hold: no truth value, NaN or infinity, no whole number of
    hundreds of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def only_numbers(lists: Iterable[Iterable[Any]], *, null: bool = False) -> bool:
    """Whether lists out of JSON hold nothing but numbers (and ``null`` where that is allowed).

    numpy would also take the text ``"7"``, ``true`` and ``null`` for numbers.
    """
    return set(map(type, chain.from_iterable(lists))) <= {int, float, *([type(None)] if null else [])}


def place_of_not_finite(value: Any) -> str:
    """Where in plain values the first number stands that JSON does not know, and which it is: ``annotations[0] (id 7):
    mine.deep[1] is nan``, the id being that of the last list entry that has one; empty where there is none."""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f" is {value}"
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    for key, part in parts:
        if found := place_of_not_finite(part):
            step = key if isinstance(value, dict) else f"[{key}]"
            if not isinstance(value, dict) and isinstance(part, dict) and "id" in part:
                return f"{step} (id {part['id']!r}): {found}"
            return f"{step}{found}" if found[0] in "[ " else f"{step}.{found}"
    return ""


def json_text(value: Any, where: str | Path = "", **how: Any) -> str:
    """A value as strict JSON; text stands as it is, but for halves of characters, which UTF-8 cannot hold.

    Args:
        value: plain values. where: the file that is written, for the message. how: of `json.dumps`.

    Raises:
        PoseError: a number in it is not finite; where it stands is named.
    """
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, **how)
        text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False, **how)
    except ValueError:
        what = f"{place_of_not_finite(value)}, kept from the input: JSON has no such number"
        raise PoseError(what, str(where), "posecli check looks at the input") from None
    return text


def sha256_of(path: str | Path) -> str:
    """The hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def image_root_of(labels: str | Path, first_name: str) -> Path:
    """The folder that a COCO JSON's file names are relative to: the first of its usual places that holds
    ``first_name``, the JSON's own folder if none does.

    Public data sets keep their JSON in ``annotations/`` and their pictures in ``images/`` or in a folder named after
    the split (``val2017`` for ``person_keypoints_val2017.json``).
    """
    path = Path(labels)
    here = path.parent
    split = path.stem.rpartition("_")[2]
    folders = [here, here / "images", here.parent, here.parent / "images", here.parent / split]
    folders += [here.parent / "images" / split, here.parent.parent]
    # `Path.exists` raises where a name is too long to be anywhere.
    return next((f for f in folders if os.path.exists(f / first_name)), here)


def inside(folder: str | Path, name: str, where: str = "") -> Path:
    """The path ``folder / name`` of a name that a data file states; it never leads out of ``folder``.

    Names in data files are other people's words. Refused are absolute paths (also Windows': ``C:\\x``), names with
    ``..`` as a part, empty names, names with a NUL, and names that a symbolic link below ``folder`` would lead outside.
    Backslashes separate folders, as on Windows.

    Args:
        folder: the output folder; need not exist.
        name: the relative name, e.g. ``"front/walk.mp4"``.
        where: file and record for the message.

    Raises:
        PoseError: the name leads outside or is none.
    """
    hint = "the name comes from the data; rename it there"
    parts = name.replace("\\", "/").split("/")
    bad = "\0" in name or not any(p not in ("", ".") for p in parts)
    if bad or name[:1] in ("/", "\\") or ".." in parts or (len(parts[0]) > 1 and parts[0][1] == ":"):
        raise PoseError(f"the name {name!r} leads out of the output folder", where or str(folder), hint)
    path = Path(folder).joinpath(*(p for p in parts if p not in ("", ".")))
    if not path.resolve().is_relative_to(Path(folder).resolve()):
        raise PoseError(f"the name {name!r} leads out of the output folder through a link", where or str(folder), hint)
    return path


def ends_alike(a: str, b: str) -> int:
    """How many parts two paths have in common at their ends: 2 for ``mars/front/walk.mp4`` and ``x/front/walk.mp4``."""
    count = 0
    for one, other in zip(reversed(PurePosixPath(a).parts), reversed(PurePosixPath(b).parts), strict=False):
        if one != other:
            break
        count += 1
    return count
