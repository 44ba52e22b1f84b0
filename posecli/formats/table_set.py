"""A CSV table by itself as a data set: one that `posecli convert` wrote, or any with a column ``source``.

`posecli.formats.tables` tells the columns. ``source`` is a video (then ``frame`` is its frame) or a picture, relative
to the table's folder. The picture's size is taken from ``width`` and ``height``, else from the file. Only frames that
have a row are in the set: a table says nothing of the others. A table of one video may as well stand beside it
(`mars`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from posecli.errors import PoseError
from posecli.formats.found_pictures import StatedPictures
from posecli.formats.joint_names import skeleton_from_names
from posecli.formats.labels import SCORE_THRESHOLD, LabelRow, joint_columns, say_scores_outside, to_instance
from posecli.formats.picture_size import picture_size
from posecli.formats.tables import read_csv
from posecli.skeletons import get_skeleton, read_renames
from posecli.types import Dataset, Instance, Record, Skeleton, Video

if TYPE_CHECKING:
    from posecli.formats import ReadOptions

Warn = Callable[[str], None]


def recognise(src: Path) -> str | None:
    """A CSV file whose first row names ``source`` and ``frame`` or ``time``."""
    if src.suffix.lower() != ".csv" or not src.is_file():
        return None
    with open(src, encoding="utf-8-sig", errors="replace") as handle:
        first = handle.readline(1 << 16).lower()
    cells = {c.strip() for c in first.replace(";", ",").replace("\t", ",").split(",")}
    return "a table with a column 'source'" if "source" in cells and cells & {"frame", "time"} else None


def read(path: Path, options: ReadOptions, warn: Warn) -> Dataset:
    """Reads the table.

    Image ids are counted from 1, pictures and videos in the order in which the table names them.

    Args:
        path: the file.
        options: ``skeleton`` where the joints' names are not those of the set (a `skeleton.toml` may rename them);
            ``image_root``, else the table's folder; ``score_threshold``.
        warn: is told of scores outside 0 to 1.

    Raises:
        PoseError: naming file and row, for what `read_csv` finds wrong, no column ``source``, a row without a source or
            without a frame number, a picture whose size nobody says, two sizes for one picture.
    """
    return _read(path, options, None, warn)


def read_to_compare(path: Path, options: ReadOptions, stated: StatedPictures, warn: Warn) -> Dataset:
    """As `read`, of what is only compared with labels: no file needs to be there. Sizes are the rows', else the
    labels', else 0; joints found outside of a picture stay, as they do in a pose stream."""
    return _read(path, options, stated, warn)


def _read(path: Path, options: ReadOptions, stated: StatedPictures | None, warn: Warn) -> Dataset:
    label = read_csv(path, by_source=True)
    say_scores_outside(label, warn)
    skeleton, renames = _skeleton(options, label.names or (), str(path))
    columns = joint_columns(label, skeleton, renames)
    threshold = SCORE_THRESHOLD if options.score_threshold is None else options.score_threshold
    root = Path(options.image_root) if options.image_root is not None else path.parent
    by_source: dict[str, dict[int, list[LabelRow]]] = {}
    for row in label.rows:
        if not row.source:
            hint = "a table of one video belongs beside it: --format mars"
            raise PoseError("the row does not say which video or picture it is of (column 'source')", row.where, hint)
        if row.frame is None:
            raise PoseError("the row has no frame number", row.where)
        by_source.setdefault(row.source, {}).setdefault(row.frame, []).append(row)
    records: list[Record] = []
    videos: list[Video] = []
    for source, frames in by_source.items():
        first = next(iter(frames.values()))[0]
        is_video = _is_video(source)
        if stated is None:
            width, height, fps, count = _facts(root, source, first, is_video)
        else:
            (width, height), fps, count = _stated_size(stated, source, first, is_video), 0.0, 0
        if is_video:
            count = max(count, max(frames) + 1)
            videos.append(Video(len(videos) + 1, PurePosixPath(source).stem, source, width, height, fps, count))
        elif len(frames) > 1:
            raise PoseError(f"the picture {source!r} has {len(frames)} frame numbers", first.where)
        for frame in sorted(frames):
            people: list[Instance] = []
            for row in frames[frame]:
                if row.width and (row.width, row.height) != (width, height):
                    raise PoseError(f"{row.width} x {row.height} where {source!r} has {width} x {height}", row.where)
                w, h = (width, height) if stated is None else (None, None)
                people.append(to_instance(row, columns, skeleton, label.third, w, h, threshold))
            records.append(
                Record(
                    len(records) + 1, source, width, height, tuple(people), len(videos) if is_video else None,
                    frame if is_video else None,
                )
            )  # fmt: skip
    return Dataset(skeleton, tuple(records), tuple(videos), str(root))


def _skeleton(options: ReadOptions, names: tuple[str, ...], where: str) -> tuple[Skeleton, dict[str, str]]:
    given = options.skeleton
    if isinstance(given, Skeleton):
        return given, {}
    if given is not None:
        return get_skeleton(str(given)), read_renames(given) if str(given).endswith(".toml") else {}
    return skeleton_from_names(names, where=where), {}


def _is_video(source: str) -> bool:
    from posecli.video import VIDEO_SUFFIXES

    return PurePosixPath(source).suffix.lower() in VIDEO_SUFFIXES


def _facts(root: Path, source: str, row: LabelRow, is_video: bool) -> tuple[int, int, float, int]:
    """Width, height, rate and number of frames; the last two 0 where the file is not there."""
    path = root / source
    if not path.exists():
        if row.width and row.height:
            return row.width, row.height, 0.0, 0
        hint = "say where the videos or pictures are with --image-root, or add the columns width and height"
        raise PoseError(f"nothing says how large {source!r} is: it is not in {root}", row.where, hint)
    if not is_video:
        return *picture_size(path), 0.0, 0
    from posecli.video import VideoSource

    with VideoSource(path) as video:
        return video.width, video.height, video.fps or 0.0, video.num_frames or 0


def _stated_size(stated: StatedPictures, source: str, row: LabelRow, is_video: bool) -> tuple[int, int]:
    """Width and height; 0, 0 where neither the row nor the labels say."""
    if row.width and row.height:
        return row.width, row.height
    if is_video:
        video = stated.video([PurePosixPath(source).stem], only=False)
        return (0, 0) if video is None else (video.width, video.height)
    _, width, height = stated.named(source)
    return width or 0, height or 0
