"""posecli's own pose stream (``.jsonl``) read as labels: predictions to be corrected, or to be labels as they are.

`posecli.predictions` tells the form; `labels_of_poses` what becomes of it: people below the header's display threshold
are left out and counted, a joint above the score threshold is visible (2), a weaker one uncertain (1), ``null``
missing; scores and track ids stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from posecli.formats.label_poses import labels_of_poses
from posecli.formats.sniffing import head_of
from posecli.predictions import read_stream
from posecli.types import Dataset

if TYPE_CHECKING:
    from posecli.formats import ReadOptions


def recognise(src: Path) -> str | None:
    """A reason when ``src`` is a file that begins with a stream's header."""
    if src.is_file() and re.match(rb'\{\s*"posecli"\s*:\s*\d', head_of(src, 256)):
        return "it begins with the header of a pose stream"
    return None


def is_named(place: str | Path, suffixes: tuple[str, ...] = (".jsonl", ".ndjson")) -> bool:
    """Whether a source is a pose stream by its name (``-`` is standard input), and no landmarks of MediaPipe in lines,
    whose files have the same suffix."""
    from posecli.formats import mediapipe

    return str(place) == "-" or (str(place).endswith(suffixes) and mediapipe.recognise(Path(place)) is None)


def read(src: str | Path, options: ReadOptions, warn: Callable[[str], None]) -> Dataset:
    """Reads the stream as labels; videos and pictures are looked for in ``options.image_root`` (None: beside it).

    Raises:
        PoseError: what `read_stream` and `labels_of_poses` refuse, file and line named.
    """
    root = Path(src).parent if options.image_root is None else Path(options.image_root)
    stream = read_stream(src, warn=warn)
    return labels_of_poses(stream, root=root, score_threshold=options.score_threshold, warn=warn)
