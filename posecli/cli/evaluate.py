"""`posecli evaluate`: predictions against labels, as a table, as JSON, as a page."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import (
    PLAIN,
    DebugOption,
    JsonOption,
    OverwriteOption,
    QuietOption,
    RayCpusOption,
    RayOption,
    RayWorkersOption,
    console,
    print_json,
    refuse_dash,
    refuse_inputs,
    refuse_without,
    warn,
)
from posecli.cli.evaluate_each import evaluate_each
from posecli.cli.stored import through_storage

if TYPE_CHECKING:
    from rich.console import Console


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _thresholds(texts: list[str] | None) -> Any:
    """``["pck=0.1,0.2", "pcp=0.5"]`` to a mapping; ``["0.1,0.2"]`` speaks of all metrics that count shares."""
    from posecli.errors import UsageError

    if not texts:
        return None
    chosen: dict[str, list[float]] = {}
    for text in texts:
        name, equals, values = text.rpartition("=")
        try:
            numbers = [float(v) for v in _names(values)]
        except ValueError:
            raise UsageError(f"--thresholds {text}: not numbers", hint="pck=0.1,0.2 or 0.1,0.2") from None
        for metric in [name] if equals else ["pck", "pckh", "pdj", "pcp"]:
            chosen[metric] = numbers
    return chosen


@through_storage(reads=["gt", "pred", "pred2", "image_root"], writes=["heat_csv", "heat_plot", "report", "each"])
def evaluate(
    context: typer.Context,
    gt: Annotated[Path, typer.Argument(metavar="GT", help="Labels: COCO keypoint JSON, or anything convert reads.")],
    pred: Annotated[
        str,
        typer.Argument(
            metavar="PRED",
            help="Pose stream (- for stdin), folder of streams, COCO results, AlphaPose, mmpose, MediaPipe, OpenPose "
            "folder, YOLO's text files; or a second set of labels.",
        ),
    ],
    pred2: Annotated[
        str | None, typer.Argument(metavar="[PRED2]", help="A second prediction, compared with the first.")
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Of oks, crowdpose, pck, pckh, pdj, pcp, pcp-relaxed, epe, nme, heat; with ids in the stream also "
            "mota, idf1, hota and posetrack (MOTA of joints)."
        ),
    ] = "oks,pck,pckh,pdj,pcp,heat",
    thresholds: Annotated[
        list[str] | None,
        typer.Option(
            help="pck=0.1,0.2 for one metric (may be repeated), or 0.1,0.2 for pck, pckh, pdj and pcp; pixels=5,10 for "
            "--pck-reference pixels; tracking=0.7: the OKS of mota and idf1 (0.5)."
        ),
    ] = None,
    by: Annotated[str, typer.Option(help="Rows beside the total: tag, video, track, joint; or none.")] = "tag",
    match: Annotated[str, typer.Option(help="How people pair up: oks, iou, top-score.")] = "oks",
    misses: Annotated[str, typer.Option(help="Joints of people nobody was paired with: wrong or skip.")] = "wrong",
    min_joints: Annotated[int, typer.Option(help="Ignore people with fewer labelled joints.", min=1)] = 1,
    joints: Annotated[str, typer.Option(help="Compare these joints only (names, commas between).")] = "",
    pck_reference: Annotated[
        str,
        typer.Option(help="PCK's reference lengths: auto, torso, box, head-segment, head-box, pixels; one or several."),
    ] = "auto",
    pckh_reference: Annotated[str, typer.Option(help="PCKh's: auto, head-box (0.6 diagonal), head-segment.")] = "auto",
    compat: Annotated[
        str | None,
        typer.Option(
            help="Count as another scorer does: mmpose (PCK with <, torso of joints 4 and 5), hrnet (PCKh@0.1 at 0.11, "
            "no pelvis and thorax), crowdpose (levels rounded), deeppose (PDJ with <, ten sticks), poseval (last "
            "frames dropped, placeholders). The result states the rules and the scorer's own figures."
        ),
    ] = None,
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Leave out labelled frames the stream has no line for.")
    ] = False,
    skeleton: Annotated[
        str | None,
        typer.Option(help="Skeleton of labels (and predictions) that do not name their joints: name or skeleton.toml."),
    ] = None,
    pred_skeleton: Annotated[
        str | None, typer.Option(help="Skeleton of predictions that do not name their joints, if not the labels'.")
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(
            help="Draws for 95 % intervals, over videos or pictures. (default: 0; 1000 with PRED2 or --report)", min=0
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", min=0)] = 0,
    diagnose: Annotated[
        bool,
        typer.Option("--diagnose", help="Kinds of errors (jitter, inversion, swap, miss, ...) and what each costs."),
    ] = False,
    heat_csv: Annotated[Path | None, typer.Option(help="Write the local NMS score per frame as CSV.")] = None,
    heat_plot: Annotated[Path | None, typer.Option(help="Draw it over the frames (.png, .svg, .pdf).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    examples: Annotated[int, typer.Option(help="People of each kind drawn in the report; 0 for none.", min=0)] = 8,
    image_root: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the pictures and videos that sizes and the report's drawings are taken from, if not where "
            "the labels say."
        ),
    ] = None,
    each: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="GT and PRED are folders: each .json of GT is measured with the poses of the same name in PRED; a "
            "result for each goes to DIR.",
            rich_help_panel="Many files",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="--each: keep results that are there.", rich_help_panel="Many files")
    ] = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    ray_cpus: RayCpusOption = 1.0,
    json: JsonOption = False,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure predictions against labels.

    Example: posecli evaluate coco.json clip.poses.jsonl --by tag,joint

    Frames meet by picture name, video name and frame, or image_id; joints meet by name. OKS-AP is COCO's; the others
    count each labelled person once, paired with one predicted person.
    """
    from posecli.errors import UsageError
    from posecli.metrics.options import refuse_unused
    from posecli.on_ray import Cluster
    from posecli.skeletons import get_skeleton
    from posecli.storage import current

    extras = _Extras(heat_csv, heat_plot, report, examples, image_root, by, diagnose, overwrite)
    _refuse_outputs(extras, each, [gt, pred, pred2])
    if pred == pred2 == "-":
        raise UsageError("both predictions can't come from standard input", hint="give a file")
    if (heat_csv or heat_plot) and metrics is not None and "heat" not in _names(metrics):
        raise UsageError("--heat-csv and --heat-plot show the metric heat", hint="--metrics ...,heat")
    if report is None:
        refuse_without("--report", context, "examples")
    limits = _thresholds(thresholds)
    refuse_unused(_names(metrics), pck_reference, pckh_reference, limits or {})
    if report is not None and bootstrap is None:
        bootstrap = 1000
    options: dict[str, Any] = {
        "metrics": _names(metrics), "match": match, "misses": misses,
        "by": extras.rows if report is None else [*extras.rows, "joint"], "thresholds": limits,
        "bootstrap": bootstrap, "seed": seed, "min_joints": min_joints, "joints": _names(joints) or None,
        "pck_reference": pck_reference, "pckh_reference": pckh_reference, "compat": compat,
        "only_predicted": only_predicted, "diagnose": diagnose or report is not None,
        "skeleton": get_skeleton(skeleton) if skeleton else None,
        "pred_skeleton": get_skeleton(pred_skeleton) if pred_skeleton else None, "image_root": image_root,
    }  # fmt: skip
    cluster = Cluster.asked(ray, ray_workers, ray_cpus)
    if each is None:
        if resume or ray:
            raise UsageError(f"{'--resume' if resume else '--ray'} is for --each")
        result = _compared(gt, pred, pred2, options, extras, quiet)
        if json:
            print_json(result)
        else:
            _print_result(result)
        return
    if pred2 is not None or pred == "-" or any((report, heat_csv, heat_plot)):
        raise UsageError("--each gives a result for each pair of files", hint="reports and PRED2: pair by pair")
    if resume and overwrite:
        raise UsageError("--resume goes on with what is there, --overwrite replaces it", hint="give one of them")
    if ray and current() is not None:
        raise UsageError("--ray wants files that all machines see, not URLs")
    evaluate_each(
        gt, Path(pred), each, options, cluster=cluster, resume=resume, overwrite=overwrite, json=json, quiet=quiet
    )


