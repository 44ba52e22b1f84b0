"""Joints of one set as joints of another: what is kept, derived, lost; what is never taken for something else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecli.convert import to_skeleton
from posecli.errors import PoseError
from posecli.exports import reskeleton
from posecli.formats import coco
from posecli.formats.joint_mapping import MIDPOINTS, describe_change, joint_mapping, point_name, points_of
from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.skeletons import (
    AIC14,
    BODY19,
    COCO17,
    CROWDPOSE14,
    H36M17,
    HALPE26,
    JHMDB15,
    LSP14,
    MARS22,
    MEDIAPIPE33,
    MPII16,
    OPENPOSE_BODY25,
    OPENPOSE_COCO18,
    PENNACTION13,
    POSETRACK18,
    SKELETONS,
)
from posecli.types import Dataset, Instance, Record, Skeleton


def person(skeleton: Skeleton, **more: Any) -> Instance:
    """Joint j at (10 j, j), all visible, score 1 - j / 100."""
    count = skeleton.num_keypoints
    j = np.arange(count)
    return Instance(np.stack([10.0 * j, 1.0 * j], 1), np.full(count, 2), (1 - j / 100).astype(np.float32), **more)


def at(instance: Instance, skeleton: Skeleton, joint: str) -> list[float]:
    return instance.xy[skeleton.index(joint)].tolist()


def test_neck_is_the_middle_of_the_shoulders() -> None:
    mapping = joint_mapping(COCO17, BODY19)
    assert mapping.change.derived == {"neck": ("left_shoulder", "right_shoulder")}
    assert mapping.change.absent == ("head_top",) and mapping.change.lost == ()
    before = person(COCO17)
    before.visibility[COCO17.index("left_shoulder")] = 1
    after = mapping.apply(before)
    neck = BODY19.index("neck")
    assert at(after, BODY19, "neck") == [55, 5.5]  # joints 5 and 6
    assert after.visibility[neck] == 1 and after.score[neck] == pytest.approx(0.94)  # the lower of 0.95 and 0.94
    assert after.extra == {"derived": ["neck"]}
    assert after.visibility[BODY19.index("head_top")] == 0 and np.isnan(at(after, BODY19, "head_top")).all()


def test_a_missing_parent_leaves_the_midpoint_missing() -> None:
    before = person(COCO17)
    before.visibility[COCO17.index("left_shoulder")] = 0
    before.xy[COCO17.index("left_shoulder")] = np.nan
    after = joint_mapping(COCO17, BODY19).apply(before, missing_score=1.0)
    neck = BODY19.index("neck")
    assert after.visibility[neck] == 0 and np.isnan(after.xy[neck]).all() and after.score[neck] == 1
    assert "derived" not in after.extra


def test_midpoints_of_each_set() -> None:
    def derived(source: Skeleton, target: Skeleton) -> set[str]:
        return set(joint_mapping(source, target).change.derived or ())

    assert derived(COCO17, MPII16) == {"pelvis", "thorax"}
    assert derived(COCO17, OPENPOSE_BODY25) == {"neck", "mid_hip"}
    assert derived(COCO17, HALPE26) == {"neck", "hip"}
    assert derived(COCO17, H36M17) == {"root", "thorax", "spine"}
    assert derived(OPENPOSE_BODY25, MPII16) == {"pelvis", "thorax"}  # its own mid_hip and neck are other points
    assert derived(MPII16, OPENPOSE_BODY25) == {"neck", "mid_hip"}
    assert derived(MPII16, COCO17) == set()


def test_points_that_lie_close_are_not_equated() -> None:
    def kept(source: Skeleton, target: Skeleton) -> set[str]:
        return set(joint_mapping(source, target).change.kept)

    assert "head_bottom" in kept(MPII16, POSETRACK18)  # its upper_neck
    assert "top_head" in kept(LSP14, CROWDPOSE14) and "neck" in kept(LSP14, CROWDPOSE14) & kept(AIC14, LSP14)
    assert "neck" not in kept(MPII16, LSP14) and "upper_neck" not in kept(LSP14, MPII16)
    assert "neck" not in kept(OPENPOSE_COCO18, LSP14) and "neck" in kept(OPENPOSE_COCO18, OPENPOSE_BODY25)
    heads = [HALPE26, JHMDB15, PENNACTION13, H36M17, MARS22]
    for one in heads:
        for other in heads:
            assert ("head" in kept(one, other)) == (one is other), (one.name, other.name)
    assert "head_top" in kept(HALPE26, LSP14) and "head" in kept(LSP14, HALPE26)
    assert {"left_foot", "right_foot"} <= kept(COCO17, H36M17) and "left_ankle" in kept(H36M17, COCO17)
    assert "left_big_toe" not in kept(MEDIAPIPE33, HALPE26)
    ankle = joint_mapping(COCO17, H36M17).apply(person(COCO17))
    assert at(ankle, H36M17, "right_foot") == at(person(COCO17), COCO17, "right_ankle")


@pytest.mark.parametrize(
    ("name", "point"),
    [
        ("RHip", "right_hip"), ("right hip", "right_hip"), ("rightHip", "right_hip"), ("hip_r", "right_hip"),
        ("Right-Hip", "right_hip"), ("l_big_toe", "left_big_toe"), ("LBigToe", "left_big_toe"), ("MidHip", "mid_hip"),
        ("mouth_left", "left_mouth"), ("HeadTop", "head_top"), ("top_head", "head_top"), ("upper_neck", "head_bottom"),
        ("l", "l"), ("nose", "nose"), ("REye", "right_eye"), ("leg", "leg"),
    ],
)  # fmt: skip
def test_spelling(name: str, point: str) -> None:
    assert point_name(name) == point


def test_sets_of_ones_own_meet_by_name() -> None:
    mine = Skeleton("mine", ("Head", "RHip", "LHip", "LHand", "Neck"))
    change = joint_mapping(mine, COCO17).change
    assert change.kept == ("left_hip", "right_hip") and change.lost == ("Head", "LHand", "Neck")
    assert "Head" in joint_mapping(PENNACTION13, mine).change.kept  # nothing says that it is another head
    assert "Neck" in joint_mapping(OPENPOSE_BODY25, mine).change.kept
    other = Skeleton("other", ("left_hip", "hip_left"))  # two names of one point stay two joints
    assert len(set(points_of(other))) == 2
    with pytest.raises(PoseError, match="share no joint"):
        joint_mapping(Skeleton("x", ("tail",)), COCO17)


@pytest.mark.parametrize("source", SKELETONS.values(), ids=lambda s: s.name)
def test_every_set_to_every_other(source: Skeleton) -> None:
    for target in SKELETONS.values():
        mapping = joint_mapping(source, target)
        change = mapping.change
        assert sorted([*change.kept, *(change.derived or {}), *change.absent]) == sorted(target.keypoints)
        assert len(change.kept) + len(change.lost) == source.num_keypoints
        assert describe_change(change).startswith(f"{source.name} to {target.name}")
        for left, right in target.flip_pairs:  # a side is never lost alone
            assert (mapping.columns[left] < 0) == (mapping.columns[right] < 0)
        if source is target:
            assert mapping.columns.tolist() == list(range(source.num_keypoints))
        if not any(mapping.parents):
            assert "derived" not in mapping.apply(person(source)).extra


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(SKELETONS.values())), st.sampled_from(list(SKELETONS.values())), st.data())
def test_there_and_back(source: Skeleton, target: Skeleton, data: st.DataObject) -> None:
    """What was kept comes back as it was; nothing is invented on the way."""
    visibility = np.array(
        data.draw(st.lists(st.sampled_from((0, 1, 2)), min_size=source.num_keypoints, max_size=source.num_keypoints))
    )
    before = person(source)
    before = Instance(np.where(visibility[:, None] > 0, before.xy, np.nan), visibility, before.score)
    there = joint_mapping(source, target)
    after = joint_mapping(target, source, derive=False).apply(there.apply(before))
    used = {i for i in there.columns.tolist() if i >= 0}
    for joint in range(source.num_keypoints):
        if joint in used:
            assert after.visibility[joint] == before.visibility[joint]
            np.testing.assert_array_equal(after.xy[joint], before.xy[joint])
    assert set(there.apply(before).extra.get("derived", ())) <= {
        n for n in target.keypoints if point_name(n) in MIDPOINTS
    }


def test_marks_follow(tmp_path: Path) -> None:
    """In a stream: names in ``filled`` and ``derived`` become the target's, ``raw`` is put in its order."""
    extra = {"filled": ["left_hip", "nose"], "derived": ["neck"], "raw": [[float(j), 0.0, 0.5] for j in range(19)]}
    with StreamWriter(tmp_path / "a.jsonl") as writer:
        writer.header(StreamHeader("clip.mp4", BODY19, 64, 48, 25.0))
        writer.frame(FramePoses(0, (person(BODY19, extra=extra),)))
    changes = []
    frames = list(reskeleton(read_stream(tmp_path / "a.jsonl"), OPENPOSE_BODY25, told=changes.append))
    after = frames[0][1].instances[0]
    assert after.extra["filled"] == ["nose", "left_hip"]
    assert after.extra["derived"] == ["neck", "mid_hip"]  # the neck is derived from the shoulders once more
    assert after.extra["raw"][OPENPOSE_BODY25.index("left_hip")] == [11.0, 0.0, 0.5]
    assert after.extra["raw"][OPENPOSE_BODY25.index("mid_hip")] is None and len(after.extra["raw"]) == 25
    assert [c.target for c in changes] == ["openpose_body25"]


