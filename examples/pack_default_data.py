"""Packs the pictures that the default model learns from: at most 45 MiB, to take to a borrowed GPU.

    python examples/pack_default_data.py --data DATA --out PACK
    DATA=PACK sh examples/train_default.sh --budget full

PACK has the folders of DATA, so the recipe reads it in place of DATA. Pictures are shrunk to what the networks see of
them (an athlete's crop to 1.25 times the pose network's input; everyday pictures, where people are small, keep their
size) and stored as WebP of the best quality with which everything fits. They keep their names, also where these end in
.jpg: the names decide what is kept for validation and tuning, and readers of pictures go by the content. Labels move
with the pixels, are rounded to a tenth of a pixel and lose what training does not ask for. Left out: `coco_mini` val
and the backgrounds that false people are counted on (scores are taken at home, on the pictures as they are). LSPET
validation pictures are there: training shows its progress on them.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from pycocotools import mask as masks

MIB = 1 << 20
#: Longer side of an athlete's crop over the side of the pose network's input. A crop is 1.33 times the person's box,
#: the network sees 0.95 to 1.6 times the box: hardly ever less than one pixel of the pack for one of its own.
CROP = 1.25
QUALITIES = range(90, 9, -2)
#: Each so-many-th picture is coded to choose the quality.
SAMPLED = 6
#: What labels keep of a picture and of a person.
IMAGE_KEYS = ("id", "file_name", "source", "all_people_labelled", "license", "coco_id", "video", "video_frame")
PERSON_KEYS = ("id", "image_id", "category_id", "iscrowd", "num_keypoints")


@dataclass(frozen=True)
class Part:
    """Pictures with their labels.

    Attributes:
        labels: files of the same pictures. folder: what their ``file_name``s are relative to.
        sides: the longest side kept, by the start of the name.
    """

    labels: tuple[str, ...]
    folder: str
    sides: tuple[tuple[str, int], ...]


def parts_of(seen: int) -> list[Part]:
    """What the recipe reads, for a pose network that sees so many pixels."""
    extra = "people_keypoints_extra"
    mini = "coco_mini/annotations/person_keypoints_train2017.json"
    boxes = ("people_boxes/annotations.json", "people_boxes/coco_keypoints.json")
    return [
        Part(("lspet/annotations.json",), "lspet/images", (("", round(CROP * seen)),)),
        Part((mini,), "coco_mini/train2017", (("", 640),)),
        Part((f"{extra}/coco_tiny/annotations.json",), f"{extra}/coco_tiny", (("", 640),)),
        Part((f"{extra}/coco_more/annotations.json",), f"{extra}/coco_more", (("", 400),)),
        Part((f"{extra}/basketball/annotations.json",), f"{extra}/basketball", (("", 288),)),
        # One tall person in each picture of the street: the finder's canvases show it at 210 pixels and below.
        Part(boxes, "people_boxes", (("images/coco", 576), ("", 320))),
    ]


@dataclass(frozen=True)
class Picture:
    """One picture to pack: where from and to (relative), and width and height there."""

    path: str
    width: int
    height: int


def packed_size(width: int, height: int, longest: int) -> tuple[int, int]:
    """Width and height with the longer side at most ``longest``."""
    factor = min(1.0, longest / max(width, height))
    return max(1, round(width * factor)), max(1, round(height * factor))


def read_picture(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 BGR."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise SystemExit(f"{path}: not a readable picture")
    return image


def coded(path: Path, picture: Picture, quality: int) -> bytes:
    """A picture in its packed size as WebP."""
    image = read_picture(path)
    if image.shape[1::-1] != (picture.width, picture.height):
        image = cv2.resize(image, (picture.width, picture.height), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def tenths(values: np.ndarray) -> list[float]:
    """Rounded to tenths, whole numbers without a point."""
    return [int(v) if v == int(v) else v for v in np.round(np.asarray(values, float), 1).tolist()]


def moved(xy: np.ndarray, factors: tuple[float, float]) -> np.ndarray:
    """Points (..., 2) of a picture that was resized: pixel centres lie on integers."""
    return (np.asarray(xy, float) + 0.5) * factors - 0.5


def moved_mask(mask: Any, old: tuple[int, int], new: tuple[int, int]) -> Any:
    """A COCO segmentation (polygons or RLE) in a picture resized from ``old`` to ``new`` (width, height)."""
    factors = new[0] / old[0], new[1] / old[1]
    if isinstance(mask, list):
        return [tenths(moved(np.reshape(polygon, (-1, 2)), factors).ravel()) for polygon in mask]
    rle = masks.frPyObjects(mask, old[1], old[0]) if isinstance(mask["counts"], list) else mask
    if old == new:
        pixels = masks.decode(rle)
    else:
        pixels = cv2.resize(masks.decode(rle).astype(np.float32), new, interpolation=cv2.INTER_AREA) >= 0.5
    rle = masks.encode(np.asfortranarray(pixels, np.uint8))
    return {"size": [new[1], new[0]], "counts": rle["counts"].decode()}


def packed_person(person: dict[str, Any], old: tuple[int, int], new: tuple[int, int]) -> dict[str, Any]:
    """An annotation in a picture resized from ``old`` to ``new`` (width, height)."""
    factors = new[0] / old[0], new[1] / old[1]
    kept = {key: person[key] for key in PERSON_KEYS if key in person}
    if "bbox" in person:
        x, y, width, height = person["bbox"]
        kept["bbox"] = tenths(np.array([*moved(np.array([x, y]), factors), width * factors[0], height * factors[1]]))
    if "area" in person:
        kept["area"] = round(person["area"] * factors[0] * factors[1], 1)
    if "keypoints" in person:
        joints = np.reshape(person["keypoints"], (-1, 3)).astype(float)
        joints[:, :2] = np.where(joints[:, 2:] > 0, moved(joints[:, :2], factors), 0)
        kept["keypoints"] = tenths(joints.ravel())
    if person.get("segmentation"):
        kept["segmentation"] = moved_mask(person["segmentation"], old, new)
    return kept


def packed_labels(labels: dict[str, Any], part: Part) -> tuple[dict[str, Any], list[Picture]]:
    """A label file for the packed pictures, and these."""
    pictures, images, sizes = [], [], {}
    for image in labels["images"]:
        longest = next(side for start, side in part.sides if image["file_name"].startswith(start))
        old = image["width"], image["height"]
        new = packed_size(*old, longest)
        sizes[image["id"]] = old, new
        pictures.append(Picture(f"{part.folder}/{image['file_name']}", *new))
        kept = {key: image[key] for key in IMAGE_KEYS if key in image}
        images.append(kept | {"width": new[0], "height": new[1]})
    people = [packed_person(person, *sizes[person["image_id"]]) for person in labels["annotations"]]
    return {"images": images, "annotations": people, "categories": labels["categories"]}, pictures


def packed_faces(faces: dict[str, Any], labels: dict[str, Any], packed: dict[str, Any]) -> dict[str, Any]:
    """`face_pseudo_labels.json` for the packed LSPET pictures."""
    sizes = [{i["id"]: (i["width"], i["height"]) for i in file["images"]} for file in (labels, packed)]
    image_of = {person["id"]: person["image_id"] for person in labels["annotations"]}
    entries = []
    for entry in faces["annotations"]:
        old, new = (size[image_of[entry["annotation_id"]]] for size in sizes)
        face = np.array(entry["face"], float)
        face[:, :2] = moved(face[:, :2], (new[0] / old[0], new[1] / old[1]))
        rows = [[*tenths(row[:2]), round(float(row[2]), 2)] for row in face]
        entries.append({"annotation_id": entry["annotation_id"], "face": rows})
    return {"about": faces["about"], "keypoints": faces["keypoints"], "annotations": entries}


def background_pictures(data: Path, longest: int) -> Iterator[Picture]:
    """The pictures without people that are learnt from: not the tenth that false people are counted on."""
    for path in sorted((data / "backgrounds/images").iterdir()):
        if zlib.crc32(path.name.encode()) % 10:
            height, width = read_picture(path).shape[:2]
            yield Picture(f"backgrounds/images/{path.name}", *packed_size(width, height, longest))


def pack(data: Path, out: Path, *, most: int, seen: int, backgrounds: int) -> dict[str, Any]:
    """Writes the pack; returns what it came to: pictures, bytes, quality.

    Args:
        data: the sets as they are. out: a folder that is not there yet.
        most: bytes of all files together. seen: side of the pose network's input. backgrounds: their longest side.
    """
    texts: dict[str, str] = {}

    def note(name: str, value: Any) -> None:
        texts[name] = json.dumps(value, separators=(",", ":"))

    pictures: dict[str, Picture] = {}
    for part in parts_of(seen):
        for name in part.labels:
            labels = json.loads((data / name).read_text(encoding="utf-8"))
            packed, found = packed_labels(labels, part)
            note(name, packed)
            pictures |= {picture.path: picture for picture in found}
            if part.folder == "lspet/images":
                faces = json.loads((data / "lspet/face_pseudo_labels.json").read_text(encoding="utf-8"))
                note("lspet/face_pseudo_labels.json", packed_faces(faces, labels, packed))
    pairs = json.loads((data / "lspet/near_duplicates.json").read_text(encoding="utf-8"))
    note("lspet/near_duplicates.json", pairs)
    pictures |= {picture.path: picture for picture in background_pictures(data, backgrounds)}

    everything = list(pictures.values())
    free = most - sum(len(text.encode()) for text in texts.values())
    cv2.setNumThreads(1)
    with ThreadPoolExecutor() as threads:

        def coded_all(chosen: list[Picture], quality: int) -> Iterator[bytes]:
            return threads.map(lambda picture: coded(data / picture.path, picture, quality), chosen)

        sample = everything[:: min(SAMPLED, math.ceil(len(everything) / 20))]
        room = free * len(sample) / len(everything)
        # The first quality, from the best down, with which the sample fits into its share.
        start = bisect_left(QUALITIES, True, key=lambda q: sum(map(len, coded_all(sample, q))) <= room)
        for quality in QUALITIES[start:]:
            contents = list(coded_all(everything, quality))
            if sum(map(len, contents)) <= free:
                break
        else:
            raise SystemExit(f"the pictures do not fit into {most / MIB:g} MiB; take a smaller --seen or --backgrounds")

    part_out = out.with_name(out.name + ".part")
    shutil.rmtree(part_out, ignore_errors=True)
    for picture, content in zip(everything, contents, strict=True):
        path = part_out / picture.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for name, text in texts.items():
        path = part_out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    part_out.rename(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return {"pictures": len(everything), "bytes": size, "MiB": round(size / MIB, 2), "quality": quality, "seen": seen}


def main() -> None:
    """Packs and says what came of it, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--most", type=float, default=45.0, help="MiB of all files together")
    parser.add_argument("--seen", type=int, default=128, help="side of the pose network's input, pixels")
    parser.add_argument("--backgrounds", type=int, default=288, help="longest side of a picture without people")
    args = parser.parse_args()
    if args.out.exists():
        raise SystemExit(f"{args.out} exists already; choose another name or remove it")
    told = pack(args.data, args.out, most=int(args.most * MIB), seen=args.seen, backgrounds=args.backgrounds)
    print(json.dumps(told))


if __name__ == "__main__":
    main()