@dataclass(frozen=True)
class _Extras:
    """What is written beside the table, and what the table shows."""

    heat_csv: Path | None
    heat_plot: Path | None
    report: Path | None
    examples: int
    image_root: Path | None
    by: str
    diagnose: bool
    overwrite: bool

    @property
    def files(self) -> list[Path | None]:
        return [self.heat_csv, self.heat_plot, self.report]

    @property
    def rows(self) -> list[str]:
        """The kinds of rows asked for."""
        return [] if self.by == "none" else _names(self.by)


def _refuse_outputs(extras: _Extras, each: Path | None, inputs: list[str | Path | None]) -> None:
    """Errors of outputs that can't be written, before anything is measured."""
    from importlib.util import find_spec

    from posecli.errors import MissingExtra, PoseError

    for option, path in (("--heat-plot", extras.heat_plot), ("--report", extras.report)):
        if path is not None and find_spec("matplotlib") is None:
            raise MissingExtra("matplotlib", "plots", option)
    refuse_dash(heat_csv=extras.heat_csv, heat_plot=extras.heat_plot, report=extras.report, each=each)
    refuse_inputs(extras.files, inputs)
    for path in extras.files:
        if path is not None and path.exists() and not extras.overwrite:
            raise PoseError("the output exists already", str(path), "choose another name or give --overwrite")


