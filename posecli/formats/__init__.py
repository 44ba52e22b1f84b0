"""Data sets and label files of many forms, read into one `Dataset`; one module a form.

`FORMATS` names them; `detect` says which one a file or folder is and why; `read_dataset` reads it.
"""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecli.errors import PoseError, UsageError
from posecli.files import json_fault, refuse_device
from posecli.types import Dataset, Skeleton

Warn = Callable[[str], None]


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=3)


class SeveralForms(PoseError):
    """A file or folder that fits several formats; which one it is has to be said."""


@dataclass(frozen=True)
class ReadOptions:
    """What a reader may be told; each takes what concerns it.

    Attributes:
        skeleton: a known name or the path of a `skeleton.toml`, for labels that do not name their joints.
        image_root: folder of the pictures, where it is not the usual place.
        every: of videos, keep every n-th frame (COCO and pictures are read whole; `posecli.dataset.thin` thins them).
        label_fps: rate in which label frame numbers count, where it is not the video's.
        score_threshold: confidence above which a joint counts as visible; None: the reader's own.
        workers: videos looked through at a time; None: one a core.
    """

    skeleton: str | Path | Skeleton | None = None
    image_root: str | Path | None = None
    every: int = 1
    label_fps: float | None = None
    score_threshold: float | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Format:
    """One form of data set: what it is, how it is recognised (a reason, or None), how it is read, which of
    `ReadOptions` mean something to it, and whether it is a general form that gives way to any more particular one."""

    about: str
    recognise: Callable[[Path], str | None]
    read: Callable[[Path, ReadOptions, Warn], Dataset]
    takes: tuple[str, ...] = ()
    general: bool = False


# The readers are imported when asked for: reading COCO must not load video decoders.


def _read_coco(src: Path, options: ReadOptions, warn: Warn) -> Dataset:
    from posecli.formats import coco
    from posecli.skeletons import get_skeleton

    skeleton = options.skeleton
    if skeleton is not None and not isinstance(skeleton, Skeleton):
        skeleton = get_skeleton(str(skeleton))
    return coco.read(coco_file(src), image_root=options.image_root, skeleton=skeleton, warn=warn)


def _recognise_coco(src: Path) -> str | None:
    files = _coco_candidates(src)
    if src.is_file():
        return "it has images, annotations and categories" if files else None
    return f"{files[0].relative_to(src)} has images, annotations and categories" if files else None


def _coco_candidates(src: Path) -> list[Path]:
    """COCO data-set files at ``src``: itself, or in the folder and its ``annotations/``."""
    paths = [src] if src.is_file() else [*sorted(src.glob("*.json")), *sorted(src.glob("annotations/*.json"))]
    return [p for p in paths if p.suffix == ".json" and _has_coco_keys(p)]


