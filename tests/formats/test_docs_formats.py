"""The examples of docs/formats.md work.

The convention: a heading ``### `name`, `other``` begins a section; its first name stands for it. Each ``sh`` block of a
section is run in a fresh folder that `doc_samples.SAMPLES[name]` has filled: every line must be a ``posecli`` command
(``\\`` continues it) and must exit with 0. Every name of `FORMATS` and of `FORMS` stands in the table and in the
heading of a section with an example.

To document a format: write its section, and a builder with ``@sample("name")`` in ``doc_samples.py``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_samples import SAMPLES

from posecli.exports import ALL, FORMS
from posecli.formats import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs/formats.md"


def sections() -> dict[tuple[str, ...], list[str]]:
    """Names of each section's heading to its commands."""
    found: dict[tuple[str, ...], list[str]] = {}
    for part in re.split(r"^#{2,} ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, body = part.partition("\n")
        names = tuple(re.findall(r"`([^`]+)`", heading))
        blocks = re.findall(r"^```sh\n(.*?)^```", body, flags=re.MULTILINE | re.DOTALL)
        if names or blocks:
            assert names, f"examples under {heading!r}: name the format in the heading"
            found[names] = [line for b in blocks for line in b.replace("\\\n", " ").splitlines() if line.strip()]
    return found


@pytest.mark.parametrize("names", sections(), ids=lambda names: names[0])
def test_examples(names: tuple[str, ...], cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = sections()[names]
    assert commands, f"no example under {names}"
    assert names[0] in SAMPLES, f"no sample for {names[0]}: add one to doc_samples.py"
    SAMPLES[names[0]](tmp_path)
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "posecli", command
        done = cli(*words[1:])
        assert done.code == 0, f"{command}\n{done.err}"
        out = words[words.index("--out") + 1]
        written = sorted(tmp_path.glob(f"{Path(out).stem}*"))
        assert written, f"{command} wrote nothing"


def test_every_format_has_an_example() -> None:
    told = {name for names in sections() for name in names}
    assert {*FORMATS, *FORMS} - told == set()


def table() -> list[str]:
    return [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]


def test_the_table_says_what_a_form_has_no_place_for() -> None:
    told = {}
    for line in table():
        names, lost = (line.strip("|").split("|")[n].strip() for n in (0, 4))
        for name in re.findall(r"`([^`]+)`", names):
            parts = [part.removeprefix(f" `{name}`: ") for part in lost.split(";")]
            told[name] = {word for part in parts if "`" not in part for word in part.split(", ") if word}
    for name, form in FORMS.items():
        # The tools' own writers count for themselves; a stream loses digits alone.
        if form.by_tool is None and name != "stream":
            assert told[name] == ALL - form.holds, name


def test_the_table_names_every_format() -> None:
    read, written = set(), set()
    for line in table():
        names, _, reads, writes = (cell.strip() for cell in line.strip("|").split("|")[:4])
        for name in re.findall(r"`([^`]+)`", names):
            (read if reads else set()).add(name)
            (written if writes else set()).add(name)
    assert set(FORMATS) - read == set() and set(FORMS) - written == set()
