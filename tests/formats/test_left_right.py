"""Names left and right against geometry: sets that are right stay unremarked, exchanged ones are noticed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from posecli.formats import coco
from posecli.formats.left_right import describe_sides, look_at_sides
from posecli.skeletons import COCO17, LSP14
from posecli.types import Dataset, Instance, Record, Skeleton


def standing(skeleton: Skeleton, facing: bool, rng: np.random.Generator) -> Instance:
    """Somebody upright: shoulders at 0, hips 60 below, ankles 120; the left at larger x when facing the camera."""
    xy = rng.normal(0, 2, (skeleton.num_keypoints, 2))
    heights = {"eye": -30, "ear": -28, "shoulder": 0, "elbow": 30, "wrist": 55, "hip": 60, "knee": 90, "ankle": 120}
    widths = {"eye": 8, "ear": 12, "hip": 15}
    visibility = np.full(skeleton.num_keypoints, 2)
    for j, name in enumerate(skeleton.keypoints):
        part = name.split("_")[-1]
        side = (name.startswith("left") - name.startswith("right")) * (1 if facing else -1)
        xy[j] += (side * widths.get(part, 22), heights.get(part, -35))
        if not facing and part in ("nose", "eye"):
            visibility[j] = 0
    return Instance(xy + 300, visibility, np.ones(skeleton.num_keypoints, np.float32))


def crowd(skeleton: Skeleton, front: int, back: int, order: Sequence[int] | None = None) -> Dataset:
    rng = np.random.default_rng(3)
    people = [standing(skeleton, n < front, rng) for n in range(front + back)]
    if order is not None:
        people = [replace(p, xy=p.xy[list(order)], visibility=p.visibility[list(order)]) for p in people]
    return Dataset(skeleton, tuple(Record(n, f"{n}.jpg", 640, 480, (p,)) for n, p in enumerate(people)))


def exchanged(skeleton: Skeleton, *parts: str) -> list[int]:
    order = list(range(skeleton.num_keypoints))
    for a, b in skeleton.flip_pairs:
        if any(skeleton.keypoints[a].endswith(p) for p in parts):
            order[a], order[b] = b, a
    return order


def test_right_sets_are_not_remarked() -> None:
    for skeleton, front, back in ((COCO17, 30, 10), (LSP14, 30, 10), (COCO17, 25, 200), (LSP14, 12, 0)):
        assert describe_sides(look_at_sides(crowd(skeleton, front, back))) == []


def test_a_whole_set_exchanged() -> None:
    swapped = crowd(COCO17, 30, 10, COCO17.flip_index)
    (said,) = describe_sides(look_at_sides(swapped))
    assert said.startswith("left and right look exchanged: 30 of 30 people who face the camera have the left shoulder")
    (said,) = describe_sides(look_at_sides(crowd(LSP14, 30, 10, LSP14.flip_index)))
    assert "unless most are seen from behind: 30 of 40 upright people" in said
    assert describe_sides(look_at_sides(crowd(LSP14, 10, 0, LSP14.flip_index))) == []  # too few to say


def test_one_pair_exchanged() -> None:
    said = describe_sides(look_at_sides(crowd(COCO17, 15, 15, exchanged(COCO17, "hip", "ear"))))
    assert [s.split(" look")[0] for s in said] == ["left_ear and right_ear", "left_hip and right_hip"]
    assert said[1].endswith("in 30 of 30 people they lie against the shoulders")


def test_sets_that_cannot_say() -> None:
    assert look_at_sides(Dataset(COCO17, ())).people == 0
    assert look_at_sides(Dataset(Skeleton("x", ("nose",)), (Record(1, "a", 4, 4),))).people == 0
    lying = crowd(COCO17, 30, 0, COCO17.flip_index)
    turned = [replace(r, instances=tuple(replace(p, xy=p.xy[:, ::-1]) for p in r.instances)) for r in lying.records]
    assert describe_sides(look_at_sides(replace(lying, records=tuple(turned)))) == []


def test_real_sets(shared: Path) -> None:
    for name in ("coco_mini/annotations/person_keypoints_val2017.json", "people_boxes/coco_keypoints.json",
                 "people_keypoints_extra/basketball/annotations.json"):  # fmt: skip
        dataset = coco.read(shared / "data" / name, warn=lambda message: None)
        assert describe_sides(look_at_sides(dataset)) == []
        index = dataset.skeleton.flip_index
        wrong = tuple(
            replace(r, instances=tuple(replace(p, xy=p.xy[index], visibility=p.visibility[index]) for p in r.instances))
            for r in dataset.records
        )
        if "boxes" in name:
            assert "look exchanged" in describe_sides(look_at_sides(replace(dataset, records=wrong)))[0]


def test_command_warns(tmp_path: Path, cli: Callable[..., Any]) -> None:
    coco.write(crowd(COCO17, 30, 10, COCO17.flip_index), tmp_path / "a.json")
    done = cli("convert", tmp_path / "a.json", "--out", tmp_path / "b.json", "-q")
    assert done.code == 0 and "30 of 30 people who face the camera" in done.err
