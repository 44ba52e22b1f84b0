"""Real motion: 2D joint tracks of Penn Action, cleaned and lifted to 3D for a body of given proportions.

Source of the tracks: Zhang, Zhu & Derpanis, From Actemes to Action (ICCV 2013). Read from one ``.npz`` with all frames
one after the other: ``offset``, ``num_frames``, ``x``, ``y``, ``visibility`` (rows x 13), ``action``, ``view``,
``train``. Joint order: head, then shoulders, elbows, wrists, hips, knees, ankles, **the person's right first** of each
pair. Joints with visibility 0 carry no usable coordinate; they are filled from their neighbours in time, or from the
other side and the parent joint where they are never seen.

Lifting: one scale for the sequence, bone depths from what is missing of a bone's length, their signs by dynamic
programming over time (limbs bend the way knees and elbows do, and do not jump). Seen from the front camera the
figure's limbs follow the recorded tracks; from other sides the depths are a plausible guess.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from posecli.errors import PoseError, reason
from posecli.scenes.body import FRAMES, JOINTS, Build, F, J, Pose, ground_contact

FPS = 30.0
"""The tracks' nominal rate."""

_ARMS, _LEGS = ((1, 3, 5), (2, 4, 6)), ((7, 9, 11), (8, 10, 12))  # right, left
_NEEDED = ("offset", "num_frames", "x", "y", "visibility", "action", "view", "train")


@dataclass(frozen=True)
class Track:
    """One cleaned sequence: ``xy`` (T, 13, 2) pixels (y down), its action, view, number and train flag."""

    xy: np.ndarray
    action: str
    view: str
    number: int
    train: bool


class PennTracks:
    """The sequences of the file; ``split`` keeps ``"train"``, ``"test"`` or ``"all"`` of them.

    Raises:
        PoseError: the file is missing, no such archive, or has no usable sequence.
    """

    def __init__(self, path: str | Path, split: str = "train") -> None:
        self.path = Path(path)
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                missing = [name for name in _NEEDED if name not in archive]
                if missing:
                    raise PoseError(f"no array {missing[0]!r}", str(path), "expected joint tracks of Penn Action")
                self._data = {name: archive[name] for name in _NEEDED}
        except PoseError:
            raise
        except (OSError, ValueError, EOFError) as error:
            raise PoseError(
                f"cannot read motion: {reason(error)}", str(path), "an .npz of Penn Action tracks"
            ) from None
        data = self._data
        rows = len(data["x"])
        if data["x"].shape != (rows, 13) or data["y"].shape != (rows, 13) or data["visibility"].shape != (rows, 13):
            raise PoseError("x, y and visibility must be (frames, 13)", str(path))
        if (data["offset"] + data["num_frames"] > rows).any():
            raise PoseError("a sequence reaches beyond the last frame", str(path))
        flag = {"train": data["train"] == 1, "test": data["train"] != 1, "all": data["train"] == data["train"]}[split]
        # Sequences of which most joints are seen most of the time can be lifted.
        self.usable = [int(k) for k in np.flatnonzero(flag) if self._seen_enough(int(k))]
        if not self.usable:
            raise PoseError("no usable sequence", str(path))

    def __len__(self) -> int:
        return len(self.usable)

    def _rows(self, k: int) -> slice:
        start = int(self._data["offset"][k])
        return slice(start, start + int(self._data["num_frames"][k]))

    def _seen_enough(self, k: int) -> bool:
        seen = self._data["visibility"][self._rows(k)] > 0
        return len(seen) >= 12 and bool((seen.mean(0) > 0.3).sum() >= 11 and seen[:, 7:9].mean() > 0.3)

    def view(self, index: int) -> str:
        """Where the ``index``-th usable sequence was recorded from: front, back, left or right."""
        return str(self._data["view"][self.usable[index]])

    def track(self, index: int) -> Track:
        """The ``index``-th usable sequence, its gaps filled and its jitter smoothed."""
        k = self.usable[index]
        rows, data = self._rows(k), self._data
        xy = np.stack([data["x"][rows], data["y"][rows]], -1).astype(float)
        xy[data["visibility"][rows] == 0] = np.nan
        return Track(fill(xy), str(data["action"][k]), str(data["view"][k]), k, bool(data["train"][k] == 1))