def _compared(
    gt: Path, pred: str, pred2: str | None, options: dict[str, Any], extras: _Extras, quiet: bool
) -> dict[str, Any]:
    """The result as it is printed; files asked for are written."""
    from posecli.metrics import evaluate as compare
    from posecli.metrics.local_score import plot_heat, write_heat_csv
    from posecli.storage import current

    seen: list[Any] = []  # whom the report draws
    on_sides = None if extras.report is None else lambda labels, sides: seen.append((labels, sides))
    with console(quiet).status("comparing"):  # a spinner on terminals, nothing elsewhere
        result = compare(gt, pred, pred2, **options, warn=warn, on_sides=on_sides)
    if (storage := current()) is not None:
        for part in (result, result.get("second", {})):
            part.update((key, storage.said(part[key])) for key in ("labels", "predictions") if key in part)
    if extras.by == "tag":  # the default must not complain about labels without tags
        result["notes"] = [n for n in result["notes"] if n != "no rows by tag: the labels have no tags"]
    if extras.heat_csv is not None:
        write_heat_csv(result["heat_curve"], extras.heat_csv, overwrite=extras.overwrite)
    if extras.heat_plot is not None:
        plot_heat(result["heat_curve"], extras.heat_plot, overwrite=extras.overwrite)
    if extras.report is None:
        return result
    from posecli.reports import write_report

    labels, sides = seen[0]
    with console(quiet).status("writing the report"):
        write_report(
            result, extras.report, labels=labels, sides=sides, image_root=extras.image_root, examples=extras.examples,
            streams=[p for p in (pred, pred2) if p and p != "-"], overwrite=extras.overwrite,
        )  # fmt: skip
    for part in [result] + ([result["second"]] if "second" in result else []):  # what only the report asked for
        for kind in ("joint", "limb") if "joint" not in extras.rows else ():
            part["groups"].pop(kind, None)
        if not extras.diagnose:
            part.pop("diagnosis", None)
    return result


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console

    from posecli.metrics.summary import details, diagnosis_tables, difference_table, error_rows, part_table

    # Piped output is not wrapped at 80 columns: a table broken over lines is no use to a reader or a program.
    out = Console(**PLAIN, width=None if sys.stdout.isatty() else 160)
    _print_main_table(out, result)
    for kind in ("joint", "limb"):
        if result["groups"].get(kind):
            _print_part_table(out, f"by {kind} (x 100)", *part_table(result["groups"][kind]))
            if "difference" in result:
                table = difference_table(result["difference"]["groups"][kind])
                _print_part_table(out, f"second - first by {kind} (x 100); * the difference holds", *table)
    for title, headings, rows in diagnosis_tables(result):
        _print_part_table(out, title, headings, rows)
    if "joint" in result["groups"]:
        for part in result.get("diagnosis", {}).values():
            _print_part_table(out, f"kinds of error by joint, per cent ({part['metric']})", *error_rows(part))
    for line in details(result):
        out.print(line, markup=False, soft_wrap=True)


def _print_main_table(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    from posecli.metrics.summary import main_table

    headings, blocks = main_table(result)
    table = Table(title=f"{result['predictions']} against {result['labels']} (x 100)", title_justify="left")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for block in blocks:
        for cells in block:
            table.add_row(*cells)
        table.add_section()
    if "second" in result:
        table.caption = (
            f"first: {result['predictions']}; second: {result['second']['predictions']}; "
            "* the difference holds: its interval leaves out 0 and p <= 0.05"
        )
    console.print(table)


def _print_part_table(console: Console, title: str, headings: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table

    console.print(title, markup=False, soft_wrap=True)
    table = Table()
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
