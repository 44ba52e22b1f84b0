"""The recipe of the shipped weights on sets made here: the pack, stopping and going on, what is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from made_default_data import DISC, make_default_data
from pycocotools import mask as masks

from posecli.checkpoint import read_parts
from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.settings import read_toml

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def module(name: str) -> ModuleType:
    sys.path.insert(0, str(EXAMPLES))
    try:
        return __import__(name)
    finally:
        sys.path.remove(str(EXAMPLES))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_default_data(tmp_path_factory.mktemp("sets"))


@pytest.fixture(scope="module")
def packed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("packed") / "pack"
    return out, module("pack_default_data").pack(data, out, most=130_000, seen=96, backgrounds=200)


def disc_at(image: np.ndarray, xy: np.ndarray, radius: float) -> np.ndarray:
    """The middle of the bright disc near a point."""
    reach = int(2 * radius + 3)
    x0, y0 = (max(0, round(v) - reach) for v in xy)
    window = image[y0 : y0 + 2 * reach + 1, x0 : x0 + 2 * reach + 1].astype(float).min(2)
    weight = np.where(window > 160, window, 0)
    y, x = np.mgrid[: window.shape[0], : window.shape[1]]
    return np.array([x0 + (x * weight).sum() / weight.sum(), y0 + (y * weight).sum() / weight.sum()])


def test_labels_fall_on_the_same_joints_of_packed_pictures(data: Path, packed: tuple[Path, dict[str, Any]]) -> None:
    out, told = packed
    assert told["bytes"] == sum(f.stat().st_size for f in out.rglob("*") if f.is_file()) <= 130_000
    checked, shrunk = 0, 0
    for part in module("pack_default_data").parts_of(96):
        labels = json.loads((out / part.labels[-1]).read_text())
        before = json.loads((data / part.labels[-1]).read_text())
        old = {image["id"]: image for image in before["images"]}
        for image, person in zip(labels["images"], labels["annotations"], strict=True):
            pixels = cv2.imread(str(out / part.folder / image["file_name"]))
            assert pixels.shape[:2] == (image["height"], image["width"])
            factor = image["width"] / old[image["id"]]["width"]
            shrunk += factor < 1
            for x, y, visibility in np.reshape(person["keypoints"], (-1, 3)):
                assert visibility == 2
                assert np.hypot(*(disc_at(pixels, np.array([x, y]), DISC * factor) - (x, y))) < 0.35
                checked += 1
    assert checked > 500 and shrunk >= 14


def test_packed_boxes_masks_and_faces_move_with_the_pixels(data: Path, packed: tuple[Path, dict[str, Any]]) -> None:
    out, _ = packed
    labels = json.loads((out / "people_boxes/annotations.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in labels["images"]}
    kinds = set()
    for person in labels["annotations"]:
        width, height = sizes[person["image_id"]]
        mask, (x, y, w, h) = person["segmentation"], person["bbox"]
        kinds.add(type(mask))
        rle = masks.merge(masks.frPyObjects(mask, height, width)) if isinstance(mask, list) else mask
        pixels = masks.decode(rle)
        assert pixels.shape == (height, width)
        rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
        found = [columns[0], rows[0], len(columns), len(rows)]
        assert np.abs(np.array(found) - (x, y, w, h)).max() <= 1.6
    assert kinds == {list, dict}

    faces = json.loads((out / "lspet/face_pseudo_labels.json").read_text())["annotations"]
    people = {p["id"]: p for p in json.loads((out / "lspet/annotations.json").read_text())["annotations"]}
    for face in faces:
        head = np.reshape(people[face["annotation_id"]]["keypoints"], (-1, 3))[13, :2]
        assert np.abs(np.array(face["face"])[:, :2] - head).max() < 0.11


def test_the_pack_has_what_training_reads_and_nothing_that_is_measured_on(
    data: Path, packed: tuple[Path, dict[str, Any]]
) -> None:
    out, _ = packed
    kept = {path.name for path in (out / "backgrounds/images").iterdir()}
    everything = {path.name for path in (data / "backgrounds/images").iterdir()}
    assert everything - kept == {name for name in everything if zlib.crc32(name.encode()) % 10 == 0} != set()
    pools = module("train_finder").training_pools
    for own, theirs in zip(pools(data), pools(out), strict=True):
        for mine, packed_one in zip(own, theirs, strict=True):
            pictures = (mine.pictures, packed_one.pictures) if hasattr(mine, "pictures") else ([mine], [packed_one])
            assert [p.path.name for p in pictures[0]] == [p.path.name for p in pictures[1]]
            assert [p.complete for p in pictures[0]] == [p.complete for p in pictures[1]]


def test_a_smaller_pack_has_a_lower_quality_until_nothing_fits(
    data: Path, packed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    pack = module("pack_default_data").pack
    told = pack(data, tmp_path / "small", most=110_000, seen=96, backgrounds=200)
    assert told["bytes"] <= 110_000 and told["quality"] < packed[1]["quality"]
    with pytest.raises(SystemExit, match="do not fit"):
        pack(data, tmp_path / "none", most=50_000, seen=96, backgrounds=200)
    assert not (tmp_path / "none").exists()


def test_a_piece_ends_what_runs_and_says_so(tmp_path: Path) -> None:
    recipe = module("train_default")
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        clock = recipe.Clock(recipe.SAVING + 0.05)  # three seconds before the time for saving
        begun = time.monotonic()
        with pytest.raises(recipe.Stopped):
            clock.run(["-c", "import time; time.sleep(60)"])
        assert 2 < time.monotonic() - begun < 30
        # What ends by itself when it is asked to stop has finished.
        quick = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); time.sleep(60)"
        recipe.Clock(recipe.SAVING + 0.05).run(["-c", quick])
        with pytest.raises(SystemExit) as failed:
            recipe.Clock(None).run(["-c", "raise SystemExit(3)"])
        assert failed.value.code == 3
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def test_another_budget_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text('{"budget": "full", "done": ["scenes", "pose"]}')
    recipe = module("train_default").Recipe
    held = recipe(tmp_path, tmp_path, "full", "cpu", 1, tmp_path / "x.safetensors")
    assert held.left() == "finder, quality, file"
    with pytest.raises(SystemExit, match="--budget full"):
        recipe(tmp_path, tmp_path, "short", "cpu", 1, tmp_path / "x.safetensors")


@pytest.mark.slow
def test_the_recipe_goes_on_where_it_was_stopped_and_from_a_pack(data: Path, tmp_path: Path) -> None:
    """Stopped while the pose network learns, and while the finder does; the pictures change places in between."""
    pack = tmp_path / "pack"
    module("pack_default_data").pack(data, pack, most=600_000, seen=128, backgrounds=288)
    environment = {
        **os.environ, "BIN": str(Path(sys.executable).parent), "RUNS": str(tmp_path / "runs"), "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    script = ["sh", str(EXAMPLES / "train_default.sh"), "--budget", "rehearsal", "--device", "cpu"]

    def until(sets: Path, sign: Path | None) -> subprocess.CompletedProcess[str]:
        """Runs the recipe until a file is there, then asks it to stop."""
        with subprocess.Popen(
            script, env={**environment, "DATA": str(sets)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as run:
            while sign is not None and run.poll() is None and not sign.exists():
                time.sleep(0.1)
            if sign is not None:
                run.send_signal(signal.SIGTERM)
            out, err = run.communicate()
        return subprocess.CompletedProcess(script, run.returncode, out, err)

    runs = tmp_path / "runs"
    first = until(data, runs / "pose/state.pt")
    assert first.returncode in (0, 130), first.stderr[-2000:]
    assert "go on with the same command" in first.stdout
    second = until(pack, runs / "finder/log.jsonl")
    assert second.returncode in (0, 130), second.stderr[-2000:]
    assert str(pack) in (runs / "pose/config.toml").read_text()
    last = until(pack, None)
    assert last.returncode == 0, last.stderr[-2000:]
    assert last.stdout.splitlines()[-1] == f"finished: {runs / 'default.safetensors'}"
    assert json.loads((runs / "recipe.json").read_text())["done"] == ["scenes", "pose", "finder", "quality", "file"]
    learnt = read_toml(runs / "pose/config.toml")["data"]
    assert str(runs / "scenes/crossing.json") in learnt and len(learnt) == 9
    steps = [json.loads(line).get("step", 0) for line in (runs / "finder/log.jsonl").read_text().splitlines()]
    assert max(steps) == 6
    assert read_parts(runs / "default.safetensors")["main"][1].arguments["quality"] is True
    again = until(pack, None)
    assert again.returncode == 0 and "==" not in again.stdout


def test_a_deeper_finder_begins_as_the_one_it_goes_on_from() -> None:
    tiny = {"keypoints": 19, "widths": (16, 16, 16, 16), "stem_channels": 8, "channels": 16, "heatmap_channels": 16}
    torch.manual_seed(0)
    finder = MODELS["dekr-finder"](**tiny, blocks=(1, 1, 2, 1)).eval()
    deeper = MODELS["dekr-finder"](**tiny, blocks=(2, 3, 4, 2)).eval()
    fresh = module("train_finder").go_on_from(deeper, finder.state_dict(), Path("finder"))
    assert {n.split(".")[4] for n in fresh if n.startswith("backbone.backbone.stages.1.")} == {"1", "2"}
    assert fresh == set(deeper.state_dict()) - set(finder.state_dict())
    picture = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for before, after in zip(finder(picture), deeper(picture), strict=True):
            assert torch.equal(before, after)
    wider = MODELS["dekr-finder"](**{**tiny, "widths": (16, 16, 32, 16)}, blocks=(1, 1, 2, 1))
    with pytest.raises(PoseError, match="of another shape"):
        module("train_finder").go_on_from(wider, finder.state_dict(), Path("finder"))
    fewer = MODELS["dekr-finder"](**tiny, blocks=(1, 1, 1, 1))
    with pytest.raises(PoseError, match="left over"):
        module("train_finder").go_on_from(fewer, finder.state_dict(), Path("finder"))


@pytest.mark.parametrize("other", [{"joint_channels": 6}, {"offset_blocks": 2}])
@pytest.mark.parametrize("way", [1, -1])
def test_a_finder_may_get_other_branches_of_offsets(other: dict[str, int], way: int) -> None:
    tiny = {"keypoints": 19, "widths": (16, 16, 16, 16), "stem_channels": 8, "channels": 16, "heatmap_channels": 16}
    torch.manual_seed(0)
    some, others = (MODELS["dekr-finder"](**tiny, blocks=(1, 1, 1, 1), **more).eval() for more in ({}, other)[::way])
    fresh = module("train_finder").go_on_from(others, some.state_dict(), Path("finder"))
    assert {n.split(".")[0] for n in fresh} == {"transition_offset", "offset_blocks", "offset_final"}
    picture = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        before, after = some(picture), others(picture)
    assert torch.equal(before.heatmap, after.heatmap) and torch.equal(before.box, after.box)


def test_masks_reach_both_networks(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masks of `athlete_masks.py` stand in what the pose network and the finder learn from, not in what is scored."""
    labels = json.loads((data / "lspet/annotations.json").read_text())
    outlines = {}
    for image in labels["images"]:
        height, width = image["height"], image["width"]
        mask = np.zeros((height, width), bool)
        mask[height // 4 : -height // 4, width // 4 : -width // 4] = True
        outlines[Path(image["file_name"]).name] = module("athlete_masks").rle(mask)
    file = tmp_path / "masks.json"
    file.write_text(json.dumps(outlines))
    monkeypatch.setattr(
        sys, "argv", ["prepare", "--data", str(data), "--masks", str(file), "--out", str(tmp_path / "out")]
    )
    module("prepare_default_data").main()
    learnt = json.loads((tmp_path / "out/lspet_train.json").read_text())["annotations"]
    assert learnt and all(person["segmentation"]["counts"] for person in learnt)
    scored = json.loads((tmp_path / "out/lspet_val.json").read_text())["annotations"]
    assert scored and not any(person.get("segmentation") for person in scored)
    grounds = [Path(line) for line in (tmp_path / "out/backdrops.txt").read_text().splitlines()]
    assert grounds and all(path.is_file() and zlib.crc32(path.name.encode()) % 10 for path in grounds)

    plain, *_ = module("train_finder").training_pools(data)
    masked, *_ = module("train_finder").training_pools(data, file)
    assert [pool.weight for pool in plain] == [pool.weight for pool in masked]
    (from_limbs,), (from_masks,) = ([pool for pool in pools if not pool.weight] for pools in (plain, masked))
    assert not any(mask for p in from_limbs.pictures for mask in p.masks)
    assert from_masks.pictures and all(p.masks[0]["counts"] for p in from_masks.pictures)


def test_a_teachers_joints_are_kept_where_they_are_sure_and_on_the_person() -> None:
    street = module("street_joints")
    mask = np.zeros((120, 60), bool)
    mask[10:110, 15:45] = True
    assert (street.mask_of(module("athlete_masks").rle(mask)) == mask).all()
    joints = np.zeros((17, 3))
    joints[:, 0], joints[:, 1], joints[:, 2] = 30, np.linspace(14, 104, 17), 0.9
    joints[[5, 11], 0], joints[[6, 12], 0] = 40, 20  # the person's left is on the right: seen from the front
    kept = street.kept_joints(joints, mask)
    assert kept is not None and kept.all()
    unsure = joints.copy()
    unsure[9, 2] = 0.5
    assert list(np.flatnonzero(~street.kept_joints(unsure, mask))) == [9]
    beside = joints.copy()
    beside[10, 0] = 58  # on the wall
    assert list(np.flatnonzero(~street.kept_joints(beside, mask))) == [10]
    beside[13:15, 0] = 58
    assert street.kept_joints(beside, mask) is None  # too much of this pose is somebody else's
    hidden = joints.copy()
    hidden[11, 2] = 0.1
    assert street.kept_joints(hidden, mask) is None
    turned = joints.copy()
    turned[[5, 11], 0], turned[[6, 12], 0] = 20, 40
    assert list(np.flatnonzero(~street.kept_joints(turned, mask))) == [0, 1, 2, 3, 4]


def test_generated_people_are_a_pool_of_the_finder(data: Path) -> None:
    labels = data / "people_keypoints_extra/coco_more/annotations.json"
    plain, *_ = module("train_finder").training_pools(data)
    more, *_ = module("train_finder").training_pools(data, None, [labels])
    assert len(more) == len(plain) + 1
    assert [p.path.name for p in more[-1].pictures] == [
        Path(i["file_name"]).name for i in json.loads(labels.read_text())["images"]
    ]
    assert more[-1].weight > 0 and not more[-1].paste_weight


def test_closeups_show_heads_and_what_is_left_of_everybody(tmp_path: Path) -> None:
    closeups = module("make_closeups")
    joints = np.zeros((17, 3))
    joints[:7] = [[200, 60, 2], [205, 55, 2], [195, 55, 2], [212, 58, 2], [188, 58, 2], [230, 110, 2], [170, 110, 2]]
    joints[11:13] = [[220, 240, 2], [180, 240, 2]]
    joints[15:] = [[220, 390, 2], [180, 390, 1]]
    lying, small = joints.copy(), joints.copy()
    lying[11:13] = [[400, 110, 2], [400, 110, 2]]
    small[:, :2] /= 4
    assert closeups.size_of(joints) == pytest.approx(78) and closeups.size_of(small) < closeups.LEAST_SIZE
    assert closeups.size_of(lying) == 0
    mask = np.zeros((400, 500), bool)
    mask[30:400, 165:235] = True
    other = {"id": 2, "image_id": 1, "bbox": [0, 0, 500, 20], "keypoints": [0] * 51, "iscrowd": 0}
    value = {
        "images": [{"id": 1, "file_name": "a.png", "width": 500, "height": 400}],
        "annotations": [
            {"id": 1, "image_id": 1, "bbox": [100, 30, 200, 370], "keypoints": joints.ravel().tolist(), "iscrowd": 0,
             "segmentation": module("athlete_masks").rle(mask)},
            other,
        ],
    }  # fmt: skip
    picture = np.zeros((400, 500, 3), np.uint8)
    for n, (x, y, v) in enumerate(joints):
        if v:
            cv2.circle(picture, (int(x), int(y)), 3, (0, 50 + 10 * n, 200), -1)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    images, people = closeups.cut_out(value, tmp_path, tmp_path / "out", first=7)
    assert [i["id"] for i in images] == list(range(7, 7 + len(images))) and len(images) >= 3
    assert len({p["id"] for p in people}) == len(people)
    for image in images:
        pixels = cv2.imread(str(tmp_path / "out" / image["file_name"]))
        assert pixels.shape[:2] == (image["height"], image["width"])
        own = next(p for p in people if p["image_id"] == image["id"])
        x, y, w, h = own["bbox"]
        assert x >= 0 and y >= 0 and x + w <= image["width"] and y + h <= image["height"] and w <= 70  # the mask's
        kept = np.reshape(own["keypoints"], (17, 3))
        assert own["num_keypoints"] == (kept[:, 2] > 0).sum() >= closeups.LEAST_JOINTS
        for px, py, v in kept:
            if v:
                assert pixels[round(py), round(px)].max() > 150
        assert not kept[15:, 2].any()  # feet are never shown
    with_faces, people = closeups.cut_out(value, tmp_path, tmp_path / "faces", first=7, faces=8)
    assert with_faces[: len(images)] == images and len(with_faces) > len(images)
    assert all(i["height"] < 2 * 78 for i in with_faces[len(images) :])  # no chest
    assert closeups.cut_out(value, tmp_path, tmp_path / "none", skipped=lambda name: name == "a.png") == ([], [])
