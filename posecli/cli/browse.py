"""`posecli browse`: a data set, a pose stream, or both as a gallery that opens in any browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from posecli.cli.common import (
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    console,
    print_json,
    progress,
    refuse_dash,
    refuse_inputs,
    warn,
)


def browse(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DATA", help="Labels (COCO JSON, or anything convert reads), or a pose stream (.jsonl)."
        ),
    ],
    pred: Annotated[
        str | None, typer.Argument(metavar="[PRED]", help="Pose stream or COCO results to show on the labels.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="One file (.html), or a folder. Default: NAME.gallery.html in the current folder, "
            "NAME.gallery/ for more than 400 frames.",
            show_default=False,
        ),
    ] = None,
    image_root: Annotated[
        Path | None, typer.Option(help="Folder of the pictures or videos, if not where the data says.")
    ] = None,
    limit: Annotated[
        int, typer.Option(help="Show at most so many frames, spread evenly over all; 0 for all.", min=0)
    ] = 2000,
    min_score: Annotated[
        float | None,
        typer.Option(help="Least score of a person. (default: the stream's display threshold)", min=0, max=1),
    ] = None,
    size: Annotated[int, typer.Option(help="Longer side of the stored pictures, pixels.", min=64, max=4096)] = 480,
    skeleton: Annotated[
        str | None, typer.Option(help="Skeleton of the labels (name or skeleton.toml) in place of the file's.")
    ] = None,
    overwrite: OverwriteOption = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Look at labels and predictions: a gallery with skeletons, filters and search.

    Example: posecli browse coco.json poses.jsonl --out gallery.html

    The page opens from disk, without a server. With labels and predictions it filters by error: who was missed, who is
    false, how alike the skeletons are.
    """
    from posecli.errors import UsageError
    from posecli.formats import read_dataset
    from posecli.formats.pose_stream import is_named
    from posecli.reports.gallery import ONE_FILE, write_gallery
    from posecli.reports.items import add_predictions, of_dataset, of_stream, read_predicted

    refuse_dash(out=out)
    refuse_inputs([out], [source, pred])
    with console(quiet).status("reading"):
        if is_named(source, (".jsonl",)):
            if pred is not None:
                raise UsageError("labels come first", source, "posecli browse LABELS PREDICTIONS")
            if skeleton is not None:
                raise UsageError("a pose stream brings its own skeleton", source, "leave --skeleton out")
            folder = Path(".") if source == "-" else Path(source).parent
            roots = [image_root] if image_root is not None else [folder, Path(".")]
            collection = of_stream(read_predicted(source, None, min_score, warn), roots)
        else:
            dataset = read_dataset(source, skeleton=skeleton, image_root=image_root, warn=warn)
            collection = of_dataset(dataset, image_root)
            if pred is not None:
                add_predictions(collection, dataset, read_predicted(pred, dataset.skeleton, min_score, warn))
            elif min_score is not None:
                raise UsageError("--min-score is for predictions", source)
    count = min(len(collection.items), limit or len(collection.items))
    if out is None:
        name = "stream" if source == "-" else Path(source.rstrip("/")).name
        stem = name.removesuffix(".jsonl").removesuffix(".json") or "data"
        out = Path(f"{stem}.gallery.html" if count <= ONE_FILE else f"{stem}.gallery")
    with progress(quiet) as bar:
        task = bar.add_task("pictures", total=count)
        report = write_gallery(
            collection,
            out,
            title=source if source != "-" else "pose stream",
            predictions=pred or "",
            limit=limit or None,
            picture_size=size,
            overwrite=overwrite,
            on_frame=lambda: bar.advance(task),
        )
    if report.missing:
        warn(f"{report.missing} of {report.shown} pictures could not be read, drawn blank ({report.problem})")
    if json:
        print_json({**vars(report), "path": str(report.path)})
    else:
        rest = f" of {report.of}" if report.of != report.shown else ""
        print(f"{report.path}: {report.shown}{rest} frames, {report.size / 1e6:.1f} MB")
