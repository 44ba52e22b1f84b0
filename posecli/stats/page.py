"""The numbers of `describe` as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from posecli.files import replace_when_done
from posecli.reports.page import render_page
from posecli.reports.plots import Bars, bar_plot, require_matplotlib


def write_page(results: Sequence[Mapping[str, Any]], out: str | Path, *, overwrite: bool = False) -> None:
    """Writes the page; several files stand side by side in its plots.

    Raises:
        MissingExtra: matplotlib is not installed. PoseError: the file exists.
    """
    require_matplotlib()
    names = _short([str(r["file"]) for r in results])
    rows = [(heading, [_cell(value(r)) for r in results]) for heading, value in _ROWS]
    text = render_page(
        "stats.html",
        styles=("base.css", "stats.css"),
        title="Data set statistics",
        names=names,
        rows=rows,
        figures=_figures(results, names),
    )
    with replace_when_done(out, overwrite=overwrite) as part:
        part.write_text(text, encoding="utf-8", errors="surrogateescape")


def _short(paths: Sequence[str]) -> list[str]:
    names = [Path(p).name for p in paths]
    return names if len(set(names)) == len(names) else list(paths)


def _get(result: Mapping[str, Any], *keys: str) -> Any:
    value: Any = result
    for key in keys:
        if value is None:
            return None
        value = value.get(key)
    return value


_ROWS: list[tuple[str, Any]] = [
    ("joints", lambda r: r["skeleton"]),
    ("images", lambda r: r["images"]),
    ("images without people", lambda r: r["images_without_people"]),
    ("videos", lambda r: r["videos"]),
    ("people", lambda r: r["people"]),
    ("people with no labelled joint", lambda r: r["people_without_joints"]),
    ("crowds", lambda r: r["crowds"]),
    ("tracks", lambda r: r["tracks"]),
    ("median box height (px)", lambda r: _get(r, "boxes", "height", "median")),
    ("people at the image's edge", lambda r: _get(r, "boxes", "at_the_edge")),
    ("different poses (effective)", lambda r: _get(r, "variety", "effective")),
    ("pose dimensions (90 %)", lambda r: _get(r, "variety", "dimensions_90")),
    ("median score", lambda r: _get(r, "scores", "median")),
    ("median heat", lambda r: _get(r, "heat", "median")),
]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _figures(results: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []

    def add(title: str, about: str, xlabel: str, counts: Sequence[Mapping[Any, float] | None]) -> None:
        labels = list(dict.fromkeys(k for c in counts if c for k in c))
        if all(isinstance(k, int) for k in labels):
            labels.sort()
        shares = []
        for name, count in zip(names, counts, strict=True):
            total = sum(count.values()) if count else 0
            values = [count.get(k, 0) / total if count and total else None for k in labels]
            shares.append(Bars(name if len(names) > 1 else "", values))
        if labels:
            svg = bar_plot([str(k) for k in labels], shares, title=title, xlabel=xlabel)
            figures.append({"title": title, "about": about, "svg": svg})

    add("People by labelled joints", "", "share of people", [r["people_by_labelled_joints"] for r in results])
    add("Images by people", "", "share of images", [_pooled(r["images_by_people"]) for r in results])
    joints = [{n: j["visible"] + j["hidden"] for n, j in r["joints"].items()} for r in results]
    order = list(dict.fromkeys(n for j in joints for n in j))
    series = []
    for name, j, r in zip(names, joints, results, strict=True):
        values = [j[n] / r["people"] if n in j and r["people"] else None for n in order]
        series.append(Bars(name if len(names) > 1 else "", values))
    title = "Joints that are labelled" if not all(r["predicted"] for r in results) else "Joints that are found"
    figures.append({"title": title, "about": "", "svg": bar_plot(order, series, title=title, xlabel="share of people")})
    about = "COCO's sizes: small below 32 x 32 px of area, large above 96 x 96"
    add("People by size", about, "share of people", [_get(r, "boxes", "by_area") for r in results])
    add("Direction of the trunk", "from the hips to the shoulders", "share of people",
        [_get(r, "orientation", "trunk") for r in results])  # fmt: skip
    about = "by the order of shoulders and hips across the trunk"
    add("Seen from", about, "share of people", [_get(r, "orientation", "seen_from") for r in results])
    speeds = [{n: j["speed"] for n, j in (_get(r, "motion", "joints") or {}).items()} for r in results]
    most = max((v for s in speeds for v in s.values()), default=0)
    if most > 0:
        order = list(dict.fromkeys(n for s in speeds for n in s))
        series = [
            Bars(name if len(names) > 1 else "", [s[n] / most if n in s else None for n in order])
            for name, s in zip(names, speeds, strict=True)
        ]
        unit = next(r["motion"]["unit"] for r in results if r["motion"])
        title, about = "Motion of the joints", f"median speed; 100 is {most:.3g} {unit}"
        figures.append({"title": title, "about": about,
                        "svg": bar_plot(order, series, title=title, xlabel="share of the fastest")})  # fmt: skip
    return figures


def _pooled(counts: Mapping[int, int], most: int = 10) -> dict[Any, int]:
    """Counts from 0 on, ``most`` and more as one."""
    few: dict[Any, int] = {str(k): counts.get(k, 0) for k in range(most)}
    return {**few, f"{most} or more": sum(n for k, n in counts.items() if k >= most)}