def test_data_sets_say_what_is_derived(tmp_path: Path) -> None:
    dataset = Dataset(COCO17, (Record(1, "a.jpg", 640, 480, (person(COCO17),)),), (), str(tmp_path))
    changed, change = to_skeleton(dataset, MPII16)
    assert change.derived == {"pelvis": ("left_hip", "right_hip"), "thorax": ("left_shoulder", "right_shoulder")}
    coco.write(changed, tmp_path / "mpii.json")
    entry = json.loads((tmp_path / "mpii.json").read_text())["annotations"][0]
    assert entry["derived"] == ["pelvis", "thorax"]
    assert coco.read(tmp_path / "mpii.json").records[0].instances[0].extra["derived"] == ["pelvis", "thorax"]
    plain, change = to_skeleton(dataset, MPII16, derive=False)
    assert not change.derived and set(change.absent) >= {"pelvis", "thorax"}
    assert plain.records[0].instances[0].visibility[MPII16.index("pelvis")] == 0


def test_command(tmp_path: Path, cli: Callable[..., Any]) -> None:
    coco.write(
        Dataset(COCO17, (Record(1, "a.jpg", 640, 480, (person(COCO17),)),), (), str(tmp_path)), tmp_path / "c.json"
    )
    done = cli("convert", tmp_path / "c.json", "--out", tmp_path / "m.json", "--to-skeleton", "mpii16", "--json")
    assert done.code == 0, done.err
    assert "coco17 to mpii16; kept 12; derived pelvis (midpoint of left_hip, right_hip)" in done.err
    assert "lost nose, left_eye, right_eye, left_ear, right_ear; not labelled: upper_neck, head_top" in done.err
    (report,) = json.loads(done.out)[str(tmp_path / "m.json")]["to_skeleton"].values()
    assert report["derived"]["pelvis"] == ["left_hip", "right_hip"] and report["absent"] == ["upper_neck", "head_top"]
    assert len(report["kept"]) == 12 and report["lost"][0] == "nose"

    (tmp_path / "own.toml").write_text('name = "own"\nkeypoints = ["pelvis", "LeftKnee", "tail"]\n')
    done = cli("convert", tmp_path / "c.json", "--out", tmp_path / "p.jsonl", "--to-skeleton", tmp_path / "own.toml")
    assert done.code == 0, done.err
    header, frame = (json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines())
    assert header["skeleton"]["keypoints"] == ["pelvis", "LeftKnee", "tail"]
    assert frame["persons"][0]["derived"] == ["pelvis"] and frame["persons"][0]["keypoints"][2] is None
    done = cli(
        "convert", tmp_path / "p.jsonl", "--out", tmp_path / "q.jsonl", "--to-skeleton", "coco17", "--json",
        "--no-derived",
    )  # fmt: skip
    assert done.code == 0 and json.loads(done.out)["to_skeleton"][0]["kept"] == ["left_knee"]
    done = cli("convert", tmp_path / "p.jsonl", "--out", tmp_path / "r.jsonl", "--no-derived")
    assert done.code == 2 and "--no-derived is for --to-skeleton" in done.err
