"""YOLO pose (Ultralytics): ``data.yaml`` and a text file a picture.

Format notes (https://docs.ultralytics.com/datasets/pose/): ``data.yaml`` has ``train`` and ``val`` (folders of
pictures, or ``.txt`` lists of them), ``kpt_shape: [K, 2 or 3]``, ``flip_idx``, ``names: {0: person}`` and, lately,
``kpt_names``. The labels of ``images/a.jpg`` are ``labels/a.txt``, a line a person: ``class cx cy w h x1 y1 v1 x2 y2
v2 ...``, all but the class and v in parts of the picture's size; v is 0, 1 or 2. With two numbers a joint, one at
exactly 0 0 or at negative numbers is missing, any other visible. A picture without a text file has nobody.
Predictions (``save_txt``) have a confidence in place of v, and the person's confidence and track at the end.

The joints' names come from ``--skeleton``, from what posecli wrote into the file, or from ``kpt_names``; K alone
names none. YAML needs the extra ``yaml``. Written are three numbers a joint; pictures are linked, not copied. YOLO
has no place for track ids, scores, areas and crowds.
"""

from __future__ import annotations

import json
import math
import os
import reprlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import MissingExtra, PoseError
from posecli.files import inside, refuse_device, replace_when_done
from posecli.formats.coco_write import joint_box
from posecli.formats.labels import SCORE_THRESHOLD
from posecli.formats.picture_size import picture_size
from posecli.formats.side_notes import Joints, coordinate, refuse_video_frames, tell_losses
from posecli.formats.sniffing import file_has
from posecli.types import Dataset, Instance, Record, Skeleton

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]
_SPLITS = ("train", "val", "test")
_LARGEST = 10.0  # joints and boxes leave the picture by a part of its size; numbers far beyond that are pixels


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is (or holds) a YAML file with ``kpt_shape``."""
    found = _yaml_files(src)
    return f"{found[0].name} has kpt_shape" if found else None


def _yaml_files(src: Path) -> list[Path]:
    files = [src] if src.is_file() else sorted([*src.glob("*.yaml"), *src.glob("*.yml")])
    return [p for p in files if p.suffix in (".yaml", ".yml") and file_has(p, b"kpt_shape")]


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads a YOLO pose data set: its ``data.yaml``, or the folder with it.

    ``options.image_root`` is what ``train`` and ``val`` are relative to (None: ``path`` of the YAML if that is there,
    else its folder). With several splits each record says its own (``split``).

    Raises:
        PoseError: naming file and line, for a line of another length, a number that is none, pixels, v outside 0 to 2;
            no joint names; a flip_idx that contradicts the skeleton; no pictures.
        MissingExtra: PyYAML is not installed.
    """
    src = Path(src)
    files = _yaml_files(src)
    if len(files) != 1:
        names = ", ".join(p.name for p in files) or "none"
        raise PoseError(f"{len(files)} YAML files with kpt_shape: {names}", str(src), "name the file")
    path = files[0]
    config = _load_yaml(path)
    config.setdefault("val", config.get("validation"))  # as Ultralytics reads it
    count, dimensions = _shape(config.get("kpt_shape"), path)
    skeleton = _skeleton(config, count, options.skeleton, path)
    people = _person_classes(config.get("names"), path)
    root = _root(config, path, options.image_root)
    pictures: dict[Path, str] = {}
    stand_ins = _stand_ins(config)
    for split in (s for s in _SPLITS if s not in stand_ins):
        for picture in _pictures(config.get(split), root, f"{path}, {split}"):
            pictures.setdefault(picture, split)
    if not pictures:
        raise PoseError(f"train, val and test hold no pictures below {root}", str(path), "give --image-root")
    splits = set(pictures.values())
    records, others = [], 0
    for n, (picture, split) in enumerate(sorted(pictures.items()), 1):
        width, height = picture_size(picture)
        instances, left = read_lines(_label_path(picture), skeleton, dimensions, people, width, height)
        others += left
        extra = {"split": split} if len(splits) > 1 else {}
        name = Path(os.path.relpath(picture, root)).as_posix()
        records.append(Record(n, name, width, height, tuple(instances), extra=extra))
    if others:
        warn(f"{path}: {others} objects of other classes were left out")
    return Dataset(skeleton, tuple(records), (), str(root))


