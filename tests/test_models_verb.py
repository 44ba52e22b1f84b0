"""`posecli models`: what it lists, and that it fetches."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

from posecli import catalogue
from posecli.inference import find_weights
from posecli.models import MODELS
from posecli.settings import parse_assignments, resolve
from posecli.zoo import entries, fetch, find_entry


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("POSECLI_CACHE", str(tmp_path))
    return tmp_path / "weights"


def test_json(cli) -> None:
    outcome = cli("models", "dekr", "--all", "--json")
    result = json.loads(outcome.out)
    assert [a["name"] for a in result["architectures"]] == [name for name in MODELS if "dekr" in name]
    w32 = result["architectures"][0]
    assert w32["parameters"] == sum(p.numel() for p in catalogue.outline(MODELS["dekr-w32"], keypoints=17).parameters())
    assert w32["input_size"] == [512, 512] and w32["codec"] == "dekr" and "coco17" in w32["skeletons"]
    weights = {e["name"]: e for e in result["weights"]}
    assert weights["pose_dekr_hrnetw32_coco"]["by_hand"] and weights["pose_dekr_hrnetw32_coco"]["offered"]
    unread = weights["dekr_hrnet-w32_8xb10-140e_coco-512x512"]
    assert not unread["offered"] and unread["why"] and unread["architecture"] == ""
    assert "default" in result["shipped"]
    along = {a["name"]: a["shipped"] for a in result["architectures"]}
    assert "default" in along["dekr-finder"] and not along["dekr-w32"]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("deeppose-tiny", "coordinates"), ("tompson-tiny", "cascade"), ("integral-hrnet-tiny", "integral")],
)
def test_networks_without_plain_heat_maps_say_how_they_are_read(cli, name: str, codec: str) -> None:
    (found,) = json.loads(cli("models", name, "--json").out)["architectures"]
    assert found["codec"] == codec and found["recipe"]


def test_list_offers_only_what_is_read(cli, cache: Path) -> None:
    text = cli("models", "hrnet").out
    listed = {e.name for e in entries() if any(line.split()[:1] == [e.name] for line in text.splitlines())}
    expected = {
        e.name
        for e in entries()
        if e.offered and ("hrnet" in e.name or "HRNet" in e.family or "hrnet" in e.architecture)
    }
    assert listed == expected and "more public files" in text
    entry = find_entry("official_pose_hrnet_w32_256x192")
    cache.mkdir()
    (cache / entry.file).write_bytes(b"-")
    line = next(line for line in cli("models", "official_pose_hrnet_w32_256").out.splitlines() if entry.name in line)
    assert line.endswith("here")


def test_unknown_name(cli) -> None:
    outcome = cli("models", "no-such-network")
    assert outcome.code == 1 and "nothing is called 'no-such-network'" in outcome.err


def test_fetch_prints_the_file(cli, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = next(e for e in entries() if e.offered and not e.by_hand)
    cache.mkdir()
    (cache / entry.file).write_bytes(b"put there by the user")
    outcome = cli("models", "--fetch", entry.name)
    assert outcome.code == 1 and "not the published one" in outcome.err
    monkeypatch.setattr("posecli.inference.find_entry", lambda name: dataclasses.replace(entry, sha256=""))
    outcome = cli("models", "--fetch", entry.name)
    assert outcome.code == 0 and outcome.out.strip() == str(cache / entry.file)


def test_weights_by_name_reach_the_model(cli, cache: Path, clip: Path) -> None:
    """`infer --weights NAME` goes the way of `fetch`; what is no weights' name gets a suggestion."""
    entry = find_entry("pose_dekr_hrnetw32_coco")
    with pytest.raises(Exception, match="browser"):
        fetch(entry)
    outcome = cli("infer", clip, "--weights", entry.name)
    assert outcome.code == 1 and entry.url in outcome.err and str(cache / entry.file) in outcome.err
    outcome = cli("infer", clip, "--weights", "pose_dekr_hrnet32_coco")
    assert outcome.code == 1 and "did you mean pose_dekr_hrnetw32_coco" in outcome.err
    outcome = cli("infer", clip, "--weights", "yolo11n-pose")
    assert outcome.code == 1 and "no use to posecli" in outcome.err


# docs/models.md

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "models.md").read_text(encoding="utf-8")


def test_every_network_stands_in_the_documentation() -> None:
    # Names are written out, or as an ending of the one before: `cpn-50`, `-101`.
    words = set(re.findall(r"`([a-z0-9-]+)`", PAGE))
    endings = {word for word in words if word.startswith("-")}
    for name in MODELS:
        if name.endswith(("-tiny", "-small")):
            continue
        known = name in words or any(
            name.endswith(ending) and any(name.removesuffix(ending) == w.rsplit("-", 1)[0] for w in words)
            for ending in endings
        )
        combined = re.sub(r"-(101|152)(-dcn|-duc)$", r"-50", re.sub(r"(-50)(-dcn|-duc)$", r"\1", name))
        assert known or combined in words, name


def commands() -> list[list[str]]:
    whole = PAGE.replace("\\\n", " ")  # a command may go on in the next line
    found = [shlex.split(line) for line in re.findall(r"^ {4}posecli (train .*)$", whole, re.MULTILINE)]
    assert len(found) > 12
    return found


@pytest.mark.parametrize("words", commands(), ids=lambda words: words[2])
def test_training_commands_of_the_documentation(words: list[str]) -> None:
    """Model, settings and arguments fit each other: the network can be made as the command says."""
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert options.keys() <= {"--model", "--data", "--val", "--out", "--init", "--codec", "--set"}
    chosen = {"codec": options["--codec"]} if "--codec" in options else {}
    given = parse_assignments(
        [value for option, value in zip(words[1::2], words[2::2], strict=True) if option == "--set"]
    )
    settings = resolve({"model": options["--model"]}, given, chosen)
    network = catalogue.outline(MODELS[settings.model], keypoints=17, **settings.builder_arguments())
    assert sum(p.numel() for p in network.parameters()) > 1e6
    if "--init" in options:
        entry = find_entry(options["--init"])
        assert find_weights(options["--init"]).is_file() if entry is None else entry.offered  # shipped, or public
