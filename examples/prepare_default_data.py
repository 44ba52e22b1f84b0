"""Writes the label files that the default model's pose network learns from and is measured on.

    python examples/prepare_default_data.py --data DATA --out runs/data

DATA/lspet has person crops with 14 joints, noisy labels and no split. Written are `lspet_train.json` and
`lspet_val.json`, the tenth of the pictures whose name's CRC-32 ends in 0 (modulo 10) for validation; training pictures
that look like one of those are left out. The training file also gets the face joints that MediaPipe found for some
people (`face_pseudo_labels.json`), where it was at least half sure they are visible, and, with ``--masks``, the masks
that `athlete_masks.py` made. Boxes and the pictures stay as they are. `backdrops.txt` names the backgrounds that may be
learnt from. The COCO pictures are used from their own files.
"""

from __future__ import annotations

import argparse
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecli.formats import coco
from posecli.skeletons import get_skeleton, match_joints
from posecli.types import Dataset, Instance

LEAST_VISIBLE = 0.5


def held_out(name: str) -> bool:
    """Whether a picture belongs to the validation tenth."""
    return zlib.crc32(name.encode()) % 10 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--masks", type=Path, help="of examples/athlete_masks.py")
    args = parser.parse_args()
    folder = args.data / "lspet"
    dataset = coco.read(folder / "annotations.json", image_root=folder / "images")
    skeleton = get_skeleton("body19")
    joints = match_joints(dataset.skeleton.keypoints, skeleton.keypoints)

    pseudo = json.loads((folder / "face_pseudo_labels.json").read_text(encoding="utf-8"))
    names = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")
    places = [skeleton.index(name) for name in names]
    faces = {entry["annotation_id"]: np.array(entry["face"], float) for entry in pseudo["annotations"]}

    masks = json.loads(args.masks.read_text(encoding="utf-8")) if args.masks else {}
    file_of = {record.image_id: record.file_name for record in dataset.records}
    alike = set()
    for a, b, *_ in json.loads((folder / "near_duplicates.json").read_text(encoding="utf-8"))["pairs"]:
        for one, other in ((a, b), (b, a)):
            if one in file_of and held_out(file_of[one]):
                alike.add(other)

    def with_more(person: Instance, file: str) -> Instance:
        xy = np.full((skeleton.num_keypoints, 2), np.nan, np.float32)
        visibility = np.zeros(skeleton.num_keypoints, int)
        known = joints >= 0
        xy[known], visibility[known] = person.xy[joints[known]], person.visibility[joints[known]]
        face = faces.get(person.extra["id"])
        if face is not None:
            sure = face[:, 2] >= LEAST_VISIBLE
            for place, point, good in zip(places, face[:, :2], sure, strict=True):
                if good:
                    xy[place], visibility[place] = point, 2
        xy[visibility == 0] = np.nan
        mask = {"segmentation": masks[Path(file).name]} if Path(file).name in masks else {}
        return replace(
            person, xy=xy, visibility=visibility, score=np.ones(len(xy), np.float32), extra={**person.extra, **mask}
        )

    def part(validation: bool) -> Dataset:
        records = [r for r in dataset.records if held_out(r.file_name) == validation]
        if validation:
            return replace(dataset, records=tuple(records))
        records = [
            replace(r, instances=tuple(with_more(p, r.file_name) for p in r.instances))
            for r in records
            if r.image_id not in alike
        ]
        return replace(dataset, records=tuple(records), skeleton=skeleton)

    args.out.mkdir(parents=True, exist_ok=True)
    for name, validation in (("lspet_train", False), ("lspet_val", True)):
        chosen = part(validation)
        coco.write(chosen, args.out / f"{name}.json")
        print(f"{name}: {len(chosen.records)} pictures")
    grounds = sorted(p.resolve() for p in (args.data / "backgrounds/images").iterdir() if not held_out(p.name))
    (args.out / "backdrops.txt").write_text("".join(f"{p}\n" for p in grounds), encoding="utf-8")
    print(f"backdrops: {len(grounds)} pictures")


if __name__ == "__main__":
    main()
