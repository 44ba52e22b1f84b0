"""The puppet clips of `temporal.py`: under which conditions they are made, and where they lie.

Clips are made where they are not there yet. Training, validation and test clips are of other people, backgrounds and
tracks (`posecli.scenes.puppets.in_split`); each condition that is learnt from has clips of its own, those that are
judged by have the same ones under each.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lspet import say
from result_files import write_json

from posecli.scenes.puppet_show import PuppetOptions, generate_puppets

FPS = 15.0
_SEED = {"train": 21, "test": 12, "val": 13, "second": 14, "third": 15}
_USUAL: dict[str, Any] = {
    "blur": 0.3, "occluders": 0.0, "noise": 3.0, "light": "day", "compression": 20, "camera_motion": 0.6,
}  # fmt: skip
#: Of the test clips; the same clips in each.
CONDITIONS: dict[str, dict[str, Any]] = {
    "clean": {},
    "blur": {"blur": 1.0},
    "occlusion": {"occluders": 5.0},
    "dark": {"light": "dim", "noise": 6.0},
    "compressed": {"compression": 42},
}
#: Of the training clips, each in clips of its own.
LEARNT: dict[str, dict[str, Any]] = {
    "a": {"blur": 0.3, "occluders": 1.0, "light": "random", "camera_motion": 0.5},
    "b": {"blur": 1.0, "occluders": 4.0, "light": "random", "camera_motion": 1.0},
    "c": {"blur": 0.5, "occluders": 2.0, "light": "dim", "noise": 5.0, "camera_motion": 0.7, "compression": 36},
}
#: Of the videos of each view that are asked for.
_SHARE = {"a": 1.0, "b": 0.5, "c": 0.25}
#: To choose by, with clips of their own: only when asked for by name.
VALIDATION = {f"val_{name}": CONDITIONS[name] for name in ("clean", "blur", "occlusion")}
#: Test clips of other seeds, looked at once, when everything else had been decided: only when asked for by name.
MORE = {f"{n}_{name}": CONDITIONS[name] for n in ("second", "third") for name in ("blur", "occlusion")}


def people_file(arguments: Any) -> Path:
    """COCO JSON of `people_boxes` with joints and masks in one, written once."""
    file = arguments.out / "people.json"
    if not file.is_file():
        folder = (arguments.data / "people_boxes").resolve()
        joints, masks = (json.loads((folder / n).read_text()) for n in ("coco_keypoints.json", "annotations.json"))
        outline = {
            p["coco_annotation_id"]: p["segmentation"] for p in masks["annotations"] if "coco_annotation_id" in p
        }
        for person in joints["annotations"]:
            if person["coco_annotation_id"] in outline:
                person["segmentation"] = outline[person["coco_annotation_id"]]
        for image in joints["images"]:
            image["file_name"] = str(folder / image["file_name"])
        write_json(file, joints)
    return file


def make_clips(
    arguments: Any, name: str, split: str, count: int, condition: Mapping[str, Any], seed: int | None = None
) -> Path:
    """A folder of puppet clips, ``count`` of each view."""
    folder = arguments.out / "clips" / name
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        options = PuppetOptions(
            puppets=(str(people_file(arguments)), str(arguments.data / "lspet" / "annotations.json")),
            motion=str(arguments.data / "penn_action_labels" / "penn_action_labels.npz"),
            backgrounds=str(arguments.data / "backgrounds" / "images"),
            split=split, seed=seed or _SEED[split] + (sum(map(ord, name)) if split == "train" else 0), count=count,
            people=(1, 2) if split == "train" else (1, 1), fps=FPS,
            frames={"train": arguments.train_frames, "val": arguments.val_frames, "test": arguments.frames}[split],
            size_wh=(arguments.side, arguments.side), **{**_USUAL, **condition},
        )  # fmt: skip
        say(f"clips {name}: {count} of each view")
        generate_puppets(folder, options)
    return folder


def learnt_folder(arguments: Any, name: str) -> Path:
    """The training clips in a condition of `LEARNT`."""
    count = max(1, round(arguments.train_clips * _SHARE[name]))
    return make_clips(arguments, f"train_{name}", "train", count, LEARNT[name])


def learnt_videos(arguments: Any, of_base: bool) -> list[Path]:
    """The training clips that the base learns from, every third, or the others."""
    folders = [learnt_folder(arguments, name) for name in LEARNT]
    videos = [sorted(folder.glob("*/*.mp4")) for folder in folders]
    return [video for found in videos for n, video in enumerate(found) if (n % 3 == 0) == of_base]


def learnt_files(arguments: Any) -> list[Path]:
    """All training clips as COCO JSON with extracted frames."""
    files = []
    for name in LEARNT:
        file = arguments.out / f"train_{name}.json"
        if not file.is_file():
            folder = str(learnt_folder(arguments, name))
            command = [sys.executable, "-m", "posecli", "convert", folder, "--out", str(file), "--quiet"]
            subprocess.run([*command, "--frames", str(arguments.out / f"train_{name}_frames")], check=True)
        files.append(file)
    return files


def judged_folder(arguments: Any, condition: str) -> Path:
    """The test clips under a condition, or the validation clips."""
    if condition in VALIDATION:
        return make_clips(arguments, condition, "val", arguments.val_clips, VALIDATION[condition])
    if condition in MORE:
        seed = _SEED[condition.partition("_")[0]]
        return make_clips(arguments, condition, "test", arguments.more_clips, MORE[condition], seed)
    return make_clips(arguments, f"test_{condition}", "test", arguments.test_clips, CONDITIONS[condition])
