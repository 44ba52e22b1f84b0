"""Spoilt clips and pictures: an error in one sentence, or a line for every frame; no hang, no frame lost in silence."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from forked import forked

from fuzz.media import KINDS, made
from posecli.errors import PoseError
from posecli.video import open_source


def _run(numbers: range, folder: Path, model: Path) -> Counter[str]:
    ends: Counter[str] = Counter()
    for number in numbers:
        place = folder / str(number)
        place.mkdir()
        kind, file = made(number, place)
        command = ["infer", file, "-w", model, "-o", "o.jsonl", "--device", "cpu", "--json", "--end", "40"]
        ended = forked(command, place, limit=120)
        told = f"case {number} ({kind}, {file.name}): {ended}"
        assert ended.code in (0, 1), told
        assert "Traceback" not in ended.err and "internal error" not in ended.err, told
        ends["done" if ended.code == 0 else "refused"] += 1
        if ended.code == 1:
            errors = [x for x in ended.err.splitlines() if x.startswith("posecli: ") and "warning" not in x]
            assert len(errors) == 1 and file.name in errors[0], told
            continue
        lines = [json.loads(x) for x in (place / "o.jsonl").read_text().splitlines()[1:]]
        # Every frame has its line, in order, and those that can't be decoded are counted aloud.
        assert [x["frame"] for x in lines] == list(range(len(lines))), told
        broken = sum(bool(x.get("broken")) for x in lines)
        assert not broken or "could not be decoded" in ended.err, told
        ends["with broken frames"] += bool(broken)
        with open_source(file) as source:
            count = source.num_frames
            good = sum(1 for _ in source.frames(0, min(count or 40, 40)))
        assert count is None or len(lines) == min(count, 40), told
        assert len(lines) - broken == good, told
    return ends


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 504, 84))
def test_spoilt_media(tmp_path: Path, tiny_model: Path, first: int) -> None:
    ends = _run(range(first, first + 84), tmp_path, tiny_model)
    # A harness that only ever meets errors, or never any, tests nothing.
    assert ends["done"] > 20 and ends["refused"] > 5, ends


def test_one_of_each_kind_is_made_and_read(tmp_path: Path) -> None:
    """Without the network: what is no video is refused in words."""
    ends: Counter[str] = Counter()
    for number in range(2 * len(KINDS)):
        _, file = made(number, tmp_path)
        try:
            with open_source(file) as source:
                ends["read"] += sum(1 for _ in source.frames(0, 40)) > 0
        except PoseError as error:
            assert file.name in str(error)
            ends["refused"] += 1
    assert ends["read"] > 10 and ends["refused"] > 1, ends
