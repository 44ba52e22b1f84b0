"""Writes posecli/zoo/table.json from the facts of the public files, with what our networks can do with each.

``python tests/zoo_table.py SHARED`` after a family of networks has been added. A test compares the two.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from posecli.catalogue import outline
from posecli.models import MODELS

TABLE = Path(__file__).resolve().parent.parent / "posecli" / "zoo" / "table.json"

SKELETONS = {
    ("COCO", 17): "coco17",
    ("MPII", 16): "mpii16",
    ("CrowdPose", 14): "crowdpose14",
    ("PoseTrack18", 17): "posetrack18",
    ("AI Challenger", 14): "aic14",
    ("JHMDB", 15): "jhmdb15",
}

# (family, provider) to what reads it: pattern of the name, architecture, codec.
READERS: dict[tuple[str, str], tuple[tuple[str, str, str], ...]] = {
    ("DEKR+HRNet", "official DEKR"): ((r"hrnetw(\d+)", "dekr-w{}", "dekr"),),
    ("HRNet", "official HRNet"): ((r"hrnet_w(\d+)", "hrnet-w{}", "gaussian"),),
    ("HRNet", "mmpose 1.x"): ((r"hrnet-w(\d+)", "hrnet-w{}", "mmpose"),),
    ("CPM", "mmpose 1.x"): ((r"(cpm)", "{}", "mmpose"),),
    ("SimpleBaseline2D+ResNet", "official HRNet"): ((r"resnet_(\d+)", "simple-baseline-{}", "gaussian"),),
    ("SimpleBaseline2D+ResNet", "mmpose 1.x"): ((r"res(\d+)", "simple-baseline-{}", "gaussian"),),
    ("SimpleBaseline2D+ResNet+DarkPose", "mmpose 1.x"): ((r"res(\d+)", "simple-baseline-{}", "dark"),),
    ("DeepPose+ResNet", "mmpose 1.x"): ((r"res(\d+)", "deeppose-resnet-{}", "coordinates"),),
    ("IPR+ResNet", "mmpose 1.x"): ((r"res(\d+)", "integral-resnet-{}", "integral"),),
    ("DSNT+ResNet", "mmpose 1.x"): ((r"res(\d+)", "integral-resnet-{}", "integral"),),
    ("HRNet+DarkPose", "mmpose 1.x"): ((r"hrnet-w(\d+)", "hrnet-w{}", "dark"),),
    # (The "udp-regress" files have three maps a joint.)
    ("HRNet+UDP", "mmpose 1.x"): ((r"hrnet-w(\d+)_udp-\d", "hrnet-w{}", "udp"),),
}


def columns(row: dict[str, Any]) -> dict[str, Any]:
    """One row of our table."""
    kind, architecture, codec, why = _use(row)
    skeleton = SKELETONS.get((row["dataset"], row["keypoints"]), "") if kind == "model" and architecture else ""
    size = re.fullmatch(r"(\d+)x(\d+)", row["input_size"] or "")
    return {
        "name": row["name"],
        "family": row["arch"],
        "provider": row["provider"],
        "dataset": row["dataset"],
        "keypoints": row["keypoints"],
        "input": row["input_size"] or "",
        "metric": row.get("metric"),
        "score": row.get("metric_value"),
        "unit": row.get("metric_unit"),
        "licence": row["license"],
        "url": row["url"],
        "file": row["filename"],
        "page": row["source_doc"],
        "sha256": row.get("sha256") or row["sha256_prefix"] or "",
        "kind": kind,
        "architecture": "" if why else architecture,
        "skeleton": "" if why else skeleton,
        # Published as height x width.
        "input_size": [int(size[2]), int(size[1])] if size and kind == "model" and not why else None,
        "codec": "" if why else codec,
        "megabytes": None if why else _megabytes(architecture, row["keypoints"] or 17),
        "why": why,
    }


def _use(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Kind, architecture, codec, and why not."""
    if row["arch"] == "DEKR rescoring net":
        return "rescore", "dekr-rescore", "", ""
    if row["arch"] == "HRNet backbone":
        return "backbone", "hrnet-w" + re.search(r"w(\d+)", row["name"])[1], "", ""
    if row["arch"] == "person detector":
        return "detector", "", "", "a detector of people, no pose network"
    if row["format"].startswith("pickle"):
        return "model", "", "", "the file is a pickle with code in it, which posecli does not run"
    for pattern, architecture, codec in READERS.get((row["arch"], row["provider"]), ()):
        if found := re.search(pattern, row["name"]):
            name = architecture.format(*found.groups())
            if name not in MODELS:
                break
            if (row["dataset"], row["keypoints"]) not in SKELETONS:
                return "model", name, codec, f"the joints of {row['dataset']} are in no skeleton of ours"
            return "model", name, codec, ""
    return "model", "", "", "no network of ours reads it"


@cache
def _megabytes(architecture: str, keypoints: int) -> int:
    """Size of the tensors in float32."""
    if architecture == "dekr-rescore":
        return 1
    state = outline(MODELS[architecture], keypoints=keypoints).state_dict()
    return round(sum(t.numel() for t in state.values()) * 4 / 1e6)


def table(shared: Path) -> dict[str, Any]:
    """The table as it stands in the package."""
    rows = [columns(row) for row in json.loads((shared / "reference" / "zoo.json").read_text())["models"]]
    return {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}


def text(value: dict[str, Any]) -> str:
    """One row a line."""
    rows = ",\n".join(json.dumps(row, ensure_ascii=False) for row in value["rows"])
    return f'{{"columns": {json.dumps(value["columns"])},\n"rows": [\n{rows}\n]}}\n'


if __name__ == "__main__":
    TABLE.write_text(text(table(Path(sys.argv[1]))), encoding="utf-8")
