"""The table of public weight files: facts as their publishers state them, and what our networks can do with each.

``table.json`` is package data: ``{"columns": [...], "rows": [[...], ...]}``, one file a row. `tests/zoo_table.py` says
which files are readable and writes it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from urllib.parse import urlsplit

#: Hosts that show a page, or want a cookie or a captcha, where a file was asked for.
_BROWSER_HOSTS = ("drive.google.com", "docs.google.com", "sharepoint.com", "1drv.ms", "onedrive.live.com", "baidu.com")


@dataclass(frozen=True)
class Entry:
    """One public weight file.

    Attributes:
        name: what ``--weights`` takes.
        family: network, as the publisher calls it. provider: whose file it is.
        dataset: learnt from. keypoints: joints it gives; None for backbones and detectors.
        input: the size as published (height x width for the networks that take one person's crop).
        metric, score, unit: the figure that the publisher claims, "fraction" or "percent"; None where none is given.
        licence: the publisher's; the pictures it learnt from have terms of their own.
        url: the file, or the page that leads to it (see `by_hand`). file: its name. page: where the facts are from.
        sha256: the hash's first digits, or all of them; "" where the publisher gives none.
        kind: "model" (for ``infer --weights``), "backbone" (for ``train --init``) or "rescore" (``infer --rescore``).
        architecture: our network that reads it; "" for none.
        skeleton, input_size (width, height), codec: what the file itself does not say.
        megabytes: about how large, from the tensors of our network; None where it is not ours.
        why: why it isn't offered; "" when it is.
    """

    name: str
    family: str
    provider: str
    dataset: str
    keypoints: int | None
    input: str
    metric: str | None
    score: float | None
    unit: str | None
    licence: str
    url: str
    file: str
    page: str
    sha256: str
    kind: str
    architecture: str
    skeleton: str
    input_size: tuple[int, int] | None
    codec: str
    megabytes: int | None
    why: str

    @property
    def offered(self) -> bool:
        """Whether posecli can use it."""
        return not self.why

    @property
    def by_hand(self) -> bool:
        """Whether the address is a page for a browser: the user fetches the file."""
        host = urlsplit(self.url).hostname or ""
        return any(host == known or host.endswith("." + known) for known in _BROWSER_HOSTS)

    @property
    def claim(self) -> str:
        """The claimed score in words: ``"AP 0.744"``; empty when there is none."""
        if self.score is None:
            return ""
        percent = "%" if self.unit == "percent" else ""
        return f"{self.metric} {self.score:g}{percent}"


@cache
def entries() -> tuple[Entry, ...]:
    """All files of the table, in its order."""
    text = resources.files("posecli.zoo").joinpath("table.json").read_text(encoding="utf-8")
    table = json.loads(text)
    rows = (dict(zip(table["columns"], row, strict=True)) for row in table["rows"])
    return tuple(Entry(**{**r, "input_size": tuple(r["input_size"]) if r["input_size"] else None}) for r in rows)


def find_entry(name: str) -> Entry | None:
    """The file of that name, or whose file name it is; None when there is none."""
    return next((e for e in entries() if name in (e.name, e.file)), None)


def suggestions(name: str) -> list[str]:
    """Names of offered files that are nearly, or contain, what was written; five at most."""
    offered = [e.name for e in entries() if e.offered]
    close = get_close_matches(name, offered, 5, 0.6)
    return (close + [n for n in offered if name.lower() in n.lower() and n not in close])[:5]