def _has_coco_keys(path: Path) -> bool:
    """Looks for the three keys as text: parsing a COCO file to learn its kind would take as long as reading it."""
    import mmap

    if path.stat().st_size == 0:
        return False
    with open(path, "rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as text:
        return all(text.find(key) >= 0 for key in (b'"images"', b'"annotations"', b'"categories"'))


def coco_file(src: Path) -> Path:
    """The COCO file at ``src``, itself or the only one in the folder; PoseError when there are several or none."""
    if src.is_file():
        return src
    files = _coco_candidates(src)
    if len(files) != 1:
        names = ", ".join(str(f.relative_to(src)) for f in files) or "none"
        raise PoseError(f"{len(files)} COCO files in the folder: {names}", str(src), "name the file")
    return files[0]


def _read_lsp(src: Path, options: ReadOptions, warn: Warn) -> Dataset:
    from posecli.formats import lsp

    return lsp.read_lsp(src, image_root=options.image_root, warn=warn)


def _read_lspet(src: Path, options: ReadOptions, warn: Warn) -> Dataset:
    from posecli.formats import lsp

    return lsp.read_lspet(src, image_root=options.image_root, warn=warn)


def _recognise_lsp(src: Path) -> str | None:
    return _lsp_reason(src, "lsp", "4")


def _recognise_lspet(src: Path) -> str | None:
    return _lsp_reason(src, "lspet", "5")


def _lsp_reason(src: Path, kind: str, digits: str) -> str | None:
    from posecli.formats import lsp

    matrix = lsp.find_matrix(src)
    # A .mat file may be anything, and a clip's labels may be called joints.mat: pictures im0001.jpg are LSP's.
    if matrix is None or not any((matrix.parent / "images").glob("im*.jpg")) or lsp.kind_of(src) != kind:
        return None
    names = f"images/im{'0' * (int(digits) - 1)}1.jpg"
    if kind == "lspet" and src.is_dir() and (src / "annotations.json").exists():
        return f"{matrix.name} beside {names}; the labels are read from annotations.json"
    return f"{matrix.name} beside pictures named like {names}"


def _read_mars_lab(src: Path, options: ReadOptions, warn: Warn) -> Dataset:
    from posecli.formats import labels, mars_lab

    threshold = labels.SCORE_THRESHOLD if options.score_threshold is None else options.score_threshold
    return mars_lab.read(
        src,
        every=options.every,
        label_fps=options.label_fps,
        score_threshold=threshold,
        workers=options.workers,
        warn=warn,
    )


def _recognise_mars_lab(src: Path) -> str | None:
    from posecli.formats import mars_lab

    if not src.is_dir():
        return None
    sets = mars_lab.find_sets(src)
    return f"{len(sets)} sets with <view>/joints2d.txt" if sets else None


def _read_mars(src: Path, options: ReadOptions, warn: Warn) -> Dataset:
    from posecli.formats import labels, mars

    threshold = labels.SCORE_THRESHOLD if options.score_threshold is None else options.score_threshold
    return mars.read(
        src, skeleton=options.skeleton, every=options.every, label_fps=options.label_fps, score_threshold=threshold,
        workers=options.workers, warn=warn,
    )  # fmt: skip


def _recognise_mars(src: Path) -> str | None:
    from posecli.formats import clips
    from posecli.video import VIDEO_SUFFIXES

    if src.is_file():
        return "a video" if src.suffix.lower() in VIDEO_SUFFIXES else None
    found = clips.find_clips(src)
    if not found:
        return None
    labelled = [c for c in found if clips.find_labels(c, src) is not None]
    stated = " and skeleton.toml" if (src / "skeleton.toml").exists() else ""
    if not labelled and not stated and not any(not c.pictures for c in found):
        return None  # a mere folder of pictures
    return f"{len(found)} videos or folders of frames, {len(labelled)} with labels{stated}"


def _module(name: str, about: str, takes: tuple[str, ...] = ("image_root",)) -> Format:
    """A format whose module has both `recognise(path)` and `read(path, options, warn)`; imported when asked."""

    def module() -> Any:
        return importlib.import_module(f"posecli.formats.{name}")

    return Format(about, lambda src: module().recognise(src), lambda *given: module().read(*given), takes)


def _writer(name: str) -> Callable[..., None]:
    def write(dataset: Dataset, path: str | Path, *, overwrite: bool = False, warn: Warn = _warn) -> None:
        module = importlib.import_module(f"posecli.formats.{name}")
        module.write(dataset, path, overwrite=overwrite, warn=warn)

    return write


_POSES = ("image_root", "skeleton", "score_threshold")  # what is asked of poses that name neither pictures nor joints
# Forms of labelling tools: name -> write(dataset, path, *, overwrite=False, warn=...); their readers are in FORMATS.
WRITERS: dict[str, Callable[..., None]] = {
    name: _writer(name) for name in ("cvat", "labelme", "labelstudio", "yolo", "deeplabcut")
}

# A folder of videos with skeleton.toml may hold JSON files of any kind: it is `mars` because it says so.
FORMATS: dict[str, Format] = {
    "mars_lab": Format(
        "the MARS lab recordings: <set>/dataN.mp4, <set>/<view>/joints2d.txt",
        _recognise_mars_lab,
        _read_mars_lab,
        ("label_fps", "score_threshold", "workers"),
    ),
    "lspet": Format("Leeds Sports Pose Extended Training", _recognise_lspet, _read_lspet, ("image_root",)),
    "lsp": Format("Leeds Sports Pose", _recognise_lsp, _read_lsp, ("image_root",)),
    "mpii": _module("mpii", "MPII Human Pose: the release's .mat, or HRNet's JSON"),
    "flic": _module("flic", "FLIC: examples.mat"),
    "aic": _module("aic", "AI Challenger: the release's JSON, or COCO style"),
    "crowdpose": _module("crowdpose", "CrowdPose JSON"),
    "posetrack": _module("posetrack", "PoseTrack18: a JSON a video, or one for all"),
    "penn": _module("penn", "Penn Action: labels/NNNN.mat, or all in one .npz"),
    "jhmdb": _module("jhmdb", "JHMDB: joint_positions.mat a video, or COCO style"),
    "parquet": _module("parquet", "Parquet table that posecli wrote"),
    "csv": _module("table_set", "CSV table with a column source", ("image_root", "skeleton", "score_threshold")),
    "labelme": _module("labelme", "labelme JSON, one file a picture", ("image_root", "skeleton")),
    "labelstudio": _module("labelstudio", "Label Studio JSON export", ("image_root", "skeleton")),
    "cvat": _module("cvat", "CVAT for images or for video 1.1, XML", ("image_root", "skeleton")),
    "yolo": _module("yolo", "YOLO pose: data.yaml and labels/*.txt", ("image_root", "skeleton")),
    "yolo_predictions": _module("yolo_predictions", "what YOLO pose found: a folder of text files", _POSES),
    "deeplabcut": _module("deeplabcut", "DeepLabCut CSV or H5", _POSES),
    "pose_stream": _module("pose_stream", "posecli's pose stream, as labels", ("image_root", "score_threshold")),
    "coco_results": _module("coco_results", "COCO results, a JSON list of detections", _POSES),
    "alphapose": _module("alphapose", "AlphaPose results", _POSES),
    "mmpose": _module("mmpose", "results of mmpose's inferencer or demos", _POSES),
    "openpose": _module("openpose", "OpenPose folder, a JSON file a frame", _POSES),
    "mediapipe": _module("mediapipe", "MediaPipe Pose landmarks as JSON", ("image_root", "score_threshold")),
    "coco": Format("COCO keypoint JSON", _recognise_coco, _read_coco, ("image_root", "skeleton"), general=True),
    "mars": Format(
        "a folder of videos (or frame images) with label files beside them",
        _recognise_mars,
        _read_mars,
        ("skeleton", "label_fps", "score_threshold", "workers"),
        general=True,
    ),
}


# Data sets whose JSON is COCO's with rules of their own; COCO's reader would take them without a word.
COCO_STYLE = ("aic", "crowdpose", "posetrack", "jhmdb")


def detect(src: str | Path, among: Sequence[str] | None = None) -> tuple[str, str]:
    """Which of `FORMATS` a file or folder is, and why: ``("mars", "3 videos ..., 3 with labels")``.

    A particular form (LSP, say) goes before the general ones (COCO, videos with labels); a folder with
    ``skeleton.toml`` and videos is ``mars`` whatever else lies in it. ``among`` asks these formats only.

    Raises:
        SeveralForms: several forms fit; all are named with their reasons.
        PoseError: nothing there; or no form fits, and the hint lists what is known.
    """
    found = recognised(src, among)
    if found is None:
        raise PoseError("no data set that is known here", str(src), _what_it_may_be(Path(src)))
    return found


def recognised(src: str | Path, among: Sequence[str] | None = None) -> tuple[str, str] | None:
    """As `detect`, but None where no form fits, without looking for the reason (which may take as long as reading)."""
    src = Path(src)
    if not src.exists():
        raise PoseError("no such file or folder", str(src))
    if (
        among is None
        and src.is_dir()
        and (src / "skeleton.toml").exists()
        and (reason := FORMATS["mars"].recognise(src)) is not None
    ):
        return "mars", reason
    refuse_device(src)
    asked = FORMATS if among is None else among
    found = {name: reason for name in asked if (reason := FORMATS[name].recognise(src)) is not None}
    particular = {name: reason for name, reason in found.items() if not FORMATS[name].general}
    if not particular and len(found) > 1 and not _has_labelled_clips(src):
        found.pop("mars", None)  # videos that a COCO file speaks of
    chosen = particular or found
    if len(chosen) > 1:
        said = "; ".join(f"{name} ({reason})" for name, reason in chosen.items())
        hint = f"say which with --format {' or --format '.join(chosen)}"
        raise SeveralForms(f"it could be {said}", str(src), hint)
    return next(iter(chosen.items()), None)


def _has_labelled_clips(src: Path) -> bool:
    from posecli.formats import clips

    return src.is_dir() and any(clips.find_labels(c, src) is not None for c in clips.find_clips(src))


def _what_it_may_be(src: Path) -> str:
    if src.suffix == ".json":
        with open(src, "rb") as handle:
            head = handle.read(200).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"["):
            return "a JSON list without joints: detections are predictions, not labels (infer --boxes takes them)"
        try:
            with open(src, encoding="utf-8-sig") as handle:
                json.load(handle)
        except (ValueError, RecursionError) as error:
            return json_fault(error)
    return f"known: {', '.join(f'{n} ({f.about})' for n, f in FORMATS.items())}"


