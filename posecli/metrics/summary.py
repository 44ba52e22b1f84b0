"""A result of `evaluate` as cells and sentences, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ERRORS = {
    "score": "scores",
    "background_false_positives": "background false positives",
    "false_negatives": "people not found",
}
# Metrics that make a column of the main table, in this order; of those with thresholds the first makes it.
_COLUMNS = (
    "AP", "mean_OKS", "CrowdPose_AP", "PCK@", "PCK_auto@", "PCK_torso@", "PCK_box@", "PCK_head_segment@",
    "PCK_head_box@", "PCKh@", "PDJ_AUC", "PCP@", "PCP_relaxed@", "EPE", "NME", "MOTA", "IDF1", "HOTA",
    "PoseTrack_MOTA", "heat",
)  # fmt: skip
_HEADINGS = {"AP": "OKS-AP", "EPE": "EPE px"}
_TRACKING = (
    "MOTA", "MOTP", "IDF1", "IDP", "IDR", "HOTA", "DetA", "AssA", "DetRe", "DetPr", "AssRe", "AssPr", "LocA",
)  # fmt: skip


def main_columns(result: dict[str, Any]) -> list[tuple[str, str]]:
    """``(key, heading)`` of the table's columns that have a value in any row."""
    rows = [row for _, row in main_rows(result)]
    if "second" in result:
        rows += [row for _, row in main_rows(result["second"])]
    chosen = []
    for prefix in _COLUMNS:
        keys = [k for k in rows[0] if (k.startswith(prefix) if prefix.endswith("@") else k == prefix)]
        keys = [k for k in keys if not k.endswith("_joint_mean")]
        if keys and any(row.get(keys[0]) is not None for row in rows):
            chosen.append((keys[0], _HEADINGS.get(prefix, keys[0].replace("_", " "))))
    return chosen


def main_rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """``(name, row)`` of the total and of every group but joints."""
    rows = [("all", result["all"])]
    for by, groups in result["groups"].items():
        if by not in ("joint", "limb"):
            rows += list(groups.items())
    return rows


def shown(value: float | None, key: str = "") -> str:
    """A share x 100 with one decimal (pixels as they are, counts whole); a dash where there is nothing to measure.

    Args:
        key: the metric; pixels and counts are known by it, and that -1 means "none" for AP and AR only.
    """
    if value is None or (value == -1 and _of_ap(key)):
        return "-"
    return f"{value:.0f}" if key.startswith("MOT_") else f"{_scale(key) * value:.1f}"


def _of_ap(key: str) -> bool:
    return not key or key.removeprefix("CrowdPose_").startswith(("AP", "AR"))


def _scale(key: str) -> float:
    """What a figure is multiplied by for display."""
    return 1.0 if key.startswith(("EPE", "MOT_")) else 100.0


def interval(row: dict[str, Any], key: str) -> str:
    """The second line of a cell, ``"29.4 to 49.5"``; empty without an interval."""
    low, high = (row.get("intervals") or {}).get(key) or (None, None)
    return "" if low is None else f"\n{shown(low, key)} to {shown(high, key)}"


def difference_cell(entry: dict[str, Any] | None, key: str = "") -> str:
    """``"+3.4*"`` and its interval on a second line; the star says that it holds."""
    if entry is None:
        return "-"
    scale = _scale(key)
    text = f"{scale * entry['value']:+.1f}"
    low, high = entry.get("interval") or (None, None)
    if low is not None and high is not None:
        text += f"{'*' if entry['holds'] else ''}\n{scale * low:+.1f} to {scale * high:+.1f}"
    return text


def main_table(result: dict[str, Any]) -> tuple[list[str], list[list[list[str]]]]:
    """Headings, and blocks of rows of cells: the total and every group; with two predictions a block of three rows
    (first, second, difference) for each."""
    columns = main_columns(result)
    headings = ["", "frames", "people", *(heading for _, heading in columns)]

    def cells(name: str, row: dict[str, Any]) -> list[str]:
        values = [shown(row.get(key), key) + interval(row, key) for key, _ in columns]
        return [name, str(row["frames"]), str(row["people"]), *values]

    if "second" not in result:
        return headings, [[cells(name, row) for name, row in main_rows(result)]]
    blocks = []
    triples = zip(main_rows(result), main_rows(result["second"]), main_rows(result["difference"]), strict=True)
    for (name, first), (_, second), (_, difference) in triples:
        last = ["second - first", "", "", *(difference_cell(difference.get(key), key) for key, _ in columns)]
        blocks.append([cells(f"{name}: first", first), cells("second", second), last])
    return headings, blocks


