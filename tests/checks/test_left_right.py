"""Left and right by geometry: any view, any position, any skeleton."""

from __future__ import annotations

import numpy as np
import pytest
from checks.conftest import STANDING
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.checks.left_right import chain_doubts, chains, exchanged_sides, face_signs, roles_of, trunk_doubts
from posecli.checks.subject import Picture, Subject
from posecli.skeletons import BODY19, COCO17, LSP14, SKELETONS
from posecli.types import Skeleton


def subject(*poses: np.ndarray, skeleton: Skeleton = COCO17, visible: np.ndarray | None = None) -> Subject:
    count, joints = len(poses), skeleton.num_keypoints
    visibility = np.full((count, joints), 2, np.int8) if visible is None else visible
    xy = np.where(visibility[..., None] > 0, np.array(poses, np.float64).reshape(count, joints, 2), np.nan)
    return Subject(
        "set", "coco", skeleton, "", [Picture(f"image {n}", n, n, "", 500, 500) for n in range(count)],
        np.arange(count), xy, visibility, np.ones((count, joints)), np.ones(count), np.full(count, np.nan),
        np.full((count, 4), np.nan), np.full(count, np.nan), np.zeros(count, bool), np.full(count, -1),
        [f"person {n}" for n in range(count)], list(range(count)),
    )  # fmt: skip


def swapped(pose: np.ndarray, *names: str, skeleton: Skeleton = COCO17) -> np.ndarray:
    pose = pose.copy()
    for name in names:
        a, b = skeleton.index(f"left_{name}"), skeleton.index(f"right_{name}")
        pose[[a, b]] = pose[[b, a]]
    return pose


def behind(pose: np.ndarray) -> np.ndarray:
    return pose * (-1, 1)


@pytest.mark.parametrize("turn", [0, 37, 90, 180, 250])
@pytest.mark.parametrize("view", [lambda p: p, behind], ids=["front", "back"])
def test_exchanged_hips_are_found_in_any_position(turn: float, view) -> None:
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    around = np.array([[c, -s], [s, c]])
    right = view(STANDING) @ around.T
    wrong = swapped(right, "hip", "knee", "ankle")
    doubts = trunk_doubts(subject(right, wrong))
    assert doubts[0] == 0 and doubts[1] == 1


def test_a_view_from_the_side_says_little() -> None:
    side = STANDING * (0.1, 1)
    assert trunk_doubts(subject(swapped(side, "hip")))[0] < 0.3
    assert not list(exchanged_sides(subject(swapped(side, "hip", "knee", "ankle")), 0.5))


def test_missing_joints_say_nothing() -> None:
    visible = np.full((1, 17), 2, np.int8)
    visible[0, COCO17.index("left_hip")] = 0
    one = subject(swapped(STANDING, "hip"), visible=visible)
    assert np.isnan(trunk_doubts(one)[0]) and not list(exchanged_sides(one, 0.01))


def test_a_pair_exchanged_within_its_limbs() -> None:
    wide = STANDING.copy()
    for name, x in (("knee", 30), ("ankle", 35), ("elbow", 32), ("wrist", 36)):
        wide[COCO17.index(f"left_{name}"), 0], wide[COCO17.index(f"right_{name}"), 0] = x, -x
    crossed_ankles = wide.copy()  # crossed legs: they cross once, nothing is wrong
    crossed_ankles[[COCO17.index("left_ankle"), COCO17.index("right_ankle")], 0] = (-8, 8)
    people = subject(wide, swapped(wide, "knee"), swapped(wide, "elbow"), crossed_ankles)
    doubts = {COCO17.keypoints[p[0]]: d for p, d in chain_doubts(people)}
    assert doubts["left_knee"][1] > 0.5 and doubts["left_elbow"][2] > 0.5
    assert all(d[0] == 0 and d[3] < 0.5 for d in doubts.values())


def test_faces() -> None:
    # Eyes 4 px from the middle are 8 px apart: clear enough.
    assert face_signs(subject(STANDING, behind(STANDING), swapped(STANDING, "eye"))).tolist() == [1, -1, -1]
    lying = STANDING[:, ::-1] * (1, -1)
    assert face_signs(subject(lying))[0] == 1
    hidden = np.full((1, 17), 2, np.int8)
    hidden[0, COCO17.index("left_eye")] = 1
    assert face_signs(subject(STANDING, visible=hidden))[0] == 0
    # A face that looks here on a trunk seen from behind: a good guess, no more.
    turned = swapped(STANDING, "shoulder", "hip", "elbow", "wrist", "knee", "ankle")
    (one,) = exchanged_sides(subject(turned), 0.1)
    assert "face" in one.what and 0.5 < (one.confidence or 0) <= 0.7


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5), st.floats(0, 6.28))
def test_scale_turn_and_joint_order_do_not_matter(seed: int, scale: float, turn: float) -> None:
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(17, 2)) * 40
    c, s = np.cos(turn), np.sin(turn)
    moved = scale * pose @ np.array([[c, -s], [s, c]]).T + 100
    order = rng.permutation(17)
    place = np.argsort(order)
    mixed = Skeleton(
        "mixed",
        tuple(COCO17.keypoints[k] for k in order),
        tuple((int(place[a]), int(place[b])) for a, b in COCO17.edges),
    )
    first, second = trunk_doubts(subject(pose)), trunk_doubts(subject(moved[order], skeleton=mixed))
    np.testing.assert_allclose(first, second, atol=1e-6)
    a = {COCO17.keypoints[p[0]]: d[0] for p, d in chain_doubts(subject(pose))}
    b = {mixed.keypoints[p[0]]: d[0] for p, d in chain_doubts(subject(moved[order], skeleton=mixed))}
    assert a.keys() == b.keys() and all(a[k] == pytest.approx(b[k], abs=1e-6) for k in a)


def test_roles_of_known_and_foreign_names() -> None:
    for skeleton in (COCO17, LSP14, BODY19):
        roles = roles_of(skeleton)
        assert roles.shoulders == (skeleton.index("left_shoulder"), skeleton.index("right_shoulder"))
        assert roles.hips == (skeleton.index("left_hip"), skeleton.index("right_hip"))
    student = Skeleton("student", ("Hips", "RHip", "LHip", "RShoulder", "LShoulder", "Nose", "LeftEye", "RightEye"))
    assert roles_of(student).shoulders == (4, 3) and roles_of(student).hips == (2, 1)
    assert roles_of(student).eyes == (6, 7) and roles_of(student).nose == 5
    assert [len(chains(s)) for s in (COCO17, LSP14)] == [4, 4]
    dog = Skeleton("dog", ("l_paw", "r_paw", "l_hock", "r_hock", "l_rump", "r_rump"), ((0, 2), (1, 3), (2, 4), (3, 5)))
    assert roles_of(dog).hips is None and len(chains(dog)) == 1
    pose = np.array([(0, 0), (50, 0), (45, 30), (5, 30), (0, 60), (50, 60)], float)
    (one,) = exchanged_sides(subject(pose, skeleton=dog), 0.5)
    assert "l_hock/r_hock" in one.what


def test_no_skeleton_of_ours_raises() -> None:
    for skeleton in SKELETONS.values():
        poses = np.random.default_rng(1).normal(size=(3, skeleton.num_keypoints, 2)) * 50
        list(exchanged_sides(subject(*poses, skeleton=skeleton), 0.3))
