"""Settings as text: TOML files, ``key=value`` of the command line, paths that mean the same everywhere."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecli.errors import PoseError, UsageError, reason

if TYPE_CHECKING:
    from posecli.settings import TrainSettings


def read_toml(path: str | Path) -> dict[str, Any]:
    """A flat TOML file of settings; paths in it are relative to the file's folder. PoseError when it can't be read."""
    path = Path(path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PoseError(f"cannot read the configuration: {reason(error)}", str(path)) from None
    tables = [key for key, value in values.items() if isinstance(value, dict)]
    if tables:
        raise PoseError(f"table [{tables[0]}]", str(path), "the configuration is flat: key = value lines only")

    def beside(name: Any) -> Any:
        return str(path.parent / name) if isinstance(name, str) and name else name

    for key in ("val", "val_image_root", "backdrops"):
        if key in values:
            values[key] = beside(values[key])
    for key in ("data", "image_root"):
        if isinstance(values.get(key), list):
            values[key] = [beside(name) for name in values[key]]
    # A bare name (coco17, default) is no path.
    for key in ("skeleton", "init"):
        if isinstance(values.get(key), str) and (path.parent / values[key]).is_file():
            values[key] = beside(values[key])
    return values


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``key=value`` pairs of ``--set``; values in TOML, bare words are text. UsageError when one has no ``=``."""
    values: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise UsageError(f"--set {assignment}", hint="key=value wanted")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return values


def to_toml(settings: TrainSettings) -> str:
    """The settings as a TOML file that `read_toml` and `resolve` turn into the same settings."""

    def literal(value: Any) -> str:
        if isinstance(value, tuple):
            return f"[{', '.join(literal(item) for item in value)}]"
        # JSON's strings, numbers and booleans are TOML's too, but for its escapes in pairs; repr keeps every digit of a
        # float. What is no text at all (names of files in other bytes) is escaped all the same: it can be written.
        if isinstance(value, float):
            return repr(value)
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace").decode()

    return "".join(f"{f.name} = {literal(getattr(settings, f.name))}\n" for f in dataclasses.fields(settings))


def absolute_paths(settings: TrainSettings, *, followed: bool = False) -> TrainSettings:
    """The settings with all paths absolute, so that the run folder can be resumed from anywhere; ``followed``: without
    links and ``..``, so that one file has one name."""

    def full(name: str) -> str:
        return str(Path(name).resolve() if followed else Path(name).absolute()) if name else name

    def full_file(name: str) -> str:
        return full(name) if name and Path(name).is_file() else name

    return dataclasses.replace(
        settings,
        data=tuple(map(full, settings.data)),
        image_root=tuple(map(full, settings.image_root)),
        val=full(settings.val),
        val_image_root=full(settings.val_image_root),
        backdrops=full(settings.backdrops),
        skeleton=full_file(settings.skeleton),
        init=full_file(settings.init),
    )
