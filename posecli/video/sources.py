"""What the words on the command line mean: files, folders, globs, COCO JSON, cameras, URLs.

The kind is told by the name's suffix; that the content is what the suffix claims shows when it is opened, and every
misfit (empty, cut off, text under a video's name) is one clear error there.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from posecli.errors import PoseError
from posecli.files import image_root_of
from posecli.storage import is_stored, plain, stored_names
from posecli.types import Frame
from posecli.video.camera import CameraSource
from posecli.video.frame_source import FrameSource, check_file, check_range
from posecli.video.pictures import HEIC_SUFFIXES, PictureSource
from posecli.video.reader import VideoSource
from posecli.video.stored import StoredPictures, StoredVideo

VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .avi .mkv .webm .mpg .mpeg .ts .mts .m2ts .wmv .asf .flv .3gp .3g2 .ogv .vob .mxf .gif .h264 .h265 "
    ".hevc .264 .265 .ivf .mjpeg .mjpg".split()
)
PICTURE_SUFFIXES = HEIC_SUFFIXES.union(".jpg .jpeg .jpe .png .bmp .webp .avif .tif .tiff .jp2 .ppm .pgm .pnm".split())

OVERLAY = ".overlay"  # between the name of what was drawn on and the suffix


@dataclass(frozen=True)
class Input:
    """One source of frames, not opened yet.

    Attributes:
        kind: ``video``, ``pictures``, ``camera`` or ``url``.
        path: file, URL, camera number, or the folder that ``files`` are relative to; file and folder also on storage.
        name: short name for outputs and headers.
        files: pictures relative to ``path``, in order; empty for the other kinds.
        only: of a video, the frame indices asked for (COCO JSON naming frames); None for all.
        image_ids: frame index to COCO image id, where the input is a COCO JSON.
        decode: who decodes a video, see `VideoSource`.
    """

    kind: str
    path: str
    name: str
    files: tuple[str, ...] = ()
    only: tuple[int, ...] | None = None
    image_ids: Mapping[int, int | str] = field(default_factory=dict)
    decode: str = "cpu"

    def open(self) -> FrameSource:
        """The source itself; PoseError when it is not what it claims to be."""
        if self.kind == "camera":
            return CameraSource(int(self.path))
        if is_stored(self.path):
            if self.kind == "pictures":
                return StoredPictures(self.path, self.files, self.name)
            return StoredVideo(self.path, decode=self.decode)
        if self.kind == "pictures":
            return PictureSource(self.path, self.files, self.name, self.image_ids)
        if self.only is not None:
            return SelectedFrames(self.path, self.only, decode=self.decode)
        return VideoSource(self.path, decode=self.decode)


class SelectedFrames(VideoSource):
    """A video of which only some frames are wanted; indices stay those of the video."""

    def __init__(self, path: str, only: Iterable[int], *, decode: str = "cpu") -> None:
        super().__init__(path, decode=decode)
        self.only = tuple(sorted(set(only)))

    def frames(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Frame]:
        """The wanted frames from ``start`` to below ``stop``, every ``every``-th of them."""
        check_range(start, stop, every)
        return self._chosen(self.indices(start, stop, every))

    def _chosen(self, wanted: Sequence[int]) -> Iterator[Frame]:
        total = self.num_frames or 0
        self.broken, self.repaired = self._cut_off, 0
        del self.problems[bool(self._cut_off) :]
        for index in wanted:
            try:
                frame = self.read_at(index)
            except PoseError as error:
                if index >= total:  # not broken: whoever named it meant another video
                    raise
                self.broken += 1
                self._note(str(error))
                continue
            yield frame

    def indices(self, start: int = 0, stop: int | None = None, every: int = 1) -> Sequence[int]:
        return [i for i in self.only if i >= start and (stop is None or i < stop)][::every]


def open_source(what: str | Path | int | Input) -> FrameSource:
    """Opens a video, picture, folder of pictures, camera number or URL.

    Raises:
        PoseError: nothing there, not what it claims to be, or several sources at once.
    """
    if isinstance(what, Input):
        return what.open()
    found = list_inputs([what])
    if len(found) != 1:
        some = ", ".join(i.name for i in found[:4])
        raise PoseError(f"{len(found)} sources where one is wanted: {some}", str(what), "name one of them")
    return found[0].open()


def list_inputs(inputs: Iterable[str | Path | int], warn: Callable[[str], None] = lambda message: None) -> list[Input]:
    """What the given words name, in their order: one `Input` per video, one per folder of pictures, one for all
    pictures named directly or by a glob, one per COCO JSON (and per video it names).
    Videos are called as their files, in a folder given with the folders below it, pictures as their folder; and with
    more folders where two would have one name.

    Folders are searched through all levels, in natural order (``2`` before ``10``); hidden names are left out, and what
    by its name was drawn on one of the folder's own files. So is a name that is given, or matched by a glob, beside the
    one it was drawn on; ``warn`` is told of these.

    Raises:
        PoseError: a name that does not exist, an empty file that is the only one (among others it is told when it is
            opened), a suffix that is no picture's or video's, a folder or glob without any, a JSON that is not COCO.
    """
    found: list[Input] = []
    loose: list[Path] = []
    loose_at = 0
    words = [(text := plain(str(word)), _named(text)) for word in inputs]
    drawn = _drawn_on_others([name for _, names in words for name in names])
    if drawn:
        more = f" and {len(drawn) - 1} more" if len(drawn) > 1 else ""
        warn(f"{drawn[0]}{more}: left out, drawn on another input by its name; given alone it is looked at")
    alone = sum(len(names) for _, names in words) == 1
    for text, names in words:
        names = [name for name in names if name not in drawn]
        if _is_camera(text):
            found.append(Input("camera", text, f"camera:{int(text)}"))
        elif is_stored(text):
            found += _stored(text, names) if names else []
        elif "://" in text:
            found.append(Input("url", text, text))
        else:
            pictures: list[Path] = []
            for path in map(Path, names):
                if path.is_dir():
                    found += _folder(path)
                elif (suffix := path.suffix.lower()) == ".json":
                    found += _coco(path)
                elif suffix in VIDEO_SUFFIXES:
                    if alone:
                        check_file(path)
                    found.append(Input("video", str(path), path.name))
                elif suffix in PICTURE_SUFFIXES:
                    if alone:
                        check_file(path)
                    pictures.append(path)
                else:
                    check_file(path)
                    raise PoseError(
                        f"{suffix or 'a name without suffix'} is no kind of video or picture known here",
                        str(path),
                        "videos like .mp4, .mov, .avi, .mkv, .webm; pictures like .jpg, .png",
                    )
            if pictures and not loose:
                loose_at = len(found)
            loose += pictures
    if not found and not loose:
        raise PoseError("no input given")
    if loose:
        found.insert(loose_at, _loose(loose))
    return _told_apart(found)


def _told_apart(found: list[Input]) -> list[Input]:
    """Videos, and folders of pictures, of one name get the folders in which they differ: ``a/clip.mp4``,
    ``b/clip.mp4``."""
    places = [_place(item) for item in found]
    alike: dict[tuple[str, str], set[Path]] = {}
    for item, place in zip(found, places, strict=True):
        if place is not None:
            alike.setdefault((item.kind, item.name), set()).add(place)
    several = {key: _common([p.parent for p in paths]) for key, paths in alike.items() if len(paths) > 1}
    return [
        replace(item, name=place.relative_to(several[item.kind, item.name]).as_posix())
        if place is not None and (item.kind, item.name) in several
        else item
        for item, place in zip(found, places, strict=True)
    ]


def _place(item: Input) -> Path | None:
    """The file or folder on this machine that an input is called after; None where it is called otherwise."""
    if item.kind not in ("video", "pictures") or is_stored(item.path):
        return None
    if item.kind == "video":
        return Path(item.path).absolute()
    folder = Path(item.path).resolve()
    return folder if item.name == folder.name and not item.image_ids else None


def _stored(url: str, matches: list[str]) -> list[Input]:
    """What a URL of storage names: a file, a folder with all below it, or the ``matches`` of a glob."""
    several = _is_glob(url)
    names = matches if several else stored_names(url)
    alone = names == [url]
    root = url.rsplit("/", 1)[0] if alone or several else url.rstrip("/")
    while not all(name.startswith(root + "/") for name in names):  # a glob of folders
        root = root.rsplit("/", 1)[0]
    below = [name[len(root) + 1 :] for name in names]
    below = sorted(below if alone or several else _not_drawn(below, root.rsplit("/", 1)[1]), key=natural_key)
    pictures = tuple(n for n in below if Path(n).suffix.lower() in PICTURE_SUFFIXES)
    videos = [n for n in below if Path(n).suffix.lower() in VIDEO_SUFFIXES]
    if not pictures and not videos:
        raise PoseError("no video or picture there", url, "videos like .mp4, .mov, .mkv; pictures like .jpg, .png")
    name = below[0] if alone else root.rsplit("/", 1)[1]
    found = [Input("pictures", root, name, pictures)] if pictures else []
    return found + [Input("video", f"{root}/{n}", n) for n in videos]


def natural_key(text: str) -> tuple[Any, ...]:
    """Sorting key in which numbers inside names count as numbers: ``2.jpg`` before ``10.jpg``."""
    return tuple((0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.findall(r"\d+|\D+", text))


def _is_camera(text: str) -> bool:
    return text.isdecimal() and not Path(text).exists()


def _is_glob(text: str) -> bool:
    return any(c in text for c in "*?[")


def _named(text: str) -> list[str]:
    """The files, folders or URLs that a word means: itself, or what a glob matches."""
    if is_stored(text):
        return stored_names(text) if _is_glob(text) else [text]
    if _is_camera(text) or "://" in text:
        return [text]
    return [str(path) for path in _expand(text)]


def _expand(text: str) -> list[Path]:
    path = Path(text).expanduser()
    if path.exists():
        return [path]
    if _is_glob(text):
        matches = sorted(glob.glob(str(path), recursive=True), key=natural_key)
        media = [Path(m) for m in matches if Path(m).suffix.lower() in VIDEO_SUFFIXES | PICTURE_SUFFIXES]
        if not media:
            raise PoseError("nothing matches" if not matches else "no video or picture among the matches", text)
        return media
    raise PoseError("no such file or folder", text)


def _folder(folder: Path) -> list[Input]:
    names = [
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    names = _not_drawn(names, folder.resolve().name)
    names.sort(key=natural_key)
    pictures = tuple(n for n in names if Path(n).suffix.lower() in PICTURE_SUFFIXES)
    videos = [n for n in names if Path(n).suffix.lower() in VIDEO_SUFFIXES]
    if not pictures and not videos:
        raise PoseError("no video or picture in the folder", str(folder))
    found = [Input("pictures", str(folder), folder.resolve().name, pictures)] if pictures else []
    return found + [Input("video", str(folder / n), n) for n in videos]


def _not_drawn(names: list[str], folder: str) -> list[str]:
    """Files of a folder without the overlays that `infer` makes of its videos (``a.overlay.mp4`` of ``a.mp4``), of a
    single picture, and of its pictures together (``FOLDER.overlay/``): the command that made them, given again to go
    on, would take them for further inputs."""
    places = [PurePosixPath(name) for name in names]
    # Where two stems are one, overlays are called after whole names: `a.mkv.overlay.mp4`.
    drawn = {f"{called}{OVERLAY}" for place in places for called in (place.stem, place.name)} | {f"{folder}{OVERLAY}"}
    return [
        name
        for name in names
        if PurePosixPath(name).stem not in drawn and drawn.isdisjoint(PurePosixPath(name).parts[:-1])
    ]


def _drawn_on_others(names: Sequence[str]) -> list[str]:
    """Those of the names given that are overlays of others of them, in the same folder or in one above: ``*.mp4``
    matches ``a.overlay.mp4`` beside ``a.mp4`` once `infer` has drawn it there."""

    def place_of(name: str) -> PurePosixPath:
        return PurePosixPath(name if "://" in name else Path(os.path.abspath(name)).as_posix())

    def kind_of(place: PurePosixPath) -> str:
        suffix = place.suffix.lower()
        return "video" if suffix in VIDEO_SUFFIXES else "picture" if suffix in PICTURE_SUFFIXES else "folder"

    places = {name: place_of(name) for name in names if not _is_camera(name)}
    files = {(place.parent, called, kind_of(place)) for place in places.values() for called in (place.stem, place.name)}
    folders = {p if kind_of(p) == "folder" else p.parent for p in places.values() if kind_of(p) != "video"}

    def drawn(place: PurePosixPath) -> bool:
        kind, parents = kind_of(place), place.parents
        base = place.stem.removesuffix(OVERLAY)
        if kind != "folder" and base != place.stem and any((p, base, kind) in files for p in parents):
            return True
        around = [p for p in (place, *parents) if p.name.endswith(OVERLAY)] if kind != "video" else []
        return any(above / p.name.removesuffix(OVERLAY) in folders for p in around for above in p.parents)

    return [name for name, place in places.items() if drawn(place)]


def _loose(paths: list[Path]) -> Input:
    """Pictures named one by one: relative to their common folder, in the order given."""
    parents = {path.parent for path in paths}
    root = parents.pop() if len(parents) == 1 else _common([p.resolve().parent for p in paths])
    files = tuple(dict.fromkeys(_relative(path, root) for path in paths))
    name = paths[0].name if len(files) == 1 else (root.resolve().name or "pictures")
    return Input("pictures", str(root), name, files)


def _common(folders: list[Path]) -> Path:
    first, *others = folders
    return next(p for p in (first, *first.parents) if all(o == p or p in o.parents for o in others))


def _relative(path: Path, root: Path) -> str:
    return (
        (path if path.parent == root else path.resolve().relative_to(root.resolve()))
        .relative_to(root if path.parent == root else ".")
        .as_posix()
    )


def _coco(path: Path) -> list[Input]:
    """The images of a COCO JSON: pictures in the file's order, and for each video it names the frames wanted."""
    check_file(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        images = [(str(i["file_name"]), i["id"], i.get("frame_id")) for i in value["images"]]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise PoseError("this JSON is not COCO: it has no list of images with file_name and id", str(path)) from None
    if not images:
        raise PoseError("the COCO file names no images", str(path))
    root = image_root_of(path, images[0][0])
    pictures: dict[str, int | str] = {}
    videos: dict[str, dict[int, int | str]] = {}
    for name, image_id, frame in images:
        if Path(name).suffix.lower() in VIDEO_SUFFIXES:
            if not isinstance(frame, int):
                raise PoseError(f"image {image_id} is in the video {name} but has no frame_id", str(path))
            videos.setdefault(name, {})[frame] = image_id
        else:
            pictures[name] = image_id
    for name in (*pictures, *videos):
        if not (root / name).is_file():
            raise PoseError(f"it names {name}, which is not there", str(path), "put the JSON beside its pictures")
    found = []
    if pictures:
        found.append(Input("pictures", str(root), path.name, tuple(pictures), None, dict(enumerate(pictures.values()))))
    for name, wanted in videos.items():
        found.append(Input("video", str(root / name), name, (), tuple(sorted(wanted)), wanted))
    return found
