"""Everything with labels in the shared folder of real data converts through the command line, and nothing is lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from posecli.errors import PoseError
from posecli.formats import coco, detect, read_dataset

# Source, format, skeleton, images, people (crowds and regions counted too).
SAMPLES = [
    ("aic", "aic", "aic14", 3, 9),
    ("coco/test_coco.json", "coco", "coco17", 4, 14),
    ("coco/test_coco_wholebody.json", "coco", "coco17", 4, 14),
    ("coco_mini/annotations/person_keypoints_train2017.json", "coco", "coco17", 80, 172),
    ("coco_mini/annotations/person_keypoints_val2017.json", "coco", "coco17", 79, 118),
    ("crowdpose", "crowdpose", "crowdpose14", 2, 5),
    ("jhmdb", "jhmdb", "jhmdb15", 3, 3),
    ("mhp", "coco", "mpii16", 2, 4),
    ("mpii", "mpii", "mpii16", 5, 5),
    ("mpii/test_mpii_trb.json", "coco", "custom40", 5, 5),
    ("ochuman", "coco", "coco17", 3, 5),
    ("penn_action_labels/labels/0041.mat", "penn", "pennaction13", 55, 55),
    ("people_boxes/coco_keypoints.json", "coco", "coco17", 152, 614),
    ("people_keypoints_extra/basketball", "coco", "custom18", 72, 72),
    ("people_keypoints_extra/coco_more", "coco", "coco17", 232, 512),
    ("people_keypoints_extra/coco_tiny", "coco", "coco17", 48, 224),
    ("posetrack18", "posetrack", "posetrack18", 3, 29),
    ("posetrack18/annotations/val", "posetrack", "posetrack18", 3, 29),
]


@pytest.mark.parametrize(("source", "form", "skeleton", "images", "people"), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_converts(
    source: str, form: str, skeleton: str, images: int, people: int, shared: Path, tmp_path: Path, cli: Any
) -> None:
    out = tmp_path / "o.json"
    done = cli("convert", shared / "data" / source, "--out", out, "--json")
    assert done.code == 0, done.err
    assert f": {form} (" in done.err
    summary = json.loads(done.out)[str(out)]
    assert (summary["skeleton"], summary["images"], summary["people"]) == (skeleton, images, people)
    assert (summary["files_absent"] > 0) == (form == "penn")  # its pictures are not part of the folder
    again, direct = coco.read(out), read_dataset(shared / "data" / source, warn=lambda m: None)
    for a, b in zip(again.records, direct.records, strict=True):
        assert (a.image_id, a.width, a.height, a.frame_id) == (b.image_id, b.width, b.height, b.frame_id)
        for p, q in zip(a.instances, b.instances, strict=True):
            assert p.visibility.tolist() == q.visibility.tolist() and p.ignore == q.ignore
            assert p.xy[p.visibility > 0] == pytest.approx(q.xy[q.visibility > 0], abs=1e-4)


def test_boxes_without_joints_need_a_skeleton(shared: Path, tmp_path: Path, cli: Any) -> None:
    path, out = shared / "data/people_boxes/annotations.json", tmp_path / "o.json"
    refused = cli("convert", path, "--out", out)
    assert refused.code == 1 and "--skeleton" in refused.err and not out.exists()
    done = cli("convert", path, "--out", out, "--skeleton", "coco17", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)[str(out)]
    assert summary["people"] == summary["people_without_joints"] == 1061 and summary["crowds"] == 43
    source = {a["id"]: a for a in json.loads(path.read_text())["annotations"]}
    for entry in json.loads(out.read_text())["annotations"]:
        assert entry["segmentation"] == source[entry["id"]]["segmentation"]  # polygons and RLE
        assert entry["bbox"] == pytest.approx(source[entry["id"]]["bbox"], abs=1e-6)


def test_folders_of_several_files_name_them(shared: Path) -> None:
    for name in ("coco", "coco_mini", "people_boxes"):
        assert detect(shared / "data" / name)[0] == "coco"
        with pytest.raises(PoseError, match=r"COCO files in the folder: .*\.json, .*\.json.*\(name the file\)"):
            read_dataset(shared / "data" / name)


@pytest.mark.parametrize(
    "name",
    [
        "coco/test_coco_det_AP_H_56.json",
        "crowdpose/test_crowdpose_det_AP_40.json",
        "posetrack18/annotations/test_posetrack18_human_detections.json",
    ],
)
def test_detections_are_no_labels(name: str, shared: Path) -> None:
    with pytest.raises(PoseError, match="predictions, not labels"):
        detect(shared / "data" / name)
