"""Where the shipped model is good and where not: the parts ``groups`` and ``spoilt`` of `default_model.py`.

Groups, from the streams that are there: shares of joints within 0.2 of the torso (PCK@0.2, people not found wrong).
LSPET by the person's size, by how far the trunk is turned from upright, by joint; coco_mini by size and by whether the
labels call the joint hidden (v = 1) or visible. Spoilt: some validation pictures of LSPET made worse, looked at again
(plain `posecli infer FOLDER`), compared with themselves unspoilt. Intervals: 95 %, bootstrap over pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from calibration import lines_by_name, shared_joints, similarity, torso
from default_model import held_out, infer

from posecli.formats import coco
from posecli.types import Instance, Record, Skeleton
from posecli.video import read_picture

_NEAR, _PAIRED = 0.2, 0.1


@dataclass(frozen=True)
class Joint:
    """One labelled limb joint: the picture, whether it was found, and what can be said of it."""

    picture: str
    right: bool
    about: dict[str, str]


def trunk_turn(person: Instance, skeleton: Skeleton) -> float:
    """Degrees, 0 to 180, between the trunk (hips to shoulders) and upright; NaN where it is not labelled."""
    ends = [[skeleton.index(f"{side}_{part}") for side in ("left", "right")] for part in ("hip", "shoulder")]
    if not all((person.visibility[pair] > 0).all() for pair in ends):
        return float("nan")
    up = person.xy[ends[1]].mean(0) - person.xy[ends[0]].mean(0)
    return float(np.degrees(np.arccos(np.clip(-up[1] / max(np.linalg.norm(up), 1e-6), -1, 1))))


def _range(value: float, edges: list[float], unit: str) -> str:
    low = max((e for e in edges if e <= value), default=0)
    high = min((e for e in edges if e > value), default=None)
    return f"{low:g} to {high:g} {unit}" if high is not None else f"{low:g} {unit} and more"


def joints_of(label: Instance, found: Instance | None, header: Any, of: Skeleton, record: Record) -> list[Joint]:
    """The labelled limb joints of a person with a labelled torso."""
    length = torso(label, of)
    if not np.isfinite(length):
        return []
    known = label.xy[label.visibility > 0]
    side = float((known.max(0) - known.min(0)).max())
    turn = trunk_turn(label, of)
    rows = []
    for a, b in shared_joints(of, header.skeleton):
        if label.visibility[a] > 0:
            right = found is not None and float(np.linalg.norm(found.xy[b] - label.xy[a])) <= _NEAR * length
            rows.append(
                Joint(
                    Path(record.file_name).name,
                    right,
                    {
                        "joint": of.keypoints[a].split("_")[1],
                        "size": _range(side, [0, 60, 100, 140, 180], "pixels"),
                        "trunk": "not labelled" if np.isnan(turn) else _range(turn, [0, 30, 60, 120], "degrees"),
                        "seen": "hidden" if label.visibility[a] == 1 else "visible",
                    },
                )
            )
    return rows


def lspet_joints(data: Path, stream: Path, only: set[str] | None = None) -> list[Joint]:
    """LSPET's validation people against each picture's best person."""
    labels = coco.read(data / "lspet/annotations.json")
    lines = lines_by_name(stream)
    rows = []
    for record in labels.records:
        name = Path(record.file_name).name
        if held_out(name) and name in lines and (only is None or name in only):
            header, line = lines[name]
            best = max(line.instances, key=lambda p: p.person_score, default=None)
            rows += joints_of(record.instances[0], best, header, labels.skeleton, record)
    return rows


def coco_joints(data: Path, stream: Path) -> list[Joint]:
    """Everybody labelled in coco_mini val, paired with the people found by OKS."""
    labels = coco.read(data / "coco_mini/annotations/person_keypoints_val2017.json")
    lines = lines_by_name(stream)
    rows = []
    for record in labels.records:
        header, line = lines[Path(record.file_name).name]
        people = [p for p in record.instances if not p.ignore]
        alike = [(similarity(a, b, header, labels.skeleton), i, j) for i, a in enumerate(people)
                 for j, b in enumerate(line.instances)]  # fmt: skip
        partner: dict[int, int] = {}
        for oks, i, j in sorted(alike, reverse=True):
            if oks > _PAIRED and i not in partner and j not in partner.values():
                partner[i] = j
        for i, person in enumerate(people):
            found = line.instances[partner[i]] if i in partner else None
            rows += joints_of(person, found, header, labels.skeleton, record)
    return rows


def share(rows: list[Joint], draws: int) -> dict[str, Any]:
    """Share that is right, with interval, joints and pictures."""
    names, at = np.unique([r.picture for r in rows], return_inverse=True)
    right = np.bincount(at, [r.right for r in rows], len(names))
    total = np.bincount(at, minlength=len(names))
    drawn = np.random.default_rng(0).integers(len(names), size=(draws, len(names)))
    values = right[drawn].sum(1) / total[drawn].sum(1)
    interval = [float(v) for v in np.quantile(values, [0.025, 0.975])]
    value = float(right.sum() / total.sum())
    return {"PCK": value, "interval": interval, "joints": int(total.sum()), "pictures": len(names)}


def by(rows: list[Joint], key: str, draws: int) -> dict[str, Any]:
    """`share` of each group."""
    groups: dict[str, list[Joint]] = {}
    for row in rows:
        groups.setdefault(row.about[key], []).append(row)

    def order(name: str) -> tuple[float, str]:
        first = name.split()[0]
        return (float(first) if first.replace(".", "").isdigit() else 1e9, name)

    return {name: share(groups[name], draws) for name in sorted(groups, key=order)}


def groups_of(data: Path, out: Path, draws: int) -> dict[str, Any]:
    """All groups of the streams in a folder."""
    sport, everyday = lspet_joints(data, out / "lspet.jsonl"), coco_joints(data, out / "coco.jsonl")
    report = {f"LSPET by {key}": by(sport, key, draws) for key in ("joint", "size", "trunk")}
    return report | {f"coco_mini by {key}": by(everyday, key, draws) for key in ("joint", "size", "seen")}


def _motion(image: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, np.full((1, 9), 1 / 9))


def _noisy(image: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(image.shape[0]).normal(0, 25, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def _packed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], cv2.IMREAD_COLOR)


def _halved(image: np.ndarray) -> np.ndarray:
    size = (image.shape[1], image.shape[0])
    small = cv2.resize(image, (max(1, size[0] // 2), max(1, size[1] // 2)), interpolation=cv2.INTER_AREA)
    return cv2.resize(small, size, interpolation=cv2.INTER_LINEAR)


def _gained(gain: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda image: np.clip(image * gain, 0, 255).astype(np.uint8)


#: What is done to pictures; people in them are about 150 pixels tall.
SPOILT: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unspoilt": lambda image: image,
    "out of focus (Gaussian, 2 pixels)": lambda image: cv2.GaussianBlur(image, (0, 0), 2),
    "motion blur (9 pixels)": _motion,
    "a quarter of the light": _gained(0.25),
    "twice the light, clipped": _gained(2.0),
    "noise (sigma 25 of 255)": _noisy,
    "JPEG of quality 10": _packed,
    "half the pixels a side": _halved,
    "grey": lambda image: cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB),
}  # fmt: skip


def spoilt(data: Path, out: Path, options: list[str], count: int, draws: int) -> dict[str, Any]:
    """PCK@0.2 on every so-many-th validation picture, spoilt in each way, and the paired difference."""
    names = sorted(p.name for p in (data / "lspet/images").iterdir() if held_out(p.name))
    names = names[:: max(1, len(names) // count)][:count]
    report: dict[str, Any] = {}
    plain: list[Joint] = []
    for number, (kind, change) in enumerate(SPOILT.items()):
        folder, stream = out / f"spoilt{number}", out / f"spoilt{number}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            changed = change(read_picture(data / "lspet/images" / name))
            # PNG content under the usual name: nothing is lost by packing.
            (folder / name).write_bytes(cv2.imencode(".png", changed[..., ::-1])[1].tobytes())
        infer(folder, stream, options)
        rows = lspet_joints(data, stream, set(names))
        report[kind] = share(rows, draws)
        plain = plain or rows
        pictures, at = np.unique([r.picture for r in rows], return_inverse=True)
        gap = np.bincount(at, [float(a.right) - float(b.right) for a, b in zip(rows, plain, strict=True)])
        total = np.bincount(at)
        drawn = np.random.default_rng(0).integers(len(pictures), size=(draws, len(pictures)))
        values = gap[drawn].sum(1) / total[drawn].sum(1)
        low, high = (float(v) for v in np.quantile(values, [0.025, 0.975]))
        report[kind] |= {"difference": float(gap.sum() / total.sum()), "difference_interval": [low, high]}
    return report


def tables(report: dict[str, Any]) -> str:
    """Markdown."""
    lines = []
    for title, rows in report.items():
        lines += [f"**{title}**", "", "| | PCK@0.2 | joints | pictures |", "|---|---|---|---|"]
        for name, row in rows.items():
            low, high = row["interval"]
            cell = f"{row['PCK']:.3f} ({low:.3f} to {high:.3f})"
            if row.get("difference"):
                low, high = row["difference_interval"]
                cell += f"; {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})"
            lines.append(f"| {name} | {cell} | {row['joints']} | {row['pictures']} |")
        lines.append("")
    return "\n".join(lines)