def _middle(xy: np.ndarray, joints: tuple[int, ...]) -> np.ndarray:
    """(T, 2) mean of those of the joints that are there; NaN where none is."""
    part = xy[:, list(joints)]
    there = np.isfinite(part)
    with np.errstate(invalid="ignore"):
        return np.where(there, part, 0).sum(1) / there.sum(1)


def fill(xy: np.ndarray) -> np.ndarray:
    """(T, 13, 2) with NaN where unseen to the same without: linear in time, else by the other side's limb, else hanging
    from the parent; then lightly smoothed."""
    out = xy.copy()
    count = len(out)
    time = np.arange(count)
    for joint in range(13):
        seen = np.isfinite(out[:, joint, 0])
        if seen.sum() >= max(2, 0.1 * count):
            for axis in (0, 1):
                out[:, joint, axis] = np.interp(time, time[seen], out[seen, joint, axis])
        else:
            out[:, joint] = np.nan
    absent = np.isnan(out[:, :, 0]).all(0)
    pairs = [(a, a + 1) for a in range(1, 13, 2)]
    for a, b in ((1, 2), (7, 8)):
        for lost, other in ((a, b), (b, a)):
            if absent[lost] and not absent[other]:
                out[:, lost] = out[:, other]
    centre = _middle(out, (1, 2, 7, 8))
    trunk = np.linalg.norm(_middle(out, (1, 2)) - _middle(out, (7, 8)), axis=-1)
    size = float(np.median(trunk)) if np.isfinite(trunk).all() else 60.0
    parent = {3: 1, 5: 3, 4: 2, 6: 4, 9: 7, 11: 9, 10: 8, 12: 10}
    for a, b in pairs:
        for lost, other in ((a, b), (b, a)):
            if absent[lost] and lost in parent:
                bone = out[:, other] - out[:, parent[other]]
                hanging = np.array([0.0, size * (0.6 if lost < 7 else 0.85)])
                out[:, lost] = out[:, parent[lost]] + np.where(np.isfinite(bone), bone, hanging)
    if absent[0]:
        shoulders = _middle(out, (1, 2))
        out[:, 0] = shoulders + 0.4 * (shoulders - _middle(out, (7, 8)))
    out = np.where(np.isnan(out), centre[:, None], out)
    return gaussian_filter1d(out, 1.2, axis=0, mode="nearest")


def _depth(full: float, seen: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(full**2 - seen**2, 0))


