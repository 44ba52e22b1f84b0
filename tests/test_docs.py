"""What the documentation says exists: verbs, options, commands, Python, keys, files, headings."""

from __future__ import annotations

import ast
import contextlib
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
WHOLE = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
# Programs of ours that are no verb.
SCRIPTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("benchmarks", "examples")
    for path in sorted((ROOT / folder).glob("*.*"))
    if path.suffix in (".py", ".sh")
}
# Options of no verb: of torchrun, srun, sbatch, pip and OpenPose.
OF_OTHERS = {
    "--version", "--install-completion",  # of posecli itself
    "--array", "--gpus-per-task", "--implementation", "--no-deps", "--no-index", "--nproc-per-node", "--only-binary",
    "--platform", "--python-version", "--standalone", "--target", "--write_json",
}  # fmt: skip


@cache
def verbs() -> dict[str, Any]:
    """Each verb's command."""
    import typer.main

    from posecli.cli.app import app

    return typer.main.get_command(app).commands  # type: ignore[attr-defined,no-any-return]


VERBS = tuple(verbs())


@cache
def options_of(verb: str) -> set[str]:
    """Its options as they are written, ``--no-...`` and short ones among them."""
    written = {name for p in verbs()[verb].params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}
    return written | {"--help", "-h"}


def commands(text: str) -> Iterator[str]:
    """The posecli commands of a page's indented and fenced lines, without the programs that they are given to."""
    fenced = False
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            for part in re.split(r"\s\|\s|\s&&\s|\s:::\s", line):
                found = re.search(r"(?:^|\s)(?:\S+=\S+ |parallel |python -m |-m )*posecli ([a-z].*)", part)
                if found and found[1].split()[0] in VERBS:
                    yield found[1]


def takes(script: str, option: str) -> bool:
    """Whether a script speaks of an option, or of the key that it makes it from."""
    key = option[2:].replace("-", "_")
    return re.search(rf"{option}\b|\b{key}\b", script) is not None


