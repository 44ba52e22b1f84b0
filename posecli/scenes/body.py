"""The bones of a person: proportions, joint angles to 3D joints, and where the labelled keypoints lie.

World: metres, y up, a person with yaw 0 looks along +z and has the left hand at +x. Segment lengths are fractions of
the stature after Drillis & Contini (Body Segment Parameters, 1966), as in Winter, Biomechanics and Motor Control of
Human Movement, fig. 4.1. Rotations are in degrees and compose from the pelvis outwards.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posecli.skeletons import BODY19

JOINTS = (
    "pelvis", "spine", "thorax", "neck", "head", "head_top",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle",
    "left_toe", "right_toe", "knees",
)  # fmt: skip
"""3D joints of a `Pose`; ``knees`` is the middle between both (skirts hang to it), hand and toe are the tips."""

J = {name: i for i, name in enumerate(JOINTS)}

FRAMES = (
    "pelvis", "chest", "head", "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm",
    "left_thigh", "right_thigh", "left_shank", "right_shank", "left_foot", "right_foot",
)  # fmt: skip
"""Body frames of a `Pose`; columns X (to the person's left), Y (up; limbs: from the far end to the near), Z (front)."""

F = {name: i for i, name in enumerate(FRAMES)}

_SIDES = ("left", "right")
_LIMB_CHANNELS = ("sh_flex", "sh_abd", "sh_twist", "el_flex", "wr_flex", "hip_flex", "hip_abd", "hip_twist", "kn_flex",
                  "an_flex")  # fmt: skip
_MIDDLE_CHANNELS = ("x", "y", "z", "yaw", "pitch", "roll", "spin", "spine_flex", "spine_side", "spine_twist",
                    "neck_flex", "neck_side", "neck_twist")  # fmt: skip
CHANNELS = _MIDDLE_CHANNELS + tuple(f"{side[0]}_{name}" for side in _SIDES for name in _LIMB_CHANNELS)
"""Names of a motion's channels: metres for x, y (height of a jump), z; degrees for the rest. ``spin`` turns the body
about its own long axis after pitch and roll; ``abd`` and ``twist`` of limbs are positive away from the body."""

C = {name: i for i, name in enumerate(CHANNELS)}

_LIMITS = {
    "spine_flex": (-25, 45), "spine_side": (-25, 25), "spine_twist": (-30, 30),
    "neck_flex": (-30, 30), "neck_side": (-22, 22), "neck_twist": (-38, 38),
    "sh_flex": (-60, 185), "sh_abd": (-25, 180), "sh_twist": (-80, 80), "el_flex": (0, 150), "wr_flex": (-60, 60),
    "hip_flex": (-35, 130), "hip_abd": (-20, 75), "hip_twist": (-35, 45), "kn_flex": (0, 150), "an_flex": (-45, 30),
}  # fmt: skip
"""Ranges of motion in degrees; spine and neck hold for each of their two joints."""

CHANNEL_LIMITS = np.array(
    [_LIMITS.get(n if n in _LIMITS else n[2:], (-np.inf, np.inf)) for n in CHANNELS], dtype=np.float64
)


@dataclass(frozen=True)
class Build:
    """A person's proportions. Lengths are fractions of ``stature`` (metres); girths are factors around 1."""

    stature: float = 1.72
    thigh: float = 0.245
    shank: float = 0.246
    ankle_height: float = 0.039
    foot: float = 0.108
    hip_half: float = 0.052
    trunk: float = 0.288
    shoulder_half: float = 0.112
    upper_arm: float = 0.180
    forearm: float = 0.146
    hand: float = 0.104
    head: float = 1.0
    weight: float = 1.0
    muscle: float = 1.0
    curves: float = 0.0
    """0 a flat, 1 a full female figure."""

    @property
    def neck(self) -> float:
        """From the shoulder line to the middle of the head, fraction of the stature."""
        return 0.117


def sample_build(rng: np.random.Generator) -> Build:
    """Plausible proportions: adults mostly, some children (shorter limbs, larger heads) and heavy people."""
    child = rng.random() < 0.1
    curves = float(rng.uniform(0.4, 1.0)) if not child and rng.random() < 0.45 else 0.0
    stature = rng.uniform(1.05, 1.5) if child else rng.normal(1.65 if curves else 1.77, 0.07)
    limb = rng.normal(0.95 if child else 1.0, 0.025)
    weight = float(np.clip(rng.lognormal(0.02, 0.13), 0.82, 1.5))

    def vary(value: float, spread: float = 0.03) -> float:
        return float(value * limb * rng.normal(1.0, spread))

    return Build(
        stature=float(stature),
        thigh=vary(0.245),
        shank=vary(0.246),
        foot=vary(0.108),
        hip_half=float(0.052 * rng.normal(1.04 if curves else 1.0, 0.04)),
        trunk=float(0.288 * rng.normal(1.0, 0.03)),
        shoulder_half=float(0.112 * rng.normal(0.93 if curves or child else 1.0, 0.05)),
        upper_arm=vary(0.180),
        forearm=vary(0.146),
        hand=vary(0.104),
        head=float(rng.normal(1.25 if child else 1.0, 0.04)),
        weight=weight,
        muscle=float(np.clip(rng.normal(0.94 if curves else 1.02, 0.08), 0.78, 1.3)),
        curves=curves,
    )


@dataclass(frozen=True)
class Pose:
    """3D joints and body frames over T times.

    Attributes:
        joints: (T, len(JOINTS), 3) metres.
        frames: (T, len(FRAMES), 3, 3) rotations, columns X, Y, Z.
    """

    joints: np.ndarray
    frames: np.ndarray
    actions: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.joints)


