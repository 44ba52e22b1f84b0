"""`posecli evaluate`: predictions against labels, as a table, as JSON, as a page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import DebugOption, JsonOption, OverwriteOption, QuietOption, print_json, warn

if TYPE_CHECKING:
    from rich.console import Console

# Metric key prefix, heading; the first threshold of each metric makes its column.
_COLUMNS = (
    ("AP", "OKS-AP"),
    ("mean_OKS", "mean OKS"),
    ("PCK@", "PCK"),
    ("PCKh@", "PCKh"),
    ("PDJ_AUC", "PDJ AUC"),
    ("PCP@", "PCP"),
    ("heat", "heat"),
)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _thresholds(texts: list[str] | None) -> Any:
    """``["pck=0.1,0.2", "pcp=0.5"]`` to a mapping, ``["0.1,0.2"]`` to a list for all metrics."""
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


def evaluate(
    gt: Annotated[Path, typer.Argument(metavar="GT", help="Labels: COCO keypoint JSON, or anything convert reads.")],
    pred: Annotated[
        str, typer.Argument(metavar="PRED", help="Pose stream (- for stdin), folder of streams, or COCO results.")
    ],
    pred2: Annotated[
        str | None, typer.Argument(metavar="[PRED2]", help="A second prediction, compared with the first.")
    ] = None,
    metrics: Annotated[str, typer.Option(help="Of oks, pck, pckh, pdj, pcp, heat.")] = "oks,pck,pckh,pdj,pcp,heat",
    thresholds: Annotated[
        list[str] | None,
        typer.Option(help="pck=0.1,0.2 for one metric (may be repeated), or 0.1,0.2 for pck, pckh, pdj and pcp."),
    ] = None,
    by: Annotated[str, typer.Option(help="Rows beside the total: tag, video, track, joint; or none.")] = "tag",
    match: Annotated[str, typer.Option(help="How people pair up: oks, iou, top-score.")] = "oks",
    misses: Annotated[str, typer.Option(help="Joints of people nobody was paired with: wrong or skip.")] = "wrong",
    min_joints: Annotated[int, typer.Option(help="Ignore people with fewer labelled joints.", min=1)] = 1,
    joints: Annotated[str, typer.Option(help="Compare these joints only (names, commas between).")] = "",
    pck_reference: Annotated[str, typer.Option(help="PCK's reference length: auto, torso, box.")] = "auto",
    only_predicted: Annotated[
        bool, typer.Option("--only-predicted", help="Leave out labelled frames the stream has no line for.")
    ] = False,
    skeleton: Annotated[
        str | None, typer.Option(help="Skeleton of the labels (name or skeleton.toml) in place of the file's.")
    ] = None,
    pred_skeleton: Annotated[
        str | None, typer.Option(help="Skeleton of a COCO results list whose joints are not the labels'.")
    ] = None,
    bootstrap: Annotated[
        int | None,
        typer.Option(help="Draws for 95 % intervals, over videos or pictures. [default: 0; 1000 with PRED2]", min=0),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.", min=0)] = 0,
    heat_csv: Annotated[Path | None, typer.Option(help="Write the local NMS score per frame as CSV.")] = None,
    heat_plot: Annotated[Path | None, typer.Option(help="Draw it over the frames (.png, .svg, .pdf).")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
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
    from posecli.errors import MissingExtra, PoseError
    from posecli.metrics import evaluate as compare
    from posecli.skeletons import get_skeleton

    for path in (heat_csv, heat_plot, report):
        if path is not None and path.exists() and not overwrite:
            raise PoseError("the output exists already", str(path), "choose another name or give --overwrite")
    if heat_plot is not None:
        from importlib.util import find_spec

        if find_spec("matplotlib") is None:
            raise MissingExtra("matplotlib", "plots", "--heat-plot")
    result = compare(
        gt,
        pred,
        pred2,
        metrics=_names(metrics),
        match=match,
        misses=misses,
        by=[] if by == "none" else _names(by),
        thresholds=_thresholds(thresholds),
        bootstrap=bootstrap,
        seed=seed,
        min_joints=min_joints,
        joints=_names(joints) or None,
        pck_reference=pck_reference,
        only_predicted=only_predicted,
        skeleton=get_skeleton(skeleton) if skeleton else None,
        pred_skeleton=get_skeleton(pred_skeleton) if pred_skeleton else None,
        warn=warn,
    )
    if by == "tag":  # the default must not complain about labels without tags
        result["notes"] = [n for n in result["notes"] if n != "no rows by tag: the labels have no tags"]
    if heat_csv is not None or heat_plot is not None:
        from posecli.metrics.local_score import plot_heat, write_heat_csv

        if heat_csv is not None:
            write_heat_csv(result["heat_curve"], heat_csv, overwrite=overwrite)
        if heat_plot is not None:
            plot_heat(result["heat_curve"], heat_plot, overwrite=overwrite)
    if report is not None:
        from posecli.metrics.report import write_report

        write_report(result, report, overwrite=overwrite)
    if json:
        print_json(result)
    else:
        _print_result(result)


def _print_result(result: dict[str, Any]) -> None:
    from rich.console import Console

    # Piped output is not wrapped at 80 columns: a table broken over lines is no use to a reader or a program.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    _print_main_table(console, result)
    for kind in ("joint", "limb"):
        if result["groups"].get(kind):
            _print_part_table(console, kind, result["groups"][kind])
    for line in details(result):
        console.print(line, markup=False, soft_wrap=True)


def main_columns(result: dict[str, Any]) -> list[tuple[str, str]]:
    """``(key, heading)`` of the table's columns that have a value in any row."""
    rows = [row for _, row in main_rows(result)]
    if "second" in result:
        rows += [row for _, row in main_rows(result["second"])]
    chosen = []
    for prefix, heading in _COLUMNS:
        keys = [k for k in rows[0] if (k.startswith(prefix) if prefix.endswith("@") else k == prefix)]
        keys = [k for k in keys if not k.endswith("_joint_mean")]
        if keys and any(row.get(keys[0]) is not None for row in rows):
            chosen.append((keys[0], heading + keys[0][len(prefix) - 1 :] if prefix.endswith("@") else heading))
    return chosen


