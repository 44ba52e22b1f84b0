"""The sets that the default model learns from, in little: the same folders and files, a few drawn pictures in each.

Every labelled joint is a bright disc on a dull ground, so that a test can see whether labels and pixels still agree.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.skeletons import get_skeleton

BASKETBALL = (
    "Hips", "RHip", "RKnee", "RAnkle", "RFoot", "LHip", "LKnee", "LAnkle", "LFoot", "Spine", "Neck", "Head",
    "RShoulder", "RElbow", "RHand", "LShoulder", "LElbow", "LHand",
)  # fmt: skip
DISC = 4.0


def _standing(skeleton_joints: int, rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """(K, 2) joints over most of a picture, no two discs touching."""
    columns = 4
    rows = -(-skeleton_joints // columns)
    x = np.linspace(0.2, 0.8, columns) * width
    y = np.linspace(0.15, 0.85, rows) * height
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)[:skeleton_joints]
    return grid + rng.uniform(-2, 2, grid.shape)


def picture(xy: np.ndarray, width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    """(H, W, 3) uint8 BGR: discs of `DISC` pixels at joints, on a smooth ground."""
    ground = cv2.GaussianBlur(rng.integers(0, 120, (height, width, 3)).astype(np.uint8), (0, 0), 6)
    for joint in xy:
        x0, y0 = (max(0, int(v - DISC - 2)) for v in joint)
        window = ground[y0 : y0 + int(2 * DISC + 5), x0 : x0 + int(2 * DISC + 5)]
        y, x = np.mgrid[: window.shape[0], : window.shape[1]]
        inside = np.clip(DISC + 0.5 - np.hypot(x + x0 - joint[0], y + y0 - joint[1]), 0, 1)[..., None]
        window[:] = np.round(window * (1 - inside) + 255 * inside)
    return ground


def names_in(shares: Sequence[tuple[int, int]], count: int, form: str) -> list[str]:
    """Names whose CRC-32 takes each of some remainders (divisor, remainder) at least once, ``count`` in all."""
    names = [form.format(number) for number in range(1, 4000)]
    chosen = [next(n for n in names if zlib.crc32(n.encode()) % divisor == rest) for divisor, rest in shares]
    return sorted({*chosen, *[n for n in names if n not in chosen][: count - len(set(chosen))]})


def _write(
    folder: Path, labels: str, names: list[str], joints: Sequence[str], size: tuple[int, int], seed: int, **more: Any
) -> dict[str, Any]:
    """A COCO file and its pictures below ``folder``; one person in each."""
    rng = np.random.default_rng(seed)
    images, people = [], []
    for number, name in enumerate(names, 1):
        width, height = (int(n + rng.integers(0, 30)) for n in size)
        xy = _standing(len(joints), rng, width, height)
        path = folder / more.get("pictures", "") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture(xy, width, height, rng), [cv2.IMWRITE_JPEG_QUALITY, 95])
        low, high = xy.min(0) - 8, xy.max(0) + 8
        images.append({"id": number, "file_name": name, "width": width, "height": height, **more.get("image", {})})
        people.append({
            "id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": len(joints),
            "bbox": [*low.tolist(), *(high - low).tolist()], "area": float(np.prod(high - low) * 0.6),
            "keypoints": np.column_stack([xy, np.full(len(xy), 2)]).ravel().tolist(),
        })  # fmt: skip
    category = {"id": 1, "name": "person", "keypoints": list(joints), "skeleton": []}
    value = {"images": images, "annotations": people, "categories": [category]}
    (folder / labels).parent.mkdir(parents=True, exist_ok=True)
    (folder / labels).write_text(json.dumps(value))
    return value


def _masks(value: dict[str, Any], rle: bool) -> None:
    """Gives each person its box as a mask."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in value["images"]}
    for person in value["annotations"]:
        x, y, w, h = person["bbox"]
        if rle:
            width, height = sizes[person["image_id"]]
            pixels = np.zeros((height, width), np.uint8)
            pixels[round(y) : round(y + h), round(x) : round(x + w)] = 1
            flat = pixels.ravel(order="F")
            ends = np.flatnonzero(np.diff(flat)) + 1
            runs = np.diff([0, *ends.tolist(), len(flat)])
            person["segmentation"] = {"size": [height, width], "counts": runs.tolist()}
        else:
            person["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]


def make_default_data(root: Path) -> Path:
    """Writes all sets below ``root`` and returns it."""
    coco, lsp = get_skeleton("coco17").keypoints, get_skeleton("lsp14").keypoints
    # Validation, tuning and training pictures of each kind are there.
    names = names_in([(10, 0), (60, 7)], 14, "im{:05d}.jpg")
    lspet = _write(root / "lspet", "annotations.json", names, lsp, (190, 210), 1, pictures="images")
    held = [zlib.crc32(name.encode()) % 10 == 0 for name in names]
    alike = [held.index(True) + 1, held.index(False) + 1, 3]
    (root / "lspet/near_duplicates.json").write_text(json.dumps({"about": "", "pairs": [alike]}))
    faces = []
    for person in lspet["annotations"][:6]:
        head = np.reshape(person["keypoints"], (-1, 3))[13, :2]
        faces.append({"annotation_id": person["id"], "face": [[*head.tolist(), 0.9]] * 5})
    faces_file = {"about": "", "keypoints": list(coco[:5]), "annotations": faces}
    (root / "lspet/face_pseudo_labels.json").write_text(json.dumps(faces_file))

    mini = root / "coco_mini"
    labels = "annotations/person_keypoints_train2017.json"
    names = names_in([(5, 0), (5, 1)], 6, "{:012d}.jpg")
    value = _write(mini, labels, names, coco, (330, 260), 2, pictures="train2017")
    _masks(value, rle=False)
    (mini / labels).write_text(json.dumps(value))

    extra = root / "people_keypoints_extra"
    tiny = names_in([(5, 0), (5, 1)], 6, "{:012d}.jpg")
    _write(extra / "coco_tiny", "annotations.json", [f"images/{n}" for n in tiny], coco, (300, 330), 3)
    more = [f"images/{n:012d}.jpg" for n in range(6)]
    _write(extra / "coco_more", "annotations.json", more, coco, (280, 300), 4, image={"all_people_labelled": False})
    hall = [f"images/out5_frame_{n:04d}.jpg" for n in range(4)]
    _write(extra / "basketball", "annotations.json", hall, BASKETBALL, (240, 360), 5)

    boxes = root / "people_boxes"
    scenes = _write(boxes, "coco_keypoints.json", [f"images/coco_{n:012d}.jpg" for n in range(5)], coco, (320, 260), 6)
    streets = _write(
        boxes,
        "street.json",
        [f"images/ccp_{n:05d}.jpg" for n in range(5)],
        coco,
        (310, 464),
        7,
        image={"source": "ccp"},
    )
    (boxes / "street.json").unlink()
    _masks(scenes, rle=False)
    _masks(streets, rle=True)
    for thing in streets["images"] + streets["annotations"]:
        for key in ("id", "image_id"):
            if key in thing:
                thing[key] += 100
    people = [
        {k: v for k, v in p.items() if "keypoints" not in k} for p in scenes["annotations"] + streets["annotations"]
    ]
    category = {"id": 1, "name": "person"}
    both = {"images": scenes["images"] + streets["images"], "annotations": people, "categories": [category]}
    (boxes / "annotations.json").write_text(json.dumps(both))

    rng = np.random.default_rng(8)
    (root / "backgrounds/images").mkdir(parents=True)
    for name in names_in([(10, 0), (20, 11)], 12, "in_{:04d}.jpg"):
        image = picture(np.zeros((0, 2)), 352, 264, rng)
        cv2.imwrite(str(root / "backgrounds/images" / name), image)
    return root