def _rotation(axis: int, degrees: np.ndarray) -> np.ndarray:
    """(T,) degrees about a coordinate axis to (T, 3, 3)."""
    angle = np.deg2rad(degrees)
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.zeros((*angle.shape, 3, 3))
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[..., axis, axis] = 1
    matrix[..., i, i] = matrix[..., j, j] = c
    matrix[..., i, j], matrix[..., j, i] = -s, s
    return matrix


def euler(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Rx(x) Rz(z) Ry(y), degrees: flex after abducting after twisting."""
    return _rotation(0, x) @ _rotation(2, z) @ _rotation(1, y)


# Where the body may touch the ground: joint, and the distance from it to the skin (fraction of the stature).
_CONTACTS = (
    ("left_toe", 0.012), ("right_toe", 0.012), ("left_ankle", 0.039), ("right_ankle", 0.039),
    ("left_knee", 0.03), ("right_knee", 0.03), ("pelvis", 0.075), ("spine", 0.06), ("thorax", 0.06),
    ("left_shoulder", 0.04), ("right_shoulder", 0.04), ("left_elbow", 0.024), ("right_elbow", 0.024),
    ("left_hand", 0.008), ("right_hand", 0.008), ("left_wrist", 0.018), ("right_wrist", 0.018), ("head_top", 0.0),
    ("head", 0.055), ("left_hip", 0.055), ("right_hip", 0.055),
)  # fmt: skip


def pose_from_channels(build: Build, channels: np.ndarray, anchored: bool = True) -> Pose:
    """Joint angles to joints and frames.

    Args:
        build: proportions.
        channels: (T, len(CHANNELS)), see `CHANNELS`.
        anchored: let the lowest point of the body stand still on the ground from one time to the next (feet do not
            slide, a rolling body rolls), except while channel ``y`` is above 2 cm.

    Returns:
        Pose whose lowest point is ``y`` above the ground plane y = 0.
    """
    ch = np.clip(channels, CHANNEL_LIMITS[:, 0], CHANNEL_LIMITS[:, 1])
    count, h = len(ch), build.stature
    joints = np.zeros((count, len(JOINTS), 3))
    frames = np.zeros((count, len(FRAMES), 3, 3))

    def get(name: str) -> np.ndarray:
        return ch[:, C[name]]

    def at(rotation: np.ndarray, x: float, y: float, z: float) -> np.ndarray:
        return (rotation @ np.array([x, y, z])) * h

    root = _rotation(1, get("yaw")) @ _rotation(0, get("pitch")) @ _rotation(2, get("roll")) @ _rotation(1, get("spin"))
    bend = euler(get("spine_flex"), get("spine_twist"), get("spine_side"))
    chest = root @ bend @ bend
    nod = euler(get("neck_flex"), get("neck_twist"), get("neck_side"))
    neck = chest @ nod
    head = neck @ nod
    middle = root @ bend
    frames[:, F["pelvis"]], frames[:, F["chest"]], frames[:, F["head"]] = root, chest, head

    unit = build.trunk / 0.288
    spine = at(root, 0, 0.06 * unit, 0) + at(middle, 0, 0.075 * unit, 0)
    thorax = spine + at(chest, 0, 0.153 * unit, -0.008)
    joints[:, J["spine"]] = spine
    joints[:, J["thorax"]] = thorax
    joints[:, J["neck"]] = thorax + at(neck, 0, 0.03, 0.004)
    centre = thorax + at(neck, 0, 0.055, 0) + at(head, 0, 0.062 * build.head, 0.012)
    joints[:, J["head"]] = centre
    joints[:, J["head_top"]] = centre + at(head, 0, 0.066 * build.head, -0.006)

    for side, sign in (("left", 1.0), ("right", -1.0)):
        s = side[0]
        arm = chest @ euler(-get(f"{s}_sh_flex"), sign * get(f"{s}_sh_twist"), sign * get(f"{s}_sh_abd"))
        down = np.array([0.0, -1.0, 0.0])
        # The shoulder blade lifts a raised arm's joint.
        lift = 0.03 * np.clip((1 - np.einsum("tij,j,ti->t", arm, down, -chest[:, :, 1])) / 2, 0, 1)
        offset = np.zeros((count, 3))
        offset[:, 0] = sign * (build.shoulder_half - 0.5 * lift)
        offset[:, 1] = -0.012 + lift
        shoulder = thorax + np.einsum("tij,tj->ti", chest, offset) * h
        fore = arm @ _rotation(0, -get(f"{s}_el_flex"))
        hand = fore @ _rotation(2, sign * get(f"{s}_wr_flex"))
        elbow = shoulder + at(arm, 0, -build.upper_arm, 0)
        wrist = elbow + at(fore, 0, -build.forearm, 0)
        joints[:, J[f"{side}_shoulder"]], joints[:, J[f"{side}_elbow"]] = shoulder, elbow
        joints[:, J[f"{side}_wrist"]] = wrist
        joints[:, J[f"{side}_hand"]] = wrist + at(hand, 0, -build.hand, 0)
        frames[:, F[f"{side}_upper_arm"]], frames[:, F[f"{side}_forearm"]] = arm, fore

        thigh = root @ euler(-get(f"{s}_hip_flex"), sign * get(f"{s}_hip_twist"), sign * get(f"{s}_hip_abd"))
        shank = thigh @ _rotation(0, get(f"{s}_kn_flex"))
        foot = shank @ _rotation(0, -get(f"{s}_an_flex"))
        hip = at(root, sign * build.hip_half, 0, 0)
        knee = hip + at(thigh, 0, -build.thigh, 0)
        ankle = knee + at(shank, 0, -build.shank, 0)
        joints[:, J[f"{side}_hip"]], joints[:, J[f"{side}_knee"]], joints[:, J[f"{side}_ankle"]] = hip, knee, ankle
        joints[:, J[f"{side}_toe"]] = ankle + at(foot, 0, 0.012 - build.ankle_height, build.foot)
        frames[:, F[f"{side}_thigh"]], frames[:, F[f"{side}_shank"]] = thigh, shank
        frames[:, F[f"{side}_foot"]] = foot

    joints[:, J["knees"]] = (joints[:, J["left_knee"]] + joints[:, J["right_knee"]]) / 2
    _stand_on_ground(joints, ch, h, anchored)
    return Pose(joints, frames)


def ground_contact(joints: np.ndarray, stature: float) -> tuple[np.ndarray, np.ndarray]:
    """Height of the body's lowest point, (T,), and which joint of `JOINTS` it belongs to, (T,)."""
    index = np.array([J[name] for name, _ in _CONTACTS])
    heights = joints[:, index, 1] - np.array([r for _, r in _CONTACTS]) * stature
    lowest = heights.argmin(1)
    return heights.min(1), index[lowest]


def _stand_on_ground(joints: np.ndarray, ch: np.ndarray, stature: float, anchored: bool) -> None:
    height, contact = ground_contact(joints, stature)
    shift = np.zeros((len(joints), 3))
    if anchored and len(joints) > 1:
        t = np.arange(len(joints) - 1)
        step = joints[t, contact[:-1]] - joints[t + 1, contact[:-1]]
        step[ch[:-1, C["y"]] > 0.02] = 0
        shift[1:, [0, 2]] = np.cumsum(step, 0)[:, [0, 2]]
    shift[:, 1] = ch[:, C["y"]] - height
    shift[:, 0] += ch[:, C["x"]]
    shift[:, 2] += ch[:, C["z"]]
    joints += shift[:, None]


# Face points in the head's frame, fractions of the stature (times `Build.head`).
FACE_POINTS = {
    "nose": (0.0, -0.006, 0.0615),
    "left_eye": (0.019, 0.012, 0.0455), "right_eye": (-0.019, 0.012, 0.0455),
    "left_ear": (0.0475, 0.002, -0.004), "right_ear": (-0.0475, 0.002, -0.004),
}  # fmt: skip

_BODY_INDEX = np.array([J.get(name, -1) for name in BODY19.keypoints])
_FACE_INDEX = np.array([i for i, name in enumerate(BODY19.keypoints) if name in FACE_POINTS])
_FACE_XYZ = np.array([FACE_POINTS[name] for name in BODY19.keypoints if name in FACE_POINTS])


def keypoints3d(build: Build, pose: Pose) -> np.ndarray:
    """(T, 19, 3): the joints of `posecli.skeletons.BODY19` in metres."""
    points = pose.joints[:, np.maximum(_BODY_INDEX, 0)].copy()
    offsets = _FACE_XYZ * build.stature * build.head
    head = pose.frames[:, F["head"]]
    points[:, _FACE_INDEX] = pose.joints[:, J["head"], None] + np.einsum("tij,kj->tki", head, offsets)
    return points
