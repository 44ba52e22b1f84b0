"""Procedural motion: named actions as functions of time, joined, disturbed and mirrored.

An action fills the channels of `posecli.scenes.body.CHANNELS` (metres and degrees) at the times asked for. Its
parameters come from the generator, so the same seed moves the same way whatever the frame rate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from posecli.scenes.body import CHANNELS, Build, C, Pose, pose_from_channels

Channels = dict[str, np.ndarray | float]


def _wave(t: np.ndarray, hertz: float, phase: float = 0.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * t + phase)


def _pulse(t: np.ndarray, period: float, phase: float, sharp: float = 1.0) -> np.ndarray:
    """0 .. 1 .. 0 once a period."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * (t / period + phase))) ** sharp


def _both(**values: np.ndarray | float) -> Channels:
    return {f"{side}_{name}": value for name, value in values.items() for side in "lr"}


def _arms_idle(rng: np.random.Generator) -> Channels:
    """One of the ways arms rest."""
    kind = rng.integers(7)
    u = rng.uniform
    if kind == 0:  # on the hips
        return _both(sh_flex=u(-30, -10), sh_abd=u(35, 55), sh_twist=u(-70, -45), el_flex=u(90, 110))
    if kind == 1:  # crossed
        return _both(sh_flex=u(25, 40), sh_abd=u(5, 12), sh_twist=u(-65, -50), el_flex=u(95, 115))
    if kind == 2:  # a telephone
        return {"l_sh_abd": 8.0, "l_el_flex": u(5, 25), "r_sh_flex": u(40, 60), "r_sh_abd": u(5, 20),
                "r_el_flex": u(90, 140), "neck_flex": u(0, 15)}  # fmt: skip
    if kind == 3:  # holding something in front
        return _both(sh_flex=u(10, 40), sh_abd=u(4, 12), sh_twist=u(-30, -10), el_flex=u(60, 100))
    if kind == 4:  # behind the back
        return _both(sh_flex=u(-35, -20), sh_abd=u(10, 20), sh_twist=u(-50, -30), el_flex=u(20, 50))
    abduction = u(5, 14)
    return {**_both(sh_flex=u(-8, 10), sh_abd=abduction), "l_el_flex": u(4, 30), "r_el_flex": u(4, 30)}


def _stand(rng: np.random.Generator, t: np.ndarray) -> Channels:
    sway = _wave(t, rng.uniform(0.1, 0.3), rng.uniform(0, 6))
    lean, wide = rng.uniform(-6, 6), rng.uniform(2, 12)
    return {**_arms_idle(rng), "roll": lean + 1.5 * sway, "spine_side": -lean / 2, "l_hip_abd": wide + lean,
            "r_hip_abd": wide - lean, "l_kn_flex": max(0.0, 3 * lean) + 3, "r_kn_flex": max(0.0, -3 * lean) + 3,
            "l_hip_flex": max(0.0, 1.5 * lean), "r_hip_flex": max(0.0, -1.5 * lean),
            "neck_twist": rng.uniform(-30, 30) + 8 * sway, "spine_twist": rng.uniform(-10, 10)}  # fmt: skip


def _walk(rng: np.random.Generator, t: np.ndarray, run: bool = False) -> Channels:
    hertz = rng.uniform(1.3, 1.6) if run else rng.uniform(0.75, 1.05)
    swing = rng.uniform(35, 55) if run else rng.uniform(18, 32)
    knee = rng.uniform(75, 115) if run else rng.uniform(45, 65)
    elbow = rng.uniform(75, 105) if run else rng.uniform(8, 40)
    arm = swing * rng.uniform(0.6, 1.2)
    lean = rng.uniform(6, 18) if run else rng.uniform(-2, 5)
    phase = rng.uniform(0, 6.28)
    out: Channels = {"pitch": lean, "spine_twist": 5 * _wave(t, hertz, phase), "yaw": rng.uniform(-25, 25)}
    for side, shift in (("l", 0.0), ("r", np.pi)):
        s = _wave(t, hertz, phase + shift)
        forward = np.maximum(0, _wave(t, hertz, phase + shift + 1.1))
        out |= {f"{side}_hip_flex": lean + 4 + swing * s, f"{side}_kn_flex": 6 + knee * forward**1.5,
                f"{side}_an_flex": 8 * s, f"{side}_hip_abd": 2.0, f"{side}_sh_flex": -arm * s,
                f"{side}_sh_abd": 7.0, f"{side}_el_flex": elbow - 12 * s}  # fmt: skip
    if run:
        out["y"] = 0.07 * np.abs(_wave(t, hertz, phase + 0.6))
    return out


