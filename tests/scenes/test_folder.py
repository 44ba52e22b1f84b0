"""The folder that is written, and the command that writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posecli.errors import PoseError, UsageError
from posecli.scenes import Backgrounds, SceneOptions, generate
from posecli.scenes.folder import film, stage
from posecli.skeletons import BODY19, read_skeleton_toml

SMALL = SceneOptions(seed=3, count=1, people=(2, 2), frames=6, size_wh=(96, 80), occluders=1.0)


def test_the_folder_has_what_it_promises(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    summary = generate(tmp_path / "mars", SMALL)
    assert summary["videos"] == 2 and summary["frames"] == 12 and sum(summary["keypoints"].values()) > 0
    assert read_skeleton_toml(tmp_path / "mars" / "skeleton.toml") == BODY19
    for camera in ("front", "side"):
        labels = json.loads((tmp_path / "mars" / camera / "scene_000.json").read_text())
        assert labels["keypoints"] == list(BODY19.keypoints) and labels["recording"] == "scene_000"
        assert [f["frame"] for f in labels["frames"]] == list(range(6))
        for frame in labels["frames"]:
            assert len({p["track_id"] for p in frame["persons"]}) == len(frame["persons"])
            for person in frame["persons"]:
                assert len(person["keypoints"]) == 19 and len(person["bbox"]) == 4 and person["area"] > 0
                for x, y, v in person["keypoints"]:
                    assert v in (0, 1, 2) and (v > 0 or (x, y) == (0, 0))
                    assert v == 0 or (-0.5 <= x <= 95.5 and -0.5 <= y <= 79.5)
        with av.open(str(tmp_path / "mars" / camera / "scene_000.mp4")) as video:
            frames = [f.to_ndarray(format="rgb24") for f in video.decode(video=0)]
        assert len(frames) == 6 and frames[0].shape == (80, 96, 3) and np.std(frames[0]) > 5


def test_the_same_seed_writes_the_same_labels(tmp_path: Path) -> None:
    for name in ("a", "b"):
        generate(tmp_path / name, SMALL)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.suffix in (".json", ".toml"))
    assert len(files) == 4
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()

    def shots(seed: int) -> list[np.ndarray]:
        options = SceneOptions(seed=seed, people=(1, 1), frames=2, size_wh=(64, 64))
        return [s.image for s in film(stage(options, 0, Backgrounds(), None), 0)]

    same, again, other = shots(1), shots(1), shots(2)
    assert all(np.array_equal(a, b) for a, b in zip(same, again, strict=True))
    assert not np.array_equal(same[0], other[0])


def test_overwriting_only_folders_of_scenes(tmp_path: Path) -> None:
    out = tmp_path / "mars"
    generate(out, SMALL)
    with pytest.raises(PoseError, match="exists"):
        generate(out, SMALL)
    generate(out, SMALL, overwrite=True)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    with pytest.raises(PoseError, match="left alone"):
        generate(tmp_path / "home", SMALL, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(PoseError, match="file"):
        generate(tmp_path / "file", SMALL, overwrite=True)
    assert not list(tmp_path.glob(".*part*"))


@pytest.mark.parametrize(
    "wrong", [{"people": (3, 1)}, {"frames": 0}, {"light": "disco"}, {"cameras": ("front", "moon")}, {"cameras": ()},
              {"blur": 2.0}, {"size_wh": (8, 8)}, {"split": "val"}]
)  # fmt: skip
def test_options_out_of_range(tmp_path: Path, wrong: dict) -> None:
    with pytest.raises(UsageError):
        generate(tmp_path / "out", SceneOptions(**wrong))
    assert not (tmp_path / "out").exists()


def test_command_with_recorded_motion_and_pictures(cli: Callable, shared: Path, tmp_path: Path) -> None:
    data = shared / "data"
    result = cli(
        "scenes", tmp_path / "mars", "--count", 1, "--frames", 4, "--size", "96x96", "--people", 1,
        "--cameras", "front",
        "--motion", data / "penn_action_labels" / "penn_action_labels.npz", "--backgrounds", data / "backgrounds",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    report = json.loads(result.out)
    assert report["frames"] == 4 and report["motion_source"].startswith("penn_action_labels.npz (train)")
    assert report["scenes"][0]["motion"][0].startswith("penn ")
    labels = json.loads((tmp_path / "mars" / "front" / "scene_000.json").read_text())
    assert labels["motion"] == report["scenes"][0]["motion"]


def test_command_says_what_is_wrong(cli: Callable, tmp_path: Path) -> None:
    cases = {
        ("--size", "wide"): 2,
        ("--people", "many"): 2,
        ("--light", "disco"): 2,
        ("--cameras", "moon"): 2,
        ("--motion", tmp_path / "none.npz"): 1,
        ("--backgrounds", tmp_path / "none"): 1,
    }
    for options, code in cases.items():
        result = cli("scenes", tmp_path / "out", *options)
        assert result.code == code and len(result.err.strip().splitlines()) == 1, (options, result)
        assert not (tmp_path / "out").exists()


def test_convert_reads_the_folder(cli: Callable, tmp_path: Path) -> None:
    generate(tmp_path / "mars", SMALL)
    result = cli("convert", tmp_path / "mars", "--out", tmp_path / "coco.json")
    assert result.code == 0, result.err
    data = json.loads((tmp_path / "coco.json").read_text())
    assert data["categories"][0]["keypoints"] == list(BODY19.keypoints)
    assert {tuple(v["tags"]) for v in data["videos"]} == {("front",), ("side",)}
    labels = json.loads((tmp_path / "mars" / "front" / "scene_000.json").read_text())
    people = sum(len(f["persons"]) for f in labels["frames"])
    front = next(v for v in data["videos"] if v["tags"] == ["front"])["id"]
    images = {i["id"] for i in data["images"] if i["video_id"] == front}
    mine = [a for a in data["annotations"] if a["image_id"] in images]
    assert len(images) == 6 and len(mine) == people and all("head_box" in a or a["area"] > 0 for a in mine)
