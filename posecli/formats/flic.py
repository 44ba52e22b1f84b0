"""FLIC (Frames Labeled In Cinema): ``examples.mat`` beside ``images/``.

Source: B. Sapp and B. Taskar, "MODEC: Multimodal Decomposable Models for Human Pose Estimation", CVPR 2013
(https://bensapp.github.io/flic-dataset.html): 5,003 frames of 30 films; FLIC-full has 20,928.

``examples`` is a struct array with ``filepath``, ``moviename``, ``currframe``, ``imgdims`` (height, width, channels),
``coords`` (2, 29), ``torsobox`` (x1, y1, x2, y2), ``istrain``, ``istest``. Of the 29 places 11 are labelled (`flic11`):
shoulders, elbows, wrists, hips, eyes and nose; NaN is not labelled, and hidden is not told apart (v = 2). The other
places (knees, ankles, ears, middles) are passed over. Coordinates are MATLAB's, the first pixel is 1.

One person a picture is labelled, others are not (``all_people_labelled`` false). The picture's size is in the file, so
the pictures need not be there.

Left and right: the names of the places say ``l`` and ``r``, but sets of this age mean the picture's left as often as
the person's. Nearly everyone here shows the face, which decides it: then the person's left shoulder lies at the larger
x (`posecli.formats.left_right`). When it does not in most people, the sides are exchanged on reading, and said.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.formats import matlab, release
from posecli.formats.left_right import FEWEST, look_at_sides
from posecli.skeletons import FLIC11
from posecli.types import Dataset, Instance, Record

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

# lsho lelb lwri rsho relb rwri lhip (lkne lank) rhip (rkne rank) leye reye (lear rear) nose, and 12 middles
PLACES = (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)
NUM_PLACES = 29
_NAMES = ("examples.mat", "examples-full.mat", "examples_full.mat")


def _file(src: Path) -> Path | None:
    paths = [src] if src.is_file() else [src / n for n in _NAMES]
    fitting = [p for p in paths if p.suffix == ".mat" and p.is_file()]
    return next((p for p in fitting if "examples" in matlab.variable_names(p)), None)


def recognise(src: Path) -> str | None:
    """Why ``src`` is FLIC, or None."""
    path = _file(src)
    return None if path is None else f"{path.name} has the struct examples"


def read(src: Path, options: ReadOptions, warn: release.Warn) -> Dataset:
    """Reads ``examples.mat``, or a folder with it.

    Records have ``recording`` (the film: a split keeps it together), ``frame`` (its frame in the film), ``split``
    (``train``, ``test`` or absent); people have ``torso_box`` (x, y, width, height).

    Raises:
        PoseError: no struct ``examples``, a field that is missing or of another shape, a picture with two sizes; the
            example is named, counted from 1.
    """
    path = _file(src)
    if path is None:
        raise PoseError("no examples.mat with the struct examples", str(src))
    examples = matlab.structs(matlab.read_mat(path)["examples"], str(path))
    if not examples:
        raise PoseError("examples is empty", str(path))
    records: dict[str, Record] = {}
    for n, example in enumerate(examples, 1):
        record = _record(example, n, f"{path}, example {n}")
        before = records.get(record.file_name)
        if before is None:
            records[record.file_name] = record
        elif (before.width, before.height) != (record.width, record.height):
            raise PoseError(f"{record.file_name} has another size than before", f"{path}, example {n}")
        else:
            people = (*before.instances, *record.instances)
            records[record.file_name] = replace(before, instances=people)
    root = Path(options.image_root) if options.image_root is not None else image_root_of(path, next(iter(records)))
    dataset = Dataset(FLIC11, tuple(records.values()), (), str(root))
    return _persons_sides(dataset, str(path), warn)


def _record(example: dict[str, Any], n: int, at: str) -> Record:
    name = matlab.text(matlab.field(example, "filepath", at), at)
    if not name:
        raise PoseError("an empty filepath", at)
    size = matlab.field(example, "imgdims", at)
    if not isinstance(size, np.ndarray) or size.size not in (2, 3) or not (size.ravel()[:2] >= 1).all():
        raise PoseError(f"imgdims is {matlab.describe(size)}, not height, width, channels", at)
    height, width = (int(s) for s in size.ravel()[:2])
    points = matlab.array(matlab.field(example, "coords", at), (2, NUM_PLACES), f"{at}, coords").T
    points = points[list(PLACES)] - 1.0  # MATLAB's first pixel is 1
    if np.isinf(points).any():
        raise PoseError("a coordinate is infinite", at)
    visibility = np.where(np.isnan(points).any(axis=1), 0, 2)
    torso = matlab.array(matlab.field(example, "torsobox", at), (1, 4), f"{at}, torsobox").ravel() - 1.0
    extra: dict[str, Any] = {}
    if np.isfinite(torso).all():
        extra["torso_box"] = [*torso[:2].tolist(), *(torso[2:] - torso[:2]).tolist()]
    person = release.person(points, visibility, FLIC11, at, extra=extra)
    return Record(n, name, width, height, (person,), extra=_about(example, at))


def _about(example: dict[str, Any], at: str) -> dict[str, Any]:
    about: dict[str, Any] = {"all_people_labelled": False}
    if film := matlab.text(example.get("moviename"), at):
        about["recording"] = film
    if not matlab.is_empty(example.get("currframe")):
        about["frame"] = int(matlab.number(example["currframe"], f"{at}, currframe"))
    for split in ("train", "test"):
        flag = example.get(f"is{split}")
        if not matlab.is_empty(flag) and matlab.number(flag, f"{at}, is{split}"):
            about["split"] = split
    return about


def _persons_sides(dataset: Dataset, where: str, warn: release.Warn) -> Dataset:
    """The data set with the person's own left and right, by the faces; warned of when they had to be exchanged."""
    seen = look_at_sides(dataset)
    against, count = seen.facing_reversed, seen.facing
    if count < FEWEST:
        warn(f"{where}: {count} faces are too few to see whose left is meant; the names are taken as the person's")
        return dataset
    if against <= 0.5 * count:
        return dataset
    warn(
        f"{where}: left lies on the picture's left in {against} of {count} people who face the camera: left and right "
        "are exchanged, so that they are the person's"
    )
    order = dataset.skeleton.flip_index

    def exchanged(person: Instance) -> Instance:
        return replace(person, xy=person.xy[order], visibility=person.visibility[order])

    records = tuple(replace(r, instances=tuple(map(exchanged, r.instances))) for r in dataset.records)
    return replace(dataset, records=records)
