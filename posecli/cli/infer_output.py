"""What `posecli infer` writes: the form, the places, and what does not go with them."""

from __future__ import annotations

from dataclasses import dataclass

from posecli.cli.common import OTHER_FORMS


@dataclass(frozen=True)
class Output:
    """What is written, where, and what is told.

    Attributes:
        kind: "stream", "coco", "csv" or "openpose"; see `kind_of`.
        out: a file, a folder, "-" for standard output, or None: beside one another in the current folder.
        render, render_out: an overlay is drawn; where it goes.
        plots: pages over time are written beside the streams.
        profile: what each stage took is told.
        overwrite, resume: outputs that are there are replaced; or gone on with.
        json, quiet: the result is told as JSON; nothing else is told.
    """

    kind: str
    out: str | None
    render: bool
    render_out: str | None
    plots: bool
    profile: bool
    overwrite: bool
    resume: bool
    json: bool
    quiet: bool

    def __post_init__(self) -> None:
        from pathlib import Path

        from posecli.errors import UsageError
        from posecli.files import is_passed_on

        if self.resume and (self.overwrite or self.out == "-"):
            hint = "without --overwrite, with a file as --out"
            raise UsageError("--resume goes on with a file that is there", hint=hint)
        if self.kind != "stream" and self.resume:
            raise UsageError("--resume is for streams", hint="infer to a stream, then posecli convert it")
        if self.json and self.out == "-":
            raise UsageError("--json and --out - both want standard output", hint="give --out a file")
        if self.plots and (self.kind != "stream" or self.out == "-" or (self.out and is_passed_on(Path(self.out)))):
            raise UsageError("--plots is drawn from a stream", hint="--out NAME.jsonl")
        if self.plots:  # now, not when all is done
            from posecli.reports.plots import require_matplotlib

            require_matplotlib()

    def check_shared(self, *, segments: bool, here: bool, smoothed: bool) -> None:
        """Refuses what work that is shared cannot give.

        Args:
            segments: videos are cut into segments.
            here: whole inputs are looked at by this process: a shard of them.
            smoothed: joints are made steady, or gaps filled.
        """
        from posecli.errors import UsageError

        if self.kind != "stream" or self.out == "-":
            raise UsageError(
                "shared work gives streams", hint="posecli merge and posecli convert make the rest of them"
            )
        if not here and (self.plots or smoothed):
            raise UsageError("--smooth and --plots follow a whole stream", hint="posecli smooth, after posecli merge")
        if not here and self.profile:
            raise UsageError("--profile is for one process and whole inputs", hint="without --segments and --ray")
        if segments and (self.render or self.render_out):
            raise UsageError("segments have no overlay", hint="posecli render VIDEO STREAM afterwards")


def kind_of(name: str | None, out: str | None) -> str:
    """The form that ``--format`` or the ending of ``--out`` asks for."""
    from pathlib import Path

    from posecli.errors import UsageError

    suffix = "." + (out or "").rsplit(".", 1)[-1]
    kind = name or {".json": "coco", ".csv": "csv"}.get(suffix, "stream")
    # Other suffixes belong to folders of streams, which may have a dot in their name.
    slips = OTHER_FORMS | {".jsonl", ".ndjson"}
    if kind == "stream" and suffix != ".jsonl" and suffix.lower() in slips and not Path(str(out)).is_dir():
        raise UsageError(f"--out {out}: poses are not written as {suffix}", hint=".jsonl, .json, .csv, or a folder")
    if kind not in ("stream", "coco", "csv", "openpose"):
        raise UsageError(f"unknown format {kind!r}", hint="stream, coco, csv or openpose")
    if kind != "stream" and out in (None, "-"):
        raise UsageError(f"--format {kind} needs --out", hint="a file for coco and csv, a folder for openpose")
    return kind
