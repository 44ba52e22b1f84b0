"""OpenPose JSON: a folder with one ``<name>_<frame>_keypoints.json`` a frame, as ``--write_json`` leaves it of a video,
or one ``<picture>_keypoints.json`` a picture of its ``image_dir``; posecli writes ``<picture>_<number>`` for these.

Format notes: https://github.com/CMU-Perceptual-Computing-Lab/openpose/blob/master/doc/02_output.md. Each person has
``pose_keypoints_2d``, flat x, y, confidence in pixels counted from 0; 0, 0, 0 is a joint not found; ``person_id`` is
``[-1]`` without tracking. The files do not name the joints: OpenPose's own body models are BODY_25 and COCO (18).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from posecli.errors import PoseError
from posecli.files import is_finite, only_numbers
from posecli.formats.coco import load_json
from posecli.formats.coco_results import chosen_skeleton
from posecli.formats.found_pictures import FoundPictures, StatedPictures, stated_header, video_header, video_of
from posecli.formats.frame_json import frame_of_picture
from posecli.formats.label_poses import labels_of_poses
from posecli.formats.labels import LabelFile, LabelRow, Third, say_scores_outside
from posecli.formats.sniffing import head_of
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import SKELETONS
from posecli.types import Dataset, Instance, Skeleton, Video
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]

# The body models that OpenPose writes under this key; a skeleton.toml beside the folder says otherwise.
BODY_MODELS = {25: "openpose_body25", 18: "openpose_coco18"}
_FRAME = re.compile(r"(\d+)_keypoints\.json$")
_OF_VIDEO = re.compile(r".+_\d{12}$")
_COUNT = re.compile(r"_\d{12}$")
_END = "_keypoints.json"
Picture = tuple[str, int | None, int | None]  # name, width, height
_PERSON_KEYS = {"person_id", "pose_keypoints_2d"}


def is_openpose_folder(folder: Path) -> bool:
    """Whether the folder holds ``*_keypoints.json`` files."""
    return any(folder.glob("*_keypoints.json"))


def read_openpose(folder: Path, pictures: Sequence[Path] = (), places: Mapping[str, int] | None = None) -> LabelFile:
    """Reads a folder of OpenPose JSON as labels with confidences; hands, face and 3D points are kept as extra keys.
    A file's frame is the one of ``pictures`` that it is named after, else the number in its name; ``places`` gives it
    by the file's name without its end.

    Raises:
        PoseError: with the file (and person), for a name without a frame number, a frame twice, a list that is not
            triples of finite numbers, people with different numbers of joints.
    """
    rows: list[LabelRow] = []
    frames: dict[int, Path] = {}
    for path in sorted(folder.glob("*_keypoints.json")):
        match = _FRAME.search(path.name)
        stem = path.name.removesuffix(_END)
        if places is not None:
            place: int | None = places[stem]
        else:
            place = _frame_of_picture(stem, pictures, str(path)) if pictures else None
        if match is None and place is None:
            hint = "expected name_000000000012_keypoints.json; where its pictures are says --image-root FOLDER"
            raise PoseError("no frame number in the file's name", str(path), hint)
        frame = place if place is not None else int(match[1]) if match is not None else 0
        if frame in frames:
            raise PoseError(f"frame {frame} is in {frames[frame].name} already", str(path))
        frames[frame] = path
        value = load_json(path)
        people = value.get("people") if isinstance(value, dict) else None
        if not isinstance(people, list):
            raise PoseError("no list 'people'", str(path))
        for n, person in enumerate(people):
            row = _row(person, f"{path}, people[{n}]", frame)
            if rows and len(row.xy) != len(rows[0].xy):
                raise PoseError(f"{len(row.xy)} joints where the first person has {len(rows[0].xy)}", row.where)
            rows.append(row)
    if not frames:
        raise PoseError("no *_keypoints.json in it", str(folder))
    return LabelFile(folder, "OpenPose JSON folder", tuple(rows), Third.SCORE, None, labelled=tuple(frames))


def _frame_of_picture(stem: str, pictures: Sequence[Path], where: str) -> int | None:
    """`frame_of_picture`, also of a picture whose number stands behind its name."""
    counted = _COUNT.sub("", stem)
    if counted != stem and all(picture.stem != stem for picture in pictures):
        found = [i for i, picture in enumerate(pictures) if picture.stem == counted]
        if len(found) == 1:
            return found[0]
    return frame_of_picture(stem, pictures, where)


def _is_frame(path: Path) -> bool:
    """Whether it is one of OpenPose's files. Other tools end names so too: COCO's person_keypoints.json has no number
    in its name, and begins otherwise."""
    return _FRAME.search(path.name) is not None or b'"people"' in head_of(path, 256)


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a folder of such files and of no pictures."""
    if not src.is_dir() or not is_openpose_folder(src):
        return None
    if any(p.suffix.lower() in (*PICTURE_SUFFIXES, *VIDEO_SUFFIXES) for p in src.iterdir()):
        return None
    if not any(map(_is_frame, src.glob("*_keypoints.json"))):
        return None
    return "a folder of *_keypoints.json"


