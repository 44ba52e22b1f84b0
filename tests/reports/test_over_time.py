"""The page over time: low stretches, gaps, thumbnails; complete in itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_clips import make_clip

from posecli.errors import PoseError
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.reports.over_time import Section, low_sections, sources_of, write_over_time
from posecli.reports.time_plots import _with_gaps
from posecli.skeletons import COCO17
from posecli.types import Instance


def test_low_sections_are_unbroken_and_long_enough() -> None:
    nan = float("nan")
    heat = [0.9, 0.2, 0.1, 0.3, 0.9, 0.2, 0.2, 0.9, 0.2, 0.2, nan, 0.2, 0.2, 0.2, 0.2]
    assert low_sections(list(range(15)), heat, 0.5) == [Section(1, 3, 2, 0.1), Section(11, 14, 11, 0.2)]
    # A frame that is missing breaks a stretch too.
    assert low_sections([0, 1, 3, 4], [0.1] * 4, 0.5) == []
    assert low_sections([0, 1, 2], [0.6] * 3, 0.5) == []
    # Where every fifth frame was looked at these follow one another.
    assert low_sections([0, 5, 10, 15, 30], [0.1] * 5, 0.5) == [Section(0, 15, 0, 0.1)]
    assert low_sections([7], [0.1], 0.5) == []


def test_gaps_in_the_frames_are_gaps_in_the_curves() -> None:
    x, y = _with_gaps([0, 2, 4, 10, 12], [1, 2, 3, 4, 5])
    assert np.isnan(x).tolist() == np.isnan(y).tolist() == [False, False, False, True, False, False]
    assert _with_gaps([7], [1.0]) == ([7.0], [1.0])


def _write(path: Path, ids: bool, boxes: bool = True) -> None:
    rng = np.random.default_rng(0)
    shape = rng.uniform(4, 40, (17, 2))
    with StreamWriter(path) as writer:
        writer.header(StreamHeader("clip <b>.mp4", COCO17, fps=25.0))
        for n in range(20):
            people = [
                Instance(
                    (shape + n + rng.normal(0, 0.3, (17, 2))).astype(np.float32), np.full(17, 2),
                    np.full(17, 0.8, np.float32), 0.9, np.array([0.0, 0, 50, 50]) if boxes else None,
                    track_id=k if ids else None, heat=0.2 if k == 1 and 8 <= n < 12 else 0.8,
                )
                for k in (1, 2) if not (k == 2 and 5 <= n < 9)
            ]  # fmt: skip
            writer.frame(FramePoses(n, tuple(people), n / 25, extra={"cut": True} if n == 15 else {}))


def test_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_clip(tmp_path / "clip.mp4", 20)
    _write(tmp_path / "a.jsonl", ids=True)
    write_over_time(tmp_path / "a.jsonl", tmp_path / "a.html", videos={"clip <b>.mp4": str(tmp_path / "clip.mp4")})
    page = (tmp_path / "a.html").read_text()
    assert page.count("<svg") == 1 + 2 * 5  # the timeline; for each of two people heat, x, y, speed, jitter
    assert "clip &lt;b&gt;.mp4" in page and "<b>" not in page
    assert "20 frames, 2 identities, 1 cuts" in page
    assert "marked: 1 stretches" in page and "id 1, frames 8 to 11: 20" in page
    assert page.count("data:image/jpeg;base64,") == 1
    assert "http://" not in page and "https://" not in page and "<script" not in page
    with pytest.raises(PoseError, match="exists already"):
        write_over_time(tmp_path / "a.jsonl", tmp_path / "a.html")
    _write(tmp_path / "b.jsonl", ids=False)
    with pytest.raises(PoseError, match="nobody has an id"):
        write_over_time(tmp_path / "b.jsonl", tmp_path / "b.html")


def test_people_without_boxes_have_all_plots_and_a_video_that_is_none_costs_no_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    make_clip(tmp_path / "clip.mp4", 20)
    (tmp_path / "empty.mp4").touch()
    _write(tmp_path / "a.jsonl", ids=True, boxes=False)
    for name, pictures in (("clip.mp4", 1), ("empty.mp4", 0)):
        ((shown,), _) = sources_of(tmp_path / "a.jsonl", lambda source, name=name: str(tmp_path / name))
        titles = [figure["title"] for figure in shown["details"][0]["figures"]]
        assert titles[-2:] == ["Speeds of joints", "Jitter by joint"]
        assert len(shown["thumbnails"]) == pictures


def test_joints_count_from_the_threshold_of_the_stream_on(tmp_path: Path) -> None:
    """A model whose joints score low says so in the header; without a word there 0.3 is the limit."""
    pytest.importorskip("matplotlib")
    _write(tmp_path / "a.jsonl", ids=True)
    for header, score, curves in ((0.1, 0.2, True), (0.9, 0.8, False), (None, 0.2, False), (None, 0.8, True)):
        with StreamWriter(tmp_path / "b.jsonl", overwrite=True) as writer:
            for n, (head, line) in enumerate(read_stream(tmp_path / "a.jsonl")):
                if not n:
                    writer.header(replace(head, joint_threshold=header))
                people = [replace(p, score=np.full(17, score, np.float32)) for p in line.instances]
                writer.frame(replace(line, instances=tuple(people)))
        ((shown,), _) = sources_of(tmp_path / "b.jsonl", lambda source: None)
        titles = [figure["title"] for figure in shown["details"][0]["figures"]]
        assert ("Speeds of joints" in titles) == ("Jitter by joint" in titles) == curves


def test_the_report_of_an_evaluation_holds_the_same_sections(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from posecli.metrics import evaluate
    from posecli.reports import write_report

    make_clip(tmp_path / "clip <b>.mp4", 20)
    _write(tmp_path / "a.jsonl", ids=True)
    _write(tmp_path / "b.jsonl", ids=False)
    seen: list = []
    result = evaluate(tmp_path / "a.jsonl", tmp_path / "b.jsonl", on_sides=lambda *parts: seen.append(parts))
    pages = []
    for streams in ([], [tmp_path / "b.jsonl"], [tmp_path / "a.jsonl"]):
        write_report(
            result, tmp_path / "r.html", labels=seen[0][0], sides=seen[0][1], image_root=tmp_path, examples=0,
            streams=streams,
        )  # fmt: skip
        pages.append((tmp_path / "r.html").read_text())
    assert pages[0] == pages[1] and "Over time" not in pages[0]
    assert pages[2].count("<svg") == pages[0].count("<svg") + 11 and 'href="#time"' in pages[2]
    assert "id 1, frames 8 to 11: 20" in pages[2] and pages[2].count("data:image/jpeg;base64,") == 1
    # Two of one name, joined by cat, are two.
    (tmp_path / "two.jsonl").write_text(2 * (tmp_path / "a.jsonl").read_text())
    shown, _ = sources_of(tmp_path / "two.jsonl", lambda name: None)
    assert [(s["frames"], s["people"], s["cuts"]) for s in shown] == [(20, 2, 1)] * 2
    # Sources beyond the first few are counted.
    lines = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "many.jsonl").write_text("".join(lines.replace("clip <b>", f"clip {n}") for n in range(6)))
    shown, more = sources_of(tmp_path / "many.jsonl", lambda name: None, 4)
    assert [s["name"] for s in shown] == [f"clip {n}.mp4" for n in range(4)] and more == 2
