"""What a source is recognised as: the particular before the general, and several that fit all named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from doc_samples import SAMPLES, person

from posecli.errors import PoseError, UsageError
from posecli.exports import export_dataset
from posecli.formats import FORMATS, coco, detect, read_coco_style, read_dataset
from posecli.skeletons import COCO17, CROWDPOSE14
from posecli.types import Dataset, Record

LABELME = {"shapes": [], "imagePath": "a.jpg", "imageWidth": 4, "imageHeight": 4}


def data_set(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    coco.write(Dataset(COCO17, (Record(1, "a.jpg", 64, 48, (person(),)),)), path)
    return path


def test_general_forms_give_way(tmp_path: Path) -> None:
    assert detect(data_set(tmp_path / "a.json")) == ("coco", "it has images, annotations and categories")
    record = Record(1, "a.jpg", 64, 48, (person(CROWDPOSE14),), extra={"crowdIndex": 0.5})
    coco.write(Dataset(CROWDPOSE14, (record,)), tmp_path / "crowd.json")
    assert detect(tmp_path / "crowd.json")[0] == "coco"  # what posecli wrote is COCO, whatever set it was
    (tmp_path / "raw.json").write_text((tmp_path / "crowd.json").read_text().replace("posecli", "note"))
    assert detect(tmp_path / "raw.json")[0] == "crowdpose"
    assert {name for name, form in FORMATS.items() if form.general} == {"coco", "mars"}


def test_several_that_fit_are_all_named(tmp_path: Path, cli: Callable) -> None:
    SAMPLES["mars"](tmp_path)
    assert detect(tmp_path / "mars")[0] == "mars"
    data_set(tmp_path / "mars/labels.json")
    with pytest.raises(PoseError) as error:
        detect(tmp_path / "mars")
    assert error.value.what == (
        "it could be coco (labels.json has images, annotations and categories); "
        "mars (2 videos or folders of frames, 2 with labels)"
    )
    assert error.value.hint == "say which with --format coco or --format mars"
    done = cli("convert", tmp_path / "mars", "--out", tmp_path / "o.json")
    assert done.code == 1 and "say which with --format coco or --format mars" in done.err
    assert cli("convert", tmp_path / "mars", "--out", tmp_path / "o.json", "--format", "mars").code == 0
    (tmp_path / "mars/skeleton.toml").write_text('name = "two"\nkeypoints = ["left_wrist", "right_wrist"]\n')
    assert detect(tmp_path / "mars")[0] == "mars"  # the folder says what it is


def test_videos_that_a_coco_file_speaks_of_are_no_second_form(tmp_path: Path) -> None:
    SAMPLES["mars"](tmp_path)
    for path in (tmp_path / "mars").glob("*.json"):
        path.unlink()
    data_set(tmp_path / "mars/annotations/labels.json")
    assert detect(tmp_path / "mars")[0] == "coco"


def test_two_particular_forms(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(LABELME))
    (tmp_path / "data.yaml").write_text("kpt_shape: [17, 3]\n")
    with pytest.raises(PoseError, match=r"it could be labelme .*; yolo .*say which with --format labelme or"):
        detect(tmp_path)


def test_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(PoseError, match="no such file or folder"):
        detect(tmp_path / "absent")
    with pytest.raises(PoseError, match=r"no data set that is known here .*known: mars_lab"):
        detect(tmp_path)
    (tmp_path / "boxes.json").write_text('[{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 1}]')
    with pytest.raises(PoseError, match="detections are predictions, not labels"):
        detect(tmp_path / "boxes.json")
    (tmp_path / "cut.json").write_text('{"images": [')
    with pytest.raises(PoseError, match="not JSON"):
        detect(tmp_path / "cut.json")
    with pytest.raises(PoseError, match=r"unknown format 'what'"):
        read_dataset(tmp_path, "what")
    with pytest.raises(UsageError, match=r"unknown form 'what'.*one of coco, coco-dataset"):
        export_dataset(Dataset(COCO17, ()), tmp_path / "x", "what")


@pytest.mark.parametrize("name", FORMATS)
def test_recognisers_stand_anything(name: str, tmp_path: Path) -> None:
    """Files that are nothing are refused by every form, without an exception."""
    for suffix in (".json", ".csv", ".mat", ".npz", ".xml", ".yaml", ".h5", ".parquet", ".jsonl", ".txt", ".mp4x", ""):
        for content in (b"", b"\x00\xff\xfe", b"[" * 5000, b"{}", "ä,ö\n1,2\n".encode("latin-1")):
            (tmp_path / f"a{suffix}").write_bytes(content)
            assert FORMATS[name].recognise(tmp_path / f"a{suffix}") is None, (suffix, content[:9])
    assert FORMATS[name].recognise(tmp_path) is None


def test_coco_style_of_other_sets_for_training(tmp_path: Path, cli: Callable) -> None:
    """What reads COCO only reads PoseTrack18 and CrowdPose by their own rules, and says how to convert the rest."""
    told: list[str] = []
    assert read_coco_style(data_set(tmp_path / "a.json"), warn=told.append).skeleton == COCO17 and not told
    for name in ("posetrack", "crowdpose"):
        SAMPLES[name](tmp_path / name)
        labels = next(p for p in sorted((tmp_path / name).rglob("*.json")) if detect(p)[0] == name)
        own = read_dataset(labels, name, warn=lambda message: None)
        read = read_coco_style(labels, warn=told.append)
        assert read.skeleton == own.skeleton and read.videos == own.videos
        assert [len(r.instances) for r in read.records] == [len(r.instances) for r in own.records]
        assert any(f"read as {name} (" in note and "own rules" in note for note in told)
    (tmp_path / "a_labelme.json").write_text(json.dumps(LABELME))
    with pytest.raises(
        PoseError, match=r"labelme .*, not a COCO keypoint JSON .posecli convert .*a_labelme.json --out"
    ):
        read_coco_style(tmp_path / "a_labelme.json")
    with pytest.raises(PoseError, match="no such file or folder"):
        read_coco_style(tmp_path / "absent.json")
    (tmp_path / "cut.json").write_text('{"images": [], "annotations": [], "categories": [')
    with pytest.raises(PoseError, match="not JSON"):
        read_coco_style(tmp_path / "cut.json")
    done = cli("train", "--data", tmp_path / "a_labelme.json", "--model", "pose-fpn", "--out", tmp_path / "run")
    assert done.code == 1 and "posecli convert" in done.err and "labelme" in done.err, done.err
