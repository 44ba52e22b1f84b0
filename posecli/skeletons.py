"""Joint sets as data: names, edges, sigmas, and the segments that metrics need.

A skeleton is found by name, never by the number of its joints. Files may bring their own (`skeleton.toml`, headers).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from posecli.errors import PoseError, UsageError, reason
from posecli.files import refuse_device
from posecli.types import Skeleton


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    """``"0-1 1-2"`` to ``((0, 1), (1, 2))``."""
    return tuple((int(a), int(b)) for a, b in (pair.split("-") for pair in text.split()))


def _skeleton(
    name: str, keypoints: str, edges: str = "", sigmas: str = "", limbs: str = "", head: str = "", torso: str = ""
) -> Skeleton:
    return Skeleton(
        name=name,
        keypoints=tuple(keypoints.split()),
        edges=_pairs(edges),
        sigmas=tuple(float(s) for s in sigmas.split()),
        limbs=_pairs(limbs),
        head=tuple(head.split()),
        torso=tuple(torso.split()),
    )


# COCO keypoints. Sigmas: official COCO keypoint evaluation.
COCO17 = _skeleton(
    "coco17",
    """
    nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle
    """,
    edges="15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6",
    sigmas="0.026 0.025 0.025 0.035 0.035 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089",
    limbs="11-13 13-15 12-14 14-16 5-7 7-9 6-8 8-10",
    torso="left_shoulder right_hip",
)

# MPII Human Pose. No official OKS; sigmas are the ones mmpose uses.
MPII16 = _skeleton(
    "mpii16",
    """
    right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top
    right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist
    """,
    edges="0-1 1-2 2-6 6-3 3-4 4-5 6-7 7-8 8-9 8-12 12-11 11-10 8-13 13-14 14-15",
    sigmas="0.089 0.083 0.107 0.107 0.083 0.089 0.026 0.026 0.026 0.026 0.062 0.072 0.179 0.179 0.072 0.062",
    limbs="2-1 1-0 3-4 4-5 12-11 11-10 13-14 14-15 8-9",
    head="upper_neck head_top",
    torso="left_shoulder right_hip",
)

# CrowdPose. Sigmas: the CrowdPose API.
CROWDPOSE14 = _skeleton(
    "crowdpose14",
    """
    left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip left_knee
    right_knee left_ankle right_ankle top_head neck
    """,
    edges="10-8 8-6 11-9 9-7 6-7 0-6 1-7 0-1 0-2 1-3 2-4 3-5 12-13 1-13 0-13",
    sigmas="0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089 0.079 0.079",
    head="neck top_head",
    torso="left_shoulder right_hip",
)

# PoseTrack18 (ears always unlabelled). Sigmas: COCO values in COCO slots, as mmpose.
POSETRACK18 = _skeleton(
    "posetrack18",
    """
    nose head_bottom head_top left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow
    left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle
    """,
    edges="15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 0-1 0-2 1-5 1-6",
    sigmas="0.026 0.025 0.025 0.035 0.035 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089",
    head="head_bottom head_top",
    torso="left_shoulder right_hip",
)

# AI Challenger. Sigmas: official deltas.
AIC14 = _skeleton(
    "aic14",
    """
    right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
    right_ankle left_hip left_knee left_ankle head_top neck
    """,
    edges="2-1 1-0 0-13 13-3 3-4 4-5 8-7 7-6 6-9 9-10 10-11 12-13 0-6 3-9",
    sigmas="0.01388152 0.01515228 0.01057665 0.01417709 0.01497891 0.01402144 0.03909642 0.03686941 0.01981803 0.03843971 0.03412318 0.02415081 0.01291456 0.01236173",
    head="neck head_top",
    torso="left_shoulder right_hip",
)

# JHMDB. Sigmas: mmpose, not official.
JHMDB15 = _skeleton(
    "jhmdb15",
    """
    neck belly head right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow right_knee
    left_knee right_wrist left_wrist right_ankle left_ankle
    """,
    edges="13-9 9-5 5-1 1-6 6-10 10-14 1-0 0-2 0-3 3-7 7-11 0-4 4-8 8-12",
    sigmas="0.025 0.107 0.025 0.079 0.079 0.107 0.107 0.072 0.072 0.087 0.087 0.062 0.062 0.089 0.089",
    torso="left_shoulder right_hip",
)

# Leeds Sports Pose. No official sigmas; COCO values by joint, CrowdPose values for neck and head_top.
LSP14 = _skeleton(
    "lsp14",
    """
    right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder
    left_shoulder left_elbow left_wrist neck head_top
    """,
    edges="0-1 1-2 2-3 3-4 4-5 6-7 7-8 8-12 12-9 9-10 10-11 12-13 8-2 9-3",
    sigmas="0.089 0.087 0.107 0.107 0.087 0.089 0.062 0.072 0.079 0.079 0.072 0.062 0.079 0.079",
    limbs="0-1 1-2 3-4 4-5 6-7 7-8 9-10 10-11 12-13",
    head="neck head_top",
    torso="left_shoulder right_hip",
)

# FLIC, the 11 labelled joints. No official sigmas; COCO values by joint.
FLIC11 = _skeleton(
    "flic11",
    """
    left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist left_hip right_hip left_eye
    right_eye nose
    """,
    edges="0-1 1-2 3-4 4-5 0-3 0-6 3-7 6-7 10-8 10-9",
    sigmas="0.079 0.072 0.062 0.079 0.072 0.062 0.107 0.107 0.025 0.025 0.026",
    torso="left_shoulder right_hip",
)

# Penn Action. No official sigmas; COCO values by joint, CrowdPose value for the head.
PENNACTION13 = _skeleton(
    "pennaction13",
    """
    head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip
    left_knee right_knee left_ankle right_ankle
    """,
    edges="0-1 0-2 1-2 1-3 3-5 2-4 4-6 1-7 2-8 7-8 7-9 9-11 8-10 10-12",
    sigmas="0.079 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089",
    torso="left_shoulder right_hip",
)

# OpenPose BODY_25. Sigmas: COCO values by joint; feet from COCO-WholeBody.
OPENPOSE_BODY25 = _skeleton(
    "openpose_body25",
    """
    nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip
    right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe
    left_small_toe left_heel right_big_toe right_small_toe right_heel
    """,
    edges="1-8 1-2 1-5 2-3 3-4 5-6 6-7 8-9 9-10 10-11 8-12 12-13 13-14 1-0 0-15 15-17 0-16 16-18 14-19 19-20 14-21 11-22 22-23 11-24",
    sigmas="0.026 0.079 0.079 0.072 0.062 0.079 0.072 0.062 0.107 0.107 0.087 0.089 0.107 0.087 0.089 0.025 0.025 0.035 0.035 0.068 0.066 0.066 0.092 0.094 0.094",
    torso="left_shoulder right_hip",
)

# OpenPose COCO-18. Sigmas: COCO values in this order.
OPENPOSE_COCO18 = _skeleton(
    "openpose_coco18",
    """
    nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee
    right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear
    """,
    edges="1-2 1-5 2-3 3-4 5-6 6-7 1-8 8-9 9-10 1-11 11-12 12-13 1-0 0-14 14-16 0-15 15-17",
    sigmas="0.026 0.079 0.079 0.072 0.062 0.079 0.072 0.062 0.107 0.087 0.089 0.107 0.087 0.089 0.025 0.025 0.035 0.035",
    torso="left_shoulder right_hip",
)

# MediaPipe Pose. It has no sigmas.
MEDIAPIPE33 = _skeleton(
    "mediapipe33",
    """
    nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear
    mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist
    left_pinky right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee
    right_knee left_ankle right_ankle left_heel right_heel left_foot_index right_foot_index
    """,
    edges="0-1 1-2 2-3 3-7 0-4 4-5 5-6 6-8 9-10 11-12 11-13 13-15 15-17 15-19 15-21 17-19 12-14 14-16 16-18 16-20 16-22 18-20 11-23 12-24 23-24 23-25 24-26 25-27 26-28 27-29 28-30 29-31 30-32 27-31 28-32",
    torso="left_shoulder right_hip",
)

# Human3.6M. It has no sigmas.
H36M17 = _skeleton(
    "h36m17",
    """
    root right_hip right_knee right_foot left_hip left_knee left_foot spine thorax neck_base head
    left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist
    """,
    edges="0-4 4-5 5-6 0-1 1-2 2-3 0-7 7-8 8-9 9-10 8-11 11-12 12-13 8-14 14-15 15-16",
    torso="left_shoulder right_hip",
)

# Halpe-26. Sigmas: mmpose halpe26.
HALPE26 = _skeleton(
    "halpe26",
    """
    nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck hip left_big_toe
    right_big_toe left_small_toe right_small_toe left_heel right_heel
    """,
    edges="15-13 13-11 11-19 16-14 14-12 12-19 17-18 18-19 18-5 5-7 7-9 18-6 6-8 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6 15-20 15-22 15-24 16-21 16-23 16-25",
    sigmas="0.026 0.025 0.025 0.035 0.035 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089 0.026 0.026 0.066 0.079 0.079 0.079 0.079 0.079 0.079",
    head="neck head",
    torso="left_shoulder right_hip",
)

# COCO-17 plus neck and head top as LSP has them: what the shipped model gives. Sigmas: COCO, CrowdPose for the last two.
BODY19 = _skeleton(
    "body19",
    """
    nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle neck head_top
    """,
    edges="15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 17-5 17-6 17-18",
    sigmas="0.026 0.025 0.025 0.035 0.035 0.079 0.079 0.072 0.072 0.062 0.062 0.107 0.107 0.087 0.087 0.089 0.089 0.079 0.079",
    limbs="11-13 13-15 12-14 14-16 5-7 7-9 6-8 8-10 17-18",
    head="neck head_top",
    torso="left_shoulder right_hip",
)

# The 22 joints of the MARS lab recordings. No official sigmas; COCO values by joint, COCO-WholeBody for the toes.
MARS22 = _skeleton(
    "mars22",
    """
    mid_hip neck left_hip right_hip head left_shoulder right_shoulder left_knee right_knee nose right_eye
    left_eye right_ear left_ear left_elbow right_elbow left_ankle right_ankle left_wrist right_wrist
    left_big_toe right_big_toe
    """,
    edges="16-7 7-2 17-8 8-3 2-0 3-0 0-1 1-5 1-6 5-14 14-18 6-15 15-19 1-9 9-11 9-10 11-13 10-12 1-4 16-20 17-21",
    sigmas="0.107 0.079 0.107 0.107 0.079 0.079 0.079 0.087 0.087 0.026 0.025 0.025 0.035 0.035 0.072 0.072 0.089 0.089 0.062 0.062 0.068 0.092",
    limbs="16-7 7-2 17-8 8-3 5-14 14-18 6-15 15-19",
    torso="left_shoulder right_hip",
)

SKELETONS: dict[str, Skeleton] = {
    s.name: s
    for s in (
        COCO17, BODY19, MPII16, CROWDPOSE14, POSETRACK18, AIC14, JHMDB15, LSP14, FLIC11, PENNACTION13,
        OPENPOSE_BODY25, OPENPOSE_COCO18, MEDIAPIPE33, H36M17, HALPE26, MARS22,
    )
}  # fmt: skip

# Different names of one and the same point. Points that only lie close (upper neck, neck base, nose) stay apart.
ALIASES = {"top_head": "head_top", "upper_neck": "head_bottom"}


def get_skeleton(name: str) -> Skeleton:
    """The skeleton of that name, or of the `skeleton.toml` at that path; UsageError lists the known names."""
    if name in SKELETONS:
        return SKELETONS[name]
    if name.endswith(".toml"):
        return read_skeleton_toml(name)
    raise UsageError(f"unknown skeleton {name!r}", hint=f"one of {', '.join(SKELETONS)}, or a skeleton.toml")


def read_skeleton_toml(path: str | Path) -> Skeleton:
    """Reads `skeleton.toml`: ``name``, ``keypoints``, ``edges`` (pairs of names or 0-based indices), optional ``sigmas``,
    ``flip_pairs``, ``limbs``, ``head``, ``torso``. The optional table ``[rename]`` is read by `read_renames`."""
    value = _read_toml(path)
    known = {"name", "keypoints", "edges", "sigmas", "flip_pairs", "limbs", "head", "torso", "rename"}
    if unknown := sorted(set(value) - known):
        raise PoseError(f"unknown key {unknown[0]!r}", str(path), f"known: {', '.join(sorted(known))}")
    if "keypoints" not in value:
        raise PoseError("no keypoints", str(path), 'give keypoints = ["nose", ...]')
    names = [str(n) for n in value["keypoints"]]
    value = dict(value, name=value.get("name", Path(path).stem))
    for key in ("edges", "flip_pairs", "limbs"):
        try:
            value[key] = [
                [names.index(j) if isinstance(j, str) else int(j) for j in pair] for pair in value.get(key, ())
            ]
        except (ValueError, TypeError) as error:
            raise PoseError(f"{key}: {error}", str(path), "pairs of keypoint names or of 0-based indices") from None
    return Skeleton.from_json(value, str(path))


def read_renames(path: str | Path) -> dict[str, str]:
    """The ``[rename]`` table of a `skeleton.toml`: label file's joint name to the skeleton's."""
    return {str(k): str(v) for k, v in _read_toml(path).get("rename", {}).items()}


def _read_toml(path: str | Path) -> Mapping[str, Any]:
    refuse_device(path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise PoseError("cannot read the skeleton: lists or tables lie too deep in each other", str(path)) from None
    except (OSError, ValueError) as error:
        raise PoseError(f"cannot read the skeleton: {reason(error)}", str(path)) from None


def match_joints(source: Sequence[str], target: Sequence[str]) -> np.ndarray:
    """(len(target),) int64: for each target joint the index of the same joint in ``source``, -1 where it has none.

    Joints meet by name (`ALIASES` counted as the same), never by position.
    """
    index = {ALIASES.get(n, n): i for i, n in enumerate(source)}
    return np.array([index.get(ALIASES.get(n, n), -1) for n in target], dtype=np.int64)
