"""Puppets: people cut from labelled pictures, taken apart at their joints, and put together in another pose.

A person of a picture with joints becomes ten parts (torso, head, two of each limb): pixels of the person's mask, or,
where there is none, of what GrabCut (Rother, Kolmogorov, Blake, SIGGRAPH 2004) finds around thick limbs, each given to
the bone that is nearest. In a new pose every part is turned, moved and stretched from its old bone to the new one, so
the joints of the new picture are known exactly.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from posecli.errors import PoseError
from posecli.formats import coco
from posecli.masks import mask_of
from posecli.skeletons import BODY19, match_joints
from posecli.types import Instance, Record

J19 = {name: n for n, name in enumerate(BODY19.keypoints)}
SIDES = ("left", "right")
LIMB_JOINTS = tuple(f"{side}_{j}" for side in SIDES for j in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
#: Joints that move with the head.
HEAD_JOINTS = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top")

#: Bones by the joints at their ends. `neck` and `pelvis` are the middles of shoulders and hips, `crown` the head's top.
PARTS: tuple[tuple[str, str, str], ...] = (
    ("left_shank", "left_knee", "left_ankle"), ("left_thigh", "left_hip", "left_knee"),
    ("right_shank", "right_knee", "right_ankle"), ("right_thigh", "right_hip", "right_knee"),
    ("torso", "neck", "pelvis"), ("head", "neck", "crown"),
    ("left_upper_arm", "left_shoulder", "left_elbow"), ("left_forearm", "left_elbow", "left_wrist"),
    ("right_upper_arm", "right_shoulder", "right_elbow"), ("right_forearm", "right_elbow", "right_wrist"),
)  # fmt: skip
_NUMBER = {name: n for n, (name, _, _) in enumerate(PARTS)}
#: Half the width of what belongs to a bone, in torso lengths.
_THICK = {"torso": 0.3, "head": 0.28, "thigh": 0.2, "shank": 0.15, "upper_arm": 0.14, "forearm": 0.12}
#: Hands, feet and hair reach beyond their bones by this share of the bone.
_BEYOND = {"forearm": 0.5, "shank": 0.3, "head": 0.2}
#: A bone that points at the camera keeps this share of its length, and a torso seen from the side of its width.
_SHORTEST, _NARROWEST = 0.25, 0.55
#: A part that has less of its bone than this was hidden in the picture.
_LEAST_COVERED = 0.75
_SHARES = {"test": (0,), "val": (1,), "train": tuple(range(2, 10)), "all": tuple(range(10))}


def in_split(name: str, split: str) -> bool:
    """Whether a file belongs to a split, by ``crc32(name) % 10``: 0 to tests, 1 to validation, the rest to training."""
    return zlib.crc32(name.encode()) % 10 in _SHARES[split]


def _kind(part: str) -> str:
    return part.removeprefix("left_").removeprefix("right_")


@dataclass(frozen=True)
class Part:
    """What belongs to a bone: ``image`` (h, w, 3) uint8 and ``alpha`` (h, w) float32 in 0..1, the bone's ends (2, 2) in
    their pixels."""

    image: np.ndarray
    alpha: np.ndarray
    bone: np.ndarray


@dataclass(frozen=True)
class Puppet:
    """A person in parts.

    Attributes:
        parts: by name of `PARTS`. source: name of the picture.
        torso: length of the torso in pixels of the picture. shoulders: signed width of the shoulders there, positive
            where the left one lies on the left of the way from neck to pelvis (as seen on a front view: on the right).
        crown: length of the head's bone. head: joints of `HEAD_JOINTS` that are labelled, (x, y) of the picture.
    """

    parts: Mapping[str, Part]
    source: str
    torso: float
    shoulders: float
    crown: float
    neck: np.ndarray
    top: np.ndarray
    head: Mapping[str, np.ndarray]


def ends_of(joints: Mapping[str, np.ndarray], crown: np.ndarray) -> dict[str, np.ndarray]:
    """The twelve joints of the limbs and the ends of torso and head besides: places by name, (..., 2)."""
    neck = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    pelvis = (joints["left_hip"] + joints["right_hip"]) / 2
    return {**joints, "neck": neck, "pelvis": pelvis, "crown": crown}


def _signed_width(places: Mapping[str, np.ndarray]) -> np.ndarray:
    """(...,) how far the left shoulder lies aside of the right one, to the left of the way from neck to pelvis."""
    along = places["pelvis"] - places["neck"]
    along = along / np.maximum(np.linalg.norm(along, axis=-1, keepdims=True), 1e-6)
    aside = places["left_shoulder"] - places["right_shoulder"]
    return aside[..., 0] * along[..., 1] - aside[..., 1] * along[..., 0]


class People:
    """People that puppets can be made of, from COCO keypoint JSON files and their pictures.

    Whole, upright people are taken, seen from the front, whose limbs stand apart; crowds are not.

    Args:
        files: COCO keypoint JSON; masks (``segmentation``) are used where they stand there.
        split: see `in_split`, by the picture's file name.
        least: height of a person in pixels.

    Raises:
        PoseError: a file cannot be read, or nobody in them will do.
    """

    def __init__(self, files: Sequence[str | Path], split: str = "train", least: float = 90.0) -> None:
        self._people: list[tuple[Path, Record, Instance, dict[str, np.ndarray]]] = []
        for file in files:
            dataset = coco.read(file)
            columns = match_joints(dataset.skeleton.keypoints, BODY19.keypoints)
            for record in dataset.records:
                if not in_split(Path(record.file_name).name, split):
                    continue
                for person in record.instances:
                    joints = {
                        name: person.xy[column].astype(float)
                        for name, column in zip(BODY19.keypoints, columns, strict=True)
                        if column >= 0 and person.visibility[column] > 0
                    }
                    if not person.ignore and _fits(joints, least):
                        self._people.append((Path(dataset.root) / record.file_name, record, person, joints))
        if not self._people:
            where = ", ".join(str(f) for f in files)
            raise PoseError(f"nobody for a puppet of the split {split!r}", where, "whole upright people are wanted")
        self._made: dict[int, Puppet | None] = {}

    def __len__(self) -> int:
        return len(self._people)

    def puppet(self, rng: np.random.Generator) -> Puppet:
        """A random person's puppet.

        Raises:
            PoseError: a picture cannot be read, or is smaller than its labels say; the outlines are too poor.
        """
        for _ in range(50):
            number = int(rng.integers(len(self._people)))
            if number not in self._made:
                if len(self._made) > 200:
                    self._made.clear()
                self._made[number] = self._make(number)
            found = self._made[number]
            if found is not None:
                return found
        raise PoseError("no puppet could be made", str(self._people[0][0].parent), "the people's outlines are too poor")

    def _make(self, number: int) -> Puppet | None:
        path, record, person, joints = self._people[number]
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise PoseError("not a readable picture", str(path))
        height, width = image.shape[:2]
        if width < record.width or height < record.height:
            what = f"{width} x {height} pixels, but its labels are of {record.width} x {record.height}"
            raise PoseError(what, str(path), "posecli check finds such pictures")
        return make_puppet(np.ascontiguousarray(image[:, :, ::-1]), joints, person.extra.get("segmentation"), path.name)


def _fits(joints: Mapping[str, np.ndarray], least: float) -> bool:
    if any(name not in joints for name in LIMB_JOINTS) or not any(name in joints for name in HEAD_JOINTS):
        return False
    places = ends_of(joints, np.zeros(2))
    torso = float(np.linalg.norm(places["pelvis"] - places["neck"]))
    points = np.stack([joints[name] for name in LIMB_JOINTS])
    height = float(np.ptp(points[:, 1]))
    if torso < 1 or height < least or height < 2.0 * torso:
        return False
    upright = places["pelvis"][1] - places["neck"][1] > 0.85 * torso
    legs = all(joints[f"{s}_ankle"][1] > joints[f"{s}_knee"][1] > joints[f"{s}_hip"][1] for s in SIDES)
    front = float(_signed_width(places)) > 0.35 * torso
    bones = [np.linalg.norm(joints[b] - joints[a]) for _, a, b in PARTS if a in joints and b in joints]
    apart = min(
        np.linalg.norm(joints[a] - joints[b])
        for a, b in (("left_wrist", "right_wrist"), ("left_knee", "right_knee"), ("left_ankle", "right_ankle"),
                     ("left_wrist", "left_shoulder"), ("right_wrist", "right_shoulder"))
    )  # fmt: skip
    return bool(upright and legs and front and min(bones) > 0.3 * torso and apart > 0.25 * torso)


def _crown_of(joints: Mapping[str, np.ndarray], neck: np.ndarray, torso: float) -> np.ndarray:
    """The top of the head: labelled, or above the face."""
    if "head_top" in joints:
        return joints["head_top"]
    face = np.mean([joints[name] for name in HEAD_JOINTS if name in joints], axis=0)
    way = face - neck
    return neck + way / max(float(np.linalg.norm(way)), 1e-6) * 0.62 * torso


def make_puppet(
    image: np.ndarray, joints: Mapping[str, np.ndarray], segmentation: Any = None, source: str = ""
) -> Puppet | None:
    """Takes a person apart; None where too little of the outline is found, or of the person is in the picture.

    Args:
        image: (H, W, 3) uint8. joints: places (2,) of `LIMB_JOINTS` and some of `HEAD_JOINTS`, by name.
        segmentation: COCO mask (polygons or RLE), or None.
        source: name of the picture.
    """
    torso = float(np.linalg.norm(_middle(joints, "hip") - _middle(joints, "shoulder")))
    places = ends_of(joints, _crown_of(joints, _middle(joints, "shoulder"), torso))
    zoom = 1.0
    low = np.min([places[name] for name in (*LIMB_JOINTS, "crown")], axis=0) - 0.5 * torso
    high = np.max([places[name] for name in (*LIMB_JOINTS, "crown")], axis=0) + 0.5 * torso
    x0, y0 = np.maximum(np.floor(low), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(high), image.shape[1::-1]).astype(int)
    if min(x1 - x0, y1 - y0) < max(1.0, torso / 80):  # nothing is left of it below
        return None
    mask: np.ndarray | None = None
    if segmentation is not None:
        whole = mask_of(segmentation, image.shape[1], image.shape[0], source)
        mask = whole[y0:y1, x0:x1].astype(np.float32) if whole.any() else None  # tools write empty ones, too
    image = image[y0:y1, x0:x1]
    if torso > 80:  # larger than it will be shown
        zoom = 80 / torso
        image = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        if mask is not None:
            mask = cv2.resize(mask, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    places = {name: (place - (x0, y0)) * zoom for name, place in places.items()}
    torso *= zoom
    distances = np.stack([_distance(name, places, torso, image.shape[:2]) for name, _, _ in PARTS])
    if mask is None:
        mask = _grabbed(image, distances)
    alpha = cv2.GaussianBlur((mask > 0.5).astype(np.float32), (0, 0), 0.7)
    nearest = distances.argmin(0)
    parts = {}
    for number, (name, a, b) in enumerate(PARTS):
        # Caps around the joints overlap their neighbours, so that nothing gapes where a limb bends.
        reach = _THICK[_kind(name)] * torso
        own = ((nearest == number) & (distances[number] < 1.6)).astype(np.uint8)
        for joint in (a, b):
            if name != "torso" and joint != "crown":
                cap = np.zeros_like(own)
                cv2.circle(cap, _pixel(places[joint]), max(1, round(0.85 * reach)), 1, -1)
                own |= cap & (distances[number] < 1.2)
        shown = alpha * cv2.GaussianBlur(own.astype(np.float32), (0, 0), 0.6)
        if _covered(shown, places[a], places[b]) < _LEAST_COVERED:
            return None
        x, y, w, h = cv2.boundingRect((shown > 0.02).astype(np.uint8))
        parts[name] = Part(
            image[y : y + h, x : x + w], shown[y : y + h, x : x + w], np.stack([places[a], places[b]]) - (x, y)
        )
    head = {name: (joints[name] - (x0, y0)) * zoom for name in HEAD_JOINTS if name in joints}
    crown = float(np.linalg.norm(places["crown"] - places["neck"]))
    return Puppet(parts, source, torso, float(_signed_width(places)), crown, places["neck"], places["crown"], head)


def _covered(alpha: np.ndarray, start: np.ndarray, end: np.ndarray) -> float:
    """Share of the way along a bone that belongs to its part."""
    height, width = alpha.shape
    way = np.round(start + np.linspace(0.05, 0.95, 12)[:, None] * (end - start)).astype(int)
    inside = ((way >= 0) & (way < (width, height))).all(1)
    found = alpha[np.clip(way[:, 1], 0, height - 1), np.clip(way[:, 0], 0, width - 1)]
    return float((inside & (found > 0.5)).mean())


def _middle(joints: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    return (joints[f"left_{name}"] + joints[f"right_{name}"]) / 2


def _pixel(place: np.ndarray) -> tuple[int, int]:
    return round(float(place[0])), round(float(place[1]))


def _distance(part: str, places: Mapping[str, np.ndarray], torso: float, size: tuple[int, int]) -> np.ndarray:
    """(H, W) distance of each pixel from a part's bone, in units of its thickness."""
    drawn = np.full(size, 255, np.uint8)
    _, a, b = PARTS[_NUMBER[part]]
    kind = _kind(part)
    if part == "torso":
        corners = [places[n] for n in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
        cv2.fillConvexPoly(drawn, cv2.convexHull(np.round(corners).astype(np.int32)), 0)
        reach = 0.4 * _THICK["torso"] * torso
    elif part == "head":
        # From above the shoulders on.
        start = places[a] + 0.3 * (places[b] - places[a])
        cv2.line(drawn, _pixel(start), _pixel(places[b] + _BEYOND["head"] * (places[b] - places[a])), 0, 1)
        reach = _THICK["head"] * torso
    else:
        end = places[b] + _BEYOND.get(kind, 0.0) * (places[b] - places[a])
        cv2.line(drawn, _pixel(places[a]), _pixel(end), 0, 1)
        reach = _THICK[kind] * torso
    return cv2.distanceTransform(drawn, cv2.DIST_L2, 5) / max(reach, 1.0)


def _grabbed(image: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """(H, W) float32, 1 where a person without a mask probably is: GrabCut from thin limbs outwards."""
    nearest = distances.min(0)
    states = np.full(nearest.shape, cv2.GC_BGD, np.uint8)
    states[nearest < 1.7] = cv2.GC_PR_BGD
    states[nearest < 1.0] = cv2.GC_PR_FGD
    states[nearest < 0.35] = cv2.GC_FGD
    if (states == cv2.GC_BGD).sum() < 20 or not (nearest < 1.0).any():  # GrabCut wants some of both
        return (nearest < 1.0).astype(np.float32)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(0)
    cv2.grabCut(image, states, (0, 0, 1, 1), background, foreground, 3, cv2.GC_INIT_WITH_MASK)
    found = np.isin(states, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    # GrabCut loses limbs that look like the ground behind them.
    found[nearest < 0.6] = 1
    return cv2.morphologyEx(found, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)).astype(np.float32)


# --- a new pose ------------------------------------------------------------------------------------------------------


def head_of(puppet: Puppet, places: Mapping[str, np.ndarray], towards: np.ndarray, scale: float) -> np.ndarray:
    """(..., 2) where the top of the head is when the head points from the neck towards a place."""
    way = towards - places["neck"]
    length = np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-6)
    return places["neck"] + way / length * puppet.crown * scale


def bone_matrix(old: np.ndarray, new: np.ndarray, across: float) -> np.ndarray:
    """(2, 3) that takes a bone's ends (2, 2) to new ones, stretched by ``across`` at right angles to it (mirrored where
    negative)."""
    way, to = old[1] - old[0], new[1] - new[0]
    length, goal = max(float(np.hypot(*way)), 1e-6), max(float(np.hypot(*to)), 1e-6)
    u, v = way / length, to / goal
    linear = (goal / length) * np.outer(v, u) + across * np.outer([-v[1], v[0]], [-u[1], u[0]])
    return np.hstack([linear, (new[0] - linear @ old[0])[:, None]])


@dataclass
class Stage:
    """A picture in the making: ``image`` (H, W, 3) uint8, and ``owner`` (H, W) int16, who is seen at each pixel: -1 for
    nobody, else 16 times the number of the person plus that of the part; `COVER` for things in the way."""

    image: np.ndarray
    owner: np.ndarray

    @classmethod
    def on(cls, background: np.ndarray) -> Stage:
        """With nobody on it yet."""
        return cls(background, np.full(background.shape[:2], -1, np.int16))

    def lay(self, image: np.ndarray, alpha: np.ndarray, matrix: np.ndarray, owner: int) -> None:
        """Blends a picture (h, w, 3) in by its alpha (h, w), moved by a matrix (2, 3)."""
        h, w = alpha.shape
        corners = np.array([[-1, -1], [w, -1], [w, h], [-1, h]]) @ matrix[:, :2].T + matrix[:, 2]
        height, width = self.owner.shape
        x0, y0 = np.clip(np.floor(corners.min(0)), 0, (width, height)).astype(int)
        x1, y1 = np.clip(np.ceil(corners.max(0)) + 1, 0, (width, height)).astype(int)
        if x1 <= x0 or y1 <= y0:
            return
        local = matrix - np.array([[0, 0, x0], [0, 0, y0]])
        size = (int(x1 - x0), int(y1 - y0))
        moved = cv2.warpAffine(image, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpAffine(alpha, local, size, flags=cv2.INTER_LINEAR)
        part = self.image[y0:y1, x0:x1]
        part[:] = (part + share[..., None] * (moved.astype(np.float32) - part) + 0.5).astype(np.uint8)
        self.owner[y0:y1, x0:x1][share > 0.5] = owner


COVER = 30000


def draw(stage: Stage, puppet: Puppet, places: Mapping[str, np.ndarray], scale: float, number: int, light: np.ndarray,
         near: str = "right") -> None:  # fmt: skip
    """Draws a puppet.

    Args:
        stage: what it is drawn on. places: of all ends of `PARTS`, (2,) pixels. scale: of its thickness.
        number: of the person. light: (3,) factor on its colours. near: the side whose limbs are drawn last.
    """
    far = "left" if near == "right" else "right"
    order = [f"{far}_upper_arm", f"{far}_forearm", f"{far}_thigh", f"{far}_shank", f"{near}_thigh", f"{near}_shank",
             "torso", "head", f"{near}_upper_arm", f"{near}_forearm"]  # fmt: skip
    if abs(float(_signed_width(places))) > 0.45 * float(np.linalg.norm(places["pelvis"] - places["neck"])):
        # Seen from the front or the back both arms are before the body.
        order = [*order[2:7], "head", *order[:2], *order[8:]]
    table = np.clip(np.arange(256)[:, None] * light, 0, 255).astype(np.uint8)[None]
    for name in order:
        part = puppet.parts[name]
        _, a, b = PARTS[_NUMBER[name]]
        new = np.stack([places[a], places[b]])
        shortest = _SHORTEST * scale * float(np.linalg.norm(part.bone[1] - part.bone[0]))
        way = new[1] - new[0]
        length = float(np.hypot(*way))
        if length < shortest:
            way = way / length if length > 1e-6 else np.array([0.0, 1.0])
            new = np.stack([new[0], new[0] + way * shortest])
        across = scale
        if name == "torso":
            wide = float(_signed_width(places)) / max(abs(puppet.shoulders), 1e-6) * np.sign(puppet.shoulders or 1.0)
            across = np.copysign(max(abs(wide), _NARROWEST * scale), wide)
        matrix = bone_matrix(part.bone, new, across)
        stage.lay(cv2.LUT(part.image, table), part.alpha, matrix, 16 * number + _NUMBER[name])


def face_places(puppet: Puppet, places: Mapping[str, np.ndarray], scale: float) -> dict[str, np.ndarray]:
    """Places (2,) of the labelled joints of the head in the new pose."""
    matrix = bone_matrix(np.stack([puppet.neck, puppet.top]), np.stack([places["neck"], places["crown"]]), scale)
    return {name: matrix[:, :2] @ place + matrix[:, 2] for name, place in puppet.head.items()}


def parts_at(joint: str) -> frozenset[int]:
    """Numbers of the parts that do not hide a joint of their own person: those that meet there, and the torso's for
    joints on it."""
    touching = {n for n, (_, a, b) in enumerate(PARTS) if joint in (a, b)}
    if joint in HEAD_JOINTS or joint == "neck":
        touching |= {_NUMBER["head"], _NUMBER["torso"]}
    if joint.endswith(("shoulder", "hip")):
        touching.add(_NUMBER["torso"])
    return frozenset(touching)
