"""Writing a folder of OpenPose JSON from poses; `posecli.formats.openpose` tells the layout and reads it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from posecli.errors import PoseError
from posecli.files import inside
from posecli.formats.label_poses import Frames, by_source
from posecli.formats.openpose import frame_json, frame_name


def write_openpose(frames: Frames, folder: Path) -> int:
    """One file a frame, with several sources a folder for each (``front/walk``, ``side/walk``); returns the number of
    people.

    Names come from the stream, so they are checked to stay inside ``folder``. A picture's file is named like the
    picture. PoseError when two frames would have one file.
    """
    folder.mkdir()
    count = 0
    places: list[str] = []
    place = folder
    for new, header, poses in by_source(frames):
        if new:
            name = _place(header.source)
            if places:
                if len(places) == 1:  # the second source: the first moves into a folder of its own
                    _move_into(folder, places[0])
                while name in places:
                    name += "_"
                place = inside(folder, name, header.source)
                place.mkdir(parents=True, exist_ok=True)
            places.append(name)
        where = f"{header.source}, frame {poses.frame}"
        stem = Path(poses.file.replace("\\", "/")).stem if poses.file else PurePosixPath(places[-1]).name
        path = inside(place, frame_name(stem, poses.frame), where)
        if path.exists():
            raise PoseError(f"two frames have the file name {path.name}", where, "convert the sources one by one")
        path.write_text(frame_json(poses.instances), encoding="utf-8")
        count += len(poses.instances)
    return count


def _place(source: str) -> str:
    """A source's name without suffix; folders stay, by which ``front/walk.mp4`` and ``side/walk.mp4`` differ."""
    parts = [p for p in source.replace("://", "_").replace("\\", "/").split("/") if p not in ("", ".", "..")]
    return str(PurePosixPath(*parts).with_suffix("")) if parts else "source"


def _move_into(folder: Path, name: str) -> None:
    files = list(folder.iterdir())
    target = inside(folder, name)
    # A folder of the pictures may have the name already.
    held = folder / ".moving"
    held.mkdir()
    for file in files:
        file.rename(held / file.name)
    target.parent.mkdir(parents=True, exist_ok=True)
    held.rename(target)
