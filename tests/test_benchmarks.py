"""What the benchmarks of networks stand on: the split, the mean pose, poses of several seeds scored together."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from posecli.formats import coco
from posecli.predictions import StreamHeader
from posecli.skeletons import get_skeleton

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


@pytest.fixture(scope="module")
def lspet() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        import lspet as module
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def unipose_dark(lspet: ModuleType) -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        import unipose_dark as module
    finally:
        sys.path.remove(str(FOLDER))
    return module


@pytest.fixture(scope="module")
def files(lspet: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The two parts of 40 made-up people."""
    root = tmp_path_factory.mktemp("data")
    (root / "lspet").mkdir()
    skeleton = get_skeleton("lsp14")
    rng = np.random.default_rng(0)
    images, people = [], []
    for n in range(1, 41):
        width, height = (int(v) for v in rng.integers(80, 160, 2))
        images.append({"id": n, "file_name": f"im{n:05d}.jpg", "width": width, "height": height})
        joints = np.column_stack([rng.uniform(10, width - 10, 14), rng.uniform(10, height - 10, 14), np.full(14, 2.0)])
        people.append({
            "id": n, "image_id": n, "category_id": 1, "iscrowd": 0, "num_keypoints": 14, "bbox": [1, 1, 9, 9],
            "area": 5.0, "keypoints": joints.ravel().tolist(),
        })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}
    labels = {"images": images, "annotations": people, "categories": [category]}
    (root / "lspet/annotations.json").write_text(json.dumps(labels))
    held = next(i["id"] for i in images if lspet.held_out(i["file_name"]))
    free = next(i["id"] for i in images if not lspet.held_out(i["file_name"]))
    (root / "lspet/near_duplicates.json").write_text(json.dumps({"about": "", "pairs": [[free, held, 3]]}))
    return lspet.prepare(root, root / "out")


def test_parts_are_apart_and_boxes_are_whole_crops(lspet: ModuleType, files: tuple[Path, Path]) -> None:
    learnt, held = (coco.read(file) for file in files)
    assert 0 < len(held.records) < len(learnt.records) == 40 - len(held.records) - 1  # less the look-alike
    assert all(lspet.held_out(r.file_name) for r in held.records)
    assert not any(lspet.held_out(r.file_name) for r in learnt.records)
    record = held.records[0]
    (person,) = record.instances
    assert person.box_xyxy.tolist() == [0, 0, record.width, record.height]
    assert person.area == pytest.approx(0.53 * np.ptp(person.xy, axis=0).prod(), rel=1e-3)


def test_mean_pose_is_the_mean_share_of_the_box(lspet: ModuleType, files: tuple[Path, Path]) -> None:
    learnt, held = (coco.read(file) for file in files)
    shares = [r.instances[0].xy / (r.width, r.height) for r in learnt.records]
    for record, (_, frame) in zip(held.records, lspet.mean_pose(learnt, held), strict=True):
        np.testing.assert_allclose(frame.instances[0].xy, np.mean(shares, 0) * (record.width, record.height), rtol=1e-4)


def test_several_seeds_score_as_their_mean(
    lspet: ModuleType, unipose_dark: ModuleType, files: tuple[Path, Path]
) -> None:
    held = coco.read(files[1])
    header = StreamHeader("pictures", held.skeleton)

    def off_by(pixels: float) -> list:
        frames = []
        for number, record in enumerate(held.records):
            (person,) = record.instances
            moved = replace(person, xy=person.xy + np.float32([pixels, 0]) * np.arange(14)[:, None])
            frames.append((header, lspet._frame(number, record, (moved,))))
        return frames

    seeds = [off_by(0.0), off_by(3.0)]
    alone = [lspet.measure(held, poses, draws=0)["all"] for poses in seeds]
    assert alone[0][lspet.PCK] == 1 > alone[1][lspet.PCK] > 0
    whole = unipose_dark.several(held, 2)
    both = lspet.measure(whole, unipose_dark.together(seeds), unipose_dark.together(seeds[::-1]), draws=50)
    assert both["all"][lspet.PCK] == pytest.approx((alone[0][lspet.PCK] + alone[1][lspet.PCK]) / 2)
    assert both["settings"]["units"] == len(held.records)
    # The same poses, the seeds exchanged: nothing to tell them apart by.
    assert both["difference"]["all"][lspet.PCK]["value"] == 0 and not both["difference"]["all"][lspet.PCK]["holds"]


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_writes_as_it_goes(tmp_path: Path) -> None:
    """Small versions of its parts, on the CPU: whoever has a device for half an hour has it for that."""
    command = [sys.executable, str(FOLDER / "gpu.py"), "--smoke", "--out", str(tmp_path)]
    subprocess.run([*command, "--only", "kernel,network"], check=True, capture_output=True)
    first = json.loads((tmp_path / "gpu.json").read_text())
    subprocess.run([*command, "--only", "training"], check=True, capture_output=True)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert not found["failed"] and [found[part] for part in ("kernel", "network")] == [
        first["kernel"],
        first["network"],
    ]
    assert [row["speed"] for row in found["training"]] == ["plain", "auto"]
    assert "## training" in (tmp_path / "gpu.md").read_text()


def test_a_benchmark_of_a_gpu_that_is_cut_off_keeps_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sys.path.insert(0, str(FOLDER))
    try:
        import gpu
    finally:
        sys.path.remove(str(FOLDER))

    def cut_off(arguments: object) -> Iterator[dict[str, object]]:
        yield {"speed": "plain", "precision": "float32", "ms_a_step": 3.0}
        raise KeyboardInterrupt

    monkeypatch.setitem(gpu.PARTS, "training", cut_off)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--smoke", "--only", "training", "--out", str(tmp_path)])
    with pytest.raises(KeyboardInterrupt):
        gpu.main()
    assert json.loads((tmp_path / "gpu.json").read_text())["training"][0]["ms_a_step"] == 3.0
