"""The values between modules: what is quick about them is what is plain about them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from posecli.as_written import all_as_written, as_written
from posecli.errors import PoseError
from posecli.geometry import crop_from_box
from posecli.skeletons import SKELETONS
from posecli.types import Crop, Instance, Skeleton


def people(count: int, *, boxes: bool = True) -> list[Instance]:
    """People with joints, scores and boxes that need rounding."""
    rng = np.random.default_rng(count)
    return [
        Instance(
            rng.uniform(-20, 1300, (17, 2)).astype(np.float32),
            np.full(17, 2),
            rng.uniform(0, 1, 17).astype(np.float32),
            float(rng.uniform()),
            rng.uniform(0, 900, 4) if boxes else None,
            heat=None if n % 2 else float(rng.uniform()),
            extra={"certainty": 0.5},
        )
        for n in range(count)
    ]


def same(a: Instance, b: Instance) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__]
    return all(
        np.array_equal(x, y) and x.dtype == y.dtype
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
        else x == y
        for x, y in pairs
    )


def test_a_changed_person_is_a_replaced_one() -> None:
    (person,) = people(1)
    new = {"person_score": 0.25, "track_id": 7, "box_xyxy": None}
    assert same(person.changed(**new), replace(person, **new))
    assert person.track_id is None and person.changed().xy is person.xy
    with pytest.raises(TypeError, match="colour"):
        person.changed(colour="red")
    with pytest.raises(ValueError, match="visibility must be"):
        person.changed(xy=np.zeros((5, 2), np.float32))


@pytest.mark.parametrize(("count", "boxes"), [(0, True), (1, True), (7, True), (3, False)])
def test_people_written_together_are_those_written_one_by_one(count: int, boxes: bool) -> None:
    given = people(count, boxes=boxes)
    together = all_as_written(given)
    assert len(together) == count
    assert all(same(a, as_written(b)) for a, b in zip(together, given, strict=True))


def test_the_inverse_of_a_crop() -> None:
    for rotation, flip in ((0.0, False), (33.0, False), (-120.0, True)):
        crop = crop_from_box(np.array([10, 20, 300, 450]), (96, 128), rotation=rotation, flip=flip)
        whole, back = np.vstack([crop.matrix, [0, 0, 1]]), np.vstack([crop.inverse, [0, 0, 1]])
        np.testing.assert_allclose(whole @ back, np.eye(3), atol=1e-9)


def test_a_turned_crop_keeps_its_middle_and_turns_clockwise() -> None:
    crop = Crop(np.array([[2.0, 0, 1], [0, 2, -3]]), (21, 11))
    turned = crop.turned(90)
    middle = crop.inverse @ (10, 5, 1)
    assert turned.matrix @ (*middle, 1) == pytest.approx((10, 5))
    above = crop.inverse @ (10, 1, 1)
    assert turned.matrix @ (*above, 1) == pytest.approx((14, 5))
    assert turned.turned(-90).matrix == pytest.approx(crop.matrix)


@pytest.mark.parametrize(
    "names",
    [
        ("left_hip", "right_hip"), ("LHip", "RHip"), ("hip_l", "hip_r"), ("LEFT_HIP", "RIGHT_HIP"),
        ("HIP_LEFT", "HIP_RIGHT"), ("hip_L", "hip_R"), ("HipLeft", "HipRight"), ("hipL", "hipR"), ("hip.L", "hip.R"),
        ("hip left", "hip right"), ("front_left_hip", "front_right_hip"), ("Hip (left)", "Hip (right)"),
    ],
)  # fmt: skip
def test_left_and_right_meet_however_they_are_spelt(names: tuple[str, str]) -> None:
    """Pictures are mirrored while a network learns: joints that don't change places then teach both sides as one."""
    skeleton = Skeleton("s", (names[1], "nose", names[0]))
    assert skeleton.flip_pairs == ((2, 0),) and skeleton.flip_index.tolist() == [2, 1, 0]
    assert Skeleton.from_json(skeleton.to_json()) == skeleton


def test_names_that_state_no_side_do_not_meet() -> None:
    assert Skeleton("s", ("tail", "ear", "left", "l_r", "elbow", "hip_l", "knee_r")).flip_pairs == ()
    known = ("left_hip", "right_hip", "wrist.L", "wrist.R")
    assert Skeleton("s", known).flip_pairs == ((0, 1), (2, 3))
    # As files of before have it, where only the first spelling was understood.
    assert Skeleton("s", known, flip_pairs=((0, 1),)).flip_pairs == ((0, 1),)
    for wrong in (((0, 2), (1, 3)), ((2, 3),), ((0, 1), (2, 4))):
        with pytest.raises(PoseError, match="flip pairs contradict"):
            Skeleton("s", (*known, "ball"), flip_pairs=wrong)


def test_known_skeletons_keep_their_pairs() -> None:
    for skeleton in SKELETONS.values():
        again = Skeleton(skeleton.name, skeleton.keypoints)
        assert {frozenset(p) for p in again.flip_pairs} == {frozenset(p) for p in skeleton.flip_pairs}
