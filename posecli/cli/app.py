"""The Typer app. Verbs live in one file each; torch and friends are imported only inside them."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli import __version__

app = typer.Typer(
    name="posecli",
    help="Human pose estimation in video.\n\nExample: posecli infer clip.mp4 --render",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"posecli {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the app itself."""


def _add_verbs() -> None:
    # Each module defines one function named after its verb; its docstring is the help text.
    from posecli.cli.bench import bench
    from posecli.cli.browse import browse
    from posecli.cli.check import check
    from posecli.cli.convert import convert
    from posecli.cli.cross import cross
    from posecli.cli.evaluate import evaluate
    from posecli.cli.export import export
    from posecli.cli.infer import infer
    from posecli.cli.merge import merge
    from posecli.cli.models import models
    from posecli.cli.render import render
    from posecli.cli.scenes import scenes
    from posecli.cli.smooth import smooth
    from posecli.cli.stats import stats
    from posecli.cli.train import train

    for verb in (
        convert,
        train,
        infer,
        evaluate,
        cross,
        merge,
        smooth,
        render,
        check,
        stats,
        browse,
        scenes,
        models,
        export,
        bench,
    ):
        app.command()(verb)


_add_verbs()
