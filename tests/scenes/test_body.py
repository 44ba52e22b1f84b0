"""Bones and motion: lengths hold, nothing sinks into the ground, recorded tracks are followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.scenes.body import CHANNELS, Build, C, F, J, keypoints3d, pose_from_channels, sample_build
from posecli.scenes.camera import look_at
from posecli.scenes.motion import ACTIONS, sample_motion
from posecli.scenes.penn import PennTracks, Track, fill, lift, penn_motion, pose_from_points
from posecli.skeletons import BODY19

KP = {name: i for i, name in enumerate(BODY19.keypoints)}


def test_standing_upright_has_textbook_proportions() -> None:
    build = Build(stature=2.0)
    points = keypoints3d(build, pose_from_channels(build, np.zeros((1, len(CHANNELS)))))[0]
    # Winter fig. 4.1: hip 0.530, knee 0.285, ankle 0.039, shoulder 0.818 of the stature.
    for name, share in (("left_hip", 0.53), ("left_knee", 0.285), ("left_ankle", 0.039), ("head_top", 1.0)):
        assert points[KP[name], 1] == pytest.approx(2.0 * share, abs=0.03)
    assert points[KP["left_shoulder"], 0] > 0 > points[KP["right_shoulder"], 0]
    assert points[KP["nose"], 2] > points[KP["left_ear"], 2]


def test_channels_turn_the_right_way() -> None:
    build = Build()
    ch = np.zeros((3, len(CHANNELS)))
    ch[0, C["l_sh_flex"]], ch[1, C["l_kn_flex"]], ch[2, C["r_sh_abd"]] = 90, 90, 90
    pose = pose_from_channels(build, ch, anchored=False)
    arm = pose.joints[0, J["left_wrist"]] - pose.joints[0, J["left_shoulder"]]
    assert arm[2] > 0.5 and abs(arm[1]) < 0.05
    shank = pose.joints[1, J["left_ankle"]] - pose.joints[1, J["left_knee"]]
    assert shank[2] < -0.3
    assert pose.joints[2, J["right_wrist"], 0] < pose.joints[2, J["right_shoulder"], 0] - 0.5


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_length_and_feet_the_ground(action: str) -> None:
    rng = np.random.default_rng(3)
    build = sample_build(rng)
    pose = sample_motion(rng, build, np.arange(30) / 15, actions=(action,))
    for a, b, length in (("left_knee", "left_ankle", build.shank), ("right_elbow", "right_wrist", build.forearm)):
        bone = np.linalg.norm(pose.joints[:, J[a]] - pose.joints[:, J[b]], axis=1)
        assert np.allclose(bone, length * build.stature)
    assert pose.joints[..., 1].min() > -0.02
    turned = pose.frames @ pose.frames.transpose(0, 1, 3, 2)
    assert np.allclose(turned, np.eye(3), atol=1e-9) and np.allclose(np.linalg.det(pose.frames), 1)
    assert np.isfinite(pose.joints).all() and pose.actions[0] == action


def _track(frames: int = 20) -> Track:
    """Somebody seen from the front who raises the left arm; Penn's order, the person's right first, y down."""
    xy = np.zeros((frames, 13, 2))
    still = {0: (0, -60), 1: (-20, -45), 2: (20, -45), 3: (-24, -15), 4: (24, -15), 5: (-24, 10), 6: (24, 10),
             7: (-9, 5), 8: (9, 5), 9: (-10, 45), 10: (10, 45), 11: (-10, 85), 12: (10, 85)}  # fmt: skip
    for joint, point in still.items():
        xy[:, joint] = point
    angle = np.linspace(0, np.pi * 0.9, frames)
    for joint, length in ((4, 30), (6, 55)):
        xy[:, joint] = xy[:, 2] + length * np.stack([np.sin(angle), np.cos(angle)], 1)
    return Track(xy + [160, 120], "raise", "front", 1, True)


def test_lift_follows_the_track_and_turns_forward() -> None:
    track, build = _track(), Build()
    points = lift(build, track)
    seen = track.xy * [1, -1]
    seen = seen - np.median(seen[:, 7:9].mean(1), 0)
    scale = np.linalg.norm(seen, axis=-1).max() / np.linalg.norm(points[..., :2], axis=-1).max()
    assert np.allclose(points[..., :2] * scale, seen, atol=0.2)
    assert np.isfinite(points).all()
    pose = pose_from_points(build, points)
    assert (pose.frames[:, F["chest"], 2, 2] > 0.8).all(), "the front view faces the camera"
    assert (pose.joints[:, J["left_shoulder"], 0] > pose.joints[:, J["right_shoulder"], 0]).all()


def test_unseen_joints_are_filled_plausibly() -> None:
    xy = _track().xy.copy()
    truth = xy.copy()
    xy[5:9, 6] = np.nan  # a short gap
    xy[:, 12] = np.nan  # never seen: as the other leg
    out = fill(xy)
    assert np.isfinite(out).all()
    assert np.linalg.norm(out[7, 6] - truth[7, 6]) < 5
    assert np.linalg.norm(out[:, 12] - truth[:, 12], axis=1).max() < 12


def test_recorded_motion(shared: Path) -> None:
    tracks = PennTracks(shared / "data" / "penn_action_labels" / "penn_action_labels.npz")
    assert len(tracks) > 500 and all(tracks.track(i).train for i in range(0, 900, 300))
    rng = np.random.default_rng(0)
    build = sample_build(rng)
    pose = penn_motion(tracks, rng, build, np.arange(40) / 30)
    assert pose.actions[0].startswith("penn ") and len(pose) == 40
    assert np.isfinite(pose.joints).all()
    thigh = np.linalg.norm(pose.joints[:, J["left_hip"]] - pose.joints[:, J["left_knee"]], axis=1)
    assert (thigh > 0.05).all() and (thigh < 0.9).all()
    xy, _ = look_at(np.zeros(3), 0, 0, 5, 0, 200, (0, 0)).project(keypoints3d(build, pose))
    assert np.linalg.norm(np.diff(xy, axis=0), axis=-1).max() < 25, "no jumps"


@pytest.mark.parametrize("content", [b"", b"not an archive", None])
def test_bad_motion_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "motion.npz"
    if content is None:
        np.savez(path, x=np.zeros((2, 13)))
    else:
        path.write_bytes(content)
    with pytest.raises(PoseError, match=r"motion\.npz"):
        PennTracks(path)
