"""Where renderings go: the writer that fits a source and the name of the output."""

from __future__ import annotations

from pathlib import Path

from posecli.errors import PoseError
from posecli.render import overlay_writer
from posecli.video import HEIC_SUFFIXES, PICTURE_SUFFIXES, FrameSource, PictureSource, PictureWriter, VideoWriter

_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")


def default_target(source: FrameSource) -> str:
    """``clip.overlay.mp4``, ``folder.overlay/`` or ``picture.overlay.jpg``, in the current folder."""
    name = Path(source.name)
    if not isinstance(source, PictureSource):
        return f"{name.stem if '://' not in source.name else 'stream'}.overlay.mp4"
    if len(source.files) == 1:
        file = Path(source.files[0])
        return f"{file.stem}.overlay{'.jpg' if file.suffix.lower() in HEIC_SUFFIXES else file.suffix}"
    return f"{name.stem}.overlay/"


def open_writer(
    source: FrameSource, target: str, start: int, stop: int | None, every: int, overwrite: bool, layout: str = "one"
) -> VideoWriter | PictureWriter:
    """The writer for a target: a video by its suffix, a picture by its suffix, else a folder.

    With ``layout`` "side" its pictures are twice as wide.

    Raises:
        PoseError: the target cannot hold the source (pictures in a video, a video in one picture), exists already, or
            is the folder that the source's own pictures lie in.
    """
    suffix = "" if target.endswith(("/", "\\")) or Path(target).is_dir() else Path(target).suffix.lower()
    if suffix in _VIDEO_SUFFIXES:
        return overlay_writer(source, target, start=start, stop=stop, every=every, overwrite=overwrite, layout=layout)
    if suffix in PICTURE_SUFFIXES:
        ends = [end for end in (stop, source.num_frames) if end is not None]
        if len(source.indices(start, min(ends, default=None), every)) != 1:
            hint = "give a folder, --out NAME/, or one frame, --start 12 --end 13"
            raise PoseError("one picture cannot hold several frames", target, hint)
        if Path(target).resolve() == Path(source.path).resolve():
            raise PoseError("the output is the input", target, "choose another name")
        return PictureWriter(target, single=True, overwrite=overwrite)
    if suffix and not Path(target).is_dir():
        raise PoseError(
            f"cannot write {suffix}", target, f"{', '.join(_VIDEO_SUFFIXES)}, a picture, or a folder: --out NAME/"
        )
    if isinstance(source, PictureSource) and Path(target).resolve() == source.root.resolve():
        raise PoseError("the output is the folder of the input", target, "choose another folder")
    return PictureWriter(target, overwrite=overwrite)