def read_coco_style(path: str | Path, *, image_root: str | Path | None = None, warn: Warn = _warn) -> Dataset:
    """A COCO keypoint JSON, for verbs that read nothing else; another data set's in COCO's clothes (PoseTrack18,
    CrowdPose, AI Challenger, JHMDB) by that set's own rules, which is said.

    Args:
        path: the file, or a folder with one such file.
        image_root: as of `ReadOptions`. warn: takes one sentence for each thing worth knowing.

    Raises:
        PoseError: what the reader finds wrong; any other form, with the command that converts it.
    """
    src = Path(path)
    if not src.exists():
        raise PoseError("no such file or folder", str(src))
    in_coco_style = bool(_coco_candidates(src))
    try:
        # Where nothing fits, COCO's reader says what is wrong.
        form, reason = recognised(src, COCO_STYLE if in_coco_style else None) or ("coco", "")
    except SeveralForms as error:
        hint = f"posecli convert {src} --format NAME --out coco.json makes one that is plain"
        raise PoseError(error.what, str(src), hint) from None
    if form in COCO_STYLE and in_coco_style:
        warn(f"{src}: read as {form} ({reason}), by that format's own rules")
        return FORMATS[form].read(src, ReadOptions(image_root=image_root), warn)
    if form != "coco":
        hint = f"posecli convert {src} --out coco.json makes one"
        raise PoseError(f"{form} ({reason}), not a COCO keypoint JSON", str(src), hint)
    return _read_coco(src, ReadOptions(image_root=image_root), warn)


