"""What is to be done: which stream and which overlay belongs to which input, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from posecli.errors import UsageError
from posecli.spans import Span
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Input, container_of

__all__ = ["STREAM_SUFFIX", "Job", "Summary", "many_pictures", "plan_jobs"]

STREAM_SUFFIX = ".poses.jsonl"


@dataclass(frozen=True)
class Job:
    """One source with the places of its outputs; ``stream`` is None for standard output, ``overlay`` for none; ``span``
    is the part of it that is looked at where others look at the rest."""

    input: Input
    stream: Path | None
    overlay: Path | None
    span: Span | None = None


@dataclass
class Summary:
    """What came of one source; ``finished``: nothing was left to do, its stream is there from an earlier run;
    ``outside``: pictures that the region asked for lies outside of, with the first few in ``outside_of``; ``sound``:
    what became of the overlay's, see `VideoWriter.audio` (with smoothing known when the whole stream is smoothed)."""

    name: str
    stream: str | None
    overlay: str | None
    frames: int = 0
    people: int = 0
    broken: int = 0
    repaired: int = 0
    outside: int = 0
    resumed_at: int | None = None
    sound: str = "none"
    problems: list[str] = field(default_factory=list)
    outside_of: list[str] = field(default_factory=list)
    finished: bool = False


def plan_jobs(
    inputs: Sequence[Input],
    out: str | None,
    *,
    render: bool,
    render_out: str | None,
    folder: Path = Path(),
    overlays: Path | None = None,
) -> list[Job]:
    """Names the outputs of every input.

    Args:
        inputs: what to look at.
        out: a ``.jsonl`` file (all sources in one stream), ``-`` for standard output, a folder (a stream each), or
            None: ``NAME.poses.jsonl`` in ``folder``, or in ``folder/poses`` for several inputs.
        render: also make overlays.
        render_out: the overlay's file (one input) or folder.
        folder: where outputs without a name of their own go.
        overlays: where overlays without a name of their own go; by default beside the stream.

    Raises:
        UsageError: outputs that would overwrite each other or an input; an overlay that is no video, picture or folder
            by its name, as its input wants it.
    """
    single = len(inputs) == 1
    one_stream = out is not None and (out == "-" or out.endswith(".jsonl"))
    jobs = []
    for item in inputs:
        stem = _stem(item)
        if out == "-":
            stream, beside = None, folder
        elif one_stream:
            stream, beside = Path(str(out)), Path(str(out)).parent
        else:
            beside = Path(out) if out is not None else folder if single else folder / "poses"
            stream = beside / f"{stem}{STREAM_SUFFIX}"
        overlay = None
        if render or render_out:
            name = f"{stem}.overlay" + ("" if many_pictures(item) else ".jpg" if item.kind == "pictures" else ".mp4")
            if render_out is not None and single and (many_pictures(item) or Path(render_out).suffix):
                overlay = Path(render_out)
            elif render_out is not None:
                overlay = Path(render_out) / name
            else:
                overlay = (overlays or beside) / name
            if item.kind != "pictures":
                container_of(overlay)
            elif render_out is not None:
                _check_drawn(item, overlay, render_out)
        jobs.append(Job(item, stream, overlay))
    read = {Path(i.path).resolve() for i in inputs if i.kind == "video" or many_pictures(i)}
    read |= {(Path(i.path) / name).resolve() for i in inputs for name in i.files}
    for place in (p for job in jobs for p in (job.stream, job.overlay) if p is not None):
        if place.resolve() in read:
            raise UsageError("the output is an input", str(place), "choose another name")
    places = [j.overlay for j in jobs if j.overlay] + ([] if one_stream else [j.stream for j in jobs if j.stream])
    if len(set(places)) < len(places):
        twice = next(p for p in places if places.count(p) > 1)
        raise UsageError(f"two inputs would be written to {twice}", hint="give them one by one, or --out all.jsonl")
    return jobs


def _check_drawn(item: Input, overlay: Path, render_out: str) -> None:
    """UsageError where pictures would be drawn in a video, several in one, or one in no picture, by the name given."""
    if not many_pictures(item):
        if overlay.suffix.lower() not in PICTURE_SUFFIXES:
            raise UsageError("a picture is drawn on a picture", str(overlay), "--render-out NAME.png")
        return
    folder = render_out.endswith(("/", "\\")) or overlay.is_dir()
    if not folder and overlay.suffix.lower() in VIDEO_SUFFIXES | PICTURE_SUFFIXES:
        raise UsageError("pictures are drawn on pictures, in a folder", str(overlay), "--render-out NAME/")


def many_pictures(item: Input) -> bool:
    """Whether an input is a folder of pictures, drawn in a folder."""
    return item.kind == "pictures" and len(item.files) > 1


def _stem(item: Input) -> str:
    """Name of an input's outputs, folders below the one given kept: ``front/scene.mp4`` to ``front/scene``."""
    if item.kind in ("camera", "url"):
        return "".join(c if c.isalnum() or c in "-_" else "_" for c in item.name.rsplit("/", 1)[-1]) or item.kind
    name = PurePosixPath(item.name)
    if name.is_absolute() or ".." in name.parts:
        name = PurePosixPath(name.name)
    known = item.kind == "video" or (item.kind == "pictures" and not many_pictures(item)) or name.suffix == ".json"
    return str(name.with_suffix("") if known else name)