def slug(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", re.sub(r"[`*]", "", heading).strip().lower()))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example_and_stands_in_the_readme(cli: Callable, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.code == 0 and f"posecli {verb}" in result.out and "Example:" in result.out
    assert re.search(rf"posecli {verb}\s", (ROOT / "README.md").read_text())


def test_help_shows_the_whole_text_of_each_option(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets in a help text are markup to rich, which leaves out what it takes for a tag."""
    monkeypatch.setenv("COLUMNS", "1000")  # nothing is wrapped
    for verb, command in verbs().items():
        said = " ".join(cli(verb, "--help").out.split())
        for parameter in command.params:
            text = " ".join((parameter.help or "").split())
            assert text and text in said, f"{verb} {parameter.name}: {text}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_are_understood(page: Path) -> None:
    """Options exist, take what they are given, and no argument is missing; nothing is run."""
    import click

    for command in commands(page.read_text(encoding="utf-8")):
        verb, *words = shlex.split(command, comments=True)
        try:
            verbs()[verb].make_context(verb, words)
        except click.ClickException as error:
            pytest.fail(f"{page.name}: posecli {command}: {error.format_message()}")


def test_commands_are_found() -> None:
    fenced = "```sh\nN=1 parallel posecli check {} ::: 1\ntorchrun -m posecli train --out o\n```\n"
    text = "    a | posecli infer x --out -\n\n" + fenced + "posecli stats x"
    assert list(commands(text)) == ["infer x --out -", "check {}", "train --out o"]
    assert sum(1 for _ in commands(WHOLE)) > 150


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_options_in_the_text_exist(page: Path) -> None:
    """`--option` belongs to a verb or to a script of ours; `verb --option` to that verb."""
    text = page.read_text(encoding="utf-8")
    known = {option for verb in VERBS for option in options_of(verb)} | OF_OTHERS
    for option in sorted(set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text)) - known):
        assert any(takes(script, option) for script in SCRIPTS.values()), f"{page.name}: {option}"
    for code in re.findall(r"(?<!`)`(?:posecli )?([a-z]+ [^`]*--[^`]*)`(?!`)", text):
        verb, *words = code.split()
        for word in words if verb in VERBS else ():
            if word.startswith("--"):
                assert word.split("=")[0].rstrip(",") in options_of(verb), f"{page.name}: {code}"


def test_options_in_messages_exist() -> None:
    """Errors say what to try, docstrings what to call."""
    known = {option for verb in VERBS for option in options_of(verb)} | OF_OTHERS
    known |= {"--output", "--save-predictions", "--upgrade"}  # labelme's, mmpose's, pip's
    for path in sorted((ROOT / "posecli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                said = set(re.findall(r"(?<![\w(-])--[a-z][\w-]*", node.value))  # not CSS's var(--ink)
                assert said <= known, f"{path.name}, line {node.lineno}"


def test_examples_of_help_are_understood() -> None:
    for verb, command in verbs().items():
        shown = re.findall(r"^\s*Example: posecli ([^\n]*)", command.help or "", re.MULTILINE)
        assert shown, verb
        for example in shown:
            name, *words = shlex.split(example.split(" | ")[0])
            verbs()[name].make_context(name, words)


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_told_of(verb: str) -> None:
    """Somewhere in the pages, not in --help alone."""
    told = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", WHOLE))
    for parameter in verbs()[verb].params:
        names = [name for name in parameter.opts if name.startswith("--")]
        assert not names or told & set(names), f"posecli {verb} {names[0]} stands in no page"


def test_defaults_in_the_text_are_those_of_the_options() -> None:
    """`--option` (NUMBER), or a few words between the two."""
    shown = re.findall(r"`(--[a-z-]+)(?: [A-Z]+)?`[a-zA-Z| ]{0,40}? \(([\d.]+)[;)]", WHOLE)
    assert len(shown) > 8
    for option, number in shown:
        usual = set()
        for parameter in (p for command in verbs().values() for p in command.params if option in p.opts):
            said = re.search(r"default: ([\d.]*\d)", parameter.help or "")  # where it depends on something
            usual |= {float(said[1])} if said else {float(parameter.default)}
        assert float(number) in usual, f"{option} ({number})"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_scripts_take_the_options_they_are_shown_with(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, given in re.findall(r"((?:benchmarks|examples)/\w+\.(?:py|sh))((?:[ ]+[^\s`|;)]+)*)", text):
        assert name in SCRIPTS, f"{page.name}: {name}"
        script = SCRIPTS[name]
        for other in re.findall(r"(\w+\.py)", script) if name.endswith(".sh") else ():  # what it hands them on to
            script += SCRIPTS.get(f"examples/{other}", "")
        for option in re.findall(r"(?<!\S)--[a-z][a-z-]*", given):
            assert takes(script, option), f"{page.name}: {name} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, heading in re.findall(r"\]\(([^)#:\s]*)(?:#([^)\s]*))?\)", page.read_text(encoding="utf-8")):
        place = page.parent / target if target else page
        assert place.exists(), f"{page.name} links to {target}"
        if heading:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(slug, headings), f"{page.name} links to {target}#{heading}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_named_in_the_text_exist(page: Path) -> None:
    for name in re.findall(
        r"`((?:posecli|tests|benchmarks|examples|docs)/[\w./-]+)`", page.read_text(encoding="utf-8")
    ):
        made = name.startswith("tests/fuzz/failed") or "NAME" in name
        assert made or (ROOT / name).exists(), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_names_of_python_exist(page: Path) -> None:
    """`posecli.module.name`, or `module.name` of a module of ours."""
    modules = {path.stem for path in (ROOT / "posecli").iterdir()}
    for code in re.findall(r"`([a-z_]\w*(?:\.\w+)+)(?:\([^`]*\))?`", page.read_text(encoding="utf-8")):
        parts = code.removeprefix("posecli.").split(".")
        ours = parts[0] in modules or code.startswith("posecli.")
        if not ours or parts[-1] in ("py", "cpp", "md", "toml", "json", "yaml"):
            continue
        found: Any = importlib.import_module("posecli")
        for n, part in enumerate(parts):
            with contextlib.suppress(ImportError):
                importlib.import_module(".".join(("posecli", *parts[: n + 1])))
            assert hasattr(found, part), f"{page.name}: {code}"
            found = getattr(found, part)


def test_variables_of_the_environment_are_told_of() -> None:
    modules = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "posecli").rglob("*.py"))
    read = set(re.findall(r"environ\.get\(\"(\w+)\"", modules)) & set(re.findall(r"POSECLI_\w+", modules))
    assert read - set(re.findall(r"POSECLI_\w+", WHOLE)) == set()
    everywhere = modules + "".join(SCRIPTS.values()) + "".join(p.read_text() for p in (ROOT / "tests").glob("*.py"))
    assert set(re.findall(r"POSECLI_\w+", WHOLE)) <= set(re.findall(r"POSECLI_\w+", everywhere))


def test_make_does_what_the_pages_say() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = re.findall(r"(?:^ {4}|`)(?:\S+=\S+ )*make ((?:[a-z-]+ ?)+)", WHOLE, re.MULTILINE)
    assert shown
    for line in shown:
        assert set(line.split()) <= rules, line


def python_blocks() -> list[Any]:
    found = []
    for page in PAGES:
        blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
        if page.name != "CONTRIBUTING.md":  # test_contributing.py builds what that shows
            found += [pytest.param(block, id=f"{page.name}-{n}") for n, block in enumerate(blocks)]
    assert len(found) >= 3
    return found