def read_dataset(
    src: str | Path,
    format: str = "auto",
    *,
    skeleton: str | Path | Skeleton | None = None,
    image_root: str | Path | None = None,
    every: int = 1,
    label_fps: float | None = None,
    score_threshold: float | None = None,
    workers: int | None = None,
    warn: Warn = _warn,
) -> Dataset:
    """Reads a data set of any form.

    Args:
        src: file or folder.
        format: a key of `FORMATS`, or ``"auto"``.
        skeleton, image_root, every, label_fps, score_threshold, workers: see `ReadOptions`.
        warn: takes one sentence for each thing worth knowing.

    Raises:
        UsageError: unknown format.
        PoseError: nothing recognised, an option that means nothing for the format, or what the format's reader finds
            wrong, file and row named.
    """
    if format == "auto":
        format, _ = detect(src)
    if format not in FORMATS:
        raise UsageError(f"unknown format {format!r}", hint=f"one of {', '.join(FORMATS)}")
    if not Path(src).exists():
        raise PoseError("no such file or folder", str(src))
    options = ReadOptions(skeleton, image_root, every, label_fps, score_threshold, workers)
    for name in ("skeleton", "image_root", "label_fps", "score_threshold", "workers"):
        if getattr(options, name) is not None and name not in FORMATS[format].takes:
            raise UsageError(f"--{name.replace('_', '-')} means nothing for the format {format}", str(src))
    return FORMATS[format].read(Path(src), options, warn)