def _run(rng: np.random.Generator, t: np.ndarray) -> Channels:
    return _walk(rng, t, run=True)


def _wave_hand(rng: np.random.Generator, t: np.ndarray) -> Channels:
    s = _wave(t, rng.uniform(1.0, 2.2))
    return {**_stand(rng, t), "r_sh_abd": rng.uniform(70, 150), "r_sh_flex": rng.uniform(0, 30),
            "r_sh_twist": rng.uniform(30, 80), "r_el_flex": rng.uniform(40, 90) + 28 * s,
            "r_wr_flex": 15 * s}  # fmt: skip


def _squat(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = _pulse(t, rng.uniform(1.6, 3), rng.random()) * rng.uniform(0.6, 1.1)
    knee, lean, shin = 115 * a, 28 * a, 26 * a
    arms = rng.uniform(20, 100)
    return {"pitch": lean, "spine_flex": 6 * a, "neck_flex": -8 * a,
            **_both(hip_flex=lean + knee - shin, kn_flex=knee, an_flex=shin, hip_abd=rng.uniform(6, 22),
                    sh_flex=arms * a, sh_abd=10.0, el_flex=rng.uniform(5, 110))}  # fmt: skip


def _jump(rng: np.random.Generator, t: np.ndarray) -> Channels:
    period, height = rng.uniform(1.1, 1.8), rng.uniform(0.2, 0.6)
    u = (t / period + rng.random()) % 1.0
    crouch = np.exp(-(((u - 0.18) / 0.09) ** 2)) + np.exp(-(((u - 0.88) / 0.08) ** 2))
    air = np.clip((u - 0.3) / 0.48, 0, 1)
    rise, tuck = 4 * air * (1 - air), rng.uniform(0, 90)
    knee = 85 * crouch + tuck * rise
    return {"y": height * rise, "pitch": 25 * crouch,
            **_both(hip_flex=25 * crouch + knee - 22 * crouch, kn_flex=knee, an_flex=22 * crouch - 30 * rise,
                    sh_flex=-40 * crouch + rng.uniform(60, 170) * rise, sh_abd=12 + 20 * rise, el_flex=15.0,
                    hip_abd=5 + rng.uniform(0, 35) * rise)}  # fmt: skip


def _jumping_jack(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = _pulse(t, rng.uniform(0.8, 1.3), rng.random())
    return {"y": 0.1 * 4 * a * (1 - a),
            **_both(hip_abd=2 + 30 * a, sh_abd=12 + rng.uniform(130, 160) * a, el_flex=15.0, kn_flex=8.0)}  # fmt: skip


def _turn(rng: np.random.Generator, t: np.ndarray) -> Channels:
    return {**_walk(rng, t), "yaw": rng.uniform(0, 360) + rng.choice([-1, 1]) * rng.uniform(50, 130) * t}


def _reach(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = _pulse(t, rng.uniform(2, 3.5), rng.random(), 0.7)
    other = a if rng.random() < 0.4 else 0.1 * a
    flex, bend = rng.uniform(70, 180), rng.uniform(-5, 25)
    return {**_stand(rng, t), "r_sh_flex": flex * a, "l_sh_flex": flex * other, "r_el_flex": 60 * (1 - a) + 8,
            "l_el_flex": 20.0, "r_sh_abd": rng.uniform(0, 40), "l_sh_abd": 12.0, "spine_flex": bend * a,
            "pitch": bend * a * 0.8, "r_sh_twist": 0.0, "l_sh_twist": 0.0}  # fmt: skip


def _sit(rng: np.random.Generator, t: np.ndarray) -> Channels:
    low = rng.random() < 0.3  # on the ground with the legs forward, else on a seat
    knee = rng.uniform(5, 110) if low else rng.uniform(70, 105)
    hip = rng.uniform(80, 100) if low else rng.uniform(75, 95)
    lean = rng.uniform(-20, 15)
    return {**_arms_idle(rng), "pitch": lean, "spine_flex": rng.uniform(0, 15), "neck_flex": rng.uniform(-8, 15),
            "neck_twist": rng.uniform(-25, 25) + 10 * _wave(t, 0.3),
            **_both(hip_flex=hip + lean + (knee * 0.3 if low else 0.0), kn_flex=knee, hip_abd=rng.uniform(0, 25)),
            "l_sh_flex": rng.uniform(0, 60), "r_sh_flex": rng.uniform(0, 60) + 10 * _wave(t, 0.4)}  # fmt: skip


def _kick(rng: np.random.Generator, t: np.ndarray) -> Channels:
    period = rng.uniform(1.0, 1.8)
    u = (t / period + rng.random()) % 1.0
    back = np.exp(-(((u - 0.3) / 0.12) ** 2))
    strike = np.exp(-(((u - 0.55) / 0.12) ** 2))
    height = rng.uniform(50, 115)
    return {"pitch": -12 * strike, "r_hip_flex": -28 * back + height * strike, "r_kn_flex": 95 * back + 10,
            "r_hip_abd": rng.uniform(0, 30) * strike, "l_kn_flex": 15.0, "l_hip_flex": 10.0, "l_an_flex": 5.0,
            "r_an_flex": -25 * strike, "l_sh_flex": 45 * strike - 20 * back, "l_sh_abd": 35.0, "r_sh_abd": 40.0,
            "r_sh_flex": -35 * strike + 15 * back, "l_el_flex": 40.0, "r_el_flex": 35.0}  # fmt: skip


def _lie(rng: np.random.Generator, t: np.ndarray, spin: np.ndarray | float | None = None) -> Channels:
    turn = rng.choice([0.0, 180.0, 90.0, -90.0]) + rng.uniform(-12, 12) if spin is None else spin
    slow = _wave(t, rng.uniform(0.2, 0.5), rng.uniform(0, 6))
    u = rng.uniform
    out: Channels = {"pitch": -90.0, "yaw": u(0, 360), "spin": turn}
    for side in "lr":
        knee = u(0, 100) if rng.random() < 0.4 else u(0, 20)
        out |= {f"{side}_hip_flex": knee * 0.6, f"{side}_kn_flex": knee, f"{side}_an_flex": -25.0,
                f"{side}_hip_abd": u(2, 18), f"{side}_sh_abd": u(5, 160), f"{side}_el_flex": u(0, 100) + 8 * slow,
                f"{side}_sh_flex": u(-5, 20)}  # fmt: skip
    return out


def _roll(rng: np.random.Generator, t: np.ndarray) -> Channels:
    return _lie(rng, t, rng.uniform(0, 360) + rng.choice([-1, 1]) * rng.uniform(60, 160) * t)


def _bend(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = _pulse(t, rng.uniform(1.8, 3.2), rng.random(), 0.8)
    lean, knee = rng.uniform(40, 85) * a, rng.uniform(5, 50) * a
    return {"pitch": lean, "spine_flex": 22 * a, **_both(hip_flex=lean + knee * 0.6, kn_flex=knee, an_flex=knee * 0.4),
            "r_sh_flex": rng.uniform(60, 130) * a, "l_sh_flex": rng.uniform(0, 130) * a,
            **_both(sh_abd=8.0, el_flex=12.0),
            "l_hip_abd": 6.0, "r_hip_abd": 6.0}  # fmt: skip


def _lunge(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = 0.4 + 0.6 * _pulse(t, rng.uniform(1.8, 3), rng.random())
    arms = rng.uniform(-20, 170)
    return {"r_hip_flex": 80 * a, "r_kn_flex": 80 * a, "l_hip_flex": -25 * a, "l_kn_flex": rng.uniform(10, 70) * a,
            "l_an_flex": 20 * a, "pitch": rng.uniform(-5, 25), "spine_twist": rng.uniform(-20, 20),
            **_both(sh_flex=arms, sh_abd=rng.uniform(5, 90), el_flex=rng.uniform(0, 90))}  # fmt: skip


def _punch(rng: np.random.Generator, t: np.ndarray) -> Channels:
    period = rng.uniform(0.7, 1.2)
    left, right = _pulse(t, period, 0.0, 3), _pulse(t, period, 0.5, 3)
    return {"yaw": rng.uniform(-60, 60), "spine_twist": 20 * (right - left), "pitch": 6.0,
            "l_sh_flex": 40 + 50 * left, "l_el_flex": 125 - 115 * left, "r_sh_flex": 35 + 55 * right,
            "r_el_flex": 130 - 120 * right, **_both(sh_abd=10.0, sh_twist=-15.0),
            "l_hip_flex": 25.0, "l_kn_flex": 25.0, "r_hip_flex": -5.0, "r_kn_flex": 20.0, "l_hip_abd": 10.0,
            "r_hip_abd": 12.0}  # fmt: skip


def _throw(rng: np.random.Generator, t: np.ndarray) -> Channels:
    u = (t / rng.uniform(1.3, 2.0) + rng.random()) % 1.0
    wind = np.exp(-(((u - 0.35) / 0.14) ** 2))
    go = np.exp(-(((u - 0.6) / 0.12) ** 2))
    return {"spine_twist": -25 * wind + 25 * go, "spine_flex": -12 * wind + 25 * go, "pitch": -8 * wind + 18 * go,
            "r_sh_abd": 25 + 70 * wind + 40 * go, "r_sh_flex": -25 * wind + 95 * go, "r_sh_twist": 75 * wind - 20 * go,
            "r_el_flex": 20 + 85 * wind, "l_sh_flex": 70 * wind, "l_sh_abd": 20.0, "l_el_flex": 20.0 + 50 * go,
            "l_hip_flex": 20 + 45 * wind + 10 * go, "l_kn_flex": 10 + 45 * wind + 15 * go, "r_hip_flex": -10.0,
            "r_kn_flex": 15 + 20 * go, "r_an_flex": 10.0}  # fmt: skip


def _swing(rng: np.random.Generator, t: np.ndarray) -> Channels:
    """Bat, club or racket in both hands."""
    s = _wave(t, rng.uniform(0.3, 0.6), rng.uniform(0, 6)) ** 3
    level = rng.uniform(25, 80)
    return {"pitch": rng.uniform(5, 35), "yaw": rng.uniform(-20, 20) + 25 * s, "spine_twist": 28 * s,
            "spine_flex": 10.0, "neck_twist": -15 * s, "l_sh_flex": level + 45 * s, "r_sh_flex": level - 35 * s,
            "l_sh_abd": 10 + 35 * s, "r_sh_abd": 10 - 25 * s, **_both(sh_twist=-35.0),
            "l_el_flex": 20 + 30 * np.abs(s), "r_el_flex": 25 + 45 * np.abs(s), **_both(hip_flex=30.0, kn_flex=28.0,
            an_flex=10.0, hip_abd=rng.uniform(8, 20))}  # fmt: skip


def _crawl(rng: np.random.Generator, t: np.ndarray) -> Channels:
    s = _wave(t, rng.uniform(0.6, 1.0), rng.uniform(0, 6))
    return {"pitch": 82.0, "yaw": rng.uniform(0, 360), "neck_flex": rng.uniform(-28, 0), "l_hip_flex": 85 + 18 * s,
            "r_hip_flex": 85 - 18 * s, **_both(kn_flex=90.0, an_flex=-35.0, el_flex=8.0, sh_abd=6.0),
            "l_sh_flex": 88 - 18 * s, "r_sh_flex": 88 + 18 * s, "l_wr_flex": 0.0}  # fmt: skip


def _push_up(rng: np.random.Generator, t: np.ndarray) -> Channels:
    a = _pulse(t, rng.uniform(1.2, 2.5), rng.random())
    return {"pitch": 72 + 14 * a, "yaw": rng.uniform(0, 360), "neck_flex": -18.0,
            **_both(sh_flex=75 - 60 * a, sh_abd=15 + 30 * a, el_flex=5 + 95 * a, an_flex=20.0)}  # fmt: skip


def _handstand(rng: np.random.Generator, t: np.ndarray) -> Channels:
    sway = _wave(t, rng.uniform(0.2, 0.6), rng.uniform(0, 6))
    return {"roll": 180 + rng.uniform(-15, 15) + 6 * sway, "yaw": rng.uniform(0, 360), "neck_flex": -20.0,
            "l_hip_flex": rng.uniform(-30, 60) + 8 * sway, "r_hip_flex": rng.uniform(-30, 60),
            "l_kn_flex": rng.uniform(0, 80), "r_kn_flex": rng.uniform(0, 40), "l_hip_abd": rng.uniform(0, 40),
            "r_hip_abd": rng.uniform(0, 40), **_both(sh_flex=175.0, sh_abd=5.0, el_flex=6.0)}  # fmt: skip


def _cartwheel(rng: np.random.Generator, t: np.ndarray) -> Channels:
    return {"roll": rng.uniform(0, 360) + rng.choice([-1, 1]) * rng.uniform(90, 220) * t, "yaw": rng.uniform(0, 360),
            **_both(sh_abd=rng.uniform(120, 165), hip_abd=rng.uniform(25, 60), el_flex=8.0, kn_flex=8.0,
                    an_flex=-25.0)}  # fmt: skip


def _keyframes(rng: np.random.Generator, t: np.ndarray, spread: float, tumble: float) -> Channels:
    """Random poses within the joints' ranges, one every half second or so, joined smoothly."""
    beat = rng.uniform(0.4, 0.8)
    knots = int(np.ceil(max(float(t.max(initial=0.0)), 0.0) / beat)) + 2
    lo = {"sh_flex": -40, "sh_abd": 0, "sh_twist": -60, "el_flex": 5, "wr_flex": -30, "hip_flex": -25, "hip_abd": 0,
          "hip_twist": -15, "kn_flex": 2, "an_flex": -25, "spine_flex": -15, "spine_side": -18, "spine_twist": -20,
          "neck_flex": -20, "neck_side": -12, "neck_twist": -25}  # fmt: skip
    hi = {"sh_flex": 160, "sh_abd": 130, "sh_twist": 60, "el_flex": 120, "wr_flex": 30, "hip_flex": 100, "hip_abd": 45,
          "hip_twist": 20, "kn_flex": 110, "an_flex": 20, "spine_flex": 25, "spine_side": 18, "spine_twist": 20,
          "neck_flex": 20, "neck_side": 12, "neck_twist": 25}  # fmt: skip
    # One generator for each knot: the number of times asked for does not change the poses.
    seeds = rng.integers(2**63, size=2)
    values = np.zeros((knots, len(CHANNELS)))
    for k in range(knots):
        own = np.random.default_rng([int(seeds[0]), k])
        for i, name in enumerate(CHANNELS):
            key = name if name in lo else name[2:]
            if key in lo:
                middle, half = (lo[key] + hi[key]) / 2, (hi[key] - lo[key]) / 2
                rest = 12.0 if key in ("el_flex", "sh_abd", "kn_flex") else 0.0
                centre = rest + (middle - rest) * spread
                values[k, i] = centre + spread * half * np.clip(own.normal(0, 0.55), -1, 1)
    angles = np.random.default_rng(int(seeds[1]))
    root = tumble * np.cumsum(angles.normal(0, 1, (knots, 3)) * [35, 25, 60], 0)
    values[:, [C["pitch"], C["roll"], C["yaw"]]] = root + tumble * angles.normal(0, 1, 3) * [70, 60, 180]
    u = t / beat
    k = np.clip(u.astype(int), 0, knots - 2)
    f = np.clip(u - k, 0, 1)
    f = (f * f * (3 - 2 * f))[:, None]
    mixed = values[k] * (1 - f) + values[k + 1] * f
    return {name: mixed[:, i] for i, name in enumerate(CHANNELS)}


def _dance(rng: np.random.Generator, t: np.ndarray) -> Channels:
    return _keyframes(rng, t, spread=rng.uniform(0.5, 0.9), tumble=0.12)


def _acrobat(rng: np.random.Generator, t: np.ndarray) -> Channels:
    air = rng.random() < 0.6
    return {**_keyframes(rng, t, spread=rng.uniform(0.6, 1.0), tumble=1.0),
            "y": rng.uniform(0.1, 0.9) * _pulse(t, 1.2, rng.random()) if air else 0.0}  # fmt: skip


ACTIONS: dict[str, Callable[[np.random.Generator, np.ndarray], Channels]] = {
    "stand": _stand, "walk": _walk, "run": _run, "wave": _wave_hand, "squat": _squat, "jump": _jump,
    "jumping_jack": _jumping_jack, "turn": _turn, "reach": _reach, "sit": _sit, "kick": _kick, "lie": _lie,
    "roll": _roll, "bend": _bend, "lunge": _lunge, "punch": _punch, "throw": _throw, "swing": _swing, "crawl": _crawl,
    "push_up": _push_up, "handstand": _handstand, "cartwheel": _cartwheel, "dance": _dance, "acrobat": _acrobat,
}  # fmt: skip
"""Name to motion; each is called with a generator and times in seconds, (T,)."""

EVERYDAY: dict[str, float] = {
            "stand": 5, "walk": 4, "run": 2, "wave": 2, "squat": 1, "jump": 1, "jumping_jack": 1, "turn": 2, "reach": 2,
            "sit": 3, "kick": 1, "lie": 0.5, "roll": 0.3, "bend": 1.5, "lunge": 1, "punch": 1, "throw": 1, "swing": 1,
            "crawl": 0.4, "push_up": 0.3, "handstand": 0.2, "cartwheel": 0.2, "dance": 3, "acrobat": 0.5}  # fmt: skip
"""Weights of the actions in ordinary scenes."""

SPORT: dict[str, float] = {
         "stand": 1, "walk": 1, "run": 3, "squat": 1, "jump": 4, "kick": 2, "reach": 1, "roll": 1, "bend": 1,
         "lunge": 2,
         "throw": 2, "swing": 1, "crawl": 1, "push_up": 1, "handstand": 3, "cartwheel": 3, "dance": 4, "lie": 1,
         "acrobat": 6}  # fmt: skip
"""Weights of the actions in gymnastics, parkour and athletics."""


def _assemble(channels: Channels, count: int) -> np.ndarray:
    out = np.zeros((count, len(CHANNELS)))
    for name, value in channels.items():
        out[:, C[name]] = value
    return out


def _disturb(rng: np.random.Generator, t: np.ndarray, degrees: float) -> np.ndarray:
    """Smooth small movements of every angle, as no two people and no two steps are alike."""
    size = len(CHANNELS)
    hertz, phase = rng.uniform(0.1, 0.9, (2, size)), rng.uniform(0, 6.28, (2, size))
    scale = np.full(size, degrees)
    scale[[C["x"], C["y"], C["z"], C["spin"]]] = 0
    scale[[C["yaw"], C["pitch"], C["roll"]]] *= 0.7
    waves = np.sin(2 * np.pi * hertz[:, None] * t[None, :, None] + phase[:, None]).sum(0)
    return rng.normal(0, 1, size) * scale + waves * scale * 0.4


_MIRROR = np.array([C[{"l_": "r_", "r_": "l_"}.get(n[:2], n[:2]) + n[2:]] for n in CHANNELS])
_MIRROR_SIGN = np.array(
    [-1.0 if n in ("x", "yaw", "roll", "spin", "spine_side", "spine_twist", "neck_side", "neck_twist") else 1.0
     for n in CHANNELS]
)  # fmt: skip


def sample_channels(
    rng: np.random.Generator,
    t: np.ndarray,
    weights: dict[str, float] = EVERYDAY,
    actions: tuple[str, ...] | None = None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """One person's motion at times ``t`` (seconds, (T,), from 0): actions of 1.5 to 4 s, blended into one another.

    Returns:
        channels (T, len(CHANNELS)) and the names of the actions.
    """
    names, odds = list(weights), np.array(list(weights.values()), dtype=float)
    odds /= odds.sum()
    end = float(t.max(initial=0.0))
    chosen: list[str] = []
    channels = np.zeros((len(t), len(CHANNELS)))
    start, blend = 0.0, 0.45
    heading = rng.uniform(0, 360) if rng.random() < 0.35 else rng.normal(0, 45)
    while start <= end:
        name = actions[len(chosen) % len(actions)] if actions else str(rng.choice(names, p=odds))
        length = rng.uniform(1.5, 4.0)
        # A single time (a picture) falls anywhere in the action.
        offset = rng.uniform(0, 3)
        part = _assemble(ACTIONS[name](rng, t - start + offset), len(t))
        if rng.random() < 0.5:
            part = part[:, _MIRROR] * _MIRROR_SIGN
        if chosen:
            f = np.clip((t - start) / blend, 0, 1)
            f = (f * f * (3 - 2 * f))[:, None]
            channels = channels * (1 - f) + part * f
        else:
            channels = part
        chosen.append(name)
        start += length
    channels = channels + _disturb(rng, t, rng.uniform(2, 6))
    channels[:, C["yaw"]] += heading
    return channels, tuple(chosen)


def sample_motion(
    rng: np.random.Generator,
    build: Build,
    t: np.ndarray,
    weights: dict[str, float] = EVERYDAY,
    actions: tuple[str, ...] | None = None,
) -> Pose:
    """A person's procedural motion at times ``t``; the pose's ``actions`` name what was done."""
    channels, names = sample_channels(rng, t, weights, actions)
    pose = pose_from_channels(build, channels)
    return Pose(pose.joints, pose.frames, names)
