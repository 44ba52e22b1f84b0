"""`posecli models`: networks to train, models that come along, public weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from posecli.cli.common import DebugOption, JsonOption, QuietOption, fetched, print_json
from posecli.cli.starting import begin, settled

if TYPE_CHECKING:
    from posecli.zoo import Entry


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="Only networks and weights whose name or family contains this.", show_default=False),
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Also public weights that no network of ours reads, marked so.")
    ] = False,
    fetch: Annotated[
        str | None, typer.Option(help="Fetch these public weights into the cache now and print the file's name.")
    ] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """List networks and weights: what train --model and infer --weights take.

    Example: posecli models hrnet

    Public weights are fetched when first used (infer --weights NAME) into $POSECLI_CACHE, or $XDG_CACHE_HOME/posecli.
    Their licences and scores are as the publishers state them.
    """
    begin()
    from posecli.catalogue import architectures, public, shipped
    from posecli.errors import PoseError, UsageError
    from posecli.zoo import cache_folder, entries

    if fetch is not None and (name is not None or all_):
        raise UsageError(
            f"{'--all' if name is None else name} is for the list, --fetch is for one file", hint="one of them"
        )
    settled()
    if fetch is not None:
        file = fetched(fetch, quiet)
        if as_json:
            print_json({"weights": fetch, "file": file})
        else:
            typer.echo(file)
        return
    word = (name or "").lower()
    networks = architectures(word)
    found = [e for e in entries() if word in e.name.lower() or word in e.family.lower() or word in e.architecture]
    shown = [e for e in found if e.offered or all_]
    if name and not (networks or found):
        raise PoseError(f"nothing is called {name!r}", hint="posecli models lists everything")
    if as_json:
        print_json(
            {
                "architectures": [vars(a) for a in networks],
                "shipped": shipped(),
                "weights": [public(e) for e in shown],
                "cache": str(cache_folder()),
            }
        )
        return
    _print(networks, shipped(), shown, len(found) - len([e for e in found if e.offered]), all_)


def _print(networks: list[Any], shipped: list[str], shown: list[Entry], unread: int, all_: bool) -> None:
    from posecli.zoo import cache_folder

    if networks:
        head = ("network", "parameters", "input", "read by", "trained by", "infer --model", "public weights for")
        rows = [
            (
                a.name,
                f"{a.parameters / 1e6:.2f} M",
                f"{a.input_size[0]}x{a.input_size[1]}" if a.input_size else "-",
                a.codec or "-",
                f"train --model {a.name}" if a.recipe else "-",
                ", ".join(a.shipped) or "-",
                ", ".join(a.skeletons) or "-",
            )
            for a in networks
        ]
        _table(head, rows)
        print(f"with posecli: {', '.join(shipped)}; input: width x height; parameters with 17 keypoints\n")
    if shown:
        _table(("public weights", "network", "data", "input", "claimed", "MB", "licence", ""), [_row(e) for e in shown])
        print(f"fetched into {cache_folder()} when first used; by hand: from a page for a browser, named when used")
    if unread and not all_:
        print(f"{unread} more public files are of networks that posecli does not read: posecli models --all")


def _row(entry: Entry) -> tuple[str, ...]:
    from posecli.zoo import local_file

    state = "here" if local_file(entry).is_file() else "by hand" if entry.by_hand else ""
    use = {"backbone": "for train --init", "rescore": "for infer --rescore"}.get(entry.kind, "")
    return (
        entry.name,
        entry.architecture or entry.family,
        entry.dataset,
        f"{entry.input_size[0]}x{entry.input_size[1]}" if entry.input_size else entry.input or "-",
        entry.claim or "-",
        "-" if entry.megabytes is None else str(entry.megabytes),
        entry.licence,
        f"not readable: {entry.why}" if entry.why else ", ".join(filter(None, (use, state))),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they must be: names are there to be copied, so nothing is cut."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    for row in (head, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