def part_table(parts: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the joints' or limbs' table."""
    keys = list(dict.fromkeys(k for row in parts.values() for k in row if k not in ("counted", "intervals")))
    headings = ["", "counted", *(_part_heading(k) for k in keys)]
    return headings, [
        [name, str(row.get("counted", 0)), *(shown(row.get(k), k) for k in keys)] for name, row in parts.items()
    ]


def _part_heading(key: str) -> str:
    return {"mean_OKS": "OKS", "EPE": "EPE px"}.get(key, key.replace("_", " "))


def difference_table(parts: dict[str, dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of second minus first by joint or limb."""
    keys = list(dict.fromkeys(k for row in parts.values() for k in row))
    headings = ["", *(_part_heading(k) for k in keys)]
    return headings, [[name, *(difference_cell(row.get(k), k) for k in keys)] for name, row in parts.items()]


def diagnosis_tables(result: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """``(title, headings, rows)`` of what each kind of error costs, see `posecli.metrics.diagnosis`."""
    sides = [("", result)] if "second" not in result else [("first: ", result), ("second: ", result["second"])]
    tables = []
    for label, side in sides:
        for part in side.get("diagnosis", {}).values():
            joints, people = part["joints"], part["people"]
            counted = sum(joints.values())
            before, rows = part["value"], [["as measured", "", shown(part["value"]), ""]]
            for kind, value in part["in_order"].items():
                if kind in joints:
                    share = f" ({100 * joints[kind] / counted:.1f} %)" if counted else ""
                    count = f"{joints[kind]} joints{share}"
                else:
                    count = f"{people[kind]} people" if kind in people else ""
                gained = "" if value is None or before is None else f" ({100 * (value - before):+.1f})"
                name = _ERRORS.get(kind, kind)
                rows.append([name, count, shown(part["alone"][kind]), f"{shown(value)}{gained}"])
                before = value
            metric = "OKS-AP" if part["metric"] == "AP" else part["metric"]
            title = f"{label}{metric} without each kind of error; {joints['good']} of {counted} joints of "
            title += f"{people['matched']} matched people are good"
            tables.append((title, ["error", "there are", f"{metric} without", "one after the other"], rows))
    return tables


def error_rows(part: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of the kinds of error joint by joint, in per cent of the labelled ones."""
    kinds = list(part["joints"])
    rows = []
    for name, row in part["by_joint"].items():
        total = sum(row.values())
        rows.append([name, str(total), *(f"{100 * row[k] / total:.1f}" if total else "-" for k in kinds)])
    return ["", "counted", *kinds], rows


def details(result: dict[str, Any]) -> list[str]:
    """What stands below the table: further numbers, reference lengths, counts, what was left out."""
    total, lines = result["all"], []
    if "AP" in total:
        lines.append(
            "OKS: " + ", ".join(f"{k.replace('_', ' ')} {shown(total[k])}" for k in total if k.startswith(("AP", "AR")))
        )
    means = [(k, v) for k, v in total.items() if k.endswith("_joint_mean") and v is not None]
    if means:
        lines.append("mean over joints: " + ", ".join(f"{k[:-11].replace('_', ' ')} {shown(v, k)}" for k, v in means))
    further = [
        (k, v)
        for k, v in total.items()
        if ("@" in k or k.endswith("_AUC") or k in ("EPE", "NME")) and "_joint_" not in k
    ]
    if further:
        lines.append("over all joints: " + ", ".join(f"{k.replace('_', ' ')} {shown(v, k)}" for k, v in further))
    lines += _tracking_and_crowds(result)
    for name, reference in result["references"].items():
        by_rule = ", ".join(f"{k} {v}" for k, v in reference.get("by_rule", {}).items())
        unit = "limbs" if name.startswith("PCP") else "people"
        why = "nobody paired or no joint found" if name == "EPE" else "missing or zero"
        text = f"{name.replace('_', ' ')} reference: {reference['rule']}{f' ({by_rule})' if by_rule else ''}; "
        text += f"{reference['people']} people, {reference['skipped']} {unit} left out ({why})"
        if "joints_not_found" in reference:
            text += f"; over {reference['joints']} joints, {reference['joints_not_found']} labelled ones were not found"
        lines.append(text)
    if result["areas"]:
        lines.append("OKS area: " + ", ".join(f"{rule} {count}" for rule, count in result["areas"].items()))
    lines += _counts(result)
    if "second" in result:
        second = result["second"] | {"settings": result["settings"]}
        lines += [f"second: {line}" for line in (*_tracking_and_crowds(second), *_counts(second))]
        lines += result["verdicts"]
    if result["settings"]["bootstrap"]:
        settings = result["settings"]
        lines.append(
            f"intervals: 95 %, percentile bootstrap over {settings['units']} {settings['unit']}, "
            f"{settings['bootstrap']} draws, seed {settings['seed']}"
        )
    lines += result["notes"]
    return lines


def _tracking_and_crowds(result: dict[str, Any]) -> list[str]:
    """Lines of CrowdPose's AP, of the tracking metrics, and of what a peer would have printed."""
    total, lines = result["all"], []
    crowds = [(k, v) for k, v in total.items() if k.startswith("CrowdPose_")]
    if crowds:
        names = ", ".join(f"{k[10:].replace('_', ' ')} {shown(v, k)}" for k, v in crowds)
        lines.append(f"CrowdPose (area 0.53 of the labelled box): {names}")
    people = [k for k in _TRACKING if k in total]
    if people:
        least = result["settings"]["thresholds"]["tracking"][0]
        text = f"tracking of people (OKS >= {least:g}; HOTA: 0.05 to 0.95): "
        text += ", ".join(f"{k} {shown(total[k], k)}" for k in people)
        counted = [k for k in total if k.startswith("MOT_")]
        lines.append(text + "".join(f", {k[4:].replace('_', ' ')} {shown(total[k], k)}" for k in counted))
    joints = [k for k in total if k.startswith("PoseTrack_")]
    if joints:
        lines.append(
            "PoseTrack (mean over joints, 0.5 head sizes): "
            + ", ".join(f"{k[10:]} {shown(total[k], k)}" for k in joints)
        )
    if result["tracking"]:
        counts = dict(result["tracking"])
        text = f"tracking over {counts.pop('videos')} videos, {counts.pop('frames')} frames"
        left_out = ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in counts.items() if v)
        lines.append(f"{text}; {left_out or 'nobody left out, nobody without an id'}")
    if "compat" in result:
        lines += _figures(f"as {result['compat']['name']} prints it", result["compat"]["figures"])
    return lines


def _figures(title: str, figures: dict[str, Any]) -> list[str]:
    """A peer's own figures, in its own units."""
    plain = {k: v for k, v in figures.items() if not isinstance(v, dict)}
    lines = [f"{title}: " + ", ".join(f"{k} {_number(v)}" for k, v in plain.items())] if plain else []
    for name, parts in figures.items():
        if isinstance(parts, dict):
            lines.append(f"{title}, {name}: " + ", ".join(f"{k} {_number(v)}" for k, v in parts.items()))
    return lines


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def whose_boxes(about: Mapping[str, Any]) -> str:
    """What the header of a stream says of a top-down model's boxes, in words; unknown kinds are quoted."""
    kind, file = str(about.get("from", "")), about.get("file", "")
    words = {
        "labels": f"the labelled ones of {file}" if file else "the labelled ones",
        "detections": f"detections of {file}",
        "poses": f"around the poses of {file}",
        "found": f"found by {about.get('model', 'the model')}",
        "whole picture": "the whole picture",
        "given": "given by the program",
    }.get(kind, kind or "not told")
    if "min_score" in about:
        words += f", score at least {about['min_score']}"
    if "nms" in about:
        words += f", overlapping by at most {about['nms']}"
    return words


def _counts(result: dict[str, Any]) -> list[str]:
    counts, frames, settings = result["counts"], result["frames"], result["settings"]
    lines = ["boxes: " + "; ".join(map(whose_boxes, result["boxes"]))] if result.get("boxes") else []
    lines += [
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
    if frames["not_labelled"]:
        text += f"; {frames['not_labelled']} left out that nobody has labelled"
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
