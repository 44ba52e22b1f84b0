"""Files of results: complete or not at all, since a benchmark of hours may end at any time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from posecli.files import replace_when_done


def write_json(file: Path, value: Any) -> None:
    """Writes what was found, for programs."""
    with replace_when_done(file) as part:
        part.write_text(json.dumps(value, indent=1), encoding="utf-8")


def write_both(folder: Path, name: str, found: Any, page: str) -> None:
    """Writes what was found so far as NAME.json, and its page for people as NAME.md."""
    write_json(folder / f"{name}.json", found)
    with replace_when_done(folder / f"{name}.md") as part:
        part.write_text(page, encoding="utf-8")
