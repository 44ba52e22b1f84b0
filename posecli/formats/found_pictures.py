"""Pictures and videos that a file of poses speaks of without saying where they are or how large.

Decoders are imported when something is looked up: who evaluates a list of results needs none, and they take longer to
load than most lists to read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from posecli.errors import PoseError
from posecli.formats.picture_size import picture_size
from posecli.predictions import StreamHeader
from posecli.types import Skeleton, Video


class FoundPictures:
    """The pictures below a folder, found by name or by the number that is their name."""

    def __init__(self, root: Path, where: str) -> None:
        self.root = root
        self.where = where
        self._by_number: dict[int, list[str]] | None = None
        self._by_stem: dict[str, list[str]] | None = None

    def named(self, name: str) -> tuple[str, int, int]:
        """Name relative to the folder, width and height; the folders before the name may be missing."""
        name = name.replace("\\", "/")
        for known in (name, name.rsplit("/", 1)[-1]):
            if (self.root / known).is_file():
                return known, *picture_size(self.root / known)
        raise PoseError(f"picture {name!r} is not in {self.root}", self.where, "say where it is with --image-root")

    def numbered(self, number: int) -> tuple[str, int, int]:
        """The picture whose name is that number (``000000000042.jpg``)."""
        from posecli.video import PICTURE_SUFFIXES

        if self._by_number is None:
            self._by_number = {}
            for path in sorted(self.root.rglob("*")) if self.root.is_dir() else []:
                if path.suffix.lower() in PICTURE_SUFFIXES and path.stem.isdecimal():
                    self._by_number.setdefault(int(path.stem), []).append(path.relative_to(self.root).as_posix())
        names = self._by_number.get(number, [])
        if len(names) != 1:
            what = f"{len(names)} pictures in {self.root} are called {number}"
            raise PoseError(what, self.where, "say where the pictures are with --image-root")
        return names[0], *picture_size(self.root / names[0])

    def called(self, stem: str) -> list[str]:
        """The pictures of that name without suffix, in whatever folder below."""
        from posecli.video import PICTURE_SUFFIXES

        if self._by_stem is None:
            self._by_stem = {}
            for path in sorted(self.root.rglob("*")) if self.root.is_dir() else []:
                if path.suffix.lower() in PICTURE_SUFFIXES:
                    self._by_stem.setdefault(path.stem, []).append(path.relative_to(self.root).as_posix())
        return self._by_stem.get(stem, [])

    def of_stem(self, stem: str) -> tuple[str, int, int]:
        """The one picture of that name without suffix, in whatever folder below."""
        names = self.called(stem)
        if len(names) != 1:
            what = f"{len(names)} pictures in {self.root} are called {stem!r}"
            raise PoseError(what, self.where, "say where the pictures are (or the video is) with --image-root")
        return names[0], *picture_size(self.root / names[0])


class StatedPictures:
    """Pictures and videos as a data set states them, for poses that are only compared with its labels: nothing needs to
    be there as a file.

    Args:
        sizes: picture name to width and height.
        videos: of the data set.
        frames: of videos that are pictures, by the video's id: picture name to width and height.
    """

    def __init__(
        self,
        sizes: Mapping[str, tuple[int, int]],
        videos: Sequence[Video],
        frames: Mapping[int, Mapping[str, tuple[int, int]]] | None = None,
    ) -> None:
        self.sizes = sizes
        self.videos = videos
        self._frames = frames or {}
        last: dict[str, set[tuple[int, int]]] = {}
        for name, size in sizes.items():
            last.setdefault(name.replace("\\", "/").rsplit("/", 1)[-1], set()).add(size)
        self._by_last = last
        self._by_stem: dict[str, list[str]] | None = None

    def named(self, name: str) -> tuple[str, int | None, int | None]:
        """The name, with the picture's width and height where the data set has one of that name."""
        known = self._by_last.get(name.replace("\\", "/").rsplit("/", 1)[-1], set())
        width, height = self.sizes.get(name) or (next(iter(known)) if len(known) == 1 else (0, 0))
        return name, width or None, height or None

    def called(self, stem: str) -> list[str]:
        """The pictures of that name without folders and suffix."""
        if self._by_stem is None:
            self._by_stem = {}
            for name in self.sizes:
                self._by_stem.setdefault(Path(name.replace("\\", "/")).stem, []).append(name)
        return self._by_stem.get(stem, [])

    def of_stem(self, stem: str) -> tuple[str, int, int]:
        """The one picture of that name without folders and suffix, with its width and height."""
        names = self.called(stem)
        if len(names) != 1:
            raise PoseError(f"{len(names)} labelled pictures are called {stem!r}")
        return names[0], *self.sizes[names[0]]

    def pictures_of(self, video: Video) -> dict[str, tuple[str, int, int]]:
        """Name, width and height of the pictures that are frames of the video, by name without folders and suffix;
        empty where they are not pictures, or two have one name."""
        frames = self._frames.get(video.id, {})
        found = {Path(name.replace("\\", "/")).stem: (name, *size) for name, size in frames.items()}
        return found if len(found) == len(frames) else {}

    def video(self, stems: Sequence[str], only: bool = True) -> Video | None:
        """The video of one of these names, without folders and suffix, else (``only``) the only one there is."""
        for stem in stems:
            found = [v for v in self.videos if stem in (Path(v.name).name, Path(v.file_name).stem)]
            if len(found) == 1:
                return found[0]
        return self.videos[0] if only and len(self.videos) == 1 else None

    def video_at(self, places: Sequence[Path]) -> Video | None:
        """The video with whose name, folders and all, one of these places ends (of several the longest name); None for
        none. Of places a suffix of videos doesn't matter."""
        found: dict[int, int] = {}
        for place in places:
            parts = _without_suffix(place.as_posix())
            for number, video in enumerate(self.videos):
                for name in map(_without_suffix, (video.name, video.file_name)):
                    if name and parts[-len(name) :] == name:
                        found[number] = max(found.get(number, 0), len(name))
        longest = [number for number, length in found.items() if length == max(found.values())]
        return self.videos[longest[0]] if len(longest) == 1 else None

    def videos_called(self, stems: Sequence[str]) -> list[Video]:
        """Those of one of these names, without folders and suffix."""
        names = [(v, {(_without_suffix(n) or ("",))[-1] for n in (v.name, v.file_name)}) for v in self.videos]
        return [video for video, own in names if own & set(stems)]


