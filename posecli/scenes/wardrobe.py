"""What is seen of a person: body parts with their girths, skin, hair, clothes and things carried.

A part is a swept ellipsoid: its centre runs from one end to the other while its size follows a parabola. `Figure`
holds all parts of one person as arrays; `place` puts them into the world for a pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.scenes.body import Build, F, J, Pose
from posecli.scenes.textures import (
    COLS,
    HAIR,
    Material,
    cloth,
    face,
    plain,
    random_colour,
    skin_colour,
)
from posecli.skeletons import BODY19

GROUPS = (
    "torso", "neck", "head", "hair", "skirt", "carried",
    "left_upper_arm", "right_upper_arm", "left_forearm", "right_forearm", "left_hand", "right_hand",
    "left_thigh", "right_thigh", "left_shank", "right_shank", "left_foot", "right_foot",
)  # fmt: skip
"""Which piece of the body a part belongs to; a keypoint is visible on its own pieces only."""

G = {name: i for i, name in enumerate(GROUPS)}

_OWN = {
    "nose": ("head",), "eye": ("head",), "ear": ("head",), "neck": ("torso", "neck"), "head_top": ("head", "hair"),
    "shoulder": ("torso", "*upper_arm"), "elbow": ("*upper_arm", "*forearm"), "wrist": ("*forearm", "*hand"),
    "hip": ("torso", "skirt", "*thigh"), "knee": ("*thigh", "*shank", "skirt"), "ankle": ("*shank", "*foot"),
}  # fmt: skip
_GAP = {"nose": 0.02, "eye": 0.016, "ear": 0.02, "neck": 0.14, "head_top": 0.07, "shoulder": 0.095, "elbow": 0.055,
        "wrist": 0.045, "hip": 0.115, "knee": 0.07, "ankle": 0.06}  # fmt: skip


def _kind(keypoint: str) -> tuple[str, str]:
    side, _, rest = keypoint.partition("_")
    return (rest, side + "_") if side in ("left", "right") else (keypoint, "")


OWN_GROUPS = np.zeros((len(BODY19.keypoints), len(GROUPS)), bool)
"""(19, groups): the pieces of the body a keypoint is seen on."""
SURFACE_GAP = np.zeros(len(BODY19.keypoints))
"""(19,): how far in front of the keypoint its own surface may lie, fraction of the stature; more means another side
of the body hides it."""
for _i, _name in enumerate(BODY19.keypoints):
    _key, _side = _kind(_name)
    SURFACE_GAP[_i] = _GAP[_key]
    for _group in _OWN[_key]:
        OWN_GROUPS[_i, G[_group.replace("*", _side)]] = True


@dataclass(frozen=True)
class Figure:
    """One person's parts (P of them) as arrays.

    Attributes:
        build: proportions.
        joint_a, joint_b: (P,) joints the part runs along.
        weight: (P, 2) where on the way from a to b its two ends lie.
        offset: (P, 2, 3) metres added to the ends, in the part's body frame.
        frame: (P,) index of that frame.
        ref_up: (P,) bool: the part's depth axis follows the frame's Y instead of Z (feet).
        radii: (P, 3) half widths in metres: across, along, deep.
        poly: (P, 3) size along the way t in 0..1: ``p0 + p1 t + p2 t^2``, a factor of ``radii``.
        texture: (P, ROWS, COLS, 3) uint8.
        shine: (P,).
        group: (P,) index of `GROUPS`.
        skull: index of the part that head boxes are drawn around.
    """

    build: Build
    joint_a: np.ndarray
    joint_b: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    frame: np.ndarray
    ref_up: np.ndarray
    radii: np.ndarray
    poly: np.ndarray
    texture: np.ndarray
    shine: np.ndarray
    group: np.ndarray
    skull: int

    def __len__(self) -> int:
        return len(self.group)


@dataclass(frozen=True)
class Placed:
    """Parts in the world at one time: ends (P, 2, 3), axes (P, 3, 3) with columns across, along, deep in metres."""

    ends: np.ndarray
    axes: np.ndarray


class _Tailor:
    """Collects parts; lengths in fractions of the stature."""

    def __init__(self, build: Build, rng: np.random.Generator) -> None:
        self.build, self.rng = build, rng
        self.rows: list[tuple] = []
        self.textures: list[np.ndarray] = []

    def add(
        self,
        group: str,
        a: str,
        b: str,
        frame: str,
        radii: tuple[float, float, float],
        material: Material | np.ndarray,
        ways: tuple[float, float] = (0.0, 1.0),
        first: tuple[float, float, float] = (0.0, 0.0, 0.0),
        second: tuple[float, float, float] = (0.0, 0.0, 0.0),
        sizes: tuple[float, float, float] = (1.0, 1.0, 1.0),
        ref_up: bool = False,
        length: float = 0.2,
    ) -> int:
        """``sizes`` at the first end, the middle and the second end; ``length`` only sets the scale of the pattern."""
        h = self.build.stature
        s0, s1, s2 = sizes
        bend = 2 * (s0 + s2 - 2 * s1)
        shine = 0.1
        if isinstance(material, Material):
            shine = material.shine
            material = material.cut(self.rng, (length + radii[1]) * h * 100, 3 * radii[0] * h * 100)
        self.textures.append(material)
        self.rows.append((
            J[a], J[b], ways, (first, second), F[frame], ref_up, radii, (s0, s2 - s0 - bend, bend), shine, G[group],
        ))  # fmt: skip
        return len(self.rows) - 1

    def figure(self, skull: int) -> Figure:
        h = self.build.stature
        column = list(zip(*self.rows, strict=True))
        return Figure(
            build=self.build,
            joint_a=np.array(column[0]),
            joint_b=np.array(column[1]),
            weight=np.array(column[2], float),
            offset=np.array(column[3], float) * h,
            frame=np.array(column[4]),
            ref_up=np.array(column[5]),
            radii=np.array(column[6], float) * h,
            poly=np.array(column[7], float),
            texture=np.clip(np.stack(self.textures), 0, 255).astype(np.uint8),
            shine=np.array(column[8], np.float32),
            group=np.array(column[9]),
            skull=skull,
        )


def _dress_torso(add: _Tailor, top: Material, trousers: Material, style: dict) -> None:
    rng, build = add.rng, add.build
    w, m, curves = build.weight, build.muscle, build.curves
    loose = style["loose"]
    bare = style["bare_chest"]
    shirt = style["skin"] if bare else top
    half = build.shoulder_half
    hips = (0.094 + 0.006 * curves) * (0.7 + 0.3 * w) * build.hip_half / 0.052
    waist = (0.084 - 0.012 * curves) * w
    belly = 0.060 * (0.55 + 0.45 * w) + 0.03 * max(0.0, w - 1.1)
    chest = half * 0.90 * (0.75 + 0.25 * m)
    unit = build.trunk / 0.288
    plus = loose * 0.011
    add.add("torso", "pelvis", "pelvis", "pelvis", (hips + plus, 0.045, 0.068 * (0.6 + 0.4 * w) + plus), trousers,
            first=(0, -0.022, 0), second=(0, 0.045, 0), sizes=(0.93, 1.0, 0.93))  # fmt: skip
    for sign in (-1, 1):
        add.add("torso", "pelvis", "pelvis", "pelvis", (0.047 * (0.7 + 0.3 * w), 0.047, 0.047), trousers,
                first=(0.042 * sign, -0.018, -0.032), second=(0.042 * sign, -0.03, -0.03))  # fmt: skip
    add.add("torso", "pelvis", "spine", "pelvis", (waist + plus * 1.3, 0.04, belly + plus * 1.3), shirt,
            first=(0, 0.03, 0), sizes=(1.06, 1.0, 1.02), length=0.12)  # fmt: skip
    add.add("torso", "spine", "thorax", "chest", (chest + plus, 0.035, 0.064 * (0.5 + 0.3 * m + 0.2 * w) + plus), shirt,
            first=(0, -0.01, 0), second=(0, -0.042, 0.004), sizes=(waist / chest * 1.04, 0.98, 0.92),
            length=0.15 * unit)  # fmt: skip
    # Shoulder girdle: a bar from shoulder to shoulder, and the slopes up to the neck.
    add.add("torso", "left_shoulder", "right_shoulder", "chest", (0.036 * m + plus, 0.034 * m, 0.036 * m + plus), shirt,
            ways=(0.06, 0.94), first=(0, -0.004, 0), second=(0, -0.004, 0), sizes=(0.92, 1.15, 0.92))  # fmt: skip
    for side in ("left", "right"):
        add.add("torso", f"{side}_shoulder", "neck", "chest", (0.026 * m + plus * 0.6, 0.03, 0.026 * m + plus * 0.6),
                shirt, ways=(0.08, 0.72), first=(0, 0.006, -0.006), second=(0, -0.012, -0.01))  # fmt: skip
    if curves > 0.3:
        size = 0.044 + 0.004 * curves * rng.uniform(0.0, 1.5)
        for sign in (-1, 1):
            add.add("torso", "spine", "spine", "chest", (size, size, size), shirt, first=(0.038 * sign, 0.095, 0.012),
                    second=(0.038 * sign, 0.07, 0.010 + 0.016 * curves))  # fmt: skip
    if w > 1.1:
        add.add("torso", "spine", "spine", "chest", (waist * 0.98, 0.09, belly + 0.006), shirt,
                first=(0, -0.055, 0.004), second=(0, -0.02, 0.008))  # fmt: skip
    if style["top_kind"] == "jacket" and not bare:
        inner = cloth(rng, None)
        part = top.cut(rng, 40, 40)
        strip = int(rng.integers(4, 14))
        part[:, COLS // 4 - strip // 2 : COLS // 4 + (strip + 1) // 2] = inner.cut(rng, 40, 20)[:, :strip]
        wide, deep = max(chest, hips, waist * 1.1) + plus + 0.009, max(0.068 * w, belly * 1.1) + plus + 0.012
        add.add("torso", "pelvis", "thorax", "chest", (wide, 0.02, deep), part,
                ways=(float(rng.uniform(-0.35, 0.0)), 0.86), sizes=(1.03, 1.0, 0.93), length=0.3)  # fmt: skip
    add.add("neck", "thorax", "head", "head", (0.031 * m, 0.028, 0.033 * m), style["skin"], ways=(-0.05, 0.8),
            sizes=(1.15, 1.0, 1.02))  # fmt: skip


def _dress_arm(add: _Tailor, side: str, top: Material, style: dict) -> None:
    m, w = add.build.muscle, (1 + add.build.weight) / 2
    skin, sleeve, loose = style["skin"], style["sleeve"], style["loose"]
    s, e, wr, ha = (f"{side}_{n}" for n in ("shoulder", "elbow", "wrist", "hand"))
    upper, fore = f"{side}_upper_arm", f"{side}_forearm"
    bare = style["bare_chest"]
    cover = 0.0 if bare else sleeve
    plus = 0.005 + 0.009 * loose
    r = 0.0285 * m * w
    on_upper = top if cover >= 1 else skin
    size = r + (plus if cover >= 1 else 0)
    below = 0.0245 * m * w * 0.98 + (plus * 0.9 if cover > 1.5 else 0)  # as thick as the forearm begins
    add.add(upper, s, e, upper, (size, size, size * 1.04), on_upper, sizes=(1.08, 0.99, 1.02 * below / size),
            length=0.18)  # fmt: skip
    if 0 < cover < 1:
        flare = r + plus * 1.2
        add.add(upper, s, e, upper, (flare, flare * 0.35, flare), top, ways=(-0.02, cover), sizes=(1.04, 1.06, 1.04))
    r = 0.0245 * m * w
    on_fore = top if cover > 1.5 else skin
    size = r + (plus * 0.9 if cover > 1.5 else 0)
    add.add(fore, e, wr, fore, (size * 0.95, size, size), on_fore, sizes=(0.98, 0.98, 0.66 if cover <= 1.5 else 0.8),
            length=0.14)  # fmt: skip
    hand = f"{side}_hand"
    gloves = style["gloves"]
    add.add(hand, wr, ha, fore, (0.0115, 0.014, 0.021), gloves or skin, ways=(0.2, 0.5), sizes=(0.9, 1.08, 1.0))
    add.add(hand, wr, ha, fore, (0.0085, 0.009, 0.0185), gloves or skin, ways=(0.5, 0.92), sizes=(1.05, 1.0, 0.7))
    add.add(hand, wr, ha, fore, (0.0075, 0.0075, 0.0075), gloves or skin, ways=(0.25, 0.62), first=(0, 0, 0.013),
            second=(0, 0, 0.03))  # fmt: skip


def _dress_leg(add: _Tailor, side: str, trousers: Material, shoes: Material, style: dict) -> None:
    m, w = add.build.muscle, (1 + add.build.weight) / 2
    skin, leg, loose = style["skin"], style["leg"], style["loose_legs"]
    hip, knee, ankle = (f"{side}_{n}" for n in ("hip", "knee", "ankle"))
    thigh, shank, foot = f"{side}_thigh", f"{side}_shank", f"{side}_foot"
    plus = 0.004 + 0.014 * loose
    r = 0.046 * m * w * (1 + 0.06 * add.build.curves)
    covered = leg >= 1
    size = r + (plus if covered else 0)
    # The thigh ends as thick as the shank begins.
    below = 0.0325 * m * w + (plus if leg > 1.5 else 0)
    lower = 1.03 * below / size
    add.add(thigh, hip, knee, thigh, (size, size * 0.8, size * 1.06), trousers if covered else skin,
            sizes=(1.06, (1.0 + lower) / 2 + 0.02, lower), length=0.25)  # fmt: skip
    if 0 < leg < 1:
        flare = r + plus + 0.004
        add.add(thigh, hip, knee, thigh, (flare, flare * 0.3, flare * 1.05), trousers, ways=(-0.02, leg),
                sizes=(1.06, 1.03, 1.0 - 0.16 * leg), length=0.12)  # fmt: skip
    r = 0.0325 * m * w
    covered = leg > 1.5
    size = r + (plus if covered else 0)
    bottom = 0.60 if not covered else 0.72 + 0.35 * loose
    add.add(shank, knee, ankle, shank, (size, size * (0.5 if covered else 0.9), size * 1.05),
            trousers if covered else style["socks"] if style["sock"] > 0.9 else skin,
            first=(0, 0, -0.006), sizes=(0.98, 1.04 if not covered else 1.0, bottom), length=0.24)  # fmt: skip
    if not covered and 0 < style["sock"] <= 0.9:
        add.add(shank, knee, ankle, shank, (r * 1.0, r * 0.3, r * 1.05), style["socks"],
                ways=(1 - style["sock"], 1.0), sizes=(0.98 - 0.28 * (1 - style["sock"]), 0.8, 0.66))  # fmt: skip
    reach = add.build.foot / 0.108
    add.add(foot, ankle, ankle, foot, (0.0255, 0.022, 0.0215), shoes, first=(0, -0.019, -0.014),
            second=(0, -0.0235, 0.07 * reach), sizes=(1.0, 1.08, 0.82), ref_up=True, length=0.12)  # fmt: skip
    add.add(foot, ankle, ankle, foot, (0.0235, 0.022, 0.025), shoes if style["sock"] > 0 else skin,
            first=(0, -0.01, 0.0), second=(0, -0.018, 0.022), ref_up=True, length=0.05)  # fmt: skip


def _add_head(add: _Tailor, style: dict) -> int:
    rng, k = add.rng, add.build.head
    skin, hair = style["skin"], style["hair"]
    colour = hair.tile[0, 0]
    beard = style["beard"]
    texture = face(rng, skin.tile[0, 0], colour, beard, rng.random() < 0.18)
    skull = add.add("head", "head", "head", "head", (0.046 * k, 0.05 * k, 0.056 * k), texture,
                    first=(0, -0.028 * k, 0.008 * k), second=(0, 0.016 * k, -0.004 * k),
                    sizes=(0.74, 0.93, 1.0))  # fmt: skip
    add.add("head", "head", "head", "head", (0.0085 * k, 0.007 * k, 0.0085 * k), skin, first=(0, 0.012 * k, 0.049 * k),
            second=(0, -0.006 * k, 0.0545 * k), sizes=(0.6, 0.8, 1.0))  # fmt: skip
    for sign in (-1, 1):
        add.add("head", "head", "head", "head", (0.005 * k, 0.012 * k, 0.009 * k), skin,
                first=(0.046 * sign * k, 0.004 * k, -0.004 * k),
                second=(0.0455 * sign * k, -0.003 * k, -0.002 * k))  # fmt: skip
    cut = style["haircut"]
    if cut != "bald":
        thick = 1.0 if cut != "afro" or style["hat"] else rng.uniform(1.15, 1.5)
        add.add("hair", "head", "head", "head", (0.049 * k * thick, 0.049 * k * thick, 0.054 * k * thick), hair,
                first=(0, 0.022 * k, -0.013 * k), second=(0, 0.006 * k, -0.022 * k),
                sizes=(1.0, 0.98, 0.88))  # fmt: skip
        if not style["hat"]:
            add.add("hair", "head", "head", "head", (0.040 * k, 0.018 * k, 0.03 * k), hair,
                    first=(rng.uniform(-0.01, 0.01) * k, 0.056 * k, 0.022 * k),
                    second=(rng.uniform(-0.01, 0.01) * k, 0.05 * k, 0.0 * k))  # fmt: skip
    if cut == "long":
        end = rng.uniform(0.75, 1.9)
        add.add("hair", "head", "thorax", "chest", (0.048 * k, 0.02, 0.028 * k), hair, ways=(0.05, end),
                first=(0, 0, -0.024), second=(0, 0, -0.042), sizes=(1.0, 1.08, 0.8), length=0.2)  # fmt: skip
    elif cut == "bun":
        where = (0, rng.uniform(0.0, 0.06) * k, rng.uniform(-0.075, -0.045) * k)
        add.add("hair", "head", "head", "head", (0.024 * k, 0.024 * k, 0.024 * k), hair, first=where, second=where)
    elif cut == "tail":
        add.add("hair", "head", "thorax", "head", (0.018 * k, 0.018, 0.018 * k), hair,
                ways=(0.0, rng.uniform(0.6, 1.5)),
                first=(0, 0.025 * k, -0.068 * k), second=(0, 0, -0.07), sizes=(0.8, 1.1, 0.5),
                length=0.15)  # fmt: skip
    if style["hat"]:
        hat = plain(random_colour(rng), 0.5)
        add.add("hair", "head", "head", "head", (0.053 * k, 0.046 * k, 0.062 * k), hat,
                first=(0, 0.034 * k, -0.009 * k), second=(0, 0.028 * k, -0.010 * k))  # fmt: skip
        if rng.random() < 0.6:
            add.add("hair", "head", "head", "head", (0.042 * k, 0.005 * k, 0.042 * k), hat,
                    first=(0, 0.033 * k, 0.052 * k), second=(0, 0.032 * k, 0.052 * k))  # fmt: skip
    return skull


def sample_figure(rng: np.random.Generator, build: Build, picture: np.ndarray | None = None) -> Figure:
    """Dresses a body at random.

    Args:
        rng: decides skin, hair, clothes.
        build: the body.
        picture: RGB picture that printed cloth may be cut from, or None.
    """
    add = _Tailor(build, rng)
    tone = skin_colour(rng)
    hair_colour = HAIR[rng.integers(len(HAIR))] * rng.uniform(0.8, 1.15)
    if tone.mean() < 130 and rng.random() < 0.85:
        hair_colour = HAIR[rng.integers(2)] * 1.0
    top, bottom = cloth(rng, picture), cloth(rng, picture)
    shoes = plain(random_colour(rng), 0.7, 0.15)
    woman = build.curves > 0.3
    sporty = rng.random() < 0.35
    legs = rng.random()
    style: dict = {
        "skin": plain(tone, 0.45, 0.12),
        "hair": plain(np.clip(hair_colour, 5, 240), 1.8, 0.1),
        "haircut": str(rng.choice(["short", "long", "bun", "tail"], p=[0.25, 0.4, 0.15, 0.2])) if woman
        else str(rng.choice(["short", "bald", "afro", "long", "tail"], p=[0.74, 0.1, 0.06, 0.07, 0.03])),
        "beard": not woman and rng.random() < 0.25,
        "hat": rng.random() < 0.14,
        "top_kind": "jacket" if not sporty and rng.random() < 0.3 else "shirt",
        "bare_chest": not woman and rng.random() < 0.07,
        "sleeve": float(rng.choice([0.0, rng.uniform(0.35, 0.75), 1.0, 2.0], p=[0.15, 0.4, 0.05, 0.4])),
        "leg": 2.0 if legs < (0.45 if sporty else 0.68) else float(rng.choice([rng.uniform(0.3, 0.95), 1.0, 0.0],
                                                                            p=[0.8, 0.08, 0.12])),
        "loose": float(rng.uniform(0, 1)),
        "loose_legs": float(rng.uniform(0, 0.9)),
        "sock": float(rng.choice([0.0, rng.uniform(0.1, 0.9), 0.95], p=[0.15, 0.7, 0.15])),
        "socks": plain(random_colour(rng), 0.7),
        "gloves": plain(random_colour(rng), 0.6) if rng.random() < 0.06 else None,
    }  # fmt: skip
    skirted = woman and rng.random() < 0.3
    if skirted:
        style["leg"] = 0.0
    if style["top_kind"] == "jacket":
        style["sleeve"] = 2.0
    whole = rng.random()
    if whole < 0.1:  # one garment from the neck down
        bottom = top
    _dress_torso(add, top, bottom, style)
    for side in ("left", "right"):
        _dress_leg(add, side, bottom, shoes, style)
    if skirted:
        reach, flare = rng.uniform(0.45, 1.5), rng.uniform(1.05, 1.7)
        width = 0.098 * (0.7 + 0.3 * build.weight)
        skirt = top if rng.random() < 0.5 else bottom
        add.add("skirt", "pelvis", "knees", "pelvis", (width, 0.012, width * 0.78), skirt, ways=(-0.08, reach),
                first=(0, 0.01, 0), sizes=(0.92, (0.95 + flare) / 2, flare), length=0.3)  # fmt: skip
    for side in ("left", "right"):
        _dress_arm(add, side, top, style)
    skull = _add_head(add, style)
    if rng.random() < 0.08:
        pack = cloth(rng, picture)
        depth = rng.uniform(0.03, 0.06)
        add.add("carried", "spine", "thorax", "chest", (0.075, 0.03, depth), pack, first=(0, -0.02, -0.05 - depth),
                second=(0, -0.01, -0.045 - depth), length=0.2)  # fmt: skip
    if rng.random() < 0.08:
        side = str(rng.choice(["left", "right"]))
        ball = rng.random() < 0.5
        size = (0.065, 0.065, 0.065) if ball else (0.02, 0.1, 0.08)
        add.add("carried", f"{side}_hand", f"{side}_hand", f"{side}_forearm", size, cloth(rng, picture),
                first=(0, -size[1], 0), second=(0, -size[1] - 0.001, 0))  # fmt: skip
    return add.figure(skull)


def place(figure: Figure, pose: Pose) -> list[Placed]:
    """The figure's parts for every time of the pose, in the world."""
    a, b = pose.joints[:, figure.joint_a], pose.joints[:, figure.joint_b]
    frames = pose.frames[:, figure.frame]
    ends = a[:, :, None] + figure.weight[None, :, :, None] * (b - a)[:, :, None]
    ends = ends + np.einsum("tpij,pej->tpei", frames, figure.offset)
    along = ends[:, :, 1] - ends[:, :, 0]
    length = np.linalg.norm(along, axis=-1, keepdims=True)
    along = np.where(length > 1e-4, along / np.maximum(length, 1e-9), frames[..., 1])
    deep = np.where(figure.ref_up[:, None], frames[..., 1], frames[..., 2])
    deep = deep - along * (deep * along).sum(-1, keepdims=True)
    size = np.linalg.norm(deep, axis=-1, keepdims=True)
    spare = frames[..., 0] - along * (frames[..., 0] * along).sum(-1, keepdims=True)
    spare /= np.maximum(np.linalg.norm(spare, axis=-1, keepdims=True), 1e-9)
    deep = np.where(size > 0.05, deep / np.maximum(size, 1e-9), np.cross(along, spare))
    across = np.cross(along, deep)
    # A limb's axis runs down the body, which would mirror left and right of its texture.
    across *= np.sign((across * frames[..., 0]).sum(-1, keepdims=True) + 1e-9)
    axes = np.stack([across, along, deep], -1) * figure.radii[None, :, None, :]
    return [Placed(ends[t], axes[t]) for t in range(len(pose))]