@pytest.mark.parametrize("block", python_blocks())
def test_python_runs(block: str, cli: Callable, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a picture called ``image``, and beside a clip, its poses, and labels that are these poses."""
    import numpy as np
    from doc_samples import SAMPLES

    SAMPLES["stream"](tmp_path)  # clip.mp4, clip.poses.jsonl
    monkeypatch.chdir(tmp_path)
    done = cli("convert", "clip.poses.jsonl", "--out", "labels.json", "--to", "coco-dataset")
    assert done.code == 0, done.err
    Path("labels.json").replace("coco.json")
    Path("poses.jsonl").write_bytes(Path("clip.poses.jsonl").read_bytes())
    exec(compile(block, "a page's Python", "exec"), {"image": np.full((64, 96, 3), 90, np.uint8)})


def test_every_module_stands_in_the_order_to_read_them_in() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    table = text.split("## The order to read in")[1].split("\n## ")[0]
    rows = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("|"))
    modules = {
        path.stem
        for path in (ROOT / "posecli").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").exists()) and not path.name.startswith("__")
    }
    assert modules == set(re.findall(r"`(\w+)`", rows))


def test_the_table_of_checks_is_that_of_the_code() -> None:
    from posecli.checks.findings import KINDS

    text = (ROOT / "docs/check.md").read_text(encoding="utf-8")
    told = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for kind in re.findall(r"`([a-z-]+)`", cells[0]) if line.startswith("| `") else ():
            told[kind] = (cells[1].split(";")[0], bool(cells[2]))
    assert told == {kind: (about.severity, about.repaired) for kind, about in KINDS.items()}


def test_every_key_of_the_pose_stream_is_told_of() -> None:
    schema = json.loads((ROOT / "docs/pose-stream.schema.json").read_text())["$defs"]
    named = set(re.findall(r"`([a-z0-9_]+)`", (ROOT / "docs/pose-stream.md").read_text(encoding="utf-8")))
    for kind in ("header", "frame", "person"):
        assert set(schema[kind]["properties"]) <= named, kind


def test_every_setting_of_a_training_is_told_of() -> None:
    """In its class, and what a page sets exists."""
    from posecli.settings import TrainSettings

    known = {field.name for field in fields(TrainSettings)}
    about = str(TrainSettings.__doc__).split("Attributes:")[1]
    assert {key for key in known if not re.search(rf"\b{key}\b", about)} == set()
    assert set(re.findall(r"--set '?(\w+)=", WHOLE)) <= known | {"key"}
    page = (ROOT / "docs/training.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`([a-z_]+) = [^`]+`", page)) <= known


def test_every_joint_set_and_codec_is_told_of() -> None:
    from posecli.readout import TOP_DOWN
    from posecli.skeletons import SKELETONS, get_skeleton

    for page, names in (("formats.md", SKELETONS), ("models.md", set(TOP_DOWN) - {"coordinates"})):  # of one network
        told = set(re.findall(r"`([\w-]+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))
        assert set(names) <= told, page
    assert all(get_skeleton(name).name == name for name in SKELETONS)


def test_the_joint_set_that_is_shown_can_be_read(tmp_path: Path) -> None:
    from posecli.skeletons import get_skeleton, read_renames

    shown = re.findall(r"^```toml\n(.*?)^```", WHOLE, re.MULTILINE | re.DOTALL)
    assert shown
    for text in shown:
        (tmp_path / "skeleton.toml").write_text(text)
        skeleton = get_skeleton(str(tmp_path / "skeleton.toml"))
        assert skeleton.flip_pairs and skeleton.limbs and read_renames(tmp_path / "skeleton.toml")


def test_packages_and_extras_are_told_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    rows = re.findall(r"^\| (.*) \|", (ROOT / "docs/dependencies.md").read_text(encoding="utf-8"), re.MULTILINE)
    cells = [[cell.strip() for cell in row.split("|")] for row in rows]
    told = {(row[0].strip("`") if row[0].startswith("`") else "", name)
            for row in cells for name in re.findall(r"[a-z][\w-]*", row[row[0].startswith("`")].lower())}  # fmt: skip
    for extra, packages in {"": project["dependencies"], **extras}.items():
        names = {re.split(r"[\[<>=; ]", package)[0] for package in packages} - {"posecli"}
        assert {(extra, name) for name in names} <= told, extra
    for named in re.findall(r"posecli\[([\w,]+)\]", WHOLE):
        assert set(named.split(",")) <= set(extras), named


@pytest.mark.parametrize("name", ["correct.toml", "default_pose.toml", "finetune.toml"])
def test_settings_of_the_examples_are_settings(name: str) -> None:
    from posecli.settings import read_toml, resolve

    resolve(read_toml(ROOT / "examples" / name))


def test_all_tests_that_want_a_gpu_are_run_together() -> None:
    """`make test-gpu` names files, so that a bare machine need not read the others."""
    named = set(re.findall(r"tests/\S+\.py", (ROOT / "Makefile").read_text().split("test-gpu:")[1].split("\n\n")[0]))
    marked = {p for p in (ROOT / "tests").rglob("test_*.py") if re.search(r"(= |@|=)pytest\.mark\.cuda", p.read_text())}
    assert named == {str(path.relative_to(ROOT)) for path in marked}