def _without_suffix(name: str) -> tuple[str, ...]:
    """The parts of a video's name without its suffix."""
    from posecli.video import VIDEO_SUFFIXES

    parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".")]
    if parts and Path(parts[-1]).suffix.lower() in VIDEO_SUFFIXES:
        parts[-1] = Path(parts[-1]).stem
    return tuple(parts)


def stated_header(video: Video, skeleton: Skeleton) -> StreamHeader:
    """The header of a stream of a video that a data set states."""
    return StreamHeader(
        video.file_name or video.name, skeleton, video.width or None, video.height or None, video.fps or None
    )


def video_of(path: Path, image_root: str | Path | None, stated: str | None = None) -> Path | None:
    """The video that a file of poses belongs to: ``--image-root`` if that is a video, the one it states, or the one of
    the same stem, in ``--image-root`` or beside the file; None when there is none."""
    from posecli.video import VIDEO_SUFFIXES

    if image_root is not None and Path(image_root).suffix.lower() in VIDEO_SUFFIXES:
        if not Path(image_root).is_file():
            raise PoseError("no such video", str(image_root))
        return Path(image_root)
    folder = path.parent if image_root is None else Path(image_root)
    if stated:
        name = stated.replace("\\", "/").rsplit("/", 1)[-1]
        if Path(name).suffix.lower() in VIDEO_SUFFIXES and (folder / name).is_file():
            return folder / name
    found = [p for p in sorted(folder.glob("*")) if p.suffix.lower() in VIDEO_SUFFIXES and p.stem == path.stem]
    return found[0] if len(found) == 1 else None


def video_header(path: Path, skeleton: Skeleton) -> tuple[StreamHeader, int]:
    """The header of a stream of that video, and how many frames it has (0: the file does not say)."""
    from posecli.video import VideoSource

    with VideoSource(path) as video:
        return StreamHeader(path.name, skeleton, video.width, video.height, video.fps), video.num_frames or 0
