"""Leeds Sports Pose (LSP) and its extended training set (LSPET): ``joints.mat`` beside ``images/``.

Sources: S. Johnson and M. Everingham, "Clustered Pose and Nonlinear Appearance Models for Human Pose Estimation",
BMVC 2010 (LSP, 2,000 pictures ``im0001.jpg``) and "Learning Effective Human Pose Estimation from Inaccurate
Annotation", CVPR 2011 (LSPET, 10,000 pictures ``im00001.jpg``). ``joints`` is (3, 14, N) in LSP and (14, 3, N) in
LSPET; either order is read. Coordinates are MATLAB's, the first pixel is 1.

The third row says opposite things in the two sets. LSP: 1 = hidden (the joint is labelled all the same), 0 = visible.
LSPET: 1 = labelled, 0 = not labelled (its coordinates mean nothing); hidden is not told apart.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from posecli.errors import PoseError
from posecli.formats import coco
from posecli.formats.arrays import load_arrays
from posecli.formats.picture_size import picture_size
from posecli.skeletons import LSP14
from posecli.types import Dataset, Instance, Record

Warn = Callable[[str], None]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


def read_lsp(src: str | Path, *, image_root: str | Path | None = None, warn: Warn = _warn) -> Dataset:
    """Reads LSP: a folder with ``joints.mat`` and ``images/``, or the ``.mat`` itself.

    v is 2 for a visible joint and 1 for a hidden one. The box and the area are left open (`coco.write` fills them from
    the joints). Each picture is one person.

    Raises:
        PoseError: no such matrix, flags other than 0 and 1, a picture that cannot be read, or labels that plainly do
            not belong to these pictures.
    """
    return _read(Path(src), "lsp", image_root, warn)


def read_lspet(src: str | Path, *, image_root: str | Path | None = None, warn: Warn = _warn) -> Dataset:
    """Reads LSPET: a folder with ``joints.mat`` (or ``joints_original.mat``) and ``images/``, the ``.mat`` itself, or
    a COCO-style JSON of the set (also a folder with ``annotations.json``, which then goes before the matrix).

    v is 2 for a labelled joint and 0 for one that is not. Errors as `read_lsp`.
    """
    src = Path(src)
    listed = src / "annotations.json" if src.is_dir() else src
    if listed.suffix == ".json" and listed.exists():
        dataset = coco.read(listed, image_root=image_root, warn=warn)
        if dataset.skeleton.keypoints != LSP14.keypoints:
            raise PoseError("its joints are not LSP's 14", str(listed), "--format coco reads any joints")
        return _with_look_alikes(dataset, listed.with_name("near_duplicates.json"))
    return _read(src, "lspet", image_root, warn)


def _with_look_alikes(dataset: Dataset, path: Path) -> Dataset:
    """Pictures that a ``near_duplicates.json`` (``{"pairs": [[id, id, distance], ...]}``) pairs share a ``recording``,
    so that a split keeps them together."""
    if not path.exists():
        return dataset
    value = coco.load_json(path)
    try:
        pairs = [(int(a), int(b)) for a, b, *_ in value["pairs"]]
    except (TypeError, KeyError, ValueError):
        raise PoseError("no list 'pairs' of picture ids", str(path)) from None
    first: dict[int, int] = {}
    for a, b in pairs:
        low, high = sorted((first.get(a, a), first.get(b, b)))
        first |= {n: low for n, f in first.items() if f == high} | {a: low, b: low, high: low}
    records = tuple(
        replace(r, extra={**r.extra, "recording": f"im{first[int(r.image_id)]:05d}"}) if r.image_id in first else r
        for r in dataset.records
    )
    return replace(dataset, records=records)


def find_matrix(src: Path) -> Path | None:
    """The joint matrix at ``src`` (a folder or a .mat); None when there is none."""
    if src.is_file():
        return src if src.suffix == ".mat" else None
    return next((src / n for n in ("joints.mat", "joints_original.mat") if (src / n).exists()), None)


def kind_of(src: Path) -> str:
    """``"lsp"`` or ``"lspet"``, by the pictures' names (4 or 5 digits), else by the order of the matrix's axes;
    PoseError when neither says."""
    matrix = find_matrix(src)
    if matrix is None:
        raise PoseError("no joints.mat", str(src))
    folder = matrix.parent / "images"
    if (folder / "im00001.jpg").exists():
        return "lspet"
    if (folder / "im0001.jpg").exists():
        return "lsp"
    shape = _joints(matrix).shape
    return "lsp" if shape[:2] == (3, 14) else "lspet"


def _joints(path: Path) -> np.ndarray:
    arrays = load_arrays(path)
    joints = arrays.get("joints")
    if joints is None or joints.ndim != 3 or joints.shape[:2] not in ((3, 14), (14, 3)):
        seen = ", ".join(f"{n} {a.shape}" for n, a in arrays.items()) or "nothing"
        raise PoseError("no 'joints' of shape (3, 14, N) or (14, 3, N)", str(path), f"it has {seen}")
    return joints.astype(np.float64)


def _read(src: Path, kind: str, image_root: str | Path | None, warn: Warn) -> Dataset:
    path = find_matrix(src)
    if path is None:
        raise PoseError("no joints.mat", str(src))
    joints = _joints(path)
    if joints.shape[0] == 3:
        joints = joints.transpose(1, 0, 2)
    points = joints.transpose(2, 0, 1)  # (N, 14, 3)
    flags = points[..., 2]
    odd = np.argwhere(~np.isin(flags, (0, 1)))
    if len(odd):
        n, joint = odd[0]
        raise PoseError(f"flag {flags[n, joint]:g} of {LSP14.keypoints[joint]!r}", f"{path}, picture {n + 1}", "0 or 1")
    visibility = np.where(flags == 1, 1, 2) if kind == "lsp" else np.where(flags == 1, 2, 0)
    xy = points[..., :2] - 1.0  # MATLAB's first pixel is 1
    odd = np.argwhere((visibility > 0) & ~np.isfinite(xy).all(axis=2))
    if len(odd):
        n, joint = odd[0]
        raise PoseError(f"coordinate of {LSP14.keypoints[joint]!r} is not finite", f"{path}, picture {n + 1}")
    xy[visibility == 0] = np.nan
    root = Path(image_root) if image_root is not None else path.parent / "images"
    digits = 4 if kind == "lsp" else 5
    records, absent, outside = [], [], 0
    for n in range(len(points)):
        name = f"im{n + 1:0{digits}d}.jpg"
        if not (root / name).exists():
            absent.append(name)
            continue
        width, height = picture_size(root / name)
        labelled = xy[n][visibility[n] > 0]
        # Half a picture beyond the edge is no slip of the mouse.
        outside += bool(((labelled < -0.5 * max(width, height)) | (labelled > 1.5 * max(width, height))).any())
        person = Instance(xy=xy[n], visibility=visibility[n], score=np.ones(14, dtype=np.float32))
        records.append(Record(n + 1, name, width, height, (person,)))
    if not records:
        raise PoseError(f"none of {len(points)} pictures ({absent[0]} ...) is there", str(root), "give --image-root")
    if outside > 0.02 * len(records):
        what = f"{outside} of {len(records)} people lie far outside their pictures"
        raise PoseError(what, str(path), "labels and pictures do not belong together: cut or scaled pictures?")
    if absent:
        warn(f"{path}: {len(absent)} of {len(points)} pictures are not in {root} (first: {absent[0]})")
    return Dataset(LSP14, tuple(records), (), str(root))