def _limb_depths(
    xy: np.ndarray, root: np.ndarray, lengths: tuple[float, float], forward: np.ndarray, leg: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Depths of the middle and the far joint of a limb: signs by dynamic programming.

    Args:
        xy: (T, 3, 2) metres of root, middle, far joint (y up).
        root: (T,) depth of the root joint.
        lengths: of the two bones.
        forward: (T, 3) where the body faces.
        leg: knees bend forward and elbows stay in front.
    """
    d1 = _depth(lengths[0], np.linalg.norm(xy[:, 1] - xy[:, 0], axis=1))
    d2 = _depth(lengths[1], np.linalg.norm(xy[:, 2] - xy[:, 1], axis=1))
    signs = np.array([(1, 1), (1, -1), (-1, 1), (-1, -1)], float)
    z1 = root[:, None] + d1[:, None] * signs[:, 0]
    z2 = z1 + d2[:, None] * signs[:, 1]
    count = len(xy)
    p0 = np.concatenate([xy[:, 0], root[:, None]], 1)[:, None]
    p1 = np.concatenate([np.repeat(xy[:, None, 1], 4, 1), z1[..., None]], -1)
    p2 = np.concatenate([np.repeat(xy[:, None, 2], 4, 1), z2[..., None]], -1)
    ahead1 = ((p1 - p0) * forward[:, None]).sum(-1)
    ahead2 = ((p2 - p0) * forward[:, None]).sum(-1)
    if leg:
        bend = ((p1 - (p0 + p2) / 2) * forward[:, None]).sum(-1)
        cost = 8 * np.maximum(0, -bend) + 2 * np.maximum(0, -ahead1 - 0.15) - 0.2 * ahead1
    else:
        cost = 3 * np.maximum(0, -ahead2 - 0.05) + 3 * np.maximum(0, -ahead1 - 0.12) - 0.3 * ahead2
    best = cost[0]
    back = np.zeros((count, 4), int)
    for t in range(1, count):
        jump = (z1[t][None] - z1[t - 1][:, None]) ** 2 + (z2[t][None] - z2[t - 1][:, None]) ** 2
        total = best[:, None] + 60 * jump
        back[t] = total.argmin(0)
        best = total.min(0) + cost[t]
    state = np.zeros(count, int)
    state[-1] = int(best.argmin())
    for t in range(count - 1, 0, -1):
        state[t - 1] = back[t, state[t]]
    every = np.arange(count)
    return z1[every, state], z2[every, state]


def lift(build: Build, track: Track, window: slice = slice(None)) -> np.ndarray:
    """(T, 13, 3) metres: the track in 3D for a body; x right, y up, z towards the camera that saw it.

    ``window`` keeps some of its frames (the scale still comes from all of them).
    """
    h = build.stature
    unit = build.trunk / 0.288
    names = {"arm": build.upper_arm * h, "fore": build.forearm * h, "thigh": build.thigh * h, "shank": build.shank * h}
    trunk = (0.06 + 0.075 + 0.153) * unit * h - 0.012 * h
    xy = track.xy * [1.0, -1.0]

    def seen(a: int, b: int) -> np.ndarray:
        return np.linalg.norm(xy[:, a] - xy[:, b], axis=1)

    shoulders, hips = xy[:, 1:3].mean(1), xy[:, 7:9].mean(1)
    longest = {
        "arm": max(np.percentile(seen(a, b), 92) for a, b, _ in _ARMS),
        "fore": max(np.percentile(seen(b, c), 92) for _, b, c in _ARMS),
        "thigh": max(np.percentile(seen(a, b), 92) for a, b, _ in _LEGS),
        "shank": max(np.percentile(seen(b, c), 92) for _, b, c in _LEGS),
    }
    trunk_seen = np.percentile(np.linalg.norm(shoulders - hips, axis=1), 92)
    ratios = np.array([longest[n] / names[n] for n in names] + [trunk_seen / trunk])
    scale = max(float(np.percentile(ratios, 70)), 1e-3)
    lengths = {n: float(names[n] * np.clip(longest[n] / scale / names[n], 0.85, 1.15)) for n in names}
    trunk_length = float(trunk * np.clip(trunk_seen / scale / trunk, 0.85, 1.15))
    xy = xy[window] / scale
    xy = xy - np.median(xy[:, 7:9].mean(1), 0)
    shoulders, hips = xy[:, 1:3].mean(1), xy[:, 7:9].mean(1)

    # Which way the body faces: the recorded view, and knees that point forward.
    knees = sum(xy[:, k, 0] - (xy[:, hip, 0] + xy[:, a, 0]) / 2 for hip, k, a in _LEGS)
    prior = {"left": -0.25, "right": 0.25}.get(track.view, 0.0)
    score = gaussian_filter1d(np.asarray(knees, float), 12, mode="nearest") + prior
    if prior and np.sign(score.mean()) == np.sign(prior):
        score = np.full_like(score, prior)
    facing = np.where(score >= 0, 1.0, -1.0)
    wide = 2 * build.shoulder_half * h
    side = 0.5 * (xy[:, 2] - xy[:, 1]) / wide + 0.5 * (xy[:, 8] - xy[:, 7]) / (2 * build.hip_half * h)
    side = gaussian_filter1d(side, 3, axis=0, mode="nearest")
    length = np.linalg.norm(side, axis=1, keepdims=True)
    side = side / np.maximum(length, 1.0)
    left = np.column_stack([side, -facing * _depth(1.0, np.minimum(length[:, 0], 1.0))])
    left = gaussian_filter1d(left, 2, axis=0, mode="nearest")
    left /= np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-6)

    lean = _depth(trunk_length, np.linalg.norm(shoulders - hips, axis=1))
    trunk_vector = np.column_stack([shoulders - hips, np.zeros(len(xy))])
    ahead = np.cross(left, trunk_vector)
    toward = {"front": 1.0, "back": -1.0}.get(track.view) or np.where(gaussian_filter1d(ahead[:, 2], 8) >= 0, 1.0, -1.0)
    trunk_vector[:, 2] = gaussian_filter1d(lean * toward, 2, mode="nearest")
    forward = np.cross(left, trunk_vector)
    forward /= np.maximum(np.linalg.norm(forward, axis=1, keepdims=True), 1e-6)

    out = np.zeros((len(xy), 13, 3))
    out[:, :, :2] = xy
    chest_z = trunk_vector[:, 2] / 2
    for sign, joints in ((-1, _ARMS[0]), (1, _ARMS[1])):
        out[:, joints[0], 2] = chest_z + sign * left[:, 2] * build.shoulder_half * h
        out[:, joints[1], 2], out[:, joints[2], 2] = _limb_depths(
            xy[:, list(joints)], out[:, joints[0], 2], (lengths["arm"], lengths["fore"]), forward, leg=False
        )
    for sign, joints in ((-1, _LEGS[0]), (1, _LEGS[1])):
        out[:, joints[0], 2] = -chest_z + sign * left[:, 2] * build.hip_half * h
        out[:, joints[1], 2], out[:, joints[2], 2] = _limb_depths(
            xy[:, list(joints)], out[:, joints[0], 2], (lengths["thigh"], lengths["shank"]), forward, leg=True
        )
    out[:, 0, 2] = chest_z + trunk_vector[:, 2] * 0.3
    out[..., 2] = gaussian_filter1d(out[..., 2], 1.5, axis=0, mode="nearest")
    return out


def _unit(vectors: np.ndarray, instead: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-4, vectors / np.maximum(length, 1e-9), instead)


def _frame(up: np.ndarray, left: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """(T, 3, 3) with Y = ``up``, X as near to ``left`` as possible (``spare`` where left runs along up)."""
    x = left - up * (left * up).sum(-1, keepdims=True)
    weak = np.linalg.norm(x, axis=-1, keepdims=True) < 0.15
    other = np.cross(up, spare)
    x = _unit(np.where(weak, other, x), np.broadcast_to([1.0, 0, 0], x.shape))
    return np.stack([x, up, np.cross(x, up)], -1)


def pose_from_points(build: Build, points: np.ndarray) -> Pose:
    """(T, 13, 3) metres in Penn's joint order to a full pose: trunk, head, hands and feet are added to the limbs."""
    h = build.stature
    count = len(points)
    joints = np.zeros((count, len(JOINTS), 3))
    frames = np.zeros((count, len(FRAMES), 3, 3))
    head, shoulders, hips = points[:, 0], points[:, 1:3].mean(1), points[:, 7:9].mean(1)
    y = np.broadcast_to([0.0, 1.0, 0.0], (count, 3))
    x = np.broadcast_to([1.0, 0.0, 0.0], (count, 3))
    up = _unit(shoulders - hips, y)
    across = _unit(points[:, 2] - points[:, 1], x) + 0.6 * _unit(points[:, 8] - points[:, 7], x)
    trunk = _frame(up, _unit(across, x), np.broadcast_to([0.0, 0, 1.0], (count, 3)))
    left, front = trunk[..., 0], trunk[..., 2]
    frames[:, F["pelvis"]] = frames[:, F["chest"]] = trunk
    length = np.linalg.norm(shoulders - hips, axis=1, keepdims=True)
    joints[:, J["pelvis"]] = hips
    joints[:, J["spine"]] = hips + up * length * 0.48
    joints[:, J["thorax"]] = thorax = shoulders + up * 0.012 * h
    tilt = _unit(head - shoulders, up)
    tilt = _unit(up + 0.8 * tilt, up)
    frames[:, F["head"]] = skull = _frame(tilt, left, -front)
    joints[:, J["neck"]] = thorax + tilt * 0.03 * h
    joints[:, J["head"]] = centre = thorax + tilt * (0.055 + 0.062 * build.head) * h + skull[..., 2] * 0.012 * h
    joints[:, J["head_top"]] = centre + tilt * 0.066 * build.head * h - skull[..., 2] * 0.006 * h
    for side, sign, arm, leg in (("right", -1, _ARMS[0], _LEGS[0]), ("left", 1, _ARMS[1], _LEGS[1])):
        shoulder = shoulders + sign * left * build.shoulder_half * h
        hip = hips + sign * left * build.hip_half * h
        elbow, wrist, knee, ankle = points[:, arm[1]], points[:, arm[2]], points[:, leg[1]], points[:, leg[2]]
        fore, shank = _unit(wrist - elbow, -up), _unit(ankle - knee, -up)
        foot_frame = _frame(-shank, left, -front)
        ahead = foot_frame[..., 2]
        for name, where in (
            ("shoulder", shoulder), ("elbow", elbow), ("wrist", wrist), ("hand", wrist + fore * build.hand * h),
            ("hip", hip), ("knee", knee), ("ankle", ankle),
            ("toe", ankle + (ahead * build.foot + shank * (build.ankle_height - 0.012)) * h),
        ):  # fmt: skip
            joints[:, J[f"{side}_{name}"]] = where
        frames[:, F[f"{side}_upper_arm"]] = _frame(-_unit(elbow - shoulder, -up), left, -front)
        frames[:, F[f"{side}_forearm"]] = _frame(-fore, left, -front)
        frames[:, F[f"{side}_thigh"]] = _frame(-_unit(knee - hip, -up), left, -front)
        frames[:, F[f"{side}_shank"]] = frames[:, F[f"{side}_foot"]] = foot_frame
    joints[:, J["knees"]] = (joints[:, J["left_knee"]] + joints[:, J["right_knee"]]) / 2
    return Pose(joints, frames)


def penn_motion(tracks: PennTracks, rng: np.random.Generator, build: Build, t: np.ndarray) -> Pose:
    """A random sequence lifted for a body, at times ``t`` in seconds; one that is too short runs back and forth.

    The pose's ``actions`` name action and sequence number, e.g. ``("penn 17 squat",)``.
    """
    track = tracks.track(int(rng.integers(len(tracks))))
    last = len(track.xy) - 1
    span = float(t.max(initial=0.0) - t.min(initial=0.0)) * FPS
    start = rng.uniform(0, max(last - span, 0.0)) if span < last else 0.0
    position = np.abs(((t * FPS + start) + last) % (2 * last) - last)
    k = np.minimum(position.astype(int), last - 1)
    f = (position - k)[:, None, None]
    around = slice(max(0, int(k.min()) - 15), int(k.max()) + 17)
    points = lift(build, track, around)
    k = k - around.start
    pose = pose_from_points(build, points[k] * (1 - f) + points[k + 1] * f)
    height, _ = ground_contact(pose.joints, build.stature)
    pose.joints[..., 1] -= np.percentile(height, 5)
    return Pose(pose.joints, pose.frames, (f"penn {track.number} {track.action}",))
