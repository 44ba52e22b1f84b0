"""What the documentation says exists: verbs, options, files."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
VERBS = (
    "convert",
    "train",
    "infer",
    "evaluate",
    "cross",
    "merge",
    "smooth",
    "render",
    "browse",
    "check",
    "stats",
    "scenes",
    "bench",
)
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_stands_in_the_readme(cli: Callable, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.code == 0 and f"posecli {verb}" in result.out and "Example:" in result.out
    assert f"posecli {verb} " in (ROOT / "README.md").read_text()


def test_help_shows_the_whole_text_of_each_option(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets in a help text are markup to rich, which leaves out what it takes for a tag."""
    import typer.main

    from posecli.cli.app import app

    monkeypatch.setenv("COLUMNS", "1000")  # nothing is wrapped
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(commands) >= set(VERBS)
    for verb, command in commands.items():
        said = " ".join(cli(verb, "--help").out.split())
        for parameter in command.params:
            text = " ".join((parameter.help or "").split())
            assert text and text in said, f"{verb} {parameter.name}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_in_examples_exist(cli: Callable, page: Path) -> None:
    helps = {verb: cli(verb, "--help").out for verb in VERBS}
    text = page.read_text().replace("\\\n", " ")
    for line in re.findall(r"^ {4}(?:\$ )?(posecli .*)$|^(?:\$ )?(posecli .*)$", text, re.MULTILINE):
        for command in re.split(r"\s\|\s|\s&&\s", line[0] or line[1]):
            words = shlex.split(command, comments=True)
            if len(words) < 2 or words[0] != "posecli" or words[1] not in VERBS:
                continue
            for word in words[2:]:
                if word.startswith("--"):
                    option = word.split("=")[0]
                    assert re.search(rf"{re.escape(option)}\b", helps[words[1]]), f"{page.name}: {command}: {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_all_tests_that_want_a_gpu_are_run_together() -> None:
    """`make test-gpu` names files, so that a bare machine need not read the others."""
    named = set(re.findall(r"tests/\S+\.py", (ROOT / "Makefile").read_text().split("test-gpu:")[1].split("\n\n")[0]))
    marked = {p for p in (ROOT / "tests").rglob("test_*.py") if re.search(r"(= |@|=)pytest\.mark\.cuda", p.read_text())}
    assert named == {str(path.relative_to(ROOT)) for path in marked}
