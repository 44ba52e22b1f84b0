"""What is to be done: which stream and which overlay belongs to which input, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from posecli.errors import PoseError, UsageError
from posecli.files import refuse_no_folder
from posecli.infer_options import InferOptions
from posecli.spans import Span
from posecli.video import PICTURE_SUFFIXES, VIDEO_SUFFIXES, Input, container_of

__all__ = ["LIVE", "STREAM_SUFFIX", "Job", "OverlayError", "Summary", "many_pictures", "part_of_job", "plan_jobs"]

STREAM_SUFFIX = ".poses.jsonl"
LIVE = ("camera", "url")  # kinds of inputs that can't be read again


class OverlayError(PoseError):
    """An overlay can't be written: others can, and of this source what is no picture."""


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

    Names are those of the inputs without their suffix, and with it where two would be written to one place.

    Raises:
        PoseError: an output would lie below a file.
        UsageError: outputs that would overwrite each other or an input; an overlay that is no video, picture or folder
            by its name, as its input wants it.
    """
    single = len(inputs) == 1
    one_stream = out is not None and (out == "-" or out.endswith(".jsonl"))

    def planned(item: Input, stem: str) -> Job:
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
        return Job(item, stream, overlay)

    def twice(jobs: Sequence[Job]) -> set[Path]:
        """Places that several jobs would write to."""
        places = [j.overlay for j in jobs if j.overlay] + ([] if one_stream else [j.stream for j in jobs if j.stream])
        return {place for place, count in Counter(places).items() if count > 1}

    jobs = [planned(item, _stem(item)) for item in inputs]
    if alike := twice(jobs):
        jobs = [planned(j.input, _stem(j.input, whole=True)) if {j.stream, j.overlay} & alike else j for j in jobs]
    read = {Path(i.path).resolve() for i in inputs if i.kind == "video" or many_pictures(i)}
    read |= {(Path(i.path) / name).resolve() for i in inputs for name in i.files}
    for place in (p for job in jobs for p in (job.stream, job.overlay) if p is not None):
        if place.resolve() in read:
            raise UsageError("the output is an input", str(place), "choose another name")
    if alike := twice(jobs):
        place = min(alike)
        raise UsageError(f"two inputs would be written to {place}", hint="give them one by one, or --out all.jsonl")
    for place in (p for job in jobs for p in (job.stream, job.overlay) if p is not None):
        refuse_no_folder(place)
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


def _stem(item: Input, *, whole: bool = False) -> str:
    """Name of an input's outputs, folders below the one given kept: ``front/scene.mp4`` to ``front/scene``; ``whole``:
    with its suffix."""
    if item.kind in ("camera", "url"):
        return "".join(c if c.isalnum() or c in "-_" else "_" for c in item.name.rsplit("/", 1)[-1]) or item.kind
    name = PurePosixPath(item.name)
    if name.is_absolute() or ".." in name.parts:
        name = PurePosixPath(name.name)
    known = item.kind == "video" or (item.kind == "pictures" and not many_pictures(item)) or name.suffix == ".json"
    return str(name.with_suffix("") if known and not whole else name)


def part_of_job(options: InferOptions, job: Job) -> InferOptions:
    """The options for a job that looks at a part of its source."""
    return options if job.span is None else replace(options, start=job.span.first, end=job.span.stop)
