"""A warm server and the samples, made once for all fuzz tests."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuzz.known import Whole, people_of
from fuzz.samples import Sample, make_samples
from fuzz.server import Server

# Failing cases are kept here, each with the command that repeats it.
FAILED = Path(__file__).resolve().parent / "failed"


@dataclass(frozen=True)
class Fuzz:
    """What the tests work with: ``wholes`` tells what each sample says, where a data set can be made of it."""

    server: Server
    samples: list[Sample]
    verbs: list[str]
    wholes: dict[str, Whole]


@pytest.fixture(scope="session")
def fuzz(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    made = make_fuzz(tmp_path_factory.mktemp("fuzz"))
    yield made
    made.server.close()


def make_fuzz(folder: Path) -> Fuzz:
    """Starts the server and makes the samples in a folder."""
    from posecli.cli.app import app

    root = Path(__file__).resolve().parent.parent.parent
    shared = Path(os.environ.get("POSECLI_SHARED", root.parent / "shared"))
    server = Server()
    samples = make_samples(folder, server, shared if (shared / "DESIGN.md").exists() else None)
    known = [command.callback.__name__ for command in app.registered_commands if command.callback is not None]
    verbs = [verb for verb in ("convert", "evaluate", "check", "stats", "browse", "render") if verb in known]
    wholes = {}
    for n, sample in enumerate(samples):
        out = folder / f"whole{n}.json"
        arguments = ["convert", sample.source, "--out", str(out), "--to", "coco-dataset", *sample.options]
        if sample.name.startswith("coco-results"):
            continue
        ran = server.run(arguments, sample.folder)
        assert ran.code == 0, f"the sample {sample.name} itself is not read: {ran.err}"
        value = json.loads(out.read_text())
        first = value["images"][0]
        stream = folder / f"whole{n}.jsonl"
        ran = server.run(["convert", str(out), "--out", str(stream), "--quiet"], folder)
        assert ran.code == 0, ran.err
        wholes[sample.name] = Whole(people_of(value), (first["width"], first["height"]), stream)
    return Fuzz(server, samples, verbs, wholes)
