"""A result of `evaluate` as one HTML page that needs nothing else: tables, curves as inline SVG, what was counted."""

from __future__ import annotations

import html
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecli.errors import MissingExtra
from posecli.files import replace_when_done
from posecli.metrics.summary import details, main_table, part_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; overflow-wrap: anywhere; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid var(--line); white-space: pre-line; }
th:first-child, td:first-child { text-align: left; } tbody { border-bottom: 2px solid var(--line); }
thead { background: var(--soft); } li { overflow-wrap: anywhere; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: 6px; padding: .3rem; }
figure.full { grid-column: 1 / -1; } svg { width: 100%; height: auto; display: block; }
@media print { figure, table { break-inside: avoid; } }
"""


def write_report(result: dict[str, Any], path: str | Path, *, overwrite: bool = True) -> None:
    """Writes the page; it loads nothing from the network.

    Args:
        result: what `posecli.metrics.evaluate` returned.

    Raises:
        MissingExtra: matplotlib, which draws the curves, is not installed.
        PoseError: the file exists and ``overwrite`` is false.
    """
    page = _page(result)
    with replace_when_done(path, overwrite=overwrite) as part:
        part.write_text(page, encoding="utf-8")


def _page(result: dict[str, Any]) -> str:
    title = f"{result['predictions']} against {result['labels']}"
    headings, blocks = main_table(result)
    parts = [f"<h1>{_text(title)}</h1>", "<p>All figures x 100; intervals cover 95 %.</p>", _table(headings, blocks)]
    if "second" in result:
        names = f"first: {result['predictions']}; second: {result['second']['predictions']}; "
        parts.append(f"<p>{_text(names)}* the interval of the difference leaves out 0.</p>")
    figures = _figures(result)
    if figures:
        parts += ["<h2>Curves</h2>", f'<div class="plots">{"".join(figures)}</div>']
    for kind in ("joint", "limb"):
        if result["groups"].get(kind):
            names_of, rows = part_table(result["groups"][kind])
            parts += [f"<h2>By {kind}</h2>", _table(names_of, [rows])]
    items = "".join(f"<li>{_text(line)}</li>" for line in details(result))
    parts += ["<h2>How it was measured</h2>", f"<ul>{items}</ul>"]
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>posecli: {_text(title)}</title>\n<style>{_STYLE}</style>\n{chr(10).join(parts)}\n</html>\n"
    )


def _text(value: str) -> str:
    return html.escape(value)


def _table(headings: list[str], blocks: list[list[list[str]]]) -> str:
    head = "".join(f'<th scope="col">{_text(h)}</th>' for h in headings)
    bodies = []
    for block in blocks:
        rows = "".join("<tr>" + "".join(f"<td>{_text(c)}</td>" for c in row) + "</tr>" for row in block)
        bodies.append(f"<tbody>{rows}</tbody>")
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>{"".join(bodies)}</table></div>'


def _figures(result: dict[str, Any]) -> list[str]:
    """One inline SVG per kind of curve that there is; two predictions share the axes."""
    sides = [("", result)] if "second" not in result else [("first", result), ("second", result["second"])]
    figures = []
    for name in ("PCK", "PCKh", "PDJ"):
        lines = [
            (label, side["curves"][name]["thresholds"], side["curves"][name]["values"])
            for label, side in sides
            if name in side["curves"]
        ]
        if lines:
            figures.append(_figure(lines, f"{name}: share of joints", "threshold / reference length", name))
    precision = [
        (f"{label} {key}".strip(), side["precision_recall"]["recall"], values)
        for label, side in sides
        for key, values in side["precision_recall"].items()
        if key != "recall"
    ]
    if precision:
        figures.append(_figure(precision, "precision", "recall", "precision and recall"))
    heat = [
        (f"{label} {Path(source).name}".strip(), *_heat_line(side["heat_curve"], source))
        for label, side in sides
        for source in dict.fromkeys(row["source"] for row in side["heat_curve"])
    ]
    if heat:
        figures.append(_figure(heat, "local NMS score", "frame", "local NMS score over frames", full=True))
    return figures


def _heat_line(rows: list[dict[str, Any]], source: str) -> tuple[list[int], list[float | None]]:
    mine = [row for row in rows if row["source"] == source]
    pictures = all(row["file"] for row in mine)
    return [i if pictures else row["frame"] for i, row in enumerate(mine)], [row["heat"] for row in mine]


def _figure(
    lines: list[tuple[str, list[Any], list[Any]]], ylabel: str, xlabel: str, title: str, full: bool = False
) -> str:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("matplotlib", "plots", "the report's curves") from None

    figure = Figure(figsize=(9.6, 2.8) if full else (4.4, 3.2), layout="constrained")
    axes: Axes = figure.add_subplot()
    for label, x, y in lines:
        values = [float("nan") if v is None else 100 * v for v in y]
        axes.plot(x, values, label=label or None, linewidth=1.4)
    axes.set(xlabel=xlabel, ylabel=f"{ylabel} x 100", title=title, ylim=(0, 101))
    axes.grid(alpha=0.3)
    if any(label for label, *_ in lines) and len(lines) <= 12:
        axes.legend(frameon=False, fontsize="small")
    buffer = io.StringIO()
    # Text stays text (small, searchable), and the same result gives the same bytes.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    return f'<figure{" class=full" if full else ""} aria-label="{_text(title)}">{svg}</figure>'
