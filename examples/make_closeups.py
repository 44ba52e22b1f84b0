"""Close-ups of labelled people: head and shoulders, or down to the waist, as a camera on a desk shows them.

    python examples/make_closeups.py --data DATA [--street runs/street.json] --out runs/closeups

Pictures of people with joints are mostly of whole people; networks that learnt from those alone see nobody in a face
that fills the picture. Cut out here are parts around the head and shoulders, and around the face alone, of people who
are large enough in their pictures and upright. Everybody's box is cut at the edge, joints outside have no label, people
of whom hardly anything is left become regions that nothing is learnt from. Not read: `coco_mini` val, and the everyday
scenes that `train_finder.py` keeps for tuning. OUT/labels.json: COCO JSON, COCO-17 joints, pictures beside it.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from train_finder import share

from posecli.files import replace_when_done
from posecli.masks import mask_of

#: Label file, folder of its pictures, whether `train_finder.py` tunes on a fifth of it.
SETS = [
    ("coco_mini/annotations/person_keypoints_train2017.json", "coco_mini/train2017", True),
    ("people_keypoints_extra/coco_tiny/annotations.json", "people_keypoints_extra/coco_tiny", True),
    ("people_boxes/coco_keypoints.json", "people_boxes", False),
    ("people_keypoints_extra/coco_more/annotations.json", "people_keypoints_extra/coco_more", False),
]
#: Of each person. Of their pictures: least width and height. Least size of a person, see `size_of`: pixels.
COUNT, LEAST_SIDE, LEAST_SIZE = 6, 72, 40.0
#: Of each person, faces alone; least width and height of these.
FACES, LEAST_FACE = 4, 48
#: Of other people: least share of the box that is left.
LEAST_LEFT = 0.15
LEAST_JOINTS = 4
SHOULDERS, HIPS = [5, 6], [11, 12]


def joints_of(person: dict[str, Any]) -> np.ndarray:
    """(17, 3) x, y, visibility of a COCO annotation."""
    return np.array(person.get("keypoints") or [0] * 51, float).reshape(17, 3)


def size_of(joints: np.ndarray) -> float:
    """About the width of a person's shoulders from the front, pixels; 0 for those who are not upright or not labelled.

    Args:
        joints: (17, 3) x, y, visibility of COCO.
    """
    if not (joints[SHOULDERS, 2] > 0).all():
        return 0.0
    width = float(np.hypot(*(joints[5, :2] - joints[6, :2])))
    if not (joints[HIPS, 2] > 0).all():
        return width
    down = joints[HIPS, :2].mean(0) - joints[SHOULDERS, :2].mean(0)
    return max(width, 0.6 * float(np.hypot(*down))) if down[1] > 2 * abs(down[0]) else 0.0


def region(joints: np.ndarray, size: tuple[int, int], rng: Generator, face: bool = False) -> tuple[int, int, int, int]:
    """(x0, y0, x1, y1) around a person's head and shoulders, within a picture of (width, height) = ``size``.

    With ``face`` it ends above the chest, and the top of the head may be cut off.
    """
    unit = size_of(joints)
    neck = joints[SHOULDERS, :2].mean(0)
    if face:
        top = neck[1] - unit * rng.uniform(0.6, 1.5)
        bottom = neck[1] + unit * rng.uniform(-0.3, 0.3)
    else:
        top = neck[1] - unit * rng.uniform(0.75, 1.9)
        bottom = neck[1] + unit * math.exp(rng.uniform(math.log(0.25), math.log(2.6)))
    width = (bottom - top) * math.exp(rng.uniform(math.log(0.7), math.log(1.9)))
    middle = neck[0] + width * rng.uniform(-0.3, 0.3)
    x0, x1 = (int(np.clip(middle + way * width / 2, 0, size[0])) for way in (-1, 1))
    y0, y1 = (int(np.clip(y, 0, size[1])) for y in (top, bottom))
    return x0, y0, x1, y1


def seen_in(person: dict[str, Any], cut: tuple[int, int, int, int], least: float) -> dict[str, Any] | None:
    """What is left of a person (COCO annotation) in a part of the picture; None: nothing.

    Less than a share ``least`` of the box becomes a region that nothing is learnt from, as crowds are.
    """
    x, y, w, h = person["bbox"]
    x0, y0, x1, y1 = max(x, cut[0]), max(y, cut[1]), min(x + w, cut[2]), min(y + h, cut[3])
    if x1 - x0 < 2 or y1 - y0 < 2:
        return None
    if isinstance(person.get("segmentation"), dict):  # the box of what is left of the mask, not what is left of the box
        height, width = person["segmentation"]["size"]
        mask = mask_of(person["segmentation"], width, height)
        rows, columns = np.nonzero(mask[cut[1] : cut[3], cut[0] : cut[2]])
        if len(rows) == 0:
            return None
        x0, x1 = cut[0] + columns.min(), cut[0] + columns.max() + 1
        y0, y1 = cut[1] + rows.min(), cut[1] + rows.max() + 1
    joints = joints_of(person)
    inside = (joints[:, :2] >= cut[:2]).all(1) & (joints[:, :2] <= np.array(cut[2:]) - 1).all(1) & (joints[:, 2] > 0)
    joints[:, :2] -= cut[:2]
    joints[~inside] = 0
    left = (x1 - x0) * (y1 - y0) / (w * h)
    box = [float(v) for v in (x0 - cut[0], y0 - cut[1], x1 - x0, y1 - y0)]
    return {
        "category_id": 1, "bbox": box, "area": 0.6 * box[2] * box[3], "keypoints": joints.ravel().tolist(),
        "num_keypoints": int(inside.sum()), "iscrowd": int(person.get("iscrowd", 0) or left < least),
    }  # fmt: skip


def cut_out(
    value: dict[str, Any],
    folder: Path,
    out: Path,
    skipped: Callable[[str], bool] = lambda name: False,
    first: int = 1,
    faces: int = 0,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Writes the close-ups of a COCO file to OUT/images; gives their images and annotations.

    Args:
        value: the file; folder: of its pictures. skipped: says which pictures, by name. first: number of the first one.
        faces: of each person, how many show the face alone.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    people: dict[int, list[dict[str, Any]]] = {}
    for person in value["annotations"]:
        people.setdefault(person["image_id"], []).append(person)
    for image in value["images"]:
        name = Path(image["file_name"]).name
        rng = np.random.default_rng([share(name, 1 << 31), 1])
        large = [
            person for person in people.get(image["id"], [])
            if not person.get("iscrowd") and person.get("keypoints") and size_of(joints_of(person)) >= LEAST_SIZE
        ]  # fmt: skip
        if not large or skipped(name):
            continue
        pixels = cv2.imread(str(folder / image["file_name"]))
        # Faces come last, so that the other close-ups of a picture are the same with and without them.
        cuts = [(p, False) for p in large for _ in range(COUNT)] + [(p, True) for p in large for _ in range(faces)]
        for person, face in cuts:
            cut = region(joints_of(person), (pixels.shape[1], pixels.shape[0]), rng, face)
            least = LEAST_FACE if face else LEAST_SIDE
            own = seen_in(person, cut, 0.0) if min(cut[2] - cut[0], cut[3] - cut[1]) >= least else None
            if own is None or own["num_keypoints"] < LEAST_JOINTS:
                continue
            number = first + len(images)
            file = f"images/{number:05d}.jpg"
            quality = [cv2.IMWRITE_JPEG_QUALITY, 95]
            cv2.imwrite(str(out / file), pixels[cut[1] : cut[3], cut[0] : cut[2]], quality)
            complete = bool(image.get("all_people_labelled", True))
            images.append({
                "id": number, "file_name": file, "width": cut[2] - cut[0], "height": cut[3] - cut[1],
                "all_people_labelled": complete, "of": name, "unit": size_of(joints_of(person)),
            })  # fmt: skip
            others = (seen_in(p, cut, LEAST_LEFT) for p in people[image["id"]] if p is not person)
            for n, one in enumerate([own, *(p for p in others if p)]):
                annotations.append({"id": 100 * number + n, "image_id": number, **one})
    return images, annotations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--street", type=Path, help="of street_joints.py")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    sets = [(args.data / labels, args.data / folder, tuned) for labels, folder, tuned in SETS]
    if args.street:
        sets.append((args.street, args.street.parent, False))
    images, annotations, categories = [], [], None
    for labels, folder, tuned in sets:
        value = json.loads(labels.read_text(encoding="utf-8"))
        categories = categories or value["categories"]

        def skipped(name: str, tuned: bool = tuned) -> bool:
            return tuned and share(name, 5) == 0

        found = cut_out(value, folder, args.out, skipped, len(images) + 1, FACES)
        images += found[0]
        annotations += found[1]
    with replace_when_done(args.out / "labels.json", overwrite=True) as part:
        part.write_text(
            json.dumps({"images": images, "annotations": annotations, "categories": categories}), encoding="utf-8"
        )
    print(f"{args.out / 'labels.json'}: {len(images)} close-ups")


if __name__ == "__main__":
    main()
