"""Dangers by name, each given to every reader that could fall for it: nothing is written elsewhere, run or unpacked."""

from __future__ import annotations

import json
import pickle
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from fuzz import bombs, cases, mutations
from fuzz.by_hand import one
from fuzz.conftest import Fuzz
from fuzz.mutations import OUTSIDE
from fuzz.samples import Sample
from posecli.exports import FORMS


def _sample(fuzz: Fuzz, name: str) -> Sample:
    return next(s for s in fuzz.samples if s.name == name)


def _convert(sample: Sample) -> list[str]:
    return ["convert", f"in/{sample.source}", "--out", "out/o.json", "--to", "coco-dataset", *sample.options]


@pytest.fixture(params=["../../escape.jpg", f"{OUTSIDE}/a.jpg", "x/../../../escape.png", "..\\..\\escape.jpg"])
def leading_outside(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_names_in_the_data_lead_nowhere(fuzz: Fuzz, tmp_path: Path, leading_outside: str) -> None:
    """No form of output, nor extracted frames, are written where a name in the data points (`judge.run` looks)."""
    for number, sample in enumerate(s for s in fuzz.samples if s.name in ("coco", "coco-video")):
        value = json.loads((sample.folder / sample.source).read_text())
        for image in value["images"]:
            image["file_name"] = leading_outside if number == 0 else image["file_name"]
        for video in value.get("videos", ()):
            video["name"] = leading_outside
        for form in FORMS if number == 0 else ("coco", "openpose"):
            folder = tmp_path / f"{number}{form}"
            shutil.copytree(sample.folder, folder / "a/b/in")
            (folder / "a/b/in/coco.json").write_text(json.dumps(value))
            more = ["--frames", "out/frames", "--workers", "1"] if form == "coco" else ["--to", form]
            out = {"stream": "out/o.jsonl", "csv": "out/o.csv", "csv-wide": "out/o.csv"}.get(form, "out/o.json")
            one(fuzz, folder, f"{form} of {leading_outside}", ["convert", "in/coco.json", "--out", out, *more])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
@pytest.mark.parametrize("danger", ["pickled", "claims"])
def test_arrays_that_carry_code_or_claim_terabytes(fuzz: Fuzz, tmp_path: Path, suffix: str, danger: str) -> None:
    sample = _sample(fuzz, f"mars{suffix.replace('.', '-')}")
    shutil.copytree(sample.folder, tmp_path / "a/b/in")
    path = tmp_path / f"a/b/in/mars/front/clip{suffix}"
    mutation: Callable[..., mutations.Spoilt | None] = getattr(mutations, danger)
    if mutation(path, random.Random(1)) is None:
        pytest.skip("nothing of the kind in this form")
    if danger == "pickled" and suffix == ".npz":
        np.savez(path, keypoints=np.array([mutations.Marks()], object))
    assert one(fuzz, tmp_path, danger, ["convert", "in/mars", "--out", "out/o.json"], "out/o.json", must="fail") == 1


@pytest.mark.parametrize("how", sorted(bombs.JSON_DANGERS))
def test_json_that_is_too_deep_or_too_long(fuzz: Fuzz, tmp_path: Path, how: str) -> None:
    """In every form that is JSON: an error in one sentence, or the people that are there."""
    for sample in fuzz.samples:
        if sample.name.startswith("real-"):
            continue
        folder = tmp_path / sample.name
        cases.copy(sample, folder / "a/b/in")
        files = [p for pattern in sample.spoil for p in (folder / "a/b/in").glob(pattern) if p.is_file()]
        path = next((p for p in sorted(files) if p.suffix in (".json", ".jsonl")), None)
        if path is not None:
            path.write_text(bombs.JSON_DANGERS[how](path.read_text()))
            verb = ["check", f"in/{sample.source}", "--json"] if sample.kind == "poses" else _convert(sample)
            one(fuzz, folder, f"{how} in {sample.name}", verb, "out/o.json" if verb[0] == "convert" else None)


def test_aliases_and_merges_in_yaml(fuzz: Fuzz, tmp_path: Path) -> None:
    sample = _sample(fuzz, "yolo (coco)")
    texts = [bombs.yaml_aliases(key) for key in ("names", "kpt_names", "train", "unknown")] + [bombs.yaml_merges()]
    for n, text in enumerate(texts):
        cases.copy(sample, tmp_path / f"{n}/a/b/in")
        path = tmp_path / f"{n}/a/b/in" / sample.source / "data.yaml"
        path.write_text(text + path.read_text())
        assert one(fuzz, tmp_path / str(n), "aliases that grow", _convert(sample), "out/o.json", must="fail") == 1


def test_entities_and_depth_in_xml(fuzz: Fuzz, tmp_path: Path) -> None:
    sample = _sample(fuzz, "cvat (coco)")
    text = (sample.folder / sample.source).read_bytes()
    doctype = bombs.ENTITIES.split(b"<annotations>")[0]
    for n, made in enumerate((bombs.ENTITIES, doctype + text.split(b"?>", 1)[-1])):
        (tmp_path / f"{n}/a/b/in").mkdir(parents=True)
        (tmp_path / f"{n}/a/b/in" / sample.source).write_bytes(made)
        command = [*_convert(sample), "--format", "cvat"]
        assert one(fuzz, tmp_path / str(n), "entities", command, "out/o.json", must="fail") == 1
    (tmp_path / "deep/a/b/in").mkdir(parents=True)
    deep = b"<a>" * bombs.DEEP + b"</a>" * bombs.DEEP
    (tmp_path / "deep/a/b/in" / sample.source).write_bytes(text.replace(b"</version>", b"</version>" + deep, 1))
    one(fuzz, tmp_path / "deep", "deep XML", _convert(sample), "out/o.json")


def test_hdf5_that_claims_terabytes(fuzz: Fuzz, tmp_path: Path) -> None:
    """Values that were never written are read as zeros: of gigabytes, the file has a few bytes."""
    sample = _sample(fuzz, "mars-mat73")
    shapes = {"gigabytes": (10**8, 5, 2), "more than there is": (10**9, 5, 2), "terabytes": (10**11, 5, 3)}
    for name, shape in shapes.items():
        cases.copy(sample, tmp_path / f"{name}/a/b/in")
        path = tmp_path / name / "a/b/in/mars/front/clip.mat"
        bombs.hdf5_bomb(path, {"keypoints": shape[::-1]}, {"keypoints": {"MATLAB_class": "double"}})
        assert one(fuzz, tmp_path / name, name, _convert(sample), "out/o.json", must="fail") == 1


def test_deeplabcut_h5_that_claims_much_or_leads_away(fuzz: Fuzz, tmp_path: Path) -> None:
    import h5py

    sample = _sample(fuzz, "deeplabcut-h5")
    (tmp_path / "secret").write_bytes(np.full(40, 12.5).tobytes())

    def claim(group: h5py.Group) -> None:
        group.create_dataset("block0_values", shape=(10**7, 10), dtype="f8", chunks=(4096, 10))
        for level in range(3):
            del group[f"axis1_label{level}"]
            group.create_dataset(f"axis1_label{level}", shape=(10**7,), dtype="i1", chunks=(4096,))

    def elsewhere(group: h5py.Group) -> None:
        group.create_dataset("block0_values", (4, 10), "f8", external=[(str(tmp_path / "secret"), 0, 320)])

    def linked(group: h5py.Group) -> None:
        with h5py.File(tmp_path / "other.h5", "w") as other:
            other["values"] = np.full((4, 10), 12.5)
        group["block0_values"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/values")

    def around(group: h5py.Group) -> None:
        group["block0_values"] = h5py.SoftLink(f"{group.name}/block0_values")

    for change in (claim, elsewhere, linked, around):
        folder = tmp_path / change.__name__
        cases.copy(sample, folder / "a/b/in")
        with h5py.File(folder / "a/b/in" / sample.source, "r+") as file:
            group = next(iter(file.values()))
            del group["block0_values"]
            change(group)
        assert one(fuzz, folder, change.__name__, _convert(sample), "out/o.json", must="fail") == 1


def test_names_of_columns_that_carry_code(fuzz: Fuzz, tmp_path: Path) -> None:
    """A table of results has its columns' names in a pickle: only lists of texts are read out of it."""
    import h5py

    sample = _sample(fuzz, "deeplabcut-h5")
    cases.copy(sample, tmp_path / "a/b/in")
    path = tmp_path / "a/b/in" / sample.source
    kind = np.dtype([("index", "<i8"), ("values_block_0", "<f8", (2,))])
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = b"frame_table"
        group["table"] = np.zeros(2, kind)
        group["table"].attrs["values_block_0_kind"] = np.bytes_(pickle.dumps([mutations.Marks()], 0))
    assert one(fuzz, tmp_path, "a pickle that runs", _convert(sample), "out/o.json", must="fail") == 1


@pytest.mark.slow
def test_parquet_of_very_many_equal_rows(fuzz: Fuzz, tmp_path: Path) -> None:
    sample = _sample(fuzz, "parquet (coco)")
    cases.copy(sample, tmp_path / "a/b/in")
    bombs.parquet_bomb(tmp_path / "a/b/in" / sample.source, sample.folder / sample.source)
    assert one(fuzz, tmp_path, "run lengths", _convert(sample), "out/o.json", must="fail", seconds=60) == 1


def test_pictures_of_gigabytes(fuzz: Fuzz, tmp_path: Path) -> None:
    """A PNG that unpacks to 2.7 GB: what needs its size only does not unpack it, what looks at it says so."""
    yolo = _sample(fuzz, "yolo (coco)")
    cases.copy(yolo, tmp_path / "yolo/a/b/in")
    picture = tmp_path / "yolo/a/b/in" / yolo.source / "images/p0.png"
    picture.unlink()
    picture.write_bytes(bombs.png_bomb())
    one(fuzz, tmp_path / "yolo", "a picture of gigabytes", _convert(yolo), "out/o.json")
    labelme = _sample(fuzz, "labelme (coco)")
    cases.copy(labelme, tmp_path / "labelme/a/b/in")
    path = next((tmp_path / "labelme/a/b/in" / labelme.source).glob("*.json"))
    path.write_text(bombs.picture_in_json(path.read_text()))
    one(fuzz, tmp_path / "labelme", "a picture of gigabytes in JSON", _convert(labelme), "out/o.json")
    coco = _sample(fuzz, "coco")
    for command in (["check", "in/coco.json", "--json"], ["browse", "in/coco.json", "--out", "out/o.html"]):
        folder = tmp_path / command[0]
        cases.copy(coco, folder / "a/b/in")
        (folder / "a/b/in/p0.png").unlink()
        (folder / "a/b/in/p0.png").write_bytes(bombs.png_bomb())
        one(fuzz, folder, "a picture of gigabytes", command, "out/o.html" if command[0] == "browse" else None)


@pytest.mark.parametrize("target", ["/dev/zero", "/proc/self/mem"])
def test_devices_in_place_of_files(fuzz: Fuzz, tmp_path: Path, target: str) -> None:
    for sample in fuzz.samples:
        if sample.name.startswith("real-"):
            continue
        folder = tmp_path / sample.name
        cases.copy(sample, folder / "a/b/in")
        files = [p for pattern in sample.spoil for p in (folder / "a/b/in").glob(pattern) if p.is_file()]
        path = sorted(files, key=lambda p: (p.suffix in (".mp4", ".png", ".jpg"), p))[0]
        path.unlink()
        path.symlink_to(target)
        # A reader that goes on until memory ends would end here too, but take the machine along elsewhere.
        one(fuzz, folder, f"{target} in place of {path.name}", _convert(sample), "out/o.json", memory=1 << 30)


@pytest.mark.parametrize("form", ["openpose", "labelme", "yolo", "coco", "browse"])
def test_an_output_that_is_a_link_elsewhere(fuzz: Fuzz, tmp_path: Path, form: str) -> None:
    """--overwrite replaces the link, or is refused; what it leads to stays as it is."""
    sample = _sample(fuzz, "coco")
    cases.copy(sample, tmp_path / "a/b/in")
    elsewhere = tmp_path / "a/elsewhere"
    (elsewhere / "images").mkdir(parents=True)
    (elsewhere / "images/mine.txt").write_text("mine")
    (tmp_path / "a/b/out").mkdir()
    (tmp_path / "a/b/out/o").symlink_to(elsewhere)
    if form == "browse":
        command = ["browse", "in/coco.json", "--out", "out/o", "--overwrite"]
    else:
        command = ["convert", "in/coco.json", "--out", "out/o", "--to", form, "--overwrite"]
    ran = fuzz.server.run(command, tmp_path / "a/b")
    assert ran.code in (0, 1) and "internal error" not in ran.err, ran.err
    assert sorted(p.name for p in elsewhere.rglob("*")) == ["images", "mine.txt"]
    assert (elsewhere / "images/mine.txt").read_text() == "mine"
