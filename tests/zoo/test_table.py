"""The table of public weights: true to the publishers' facts, and what it offers is really read."""

from __future__ import annotations

import json
import re

import pytest
import torch
import zoo_table

from posecli.catalogue import outline
from posecli.models import MODELS
from posecli.official import FAMILIES, load_official
from posecli.official.family import Family
from posecli.skeletons import get_skeleton
from posecli.zoo import Entry, entries, find_entry, suggestions

OFFERED = [e for e in entries() if e.offered]


def test_written_from_the_facts(shared) -> None:
    assert zoo_table.TABLE.read_text(encoding="utf-8") == zoo_table.text(zoo_table.table(shared))


def test_facts(shared) -> None:
    facts = json.loads((shared / "reference" / "zoo.json").read_text())["models"]
    assert [e.name for e in entries()] == [f["name"] for f in facts]
    for entry, fact in zip(entries(), facts, strict=True):
        assert entry.url == fact["url"] and entry.licence == fact["license"]
        assert entry.sha256.startswith(fact["sha256_prefix"] or "") and entry.score == fact.get("metric_value")


def test_what_is_offered_is_ours() -> None:
    assert len(OFFERED) > 50
    for entry in OFFERED:
        assert entry.megabytes and entry.architecture
        if entry.kind == "model":
            assert entry.architecture in MODELS and entry.input_size
            assert get_skeleton(entry.skeleton).num_keypoints == entry.keypoints
        # A publisher's hash, or a page where the user fetches it: nothing unchecked comes by itself.
        assert entry.by_hand or re.fullmatch(r"[0-9a-f]{8}|[0-9a-f]{64}", entry.sha256)
    assert not any(e.offered for e in entries() if e.family in ("YOLO-pose", "RTMPose", "person detector"))


def test_names() -> None:
    entry = find_entry("td-hm_hrnet-w32_8xb64-210e_coco-384x288")
    assert entry is not None and entry.input_size == (288, 384) and entry.claim == "AP 0.76"
    assert find_entry(entry.file) == entry and find_entry("no-such") is None
    assert entry.name in suggestions("td-hm_hrnet-w32_8xb64-210e_coco-384")


FAMILY_MODULES = {"hrnet": ("hrnet", "mmpose"), "simple-baseline": ("simple_baseline",), "cpm": ("cpm",)}


def kind_of(entry: Entry) -> str:
    return re.sub(r"-(w?\d+)$", "", entry.architecture)


def published_form(entry: Entry) -> dict[str, torch.Tensor]:
    """A state dict as the publisher names it, of zeros that take no memory."""
    mmpose = entry.provider.startswith("mmpose")
    head = ("head." if "/v1/" in entry.url else "keypoint_head.") + "final_layer.weight"

    def theirs(family: Family) -> bool:
        if family.describe.__module__.split(".")[-1] not in FAMILY_MODULES[kind_of(entry)]:
            return False
        prefixes = {marker.split(".")[0] for marker in family.markers} & {"backbone", "preact"}
        if kind_of(entry) == "cpm" or not mmpose:
            return prefixes == ({"backbone"} if mmpose else set())
        return prefixes == {"backbone"} and head in family.markers

    family = next(f for f in FAMILIES if theirs(f))
    network = outline(MODELS[entry.architecture], **{**family.example[1], "keypoints": entry.keypoints})
    own = network.state_dict()
    return {
        source: torch.zeros((), dtype=own[name].dtype).expand(own[name].shape)
        for name, sources in family.sources(network).items()
        for source in sources
    }


def one_of_each() -> list[Entry]:
    """An entry for each form, family, data set and reading."""
    kinds = {}
    for e in OFFERED:
        if e.kind == "model" and kind_of(e) in FAMILY_MODULES:
            kinds.setdefault((e.provider, "/v1/" in e.url, e.architecture[:6], e.dataset, e.codec), e)
    return list(kinds.values())


@pytest.mark.parametrize("entry", one_of_each(), ids=lambda e: e.name)
def test_file_is_taken_for_what_the_table_says(tmp_path, monkeypatch, entry: Entry) -> None:
    """The file under its own name loads without a question: joints, input size and reading are the table's."""
    # Megabytes of zeros would be written and read: only names and shapes matter here.
    state = published_form(entry)
    monkeypatch.setattr("posecli.official.read_state_dict", lambda path: state)
    monkeypatch.setattr("posecli.official.convert", lambda family, network, state, where="": network.state_dict())
    path = tmp_path / entry.file
    path.write_bytes(b"-")
    warnings: list[str] = []
    meta = outline(lambda: load_official(path, warn=warnings.append))[1]
    found = (meta.architecture, meta.skeleton.name, meta.input_size, meta.codec)
    assert found == (entry.architecture, entry.skeleton, entry.input_size, entry.codec)
    assert not warnings