def _load_yaml(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise MissingExtra("pyyaml", "yaml", "reading YOLO's data.yaml") from None

    class Plain(yaml.SafeLoader):
        """Without aliases: twelve lines of them can name 10^12 joints, and data.yaml has no use for any."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise PoseError("an alias (*name) in it: refused", str(path), "write the values out")
            return super().compose_node(parent, index)

    refuse_device(path)
    try:
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=Plain)
    except (yaml.YAMLError, UnicodeDecodeError, OSError, ValueError, RecursionError) as error:
        why = "a whole number of more than 4300 digits" if "digits" in str(error) else " ".join(str(error).split())
        raise PoseError(f"not YAML: {why}", str(path)) from None
    if not isinstance(value, dict):
        raise PoseError("not a YAML table of keys", str(path))
    return value


def _shape(value: Any, path: Path) -> tuple[int, int]:
    whole = isinstance(value, list) and len(value) == 2 and all(isinstance(v, int) for v in value)
    if not whole or value[0] < 1 or value[1] not in (2, 3):
        raise PoseError(f"kpt_shape is {reprlib.repr(value)}, not [joints, 2 or 3]", str(path))
    return value[0], value[1]


def _skeleton(config: Mapping[str, Any], count: int, given: Any, path: Path) -> Skeleton:
    block, named = config.get("posecli"), config.get("kpt_names")
    if isinstance(named, dict):
        named = next(iter(named.values()), None)
    stored = block.get("skeleton") if isinstance(block, dict) else None
    if given is None and stored is None and not isinstance(named, list):
        hint = "say which they are with --skeleton, or by kpt_names in the file"
        raise PoseError(f"nothing names the {count} joints", str(path), hint)
    skeleton = Joints([str(n) for n in named or ()], given, stored, str(path)).skeleton
    if given is None and stored is None and tuple(named or ()) != skeleton.keypoints:
        from posecli.formats.joint_names import skeleton_from_names

        skeleton = skeleton_from_names([str(n) for n in named or ()], where=str(path))  # here the order counts
    if skeleton.num_keypoints != count:
        raise PoseError(f"{count} joints, but skeleton {skeleton.name!r} has {skeleton.num_keypoints}", str(path))
    flip = config.get("flip_idx")
    if flip and flip != skeleton.flip_index.tolist():
        what = f"flip_idx {reprlib.repr(flip)} is not that of skeleton {skeleton.name!r}"
        raise PoseError(what, str(path), "its joints have another order, or flip_idx is wrong")
    return skeleton


def _stand_ins(config: Mapping[str, Any]) -> list[Any]:
    """Splits whose pictures are the test ones, as `write` noted (and nobody changed since)."""
    block = config.get("posecli")
    noted = block.get("stand_ins") if isinstance(block, dict) else None
    return (
        [s for s in _SPLITS[:2] if s in noted and config.get(s) == config.get("test")]
        if isinstance(noted, list)
        else []
    )


def _person_classes(names: Any, path: Path) -> set[int]:
    listed = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(listed, dict) or not listed or not all(isinstance(k, int) for k in listed):
        raise PoseError(f"names is {reprlib.repr(names)}, not a list of classes", str(path))
    people = {k for k, v in listed.items() if str(v).lower() == "person"}
    if not people and len(listed) > 1:
        raise PoseError(f"none of the classes {reprlib.repr(list(listed.values()))} is 'person'", str(path))
    return people or set(listed)


def _root(config: Mapping[str, Any], path: Path, image_root: str | Path | None) -> Path:
    if image_root is not None:
        return Path(image_root)
    stated = config.get("path")
    if isinstance(stated, str) and stated:
        place = path.parent / stated
        if place.is_dir():
            return place
    return path.parent


def _pictures(value: Any, root: Path, where: str) -> list[Path]:
    """The pictures of one split."""
    from posecli.video import PICTURE_SUFFIXES

    found: list[Path] = []
    for entry in value if isinstance(value, list) else [value] if value else []:
        if not isinstance(entry, str):
            raise PoseError(f"{reprlib.repr(entry)} is not a folder or a list of pictures", where)
        place = root / entry
        if entry.startswith("../") and not place.exists():
            place = root / entry[3:]  # so Roboflow writes it, and Ultralytics takes it
        if place.is_dir():
            found += [p for p in sorted(place.rglob("*")) if p.suffix.lower() in PICTURE_SUFFIXES]
        elif place.is_file() and place.suffix == ".txt":
            lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [
                place.parent / line[2:] if line.startswith("./") else root / line for line in lines if line.strip()
            ]
        else:
            raise PoseError(f"no such folder or list: {place}", where, "give --image-root")
    missing = next((p for p in found if not p.is_file()), None)
    if missing is not None:
        raise PoseError(f"no such picture: {missing}", where)
    return found


def _label_path(picture: Path) -> Path:
    """``.../images/a.jpg`` to ``.../labels/a.txt``: the last folder called images counts."""
    parts = list(picture.parts)
    places = [n for n, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts).with_suffix(".txt")


def read_lines(
    path: Path, skeleton: Skeleton, dimensions: int | None, people: set[int] | None, width: int, height: int
) -> tuple[list[Instance], int]:
    """The people of a text file (none where there is none), and how many other objects it has.

    Args:
        dimensions: numbers a joint, 2 or 3; None: by the length of each line.
        people: classes that are people; None: all of them.
        width, height: of the picture in pixels.

    Raises:
        PoseError: naming file and line.
    """
    if not path.exists():
        return [], 0
    refuse_device(path)
    instances, others = [], 0
    count = skeleton.num_keypoints
    for number, line in enumerate(path.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        words, where = line.split(), f"{path}, line {number}"
        if not words:
            continue
        try:
            values = np.array([float(w) for w in words])
        except ValueError:
            raise PoseError(f"not numbers: {line[:60]!r}", where) from None
        if not np.isfinite(values).all():
            raise PoseError("a number is not finite", where)
        if people is not None and int(values[0]) not in people:
            others += 1
            continue
        size = dimensions or (3 if len(values) >= 5 + 3 * count else 2)
        length = 5 + size * count
        if not length <= len(values) <= length + 2:
            raise PoseError(f"{len(values)} numbers where {count} joints of {size} need {length}", where)
        cx, cy, w, h = values[1:5] * np.array([width, height, width, height])
        if w < 0 or h < 0:
            raise PoseError("the box has a negative size", where)
        points = values[5:length].reshape(count, size)
        for x, y in (values[1:3], *points[:, :2]):
            if max(abs(x), abs(y)) > _LARGEST:
                raise PoseError(f"{x:g}, {y:g} are pixels, not parts of the picture's size", where)
        visibility, score = _visibility(points, where)
        xy = np.where(visibility[:, None] > 0, points[:, :2] * np.array([width, height]), np.nan)
        confidence, track = _tail(words[length:], where)
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]) if w or h else None
        instances.append(Instance(xy, visibility, score, confidence, box, track_id=track))
    return instances, others


def _visibility(points: np.ndarray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """(K,) visibility and (K,) float32 scores of rows x, y or x, y, v or x, y, confidence."""
    score = np.ones(len(points), dtype=np.float32)
    if points.shape[1] == 2:
        missing = (points < 0).any(axis=1) | (points == 0).all(axis=1)
        return np.where(missing, 0, 2), score
    third = points[:, 2]
    if np.isin(third, (0, 1, 2)).all():
        return third.astype(np.int64), score
    if ((third < 0) | (third > 1)).any():
        odd = third[(third < 0) | (third > 1)][0]
        raise PoseError(f"v is {odd:g}, neither 0, 1, 2 nor a confidence", where)
    # Ultralytics puts joints of little confidence at 0, 0 and keeps their confidence.
    third = np.where((points[:, :2] == 0).all(axis=1), 0.0, third)
    return np.where(third > SCORE_THRESHOLD, 2, np.where(third > 0, 1, 0)), third.astype(np.float32)


def _tail(words: list[str], where: str) -> tuple[float, int | None]:
    """Confidence and track id at a predicted line's end; one number alone is a track when it is written whole."""
    confidence, track = 1.0, None
    for word in words:
        if word.isdecimal():
            track = int(word)
        else:
            confidence = float(word)
    if not 0 <= confidence <= 1:
        raise PoseError(f"{confidence:g} at the end is no confidence", where, "too many numbers for kpt_shape?")
    return confidence, track


def write(dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Warn = lambda message: None) -> None:
    """Writes a folder with ``data.yaml``, ``labels/`` and ``images/`` (links to the pictures), ready for Ultralytics.

    Records with ``split`` train, val or test stand in a folder of that name; without any, train and val are all. Where
    there are test pictures and no val (or train) ones, they stand in for these.
    Crowds, and people with neither box nor joints, are left out and counted.

    Raises:
        PoseError: frames inside videos, two pictures of one name, a label name that leads outside, the output exists.
    """
    refuse_video_frames(dataset, "YOLO")
    folder = Path(path)
    splits = {s for r in dataset.records if (s := r.extra.get("split")) in _SPLITS}
    left = unlinked = 0
    with replace_when_done(folder, overwrite=overwrite) as part:
        (part / "images").mkdir(parents=True)
        (part / "labels").mkdir()
        for record in dataset.records:
            name = "/".join(p for p in record.file_name.replace("\\", "/").split("/") if p not in ("", ".", ".."))
            name = name.removeprefix("images/")
            if len(splits) > 1 and not name.startswith(f"{record.extra.get('split')}/"):
                name = f"{record.extra.get('split') or 'train'}/{name}"
            label = inside(part / "labels", name, record.file_name).with_suffix(".txt")
            if label.exists():
                raise PoseError(f"two pictures would both be labelled in {name}", record.file_name)
            label.parent.mkdir(parents=True, exist_ok=True)
            lines = [_line(person, record) for person in record.instances]
            left += lines.count(None)
            label.write_text("".join(f"{line}\n" for line in lines if line is not None), encoding="ascii")
            unlinked += not _link(dataset, record, part, folder, name)
        (part / "data.yaml").write_text(_config(dataset.skeleton, splits), encoding="utf-8")
    if left:
        warn(f"{path}: {left} crowds and people with neither box nor joints were left out")
    held = {"hidden joints", "boxes", "crowds", "people without joints"}
    tell_losses(dataset, path, "yolo", held, warn)
    if unlinked:
        warn(f"{path}: {unlinked} pictures are not there; put them into images/ under the names of the labels")


def _line(person: Instance, record: Record) -> str | None:
    box = person.box_xyxy if person.box_xyxy is not None else joint_box(person.xy, person.visibility)
    if box is None or person.ignore:
        return None
    x1, y1, x2, y2 = (float(v) for v in box)
    values = [(x1 + x2) / 2 / record.width, (y1 + y2) / 2 / record.height]
    values += [(x2 - x1) / record.width, (y2 - y1) / record.height]
    words = ["0", *(_word(v) for v in values)]
    single = person.xy.dtype == np.float32
    for (x, y), v in zip(person.xy.tolist(), person.visibility.tolist(), strict=True):
        place = (coordinate(x, single) / record.width, coordinate(y, single) / record.height) if v else (0.0, 0.0)
        words += [*(_word(p) for p in place), str(int(v))]
    return " ".join(words)


def _word(value: float) -> str:
    """12 digits: a millionth of a pixel in any picture."""
    if not math.isfinite(value):
        raise PoseError("a coordinate is not finite")
    return f"{value:.12g}"


def _link(dataset: Dataset, record: Record, part: Path, folder: Path, name: str) -> bool:
    """Links the picture into ``images/``; False when it is not there."""
    picture = Path(os.path.abspath(os.path.join(dataset.root, record.file_name)))
    if not picture.is_file():
        return False
    link = inside(part / "images", name, record.file_name)
    link.parent.mkdir(parents=True, exist_ok=True)
    final = Path(os.path.abspath(folder)) / link.relative_to(part)
    link.symlink_to(os.path.relpath(picture, final.parent))
    return True


def _config(skeleton: Skeleton, splits: set[str]) -> str:
    """``data.yaml``, each value as JSON, which is YAML."""
    places = {s: f"images/{s}" for s in _SPLITS if s in splits} if len(splits) > 1 else {}
    # Ultralytics wants both train and val; what stands in for one of them is no picture of the other.
    wanted = [s for s in ("train", "val") if places and s not in places]
    places = {s: places.get(s, places["test"]) for s in _SPLITS if s in (*places, *wanted)} if wanted else places
    values: dict[str, Any] = {
        **(places or {"train": "images", "val": "images"}),
        "kpt_shape": [skeleton.num_keypoints, 3],
        "flip_idx": skeleton.flip_index.tolist(),
        "names": ["person"],
        "posecli": {"skeleton": skeleton.to_json(), **({"stand_ins": wanted} if wanted else {})},
    }
    text = "".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items())
    return (
        text + f"kpt_names: {{0: {json.dumps(list(skeleton.keypoints))}}}\n"
    )  # its keys are numbers, which JSON has not