def main_rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """``(name, row)`` of the total and of every group but joints."""
    rows = [("all", result["all"])]
    for by, groups in result["groups"].items():
        if by not in ("joint", "limb"):
            rows += list(groups.items())
    return rows


def shown(value: float | None) -> str:
    """A share x 100 with one decimal; a dash where there is nothing to measure."""
    return "-" if value is None or value == -1 else f"{100 * value:.1f}"


def _interval(row: dict[str, Any], key: str) -> str:
    low, high = (row.get("intervals") or {}).get(key) or (None, None)
    return "" if low is None else f"\n{shown(low)} to {shown(high)}"


def _print_main_table(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    columns = main_columns(result)
    table = Table(title=f"{result['predictions']} against {result['labels']} (x 100)", title_justify="left")
    table.add_column("")
    for heading in ("frames", "people", *(h for _, h in columns)):
        table.add_column(heading, justify="right")
    if "second" not in result:
        for name, row in main_rows(result):
            cells = [shown(row.get(key)) + _interval(row, key) for key, _ in columns]
            table.add_row(name, str(row["frames"]), str(row["people"]), *cells)
    else:
        table.caption = (
            f"first: {result['predictions']}; second: {result['second']['predictions']}; "
            "* the interval of the difference leaves out 0"
        )
        second, difference = dict(main_rows(result["second"])), dict(main_rows(result["difference"]))
        for name, row in main_rows(result):
            for label, source in ((f"{name}: first", row), ("second", second[name])):
                cells = [shown(source.get(key)) + _interval(source, key) for key, _ in columns]
                table.add_row(label, str(source["frames"]), str(source["people"]), *cells)
            table.add_row("second - first", "", "", *(_difference(difference[name].get(key)) for key, _ in columns))
            table.add_section()
    console.print(table)


def _difference(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    text = f"{100 * entry['value']:+.1f}"
    low, high = entry.get("interval") or (None, None)
    if low is not None and high is not None:
        text += f"{'*' if entry['holds'] else ''}\n{100 * low:+.1f} to {100 * high:+.1f}"
    return text


def _print_part_table(console: Console, kind: str, joints: dict[str, dict[str, Any]]) -> None:
    from rich.table import Table

    keys = list(dict.fromkeys(k for row in joints.values() for k in row if k != "counted"))
    table = Table(title=f"by {kind} (x 100)", title_justify="left")
    table.add_column("")
    for heading in ("counted", *("OKS" if k == "mean_OKS" else k.replace("_", " ") for k in keys)):
        table.add_column(heading, justify="right")
    for name, row in joints.items():
        table.add_row(name, str(row.get("counted", 0)), *(shown(row.get(k)) for k in keys))
    console.print(table)


def details(result: dict[str, Any]) -> list[str]:
    """What stands below the table: further numbers, reference lengths, counts, what was left out."""
    total, lines = result["all"], []
    if "AP" in total:
        lines.append(
            "OKS: " + ", ".join(f"{k.replace('_', ' ')} {shown(total[k])}" for k in total if k.startswith(("AP", "AR")))
        )
    means = [(k, v) for k, v in total.items() if k.endswith("_joint_mean") and v is not None]
    if means:
        lines.append("mean over joints: " + ", ".join(f"{k[:-11].replace('_', ' ')} {shown(v)}" for k, v in means))
    further = [(k, v) for k, v in total.items() if "@" in k and not k.endswith("_joint_mean")]
    if further:
        lines.append("over all joints: " + ", ".join(f"{k} {shown(v)}" for k, v in further))
    for name, reference in result["references"].items():
        by_rule = ", ".join(f"{k} {v}" for k, v in reference.get("by_rule", {}).items())
        left_out = f"{reference['skipped']} {'limbs' if name == 'PCP' else 'people'} left out (missing or zero)"
        lines.append(
            f"{name} reference: {reference['rule']}{f' ({by_rule})' if by_rule else ''}; "
            f"{reference['people']} people, {left_out}"
        )
    if result["areas"]:
        lines.append("OKS area: " + ", ".join(f"{rule} {count}" for rule, count in result["areas"].items()))
    lines += _counts(result)
    if "second" in result:
        lines += [f"second: {line}" for line in _counts(result["second"] | {"settings": result["settings"]})]
        names = {"AP": "OKS-AP", "mean_OKS": "mean OKS"}
        for key, entry in result["difference"]["all"].items():
            if key in ("AP", "mean_OKS") and "holds" in entry:
                verdict = "holds" if entry["holds"] else "could be chance"
                lines.append(
                    f"the difference in {names[key]} {verdict} (95 % interval over {result['settings']['unit']})"
                )
    if result["settings"]["bootstrap"]:
        settings = result["settings"]
        lines.append(
            f"intervals: 95 %, percentile bootstrap over {settings['unit']}, {settings['bootstrap']} draws, "
            f"seed {settings['seed']}"
        )
    lines += result["notes"]
    return lines


def _counts(result: dict[str, Any]) -> list[str]:
    counts, frames, settings = result["counts"], result["frames"], result["settings"]
    lines = [
        f"people: {counts['people_evaluated']} evaluated (at least {settings['min_joints']} labelled joint"
        f"{'s' if settings['min_joints'] > 1 else ''}), {counts['people_paired']} paired by {settings['match']}, "
        f"{counts['people_missed']} missed ({settings['misses']}); {counts['people_ignored_regions']} crowds and "
        f"{counts['people_with_too_few_joints']} with too few joints ignored",
        f"predicted people: {counts['predicted_people']}, at or above the stream's threshold "
        f"{counts['predicted_people_above_threshold']}, of these without a labelled partner "
        f"{counts['predicted_people_above_threshold_unpaired']}, on frames without people "
        f"{counts['predicted_people_above_threshold_on_frames_without_people']}",
    ]
    ways = ", ".join(f"{v} by {k}" for k, v in frames["met_by"].items())
    text = f"frames: {frames['evaluated']} of {frames['labelled']} labelled evaluated, {frames['predicted']} predicted"
    text += f" ({ways})" if ways else ""
    if frames["labelled_without_prediction"]:
        text += f"; {frames['labelled_without_prediction']} labelled without a prediction"
    if frames["predicted_without_labels"]:
        some = ", ".join(frames["examples_without_labels"])
        text += f"; {frames['predicted_without_labels']} predicted without labels, left out (e.g. {some})"
    if frames["ambiguous_names"]:
        text += f"; {frames['ambiguous_names']} of them fit several labelled names"
    lines.append(text)
    if "joints" in result:
        joints = result["joints"]
        for key, words in (("only_labels", "only the labels have"), ("only_predictions", "only the predictions have")):
            if joints[key]:
                lines.append(f"joints left out, {words}: {', '.join(joints[key])}")
    return lines
