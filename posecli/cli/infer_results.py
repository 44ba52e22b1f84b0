"""What `posecli infer` says when its work is done: names of files, JSON, the profile's table, pages over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from posecli.cli.common import console, print_json, warn

if TYPE_CHECKING:
    from pathlib import Path

    from posecli.infer_jobs import Job, Summary


def places_of_plots(jobs: list[Job]) -> dict[Path, Path]:
    """Each stream with the place of its page over time."""
    streams = dict.fromkeys(job.stream for job in jobs if job.stream is not None)
    return {s: s.with_name(s.name.removesuffix(".jsonl").removesuffix(".poses") + ".plots.html") for s in streams}


def plot_pages(jobs: list[Job], overwrite: bool) -> list[str]:
    """Writes the page over time of each stream; their names. What can't be drawn is told and leaves the others."""
    from posecli.errors import PoseError
    from posecli.reports.over_time import write_over_time

    pages = []
    for stream, page in places_of_plots(jobs).items():
        videos = {j.input.name: str(j.input.path) for j in jobs if j.stream == stream and j.input.kind == "video"}
        try:
            write_over_time(stream, page, videos=videos, overwrite=overwrite)
        except PoseError as error:  # nobody was seen in this one
            warn(str(error))
        else:
            pages.append(str(page))
    return pages


def tell(summaries: list[Summary], quiet: bool, json_: bool, profile: dict[str, Any] | None) -> None:
    """The result: JSON or the names of the files on stdout (unless the stream is there), what happened on stderr."""
    from dataclasses import asdict

    talk = console(quiet)
    for s in summaries:
        if s.overlay is not None and s.sound not in ("copied", "none"):
            warn(f"{s.overlay}: sound {s.sound}")
        if s.resumed_at is not None:
            talk.print(f"{s.name}: went on at frame {s.resumed_at}", markup=False)
        if s.finished:
            talk.print(f"{s.name}: was finished already", markup=False)
            continue
        talk.print(f"{s.name}: {s.frames} frames, {s.people / max(s.frames, 1):.2f} people a frame", markup=False)
        if s.frames == 0 and s.resumed_at is None:
            warn(f"{s.name}: no frame was looked at: it ends before --start")
        if s.broken:
            warn(f"{s.name}: {s.broken} frames could not be decoded ({'; '.join(s.problems[:3])})")
        if s.outside:
            some = ", ".join([*s.outside_of[:3], *(["..."] if s.outside > 3 else [])])
            warn(f"{s.name}: {s.outside} pictures were not looked at: --roi lies outside of them ({some})")
        if s.repaired:
            warn(f"{s.name}: {s.repaired} time stamps were missing or out of order and were replaced")
    if json_:
        found = [asdict(s) for s in summaries]
        print_json(found if profile is None else {"sources": found, "profile": profile})
        return
    if profile is not None:
        _tell_profile(profile)
    piped = any(s.stream is None for s in summaries)  # then standard output is the stream, and nothing else
    for place in dict.fromkeys(p for s in summaries for p in (s.stream, s.overlay) if p is not None):
        if piped:
            talk.print(place)
        else:
            typer.echo(place)


def _tell_profile(profile: dict[str, Any]) -> None:
    """The table of `--profile`, on stderr."""
    from rich.table import Table

    talk = console(False)
    table = Table("stage", *("core-s", "share", "core-ms a frame", "seconds", "runs"), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in profile["stages"]:
        seconds = "" if row["seconds"] is None else f"{row['seconds']:.2f}"
        table.add_row(
            row["stage"],
            f"{row['core_seconds']:.2f}",
            f"{row['share']:.0%}",
            f"{row['ms_per_frame']:.2f}",
            seconds,
            "" if row["calls"] is None else str(row["calls"]),
        )
    talk.print(table)
    for name, seconds in profile["waits"].items():
        talk.print(f"waited {seconds:.2f} s  {name}")
    talk.print(
        f"{profile['frames']} frames in {profile['seconds']:.2f} s ({profile['frames_per_second']:.1f} a second), "
        f"{profile['core_seconds']:.2f} core-seconds; the limit is: {profile['limit']}"
    )
