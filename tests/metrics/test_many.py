"""Folders of labels and poses, pair by pair; the figures are those of each pair by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from made_pairs import write_pair

from posecli.metrics import evaluate
from posecli.metrics.many import find_pairs, mean_row

ASKED = ("--metrics", "oks,pck", "--by", "none")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "front/a", "front/b")):
        write_pair(tmp_path / f"gt/{name}.json", tmp_path / f"poses/{name}.poses.jsonl", seed)
    (tmp_path / "gt/alone.json").write_text("{}")
    return tmp_path


def test_each_pair_by_itself(folders: Path, cli: Callable[..., Any]) -> None:
    result = cli("evaluate", "gt", "poses", "--each", "out", "--json", *ASKED)
    assert result.code == 0 and "1 labels have no poses: alone" in result.err, result.err
    said = json.loads(result.out)
    assert list(said["pairs"]) == ["a", "front/a", "front/b"] and said["without_poses"] == ["alone"]
    for name, row in said["pairs"].items():
        alone = evaluate(f"gt/{name}.json", f"poses/{name}.poses.jsonl", metrics=["oks", "pck"])
        assert row == json.loads(json.dumps(alone["all"]))
        assert json.loads((folders / f"out/{name}.json").read_text())["all"] == row
    values = [row["mean_OKS"] for row in said["pairs"].values()]
    assert said["mean"]["mean_OKS"] == pytest.approx(np.mean(values)) and len(set(values)) > 1
    table = cli("evaluate", "gt", "poses", "--each", "again", *ASKED)
    assert "front/b" in table.out and "mean of the files" in table.out


def test_failures_stop_nobody_and_are_gone_on_with(folders: Path, cli: Callable[..., Any]) -> None:
    good = (folders / "poses/front/a.poses.jsonl").read_bytes()
    (folders / "poses/front/a.poses.jsonl").write_text("no stream\n")
    result = cli("evaluate", "gt", "poses", "--each", "out", *ASKED)
    assert result.code == 1 and "front/a: " in result.err and "1 of 3 pairs failed" in result.err
    assert sorted(p.name for p in (folders / "out").rglob("*.json")) == ["a.json", "b.json"]
    refused = cli("evaluate", "gt", "poses", "--each", "out", *ASKED)
    assert refused.code == 1 and "exists already" in refused.err
    (folders / "poses/front/a.poses.jsonl").write_bytes(good)
    before = (folders / "out/a.json").stat().st_mtime_ns
    again = cli("evaluate", "gt", "poses", "--each", "out", "--resume", "--json", *ASKED)
    assert again.code == 0 and len(json.loads(again.out)["pairs"]) == 3
    assert (folders / "out/a.json").stat().st_mtime_ns == before and (folders / "out/front/a.json").is_file()


def test_results_of_other_options_are_not_gone_on_with(folders: Path, cli: Callable[..., Any]) -> None:
    assert cli("evaluate", "gt", "poses", "--each", "out", "--thresholds", "pck=0.1", *ASKED).code == 0
    (folders / "out/front/b.json").unlink()
    for other, words in (
        (ASKED, 'thresholds {"pck": [0.1]}, not null'),
        (("--thresholds", "pck=0.1", "--match", "iou", *ASKED), 'match "oks", not "iou"'),
        (("--thresholds", "pck=0.1", "--skeleton", "coco17", *ASKED), "another skeleton"),
    ):
        refused = cli("evaluate", "gt", "poses", "--each", "out", "--resume", *other)
        assert refused.code == 1 and words in refused.err and "a.json" in refused.err, refused.err
        assert not (folders / "out/front/b.json").exists()
    again = cli("evaluate", "gt", "poses", "--each", "out", "--resume", "--thresholds", "pck=0.1", *ASKED)
    assert again.code == 0 and (folders / "out/front/b.json").is_file()


def test_results_on_storage_are_there_when_each_is_done(folders: Path, cli: Callable[..., Any]) -> None:
    files = fsspec.filesystem("memory")
    files.store.clear()
    for path in [*folders.glob("gt/**/*.json"), *folders.glob("poses/**/*.jsonl")]:
        files.pipe_file(f"/m/{path.relative_to(folders).as_posix()}", path.read_bytes())
    files.pipe_file("/m/poses/a.poses.jsonl", b"no stream\n")
    first = cli("evaluate", "memory://m/gt", "memory://m/poses", "--each", "memory://m/out", *ASKED)
    assert first.code == 1 and "memory://m/poses/a.poses.jsonl" in first.err
    assert files.find("/m/out") == ["/m/out/front/a.json", "/m/out/front/b.json"]
    files.put_file(str(folders / "poses/a.poses.jsonl"), "/m/poses/a.poses.jsonl")
    made = files.modified("/m/out/front/a.json")
    again = cli("evaluate", "memory://m/gt", "memory://m/poses", "--each", "memory://m/out", "--resume", *ASKED)
    assert again.code == 0 and files.exists("/m/out/a.json") and files.modified("/m/out/front/a.json") == made
    assert b"posecli-storage" not in files.cat_file("/m/out/a.json")
    files.store.clear()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("gt", "none", "--each", "out"), "this is no folder"),
        (("poses", "gt", "--each", "out"), "have poses of the same name"),
        (("gt", "poses", "--each", "out", "--report", "r.html"), "--each gives a result"),
        (("gt", "poses", "--ray", "auto"), "--ray is for --each"),
        (("gt", "poses", "--resume"), "--resume is for --each"),
    ],
)
def test_what_is_refused(folders: Path, cli: Callable[..., Any], arguments: tuple[str, ...], words: str) -> None:
    result = cli("evaluate", *arguments)
    assert result.code in (1, 2) and words in result.err and not (folders / "out").exists()


def test_the_first_of_several_forms_is_taken(tmp_path: Path) -> None:
    write_pair(tmp_path / "gt/a.json", tmp_path / "poses/a.jsonl", 0)
    (tmp_path / "poses/a.json").write_text("[]")
    (pair,), alone = find_pairs(tmp_path / "gt", tmp_path / "poses", tmp_path / "out", {})
    assert pair.poses.endswith("a.jsonl") and pair.result == str(tmp_path / "out/a.json") and not alone


def test_means_leave_out_what_is_none() -> None:
    rows = [{"AP": 0.5, "PCK": None, "intervals": {}}, {"AP": -1, "PCK": None}, {"AP": 0.7, "PCK": None}]
    assert mean_row(rows) == {"AP": pytest.approx(0.6), "PCK": None, "intervals": None}
    assert mean_row([{"MOTA": -1.0, "CrowdPose_AP": -1}, {"MOTA": 0.0, "CrowdPose_AP": 0.5}]) == {
        "MOTA": pytest.approx(-0.5), "CrowdPose_AP": pytest.approx(0.5),
    }  # fmt: skip
