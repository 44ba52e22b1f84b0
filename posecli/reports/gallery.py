"""A gallery of frames with their skeletons: one HTML file, or a folder with the pictures beside its page.

The page filters and sorts by itself (a script of our own, `templates/gallery.js`) and opens from disk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from posecli.files import replace_when_done
from posecli.reports.items import Collection, Item, item_json
from posecli.reports.page import render_page, visible
from posecli.reports.pictures import Pictures, data_uri, to_jpeg
from posecli.types import Skeleton

ONE_FILE = 400  # frames a single file holds comfortably: some 10 MB
PICTURE_SIZE = 480
_QUALITY = 74


@dataclass(frozen=True)
class GalleryReport:
    """What became of a gallery.

    Attributes:
        path: the file, or the folder's page.
        shown, of: frames shown and frames there are.
        missing: pictures that could not be read, drawn blank; ``problem`` says why the first could not.
        size: bytes of the page and its pictures.
    """

    path: Path
    shown: int
    of: int
    missing: int
    problem: str
    size: int


def write_gallery(
    collection: Collection,
    out: str | Path,
    *,
    title: str,
    predictions: str = "",
    limit: int | None = None,
    picture_size: int = PICTURE_SIZE,
    overwrite: bool = False,
    on_frame: Callable[[], Any] = lambda: None,
) -> GalleryReport:
    """Writes a gallery: one file where ``out`` ends in ``.html``, else a folder with ``index.html`` and ``pictures/``.

    Args:
        collection: what to show.
        title: what the page is headed by, as a rule the labels' or the stream's name.
        predictions: name of the predictions shown with labels.
        limit: show at most so many frames, spread evenly over all; None for all.
        picture_size: longer side of the stored pictures, pixels.
        on_frame: called after each frame (progress).

    Raises:
        PoseError: ``out`` exists and ``overwrite`` is false.
    """
    out = Path(out)
    one_file = out.suffix.lower() in (".html", ".htm")
    chosen = spread(collection.items, limit)
    tags = sorted({tag for item in chosen for tag in item.tags})
    entries: list[dict[str, Any]] = []
    with replace_when_done(out, overwrite=overwrite) as part, Pictures(collection.roots) as pictures:
        if not one_file:
            (part / "pictures").mkdir(parents=True)
        size = 0
        for number, item in enumerate(chosen):
            image = pictures.read(item.files, item.frame)
            picture = None
            if image is not None:
                jpeg = to_jpeg(image, picture_size, _QUALITY)
                if one_file:
                    picture = data_uri(jpeg)
                else:
                    # Names of our own: those of the data may lead anywhere.
                    picture = f"pictures/{number:06d}.jpg"
                    (part / picture).write_bytes(jpeg)
                    size += len(jpeg)
            entries.append(item_json(item, picture, _size_of(item, image), tags))
            on_frame()
        page = _page(collection, entries, tags, title, predictions, pictures, one_file)
        target = part if one_file else part / "index.html"
        target.write_text(page, encoding="utf-8")
        size += target.stat().st_size
    return GalleryReport(
        out if one_file else out / "index.html",
        len(chosen),
        len(collection.items),
        pictures.missing,
        pictures.problems[0] if pictures.problems else "",
        size,
    )


def spread(items: Sequence[Item], limit: int | None) -> list[Item]:
    """At most ``limit`` of the items, evenly over all of them, the first among them."""
    if limit is None or len(items) <= limit:
        return list(items)
    return [items[i * len(items) // limit] for i in range(limit)]


def _size_of(item: Item, image: np.ndarray | None) -> tuple[int, int]:
    """Width and height of the picture, as stated where it is missing, else what holds all joints."""
    if image is not None:
        return image.shape[1], image.shape[0]
    if min(item.size_wh) > 0:
        return item.size_wh
    joints = [s.person.xy[s.person.visibility > 0] for s in (*item.labels, *item.predictions)]
    every = np.concatenate([j[np.isfinite(j).all(axis=1)] for j in joints]) if joints else np.zeros((0, 2))
    if not len(every):
        return 640, 480
    return max(16, int(1.05 * every[:, 0].max()) + 1), max(16, int(1.05 * every[:, 1].max()) + 1)


def _page(
    collection: Collection,
    entries: list[dict[str, Any]],
    tags: Sequence[str],
    title: str,
    predictions: str,
    pictures: Pictures,
    one_file: bool,
) -> str:
    notes = list(collection.notes)
    if len(entries) < len(collection.items):
        notes.append(
            f"{len(entries):,} of {len(collection.items):,} frames are in this gallery, spread evenly over all of them."
        )
    if pictures.missing:
        notes.append(
            f"{pictures.missing:,} of {pictures.asked:,} pictures could not be read; their frames are drawn blank "
            f"({pictures.problems[0]}). Give their folder with --image-root."
        )
    name = PurePath(title).name or title
    skeletons = [s for s in (collection.labels, collection.found) if s is not None]
    for entry in entries:
        entry["n"] = visible(entry["n"])
    data = {
        "items": entries,
        "of": len(collection.items),
        "tags": [visible(tag) for tag in tags],
        "measure": collection.measure,
        "labels": _skeleton_json(collection.labels),
        "found": _skeleton_json(collection.found),
    }
    return render_page(
        "gallery.html",
        styles=("base.css", "gallery.css"),
        scripts=("gallery.js",),
        title=f"posecli: {visible(name)}",
        heading=name,
        place=title if title != name else "",
        predictions=predictions,
        notes=notes,
        has_labels=collection.labels is not None,
        has_predictions=collection.found is not None,
        has_errors=bool(collection.measure),
        measure=collection.measure,
        tags=tags if len(tags) > 1 else [],
        joints=list(dict.fromkeys(name for s in skeletons for name in s.keypoints)),
        folder=not one_file,
        data=data,
    )


def _skeleton_json(skeleton: Skeleton | None) -> dict[str, Any] | None:
    """Names, limbs and sides (0 middle, 1 left, 2 right) of the joints."""
    if skeleton is None:
        return None
    side = [0] * skeleton.num_keypoints
    for left, right in skeleton.flip_pairs:
        side[left], side[right] = 1, 2
    return {"names": [visible(n) for n in skeleton.keypoints], "edges": skeleton.edges, "side": side}