def read(src: str | Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the folder as labels of its video or pictures, by `labels_of_poses` of `read_poses`; the video is the one
    given as ``options.image_root``, or the one of the folder's or the files' name in it (None: beside the folder)."""
    src = Path(src)
    frames = list(read_poses(src, options.skeleton, options.image_root, warn))
    video = _video_of(src, options.image_root)
    if video is None and not any(poses.file for _, poses in frames):
        hint = "say which video it is with --image-root VIDEO, or where its pictures are with --image-root FOLDER; "
        hint += "as a stream (--out x.jsonl) it needs none"
        raise PoseError("no video beside it, and the files do not say how large the frames are", str(src), hint)
    root = video.parent if video is not None else _root(src, options.image_root)
    return labels_of_poses(frames, root=root, score_threshold=options.score_threshold, warn=warn)


def read_poses(
    src: Path,
    skeleton: str | Path | Skeleton | None,
    image_root: str | Path | None,
    warn: Warn,
    stated: StatedPictures | None = None,
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """The folder's people as poses, a frame a file; of unknown size without a video or pictures (found, or ``stated``).
    Files that are named after pictures in ``image_root`` (None: in the folder), or after ``stated`` ones, are of these.

    A person's score is the mean of its joints' confidences: OpenPose states none.

    Raises:
        PoseError: what `read_openpose` refuses; frames beyond the video's end; joints that are not those of the
            skeleton, or without one no body model of OpenPose; a file beside those of pictures that is of none.
    """
    pictures = _pictures(src, image_root, stated)
    label = _read(src, pictures)
    if not pictures and _video_of(src, image_root) is None and stated is None:
        _say_pictures(src, warn)
    if skeleton is None:
        chosen = _own_skeleton(label, warn)
    else:
        chosen = chosen_skeleton(skeleton, len(label.rows[0].xy) if label.rows else None, str(src))
    yield from _poses(label, chosen, image_root, stated, warn, pictures)


def folders_below(src: Path) -> list[Path]:
    """The folders of OpenPose's files anywhere below a folder, as `write_openpose` leaves them of several videos."""
    return sorted({path.parent for path in src.rglob("*_keypoints.json") if _is_frame(path)})


def read_folders(
    src: Path, skeleton: str | Path | Skeleton | None, warn: Warn, stated: StatedPictures | None
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    """As `read_poses`, of all `folders_below`, to be compared with labels."""
    folders = folders_below(src)
    pictures = [_pictures(folder, None, stated) for folder in folders]
    labels = [_read(folder, own) for folder, own in zip(folders, pictures, strict=True)]
    if skeleton is None:  # a folder of nobody does not say how many joints somebody has
        skeleton = _own_skeleton(next((label for label in labels if label.rows), labels[0]), warn)
    for label, own in zip(labels, pictures, strict=True):
        chosen = chosen_skeleton(skeleton, len(label.rows[0].xy) if label.rows else None, str(label.path))
        yield from _poses(label, chosen, None, stated, warn, own)


def _root(src: Path, image_root: str | Path | None) -> Path:
    return src if image_root is None else Path(image_root)


def _pictures(src: Path, image_root: str | Path | None, stated: StatedPictures | None) -> dict[str, Picture]:
    """The pictures that the files are named after, by the files' names without their end, in the order of these; empty
    where none is: they are frames of a video. A file's name may have the twelve digits of a count behind the picture's.

    PoseError where one file is named after a picture and another after none, or after two.
    """
    if _video_of(src, image_root) is not None:
        return {}
    stems = sorted(path.name.removesuffix(_END) for path in src.glob("*_keypoints.json"))
    known: FoundPictures | StatedPictures = stated or FoundPictures(_root(src, image_root), str(src))
    called = {stem: known.called(stem) for stem in stems}
    if not any(called.values()) and stated is not None and (video := _stated_video(src, None, stated)) is not None:
        frames = stated.pictures_of(video)
        return {stem: frames[stem] for stem in stems} if frames.keys() >= set(stems) else {}
    counted = [_COUNT.sub("", stem) for stem in stems]
    if not any(called.values()) and len(set(counted)) == len(counted):
        called = {stem: known.called(name) for stem, name in zip(stems, counted, strict=True)}
    if not any(called.values()):
        return {}
    found: dict[str, Picture] = {}
    for stem, names in called.items():
        if len(names) == 1 or not isinstance(known, StatedPictures):
            name = Path(names[0]).stem if len(names) == 1 else stem
            found[stem] = known.of_stem(name)
        elif names:
            what = f"{len(names)} labelled pictures are called {stem!r}: {', '.join(names[:3])}"
            raise PoseError(what, str(src / (stem + _END)))
        else:
            found[stem] = (stem, None, None)  # nobody labelled it, which is counted
    return found


def _read(src: Path, pictures: Mapping[str, Picture]) -> LabelFile:
    return read_openpose(src, places={stem: n for n, stem in enumerate(pictures)} if pictures else None)


def _say_pictures(src: Path, warn: Warn) -> None:
    """Numbers in the names of pictures would pass for numbers of frames."""
    odd = [path.name for path in sorted(src.glob("*_keypoints.json")) if not _OF_VIDEO.match(path.name[: -len(_END)])]
    if odd:
        warn(
            f"{src}: {odd[0]} is not named as OpenPose names a video's frames (name_000000000012_keypoints.json): its "
            "number was taken for the frame's; where pictures of that name are says --image-root FOLDER"
        )


def _own_skeleton(label: LabelFile, warn: Warn) -> Skeleton:
    chosen = skeleton_of(label)
    warn(f"{label.path}: {chosen.num_keypoints} joints a person: taken as OpenPose's {chosen.name}")
    return chosen


def _stated_video(src: Path, video: Path | None, stated: StatedPictures) -> Video | None:
    """The labelled video that a folder is of, by the folders it lies in, else by its name."""
    whole = Path(os.path.abspath(src))
    stems = [whole.name, _stem(src)]
    places = [whole, whole / stems[1], whole.with_name(stems[1])]
    if video is not None:
        places.insert(0, Path(os.path.abspath(video)))
    known = stated.video_at(places)
    if known is not None or video is not None:
        return known
    called = stated.videos_called(stems)
    if len(called) > 1:
        names = [v.name for v in called]
        hint = f"a folder that says which one: {names[0]}/ or {names[1]}/"
        raise PoseError(f"{stems[1]} may be {' or '.join(names[:5])}", str(src), hint)
    return stated.video(stems)


def _poses(
    label: LabelFile,
    chosen: Skeleton,
    image_root: str | Path | None,
    stated: StatedPictures | None,
    warn: Warn,
    pictures: Mapping[str, Picture],
) -> Iterator[tuple[StreamHeader, FramePoses]]:
    src = label.path
    say_scores_outside(label, warn)
    people: dict[int, list[Instance]] = {frame: [] for frame in label.labelled}
    for row in label.rows:
        people[int(row.frame or 0)].append(_person(row))
    if pictures:
        header = StreamHeader(_root(src, image_root).resolve().name, chosen)
        for frame, picture in enumerate(pictures.values()):
            yield header, FramePoses(frame, tuple(people[frame]), None, None, *picture)
        return
    video = _video_of(src, image_root)
    known = None if stated is None else _stated_video(src, video, stated)
    if video is not None:
        header, length = video_header(video, chosen)
        if known is not None:
            header = replace(header, source=known.file_name or known.name)
    elif known is not None:
        header, length = stated_header(known, chosen), known.num_frames
    else:
        header, length = StreamHeader(_stem(src), chosen), 0
    if length and max(people) >= length:
        what = f"frame {max(people)}, but {header.source} has {length} frames"
        raise PoseError(what, str(src), "another video's folder?")
    for frame in sorted(people):
        yield header, FramePoses(frame, tuple(people[frame]), frame / header.fps if header.fps else None)


def _person(row: LabelRow) -> Instance:
    found = np.isfinite(row.xy).all(axis=1)
    score = np.clip(np.where(found, row.third, 0), 0, 1).astype(np.float32)
    mean = round(float(score[found].mean()), 4) if found.any() else 0.0
    return Instance(
        xy=row.xy, visibility=np.where(found, 2, 0), score=score, person_score=mean, track_id=row.track_id,
        extra=dict(row.extra),
    )  # fmt: skip


def _stem(folder: Path) -> str:
    """The video's name in the files' names."""
    first = min(p.name for p in folder.glob("*_keypoints.json"))
    return re.sub(r"_?\d+_keypoints\.json$", "", first) or folder.name


def _video_of(folder: Path, image_root: str | Path | None) -> Path | None:
    folder = Path(os.path.abspath(folder))  # "." has no name
    return video_of(folder, image_root) or video_of(folder.with_name(_stem(folder) + ".json"), image_root)


def _row(person: Any, where: str, frame: int) -> LabelRow:
    flat = person.get("pose_keypoints_2d") if isinstance(person, dict) else None
    if not isinstance(flat, list) or len(flat) % 3 or not only_numbers([flat]):
        raise PoseError("'pose_keypoints_2d' is not triples of numbers", where)
    if not all(map(is_finite, flat)):
        raise PoseError("a number of 'pose_keypoints_2d' is not finite", where)
    points = np.array(flat, dtype=np.float64).reshape(-1, 3)
    ids = person.get("person_id", [-1])
    track_id = ids[0] if isinstance(ids, list) and ids else ids
    # Empty lists are what OpenPose writes for parts it was not asked for.
    extra = {k: v for k, v in person.items() if k not in _PERSON_KEYS and v}
    points[points[:, 2] == 0, :2] = np.nan
    return LabelRow(
        where,
        points[:, :2],
        points[:, 2],
        frame=frame,
        track_id=track_id if isinstance(track_id, int) and track_id >= 0 else None,
        extra=extra,
    )


def skeleton_of(label: LabelFile) -> Skeleton:
    """The body model whose joints these are; PoseError when OpenPose has none with so many joints."""
    count = len(label.rows[0].xy) if label.rows else 0
    if count not in BODY_MODELS:
        hint = "say which they are in skeleton.toml beside the labels or with --skeleton"
        raise PoseError(f"{count} joints a person: not OpenPose's BODY_25 or COCO (18)", str(label.path), hint)
    return SKELETONS[BODY_MODELS[count]]


def frame_json(instances: Iterable[Instance]) -> str:
    """One frame's people as OpenPose JSON text: x, y, score triples, 0, 0, 0 for a joint not found."""
    people = []
    for instance in instances:
        flat: list[float] = []
        for (x, y), v, s in zip(instance.xy.tolist(), instance.visibility, instance.score.tolist(), strict=True):
            flat += (round(x, 3), round(y, 3), round(s, 4)) if v else (0, 0, 0)
        track_id = -1 if instance.track_id is None else int(instance.track_id)
        people.append({"person_id": [track_id], "pose_keypoints_2d": flat})
    return json.dumps({"version": 1.3, "people": people}, separators=(",", ":"))


def frame_name(stem: str, frame: int) -> str:
    """The file name OpenPose gives a frame: ``clip_000000000012_keypoints.json``."""
    return f"{stem}_{frame:012d}_keypoints.json"
